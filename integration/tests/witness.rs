//! The witness: whatever races, restarts and is restored, it never signs two roots for one size, and never a smaller size
//! after a larger. And what is kept of receipts and cosignatures is found again, no more and no less. SEED=… repeats.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use lotline_integration::forge::{Forge, Keeper, Line, Node, record};
use lotline_integration::world::{Dice, seed};
use lotline_node::exchange::BATCH_ENTRIES_MAX;
use lotline_node::exchange::message::Cosigned;
use lotline_node::feeds::witness::{self, Evidence, FRESH_FOR_SECONDS};
use lotline_node::feeds::{OnConflict, Submission, accept};
use lotline_node::ledger::{Intent, Items, Outcome, Sent};
use lotline_schema::delivery::{Delivery, Way};
use lotline_schema::note::{Checkpoint, Cosignature, WitnessKey};
use lotline_schema::{Hash, Origin};

const NOW: u64 = 1_795_392_000;

/// Whether a cosignature holds for this checkpoint.
fn holds(cosigned: &Cosigned, checkpoint: &Checkpoint) -> bool {
    let key = WitnessKey::read(&cosigned.key).unwrap();
    cosigned.size == checkpoint.size && Cosignature::read(&cosigned.line).unwrap().verify(checkpoint, &key).is_ok()
}

/// Which of two histories a cosignature is on: exactly one, unless they are one there still.
fn side(cosigned: &Cosigned, lines: &[Line; 2]) -> BTreeSet<usize> {
    let sides: BTreeSet<usize> =
        (0..2).filter(|side| cosigned.size <= lines[*side].size() && holds(cosigned, &lines[*side].checkpoint(cosigned.size))).collect();
    assert!(!sides.is_empty(), "a cosignature on neither history");
    sides
}

/// In the order they were made: one history, and never back.
fn one_history(cosigned: &[Cosigned], lines: &[Line; 2]) {
    let mut sides = BTreeSet::from([0, 1]);
    for (at, one) in cosigned.iter().enumerate() {
        sides = sides.intersection(&side(one, lines)).copied().collect();
        assert!(!sides.is_empty(), "the witness signed both histories, the second at size {}", one.size);
        assert!(cosigned[..at].iter().all(|before| before.size <= one.size), "size {} after a larger one", one.size);
    }
}

/// Two histories of one feed with the same beginning.
fn forked(forge: &mut Forge, same: u64, more: u64) -> [Line; 2] {
    let mut line = forge.open("quality");
    (1..same).for_each(|at| line.publish(forge, &record(&format!("L-{at}"), "P-1", "the same")));
    let mut lines = [line.clone(), line];
    for (side, line) in lines.iter_mut().enumerate() {
        (0..more).for_each(|at| line.publish(forge, &record(&format!("L-{at}"), "P-1", &format!("side {side}"))));
    }
    lines
}

