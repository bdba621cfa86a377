//! What each column of a table means, and which way round the table is.

use std::collections::{BTreeMap, HashMap};

use super::cell::Cells;
use super::dialect::{Orientation, Survey};
use super::map::Map;
use super::meaning::{Meaning, split_unit};
use super::rows::Row;
use super::{ImportError, Options};

const MAP_HINT: &str = "name the columns in a --map file: columns = { \"your header\" = \"value\" }, with serial, characteristic, value, \
lower, upper, nominal, unit, lot, part, or measured for a column that is a characteristic itself";

/// One column.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Its header as the file has it.
    pub(super) header: String,
    pub(super) meaning: Option<Meaning>,
}

/// The columns of a table.
pub(super) struct Columns {
    pub(super) all: Vec<Column>,
    pub(super) orientation: Orientation,
    /// The parts, in a table with a row a characteristic: column and serial.
    pub(super) pieces: Vec<(usize, String)>,
    /// The characteristics, in a table with a row a part.
    pub(super) measured: Vec<usize>,
    /// What was assumed.
    pub(super) notes: Vec<String>,
}

impl Columns {
    /// Recognises the columns of a table.
    pub(super) fn recognise(survey: &Survey, cells: &Cells, options: &Options, map: &Map) -> Result<Columns, ImportError> {
        let mut columns = Columns {
            all: survey.header.cells().map(|header| Column { header: header.to_owned(), meaning: None }).collect(),
            orientation: Orientation::Long,
            pieces: Vec::new(),
            measured: Vec::new(),
            notes: Vec::new(),
        };
        columns.assign(map)?;
        columns.settle_doubtful(&survey.below, cells);
        columns.find_serial(&survey.below, options);
        columns.find_characteristic(&survey.below, cells);
        columns.orient(&survey.below, cells, map)?;
        columns.need(Meaning::Lot, options.lot.is_some(), &survey.banner)?;
        columns.need(Meaning::Part, options.part.is_some(), &survey.banner)?;
        columns.list_left_out();
        Ok(columns)
    }

    /// Where the column with this meaning is.
    pub(super) fn at(&self, meaning: Meaning) -> Option<usize> {
        self.all.iter().position(|column| column.meaning == Some(meaning))
    }

    /// The columns whose meaning fits, with that meaning.
    pub(super) fn with(&self, fits: impl Fn(Meaning) -> bool) -> Vec<(Meaning, usize)> {
        self.all.iter().enumerate().filter_map(|(at, column)| Some((column.meaning.filter(|meaning| fits(*meaning))?, at))).collect()
    }

    /// A header without its unit, and the unit.
    pub(super) fn name_and_unit(&self, at: usize) -> (&str, Option<&str>) {
        split_unit(&self.all[at].header)
    }

    /// How many cells a row must have: up to the last column with a header.
    pub(super) fn width(&self) -> usize {
        self.all.iter().rposition(|column| !column.header.is_empty()).map_or(0, |last| last + 1)
    }

    fn has(&self, meaning: Meaning) -> bool {
        self.at(meaning).is_some()
    }

    fn change(&mut self, from: Meaning, to: Meaning) {
        if let Some(at) = self.at(from) {
            self.all[at].meaning = Some(to);
        }
    }

    fn missing(&self, what: &str, hint: Option<String>) -> ImportError {
        ImportError::MissingColumn {
            what: what.into(),
            found: self.all.iter().filter(|column| !column.header.is_empty()).map(|column| column.header.clone()).collect(),
            hint: hint.unwrap_or_else(|| MAP_HINT.into()),
        }
    }

    fn assign(&mut self, map: &Map) -> Result<(), ImportError> {
        if let Some(absent) = map.columns.keys().find(|header| !self.all.iter().any(|column| column.header == **header)) {
            return Err(self.missing(&format!("`{absent}` of the map"), Some("write the header in the map as the file has it".into())));
        }
        let mut best: BTreeMap<Meaning, (usize, usize)> = BTreeMap::new();
        for at in 0..self.all.len() {
            let header = &self.all[at].header;
            let (meaning, rank) = match (map.meaning(header), Meaning::of(header)) {
                (Some(meaning @ (Meaning::Measured | Meaning::Ignore)), _) => {
                    self.all[at].meaning = Some(meaning);
                    continue;
                }
                (Some(meaning), _) => (meaning, 0),
                (None, Some((meaning, rank))) => (meaning, rank + 1),
                (None, None) => continue,
            };
            if best.get(&meaning).is_none_or(|(least, _)| rank < *least) {
                best.insert(meaning, (rank, at));
            }
        }
        for (meaning, (_, at)) in best {
            self.all[at].meaning = Some(meaning);
        }
        Ok(())
    }

