//! Organisations whose keys we hold and whose bytes we choose, and honest nodes in this process for them to attack.
//!
//! [`Forge`] signs whatever it is told to, receipts and cosignatures among it; [`Line`] is one history of one feed;
//! [`Peer`] and [`Wire`] put raw frames on streams of an authenticated connection. [`Node`] is the product as `lotline run` joins it, without the local API.
//! Nothing here decides what is right; a failure to set the scene panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lotline_node::answer::{Answer, Failure};
use lotline_node::cli::HomeVerb;
use lotline_node::clock::Clock;
use lotline_node::config::{Config, Home};
use lotline_node::desk::Desk;
use lotline_node::exchange::Message;
use lotline_node::exchange::message::{Cosigned, Listing, VERSION, backfill_digest, items_digest};
use lotline_node::feeds::accept;
use lotline_node::feeds::{
    AcceptError, Accepted, Backfill, Feed, FeedError, Feeds, Founded, Head, Item, OnConflict, Partner, Published, Received, Submission,
};
use lotline_node::keys::{Founding, Keys, random};
use lotline_node::links;
use lotline_node::net::{self, Event, Net, PeerId, Protocol, Stream, transport_peer_id};
use lotline_node::pairing::Pairings;
use lotline_node::service::{LinkBoard, Service, now};
use lotline_node::store::StoreError;
use lotline_policy::Policy;
use lotline_schema::delivery::{Delivery, Way};
use lotline_schema::note::{Checkpoint, Cosignature, WitnessKey};
use lotline_schema::org::{self, Entry, Org, Role};
use lotline_schema::slot::Disclosure;
use lotline_schema::statement::{self, Place, Sealed};
use lotline_schema::tree::{Frontier, Tree, leaf_hash};
use lotline_schema::view::SealedView;
use lotline_schema::{Hash, Origin, PartyId, Record, codec};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How long a test waits for something that must come. Never how long it takes when all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits until there is an answer.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let waited = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    within(what, waited).await
}

/// The outcome of something that must end.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// A record of the benchmark kind: lot, part, and one more text.
pub fn record(lot: &str, part: &str, text: &str) -> Record {
    Record::benchmark(vec![codec::text(lot), codec::text(part), codec::text(text)])
}

/// An organisation in our hands.
pub struct Forge {
    /// What it calls itself.
    pub name: String,
    /// Every secret of it.
    pub keys: Keys,
    /// Its org feed so far.
    pub org: Org,
    founding: Founding,
    /// Receipts given so far.
    receipts: AtomicU64,
    _folder: TempDir,
}

impl Forge {
    /// A new one whose org feed holds its keyring.
    pub fn new(name: &str) -> Forge {
        Forge::founded(name, None)
    }

    /// One whose keyring names the transport key of another.
    pub fn with_transport_key_of(name: &str, other: &Forge) -> Forge {
        Forge::founded(name, Some(&other.founding))
    }

    fn founded(name: &str, transport: Option<&Founding>) -> Forge {
        let founding = Founding::new();
        let folder = tempfile::tempdir().expect("a temporary folder");
        founding.write(folder.path()).expect("keys are written");
        let secret = Keys::read(folder.path()).expect("keys are read back");
        let mut keys = founding.public();
        if let Some(other) = transport {
            keys.extend(other.public().into_iter().filter(|(role, _)| *role == Role::Transport));
        }
        let mut org = Org::new(founding.party());
        let sealed = org::seal(&org, &Entry::keyring(name, keys), now(), &founding.root, random).expect("a keyring is sealed");
        org.accept(sealed.core).expect("a keyring comes first");
        Forge { name: name.into(), keys: secret, org, founding, receipts: AtomicU64::new(0), _folder: folder }
    }

    /// The party.
    pub fn party(&self) -> PartyId {
        self.founding.party()
    }

    /// Its id on the network.
    pub fn peer(&self) -> PeerId {
        transport_peer_id(&self.keys.transport_seed())
    }

