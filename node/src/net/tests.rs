//! Whole nodes over real TCP on loopback, with ports the system chooses.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    process,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};

use super::*;

/// Longer than anything here takes on a busy machine. Noticing a dead line takes 20 s: libp2p's ping gives each try to open
/// its stream again ten seconds.
const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    net: Net,
    events: mpsc::Receiver<Event>,
}

fn config(name: u8) -> Config {
    let mut config = Config::new([name; 32], vec!["127.0.0.1:0".parse().unwrap()]);
    config.backoff.min = Duration::from_millis(50);
    config.backoff.max = Duration::from_millis(200);
    config
}

impl Node {
    async fn start(config: Config) -> Self {
        let (net, events) = Net::start(config).await.unwrap();
        Self { net, events }
    }

    async fn address(&self) -> Address {
        self.net.listen_addresses().await.remove(0)
    }

    fn peer(&self) -> PeerId {
        self.net.peer()
    }

    /// The first event that `pick` takes; the others are thrown away.
    async fn until<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the node runs");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("the event comes")
    }

    async fn connected(&mut self) -> (PeerId, bool) {
        self.until(|event| match event {
            Event::Connected { peer, dialed_by_us, .. } => Some((peer, dialed_by_us)),
            _ => None,
        })
        .await
    }

    async fn disconnected(&mut self) -> PeerId {
        self.until(|event| match event {
            Event::Disconnected { peer } => Some(peer),
            _ => None,
        })
        .await
    }

    async fn stream(&mut self) -> (PeerId, Protocol, Stream) {
        self.until(|event| match event {
            Event::Stream { peer, protocol, stream } => Some((peer, protocol, stream)),
            _ => None,
        })
        .await
    }

    async fn expects(&self, peer: PeerId) {
        self.net.set_partners(vec![Partner { peer, addresses: vec![] }]).await;
    }

    async fn dials(&self, peer: PeerId, addresses: Vec<Address>) {
        self.net.set_partners(vec![Partner { peer, addresses }]).await;
    }
}

/// Alice dials Bob.
async fn pair_of(alice: Config, bob: Config) -> (Node, Node) {
    let (mut alice, mut bob) = (Node::start(alice).await, Node::start(bob).await);
    bob.expects(alice.peer()).await;
    alice.dials(bob.peer(), vec![bob.address().await]).await;
    assert_eq!(alice.connected().await, (bob.peer(), true));
    assert_eq!(bob.connected().await, (alice.peer(), false));
    (alice, bob)
}

async fn pair() -> (Node, Node) {
    pair_of(config(1), config(2)).await
}

/// A stream from `opener`, and the other end of it.
async fn stream_between(opener: &Node, other: &mut Node, protocol: Protocol) -> (Stream, Stream) {
    let near = opener.net.open(other.peer(), protocol).await.unwrap();
    let (peer, arrived, far) = other.stream().await;
    assert_eq!((peer, arrived), (opener.peer(), protocol));
    (near, far)
}

async fn exchange(near: &mut Stream, far: &mut Stream) {
    near.write_all(b"lot 17").await.unwrap();
    let mut read = [0; 6];
    far.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"lot 17");
    far.write_all(b"thanks").await.unwrap();
    near.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"thanks");
}

