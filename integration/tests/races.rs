//! A thousand races between what is being sent and a word that it may not be: sharing stopped, narrower rules, a share's last second,
//! a partner struck off, a clock that jumps; during catch-up, live and backfill. The product's own `serve` writes into a transport that stalls as it likes,
//! in simulated time: nothing forbidden is handed over later than a quarter of a second after the word, and the ledger says of
//! each batch what may have left.
//!
//! `SEED=…` repeats a run, `RACES=…` runs another number than 1,000.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use lotline_integration::clock::SetClock;
use lotline_integration::forge::{Forge, Node, Wire, record};
use lotline_integration::world::{Dice, seed};
use lotline_node::exchange::message::{backfill_digest, items_digest};
use lotline_node::exchange::{CREDIT_BYTES, Message};
use lotline_node::feeds::Feeds;
use lotline_node::ledger::{Outcome, Row};
use lotline_node::links;
use lotline_node::service::{day, time_text};
use lotline_policy::Policy;
use lotline_schema::Hash;
use lotline_schema::tree::empty_root;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};

const RACES: u64 = 1_000;
/// Races on one home; then it has too many entries for a quick catch-up.
const RACES_A_HOME: u64 = 25;
const RECORDS: usize = 40;
/// A record is some chunks of a frame long.
const TEXT_BYTES: usize = 3_000;
/// The bound of the design: a quarter of a second.
const LATE_MS: u64 = 250;
/// What the transport takes before the other side reads.
const TRANSPORT_BYTES: usize = 8 * 1024;
const SECRET: &str = "canary-";
/// More than the clock may be ahead, in seconds.
const JUMP: i64 = 25 * 3_600;

/// The bytes; of each write when it was, and how many there were after it.
type Written = (Vec<u8>, Vec<(u64, usize)>);

/// What the transport was handed, and when.
#[derive(Clone, Default)]
struct Handed(Arc<Mutex<Written>>);

/// The node's end of a stream, with its log.
struct Watched {
    stream: DuplexStream,
    clock: SetClock,
    handed: Handed,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            let mut handed = self.handed.0.lock().unwrap();
            handed.0.extend_from_slice(&bytes[..count]);
            let end = handed.0.len();
            handed.1.push((self.clock.passed_ms(), end));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A frame with entries, as far as it was handed over.
struct Bulk {
    bytes: Vec<u8>,
    whole: bool,
    /// When its first and its last byte were handed over.
    first: u64,
    last: u64,
}

impl Bulk {
    fn digest(&self) -> Hash {
        match Message::read(&self.bytes[4..]).unwrap().unwrap() {
            Message::Batch(batch) => items_digest(&batch.items),
            Message::Backfill(backfill) => backfill_digest(&backfill.items),
            other => panic!("{other:?} holds no entries"),
        }
    }

    fn tells(&self) -> bool {
        self.bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
    }
}

impl Handed {
    /// The frames with entries in it: types of messages that hold none are short.
    fn bulk(&self) -> Vec<Bulk> {
        let handed = self.0.lock().unwrap();
        let (bytes, times) = &*handed;
        let when = |at: usize| times[times.partition_point(|(_, end)| *end <= at)].0;
        let (mut found, mut at) = (Vec::new(), 0);
        while at + 5 <= bytes.len() {
            let length = 4 + u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            let end = bytes.len().min(at + length);
            let whole = end == at + length;
            let holds_entries = match whole {
                true => matches!(Message::read(&bytes[at + 4..end]), Ok(Some(Message::Batch(_) | Message::Backfill(_)))),
                false => length > 1_000,
            };
            if holds_entries {
                found.push(Bulk { bytes: bytes[at..end].to_vec(), whole, first: when(at), last: when(end - 1) });
            }
            at = end;
        }
        found
    }
}

/// When the word comes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    CatchUp,
    Live,
    Backfill,
}

/// The word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Word {
    StopPartner,
    StopEverybody,
    Narrower,
    NoRules,
    Never,
    Until,
    Removed,
    ClockJumps,
}

const PHASES: [Phase; 3] = [Phase::CatchUp, Phase::Live, Phase::Backfill];
const WORDS: [Word; 8] =
    [Word::StopPartner, Word::StopEverybody, Word::Narrower, Word::NoRules, Word::Never, Word::Until, Word::Removed, Word::ClockJumps];

