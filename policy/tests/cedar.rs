//! The oracle: Cedar's evaluator, asked the same questions about the exported rules, must give the same answers.
//!
//! 1,000 random policies, 1,000 random requests each: a partner, a record, a field, a moment. Prints how many were tried
//! and how many of them were allowed. A quicker run: `LOTLINE_CEDAR_POLICIES=50 cargo test -p lotline-policy --test cedar`.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // tests

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request, RestrictedExpression, Schema,
    ValidationMode, Validator,
};
use lotline_policy::{MemberList, Policy, Viewer, cedar, decide};
use lotline_schema::kind::Group;
use lotline_schema::kind::inspection::SCHEMA;
use lotline_schema::{Facts, Hash};

const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;
const PARTNERS: [&str; 4] = ["a", "b", "c", "d"];
const GROUPS: [(&str, &[&str]); 3] = [("ab", &["a", "b"]), ("cd", &["c", "d"]), ("everybody", &PARTNERS)];
const FEEDS: [&str; 2] = ["quality", "trace"];
const PARTS: [&str; 3] = ["P-1", "P \"2\" \\", "P-ä\u{7f}"];
const LOTS: [&str; 3] = ["L-1", "L-2", "L-3"];
/// Those who are on a member list, which ends on the day after.
const LISTED: (&[&str], i64) = (&["b", "c"], 12 * DAY);

/// Purposes that a file declares or knows, and what shares may ask for.
const PURPOSES: [&str; 3] = ["audit", "containment", "a-new-one"];
const ASKED_FOR: [&str; 4] = [
    "for = 'audit'\n",
    "for = ['containment', 'a-new-one']\nthen = { pass_on = 'no' }\n",
    "then = { delete_after = '90d' }\n",
    "then = { delete_after = '2w', pass_on = 'no' }\n",
];

/// The ids of the terms that these come to.
fn terms() -> Vec<Hash> {
    let text = |at: usize| {
        let rule = "[[share]]\nname = 's'\nwith = 'a'\nfeed = 'all'\nparts = 'all'\nshow = ['lot']\nuntil = 'revoked'\n";
        format!("purposes = ['a-new-one']\n{rule}{}", ASKED_FOR[at])
    };
    let id = |at: usize| Policy::restore(&text(at)).unwrap().shares()[0].terms.as_ref().unwrap().id();
    (0..ASKED_FOR.len()).map(id).collect()
}

/// A small generator with its seed printed on failure: the same policies and requests each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        // Weyl sequence and a mix of its bits (splitmix64).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % n as u64) as usize
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn some<'a>(&mut self, of: &[&'a str]) -> Vec<&'a str> {
        let mut some: Vec<&str> = of.iter().copied().filter(|_| self.chance(40)).collect();
        if some.is_empty() {
            some.push(self.one(of));
        }
        some
    }
}

/// The names that `show` may hold: every group, and every field.
fn names() -> Vec<&'static str> {
    const TABLES: [&str; 6] = [
        "measurements:special",
        "measurements:other",
        "capability:special",
        "capability:other",
        "specification:special",
        "specification:other",
    ];
    Group::ALL.into_iter().map(Group::name).chain(TABLES).chain(SCHEMA.fields.iter().map(|field| field.name)).collect()
}

fn list(items: &[&str]) -> String {
    let quoted = |item: &&str| format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\"").replace('\u{7f}', "\\u007f"));
    format!("[{}]", items.iter().map(quoted).collect::<Vec<_>>().join(", "))
}

fn day(days: i64) -> String {
    format!("1970-01-{:02}", days + 1)
}

