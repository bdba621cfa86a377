//! What a receiver signs, numbered in one row: delivery receipts, acceptances of terms and deletion reports.
//!
//! They stand in no tree. Their place is a number under the receiver's pseudo feed `receipts`, which decides which of its record
//! keys is good: a rotation ends a key by that number, for all three at once.

use crate::codec::Value;
use crate::id::{Hash, Origin, PartyId};
use crate::org::{Org, Role};
use crate::statement::{Body, Place, StatementError, Type, Unverified};

/// Name of the pseudo feed.
const FEED: &str = "receipts";

/// Why one does not hold; each kind says it in its own words.
pub(crate) enum Fault {
    Statement(StatementError),
    TooLarge(usize),
    Elsewhere,
    Key(Hash),
}

impl From<StatementError> for Fault {
    fn from(error: StatementError) -> Fault {
        Fault::Statement(error)
    }
}

/// The place of a number.
pub(crate) fn place(receiver: PartyId, number: u64, now: u64) -> Place {
    Place { origin: origin(receiver), seq: number, now, supersedes: None }
}

/// The number and entry of a statement of this type, before anything is checked: for those one signed or verified oneself.
pub(crate) fn peek(core: &[u8], typ: Type) -> Option<(u64, Value)> {
    let unverified = Unverified::read(core).ok()?;
    let claims = unverified.claims();
    match &claims.body {
        Body::Entry(entry) if claims.typ == typ => Some((claims.seq, entry.clone())),
        _ => None,
    }
}

/// Verifies one against its receiver's org feed. Returns its number and entry.
pub(crate) fn open(core: &[u8], receiver: &Org, typ: Type, bytes_max: usize) -> Result<(u64, Value), Fault> {
    if core.len() > bytes_max {
        return Err(Fault::TooLarge(core.len()));
    }
    let unverified = Unverified::read(core)?;
    let (claims, origin) = (unverified.claims(), origin(receiver.party()));
    if claims.typ != typ || claims.issuer != receiver.issuer() || claims.origin != origin.as_str() {
        return Err(Fault::Elsewhere);
    }
    let (kid, number) = (claims.kid, claims.seq);
    let key = receiver.key_for(Role::Record, &kid, origin.as_str(), number).ok_or(Fault::Key(kid))?;
    match &unverified.verify(key)?.claims().body {
        Body::Entry(entry) => Ok((number, entry.clone())),
        Body::Slots(..) => Err(Fault::Elsewhere),
    }
}

fn origin(receiver: PartyId) -> Origin {
    Origin::new(receiver, FEED, 1).expect("a fixed name")
}
