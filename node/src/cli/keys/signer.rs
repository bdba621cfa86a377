//! `lotline keys signer`: the persons who release records, each with a key that only its own passphrase opens.

use lotline_schema::Hash;
use lotline_schema::org::{Entry as OrgEntry, Org, Person};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;

use super::root::{Root, stated};
use crate::answer::{Answer, Failure, exit};
use crate::certificate::harmless;
use crate::cli::init::{KIT_WORK_FACTOR, passphrase};
use crate::desk::Desk;
use crate::keys::kit::Secret;
use crate::keys::signer_file;
use crate::platform;
use crate::service::now;

/// What to do with persons.
#[derive(clap::Subcommand, Serialize, Deserialize, Clone, Debug)]
pub enum Verb {
    /// Name a person who releases records, and make the person's key.
    #[command(after_help = "Example: lotline keys signer add \"J. Doe\" --function \"quality manager\" --kit /media/stick/lotline-kit.txt")]
    Add(AddArgs),
    /// A person releases no more. What was released stays released.
    #[command(after_help = "Example: lotline keys signer end \"J. Doe\" --kit /media/stick/lotline-kit.txt")]
    End(EndArgs),
    /// List the persons.
    #[command(after_help = "Example: lotline keys signer list")]
    List,
}

/// Flags of `keys signer add`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct AddArgs {
    /// The person's name, as it will stand on certificates.
    name: String,
    /// In which function, as "quality manager".
    #[arg(long)]
    function: String,
    #[command(flatten)]
    root: Root,
    /// A file whose first line is the person's own passphrase (else the person is asked for it).
    #[arg(long, value_name = "FILE")]
    person_passphrase_file: Option<PathBuf>,
    /// Cost of guessing the passphrase, as a power of two; tests lower it.
    #[arg(long, hide = true, default_value_t = KIT_WORK_FACTOR)]
    kit_work_factor: u8,
}

/// Flags of `keys signer end`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct EndArgs {
    /// The person's name.
    name: String,
    #[command(flatten)]
    root: Root,
}

/// Does it.
pub fn run(desk: &Desk, verb: Verb) -> Result<Answer, Failure> {
    match verb {
        Verb::Add(args) => add(desk, args),
        Verb::End(args) => end(desk, args),
        Verb::List => Ok(list(desk)),
    }
}

fn add(desk: &Desk, args: AddArgs) -> Result<Answer, Failure> {
    const BYTES_MAX: usize = 255;
    let plain = |text: &str| !text.trim().is_empty() && text.len() <= BYTES_MAX && !text.chars().any(char::is_control);
    if !plain(&args.name) || !plain(&args.function) {
        return Err(Failure::new("name and function are one line each, of at most 255 bytes").exit(exit::USAGE));
    }
    let snapshot = desk.handle.snapshot();
    if active(&snapshot.orgs[&snapshot.party], &args.name).is_some() {
        return Err(Failure::new(format!("`{}` releases records already", args.name))
            .hint("end that first with `lotline keys signer end`, or tell two persons apart by their names"));
    }
    let root = args.root.open()?;
    desk.feeds({
        let signer = root.signer().clone();
        move |feeds| Ok(feeds.is_root(&signer)?)
    })?;
    let question = format!("A passphrase that only {} knows", harmless(&args.name));
    let secret_text = zeroize::Zeroizing::new(passphrase(args.person_passphrase_file.as_deref(), &question)?);
    let person = Secret::new();
    let (key, kid) = (person.signer().public(), person.signer().kid());
    let file = signer_file(&desk.home.keys(), &key);
    // The key first: a name without a key would be a person who cannot release.
    let failed = |why: std::io::Error| Failure::new(format!("cannot write `{}`: {why}", file.display()));
    platform::create_private_folder(&desk.home.keys().join("signers")).map_err(failed)?;
    platform::write_secret(&file, person.seal(&secret_text, args.kit_work_factor)?.as_bytes()).map_err(failed)?;
    let entry = OrgEntry::Signer { name: args.name.clone(), function: args.function.clone(), key };
    let said = desk.feeds(move |feeds| feeds.state_by_root(&entry, root.signer(), now()));
    let entry = said.inspect_err(|_| {
        let _ = std::fs::remove_file(&file);
    })?;
    let text = format!(
        "{} ({}) releases records from now on, with a key that only the person's own passphrase opens (entry {entry} of your org feed).\n\
         To release: lotline release LOT --by \"{}\"",
        args.name, args.function, args.name
    );
    Ok(stated(text, json!({ "name": args.name, "function": args.function, "key": kid.to_string(), "entry": entry })))
}

fn end(desk: &Desk, args: EndArgs) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    let (thumbprint, person) = known(&snapshot.orgs[&snapshot.party], &args.name)?;
    let file = signer_file(&desk.home.keys(), person.key());
    let root = args.root.open()?;
    let entry = desk.feeds(move |feeds| {
        let from = feeds.places_now()?;
        feeds.state_by_root(&OrgEntry::SignerEnd { thumbprint, from }, root.signer(), now())
    })?;
    // The org feed says so already; a file that stays signs nothing that anybody would take.
    let removed = std::fs::remove_file(&file).is_ok();
    let text =
        format!("{} releases no more (entry {entry} of your org feed). What was released so far stays released.", harmless(&args.name));
    Ok(stated(text, json!({ "name": args.name, "key": thumbprint.to_string(), "entry": entry, "key_removed": removed })))
}

fn list(desk: &Desk) -> Answer {
    let snapshot = desk.handle.snapshot();
    let (mut text, mut rows) = (String::new(), Vec::new());
    for (thumbprint, person) in snapshot.orgs[&snapshot.party].signers() {
        let state = if person.is_active() { "" } else { "  ended" };
        text.push_str(&format!("{:<24} {:<24} {}{state}\n", harmless(&person.name), harmless(&person.function), thumbprint.short()));
        rows.push(json!({ "name": person.name, "function": person.function, "key": thumbprint.to_string(), "active": person.is_active() }));
    }
    if rows.is_empty() {
        text = "nobody is named to release records; `lotline keys signer add` names a person".into();
    }
    Answer::new(text, json!({ "signers": rows }))
}

fn active<'a>(org: &'a Org, name: &str) -> Option<(&'a Hash, &'a Person)> {
    org.signers().find(|(_, person)| person.name == name && person.is_active())
}

/// The person of this name who releases now.
pub fn known(org: &Org, name: &str) -> Result<(Hash, Person), Failure> {
    active(org, name).map(|(thumbprint, person)| (*thumbprint, person.clone())).ok_or_else(|| {
        let ended = org.signers().any(|(_, person)| person.name == name);
        let what = if ended { format!("`{name}` releases no more") } else { format!("nobody called `{name}` releases records") };
        Failure::new(what).exit(exit::NOT_FOUND).hint("`lotline keys signer list` shows who does, `lotline keys signer add` names somebody")
    })
}
