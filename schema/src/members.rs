//! Member lists: an association signs which organisations are its members, so that whoever trusts it knows theirs.
//!
//! One list a statement, whole each time; its sequence number says which is newer. The file carries the association's
//! org feed, so it verifies alone, under the same rule as a bundle: nothing in it is unsigned.

use std::collections::BTreeMap;

use crate::bundle::OrgPart;
use crate::codec::{self, CodecError, Fields, Value};
use crate::cose::Signer;
use crate::file::{self, Form};
use crate::id::{Origin, PartyId};
use crate::org::{Org, OrgError, Role};
use crate::statement::{self, Body, Place, StatementError, Type, Unverified};

const FILE: Form = Form { title: "lotline members", other: "this is not a Lotline member list", newer: "a member list of another version" };
const FEED: &str = "members";
const TEXT_BYTES_MAX: usize = 255;
const IDS_MAX: usize = 32;
const FORM: CodecError = CodecError::Shape("a member list out of form");

/// An organisation on a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// By the root it was founded with.
    pub party: PartyId,
    /// Its name, as the association knows it.
    pub name: String,
    /// Registered ids by kind: `BPN`, `DUNS`, `VAT`.
    pub ids: BTreeMap<String, String>,
}

/// The members of an association.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members {
    /// The association's name.
    pub association: String,
    /// Its members, ascending by party, none twice.
    pub members: Vec<Member>,
    /// The first second at which it no longer holds, since 1970; rules take members only from a list that says so.
    pub until: Option<u64>,
}

/// A list that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// Not such a file, or damaged.
    #[error(transparent)]
    Shape(#[from] CodecError),
    /// The association's org feed does not hold.
    #[error(transparent)]
    Org(#[from] OrgError),
    /// No statement of ours, or its signature does not hold.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Of another organisation.
    #[error("it is not a member list of that organisation")]
    Elsewhere,
    /// Signed by a key that may not.
    #[error("key {0} may not sign member lists at this place")]
    Key(String),
}

/// A list that holds.
#[derive(Clone, Debug)]
pub struct OpenedMembers {
    /// The association.
    pub by: Org,
    /// Its number: a higher one is newer.
    pub number: u64,
    /// Its day, in seconds since 1970, as claimed.
    pub day: u64,
    /// The members.
    pub list: Members,
}

/// The file: the association's org feed and the signed list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MembersFile {
    /// Org feed of the association.
    pub org: OrgPart,
    /// The signed list.
    pub core: Vec<u8>,
}

impl Members {
    /// A list in its one order; none when a member is on it twice or a text is no line.
    pub fn new(association: impl Into<String>, mut members: Vec<Member>) -> Result<Members, CodecError> {
        members.sort_by_key(|member| member.party);
        let list = Members { association: association.into(), members, until: None };
        list.check()?;
        Ok(list)
    }

    /// The same list, holding until this second.
    pub fn with_end(self, until: u64) -> Members {
        Members { until: Some(until), ..self }
    }

    fn check(&self) -> Result<(), CodecError> {
        let plain = |text: &str| !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control);
        let fits = |member: &Member| {
            plain(&member.name) && member.ids.len() <= IDS_MAX && member.ids.iter().all(|(kind, id)| plain(kind) && plain(id))
        };
        let ascending = self.members.windows(2).all(|pair| pair[0].party < pair[1].party);
        if plain(&self.association) && ascending && self.members.iter().all(fits) { Ok(()) } else { Err(FORM) }
    }

    /// Signs it with the record key of the association, under its next number.
    pub fn seal(
        &self,
        by: PartyId,
        number: u64,
        now: u64,
        signer: &Signer,
        random: impl FnMut(&mut [u8]),
    ) -> Result<Vec<u8>, StatementError> {
        let place = Place { origin: origin(by), seq: number, now, supersedes: None };
        let member = |member: &Member| {
            let ids = member.ids.iter().map(|(kind, id)| (codec::text(kind.as_str()), codec::text(id.as_str()))).collect();
            codec::array([codec::text(member.party.to_string()), codec::text(member.name.as_str()), Value::Map(ids)])
        };
        let end = self.until.map(|until| (3, codec::uint(until)));
        let entry = codec::map(
            [(1, codec::text(self.association.as_str())), (2, codec::array(self.members.iter().map(member)))].into_iter().chain(end),
        );
        Ok(statement::seal_entry(Type::Members, entry, &place, signer, random)?.core)
    }

    fn read(entry: &Value) -> Result<Members, CodecError> {
        let mut fields = Fields::of(entry.clone())?;
        let text = |value: &Value| codec::as_text(value).map(str::to_owned).ok_or(FORM);
        let member = |item: &Value| match codec::as_array(item).unwrap_or_default() {
            [party, name, Value::Map(ids)] => Ok(Member {
                party: text(party)?.parse().map_err(|_| FORM)?,
                name: text(name)?,
                ids: ids.iter().map(|(kind, id)| Ok((text(kind)?, text(id)?))).collect::<Result<_, CodecError>>()?,
            }),
            _ => Err(FORM),
        };
        let association = fields.text(1, "a member list of nobody")?;
        let members = fields.array(2, "a member list without members")?.iter().map(member).collect::<Result<_, _>>()?;
        let until = fields.take(3).map(|end| codec::as_uint(&end).ok_or(FORM)).transpose()?;
        fields.end()?;
        let list = Members { association, members, until };
        list.check()?;
        Ok(list)
    }
}

impl MembersFile {
    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        file::write(&FILE, &self.org, &self.core)
    }

    /// Reads the file strictly; signatures are for [`MembersFile::open`].
    pub fn read(bytes: &[u8]) -> Result<MembersFile, CodecError> {
        let (org, core) = file::read(&FILE, bytes)?;
        Ok(MembersFile { org, core })
    }

    /// Verifies everything in it. Whether the association is trusted is the reader's to say.
    pub fn open(&self) -> Result<OpenedMembers, MembersError> {
        let (by, _) = self.org.open()?;
        let unverified = Unverified::read(&self.core)?;
        let (claims, origin) = (unverified.claims(), origin(by.party()));
        if claims.typ != Type::Members || claims.issuer != by.issuer() || claims.origin != origin.as_str() {
            return Err(MembersError::Elsewhere);
        }
        let (kid, number, day) = (claims.kid, claims.seq, claims.day);
        let key = by.key_for(Role::Record, &kid, origin.as_str(), number).ok_or_else(|| MembersError::Key(kid.short()))?;
        let verified = unverified.verify(key)?;
        match &verified.claims().body {
            Body::Entry(entry) => Ok(OpenedMembers { list: Members::read(entry)?, number, day, by }),
            Body::Slots(..) => Err(MembersError::Elsewhere),
        }
    }
}

fn origin(by: PartyId) -> Origin {
    Origin::new(by, FEED, 1).expect("a fixed name")
}
