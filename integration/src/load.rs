//! Many light partners in this process against one node that runs as the program it is: fan-in and fan-out.
//!
//! A light partner has keys, an org feed, a connection and streams of its own and speaks the protocol as any partner does; what it leaves
//! out is a home, and to verify what it is sent. So what is measured is the node.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lotline_node::exchange::message::VERSION;
use lotline_node::exchange::{CREDIT_BYTES, Message};
use lotline_node::feeds::{Feeds, Partner, Received};
use lotline_node::keys::Keys;
use lotline_node::net::{self, Event, Net, PeerId, Protocol, Stream};
use lotline_node::platform;
use lotline_node::service::now;
use lotline_policy::Policy;
use lotline_schema::tree::empty_root;
use lotline_schema::{Hash, Origin};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::forge::{Forge, Line, Wire, record};
use crate::world::{Firm, World, lots_file, wait};

/// How long everything may take in all. Never how long it takes when all is well.
const PATIENCE: Duration = Duration::from_secs(1200);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// After a control stream that ended, while the connection lives.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// What the node that is measured calls its feed, and the light suppliers theirs.
const FEED: &str = "quality";
/// The node's feed goes to everybody in the book.
const TO_ALL: &str =
    "[[share]]\nname = 'all'\nwith = 'customers'\nfeed = 'quality'\nparts = 'all'\nshow = 'everything'\nuntil = 'revoked'\n";

/// What a node used while something was going on.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// How long it took.
    pub wall: Duration,
    /// What the node calculated.
    pub cpu: Duration,
    /// Its resident memory at the end, in bytes.
    pub memory: u64,
}

/// One node that follows many suppliers.
#[derive(Debug)]
pub struct FanIn {
    /// The node without any connection: resident memory in bytes.
    pub alone: u64,
    /// From the first dial until it had everything.
    pub catching_up: Used,
    /// Nobody says anything new.
    pub idle: Used,
    /// Records by origin, place and leaf, as the node lists them.
    pub records: Vec<(String, u64, String)>,
    /// Feeds that are not here whole, or with another root.
    pub missing: usize,
    /// Connections there were beyond the one of each supplier.
    pub again: u64,
}

/// One node that serves many customers.
#[derive(Debug)]
pub struct FanOut {
    /// From the first dial until every customer had the feed's first record.
    pub connecting: Used,
    /// From the command to publish until every customer had every record and had acknowledged it.
    pub publishing: Used,
    /// Entries that each customer got, in the order of places, in every one of them exactly once.
    pub entries: BTreeSet<u64>,
}

/// Runs a node that follows this many suppliers with this many records each, and leaves them alone for a while.
pub fn fan_in(suppliers: usize, records: usize, idle: Duration) -> FanIn {
    platform::raise_open_files();
    let world = World::new();
    let oem = world.reachable_firm("oem");
    let parties: Vec<_> = (0..suppliers).map(|at| Arc::new(Party::supplier(&format!("s-{at:04}"), records))).collect();
    write_book(oem.home(), parties.iter().map(|party| party.forge.as_partner(true)).collect(), None);
    oem.start();
    let node = Measured::of(&oem);
    let alone = node.memory();
    let crowd = Crowd::dial(&parties, &oem);
    let catching_up =
        node.until("every supplier to be acknowledged", || crowd.count(|party| party.met() == records as u64 + 1) == suppliers);
    let idle = node.during(idle);
    let again = crowd.count_connections() - suppliers as u64;
    let heads = oem.heads();
    let whole = |party: &Arc<Party>| {
        let line = party.line.as_ref().expect("a supplier has a feed");
        heads.contains(&(line.origin.to_string(), line.size(), line.checkpoint(line.size()).root.to_string()))
    };
    let missing = parties.iter().filter(|party| !whole(party)).count();
    let found = FanIn { alone, catching_up, idle, records: oem.records(), missing, again };
    crowd.leave();
    oem.stop();
    found
}