    /// Headers that mean two things are settled by their company and their cells.
    fn settle_doubtful(&mut self, rows: &[Row], cells: &Cells) {
        let limits = [Meaning::Lower, Meaning::Upper, Meaning::LowerTolerance, Meaning::UpperTolerance, Meaning::Mean, Meaning::S];
        if !limits.iter().any(|meaning| self.has(*meaning))
            && (self.has(Meaning::Min) || self.has(Meaning::Max))
            && self.has(Meaning::Value)
        {
            self.change(Meaning::Min, Meaning::Lower);
            self.change(Meaning::Max, Meaning::Upper);
            self.notes.push("the columns for minimum and maximum are read as the limits".into());
        }
        if let Some(at) = self.at(Meaning::Status)
            && !self.has(Meaning::Value)
            && self.has(Meaning::Characteristic)
            && rows.iter().filter(|row| cells.number(row.cell(at)).is_some()).count() * 2 > rows.len()
        {
            self.change(Meaning::Status, Meaning::Value);
        }
    }

    /// A column that numbers the pieces is the serial, whatever its header.
    fn find_serial(&mut self, rows: &[Row], options: &Options) {
        let name = self.at(Meaning::Characteristic);
        if !self.has(Meaning::Serial) {
            let lot = self.at(Meaning::Lot);
            let named = [Meaning::Counter, Meaning::Part, Meaning::Sample].into_iter().filter_map(|meaning| self.at(meaning));
            let unnamed = (0..self.all.len()).filter(|at| self.all[*at].meaning.is_none());
            let serial = match name {
                Some(name) if self.has(Meaning::Value) || self.has(Meaning::Status) => {
                    let mut named = named.map(|at| (at, false)).chain(unnamed.map(|at| (at, true)));
                    named.find(|(at, strict)| {
                        // One part number all the way down is the part, unless the flag says that the part is another.
                        let is_part = |part: &String| rows.first().is_some_and(|row| row.cell(*at) == part);
                        let one = self.all[*at].meaning != Some(Meaning::Part) || options.part.as_ref().is_some_and(|part| !is_part(part));
                        numbers_pieces(rows, *at, name, lot, *strict, one)
                    })
                }
                Some(_) => None,
                None => named.map(|at| (at, false)).find(|(at, _)| differs_in_each(rows, *at, lot)),
            };
            if let Some((at, _)) = serial {
                self.all[at].meaning = Some(Meaning::Serial);
                self.notes.push(format!("column `{}` numbers the pieces: it is read as the serial", self.all[at].header));
            }
        }
        if let Some(at) = self.at(Meaning::Counter) {
            let numbers_characteristics = name.is_some_and(|name| pairs_up(rows, at, name)) && !self.has(Meaning::Position);
            self.all[at].meaning = numbers_characteristics.then_some(Meaning::Position);
        }
    }

    /// Where a serial has several values, some column must name them: a text that no piece has twice.
    fn find_characteristic(&mut self, rows: &[Row], cells: &Cells) {
        let (Some(serial), true, false) = (self.at(Meaning::Serial), self.has(Meaning::Value), self.has(Meaning::Characteristic)) else {
            return;
        };
        if differs_in_each(rows, serial, self.at(Meaning::Lot)) {
            return;
        }
        let names = |at: &usize| {
            let text = |row: &Row| !row.cell(*at).is_empty() && cells.measured(row.cell(*at)).is_none();
            self.all[*at].meaning.is_none() && rows.iter().all(text) && differs_in_each(rows, *at, Some(serial))
        };
        if let Some(at) = (0..self.all.len()).find(names) {
            self.all[at].meaning = Some(Meaning::Characteristic);
            self.notes.push(format!("column `{}` names the values: it is read as the characteristic", self.all[at].header));
        }
    }

