//! The rule file: who may see which fields of which records, until when.
//!
//! Pure: no I/O, no clock; the time is an argument. Knows only `lotline-schema`.
//!
//! The form is closed on purpose. A rule is a conjunction of named [conditions](Condition), a policy is shares minus
//! nevers, and nothing else exists: no order, no "or", no "unless". So every answer can name its rule, a denial can name
//! the one condition that failed, and preview, difference and proof are loops over the same few conditions.
//!
//! Suggested reading order: [`policy`] (what rules are; [`delay`]: how long one holds a record back) → [`parse`](mod@parse) (from text, all slips at once) → [`decide`](mod@decide) (which
//! fields, and why) → [`clear`](mod@clear) (the only door out) → [`explain`] (the reasons in words) → [`classes`] and [`diff`] (what
//! a change means for the records there are) → [`prove`] (what holds for every record) → [`matrix`] (all of it at a glance) → [`cedar`](mod@cedar) (the same rules in another language).
//!
//! ```
//! use std::collections::BTreeSet;
//! use lotline_policy::{Item, Viewer, World, clear, parse};
//! use lotline_schema::{Facts, Hash, kind::inspection, slot::Disclosure};
//!
//! let world = World {
//!     partners: &["oem-a".into()],
//!     feeds: &["quality".into()],
//!     parts: &BTreeSet::from(["P-1".into()]),
//!     now: 1_795_392_000, // 2026-11-23
//!     ..World::default()
//! };
//! let policy = parse(
//!     r#"
//!     [[share]]
//!     name  = "incoming"
//!     with  = "oem-a"
//!     feed  = "quality"
//!     parts = ["P-1"]
//!     show  = ["identity", "verdict"]
//!     until = 2027-01-01
//!     "#,
//!     &world,
//! )?;
//! let facts = Facts { kind: "inspection".into(), part: Some("P-1".into()), ..Facts::default() };
//! let disclosures = vec![Disclosure::seal(&[7; 16], None); inspection::SCHEMA.fields.len()];
//! let item = Item {
//!     feed: "quality",
//!     origin: "z6Mk…/quality/1",
//!     seq: 1,
//!     leaf: Hash([0; 32]),
//!     core: b"the signed bytes",
//!     disclosures: &disclosures,
//!     schema: Some(&inspection::SCHEMA),
//!     facts: &facts,
//! };
//! let seen = clear(&policy, &Viewer::new("oem-a"), &item, world.now);
//! assert_eq!(seen.view().map(|view| view.disclosures.len()), Some(26)); // 18 of identity, 8 of verdict
//! assert!(clear(&policy, &Viewer::new("oem-b"), &item, world.now).is_hidden());
//! # Ok::<(), lotline_policy::Slips>(())
//! ```
#![deny(unsafe_code)]

pub mod cedar;
pub mod classes;
pub mod clear;
pub mod decide;
pub mod delay;
pub mod diff;
pub mod explain;
pub mod matrix;
pub mod parse;
pub mod policy;
pub mod prove;

pub use classes::{Class, Classes};
pub use clear::{Basis, Cleared, FullDisclosure, Item, RELEASE_SHOWN, clear, clear_release, next_change, view_id};
pub use decide::{Decision, NearMiss, Reason, Shown, Viewer, decide, shown};
pub use delay::{Delay, recorded};
pub use diff::{Change, Difference, ToAccept};
pub use explain::{names_of, offer, term};
pub use matrix::Cell;
pub use parse::{Slip, Slips, World, parse};
pub use policy::{Condition, Feeds, MEMBERS_OF, MemberList, Only, PURPOSES, Parts, Policy, Rule, Show, Stopped};
pub use prove::{Claim, Example, Hole, SENTENCES, Test, Unread};
