//! The store: an append-only journal is the truth, sled behind it answers queries. It knows which feed and place an
//! entry belongs to, and nothing of what statements mean.
//!
//! ```text
//! commit ──► journal: one write, one sync ──► "saved"        dir/journal/manifest, 00000001.seg …
//!               │ read back by the follower thread
//!               └──► index (sled) ──► Reader                 dir/index   (index.broken: the last one set aside)
//!            seal: machine and journal end                   dir/seal    (never in a backup)
//!            copy from before an upgrade changed it          dir/before-…
//! ```
//!
//! Reading order: `entry` (what is saved), `frame`, `journal` and `manifest` (how), `index` and `follower` (how it is
//! found), `tree` (its Merkle nodes), `reader`, `seal`, `audit`, `before`.
//!
//! **Opening** reads the journal from the segment that the index has reached on, and the last one in any case. What
//! the index lacks is applied by the follower thread after `open` returned: until it is level, reads answer
//! `Rebuilding`, since an old answer would look like a new one; commits go on. `settle` waits for it. A missing,
//! broken or foreign index is set aside and rebuilt the same way, after the whole journal was read and found good.
//!
//! **Torn or damaged?** Bytes that are no frame are a torn write, and are cut, only at the end of the last segment,
//! with no frame's head after them, and not below a place that the index or the seal has seen. Anything else is
//! damage: what the index has already taken up is reported in `Opened::damage` (lists work, the signed bytes there do
//! not), anything beyond that refuses to open, since an acknowledged record would be missing without a trace.
//! `Store::open_damaged` goes on without it, on the owner's word.
//!
//! **Forgetting** (`forget`): the order, durable, is an entry like any other, at the beginning of a segment of its own; the
//! manifest says that it is to be carried out. Then each closed segment that holds what is to be forgotten is replaced by
//! one in which it is blanked, frame by frame in the same place; copies from before an upgrade are removed, and so is the index, which
//! may have held it, and made again from the journal. Whatever is killed when, the next start carries out the rest before anybody can read.
//!
//! **A failed write or sync** closes the journal for writing until the store is opened again.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

mod audit;
mod before;
mod disk;
mod entry;
mod error;
mod follower;
mod forget;
mod frame;
mod index;
mod journal;
mod manifest;
mod reader;
mod seal;
#[cfg(test)]
mod tests;
mod tree;

pub use audit::AuditReport;
pub use entry::{Batch, Entry};
pub use error::{Damage, StoreError};
pub use follower::Status;
pub use index::{Forgotten, Written};
pub use reader::{Counts, Reader, Row};
pub use seal::RestoredWhy;
pub use tree::FeedTree;

use error::io_error;
use follower::{Phase, Shared};
use index::Index;
use journal::{Files, Journal, SEGMENT_HEAD_BYTES, Survey};
use seal::{Note, Seal};

/// The newest format of a store that this program reads. It writes the first one until something is forgotten.
const FORMAT: u32 = 2;
const JOURNAL: &str = "journal";
const INDEX: &str = "index";
/// Bounds of a segment: room for a few frames in tests, offsets that fit u32 with a wide margin.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 4096..=1 << 30;

/// Sizes of the store.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Size of a new journal segment, and so the bound of one commit. An existing segment keeps its size.
    pub segment_bytes: u64,
    /// Cache of the index.
    pub cache_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 32 << 20, cache_bytes: 64 << 20 }
    }
}

/// A place in the journal. That of a commit is its end: everything before it is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of the segment.
    pub segment: u32,
    /// Offset in it.
    pub offset: u32,
}

/// How far a long step is, in bytes of journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub step: Step,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// A step that can take long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reading the journal while opening.
    Reading,
    /// Bringing the index level with the journal; counted in commits.
    Indexing,
    /// Comparing journal and index.
    Auditing,
    /// Copying the journal.
    Copying,
}

/// What opening found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// The files were put here, not written here: sign, send and cosign nothing until the owner has confirmed.
    pub restored: Option<RestoredWhy>,
    /// Commits that the index lacks and now takes up in the background.
    pub replayed: u64,
    /// Why the index is rebuilt from the whole journal.
    pub rebuilt: Option<String>,
    /// Bytes of an unfinished, never acknowledged commit that were cut.
    pub torn_tail_bytes: u64,
    /// Parts of the journal that cannot be read; the index knows the records, their bytes are gone.
    pub damage: Vec<Damage>,
}

