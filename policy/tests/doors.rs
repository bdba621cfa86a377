//! What leaves, for whom, and what the words about it say.
#![allow(clippy::unwrap_used)] // tests

use std::collections::BTreeSet;

use lotline_policy::{
    Basis, Cleared, Condition, FullDisclosure, Item, NearMiss, Policy, RELEASE_SHOWN, Reason, Viewer, clear, clear_release, decide,
    next_change, offer, term, view_id,
};
use lotline_schema::cose::Signer;
use lotline_schema::kind::inspection::{Inspection, SCHEMA, Verdict};
use lotline_schema::kind::{Group, Schema};
use lotline_schema::release::Release;
use lotline_schema::statement::{Place, Sealed, Type, seal_entry, seal_record};
use lotline_schema::{Facts, Hash, Origin, PartyId, codec};

const POLICY: &str = r#"
[groups]
customers = ["oem-a", "oem-b"]
competitors = ["rival"]

[[share]]
name = "a-part"
with = "oem-a"
feed = "quality"
parts = ["P-1"]
show = ["identity", "verdict", "special_statistics", "inspector"]
until = 2027-01-01

[[share]]
name = "b-all"
with = "oem-b"
feed = "all"
parts = "theirs"
show = "everything"
from = 2026-12-01
until = "revoked"

[[share]]
name = "b-bad-lots"
with = "oem-b"
feed = "quality"
parts = "all"
show = ["identity", "defects"]
only = "non-conforming"
until = "revoked"

[[share]]
name = "everybody"
with = "customers"
feed = "open"
parts = "all"
show = ["verdict"]
until = "revoked"

[[share]]
name = "rival-once"
with = "rival"
feed = "open"
parts = "all"
show = ["verdict"]
until = "revoked"

[[never]]
name = "no-competitors"
with = "competitors"
show = "everything"

[[never]]
name = "process-stays-here"
with = "customers"
show = ["process", "commercial"]

[[never]]
name = "p-2-is-secret"
with = "oem-b"
parts = ["P-2"]
show = ["genealogy"]

[[never]]
name = "p-3-not-for-a"
with = "oem-a"
parts = ["P-3"]
show = ["identity"]
"#;

const NOVEMBER: i64 = 1_795_392_000;
const DECEMBER: i64 = 1_796_083_200;
const NEW_YEAR: i64 = 1_798_761_600;

fn policy() -> Policy {
    Policy::restore(POLICY).unwrap().with_version(4)
}

fn facts(part: &str, customer: &str, verdict: &str) -> Facts {
    let some = |text: &str| Some(text.to_string());
    Facts { kind: "inspection".into(), part: some(part), customer: some(customer), verdict: some(verdict), ..Facts::default() }
}

fn groups_shown(partner: &str, feed: &str, facts: &Facts, now: i64) -> Vec<&'static str> {
    let mask = decide(&policy(), &Viewer::new(partner), feed, &SCHEMA, facts, now).mask;
    let shown = |group: &Group| SCHEMA.fields.iter().enumerate().any(|(slot, field)| field.group == *group && mask >> slot & 1 == 1);
    Group::ALL.iter().filter(|group| shown(group)).map(|group| group.name()).collect()
}

fn bits(names: &[&str]) -> u64 {
    names.iter().fold(0, |mask, name| mask | 1 << SCHEMA.slot(name).unwrap())
}

#[test]
fn each_condition_decides() {
    let good = facts("P-1", "oem-a", "conforming");
    assert_eq!(groups_shown("oem-a", "quality", &good, NOVEMBER), ["identity", "verdict", "capability", "inspector"]);
    assert_eq!(groups_shown("oem-a", "quality", &good, NEW_YEAR), [""; 0]);
    assert_eq!(groups_shown("oem-a", "tooling", &good, NOVEMBER), [""; 0]);
    assert_eq!(groups_shown("oem-a", "open", &good, NOVEMBER), ["verdict"]);
    assert_eq!(groups_shown("oem-a", "quality", &facts("P-2", "oem-a", "conforming"), NOVEMBER), [""; 0]);
    assert_eq!(groups_shown("oem-b", "quality", &good, DECEMBER), [""; 0]);
    assert_eq!(groups_shown("oem-b", "quality", &facts("P-1", "oem-a", "non-conforming"), NOVEMBER), ["identity", "defects"]);
    assert_eq!(groups_shown("oem-b", "quality", &facts("P-1", "oem-a", "undecided"), NOVEMBER), [""; 0]);
    let everything = groups_shown("oem-b", "quality", &facts("P-1", "oem-b", "conforming"), DECEMBER);
    assert_eq!(everything, ["identity", "specification", "verdict", "capability", "defects", "measurements", "genealogy", "document"]);
    assert!(!groups_shown("oem-b", "quality", &facts("P-2", "oem-b", "conforming"), DECEMBER).contains(&"genealogy"));
    assert_eq!(groups_shown("rival", "open", &good, NOVEMBER), [""; 0]);
    assert_eq!(groups_shown("nobody", "open", &good, NOVEMBER), [""; 0]);
    let nothing = Facts::default();
    assert_eq!(groups_shown("oem-a", "quality", &nothing, NOVEMBER), [""; 0]);
}

