//! A seeded simulator of one followed feed: the real sessions, the real rules and the real verification, between two
//! sides whose disk, network and clock are here.
//!
//! The sides do for the sessions what `links` does, step by step, and between any two steps the dice may cut the line,
//! restart a side, publish, change the rules or let time pass. What must hold at every step is asserted at every step;
//! the rules are evaluated a second time by [`Rules::mask`], which knows nothing of `policy`.
//!
//! A line delivers in order or is cut: a stream does not reorder. What the transport holds when a line is cut may have
//! arrived or not; here it has not, and what had arrived was a step before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use lotline_node::exchange::receive::{self, Cursor, Receiver};
use lotline_node::exchange::send::{self, Sender, Standing};
use lotline_node::exchange::waiting::Waiting;
use lotline_node::exchange::{CREDIT_BYTES, Code, Message};
use lotline_node::feeds::{Backfill, Feed, Head, Item, Received, accept};
use lotline_policy::{Cleared, Item as Cleanable, Policy, Viewer};
use lotline_schema::kind::BENCHMARK;
use lotline_schema::org::Org;
use lotline_schema::tree::{Frontier, Tree};
use lotline_schema::view::SealedView;
use lotline_schema::{Facts, Hash, Record, codec};

use crate::forge::{Forge, Line};
use crate::world::Dice;

const FEED: &str = "quality";
const PARTNER: &str = "oem";
const PARTS: [&str; 2] = ["P-1", "P-2"];
/// Entries of the feed, the first among them.
const ENTRIES: u64 = 40;
/// 2026-11-23 00:00 UTC, when every simulation begins.
const START: u64 = 1_795_392_000;
const DAY: u64 = 86_400;
const HOUR: u64 = 3_600;

/// When an entry says it was signed: one each three hours, the last some days before the simulation begins.
fn recorded(seq: u64) -> u64 {
    START - (ENTRIES - seq) * 3 * HOUR
}
/// Fields the rules speak of, with their slots: the first letters of the benchmark kind after lot and part.
const FIELDS: [(&str, u8); 6] = [("lot", 0), ("part", 1), ("c", 2), ("d", 3), ("e", 4), ("f", 5)];
/// A simulation that needs more steps than this to come to rest never will.
const STEPS_MAX: usize = 20_000;

/// The feed that every simulation sends, sealed once: sealing costs more than everything else.
struct Sealed {
    org: Arc<Org>,
    line: Line,
    tree: Tree,
    facts: Vec<Facts>,
    checkpoints: Vec<String>,
}

fn sealed() -> &'static Sealed {
    static SEALED: OnceLock<Sealed> = OnceLock::new();
    SEALED.get_or_init(|| {
        let mut forge = Forge::new("maker");
        let mut line = forge.open(FEED);
        let mut facts = vec![Facts::default()];
        for at in 1..ENTRIES {
            let values = (0..BENCHMARK.fields.len() as u64).map(|slot| match slot {
                1 => codec::text(PARTS[at as usize % PARTS.len()]),
                _ => codec::text(format!("{slot} of {at}")),
            });
            let record = Record::benchmark(values.collect());
            facts.push(Facts { recorded_at: Some(lotline_node::service::time_text(recorded(at))), ..record.facts() });
            line.publish(&forge, &record);
        }
        let checkpoints = (0..=ENTRIES).map(|size| line.checkpoint(size).sign(&forge.keys.log)).collect();
        let tree = line.tree();
        Sealed { org: Arc::new(forge.org.clone()), line, tree, facts, checkpoints }
    })
}

/// A share in plain data, for the second evaluation.
#[derive(Clone, Debug)]
struct Share {
    slots: u64,
    part: Option<&'static str>,
    from_day: Option<u64>,
    until_day: Option<u64>,
    delay_hours: Option<u64>,
}

/// Rules in plain data. What they show is worked out here without asking `policy`.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    shares: Vec<Share>,
    never: u64,
    stopped: bool,
}

impl Rules {
    fn throw(dice: &mut Dice) -> Rules {
        let slots = |dice: &mut Dice| FIELDS.iter().filter(|_| dice.below(2) == 0).fold(0, |mask, (_, slot)| mask | 1 << slot);
        let share = |dice: &mut Dice| Share {
            slots: slots(dice) | 1 << FIELDS[dice.below(FIELDS.len() as u64) as usize].1,
            part: [None, Some(PARTS[0]), Some(PARTS[1])][dice.below(3) as usize],
            from_day: (dice.below(3) == 0).then(|| dice.below(5)),
            until_day: (dice.below(3) == 0).then(|| 5 + dice.below(5)),
            delay_hours: (dice.below(2) == 0).then(|| 1 + dice.below(168)),
        };
        let shares = (0..dice.below(4)).map(|_| share(dice)).collect();
        let never = if dice.below(3) == 0 { slots(dice) } else { 0 };
        Rules { shares, never, stopped: false }
    }

    /// Rules that show something of everything, whatever the date.
    fn open(dice: &mut Dice) -> Rules {
        let Rules { mut shares, .. } = Rules::throw(dice);
        let slots = 1 << FIELDS[dice.below(FIELDS.len() as u64) as usize].1;
        shares.push(Share { slots, part: None, from_day: None, until_day: None, delay_hours: None });
        Rules { shares, never: 0, stopped: false }
    }

