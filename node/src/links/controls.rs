//! Which control stream with a partner counts: one each, though both sides may open one in the same moment.
//!
//! Whoever dialled opens it. When both dialled at once, two streams cross, and both sides must keep the same one or
//! neither would live: it is the one that the smaller peer id opened. Generic in what a stream is, so that every order of
//! events can be tried without sockets.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::net::PeerId;

/// Two streams within this time have crossed: longer than a dial with its handshakes takes. One that comes later is of a
/// partner that has lost ours, and takes its place.
const CROSSING: Duration = Duration::from_secs(10);

/// Who opened a stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Opener {
    /// We did.
    Us,
    /// The partner.
    Them,
}

/// The control stream of each partner that counts.
pub(super) struct Controls<T> {
    us: PeerId,
    live: HashMap<PeerId, Control<T>>,
    next: u64,
}

struct Control<T> {
    number: u64,
    opener: Opener,
    since: Instant,
    task: T,
}

impl<T> Controls<T> {
    pub(super) fn new(us: PeerId) -> Controls<T> {
        Controls { us, live: HashMap::new(), next: 0 }
    }

    /// Whether a stream counts that this side opens or opened now. We open none beside one that lives.
    pub(super) fn counts(&self, peer: PeerId, opener: Opener, now: Instant) -> bool {
        match self.live.get(&peer) {
            None => true,
            Some(_) if opener == Opener::Us => false,
            Some(live) if live.opener == Opener::Them => true,
            Some(live) => peer < self.us || now.saturating_duration_since(live.since) >= CROSSING,
        }
    }

    /// The number of the next stream, for the task that will say when it ended.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Puts a stream that counts in its place. Returns the one that was there, which is to end.
    pub(super) fn put(&mut self, peer: PeerId, number: u64, opener: Opener, task: T, now: Instant) -> Option<T> {
        self.live.insert(peer, Control { number, opener, since: now, task }).map(|older| older.task)
    }

    /// A stream ended by itself. Whether it was the one that counted: the partner has none now.
    pub(super) fn ended(&mut self, peer: PeerId, number: u64) -> bool {
        let counted = self.live.get(&peer).is_some_and(|live| live.number == number);
        if counted {
            self.live.remove(&peer);
        }
        counted
    }

    /// The partner is gone, and its stream with it.
    pub(super) fn forget(&mut self, peer: PeerId) -> Option<T> {
        self.live.remove(&peer).map(|live| live.task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> [PeerId; 2] {
        let mut peers = [1, 2].map(|n| crate::net::transport_peer_id(&[n; 32]));
        peers.sort();
        peers
    }

    /// What is on its way between two sides. Each connection has its own order, so any of these may come first.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Coming {
        /// This side's dial is through.
        Dialled(usize),
        /// The stream that the other side opened reaches this one.
        Stream(usize),
        /// The other side dropped the stream that this one opened.
        Dropped(usize),
    }

    /// Every order of events of two that dial each other; a stream is named by the side that opened it. Returns how the
    /// two ended, once for each order.
    fn every_order(dialling: &[usize]) -> Vec<[Option<usize>; 2]> {
        let mut ends = Vec::new();
        let mut open = vec![Vec::new()];
        while let Some(mut done) = open.pop() {
            let (pending, ends_as) = replay(dialling, &done);
            match pending.len() {
                0 => ends.push(ends_as),
                n => {
                    for choice in 0..n {
                        done.push(choice);
                        open.push(done.clone());
                        done.pop();
                    }
                }
            }
        }
        ends
    }

    fn replay(dialling: &[usize], choices: &[usize]) -> (Vec<Coming>, [Option<usize>; 2]) {
        let (peers, now) = (peers(), Instant::now());
        let mut sides = peers.map(Controls::<usize>::new);
        let mut numbers = [[0u64; 2]; 2];
        let mut coming: Vec<Coming> = dialling.iter().map(|side| Coming::Dialled(*side)).collect();
        for choice in choices {
            let event = coming.remove(*choice);
            let (at, opener, stream) = match event {
                Coming::Dialled(side) => (side, Opener::Us, side),
                Coming::Stream(side) => (side, Opener::Them, 1 - side),
                Coming::Dropped(side) => {
                    sides[side].ended(peers[1 - side], numbers[side][side]);
                    continue;
                }
            };
            let other = peers[1 - at];
            let counts = sides[at].counts(other, opener, now);
            if counts {
                numbers[at][stream] = sides[at].number();
                let older = sides[at].put(other, numbers[at][stream], opener, stream, now);
                // Only one that the other side opened and may still hold has to be dropped there.
                coming.extend(older.filter(|older| *older != at).map(|_| Coming::Dropped(1 - at)));
            }
            match opener {
                Opener::Us if counts => coming.push(Coming::Stream(1 - at)),
                Opener::Them if !counts => coming.push(Coming::Dropped(1 - at)),
                Opener::Us | Opener::Them => {}
            }
        }
        let held = [0, 1].map(|side: usize| sides[side].live.get(&peers[1 - side]).map(|live| live.task));
        (coming, held)
    }

    #[test]
    fn two_that_open_at_once_keep_the_same_stream_in_every_order() {
        let ends = every_order(&[0, 1]);
        assert!(ends.len() > 5, "{} orders", ends.len());
        for end in &ends {
            assert!(end[0].is_some() && end[0] == end[1], "they differ: {ends:?}");
        }
        // When both had opened before either heard of the other, it is the smaller one's.
        assert!(ends.contains(&[Some(0), Some(0)]));
        // A dial on one side only needs no tie-break.
        for side in [0, 1] {
            assert_eq!(every_order(&[side]), [[Some(side), Some(side)]]);
        }
    }

    #[test]
    fn a_stream_that_comes_much_later_takes_the_place_of_a_lost_one() {
        let ([small, large], start) = (peers(), Instant::now());
        let mut controls = Controls::new(small);
        let number = controls.number();
        assert_eq!(controls.put(large, number, Opener::Us, "ours", start), None);
        assert!(!controls.counts(large, Opener::Them, start + CROSSING / 2), "it crossed");
        assert!(controls.counts(large, Opener::Them, start + CROSSING));
        let newer = controls.number();
        assert_eq!(controls.put(large, newer, Opener::Them, "theirs", start + CROSSING), Some("ours"));
        assert!(!controls.ended(large, number), "the one that was replaced does not count");
        assert!(controls.ended(large, newer) && controls.counts(large, Opener::Us, start + CROSSING));
    }
}
