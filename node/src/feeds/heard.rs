//! How often a partner changed what it says, counted by day: each change is a commit.
//!
//! It is counted for a partner, not for a connection, and in memory: a restart begins anew.

use std::collections::HashMap;

use lotline_schema::PartyId;

/// Changes of one kind that are taken in from one partner on one day: far more than anybody makes by hand.
pub const CHANGES_A_DAY_MAX: u32 = 64;
const DAY: u64 = 86_400;

/// What a partner may change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Change {
    /// The terms that it asks for.
    Terms,
    /// What it accepts.
    Acceptance,
    /// A request or an answer.
    Letter,
}

/// Changes that were taken in today.
#[derive(Default)]
pub(super) struct Heard {
    day: u64,
    changes: HashMap<(PartyId, Change), u32>,
}

impl Heard {
    /// Counts one more change, where one more is taken in.
    pub(super) fn allows(&mut self, party: PartyId, change: Change, now: u64) -> bool {
        if self.day != now / DAY {
            (self.day, self.changes) = (now / DAY, HashMap::new());
        }
        let known = self.changes.entry((party, change)).or_default();
        *known = known.saturating_add(1);
        *known <= CHANGES_A_DAY_MAX
    }
}