#[test]
fn thin_statistics_leave_only_with_their_values() {
    let thin = Facts { thin: bits(&["special_statistics"]), ..facts("P-1", "oem-a", "conforming") };
    let slot = SCHEMA.slot("special_statistics").unwrap();
    let decide = |policy: &Policy| decide(policy, &Viewer::new("oem-a"), "quality", &SCHEMA, &thin, NOVEMBER);
    let decision = decide(&policy());
    assert_eq!(decision.mask & 1 << slot, 0);
    assert_eq!(decision.reasons[slot], Reason::Thin { rule: "a-part".into(), needs: Some("special_values") });
    let values = "[[share]]\nname = 'values'\nwith = 'oem-a'\nfeed = 'all'\nparts = 'all'\nshow = ['special_values']\nuntil = 'revoked'\n";
    let both = Policy::restore(&format!("{POLICY}{values}")).unwrap();
    assert_ne!(decide(&both).mask & 1 << slot, 0);
    let banned = "[[never]]\nname = 'values-stay-here'\nwith = 'customers'\nshow = ['measurements']\n";
    let neither = Policy::restore(&format!("{POLICY}{values}{banned}")).unwrap();
    assert_eq!(decide(&neither).mask & bits(&["special_statistics", "special_values"]), 0);
    assert_eq!(decide(&neither).mask, decision.mask);
}

#[test]
fn reasons_name_the_rule_or_the_one_failing_condition() {
    let reason = |partner: &str, feed: &str, facts: &Facts, now: i64, field: &str| {
        decide(&policy(), &Viewer::new(partner), feed, &SCHEMA, facts, now).reasons[SCHEMA.slot(field).unwrap()].clone()
    };
    let near = |rule: &str, condition| Reason::NoRule { nearest: Some(NearMiss { rule: rule.into(), condition }) };
    let good = facts("P-1", "oem-a", "conforming");
    assert_eq!(reason("oem-a", "quality", &good, NOVEMBER, "lot"), Reason::Shown { rule: "a-part".into() });
    assert_eq!(reason("oem-a", "quality", &good, NOVEMBER, "machine"), Reason::Banned { rule: "process-stays-here".into() });
    assert_eq!(reason("oem-a", "quality", &good, NEW_YEAR, "lot"), near("a-part", Condition::Until));
    assert_eq!(reason("oem-a", "tooling", &good, NOVEMBER, "lot"), near("a-part", Condition::Feed));
    assert_eq!(reason("oem-a", "quality", &facts("P-2", "x", "conforming"), NOVEMBER, "lot"), near("a-part", Condition::Parts));
    assert_eq!(reason("oem-a", "quality", &good, NOVEMBER, "special_values"), near("a-part", Condition::Field));
    assert_eq!(reason("oem-b", "quality", &facts("P-1", "oem-b", "conforming"), NOVEMBER, "remarks"), near("b-all", Condition::From));
    assert_eq!(reason("oem-b", "quality", &good, NOVEMBER, "defects"), near("b-bad-lots", Condition::Only));
    assert_eq!(reason("nobody", "open", &good, NOVEMBER, "lot"), Reason::NoRule { nearest: None });
    assert_eq!(reason("nobody", "open", &good, NOVEMBER, "standard"), near("everybody", Condition::Partner));

    let decision = decide(&policy(), &Viewer::new("oem-a"), "quality", &SCHEMA, &good, NOVEMBER);
    let words = decision.explain(&policy(), &SCHEMA);
    assert_eq!(words[0], "identity: shown by `a-part`");
    assert!(words.contains(&"special_statistics: shown by `a-part`".to_string()), "{words:#?}");
    assert!(words.contains(&"process: hidden, `process-stays-here` forbids it".to_string()), "{words:#?}");
    let said = "defects: hidden, no share shows it; `a-part` would, but it names identity, inspector, special_statistics, verdict";
    assert!(words.contains(&said.to_string()), "{words:#?}");
}

