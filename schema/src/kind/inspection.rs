//! `inspection` version 1: one lot, inspected by one role.
//!
//! The slots, in the order of `docs/kinds.md`, and [`Inspection`], the content as plain data on its way in.

use super::{Cell, Field, Form, Group, Schema, may, need};
use crate::decimal::Decimal;
use crate::draft::Place;
use crate::id::Hash;

const fn field(name: &'static str, group: Group, form: Form, about: &'static str) -> Field {
    Field { name, group, form, required: false, about }
}

const fn required(name: &'static str, group: Group, form: Form, about: &'static str) -> Field {
    Field { name, group, form, required: true, about }
}

const CHARACTERISTICS: Form = Form::Rows(&[
    need("position", Cell::Whole),
    need("name", Cell::Text),
    may("class", Cell::Text),
    may("feature", Cell::Text),
    may("unit", Cell::Text),
    may("nominal", Cell::Decimal),
    need("lower_kind", Cell::Text),
    may("lower", Cell::Decimal),
    need("upper_kind", Cell::Text),
    may("upper", Cell::Decimal),
    need("counted", Cell::Bool),
]);

const VERDICTS: Form = Form::Rows(&[
    need("recomputed", Cell::Text),
    need("failed", Cell::Whole),
    need("missing", Cell::Whole),
    may("stated", Cell::Text),
    may("stated_failed", Cell::Whole),
]);

/// The kind `inspection`, version 1. Pinned: slots are added in a new version, never here.
pub static SCHEMA: Schema = Schema {
    name: "inspection",
    version: 1,
    fields: &[
        required("part", Group::Identity, Form::Text, "part number of the maker"),
        field("customer_part", Group::Identity, Form::Text, "part number of the customer"),
        field("revision", Group::Identity, Form::Text, "revision of the part"),
        field("part_name", Group::Identity, Form::Text, "name of the part"),
        field("drawing", Group::Identity, Form::Text, "drawing number and its revision"),
        field("customer", Group::Identity, Form::Text, "who the lot is for, as the partner book names it"),
        required("lot", Group::Identity, Form::Text, "lot, batch, heat or charge; text, never a number"),
        field("order", Group::Identity, Form::Text, "order number"),
        field("delivery_note", Group::Identity, Form::Text, "delivery note number"),
        field("quantity", Group::Identity, Form::Quantity, "size of the lot, with its unit"),
        field("operation", Group::Identity, Form::Text, "operation after which the lot was inspected"),
        field("reason", Group::Identity, Form::Text, "reason for the test, as in first article"),
        field("sample", Group::Identity, Form::Text, "number of the sample within lot and reason"),
        field("inspected_from", Group::Identity, Form::Time, "first measurement, local time as the source gives it"),
        field("inspected_to", Group::Identity, Form::Time, "last measurement, local time as the source gives it"),
        required("recorded_at", Group::Identity, Form::Time, "when the record was signed, UTC, exact"),
        required("role", Group::Identity, Form::Text, "maker, receiver or laboratory"),
        field("site", Group::Identity, Form::Text, "plant or site"),
        field("verdict_stated", Group::Verdict, Form::Text, "conforming, non-conforming or undecided, as somebody stated it"),
        required(
            "verdict_recomputed",
            Group::Verdict,
            Form::Row(&[
                need("verdict", Cell::Text),
                need("inspected", Cell::Whole),
                need("nonconforming", Cell::Whole),
                need("missing", Cell::Whole),
            ]),
            "what the values say: verdict, pieces inspected, pieces non-conforming, values missing",
        ),
        field("standard", Group::Verdict, Form::Text, "standard the inspection followed"),
        field(
            "certificate",
            Group::Verdict,
            Form::Row(&[need("type", Cell::Text), need("number", Cell::Text)]),
            "type (EN 10204 2.1, 2.2, 3.1, 3.2) and number of the certificate",
        ),
        field("released_by", Group::Verdict, Form::Text, "role that released the lot, never a person"),
        field("concession", Group::Verdict, Form::Text, "number of the concession under which the lot is used"),
        field("special_characteristics", Group::Specification, CHARACTERISTICS, "special characteristics with their limits"),
        field("special_statistics", Group::Capability, Form::Statistics, "n, mean, s, Cp, Cpk, Pp, Ppk of each"),
        field("special_verdicts", Group::Verdict, VERDICTS, "verdict of each, recomputed beside stated"),
        field("special_values", Group::Measurements, Form::Values, "values of each, per serial"),
        field("other_characteristics", Group::Specification, CHARACTERISTICS, "all other characteristics with their limits"),
        field("other_statistics", Group::Capability, Form::Statistics, "n, mean, s, Cp, Cpk, Pp, Ppk of each"),
        field("other_verdicts", Group::Verdict, VERDICTS, "verdict of each, recomputed beside stated"),
        field("other_values", Group::Measurements, Form::Values, "values of each, per serial"),
        field(
            "defects",
            Group::Defects,
            Form::Rows(&[need("code", Cell::Text), may("text", Cell::Text), need("count", Cell::Whole)]),
            "defects found: code, text, how many",
        ),
        field("machine", Group::Process, Form::Text, "machine"),
        field("gauge", Group::Process, Form::Text, "gauge or measuring machine"),
        field("program", Group::Process, Form::Text, "measuring or machining program"),
        field("environment", Group::Process, Form::Text, "temperature and the like"),
        field("inspector", Group::Inspector, Form::Text, "who measured; imported only with persons = on"),
        field(
            "inputs",
            Group::Genealogy,
            Form::Rows(&[need("lot", Cell::Text), may("part", Cell::Text), may("supplier", Cell::Text), may("statement", Cell::Bytes32)]),
            "lots that went in, with the statement that came with them when received through Lotline",
        ),
        field(
            "attachments",
            Group::Document,
            Form::Rows(&[
                need("name", Cell::Text),
                need("media_type", Cell::Text),
                need("bytes", Cell::Whole),
                need("sha256", Cell::Bytes32),
            ]),
            "attached files: name, media type, size in bytes, SHA-256",
        ),
        field(
            "source",
            Group::Document,
            Form::Row(&[need("name", Cell::Text), need("sha256", Cell::Bytes32), need("importer", Cell::Text)]),
            "the file the record came from, its SHA-256 and the importer with the dialect it read",
        ),
        field("commercial", Group::Commercial, Form::Text, "cost, scrap, yield"),
        field("remarks", Group::Document, Form::Text, "remarks"),
    ],
};