    /// How a node's partner book names it.
    pub fn as_partner(&self, subscribed: bool) -> Partner {
        let (party, peer) = (self.party(), self.peer().to_string());
        Partner {
            name: self.name.clone(),
            party,
            peer,
            before: Vec::new(),
            addresses: Vec::new(),
            feed: "quality".into(),
            subscribed,
            added: now(),
        }
    }

    /// States a feed and signs its first entry.
    pub fn open(&mut self, feed: &str) -> Line {
        self.open_as(Origin::new(self.party(), feed, 1).expect("a name for a feed"), None)
    }

    fn open_as(&mut self, origin: Origin, follows: Option<(u64, Hash)>) -> Line {
        let entry = Entry::Feed { origin: origin.clone(), follows };
        let sealed = org::seal(&self.org, &entry, now(), &self.keys.record, random).expect("an org entry is sealed");
        self.org.accept(sealed.core).expect("an org entry of ours");
        let first = org::seal_first(&self.org, &origin, now(), &self.keys.record, random).expect("a first entry is sealed");
        let mut line = Line { origin, entries: Vec::new() };
        line.push(first);
        line
    }

    /// Goes on in the next life of a feed, after a restore from a backup that holds only the first `known` entries of it.
    pub fn reopen(&mut self, line: &Line, known: u64) -> Line {
        let origin = line.origin.renewed();
        let follows = Some((known, line.checkpoint(known).root));
        self.open_as(origin, follows)
    }

    /// Signs an entry of its org feed with its root key.
    pub fn state(&mut self, entry: &Entry) {
        let sealed = org::seal(&self.org, entry, now(), &self.founding.root, random).expect("an org entry is sealed");
        self.org.accept(sealed.core).expect("an org entry of ours");
    }

    /// Its org feed, as a batch from an index on.
    pub fn org_batch(&self, from: u64) -> Received {
        self.org_part(from, self.org.size())
    }

    /// Entries `from` to `to` of its org feed, under a checkpoint over all of it.
    pub fn org_part(&self, from: u64, to: u64) -> Received {
        let items = self.org.entries()[..to as usize].iter().skip(from as usize);
        let items = items.map(|core| Item::View(SealedView { core: core.clone(), disclosures: Vec::new() })).collect();
        let (size, tree) = (self.org.size(), Tree::new(self.org.entries().iter().map(|core| leaf_hash(core)).collect()));
        let checkpoint = Checkpoint { origin: Origin::org(self.party()), size, root: self.org.frontier().root() };
        let tail = if to < size { tree.consistency(to, size).expect("a size below its own") } else { Vec::new() };
        Received { from, items, checkpoint: checkpoint.sign(&self.keys.log), tail, policy: None, under: Vec::new() }
    }

    /// Its receipt under the next number, whatever it says.
    pub fn receipt(&self, delivery: &Delivery) -> Vec<u8> {
        let number = self.receipts.fetch_add(1, Ordering::Relaxed);
        delivery.seal(self.party(), number, &self.keys.record, random).expect("a receipt is sealed")
    }

    /// Its cosignature on a checkpoint, under the key it has for that feed.
    pub fn cosign(&self, checkpoint: &Checkpoint, time: u64) -> Cosigned {
        let signer = self.keys.witness(&checkpoint.origin, 0);
        let (key, line) = (WitnessKey::opaque(signer.public()).to_string(), Cosignature::sign(checkpoint, &signer, time).to_line());
        Cosigned { size: checkpoint.size, key, line }
    }

    /// A listing of its org feed.
    pub fn org_listing(&self) -> Listing {
        Listing { origin: Origin::org(self.party()).to_string(), size: self.org.size(), term: "keys".into() }
    }
}

/// What an honest receipt says of a batch.
pub fn delivery_of(batch: &Received) -> Delivery {
    let Checkpoint { origin, size, root } = Checkpoint::read(&batch.checkpoint).expect("a checkpoint reads");
    let to = batch.from + batch.items.len() as u64;
    let (items, policy, at) = (items_digest(&batch.items), batch.policy, now());
    Delivery { origin: origin.to_string(), from: batch.from, to, size, root, items, policy, terms: None, at, way: Way::Batch }
}

