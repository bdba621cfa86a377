//! One characteristic as the rows tell it: what was asked as text, until all is told; what was measured, as values.

use lotline_schema::draft::{Fault, Place};
use lotline_schema::kind::inspection::{Characteristic, Limit, Measured, Statistics};
use lotline_schema::{Decimal, unit};

use super::cell::Cells;
use super::faults::Found;
use super::map::Map;
use super::meaning::Meaning;

/// Units in capitals or in full, as some machines write them; only where no other unit can be meant.
#[rustfmt::skip]
const UNITS: &[(&str, &str)] = &[
    ("MM", "mm"), ("Mm", "mm"), ("CM", "cm"), ("DEG", "deg"), ("Deg", "deg"), ("degree", "deg"), ("degrees", "deg"), ("Degrees", "deg"),
    ("IN", "in"), ("INCH", "inch"), ("Inch", "inch"), ("inches", "inch"), ("millimeter", "mm"), ("Millimeter", "mm"), ("micron", "µm"),
    ("KG", "kg"), ("NM", "Nm"), ("MPA", "MPa"), ("percent", "%"), ("Prozent", "%"), ("º", "°"),
];

/// Features whose deviation cannot be below 0.
#[rustfmt::skip]
const FORM_OR_POSITION: &[&str] = &[
    "flatness", "straightness", "roundness", "circularity", "cylindricity", "perpendicularity", "squareness", "parallelism", "angularity",
    "position", "concentricity", "coaxiality", "symmetry", "runout", "run-out", "run out", "profile", "ebenheit", "geradheit", "rundheit",
    "zylindrizität", "zylinderform", "rechtwinkligkeit", "parallelität", "neigung", "konzentrizität", "koaxialität", "symmetrie", "rundlauf",
    "planlauf", "gesamtlauf", "linienprofil", "flächenprofil", "linienform", "flächenform",
];

/// A value of one piece, as the file has it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) measured: Measured,
    pub(super) good: Option<bool>,
    pub(super) row: u32,
}

/// A text that specifies the characteristic, where it stands first, and where another row says otherwise.
#[derive(Clone, Debug)]
struct Told {
    meaning: Meaning,
    text: String,
    place: Place,
    disputed: Option<(String, Place)>,
}

/// A characteristic being gathered.
#[derive(Clone, Debug)]
pub(super) struct Gathered {
    pub(super) name: String,
    /// The number the file gives it.
    pub(super) position: Option<u32>,
    /// By piece; none where the file has no row.
    pub(super) entries: Vec<Option<Entry>>,
    told: Vec<Told>,
}

/// What turns gathered text into a characteristic.
pub(super) struct Judge<'a> {
    pub(super) cells: &'a Cells,
    pub(super) map: &'a Map,
    pub(super) special: &'a [String],
    pub(super) found: &'a mut Found,
    pub(super) notes: &'a mut Vec<String>,
}

impl Gathered {
    /// Nothing known but the name.
    pub(super) fn new(name: &str, position: Option<u32>) -> Gathered {
        Gathered { name: name.into(), position, entries: Vec::new(), told: Vec::new() }
    }

    /// Notes what a cell says about the characteristic; every row must say the same.
    pub(super) fn tell(&mut self, meaning: Meaning, text: &str, place: Place, cells: &Cells) {
        let Some(told) = self.told.iter_mut().find(|told| told.meaning == meaning) else {
            if !cells.is_missing(text) {
                self.told.push(Told { meaning, text: text.into(), place, disputed: None });
            }
            return;
        };
        if told.text != text && told.disputed.is_none() && !meaning.is_statistic() && !cells.is_missing(text) {
            let same = |a, b| cells.number(a).zip(cells.number(b)).is_some_and(|(a, b)| a.decimal.compare(&b.decimal).is_eq());
            if !same(&told.text, text) {
                told.disputed = Some((text.into(), place));
            }
        }
    }

