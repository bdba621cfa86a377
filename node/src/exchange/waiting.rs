//! Entries of one followed feed that a delay still holds back: each opens at a moment of its own.

use std::collections::BTreeSet;
use std::ops::Range;

/// The most entries that are remembered one by one for a stream. Of more, the latest are remembered as a range.
pub const WAITING_MAX: usize = 16_384;

/// Entries that are this near to each other are looked at together.
const GAP_MAX: u64 = 256;

/// When which entries open.
#[derive(Default)]
pub struct Waiting {
    /// Moment and place.
    entries: BTreeSet<(i64, u64)>,
    /// What found no room: the first moment at which one of it opens, and the range it is in.
    rest: Option<(i64, Range<u64>)>,
}

impl Waiting {
    /// Remembers that an entry opens at this moment.
    ///
    /// ```
    /// use lotline_node::exchange::waiting::Waiting;
    /// let mut waiting = Waiting::default();
    /// [(7, 100), (8, 100), (900, 50)].into_iter().for_each(|(seq, at)| waiting.add(seq, at));
    /// assert_eq!((waiting.next(), waiting.due(49)), (Some(50), vec![]));
    /// assert_eq!((waiting.due(50), waiting.due(100), waiting.next()), (vec![900..901], vec![7..9], None));
    /// ```
    pub fn add(&mut self, seq: u64, at: i64) {
        self.entries.insert((at, seq));
        if self.entries.len() > WAITING_MAX
            && let Some((at, seq)) = self.entries.pop_last()
        {
            let (first, range) = self.rest.take().unwrap_or((at, seq..seq + 1));
            self.rest = Some((first.min(at), range.start.min(seq)..range.end.max(seq + 1)));
        }
    }

    /// The next moment at which something opens.
    pub fn next(&self) -> Option<i64> {
        let rest = self.rest.as_ref().map(|(at, _)| *at);
        self.entries.first().map(|(at, _)| *at).into_iter().chain(rest).min()
    }

    /// Takes out what is open by now, as ranges to be looked at again. Who looks at an entry adds it again if some of it
    /// waits on.
    pub fn due(&mut self, now: i64) -> Vec<Range<u64>> {
        let mut due = BTreeSet::new();
        while self.entries.first().is_some_and(|(at, _)| *at <= now) {
            due.extend(self.entries.pop_first().map(|(_, seq)| seq));
        }
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for seq in due {
            match ranges.last_mut() {
                Some(last) if seq < last.end + GAP_MAX => last.end = seq + 1,
                _ => ranges.push(seq..seq + 1),
            }
        }
        ranges.extend(self.rest.take_if(|(at, _)| *at <= now).map(|(_, range)| range));
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With more than there is room for, nothing is forgotten: the range comes due with the first of it.
    #[test]
    fn what_finds_no_room_is_looked_at_as_a_range() {
        let (mut waiting, many) = (Waiting::default(), 3 * WAITING_MAX as u64);
        (0..many).rev().for_each(|seq| waiting.add(seq, seq as i64));
        let (mut seen, mut now) = (BTreeSet::new(), 0);
        while let Some(next) = waiting.next() {
            now = now.max(next);
            for range in waiting.due(now) {
                for seq in range {
                    match seq as i64 <= now {
                        true => drop(seen.insert(seq)),
                        false => waiting.add(seq, seq as i64),
                    }
                }
            }
            assert!(waiting.entries.len() <= WAITING_MAX);
        }
        assert_eq!((seen.len() as u64, now), (many, many as i64 - 1));
    }
}
