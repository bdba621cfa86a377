//! `lotline feeds`, `records`, `show`: what is here, as far as it can be seen here.

use lotline_schema::Hash;
use lotline_schema::kind::{self, Group, Schema};
use lotline_schema::slot::Disclosure;
use lotline_schema::view::{SealedView, VerifiedView};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::{Answer, Failure, exit};
use crate::certificate::{Certificate, harmless};
use crate::desk::Desk;
use crate::evidence::Attested;
use crate::feeds::deletion::{Gone, gone_of};
use crate::feeds::terms::{Obligation, obligations};
use crate::feeds::{Delegated, Feed, Released, Summary, released_by, revoked};
use crate::service::{day_text, now, time_text};
use crate::store::{Reader, Row};

/// Flags of `feeds`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct FeedsArgs {}

/// Flags of `records`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct RecordsArgs {
    /// Only this lot.
    #[arg(long)]
    lot: Option<String>,
    /// Only this part.
    #[arg(long)]
    part: Option<String>,
    /// How many, newest first.
    #[arg(long, default_value_t = 50)]
    last: usize,
}

/// Flags of `show`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct ShowArgs {
    /// The lot.
    lot: String,
    /// The part, when several have this lot.
    #[arg(long)]
    part: Option<String>,
}

/// Lists feeds.
pub fn feeds(desk: &Desk, _: FeedsArgs) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    let (mut text, mut rows, delegated) = (String::new(), Vec::new(), snapshot.delegated());
    for feed in snapshot.feeds.values() {
        let whose = owner(desk, feed);
        let state = match &feed.frozen {
            Some(why) => format!("FROZEN: {why}"),
            None => match delegated.iter().find(|of| of.origin == feed.origin) {
                Some(of) => words(of, now()),
                None if feed.ours => "ours".into(),
                None if feed.written => format!("{whose}'s; no more written here"),
                None => "followed".into(),
            },
        };
        text.push_str(&format!("{:<16} {whose:<14} {:>8} entries  {state}\n", feed_name(feed), feed.size()));
        let of = delegated.iter().find(|of| of.origin == feed.origin);
        rows.push(json!({
            "origin": feed.origin.to_string(), "name": feed.origin.name(), "whose": whose, "own": feed.ours, "written": feed.written,
            "size": feed.size(), "root": feed.head.frontier.root().to_string(), "frozen": feed.frozen, "delegation": of.map(delegation_json),
        }));
    }
    for of in delegated.iter().filter(|of| !snapshot.feeds.contains_key(of.origin.as_str())) {
        text.push_str(&format!("{:<16} {:<14} {:>8} entries  {}\n", of.origin.name(), whose(of), 0, words(of, now())));
    }
    if let Some(board) = &desk.board {
        for partner in snapshot.book.values() {
            for (origin, size, term) in board.of(&partner.name).offers {
                if !snapshot.feeds.contains_key(&origin) {
                    let name = origin.split('/').nth(1).unwrap_or_default();
                    text.push_str(&format!(
                        "{:<16} {:<14} {size:>8} entries  offered, not followed: {}\n",
                        harmless(name),
                        partner.name,
                        harmless(&term)
                    ));
                    rows.push(
                        json!({ "origin": origin, "whose": partner.name, "own": false, "offered": true, "size": size, "term": term }),
                    );
                }
            }
        }
    }
    Ok(Answer::new(text, json!({ "feeds": rows })))
}

/// A delegation in words: who writes whose feed, and until when.
pub(super) fn words(of: &Delegated, now: u64) -> String {
    let who = if of.ours { format!("ours, written by {}", of.with) } else { format!("{}'s, written here", of.with) };
    let last = day_text(of.until);
    match of.ended {
        Some(from) => format!("{who}; ended before entry {from}"),
        None if of.goes_on(now) => format!("{who} until {last}"),
        None => format!("{who}; over since {last}"),
    }
}

/// Whose a delegated feed is, as our screens name it.
pub(super) fn whose(of: &Delegated) -> &str {
    if of.ours { "ours" } else { &of.with }
}

pub(super) fn delegation_json(of: &Delegated) -> serde_json::Value {
    json!({
        "origin": of.origin.to_string(), "name": of.origin.name(), "whose": whose(of), "with": of.with, "writer": of.name,
        "until": day_text(of.until), "ended": of.ended,
    })
}

