//! The reading test of docs/reading-test.md: its answers are those of the program, and its model solution passes its own check.
#![allow(clippy::unwrap_used, reason = "a test, also outside the test functions")]

use std::collections::{BTreeMap, BTreeSet};

use lotline_policy::{Policy, Slips, Viewer, World, decide, recorded};
use lotline_schema::Facts;
use lotline_schema::kind::Schema;
use lotline_schema::kind::inspection::SCHEMA;

const PAGE: &str = include_str!("../../docs/reading-test.md");
/// 2026-11-23.
const NOW: i64 = 1_795_392_000;

/// The fenced blocks of this language.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    PAGE.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The cells of the rows that begin with the number of a question.
fn rows(from: &str, to: &str) -> Vec<Vec<String>> {
    let part = PAGE.split(from).nth(1).unwrap().split(to).next().unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    part.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit()).map(cells).collect()
}

fn parse(text: &str) -> Result<Policy, Slips> {
    let world = World {
        partners: &["oem-a", "oem-b", "oem-c", "auditor", "rival"].map(String::from),
        feeds: &["quality".into()],
        parts: &BTreeSet::from(["P-4711".into(), "P-4712".into()]),
        lots: &BTreeSet::from(["L-2026-11".into()]),
        lists: &BTreeMap::new(),
        now: NOW,
    };
    lotline_policy::parse(text, &world)
}

fn time(text: &str) -> Option<String> {
    Some(format!("{}:00Z", text.replace(' ', "T")))
}

fn slot(wanted: &str) -> usize {
    let field = match wanted {
        "identity" => "lot",
        "verdict" => "verdict_recomputed",
        "capability" => "other_statistics",
        "special values" => "special_values",
        "measurements" | "other values" => "other_values",
        "process" => "machine",
        "defects" | "inspector" => wanted,
        other => panic!("`{other}` is no group of the page"),
    };
    SCHEMA.slot(field).unwrap()
}

/// What the program says to a question: who, what for, what, part, verdict, made for, signed, asked.
fn answer(policy: &Policy, question: &[String]) -> bool {
    let [who, purpose, wanted, part, verdict, customer, signed, asked] = question else {
        panic!("{question:?}");
    };
    let at = recorded(&Facts { recorded_at: time(asked), ..Facts::default() }).unwrap();
    let viewer = Viewer {
        partner: who.clone(),
        purposes: BTreeSet::from([purpose.clone()]).into_iter().filter(|purpose| !purpose.is_empty()).collect(),
        terms: policy.asking(who, "quality", at).map(|(_, terms)| terms.id()).collect(),
    };
    let facts = Facts {
        part: Some(part.clone()),
        lot: Some("L-2026-11".into()),
        customer: Some(customer.clone()),
        verdict: Some(verdict.clone()),
        recorded_at: time(signed),
        kind: SCHEMA.name.into(),
        ..Facts::default()
    };
    let schema: &'static Schema = &SCHEMA;
    decide(policy, &viewer, "quality", schema, &facts, at).mask & (1 << slot(wanted)) != 0
}

#[test]
fn its_answers_are_the_programs() {
    let policy = parse(&blocks("toml")[0]).unwrap_or_else(|slips| panic!("{slips}"));
    assert_eq!(policy.shares().len() + policy.nevers().len(), 8);
    let (questions, answers) = (rows("## Part 1", "## Part 2"), rows("## Answers", "One way"));
    assert!(questions.len() >= 16);
    assert_eq!(questions.len(), answers.len());
    let mut wrong = Vec::new();
    for (question, expected) in questions.iter().zip(&answers) {
        assert_eq!(question[0], expected[0], "the answers stand in the order of the questions");
        let said = if answer(&policy, &question[1..9]) { "yes" } else { "no" };
        wrong.extend((said != expected[1]).then(|| format!("{}: the program says {said}, the page {}", question[0], expected[1])));
    }
    assert_eq!(wrong, Vec::<String>::new());
    // Both answers are there for a reader who always says the same.
    assert!(answers.iter().any(|row| row[1] == "yes") && answers.iter().any(|row| row[1] == "no"));
}

#[test]
fn its_model_solution_passes_its_check_and_worse_ones_do_not() {
    let (solution, check) = (&blocks("toml")[1], &blocks("toml fragment")[0]);
    parse(&format!("{solution}{check}")).unwrap_or_else(|slips| panic!("{slips}"));
    let slips = [
        ("until = 2027-04-01", "until = 2027-03-31"),
        ("until = 2027-02-15", "until = 2027-02-14"),
        ("from  = 2027-02-01\n", ""),
        ("show = [\"process\"]", "show = [\"verdict\"]"),
        ("lots  = [\"L-2026-11\"]\n", "lots  = []\n"),
        ("\"defects\"]", "\"defects\", \"measurements\"]"),
    ];
    for (right, wrong) in slips {
        assert!(solution.contains(right), "{right}");
        assert!(parse(&format!("{}{check}", solution.replacen(right, wrong, 1))).is_err(), "{wrong} is not noticed");
    }
}
