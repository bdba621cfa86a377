//! Does the index say what the journal says? Two answers: `check`, light, runs in the background after an unclean
//! stop; `audit` compares everything. Both repair nothing.
//!
//! Why at all: a rotten sled file can open without a complaint, get single keys right and yet leave out hundreds of
//! records from a scan (6 of 158 trials), its place in the journal looking fine.
//!
//! Both look first while commits go on. If they see a difference they look again with the index held still, and only
//! what is different then counts.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    iter::Peekable,
    path::Path,
    sync::PoisonError,
};

use super::{
    Position, Progress, Step,
    before::COPYING,
    disk::lock,
    entry::{self, Item},
    error::{Damage, StoreError, io_error},
    follower::Shared,
    index::{Index, LOT, NODES, PART, RECORD, Record, STATE, guard, parse_record_key},
    journal::Frame,
    tree::{Edge, nodes_key},
};

/// Differences named in a report; the rest is counted.
const NAMED_MAX: usize = 100;
/// Cache of the second index; it is written once and read once.
const CACHE_BYTES: u64 = 16 << 20;
/// Folders of audits that were interrupted begin like this.
pub(super) const FOLDER: &str = "audit-";

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Commits read.
    pub commits: u64,
    /// Bytes of journal read.
    pub bytes: u64,
    /// Index keys compared.
    pub keys: u64,
    /// What of the journal cannot be read.
    pub damage: Vec<Damage>,
    /// Number of index keys that say something else than the journal.
    pub different: u64,
    /// The first of them in words.
    pub differences: Vec<String>,
}

impl AuditReport {
    /// Whether all is well.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.different == 0
    }
}

/// Compares everything; `shared` is level with the journal or, offline, as it was left.
pub(super) fn audit(shared: &Shared, progress: &dyn Fn(Progress)) -> Result<AuditReport, StoreError> {
    let files = &shared.files;
    // Nothing is forgotten meanwhile, or two looks would see two journals.
    let _still = files.still.read().unwrap_or_else(PoisonError::into_inner);
    let parent = shared.folder();
    let folder = tempfile::Builder::new().prefix(FOLDER).tempdir_in(parent).map_err(io_error("create a folder in", parent))?;
    let second = Index::make(folder.path(), CACHE_BYTES, None)?;
    let (mut report, mut writer) = (AuditReport::default(), second.writer());
    let mut build = |report: &mut AuditReport, from: Position, to: Position| -> Result<(), StoreError> {
        let mut failed = None;
        let total = shared.status().journal_bytes;
        let damage = files.walk(from, to, |at, next, body| {
            report.commits += 1;
            report.bytes += u64::from(next.offset - at.offset);
            progress(Progress { step: Step::Auditing, done: report.bytes.min(total), total });
            let body_at = at.offset + super::frame::HEAD_BYTES as u32;
            let frame = Frame { segment: at.segment, body_at, body: body.to_vec(), next };
            failed = writer.apply(&frame, files.store).err();
            failed.is_none()
        })?;
        report.damage.extend(damage);
        match failed {
            Some(e) => Err(StoreError::Index { path: folder.path().to_owned(), what: e.to_string() }),
            None => Ok(()),
        }
    };
    let done = shared.reached();
    build(&mut report, files.start(), done)?;
    let mut compared = shared.read(|db| guard(|| compare(db, &second.db)))?;
    if compared.different > 0 {
        let _gate = lock(&shared.gate);
        let now = shared.reached();
        if now != done {
            build(&mut report, files.advance(done), now)?;
            compared = shared.read(|db| guard(|| compare(db, &second.db)))?;
        }
    }
    Ok(AuditReport { commits: report.commits, bytes: report.bytes, damage: report.damage, ..compared })
}

/// Walks both indexes in step.
fn compare(found: &sled::Db, expected: &sled::Db) -> Result<AuditReport, sled::Error> {
    type Entries = Peekable<sled::Iter>;
    fn key(entries: &mut Entries) -> Option<sled::IVec> {
        entries.peek().and_then(|e| e.as_ref().ok()).map(|(key, _)| key.clone())
    }
    let (mut found, mut expected) = (found.iter().peekable(), expected.iter().peekable());
    let mut report = AuditReport::default();
    loop {
        let (a, b) = (key(&mut found), key(&mut expected));
        let (take_found, take_expected) = match (&a, &b) {
            (Some(a), Some(b)) => (a <= b, b <= a),
            _ => (true, true),
        };
        let left = if take_found { found.next().transpose()? } else { None };
        let right = if take_expected { expected.next().transpose()? } else { None };
        let (key, what) = match (&left, &right) {
            (None, None) => return Ok(report),
            (Some((key, a)), Some((_, b))) if a == b => (key, None),
            (Some((key, _)), Some(_)) => (key, Some("differs")),
            (Some((key, _)), None) => (key, Some("is not in the journal")),
            (None, Some((key, _))) => (key, Some("is missing")),
        };
        // Everything but the place reached, which differs while commits go on.
        report.keys += u64::from(key.len() > 1);
        if let Some(what) = what.filter(|_| key.len() > 1) {
            report.different += 1;
            if report.differences.len() < NAMED_MAX {
                report.differences.push(format!("{} {what}", words(key)));
            }
        }
    }
}

fn words(key: &[u8]) -> String {
    let record = parse_record_key(key).map_or_else(String::new, |(feed, seq)| format!("record {seq} of feed {feed}"));
    match key[0] {
        RECORD => record,
        NODES => format!("the tree at {record}"),
        LOT => format!("the lot of {record}"),
        PART => format!("the part of {record}"),
        _ => format!("state `{}`", String::from_utf8_lossy(&key[1..]).escape_debug()),
    }
}