/// Lists records.
pub fn records(desk: &Desk, args: RecordsArgs) -> Result<Answer, Failure> {
    desk.settle()?;
    let rows = rows(desk, &args)?;
    let (mut text, mut list) = (String::new(), Vec::new());
    for (feed, row, summary) in &rows {
        let of = &summary.facts;
        let cell = |text: &Option<String>| harmless(text.as_deref().unwrap_or("–"));
        let lost = kind::called(&of.kind).map_or_else(Vec::new, |schema| seen(schema, of.forgotten));
        let lot = if lost.contains(&"lot") { "(forgotten)".to_owned() } else { cell(&of.lot) };
        let pieces = of.pieces.map_or(String::new(), |(inspected, failed)| format!("{failed} of {inspected} fail"));
        let old = if summary.superseded_by.is_some() { "  superseded" } else { "" };
        let released = released_by(desk.handle.reader(), &desk.handle.snapshot(), feed, Hash(row.leaf))?;
        let by: Vec<String> = released.iter().filter(|one| one.ended.is_none()).map(|one| harmless(&one.name)).collect();
        let gone = gone(desk, feed, row)?;
        let withdrawn = withdrawn(desk, feed, row);
        let old = match (&gone, &withdrawn) {
            (Some(_), _) => "  REVOKED",
            (None, Some(_)) => "  WITHDRAWN",
            (None, None) => old,
        };
        let by = if by.is_empty() { String::new() } else { format!("  released by {}", by.join(", ")) };
        text.push_str(&format!(
            "{:<20} {:<16} {:<16} {pieces:<16} {:<14} {}/{}{old}{by}\n",
            lot,
            cell(&of.part),
            cell(&of.verdict),
            owner(desk, feed),
            feed.origin.name(),
            row.seq
        ));
        list.push(json!({
            "origin": feed.origin.to_string(), "seq": row.seq, "leaf": Hash(row.leaf).to_string(), "whose": owner(desk, feed), "lot": of.lot, "part": of.part,
            "verdict": of.verdict, "inspected": of.pieces.map(|pieces| pieces.0), "nonconforming": of.pieces.map(|pieces| pieces.1),
            "recorded_at": of.recorded_at, "superseded": summary.superseded_by.is_some(), "slots": row.slots(),
            "released_by": released_json(&released), "revoked": gone, "withdrawn": withdrawn, "forgotten": lost,
        }));
    }
    if list.is_empty() {
        text = "no records".into();
    }
    Ok(Answer::new(text, json!({ "records": list })))
}

fn rows(desk: &Desk, args: &RecordsArgs) -> Result<Vec<(Feed, Row, Summary)>, Failure> {
    let (snapshot, reader) = (desk.handle.snapshot(), desk.handle.reader());
    let mut found = Vec::new();
    let mut take = |feed: &Feed, row: Row| -> Result<(), Failure> {
        let summary = Summary::read(&row.summary)?;
        let fits = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
        if row.has_core
            && row.seq > 0
            && !summary.facts.is_release()
            && fits(&args.lot, &summary.facts.lot)
            && fits(&args.part, &summary.facts.part)
        {
            found.push((feed.clone(), row, summary));
        }
        Ok(())
    };
    let places = match (&args.lot, &args.part) {
        (Some(lot), _) => Some(reader.by_lot(lot)?),
        (None, Some(part)) => Some(reader.by_part(part)?),
        (None, None) => None,
    };
    match places {
        Some(places) => {
            for (id, seq) in places {
                if let (Some(feed), Some(row)) = (snapshot.feed_numbered(id), reader.row(id, seq)?) {
                    take(feed, row)?;
                }
            }
        }
        None => {
            for feed in snapshot.feeds.values().filter(|feed| !feed.origin.is_org()) {
                for row in reader.rows(feed.id, feed.size().saturating_sub(args.last as u64).max(1), args.last)? {
                    if row.has_core {
                        take(feed, row)?;
                    }
                }
            }
        }
    }
    found.sort_by(|a, b| b.2.facts.recorded_at.cmp(&a.2.facts.recorded_at).then(b.1.seq.cmp(&a.1.seq)));
    found.truncate(args.last);
    Ok(found)
}

