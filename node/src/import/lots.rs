//! The lots of a file while its rows come in, and what they make as a whole: serials, repeated names, missing values.

use std::collections::{BTreeMap, HashMap};

use lotline_schema::draft::{Fault, Place};
use lotline_schema::kind::inspection::{Inspection, Measured};

use super::cell::Cells;
use super::characteristic::{Entry, Gathered, Judge};
use super::columns::{Columns, banner_facts};
use super::faults::{Found, place};
use super::map::Map;
use super::meaning::Meaning;
use super::moment::{Moment, Slashes};
use super::rows::Row;
use super::{ImportError, Options};

/// A file of more lots surely has the wrong column as its lot; each becomes a signed record.
const LOTS_MAX: usize = 10_000;
/// A table of pieces and characteristics may be this many times emptier than full, and by this much at least, before we
/// say that the columns are mixed up: values are kept as a full table, and memory must not grow beyond the values.
const EMPTY_TIMES_MAX: usize = 8;
const EMPTY_MIN: usize = 1_000_000;
/// Different machines, gauges and the like of one lot.
const VARIANTS_MAX: usize = 16;
/// The piece that has no serial.
const NO_SERIAL: &str = "(no serial)";

/// What a lot knows of itself: meaning, text and row.
type Fact = (Meaning, String, u64);

/// One lot of one part, being gathered.
#[derive(Default)]
struct Lot {
    facts: Vec<Fact>,
    from: Option<Moment>,
    to: Option<Moment>,
    serials: Vec<String>,
    serial_at: HashMap<String, usize>,
    names: HashMap<String, Name>,
    gathered: Vec<Gathered>,
    values: usize,
}

/// A characteristic's name within a lot: how often each piece has it, and the characteristics that are its occurrences.
#[derive(Default)]
struct Name {
    counts: Vec<u32>,
    occurrences: Vec<usize>,
}

/// All lots of a file.
pub(super) struct Lots<'a> {
    options: &'a Options,
    cells: &'a Cells,
    map: &'a Map,
    slashes: Option<Slashes>,
    lot_columns: Vec<(Meaning, usize, String)>,
    date_columns: (Option<usize>, Option<usize>),
    banner: Vec<Fact>,
    lots: Vec<Lot>,
    by_name: HashMap<(String, String), usize>,
    last: Option<((String, String), usize)>,
    last_date: (String, Option<Moment>),
    kept_texts: (usize, u64),
    pub(super) found: Found,
    pub(super) notes: Vec<String>,
}

