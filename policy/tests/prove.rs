//! What is claimed of rules is checked completely: a claim holds exactly when asking about every record finds nothing against it.
#![allow(clippy::unwrap_used)] // tests

use std::collections::BTreeSet;
use std::fmt::Write as _;

use lotline_policy::{Claim, Hole, Policy, Viewer, decide, shown};
use lotline_schema::kind::inspection::SCHEMA;
use lotline_schema::terms::Terms;
use lotline_schema::{Facts, Hash};

const DAY: i64 = 86_400;
const PARTNERS: [&str; 4] = ["a", "b", "c", "rival"];

/// The same numbers each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

fn partners() -> Vec<String> {
    PARTNERS.map(String::from).into()
}

fn policy(text: &str) -> Policy {
    Policy::restore(text).unwrap_or_else(|slips| panic!("{slips}\n{text}"))
}

fn check(sentence: &str, policy: &Policy, now: i64) -> Result<(), Hole> {
    Claim::read(sentence, policy, &partners()).unwrap_or_else(|why| panic!("{sentence}: {why}")).check(policy, now)
}

const SHOWS: [&str; 6] = [
    "['verdict']",
    "['identity', 'measurements:special']",
    "['process', 'lot']",
    "'everything'",
    "['capability', 'inspector']",
    "['special_statistics', 'defects']",
];
const WITH: [&str; 6] = ["a", "b", "c", "rival", "ab", "all"];

const TERMS: [&str; 3] =
    ["for = 'audit'\n", "for = ['audit', 'containment']\nthen = { delete_after = '1d' }\n", "then = { pass_on = 'no' }\n"];

fn random(dice: &mut Dice) -> String {
    let mut text = String::from("[groups]\nab = ['a', 'b']\nall = ['a', 'b', 'c', 'rival']\n");
    for at in 0..1 + dice.below(3) {
        let parts = dice.one(&["'all'", "'theirs'", "['P']", "['P', 'Q']"]);
        let (with, feed, show) = (dice.one(&WITH), dice.one(&["all", "f", "g"]), dice.one(&SHOWS));
        let only = dice.one(&["", "", "only = 'conforming'\n", "only = 'released'\n", "only = ['non-conforming', 'released']\n"]);
        let lots = dice.one(&["", "", "lots = ['L']\n", "lots = ['L', 'M']\n"]);
        let when = dice.one(&[
            "until = 'revoked'",
            "from = 1970-01-03\nuntil = 1970-01-05",
            "until = 1970-01-02",
            "from = 1970-01-04\nuntil = 'revoked'",
        ]);
        let asks = dice.one(&["", "", "", TERMS[0], TERMS[1], TERMS[2]]);
        writeln!(
            text,
            "[[share]]\nname = 's{at}'\nwith = '{with}'\nfeed = '{feed}'\nparts = {parts}\nshow = {show}\n{only}{lots}{asks}{when}"
        )
        .unwrap();
    }
    for at in 0..dice.below(4) {
        let (with, show) = (dice.one(&WITH), dice.one(&SHOWS));
        let more = [
            &["", "feed = 'f'\n"][..],
            &["", "parts = ['P']\n", "parts = 'theirs'\n", "parts = ['Q', 'P']\n"],
            &["", "lots = ['M']\n", "lots = ['L']\n"],
        ];
        let more: String = more.into_iter().map(|of| dice.one(of)).collect();
        writeln!(text, "[[never]]\nname = 'n{at}'\nwith = '{with}'\nshow = {show}\n{more}").unwrap();
    }
    text
}

