//! `lotline policy`: check, compare, try, prove, apply, show, explain, preview. Only `apply` puts rules in force.

mod diff;
mod history;
mod matrix;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lotline_policy::parse::meant;
use lotline_policy::{Claim, MemberList, Policy, SENTENCES, Viewer, World, cedar, clear, decide, parse};
use lotline_schema::terms::Terms;
use lotline_schema::{Facts, Hash, kind};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::confirmed;
use super::lists::{find_record, seen};
use crate::answer::{Answer, Failure, exit};
use crate::desk::Desk;
use crate::exchange::message::view_bytes;
use crate::feeds::terms::OFFERS_MAX;
use crate::feeds::{Feed, Summary, Whole, with_release};
use crate::service::now;
use crate::store::Row;
pub(super) use diff::{changes, lines};

/// What to do with the rules.
#[derive(clap::Subcommand, Serialize, Deserialize, Clone, Debug)]
pub enum Verb {
    /// Check a rule file; changes nothing.
    Check {
        /// The file (else policy.toml of the home).
        file: Option<PathBuf>,
    },
    /// What a rule file would change, against the rules in force; changes nothing.
    Diff {
        /// The file (else policy.toml of the home).
        file: Option<PathBuf>,
    },
    /// Put a rule file in force, after showing what changes.
    Apply {
        /// The file (else policy.toml of the home).
        file: Option<PathBuf>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Print the rules in force, or those that once were.
    #[command(disable_version_flag = true)]
    Show {
        /// An applied version.
        #[arg(long, value_name = "N", conflicts_with = "at")]
        version: Option<u64>,
        /// What was in force at the end of a day, as 2026-11-23.
        #[arg(long, value_name = "DAY")]
        at: Option<String>,
    },
    /// Every applied version: its number, its day, how many rules, and what changed first.
    Log,
    /// Try the [[test]]s of a rule file; changes nothing.
    Test {
        /// The file (else policy.toml of the home).
        file: Option<PathBuf>,
    },
    /// Whether a sentence holds for every record there could be: "competitors see nothing", "nobody sees measurements".
    #[command(after_help = lotline_policy::SENTENCES)]
    Prove {
        /// The sentence, in quotes.
        sentence: String,
    },
    /// Who sees which groups of fields: all, some, never, nothing.
    Matrix,
    /// Print the rules in force in another language.
    Export {
        /// The language.
        #[arg(long)]
        format: Format,
        /// Write them to this file, and the schema they speak of beside it.
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Why a partner sees each field of a record, or does not.
    Explain {
        /// The lot.
        lot: String,
        /// The partner.
        partner: String,
        /// The part, when several have this lot.
        #[arg(long)]
        part: Option<String>,
    },
    /// What a partner may see: its feeds, and the fields of each record.
    #[command(after_help = "Example: lotline policy preview oem-a\n         lotline policy preview oem-a --for audit")]
    Preview {
        /// The partner.
        partner: String,
        /// What it would see if it stated this purpose and accepted the terms that shares ask for. Give it again for more.
        #[arg(long = "for", value_name = "PURPOSE")]
        #[serde(default)]
        purposes: Vec<String>,
        /// What it would see if it accepted all terms it is asked for, whatever purpose it would have to state.
        #[arg(long, conflicts_with = "purposes")]
        #[serde(default)]
        if_accepted: bool,
    },
}

/// Languages to export rules in.
#[derive(clap::ValueEnum, Serialize, Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Cedar, language 4 (cedarpolicy.com).
    Cedar,
}

impl Verb {
    pub(super) fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Verb::Check { file } | Verb::Diff { file } | Verb::Apply { file, .. } | Verb::Test { file } => file.iter_mut().collect(),
            Verb::Export { out, .. } => out.iter_mut().collect(),
            _ => Vec::new(),
        }
    }
}

