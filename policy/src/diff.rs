//! What another version of the rules changes: bans that go, rules that differ, and who gains and loses what of the records
//! there are, now and on every later day on which a rule begins or ends.

use std::collections::{BTreeMap, BTreeSet};

use lotline_schema::kind::Schema;
use serde::Serialize;

use crate::classes::Classes;
use crate::decide::{Question, Shown, Viewer};
use crate::explain::{list, moment, names_of};
use crate::policy::{Condition, Policy, Rule};

/// What changes between two versions of the rules.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Difference {
    /// Names of nevers that are there no more.
    pub removed_bans: Vec<String>,
    /// Every other rule that was added, removed or changed, in words.
    pub rules: Vec<String>,
    /// Terms that a partner has not accepted and now has to, in the order of partners and rules.
    pub to_accept: Vec<ToAccept>,
    /// Who gains and loses what, in the order of partners and feeds, by what partners have accepted so far.
    pub changes: Vec<Change>,
}

/// Terms of a new or changed share that a partner must accept before the share shows it anything.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ToAccept {
    /// The partner.
    pub partner: String,
    /// The share.
    pub rule: String,
    /// The id of the terms, in hex.
    pub terms: String,
    /// What is to be promised.
    pub promises: Vec<String>,
    /// Whether the partner has accepted other terms of this share, which count no more.
    pub anew: bool,
}

/// Fields of records of one feed that a partner gains or loses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Change {
    /// The partner.
    pub partner: String,
    /// The feed.
    pub feed: String,
    /// Whether it gains them; else it loses them.
    pub gains: bool,
    /// Groups, tables of groups and single fields.
    pub fields: Vec<String>,
    /// How many records.
    pub records: u64,
    /// From when on, in seconds since 1970; none: at once.
    pub from: Option<i64>,
    /// The first second for which both versions agree again, or differ otherwise; none: for good.
    pub until: Option<i64>,
}

impl Difference {
    /// Compares two versions over the records counted in `classes`, from `now` on. The classes must be those of both policies.
    pub fn between<'p>(
        before: &Policy,
        after: &Policy,
        viewers: impl IntoIterator<Item = &'p Viewer>,
        classes: &Classes,
        now: i64,
    ) -> Difference {
        let (mut changes, mut to_accept) = (Vec::new(), Vec::new());
        for viewer in viewers {
            let (old, new) = (before.about(&viewer.partner), after.about(&viewer.partner));
            if (&old.shares, &old.nevers, &old.stopped) != (&new.shares, &new.nevers, &new.stopped) {
                changes.extend(of_partner(&old, &new, viewer, classes, now));
                to_accept.extend(terms_of(&old, &new, viewer));
            }
        }
        let kept: BTreeSet<&str> = after.nevers.iter().map(|never| never.name.as_str()).collect();
        let removed = before.nevers.iter().filter(|never| !kept.contains(never.name.as_str()));
        Difference { removed_bans: removed.map(|never| never.name.clone()).collect(), rules: rules(before, after), to_accept, changes }
    }

    /// Whether nothing changes, neither a rule nor what anybody sees.
    pub fn is_empty(&self) -> bool {
        *self == Difference::default()
    }

    /// One sentence for each ban that goes, for each rule that differs, and for each partner and feed in each span of time.
    pub fn words(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.removed_bans.iter().map(|name| format!("REMOVED BAN `{name}`")).collect();
        lines.extend(self.rules.iter().cloned());
        lines.extend(self.to_accept.iter().map(|of| {
            let anew = if of.anew { " anew" } else { "" };
            format!("{} must accept{anew} before `{}` shows it anything: {}", of.partner, of.rule, of.promises.join("; "))
        }));
        let place = |change: &Change| (change.partner.clone(), change.feed.clone(), change.from, change.until);
        for alike in self.changes.chunk_by(|a, b| place(a) == place(b)) {
            let Change { partner, feed, from, until, .. } = &alike[0];
            let when = match (from, until) {
                (None, None) => String::new(),
                (Some(from), None) => format!("from {} on, ", moment(*from)),
                (None, Some(until)) => format!("until {}, ", moment(*until)),
                (Some(from), Some(until)) => format!("from {} until {}, ", moment(*from), moment(*until)),
            };
            let side = |gains: bool| {
                let of = alike.iter().filter(|change| change.gains == gains);
                let each: Vec<String> = of.map(|change| format!("{} of {}", change.fields.join(", "), records(change.records))).collect();
                let verb = if gains { "gains" } else { "loses" };
                (!each.is_empty()).then(|| format!("{verb} {}", each.join(" and ")))
            };
            let sides: Vec<String> = [true, false].into_iter().filter_map(side).collect();
            lines.push(format!("{when}{partner} {} in feed {feed}", sides.join("; it ")));
        }
        lines
    }
}

fn records(count: u64) -> String {
    if count == 1 { "1 record".into() } else { format!("{count} records") }
}

