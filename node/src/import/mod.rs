//! Files of measuring programs to inspections, one a lot and part.
//!
//! A file passes through: `text` (encoding, lines, hash) → `rows` (cells) → `dialect` (delimiter, header, decimal
//! mark) → `columns` (what each column means, by `meaning` and `map`) → `csv` (each row to its lot, piece and
//! characteristic) → `lots` and `characteristic` (what was gathered, checked as a whole). It is read once, streaming:
//! memory grows with the values kept, not with the file. All faults come together, each with its row and column.
//!
//! Deliberately not here: verdicts and statistics of our own (`lotline_schema` recomputes them), the store, the policy.

mod cell;
mod characteristic;
mod columns;
mod csv;
mod dialect;
mod faults;
mod lots;
mod map;
mod meaning;
mod moment;
mod rows;
#[cfg(test)]
mod tests;
mod text;

use std::io;
use std::path::Path;

use lotline_schema::draft::Faults;
use lotline_schema::kind::inspection::{Inspection, Role, Source};

pub use dialect::{Dialect, Orientation};
pub use map::Map;

/// What the user says besides the file: the flags of `lotline publish`.
///
/// A flag says what the file leaves out. Where the file has it too, both must agree.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Options {
    pub map: Option<Map>,
    pub part: Option<String>,
    pub customer_part: Option<String>,
    pub revision: Option<String>,
    pub part_name: Option<String>,
    pub drawing: Option<String>,
    pub customer: Option<String>,
    pub lot: Option<String>,
    pub order: Option<String>,
    pub delivery_note: Option<String>,
    pub operation: Option<String>,
    pub reason: Option<String>,
    pub sample: Option<String>,
    pub site: Option<String>,
    pub standard: Option<String>,
    pub machine: Option<String>,
    pub gauge: Option<String>,
    pub program: Option<String>,
    pub environment: Option<String>,
    pub role: Role,
    /// Names or positions of the special characteristics.
    pub special: Vec<String>,
    /// Import who measured; personal data stay out otherwise.
    pub persons: bool,
}

/// What a file held.
#[derive(Clone, Debug)]
pub struct Import {
    /// The file, its hash, and the dialect in words.
    pub source: Source,
    /// One inspection a lot and part, in the order of the file.
    pub lots: Vec<Inspection>,
    /// How the file was read.
    pub dialect: Dialect,
    /// What was recognised, assumed or left out, in plain words for the user.
    pub notes: Vec<String>,
}

/// Why a file was not imported. All of these are the file's or the flags' fault, except `Io`.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("the file cannot be read")]
    Io(#[source] io::Error),
    /// There is nothing to import.
    #[error("the file {what}")]
    Empty {
        /// What there is instead.
        what: String,
    },
    /// Not text, or not in the encoding it seemed to be in.
    #[error("row {row}: the file {what}")]
    #[allow(missing_docs)]
    Encoding { row: u64, what: String, hint: String },
    /// Text, but not a table we can follow.
    #[error("the table cannot be followed: {what}")]
    #[allow(missing_docs)]
    Dialect { what: String, hint: String },
    /// No column says something we need.
    #[error("no column for {what}; columns found: {}", quoted(.found))]
    MissingColumn {
        /// What is needed.
        what: String,
        /// The headers of the file.
        found: Vec<String>,
        /// The way out.
        hint: String,
    },
    /// Flag and file disagree.
    #[error("row {row}: `{column}` says `{found}`, but {flag} says `{given}`")]
    #[allow(missing_docs)]
    Contradiction { flag: String, given: String, column: String, found: String, row: u64 },
    /// The file ends too early.
    #[error("row {row}: {what}: the file seems to be cut off")]
    #[allow(missing_docs)]
    TruncatedInside { row: u64, what: String },
    /// So many lots that the column is surely not the lot.
    #[error("row {row}: more than {most} lots in one file, by column `{column}`")]
    #[allow(missing_docs)]
    TooManyLots { column: String, row: u64, most: usize },
    /// The map is wrong.
    #[error("the map file: {what}")]
    #[allow(missing_docs)]
    Map { what: String, hint: String },
    /// Everything wrong with the content, each with its row and column.
    #[error("{0}")]
    Faults(Faults),
}

impl ImportError {
    /// The way out, where there is one.
    pub fn hint(&self) -> Option<&str> {
        match self {
            ImportError::Encoding { hint, .. }
            | ImportError::Dialect { hint, .. }
            | ImportError::MissingColumn { hint, .. }
            | ImportError::Map { hint, .. } => Some(hint),
            ImportError::Empty { .. } => Some("export the table again, with its header and its values"),
            ImportError::Contradiction { .. } => Some("leave the flag out, or give the file it belongs to"),
            ImportError::TruncatedInside { .. } => Some("export or copy the file again"),
            ImportError::TooManyLots { .. } => {
                Some("if the column is not the lot, write columns = { \"its header\" = \"ignore\" } in a --map file")
            }
            ImportError::Io(_) | ImportError::Faults(_) => None,
        }
    }
}

/// Reads a file of measured values; `progress` hears how many bytes of how many are done.
pub fn read(path: &Path, options: &Options, progress: &dyn Fn(u64, u64)) -> Result<Import, ImportError> {
    csv::read(path, options, progress)
}

/// The rows of a plain list, with the line each begins on: for lists that are no measurements. The delimiter is the one of `;`,
/// tab and `,` that its first line has most of.
pub fn list(path: &Path, rows_max: usize) -> Result<Vec<(u64, Vec<String>)>, ImportError> {
    let file = std::fs::File::open(path).map_err(ImportError::Io)?;
    let mut text = text::Text::of(file, None, |_| ())?;
    let (sample, _) = text.sample()?;
    let first = sample.lines().next().unwrap_or_default();
    let count = |delimiter: &char| first.matches(*delimiter).count();
    let delimiter = [';', '\t', ','].into_iter().rev().max_by_key(count).unwrap_or(',');
    let mut rows = rows::Rows::new(text, delimiter);
    let (mut row, mut found) = (rows::Row::default(), Vec::new());
    while rows.next(&mut row)? {
        if row.filled() > 0 {
            found.push((row.line, row.cells().map(str::to_owned).collect()));
        }
        if found.len() > rows_max {
            break;
        }
    }
    Ok(found)
}

fn quoted(names: &[String]) -> String {
    const SHOWN: usize = 40;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    shown.join(", ") + &more
}
