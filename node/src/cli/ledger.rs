//! `lotline ledger`: what left, to whom, when, under which rules; and all that somebody ever got about one lot.

use lotline_policy::RELEASE_SHOWN;
use lotline_schema::kind::{self, Schema};
use lotline_schema::{Hash, PartyId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::lists::{feed_name, groups, seen};
use crate::answer::{Answer, Failure, exit};
use crate::certificate::harmless;
use crate::desk::Desk;
use crate::feeds::deletion::{Gone, gone_of};
use crate::feeds::ledger::rows_about;
use crate::feeds::witness::{RowReceipt, receipt_of};
use crate::feeds::{Feed, FeedError, Summary, released_by};
use crate::ledger::{FURTHER_SHARES, Outcome, Row};
use crate::service::time_text;
use crate::store;

/// Flags of `ledger`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
#[command(after_help = "Example: lotline ledger --to oem-a --last 20\n         lotline ledger --lot L-2026-11 --partner oem-a")]
pub struct Args {
    /// Only what went to this partner.
    #[arg(long, visible_alias = "partner", value_name = "PARTNER")]
    to: Option<String>,
    /// Everything that this partner ever got about a lot, under which rule, and what it never got.
    #[arg(long, requires = "to")]
    lot: Option<String>,
    /// The part, when several have this lot.
    #[arg(long, requires = "lot")]
    part: Option<String>,
    /// How many rows, newest last.
    #[arg(long, default_value_t = 50)]
    last: usize,
}

/// Shows it.
pub fn run(desk: &Desk, args: Args) -> Result<Answer, Failure> {
    desk.settle()?;
    match (&args.lot, &args.to) {
        (Some(lot), Some(to)) => about_lot(desk, lot, args.part.as_deref(), to),
        _ => newest(desk, args),
    }
}

fn newest(desk: &Desk, args: Args) -> Result<Answer, Failure> {
    let (last, to) = (args.last, args.to);
    let rows = desk.feeds(move |feeds| feeds.last_rows(last, |row| to.as_ref().is_none_or(|to| *to == row.to)))?;
    let (mut text, mut list, us) = (String::new(), Vec::new(), desk.handle.snapshot().party);
    for row in &rows {
        let receipt = receipt_of(desk.handle.reader(), row)?;
        let signed = receipt.as_ref().map_or(String::new(), |receipt| format!(", signed (receipt {})", receipt.number));
        let (to, what) = (harmless(&row.to), what(row));
        text.push_str(&format!("{}  {to:<14} {what:<36} {}  {}{signed}\n", time_text(row.at), under(row, &us), row.outcome.name()));
        let items: Vec<_> = row.items.iter().map(|sent| json!({ "seq": sent.seq, "fields": fields(sent.mask) })).collect();
        list.push(json!({
            "receipt": receipt.as_ref().map(receipt_json), "number": row.number, "at": time_text(row.at), "to": row.to, "origin": row.origin,
            "way": row.way.name(), "from": row.from, "end": row.end, "items": items, "policy_version": row.policy, "rules": row.shares,
            "digest": row.digest.to_string(), "outcome": row.outcome.name(), "refilled": row.is_refilled(),
        }));
    }
    if rows.is_empty() {
        text = "nothing has left this node".into();
    }
    Ok(Answer::new(text, json!({ "rows": list })))
}

fn what(row: &Row) -> String {
    let feed = row.origin.split('/').nth(1).unwrap_or_default();
    let (first, last) = (row.from, row.end.saturating_sub(1));
    let place = if first == last { first.to_string() } else { format!("{first} to {last}") };
    if feed == lotline_schema::id::ORG_FEED {
        return format!("org {place}: our public keys and feeds");
    }
    if row.is_refilled() {
        return format!("{feed} {place}: lost here, told by the receipt");
    }
    let shown = row.items.iter().filter(|sent| sent.mask != 0).count();
    // Index 0 is the feed's own entry, which has no fields; every other entry without one left as a leaf hash.
    let hidden = row.items.iter().filter(|sent| sent.mask == 0 && sent.seq > 0).count();
    let counted = |count: usize, one: &str, many: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {many}") };
    let mut parts = Vec::new();
    if shown > 0 {
        parts.push(counted(shown, "record", "records"));
    }
    if hidden > 0 {
        parts.push(counted(hidden, "leaf hash alone", "leaf hashes alone"));
    }
    format!("{feed} {place}: {}", if parts.is_empty() { "the feed's first entry".to_owned() } else { parts.join(", ") })
}

/// Under which rules it left, or why under none.
pub(crate) fn under(row: &Row, us: &PartyId) -> String {
    match row.policy {
        Some(version) => format!("rules version {version}"),
        None if row.origin.ends_with("/org/1") => "no rules: it hides nothing".into(),
        None if row.is_to_owner(us) => "no rules: to its owner".into(),
        None if row.is_refilled() => "rules unknown".into(),
        None => "FULL DISCLOSURE, confirmed by hand".into(),
    }
}

/// Field names of an inspection's slots.
fn fields(mask: u64) -> Vec<&'static str> {
    seen(&kind::inspection::SCHEMA, mask)
}

