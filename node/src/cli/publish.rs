//! `lotline publish`: check a measuring file whole, then sign one record a lot. All or nothing, and resumable.

use std::path::PathBuf;

use lotline_schema::kind::inspection::{Inspection, Role, Verdict};
use lotline_schema::view::PACKAGE_BYTES_MAX;
use lotline_schema::{Hash, PartyId, Record};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::{Answer, Failure, exit};
use crate::desk::Desk;
use crate::feeds::{FeedError, Feeds, OnConflict, Published, Submission, import_row};
use crate::import::{self, Import, ImportError, Map};
use crate::service::{exact_time_text, now};

/// Lots signed in one durable commit.
const CHUNK: usize = 64;

/// Flags of `publish`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug, Default)]
#[command(after_help = "Example: lotline publish plate.csv --lot L-2026-11 --part P-4711 --to oem-a")]
pub struct Args {
    /// The measuring file: CSV or text, a row a value, a row a piece, or a row a characteristic.
    file: PathBuf,
    /// Lot, batch, heat or charge, when no column says so.
    #[arg(long)]
    lot: Option<String>,
    /// Part number, when no column says so.
    #[arg(long)]
    part: Option<String>,
    /// The partner this is for: it goes into that partner's own feed.
    #[arg(long, conflicts_with = "feed", required_unless_present = "feed")]
    to: Option<String>,
    /// A feed of yours by name, when several partners share one.
    #[arg(long)]
    feed: Option<String>,
    /// The feed is this partner's, which delegated it to you: what you publish there is theirs.
    #[arg(long, value_name = "PARTNER", requires = "feed", conflicts_with_all = ["to", "release_by"])]
    #[serde(default)]
    owner: Option<String>,
    /// In which role you measured: maker, receiver or laboratory.
    #[arg(long, default_value = "maker")]
    role: String,
    /// Replace what was published for the same inspection of this lot; the old record stays provable.
    #[arg(long)]
    supersede: bool,
    /// Sample number: another sample of the same lot, beside the first.
    #[arg(long)]
    sample: Option<String>,
    /// A file that says what the columns mean, when they are not recognised.
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Special characteristics, by name or position.
    #[arg(long, value_delimiter = ',')]
    special: Vec<String>,
    /// Why it was measured, as in "first article".
    #[arg(long)]
    reason: Option<String>,
    /// The verdict somebody stated: conforming, non-conforming or undecided.
    #[arg(long)]
    verdict: Option<String>,
    /// Revision of the part.
    #[arg(long)]
    revision: Option<String>,
    /// Name of the part.
    #[arg(long)]
    part_name: Option<String>,
    /// Part number of the customer.
    #[arg(long)]
    customer_part: Option<String>,
    /// Drawing number and revision.
    #[arg(long)]
    drawing: Option<String>,
    /// Order number.
    #[arg(long)]
    order: Option<String>,
    /// Delivery note number.
    #[arg(long)]
    delivery_note: Option<String>,
    /// Operation.
    #[arg(long)]
    operation: Option<String>,
    /// Site.
    #[arg(long)]
    site: Option<String>,
    /// Standard.
    #[arg(long)]
    standard: Option<String>,
    /// Machine.
    #[arg(long)]
    machine: Option<String>,
    /// Gauge.
    #[arg(long)]
    gauge: Option<String>,
    /// Remarks.
    #[arg(long)]
    remarks: Option<String>,
    /// Check everything, sign nothing.
    #[arg(long)]
    dry_run: bool,
    /// Release what is published at once: a person named with `lotline keys signer add`.
    #[arg(long, value_name = "NAME", conflicts_with = "dry_run")]
    release_by: Option<String>,
    /// A file whose first line is that person's passphrase (else it is asked for).
    #[arg(long, value_name = "FILE", requires = "release_by")]
    passphrase_file: Option<PathBuf>,
}

impl Args {
    /// Who releases what is published, and where the passphrase is.
    pub(super) fn release_by(&self) -> Option<(String, Option<PathBuf>)> {
        Some((self.release_by.clone()?, self.passphrase_file.clone()))
    }

    pub(super) fn paths(&mut self) -> Vec<&mut PathBuf> {
        std::iter::once(&mut self.file).chain(self.map.as_mut()).collect()
    }
}