/// What an honest receipt says of a backfill, by one who holds this checkpoint.
pub fn late_delivery_of(backfill: &Backfill, held: &Checkpoint) -> Delivery {
    let places = || backfill.items.iter().map(|(seq, _)| *seq);
    let (from, to) = (places().min().expect("a backfill of something"), places().max().expect("the same") + 1);
    let (origin, size, root) = (held.origin.to_string(), held.size, held.root);
    let (items, policy, at) = (backfill_digest(&backfill.items), backfill.policy, now());
    Delivery { origin, from, to, size, root, items, policy, terms: None, at, way: Way::Backfill }
}

/// An entry of a feed, whole.
#[derive(Clone)]
pub struct Forged {
    /// The signed bytes, or what is passed off as such.
    pub core: Vec<u8>,
    /// What opens its slots.
    pub disclosures: Vec<Disclosure>,
    /// The hash of `core`.
    pub leaf: Hash,
}

impl Forged {
    /// Any bytes.
    pub fn of(core: Vec<u8>, disclosures: Vec<Disclosure>) -> Forged {
        Forged { leaf: leaf_hash(&core), core, disclosures }
    }

    /// With every slot open.
    pub fn view(&self) -> SealedView {
        SealedView { core: self.core.clone(), disclosures: self.disclosures.clone() }
    }
}

/// One history of one feed. A clone that goes on differently is a fork.
#[derive(Clone)]
pub struct Line {
    /// The feed.
    pub origin: Origin,
    /// Its entries so far.
    pub entries: Vec<Forged>,
}

impl Line {
    /// Entries so far.
    pub fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Seals a record for the next place, without putting it there.
    pub fn seal(&self, forge: &Forge, record: &Record) -> Forged {
        let place = Place { origin: self.origin.clone(), seq: self.size(), now: now(), supersedes: None };
        let sealed = statement::seal_record(record, &place, &forge.keys.record, random).expect("a record is sealed");
        Forged::of(sealed.core, sealed.disclosures)
    }

    /// Publishes honestly.
    pub fn publish(&mut self, forge: &Forge, record: &Record) {
        let entry = self.seal(forge, record);
        self.entries.push(entry);
    }

    /// Puts a sealed statement at the next place, wherever it belongs.
    pub fn push(&mut self, sealed: Sealed) {
        self.entries.push(Forged::of(sealed.core, sealed.disclosures));
    }

    /// The tree over its entries.
    pub fn tree(&self) -> Tree {
        Tree::new(self.entries.iter().map(|entry| entry.leaf).collect())
    }

    /// The right edge of the tree over the first entries.
    pub fn frontier(&self, size: u64) -> Frontier {
        let mut frontier = Frontier::new();
        self.entries[..size as usize].iter().for_each(|entry| frontier.push(entry.leaf));
        frontier
    }

    /// A checkpoint over the first entries.
    pub fn checkpoint(&self, size: u64) -> Checkpoint {
        Checkpoint { origin: self.origin.clone(), size, root: self.tree().root(size) }
    }

    /// Entries `from` to `to`, whole, under a checkpoint over the first `to`.
    pub fn batch(&self, forge: &Forge, from: u64, to: u64) -> Received {
        let items = self.entries[from as usize..to as usize].iter().map(|entry| Item::View(entry.view())).collect();
        Received { from, items, checkpoint: self.checkpoint(to).sign(&forge.keys.log), tail: Vec::new(), policy: None, under: Vec::new() }
    }

    /// A listing of it.
    pub fn listing(&self) -> Listing {
        Listing { origin: self.origin.to_string(), size: self.size(), term: "everything".into() }
    }
}

/// The one writer of a home, alone: no service, no network.
pub struct Keeper {
    /// What it writes; none while it is closed.
    pub feeds: Option<Feeds>,
    keys: Arc<Keys>,
    folder: TempDir,
}

