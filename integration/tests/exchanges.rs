//! Random exchanges with eight partners under random rules that are edited meanwhile, with a canary in every field: what the rules
//! hide is in no byte that leaves, in no carried file, no bundle, no log, no error and no file name, and not in a receiver's store.
//!
//! `EXCHANGES=…` runs another number than 1,000 (the full count is 10,000), `SEED=…` repeats a run. What the rules show is worked out here a second time, by
//! [`Rules::shows`], which asks nothing of `policy`. The last test plants a leak in each place and finds it.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lotline_integration::canaries::{Needle, Search, inspection, log, needles_in};
use lotline_integration::forge::{Forge, Node, Wire, until};
use lotline_integration::world::{Dice, seed};
use lotline_node::exchange::{CREDIT_BYTES, Message};
use lotline_node::links;
use lotline_node::service::{now, time_text};
use lotline_policy::{MemberList, Policy};
use lotline_schema::kind::Group;

use lotline_schema::kind::inspection::{SCHEMA, Verdict};
use lotline_schema::note::Checkpoint;
use lotline_schema::tree::empty_root;
use lotline_schema::{Facts, Hash, Record};
use serde_json::json;

const EXCHANGES: u64 = 1_000;
/// Exchanges with one home; then its ledger is long.
const EXCHANGES_A_HOME: u64 = 125;
const PARTNERS: usize = 8;
const FEEDS: [&str; 2] = ["quality", "trial"];
const RECORDS: [usize; 2] = [12, 4];
const PARTS: [&str; 3] = ["P-1", "P-2", "P-3"];
const HOUR: u64 = 3_600;
/// Groups whose fields stand in two tables.
const TABLED: [&str; 4] = ["specification", "verdict", "capability", "measurements"];

fn partner(at: usize) -> String {
    format!("p{at}")
}

/// A field of a record: feed, place, slot.
type Field = (usize, usize, usize);

// ---- Rules in plain data ----

#[derive(Clone, Debug)]
enum With {
    Partner(usize),
    Group(usize),
    List,
}

#[derive(Clone, Debug)]
enum Parts {
    All,
    Theirs,
    These(Vec<&'static str>),
}

#[derive(Clone, Debug)]
struct Rule {
    is_never: bool,
    with: With,
    feed: Option<usize>,
    parts: Parts,
    lots: Option<Vec<String>>,
    /// None: everything.
    show: Option<Vec<String>>,
    kinds: Option<&'static str>,
    only: Option<&'static str>,
    from: Option<bool>,
    until: Option<bool>,
    delay_hours: Option<u64>,
}

/// Rules whose meaning is worked out without asking `policy`.
#[derive(Clone, Debug)]
struct Rules {
    groups: Vec<BTreeSet<usize>>,
    list: BTreeSet<usize>,
    list_ended: bool,
    rules: Vec<Rule>,
}

/// What is known of a record.
struct Known {
    facts: Facts,
    recorded: u64,
}

fn names_of_fields(dice: &mut Dice) -> Vec<String> {
    let one = |dice: &mut Dice| {
        let group = SCHEMA.fields[dice.below(SCHEMA.fields.len() as u64) as usize].group.name();
        match dice.below(4) {
            0 => SCHEMA.fields[dice.below(SCHEMA.fields.len() as u64) as usize].name.to_owned(),
            1 => format!("{}:{}", TABLED[dice.below(4) as usize], ["special", "other"][dice.below(2) as usize]),
            _ => group.to_owned(),
        }
    };
    (0..1 + dice.below(4)).map(|_| one(dice)).collect::<BTreeSet<_>>().into_iter().collect()
}

impl Rule {
    fn throw(dice: &mut Dice, is_never: bool) -> Rule {
        let maybe = |dice: &mut Dice, one_in: u64| dice.below(one_in) == 0;
        let with = match dice.below(6) {
            0 | 1 => With::Group(dice.below(2) as usize),
            2 => With::List,
            _ => With::Partner(dice.below(PARTNERS as u64) as usize),
        };
        let some_parts = |dice: &mut Dice| PARTS.iter().copied().filter(|_| dice.below(2) == 0).collect::<Vec<_>>();
        let parts = match dice.below(4) {
            0 => Parts::Theirs,
            1 => Parts::These(some_parts(dice)),
            _ => Parts::All,
        };
        let parts = if matches!(&parts, Parts::These(parts) if parts.is_empty()) { Parts::These(vec![PARTS[0]]) } else { parts };
        let lots = maybe(dice, 4).then(|| (0..3).map(|_| lot(dice.below(2) as usize, 1 + dice.below(8) as usize)).collect());
        let show = (!maybe(dice, 5)).then(|| names_of_fields(dice));
        let rule = Rule {
            is_never,
            with,
            feed: (!maybe(dice, 3)).then(|| dice.below(2) as usize),
            parts,
            lots,
            show,
            kinds: None,
            only: None,
            from: None,
            until: None,
            delay_hours: None,
        };
        if is_never {
            return rule;
        }
        // A share that ended before it begins is refused.
        let until = maybe(dice, 3).then(|| dice.below(4) == 0);
        let from = maybe(dice, 4).then(|| until == Some(true) || dice.below(4) > 0);
        Rule {
            kinds: maybe(dice, 5).then(|| ["inspection", "custom/benchmark"][dice.below(2) as usize]),
            only: maybe(dice, 4).then(|| ["conforming", "non-conforming", "released"][dice.below(3) as usize]),
            from,
            until,
            delay_hours: maybe(dice, 4).then(|| 1 + dice.below(400)),
            ..rule
        }
    }