/// Tasks that show both histories at once, each verified against the head of the moment, all through the one writer; with
/// a restart in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn two_histories_race_for_one_witness() {
    let mut dice = Dice(seed());
    let (mut signed, mut refused) = (0, 0);
    for _ in 0..12 {
        let (mut forge, mut node) = (Forge::new("maker"), Node::new("witness").await);
        let lines = Arc::new(forked(&mut forge, 1 + dice.below(3), 40));
        let origin = lines[0].origin.clone();
        node.know_keys_of(&forge).await;
        let follow = origin.clone();
        node.with(move |feeds| feeds.follow(&follow)).await.unwrap();
        let forge = Arc::new(forge);
        let made: Arc<Mutex<Vec<Cosigned>>> = Arc::default();
        for _ in 0..2 {
            let tasks: Vec<_> = (0..16)
                .map(|task| {
                    let (handle, lines, forge, made) = (node.service.handle.clone(), lines.clone(), forge.clone(), made.clone());
                    let (origin, mut dice) = (origin.clone(), Dice(dice.below(u64::MAX)));
                    tokio::spawn(async move {
                        let mut refused = 0;
                        for _ in 0..12 {
                            let snapshot = handle.snapshot();
                            let (feed, org) = (snapshot.feeds[origin.as_str()].clone(), snapshot.orgs[&origin.party()].clone());
                            // What this task believes comes next may be over by the time the writer looks at it.
                            tokio::task::yield_now().await;
                            let line = &lines[task % 2];
                            let (from, to) = (feed.size(), (feed.size() + 1 + dice.below(3)).min(line.size()));
                            if from >= to {
                                break;
                            }
                            let target = origin.clone();
                            if dice.below(4) == 0 {
                                let made = made.clone();
                                let again = move |feeds: &mut lotline_node::feeds::Feeds| {
                                    let cosigned = feeds.cosign_again(&target, NOW).unwrap();
                                    made.lock().unwrap().extend(cosigned);
                                };
                                handle.with(again).await.unwrap();
                                continue;
                            }
                            let Ok(batch) = accept::verify(&org, &origin, &feed.head, line.batch(&forge, from, to)) else {
                                refused += 1;
                                continue;
                            };
                            let made = made.clone();
                            let stored = move |feeds: &mut lotline_node::feeds::Feeds| {
                                let accepted = feeds.accept(batch, None, NOW);
                                // In the writer's order.
                                made.lock().unwrap().extend(accepted.as_ref().ok().and_then(|accepted| accepted.cosigned.clone()));
                                accepted.is_err()
                            };
                            refused += u64::from(handle.with(stored).await.unwrap());
                        }
                        refused
                    })
                })
                .collect();
            for task in tasks {
                refused += task.await.unwrap();
            }
            one_history(&made.lock().unwrap(), &lines);
            node = node.restart().await;
        }
        // What is kept agrees with what left.
        let name = origin.to_string();
        let kept = node.with(move |feeds| feeds.settle().and_then(|()| witness::newest(feeds.reader(), &name))).await.unwrap();
        let kept =
            kept.into_iter().map(|kept| Cosigned { size: Checkpoint::read(&kept.note).unwrap().size, key: kept.key, line: kept.line });
        let mut made = made.lock().unwrap().clone();
        made.extend(kept);
        one_history(&made, &lines);
        signed += made.len();
        node.stop().await;
    }
    eprintln!("{signed} cosignatures, {refused} refused");
    assert!(signed > 100 && refused > 100, "there was hardly a race: {signed} signed, {refused} refused");
}