/// Does it.
pub fn run(desk: &Desk, verb: Verb) -> Result<Answer, Failure> {
    match verb {
        Verb::Check { file } => {
            let policy = read(desk, file)?;
            let mut text = format!("The rules are in order: {}. Nothing is in force before `lotline policy apply`.", counted(&policy));
            let lists = lists_differ(desk);
            lists.iter().for_each(|change| text.push_str(&format!("\n{change}")));
            Ok(Answer::new(text, json!({ "shares": policy.shares().len(), "nevers": policy.nevers().len(), "lists": lists })))
        }
        Verb::Diff { file } => {
            let policy = read(desk, file)?;
            let difference = changes(desk, &desk.handle.snapshot().policy.clone(), &policy)?;
            let text = format!("What changes:\n{}", lines(&difference));
            Ok(Answer::new(text.trim_end(), json!({ "changes": difference.words(), "difference": difference })))
        }
        Verb::Apply { file, yes } => apply(desk, file, yes),
        Verb::Show { version: None, at: None } => {
            let policy = desk.handle.snapshot().policy.clone();
            let text = if policy.version() == 0 {
                "no rules are in force: nothing is shared".to_owned()
            } else {
                format!("# version {} in force\n{}", policy.version(), policy.text())
            };
            Ok(Answer::new(text, json!({ "version": policy.version(), "text": policy.text(), "stopped": policy.stopped() })))
        }
        Verb::Show { version, at } => history::show(desk, version, at.as_deref()),
        Verb::Log => history::log(desk),
        Verb::Test { file } => test(desk, file),
        Verb::Prove { sentence } => prove(desk, &sentence),
        Verb::Matrix => Ok(matrix::matrix(desk)),
        Verb::Export { format: Format::Cedar, out } => export(desk, out),
        Verb::Explain { lot, partner, part } => explain(desk, &lot, &partner, part.as_deref()),
        Verb::Preview { partner, purposes, if_accepted } => preview(desk, &partner, &purposes, if_accepted),
    }
}

/// The tests of a file. One that fails is a slip like any other, so the file was refused already.
fn test(desk: &Desk, file: Option<PathBuf>) -> Result<Answer, Failure> {
    let policy = read(desk, file)?;
    let mut lines: Vec<String> = Vec::new();
    for test in policy.tests() {
        lines.extend(test.claims.iter().map(|claim| format!("line {}: {claim}: holds", test.line)));
    }
    let tests = policy.tests().len();
    lines.push(match tests {
        0 => "The file has no tests; docs/policy.md shows how to write [[test]]".into(),
        1 => "1 test holds.".into(),
        tests => format!("{tests} tests hold."),
    });
    let claims: Vec<String> = policy.tests().iter().flat_map(|test| &test.claims).map(ToString::to_string).collect();
    Ok(Answer::new(lines.join("\n"), json!({ "tests": tests, "claims": claims })))
}

fn prove(desk: &Desk, sentence: &str) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    let partners: Vec<String> = snapshot.book.keys().cloned().collect();
    let claim = Claim::read(sentence, &snapshot.policy, &partners)
        .map_err(|unread| Failure::new(unread).exit(exit::USAGE).hint(format!("a sentence is {SENTENCES}")))?;
    let hole = claim.check(&snapshot.policy, now() as i64).err().map(|hole| hole.to_string());
    let text = match &hole {
        None => format!("It holds for every record there could be, from now on: {claim}."),
        Some(hole) => format!("It does not hold: {claim}.\n{hole}"),
    };
    let code = if hole.is_some() { exit::REFUSED } else { 0 };
    let json = json!({ "claim": claim.to_string(), "holds": hole.is_none(), "counterexample": hole, "version": snapshot.policy.version() });
    Ok(Answer { exit: code, ..Answer::new(text, json) })
}

fn export(desk: &Desk, out: Option<PathBuf>) -> Result<Answer, Failure> {
    let policy = desk.handle.snapshot().policy.clone();
    let (rules, schema) = (cedar::export(&policy), cedar::schema());
    let json = json!({ "version": policy.version(), "policies": rules, "schema": schema });
    let Some(path) = out else {
        let remarks: String = schema.lines().map(|line| format!("// {line}\n")).collect();
        return Ok(Answer::new(format!("{rules}\n// The schema they speak of:\n{remarks}"), json));
    };
    let beside = path.with_extension("cedarschema");
    for (path, text) in [(&path, &rules), (&beside, &schema)] {
        std::fs::write(path, text).map_err(|why| Failure::new(format!("cannot write `{}`: {why}", path.display())))?;
    }
    Ok(Answer::new(
        format!("Version {} of your rules is in {}, its schema in {}.", policy.version(), path.display(), beside.display()),
        json,
    ))
}

