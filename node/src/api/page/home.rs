//! `/`: how this node stands. What needs its owner first, then records, partners, feeds, rules and the ledger.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use lotline_policy::{Condition, Rule, term};
use lotline_schema::Hash;
use lotline_schema::kind::{Group, inspection};
use serde::Deserialize;

use super::words::{self, BAD, CALM, GOOD, Prose, Tag, WARN};
use super::{Context, Frame, rendered, settled};
use crate::answer::Failure;
use crate::certificate::harmless;
use crate::cli::forget::due_in_words;
use crate::feeds::{Feed, FeedError, Partner, Snapshot, Summary, forget};
use crate::ledger;
use crate::service::{PartnerLink, now};
use crate::store::{Reader, Row, StoreError};

/// Records shown: a screen or two; `?q=` finds the others.
const RECORDS_MAX: usize = 50;
/// Rows of the ledger shown.
const LEDGER_MAX: usize = 20;
/// Entries looked at, in all feeds together, for a text within lot or part: about a tenth of a second.
const SEARCHED_MAX: u64 = 100_000;
/// Entries looked at in a feed for the newest that can be seen: most may be hidden from us.
const RECENT_MAX: u64 = 4096;
/// Entries read from the index at once.
const WINDOW: u64 = 256;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    q: String,
}

/// Answers.
pub(super) async fn show(State(context): State<Context>, Query(asked): Query<Asked>) -> Response {
    // The ledger is read where it is written; everything else beside it.
    let ledger = match context.handle.with(|feeds| feeds.last_rows(LEDGER_MAX, |_| true)).await {
        Ok(Err(FeedError::Store(StoreError::Rebuilding))) => Ok(Ok(Vec::new())),
        ledger => ledger,
    };
    rendered(context, move |context| Home::of(context, &asked.q, ledger??)).await
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    frame: Frame,
    six_words: String,
    standing: Standing,
    query: String,
    records: Vec<Record>,
    records_note: String,
    partners: Vec<PartnerCard>,
    own_feeds: Vec<FeedLine>,
    followed_feeds: Vec<FeedLine>,
    rules: Rules,
    ledger: Vec<LedgerLine>,
}

/// The line at the top.
struct Standing {
    tone: &'static str,
    symbol: &'static str,
    headline: &'static str,
    figures: Vec<(String, String)>,
    notices: Vec<Notice>,
}

/// Something the owner should know.
struct Notice {
    tone: &'static str,
    symbol: &'static str,
    text: Prose,
}

struct Record {
    link: String,
    lot: Option<String>,
    part: Option<String>,
    verdict: Tag,
    pieces: Option<String>,
    when: String,
    whose: String,
    place: String,
    old: Option<&'static str>,
}

struct PartnerCard {
    name: String,
    link: Tag,
    trouble: Option<Prose>,
    six_words: String,
    since: String,
    /// Feeds of ours it follows: name, how far.
    follows: Vec<(String, String)>,
    /// What it is told of each feed of ours.
    told: Vec<(String, Prose)>,
    /// What it offers us: feed, size, its terms.
    offers: Vec<(String, String, Prose)>,
    subscribed: bool,
}

struct FeedLine {
    name: String,
    whose: String,
    records: String,
    state: Tag,
    why: Option<Prose>,
}

struct Rules {
    version: u64,
    shares: Vec<RuleLine>,
    nevers: Vec<RuleLine>,
}

struct RuleLine {
    name: String,
    fields: String,
    terms: Prose,
}

struct LedgerLine {
    when: String,
    to: String,
    what: String,
    fields: String,
    under: String,
    outcome: Tag,
}

