//! `lotline policy`: check, apply, show, explain, preview. Only `apply` puts rules in force.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lotline_policy::{MemberList, Policy, Viewer, World, decide, parse};
use lotline_schema::{Facts, Hash, kind};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::confirmed;
use super::lists::{find_record, seen};
use crate::answer::{Answer, Failure, exit};
use crate::desk::Desk;
use crate::feeds::{Summary, with_release};
use crate::service::now;

/// What to do with the rules.
#[derive(clap::Subcommand, Serialize, Deserialize, Clone, Debug)]
pub enum Verb {
    /// Check a rule file; changes nothing.
    Check {
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
    /// Print the rules in force.
    Show,
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
    Preview {
        /// The partner.
        partner: String,
    },
}

impl Verb {
    pub(super) fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Verb::Check { file } | Verb::Apply { file, .. } => file.iter_mut().collect(),
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
        Verb::Apply { file, yes } => apply(desk, file, yes),
        Verb::Show => {
            let policy = desk.handle.snapshot().policy.clone();
            let text = if policy.version() == 0 {
                "no rules are in force: nothing is shared".to_owned()
            } else {
                format!("# version {} in force\n{}", policy.version(), policy.text())
            };
            Ok(Answer::new(text, json!({ "version": policy.version(), "text": policy.text(), "stopped": policy.stopped() })))
        }
        Verb::Explain { lot, partner, part } => explain(desk, &lot, &partner, part.as_deref()),
        Verb::Preview { partner } => preview(desk, &partner),
    }
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
    each_own(desk, &Policy::nothing(), |_, facts| {
        parts.extend(facts.part);
        lots.extend(facts.lot);
    })?;
    Ok((parts, lots))
}

/// Every record of ours as these rules need to know it, in pages.
pub(super) fn each_own(desk: &Desk, policy: &Policy, mut visit: impl FnMut(&crate::feeds::Feed, Facts)) -> Result<(), Failure> {
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
                    visit(feed, with_release(facts, reader, &snapshot, policy, feed, Hash(row.leaf))?);
                }
            }
        }
    }
    Ok(())
}

fn apply(desk: &Desk, file: Option<PathBuf>, yes: bool) -> Result<Answer, Failure> {
    let policy = read(desk, file)?;
    let before = desk.handle.snapshot().policy.clone();
    let changes = changes(desk, &before, &policy)?;
    let mut text = String::from("What changes:\n");
    for change in &changes {
        text.push_str(&format!("  {change}\n"));
    }
    if changes.is_empty() {
        text.push_str("  nobody gains or loses a field of any record there is\n");
    }
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
    Ok(Answer::new(text, json!({ "version": version, "changes": changes })))
}

/// What each partner gains or loses over the records there are, and bans that went.
pub(super) fn changes(desk: &Desk, before: &Policy, after: &Policy) -> Result<Vec<String>, Failure> {
    let names = |policy: &Policy| policy.nevers().iter().map(|never| never.name.clone()).collect::<BTreeSet<_>>();
    let mut changes: Vec<String> = names(before).difference(&names(after)).map(|name| format!("REMOVED BAN `{name}`")).collect();
    let (snapshot, at) = (desk.handle.snapshot(), now() as i64);
    let mut counts = std::collections::BTreeMap::<String, (u64, u64)>::new();
    // Whether records are released is looked up if either version asks.
    let asking = if before.asks_for_releases() { before } else { after };
    each_own(desk, asking, |feed, facts| {
        let Some(schema) = kind::known().iter().map(|(schema, _)| *schema).find(|schema| schema.name == facts.kind) else {
            return;
        };
        for name in snapshot.book.keys() {
            let viewer = Viewer::new(name.as_str());
            let mask = |policy: &Policy| decide(policy, &viewer, feed.origin.name(), schema, &facts, at).mask;
            let (old, new) = (mask(before), mask(after));
            let count = counts.entry(name.clone()).or_default();
            count.0 += u64::from(new & !old != 0);
            count.1 += u64::from(old & !new != 0);
        }
    })?;
    let of = |count: u64| if count == 1 { "1 record".to_owned() } else { format!("{count} records") };
    for (name, (gains, losses)) in counts {
        match (gains, losses) {
            (0, 0) => {}
            (gains, 0) => changes.push(format!("{name} gains fields of {}", of(gains))),
            (0, losses) => changes.push(format!("{name} loses fields of {} (what it has received it keeps)", of(losses))),
            (gains, losses) => changes.push(format!("{name} gains fields of {} and loses fields of {}", of(gains), of(losses))),
        }
    }
    Ok(changes)
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
    let decision = decide(&snapshot.policy, &Viewer::new(partner), feed.origin.name(), schema, &facts, now() as i64);
    let mut text = format!("What {partner} sees of lot {lot} (record {} of feed {}):\n", row.seq, feed.origin.name());
    for line in decision.explain(&snapshot.policy, schema) {
        text.push_str(&format!("  {line}\n"));
    }
    Ok(Answer::new(
        text,
        json!({ "partner": partner, "lot": lot, "shown": seen(schema, decision.mask), "reasons": decision.reasons, "changes_at": decision.changes_at }),
    ))
}