    fn names(&self, slot: usize) -> bool {
        let field = &SCHEMA.fields[slot];
        let table = field.name.split('_').next().filter(|table| ["special", "other"].contains(table));
        match &self.show {
            None => self.is_never || field.group != Group::Inspector,
            Some(names) => names.iter().any(|name| {
                let tabled = table.map(|table| format!("{}:{table}", field.group.name()));
                name == field.group.name() || name == field.name || tabled.as_ref() == Some(name)
            }),
        }
    }

    fn text(&self, at: usize) -> String {
        let with = match &self.with {
            With::Partner(at) => partner(*at),
            With::Group(at) => format!("g{at}"),
            With::List => "members-of:vdz".into(),
        };
        let parts = match &self.parts {
            Parts::All => "'all'".to_owned(),
            Parts::Theirs => "'theirs'".into(),
            Parts::These(parts) => format!("{parts:?}"),
        };
        let show = self.show.as_ref().map_or("'everything'".to_owned(), |names| format!("{names:?}"));
        let feed = self.feed.map_or("all", |feed| FEEDS[feed]);
        let mut text = format!("name = 'r{at}'\nwith = '{with}'\nfeed = '{feed}'\nparts = {parts}\nshow = {show}\n");
        text.extend(self.lots.iter().map(|lots| format!("lots = {lots:?}\n")));
        if self.is_never {
            return format!("[[never]]\n{text}");
        }
        text.extend(self.kinds.map(|kind| format!("kinds = ['{kind}']\n")));
        text.extend(self.only.map(|only| format!("only = '{only}'\n")));
        text.extend(self.from.map(|begun| format!("from = {}\n", if begun { "2020-01-01" } else { "2999-01-01" })));
        text.extend(self.delay_hours.map(|hours| format!("delay = '{hours}h'\n")));
        let until = self.until.map_or("'revoked'", |over| if over { "2026-01-01" } else { "2999-12-31" });
        format!("[[share]]\n{text}until = {until}\n")
    }
}

impl Rules {
    fn throw(dice: &mut Dice, always: &[Rule]) -> Rules {
        let some = |dice: &mut Dice| (0..PARTNERS).filter(|_| dice.below(3) == 0).collect();
        let groups = vec![some(dice), some(dice)];
        let mut rules: Vec<Rule> = (0..8 + dice.below(16)).map(|_| Rule::throw(dice, false)).collect();
        rules.extend((0..dice.below(4)).map(|_| Rule::throw(dice, true)));
        rules.extend_from_slice(always);
        let groups = groups.into_iter().map(|group: BTreeSet<usize>| if group.is_empty() { BTreeSet::from([0]) } else { group }).collect();
        Rules { groups, list: some(dice), list_ended: dice.below(4) == 0, rules }
    }

    fn means(&self, with: &With, whom: usize) -> bool {
        match with {
            With::Partner(at) => *at == whom,
            With::Group(at) => self.groups[*at].contains(&whom),
            With::List => self.list.contains(&whom),
        }
    }

