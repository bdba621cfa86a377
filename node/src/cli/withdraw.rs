//! `lotline withdraw`: a record turned out wrong and nothing replaces it; and `lotline thaw`: a frozen feed goes on.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::confirmed_at;
use super::lists::{feed_name, find_record, owner};
use crate::answer::{Answer, Failure, exit};
use crate::desk::Desk;
use crate::feeds::Feed;
use crate::service::now;

/// Flags of `withdraw`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
#[command(
    after_help = "Example: lotline withdraw L-2026-11 --reason \"gauge was out of calibration\"\n\nTo replace it by a corrected one: lotline publish … --supersede"
)]
pub struct WithdrawArgs {
    /// The lot.
    lot: String,
    /// The part, when several have this lot.
    #[arg(long)]
    part: Option<String>,
    /// Why; every partner with a share, and every auditor, reads it.
    #[arg(long)]
    reason: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Withdraws our one live record about a lot. It stays provable, and every verdict says that it was withdrawn.
pub fn withdraw(desk: &Desk, args: WithdrawArgs) -> Result<Answer, Failure> {
    let (feed, row) = find_record(desk, &args.lot, args.part.as_deref(), true)?;
    let question = format!("Withdraw record {} of feed {} (lot {})? That cannot be taken back.", row.seq, feed_name(&feed), args.lot);
    if !confirmed_at(desk, args.yes, &question) {
        return Err(Failure::new("nothing was withdrawn").exit(exit::REFUSED).hint("--yes confirms"));
    }
    let (origin, seq, leaf, reason) = (feed.origin.clone(), row.seq, lotline_schema::Hash(row.leaf), args.reason.clone());
    let entry = desk.feeds(move |feeds| feeds.withdraw(origin, seq, leaf, reason, now()))?;
    let text = format!(
        "Record {} of feed {} is withdrawn (org feed entry {entry}): {}.\nIt stays provable; whoever holds it reads that it was withdrawn. A corrected one is published as any other.",
        row.seq,
        feed_name(&feed),
        args.reason
    );
    Ok(Answer::new(text, json!({ "origin": feed.origin.to_string(), "seq": row.seq, "leaf": leaf.to_string(), "org_entry": entry })))
}

/// Flags of `thaw`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
#[command(after_help = "Example: lotline thaw --from supplier --feed quality")]
pub struct ThawArgs {
    /// Whose feed.
    #[arg(long, value_name = "PARTNER")]
    from: String,
    /// Which; `org` is the one with its keys.
    #[arg(long)]
    feed: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Lets a frozen feed go on from its last good head. What was kept as evidence stays.
pub fn thaw(desk: &Desk, args: ThawArgs) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    // A feed of ours that a partner writes comes from that partner.
    let from = |feed: &Feed| owner(desk, feed) == args.from || snapshot.partner_of_feed(feed).is_some_and(|name| name == args.from);
    let wanted = |feed: &&Feed| feed.frozen.is_some() && feed.origin.name() == args.feed && from(feed);
    let feed = snapshot.feeds.values().find(wanted).cloned().ok_or_else(|| {
        Failure::new(format!("no feed `{}` of {} is frozen here", args.feed, args.from))
            .exit(exit::NOT_FOUND)
            .hint("`lotline feeds` shows which are")
    })?;
    let why = feed.frozen.clone().unwrap_or_default();
    let question =
        format!("It was frozen because: {why}\nHave you talked to {}, and should it go on from entry {}?", args.from, feed.size());
    if !confirmed_at(desk, args.yes, &question) {
        return Err(Failure::new("the feed stays frozen").exit(exit::REFUSED).hint("--yes confirms"));
    }
    let origin = feed.origin.clone();
    desk.feeds(move |feeds| feeds.thaw(&origin))?;
    let text = format!(
        "Feed {} of {} goes on from entry {}. What was kept stays: if the same comes again, it is frozen again.",
        feed_name(&feed),
        args.from,
        feed.size()
    );
    Ok(Answer::new(text, json!({ "origin": feed.origin.to_string(), "size": feed.size(), "was": why })))
}
