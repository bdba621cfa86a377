//! `lotline ledger`: what left, to whom, when, under which rules.

use lotline_schema::{PartyId, kind};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::{Answer, Failure};
use crate::desk::Desk;
use crate::feeds::witness::receipt_of;
use crate::ledger::Row;
use crate::service::time_text;

/// Flags of `ledger`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct Args {
    /// Only what went to this partner.
    #[arg(long)]
    to: Option<String>,
    /// How many rows, newest last.
    #[arg(long, default_value_t = 50)]
    last: usize,
}

/// Shows it.
pub fn run(desk: &Desk, args: Args) -> Result<Answer, Failure> {
    let last = args.last;
    let rows: Vec<Row> = desk.feeds(move |feeds| {
        let mut rows = Vec::new();
        feeds.each_row(|row| rows.extend(Some(row).filter(|row| args.to.as_ref().is_none_or(|to| *to == row.to))))?;
        Ok(rows)
    })?;
    let us = desk.handle.snapshot().party;
    let rows = &rows[rows.len().saturating_sub(last)..];
    let mut text = String::new();
    for row in rows {
        let signed =
            receipt_of(desk.handle.reader(), row)?.map_or(String::new(), |receipt| format!(", signed (receipt {})", receipt.number));
        text.push_str(&format!(
            "{}  {:<14} {:<36} {}  {}{signed}\n",
            time_text(row.at),
            row.to,
            what(row),
            under(row, &us),
            row.outcome.name()
        ));
    }
    if rows.is_empty() {
        text = "nothing has left this node".into();
    }
    let json_row = |row: &Row| {
        let items: Vec<_> = row.items.iter().map(|(seq, mask)| json!({ "seq": seq, "fields": fields(*mask) })).collect();
        let receipt = receipt_of(desk.handle.reader(), row)?;
        let receipt = receipt.map(|of| json!({ "number": of.number, "at": time_text(of.at), "sha256": of.sha256.to_string() }));
        Ok::<_, Failure>(json!({
            "receipt": receipt, "number": row.number, "at": time_text(row.at), "to": row.to, "origin": row.origin, "items": items, "policy_version": row.policy, "digest": row.digest.to_string(), "outcome": row.outcome.name() }))
    };
    Ok(Answer::new(text, json!({ "rows": rows.iter().map(json_row).collect::<Result<Vec<_>, _>>()? })))
}

fn what(row: &Row) -> String {
    let feed = row.origin.split('/').nth(1).unwrap_or_default();
    let (first, last) = (row.items.first().map_or(0, |item| item.0), row.items.last().map_or(0, |item| item.0));
    let place = if first == last { first.to_string() } else { format!("{first} to {last}") };
    if feed == lotline_schema::id::ORG_FEED {
        return format!("org {place}: our public keys and feeds");
    }
    let shown = row.items.iter().filter(|(_, mask)| *mask != 0).count();
    // Index 0 is the feed's own entry, which has no fields; every other entry without one left as a leaf hash.
    let hidden = row.items.iter().filter(|(seq, mask)| *mask == 0 && *seq > 0).count();
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

fn under(row: &Row, us: &PartyId) -> String {
    match row.policy {
        Some(version) => format!("rules version {version}"),
        None if row.origin.ends_with("/org/1") => "no rules: it hides nothing".into(),
        None if row.is_to_owner(us) => "no rules: to its owner".into(),
        None => "FULL DISCLOSURE, confirmed by hand".into(),
    }
}

/// Field names of an inspection's slots.
fn fields(mask: u64) -> Vec<&'static str> {
    let fields = kind::inspection::SCHEMA.fields.iter().enumerate();
    fields.filter(|(slot, _)| mask >> slot & 1 == 1).map(|(_, field)| field.name).collect()
}