    fn acts(&self, rule: &Rule, whom: usize, feed: usize, of: &Known) -> bool {
        let parts = match &rule.parts {
            Parts::All => true,
            Parts::Theirs => of.facts.customer == Some(partner(whom)),
            Parts::These(parts) => parts.iter().any(|part| of.facts.part.as_deref() == Some(part)),
        };
        let lots = rule.lots.as_ref().is_none_or(|lots| of.facts.lot.as_ref().is_some_and(|lot| lots.contains(lot)));
        let only = match rule.only {
            None => true,
            // Nobody released anything here.
            Some("released") => false,
            Some(verdict) => of.facts.verdict.as_deref() == Some(verdict),
        };
        let in_time = rule.from != Some(false)
            && rule.until != Some(true)
            && rule.delay_hours.is_none_or(|hours| of.recorded + hours * HOUR <= now())
            && !(matches!(rule.with, With::List) && self.list_ended && !rule.is_never);
        let kinds = rule.kinds.is_none_or(|kind| kind == "inspection");
        self.means(&rule.with, whom) && rule.feed.is_none_or(|named| named == feed) && parts && lots && only && in_time && kinds
    }

    /// Whether a field of a record may be seen.
    fn shows(&self, whom: usize, feed: usize, of: &Known, slot: usize) -> bool {
        let named =
            |never: bool| self.rules.iter().any(|rule| rule.is_never == never && rule.names(slot) && self.acts(rule, whom, feed, of));
        named(false) && !named(true)
    }

    fn policy(&self) -> Policy {
        let mut text = String::from("[groups]\n");
        for (at, group) in self.groups.iter().enumerate() {
            text += &format!("g{at} = {:?}\n", group.iter().map(|at| partner(*at)).collect::<Vec<_>>());
        }
        self.rules.iter().enumerate().for_each(|(at, rule)| text += &rule.text(at));
        let until = if self.list_ended { 1_767_225_600 } else { 32_503_680_000 };
        let partners = self.list.iter().map(|at| partner(*at)).collect();
        let lists = BTreeMap::from([("vdz".to_owned(), MemberList { hash: Hash([7; 32]), until, partners })]);
        Policy::restore_with(&text, &lists).unwrap_or_else(|slips| panic!("{slips}\n{text}"))
    }
}

// ---- A home full of canaries ----

fn lot(feed: usize, seq: usize) -> String {
    format!("L-{feed}-{seq}")
}

struct World {
    node: Node,
    forges: Vec<Forge>,
    /// By feed and place; the first entry of a feed is none.
    records: Vec<Vec<Known>>,
    search: Search,
    /// Which fields each needle is of.
    fields: Vec<Vec<Field>>,
    dice: Dice,
    log_from: usize,
}

/// What was searched.
#[derive(Clone, Copy, Default, Debug)]
struct Searched {
    exchanges: u64,
    edits: u64,
    edits_in_flight: u64,
    batches: u64,
    backfills: u64,
    needles: u64,
    shown: u64,
    wire_bytes: u64,
    files: u64,
    file_bytes: u64,
    log_bytes: u64,
    names: u64,
    refusals: u64,
}

impl World {
    async fn new(forges: Vec<Forge>, seed: u64) -> World {
        let (node, mut dice) = (Node::new("maker").await, Dice(seed));
        for forge in &forges {
            node.know(forge.as_partner(false)).await;
            node.know_keys_of(forge).await;
        }
        let (mut records, mut world) = (Vec::new(), World::empty(node, forges, Dice(seed ^ 1)));
        for (feed, count) in RECORDS.into_iter().enumerate() {
            let mut known = Vec::new();
            let mut sealed = Vec::new();
            for seq in 1..=count {
                // Half an hour from every moment at which a delay of whole hours ends.
                let recorded = now() - HOUR / 2 - dice.below(400) * HOUR;
                let mut draft = inspection(PARTS[dice.below(3) as usize], &lot(feed, seq));
                draft.customer = Some(partner(dice.below(PARTNERS as u64) as usize));
                draft.verdict_stated = [None, Some(Verdict::Conforming), Some(Verdict::NonConforming)][dice.below(3) as usize];
                let record = draft.check(&time_text(recorded)).unwrap_or_else(|faults| panic!("{faults:?}"));
                known.push(Known { facts: record.facts(), recorded });
                sealed.push(record);
            }
            world.node.publish(FEEDS[feed], sealed.clone()).await;
            world.learn(feed, &sealed).await;
            records.push(known);
        }
        World { records, ..world }
    }

