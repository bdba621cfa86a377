//! Terms: what a receiver promises before it is shown something, and its signed acceptance.
//!
//! Terms are named by the hash of their bytes: other purposes or other obligations are other terms, and must be accepted
//! anew. An acceptance is a numbered statement of the *receiver* that says all it has accepted of one owner; the one with
//! the highest number takes the place of those before, so less in it is a withdrawal.

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::{self, CodecError, Fields, Value};
use crate::cose::Signer;
use crate::id::{Hash, PartyId};
use crate::numbered::{self, Fault};
use crate::org::Org;
use crate::statement::{self, StatementError, Type, Unverified};

const VERSION: u64 = 1;
const DAY: u64 = 86_400;
const PASS_ON_NO: &str = "no";

/// The longest name of a purpose, in characters.
pub const PURPOSE_CHARS_MAX: usize = 32;
/// The most purposes that terms name, or that a receiver states.
pub const PURPOSES_MAX: usize = 32;
/// The longest time after which something is to be deleted: a hundred years, in days.
pub const DELETE_AFTER_DAYS_MAX: u64 = 36_500;
/// The most terms that one acceptance holds.
pub const TERMS_MAX: usize = 64;
/// The largest acceptance we read, in bytes: as many terms, each with few purposes.
pub const ACCEPTANCE_BYTES_MAX: usize = 32 * 1024;

const FORM: CodecError = CodecError::Shape("terms out of form");

/// What a receiver promises. Says nothing of who asks, or for which records.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Terms {
    id: Hash,
    purposes: BTreeSet<String>,
    delete_after: Option<u64>,
    stays: bool,
}

/// Whether a text names a purpose: 1 to 32 of a to z, 0 to 9 and the hyphen.
///
/// ```
/// use lotline_schema::terms::is_purpose;
/// assert!(is_purpose("incoming-inspection") && !is_purpose("Audit") && !is_purpose(""));
/// ```
pub fn is_purpose(text: &str) -> bool {
    let plain = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
    (1..=PURPOSE_CHARS_MAX).contains(&text.len()) && text.bytes().all(plain)
}

impl Terms {
    /// Terms of these parts: purposes, after how many days what came is deleted, and whether it stays with the receiver. None
    /// when there is nothing in them, or more than there may be.
    ///
    /// ```
    /// use std::collections::BTreeSet;
    /// use lotline_schema::terms::Terms;
    /// let terms = Terms::new(BTreeSet::from(["audit".into()]), Some(90), true).unwrap();
    /// let promises = ["use it only for: audit", "delete it 90 days after receipt", "pass it on to nobody"];
    /// assert_eq!(terms.promises(), promises);
    /// assert!(Terms::new(BTreeSet::new(), None, false).is_none());
    /// ```
    pub fn new(purposes: BTreeSet<String>, delete_after_days: Option<u64>, stays: bool) -> Option<Terms> {
        let named = purposes.len() <= PURPOSES_MAX && purposes.iter().all(|purpose| is_purpose(purpose));
        let lasting = delete_after_days.is_none_or(|days| (1..=DELETE_AFTER_DAYS_MAX).contains(&days));
        let some = !purposes.is_empty() || delete_after_days.is_some() || stays;
        if !(named && lasting && some) {
            return None;
        }
        let mut terms = Terms { id: Hash([0; 32]), purposes, delete_after: delete_after_days.map(|days| days * DAY), stays };
        terms.id = Hash::of(&[&codec::encode(&terms.to_value())]);
        Some(terms)
    }

    /// SHA-256 of their bytes.
    pub fn id(&self) -> Hash {
        self.id
    }

    /// What the data may be used for; empty: nothing is said.
    pub fn purposes(&self) -> &BTreeSet<String> {
        &self.purposes
    }

    /// So many seconds after receipt the data is to be deleted.
    pub fn delete_after(&self) -> Option<u64> {
        self.delete_after
    }

    /// Whether the data must not be passed on.
    pub fn stays(&self) -> bool {
        self.stays
    }

    /// What is promised, a plain sentence each.
    pub fn promises(&self) -> Vec<String> {
        let purposes = || self.purposes.iter().map(String::as_str).collect::<Vec<_>>().join(" or ");
        let used = (!self.purposes.is_empty()).then(|| format!("use it only for: {}", purposes()));
        let deleted = self.delete_after.map(|after| match after / DAY {
            1 => "delete it 1 day after receipt".to_owned(),
            days => format!("delete it {days} days after receipt"),
        });
        used.into_iter().chain(deleted).chain(self.stays.then(|| "pass it on to nobody".to_owned())).collect()
    }

    /// As it is signed and sent.
    pub fn to_value(&self) -> Value {
        let purposes = codec::array(self.purposes.iter().map(|purpose| codec::text(purpose.as_str())));
        let after = self.delete_after.map(|after| (3, codec::uint(after)));
        let stays = self.stays.then(|| (4, codec::text(PASS_ON_NO)));
        codec::map([(1, codec::uint(VERSION)), (2, purposes)].into_iter().chain(after).chain(stays))
    }

    /// Reads its one spelling.
    pub fn read(value: &Value) -> Result<Terms, CodecError> {
        let mut fields = Fields::of(value.clone())?;
        if fields.uint(1, "terms without a version")? != VERSION {
            return Err(CodecError::Newer("terms of another version"));
        }
        let purposes = read_purposes(&fields.array(2, "terms without purposes")?)?;
        let days = |seconds: u64| if seconds.is_multiple_of(DAY) { Ok(seconds / DAY) } else { Err(FORM) };
        let after = fields.take(3).map(|after| codec::as_uint(&after).ok_or(FORM).and_then(days)).transpose()?;
        let stays = match fields.take(4) {
            None => false,
            Some(Value::Text(word)) if word == PASS_ON_NO => true,
            Some(_) => return Err(FORM),
        };
        fields.end()?;
        Terms::new(purposes, after, stays).ok_or(FORM)
    }
}

