//! The ledger: our own log of what left, to whom, when, under which policy version. The word is used for nothing else.
//!
//! A row is written, durably, before the bytes it speaks of are handed to the network: the intent. What became of
//! them follows: acknowledged by the partner, cut, or unknown. A row without an outcome may have left.

use lotline_schema::codec::{self, Value};
use lotline_schema::delivery::Delivery;
use lotline_schema::{Hash, Origin, PartyId};

use crate::feeds::state::{StateError, put, take};

/// What became of something we meant to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Handed over or about to be: it may have left.
    Open,
    /// The partner said it has it, verified and stored.
    Acknowledged,
    /// Stopped while it was being written: part of it may have left.
    Cut,
    /// Written to a file for this recipient.
    Exported,
    /// Thrown away before the first byte left, because the rules changed.
    NotSent,
}

impl Outcome {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Open => "may have left",
            Outcome::Acknowledged => "acknowledged",
            Outcome::Cut => "cut, may have left in part",
            Outcome::Exported => "exported",
            Outcome::NotSent => "not sent, the rules changed",
        }
    }

    const ALL: [Outcome; 5] = [Outcome::Open, Outcome::Acknowledged, Outcome::Cut, Outcome::Exported, Outcome::NotSent];
}

/// One disclosure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its number, from 0.
    pub number: u64,
    /// When, in seconds since 1970.
    pub at: u64,
    /// To whom: a partner's name, or for a full bundle the name that was typed.
    pub to: String,
    /// From which feed.
    pub origin: String,
    /// Which entries, and which slots of each (bit per slot; 0: the leaf hash alone).
    pub items: Vec<(u64, u64)>,
    /// Under which policy version; none for a full disclosure confirmed by hand.
    pub policy: Option<u64>,
    /// SHA-256 over the items as sent.
    pub digest: Hash,
    /// What became of it.
    pub outcome: Outcome,
}

impl Row {
    /// Whether it went to who owns the feed, of which we only write.
    pub fn is_to_owner(&self, us: &PartyId) -> bool {
        self.policy.is_none() && self.origin.parse::<Origin>().is_ok_and(|origin| !origin.is_org() && origin.party() != *us)
    }

    /// What a row for this delivery would say, where the row itself is lost.
    pub(crate) fn lost(to: &str, of: &Delivery) -> Row {
        // First and last alone: the range is a stranger's word.
        let (origin, items) = (of.origin.clone(), vec![(of.from, 0), (of.to.saturating_sub(1), 0)]);
        Row { number: 0, at: 0, to: to.to_owned(), origin, items, policy: of.policy, digest: of.items, outcome: Outcome::Open }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let outcome = Outcome::ALL.iter().position(|outcome| *outcome == self.outcome).expect("ALL lists every outcome");
        // Masks as bytes: with all 64 slots shown they would not fit a signed number.
        let item = |(seq, mask): &(u64, u64)| codec::array([codec::uint(*seq), codec::bytes(mask.to_be_bytes())]);
        put(codec::array([
            codec::uint(self.at),
            codec::text(self.to.as_str()),
            codec::text(self.origin.as_str()),
            codec::array(self.items.iter().map(item)),
            codec::optional(self.policy, codec::uint),
            codec::bytes(self.digest.0),
            codec::uint(outcome as u64),
        ]))
    }

    pub(crate) fn read(number: u64, bytes: &[u8]) -> Result<Row, StateError> {
        const WHAT: StateError = StateError("ledger row");
        let value = take(bytes, "ledger row")?;
        let [at, to, origin, items, policy, digest, outcome] = codec::as_array(&value).unwrap_or_default() else {
            return Err(WHAT);
        };
        let item = |item: &Value| match codec::as_array(item)? {
            [seq, mask] => Some((codec::as_uint(seq)?, u64::from_be_bytes(codec::as_bytes(mask)?.try_into().ok()?))),
            _ => None,
        };
        Ok(Row {
            number,
            at: codec::as_uint(at).ok_or(WHAT)?,
            to: codec::as_text(to).ok_or(WHAT)?.to_owned(),
            origin: codec::as_text(origin).ok_or(WHAT)?.to_owned(),
            items: codec::as_array(items).and_then(|items| items.iter().map(item).collect()).ok_or(WHAT)?,
            policy: codec::as_uint(policy),
            digest: codec::as_bytes(digest).and_then(Hash::from_slice).ok_or(WHAT)?,
            outcome: codec::as_uint(outcome).and_then(|at| Outcome::ALL.get(at as usize).copied()).ok_or(WHAT)?,
        })
    }
}
