//! One cell: a number, a verdict, a missing marker. Knows the file's decimal mark and nothing else of the table.

use lotline_schema::Decimal;
use lotline_schema::kind::inspection::Measured;

use super::map::Map;

const MISSING: &[&str] = &[
    "",
    "-",
    "--",
    "---",
    "–",
    "—",
    ".",
    "*",
    "**",
    "***",
    "****",
    "?",
    "n/a",
    "na",
    "#n/a",
    "#nv",
    "n.a.",
    "nan",
    "null",
    "nil",
    "none",
    "missing",
    "not measured",
    "fehlt",
    "k.a.",
    "n.v.",
    "n.b.",
    "nicht gemessen",
    "entfällt",
];
const GOOD: &[&str] = &[
    "pass",
    "passed",
    "ok",
    "o.k.",
    "io",
    "i.o.",
    "i. o.",
    "in ordnung",
    "good",
    "gut",
    "yes",
    "ja",
    "true",
    "wahr",
    "accept",
    "accepted",
    "conform",
    "conforming",
    "bestanden",
    "in tol",
    "in tolerance",
    "gutteil",
];
const BAD: &[&str] = &[
    "fail",
    "failed",
    "nok",
    "not ok",
    "n.o.k.",
    "nio",
    "n.i.o.",
    "n. i. o.",
    "nicht in ordnung",
    "bad",
    "schlecht",
    "no",
    "nein",
    "false",
    "falsch",
    "reject",
    "rejected",
    "nonconforming",
    "non-conforming",
    "nicht bestanden",
    "out of tol",
    "out of tolerance",
    "ausschuss",
];

/// A number as a file writes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Number {
    pub(super) decimal: Decimal,
    /// Whether the decimal gives back the source's digits.
    pub(super) exact: bool,
    /// Whether a mark between thousands was taken out.
    pub(super) grouped: bool,
}

/// How to read the cells of one file.
pub(super) struct Cells {
    decimal: char,
    missing: Vec<String>,
    /// Numbers that mean missing: -200 may be written -200,0 in another column.
    missing_numbers: Vec<Decimal>,
    good: Vec<String>,
    bad: Vec<String>,
}

impl Cells {
    /// With this decimal mark, and the words of the map besides our own.
    pub(super) fn new(decimal: char, map: &Map) -> Cells {
        let with = |ours: &[&str], more: &[String]| {
            ours.iter().map(|word| word.to_string()).chain(more.iter().map(|word| word.trim().to_lowercase())).collect()
        };
        let mut cells = Cells {
            decimal,
            missing: with(MISSING, &map.missing),
            missing_numbers: Vec::new(),
            good: with(GOOD, &map.good),
            bad: with(BAD, &map.bad),
        };
        cells.missing_numbers = map.missing.iter().filter_map(|word| Some(cells.number(word.trim())?.decimal)).collect();
        cells
    }

    /// Whether the cell says that there is nothing.
    pub(super) fn is_missing(&self, cell: &str) -> bool {
        cell.is_empty() || has(&self.missing, cell)
    }

    /// The verdict it states.
    pub(super) fn verdict(&self, cell: &str) -> Option<bool> {
        if has(&self.good, cell) {
            return Some(true);
        }
        has(&self.bad, cell).then_some(false)
    }

    /// The value it holds; none if it is neither number, verdict nor a word for missing.
    pub(super) fn measured(&self, cell: &str) -> Option<Measured> {
        if self.is_missing(cell) {
            return Some(Measured::Missing);
        }
        if let Some(number) = self.number(cell) {
            if self.missing_numbers.iter().any(|missing| missing.compare(&number.decimal).is_eq()) {
                return Some(Measured::Missing);
            }
            return Some(Measured::Number(number.decimal, (!number.exact).then(|| cell.to_owned())));
        }
        self.verdict(cell).map(Measured::Good)
    }

