//! The index: what lists, filters and lookups need, and where in the journal the bytes are, kept in sled. The only
//! place that names sled. It may be thrown away at any time: everything in it follows from the journal.
//!
//! One tree, big-endian numbers so that ranges are in order:
//!
//! ```text
//! m                           store id, index format, place reached in the journal
//! r feed seq                  record: leaf, places of core and disclosures, lot, part, summary
//! n feed seq                  tree: hashes of the perfect subtrees that this leaf completes, see `tree`
//! l length lot feed seq       nothing; p likewise for parts
//! s key                       state
//! ```
//!
//! Entries are plain `insert`s, the place reached last: a large `apply_batch` grows sled's memory without a bound
//! (measured), and applying a frame twice changes nothing, so no atomicity is needed.

use std::{
    collections::BTreeMap,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lotline_schema::Hash;

use super::{
    Position, disk,
    entry::{self, Bytes, Item, News, Shown},
    error::{StoreError, io_error},
    journal::{Frame, step},
    tree::{Trees, nodes_in, nodes_key},
};

/// Counts up when entries change their form; an index of another form is rebuilt.
const INDEX_FORMAT: u8 = 2;
/// sled's own fsync of its file; the journal is the truth, so seconds will do.
const FLUSH_EVERY_MS: u64 = 5000;
/// How long sled's threads may take to let go of a database that was closed.
const LET_GO: Duration = Duration::from_secs(10);
const META: &[u8] = b"m";
/// First byte of each kind of key.
pub(super) const RECORD: u8 = b'r';
pub(super) const LOT: u8 = b'l';
pub(super) const PART: u8 = b'p';
pub(super) const STATE: u8 = b's';
pub(super) const NODES: u8 = b'n';

/// What stops the index; the journal goes on without it.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexError {
    #[error("{0}")]
    Sled(#[from] sled::Error),
    #[error("it panicked: {0}")]
    Panic(String),
    #[error("an entry of it is unreadable")]
    Entry,
    #[error("{0}")]
    Journal(#[from] StoreError),
}

/// An open index.
#[derive(Clone)]
pub(super) struct Index {
    pub(super) db: sled::Db,
    /// Everything in the journal before it was in the index when it was opened.
    pub(super) reached: Option<Position>,
    /// Why it starts empty.
    pub(super) rebuilt: Option<String>,
}

impl Index {
    /// Opens the index in `dir`, or sets a broken or foreign one aside and makes an empty one.
    pub(super) fn open(dir: &Path, marker: &Path, cache_bytes: u64, store: [u8; 16]) -> Result<Index, StoreError> {
        let marked = fs::read_to_string(marker).ok().map(|why| why.trim().to_owned());
        if marked.is_none() && !dir.exists() {
            return Index::make(dir, cache_bytes, Some("it is missing"));
        }
        let why = match marked.map_or_else(|| Index::existing(dir, cache_bytes, store), Err) {
            Ok(index) => return Ok(index),
            Err(why) => why,
        };
        tracing::warn!(why, "the index is set aside and rebuilt from the journal");
        set_aside(dir).map_err(io_error("set aside", dir))?;
        let index = Index::make(dir, cache_bytes, Some(&why))?;
        match fs::remove_file(marker) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", marker)(e)),
            _ => Ok(index),
        }
    }

    /// Opens the index in `dir` as it is; otherwise says why it is of no use.
    pub(super) fn existing(dir: &Path, cache_bytes: u64, store: [u8; 16]) -> Result<Index, String> {
        let found = guard(|| open_db(dir, cache_bytes).and_then(|db| Ok((db.get(META)?, db.is_empty(), db))));
        match found.map_err(|e| e.to_string())? {
            (Some(meta), _, db) => Ok(Index { reached: Some(parse_meta(&meta, store)?), db, rebuilt: None }),
            // Just made, or sled took all of its log for torn: nothing to set aside.
            (None, true, db) => Ok(Index { db, reached: None, rebuilt: Some("it is empty".to_owned()) }),
            (None, false, _) => Err("its place in the journal is unknown".to_owned()),
        }
    }

    /// Flushes and syncs; whether that worked.
    pub(super) fn flush(&self, dir: &Path) -> bool {
        // sled's own flush is not power-safe, so its file is synced as well.
        let synced = || fs::File::open(dir.join("db")).and_then(|db| db.sync_all());
        guard(|| self.db.flush()).is_ok() && synced().is_ok()
    }

    /// Sets this index aside, since it does not fit the journal.
    pub(super) fn renew(self, dir: &Path, cache_bytes: u64, why: &str) -> Result<Index, StoreError> {
        tracing::warn!(why, "the index is set aside and rebuilt from the journal");
        drop(self);
        set_aside(dir).map_err(io_error("set aside", dir))?;
        Index::make(dir, cache_bytes, Some(why))
    }

    /// Removes the index in `dir`, and one that was set aside: sled keeps what it once held. Nobody has it open any more but
    /// threads of sled that are just ending.
    pub(super) fn remove(dir: &Path) -> io::Result<()> {
        let patience = Instant::now() + LET_GO;
        let held = || {
            let db = fs::File::options().read(true).write(true).open(dir.join("db"));
            db.is_ok_and(|db| matches!(db.try_lock(), Err(fs::TryLockError::WouldBlock)))
        };
        while held() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        for dir in [dir, &aside(dir)] {
            step()?;
            match fs::remove_dir_all(dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        dir.parent().map_or(Ok(()), disk::sync_dir)
    }

    /// Makes an empty index.
    pub(super) fn make(dir: &Path, cache_bytes: u64, why: Option<&str>) -> Result<Index, StoreError> {
        let failed = |e: IndexError| StoreError::Index { path: dir.to_owned(), what: e.to_string() };
        let db = guard(|| open_db(dir, cache_bytes)).map_err(failed)?;
        Ok(Index { db, reached: None, rebuilt: why.map(str::to_owned) })
    }

    /// What applies frames to it. One at a time.
    pub(super) fn writer(&self) -> Writer {
        Writer { db: self.db.clone(), trees: Trees::default(), written: Written::default() }
    }

    /// Records with bytes in this part of the journal.
    pub(super) fn records_in(&self, segment: u32, from: u32, until: u32) -> Result<Vec<(u32, u64)>, IndexError> {
        guard(|| {
            let touches = |p: &Place| p.segment == segment && p.offset < until && p.offset + p.len > from;
            let mut found = Vec::new();
            for entry in self.db.scan_prefix([RECORD]) {
                let (key, value) = entry?;
                let record = Record::decode(&value);
                if record.is_some_and(|r| r.core.iter().chain(r.opened.iter().map(|(p, _)| p)).any(touches)) {
                    found.extend(parse_record_key(&key));
                }
            }
            Ok(found)
        })
    }
}

/// Brings an index up to the journal.
pub(super) struct Writer {
    db: sled::Db,
    trees: Trees,
    pub(super) written: Written,
}

/// What was written into the index since it was opened, so that tests and benchmarks can say what an append costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Leaf hashes that were new, or others than before.
    pub leaves: u64,
    /// Hashes of nodes above the leaves.
    pub nodes: u64,
    /// Keys written or removed, of every kind.
    pub keys: u64,
}

impl Writer {
    /// Applies one frame, the place reached last.
    pub(super) fn apply(&mut self, frame: &Frame, store: [u8; 16]) -> Result<(), IndexError> {
        // All that one frame says about a record becomes one insert.
        let mut records: BTreeMap<(u32, u64), Change> = BTreeMap::new();
        let mut failed = None;
        let read = entry::items(&frame.body, |item| match item {
            Item::Record { feed, seq, news } => {
                if failed.is_none() {
                    let change = records.entry((feed, seq));
                    failed = apply_news(&self.db, change, frame, feed, seq, news).err();
                }
            }
            Item::State { key, value } => {
                let key = [&[STATE], key].concat();
                let done = match value {
                    Some(value) => self.insert(key, value),
                    None => self.remove(key),
                };
                failed = failed.take().or(done.err().map(IndexError::Sled));
            }
        });
        if let Some(e) = failed {
            return Err(e);
        }
        read.ok_or(IndexError::Entry)?;
        for ((feed, seq), change) in records {
            change.write(self, feed, seq)?;
        }
        self.insert(META, &meta(frame.next, store))?;
        Ok(())
    }

    fn insert(&mut self, key: impl AsRef<[u8]>, value: impl Into<sled::IVec>) -> Result<(), sled::Error> {
        self.count()?;
        self.db.insert(key, value).map(drop)
    }

    fn remove(&mut self, key: impl AsRef<[u8]>) -> Result<(), sled::Error> {
        self.count()?;
        self.db.remove(key).map(drop)
    }

    fn count(&mut self) -> Result<(), sled::Error> {
        #[cfg(test)]
        if STOP_AT_KEY.get() == Some(self.written.keys) {
            return Err(sled::Error::Unsupported("injected stop".to_owned()));
        }
        self.written.keys += 1;
        Ok(())
    }
}

/// Runs sled code that may panic on a broken database.
pub(super) fn guard<T>(work: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(IndexError::Sled),
        Err(panic) => Err(IndexError::Panic(panic_text(&*panic))),
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
thread_local! {
    /// The next opening on this thread panics, as sled does on some broken files.
    pub(super) static PANIC_IN_OPEN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    /// A writer on this thread stops before it writes one more than so many keys.
    pub(super) static STOP_AT_KEY: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

fn open_db(dir: &Path, cache_bytes: u64) -> Result<sled::Db, sled::Error> {
    #[cfg(test)]
    assert!(!PANIC_IN_OPEN.take(), "injected panic in open");
    let config = sled::Config::new().path(dir).cache_capacity(cache_bytes).flush_every_ms(Some(FLUSH_EVERY_MS));
    // A database closed a moment ago in this process is held by sled's own threads a little longer. That is no reason
    // to rebuild it: our lock on the home says that nobody else has it.
    let patience = Instant::now() + LET_GO;
    loop {
        match config.open() {
            Err(sled::Error::Io(e)) if e.to_string().starts_with("could not acquire lock") && Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => return opened,
        }
    }
}

/// Where a set aside index is kept: one only, for whoever wants to know why.
fn aside(dir: &Path) -> PathBuf {
    dir.with_extension("broken")
}

fn set_aside(dir: &Path) -> io::Result<()> {
    let aside = aside(dir);
    let ignore_missing = |r: io::Result<()>| r.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) });
    ignore_missing(fs::remove_dir_all(&aside))?;
    ignore_missing(fs::rename(dir, &aside))?;
    // The new one needs about as much: on a nearly full disk the rebuild matters more than the evidence.
    if disk::free_bytes(&aside).is_some_and(|free| free < 2 * disk::folder_bytes(&aside)) {
        ignore_missing(fs::remove_dir_all(&aside))?;
    }
    dir.parent().map_or(Ok(()), disk::sync_dir)
}

fn meta(reached: Position, store: [u8; 16]) -> [u8; 25] {
    let mut meta = [INDEX_FORMAT; 25];
    meta[1..17].copy_from_slice(&store);
    meta[17..21].copy_from_slice(&reached.segment.to_be_bytes());
    meta[21..].copy_from_slice(&reached.offset.to_be_bytes());
    meta
}

fn parse_meta(bytes: &[u8], store: [u8; 16]) -> Result<Position, &'static str> {
    let Some((&[format], rest)) = bytes.split_first_chunk::<1>() else { return Err("its place is unreadable") };
    let (Some((owner, place)), true) = (rest.split_first_chunk::<16>(), format == INDEX_FORMAT) else {
        return Err("it was made by another version of Lotline");
    };
    let place: [u8; 8] = place.try_into().map_err(|_| "its place is unreadable")?;
    let place = u64::from_be_bytes(place);
    match *owner == store {
        true => Ok(Position { segment: (place >> 32) as u32, offset: place as u32 }),
        false => Err("it belongs to another store"),
    }
}

