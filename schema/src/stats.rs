//! Statistics of one characteristic, by the rules of the design:
//!
//! - Pp, Ppk with the standard deviation of all values (n − 1);
//! - Cp, Cpk with sigma = mean moving range / 1.128 (d2 for n = 2), in file order;
//! - a natural boundary (0 for a form or position feature) counts for Cp and Pp, never for Cpk and Ppk;
//! - a side without a figure leaves out the index that needs it.
//!
//! Sums are exact (128-bit integers over a common exponent) wherever they fit, so that instrument digits do not drown.

use crate::decimal::Decimal;
use crate::kind::inspection::{Limit, Statistics};

/// The rules in words; stands beside the figures in every record.
pub const METHOD: &str = "Cp, Cpk: sigma = mean moving range / 1.128 in file order; Pp, Ppk: standard deviation n-1; \
natural boundary counts for Cp and Pp only";

/// Expected range of two values of a normal distribution with sigma 1.
const D2: f64 = 1.128;
/// Digits kept of a computed figure.
const SIGNIFICANT: usize = 8;

/// Mean and standard deviation (n − 1) of the values; the deviation from two values on.
pub fn mean_and_deviation(values: &[Decimal]) -> (Option<f64>, Option<f64>) {
    match exact_sums(values) {
        Some((sum, spread, exponent)) => {
            let n = values.len() as f64;
            let scale = 10f64.powi(i32::from(exponent.unsigned_abs()));
            let scaled = |number: f64| if exponent < 0 { number / scale } else { number * scale };
            let mean = (!values.is_empty()).then(|| scaled(sum as f64 / n));
            let deviation = (values.len() > 1).then(|| scaled((spread as f64 / n / (n - 1.0)).sqrt()));
            (mean, deviation)
        }
        None => in_floats(&values.iter().map(Decimal::to_f64).collect::<Vec<_>>()),
    }
}

/// Σx and nΣx² − (Σx)² over the smallest exponent, if they fit.
fn exact_sums(values: &[Decimal]) -> Option<(i128, i128, i8)> {
    let exponent = values.iter().map(Decimal::raw_exponent).min().unwrap_or(0);
    let (mut sum, mut squares) = (0i128, 0i128);
    for value in values {
        let scaled = value.at(exponent)?;
        sum = sum.checked_add(scaled)?;
        squares = squares.checked_add(scaled.checked_mul(scaled)?)?;
    }
    let n = i128::try_from(values.len()).ok()?;
    let spread = n.checked_mul(squares)?.checked_sub(sum.checked_mul(sum)?)?;
    Some((sum, spread, exponent))
}

fn in_floats(values: &[f64]) -> (Option<f64>, Option<f64>) {
    let n = values.len() as f64;
    let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / n);
    let deviation = mean.filter(|_| values.len() > 1).map(|mean| {
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        // The second term takes back what rounding of the mean put in (Chan, Golub, LeVeque).
        let drift: f64 = values.iter().map(|value| value - mean).sum();
        ((squares - drift * drift / n) / (n - 1.0)).sqrt()
    });
    (mean, deviation)
}

/// Mean moving range / 1.128, in the order given; from two values on.
fn short_term_sigma(values: &[Decimal]) -> Option<f64> {
    let moves = values.len().checked_sub(1).filter(|moves| *moves > 0)?;
    let floats: Vec<f64> = values.iter().map(Decimal::to_f64).collect();
    let range: f64 = floats.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum();
    Some(range / moves as f64 / D2)
}

