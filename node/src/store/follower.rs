//! The thread that brings the index up to the journal, and what all threads of an open store share.
//!
//! Frames are read back from the journal (they are in the page cache), never handed over in memory. So a normal
//! commit, the replay after a crash and a rebuild from nothing are the same loop, and a rebuild holds up nobody: only
//! once the index is level does it bound how far commits may run ahead.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError, RwLock},
};

use super::{
    Position,
    disk::{self, lock},
    error::{Damage, StoreError},
    index::{Index, IndexError, Written, guard, panic_text},
    journal::Files,
    manifest::Forgets,
};

/// Commits that may wait for the index before the next one has to wait too: enough to hide sled's pauses of tens of
/// milliseconds, few enough that read-your-write stays fast.
const WAITING_MAX: u64 = 64;

/// What the threads of an open store share.
pub(super) struct Shared {
    pub(super) files: Arc<Files>,
    /// Taken out when the store closes, since sled holds its files until the last handle goes.
    index: RwLock<Option<Index>>,
    progress: Mutex<Level>,
    changed: Condvar,
    /// Held while a frame is applied; whoever compares the index with the journal holds it to keep both still.
    pub(super) gate: Mutex<()>,
    /// Its presence asks the next start to rebuild the index.
    marker: PathBuf,
}

/// How far both are.
struct Level {
    /// Durable end of the journal.
    end: Position,
    /// Everything before it is in the index.
    reached: Position,
    /// Commits between the two.
    waiting: u64,
    phase: Phase,
    written: Written,
    /// The end is near: stop between two frames.
    stopping: bool,
    /// Counts the indexes this store has had since it was opened. A thread that writes an earlier one ends.
    generation: u64,
    /// The index is being compared with the journal after an unclean stop.
    checking: bool,
    /// Found after opening.
    damage: Vec<Damage>,
}

/// What reads may expect of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Behind the journal since the start: it would give old answers as if they were new.
    CatchingUp,
    Following,
    /// Broken until the next start.
    Failed,
}

/// How a store is doing, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Bytes saved in the journal.
    pub journal_bytes: u64,
    /// Number of journal segments.
    pub segments: usize,
    /// Commits that the index has still to take up.
    pub waiting: u64,
    /// Reads answer `Rebuilding` for now.
    pub rebuilding: bool,
    /// The index broke; it is rebuilt at the next start.
    pub index_failed: bool,
    /// The check after an unclean stop is running.
    pub checking: bool,
    /// Something was ordered to be forgotten and is not gone everywhere yet.
    pub forgetting: bool,
    /// What was written into the index since the store was opened.
    pub written: Written,
    /// Damage to the journal found after opening.
    pub damage: Vec<Damage>,
}

impl Shared {
    pub(super) fn new(files: Arc<Files>, index: Index, reached: Position, end: Position, waiting: u64, marker: PathBuf) -> Shared {
        let phase = if reached < end { Phase::CatchingUp } else { Phase::Following };
        let level = Level {
            end,
            reached,
            waiting,
            phase,
            written: Written::default(),
            stopping: false,
            generation: 0,
            checking: false,
            damage: Vec::new(),
        };
        Shared {
            files,
            index: RwLock::new(Some(index)),
            progress: Mutex::new(level),
            changed: Condvar::new(),
            gate: Mutex::new(()),
            marker,
        }
    }