fn receipt_json(of: &RowReceipt) -> Value {
    json!({ "number": of.number, "at": time_text(of.at), "sha256": of.sha256.to_string(), "acceptance": of.terms })
}

/// Everything one recipient got about a lot.
fn about_lot(desk: &Desk, lot: &str, part: Option<&str>, to: &str) -> Result<Answer, Failure> {
    let (mut text, mut list, mut any) = (String::new(), Vec::new(), false);
    for (feed, row, summary) in records(desk, lot, part)? {
        let about = About::of(desk, &feed, &row, &summary, to)?;
        any |= !about.received.is_empty();
        text.push_str(&about.to_text(to));
        list.push(about.to_json());
    }
    if list.is_empty() {
        let hint = "`lotline records` lists what is here; the ledger is about your own records";
        return Err(Failure::new(format!("no record of lot `{lot}` is in a feed of yours")).exit(exit::NOT_FOUND).hint(hint));
    }
    if !any && !desk.handle.snapshot().book.contains_key(to) {
        // Who is in no book may have been named in a full disclosure; nobody of this name was.
        return Err(FeedError::NoPartner(to.to_owned()).into());
    }
    Ok(Answer::new(text, json!({ "lot": lot, "partner": to, "records": list })))
}

/// Every record of ours about a lot, those that were replaced too.
fn records(desk: &Desk, lot: &str, part: Option<&str>) -> Result<Vec<(Feed, store::Row, Summary)>, Failure> {
    let (snapshot, reader) = (desk.handle.snapshot(), desk.handle.reader());
    let mut found = Vec::new();
    for (id, seq) in reader.by_lot(lot)? {
        let Some((feed, row)) = snapshot.feed_numbered(id).filter(|feed| feed.ours || feed.written).zip(reader.row(id, seq)?) else {
            continue;
        };
        let summary = Summary::read(&row.summary)?;
        let wanted = part.is_none_or(|part| summary.facts.part.as_deref() == Some(part));
        if row.has_core && wanted && !summary.facts.is_release() {
            found.push((feed.clone(), row, summary));
        }
    }
    Ok(found)
}

/// What somebody got about one record.
struct About {
    us: PartyId,
    feed: Feed,
    seq: u64,
    leaf: Hash,
    part: String,
    superseded: bool,
    schema: Option<&'static Schema>,
    received: Vec<Received>,
    /// The same for those who released the record, with the name of each.
    releases: Vec<(String, Row, Option<RowReceipt>)>,
    /// What it reports to have deleted.
    gone: Vec<Gone>,
}

/// One time that something of a record left.
struct Received {
    row: Row,
    /// The slots; none: the row was lost, and only the receipt tells of it.
    mask: Option<u64>,
    /// Names of the shares behind them.
    rules: Vec<String>,
    receipt: Option<RowReceipt>,
}

impl About {
    fn of(desk: &Desk, feed: &Feed, record: &store::Row, summary: &Summary, to: &str) -> Result<About, Failure> {
        let (reader, origin, leaf) = (desk.handle.reader(), feed.origin.as_str(), Hash(record.leaf));
        let (mut received, mut releases) = (Vec::new(), Vec::new());
        for row in rows_about(reader, to, origin, record.seq)? {
            let sent = row.sent(record.seq);
            let name = |name: &str| if name == FURTHER_SHARES { "further rules".to_owned() } else { name.to_owned() };
            let rules = sent.map_or_else(Vec::new, |sent| row.shares_of(&sent).into_iter().map(name).collect());
            let receipt = receipt_of(reader, &row)?;
            received.push(Received { mask: sent.map(|sent| sent.mask), row, rules, receipt });
        }
        for released in released_by(reader, &desk.handle.snapshot(), feed, leaf)? {
            for row in rows_about(reader, to, origin, released.entry)? {
                if row.sent(released.entry).is_some_and(|sent| sent.mask & RELEASE_SHOWN != 0) {
                    let receipt = receipt_of(reader, &row)?;
                    releases.push((released.name.clone(), row, receipt));
                }
            }
        }
        let gone = match desk.handle.snapshot().book.get(to) {
            Some(partner) => gone_of(reader, &partner.party, &feed.origin, record.seq)?,
            None => Vec::new(),
        };
        Ok(About {
            gone,
            us: desk.handle.snapshot().party,
            feed: feed.clone(),
            seq: record.seq,
            leaf,
            part: summary.facts.part.clone().unwrap_or_default(),
            superseded: summary.superseded_by.is_some(),
            schema: kind::called(&summary.facts.kind),
            received,
            releases,
        })
    }