impl Home {
    fn of(context: &Context, query: &str, ledger: Vec<ledger::Row>) -> Result<Home, Failure> {
        let (snapshot, reader) = (context.handle.snapshot(), settled(context)?);
        let links: Vec<(Partner, PartnerLink)> =
            snapshot.book.values().map(|partner| (partner.clone(), context.board.of(&partner.name))).collect();
        let query = query.trim();
        let found = match find(reader, &snapshot, query) {
            Err(StoreError::Rebuilding) => None,
            found => Some(found?),
        };
        let (own, followed): (Vec<_>, Vec<_>) = snapshot.feeds.values().filter(|feed| !feed.origin.is_org()).partition(|feed| feed.ours);
        let ours: u64 = own.iter().map(|feed| records_in(feed)).sum();
        let records_note = match &found {
            None => "The index is being rebuilt from the journal; nothing is lost. Look again in a moment.".to_owned(),
            Some(found) if !query.is_empty() => match found.len() {
                RECORDS_MAX => format!("The newest {RECORDS_MAX} with this in lot or part."),
                number => format!("{} with this in lot or part.", words::count(number as u64, "record")),
            },
            Some(found) if found.len() == RECORDS_MAX => format!("The newest {RECORDS_MAX}; the filter finds older ones."),
            Some(found) if found.is_empty() => "Nothing is published or received yet.".to_owned(),
            Some(_) => String::new(),
        };
        Ok(Home {
            frame: Frame::new(&snapshot, "home", "Overview"),
            six_words: snapshot.party.six_words(),
            standing: Standing::of(&snapshot, reader, &links, ours, past_their_time(context)),
            query: harmless(query),
            records: found.unwrap_or_default().iter().map(|found| Record::of(&snapshot, found)).collect(),
            records_note,
            partners: links.iter().map(|(partner, link)| PartnerCard::of(&snapshot, partner, link)).collect(),
            own_feeds: own.into_iter().map(|feed| FeedLine::of(&snapshot, feed, &links)).collect(),
            followed_feeds: followed.into_iter().map(|feed| FeedLine::of(&snapshot, feed, &links)).collect(),
            rules: Rules::of(&snapshot),
            ledger: ledger.iter().rev().map(|row| LedgerLine::of(&snapshot, row)).collect(),
        })
    }
}

impl Standing {
    fn of(snapshot: &Snapshot, reader: &Reader, links: &[(Partner, PartnerLink)], ours: u64, due: Option<String>) -> Standing {
        let mut notices = Vec::new();
        let mut say = |tone, text: &str| {
            let symbol = if tone == CALM { "→" } else { "!" };
            notices.push(Notice { tone, symbol, text: Prose::of(text) });
        };
        if let Some(why) = &snapshot.restored {
            say(
                BAD,
                &format!(
                    "This home was restored ({why}). It signs and sends nothing until you have looked at partners and rules and said `lotline restore --confirm`."
                ),
            );
        }
        if let Some(jumped) = &snapshot.jumped {
            let (shows, expected) = (crate::service::day_text(jumped.shown), crate::service::day_text(jumped.expected));
            say(
                WARN,
                &format!(
                    "Sharing is paused: the clock shows {shows}, and the last day that is known is {expected}. It goes on by itself when a partner's clock agrees. If the date is right, `lotline share resume --clock` says so; else set the clock."
                ),
            );
        }
        for feed in snapshot.feeds.values() {
            if let Some(why) = &feed.frozen {
                let (name, whose) = (feed.origin.name(), owner(snapshot, feed));
                say(
                    BAD,
                    &format!("Feed {name} of {whose} is frozen: {why}. What was good before stays; the evidence is kept. Speak with them."),
                );
            }
        }
        let status = reader.status();
        for damage in &status.damage {
            say(BAD, &format!("Part of the journal cannot be read: {damage}. Run `lotline audit`."));
        }
        if status.index_failed {
            say(BAD, "The index broke. Records are safe in the journal; restart the node and it is rebuilt.");
        }
        let (policy, stopped) = (&snapshot.policy, snapshot.policy.stopped());
        if stopped.everybody {
            say(WARN, "Sharing is stopped with everybody. `lotline share resume` goes on.");
        } else if !stopped.partners.is_empty() {
            let names: Vec<&str> = stopped.partners.iter().map(String::as_str).collect();
            say(WARN, &format!("Sharing is stopped with {}. `lotline share resume` goes on.", words::listed(&names)));
        }
        if snapshot.book.is_empty() {
            say(CALM, "No partners yet. `lotline partner invite` shows a code for one.");
        }
        if policy.shares().is_empty() {
            say(CALM, "Nothing is shared yet: no rule shows anything to anybody. Write one into policy.toml, then `lotline policy apply`.");
        }
        if ours == 0 && snapshot.feeds.values().all(|feed| feed.ours) {
            say(CALM, "Nothing is published yet. `lotline publish FILE` checks and signs a measuring file.");
        }
        let connected = links.iter().filter(|(_, link)| link.connected).count();
        let set_up = notices.is_empty();
        if connected == 0 && !links.is_empty() {
            let text = "No partner is connected now. What they may see waits here and goes out by itself once they are.";
            notices.push(Notice { tone: CALM, symbol: "→", text: Prose::of(text) });
        }
        if let Some(due) = due {
            let text = format!("{due}: `lotline forget --due` shows it, and asks.");
            notices.push(Notice { tone: CALM, symbol: "→", text: Prose::of(&text) });
        }
        let (tone, symbol, headline) = match notices.iter().map(|notice| notice.tone).collect::<BTreeSet<_>>() {
            tones if tones.contains(BAD) => (BAD, "!", "Something needs you"),
            tones if tones.contains(WARN) => (WARN, "!", "Sharing is stopped"),
            _ if !set_up => (CALM, "→", "Ready, with something left to set up"),
            tones if tones.contains(CALM) && connected == 0 && !links.is_empty() => (CALM, "→", "Waiting for partners"),
            tones if tones.contains(CALM) => (CALM, "→", "In order, with something past its time"),
            _ => (GOOD, "✓", "Everything is in order"),
        };
        let followed: u64 = snapshot.feeds.values().filter(|feed| !feed.ours && !feed.origin.is_org()).map(records_in).sum();
        let sharing = match (policy.version(), stopped.everybody) {
            _ if snapshot.restored.is_some() => ("off".to_owned(), "sharing, until confirmed".to_owned()),
            _ if snapshot.jumped.is_some() => ("off".into(), "sharing, until the clock is known".into()),
            (_, true) => ("off".into(), "sharing, stopped by you".into()),
            (0, false) => ("none".into(), "rules in force".into()),
            (version, false) => (format!("v{version}"), "of your rules in force".into()),
        };
        let figure = |number: u64, one: &str, many: &str| (words::grouped(number), if number == 1 { one } else { many }.to_owned());
        let figures = vec![
            figure(ours, "record of ours", "records of ours"),
            figure(followed, "record followed", "records followed"),
            (format!("{connected} of {}", links.len()), "partners connected".into()),
            sharing,
        ];
        Standing { tone, symbol, headline, figures, notices }
    }
}

