//! A bundle: packages and the org feeds behind them in one file, for an auditor with no network and no account.
//!
//! Nothing in it is unsigned but the order: unknown parts are refused, so that no altered byte goes unnoticed. Of a
//! cosignature only its witness is lost when it is altered: the rest stands without it.

use crate::codec::{self, CodecError, Fields, Value};
use crate::id::{Hash, PartyId};
use crate::note::Cosigned;
use crate::org::{Org, OrgError};
use crate::statement::Unverified;
use crate::view::Package;

const MAGIC: &str = "lotline bundle";
/// The version we write; version 1, without evidence by others, is read too.
const VERSION: u64 = 2;
/// Any other file.
pub const NOT_A_BUNDLE: CodecError = CodecError::Shape("this is not a Lotline bundle");
/// The largest bundle we read, in bytes.
pub const BUNDLE_BYTES_MAX: usize = 1 << 30;

/// An organisation's whole org feed, as carried in a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrgPart {
    /// Its entries, in order.
    pub entries: Vec<Vec<u8>>,
    /// Its checkpoint.
    pub checkpoint: String,
}

/// How the checkpoints of one feed hang together: its newest size here, and a consistency proof from each older one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// Origin of the feed, as text.
    pub origin: String,
    /// The newest size.
    pub size: u64,
    /// Older sizes, ascending, each with its consistency proof to the newest.
    pub older: Vec<(u64, Vec<Hash>)>,
}

/// Everything an auditor needs about some records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bundle {
    /// The org feeds of issuers, and of those who signed receipts or vouchers.
    pub orgs: Vec<OrgPart>,
    /// The records.
    pub packages: Vec<Package>,
    /// Verifier keys of the witnesses that cosigned, ascending: which key made a line, not whose it is.
    pub witnesses: Vec<String>,
    /// How checkpoints of different sizes hang together.
    pub histories: Vec<History>,
    /// Delivery receipts.
    pub deliveries: Vec<Vec<u8>>,
    /// Vouchers.
    pub vouchers: Vec<Vec<u8>>,
    /// Whether it was written as version 1, which had no evidence by others.
    pub first_version: bool,
}

impl OrgPart {
    /// An org feed with its newest checkpoint.
    pub fn of(org: &Org, checkpoint: &str) -> OrgPart {
        OrgPart { entries: org.entries().to_vec(), checkpoint: checkpoint.into() }
    }
}

impl Bundle {
    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let list = |items: &[Vec<u8>]| codec::array(items.iter().map(|item| codec::bytes(item.as_slice())));
        let mut parts = vec![
            (0, codec::text(MAGIC)),
            (1, codec::uint(if self.first_version { 1 } else { VERSION })),
            (2, codec::array(self.orgs.iter().map(OrgPart::to_value))),
            (3, codec::array(self.packages.iter().map(Package::to_value))),
        ];
        let witnesses = codec::array(self.witnesses.iter().map(|key| codec::text(key.as_str())));
        let evidence = [
            (4, self.witnesses.is_empty(), witnesses),
            (5, self.histories.is_empty(), codec::array(self.histories.iter().map(History::to_value))),
            (6, self.deliveries.is_empty(), list(&self.deliveries)),
            (7, self.vouchers.is_empty(), list(&self.vouchers)),
        ];
        parts.extend(evidence.into_iter().filter(|(_, empty, _)| !empty).map(|(key, _, value)| (key, value)));
        codec::encode(&codec::map(parts))
    }

    /// Reads the file strictly. Says nothing about signatures: that is [`crate::verify::verify`].
    pub fn read(bytes: &[u8]) -> Result<Bundle, CodecError> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(CodecError::Shape("a bundle larger than 1 GiB"));
        }
        // Looked at first, so that any other file is told apart from a damaged bundle.
        if !is_titled(bytes, MAGIC) {
            return Err(NOT_A_BUNDLE);
        }
        let mut fields = Fields::of(codec::decode(bytes)?)?;
        fields.text(0, "no title")?;
        let version = fields.uint(1, "no version")?;
        if version == 0 || version > VERSION {
            return Err(CodecError::Newer("a bundle of another version"));
        }
        let orgs = fields.array(2, "no org feeds")?.into_iter().map(OrgPart::read).collect::<Result<_, _>>()?;
        let packages =
            fields.array(3, "no packages")?.into_iter().map(|package| Package::read(package, version)).collect::<Result<_, _>>()?;
        let mut bundle = Bundle { orgs, packages, first_version: version == 1, ..Bundle::default() };
        if version > 1 {
            bundle.witnesses = evidence(&mut fields, 4, |item| codec::as_text(&item).map(str::to_owned).ok_or(EVIDENCE))?;
            bundle.histories = evidence(&mut fields, 5, History::read)?;
            bundle.deliveries = evidence(&mut fields, 6, byte_string)?;
            bundle.vouchers = evidence(&mut fields, 7, byte_string)?;
        }
        fields.end()?;
        Ok(bundle)
    }
}

