//! Record kinds: which slots a kind has, in which order, group and form.
//!
//! A schema is data, so that a verifier can name every slot and its hash can stand in every statement.
//! The kinds themselves live in `kind/`; `docs/kinds.md` is printed from them.

use std::fmt;
use std::str::FromStr;

use crate::codec::{self, Value};
use crate::id::Hash;

pub mod inspection;

/// The most slots a kind may have.
pub const SLOTS_MAX: usize = 64;

/// What policies speak of: every field belongs to exactly one group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Group {
    Identity,
    Specification,
    Verdict,
    Capability,
    Defects,
    Measurements,
    Process,
    Inspector,
    Genealogy,
    Document,
    Sustainability,
    Commercial,
}

impl Group {
    /// Every group, in the order lists show them.
    pub const ALL: [Group; 12] = [
        Group::Identity,
        Group::Specification,
        Group::Verdict,
        Group::Capability,
        Group::Defects,
        Group::Measurements,
        Group::Process,
        Group::Inspector,
        Group::Genealogy,
        Group::Document,
        Group::Sustainability,
        Group::Commercial,
    ];

    /// Its name in policies.
    pub fn name(self) -> &'static str {
        match self {
            Group::Identity => "identity",
            Group::Specification => "specification",
            Group::Verdict => "verdict",
            Group::Capability => "capability",
            Group::Defects => "defects",
            Group::Measurements => "measurements",
            Group::Process => "process",
            Group::Inspector => "inspector",
            Group::Genealogy => "genealogy",
            Group::Document => "document",
            Group::Sustainability => "sustainability",
            Group::Commercial => "commercial",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Group {
    type Err = ();
    fn from_str(name: &str) -> Result<Group, ()> {
        Group::ALL.into_iter().find(|group| group.name() == name).ok_or(())
    }
}

/// The form of a slot's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// A text.
    Text,
    /// A text in ISO 8601: a date, or date and time with or without an offset, as the source gave it.
    Time,
    /// `[decimal, unit text]`.
    Quantity,
    /// Rows: an array of arrays whose columns have these forms.
    Rows(&'static [Column]),
    /// One row.
    Row(&'static [Column]),
    /// A table of statistics: `[method, [row|null…], [row|null…]]`, recomputed before stated.
    Statistics,
    /// A table of values: `[[serial…], [[value…]…]]`, one inner array a characteristic.
    Values,
    /// Any value of the profile (custom kinds, benchmarks).
    Any,
}

/// A column of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub cell: Cell,
    /// Whether `null` may stand there.
    pub optional: bool,
}

/// What a column of a row holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Cell {
    Text,
    Whole,
    Decimal,
    Bytes32,
    Bool,
}

const fn need(name: &'static str, cell: Cell) -> Column {
    Column { name, cell, optional: false }
}

const fn may(name: &'static str, cell: Cell) -> Column {
    Column { name, cell, optional: true }
}

/// The columns of a statistics row, in order; each may be null.
pub const STATISTICS: [&str; 9] = ["n", "mean", "s", "min", "max", "cp", "cpk", "pp", "ppk"];

impl Form {
    /// Its name in the schema definition, which is hashed: never change one, add another.
    fn name(self) -> String {
        let columns = |columns: &[Column]| {
            let cell = |column: &Column| {
                let kind = match column.cell {
                    Cell::Text => "text",
                    Cell::Whole => "whole",
                    Cell::Decimal => "decimal",
                    Cell::Bytes32 => "bytes32",
                    Cell::Bool => "bool",
                };
                format!("{}:{kind}{}", column.name, if column.optional { "?" } else { "" })
            };
            columns.iter().map(cell).collect::<Vec<_>>().join(",")
        };
        match self {
            Form::Text => "text".into(),
            Form::Time => "time".into(),
            Form::Quantity => "quantity".into(),
            Form::Rows(of) => format!("rows({})", columns(of)),
            Form::Row(of) => format!("row({})", columns(of)),
            Form::Statistics => format!("statistics({})", STATISTICS.join(",")),
            Form::Values => "values".into(),
            Form::Any => "any".into(),
        }
    }