    /// Reads from the index; any failure of it ends its use until the next start.
    pub(super) fn read<T>(&self, work: impl FnOnce(&sled::Db) -> Result<T, IndexError>) -> Result<T, StoreError> {
        if lock(&self.progress).phase != Phase::Following {
            return Err(StoreError::Rebuilding);
        }
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Index { db, .. }) = &*index else {
            return Err(if self.stopping() { StoreError::Closed } else { StoreError::Rebuilding });
        };
        match guard(|| Ok(work(db))).and_then(|result| result) {
            Ok(found) => Ok(found),
            Err(IndexError::Journal(e)) => Err(e),
            Err(e) => {
                self.fail(&e.to_string());
                Err(StoreError::Rebuilding)
            }
        }
    }

    /// Waits until there is room for another commit; returns at once while the index is not level or has failed.
    pub(super) fn wait_for_room(&self) {
        let full = |l: &mut Level| l.phase == Phase::Following && l.waiting >= WAITING_MAX;
        drop(self.wait_while(full));
    }

    /// Tells the follower of a commit.
    pub(super) fn committed(&self, end: Position) {
        let mut level = lock(&self.progress);
        level.end = end;
        level.waiting += 1;
        self.changed.notify_all();
    }

    /// Waits until the index has reached everything committed before the call.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        let end = lock(&self.progress).end;
        // Level is not enough: reads answer only once the phase says so, a moment later.
        let behind = |l: &mut Level| (l.reached < end || l.phase == Phase::CatchingUp) && l.phase != Phase::Failed && !l.stopping;
        let level = self.wait_while(behind);
        match level.phase {
            _ if level.reached >= end && level.phase != Phase::Failed => Ok(()),
            Phase::Failed => Err(StoreError::Rebuilding),
            _ => Err(StoreError::Closed),
        }
    }

    /// Ends the use of the index: reads answer "rebuilding", commits go on, the next start rebuilds.
    pub(super) fn fail(&self, why: &str) {
        let first = {
            let mut level = lock(&self.progress);
            self.changed.notify_all();
            std::mem::replace(&mut level.phase, Phase::Failed) != Phase::Failed
        };
        if first {
            tracing::error!(why, "the index is broken; saving goes on, it is rebuilt at the next start");
            if let Err(e) = disk::replace(&self.marker, why.as_bytes()) {
                tracing::error!(error = %e, path = %self.marker.display(), "cannot mark the index as broken");
            }
        }
    }

    /// The store's folder.
    pub(super) fn folder(&self) -> &Path {
        self.marker.parent().unwrap_or(&self.marker)
    }

    pub(super) fn phase(&self) -> Phase {
        lock(&self.progress).phase
    }

    pub(super) fn reached(&self) -> Position {
        lock(&self.progress).reached
    }

    pub(super) fn end(&self) -> Position {
        lock(&self.progress).end
    }

    pub(super) fn stopping(&self) -> bool {
        lock(&self.progress).stopping
    }

    /// Waits until the index is level with the journal; `false` when it will not be.
    pub(super) fn wait_level(&self) -> bool {
        self.wait_while(|l| l.phase == Phase::CatchingUp && !l.stopping).phase == Phase::Following
    }

    pub(super) fn checking(&self, on: bool) {
        lock(&self.progress).checking = on;
        self.changed.notify_all();
    }

    pub(super) fn found_damage(&self, damage: &[Damage]) {
        lock(&self.progress).damage.extend_from_slice(damage);
    }

    pub(super) fn status(&self) -> Status {
        let segments = self.files.listed();
        let level = lock(&self.progress);
        Status {
            journal_bytes: segments.iter().map(|l| u64::from(l.end.unwrap_or(level.end.offset))).sum(),
            segments: segments.len(),
            waiting: level.waiting,
            rebuilding: level.phase == Phase::CatchingUp,
            index_failed: level.phase == Phase::Failed,
            checking: level.checking,
            forgetting: matches!(self.files.forgets(), Forgets::Pending(_)),
            written: level.written,
            damage: level.damage.clone(),
        }
    }

    /// Asks the threads to end between two frames.
    pub(super) fn stop(&self) {
        lock(&self.progress).stopping = true;
        self.changed.notify_all();
    }

    /// Whether the index shows records that have bytes in a damaged stretch: one made anew would not.
    pub(super) fn shows(&self, damage: &Damage) -> Result<bool, StoreError> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let index = index.as_ref().ok_or(StoreError::Rebuilding)?;
        match index.records_in(damage.segment, damage.offset, damage.until) {
            Ok(shown) => Ok(!shown.is_empty()),
            Err(e) => {
                self.fail(&e.to_string());
                Err(StoreError::Rebuilding)
            }
        }
    }

    /// Takes the index out; readers find the store closed, or rebuilding, from now on.
    pub(super) fn take_index(&self) -> Option<Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Which index is in use, counted: for the thread that is started for it.
    pub(super) fn generation(&self) -> u64 {
        lock(&self.progress).generation
    }

    /// Reads answer "rebuilding" from now on, and the thread that writes the index ends.
    pub(super) fn set_index_aside(&self) {
        let mut level = lock(&self.progress);
        (level.phase, level.generation) = (Phase::CatchingUp, level.generation + 1);
        self.changed.notify_all();
    }

    /// A new, empty index that so many commits have to be taken up into.
    pub(super) fn begin_index(&self, index: Index, commits: u64) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(index);
        let mut level = lock(&self.progress);
        (level.reached, level.waiting) = (self.files.start(), commits);
        self.changed.notify_all();
    }

    /// Waits for the check after an unclean stop.
    pub(super) fn wait_checked(&self) {
        drop(self.wait_while(|l| l.checking));
    }

    fn wait_while(&self, waiting: impl FnMut(&mut Level) -> bool) -> std::sync::MutexGuard<'_, Level> {
        self.changed.wait_while(lock(&self.progress), waiting).unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread: applies frames until it is asked to stop or the index breaks. `generation` is that of its index, read before the thread
/// was started: one that read it itself could begin after its index was set aside, take the next generation for its own, and
/// never end.
pub(super) fn follow(shared: &Shared, index: &Index, generation: u64) {
    match catch_unwind(AssertUnwindSafe(|| apply_all(shared, index, generation))) {
        Ok(Ok(())) => {}
        Ok(Err(e)) => shared.fail(&e.to_string()),
        Err(panic) => shared.fail(&panic_text(&*panic)),
    }
}

fn apply_all(shared: &Shared, index: &Index, generation: u64) -> Result<(), IndexError> {
    let (mut at, mut writer) = (shared.reached(), index.writer());
    let ended = |l: &Level| l.stopping || l.phase == Phase::Failed || l.generation != generation;
    loop {
        let end = {
            let level = shared.wait_while(|l| l.end <= at && !ended(l));
            if ended(&level) {
                return Ok(());
            }
            level.end
        };
        // Held until `reached` is told as well, so that whoever holds the gate knows exactly what the index has.
        let _still = lock(&shared.gate);
        at = shared.files.advance(at);
        if at < end {
            let frame = shared.files.frame(at)?;
            writer.apply(&frame, shared.files.store)?;
            at = shared.files.advance(frame.next);
        }
        let mut level = lock(&shared.progress);
        if ended(&level) {
            return Ok(());
        }
        (level.reached, level.written) = (at, writer.written);
        level.waiting = level.waiting.saturating_sub(1);
        if level.phase == Phase::CatchingUp && at >= level.end {
            level.phase = Phase::Following;
        }
        shared.changed.notify_all();
    }
}
