//! `lotline members`: an association signs the list of its members.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lotline_schema::PartyId;
use lotline_schema::bundle::OrgPart;
use lotline_schema::members::{Member, Members, MembersFile};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::{Answer, Failure, exit};
use crate::certificate::harmless;
use crate::desk::Desk;
use crate::platform;
use crate::service::now;

/// What to do with member lists.
#[derive(clap::Subcommand, Serialize, Deserialize, Clone, Debug)]
pub enum Verb {
    /// Sign the list of your members, for `lotline verify --members`.
    #[command(after_help = "Example: lotline members sign members.toml -o members.lotline")]
    Sign {
        /// The list: name = "…", and a [[member]] with issuer, name and ids for each.
        file: PathBuf,
        /// The file to write.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

impl Verb {
    pub(super) fn paths(&mut self) -> Vec<&mut PathBuf> {
        let Verb::Sign { file, output } = self;
        vec![file, output]
    }
}

/// The list as an association writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListFile {
    /// The association's name.
    name: String,
    #[serde(default)]
    member: Vec<ListEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListEntry {
    /// `did:key` of the root.
    issuer: String,
    /// Who it is.
    name: String,
    /// Registered ids.
    #[serde(default)]
    ids: BTreeMap<String, String>,
}

/// Does it.
pub fn run(desk: &Desk, verb: Verb) -> Result<Answer, Failure> {
    let Verb::Sign { file, output } = verb;
    let wrong = |why: &dyn std::fmt::Display| {
        let hint = "a member list has: name = \"…\", then for each member: [[member]] issuer = \"did:key:z6Mk…\" name = \"ACME GmbH\"";
        Failure::new(format!("`{}`: {why}", file.display())).exit(exit::USAGE).hint(hint)
    };
    let text = std::fs::read_to_string(&file).map_err(|why| wrong(&why).exit(exit::NOT_FOUND))?;
    let read: ListFile = toml::from_str(&text).map_err(|why| wrong(&why))?;
    let member = |entry: ListEntry| {
        let party: PartyId = entry.issuer.parse().map_err(|why| wrong(&why))?;
        let ids = entry.ids.into_iter().map(|(kind, id)| (kind.to_ascii_uppercase(), id)).collect();
        Ok(Member { party, name: entry.name, ids })
    };
    let members = read.member.into_iter().map(member).collect::<Result<Vec<_>, Failure>>()?;
    let twice = "a member is on it twice, or a name is empty, too long or not on one line";
    let list = Members::new(read.name, members).map_err(|_| wrong(&twice))?;
    let signed = list.clone();
    let (number, core) = desk.feeds(move |feeds| feeds.sign_members(&signed, now()))?;
    let snapshot = desk.handle.snapshot();
    let origin = lotline_schema::Origin::org(snapshot.party).to_string();
    let org = OrgPart::of(&snapshot.orgs[&snapshot.party], &snapshot.feeds[&origin].head.checkpoint);
    let bytes = MembersFile { org, core }.to_bytes();
    platform::write_file(&output, &bytes).map_err(|why| Failure::new(format!("cannot write `{}`: {why}", output.display())))?;
    let count = list.members.len();
    let text = format!(
        "List {number} of {} with {} in {} ({} bytes).\nWhoever trusts you knows your members with: lotline verify FILE --trust TRUST --members {}",
        harmless(&list.association),
        if count == 1 { "1 member".to_owned() } else { format!("{count} members") },
        output.display(),
        bytes.len(),
        output.display()
    );
    Ok(Answer::new(text, json!({ "association": list.association, "number": number, "members": count, "file": output })))
}
