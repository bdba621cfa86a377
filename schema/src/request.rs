//! Requests: another holder, a second site or a service provider, asks an organisation for a feed of its own.
//!
//! The file carries the asking organisation's org feed and one statement: for whom, the name of the feed, and the two
//! public keys that were made for that feed alone. What the owner then states in its org feed is a delegation
//! ([`crate::org::Entry::Delegation`]); the request is not part of any feed.

use ed25519_dalek::VerifyingKey;

use crate::bundle::OrgPart;
use crate::codec::{self, CodecError, Fields, Value};
use crate::cose::Signer;
use crate::file::{self, Form};
use crate::id::{Origin, PartyId, pure_key};
use crate::org::{Org, OrgError, PSEUDO_FEEDS, Role};
use crate::statement::{self, Body, StatementError, Type, Unverified};

const FILE: Form =
    Form { title: "lotline request", other: "this is not a request for a delegation", newer: "a request of another version" };
const FORM: CodecError = CodecError::Shape("a request out of form");

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Whose feed it is to be.
    pub owner: PartyId,
    /// Its name; which life of that name it becomes is for the owner to say.
    pub feed: String,
    /// Will sign its records.
    pub record: VerifyingKey,
    /// Will sign its checkpoints.
    pub log: VerifyingKey,
}

/// A request that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not such a file, or damaged.
    #[error(transparent)]
    Shape(#[from] CodecError),
    /// The org feed of who asks does not hold.
    #[error(transparent)]
    Org(#[from] OrgError),
    /// No statement of ours, or its signature does not hold.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Of another organisation.
    #[error("it is not a request of the organisation whose org feed it carries")]
    Elsewhere,
    /// Signed by a key that may not.
    #[error("key {0} may not sign requests at this place")]
    Key(String),
}

/// The file: the org feed of who asks, and the signed request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestFile {
    /// Org feed of who asks.
    pub org: OrgPart,
    /// The signed request.
    pub core: Vec<u8>,
}

impl Request {
    /// Signs it with the record key of who asks, for the next place of its org feed, which it never takes: that place
    /// decides which key is good.
    pub fn seal(&self, by: &Org, now: u64, signer: &Signer, random: impl FnMut(&mut [u8])) -> Result<Vec<u8>, StatementError> {
        let entry = codec::map([
            (1, codec::text(self.owner.to_string())),
            (2, codec::text(self.feed.as_str())),
            (3, codec::bytes(*self.record.as_bytes())),
            (4, codec::bytes(*self.log.as_bytes())),
        ]);
        Ok(statement::seal_entry(Type::Request, entry, &file::next_place(by, now), signer, random)?.core)
    }

    fn read(entry: &Value) -> Result<Request, CodecError> {
        let mut fields = Fields::of(entry.clone())?;
        let owner: PartyId = fields.text(1, "a request to nobody")?.parse().map_err(|_| FORM)?;
        let feed = fields.text(2, "a request for no feed")?;
        let mut key = |at| pure_key(&fields.bytes(at, "a request without its keys")?).ok_or(FORM);
        let (record, log) = (key(3)?, key(4)?);
        fields.end()?;
        let fits = Origin::new(owner, &feed, 1).is_ok() && !PSEUDO_FEEDS.contains(&feed.as_str()) && record != log;
        if fits { Ok(Request { owner, feed, record, log }) } else { Err(FORM) }
    }
}

impl RequestFile {
    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        file::write(&FILE, &self.org, &self.core)
    }

    /// Reads the file strictly; signatures are for [`RequestFile::open`].
    pub fn read(bytes: &[u8]) -> Result<RequestFile, CodecError> {
        let (org, core) = file::read(&FILE, bytes)?;
        Ok(RequestFile { org, core })
    }

    /// Verifies everything in it, and says who asks for what. Whether that is who it seems to be is the reader's to find
    /// out.
    pub fn open(&self) -> Result<(Org, Request), RequestError> {
        let (by, _) = self.org.open()?;
        let unverified = Unverified::read(&self.core)?;
        let (claims, origin) = (unverified.claims(), Origin::org(by.party()));
        let here = claims.issuer == by.issuer() && claims.origin == origin.as_str() && claims.seq == by.size();
        if claims.typ != Type::Request || !here {
            return Err(RequestError::Elsewhere);
        }
        let kid = claims.kid;
        let key = by.key_for(Role::Record, &kid, origin.as_str(), claims.seq).ok_or_else(|| RequestError::Key(kid.short()))?;
        let verified = unverified.verify(key)?;
        match &verified.claims().body {
            Body::Entry(entry) => Ok((by.clone(), Request::read(entry)?)),
            Body::Slots(..) => Err(RequestError::Elsewhere),
        }
    }
}
