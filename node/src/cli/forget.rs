//! `lotline forget`: fields go from this home for good, on its owner's word: of a lot, of a person, or what is past its time.

use std::collections::{BTreeMap, BTreeSet};

use lotline_schema::kind::{self, Group};
use lotline_schema::text_distance;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::confirmed_at;
use super::lists::{feed_name, owner, seen};
use crate::answer::{Answer, Failure, exit};
use crate::certificate::harmless;
use crate::desk::Desk;
use crate::feeds::forget::{Due, Forget, due, merged, naming, person_slots};
use crate::feeds::{Feed, Feeds, Summary};
use crate::retention::Retention;
use crate::service::{day_text, now};
use crate::store::Row;

/// Lots named in a preview before the rest is counted.
const NAMED_MAX: usize = 12;

/// Flags of `forget`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
#[command(
    after_help = "Example: lotline forget L-2026-11 --persons\n         lotline forget --person \"J. Doe\" --dry-run\n         lotline forget --due --kind inspection",
    group(clap::ArgGroup::new("whose").required(true).args(["lot", "person", "due"])),
    group(clap::ArgGroup::new("what").args(["fields", "persons", "everything"]))
)]
pub struct Args {
    /// The lot: every record of it that is here.
    #[arg(requires = "what")]
    lot: Option<String>,
    /// Only of this part.
    #[arg(long, requires = "lot")]
    part: Option<String>,
    /// Only records of this partner, or `ours`.
    #[arg(long, requires = "lot", value_name = "PARTNER")]
    from: Option<String>,
    /// These fields or groups.
    #[arg(long, requires = "lot", value_delimiter = ',', value_name = "FIELDS")]
    fields: Vec<String>,
    /// The fields about persons.
    #[arg(long, requires = "lot")]
    persons: bool,
    /// Every field.
    #[arg(long, requires = "lot")]
    everything: bool,
    /// Instead: wherever a field about persons holds exactly this name.
    #[arg(long, value_name = "NAME")]
    person: Option<String>,
    /// Instead: what is past its time.
    #[arg(long)]
    due: bool,
    /// Of what is past its time: only this kind.
    #[arg(long, requires = "due")]
    kind: Option<String>,
    /// Of what is past its time: only what counts for this customer, or came from this partner.
    #[arg(long, requires = "due")]
    partner: Option<String>,
    /// Show what would go, and let it stay.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// One record that loses fields.
struct Loss {
    feed: Feed,
    row: Row,
    summary: Summary,
    slots: u64,
}

impl Loss {
    fn forget(&self) -> Forget {
        Forget { feed: self.feed.id, seq: self.row.seq, slots: self.slots }
    }