/// All that a partner sees, asked about every record there can be, as far as any rule could tell it from others.
fn by_asking(policy: &Policy, partner: &str, part: Option<&str>, days: std::ops::Range<i64>, purpose: Option<&str>) -> u64 {
    let mut seen = 0;
    // Stating what nobody asks for, and accepting all or none of the terms there are.
    let all: BTreeSet<Hash> = policy.shares().iter().filter_map(|share| share.terms.as_ref()).map(Terms::id).collect();
    let accepted = [BTreeSet::new(), all];
    let stated = purpose.map_or(vec![vec![], vec!["audit"], vec!["audit", "containment"]], |purpose| vec![vec![purpose]]);
    let viewers: Vec<Viewer> = accepted
        .into_iter()
        .flat_map(|terms| stated.iter().map(move |stated| (terms.clone(), stated.iter().map(|purpose| purpose.to_string()).collect())))
        .map(|(terms, purposes)| Viewer { terms, purposes, ..Viewer::new(partner) })
        .collect();
    let parts = part.map_or(vec!["P", "Q", "R"], |part| vec![part]);
    let moments = days.clone().flat_map(|day| [day * DAY, day * DAY + DAY - 1]);
    let when: Vec<i64> = moments.collect();
    for (feed, part, lot) in ["f", "g", "h"].into_iter().flat_map(|f| parts.iter().flat_map(move |p| ["L", "M", "N"].map(|l| (f, *p, l)))) {
        for (customer, verdict) in
            [None, Some(partner)].into_iter().flat_map(|c| ["conforming", "non-conforming", "undecided"].map(|v| (c, v)))
        {
            for (released, thin) in [(false, 0), (true, 0), (true, 1u64 << SCHEMA.slot("special_statistics").unwrap())] {
                let facts = Facts {
                    kind: "inspection".into(),
                    part: Some(part.into()),
                    lot: Some(lot.into()),
                    customer: customer.map(Into::into),
                    verdict: Some(verdict.into()),
                    released,
                    thin,
                    ..Facts::default()
                };
                for viewer in &viewers {
                    seen |= when.iter().fold(0, |mask, now| mask | shown(policy, viewer, feed, &SCHEMA, &facts, *now).mask);
                }
            }
        }
    }
    seen
}

#[test]
fn a_claim_holds_exactly_when_asking_about_every_record_finds_nothing() {
    let mut dice = Dice(7);
    let (mut held, mut failed) = (0, 0);
    let mask = |names: &[&str]| {
        let named = |(_, field): &(usize, &lotline_schema::kind::Field)| names.contains(&field.name) || names.contains(&field.group.name());
        SCHEMA.fields.iter().enumerate().filter(named).fold(0u64, |mask, (slot, _)| mask | 1 << slot)
    };
    for _ in 0..40 {
        let text = random(&mut dice);
        let policy = policy(&text);
        for (limit, part, days, purpose) in [
            ("", None, 0..7, None),
            (" of part P", Some("P"), 0..7, None),
            (" of part R on 1970-01-04", Some("R"), 3..4, None),
            (" of part Q for containment", Some("Q"), 0..7, Some("containment")),
        ] {
            let seen = PARTNERS.map(|partner| by_asking(&policy, partner, part, days.clone(), purpose));
            let all = |masks: &[u64], not: u64| masks.iter().all(|mask| mask & not == 0);
            let claims = [
                ("a sees nothing".to_owned(), seen[0] == 0),
                ("ab see nothing".to_owned(), all(&seen[..2], !0)),
                ("nobody sees process, defects".to_owned(), all(&seen, mask(&["process", "defects"]))),
                ("all never see lot and capability".to_owned(), all(&seen, mask(&["lot", "capability"]))),
                ("rival sees at most verdict, identity".to_owned(), seen[3] & !mask(&["verdict", "identity"]) == 0),
                ("only ab sees inspector".to_owned(), all(&seen[2..], mask(&["inspector"]))),
                ("a sees exactly verdict".to_owned(), seen[0] == mask(&["verdict"])),
                ("b sees exactly process, lot".to_owned(), seen[1] == mask(&["process", "lot"])),
            ];
            for (claim, expected) in claims {
                let sentence = format!("{claim}{limit}");
                let found = check(&sentence, &policy, 0);
                assert_eq!(found.is_ok(), expected, "{sentence}: {found:?}\n{text}");
                if let Err(Hole::Seen(example)) = &found {
                    let viewer = example.viewer.clone();
                    let feed = example.feed.as_deref().unwrap_or("h");
                    let decision = decide(&policy, &viewer, feed, &SCHEMA, &example.facts, example.at);
                    let names = lotline_policy::names_of(&SCHEMA, decision.mask);
                    assert!(decision.mask != 0 && !example.fields.is_empty(), "{sentence}: {names:?}");
                    assert!(policy.shares().iter().any(|share| share.name == example.rule && share.partners.contains(&example.partner)));
                }
                // What it says of itself reads back.
                let claim = Claim::read(&sentence, &policy, &partners()).unwrap();
                assert_eq!(Claim::read(&claim.to_string(), &policy, &partners()).unwrap(), claim, "{claim}");
                *if expected { &mut held } else { &mut failed } += 1;
            }
        }
    }
    assert!(100 < held && 100 < failed, "{held} held, {failed} failed");
}