    /// The slots of a record that the partner may see.
    pub fn mask(&self, seq: u64, now: u64) -> u64 {
        let facts = &sealed().facts[seq as usize];
        let holds = |share: &&Share| {
            let begun = share.from_day.is_none_or(|day| START + day * DAY <= now);
            let ended = share.until_day.is_some_and(|day| START + day * DAY <= now);
            let held_back = share.delay_hours.is_some_and(|hours| now < recorded(seq) + hours * HOUR);
            begun && !ended && !held_back && share.part.is_none_or(|part| facts.part.as_deref() == Some(part))
        };
        let open = self.shares.iter().filter(holds).fold(0, |mask, share| mask | share.slots);
        if self.stopped { 0 } else { open & !self.never }
    }

    fn names(slots: u64) -> String {
        let names: Vec<&str> = FIELDS.iter().filter(|(_, slot)| slots >> slot & 1 == 1).map(|(name, _)| *name).collect();
        format!("{names:?}")
    }

    fn to_policy(&self, version: u64) -> Policy {
        let date = |key: &str, day: Option<u64>| {
            day.map(|day| {
                format!(
                    "{key} = {}\n",
                    [
                        "2026-11-23",
                        "2026-11-24",
                        "2026-11-25",
                        "2026-11-26",
                        "2026-11-27",
                        "2026-11-28",
                        "2026-11-29",
                        "2026-11-30",
                        "2026-12-01",
                        "2026-12-02"
                    ][day as usize]
                )
            })
        };
        let mut text = String::new();
        for (at, share) in self.shares.iter().enumerate() {
            let parts = share.part.map_or("'all'".to_owned(), |part| format!("['{part}']"));
            let until = date("until", share.until_day).unwrap_or_else(|| "until = 'revoked'\n".into());
            let from = date("from", share.from_day).unwrap_or_default();
            let delay = share.delay_hours.map_or(String::new(), |hours| format!("delay = '{hours}h'\n"));
            text += &format!(
                "[[share]]\nname = 's{at}'\nwith = '{PARTNER}'\nfeed = '{FEED}'\nparts = {parts}\nshow = {}\n{from}{until}{delay}",
                Rules::names(share.slots)
            );
        }
        if self.never != 0 {
            text += &format!("[[never]]\nname = 'n'\nwith = '{PARTNER}'\nshow = {}\n", Rules::names(self.never));
        }
        let policy = Policy::restore(&text).unwrap_or_else(|slips| panic!("{slips}\n{text}")).with_version(version);
        if self.stopped { policy.stop(Some(PARTNER)) } else { policy }
    }
}

/// What became of something the owner meant to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Open,
    Acknowledged,
    Cut,
    NotSent,
}

/// A row of the owner's ledger.
struct Row {
    /// When its entries were read.
    at: u64,
    backfilled: bool,
    items: Vec<(u64, u64)>,
    outcome: Outcome,
}

/// The owner: what is on its disk, and one stream when there is one.
struct Owner {
    size: u64,
    rules: Rules,
    policy: Policy,
    ledger: Vec<Row>,
    serving: Option<Serving>,
}

/// One stream on the owner's side: what `links::serve` holds.
struct Serving {
    sender: Sender,
    outputs: VecDeque<send::Output>,
    job: Option<Job>,
    /// What a delay holds back.
    waiting: Waiting,
    /// Size of the head that a catch-up works towards.
    pinned: u64,
    unacknowledged: VecDeque<usize>,
    /// The view the session last heard of, and whether something changed since.
    told: Option<Hash>,
    changed: bool,
    /// The session has heard that nothing is shared any more.
    revoked: bool,
}

/// A batch on its way out.
struct Job {
    message: Message,
    bytes: u64,
    items: Vec<(u64, u64)>,
    next: u64,
    backfilled: bool,
    /// When its entries were read.
    at: u64,
    /// The view at the moment of reading.
    view: Hash,
    /// What the rules showed of each item at that moment.
    allowed: Vec<(u64, u64)>,
    row: Option<usize>,
    chunks_left: u64,
}

/// The follower: what is on its disk, and one stream when there is one.
struct Follower {
    head: Arc<Head>,
    view: Option<Hash>,
    /// Open slots of each entry.
    slots: Vec<u64>,
    leaves: Vec<Hash>,
    running: Option<Running>,
    ended: Option<Code>,
}

struct Running {
    receiver: Receiver,
    outputs: VecDeque<receive::Output>,
    view: Option<Hash>,
}

/// The line between them; both directions keep their order.
#[derive(Default)]
struct Wire {
    to_follower: VecDeque<(Message, u64)>,
    to_owner: VecDeque<Message>,
}

/// How often what happened: a simulation in which nothing was cut proves nothing.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Tally {
    pub batches: u64,
    pub backfills: u64,
    pub cuts: u64,
    pub restarts: u64,
    pub rules: u64,
    pub dates: u64,
    pub stale: u64,
    pub cut_while_writing: u64,
    pub revoked: u64,
    pub refused_opens: u64,
    pub delays: u64,
}

impl std::ops::Add for Tally {
    type Output = Tally;

    fn add(self, more: Tally) -> Tally {
        Tally {
            batches: self.batches + more.batches,
            backfills: self.backfills + more.backfills,
            cuts: self.cuts + more.cuts,
            restarts: self.restarts + more.restarts,
            rules: self.rules + more.rules,
            dates: self.dates + more.dates,
            stale: self.stale + more.stale,
            cut_while_writing: self.cut_while_writing + more.cut_while_writing,
            revoked: self.revoked + more.revoked,
            refused_opens: self.refused_opens + more.refused_opens,
            delays: self.delays + more.delays,
        }
    }
}

