//! Requirements: what a customer asks a supplier to show it, by when and what for; and the supplier's answer.
//!
//! Each is a statement in a file with the org feed of who signed it, so it verifies alone; neither stands in a feed. An
//! answer names the request by the hash of its signed bytes. What is shared is for the supplier's rules alone to say.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use crate::bundle::OrgPart;
use crate::codec::{self, CodecError, Fields, Value};
use crate::cose::Signer;
use crate::file::{self, Form};
use crate::id::{Hash, Origin, PartyId};
use crate::org::{Org, OrgError, Role};
use crate::statement::{self, Body, StatementError, Type, Unverified};

const FILE: Form = Form {
    title: "lotline requirements",
    other: "these are no requirements and no answer to them",
    newer: "requirements of another version",
};
/// The most requirements in a file: more than a quality agreement lists, and few enough to read.
pub const REQUIREMENTS_MAX: usize = 128;
/// The most kinds, parts or fields that one requirement names.
pub const NAMES_MAX: usize = 64;
/// The longest text, in bytes.
pub const TEXT_BYTES_MAX: usize = 255;
const FORM: CodecError = CodecError::Shape("requirements out of form");

/// By when a customer wants records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deadline {
    /// A first record before this second, since 1970.
    Before(u64),
    /// Each record within so many seconds of its `recorded_at`.
    EachWithin(u64),
}

/// One thing a customer asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requirement {
    /// What both sides call it.
    pub name: String,
    /// Kinds of record; empty: every kind.
    pub kinds: BTreeSet<String>,
    /// Part numbers of the maker; empty: whatever is made for the customer.
    pub parts: BTreeSet<String>,
    /// Groups and fields, as rules name them.
    pub show: BTreeSet<String>,
    /// What for, in words.
    pub purpose: String,
    /// By when.
    pub deadline: Option<Deadline>,
}

/// What a customer asks of a supplier. A request of a higher number takes the place of those before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requirements {
    /// The supplier.
    pub to: PartyId,
    /// The customer's number of it, from 1.
    pub number: u64,
    /// Each, ascending by name.
    pub wanted: Vec<Requirement>,
}

/// What a supplier says to one requirement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// These groups and fields are shared.
    Shown(BTreeSet<String>),
    /// Not shared, and why.
    Declined(String),
}

/// A supplier's answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The customer.
    pub to: PartyId,
    /// SHA-256 of the signed request.
    pub request: Hash,
    /// When, in seconds since 1970: of two answers the later one holds.
    pub at: u64,
    /// By name of the requirement, ascending.
    pub replies: Vec<(String, Reply)>,
}

/// What a file states.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stated {
    /// A request.
    Requirements(Requirements),
    /// An answer to one.
    Answer(Answer),
}

/// A file that holds.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Who signed it.
    pub by: Org,
    /// SHA-256 of the signed bytes.
    pub hash: Hash,
    /// What it states.
    pub stated: Stated,
    kid: Hash,
    seq: u64,
}

/// A file that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequirementsError {
    /// Not such a file, or damaged.
    #[error(transparent)]
    Shape(#[from] CodecError),
    /// The org feed of who signed does not hold.
    #[error(transparent)]
    Org(#[from] OrgError),
    /// No statement of ours, or its signature does not hold.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Of another organisation.
    #[error("it is not a statement of the organisation whose org feed it carries")]
    Elsewhere,
    /// Signed by a key that may not.
    #[error("key {0} may not sign requirements at this place")]
    Key(String),
}

/// The file: the org feed of who signed, and the signed request or answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequirementsFile {
    /// Org feed of who signed.
    pub org: OrgPart,
    /// The signed bytes.
    pub core: Vec<u8>,
}

/// A text on one line that is not too long.
pub fn is_plain(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)
}

fn fits(names: &BTreeSet<String>) -> bool {
    names.len() <= NAMES_MAX && names.iter().all(|name| is_plain(name))
}

impl Requirement {
    fn fits(&self) -> bool {
        let texts = is_plain(&self.name) && is_plain(&self.purpose) && !self.show.is_empty();
        texts && fits(&self.kinds) && fits(&self.parts) && fits(&self.show)
    }