    /// The characteristic at this position of the record, with one value for each of the pieces.
    pub(super) fn finish(self, position: u32, pieces: usize, judge: &mut Judge) -> Characteristic {
        let path = format!("characteristics[{position}]");
        for told in &self.told {
            if let Some((other, place)) = &told.disputed {
                let what =
                    format!("`{}` has {} `{}` in row {} and `{other}` here", self.name, told.meaning.name(), told.text, told.place.row);
                judge.found.push(
                    Fault::new(format!("{path}.{}", told.meaning.name()), what)
                        .at(Some(*place))
                        .hint("one characteristic has one specification"),
                );
            }
        }
        let mut figure = |meaning: Meaning| self.figure(meaning, &path, judge);
        let nominal = figure(Meaning::Nominal);
        let (lower, upper) = (figure(Meaning::Lower), figure(Meaning::Upper));
        let tolerances = (figure(Meaning::LowerTolerance), figure(Meaning::UpperTolerance));
        let stated = Statistics {
            n: figure(Meaning::N).map_or(0, |n| n.to_f64() as u64),
            mean: figure(Meaning::Mean),
            s: figure(Meaning::S),
            min: figure(Meaning::Min),
            max: figure(Meaning::Max),
            cp: figure(Meaning::Cp),
            cpk: figure(Meaning::Cpk),
            pp: figure(Meaning::Pp),
            ppk: figure(Meaning::Ppk),
        };
        let (lower, upper) = self.with_tolerances(nominal, (lower, upper), tolerances, &path, judge);
        let text = |meaning| self.told(meaning).map(|told| told.text.clone());
        let feature = text(Meaning::Feature);
        let limit = |figure: Option<Decimal>| figure.map_or(Limit::None, Limit::Limit);
        let (lower, upper) = match (lower, upper) {
            (None, Some(upper)) if is_form_or_position(feature.as_deref(), &self.name, nominal) => {
                if upper.mantissa() < 0 {
                    let what = format!("`{}` has the upper limit {upper}, although it cannot be below 0: kept as the file says", self.name);
                    judge.notes.push(what);
                }
                (Limit::Natural(Decimal::whole(0)), Limit::Limit(upper))
            }
            (lower, upper) => (limit(lower), limit(upper)),
        };
        let place = self.told(Meaning::Upper).or(self.told(Meaning::Lower)).or(self.told.first()).map(|told| told.place);
        if let (Limit::Limit(low), Limit::Limit(high)) = (lower, upper)
            && low.compare(&high).is_gt()
        {
            let what = format!("limits swapped on `{}`: lower {low} is above upper {high}", self.name);
            judge.found.push(Fault::new(format!("{path}.limits"), what).at(place).hint("swap them in the file"));
        }
        let class = text(Meaning::Class).or_else(|| {
            let named = judge.special.iter().any(|special| *special == self.name || *special == position.to_string());
            named.then(|| "special".to_owned())
        });
        let unit = self.unit(&path, judge);
        let any_good = self.entries.iter().flatten().any(|entry| entry.good.is_some());
        let row = self.entries.iter().flatten().next().map(|entry| entry.row);
        let mut characteristic = Characteristic {
            position,
            name: self.name,
            class,
            feature,
            unit,
            nominal,
            lower,
            upper,
            values: Vec::with_capacity(pieces),
            stated_good: Vec::new(),
            stated: (stated != Statistics::default()).then_some(stated),
            place: place.or(row.map(|row| Place { row: row.into(), column: None })),
        };
        for entry in self.entries.into_iter().chain(std::iter::repeat(None)).take(pieces) {
            let good = entry.as_ref().and_then(|entry| entry.good);
            characteristic.values.push(entry.map_or(Measured::Missing, |entry| entry.measured));
            if any_good {
                characteristic.stated_good.push(good);
            }
        }
        characteristic
    }

    fn told(&self, meaning: Meaning) -> Option<&Told> {
        self.told.iter().find(|told| told.meaning == meaning)
    }