#[derive(Default)]
struct Tally {
    races: BTreeMap<(Phase, Word), u64>,
    /// Races that the word won before anything left, in the middle of a frame, and lost.
    before: u64,
    within: u64,
    after: u64,
    /// How long after the word the last forbidden byte was handed over.
    latest_ms: u64,
    outcomes: BTreeMap<&'static str, u64>,
}

/// A node, its clock, and the time that both go by.
struct Home {
    node: Node,
    clock: SetClock,
    records: usize,
}

fn share(with: &str, show: &str, until: &str) -> String {
    format!("[[share]]\nname = 's'\nwith = '{with}'\nfeed = 'quality'\nparts = 'all'\nshow = {show}\nuntil = {until}\n")
}

fn records(from: usize, count: usize) -> Vec<lotline_schema::Record> {
    let text = |at| format!("{SECRET}{at}-{}", "x".repeat(TEXT_BYTES));
    (from..from + count).map(|at| record(&format!("L-{at}"), "P-1", &text(at))).collect()
}

impl Home {
    async fn new() -> Home {
        let clock = SetClock::at(day("2026-11-23").unwrap());
        let node = Node::new_by(clock.watched(), "maker").await;
        node.publish("quality", records(0, RECORDS)).await;
        Home { node, clock, records: RECORDS }
    }

    /// A moment of simulated time passes, and whoever can work does.
    async fn pass(&self, span: Duration) {
        self.clock.pass(span);
        tokio::time::advance(span).await;
        // What the feeds thread was asked for is done.
        self.node.with(|_| ()).await;
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    }

    async fn race(&mut self, number: u64, dice: &mut Dice, tally: &mut Tally) {
        let (phase, word) = (PHASES[dice.below(3) as usize], WORDS[dice.below(8) as usize]);
        *tally.races.entry((phase, word)).or_default() += 1;
        let forge = Forge::new(&format!("p{number}"));
        let name = forge.name.clone();
        self.node.know(forge.as_partner(false)).await;
        self.node.know_keys_of(&forge).await;
        let until = match word {
            Word::Until => {
                // The share ends some moment after the stream begins.
                let ends = (self.clock.shown() / 86_400 + 2) * 86_400;
                let left = ends * 1000 - self.clock.shown_ms() - 500 - dice.below(1_500);
                self.clock.pass(Duration::from_millis(left));
                time_text(ends)[..10].to_owned()
            }
            _ => "'revoked'".to_owned(),
        };
        let all = share(&name, "'everything'", &until);
        self.node.apply(&if phase == Phase::Backfill { share(&name, "['lot']", &until) } else { all.clone() }).await;
        let partner = self.node.service.handle.snapshot().book[&name].clone();
        let (node_end, transport) = tokio::io::duplex(TRANSPORT_BYTES);
        let (far, follower_end) = tokio::io::duplex(TRANSPORT_BYTES);
        let handed = Handed::default();
        let watched = Watched { stream: node_end, clock: self.clock.clone(), handed: handed.clone() };
        let context = links::Context {
            net: self.node.net.clone(),
            handle: self.node.service.handle.clone(),
            board: self.node.board.clone(),
            pairings: None,
            capture: None,
        };
        let stalls = Arc::new(AtomicBool::new(phase == Phase::CatchUp));
        let carrying = tokio::spawn(carry(transport, far, Dice(dice.below(u64::MAX)), stalls.clone()));
        let mut serving = tokio::spawn(links::serve(context, partner, watched));
        let origin = self.node.own("quality");
        let level = Arc::new(AtomicBool::new(false));
        let (met, taker) = (level.clone(), forge);
        let following = tokio::spawn(async move {
            let mut wire = Wire::new(follower_end);
            wire.send(&Message::Open { origin: origin.to_string(), next: 0, root: empty_root(), view: None, credit: CREDIT_BYTES }).await;
            while let Some(message) = wire.take(&taker).await {
                met.fetch_or(matches!(message, Message::CaughtUp { .. }), Ordering::SeqCst);
            }
        });
        if phase != Phase::CatchUp {
            // Level first, over a line that does not stall; a share that ends then has ended.
            for _ in 0..2_000 {
                if level.load(Ordering::SeqCst) || serving.is_finished() {
                    break;
                }
                self.pass(Duration::from_millis(1)).await;
            }
            stalls.store(true, Ordering::SeqCst);
            match phase {
                Phase::Live => {
                    let count = 1 + dice.below(12) as usize;
                    self.node.publish("quality", records(self.records, count)).await;
                    self.records += count;
                }
                _ => self.node.apply(&all).await,
            }
        }
        for _ in 0..dice.below(60) {
            self.pass(Duration::from_millis(1 + dice.below(20))).await;
        }
        let said = self.say(word, &name).await;
        let narrowed_only = matches!(word, Word::Narrower | Word::Never);
        // Long enough that what is late would be seen; a narrower view comes as well.
        while self.clock.passed_ms() < said + 4 * LATE_MS && !serving.is_finished() {
            self.pass(Duration::from_millis(1 + dice.below(30))).await;
        }
        following.abort();
        carrying.abort();
        for _ in 0..1_000 {
            if serving.is_finished() {
                break;
            }
            self.pass(Duration::from_millis(10)).await;
        }
        let _ = (&mut serving).await.expect("serving does not panic");

        let bulk = handed.bulk();
        let forbidden: Vec<&Bulk> = bulk.iter().filter(|frame| frame.tells() || !narrowed_only && frame.last > said).collect();
        let latest = forbidden.iter().map(|frame| frame.last).max().unwrap_or(0);
        tally.latest_ms = tally.latest_ms.max(latest.saturating_sub(said));
        assert!(latest <= said + LATE_MS, "race {number}, {phase:?} {word:?}: {} ms late", latest - said);
        match forbidden.last() {
            None => tally.before += 1,
            Some(frame) => {
                assert!(frame.first <= said, "race {number}, {phase:?} {word:?}: a frame was begun after the word");
                let halfway = !frame.whole || said < frame.last;
                *(if halfway { &mut tally.within } else { &mut tally.after }) += 1;
            }
        }
        self.check_ledger(&name, &bulk, tally).await;
        if word == Word::ClockJumps {
            self.clock.jump(-JUMP);
        }
        if word != Word::Removed {
            let gone = name.clone();
            self.node.with(move |feeds| feeds.remove_partner(&gone)).await.unwrap();
        }
    }