/// A tight file of two hundred rules, and a hundred times one share too many.
#[test]
fn a_hundred_seeded_holes_are_found() {
    let mut tight = String::from("[groups]\nrivals = ['rival', 'c']\n");
    for at in 0..180 {
        let with = ["a", "b"][at % 2];
        writeln!(
            tight,
            "[[share]]\nname = 's{at}'\nwith = '{with}'\nfeed = 'f'\nparts = ['P-{at}']\nshow = ['identity', 'verdict']\nuntil = 'revoked'"
        )
        .unwrap();
    }
    for at in 0..20 {
        writeln!(tight, "[[never]]\nname = 'n{at}'\nwith = 'rivals'\nshow = ['measurements', 'defects']\nparts = ['P-{at}']").unwrap();
    }
    let sentences = ["rivals see nothing", "nobody sees process", "only a sees defects", "a sees at most identity, verdict"];
    let good = policy(&tight);
    for sentence in sentences {
        assert_eq!(check(sentence, &good, 0), Ok(()), "{sentence}");
    }
    let mut dice = Dice(3);
    for seed in 0..100 {
        let sentence = sentences[seed % 4];
        let (with, show) = match seed % 4 {
            0 => (dice.one(&["rival", "c", "rivals"]), dice.one(&["['verdict']", "['standard']", "['measurements']"])),
            1 => (dice.one(&["a", "b", "c"]), dice.one(&["['process']", "'everything'", "['operation', 'process']"])),
            2 => (dice.one(&["b", "rival", "rivals"]), "['defects']"),
            _ => ("a", dice.one(&["['process']", "['special_values']", "['lot', 'inspector']"])),
        };
        let feed = dice.one(&["f", "all", "later"]);
        // The part of a ban is open but for one of its fields, or a part beside it.
        let parts = dice.one(&["['P-19', 'P-777']", "'theirs'", "'all'", "['P-500']"]);
        let more = dice.one(&["", "only = 'released'\n", "lots = ['L-9']\n", "only = 'non-conforming'\n", "kinds = ['inspection']\n"]);
        let when = dice.one(&["until = 'revoked'", "from = 2031-05-01\nuntil = 2031-05-02", "until = 1970-01-02"]);
        let hole = format!("[[share]]\nname = 'hole'\nwith = '{with}'\nfeed = '{feed}'\nparts = {parts}\nshow = {show}\n{more}{when}\n");
        let found = check(sentence, &policy(&format!("{tight}{hole}")), 0);
        let Err(Hole::Seen(example)) = found else { panic!("{sentence}: {found:?} in\n{hole}") };
        assert_eq!(example.rule, "hole", "{sentence}: {example:?}");
    }
}

