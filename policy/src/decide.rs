//! Which fields of a record a viewer may see now, and why: shares that hold, minus nevers that hold.
//!
//! Total: every input has an answer, and what is not understood stays hidden. Reasons name rules of the owner's file:
//! they are for the owner, never for the viewer.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use lotline_schema::kind::Schema;
use lotline_schema::{Facts, Hash};
use serde::Serialize;

use crate::delay::recorded;
use crate::moment::Moment;
use crate::policy::{Condition, Only, Parts, Policy, Rule};

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Viewer {
    /// The partner, as the partner book names it.
    pub partner: String,
    /// Purposes it stated.
    pub purposes: BTreeSet<String>,
    /// Ids of the terms it accepted.
    pub terms: BTreeSet<Hash>,
}

impl Viewer {
    /// A partner that stated and accepted nothing.
    pub fn new(partner: impl Into<String>) -> Viewer {
        Viewer { partner: partner.into(), ..Viewer::default() }
    }

    /// Whether it stated a purpose of a share and accepted its terms, if the share asks for any.
    pub(crate) fn meets_terms(&self, share: &Rule) -> bool {
        self.states(share) && self.accepts(share)
    }

    fn states(&self, share: &Rule) -> bool {
        share.purposes().is_none_or(|purposes| !purposes.is_disjoint(&self.purposes))
    }

    fn accepts(&self, share: &Rule) -> bool {
        share.terms.as_ref().is_none_or(|terms| self.terms.contains(&terms.id()))
    }
}

/// The answer for one record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// Bit = slot shown.
    pub mask: u64,
    /// Why, one a slot.
    pub reasons: Vec<Reason>,
    /// The earliest moment after now at which time alone may change the answer.
    pub changes_at: Option<i64>,
}

/// Why a field is shown or hidden. Of several rules that would do, the first by name stands here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Reason {
    /// A share shows it.
    Shown {
        /// The share.
        rule: String,
    },
    /// A never forbids it.
    Banned {
        /// The never.
        rule: String,
    },
    /// A share would show it, but it is statistics over fewer than ten values, and those values are not shown.
    Thin {
        /// The share.
        rule: String,
        /// The field that must be shown with it.
        needs: Option<&'static str>,
    },
    /// No share shows it.
    NoRule {
        /// A share for which exactly one condition fails: were it met, the field would be shown.
        nearest: Option<NearMiss>,
    },
    /// The owner stopped sharing with this partner.
    Stopped,
    /// It was forgotten here.
    Forgotten {
        /// The field that was, when it is another one: rules ask for it, so nothing of the record leaves any more.
        asked: Option<&'static str>,
    },
}

/// A share that almost shows a field.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NearMiss {
    /// The share.
    pub rule: String,
    /// The one condition that fails.
    pub condition: Condition,
}

/// Decides about every field of a record.
///
/// ```
/// use lotline_policy::{Condition, NearMiss, Policy, Reason, Viewer, decide};
/// use lotline_schema::{Facts, kind::inspection::SCHEMA};
///
/// let policy = Policy::restore(
///     r#"
///     [[share]]
///     name = "year-2026"
///     with = "oem-a"
///     feed = "all"
///     parts = "theirs"
///     show = ["verdict"]
///     until = 2027-01-01
///     "#,
/// )?;
/// let facts = Facts { customer: Some("oem-a".into()), ..Facts::default() };
/// let at = |now| decide(&policy, &Viewer::new("oem-a"), "quality", &SCHEMA, &facts, now);
/// let (slot, new_year) = (SCHEMA.slot("standard").unwrap(), 1_798_761_600);
///
/// let before = at(new_year - 1);
/// assert_eq!(before.reasons[slot], Reason::Shown { rule: "year-2026".into() });
/// assert_eq!(before.changes_at, Some(new_year));
/// let nearest = Some(NearMiss { rule: "year-2026".into(), condition: Condition::Until });
/// assert_eq!(at(new_year).reasons[slot], Reason::NoRule { nearest });
/// # Ok::<(), lotline_policy::Slips>(())
/// ```
pub fn decide(policy: &Policy, viewer: &Viewer, feed: &str, schema: &'static Schema, facts: &Facts, now: impl Into<Moment>) -> Decision {
    let question = Question::new(viewer, feed, schema, facts, now);
    let Shown { mask, changes_at } = question.shown(policy);
    let reasons = (0..schema.fields.len()).map(|slot| question.reason(policy, mask, slot)).collect();
    Decision { mask, reasons, changes_at }
}

/// A decision without its reasons, for whoever asks about many records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Bit = slot shown.
    pub mask: u64,
    /// The earliest moment after now at which time alone may change the answer.
    pub changes_at: Option<i64>,
}

/// What a viewer sees of a record now: [`decide`] without the reasons, and as fast as the door itself.
pub fn shown(policy: &Policy, viewer: &Viewer, feed: &str, schema: &'static Schema, facts: &Facts, now: impl Into<Moment>) -> Shown {
    Question::new(viewer, feed, schema, facts, now).shown(policy)
}

