//! `Inspection::check` finds every fault at once, each with its field, its place in the file and a way out.
#![allow(clippy::unwrap_used)] // tests

mod common;

use common::{RECORDED_AT, inspection, number, slot};
use lotline_schema::codec::{self, Value};
use lotline_schema::draft::{Fault, Place};
use lotline_schema::id::Hash;
use lotline_schema::kind::inspection::{
    Attachment, Characteristic, Defect, Input, Inspection, Limit, Measured, SCHEMA, Source, Statistics, Verdict,
};
use lotline_schema::record::Record;
use lotline_schema::{stats, unit};

type Change = fn(&mut Inspection);

fn faults(change: Change) -> Vec<Fault> {
    let mut draft = inspection();
    change(&mut draft);
    draft.check(RECORDED_AT).map(|_| Vec::new()).unwrap_or_else(|faults| faults.0)
}

/// One change to a good draft, and the one fault it makes, as people read it.
#[test]
fn each_fault_has_its_path_and_its_way_out() {
    let cases: Vec<(Change, &str)> = vec![
        (|draft| draft.part = "  ".into(), "part: is missing (give it with --part or a column)"),
        (|draft| draft.lot = String::new(), "lot: is missing (give it with --lot or a column)"),
        (
            |draft| {
                let of = &mut draft.characteristics[0];
                (of.lower, of.upper) = (of.upper, of.lower);
                of.place = Some(Place { row: 7, column: Some(3) });
            },
            "row 7, column 3: characteristics[1].limits: limits swapped on `Durchmesser`: lower 12.55 is above upper 12.45 (swap them in the file)",
        ),
        (
            |draft| draft.characteristics[0].unit = Some("mmm".into()),
            "characteristics[1].unit: unknown unit `mmm` on `Durchmesser` (did you mean `mm`? a unit of your own goes under [units] in a --map file)",
        ),
        (
            |draft| draft.characteristics[1].unit = Some("MM".into()),
            "characteristics[2].unit: unknown unit `MM` on `Ebenheit` (did you mean `mm`? a unit of your own goes under [units] in a --map file)",
        ),
        (
            |draft| draft.characteristics[0].unit = Some("furlongs".into()),
            "characteristics[1].unit: unknown unit `furlongs` on `Durchmesser` (a unit of your own goes under [units] in a --map file)",
        ),
        (|draft| draft.serials[2] = "1".into(), "serials[3]: serial `1` appears twice (each piece has its own serial)"),
        (|draft| draft.serials[1] = "a\u{7}b".into(), "serials[2]: has control characters (remove them from the file)"),
        (|draft| draft.lot = "L\u{1b}[31m".into(), "lot: has control characters (remove them from the file)"),
        (|draft| draft.customer = Some("a\u{202e}b".into()), "customer: has control characters (remove them from the file)"),
        (|draft| draft.remarks = Some("a\u{2067}b".into()), "remarks: has control characters (remove them from the file)"),
        (|draft| draft.part = "x".repeat(256), "part: is 256 bytes long, more than 255 (shorten it)"),
        (|draft| draft.remarks = Some("x".repeat(4001)), "remarks: is 4001 bytes long, more than 4000 (shorten it)"),
        (
            |draft| draft.inspected_from = Some("23.11.2026".into()),
            "inspected_from: `23.11.2026` is not a time (write 2026-11-23 or 2026-11-23T14:05:00)",
        ),
        (
            |draft| draft.inspected_to = Some("2026-13-01".into()),
            "inspected_to: `2026-13-01` is not a time (write 2026-11-23 or 2026-11-23T14:05:00)",
        ),
        (
            |draft| draft.characteristics[1].name = " ".into(),
            "characteristics[2].name: the characteristic has no name (name it in the file)",
        ),
        (
            |draft| draft.characteristics[1].name = "a\u{0}".into(),
            "characteristics[2].name: has control characters (remove them from the file)",
        ),
        (
            |draft| {
                draft.characteristics[0].values.pop();
            },
            "characteristics[1].values: `Durchmesser` has 2 values for 3 pieces (one value a piece, or none written as missing)",
        ),
        (
            |draft| {
                draft.characteristics[1].stated_good.pop();
            },
            "characteristics[2].stated: `Ebenheit` has 2 stated verdicts for 3 values (one verdict a value)",
        ),
        (
            |draft| {
                let mut again = draft.characteristics[0].clone();
                again.place = Some(Place { row: 9, column: None });
                draft.characteristics.push(again);
            },
            "row 9: characteristics[3]: `Durchmesser` at position 1 is there twice (also characteristics[1])",
        ),
        (
            |draft| {
                draft.characteristics.clear();
            },
            "characteristics: there is nothing measured and no verdict stated (state one with --verdict)",
        ),
        (
            |draft| draft.characteristics[1].values[0] = Measured::Number(number("0.01"), Some("0\u{8},01".into())),
            "characteristics[2].values[1]: has control characters (remove them from the file)",
        ),
        (|draft| draft.quantity = Some((number("5"), "pcs\u{7f}".into())), "quantity: has control characters (remove them from the file)"),
        (
            |draft| draft.certificate = Some(("3.1".into(), "n\u{1b}".into())),
            "certificate.number: has control characters (remove them from the file)",
        ),
        (
            |draft| draft.defects = vec![Defect { code: "D\u{1}".into(), text: None, count: 1 }],
            "defects[1].code: has control characters (remove them from the file)",
        ),
        (
            |draft| draft.inputs = vec![Input { lot: "x".repeat(300), part: None, supplier: None, statement: None }],
            "inputs[1].lot: is 300 bytes long, more than 255 (shorten it)",
        ),
        (
            |draft| {
                let of = Attachment { name: "a\u{202a}.pdf".into(), media_type: "application/pdf".into(), bytes: 1, sha256: Hash([0; 32]) };
                draft.attachments = vec![of];
            },
            "attachments[1].name: has control characters (remove them from the file)",
        ),
        (
            |draft| draft.source = Some(Source { name: "a\r.csv".into(), sha256: Hash([0; 32]), importer: "csv".into() }),
            "source.name: has control characters (remove them from the file)",
        ),
    ];
    let count = cases.len();
    for (change, expected) in cases {
        let found: Vec<String> = faults(change).iter().map(Fault::to_string).collect();
        assert_eq!(found, [expected]);
    }
    eprintln!("faults tried one by one: {count}");
}