    /// Says it; the moment from which on it counts.
    async fn say(&self, word: Word, name: &str) -> u64 {
        let apply = |text: String| async move {
            let policy = Policy::restore(&text).unwrap();
            self.node.with(move |feeds| feeds.apply_policy(policy, false, feeds.clock().now())).await.unwrap();
        };
        let whom = name.to_owned();
        match word {
            Word::StopPartner => self.node.with(move |feeds| feeds.stop_sharing(Some(&whom))).await.unwrap(),
            Word::StopEverybody => self.node.with(|feeds| feeds.stop_sharing(None)).await.unwrap(),
            Word::Narrower => apply(share(name, "['lot']", "'revoked'")).await,
            Word::NoRules => apply(String::new()).await,
            Word::Never => {
                let never = format!("[[never]]\nname = 'n'\nwith = '{name}'\nshow = ['c']\n");
                apply(share(name, "'everything'", "'revoked'") + &never).await;
            }
            Word::Until => {
                // It may have come by itself already.
                let day = 86_400_000;
                let (over, left) = (self.clock.shown_ms() % day, day - self.clock.shown_ms() % day);
                if over < left {
                    return self.clock.passed_ms() - over;
                }
                let ends = self.clock.passed_ms() + left;
                while self.clock.passed_ms() < ends {
                    self.pass(Duration::from_millis(3.min(ends - self.clock.passed_ms()))).await;
                }
                return ends;
            }
            Word::Removed => drop(self.node.with(move |feeds| feeds.remove_partner(&whom)).await.unwrap()),
            Word::ClockJumps => self.clock.jump(JUMP),
        }
        self.clock.passed_ms()
    }

    /// What the ledger says of each batch is what became of it.
    async fn check_ledger(&self, name: &str, bulk: &[Bulk], tally: &mut Tally) {
        let rows = self.node.with(|feeds: &mut Feeds| feeds.settle().and_then(|()| feeds.ledger(0, 100_000))).await.unwrap();
        let rows: Vec<Row> = rows.into_iter().filter(|row| row.to == name).collect();
        let whole: Vec<Hash> = bulk.iter().filter(|frame| frame.whole).map(Bulk::digest).collect();
        // One row a frame, in the order in which they were handed over; what was thrown away has a row and no frame.
        let mut handed = bulk.iter();
        for row in &rows {
            *tally.outcomes.entry(row.outcome.name()).or_default() += 1;
            match row.outcome {
                Outcome::NotSent => {}
                Outcome::Acknowledged | Outcome::Open => {
                    let frame = handed.next().expect("a frame for a row");
                    assert!(frame.whole && frame.digest() == row.digest, "{name}: {row:?}");
                }
                Outcome::Cut => match handed.next() {
                    Some(frame) => assert!(!frame.whole || frame.digest() == row.digest, "{name}: {row:?}"),
                    // Cut before its first byte.
                    None => assert!(!whole.contains(&row.digest)),
                },
                Outcome::Exported => panic!("{name}: {row:?}"),
            }
        }
        assert!(handed.next().is_none(), "{name}: a frame without a row");
    }
}

