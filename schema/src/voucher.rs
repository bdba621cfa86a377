//! Vouchers: at pairing each side signs what it checked about the other, so that a third party need not ask again.

use std::collections::BTreeMap;

use crate::codec::{self, CodecError, Fields, Value};
use crate::cose::Signer;
use crate::id::{Origin, PartyId};
use crate::org::{Org, Role};
use crate::statement::{self, Body, Place, StatementError, Type, Unverified};

/// The largest voucher we read, in bytes.
pub const VOUCHER_BYTES_MAX: usize = 16 * 1024;
const FEED: &str = "vouchers";
const DAY: u64 = 86_400;
const TEXT_BYTES_MAX: usize = 1000;

/// What one organisation says it checked about another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Voucher {
    /// The organisation it is about, by the root it was founded with.
    pub party: PartyId,
    /// Its legal name.
    pub name: String,
    /// Registered ids by kind: `BPN`, `DUNS`, `VAT`.
    pub ids: BTreeMap<String, String>,
    /// How that was checked, in words.
    pub how: String,
    /// On which day, in seconds since 1970 (a multiple of 86,400).
    pub day: u64,
}

/// A voucher that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// No statement of ours, or its signature does not hold.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Of another organisation.
    #[error("it is not a voucher of that organisation")]
    Elsewhere,
    /// Signed by a key that may not.
    #[error("key {0} may not sign vouchers at this place")]
    Key(String),
}

impl Voucher {
    /// Signs it with the record key of the organisation that vouches, under its next number.
    pub fn seal(&self, by: PartyId, number: u64, signer: &Signer, random: impl FnMut(&mut [u8])) -> Result<Vec<u8>, StatementError> {
        let origin = Origin::new(by, FEED, 1).expect("a fixed name");
        let place = Place { origin, seq: number, now: self.day, supersedes: None };
        let ids = self.ids.iter().map(|(kind, id)| (codec::text(kind.as_str()), codec::text(id.as_str()))).collect();
        let entry = codec::map([
            (1, codec::text(self.party.to_string())),
            (2, codec::text(self.name.as_str())),
            (3, Value::Map(ids)),
            (4, codec::text(self.how.as_str())),
            (5, codec::uint(self.day)),
        ]);
        Ok(statement::seal_entry(Type::Voucher, entry, &place, signer, random)?.core)
    }

    /// Who claims to have signed it, before anything is checked.
    pub fn claimed_by(core: &[u8]) -> Option<PartyId> {
        Unverified::read(core).ok()?.claims().issuer.parse().ok()
    }

    /// Verifies a voucher against the org feed of the organisation that vouches.
    pub fn open(core: &[u8], by: &Org) -> Result<Voucher, VoucherError> {
        if core.len() > VOUCHER_BYTES_MAX {
            return Err(StatementError::TooLarge(core.len()).into());
        }
        let unverified = Unverified::read(core)?;
        let (claims, origin) = (unverified.claims(), Origin::new(by.party(), FEED, 1).expect("a fixed name"));
        if claims.typ != Type::Voucher || claims.issuer != by.issuer() || claims.origin != origin.as_str() {
            return Err(VoucherError::Elsewhere);
        }
        let kid = claims.kid;
        let key = by.key_for(Role::Record, &kid, origin.as_str(), claims.seq).ok_or_else(|| VoucherError::Key(kid.short()))?;
        let verified = unverified.verify(key)?;
        match &verified.claims().body {
            Body::Entry(entry) => Ok(Voucher::read(entry).map_err(StatementError::from)?),
            Body::Slots(..) => Err(VoucherError::Elsewhere),
        }
    }

    fn read(entry: &Value) -> Result<Voucher, CodecError> {
        const FORM: CodecError = CodecError::Shape("a voucher out of form");
        let mut fields = Fields::of(entry.clone())?;
        let line =
            |text: &str| if text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control) { Ok(text.to_owned()) } else { Err(FORM) };
        let (party, name) = (fields.text(1, "a voucher for nobody")?, fields.text(2, "a voucher without a name")?);
        let ids = fields.need(3, "a voucher without ids")?;
        let id = |(kind, id): (&Value, &Value)| Ok((line(codec::as_text(kind).ok_or(FORM)?)?, line(codec::as_text(id).ok_or(FORM)?)?));
        let voucher = Voucher {
            party: party.parse().map_err(|_| FORM)?,
            name: line(&name)?,
            ids: codec::as_map(&ids).ok_or(FORM)?.iter().map(id).collect::<Result<_, CodecError>>()?,
            how: line(&fields.text(4, "a voucher that does not say how")?)?,
            day: fields.uint(5, "a voucher without a day")?,
        };
        fields.end()?;
        if voucher.day.is_multiple_of(DAY) && !voucher.name.is_empty() { Ok(voucher) } else { Err(FORM) }
    }
}
