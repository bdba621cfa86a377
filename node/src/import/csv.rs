//! The rows of a table, in each of its three orientations, to lots, pieces and characteristics.

use std::fs::File;
use std::path::Path;

use lotline_schema::draft::{Fault, Place};
use lotline_schema::kind::inspection::{Inspection, Measured, Source};

use super::cell::Cells;
use super::characteristic::Entry;
use super::columns::Columns;
use super::dialect::{Dialect, Orientation, Survey};
use super::faults::place;
use super::lots::Lots;
use super::map::Map;
use super::meaning::Meaning;
use super::moment::Slashes;
use super::rows::{Row, Rows};
use super::text::Text;
use super::{Import, ImportError, Options};

/// More notes than this nobody reads; the rest is counted.
const NOTES_MAX: usize = 60;

/// Reads a table file.
pub(super) fn read(path: &Path, options: &Options, progress: &dyn Fn(u64, u64)) -> Result<Import, ImportError> {
    let file = File::open(path).map_err(ImportError::Io)?;
    let of = file.metadata().map_err(ImportError::Io)?.len();
    let no_map = Map::default();
    let map = options.map.as_ref().unwrap_or(&no_map);
    let mut text = Text::of(file, map.encoding, |done| progress(done, of.max(done)))?;
    let (sample, whole) = text.sample()?;
    let survey = Survey::of(sample, whole, map)?;
    let cells = Cells::new(survey.decimal, map);
    let columns = Columns::recognise(&survey, &cells, options, map)?;
    let lots = Lots::new(options, &cells, map, &columns, &survey.banner, slashes(&survey, &columns, map))?;
    let labels = units_in_header(&columns, survey.header.line);
    let mut table = Table { columns: &columns, cells: &cells, lots, labels, left_out: Vec::new(), below_blank: false, unread: 0 };
    let mut rows = Rows::new(text, survey.delimiter);
    table.read(&mut rows, survey.header.line)?;
    let unfinished = rows.text().unfinished();
    let dialect = Dialect {
        orientation: columns.orientation,
        delimiter: survey.delimiter,
        encoding: rows.text().encoding(),
        decimal: survey.decimal,
        header_row: survey.header.line,
    };
    let source = Source {
        name: path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        sha256: rows.text().hash(),
        importer: dialect.to_string(),
    };
    let (mut lots, notes) = table.finish(survey.header.line)?;
    for lot in &mut lots {
        lot.source = Some(source.clone());
    }
    let notes = all_notes(&dialect, &survey, &columns, notes, &lots, unfinished);
    Ok(Import { source, lots, dialect, notes })
}

/// A meaning and its text for all values of a column.
struct Label {
    column: usize,
    meaning: Meaning,
    text: String,
    place: Place,
}

/// A table being read below its header.
struct Table<'a> {
    columns: &'a Columns,
    cells: &'a Cells,
    lots: Lots<'a>,
    /// Rows below the table that hold no values.
    left_out: Vec<u64>,
    below_blank: bool,
    /// What the header and labelled rows say about a whole column of values.
    labels: Vec<Label>,
    /// Words in the status column that are no verdict we know.
    unread: usize,
}

