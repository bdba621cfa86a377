//! `lotline keys rotate` and `keys revoke`: a role's next key, and where the old one ends.

use std::collections::BTreeMap;

use lotline_schema::org::{Places, REASON_BYTES_MAX, Role, Standing};
use lotline_schema::statement::Unverified;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::root::{Root, stated};
use crate::answer::{Answer, Failure, exit};
use crate::cli::confirmed;
use crate::cli::lists::feed_name;
use crate::desk::Desk;
use crate::feeds::{Feed, Rotated, Snapshot, Summary};
use crate::service::now;

/// Roles whose key can be changed.
#[derive(clap::ValueEnum, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rotatable {
    /// Signs records.
    Record,
    /// Signs checkpoints.
    Log,
    /// From which witness keys are derived; those who count on your witness lines need their new names.
    Witness,
    /// By which partners know your node; it is used as soon as they know it.
    Transport,
}

impl Rotatable {
    fn role(self) -> Role {
        match self {
            Rotatable::Record => Role::Record,
            Rotatable::Log => Role::Log,
            Rotatable::Witness => Role::Witness,
            Rotatable::Transport => Role::Transport,
        }
    }
}

/// Roles whose signatures can be taken back.
#[derive(clap::ValueEnum, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocable {
    /// Signs records.
    Record,
}

/// Flags of `keys rotate`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct RotateArgs {
    /// Which key.
    role: Rotatable,
    #[command(flatten)]
    root: Root,
    /// Why, for your partners and auditors.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Of the transport key: use it at once (the old one is stolen), though partners that do not know it cannot connect.
    #[arg(long)]
    now: bool,
}

/// Flags of `keys revoke`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct RevokeArgs {
    /// Which key.
    role: Revocable,
    /// The first entry that is not yours any more, as quality:812; once for each feed it matters in.
    #[arg(long, value_name = "FEED:ENTRY", required = true)]
    from: Vec<String>,
    #[command(flatten)]
    root: Root,
    /// Why, for your partners and auditors.
    #[arg(long, value_name = "TEXT", default_value = "stolen")]
    reason: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Gives a role a new key; everything signed so far stays good.
pub fn rotate(desk: &Desk, args: RotateArgs) -> Result<Answer, Failure> {
    let (role, reason) = (args.role.role(), reason(args.reason.as_deref().unwrap_or_default())?);
    if args.now && role != Role::Transport {
        return Err(Failure::new("--now is for the transport key; every other new key is used at once").exit(exit::USAGE));
    }
    let root = args.root.open()?;
    if args.now && desk.handle.snapshot().moving.is_some() {
        return move_now(desk, &root);
    }
    let rotated = desk.feeds(move |feeds| {
        let places = feeds.places_now()?;
        feeds.rotate(role, places, &reason, root.signer(), now())
    })?;
    if role == Role::Transport {
        return moving(desk, &rotated, args.now);
    }
    let more = match role {
        Role::Witness => "\nWhoever counts your witness lines by name needs their new names.",
        _ => " What it signed stays valid.",
    };
    let text = format!(
        "The {role} key is new: {} (entry {} of your org feed). The old one is removed from this computer.{more}",
        rotated.kid.short(),
        rotated.entry
    );
    Ok(stated(text, to_json(role, &rotated)))
}

/// The new transport key is named: it is used when partners know it, or at once.
fn moving(desk: &Desk, rotated: &Rotated, at_once: bool) -> Result<Answer, Failure> {
    let moved = desk.feeds(move |feeds| match at_once {
        true => feeds.move_now().map(|()| true),
        false => feeds.move_when_known(now()),
    })?;
    let (snapshot, kid) = (desk.handle.snapshot(), rotated.kid.short());
    let mut json = to_json(Role::Transport, rotated);
    let waiting: Vec<&str> = waiting_for(&snapshot);
    json["in_use"] = json!(moved);
    json["waiting_for"] = json!(waiting);
    let text = match moved {
        true => format!(
            "The transport key is new and in use: {kid} (entry {} of your org feed). The old one is removed from this computer.\n{ANEW}",
            rotated.entry
        ),
        false => format!(
            "A new transport key is named: {kid} (entry {} of your org feed). Your node goes on under the old one until {} know it: \
             start it, and `lotline status` says how far that is. If the old one is stolen: the same command with --now.",
            rotated.entry,
            waiting.join(", ")
        ),
    };
    Ok(stated(text, json))
}

/// What to do for partners that do not know a new key which is in use.
const ANEW: &str = "Partners that do not know it yet cannot connect: send them a new line of `lotline partner invite --offline`, or a file of `lotline carry`.";

/// The key that is named already, at once.
fn move_now(desk: &Desk, root: &crate::keys::kit::Secret) -> Result<Answer, Failure> {
    let (signer, waiting) = (root.signer().clone(), waiting_for(&desk.handle.snapshot()).join(", "));
    desk.feeds(move |feeds| {
        feeds.is_root(&signer)?;
        feeds.move_now()
    })?;
    let text =
        format!("The new transport key is in use; {waiting} did not know it yet. The old one is removed from this computer.\n{ANEW}");
    Ok(stated(text, json!({ "role": Role::Transport.name(), "in_use": true, "waiting_for": [] })))
}

/// Partners that learn of a new transport key by themselves and have not yet.
pub fn waiting_for(snapshot: &Snapshot) -> Vec<&str> {
    let known = |name: &str| snapshot.moving.as_ref().is_none_or(|moving| moving.known_by.contains(name));
    snapshot.told_partners(now()).map(|partner| partner.name.as_str()).filter(|name| !known(name)).collect()
}

