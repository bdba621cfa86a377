//! Relays: keeping a place at one, for who cannot be dialled; and being one, for others.
//!
//! A relay puts two nodes through and sees bytes that their own TLS has sealed, end to end (libp2p circuit relay v2). It is run by a
//! customer or an association, for those on its list; there is no public one.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, core::transport::ListenerId, relay};

use super::{Address, Backoff, Partner, PeerId, dial::Dialer};

/// Relays at which a place is kept at once. One may fail, and partners are told of both.
const PLACES: usize = 2;

/// A relay that refuses is asked again at most this often: its list changes by hand.
const AGAIN: Backoff = Backoff { min: Duration::from_secs(5), max: Duration::from_secs(15 * 60), healthy_after: Duration::from_secs(60) };

/// A place is kept this long unless it is asked for again, which libp2p does in time.
const PLACE_FOR: Duration = Duration::from_secs(3600);

/// A line that was put through ends after a day; the nodes dial anew, and straight if by now they can. The protocol knows no longer one.
const LINE_FOR: Duration = Duration::from_secs(24 * 3600);

/// How the node is a relay for others.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Where those who use it reach it.
    pub reached_at: Vec<Address>,
    /// Who may use it beside the partners.
    pub users: Vec<PeerId>,
    /// Places kept at once.
    pub places_max: usize,
    /// Lines put through at once; each is two streams.
    pub lines_max: usize,
}

/// How much a relay does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Nodes that keep a place here.
    pub places: usize,
    /// Lines that are put through.
    pub lines: usize,
}

/// One of the relays that this node was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The node, as partners reach it there.
    pub address: Address,
    /// Whether a place is kept there now.
    pub kept: bool,
    /// Why not, when it was last tried.
    pub trouble: Option<String>,
    /// The most bytes that a line through it carries, both ways, if it says so. Relays of ours set none.
    pub bytes_max: Option<u64>,
}

/// The places we keep, and try to keep, at relays.
pub(super) struct Places {
    all: BTreeMap<PeerId, Place>,
    asked: Dialer,
    listeners: BTreeMap<PeerId, ListenerId>,
}

impl Places {
    /// At these addresses, which all go through a relay; others are left out.
    pub(super) fn new(relays: &[Address], now: Instant) -> Self {
        let place = |address: &Address| Place { address: address.clone(), kept: false, trouble: None, bytes_max: None };
        let all: BTreeMap<_, _> = relays.iter().filter_map(|address| Some((address.relay()?.0, place(address)))).collect();
        let mut asked = Dialer::new(AGAIN, PLACES);
        let list: Vec<_> = all.iter().map(|(peer, place)| Partner { peer: *peer, addresses: vec![place.address.clone()] }).collect();
        asked.set(&list, |_| false, now);
        Self { all, asked, listeners: BTreeMap::new() }
    }

    pub(super) fn relays(&self) -> impl Iterator<Item = PeerId> {
        self.all.keys().copied()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Place> {
        self.all.values()
    }

    pub(super) fn kept(&self) -> impl Iterator<Item = &Address> {
        self.all.values().filter(|place| place.kept).map(|place| &place.address)
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        self.asked.wake()
    }

    /// Where to ask for a place now, if anywhere.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<(PeerId, Address)> {
        let (peer, addresses) = self.asked.next_due(now)?;
        Some((peer, addresses.into_iter().next()?))
    }

    /// The question is under way under this id.
    pub(super) fn asked(&mut self, peer: PeerId, listener: ListenerId) {
        self.listeners.insert(peer, listener);
    }

    /// Whether this listener is a place; then, the relay.
    pub(super) fn of(&self, listener: ListenerId) -> Option<PeerId> {
        self.listeners.iter().find(|(_, id)| **id == listener).map(|(peer, _)| *peer)
    }

    /// The relay keeps us a place. Gives the address when it is news.
    pub(super) fn accepted(&mut self, peer: PeerId, bytes_max: Option<u64>, now: Instant) -> Option<Address> {
        self.asked.connected(peer, true, now);
        let place = self.all.get_mut(&peer)?;
        (place.trouble, place.bytes_max) = (None, bytes_max);
        let news = !std::mem::replace(&mut place.kept, true);
        news.then(|| place.address.clone())
    }

