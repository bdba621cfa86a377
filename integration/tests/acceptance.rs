//! Acceptances of terms from somebody who writes frames by hand: what opens, what is forged, what comes again; and what a receiver
//! keeps of what stands under terms.
#![allow(clippy::unwrap_used, reason = "tests, also outside the test functions")]

use std::collections::{BTreeMap, BTreeSet};

use lotline_integration::forge::{Forge, Keeper, Node, Peer, Wire, record, until};
use lotline_node::exchange::{CREDIT_BYTES, Message};
use lotline_node::feeds::forget::Forget;
use lotline_node::feeds::heard::CHANGES_A_DAY_MAX;
use lotline_node::feeds::terms::{discharge, due, obligations};
use lotline_node::feeds::witness::Evidence;
use lotline_node::feeds::{AcceptError, Backfill, KeptAcceptance, Offer, Received, Under, accept};
use lotline_node::keys::random;
use lotline_node::ledger::{self, Intent, Items, Outcome, Sent};
use lotline_node::service::now;
use lotline_node::store;
use lotline_schema::delivery::{Delivery, Receipt, Way};
use lotline_schema::org::{Entry, Role};
use lotline_schema::terms::{Acceptance, Accepted, Terms};
use lotline_schema::tree::empty_root;
use lotline_schema::{Hash, Origin, PartyId};

const SHARE: &str = "[[share]]\nname = 's'\nwith = 'bad'\nfeed = 'quality'\nparts = 'all'\nshow = 'everything'\nuntil = 'revoked'\nfor = 'audit'\nthen = { pass_on = 'no' }\n";

fn terms() -> Terms {
    Terms::new(BTreeSet::from(["audit".to_owned()]), None, true).unwrap()
}

/// What a partner signs, with whatever key it likes.
fn signed(by: &Forge, key: &Forge, owner: PartyId, number: u64, purposes: &[&str], terms: &[Terms]) -> Vec<u8> {
    let acceptance = Acceptance {
        owner,
        purposes: purposes.iter().map(|purpose| purpose.to_string()).collect(),
        terms: terms.iter().map(|terms| (terms.id(), terms.clone())).collect(),
        at: now(),
    };
    acceptance.seal(by.party(), number, &key.keys.record, random).unwrap().unwrap()
}

struct Scene {
    node: Node,
    bad: Forge,
}

impl Scene {
    async fn new() -> Scene {
        let (node, bad) = (Node::new("maker").await, Forge::new("bad"));
        node.know(bad.as_partner(false)).await;
        node.know_keys_of(&bad).await;
        node.publish("quality", vec![record("L-1", "P-1", "ok")]).await;
        node.apply(SHARE).await;
        Scene { node, bad }
    }

    /// A control stream on which the node has said what it asks for.
    async fn control(&self) -> (Peer, Wire) {
        let peer = Peer::connect(&self.bad, &self.node).await;
        let mut wire = peer.control("bad").await;
        assert!(matches!(wire.next().await, Some(Message::Catalog(_))));
        let Some(Message::Terms(offers)) = wire.next().await else { panic!("the terms") };
        let told = "your share covers every part and lasts until revoked; fields: everything but the inspector, on terms: use it only for: audit, pass it on to nobody";
        assert_eq!(offers, [Offer { feed: "quality".into(), terms: terms(), what: told.into() }]);
        (peer, wire)
    }

    fn accepted(&self) -> Option<KeptAcceptance> {
        self.node.service.handle.snapshot().accepted.get(&self.bad.party()).cloned()
    }

    fn owner(&self) -> PartyId {
        self.node.service.handle.snapshot().party
    }