/// What is past its time, in words; without its index, or a configuration that reads, the page still answers.
fn past_their_time(context: &Context) -> Option<String> {
    let retention = context.home.config().ok()?.retention;
    let due = forget::due(context.handle.reader(), &context.handle.snapshot(), &retention, context.handle.clock().believed()).ok()?;
    due_in_words(&due, &retention)
}

/// A record that can be seen here.
struct Found {
    feed: Feed,
    row: Row,
    summary: Summary,
}

/// The newest records; those with a text in lot or part, if there is one.
fn find(reader: &Reader, snapshot: &Snapshot, query: &str) -> Result<Vec<Found>, StoreError> {
    let mut rows = Vec::new();
    if !query.is_empty() {
        // Exactly this lot or part is found through the index, however old it is.
        let places: BTreeSet<_> = reader.by_lot(query)?.into_iter().chain(reader.by_part(query)?).collect();
        for (feed, seq) in places {
            rows.extend(reader.row(feed, seq)?);
        }
    }
    let wanted = query.to_lowercase();
    let has = |text: &Option<String>| text.as_ref().is_some_and(|text| text.to_lowercase().contains(&wanted));
    let fits = |row: &Row| wanted.is_empty() || has(&row.lot) || has(&row.part);
    let feeds: Vec<&Feed> = snapshot.feeds.values().filter(|feed| !feed.origin.is_org()).collect();
    let looked_at_max = if wanted.is_empty() { RECENT_MAX } else { SEARCHED_MAX / feeds.len().max(1) as u64 };
    for feed in feeds {
        newest_of(reader, feed, looked_at_max, &fits, &mut rows)?;
    }
    let mut seen = BTreeSet::new();
    rows.retain(|row| row.has_core && row.seq > 0 && seen.insert((row.feed, row.seq)));
    let found = |row: Row| {
        let feed = snapshot.feed_numbered(row.feed)?.clone();
        Some(Found { feed, summary: Summary::read(&row.summary).ok()?, row })
    };
    let mut found: Vec<Found> = rows.into_iter().filter_map(found).collect();
    found.retain(|one| !one.summary.facts.is_release());
    found.sort_by(|a, b| (&b.summary.facts.recorded_at, b.row.seq).cmp(&(&a.summary.facts.recorded_at, a.row.seq)));
    found.truncate(RECORDS_MAX);
    Ok(found)
}

/// Walks a feed from its end, a window at a time, until there is enough.
fn newest_of(reader: &Reader, feed: &Feed, looked_at_max: u64, fits: &dyn Fn(&Row) -> bool, rows: &mut Vec<Row>) -> Result<(), StoreError> {
    let (mut end, mut found) = (feed.size(), 0);
    let stop = end.saturating_sub(looked_at_max).max(1);
    while end > stop && found < RECORDS_MAX {
        let from = end.saturating_sub(WINDOW).max(stop);
        let window = reader.rows(feed.id, from, (end - from) as usize)?;
        let fitting = window.into_iter().filter(|row| row.has_core && fits(row));
        let before = rows.len();
        rows.extend(fitting);
        found += rows.len() - before;
        end = from;
    }
    Ok(())
}