impl<'a> Lots<'a> {
    /// None yet; refuses a banner that contradicts a flag.
    pub(super) fn new(
        options: &'a Options,
        cells: &'a Cells,
        map: &'a Map,
        columns: &Columns,
        banner: &[Row],
        slashes: Option<Slashes>,
    ) -> Result<Lots<'a>, ImportError> {
        let mut facts = Vec::new();
        for (meaning, text, label, row) in banner_facts(banner) {
            if columns.at(meaning).is_none() {
                agree(options, meaning, &label, &text, row)?;
                facts.push((meaning, text, row));
            }
        }
        let lot_columns = columns.with(|meaning| meaning.is_of_lot() && (meaning != Meaning::Inspector || options.persons));
        let mut notes = Vec::new();
        if columns.at(Meaning::Inspector).is_some() && !options.persons {
            notes.push("who inspected was left out: persons are imported only on request".to_owned());
        }
        Ok(Lots {
            options,
            cells,
            map,
            slashes,
            lot_columns: lot_columns.into_iter().map(|(meaning, at)| (meaning, at, columns.all[at].header.clone())).collect(),
            date_columns: (columns.at(Meaning::Date), columns.at(Meaning::Time)),
            banner: facts,
            lots: Vec::new(),
            by_name: HashMap::new(),
            last: None,
            last_date: (String::new(), None),
            kept_texts: (0, 0),
            found: Found::default(),
            notes,
        })
    }

    /// The lot a row belongs to, with the row's facts of the lot noted; none if the row does not say, which is a fault.
    pub(super) fn of_row(&mut self, row: &Row) -> Result<Option<usize>, ImportError> {
        for (meaning, column, header) in &self.lot_columns {
            agree(self.options, *meaning, header, row.cell(*column), row.line)?;
        }
        let (Some(lot), Some(part)) = (self.fact(Meaning::Lot, row), self.fact(Meaning::Part, row)) else {
            let missing = if self.fact(Meaning::Lot, row).is_none() { Meaning::Lot } else { Meaning::Part };
            let column = self.lot_columns.iter().find(|(meaning, ..)| *meaning == missing).map(|(_, column, _)| *column);
            let fault = Fault::new(missing.name(), "is missing in this row").at(Some(place(row.line, column)));
            self.found.push(fault.hint(format!("fill the cell, or give --{} for the whole file", missing.name())));
            return Ok(None);
        };
        let at = match &self.last {
            Some((key, at)) if key.0 == lot && key.1 == part => *at,
            _ => {
                let key = (lot.to_owned(), part.to_owned());
                let at = match self.by_name.get(&key) {
                    Some(at) => *at,
                    None => self.open(key.clone(), row)?,
                };
                self.last = Some((key, at));
                at
            }
        };
        for (meaning, column, _) in &self.lot_columns {
            let text = row.cell(*column);
            if !self.cells.is_missing(text)
                && let Some(fault) = self.lots[at].learn(*meaning, text, row.line, Some(*column))
            {
                self.found.push(fault);
            }
        }
        self.date_row(at, row);
        Ok(Some(at))
    }

    fn fact<'r>(&'r self, meaning: Meaning, row: &'r Row) -> Option<&'r str> {
        let column = || {
            let cell = self.lot_columns.iter().find(|(of, ..)| *of == meaning).map(|(_, column, _)| row.cell(*column));
            cell.filter(|cell| !self.cells.is_missing(cell))
        };
        let banner = || self.banner.iter().find(|(of, ..)| *of == meaning).map(|(_, text, _)| text.as_str());
        self.options.given(meaning).or_else(column).or_else(banner)
    }

    fn open(&mut self, key: (String, String), row: &Row) -> Result<usize, ImportError> {
        if self.lots.len() >= LOTS_MAX {
            let by = |meaning| self.lot_columns.iter().find(|(of, ..)| *of == meaning).map(|(_, _, header)| header.clone());
            let column = by(Meaning::Lot).or(by(Meaning::Part)).unwrap_or_default();
            return Err(ImportError::TooManyLots { column, row: row.line, most: LOTS_MAX });
        }
        let mut lot = Lot::default();
        lot.facts.extend([(Meaning::Lot, key.0.clone(), row.line), (Meaning::Part, key.1.clone(), row.line)]);
        for (meaning, text, line) in &self.banner {
            if *meaning == Meaning::Date {
                let moment = Moment::read(text, "", self.slashes);
                (lot.from, lot.to) = (moment.clone(), moment);
            } else if *meaning != Meaning::Inspector || self.options.persons {
                // The banner may be about another lot than this row's column says: there the column wins.
                if !matches!(meaning, Meaning::Lot | Meaning::Part) {
                    lot.facts.push((*meaning, text.clone(), *line));
                }
            }
        }
        self.lots.push(lot);
        self.by_name.insert(key, self.lots.len() - 1);
        Ok(self.lots.len() - 1)
    }

    fn date_row(&mut self, lot: usize, row: &Row) {
        let (Some(date), time) = self.date_columns else { return };
        let (cell, time) = (row.cell(date), time.map_or("", |time| row.cell(time)));
        if self.cells.is_missing(cell) {
            return;
        }
        let same = self.last_date.0.strip_prefix(cell).and_then(|rest| rest.strip_prefix('\n')) == Some(time);
        if !same {
            self.last_date = (format!("{cell}\n{time}"), Moment::read(cell, time, self.slashes));
            if self.last_date.1.is_none() {
                let slashed = cell.contains('/') && self.slashes.is_none();
                let (what, hint) = match slashed {
                    true => (
                        format!("`{cell}`: which of the two is the day cannot be told"),
                        "write dates = \"day first\" or \"month first\" in a --map file",
                    ),
                    false => (format!("`{cell}` is not a date"), "write 2026-11-23T14:05, 23.11.2026 14:05, or the day number of Excel"),
                };
                self.found.push(Fault::new("inspected_at", what).at(Some(place(row.line, Some(date)))).hint(hint));
            }
        }
        if let Some(moment) = &self.last_date.1 {
            let lot = &mut self.lots[lot];
            if lot.from.as_ref().is_none_or(|from| moment < from) {
                lot.from = Some(moment.clone());
            }
            if lot.to.as_ref().is_none_or(|to| moment > to) {
                lot.to = Some(moment.clone());
            }
        }
    }

    /// The piece with this serial, and whether the lot had it before.
    pub(super) fn piece(&mut self, lot: usize, serial: &str) -> (usize, bool) {
        let lot = &mut self.lots[lot];
        let serial = if serial.is_empty() { NO_SERIAL } else { serial };
        if let Some(at) = lot.serial_at.get(serial) {
            return (*at, true);
        }
        lot.serials.push(serial.to_owned());
        lot.serial_at.insert(serial.to_owned(), lot.serials.len() - 1);
        (lot.serials.len() - 1, false)
    }

    /// Adds a value. The n-th value a piece has under a name belongs to the n-th characteristic of that name.
    pub(super) fn add(&mut self, lot: usize, piece: usize, name: &str, position: &str, entry: Entry) -> Result<usize, ImportError> {
        if let Measured::Number(_, Some(_)) = &entry.measured {
            self.kept_texts.1 = if self.kept_texts.0 == 0 { entry.row.into() } else { self.kept_texts.1 };
            self.kept_texts.0 += 1;
        }
        self.lots[lot].add(piece, name, position, entry)
    }

    /// Notes what a row says about a characteristic.
    pub(super) fn tell(&mut self, lot: usize, characteristic: usize, meaning: Meaning, text: &str, place: Place) {
        self.lots[lot].gathered[characteristic].tell(meaning, text, place, self.cells);
    }

    /// Notes what a row or the header says about the n-th characteristic of every lot.
    pub(super) fn tell_all(&mut self, nth: usize, meaning: Meaning, text: &str, place: Place) {
        // Statistics over several lots are those of none of them.
        if meaning.is_statistic() && self.lots.len() > 1 {
            return;
        }
        for of in self.lots.iter_mut().filter_map(|lot| lot.gathered.get_mut(nth)) {
            of.tell(meaning, text, place, self.cells);
        }
    }

    /// Whether a characteristic of this name came in.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.lots.iter().flat_map(|lot| &lot.gathered).any(|of| of.name == name)
    }

    /// Whether no value came in.
    pub(super) fn is_empty(&self) -> bool {
        self.lots.iter().all(|lot| lot.values == 0)
    }

    /// The most often repeated name, if the pieces have no serial that would tell repetitions from pieces.
    pub(super) fn most_repeated(&self) -> Option<(String, usize)> {
        let names = self.lots.iter().flat_map(|lot| &lot.names).map(|(name, of)| (name.clone(), of.occurrences.len()));
        names.filter(|(_, times)| *times > 1).max_by_key(|(_, times)| *times)
    }

    /// The inspections, and what there is to say about them; or everything that is wrong.
    pub(super) fn finish(mut self) -> Result<(Vec<Inspection>, Vec<String>), ImportError> {
        if self.kept_texts.0 > 0 {
            let (count, row) = self.kept_texts;
            self.notes
                .push(format!("{count} values keep their own text beside the number (sign, exponent, thousands), the first in row {row}"));
        }
        let mut judge =
            Judge { cells: self.cells, map: self.map, special: &self.options.special, found: &mut self.found, notes: &mut self.notes };
        let inspections: Vec<Inspection> = self.lots.into_iter().map(|lot| lot.finish(self.options, &mut judge)).collect();
        for special in &self.options.special {
            let is_it = |name: &str, position: u32| name == special || position.to_string() == *special;
            let characteristics = || inspections.iter().flat_map(|lot| &lot.characteristics);
            if !characteristics().any(|of| is_it(&of.name, of.position)) {
                let near = characteristics().min_by_key(|of| lotline_schema::text_distance(&of.name, special));
                let fault = Fault::new("special", format!("no characteristic `{special}` in the file"));
                self.found.push(match near {
                    Some(near) => fault.hint(format!("did you mean `{}`?", near.name)),
                    None => fault,
                });
            }
        }
        self.found.none()?;
        Ok((inspections, self.notes))
    }
}