    fn to_value(&self) -> Value {
        let deadline = self.deadline.map(|deadline| match deadline {
            Deadline::Before(at) => (6, codec::uint(at)),
            Deadline::EachWithin(seconds) => (6, codec::array([codec::uint(seconds)])),
        });
        let fields = [
            (1, codec::text(self.name.as_str())),
            (2, names(&self.kinds)),
            (3, names(&self.parts)),
            (4, names(&self.show)),
            (5, codec::text(self.purpose.as_str())),
        ];
        codec::map(fields.into_iter().chain(deadline))
    }

    fn read(value: Value) -> Result<Requirement, CodecError> {
        let mut fields = Fields::of(value)?;
        let name = fields.text(1, "a requirement without a name")?;
        let mut set = |at| read_names(&fields.array(at, "a requirement without its lists")?);
        let (kinds, parts, show) = (set(2)?, set(3)?, set(4)?);
        let purpose = fields.text(5, "a requirement without a purpose")?;
        let deadline = match fields.take(6) {
            None => None,
            Some(value) => Some(match (codec::as_uint(&value), codec::as_array(&value)) {
                (Some(at), _) => Deadline::Before(at),
                (_, Some([seconds])) => Deadline::EachWithin(codec::as_uint(seconds).ok_or(FORM)?),
                _ => return Err(FORM),
            }),
        };
        fields.end()?;
        Ok(Requirement { name, kinds, parts, show, purpose, deadline })
    }
}

impl Requirements {
    /// Signs it for a file.
    pub fn seal(&self, by: &Org, now: u64, signer: &Signer, random: impl FnMut(&mut [u8])) -> Result<Vec<u8>, StatementError> {
        let wanted = codec::array(self.wanted.iter().map(Requirement::to_value));
        let entry = codec::map([(1, codec::text(self.to.to_string())), (2, codec::uint(self.number)), (3, wanted)]);
        Ok(statement::seal_entry(Type::Requirements, entry, &file::next_place(by, now), signer, random)?.core)
    }

    /// Whether it can be signed: names ascending and none twice, texts on one line, within bounds.
    pub fn check(&self) -> Result<(), CodecError> {
        let ascending = self.wanted.windows(2).all(|pair| pair[0].name < pair[1].name);
        let some = (1..=REQUIREMENTS_MAX).contains(&self.wanted.len());
        if some && ascending && self.number > 0 && self.wanted.iter().all(Requirement::fits) { Ok(()) } else { Err(FORM) }
    }

    fn read(entry: &Value) -> Result<Requirements, CodecError> {
        let mut fields = Fields::of(entry.clone())?;
        let to = fields.text(1, "requirements to nobody")?.parse().map_err(|_| FORM)?;
        let number = fields.uint(2, "requirements without a number")?;
        let wanted = fields.array(3, "no requirements")?.into_iter().map(Requirement::read).collect::<Result<_, _>>()?;
        fields.end()?;
        let read = Requirements { to, number, wanted };
        read.check()?;
        Ok(read)
    }
}

impl Answer {
    /// Signs it for a file.
    pub fn seal(&self, by: &Org, now: u64, signer: &Signer, random: impl FnMut(&mut [u8])) -> Result<Vec<u8>, StatementError> {
        let reply = |(name, reply): &(String, Reply)| {
            let reply = match reply {
                Reply::Shown(show) => names(show),
                Reply::Declined(why) => codec::text(why.as_str()),
            };
            codec::array([codec::text(name.as_str()), reply])
        };
        let entry = codec::map([
            (1, codec::text(self.to.to_string())),
            (2, codec::bytes(self.request.0)),
            (3, codec::uint(self.at)),
            (4, codec::array(self.replies.iter().map(reply))),
        ]);
        Ok(statement::seal_entry(Type::Answer, entry, &file::next_place(by, now), signer, random)?.core)
    }

    /// Whether it can be signed.
    pub fn check(&self) -> Result<(), CodecError> {
        let holds = |(name, reply): &(String, Reply)| {
            is_plain(name)
                && match reply {
                    Reply::Shown(show) => !show.is_empty() && fits(show),
                    Reply::Declined(why) => is_plain(why),
                }
        };
        let ascending = self.replies.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let some = (1..=REQUIREMENTS_MAX).contains(&self.replies.len());
        if some && ascending && self.replies.iter().all(holds) { Ok(()) } else { Err(FORM) }
    }