    fn orient(&mut self, rows: &[Row], cells: &Cells, map: &Map) -> Result<(), ImportError> {
        let measured = |all: &[Column]| -> Vec<usize> {
            let free = |at: &usize| match all[*at].meaning {
                Some(meaning) => meaning == Meaning::Measured || meaning.is_statistic(),
                None => !all[*at].header.is_empty() && holds_values(rows, *at, cells),
            };
            (0..all.len()).filter(free).collect()
        };
        let pieces: Vec<usize> = (0..self.all.len())
            .filter(|at| {
                self.all[*at].meaning.is_none_or(|of| of == Meaning::Measured)
                    && !self.all[*at].header.is_empty()
                    && holds_values(rows, *at, cells)
            })
            .collect();
        let (serial, name) = (self.has(Meaning::Serial), self.has(Meaning::Characteristic));
        let value = self.has(Meaning::Value) || (serial && name && self.has(Meaning::Status));
        self.orientation = match map.orientation {
            Some(orientation) => orientation,
            None if value && (name || serial) => Orientation::Long,
            None if name && !pieces.is_empty() => Orientation::CharacteristicsInRows,
            None if serial && !measured(&self.all).is_empty() => Orientation::PartsInRows,
            None if name => return Err(self.missing("the measured value", None)),
            None if serial => return Err(self.missing("the measured value or a characteristic", None)),
            None => return Err(self.missing("the serial and the characteristic or the measured value", None)),
        };
        match self.orientation {
            Orientation::Long if !value => return Err(self.missing("the measured value", None)),
            Orientation::Long if !name && self.at(Meaning::Serial).is_some_and(|at| !differs_in_each(rows, at, self.at(Meaning::Lot))) => {
                return Err(self.missing("the characteristic, although a serial has several values", None));
            }
            Orientation::Long => {}
            Orientation::PartsInRows if !serial => return Err(self.missing("the serial", None)),
            Orientation::PartsInRows => self.measured = measured(&self.all),
            Orientation::CharacteristicsInRows if !name => return Err(self.missing("the characteristic", None)),
            Orientation::CharacteristicsInRows => {
                let serials = serials(pieces.iter().map(|at| self.all[*at].header.as_str()));
                self.pieces = pieces.into_iter().zip(serials).collect();
            }
        }
        if self.orientation == Orientation::PartsInRows {
            // `S` is sulphur here, not a standard deviation.
            for column in &mut self.all {
                column.meaning = column.meaning.filter(|meaning| !meaning.is_statistic());
            }
        }
        Ok(())
    }

    fn need(&self, meaning: Meaning, given: bool, banner: &[Row]) -> Result<(), ImportError> {
        if given || self.has(meaning) || banner_facts(banner).iter().any(|(of, ..)| *of == meaning) {
            return Ok(());
        }
        let name = meaning.name();
        let hint = format!("give it with --{name}, or name its column in a --map file: columns = {{ \"your header\" = \"{name}\" }}");
        Err(self.missing(if meaning == Meaning::Lot { "the lot" } else { "the part number" }, Some(hint)))
    }

    fn list_left_out(&mut self) {
        let used = |at: usize| {
            self.all[at].meaning.is_some_and(|meaning| meaning != Meaning::Ignore)
                || self.measured.contains(&at)
                || self.pieces.iter().any(|(of, _)| *of == at)
        };
        let left: Vec<String> = (0..self.all.len())
            .filter(|at| !used(*at) && !self.all[*at].header.is_empty())
            .map(|at| format!("`{}`", self.all[at].header))
            .collect();
        if !left.is_empty() {
            self.notes.push(format!("left out, as no meaning is known for them: {}", left.join(", ")));
        }
    }
}