impl Lot {
    fn learn(&mut self, meaning: Meaning, text: &str, row: u64, column: Option<usize>) -> Option<Fault> {
        let mut known = self.facts.iter().filter(|(of, ..)| *of == meaning).peekable();
        let Some((_, first, first_row)) = known.peek().cloned() else {
            self.facts.push((meaning, text.to_owned(), row));
            return None;
        };
        if known.any(|(_, known, _)| known == text) {
            return None;
        }
        if meaning.may_vary() {
            if self.facts.iter().filter(|(of, ..)| *of == meaning).count() < VARIANTS_MAX {
                self.facts.push((meaning, text.to_owned(), row));
            }
            return None;
        }
        let what = format!("`{text}`, but row {first_row} of the same lot says `{first}`");
        Some(Fault::new(meaning.name(), what).at(Some(place(row, column))).hint("one lot has one of these; is the lot column right?"))
    }

    fn add(&mut self, piece: usize, name: &str, position: &str, entry: Entry) -> Result<usize, ImportError> {
        let key;
        let key = if position.is_empty() {
            name
        } else {
            key = format!("{position}\u{1f}{name}");
            &key
        };
        if !self.names.contains_key(key) {
            self.names.insert(key.to_owned(), Name::default());
        }
        let of = self.names.get_mut(key).expect("inserted above");
        if of.counts.len() <= piece {
            of.counts.resize(piece + 1, 0);
        }
        let occurrence = of.counts[piece] as usize;
        of.counts[piece] += 1;
        if occurrence == of.occurrences.len() {
            of.occurrences.push(self.gathered.len());
            self.gathered.push(Gathered::new(name, position.parse().ok()));
        }
        let at = of.occurrences[occurrence];
        self.values += 1;
        if self.gathered.len().saturating_mul(self.serials.len()) > EMPTY_MIN + EMPTY_TIMES_MAX * self.values {
            return Err(ImportError::Dialect {
                what: format!(
                    "row {}: {} characteristics and {} pieces, but only {} values",
                    entry.row,
                    self.gathered.len(),
                    self.serials.len(),
                    self.values
                ),
                hint: "the columns of serial and characteristic may be mixed up: name them in a --map file".into(),
            });
        }
        let entries = &mut self.gathered[at].entries;
        if entries.len() <= piece {
            entries.resize(piece + 1, None);
        }
        entries[piece] = Some(entry);
        Ok(at)
    }