    fn empty(node: Node, forges: Vec<Forge>, dice: Dice) -> World {
        let log_from = log().lock().unwrap().len();
        World { node, forges, records: Vec::new(), search: Search::new(Vec::new()), fields: Vec::new(), dice, log_from }
    }

    /// Takes in what is to be looked for: whatever two fields share counts for both.
    async fn learn(&mut self, feed: usize, records: &[Record]) {
        let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut needles: Vec<Needle> = std::mem::take(&mut self.search.needles);
        known.extend(needles.iter().enumerate().map(|(at, needle)| (needle.bytes.clone(), at)));
        for (at, record) in records.iter().enumerate() {
            for needle in needles_in(&self.node, FEEDS[feed], record, at as u64 + 1, |_| true).await {
                let name = needle.what.split(' ').next().unwrap();
                let field = (feed, at, SCHEMA.slot(name).unwrap());
                let place = *known.entry(needle.bytes.clone()).or_insert_with(|| {
                    self.fields.push(Vec::new());
                    needles.push(needle);
                    needles.len() - 1
                });
                self.fields[place].push(field);
            }
        }
        self.search = Search::new(needles);
    }

    /// Every needle in some bytes must be of a field that one of these rules shows. Returns how many were there.
    fn check(&self, bytes: &[u8], whom: usize, rules: &[&Rules], place: &str) -> u64 {
        let found = self.search.places(bytes);
        let leaks: Vec<&str> =
            found.iter().filter(|at| !self.may_see(**at, whom, rules)).map(|at| self.search.needles[*at].what.as_str()).collect();
        assert!(leaks.is_empty(), "{} leaks to {} in {place}: {leaks:?}\n{rules:#?}", leaks.len(), partner(whom));
        found.len() as u64
    }

    fn may_see(&self, needle: usize, whom: usize, rules: &[&Rules]) -> bool {
        self.fields[needle]
            .iter()
            .any(|(feed, at, slot)| rules.iter().any(|rules| rules.shows(whom, *feed, &self.records[*feed][*at], *slot)))
    }

    async fn apply(&self, rules: &Rules) {
        let policy = rules.policy();
        self.node.with(move |feeds| feeds.apply_policy(policy, true, feeds.clock().now())).await.unwrap();
    }

    /// Somebody follows a feed from some cursor on, and the rules may be edited meanwhile.
    async fn exchange(&mut self, rules: &mut Rules, searched: &mut Searched) {
        let (whom, feed) = (self.dice.below(PARTNERS as u64) as usize, usize::from(self.dice.below(4) == 0));
        let before = rules.clone();
        let name = partner(whom);
        let snapshot = self.node.service.handle.snapshot();
        let origin = self.node.own(FEEDS[feed]);
        let held = snapshot.feeds[origin.as_str()].clone();
        let next = if self.dice.below(3) == 0 { self.dice.below(held.size() + 1) } else { 0 };
        let root = self.node.service.handle.reader().tree(held.id, held.size()).root(next).unwrap();
        let context = links::Context {
            net: self.node.net.clone(),
            handle: self.node.service.handle.clone(),
            board: self.node.board.clone(),
            pairings: None,
            capture: None,
        };
        let (near, far) = tokio::io::duplex(64 * 1024);
        let serving = tokio::spawn(links::serve(context, snapshot.book[&name].clone(), near));
        let mut wire = Wire::new(far);
        wire.send(&Message::Open { origin: origin.to_string(), next, root, view: None, credit: CREDIT_BYTES }).await;
        wire.holds(Checkpoint { origin, size: next, root }, next);
        let mut edit_at = (self.dice.below(3) == 0).then(|| self.dice.below(4));
        let mut level = false;
        for messages in 0..40 {
            if edit_at.take_if(|at| *at <= messages).is_some() {
                *rules = Rules::throw(&mut self.dice, &[]);
                self.apply(rules).await;
                searched.edits_in_flight += 1;
            }
            match wire.take(&self.forges[whom]).await {
                Some(Message::Batch(_)) => searched.batches += 1,
                Some(Message::Backfill(_)) => searched.backfills += 1,
                // Who keeps no receipts cannot pay with any.
                Some(Message::Opened { owed: true, .. }) => break,
                // An edit that comes when all is here ends with the name of the new view.
                Some(Message::View { .. }) if level => break,
                Some(Message::Opened { .. } | Message::View { .. }) => {}
                // With an edit to come there is more to hear.
                Some(Message::CaughtUp { .. }) if edit_at.is_some() => (edit_at, level) = (Some(0), true),
                Some(Message::CaughtUp { .. }) => break,
                other => {
                    searched.refusals += u64::from(other.is_some());
                    break;
                }
            }
        }
        let read = std::mem::take(&mut wire.read);
        drop(wire);
        let _ = serving.await;
        searched.shown += self.check(&read, whom, &[&before, rules], "the stream");
        searched.wire_bytes += read.len() as u64;
        searched.exchanges += 1;
        if self.dice.below(8) == 0 {
            self.write_files(whom, feed, rules, searched).await;
        }
    }

