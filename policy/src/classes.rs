//! Classes of records that no rule can tell apart, so that what rules come to is found out once a class and not once a record.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use lotline_schema::Facts;
use lotline_schema::kind::{self, Schema};

use crate::decide::{Question, Shown, Viewer};
use crate::delay::recorded;
use crate::policy::{Condition, Only, Parts, Policy, Rule};

/// Records counted by class, for some policies.
///
/// ```
/// use lotline_policy::{Classes, Policy};
/// use lotline_schema::Facts;
/// let text = "[[share]]\nname = 's'\nwith = 'oem-a'\nfeed = 'all'\nparts = ['P-1']\nshow = ['verdict']\nuntil = 'revoked'";
/// let policy = Policy::restore(text)?;
/// let mut classes = Classes::of(&[&policy]);
/// for part in ["P-1", "P-2", "P-3", "P-1"] {
///     classes.count("quality", &Facts { kind: "inspection".into(), part: Some(part.into()), ..Facts::default() });
/// }
/// let counts: Vec<u64> = classes.iter().map(|(_, count)| count).collect();
/// assert_eq!(counts, [2, 2]); // of no part that a rule names, and of P-1
/// # Ok::<(), lotline_policy::Slips>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Classes {
    parts: BTreeSet<String>,
    lots: BTreeSet<String>,
    customers: BTreeSet<String>,
    verdicts: bool,
    released: bool,
    delays: bool,
    counts: BTreeMap<Class, u64>,
}

/// What all records of a class have in common, as far as rules ask.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Class {
    feed: String,
    kind: &'static str,
    part: Option<String>,
    lot: Option<String>,
    customer: Option<String>,
    conforming: Option<bool>,
    released: bool,
    /// The hour after it was signed, where a rule holds records back.
    hour: Option<i64>,
    thin: u64,
    forgotten: u64,
}

/// Records under a delay are told apart by the hour: each opens at a moment of its own.
const HOUR: i64 = 3_600;

impl Classes {
    /// No record yet. Classes are as fine as these policies need, and no finer.
    pub fn of(policies: &[&Policy]) -> Classes {
        let mut classes = Classes::default();
        let rules = policies.iter().flat_map(|policy| policy.shares.iter().chain(&policy.nevers));
        for rule in rules {
            Condition::ALL.into_iter().for_each(|condition| classes.distinguish(rule, condition));
        }
        classes
    }

    /// What one condition of a rule needs to be known of a record. Every record is asked for its feed, kind and thin statistics.
    fn distinguish(&mut self, rule: &Rule, condition: Condition) {
        match condition {
            Condition::Partner | Condition::Field | Condition::From | Condition::Until | Condition::List => {}
            // These are about the viewer, not the record.
            Condition::Purpose | Condition::Terms => {}
            Condition::Feed | Condition::Kind => {}
            Condition::Parts => match &rule.parts {
                Parts::All => {}
                Parts::Theirs => self.customers.extend(rule.partners.iter().cloned()),
                Parts::List(parts) => self.parts.extend(parts.iter().cloned()),
            },
            Condition::Lots => self.lots.extend(rule.lots.iter().flatten().cloned()),
            Condition::Only => self.verdicts |= rule.only.is_some(),
            Condition::Released => self.released |= rule.released,
            Condition::Delay => self.delays |= rule.delay.is_some(),
        }
    }

    /// Counts one record.
    pub fn count(&mut self, feed: &str, facts: &Facts) {
        let Some((schema, _)) = kind::known().iter().find(|(schema, _)| schema.name == facts.kind) else {
            return;
        };
        let among = |value: &Option<String>, named: &BTreeSet<String>| value.clone().filter(|value| named.contains(value));
        let class = Class {
            feed: feed.to_owned(),
            kind: schema.name,
            part: among(&facts.part, &self.parts),
            lot: among(&facts.lot, &self.lots),
            customer: among(&facts.customer, &self.customers),
            conforming: facts.conforming().filter(|_| self.verdicts),
            released: facts.released && self.released,
            hour: recorded(facts).filter(|_| self.delays).map(|at| at.div_euclid(HOUR) + i64::from(at.rem_euclid(HOUR) > 0)),
            thin: facts.thin,
            forgotten: facts.forgotten,
        };
        *self.counts.entry(class).or_default() += 1;
    }

    /// Each class with the number of its records.
    pub fn iter(&self) -> impl Iterator<Item = (&Class, u64)> {
        self.counts.iter().map(|(class, count)| (class, *count))
    }
}

impl Class {
    /// The feed.
    pub fn feed(&self) -> &str {
        &self.feed
    }

    /// The kind of its records.
    pub fn schema(&self) -> &'static Schema {
        let mut known = kind::known().iter().map(|(schema, _)| *schema);
        known.find(|schema| schema.name == self.kind).unwrap_or(&kind::BENCHMARK)
    }

    /// A record of the class, as rules see it.
    pub fn facts(&self) -> Facts {
        let only = |conforming| if conforming { Only::Conforming } else { Only::NonConforming };
        Facts {
            kind: self.kind.into(),
            part: self.part.clone(),
            lot: self.lot.clone(),
            customer: self.customer.clone(),
            verdict: self.conforming.map(|conforming| only(conforming).name().to_owned()),
            released: self.released,
            recorded_at: self.hour.and_then(|hour| Timestamp::from_second(hour.saturating_mul(HOUR)).ok()).map(|at| at.to_string()),
            thin: self.thin,
            forgotten: self.forgotten,
            ..Facts::default()
        }
    }

    /// What a viewer sees of each of its records at a moment.
    pub fn shown(&self, policy: &Policy, viewer: &Viewer, now: i64) -> Shown {
        let facts = self.facts();
        Question::new(viewer, &self.feed, self.schema(), &facts, now).shown(policy)
    }
}
