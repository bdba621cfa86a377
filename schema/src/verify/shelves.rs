//! What a verification looks for again and again, found by its key: a file made to be slow is not.

use std::collections::BTreeMap;

use crate::id::Hash;
use crate::note::{Cosignature, WitnessKey};

/// Witness keys, found by what a cosignature says of its key.
#[derive(Default)]
pub(super) struct WitnessKeys {
    keys: Vec<WitnessKey>,
    by_mark: BTreeMap<(String, [u8; 4]), usize>,
}

impl WitnessKeys {
    /// Of two keys that one cosignature could mean the first given is meant.
    pub(super) fn put(&mut self, key: WitnessKey) {
        self.by_mark.entry(key.mark()).or_insert(self.keys.len());
        self.keys.push(key);
    }

    pub(super) fn of(&self, cosignature: &Cosignature) -> Option<&WitnessKey> {
        self.by_mark.get(&cosignature.mark()).map(|at| &self.keys[*at])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &WitnessKey> {
        self.keys.iter()
    }
}

/// Records by feed and place, as numbers of a list.
#[derive(Default)]
pub(super) struct Places {
    // Several at one place are two truths, which is another finding.
    feeds: BTreeMap<String, BTreeMap<u64, Vec<usize>>>,
}

impl Places {
    pub(super) fn put(&mut self, origin: &str, seq: u64, record: usize) {
        if !self.feeds.contains_key(origin) {
            self.feeds.insert(origin.to_owned(), BTreeMap::new());
        }
        self.feeds.get_mut(origin).expect("put above").entry(seq).or_default().push(record);
    }

    /// Those at a place.
    pub(super) fn at(&self, origin: &str, seq: u64) -> &[usize] {
        self.feeds.get(origin).and_then(|feed| feed.get(&seq)).map_or(&[], Vec::as_slice)
    }

    /// Those from a place to before another.
    pub(super) fn between(&self, origin: &str, from: u64, to: u64) -> Vec<(u64, usize)> {
        let places = self.feeds.get(origin).into_iter().flat_map(|feed| feed.range(from..to.max(from)));
        places.flat_map(|(seq, records)| records.iter().map(|record| (*seq, *record))).collect()
    }

    /// Looks for a record no more.
    pub(super) fn take(&mut self, origin: &str, seq: u64, record: usize) {
        let Some(feed) = self.feeds.get_mut(origin) else { return };
        if let Some(records) = feed.get_mut(&seq) {
            records.retain(|one| *one != record);
            if records.is_empty() {
                feed.remove(&seq);
            }
        }
    }
}

/// The root of each feed and size; of two for one size, which are two truths, the first.
pub(super) type Roots = BTreeMap<(String, u64), Hash>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cose::Signer;

    #[test]
    fn looking_for_records_takes_steps_for_what_is_found_and_no_more() {
        const FEED: &str = "z6MkjJRuJtMxfTErK55eWeV7FQLLxpsvzSUQ3AC6DmdNPFja/quality/1";
        const FULL: usize = 16;
        for records in [1_000usize, 10_000] {
            let mut places = Places::default();
            (0..records).for_each(|at| places.put(FEED, at as u64, at));
            // A receipt a record.
            let steps: usize = (0..records as u64).map(|at| places.between(FEED, at, at + 1).len()).sum();
            assert_eq!(steps, records);
            // As many receipts, each over everything: a record that has enough is left out, so that the sum is bounded.
            let mut counts = vec![0; records];
            let mut steps = 0;
            for _ in 0..records {
                for (seq, record) in places.between(FEED, 0, records as u64) {
                    steps += 1;
                    counts[record] += 1;
                    if counts[record] == FULL {
                        places.take(FEED, seq, record);
                    }
                }
            }
            assert_eq!(steps, FULL * records);
            assert!(places.at(FEED, 0).is_empty() && places.between("another", 0, u64::MAX).is_empty());
        }
        assert!(Places::default().between(FEED, 5, 3).is_empty());
    }

    #[test]
    fn a_witness_key_is_found_by_name_and_number() {
        let mut keys = WitnessKeys::default();
        let signers: Vec<Signer> = (1..60u8).map(|seed| Signer::from_seed(&[seed; 32])).collect();
        signers.iter().for_each(|signer| keys.put(WitnessKey::opaque(signer.public())));
        let checkpoint = crate::note::Checkpoint {
            origin: crate::Origin::new(crate::PartyId::of(&signers[0].public()), "quality", 1).unwrap(),
            size: 1,
            root: Hash([7; 32]),
        };
        for signer in &signers {
            let cosignature = Cosignature::sign(&checkpoint, signer, 5);
            assert_eq!(keys.of(&cosignature), Some(&WitnessKey::opaque(signer.public())));
        }
        assert!(keys.of(&Cosignature::sign(&checkpoint, &Signer::from_seed(&[99; 32]), 5)).is_none());
        assert_eq!(keys.iter().count(), signers.len());
    }
}
