//! `lotline keys`: the keys of this organisation, and what its root key may change about them.
//!
//! Whatever needs the root is done where the owner sits and never inside a running node: neither kit nor passphrase
//! leaves the process in which they were given.

use std::path::PathBuf;

use lotline_schema::Origin;
use lotline_schema::id::{hex, thumbprint};
use lotline_schema::note;
use lotline_schema::org::{Entry as OrgEntry, Org, Role};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::lists::{feed_name, owner};
use crate::answer::{Answer, Failure, exit};
use crate::certificate::harmless;
use crate::desk::Desk;
use crate::feeds::Feed;

mod attest;
mod delegate;
mod kit;
pub(super) mod root;
pub(super) mod rotate;
pub(super) mod signer;
mod successor;

/// What to do with keys.
#[derive(clap::Subcommand, Serialize, Deserialize, Clone, Debug)]
pub enum Verb {
    /// Show identity, six words, and the public key of each role; with --kit: whose kit a file is.
    #[command(after_help = "Example: lotline keys show\n         lotline keys show --kit lotline-kit.txt --qr kit.svg")]
    Show(kit::ShowArgs),
    /// Give a role a new key. What the old one signed stays valid.
    #[command(
        after_help = "Example: lotline keys rotate record --kit /media/stick/lotline-kit.txt\n         lotline keys rotate transport --kit /media/stick/lotline-kit.txt\n\nA new transport key is used as soon as your partners know it; --now uses it at once."
    )]
    Rotate(rotate::RotateArgs),
    /// Give a role a new key and take back what the stolen old one signed, from an entry on.
    #[command(after_help = "Example: lotline keys revoke record --from quality:812 --kit /media/stick/lotline-kit.txt --reason stolen")]
    Revoke(rotate::RevokeArgs),
    /// Name the key that may take the root's place when the recovery kit is lost, and write it into a second kit.
    #[command(after_help = "Example: lotline keys successor --kit /media/stick/lotline-kit.txt -o second-kit.txt")]
    Successor(successor::SuccessorArgs),
    /// The recovery kit is lost: put the key of the second kit in its place.
    #[command(after_help = "Example: lotline keys inherit --kit second-kit.txt")]
    Inherit(successor::InheritArgs),
    /// The keys with which this node cosigns what it follows, as lines for somebody's quorum file.
    #[command(after_help = "Example: lotline keys witness\n         lotline keys witness --of supplier > quorum.txt")]
    Witness(WitnessArgs),
    /// Persons who release records: add, end, list.
    #[command(subcommand)]
    Signer(signer::Verb),
    /// Ask a partner for a feed of its own that you write: makes its keys and writes the request.
    #[command(after_help = "Example: lotline keys request-delegation --of acme --feed lab -o request.lotline")]
    RequestDelegation(delegate::RequestArgs),
    /// Let a partner that asked for it write a feed of yours, until a day.
    #[command(after_help = "Example: lotline keys delegate request.lotline --until 2027-06-30 --kit /media/stick/lotline-kit.txt")]
    Delegate(delegate::DelegateArgs),
    /// End a delegation before its day: what is written from an entry on is not vouched for.
    #[command(after_help = "Example: lotline keys end-delegation lab --kit /media/stick/lotline-kit.txt")]
    EndDelegation(delegate::EndArgs),
    /// Add what others attest of your root key, such as a qualified seal or a time stamp.
    #[command(after_help = "Example: lotline keys attest qseal root.qseal --kit /media/stick/lotline-kit.txt")]
    Attest(attest::AttestArgs),
    /// Print the key of a kit as 24 words, to be written down by hand.
    #[command(after_help = "Example: lotline keys words --kit lotline-kit.txt")]
    Words(kit::WordsArgs),
}

/// Flags of `keys witness`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct WitnessArgs {
    /// Of this partner's feeds only.
    #[arg(long, value_name = "PARTNER")]
    of: Option<String>,
}

impl Verb {
    /// Verbs about a kit alone, which need no home.
    pub(super) fn without_home(&self) -> Option<Result<Answer, Failure>> {
        match self {
            Verb::Show(args) => kit::show(args),
            Verb::Words(args) => Some(kit::words(args)),
            _ => None,
        }
    }

    /// Files that a running node is to write.
    pub(super) fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Verb::RequestDelegation(args) => vec![&mut args.output],
            _ => Vec::new(),
        }
    }
}

/// Does it.
pub fn run(desk: &Desk, verb: Verb) -> Result<Answer, Failure> {
    match verb {
        Verb::Show(_) => return Ok(show(desk)),
        Verb::Signer(signer::Verb::List) => return signer::run(desk, signer::Verb::List),
        Verb::Witness(args) => return witness(desk, args),
        Verb::RequestDelegation(args) => return delegate::request(desk, args),
        _ => {}
    }
    if desk.board.is_some() {
        return Err(Failure::new("a node runs on this home; the root key is used without it")
            .exit(exit::BUSY)
            .hint("stop the node for this; it takes a moment. Then start it again"));
    }
    match verb {
        Verb::Rotate(args) => rotate::rotate(desk, args),
        Verb::Revoke(args) => rotate::revoke(desk, args),
        Verb::Successor(args) => successor::name(desk, args),
        Verb::Inherit(args) => successor::inherit(desk, args),
        Verb::Signer(verb) => signer::run(desk, verb),
        Verb::Delegate(args) => delegate::delegate(desk, args),
        Verb::EndDelegation(args) => delegate::end(desk, args),
        Verb::Attest(args) => attest::attest(desk, args),
        Verb::Show(_) | Verb::Words(_) | Verb::Witness(_) | Verb::RequestDelegation(_) => {
            unreachable!("answered above, and without a home")
        }
    }
}

