//! `lotline audit --ledger`: the ledger against its own signed head, against the receipts, and against captured traffic.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use lotline_policy::RELEASE_SHOWN;
use lotline_schema::statement::Type;
use lotline_schema::view::SealedView;
use lotline_schema::{Hash, kind};
use serde_json::{Value, json};

use crate::answer::{Answer, Failure, exit};
use crate::capture::{self, CaptureError, Captured};
use crate::certificate::harmless;
use crate::desk::{Desk, show_done};
use crate::exchange::Message;
use crate::exchange::message::{backfill_digest, items_digest};
use crate::feeds::Item;
use crate::feeds::ledger::{LedgerAudit, audit, places_between, row_numbered};
use crate::ledger::Outcome;

/// Problems that are named; more are counted.
const NAMED_MAX: usize = 100;

/// Audits the ledger alone.
pub(super) fn audit_ledger(desk: &Desk, captured: &[PathBuf]) -> Result<Answer, Failure> {
    desk.settle()?;
    let found = audit_now(desk)?;
    let mut traffic = Traffic::default();
    for file in captured {
        traffic.compare(desk, file)?;
    }
    let mut problems = found.problems.clone();
    problems.extend(traffic.problems.iter().cloned());
    let clean = problems.is_empty() && traffic.unnamed == 0;
    let mut text = if clean { "Clean. ".to_owned() } else { format!("NOT CLEAN: {} problems.\n", problems.len() as u64 + traffic.unnamed) };
    text.push_str(&sentence(&found));
    if !captured.is_empty() {
        text.push_str(&traffic.sentence());
    }
    for problem in &problems {
        text.push_str(&format!("\n  {problem}"));
    }
    let json = json!({
        "clean": clean, "entries": found.entries, "rows": found.rows, "receipted": found.receipted, "without_receipt": found.open,
        "refilled": found.refilled, "captured": traffic.to_json(captured), "problems": problems,
    });
    Ok(Answer { text, json, exit: if clean { 0 } else { exit::ALTERED } })
}

/// The ledger as it stands. Read beside a node that goes on; what seems wrong is read once more on the writer's thread,
/// where entries and head are of one moment.
pub(super) fn audit_now(desk: &Desk) -> Result<LedgerAudit, Failure> {
    let progress = |done, total| show_done("reading the ledger", done, total);
    let found = audit(desk.handle.reader(), &desk.handle.snapshot(), &progress)?;
    if found.problems.is_empty() {
        return Ok(found);
    }
    desk.feeds(move |feeds| {
        feeds.settle()?;
        audit(feeds.reader(), feeds.snapshot(), &progress)
    })
}

fn sentence(of: &LedgerAudit) -> String {
    format!(
        "{} entries of the ledger give its signed head; {} rows, {} with the receipt that is due, {} without one: may have left, {} refilled from receipts.",
        of.entries, of.rows, of.receipted, of.open, of.refilled
    )
}

/// What captures hold, and how much of it the ledger accounts for.
#[derive(Default)]
struct Traffic {
    frames: u64,
    entries: u64,
    slots: u64,
    accounted_entries: u64,
    accounted_slots: u64,
    problems: Vec<String>,
    unnamed: u64,
}

/// An entry as it was captured: the slots that its disclosures open.
struct Seen {
    seq: u64,
    mask: u64,
    slots: Option<&'static kind::Schema>,
}

impl Traffic {
    fn compare(&mut self, desk: &Desk, path: &Path) -> Result<(), Failure> {
        let unreadable =
            |why: &dyn std::fmt::Display| Failure::new(format!("cannot read `{}`: {why}", path.display())).exit(exit::UNREADABLE);
        let file = std::fs::File::open(path).map_err(|why| unreadable(&why).exit(exit::NOT_FOUND))?;
        capture::read(std::io::BufReader::new(file), |number, captured| {
            let found = self.compare_frame(desk, number, &captured);
            found.map_err(Stopped::Here)
        })
        .map_err(|stopped| match stopped {
            Stopped::File(why) => unreadable(&why).hint("a file of `lotline run --capture FILE`"),
            Stopped::Here(failure) => failure,
        })?;
        Ok(())
    }