/// Who measured, in which role: two firms measure the same part and disagree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub enum Role {
    #[default]
    Maker,
    Receiver,
    Laboratory,
}

impl Role {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Maker => "maker",
            Role::Receiver => "receiver",
            Role::Laboratory => "laboratory",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(name: &str) -> Result<Role, String> {
        [Role::Maker, Role::Receiver, Role::Laboratory]
            .into_iter()
            .find(|role| role.name() == name)
            .ok_or_else(|| format!("`{name}` is no role: write maker, receiver or laboratory"))
    }
}

/// A verdict on a lot or a characteristic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Everything is within its limits.
    Conforming,
    /// Something is not.
    NonConforming,
    /// Nothing fails, but values are missing, or nothing has limits.
    Undecided,
}

impl Verdict {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Conforming => "conforming",
            Verdict::NonConforming => "non-conforming",
            Verdict::Undecided => "undecided",
        }
    }
}

impl std::str::FromStr for Verdict {
    type Err = String;
    fn from_str(name: &str) -> Result<Verdict, String> {
        [Verdict::Conforming, Verdict::NonConforming, Verdict::Undecided]
            .into_iter()
            .find(|verdict| verdict.name() == name)
            .ok_or_else(|| format!("`{name}` is no verdict: write conforming, non-conforming or undecided"))
    }
}

/// One side of a tolerance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Limit {
    /// No limit on this side.
    #[default]
    None,
    /// A limit: what lies beyond fails.
    Limit(Decimal),
    /// A natural boundary, as 0 for a flatness: nothing can lie beyond, and Cpk ignores it.
    Natural(Decimal),
}