/// One simulation.
pub struct Sim {
    dice: Dice,
    now_ms: u64,
    version: u64,
    owner: Owner,
    follower: Follower,
    wire: Option<Wire>,
    /// How much larger frames are taken to be than they are, so that credit matters.
    weight: u64,
    /// Whether the dice may still do harm.
    stormy: bool,
    /// Entries that came again although nothing of them was new.
    repeated: u64,
    /// What happened so far.
    pub tally: Tally,
}

/// One change of what a partner may see.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Edit {
    Widened,
    BanLifted,
    DelayOver,
    Begun,
    StoppedAndResumed,
    Narrowed,
    Banned,
    Ended,
}

impl Edit {
    /// Every one.
    pub const ALL: [Edit; 8] =
        [Edit::Widened, Edit::BanLifted, Edit::DelayOver, Edit::Begun, Edit::StoppedAndResumed, Edit::Narrowed, Edit::Banned, Edit::Ended];

    /// Whether it takes something back.
    pub fn narrows(self) -> bool {
        matches!(self, Edit::Narrowed | Edit::Banned | Edit::Ended)
    }
}

/// What befell the two sides around one edit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edited {
    /// The edit.
    pub edit: Edit,
    /// Lines cut, owners and followers restarted.
    pub mishaps: [u64; 3],
    /// Entries that came again although nothing of them was new.
    pub repeated: u64,
}

impl Sim {
    /// Two sides that know each other's keys, and nothing sent yet.
    pub fn new(seed: u64) -> Sim {
        let mut dice = Dice(seed);
        let rules = Rules::open(&mut dice);
        let owner = Owner { size: 1 + dice.below(ENTRIES / 2), policy: rules.to_policy(1), rules, ledger: Vec::new(), serving: None };
        let follower = Follower { head: Arc::default(), view: None, slots: Vec::new(), leaves: Vec::new(), running: None, ended: None };
        let weight = [1, 20, 200][dice.below(3) as usize];
        Sim {
            dice,
            now_ms: START * 1000,
            version: 1,
            owner,
            follower,
            wire: None,
            weight,
            stormy: true,
            repeated: 0,
            tally: Tally::default(),
        }
    }

    /// One edit at any moment of an exchange, with cuts and restarts before, at and after it; then both sides come to rest, and what
    /// the follower has is exactly what the rules show. Of what was taken back it may have what had left before.
    pub fn edit(seed: u64) -> Edited {
        let mut sim = Sim::new(seed);
        let edit = Edit::ALL[sim.dice.below(8) as usize];
        let some = |dice: &mut Dice| (0..2).fold(0, |mask, _| mask | 1 << FIELDS[dice.below(FIELDS.len() as u64) as usize].1);
        let (always, other) = (some(&mut sim.dice), some(&mut sim.dice));
        let share = |slots| Share { slots, part: None, from_day: None, until_day: None, delay_hours: None };
        let (narrow, wide) = (vec![share(always)], vec![share(always), share(other)]);
        let rules = |shares: &[Share], never| Rules { shares: shares.to_vec(), never, stopped: false };
        let day = 1 + sim.dice.below(4);
        let (before, after) = match edit {
            Edit::Widened => (rules(&narrow, 0), rules(&wide, 0)),
            Edit::Narrowed => (rules(&wide, 0), rules(&narrow, 0)),
            Edit::BanLifted => (rules(&wide, other & !always), rules(&wide, 0)),
            Edit::Banned => (rules(&wide, 0), rules(&wide, other & !always)),
            Edit::StoppedAndResumed => (rules(&wide, 0), rules(&wide, 0)),
            Edit::DelayOver | Edit::Begun | Edit::Ended => {
                let mut timed = wide.clone();
                match edit {
                    Edit::DelayOver => timed[1].delay_hours = Some(1 + sim.dice.below(168)),
                    Edit::Begun => timed[1].from_day = Some(day),
                    _ => timed[1].until_day = Some(day),
                }
                (rules(&timed, 0), rules(&timed, 0))
            }
        };
        sim.apply(before.clone());
        let (mut mishaps, mut shown, mut size) = ([0; 3], Vec::new(), 0);
        for moment in 0..3 {
            for _ in 0..sim.dice.below(60) {
                sim.now_ms += sim.dice.below(40);
                if sim.dice.below(20) == 0 {
                    sim.publish();
                }
                sim.work();
                sim.check();
            }
            let mishap = sim.dice.below(5) as usize;
            match mishap {
                0 => sim.cut(),
                1 => sim.restart_owner(),
                2 => sim.restart_follower(),
                _ => {}
            }
            mishaps.iter_mut().skip(mishap).take(1).for_each(|count| *count += 1);
            if moment == 1 {
                (shown, size) = ((0..ENTRIES).map(|seq| if seq == 0 { 0 } else { before.mask(seq, sim.now()) }).collect(), sim.owner.size);
                match edit {
                    Edit::StoppedAndResumed => {
                        sim.owner.policy = sim.owner.policy.stop(Some(PARTNER));
                        sim.owner.rules.stopped = true;
                        sim.changed();
                    }
                    Edit::Begun | Edit::Ended => sim.now_ms = sim.now_ms.max((START + day * DAY) * 1000),
                    Edit::DelayOver => sim.pass_a_delay(),
                    _ => sim.apply(after.clone()),
                }
            }
        }
        sim.stormy = false;
        if edit == Edit::StoppedAndResumed {
            sim.apply(after.clone());
        }
        sim.run_until_quiet();
        sim.publish();
        sim.run_until_quiet();
        // Every delay runs out, some together.
        while edit == Edit::DelayOver && sim.now() < START + 8 * DAY {
            sim.now_ms += sim.dice.below(12) * HOUR * 1000;
            sim.run_until_quiet();
        }
        sim.assert_converged();
        for seq in 1..sim.owner.size {
            let (wanted, has) = (sim.owner.rules.mask(seq, sim.now()), sim.follower.slots[seq as usize]);
            let facts = &sealed().facts[seq as usize];
            let decided = lotline_policy::shown(&sim.owner.policy, &Viewer::new(PARTNER), FEED, &BENCHMARK, facts, sim.now() as i64).mask;
            assert_eq!(wanted, decided, "entry {seq}: the two evaluations differ");
            let left = if edit.narrows() && seq < size { shown[seq as usize] } else { 0 };
            assert_eq!(has & !wanted & !left, 0, "entry {seq} after {edit:?}: shown {wanted:#b}, arrived {has:#b}");
        }
        // A change cuts what is being written, too.
        if sim.tally.cuts + sim.tally.restarts + sim.tally.revoked == 0 {
            assert_eq!(sim.repeated, 0, "while the line holds nothing comes twice");
        }
        Edited { edit, mishaps, repeated: sim.repeated }
    }

