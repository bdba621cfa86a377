//! A thousand seeds of a publisher that shows two histories, takes entries back, leaves some out or rewrites them, and of
//! one that does nothing of the kind: honest, or restored from a backup and going on in the next life of its feed.
//!
//! Every misbehaviour ends in a refusal by the follower it meets, those that are evidence in a freeze; a split shown to two
//! followers from the start is found by comparing their checkpoints. Honesty is never refused. Most seeds run on the pure
//! rules with a follower in memory; some on [`Keeper`], which stores, receipts and cosigns as a node does. `SEED=…`
//! repeats one.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use lotline_integration::forge::{Forge, Keeper, Line, delivery_of, record};
use lotline_integration::world::Dice;
use lotline_node::exchange::Code;
use lotline_node::exchange::message::Cosigned;
use lotline_node::exchange::receive::{self, Cursor, Receiver};
use lotline_node::exchange::send::{self, Sender, Standing};
use lotline_node::feeds::{AcceptError, Feed, Head, Item, Received, accept};
use lotline_schema::delivery::Receipt;
use lotline_schema::note::{Checkpoint, Cosignature, WitnessKey};
use lotline_schema::org::Org;
use lotline_schema::tree::Tree;
use lotline_schema::{Hash, Origin};

const SEEDS: u64 = 1_000;
/// Seeds that also run on a store.
const STORED: u64 = 50;
const NOW: u64 = 1_795_392_000;
/// Entries that every history begins with; sealed once, since sealing costs more than everything else.
const COMMON: u64 = 24;

/// What a publisher does to its followers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Deed {
    /// Another history, to a follower that has seen the first.
    ForkLater,
    /// Two histories from the start, one to each of two followers.
    ForkFromTheStart,
    /// A smaller head under a signed checkpoint.
    Rollback,
    /// A smaller head, and nothing signed: it answers as one who lost its past.
    LostPast,
    /// Some entries left out.
    Withheld,
    /// Some entries left out, and said so by their index.
    Gap,
    /// An entry in another's place.
    Elsewhere,
    /// The past rewritten, with a new head and proofs that fit it.
    Rewritten,
    /// An entry opened later that is another than the one shown.
    RewrittenLate,
    /// Restored from a backup, honestly.
    Restored,
    /// Nothing.
    Nothing,
}

const DEEDS: [Deed; 11] = [
    Deed::ForkLater,
    Deed::ForkFromTheStart,
    Deed::Rollback,
    Deed::LostPast,
    Deed::Withheld,
    Deed::Gap,
    Deed::Elsewhere,
    Deed::Rewritten,
    Deed::RewrittenLate,
    Deed::Restored,
    Deed::Nothing,
];

struct Publisher {
    forge: Forge,
    line: Line,
    /// The next life of the feed after a backup that held so many entries: opened once for each, in the order of the org feed.
    lives: BTreeMap<u64, Line>,
}

fn publisher() -> &'static Publisher {
    static PUBLISHER: OnceLock<Publisher> = OnceLock::new();
    PUBLISHER.get_or_init(|| {
        let mut forge = Forge::new("maker");
        let mut line = forge.open("quality");
        (1..COMMON).for_each(|at| line.publish(&forge, &record(&format!("L-{at}"), "P-1", "true")));
        let (mut lives, mut last) = (BTreeMap::new(), line.clone());
        for known in [1, 3, 7, 12, 20] {
            // Each restore follows the life before; of what was lost of it the publisher knows nothing.
            let mut next = forge.reopen(&last, if last.size() >= known { known } else { last.size() });
            (1..6).for_each(|at| next.publish(&forge, &record(&format!("R-{known}-{at}"), "P-1", "after a restore")));
            lives.insert(known, next.clone());
            last = next;
        }
        Publisher { forge, line, lives }
    })
}

/// Where a follower keeps what it took.
enum Disk {
    Memory { org: Arc<Org>, feeds: BTreeMap<String, Feed> },
    Store(Box<Keeper>),
}

struct Follower {
    disk: Disk,
    keys: Forge,
    leaves: BTreeMap<String, Vec<Hash>>,
    /// Everything it cosigned, in order.
    cosigned: Vec<(Checkpoint, Cosigned)>,
    now: u64,
}

impl Follower {
    fn in_memory() -> Follower {
        let org = Arc::new(publisher().forge.org.clone());
        Follower::on(Disk::Memory { org, feeds: BTreeMap::new() })
    }

