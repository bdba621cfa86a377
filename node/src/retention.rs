//! How long records are kept: `[retention]` of the configuration. It knows periods and kinds, not where records are.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use lotline_schema::{kind, text_distance};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest period: nobody keeps anything longer who is asked today.
const YEARS_MAX: i32 = 200;
/// Days of statements are cut by their signer's clock, and clocks differ.
pub const SHORTEST_SLACK_SECONDS: u64 = 2 * 86_400;

/// The table `[retention]`. After these periods `status` lists a record; nothing goes by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    kinds: BTreeMap<String, Period>,
    customers: BTreeMap<String, BTreeMap<String, Period>>,
    auto_delete: bool,
}

/// A period of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Whole years.
    Years(i32),
    /// Whole months.
    Months(i32),
    /// Days.
    Days(i32),
}

impl Period {
    /// The first second at which it is over, counted from a day in seconds since 1970.
    pub fn after(self, day: u64) -> u64 {
        let span = match self {
            Period::Years(years) => jiff::Span::new().years(years),
            Period::Months(months) => jiff::Span::new().months(months),
            Period::Days(days) => jiff::Span::new().days(days),
        };
        let end = i64::try_from(day).ok().and_then(|day| jiff::Timestamp::from_second(day).ok());
        let end = end.and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).checked_add(span).ok());
        // A day that nobody can count from is never over.
        end.and_then(|end| u64::try_from(end.timestamp().as_second()).ok()).unwrap_or(u64::MAX)
    }

    fn approximate_days(self) -> i64 {
        match self {
            Period::Years(years) => i64::from(years) * 365,
            Period::Months(months) => i64::from(months) * 30,
            Period::Days(days) => days.into(),
        }
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Period, String> {
        let wrong = || format!("`{text}` is no period: write \"15y\", \"18m\" or \"90d\"");
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let count: i32 = number.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?;
        let (period, max) = match unit {
            "y" => (Period::Years(count), YEARS_MAX),
            "m" => (Period::Months(count), YEARS_MAX * 12),
            "d" => (Period::Days(count), YEARS_MAX * 366),
            _ => return Err(wrong()),
        };
        if count > max {
            return Err(format!("`{text}` is longer than {YEARS_MAX} years: leave the line out to keep records for ever"));
        }
        Ok(period)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Period::Years(years) => write!(f, "{years}y"),
            Period::Months(months) => write!(f, "{months}m"),
            Period::Days(days) => write!(f, "{days}d"),
        }
    }
}

impl Retention {
    /// How long a record of this kind is kept; of the kind's own period and the customer's the longer one.
    pub fn of(&self, kind: &str, customer: Option<&str>) -> Option<Period> {
        let theirs = customer.and_then(|customer| self.customers.get(customer)?.get(kind));
        self.kinds.get(kind).into_iter().chain(theirs).copied().max_by_key(|period| period.after(0))
    }

    /// The shortest period of all; none where everything is kept for ever.
    pub fn shortest(&self) -> Option<Period> {
        let all = self.kinds.values().chain(self.customers.values().flat_map(BTreeMap::values));
        all.copied().min_by_key(|period| period.approximate_days())
    }

    /// Whether the running node deletes by itself what was promised to partners.
    pub fn auto_delete(&self) -> bool {
        self.auto_delete
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Retention::default()
    }

    /// Reads the table; every key is a kind, but `customer`, whose tables have kinds again, and `auto_delete`.
    fn read(table: toml::Table) -> Result<Retention, String> {
        let mut retention = Retention::default();
        for (key, value) in table {
            match (key.as_str(), value) {
                ("customer", toml::Value::Table(customers)) => {
                    for (name, kinds) in customers {
                        let toml::Value::Table(kinds) = kinds else {
                            return Err(format!("[retention.customer.{name}] is a table: a line for each kind"));
                        };
                        let periods = kinds.into_iter().map(|(kind, value)| period(kind, value)).collect::<Result<_, _>>()?;
                        retention.customers.insert(name, periods);
                    }
                }
                ("auto_delete", toml::Value::Boolean(auto_delete)) => retention.auto_delete = auto_delete,
                ("auto_delete", other) => return Err(format!("[retention] auto_delete is true or false, not `{other}`")),
                ("customer", _) => return Err("write [retention.customer.NAME] with a line for each kind".into()),
                (_, value) => retention.kinds.extend([period(key, value)?]),
            }
        }
        Ok(retention)
    }
}