impl Keeper {
    /// A new firm.
    pub fn new(name: &str) -> Keeper {
        let (folder, founding) = (tempfile::tempdir().expect("a temporary folder"), Founding::new());
        let (keys, store) = (folder.path().join("keys"), folder.path().join("store"));
        founding.write(&keys).expect("keys are written");
        let keys = Keys::read(&keys).expect("keys are read back");
        std::fs::create_dir_all(&store).expect("a folder for the store");
        Feeds::found(&store, Founded { name, founding: &founding, keys: &keys, about: Default::default() }, now())
            .expect("a home is founded");
        let mut keeper = Keeper { feeds: None, keys: Arc::new(keys), folder };
        keeper.open();
        keeper
    }

    fn open(&mut self) {
        // A command that another test of this program starts has our files, and the lock, for a moment.
        crate::world::wait("the home to open", || match Feeds::open(&self.folder.path().join("store"), self.keys.clone(), &|_| {}) {
            Ok((feeds, ..)) => self.feeds.replace(feeds).is_none(),
            Err(FeedError::Store(StoreError::Locked)) => false,
            Err(why) => panic!("the home does not open: {why}"),
        });
    }

    /// Its writer.
    pub fn feeds(&mut self) -> &mut Feeds {
        self.feeds.as_mut().expect("the home is open")
    }

    /// Its org feed.
    pub fn org(&mut self) -> Arc<Org> {
        let snapshot = self.feeds().snapshot();
        snapshot.orgs[&snapshot.party].clone()
    }

    /// Stops in order and starts again.
    pub fn restart(&mut self) {
        self.feeds.take().expect("the home is open").close().expect("the home closes");
        self.open();
    }

    /// Starts again on what looks like a copy of its records: the seal that goes with them is gone.
    pub fn restore(&mut self) {
        self.feeds.take().expect("the home is open").close().expect("the home closes");
        std::fs::remove_file(self.folder.path().join("store").join("seal")).expect("a seal");
        self.open();
    }

    /// Follows somebody and believes its org feed.
    pub fn know_keys_of(&mut self, forge: &Forge) -> Result<(), AcceptError> {
        let size = self.feeds().snapshot().orgs.get(&forge.party()).map_or(0, |org| org.size());
        if size == forge.org.size() { Ok(()) } else { self.take_org(forge.party(), forge.org_batch(size)) }
    }

    /// Takes a batch of somebody's org feed as the links do.
    pub fn take_org(&mut self, party: PartyId, batch: Received) -> Result<(), AcceptError> {
        let (origin, feeds) = (Origin::org(party), self.feeds());
        feeds.follow(&origin)?;
        let feed = feeds.snapshot().feeds[origin.as_str()].clone();
        let org = feeds.snapshot().orgs.get(&party).map_or_else(|| Org::new(party), |org| Org::clone(org));
        let verified = accept::verify_org(&org, &feed.head, batch)?;
        feeds.accept(verified, None, now()).map(drop)
    }

    /// Takes a batch as the links do: verified against the head as it is, stored, receipted and cosigned.
    pub fn take(&mut self, origin: &Origin, batch: Received, now: u64) -> Result<Accepted, AcceptError> {
        let feeds = self.feeds();
        feeds.follow(origin)?;
        let feed = feeds.snapshot().feeds[origin.as_str()].clone();
        let org = feeds.snapshot().orgs[&origin.party()].clone();
        let verified = accept::verify(&org, origin, &feed.head, batch)?;
        feeds.accept(verified, None, now)
    }
}

/// A node in this process: service, network and links, as `lotline run` joins them.
pub struct Node {
    /// Its open home.
    pub service: Service,
    /// Its network.
    pub net: Net,
    /// How its links stand.
    pub board: LinkBoard,
    /// Who is expected to pair.
    pub pairings: Pairings,
    /// The folder of its home; gone when dropped.
    pub folder: TempDir,
    linking: JoinHandle<()>,
}

impl Node {
    /// A new firm, listening on a port of the system's choice.
    pub async fn new(name: &str) -> Node {
        Node::new_by(Clock::system(), name).await
    }