    fn stored() -> Follower {
        let mut keeper = Keeper::new("follower");
        keeper.know_keys_of(&publisher().forge).unwrap();
        Follower::on(Disk::Store(Box::new(keeper)))
    }

    fn on(disk: Disk) -> Follower {
        Follower { disk, keys: Forge::new("witness"), leaves: BTreeMap::new(), cosigned: Vec::new(), now: NOW }
    }

    fn feed(&mut self, origin: &Origin) -> Feed {
        match &mut self.disk {
            Disk::Memory { feeds, .. } => {
                let fresh = Feed {
                    id: 1,
                    origin: origin.clone(),
                    ours: false,
                    written: false,
                    level: None,
                    head: Arc::default(),
                    frozen: None,
                    view: None,
                    witnessed: None,
                };
                feeds.entry(origin.to_string()).or_insert(fresh).clone()
            }
            Disk::Store(keeper) => {
                keeper.feeds().follow(origin).unwrap();
                keeper.feeds().snapshot().feeds[origin.as_str()].clone()
            }
        }
    }

    fn size(&mut self, origin: &Origin) -> u64 {
        self.feed(origin).size()
    }

    /// Takes a batch as `links` does: verified, stored and cosigned, or refused, and frozen when it is evidence.
    fn take(&mut self, origin: &Origin, batch: Received) -> Result<(), AcceptError> {
        self.now += 10;
        let (feed, now) = (self.feed(origin), self.now);
        if let Some(why) = feed.frozen {
            return Err(AcceptError::Frozen(why));
        }
        let taken = match &mut self.disk {
            Disk::Memory { org, feeds } => accept::verify(org, origin, &feed.head, batch.clone()).map(|_| {
                let mut frontier = feed.head.frontier.clone();
                leaves_of(&batch).for_each(|leaf| frontier.push(leaf));
                let signed = Checkpoint::read(&batch.checkpoint).unwrap();
                let met = (signed.size == frontier.size()).then_some(signed);
                feeds.get_mut(origin.as_str()).unwrap().head = Arc::new(Head { frontier, checkpoint: batch.checkpoint.clone() });
                met.map(|signed| (self.keys.cosign(&signed, now), signed))
            }),
            Disk::Store(keeper) => keeper.take(origin, batch.clone(), now).map(|accepted| {
                let receipt = Receipt::open(&accepted.receipt.unwrap(), &keeper.org()).unwrap().delivery;
                assert_eq!(receipt, lotline_schema::delivery::Delivery { at: now, ..delivery_of(&batch) });
                accepted.cosigned.map(|cosigned| (cosigned, Checkpoint::read(&batch.checkpoint).unwrap()))
            }),
        };
        match taken {
            Ok(met) => {
                self.leaves.entry(origin.to_string()).or_default().extend(leaves_of(&batch));
                self.cosigned.extend(met.map(|(cosigned, checkpoint)| (checkpoint, cosigned)));
                Ok(())
            }
            Err(error) => {
                self.refused(origin, &error);
                Err(error)
            }
        }
    }

    fn refused(&mut self, origin: &Origin, error: &AcceptError) {
        if error.freezes() {
            match &mut self.disk {
                Disk::Memory { feeds, .. } => feeds.get_mut(origin.as_str()).unwrap().frozen = Some(error.to_string()),
                Disk::Store(keeper) => keeper.feeds().freeze(origin, &error.to_string(), b"what was sent", None).unwrap(),
            }
        }
    }

    /// Takes an entry opened later.
    fn take_late(&mut self, line: &Line, seq: u64) -> Result<(), AcceptError> {
        let backfill =
            lotline_node::feeds::Backfill { items: vec![(seq, line.entries[seq as usize].view())], policy: Some(1), under: Vec::new() };
        let (feed, leaves) = (self.feed(&line.origin), self.leaves[line.origin.as_str()].clone());
        let verified = accept::verify_backfill(&publisher().forge.org, &feed, backfill, |seq| leaves.get(seq as usize).copied());
        match (verified, &mut self.disk) {
            (Ok(verified), Disk::Store(keeper)) => {
                keeper.feeds().accept_backfill(verified, self.now).map(|receipt| assert!(receipt.is_some()))
            }
            (Ok(_), _) => Ok(()),
            (Err(error), _) => {
                self.refused(&line.origin, &error);
                Err(error)
            }
        }
    }