/// Shows one record.
pub fn show(desk: &Desk, args: ShowArgs) -> Result<Answer, Failure> {
    let (feed, row) = find_record(desk, &args.lot, args.part.as_deref(), false)?;
    let (_, view) = open_row(desk.handle.reader(), &row)?;
    let certificate = Certificate::of(&view).with_forgotten(&row.forgotten);
    let attested = Attested::of(desk.handle.reader(), &desk.handle.snapshot(), &feed, row.seq)?;
    let received: String = attested.receipts().iter().map(|line| format!("{line}\n")).collect();
    let released = released_by(desk.handle.reader(), &desk.handle.snapshot(), &feed, view.leaf())?;
    let gone = gone(desk, &feed, &row)?;
    let withdrawn = withdrawn(desk, &feed, &row);
    let reported = reported(desk, &feed, row.seq)?;
    let deleted = reported.iter().map(|(name, of)| {
        let fields = view.schema().map_or_else(Vec::new, |schema| seen(schema, of.slots));
        format!("{} reports that it deleted {} on {}\n", harmless(name), fields.join(", "), time_text(of.at))
    });
    let received = deleted.fold(received, |text, line| text + &line);
    let mut mark = gone.as_ref().map_or(String::new(), |why| format!("REVOKED, not vouched for: {}\n", harmless(why)));
    mark.extend(withdrawn.iter().map(|why| format!("WITHDRAWN by its issuer: {}\n", harmless(why))));
    let obliged = match feed.ours {
        true => Vec::new(),
        false => obligations(desk.handle.reader(), &feed.origin, row.seq)?,
    };
    mark.extend(obliged.iter().map(|of| format!("{}\n", obligation_text(&view, of))));
    let by: String = released.iter().map(|one| format!("released by {}\n", harmless(&one.to_text()))).collect();
    let text = format!(
        "record {} of feed {} ({}), statement {}\n{}\n{mark}{received}{by}{}",
        row.seq,
        feed.origin.name(),
        owner(desk, &feed),
        view.leaf().short(),
        attested.date(),
        certificate.to_text()
    );
    Ok(Answer::new(
        text,
        json!({
            "origin": feed.origin.to_string(), "seq": row.seq, "leaf": view.leaf().to_string(), "released_by": released_json(&released),
            "revoked": gone, "withdrawn": withdrawn, "record": certificate.to_json(),
            "witnessed": attested.witnessed.as_ref().map(|(at, by)| json!({ "at": at, "by": by })),
            "obligations": obliged.iter().map(|of| obligation_json(&view, of)).collect::<Vec<_>>(),
            "reported_deleted": reported.iter().map(|(name, of)| json!({ "name": name, "slots": of.slots, "at": time_text(of.at) })).collect::<Vec<_>>(),
            "received_by": attested.received.iter().map(|(name, at)| json!({ "name": name, "at": at })).collect::<Vec<_>>(),
        }),
    ))
}

/// What some fields of a received record stand under, in words.
fn obligation_text(view: &VerifiedView, of: &Obligation) -> String {
    let fields = view.schema().map_or_else(String::new, |schema| groups(schema, of.mask));
    let due = of.due().map_or(String::new(), |at| format!(" (due {})", time_text(at)));
    let promised = of.terms.promises().join("; ");
    format!("you promised{due}, by terms {}: {promised}; fields: {fields}", of.terms.id().short())
}

fn obligation_json(view: &VerifiedView, of: &Obligation) -> serde_json::Value {
    json!({
        "terms": super::terms::terms_json(&of.terms), "fields": view.schema().map_or_else(Vec::new, |schema| seen(schema, of.mask)),
        "received": time_text(of.received), "due": of.due().map(time_text),
    })
}

/// What partners report to have deleted of a record of ours.
fn reported(desk: &Desk, feed: &Feed, seq: u64) -> Result<Vec<(String, Gone)>, Failure> {
    let mut found = Vec::new();
    for partner in desk.handle.snapshot().book.values().filter(|_| feed.ours) {
        let gone = gone_of(desk.handle.reader(), &partner.party, &feed.origin, seq)?;
        found.extend(gone.into_iter().map(|of| (partner.name.clone(), of)));
    }
    Ok(found)
}

/// Why a record is not vouched for any more, if it is not.
fn gone(desk: &Desk, feed: &Feed, row: &Row) -> Result<Option<String>, Failure> {
    match desk.handle.snapshot().orgs.get(&feed.origin.party()) {
        Some(org) => Ok(revoked(desk.handle.reader(), org, row)?),
        None => Ok(None),
    }
}

/// Why a record was withdrawn, if it was.
fn withdrawn(desk: &Desk, feed: &Feed, row: &Row) -> Option<String> {
    let snapshot = desk.handle.snapshot();
    snapshot.orgs.get(&feed.origin.party())?.withdrawn(&Hash(row.leaf)).map(str::to_owned)
}

fn released_json(released: &[Released]) -> serde_json::Value {
    let one = |one: &Released| json!({ "name": one.name, "function": one.function, "entry": one.entry, "ended": one.ended });
    released.iter().map(one).collect()
}