#[test]
fn a_term_says_what_is_shared_and_names_nobody_else() {
    let term = |partner: &str, feed: &str, now: i64| term(&policy(), &Viewer::new(partner), feed, now);
    let a = "your share covers part P-1 and lasts until 2027-01-01 00:00 UTC; fields: identity, verdict, special_statistics, inspector";
    assert_eq!(term("oem-a", "quality", NOVEMBER), a);
    assert_eq!(term("oem-a", "quality", NEW_YEAR), "nothing is shared with you here");
    assert_eq!(term("rival", "open", NOVEMBER), "nothing is shared with you here");
    assert_eq!(
        term("oem-b", "quality", NOVEMBER),
        "your share covers every part, non-conforming lots only and lasts until revoked; fields: identity, defects"
    );
    let b = "your share covers lots made for you and lasts until revoked; fields: identity, specification, verdict, capability, defects, measurements, genealogy, document, with exceptions";
    assert_eq!(term("oem-b", "tooling", DECEMBER), b);
    for partner in ["oem-a", "oem-b", "rival"] {
        let words = term(partner, "quality", DECEMBER) + &term(partner, "open", DECEMBER);
        for secret in ["P-2", "secret", "competitor", "customers", "oem-", "rival", "a-part"] {
            assert!(!words.contains(secret), "{words}");
        }
    }
}

#[test]
fn feeds_open_with_a_share_and_close_with_a_stop() {
    let feeds = ["quality", "open", "tooling"].map(String::from);
    let policy = policy();
    assert_eq!(policy.feeds_for(&Viewer::new("oem-a"), &feeds, NOVEMBER), ["quality", "open"]);
    assert_eq!(policy.feeds_for(&Viewer::new("oem-a"), &feeds, NEW_YEAR), ["open"]);
    assert_eq!(policy.feeds_for(&Viewer::new("oem-b"), &feeds, DECEMBER), ["quality", "open", "tooling"]);
    // Wholly taken back by a never: not even the number of records may show.
    assert_eq!(policy.feeds_for(&Viewer::new("rival"), &feeds, NOVEMBER), [""; 0]);
    let stopped = policy.stop(Some("oem-a"));
    assert_eq!(stopped.feeds_for(&Viewer::new("oem-a"), &feeds, NOVEMBER), [""; 0]);
    assert_eq!(stopped.feeds_for(&Viewer::new("oem-b"), &feeds, NOVEMBER), ["quality", "open"]);
    assert_eq!(policy.stop(None).feeds_for(&Viewer::new("oem-b"), &feeds, NOVEMBER), [""; 0]);
    let decision = decide(&stopped, &Viewer::new("oem-a"), "quality", &SCHEMA, &facts("P-1", "", "conforming"), NOVEMBER);
    assert_eq!((decision.mask, decision.changes_at), (0, None));
    assert!(decision.reasons.iter().all(|reason| *reason == Reason::Stopped));
}