/// A piece of the journal, absolute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
}

impl Place {
    fn encode(&self) -> [u8; 12] {
        let mut out = [0; 12];
        for (bytes, n) in out.chunks_exact_mut(4).zip([self.segment, self.offset, self.len]) {
            bytes.copy_from_slice(&n.to_le_bytes());
        }
        out
    }

    fn decode(read: &mut Bytes<'_>) -> Option<Place> {
        Some(Place { segment: read.u32()?, offset: read.u32()?, len: read.u32()? })
    }
}

/// Slots of a record that were forgotten together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// A bit each.
    pub slots: u64,
    /// When, in seconds since 1970.
    pub at: u64,
    /// Why, in a word or two.
    pub why: String,
}

impl Forgotten {
    fn encode(&self) -> Vec<u8> {
        [&self.slots.to_le_bytes()[..], &self.at.to_le_bytes(), &(self.why.len() as u32).to_le_bytes(), self.why.as_bytes()].concat()
    }

    fn decode(read: &mut Bytes<'_>) -> Option<Forgotten> {
        let (slots, at) = (read.u64()?, read.u64()?);
        Some(Forgotten { slots, at, why: std::str::from_utf8(read.blob()?.0).ok()?.to_owned() })
    }
}

/// What the index holds of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// `None` while only disclosures came.
    pub(super) leaf: Option<[u8; 32]>,
    pub(super) core: Option<Place>,
    /// Payloads of disclosures entries in the order they came, each with the slots it was the first to open.
    pub(super) opened: Vec<(Place, u64)>,
    /// What never opens again, in the order it was forgotten.
    pub(super) forgotten: Vec<Forgotten>,
    pub(super) lot: Option<String>,
    pub(super) part: Option<String>,
    pub(super) summary: Vec<u8>,
}

