//! Forgetting: disclosures go from the journal for good, and with them everything that was shown of their records. What is
//! signed stays: the core with the digests of all slots, the leaf, the tree. It knows nothing of what slots mean.
//!
//! ```text
//! 1  roll     a new segment, listed in the manifest with `forgets N`
//! 2  order    one or more commits of `Forgotten` entries in it: durable, and in no way to be taken back
//! 3  blank    each closed segment before N that holds such a slot, or shows such a record, is replaced
//! 4  copies   from before an upgrade removed; the index too, and one that was set aside: sled keeps what it once held
//! 5  done     the manifest says `forgets none`
//! 6  rebuild  the index, from the journal
//! ```
//!
//! Killed before 2, nothing was ordered. Killed between two of its commits, what the first ones name. Killed after it, opening does 3 to 6 before anything is read: each step may be
//! done twice. A failure of the disk in 3 to 5 leaves the same to the next start, and the slots are closed until then.

use std::collections::BTreeSet;
use std::path::Path;

use super::{
    Batch, INDEX, Store, StoreError, before,
    entry::{self, Orders},
    error::io_error,
    follower,
    frame::HEAD_BYTES,
    index::Index,
    journal::{Files, step},
    manifest::Forgets,
};

impl Store {
    /// Forgets slots of records: `orders` hold `Entry::Forgotten` and the state that goes with it, each batch one commit. Returns when
    /// nothing of them is in any file of the store, and the index is level again; until then reads answer `Rebuilding`.
    pub fn forget(&mut self, orders: Vec<Batch>) -> Result<(), StoreError> {
        // An earlier one that failed on the way goes first: its segment must not be followed by another before it is done.
        self.shared.settle()?;
        self.shared.wait_checked();
        let shared = self.shared.clone();
        let Ok(_still) = shared.files.still.try_write() else { return Err(StoreError::Copying) };
        if let Forgets::Pending(first) = shared.files.forgets() {
            self.carry_out_live(first)?;
        }
        if orders.iter().all(Batch::is_empty) {
            return Ok(());
        }
        self.refuse_damaged(&orders)?;
        let first = self.journal.begin_forgetting()?;
        for (nth, order) in orders.into_iter().enumerate() {
            let written = step().map_err(io_error("write", shared.folder())).and_then(|()| self.commit(order).map(drop));
            // Behind the first commit there is no way back.
            written.map_err(|e| if nth == 0 { e } else { StoreError::Ordered(Box::new(e)) })?;
        }
        self.carry_out_live(first).map_err(|e| StoreError::Ordered(Box::new(e)))
    }

    /// What cannot be read cannot be blanked: a segment that holds something of this must be whole. Damage elsewhere is in the
    /// way as long as the index shows what stood there, since it would be gone from the new one.
    fn refuse_damaged(&self, orders: &[Batch]) -> Result<(), StoreError> {
        let (mut wanted, mut holding) = (Orders::new(), BTreeSet::new());
        orders.iter().for_each(|order| entry::orders(&order.bytes[HEAD_BYTES..], &mut wanted));
        let found = self.shared.files.walk(self.shared.files.start(), self.journal.end, |at, _, body| {
            if entry::blank(&mut body.to_vec(), &wanted) == Some(true) {
                holding.insert(at.segment);
            }
            true
        });
        let mut in_the_way = Vec::new();
        for damage in found? {
            if holding.contains(&damage.segment) || self.shared.shows(&damage)? {
                in_the_way.push(damage);
            } else {
                tracing::warn!(%damage, "a damaged stretch of the journal stays as it is");
            }
        }
        if in_the_way.is_empty() { Ok(()) } else { Err(StoreError::Damaged(in_the_way)) }
    }

    fn carry_out_live(&mut self, first: u32) -> Result<(), StoreError> {
        let (shared, index_dir) = (self.shared.clone(), self.shared.folder().join(INDEX));
        shared.files.carry_out(first)?;
        shared.set_index_aside();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        drop(shared.take_index());
        let failed = |e: StoreError| {
            shared.fail(&e.to_string());
            e
        };
        before::remove(shared.folder()).map_err(io_error("remove copies in", shared.folder())).map_err(failed)?;
        Index::remove(&index_dir).map_err(io_error("remove", &index_dir)).map_err(failed)?;
        shared.files.carried_out().map_err(failed)?;
        let index = Index::make(&index_dir, self.cache_bytes, None).map_err(failed)?;
        let mut commits = 0;
        let counted = shared.files.walk(shared.files.start(), self.journal.end, |_, _, _| {
            commits += 1;
            true
        });
        counted.map_err(failed)?;
        shared.begin_index(index.clone(), commits);
        let generation = shared.generation();
        self.start("store-index", move |shared| follower::follow(shared, &index, generation))?;
        self.shared.settle()
    }
}

/// Carries out what was ordered and not done when the program ended, before anybody has the index open. Whether there was
/// anything.
pub(super) fn carry_out(files: &Files, dir: &Path) -> Result<bool, StoreError> {
    let Forgets::Pending(first) = files.forgets() else { return Ok(false) };
    let any = files.carry_out(first)?;
    if any {
        before::remove(dir).map_err(io_error("remove copies in", dir))?;
        let index_dir = dir.join(INDEX);
        Index::remove(&index_dir).map_err(io_error("remove", &index_dir))?;
    }
    files.carried_out()?;
    Ok(any)
}