#[test]
fn a_hole_is_told_in_one_sentence() {
    let text = "[[share]]\nname = 'complaint'\nwith = 'rival'\nfeed = 'f'\nparts = ['P-1']\nlots = ['L-1']\nshow = ['defects']\nonly = ['non-conforming', 'released']\nfrom = 2027-01-01\nuntil = 2027-02-01";
    let found = check("nobody sees defects of part P-1", &policy(text), 0).unwrap_err().to_string();
    assert_eq!(
        found,
        "rival sees defects of a record of kind inspection in feed f, part P-1, lot L-1, verdict non-conforming, released, from 2027-01-01 00:00 UTC on, by `complaint`"
    );
    assert_eq!(check("rival sees nothing on 2027-02-01", &policy(text), 0), Ok(()));
    assert!(check("rival sees nothing on 2027-01-31", &policy(text), 0).is_err());
    let lacking = check("rival sees exactly defects, verdict", &policy(text), 0).unwrap_err().to_string();
    assert_eq!(lacking, "rival sees verdict of no such record");
    // Who is cut off sees nothing.
    assert_eq!(check("rival sees nothing", &policy(text).stop(Some("rival")), 0), Ok(()));
}

#[test]
fn sentences_that_cannot_be_read_are_refused_with_what_was_meant() {
    let policy = policy("[groups]\n'big customers' = ['a', 'b']");
    let refused = |sentence: &str| Claim::read(sentence, &policy, &partners()).unwrap_err().to_string();
    assert!(Claim::read("\"big customers\" see at most lot, part and verdict in feed f of lot \"L 1\"", &policy, &partners()).is_ok());
    for (sentence, why) in [
        ("", "the sentence ends where whom the sentence is about is expected"),
        ("rivel sees nothing", "no partner or group is called `rivel` (did you mean `rival`?)"),
        ("nobdy sees lot", "no partner or group is called `nobdy` (did you mean `nobody`?)"),
        ("a seees nothing", "`seees` stands where `sees` is expected (did you mean `sees`?)"),
        ("a sees lot", "say whether that is `sees exactly`, `sees at most` or `never sees`"),
        ("nobody sees measurement", "no group or field is called `measurement` (did you mean `measurements`?)"),
        ("nobody sees lot in fed f", "`in fed` limits nothing (did you mean `feed`?)"),
        ("a never sees lot on tuesday", "`tuesday` is no day; write 2027-01-01"),
        ("a sees at most", "the sentence names no group or field"),
        ("a sees nothing of part", "the sentence ends too early"),
        ("a sees nothing \"of", "a quote is not closed"),
        ("a sees nothing ever", "`ever` has no place here"),
        ("a sees nothing for audits", "no purpose is called `audits` (did you mean `audit`?)"),
    ] {
        assert_eq!(refused(sentence), why, "{sentence}");
    }
}

#[test]
fn terms_hide_nothing_from_whoever_accepts_them() {
    let share = "[[share]]\nname = 's'\nwith = 'a'\nfeed = 'f'\nparts = 'all'\nshow = ['verdict']\nuntil = 'revoked'\nfor = 'audit'\n";
    let policy = policy(share);
    let found = check("nobody sees verdict", &policy, 0).unwrap_err().to_string();
    assert_eq!(
        found,
        "a sees verdict of a record of kind inspection in feed f, once it has accepted the terms, from 1970-01-01 00:00 UTC on, by `s`"
    );
    assert_eq!(check("a sees nothing for containment", &policy, 0), Ok(()));
    assert_eq!(check("a sees exactly verdict for audit", &policy, 0), Ok(()));
    assert!(check("a sees nothing for audit", &policy, 0).is_err());
}

#[test]
fn a_delay_hides_nothing_for_ever() {
    let text = "[[share]]\nname = 's'\nwith = 'a'\nfeed = 'quality'\nparts = 'all'\nshow = ['verdict']\nuntil = 'revoked'\ndelay = '9999w'";
    assert!(matches!(check("a sees nothing", &policy(text), 20 * DAY), Err(Hole::Seen(_))));
    assert_eq!(check("a sees exactly verdict", &policy(text), 20 * DAY), Ok(()));
}
