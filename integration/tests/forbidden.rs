//! "Forbidden" and "does not exist" are one answer: byte for byte, whatever a partner sends about a feed, and in the same time.
//!
//! `PAIRS=…` times another number of pairs than 10,000. The medians are printed, not asserted: on a busy computer they are its own.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use lotline_integration::forge::{Forge, Node, Peer, Wire, record, within};
use lotline_node::exchange::message::Cosigned;
use lotline_node::exchange::{CREDIT_BYTES, Code, Message};
use lotline_node::feeds::deletion::gone_of;
use lotline_node::feeds::{AcceptError, Backfill, Head, Received, accept};
use lotline_node::keys::random;
use lotline_node::links;
use lotline_node::net::Protocol;
use lotline_schema::deletion::Deletion;
use lotline_schema::delivery::{Delivery, Way};
use lotline_schema::note::Checkpoint;
use lotline_schema::tree::empty_root;
use lotline_schema::{Hash, Origin};

const PAIRS: usize = 10_000;

/// A node with feeds of every fate, and a partner that may see one of them.
struct House {
    node: Node,
    /// May see `open`, and nothing else.
    guest: Forge,
    /// May see nothing.
    rival: Forge,
    other: Forge,
}

fn rules() -> String {
    let share = |name: &str, feed: &str, show: &str, more: &str| {
        format!("[[share]]\nname = '{name}'\nwith = 'guest'\nfeed = '{feed}'\nparts = 'all'\nshow = {show}\n{more}\n")
    };
    [
        share("open", "open", "'everything'", "until = 'revoked'"),
        share("ended", "ended", "'everything'", "until = 2026-01-01"),
        share("later", "later", "'everything'", "from = 2999-01-01\nuntil = 'revoked'"),
        share("banned", "banned", "['lot', 'part']", "until = 'revoked'"),
        "[[never]]\nname = 'ban'\nwith = 'guest'\nshow = 'everything'\nfeed = 'banned'\n".into(),
    ]
    .concat()
}

impl House {
    async fn new() -> House {
        let node = Node::new("maker").await;
        let [guest, rival, mut other] = ["guest", "rival", "other"].map(Forge::new);
        let mut line = other.open("theirs");
        line.publish(&other, &record("L-1", "P-1", "theirs"));
        for forge in [&guest, &rival, &other] {
            node.know(forge.as_partner(true)).await;
            node.know_keys_of(forge).await;
        }
        for feed in ["open", "private", "ended", "later", "banned"] {
            node.publish(feed, (0..20).map(|at| record(&format!("{feed}-{at}"), "P-1", "text")).collect()).await;
        }
        // A feed of another party's that is here.
        let (origin, org, batch) = (line.origin.clone(), other.org.clone(), line.batch(&other, 0, line.size()));
        let held = node.with(move |feeds| {
            feeds.follow(&origin)?;
            let verified = accept::verify(&org, &origin, &Head::default(), batch)?;
            feeds.accept(verified, None, feeds.clock().now()).map(drop)
        });
        held.await.unwrap_or_else(|why: AcceptError| panic!("{why}"));
        node.apply(&rules()).await;
        House { node, guest, rival, other }
    }

    /// Names under which there is nothing for the guest, and why.
    fn hidden(&self) -> Vec<(&'static str, String)> {
        let own = |name: &str| self.node.own(name).to_string();
        vec![
            ("never existed", own("nothing")),
            ("exists and is not shared", own("private")),
            ("a share that ended", own("ended")),
            ("a share that has not begun", own("later")),
            ("wholly banned", own("banned")),
            ("a life that is to come", self.node.own("private").renewed().to_string()),
            ("a life that is to come of what it may see", self.node.own("open").renewed().to_string()),
            ("another party's that is here", Origin::new(self.other.party(), "theirs", 1).unwrap().to_string()),
            ("another party's that is not", Origin::new(self.other.party(), "nothing", 1).unwrap().to_string()),
            ("another party's keys", Origin::org(self.other.party()).to_string()),
            ("a stranger's", Origin::new(Forge::new("stranger").party(), "quality", 1).unwrap().to_string()),
            ("its own, which is not here", Origin::new(self.guest.party(), "quality", 1).unwrap().to_string()),
            ("the ledger", lotline_node::ledger::origin(self.node.own("open").party()).to_string()),
            ("the rules", own("open").replace("/open/", "/policy/")),
            ("no origin at all", "no origin at all".into()),
            ("nothing", String::new()),
            ("a path", "../../etc/passwd".into()),
            ("a long one", "x".repeat(4_000)),
        ]
    }
}

