//! A record laid out as a certificate: what to read first, sections, tables, and what is hidden, by name.
//!
//! Characteristics, statistics and verdicts are separate slots, signed and shared apart; here they are joined to the one
//! table people know, with the columns that can be seen.

use std::collections::BTreeMap;

use lotline_schema::codec::{self, Value};
use lotline_schema::kind::{Column, Field, Form, Group, STATISTICS, Schema};
use lotline_schema::statement::Body;
use lotline_schema::view::VerifiedView;
use lotline_schema::{Decimal, PartyId};

use super::words::{self, Tag};
use crate::certificate::{Certificate, Content, harmless};
use crate::store::Forgotten;

/// Characteristics side by side in a table of values: what fits a sheet of paper.
const VALUE_COLUMNS: usize = 8;
/// Values shown; the rest is counted.
const VALUE_ROWS_MAX: usize = 1000;
/// Values above this stay folded until asked for.
const VALUES_OPEN_MAX: usize = 200;

/// A certificate, ready for the template `sheet.html`.
pub(super) struct Sheet {
    /// Rank of its heading: 1 on a page of its own.
    pub(super) rank: u8,
    pub(super) heading: String,
    pub(super) kind: String,
    pub(super) verdict: Tag,
    pub(super) pieces: Option<String>,
    pub(super) issuer: String,
    pub(super) standing: Tag,
    pub(super) six_words: String,
    pub(super) facts: Vec<Line>,
    pub(super) marks: Vec<Tag>,
    pub(super) sections: Vec<Section>,
    pub(super) shown: usize,
    pub(super) hidden: usize,
    pub(super) technical: Vec<Line>,
}

/// Whose record it is.
pub(super) struct Signer {
    pub(super) party: PartyId,
    pub(super) name: String,
    /// Who vouches for that.
    pub(super) standing: Tag,
}

/// A name and what it is.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) text: String,
    /// Takes a row of its own.
    pub(super) long: bool,
}

impl Line {
    fn new(label: impl Into<String>, text: impl Into<String>) -> Line {
        let text = text.into();
        Line { label: label.into(), long: text.chars().count() > 40, text }
    }
}

/// One part of the certificate.
#[derive(Default)]
pub(super) struct Section {
    pub(super) title: String,
    pub(super) lines: Vec<Line>,
    pub(super) tables: Vec<Table>,
    pub(super) notes: Vec<String>,
    /// Tables of values, folded where they are long.
    pub(super) values: Vec<Table>,
    pub(super) values_open: bool,
    pub(super) values_count: String,
    pub(super) hidden: Vec<String>,
}

/// A table.
pub(super) struct Table {
    pub(super) caption: String,
    pub(super) heads: Vec<Head>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// Head of a column.
pub(super) struct Head {
    pub(super) text: String,
    pub(super) class: &'static str,
}

/// One cell.
#[derive(Clone)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) class: &'static str,
    /// What a screen reader says besides, and the sign for everybody else.
    pub(super) mark: Option<(&'static str, &'static str)>,
}

const NUMBER: &str = "num";
const NOTHING: &str = "–";

impl Sheet {
    /// From a verified view.
    pub(super) fn of(view: &VerifiedView, forgotten: &[Forgotten], signer: Signer) -> Sheet {
        let (facts, claims) = (view.facts(), view.claims());
        let certificate = Certificate::of(view).with_forgotten(forgotten);
        let reading = Reading { view, contents: certificate.fields.iter().map(|field| (field.name.as_str(), &field.content)).collect() };
        let text = |text: &Option<String>| text.as_deref().map_or_else(|| "hidden".to_owned(), harmless);
        let line = |label: &str, text: String| Line::new(label, text);
        let dated = match &facts.recorded_at {
            Some(time) => words::readable_time(time),
            None => format!("{} (claimed day)", words::day(claims.day)),
        };
        let name = view.text("part_name").map(harmless);
        let heading = match (name, &facts.part) {
            (Some(name), _) => name,
            (None, Some(part)) => format!("Part {}", harmless(part)),
            (None, None) => "A record".into(),
        };
        let mut header = vec![line("Part", text(&facts.part)), line("Lot", text(&facts.lot)), line("Recorded", dated)];
        header.push(line("Place", format!("record {} of feed {}", claims.seq, claims.origin.split('/').nth(1).unwrap_or_default())));
        let sections = match view.schema() {
            Some(schema) if schema.slot("special_characteristics").is_some() => reading.inspection(schema),
            Some(schema) => reading.by_group(schema),
            None => vec![reading.section("Fields", &certificate.fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>())],
        };
        Sheet {
            rank: 2,
            heading,
            kind: match view.schema() {
                Some(schema) => format!("{} record", words::capital(schema.name)),
                None => "A kind of record this program does not know".into(),
            },
            verdict: Tag::verdict(facts.verdict.as_deref()),
            pieces: facts.pieces.map(|(inspected, failed)| match failed {
                0 => format!("{} inspected, none fails", words::count(inspected, "piece")),
                failed => format!("{} of {} inspected fail", words::grouped(failed), words::count(inspected, "piece")),
            }),
            issuer: signer.name,
            standing: signer.standing,
            six_words: signer.party.six_words(),
            facts: header,
            marks: Vec::new(),
            sections,
            shown: view.slots().len() - view.hidden(),
            hidden: view.hidden(),
            technical: technical(view),
        }
    }
}

