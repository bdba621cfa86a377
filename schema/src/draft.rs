//! From a filled-in inspection to a record: every fault is found at once, with its field path and its place in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::codec::{self, Value};
use crate::decimal::Decimal;
use crate::kind::inspection::{Characteristic, Inspection, Limit, Measured, SCHEMA, Statistics, Verdict};
use crate::kind::looks_like_time;
use crate::record::Record;
use crate::stats;
use crate::unit;

/// A place in the file the content came from, as its user counts: rows and columns from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub struct Place {
    pub row: u64,
    pub column: Option<u32>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            Some(column) => write!(f, "row {}, column {column}", self.row),
            None => write!(f, "row {}", self.row),
        }
    }
}

/// One thing wrong with a draft.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The field, as in `characteristics[3].limits`.
    pub path: String,
    /// Where the file says so.
    pub place: Option<Place>,
    /// What is wrong, lower case, no full stop.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault at a path.
    pub fn new(path: impl Into<String>, what: impl Into<String>) -> Fault {
        Fault { path: path.into(), place: None, what: what.into(), hint: None }
    }

    /// With its place in the file.
    pub fn at(self, place: Option<Place>) -> Fault {
        Fault { place, ..self }
    }

    /// With a way out.
    pub fn hint(self, hint: impl Into<String>) -> Fault {
        Fault { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}: {}", self.path, self.what)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// All that is wrong with a draft; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Fault::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Faults {}

/// The longest text of an ordinary field, in bytes.
pub const TEXT_BYTES_MAX: usize = 255;
/// The longest remark or commercial note, in bytes.
pub const NOTE_BYTES_MAX: usize = 4000;
/// Statistics of fewer values are not shared without the values.
pub const SHAREABLE_N_MIN: u64 = 10;

impl Inspection {
    /// Checks everything and makes the record, stamped with the exact time of recording (RFC 3339, UTC).
    ///
    /// ```
    /// use lotline_schema::kind::inspection::{Inspection, Verdict};
    /// let draft = Inspection { part: "P-1".into(), verdict_stated: Some(Verdict::Conforming), ..Default::default() };
    /// let faults = draft.check("2026-11-23T10:00:00Z").unwrap_err();
    /// assert_eq!(faults.to_string(), "lot: is missing (give it with --lot or a column)");
    /// ```
    pub fn check(&self, recorded_at: &str) -> Result<Record, Faults> {
        let mut faults = Vec::new();
        self.check_texts(&mut faults);
        self.check_serials(&mut faults);
        for (at, characteristic) in self.characteristics.iter().enumerate() {
            self.check_characteristic(&format!("characteristics[{}]", at + 1), characteristic, &mut faults);
        }
        self.check_positions(&mut faults);
        if self.characteristics.is_empty() && self.verdict_stated.is_none() {
            faults.push(Fault::new("characteristics", "there is nothing measured and no verdict stated").hint("state one with --verdict"));
        }
        if !looks_like_time(recorded_at) {
            faults.push(Fault::new("recorded_at", format!("`{recorded_at}` is not a time")));
        }
        if faults.is_empty() { Ok(self.record(recorded_at)) } else { Err(Faults(faults)) }
    }

    fn check_texts(&self, faults: &mut Vec<Fault>) {
        for (path, value) in [("part", &self.part), ("lot", &self.lot)] {
            if value.trim().is_empty() {
                faults.push(Fault::new(path, "is missing").hint(format!("give it with --{path} or a column")));
            }
        }
        for (slot, value) in self.texts() {
            let path = SCHEMA.fields[slot].name;
            let most = if matches!(path, "remarks" | "commercial") { NOTE_BYTES_MAX } else { TEXT_BYTES_MAX };
            check_text(path, value, most, faults);
        }
        self.check_list_texts(faults);
        for (path, time) in [("inspected_from", &self.inspected_from), ("inspected_to", &self.inspected_to)] {
            if let Some(time) = time.as_deref().filter(|time| !looks_like_time(time)) {
                faults.push(Fault::new(path, format!("`{time}` is not a time")).hint("write 2026-11-23 or 2026-11-23T14:05:00"));
            }
        }
    }

    /// The texts inside rows: they are shown to the same people as all others.
    fn check_list_texts(&self, faults: &mut Vec<Fault>) {
        let mut check = |path: String, text: Option<&str>| {
            if let Some(text) = text {
                check_text(&path, text, TEXT_BYTES_MAX, faults);
            }
        };
        check("quantity".into(), self.quantity.as_ref().map(|(_, unit)| unit.as_str()));
        if let Some((kind, number)) = &self.certificate {
            check("certificate.type".into(), Some(kind));
            check("certificate.number".into(), Some(number));
        }
        for (at, of) in self.defects.iter().enumerate() {
            check(format!("defects[{}].code", at + 1), Some(&of.code));
            check(format!("defects[{}].text", at + 1), of.text.as_deref());
        }
        for (at, of) in self.inputs.iter().enumerate() {
            check(format!("inputs[{}].lot", at + 1), Some(&of.lot));
            check(format!("inputs[{}].part", at + 1), of.part.as_deref());
            check(format!("inputs[{}].supplier", at + 1), of.supplier.as_deref());
        }
        for (at, of) in self.attachments.iter().enumerate() {
            check(format!("attachments[{}].name", at + 1), Some(&of.name));
            check(format!("attachments[{}].media_type", at + 1), Some(&of.media_type));
        }
        if let Some(source) = &self.source {
            check("source.name".into(), Some(&source.name));
            check("source.importer".into(), Some(&source.importer));
        }
    }

    fn check_serials(&self, faults: &mut Vec<Fault>) {
        let mut seen = BTreeSet::new();
        for (at, serial) in self.serials.iter().enumerate() {
            check_text(&format!("serials[{}]", at + 1), serial, TEXT_BYTES_MAX, faults);
            if !seen.insert(serial) {
                faults.push(
                    Fault::new(format!("serials[{}]", at + 1), format!("serial `{serial}` appears twice"))
                        .hint("each piece has its own serial"),
                );
            }
        }
    }

    fn check_characteristic(&self, path: &str, of: &Characteristic, faults: &mut Vec<Fault>) {
        let mut push = |field: &str, what: String, hint: &str| {
            faults.push(Fault::new(format!("{path}.{field}"), what).at(of.place).hint(hint));
        };
        if of.name.trim().is_empty() {
            push("name", "the characteristic has no name".into(), "name it in the file");
        }
        if let (Limit::Limit(lower), Limit::Limit(upper)) = (of.lower, of.upper)
            && lower.compare(&upper).is_gt()
        {
            push("limits", format!("limits swapped on `{}`: lower {lower} is above upper {upper}", of.name), "swap them in the file");
        }
        if let Some(unit) = of.unit.as_deref().filter(|unit| !unit::known(unit) && !self.own_units.iter().any(|own| own == unit)) {
            let hint = match unit::nearest(unit) {
                Some(near) => format!("did you mean `{near}`? a unit of your own goes under [units] in a --map file"),
                None => "a unit of your own goes under [units] in a --map file".into(),
            };
            push("unit", format!("unknown unit `{unit}` on `{}`", of.name), &hint);
        }
        if of.values.len() != self.serials.len() {
            push(
                "values",
                format!("`{}` has {} values for {} pieces", of.name, of.values.len(), self.serials.len()),
                "one value a piece, or none written as missing",
            );
        }
        if !of.stated_good.is_empty() && of.stated_good.len() != of.values.len() {
            push(
                "stated",
                format!("`{}` has {} stated verdicts for {} values", of.name, of.stated_good.len(), of.values.len()),
                "one verdict a value",
            );
        }
        for (at, value) in of.values.iter().enumerate() {
            if let Measured::Number(_, Some(source)) = value {
                check_text(&format!("{path}.values[{}]", at + 1), source, TEXT_BYTES_MAX, faults);
            }
        }
        for (field, text) in
            [("name", Some(&of.name)), ("class", of.class.as_ref()), ("feature", of.feature.as_ref()), ("unit", of.unit.as_ref())]
        {
            if let Some(text) = text {
                check_text(&format!("{path}.{field}"), text, TEXT_BYTES_MAX, faults);
            }
        }
    }

    fn check_positions(&self, faults: &mut Vec<Fault>) {
        let mut seen = BTreeMap::new();
        for (at, of) in self.characteristics.iter().enumerate() {
            if let Some(first) = seen.insert((of.position, &of.name), at) {
                let what = format!("`{}` at position {} is there twice (also characteristics[{}])", of.name, of.position, first + 1);
                faults.push(Fault::new(format!("characteristics[{}]", at + 1), what).at(of.place));
            }
        }
    }

    /// Every plain text field by slot number.
    fn texts(&self) -> Vec<(usize, &str)> {
        let named: [(&str, Option<&String>); 25] = [
            ("part", Some(&self.part)),
            ("customer_part", self.customer_part.as_ref()),
            ("revision", self.revision.as_ref()),
            ("part_name", self.part_name.as_ref()),
            ("drawing", self.drawing.as_ref()),
            ("customer", self.customer.as_ref()),
            ("lot", Some(&self.lot)),
            ("order", self.order.as_ref()),
            ("delivery_note", self.delivery_note.as_ref()),
            ("operation", self.operation.as_ref()),
            ("reason", self.reason.as_ref()),
            ("sample", self.sample.as_ref()),
            ("inspected_from", self.inspected_from.as_ref()),
            ("inspected_to", self.inspected_to.as_ref()),
            ("site", self.site.as_ref()),
            ("standard", self.standard.as_ref()),
            ("released_by", self.released_by.as_ref()),
            ("concession", self.concession.as_ref()),
            ("machine", self.machine.as_ref()),
            ("gauge", self.gauge.as_ref()),
            ("program", self.program.as_ref()),
            ("environment", self.environment.as_ref()),
            ("inspector", self.inspector.as_ref()),
            ("commercial", self.commercial.as_ref()),
            ("remarks", self.remarks.as_ref()),
        ];
        let slot = |name| SCHEMA.slot(name).expect("the names above are the schema's");
        named.into_iter().filter_map(|(name, value)| Some((slot(name), value?.as_str()))).collect()
    }

    /// The record of a draft that has no fault.
    fn record(&self, recorded_at: &str) -> Record {
        let mut values: Vec<Option<Value>> = vec![None; SCHEMA.fields.len()];
        let mut set = |name: &str, value: Value| values[SCHEMA.slot(name).expect("a field of the schema")] = Some(value);
        for (slot, value) in self.texts() {
            set(SCHEMA.fields[slot].name, codec::text(value));
        }
        set("recorded_at", codec::text(recorded_at));
        set("role", codec::text(self.role.name()));
        if let Some((number, unit)) = &self.quantity {
            set("quantity", codec::array([codec::decimal(number), codec::text(unit)]));
        }
        if let Some(verdict) = self.verdict_stated {
            set("verdict_stated", codec::text(verdict.name()));
        }
        if let Some((kind, number)) = &self.certificate {
            set("certificate", codec::array([codec::text(kind), codec::text(number)]));
        }
        set("verdict_recomputed", self.recomputed());
        let (special, other): (Vec<_>, Vec<_>) = self.characteristics.iter().partition(|of| of.class.is_some());
        for (name, table) in [("special", special), ("other", other)] {
            if !table.is_empty() {
                set(&format!("{name}_characteristics"), codec::array(table.iter().map(|of| self.characteristic_row(of))));
                set(&format!("{name}_statistics"), self.statistics(&table));
                set(&format!("{name}_verdicts"), codec::array(table.iter().map(|of| self.verdict_row(of))));
                set(&format!("{name}_values"), self.values(&table));
            }
        }
        self.set_lists(&mut set);
        Record::new(&SCHEMA, values)
    }

    fn set_lists(&self, set: &mut impl FnMut(&str, Value)) {
        let text = |text: &Option<String>| codec::optional(text.as_ref(), codec::text);
        let mut rows = |name: &str, rows: Vec<Value>| {
            if !rows.is_empty() {
                set(name, Value::Array(rows));
            }
        };
        rows(
            "defects",
            self.defects.iter().map(|of| codec::array([codec::text(&of.code), text(&of.text), codec::uint(of.count)])).collect(),
        );
        let input = |of: &crate::kind::inspection::Input| {
            codec::array([
                codec::text(&of.lot),
                text(&of.part),
                text(&of.supplier),
                codec::optional(of.statement, |hash| codec::bytes(hash.0)),
            ])
        };
        rows("inputs", self.inputs.iter().map(input).collect());
        let attachment = |of: &crate::kind::inspection::Attachment| {
            codec::array([codec::text(&of.name), codec::text(&of.media_type), codec::uint(of.bytes), codec::bytes(of.sha256.0)])
        };
        rows("attachments", self.attachments.iter().map(attachment).collect());
        if let Some(source) = &self.source {
            set("source", codec::array([codec::text(&source.name), codec::bytes(source.sha256.0), codec::text(&source.importer)]));
        }
    }

    /// A column that only repeats the serial (as `Part Number` in the NIST files) measures nothing.
    pub fn counted(&self, of: &Characteristic) -> bool {
        let repeats = |(serial, value): (&String, &Measured)| match value {
            Measured::Number(number, _) => serial.parse::<Decimal>().is_ok_and(|serial| serial.compare(number).is_eq()),
            _ => false,
        };
        let all = !self.serials.is_empty() && self.serials.len() == of.values.len() && self.serials.iter().zip(&of.values).all(repeats);
        // With one or two pieces a true dimension may equal the serial by chance: there the name decides.
        !(all && (self.serials.len() > 2 || names_a_serial(&of.name)))
    }

    fn verdict_row(&self, of: &Characteristic) -> Value {
        let counted = self.counted(of);
        let failed = if counted { of.values.iter().filter(|value| fails(of, value)).count() } else { 0 };
        let missing = of.values.iter().filter(|value| **value == Measured::Missing).count();
        let verdict = verdict(failed, missing, counted && judged(of));
        let stated: Vec<bool> = of.stated_good.iter().flatten().copied().collect();
        let stated_failed = stated.iter().filter(|good| !**good).count();
        let stated_verdict = (!stated.is_empty()).then_some(if stated_failed == 0 { Verdict::Conforming } else { Verdict::NonConforming });
        codec::array([
            codec::text(verdict.name()),
            codec::uint(failed as u64),
            codec::uint(missing as u64),
            codec::optional(stated_verdict, |verdict| codec::text(verdict.name())),
            codec::optional(stated_verdict.map(|_| stated_failed as u64), codec::uint),
        ])
    }

    /// `[verdict, pieces inspected, pieces non-conforming, values missing]` over everything that counts.
    fn recomputed(&self) -> Value {
        let counted: Vec<&Characteristic> = self.characteristics.iter().filter(|of| self.counted(of)).collect();
        let failed = (0..self.serials.len()).filter(|piece| counted.iter().any(|of| fails(of, &of.values[*piece]))).count();
        let missing = counted.iter().flat_map(|of| &of.values).filter(|value| **value == Measured::Missing).count();
        let verdict = verdict(failed, missing, counted.iter().any(|of| judged(of)));
        codec::array([
            codec::text(verdict.name()),
            codec::uint(self.serials.len() as u64),
            codec::uint(failed as u64),
            codec::uint(missing as u64),
        ])
    }

    fn characteristic_row(&self, of: &Characteristic) -> Value {
        let text = |text: &Option<String>| codec::optional(text.as_ref(), codec::text);
        let figure = |figure: Option<Decimal>| codec::optional(figure, |figure| codec::decimal(&figure));
        codec::array([
            codec::uint(of.position.into()),
            codec::text(&of.name),
            text(&of.class),
            text(&of.feature),
            text(&of.unit),
            figure(of.nominal),
            codec::text(of.lower.kind()),
            figure(of.lower.figure()),
            codec::text(of.upper.kind()),
            figure(of.upper.figure()),
            Value::Bool(self.counted(of)),
        ])
    }

    fn statistics(&self, table: &[&Characteristic]) -> Value {
        let recomputed = |of: &&Characteristic| {
            let numbers: Vec<Decimal> =
                of.values.iter().filter_map(|value| if let Measured::Number(number, _) = value { Some(*number) } else { None }).collect();
            if self.counted(of) && !numbers.is_empty() { statistics_row(&stats::of(&numbers, of.lower, of.upper)) } else { Value::Null }
        };
        let stated = |of: &&Characteristic| of.stated.as_ref().map_or(Value::Null, statistics_row);
        codec::array([codec::text(stats::METHOD), codec::array(table.iter().map(recomputed)), codec::array(table.iter().map(stated))])
    }

    fn values(&self, table: &[&Characteristic]) -> Value {
        let value = |value: &Measured| match value {
            Measured::Number(number, None) => codec::decimal(number),
            Measured::Number(number, Some(source)) => codec::array([codec::decimal(number), codec::text(source)]),
            Measured::Good(good) => Value::Bool(*good),
            Measured::Missing => Value::Null,
        };
        codec::array([
            codec::array(self.serials.iter().map(codec::text)),
            codec::array(table.iter().map(|of| codec::array(of.values.iter().map(value)))),
        ])
    }
}

fn names_a_serial(name: &str) -> bool {
    let name = name.to_lowercase();
    ["serial", "part number", "part no", "piece", "teilenummer", "teil-nr", "teilenr", "serien", "stück"]
        .iter()
        .any(|word| name.contains(word))
}

fn fails(of: &Characteristic, value: &Measured) -> bool {
    match value {
        Measured::Number(number, _) => {
            of.lower.figure().is_some_and(|lower| number.compare(&lower).is_lt())
                || of.upper.figure().is_some_and(|upper| number.compare(&upper).is_gt())
        }
        Measured::Good(good) => !good,
        Measured::Missing => false,
    }
}

/// Whether anything about this characteristic can fail.
fn judged(of: &Characteristic) -> bool {
    of.lower != Limit::None || of.upper != Limit::None || of.values.iter().any(|value| matches!(value, Measured::Good(_)))
}

fn verdict(failed: usize, missing: usize, judged: bool) -> Verdict {
    match (failed, missing, judged) {
        (1.., _, _) => Verdict::NonConforming,
        (0, 0, true) => Verdict::Conforming,
        _ => Verdict::Undecided,
    }
}

fn statistics_row(of: &Statistics) -> Value {
    let figure = |figure: Option<Decimal>| codec::optional(figure, |figure| codec::decimal(&figure));
    let figures = [of.mean, of.s, of.min, of.max, of.cp, of.cpk, of.pp, of.ppk].map(figure);
    codec::array([codec::uint(of.n)].into_iter().chain(figures))
}

fn check_text(path: &str, value: &str, most: usize, faults: &mut Vec<Fault>) {
    if value.len() > most {
        faults.push(Fault::new(path, format!("is {} bytes long, more than {most}", value.len())).hint("shorten it"));
    }
    // Control and direction-changing characters can make one text look like another on a screen.
    if value.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    {
        faults.push(Fault::new(path, "has control characters").hint("remove them from the file"));
    }
}