/// Facts of the lot above the table, as `Charge;4711` or `Charge: 4711`: meaning, value, label and row.
pub(super) fn banner_facts(banner: &[Row]) -> Vec<(Meaning, String, String, u64)> {
    let mut facts = Vec::new();
    for row in banner {
        let filled: Vec<&str> = row.cells().filter(|cell| !cell.is_empty()).collect();
        let pair = match filled[..] {
            [one] => one.split_once(':').map(|(label, value)| (label.trim(), value.trim())),
            [label, value] => Some((label.trim_end_matches(':').trim(), value)),
            _ => None,
        };
        if let Some((label, value)) = pair.filter(|(_, value)| !value.is_empty())
            && let Some((meaning, _)) = Meaning::of(label)
            && (meaning.is_of_lot() || meaning == Meaning::Date)
        {
            facts.push((meaning, value.to_owned(), label.to_owned(), row.line));
        }
    }
    facts
}

/// `Teil 1`, `Teil 2` are the serials 1 and 2: the word before them is the same for all.
fn serials<'a>(headers: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let number = |header: &'a str| header.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let lead = |header: &'a str| &header[..header.len() - number(header).len()];
    let mut leads = headers.clone().map(lead);
    let first = leads.next().unwrap_or_default();
    let common = first.ends_with([' ', '#', '.', ':', '_', '-'])
        && leads.all(|lead| lead == first)
        && headers.clone().all(|header| !number(header).is_empty());
    headers.map(|header| if common { number(header) } else { header }.to_owned()).collect()
}

fn holds_values(rows: &[Row], at: usize, cells: &Cells) -> bool {
    let filled: Vec<&str> = rows.iter().map(|row| row.cell(at)).filter(|cell| !cells.is_missing(cell)).collect();
    let values = filled.iter().filter(|cell| cells.measured(cell).is_some()).count();
    values > 0 && values * 2 >= filled.len()
}

/// Whether each value of the column comes with the same characteristics: then it stands for a piece. `strict` asks for
/// whole numbers that count up, since under an unknown header anything may repeat; `one` lets a single piece pass.
fn numbers_pieces(rows: &[Row], at: usize, name: usize, lot: Option<usize>, strict: bool, one: bool) -> bool {
    let mut order: Vec<(&str, &str)> = Vec::new();
    let mut names: HashMap<(&str, &str), Vec<&str>> = HashMap::new();
    for row in rows {
        let key = (lot.map_or("", |lot| row.cell(lot)), row.cell(at));
        if key.1.is_empty() {
            continue;
        }
        names.entry(key).or_insert_with(|| {
            order.push(key);
            Vec::new()
        });
        names.entry(key).or_default().push(row.cell(name));
    }
    let whole: Vec<Option<i64>> = order.iter().map(|(_, value)| value.parse().ok()).collect();
    let counts_up =
        whole.iter().all(Option::is_some) && whole.windows(2).all(|pair| pair[1] == pair[0].map(|number| number + 1) || pair[1] == Some(1));
    if strict && !counts_up {
        return false;
    }
    if order.len() < 2 {
        return one && !strict && counts_up && !order.is_empty();
    }
    let mut alike: HashMap<&[&str], usize> = HashMap::new();
    for of in names.values_mut() {
        of.sort_unstable();
    }
    for of in names.values() {
        *alike.entry(of).or_default() += 1;
    }
    alike.values().max().is_some_and(|most| most * 2 > order.len() || (order.len() == 2 && subset_of_other(&names)))
}

/// Of two pieces the second may be cut off by the end of the sample.
fn subset_of_other(names: &HashMap<(&str, &str), Vec<&str>>) -> bool {
    let mut lists: Vec<&Vec<&str>> = names.values().collect();
    lists.sort_by_key(|list| list.len());
    matches!(lists[..], [few, many] if few.iter().all(|name| many.contains(name)))
}

fn differs_in_each(rows: &[Row], at: usize, lot: Option<usize>) -> bool {
    let filled: Vec<(&str, &str)> =
        rows.iter().map(|row| (lot.map_or("", |lot| row.cell(lot)), row.cell(at))).filter(|(_, value)| !value.is_empty()).collect();
    let mut distinct = filled.clone();
    distinct.sort_unstable();
    distinct.dedup();
    // A serial or two may be there twice: that is a fault to report, not a reason to look elsewhere.
    !filled.is_empty() && distinct.len() * 10 >= filled.len() * 8
}

