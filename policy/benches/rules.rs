//! `cargo bench -p lotline-policy --bench rules`: what a decision, a comparison and a proof cost.
//!
//! Two hundred rules and fifty partners; the comparison counts 100,000 records for twenty partners. With `LOTLINE_BENCH_ROUNDS=1`, a
//! smoke test, a hundredth of that. Each figure stands beside that of hashing as many bytes in the same run. No figure is asserted.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use lotline_policy::{Claim, Classes, Difference, Policy, Viewer, decide, shown};
use lotline_schema::kind::inspection::SCHEMA;
use lotline_schema::{Facts, Hash};

/// 2026-11-23.
const NOW: i64 = 1_795_392_000;
const PARTNERS: usize = 50;
const PARTS: usize = 300;

fn main() {
    let smoke = std::env::var("LOTLINE_BENCH_ROUNDS").is_ok_and(|rounds| rounds == "1");
    let (decisions, records, rounds) = if smoke { (1000, 1000, 2) } else { (100_000, 100_000, 20) };
    let policy = Policy::restore(&rules(0)).unwrap();
    let facts: Vec<Facts> = (0..1000).map(record).collect();
    let viewers: Vec<Viewer> = (0..PARTNERS).map(|at| Viewer::new(partner(at))).collect();
    let asked = |at: usize| (&viewers[at * 7 % PARTNERS], &facts[at * 13 % facts.len()]);
    baseline("hashing 1 KiB", decisions, 1024);
    time("decision, aim p99 50 us", decisions, |at| {
        let (viewer, facts) = asked(at);
        black_box(shown(&policy, viewer, "quality", &SCHEMA, facts, NOW));
    });
    // As the door asks: the rules about a partner are picked out once a batch of up to 256 records.
    let about: Vec<Policy> = viewers.iter().map(|viewer| policy.about(&viewer.partner)).collect();
    time("decision by the rules about one partner, aim p99 5 us", decisions, |at| {
        let (viewer, facts) = asked(at);
        black_box(shown(&about[at * 7 % PARTNERS], viewer, "quality", &SCHEMA, facts, NOW));
    });
    time("picking out the rules about one partner", decisions / 10, |at| {
        black_box(policy.about(&viewers[at % PARTNERS].partner));
    });
    time("explaining a decision: every field with its reason", decisions / 10, |at| {
        let (viewer, facts) = asked(at);
        black_box(decide(&policy, viewer, "quality", &SCHEMA, facts, NOW));
    });

    let other = Policy::restore(&rules(1)).unwrap();
    let facts: Vec<Facts> = (0..records).map(record).collect();
    baseline(&format!("hashing {records} times 100 bytes"), rounds, records * 100);
    time(&format!("difference of two versions, {records} x 20, aim 2 s"), rounds, |_| {
        let mut classes = Classes::of(&[&policy, &other]);
        facts.iter().for_each(|facts| classes.count("quality", facts));
        let difference = Difference::between(&policy, &other, &viewers[..20], &classes, NOW);
        assert!(!black_box(difference).changes.is_empty());
    });

    let everybody: Vec<String> = (0..PARTNERS).map(partner).collect();
    baseline("hashing the text of the rules", rounds, policy.text().len());
    for sentence in
        ["nobody sees process of part P-7", "p1 sees at most identity, verdict, capability", "nobody sees inspector", "group sees nothing"]
    {
        let claim = Claim::read(sentence, &policy, &everybody).unwrap();
        let held = if claim.check(&policy, NOW).is_ok() { "holds" } else { "does not" };
        time(&format!("prove \"{sentence}\" ({held}), aim 1 s"), rounds, |_| drop(black_box(claim.check(&policy, NOW))));
    }
}

fn partner(at: usize) -> String {
    format!("p{at}")
}

/// A hundred and sixty shares and forty nevers; another version differs in every fourth share.
fn rules(version: usize) -> String {
    let mut text = String::from("[groups]\n");
    for (name, step) in [("group", 5), ("few", 10)] {
        let members: Vec<String> = (0..PARTNERS).step_by(step).map(partner).collect();
        writeln!(text, "{name} = {members:?}").unwrap();
    }
    for at in 0..160 {
        let with = if at % 10 == 0 { "group".to_owned() } else { partner(at % PARTNERS) };
        let parts = match at % 3 {
            0 => format!("['P-{}', 'P-{}']", at, at + 1),
            1 => "'theirs'".to_owned(),
            _ => "'all'".to_owned(),
        };
        let show = ["['identity', 'verdict']", "['verdict', 'capability']", "['identity', 'measurements:special']"][at % 3];
        let more = ["", "only = 'conforming'\n", "lots = ['L-1', 'L-2']\n", "only = 'released'\n"]
            [(at + if at % 4 == 0 { version } else { 0 }) % 4];
        let until = ["'revoked'", "2027-01-01", "2027-07-01"][at % 3];
        writeln!(
            text,
            "[[share]]\nname = 's{at}'\nwith = '{with}'\nfeed = 'quality'\nparts = {parts}\nshow = {show}\n{more}until = {until}"
        )
        .unwrap();
    }
    for at in 0..40 {
        let with = if at % 8 == 0 { "few".to_owned() } else { partner(at) };
        let more = ["parts = ['P-7', 'P-9']\n", "lots = ['L-1']\n", "", "feed = 'tooling'\n"][at % 4];
        writeln!(text, "[[never]]\nname = 'n{at}'\nwith = '{with}'\nshow = ['process', 'commercial', 'measurements']\n{more}").unwrap();
    }
    text
}

fn record(at: usize) -> Facts {
    Facts {
        kind: "inspection".into(),
        part: Some(format!("P-{}", at % PARTS)),
        lot: Some(format!("L-{}", at % 5000)),
        customer: Some(partner(at % PARTNERS)),
        verdict: Some(["conforming", "non-conforming", "undecided"][at % 3].into()),
        released: at.is_multiple_of(2),
        thin: if at.is_multiple_of(10) { 1 << SCHEMA.slot("special_statistics").unwrap() } else { 0 },
        ..Facts::default()
    }
}

fn baseline(name: &str, times: usize, bytes: usize) {
    let bytes = vec![7u8; bytes];
    time(name, times, |_| {
        black_box(Hash::of(&[&bytes]));
    });
}

/// Times each call by itself.
fn time(name: &str, times: usize, mut call: impl FnMut(usize)) {
    let mut took: Vec<f64> = Vec::new();
    for at in 0..times {
        let start = Instant::now();
        call(at);
        took.push(start.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!("{name:<76} p50 {:>10.1} us   p99 {:>10.1} us", at(0.5), at(0.99));
}
