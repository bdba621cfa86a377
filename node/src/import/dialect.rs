//! How a file writes its table: delimiter, header row, decimal mark. Judged by the first part of the file.

use std::fmt;

use super::ImportError;
use super::map::Map;
use super::meaning::Meaning;
use super::rows::{Row, Rows};
use super::text::Text;

/// The header is looked for this far down.
const HEADER_ROW_MAX: usize = 100;
const DELIMITERS: [char; 4] = [';', '\t', ',', '|'];

/// Which way round a table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Orientation {
    /// A row a value.
    Long,
    /// A row a part, a column a characteristic.
    PartsInRows,
    /// A row a characteristic, a column a part.
    CharacteristicsInRows,
}

impl Orientation {
    pub(super) const ALL: [Orientation; 3] = [Orientation::Long, Orientation::PartsInRows, Orientation::CharacteristicsInRows];

    /// Its name in a map.
    pub fn name(self) -> &'static str {
        match self {
            Orientation::Long => "long",
            Orientation::PartsInRows => "parts in rows",
            Orientation::CharacteristicsInRows => "characteristics in rows",
        }
    }
}

/// How a file was read.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Dialect {
    pub orientation: Orientation,
    pub delimiter: char,
    pub encoding: &'static str,
    pub decimal: char,
    pub header_row: u64,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delimiter = match self.delimiter {
            ';' => "semicolon",
            ',' => "comma",
            '\t' => "tab",
            '|' => "pipe",
            other => return write!(f, "csv {}; `{other}`; {}", self.orientation.name(), self.encoding.to_lowercase()),
        };
        let decimal = if self.decimal == ',' { "comma" } else { "point" };
        write!(
            f,
            "csv {}; {delimiter}; {}; decimal {decimal}; header in row {}",
            self.orientation.name(),
            self.encoding.to_lowercase(),
            self.header_row
        )
    }
}

/// What the first part of the file shows.
pub(super) struct Survey {
    pub(super) delimiter: char,
    pub(super) decimal: char,
    /// Rows above the header.
    pub(super) banner: Vec<Row>,
    pub(super) header: Row,
    /// Rows below it, blank ones left out.
    pub(super) below: Vec<Row>,
}

/// The sample as it looks under one delimiter.
struct Candidate {
    delimiter: char,
    rows: Vec<Row>,
    /// Which of the rows is the header, and how good a header it is: words known, then width.
    header: usize,
    score: (usize, usize),
}

impl Survey {
    /// Judges the sample; `whole` says that it is all of the file.
    pub(super) fn of(sample: &str, whole: bool, map: &Map) -> Result<Survey, ImportError> {
        if sample.trim().is_empty() && whole {
            return Err(ImportError::Empty { what: "is empty".into() });
        }
        let stated = stated_delimiter(sample);
        let candidates: Vec<char> = match map.delimiter.or(stated) {
            Some(delimiter) => vec![delimiter],
            None => DELIMITERS.into(),
        };
        let mut best: Option<Candidate> = None;
        let mut broken = None;
        for delimiter in candidates {
            let rows = match split(sample, whole, delimiter, stated.is_some()) {
                Ok(rows) => rows,
                // A quote that seems open under one delimiter may not be under another.
                Err(error) => {
                    broken = Some(error);
                    continue;
                }
            };
            let Some((score, header)) = find_header(&rows, map) else { continue };
            if best.as_ref().is_none_or(|best| score > best.score) {
                best = Some(Candidate { score, delimiter, rows, header });
            }
        }
        let Some(Candidate { delimiter, mut rows, header, .. }) = best else {
            return Err(match (broken, map.header_row) {
                (Some(error), _) => error,
                (None, Some(row)) => {
                    ImportError::Map { what: format!("`header_row` is {row}, where the file has no row"), hint: "count from 1".into() }
                }
                (None, None) => ImportError::Empty { what: "holds no row".into() },
            });
        };
        let mut below = rows.split_off(header + 1);
        below.retain(|row| row.filled() > 0);
        let header = rows.remove(header);
        let decimal = map.decimal.unwrap_or_else(|| decimal_mark(&below, delimiter));
        Ok(Survey { delimiter, decimal, banner: rows, header, below })
    }
}

/// `sep=;` in the first line, as Excel writes and reads it.
fn stated_delimiter(sample: &str) -> Option<char> {
    let line = sample.lines().next()?.trim_matches(['"', '\r', ' ']);
    let mut letters = line.get(..4).filter(|start| start.eq_ignore_ascii_case("sep=")).and_then(|_| line.get(4..))?.chars();
    letters.next().filter(|_| letters.next().is_none())
}