/// Every way to ask for a feed, and everything that can be said of it in the same breath. Nothing in them differs but the name.
fn conversations(forge: &Forge, origin: &str) -> Vec<(String, Vec<Message>)> {
    let open = |next, root, view, credit| Message::Open { origin: origin.into(), next, root, view, credit };
    let plain = || open(0, empty_root(), None, CREDIT_BYTES);
    let delivery = Delivery {
        origin: origin.chars().take(100).collect(),
        from: 0,
        to: 1,
        size: 1,
        root: Hash([7; 32]),
        items: Hash([8; 32]),
        policy: Some(1),
        terms: None,
        at: 1_795_392_000,
        way: Way::Batch,
    };
    let receipt = forge.receipt(&delivery);
    let cosigned = match origin.parse::<Origin>() {
        Ok(origin) => forge.cosign(&Checkpoint { origin, size: 1, root: Hash([7; 32]) }, 1_795_392_000),
        Err(_) => Cosigned { size: 1, key: "key".into(), line: "line".into() },
    };
    let ack = |next| Message::Ack { next, credit: 1 << 20, receipt: Some(receipt.clone()) };
    let mut all = Vec::new();
    for next in [0, 1, 20, 21, 22, 1 << 40, i64::MAX as u64] {
        for root in [empty_root(), Hash([0; 32])] {
            for view in [None, Some(Hash([9; 32]))] {
                for credit in [0, 1, CREDIT_BYTES] {
                    all.push((format!("Open from {next}, credit {credit}"), vec![open(next, root, view, credit)]));
                }
            }
        }
    }
    let said = [
        ("Ack", ack(1)),
        ("Ack of much", ack(1 << 40)),
        ("Receipts", Message::Receipts(vec![receipt.clone(), receipt.clone()])),
        ("no Receipts", Message::Receipts(Vec::new())),
        ("Cosigned", Message::Cosigned(cosigned)),
        ("Open again", plain()),
        (
            "Batch",
            Message::Batch(Received {
                from: 0,
                items: Vec::new(),
                checkpoint: String::new(),
                tail: Vec::new(),
                policy: None,
                under: Vec::new(),
            }),
        ),
        ("Backfill", Message::Backfill(Backfill { items: Vec::new(), policy: None, under: Vec::new() })),
        ("CaughtUp", Message::CaughtUp { size: 1 }),
        ("View", Message::View { view: Hash([1; 32]), term: "term".into() }),
        ("Opened", Message::Opened { view: Hash([1; 32]), size: 1, org_size: 1, term: "term".into(), owed: true }),
        ("Lost", Message::Lost { since: 0, after: None }),
        ("Given", Message::Given { receipts: vec![receipt.clone()], next: None }),
        ("Error", Message::Error(Code::Fork)),
        ("Ping", Message::Ping),
        ("Catalog", Message::Catalog(Vec::new())),
    ];
    for (what, message) in said {
        all.push((format!("Open and {what}"), vec![plain(), message.clone()]));
        all.push((format!("{what} and no Open"), vec![message]));
    }
    all
}

/// Everything that the node answers to these, until it ends the stream; on a transport that loses nothing.
async fn answer(house: &House, forge: &Forge, said: &[Message]) -> Vec<u8> {
    let snapshot = house.node.service.handle.snapshot();
    let partner = snapshot.book[&forge.name].clone();
    let (near, far) = tokio::io::duplex(1 << 16);
    let serving = tokio::spawn(links::serve(house.context(), partner, near));
    let mut wire = Wire::new(far);
    for message in said {
        wire.send(message).await;
    }
    wire.drain().await;
    let _ = within("serving to end", serving).await.expect("serving does not panic");
    wire.read
}

