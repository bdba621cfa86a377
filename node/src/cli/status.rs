//! `lotline status`: one screen on how this node stands. Shouts where something waits for its owner.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::{Answer, Failure};
use crate::desk::Desk;
use crate::feeds::releases_in;
use crate::service::{LinkBoard, now, time_text};

/// How many days before its end a delegation is warned of.
const WARN_DAYS: u64 = 30;

/// Flags of `status`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct Args {}

/// Shows it.
pub fn run(desk: &Desk, _: Args) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    let store = desk.handle.reader().status();
    let policy = &snapshot.policy;
    let mut alarms = Vec::new();
    if let Some(why) = &snapshot.restored {
        alarms.push(format!(
            "RESTORED ({why}): nothing is signed or sent until `lotline restore --confirm`; first see your partners connected"
        ));
        alarms.push(format!("if partners turn this home away, {}", super::backup::OLD_NAME));
    }
    let clock = desk.handle.clock();
    if let Some(jumped) = clock.jumped() {
        alarms.push(format!("SHARING IS PAUSED: {jumped}; {}", crate::clock::CONFIRM));
    }
    if let Some(back) = clock.set_back() {
        alarms.push(format!(
            "the clock was set back by {}: shares that have ended stay ended, and delays go by the clock; if it was ahead by mistake, \
             `lotline share resume --clock` says that it is right now",
            crate::clock::span(back)
        ));
    }
    if policy.stopped().everybody {
        alarms.push("SHARING IS STOPPED with everybody; `lotline share resume` goes on".into());
    } else if !policy.stopped().partners.is_empty() {
        let names: Vec<&str> = policy.stopped().partners.iter().map(String::as_str).collect();
        alarms.push(format!("sharing is stopped with {}", names.join(", ")));
    }
    for feed in snapshot.feeds.values() {
        if let Some(why) = &feed.frozen {
            alarms.push(format!("FROZEN feed {}: {why}", feed.origin.name()));
        }
    }
    for (partner, other) in snapshot.misnamed() {
        let name = &partner.name;
        alarms.push(format!(
            "the org feed of {name} names a transport key that is {other}'s: {name} stays under its old one; ask {name} to name another"
        ));
    }
    for damage in &store.damage {
        alarms.push(format!("DAMAGE in the journal: {damage}"));
    }
    if store.index_failed {
        alarms.push(
            "THE INDEX BROKE (is the disk full?): what is saved is safe; make room if needed and restart the node, which makes it again"
                .into(),
        );
    }
    if store.forgetting {
        alarms.push(
            "FORGETTING IS NOT DONE: what was ordered is closed to everybody, and still in files of this home; the next `lotline forget` \
             or start goes on with it (is the disk full?)"
                .into(),
        );
    }
    let delegated = snapshot.delegated();
    for of in delegated.iter().filter(|of| of.goes_on(now()) && of.days_left(now()) <= WARN_DAYS) {
        let (name, last) = (of.origin.name(), crate::service::day_text(of.until));
        alarms.push(match of.ours {
            true => format!("the delegation of feed {name} to {} ends on {last}", of.with),
            false => format!("you may write feed {name} of {} until {last}; ask anew with `lotline keys request-delegation`", of.with),
        });
    }
    for partner in snapshot.book.values().filter(|partner| snapshot.letters.unanswered(&partner.party).is_some()) {
        alarms.push(format!("{0} asks to be shown something: lotline request answer --from {0}", partner.name));
    }
    let edited = super::policy::file_differs(desk);
    if let Some(trouble) = &edited {
        alarms.push(trouble.clone());
    }
    alarms.extend(super::policy::lists_differ(desk));
    alarms.extend(super::terms::waiting(desk));
    let mut text = format!("{}   {}\n", snapshot.name, snapshot.party.six_words());
    for alarm in &alarms {
        text.push_str(&format!("  ! {alarm}\n"));
    }
    let org = &snapshot.orgs[&snapshot.party];
    if org.successor().is_none() {
        text.push_str("  kit        no successor named: if the recovery kit is lost, nobody can name new keys (lotline keys successor)\n");
    }
    if let Some(moving) = &snapshot.moving {
        let waiting = super::keys::rotate::waiting_for(&snapshot);
        let told = snapshot.told_partners(crate::service::now()).count();
        let known = told - waiting.len();
        let missing = if waiting.is_empty() { String::new() } else { format!("; not yet: {}", waiting.join(", ")) };
        text.push_str(&format!(
            "  transport  new key named (entry {} of the org feed), {known} of {told} partners know it{missing}\n",
            moving.entry
        ));
    }
    let shares = policy.shares().len();
    let rules = match policy.version() {
        0 => "none yet: nothing is shared".to_owned(),
        version => format!("version {version}: {}", super::policy::counted(policy)),
    };
    text.push_str(&format!("  rules      {rules}\n"));
    let mut feeds = Vec::new();
    for feed in snapshot.feeds.values().filter(|feed| !feed.origin.is_org()) {
        let whose = if feed.ours {
            "ours".to_owned()
        } else {
            snapshot.partner_of(&feed.origin.party()).map_or_else(|| feed.origin.party().short(), |partner| partner.name.clone())
        };
        // Index 0 of a feed is its own entry, not a record; nor is a release. Without its index status still answers.
        let org = snapshot.orgs.get(&feed.origin.party());
        let releases = org.map_or(0, |org| releases_in(desk.handle.reader(), org, feed).unwrap_or(0));
        let records = feed.size().saturating_sub(1 + releases);
        text.push_str(&format!(
            "  feed       {:<16} {whose:<12} {}\n",
            super::lists::feed_name(feed),
            counted(records as usize, "record", "records")
        ));
        feeds.push(json!({ "origin": feed.origin.to_string(), "own": feed.ours, "written": feed.written, "whose": whose, "size": feed.size(), "records": records, "frozen": feed.frozen }));
    }
    for of in &delegated {
        text.push_str(&format!("  delegated  {:<16} {}\n", of.origin.name(), super::lists::words(of, now())));
    }
    // Without its index status still answers.
    let due = super::forget::past_their_time(desk);
    match due.as_deref().map(|due| super::forget::due_in_words(due, &desk.config.retention)) {
        Ok(Some(words)) => text.push_str(&format!("  retention  {words} (lotline forget --due)\n")),
        Ok(None) => {}
        Err(why) => text.push_str(&format!("  retention  what is past its time cannot be told now: {}\n", why.what)),
    }
    let mut partners = Vec::new();
    for partner in snapshot.book.values() {
        let link = desk.board.as_ref().map(|board| board.of(&partner.name));
        let state = match &link {
            None => "node not running".to_owned(),
            Some(link) if link.connected => "connected".to_owned(),
            Some(link) => format!("not connected{}", link.trouble.as_ref().map_or(String::new(), |why| format!(" ({why})"))),
        };
        let link = link.unwrap_or_default();
        let way = link.path.as_ref().map_or(String::new(), |path| {
            format!(" since {}, {} {}", time_text(path.since), if path.dialled_by_us { "to" } else { "from" }, path.remote)
        });
        let retries = if link.dials_failed > 1 { format!(", tried {} times", link.dials_failed) } else { String::new() };
        text.push_str(&format!("  partner    {:<16} {state}{way}{retries}\n", partner.name));
        let lags = link.lags(&snapshot);
        for lag in lags.iter().filter(|lag| lag.entries > 0) {
            let name = lag.origin.rsplit('/').nth(1).unwrap_or(&lag.origin);
            let behind = match lag.ours {
                true => "not acknowledged yet",
                false => "not here yet",
            };
            text.push_str(&format!("             {:<16} {} of {name} {behind}\n", "", counted(lag.entries as usize, "entry", "entries")));
        }
        partners.push(json!({
            "name": partner.name, "connected": link.connected, "subscribed": partner.subscribed, "trouble": link.trouble,
            "offers": link.offers.iter().map(|(origin, size, term)| json!({ "origin": origin, "size": size, "term": term })).collect::<Vec<_>>(),
            "caught_up": link.caught_up, "follows": link.follows, "credit_bytes": link.credit, "dials_failed": link.dials_failed, "connections": link.connections,
            "path": link.path.as_ref().map(|path| json!({ "remote": path.remote, "dialled_by_us": path.dialled_by_us, "since": time_text(path.since) })),
            "lags": lags.iter().map(|lag| json!({ "origin": lag.origin, "ours": lag.ours, "entries": lag.entries })).collect::<Vec<_>>(),
        }));
    }
    let relays = desk.board.as_ref().map(LinkBoard::relays).unwrap_or_default();
    for place in &relays.places {
        let state = match &place.trouble {
            _ if place.kept => {
                place.bytes_max.map_or("a place is kept".to_owned(), |bytes| format!("a place is kept; it cuts lines after {bytes} bytes"))
            }
            Some(why) => format!("no place ({why})"),
            None => "no place yet".to_owned(),
        };
        text.push_str(&format!("  relay      {:<16} {state}\n", place.address.host_port()));
    }
    if let Some(load) = relays.load {
        text.push_str(&format!(
            "  relaying   {} with a place here, {} put through\n",
            counted(load.places, "node", "nodes"),
            counted(load.lines, "line", "lines")
        ));
    }
    let memory = crate::platform::resident_bytes();
    let megabytes =
        |bytes: u64| if bytes < 1_000_000 { format!("{:.1} kB", bytes as f64 / 1e3) } else { format!("{:.1} MB", bytes as f64 / 1e6) };
    let process = memory.map_or(String::new(), |bytes| format!(", {} of memory", megabytes(bytes)));
    text.push_str(&format!("  store      {}{process}\n", megabytes(store.journal_bytes)));
    let node = if desk.board.is_some() { "running" } else { "not running (start it with `lotline run`)" };
    text.push_str(&format!("  node       {node}"));
    let json = json!({
        "name": snapshot.name, "identity": snapshot.party.to_string(), "running": desk.board.is_some(), "alarms": alarms,
        "transport": { "peer": snapshot.peer, "waiting_for": snapshot.moving.as_ref().map(|_| super::keys::rotate::waiting_for(&snapshot)) },
        "successor": org.successor().map(ToString::to_string),
        "policy": { "version": policy.version(), "shares": shares, "nevers": policy.nevers().len(), "stopped": policy.stopped() },
        "due": due.as_deref().map(super::forget::due_json).ok(), "feeds": feeds, "delegated": delegated.iter().map(super::lists::delegation_json).collect::<Vec<_>>(), "partners": partners, "restored": snapshot.restored,
        "clock": { "shows": clock.now(), "latest": clock.mark(), "jumped": clock.jumped().is_some() },
        "listening": desk.board.as_ref().map(LinkBoard::listening),
        "relays": relays.places.iter().map(|place| json!({ "address": place.address.host_port(), "kept": place.kept, "trouble": place.trouble, "line_bytes_max": place.bytes_max })).collect::<Vec<_>>(),
        "relaying": relays.load.map(|load| json!({ "places": load.places, "lines": load.lines })),
        "store": { "journal_bytes": store.journal_bytes, "segments": store.segments, "rebuilding": store.rebuilding, "waiting": store.waiting },
        "memory_bytes": memory,
    });
    Ok(Answer::new(text, json))
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