fn technical(view: &VerifiedView) -> Vec<Line> {
    let claims = view.claims();
    let line = |label: &str, text: String| Line::new(label, text);
    let mut lines = vec![
        line("Leaf hash", view.leaf().to_string()),
        line("Feed", claims.origin.clone()),
        line("Place in the feed", claims.seq.to_string()),
    ];
    if let Body::Slots(schema, slots) = &claims.body {
        lines.push(line("Schema", format!("{} version {}", harmless(&schema.name), schema.version)));
        lines.push(line("Schema hash", schema.hash.to_string()));
        lines.push(line("Slots", slots.len().to_string()));
    }
    lines.push(line("Issuer", harmless(&claims.issuer)));
    lines.push(line("Statement", harmless(&claims.subject)));
    lines.push(line("Signed with key", claims.kid.to_string()));
    lines.push(line("Claimed day", words::day(claims.day)));
    if let Some(leaf) = claims.supersedes {
        lines.push(line("Replaces", leaf.to_string()));
    }
    lines
}

/// A view with its fields in words.
struct Reading<'a> {
    view: &'a VerifiedView,
    contents: BTreeMap<&'a str, &'a Content>,
}

/// The four slots of a table of characteristics.
const PARTS: [(&str, &str); 4] =
    [("characteristics", "limits"), ("statistics", "statistics"), ("verdicts", "verdicts"), ("values", "values")];