    fn figure(&self, meaning: Meaning, path: &str, judge: &mut Judge) -> Option<Decimal> {
        let told = self.told(meaning)?;
        let Some(number) = judge.cells.number(&told.text) else {
            let fault = Fault::new(format!("{path}.{}", meaning.name()), format!("`{}` of `{}` is not a number", told.text, self.name));
            judge.found.push(fault.at(Some(told.place)));
            return None;
        };
        if number.grouped {
            judge.notes.push(format!("`{}` in row {} is read as {}: a mark between thousands", told.text, told.place.row, number.decimal));
        }
        Some(number.decimal)
    }

    /// Limits given as allowances around the nominal. Columns called tolerance hold limits in some programs: numbers on
    /// one side of 0 with the nominal between them are those.
    fn with_tolerances(
        &self,
        nominal: Option<Decimal>,
        limits: (Option<Decimal>, Option<Decimal>),
        tolerances: (Option<Decimal>, Option<Decimal>),
        path: &str,
        judge: &mut Judge,
    ) -> (Option<Decimal>, Option<Decimal>) {
        if tolerances == (None, None) {
            return limits;
        }
        let Some(nominal) = nominal else {
            // A form tolerance has no nominal: it is the upper limit.
            return (limits.0, limits.1.or(tolerances.1));
        };
        if let (Some(low), Some(high)) = tolerances
            && low.compare(&nominal).is_le()
            && nominal.compare(&high).is_le()
            && (low.mantissa() > 0 || high.mantissa() < 0)
        {
            return (limits.0.or(Some(low)), limits.1.or(Some(high)));
        }
        let mut around = |tolerance: Option<Decimal>| {
            let sum = sum(nominal, tolerance?);
            if sum.is_none() {
                judge.found.push(Fault::new(format!("{path}.limits"), format!("nominal and tolerance of `{}` do not add up", self.name)));
            }
            sum
        };
        (limits.0.or_else(|| around(tolerances.0)), limits.1.or_else(|| around(tolerances.1)))
    }

    fn unit(&self, path: &str, judge: &mut Judge) -> Option<String> {
        let told = self.told(Meaning::Unit)?;
        if let Some(written) = judge.map.units.get(&told.text) {
            return Some(written.clone());
        }
        if unit::known(&told.text) {
            return Some(told.text.clone());
        }
        if let Some((_, meant)) = UNITS.iter().find(|(written, _)| *written == told.text) {
            let note = format!("unit `{}` is read as `{meant}`", told.text);
            if !judge.notes.contains(&note) {
                judge.notes.push(note);
            }
            return Some((*meant).to_owned());
        }
        let hint = match unit::nearest(&told.text) {
            Some(near) => format!("did you mean `{near}`? a unit of your own goes under [units] in a --map file"),
            None => "a unit of your own goes under [units] in a --map file".into(),
        };
        let fault = Fault::new(format!("{path}.unit"), format!("unknown unit `{}` on `{}`", told.text, self.name));
        judge.found.push(fault.at(Some(told.place)).hint(hint));
        None
    }
}

fn sum(a: Decimal, b: Decimal) -> Option<Decimal> {
    let exponent = a.exponent().min(b.exponent());
    let scaled = |number: Decimal| {
        let shift = u32::try_from(number.exponent() - exponent).ok()?;
        10i128.checked_pow(shift)?.checked_mul(number.mantissa().into())
    };
    Decimal::new(i64::try_from(scaled(a)?.checked_add(scaled(b)?)?).ok()?, exponent)
}

/// By the kind of feature where the file has one, else by the name; a nominal other than 0 says that it is a dimension.
fn is_form_or_position(feature: Option<&str>, name: &str, nominal: Option<Decimal>) -> bool {
    match feature {
        Some(feature) => {
            let feature = feature.to_lowercase();
            FORM_OR_POSITION.iter().any(|word| feature.contains(word))
        }
        None => {
            nominal.is_none_or(|nominal| nominal.mantissa() == 0)
                && FORM_OR_POSITION.iter().any(|word| has_word(&name.to_lowercase(), word))
        }
    }
}