/// Runs a node that publishes this many records while this many customers are connected.
pub fn fan_out(customers: usize, records: usize) -> FanOut {
    platform::raise_open_files();
    let world = World::new();
    let supplier = world.reachable_firm("supplier");
    supplier.publish(&world.file("first.csv", lots_file("FIRST", "P-1", 1)), &["--feed", FEED]);
    let parties: Vec<_> = (0..customers).map(|at| Arc::new(Party::customer(&format!("c-{at:04}")))).collect();
    let names = parties.iter().map(|party| format!("'{}'", party.forge.name)).collect::<Vec<_>>().join(", ");
    let rules = format!("[groups]\ncustomers = [{names}]\n{TO_ALL}");
    write_book(supplier.home(), parties.iter().map(|party| party.forge.as_partner(false)).collect(), Some(&rules));
    supplier.start();
    let node = Measured::of(&supplier);
    let crowd = Crowd::dial(&parties, &supplier);
    let all_have = |size: u64| crowd.count(|party| party.met() >= size) == customers;
    // A feed begins with an entry that is no record.
    let connecting = node.until("every customer to have the first record", || all_have(2));
    let file = world.file("lots.csv", lots_file("L", "P-1", records));
    let began = node.begin();
    supplier.publish(&file, &["--feed", FEED]);
    let size = 2 + records as u64;
    wait_long("every customer to have every record", || all_have(size));
    let publishing = node.since(began);
    let entries = parties.iter().map(|party| party.entries.load(Ordering::Relaxed)).collect();
    crowd.leave();
    supplier.stop();
    FanOut { connecting, publishing, entries }
}

/// Writes partners and rules as their owner would have, one by one, while the node is stopped.
fn write_book(home: &Path, partners: Vec<Partner>, rules: Option<&str>) {
    let keys = Keys::read(&home.join("keys")).expect("the keys of a home");
    let (mut feeds, ..) = Feeds::open(&home.join("store"), keys.into(), &|_| {}).expect("the store of a home");
    for partner in partners {
        feeds.put_partner(partner).expect("a partner is added");
    }
    if let Some(rules) = rules {
        feeds.apply_policy(Policy::restore(rules).expect("the rules are in form"), true, now()).expect("the rules are applied");
    }
    feeds.close().expect("the store closes");
}

fn wait_long(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "waited {} s in vain: {what}", PATIENCE.as_secs());
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A running node, looked at from outside.
struct Measured<'a> {
    firm: &'a Firm,
    pid: u64,
}

impl Measured<'_> {
    fn of(firm: &Firm) -> Measured<'_> {
        let run: Value = serde_json::from_slice(&std::fs::read(firm.path("run.json")).expect("a run file")).expect("JSON");
        Measured { firm, pid: run["pid"].as_u64().expect("a process id") }
    }

    fn memory(&self) -> u64 {
        self.firm.ok(&["status"])["memory_bytes"].as_u64().unwrap_or(0)
    }

    /// What it calculated so far; nothing where the system does not tell.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // Behind the name, which may hold anything: user and system time are the 14th and 15th field, in hundredths of a second.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>();
        Duration::from_millis(ticks * 10)
    }

    fn begin(&self) -> (Instant, Duration) {
        (Instant::now(), self.cpu())
    }

    fn since(&self, (began, cpu): (Instant, Duration)) -> Used {
        let (wall, cpu) = (began.elapsed(), self.cpu().saturating_sub(cpu));
        Used { wall, cpu, memory: self.memory() }
    }

    fn until(&self, what: &str, so: impl FnMut() -> bool) -> Used {
        let began = self.begin();
        wait_long(what, so);
        self.since(began)
    }

    fn during(&self, time: Duration) -> Used {
        let began = self.begin();
        std::thread::sleep(time);
        self.since(began)
    }
}

/// Light partners at work, on threads of their own.
struct Crowd {
    parties: Vec<Arc<Party>>,
    runtime: tokio::runtime::Runtime,
}

impl Crowd {
    /// All dial a node, in the same moment.
    fn dial(parties: &[Arc<Party>], node: &Firm) -> Crowd {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
        let mut listening = Vec::new();
        wait("the node to say where it listens", || {
            let status = node.ok(&["status"]);
            let peer = status["transport"]["peer"].as_str().and_then(|peer| peer.parse().ok());
            let addresses = status["listening"].as_array().into_iter().flatten().filter_map(|address| address.as_str()?.parse().ok());
            listening = peer.map(|peer| net::Partner { peer, addresses: addresses.collect() }).into_iter().collect();
            listening.iter().any(|node| !node.addresses.is_empty())
        });
        for party in parties {
            let (party, node) = (party.clone(), listening.clone());
            runtime.spawn(party.run(node));
        }
        Crowd { parties: parties.to_vec(), runtime }
    }

    fn count(&self, of: impl Fn(&Party) -> bool) -> usize {
        self.parties.iter().filter(|party| of(party)).count()
    }

    fn count_connections(&self) -> u64 {
        self.parties.iter().map(|party| party.connections.load(Ordering::Relaxed)).sum()
    }

