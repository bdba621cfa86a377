//! Hostile partners: one that holds a valid transport key and writes raw frames to a node, and one that publishes to a
//! node which follows it. Each attack has one test, with the exact words the node finds for it, and a node that answers
//! an honest partner afterwards.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use lotline_integration::forge::{Forge, Forged, Keeper, Line, Node, Peer, Wire, delivery_of, record, until, within};
use lotline_node::carry::{Carried, CarriedFile};
use lotline_node::exchange::message::{Cosigned, Listing, VERSION};
use lotline_node::exchange::receive::{Cursor, Input, Output, Receiver};
use lotline_node::exchange::{BATCH_ENTRIES_MAX, CREDIT_BYTES, Code, FRAME_BYTES_MAX, Message};
use lotline_node::feeds::{AcceptError, Backfill, FeedError, Item, Partner, Received, witness};
use lotline_node::keys::Keys;
use lotline_node::ledger::Outcome;
use lotline_node::net::{Event, Protocol};
use lotline_node::platform::resident_bytes;
use lotline_node::service::now;
use lotline_schema::cose::Signer;
use lotline_schema::delivery::{Delivery, Receipt, Way};
use lotline_schema::id::peer_id_text;
use lotline_schema::note::Checkpoint;
use lotline_schema::org::Role;
use lotline_schema::slot::Disclosure;
use lotline_schema::statement::{self, Place};
use lotline_schema::tree::empty_root;
use lotline_schema::{Hash, Origin, codec, org};

const MIB: u64 = 1 << 20;

// ---- A partner that asks ----

/// A node with three records in a feed shared with `good` and `bad`, and one in a feed shared with `good` alone.
struct Maker {
    node: Node,
    good: Forge,
    bad: Forge,
}

const RULES: &str = "
    [[share]]
    name = 'quality'
    with = 'good'
    feed = 'all'
    parts = 'all'
    show = 'everything'
    until = 'revoked'

    [[share]]
    name = 'some'
    with = 'bad'
    feed = 'quality'
    parts = 'all'
    show = 'everything'
    until = 'revoked'
";

impl Maker {
    async fn new() -> Maker {
        let (node, good, bad) = (Node::new("maker").await, Forge::new("good"), Forge::new("bad"));
        node.know(good.as_partner(false)).await;
        node.know(bad.as_partner(false)).await;
        node.know_keys_of(&good).await;
        node.know_keys_of(&bad).await;
        node.publish("quality", (0..3).map(|at| record(&format!("L-{at}"), "P-1", "ok")).collect()).await;
        node.publish("private", vec![record("L-9", "P-9", "not for bad")]).await;
        node.apply(RULES).await;
        Maker { node, good, bad }
    }

    async fn bad(&self) -> Peer {
        Peer::connect(&self.bad, &self.node).await
    }

    /// What the node says of the bad partner.
    async fn trouble(&self) -> String {
        until("the node to name the trouble", || self.node.board.of("bad").trouble).await
    }

    /// An honest partner gets everything, whatever happened before.
    async fn still_serves(&self) {
        self.still_serves_all(4).await;
    }

    async fn still_serves_all(&self, size: u64) {
        let peer = Peer::connect(&self.good, &self.node).await;
        let mut wire = peer.follow(&open(&self.node.own("quality"), 0, empty_root())).await;
        assert!(matches!(wire.next().await, Some(Message::Opened { size: now, .. }) if now == size));
        let Some(Message::Batch(batch)) = wire.next().await else { panic!("a batch") };
        assert!(batch.items.len() as u64 == size && batch.items.iter().all(|item| matches!(item, Item::View(_))));
        assert_eq!(self.node.with(|feeds| feeds.snapshot().name.clone()).await, "maker");
        peer.net.shutdown().await;
    }

    /// Raw bytes on a feed stream; the node ends it and says why.
    async fn refuses_bytes(bytes: &[u8], why: &str) {
        let maker = Maker::new().await;
        let peer = maker.bad().await;
        let mut wire = peer.stream(Protocol::Feed).await;
        wire.send_bytes(bytes).await;
        assert_eq!(wire.next().await, None, "a stream out of form ends without an answer");
        assert_eq!(maker.trouble().await, why);
        maker.still_serves().await;
    }

    async fn refuses_frame(typ: u8, body: &[u8], why: &str) {
        let length = (1 + body.len()) as u32;
        Maker::refuses_bytes(&[&length.to_be_bytes()[..], &[typ], body].concat(), why).await;
    }

    /// Messages on a feed stream; the last answer.
    async fn answers(&self, messages: &[Message]) -> Option<Message> {
        let peer = self.bad().await;
        let mut wire = peer.stream(Protocol::Feed).await;
        for message in messages {
            wire.send(message).await;
        }
        let last = wire.last().await;
        peer.net.shutdown().await;
        last
    }
}

fn open(origin: &Origin, next: u64, root: Hash) -> Message {
    Message::Open { origin: origin.to_string(), next, root, view: None, credit: CREDIT_BYTES }
}