/// `flatness 1` and `rundlaufabweichung`, but neither `composition` nor `profiltiefe`.
fn has_word(name: &str, word: &str) -> bool {
    name.match_indices(word).any(|(at, _)| {
        let after = &name[at + word.len()..];
        let after = after.strip_prefix('s').unwrap_or(after);
        let ends =
            !after.starts_with(char::is_alphabetic) || ["abweichung", "toleranz", "fehler"].iter().any(|tail| after.starts_with(tail));
        ends && !name[..at].ends_with(char::is_alphabetic)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(told: &[(Meaning, &str)], name: &str) -> (Characteristic, Vec<String>, Vec<String>) {
        let (map, mut found, mut notes) = (Map::default(), Found::default(), Vec::new());
        let cells = Cells::new('.', &map);
        let mut gathered = Gathered::new(name, None);
        for (at, (meaning, text)) in told.iter().enumerate() {
            gathered.tell(*meaning, text, Place { row: at as u64 + 2, column: None }, &cells);
        }
        let of = gathered.finish(1, 0, &mut Judge { cells: &cells, map: &map, special: &[], found: &mut found, notes: &mut notes });
        let faults = match found.none() {
            Err(super::super::ImportError::Faults(faults)) => faults.0.iter().map(|fault| fault.to_string()).collect(),
            _ => Vec::new(),
        };
        (of, faults, notes)
    }

    #[test]
    fn limits_from_tolerances() {
        let check = |nominal: &str, low: &str, high: &str, expected: [&str; 2]| {
            let (of, faults, _) =
                finish(&[(Meaning::Nominal, nominal), (Meaning::LowerTolerance, low), (Meaning::UpperTolerance, high)], "Ø 10");
            assert!(faults.is_empty());
            assert_eq!([of.lower, of.upper].map(|limit| limit.figure().unwrap().to_string()), expected);
        };
        check("10", "-0.05", "0.10", ["9.95", "10.10"]);
        check("10.0", "0.1", "0.25", ["10.1", "10.25"]);
        check("10", "9.5", "10.5", ["9.5", "10.5"]);
    }

    #[test]
    fn form_and_position_have_a_natural_boundary() {
        let natural = |name: &str, told: &[(Meaning, &str)]| {
            finish(&[&[(Meaning::Upper, "0.5")], told].concat(), name).0.lower == Limit::Natural(Decimal::whole(0))
        };
        for name in ["Flatness Datum A", "FLATNESS1", "Position 1", "Ebenheit", "Rundlaufabweichung A"] {
            assert!(natural(name, &[]), "{name}");
        }
        assert!(natural("M7", &[(Meaning::Feature, "CircularRunout")]));
        assert!(!natural("Composition C", &[]));
        assert!(!natural("Position X", &[(Meaning::Nominal, "12")]));
        assert!(!natural("Position X", &[(Meaning::Feature, "Length")]));
        assert!(!natural("Ebenheit", &[(Meaning::Lower, "0")]));
        assert_eq!(finish(&[], "Flatness").0.lower, Limit::None);
    }

    #[test]
    fn contradictions_inside_the_file_are_faults() {
        let (_, faults, _) = finish(&[(Meaning::Upper, "0.5"), (Meaning::Upper, "0.50"), (Meaning::Upper, "0.6")], "A");
        assert_eq!(
            faults,
            ["row 4: characteristics[1].upper: `A` has upper `0.5` in row 2 and `0.6` here (one characteristic has one specification)"]
        );
        let (_, faults, _) = finish(&[(Meaning::Unit, "furlong")], "A");
        assert!(faults[0].starts_with("row 2: characteristics[1].unit: unknown unit `furlong` on `A`"), "{faults:?}");
    }
}