fn period(kind: String, value: toml::Value) -> Result<(String, Period), String> {
    let known: Vec<&str> = kind::known().iter().map(|(schema, _)| schema.name).collect();
    if !known.contains(&kind.as_str()) {
        let near = known
            .iter()
            .chain(&["customer", "auto_delete"])
            .min_by_key(|name| text_distance(name, &kind))
            .filter(|name| text_distance(name, &kind) < 4);
        let near = near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
        return Err(format!("[retention]: no kind of record is called `{kind}`{near}"));
    }
    match value {
        toml::Value::String(text) => Ok((kind, text.parse()?)),
        other => Err(format!("[retention] {kind}: `{other}` is no period: write \"15y\", \"18m\" or \"90d\"")),
    }
}

impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Retention, D::Error> {
        Retention::read(toml::Table::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

impl Serialize for Retention {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let kinds = |kinds: &BTreeMap<String, Period>| -> toml::Table {
            kinds.iter().map(|(kind, period)| (kind.clone(), toml::Value::String(period.to_string()))).collect()
        };
        let mut table = kinds(&self.kinds);
        if self.auto_delete {
            table.insert("auto_delete".into(), toml::Value::Boolean(true));
        }
        if !self.customers.is_empty() {
            let customers = self.customers.iter().map(|(name, periods)| (name.clone(), toml::Value::Table(kinds(periods)))).collect();
            table.insert("customer".into(), toml::Value::Table(customers));
        }
        table.serialize(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Retention, String> {
        Retention::read(text.parse().unwrap())
    }

    #[test]
    fn the_longer_period_counts_and_the_calendar_with_it() {
        let retention = read(
            "auto_delete = true\ninspection = \"15y\"\n[customer.oem-a]\ninspection = \"30y\"\n[customer.oem-b]\ninspection = \"18m\"",
        )
        .unwrap();
        assert_eq!(retention.of("inspection", None), Some(Period::Years(15)));
        assert_eq!(retention.of("inspection", Some("oem-a")), Some(Period::Years(30)));
        assert_eq!(retention.of("inspection", Some("oem-b")), Some(Period::Years(15)), "the longest wins");
        assert_eq!(retention.of("custom/benchmark", Some("oem-a")), None);
        assert_eq!(retention.shortest(), Some(Period::Months(18)));
        assert_eq!(Retention::default().shortest(), None);
        let day = |text| crate::service::day(text).unwrap();
        assert_eq!(Period::Years(15).after(day("2011-11-23")), day("2026-11-23"));
        assert_eq!(Period::Years(1).after(day("2024-02-29")), day("2025-02-28"));
        assert_eq!(Period::Months(18).after(day("2025-08-31")), day("2027-02-28"));
        assert_eq!(Period::Days(90).after(day("2026-11-23")), day("2027-02-21"));
        assert_eq!(Period::Years(200).after(u64::MAX), u64::MAX);
        assert_eq!(read(&toml::to_string(&retention).unwrap()).unwrap(), retention);
    }

    #[test]
    fn slips_are_named() {
        let slip = |text: &str| read(text).unwrap_err();
        assert!(slip("inspektion = \"15y\"").contains("did you mean `inspection`?"));
        assert!(slip("[customer.a]\ninspecton = \"15y\"").contains("did you mean `inspection`?"));
        for period in ["\"15\"", "\"15w\"", "\"y\"", "\"0y\"", "\"-1y\"", "\"1y 6m\"", "15", "\"15Y\""] {
            assert!(slip(&format!("inspection = {period}")).contains("is no period"), "{period}");
        }
        assert!(slip("inspection = \"201y\"").contains("longer than 200 years"));
        assert!(slip("inspection = \"99999999999d\"").contains("is no period"));
        assert!(
            slip("auto_delete = \"yes\"").contains("true or false") && slip("auto_delet = true").contains("did you mean `auto_delete`?")
        );
        assert!(slip("customer = \"oem-a\"").contains("[retention.customer.NAME]"));
        assert!(slip("[customer]\noem-a = \"15y\"").contains("a line for each kind"));
    }
}