#[test]
fn a_view_has_a_name_that_changes_when_it_may() {
    let origin = |name: &str| Origin::new(PartyId::of(&Signer::from_seed(&[7; 32]).public()), name, 1).unwrap();
    let policy = policy();
    let id = |viewer: &Viewer, feed: &str, now| view_id(&policy, viewer, &origin(feed), now);
    let (a, b) = (Viewer::new("oem-a"), Viewer::new("oem-b"));
    assert_eq!(id(&a, "quality", NOVEMBER), id(&a, "quality", NEW_YEAR - 1));
    assert_ne!(id(&a, "quality", NOVEMBER), id(&a, "quality", NEW_YEAR));
    assert_ne!(id(&b, "quality", DECEMBER - 1), id(&b, "quality", DECEMBER));
    // Dates of other partners and other feeds do not show.
    assert_eq!(id(&a, "open", NOVEMBER), id(&a, "open", NEW_YEAR));
    let with_purpose = Viewer { purposes: BTreeSet::from(["audit".into()]), ..a.clone() };
    let all = [
        id(&a, "quality", NOVEMBER),
        id(&b, "quality", NOVEMBER),
        id(&a, "open", NOVEMBER),
        view_id(&policy.clone().with_version(5), &a, &origin("quality"), NOVEMBER),
        view_id(&policy.stop(None), &a, &origin("quality"), NOVEMBER),
    ];
    assert_eq!(BTreeSet::from(all).len(), all.len());
    // What nobody asks for does not show either; and the name is made as it was before there were terms.
    assert_eq!(id(&with_purpose, "quality", NOVEMBER), all[0]);
    let parts = [codec::text("lotline view 1"), codec::text("oem-a"), codec::array([]), codec::text(origin("quality").to_string())];
    let rest = [codec::uint(policy.version()), codec::Value::Null, codec::Value::Bool(false)];
    assert_eq!(all[0], Hash::of(&[&codec::encode(&codec::array(parts.into_iter().chain(rest)))]));
    assert_eq!(next_change(&policy, &b, "quality", NOVEMBER), Some(DECEMBER));
    assert_eq!(next_change(&policy, &b, "quality", DECEMBER), None);
}

#[test]
fn terms_are_asked_for_by_their_own_feed_alone() {
    let rule = "name = 's'\nwith = 'oem-a'\nfeed = 'quality'\nparts = 'all'\nshow = ['verdict']\nuntil = 'revoked'";
    let free = "name = 'free'\nwith = 'oem-a'\nfeed = 'quality'\nparts = ['P-9']\nshow = ['standard']\nuntil = 'revoked'";
    let policy = Policy::restore(&format!("[[share]]\n{rule}\nfor = 'audit'\nthen = {{ pass_on = 'no' }}\n[[share]]\n{free}")).unwrap();
    let (feeds, terms) = (["quality".to_owned(), "open".to_owned()], policy.shares()[1].terms.clone().unwrap());
    assert_eq!(terms.promises(), ["use it only for: audit", "pass it on to nobody"]);
    let nobody = Viewer::new("oem-a");
    let stating = Viewer { purposes: BTreeSet::from(["audit".into(), "containment".into()]), ..nobody.clone() };
    let promising = Viewer { terms: BTreeSet::from([terms.id(), Hash([9; 32])]), ..nobody.clone() };
    let both = Viewer { terms: promising.terms.clone(), ..stating.clone() };
    let facts = facts("P-1", "", "conforming");
    let mask = |viewer: &Viewer| decide(&policy, viewer, "quality", &SCHEMA, &facts, NOVEMBER).mask;
    assert_eq!((mask(&nobody), mask(&stating), mask(&promising)), (0, 0, 0));
    assert_ne!(mask(&both), 0);
    let said = |viewer: &Viewer| {
        let decision = decide(&policy, viewer, "quality", &SCHEMA, &facts, NOVEMBER);
        decision.reasons[SCHEMA.slot("verdict_recomputed").unwrap()].words(&policy)
    };
    let accept =
        "hidden, no share shows it; `s` would, but the partner has not accepted its terms (use it only for: audit; pass it on to nobody)";
    assert_eq!((said(&nobody), said(&stating)), (accept.to_owned(), accept.to_owned()));
    assert_eq!(said(&promising), "hidden, no share shows it; `s` would, but the partner has not stated the purpose audit");
    assert_eq!(said(&both), "shown by `s`");
    // What is asked for, whatever was accepted; and the view that an acceptance gives.
    let asking = |feed: &'static str| policy.asking("oem-a", feed, NOVEMBER).map(|(share, _)| share.name.clone()).collect::<Vec<_>>();
    assert_eq!((asking("quality"), asking("open")), (vec!["s".to_owned()], vec![]));
    assert!(policy.stop(None).asking("oem-a", "quality", NOVEMBER).next().is_none());
    let origin = |name: &str| Origin::new(PartyId::of(&Signer::from_seed(&[7; 32]).public()), name, 1).unwrap();
    let views = [&nobody, &stating, &promising, &both].map(|viewer| view_id(&policy, viewer, &origin("quality"), NOVEMBER));
    assert_eq!(BTreeSet::from(views).len(), 4);
    assert_eq!(view_id(&policy, &both, &origin("open"), NOVEMBER), view_id(&policy, &nobody, &origin("open"), NOVEMBER));
    // A feed of which terms alone show something is not even offered.
    assert_eq!(policy.feeds_for(&nobody, &feeds, NOVEMBER), ["quality"]);
    let alone = Policy::restore(&format!("[[share]]\n{rule}\nfor = 'audit'\nthen = {{ pass_on = 'no' }}")).unwrap();
    assert_eq!((alone.feeds_for(&nobody, &feeds, NOVEMBER).len(), alone.feeds_for(&both, &feeds, NOVEMBER).len()), (0, 1));
    let told =
        "your share covers every part and lasts until revoked; fields: verdict, on terms: use it only for: audit, pass it on to nobody";
    assert_eq!(term(&alone, &both, "quality", NOVEMBER), told);
    assert_eq!(offer(&alone, &nobody, "quality", &alone.shares()[0]), told);
    assert_eq!(term(&alone, &nobody, "quality", NOVEMBER), "nothing is shared with you here");
}