    /// Asks as a session does; how the publisher's session answers, with the head it has now.
    fn ask(&mut self, line: &Line, size: u64) -> Option<Code> {
        let feed = self.feed(&line.origin);
        let cursor = Cursor { next: feed.size(), root: feed.head.frontier.root(), view: None };
        let (mut receiver, open) = Receiver::start(line.origin.as_str(), cursor);
        let receive::Output::Send(open) = open else { panic!("a receiver asks first") };
        let mut sender = Sender::new();
        sender.handle(send::Input::Received(open));
        let root_at_cursor = (feed.size() <= size).then(|| line.checkpoint(feed.size()).root);
        let standing = Standing { size, view: Hash([1; 32]), org_size: 1, term: String::new(), owed: false, delayed: None, root_at_cursor };
        let answers = sender.handle(send::Input::Standing(Some(standing)));
        let Some(send::Output::Send(answer)) = answers.into_iter().next() else { panic!("a sender answers") };
        match receiver.handle(receive::Input::Received(answer, 1)).into_iter().next() {
            Some(receive::Output::Ended(code)) => Some(code),
            _ => None,
        }
    }

    /// Follows a history up to an index, in batches of any size under checkpoints at or beyond their end, some hidden.
    fn follow(&mut self, dice: &mut Dice, line: &Line, to: u64) {
        loop {
            let from = self.size(&line.origin);
            if from >= to {
                break;
            }
            let end = (from + 1 + dice.below(6)).min(to);
            let size = if dice.below(2) == 0 { end } else { end + dice.below(to + 1 - end) };
            let mut batch = batch(line, from, end, size);
            for item in &mut batch.items {
                let Item::View(view) = &item else { continue };
                if from > 0 && dice.below(3) == 0 {
                    *item = Item::Hidden(lotline_schema::tree::leaf_hash(&view.core));
                }
            }
            self.take(&line.origin, batch).unwrap_or_else(|why| panic!("an honest batch was refused: {why}"));
            if let Disk::Store(keeper) = &mut self.disk {
                if dice.below(6) == 0 {
                    keeper.restart();
                }
                if let Some(again) = keeper.feeds().cosign_again(&line.origin, NOW + dice.below(20_000)).unwrap() {
                    self.cosigned.push((line.checkpoint(again.size), again));
                }
            }
        }
    }

    /// One root a size, never a smaller size after a larger, and every signature holds.
    fn check_cosignatures(&self) {
        let mut roots = BTreeMap::new();
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for (checkpoint, cosigned) in &self.cosigned {
            let key = WitnessKey::read(&cosigned.key).unwrap();
            assert_eq!(cosigned.size, checkpoint.size);
            Cosignature::read(&cosigned.line).unwrap().verify(checkpoint, &key).unwrap();
            let (origin, size) = (checkpoint.origin.as_str(), checkpoint.size);
            let before = roots.entry((origin, size)).or_insert(checkpoint.root);
            assert_eq!(*before, checkpoint.root, "two roots at size {size}");
            let last = last.entry(origin).or_default();
            assert!(*last <= size, "size {size} was cosigned after {last}");
            *last = size;
        }
    }
}

fn leaves_of(batch: &Received) -> impl Iterator<Item = Hash> {
    batch.items.iter().map(|item| match item {
        Item::Hidden(leaf) => *leaf,
        Item::View(view) => lotline_schema::tree::leaf_hash(&view.core),
    })
}

/// Entries of a history under its checkpoint of this size.
fn batch(line: &Line, from: u64, to: u64, size: u64) -> Received {
    let mut batch = line.batch(&publisher().forge, from, to);
    batch.checkpoint = line.checkpoint(size).sign(&publisher().forge.keys.log);
    batch.tail = if size == to { Vec::new() } else { line.tree().consistency(to, size).unwrap() };
    batch.policy = Some(1);
    batch
}

/// Whether two followers were shown two histories, as far as both have come: what each holds reproduces the signed root of
/// the shorter one.
fn split(a: &Follower, b: &Follower, origin: &Origin) -> bool {
    let tree = |of: &Follower| Tree::new(of.leaves.get(origin.as_str()).cloned().unwrap_or_default());
    let (a, b) = (tree(a), tree(b));
    let size = a.size().min(b.size());
    a.root(size) != b.root(size)
}

