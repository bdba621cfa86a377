//! `lotline members`: an association signs the list of its members; who shares with them keeps it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lotline_policy::MEMBERS_OF;
use lotline_policy::parse::NAME_CHARS_MAX;
use lotline_schema::PartyId;
use lotline_schema::bundle::OrgPart;
use lotline_schema::file;
use lotline_schema::members::{Member, Members, MembersFile, OpenedMembers};
use lotline_schema::verify::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{confirmed_at, input};
use crate::answer::{Answer, Failure, exit};
use crate::certificate::harmless;
use crate::desk::Desk;
use crate::platform;
use crate::service::{now, time_text};

/// What to do with member lists.
#[derive(clap::Subcommand, Serialize, Deserialize, Clone, Debug)]
pub enum Verb {
    /// Sign the list of your members, for `lotline verify --members` and for the sharing rules of your members' partners.
    #[command(after_help = "Example: lotline members sign members.toml -o members.lotline")]
    Sign {
        /// The list: name = "…", until = a day, and a [[member]] with issuer, name and ids for each.
        file: PathBuf,
        /// The file to write.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Keep the list of an association, so that rules can say with = "members-of:NAME".
    #[command(
        after_help = "Example: lotline members add members.lotline --as vdz\n         lotline members add members.lotline --as vdz --issuer did:key:z6Mk…"
    )]
    Add {
        /// The signed list, as the association gave it to you.
        file: PathBuf,
        /// What you call the list, in your rules.
        #[arg(long = "as", value_name = "NAME")]
        name: String,
        /// The association's identity, from a source you trust.
        #[arg(long, value_name = "did:key:…")]
        issuer: Option<String>,
        /// The association's six words, as it told you.
        #[arg(long, value_name = "WORDS", conflicts_with = "issuer")]
        words: Option<String>,
    },
    /// Show the lists you keep, and which partners are on them.
    List,
    /// Forget a list. Rules in force keep the members they were applied with.
    Remove {
        /// Its name.
        name: String,
    },
}

impl Verb {
    pub(super) fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Verb::Sign { file, output } => vec![file, output],
            Verb::Add { file, .. } => vec![file],
            Verb::List | Verb::Remove { .. } => Vec::new(),
        }
    }
}

/// The list as an association writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListFile {
    /// The association's name.
    name: String,
    /// The first day on which it no longer holds.
    until: Option<toml::value::Datetime>,
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
    match verb {
        Verb::Sign { file, output } => sign(desk, &file, &output),
        Verb::Add { file, name, issuer, words } => add(desk, &file, &name, issuer.as_deref(), words.as_deref()),
        Verb::List => Ok(list(desk)),
        Verb::Remove { name } => {
            let list = desk.feeds(move |feeds| feeds.remove_list(&name))?;
            let text = format!("The list {} is forgotten. Rules in force keep the members they were applied with.", list.name);
            Ok(Answer::new(text, json!({ "removed": list.name })))
        }
    }
}

fn sign(desk: &Desk, file: &Path, output: &Path) -> Result<Answer, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        let hint = "a member list has: name = \"…\", then for each member: [[member]] issuer = \"did:key:z6Mk…\" name = \"ACME GmbH\"";
        Failure::new(format!("`{}`: {why}", file.display())).exit(exit::USAGE).hint(hint)
    };
    let text = std::fs::read_to_string(file).map_err(|why| wrong(&why).exit(exit::NOT_FOUND))?;
    let read: ListFile = toml::from_str(&text).map_err(|why| wrong(&why))?;
    let member = |entry: ListEntry| {
        let party: PartyId = entry.issuer.parse().map_err(|why| wrong(&why))?;
        let ids = entry.ids.into_iter().map(|(kind, id)| (kind.to_ascii_uppercase(), id)).collect();
        Ok(Member { party, name: entry.name, ids })
    };
    let members = read.member.into_iter().map(member).collect::<Result<Vec<_>, Failure>>()?;
    let twice = "a member is on it twice, or a name is empty, too long or not on one line";
    let mut list = Members::new(read.name, members).map_err(|_| wrong(&twice))?;
    if let Some(until) = read.until {
        let midnight = midnight(&until).ok_or_else(|| wrong(&"`until` is a day, as until = 2028-01-01 without quotes and time"))?;
        if midnight <= now() {
            return Err(wrong(&format!("the list ended already ({})", day(midnight))));
        }
        list = list.with_end(midnight);
    }
    let signed = list.clone();
    let (number, core) = desk.feeds(move |feeds| feeds.sign_members(&signed, now()))?;
    let snapshot = desk.handle.snapshot();
    let origin = lotline_schema::Origin::org(snapshot.party).to_string();
    let org = OrgPart::of(&snapshot.orgs[&snapshot.party], &snapshot.feeds[&origin].head.checkpoint);
    let bytes = MembersFile { org, core }.to_bytes();
    platform::write_file(output, &bytes).map_err(|why| Failure::new(format!("cannot write `{}`: {why}", output.display())))?;
    let count = list.members.len();
    let text = format!(
        "List {number} of {} with {}, {}, in {} ({} bytes).\nWhoever trusts you knows your members with: lotline verify FILE --trust TRUST --members {}",
        harmless(&list.association),
        counted(count, "member"),
        list.until.map_or("without an end, so rules cannot use it".into(), |until| format!("until {}", day(until))),
        output.display(),
        bytes.len(),
        output.display()
    );
    Ok(Answer::new(
        text,
        json!({ "association": list.association, "number": number, "members": count, "until": list.until, "file": output }),
    ))
}