/// Checks and publishes.
pub fn run(desk: &Desk, args: Args) -> Result<Answer, Failure> {
    let (owner, feed) = (owner(desk, &args)?, target(desk, &args)?);
    let import = read(desk, &args)?;
    let records = check(&args, &import)?;
    // Pass one has looked at the file; this looks at the store: a lot that cannot go in refuses the file.
    desk.settle()?;
    let on_conflict = if args.supersede { OnConflict::Supersede } else { OnConflict::Refuse };
    let facts: Vec<_> = records.iter().map(|record| (record.facts(), record.content_hash())).collect();
    let name = feed.clone();
    let known = desk.feeds(move |feeds| {
        if let Some(owner) = owner {
            feeds.may_write(owner, &name, now())?;
        }
        let party = owner.unwrap_or(feeds.snapshot().party);
        facts.iter().map(|(facts, content)| feeds.try_submit(party, facts, *content, on_conflict)).collect::<Result<Vec<_>, _>>()
    })?;
    if args.dry_run {
        let text = format!("{}Nothing was signed (--dry-run): {} lots are ready for feed {feed}.", notes(&import), records.len());
        return Ok(Answer::new(text, json!({ "dry_run": true, "lots": records.len(), "notes": import.notes })));
    }
    let (total, file) = (records.len(), import.source.sha256);
    if let Some((done, of)) = desk.feeds(move |feeds| feeds.import_under_way(&file))? {
        eprintln!("note: publishing this file was interrupted after {done} of {of} lots; it goes on from there");
    }
    let resumed = known.iter().filter(|known| known.is_some()).count();
    let into = Target { owner, feed: feed.clone(), on_conflict };
    let published = commit(desk, records, &into, &import)?;
    Ok(answer(&import, &published, &feed, resumed, total))
}

/// Where the records of a file go.
#[derive(Clone)]
struct Target {
    owner: Option<PartyId>,
    feed: String,
    on_conflict: OnConflict,
}

/// Whose feed it is; none: ours.
fn owner(desk: &Desk, args: &Args) -> Result<Option<PartyId>, Failure> {
    let snapshot = desk.handle.snapshot();
    let known =
        |name: &String| snapshot.book.get(name).map(|partner| partner.party).ok_or_else(|| FeedError::NoPartner(name.clone()).into());
    args.owner.as_ref().map(known).transpose()
}

fn target(desk: &Desk, args: &Args) -> Result<String, Failure> {
    match (&args.to, &args.feed) {
        (Some(partner), _) => {
            let snapshot = desk.handle.snapshot();
            let known = snapshot.book.get(partner).ok_or_else(|| FeedError::NoPartner(partner.clone()))?;
            Ok(known.feed.clone())
        }
        (None, Some(feed)) => Ok(feed.clone()),
        (None, None) => Err(Failure::new("say for whom: --to PARTNER or --feed NAME").exit(exit::USAGE)),
    }
}

fn read(desk: &Desk, args: &Args) -> Result<Import, Failure> {
    let role: Role = args.role.parse().map_err(|why: String| Failure::new(why).exit(exit::USAGE))?;
    let map = args.map.as_deref().map(Map::read).transpose().map_err(|why| refused(args, &why))?;
    let given = args.clone();
    let options = import::Options {
        map,
        part: given.part,
        customer_part: given.customer_part,
        revision: given.revision,
        part_name: given.part_name,
        drawing: given.drawing,
        // The record's customer is the partner it is for: `parts = "theirs"` in the rules goes by it.
        customer: given.to,
        lot: given.lot,
        order: given.order,
        delivery_note: given.delivery_note,
        operation: given.operation,
        reason: given.reason,
        sample: given.sample,
        site: given.site,
        standard: given.standard,
        machine: given.machine,
        gauge: given.gauge,
        program: None,
        environment: None,
        role,
        special: given.special,
        persons: desk.config.persons,
    };
    let bar = std::cell::OnceCell::new();
    let start = std::time::Instant::now();
    let progress = |done: u64, of: u64| {
        if start.elapsed().as_secs() >= 1 {
            let bar: &indicatif::ProgressBar = bar.get_or_init(|| indicatif::ProgressBar::new(of));
            bar.set_position(done);
        }
    };
    let import = import::read(&args.file, &options, &progress).map_err(|why| refused(args, &why));
    if let Some(bar) = bar.get() {
        bar.finish_and_clear();
    }
    import
}