    /// The same by another clock than this computer's.
    pub async fn new_by(clock: Clock, name: &str) -> Node {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = Home::at(Some(&folder.path().join("home"))).expect("a home has a path");
        let founding = Founding::new();
        founding.write(&home.keys()).expect("keys are written");
        let keys = Keys::read(&home.keys()).expect("keys are read back");
        std::fs::create_dir_all(home.store()).expect("a folder for the store");
        Feeds::found(&home.store(), Founded { name, founding: &founding, keys: &keys, about: Default::default() }, now())
            .expect("a home is founded");
        let config = Config { persons: true, ..Config::new(name) };
        home.write_config(&config).expect("the configuration is written");
        Node::start_by(clock, folder, home).await
    }

    /// Starts on a home that was stopped before.
    pub async fn start(folder: TempDir, home: Home) -> Node {
        Node::start_by(Clock::system(), folder, home).await
    }

    /// The same by another clock than this computer's.
    pub async fn start_by(clock: Clock, folder: TempDir, home: Home) -> Node {
        let service = Service::open_by(clock, home, &|_| {}).expect("the home opens");
        let listen = vec!["127.0.0.1:0".parse().expect("an address")];
        let (net, events) = Net::start(net::Config::new(service.keys.transport_seed(), listen)).await.expect("the network starts");
        let board = LinkBoard::default();
        board.set_listening(net.listen_addresses().await.iter().map(ToString::to_string).collect());
        let pairings = Pairings::open(service.handle.clone(), &service.home.invitations_file()).expect("its invitations are read");
        let listening = board.clone();
        pairings.use_net(net.clone(), std::sync::Arc::new(move || listening.listening())).await;
        let context = links::Context {
            net: net.clone(),
            handle: service.handle.clone(),
            board: board.clone(),
            pairings: Some(pairings.clone()),
            capture: None,
        };
        let linking = tokio::spawn(links::run(context, events));
        Node { service, net, board, pairings, folder, linking }
    }

    /// Ends in order; the folder stays.
    pub async fn stop(self) -> (TempDir, Home) {
        let Node { service, net, board: _, pairings, folder, linking } = self;
        drop(pairings);
        let home = service.home.clone();
        net.shutdown().await;
        within("the links to end", linking).await.expect("the links end in order");
        let closed = tokio::task::spawn_blocking(move || service.close());
        within("the home to close", closed).await.expect("no panic while closing").expect("the home closes");
        (folder, home)
    }

    /// Stops and starts again on the same home.
    pub async fn restart(self) -> Node {
        let (folder, home) = self.stop().await;
        Node::start(folder, home).await
    }

    /// Does something on its feeds thread, which therefore is alive.
    pub async fn with<T: Send + 'static>(&self, work: impl FnOnce(&mut Feeds) -> T + Send + 'static) -> T {
        within("the feeds thread", self.service.handle.with(work)).await.expect("the feeds thread runs")
    }

    /// How the partner book of another node names it.
    pub async fn as_partner(&self, subscribed: bool) -> Partner {
        let snapshot = self.service.handle.snapshot();
        let addresses = self.net.listen_addresses().await.iter().map(ToString::to_string).collect();
        let (party, peer) = (snapshot.party, self.net.peer().to_string());
        Partner {
            name: snapshot.name.clone(),
            party,
            peer,
            before: Vec::new(),
            addresses,
            feed: "quality".into(),
            subscribed,
            added: now(),
        }
    }

    /// Does a verb of the command line, as the local API would.
    pub async fn verb(&self, verb: serde_json::Value) -> Result<Answer, Failure> {
        let verb: HomeVerb = serde_json::from_value(verb).expect("a verb as the command line sends it");
        let config = self.service.home.config().expect("the configuration reads");
        let (home, handle) = (self.service.home.clone(), self.service.handle.clone());
        let desk = Desk { home, config, handle, board: Some(self.board.clone()), pairings: Some(self.pairings.clone()) };
        within("a verb", tokio::task::spawn_blocking(move || verb.perform(&desk))).await.expect("no panic in a verb")
    }

    /// Puts somebody into its partner book.
    pub async fn know(&self, partner: Partner) {
        self.with(move |feeds| feeds.put_partner(partner)).await.expect("a partner is added");
    }

    /// Gives it the org feed of somebody, as if it had been offered: it can check receipts from then on.
    pub async fn know_keys_of(&self, forge: &Forge) {
        let (party, batch) = (forge.party(), forge.org_batch(0));
        let taken = self.with(move |feeds| {
            feeds.follow(&Origin::org(party))?;
            let verified = accept::verify_org(&Org::new(party), &Head::default(), batch)?;
            feeds.accept(verified, None, feeds.clock().now()).map(drop)
        });
        taken.await.unwrap_or_else(|why: AcceptError| panic!("an honest org feed was refused: {why}"));
    }

    /// Publishes records in one commit.
    pub async fn publish(&self, feed: &str, records: Vec<Record>) -> Vec<Published> {
        let feed = feed.to_owned();
        let submission = move |record| Submission { record, owner: None, feed: feed.clone(), on_conflict: OnConflict::Refuse };
        let submissions = records.into_iter().map(submission).collect();
        let published = self.with(move |feeds| feeds.submit(submissions, feeds.clock().now())).await.expect("the records are published");
        published.into_iter().map(|published| published.expect("a record is published")).collect()
    }

    /// Puts sharing rules in force.
    pub async fn apply(&self, rules: &str) {
        let policy = Policy::restore(rules).expect("the rules are in form");
        self.with(move |feeds| feeds.apply_policy(policy, true, feeds.clock().now())).await.expect("the rules are applied");
    }

    /// A feed as it stands here.
    pub fn feed(&self, origin: &Origin) -> Option<Feed> {
        self.service.handle.snapshot().feeds.get(&origin.to_string()).cloned()
    }

    /// The origin of a feed of its own.
    pub fn own(&self, feed: &str) -> Origin {
        Origin::new(self.service.handle.snapshot().party, feed, 1).expect("a name for a feed")
    }
}

