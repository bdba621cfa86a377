//! Who sees which groups of fields, at a glance.

use lotline_schema::kind::{self, Group};
use serde::Serialize;

use crate::policy::{Condition, Masks, Policy, Rule};
use crate::prove::{in_use, seen};

/// What a partner sees of one group of fields in one feed, at one moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cell {
    /// All of it, of every record. (Statistics over fewer than ten values leave only with the values.)
    All,
    /// Some fields, or of some records, or only once terms are accepted.
    Some,
    /// A never forbids all of it, of every record.
    Never,
    /// No share shows it.
    Nothing,
}

impl Policy {
    /// One row of the matrix: a cell for each group, in the order of [`Group::ALL`].
    ///
    /// ```
    /// use lotline_policy::{Cell, Policy};
    /// let share = "[[share]]\nname = 's'\nwith = 'a'\nfeed = 'all'\nparts = 'all'\nshow = ['identity', 'lot', 'standard']\nuntil = 'revoked'";
    /// let policy = Policy::restore(&format!("{share}\n[[never]]\nname = 'n'\nwith = 'a'\nshow = ['process']"))?;
    /// let row = policy.row("a", "quality", 0);
    /// assert_eq!((row[0], row[2], row[3], row[6]), (Cell::All, Cell::Some, Cell::Nothing, Cell::Never));
    /// # Ok::<(), lotline_policy::Slips>(())
    /// ```
    pub fn row(&self, partner: &str, feed: &str, now: i64) -> Vec<Cell> {
        let about = self.about(partner);
        // Of the conditions that a record or the partner may or may not meet; kinds are told apart by their slots.
        const MAYBE: [Condition; 6] =
            [Condition::Parts, Condition::Lots, Condition::Only, Condition::Released, Condition::Purpose, Condition::Terms];
        let whole = |rule: &&Rule| !MAYBE.iter().any(|of| rule.asks(*of));
        let here = || about.nevers.iter().filter(|never| never.feed.covers(feed));
        let banned = union(here().filter(whole).map(|never| never.masks.clone()));
        let touched = union(here().map(|never| never.masks.clone()));
        let live = about.open(partner, feed, now).filter(|(share, _)| whole(share));
        let open = union(live.map(|(share, _)| share.in_kinds(&share.masks).collect()));
        let seen = seen(&about, partner, feed, now);
        let cell = |group: Group| {
            let slots: Vec<(usize, u64)> = slots(group).into_iter().enumerate().filter(|(_, mask)| *mask != 0).collect();
            let all = |of: &dyn Fn(usize) -> u64| slots.iter().all(|(at, mask)| mask & !of(*at) == 0);
            match () {
                () if all(&|at| open[at] & !touched[at]) && !slots.is_empty() => Cell::All,
                () if slots.iter().any(|(at, mask)| mask & seen[*at] != 0) => Cell::Some,
                () if all(&|at| banned[at]) && !slots.is_empty() => Cell::Never,
                () => Cell::Nothing,
            }
        };
        Group::ALL.into_iter().map(cell).collect()
    }
}

/// The slots of a group, by schema; of kinds that people publish.
fn slots(group: Group) -> Masks {
    let of = |schema: &kind::Schema| {
        schema.fields.iter().enumerate().filter(|(_, field)| field.group == group).fold(0, |mask, (slot, _)| mask | 1 << slot)
    };
    kind::known().iter().map(|(schema, _)| if in_use(schema) { of(schema) } else { 0 }).collect()
}

fn union(masks: impl Iterator<Item = Masks>) -> Masks {
    let none = kind::known().iter().map(|_| 0).collect();
    masks.fold(none, |union: Masks, masks| union.iter().zip(&masks).map(|(a, b)| a | b).collect())
}