/// How many rules, in words.
pub(super) fn counted(policy: &Policy) -> String {
    let of = |count: usize, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    format!("{}, {}", of(policy.shares().len(), "share"), of(policy.nevers().len(), "never"))
}

fn read(desk: &Desk, file: Option<PathBuf>) -> Result<Policy, Failure> {
    let path = file.unwrap_or_else(|| desk.home.policy_file());
    let text = std::fs::read_to_string(&path).map_err(|why| {
        Failure::new(format!("cannot read `{}`: {why}", path.display()))
            .exit(exit::NOT_FOUND)
            .hint(format!("docs/policy.md shows the form; write the rules into {}", desk.home.policy_file().display()))
    })?;
    check(desk, &path, &text)
}

/// Checks rules against what this home knows; `path` is where they stand or will stand.
pub(super) fn check(desk: &Desk, path: &Path, text: &str) -> Result<Policy, Failure> {
    let snapshot = desk.handle.snapshot();
    let partners: Vec<String> = snapshot.book.keys().cloned().collect();
    let mut feeds = snapshot.own_feed_names();
    feeds.extend(snapshot.book.values().map(|partner| partner.feed.clone()));
    let (parts, lots) = parts_and_lots(desk)?;
    let lists = snapshot.member_lists();
    let world = World { partners: &partners, feeds: &feeds, parts: &parts, lots: &lots, lists: &lists, now: now() as i64 };
    parse(text, &world).map_err(|slips| {
        let mut hint = "nothing was changed; the rules in force stay as they are".to_owned();
        let theirs = written_for_others(desk);
        if !theirs.is_empty() {
            hint.push_str(&format!("; no rule of yours speaks of what you write for others ({})", theirs.join(", ")));
        }
        Failure::new(format!("`{}` is not in order:\n{slips}", path.display())).hint(hint)
    })
}

/// Part numbers and lots of our own records.
pub(super) fn parts_and_lots(desk: &Desk) -> Result<(BTreeSet<String>, BTreeSet<String>), Failure> {
    desk.settle()?;
    let (mut parts, mut lots) = (BTreeSet::new(), BTreeSet::new());
    each_own(desk, &Policy::nothing(), |_, _, facts| {
        parts.extend(facts.part);
        lots.extend(facts.lot);
        Ok(())
    })?;
    Ok((parts, lots))
}

/// Every record of ours as these rules need to know it, in pages.
pub(super) fn each_own(
    desk: &Desk,
    policy: &Policy,
    mut visit: impl FnMut(&Feed, &Row, Facts) -> Result<(), Failure>,
) -> Result<(), Failure> {
    const PAGE: usize = 512;
    let (snapshot, reader) = (desk.handle.snapshot(), desk.handle.reader());
    for feed in snapshot.feeds.values().filter(|feed| feed.ours && !feed.origin.is_org()) {
        let mut from = 1;
        loop {
            let rows = reader.rows(feed.id, from, PAGE)?;
            let Some(last) = rows.last() else {
                break;
            };
            from = last.seq + 1;
            for row in &rows {
                let facts = Summary::read(&row.summary)?.facts;
                // A release follows the verdict of its record; rules do not speak of it.
                if !facts.is_release() {
                    visit(feed, row, with_release(facts, reader, &snapshot, policy, feed, Hash(row.leaf))?)?;
                }
            }
        }
    }
    Ok(())
}

fn apply(desk: &Desk, file: Option<PathBuf>, yes: bool) -> Result<Answer, Failure> {
    let policy = read(desk, file)?;
    let before = desk.handle.snapshot().policy.clone();
    let difference = changes(desk, &before, &policy)?;
    let mut text = format!("What changes:\n{}", lines(&difference));
    // Inside a running node there is no terminal: whoever asked there has said --yes, or is told to.
    if !yes {
        if desk.board.is_some() {
            return Err(Failure::new(format!("not confirmed. {}", text.trim_end()))
                .exit(exit::USAGE)
                .hint("add --yes when that is what you want"));
        }
        eprint!("{text}");
        if !confirmed(false, "Put these rules in force?") {
            return Err(Failure::new("not confirmed; the rules in force stay as they are").hint("add --yes to confirm without a question"));
        }
        text.clear();
    }
    let version = desk.feeds(move |feeds| feeds.apply_policy(policy, false, now()))?;
    text.push_str(&format!("Version {version} of your rules is in force."));
    let snapshot = desk.handle.snapshot();
    for partner in snapshot.book.keys() {
        let asked = snapshot.asks_in_all(partner, now() as i64).len();
        if asked > OFFERS_MAX {
            text.push_str(&format!(
                "\nnote: {partner} would be asked for terms of {asked} feeds, and is told of the first {OFFERS_MAX}: let fewer feeds ask it for terms"
            ));
        }
    }
    Ok(Answer::new(text, json!({ "version": version, "changes": difference.words(), "difference": difference })))
}