    /// Some hundred steps of whatever the dice say.
    pub fn storm(&mut self) {
        for _ in 0..200 + self.dice.below(200) {
            self.now_ms += self.dice.below(40);
            match self.dice.below(100) {
                0..4 => self.publish(),
                4..10 => self.change_rules(),
                10..12 => self.pass_a_date(),
                12..15 => self.cut(),
                15 => self.restart_owner(),
                16 => self.restart_follower(),
                17..20 => self.pass_a_delay(),
                _ => drop(self.work()),
            }
            self.check();
        }
    }

    /// The line holds from now on; then both sides come to rest.
    pub fn heal(&mut self) {
        self.stormy = false;
        // Rules that show something stay as they are: another version would have everything looked at again, and hide
        // what was lost before.
        if self.standing(None).is_none() {
            let rules = Rules::open(&mut self.dice);
            self.apply(rules);
        }
        self.run_until_quiet();
        self.publish();
        self.run_until_quiet();
        // What a delay holds back comes by itself, one after the other.
        for _ in 0..5 {
            self.pass_a_delay();
            self.run_until_quiet();
        }
        if self.standing(None).is_none() {
            let rules = Rules::open(&mut self.dice);
            self.apply(rules);
            self.run_until_quiet();
        }
    }

    fn run_until_quiet(&mut self) {
        for _ in 0..STEPS_MAX {
            self.now_ms += self.dice.below(40);
            if !self.work() {
                return;
            }
            self.check();
        }
        panic!("no rest after {STEPS_MAX} steps");
    }

    /// Both sides agree: one head, and every slot that the rules show is open.
    pub fn assert_converged(&self) {
        assert_eq!(self.follower.head.frontier.size(), self.owner.size, "the follower is behind, ended by {:?}", self.follower.ended);
        for seq in 1..self.owner.size {
            let (wanted, has) = (self.owner.rules.mask(seq, self.now()), self.follower.slots[seq as usize]);
            assert_eq!(wanted & !has, 0, "entry {seq}: shown {wanted:#b}, arrived {has:#b}");
        }
        let serving = self.owner.serving.as_ref().expect("the stream is open");
        assert!(serving.unacknowledged.is_empty(), "everything sent was acknowledged");
        // With everything acknowledged, the cursor's view is the one in force: opening again asks for no backfill.
        assert_eq!(self.follower.view, Some(self.view()), "the follower knows under which view it stands");
    }

    fn now(&self) -> u64 {
        self.now_ms / 1000
    }

    // ---- What befalls them ----

    fn publish(&mut self) {
        self.owner.size = (self.owner.size + 1 + self.dice.below(6)).min(ENTRIES);
        self.changed();
    }

    fn apply(&mut self, rules: Rules) {
        self.version += 1;
        self.owner.policy = rules.to_policy(self.version);
        self.owner.rules = rules;
        self.tally.rules += 1;
        self.changed();
    }

    fn change_rules(&mut self) {
        let mut rules = self.owner.rules.clone();
        match self.dice.below(6) {
            // Cut off without a new version, as `share stop` does.
            0 => {
                rules.stopped = true;
                self.owner.policy = self.owner.policy.stop(Some(PARTNER));
                self.owner.rules = rules;
                self.tally.rules += 1;
                return self.changed();
            }
            1 => rules.never |= 1 << FIELDS[self.dice.below(FIELDS.len() as u64) as usize].1,
            2 => rules.never = 0,
            3 => rules = Rules::default(),
            4 => rules = Rules::open(&mut self.dice),
            _ => rules = Rules::throw(&mut self.dice),
        }
        rules.stopped = false;
        self.apply(rules);
    }

    /// Time alone changes what is shown: a day begins while messages are under way.
    fn pass_a_date(&mut self) {
        let midnight = (self.now() / DAY + 1) * DAY;
        self.now_ms = midnight * 1000 - self.dice.below(3);
        self.tally.dates += 1;
    }

    /// Time alone opens an entry, while messages are under way or nobody is connected.
    fn pass_a_delay(&mut self) {
        let delays = self.owner.rules.shares.iter().filter_map(|share| share.delay_hours);
        let moments = delays.flat_map(|hours| (1..ENTRIES).map(move |seq| recorded(seq) + hours * HOUR));
        if let Some(moment) = moments.filter(|moment| self.now() < *moment).min() {
            self.now_ms = (moment * 1000 - self.dice.below(3)).max(self.now_ms);
            self.tally.delays += 1;
        }
    }

