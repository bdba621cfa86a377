//! A thousand seeds of one followed feed: cuts at any message, restarts, rules that widen, narrow and end at any moment,
//! dates and delays that pass. `SEEDS=…` runs another number, `SEED=…` repeats one.
//!
//! The simulator's own sides stand for `links`, so its last tests put the real one to the proof: rules that narrow while a
//! batch is being written to a partner that does not read.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use lotline_integration::forge::{Forge, Node, Peer, Wire, record, until};
use lotline_integration::sim::{Edit, Sim, Tally};
use lotline_node::exchange::{CREDIT_BYTES, Message};
use lotline_node::ledger::Outcome;
use lotline_node::service::{now, time_text};
use lotline_schema::kind::inspection::{Inspection, Verdict};
use lotline_schema::tree::empty_root;
use lotline_schema::{Origin, Record};

const SEEDS: u64 = 1_000;

fn run(seed: u64) -> Tally {
    let mut sim = Sim::new(seed);
    sim.storm();
    sim.heal();
    sim.assert_converged();
    sim.tally
}

/// Every seed of a share, and which of them failed.
fn run_all(seeds: impl Iterator<Item = u64>) -> (Tally, Vec<u64>) {
    let (mut all, mut failed) = (Tally::default(), Vec::new());
    for seed in seeds {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(tally) => all = all + tally,
            Err(_) => failed.push(seed),
        }
    }
    (all, failed)
}

#[test]
fn a_thousand_seeds_converge_and_none_sees_too_much() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        eprintln!("SEED={seed}: {:?}", run(seed));
        return;
    }
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let shares: Vec<_> = (0..threads).map(|share| std::thread::spawn(move || run_all((share..seeds).step_by(threads as usize)))).collect();
    let (mut all, mut failed) = (Tally::default(), Vec::new());
    for share in shares {
        let (tally, wrong) = share.join().unwrap();
        all = all + tally;
        failed.extend(wrong);
    }
    assert!(failed.is_empty(), "{} of {seeds} failed; repeat one with SEED={}", failed.len(), failed[0]);
    eprintln!("{seeds} seeds: {all:?}");
    let Tally { batches, backfills, cuts, restarts, rules, dates, stale, cut_while_writing, revoked, refused_opens, delays } = all;
    let counts = [batches, backfills, cuts, restarts, rules, dates, stale, cut_while_writing, revoked, refused_opens, delays];
    assert!(counts.iter().all(|count| *count > 100), "something hardly ever happened: {all:?}");
}

/// Every way in which what a partner may see can change, at any moment, with cuts and restarts around it: `EDITS=…` other seeds than 1,000.
#[test]
fn an_edit_in_flight_ends_in_exactly_what_the_rules_show() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        eprintln!("SEED={seed}: {:?}", Sim::edit(seed));
        return;
    }
    let edits: u64 = std::env::var("EDITS").ok().and_then(|edits| edits.parse().ok()).unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = |share: u64| {
        move || (share..edits).step_by(threads as usize).map(|seed| (seed, std::panic::catch_unwind(|| Sim::edit(seed)))).collect()
    };
    let shares: Vec<std::thread::JoinHandle<Vec<_>>> = (0..threads).map(|at| std::thread::spawn(share(at))).collect();
    let (mut counts, mut mishaps, mut repeated, mut failed) = (BTreeMap::<Edit, u64>::new(), [0; 3], 0, Vec::new());
    for (seed, outcome) in shares.into_iter().flat_map(|share| share.join().unwrap()) {
        match outcome {
            Ok(edited) => {
                *counts.entry(edited.edit).or_default() += 1;
                mishaps.iter_mut().zip(edited.mishaps).for_each(|(all, more)| *all += more);
                repeated += edited.repeated;
            }
            Err(_) => failed.push(seed),
        }
    }
    let [cuts, owners, followers] = mishaps;
    eprintln!(
        "{edits} edits: {counts:?}; {cuts} cuts, {owners} restarts of the owner and {followers} of the follower; \
         {repeated} entries came again since no acknowledgement had"
    );
    assert!(failed.is_empty(), "{} of {edits} failed; repeat one with SEED={}", failed.len(), failed[0]);
    assert!(edits < SEEDS || counts.len() == Edit::ALL.len() && counts.values().chain(&mishaps).all(|count| *count > edits / 20));
}

