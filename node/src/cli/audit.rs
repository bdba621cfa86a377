//! `lotline audit`: re-reads and re-verifies the whole store. Repairs nothing.
//!
//! Twice over: bytes (every frame of the journal against its checksum, every index key against the journal), and
//! meaning (every signature, every disclosure, every feed's root against its signed checkpoint, the org feeds).

use std::path::PathBuf;

use lotline_schema::Hash;
use lotline_schema::org::Org;
use lotline_schema::slot::Disclosure;
use lotline_schema::tree::{self, Frontier};
use lotline_schema::view::{Expected, SealedView};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::{Answer, Failure, exit};
use crate::desk::{Desk, show_progress};
use crate::feeds::terms::terms_faults;
use crate::feeds::{Feed, Snapshot, Summary, numbered_faults};
use crate::store::{Reader, Row};

/// Flags of `audit`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct Args {
    /// Instead: compare somebody else's bundle with what is here, to find out whether both were shown the same.
    #[arg(long, value_name = "FILE")]
    pub(super) against: Option<PathBuf>,
    /// The ledger alone: its entries against its signed head, and each row against the receipts.
    #[arg(long, conflicts_with = "against")]
    #[serde(default)]
    ledger: bool,
    /// And against what `lotline run --capture FILE` wrote down.
    #[arg(long, value_name = "FILE", requires = "ledger", num_args = 1..)]
    #[serde(default)]
    pub(super) captured: Vec<PathBuf>,
}

/// Entries read at once.
const PAGE: usize = 512;

/// Audits.
pub fn run(desk: &Desk, args: Args) -> Result<Answer, Failure> {
    if let Some(file) = args.against {
        return super::against::compare(desk, &file);
    }
    if args.ledger {
        return super::captured::audit_ledger(desk, &args.captured);
    }
    let reader = desk.handle.reader();
    let stored = reader.audit(&show_progress)?;
    let snapshot = desk.handle.snapshot();
    let mut problems: Vec<String> = stored.damage.iter().map(|damage| format!("journal: {damage}")).collect();
    problems.extend(stored.differences.iter().map(|difference| format!("index: {difference}")));
    let (mut entries, mut signatures, mut revoked, mut forgotten) = (0u64, 0u64, 0u64, 0u64);
    for feed in snapshot.feeds.values() {
        let found = audit_feed(reader, &snapshot, feed)?;
        entries += found.entries;
        signatures += found.signatures;
        revoked += found.revoked;
        forgotten += found.forgotten;
        problems.extend(found.problems.into_iter().map(|problem| format!("feed {}: {problem}", feed.origin.short())));
    }
    let (numbered, faults) = numbered_faults(reader, &snapshot)?;
    let (accepted, terms) = terms_faults(reader, &snapshot)?;
    signatures += numbered + accepted;
    problems.extend(faults.into_iter().chain(terms));
    let ledger = super::captured::audit_now(desk)?;
    problems.extend(ledger.problems.iter().map(|problem| format!("ledger: {problem}")));
    let clean = problems.is_empty();
    let mut text = if clean {
        format!(
            "Clean. {} commits, {} index keys, {} feeds, {entries} entries, {signatures} signatures, {} entries of the ledger, every root equal to its signed checkpoint.",
            stored.commits,
            stored.keys,
            snapshot.feeds.len(),
            ledger.entries
        )
    } else {
        format!("NOT CLEAN: {} problems.\n", problems.len())
    };
    if revoked > 0 {
        text.push_str(&format!("\n{revoked} of these entries are revoked: intact, and not vouched for since their key was taken back.\n"));
    }
    if forgotten > 0 {
        text.push_str(&format!("\nOf {forgotten} of these entries fields were forgotten here; what is signed is whole.\n"));
    }
    for problem in &problems {
        text.push_str(&format!("  {problem}\n"));
    }
    if !clean {
        text.push_str("Nothing was changed. Restore a backup, or fetch what is missing from a partner; `docs/operating.md` says how.");
    }
    let json = json!({ "clean": clean, "commits": stored.commits, "journal_bytes": stored.bytes, "index_keys": stored.keys, "entries": entries, "signatures": signatures, "revoked": revoked, "forgotten": forgotten, "ledger_entries": ledger.entries, "problems": problems });
    Ok(Answer { text, json, exit: if clean { 0 } else { exit::ALTERED } })
}