/// A policy as a person would write it.
fn policy_text(dice: &mut Dice) -> String {
    let mut text = String::from("purposes = ['a-new-one']\n[groups]\n");
    for (group, members) in GROUPS {
        writeln!(text, "{group} = {}", list(members)).unwrap();
    }
    let withs: Vec<&str> = PARTNERS.into_iter().chain(GROUPS.iter().map(|(group, _)| *group)).chain(["members-of:vda"]).collect();
    let names = names();
    for at in 0..1 + dice.below(8) {
        writeln!(text, "[[share]]\nname = 's{at}'").unwrap();
        common(dice, &withs, &names, &mut text);
        let end = 2 + dice.below(20);
        let until = if dice.chance(40) { "'revoked'".into() } else { day(end as i64) };
        writeln!(text, "until = {until}").unwrap();
        if dice.chance(30) {
            writeln!(text, "from = {}", day(dice.below(end) as i64)).unwrap();
        }
        if dice.chance(20) {
            writeln!(text, "kinds = ['inspection']").unwrap();
        }
        if dice.chance(40) {
            writeln!(text, "delay = '{}'", dice.one(&["1h", "36h", "3d", "1w"])).unwrap();
        }
        if dice.chance(40) {
            text.push_str(dice.one(&ASKED_FOR));
        }
        let only = ["'conforming'", "'non-conforming'", "'released'", "['released', 'conforming']", "['non-conforming', 'released']"];
        if dice.chance(40) {
            writeln!(text, "only = {}", dice.one(&only)).unwrap();
        }
    }
    for at in 0..dice.below(4) {
        writeln!(text, "[[never]]\nname = 'n{at}'").unwrap();
        common(dice, &withs, &names, &mut text);
    }
    text
}

/// What shares and nevers both have.
fn common(dice: &mut Dice, withs: &[&str], names: &[&'static str], text: &mut String) {
    let feed = if dice.chance(50) { "all" } else { dice.one(&FEEDS) };
    let parts = match dice.below(4) {
        0 => "'theirs'".into(),
        1 => list(&dice.some(&PARTS)),
        _ => "'all'".into(),
    };
    let show = match dice.below(4) {
        0 => "'everything'".into(),
        _ => list(&(0..1 + dice.below(5)).map(|_| dice.one(names)).collect::<HashSet<_>>().into_iter().collect::<Vec<_>>()),
    };
    writeln!(text, "with = '{}'\nfeed = '{feed}'\nparts = {parts}\nshow = {show}", dice.one(withs)).unwrap();
    if dice.chance(20) {
        writeln!(text, "lots = {}", list(&dice.some(&LOTS))).unwrap();
    }
}

struct Asked {
    partner: &'static str,
    feed: &'static str,
    facts: Facts,
    slot: usize,
    /// When the record was signed, as its facts say too.
    recorded: Option<i64>,
    now: i64,
    viewer: Viewer,
}

fn asked(dice: &mut Dice, terms: &[Hash]) -> Asked {
    let thin = ["special_statistics", "other_statistics"].map(|name| 1u64 << SCHEMA.slot(name).unwrap());
    let recorded = dice.chance(90).then(|| dice.below(12 * 24) as i64 * HOUR);
    let facts = Facts {
        recorded_at: recorded.map(iso),
        kind: "inspection".into(),
        part: dice.chance(90).then(|| dice.one(&["P-1", "P \"2\" \\", "P-ä\u{7f}", "P-9"]).to_owned()),
        customer: dice.chance(80).then(|| dice.one(&PARTNERS).to_owned()),
        verdict: dice.chance(90).then(|| dice.one(&["conforming", "non-conforming", "undecided"]).to_owned()),
        lot: dice.chance(90).then(|| dice.one(&LOTS).to_owned()),
        released: dice.chance(50),
        thin: thin.into_iter().filter(|_| dice.chance(40)).fold(0, |mask, bit| mask | bit),
        ..Facts::default()
    };
    // Statistics are where rules meet: every fourth question is about them.
    let slot = match dice.below(4) {
        0 => SCHEMA.slot(dice.one(&["special_statistics", "other_statistics"])).unwrap(),
        _ => dice.below(SCHEMA.fields.len()),
    };
    // Often exactly on a boundary, or a second before one.
    let day = dice.below(25) as i64 * DAY - dice.below(2) as i64 + if dice.chance(30) { dice.below(86_400) as i64 } else { 0 };
    let delay = [HOUR, 36 * HOUR, 3 * DAY, 7 * DAY][dice.below(4)];
    let now = recorded.filter(|_| dice.chance(40)).map_or(day, |at| at + delay - dice.below(2) as i64);
    let partner = dice.one(&PARTNERS);
    let purposes = PURPOSES.into_iter().filter(|_| dice.chance(60)).map(str::to_owned).collect();
    let accepted = terms.iter().copied().filter(|_| dice.chance(70)).collect();
    let viewer = Viewer { purposes, terms: accepted, ..Viewer::new(partner) };
    Asked { partner, feed: dice.one(&FEEDS), facts, slot, recorded, now, viewer }
}

fn uid(kind: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.parse::<EntityTypeName>().unwrap(), EntityId::new(id))
}

