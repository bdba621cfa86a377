//! Laws every policy keeps, on generated policies, viewers, records and times.
#![allow(clippy::unwrap_used)] // tests

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lotline_policy::{Condition, Decision, Item, MemberList, NearMiss, Policy, Reason, Viewer, clear, decide, next_change, view_id};
use lotline_schema::kind::inspection::SCHEMA;
use lotline_schema::slot::Disclosure;
use lotline_schema::terms::Terms;
use lotline_schema::{Facts, Hash, Origin};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const DAY: i64 = 86_400;
const PARTNERS: [&str; 3] = ["a", "b", "c"];
const WITH: [&str; 6] = ["a", "b", "c", "ab", "everybody", "members-of:l"];
/// The day on which the list of `a` and `b` ends.
const LIST_UNTIL: i64 = 7;
const HOUR: i64 = 3_600;
const DELAYS: [(&str, i64); 4] = [("1h", 1), ("30h", 30), ("4d", 96), ("1w", 168)];
/// What records say of when they were signed, and the first second after it.
const RECORDED: [(&str, Option<i64>); 6] = [
    ("1970-01-01T00:00:00Z", Some(0)),
    ("1970-01-03T12:00:00Z", Some(2 * DAY + 12 * HOUR)),
    ("1970-01-04T01:30:00+01:00", Some(3 * DAY + 1_800)),
    ("1970-01-04T05:59:59.5Z", Some(3 * DAY + 6 * HOUR)),
    ("1970-01-02", None),
    ("", None),
];
const SHOWN: [&str; 11] = [
    "identity",
    "verdict",
    "capability",
    "measurements",
    "inspector",
    "lot",
    "special_values",
    "special_statistics",
    "process",
    "measurements:other",
    "capability:special",
];