    /// The entries before the cursor that a delay may have opened since the last batch, or holds back still.
    fn delayed_before(&self, next: u64) -> Option<std::ops::Range<u64>> {
        let longest = self.owner.policy.longest_delay(PARTNER, FEED)? as u64;
        let last = next.checked_sub(1)?;
        let rows = self.owner.ledger.iter().filter(|row| !row.backfilled && row.items.iter().any(|(seq, _)| *seq == last));
        let at = rows.map(|row| row.at).min()?;
        let from = (0..next).find(|seq| at < recorded(*seq) + longest).unwrap_or(next);
        (from < next).then_some(from..next)
    }

    fn changed(&mut self) {
        if let Some(serving) = &mut self.owner.serving {
            serving.changed = true;
        }
    }

    /// The line breaks: what is under way is lost, and both sides notice.
    fn cut(&mut self) {
        if self.wire.take().is_some() {
            self.tally.cuts += 1;
        }
        self.end_serving();
        self.follower.running = None;
    }

    /// The stream ends on the owner's side: rows without an outcome keep having none.
    fn end_serving(&mut self) {
        if let Some(job) = self.owner.serving.take().and_then(|serving| serving.job)
            && let Some(row) = job.row
        {
            self.owner.ledger[row].outcome = Outcome::Cut;
        }
    }

    fn restart_owner(&mut self) {
        // A crash: not even the cut is written down.
        self.owner.serving = None;
        self.wire = None;
        self.follower.running = None;
        self.tally.restarts += 1;
    }

    fn restart_follower(&mut self) {
        self.follower.running = None;
        self.wire = None;
        self.end_serving();
        self.tally.restarts += 1;
    }

    // ---- What they do ----

    /// One step of one side, chosen by the dice; false when there is nothing to do.
    fn work(&mut self) -> bool {
        let first = self.dice.below(4);
        (0..4).any(|at| match (first + at) % 4 {
            0 => self.owner_works(),
            1 => self.follower_works(),
            2 => self.owner_hears(),
            _ => self.follower_hears(),
        })
    }

    /// The view now, as the owner's side computes it.
    fn view(&self) -> Hash {
        let origin = &sealed().line.origin;
        lotline_policy::view_id(&self.owner.policy, &Viewer::new(PARTNER), origin, self.now() as i64)
    }

    fn standing(&self, cursor: Option<u64>) -> Option<Standing> {
        let offered = self.owner.policy.feeds_for(&Viewer::new(PARTNER), &[FEED.to_owned()], self.now() as i64);
        let root_at_cursor = cursor.filter(|next| *next <= self.owner.size).map(|next| sealed().tree.root(next));
        (!offered.is_empty()).then(|| Standing {
            size: self.owner.size,
            view: self.view(),
            org_size: sealed().org.size(),
            owed: false,
            delayed: cursor.and_then(|next| self.delayed_before(next)),
            term: String::new(),
            root_at_cursor,
        })
    }

    fn look(&mut self) -> Vec<send::Output> {
        let standing = self.standing(None);
        let revoked = standing.is_none();
        let told = self.view();
        let serving = self.owner.serving.as_mut().expect("looked at while serving");
        serving.changed = false;
        serving.told = Some(told);
        let outputs = serving.sender.handle(send::Input::Standing(standing));
        if revoked && !serving.revoked {
            serving.revoked = true;
            let ends = |output: &send::Output| matches!(output, send::Output::Send(Message::Error(Code::Revoked)) | send::Output::Close);
            assert!(outputs.iter().all(ends), "after a revoke the session only ends: {outputs:?}");
            self.tally.revoked += 1;
        }
        outputs
    }

    /// The next output of the owner's session, or the next step of a batch on its way out.
    fn owner_works(&mut self) -> bool {
        let Some(serving) = &mut self.owner.serving else {
            return false;
        };
        if serving.job.is_some() {
            self.write_on();
            return true;
        }
        let Some(output) = serving.outputs.pop_front() else {
            // At rest: changes are heard of, and dates that passed.
            let due = serving.waiting.due((self.now_ms / 1000) as i64);
            if !due.is_empty() {
                let outputs = serving.sender.handle(send::Input::Due(due));
                serving.outputs.extend(outputs);
                return true;
            }
            let stale = serving.changed || serving.told.is_some_and(|told| told != self.view());
            if stale {
                let outputs = self.look();
                self.owner.serving.as_mut().expect("still serving").outputs.extend(outputs);
            }
            return stale;
        };
        match output {
            send::Output::Authorise { origin, next } => {
                assert_eq!(origin, sealed().line.origin.to_string());
                let (standing, told, size) = (self.standing(Some(next)), self.view(), self.owner.size);
                let serving = self.owner.serving.as_mut().expect("serving");
                (serving.told, serving.pinned) = (Some(told), size);
                let outputs = serving.sender.handle(send::Input::Standing(standing));
                serving.outputs.extend(outputs);
            }
            send::Output::Load { from } => self.load(from),
            send::Output::LoadBackfill { from, before } => self.load_backfill(from, before),
            send::Output::Acknowledged { next, .. } => self.acknowledged(next),
            send::Output::Cosigned(_) | send::Output::Receipts(_) => {}
            send::Output::Send(Message::Batch(_) | Message::Backfill(_)) => {}
            send::Output::Send(message) => {
                assert!(!serving.revoked || matches!(message, Message::Error(_)), "{message:?} after a revoke");
                self.hand_over(message);
            }
            send::Output::Close => {
                // What was sent before still arrives.
                self.end_serving();
            }
        }
        true
    }