impl House {
    fn context(&self) -> links::Context {
        let node = &self.node;
        links::Context {
            net: node.net.clone(),
            handle: node.service.handle.clone(),
            board: node.board.clone(),
            pairings: None,
            capture: None,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_answers_as_what_does_not_exist() {
    let house = House::new().await;
    let no = Message::Error(Code::NoSuchFeed).to_frame();
    let hidden = house.hidden();
    // A name of the house that never existed is what all others are compared with.
    let missing = conversations(&house.guest, &hidden[0].1);
    let (mut asked, mut refused) = (0, 0);
    for (at, (how, said)) in missing.iter().enumerate() {
        let expected = answer(&house, &house.guest, said).await;
        let opens = matches!(said[0], Message::Open { .. });
        assert_eq!(expected == no, opens, "{how}: {expected:?}");
        for (why, name) in &hidden[1..] {
            let (_, said) = conversations(&house.guest, name).swap_remove(at);
            assert_eq!(answer(&house, &house.guest, &said).await, expected, "{why}: {how}");
            asked += 1;
            refused += u32::from(opens);
        }
        // Who sees nothing hears the same of what others may see, the keys among it.
        for name in [house.node.own("open"), Origin::org(house.node.own("open").party())] {
            let (_, said) = conversations(&house.rival, name.as_str()).swap_remove(at);
            assert_eq!(answer(&house, &house.rival, &said).await, expected, "a rival asks for {}: {how}", name.name());
            asked += 1;
        }
    }
    eprintln!("{asked} conversations, {refused} of them about a feed by its name: one answer each");
    // The control: what may be seen answers otherwise.
    let (_, said) = conversations(&house.guest, house.node.own("open").as_str()).swap_remove(2);
    let partner = house.node.service.handle.snapshot().book["guest"].clone();
    let (near, far) = tokio::io::duplex(1 << 16);
    let serving = tokio::spawn(links::serve(house.context(), partner, near));
    let mut wire = Wire::new(far);
    wire.send(&said[0]).await;
    assert!(matches!(wire.next().await, Some(Message::Opened { .. })));
    serving.abort();
}

/// The same over the network, and a feed that becomes forbidden while it is followed.
#[tokio::test(flavor = "multi_thread")]
async fn over_the_network_too() {
    let house = House::new().await;
    let peer = Peer::connect(&house.guest, &house.node).await;
    let mut answers = Vec::new();
    for (_, name) in house.hidden() {
        let mut wire = peer.stream(Protocol::Feed).await;
        wire.send(&conversations(&house.guest, &name)[2].1[0]).await;
        wire.drain().await;
        answers.push(wire.read);
    }
    house.node.apply("").await;
    let mut wire = peer.follow(&conversations(&house.guest, house.node.own("open").as_str())[2].1[0]).await;
    wire.drain().await;
    answers.push(wire.read);
    assert!(answers.iter().all(|answer| *answer == Message::Error(Code::NoSuchFeed).to_frame()), "{answers:?}");
}

/// What a partner asks on the control stream about receipts says nothing of feeds either.
#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_asked_for_in_vain() {
    let house = House::new().await;
    let peer = Peer::connect(&house.rival, &house.node).await;
    let mut control = peer.control("rival").await;
    assert!(matches!(control.next().await, Some(Message::Catalog(_))));
    for since in [0, 1, 1_795_392_000, u64::MAX >> 1] {
        let afters = house.hidden().into_iter().flat_map(|(_, name)| [name.clone().into_bytes(), format!("given/{name}").into_bytes()]);
        for after in std::iter::once(None).chain(afters.map(Some)) {
            if after.as_ref().is_some_and(|after| after.len() > 200) {
                continue;
            }
            control.send(&Message::Lost { since, after }).await;
            let said = loop {
                match control.next().await.unwrap() {
                    Message::Ping | Message::Pong => {}
                    Message::Terms(asked) => assert_eq!(asked, []),
                    said => break said,
                }
            };
            assert_eq!(said, Message::Given { receipts: Vec::new(), next: None });
        }
    }
}

/// Nor does the answer to a deletion report say which feeds there are, and who got nothing is said to have deleted nothing.
#[tokio::test(flavor = "multi_thread")]
async fn deletion_reports_are_answered_alike() {
    let house = House::new().await;
    let peer = Peer::connect(&house.rival, &house.node).await;
    let mut control = peer.control("rival").await;
    let own = ["open", "private"].map(|name| ("a feed of the house", house.node.own(name).to_string()));
    let rival = &house.rival;
    for (number, (why, origin)) in (1..).zip(own.iter().cloned().chain(house.hidden())) {
        let deletion = Deletion { origin, terms: Hash([1; 32]), entries: vec![(1, 1), (2, 7)], at: 77 };
        let core = deletion.seal(rival.party(), number, &rival.keys.record, random).unwrap();
        control.send(&Message::Deleted(core)).await;
        control.send(&Message::Ping).await;
        let mut said = Vec::new();
        loop {
            match control.next().await.unwrap() {
                Message::Pong => break,
                Message::Noted(number) => said.push(number),
                _ => {}
            }
        }
        assert_eq!(said, [number], "{why}");
    }
    let reader = house.node.service.handle.reader();
    reader.settle().unwrap();
    for name in ["open", "private"] {
        assert_eq!(gone_of(reader, &rival.party(), &house.node.own(name), 1).unwrap(), [], "{name}");
    }
}

#[test]
fn and_in_the_same_time() {
    let pairs = std::env::var("PAIRS").ok().and_then(|pairs| pairs.parse().ok()).unwrap_or(PAIRS);
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let house = home.block_on(House::new());
    // One thread asks and answers, so that nobody waits for another to wake up.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked: Vec<(&str, Vec<Message>)> = house.hidden()[..5]
        .iter()
        .chain(&house.hidden()[7..9])
        .map(|(why, name)| (*why, vec![conversations(&house.guest, name)[2].1[0].clone()]))
        .collect();
    let mut took: Vec<Vec<Duration>> = vec![Vec::with_capacity(pairs); asked.len()];
    runtime.block_on(async {
        for round in 0..pairs {
            // Each comes first as often as any other.
            for at in (0..asked.len()).map(|at| (at + round) % asked.len()) {
                let start = Instant::now();
                answer(&house, &house.guest, &asked[at].1).await;
                took[at].push(start.elapsed());
            }
        }
    });
    let median = |took: &mut Vec<Duration>| {
        took.sort();
        took[took.len() / 2].as_secs_f64() * 1e6
    };
    let medians: Vec<f64> = took.iter_mut().map(median).collect();
    // Whose name it is everybody can read in it: a feed of another party's is compared with one.
    let compared = |at: usize| if at < 5 { 0 } else { medians.len() - 1 };
    for (at, ((why, _), of)) in asked.iter().zip(&medians).enumerate() {
        let (beside, _) = asked[compared(at)];
        eprintln!("{why:<32} median {of:>8.2} us   {:.3} of \"{beside}\", {pairs} pairs", of / medians[compared(at)]);
    }
    home.block_on(async { house.node.stop().await });
}
