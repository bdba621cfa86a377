//! Reading: any thread may hold a `Reader`. Lists and lookups are answered by the index, signed bytes and disclosures
//! are read from the journal. Hashes are the caller's to check; this checks that the right piece was read.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use lotline_schema::Hash;

use super::{
    Progress, Step,
    audit::{self, AuditReport},
    entry,
    error::{Damage, StoreError},
    follower::{Shared, Status},
    index::{Forgotten, IndexError, LOT, NODES, PART, Place, RECORD, Record, STATE, parse_record_key, record_key, term_prefix},
    tree::{self, FeedTree},
};

/// A cheap handle for reading, also while the store is written to. What it reads may be a few commits old: `settle`
/// first where your own write must be seen.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// What the index knows of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Local number of the feed.
    pub feed: u32,
    /// Place in the feed.
    pub seq: u64,
    /// Leaf hash.
    pub leaf: [u8; 32],
    /// What lists and filters show; empty for a hidden entry.
    pub summary: Vec<u8>,
    /// Whether the signed bytes are here; `false` for a hidden entry.
    pub has_core: bool,
    /// Found under this lot.
    pub lot: Option<String>,
    /// Found under this part.
    pub part: Option<String>,
    /// Slots that were forgotten here, and when.
    pub forgotten: Vec<Forgotten>,
    core: Option<Place>,
    opened: Vec<(Place, u64)>,
}

impl Row {
    /// Which slots are open, as bits.
    pub fn slots(&self) -> u64 {
        self.opened.iter().fold(0, |all, (_, slots)| all | slots)
    }

    /// Which slots were forgotten here, as bits.
    pub fn forgotten_slots(&self) -> u64 {
        self.forgotten.iter().fold(0, |all, one| all | one.slots)
    }

    fn new(feed: u32, seq: u64, value: &[u8]) -> Result<Option<Row>, IndexError> {
        let Record { leaf, core, opened, forgotten, lot, part, summary } = Record::decode(value).ok_or(IndexError::Entry)?;
        Ok(leaf.map(|leaf| Row { feed, seq, leaf, summary, has_core: core.is_some(), lot, part, forgotten, core, opened }))
    }
}

