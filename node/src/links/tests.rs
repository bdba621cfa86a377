//! Whole nodes that talk over loopback.

use std::time::Instant;

use lotline_policy::Policy;
use lotline_schema::org::About;
use tokio::task::JoinHandle;

use super::*;
use crate::config::{Config, Home};
use crate::feeds::{Feeds, Founded};
use crate::keys::{Founding, Keys};
use crate::service::Service;

const SHARE: &str =
    "[[share]]\nname = \"all\"\nwith = \"other\"\nfeed = \"quality\"\nparts = \"all\"\nshow = [\"identity\"]\nuntil = \"revoked\"\n";

struct Node {
    service: Service,
    _folder: tempfile::TempDir,
}

impl Node {
    /// A home with one feed, which its rules share with whoever is called `other`.
    async fn found(name: &str) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Some(folder.path())).unwrap();
        let config = Config::new(name);
        std::fs::write(home.config_file(), toml::to_string(&config).unwrap()).unwrap();
        let founding = Founding::new();
        founding.write(&home.keys()).unwrap();
        let keys = Keys::read(&home.keys()).unwrap();
        Feeds::found(&home.store(), Founded { name, founding: &founding, keys: &keys, about: About::default() }, 1).unwrap();
        let node = Node { service: Service::open(home, &|_| {}).unwrap(), _folder: folder };
        let set_up = |feeds: &mut Feeds| {
            feeds.ensure_feed("quality", 2).unwrap();
            feeds.apply_policy(Policy::restore(SHARE).unwrap(), false, 2).unwrap();
        };
        node.service.handle.with(set_up).await.unwrap();
        node
    }

    async fn net(&self) -> (Net, mpsc::Receiver<Event>) {
        let listen = vec!["127.0.0.1:0".parse().unwrap()];
        Net::start(crate::net::Config::new(self.service.keys.transport_seed(), listen)).await.unwrap()
    }

    async fn knows(&self, other: &Node, at: &Net) {
        let partner = Partner {
            name: "other".into(),
            party: other.service.handle.snapshot().party,
            peer: at.peer().to_string(),
            before: Vec::new(),
            addresses: at.listen_addresses().await.iter().map(ToString::to_string).collect(),
            feed: "quality".into(),
            subscribed: false,
            added: 1,
        };
        self.service.handle.with(|feeds| feeds.put_partner(partner)).await.unwrap().unwrap();
    }

    fn links(&self, net: &Net, events: mpsc::Receiver<Event>) -> (LinkBoard, JoinHandle<()>) {
        let board = LinkBoard::default();
        let context =
            Context { net: net.clone(), handle: self.service.handle.clone(), board: board.clone(), pairings: None, capture: None };
        (board, tokio::spawn(run(context, events)))
    }
}

/// Waits until both were told what the other shares, which only a control stream says.
async fn both_told(boards: [&LinkBoard; 2]) -> Duration {
    const PATIENCE: Duration = Duration::from_secs(20);
    let start = Instant::now();
    while boards.iter().any(|board| board.of("other").offers.is_empty()) {
        assert!(start.elapsed() < PATIENCE, "no control stream: {:?}", boards.map(|board| board.of("other")));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_dial_each_other_in_the_same_moment_talk_at_once() {
    let (alice, bob) = (Node::found("alice").await, Node::found("bob").await);
    for round in 0..25 {
        let ((a, a_events), (b, b_events)) = (alice.net().await, bob.net().await);
        alice.knows(&bob, &b).await;
        bob.knows(&alice, &a).await;
        // Both may come in before either begins: no dial is turned away, so that they cross.
        for (net, peer) in [(&a, b.peer()), (&b, a.peer())] {
            net.set_partners(vec![crate::net::Partner { peer, addresses: vec![] }]).await;
        }
        let (alice_board, alice_links) = alice.links(&a, a_events);
        let (bob_board, bob_links) = bob.links(&b, b_events);
        let took = both_told([&alice_board, &bob_board]).await;
        assert!(took < Duration::from_secs(10), "round {round} took {took:?}");
        a.shutdown().await;
        b.shutdown().await;
        let _ = (alice_links.await, bob_links.await);
    }
}