impl Record {
    /// Flags, leaf, core?, count of opened, opened, count of forgotten and forgotten if any, lot?, part?, summary.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(80 + 20 * self.opened.len() + self.summary.len());
        let some_forgotten = !self.forgotten.is_empty();
        out.push(u8::from(self.leaf.is_some()) | u8::from(self.core.is_some()) << 1 | u8::from(some_forgotten) << 2);
        out.extend_from_slice(&self.leaf.unwrap_or_default());
        if let Some(core) = &self.core {
            out.extend_from_slice(&core.encode());
        }
        out.extend_from_slice(&(self.opened.len() as u32).to_le_bytes());
        for (place, slots) in &self.opened {
            out.extend_from_slice(&place.encode());
            out.extend_from_slice(&slots.to_le_bytes());
        }
        if some_forgotten {
            out.extend_from_slice(&(self.forgotten.len() as u32).to_le_bytes());
            self.forgotten.iter().for_each(|one| out.extend_from_slice(&one.encode()));
        }
        for term in [&self.lot, &self.part] {
            out.push(term.is_some().into());
            if let Some(term) = term {
                out.extend_from_slice(&(term.len() as u32).to_le_bytes());
                out.extend_from_slice(term.as_bytes());
            }
        }
        out.extend_from_slice(&self.summary);
        out
    }

    pub(super) fn decode(value: &[u8]) -> Option<Record> {
        let mut read = Bytes { body: value, at: 0 };
        let flags = read.take(1)?[0];
        let leaf = read.array()?;
        let core = if flags & 2 != 0 { Some(Place::decode(&mut read)?) } else { None };
        let opened = (0..read.u32()?).map(|_| Some((Place::decode(&mut read)?, read.u64()?))).collect::<Option<_>>()?;
        let some_forgotten = if flags & 4 != 0 { read.u32()? } else { 0 };
        let forgotten = (0..some_forgotten).map(|_| Forgotten::decode(&mut read)).collect::<Option<_>>()?;
        let (lot, part) = (read.text()?.map(str::to_owned), read.text()?.map(str::to_owned));
        let leaf = (flags & 1 != 0).then_some(leaf);
        Some(Record { leaf, core, opened, forgotten, lot, part, summary: value[read.at..].to_vec() })
    }

    /// The leaf alone, for the Merkle tree.
    pub(super) fn leaf(value: &[u8]) -> Option<Option<[u8; 32]>> {
        let (flags, leaf) = (value.first()?, value.get(1..33)?);
        Some((flags & 1 != 0).then_some(leaf.try_into().ok()?))
    }

    fn learn(&mut self, news: News<'_>, frame: &Frame) {
        let place = |s: entry::Span| Place { segment: frame.segment, offset: frame.body_at + s.at, len: s.len };
        match news {
            // A second statement wins: that is how a copy from a partner mends one that the disk lost.
            News::Statement { leaf, core, shown } => {
                (self.leaf, self.core) = (Some(leaf), Some(place(core)));
                self.show(shown);
            }
            News::Disclosures { payload, slots } => {
                let payload = place(payload);
                let opened = self.opened.iter().fold(0, |all, (_, slots)| all | slots);
                let forgotten = self.forgotten.iter().fold(0, |all, one| all | one.slots);
                // The slots alone decide, so applying the frame again adds nothing.
                if slots & !opened & !forgotten != 0 {
                    self.opened.push((payload, slots & !opened & !forgotten));
                }
            }
            News::Forgotten { slots, at, why, shown } => {
                let one = Forgotten { slots, at, why: why.to_owned() };
                if !self.forgotten.contains(&one) {
                    self.forgotten.push(one);
                }
                // As if it had never come: so the index is the same whether this was carried out yet or not.
                self.opened.iter_mut().for_each(|(_, opened)| *opened &= !slots);
                self.opened.retain(|(_, opened)| *opened != 0);
                self.show(shown);
            }
            News::Hidden { leaf } if self.core.is_none() => self.leaf = Some(leaf),
            News::Hidden { .. } => {}
            News::Describe { shown } => self.show(shown),
        }
    }

    fn show(&mut self, shown: Shown<'_>) {
        self.summary = shown.summary.to_vec();
        (self.lot, self.part) = (shown.lot.map(str::to_owned), shown.part.map(str::to_owned));
    }

    fn terms(&self, feed: u32, seq: u64) -> impl Iterator<Item = Vec<u8>> + '_ {
        let terms = [(LOT, &self.lot), (PART, &self.part)];
        terms.into_iter().filter_map(move |(kind, text)| Some(term_key(kind, text.as_ref()?, feed, seq)))
    }

    /// The keys it is found by.
    pub(super) fn term_keys(&self, key: &[u8]) -> Vec<Vec<u8>> {
        parse_record_key(key).map_or_else(Vec::new, |(feed, seq)| self.terms(feed, seq).collect())
    }
}

