//! A bundle: packages and the org feeds behind them in one file, for an auditor with no network and no account.
//!
//! Nothing in it is unsigned but the order: unknown parts are refused, so that no altered byte goes unnoticed.

use crate::codec::{self, CodecError, Fields, Value};
use crate::org::Org;
use crate::view::Package;

const MAGIC: &str = "lotline bundle";
const VERSION: u64 = 1;
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

/// Everything an auditor needs about some records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bundle {
    /// The issuers' org feeds.
    pub orgs: Vec<OrgPart>,
    /// The records.
    pub packages: Vec<Package>,
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
        let org = |org: &OrgPart| {
            codec::map([
                (1, codec::array(org.entries.iter().map(|entry| codec::bytes(entry.as_slice())))),
                (2, codec::text(org.checkpoint.as_str())),
            ])
        };
        codec::encode(&codec::map([
            (0, codec::text(MAGIC)),
            (1, codec::uint(VERSION)),
            (2, codec::array(self.orgs.iter().map(org))),
            (3, codec::array(self.packages.iter().map(Package::to_value))),
        ]))
    }

    /// Reads the file strictly. Says nothing about signatures: that is [`crate::verify::verify`].
    pub fn read(bytes: &[u8]) -> Result<Bundle, CodecError> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(CodecError::Shape("a bundle larger than 1 GiB"));
        }
        // Looked at first, so that any other file is told apart from a damaged bundle: a map whose first entry is the title.
        if bytes.first().is_none_or(|head| head >> 5 != 5) || !bytes[1..].starts_with(&[&[0x00, 0x6e], MAGIC.as_bytes()].concat()) {
            return Err(NOT_A_BUNDLE);
        }
        let mut fields = Fields::of(codec::decode(bytes)?)?;
        fields.text(0, "no title")?;
        if fields.uint(1, "no version")? != VERSION {
            return Err(CodecError::Newer("a bundle of another version"));
        }
        let orgs = fields.array(2, "no org feeds")?.into_iter().map(read_org).collect::<Result<_, _>>()?;
        let packages = fields.array(3, "no packages")?.into_iter().map(Package::read).collect::<Result<_, _>>()?;
        fields.end()?;
        Ok(Bundle { orgs, packages })
    }
}

fn read_org(value: Value) -> Result<OrgPart, CodecError> {
    let mut fields = Fields::of(value)?;
    let entry = |item| if let Value::Bytes(bytes) = item { Some(bytes) } else { None };
    let entries = fields.array(1, "an org feed without entries")?.into_iter().map(entry).collect::<Option<_>>();
    let checkpoint = fields.text(2, "an org feed without a checkpoint")?;
    fields.end()?;
    Ok(OrgPart { entries: entries.ok_or(CodecError::Shape("an org entry that is no byte string"))?, checkpoint })
}