/// Somebody on the network who holds a transport key and writes what it likes.
pub struct Peer {
    /// Its end of the network.
    pub net: Net,
    /// The node it talks to.
    pub node: PeerId,
    events: mpsc::Receiver<Event>,
}

impl Peer {
    /// Dials a node with the transport key of a forge.
    pub async fn dial(forge: &Forge, node: &Node) -> Peer {
        // A hostile program has no limits of its own.
        let config = net::Config { streams_per_peer_max: 400, ..net::Config::new(forge.keys.transport_seed(), Vec::new()) };
        let (net, events) = Net::start(config).await.expect("the network starts");
        let addresses = node.net.listen_addresses().await;
        let peer = node.net.peer();
        net.set_partners(vec![net::Partner { peer, addresses }]).await;
        Peer { net, node: peer, events }
    }

    /// Dials a node that knows it, and waits until the connection is up.
    pub async fn connect(forge: &Forge, node: &Node) -> Peer {
        let mut peer = Peer::dial(forge, node).await;
        peer.event("a connection", |event| matches!(event, Event::Connected { .. }).then_some(())).await;
        peer
    }

    /// The next event that fits; others are dropped.
    pub async fn event<T>(&mut self, what: &str, mut fits: impl FnMut(Event) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = fits(self.events.recv().await.expect("the network runs")) {
                    return found;
                }
            }
        };
        within(what, found).await
    }

    /// Opens a stream.
    pub async fn stream(&self, protocol: Protocol) -> Wire {
        let stream = within("a stream", self.net.open(self.node, protocol)).await;
        Wire::new(stream.expect("a stream opens"))
    }

    /// Opens a stream for a feed and asks.
    pub async fn follow(&self, open: &Message) -> Wire {
        let mut wire = self.stream(Protocol::Feed).await;
        wire.send(open).await;
        wire
    }

    /// Opens the control stream and says hello.
    pub async fn control(&self, name: &str) -> Wire {
        let mut wire = self.stream(Protocol::Control).await;
        wire.send(&Message::Hello { version: VERSION, name: name.into(), now: now() }).await;
        assert!(matches!(wire.next().await, Some(Message::Hello { .. })));
        wire
    }

    /// The next stream for a feed that the node opens, and what it asks for.
    pub async fn asked(&mut self) -> (Wire, Message) {
        let stream = |event| if let Event::Stream { protocol: Protocol::Feed, stream, .. } = event { Some(stream) } else { None };
        let mut wire = Wire::new(self.event("a stream of the node", stream).await);
        let open = wire.next().await.expect("a stream opens with a message");
        (wire, open)
    }
}