fn refused(args: &Args, why: &ImportError) -> Failure {
    let name = args.file.display();
    let mut what = format!("`{name}`: {why}");
    let mut source = std::error::Error::source(why);
    while let Some(cause) = source {
        what.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let failure = Failure::new(what);
    match why {
        ImportError::Faults(faults) => {
            let mut failure = Failure::new(format!("`{name}` was not published, nothing was changed:\n{faults}"));
            failure.hint = Some(format!("mend {} and publish the file again", if faults.0.len() == 1 { "this" } else { "these" }));
            failure
        }
        other => match other.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        },
    }
}

fn check(args: &Args, import: &Import) -> Result<Vec<Record>, Failure> {
    let verdict = args.verdict.as_deref().map(str::parse::<Verdict>).transpose().map_err(|why| Failure::new(why).exit(exit::USAGE))?;
    let at = exact_time_text();
    let mut faults = Vec::new();
    let mut records = Vec::new();
    for lot in &import.lots {
        let lot = Inspection {
            verdict_stated: verdict.or(lot.verdict_stated),
            remarks: args.remarks.clone().or_else(|| lot.remarks.clone()),
            ..lot.clone()
        };
        match lot.check(&at) {
            Ok(record) if record.package_bytes() > PACKAGE_BYTES_MAX => {
                return Err(FeedError::TooLarge { lot: lot.lot, bytes: record.package_bytes() }.into());
            }
            Ok(record) => records.push(record),
            Err(found) => faults.extend(found.0),
        }
    }
    if faults.is_empty() { Ok(records) } else { Err(refused(args, &ImportError::Faults(lotline_schema::draft::Faults(faults)))) }
}

/// Pass two: chunks under an import row, so that a crash between two of them leaves a mark. What stands there already
/// is recognised by its content, so publishing the same file again goes on where it stopped.
fn commit(desk: &Desk, records: Vec<Record>, into: &Target, import: &Import) -> Result<Vec<Published>, Failure> {
    let (total, file, mut published) = (records.len(), import.source.sha256, Vec::new());
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        let chunk: Vec<Record> = records.by_ref().take(CHUNK).collect();
        let (into, done) = (into.clone(), published.len() + chunk.len());
        published.extend(desk.feeds(move |feeds| submit_chunk(feeds, chunk, &into, file, done, total))?);
    }
    Ok(published)
}

fn submit_chunk(
    feeds: &mut Feeds,
    chunk: Vec<Record>,
    into: &Target,
    file: Hash,
    done: usize,
    total: usize,
) -> Result<Vec<Published>, FeedError> {
    let submission = |record| Submission { record, owner: into.owner, feed: into.feed.clone(), on_conflict: into.on_conflict };
    let row = import_row(&file, done as u64, total as u64);
    feeds.submit_with(chunk.into_iter().map(submission).collect(), vec![row], now())?.into_iter().collect()
}

fn notes(import: &Import) -> String {
    import.notes.iter().map(|note| format!("  {note}\n")).collect()
}

fn answer(import: &Import, published: &[Published], feed: &str, resumed: usize, total: usize) -> Answer {
    let mut text = format!("{}\n{}", import.source.name, notes(import));
    let mut rows = Vec::new();
    for (lot, one) in import.lots.iter().zip(published) {
        let what = if one.repeated { "is published already with the same content: nothing to do" } else { "signed, saved and published" };
        if total <= 20 {
            text.push_str(&format!("lot {} of part {}: {what} (record {} of feed {})\n", lot.lot, lot.part, one.seq, one.origin.name()));
        }
        rows.push(json!({ "lot": lot.lot, "part": lot.part, "origin": one.origin.to_string(), "seq": one.seq, "leaf": one.leaf.to_string(), "repeated": one.repeated, "bytes": one.bytes }));
    }
    if total > 20 {
        text.push_str(&format!("{} lots signed, saved and published to feed {feed}; {resumed} were there already\n", total - resumed));
    }
    Answer::new(
        text,
        json!({ "published": rows, "notes": import.notes, "importer": import.source.importer, "file_sha256": import.source.sha256.to_string() }),
    )
}