/// Texts ascending, none twice.
fn read_purposes(values: &[Value]) -> Result<BTreeSet<String>, CodecError> {
    let texts: Vec<&str> = values.iter().map(|value| codec::as_text(value).ok_or(FORM)).collect::<Result<_, _>>()?;
    let ascending = texts.windows(2).all(|pair| pair[0] < pair[1]);
    if ascending { Ok(texts.into_iter().map(str::to_owned).collect()) } else { Err(FORM) }
}

/// All that a receiver has accepted of one owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acceptance {
    /// Whose terms they are.
    pub owner: PartyId,
    /// What the receiver states that it uses the data for.
    pub purposes: BTreeSet<String>,
    /// The terms, by their ids.
    pub terms: BTreeMap<Hash, Terms>,
    /// When, by the receiver's clock, in seconds since 1970.
    pub at: u64,
}

/// An acceptance that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcceptanceError {
    /// No statement of ours, or its signature does not hold.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Larger than an acceptance may be.
    #[error("it has {0} bytes, more than {ACCEPTANCE_BYTES_MAX}")]
    TooLarge(usize),
    /// Of another organisation, or no acceptance.
    #[error("it is not an acceptance of that organisation")]
    Elsewhere,
    /// Signed by a key that may not.
    #[error("key {0} may not sign acceptances at this place")]
    Key(String),
}

impl From<Fault> for AcceptanceError {
    fn from(fault: Fault) -> AcceptanceError {
        match fault {
            Fault::Statement(error) => error.into(),
            Fault::TooLarge(bytes) => AcceptanceError::TooLarge(bytes),
            Fault::Elsewhere => AcceptanceError::Elsewhere,
            Fault::Key(kid) => AcceptanceError::Key(kid.short()),
        }
    }
}

/// An acceptance whose signature holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// Its number among what the receiver signs for: a higher one is newer.
    pub number: u64,
    /// What it says.
    pub acceptance: Acceptance,
}

impl Acceptance {
    /// Signs it with the receiver's record key, under its next number. None when it holds more than one may.
    pub fn seal(
        &self,
        receiver: PartyId,
        number: u64,
        signer: &Signer,
        random: impl FnMut(&mut [u8]),
    ) -> Result<Option<Vec<u8>>, StatementError> {
        if !self.fits() {
            return Ok(None);
        }
        let place = numbered::place(receiver, number, self.at);
        let entry = codec::map([
            (1, codec::text(self.owner.to_string())),
            (2, codec::array(self.purposes.iter().map(|purpose| codec::text(purpose.as_str())))),
            (3, codec::array(self.terms.values().map(Terms::to_value))),
            (4, codec::uint(self.at)),
        ]);
        let core = statement::seal_entry(Type::Acceptance, entry, &place, signer, random)?.core;
        Ok((core.len() <= ACCEPTANCE_BYTES_MAX).then_some(core))
    }

    fn fits(&self) -> bool {
        let purposes = self.purposes.len() <= PURPOSES_MAX && self.purposes.iter().all(|purpose| is_purpose(purpose));
        purposes && self.terms.len() <= TERMS_MAX && self.terms.iter().all(|(id, terms)| *id == terms.id())
    }

    fn read(entry: &Value) -> Result<Acceptance, CodecError> {
        let mut fields = Fields::of(entry.clone())?;
        let owner = fields.text(1, "an acceptance of nobody's terms")?.parse().map_err(|_| FORM)?;
        let purposes = read_purposes(&fields.array(2, "an acceptance without purposes")?)?;
        let listed = fields.array(3, "an acceptance without terms")?;
        if listed.len() > TERMS_MAX {
            return Err(FORM);
        }
        let listed: Vec<Terms> = listed.iter().map(Terms::read).collect::<Result<_, _>>()?;
        let at = fields.uint(4, "an acceptance without a time")?;
        fields.end()?;
        let ascending = listed.windows(2).all(|pair| pair[0].id() < pair[1].id());
        let acceptance = Acceptance { owner, purposes, terms: listed.into_iter().map(|terms| (terms.id(), terms)).collect(), at };
        if ascending && acceptance.fits() { Ok(acceptance) } else { Err(FORM) }
    }
}

impl Accepted {
    /// What an acceptance says and its number, before anything is checked: for those one signed or verified oneself.
    pub fn peek(core: &[u8]) -> Option<Accepted> {
        let (number, entry) = numbered::peek(core, Type::Acceptance)?;
        Some(Accepted { number, acceptance: Acceptance::read(&entry).ok()? })
    }

    /// Verifies an acceptance against its receiver's org feed. Whose terms it is about is the caller's to compare.
    pub fn open(core: &[u8], receiver: &Org) -> Result<Accepted, AcceptanceError> {
        let (number, entry) = numbered::open(core, receiver, Type::Acceptance, ACCEPTANCE_BYTES_MAX)?;
        Ok(Accepted { number, acceptance: Acceptance::read(&entry).map_err(StatementError::from)? })
    }

    /// Who claims to have signed it, and with which key, before anything is checked.
    pub fn claimed_by(core: &[u8]) -> Option<(PartyId, Hash)> {
        let unverified = Unverified::read(core).ok()?;
        Some((unverified.claims().issuer.parse().ok()?, unverified.claims().kid))
    }
}