    fn hand_over(&mut self, message: Message) {
        let bytes = message.to_frame().len() as u64 * self.weight;
        if let Some(wire) = &mut self.wire {
            wire.to_follower.push_back((message, bytes));
        }
    }

    fn cleared(&self, seq: u64) -> Cleared {
        let Sealed { line, facts, .. } = sealed();
        let (entry, origin) = (&line.entries[seq as usize], line.origin.to_string());
        let item = Cleanable {
            feed: FEED,
            origin: &origin,
            seq,
            leaf: entry.leaf,
            core: &entry.core,
            disclosures: &entry.disclosures,
            schema: (seq > 0).then_some(&BENCHMARK),
            facts: &facts[seq as usize],
        };
        match seq {
            0 => Cleared::own_feed_entry(PARTNER, &item).expect("a feed's first entry"),
            _ => lotline_policy::clear(&self.owner.policy, &Viewer::new(PARTNER), &item, self.now() as i64),
        }
    }

    fn load(&mut self, from: u64) {
        let view = self.view();
        let (page, moment) = (1 + self.dice.below(6), self.now() as i64);
        let waiting = &mut self.owner.serving.as_mut().expect("loading while serving");
        let due = waiting.waiting.due(moment);
        if !due.is_empty() {
            let mut outputs = waiting.sender.handle(send::Input::Due(due));
            outputs.extend(waiting.sender.handle(send::Input::Stale));
            return waiting.outputs.extend(outputs);
        }
        let (size, now) = (self.owner.size, self.now());
        let serving = self.owner.serving.as_mut().expect("loading while serving");
        if serving.pinned <= from {
            serving.pinned = size;
        }
        let pinned = serving.pinned;
        let to = pinned.min(from + page);
        let cleared: Vec<Cleared> = (from..to).map(|seq| self.cleared(seq)).collect();
        self.hold_back(&cleared);
        let items = cleared.iter().map(|cleared| (cleared.seq(), cleared.mask())).collect();
        let item = |cleared: Cleared| {
            let leaf = cleared.leaf();
            cleared.into_view().map_or(Item::Hidden(leaf), Item::View)
        };
        let tail = if to == pinned { Vec::new() } else { sealed().tree.consistency(to, pinned).expect("a proof for our own feed") };
        let batch = Received {
            from,
            items: cleared.into_iter().map(item).collect(),
            checkpoint: sealed().checkpoints[pinned as usize].clone(),
            tail,
            policy: Some(1),
            under: Vec::new(),
        };
        let allowed = (from..to).map(|seq| (seq, if seq == 0 { 0 } else { self.owner.rules.mask(seq, now) })).collect();
        self.set_job(Message::Batch(batch), items, to, false, view, allowed);
        self.tally.batches += 1;
    }

    fn load_backfill(&mut self, from: u64, before: u64) {
        let view = self.view();
        let now = self.now();
        // What need not go again: acknowledged, or under way on this stream.
        let serving = self.owner.serving.as_ref().expect("loading while serving");
        let known = |at: usize, row: &Row| row.outcome == Outcome::Acknowledged || serving.unacknowledged.contains(&at);
        let mut sent: BTreeMap<u64, u64> = BTreeMap::new();
        for (_, row) in self.owner.ledger.iter().enumerate().filter(|(at, row)| known(*at, row)) {
            for (seq, mask) in &row.items {
                *sent.entry(*seq).or_default() |= mask;
            }
        }
        let fresh = |cleared: &Cleared| cleared.mask() & !sent.get(&cleared.seq()).copied().unwrap_or(0) != 0;
        let max = 1 + self.dice.below(6) as usize;
        let (mut page, mut at) = (Vec::new(), from);
        while at < before && page.len() < max {
            let cleared = self.cleared(at);
            self.hold_back(std::slice::from_ref(&cleared));
            page.extend(Some(cleared).filter(fresh));
            at += 1;
        }
        if page.is_empty() {
            let serving = self.owner.serving.as_mut().expect("serving");
            let outputs = serving.sender.handle(send::Input::Nothing);
            return serving.outputs.extend(outputs);
        }
        let items = page.iter().map(|cleared| (cleared.seq(), cleared.mask())).collect();
        let allowed = page.iter().map(|cleared| (cleared.seq(), self.owner.rules.mask(cleared.seq(), now))).collect();
        let views = page.into_iter().filter_map(|cleared| Some((cleared.seq(), cleared.into_view()?))).collect();
        self.set_job(Message::Backfill(Backfill { items: views, policy: Some(1), under: Vec::new() }), items, at, true, view, allowed);
        self.tally.backfills += 1;
    }

    fn hold_back(&mut self, cleared: &[Cleared]) {
        let waiting = &mut self.owner.serving.as_mut().expect("loading while serving").waiting;
        cleared.iter().filter_map(|cleared| Some((cleared.seq(), cleared.opens_at()?))).for_each(|(seq, at)| waiting.add(seq, at));
    }

    fn set_job(&mut self, message: Message, items: Vec<(u64, u64)>, next: u64, backfilled: bool, view: Hash, allowed: Vec<(u64, u64)>) {
        let bytes = message.to_frame().len() as u64 * self.weight;
        let (chunks_left, at) = (1 + self.dice.below(4), self.now());
        let serving = self.owner.serving.as_mut().expect("loading while serving");
        serving.job = Some(Job { message, bytes, items, next, backfilled, at, view, allowed, row: None, chunks_left });
    }