/// The one live record about a lot; where there are several, they are listed and asked for.
pub(super) fn find_record(desk: &Desk, lot: &str, part: Option<&str>, own: bool) -> Result<(Feed, Row), Failure> {
    desk.settle()?;
    let args = RecordsArgs { lot: Some(lot.into()), part: part.map(str::to_owned), last: usize::MAX };
    let mut found = rows(desk, &args)?;
    let theirs = found.iter().find(|(feed, ..)| own && feed.written && !feed.ours).map(|(feed, ..)| feed.clone());
    found.retain(|(feed, _, summary)| (feed.ours || !own) && summary.superseded_by.is_none());
    if let Some(feed) = theirs.filter(|_| found.is_empty()) {
        let whose = owner(desk, &feed);
        let what = format!("lot `{lot}` stands in feed {} of {whose}, which you only write", feed.origin.name());
        let hint = format!("it is {whose}'s to share, to explain and to withdraw; a correction is yours: lotline publish … --supersede");
        return Err(Failure::new(what).exit(exit::REFUSED).hint(hint));
    }
    // A withdrawn one is shown when nothing took its place.
    if found.iter().any(|(feed, row, _)| withdrawn(desk, feed, row).is_none()) {
        found.retain(|(feed, row, _)| withdrawn(desk, feed, row).is_none());
    }
    match found.len() {
        0 => Err(Failure::new(format!("no record of lot `{lot}` is here"))
            .exit(exit::NOT_FOUND)
            .hint("`lotline records` lists what is here")),
        1 => {
            let (feed, row, _) = found.remove(0);
            Ok((feed, row))
        }
        _ => {
            let lines: Vec<String> = found
                .iter()
                .map(|(feed, row, summary)| {
                    let facts = &summary.facts;
                    format!(
                        "part {}, from {}, sample {}, record {} of feed {}",
                        facts.part.as_deref().unwrap_or("–"),
                        owner(desk, feed),
                        facts.sample.as_deref().unwrap_or("–"),
                        row.seq,
                        feed.origin.name()
                    )
                })
                .collect();
            Err(Failure::new(format!("several records are of lot `{lot}`:\n  {}", lines.join("\n  ")))
                .exit(exit::USAGE)
                .hint("say which with --part"))
        }
    }
}

/// Core and disclosures of a row, and what can be seen with them.
pub(crate) fn open_row(reader: &Reader, row: &Row) -> Result<(SealedView, VerifiedView), Failure> {
    let core = reader.core(row)?.ok_or_else(|| Failure::new("only the leaf hash of this entry is here").exit(exit::NOT_FOUND))?;
    let mut slots = reader.disclosures(row)?;
    slots.sort_unstable_by_key(|(slot, _)| *slot);
    let sealed = SealedView { core, disclosures: slots.into_iter().map(|(_, bytes)| Disclosure::received(bytes)).collect() };
    let view = sealed.trusted().map_err(|why| Failure::new(format!("a stored record does not open: {why}")).hint("run `lotline audit`"))?;
    Ok((sealed, view))
}

/// Whose feed it is, as our screens name it.
pub(crate) fn owner(desk: &Desk, feed: &Feed) -> String {
    let snapshot = desk.handle.snapshot();
    match snapshot.partner_of(&feed.origin.party()) {
        _ if feed.ours => "ours".into(),
        Some(partner) => partner.name.clone(),
        None => feed.origin.party().short(),
    }
}

/// The name of a feed, with its number from the second life on.
pub(crate) fn feed_name(feed: &Feed) -> String {
    if feed.origin.n() == 1 { feed.origin.name().to_owned() } else { format!("{}/{}", feed.origin.name(), feed.origin.n()) }
}

/// Fields in words: whole groups by their name, others field by field.
pub(super) fn groups(schema: &Schema, mask: u64) -> String {
    let mut parts = Vec::new();
    for group in Group::ALL {
        let of = || schema.fields.iter().enumerate().filter(move |(_, field)| field.group == group);
        let open: Vec<&str> = of().filter(|(slot, _)| mask >> slot & 1 == 1).map(|(_, field)| field.name).collect();
        match open.len() {
            0 => {}
            count if count == of().count() => parts.push(group.name().to_owned()),
            _ => parts.push(format!("{} ({})", group.name(), open.join(", "))),
        }
    }
    parts.join(", ")
}

/// Names of the fields a mask shows.
pub(super) fn seen(schema: &Schema, mask: u64) -> Vec<&'static str> {
    schema.fields.iter().enumerate().filter(|(slot, _)| mask >> slot & 1 == 1).map(|(_, field)| field.name).collect()
}