fn place() -> Place {
    let origin = Origin::new(PartyId::of(&Signer::from_seed(&[7; 32]).public()), "quality", 1).unwrap();
    Place { origin, seq: 3, now: NOVEMBER as u64, supersedes: None }
}

fn sealed() -> (Sealed, Facts) {
    let inspection =
        Inspection { part: "P-1".into(), lot: "L-1".into(), verdict_stated: Some(Verdict::Conforming), ..Inspection::default() };
    let record = inspection.check("2026-11-23T10:00:00Z").unwrap();
    let mut state = 1u64;
    let random = |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
    };
    (seal_record(&record, &place(), &Signer::from_seed(&[7; 32]), random).unwrap(), record.facts())
}

fn item<'a>(sealed: &'a Sealed, origin: &'a str, facts: &'a Facts, schema: Option<&'static Schema>) -> Item<'a> {
    let (core, disclosures) = (&sealed.core, &sealed.disclosures);
    Item { feed: "quality", origin, seq: 3, leaf: sealed.leaf, core, disclosures, schema, facts }
}

#[test]
fn exactly_the_shown_slots_leave() {
    let (sealed, facts) = sealed();
    let origin = place().origin.to_string();
    let item = item(&sealed, &origin, &facts, Some(&SCHEMA));
    let (policy, viewer) = (policy(), Viewer::new("oem-a"));
    let cleared = clear(&policy, &viewer, &item, NOVEMBER);
    assert_eq!(cleared.mask(), decide(&policy, &viewer, "quality", &SCHEMA, &facts, NOVEMBER).mask);
    assert_eq!((cleared.partner(), cleared.origin(), cleared.seq(), cleared.leaf()), ("oem-a", &origin[..], 3, sealed.leaf));
    assert_eq!(cleared.basis(), Basis::Policy(4));
    // The shares behind it: each reason that shows something names one of them, and each opens something here.
    let names: BTreeSet<&str> = cleared.shares().iter().map(|at| policy.shares()[*at].name.as_str()).collect();
    let reasons = decide(&policy, &viewer, "quality", &SCHEMA, &facts, NOVEMBER).reasons;
    let shown = reasons.iter().filter_map(|reason| if let Reason::Shown { rule } = reason { Some(rule.as_str()) } else { None });
    assert!(!names.is_empty() && shown.collect::<BTreeSet<_>>().is_subset(&names), "{names:?}");
    assert!(names.iter().all(|name| policy.shares().iter().any(|rule| rule.name == *name && rule.partners.contains("oem-a"))));
    assert_eq!(clear(&policy.stop(None), &viewer, &item, NOVEMBER).shares(), [0; 0]);
    let view = cleared.view().unwrap().trusted().unwrap();
    for (slot, field) in SCHEMA.fields.iter().enumerate() {
        // An absent inspector is shown as absent: a decoy, so that hidden and absent differ only for those who may know.
        assert_eq!(view.slots()[slot].is_some(), cleared.mask() >> slot & 1 == 1, "{}", field.name);
    }
    assert_eq!((view.text("lot"), view.value("inspector"), view.hidden()), (Some("L-1"), None, SCHEMA.fields.len() - 28));
    assert!(!format!("{cleared:?}").contains("L-1"));
}