    /// The place is lost, or was refused. `jitter` is between 0 and 1. Gives the address if it had been kept, and the reason.
    pub(super) fn lost(&mut self, peer: PeerId, why: Option<String>, now: Instant, jitter: f64) -> (Option<Address>, String) {
        self.listeners.remove(&peer);
        let known = self.all.get_mut(&peer).and_then(|place| place.trouble.take());
        let why = why.or(known).unwrap_or_else(|| "the connection to the relay was lost".to_owned());
        let Some(place) = self.all.get_mut(&peer) else { return (None, why) };
        place.trouble = Some(why.clone());
        if std::mem::take(&mut place.kept) {
            self.asked.disconnected(peer, now, jitter);
            (Some(place.address.clone()), why)
        } else {
            self.asked.failed(peer, now, jitter);
            (None, why)
        }
    }

    /// This computer may be somewhere else: every relay without a place is due at once.
    pub(super) fn again(&mut self, now: Instant) {
        self.asked.redial_all(now);
    }

    /// The relay could not be reached: the refusal of the place, which follows, says so.
    pub(super) fn unreachable(&mut self, peer: PeerId, why: String) {
        if let Some(place) = self.all.get_mut(&peer) {
            place.trouble = Some(why);
        }
    }
}

/// What is counted of a relay's work.
#[derive(Default)]
pub(super) struct Counted {
    places: BTreeSet<libp2p::PeerId>,
    lines: usize,
}

impl Counted {
    pub(super) fn load(&self) -> Load {
        Load { places: self.places.len(), lines: self.lines }
    }

    pub(super) fn note(&mut self, event: &relay::Event) {
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, .. } => drop(self.places.insert(*src_peer_id)),
            relay::Event::ReservationClosed { src_peer_id } | relay::Event::ReservationTimedOut { src_peer_id } => {
                self.places.remove(src_peer_id);
            }
            relay::Event::CircuitReqAccepted { .. } => self.lines += 1,
            relay::Event::CircuitClosed { .. } => self.lines = self.lines.saturating_sub(1),
            relay::Event::ReservationReqDenied { src_peer_id, status } => {
                tracing::warn!(peer = %src_peer_id, ?status, "a place at this relay was refused");
            }
            relay::Event::CircuitReqDenied { src_peer_id, dst_peer_id, status } => {
                tracing::info!(from = %src_peer_id, to = %dst_peer_id, ?status, "not put through");
            }
            _ => {}
        }
    }
}

/// The behaviour of a relay with these limits. A line carries as many bytes as it likes; one node has as many as there are, since it
/// may be the customer of all the others.
pub(super) fn behaviour(local: libp2p::PeerId, serving: &Serving) -> relay::Behaviour {
    let limits = relay::Config {
        max_reservations: serving.places_max,
        reservation_duration: PLACE_FOR,
        reservation_rate_limiters: Vec::new(),
        max_circuits: serving.lines_max,
        max_circuits_per_peer: serving.lines_max,
        max_circuit_duration: LINE_FOR,
        max_circuit_bytes: 0,
        circuit_src_rate_limiters: Vec::new(),
        ..relay::Config::default()
    };
    // By node and not by address: a whole firm sits behind one.
    let limits = limits.reservation_rate_per_peer(NonZeroU32::new(30).expect("not 0"), Duration::from_secs(10)).circuit_src_per_peer(
        NonZeroU32::MIN.saturating_add(u32::try_from(serving.lines_max).unwrap_or(u32::MAX)),
        Duration::from_millis(100),
    );
    let mut relay = relay::Behaviour::new(local, limits);
    relay.set_status(Some(relay::Status::Enable));
    relay
}

/// The address of a circuit's other end, for people: without the ids that libp2p adds behind it.
pub(super) fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == libp2p::multiaddr::Protocol::P2pCircuit)
}
