//! A release: a named person countersigns a record (EN 10204 3.1 wants an inspector independent of production).
//!
//! It is an entry of the feed that holds the record, signed by the person's own key, so it has its place in the order
//! and cannot be dated back. It names the record by leaf hash and says nothing of its content.

use crate::codec::{self, CodecError, Fields, Value};
use crate::cose::Signer;
use crate::id::Hash;
use crate::statement::{self, Place, Sealed, StatementError, Type};

/// What a release says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Release {
    /// Leaf hash of the record.
    pub leaf: Hash,
    /// Its place in the same feed.
    pub seq: u64,
}

impl Release {
    /// Signs it with the person's key.
    pub fn seal(&self, place: &Place, person: &Signer, random: impl FnMut(&mut [u8])) -> Result<Sealed, StatementError> {
        let entry = codec::map([(1, codec::bytes(self.leaf.0)), (2, codec::uint(self.seq))]);
        statement::seal_entry(Type::Release, entry, place, person, random)
    }

    /// Reads the entry of a release.
    pub fn read(entry: &Value) -> Result<Release, CodecError> {
        let mut fields = Fields::of(entry.clone())?;
        let leaf =
            Hash::from_slice(&fields.bytes(1, "a release of no record")?).ok_or(CodecError::Shape("a leaf hash of another length"))?;
        let seq = fields.uint(2, "a release without the record's place")?;
        fields.end()?;
        Ok(Release { leaf, seq })
    }
}