#[test]
fn all_faults_are_reported_at_once() {
    let found = faults(|draft| {
        draft.part.clear();
        draft.lot.clear();
        draft.remarks = Some("a\u{1b}".into());
        draft.inspected_from = Some("yesterday".into());
        draft.serials[1] = "1".into();
        let of = &mut draft.characteristics[0];
        of.place = Some(Place { row: 12, column: Some(4) });
        (of.lower, of.upper) = (of.upper, of.lower);
        of.unit = Some("Nmm".into());
        of.values.pop();
        draft.characteristics[1].position = 1;
        draft.characteristics[1].name = "Durchmesser".into();
        draft.characteristics[1].place = Some(Place { row: 13, column: None });
    });
    let paths: Vec<&str> = found.iter().map(|fault| fault.path.as_str()).collect();
    let expected = [
        "part",
        "lot",
        "remarks",
        "inspected_from",
        "serials[2]",
        "characteristics[1].limits",
        "characteristics[1].unit",
        "characteristics[1].values",
        "characteristics[2]",
    ];
    assert_eq!(paths, expected);
    for fault in &found[5..8] {
        assert_eq!(fault.place, Some(Place { row: 12, column: Some(4) }));
    }
    assert_eq!(found[8].place, Some(Place { row: 13, column: None }));
    let nothing = inspection().check("now").unwrap_err();
    assert_eq!(nothing.to_string(), "recorded_at: `now` is not a time");
    assert!(faults(|_| ()).is_empty());
}