fn preview(desk: &Desk, partner: &str) -> Result<Answer, Failure> {
    known_partner(desk, partner)?;
    desk.settle()?;
    let snapshot = desk.handle.snapshot();
    let (viewer, at) = (Viewer::new(partner), now() as i64);
    let offered = snapshot.policy.feeds_for(partner, &snapshot.own_feed_names(), at);
    let mut text = String::new();
    for name in &offered {
        text.push_str(&format!("feed {name}: {}\n", lotline_policy::term(&snapshot.policy, &viewer, name, at)));
    }
    let (mut records, mut hidden) = (Vec::new(), 0u64);
    each_own(desk, &snapshot.policy, |feed, facts| {
        let schema = kind::known().iter().map(|(schema, _)| *schema).find(|schema| schema.name == facts.kind);
        let mask = schema.map_or(0, |schema| decide(&snapshot.policy, &viewer, feed.origin.name(), schema, &facts, at).mask);
        match schema.filter(|_| mask != 0 && offered.iter().any(|name| name == feed.origin.name())) {
            Some(schema) => records.push((facts.lot, facts.part, seen(schema, mask))),
            None => hidden += u64::from(offered.iter().any(|name| name == feed.origin.name())),
        }
    })?;
    if offered.is_empty() {
        text = format!("{partner} sees nothing, and cannot tell that anything exists.");
    } else {
        for (lot, part, fields) in records.iter().take(50) {
            text.push_str(&format!(
                "lot {} of part {}: {}\n",
                lot.as_deref().unwrap_or("–"),
                part.as_deref().unwrap_or("–"),
                fields.join(", ")
            ));
        }
        text.push_str(&format!("{} records in all; beside them it learns that {hidden} others exist in these feeds, and when (their place and day), but nothing in them.", records.len()));
    }
    for of in snapshot.delegated().into_iter().filter(|of| !of.ours) {
        let (name, whose) = (of.origin.name(), &of.with);
        text.push_str(&match *whose == partner {
            true => format!("\nfeed {name}, which you write for {whose}: everything, since it is theirs"),
            false => format!("\nfeed {name}, which you write for {whose}: nothing, it is not yours to share"),
        });
    }
    let rows: Vec<_> = records.iter().map(|(lot, part, fields)| json!({ "lot": lot, "part": part, "fields": fields })).collect();
    Ok(Answer::new(text, json!({ "partner": partner, "feeds": offered, "records": rows, "hidden": hidden })))
}

/// Feeds that we write and others own, in words.
fn written_for_others(desk: &Desk) -> Vec<String> {
    let delegated = desk.handle.snapshot().delegated();
    delegated.iter().filter(|of| !of.ours).map(|of| format!("{} of {}", of.origin.name(), of.with)).collect()
}

fn known_partner(desk: &Desk, partner: &str) -> Result<(), Failure> {
    if desk.handle.snapshot().book.contains_key(partner) { Ok(()) } else { Err(crate::feeds::FeedError::NoPartner(partner.into()).into()) }
}