/// The only writer.
pub struct Store {
    journal: Journal,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    seal: Seal,
    cache_bytes: u64,
    /// What the seal says from now on; `None` until the owner of a restored store has confirmed.
    note: Option<Note>,
    _lock: File,
    // Last, so that it goes after everything in it.
    _temporary: Option<tempfile::TempDir>,
}

impl Store {
    /// Opens the store in `dir`, or makes an empty one. The caller acts on `Opened::restored` and shows the rest.
    pub fn open(dir: &Path, options: Options, progress: &dyn Fn(Progress)) -> Result<(Store, Opened), StoreError> {
        Store::open_as(dir, options, progress, false)
    }

    /// Opens a store although acknowledged commits cannot be read: they are left out and reported. For an owner who
    /// has seen the report and has no backup.
    pub fn open_damaged(dir: &Path, options: Options, progress: &dyn Fn(Progress)) -> Result<(Store, Opened), StoreError> {
        Store::open_as(dir, options, progress, true)
    }

    /// An empty store in a folder of its own that goes with it: the test double.
    pub fn temporary() -> Result<Store, StoreError> {
        let parent = std::env::temp_dir();
        let folder = tempfile::tempdir().map_err(io_error("create a folder in", &parent))?;
        let options = Options { segment_bytes: 1 << 20, cache_bytes: 4 << 20 };
        let (mut store, _) = Store::open(folder.path(), options, &|_| ())?;
        store._temporary = Some(folder);
        Ok(store)
    }

    fn open_as(dir: &Path, options: Options, progress: &dyn Fn(Progress), accept: bool) -> Result<(Store, Opened), StoreError> {
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        let lock = lock_home(dir)?;
        audit::sweep(dir);
        let segment_bytes = options.segment_bytes.clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end()) as u32;
        let files = Arc::new(Files::open(&dir.join(JOURNAL), segment_bytes)?);
        let (index_dir, marker) = (dir.join(INDEX), dir.join("rebuild"));
        let forgot = forget::carry_out(&files, dir)?;
        let mut index = Index::open(&index_dir, &marker, options.cache_bytes, files.store)?;
        if forgot {
            index.rebuilt = Some("it held what was forgotten".to_owned());
        }

        let read = |from| files.survey(from, &|done, total| progress(Progress { step: Step::Reading, done, total }));
        let mut reached = index.reached.unwrap_or(files.start());
        let mut survey = read(reached)?;
        let mut index_ahead = false;
        if !survey.knows(reached) {
            index_ahead = reached > survey.end;
            let why = if index_ahead { "it has seen more than the journal holds" } else { "its place is not in the journal" };
            index = index.renew(&index_dir, options.cache_bytes, why)?;
            reached = files.start();
            survey = read(reached)?;
        }

        let seal_path = dir.join("seal");
        let (seal, sealed) = Seal::open(&seal_path).map_err(io_error("open", &seal_path))?;
        let machine = disk::machine_id();
        let mut restored = match sealed {
            Err(RestoredWhy::SealMissing) if survey.end == files.start() => None,
            Err(why) => Some(why),
            Ok(note) if note.machine != machine => Some(RestoredWhy::OtherMachine),
            Ok(note) if note.store != files.store => Some(RestoredWhy::OtherStore),
            Ok(_) if index_ahead => Some(RestoredWhy::IndexAhead),
            Ok(_) => None,
        };
        // A foreign seal says nothing about this journal.
        let sealed = sealed.ok().filter(|_| restored.is_none());
        let torn = survey.settle_tail(reached.max(sealed.map_or(reached, |note| note.end)));
        if sealed.is_some_and(|note| note.end > survey.end) {
            restored = Some(RestoredWhy::SealAhead);
        }

