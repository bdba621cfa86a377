//! Who may connect, and what for: partners on the list; relays we use, and those who may use us as one; and while an invitation is
//! open, a few guests, for pairing alone.
//!
//! First in the behaviour struct, since a behaviour that refuses later leaves the earlier ones with stale state
//! (rust-libp2p#4870). An unknown peer proves its key and is dropped before a stream or a protocol list exists; a guest is
//! offered one protocol and no other, and so is who is known as a relay or to ours.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol as Part,
    swarm::{ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy},
};

use super::roles::{Role, Roles};

/// Source addresses whose refusals we count. Beyond it new ones go uncounted: the bound on pending handshakes still holds.
const COUNTED_ADDRESSES_MAX: usize = 1024;

/// The window in which refusals from one source address are counted.
const COUNTED_FOR: Duration = Duration::from_secs(60);

/// Guests from one source address in a minute. A whole firm may sit behind one.
const GUESTS_PER_MINUTE_MAX: u32 = 30;

/// The peer is not on the list.
#[derive(Debug, thiserror::Error)]
#[error("not a partner")]
pub(super) struct NotAPartner;

/// The source address has too many handshakes open, or was refused too often in the last minute.
#[derive(Debug, thiserror::Error)]
#[error("too many handshakes from this address")]
struct TooManyHandshakes;

/// What one source address may ask of us before it has shown a partner's key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    /// Handshakes open at once. Less than the bound for all, so one address cannot lock the partners out.
    pub(super) pending_max: usize,
    /// Refusals of an unknown peer in a minute; then its connections are closed without a handshake.
    pub(super) unknown_per_minute_max: u32,
}

/// The lists, and the handshakes that have not shown a key yet.
pub(super) struct Behaviour {
    partners: BTreeSet<PeerId>,
    /// Relays: ours, and those behind which partners are.
    relays: BTreeSet<PeerId>,
    /// Who may use this node as a relay, beside the partners; none: it is no relay.
    relayed: Option<BTreeSet<PeerId>>,
    quota: Quota,
    /// Bounded by the limit on pending connections, which stands behind us.
    pending: HashMap<ConnectionId, IpAddr>,
    refused: HashMap<IpAddr, (u32, Instant)>,
    /// Whether guests may come.
    open: bool,
    roles: Roles,
    guests_of: HashMap<IpAddr, (u32, Instant)>,
    /// Our dials to somebody whose key we do not know yet.
    visits: HashSet<ConnectionId>,
}

impl Behaviour {
    pub(super) fn new(quota: Quota) -> Self {
        Self {
            partners: BTreeSet::new(),
            relays: BTreeSet::new(),
            relayed: None,
            quota,
            pending: HashMap::new(),
            refused: HashMap::new(),
            open: false,
            roles: Roles::default(),
            guests_of: HashMap::new(),
            visits: HashSet::new(),
        }
    }

    /// What every connection has part in, for the behaviours behind this one.
    pub(super) fn roles(&self) -> Roles {
        self.roles.clone()
    }

    /// Lets guests come, or no more. Those who are here finish.
    pub(super) fn open(&mut self, open: bool) {
        if open && !self.open {
            // They may have knocked too early.
            self.refused.clear();
        }
        self.open = open;
    }

    /// A dial of ours to somebody unknown, for pairing.
    pub(super) fn visit(&mut self, id: ConnectionId) {
        self.visits.insert(id);
    }

    /// Replace the list. Returns who is no longer on it; the caller disconnects them.
    pub(super) fn set(&mut self, partners: BTreeSet<PeerId>) -> Vec<PeerId> {
        if !partners.is_subset(&self.partners) {
            // A new partner may have knocked before we knew it.
            self.refused.clear();
        }
        let old = std::mem::replace(&mut self.partners, partners);
        old.difference(&self.partners).copied().collect()
    }

    /// Replaces the list of relays we use. One that is no longer on it goes by itself, when nothing is put through it.
    pub(super) fn set_relays(&mut self, relays: BTreeSet<PeerId>) {
        self.relays = relays;
    }

    /// Replaces the list of those who may use this node as a relay. Returns who may no longer; the caller disconnects them.
    pub(super) fn set_relayed(&mut self, relayed: BTreeSet<PeerId>) -> Vec<PeerId> {
        // One that is new may have knocked before.
        self.refused.clear();
        let old = self.relayed.replace(relayed).unwrap_or_default();
        old.into_iter().filter(|peer| !self.role_of(peer, &[]).is_known()).collect()
    }

