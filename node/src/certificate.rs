//! A record as a certificate to read: what is shown, what is hidden, field by field, for the terminal and the page.

use std::collections::BTreeMap;

use lotline_schema::codec::{self, Value};
use lotline_schema::kind::{Form, STATISTICS};
use lotline_schema::slot::Opened;
use lotline_schema::view::VerifiedView;
use serde_json::json;

use crate::service::day_text;
use crate::store::Forgotten;

/// A certificate, ready to lay out.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The kind of record.
    pub kind: String,
    /// Its fields, in slot order.
    pub fields: Vec<Field>,
}

/// One field of it.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name in policies.
    pub name: String,
    /// Its group.
    pub group: String,
    /// What is in it.
    pub content: Content,
}

/// What can be seen of a field.
#[derive(Clone, Debug)]
pub enum Content {
    /// Not shown to the holder of this view.
    Hidden,
    /// Forgotten here, on this day.
    Forgotten(String),
    /// Shown, and the record has no such thing.
    Absent,
    /// A line.
    Line(String),
    /// A table.
    Table {
        /// Column heads.
        heads: Vec<String>,
        /// Rows.
        rows: Vec<Vec<String>>,
    },
}

impl Certificate {
    /// From a verified view.
    pub fn of(view: &VerifiedView) -> Certificate {
        let Some(schema) = view.schema() else {
            let fields = view.slots().iter().enumerate().map(|(slot, opened)| Field {
                name: format!("slot {slot}"),
                group: "unknown".into(),
                content: content(opened.as_ref(), |value| Content::Line(plain(value))),
            });
            return Certificate { kind: "a kind this program does not know".into(), fields: fields.collect() };
        };
        let fields = schema.fields.iter().zip(view.slots()).map(|(field, opened)| Field {
            name: field.name.into(),
            group: field.group.name().into(),
            content: content(opened.as_ref(), |value| formed(field.form, value, view, field.name)),
        });
        Certificate { kind: format!("{} {}", schema.name, schema.version), fields: fields.collect() }
    }

    /// With the days on which fields were forgotten where the view comes from.
    pub fn with_forgotten(mut self, forgotten: &[Forgotten]) -> Certificate {
        for (slot, field) in self.fields.iter_mut().enumerate() {
            let then = forgotten.iter().find(|one| 1u64.checked_shl(slot as u32).is_some_and(|bit| one.slots & bit != 0));
            if let (Content::Hidden, Some(then)) = (&field.content, then) {
                field.content = Content::Forgotten(day_text(then.at));
            }
        }
        self
    }

    /// For the terminal: lines with names, tables indented, hidden fields counted by name at the end.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let (mut hidden, mut forgotten) = (Vec::new(), BTreeMap::<&str, Vec<&str>>::new());
        for field in &self.fields {
            match &field.content {
                Content::Hidden => hidden.push(field.name.as_str()),
                Content::Forgotten(day) => forgotten.entry(day).or_default().push(&field.name),
                Content::Absent => {}
                Content::Line(line) => text.push_str(&format!("  {:<24}{line}\n", field.name)),
                Content::Table { heads, rows } => {
                    text.push_str(&format!("  {}\n", field.name));
                    text.push_str(&table_text(heads, rows));
                }
            }
        }
        if !hidden.is_empty() {
            text.push_str(&format!("  hidden: {}\n", hidden.join(", ")));
        }
        for (day, names) in forgotten {
            text.push_str(&format!("  forgotten on {day}: {}\n", names.join(", ")));
        }
        text
    }

    /// For programs.
    pub fn to_json(&self) -> serde_json::Value {
        let field = |field: &Field| {
            let content = match &field.content {
                Content::Hidden => json!({ "state": "hidden" }),
                Content::Forgotten(day) => json!({ "state": "forgotten", "on": day }),
                Content::Absent => json!({ "state": "absent" }),
                Content::Line(line) => json!({ "state": "shown", "value": line }),
                Content::Table { heads, rows } => json!({ "state": "shown", "heads": heads, "rows": rows }),
            };
            (field.name.clone(), content)
        };
        json!({ "kind": self.kind, "fields": serde_json::Map::from_iter(self.fields.iter().map(field)) })
    }
}

fn content(opened: Option<&Opened>, show: impl Fn(&Value) -> Content) -> Content {
    match opened {
        None => Content::Hidden,
        Some(Opened::Absent) => Content::Absent,
        Some(Opened::Value(value)) => show(value),
    }
}

