//! The file given with `--map`: how to read the tables of one supplier or one machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use encoding_rs::Encoding;

use super::ImportError;
use super::dialect::Orientation;
use super::meaning::Meaning;
use super::moment::Slashes;

/// What a `--map` file says; everything it leaves out is recognised.
///
/// ```toml
/// columns = { "Messwert" = "value", "Bohrung" = "characteristic" }
/// units = { "furlong" = "furlong" }       # accepted, and how to write it
/// missing = ["-200"]
/// good = ["passt"]
/// bad = ["passt nicht"]
/// delimiter = ";"
/// decimal = ","
/// encoding = "windows-1252"
/// orientation = "long"                    # or "parts in rows", "characteristics in rows"
/// header_row = 5
/// dates = "day first"                     # or "month first", for 07/11/2017
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Map {
    pub(super) columns: BTreeMap<String, Meaning>,
    pub(super) units: BTreeMap<String, String>,
    pub(super) missing: Vec<String>,
    pub(super) good: Vec<String>,
    pub(super) bad: Vec<String>,
    pub(super) delimiter: Option<char>,
    pub(super) decimal: Option<char>,
    pub(super) encoding: Option<&'static Encoding>,
    pub(super) orientation: Option<Orientation>,
    pub(super) header_row: Option<u64>,
    pub(super) dates: Option<Slashes>,
}

#[rustfmt::skip]
const KEYS: &[&str] = &[
    "columns", "units", "missing", "good", "bad", "delimiter", "decimal", "encoding", "orientation", "header_row", "dates",
];

impl Map {
    /// Reads a map file.
    pub fn read(path: &Path) -> Result<Map, ImportError> {
        std::fs::read_to_string(path).map_err(ImportError::Io)?.parse()
    }

    /// The meaning it gives to a header.
    pub(super) fn meaning(&self, header: &str) -> Option<Meaning> {
        self.columns.get(header.trim()).copied()
    }

    fn set(&mut self, key: &str, value: &toml::Value) -> Result<(), ImportError> {
        match key {
            "columns" => {
                for (header, name) in pairs(key, value)? {
                    let meaning = Meaning::named(&name).ok_or_else(|| unknown(&format!("columns.{header}"), &name, Meaning::names()))?;
                    self.columns.insert(header.trim().to_owned(), meaning);
                }
            }
            "units" => self.units = pairs(key, value)?.into_iter().collect(),
            "missing" => self.missing = words(key, value)?,
            "good" => self.good = words(key, value)?,
            "bad" => self.bad = words(key, value)?,
            "delimiter" => self.delimiter = Some(letter(key, value, |letter| !matches!(letter, '"' | '\n' | '\r'))?),
            "decimal" => self.decimal = Some(letter(key, value, |letter| matches!(letter, '.' | ','))?),
            "encoding" => {
                let label = text(key, value)?;
                self.encoding = Some(
                    Encoding::for_label(label.as_bytes())
                        .ok_or_else(|| wrong(key, "names no encoding we know", "write utf-8, windows-1252 or utf-16le"))?,
                );
            }
            "orientation" => {
                let name = text(key, value)?;
                let found = Orientation::ALL.into_iter().find(|orientation| orientation.name() == name);
                self.orientation = Some(found.ok_or_else(|| unknown(key, name, Orientation::ALL.iter().map(|of| of.name())))?);
            }
            "header_row" => {
                let row = value.as_integer().and_then(|row| u64::try_from(row).ok()).filter(|row| *row > 0);
                self.header_row = Some(row.ok_or_else(|| wrong(key, "is no row number", "count from 1, as in header_row = 5"))?);
            }
            "dates" => {
                self.dates = Some(match text(key, value)? {
                    "day first" => Slashes::DayFirst,
                    "month first" => Slashes::MonthFirst,
                    other => return Err(unknown(key, other, ["day first", "month first"].into_iter())),
                });
            }
            _ => return Err(unknown("map", key, KEYS.iter().copied())),
        }
        Ok(())
    }
}

