//! Signed files: one statement and the org feed that vouches for its key, so that it verifies alone.
//!
//! Member lists, requests for a delegation and requirements travel in this one form: `{0: title, 1: version, 2: [org feed],
//! 3: statement}`. What the statement says is for its own module.

use crate::bundle::{OrgPart, is_titled};
use crate::codec::{self, CodecError, Fields};
use crate::id::Origin;
use crate::org::Org;
use crate::statement::Place;

const VERSION: u64 = 1;
/// The largest file that is read, in bytes: an org feed and one statement.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;

/// What tells one form of file from the others.
pub(crate) struct Form {
    /// Its first words.
    pub(crate) title: &'static str,
    /// What is said of a file that is none.
    pub(crate) other: &'static str,
    /// What is said of one of a later version.
    pub(crate) newer: &'static str,
}

/// The file.
pub(crate) fn write(form: &Form, org: &OrgPart, core: &[u8]) -> Vec<u8> {
    codec::encode(&codec::map([
        (0, codec::text(form.title)),
        (1, codec::uint(VERSION)),
        (2, codec::array([org.to_value()])),
        (3, codec::bytes(core)),
    ]))
}

/// Reads it strictly. Says nothing about signatures.
pub(crate) fn read(form: &Form, bytes: &[u8]) -> Result<(OrgPart, Vec<u8>), CodecError> {
    if bytes.len() > BYTES_MAX || !is_titled(bytes, form.title) {
        return Err(CodecError::Shape(form.other));
    }
    let mut fields = Fields::of(codec::decode(bytes)?)?;
    fields.text(0, "no title")?;
    if fields.uint(1, "no version")? != VERSION {
        return Err(CodecError::Newer(form.newer));
    }
    let mut orgs = fields.array(2, "no org feed")?;
    let org = orgs.pop().filter(|_| orgs.is_empty()).ok_or(CodecError::Shape("not the one org feed of who signed"))?;
    let (org, core) = (OrgPart::read(org)?, fields.bytes(3, "no statement")?);
    fields.end()?;
    Ok((org, core))
}

/// The next place of the signer's org feed, which a statement in a file never takes: that place decides which key is good.
pub(crate) fn next_place(by: &Org, now: u64) -> Place {
    Place { origin: Origin::org(by.party()), seq: by.size(), now, supersedes: None }
}
