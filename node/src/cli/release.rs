//! `lotline release`: a named person countersigns a record, beside a running node or without one.
//!
//! The person's key is opened and used in this process alone. The node is asked for the next place of the feed, gets
//! the signed statement for it, and says so when another entry was faster.

use std::path::{Path, PathBuf};

use lotline_schema::id::{hex, unhex};
use lotline_schema::release::Release;
use lotline_schema::statement::Place;
use lotline_schema::{Hash, Origin};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::keys::{root::passphrase_once, signer};
use super::lists::find_record;
use super::{HomeVerb, publish};
use crate::answer::{Answer, Failure, exit};
use crate::certificate::harmless;
use crate::config::Home;
use crate::desk::{self, Desk};
use crate::feeds::{FeedError, ReleaseError, Summary, released_by};
use crate::keys::kit::{KIT_BYTES_MAX, Secret};
use crate::keys::random;
use crate::service::now;

/// Flags of `release`.
#[derive(clap::Args)]
#[command(after_help = "Example: lotline release L-2026-11 --by \"J. Doe\"")]
pub struct Args {
    /// The lot.
    lot: String,
    /// The part, when several have this lot.
    #[arg(long)]
    part: Option<String>,
    /// Who releases it: a person named with `lotline keys signer add`.
    #[arg(long, value_name = "NAME")]
    by: String,
    /// A file whose first line is the person's passphrase (else it is asked for).
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// What the home is asked: the person, the place, and to take what was signed.
#[derive(clap::Subcommand, Serialize, Deserialize, Clone, Debug)]
pub enum Step {
    /// Where the person's key lies.
    Person {
        /// Who.
        name: String,
    },
    /// Which record, and where its release would stand.
    Place {
        /// Who.
        name: String,
        /// The lot, or with `--at` a place.
        lot: String,
        /// The part.
        #[arg(long)]
        part: Option<String>,
        /// Origin and sequence number of the record.
        #[arg(long, num_args = 2, value_names = ["ORIGIN", "ENTRY"])]
        at: Option<Vec<String>>,
    },
    /// A signed release, in hex.
    Take {
        /// The statement.
        core: String,
    },
}

/// How often a release is signed again because another entry was faster.
const TRIES: usize = 20;

/// Releases one record.
pub fn run(home: &Home, args: Args) -> Result<Answer, Failure> {
    let person = open_person(home, &args.by, args.passphrase_file.as_deref())?;
    let said = release(home, &args.by, &person, &args.lot, args.part.as_deref(), None)?;
    let text = said_text(&args.by, &said);
    Ok(Answer::new(text, said))
}

/// Publishes, and releases what was published.
pub(super) fn publish_and_release(home: &Home, by: &str, passphrase_file: Option<&Path>, verb: HomeVerb) -> Result<Answer, Failure> {
    // Whoever mistypes the passphrase has published nothing.
    let person = open_person(home, by, passphrase_file)?;
    let mut answer = desk::at_home(home.clone(), verb)?;
    let mut released = Vec::new();
    for one in answer.json["published"].as_array().cloned().unwrap_or_default() {
        let (lot, origin) = (one["lot"].as_str().unwrap_or_default(), one["origin"].as_str().unwrap_or_default());
        let at = vec![origin.to_owned(), one["seq"].to_string()];
        let said = release(home, by, &person, lot, None, Some(at)).map_err(|why| {
            let hint = format!("it is published; release it with: lotline release {lot} --by \"{by}\"");
            if why.hint.is_some() { why } else { why.hint(hint) }
        })?;
        released.push(said);
    }
    if !released.is_empty() {
        let counted = if released.len() == 1 { "1 record".to_owned() } else { format!("{} records", released.len()) };
        answer.text = format!("{}\nreleased by {}: {counted}", answer.text.trim_end(), harmless(by));
        answer.json["released"] = json!(released);
    }
    Ok(answer)
}

fn open_person(home: &Home, name: &str, passphrase_file: Option<&Path>) -> Result<Secret, Failure> {
    let said = desk::at_home(home.clone(), HomeVerb::ReleaseStep(Step::Person { name: name.to_owned() }))?;
    let file = PathBuf::from(said.json["file"].as_str().unwrap_or_default());
    let missing = |why: std::io::Error| {
        Failure::new(format!("cannot read the key of {name}, `{}`: {why}", file.display()))
            .hint("when it is lost: `lotline keys signer end`, then `lotline keys signer add`")
    };
    if std::fs::metadata(&file).map_err(missing)?.len() > KIT_BYTES_MAX as u64 {
        return Err(Failure::new(format!("`{}` is larger than any sealed key", file.display())).exit(exit::UNREADABLE));
    }
    let text = std::fs::read_to_string(&file).map_err(missing)?;
    let passphrase = passphrase_once(passphrase_file, &format!("Passphrase of {}", harmless(name)))?;
    let person = Secret::open(&text, &passphrase)?;
    match said.json["key"] == person.signer().kid().to_string() {
        true => Ok(person),
        false => Err(Failure::new(format!("`{}` holds another key than the one of {name}", file.display())).exit(exit::ALTERED)),
    }
}

fn release(home: &Home, by: &str, person: &Secret, lot: &str, part: Option<&str>, at: Option<Vec<String>>) -> Result<Value, Failure> {
    let broken = || Failure::new("the home gave no place for the release");
    for _ in 0..TRIES {
        let step = Step::Place { name: by.to_owned(), lot: lot.to_owned(), part: part.map(str::to_owned), at: at.clone() };
        let mut said = desk::at_home(home.clone(), HomeVerb::ReleaseStep(step))?.json;
        if said["repeated"] == true {
            return Ok(said);
        }
        let origin: Origin = said["origin"].as_str().and_then(|origin| origin.parse().ok()).ok_or_else(broken)?;
        let leaf: Hash = said["leaf"].as_str().and_then(|leaf| leaf.parse().ok()).ok_or_else(broken)?;
        let (seq, entry) = said["record"].as_u64().zip(said["entry"].as_u64()).ok_or_else(broken)?;
        let place = Place { origin, seq: entry, now: now(), supersedes: None };
        let sealed = Release { leaf, seq }.seal(&place, person.signer(), random).map_err(Failure::new)?;
        let taken = desk::at_home(home.clone(), HomeVerb::ReleaseStep(Step::Take { core: hex(&sealed.core) }))?;
        if taken.json["taken"] == true {
            said["repeated"] = json!(false);
            said["statement"] = taken.json["statement"].clone();
            return Ok(said);
        }
    }
    Err(Failure::new("the feed goes on faster than this can be signed").exit(exit::BUSY).hint("try again when less is published"))
}

fn said_text(by: &str, said: &Value) -> String {
    let again = if said["repeated"] == true { " (it was released already; nothing to do)" } else { "" };
    format!(
        "record {} of feed {} is released by {} ({}), entry {}{again}",
        said["record"],
        said["feed"].as_str().unwrap_or_default(),
        harmless(by),
        harmless(said["function"].as_str().unwrap_or_default()),
        said["entry"]
    )
}

/// One step, at the desk of the home.
pub(super) fn step(desk: &Desk, step: Step) -> Result<Answer, Failure> {
    match step {
        Step::Person { name } => {
            let snapshot = desk.handle.snapshot();
            let (thumbprint, person) = signer::known(&snapshot.orgs[&snapshot.party], &name)?;
            let file = crate::keys::signer_file(&desk.home.keys(), person.key());
            Ok(Answer::new("", json!({ "file": file, "key": thumbprint.to_string() })))
        }
        Step::Place { name, lot, part, at } => place(desk, &name, &lot, part.as_deref(), at),
        Step::Take { core } => {
            let core = unhex(&core).ok_or_else(|| Failure::new("not a statement in hex").exit(exit::USAGE))?;
            match desk.handle.with_blocking(move |feeds| feeds.release(core))? {
                Ok(taken) => Ok(Answer::new("", json!({ "taken": true, "statement": taken.leaf.to_string() }))),
                Err(FeedError::Release(ReleaseError::Moved(_))) => Ok(Answer::new("", json!({ "taken": false }))),
                Err(why) => Err(why.into()),
            }
        }
    }
}

fn place(desk: &Desk, name: &str, lot: &str, part: Option<&str>, at: Option<Vec<String>>) -> Result<Answer, Failure> {
    let (snapshot, reader) = (desk.handle.snapshot(), desk.handle.reader());
    let (kid, person) = signer::known(&snapshot.orgs[&snapshot.party], name)?;
    let (feed, row) = match at.as_deref() {
        Some([origin, seq]) => {
            desk.settle()?;
            let missing = || Failure::new("there is no such record here").exit(exit::NOT_FOUND);
            let feed = snapshot.feeds.get(origin).filter(|feed| feed.ours).ok_or_else(missing)?.clone();
            let row = seq.parse().ok().map(|seq| reader.row(feed.id, seq)).transpose()?.flatten().ok_or_else(missing)?;
            (feed, row)
        }
        _ => find_record(desk, lot, part, true)?,
    };
    if !feed.written {
        let what = format!("record {} stands in feed {}, which somebody else writes for you", row.seq, feed.origin.name());
        return Err(Failure::new(what)
            .exit(exit::REFUSED)
            .hint("a release stands in the feed of its record, and only who writes a feed adds to it"));
    }
    if Summary::read(&row.summary)?.superseded_by.is_some() {
        return Err(Failure::new(format!("record {} of feed {} was replaced by a newer one", row.seq, feed.origin.name())));
    }
    let earlier = released_by(reader, &snapshot, &feed, Hash(row.leaf))?.into_iter().find(|one| one.kid == kid && one.ended.is_none());
    Ok(Answer::new(
        "",
        json!({
            "lot": lot, "released_by": name, "function": person.function, "origin": feed.origin.to_string(), "feed": feed.origin.name(),
            "record": row.seq, "leaf": Hash(row.leaf).to_string(), "repeated": earlier.is_some(),
            "entry": earlier.map_or(feed.size(), |one| one.entry),
        }),
    ))
}

/// Splits `publish --release-by` into its two halves.
pub(super) fn wanted(verb: &HomeVerb) -> Option<(String, Option<PathBuf>)> {
    match verb {
        HomeVerb::Publish(args) => publish::Args::release_by(args),
        _ => None,
    }
}
