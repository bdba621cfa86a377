//! `lotline audit --against FILE` and `lotline fork-proof`: is what others were shown what we were shown?

use std::path::{Path, PathBuf};

use lotline_schema::bundle::{BUNDLE_BYTES_MAX, Bundle};
use lotline_schema::fork::ForkProof;
use lotline_schema::verify::{Outcome, Trust, verify};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::input;
use super::lists::{feed_name, owner};
use crate::answer::{Answer, Failure, exit};
use crate::certificate::harmless;
use crate::desk::Desk;
use crate::feeds::{Feed, forks};
use crate::platform;

/// Compares somebody's bundle with what is here; freezes a followed feed that shows two truths.
pub(super) fn compare(desk: &Desk, file: &Path) -> Result<Answer, Failure> {
    let bytes = input::read(file, BUNDLE_BYTES_MAX, "bundle")?;
    let report = verify(&bytes, &Trust::none());
    if matches!(report.outcome, Outcome::Altered | Outcome::Unreadable) {
        let failure = Failure::new(format!("`{}` proves nothing: {}", file.display(), harmless(&report.sentence())));
        return Err(failure.exit(report.outcome.exit_code()).hint("compare with a file that `lotline verify` finds intact"));
    }
    let bundle = Bundle::read(&bytes).map_err(|_| {
        let hint = "`lotline verify` says what a fork proof proves; compare with a bundle";
        Failure::new(format!("`{}` is no bundle", file.display())).exit(exit::UNREADABLE).hint(hint)
    })?;
    let (snapshot, reader) = (desk.handle.snapshot(), desk.handle.reader());
    let comparison = forks::compare(reader, &snapshot, &bundle, &report.records)?;
    let mut text = String::new();
    for (origin, why, proof) in &comparison.found {
        let whose = snapshot.feeds.get(origin.as_str()).map_or_else(|| origin.party().short(), |feed| owner(desk, feed));
        let proven = if proof.is_some() { "proven" } else { "not proven to others" };
        text.push_str(&format!("TWO TRUTHS of {whose}: {why} ({proven})\n"));
        let (origin, why, proof, evidence) = (origin.clone(), format!("FORK: {why}"), proof.clone(), file.display().to_string());
        if snapshot.feeds.get(origin.as_str()).is_some_and(|feed| !feed.written && feed.frozen.is_none()) {
            desk.feeds(move |feeds| feeds.freeze(&origin, &why, evidence.as_bytes(), proof.as_ref()))?;
        }
    }
    let forked = !comparison.found.is_empty();
    let found: Vec<_> = comparison
        .found
        .iter()
        .map(|(origin, why, proof)| json!({ "origin": origin.to_string(), "text": why, "proven": proof.is_some() }))
        .collect();
    text.push_str(&match forked {
        true => "Received feeds that show two truths are frozen. `lotline fork-proof -o FILE` writes the proof.".to_owned(),
        false => format!(
            "No contradiction: {} checkpoints and {} records in {} are those that are here; {} parts are not here and could not be compared.",
            comparison.checkpoints,
            comparison.records,
            file.display(),
            comparison.unknown
        ),
    });
    let json = json!({
        "checkpoints": comparison.checkpoints, "records": comparison.records, "unknown": comparison.unknown, "forks": found,
    });
    Ok(Answer { text, json, exit: if forked { Outcome::Forked.exit_code() } else { 0 } })
}

/// Flags of `fork-proof`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
#[command(after_help = "Example: lotline fork-proof -o fork.lotline && lotline verify fork.lotline")]
pub struct Args {
    /// Of whom, when several feeds are frozen.
    #[arg(long, value_name = "PARTNER")]
    from: Option<String>,
    /// Which feed, when several are frozen.
    #[arg(long)]
    feed: Option<String>,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
}

/// Writes the proof that a feed's owner signed two truths.
pub fn fork_proof(desk: &Desk, args: Args) -> Result<Answer, Failure> {
    desk.settle()?;
    let snapshot = desk.handle.snapshot();
    let wanted = |feed: &&Feed| {
        args.from.as_ref().is_none_or(|from| *from == owner(desk, feed))
            && args.feed.as_ref().is_none_or(|name| *name == feed.origin.name())
    };
    let frozen: Vec<&Feed> = snapshot.feeds.values().filter(|feed| feed.frozen.is_some()).filter(wanted).collect();
    let feed = match frozen.as_slice() {
        [feed] => *feed,
        [] => {
            let hint = "`lotline feeds` shows which are; `lotline audit --against FILE` compares with somebody else's bundle";
            return Err(Failure::new("no feed here is frozen").exit(exit::NOT_FOUND).hint(hint));
        }
        several => {
            let names: Vec<String> =
                several.iter().map(|feed| format!("--from {} --feed {}", owner(desk, feed), feed_name(feed))).collect();
            let what = format!("several feeds are frozen:\n  {}", names.join("\n  "));
            return Err(Failure::new(what).exit(exit::USAGE).hint("say which"));
        }
    };
    let why = feed.frozen.clone().unwrap_or_default();
    let Some(bytes) = forks::kept(desk.handle.reader(), &feed.origin)? else {
        let what = format!("feed {} is frozen ({}), but nothing here proves it to others", feed_name(feed), harmless(&why));
        let hint = "ask another customer for a bundle of this feed, and compare: lotline audit --against FILE";
        return Err(Failure::new(what).exit(exit::NOT_FOUND).hint(hint));
    };
    let proof = ForkProof::read(&bytes).map_err(|why| Failure::new(format!("the stored proof does not read: {why}")))?;
    let (_, proves) = proof.check().map_err(|why| Failure::new(format!("the stored proof does not hold: {why}")))?;
    platform::write_file(&args.output, &bytes).map_err(|why| Failure::new(format!("cannot write `{}`: {why}", args.output.display())))?;
    let text = format!(
        "{}: {} bytes that prove of {}: {proves}.\nAnybody can check it: lotline verify {}",
        args.output.display(),
        bytes.len(),
        owner(desk, feed),
        args.output.display()
    );
    Ok(Answer::new(text, json!({ "file": args.output, "bytes": bytes.len(), "proves": proves, "origin": feed.origin.to_string() })))
}