#[test]
fn a_head_at_rest_is_signed_again_after_an_hour_and_under_another_key_after_a_restore() {
    let (mut forge, mut keeper) = (Forge::new("maker"), Keeper::new("witness"));
    let [line, _] = forked(&mut forge, 4, 2);
    let origin = line.origin.clone();
    keeper.know_keys_of(&forge).unwrap();
    assert_eq!(keeper.feeds().cosign_again(&origin, NOW).unwrap(), None, "what is not followed is not signed");
    // A batch below its checkpoint meets none.
    let mut below = line.batch(&forge, 0, 3);
    below.checkpoint = line.checkpoint(5).sign(&forge.keys.log);
    below.tail = line.tree().consistency(3, 5).unwrap();
    assert_eq!(keeper.take(&origin, below, NOW).unwrap().cosigned, None);
    assert_eq!(keeper.feeds().cosign_again(&origin, NOW).unwrap(), None, "nor is a head without a checkpoint of its own");
    let first = keeper.take(&origin, line.batch(&forge, 3, 5), NOW).unwrap().cosigned.unwrap();
    assert!(holds(&first, &line.checkpoint(5)));
    for later in [0, 1, FRESH_FOR_SECONDS - 1] {
        assert_eq!(keeper.feeds().cosign_again(&origin, NOW + later).unwrap().as_ref(), Some(&first), "{later} s later");
    }
    // A clock that was set back does not make it sign.
    assert_eq!(keeper.feeds().cosign_again(&origin, NOW - 1_000_000).unwrap().as_ref(), Some(&first));
    keeper.restart();
    assert_eq!(keeper.feeds().cosign_again(&origin, NOW + 10).unwrap().as_ref(), Some(&first));
    let second = keeper.feeds().cosign_again(&origin, NOW + FRESH_FOR_SECONDS).unwrap().unwrap();
    assert!(second != first && second.key == first.key && holds(&second, &line.checkpoint(5)));
    assert_eq!(Cosignature::read(&second.line).unwrap().time(), NOW + FRESH_FOR_SECONDS);
    assert_eq!(keeper.feeds().cosign_again(&origin, NOW + FRESH_FOR_SECONDS + 1).unwrap().as_ref(), Some(&second));

    keeper.restore();
    assert!(keeper.feeds().cosign_again(&origin, NOW).is_err(), "nothing is signed before the owner confirms");
    assert!(keeper.take(&origin, line.batch(&forge, 5, 6), NOW).is_err());
    keeper.feeds().confirm_restored(NOW).unwrap();
    let third = keeper.feeds().cosign_again(&origin, NOW + FRESH_FOR_SECONDS + 1).unwrap().unwrap();
    assert!(third.key != first.key && holds(&third, &line.checkpoint(5)), "another key after a restore, at once");
    keeper.restart();
    let fourth = keeper.take(&origin, line.batch(&forge, 5, 6), NOW).unwrap().cosigned.unwrap();
    assert!(fourth.key == third.key && holds(&fourth, &line.checkpoint(6)));
    // The first of each size stays the first.
    keeper.feeds().settle().unwrap();
    let firsts = |keeper: &mut Keeper, seq| witness::first_witnessed(keeper.feeds().reader(), origin.as_str(), seq, |_| true).unwrap();
    for seq in 0..5 {
        let [kept] = &firsts(&mut keeper, seq)[..] else { panic!("one witness") };
        assert_eq!(kept.line, first.line);
    }
    assert_eq!(firsts(&mut keeper, 5)[0].line, fourth.line);
    assert_eq!(firsts(&mut keeper, 6), []);
}

// ---- What is found again ----

/// What a partner signed, for the second search.
#[derive(Default)]
struct Model {
    receipts: Vec<(u64, u64, Vec<u8>)>,
    /// The first line of each size and witness.
    cosigned: BTreeMap<u64, BTreeMap<String, String>>,
    newest: BTreeMap<String, String>,
}

impl Model {
    fn receipts_about(&self, seq: u64) -> BTreeSet<Vec<u8>> {
        self.receipts.iter().filter(|(from, to, _)| (*from..*to).contains(&seq)).map(|(.., core)| core.clone()).collect()
    }

    fn first_witnessed(&self, seq: u64, counts: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
        let holding = self.cosigned.range(seq + 1..).map(|(_, by)| by.iter().filter(|(by, _)| counts(by)));
        let mut found = holding.map(|by| by.map(|(by, line)| (by.clone(), line.clone())).collect::<BTreeMap<_, _>>());
        found.find(|found| !found.is_empty()).unwrap_or_default()
    }
}

const PARTNERS: [&str; 4] = ["a", "b", "late", "oem"];