// ---- The real driver ----

/// One record of 700 KiB: more than a stream takes before somebody reads.
const RECORD_BYTES: usize = 700 * 1024;
/// What the transport holds for a reader that does not read: the window of a yamux stream.
const WINDOW_BYTES: usize = 256 * 1024;

fn share(until: &str) -> String {
    format!("[[share]]\nname = 's'\nwith = 'slow'\nfeed = 'quality'\nparts = 'all'\nshow = 'everything'\nuntil = {until}\n")
}

/// A node in the middle of a write that cannot go on.
async fn stuck() -> (Node, Forge, Peer, Wire) {
    let (node, slow) = (Node::new("maker").await, Forge::new("slow"));
    node.know(slow.as_partner(false)).await;
    node.know_keys_of(&slow).await;
    node.publish("quality", vec![record("L-1", "P-1", &"x".repeat(RECORD_BYTES))]).await;
    node.apply(&share("'revoked'")).await;
    let peer = Peer::connect(&slow, &node).await;
    let open = Message::Open { origin: node.own("quality").to_string(), next: 0, root: empty_root(), view: None, credit: CREDIT_BYTES };
    let mut wire = peer.follow(&open).await;
    assert!(matches!(wire.next().await, Some(Message::Opened { .. })));
    // Both entries may go in one batch or in two; the large one is written down last.
    let large = |rows: &[lotline_node::ledger::Row]| rows.iter().any(|row| row.items.iter().any(|sent| sent.seq == 1));
    loop {
        let rows = node.with(|feeds| feeds.settle().and_then(|()| feeds.ledger(0, 100))).await.unwrap();
        if large(&rows) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The window fills in milliseconds. Had it not, less would arrive, and the bound below would hold all the more.
    tokio::time::sleep(Duration::from_millis(300)).await;
    (node, slow, peer, wire)
}

async fn last_outcome(node: &Node) -> Outcome {
    let rows = node.with(|feeds| feeds.settle().and_then(|()| feeds.ledger(0, 100))).await.unwrap();
    rows.last().unwrap().outcome
}

/// The reader begins to read the moment the rules have changed: what it gets is what the transport held.
async fn nothing_more_comes(node: Node, mut wire: Wire, expected: Outcome) {
    wire.drain().await;
    let (got, frame) = (wire.read.len(), RECORD_BYTES);
    assert!(got <= WINDOW_BYTES + 16 * 1024, "{got} bytes of {frame} arrived after the rules had changed");
    for _ in 0..1000 {
        if last_outcome(&node).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the ledger says {:?}", last_outcome(&node).await);
}

/// The control: without a change, a reader that begins late gets everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_everything_in_the_end() {
    let (node, slow, _peer, mut wire) = stuck().await;
    wire.take_all(&slow).await;
    assert!(wire.read.len() > RECORD_BYTES);
    for _ in 0..1000 {
        if last_outcome(&node).await == Outcome::Acknowledged {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the ledger says {:?}", last_outcome(&node).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_narrow_stop_a_batch_that_is_being_written() {
    let (node, _slow, _peer, wire) = stuck().await;
    node.apply(&share("'revoked'").replace("'everything'", "['lot']")).await;
    nothing_more_comes(node, wire, Outcome::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_stops_a_batch_that_is_being_written() {
    let (node, _slow, _peer, wire) = stuck().await;
    node.with(|feeds| feeds.stop_sharing(Some("slow"))).await.unwrap();
    nothing_more_comes(node, wire, Outcome::Cut).await;
}

/// A partner struck off the book while a batch is being written to it.
#[tokio::test(flavor = "multi_thread")]
async fn striking_a_partner_off_stops_a_batch_that_is_being_written() {
    let (node, _slow, _peer, wire) = stuck().await;
    node.with(|feeds| feeds.remove_partner("slow")).await.unwrap();
    nothing_more_comes(node, wire, Outcome::Cut).await;
}

/// Sharing that is stopped and resumed over and over while it sends: the node neither spins nor shows anything between.
#[tokio::test(flavor = "multi_thread")]
async fn rules_that_flicker_while_a_feed_is_sent() {
    let (node, slow) = (Node::new("maker").await, Forge::new("slow"));
    node.know(slow.as_partner(false)).await;
    let records = (0..600).map(|at| record(&format!("L-{at}"), "P-1", &"x".repeat(2000))).collect();
    node.publish("quality", records).await;
    let peer = Peer::connect(&slow, &node).await;
    let open =
        Message::Open { origin: node.own("quality").to_string(), next: 0, root: empty_root(), view: None, credit: 64 * CREDIT_BYTES };
    let mut caught_up = 0;
    for round in 0..20u64 {
        node.apply(&share("'revoked'")).await;
        let mut wire = peer.follow(&open).await;
        // A moment in the middle of loading, of writing down, or of sending; each round another.
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        node.with(|feeds| feeds.stop_sharing(None)).await.unwrap();
        let rows = node.with(|feeds| feeds.settle().and_then(|()| feeds.ledger(0, 10_000))).await.unwrap().len();
        wire.drain().await;
        caught_up += u64::from(wire.read.len() > 600 * 2000);
        // A node that asks itself the same again and again writes an intent each time.
        let after = node.with(|feeds| feeds.settle().and_then(|()| feeds.ledger(0, 10_000))).await.unwrap().len();
        assert!(after <= rows + 2, "{} rows more after the end of sharing", after - rows);
    }
    assert!(caught_up < 20, "no round was interrupted");
    until("the node to rest", || Some(())).await;
}

// ---- Delays ----

/// A lot that says it was signed so that it opens under a delay of one hour so many seconds from now, and that moment.
fn opening_in(seconds: u64, lot: &str) -> (Record, u64) {
    let moment = now() + seconds;
    let draft = Inspection { part: "P-1".into(), lot: lot.into(), verdict_stated: Some(Verdict::Conforming), ..Default::default() };
    (draft.check(&time_text(moment - 3_600)).unwrap(), moment)
}

/// Whether the follower sees something of this entry.
fn is_open(follower: &Node, origin: &Origin, seq: u64) -> bool {
    let Some(feed) = follower.feed(origin) else {
        return false;
    };
    follower.service.handle.reader().row(feed.id, seq).unwrap().is_some_and(|row| row.has_core)
}

/// Delays are hours at least, so the records are older than the test: one opens while the line holds, one while the follower is
/// away, and one stays hidden.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_opens_by_itself_an_hour_after_it_was_signed() {
    let (owner, follower) = (Node::new("maker").await, Node::new("slow").await);
    let [(first, opens), (second, later), (third, _)] = [opening_in(6, "L-1"), opening_in(12, "L-2"), opening_in(3_000, "L-3")];
    owner.publish("quality", vec![first, second, third]).await;
    let rules = share("'revoked'") + "delay = '1h'\n";
    owner.apply(&rules).await;
    owner.know(follower.as_partner(false).await).await;
    follower.know(owner.as_partner(true).await).await;
    let origin = owner.own("quality");
    until("the feed to arrive", || follower.feed(&origin).filter(|feed| feed.size() == 4)).await;
    assert!(now() < opens && (1..4).all(|seq| !is_open(&follower, &origin, seq)), "nothing is open yet");

    until("the first to open", || is_open(&follower, &origin, 1).then_some(())).await;
    assert!((opens..opens + 2).contains(&now()), "it opened {} s after its moment", now() as i64 - opens as i64);
    let (folder, home) = follower.stop().await;
    tokio::time::sleep(Duration::from_secs((later + 1).saturating_sub(now()))).await;
    let follower = Node::start(folder, home).await;
    until("the second to open", || is_open(&follower, &origin, 2).then_some(())).await;
    assert!(!is_open(&follower, &origin, 3));

    // Nothing left twice, and each only when it was open.
    let rows = owner.with(|feeds| feeds.settle().and_then(|()| feeds.ledger(0, 100))).await.unwrap();
    let name = origin.as_str();
    let left = |seq: u64| rows.iter().filter(move |row| row.origin == name && row.sent(seq).is_some_and(|sent| sent.mask != 0));
    assert_eq!([1, 2, 3].map(|seq| left(seq).count()), [1, 1, 0], "{rows:?}");
    assert!(left(1).all(|row| row.at >= opens) && left(2).all(|row| row.at >= later));
}