impl Reading<'_> {
    fn inspection(&self, schema: &Schema) -> Vec<Section> {
        let of = |group: Group| -> Vec<&str> {
            let fields = schema.fields.iter().filter(|field| field.group == group && !is_joined(field));
            fields.map(|field| field.name).filter(|name| *name != "verdict_recomputed").collect()
        };
        let mut sections = vec![self.section("Identity", &of(Group::Identity)), self.verdict(&of(Group::Verdict))];
        let mut special = self.characteristics("special", "Special characteristics");
        // Without special ones there is nothing to tell apart.
        let other = self.characteristics("other", if special.is_empty() { "Characteristics" } else { "Other characteristics" });
        // Said once, at the end.
        special.notes.retain(|note| !other.notes.contains(note));
        sections.extend([special, other]);
        for group in &Group::ALL[Group::ALL.iter().position(|group| *group == Group::Defects).unwrap_or(0)..] {
            sections.push(self.section(&words::capital(group.name()), &of(*group)));
        }
        sections.retain(|section| !section.is_empty());
        gather_hidden(sections)
    }

    fn by_group(&self, schema: &Schema) -> Vec<Section> {
        let fields =
            |group: Group| schema.fields.iter().filter(move |field| field.group == group).map(|field| field.name).collect::<Vec<_>>();
        let sections = Group::ALL.into_iter().map(|group| self.section(&words::capital(group.name()), &fields(group)));
        gather_hidden(sections.filter(|section| !section.is_empty()).collect())
    }

    fn section(&self, title: &str, names: &[&str]) -> Section {
        let mut section = Section { title: title.into(), ..Section::default() };
        for name in names {
            match self.contents.get(name) {
                Some(Content::Hidden) => section.hidden.push(label(name).to_lowercase()),
                Some(Content::Forgotten(day)) => section.hidden.push(format!("{} (forgotten on {day})", label(name).to_lowercase())),
                // The header has said these.
                Some(Content::Line(_)) if matches!(*name, "part" | "part_name" | "lot" | "recorded_at") => {}
                Some(Content::Line(line)) => section.lines.extend(self.lines(name, line)),
                Some(Content::Table { heads, rows }) if !rows.is_empty() => section.tables.push(plain_table(label(name), heads, rows)),
                Some(Content::Absent | Content::Table { .. }) | None => {}
            }
        }
        section
    }

    /// A field's line; of a row, one for each column.
    fn lines(&self, name: &str, line: &str) -> Vec<Line> {
        match self.view.schema().and_then(|schema| schema.fields.iter().find(|field| field.name == name)).map(|field| field.form) {
            Some(Form::Time) => vec![Line::new(label(name), words::readable_time(line))],
            Some(Form::Row(columns)) => {
                let cells = self.view.value(name).and_then(codec::as_array).unwrap_or_default();
                let named = |(column, cell): (&Column, &Value)| {
                    Line::new(format!("{}, {}", label(name), column.name.replace('_', " ")), plain(cell))
                };
                columns.iter().zip(cells).map(named).collect()
            }
            _ => vec![Line::new(label(name), line)],
        }
    }

    fn verdict(&self, names: &[&str]) -> Section {
        let mut section = self.section("Verdict", names);
        match self.contents.get("verdict_recomputed") {
            Some(Content::Hidden) => section.hidden.insert(0, "verdict recomputed from the values".into()),
            Some(Content::Forgotten(day)) => section.hidden.insert(0, format!("verdict recomputed from the values (forgotten on {day})")),
            Some(Content::Line(_)) => {
                let row = self.view.value("verdict_recomputed").and_then(codec::as_array).unwrap_or_default();
                let number = |at: usize| row.get(at).and_then(codec::as_uint).map_or_else(|| NOTHING.into(), words::grouped);
                let line = |label: &str, text: String| Line::new(label, text);
                let verdict = row.first().and_then(codec::as_text).map_or_else(|| NOTHING.into(), harmless);
                let lines = [
                    line("Recomputed from the values", verdict),
                    line("Pieces inspected", number(1)),
                    line("Pieces non-conforming", number(2)),
                    line("Values missing", number(3)),
                ];
                section.lines.splice(0..0, lines);
            }
            _ => {}
        }
        section
    }

    /// Limits, statistics and verdicts of a table of characteristics in one, as far as they can be seen.
    fn characteristics(&self, table: &str, title: &str) -> Section {
        let slot = |part: &str| format!("{table}_{part}");
        let content = |part: &str| self.contents.get(slot(part).as_str()).copied();
        let hidden = PARTS.iter().filter(|(part, _)| matches!(content(part), Some(Content::Hidden | Content::Forgotten(_))));
        let mut section =
            Section { title: title.into(), hidden: hidden.map(|(_, word)| (*word).to_owned()).collect(), ..Section::default() };
        let rows_of = |part: &str| self.view.value(&slot(part)).and_then(codec::as_array).map(<[Value]>::to_vec);
        let (limits, verdicts, statistics) = (rows_of("characteristics"), rows_of("verdicts"), rows_of("statistics"));
        let figures = |at: usize| statistics.as_ref().and_then(|parts| parts.get(at)).and_then(codec::as_array).map(<[Value]>::to_vec);
        let (recomputed, stated) = (figures(1), figures(2));
        let counts = [&limits, &verdicts, &recomputed, &stated].map(|rows| rows.as_ref().map_or(0, Vec::len));
        let count = counts.into_iter().max().unwrap_or(0);
        if count > 0 {
            let joined = Joined { limits: &limits, figures: &recomputed, verdicts: &verdicts };
            section.tables.push(joined.table(count, "Recomputed from the values"));
            if limits.as_ref().is_some_and(|rows| rows.iter().any(is_bounded_by_nature)) {
                section.notes.push("* natural boundary: nothing can lie beyond it, and Cpk ignores it.".into());
            }
            if recomputed.is_some() {
                let method = statistics.as_ref().and_then(|parts| parts.first()).and_then(codec::as_text).unwrap_or_default();
                section.notes.push(words::sentence(&harmless(method)));
                section
                    .notes
                    .push("Shown short: capability cut to two decimals, mean and s rounded. The record holds them in full.".into());
            }
            if stated.as_ref().is_some_and(|rows| rows.iter().any(|row| *row != Value::Null)) {
                let joined = Joined { limits: &limits, figures: &stated, verdicts: &None };
                section.tables.push(joined.table(count, "Statistics as the source states them"));
            }
        }
        if let Some(Content::Table { heads, rows }) = content("values") {
            self.values(&mut section, heads, rows, &slot("values"), limits.as_deref().unwrap_or_default());
        }
        section
    }

    /// Values a piece, in tables that fit a sheet of paper. What lies beyond its limits is marked.
    fn values(&self, section: &mut Section, heads: &[String], rows: &[Vec<String>], slot: &str, limits: &[Value]) {
        let raw = self.view.value(slot).and_then(codec::as_array).and_then(|parts| codec::as_array(parts.get(1)?)).unwrap_or_default();
        let cell = |row: usize, column: usize| {
            let text = rows[row].get(column + 1).cloned().unwrap_or_default();
            let value = raw.get(column).and_then(codec::as_array).and_then(|values| values.get(row));
            match value.map(|value| judged(value, limits.get(column))) {
                Some(Judged::Low) => Cell { text, class: "num bad", mark: Some(("▼", "below its limit")) },
                Some(Judged::High) => Cell { text, class: "num bad", mark: Some(("▲", "above its limit")) },
                Some(Judged::Attribute(true)) => Cell { text: "good".into(), class: "", mark: None },
                Some(Judged::Attribute(false)) => Cell { text: "not good".into(), class: "bad", mark: Some(("✗", "")) },
                _ => Cell { text, class: NUMBER, mark: None },
            }
        };
        let columns = heads.len().saturating_sub(1);
        let shown = rows.len().min(VALUE_ROWS_MAX);
        for first in (0..columns).step_by(VALUE_COLUMNS) {
            let these = first..(first + VALUE_COLUMNS).min(columns);
            let mut table_heads = vec![Head { text: "Serial".into(), class: "" }];
            table_heads.extend(these.clone().map(|column| Head { text: heads[column + 1].clone(), class: NUMBER }));
            let line = |row: usize| {
                let serial = Cell { text: rows[row].first().cloned().unwrap_or_default(), class: "", mark: None };
                std::iter::once(serial).chain(these.clone().map(|column| cell(row, column))).collect()
            };
            let caption = match columns {
                0..=VALUE_COLUMNS => "Values".to_owned(),
                _ => format!("Values of characteristics {} to {} of {columns}", these.start + 1, these.end),
            };
            section.values.push(Table { caption, heads: table_heads, rows: (0..shown).map(line).collect() });
        }
        if shown < rows.len() {
            section.notes.push(format!("Values of {} more are not shown here.", words::count((rows.len() - shown) as u64, "piece")));
        }
        section.values_open = rows.len() * columns <= VALUES_OPEN_MAX;
        section.values_count =
            format!("{} of {}", words::count((rows.len() * columns) as u64, "value"), words::count(rows.len() as u64, "piece"));
    }
}