fn pairs_up(rows: &[Row], at: usize, name: usize) -> bool {
    let mut names: HashMap<&str, &str> = HashMap::new();
    rows.iter().all(|row| row.cell(at).is_empty() || *names.entry(row.cell(at)).or_insert(row.cell(name)) == row.cell(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognise(text: &str, options: &Options) -> Result<Columns, ImportError> {
        let map = options.map.clone().unwrap_or_default();
        let survey = Survey::of(text, true, &map)?;
        Columns::recognise(&survey, &Cells::new(survey.decimal, &map), options, &map)
    }

    fn options() -> Options {
        Options { lot: Some("L".into()), part: Some("P".into()), ..Options::default() }
    }

    #[test]
    fn orientations() {
        let check =
            |text: &str, orientation: Orientation| assert_eq!(recognise(text, &options()).unwrap().orientation, orientation, "{text}");
        check("serial,characteristic,value\n1,A,2\n", Orientation::Long);
        check("serial,value,lsl,usl\n1,2,0,9\n", Orientation::Long);
        check("Merkmal;Istwert\nA;2,5\n", Orientation::Long);
        check("serial,characteristic,status\n1,A,OK\n", Orientation::Long);
        check("Seriennummer;Ø 10 [mm];Ø 12 [mm]\n1;10,1;12,2\n", Orientation::PartsInRows);
        check("Teil-Nr.;Länge;S\n1;10,1;3\n2;10,2;3\n", Orientation::PartsInRows);
        check("Merkmal;Nennmaß;Teil 1;Teil 2\nA;10;10,1;10,2\n", Orientation::CharacteristicsInRows);
    }

    #[test]
    fn what_numbers_the_pieces_is_the_serial() {
        let serial = |text: &str| recognise(text, &options()).unwrap().at(Meaning::Serial);
        assert_eq!(serial("Part No,feature,value\n1,A,2\n1,B,3\n2,A,2\n2,B,3\n"), Some(0));
        assert_eq!(serial("feature,value,foo\nA,2,1\nB,3,1\nA,2,2\nB,3,2\n"), Some(2));
        assert_eq!(serial("feature,value,shift\nA,2,7\nB,3,7\nA,2,4\nB,3,4\n"), None);
        let columns = recognise("serial,measurement,value\n1,A,2\n1,B,3\n2,A,2\n2,B,3\n", &options()).unwrap();
        assert_eq!(columns.at(Meaning::Characteristic), Some(1));
        let columns = recognise("Nr;Merkmal;Istwert\n1;A;2\n2;B;3\n", &options()).unwrap();
        assert_eq!(columns.at(Meaning::Position), Some(0));
    }

    #[test]
    fn missing_columns_are_named() {
        let check = |text: &str, options: &Options, expected: &str| {
            let error = recognise(text, options).err().unwrap();
            assert!(matches!(error, ImportError::MissingColumn { .. }));
            let shown = format!("{error}; {}", error.hint().unwrap());
            assert!(shown.contains(expected), "{shown}");
        };
        check("a,b,c\n1,2,3\n", &options(), "`a`, `b`, `c`");
        check("a,b,c\n1,2,3\n", &options(), "columns = {");
        check("serial,value\n1,2\n1,3\n2,2\n2,3\n", &options(), "the characteristic");
        check("serial,characteristic,note\n1,A,x\n", &options(), "measured value");
        check("serial,characteristic,value\n1,A,2\n", &Options { part: Some("P".into()), ..Options::default() }, "--lot");
        check("serial,characteristic,value\n1,A,2\n", &Options { lot: Some("L".into()), ..Options::default() }, "--part");
        let map: Map = "columns = { Messung = \"value\" }".parse().unwrap();
        check("serial,characteristic,value\n1,A,2\n", &Options { map: Some(map), ..options() }, "`Messung` of the map");
    }

    #[test]
    fn the_word_before_the_serials_is_taken_off() {
        assert_eq!(serials(["Teil 1", "Teil 2"].into_iter()), ["1", "2"]);
        assert_eq!(serials(["A1", "A2"].into_iter()), ["A1", "A2"]);
        assert_eq!(serials(["Teil 1", "Rest"].into_iter()), ["Teil 1", "Rest"]);
    }
}