    /// A file for a stick and a bundle for the same partner, and what the owner is told where there is none.
    async fn write_files(&mut self, whom: usize, feed: usize, rules: &Rules, searched: &mut Searched) {
        let output = self.node.folder.path().join("out");
        let lot = lot(feed, 1 + self.dice.below(RECORDS[feed] as u64) as usize);
        let bundle = json!({ "Bundle": { "lot": lot, "part": null, "from": null, "partner": partner(whom), "full": null, "yes": false, "output": output } });
        let carry = json!({ "Carry": { "to": partner(whom), "feed": FEEDS[feed], "from": 0, "output": output } });
        for (verb, place) in [(bundle, "a bundle"), (carry, "a carried file")] {
            match self.node.verb(verb).await {
                Ok(answer) => {
                    let bytes = std::fs::read(&output).unwrap();
                    searched.shown += self.check(&bytes, whom, &[rules], place);
                    searched.shown += self.check(answer.to_json().to_string().as_bytes(), whom, &[rules], "an answer");
                    (searched.files, searched.file_bytes) = (searched.files + 1, searched.file_bytes + bytes.len() as u64);
                    std::fs::remove_file(&output).unwrap();
                }
                Err(failure) => {
                    let words = format!("{failure} {:?}", failure.hint);
                    assert_eq!(self.check(words.as_bytes(), whom, &[], "an error"), 0);
                    searched.refusals += 1;
                }
            }
        }
    }

    /// What nobody may find: a canary in the log, or in a name of a file.
    fn check_log_and_names(&self, folders: &[&Path], searched: &mut Searched) {
        let log = log().lock().unwrap()[self.log_from..].to_vec();
        searched.log_bytes += log.len() as u64;
        assert_eq!(self.search.find(&log), Vec::<&str>::new(), "in the log");
        for folder in folders {
            let names = names_below(folder);
            searched.names += names.len() as u64;
            assert_eq!(self.search.find(names.join("\n").as_bytes()), Vec::<&str>::new(), "in names of files");
        }
    }
}

fn names_below(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        names.push(entry.file_name().to_string_lossy().into_owned());
        if entry.path().is_dir() {
            names.extend(names_below(&entry.path()));
        }
    }
    names
}

async fn run(exchanges: u64, forges: Vec<Forge>, seed: u64) -> (Searched, Vec<Forge>) {
    let mut world = World::new(forges, seed).await;
    let mut searched = Searched { needles: world.search.needles.len() as u64, ..Default::default() };
    let mut rules = Rules::throw(&mut world.dice, &[]);
    world.apply(&rules).await;
    for _ in 0..exchanges {
        if world.dice.below(2) == 0 {
            rules = Rules::throw(&mut world.dice, &[]);
            world.apply(&rules).await;
            searched.edits += 1;
        }
        world.exchange(&mut rules, &mut searched).await;
    }
    let folder = world.node.folder.path().to_owned();
    world.check_log_and_names(&[&folder], &mut searched);
    world.node.stop().await;
    (searched, world.forges)
}