/// Whether bytes begin like a map whose first entry is this title under 0.
pub(crate) fn is_titled(bytes: &[u8], title: &str) -> bool {
    let mut start = vec![0x00];
    codec::put_text(&mut start, title);
    bytes.first().is_some_and(|head| head >> 5 == 5) && bytes[1..].starts_with(&start)
}

const EVIDENCE: CodecError = CodecError::Shape("evidence out of form");

/// A list that is there only when it holds something.
fn evidence<T>(fields: &mut Fields, key: i64, read: impl Fn(Value) -> Result<T, CodecError>) -> Result<Vec<T>, CodecError> {
    match fields.take(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) if !items.is_empty() => items.into_iter().map(read).collect(),
        Some(_) => Err(EVIDENCE),
    }
}

fn byte_string(item: Value) -> Result<Vec<u8>, CodecError> {
    if let Value::Bytes(bytes) = item { Ok(bytes) } else { Err(EVIDENCE) }
}

impl History {
    fn to_value(&self) -> Value {
        let older = |(size, path): &(u64, Vec<Hash>)| {
            codec::array([codec::uint(*size), codec::array(path.iter().map(|hash| codec::bytes(hash.0)))])
        };
        codec::map([(1, codec::text(self.origin.as_str())), (2, codec::uint(self.size)), (3, codec::array(self.older.iter().map(older)))])
    }

    fn read(value: Value) -> Result<History, CodecError> {
        const FORM: CodecError = CodecError::Shape("a history out of form");
        let mut fields = Fields::of(value)?;
        let older = |item: Value| match codec::as_array(&item).unwrap_or_default() {
            [size, Value::Array(path)] if path.len() <= 64 => {
                let path = path.iter().map(|hash| codec::as_bytes(hash).and_then(Hash::from_slice)).collect::<Option<_>>();
                Ok((codec::as_uint(size).ok_or(FORM)?, path.ok_or(FORM)?))
            }
            _ => Err(FORM),
        };
        let history = History {
            origin: fields.text(1, "a history of no feed")?,
            size: fields.uint(2, "a history without a size")?,
            older: fields.array(3, "a history without older sizes")?.into_iter().map(older).collect::<Result<Vec<_>, _>>()?,
        };
        fields.end()?;
        let ascending = history.older.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let below = history.older.last().is_some_and(|(size, _)| *size < history.size);
        if ascending && below { Ok(history) } else { Err(FORM) }
    }
}

impl OrgPart {
    pub(crate) fn to_value(&self) -> Value {
        codec::map([
            (1, codec::array(self.entries.iter().map(|entry| codec::bytes(entry.as_slice())))),
            (2, codec::text(self.checkpoint.as_str())),
        ])
    }

    /// Reads one.
    pub(crate) fn read(value: Value) -> Result<OrgPart, CodecError> {
        let mut fields = Fields::of(value)?;
        let entry = |item| if let Value::Bytes(bytes) = item { Some(bytes) } else { None };
        let entries = fields.array(1, "an org feed without entries")?.into_iter().map(entry).collect::<Option<_>>();
        let checkpoint = fields.text(2, "an org feed without a checkpoint")?;
        fields.end()?;
        Ok(OrgPart { entries: entries.ok_or(CodecError::Shape("an org entry that is no byte string"))?, checkpoint })
    }

    /// The organisation it is of and states, checked whole, with its cosigned checkpoint.
    pub fn open(&self) -> Result<(Org, Cosigned), OrgError> {
        let first = self.entries.first().ok_or(OrgError::Empty)?;
        let unverified = Unverified::read(first).map_err(|source| OrgError::Statement { seq: 0, source })?;
        let party: PartyId = unverified.claims().issuer.parse().map_err(|_| OrgError::Rule(0, "names no issuer"))?;
        let org = Org::from_parts(party, self.entries.iter().cloned(), &self.checkpoint)?;
        let cosigned = org.check(&self.checkpoint)?;
        Ok((org, cosigned))
    }
}