/// One own feed and what four partners sign of it, each in batches of its own, backfills between them.
fn own_feed(dice: &mut Dice) -> (u64, u64) {
    let mut keeper = Keeper::new("maker");
    let forges: Vec<Forge> = PARTNERS.iter().map(|name| Forge::new(name)).collect();
    // Now and then it is longer than any batch.
    let end = if dice.below(8) == 0 { 1 + dice.below(3 * BATCH_ENTRIES_MAX as u64) } else { 1 + dice.below(80) };
    let other = keeper.feeds().ensure_feed("quality2", NOW).unwrap();
    let origin = keeper.feeds().ensure_feed("quality", NOW).unwrap();
    let record = |at: u64| record(&format!("L-{at}"), "P-1", "ok");
    let submission = |at| Submission { record: record(at), owner: None, feed: "quality".into(), on_conflict: OnConflict::Refuse };
    keeper.feeds().submit((1..end).map(submission).collect(), NOW).unwrap();
    let mut model = Model::default();
    let mut cursors = [0u64; PARTNERS.len()];
    let (mut number, mut time) = (0, NOW);
    for _ in 0..60 {
        let who = dice.below(PARTNERS.len() as u64) as usize;
        let (partner, forge, cursor) = (PARTNERS[who], &forges[who], cursors[who]);
        time += dice.below(100);
        let late = cursor > 0 && dice.below(4) == 0;
        let (from, to) = match late {
            true => {
                let from = dice.below(cursor);
                (from, from + 1 + dice.below(cursor - from))
            }
            false => (cursor, (cursor + 1 + dice.below((end / 8).clamp(1, BATCH_ENTRIES_MAX as u64))).min(end)),
        };
        if from >= to {
            continue;
        }
        let size = to.max(cursor) + dice.below(end + 1 - to.max(cursor));
        let root = Hash::of(&[&size.to_be_bytes()]);
        let way = if late { Way::Backfill } else { Way::Batch };
        let delivery = Delivery {
            origin: origin.to_string(),
            from,
            to,
            size,
            root,
            items: Hash::of(&[&[number as u8]]),
            policy: Some(1),
            terms: None,
            at: time,
            way,
        };
        let items = Items { sent: (from..to).map(|seq| Sent { seq, mask: 1, shares: 0 }).collect(), shares: Vec::new() };
        let intent =
            Intent { to: partner.into(), origin: origin.to_string(), way: way.into(), items, policy: Some(1), digest: delivery.items };
        let row = keeper.feeds().intend(intent, &[], &[], time).unwrap();
        number += 1;
        let core = forge.receipt(&delivery);
        let mut evidence = vec![Evidence::Receipt(row.clone(), core.clone())];
        model.receipts.push((from, to, core));
        if !late {
            cursors[who] = to;
        }
        // Sizes go back at times: a partner that was restored signs again what it signed before.
        if dice.below(2) == 0 {
            let size = if dice.below(5) == 0 { 1 + dice.below(cursors[who]) } else { cursors[who] };
            let checkpoint = Checkpoint { origin: origin.clone(), size, root: Hash::of(&[&size.to_be_bytes()]) };
            let cosigned = forge.cosign(&checkpoint, time);
            model.cosigned.entry(size).or_default().entry(partner.into()).or_insert(cosigned.line.clone());
            model.newest.insert(partner.into(), cosigned.line.clone());
            evidence.push(Evidence::Cosignature { by: partner.into(), checkpoint, cosigned });
        }
        keeper.feeds().conclude(&[(row, Outcome::Acknowledged)], &evidence, time).unwrap();
        if dice.below(30) == 0 {
            keeper.restart();
        }
    }
    keeper.feeds().settle().unwrap();
    let reader = keeper.feeds().reader().clone();
    let name = origin.as_str();
    for seq in 0..end + 2 {
        let found = witness::receipts_about(&reader, name, seq, true).unwrap();
        assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), model.receipts_about(seq), "receipts about {seq}");
        assert_eq!(found.len(), model.receipts_about(seq).len(), "none twice");
        let sorted = |kept: Vec<witness::Kept>| -> BTreeMap<_, _> { kept.into_iter().map(|kept| (kept.by, kept.line)).collect() };
        for counts in [&(|_: &str| true) as &dyn Fn(&str) -> bool, &|by| by == "late", &|by| by != "a", &|_| false] {
            let found = witness::first_witnessed(&reader, name, seq, counts).unwrap();
            assert!(found.iter().all(|kept| Checkpoint::read(&kept.note).unwrap().size > seq));
            assert_eq!(sorted(found), model.first_witnessed(seq, counts), "first witnessed with {seq}");
        }
    }
    let newest: BTreeMap<_, _> = witness::newest(&reader, name).unwrap().into_iter().map(|kept| (kept.by, kept.line)).collect();
    assert_eq!(newest, model.newest);
    // Nothing of one feed is found under another whose name begins alike.
    assert_eq!(witness::receipts_about(&reader, other.as_str(), 0, true).unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(witness::first_witnessed(&reader, other.as_str(), 0, |_| true).unwrap(), []);
    (model.receipts.len() as u64, model.cosigned.values().map(BTreeMap::len).sum::<usize>() as u64)
}

