//! When to dial which partner: one entry a partner that has addresses, with its own back-off.
//!
//! Knows no sockets and reads no clock; `task` asks what is due and reports how it went. A partner that is connected,
//! whoever dialled, is left alone.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Address, Partner, PeerId};

/// Dials in flight at once. A hub with thousands of partners must not spend its file descriptors on dials at start-up.
const DIALS_MAX: usize = 32;

/// How long to wait between dials to one partner.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The first wait; it doubles after each try.
    pub min: Duration,
    /// The wait at which doubling stops.
    pub max: Duration,
    /// A connection that lived this long resets the wait. A shorter one does not, or a node that is turned away right
    /// after the handshake would dial once a second for ever.
    pub healthy_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_secs(5 * 60), healthy_after: Duration::from_secs(60) }
    }
}

/// The dial list.
pub(super) struct Dialer {
    backoff: Backoff,
    /// Connected or being dialled at once; then the others wait.
    wanted: usize,
    entries: BTreeMap<PeerId, Entry>,
}

struct Entry {
    given: Vec<Address>,
    /// The same in the order in which they are tried.
    addresses: Vec<Address>,
    /// The wait after the next failure.
    wait: Duration,
    due: Instant,
    dialing: bool,
    up_since: Option<Instant>,
}

impl Dialer {
    /// For `wanted` of the list at once; the next is dialled when one of them is lost.
    pub(super) fn new(backoff: Backoff, wanted: usize) -> Self {
        Self { backoff, wanted, entries: BTreeMap::new() }
    }

    /// Replace the list. New partners and those with new addresses are due at once; the others keep their state.
    pub(super) fn set(&mut self, partners: &[Partner], connected: impl Fn(PeerId) -> bool, now: Instant) {
        let mut old = std::mem::take(&mut self.entries);
        for partner in partners.iter().filter(|partner| !partner.addresses.is_empty()) {
            let mut entry = old.remove(&partner.peer).unwrap_or_else(|| Entry {
                given: Vec::new(),
                addresses: Vec::new(),
                wait: self.backoff.min,
                due: now,
                dialing: false,
                up_since: connected(partner.peer).then_some(now),
            });
            if entry.given != partner.addresses {
                entry.given.clone_from(&partner.addresses);
                entry.addresses.clone_from(&partner.addresses);
                (entry.wait, entry.due) = (self.backoff.min, now);
            }
            self.entries.insert(partner.peer, entry);
        }
    }

    /// The partner to dial now, if any; it counts as being dialled until [`Dialer::connected`] or [`Dialer::failed`].
    pub(super) fn next_due(&mut self, now: Instant) -> Option<(PeerId, Vec<Address>)> {
        let (peer, due) = self.earliest()?;
        let entry = self.entries.get_mut(&peer).filter(|_| due <= now)?;
        entry.dialing = true;
        Some((peer, entry.addresses.clone()))
    }

    /// When to ask [`Dialer::next_due`] again if nothing else happens.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.earliest().map(|(_, due)| due)
    }

    fn earliest(&self) -> Option<(PeerId, Instant)> {
        let count = |of: fn(&Entry) -> bool| self.entries.values().filter(|entry| of(entry)).count();
        if count(|entry| entry.dialing) >= DIALS_MAX || count(|entry| entry.dialing || entry.up_since.is_some()) >= self.wanted {
            return None;
        }
        let idle = self.entries.iter().filter(|(_, entry)| !entry.dialing && entry.up_since.is_none());
        idle.map(|(peer, entry)| (*peer, entry.due)).min_by_key(|(_, due)| *due)
    }

    /// Our dial failed. `jitter` is between 0 and 1.
    pub(super) fn failed(&mut self, peer: PeerId, now: Instant, jitter: f64) {
        let backoff = self.backoff;
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.dialing = false;
            entry.postpone(backoff, now, jitter);
        }
    }

    /// Another node answers at this address: the others are tried first from now on, since libp2p tries none after it.
    pub(super) fn set_back(&mut self, peer: PeerId, address: &Address) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.addresses.sort_by_key(|other| other == address);
        }
    }

    /// A connection with the partner is up.
    pub(super) fn connected(&mut self, peer: PeerId, dialed_by_us: bool, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.dialing &= !dialed_by_us;
            entry.up_since.get_or_insert(now);
        }
    }

    /// The last connection with the partner is gone. `jitter` is between 0 and 1.
    pub(super) fn disconnected(&mut self, peer: PeerId, now: Instant, jitter: f64) {
        let backoff = self.backoff;
        let Some(entry) = self.entries.get_mut(&peer) else { return };
        let Some(since) = entry.up_since.take() else { return };
        if now.saturating_duration_since(since) >= backoff.healthy_after {
            entry.wait = backoff.min;
        }
        entry.postpone(backoff, now, jitter);
    }

    /// Forget the back-off of everybody: this computer is on another network.
    pub(super) fn redial_all(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            (entry.wait, entry.due) = (self.backoff.min, now);
        }
    }

    /// Forget the back-off: the user asked.
    pub(super) fn redial(&mut self, peer: PeerId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            (entry.wait, entry.due) = (self.backoff.min, now);
        }
    }
}