const OPEN: u8 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_two_gigabytes() {
    Maker::refuses_bytes(&(1u32 << 31).to_be_bytes(), "a frame of 2147483648 bytes (1 to 1048576 are allowed)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_one_byte_too_long() {
    let declared = (FRAME_BYTES_MAX as u32 + 1).to_be_bytes();
    Maker::refuses_bytes(&declared, "a frame of 1048577 bytes (1 to 1048576 are allowed)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_nothing() {
    Maker::refuses_bytes(&[0; 4], "a frame of 0 bytes (1 to 1048576 are allowed)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_cbor() {
    let body = &open(&Origin::org(Forge::new("x").party()), 0, empty_root()).to_frame()[5..];
    Maker::refuses_frame(OPEN, &body[..body.len() - 1], &format!("a message out of form: cut short at byte {}", body.len() - 5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_keys() {
    Maker::refuses_frame(OPEN, &[0xa2, 0x01, 0x00, 0x01, 0x00], "a message out of form: map keys unsorted or repeated at byte 3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_levels() {
    let mut body = vec![0x81; 10_000];
    body.push(0);
    Maker::refuses_frame(OPEN, &body, "a message out of form: nested too deep at byte 17").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_type_that_may_not_be_skipped() {
    Maker::refuses_frame(0x50, &[0xa0], "a message of unknown type 80").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_type_that_may_be_skipped_is() {
    let maker = Maker::new().await;
    let peer = maker.bad().await;
    let mut wire = peer.stream(Protocol::Feed).await;
    wire.send_frame(0x90, b"whatever it is").await;
    wire.send(&open(&maker.node.own("quality"), 0, empty_root())).await;
    assert!(matches!(wire.next().await, Some(Message::Opened { .. })));
}

/// Cut off in the middle of a frame: nothing happened, and it is no offence.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame() {
    let maker = Maker::new().await;
    let peer = maker.bad().await;
    for _ in 0..5 {
        let frame = open(&maker.node.own("quality"), 0, empty_root()).to_frame();
        let mut wire = peer.stream(Protocol::Feed).await;
        wire.send_bytes(&frame[..frame.len() / 2]).await;
    }
    maker.still_serves().await;
    assert_eq!(maker.node.board.of("bad").trouble, None);
    until("the node to see us", || maker.node.board.of("bad").connected.then_some(())).await;
}

/// Ten seconds of real time: the deadline is the node's, and its clock is not ours to turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_on_which_nothing_comes() {
    let maker = Maker::new().await;
    let peer = maker.bad().await;
    let start = Instant::now();
    let mut silent = peer.stream(Protocol::Feed).await;
    assert_eq!(silent.next().await, None);
    assert!(start.elapsed() >= Duration::from_secs(10), "a slow partner has ten seconds");
    assert_eq!(maker.trouble().await, "silent for too long");
    maker.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_five_streams() {
    let maker = Maker::new().await;
    let peer = maker.bad().await;
    let mut wires = Vec::new();
    for _ in 0..64 {
        let mut wire = peer.follow(&open(&maker.node.own("quality"), 0, empty_root())).await;
        assert!(matches!(wire.next().await, Some(Message::Opened { .. })));
        wires.push(wire);
    }
    let mut beyond = peer.stream(Protocol::Feed).await;
    beyond.send(&open(&maker.node.own("quality"), 0, empty_root())).await;
    assert_eq!(beyond.next().await, None, "the sixty-fifth is closed");
    for wire in &mut wires {
        assert!(matches!(wire.next().await, Some(Message::Batch(_))), "the others live");
    }
    // A stream that ends gives its place to another.
    drop(wires.pop());
    let asked = async {
        loop {
            let mut wire = peer.follow(&open(&maker.node.own("quality"), 0, empty_root())).await;
            if wire.next().await.is_some() {
                break;
            }
        }
    };
    within("a place for a stream", asked).await;
    maker.still_serves().await;
}

/// "Forbidden" and "does not exist" are one answer, byte for byte; so are feeds of others and names that are none.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_not_shared_looks_like_one_that_is_not_there() {
    let maker = Maker::new().await;
    let (peer, node) = (maker.bad().await, &maker.node);
    let mut answers = Vec::new();
    let names = [
        node.own("private").to_string(),
        node.own("nothing").to_string(),
        node.own("private").renewed().to_string(),
        Origin::org(maker.good.party()).to_string(),
        "no origin at all".into(),
    ];
    for name in names {
        // Whatever it claims to know of it.
        for next in [0, 1, 2, 99] {
            let mut wire = peer.stream(Protocol::Feed).await;
            wire.send(&Message::Open { origin: name.clone(), next, root: empty_root(), view: None, credit: 1 }).await;
            wire.drain().await;
            answers.push(wire.read);
        }
    }
    assert!(answers.iter().all(|answer| *answer == Message::Error(Code::NoSuchFeed).to_frame()), "{answers:?}");
    maker.still_serves().await;
}

/// A partner with whom nothing is shared cannot tell that anything exists, not even the org feed.
#[tokio::test(flavor = "multi_thread")]
async fn a_competitor_sees_an_empty_house() {
    let maker = Maker::new().await;
    let rival = Forge::new("rival");
    maker.node.know(rival.as_partner(false)).await;
    let peer = Peer::connect(&rival, &maker.node).await;
    let mut control = peer.control("rival").await;
    assert_eq!(control.next().await, Some(Message::Catalog(Vec::new())));
    for origin in [maker.node.own("quality"), Origin::org(maker.node.own("quality").party())] {
        let mut wire = peer.follow(&open(&origin, 0, empty_root())).await;
        wire.drain().await;
        assert_eq!(wire.read, Message::Error(Code::NoSuchFeed).to_frame());
    }
    maker.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_beyond_the_head() {
    let maker = Maker::new().await;
    for next in [5, u64::from(u32::MAX), i64::MAX as u64] {
        let last = maker.answers(&[open(&maker.node.own("quality"), next, empty_root())]).await;
        assert_eq!(last, Some(Message::Error(Code::CursorAhead)));
    }
    maker.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_with_another_past() {
    let maker = Maker::new().await;
    for next in 0..=4 {
        let last = maker.answers(&[open(&maker.node.own("quality"), next, Hash([7; 32]))]).await;
        assert_eq!(last, Some(Message::Error(Code::Fork)), "at {next}");
    }
    maker.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_of_what_was_never_sent() {
    let maker = Maker::new().await;
    let asked = open(&maker.node.own("quality"), 0, empty_root());
    let last = maker.answers(&[asked, Message::Ack { next: 5, credit: 0, receipt: None }]).await;
    assert_eq!(last, Some(Message::Error(Code::Unexpected)));
    assert_eq!(maker.trouble().await, "a message that does not belong here");
    maker.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_goes_back() {
    let maker = Maker::new().await;
    let peer = maker.bad().await;
    let mut wire = peer.follow(&open(&maker.node.own("quality"), 0, empty_root())).await;
    wire.take_all(&maker.bad).await;
    // One more batch, so that an acknowledgement is due.
    maker.node.publish("quality", vec![record("L-7", "P-1", "one more")]).await;
    let Some(Message::Batch(batch)) = wire.next().await else { panic!("a batch") };
    wire.send(&Message::Ack { next: 3, credit: 0, receipt: Some(maker.bad.receipt(&delivery_of(&batch))) }).await;
    assert_eq!(wire.last().await, Some(Message::Error(Code::Unexpected)));
    maker.still_serves_all(5).await;
}

/// No credit, no bytes, and an acknowledgement must be of something: credit is not to be had for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn credit_of_nothing() {
    let maker = Maker::new().await;
    let (peer, origin) = (maker.bad().await, maker.node.own("quality").to_string());
    let mut wire = peer.follow(&Message::Open { origin, next: 0, root: empty_root(), view: None, credit: 0 }).await;
    assert!(matches!(wire.next().await, Some(Message::Opened { .. })));
    wire.send(&Message::Ack { next: 0, credit: i64::MAX as u64, receipt: None }).await;
    assert_eq!(wire.last().await, Some(Message::Error(Code::Unexpected)));
    maker.still_serves().await;
}

/// More credit than there is does no harm, however often.
#[tokio::test(flavor = "multi_thread")]
async fn credit_of_everything() {
    let maker = Maker::new().await;
    let (peer, origin) = (maker.bad().await, maker.node.own("quality").to_string());
    let mut wire = peer.follow(&Message::Open { origin, next: 0, root: empty_root(), view: None, credit: i64::MAX as u64 }).await;
    for more in 0..3 {
        let batch = loop {
            if let Message::Batch(batch) = wire.next().await.unwrap() {
                break batch;
            }
        };
        let (next, receipt) = (batch.from + batch.items.len() as u64, Some(maker.bad.receipt(&delivery_of(&batch))));
        wire.send(&Message::Ack { next, credit: i64::MAX as u64, receipt }).await;
        maker.node.publish("quality", vec![record(&format!("L-{more}0"), "P-1", "one more")]).await;
    }
    assert!(matches!(wire.next().await, Some(Message::Batch(batch)) if batch.items.len() == 1));
    maker.still_serves_all(7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_out_of_order_on_a_feed() {
    let batch = Message::Batch(Received {
        from: 0,
        items: Vec::new(),
        checkpoint: String::new(),
        tail: Vec::new(),
        policy: None,
        under: Vec::new(),
    });
    let hello = Message::Hello { version: VERSION, name: "bad".into(), now: 0 };
    let orders = |asked: &Message| -> [Vec<Message>; 6] {
        [
            vec![Message::Ack { next: 0, credit: 9, receipt: None }],
            vec![batch.clone()],
            vec![Message::Ping],
            vec![hello.clone()],
            vec![asked.clone(), asked.clone()],
            vec![asked.clone(), Message::CaughtUp { size: 4 }],
        ]
    };
    // Two a node: the third strike cuts the line, and its answer with it.
    for pair in 0..3 {
        let maker = Maker::new().await;
        let asked = open(&maker.node.own("quality"), 0, empty_root());
        for messages in &orders(&asked)[2 * pair..2 * pair + 2] {
            assert_eq!(maker.answers(messages).await, Some(Message::Error(Code::Unexpected)), "{messages:?}");
        }
        maker.still_serves().await;
    }
    // An error of the partner's is no offence: it ends the stream.
    let maker = Maker::new().await;
    let asked = open(&maker.node.own("quality"), 0, empty_root());
    let last = maker.answers(&[asked, Message::Error(Code::Frozen)]).await;
    assert!(!matches!(last, Some(Message::Error(_))), "{last:?}");
    maker.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_out_of_order_on_the_control_stream() {
    let hello = |version| Message::Hello { version, name: "bad".into(), now: 0 };
    let orders: [(&[Message], &str); 4] = [
        (&[Message::Catalog(Vec::new())], "a message that does not belong here"),
        (&[hello(VERSION + 1)], "the partner speaks version 2 of the protocol"),
        (&[hello(VERSION), hello(VERSION)], "a message that does not belong here"),
        (&[hello(VERSION), Message::Ack { next: 0, credit: 0, receipt: None }], "a message that does not belong here"),
    ];
    for (messages, why) in orders {
        let maker = Maker::new().await;
        let peer = maker.bad().await;
        let mut wire = peer.stream(Protocol::Control).await;
        for message in messages {
            wire.send(message).await;
        }
        wire.drain().await;
        assert_eq!(maker.trouble().await, why, "{messages:?}");
        maker.still_serves().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_strikes_and_the_line_is_cut() {
    let maker = Maker::new().await;
    let mut peer = maker.bad().await;
    let strikes = [
        (vec![0; 4], "a frame of 0 bytes (1 to 1048576 are allowed)"),
        ([&5u32.to_be_bytes()[..], &[OPEN, 0xff, 0, 0, 0]].concat(), "a message out of form: not the shortest form at byte 0"),
        // In form, but not in order.
        (Message::Ack { next: 1, credit: 1, receipt: None }.to_frame(), "a message that does not belong here"),
    ];
    for (strike, why) in strikes {
        until("the node to see us", || maker.node.board.of("bad").connected.then_some(())).await;
        let mut wire = peer.stream(Protocol::Feed).await;
        wire.send_bytes(&strike).await;
        wire.drain().await;
        until(why, || maker.node.board.of("bad").trouble.filter(|trouble| trouble == why)).await;
    }
    peer.event("the cut", |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
    maker.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_nothing() {
    let maker = Maker::new().await;
    let stranger = Forge::new("stranger");
    let mut peer = Peer::dial(&stranger, &maker.node).await;
    peer.event("the refusal", |event| match event {
        Event::DialFailed { .. } | Event::Disconnected { .. } => Some(()),
        _ => None,
    })
    .await;
    // TLS had to end before the node knew who it was; no stream comes through.
    if let Ok(stream) = peer.net.open(peer.node, Protocol::Feed).await {
        let mut wire = Wire::new(stream);
        wire.send(&open(&maker.node.own("quality"), 0, empty_root())).await;
        wire.drain().await;
        assert_eq!(wire.read, b"");
    }
    maker.still_serves().await;
}

/// Somebody who was a partner a moment ago: the connection goes, and what is on its way with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_partner_struck_off_the_book_is_cut() {
    let maker = Maker::new().await;
    let mut peer = maker.bad().await;
    let mut wire = peer.follow(&open(&maker.node.own("quality"), 0, empty_root())).await;
    while !matches!(wire.next().await, Some(Message::CaughtUp { .. })) {}
    maker.node.with(|feeds| feeds.remove_partner("bad")).await.unwrap();
    peer.event("the cut", |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
    maker.node.publish("quality", vec![record("L-7", "P-1", "for the others")]).await;
    wire.drain().await;
    assert!(!String::from_utf8_lossy(&wire.read).contains("for the others"));
}

/// Sixty streams that declare a megabyte and send a kilobyte: memory grows with what came, not with what was declared.
#[tokio::test(flavor = "multi_thread")]
async fn declared_bytes_cost_no_memory() {
    let maker = Maker::new().await;
    let peer = maker.bad().await;
    let before = resident_bytes().unwrap_or(0);
    let mut wires = Vec::new();
    for _ in 0..60 {
        let mut wire = peer.stream(Protocol::Feed).await;
        wire.send_bytes(&[&(FRAME_BYTES_MAX as u32).to_be_bytes()[..], &[18; 1024]].concat()).await;
        wires.push(wire);
    }
    let grown = resident_bytes().unwrap_or(0).saturating_sub(before);
    // The other tests of this program run meanwhile: the bound is theirs too, and far below 60 MiB a test.
    assert!(grown < 512 * MIB, "{} MiB more", grown / MIB);
    maker.still_serves().await;
}

// ---- A partner that signs for what it gets ----

/// The first batch of `quality`, on a stream on which nothing was answered yet.
async fn first_batch(wire: &mut Wire) -> Received {
    loop {
        match wire.next().await.expect("the node serves") {
            Message::Batch(batch) => return batch,
            Message::Opened { .. } => {}
            other => panic!("{other:?} before the first batch"),
        }
    }
}

impl Maker {
    /// What became of what was sent to `bad` of the feed `quality`, oldest first.
    async fn outcomes(&self) -> Vec<Outcome> {
        let origin = self.node.own("quality").to_string();
        let rows = self.node.with(|feeds| feeds.settle().and_then(|()| feeds.ledger(0, 10_000))).await.unwrap();
        rows.iter().filter(|row| row.to == "bad" && row.origin == origin).map(|row| row.outcome).collect()
    }

    /// Receipts about an entry of `quality`, and the cosignatures on the first checkpoint with it and on the newest.
    async fn kept(&self, seq: u64) -> (Vec<Vec<u8>>, Vec<witness::Kept>, Vec<witness::Kept>) {
        let origin = self.node.own("quality").to_string();
        let kept = self.node.with(move |feeds| {
            feeds.settle()?;
            let reader = feeds.reader();
            let first = witness::first_witnessed(reader, &origin, seq, |_| true)?;
            Ok::<_, FeedError>((witness::receipts_about(reader, &origin, seq, true)?, first, witness::newest(reader, &origin)?))
        });
        kept.await.unwrap()
    }

    /// Follows `quality` from the start as it should; everything is receipted, and the receipt is kept.
    async fn honest_again(&self) {
        let peer = Peer::connect(&self.bad, &self.node).await;
        let mut wire = peer.follow(&open(&self.node.own("quality"), 0, empty_root())).await;
        wire.take_all(&self.bad).await;
        let last = async {
            while self.outcomes().await.last() != Some(&Outcome::Acknowledged) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within("the receipt to be kept", last).await;
        let (receipts, ..) = self.kept(1).await;
        assert_eq!(receipts.len(), 1);
        assert_eq!(Receipt::open(&receipts[0], &self.bad.org).unwrap().receiver, self.bad.party());
        peer.net.shutdown().await;
    }
}

/// A batch is answered with this; the node ends the stream, says why, and counts the batch as not acknowledged.
async fn refuses_receipt(why: &str, answer: impl FnOnce(&Maker, Delivery) -> Option<Vec<u8>>) {
    let maker = Maker::new().await;
    let peer = maker.bad().await;
    let origin = maker.node.own("quality");
    let before = maker.node.feed(&origin).unwrap().head;
    let mut wire = peer.follow(&open(&origin, 0, empty_root())).await;
    let batch = first_batch(&mut wire).await;
    assert_eq!(wire.next().await, Some(Message::CaughtUp { size: 4 }));
    let receipt = answer(&maker, delivery_of(&batch));
    wire.send(&Message::Ack { next: 4, credit: 0, receipt }).await;
    assert_eq!(wire.last().await, None, "the stream ends");
    assert_eq!(maker.trouble().await, why);
    assert_eq!(maker.node.feed(&origin).unwrap().head, before);
    assert_eq!(maker.outcomes().await, [Outcome::Open]);
    assert_eq!(maker.node.board.of("bad").follows.get(&origin.to_string()), None);
    assert_eq!(maker.kept(1).await, (vec![], vec![], vec![]));
    peer.net.shutdown().await;
    maker.honest_again().await;
    maker.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_without_a_receipt() {
    refuses_receipt("an acknowledgement without a delivery receipt", |_, _| None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_of_another_party() {
    let why = "a delivery receipt does not hold: it is not a receipt of that organisation";
    refuses_receipt(why, |maker, of| Some(maker.good.receipt(&of))).await;
}

const OTHER: &str = "a delivery receipt is for something else than what was sent";

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_for_another_range() {
    refuses_receipt(OTHER, |maker, of| Some(maker.bad.receipt(&Delivery { to: of.to - 1, ..of }))).await;
    refuses_receipt(OTHER, |maker, of| Some(maker.bad.receipt(&Delivery { from: 1, ..of }))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_for_other_items() {
    refuses_receipt(OTHER, |maker, of| Some(maker.bad.receipt(&Delivery { items: Hash([7; 32]), ..of }))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_for_another_policy_version() {
    refuses_receipt(OTHER, |maker, of| Some(maker.bad.receipt(&Delivery { policy: of.policy.map(|version| version + 1), ..of }))).await;
    refuses_receipt(OTHER, |maker, of| Some(maker.bad.receipt(&Delivery { policy: None, ..of }))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_for_another_feed() {
    refuses_receipt(OTHER, |maker, of| {
        let origin = maker.node.own("private").to_string();
        Some(maker.bad.receipt(&Delivery { origin, ..of }))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_for_another_way() {
    refuses_receipt(OTHER, |maker, of| Some(maker.bad.receipt(&Delivery { way: Way::Backfill, ..of }))).await;
}

/// Kept and handed on, it would make the owner's own bundle a contradiction.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_with_a_checkpoint_of_its_own_making() {
    let why = "a delivery receipt names a checkpoint that is not ours";
    refuses_receipt(why, |maker, of| Some(maker.bad.receipt(&Delivery { root: Hash([7; 32]), ..of }))).await;
    refuses_receipt(why, |maker, of| Some(maker.bad.receipt(&Delivery { size: of.size + 1, ..of }))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_with_a_forged_signature() {
    refuses_receipt("a delivery receipt does not hold: the signature does not match", |maker, of| {
        let mut receipt = maker.bad.receipt(&of);
        *receipt.last_mut().unwrap() ^= 1;
        Some(receipt)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_by_a_key_that_is_not_in_the_org_feed() {
    let thief = Signer::from_seed(&[9; 32]);
    let why = format!("a delivery receipt does not hold: key {} may not sign receipts at this place", thief.kid().short());
    refuses_receipt(&why, |maker, of| Some(of.seal(maker.bad.party(), 0, &thief, lotline_node::keys::random).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_is_too_large() {
    let why = "a delivery receipt does not hold: it has 8192 bytes, more than 4096";
    refuses_receipt(why, |_, _| Some(vec![0; 8192])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_is_none() {
    let maker = Maker::new().await;
    let peer = maker.bad().await;
    let mut wire = peer.follow(&open(&maker.node.own("quality"), 0, empty_root())).await;
    first_batch(&mut wire).await;
    wire.send(&Message::Ack { next: 4, credit: 0, receipt: Some(Vec::new()) }).await;
    wire.drain().await;
    assert!(maker.trouble().await.starts_with("a delivery receipt does not hold: "));
    assert_eq!(maker.outcomes().await, [Outcome::Open]);
    maker.still_serves().await;
}

/// A receipt that does not hold is a strike like any other.
#[tokio::test(flavor = "multi_thread")]
async fn three_forged_receipts_and_the_line_is_cut() {
    let maker = Maker::new().await;
    let mut peer = maker.bad().await;
    for _ in 0..3 {
        let mut wire = peer.follow(&open(&maker.node.own("quality"), 0, empty_root())).await;
        first_batch(&mut wire).await;
        wire.send(&Message::Ack { next: 4, credit: 0, receipt: None }).await;
        wire.drain().await;
    }
    peer.event("the cut", |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
    assert_eq!(maker.outcomes().await, [Outcome::Open; 3]);
    maker.still_serves().await;
}

/// Whoever never signs gets two batches on a stream, whatever the credit; each receipt is good for one more.
#[tokio::test(flavor = "multi_thread")]
async fn receipts_withheld_for_ever() {
    let maker = Maker::new().await;
    let more = (0..5 * BATCH_ENTRIES_MAX).map(|at| record(&format!("M-{at}"), "P-1", "one of many")).collect();
    maker.node.publish("quality", more).await;
    let (peer, origin) = (maker.bad().await, maker.node.own("quality").to_string());
    let mut wire = peer.follow(&Message::Open { origin, next: 0, root: empty_root(), view: None, credit: i64::MAX as u64 }).await;
    let first = first_batch(&mut wire).await;
    let out_at_most = async |wire: &mut Wire, frames: usize| {
        // A new record moves nothing either.
        maker.node.publish("quality", vec![record(&format!("N-{frames}"), "P-1", "one more")]).await;
        let mut next = None;
        while let Ok(message) = tokio::time::timeout(Duration::from_millis(500), wire.next()).await {
            match message.expect("the stream stays") {
                Message::Batch(batch) => assert!(next.replace(batch).is_none(), "more than one batch for a receipt"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(maker.outcomes().await.len(), frames, "what left is what the ledger says");
        next.expect("a batch")
    };
    let mut waiting = std::collections::VecDeque::from([first]);
    let second = out_at_most(&mut wire, 2).await;
    waiting.push_back(second);
    for frames in 3..5 {
        let oldest = waiting.pop_front().unwrap();
        let next = oldest.from + oldest.items.len() as u64;
        wire.send(&Message::Ack { next, credit: 0, receipt: Some(maker.bad.receipt(&delivery_of(&oldest))) }).await;
        let batch = out_at_most(&mut wire, frames).await;
        waiting.push_back(batch);
    }
    // Only what was receipted counts.
    drop(wire);
    peer.net.shutdown().await;
    let done = async {
        while maker.outcomes().await != [Outcome::Acknowledged, Outcome::Acknowledged, Outcome::Open, Outcome::Open] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the receipts to be kept", done).await;
}

/// Two batches, no receipt, and on the next stream one for something that was never sent, under a checkpoint of ours: it
/// pays for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_comes_again_for_what_was_never_sent() {
    let maker = Maker::new().await;
    let (peer, origin) = (maker.bad().await, maker.node.own("quality"));
    let mut wire = peer.follow(&open(&origin, 0, empty_root())).await;
    let honest = delivery_of(&first_batch(&mut wire).await);
    drop(wire);
    let last = Delivery { items: Hash([7; 32]), ..honest.clone() };
    for (claimed, paid) in [(last.clone(), false), (Delivery { from: honest.to - 1, ..last }, false), (honest.clone(), true)] {
        let mut wire = peer.follow(&open(&origin, honest.to, honest.root)).await;
        assert!(matches!(wire.next().await, Some(Message::Opened { owed: true, .. })));
        wire.send(&Message::Receipts(vec![maker.bad.receipt(&claimed)])).await;
        let said = wire.next().await;
        // It is told under which view it stands, since it named none.
        assert_eq!((matches!(said, Some(Message::View { .. })), said.is_none()), (paid, !paid), "{claimed:?}: {said:?}");
    }
    assert_eq!(maker.outcomes().await, [Outcome::Acknowledged]);
}

/// Twenty seconds of real time: without its keys nobody's receipt can be checked. The stream ends, which is no strike, and
/// the next one is served; with the keys, the receipt counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_org_feed_never_comes() {
    let maker = Maker::new().await;
    let late = Forge::new("late");
    maker.node.know(late.as_partner(false)).await;
    let (_, some) = RULES.split_once("name = 'some'").unwrap();
    let rules = format!("{RULES}\n[[share]]\nname = 'late'{}", some.replace("'bad'", "'late'"));
    maker.node.apply(&rules).await;
    let peer = Peer::connect(&late, &maker.node).await;
    let asked = open(&maker.node.own("quality"), 0, empty_root());
    for _ in 0..2 {
        let mut wire = peer.follow(&asked).await;
        wire.take_all(&late).await;
        assert_eq!(wire.last().await, None, "the stream ends");
        let trouble = maker.node.board.of("late").trouble;
        assert_eq!(trouble.as_deref(), Some("its org feed did not come, so its delivery receipts cannot be checked"));
    }
    maker.node.know_keys_of(&late).await;
    let mut wire = peer.follow(&asked).await;
    wire.take_all(&late).await;
    let rows = async {
        loop {
            let rows = maker.node.with(|feeds| feeds.settle().and_then(|()| feeds.ledger(0, 100))).await.unwrap();
            let outcomes: Vec<_> = rows.iter().filter(|row| row.to == "late").map(|row| row.outcome).collect();
            if outcomes == [Outcome::Open, Outcome::Open, Outcome::Acknowledged] {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the receipt to count", rows).await;
    maker.still_serves().await;
}

/// Cosignatures that do not hold cost their sender its own evidence and the node nothing: none is kept, none is a strike.
#[tokio::test(flavor = "multi_thread")]
async fn cosignatures_that_do_not_hold() {
    let maker = Maker::new().await;
    let peer = maker.bad().await;
    let mut wire = peer.follow(&open(&maker.node.own("quality"), 0, empty_root())).await;
    let shown = Checkpoint::read(&first_batch(&mut wire).await.checkpoint).unwrap();
    let honest = maker.bad.cosign(&shown, 1_795_392_000);
    let other = Checkpoint { root: Hash([7; 32]), ..shown.clone() };
    let beyond = Checkpoint { size: shown.size + 1, ..shown.clone() };
    // Base64 of key id (4 bytes), time (8), signature (64): the time ends in the 16th digit.
    let digits = |change: fn(&mut String)| {
        let (name, digits) = honest.line.rsplit_once(' ').unwrap();
        let mut digits = digits.to_owned();
        change(&mut digits);
        Cosigned { line: format!("{name} {digits}"), ..honest.clone() }
    };
    let bad = [
        // A size never shown, one of the middle of a batch, and none at all.
        maker.bad.cosign(&beyond, 1),
        maker.bad.cosign(&Checkpoint { size: 2, ..shown.clone() }, 1),
        Cosigned { size: u64::MAX >> 1, ..honest.clone() },
        // Another root under the right size.
        maker.bad.cosign(&other, 1),
        // The line of one key under another.
        Cosigned { key: maker.good.cosign(&shown, 1).key, ..honest.clone() },
        // The time is another than the one signed, is too short, or too long.
        digits(|digits| digits.replace_range(14..15, if digits.as_bytes()[14] == b'B' { "C" } else { "B" })),
        digits(|digits| drop(digits.drain(6..10))),
        digits(|digits| digits.insert_str(6, "AAAA")),
        // No line and no key.
        Cosigned { line: String::new(), ..honest.clone() },
        Cosigned { line: honest.line.replace('\u{2014}', "-"), ..honest.clone() },
        Cosigned { line: format!("{0}\n{0}", honest.line), ..honest.clone() },
        Cosigned { key: String::new(), ..honest.clone() },
        Cosigned { key: "x".repeat(500_000), ..honest.clone() },
    ];
    let before = resident_bytes().unwrap_or(0);
    for at in 0..1_000 {
        let message = Message::Cosigned(bad[at % bad.len()].clone());
        // The half megabyte a few times only.
        assert!(at % bad.len() == bad.len() - 1 && at > 100 || wire.send(&message).await, "the stream stays");
    }
    // They are taken in order: once this one is kept, all have been looked at.
    wire.send(&Message::Cosigned(honest.clone())).await;
    let kept = async {
        while maker.kept(1).await.1.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the one that holds to be kept", kept).await;
    let grown = resident_bytes().unwrap_or(0).saturating_sub(before);
    assert!(grown < 512 * MIB, "{} MiB more", grown / MIB);
    let (receipts, first, newest) = maker.kept(1).await;
    assert_eq!((receipts.len(), first.len(), newest.len()), (0, 1, 1), "nothing else is kept");
    assert_eq!((&first[0].by, &first[0].line), (&"bad".to_owned(), &honest.line));
    assert_eq!(newest, first);
    assert_eq!(maker.node.board.of("bad").trouble, None);
    maker.still_serves().await;
}

/// Thousand cosignatures that all hold: the first stays the first, and no more than one commit is made of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_cosignatures_on_one_checkpoint() {
    let maker = Maker::new().await;
    let peer = maker.bad().await;
    let mut wire = peer.follow(&open(&maker.node.own("quality"), 0, empty_root())).await;
    let shown = Checkpoint::read(&first_batch(&mut wire).await.checkpoint).unwrap();
    assert_eq!(wire.next().await, Some(Message::CaughtUp { size: 4 }));
    for time in 0..1_000 {
        wire.send(&Message::Cosigned(maker.bad.cosign(&shown, 1_000 + time))).await;
    }
    // Another stream, and the same again: still the first one.
    for time in [3_000, 4_000] {
        let mut again = peer.follow(&open(&maker.node.own("quality"), 0, empty_root())).await;
        first_batch(&mut again).await;
        again.send(&Message::Cosigned(maker.bad.cosign(&shown, time))).await;
        let taken = async {
            let line = maker.bad.cosign(&shown, time).line;
            while maker.kept(1).await.2.first().is_none_or(|newest| newest.line != line) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within("the newest to be kept", taken).await;
    }
    let (_, first, newest) = maker.kept(1).await;
    assert_eq!((first.len(), newest.len()), (1, 1));
    assert_eq!(first[0].line, maker.bad.cosign(&shown, 1_000).line, "the first stays the first");
    maker.still_serves().await;
}

// ---- A partner that publishes ----

/// A node that follows `bad`, which offers its org feed and the feed `quality`. The org feed is served honestly, and of
/// `quality` the first two entries.
struct Follower {
    node: Node,
    forge: Forge,
    line: Line,
    /// An honest feed beside it.
    other: Line,
    peer: Peer,
    control: Wire,
    /// Streams of the org feed stay open.
    served: Vec<Wire>,
}

impl Follower {
    async fn new() -> Follower {
        Follower::of(Forge::new("bad")).await
    }

    async fn of(mut forge: Forge) -> Follower {
        let mut line = forge.open("quality");
        line.publish(&forge, &record("L-1", "P-1", "first"));
        let mut other = forge.open("other");
        other.publish(&forge, &record("L-2", "P-2", "beside it"));
        let node = Node::new("customer").await;
        node.know(forge.as_partner(true)).await;
        let peer = Peer::connect(&forge, &node).await;
        let control = peer.control("bad").await;
        Follower { node, forge, line, other, peer, control, served: Vec::new() }
    }

    async fn offer(&mut self, listings: Vec<Listing>) {
        self.control.send(&Message::Catalog(listings)).await;
    }

    /// Offers, serves the org feed, and hands over the stream on which the node asks for another feed.
    async fn asked_for(&mut self, line: &Line) -> Wire {
        self.offer(vec![self.forge.org_listing(), line.listing()]).await;
        let (party, org_size) = (self.forge.party(), self.forge.org.size());
        let mut asked = None;
        // They may be asked for in any order, and the org feed only if it is not followed yet.
        while asked.is_none() || self.node.service.handle.snapshot().orgs.get(&party).is_none_or(|org| org.size() < org_size) {
            let (mut wire, open) = self.peer.asked().await;
            let Message::Open { origin, next, .. } = open else { panic!("{open:?}") };
            if origin == line.origin.to_string() {
                asked = Some(wire);
                continue;
            }
            assert_eq!(origin, Origin::org(party).to_string());
            self.begin(&mut wire, org_size).await;
            if next < org_size {
                wire.send(&Message::Batch(self.forge.org_batch(next))).await;
                assert!(matches!(wire.next().await, Some(Message::Ack { .. })));
            }
            self.served.push(wire);
        }
        let mut wire = asked.expect("asked for above");
        self.begin(&mut wire, line.size()).await;
        wire
    }

    async fn begin(&self, wire: &mut Wire, size: u64) {
        wire.send(&Message::Opened { view: Hash([1; 32]), size, org_size: self.forge.org.size(), term: "all".into(), owed: false }).await;
    }

    /// The node follows `quality` and has its first two entries.
    async fn following(&mut self) -> Wire {
        let line = self.line.clone();
        let mut wire = self.asked_for(&line).await;
        wire.send(&Message::Batch(line.batch(&self.forge, 0, 2))).await;
        assert!(matches!(wire.next().await, Some(Message::Ack { next: 2, .. })));
        wire
    }

    /// The node refuses this batch for this reason, freezes the feed, keeps the evidence, and goes on with other feeds.
    async fn freezes(mut self, batch: Received, why: &str) {
        let mut wire = self.following().await;
        self.freezes_on(&mut wire, Message::Batch(batch), 2, why).await;
    }

    async fn freezes_on(&mut self, wire: &mut Wire, message: Message, size: u64, why: &str) {
        wire.send(&message).await;
        assert_eq!(wire.last().await, Some(Message::Error(Code::Frozen)));
        let feed = self.node.feed(&self.line.origin).unwrap();
        assert_eq!(feed.frozen.as_deref(), Some(why));
        assert_eq!(feed.size(), size, "the feed stays at its last good head");
        assert_eq!(self.evidence().await, Some(message.to_frame()));
        let name = self.line.origin.name();
        let trouble = self.node.board.of("bad").trouble.unwrap();
        assert!(trouble == format!("feed {name}: {why}") || trouble == format!("feed {name} is frozen: {why}"), "{trouble}");
        self.still_follows().await;
    }

    async fn evidence(&self) -> Option<Vec<u8>> {
        let key = format!("evidence/{}", self.line.origin);
        self.node.with(move |feeds| feeds.settle().and_then(|()| Ok(feeds.reader().state(key.as_bytes())?))).await.unwrap()
    }

    /// The batch is refused, but nothing is held against the feed: it goes on where it was.
    async fn refuses(mut self, batch: Received, why: &str) {
        let mut wire = self.following().await;
        wire.send(&Message::Batch(batch)).await;
        assert_eq!(wire.last().await, Some(Message::Error(Code::Unexpected)));
        assert_eq!(self.node.board.of("bad").trouble, Some(format!("feed quality: {why}")));
        let feed = self.node.feed(&self.line.origin).unwrap();
        assert_eq!((feed.frozen.as_deref(), feed.size()), (None, 2));
        self.line.publish(&self.forge, &record("L-3", "P-1", "honest again"));
        let line = self.line.clone();
        let mut wire = self.asked_for(&line).await;
        wire.send(&Message::Batch(line.batch(&self.forge, 2, 3))).await;
        assert!(matches!(wire.next().await, Some(Message::Ack { next: 3, .. })));
        self.still_follows().await;
    }

    /// Another feed of the same partner arrives whole.
    async fn still_follows(&mut self) {
        let other = self.other.clone();
        let mut wire = self.asked_for(&other).await;
        wire.send(&Message::Batch(other.batch(&self.forge, 0, 2))).await;
        assert!(matches!(wire.next().await, Some(Message::Ack { next: 2, .. })));
        assert_eq!(self.node.feed(&other.origin).unwrap().size(), 2);
    }

    /// The history with one more entry of our making, signed as if all were well.
    fn with(&self, entry: Forged) -> Received {
        let mut line = self.line.clone();
        line.entries.push(entry);
        line.batch(&self.forge, 2, 3)
    }

    fn next(&self) -> Forged {
        self.line.seal(&self.forge, &record("L-3", "P-1", "next"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_with_a_broken_signature() {
    let scene = Follower::new().await;
    let Forged { mut core, disclosures, .. } = scene.next();
    *core.last_mut().unwrap() ^= 1;
    let batch = scene.with(Forged::of(core, disclosures));
    scene.freezes(batch, "entry 2: the signature does not match").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_signed_by_another_key() {
    let scene = Follower::new().await;
    let thief = Signer::from_seed(&[9; 32]);
    let place = Place { origin: scene.line.origin.clone(), seq: 2, now: lotline_node::service::now(), supersedes: None };
    let sealed = statement::seal_record(&record("L-3", "P-1", "stolen"), &place, &thief, lotline_node::keys::random).unwrap();
    let batch = scene.with(Forged::of(sealed.core, sealed.disclosures));
    scene.freezes(batch, &format!("entry 2: key {} may not sign records at this place", thief.kid().short())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_with_a_broken_signature() {
    let scene = Follower::new().await;
    let mut batch = scene.with(scene.next());
    let at = batch.checkpoint.len() - 10;
    let other = if batch.checkpoint.as_bytes()[at] == b'A' { "B" } else { "A" };
    batch.checkpoint.replace_range(at..=at, other);
    scene.freezes(batch, "checkpoint: the checkpoint's signature does not match").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_signed_by_another_key() {
    let scene = Follower::new().await;
    let mut batch = scene.with(scene.next());
    batch.checkpoint = Checkpoint::read(&batch.checkpoint).unwrap().sign(&Signer::from_seed(&[9; 32]));
    scene.freezes(batch, "checkpoint: the checkpoint has a signature line that is not the feed's own").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_another_feed() {
    let scene = Follower::new().await;
    let mut batch = scene.with(scene.next());
    batch.checkpoint = scene.other.checkpoint(2).sign(&scene.forge.keys.log);
    scene.freezes(batch, "checkpoint: the checkpoint has a signature line that is not the feed's own").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap() {
    let scene = Follower::new().await;
    let mut line = scene.line.clone();
    line.publish(&scene.forge, &record("L-3", "P-1", "left out"));
    line.publish(&scene.forge, &record("L-4", "P-1", "sent"));
    let batch = line.batch(&scene.forge, 3, 4);
    scene.refuses(batch, "expected entry 2, got 3").await;
}

/// A batch that is not at its turn is refused for that, but what its checkpoint signs is looked at first: here the owner's
/// log signed two histories, and sent the second out of turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_under_another_history_of_the_same_size() {
    let scene = Follower::new().await;
    let mut rewritten = scene.line.clone();
    rewritten.entries.truncate(1);
    rewritten.publish(&scene.forge, &record("L-1", "P-1", "another first"));
    let batch = rewritten.batch(&scene.forge, 1, 2);
    let why = format!("FORK: it signed two different histories of 2 entries of feed {}", scene.line.origin);
    scene.freezes(batch, &why).await;
}

/// The same with a history that stops before ours, and nothing of it sent but its head.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_batch_under_a_shorter_history_of_another_root() {
    let scene = Follower::new().await;
    let mut rewritten = scene.line.clone();
    rewritten.entries.truncate(0);
    rewritten.entries.push(scene.other.entries[0].clone());
    let batch = rewritten.batch(&scene.forge, 1, 1);
    let why = format!("FORK: it signed two different histories of 1 entries of feed {}", scene.line.origin);
    scene.freezes(batch, &why).await;
}

/// The same on a stick: entries that are here already are compared with what the file says of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_carried_file_with_another_history() {
    let mut scene = Follower::new().await;
    let wire = scene.following().await;
    let mut rewritten = scene.line.clone();
    rewritten.entries.truncate(1);
    rewritten.publish(&scene.forge, &record("L-1", "P-1", "another first"));
    let folder = tempfile::tempdir().unwrap();
    let carried = |line: &Line, name: &str| {
        let batches = vec![(line.origin.clone(), line.batch(&scene.forge, 0, 2))];
        let (from, to) = (scene.forge.party(), scene.node.service.handle.snapshot().party);
        let file = folder.path().join(name);
        std::fs::write(&file, CarriedFile::Feed(Carried { from, to, batches }).to_bytes()).unwrap();
        serde_json::json!({ "Receive": { "file": file, "output": null } })
    };
    scene.node.verb(carried(&scene.line, "honest")).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(scene.node.feed(&scene.line.origin).unwrap().frozen, None);
    let failure = scene.node.verb(carried(&rewritten, "forked")).await.unwrap_err();
    assert_eq!(failure.exit, 4, "{failure}");
    let why = scene.node.feed(&scene.line.origin).unwrap().frozen.unwrap();
    assert!(why.starts_with("FORK: it signed two different histories of 2 entries"), "{why}");
    drop(wire);
}

/// The same gap, but with the place filled by the entry after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_closed_over() {
    let scene = Follower::new().await;
    let mut line = scene.line.clone();
    line.publish(&scene.forge, &record("L-3", "P-1", "left out"));
    line.publish(&scene.forge, &record("L-4", "P-1", "sent"));
    let batch = Received { from: 2, ..line.batch(&scene.forge, 3, 4) };
    scene.freezes(batch, "entry 2: it belongs elsewhere: another place in the feed").await;
}

/// Hidden entries cannot be left out either: their leaf hashes must reproduce the signed root.
#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_entry_left_out() {
    let scene = Follower::new().await;
    let mut line = scene.line.clone();
    line.publish(&scene.forge, &record("L-3", "P-1", "hidden"));
    line.publish(&scene.forge, &record("L-4", "P-1", "hidden too"));
    let mut batch = line.batch(&scene.forge, 2, 4);
    batch.items = vec![Item::Hidden(line.entries[3].leaf)];
    let why = "FORK: the signed checkpoint of size 4 is not of the history we were shown: the proof has the wrong number of hashes";
    scene.freezes(batch, why).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_an_old_batch() {
    let scene = Follower::new().await;
    let batch = scene.line.batch(&scene.forge, 0, 2);
    scene.refuses(batch, "expected entry 2, got 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_batch() {
    let scene = Follower::new().await;
    let batch = scene.line.batch(&scene.forge, 2, 2);
    scene.refuses(batch, "an empty batch").await;
}

/// Two histories, each signed as it should be: the second is noticed, and both signatures are kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_fork() {
    let scene = Follower::new().await;
    let mut rewritten = scene.line.clone();
    rewritten.entries.truncate(1);
    rewritten.publish(&scene.forge, &record("L-1", "P-1", "another first"));
    rewritten.publish(&scene.forge, &record("L-3", "P-1", "and on"));
    let batch = rewritten.batch(&scene.forge, 2, 3);
    let why = "FORK: the signed checkpoint of size 3 is not of the history we were shown: the proof leads to another root";
    scene.freezes(batch, why).await;
}

/// The node keeps what proves the fork across a restart, and stays frozen.
#[tokio::test(flavor = "multi_thread")]
async fn a_fork_stays_found_after_a_restart() {
    let mut scene = Follower::new().await;
    let mut wire = scene.following().await;
    let mut rewritten = scene.line.clone();
    rewritten.entries.truncate(1);
    rewritten.publish(&scene.forge, &record("L-1", "P-1", "another first"));
    rewritten.publish(&scene.forge, &record("L-3", "P-1", "and on"));
    let batch = Message::Batch(rewritten.batch(&scene.forge, 2, 3));
    wire.send(&batch).await;
    assert_eq!(wire.last().await, Some(Message::Error(Code::Frozen)));
    let Follower { node, line, forge, .. } = scene;
    let node = node.restart().await;
    let feed = node.feed(&line.origin).unwrap();
    assert!(feed.frozen.unwrap().starts_with("FORK: the signed checkpoint of size 3"));
    // Both signed heads, of one log key, over different pasts of one size: the proof.
    assert_eq!(Checkpoint::open(&feed.head.checkpoint, &forge.keys.log.public()).unwrap().size, 2);
    let key = format!("evidence/{}", line.origin);
    let kept = node.with(move |feeds| Ok::<_, lotline_node::feeds::FeedError>(feeds.reader().state(key.as_bytes())?)).await.unwrap();
    assert_eq!(kept, Some(batch.to_frame()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_for_another_feed() {
    let mut scene = Follower::new().await;
    scene.other.publish(&scene.forge, &record("L-5", "P-2", "elsewhere"));
    let batch = scene.with(scene.other.entries[2].clone());
    scene.freezes(batch, "entry 2: it belongs elsewhere: another feed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_for_another_place() {
    let scene = Follower::new().await;
    let batch = scene.with(scene.line.entries[1].clone());
    scene.freezes(batch, "entry 2: it belongs elsewhere: another place in the feed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_another_issuer() {
    let scene = Follower::new().await;
    let mut victim = Forge::new("victim");
    let mut theirs = victim.open("quality");
    theirs.publish(&victim, &record("L-1", "P-1", "one"));
    theirs.publish(&victim, &record("L-2", "P-1", "two"));
    let batch = scene.with(theirs.entries[2].clone());
    scene.freezes(batch, "entry 2: it belongs elsewhere: another issuer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disclosure_that_fits_no_slot() {
    let scene = Follower::new().await;
    let Forged { core, mut disclosures, .. } = scene.next();
    disclosures[2] = Disclosure::seal(&[3; 16], Some(&codec::text("what was never signed")));
    let batch = scene.with(Forged::of(core, disclosures));
    scene.freezes(batch, "entry 2: a disclosure fits no slot of the statement").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disclosure_given_twice() {
    let scene = Follower::new().await;
    let Forged { core, mut disclosures, .. } = scene.next();
    disclosures.push(disclosures[0].clone());
    let batch = scene.with(Forged::of(core, disclosures));
    scene.freezes(batch, "entry 2: slot 0 is opened twice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_smaller_than_what_we_have() {
    let scene = Follower::new().await;
    let mut batch = scene.with(scene.next());
    batch.checkpoint = scene.line.checkpoint(1).sign(&scene.forge.keys.log);
    let why = "FORK: the signed checkpoint of size 1 is not of the history we were shown: index 3 lies outside a tree of 1";
    scene.freezes(batch, why).await;
}

/// A backfill opens what is there already; it cannot put another statement in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_of_another_statement() {
    let mut scene = Follower::new().await;
    let mut wire = scene.following().await;
    let mut rewritten = scene.line.clone();
    rewritten.entries.truncate(1);
    rewritten.publish(&scene.forge, &record("L-1", "P-1", "another first"));
    let backfill = Message::Backfill(Backfill { policy: None, under: Vec::new(), items: vec![(1, rewritten.entries[1].view())] });
    scene.freezes_on(&mut wire, backfill, 2, "FORK: entry 1 has another leaf hash than the one we were given before").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_of_what_has_not_come_yet() {
    let mut scene = Follower::new().await;
    let mut wire = scene.following().await;
    wire.send(&Message::Backfill(Backfill { policy: None, under: Vec::new(), items: vec![(2, scene.next().view())] })).await;
    assert_eq!(wire.last().await, Some(Message::Error(Code::Unexpected)));
    assert_eq!(scene.node.board.of("bad").trouble.as_deref(), Some("feed quality: expected entry 2, got 2"));
    scene.still_follows().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_org_feed_that_hides_something() {
    let mut scene = Follower::new().await;
    let listing = scene.forge.org_listing();
    scene.offer(vec![listing]).await;
    let (mut wire, _) = scene.peer.asked().await;
    scene.begin(&mut wire, 3).await;
    let mut batch = scene.forge.org_batch(0);
    let Item::View(hidden) = &batch.items[1] else { panic!("an org feed hides nothing") };
    batch.items[1] = Item::Hidden(lotline_schema::tree::leaf_hash(&hidden.core));
    let message = Message::Batch(batch);
    wire.send(&message).await;
    assert_eq!(wire.last().await, Some(Message::Error(Code::Frozen)));
    let feed = scene.node.feed(&Origin::org(scene.forge.party())).unwrap();
    assert_eq!(feed.frozen.as_deref(), Some("an org feed hides nothing, but entry 1 came hidden"));
    assert_eq!(feed.size(), 0);
    assert!(!scene.node.service.handle.snapshot().orgs.contains_key(&scene.forge.party()), "nothing of it is believed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_org_feed_with_a_keyring_nobody_signed() {
    let mut scene = Follower::new().await;
    let listing = scene.forge.org_listing();
    scene.offer(vec![listing]).await;
    let (mut wire, _) = scene.peer.asked().await;
    scene.begin(&mut wire, 3).await;
    let mut batch = scene.forge.org_batch(0);
    let Item::View(keyring) = &mut batch.items[0] else { panic!("an org feed hides nothing") };
    *keyring.core.last_mut().unwrap() ^= 1;
    wire.send(&Message::Batch(batch)).await;
    assert_eq!(wire.last().await, Some(Message::Error(Code::Frozen)));
    let feed = scene.node.feed(&Origin::org(scene.forge.party())).unwrap();
    assert_eq!(feed.frozen.as_deref(), Some("org feed entry 0: the signature does not match"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_entry_that_points_elsewhere() {
    let mut scene = Follower::new().await;
    // It names the org feed of before the feed was opened there, with a root that feed never had.
    let mut before = lotline_schema::org::Org::new(scene.forge.party());
    before.accept(scene.forge.org.entries()[0].clone()).unwrap();
    let elsewhere = org::Entry::Withdrawal { origin: scene.line.origin.clone(), seq: 1, leaf: Hash([0; 32]), reason: "x".into() };
    let mut forked = scene.forge.org.clone();
    let sealed = org::seal(&forked, &elsewhere, 0, &scene.forge.keys.record, lotline_node::keys::random).unwrap();
    forked.accept(sealed.core).unwrap();
    let mut true_org = scene.forge.org.clone();
    let honest = org::seal(&true_org, &elsewhere, 0, &scene.forge.keys.record, lotline_node::keys::random).unwrap();
    true_org.accept(honest.core).unwrap();
    scene.forge.org = true_org;
    let first = org::seal_first(&forked, &scene.line.origin, 0, &scene.forge.keys.record, lotline_node::keys::random).unwrap();
    scene.line.entries[0] = Forged::of(first.core, first.disclosures);
    let line = scene.line.clone();
    let mut wire = scene.asked_for(&line).await;
    let batch = Message::Batch(line.batch(&scene.forge, 0, 1));
    scene.freezes_on(&mut wire, batch, 0, "the feed's first entry does not point to its owner's org feed").await;
}

/// What others state comes from them, never through somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_of_somebody_else_in_the_catalog() {
    let mut scene = Follower::new().await;
    let mut victim = Forge::new("victim");
    let theirs = victim.open("quality");
    let line = scene.line.clone();
    let listings = vec![theirs.listing(), victim.org_listing(), Listing { origin: "nonsense".into(), size: 1, term: String::new() }];
    scene.offer([listings, vec![scene.forge.org_listing(), line.listing()]].concat()).await;
    scene.following().await;
    scene.still_follows().await;
    assert!(scene.node.feed(&theirs.origin).is_none(), "it is not followed");
    assert!(scene.node.feed(&Origin::org(victim.party())).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn catalogs_of_thousands_of_feeds() {
    let mut scene = Follower::new().await;
    let party = scene.forge.party();
    let many = |from: usize| {
        (from..from + 900).map(move |at| Listing {
            origin: Origin::new(party, &format!("f{at}"), 1).unwrap().to_string(),
            size: 1,
            term: String::new(),
        })
    };
    for from in (0..9_000).step_by(900) {
        scene.offer(many(from).collect()).await;
    }
    // More lines than any catalog has are refused unread.
    let small = Listing { origin: String::new(), size: 0, term: String::new() };
    scene.offer(vec![small; 200_000]).await;
    let trouble = until("the refusal", || scene.node.board.of("bad").trouble.filter(|why| why.contains("listings"))).await;
    assert_eq!(trouble, "a message out of form: too many listings in a catalog");
    // Catalogs are taken in order: all of them have been read by now.
    let known = scene.node.service.handle.snapshot().feeds.len();
    assert!(known <= 1 + 4 * 32, "{known} feeds are remembered");
    scene.node.publish("quality", vec![record("L-1", "P-1", "our own work goes on")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_org_feed_that_names_another_transport_key() {
    let honest = Forge::new("somebody");
    let forge = Forge::with_transport_key_of("bad", &honest);
    let mut scene = Follower::of(forge).await;
    let listing = scene.forge.org_listing();
    scene.offer(vec![listing]).await;
    let (mut wire, _) = scene.peer.asked().await;
    scene.begin(&mut wire, 3).await;
    wire.send(&Message::Batch(scene.forge.org_batch(0))).await;
    assert_eq!(wire.last().await, Some(Message::Error(Code::Unexpected)));
    let why = "feed org: the org feed never named the transport key that the partner book has";
    assert_eq!(scene.node.board.of("bad").trouble.as_deref(), Some(why));
    let snapshot = scene.node.service.handle.snapshot();
    assert!(!snapshot.orgs.contains_key(&scene.forge.party()), "nothing of it is believed");
    assert_eq!(snapshot.feeds[&Origin::org(scene.forge.party()).to_string()].size(), 0);
    scene.node.publish("quality", vec![record("L-1", "P-1", "our own work goes on")]).await;
}

/// It falls silent after the first entry, or the node ends between two batches: the home opens, and goes on where it was.
#[test]
fn an_org_feed_that_stops_below_its_checkpoint() {
    let (mut forge, mut keeper) = (Forge::new("bad"), Keeper::new("customer"));
    let line = forge.open("quality");
    forge.open("other");
    let (party, size) = (forge.party(), forge.org.size());
    for to in 1..=size {
        keeper.take_org(party, forge.org_part(to - 1, to)).unwrap();
        keeper.restart();
        let snapshot = keeper.feeds().snapshot().clone();
        assert_eq!((snapshot.orgs[&party].size(), snapshot.feeds[Origin::org(party).as_str()].size()), (to, to));
    }
    keeper.take(&line.origin, line.batch(&forge, 0, 1), now()).unwrap();
}

/// An org entry that gives its owner the name on the network that somebody's keys have.
fn renaming(keys: &Keys) -> org::Entry {
    org::Entry::Rotation { role: Role::Transport, key: keys.transport(), from: Default::default(), reason: String::new() }
}

/// Whoever has a name on the network keeps it, whatever somebody else's root key signs.
#[test]
fn an_org_feed_that_names_the_transport_key_of_somebody_else() {
    let (mut forge, victim, mut keeper) = (Forge::new("bad"), Forge::new("good"), Keeper::new("customer"));
    for firm in [&forge, &victim] {
        keeper.feeds().put_partner(firm.as_partner(true)).unwrap();
        keeper.know_keys_of(firm).unwrap();
    }
    let (peer, us) = (forge.peer().to_string(), keeper.feeds().keys().clone());
    for (keys, whose) in [(&victim.keys, "good"), (&*us, "customer")] {
        forge.state(&renaming(keys));
        keeper.know_keys_of(&forge).unwrap();
        let snapshot = keeper.feeds().snapshot();
        assert_eq!(snapshot.orgs[&forge.party()].size(), forge.org.size(), "the rest of it counts");
        assert_eq!((&snapshot.book["bad"].peer, snapshot.book["bad"].before.len()), (&peer, 0));
        assert_eq!(snapshot.partner_at(&victim.peer().to_string()).unwrap().name, "good");
        assert_eq!(snapshot.misnamed().map(|(partner, other)| (&*partner.name, other)).collect::<Vec<_>>(), [("bad", whose)]);
        let stolen = Partner { peer: peer_id_text(&keys.transport()), ..forge.as_partner(true) };
        let refused = keeper.feeds().put_partner(stolen).unwrap_err();
        assert!(matches!(&refused, FeedError::PeerTaken { partner, other } if partner == "bad" && other == whose), "{refused}");
    }
    let own = Forge::new("unused");
    forge.state(&renaming(&own.keys));
    keeper.know_keys_of(&forge).unwrap();
    let snapshot = keeper.feeds().snapshot();
    assert_eq!((&snapshot.book["bad"].peer, &snapshot.book["bad"].before[..]), (&own.peer().to_string(), &[peer][..]));
    assert_eq!(snapshot.misnamed().count(), 0);
}

/// An invitation may name a key that stands beyond the first batch: it is judged when everything is here.
#[test]
fn an_org_feed_whose_transport_key_comes_later_or_never() {
    for comes in [true, false] {
        let (mut forge, mut keeper) = (Forge::new("firm"), Keeper::new("customer"));
        let (invited, another) = (Forge::new("unused"), Forge::new("another"));
        forge.state(&renaming(if comes { &invited.keys } else { &another.keys }));
        let partner = Partner { peer: invited.peer().to_string(), ..forge.as_partner(true) };
        keeper.feeds().put_partner(partner.clone()).unwrap();
        keeper.take_org(forge.party(), forge.org_part(0, 1)).unwrap();
        let last = keeper.take_org(forge.party(), forge.org_part(1, 2));
        assert_eq!(matches!(last, Err(AcceptError::TransportKey)), !comes, "{last:?}");
        assert_eq!(keeper.feeds().snapshot().book["firm"], partner);
    }
}

/// Its old invitation, accepted once more, lets nobody in under the old name while it is here under the new one.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_invitation_of_a_partner_with_a_new_name() {
    let old = Forge::new("old");
    let mut forge = Forge::with_transport_key_of("bad", &old);
    let renamed = renaming(&forge.keys);
    forge.state(&renamed);
    let node = Node::new("customer").await;
    let invitation = Partner { peer: old.peer().to_string(), ..forge.as_partner(true) };
    node.know(invitation.clone()).await;
    node.know_keys_of(&forge).await;
    let names = || {
        let partner = node.service.handle.snapshot().book["bad"].clone();
        (partner.peer, partner.before.len())
    };
    let new = forge.peer().to_string();
    assert_eq!(names(), (new.clone(), 1), "it may come under either");
    let _peer = Peer::connect(&forge, &node).await;
    until("the old name to go", || (names() == (new.clone(), 0)).then_some(())).await;
    node.know(invitation).await;
    until("the old name to go again", || (names() == (new.clone(), 0)).then_some(())).await;
}

/// A session takes no more unverified bytes than it granted, however they come.
#[test]
fn a_sender_that_ignores_its_credit_is_cut() {
    let batch = |bytes| {
        Input::Received(
            Message::Batch(Received {
                from: 0,
                items: Vec::new(),
                checkpoint: String::new(),
                tail: Vec::new(),
                policy: None,
                under: Vec::new(),
            }),
            bytes,
        )
    };
    let opened = Message::Opened { view: Hash([0; 32]), size: 9, org_size: 1, term: String::new(), owed: false };
    let (mut receiver, _) = Receiver::start("feed", Cursor { next: 0, root: empty_root(), view: None });
    receiver.handle(Input::Received(opened, 10));
    let mut taken = 0;
    let outputs = loop {
        let outputs = receiver.handle(batch(MIB));
        if !matches!(outputs[..], [Output::Verify(_)]) {
            break outputs;
        }
        taken += MIB;
        assert!(taken <= CREDIT_BYTES, "more is taken than was granted");
    };
    assert_eq!(taken, CREDIT_BYTES);
    assert_eq!(outputs, [Output::Send(Message::Error(Code::Malformed)), Output::Close]);
    assert_eq!(receiver.handle(batch(1)), [], "nothing is taken after the end");
}

/// A whole node reads no faster than it verifies: a flood waits in the sender's own buffers.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_does_not_fill_the_memory() {
    let mut scene = Follower::new().await;
    let mut wire = scene.following().await;
    let before = resident_bytes().unwrap_or(0);
    // Entries of half a megabyte, each in order and signed: 64 MiB that were never granted.
    let filler = "x".repeat(500_000);
    let mut line = scene.line.clone();
    for at in 0..128 {
        line.publish(&scene.forge, &record(&format!("L-{at}"), "P-1", &filler));
        let batch = Message::Batch(line.batch(&scene.forge, line.size() - 1, line.size()));
        line.entries.last_mut().unwrap().disclosures.clear();
        if !wire.send(&batch).await {
            break;
        }
    }
    let grown = resident_bytes().unwrap_or(0).saturating_sub(before);
    assert!(grown < 512 * MIB, "{} MiB more", grown / MIB);
    scene.still_follows().await;
}

/// Frames that a node cannot read end the stream; the feed is asked for again, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_stammers() {
    let mut scene = Follower::new().await;
    let mut wire = scene.following().await;
    assert!(matches!(wire.next().await, Some(Message::Cosigned(cosigned)) if cosigned.size == 2));
    wire.send_frame(18, &[0xa1, 0x01]).await;
    assert_eq!(wire.last().await, None);
    scene.line.publish(&scene.forge, &record("L-3", "P-1", "clear again"));
    let line = scene.line.clone();
    let mut wire = scene.asked_for(&line).await;
    wire.send(&Message::Batch(line.batch(&scene.forge, 2, 3))).await;
    assert!(matches!(wire.next().await, Some(Message::Ack { next: 3, .. })));
}

/// A publisher that says it lost its past is believed to have lost it, and nothing of ours goes with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_with_less_than_we_saw() {
    // It says so itself: a restored node does, and is no liar. We wait for its next life.
    let mut scene = Follower::new().await;
    let mut wire = scene.following().await;
    wire.send(&Message::Error(Code::CursorAhead)).await;
    wire.drain().await;
    let why = "feed quality: the partner has fewer entries than we have seen: its past was lost or changed";
    assert_eq!(until("the trouble", || scene.node.board.of("bad").trouble).await, why);
    assert_eq!(scene.node.feed(&scene.line.origin).unwrap().size(), 2);
    scene.still_follows().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_says_its_past_is_another() {
    let mut scene = Follower::new().await;
    let mut wire = scene.following().await;
    wire.send(&Message::Error(Code::Fork)).await;
    wire.drain().await;
    let why = until("the freeze", || scene.node.feed(&scene.line.origin).and_then(|feed| feed.frozen)).await;
    assert_eq!(why, "FORK: its owner says that its past is not the one we have seen");
    assert_eq!(scene.node.feed(&scene.line.origin).unwrap().size(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_rolls_back() {
    let mut scene = Follower::new().await;
    drop(scene.following().await);
    let (mut wire, open) = scene.peer.asked().await;
    assert!(matches!(&open, Message::Open { next: 2, .. }), "{open:?}");
    scene.begin(&mut wire, 1).await;
    let why = until("the freeze", || scene.node.feed(&scene.line.origin).and_then(|feed| feed.frozen)).await;
    assert_eq!(why, "FORK: its owner says it has 1 entries, and 2 were seen");
    assert_eq!(scene.node.feed(&scene.line.origin).unwrap().size(), 2);
}

/// Twenty seconds of real time: a feed whose owner's keys never come is not followed, which is said, and tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_whose_org_feed_never_comes() {
    let mut scene = Follower::new().await;
    let line = scene.line.listing();
    scene.offer(vec![line]).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (mut wire, open) = scene.peer.asked().await;
        assert!(matches!(&open, Message::Open { origin, next: 0, .. } if *origin == scene.line.origin.to_string()), "{open:?}");
        scene.begin(&mut wire, 2).await;
        wire.send(&Message::Batch(scene.line.batch(&scene.forge, 0, 2))).await;
        wire.drain().await;
        let trouble = scene.node.board.of("bad").trouble;
        assert_eq!(trouble.as_deref(), Some("feed quality: the owner's org feed did not come"));
        streams.push(wire);
    }
    let feed = scene.node.feed(&scene.line.origin).unwrap();
    assert_eq!((feed.size(), feed.frozen.as_deref()), (0, None));
    scene.following().await;
    scene.still_follows().await;
}