    /// What this peer has part in over a connection with these addresses.
    fn role_of(&self, peer: &PeerId, ends: &[&Multiaddr]) -> Role {
        let through_a_relay = ends.iter().any(|end| end.iter().any(|part| part == Part::P2pCircuit));
        let partner = self.partners.contains(peer);
        let relayed = self.relayed.as_ref().is_some_and(|relayed| partner || relayed.contains(peer));
        Role { partner, relay: self.relays.contains(peer) && !through_a_relay, relayed: relayed && !through_a_relay, ..Role::default() }
    }

    /// Whether an unknown peer may come in for pairing.
    fn admit_guest(&mut self, id: ConnectionId, source: IpAddr, now: Instant) -> Result<(), ConnectionDenied> {
        self.guests_of.retain(|_, (_, since)| now.saturating_duration_since(*since) < COUNTED_FOR);
        let room = self.guests_of.len() < COUNTED_ADDRESSES_MAX || self.guests_of.contains_key(&source);
        if !self.open || !room {
            return Err(ConnectionDenied::new(NotAPartner));
        }
        let came = self.guests_of.entry(source).or_insert((0, now));
        came.0 += 1;
        if came.0 <= GUESTS_PER_MINUTE_MAX && self.roles.add_guest(id, source) { Ok(()) } else { Err(ConnectionDenied::new(NotAPartner)) }
    }

    fn admit_handshake(&mut self, source: IpAddr, now: Instant) -> Result<(), ConnectionDenied> {
        self.refused.retain(|_, (_, since)| now.saturating_duration_since(*since) < COUNTED_FOR);
        let pending = self.pending.values().filter(|other| **other == source).count();
        let refused = self.refused.get(&source).map_or(0, |(count, _)| *count);
        if pending < self.quota.pending_max && refused < self.quota.unknown_per_minute_max {
            Ok(())
        } else {
            Err(ConnectionDenied::new(TooManyHandshakes))
        }
    }

    fn count_refusal(&mut self, source: IpAddr, now: Instant) {
        if self.refused.len() < COUNTED_ADDRESSES_MAX || self.refused.contains_key(&source) {
            self.refused.entry(source).or_insert((0, now)).0 += 1;
        }
    }
}

/// Whether it came through a web proxy on this computer, or through a relay: the source says nothing of who it is.
fn is_put_through(local: &Multiaddr, remote: &Multiaddr) -> bool {
    let by_proxy = source_of(remote).is_loopback() && remote.iter().any(|part| matches!(part, Part::Ws(_)));
    by_proxy || local.iter().any(|part| part == Part::P2pCircuit)
}

