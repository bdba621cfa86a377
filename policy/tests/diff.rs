//! What `policy diff` says: exact, in words, and the same as asking about every record one by one.
#![allow(clippy::unwrap_used)] // tests

use std::collections::{BTreeMap, BTreeSet};

use lotline_policy::{Classes, Difference, Policy, Viewer, decide, names_of};
use lotline_schema::Facts;
use lotline_schema::kind::inspection::SCHEMA;

/// 2026-11-23, and the first second of 2027.
const NOW: i64 = 1_795_392_000;
const NEW_YEAR: i64 = 1_798_761_600;
const PARTNERS: [&str; 3] = ["a", "b", "c"];

fn share(name: &str, with: &str, show: &str, more: &str) -> String {
    let parts = if more.contains("parts") { "" } else { "parts = 'all'\n" };
    let until = if more.contains("until") { "" } else { "until = 'revoked'\n" };
    format!("[[share]]\nname = '{name}'\nwith = '{with}'\nfeed = 'quality'\nshow = {show}\n{parts}{until}{more}\n")
}

fn never(name: &str, with: &str, show: &str) -> String {
    format!("[[never]]\nname = '{name}'\nwith = '{with}'\nshow = {show}\n")
}

fn policy(text: &str) -> Policy {
    Policy::restore(text).unwrap_or_else(|slips| panic!("{slips}\n{text}"))
}

/// Twelve parts, three verdicts, some customers, some lots released: no two alike.
fn records() -> Vec<Facts> {
    let mut records = Vec::new();
    for at in 0..360usize {
        records.push(Facts {
            kind: "inspection".into(),
            part: Some(format!("P-{}", at % 12)),
            lot: Some(format!("L-{at}")),
            customer: (at % 5 < 3).then(|| PARTNERS[at % 3].to_owned()),
            verdict: Some(["conforming", "non-conforming", "undecided"][at / 7 % 3].into()),
            released: at % 4 == 0,
            thin: if at % 10 == 0 { 1 << SCHEMA.slot("special_statistics").unwrap() } else { 0 },
            ..Facts::default()
        });
    }
    records
}

fn between(before: &str, after: &str) -> Difference {
    let (before, after) = (policy(before), policy(after));
    let mut classes = Classes::of(&[&before, &after]);
    records().iter().for_each(|facts| classes.count("quality", facts));
    Difference::between(&before, &after, &PARTNERS.map(Viewer::new), &classes, NOW)
}

#[test]
fn who_gains_and_loses_what_of_how_many_records_and_from_when() {
    let before = share("s", "a", "['identity', 'measurements']", "parts = ['P-1', 'P-2']") + &never("n", "b", "['process']");
    let after = share("s", "a", "['identity', 'verdict']", "parts = ['P-1', 'P-2', 'P-3']\nuntil = 2027-01-01");
    assert_eq!(
        between(&before, &after).words(),
        [
            "REMOVED BAN `n`",
            "share `s`: it names identity, verdict (before: it names identity, measurements); it covers parts P-1, P-2, P-3 \
             (before: it covers parts P-1, P-2); it lasts until 2027-01-01 00:00 UTC (before: it lasts until revoked)",
            "until 2027-01-01 00:00 UTC, a gains verdict of 60 records and identity, verdict of 30 records; \
             it loses measurements of 60 records in feed quality",
            "from 2027-01-01 00:00 UTC on, a loses identity, measurements of 60 records in feed quality",
        ]
    );
}

#[test]
fn what_is_equal_is_no_change_and_a_group_that_grew_is_said() {
    let rules = share("s", "a", "['verdict']", "") + &never("n", "b", "'everything'");
    assert!(between(&rules, &rules).is_empty());
    let group = |members: &str| format!("[groups]\ng = {members}\n") + &share("s", "g", "['defects']", "only = 'non-conforming'");
    let said = between(&group("['a']"), &group("['a', 'b']")).words();
    assert_eq!(said, ["share `s`: it is for b too", "b gains defects of 119 records in feed quality"]);
    // A new share is told whole, a ban that comes is no removed ban.
    let said = between("", &(share("s", "a", "['defects']", "lots = ['L-3']") + &never("n", "c", "['process']"))).words();
    assert_eq!(
        said,
        [
            "new share `s`: it is for `a`, names defects, covers feed `quality`, covers lot L-3",
            "new never `n`: it is for `c`, names process",
            "a gains defects of 1 record in feed quality"
        ]
    );
}