fn show(desk: &Desk) -> Answer {
    let snapshot = desk.handle.snapshot();
    let org = &snapshot.orgs[&snapshot.party];
    let mut text = format!("{}\n  identity   {}\n  six words  {}\n", org.name(), snapshot.party, snapshot.party.six_words());
    for (kind, id) in &org.about().ids {
        text.push_str(&format!("  {:<10} {}\n", harmless(kind), harmless(id)));
    }
    for (kind, bytes) in &org.about().attestations {
        text.push_str(&format!("  attested   {}, {} bytes\n", harmless(kind), bytes.len()));
    }
    let attestations: Vec<_> = org.about().attestations.iter().map(|(kind, bytes)| json!({ "type": kind, "bytes": bytes.len() })).collect();
    let mut keys = serde_json::Map::new();
    for role in Role::ALL {
        if let Some(key) = org.key(role) {
            text.push_str(&format!("  {:<10} {}\n", role.name(), hex(key.as_bytes())));
            keys.insert(role.name().into(), json!({ "public": hex(key.as_bytes()), "thumbprint": thumbprint(key).to_string() }));
        }
    }
    let log = org.key(Role::Log).map(|key| note::vkey(&Origin::org(snapshot.party).to_string(), key));
    let changes = changes(org);
    for change in &changes {
        text.push_str(&format!("  entry {:<4} {}\n", change.0, change.1));
    }
    text.push_str("The root key is in your recovery kit, not on this computer.");
    Answer::new(
        text,
        json!({
            "name": org.name(), "identity": snapshot.party.to_string(), "six_words": snapshot.party.six_words(), "ids": org.about().ids,
            "attestations": attestations, "keys": keys, "org_vkey": log, "root": hex(org.root().as_bytes()), "successor": org.successor().map(ToString::to_string),
            "changes": changes.iter().map(|(entry, what)| json!({ "entry": entry, "what": what })).collect::<Vec<_>>(),
        }),
    )
}

/// Our witness keys: another one for each followed feed, so that cosignatures do not show who follows what. Whoever is
/// to count them has to be told which are ours.
fn witness(desk: &Desk, args: WitnessArgs) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    let wanted = |feed: &&Feed| !feed.written && args.of.as_ref().is_none_or(|of| *of == owner(desk, feed));
    let feeds: Vec<Feed> = snapshot.feeds.values().filter(wanted).cloned().collect();
    if feeds.is_empty() {
        return Err(Failure::new("no such feed is followed here").exit(exit::NOT_FOUND).hint("`lotline feeds` shows which are"));
    }
    let origins: Vec<Origin> = feeds.iter().map(|feed| feed.origin.clone()).collect();
    let keys = desk.feeds(move |feeds| Ok(origins.iter().map(|origin| feeds.witness_key(origin)).collect::<Vec<_>>()))?;
    let (mut text, mut rows) = (String::new(), Vec::new());
    for (feed, key) in feeds.iter().zip(keys) {
        text.push_str(&format!("# {} of {}\nwitness {} {key}\n", feed_name(feed), owner(desk, feed), key.name()));
        rows.push(json!({ "origin": feed.origin.to_string(), "of": owner(desk, feed), "vkey": key.to_string() }));
    }
    Ok(Answer::new(text, json!({ "witnesses": rows })))
}

/// The name of a feed, with its number from the second life on.
fn life(origin: &Origin) -> String {
    if origin.n() == 1 { origin.name().to_owned() } else { format!("{}/{}", origin.name(), origin.n()) }
}

/// What became of the keys since the organisation was founded: entry and words.
fn changes(org: &Org) -> Vec<(usize, String)> {
    let why = |reason: &str| if reason.is_empty() { String::new() } else { format!(": {}", harmless(reason)) };
    let words = |entry: &OrgEntry| match entry {
        OrgEntry::Rotation { role, key, reason, .. } => Some(format!("new {role} key {}{}", thumbprint(key).short(), why(reason))),
        OrgEntry::Successor { thumbprint } => Some(format!("successor named {}", thumbprint.short())),
        OrgEntry::Root { key } => Some(format!("new root key {}, the successor took over", thumbprint(key).short())),
        OrgEntry::Signer { name, function, .. } => Some(format!("{} ({}) releases records", harmless(name), harmless(function))),
        OrgEntry::SignerEnd { thumbprint, .. } => {
            let name = org.signers().find(|(kid, _)| *kid == thumbprint).map_or(String::new(), |(_, person)| harmless(&person.name));
            Some(format!("{name} releases no more"))
        }
        OrgEntry::Delegation { name, origin, until, .. } => {
            Some(format!("{} writes feed {} until {}", harmless(name), life(origin), crate::service::day_text(*until)))
        }
        OrgEntry::DelegationEnd { origin, from } => Some(format!("the delegation of feed {} ends before entry {from}", life(origin))),
        OrgEntry::Attestation { kind, bytes } => Some(format!("attested: {}, {} bytes", harmless(kind), bytes.len())),
        _ => None,
    };
    org.statements().enumerate().filter_map(|(at, entry)| Some((at, words(entry)?))).collect()
}
