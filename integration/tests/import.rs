//! Real files through the importer: the NIST plates and covers in every dialect, and files that hold something else.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use lotline_node::import::{self, Import, ImportError, Map, Options};
use lotline_schema::kind::inspection::{Characteristic, Inspection, Measured};
use lotline_schema::{Decimal, stats};

const PSEUDO: &str = "Part Number";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The collection beside the project, if this machine has it; `LOTLINE_SHARED=require` insists.
fn shared() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let required = std::env::var("LOTLINE_SHARED").is_ok_and(|value| value == "require");
    assert!(folder.exists() || !required, "LOTLINE_SHARED=require, but there is no {}", folder.display());
    folder.exists().then_some(folder)
}

fn options(part: &str) -> Options {
    Options { part: Some(part.into()), lot: Some("LOT-2017-07".into()), ..Options::default() }
}

fn read(path: &Path, options: &Options) -> Import {
    import::read(path, options, &|_, _| ()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn only_lot(path: &Path, part: &str) -> Inspection {
    let mut lots = read(path, &options(part)).lots;
    assert_eq!(lots.len(), 1, "{}", path.display());
    lots.remove(0)
}

fn numbers(of: &Characteristic) -> Vec<Decimal> {
    of.values.iter().filter_map(|value| if let Measured::Number(number, _) = value { Some(*number) } else { None }).collect()
}

/// Pieces inspected and non-conforming, as the record will say.
fn pieces(lot: &Inspection) -> (u64, u64) {
    lot.check("2026-11-23T10:00:00Z").expect("the lot has no fault").facts().pieces.expect("an inspection counts its pieces")
}

/// Limits, values and statistics are those that the maker's own tool stated.
fn check_expected(lot: &Inspection, expected: &Path) {
    let expected: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(expected).unwrap()).unwrap();
    assert_eq!(pieces(lot), (expected["parts"].as_u64().unwrap(), expected["failed_parts"].as_u64().unwrap()));
    let rows = expected["characteristics"].as_array().unwrap();
    assert_eq!(lot.characteristics.len(), rows.len());
    for (of, row) in lot.characteristics.iter().zip(rows) {
        let name = row["characteristic"].as_str().unwrap();
        assert!(of.name.ends_with(name), "`{}` is not `{name}`", of.name);
        let figure = |value: &serde_json::Value| value.as_str().map(|text| text.parse::<Decimal>().unwrap().to_f64());
        let limit = |limit: lotline_schema::kind::inspection::Limit| limit.figure().map(|figure| figure.to_f64());
        assert_eq!(limit(of.upper), figure(&row["usl"]), "{name}");
        assert_eq!(limit(of.lower), figure(&row["lsl"]).or(Some(0.0)), "{name}");
        let values = numbers(of);
        assert_eq!(values.len() as u64, row["n"].as_u64().unwrap(), "{name}");
        assert_eq!(lot.counted(of), name != PSEUDO, "{name}");
        if name == PSEUDO {
            continue;
        }
        let found = stats::of(&values, of.lower, of.upper);
        for (index, found) in [("Cp", found.cp), ("Cpk", found.cpk), ("Pp", found.pp), ("Ppk", found.ppk)] {
            let (stated, found) = (figure(&row["stated"][index]).unwrap(), found.unwrap().to_f64());
            assert!((stated - found).abs() <= stated.abs() * 1e-3, "{name} {index}: stated {stated}, found {found}");
        }
    }
}

#[test]
fn the_plates_are_read_and_19_of_20_fail() {
    let lot = only_lot(&fixture("plate_fair_long.csv"), "nist_mtc_crada_plate");
    check_expected(&lot, &fixture("plate_fair_expected.json"));
    assert_eq!(pieces(&lot), (20, 19));
    let stated: usize = lot.characteristics.iter().flat_map(|of| &of.stated_good).filter(|good| **good == Some(false)).count();
    assert_eq!(stated, 98);
    assert_eq!(lot.inspected_from.as_deref(), Some("2017-07-11T09:16:18"));
    assert!(lot.source.unwrap().importer.starts_with("csv long; comma; ascii; decimal point"));
}

#[test]
fn the_covers_are_read_and_1_of_20_fails() {
    let lot = only_lot(&fixture("cover_fair_long.csv"), "nist_mtc_crada_cover");
    check_expected(&lot, &fixture("cover_fair_expected.json"));
    assert_eq!(pieces(&lot), (20, 1));
}

#[test]
fn every_dialect_of_the_plates_gives_the_same_values() {
    let Some(shared) = shared() else { return };
    let plain = only_lot(&fixture("plate_fair_long.csv"), "P");
    let mut tried = 0;
    for (file, words) in [
        ("csv-quality/nist/plate_fair_long.csv", "csv long; comma; ascii; decimal point; header in row 1"),
        ("csv-nasty/nist/plate_fair_utf16le_tab.txt", "csv long; tab; utf-16le; decimal comma; header in row 1"),
        ("csv-nasty/nist/plate_fair_quoted_newlines.csv", "csv long; comma; ascii; decimal point; header in row 1"),
        (
            "csv-nasty/nist/plate_fair_wide_de_cp1252.csv",
            "csv characteristics in rows; semicolon; windows-1252; decimal comma; header in row 5",
        ),
    ] {
        let import = read(&shared.join(file), &options("P"));
        assert_eq!(import.dialect.to_string(), words);
        let lot = &import.lots[0];
        assert_eq!(lot.serials, plain.serials, "{file}");
        let mut values = 0;
        for (of, plain) in lot.characteristics.iter().zip(&plain.characteristics) {
            let (ours, plain) = (numbers(of), numbers(plain));
            values += ours.len();
            assert!(ours.len() == plain.len() && ours.iter().zip(&plain).all(|(a, b)| a.compare(b).is_eq()), "{file}: {}", of.name);
        }
        assert_eq!(values, 760, "{file}");
        check_expected(lot, &fixture("plate_fair_expected.json"));
        tried += 1;
    }
    let cover = shared.join("csv-nasty/nist/cover_fair_excel_serial_dates.csv");
    let lot = only_lot(&cover, "C");
    check_expected(&lot, &fixture("cover_fair_expected.json"));
    assert_eq!(lot.inspected_from.as_deref(), Some("2017-07-18T09:24:30"));
    assert_eq!(lot.characteristics[0].upper.figure().unwrap().to_f64(), 1001.0);
    tried += 1;
    eprintln!("{tried} files of the shared collection tried");
}

#[test]
fn the_receiver_fails_all_20() {
    let Some(shared) = shared() else { return };
    let import = read(&shared.join("csv-quality/nist/plate_incoming_long.csv"), &options("P"));
    assert_eq!((import.lots[0].serials.len(), import.lots[0].characteristics.len()), (20, 31));
    assert_eq!(pieces(&import.lots[0]), (20, 20));
    assert!(import.notes.iter().any(|note| note.contains("no serial")), "{:?}", import.notes);
    assert!(import.notes.iter().any(|note| note.contains("-0.13")), "{:?}", import.notes);
}

#[test]
fn what_is_no_quality_data_is_refused_with_a_way_out() {
    let Some(shared) = shared() else { return };
    let folders = ["csv-nasty/real", "csv-nasty/spectrum"];
    let mut tried = 0;
    for entry in folders.iter().flat_map(|folder| std::fs::read_dir(shared.join(folder)).unwrap()) {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "csv") {
            continue;
        }
        let error = import::read(&path, &options("P"), &|_, _| ()).expect_err(&path.display().to_string());
        let ImportError::MissingColumn { found, hint, .. } = &error else { panic!("{}: {error}", path.display()) };
        assert!(!found.is_empty() && hint.contains("--map") && hint.contains("columns = {"), "{error} {hint}");
        tried += 1;
    }
    assert_eq!(tried, 8);
    eprintln!("{tried} files of the shared collection tried");
}

#[test]
fn a_map_makes_even_the_air_quality_a_table() {
    let Some(shared) = shared() else { return };
    let map: Map = "columns = { \"Date\" = \"lot\", \"Time\" = \"serial\" }\nmissing = [\"-200\"]".parse().unwrap();
    let import =
        read(&shared.join("csv-nasty/real/AirQualityUCI.csv"), &Options { map: Some(map), part: Some("air".into()), ..Options::default() });
    assert_eq!(import.lots.len(), 391);
    assert_eq!(import.lots.iter().map(|lot| lot.serials.len()).sum::<usize>(), 9357);
    let first = &import.lots[0];
    assert_eq!((first.lot.as_str(), first.serials[0].as_str(), first.characteristics.len()), ("10/03/2004", "18.00.00", 13));
    assert!(import.lots.iter().flat_map(|lot| &lot.characteristics).any(|of| of.values.contains(&Measured::Missing)));
    for value in import.lots.iter().flat_map(|lot| &lot.characteristics).flat_map(|of| &of.values) {
        assert!(!matches!(value, Measured::Number(number, _) if number.compare(&Decimal::whole(-200)).is_eq()));
    }
}