/// The history with an entry replaced, and so many of its own behind it.
fn rewritten(line: &Line, at: u64, more: u64) -> Line {
    let mut other = line.clone();
    other.entries.truncate(at as usize);
    (0..more).for_each(|entry| other.publish(&publisher().forge, &record(&format!("X-{entry}"), "P-1", "not what it was")));
    other
}

fn forks(refused: &Result<(), AcceptError>) -> bool {
    matches!(refused, Err(AcceptError::Fork { .. }))
}

fn run(seed: u64, make: fn() -> Follower) -> Deed {
    let mut dice = Dice(seed);
    let deed = DEEDS[dice.below(DEEDS.len() as u64) as usize];
    let Publisher { line, lives, .. } = publisher();
    let origin = &line.origin;
    let (mut a, mut b) = (make(), make());
    // Where a stands; what is done to its past happens before that.
    let seen = 2 + dice.below(COMMON - 8);
    let past = 1 + dice.below(seen - 1);
    let more = seen - past + 1 + dice.below(4);
    if deed != Deed::ForkFromTheStart {
        a.follow(&mut dice, line, seen);
        let other = 1 + dice.below(COMMON - 1);
        b.follow(&mut dice, line, other);
    }
    let (refused, frozen) = match deed {
        Deed::ForkLater => {
            // A bold one sends it; one that runs our program is found by the cursor already.
            let other = rewritten(line, past, more);
            assert_eq!(a.ask(&other, other.size()), Some(Code::Fork));
            (forks(&a.take(origin, batch(&other, seen, other.size(), other.size()))), true)
        }
        Deed::ForkFromTheStart => {
            let other = rewritten(line, past, more);
            let (end, other_end) = (past + 1 + dice.below(COMMON - past), past + 1 + dice.below(more));
            // Up to the place where they part both are one history.
            a.follow(&mut dice, line, past);
            b.follow(&mut dice, &other, past);
            assert!(!split(&a, &b, origin), "nothing to see yet");
            a.follow(&mut dice, line, end);
            b.follow(&mut dice, &other, other_end);
            (split(&a, &b, origin) && split(&b, &a, origin), false)
        }
        Deed::Rollback => {
            let mut smaller = batch(line, seen, seen + 1, seen + 1);
            smaller.checkpoint = line.checkpoint(past).sign(&publisher().forge.keys.log);
            (forks(&a.take(origin, smaller)), true)
        }
        Deed::LostPast => (a.ask(line, past) == Some(Code::CursorAhead), false),
        Deed::Withheld => {
            let mut some = batch(line, seen, seen + 4, seen + 4);
            // One of the first three: without the last it would be an honest batch below its checkpoint.
            some.items.remove(dice.below(3) as usize);
            // What comes after a hole is in another place than it says, so a hole is best hidden.
            for item in &mut some.items {
                let Item::View(view) = &item else { continue };
                *item = Item::Hidden(lotline_schema::tree::leaf_hash(&view.core));
            }
            some.tail = if dice.below(2) == 0 { Vec::new() } else { line.tree().consistency(seen + 3, seen + 4).unwrap() };
            (forks(&a.take(origin, some)), true)
        }
        Deed::Gap => {
            let after = seen + 1 + dice.below(3);
            let refused = a.take(origin, batch(line, after, after + 1, after + 1));
            (matches!(refused, Err(AcceptError::Gap { expected, found }) if (expected, found) == (seen, after)), false)
        }
        Deed::Elsewhere => {
            let mut moved = batch(line, seen, seen + 3, seen + 3);
            let place = dice.below(3) as usize;
            let from = dice.below(seen);
            moved.items[place] = Item::View(line.entries[from as usize].view());
            let refused = a.take(origin, moved);
            (matches!(refused, Err(AcceptError::View { seq, .. }) if seq == seen + place as u64), true)
        }
        Deed::Rewritten => {
            let other = rewritten(line, past, more + 3);
            let to = seen + 1 + dice.below(other.size() - seen);
            (forks(&a.take(origin, batch(&other, seen, to, other.size()))), true)
        }
        Deed::RewrittenLate => {
            let other = rewritten(line, past, 1);
            (matches!(a.take_late(&other, past), Err(AcceptError::Other(seq)) if seq == past), true)
        }
        Deed::Restored => {
            // Both go on in the new life, wherever they stand in the old one, which stays as it is.
            let next = lives.values().nth(dice.below(lives.len() as u64) as usize).unwrap();
            for follower in [&mut a, &mut b] {
                let end = 1 + dice.below(next.size());
                follower.follow(&mut dice, next, end);
            }
            a.take_late(line, past).unwrap();
            (!split(&a, &b, &next.origin), false)
        }
        Deed::Nothing => {
            for follower in [&mut a, &mut b] {
                assert_eq!(follower.ask(line, COMMON), None);
                follower.follow(&mut dice, line, COMMON);
                follower.take_late(line, past).unwrap();
            }
            (true, false)
        }
    };
    assert!(refused, "{deed:?} was not found as it should be");
    assert_eq!(a.feed(origin).frozen.is_some(), frozen, "{deed:?}: {:?}", a.feed(origin).frozen);
    assert_eq!(b.feed(origin).frozen, None, "whoever was shown nothing wrong freezes nothing");
    if deed != Deed::ForkFromTheStart {
        assert!(!split(&a, &b, origin), "{deed:?}: what was refused is nowhere in what is held");
    }
    if frozen {
        // It stays so, at the last good head, whatever comes.
        assert_eq!(a.size(origin), seen);
        assert!(matches!(a.take(origin, batch(line, seen, seen + 1, seen + 1)), Err(AcceptError::Frozen(_))));
        if let Disk::Store(keeper) = &mut a.disk {
            keeper.restart();
            assert_eq!(keeper.feeds().cosign_again(origin, NOW + 1_000_000).unwrap(), None);
        }
        assert!(a.feed(origin).frozen.is_some());
    } else if deed != Deed::ForkFromTheStart {
        // Nothing is held against the feed: it goes on.
        a.follow(&mut dice, line, COMMON);
    }
    a.check_cosignatures();
    b.check_cosignatures();
    deed
}