/// The first second of a day.
fn midnight(day: &toml::value::Datetime) -> Option<u64> {
    let date = day.date.filter(|_| day.time.is_none() && day.offset.is_none())?;
    let day = jiff::civil::Date::new(i16::try_from(date.year).ok()?, i8::try_from(date.month).ok()?, i8::try_from(date.day).ok()?);
    u64::try_from(day.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second()).ok()
}

/// The day of a moment, UTC.
fn day(seconds: u64) -> String {
    time_text(seconds).chars().take("2026-11-23".len()).collect()
}

fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

fn add(desk: &Desk, path: &Path, name: &str, issuer: Option<&str>, words: Option<&str>) -> Result<Answer, Failure> {
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(|c| c.is_control() || c.is_whitespace() || c == ':') {
        return Err(Failure::new(format!("`{name}` cannot name a member list"))
            .exit(exit::USAGE)
            .hint("give a short name without spaces and colons with --as"));
    }
    let (file, opened) = read_members(path)?;
    trusted(desk, name, &opened, issuer, words)?;
    let (called, given) = (name.to_owned(), file);
    let (list, before) = desk.feeds(move |feeds| feeds.keep_list(&called, &given, now()))?;
    let partners = desk.handle.snapshot().member_lists().remove(name).map_or(Default::default(), |list| list.partners);
    let what = match before {
        Some(before) if before.number == list.number => format!("List {} was kept already", list.number),
        Some(before) => format!("List {} is kept in the place of list {}", list.number, before.number),
        None => format!("List {} is kept", list.number),
    };
    let on_it =
        if partners.is_empty() { "none of your partners".to_owned() } else { partners.iter().cloned().collect::<Vec<_>>().join(", ") };
    let text = format!(
        "{what} as {name}: {} of {}, until {}; on it: {on_it}.\nRules name it with = \"{MEMBERS_OF}{name}\". What is in force changes with the next `lotline policy apply`.",
        counted(list.members.len(), "member"),
        harmless(&list.association),
        day(list.until),
    );
    let members = list.members.len();
    Ok(Answer::new(
        text,
        json!({
            "name": name, "association": list.association, "number": list.number, "until": list.until, "members": members, "partners": partners,
        }),
    ))
}

/// Reads and verifies a member list; whether its association is trusted is the caller's to say.
pub(super) fn read_members(path: &Path) -> Result<(MembersFile, OpenedMembers), Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::new(format!("member list `{}`: {why}", path.display()));
    let bytes = input::read(path, file::BYTES_MAX, "member list")?;
    let file = MembersFile::read(&bytes).map_err(|why| wrong(&why).exit(exit::UNREADABLE))?;
    let opened = file.open().map_err(|why| wrong(&why).exit(exit::ALTERED))?;
    Ok((file, opened))
}

/// The owner knows this association: by an earlier list of it, by pairing, by its identity or words, or by saying yes now.
fn trusted(desk: &Desk, name: &str, opened: &OpenedMembers, issuer: Option<&str>, words: Option<&str>) -> Result<(), Failure> {
    let (party, snapshot) = (opened.by.party(), desk.handle.snapshot());
    let calls_itself = harmless(opened.by.name());
    let other = |what: &str| {
        Failure::new(format!("{what}: this list is signed by one that calls itself {calls_itself}, {party}, {}", party.six_words()))
            .exit(Outcome::SignerNotEstablished.exit_code())
    };
    if let Some(issuer) = issuer {
        let named: PartyId = issuer.parse().map_err(|why| Failure::new(why).exit(exit::USAGE))?;
        return if named == party { Ok(()) } else { Err(other("not the association you named")) };
    }
    if let Some(words) = words {
        let same = party.six_words().split_whitespace().eq(words.to_lowercase().split_whitespace());
        return if same { Ok(()) } else { Err(other("not the six words you gave")) };
    }
    if snapshot.lists.get(name).is_some_and(|known| known.party == party) || snapshot.partner_of(&party).is_some() {
        return Ok(());
    }
    let question =
        format!("The list is signed by {calls_itself}, {}. Are these the six words that the association told you?", party.six_words());
    match confirmed_at(desk, false, &question) {
        true => Ok(()),
        false => Err(other("an association you did not name")
            .hint("ask it for its six words or its identity, and give them with --words \"…\" or --issuer did:key:…")),
    }
}

fn list(desk: &Desk) -> Answer {
    let snapshot = desk.handle.snapshot();
    let (mut text, mut rows) = (String::new(), Vec::new());
    for (name, of) in snapshot.member_lists() {
        let list = &snapshot.lists[&name];
        let ended = if list.until <= now() { " (ended)" } else { "" };
        let partners = of.partners.iter().cloned().collect::<Vec<_>>().join(", ");
        text.push_str(&format!(
            "{name}: list {} of {}, {}, until {}{ended}; your partners on it: {}\n",
            list.number,
            harmless(&list.association),
            counted(list.members.len(), "member"),
            day(list.until),
            if partners.is_empty() { "none" } else { &partners },
        ));
        rows.push(json!({
            "name": name, "association": list.association, "issuer": list.party.to_string(), "six_words": list.party.six_words(),
            "number": list.number, "until": list.until, "members": list.members.len(), "partners": of.partners, "hash": list.hash.to_string(),
        }));
    }
    if rows.is_empty() {
        text = "no member lists; keep one with `lotline members add FILE --as NAME`".into();
    }
    Answer::new(text.trim_end().to_owned(), json!({ "lists": rows }))
}