fn split(sample: &str, whole: bool, delimiter: char, skip_first: bool) -> Result<Vec<Row>, ImportError> {
    let mut text = Text::of(sample.as_bytes(), Some(encoding_rs::UTF_8), |_| ())?;
    text.sample()?;
    let mut rows = Rows::new(text, delimiter);
    let (mut row, mut all) = (Row::default(), Vec::new());
    loop {
        match rows.next(&mut row) {
            Ok(true) => all.push(std::mem::take(&mut row)),
            Ok(false) => break,
            // An open quote: reading the file itself will come to it, unless only our sample is cut there.
            Err(ImportError::TruncatedInside { .. }) if !all.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    if !whole && all.len() > 1 {
        // Cut by us, not by the file.
        all.pop();
    }
    if skip_first {
        all.remove(0);
    }
    Ok(all)
}

/// The row that has most headers we know, and how well it does; where none has any, the first of the widest.
fn find_header(rows: &[Row], map: &Map) -> Option<((usize, usize), usize)> {
    if let Some(line) = map.header_row {
        let at = rows.iter().position(|row| row.line == line)?;
        return Some(((score(&rows[at], map), rows[at].width()), at));
    }
    let ranked = rows.iter().take(HEADER_ROW_MAX).enumerate().filter(|(_, row)| row.filled() > 0).map(|(at, row)| {
        let score = score(row, map);
        // One known word may stand in a banner; two make a header.
        ((if score > 1 { score } else { 0 }, row.width()), at)
    });
    ranked.reduce(|best, next| if next.0 > best.0 { next } else { best })
}

fn score(row: &Row, map: &Map) -> usize {
    let mut known: Vec<Meaning> =
        row.cells().filter_map(|cell| map.meaning(cell).or_else(|| Meaning::of(cell).map(|(meaning, _)| meaning))).collect();
    known.sort();
    known.dedup();
    // A row a part may have no other known header than the serial.
    let telling = known.iter().any(|meaning| matches!(meaning, Meaning::Serial | Meaning::Characteristic | Meaning::Value));
    known.len() + usize::from(telling && row.filled() > 1)
}

/// A comma counts where it cannot stand between thousands: `0,5` and `12,50`, but not `1,001`.
fn decimal_mark(rows: &[Row], delimiter: char) -> char {
    let (mut commas, mut points, mut doubtful_commas, mut doubtful_points) = (0, 0, 0, 0);
    for cell in rows.iter().flat_map(Row::cells) {
        let number = cell.trim_start_matches(['-', '+']);
        if !number.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b',')) {
            continue;
        }
        let Some(last) = number.rfind(['.', ',']) else { continue };
        let (whole, comma) = (&number[..last], number.as_bytes()[last] == b',');
        let lone = !whole.contains(['.', ',']);
        let thousands = number.len() - last == 4 && (1..=3).contains(&whole.len()) && !whole.starts_with('0');
        let other = if comma { '.' } else { ',' };
        match (lone && !thousands, whole.contains(other), comma) {
            (true, _, true) | (_, true, true) => commas += 1,
            (true, _, false) | (_, true, false) => points += 1,
            (_, _, true) if lone => doubtful_commas += 1,
            (_, _, false) if lone => doubtful_points += 1,
            _ => {}
        }
    }
    let comma = if commas == points { doubtful_commas > 0 && doubtful_points == 0 && delimiter != ',' } else { commas > points };
    if comma { ',' } else { '.' }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(text: &str) -> Survey {
        Survey::of(text, true, &Map::default()).unwrap()
    }

    #[test]
    fn delimiters_headers_and_decimal_marks() {
        let check = |text: &str, delimiter: char, header: u64, decimal: char| {
            let found = survey(text);
            assert_eq!((found.delimiter, found.header.line, found.decimal), (delimiter, header, decimal), "{text}");
        };
        check("serial,characteristic,value\n1,A,0.5\n", ',', 1, '.');
        check("Teil;Merkmal;Istwert\n1;A;0,5\n", ';', 1, ',');
        check("serial|characteristic|value\n1|A|3\n", '|', 1, '.');
        check("serial\tcharacteristic\tvalue\n1\tA\t3,996\n2\tA\t3,991\n", '\t', 1, ',');
        check("sep=;\nserial;characteristic;value\n1;A,B;1.5\n", ';', 2, '.');
        check("Bericht, Halle 3\nCharge;4711\n\nSeriennummer;Merkmal;Istwert\n1;A;1.001\n2;A;0,5\n", ';', 4, ',');
        check("serial,characteristic,value\n1,A,\"1,001.0\"\n", ',', 1, '.');
        check("a,b,c\n1,2,3\n", ',', 1, '.');
        assert_eq!(survey("Charge;4711\n\nSerial;Ø 10;Ø 12\n1;2;3\n").banner.len(), 2);
    }

    #[test]
    fn nothing_is_empty() {
        for text in ["", "\n\n", "  \r\n"] {
            assert!(matches!(Survey::of(text, true, &Map::default()), Err(ImportError::Empty { .. })), "{text:?}");
        }
    }
}
