//! `docs/kinds.md` says what the schema says: its tables are compared with the schema, and the definition is pinned.
#![allow(clippy::unwrap_used)] // tests

use lotline_schema::codec::{self, Value};
use lotline_schema::id::{hex, unhex};
use lotline_schema::kind::{self, Cell, Column, Field, Form, Group, inspection::SCHEMA, looks_like_time};

const DOCUMENT: &str = include_str!("../../docs/kinds.md");
const DEFINITION: &str = include_str!("../vectors/inspection-1.definition.hex");
const HASH: &str = "aa7d7e6c167436d8f0b860e5ddaf5cc05a9d310c9c80a5198dfcf54548400170";

fn columns(form: Form) -> &'static [Column] {
    match form {
        Form::Rows(columns) | Form::Row(columns) => columns,
        _ => &[],
    }
}

fn form(form: Form) -> &'static str {
    match form {
        Form::Text => "text",
        Form::Time => "time",
        Form::Quantity => "quantity",
        Form::Rows(_) => "rows",
        Form::Row(_) => "row",
        Form::Statistics => "statistics",
        Form::Values => "values",
        Form::Any => "any",
    }
}

fn unit(field: &Field) -> &'static str {
    match field.form {
        Form::Quantity => "beside the number",
        Form::Statistics | Form::Values => "that of its characteristic",
        Form::Rows(columns) if columns.iter().any(|column| column.name == "unit") => "in each row",
        Form::Rows(columns) if columns.iter().any(|column| column.name == "bytes") => "byte",
        Form::Rows(columns) | Form::Row(columns) if columns.iter().any(|column| column.cell == Cell::Whole) => "a count",
        _ => "–",
    }
}

fn slot_table() -> String {
    let mut table = String::from("| slot | name | group | form | unit | required | meaning |\n|---|---|---|---|---|---|---|\n");
    for (at, field) in SCHEMA.fields.iter().enumerate() {
        let required = if field.required { "yes" } else { "" };
        let (name, group, form, unit, about) = (field.name, field.group, form(field.form), unit(field), field.about);
        table += &format!("| {at} | `{name}` | {group} | {form} | {unit} | {required} | {about} |\n");
    }
    table
}

fn column_table() -> String {
    let mut table = String::from("| slots | columns, in order |\n|---|---|\n");
    let mut done: Vec<&[Column]> = Vec::new();
    for field in SCHEMA.fields {
        let columns = columns(field.form);
        if columns.is_empty() || done.contains(&columns) {
            continue;
        }
        done.push(columns);
        let slots: Vec<String> =
            SCHEMA.fields.iter().filter(|other| self::columns(other.form) == columns).map(|other| format!("`{}`", other.name)).collect();
        let cells: Vec<String> = columns.iter().map(cell).collect();
        table += &format!("| {} | {} |\n", slots.join(", "), cells.join(" · "));
    }
    table
}

fn cell(column: &Column) -> String {
    let kind = match column.cell {
        Cell::Text => "text",
        Cell::Whole => "whole number",
        Cell::Decimal => "decimal",
        Cell::Bytes32 => "32 bytes",
        Cell::Bool => "true or false",
    };
    format!("`{}` {kind}{}", column.name, if column.optional { " or null" } else { "" })
}

/// The lines of the document between `<!-- name -->` and `<!-- end -->`.
fn section(name: &str) -> &'static str {
    let (_, after) = DOCUMENT.split_once(&format!("<!-- {name} -->\n")).unwrap();
    after.split_once("<!-- end -->").unwrap().0
}

fn check(name: &str, expected: &str) {
    assert_eq!(section(name), expected, "docs/kinds.md, section `{name}`; it should be:\n{expected}");
}

#[test]
fn the_document_lists_every_slot() {
    check("slots", &slot_table());
}

#[test]
fn the_document_lists_every_column() {
    check("columns", &column_table());
}

#[test]
fn the_document_names_the_hash_and_every_group() {
    assert!(DOCUMENT.contains(&SCHEMA.hash().to_string()));
    for group in Group::ALL {
        assert!(DOCUMENT.contains(&format!("| `{group}` |")), "{group}");
    }
    for column in kind::STATISTICS {
        assert!(DOCUMENT.contains(&format!("`{column}`")), "{column}");
    }
    assert!(DOCUMENT.contains(lotline_schema::stats::METHOD));
}

#[test]
fn the_definition_is_pinned() {
    assert_eq!(hex(&SCHEMA.definition()), DEFINITION.split_whitespace().collect::<String>());
    assert_eq!(SCHEMA.hash().to_string(), HASH);
    assert_eq!(SCHEMA.claim().hash, SCHEMA.hash());
    assert!(std::ptr::eq(SCHEMA.claim().known().unwrap(), &SCHEMA));
    assert!(SCHEMA.fields.len() <= 48);
}

#[test]
fn the_definition_reads_as_the_schema() {
    let definition = codec::decode(&unhex(&DEFINITION.split_whitespace().collect::<String>()).unwrap()).unwrap();
    let [name, version, fields] = codec::as_array(&definition).unwrap() else { panic!("three parts") };
    assert_eq!((codec::as_text(name), codec::as_uint(version)), (Some("inspection"), Some(1)));
    let fields = codec::as_array(fields).unwrap();
    assert_eq!(fields.len(), SCHEMA.fields.len());
    for (written, field) in fields.iter().zip(SCHEMA.fields) {
        let [name, group, form_name, required] = codec::as_array(written).unwrap() else { panic!("four parts") };
        assert_eq!(codec::as_text(name), Some(field.name));
        assert_eq!(codec::as_text(group), Some(field.group.name()));
        assert!(codec::as_text(form_name).unwrap().starts_with(form(field.form)));
        assert_eq!(*required, Value::Bool(field.required));
    }
}