    /// One more step of a batch: its intent, then chunk after chunk, the rules looked at before each.
    fn write_on(&mut self) {
        let still = self.standing(None).map(|standing| standing.view);
        let now = self.now();
        let serving = self.owner.serving.as_mut().expect("writing while serving");
        let job = serving.job.as_mut().expect("a job is under way");
        let Some(row) = job.row else {
            self.owner.ledger.push(Row { at: job.at, backfilled: job.backfilled, items: job.items.clone(), outcome: Outcome::Open });
            let row = self.owner.ledger.len() - 1;
            job.row = Some(row);
            if still != Some(job.view) {
                self.owner.ledger[row].outcome = Outcome::NotSent;
                serving.job = None;
                self.tally.stale += 1;
                let mut outputs = self.look();
                let serving = self.owner.serving.as_mut().expect("serving");
                outputs.extend(serving.sender.handle(send::Input::Stale));
                serving.outputs.extend(outputs);
            }
            return;
        };
        if still != Some(job.view) {
            self.tally.cut_while_writing += 1;
            return self.cut();
        }
        // No chunk leaves later than a narrowing: what it holds is shown by the rules of this very moment.
        for (seq, mask) in &job.items {
            let shown = if *seq == 0 { 0 } else { self.owner.rules.mask(*seq, now) };
            assert_eq!(mask & !shown, 0, "entry {seq} leaves with {mask:#b} when the rules show {shown:#b}");
        }
        job.chunks_left -= 1;
        if job.chunks_left > 0 {
            return;
        }
        let Job { message, bytes, items, next, backfilled, allowed, .. } = serving.job.take().expect("just written");
        check_disclosed(&message, &allowed);
        serving.unacknowledged.push_back(row);
        if backfilled {
            // Nothing goes twice: of each entry something is not acknowledged yet.
            let acknowledged = |wanted: u64| {
                let rows = self.owner.ledger.iter().filter(|row| row.outcome == Outcome::Acknowledged);
                rows.flat_map(|row| &row.items).filter(|(seq, _)| *seq == wanted).fold(0, |all, (_, mask)| all | mask)
            };
            assert!(items.iter().all(|(seq, mask)| mask & !acknowledged(*seq) != 0), "{items:?} go twice");
        }
        self.hand_over(message.clone());
        let serving = self.owner.serving.as_mut().expect("still serving");
        let outputs = serving.sender.handle(send::Input::Loaded { message, bytes, next, backfilled });
        serving.outputs.extend(outputs);
    }

    fn acknowledged(&mut self, next: u64) {
        let serving = self.owner.serving.as_mut().expect("acknowledged while serving");
        assert!(next <= self.owner.size && next <= self.follower.head.frontier.size(), "acknowledged {next}, which is not there");
        if let Some(row) = serving.unacknowledged.pop_front() {
            let row = &mut self.owner.ledger[row];
            row.outcome = Outcome::Acknowledged;
            for (seq, mask) in &row.items {
                let has = self.follower.slots[*seq as usize];
                assert_eq!(mask & !has, 0, "entry {seq}: {mask:#b} was acknowledged, {has:#b} is stored");
            }
        }
    }

    /// A message arrives at the owner, if it is at rest.
    fn owner_hears(&mut self) -> bool {
        let busy = self.owner.serving.as_ref().is_some_and(|serving| serving.job.is_some() || !serving.outputs.is_empty());
        let Some(wire) = self.wire.as_mut().filter(|_| !busy) else {
            return false;
        };
        let Some(message) = wire.to_owner.pop_front() else {
            return false;
        };
        if self.owner.serving.is_none() {
            // Over already: whatever comes is not read any more.
            if !matches!(message, Message::Open { .. }) {
                return true;
            }
            self.owner.serving = Some(Serving {
                sender: Sender::new(),
                outputs: VecDeque::new(),
                job: None,
                waiting: Waiting::default(),
                pinned: 0,
                unacknowledged: VecDeque::new(),
                told: None,
                changed: true,
                revoked: false,
            });
        }
        let serving = self.owner.serving.as_mut().expect("just begun");
        let outputs = serving.sender.handle(send::Input::Received(message));
        serving.outputs.extend(outputs);
        true
    }

    /// The next output of the follower's session; without one, it asks for the feed.
    fn follower_works(&mut self) -> bool {
        let Some(running) = &mut self.follower.running else {
            return self.ask();
        };
        let Some(output) = running.outputs.pop_front() else {
            return false;
        };
        match output {
            receive::Output::Send(message) => {
                if let Message::Error(code) = &message {
                    panic!("an honest sender was refused: {code:?}");
                }
                if let Some(wire) = &mut self.wire {
                    wire.to_owner.push_back(message);
                }
            }
            receive::Output::Begin { view, org_size, .. } => {
                assert_eq!(org_size, sealed().org.size());
                running.view = Some(view);
            }
            receive::Output::Verify(received) => self.store(received),
            receive::Output::Backfill(backfill) => self.store_backfill(backfill),
            receive::Output::View { view, .. } => {
                running.view = Some(view);
                if !self.follower.slots.is_empty() {
                    self.follower.view = Some(view);
                }
            }
            receive::Output::CaughtUp { size } => assert!(size <= ENTRIES),
            receive::Output::Ended(code) => {
                assert!(matches!(code, Code::Revoked | Code::NoSuchFeed), "ended by {code:?}");
                self.tally.refused_opens += u64::from(code == Code::NoSuchFeed);
                self.follower.ended = Some(code);
            }
            receive::Output::Close => {
                self.follower.running = None;
                self.wire = None;
            }
        }
        true
    }