    fn finish(mut self, options: &Options, judge: &mut Judge) -> Inspection {
        self.check_repetitions(judge.found);
        let pieces = self.serials.len();
        let lot = self.text(Meaning::Lot).unwrap_or_default();
        let mut short: Vec<usize> = vec![0; pieces];
        for of in &self.gathered {
            for (piece, missing) in short.iter_mut().enumerate() {
                *missing += usize::from(of.entries.get(piece).is_none_or(Option::is_none));
            }
        }
        if let Some(piece) = short.iter().position(|missing| *missing > 0) {
            let count = short.iter().filter(|missing| **missing > 0).count();
            judge.notes.push(format!(
                "lot `{lot}`: {count} of {pieces} pieces lack values (`{}` has {} of {}); they count as missing",
                self.serials[piece],
                self.gathered.len() - short[piece],
                self.gathered.len()
            ));
        }
        if self.serial_at.contains_key(NO_SERIAL) {
            judge.notes.push(format!("lot `{lot}`: one piece has no serial; it is called `{NO_SERIAL}`"));
        }
        let numbered: Option<Vec<u32>> = self.gathered.iter().map(|of| of.position.filter(|position| *position > 0)).collect();
        let numbered = numbered.filter(|numbers| {
            let mut distinct = numbers.clone();
            distinct.sort_unstable();
            distinct.dedup();
            distinct.len() == numbers.len()
        });
        let gathered = std::mem::take(&mut self.gathered).into_iter().enumerate();
        let characteristics =
            gathered.map(|(at, of)| of.finish(numbered.as_ref().map_or(at as u32 + 1, |numbers| numbers[at]), pieces, judge)).collect();
        let fact = |meaning: Meaning| options.given(meaning).map(str::to_owned).or_else(|| self.text(meaning));
        Inspection {
            own_units: judge.map.units.values().cloned().collect(),
            part: fact(Meaning::Part).unwrap_or_default(),
            customer_part: fact(Meaning::CustomerPart),
            revision: fact(Meaning::Revision),
            part_name: fact(Meaning::PartName),
            drawing: fact(Meaning::Drawing),
            customer: fact(Meaning::Customer),
            lot,
            order: fact(Meaning::Order),
            delivery_note: fact(Meaning::DeliveryNote),
            operation: fact(Meaning::Operation),
            reason: fact(Meaning::Reason),
            sample: fact(Meaning::Sample),
            inspected_from: self.from.as_ref().map(|moment| moment.text().to_owned()),
            inspected_to: self.to.as_ref().map(|moment| moment.text().to_owned()),
            role: options.role,
            site: fact(Meaning::Site),
            standard: fact(Meaning::Standard),
            machine: fact(Meaning::Machine),
            gauge: fact(Meaning::Gauge),
            program: fact(Meaning::Program),
            environment: fact(Meaning::Environment),
            inspector: fact(Meaning::Inspector),
            characteristics,
            serials: self.serials,
            ..Inspection::default()
        }
    }