    fn read(entry: &Value) -> Result<Answer, CodecError> {
        let mut fields = Fields::of(entry.clone())?;
        let to = fields.text(1, "an answer to nobody")?.parse().map_err(|_| FORM)?;
        let request = Hash(fields.bytes(2, "an answer to nothing")?.try_into().map_err(|_| FORM)?);
        let at = fields.uint(3, "an answer without a time")?;
        let reply = |value: &Value| match codec::as_array(value) {
            Some([name, reply]) => {
                let name = codec::as_text(name).ok_or(FORM)?.to_owned();
                let reply = match (codec::as_text(reply), codec::as_array(reply)) {
                    (Some(why), _) => Reply::Declined(why.into()),
                    (_, Some(show)) => Reply::Shown(read_names(show)?),
                    _ => return Err(FORM),
                };
                Ok((name, reply))
            }
            _ => Err(FORM),
        };
        let replies = fields.array(4, "an answer without replies")?.iter().map(reply).collect::<Result<_, CodecError>>()?;
        fields.end()?;
        let answer = Answer { to, request, at, replies };
        answer.check()?;
        Ok(answer)
    }
}

impl RequirementsFile {
    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        file::write(&FILE, &self.org, &self.core)
    }

    /// Reads the file strictly; signatures are for [`RequirementsFile::open`].
    pub fn read(bytes: &[u8]) -> Result<RequirementsFile, CodecError> {
        let (org, core) = file::read(&FILE, bytes)?;
        Ok(RequirementsFile { org, core })
    }

    /// SHA-256 of the signed bytes: what an answer names.
    pub fn hash(&self) -> Hash {
        Hash(Sha256::digest(&self.core).into())
    }

    /// Verifies everything in it. Whether that is who it seems to be is the reader's to find out.
    pub fn open(&self) -> Result<Opened, RequirementsError> {
        let (by, _) = self.org.open()?;
        let unverified = Unverified::read(&self.core)?;
        let (claims, origin) = (unverified.claims(), Origin::org(by.party()));
        let here = claims.issuer == by.issuer() && claims.origin == origin.as_str() && claims.seq == by.size();
        if !matches!(claims.typ, Type::Requirements | Type::Answer) || !here {
            return Err(RequirementsError::Elsewhere);
        }
        let (kid, seq, typ) = (claims.kid, claims.seq, claims.typ);
        let key = by.key_for(Role::Record, &kid, origin.as_str(), seq).ok_or_else(|| RequirementsError::Key(kid.short()))?;
        let verified = unverified.verify(key)?;
        let stated = match &verified.claims().body {
            Body::Entry(entry) if typ == Type::Answer => Stated::Answer(Answer::read(entry)?),
            Body::Entry(entry) => Stated::Requirements(Requirements::read(entry)?),
            Body::Slots(..) => return Err(RequirementsError::Elsewhere),
        };
        Ok(Opened { hash: self.hash(), by, stated, kid, seq })
    }
}

impl Opened {
    /// Whether the org feed that the reader holds itself still vouches for the key; one that is shorter cannot say otherwise.
    pub fn stands_under(&self, known: &Org) -> bool {
        let origin = Origin::org(known.party());
        known.party() == self.by.party()
            && (known.size() < self.by.size() || known.key_for(Role::Record, &self.kid, origin.as_str(), self.seq).is_some())
    }
}

fn names(names: &BTreeSet<String>) -> Value {
    codec::array(names.iter().map(|name| codec::text(name.as_str())))
}

/// Texts in their one order, none twice.
fn read_names(values: &[Value]) -> Result<BTreeSet<String>, CodecError> {
    let texts: Vec<String> = values.iter().map(|value| codec::as_text(value).map(str::to_owned).ok_or(FORM)).collect::<Result<_, _>>()?;
    if texts.windows(2).all(|pair| pair[0] < pair[1]) { Ok(texts.into_iter().collect()) } else { Err(FORM) }
}