#[derive(Default)]
struct Found {
    entries: u64,
    signatures: u64,
    revoked: u64,
    forgotten: u64,
    problems: Vec<String>,
}

fn audit_feed(reader: &Reader, snapshot: &Snapshot, feed: &Feed) -> Result<Found, Failure> {
    let mut found = Found::default();
    if feed.size() == 0 {
        return Ok(found);
    }
    let Some(org) = snapshot.orgs.get(&feed.origin.party()) else {
        found.problems.push("its owner's keys are not here".into());
        return Ok(found);
    };
    let (mut frontier, mut again, mut next) = (Frontier::new(), Org::new(feed.origin.party()), 0);
    while next < feed.size() {
        let rows = reader.rows(feed.id, next, PAGE)?;
        if rows.first().is_none_or(|row| row.seq != next) {
            found.problems.push(format!("entry {next} is missing"));
            return Ok(found);
        }
        for row in rows.into_iter().take_while(|row| row.seq < feed.size()) {
            if row.seq != next {
                found.problems.push(format!("entry {next} is missing"));
                return Ok(found);
            }
            if let Err(problem) = audit_entry(reader, org, &mut again, feed, &row, &mut found) {
                found.problems.push(format!("entry {next}: {problem}"));
            }
            frontier.push(Hash(row.leaf));
            next += 1;
        }
    }
    match org.open(&feed.head.checkpoint) {
        Ok(signed) if signed.size == feed.size() && signed.root == frontier.root() && signed.origin == feed.origin => {}
        // A followed feed may stand between two checkpoints of its owner; then its frontier is what counts.
        Ok(signed) if !feed.written && signed.size > feed.size() && frontier == feed.head.frontier => {}
        Ok(_) => found.problems.push("its entries do not give the root of its signed checkpoint".into()),
        Err(why) => found.problems.push(why.to_string()),
    }
    found.entries = next;
    Ok(found)
}

fn audit_entry(reader: &Reader, org: &Org, again: &mut Org, feed: &Feed, row: &Row, found: &mut Found) -> Result<(), String> {
    let core = match reader.core(row).map_err(|why| why.to_string())? {
        Some(core) => core,
        None if feed.written => return Err("its signed bytes are missing".into()),
        None => return Ok(()),
    };
    if tree::leaf_hash(&core).0 != row.leaf {
        return Err("its signed bytes are not those of its leaf hash".into());
    }
    found.signatures += 1;
    if feed.origin.is_org() {
        return again.accept(core).map(drop).map_err(|why| why.to_string());
    }
    let mut slots = reader.disclosures(row).map_err(|why| why.to_string())?;
    slots.sort_unstable_by_key(|(slot, _)| *slot);
    let sealed = SealedView { core, disclosures: slots.into_iter().map(|(_, bytes)| Disclosure::received(bytes)).collect() };
    let view = sealed.verify(org, Expected { origin: &feed.origin.to_string(), seq: row.seq }).map_err(|why| why.to_string())?;
    found.revoked += u64::from(view.revoked().is_some());
    found.forgotten += u64::from(!row.forgotten.is_empty());
    let missing = view.slots().iter().enumerate().find(|(slot, opened)| opened.is_none() && row.forgotten_slots() >> slot & 1 == 0);
    if let Some((slot, _)) = missing.filter(|_| feed.written) {
        return Err(format!("what opens slot {slot} is neither here nor was it forgotten"));
    }
    let summary = Summary::read(&row.summary).map_err(|why| why.to_string())?;
    // The list must not say anything else than the record.
    let listed = (summary.facts.lot.as_ref(), summary.facts.part.as_ref(), summary.facts.verdict.as_ref());
    let facts = view.facts();
    if feed.written && row.seq > 0 && listed != (facts.lot.as_ref(), facts.part.as_ref(), facts.verdict.as_ref()) {
        return Err("the list says something else than the record".into());
    }
    Ok(())
}