impl Limit {
    /// Its name in the record.
    pub fn kind(&self) -> &'static str {
        match self {
            Limit::None => "none",
            Limit::Limit(_) => "limit",
            Limit::Natural(_) => "natural",
        }
    }

    /// The figure, if there is one.
    pub fn figure(&self) -> Option<Decimal> {
        match self {
            Limit::None => None,
            Limit::Limit(figure) | Limit::Natural(figure) => Some(*figure),
        }
    }
}

/// One value of one piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Measured {
    /// A number; the second part is the source's text where the digits alone do not give it back.
    Number(Decimal, Option<String>),
    /// Attributive: good (true) or not.
    Good(bool),
    /// Not measured. Never 0.
    Missing,
}

/// Statistics as somebody stated them, or as we recompute them; each figure may be missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Statistics {
    pub n: u64,
    pub mean: Option<Decimal>,
    pub s: Option<Decimal>,
    pub min: Option<Decimal>,
    pub max: Option<Decimal>,
    pub cp: Option<Decimal>,
    pub cpk: Option<Decimal>,
    pub pp: Option<Decimal>,
    pub ppk: Option<Decimal>,
}

/// One characteristic: what was asked, and what was measured on each piece, in the order of the serials.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Characteristic {
    /// Position in the file, from 1. Names repeat; position and name together identify.
    pub position: u32,
    /// Name as in the file.
    pub name: String,
    /// Class from the file or `--special`; a class makes it special.
    pub class: Option<String>,
    /// Kind of feature, as in Diameter or Flatness.
    pub feature: Option<String>,
    /// Unit, as the file writes it.
    pub unit: Option<String>,
    /// Nominal.
    pub nominal: Option<Decimal>,
    /// Lower side.
    pub lower: Limit,
    /// Upper side.
    pub upper: Limit,
    /// Values, one a serial of the record.
    pub values: Vec<Measured>,
    /// Stated verdict on each value, where the file has one (true: good); empty when it has none.
    pub stated_good: Vec<Option<bool>>,
    /// Statistics the file states.
    pub stated: Option<Statistics>,
    /// Where the file defines it, for messages.
    pub place: Option<Place>,
}

/// A lot that went into this one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Input {
    pub lot: String,
    pub part: Option<String>,
    pub supplier: Option<String>,
    pub statement: Option<Hash>,
}

/// An attached file, by its hash.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Attachment {
    pub name: String,
    pub media_type: String,
    pub bytes: u64,
    pub sha256: Hash,
}

/// A defect found.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Defect {
    pub code: String,
    pub text: Option<String>,
    pub count: u64,
}

/// The file a record came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// File name without folder.
    pub name: String,
    /// SHA-256 of the file.
    pub sha256: Hash,
    /// Importer and dialect, as in `csv long; semicolon; windows-1252; decimal comma`.
    pub importer: String,
}

/// The content of one inspection, as an importer or a form fills it in. [`crate::draft`] checks it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Inspection {
    pub part: String,
    pub customer_part: Option<String>,
    pub revision: Option<String>,
    pub part_name: Option<String>,
    pub drawing: Option<String>,
    pub customer: Option<String>,
    pub lot: String,
    pub order: Option<String>,
    pub delivery_note: Option<String>,
    pub quantity: Option<(Decimal, String)>,
    pub operation: Option<String>,
    pub reason: Option<String>,
    pub sample: Option<String>,
    pub inspected_from: Option<String>,
    pub inspected_to: Option<String>,
    pub role: Role,
    pub site: Option<String>,
    pub verdict_stated: Option<Verdict>,
    pub standard: Option<String>,
    pub certificate: Option<(String, String)>,
    pub released_by: Option<String>,
    pub concession: Option<String>,
    /// The pieces, in file order; every characteristic has one value for each.
    pub serials: Vec<String>,
    pub characteristics: Vec<Characteristic>,
    pub defects: Vec<Defect>,
    pub machine: Option<String>,
    pub gauge: Option<String>,
    pub program: Option<String>,
    pub environment: Option<String>,
    pub inspector: Option<String>,
    pub inputs: Vec<Input>,
    pub attachments: Vec<Attachment>,
    pub source: Option<Source>,
    pub commercial: Option<String>,
    pub remarks: Option<String>,
    /// Units of the supplier's own, which pass beside the known ones; not part of the record.
    pub own_units: Vec<String>,
}