        let unseen = |d: &Damage| d.offset >= SEGMENT_HEAD_BYTES && Position { segment: d.segment, offset: d.until } > reached;
        if !accept && survey.damage.iter().any(unseen) {
            return Err(StoreError::Damaged(survey.damage));
        }
        for damage in &mut survey.damage {
            if let Ok(records) = index.records_in(damage.segment, damage.offset, damage.until) {
                damage.records.extend(records);
                damage.records.sort_unstable();
                damage.records.dedup();
            }
            tracing::error!(%damage, "the journal is damaged");
        }
        files.step_over(&survey.damage);

        let journal = Journal::resume(files.clone(), survey.end, torn, segment_bytes)?;
        reached = files.advance(reached);
        let clean = restored.is_none() && sealed.is_some_and(|n| n.clean && n.end == survey.end) && reached == survey.end;
        let rebuilt = index.rebuilt.take().filter(|_| survey.frames > 0);
        let opened = Opened { restored, replayed: survey.frames, rebuilt, torn_tail_bytes: torn.into(), damage: survey.damage };
        // A rebuilt index has just been made of the journal, and an empty one has nothing to be wrong.
        let check = !clean && opened.rebuilt.is_none() && survey.end != files.start();
        let note = Note { machine, store: files.store, end: survey.end, clean: false };
        let shared = Arc::new(Shared::new(files, index.clone(), reached, survey.end, survey.frames, marker));
        let mut store = Store {
            journal,
            shared,
            threads: Vec::new(),
            seal,
            cache_bytes: options.cache_bytes,
            note: None,
            _lock: lock,
            _temporary: None,
        };
        if opened.restored.is_none() {
            store.note = Some(note);
            store.write_seal(true)?;
            disk::sync_dir(dir).map_err(io_error("sync", dir))?;
        }
        let generation = store.shared.generation();
        store.start("store-index", move |shared| follower::follow(shared, &index, generation))?;
        if check {
            store.shared.checking(true);
            store.start("store-check", audit::check)?;
        }
        Ok((store, opened))
    }

    /// Saves a batch: one frame, one write, one sync. Durable when this returns `Ok`, with its end. After an error
    /// nothing of it is acknowledged; after `Poisoned` it may still be found saved when the store is opened again.
    pub fn commit(&mut self, batch: Batch) -> Result<Position, StoreError> {
        if batch.is_empty() {
            return Ok(self.journal.end);
        }
        self.shared.wait_for_room();
        let new_segment = self.journal.append(batch)?;
        self.shared.committed(self.journal.end);
        // The commit is durable; a seal that cannot be written stays behind, which is the harmless side.
        if let Err(e) = self.write_seal(new_segment) {
            tracing::warn!(error = %e, "the seal is behind");
        }
        Ok(self.journal.end)
    }

    /// A handle for reading.
    pub fn reader(&self) -> Reader {
        Reader::new(self.shared.clone())
    }

    /// Waits until everything committed can be read.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.shared.settle()
    }

    /// The owner has confirmed that this restored store goes on here: seals it anew.
    pub fn confirm_restored(&mut self) -> Result<(), StoreError> {
        let (machine, store) = (disk::machine_id(), self.shared.files.store);
        self.note = Some(Note { machine, store, end: self.journal.end, clean: false });
        self.write_seal(true)?;
        disk::sync_dir(self.shared.folder()).map_err(io_error("sync", self.shared.folder()))
    }

    /// The orderly end: the index takes up what is waiting, everything is synced, and the next start need not check.
    /// A rebuild still running is left where it is and goes on at the next start.
    pub fn close(mut self) -> Result<(), StoreError> {
        let level = self.shared.phase() == Phase::Following && self.shared.settle().is_ok();
        let flushed = self.stop(true);
        self.journal.sync()?;
        if let Some(note) = &mut self.note {
            note.clean = level && flushed;
        }
        self.write_seal(true)
    }

    fn write_seal(&mut self, sync: bool) -> Result<(), StoreError> {
        let Some(note) = &mut self.note else { return Ok(()) };
        note.end = self.journal.end;
        let written = self.seal.write(note).and_then(|()| if sync { self.seal.sync() } else { Ok(()) });
        written.map_err(io_error("write", &self.shared.folder().join("seal")))
    }

    fn start(&mut self, name: &str, work: impl FnOnce(&Shared) + Send + 'static) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared));
        self.threads.push(thread.map_err(io_error("start a thread for", self.shared.folder()))?);
        Ok(())
    }

    /// Ends the threads and lets sled go, so that the folder can be opened again. Whether the index is on disk.
    fn stop(&mut self, flush: bool) -> bool {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let index = self.shared.take_index();
        flush && index.is_some_and(|index| index.flush(&self.shared.folder().join(INDEX)))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop(false);
    }
}