/// Two programs whose newest versions are one apart speak the older one's; the newest both know is taken.
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_version_that_both_speak_is_taken_whoever_asks() {
    for (ours, theirs) in [(1..=2, 1..=1), (1..=1, 1..=2), (2..=3, 1..=2), (1..=2, 1..=2)] {
        let (mut alice, mut bob) = pair_of(Config { majors: ours, ..config(1) }, Config { majors: theirs, ..config(2) }).await;
        for protocol in [Protocol::Control, Protocol::Feed] {
            let (mut near, mut far) = stream_between(&alice, &mut bob, protocol).await;
            exchange(&mut near, &mut far).await;
            let (mut near, mut far) = stream_between(&bob, &mut alice, protocol).await;
            exchange(&mut near, &mut far).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_with_no_version_in_common_say_which_one_is_older() {
    for newer in [2..=2, 4..=5] {
        let (old, new) = pair_of(config(1), Config { majors: newer, ..config(2) }).await;
        let asked = old.net.open(new.peer(), Protocol::Control).await;
        assert!(matches!(asked, Err(OpenError::Newer(Protocol::Control))), "{asked:?}");
        assert!(asked.unwrap_err().to_string().ends_with("update Lotline here"));
        let asked = new.net.open(old.peer(), Protocol::Feed).await;
        assert!(matches!(asked, Err(OpenError::Unsupported(Protocol::Feed))), "{asked:?}");
        assert!(asked.unwrap_err().to_string().contains("it is older"));
    }
}

/// Who takes the other for a partner, and is none itself, is a guest: nothing but pairing is there for it, not even a ping.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_offered_pairing_and_nothing_else() {
    let mut slowly = config(2);
    // A source is let in thirty times a minute.
    slowly.backoff.max = Duration::from_secs(2);
    let (mut host, mut guest) = (Node::start(config(1)).await, Node::start(slowly).await);
    assert!(guest.net.visit(host.address().await).await.is_err(), "nobody is invited");
    host.net.admit_guests(true).await;
    guest.dials(host.peer(), vec![host.address().await]).await;
    // Its own program gives the connection up each time, since nobody answers its pings, and dials again: it asks at once, and what
    // was answered stays answered.
    let (mut refused, mut opened) = ([false; 2], None);
    let near = loop {
        guest.connected().await;
        let open = |protocol| guest.net.open(host.peer(), protocol);
        let (control, feed, pair) = tokio::join!(open(Protocol::Control), open(Protocol::Feed), open(Protocol::Pair));
        for (refused, answer) in refused.iter_mut().zip([control, feed]) {
            assert!(answer.is_err(), "a guest got a partner's stream");
            *refused |= matches!(answer, Err(OpenError::Unsupported(_)));
        }
        opened = pair.ok().or(opened);
        if refused == [true; 2]
            && let Some(near) = opened.take()
        {
            break near;
        }
    };
    // To the host it is no partner: no word of a connection, and the stream is a guest's.
    let far = guest_stream(host.until(|event| (!matches!(event, Event::Listening(_) | Event::Refused { .. })).then_some(event)).await);
    assert_eq!((far.peer(), near.peer()), (guest.peer(), host.peer()));
    assert!(matches!(host.net.open(guest.peer(), Protocol::Control).await, Err(OpenError::NotConnected)));
    host.net.part(far).await;
}

fn guest_stream(event: Event) -> Stream {
    match event {
        Event::Guest { stream } => stream,
        other => panic!("expected a guest: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_reaches_whoever_is_there_and_a_partner_is_no_guest() {
    let (mut host, visitor) = (Node::start(config(1)).await, Node::start(config(2)).await);
    host.net.admit_guests(true).await;
    let mut near = visitor.net.visit(host.address().await).await.unwrap();
    let mut far = host.until(|event| if let Event::Guest { stream } = event { Some(stream) } else { None }).await;
    exchange(&mut near, &mut far).await;
    visitor.net.part(near).await;
    let nowhere = visitor.net.visit("127.0.0.1:1".parse().unwrap()).await;
    assert!(matches!(nowhere, Err(OpenError::Unreachable(_))), "{nowhere:?}");
    let oneself = visitor.net.visit(visitor.address().await).await;
    assert!(matches!(oneself, Err(OpenError::Unreachable(_))), "{oneself:?}");
    visitor.expects(host.peer()).await;
    assert!(matches!(visitor.net.visit(host.address().await).await, Err(OpenError::Known)));
    host.net.admit_guests(false).await;
    visitor.net.set_partners(Vec::new()).await;
    assert!(visitor.net.visit(host.address().await).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn partners_open_streams_both_ways_over_the_diallers_connection() {
    let (mut alice, mut bob) = pair().await;
    let (mut near, mut far) = stream_between(&alice, &mut bob, Protocol::Control).await;
    exchange(&mut near, &mut far).await;
    let (mut back, mut end) = stream_between(&bob, &mut alice, Protocol::Feed).await;
    exchange(&mut back, &mut end).await;

    // An end that was shut down reads as an end, and what was written before it arrives.
    near.write_all(b"last words").await.unwrap();
    near.shutdown().await.unwrap();
    drop(near);
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"last words");
}

/// A relay, and the address of a node that keeps a place there.
async fn relay_for(name: u8, users: &[PeerId]) -> (Node, Address) {
    let mut config = config(name);
    config.lines_max = 8;
    config.serving = Some(Serving { reached_at: Vec::new(), users: users.to_vec(), places_max: 8, lines_max: 8 });
    let relay = Node::start(config).await;
    let through = relay.address().await.through(relay.peer());
    (relay, through)
}

/// A node that listens nowhere and keeps places at relays.
fn hidden(name: u8, relays: &[Address]) -> Config {
    let mut config = Config { listen: Vec::new(), relays: relays.to_vec(), ..config(name) };
    config.lines_max = 8;
    config
}

impl Node {
    async fn is_kept_at(&mut self, relay: &Address) {
        self.until(|event| matches!(event, Event::Listening(address) if address == *relay).then_some(())).await;
    }

    /// Why it has no place at this relay.
    async fn refused_at(&self, relay: &Address) -> String {
        let tried = async {
            loop {
                let places = self.net.places().await;
                let place = places.into_iter().find(|place| place.address == *relay).expect("a relay that it was given");
                assert!(!place.kept);
                match place.trouble {
                    Some(why) => return why,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        timeout(PATIENCE, tried).await.expect("an answer")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_nobody_can_dial_meet_through_a_relay_and_it_is_a_partner_of_neither() {
    let (alice_id, bob_id) = (transport_peer_id(&[1; 32]), transport_peer_id(&[2; 32]));
    let (relay, through) = relay_for(3, &[alice_id, bob_id]).await;
    let mut bob = Node::start(hidden(2, std::slice::from_ref(&through))).await;
    bob.is_kept_at(&through).await;
    assert_eq!(bob.net.listen_addresses().await, std::slice::from_ref(&through));
    assert_eq!(relay.net.relay_load().await, Some(Load { places: 1, lines: 0 }));
    bob.expects(alice_id).await;
    let mut alice = Node::start(hidden(1, &[])).await;
    alice.dials(bob_id, vec![through.clone()]).await;
    assert_eq!(alice.connected().await, (bob_id, true));
    assert_eq!(bob.connected().await, (alice_id, false));
    let (mut near, mut far) = stream_between(&alice, &mut bob, Protocol::Control).await;
    exchange(&mut near, &mut far).await;
    let (mut back, mut end) = stream_between(&bob, &mut alice, Protocol::Feed).await;
    exchange(&mut back, &mut end).await;
    assert_eq!(relay.net.relay_load().await, Some(Load { places: 1, lines: 1 }));

    // More than the 128 KiB after which a relay of the library's making would cut the line.
    let bulk = vec![7; 4 << 20];
    let (sent, read) = tokio::join!(near.write_all(&bulk), async {
        let mut read = vec![0; bulk.len()];
        far.read_exact(&mut read).await.map(|_| read)
    });
    sent.unwrap();
    assert!(read.unwrap() == bulk);

    // The relay is nobody's partner: it opens nothing with them, nor they with it.
    for (near, far) in [(&relay, bob_id), (&bob, relay.peer()), (&alice, relay.peer())] {
        assert!(matches!(near.net.open(far, Protocol::Control).await, Err(OpenError::NotConnected)));
    }

    // Struck off the relay's list: the line is cut, and no new place is to be had.
    relay.net.set_relay_users(vec![bob_id]).await;
    assert_eq!(alice.disconnected().await, bob_id);
    relay.net.set_relay_users(Vec::new()).await;
    bob.until(|event| matches!(event, Event::NotListening { address, .. } if address == through).then_some(())).await;
    assert_eq!(bob.net.listen_addresses().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_keeps_no_place_for_others_and_a_node_that_is_none_says_so() {
    let (relay, through) = relay_for(3, &[]).await;
    let stranger = Node::start(hidden(2, std::slice::from_ref(&through))).await;
    assert!(!stranger.refused_at(&through).await.is_empty());
    assert_eq!(relay.net.relay_load().await, Some(Load::default()));

    let plain = Node::start(config(4)).await;
    assert_eq!(plain.net.relay_load().await, None);
    let through = plain.address().await.through(plain.peer());
    let asks = Node::start(hidden(5, std::slice::from_ref(&through))).await;
    plain.expects(asks.peer()).await;
    assert!(!asks.refused_at(&through).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_may_use_a_relay_and_a_relay_that_died_is_replaced_by_the_next() {
    let bob_id = transport_peer_id(&[2; 32]);
    let mut relays = Vec::new();
    for name in 3..6 {
        let (relay, through) = relay_for(name, &[]).await;
        relay.expects(bob_id).await;
        relays.push((relay, through));
    }
    let all: Vec<_> = relays.iter().map(|(_, through)| through.clone()).collect();
    let mut bob = Node::start(hidden(2, &all)).await;
    let kept = async |bob: &mut Node| bob.until(|event| if let Event::Listening(address) = event { Some(address) } else { None }).await;
    let first = [kept(&mut bob).await, kept(&mut bob).await];
    assert_eq!(bob.net.listen_addresses().await.len(), 2, "no more than two");
    let dead = relays.iter().position(|(_, through)| *through == first[0]).unwrap();
    relays.swap_remove(dead).0.net.shutdown().await;
    let next = kept(&mut bob).await;
    assert!(!first.contains(&next), "the third takes its turn");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_peer_is_turned_away_and_gets_no_stream() {
    let mut alice = Node::start(config(1)).await;
    let mut mallory = Node::start(config(66)).await;
    mallory.dials(alice.peer(), vec![alice.address().await]).await;
    // TLS lets the dialler finish first: it believes itself connected until the answer comes.
    mallory.connected().await;
    let opened = mallory.net.open(alice.peer(), Protocol::Control).await;
    assert!(matches!(opened, Err(OpenError::NotConnected | OpenError::Closed | OpenError::Io(_))), "{opened:?}");
    mallory.disconnected().await;
    let refused = alice
        .until(|event| match event {
            Event::Refused { peer } => Some(peer),
            Event::Connected { .. } | Event::Stream { .. } => panic!("{event:?}"),
            _ => None,
        })
        .await;
    assert_eq!(refused, mallory.peer());
    let opened = alice.net.open(mallory.peer(), Protocol::Control).await;
    assert!(matches!(opened, Err(OpenError::NotConnected)));

    // As soon as she is on the list she may come in.
    alice.expects(mallory.peer()).await;
    assert_eq!(alice.connected().await, (mallory.peer(), false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_partner_is_cut_off_at_once() {
    let (alice, mut bob) = pair().await;
    let (mut near, mut far) = stream_between(&alice, &mut bob, Protocol::Feed).await;
    exchange(&mut near, &mut far).await;
    let reader = tokio::spawn(async move {
        let read = far.read(&mut [0; 1]).await;
        (read, far.write(b"secret").await)
    });
    let start = Instant::now();
    bob.net.set_partners(vec![]).await;
    assert_eq!(bob.disconnected().await, alice.peer());
    // yamux would leave this reader asleep for ever.
    let (read, write) = timeout(PATIENCE, reader).await.expect("the reader wakes").unwrap();
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    assert_eq!(write.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    assert!(matches!(bob.net.open(alice.peer(), Protocol::Feed).await, Err(OpenError::NotConnected)));
    assert!(!matches!(near.read(&mut [0; 1]).await, Ok(1..)));
    assert!(start.elapsed() < Duration::from_secs(5));

    let refused = bob.until(|event| match event {
        Event::Refused { peer } => Some(peer),
        Event::Connected { .. } => panic!("back in"),
        _ => None,
    });
    assert_eq!(refused.await, alice.peer());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialler_comes_back_after_the_other_side_restarts_on_its_port() {
    let (mut alice, bob) = pair().await;
    let (address, peer) = (bob.address().await, bob.peer());
    let other_handle = bob.net.clone();
    bob.net.shutdown().await;
    assert_eq!(alice.disconnected().await, peer);
    assert!(matches!(other_handle.open(alice.peer(), Protocol::Feed).await, Err(OpenError::Stopped)));

    let mut again = config(2);
    again.listen = vec![address.clone()];
    let mut bob = Node::start(again).await;
    assert_eq!(bob.address().await, address);
    bob.expects(alice.peer()).await;
    assert_eq!(alice.connected().await, (peer, true));
    let (mut near, mut far) = stream_between(&alice, &mut bob, Protocol::Control).await;
    exchange(&mut near, &mut far).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_partner_is_dialled_again_and_redial_skips_the_wait() {
    let mut config_of_alice = config(1);
    config_of_alice.backoff.min = Duration::from_secs(3600);
    config_of_alice.backoff.max = Duration::from_secs(3600);
    let (mut alice, mut bob) = pair_of(config_of_alice, config(2)).await;
    bob.net.disconnect(alice.peer()).await;
    assert_eq!(bob.disconnected().await, alice.peer());
    assert_eq!(alice.disconnected().await, bob.peer());
    alice.net.redial(bob.peer()).await;
    assert_eq!(alice.connected().await, (bob.peer(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_peer_fails_with_a_reason_and_the_next_address_is_tried() {
    let (mut alice, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let stranger = Node::start(config(3)).await;
    stranger.expects(alice.peer()).await;
    bob.expects(alice.peer()).await;
    let opened = timeout(Duration::from_secs(1), alice.net.open(bob.peer(), Protocol::Control)).await;
    assert!(matches!(opened, Ok(Err(OpenError::NotConnected))));

    let closed = Address::from_multiaddr(&"/ip4/127.0.0.1/tcp/1".parse().unwrap()).unwrap();
    let why = |event| match event {
        Event::DialFailed { why, .. } => Some(why),
        _ => None,
    };
    alice.dials(bob.peer(), vec![closed.clone()]).await;
    let reason = alice.until(why).await;
    assert!(reason.contains("/tcp/1`: Connection refused"), "{reason}");
    alice.dials(bob.peer(), vec![stranger.address().await]).await;
    let other = alice.until(|event| why(event).filter(|why| !why.contains("/tcp/1`")));
    let reason = other.await;
    assert!(reason.contains("is another node") && reason.contains(&stranger.peer().to_string()), "{reason}");

    alice.dials(bob.peer(), vec![closed, bob.address().await]).await;
    assert_eq!(alice.connected().await.0, bob.peer());
    assert_eq!(bob.connected().await.0, alice.peer());
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_both_ways_on_two_streams_of_one_connection_does_not_lock_up() {
    // rust-libp2p#5410. Each of four directions carries its own pattern.
    const BYTES: usize = 10 << 20;
    async fn pump(stream: Stream, write: u8, read: u8) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let send = async {
            let chunk = vec![write; 100_000];
            let mut left = BYTES;
            while left > 0 {
                let n = left.min(chunk.len());
                writer.write_all(&chunk[..n]).await.unwrap();
                left -= n;
            }
            writer.shutdown().await.unwrap();
        };
        let receive = async {
            let (mut chunk, mut total) = (vec![0; 70_000], 0);
            loop {
                match reader.read(&mut chunk).await.unwrap() {
                    0 => return total,
                    n => {
                        assert!(chunk[..n].iter().all(|byte| *byte == read));
                        total += n;
                    }
                }
            }
        };
        let ((), received) = tokio::join!(send, receive);
        assert_eq!(received, BYTES);
    }
    let (mut alice, mut bob) = pair().await;
    let (a, b) = stream_between(&alice, &mut bob, Protocol::Feed).await;
    let (c, d) = stream_between(&bob, &mut alice, Protocol::Feed).await;
    let pumps = [pump(a, 1, 2), pump(b, 2, 1), pump(c, 3, 4), pump(d, 4, 3)].map(tokio::spawn);
    timeout(PATIENCE * 3, futures::future::try_join_all(pumps)).await.expect("no lock-up").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_64_streams_are_refused_and_the_node_lives() {
    let (alice, mut bob) = pair().await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(stream_between(&alice, &mut bob, Protocol::Feed).await);
    }
    assert!(matches!(alice.net.open(bob.peer(), Protocol::Feed).await, Err(OpenError::TooManyStreams)));
    assert!(matches!(bob.net.open(alice.peer(), Protocol::Feed).await, Err(OpenError::TooManyStreams)));
    for (near, far) in &mut open {
        exchange(near, far).await;
    }
    open.pop();
    let (mut near, mut far) = stream_between(&alice, &mut bob, Protocol::Feed).await;
    exchange(&mut near, &mut far).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_counts_differently_is_held_to_our_number() {
    let (mut greedy, mut strict) = (config(1), config(2));
    (greedy.streams_per_peer_max, strict.streams_per_peer_max) = (1000, 8);
    let (mut alice, mut bob) = pair_of(greedy, strict).await;
    // Up to yamux' own bound, the streams too many are closed one by one and the connection stays.
    let mut opened = Vec::new();
    for _ in 0..30 {
        opened.push(alice.net.open(bob.peer(), Protocol::Feed).await.unwrap());
    }
    let mut arrived = Vec::new();
    for _ in 0..8 {
        arrived.push(bob.stream().await.2);
    }
    let mut refused = 0;
    for stream in &mut opened {
        if let Ok(Ok(0) | Err(_)) = timeout(Duration::from_millis(300), stream.read(&mut [0; 1])).await {
            refused += 1;
        }
    }
    assert_eq!(refused, 22);
    drop(opened);
    for stream in &mut arrived {
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    }
    drop(arrived);
    let (mut near, mut far) = stream_between(&alice, &mut bob, Protocol::Feed).await;
    exchange(&mut near, &mut far).await;

    // A burst beyond that costs it the connection, and nobody else anything.
    let burst = (0..200).map(|_| alice.net.open(bob.peer(), Protocol::Feed));
    let results = futures::future::join_all(burst).await;
    assert_eq!(results.len(), 200);
    drop(results);
    if timeout(Duration::from_secs(1), alice.disconnected()).await.is_ok() {
        alice.connected().await;
    }
    // What arrived of the burst still waits in the channel, and each holds a place.
    while bob.events.try_recv().is_ok() {}
    bob.net.open(alice.peer(), Protocol::Control).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_does_no_harm() {
    let (mut alice, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let port: SocketAddr = bob.address().await.host_port().parse().unwrap();
    let multistream = b"\x13/multistream/1.0.0\n\x0b/tls/1.0.0\n";
    let hello = [multistream.as_slice(), &[0x16, 3, 1, 0xff, 0xff, 1, 0, 0xff], &[0xa5; 5000]].concat();
    let endless = [multistream.as_slice(), &[0xff; 100]].concat();
    let garbage: [&[u8]; 6] = [b"", b"GET / HTTP/1.1\r\n\r\n", &[0; 70_000], &[0xff; 70_000], hello.as_slice(), endless.as_slice()];
    for bytes in garbage.iter().cycle().take(60) {
        let mut caller = TcpStream::connect(port).await.unwrap();
        // We may be cut off half-way through.
        let _ = caller.write_all(bytes).await;
        let _ = caller.shutdown().await;
        let _ = timeout(PATIENCE, caller.read_to_end(&mut Vec::new())).await.expect("the node hangs up");
    }
    bob.expects(alice.peer()).await;
    alice.dials(bob.peer(), vec![bob.address().await]).await;
    alice.connected().await;
    let (mut near, mut far) = stream_between(&alice, &mut bob, Protocol::Control).await;
    exchange(&mut near, &mut far).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_dial_each_other_at_once_are_connected_once() {
    for _ in 0..10 {
        let (mut alice, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
        let (at_alice, at_bob) = (alice.address().await, bob.address().await);
        tokio::join!(alice.dials(bob.peer(), vec![at_bob]), bob.dials(alice.peer(), vec![at_alice]));
        // A dial that was turned away for want of the list may have come first; what counts is the end.
        let (near, far) = loop {
            match alice.net.open(bob.peer(), Protocol::Control).await {
                Ok(near) => break (near, bob.stream().await.2),
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let (mut near, mut far) = (near, far);
        exchange(&mut near, &mut far).await;
        bob.net.shutdown().await;
        // Connected and Disconnected come in turns, however many connections there were.
        let mut up = BTreeMap::new();
        alice
            .until(|event| {
                match event {
                    Event::Connected { peer, .. } => assert_eq!(up.insert(peer, ()), None, "twice"),
                    Event::Disconnected { peer } => assert_eq!(up.remove(&peer), Some(()), "twice"),
                    Event::DialFailed { .. } => return up.is_empty().then_some(()),
                    _ => {}
                }
                None
            })
            .await;
    }
}

/// A line that can be stopped without closing, as when a router forgets it.
struct Line {
    address: Address,
    flows: watch::Sender<bool>,
    callers: Arc<AtomicUsize>,
}

impl Line {
    async fn to(target: &Address) -> Self {
        let target: SocketAddr = target.host_port().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let (flows, gate) = watch::channel(true);
        let callers = Arc::new(AtomicUsize::new(0));
        let count = callers.clone();
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (caller_read, caller_write) = caller.into_split();
                let (target_read, target_write) = TcpStream::connect(target).await.unwrap().into_split();
                tokio::spawn(Self::carry(caller_read, target_write, gate.clone()));
                tokio::spawn(Self::carry(target_read, caller_write, gate.clone()));
            }
        });
        Self { address, flows, callers }
    }

    async fn carry(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf, mut gate: watch::Receiver<bool>) {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut bytes).await {
            if gate.wait_for(|flows| *flows).await.is_err() || to.write_all(&bytes[..n]).await.is_err() {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_line_is_noticed_and_replaced() {
    let (mut quick, mut quiet) = (config(1), config(2));
    (quick.ping_interval, quick.ping_timeout) = (Duration::from_millis(100), Duration::from_millis(200));
    quick.open_timeout = Duration::from_millis(300);
    quiet.listen = vec!["127.0.0.1:0".parse().unwrap()];
    let (mut alice, mut bob) = (Node::start(quick).await, Node::start(quiet).await);
    let line = Line::to(&bob.address().await).await;
    bob.expects(alice.peer()).await;
    alice.dials(bob.peer(), vec![line.address.clone()]).await;
    alice.connected().await;
    let (mut near, mut far) = stream_between(&alice, &mut bob, Protocol::Control).await;
    exchange(&mut near, &mut far).await;

    assert_eq!(line.callers.load(Ordering::SeqCst), 1);
    line.flows.send_replace(false);
    let opened = timeout(Duration::from_secs(5), alice.net.open(bob.peer(), Protocol::Feed)).await;
    assert!(matches!(opened, Ok(Err(OpenError::TimedOut | OpenError::Closed))), "{opened:?}");
    assert_eq!(alice.disconnected().await, bob.peer());
    assert!(near.write(b"x").await.is_err());
    line.flows.send_replace(true);
    assert_eq!(alice.connected().await, (bob.peer(), true));
    // The stream that was given up may arrive with what was stuck in the line.
    let mut near = alice.net.open(bob.peer(), Protocol::Control).await.unwrap();
    let mut far = loop {
        if let (_, Protocol::Control, far) = bob.stream().await {
            break far;
        }
    };
    exchange(&mut near, &mut far).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_move_who_is_heard_stays_and_who_is_silent_is_dialled_again() {
    // Pings at their ordinary pace: they would take minutes.
    let (mut alice, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let line = Line::to(&bob.address().await).await;
    bob.expects(alice.peer()).await;
    alice.dials(bob.peer(), vec![line.address.clone()]).await;
    alice.connected().await;
    let (mut near, mut far) = stream_between(&alice, &mut bob, Protocol::Control).await;

    let moved = async |alice: &mut Node| {
        alice.net.commands.send(Command::Moved).await.unwrap();
        alice.until(|event| matches!(event, Event::Moved).then_some(())).await;
        Instant::now()
    };
    let since = moved(&mut alice).await;
    exchange(&mut near, &mut far).await;
    alice.net.commands.send(Command::CloseSilent { since }).await.unwrap();
    exchange(&mut near, &mut far).await;
    assert_eq!(line.callers.load(Ordering::SeqCst), 1);

    line.flows.send_replace(false);
    let since = moved(&mut alice).await;
    alice.net.commands.send(Command::CloseSilent { since }).await.unwrap();
    assert_eq!(alice.disconnected().await, bob.peer());
    assert!(near.write(b"x").await.is_err());
    line.flows.send_replace(true);
    assert_eq!(alice.connected().await, (bob.peer(), true));
    // One that is newer than the move has had no time to say anything.
    alice.net.commands.send(Command::CloseSilent { since }).await.unwrap();
    let (mut near, mut far) = stream_between(&alice, &mut bob, Protocol::Feed).await;
    exchange(&mut near, &mut far).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_does_not_read_is_cut_off_too() {
    let (mut alice, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let line = Line::to(&bob.address().await).await;
    bob.expects(alice.peer()).await;
    alice.dials(bob.peer(), vec![line.address.clone()]).await;
    alice.connected().await;
    let (mut near, _far) = stream_between(&alice, &mut bob, Protocol::Feed).await;
    line.flows.send_replace(false);
    let writer = tokio::spawn(async move { while near.write_all(&[0; 65536]).await.is_ok() {} });
    tokio::task::yield_now().await;
    alice.net.set_partners(vec![]).await;
    assert_eq!(alice.disconnected().await, bob.peer());
    timeout(PATIENCE, writer).await.expect("the writer wakes").unwrap();
    timeout(PATIENCE, alice.net.shutdown()).await.expect("shutdown ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_events_are_not_read_stays_bounded_and_answers() {
    let mut hub = Node::start(config(1)).await;
    let mut leaves = Vec::new();
    for name in 10..16 {
        leaves.push(Node::start(config(name)).await);
    }
    let partner = |leaf: &Node| Partner { peer: leaf.peer(), addresses: vec![] };
    hub.net.set_partners(leaves.iter().map(partner).collect()).await;
    let mut kept = Vec::new();
    for leaf in &mut leaves {
        leaf.dials(hub.peer(), vec![hub.address().await]).await;
        // The hub may be at rest by then, and not answer the last ones.
        if timeout(Duration::from_secs(1), leaf.connected()).await.is_ok() {
            let opens = (0..64).map(|_| timeout(Duration::from_secs(1), leaf.net.open(hub.peer(), Protocol::Feed)));
            kept.extend(futures::future::join_all(opens).await);
        }
    }
    assert_eq!(hub.net.listen_addresses().await.len(), 1, "commands are answered");
    let (mut up, mut streams) = (std::collections::BTreeSet::new(), 0);
    while up.len() < leaves.len() {
        hub.until(|event| {
            match event {
                Event::Connected { peer, .. } => assert!(up.insert(peer)),
                Event::Disconnected { peer } => assert!(up.remove(&peer)),
                Event::Stream { .. } => streams += 1,
                _ => return None,
            }
            Some(())
        })
        .await;
    }
    assert!(streams >= 256 - leaves.len() - 1, "{streams}");
    // The leaves let go, and there is place again.
    drop(kept);
    let leaf = leaves[0].peer();
    let opened = async { while hub.net.open(leaf, Protocol::Control).await.is_err() {} };
    timeout(PATIENCE, opened).await.expect("the hub lives");
    leaves[0].net.open(hub.peer(), Protocol::Control).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_handles_or_the_receiver_stops_the_node() {
    let (alice, mut bob) = pair().await;
    let Node { net, mut events } = alice;
    drop(net);
    let closed = async { while events.recv().await.is_some() {} };
    timeout(PATIENCE, closed).await.expect("the task ends");
    bob.disconnected().await;

    let Node { net, events } = bob;
    drop(events);
    let stopped = async {
        while !matches!(net.open(net.peer(), Protocol::Feed).await, Err(OpenError::Stopped)) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, stopped).await.expect("the task ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_and_a_name_are_refused_at_start() {
    let alice = Node::start(config(1)).await;
    let mut second = config(2);
    second.listen = vec![alice.address().await];
    let error = Net::start(second).await.unwrap_err();
    assert!(matches!(&error, NetError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse), "{error:?}");

    let mut named = config(2);
    named.listen = vec!["acme.example:4001".parse().unwrap()];
    assert!(matches!(Net::start(named).await, Err(NetError::ListenName(_))));

    let mut silent = config(2);
    silent.listen = vec![];
    assert!(Node::start(silent).await.net.listen_addresses().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_is_reported_with_the_real_port() {
    let mut alice = Node::start(config(1)).await;
    let address = alice.address().await;
    let reported = alice.until(|event| if let Event::Listening(address) = event { Some(address) } else { None });
    assert_eq!(reported.await, address);
    assert!(!address.host_port().ends_with(":0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_families_can_listen_on_every_interface_and_one_port() {
    let mut four = config(1);
    four.listen = vec!["0.0.0.0:0".parse().unwrap()];
    let alice = Node::start(four).await;
    let port = alice.address().await.host_port().rsplit_once(':').unwrap().1.to_owned();
    let hosts = alice.net.listen_hosts().await;
    assert_eq!(hosts.iter().map(|host| host.host_port()).collect::<Vec<_>>(), [format!("0.0.0.0:{port}")], "as it was told");
    let mut six = config(2);
    six.listen = vec![format!("[::]:{port}").parse().unwrap()];
    match Net::start(six).await {
        Ok((bob, _events)) => assert!(bob.listen_addresses().await.iter().all(|it| it.host_port().ends_with(&port))),
        // A machine without IPv6.
        Err(error) => assert!(!format!("{error:?}").contains("AddrInUse"), "{error:?}"),
    }
}

/// Runs itself again with the variable set: a process' environment cannot be changed safely.
#[tokio::test]
async fn a_key_log_is_refused() {
    if std::env::var_os(KEY_LOG).is_some() {
        assert!(matches!(Net::start(config(1)).await, Err(NetError::KeyLog)));
        return;
    }
    let (_, module) = module_path!().split_once("::").unwrap();
    let child = process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::a_key_log_is_refused")])
        .env(KEY_LOG, "/nonexistent/keys")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn peer_ids_are_those_of_libp2p() {
    let seed = [7; 32];
    let key = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    let peer = transport_peer_id(&seed);
    assert_eq!(peer, peer_id_of(&key));
    assert_eq!(peer.public_key(), Some(key));
    assert_eq!(peer.to_string().parse(), Ok(peer));
    let verifying = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
    assert_eq!(lotline_schema::id::peer_id_text(&verifying), peer.to_string());
    assert!(peer.to_string().starts_with("12D3KooW"));
    assert_eq!(PeerId::from_bytes(&peer.to_bytes()), Ok(peer));
    // The id of an RSA key, too little, and no base58.
    for wrong in ["QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "", "12D3KooW", "0OIl"] {
        assert_eq!(wrong.parse::<PeerId>(), Err(PeerIdError), "{wrong}");
    }
    assert_eq!(PeerId::from_bytes(&peer.to_bytes()[..37]), Err(PeerIdError));
}

#[tokio::test(flavor = "multi_thread")]
async fn partners_meet_over_a_websocket_as_over_tcp() {
    let mut listening = config(2);
    listening.listen = vec!["ws://127.0.0.1:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
    let (mut alice, mut bob) = pair_of(config(1), listening).await;
    assert_eq!(bob.net.listen_addresses().await.len(), 2);
    let web = bob.net.listen_addresses().await.into_iter().find(|at| at.to_string().ends_with("/ws")).unwrap();
    assert!(!web.to_string().contains("/tcp/0/"), "{web}");
    alice.net.set_partners(Vec::new()).await;
    assert_eq!((alice.disconnected().await, bob.disconnected().await), (bob.peer(), alice.peer()));
    alice.dials(bob.peer(), vec![web]).await;
    assert_eq!(bob.connected().await, (alice.peer(), false));
    let (mut near, mut far) = stream_between(&alice, &mut bob, Protocol::Feed).await;
    exchange(&mut near, &mut far).await;
    // Much at once, both ways.
    let bulk: Vec<u8> = (0..3_000_000u32).map(|byte| byte as u8).collect();
    let (mut near_read, mut near_write) = tokio::io::split(near);
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let (mut here, mut there) = (vec![0; bulk.len()], vec![0; bulk.len()]);
    let all = async {
        let written = tokio::join!(
            near_write.write_all(&bulk),
            far_write.write_all(&bulk),
            near_read.read_exact(&mut here),
            far_read.read_exact(&mut there)
        );
        written.0.and(written.1).and(written.2.map(drop)).and(written.3.map(drop))
    };
    timeout(PATIENCE, all).await.unwrap().unwrap();
    assert!(here == bulk && there == bulk);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    for content in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&file, content).unwrap();
        let mut config = config(1);
        config.web.trust = Some(file.clone());
        let refused = Net::start(config).await.unwrap_err();
        assert!(matches!(&refused, NetError::Certificate { path, .. } if *path == file), "{content:?}: {refused}");
    }
}

#[test]
fn addresses_have_one_form_and_no_surprises() {
    for (text, canonical, host_port) in [
        ("127.0.0.1:4001", "/ip4/127.0.0.1/tcp/4001", "127.0.0.1:4001"),
        ("[::1]:4001", "/ip6/::1/tcp/4001", "[::1]:4001"),
        ("acme.example:0", "/dns/acme.example/tcp/0", "acme.example:0"),
        ("/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "10.0.0.1:1"),
        ("/dns4/a-b.example/tcp/65535", "/dns4/a-b.example/tcp/65535", "a-b.example:65535"),
        ("/dns6/a/tcp/2", "/dns6/a/tcp/2", "a:2"),
        ("wss://acme.example", "/dns/acme.example/tcp/443/tls/ws", "wss://acme.example:443"),
        ("wss://acme.example/", "/dns/acme.example/tcp/443/tls/ws", "wss://acme.example:443"),
        ("wss://127.0.0.1:8443", "/ip4/127.0.0.1/tcp/8443/tls/ws", "wss://127.0.0.1:8443"),
        ("ws://[::1]:80", "/ip6/::1/tcp/80/ws", "ws://[::1]:80"),
        ("/dns/a/tcp/443/wss", "/dns/a/tcp/443/tls/ws", "wss://a:443"),
        ("/ip4/127.0.0.1/tcp/1/ws", "/ip4/127.0.0.1/tcp/1/ws", "ws://127.0.0.1:1"),
        (
            "relay://12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN@r.example:4001",
            "/dns/r.example/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
            "relay://12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN@r.example:4001",
        ),
        (
            "relay+wss://12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN@r.example",
            "/dns/r.example/tcp/443/tls/ws/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
            "relay+wss://12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN@r.example:443",
        ),
        (
            "/ip6/::1/tcp/1/ws/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
            "/ip6/::1/tcp/1/ws/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
            "relay+ws://12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN@[::1]:1",
        ),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.to_string(), canonical);
        assert_eq!(address.host_port(), host_port);
        assert_eq!(canonical.parse(), Ok(address));
    }
    for wrong in [
        "",
        "/",
        ":4001",
        "acme.example",
        "acme.example:",
        "acme.example:65536",
        "::1:4001",
        "a b:1",
        "user@host:1",
        "https://acme.example:443",
        "/ip4/127.0.0.1",
        "/ip4/127.0.0.1/udp/1",
        "/ip4/127.0.0.1/udp/1/quic-v1",
        "/ip4/127.0.0.1/tcp/1/ws/ws",
        "/ip4/127.0.0.1/tcp/1/tls",
        "wss://acme.example/path",
        "wss://acme.example:x",
        "wss://",
        "ws://a b",
        "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
        "relay://acme.example:4001",
        "relay://nobody@acme.example:4001",
        "relay+tls://12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN@acme.example:4001",
        "relay://12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN@wss://acme.example",
        "/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
        "/ip4/127.0.0.1/tcp/1/p2p-circuit",
        "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
        "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
        "/dnsaddr/acme.example/tcp/1",
        "/memory/1",
        "/unix/tmp",
    ] {
        assert!(wrong.parse::<Address>().is_err(), "{wrong}");
    }
    let long = format!("{}:1", "a".repeat(254));
    assert!(long.parse::<Address>().is_err());
}

#[test]
fn secrets_are_not_printed() {
    let text = format!("{:?}", config(0xa7));
    assert!(text.contains("(..)") && !text.contains("167"), "{text}");
}

#[test]
fn handles_and_streams_go_where_they_are_needed() {
    fn assert_fits<T: Send + Unpin + 'static>() {}
    assert_fits::<Stream>();
    assert_fits::<Arc<Net>>();
    assert_fits::<Event>();
}