#[test]
fn a_thousand_random_exchanges_leak_nothing() {
    log();
    let exchanges = std::env::var("EXCHANGES").ok().and_then(|count| count.parse().ok()).unwrap_or(EXCHANGES);
    let (seed, next, all) = (seed(), AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
                let mut forges: Vec<Forge> = (0..PARTNERS).map(|at| Forge::new(&partner(at))).collect();
                loop {
                    let first = next.fetch_add(EXCHANGES_A_HOME, Ordering::SeqCst);
                    if first >= exchanges {
                        return;
                    }
                    let (searched, again) = runtime.block_on(run(EXCHANGES_A_HOME.min(exchanges - first), forges, seed ^ first));
                    forges = again;
                    all.lock().unwrap().push(searched);
                }
            });
        }
    });
    let all = all.into_inner().unwrap();
    let sum = |of: fn(&Searched) -> u64| all.iter().map(of).sum::<u64>();
    eprintln!(
        "{} exchanges in {} homes, {} edits of rules and {} more in the middle of one, {} batches, {} backfills, {} refusals: \
         {} canaries looked for in {} bytes of streams, {} bytes of {} files, {} bytes of log and {} names of files; \
         {} that may be seen were found, 0 others",
        sum(|of| of.exchanges),
        all.len(),
        sum(|of| of.edits),
        sum(|of| of.edits_in_flight),
        sum(|of| of.batches),
        sum(|of| of.backfills),
        sum(|of| of.refusals),
        sum(|of| of.needles),
        sum(|of| of.wire_bytes),
        sum(|of| of.file_bytes),
        sum(|of| of.files),
        sum(|of| of.log_bytes),
        sum(|of| of.names),
        sum(|of| of.shown),
    );
    let counts = [sum(|of| of.batches), sum(|of| of.refusals), sum(|of| of.shown), sum(|of| of.edits_in_flight)];
    assert!(counts.iter().all(|count| *count >= exchanges / 10), "hardly anything was exchanged");
    assert!(sum(|of| of.backfills) > 0 || exchanges < 100);
}

/// Nodes that keep what they get, under rules that are edited again and again; some fields are banned throughout.
#[tokio::test(flavor = "multi_thread")]
async fn receivers_store_nothing_that_was_always_hidden() {
    const EDITS: usize = 12;
    log();
    let mut dice = Dice(seed());
    let mut world = World::new(Vec::new(), dice.below(u64::MAX)).await;
    let mut customers = Vec::new();
    for at in 0..3 {
        let node = Node::new(&partner(at)).await;
        world.node.know(node.as_partner(false).await).await;
        node.know(world.node.as_partner(true).await).await;
        customers.push(node);
    }
    let ban = |whom: usize, dice: &mut Dice| Rule { with: With::Partner(whom), ..Rule::throw(dice, true) };
    let open = |whom: usize, dice: &mut Dice| Rule {
        with: With::Partner(whom),
        delay_hours: None,
        from: None,
        until: None,
        ..Rule::throw(dice, false)
    };
    let mut always: Vec<Rule> = (0..3).map(|whom| Rule { feed: None, parts: Parts::All, lots: None, ..ban(whom, &mut dice) }).collect();
    always.iter_mut().filter(|rule| rule.show.is_none()).for_each(|rule| rule.show = Some(names_of_fields(&mut dice)));
    always.extend((0..3).map(|whom| Rule { parts: Parts::All, lots: None, kinds: None, only: None, feed: None, ..open(whom, &mut dice) }));
    let mut history = Vec::new();
    for _ in 0..EDITS {
        let rules = Rules::throw(&mut world.dice, &always);
        world.apply(&rules).await;
        history.push(rules);
        tokio::time::sleep(Duration::from_millis(50 + world.dice.below(300))).await;
    }
    for node in &customers {
        for feed in FEEDS {
            let (origin, size) = (world.node.own(feed), world.node.feed(&world.node.own(feed)).unwrap().size());
            until("the feed to arrive", || node.feed(&origin).filter(|feed| feed.size() == size)).await;
        }
    }
    let rules: Vec<&Rules> = history.iter().collect();
    let mut searched = Searched { needles: world.search.needles.len() as u64, ..Default::default() };
    let mut hidden = 0;
    for (whom, node) in customers.into_iter().enumerate() {
        for verb in
            [json!({ "Status": {} }), json!({ "Feeds": {} }), json!({ "Audit": {} }), json!({ "Show": { "lot": "L-0-1", "part": null } })]
        {
            let words = match node.verb(verb).await {
                Ok(answer) => format!("{} {}", answer.text, answer.to_json()),
                Err(failure) => format!("{failure} {:?}", failure.hint),
            };
            world.check(words.as_bytes(), whom, &rules, "an answer");
        }
        world.check(format!("{:?}", node.board.of("maker")).as_bytes(), whom, &[], "what the links say");
        let (folder, _) = node.stop().await;
        let found = look_below(folder.path(), &mut |path, bytes| {
            (searched.files, searched.file_bytes) = (searched.files + 1, searched.file_bytes + bytes.len() as u64);
            world.check(bytes, whom, &rules, &path.display().to_string())
        });
        assert!(found > 50, "what may be seen is there: {found}");
        searched.shown += found;
        hidden += (0..world.search.needles.len()).filter(|at| !world.may_see(*at, whom, &rules)).count();
        world.check_log_and_names(&[folder.path()], &mut searched);
    }
    eprintln!("3 nodes, {EDITS} edits, {hidden} canaries that were always hidden: {searched:?}");
    assert!(hidden > 100);
    world.node.stop().await;
}