    async fn open(&self, peer: &Peer) -> Option<Message> {
        let origin = self.node.own("quality").to_string();
        let open = Message::Open { origin, next: 0, root: empty_root(), view: None, credit: CREDIT_BYTES };
        peer.follow(&open).await.next().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_opens_the_feed_and_less_in_a_later_one_closes_it() {
    let scene = Scene::new().await;
    let (peer, mut control) = scene.control().await;
    assert!(matches!(scene.open(&peer).await, Some(Message::Error(_))), "before anything was accepted");
    let (bad, owner) = (&scene.bad, scene.owner());
    // Terms without the purpose, or a purpose without the terms, are not enough.
    for (number, purposes, accepted) in [(1, &[][..], &[terms()][..]), (2, &["audit"], &[]), (3, &["audit"], &[terms()])] {
        control.send(&Message::Accept(signed(bad, bad, owner, number, purposes, accepted))).await;
        until("the acceptance", || scene.accepted().filter(|kept| kept.accepted.number == number)).await;
        assert_eq!(matches!(scene.open(&peer).await, Some(Message::Opened { .. })), number == 3, "{number}");
    }
    // An older one that comes again changes nothing, and costs its sender nothing.
    control.send(&Message::Accept(signed(bad, bad, owner, 2, &[], &[]))).await;
    // The same number again, saying something else, is a lie.
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert_eq!(scene.accepted().unwrap().accepted.number, 3);
    control.send(&Message::Accept(signed(bad, bad, owner, 5, &[], &[]))).await;
    until("the withdrawal", || scene.accepted().filter(|kept| kept.accepted.number == 5)).await;
    assert!(matches!(scene.open(&peer).await, Some(Message::Error(_))), "taken back");
    // After a restart the same holds.
    peer.net.shutdown().await;
    let (node, bad) = (scene.node.restart().await, scene.bad);
    let scene = Scene { node, bad };
    assert_eq!(scene.accepted().unwrap().accepted.number, 5);
}

/// Who is shown something under terms signs which acceptance it came under, or gets nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_for_what_came_under_terms_names_the_acceptance() {
    let scene = Scene::new().await;
    let (peer, mut control) = scene.control().await;
    control.send(&Message::Accept(signed(&scene.bad, &scene.bad, scene.owner(), 1, &["audit"], &[terms()]))).await;
    until("the acceptance", || scene.accepted()).await;
    let origin = scene.node.own("quality").to_string();
    let open = Message::Open { origin, next: 0, root: empty_root(), view: None, credit: CREDIT_BYTES };
    let mut wire = peer.follow(&open).await;
    assert!(matches!(wire.next().await, Some(Message::Opened { .. })));
    let Some(Message::Batch(batch)) = wire.take(&scene.bad).await else { panic!("a batch") };
    assert_eq!((batch.under.len(), batch.under[0].terms, batch.under[0].slots[0].0), (1, terms().id(), 1));
    let trouble = until("the node to name the trouble", || scene.node.board.of("bad").trouble).await;
    assert_eq!(trouble, "a delivery receipt for what came under terms names no acceptance");
}

#[tokio::test(flavor = "multi_thread")]
async fn acceptances_that_do_not_hold_count_for_nothing() {
    let (other, mine) = (Forge::new("other"), Forge::new("mine"));
    type Forging<'a> = &'a dyn Fn(&Scene) -> Vec<u8>;
    let cases: [(&str, Forging<'_>); 5] = [
        ("somebody else's terms", &|scene| signed(&scene.bad, &scene.bad, other.party(), 1, &["audit"], &[terms()])),
        ("it is not an acceptance of that organisation", &|scene| signed(&mine, &mine, scene.owner(), 1, &["audit"], &[terms()])),
        ("does not hold", &|scene| {
            let mut core = signed(&scene.bad, &scene.bad, scene.owner(), 1, &["audit"], &[terms()]);
            *core.last_mut().unwrap() ^= 1;
            core
        }),
        ("does not hold", &|_| b"no statement at all".to_vec()),
        ("two acceptances under number 1", &|scene| signed(&scene.bad, &scene.bad, scene.owner(), 1, &["audit"], &[terms()])),
    ];
    for (at, (why, core)) in cases.into_iter().enumerate() {
        let scene = Scene::new().await;
        let (_peer, mut control) = scene.control().await;
        if at == 4 {
            let first = signed(&scene.bad, &scene.bad, scene.owner(), 1, &[], &[]);
            let party = scene.bad.party();
            assert!(scene.node.with(move |feeds| feeds.take_acceptance(&party, first)).await.unwrap());
        }
        control.send(&Message::Accept(core(&scene))).await;
        let trouble = until("the node to name the trouble", || scene.node.board.of("bad").trouble).await;
        assert!(trouble.contains(why), "{at}: {trouble}");
        assert!(scene.accepted().is_none_or(|kept| kept.accepted.acceptance.terms.is_empty()), "{at}");
    }
    // One by a key that its org feed does not name waits, and counts for nothing.
    let scene = Scene::new().await;
    let (_peer, mut control) = scene.control().await;
    control.send(&Message::Accept(signed(&scene.bad, &mine, scene.owner(), 1, &["audit"], &[terms()]))).await;
    control.send(&Message::Ping).await;
    while control.next().await.unwrap() != Message::Pong {}
    assert!(scene.accepted().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_knows_nothing_of_terms_gets_what_is_free() {
    let scene = Scene::new().await;
    let free = "[[share]]\nname = 'free'\nwith = 'bad'\nfeed = 'quality'\nparts = 'all'\nshow = ['identity']\nuntil = 'revoked'\n";
    scene.node.apply(&format!("{free}{SHARE}")).await;
    let peer = Peer::connect(&scene.bad, &scene.node).await;
    let origin = scene.node.own("quality").to_string();
    let open = Message::Open { origin, next: 0, root: empty_root(), view: None, credit: CREDIT_BYTES };
    let mut wire = peer.follow(&open).await;
    assert!(matches!(wire.next().await, Some(Message::Opened { .. })));
    let Some(Message::Batch(batch)) = wire.next().await else { panic!("a batch") };
    assert!(batch.under.is_empty(), "not a byte about terms");
}

/// What a receiver keeps of what stands under terms: nothing that it did not accept, and found by the day on which it falls due.
#[test]
fn obligations_are_kept_with_what_came_and_found_by_their_day() {
    const DAY: u64 = 86_400;
    let (mut forge, mut keeper) = (Forge::new("maker"), Keeper::new("keeper"));
    let mut line = forge.open("quality");
    for lot in 1..=3 {
        line.publish(&forge, &record(&format!("L-{lot}"), "P-1", "ok"));
    }
    keeper.know_keys_of(&forge).unwrap();
    let (origin, now) = (line.listing().origin.parse::<Origin>().unwrap(), 100 * DAY + 5);
    let ninety = Terms::new(BTreeSet::new(), Some(90), false).unwrap();
    let day = Terms::new(BTreeSet::new(), Some(1), true).unwrap();
    let under = |terms: &Terms, slots: &[(u64, u64)]| Under { terms: terms.id(), slots: slots.to_vec() };
    let batch = |under: Vec<Under>| Received { under, ..line.batch(&forge, 0, 4) };
    let party = forge.party();
    let promise = |keeper: &mut Keeper, terms: &[&Terms]| {
        let terms = terms.iter().map(|terms| (terms.id(), (*terms).clone())).collect();
        keeper.feeds().accept_terms(party, BTreeSet::new(), terms, now).unwrap().unwrap()
    };

    let refused = keeper.take(&origin, batch(vec![under(&ninety, &[(1, 1)])]), now);
    assert!(matches!(refused, Err(AcceptError::Terms)), "nothing was accepted");
    promise(&mut keeper, &[&ninety]);
    let refused = keeper.take(&origin, batch(vec![under(&ninety, &[(1, 1)]), under(&day, &[(1, 2)])]), now);
    assert!(matches!(refused, Err(AcceptError::Terms)), "one of the two was not");
    let number = promise(&mut keeper, &[&ninety, &day]);
    for (why, wrong) in [
        ("the feed's first entry has no slots", vec![under(&day, &[(0, 1)])]),
        ("no such entry", vec![under(&day, &[(4, 1)])]),
        ("no slot", vec![under(&day, &[(1, 0)])]),
        ("a slot that it does not have", vec![under(&day, &[(1, 1 << 63)])]),
        ("places out of order", vec![under(&day, &[(2, 1), (1, 1)])]),
        ("no place", vec![under(&day, &[])]),
        ("a slot under two", vec![under(&day, &[(1, 3)]), under(&ninety, &[(1, 1)])]),
        ("a place twice under one", vec![under(&day, &[(1, 1)]), under(&day, &[(1, 2)])]),
    ] {
        assert!(matches!(keeper.take(&origin, batch(wrong), now), Err(AcceptError::Under)), "{why}");
    }
    let good = vec![under(&ninety, &[(1, 0b11), (2, 0b1)]), under(&day, &[(1, 0b100)])];
    let taken = keeper.take(&origin, batch(good), now).unwrap();
    assert_eq!(Receipt::peek(&taken.receipt.unwrap()).unwrap().terms, Some(number));

    // A restart changes nothing of it.
    keeper.restart();
    keeper.feeds().settle().unwrap();
    let reader = keeper.feeds().reader().clone();
    let kept = obligations(&reader, &origin, 1).unwrap();
    let kept: Vec<_> = kept.into_iter().map(|of| (of.due(), of.terms, of.mask, of.received)).collect();
    assert_eq!(kept, [(Some(now + 90 * DAY), ninety.clone(), 0b11, now), (Some(now + DAY), day.clone(), 0b100, now)]);
    assert_eq!(obligations(&reader, &origin, 3).unwrap(), [], "free");
    let due_at = |at: u64| -> Vec<(u64, u64)> { due(&reader, at, 99).unwrap().into_iter().map(|of| (of.seq, of.mask)).collect() };
    assert_eq!(due_at(now + DAY - 1), []);
    assert_eq!(due_at(now + DAY), [(1, 0b100)]);
    assert_eq!(due_at(now + 90 * DAY - 1), [(1, 0b100)]);
    assert_eq!(due_at(now + 90 * DAY), [(1, 0b100), (1, 0b11), (2, 0b1)]);
    assert_eq!(due(&reader, now + 90 * DAY, 1).unwrap().len(), 1);
    // What came free stays free when it comes again under terms, and what was forgotten comes under none.
    let (feed, org) = (keeper.feeds().snapshot().feeds[origin.as_str()].clone(), keeper.feeds().snapshot().orgs[&party].clone());
    let forget = Forget { feed: feed.id, seq: 2, slots: 0b10 };
    keeper.feeds().forget(&[forget], "asked", now).unwrap();
    keeper.feeds().settle().unwrap();
    let before: Vec<_> = (1..4).map(|seq| obligations(&reader, &origin, seq).unwrap()).collect();
    let items = (1..4).map(|seq| (seq, line.entries[seq as usize].view())).collect();
    let again = Backfill { items, policy: Some(1), under: vec![under(&ninety, &[(1, 0b111), (2, 0b111), (3, 0b111)])] };
    let leaf_of = |seq| reader.row(feed.id, seq).unwrap().map(|row| Hash(row.leaf));
    let verified = accept::verify_backfill(&org, &feed, again, leaf_of).unwrap();
    let receipt = keeper.feeds().accept_backfill(verified, now + DAY).unwrap().unwrap();
    assert_eq!(Receipt::peek(&receipt).unwrap().terms, Some(number), "it came under the acceptance all the same");
    keeper.feeds().settle().unwrap();
    assert_eq!((1..4).map(|seq| obligations(&reader, &origin, seq).unwrap()).collect::<Vec<_>>(), before);
    // What is gone is due no more.
    for entry in discharge(&reader, &origin, 1, 0b101).unwrap() {
        let store::Entry::State { key, value } = entry else { panic!("state alone") };
        assert!(!key.is_empty() && value.as_ref().is_none_or(|value| !value.is_empty()));
    }
}

/// Whatever a partner says, and however often: what is kept of it is bounded, and what a receipt names is among it.
#[test]
fn nobody_fills_a_store_with_acceptances_or_terms() {
    let (bad, mut keeper) = (Forge::new("bad"), Keeper::new("keeper"));
    keeper.know_keys_of(&bad).unwrap();
    let (party, owner) = (bad.party(), keeper.feeds().snapshot().party);
    let take = |keeper: &mut Keeper, number: u64| {
        let core = signed(&bad, &bad, owner, number, &[], &[]);
        keeper.feeds().take_acceptance(&party, core).unwrap()
    };
    assert!((1..=15).all(|number| take(&mut keeper, number)));
    let intent = Intent {
        to: "bad".into(),
        origin: "o".into(),
        way: ledger::Way::Batch,
        items: Items { sent: vec![Sent { seq: 1, mask: 1, shares: 0 }], shares: Vec::new() },
        policy: Some(1),
        digest: Hash([8; 32]),
    };
    let row = keeper.feeds().intend(intent, &[], &[], now()).unwrap();
    let delivery = Delivery {
        origin: "o".into(),
        from: 1,
        to: 2,
        size: 2,
        root: Hash([7; 32]),
        items: Hash([8; 32]),
        policy: Some(1),
        terms: Some(15),
        at: now(),
        way: Way::Batch,
    };
    let receipt = Evidence::Receipt(row.clone(), bad.receipt(&delivery));
    keeper.feeds().conclude(&[(row, Outcome::Acknowledged)], &[receipt], now()).unwrap();
    let most = u64::from(CHANGES_A_DAY_MAX);
    assert!((16..=most).all(|number| take(&mut keeper, number)));
    assert!(!take(&mut keeper, most + 1), "more than a day takes in");
    let offered = |at: u32| vec![Offer { feed: "f".into(), terms: terms(), what: at.to_string() }];
    for at in 1..=CHANGES_A_DAY_MAX + 5 {
        for _ in 0..2 {
            keeper.feeds().take_offers(party, offered(at)).unwrap();
        }
    }
    assert_eq!(keeper.feeds().snapshot().offers[&party], offered(CHANGES_A_DAY_MAX), "what is said again is no change");
    keeper.restart();
    keeper.feeds().settle().unwrap();
    let kept = keeper.feeds().reader().states(b"accepted/", None, 999).unwrap();
    let kept: Vec<u64> = kept.iter().map(|(key, _)| u64::from_be_bytes(*key.last_chunk().unwrap())).collect();
    assert_eq!(kept, std::iter::once(15).chain(most - 7..=most).collect::<Vec<_>>());
    assert_eq!(keeper.feeds().snapshot().accepted[&party].accepted.number, most);
    assert!(take(&mut keeper, most + 1));
}

/// A restored home may lack what it accepted or withdrew since the backup: what it holds is said again, under a number that counts.
#[test]
fn a_restored_home_signs_anew_what_it_accepted() {
    let (maker, mut keeper) = (Forge::new("maker").party(), Keeper::new("keeper"));
    let all = BTreeMap::from([(terms().id(), terms())]);
    let before = keeper.feeds().accept_terms(maker, ["audit".to_owned()].into(), all.clone(), now()).unwrap().unwrap();
    let said = |keeper: &mut Keeper| Accepted::peek(&keeper.feeds().acceptance(&maker, now()).unwrap().unwrap()).unwrap();
    assert_eq!(said(&mut keeper).number, before, "said as it was signed");
    keeper.restore();
    keeper.feeds().confirm_restored(now()).unwrap();
    let after = said(&mut keeper);
    assert!(after.number > before + 1 && after.acceptance.terms == all, "a withdrawal that was lost does not outlive it");
    assert_eq!(said(&mut keeper).number, after.number, "once");
    keeper.restart();
    assert_eq!(said(&mut keeper).number, after.number, "once");
}

/// Who stole a key and accepts under the highest number there is stands in nobody's way once the key is revoked.
#[test]
fn a_revoked_key_bars_no_later_acceptance() {
    let (mut bad, fresh, mut keeper) = (Forge::new("bad"), Forge::new("fresh"), Keeper::new("keeper"));
    keeper.know_keys_of(&bad).unwrap();
    let (party, owner) = (bad.party(), keeper.feeds().snapshot().party);
    let counts = |keeper: &mut Keeper| keeper.feeds().snapshot().accepted.get(&party).map(|kept| kept.accepted.number);
    for number in [5, 1 << 62] {
        assert!(keeper.feeds().take_acceptance(&party, signed(&bad, &bad, owner, number, &[], &[])).unwrap());
    }
    assert!(!keeper.feeds().take_acceptance(&party, signed(&bad, &bad, owner, 6, &[], &[])).unwrap());
    let from = [(Origin::org(party).to_string(), bad.org.size()), (Origin::new(party, "receipts", 1).unwrap().to_string(), 6)].into();
    bad.state(&Entry::Rotation { role: Role::Record, key: fresh.keys.record.public(), from, reason: "stolen".into() });
    keeper.know_keys_of(&bad).unwrap();
    assert_eq!(counts(&mut keeper), Some(5), "the newest that its keys vouch for");
    assert!(keeper.feeds().take_acceptance(&party, signed(&bad, &fresh, owner, 6, &[], &[])).unwrap());
    assert_eq!(counts(&mut keeper), Some(6));
    keeper.restart();
    assert_eq!(counts(&mut keeper), Some(6));
}

#[test]
fn what_is_accepted_is_read_back_as_it_was_signed() {
    let (by, owner) = (Forge::new("by"), Forge::new("owner").party());
    let other = Terms::new(BTreeSet::new(), Some(14), false).unwrap();
    let core = signed(&by, &by, owner, 7, &["audit", "containment"], &[terms(), other.clone()]);
    let read = Accepted::peek(&core).unwrap();
    assert_eq!(read.number, 7);
    assert_eq!(read.acceptance.terms, BTreeMap::from([(terms().id(), terms()), (other.id(), other)]));
    // Every altered byte is refused, or is not what was signed.
    for at in 0..core.len() {
        let mut altered = core.clone();
        altered[at] ^= 1;
        assert_ne!(altered, core);
        let _ = Accepted::peek(&altered);
    }
}