impl Entry {
    /// Between half and all of the wait, so that partners of a hub that restarted do not come back in step, and two that
    /// dial each other do not collide again.
    fn postpone(&mut self, backoff: Backoff, now: Instant, jitter: f64) {
        self.due = now + self.wait.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        self.wait = (self.wait * 2).min(backoff.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partner(n: u8, address: &str) -> Partner {
        Partner { peer: super::super::peer_id_of(&[n; 32]), addresses: vec![address.parse().unwrap()] }
    }

    fn list(partners: &[Partner], now: Instant) -> Dialer {
        let mut dialer = Dialer::new(Backoff::default(), usize::MAX);
        dialer.set(partners, |_| false, now);
        dialer
    }

    #[test]
    fn the_wait_doubles_to_its_bound_and_resets_after_health() {
        let mut now = Instant::now();
        let bob = partner(1, "bob.example:4001");
        let mut dialer = list(std::slice::from_ref(&bob), now);
        let mut waits = Vec::new();
        for _ in 0..11 {
            assert!(dialer.next_due(now).is_some());
            assert!(dialer.next_due(now).is_none(), "one dial at a time");
            dialer.failed(bob.peer, now, 1.0);
            let due = dialer.wake().unwrap();
            waits.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);

        // A short life keeps the wait long, a healthy one resets it.
        for (life, wait) in [(59, 300), (60, 1)] {
            assert!(dialer.next_due(now).is_some());
            dialer.connected(bob.peer, true, now);
            dialer.connected(bob.peer, false, now + Duration::from_secs(1));
            assert_eq!(dialer.wake(), None, "a connected partner is left alone");
            now += Duration::from_secs(life);
            dialer.disconnected(bob.peer, now, 1.0);
            assert_eq!(dialer.wake(), Some(now + Duration::from_secs(wait)));
            now += Duration::from_secs(wait);
        }
    }

    #[test]
    fn on_another_network_everybody_is_dialled_at_once_and_waits_begin_anew() {
        let mut now = Instant::now();
        let partners: Vec<_> = (0..3).map(|n| partner(n, "hub.example:4001")).collect();
        let mut dialer = list(&partners, now);
        dialer.connected(partners[2].peer, false, now);
        for _ in 0..9 {
            while let Some((peer, _)) = dialer.next_due(now) {
                dialer.failed(peer, now, 1.0);
            }
            now = dialer.wake().unwrap();
        }
        now -= Duration::from_secs(100);
        assert!(dialer.next_due(now).is_none());
        dialer.redial_all(now);
        for partner in &partners[..2] {
            assert_eq!(dialer.next_due(now).map(|(peer, _)| peer), Some(partner.peer));
            dialer.failed(partner.peer, now, 1.0);
        }
        assert!(dialer.next_due(now).is_none(), "the third is connected");
        assert_eq!(dialer.wake(), Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        let now = Instant::now();
        let bob = partner(1, "bob.example:4001");
        for (jitter, millis) in [(0.0, 500), (0.5, 750), (1.0, 1000)] {
            let mut dialer = list(std::slice::from_ref(&bob), now);
            assert!(dialer.next_due(now).is_some());
            dialer.failed(bob.peer, now, jitter);
            assert_eq!(dialer.wake(), Some(now + Duration::from_millis(millis)));
        }
    }

    #[test]
    fn dials_in_flight_are_bounded() {
        let now = Instant::now();
        let partners: Vec<_> = (0..100).map(|n| partner(n, "hub.example:4001")).collect();
        let mut dialer = list(&partners, now);
        let first: Vec<_> = std::iter::from_fn(|| dialer.next_due(now)).collect();
        assert_eq!(first.len(), DIALS_MAX);
        assert_eq!(dialer.wake(), None);
        dialer.failed(first[0].0, now, 1.0);
        assert!(dialer.next_due(now).is_some(), "a place came free");
    }

    #[test]
    fn an_address_at_which_another_node_answers_is_tried_last() {
        let now = Instant::now();
        let [first, second] = ["a.example:1", "b.example:1"].map(|address| address.parse::<Address>().unwrap());
        let bob = Partner { addresses: vec![first.clone(), second.clone()], ..partner(1, "a.example:1") };
        let mut dialer = list(std::slice::from_ref(&bob), now);
        assert_eq!(dialer.next_due(now).unwrap().1, [first.clone(), second.clone()]);
        dialer.set_back(bob.peer, &first);
        dialer.failed(bob.peer, now, 1.0);
        dialer.set(std::slice::from_ref(&bob), |_| false, now);
        assert_eq!(dialer.next_due(dialer.wake().unwrap()).unwrap().1, [second, first]);
    }

    #[test]
    fn no_more_than_wanted_are_held_and_a_lost_one_is_replaced_by_the_next() {
        let now = Instant::now();
        let relays: Vec<_> = (1..=3).map(|n| partner(n, "relay.example:4001")).collect();
        let mut dialer = Dialer::new(Backoff::default(), 2);
        dialer.set(&relays, |_| false, now);
        let held: Vec<_> = std::iter::from_fn(|| dialer.next_due(now)).map(|(peer, _)| peer).collect();
        assert_eq!(held.len(), 2);
        dialer.connected(held[0], true, now);
        dialer.connected(held[1], true, now);
        assert_eq!(dialer.wake(), None);
        dialer.disconnected(held[0], now, 1.0);
        let next = dialer.next_due(now).map(|(peer, _)| peer);
        assert!(next.is_some_and(|next| !held.contains(&next)), "the one that was lost waits, the third is tried");
    }

    #[test]
    fn new_addresses_are_dialled_at_once_and_removed_partners_never() {
        let now = Instant::now();
        let bob = partner(1, "bob.example:4001");
        let mut dialer = list(std::slice::from_ref(&bob), now);
        assert!(dialer.next_due(now).is_some());
        dialer.failed(bob.peer, now, 1.0);
        dialer.set(std::slice::from_ref(&bob), |_| false, now);
        assert!(dialer.next_due(now).is_none(), "the same list keeps the back-off");
        dialer.set(&[partner(1, "bob.example:4002")], |_| false, now);
        assert!(dialer.next_due(now).is_some());
        dialer.set(&[], |_| false, now);
        dialer.failed(bob.peer, now, 1.0);
        assert_eq!(dialer.wake(), None);
    }
}