/// Index 0 of a feed is its own entry.
fn records_in(feed: &Feed) -> u64 {
    feed.size().saturating_sub(1)
}

/// A time under a head that says UTC already.
fn in_utc(time: &str) -> String {
    let time = words::readable_time(time);
    time.strip_suffix(" UTC").unwrap_or(&time).to_owned()
}

/// Whose feed it is, as our screens name it.
pub(super) fn owner(snapshot: &Snapshot, feed: &Feed) -> String {
    match snapshot.partner_of(&feed.origin.party()) {
        _ if feed.ours => "ours".into(),
        Some(partner) => harmless(&partner.name),
        None => feed.origin.party().short(),
    }
}

/// The address of a record's page.
pub(super) fn link(origin: &str, seq: u64) -> String {
    format!("/record/{}/{seq}", origin.replace('/', "%2F"))
}

impl Record {
    fn of(snapshot: &Snapshot, found: &Found) -> Record {
        let Found { feed, row, summary } = found;
        let facts = &summary.facts;
        let withdrawn = snapshot.orgs.get(&feed.origin.party()).is_some_and(|org| org.withdrawn(&Hash(row.leaf)).is_some());
        Record {
            link: link(&feed.origin.to_string(), row.seq),
            lot: facts.lot.as_deref().map(harmless),
            part: facts.part.as_deref().map(harmless),
            verdict: Tag::verdict(facts.verdict.as_deref()),
            pieces: facts.pieces.map(|(inspected, failed)| format!("{} of {}", words::grouped(failed), words::grouped(inspected))),
            when: facts.recorded_at.as_deref().map_or_else(|| "–".into(), in_utc),
            whose: owner(snapshot, feed),
            place: format!("{}/{}", feed.origin.name(), row.seq),
            old: if withdrawn { Some("withdrawn") } else { summary.superseded_by.map(|_| "superseded") },
        }
    }
}

impl PartnerCard {
    fn of(snapshot: &Snapshot, partner: &Partner, link: &PartnerLink) -> PartnerCard {
        let viewer = snapshot.viewer(&partner.name);
        let now_seconds = now() as i64;
        let names = snapshot.policy.feeds_for(&viewer, &snapshot.own_feed_names(), now_seconds);
        let told = names.iter().map(|name| (name.clone(), Prose::of(&term(&snapshot.policy, &viewer, name, now_seconds))));
        let follows = link.follows.iter().filter_map(|(origin, reached)| {
            let feed = snapshot.feeds.get(origin).filter(|feed| (feed.ours || feed.written) && !feed.origin.is_org())?;
            let far = format!("{} of {} acknowledged", words::grouped(reached.saturating_sub(1)), words::grouped(records_in(feed)));
            Some((feed.origin.name().to_owned(), far))
        });
        let offers = link.offers.iter().filter_map(|(origin, size, term)| {
            let origin = origin.parse::<lotline_schema::Origin>().ok().filter(|origin| !origin.is_org())?;
            Some((origin.name().to_owned(), words::count(size.saturating_sub(1), "record"), Prose::of(term)))
        });
        PartnerCard {
            name: harmless(&partner.name),
            link: if link.connected { Tag::good("connected") } else { Tag::calm("○", "not connected") },
            // Several lines of a network library, in one.
            trouble: link.trouble.as_deref().map(|trouble| Prose::of(&trouble.split_whitespace().collect::<Vec<_>>().join(" "))),
            six_words: partner.party.six_words(),
            since: words::day(partner.added),
            follows: follows.collect(),
            told: told.collect(),
            offers: offers.collect(),
            subscribed: partner.subscribed,
        }
    }
}