    /// The fields that go, in words.
    fn fields(&self) -> String {
        match kind::called(&self.summary.facts.kind) {
            Some(_) if self.slots == self.row.slots() => "everything".into(),
            Some(schema) => seen(schema, self.slots).join(", "),
            None => format!("{} fields", self.slots.count_ones()),
        }
    }
}

/// Forgets.
pub fn run(desk: &Desk, args: Args) -> Result<Answer, Failure> {
    // What an earlier one could not do everywhere goes first.
    let finished = if desk.feeds(Feeds::finish_forgetting)? { "What was ordered before is gone from every file now.\n" } else { "" };
    desk.settle()?;
    let (losses, why, note) = chosen(desk, &args)?;
    if losses.is_empty() {
        let text = format!("{finished}nothing to forget{note}");
        return Ok(Answer::new(text, json!({ "records": [], "forgotten": 0, "recipients": [], "dry_run": args.dry_run })));
    }
    let items: Vec<Forget> = losses.iter().map(Loss::forget).collect();
    let preview = finished.to_owned() + &preview(desk, &losses) + &note;
    let records: Vec<_> = losses.iter().map(|loss| loss_json(desk, loss)).collect();
    if args.dry_run {
        let recipients = desk.feeds(move |feeds| feeds.recipients(&items))?;
        let text = format!("{preview}\n{}\nNothing was forgotten: this was a dry run.", tell(&recipients, &losses));
        return Ok(Answer::new(text, json!({ "records": records, "forgotten": 0, "recipients": told(&recipients), "dry_run": true })));
    }
    let question = format!("{preview}\nForget that in this home for good? Nobody can bring it back.");
    if !confirmed_at(desk, args.yes, &question) {
        return Err(Failure::new("nothing was forgotten").exit(exit::REFUSED).hint("--dry-run shows what would go; --yes confirms"));
    }
    // Who has it is asked after the order: from then on nobody gets it.
    let (forgotten, recipients) = desk.feeds(move |feeds| Ok((feeds.forget(&items, &why, now())?, feeds.recipients(&items)?)))?;
    let text = format!(
        "{preview}\nForgotten: {}. Signatures, order and proofs hold as before.\n{}\nBackups made before still hold it: replace them.",
        counted(forgotten),
        tell(&recipients, &losses)
    );
    Ok(Answer::new(text, json!({ "records": records, "forgotten": forgotten, "recipients": told(&recipients), "dry_run": false })))
}

/// What is to go, why in a word or two, and what is to be said besides.
fn chosen(desk: &Desk, args: &Args) -> Result<(Vec<Loss>, String, String), Failure> {
    let snapshot = desk.handle.snapshot();
    if let Some(person) = &args.person {
        let (found, theirs) = naming(desk.handle.reader(), &snapshot, person)?;
        let mut note = String::new();
        if theirs > 0 {
            note.push_str(&format!("\n{} more in feeds that you only write: their owner has to forget them.", counted(theirs)));
        }
        if snapshot.orgs.values().any(|org| org.signers().any(|(_, signer)| signer.name == *person)) {
            note.push_str("\nAn org feed names this person as one who releases records: that is signed, public, and stays.");
        }
        return Ok((losses(desk, found)?, "a person".into(), note));
    }
    if args.due {
        // By a clock that jumped everything would be past its time.
        desk.handle.clock().moment()?;
        let due = past_their_time(desk)?;
        let wanted = |due: &Due| {
            args.kind.as_ref().is_none_or(|kind| *kind == due.kind)
                && args.partner.as_ref().is_none_or(|name| due.partner.as_ref() == Some(name))
        };
        let found: Vec<Forget> = due.into_iter().filter(wanted).map(|due| due.forget).collect();
        return Ok((losses(desk, merged(&found))?, "past its time".into(), String::new()));
    }
    let lot = args.lot.as_deref().unwrap_or_default();
    let mut found = Vec::new();
    let (mut known, mut open) = (false, false);
    for (id, seq) in desk.handle.reader().by_lot(lot)? {
        let Some((feed, row)) = snapshot.feed_numbered(id).zip(desk.handle.reader().row(id, seq)?) else { continue };
        let summary = Summary::read(&row.summary)?;
        let wanted = args.part.as_ref().is_none_or(|part| summary.facts.part.as_ref() == Some(part))
            && args.from.as_ref().is_none_or(|from| *from == owner(desk, feed));
        if !row.has_core || !wanted {
            continue;
        }
        known = true;
        let slots = slots_of(args, &summary)? & row.slots();
        open |= row.slots() != 0;
        if slots != 0 {
            snapshot.may_forget(feed, seq).map_err(crate::feeds::FeedError::from)?;
            found.push(Loss { feed: feed.clone(), row, summary, slots });
        }
    }
    if !known {
        return Err(Failure::new(format!("no record of lot `{lot}` is here"))
            .exit(exit::NOT_FOUND)
            .hint("`lotline records` lists what is here"));
    }
    let note = if found.is_empty() && open { ": these fields are not here".to_owned() } else { String::new() };
    Ok((found, "asked".into(), note))
}

/// The slots that the flags name.
fn slots_of(args: &Args, summary: &Summary) -> Result<u64, Failure> {
    if args.everything {
        return Ok(u64::MAX);
    }
    let schema = kind::called(&summary.facts.kind)
        .ok_or_else(|| Failure::new("a kind of record this program does not know").exit(exit::USAGE).hint("--everything needs no names"))?;
    if args.persons {
        return Ok(person_slots(schema));
    }
    let mut slots = 0;
    for name in &args.fields {
        let group = name.parse::<Group>().ok();
        let named = schema.fields.iter().enumerate().filter(|(_, field)| field.name == name || Some(field.group) == group);
        let mask = named.fold(0, |mask, (slot, _)| mask | 1u64 << slot);
        if mask == 0 {
            let near = schema.fields.iter().map(|field| field.name).min_by_key(|field| text_distance(field, name));
            let near = near.filter(|near| text_distance(near, name) < 4).map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            let what = format!("no field or group of {} is called `{name}`{near}", schema.name);
            return Err(Failure::new(what).exit(exit::USAGE).hint("`lotline show` names the fields of a record"));
        }
        slots |= mask;
    }
    Ok(slots)
}

/// What is past its time, by the configuration this process was started with.
pub(super) fn past_their_time(desk: &Desk) -> Result<Vec<Due>, Failure> {
    Ok(due(desk.handle.reader(), &desk.handle.snapshot(), &desk.config.retention, desk.handle.clock().believed())?)
}

/// How many records are past their time, by kind and partner: one that is due for two reasons is one.
fn due_counts(due: &[Due]) -> BTreeMap<(&str, Option<&str>), u64> {
    let mut records: BTreeMap<_, BTreeSet<(u32, u64)>> = BTreeMap::new();
    for one in due {
        records.entry((one.kind.as_str(), one.partner.as_deref())).or_default().insert((one.forget.feed, one.forget.seq));
    }
    records.into_iter().map(|(of, records)| (of, records.len() as u64)).collect()
}

/// The same in words, with the oldest and what becomes of them. None where nothing is.
pub(crate) fn due_in_words(due: &[Due], retention: &Retention) -> Option<String> {
    let oldest = due.first()?;
    let part = |((kind, partner), count): ((&str, Option<&str>), u64)| match partner {
        Some(partner) => format!("{count} {kind} of {}", harmless(partner)),
        None => format!("{count} {kind}"),
    };
    let parts: Vec<String> = due_counts(due).into_iter().map(part).collect();
    let goes = match retention.auto_delete() {
        true => "the node deletes what you promised, the rest waits for you",
        false => "nothing goes by itself",
    };
    Some(format!("{} past their time, the oldest since {}; {goes}", parts.join(", "), day_text(oldest.since)))
}

/// The same for programs.
pub(super) fn due_json(due: &[Due]) -> serde_json::Value {
    let count = |((kind, partner), count): ((&str, Option<&str>), u64)| json!({ "kind": kind, "partner": partner, "records": count });
    let counts = due_counts(due);
    let records: u64 = counts.values().sum();
    let counts: Vec<_> = counts.into_iter().map(count).collect();
    json!({ "records": records, "oldest_since": due.first().map(|due| day_text(due.since)), "by": counts })
}

fn losses(desk: &Desk, found: Vec<Forget>) -> Result<Vec<Loss>, Failure> {
    let (snapshot, reader) = (desk.handle.snapshot(), desk.handle.reader());
    let mut losses = Vec::with_capacity(found.len());
    for Forget { feed, seq, slots } in found {
        if let Some((feed, row)) = snapshot.feed_numbered(feed).zip(reader.row(feed, seq)?) {
            let summary = Summary::read(&row.summary)?;
            losses.push(Loss { feed: feed.clone(), slots: slots & row.slots(), row, summary });
        }
    }
    Ok(losses)
}

fn preview(desk: &Desk, losses: &[Loss]) -> String {
    let mut lines: BTreeMap<(String, String, String), Vec<String>> = BTreeMap::new();
    for loss in losses {
        let lot = loss.summary.facts.lot.as_deref().map_or_else(|| format!("record {}", loss.row.seq), harmless);
        lines.entry((feed_name(&loss.feed), owner(desk, &loss.feed), loss.fields())).or_default().push(lot);
    }
    let mut text = format!("{} of this home:\n", counted(losses.len() as u64));
    for ((feed, whose, fields), lots) in lines {
        let more = lots.len().saturating_sub(NAMED_MAX);
        let named = lots.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        text.push_str(&format!("  feed {feed} ({whose}), {fields}: {named}{more}\n"));
    }
    text.trim_end().to_owned()
}

/// Who is to be told. The ledger lists what left of our own feeds; what was passed on of received records nobody wrote down.
fn tell(recipients: &BTreeMap<String, u64>, losses: &[Loss]) -> String {
    let (ours, received) = (losses.iter().any(|loss| loss.feed.ours), losses.iter().any(|loss| !loss.feed.ours));
    let parts: Vec<String> = recipients.iter().map(|(name, records)| format!("{} ({})", harmless(name), counted(*records))).collect();
    let mut said = match (parts.is_empty(), ours, received) {
        (false, ..) => format!("These have it too, and keep it until you tell them: {}.", parts.join(", ")),
        (true, true, false) => "None of it ever left this home.".to_owned(),
        (true, true, true) => "None of your own records among them ever left this home.".to_owned(),
        (true, false, _) => String::new(),
    };
    if received {
        let gap = if said.is_empty() { "" } else { " " };
        said.extend([
            gap,
            "What you put into bundles of received records is not recorded: whoever has such a bundle is to be told as well.",
        ]);
    }
    said
}

/// The same for programs.
fn told(recipients: &BTreeMap<String, u64>) -> Vec<serde_json::Value> {
    recipients.iter().map(|(name, records)| json!({ "name": name, "records": records })).collect()
}

fn counted(records: u64) -> String {
    if records == 1 { "1 record".to_owned() } else { format!("{records} records") }
}

fn loss_json(desk: &Desk, loss: &Loss) -> serde_json::Value {
    let fields = kind::called(&loss.summary.facts.kind).map(|schema| seen(schema, loss.slots));
    json!({
        "origin": loss.feed.origin.to_string(), "seq": loss.row.seq, "whose": owner(desk, &loss.feed),
        "lot": loss.summary.facts.lot, "part": loss.summary.facts.part, "fields": fields, "slots": loss.slots,
    })
}