/// A record as it was before a frame and as it is after it.
struct Change {
    before: Record,
    after: Record,
}

impl Change {
    // Order matters: replaying after a stop between any two of these steps must end in the same index. So terms that
    // no longer hold go before the record forgets them, nodes of the tree come before the record has the leaf, and the
    // new terms are written even if the record has them.
    fn write(self, to: &mut Writer, feed: u32, seq: u64) -> Result<(), IndexError> {
        let terms: Vec<_> = self.after.terms(feed, seq).collect();
        for old in self.before.terms(feed, seq).filter(|old| !terms.contains(old)) {
            to.remove(old)?;
        }
        if let Some(leaf) = self.after.leaf.filter(|leaf| self.before.leaf != Some(*leaf)) {
            to.written.leaves += 1;
            for (last, nodes) in to.trees.learn(&to.db, feed, seq, Hash(leaf))? {
                to.written.nodes += nodes_in(&nodes);
                to.insert(nodes_key(feed, last), nodes)?;
            }
        }
        to.insert(record_key(feed, seq), self.after.encode())?;
        for term in terms {
            to.insert(term, &[])?;
        }
        Ok(())
    }
}

fn apply_news(
    db: &sled::Db,
    change: std::collections::btree_map::Entry<'_, (u32, u64), Change>,
    frame: &Frame,
    feed: u32,
    seq: u64,
    news: News<'_>,
) -> Result<(), IndexError> {
    let change = match change {
        std::collections::btree_map::Entry::Occupied(change) => change.into_mut(),
        std::collections::btree_map::Entry::Vacant(vacant) => {
            let before = match db.get(record_key(feed, seq))? {
                Some(value) => Record::decode(&value).ok_or(IndexError::Entry)?,
                None => Record::default(),
            };
            vacant.insert(Change { after: before.clone(), before })
        }
    };
    change.after.learn(news, frame);
    Ok(())
}