impl Table<'_> {
    fn read(&mut self, rows: &mut Rows, header_row: u64) -> Result<(), ImportError> {
        let mut row = Row::default();
        let mut last_short = None;
        while rows.next(&mut row)? {
            if row.line <= header_row {
                continue;
            }
            if row.filled() == 0 {
                self.below_blank = true;
                continue;
            }
            if self.is_footer(&row) {
                self.left_out.push(row.line);
                continue;
            }
            self.below_blank = false;
            last_short = None;
            let width = self.columns.width();
            if row.len() < width {
                last_short = Some(row.line);
                let what = format!("the row has {} cells where the header has {width}", row.len());
                self.lots
                    .found
                    .push(Fault::new("row", what).at(Some(place(row.line, None))).hint("is a delimiter missing, or the file cut off?"));
                continue;
            }
            if let Some(extra) = (self.columns.all.len()..row.len()).find(|at| !row.cell(*at).is_empty()) {
                let what = format!("the row has {} cells where the header has {width}", row.width());
                let fault = Fault::new("row", what).at(Some(place(row.line, Some(extra))));
                self.lots.found.push(fault.hint("quote a cell that holds the delimiter, as in \"1,5\""));
                continue;
            }
            self.read_row(&row)?;
        }
        // Copying or exporting stopped inside the last row: the fault is the file's, not the row's.
        match last_short.filter(|_| rows.text().unfinished()) {
            Some(row) => Err(ImportError::TruncatedInside {
                row,
                what: format!("the last row has fewer cells than the header ({})", self.columns.width()),
            }),
            None => Ok(()),
        }
    }

    /// Lines such as `Anzahl Teile;20`, a blank row below the table.
    fn is_footer(&self, row: &Row) -> bool {
        if !self.below_blank || self.lots.is_empty() || row.filled() > 2 {
            return false;
        }
        let width = self.columns.width();
        // A value may be missing in a row of its own: what names a characteristic or a limit is no footer.
        let known = self.lots.knows(self.cell(row, Meaning::Characteristic))
            || self
                .columns
                .at(Meaning::Serial)
                .is_some_and(|at| self.columns.orientation == Orientation::PartsInRows && self.label(row, at).is_some());
        row.len() < width || (row.width() <= 2 && width > 2 && !known)
    }

    fn read_row(&mut self, row: &Row) -> Result<(), ImportError> {
        match self.columns.orientation {
            Orientation::Long => self.read_value(row),
            Orientation::PartsInRows => self.read_part(row),
            Orientation::CharacteristicsInRows => self.read_characteristic(row),
        }
    }

    fn cell<'r>(&self, row: &'r Row, meaning: Meaning) -> &'r str {
        self.columns.at(meaning).map_or("", |at| row.cell(at))
    }

    /// A row a value.
    fn read_value(&mut self, row: &Row) -> Result<(), ImportError> {
        let Some(lot) = self.lots.of_row(row)? else { return Ok(()) };
        let value_at = self.columns.at(Meaning::Value);
        let name = match self.columns.at(Meaning::Characteristic) {
            Some(at) if row.cell(at).is_empty() => {
                self.lots.found.push(Fault::new("characteristic", "has no name in this row").at(Some(place(row.line, Some(at)))));
                return Ok(());
            }
            Some(at) => row.cell(at),
            // One characteristic only: the column of its values names it.
            None => value_at.map_or("", |at| self.columns.name_and_unit(at).0),
        };
        let status = self.cell(row, Meaning::Status);
        let good = self.cells.verdict(status);
        self.unread += usize::from(good.is_none() && !self.cells.is_missing(status));
        let measured = match value_at {
            Some(at) => self.measured(row, at),
            None => Some(good.map_or(Measured::Missing, Measured::Good)),
        };
        let serial = if self.columns.at(Meaning::Serial).is_some() { self.cell(row, Meaning::Serial) } else { "1" };
        let (piece, _) = self.lots.piece(lot, serial);
        // A value that cannot be read is a fault already; its place in the table stays taken.
        let entry = Entry { measured: measured.unwrap_or(Measured::Missing), good, row: row_number(row) };
        let at = self.lots.add(lot, piece, name, self.cell(row, Meaning::Position), entry)?;
        self.specify(lot, at, row);
        if let Some(label) = self.labels.iter().find(|label| Some(label.column) == value_at) {
            self.lots.tell(lot, at, label.meaning, &label.text, label.place);
        }
        Ok(())
    }

    /// A row a part; or, by its first cells, a row of limits, units or statistics for all columns.
    fn read_part(&mut self, row: &Row) -> Result<(), ImportError> {
        let serial_at = self.columns.at(Meaning::Serial).expect("this orientation has a serial column");
        if let Some(meaning) = self.label(row, serial_at) {
            let label = |column: &usize| Label {
                column: *column,
                meaning,
                text: row.cell(*column).to_owned(),
                place: place(row.line, Some(*column)),
            };
            self.labels.extend(self.columns.measured.iter().map(label));
            return Ok(());
        }
        let Some(lot) = self.lots.of_row(row)? else { return Ok(()) };
        let (piece, known) = self.lots.piece(lot, row.cell(serial_at));
        if known {
            let what = format!("duplicate serial `{}`", row.cell(serial_at));
            let fault = Fault::new(format!("serials[{}]", piece + 1), what).at(Some(place(row.line, Some(serial_at))));
            self.lots.found.push(fault.hint("each piece has its own serial and its own row"));
            return Ok(());
        }
        for at in &self.columns.measured {
            let measured = self.measured(row, *at).unwrap_or(Measured::Missing);
            let name = self.columns.name_and_unit(*at).0;
            self.lots.add(lot, piece, name, "", Entry { measured, good: None, row: row_number(row) })?;
        }
        Ok(())
    }

    /// What a row such as `Nennmaß;10;12` says of each column, by its serial or its first cell.
    fn label(&self, row: &Row, serial_at: usize) -> Option<Meaning> {
        let free = |at: &usize| *at == serial_at || self.columns.all[*at].meaning.is_none();
        let words = [serial_at, 0].into_iter().filter(free).map(|at| row.cell(at)).filter(|word| word.len() > 1);
        words.filter_map(|word| Some(Meaning::of(word)?.0)).find(|meaning| meaning.specifies() || meaning.is_statistic())
    }

    /// A row a characteristic.
    fn read_characteristic(&mut self, row: &Row) -> Result<(), ImportError> {
        let Some(lot) = self.lots.of_row(row)? else { return Ok(()) };
        let (name, position) = (self.cell(row, Meaning::Characteristic), self.cell(row, Meaning::Position));
        if name.is_empty() {
            self.lots.found.push(Fault::new("characteristic", "has no name in this row").at(Some(place(row.line, None))));
            return Ok(());
        }
        let mut characteristic = None;
        for (at, serial) in &self.columns.pieces {
            let measured = self.measured(row, *at).unwrap_or(Measured::Missing);
            let (piece, _) = self.lots.piece(lot, serial);
            characteristic = Some(self.lots.add(lot, piece, name, position, Entry { measured, good: None, row: row_number(row) })?);
        }
        if let Some(characteristic) = characteristic {
            self.specify(lot, characteristic, row);
        }
        Ok(())
    }

    fn measured(&mut self, row: &Row, at: usize) -> Option<Measured> {
        let cell = row.cell(at);
        let measured = self.cells.measured(cell);
        if measured.is_none() {
            let shown: String = cell.chars().take(40).collect();
            let fault = Fault::new("value", format!("`{shown}` is not a number")).at(Some(place(row.line, Some(at))));
            self.lots
                .found
                .push(fault.hint("a word for a missing value goes under `missing`, another decimal mark under `decimal` in a --map file"));
        }
        measured
    }

    fn specify(&mut self, lot: usize, characteristic: usize, row: &Row) {
        for (at, column) in self.columns.all.iter().enumerate() {
            let Some(meaning) = column.meaning.filter(|meaning| meaning.specifies() || meaning.is_statistic()) else { continue };
            let cell = row.cell(at);
            if cell.is_empty() {
                continue;
            }
            // A column `-Tol` gives the size, not the sign.
            let minus = meaning == Meaning::LowerTolerance && column.header.contains('-') && !cell.starts_with(['-', '+', '0']);
            if minus {
                self.lots.tell(lot, characteristic, meaning, &format!("-{cell}"), place(row.line, Some(at)));
            } else {
                self.lots.tell(lot, characteristic, meaning, cell, place(row.line, Some(at)));
            }
        }
    }

    fn finish(mut self, header_row: u64) -> Result<(Vec<Inspection>, Vec<String>), ImportError> {
        if self.lots.is_empty() {
            std::mem::take(&mut self.lots.found).none()?;
            return Err(ImportError::Empty { what: format!("has a header (row {header_row}) and no value below it") });
        }
        if self.columns.orientation == Orientation::Long && self.columns.at(Meaning::Serial).is_none() {
            if let Some((name, times)) = self.lots.most_repeated() {
                return Err(ImportError::MissingColumn {
                    what: format!("the serial, and `{name}` is there {times} times"),
                    found: self.columns.all.iter().map(|column| column.header.clone()).filter(|header| !header.is_empty()).collect(),
                    hint: "number the pieces in a column, or name it in a --map file: columns = { \"your header\" = \"serial\" }".into(),
                });
            }
            self.lots.notes.push("no column numbers pieces: the file is read as one piece".into());
        }
        for label in &self.labels {
            if let Some(nth) = self.columns.measured.iter().position(|at| *at == label.column) {
                self.lots.tell_all(nth, label.meaning, &label.text, label.place);
            }
        }
        if !self.left_out.is_empty() {
            let rows: Vec<String> = self.left_out.iter().take(10).map(u64::to_string).collect();
            self.lots.notes.push(format!("{} lines below the table left out: rows {}", self.left_out.len(), rows.join(", ")));
        }
        if self.unread > 0 {
            self.lots.notes.push(format!(
                "{} words in the status column are no verdict we know: add them under good or bad in a --map file",
                self.unread
            ));
        }
        if self.columns.orientation != Orientation::Long
            && let Some(at) = self.columns.at(Meaning::Status)
        {
            self.lots.notes.push(format!(
                "left out: `{}` states a verdict for a whole row, and the record has stated verdicts on values only",
                self.columns.all[at].header
            ));
        }
        self.lots.finish()
    }
}

