//! What can go wrong with the store, in the words of its owner: what, where, and what to do about it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has this home open.
    #[error("another lotline is running on this home")]
    Locked,
    /// The files come from a later version of the program.
    #[error("this store was written by a newer Lotline (format {0}); update the program")]
    Newer(u32),
    /// A file could not be made, read or written.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No room for the next journal segment. Nothing was acknowledged, nothing is lost, reading goes on.
    #[error(
        "the disk is full: the journal needs {bytes} more bytes at `{}`; nothing was saved, free some space and try again",
        path.display()
    )]
    DiskFull {
        /// How much was asked for.
        bytes: u64,
        /// Where.
        path: PathBuf,
    },
    /// One commit must fit into one segment.
    #[error("{bytes} bytes are too many to be saved at once (at most {max}); save them in smaller parts")]
    TooBig {
        /// Size of the batch.
        bytes: usize,
        /// Room in an empty segment.
        max: usize,
    },
    /// A batch breaks a bound of the store.
    #[error("cannot save this: {0}")]
    Refused(&'static str),
    /// A write or sync failed: what is on disk is unknown, so nothing more is written until the store is opened again.
    #[error("the journal could not be written ({0}); what was saved before is safe; check the disk and restart")]
    Poisoned(String),
    /// Acknowledged commits cannot be read. Nothing was cut.
    #[error(
        "the journal is damaged: {}; restore a backup or take these records again from a partner",
        .0.iter().map(Damage::to_string).collect::<Vec<_>>().join("; ")
    )]
    Damaged(Vec<Damage>),
    /// The list of segments is missing, unreadable, or does not fit the files.
    #[error("the list of journal segments `{}` is wrong: {what}; restore it from a backup", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Forgetting changes the journal under whoever copies or compares it.
    #[error("a backup or an audit is under way; forget when it is done")]
    Copying,
    /// What is to be forgotten is on its way: ordered for good, and not carried out everywhere.
    #[error(
        "it is ordered as far as it was written, and was not carried out everywhere ({0}); the next `lotline forget` or start goes on with it"
    )]
    Ordered(Box<StoreError>),
    /// The index is behind or broken. The journal has everything, so saving goes on.
    #[error("the store is rebuilding its index; nothing is lost, try again later")]
    Rebuilding,
    /// The index cannot be made at all.
    #[error("the index at `{}` cannot be opened: {what}; check the disk and restart", path.display())]
    Index {
        /// Its folder.
        path: PathBuf,
        /// What sled said.
        what: String,
    },
    /// The tree of a feed has a hole: the index is damaged, or was not settled.
    #[error("the index lacks the hash over entries {first} to {last} of feed number {feed}; run `lotline audit`")]
    NoNode {
        /// Local number of the feed.
        feed: u32,
        /// First entry below the node.
        first: u64,
        /// Last entry below the node.
        last: u64,
    },
    /// A proof was asked for that no tree of this size has.
    #[error("feed number {feed} has {size} entries, there is no proof about {asked}; run `lotline audit`")]
    OutsideTree {
        /// Local number of the feed.
        feed: u32,
        /// Entries of the tree.
        size: u64,
        /// Entry or size asked about.
        asked: u64,
    },
    /// The store was closed while a reader was still held.
    #[error("the store is closed")]
    Closed,
}

/// A part of the journal that cannot be read although it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Number of the segment.
    pub segment: u32,
    /// First damaged byte, as far as known.
    pub offset: u32,
    /// First byte that is known to be good again.
    pub until: u32,
    /// What is wrong with it.
    pub what: String,
    /// The (feed, sequence) of the records it holds a part of, as far as known.
    pub records: Vec<(u32, u64)>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}, bytes {} to {}, {}", self.segment, self.offset, self.until, self.what)?;
        match self.records.len() {
            0 => Ok(()),
            1 => write!(f, " (1 record)"),
            n => write!(f, " ({n} records)"),
        }
    }
}

/// Names the file and the intention of a failed system call; a full disk gets its own variant.
pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { doing, path: path.to_owned(), source }
}
