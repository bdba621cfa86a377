//! `lotline keys successor` and `keys inherit`: what is done before the recovery kit is lost, and after.

use std::path::PathBuf;

use lotline_schema::org::Entry as OrgEntry;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::root::{Root, refuse_existing, stated, write_kit};
use crate::answer::{Answer, Failure};
use crate::cli::confirmed;
use crate::cli::init::{KIT_WORK_FACTOR, passphrase};
use crate::desk::Desk;
use crate::keys::kit::{Holds, Kit, Secret};
use crate::service::now;

/// Flags of `keys successor`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct SuccessorArgs {
    #[command(flatten)]
    root: Root,
    /// Where to write the second kit; it belongs into another safe than the first.
    #[arg(short, long, value_name = "SECOND-KIT")]
    output: PathBuf,
    /// A file whose first line is the passphrase for the second kit (else it is asked for).
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// Write the second kit's sealed key as a QR code too (SVG).
    #[arg(long, value_name = "FILE")]
    qr: Option<PathBuf>,
    /// Cost of guessing the passphrase, as a power of two; tests lower it.
    #[arg(long, hide = true, default_value_t = KIT_WORK_FACTOR)]
    kit_work_factor: u8,
}

/// Flags of `keys inherit`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct InheritArgs {
    #[command(flatten)]
    second: Root,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Names a successor.
pub fn name(desk: &Desk, args: SuccessorArgs) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    let org = &snapshot.orgs[&snapshot.party];
    if let Some(named) = org.successor() {
        return Err(Failure::new(format!("a successor was named already: {}", named.short()))
            .hint("its second kit says `lotline keys show --kit FILE`; only that key can take over"));
    }
    refuse_existing(&args.output)?;
    let root = args.root.open()?;
    desk.feeds({
        let signer = root.signer().clone();
        move |feeds| Ok(feeds.is_root(&signer)?)
    })?;
    let passphrase = zeroize::Zeroizing::new(passphrase(args.new_passphrase_file.as_deref(), "A passphrase for the second kit")?);
    let successor = Secret::new();
    let kit = Kit::seal(Holds::Successor, org.name(), snapshot.party, &successor, &passphrase, args.kit_work_factor)?;
    // The kit first: a name without a kit would be a successor that nobody holds.
    write_kit(&kit, &args.output, args.qr.as_deref())?;
    let kid = successor.signer().kid();
    let said = desk.feeds(move |feeds| feeds.state_by_root(&OrgEntry::Successor { thumbprint: kid }, root.signer(), now()));
    let entry = said.inspect_err(|_| {
        let _ = std::fs::remove_file(&args.output);
    })?;
    let text = format!(
        "Successor named: {} (entry {entry} of your org feed).\n  second kit  {} (keep it apart from the recovery kit)\n\
         When the recovery kit is lost: lotline keys inherit --kit SECOND-KIT",
        kid.short(),
        args.output.display()
    );
    Ok(stated(text, json!({ "successor": kid.to_string(), "entry": entry, "second_kit": args.output, "qr": args.qr })))
}

/// The successor takes over.
pub fn inherit(desk: &Desk, args: InheritArgs) -> Result<Answer, Failure> {
    let second = args.second.open()?;
    let key = second.signer().public();
    let name = desk.handle.snapshot().name.clone();
    if !confirmed(args.yes, &format!("Put this key in the place of {name}'s root? The recovery kit so far is then worth nothing")) {
        return Err(Failure::new("not confirmed; nothing was changed").hint("add --yes to confirm without a question"));
    }
    let entry = desk.feeds(move |feeds| feeds.state_by_root(&OrgEntry::Root { key }, second.signer(), now()))?;
    let kid = lotline_schema::id::thumbprint(&key);
    let text = format!(
        "The root key is new: {} (entry {entry} of your org feed). Your identity stays the same.\n\
         What was the second kit is your recovery kit now. Name the next successor: lotline keys successor --kit FILE -o SECOND-KIT",
        kid.short()
    );
    Ok(stated(text, json!({ "root": kid.to_string(), "entry": entry })))
}