/// Partners with their groups, for all questions about one policy.
fn parties() -> Vec<Entity> {
    let all = || GROUPS.into_iter().chain([("members-of:vda", LISTED.0)]);
    let of = |partner: &str| all().filter(|(_, members)| members.contains(&partner)).map(|(group, _)| uid("Group", group)).collect();
    let partners = PARTNERS.iter().map(|partner| Entity::new_no_attrs(uid("Party", partner), of(partner)));
    all().map(|(group, _)| Entity::new_no_attrs(uid("Group", group), HashSet::new())).chain(partners).collect()
}

fn record(asked: &Asked) -> Entity {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let Facts { part, lot, customer, released, thin, .. } = &asked.facts;
    let names = SCHEMA.fields.iter().enumerate().filter(|(slot, _)| thin >> slot & 1 == 1).map(|(_, field)| text(field.name));
    let mut attributes = HashMap::from([
        ("feed".to_owned(), text(asked.feed)),
        ("thin".to_owned(), RestrictedExpression::new_set(names.collect::<Vec<_>>())),
    ]);
    attributes.insert("released".to_owned(), RestrictedExpression::new_bool(*released));
    attributes.extend(asked.recorded.map(|at| ("recorded".to_owned(), RestrictedExpression::new_datetime(iso(at)))));
    attributes.extend(lot.as_ref().map(|lot| ("lot".to_owned(), text(lot))));
    attributes.extend(part.as_ref().map(|part| ("part".to_owned(), text(part))));
    attributes
        .extend(customer.as_ref().map(|customer| ("customer".to_owned(), RestrictedExpression::new_entity_uid(uid("Party", customer)))));
    attributes.extend(asked.facts.conforming().map(|conforming| ("conforming".to_owned(), RestrictedExpression::new_bool(conforming))));
    Entity::new(uid("Record", "asked"), attributes, HashSet::new()).unwrap()
}

fn cedar_says(set: &PolicySet, parties: &Entities, asked: &Asked) -> Decision {
    let since = RestrictedExpression::new_datetime(iso(asked.now));
    let texts = |texts: Vec<String>| RestrictedExpression::new_set(texts.into_iter().map(RestrictedExpression::new_string));
    let purposes = texts(asked.viewer.purposes.iter().cloned().collect());
    let terms = texts(asked.viewer.terms.iter().map(ToString::to_string).collect());
    let said = [("now".to_owned(), since), ("purposes".to_owned(), purposes), ("terms".to_owned(), terms)];
    let context = Context::from_pairs(said).unwrap();
    let action = uid("Action", &format!("inspection:{}", SCHEMA.fields[asked.slot].name));
    let request = Request::new(uid("Party", asked.partner), action, uid("Record", "asked"), context, None).unwrap();
    let entities = parties.clone().add_entities([record(asked)], None).unwrap();
    let response = Authorizer::new().is_authorized(&request, set, &entities);
    // A policy that errs is skipped by Cedar: that would be a forbid that forbids nothing.
    let errors: Vec<String> = response.diagnostics().errors().map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{errors:?}");
    response.decision()
}