/// What is no fault: people's files are strange, and right.
#[test]
fn strange_and_right_is_accepted() {
    let fine: Vec<Change> = vec![
        |draft| draft.lot = "007".into(),
        |draft| draft.remarks = Some("two\nlines\tand a tab".into()),
        |draft| draft.remarks = Some("x".repeat(4000)),
        |draft| draft.part = "Ä".repeat(127),
        |draft| draft.characteristics[1].name = "Durchmesser".into(),
        |draft| draft.characteristics[0].unit = Some("µm".into()),
        |draft| draft.characteristics[0].unit = Some(String::new()),
        |draft| {
            (draft.characteristics[0].lower, draft.characteristics[0].upper) = (Limit::Limit(number("5")), Limit::Limit(number("5.00")))
        },
        |draft| draft.characteristics[0].lower = Limit::None,
        |draft| draft.inspected_from = Some("2026-11-23T14:05".into()),
        |draft| {
            draft.characteristics.clear();
            draft.serials.clear();
            draft.verdict_stated = Some(Verdict::Conforming);
        },
    ];
    for change in fine {
        assert_eq!(faults(change), []);
    }
    assert!(unit::known("MPa") && unit::known("mPas") && !unit::known("mPA"));
    assert_eq!(unit::nearest("Mpa"), Some("MPa"));
}

// ---- what comes out ----

fn value<'a>(record: &'a Record, name: &str) -> Option<&'a Value> {
    record.values()[slot(name)].as_ref()
}

fn row(texts: &[&str]) -> Vec<Measured> {
    texts.iter().map(|text| Measured::Number(number(text), None)).collect()
}

#[test]
fn verdicts_follow_the_values() {
    let verdict = |change: Change| {
        let mut draft = inspection();
        change(&mut draft);
        let record = draft.check(RECORDED_AT).unwrap();
        let row = codec::as_array(value(&record, "verdict_recomputed").unwrap()).unwrap().to_vec();
        let counts: Vec<u64> = row[1..].iter().map(|cell| codec::as_uint(cell).unwrap()).collect();
        (codec::as_text(&row[0]).unwrap().to_owned(), counts)
    };
    let said = |text: &str, counts: [u64; 3]| (text.to_owned(), counts.to_vec());
    // A value is missing.
    assert_eq!(verdict(|_| ()), said("undecided", [3, 0, 1]));
    let complete: Change = |draft| draft.characteristics[1].values = row(&["0.01", "0.02", "0.05"]);
    assert_eq!(verdict(complete), said("conforming", [3, 0, 0]));
    // On the limit conforms, beyond it does not; pieces are counted, not values.
    assert_eq!(verdict(|draft| draft.characteristics[1].values = row(&["0.01", "0.02", "0.0501"])), said("non-conforming", [3, 1, 0]));
    let twice: Change = |draft| {
        draft.characteristics[0].values[2] = Measured::Number(number("13"), None);
        draft.characteristics[1].values = row(&["0.01", "0.02", "1"]);
    };
    assert_eq!(verdict(twice), said("non-conforming", [3, 1, 0]));
    // Below a natural boundary is impossible, and fails.
    assert_eq!(verdict(|draft| draft.characteristics[1].values = row(&["-0.01", "0.02", "0.03"])), said("non-conforming", [3, 1, 0]));
    // A failure outranks a missing value; an attributive value fails too.
    assert_eq!(verdict(|draft| draft.characteristics[1].values[0] = Measured::Good(false)), said("non-conforming", [3, 1, 1]));
    // No limit, nothing attributive: nothing can be said.
    let free: Change = |draft| {
        draft.characteristics.truncate(1);
        (draft.characteristics[0].lower, draft.characteristics[0].upper) = (Limit::None, Limit::None);
    };
    assert_eq!(verdict(free), said("undecided", [3, 0, 0]));
}