/// A role's new key with earlier places: what the old key signed from there on is not vouched for.
pub fn revoke(desk: &Desk, args: RevokeArgs) -> Result<Answer, Failure> {
    let Revocable::Record = args.role;
    let reason = reason(&args.reason)?;
    desk.settle()?;
    let mut places = desk.feeds(|feeds| feeds.places_now())?;
    let snapshot = desk.handle.snapshot();
    for text in &args.from {
        let (feed, seq) = read_place(&snapshot, text)?;
        places.insert(feed.origin.to_string(), seq);
    }
    let revoked = revoked_by(desk, &places)?;
    let (count, what) = in_words(&revoked);
    let root = args.root.open()?;
    desk.feeds({
        let signer = root.signer().clone();
        move |feeds| Ok(feeds.is_root(&signer)?)
    })?;
    eprint!("{what}");
    if !confirmed(args.yes, "Take these back, for good?") {
        return Err(Failure::new("not confirmed; nothing was changed").hint("add --yes to confirm without a question"));
    }
    let rotated = desk.feeds(move |feeds| feeds.rotate(Role::Record, places, &reason, root.signer(), now()))?;
    let text = format!(
        "{what}The record key is new: {} (entry {} of your org feed). The old one is removed from this computer.\n\
         Publish the files of records that are yours once more: they are signed anew in place of the revoked ones.",
        rotated.kid.short(),
        rotated.entry
    );
    let mut json = to_json(Role::Record, &rotated);
    json["revoked"] = json!(count);
    json["lots"] = json!(revoked.values().flatten().collect::<std::collections::BTreeSet<_>>());
    Ok(stated(text, json))
}

fn reason(text: &str) -> Result<String, Failure> {
    let fits = text.len() <= REASON_BYTES_MAX && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(Failure::new("the reason is one line of at most 1,000 bytes").exit(exit::USAGE)) }
}

/// `quality:812`, `quality/2:812`, or an origin in front.
fn read_place<'a>(snapshot: &'a Snapshot, text: &str) -> Result<(&'a Feed, u64), Failure> {
    let wrong = |why: String| Failure::new(why).exit(exit::USAGE).hint("write the feed and its first bad entry, as quality:812");
    let (name, seq) = text.rsplit_once(':').ok_or_else(|| wrong(format!("`{text}` names no entry")))?;
    let seq: u64 = seq.parse().map_err(|_| wrong(format!("`{seq}` is not the number of an entry")))?;
    let mut own = snapshot.feeds.values().filter(|feed| feed.is_own() && !feed.origin.is_org());
    let feed = snapshot.own_feed(name).or_else(|| own.find(|feed| feed.origin.to_string() == name || feed_name(feed) == name));
    let feed = feed
        .filter(|feed| !feed.origin.is_org())
        .ok_or_else(|| Failure::new(format!("you have no feed `{name}`")).exit(exit::NOT_FOUND).hint("`lotline feeds` lists yours"))?;
    match seq > 0 && seq <= feed.size() {
        true => Ok((feed, seq)),
        false => Err(wrong(format!("feed `{name}` has entries 1 to {}", feed.size().saturating_sub(1)))),
    }
}

/// Lots of the records that are good now and would not be with these places, by feed.
fn revoked_by(desk: &Desk, places: &Places) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    const PAGE: usize = 512;
    let (snapshot, reader) = (desk.handle.snapshot(), desk.handle.reader());
    let org = &snapshot.orgs[&snapshot.party];
    let mut revoked = BTreeMap::new();
    for feed in snapshot.feeds.values().filter(|feed| feed.is_own() && !feed.origin.is_org()) {
        let origin = feed.origin.to_string();
        let mut next = places.get(&origin).copied().unwrap_or(0);
        let mut lots = Vec::new();
        while next < feed.size() {
            let rows = reader.rows(feed.id, next, PAGE)?;
            let Some(last) = rows.last() else {
                break;
            };
            next = last.seq + 1;
            for row in rows.iter().filter(|row| row.has_core) {
                let core = reader.core(row)?.unwrap_or_default();
                let claims = Unverified::read(&core).map_err(Failure::new)?.claims().clone();
                // An earlier key's time ended before; a person's release is not signed by this key at all.
                let current = org.key(Role::Record).is_some_and(|key| lotline_schema::id::thumbprint(key) == claims.kid);
                if current && matches!(org.record_key(&claims.kid, &origin, row.seq, claims.day), Some(Standing::Good(_))) {
                    lots.push(Summary::read(&row.summary)?.facts.lot.unwrap_or_else(|| "–".into()));
                }
            }
        }
        revoked.insert(feed_name(feed), lots);
    }
    Ok(revoked)
}

fn in_words(revoked: &BTreeMap<String, Vec<String>>) -> (usize, String) {
    const LOTS_SHOWN_MAX: usize = 20;
    let count = revoked.values().map(Vec::len).sum();
    let mut text = match count {
        0 => "No record of yours becomes revoked.\n".to_owned(),
        1 => "1 record becomes revoked:\n".to_owned(),
        _ => format!("{count} records become revoked:\n"),
    };
    for (feed, lots) in revoked.iter().filter(|(_, lots)| !lots.is_empty()) {
        let mut named: Vec<String> = lots.iter().take(LOTS_SHOWN_MAX).map(|lot| crate::certificate::harmless(lot)).collect();
        if lots.len() > LOTS_SHOWN_MAX {
            named.push(format!("and {} more", lots.len() - LOTS_SHOWN_MAX));
        }
        text.push_str(&format!("  feed {feed}: lots {}\n", named.join(", ")));
    }
    (count, text)
}

fn to_json(role: Role, rotated: &Rotated) -> serde_json::Value {
    json!({ "role": role.name(), "key": rotated.kid.to_string(), "entry": rotated.entry, "from": rotated.from })
}
