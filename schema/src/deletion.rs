//! Deletion reports: who promised to delete something signs that it did.
//!
//! A report is a numbered statement of the *receiver*, outside of any feed's tree, in one row with its delivery receipts. It
//! names places and slots and the terms they stood under, and nothing of their content.

use crate::codec::{self, CodecError, Fields, Value};
use crate::cose::Signer;
use crate::id::{Hash, PartyId};
use crate::numbered::{self, Fault};
use crate::org::Org;
use crate::statement::{self, StatementError, Type};

const FORM: CodecError = CodecError::Shape("a deletion report out of form");

/// The most entries in one report.
pub const DELETED_ENTRIES_MAX: usize = 256;
/// The largest report we read, in bytes.
pub const DELETION_BYTES_MAX: usize = 16 * 1024;

/// What a report says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deletion {
    /// The feed whose records lost something at the receiver.
    pub origin: String,
    /// The id of the terms under which that was promised.
    pub terms: Hash,
    /// Places, ascending, and the slots that are gone, a bit each.
    pub entries: Vec<(u64, u64)>,
    /// When, by the receiver's clock, in seconds since 1970.
    pub at: u64,
}

/// A report that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeletionError {
    /// No statement of ours, or its signature does not hold.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Larger than a report may be.
    #[error("it has {0} bytes, more than {DELETION_BYTES_MAX}")]
    TooLarge(usize),
    /// Of another organisation, or no report.
    #[error("it is not a deletion report of that organisation")]
    Elsewhere,
    /// Signed by a key that may not.
    #[error("key {0} may not sign deletion reports at this place")]
    Key(String),
}

impl From<Fault> for DeletionError {
    fn from(fault: Fault) -> DeletionError {
        match fault {
            Fault::Statement(error) => error.into(),
            Fault::TooLarge(bytes) => DeletionError::TooLarge(bytes),
            Fault::Elsewhere => DeletionError::Elsewhere,
            Fault::Key(kid) => DeletionError::Key(kid.short()),
        }
    }
}

/// A report whose signature holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reported {
    /// Its number among what the receiver signs for.
    pub number: u64,
    /// What it says.
    pub deletion: Deletion,
}

impl Deletion {
    /// Signs it with the receiver's record key, under its next number.
    pub fn seal(&self, receiver: PartyId, number: u64, signer: &Signer, random: impl FnMut(&mut [u8])) -> Result<Vec<u8>, StatementError> {
        let place = numbered::place(receiver, number, self.at);
        let one = |(seq, slots): &(u64, u64)| codec::array([codec::uint(*seq), codec::uint(*slots)]);
        let entry = codec::map([
            (1, codec::text(self.origin.as_str())),
            (2, codec::bytes(self.terms.0)),
            (3, codec::array(self.entries.iter().map(one))),
            (4, codec::uint(self.at)),
        ]);
        Ok(statement::seal_entry(Type::Deletion, entry, &place, signer, random)?.core)
    }

    fn read(entry: &Value) -> Result<Deletion, CodecError> {
        let mut fields = Fields::of(entry.clone())?;
        let origin = fields.text(1, "a deletion report about no feed")?;
        let terms = Hash::from_slice(&fields.bytes(2, "a deletion report without terms")?).ok_or(FORM)?;
        let one = |value: &Value| match codec::as_array(value).unwrap_or_default() {
            [seq, slots] => codec::as_uint(seq).zip(codec::as_uint(slots)).filter(|(_, slots)| *slots != 0).ok_or(FORM),
            _ => Err(FORM),
        };
        let listed = fields.array(3, "a deletion report about nothing")?;
        if !(1..=DELETED_ENTRIES_MAX).contains(&listed.len()) {
            return Err(FORM);
        }
        let entries = listed.iter().map(one).collect::<Result<Vec<_>, _>>()?;
        let at = fields.uint(4, "a deletion report without a time")?;
        fields.end()?;
        let ascending = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if ascending { Ok(Deletion { origin, terms, entries, at }) } else { Err(FORM) }
    }
}

impl Reported {
    /// What a report says and its number, before anything is checked: for those one signed or verified oneself.
    pub fn peek(core: &[u8]) -> Option<Reported> {
        let (number, entry) = numbered::peek(core, Type::Deletion)?;
        Some(Reported { number, deletion: Deletion::read(&entry).ok()? })
    }

    /// Verifies a report against its receiver's org feed. Whose feed it is about is the caller's to compare.
    pub fn open(core: &[u8], receiver: &Org) -> Result<Reported, DeletionError> {
        let (number, entry) = numbered::open(core, receiver, Type::Deletion, DELETION_BYTES_MAX)?;
        Ok(Reported { number, deletion: Deletion::read(&entry).map_err(StatementError::from)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::org::Role;
    use crate::org::{self, Entry};

    #[test]
    fn a_report_holds_under_its_signers_keys_alone() {
        let [root, record] = [[1; 32], [2; 32]].map(|seed| Signer::from_seed(&seed));
        let party = PartyId::of(&root.public());
        let mut org = Org::new(party);
        let keys = [(Role::Record, [2; 32]), (Role::Log, [3; 32]), (Role::Transport, [4; 32]), (Role::Witness, [5; 32])];
        let keys = keys.into_iter().map(|(role, seed)| (role, Signer::from_seed(&seed).public())).collect();
        let fill = |bytes: &mut [u8]| bytes.fill(9);
        let keyring = org::seal(&org, &Entry::keyring("OEM", keys), 0, &root, fill).unwrap();
        org.accept(keyring.core).unwrap();
        let deletion = Deletion { origin: "o".into(), terms: Hash([6; 32]), entries: vec![(3, 1), (8, 1 << 62)], at: 100 };
        let core = deletion.seal(party, 7, &record, fill).unwrap();
        assert_eq!(Reported::open(&core, &org), Ok(Reported { number: 7, deletion: deletion.clone() }));
        assert_eq!(Reported::peek(&core).unwrap().deletion, deletion);
        for at in 0..core.len() {
            let mut altered = core.clone();
            altered[at] ^= 1;
            assert!(Reported::open(&altered, &org).is_err(), "byte {at}");
        }
        let by_another = deletion.seal(party, 7, &root, fill).unwrap();
        assert!(matches!(Reported::open(&by_another, &org), Err(DeletionError::Key(_))));
        let elsewhere = deletion.seal(PartyId::of(&record.public()), 7, &record, fill).unwrap();
        assert_eq!(Reported::open(&elsewhere, &org), Err(DeletionError::Elsewhere));
        assert_eq!(Reported::open(&vec![0; DELETION_BYTES_MAX + 1], &org), Err(DeletionError::TooLarge(DELETION_BYTES_MAX + 1)));
        for entries in [vec![], vec![(3, 0)], vec![(3, 1), (3, 1)], vec![(4, 1), (3, 1)], (0..257).map(|seq| (seq, 1)).collect()] {
            let core = Deletion { entries, ..deletion.clone() }.seal(party, 7, &record, fill).unwrap();
            assert!(matches!(Reported::open(&core, &org), Err(DeletionError::Statement(_))));
        }
    }
}