    /// Whether a value has this form. A signer can put anything into a slot; readers ask this first.
    pub fn fits(self, value: &Value) -> bool {
        let texts = |value: &Value| codec::as_array(value).is_some_and(|items| items.iter().all(|item| codec::as_text(item).is_some()));
        match self {
            Form::Text => codec::as_text(value).is_some(),
            Form::Time => codec::as_text(value).is_some_and(looks_like_time),
            Form::Quantity => match codec::as_array(value) {
                Some([number, unit]) => codec::as_decimal(number).is_some() && codec::as_text(unit).is_some(),
                _ => false,
            },
            Form::Rows(columns) => codec::as_array(value).is_some_and(|rows| rows.iter().all(|row| row_fits(columns, row))),
            Form::Row(columns) => row_fits(columns, value),
            Form::Statistics => match codec::as_array(value) {
                Some([method, recomputed, stated]) => {
                    codec::as_text(method).is_some() && statistics_fit(recomputed) && statistics_fit(stated)
                }
                _ => false,
            },
            Form::Values => match codec::as_array(value) {
                Some([serials, columns]) if texts(serials) => {
                    let pieces = codec::as_array(serials).map_or(0, <[Value]>::len);
                    codec::as_array(columns).is_some_and(|columns| columns.iter().all(|column| values_fit(column, pieces)))
                }
                _ => false,
            },
            Form::Any => true,
        }
    }
}

fn row_fits(columns: &[Column], row: &Value) -> bool {
    codec::as_array(row)
        .is_some_and(|cells| cells.len() == columns.len() && cells.iter().zip(columns).all(|(cell, column)| cell_fits(column, cell)))
}

fn cell_fits(column: &Column, value: &Value) -> bool {
    if *value == Value::Null {
        return column.optional;
    }
    match column.cell {
        Cell::Text => codec::as_text(value).is_some(),
        Cell::Whole => codec::as_int(value).is_some(),
        Cell::Decimal => codec::as_decimal(value).is_some(),
        Cell::Bytes32 => codec::as_bytes(value).is_some_and(|bytes| bytes.len() == 32),
        Cell::Bool => matches!(value, Value::Bool(_)),
    }
}

fn statistics_fit(rows: &Value) -> bool {
    let figure = |value: &Value| *value == Value::Null || codec::as_decimal(value).is_some();
    codec::as_array(rows).is_some_and(|rows| {
        rows.iter().all(|row| match row {
            Value::Null => true,
            row => codec::as_array(row).is_some_and(|cells| {
                cells.len() == STATISTICS.len() && codec::as_uint(&cells[0]).is_some() && cells[1..].iter().all(figure)
            }),
        })
    })
}

/// A value is a decimal, null (missing), a truth (good or not), or `[decimal, source text]`.
fn values_fit(column: &Value, pieces: usize) -> bool {
    let value = |value: &Value| match value {
        Value::Null | Value::Bool(_) => true,
        Value::Array(pair) => matches!(&pair[..], [number, Value::Text(_)] if codec::as_decimal(number).is_some()),
        other => codec::as_decimal(other).is_some(),
    };
    codec::as_array(column).is_some_and(|values| values.len() == pieces && values.iter().all(value))
}

/// `YYYY-MM-DD`, or with `THH:MM[:SS[.f]]` (or a space for the T) and an optional `Z` or offset `±HH[[:]MM]`.
///
/// Signed values are held to this for ever, so it reads to the last character.
pub fn looks_like_time(text: &str) -> bool {
    let Some((date, clock)) = text.split_at_checked(10) else {
        return false;
    };
    let [year, month, day] = date.split('-').collect::<Vec<_>>()[..] else {
        return false;
    };
    let date = year.len() == 4 && two(year.get(..2), 99) && two(year.get(2..), 99) && two(Some(month), 12) && two(Some(day), 31);
    date && month != "00" && day != "00" && (clock.is_empty() || looks_like_clock(clock))
}

/// `THH:MM[:SS[.f]]` and an optional `Z` or offset.
fn looks_like_clock(text: &str) -> bool {
    let Some(text) = text.strip_prefix(['T', ' ']).filter(|text| text.len() <= 30) else {
        return false;
    };
    let (clock, zone) = text.split_at(text.find(['Z', '+', '-']).unwrap_or(text.len()));
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, fraction)| (clock, Some(fraction)));
    let parts: Vec<&str> = clock.split(':').collect();
    let clock = match (parts[..].as_ref(), fraction) {
        ([hour, minute], None) => two(Some(hour), 24) && two(Some(minute), 59),
        ([hour, minute, second], _) => two(Some(hour), 24) && two(Some(minute), 59) && two(Some(second), 60),
        _ => false,
    };
    let fraction = fraction.is_none_or(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    let zone = match zone.strip_prefix(['+', '-']) {
        None => matches!(zone, "" | "Z"),
        Some(offset) => {
            let minutes = offset.get(2..).map(|rest| rest.strip_prefix(':').unwrap_or(rest));
            two(offset.get(..2), 23) && (offset.len() == 2 || two(minutes, 59))
        }
    };
    clock && fraction && zone
}