    fn leave(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

/// A light partner.
struct Party {
    forge: Forge,
    /// Its feed; none: it only follows.
    line: Option<Line>,
    /// How far its feed, or the feed it follows, has met the other side.
    met: AtomicU64,
    /// Entries it was sent.
    entries: AtomicU64,
    connections: AtomicU64,
}

impl Party {
    fn supplier(name: &str, records: usize) -> Party {
        let mut forge = Forge::new(name);
        let mut line = forge.open(FEED);
        (0..records).for_each(|at| line.publish(&forge, &record(&format!("{name}-{at}"), "P-1", "ok")));
        Party::with(forge, Some(line))
    }

    fn customer(name: &str) -> Party {
        Party::with(Forge::new(name), None)
    }

    fn with(forge: Forge, line: Option<Line>) -> Party {
        Party { forge, line, met: AtomicU64::new(0), entries: AtomicU64::new(0), connections: AtomicU64::new(0) }
    }

    fn met(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }

    /// Connects and answers until its runtime ends.
    async fn run(self: Arc<Party>, node: Vec<net::Partner>) {
        let config = net::Config::new(self.forge.keys.transport_seed(), Vec::new());
        let (net, mut events) = Net::start(config).await.expect("the network starts");
        net.set_partners(node).await;
        // The streams of a connection that is gone end by themselves.
        let mut streams = JoinSet::new();
        while let Some(event) = events.recv().await {
            match event {
                Event::Connected { peer, .. } => {
                    self.connections.fetch_add(1, Ordering::Relaxed);
                    streams.spawn(self.clone().control(net.clone(), peer));
                }
                Event::Stream { protocol: Protocol::Feed, stream, .. } => {
                    streams.spawn(self.clone().serve(stream));
                }
                _ => {}
            }
        }
    }

    /// The control stream, again and again while there is a connection.
    async fn control(self: Arc<Party>, net: Net, node: PeerId) {
        while let Ok(stream) = net.open(node, Protocol::Control).await {
            let (mut wire, mut following) = (Wire::new(stream), JoinSet::new());
            wire.send(&Message::Hello { version: VERSION, name: self.forge.name.clone(), now: now() }).await;
            while let Some(message) = wire.next().await {
                match message {
                    Message::Hello { .. } => wire.send(&self.catalog()).await,
                    Message::Ping => wire.send(&Message::Pong).await,
                    Message::Catalog(listings) if self.line.is_none() && following.is_empty() => {
                        let data = listings.into_iter().filter_map(|of| of.origin.parse::<Origin>().ok()).find(|origin| !origin.is_org());
                        data.map(|origin| following.spawn(self.clone().follow(net.clone(), node, origin)));
                        true
                    }
                    _ => true,
                };
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    fn catalog(&self) -> Message {
        Message::Catalog([self.forge.org_listing()].into_iter().chain(self.line.as_ref().map(Line::listing)).collect())
    }

    /// Serves its org feed or its feed, and keeps the stream open.
    async fn serve(self: Arc<Party>, stream: Stream) {
        let mut wire = Wire::new(stream);
        let Some(Message::Open { origin, next, .. }) = wire.next().await else { return };
        let line = self.line.as_ref().filter(|line| line.origin.as_str() == origin);
        let size = line.map_or(self.forge.org.size(), Line::size);
        let org_size = self.forge.org.size();
        wire.send(&Message::Opened { view: Hash([1; 32]), size, org_size, term: "everything".into(), owed: false }).await;
        if next < size {
            let batch = line.map_or_else(|| self.forge.org_batch(next), |line| line.batch(&self.forge, next, size));
            wire.send(&Message::Batch(batch)).await;
            // A cosignature may come before it.
            while !matches!(wire.next().await, Some(Message::Ack { next, .. }) if next == size) {}
        }
        wire.send(&Message::CaughtUp { size }).await;
        if line.is_some() {
            self.met.store(size, Ordering::Relaxed);
        }
        std::future::pending().await
    }

    /// Follows a feed of the node and acknowledges what comes.
    async fn follow(self: Arc<Party>, net: Net, node: PeerId, origin: Origin) {
        let Ok(stream) = net.open(node, Protocol::Feed).await else { return };
        let mut wire = Wire::new(stream);
        let (origin, root) = (origin.to_string(), empty_root());
        wire.send(&Message::Open { origin, next: 0, root, view: None, credit: CREDIT_BYTES }).await;
        while let Some(message) = wire.take(&self.forge).await {
            if let Message::Batch(Received { from, items, .. }) = message {
                self.entries.fetch_add(items.len() as u64, Ordering::Relaxed);
                self.met.store(from + items.len() as u64, Ordering::Relaxed);
            }
        }
    }
}