    /// The slots that may have left, by everything here.
    fn union(&self) -> u64 {
        let left = self.received.iter().filter(|of| of.row.outcome != Outcome::NotSent);
        left.fold(0, |all, of| all | of.mask.unwrap_or(0))
    }

    /// Whether a row was lost, so that nobody here knows which fields it was.
    fn is_uncertain(&self) -> bool {
        self.received.iter().any(|of| of.mask.is_none())
    }

    fn in_words(&self, mask: Option<u64>) -> String {
        match (mask, self.schema) {
            (None, _) => "fields unknown: the row was lost here, and the receipt alone tells of it".into(),
            (Some(0), _) => "the leaf hash alone".into(),
            (Some(mask), Some(schema)) => groups(schema, mask),
            (Some(mask), None) => format!("{} fields", mask.count_ones()),
        }
    }

    fn never(&self) -> Vec<&'static str> {
        self.schema.map_or_else(Vec::new, |schema| seen(schema, !self.union()))
    }

    fn to_text(&self, to: &str) -> String {
        let old = if self.superseded { ", since replaced" } else { "" };
        let mut text = format!("record {} of feed {}, part {}{old}\n", self.seq, feed_name(&self.feed), harmless(&self.part));
        for Received { row, mask, rules, receipt } in &self.received {
            let rules: Vec<String> = rules.iter().map(|rule| format!("`{}`", harmless(rule))).collect();
            let rules = if rules.is_empty() { String::new() } else { format!("rule {}, ", rules.join(", ")) };
            text.push_str(&format!("  {}  {}: {}\n", time_text(row.at), row.way.name(), self.in_words(*mask)));
            text.push_str(&format!("      {rules}{}; {}\n", under(row, &self.us), stands(row, receipt.as_ref())));
        }
        for (name, row, receipt) in &self.releases {
            let (at, way) = (time_text(row.at), row.way.name());
            text.push_str(&format!("  {at}  {way}: that {} released it; {}\n", harmless(name), stands(row, receipt.as_ref())));
        }
        for of in &self.gone {
            let (at, fields) = (time_text(of.at), self.in_words(Some(of.slots)));
            text.push_str(&format!("  {} reports that it deleted {fields} on {at} (report {})\n", harmless(to), of.number));
        }
        match (self.received.is_empty(), self.is_uncertain(), self.schema) {
            (true, ..) => text.push_str(&format!("  nothing of it ever left for {}\n", harmless(to))),
            (_, true, _) => text.push_str("  what never left is not known here: a row was lost\n"),
            (_, _, Some(schema)) if !self.never().is_empty() => {
                text.push_str(&format!("  never: {}\n", groups(schema, !self.union())));
            }
            _ => {}
        }
        text
    }

    fn to_json(&self) -> Value {
        let named = |mask: u64| self.schema.map_or_else(Vec::new, |schema| seen(schema, mask));
        let row = |Received { row, mask, rules, receipt }: &Received| {
            json!({
                "row": row.number, "at": time_text(row.at), "way": row.way.name(), "fields": mask.map(named), "policy_version": row.policy,
                "rules": rules, "full_disclosure": row.policy.is_none() && !row.is_refilled(), "outcome": row.outcome.name(),
                "receipt": receipt.as_ref().map(receipt_json), "refilled": row.is_refilled(),
            })
        };
        let release = |(name, row, receipt): &(String, Row, Option<RowReceipt>)| json!({ "name": name, "row": row.number, "at": time_text(row.at), "way": row.way.name(), "outcome": row.outcome.name(), "receipt": receipt.as_ref().map(receipt_json) });
        let never = (!self.is_uncertain()).then(|| self.never());
        json!({
            "origin": self.feed.origin.to_string(), "seq": self.seq, "leaf": self.leaf.to_string(), "part": self.part,
            "reported_deleted": self.gone.iter().map(|of| json!({ "fields": named(of.slots), "at": time_text(of.at), "report": of.number })).collect::<Vec<_>>(),
            "superseded": self.superseded, "received": self.received.iter().map(row).collect::<Vec<_>>(),
            "releases": self.releases.iter().map(release).collect::<Vec<_>>(), "shown": named(self.union()), "never": never,
        })
    }
}

/// What became of it, and who signed.
fn stands(row: &Row, receipt: Option<&RowReceipt>) -> String {
    match (receipt, row.outcome) {
        (Some(receipt), _) => {
            let terms = receipt.terms.map_or(String::new(), |number| format!(", under its acceptance {number} of your terms"));
            format!("received: receipt {}, signed {}{terms}", receipt.number, time_text(receipt.at))
        }
        (None, Outcome::NotSent) => row.outcome.name().to_owned(),
        (None, Outcome::Exported) => "exported, no receipt: may have left".to_owned(),
        (None, Outcome::Open) => "no receipt: may have left".to_owned(),
        (None, outcome) => format!("{}, no receipt", outcome.name()),
    }
}