/// Whether policy.toml was edited since its last application, in words for `status`.
pub(super) fn file_differs(desk: &Desk) -> Option<String> {
    let text = std::fs::read_to_string(desk.home.policy_file()).ok()?;
    let policy = desk.handle.snapshot().policy.clone();
    (policy.text() != text).then(|| {
        "policy.toml is not what is in force; `lotline policy apply` applies it, `lotline policy show` prints what is in force".into()
    })
}

/// What became of the member lists that the rules in force were applied with, in words for `status` and `policy check`.
pub(super) fn lists_differ(desk: &Desk) -> Vec<String> {
    let (snapshot, at) = (desk.handle.snapshot(), now() as i64);
    let kept = snapshot.member_lists();
    let change = |(name, applied): (&String, &MemberList)| {
        let Some(now) = kept.get(name) else {
            return Some(format!("the list {name} is no longer kept; your rules go on with the members they were applied with"));
        };
        let more = now.partners.difference(&applied.partners).count();
        let less = applied.partners.difference(&now.partners).count();
        if more + less > 0 || now.until != applied.until {
            let of = |count: u64| if count == 1 { "1 member".to_owned() } else { format!("{count} members") };
            let until = if now.until == applied.until { "" } else { ", with another end" };
            return Some(format!(
                "the list {name} changed since you applied: {} more, {less} less{until}; lotline policy apply",
                of(more as u64)
            ));
        }
        (now.until <= at).then(|| {
            format!("the list {name} ended, so shares with its members show nothing; get a newer one and `lotline members add` it")
        })
    };
    snapshot.policy.lists().iter().filter_map(change).collect()
}

fn explain(desk: &Desk, lot: &str, partner: &str, part: Option<&str>) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    known_partner(desk, partner)?;
    let (feed, row) = find_record(desk, lot, part, true)?;
    let facts = Summary::read(&row.summary)?.facts;
    let facts = with_release(facts, desk.handle.reader(), &snapshot, &snapshot.policy, &feed, Hash(row.leaf))?;
    let schema = kind::known()
        .iter()
        .map(|(schema, _)| *schema)
        .find(|schema| schema.name == facts.kind)
        .ok_or_else(|| Failure::new("a kind of record this program does not know"))?;
    let decision = decide(&snapshot.policy, &snapshot.viewer(partner), feed.origin.name(), schema, &facts, now() as i64);
    let mut text = format!("What {partner} sees of lot {lot} (record {} of feed {}):\n", row.seq, feed.origin.name());
    for line in decision.explain(&snapshot.policy, schema) {
        text.push_str(&format!("  {line}\n"));
    }
    Ok(Answer::new(
        text,
        json!({ "partner": partner, "lot": lot, "shown": seen(schema, decision.mask), "reasons": decision.reasons, "changes_at": decision.changes_at }),
    ))
}

/// A partner that has stated these purposes, or all that rules ask for, and accepted every term that it is asked for.
fn supposed(policy: &Policy, partner: &str, purposes: &[String], all: bool) -> Result<Viewer, Failure> {
    let known: Vec<&str> = policy.purposes().collect();
    if let Some(unknown) = purposes.iter().find(|purpose| !known.contains(&purpose.as_str())) {
        let near = meant(unknown, &known).map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
        return Err(Failure::new(format!("no purpose is called `{unknown}`{near}"))
            .exit(exit::USAGE)
            .hint(format!("the purposes are {}", known.join(", "))));
    }
    let purposes = if all { known.into_iter().map(str::to_owned).collect() } else { purposes.iter().cloned().collect() };
    let asked = policy.shares().iter().filter(|share| share.partners.contains(partner)).filter_map(|share| share.terms.as_ref());
    Ok(Viewer { purposes, terms: asked.map(Terms::id).collect(), ..Viewer::new(partner) })
}

