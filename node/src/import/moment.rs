//! A date, with or without a time of day, as a table writes it. A zone is kept where written and never invented.

use jiff::civil::{Date, DateTime};

/// Whether 07/11/2017 is in November or in July.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slashes {
    DayFirst,
    MonthFirst,
}

impl Slashes {
    /// What one date shows, if it shows anything.
    pub(super) fn shown_by(cell: &str) -> Option<Slashes> {
        let mut parts = cell.split(['/', ' ']);
        let (first, second) = (parts.next()?.parse::<u8>().ok()?, parts.next()?.parse::<u8>().ok()?);
        match (first > 12, second > 12) {
            (true, false) => Some(Slashes::DayFirst),
            (false, true) => Some(Slashes::MonthFirst),
            _ => None,
        }
    }
}

/// A point in local time, and its text in ISO form with no more precision than its source.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Moment {
    at: DateTime,
    text: String,
}

impl Moment {
    /// ISO text, as in `2017-07-11T09:16`.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Reads ISO, `11.07.2017 09:16[:18]`, `7/11/2017 9:16 AM` where the order is known, or the day number of Excel.
    pub(super) fn read(cell: &str, time: &str, slashes: Option<Slashes>) -> Option<Moment> {
        if let Ok(number) = cell.replace(',', ".").parse::<f64>() {
            return Moment::of_excel(number);
        }
        let (date, rest) = match cell.find([' ', 'T', ',']) {
            Some(at) => (&cell[..at], cell[at + 1..].trim()),
            None => (cell, ""),
        };
        let date = read_date(date, slashes)?;
        Moment::of(date, if rest.is_empty() { time.trim() } else { rest })
    }

    fn of(date: Date, clock: &str) -> Option<Moment> {
        if clock.is_empty() {
            return Some(Moment { at: date.at(0, 0, 0, 0), text: date.to_string() });
        }
        let (clock, zone) = split_zone(clock)?;
        let (clock, afternoon) = match clock.to_ascii_lowercase() {
            lower if lower.ends_with("pm") => (clock[..clock.len() - 2].trim_end(), Some(true)),
            lower if lower.ends_with("am") => (clock[..clock.len() - 2].trim_end(), Some(false)),
            _ => (clock.trim_end_matches("Uhr").trim_end(), None),
        };
        let (whole, fraction) = match clock.rsplit_once(['.', ',']) {
            Some((whole, fraction)) if whole.contains(':') => (whole, Some(fraction)),
            _ => (clock, None),
        };
        let mut parts = whole.split([':', '.']).map(|part| part.parse::<i8>().ok());
        let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next());
        if parts.next().is_some() || fraction.is_some_and(|digits| digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit())) {
            return None;
        }
        let hour = match afternoon {
            Some(_) if !(1..=12).contains(&hour) => return None,
            Some(true) => hour % 12 + 12,
            Some(false) => hour % 12,
            None => hour,
        };
        let nanos: String = fraction.unwrap_or("").chars().chain("000000000".chars()).take(9).collect();
        let at =
            DateTime::new(date.year(), date.month(), date.day(), hour, minute, second.unwrap_or(Some(0))?, nanos.parse().ok()?).ok()?;
        let mut text = format!("{date}T{:02}:{:02}", at.hour(), at.minute());
        if second.is_some() {
            text += &format!(":{:02}", at.second());
        }
        if let Some(fraction) = fraction {
            text += &format!(".{fraction}");
        }
        Some(Moment { at, text: text + zone })
    }

    /// Days since the end of 1899, as Excel counts; a second is the finest it keeps.
    fn of_excel(days: f64) -> Option<Moment> {
        if !(20_000.0..80_000.0).contains(&days) {
            return None;
        }
        let seconds = (days * 86_400.0).round() as i64;
        let at = DateTime::constant(1899, 12, 30, 0, 0, 0, 0).checked_add(jiff::SignedDuration::from_secs(seconds)).ok()?;
        let whole_day = days.fract() == 0.0;
        Some(Moment { at, text: if whole_day { at.date().to_string() } else { at.strftime("%Y-%m-%dT%H:%M:%S").to_string() } })
    }
}

fn read_date(text: &str, slashes: Option<Slashes>) -> Option<Date> {
    let mark = text.chars().find(|letter| !letter.is_ascii_digit())?;
    let parts: Vec<&str> = text.split(mark).collect();
    let [first, second, third] = parts[..] else { return None };
    let number = |part: &str| part.parse::<i8>().ok();
    let (year, month, day) = match (mark, first.len()) {
        ('-' | '/' | '.', 4) => (first, number(second)?, number(third)?),
        ('.', 1..=2) => (third, number(second)?, number(first)?),
        ('/', 1..=2) => match slashes? {
            Slashes::DayFirst => (third, number(second)?, number(first)?),
            Slashes::MonthFirst => (third, number(first)?, number(second)?),
        },
        _ => return None,
    };
    let year = match year.len() {
        4 => year.parse().ok()?,
        2 if year.bytes().all(|byte| byte.is_ascii_digit()) => 2000 + year.parse::<i16>().ok()?,
        _ => return None,
    };
    Date::new(year, month, day).ok()
}

/// `09:16:18+02:00` is `09:16:18` and `+02:00`.
fn split_zone(clock: &str) -> Option<(&str, &str)> {
    if let Some(clock) = clock.strip_suffix(['Z', 'z']) {
        return Some((clock, "Z"));
    }
    let Some(at) = clock.rfind(['+', '-']) else { return Some((clock, "")) };
    let (clock, zone) = clock.split_at(at);
    let well_formed =
        zone.len() == 6 && zone.bytes().enumerate().skip(1).all(|(at, byte)| if at == 3 { byte == b':' } else { byte.is_ascii_digit() });
    well_formed.then_some((clock, zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_become_iso_text() {
        #[rustfmt::skip]
        let cases = [
            ("2017-07-11T09:16:18", "2017-07-11T09:16:18"), ("2017-07-11 09:16", "2017-07-11T09:16"), ("2017-07-11", "2017-07-11"),
            ("2017-07-11T09:16:18.25Z", "2017-07-11T09:16:18.25Z"), ("2017-07-11T09:16:18+02:00", "2017-07-11T09:16:18+02:00"),
            ("11.07.2017 09:16", "2017-07-11T09:16"), ("1.7.17", "2017-07-01"), ("11.07.2017, 9:16:05", "2017-07-11T09:16:05"),
            ("42934.39201", "2017-07-18T09:24:30"), ("42934,39201", "2017-07-18T09:24:30"), ("42934", "2017-07-18"),
            ("7/18/2017 9:24:30 AM", "2017-07-18T09:24:30"), ("7/18/2017 12:05 pm", "2017-07-18T12:05"),
        ];
        for (cell, expected) in cases {
            assert_eq!(Moment::read(cell, "", Some(Slashes::MonthFirst)).unwrap().text(), expected, "{cell}");
        }
        assert_eq!(Moment::read("10/03/2004", "18.00.00", Some(Slashes::DayFirst)).unwrap().text(), "2004-03-10T18:00:00");
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for cell in
            ["", "abc", "2017-13-01", "31.02.2017", "7", "11.07.2017 25:00", "11.07.", "2017-07-11T09:16 CEST", "7/8/2017", "07:30", "-1"]
        {
            assert_eq!(Moment::read(cell, "", None), None, "{cell}");
        }
    }
}