impl Section {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.tables.is_empty() && self.values.is_empty() && self.hidden.is_empty()
    }
}

/// The slots of one table of characteristics; none: hidden.
struct Joined<'a> {
    limits: &'a Option<Vec<Value>>,
    figures: &'a Option<Vec<Value>>,
    verdicts: &'a Option<Vec<Value>>,
}

impl Joined<'_> {
    fn table(&self, count: usize, caption: &str) -> Table {
        let mut columns: Vec<(Head, Vec<Cell>)> = Vec::new();
        let mut column = |text: &str, class: &'static str, cells: Vec<Cell>, always: bool| {
            // A column in which nobody says anything only makes the others narrow.
            if always || cells.iter().any(|cell| !cell.text.is_empty() && cell.text != NOTHING) {
                columns.push((Head { text: text.into(), class }, cells));
            }
        };
        let limit = |at: usize, column: usize| self.limits.as_ref().and_then(|rows| codec::as_array(rows.get(at)?)?.get(column));
        let text = |class: &'static str, of: &dyn Fn(usize) -> String| {
            (0..count).map(|at| Cell { text: of(at), class, mark: None }).collect::<Vec<_>>()
        };
        column(
            "No.",
            NUMBER,
            text(NUMBER, &|at| limit(at, 0).and_then(codec::as_uint).map_or_else(|| (at + 1).to_string(), |position| position.to_string())),
            true,
        );
        if self.limits.is_some() {
            column("Characteristic", "", text("name", &|at| words_of(limit(at, 1))), true);
            // That all are special the heading has said.
            let class = |at: usize| words_of(limit(at, 2));
            if (0..count).any(|at| class(at) != "special") {
                column("Class", "", text("", &class), false);
            }
            column("Nominal", NUMBER, text(NUMBER, &|at| figure(limit(at, 5))), false);
            column("Lower", NUMBER, text(NUMBER, &|at| bound(limit(at, 6), limit(at, 7))), false);
            column("Upper", NUMBER, text(NUMBER, &|at| bound(limit(at, 8), limit(at, 9))), false);
            column("Unit", "", text("", &|at| words_of(limit(at, 4))), false);
        }
        if let Some(rows) = self.figures {
            const HEADS: [&str; STATISTICS.len()] = ["n", "Mean", "s", "Min", "Max", "Cp", "Cpk", "Pp", "Ppk"];
            for (number, head) in HEADS.into_iter().enumerate() {
                let of = |at: usize| statistic(head, rows.get(at).and_then(codec::as_array).and_then(|row| row.get(number)));
                column(head, NUMBER, text(NUMBER, &of), false);
            }
        }
        if let Some(rows) = self.verdicts {
            let cells = (0..count).map(|at| {
                let counted = limit(at, 10) != Some(&Value::Bool(false));
                verdict_cell(rows.get(at).and_then(codec::as_array).unwrap_or_default(), counted)
            });
            column("Verdict", "verdict", cells.collect(), true);
        }
        let rows = (0..count).map(|at| columns.iter().map(|(_, cells)| cells[at].clone()).collect()).collect();
        Table { caption: caption.into(), heads: columns.into_iter().map(|(head, _)| head).collect(), rows }
    }
}