impl FeedLine {
    fn of(snapshot: &Snapshot, feed: &Feed, links: &[(Partner, PartnerLink)]) -> FeedLine {
        let origin = feed.origin.to_string();
        let from = snapshot.writers.get(&origin).copied().unwrap_or(feed.origin.party());
        let link = links.iter().find(|(partner, _)| partner.party == from).map(|(_, link)| link);
        let caught_up = link.and_then(|link| link.caught_up.get(&origin)).is_some_and(|size| *size <= feed.size());
        let offered = link.and_then(|link| link.offers.iter().find(|(offered, ..)| *offered == origin)).map(|(_, size, _)| *size);
        let followers = links.iter().filter(|(_, link)| link.follows.contains_key(&origin)).count() as u64;
        let state = match offered {
            _ if feed.frozen.is_some() => Tag::bad("frozen"),
            _ if feed.is_own() && followers == 0 => Tag::calm("○", "nobody follows now"),
            _ if feed.is_own() => Tag::good(format!("followed by {followers}")),
            _ if feed.written && followers == 0 => Tag::calm("○", "written here; its owner takes it when connected"),
            _ if feed.written => Tag::good("written here, taken by its owner"),
            Some(size) if size > feed.size() => Tag::warn(format!("{} behind", words::grouped(size - feed.size()))),
            _ if caught_up => Tag::good("caught up"),
            _ => Tag::calm("○", "waiting for the partner"),
        };
        let name = match feed.origin.n() {
            1 => feed.origin.name().to_owned(),
            n => format!("{} (life {n})", feed.origin.name()),
        };
        FeedLine {
            name,
            whose: owner(snapshot, feed),
            records: words::count(records_in(feed), "record"),
            state,
            why: feed.frozen.as_deref().map(Prose::of),
        }
    }
}

impl Rules {
    fn of(snapshot: &Snapshot) -> Rules {
        let policy = &snapshot.policy;
        Rules {
            version: policy.version(),
            shares: policy.shares().iter().map(|rule| RuleLine::of(rule, true)).collect(),
            nevers: policy.nevers().iter().map(|rule| RuleLine::of(rule, false)).collect(),
        }
    }
}

impl RuleLine {
    fn of(rule: &Rule, share: bool) -> RuleLine {
        let mut terms = vec![rule.says(Condition::Partner), rule.says(Condition::Feed), rule.says(Condition::Parts)];
        if rule.kinds.is_some() {
            terms.push(rule.says(Condition::Kind));
        }
        if rule.only.is_some() {
            terms.push(rule.says(Condition::Only));
        }
        if rule.delay.is_some() {
            terms.push(rule.says(Condition::Delay));
        }
        if rule.from.is_some() {
            terms.push(rule.says(Condition::From));
        }
        if rule.terms.is_some() {
            terms.push(rule.says(Condition::Terms));
        }
        if share {
            terms.push(rule.says(Condition::Until));
        }
        let fields = rule.says(Condition::Field);
        RuleLine {
            name: harmless(&rule.name),
            fields: harmless(fields.strip_prefix("names ").unwrap_or(&fields)),
            terms: Prose::of(&format!("It {}.", words::listed(&terms))),
        }
    }
}

impl LedgerLine {
    fn of(snapshot: &Snapshot, row: &ledger::Row) -> LedgerLine {
        let shown = row.items.iter().filter(|sent| sent.mask != 0).count() as u64;
        let bare = row.items.len() as u64 - shown;
        let feed = row.origin.split('/').nth(1).unwrap_or_default();
        let (first, last) = (row.from, row.end.saturating_sub(1));
        let range = if first == last { format!("/{first}") } else { format!("/{first}–{last}") };
        let what = match (shown, bare) {
            _ if feed == "org" => format!("your keys and feeds: org{range}"),
            _ if row.is_refilled() => format!("{feed}{range}: lost here, told by the receipt"),
            (0, bare) => format!("{feed}{range}: {} without fields", words::count(bare, "place")),
            (shown, 0) => format!("{feed}{range}: {}", words::count(shown, "record")),
            (shown, bare) => format!("{feed}{range}: {}, {} without fields", words::count(shown, "record"), words::count(bare, "place")),
        };
        let mask = row.items.iter().fold(0, |all, sent| all | sent.mask);
        LedgerLine {
            when: in_utc(&crate::service::time_text(row.at)),
            to: harmless(&row.to),
            what: harmless(&what),
            fields: groups_of(mask),
            under: crate::cli::ledger::under(row, &snapshot.party),
            outcome: match row.outcome {
                ledger::Outcome::Acknowledged => Tag::good(row.outcome.name()),
                ledger::Outcome::Exported | ledger::Outcome::NotSent => Tag::calm("·", row.outcome.name()),
                ledger::Outcome::Open | ledger::Outcome::Cut => Tag::warn(row.outcome.name()),
            },
        }
    }
}

/// The groups of an inspection's fields that a mask opens, at least in part.
fn groups_of(mask: u64) -> String {
    let fields = || inspection::SCHEMA.fields.iter().enumerate().map(|(slot, field)| (field.group, mask >> slot & 1 == 1));
    let opened = |group: &Group| fields().any(|(of, open)| of == *group && open);
    let groups: Vec<&str> = Group::ALL.into_iter().filter(opened).map(Group::name).collect();
    groups.join(", ")
}
