//! Delivery receipts: a partner signs what it received, so that nobody can say later that it did not.
//!
//! A receipt is a numbered statement of the *receiver*, outside of any feed's tree. It names the batch by its place, by
//! the checkpoint it came with and by the hash of the items exactly as they came. A cosignature proves order and time
//! only; a receipt proves who got what.

use crate::codec::{self, CodecError, Fields, Value};
use crate::cose::Signer;
use crate::id::{Hash, PartyId};
use crate::numbered::{self, Fault};
use crate::org::Org;
use crate::statement::{self, Body, StatementError, Type, Unverified};

/// The largest receipt we read, in bytes; ours have about 700.
pub const RECEIPT_BYTES_MAX: usize = 4096;

/// How the entries came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// In their order, each one accounted for.
    Batch,
    /// Opened later, after the rules were widened.
    Backfill,
}

impl Way {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Way::Batch => "batch",
            Way::Backfill => "backfill",
        }
    }
}

/// What a receipt says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The feed that was received.
    pub origin: String,
    /// Index of the first entry.
    pub from: u64,
    /// Index after the last.
    pub to: u64,
    /// Size of the checkpoint it came with.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// SHA-256 over the CBOR array of items as they stood in the message.
    pub items: Hash,
    /// Policy version that the sender stated.
    pub policy: Option<u64>,
    /// Version of the agreed terms, if there were any.
    pub terms: Option<u64>,
    /// When, by the receiver's clock, in seconds since 1970.
    pub at: u64,
    /// How.
    pub way: Way,
}

/// A receipt that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// No statement of ours, or its signature does not hold.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Larger than a receipt may be.
    #[error("it has {0} bytes, more than {RECEIPT_BYTES_MAX}")]
    TooLarge(usize),
    /// Of another organisation.
    #[error("it is not a receipt of that organisation")]
    Elsewhere,
    /// Signed by a key that may not.
    #[error("key {0} may not sign receipts at this place")]
    Key(String),
}

impl From<Fault> for DeliveryError {
    fn from(fault: Fault) -> DeliveryError {
        match fault {
            Fault::Statement(error) => error.into(),
            Fault::TooLarge(bytes) => DeliveryError::TooLarge(bytes),
            Fault::Elsewhere => DeliveryError::Elsewhere,
            Fault::Key(kid) => DeliveryError::Key(kid.short()),
        }
    }
}

/// A receipt whose signature holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// Who received.
    pub receiver: PartyId,
    /// Its running number.
    pub number: u64,
    /// What it says.
    pub delivery: Delivery,
}

impl Delivery {
    /// Signs it with the receiver's record key, under its next number.
    pub fn seal(&self, receiver: PartyId, number: u64, signer: &Signer, random: impl FnMut(&mut [u8])) -> Result<Vec<u8>, StatementError> {
        let place = numbered::place(receiver, number, self.at);
        let number_or_none = |number: Option<u64>| codec::optional(number, codec::uint);
        let entry = codec::map([
            (1, codec::text(self.origin.as_str())),
            (2, codec::uint(self.from)),
            (3, codec::uint(self.to)),
            (4, codec::uint(self.size)),
            (5, codec::bytes(self.root.0)),
            (6, codec::bytes(self.items.0)),
            (7, number_or_none(self.policy)),
            (8, number_or_none(self.terms)),
            (9, codec::uint(self.at)),
            (10, codec::text(self.way.name())),
        ]);
        Ok(statement::seal_entry(Type::Receipt, entry, &place, signer, random)?.core)
    }

    fn read(entry: &Value) -> Result<Delivery, CodecError> {
        let mut fields = Fields::of(entry.clone())?;
        let hash = |bytes: Vec<u8>| Hash::from_slice(&bytes).ok_or(CodecError::Shape("a hash of another length"));
        let number_or_none = |value: Value| match value {
            Value::Null => Ok(None),
            value => codec::as_uint(&value).map(Some).ok_or(CodecError::Shape("a version that is no number")),
        };
        let delivery = Delivery {
            origin: fields.text(1, "a receipt for no feed")?,
            from: fields.uint(2, "a receipt without a beginning")?,
            to: fields.uint(3, "a receipt without an end")?,
            size: fields.uint(4, "a receipt without a checkpoint")?,
            root: hash(fields.bytes(5, "a receipt without a root")?)?,
            items: hash(fields.bytes(6, "a receipt without the hash of its items")?)?,
            policy: number_or_none(fields.need(7, "a receipt without a policy version")?)?,
            terms: number_or_none(fields.need(8, "a receipt without a terms version")?)?,
            at: fields.uint(9, "a receipt without a time")?,
            way: match fields.text(10, "a receipt without its way")?.as_str() {
                "batch" => Way::Batch,
                "backfill" => Way::Backfill,
                _ => return Err(CodecError::Shape("a receipt for an unknown way")),
            },
        };
        fields.end()?;
        match delivery.from < delivery.to && delivery.to <= delivery.size {
            true => Ok(delivery),
            false => Err(CodecError::Shape("a receipt for no entries, or for more than its checkpoint has")),
        }
    }
}

impl Receipt {
    /// Who claims to have signed it, before anything is checked.
    pub fn claimed_by(core: &[u8]) -> Option<PartyId> {
        Unverified::read(core).ok()?.claims().issuer.parse().ok()
    }

    /// What a receipt says, before anything is checked: for finding those one kept.
    pub fn peek(core: &[u8]) -> Option<Delivery> {
        Receipt::numbered(core).map(|(_, delivery)| delivery)
    }

    /// The same, with its number at the receiver.
    pub fn numbered(core: &[u8]) -> Option<(u64, Delivery)> {
        let unverified = Unverified::read(core).ok()?;
        let claims = unverified.claims();
        match &claims.body {
            Body::Entry(entry) => Some((claims.seq, Delivery::read(entry).ok()?)),
            Body::Slots(..) => None,
        }
    }

    /// Verifies a receipt against its receiver's org feed.
    pub fn open(core: &[u8], receiver: &Org) -> Result<Receipt, DeliveryError> {
        let (number, entry) = numbered::open(core, receiver, Type::Receipt, RECEIPT_BYTES_MAX)?;
        let delivery = Delivery::read(&entry).map_err(StatementError::from)?;
        Ok(Receipt { receiver: receiver.party(), number, delivery })
    }
}