#[test]
fn a_column_that_repeats_the_serial_measures_nothing() {
    let draft = |serials: &[&str], name: &str, values: &[&str]| Inspection {
        serials: serials.iter().map(|serial| (*serial).to_owned()).collect(),
        characteristics: vec![Characteristic {
            position: 1,
            name: name.into(),
            upper: Limit::Limit(number("1")),
            values: row(values),
            ..Characteristic::default()
        }],
        ..inspection()
    };
    for (serials, name, values, counted) in [
        (&["1", "2", "3"][..], "x", &["1", "2.0", "3"][..], false),
        (&["1", "2", "3"], "x", &["1", "2", "4"], true),
        (&["1", "2"], "x", &["1", "2"], true),
        (&["1", "2"], "Part Number", &["1", "2"], false),
        (&["1"], "Teilenummer", &["1"], false),
        (&["A", "B", "C"], "serial", &["1", "2", "3"], true),
    ] {
        let draft = draft(serials, name, values);
        assert_eq!(draft.counted(&draft.characteristics[0]), counted, "{serials:?} {name} {values:?}");
        let record = draft.check(RECORDED_AT).unwrap();
        let rows = codec::as_array(value(&record, "other_characteristics").unwrap()).unwrap();
        assert_eq!(codec::as_array(&rows[0]).unwrap()[10], Value::Bool(counted));
        let statistics = codec::as_array(value(&record, "other_statistics").unwrap()).unwrap();
        assert_eq!(codec::as_array(&statistics[1]).unwrap()[0] == Value::Null, !counted);
    }
}

#[test]
fn special_characteristics_stand_apart_and_blocks_are_parallel() {
    let record = inspection().check(RECORDED_AT).unwrap();
    for block in ["special", "other"] {
        let rows = |name: &str| codec::as_array(value(&record, &format!("{block}_{name}")).unwrap()).unwrap().to_vec();
        let (characteristics, verdicts, statistics, values) =
            (rows("characteristics"), rows("verdicts"), rows("statistics"), rows("values"));
        assert_eq!((characteristics.len(), verdicts.len()), (1, 1));
        assert_eq!(codec::as_text(&statistics[0]), Some(stats::METHOD));
        for part in [&statistics[1], &statistics[2], &values[1]] {
            assert_eq!(codec::as_array(part).unwrap().len(), 1);
        }
        assert_eq!(codec::as_array(&values[0]).unwrap().len(), 3);
    }
    let mut plain = inspection();
    plain.characteristics[0].class = None;
    let record = plain.check(RECORDED_AT).unwrap();
    for name in ["characteristics", "statistics", "verdicts", "values"] {
        assert!(value(&record, &format!("special_{name}")).is_none());
        assert!(value(&record, &format!("other_{name}")).is_some());
    }
    // Every record passes the forms its readers ask for.
    for (field, value) in SCHEMA.fields.iter().zip(record.values()) {
        assert!(value.as_ref().map_or(!field.required, |value| field.form.fits(value)), "{}", field.name);
    }
}

/// Statistics over fewer than ten values are shared only with the values, whoever computed them.
#[test]
fn thin_statistics_are_marked() {
    let special = 1u64 << slot("special_statistics");
    let other = 1u64 << slot("other_statistics");
    assert_eq!(inspection().check(RECORDED_AT).unwrap().facts().thin, special | other);
    let mut many = inspection();
    many.serials = (0..12).map(|at| format!("S{at}")).collect();
    for of in &mut many.characteristics {
        of.values = row(&["0.01"; 12]);
        of.stated_good.clear();
        of.stated = None;
    }
    assert_eq!(many.check(RECORDED_AT).unwrap().facts().thin, 0);
    many.characteristics[1].stated = Some(Statistics { n: 9, ..Statistics::default() });
    assert_eq!(many.check(RECORDED_AT).unwrap().facts().thin, other);
    many.characteristics[1].stated = Some(Statistics { n: 10, ..Statistics::default() });
    assert_eq!(many.check(RECORDED_AT).unwrap().facts().thin, 0);
}

#[test]
fn the_content_hash_passes_over_when_and_whence() {
    let one = inspection().check(RECORDED_AT).unwrap();
    let mut again = inspection();
    again.source = Some(Source { name: "copy.csv".into(), sha256: Hash([1; 32]), importer: "csv".into() });
    let again = again.check("2026-11-24T10:00:00Z").unwrap();
    assert_eq!(one.content_hash(), again.content_hash());
    let mut other = inspection();
    other.lot.push('x');
    assert_ne!(one.content_hash(), other.check(RECORDED_AT).unwrap().content_hash());
}
