//! `integration/bench/compare.py`, which measures Lotline beside others, runs: a few records, every contestant, every figure there.
//!
//! Needs `python3` with `pip`, `node` with `npm`, and a package index once; the packages are then kept in the target folder.
//! What it cannot have it leaves out, and says so in capitals, there and in a file that `.ci/run` reads. The figures mean
//! nothing here.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests, also outside the test functions")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use lotline_integration::world::program;
use serde_json::Value;

const RECORDS: u64 = 300;
/// What one run may take in all, in seconds; a contestant that hangs is what this is for.
const PATIENCE: &str = "600";

/// Says loudly, and where `.ci/run` looks, what was not tried.
fn skipped(folder: &Path, why: &str) {
    std::fs::write(folder.join("SKIPPED"), format!("{why}\n")).unwrap();
    // Not by eprintln, which is shown for tests that fail alone.
    let line = format!("\nSKIPPED: NOT COMPARED WITH OTHERS (integration/bench): {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

#[test]
fn every_contestant_that_can_be_had_finishes_and_has_everything_after_a_kill() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/compare.py");
    let folder = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("compare");
    std::fs::create_dir_all(&folder).unwrap();
    let _ = std::fs::remove_file(folder.join("SKIPPED"));
    if Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skipped(&folder, "`python3` is not here");
    }
    let mut command = Command::new("timeout");
    command.args([PATIENCE, "python3"]).arg(script).arg("--lotline").arg(program()).arg("--tools").arg(folder.join("tools"));
    command.args(["--json", "--rounds", "1", "--paced-seconds", "1", "--records", &RECORDS.to_string()]);
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let left_out: Vec<&str> = facts["left_out"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();

    let rows = facts["rows"].as_object().unwrap();
    for (name, row) in rows {
        let figure = |key: &str| row[key].as_f64().unwrap_or_default();
        assert!(row["void"].is_null(), "{name}: {row}");
        assert!(figure("publish") > 0.0 && figure("replicate") > 0.0 && row["durable"].is_string(), "{name}: {row}");
        if name != "Baseline program" {
            assert_eq!(figure("valid") as u64, RECORDS, "{name}: {row}");
            assert!(figure("p50_ms") > 0.0 && figure("p50_ms") <= figure("p99_ms"), "{name}: {row}");
            assert!(figure("store_bytes") > RECORDS as f64 * 2000.0, "{name}: {row}");
            let cost = |side: &str| row[side]["peak_bytes"].as_f64().unwrap_or_default();
            assert!(cost("sender") > 0.0 && cost("receiver") > 0.0, "{name}: {row}");
        }
    }
    assert!(rows.contains_key("Lotline") && rows.contains_key("Baseline program"), "{rows:?}");
    match left_out.is_empty() {
        true => assert_eq!(rows.len(), 6, "{rows:?}"),
        false => skipped(&folder, &left_out.join("; ")),
    }
}

#[test]
fn packages_are_pinned_and_name_no_address() {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench");
    let read = |name: &str| std::fs::read_to_string(bench.join(name)).unwrap();
    let (package, lock): (Value, Value) =
        ["package.json", "package-lock.json"].map(|name| serde_json::from_str(&read(name)).unwrap()).into();
    let pinned = |version: &Value| version.as_str().is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()));
    assert!(package["dependencies"].as_object().unwrap().values().all(pinned), "{package}");
    assert_eq!(lock["packages"][""]["dependencies"], package["dependencies"]);
    for (name, package) in lock["packages"].as_object().unwrap().iter().filter(|(name, _)| !name.is_empty()) {
        assert!(package["resolved"].is_null() && package["integrity"].is_string(), "{name}: {package}");
    }
    assert!(read("requirements.txt").lines().all(|line| line.contains("==")), "{}", read("requirements.txt"));
}