impl Survey {
    /// Whether `place` is where a frame starts or ends, or lies in a damaged stretch at the end that hides the answer.
    fn knows(&self, place: Position) -> bool {
        let in_tail = self.tail.as_ref().is_some_and(|t| place.segment == self.end.segment && (t.at..=t.until).contains(&place.offset));
        let in_damage = |d: &Damage| d.segment == place.segment && (d.offset..=d.until).contains(&place.offset);
        self.boundary || in_tail || self.damage.iter().any(in_damage)
    }

    /// Decides what the garbage at the end is, given the last place known to be acknowledged: torn, then its bytes
    /// are returned to be cut, or damage, then writing goes on after it.
    fn settle_tail(&mut self, acknowledged: Position) -> u32 {
        let Some(mut bad) = self.tail.take() else { return 0 };
        let at = Position { segment: self.end.segment, offset: bad.at };
        if !bad.certain && acknowledged <= at {
            return bad.until - bad.at;
        }
        if acknowledged.segment == at.segment {
            bad.until = bad.until.max(acknowledged.offset);
        }
        self.end.offset = bad.until;
        self.damage.push(journal::changed(at.segment, bad));
        0
    }
}

/// Compares a store that nobody has open: every commit of the journal, and the index with the journal up to the place
/// it has reached. Repairs nothing.
pub fn audit(dir: &Path, progress: &dyn Fn(Progress)) -> Result<AuditReport, StoreError> {
    let (_lock, files) = offline(dir)?;
    let mut survey = files.survey(files.start(), &|done, total| progress(Progress { step: Step::Reading, done, total }))?;
    let (index_dir, marker) = (dir.join(INDEX), dir.join("rebuild"));
    let index = Index::existing(&index_dir, Options::default().cache_bytes, files.store);
    let reached = index.as_ref().ok().and_then(|index| index.reached).unwrap_or(files.start());
    let sealed = Seal::look(&dir.join("seal")).ok().filter(|note| note.store == files.store);
    survey.settle_tail(sealed.map_or(reached, |note| note.end.max(reached)));
    let broken = |why: &str| {
        let differences = vec![format!("the index cannot be used: {why}")];
        AuditReport { different: 1, differences, ..AuditReport::default() }
    };
    let mut report = match index {
        Ok(_) if reached > survey.end => broken("it has seen more than the journal holds"),
        Ok(index) => audit::audit(&Shared::new(files, index, reached, reached, 0, marker), progress)?,
        Err(why) => broken(&why),
    };
    (report.commits, report.damage) = (survey.frames, survey.damage);
    Ok(report)
}

/// Copies the journal of a store that nobody has open into the empty or new folder `dest`; see
/// [`Reader::copy_for_backup`].
pub fn copy_for_backup(dir: &Path, dest: &Path, progress: &dyn Fn(Progress)) -> Result<u64, StoreError> {
    let (_lock, files) = offline(dir)?;
    let last = files.listed().last().map_or(files.start(), |l| Position { segment: l.number, offset: SEGMENT_HEAD_BYTES });
    let end = files.survey(last, &|_, _| ())?.end;
    files.copy(|| end, &dest.join(JOURNAL), &|done, total| progress(Progress { step: Step::Copying, done, total }))
}

fn offline(dir: &Path) -> Result<(File, Arc<Files>), StoreError> {
    let journal = dir.join(JOURNAL);
    fs::metadata(journal.join("manifest")).map_err(io_error("find a store in", dir))?;
    let lock = lock_home(dir)?;
    Ok((lock, Arc::new(Files::open(&journal, 0)?)))
}

fn lock_home(dir: &Path) -> Result<File, StoreError> {
    let path: PathBuf = dir.join("lock");
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked),
        Err(TryLockError::Error(e)) => Err(io_error("lock", &path)(e)),
    }
}