    /// Opens a line and asks for the feed from the cursor on. In calm weather, only when the catalog offers it.
    fn ask(&mut self) -> bool {
        let offered = self.standing(None).is_some();
        if self.owner.serving.is_some() || !(offered || self.stormy && self.dice.below(8) == 0) {
            return false;
        }
        let (head, view) = (&self.follower.head, self.follower.view);
        let cursor = Cursor { next: head.frontier.size(), root: head.frontier.root(), view };
        let (receiver, open) = Receiver::start(&sealed().line.origin.to_string(), cursor);
        self.wire = Some(Wire::default());
        self.follower.running = Some(Running { receiver, outputs: VecDeque::from([open]), view });
        self.follower.ended = None;
        true
    }

    fn store(&mut self, received: Received) {
        let Sealed { org, line, .. } = sealed();
        let running = self.follower.running.as_mut().expect("verifying while running");
        let verified = accept::verify(org, &line.origin, &self.follower.head, received.clone());
        assert!(verified.is_ok(), "an honest batch was refused: {:?}", verified.err());
        let mut frontier: Frontier = self.follower.head.frontier.clone();
        for item in &received.items {
            let (leaf, slots) = match item {
                Item::Hidden(leaf) => (*leaf, 0),
                Item::View(view) => (lotline_schema::tree::leaf_hash(&view.core), slots_of(frontier.size(), view)),
            };
            frontier.push(leaf);
            self.follower.leaves.push(leaf);
            self.follower.slots.push(slots);
        }
        let next = frontier.size();
        self.follower.head = Arc::new(Head { frontier, checkpoint: received.checkpoint });
        self.follower.view = running.view.or(self.follower.view);
        let outputs = running.receiver.handle(receive::Input::Stored { next, receipt: None, cosigned: None });
        running.outputs.extend(outputs);
    }

    fn store_backfill(&mut self, backfill: Backfill) {
        let Sealed { org, line, .. } = sealed();
        let Follower { head, leaves, slots, running, .. } = &mut self.follower;
        let feed = Feed {
            id: 1,
            origin: line.origin.clone(),
            ours: false,
            written: false,
            level: None,
            head: head.clone(),
            frozen: None,
            view: None,
            witnessed: None,
        };
        let verified = accept::verify_backfill(org, &feed, backfill.clone(), |seq| leaves.get(seq as usize).copied());
        assert!(verified.is_ok(), "an honest backfill was refused: {:?}", verified.err());
        for (seq, view) in &backfill.items {
            let opened = slots_of(*seq, view);
            self.repeated += u64::from(opened & !slots[*seq as usize] == 0);
            slots[*seq as usize] |= opened;
        }
        let running = running.as_mut().expect("verifying while running");
        let outputs = running.receiver.handle(receive::Input::Opened { receipt: None });
        running.outputs.extend(outputs);
    }

    fn follower_hears(&mut self) -> bool {
        let Some(running) = self.follower.running.as_mut().filter(|running| running.outputs.is_empty()) else {
            return false;
        };
        let Some(wire) = &mut self.wire else {
            return false;
        };
        let Some((message, bytes)) = wire.to_follower.pop_front() else {
            // The owner ended the stream, and everything it sent was read.
            let over = self.owner.serving.is_none() && wire.to_owner.is_empty();
            if over {
                self.follower.running = None;
                self.wire = None;
            }
            return over;
        };
        let outputs = running.receiver.handle(receive::Input::Received(message, bytes));
        running.outputs.extend(outputs);
        true
    }

    // ---- What must hold at every step ----

    fn check(&self) {
        let (size, frontier) = (self.follower.slots.len() as u64, &self.follower.head.frontier);
        assert_eq!(frontier.size(), size);
        assert!(size <= self.owner.size, "the follower has {size} entries of {}", self.owner.size);
        assert_eq!(frontier.root(), sealed().tree.root(size), "the follower's past is not the owner's");
        let in_flight: u64 = self.wire.iter().flat_map(|wire| &wire.to_follower).map(|(_, bytes)| bytes).sum();
        let largest = 40 * 8 * 1024 * self.weight;
        assert!(in_flight <= CREDIT_BYTES + largest, "{in_flight} bytes are under way");
    }
}

/// Slots that a view opens, told by its very bytes.
fn slots_of(seq: u64, view: &SealedView) -> u64 {
    let entry = &sealed().line.entries[seq as usize];
    assert_eq!(view.core, entry.core);
    let slot = |of| entry.disclosures.iter().position(|known| known == of).expect("a disclosure of this very entry");
    view.disclosures.iter().fold(0, |mask, of| mask | 1 << slot(of))
}

/// Nothing is disclosed that the rules at the moment of reading did not show, and all of it is.
fn check_disclosed(message: &Message, allowed: &[(u64, u64)]) {
    let disclosed: Vec<(u64, u64)> = match message {
        Message::Batch(batch) => (batch.from..)
            .zip(&batch.items)
            .map(|(seq, item)| (seq, if let Item::View(view) = item { slots_of(seq, view) } else { 0 }))
            .collect(),
        Message::Backfill(backfill) => backfill.items.iter().map(|(seq, view)| (*seq, slots_of(*seq, view))).collect(),
        other => panic!("{other:?} holds no entries"),
    };
    assert_eq!(disclosed, allowed, "what leaves is what the rules showed");
}