/// Everything we state about one characteristic's valid values.
///
/// ```
/// use lotline_schema::{Decimal, kind::inspection::Limit, stats};
/// let values: Vec<Decimal> = ["10.0", "10.2", "9.9", "10.1"].map(|v| v.parse().unwrap()).into();
/// let of = stats::of(&values, Limit::Limit("9.5".parse().unwrap()), Limit::Limit("10.5".parse().unwrap()));
/// assert_eq!(of.n, 4);
/// assert_eq!(of.mean.unwrap().to_string(), "10.05");
/// ```
pub fn of(values: &[Decimal], lower: Limit, upper: Limit) -> Statistics {
    let (mean, overall) = mean_and_deviation(values);
    let keep = |figure: Option<f64>| figure.and_then(|figure| Decimal::rounded(figure, SIGNIFICANT));
    let (cp, cpk) = indices(mean, short_term_sigma(values), lower, upper);
    let (pp, ppk) = indices(mean, overall, lower, upper);
    Statistics {
        n: values.len() as u64,
        mean: keep(mean),
        s: keep(overall),
        min: values.iter().copied().min_by(Decimal::compare),
        max: values.iter().copied().max_by(Decimal::compare),
        cp: keep(cp),
        cpk: keep(cpk),
        pp: keep(pp),
        ppk: keep(ppk),
    }
}

/// The index of the width and the index of the nearer limit.
fn indices(mean: Option<f64>, sigma: Option<f64>, lower: Limit, upper: Limit) -> (Option<f64>, Option<f64>) {
    let (Some(mean), Some(sigma)) = (mean, sigma.filter(|sigma| *sigma > 0.0)) else {
        return (None, None);
    };
    let figure = |limit: Limit| limit.figure().map(|figure| figure.to_f64());
    let width = figure(upper).zip(figure(lower)).map(|(upper, lower)| (upper - lower) / (6.0 * sigma));
    let hard = |limit: Limit| matches!(limit, Limit::Limit(_)).then(|| figure(limit)).flatten();
    let above = hard(upper).map(|upper| (upper - mean) / (3.0 * sigma));
    let below = hard(lower).map(|lower| (mean - lower) / (3.0 * sigma));
    let nearer = match (above, below) {
        (Some(above), Some(below)) => Some(above.min(below)),
        (one, other) => one.or(other),
    };
    (width, nearer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimals(texts: &[&str]) -> Vec<Decimal> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// NIST StRD univariate NumAcc1 and NumAcc2: the digits must not drown in the offset.
    #[test]
    fn nist_numerical_accuracy() {
        let (mean, s) = mean_and_deviation(&decimals(&["10000001", "10000003", "10000002"]));
        assert_eq!((mean, s), (Some(10_000_002.0), Some(1.0)));
        let mut values = vec!["1.2".to_owned()];
        for _ in 0..500 {
            values.extend(["1.1".to_owned(), "1.3".to_owned()]);
        }
        let values: Vec<Decimal> = values.iter().map(|text| text.parse().unwrap()).collect();
        let (mean, s) = mean_and_deviation(&values);
        assert!((mean.unwrap() - 1.2).abs() < 1e-15);
        assert!((s.unwrap() - 0.1).abs() < 1e-15);
    }

    #[test]
    fn a_natural_boundary_counts_for_the_width_only() {
        let values = decimals(&["0.003", "0.004", "0.003", "0.004"]);
        let of = of(&values, Limit::Natural(Decimal::whole(0)), Limit::Limit("0.5".parse().unwrap()));
        assert!(of.cpk.unwrap().to_f64() > of.cp.unwrap().to_f64());
    }

    #[test]
    fn no_spread_gives_no_index_and_one_value_no_deviation() {
        let limits = (Limit::Limit(Decimal::whole(0)), Limit::Limit(Decimal::whole(2)));
        let flat = of(&decimals(&["1", "1", "1"]), limits.0, limits.1);
        assert_eq!((flat.cp, flat.cpk, flat.ppk), (None, None, None));
        let one = of(&decimals(&["1"]), limits.0, limits.1);
        assert_eq!((one.n, one.s, one.mean), (1, None, Some(Decimal::whole(1))));
        assert_eq!(of(&[], limits.0, limits.1).n, 0);
    }
}
