//! Records, slots, statements, feeds, bundles and their verification.
//!
//! Pure: no I/O, no clock, no async; randomness and time are arguments. An auditor's program needs only this crate.
//!
//! Suggested reading order, out of a supplier's hands and into an auditor's:
//! [`kind`] (what a record holds) → [`draft`] (faults) → [`record`] → [`slot`] and [`statement`] (one signature over
//! every view) → [`tree`] and [`note`] (the feed and its checkpoint) → [`org`] (whose keys) → [`view`] and [`bundle`]
//! → [`verify`]. Under all of them: [`id`], [`decimal`], [`codec`].
#![deny(unsafe_code)]

pub mod bundle;
pub mod codec;
pub mod cose;
pub mod decimal;
pub mod deletion;
pub mod delivery;
pub mod draft;
pub mod file;
pub mod fork;
pub mod id;
pub mod kind;
pub mod members;
pub mod note;
mod numbered;
pub mod org;
pub mod quorum;
pub mod receipt;
pub mod record;
pub mod release;
pub mod request;
pub mod requirements;
pub mod slot;
pub mod statement;
pub mod stats;
pub mod terms;
pub mod tree;
pub mod unit;
pub mod verify;
pub mod view;
pub mod voucher;

pub use decimal::Decimal;
pub use id::{Hash, Origin, PartyId};
pub use record::{Facts, Record};

/// Edit distance of two short texts, for "did you mean".
pub fn text_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let least = (corner + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], least);
        }
    }
    row[b.len()]
}