#[test]
fn what_is_forbidden_looks_like_what_is_not_understood() {
    let (sealed, facts) = sealed();
    let origin = place().origin.to_string();
    let whole = item(&sealed, &origin, &facts, Some(&SCHEMA));
    let hidden = |item: &Item<'_>, partner: &str| {
        let cleared = clear(&policy(), &Viewer::new(partner), item, NOVEMBER);
        assert!(cleared.is_hidden() && cleared.view().is_none() && cleared.mask() == 0);
        assert_eq!(cleared.leaf(), sealed.leaf);
    };
    hidden(&whole, "rival");
    hidden(&whole, "nobody");
    hidden(&Item { feed: "unknown", ..whole }, "oem-a");
    hidden(&Item { schema: None, ..whole }, "oem-a");
    // Less than all of it, and nobody says that it was forgotten.
    hidden(&Item { disclosures: &sealed.disclosures[1..], ..whole }, "oem-a");
}

#[test]
fn what_was_forgotten_leaves_by_no_door_and_the_rest_as_before() {
    let (sealed, facts) = sealed();
    let origin = place().origin.to_string();
    let slot = |name: &str| SCHEMA.slot(name).unwrap();
    let viewer = Viewer::new("oem-a");
    let before = clear(&policy(), &viewer, &item(&sealed, &origin, &facts, Some(&SCHEMA)), NOVEMBER);
    let without = |names: &[&str]| {
        let gone: Vec<usize> = names.iter().map(|name| slot(name)).collect();
        let kept = sealed.disclosures.iter().enumerate().filter(|(at, _)| !gone.contains(at));
        let less = Sealed { core: sealed.core.clone(), leaf: sealed.leaf, disclosures: kept.map(|(_, one)| one.clone()).collect() };
        let forgotten = gone.iter().fold(0, |mask, slot| mask | 1 << slot);
        (less, Facts { forgotten, ..facts.clone() })
    };
    // A field that no condition asks for.
    let (less, known) = without(&["quantity", "operation"]);
    let cleared = clear(&policy(), &viewer, &item(&less, &origin, &known, Some(&SCHEMA)), NOVEMBER);
    assert_eq!(cleared.mask(), before.mask() & !known.forgotten);
    assert_ne!(cleared.mask(), before.mask());
    let view = cleared.view().unwrap().trusted().unwrap();
    assert!((0..SCHEMA.fields.len()).all(|slot| view.slots()[slot].is_some() == (cleared.mask() >> slot & 1 == 1)));
    let full = Cleared::full(&item(&less, &origin, &known, Some(&SCHEMA)), &FullDisclosure::confirmed_by_owner("court"));
    assert_eq!(full.mask(), ((1 << SCHEMA.fields.len()) - 1) & !known.forgotten);
    assert_eq!(full.view().unwrap().trusted().unwrap().hidden(), 2);
    let decision = decide(&policy(), &viewer, "quality", &SCHEMA, &known, NOVEMBER);
    assert_eq!((decision.mask, &decision.reasons[slot("quantity")]), (cleared.mask(), &Reason::Forgotten { asked: None }));
    // One that a ban may ask for: nobody can say any more whether it holds.
    for asked in ["part", "lot", "customer", "verdict_stated", "verdict_recomputed"] {
        let (less, known) = without(&[asked]);
        assert!(clear(&policy(), &viewer, &item(&less, &origin, &known, Some(&SCHEMA)), NOVEMBER).is_hidden(), "{asked}");
        let decision = decide(&policy(), &viewer, "quality", &SCHEMA, &known, NOVEMBER);
        assert_eq!((decision.mask, &decision.reasons[slot("drawing")]), (0, &Reason::Forgotten { asked: Some(asked) }));
    }
    // Missing without a word is not forgotten.
    assert!(clear(&policy(), &viewer, &item(&less, &origin, &facts, Some(&SCHEMA)), NOVEMBER).is_hidden());
    // Values that are gone take the thin statistics over them along.
    let thin = Facts { thin: 1 << slot("special_statistics"), ..facts.clone() };
    let open = |facts: &Facts| decide(&policy(), &viewer, "quality", &SCHEMA, facts, NOVEMBER).mask >> slot("special_statistics") & 1;
    assert!(open(&Facts { forgotten: 1 << slot("special_values"), ..thin.clone() }) <= open(&thin));
    assert_eq!(open(&Facts { forgotten: 1 << slot("special_values"), ..thin }), 0);
}