/// `[recomputed, failed, missing, stated, stated failed]` in a few words.
fn verdict_cell(row: &[Value], counted: bool) -> Cell {
    let text = |at: usize| row.get(at).and_then(codec::as_text);
    let number = |at: usize| row.get(at).and_then(codec::as_uint).unwrap_or(0);
    let (recomputed, stated) = (text(0), text(3));
    let mut said = match (recomputed, number(1)) {
        (Some("non-conforming"), failed) if failed > 0 => format!("{} fail", words::grouped(failed)),
        (Some("conforming"), _) => "conforms".to_owned(),
        (Some(other), _) => harmless(other),
        (None, _) => NOTHING.into(),
    };
    if number(2) > 0 {
        said.push_str(&format!(", {} missing", words::grouped(number(2))));
    }
    if let Some(stated) = stated.filter(|stated| Some(*stated) != recomputed) {
        said.push_str(&format!("; stated {}", harmless(stated)));
    }
    if !counted {
        said.push_str(", not counted");
    }
    let (class, mark) = match recomputed {
        Some("conforming") => ("verdict good", Some(("✓", ""))),
        Some("non-conforming") => ("verdict bad", Some(("✗", ""))),
        Some("undecided") => ("verdict warn", Some(("?", ""))),
        _ => ("verdict", None),
    };
    Cell { text: said, class, mark }
}

/// How a value stands to its limits.
enum Judged {
    Within,
    Low,
    High,
    Attribute(bool),
}

fn judged(value: &Value, limits: Option<&Value>) -> Judged {
    let number = match value {
        Value::Bool(good) => return Judged::Attribute(*good),
        // [decimal, source text]
        Value::Array(pair) => pair.first().and_then(codec::as_decimal),
        other => codec::as_decimal(other),
    };
    let row = limits.and_then(codec::as_array).unwrap_or_default();
    let side = |kind: usize| {
        let is_limit = row.get(kind).and_then(codec::as_text) == Some("limit");
        row.get(kind + 1).filter(|_| is_limit).and_then(codec::as_decimal)
    };
    let Some(number) = number else { return Judged::Within };
    let beyond = |side: Option<Decimal>, order| side.is_some_and(|side| number.compare(&side) == order);
    match (beyond(side(6), std::cmp::Ordering::Less), beyond(side(8), std::cmp::Ordering::Greater)) {
        (true, _) => Judged::Low,
        (_, true) => Judged::High,
        _ => Judged::Within,
    }
}

fn is_bounded_by_nature(row: &Value) -> bool {
    codec::as_array(row).unwrap_or_default().iter().any(|cell| codec::as_text(cell) == Some("natural"))
}