/// What the index holds, counted by a scan (about a million keys a second).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records with their signed bytes.
    pub records: u64,
    /// Entries of foreign feeds known by their leaf hash only.
    pub hidden: u64,
    /// Hashes of trees above the leaves.
    pub nodes: u64,
    /// Keys of lots.
    pub lots: u64,
    /// Keys of parts.
    pub parts: u64,
    /// Keys of changing state.
    pub states: u64,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Reader {
        Reader { shared }
    }

    /// One record or hidden entry.
    pub fn row(&self, feed: u32, seq: u64) -> Result<Option<Row>, StoreError> {
        self.shared.read(|db| match db.get(record_key(feed, seq))? {
            Some(value) => Row::new(feed, seq, &value),
            None => Ok(None),
        })
    }

    /// Up to `max` records and hidden entries of a feed in order, from `from` on.
    pub fn rows(&self, feed: u32, from: u64, max: usize) -> Result<Vec<Row>, StoreError> {
        self.shared.read(|db| {
            let mut rows = Vec::new();
            for entry in db.range(record_key(feed, from)..=record_key(feed, u64::MAX)) {
                if rows.len() == max {
                    break;
                }
                let (key, value) = entry?;
                let (feed, seq) = parse_record_key(&key).ok_or(IndexError::Entry)?;
                rows.extend(Row::new(feed, seq, &value)?);
            }
            Ok(rows)
        })
    }

    /// The signed bytes of a record.
    pub fn core(&self, row: &Row) -> Result<Option<Vec<u8>>, StoreError> {
        row.core.map(|place| self.piece(row, place)).transpose()
    }

    /// The open slots of a record in order. A slot opened twice keeps its first disclosure.
    pub fn disclosures(&self, row: &Row) -> Result<Vec<(u8, Vec<u8>)>, StoreError> {
        let mut open = BTreeMap::new();
        for (place, first) in &row.opened {
            let payload = self.piece(row, *place)?;
            let read = entry::slots(&payload, |slot, disclosure| {
                if slot < entry::SLOTS_MAX && first >> slot & 1 == 1 {
                    open.entry(slot).or_insert_with(|| disclosure.to_vec());
                }
            });
            read.ok_or_else(|| damaged(row, *place))?;
        }
        Ok(open.into_iter().collect())
    }

    /// The root of the `2^level` entries of a feed from `index * 2^level` on, unless one of them is not here.
    pub fn node(&self, feed: u32, level: u32, index: u64) -> Result<Option<Hash>, StoreError> {
        self.shared.read(|db| tree::read(db, feed, level, index))
    }

    /// The tree of the first `size` entries of a feed, for roots and proofs.
    pub fn tree(&self, feed: u32, size: u64) -> FeedTree<'_> {
        FeedTree::new(self, feed, size)
    }

    /// Records of a lot, by exact text.
    pub fn by_lot(&self, lot: &str) -> Result<Vec<(u32, u64)>, StoreError> {
        self.by_term(LOT, lot)
    }

    /// Records of a part, by exact text.
    pub fn by_part(&self, part: &str) -> Result<Vec<(u32, u64)>, StoreError> {
        self.by_term(PART, part)
    }

    /// The value of a state key.
    pub fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.read(|db| Ok(db.get([&[STATE], key].concat())?.map(|v| v.to_vec())))
    }

    /// Up to `max` state keys that begin with `prefix`, in order, after the key `after`.
    #[allow(clippy::type_complexity, reason = "key and value, as everywhere")]
    pub fn states(&self, prefix: &[u8], after: Option<&[u8]>, max: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let prefix = [&[STATE], prefix].concat();
        let from = match after.map(|after| [&[STATE], after].concat()) {
            Some(after) if after >= prefix => Excluded(after),
            _ => Included(prefix.clone()),
        };
        self.shared.read(|db| {
            let mut states = Vec::new();
            for entry in db.range((from, Unbounded)) {
                let (key, value) = entry?;
                if states.len() == max || !key.starts_with(&prefix) {
                    break;
                }
                states.push((key[1..].to_vec(), value.to_vec()));
            }
            Ok(states)
        })
    }

    /// Waits until everything committed before this call can be read.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.shared.settle()
    }

    /// How the store is doing; costs nothing.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Counts by a scan of everything.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        self.shared.read(|db| {
            let mut counts = Counts::default();
            for entry in db.iter() {
                let (key, value) = entry?;
                match key[0] {
                    RECORD => match Record::decode(&value).ok_or(IndexError::Entry)? {
                        Record { core: Some(_), .. } => counts.records += 1,
                        Record { leaf: Some(_), .. } => counts.hidden += 1,
                        _ => {}
                    },
                    NODES => counts.nodes += tree::nodes_in(&value),
                    LOT => counts.lots += 1,
                    PART => counts.parts += 1,
                    STATE => counts.states += 1,
                    _ => {}
                }
            }
            Ok(counts)
        })
    }

    /// Re-reads the whole journal, builds a second index from it in a temporary folder and compares the two key by
    /// key. Changes nothing. Commits wait while the last differences are looked at again.
    pub fn audit(&self, progress: &dyn Fn(Progress)) -> Result<AuditReport, StoreError> {
        self.settle()?;
        audit::audit(&self.shared, progress)
    }

    /// Copies the journal as it is durable now into the empty or new folder `dest`: neither index nor seal, so that a
    /// store put back from it knows that it was restored. Returns the bytes copied.
    pub fn copy_for_backup(&self, dest: &Path, progress: &dyn Fn(Progress)) -> Result<u64, StoreError> {
        let seen = |done, total| progress(Progress { step: Step::Copying, done, total });
        self.shared.files.copy(|| self.shared.end(), &dest.join(super::JOURNAL), &seen)
    }

    fn by_term(&self, kind: u8, text: &str) -> Result<Vec<(u32, u64)>, StoreError> {
        if text.len() > entry::KEY_BYTES_MAX {
            return Ok(Vec::new());
        }
        self.shared.read(|db| {
            let keys = db.scan_prefix(term_prefix(kind, text)).keys();
            keys.map(|key| parse_record_key(&key?).ok_or(IndexError::Entry)).collect()
        })
    }

    /// The bytes of an entry, whose length stands in front of them.
    fn piece(&self, row: &Row, place: Place) -> Result<Vec<u8>, StoreError> {
        let mut bytes = self.shared.files.bytes(place.segment, place.offset - 4, place.len + 4)?;
        match bytes.starts_with(&place.len.to_le_bytes()) {
            true => Ok(bytes.split_off(4)),
            false => Err(damaged(row, place)),
        }
    }
}

fn damaged(row: &Row, place: Place) -> StoreError {
    let (segment, offset, until) = (place.segment, place.offset, place.offset + place.len);
    StoreError::Damaged(vec![Damage { segment, offset, until, what: "changed".into(), records: vec![(row.feed, row.seq)] }])
}