fn row_number(row: &Row) -> u32 {
    u32::try_from(row.line).unwrap_or(u32::MAX)
}

/// Units in the headers of values, as in `Messwert [mm]`.
fn units_in_header(columns: &Columns, row: u64) -> Vec<Label> {
    let values = columns.at(Meaning::Value).filter(|_| columns.at(Meaning::Unit).is_none());
    let label = |at: usize| {
        let unit = columns.name_and_unit(at).1?;
        Some(Label { column: at, meaning: Meaning::Unit, text: unit.to_owned(), place: place(row, Some(at)) })
    };
    columns.measured.iter().copied().chain(values).filter_map(label).collect()
}

fn slashes(survey: &Survey, columns: &Columns, map: &Map) -> Option<Slashes> {
    let column = columns.at(Meaning::Date);
    map.dates.or_else(|| survey.below.iter().find_map(|row| Slashes::shown_by(row.cell(column?))))
}

/// What the user should know, the most general first.
fn all_notes(
    dialect: &Dialect,
    survey: &Survey,
    columns: &Columns,
    more: Vec<String>,
    lots: &[Inspection],
    unfinished: bool,
) -> Vec<String> {
    let mut notes = vec![format!("read as {dialect}")];
    if dialect.encoding == "windows-1252" {
        notes.push("the file is not UTF-8: it is read as Windows-1252".into());
    }
    let banner: Vec<String> = survey.banner.iter().filter(|row| row.filled() > 0).map(|row| row.line.to_string()).collect();
    if !banner.is_empty() {
        notes.push(format!("above the header only facts of the lot are read: rows {}", banner.join(", ")));
    }
    notes.extend(columns.notes.iter().cloned());
    if unfinished {
        notes.push("the last row has no line end: if the file was cut off there, its last value may be too".into());
    }
    for note in more {
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    for lot in lots {
        notes.push(format!(
            "lot `{}` of part `{}`: {} pieces, {} characteristics",
            lot.lot,
            lot.part,
            lot.serials.len(),
            lot.characteristics.len()
        ));
    }
    let beyond = notes.len().saturating_sub(NOTES_MAX);
    notes.truncate(NOTES_MAX);
    if beyond > 0 {
        notes.push(format!("and {beyond} more notes"));
    }
    notes
}