/// One end of a stream, in raw frames.
pub struct Wire<S = Stream> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    /// Every byte read so far.
    pub read: Vec<u8>,
    at: usize,
    /// The checkpoint of the last batch taken, and the index after it.
    held: Option<(Checkpoint, u64)>,
}

impl<S: AsyncRead + AsyncWrite> Wire<S> {
    /// Takes a stream.
    pub fn new(stream: S) -> Wire<S> {
        let (reader, writer) = tokio::io::split(stream);
        Wire { reader, writer, read: Vec::new(), at: 0, held: None }
    }

    /// What an earlier stream brought: everything below `next`, under this checkpoint.
    pub fn holds(&mut self, checkpoint: Checkpoint, next: u64) {
        self.held = Some((checkpoint, next));
    }

    /// Sends any bytes; false when the other side has ended the stream.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        let sent = async { self.writer.write_all(bytes).await.and(self.writer.flush().await) };
        within("bytes to leave", sent).await.is_ok()
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &Message) -> bool {
        self.send_bytes(&message.to_frame()).await
    }

    /// Sends a frame of this type and body.
    pub async fn send_frame(&mut self, typ: u8, body: &[u8]) -> bool {
        let length = (1 + body.len()) as u32;
        self.send_bytes(&[&length.to_be_bytes()[..], &[typ], body].concat()).await
    }

    /// The next frame with its length in front; none at the end of the stream.
    pub async fn frame(&mut self) -> Option<Vec<u8>> {
        self.fill(4).await?;
        let length: [u8; 4] = self.read[self.at..self.at + 4].try_into().expect("four bytes");
        let whole = 4 + u32::from_be_bytes(length) as usize;
        self.fill(whole).await?;
        let frame = self.read[self.at..self.at + whole].to_vec();
        self.at += whole;
        Some(frame)
    }

    /// The next message; none at the end of the stream.
    pub async fn next(&mut self) -> Option<Message> {
        let frame = self.frame().await?;
        Some(Message::read(&frame[4..]).expect("a node speaks the protocol").expect("a node sends nothing that may be skipped"))
    }

    /// The next message, as an honest follower takes it: batches and backfills are answered with a receipt.
    pub async fn take(&mut self, forge: &Forge) -> Option<Message> {
        let message = self.next().await?;
        let delivery = match &message {
            Message::Batch(batch) => {
                let next = batch.from + batch.items.len() as u64;
                self.held = Some((Checkpoint::read(&batch.checkpoint).expect("a checkpoint reads"), next));
                delivery_of(batch)
            }
            Message::Backfill(backfill) => late_delivery_of(backfill, &self.held.as_ref().expect("a backfill comes after a batch").0),
            _ => return Some(message),
        };
        let (Checkpoint { origin, .. }, next) = self.held.as_ref().expect("taken above");
        let receipt = (!origin.is_org()).then(|| forge.receipt(&delivery));
        self.send(&Message::Ack { next: *next, credit: message.to_frame().len() as u64, receipt }).await;
        Some(message)
    }

    /// Takes what comes until this follower has met the head.
    pub async fn take_all(&mut self, forge: &Forge) {
        while !matches!(self.take(forge).await.expect("the stream goes on"), Message::CaughtUp { .. }) {}
    }

    /// Reads until the stream ends; the last message before.
    pub async fn last(&mut self) -> Option<Message> {
        let mut last = None;
        while let Some(message) = self.next().await {
            last = Some(message);
        }
        last
    }

    /// Reads whatever still comes, until the stream ends.
    pub async fn drain(&mut self) {
        while self.more().await {}
    }

    async fn fill(&mut self, wanted: usize) -> Option<()> {
        while self.read.len() - self.at < wanted {
            if !self.more().await {
                return None;
            }
        }
        Some(())
    }

    /// Reads once; false at the end.
    async fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let read = within("the other side", self.reader.read(&mut buffer)).await.unwrap_or(0);
        self.read.extend_from_slice(&buffer[..read]);
        read > 0
    }
}