/// The fields that conditions of rules look at.
const ASKED: [&str; 5] = ["part", "lot", "customer", "verdict_stated", "verdict_recomputed"];

/// One record, asked for by one viewer now.
pub(crate) struct Question<'a> {
    viewer: &'a Viewer,
    feed: &'a str,
    schema: &'static Schema,
    facts: &'a Facts,
    recorded: Option<i64>,
    now: Moment,
}

impl<'a> Question<'a> {
    pub(crate) fn new(
        viewer: &'a Viewer,
        feed: &'a str,
        schema: &'static Schema,
        facts: &'a Facts,
        now: impl Into<Moment>,
    ) -> Question<'a> {
        Question { viewer, feed, schema, facts, recorded: recorded(facts), now: now.into() }
    }
}

impl Question<'_> {
    pub(crate) fn shown(&self, policy: &Policy) -> Shown {
        Shown { mask: self.mask(policy), changes_at: self.changes_at(policy) }
    }

    /// The slots shown. This is the whole policy: shares minus nevers, and no thin statistics without their values.
    pub(crate) fn mask(&self, policy: &Policy) -> u64 {
        if policy.stopped.covers(&self.viewer.partner) || self.unanswerable().is_some() {
            return 0;
        }
        let open = self.named(&policy.shares) & !self.named(&policy.nevers) & !self.facts.forgotten;
        let thin = (0..self.schema.fields.len()).filter(|slot| self.facts.thin & bit(*slot) != 0);
        let bare = thin.filter(|slot| self.values_of(*slot).is_none_or(|values| open & bit(values) == 0));
        open & !bare.fold(0, |mask, slot| mask | bit(slot))
    }

    /// The shares that open some of these slots, by their place.
    pub(crate) fn opening(&self, policy: &Policy, mask: u64) -> Vec<usize> {
        let opens = |rule: &Rule| self.holds(rule) && rule.mask(self.schema) & mask != 0;
        policy.shares.iter().enumerate().filter(|(_, rule)| mask != 0 && opens(rule)).map(|(at, _)| at).collect()
    }

    /// Of the slots shown, those that would not be without terms, by the id of the terms: each with the first share by name that
    /// shows it, as in a reason. Statistics that leave only together with their values stand under the terms of those.
    pub(crate) fn under_terms(&self, policy: &Policy, mask: u64) -> Vec<(Hash, u64)> {
        if mask == 0 || !policy.shares.iter().any(|share| share.terms.is_some()) {
            return Vec::new();
        }
        let nobody = Viewer::new(self.viewer.partner.as_str());
        let free = Question { viewer: &nobody, ..*self }.mask(policy);
        let (mut rest, mut under) = (mask & !free, Vec::<(Hash, u64)>::new());
        let held = policy.shares.iter().filter(|share| self.holds(share));
        for (share, id) in held.filter_map(|share| Some((share, share.terms.as_ref()?.id()))) {
            let named = share.mask(self.schema);
            let with_values =
                |slot: &usize| self.facts.thin & bit(*slot) != 0 && self.values_of(*slot).is_some_and(|of| named & bit(of) != 0);
            let slots = rest & (0..self.schema.fields.len()).filter(with_values).fold(named, |mask, slot| mask | bit(slot));
            rest &= !slots;
            match under.iter_mut().find(|(known, _)| *known == id) {
                Some((_, all)) => *all |= slots,
                None => under.extend((slots != 0).then_some((id, slots))),
            }
        }
        under
    }

    /// The slots named by those rules that hold.
    fn named(&self, rules: &[Rule]) -> u64 {
        rules.iter().filter(|rule| self.holds(rule)).fold(0, |mask, rule| mask | rule.mask(self.schema))
    }

    /// Whether every condition but the field's holds.
    fn holds(&self, rule: &Rule) -> bool {
        self.failing(rule, None).next().is_none()
    }

    /// The conditions that fail, for a slot or (none) for the record as a whole.
    fn failing<'a>(&'a self, rule: &'a Rule, slot: Option<usize>) -> impl Iterator<Item = Condition> + 'a {
        Condition::ALL.into_iter().filter(move |condition| !self.meets(rule, *condition, slot))
    }

    fn meets(&self, rule: &Rule, condition: Condition, slot: Option<usize>) -> bool {
        match condition {
            Condition::Partner => rule.partners.contains(&self.viewer.partner),
            Condition::Field => slot.is_none_or(|slot| rule.mask(self.schema) & bit(slot) != 0),
            Condition::Feed => rule.feed.covers(self.feed),
            Condition::Kind => rule.covers_kind(self.schema),
            Condition::Parts => match &rule.parts {
                Parts::All => true,
                Parts::Theirs => self.facts.customer.as_ref() == Some(&self.viewer.partner),
                Parts::List(parts) => self.facts.part.as_ref().is_some_and(|part| parts.contains(part)),
            },
            Condition::Lots => rule.lots.as_ref().is_none_or(|lots| self.facts.lot.as_ref().is_some_and(|lot| lots.contains(lot))),
            Condition::Only => rule.only.is_none_or(|only| self.facts.conforming() == Some(only == Only::Conforming)),
            Condition::Released => !rule.released || self.facts.released,
            Condition::From => rule.from.is_none_or(|from| self.now.is_after(from)),
            Condition::Until => !rule.until.is_some_and(|until| self.now.is_over(until)),
            Condition::List => !rule.list_until.is_some_and(|until| self.now.is_over(until)),
            Condition::Delay => rule.delay.is_none() || self.opens(rule).is_some_and(|at| self.now.is_after(at)),
            Condition::Purpose => self.viewer.states(rule),
            Condition::Terms => self.viewer.accepts(rule),
        }
    }

    /// When a share stops holding the record back; none where it does not, or where nobody can say when it was signed.
    fn opens(&self, rule: &Rule) -> Option<i64> {
        Some(rule.delay?.after(self.recorded?))
    }

    /// A field that conditions ask for and that was forgotten here: nobody can say any more whether a never holds.
    fn unanswerable(&self) -> Option<&'static str> {
        let asked = ASKED.iter().filter_map(|name| self.schema.slot(name));
        asked.filter(|slot| self.facts.forgotten & bit(*slot) != 0).map(|slot| self.schema.fields[slot].name).next()
    }

    /// The table of values that a table of statistics summarises.
    fn values_of(&self, slot: usize) -> Option<usize> {
        let table = self.schema.fields[slot].name.strip_suffix("_statistics")?;
        self.schema.slot(&format!("{table}_values"))
    }

    fn reason(&self, policy: &Policy, mask: u64, slot: usize) -> Reason {
        let acts = |rule: &&Rule| self.failing(rule, Some(slot)).next().is_none();
        let name = |rule: &Rule| rule.name.clone();
        if policy.stopped.covers(&self.viewer.partner) {
            return Reason::Stopped;
        }
        if self.facts.forgotten & bit(slot) != 0 {
            return Reason::Forgotten { asked: None };
        }
        if let Some(asked) = self.unanswerable() {
            return Reason::Forgotten { asked: Some(asked) };
        }
        if let Some(rule) = policy.nevers.iter().find(acts).map(name) {
            return Reason::Banned { rule };
        }
        match policy.shares.iter().find(acts).map(name) {
            Some(rule) if mask & bit(slot) != 0 => Reason::Shown { rule },
            Some(rule) => Reason::Thin { rule, needs: self.values_of(slot).map(|values| self.schema.fields[values].name) },
            None => Reason::NoRule { nearest: self.nearest(policy, mask, slot) },
        }
    }

    fn nearest(&self, policy: &Policy, mask: u64, slot: usize) -> Option<NearMiss> {
        let banned = self.named(&policy.nevers);
        let miss = |rule: &Rule| {
            let condition = match self.failing(rule, Some(slot)).collect::<Vec<_>>()[..] {
                [condition] => condition,
                // Whoever accepts terms states their purpose with it.
                [Condition::Purpose, Condition::Terms] => Condition::Terms,
                _ => return None,
            };
            // Thin statistics would stay hidden unless the same change opens their values, or they are open already.
            let open = mask | rule.mask(self.schema) & !banned;
            let thin = self.facts.thin & bit(slot) != 0;
            let enough = !thin || self.values_of(slot).is_some_and(|values| open & bit(values) != 0);
            enough.then(|| NearMiss { rule: rule.name.clone(), condition })
        };
        policy.shares.iter().filter_map(miss).min_by_key(|miss| Reverse(miss.condition))
    }

    fn changes_at(&self, policy: &Policy) -> Option<i64> {
        if policy.stopped.covers(&self.viewer.partner) {
            return None;
        }
        let boundaries = self.waiting(policy).flat_map(|rule| rule.dates().chain(self.opens(rule)));
        boundaries.filter(|boundary| self.now.now() < *boundary).min()
    }

    /// The earliest moment after now at which a share stops holding the record back. The dates of shares are everybody's;
    /// this is of one record alone.
    pub(crate) fn opens_at(&self, policy: &Policy) -> Option<i64> {
        if policy.stopped.covers(&self.viewer.partner) {
            return None;
        }
        self.waiting(policy).filter_map(|rule| self.opens(rule)).filter(|at| self.now.now() < *at).min()
    }

    /// The shares that show something of the record, or may when only time has passed.
    fn waiting<'p>(&'p self, policy: &'p Policy) -> impl Iterator<Item = &'p Rule> {
        let timely = |rule: &Rule, condition| match condition {
            Condition::From | Condition::Until | Condition::List => true,
            Condition::Delay => self.opens(rule).is_some(),
            _ => false,
        };
        policy.shares.iter().filter(move |rule| self.failing(rule, None).all(|condition| timely(rule, condition)))
    }
}

fn bit(slot: usize) -> u64 {
    1 << slot
}