#[test]
fn the_other_two_doors_open_only_for_what_they_are_for() {
    let (sealed, facts) = sealed();
    let origin = place().origin.to_string();
    let record = item(&sealed, &origin, &facts, Some(&SCHEMA));
    let full = Cleared::full(&record, &FullDisclosure::confirmed_by_owner("court"));
    assert_eq!((full.partner(), full.basis(), full.mask().count_ones() as usize), ("court", Basis::Full, SCHEMA.fields.len()));
    assert_eq!(full.view().unwrap().trusted().unwrap().hidden(), 0);

    assert!(Cleared::own_feed_entry("oem-a", &record).is_none());
    let entry = seal_entry(Type::Feed, codec::text("keys"), &place(), &Signer::from_seed(&[7; 32]), |bytes| bytes.fill(1)).unwrap();
    let entry_item = item(&entry, &origin, &facts, None);
    let cleared = Cleared::own_feed_entry("oem-a", &entry_item).unwrap();
    assert_eq!((cleared.mask(), cleared.basis(), cleared.is_hidden()), (0, Basis::Entry, false));
    assert_eq!(cleared.into_view().unwrap().core, entry.core);
    assert!(Cleared::own_feed_entry("oem-a", &Item { seq: 4, ..entry_item }).is_none());
    assert!(Cleared::own_feed_entry("oem-a", &Item { leaf: Hash([0; 32]), ..entry_item }).is_none());
    assert!(clear(&policy(), &Viewer::new("oem-a"), &entry_item, NOVEMBER).is_hidden());
}

#[test]
fn a_release_leaves_with_the_verdict_of_its_record_and_not_without() {
    let (record, facts) = sealed();
    let origin = place().origin.to_string();
    let record_item = item(&record, &origin, &facts, Some(&SCHEMA));
    let person = Signer::from_seed(&[8; 32]);
    let sign = |of: Release, seq: u64| of.seal(&Place { seq, ..place() }, &person, |bytes| bytes.fill(2)).unwrap();
    let release = sign(Release { leaf: record.leaf, seq: record_item.seq }, record_item.seq + 1);
    let of_release = Facts::of_release();
    let item_of = |release| Item { seq: record_item.seq + 1, ..item(release, &origin, &of_release, None) };
    let cleared =
        |policy: &Policy, release: &Item<'_>, record: &Item<'_>| clear_release(policy, &Viewer::new("oem-a"), release, record, NOVEMBER);
    let shown = cleared(&policy(), &item_of(&release), &record_item);
    assert_eq!((shown.mask(), shown.basis(), shown.is_hidden()), (RELEASE_SHOWN, Basis::Policy(4), false));
    assert_eq!(shown.view().unwrap().core, release.core);
    let opens_verdict = |at: &usize| policy().shares()[*at].says(Condition::Field).contains("verdict");
    assert!(!shown.shares().is_empty() && shown.shares().iter().all(opens_verdict));
    // Never through the door for records.
    assert!(clear(&policy(), &Viewer::new("oem-a"), &item_of(&release), NOVEMBER).is_hidden());
    // Another field of the same record, or another partner, shows no name.
    let narrow = POLICY.replace("\"verdict\", \"special_statistics\"", "\"special_statistics\"");
    assert!(cleared(&Policy::restore(&narrow).unwrap(), &item_of(&release), &record_item).is_hidden());
    assert!(clear_release(&policy(), &Viewer::new("rival"), &item_of(&release), &record_item, NOVEMBER).is_hidden());
    assert!(cleared(&policy().stop(None), &item_of(&release), &record_item).is_hidden());
    // About another record than the one it is shown with.
    let other = sign(Release { leaf: Hash([1; 32]), seq: record_item.seq }, record_item.seq + 1);
    assert!(cleared(&policy(), &item_of(&other), &record_item).is_hidden());
    let elsewhere = sign(Release { leaf: record.leaf, seq: 99 }, record_item.seq + 1);
    assert!(cleared(&policy(), &item_of(&elsewhere), &record_item).is_hidden());
    assert!(cleared(&policy(), &record_item, &record_item).is_hidden(), "a record is no release");
}
