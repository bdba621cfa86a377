//! Organisations whose keys we hold and whose bytes we choose, and honest nodes in this process for them to attack.
//!
//! [`Forge`] signs whatever it is told to, [`Line`] is one history of one feed, [`Peer`] and [`Wire`] put raw frames on
//! streams of an authenticated connection. [`Node`] is the product as `lotline run` joins it, without the local API.
//! Nothing here decides what is right; a failure to set the scene panics.

use std::collections::BTreeMap;
use std::time::Duration;

use lotline_node::config::{Config, Home};
use lotline_node::exchange::Message;
use lotline_node::exchange::message::{Listing, VERSION};
use lotline_node::feeds::{Feed, Feeds, Founded, Item, OnConflict, Partner, Published, Received, Submission};
use lotline_node::keys::{Founding, Keys, random};
use lotline_node::links;
use lotline_node::net::{self, Event, Net, PeerId, Protocol, Stream, transport_peer_id};
use lotline_node::service::{LinkBoard, Service, now};
use lotline_policy::Policy;
use lotline_schema::note::Checkpoint;
use lotline_schema::org::{self, Entry, Org, Role};
use lotline_schema::slot::Disclosure;
use lotline_schema::statement::{self, Place, Sealed};
use lotline_schema::tree::{Frontier, Tree, leaf_hash};
use lotline_schema::view::SealedView;
use lotline_schema::{Hash, Origin, PartyId, Record, codec};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
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
    _folder: TempDir,
}

impl Forge {
    /// A new one whose org feed holds its keyring.
    pub fn new(name: &str) -> Forge {
        let founding = Founding::new();
        let keys = founding.public();
        Forge::stating(name, founding, keys)
    }

    /// One whose keyring names the transport key of another.
    pub fn with_transport_key_of(name: &str, other: &Forge) -> Forge {
        let founding = Founding::new();
        let mut keys = founding.public();
        keys.extend(other.founding.public().into_iter().filter(|(role, _)| *role == Role::Transport));
        Forge::stating(name, founding, keys)
    }

    fn stating(name: &str, founding: Founding, public: BTreeMap<Role, VerifyingKey>) -> Forge {
        let folder = tempfile::tempdir().expect("a temporary folder");
        founding.write(folder.path()).expect("keys are written");
        let keys = Keys::read(folder.path()).expect("keys are read back");
        let mut org = Org::new(founding.party());
        let keyring = Entry::Keyring { name: name.into(), keys: public };
        let sealed = org::seal(&org, &keyring, now(), &founding.root, random).expect("a keyring is sealed");
        org.accept(sealed.core).expect("a keyring comes first");
        Forge { name: name.into(), keys, org, founding, _folder: folder }
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
        Partner { name: self.name.clone(), party, peer, addresses: Vec::new(), feed: "quality".into(), subscribed, added: now() }
    }

    /// States a feed and signs its first entry.
    pub fn open(&mut self, feed: &str) -> Line {
        let origin = Origin::new(self.party(), feed, 1).expect("a name for a feed");
        let entry = Entry::Feed { origin: origin.clone(), follows: None };
        let sealed = org::seal(&self.org, &entry, now(), &self.keys.record, random).expect("an org entry is sealed");
        self.org.accept(sealed.core).expect("an org entry of ours");
        let first = org::seal_first(&self.org, &origin, now(), &self.keys.record, random).expect("a first entry is sealed");
        let mut line = Line { origin, entries: Vec::new() };
        line.push(first);
        line
    }

    /// Its org feed, as a batch from an index on.
    pub fn org_batch(&self, from: u64) -> Received {
        let items = self.org.entries().iter().skip(from as usize);
        let items = items.map(|core| Item::View(SealedView { core: core.clone(), disclosures: Vec::new() })).collect();
        let checkpoint = Checkpoint { origin: Origin::org(self.party()), size: self.org.size(), root: self.org.frontier().root() };
        Received { from, items, checkpoint: checkpoint.sign(&self.keys.log), tail: Vec::new() }
    }

    /// A listing of its org feed.
    pub fn org_listing(&self) -> Listing {
        Listing { origin: Origin::org(self.party()).to_string(), size: self.org.size(), term: "keys".into() }
    }
}

type VerifyingKey = <BTreeMapOfKeys as KeysOf>::Key;
type BTreeMapOfKeys = fn(&Founding) -> BTreeMap<Role, lotline_schema::org::PublicKey>;