/// Seconds as Cedar reads them; only days of January 1970 and the last second before are asked for.
fn iso(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let date = if days < 0 { "1969-12-31".into() } else { day(days) };
    format!("{date}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// The actions as entities, so that Cedar knows which field is in which group.
fn actions(schema: &Schema) -> Vec<Entity> {
    schema.action_entities().unwrap().iter().cloned().collect()
}

#[test]
fn cedar_gives_the_same_answers() {
    let count = |name: &str, otherwise: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (policies, requests) = (count("LOTLINE_CEDAR_POLICIES", 1_000), 1_000);
    let (schema, warnings) = Schema::from_cedarschema_str(&cedar::schema()).unwrap();
    assert_eq!(warnings.map(|warning| warning.to_string()).collect::<Vec<_>>(), Vec::<String>::new());
    let parties = Entities::from_entities(parties().into_iter().chain(actions(&schema)), None).unwrap();
    let validator = Validator::new(schema);
    let terms = &terms();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = |first: usize| {
        let mut allowed = 0usize;
        for seed in (first..policies).step_by(cores) {
            let dice = &mut Dice(seed as u64);
            let text = policy_text(dice);
            let list =
                MemberList { hash: Hash([0; 32]), until: LISTED.1, partners: LISTED.0.iter().map(|name| name.to_string()).collect() };
            let lists = if text.contains("members-of:vda") { BTreeMap::from([("vda".to_owned(), list)]) } else { BTreeMap::new() };
            let policy = Policy::restore_with(&text, &lists).unwrap_or_else(|why| panic!("policy {seed}: {why}\n{text}"));
            let policy = if dice.below(20) == 0 { policy.stop(Some("a")) } else { policy };
            let exported = cedar::export(&policy);
            let set: PolicySet = exported.parse().unwrap_or_else(|why| panic!("policy {seed}: {why}\n{exported}"));
            let validation = validator.validate(&set, ValidationMode::Strict);
            let errors: Vec<String> = validation.validation_errors().map(ToString::to_string).collect();
            assert!(errors.is_empty(), "policy {seed}: {errors:?}\n{exported}");
            for number in 0..requests {
                let asked = asked(dice, terms);
                let ours = decide(&policy, &asked.viewer, asked.feed, &SCHEMA, &asked.facts, asked.now).mask >> asked.slot & 1 == 1;
                let theirs = cedar_says(&set, &parties, &asked) == Decision::Allow;
                let field = SCHEMA.fields[asked.slot].name;
                assert_eq!(
                    ours, theirs,
                    "policy {seed}, request {number}: may {} see {field} of feed {} at {}? {:?}\n{text}\n{exported}",
                    asked.partner, asked.feed, asked.now, asked.facts
                );
                allowed += usize::from(ours);
            }
        }
        allowed
    };
    let allowed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|first| scope.spawn(move || work(first))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let asked = policies * requests;
    println!("asked Cedar {asked} questions about {policies} policies: 0 differences, {allowed} allowed");
    assert!(allowed > asked / 50 && allowed < asked / 2, "the questions are not worth asking");
}

#[test]
fn names_that_end_a_string_do_not() {
    let text = "[[share]]\nname = 's\"); permit(principal, action, resource'\nwith = 'a'\nfeed = 'all'\nparts = 'all'\nshow = ['lot']\nuntil = 'revoked'";
    let exported = cedar::export(&Policy::restore(text).unwrap());
    let set: PolicySet = exported.parse().unwrap();
    let permits = set.policies().filter(|policy| policy.effect() == cedar_policy::Effect::Permit);
    assert_eq!(permits.count(), 1, "{exported}");
}