fn look_below(folder: &Path, look: &mut impl FnMut(&Path, &[u8]) -> u64) -> u64 {
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        found += if path.is_dir() { look_below(&path, look) } else { look(&path, &std::fs::read(&path).unwrap()) };
    }
    found
}

/// A leak in each place is found, by the very searches of the tests above.
#[tokio::test(flavor = "multi_thread")]
async fn a_planted_leak_is_found_in_each_place() {
    log();
    let forges: Vec<Forge> = (0..PARTNERS).map(|at| Forge::new(&partner(at))).collect();
    let world = World::new(forges, 7).await;
    let everything = Rule {
        feed: None,
        parts: Parts::All,
        lots: None,
        show: None,
        with: With::Partner(0),
        kinds: None,
        only: None,
        from: None,
        until: None,
        delay_hours: None,
        is_never: false,
    };
    let of = |rules: Vec<Rule>| Rules { groups: vec![BTreeSet::from([0]); 2], list: BTreeSet::from([0]), list_ended: false, rules };
    // What is in force shows more than what the search is told is allowed.
    let (leaky, told) = (of(vec![everything.clone()]), of(vec![Rule { show: Some(vec!["identity".into()]), ..everything }]));
    let caught = |result: Result<(), tokio::task::JoinError>, place: &str| {
        let panic = result.expect_err(place).into_panic();
        let why = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(why.contains(place), "{place}: {why}");
    };
    world.apply(&leaky).await;
    let lots = "L-0-1";
    let output = world.node.folder.path().join("out");
    let bundle =
        json!({ "Bundle": { "lot": lots, "part": null, "from": null, "partner": "p0", "full": null, "yes": false, "output": output } });
    let carry = json!({ "Carry": { "to": "p0", "feed": "quality", "from": 0, "output": output } });
    let mut leaks: Vec<(&str, Vec<u8>)> = Vec::new();
    for (verb, place) in [(bundle, "a bundle"), (carry, "a carried file")] {
        world.node.verb(verb).await.unwrap_or_else(|failure| panic!("{failure}"));
        leaks.push((place, std::fs::read(&output).unwrap()));
    }
    let (near, far) = tokio::io::duplex(64 * 1024);
    let context = links::Context {
        net: world.node.net.clone(),
        handle: world.node.service.handle.clone(),
        board: world.node.board.clone(),
        pairings: None,
        capture: None,
    };
    let serving = tokio::spawn(links::serve(context, world.node.service.handle.snapshot().book["p0"].clone(), near));
    let mut wire = Wire::new(far);
    let open =
        Message::Open { origin: world.node.own("quality").to_string(), next: 0, root: empty_root(), view: None, credit: CREDIT_BYTES };
    wire.send(&open).await;
    wire.take_all(&world.forges[0]).await;
    leaks.push(("the stream", wire.read.clone()));
    serving.abort();
    let canary = world.search.needles.iter().find(|needle| needle.what.starts_with("machine (text)")).unwrap().bytes.clone();
    let word = String::from_utf8(canary).unwrap();
    leaks.push(("an error", format!("cannot open `{word}`").into_bytes()));
    let world = std::sync::Arc::new(world);
    for (place, bytes) in leaks {
        let (world, told) = (world.clone(), told.clone());
        let searching = tokio::spawn(async move {
            world.check(&bytes, 0, &[&told], place);
        });
        caught(searching.await, place);
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("deep")).unwrap();
    std::fs::write(folder.path().join("deep").join(&word), "").unwrap();
    for place in ["in names of files", "in the log"] {
        if place == "in the log" {
            tracing::info!(machine = word, "planted");
        }
        let (world, folder) = (world.clone(), folder.path().to_owned());
        caught(tokio::spawn(async move { world.check_log_and_names(&[&folder], &mut Searched::default()) }).await, place);
    }
}