fn bound(kind: Option<&Value>, at: Option<&Value>) -> String {
    let natural = if kind.and_then(codec::as_text) == Some("natural") { "*" } else { "" };
    match figure(at) {
        nothing if nothing == NOTHING => nothing,
        figure => figure + natural,
    }
}

fn figure(value: Option<&Value>) -> String {
    match value {
        Some(Value::Integer(number)) => number.to_string(),
        other => other.and_then(codec::as_decimal).map_or_else(|| NOTHING.into(), |number| number.to_string()),
    }
}

/// A figure of statistics, as short as people read it.
fn statistic(head: &str, value: Option<&Value>) -> String {
    let short = |number: Decimal| match head {
        "Cp" | "Cpk" | "Pp" | "Ppk" => Some(cut(number)),
        "Mean" => Decimal::rounded(number.to_f64(), 6),
        "s" => Decimal::rounded(number.to_f64(), 4),
        _ => None,
    };
    match value.and_then(codec::as_decimal).and_then(short) {
        Some(number) => number.to_string(),
        None => figure(value),
    }
}

/// Capability to two decimals, always downwards: 1.3299 must not read as 1.33.
fn cut(number: Decimal) -> Decimal {
    let beyond = u32::try_from(-2 - number.exponent()).ok().filter(|beyond| *beyond > 0);
    let divisor = beyond.map(|beyond| 10_i64.checked_pow(beyond).unwrap_or(i64::MAX));
    divisor.and_then(|divisor| Decimal::new(number.mantissa().div_euclid(divisor), -2)).unwrap_or(number)
}

fn words_of(value: Option<&Value>) -> String {
    value.and_then(codec::as_text).map_or_else(|| NOTHING.into(), harmless)
}

fn plain(value: &Value) -> String {
    match (codec::as_text(value), codec::as_bytes(value)) {
        (Some(text), _) => harmless(text),
        (_, Some(bytes)) => lotline_schema::id::hex(bytes),
        _ => figure(Some(value)),
    }
}

/// Sections of which nothing can be seen, in one at the end: a page of headings says no more than their names.
fn gather_hidden(sections: Vec<Section>) -> Vec<Section> {
    let (shown, unseen): (Vec<_>, Vec<_>) =
        sections.into_iter().partition(|section| section.lines.len() + section.tables.len() + section.values.len() > 0);
    let name = |section: Section| {
        let title = section.title.to_lowercase();
        // A group of one field of the same name is named once.
        if section.hidden == [title.as_str()] { title } else { format!("{title} ({})", section.hidden.join(", ")) }
    };
    let hidden: Vec<String> = unseen.into_iter().map(name).collect();
    let last = (!hidden.is_empty()).then(|| Section { title: "Not shown here".into(), hidden, ..Section::default() });
    shown.into_iter().chain(last).collect()
}

fn plain_table(caption: String, heads: &[String], rows: &[Vec<String>]) -> Table {
    let cell = |text: &String| Cell { text: text.clone(), class: if text.len() == 64 { "mono" } else { "" }, mark: None };
    Table {
        caption,
        heads: heads.iter().map(|head| Head { text: words::capital(head), class: "" }).collect(),
        rows: rows.iter().map(|row| row.iter().map(cell).collect()).collect(),
    }
}

fn is_joined(field: &Field) -> bool {
    PARTS.iter().any(|(part, _)| field.name.strip_suffix(part).is_some_and(|table| matches!(table, "special_" | "other_")))
}

/// A field's name for people.
pub(super) fn label(name: &str) -> String {
    match name {
        "verdict_stated" => "Verdict as stated".into(),
        "inspected_from" => "First measured".into(),
        "inspected_to" => "Last measured".into(),
        "recorded_at" => "Recorded".into(),
        "inputs" => "Lots that went in".into(),
        "source" => "Source file".into(),
        name => words::capital(&name.replace('_', " ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_is_cut_downwards() {
        let check = |text: &str, cut_to: &str| assert_eq!(cut(text.parse().unwrap()).to_string(), cut_to, "{text}");
        check("1.3299", "1.32");
        check("1.15", "1.15");
        check("1.6", "1.6");
        check("295.64253", "295.64");
        check("-0.32318095", "-0.33");
        check("0.00000000000000001", "0.00");
        check("7", "7");
    }
}