/// Brings bytes from one end of a transport to the other as a bad line does: in pieces, with pauses of any length.
async fn carry(transport: DuplexStream, far: DuplexStream, mut dice: Dice, stalls: Arc<AtomicBool>) {
    let ((mut from_node, mut to_node), (mut from_follower, mut to_follower)) = (tokio::io::split(transport), tokio::io::split(far));
    let back = async {
        let _ = tokio::io::copy(&mut from_follower, &mut to_node).await;
    };
    let forth = async {
        let mut piece = vec![0; 16 * 1024];
        loop {
            let most = if stalls.load(Ordering::SeqCst) { 1 + dice.below(piece.len() as u64) as usize } else { piece.len() };
            match from_node.read(&mut piece[..most]).await {
                Ok(count) if count > 0 && to_follower.write_all(&piece[..count]).await.is_ok() => {}
                _ => return,
            }
            if stalls.load(Ordering::SeqCst) {
                let pause = [0, 0, 1, 5, 20, 60, 300, 2_000][dice.below(8) as usize];
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
    };
    tokio::join!(back, forth);
}

/// Some races on one home. The home lives in a runtime whose time is real, the streams in one whose time is ours.
fn race_on_a_home(numbers: std::ops::Range<u64>, seed: u64) -> Tally {
    let real = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut home = real.block_on(Home::new());
    let paused = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let mut tally = Tally::default();
    paused.block_on(async {
        // While something blocks, time stands still: it passes in `Home::pass` alone.
        let (release, held) = std::sync::mpsc::channel::<()>();
        let still = tokio::task::spawn_blocking(move || held.recv());
        for number in numbers {
            home.race(number, &mut Dice(seed ^ number), &mut tally).await;
        }
        drop(release);
        let _ = still.await;
    });
    real.block_on(async { home.node.stop().await });
    tally
}

#[test]
fn whatever_is_forbidden_stops_within_a_quarter_of_a_second() {
    let races = std::env::var("RACES").ok().and_then(|races| races.parse().ok()).unwrap_or(RACES);
    let (seed, next, all) = (seed(), std::sync::atomic::AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(RACES_A_HOME, Ordering::SeqCst);
                    if first >= races {
                        return;
                    }
                    let tally = race_on_a_home(first..races.min(first + RACES_A_HOME), seed);
                    all.lock().unwrap().push(tally);
                }
            });
        }
    });
    let all = all.into_inner().unwrap();
    let sum = |of: fn(&Tally) -> u64| all.iter().map(of).sum::<u64>();
    let (before, within, after) = (sum(|of| of.before), sum(|of| of.within), sum(|of| of.after));
    let (mut kinds, mut outcomes): (BTreeMap<_, u64>, BTreeMap<_, u64>) = Default::default();
    for tally in &all {
        tally.races.iter().for_each(|(kind, count)| *kinds.entry(*kind).or_default() += count);
        tally.outcomes.iter().for_each(|(kind, count)| *outcomes.entry(*kind).or_default() += count);
    }
    let latest = all.iter().map(|of| of.latest_ms).max().unwrap_or(0);
    eprintln!(
        "{races} races, {} kinds: {before} words before anything forbidden left, {within} in the middle of a frame, {after} after it; \
         the last forbidden byte {latest} ms after the word; the ledger says {outcomes:?}",
        kinds.len()
    );
    assert_eq!(before + within + after, races);
    if races >= RACES {
        assert_eq!(kinds.len(), PHASES.len() * WORDS.len());
        assert!([before, within, after].into_iter().all(|count| count > races / 20), "hardly a race");
        assert!([Outcome::Acknowledged, Outcome::Cut, Outcome::NotSent].iter().all(|of| outcomes.contains_key(of.name())), "{outcomes:?}");
    }
}