/// A followed feed in batches of any size, most of them below their checkpoint.
fn followed_feed(dice: &mut Dice, forge: &Forge, line: &Line) -> u64 {
    let mut keeper = Keeper::new("witness");
    keeper.know_keys_of(forge).unwrap();
    let origin: Origin = line.origin.clone();
    let (mut model, mut at) = (Model::default(), 0);
    while at < line.size() {
        let to = (at + 1 + dice.below(9)).min(line.size());
        let size = if dice.below(2) == 0 { to } else { to + dice.below(line.size() + 1 - to) };
        let mut batch = line.batch(forge, at, to);
        batch.checkpoint = line.checkpoint(size).sign(&forge.keys.log);
        batch.tail = if size == to { Vec::new() } else { line.tree().consistency(to, size).unwrap() };
        let accepted = keeper.take(&origin, batch, NOW + at).unwrap();
        assert_eq!(accepted.cosigned.is_some(), size == to, "a checkpoint is cosigned when it is met");
        model.receipts.push((at, to, accepted.receipt.unwrap()));
        if let Some(cosigned) = accepted.cosigned {
            assert!(holds(&cosigned, &line.checkpoint(size)));
            model.cosigned.entry(size).or_default().insert(String::new(), cosigned.line);
        }
        at = to;
    }
    keeper.feeds().settle().unwrap();
    let org = keeper.org();
    for seq in 0..line.size() + 1 {
        let reader = keeper.feeds().reader();
        let found = witness::receipts_about(reader, origin.as_str(), seq, false).unwrap();
        assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), model.receipts_about(seq), "receipts about {seq}");
        assert!(found.iter().all(|core| lotline_schema::delivery::Receipt::open(core, &org).is_ok()));
        let first = witness::first_witnessed(reader, origin.as_str(), seq, |_| true).unwrap();
        let first: BTreeMap<_, _> = first.into_iter().map(|kept| (kept.by, kept.line)).collect();
        assert_eq!(first, model.first_witnessed(seq, |_| true), "first witnessed with {seq}");
    }
    model.receipts.len() as u64
}

#[test]
fn what_was_signed_is_found_again_and_nothing_else() {
    let mut dice = Dice(seed());
    let mut forge = Forge::new("maker");
    let [line, _] = forked(&mut forge, 30, 30);
    let (mut receipts, mut cosigned) = (0, 0);
    for _ in 0..24 {
        let (more, also) = own_feed(&mut dice);
        (receipts, cosigned) = (receipts + more + followed_feed(&mut dice, &forge, &line), cosigned + also);
    }
    eprintln!("{receipts} receipts, {cosigned} cosignatures found");
}

/// What is refused leaves no receipt and no cosignature behind, and a frozen feed is not signed again.
#[test]
fn what_is_refused_is_neither_receipted_nor_cosigned() {
    let (mut forge, mut keeper) = (Forge::new("maker"), Keeper::new("witness"));
    let [line, other] = forked(&mut forge, 3, 2);
    keeper.know_keys_of(&forge).unwrap();
    let origin = line.origin.clone();
    keeper.take(&origin, line.batch(&forge, 0, 5), NOW).unwrap();
    for (from, to) in [(0, 5), (3, 5), (4, 5)] {
        assert!(keeper.take(&origin, other.batch(&forge, from, to), NOW).is_err());
    }
    keeper.feeds().freeze(&origin, "for a test", b"", None).unwrap();
    assert_eq!(keeper.feeds().cosign_again(&origin, NOW + FRESH_FOR_SECONDS).unwrap(), None, "a frozen feed");
    keeper.feeds().settle().unwrap();
    let reader = keeper.feeds().reader();
    assert_eq!(witness::receipts_about(reader, origin.as_str(), 4, false).unwrap().len(), 1);
    assert_eq!(witness::newest(reader, origin.as_str()).unwrap().len(), 1);
}
