//! A share or never in one sentence, for people who never open the file.

use std::collections::BTreeSet;

use lotline_policy::{Feeds, MEMBERS_OF, Parts, Rule, Show};

use crate::certificate::harmless;
use crate::service::day_text;

/// What a share shows to whom, as "oem-a sees …".
pub fn share(rule: &Rule) -> String {
    let verdict = rule.only.map_or(String::new(), |only| format!("{} ", only.name()));
    let released = if rule.released { " that a person released" } else { "" };
    let from = rule.from.map_or(String::new(), |from| format!(", from {}", day(from)));
    let delay = rule.delay.map_or(String::new(), |delay| format!(", each {} after it was signed", delay.words()));
    let until = rule.until.map_or(", until you end it".into(), |until| format!(", up to and including {}", day(until - 1)));
    let terms = rule.terms.as_ref().map_or(String::new(), |terms| format!(", once they promise: {}", terms.promises().join("; ")));
    let list = rule.list_until.map_or(String::new(), |until| format!(", no longer than the list of members ({})", day(until - 1)));
    let sees = if rule.partners.len() > 1 || rule.partners.is_empty() { "see" } else { "sees" };
    harmless(&format!(
        "{} {sees} {} of {}{released}{}{delay}{from}{until}{list}{terms}",
        who(rule),
        what(&rule.show),
        records(rule, &verdict),
        place(&rule.feed)
    ))
}

/// What a never hides from whom, as "oem-a never sees …".
pub fn never(rule: &Rule) -> String {
    let sees = if rule.partners.len() > 1 || rule.partners.is_empty() { "never see" } else { "never sees" };
    harmless(&format!("{} {sees} {} of {}{}", who(rule), what(&rule.show), records(rule, ""), place(&rule.feed)))
}

fn who(rule: &Rule) -> String {
    let partners = and(&rule.partners);
    match rule.with.strip_prefix(MEMBERS_OF) {
        Some(list) => format!("members of {list} ({partners})"),
        None if rule.partners.contains(&rule.with) => rule.with.clone(),
        None => format!("{} ({partners})", rule.with),
    }
}

fn what(show: &Show) -> String {
    match show {
        Show::Everything => "anything".into(),
        Show::EverythingButInspector => "everything but the inspector".into(),
        Show::Named(names) => and(names),
    }
}

fn records(rule: &Rule, verdict: &str) -> String {
    let lots = match &rule.lots {
        None => format!("all {verdict}lots"),
        Some(lots) if lots.len() == 1 => format!("the {verdict}lot {}", and(lots)),
        Some(lots) => format!("the {verdict}lots {}", and(lots)),
    };
    let parts = match &rule.parts {
        Parts::All => String::new(),
        Parts::Theirs => " made for them".into(),
        Parts::List(parts) if parts.len() == 1 => format!(" of part {}", and(parts)),
        Parts::List(parts) => format!(" of the parts {}", and(parts)),
    };
    format!("{lots}{parts}")
}

fn place(feed: &Feeds) -> String {
    match feed {
        Feeds::All => " in every feed".into(),
        Feeds::One(feed) => format!(" in feed {feed}"),
    }
}

fn and(items: &BTreeSet<String>) -> String {
    let items: Vec<&str> = items.iter().map(String::as_str).collect();
    match items.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => items.concat(),
    }
}

fn day(seconds: i64) -> String {
    day_text(seconds.max(0).unsigned_abs())
}