/// Every record asked one by one, at every moment, against the counts by class.
#[test]
fn counts_by_class_are_those_of_every_record() {
    let shows = ["['verdict']", "['capability', 'measurements:special']", "'everything'", "['identity', 'process']"];
    let mores = [
        "parts = ['P-1', 'P-7']",
        "parts = 'theirs'",
        "only = 'conforming'",
        "only = ['non-conforming', 'released']",
        "lots = ['L-4', 'L-8']",
        "from = 2026-12-24\nuntil = 2027-01-01",
        "until = 2027-01-01",
    ];
    let mut versions = Vec::new();
    for seed in 0..8usize {
        let one = share("s1", PARTNERS[seed % 3], shows[seed % 4], mores[seed % 7]);
        let two = share("s2", PARTNERS[seed / 2 % 3], shows[(seed + 1) % 4], mores[(seed / 3 + 2) % 7]);
        let ban = if seed % 2 == 0 { never("n", PARTNERS[seed % 3], "['process', 'special_values']") } else { String::new() };
        versions.push(one + &two + &ban);
    }
    for pair in versions.windows(2) {
        let (before, after) = (policy(&pair[0]), policy(&pair[1]));
        let difference = between(&pair[0], &pair[1]);
        for at in [NOW, NOW + 20 * 86_400, NOW + 40 * 86_400, NEW_YEAR - 1, NEW_YEAR] {
            let mut expected: BTreeMap<(String, bool, BTreeSet<String>), u64> = BTreeMap::new();
            for (partner, facts) in PARTNERS.iter().flat_map(|partner| records().into_iter().map(move |facts| (partner, facts))) {
                let mask = |policy: &Policy| decide(policy, &Viewer::new(*partner), "quality", &SCHEMA, &facts, at).mask;
                let (old, new) = (mask(&before), mask(&after));
                for (gains, mask) in [(true, new & !old), (false, old & !new)].into_iter().filter(|(_, mask)| *mask != 0) {
                    *expected.entry((partner.to_string(), gains, names_of(&SCHEMA, mask).into_iter().collect())).or_default() += 1;
                }
            }
            let mut told = BTreeMap::new();
            let now = difference
                .changes
                .iter()
                .filter(|change| change.from.is_none_or(|from| from <= at) && change.until.is_none_or(|until| at < until));
            for change in now {
                *told.entry((change.partner.clone(), change.gains, change.fields.iter().cloned().collect())).or_default() += change.records;
            }
            assert_eq!(told, expected, "at {at}:\n{}\nand then\n{}", pair[0], pair[1]);
        }
    }
}

#[test]
fn records_that_a_delay_holds_back_are_counted_by_the_hour_at_which_they_open() {
    let (before, after) = (policy(""), policy(&share("s", "a", "['verdict']", "delay = '24h'")));
    let mut classes = Classes::of(&[&before, &after]);
    for recorded in ["2026-11-01T00:00:00Z", "2026-11-22T12:00:01Z", "2026-11-22T12:59:59Z", "2026-11-22T13:00:00Z", "2026-11-22T13:00:01Z"]
    {
        let facts = Facts { kind: "inspection".into(), recorded_at: Some(recorded.into()), ..Facts::default() };
        classes.count("quality", &facts);
    }
    let said = Difference::between(&before, &after, &PARTNERS.map(Viewer::new), &classes, NOW).words();
    assert_eq!(
        said[1..],
        [
            "a gains verdict of 1 record in feed quality",
            "from 2026-11-23 13:00 UTC on, a gains verdict of 3 records in feed quality",
            "from 2026-11-23 14:00 UTC on, a gains verdict of 1 record in feed quality",
        ]
    );
}

#[test]
fn terms_count_for_those_who_accepted_them_and_are_said_to_the_others() {
    let with = |more: &str| share("s", "a", "['verdict']", "parts = ['P-1']") + &format!("for = 'audit'\n{more}");
    let (none, audit, days) = (String::new(), with(""), with("then = { delete_after = '90d' }\n"));
    let accepting = |of: &str| {
        let terms = policy(of).shares()[0].terms.as_ref().unwrap().id();
        Viewer { purposes: BTreeSet::from(["audit".into()]), terms: BTreeSet::from([terms]), ..Viewer::new("a") }
    };
    let says = |before: &str, after: &str, viewer: Viewer| {
        let (before, after) = (policy(before), policy(after));
        let mut classes = Classes::of(&[&before, &after]);
        records().iter().for_each(|facts| classes.count("quality", facts));
        Difference::between(&before, &after, [&viewer], &classes, NOW).words()[1..].to_vec()
    };
    let promises = "use it only for: audit; delete it 90 days after receipt";
    assert_eq!(says(&none, &audit, Viewer::new("a")), ["a must accept before `s` shows it anything: use it only for: audit"]);
    assert_eq!(says(&none, &audit, accepting(&audit)), ["a gains verdict of 30 records in feed quality"]);
    assert_eq!(
        says(&audit, &days, accepting(&audit)),
        [format!("a must accept anew before `s` shows it anything: {promises}"), "a loses verdict of 30 records in feed quality".into()]
    );
    assert_eq!(says(&audit, &days, accepting(&days)), ["a gains verdict of 30 records in feed quality"]);
    assert_eq!(says(&audit, &days, Viewer::new("a")), [format!("a must accept before `s` shows it anything: {promises}")]);
}