impl FromStr for Map {
    type Err = ImportError;
    fn from_str(text: &str) -> Result<Map, ImportError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ImportError::Map {
            what: error.to_string().trim().to_owned(),
            hint: "a map file is TOML, as in columns = { \"Messwert\" = \"value\" }".into(),
        })?;
        let mut map = Map::default();
        for (key, value) in &table {
            map.set(key, value)?;
        }
        Ok(map)
    }
}

fn wrong(key: &str, what: &str, hint: &str) -> ImportError {
    ImportError::Map { what: format!("`{key}` {what}"), hint: hint.into() }
}

fn unknown<'a>(key: &str, found: &str, known: impl Iterator<Item = &'a str>) -> ImportError {
    let known: Vec<&str> = known.collect();
    let near = known
        .iter()
        .min_by_key(|name| lotline_schema::text_distance(name, found))
        .filter(|name| lotline_schema::text_distance(name, found) <= 2);
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write one of {}", known.join(", ")),
    };
    ImportError::Map { what: format!("`{key}` does not know `{found}`"), hint }
}

fn text<'a>(key: &str, value: &'a toml::Value) -> Result<&'a str, ImportError> {
    value.as_str().ok_or_else(|| wrong(key, "is no text", &format!("write it in quotes, as in {key} = \"…\"")))
}

fn letter(key: &str, value: &toml::Value, fits: impl Fn(char) -> bool) -> Result<char, ImportError> {
    let mut letters = text(key, value)?.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) if fits(letter) => Ok(letter),
        _ => Err(wrong(key, "is one character", "as in delimiter = \";\" or decimal = \",\"")),
    }
}

fn words(key: &str, value: &toml::Value) -> Result<Vec<String>, ImportError> {
    let texts = value.as_array().and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
    texts.ok_or_else(|| wrong(key, "is no list of texts", &format!("as in {key} = [\"-200\", \"n/a\"]")))
}

fn pairs(key: &str, value: &toml::Value) -> Result<Vec<(String, String)>, ImportError> {
    let pairs = value.as_table().and_then(|table| table.iter().map(|(from, to)| Some((from.clone(), to.as_str()?.to_owned()))).collect());
    pairs.ok_or_else(|| wrong(key, "is no table of texts", &format!("as in {key} = {{ \"here\" = \"there\" }}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_whole() {
        let map: Map = r#"
            columns = { "Bohrung " = "characteristic", "Notiz" = "ignore" }
            units = { "furlong" = "furlong" }
            missing = ["-200"]
            delimiter = "|"
            decimal = ","
            encoding = "latin1"
            orientation = "parts in rows"
            header_row = 3
            dates = "day first"
        "#
        .parse()
        .unwrap();
        assert_eq!(map.meaning("Bohrung"), Some(Meaning::Characteristic));
        assert_eq!((map.delimiter, map.decimal, map.header_row), (Some('|'), Some(','), Some(3)));
        assert_eq!(map.encoding.unwrap().name(), "windows-1252");
        assert_eq!(map.orientation, Some(Orientation::PartsInRows));
    }

    #[test]
    fn what_a_map_does_not_know_is_refused_with_a_hint() {
        let cases = [
            ("colums = { a = \"value\" }", "did you mean `columns`"),
            ("columns = { a = \"vallue\" }", "did you mean `value`"),
            ("delimiter = \"ab\"", "is one character"),
            ("decimal = \"x\"", "is one character"),
            ("encoding = \"klingon\"", "utf-8"),
            ("orientation = \"wide\"", "parts in rows"),
            ("header_row = 0", "count from 1"),
            ("missing = \"x\"", "list of texts"),
            ("columns = ", "TOML"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Map>().unwrap_err();
            let shown = format!("{error} {}", error.hint().unwrap_or_default());
            assert!(shown.contains(expected), "{text}: {shown}");
        }
    }
}