/// The check after an unclean stop: reads the journal once (a gigabyte a second) and scans the index once. A
/// difference ends the use of the index until the next start rebuilds it; damage is reported.
pub(super) fn check(shared: &Shared) {
    let different = || -> Result<Option<&'static str>, StoreError> {
        if !shared.wait_level() {
            return Ok(None);
        }
        let (mut expected, mut done) = (Expected::default(), shared.reached());
        let damage = expected.read(shared, shared.files.start(), done)?;
        for damage in &damage {
            tracing::error!(%damage, "the journal is damaged");
        }
        shared.found_damage(&damage);
        if shared.stopping() || !damage.is_empty() {
            return Ok(None);
        }
        let scan = |expected: &Expected| shared.read(|db| guard(|| expected.differs(db)));
        let mut different = scan(&expected)?;
        if different.is_some() {
            let _still = lock(&shared.gate);
            let now = shared.reached();
            if now != done {
                expected.read(shared, shared.files.advance(std::mem::replace(&mut done, now)), now)?;
                different = scan(&expected)?;
            }
        }
        Ok(different)
    };
    match different() {
        Ok(Some(what)) if !shared.stopping() => shared.fail(what),
        Ok(_) | Err(StoreError::Rebuilding | StoreError::Closed) => {}
        Err(e) => tracing::error!(error = %e, "the check after an unclean stop did not finish"),
    }
    shared.checking(false);
}

/// What the journal says must be in the index, small enough for memory.
#[derive(Default)]
struct Expected {
    /// By feed: first sequence number of a run, and the one after its last.
    records: BTreeMap<u32, BTreeMap<u64, u64>>,
    /// Hash of key to hash of value.
    states: HashMap<u64, u64>,
}

impl Expected {
    fn read(&mut self, shared: &Shared, from: Position, to: Position) -> Result<Vec<Damage>, StoreError> {
        shared.files.walk(from, to, |_, _, body| {
            // A body with a right checksum is readable, or it would not have been applied.
            let _ = entry::items(body, |item| match item {
                Item::Record { feed, seq, .. } => self.add(feed, seq),
                Item::State { key, value: Some(value) } => drop(self.states.insert(hash(key), hash(value))),
                Item::State { key, value: None } => drop(self.states.remove(&hash(key))),
            });
            !shared.stopping()
        })
    }

    fn add(&mut self, feed: u32, seq: u64) {
        let runs = self.records.entry(feed).or_default();
        let after = seq.saturating_add(1);
        let start = match runs.range(..=seq).next_back() {
            Some((_, end)) if *end > seq => return,
            Some((start, end)) if *end == seq => *start,
            _ => seq,
        };
        let end = runs.remove(&after).unwrap_or(after);
        runs.insert(start, end);
    }

    fn differs(&self, db: &sled::Db) -> Result<Option<&'static str>, sled::Error> {
        let runs = |runs: &BTreeMap<u64, u64>| runs.iter().map(|(a, b)| (*a, *b)).collect::<Vec<_>>();
        let mut records = self.records.iter().flat_map(|(feed, r)| runs(r).into_iter().flat_map(|(a, b)| (a..b).map(|seq| (*feed, seq))));
        // Keys of lots and parts come in another order than their records: their hashes are summed.
        let (mut terms_expected, mut terms_found) = (0_u64, 0_u64);
        // So are nodes of trees, which come before the leaves they follow from.
        let (mut nodes_expected, mut nodes_found) = (0_u64, 0_u64);
        let (mut edge_of, mut edge) = (None, Edge::default());
        let mut states = 0;
        for entry in db.iter() {
            let (key, value) = entry?;
            match key[0] {
                RECORD => {
                    let place = records.next();
                    let (Some((feed, seq)), true) = (place, parse_record_key(&key) == place) else {
                        return Ok(Some("it has other records than the journal"));
                    };
                    let Some(record) = Record::decode(&value) else { return Ok(Some("a record in it is unreadable")) };
                    if let Some(leaf) = record.leaf {
                        if edge_of.replace(feed) != Some(feed) || edge.end() != seq {
                            edge = Edge::after_gap(seq);
                        }
                        let nodes = edge.push(lotline_schema::Hash(leaf));
                        if !nodes.is_empty() {
                            nodes_expected = nodes_expected.wrapping_add(hash(&[&nodes_key(feed, seq)[..], &nodes].concat()));
                        }
                    }
                    for term in record.term_keys(&key) {
                        terms_expected = terms_expected.wrapping_add(hash(&term));
                    }
                }
                NODES => nodes_found = nodes_found.wrapping_add(hash(&[&key[..], &value].concat())),
                LOT | PART => terms_found = terms_found.wrapping_add(hash(&key)),
                STATE if self.states.get(&hash(&key[1..])) != Some(&hash(&value)) => {
                    return Ok(Some("a state in it differs from the journal"));
                }
                STATE => states += 1,
                _ => {}
            }
        }
        Ok(match () {
            () if records.next().is_some() => Some("it lacks records of the journal"),
            () if nodes_expected != nodes_found => Some("its trees differ from their leaves"),
            () if terms_expected != terms_found => Some("its lots and parts differ from its records"),
            () if states != self.states.len() => Some("it lacks states of the journal"),
            () => None,
        })
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Removes the folders of interrupted audits.
pub(super) fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if [FOLDER, COPYING].iter().any(|unfinished| name.to_string_lossy().starts_with(unfinished)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