    fn compare_frame(&mut self, desk: &Desk, number: u64, captured: &Captured) -> Result<(), Failure> {
        self.frames += 1;
        let (digest, seen) = match captured.message() {
            Some(Message::Batch(batch)) => {
                let seen = (batch.from..).zip(&batch.items).map(|(seq, item)| match item {
                    Item::Hidden(_) => Ok(Seen { seq, mask: 0, slots: None }),
                    Item::View(view) => seen(seq, view),
                });
                (items_digest(&batch.items), seen.collect::<Result<Vec<_>, String>>())
            }
            Some(Message::Backfill(backfill)) => {
                let seen = backfill.items.iter().map(|(seq, view)| seen(*seq, view)).collect();
                (backfill_digest(&backfill.items), seen)
            }
            _ => {
                self.problem(format!("captured frame {number}: no frame with entries"));
                return Ok(());
            }
        };
        let seen = match seen {
            Ok(seen) => seen,
            Err(why) => {
                self.problem(format!("captured frame {number}: {why}"));
                return Ok(());
            }
        };
        self.account(desk, captured, digest, &seen)
    }

    fn account(&mut self, desk: &Desk, captured: &Captured, digest: Hash, seen: &[Seen]) -> Result<(), Failure> {
        let (Some(from), Some(last)) = (seen.iter().map(|of| of.seq).min(), seen.iter().map(|of| of.seq).max()) else {
            return Ok(());
        };
        let reader = desk.handle.reader();
        let places = places_between(reader, &captured.to, &captured.origin, from, last.saturating_add(1))?;
        let mut masks: HashMap<u64, u64> = HashMap::new();
        let mut whole = false;
        for place in places.iter().filter(|place| place.outcome != Outcome::NotSent) {
            for sent in &place.sent {
                *masks.entry(sent.seq).or_default() |= sent.mask;
            }
            // Of a row that was lost the receipt names the hash of what came, and nothing else.
            let told = place.sent.is_empty() && (place.from, place.end) == (from, last + 1);
            whole |= told && row_numbered(reader, place.number)?.is_some_and(|row| row.digest == digest);
        }
        let feed = captured.origin.split('/').nth(1).unwrap_or_default();
        let (feed, to) = (harmless(feed), harmless(&captured.to));
        for of in seen {
            let open = u64::from((of.mask & !RELEASE_SHOWN).count_ones());
            (self.entries, self.slots) = (self.entries + 1, self.slots + open);
            let known = if whole { Some(u64::MAX) } else { masks.get(&of.seq).copied() };
            let missing = of.mask & !known.unwrap_or(0);
            self.accounted_slots += open - u64::from((missing & !RELEASE_SHOWN).count_ones());
            match known {
                Some(_) if missing == 0 => self.accounted_entries += 1,
                Some(_) => {
                    let fields = of.slots.map_or_else(|| vec!["a release"], |schema| super::lists::seen(schema, missing));
                    self.problem(format!(
                        "entry {} of feed {feed} went to {to} with more than the ledger says: {}",
                        of.seq,
                        fields.join(", ")
                    ));
                }
                None => self.problem(format!("entry {} of feed {feed} went to {to}, and the ledger does not say so", of.seq)),
            }
        }
        Ok(())
    }

    fn problem(&mut self, text: String) {
        if self.problems.len() < NAMED_MAX { self.problems.push(text) } else { self.unnamed += 1 }
    }

    fn sentence(&self) -> String {
        let share = if self.entries == 0 { 100.0 } else { (1000.0 * self.accounted_entries as f64 / self.entries as f64).floor() / 10.0 };
        format!(
            "\nCaptured: {} frames; {} of {} entries and {} of {} fields stand in the ledger ({share} %).",
            self.frames, self.accounted_entries, self.entries, self.accounted_slots, self.slots
        )
    }

    fn to_json(&self, files: &[PathBuf]) -> Option<Value> {
        let counts: BTreeMap<&str, u64> = [
            ("frames", self.frames),
            ("entries", self.entries),
            ("accounted_entries", self.accounted_entries),
            ("fields", self.slots),
            ("accounted_fields", self.accounted_slots),
        ]
        .into();
        (!files.is_empty()).then(|| json!(counts))
    }
}

/// What was opened of an entry.
fn seen(seq: u64, view: &SealedView) -> Result<Seen, String> {
    let view = view.trusted().map_err(|why| format!("entry {seq} does not open: {why}"))?;
    let mask = match view.claims().typ {
        Type::Release => RELEASE_SHOWN,
        _ => view.opened().iter().fold(0, |mask, slot| mask | 1 << slot),
    };
    Ok(Seen { seq, mask, slots: view.schema() })
}

/// Why a capture was not read to its end.
enum Stopped {
    File(CaptureError),
    Here(Failure),
}

impl From<CaptureError> for Stopped {
    fn from(why: CaptureError) -> Stopped {
        Stopped::File(why)
    }
}
