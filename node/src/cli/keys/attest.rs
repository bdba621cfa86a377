//! `lotline keys attest`: what others made over the root key goes into the org feed, where every verifier finds it.

use std::path::PathBuf;

use lotline_schema::org::{ATTESTATION_BYTES_MAX, ATTESTATIONS_MAX, Entry as OrgEntry, NAME_BYTES_MAX};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::root::{Root, stated};
use crate::answer::{Answer, Failure, exit};
use crate::desk::Desk;
use crate::service::now;

/// Flags of `keys attest`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct AttestArgs {
    /// What it is, in a word: qseal, rfc3161.
    #[arg(value_name = "TYPE")]
    kind: String,
    /// The bytes that others made over the root key.
    file: PathBuf,
    #[command(flatten)]
    root: Root,
}

/// States an attestation. The program does not judge it.
pub fn attest(desk: &Desk, args: AttestArgs) -> Result<Answer, Failure> {
    let plain = !args.kind.trim().is_empty() && args.kind.len() <= NAME_BYTES_MAX && !args.kind.chars().any(char::is_control);
    if !plain {
        return Err(Failure::new("the type is a word of at most 255 bytes, such as qseal or rfc3161").exit(exit::USAGE));
    }
    let snapshot = desk.handle.snapshot();
    if snapshot.orgs[&snapshot.party].about().attestations.len() >= ATTESTATIONS_MAX {
        return Err(
            Failure::new(format!("your org feed holds {ATTESTATIONS_MAX} attestations already, and no more fit")).exit(exit::REFUSED)
        );
    }
    let failed = |why: &dyn std::fmt::Display| Failure::new(format!("cannot read `{}`: {why}", args.file.display()));
    let size = std::fs::metadata(&args.file).map_err(|why| failed(&why).exit(exit::NOT_FOUND))?.len();
    if size > ATTESTATION_BYTES_MAX as u64 || size == 0 {
        return Err(
            failed(&format!("an attestation has 1 to {ATTESTATION_BYTES_MAX} bytes, and this file has {size}")).exit(exit::UNREADABLE)
        );
    }
    let bytes = std::fs::read(&args.file).map_err(|why| failed(&why).exit(exit::UNREADABLE))?;
    if bytes.is_empty() || bytes.len() > ATTESTATION_BYTES_MAX {
        return Err(failed(&"it changed while it was read").exit(exit::UNREADABLE));
    }
    let (root, count) = (args.root.open()?, bytes.len());
    let entry = OrgEntry::Attestation { kind: args.kind.clone(), bytes };
    let entry = desk.feeds(move |feeds| feeds.state_by_root(&entry, root.signer(), now()))?;
    let text = format!(
        "Attested: {} with {count} bytes (entry {entry} of your org feed). It stands there for good, and in every bundle; nothing here checks it.",
        args.kind
    );
    Ok(stated(text, json!({ "type": args.kind, "bytes": count, "entry": entry })))
}