/// Exactly two digits, at most `most`.
fn two(text: Option<&str>, most: u8) -> bool {
    text.filter(|text| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse::<u8>().ok())
        .is_some_and(|number| number <= most)
}

/// One slot of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in policies, lists and maps.
    pub name: &'static str,
    /// The group it belongs to.
    pub group: Group,
    /// The form of its value.
    pub form: Form,
    /// Whether a record must have it.
    pub required: bool,
    /// What it is, for people, with the unit where it has one.
    pub about: &'static str,
}

/// A kind of record in one version: its slots in order.
#[derive(Debug)]
pub struct Schema {
    /// The kind, as in `inspection`.
    pub name: &'static str,
    /// Its version, from 1.
    pub version: u32,
    /// Its slots, in the order of the body.
    pub fields: &'static [Field],
}

impl Schema {
    /// Deterministic CBOR of `[name, version, [[field, group, form, required]…]]`: what [`Schema::hash`] hashes.
    pub fn definition(&self) -> Vec<u8> {
        let field = |field: &Field| {
            codec::array([
                codec::text(field.name),
                codec::text(field.group.name()),
                codec::text(field.form.name()),
                Value::Bool(field.required),
            ])
        };
        codec::encode(&codec::array([
            codec::text(self.name),
            codec::uint(self.version.into()),
            codec::array(self.fields.iter().map(field)),
        ]))
    }

    /// SHA-256 of the definition; stands in every statement.
    pub fn hash(&self) -> Hash {
        Hash::of(&[&self.definition()])
    }

    /// The number of the slot with this name.
    pub fn slot(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// What a statement's claims carry: `[name, version, hash]`.
    pub fn claim(&self) -> SchemaClaim {
        // Hashing the definition costs more than signing: known schemas have theirs at hand.
        let hash = known().iter().find(|(schema, _)| std::ptr::eq(*schema, self)).map_or_else(|| self.hash(), |(_, hash)| *hash);
        SchemaClaim { name: self.name.into(), version: self.version, hash }
    }
}

/// The schema a statement says it follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SchemaClaim {
    /// The kind.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// SHA-256 of the definition.
    pub hash: Hash,
}

impl SchemaClaim {
    /// The schema, if this program knows exactly this definition.
    pub fn known(&self) -> Option<&'static Schema> {
        known()
            .iter()
            .find(|(schema, hash)| *hash == self.hash && schema.name == self.name && schema.version == self.version)
            .map(|(schema, _)| *schema)
    }
}

/// The kind of this name in the version that this program writes, if it knows one.
///
/// ```
/// assert!(lotline_schema::kind::called("inspection").is_some() && lotline_schema::kind::called("inspektion").is_none());
/// ```
pub fn called(name: &str) -> Option<&'static Schema> {
    known().iter().map(|(schema, _)| *schema).find(|schema| schema.name == name)
}

/// Every schema this program knows, with its hash.
pub fn known() -> &'static [(&'static Schema, Hash)] {
    static KNOWN: std::sync::OnceLock<Vec<(&'static Schema, Hash)>> = std::sync::OnceLock::new();
    KNOWN.get_or_init(|| [&inspection::SCHEMA, &BENCHMARK].map(|schema| (schema, schema.hash())).into())
}

/// Twenty slots for `lotline bench`: the shape of a record without its meaning, and lot and part for the indexes.
pub static BENCHMARK: Schema = {
    const fn any(name: &'static str) -> Field {
        Field { name, group: Group::Measurements, form: Form::Any, required: false, about: "benchmark" }
    }
    #[rustfmt::skip]
    let schema = Schema {
        name: "custom/benchmark",
        version: 1,
        fields: &[
            any("lot"), any("part"), any("c"), any("d"), any("e"), any("f"), any("g"), any("h"), any("i"), any("j"),
            any("k"), any("l"), any("m"), any("n"), any("o"), any("p"), any("q"), any("r"), any("s"), any("t"),
        ],
    };
    schema
};