fn preview(desk: &Desk, partner: &str, purposes: &[String], if_accepted: bool) -> Result<Answer, Failure> {
    known_partner(desk, partner)?;
    desk.settle()?;
    let (snapshot, at) = (desk.handle.snapshot(), now() as i64);
    let (viewer, mut text) = match purposes.is_empty() && !if_accepted {
        true => (snapshot.viewer(partner), String::new()),
        false => {
            let stated = if purposes.is_empty() { String::new() } else { format!(" for {}", purposes.join(", ")) };
            let viewer = supposed(&snapshot.policy, partner, purposes, if_accepted)?;
            (viewer, format!("if {partner} accepted what it is asked for{stated}:\n"))
        }
    };
    let offered = snapshot.policy.feeds_for(&viewer, &snapshot.own_feed_names(), at);
    for name in snapshot.own_feed_names() {
        for (share, terms) in snapshot.policy.asking(partner, &name, at).filter(|(_, terms)| !viewer.terms.contains(&terms.id())) {
            let promises = terms.promises().join("; ");
            text.push_str(&format!(
                "feed {name}: `{}` waits until {partner} promises: {promises} (see it with --if-accepted)\n",
                share.name
            ));
        }
    }
    for name in &offered {
        text.push_str(&format!("feed {name}: {}\n", lotline_policy::term(&snapshot.policy, &viewer, name, at)));
    }
    let (mut records, mut hidden, mut bytes) = (Vec::new(), 0u64, 0u64);
    each_own(desk, &snapshot.policy, |feed, row, facts| {
        if !offered.iter().any(|name| name == feed.origin.name()) {
            return Ok(());
        }
        // Through the door itself, so that what is counted is what leaves.
        let whole = Whole::read(desk.handle.reader(), &snapshot, feed, row)?;
        let item = whole.item();
        let cleared = clear(&snapshot.policy, &viewer, &item, at);
        match (item.schema, cleared.view()) {
            (Some(schema), Some(view)) => {
                bytes += view_bytes(view);
                records.push((facts.lot, facts.part, seen(schema, cleared.mask()), view_bytes(view)));
            }
            _ => hidden += 1,
        }
        Ok(())
    })?;
    if offered.is_empty() {
        text.push_str(&match text.is_empty() {
            true => format!("{partner} sees nothing of yours, and cannot tell that anything exists."),
            false => format!("{partner} sees nothing of yours; it is told these terms, and for which feed they are."),
        });
    } else {
        for (lot, part, fields, bytes) in records.iter().take(50) {
            text.push_str(&format!(
                "lot {} of part {}, {bytes} bytes: {}\n",
                lot.as_deref().unwrap_or("–"),
                part.as_deref().unwrap_or("–"),
                fields.join(", ")
            ));
        }
        text.push_str(&format!(
            "{} in all, {bytes} bytes; beside them it learns that {hidden} others exist in these feeds, and when (their place and day), \
             but nothing in them: of each it gets a hash of 32 bytes.",
            if records.len() == 1 { "1 record".to_owned() } else { format!("{} records", records.len()) }
        ));
    }
    for of in snapshot.delegated().into_iter().filter(|of| !of.ours) {
        let (name, whose) = (of.origin.name(), &of.with);
        text.push_str(&match *whose == partner {
            true => format!("\nfeed {name}, which you write for {whose}: everything, since it is theirs"),
            false => format!("\nfeed {name}, which you write for {whose}: nothing, it is not yours to share"),
        });
    }
    let rows: Vec<_> =
        records.iter().map(|(lot, part, fields, bytes)| json!({ "lot": lot, "part": part, "fields": fields, "bytes": bytes })).collect();
    Ok(Answer::new(text, json!({ "partner": partner, "feeds": offered, "records": rows, "bytes": bytes, "hidden": hidden })))
}

/// Feeds that we write and others own, in words.
fn written_for_others(desk: &Desk) -> Vec<String> {
    let delegated = desk.handle.snapshot().delegated();
    delegated.iter().filter(|of| !of.ours).map(|of| format!("{} of {}", of.origin.name(), of.with)).collect()
}

fn known_partner(desk: &Desk, partner: &str) -> Result<(), Failure> {
    if desk.handle.snapshot().book.contains_key(partner) { Ok(()) } else { Err(crate::feeds::FeedError::NoPartner(partner.into()).into()) }
}