#[test]
fn names_are_unique_and_groups_are_read_back() {
    for (at, field) in SCHEMA.fields.iter().enumerate() {
        assert_eq!(SCHEMA.slot(field.name), Some(at));
        assert_eq!(field.group.name().parse::<Group>(), Ok(field.group));
    }
    assert!("everything".parse::<Group>().is_err());
}

/// A name with another hash is another schema: its slots have numbers only.
#[test]
fn a_schema_is_known_by_its_hash() {
    let mut claim = SCHEMA.claim();
    claim.hash.0[0] ^= 1;
    assert!(claim.known().is_none());
    let mut claim = SCHEMA.claim();
    claim.version = 2;
    assert!(claim.known().is_none());
}

#[test]
fn times_are_read_to_the_last_character() {
    for right in [
        "2026-11-23",
        "2026-11-23T14:05",
        "2026-11-23 14:05:00",
        "2026-11-23T14:05:00.250",
        "2026-11-23T14:05:00Z",
        "2026-11-23T14:05:00+01:00",
        "2026-11-23T14:05:00.5-0330",
        "2026-11-23T14:05+01",
    ] {
        assert!(looks_like_time(right), "{right}");
    }
    for wrong in [
        "",
        "2026",
        "2026-11",
        "2026-13-01",
        "2026-00-10",
        "2026-11-32",
        "23.11.2026",
        "2026-11-23T",
        "2026-11-23T14",
        "2026-11-23T25:00",
        "2026-11-23T14:05:00 Uhr",
        "2026-11-23T14:05\u{1b}[31m",
        "2026-11-23T14:05:00.",
        "2026-11-23T14:05.5",
        "2026-11-23T14:05:00+1",
        "2026-11-23T14:05:00Z0",
        "2026-11-23T14:05:00+01:",
        "２026-11-23",
        "2026-11-2é",
    ] {
        assert!(!looks_like_time(wrong), "{wrong}");
    }
}

fn decimal(text: &str) -> Value {
    codec::decimal(&text.parse().unwrap())
}

/// Every form, on values that fit and values that nearly do.
#[test]
fn forms_fit_what_they_name_and_nothing_else() {
    let field = |name: &str| SCHEMA.fields[SCHEMA.slot(name).unwrap()].form;
    let text = codec::text("x");
    let values = |serials: usize, columns: Vec<Vec<Value>>| {
        codec::array([
            codec::array((0..serials).map(|at| codec::text(at.to_string()))),
            codec::array(columns.into_iter().map(Value::Array)),
        ])
    };
    let row = |cells: usize| codec::array((0..cells).map(|at| if at == 0 { codec::uint(10) } else { decimal("1.5") }));
    let statistics = |one: Value, other: Value| codec::array([codec::text("method"), codec::array([one]), codec::array([other])]);
    let cases: Vec<(&str, Value, bool)> = vec![
        ("part", text.clone(), true),
        ("part", codec::int(5), false),
        ("recorded_at", codec::text("2026-11-23T10:00:00Z"), true),
        ("recorded_at", text.clone(), false),
        ("quantity", codec::array([decimal("100"), codec::text("pcs")]), true),
        ("quantity", codec::array([codec::int(100), codec::text("pcs")]), false),
        ("quantity", decimal("100"), false),
        ("verdict_recomputed", codec::array([codec::text("conforming"), codec::uint(5), codec::uint(0), codec::uint(0)]), true),
        ("verdict_recomputed", codec::array([codec::text("conforming"), codec::uint(5), codec::uint(0)]), false),
        ("verdict_recomputed", codec::array([codec::text("conforming"), codec::uint(5), codec::uint(0), Value::Null]), false),
        ("certificate", codec::array([codec::text("3.1"), codec::text("4711")]), true),
        ("certificate", codec::array([]), false),
        ("defects", codec::array([]), true),
        ("defects", codec::array([codec::array([codec::text("D1"), Value::Null, codec::uint(3)])]), true),
        ("defects", codec::array([codec::array([Value::Null, Value::Null, codec::uint(3)])]), false),
        ("inputs", codec::array([codec::array([text.clone(), Value::Null, Value::Null, codec::bytes([0; 32])])]), true),
        ("inputs", codec::array([codec::array([text.clone(), Value::Null, Value::Null, codec::bytes([0; 31])])]), false),
        ("special_statistics", statistics(row(9), Value::Null), true),
        ("special_statistics", statistics(row(8), Value::Null), false),
        ("special_statistics", statistics(Value::Null, codec::array(vec![Value::Null; 9])), false),
        ("special_statistics", codec::array([codec::text("method"), codec::array([])]), false),
        ("other_values", values(2, vec![vec![decimal("1.0"), Value::Null]]), true),
        ("other_values", values(2, vec![vec![Value::Bool(true), codec::array([decimal("1"), codec::text("1,0")])]]), true),
        ("other_values", values(2, vec![vec![Value::Null]]), false),
        ("other_values", values(1, vec![vec![codec::int(0)]]), false),
        ("other_values", values(1, vec![vec![codec::array([decimal("1")])]]), false),
        ("other_values", values(0, vec![]), true),
    ];
    for (name, value, expected) in cases {
        assert_eq!(field(name).fits(&value), expected, "{name}: {value:?}");
    }
}