/// Every seed of a share: how often which deed was done, and which failed.
fn run_all(seeds: impl Iterator<Item = u64>, make: fn() -> Follower) -> (BTreeMap<Deed, u64>, Vec<u64>) {
    let (mut deeds, mut failed) = (BTreeMap::new(), Vec::new());
    for seed in seeds {
        match std::panic::catch_unwind(|| run(seed, make)) {
            Ok(deed) => *deeds.entry(deed).or_default() += 1,
            Err(_) => failed.push(seed),
        }
    }
    (deeds, failed)
}

fn run_seeds(count: u64, make: fn() -> Follower) {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        eprintln!("SEED={seed}: {:?}", run(seed, make));
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = |share| std::thread::spawn(move || run_all((share..count).step_by(threads as usize), make));
    let shares: Vec<_> = (0..threads).map(share).collect();
    let (mut all, mut failed) = (BTreeMap::<Deed, u64>::new(), Vec::new());
    for share in shares {
        let (deeds, seeds) = share.join().unwrap();
        deeds.into_iter().for_each(|(deed, times)| *all.entry(deed).or_default() += times);
        failed.extend(seeds);
    }
    assert!(failed.is_empty(), "{} of {count} failed; repeat one with SEED={}", failed.len(), failed[0]);
    eprintln!("{count} seeds: {all:?}");
    assert!(DEEDS.iter().all(|deed| all.get(deed).is_some_and(|times| *times > 0)), "some deed was never done: {all:?}");
}

#[test]
fn a_thousand_publishers_are_found_out_and_honest_ones_are_not() {
    run_seeds(SEEDS, Follower::in_memory);
}

#[test]
fn the_same_on_a_store_that_signs() {
    run_seeds(STORED, Follower::stored);
}

/// The protocol's own answers: who has less than was seen, or another past, says so before anything is sent.
#[test]
fn a_cursor_finds_out_an_honest_program_with_another_past() {
    let Publisher { line, .. } = publisher();
    let mut follower = Follower::in_memory();
    follower.follow(&mut Dice(1), line, 9);
    assert_eq!(follower.ask(line, 9), None);
    assert_eq!(follower.ask(line, 8), Some(Code::CursorAhead));
    assert_eq!(follower.ask(&rewritten(line, 8, 5), 13), Some(Code::Fork));
    assert_eq!(follower.ask(&rewritten(line, 9, 5), 14), None, "what comes after is nobody's past yet");
}