    fn text(&self, meaning: Meaning) -> Option<String> {
        let texts: Vec<&str> = self.facts.iter().filter(|(of, ..)| *of == meaning).map(|(_, text, _)| text.as_str()).collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    }

    /// A name may repeat if it does so on every piece. A piece that has it more often was entered twice; one that has a
    /// repeated name less often leaves open which of them it lacks.
    fn check_repetitions(&self, found: &mut Found) {
        let mut twice: BTreeMap<u32, (usize, &str, usize)> = BTreeMap::new();
        for of in self.names.values() {
            let usual = usual(&of.counts);
            let name = &self.gathered[of.occurrences[0]].name;
            for (piece, count) in of.counts.iter().enumerate() {
                let (count, usual) = (*count as usize, usual as usize);
                let row =
                    |occurrence: usize| self.gathered[of.occurrences[occurrence]].entries[piece].as_ref().map_or(0, |entry| entry.row);
                if count > usual {
                    let first = twice.entry(piece as u32).or_insert((usize::MAX, name, 0));
                    first.2 += count - usual;
                    if (row(usual) as usize) < first.0 {
                        (first.0, first.1) = (row(usual) as usize, name);
                    }
                } else if count > 0 && count < usual {
                    let what =
                        format!("serial `{}` has {count} of {usual} `{name}`: which one is missing cannot be told", self.serials[piece]);
                    found.push(
                        Fault::new(format!("serials[{}]", piece + 1), what)
                            .at(Some(place(row(count - 1).into(), None)))
                            .hint("give each its own name or position, or write the missing one as empty"),
                    );
                }
            }
        }
        for (piece, (row, name, extra)) in twice {
            let serial = &self.serials[piece as usize];
            let what = format!("duplicate serial `{serial}`: `{name}` is measured again here ({extra} rows too many)");
            let fault = Fault::new(format!("serials[{}]", piece + 1), what).at(Some(place(row as u64, None)));
            found.push(fault.hint("each piece has its own serial"));
        }
    }
}

/// The count that most pieces have, the smaller of two equally frequent ones; pieces without any do not vote.
fn usual(counts: &[u32]) -> u32 {
    let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
    for count in counts.iter().filter(|count| **count > 0) {
        *votes.entry(*count).or_default() += 1;
    }
    votes.into_iter().rev().max_by_key(|(_, votes)| *votes).map_or(1, |(count, _)| count)
}

/// A flag that contradicts the file refuses it.
fn agree(options: &Options, meaning: Meaning, column: &str, found: &str, row: u64) -> Result<(), ImportError> {
    match options.given(meaning) {
        Some(given) if !found.is_empty() && given.trim() != found => Err(ImportError::Contradiction {
            flag: format!("--{}", meaning.name().replace('_', "-")),
            given: given.to_owned(),
            column: column.to_owned(),
            found: found.to_owned(),
            row,
        }),
        _ => Ok(()),
    }
}

impl Options {
    fn given(&self, meaning: Meaning) -> Option<&str> {
        match meaning {
            Meaning::Part => &self.part,
            Meaning::CustomerPart => &self.customer_part,
            Meaning::Revision => &self.revision,
            Meaning::PartName => &self.part_name,
            Meaning::Drawing => &self.drawing,
            Meaning::Customer => &self.customer,
            Meaning::Lot => &self.lot,
            Meaning::Order => &self.order,
            Meaning::DeliveryNote => &self.delivery_note,
            Meaning::Operation => &self.operation,
            Meaning::Reason => &self.reason,
            Meaning::Sample => &self.sample,
            Meaning::Site => &self.site,
            Meaning::Standard => &self.standard,
            Meaning::Machine => &self.machine,
            Meaning::Gauge => &self.gauge,
            Meaning::Program => &self.program,
            Meaning::Environment => &self.environment,
            _ => return None,
        }
        .as_deref()
    }
}