/// Rows shown on a terminal before the rest is counted.
const ROWS_MAX: usize = 60;

fn table_text(heads: &[String], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().take(ROWS_MAX).filter_map(|row| row.get(column)).chain(heads.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width));
        format!("    {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut text = line(heads);
    text.extend(rows.iter().take(ROWS_MAX).map(|row| line(row)));
    if rows.len() > ROWS_MAX {
        text.push_str(&format!("    … and {} more rows (all of them with --json)\n", rows.len() - ROWS_MAX));
    }
    text
}

fn formed(form: Form, value: &Value, view: &VerifiedView, name: &str) -> Content {
    match form {
        Form::Text | Form::Time | Form::Any => Content::Line(plain(value)),
        Form::Quantity => Content::Line(cells(value).join(" ")),
        Form::Row(columns) => {
            let cells = cells(value);
            let pairs = columns.iter().zip(cells).map(|(column, cell)| format!("{} {cell}", column.name.replace('_', " ")));
            Content::Line(pairs.collect::<Vec<_>>().join(", "))
        }
        Form::Rows(columns) => Content::Table {
            heads: columns.iter().map(|column| column.name.replace('_', " ")).collect(),
            rows: rows(value).map(cells).collect(),
        },
        Form::Statistics => statistics(value, &names(view, name)),
        Form::Values => values(value, &names(view, name)),
    }
}

/// Names of the characteristics of the same table, where they are shown.
fn names(view: &VerifiedView, field: &str) -> Vec<String> {
    let table = field.split('_').next().unwrap_or_default();
    let characteristics = view.value(&format!("{table}_characteristics"));
    characteristics
        .map(|rows_value| rows(rows_value).map(|row| cells(row).get(1).cloned().unwrap_or_default()).collect())
        .unwrap_or_default()
}

fn named(names: &[String], at: usize) -> String {
    names.get(at).cloned().unwrap_or_else(|| format!("#{}", at + 1))
}

fn statistics(value: &Value, names: &[String]) -> Content {
    let parts = codec::as_array(value).unwrap_or_default();
    let table = |at: usize| parts.get(at).map(|table| rows(table).collect::<Vec<_>>()).unwrap_or_default();
    let (recomputed, stated) = (table(1), table(2));
    let line = |label: &str, at: usize, row: &Value| {
        let figures = cells(row);
        (!figures.is_empty()).then(|| [vec![named(names, at), label.to_owned()], figures].concat())
    };
    let mut lines = Vec::new();
    for at in 0..recomputed.len().max(stated.len()) {
        lines.extend(recomputed.get(at).and_then(|row| line("recomputed", at, row)));
        lines.extend(stated.get(at).and_then(|row| line("stated", at, row)));
    }
    let heads = ["characteristic", "by"].into_iter().chain(STATISTICS).map(str::to_owned).collect();
    Content::Table { heads, rows: lines }
}

fn values(value: &Value, names: &[String]) -> Content {
    let parts = codec::as_array(value).unwrap_or_default();
    let serials = parts.first().map(cells).unwrap_or_default();
    let columns: Vec<Vec<String>> = parts.get(1).map(|columns| rows(columns).map(cells).collect()).unwrap_or_default();
    let line = |at: usize| {
        let cell = |column: &Vec<String>| column.get(at).cloned().unwrap_or_default();
        [vec![serials[at].clone()], columns.iter().map(cell).collect()].concat()
    };
    let heads = std::iter::once("serial".to_owned()).chain((0..columns.len()).map(|at| named(names, at))).collect();
    Content::Table { heads, rows: (0..serials.len()).map(line).collect() }
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    codec::as_array(value).unwrap_or_default().iter()
}

fn cells(row: &Value) -> Vec<String> {
    rows(row).map(plain).collect()
}

/// A value in words. Control characters of a stranger's text do not reach a terminal.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "–".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => harmless(text),
        Value::Bytes(bytes) => lotline_schema::id::hex(bytes),
        // [decimal, source text]: what the source wrote.
        Value::Array(pair) if matches!(&pair[..], [Value::Tag(..), Value::Text(_)]) => plain(&pair[1]),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => codec::as_decimal(other).map_or_else(|| "(a value this program cannot show)".into(), |number| number.to_string()),
    }
}

/// A text without control or direction-changing characters.
pub fn harmless(text: &str) -> String {
    let bad = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if bad(c) { '\u{fffd}' } else { c }).collect()
}
