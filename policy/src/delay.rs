//! How long a share holds a record back after it was signed.

use std::fmt;

use jiff::Timestamp;
use lotline_schema::Facts;

/// The most hours, days or weeks of a delay.
pub const COUNT_MAX: u32 = 9999;

/// Some hours, days or weeks: `24h`, `90d`, `2w`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delay {
    count: u32,
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Hour,
    Day,
    Week,
}

impl Unit {
    const ALL: [Unit; 3] = [Unit::Hour, Unit::Day, Unit::Week];

    fn letter(self) -> char {
        match self {
            Unit::Hour => 'h',
            Unit::Day => 'd',
            Unit::Week => 'w',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Unit::Hour => "hour",
            Unit::Day => "day",
            Unit::Week => "week",
        }
    }
}

impl Delay {
    /// Reads its one spelling; none for anything else, and for a delay of nothing.
    ///
    /// ```
    /// use lotline_policy::Delay;
    /// assert_eq!(Delay::read("2w").map(Delay::seconds), Some(14 * 86_400));
    /// assert!(["24", "24hr", "30m", "0h", "024h", " 1d", "10000w"].iter().all(|wrong| Delay::read(wrong).is_none()));
    /// ```
    pub fn read(text: &str) -> Option<Delay> {
        let unit = Unit::ALL.into_iter().find(|unit| text.ends_with(unit.letter()))?;
        let digits = text.strip_suffix(unit.letter())?;
        let plain = digits.bytes().all(|digit| digit.is_ascii_digit()) && !digits.starts_with('0');
        let count = digits.parse().ok().filter(|count| plain && (1..=COUNT_MAX).contains(count))?;
        Some(Delay { count, unit })
    }

    /// What was probably meant: `24h` for `24 hours`.
    pub(crate) fn meant(text: &str) -> Option<String> {
        let digits = text.trim_start().split(|letter: char| !letter.is_ascii_digit()).next()?;
        let unit = text.trim_start()[digits.len()..].trim_start().chars().next()?.to_ascii_lowercase();
        let meant = format!("{digits}{unit}");
        Delay::read(&meant).map(|_| meant)
    }

    /// In seconds.
    pub fn seconds(self) -> i64 {
        let unit = match self.unit {
            Unit::Hour => 3_600,
            Unit::Day => 86_400,
            Unit::Week => 7 * 86_400,
        };
        i64::from(self.count) * unit
    }

    /// The first second at which a record that was signed at this one is held back no more.
    pub(crate) fn after(self, recorded: i64) -> i64 {
        recorded.saturating_add(self.seconds())
    }

    /// As people say it: `24 hours`.
    pub fn words(self) -> String {
        format!("{} {}{}", self.count, self.unit.word(), if self.count == 1 { "" } else { "s" })
    }
}

/// As the file spells it.
impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.count, self.unit.letter())
    }
}

/// When a record was signed, in seconds since 1970, a part of a second counted as a whole one: nothing opens early. None where
/// the record does not say it, or not as a moment.
///
/// ```
/// use lotline_policy::recorded;
/// use lotline_schema::Facts;
/// let at = |text: &str| recorded(&Facts { recorded_at: Some(text.into()), ..Facts::default() });
/// assert_eq!((at("1970-01-02T01:00:00+01:00"), at("1970-01-01T00:00:00.001Z")), (Some(86_400), Some(1)));
/// assert_eq!((at("1970-01-02"), at("1970-01-02T00:00:00"), recorded(&Facts::default())), (None, None, None));
/// ```
pub fn recorded(facts: &Facts) -> Option<i64> {
    let at: Timestamp = facts.recorded_at.as_deref()?.parse().ok()?;
    Some(at.as_second() + i64::from(at.subsec_nanosecond() > 0))
}
