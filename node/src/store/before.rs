//! The store as it was before a newer program changed what an older one wrote: a copy of the journal beside it. It is there for the owner
//! who wants to go back, and goes with the next forgetting: no copy keeps what is to be gone.

use std::{fs, io, path::Path};

use super::{Progress, Store, StoreError, disk, error::io_error, journal::step};

/// Folders of copies begin like this; the change follows.
const BEFORE: &str = "before-";
/// Folders of copies that are being made.
pub(super) const COPYING: &str = "copying-";

impl Store {
    /// Copies the journal into the folder `before-CHANGE` of the store; it is durable when this returns. To be called before the first
    /// commit that an older program does not understand or would miss something after. A copy that is there already is from before the
    /// change began, and stays.
    pub fn copy_before(&self, change: &str, progress: &dyn Fn(Progress)) -> Result<(), StoreError> {
        let dir = self.shared.folder();
        let (copying, copy) = (dir.join(format!("{COPYING}{change}")), dir.join(format!("{BEFORE}{change}")));
        if copy.exists() {
            return Ok(());
        }
        self.reader().copy_for_backup(&copying, progress)?;
        disk::sync_dir(&copying).map_err(io_error("sync", &copying))?;
        step().and_then(|()| fs::rename(&copying, &copy)).and_then(|()| disk::sync_dir(dir)).map_err(io_error("keep", &copy))?;
        tracing::info!(copy = %copy.display(), "the store was copied as it is before it is changed");
        Ok(())
    }
}

/// Removes every copy, and what is left of one.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if [BEFORE, COPYING].iter().any(|of| name.to_string_lossy().starts_with(of)) {
            step()?;
            fs::remove_dir_all(entry.path())?;
        }
    }
    disk::sync_dir(dir)
}
