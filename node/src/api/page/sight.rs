//! Who sees what of a record of ours: for each partner and field, shown or hidden under the rules in force now, and why.

use lotline_policy::{Decision, Policy, decide};
use lotline_schema::Facts;
use lotline_schema::kind::{Group, Schema};

use super::sheet::label;
use super::words::{self, CALM, GOOD, Prose, WARN};
use crate::certificate::harmless;
use crate::feeds::{Feed, Snapshot};
use crate::service::now;

/// The grid and the sentences behind it.
pub(super) struct Sight {
    pub(super) partners: Vec<String>,
    pub(super) groups: Vec<Row>,
    pub(super) fields: Vec<Row>,
    pub(super) reasons: Vec<Reasons>,
}

/// A group or a field, and one cell a partner.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) cells: Vec<Cell>,
}

/// What one partner sees of it.
pub(super) struct Cell {
    pub(super) tone: &'static str,
    pub(super) symbol: &'static str,
    pub(super) word: String,
}

/// Why, for one partner.
pub(super) struct Reasons {
    pub(super) partner: String,
    pub(super) shown: usize,
    pub(super) of: usize,
    pub(super) sentences: Vec<Prose>,
    /// When time alone may change the answer.
    pub(super) changes: Option<String>,
}

impl Sight {
    /// `facts` are the record's, as rules know them.
    pub(super) fn of(snapshot: &Snapshot, feed: &Feed, schema: &'static Schema, facts: &Facts) -> Sight {
        let ask = |name: &str| decide(&snapshot.policy, &snapshot.viewer(name), feed.origin.name(), schema, facts, now() as i64);
        let decisions: Vec<(&String, Decision)> = snapshot.book.keys().map(|name| (name, ask(name))).collect();
        let groups = Group::ALL.into_iter().filter(|group| schema.fields.iter().any(|field| field.group == *group));
        Sight {
            partners: decisions.iter().map(|(name, _)| harmless(name)).collect(),
            groups: groups.map(|group| Row::group(schema, group, &decisions)).collect(),
            fields: (0..schema.fields.len()).map(|slot| Row::field(schema, slot, &decisions)).collect(),
            reasons: decisions.iter().map(|(name, decision)| Reasons::of(&snapshot.policy, schema, name, decision)).collect(),
        }
    }
}

impl Row {
    fn group(schema: &Schema, group: Group, decisions: &[(&String, Decision)]) -> Row {
        let slots: Vec<usize> = (0..schema.fields.len()).filter(|slot| schema.fields[*slot].group == group).collect();
        let cell = |(_, decision): &(&String, Decision)| match slots.iter().filter(|slot| decision.mask >> **slot & 1 == 1).count() {
            0 => Cell { tone: CALM, symbol: "–", word: "hidden".into() },
            all if all == slots.len() => Cell { tone: GOOD, symbol: "✓", word: "shown".into() },
            some => Cell { tone: WARN, symbol: "✓", word: format!("{some} of {}", slots.len()) },
        };
        Row { name: words::capital(group.name()), cells: decisions.iter().map(cell).collect() }
    }

    fn field(schema: &Schema, slot: usize, decisions: &[(&String, Decision)]) -> Row {
        let cell = |(_, decision): &(&String, Decision)| match decision.mask >> slot & 1 == 1 {
            true => Cell { tone: GOOD, symbol: "✓", word: "shown".into() },
            false => Cell { tone: CALM, symbol: "–", word: "hidden".into() },
        };
        Row { name: label(schema.fields[slot].name), cells: decisions.iter().map(cell).collect() }
    }
}

impl Reasons {
    fn of(policy: &Policy, schema: &Schema, name: &str, decision: &Decision) -> Reasons {
        let changes = decision.changes_at.and_then(|at| u64::try_from(at).ok()).map(words::moment);
        Reasons {
            partner: harmless(name),
            shown: decision.mask.count_ones() as usize,
            of: schema.fields.len(),
            sentences: decision.explain(policy, schema).iter().map(|sentence| Prose::of(sentence)).collect(),
            changes,
        }
    }
}
