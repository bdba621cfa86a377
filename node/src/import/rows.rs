//! Lines to rows of cells: delimiter and quotes (RFC 4180). Knows nothing of what the cells mean.
//!
//! Not the crate `csv`: that gives no line of its own to a row after blank lines, does not tell a file that ends
//! inside a quote from a whole one, and would pull such a file into memory to its end. A test compares with it.

use std::ops::Range;

use super::ImportError;
use super::text::{LINE_BYTES_MAX, Text};

/// One row.
#[derive(Default, Clone, Debug)]
pub(super) struct Row {
    /// The line of the file where it starts, from 1.
    pub(super) line: u64,
    text: String,
    cells: Vec<Range<usize>>,
}

impl Row {
    /// How many cells it has.
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// A cell without the blanks around it; empty beyond the last.
    pub(super) fn cell(&self, at: usize) -> &str {
        let cell = self.cells.get(at).map_or("", |range| self.text[range.clone()].trim());
        // Excel's way to keep the zeros of a text: ="007".
        cell.strip_prefix("=\"").and_then(|inner| inner.strip_suffix('"')).unwrap_or(cell)
    }

    /// Its cells in order.
    pub(super) fn cells(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|at| self.cell(at))
    }

    /// How many cells hold something.
    pub(super) fn filled(&self) -> usize {
        self.cells().filter(|cell| !cell.is_empty()).count()
    }

    /// How many cells it has without the empty ones at its end.
    pub(super) fn width(&self) -> usize {
        (0..self.len()).rev().find(|at| !self.cell(*at).is_empty()).map_or(0, |last| last + 1)
    }

    fn end_cell(&mut self) {
        let start = self.cells.last().map_or(0, |range| range.end);
        self.cells.push(start..self.text.len());
    }
}

/// The rows of a text.
pub(super) struct Rows<'a> {
    text: Text<'a>,
    delimiter: char,
    line: String,
}

impl<'a> Rows<'a> {
    /// Reads the rows of a text.
    pub(super) fn new(text: Text<'a>, delimiter: char) -> Rows<'a> {
        Rows { text, delimiter, line: String::new() }
    }

    /// The text, when all rows are read.
    pub(super) fn text(&self) -> &Text<'a> {
        &self.text
    }

    /// The next row, blank ones included; false after the last.
    pub(super) fn next(&mut self, row: &mut Row) -> Result<bool, ImportError> {
        row.text.clear();
        row.cells.clear();
        self.line.clear();
        if !self.text.line(&mut self.line)? {
            return Ok(false);
        }
        row.line = self.text.line_number();
        if self.line.contains('"') {
            self.read_quoted(row)?;
        } else {
            for cell in self.line.split(self.delimiter) {
                row.text.push_str(cell);
                row.end_cell();
            }
        }
        Ok(true)
    }

    fn read_quoted(&mut self, row: &mut Row) -> Result<(), ImportError> {
        let (mut open, mut at_start) = (false, true);
        loop {
            let mut letters = self.line.chars().peekable();
            while let Some(letter) = letters.next() {
                match letter {
                    '"' if open && letters.peek() == Some(&'"') => {
                        letters.next();
                        row.text.push('"');
                    }
                    '"' if open => open = false,
                    '"' if at_start => open = true,
                    letter if letter == self.delimiter && !open => {
                        row.end_cell();
                        at_start = true;
                        continue;
                    }
                    letter => row.text.push(letter),
                }
                at_start = false;
            }
            if !open {
                row.end_cell();
                return Ok(());
            }
            row.text.push('\n');
            self.line.clear();
            if row.text.len() > LINE_BYTES_MAX || !self.text.line(&mut self.line)? {
                return Err(ImportError::TruncatedInside { row: row.line, what: "a quote is opened here and never closed".into() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(text: &str, delimiter: char) -> Result<Vec<(u64, Vec<String>)>, ImportError> {
        let mut rows = Rows::new(Text::of(text.as_bytes(), None, |_| ())?, delimiter);
        let (mut row, mut all) = (Row::default(), Vec::new());
        while rows.next(&mut row)? {
            all.push((row.line, row.cells().map(str::to_owned).collect()));
        }
        Ok(all)
    }

    #[test]
    fn quotes_line_breaks_and_lines() {
        let all = rows("a;\"b;\n\"\"c\"\"\";d\n\n=\"007\";3\" mill\n", ';').unwrap();
        let expected: [(u64, &[&str]); 3] = [(1, &["a", "b;\n\"c\"", "d"]), (3, &[""]), (4, &["007", "3\" mill"])];
        assert_eq!(all, expected.map(|(line, cells)| (line, cells.iter().map(|cell| cell.to_string()).collect())));
        assert!(matches!(rows("a\n\"b\nc\n", ',').unwrap_err(), ImportError::TruncatedInside { row: 2, .. }));
    }

    proptest! {
        #[test]
        fn agrees_with_the_crate_csv(table in proptest::collection::vec(proptest::collection::vec("[a-c\",\n ]{0,6}", 2..5), 1..6)) {
            let mut written = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
            for row in &table {
                written.write_record(row).unwrap();
            }
            let text = String::from_utf8(written.into_inner().unwrap()).unwrap();
            let ours: Vec<Vec<String>> = rows(&text, ',').unwrap().into_iter().map(|(_, cells)| cells).collect();
            let mut reader = csv::ReaderBuilder::new().flexible(true).has_headers(false).trim(csv::Trim::All).from_reader(text.as_bytes());
            let theirs: Vec<Vec<String>> = reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
            prop_assert_eq!(ours, theirs);
        }
    }
}