/// The terms of shares that are new or ask for others than before, as far as a partner has not accepted them.
fn terms_of(before: &Policy, after: &Policy, viewer: &Viewer) -> Vec<ToAccept> {
    let was = |name: &str| before.shares.iter().find(|share| share.name == name).and_then(|share| share.terms.as_ref());
    let asks = |share: &Rule| {
        let terms = share.terms.as_ref().filter(|terms| was(&share.name) != Some(*terms) && !viewer.terms.contains(&terms.id()))?;
        Some(ToAccept {
            partner: viewer.partner.clone(),
            rule: share.name.clone(),
            terms: terms.id().to_string(),
            promises: terms.promises(),
            anew: was(&share.name).is_some_and(|was| viewer.terms.contains(&was.id())),
        })
    };
    after.shares.iter().filter_map(asks).collect()
}

/// What one partner gains and loses. Each class of records is followed through the moments at which either version changes.
fn of_partner(before: &Policy, after: &Policy, viewer: &Viewer, classes: &Classes, now: i64) -> Vec<Change> {
    type Place = (String, Option<i64>, Option<i64>, bool, u64, &'static str);
    let mut counts: BTreeMap<Place, (&'static Schema, u64)> = BTreeMap::new();
    for (class, count) in classes.iter() {
        let (facts, schema) = (class.facts(), class.schema());
        let shown = |policy: &Policy, now: i64| Question::new(viewer, class.feed(), schema, &facts, now).shown(policy);
        for gains in [true, false] {
            for (from, until, mask) in spans(now, |at| {
                let (old, new) = (shown(before, at), shown(after, at));
                let mask = if gains { new.mask & !old.mask } else { old.mask & !new.mask };
                Shown { mask, changes_at: [old.changes_at, new.changes_at].into_iter().flatten().min() }
            }) {
                let place = (class.feed().to_owned(), from, until, gains, mask, schema.name);
                counts.entry(place).or_insert((schema, 0)).1 += count;
            }
        }
    }
    let change = |((feed, from, until, gains, mask, _), (schema, records))| Change {
        partner: viewer.partner.clone(),
        feed,
        gains,
        fields: names_of(schema, mask),
        records,
        from,
        until,
    };
    counts.into_iter().map(change).collect()
}

/// The spans of time over which a mask stays the same and is not empty.
fn spans(now: i64, at: impl Fn(i64) -> Shown) -> Vec<(Option<i64>, Option<i64>, u64)> {
    let mut spans: Vec<(Option<i64>, Option<i64>, u64)> = Vec::new();
    let (mut from, mut shown) = (None, at(now));
    loop {
        let next = shown.changes_at;
        match spans.last_mut().filter(|(_, until, mask)| from.is_some() && *until == from && *mask == shown.mask) {
            Some(span) => span.1 = next,
            None => spans.push((from, next, shown.mask)),
        }
        let Some(moment) = next else {
            spans.retain(|(.., mask)| *mask != 0);
            return spans;
        };
        (from, shown) = (next, at(moment));
    }
}

/// Rules that were added, removed or changed, in words; bans that went are said apart.
fn rules(before: &Policy, after: &Policy) -> Vec<String> {
    let mut lines = Vec::new();
    for (word, old, new) in [("share", &before.shares, &after.shares), ("never", &before.nevers, &after.nevers)] {
        let named = |rules: &[Rule], name: &str| rules.iter().find(|rule| rule.name == name).cloned();
        for rule in new {
            match named(old, &rule.name) {
                None => lines.push(format!("new {word} `{}`: it {}", rule.name, says_all(rule).join(", "))),
                Some(was) if was != *rule => lines.push(format!("{word} `{}`: {}", rule.name, changed(&was, rule).join("; "))),
                Some(_) => {}
            }
        }
        let gone = old.iter().filter(|rule| word == "share" && named(new, &rule.name).is_none());
        lines.extend(gone.map(|rule| format!("removed {word} `{}`: it {}", rule.name, says_all(rule).join(", "))));
    }
    lines
}

/// All that a rule asks, in words, without what it leaves open.
fn says_all(rule: &Rule) -> Vec<String> {
    let asks = |condition: &Condition| rule.asks(*condition);
    Condition::ALL.into_iter().filter(asks).map(|condition| rule.says(condition)).collect()
}

fn changed(was: &Rule, is: &Rule) -> Vec<String> {
    let mut changes = Vec::new();
    for condition in Condition::ALL {
        let (old, new) = (was.says(condition), is.says(condition));
        if old != new {
            changes.push(format!("it {new} (before: it {old})"));
        }
    }
    // The group or list is called as before, and means others.
    if was.with == is.with {
        let (more, less) = (is.partners.difference(&was.partners), was.partners.difference(&is.partners));
        let (more, less) = (list(more), list(less));
        changes.extend((!more.is_empty()).then(|| format!("it is for {more} too")));
        changes.extend((!less.is_empty()).then(|| format!("it is no longer for {less}")));
    }
    changes
}