/// Key of a record.
pub(super) fn record_key(feed: u32, seq: u64) -> [u8; 13] {
    numbered_key(RECORD, feed, seq)
}

/// Key of something that belongs to a place in a feed.
pub(super) fn numbered_key(kind: u8, feed: u32, seq: u64) -> [u8; 13] {
    let mut key = [kind; 13];
    key[1..5].copy_from_slice(&feed.to_be_bytes());
    key[5..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// Feed and sequence from the end of a record's or a term's key.
pub(super) fn parse_record_key(key: &[u8]) -> Option<(u32, u64)> {
    let (rest, seq) = key.split_last_chunk::<8>()?;
    let feed = rest.last_chunk::<4>()?;
    Some((u32::from_be_bytes(*feed), u64::from_be_bytes(*seq)))
}

/// What the keys of a lot or part begin with. The length in front keeps `A` from matching `AB`.
pub(super) fn term_prefix(kind: u8, text: &str) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&(text.len() as u16).to_be_bytes());
    key.extend_from_slice(text.as_bytes());
    key
}

fn term_key(kind: u8, text: &str, feed: u32, seq: u64) -> Vec<u8> {
    let mut key = term_prefix(kind, text);
    key.extend_from_slice(&feed.to_be_bytes());
    key.extend_from_slice(&seq.to_be_bytes());
    key
}
