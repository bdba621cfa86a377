//! The seal: which machine wrote this store and how far its journal reached, kept outside the set of files that a
//! backup copies. A seal that is missing, foreign or ahead of the journal says that the files were put here by
//! someone: the node was restored. It knows nothing of frames.
//!
//! Two slots are written in turn, in place and without a sync after each commit, so a torn write leaves the other.
//! A seal behind the journal is normal (power cut); only one ahead of it is not.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use super::{
    Position,
    disk::{read_at, write_at},
    entry::Bytes,
};

/// Distance of the two slots: a sector each.
const SLOT_APART: u64 = 512;
const SLOT_BYTES: usize = 84;
const MAGIC: &[u8; 8] = b"lotseal1";

/// Why a node counts as restored: until the owner has confirmed, it signs, sends and cosigns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoredWhy {
    /// The journal is there, its seal is not.
    SealMissing,
    /// No slot of the seal can be read.
    SealUnreadable,
    /// Written on another machine.
    OtherMachine,
    /// Belongs to another store.
    OtherStore,
    /// The seal has seen more commits than the journal holds.
    SealAhead,
    /// The index has seen more commits than the journal holds.
    IndexAhead,
}

impl fmt::Display for RestoredWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RestoredWhy::SealMissing => "the records are here but the seal that this machine keeps beside them is not",
            RestoredWhy::SealUnreadable => "the seal beside the records cannot be read",
            RestoredWhy::OtherMachine => "the records were last written on another machine",
            RestoredWhy::OtherStore => "the seal belongs to other records",
            RestoredWhy::SealAhead => "the records are older than the last ones saved here",
            RestoredWhy::IndexAhead => "the records are older than the index beside them",
        })
    }
}

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) machine: [u8; 32],
    pub(super) store: [u8; 16],
    pub(super) end: Position,
    /// Closed in good order, with the index level with the journal.
    pub(super) clean: bool,
}

/// The open file.
pub(super) struct Seal {
    file: File,
    turn: u64,
}

impl Seal {
    /// Opens or makes the file and reads its newest whole slot.
    pub(super) fn open(path: &Path) -> io::Result<(Seal, Result<Note, RestoredWhy>)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let (turn, note) = newest(&file);
        Ok((Seal { file, turn }, note))
    }

    /// Reads the newest whole slot and makes nothing.
    pub(super) fn look(path: &Path) -> Result<Note, RestoredWhy> {
        File::open(path).map_or(Err(RestoredWhy::SealMissing), |file| newest(&file).1)
    }

    /// Writes the next slot; it is durable after `sync`, or when the system gets to it.
    pub(super) fn write(&mut self, note: &Note) -> io::Result<()> {
        self.turn += 1;
        let mut slot = [0; SLOT_BYTES];
        slot[..8].copy_from_slice(MAGIC);
        slot[8..16].copy_from_slice(&self.turn.to_le_bytes());
        slot[16..48].copy_from_slice(&note.machine);
        slot[48..64].copy_from_slice(&note.store);
        slot[64..68].copy_from_slice(&note.end.segment.to_le_bytes());
        slot[68..72].copy_from_slice(&note.end.offset.to_le_bytes());
        slot[72] = note.clean.into();
        let sum = crc32c::crc32c(&slot[..SLOT_BYTES - 4]);
        slot[SLOT_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        write_at(&self.file, &slot, (self.turn % 2) * SLOT_APART)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

fn newest(file: &File) -> (u64, Result<Note, RestoredWhy>) {
    match (0..2).filter_map(|slot| read_slot(file, slot)).max_by_key(|(turn, _)| *turn) {
        Some((turn, note)) => (turn, Ok(note)),
        // An empty file was made by a start that ended before its first slot: nothing is known then either.
        None if file.metadata().is_ok_and(|m| m.len() == 0) => (0, Err(RestoredWhy::SealMissing)),
        None => (0, Err(RestoredWhy::SealUnreadable)),
    }
}

fn read_slot(file: &File, slot: u64) -> Option<(u64, Note)> {
    let mut bytes = [0; SLOT_BYTES];
    read_at(file, &mut bytes, slot * SLOT_APART).ok()?;
    let (content, sum) = bytes.split_at(SLOT_BYTES - 4);
    let mut read = Bytes { body: content, at: 0 };
    if read.take(8)? != MAGIC || crc32c::crc32c(content).to_le_bytes() != sum {
        return None;
    }
    let turn = read.u64()?;
    let (machine, store) = (read.array()?, read.array()?);
    let end = Position { segment: read.u32()?, offset: read.u32()? };
    Some((turn, Note { machine, store, end, clean: read.take(1)? == [1] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_slot_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal");
        let note = |offset| Note { machine: [1; 32], store: [2; 16], end: Position { segment: 1, offset }, clean: false };
        let (mut seal, found) = Seal::open(&path).unwrap();
        assert_eq!(found, Err(RestoredWhy::SealMissing));
        for offset in [64, 72, 80] {
            seal.write(&note(offset)).unwrap();
        }
        assert_eq!(Seal::open(&path).unwrap().1, Ok(note(80)));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[SLOT_APART as usize + 70] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Seal::open(&path).unwrap().1, Ok(note(72)), "a torn slot leaves the one before");
        bytes[70] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Seal::open(&path).unwrap().1, Err(RestoredWhy::SealUnreadable));
    }
}