/// The source as we count it: an IPv6 host has a whole /64 to call from.
fn source_of(address: &Multiaddr) -> IpAddr {
    match address.iter().next() {
        Some(Part::Ip4(ip)) => IpAddr::V4(ip),
        Some(Part::Ip6(ip)) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        // Everybody would count as one: the bound for all holds, and limits by source are those of the proxy, or of the relay.
        if !is_put_through(local, remote) {
            let source = source_of(remote);
            self.admit_handshake(source, Instant::now())?;
            self.pending.insert(id, source);
        }
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&id);
        let role = self.role_of(&peer, &[local, remote]);
        if role.is_known() {
            // Who may use us as a relay may pair too, and takes no guest's place.
            self.roles.set(id, Role { guest: self.open && !role.partner, ..role });
        } else {
            let (source, now) = (source_of(remote), Instant::now());
            let counted = !is_put_through(local, remote);
            self.admit_guest(id, source, now).inspect_err(|_| {
                if counted {
                    self.count_refusal(source, now)
                }
            })?;
        }
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.visits.contains(&id) {
            return Ok(Vec::new());
        }
        if peer.is_some_and(|peer| self.role_of(&peer, &[]).is_known()) { Ok(Vec::new()) } else { Err(ConnectionDenied::new(NotAPartner)) }
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // Again: the partner may have been removed while the dial was under way.
        let role = self.role_of(&peer, &[remote]);
        // Who is a relay to us may be one to pair with.
        let role = Role { guest: self.visits.remove(&id) && !role.partner, ..role };
        if role == Role::default() {
            return Err(ConnectionDenied::new(NotAPartner));
        }
        self.roles.set(id, role);
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ListenFailure(failure) => {
                self.pending.remove(&failure.connection_id);
                self.roles.remove(failure.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                self.visits.remove(&failure.connection_id);
                self.roles.remove(failure.connection_id);
            }
            FromSwarm::ConnectionClosed(closed) => self.roles.remove(closed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::{super::roles::GUESTS_MAX, *};

    const QUOTA: Quota = Quota { pending_max: 2, unknown_per_minute_max: 3 };

    fn remote(host: u8) -> Multiaddr {
        format!("/ip4/192.0.2.{host}/tcp/4001").parse().unwrap()
    }

    fn knock(gate: &mut Behaviour, id: usize, host: u8) -> bool {
        gate.handle_pending_inbound_connection(ConnectionId::new_unchecked(id), &remote(0), &remote(host)).is_ok()
    }

    fn enter(gate: &mut Behaviour, id: usize, host: u8, peer: PeerId) -> bool {
        let id = ConnectionId::new_unchecked(id);
        gate.handle_established_inbound_connection(id, peer, &remote(0), &remote(host)).is_ok()
    }

    #[test]
    fn one_address_cannot_take_every_handshake() {
        let mut gate = Behaviour::new(QUOTA);
        assert!(knock(&mut gate, 1, 1) && knock(&mut gate, 2, 1));
        assert!(!knock(&mut gate, 3, 1), "the third from one address");
        assert!(knock(&mut gate, 4, 2), "another address is not concerned");
        assert!(!enter(&mut gate, 1, 1, PeerId::random()));
        assert!(knock(&mut gate, 5, 1), "a finished handshake gives its place back");
    }

    #[test]
    fn an_address_refused_three_times_in_a_minute_waits_unless_the_list_grows() {
        let mut gate = Behaviour::new(QUOTA);
        let peer = PeerId::random();
        for id in 0..3 {
            assert!(knock(&mut gate, id, 1));
            assert!(!enter(&mut gate, id, 1, peer));
        }
        assert!(!knock(&mut gate, 3, 1));
        assert!(gate.admit_handshake(source_of(&remote(1)), Instant::now() + COUNTED_FOR).is_ok());
        assert!(gate.set(BTreeSet::from([peer])).is_empty());
        assert!(knock(&mut gate, 4, 1) && enter(&mut gate, 4, 1, peer));
        assert_eq!(gate.set(BTreeSet::new()), [peer]);
        assert!(!enter(&mut gate, 5, 1, peer));
    }

    #[test]
    fn guests_come_while_it_is_open_a_few_at_once_and_not_too_often() {
        let mut gate = Behaviour::new(QUOTA);
        let arrive = |gate: &mut Behaviour, id: usize, host: u8| knock(gate, id, host) && enter(gate, id, host, PeerId::random());
        assert!(!arrive(&mut gate, 0, 1), "nobody is invited");
        gate.open(true);
        for id in 1..=GUESTS_MAX {
            assert!(arrive(&mut gate, id, u8::try_from(id).unwrap()));
            assert!(gate.roles().of(ConnectionId::new_unchecked(id)).guest);
        }
        assert!(!arrive(&mut gate, 100, 100), "one too many");
        gate.open(false);
        gate.roles.remove(ConnectionId::new_unchecked(1));
        assert!(!arrive(&mut gate, 101, 101), "the door is shut again");
        gate.open(true);
        let came = (200..300).filter(|id| {
            let id = *id;
            let entered = gate.admit_guest(ConnectionId::new_unchecked(id), source_of(&remote(9)), Instant::now()).is_ok();
            gate.roles.remove(ConnectionId::new_unchecked(id));
            entered
        });
        assert_eq!(came.count(), GUESTS_PER_MINUTE_MAX as usize - 1, "host 9 came once before");
    }

    #[test]
    fn counted_addresses_are_bounded_and_ipv6_counts_by_its_network() {
        let mut gate = Behaviour::new(QUOTA);
        for n in 0..5000_u32 {
            gate.count_refusal(IpAddr::from(n.to_be_bytes()), Instant::now());
        }
        assert_eq!(gate.refused.len(), COUNTED_ADDRESSES_MAX);
        let source = |text: &str| source_of(&text.parse().unwrap());
        assert_eq!(source("/ip6/2001:db8::1/tcp/1"), source("/ip6/2001:db8::ffff:2/tcp/1"));
        assert_ne!(source("/ip6/2001:db8::1/tcp/1"), source("/ip6/2001:db8:0:1::1/tcp/1"));
    }
}
