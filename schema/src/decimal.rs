//! Decimal numbers as instruments write them: 12.50 is not 12.5 (RFC 8949 tag 4, no floats anywhere).

use std::cmp::Ordering;
use std::fmt;

/// `mantissa` × 10^`exponent`, keeping the digits of the source (12.50 is mantissa 1250, exponent −2).
///
/// Equality is of the digits; use [`Decimal::compare`] for the value.
///
/// ```
/// use lotline_schema::Decimal;
/// let a: Decimal = "12.50".parse().unwrap();
/// assert_eq!(a.to_string(), "12.50");
/// assert_ne!(a, "12.5".parse().unwrap());
/// assert!(a.compare(&"12.5".parse().unwrap()).is_eq());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Decimal {
    mantissa: i64,
    exponent: i8,
}

/// Text that is no decimal number we can keep exactly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a number")]
pub struct NotANumber(pub String);

impl Decimal {
    /// From mantissa and exponent; the exponent is held to −64..=64, wide enough for any gauge.
    pub fn new(mantissa: i64, exponent: i64) -> Option<Decimal> {
        let exponent = i8::try_from(exponent).ok().filter(|e| (-64..=64).contains(e))?;
        Some(Decimal { mantissa, exponent })
    }

    /// The whole number.
    pub fn whole(number: i64) -> Decimal {
        Decimal { mantissa: number, exponent: 0 }
    }

    /// The digits.
    pub fn mantissa(&self) -> i64 {
        self.mantissa
    }

    /// The power of ten.
    pub fn exponent(&self) -> i64 {
        self.exponent.into()
    }

    /// Reads `[+-]digits[mark digits][e[+-]digits]`.
    pub fn read(text: &str, mark: char) -> Result<Decimal, NotANumber> {
        Self::digits(text, mark).ok_or_else(|| NotANumber(text.into()))
    }

    fn digits(text: &str, mark: char) -> Option<Decimal> {
        let (number, power) = match text.split_once(['e', 'E']) {
            Some((number, power)) => (number, power.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (negative, number) = match number.as_bytes().first()? {
            b'-' => (true, &number[1..]),
            b'+' => (false, &number[1..]),
            _ => (false, number),
        };
        let (whole, fraction) = number.split_once(mark).unwrap_or((number, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let mut mantissa: i64 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            mantissa = mantissa.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
        }
        let exponent = power.checked_sub(fraction.len() as i64)?;
        Decimal::new(if negative { -mantissa } else { mantissa }, exponent)
    }

    /// The nearest float, for statistics and drawing; never signed or stored.
    pub fn to_f64(&self) -> f64 {
        // The text form is the exactly rounded way round; both factors below are exact when small enough.
        if self.mantissa.unsigned_abs() < 1 << 53 && self.exponent.unsigned_abs() <= 22 {
            let power = 10f64.powi(i32::from(self.exponent.unsigned_abs()));
            return if self.exponent < 0 { self.mantissa as f64 / power } else { self.mantissa as f64 * power };
        }
        format!("{}e{}", self.mantissa, self.exponent).parse().unwrap_or(f64::NAN)
    }

    /// A float with this many significant digits; none for what is not finite or out of range.
    pub fn rounded(number: f64, significant: usize) -> Option<Decimal> {
        if !number.is_finite() {
            return None;
        }
        let text = format!("{:.*e}", significant.max(1) - 1, number);
        let read = Decimal::read(&text, '.').ok()?;
        // Trailing zeros of a computed figure say nothing: drop them.
        let (mut mantissa, mut exponent) = (read.mantissa, read.exponent());
        while mantissa != 0 && mantissa % 10 == 0 && exponent < 0 {
            mantissa /= 10;
            exponent += 1;
        }
        Decimal::new(mantissa, if mantissa == 0 { 0 } else { exponent })
    }

    /// Compares values: 12.50 and 12.5 are equal here.
    pub fn compare(&self, other: &Decimal) -> Ordering {
        let low = self.exponent.min(other.exponent);
        match (self.at(low), other.at(low)) {
            (Some(a), Some(b)) => a.cmp(&b),
            // More than 38 digits apart: the signs and then the magnitudes decide.
            _ => self.to_f64().total_cmp(&other.to_f64()),
        }
    }

    /// The mantissa at a smaller exponent, if it fits.
    pub(crate) fn at(&self, exponent: i8) -> Option<i128> {
        let shift = u32::try_from(i32::from(self.exponent) - i32::from(exponent)).ok()?;
        10i128.checked_pow(shift)?.checked_mul(self.mantissa.into())
    }

    pub(crate) fn raw_exponent(&self) -> i8 {
        self.exponent
    }
}

impl std::str::FromStr for Decimal {
    type Err = NotANumber;
    fn from_str(text: &str) -> Result<Decimal, NotANumber> {
        Decimal::read(text, '.')
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let digits = self.mantissa.unsigned_abs().to_string();
        let places = usize::from(self.exponent.unsigned_abs());
        let text = match self.exponent {
            0 => format!("{sign}{digits}"),
            1.. => format!("{sign}{digits}e{}", self.exponent),
            _ if digits.len() > places => {
                let (whole, fraction) = digits.split_at(digits.len() - places);
                format!("{sign}{whole}.{fraction}")
            }
            _ => format!("{sign}0.{}{digits}", "0".repeat(places - digits.len())),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn source_digits_are_kept() {
        for text in ["12.50", "0.0010", "-0.05", "7", "-12", "0.0", "100"] {
            assert_eq!(text.parse::<Decimal>().unwrap().to_string(), text);
        }
        assert_eq!(Decimal::read("12,50", ',').unwrap(), "12.50".parse().unwrap());
        assert_eq!(Decimal::read("5.92633520000000E+0000", '.').unwrap().to_f64(), 5.926_335_2);
        for wrong in ["", "-", ".", "1,5", "1.2.3", "0x10", "NaN", "1e", "1 000", "99999999999999999999"] {
            assert!(wrong.parse::<Decimal>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn rounding_keeps_significant_digits() {
        assert_eq!(Decimal::rounded(1.333_333_333, 6).unwrap().to_string(), "1.33333");
        assert_eq!(Decimal::rounded(0.0, 6).unwrap(), Decimal::whole(0));
        assert_eq!(Decimal::rounded(148.833_333_333, 6).unwrap().to_string(), "148.833");
        assert!(Decimal::rounded(f64::NAN, 6).is_none());
    }

    proptest! {
        #[test]
        fn comparison_follows_the_value(a in -1_000_000i64..1_000_000, b in -1_000_000i64..1_000_000, x in -6i64..6, y in -6i64..6) {
            let (p, q) = (Decimal::new(a, x).unwrap(), Decimal::new(b, y).unwrap());
            let exact = (i128::from(a) * 10i128.pow((x + 6) as u32)).cmp(&(i128::from(b) * 10i128.pow((y + 6) as u32)));
            prop_assert_eq!(p.compare(&q), exact);
        }

        #[test]
        fn text_round_trips(mantissa: i64, exponent in -40i64..=0) {
            let number = Decimal::new(mantissa, exponent).unwrap();
            prop_assume!(mantissa != i64::MIN);
            prop_assert_eq!(number.to_string().parse::<Decimal>().unwrap(), number);
        }
    }
}