/// What shares may ask for, as written; the purposes that it names; and the terms it comes to.
fn asked_for(at: usize) -> (&'static str, &'static [&'static str], Terms) {
    let (text, purposes, days, stays): (_, &[&str], _, _) = [
        ("for = 'audit'", &["audit"][..], None, false),
        ("for = ['containment', 'audit']\nthen = { delete_after = '2w' }", &["audit", "containment"][..], Some(14), false),
        ("then = { pass_on = 'no', delete_after = '90d' }", &[][..], Some(90), true),
    ][at];
    (text, purposes, Terms::new(purposes.iter().map(|purpose| purpose.to_string()).collect(), days, stays).unwrap())
}

/// A rule as a user would write it; days since 1970.
#[derive(Clone, Debug)]
struct Draft {
    with: &'static str,
    feed: &'static str,
    parts: Vec<&'static str>,
    theirs: bool,
    lots: Vec<&'static str>,
    show: Vec<&'static str>,
    kind: Option<&'static str>,
    only: Option<&'static str>,
    released: bool,
    delay: Option<&'static str>,
    terms: Option<usize>,
    from: Option<i64>,
    until: Option<i64>,
}

impl Draft {
    fn write(&self, share: bool, name: &str, text: &mut String) {
        let Draft { with, feed, show, .. } = self;
        let list = |items: &[&str]| format!("{items:?}");
        let parts = if self.theirs {
            "'theirs'".into()
        } else if self.parts.is_empty() {
            "'all'".into()
        } else {
            list(&self.parts)
        };
        let show = if show.is_empty() { "'everything'".into() } else { list(show) };
        let word = if share { "share" } else { "never" };
        writeln!(text, "[[{word}]]\nname = '{name}'\nwith = '{with}'\nfeed = '{feed}'\nparts = {parts}\nshow = {show}").unwrap();
        if !self.lots.is_empty() {
            writeln!(text, "lots = {}", list(&self.lots)).unwrap();
        }
        if share {
            let day = |days: i64| format!("{:04}-01-{:02}", 1970, days + 1);
            let until = self.until.map_or("'revoked'".into(), day);
            writeln!(text, "until = {until}").unwrap();
            if let Some(from) = self.from {
                writeln!(text, "from = {}", day(from)).unwrap();
            }
            if let Some(kind) = self.kind {
                writeln!(text, "kinds = ['{kind}']").unwrap();
            }
            if let Some(delay) = self.delay {
                writeln!(text, "delay = '{delay}'").unwrap();
            }
            if let Some(terms) = self.terms {
                writeln!(text, "{}", asked_for(terms).0).unwrap();
            }
            match (self.only, self.released) {
                (Some(only), true) => writeln!(text, "only = ['{only}', 'released']").unwrap(),
                (None, true) => writeln!(text, "only = 'released'").unwrap(),
                (Some(only), false) => writeln!(text, "only = '{only}'").unwrap(),
                (None, false) => {}
            }
        }
    }

    /// The same rule with one condition met by anything. Whoever has accepted its terms misses the purpose alone; with the
    /// terms the purpose is given.
    fn relaxed(&self, condition: Condition, field: &'static str, asked: &Asked) -> Draft {
        let mut draft = self.clone();
        match condition {
            // The list keeps its end.
            Condition::Partner if self.with.starts_with("members-of:") => draft.with = "members-of:all",
            Condition::Partner => draft.with = "everybody",
            // An empty list means everything, but the inspector.
            Condition::Field if self.show.is_empty() && field != "inspector" => {}
            Condition::Field => draft.show.push(field),
            Condition::Feed => draft.feed = "all",
            Condition::Kind => draft.kind = None,
            Condition::Parts => (draft.parts, draft.theirs) = (Vec::new(), false),
            Condition::Lots => draft.lots.clear(),
            Condition::Only => draft.only = None,
            Condition::Released => draft.released = false,
            Condition::From => draft.from = None,
            Condition::Until => draft.until = None,
            Condition::List if self.with == "members-of:all" => draft.with = "everybody",
            Condition::List => draft.with = "ab",
            Condition::Delay => draft.delay = None,
            Condition::Purpose if self.terms.is_some_and(|terms| !asked.accepted.contains(&terms)) => {}
            Condition::Purpose | Condition::Terms => draft.terms = None,
        }
        draft
    }
}

#[derive(Clone, Debug)]
struct Rules {
    shares: Vec<Draft>,
    nevers: Vec<Draft>,
}

impl Rules {
    fn policy(&self) -> Policy {
        let mut text = String::from("[groups]\nab = ['a', 'b']\neverybody = ['a', 'b', 'c']\n");
        self.shares.iter().enumerate().for_each(|(at, draft)| draft.write(true, &format!("s{at}"), &mut text));
        self.nevers.iter().enumerate().for_each(|(at, draft)| draft.write(false, &format!("n{at}"), &mut text));
        Policy::restore_with(&text, &lists()).unwrap()
    }
}

fn lists() -> BTreeMap<String, MemberList> {
    let list = |partners: &[&str]| MemberList {
        hash: Hash([0; 32]),
        until: LIST_UNTIL * DAY,
        partners: partners.iter().map(|name| name.to_string()).collect(),
    };
    BTreeMap::from([("l".into(), list(&["a", "b"])), ("all".into(), list(&PARTNERS))])
}

#[derive(Clone, Debug)]
struct Asked {
    partner: &'static str,
    feed: &'static str,
    facts: Facts,
    stated: Vec<&'static str>,
    accepted: Vec<usize>,
    now: i64,
}

impl Asked {
    fn viewer(&self) -> Viewer {
        let purposes = self.stated.iter().map(|purpose| purpose.to_string()).collect();
        let terms = self.accepted.iter().map(|at| asked_for(*at).2.id()).collect();
        Viewer { purposes, terms, ..Viewer::new(self.partner) }
    }

    /// The day and hour that the record says, or nothing that can be read.
    fn recorded(&self) -> Option<i64> {
        RECORDED.iter().find(|(text, _)| self.facts.recorded_at.as_deref() == Some(text))?.1
    }

    fn decide(&self, policy: &Policy, now: i64) -> Decision {
        decide(policy, &self.viewer(), self.feed, &SCHEMA, &self.facts, now)
    }

    /// When the door out says that a delay ends.
    fn opens_at(&self, policy: &Policy) -> Option<i64> {
        let disclosures = vec![Disclosure::seal(&[7; 16], None); SCHEMA.fields.len()];
        let (feed, schema, facts) = (self.feed, Some(&SCHEMA), &self.facts);
        let item = Item { feed, origin: "o", seq: 1, leaf: Hash([0; 32]), core: b"", disclosures: &disclosures, schema, facts };
        clear(policy, &self.viewer(), &item, self.now).opens_at()
    }

    /// A second evaluator, written from the manual and not from the code.
    fn by_the_book(&self, rules: &Rules) -> u64 {
        let covers = |rule: &Draft| {
            let partner = match rule.with {
                "everybody" => true,
                "ab" | "members-of:l" => self.partner != "c",
                name => name == self.partner,
            };
            let feed = rule.feed == "all" || rule.feed == self.feed;
            let part = match (rule.theirs, &rule.parts[..]) {
                (true, _) => self.facts.customer.as_deref() == Some(self.partner),
                (false, []) => true,
                (false, parts) => parts.iter().any(|part| self.facts.part.as_deref() == Some(part)),
            };
            let lot = rule.lots.is_empty() || rule.lots.iter().any(|lot| self.facts.lot.as_deref() == Some(lot));
            partner && feed && part && lot
        };
        let holds = |share: &Draft| {
            let time = share.from.is_none_or(|from| from * DAY <= self.now) && share.until.is_none_or(|until| self.now < until * DAY);
            let verdict = share.only.is_none_or(|only| self.facts.verdict.as_deref() == Some(only));
            let old_enough = share.delay.is_none_or(|delay| {
                let hours = DELAYS.iter().find(|(text, _)| *text == delay).unwrap().1;
                self.recorded().is_some_and(|at| at + hours * HOUR <= self.now)
            });
            let agreed = share.terms.is_none_or(|at| {
                let (_, purposes, _) = asked_for(at);
                self.accepted.contains(&at) && (purposes.is_empty() || purposes.iter().any(|purpose| self.stated.contains(purpose)))
            });
            let listed = share.with != "members-of:l" || self.now < LIST_UNTIL * DAY;
            covers(share)
                && time
                && listed
                && agreed
                && old_enough
                && (!share.released || self.facts.released)
                && verdict
                && share.kind.is_none_or(|kind| kind == "inspection")
        };
        let mut mask = 0;
        for (slot, field) in SCHEMA.fields.iter().enumerate() {
            let table = field.name.split('_').next().filter(|word| ["special", "other"].contains(word));
            let tabled = table.map(|table| format!("{}:{table}", field.group));
            let names = |rule: &Draft| {
                let tabled = tabled.as_ref().is_some_and(|tabled| rule.show.contains(&tabled.as_str()));
                rule.show.contains(&field.name) || rule.show.contains(&field.group.name()) || tabled
            };
            let shown =
                self.facts_share(&rules.shares, &holds, |share| names(share) || (share.show.is_empty() && field.name != "inspector"));
            let banned = self.facts_share(&rules.nevers, &covers, |never| names(never) || never.show.is_empty());
            if shown && !banned {
                mask |= 1 << slot;
            }
        }
        for table in ["special", "other"] {
            let slot = |what: &str| SCHEMA.slot(&format!("{table}_{what}")).unwrap();
            if self.facts.thin >> slot("statistics") & 1 == 1 && mask >> slot("values") & 1 == 0 {
                mask &= !(1 << slot("statistics"));
            }
        }
        mask
    }

    fn facts_share(&self, rules: &[Draft], holds: &dyn Fn(&Draft) -> bool, names: impl Fn(&Draft) -> bool) -> bool {
        rules.iter().any(|rule| holds(rule) && names(rule))
    }
}

fn draft() -> impl Strategy<Value = Draft> {
    let lots = prop_oneof![2 => Just(Vec::new()), 1 => subsequence(&["L", "M"][..], 1..=2)];
    let whom = (select(&WITH[..]), select(&["all", "f", "g"][..]));
    let what = (subsequence(&["P", "Q"][..], 0..=2), prop::bool::weighted(0.3), subsequence(&SHOWN[..], 0..4), lots);
    let only = (option::of(select(&["conforming", "non-conforming"][..])), prop::bool::weighted(0.3));
    let which = (option::weighted(0.2, select(&["inspection", "custom/benchmark"][..])), only);
    let delay = option::of(select(&DELAYS[..]).prop_map(|(text, _)| text));
    let when = (option::of(0i64..6), option::of(1i64..6), (delay, option::weighted(0.4, 0usize..3)));
    (whom, what, which, when).prop_map(
        |((with, feed), (parts, theirs, show, lots), (kind, (only, released)), (from, length, (delay, terms)))| {
            let until = length.map(|length| from.unwrap_or(0) + length);
            Draft { with, feed, parts, theirs, lots, show, kind, only, released, delay, terms, from, until }
        },
    )
}

fn rules() -> impl Strategy<Value = Rules> {
    (vec(draft(), 0..5), vec(draft(), 0..3)).prop_map(|(shares, nevers)| Rules { shares, nevers })
}

fn asked() -> impl Strategy<Value = Asked> {
    let thin = select(&["special_statistics", "other_statistics", ""][..]);
    let facts =
        (select(&["P", "Q", "R"][..]), option::of(select(&PARTNERS[..])), select(&["conforming", "non-conforming", "undecided"][..]), thin);
    let now = prop_oneof![
        0i64..12 * DAY,
        (0i64..12 * 48).prop_map(|half| half * HOUR / 2),
        (1i64..12 * 48).prop_map(|half| half * HOUR / 2 - 1),
        (0i64..12).prop_map(|day| day * DAY),
        (1i64..12).prop_map(|day| day * DAY - 1)
    ];
    let recorded = option::of(select(&RECORDED[..]).prop_map(|(text, _)| text.to_owned()));
    let agreed = (subsequence(&["audit", "containment", "other"][..], 0..=3), subsequence(vec![0usize, 1, 2], 0..=3));
    let whom = (select(&PARTNERS[..]), select(&["f", "g"][..]), agreed);
    (whom, (facts, any::<bool>(), select(&["L", "M", "N"][..]), recorded), now).prop_map(
        |((partner, feed, (stated, accepted)), ((part, customer, verdict, thin), released, lot, recorded_at), now)| {
            let thin = SCHEMA.slot(thin).map_or(0, |slot| 1 << slot);
            let (part, verdict) = (Some(part.into()), Some(verdict.into()));
            let facts = Facts {
                kind: "inspection".into(),
                part,
                verdict,
                customer: customer.map(Into::into),
                thin,
                released,
                recorded_at,
                lot: Some(lot.into()),
                ..Facts::default()
            };
            Asked { partner, feed, facts, stated, accepted, now }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_second_evaluator_agrees(rules in rules(), asked in asked()) {
        prop_assert_eq!(asked.decide(&rules.policy(), asked.now).mask, asked.by_the_book(&rules));
    }

    #[test]
    fn order_means_nothing(rules in rules(), asked in asked()) {
        // Reversing blocks of text keeps names with their rules.
        let policy = rules.policy();
        let mut blocks: Vec<&str> = policy.text().split_inclusive("\n").collect();
        let starts: Vec<usize> = blocks.iter().enumerate().filter(|(_, line)| line.starts_with('[')).map(|(at, _)| at).chain([blocks.len()]).collect();
        let sections: Vec<String> = starts.windows(2).rev().map(|pair| blocks[pair[0]..pair[1]].concat()).collect();
        blocks.clear();
        let turned = Policy::restore_with(&sections.concat(), &lists()).unwrap();
        prop_assert_eq!((policy.shares(), policy.nevers()), (turned.shares(), turned.nevers()));
        prop_assert_eq!(asked.decide(&policy, asked.now), asked.decide(&turned, asked.now));
    }

    #[test]
    fn a_never_only_removes_and_a_share_only_adds(rules in rules(), more in draft(), asked in asked()) {
        let mask = asked.decide(&rules.policy(), asked.now).mask;
        let mut narrowed = rules.clone();
        narrowed.nevers.push(more.clone());
        prop_assert_eq!(asked.decide(&narrowed.policy(), asked.now).mask & !mask, 0);
        let mut widened = rules.clone();
        widened.shares.push(more);
        prop_assert_eq!(mask & !asked.decide(&widened.policy(), asked.now).mask, 0);
    }

    #[test]
    fn a_never_wins_over_any_share(rules in rules(), asked in asked()) {
        let mut rules = rules;
        let all = Draft { with: "everybody", feed: "all", parts: vec![], theirs: false, lots: vec![], show: vec![], kind: None, only: None, released: false, delay: None, terms: None, from: None, until: None };
        rules.nevers.push(all);
        let decision = asked.decide(&rules.policy(), asked.now);
        prop_assert_eq!(decision.mask, 0);
        let banned = decision.reasons.iter().all(|reason| matches!(reason, Reason::Banned { .. }));
        prop_assert!(banned);
    }

    #[test]
    fn nothing_changes_before_its_time(rules in rules(), asked in asked()) {
        let (policy, viewer) = (rules.policy(), asked.viewer());
        let origin: Origin = format!("z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd/{}/1", asked.feed).parse().unwrap();
        let now = asked.decide(&policy, asked.now);
        let halves = (0..14 * 48).map(|half| half * HOUR / 2);
        for moment in halves.flat_map(|half| [half - 1, half]).filter(|moment| asked.now < *moment) {
            let then = asked.decide(&policy, moment);
            if now.changes_at.is_none_or(|at| moment < at) {
                prop_assert_eq!(now.mask, then.mask);
            }
            if now.mask != then.mask {
                // A date of a share gives another view; the end of a delay is the record's own, and only opens.
                let another = view_id(&policy, &viewer, &origin, asked.now) != view_id(&policy, &viewer, &origin, moment);
                let announced = next_change(&policy, &viewer, asked.feed, asked.now).is_some_and(|at| at <= moment);
                prop_assert_eq!(another, announced);
                let waited = asked.opens_at(&policy).is_some_and(|at| at <= moment && now.changes_at.is_some_and(|first| first <= at));
                prop_assert!(announced || waited && now.mask & !then.mask == 0);
            }
        }
        prop_assert!(now.changes_at.is_none_or(|at| asked.now < at));
    }

    #[test]
    fn reasons_are_true(rules in rules(), asked in asked()) {
        let decision = asked.decide(&rules.policy(), asked.now);
        let shows = |rules: &Rules, slot: usize| asked.decide(&rules.policy(), asked.now).mask >> slot & 1 == 1;
        // What is seen when one condition of one share is met by anything.
        let mut relaxed = Vec::new();
        for (at, share) in rules.shares.iter().enumerate() {
            for condition in Condition::ALL.into_iter().filter(|condition| *condition != Condition::Field) {
                let mut changed = rules.clone();
                changed.shares[at] = share.relaxed(condition, "", &asked);
                relaxed.push((condition, asked.decide(&changed.policy(), asked.now).mask));
            }
        }
        let number = |name: &str| name[1..].parse::<usize>().unwrap();
        for (slot, reason) in decision.reasons.iter().enumerate() {
            prop_assert_eq!(decision.mask >> slot & 1 == 1, matches!(reason, Reason::Shown { .. }));
            let mut changed = rules.clone();
            match reason {
                // Alone, this share shows it, or would if its values were shown as well.
                Reason::Shown { rule } | Reason::Thin { rule, .. } => {
                    let share = &mut changed.shares[number(rule)];
                    if asked.facts.thin >> slot & 1 == 1 {
                        *share = share.relaxed(Condition::Field, "measurements", &asked);
                    }
                    changed.shares = vec![share.clone()];
                    changed.nevers.clear();
                    prop_assert!(shows(&changed, slot));
                }
                // Alone, this never hides it from a share that shows all.
                Reason::Banned { rule } => {
                    changed.nevers = vec![changed.nevers[number(rule)].clone()];
                    let all = Draft { with: "everybody", feed: "all", parts: vec![], theirs: false, lots: vec![], show: vec![], kind: None, only: None, released: false, delay: None, terms: None, from: None, until: None };
                    changed.shares = vec![all.relaxed(Condition::Field, "inspector", &asked), all];
                    prop_assert!(!shows(&changed, slot));
                }
                Reason::NoRule { nearest: Some(NearMiss { rule, condition }) } => {
                    changed.shares[number(rule)] = changed.shares[number(rule)].relaxed(*condition, SCHEMA.fields[slot].name, &asked);
                    prop_assert!(shows(&changed, slot), "{} {:?}", SCHEMA.fields[slot].name, reason);
                }
                Reason::NoRule { nearest: None } => {
                    for (at, share) in rules.shares.iter().enumerate() {
                        let field = SCHEMA.fields[slot].name;
                        changed.shares[at] = share.relaxed(Condition::Field, field, &asked);
                        prop_assert!(share.show.is_empty() || !shows(&changed, slot), "{} by its name", field);
                        changed.shares[at] = share.clone();
                    }
                    for (condition, mask) in &relaxed {
                        prop_assert!(mask >> slot & 1 == 0, "{} by {:?}", SCHEMA.fields[slot].name, condition);
                    }
                }
                Reason::Stopped => prop_assert!(false, "nobody is stopped"),
                Reason::Forgotten { .. } => prop_assert!(false, "nothing is forgotten"),
            }
        }
    }

    #[test]
    fn what_is_under_terms_is_what_nobody_sees_without_them(rules in rules(), asked in asked()) {
        let (policy, disclosures) = (rules.policy(), vec![Disclosure::seal(&[7; 16], None); SCHEMA.fields.len()]);
        let (feed, schema, facts) = (asked.feed, Some(&SCHEMA), &asked.facts);
        let item = Item { feed, origin: "o", seq: 1, leaf: Hash([0; 32]), core: b"", disclosures: &disclosures, schema, facts };
        let seen = clear(&policy, &asked.viewer(), &item, asked.now);
        let free = clear(&policy, &Viewer::new(asked.partner), &item, asked.now).mask();
        let mut under = 0;
        for (id, slots) in seen.under() {
            prop_assert!(*slots != 0 && under & slots == 0, "each slot once");
            prop_assert!(asked.viewer().terms.contains(id));
            under |= slots;
        }
        prop_assert_eq!(under, seen.mask() & !free);
    }

    #[test]
    fn reading_never_panics(text in "[\\[\\]a-z_='\",\n0-9{}. -]{0,120}") {
        let _ = Policy::restore(&text);
    }
}