    /// The number it holds.
    pub(super) fn number(&self, cell: &str) -> Option<Number> {
        let starts_like_one = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b',') || *byte == 0xe2;
        cell.as_bytes().first().filter(|byte| starts_like_one(byte))?;
        if let Some(decimal) = self.plain(cell) {
            return Some(Number { decimal, exact: self.gives_back(&decimal, cell), grouped: false });
        }
        let plain = cell.replace('\u{2212}', "-");
        let (plain, grouped) = match self.ungrouped(&plain) {
            Some(ungrouped) => (ungrouped, true),
            None => (plain, false),
        };
        Some(Number { decimal: self.plain(&plain).or_else(|| self.long(&plain))?, exact: false, grouped })
    }

    fn plain(&self, text: &str) -> Option<Decimal> {
        Decimal::read(text, self.decimal).ok()
    }

    fn gives_back(&self, decimal: &Decimal, cell: &str) -> bool {
        let shown = decimal.to_string();
        shown.len() == cell.len()
            && shown.chars().zip(cell.chars()).all(|(ours, theirs)| ours == theirs || (ours == '.' && theirs == self.decimal))
    }

    /// `1.234.567,8` without its thousands marks, if that is what they are.
    fn ungrouped(&self, text: &str) -> Option<String> {
        let (whole, fraction) = text.split_once(self.decimal).map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
        let digits = whole.trim_start_matches(['-', '+']);
        let mark = digits.chars().find(|letter| !letter.is_ascii_digit())?;
        if mark == self.decimal || !matches!(mark, '.' | ',' | '\'' | '’' | ' ' | '\u{a0}' | '\u{2009}' | '\u{202f}') {
            return None;
        }
        let mut groups = digits.split(mark);
        let first = groups.next()?;
        let all_digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
        if !(1..=3).contains(&first.len()) || !all_digits(first) || !groups.all(|group| group.len() == 3 && all_digits(group)) {
            return None;
        }
        let whole = whole.replace(mark, "");
        Some(fraction.map_or(whole.clone(), |fraction| format!("{whole}{}{fraction}", self.decimal)))
    }

    /// More digits than a decimal of ours can hold: the nearest one, beside the source's text.
    fn long(&self, text: &str) -> Option<Decimal> {
        let text = text.replace(self.decimal, ".");
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let number_only = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
        if digits < 18 || !number_only {
            return None;
        }
        Decimal::rounded(text.parse().ok()?, 17)
    }
}

fn has(words: &[String], cell: &str) -> bool {
    // No word of ours is long, and most cells are numbers: do not fold each of them.
    if cell.len() > 40 {
        return false;
    }
    words.iter().any(|word| word == cell)
        || (cell.bytes().any(|byte| byte.is_ascii_uppercase() || byte >= 128) && words.contains(&cell.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(decimal: char) -> Cells {
        Cells::new(decimal, &Map { missing: vec!["-200".into()], good: vec!["1A".into()], ..Map::default() })
    }

    #[test]
    fn numbers_keep_their_digits() {
        let check = |mark: char, cell: &str, expected: &str, text: bool| {
            let expected = Measured::Number(expected.parse().unwrap(), text.then(|| cell.to_owned()));
            assert_eq!(cells(mark).measured(cell), Some(expected), "{cell}");
        };
        check(',', "12,50", "12.50", false);
        check('.', "0.0010", "0.0010", false);
        check('.', "-3", "-3", false);
        check('.', "+3.0", "3.0", true);
        check('.', ".5", "0.5", true);
        check('.', "007", "7", true);
        check(',', "1.001", "1001", true);
        check('.', "1,001.0", "1001.0", true);
        check(',', "1 234 567,8", "1234567.8", true);
        check('.', "1'000", "1000", true);
        check('.', "5.5e2", "5.5e2", true);
        check('.', "\u{2212}4.2", "-4.2", true);
        assert!(matches!(cells('.').measured("0.1000000000000000055511151231257827"), Some(Measured::Number(_, Some(_)))));
    }

    #[test]
    fn missing_is_never_zero_and_words_are_verdicts() {
        for cell in ["", "-", "n/a", "NaN", "#NV", "-200", "-200.0", "Nicht gemessen"] {
            assert_eq!(cells('.').measured(cell), Some(Measured::Missing), "{cell}");
        }
        for (cell, good) in [("PASS", true), ("i.O.", true), ("n.i.O.", false), ("NOK", false), ("1a", true)] {
            assert_eq!(cells('.').measured(cell), Some(Measured::Good(good)), "{cell}");
        }
        for cell in ["abc", "1,5", "1.2.3", "12 mm", "0x10", "<0.5", "1,00"] {
            assert_eq!(cells('.').measured(cell), None, "{cell}");
        }
    }
}
