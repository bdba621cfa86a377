//! The org feed: the one small, never redacted feed in which an organisation states its keys and feeds.
//!
//! [`Org`] is that feed folded: it takes entries one by one, checks each against what came before, and answers
//! which key may sign what. Entry 0 is the keyring, signed by the root key that gives the organisation its name.

use std::collections::BTreeMap;
use std::fmt;

use ed25519_dalek::VerifyingKey;

use crate::codec::{self, CodecError, Fields, Value};
use crate::cose::Signer;
use crate::id::{Hash, Origin, PartyId, strong_key, thumbprint};
use crate::note::{Checkpoint, NoteError};
use crate::statement::{self, Body, Place, Sealed, StatementError, Type, Unverified};
use crate::tree::Frontier;

/// What a key is for; one key each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Signs records, and the org entries that open feeds and withdraw records.
    Record,
    /// Signs checkpoints.
    Log,
    /// Secret from which a witness key is derived for each followed feed.
    Witness,
    /// Names the node on the network.
    Transport,
}

impl Role {
    /// Every role of the keyring, in its order.
    pub const ALL: [Role; 4] = [Role::Record, Role::Log, Role::Witness, Role::Transport];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Record => "record",
            Role::Log => "log",
            Role::Witness => "witness",
            Role::Transport => "transport",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The longest reason of a withdrawal, in bytes; it is shown to people on one line.
pub const REASON_BYTES_MAX: usize = 1000;

/// An entry of the org feed.
#[derive(Clone, PartialEq, Debug)]
pub enum Entry {
    /// The organisation's name and its keys. Signed by the root.
    Keyring {
        /// What it calls itself; nobody has checked that.
        name: String,
        /// One key a role.
        keys: BTreeMap<Role, VerifyingKey>,
    },
    /// A feed begins. Signed by the record key.
    Feed {
        /// Its origin.
        origin: Origin,
        /// For n above 1: last known size and root of the life before.
        follows: Option<(u64, Hash)>,
    },
    /// A record is withdrawn: it stays provable, and every verdict says so. Signed by the record key.
    Withdrawal {
        /// Its feed.
        origin: Origin,
        /// Its place.
        seq: u64,
        /// Its leaf hash.
        leaf: Hash,
        /// Why.
        reason: String,
    },
}

/// An org feed that does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrgError {
    /// An entry is not a statement of ours.
    #[error("org feed entry {seq}: {source}")]
    Statement {
        /// Which entry.
        seq: u64,
        /// Why.
        source: StatementError,
    },
    /// An entry breaks a rule of the feed.
    #[error("org feed entry {0}: {1}")]
    Rule(u64, &'static str),
    /// Its checkpoint does not fit.
    #[error("org feed: {0}")]
    Note(#[from] NoteError),
    /// Its checkpoint has another size or root than its entries.
    #[error("org feed: the checkpoint is for other entries")]
    Checkpoint,
    /// It has no entry.
    #[error("org feed: it is empty")]
    Empty,
}

/// An entry of a type that a later version added.
const UNKNOWN: &str = "is of a type this program does not know: made by a newer Lotline, update the program";

impl OrgError {
    /// Whether the feed may well be in order, and only this program too old to say.
    pub fn is_newer(&self) -> bool {
        matches!(self, OrgError::Rule(_, UNKNOWN))
    }
}

impl Entry {
    fn to_value(&self) -> Value {
        match self {
            Entry::Keyring { name, keys } => codec::array([
                codec::text("keyring"),
                codec::text(name),
                Value::Map(keys.iter().map(|(role, key)| (codec::text(role.name()), codec::bytes(*key.as_bytes()))).collect()),
                // Reserved: registered ids (BPN, DUNS, VAT) and attestations over the root key.
                codec::map([]),
                codec::array([]),
            ]),
            Entry::Feed { origin, follows } => codec::array([
                codec::text("feed"),
                codec::text(origin.to_string()),
                codec::optional(*follows, |(size, root)| codec::array([codec::uint(size), codec::bytes(root.0)])),
            ]),
            Entry::Withdrawal { origin, seq, leaf, reason } => codec::array([
                codec::text("withdrawal"),
                codec::text(origin.to_string()),
                codec::uint(*seq),
                codec::bytes(leaf.0),
                codec::text(reason),
            ]),
        }
    }

    fn read(value: &Value) -> Result<Entry, &'static str> {
        let parts = codec::as_array(value).ok_or("not an array")?;
        let origin = |value: &Value| codec::as_text(value).and_then(|text| text.parse::<Origin>().ok()).ok_or("not the origin of a feed");
        match (parts.first().and_then(codec::as_text), &parts[1.min(parts.len())..]) {
            (Some("keyring"), [Value::Text(name), Value::Map(keys), Value::Map(ids), Value::Array(attestations)]) => {
                if !ids.is_empty() || !attestations.is_empty() {
                    return Err("ids and attestations are for a newer Lotline: update the program");
                }
                if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
                    return Err("the name is empty, too long, or has control characters");
                }
                Ok(Entry::Keyring { name: name.clone(), keys: read_keys(keys)? })
            }
            (Some("feed"), [origin_text, Value::Null]) => Ok(Entry::Feed { origin: origin(origin_text)?, follows: None }),
            (Some("feed"), [origin_text, Value::Array(before)]) => match &before[..] {
                [size, root] => {
                    let size = codec::as_uint(size).ok_or("the size of the life before is no number")?;
                    let root = codec::as_bytes(root).and_then(Hash::from_slice).ok_or("the root of the life before is no hash")?;
                    Ok(Entry::Feed { origin: origin(origin_text)?, follows: Some((size, root)) })
                }
                _ => Err("the life before is not [size, root]"),
            },
            (Some("withdrawal"), [origin_text, seq, Value::Bytes(leaf), Value::Text(reason)]) => {
                if reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
                    return Err("the reason is too long or has control characters");
                }
                Ok(Entry::Withdrawal {
                    origin: origin(origin_text)?,
                    seq: codec::as_uint(seq).ok_or("no sequence number")?,
                    leaf: Hash::from_slice(leaf).ok_or("a leaf hash of another length")?,
                    reason: reason.clone(),
                })
            }
            _ => Err(UNKNOWN),
        }
    }
}

fn read_keys(map: &BTreeMap<Value, Value>) -> Result<BTreeMap<Role, VerifyingKey>, &'static str> {
    let mut keys = BTreeMap::new();
    for role in Role::ALL {
        let bytes = map.get(&codec::text(role.name())).and_then(codec::as_bytes).ok_or("the keyring lacks a role")?;
        let key = strong_key(bytes).ok_or("a key of the keyring is weak or broken")?;
        if keys.values().any(|other| *other == key) {
            return Err("one key has two roles");
        }
        keys.insert(role, key);
    }
    if map.len() == keys.len() { Ok(keys) } else { Err("the keyring has an unknown role") }
}

/// An organisation's statements about itself, folded from its org feed.
#[derive(Clone, Debug)]
pub struct Org {
    party: PartyId,
    issuer: String,
    origin: String,
    name: String,
    keys: BTreeMap<Role, (VerifyingKey, Hash)>,
    feeds: BTreeMap<String, Option<(u64, Hash)>>,
    withdrawn: BTreeMap<Hash, String>,
    entries: Vec<Vec<u8>>,
    frontier: Frontier,
}

impl Org {
    /// An organisation of which nothing but its root is known yet.
    pub fn new(party: PartyId) -> Org {
        Org {
            party,
            issuer: party.to_string(),
            origin: Origin::org(party).to_string(),
            name: String::new(),
            keys: BTreeMap::new(),
            feeds: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            entries: Vec::new(),
            frontier: Frontier::new(),
        }
    }

    /// Folds a whole org feed and checks its checkpoint.
    pub fn from_parts(party: PartyId, entries: impl IntoIterator<Item = Vec<u8>>, checkpoint: &str) -> Result<Org, OrgError> {
        let mut org = Org::new(party);
        for entry in entries {
            org.accept(entry)?;
        }
        org.check(checkpoint)?;
        Ok(org)
    }

    /// Takes the next entry, after checking everything about it.
    pub fn accept(&mut self, core: Vec<u8>) -> Result<Entry, OrgError> {
        let seq = self.frontier.size();
        let statement = |source| OrgError::Statement { seq, source };
        let unverified = Unverified::read(&core).map_err(statement)?;
        let claims = unverified.claims();
        if claims.typ != Type::Org || claims.issuer != self.issuer || claims.origin != self.origin || claims.seq != seq {
            return Err(OrgError::Rule(seq, "belongs elsewhere"));
        }
        let signer =
            if seq == 0 { self.party.root() } else { *self.key(Role::Record).ok_or(OrgError::Rule(seq, "comes before the keyring"))? };
        let verified = unverified.verify(&signer).map_err(statement)?;
        let Body::Entry(value) = &verified.claims().body else {
            return Err(OrgError::Rule(seq, "has no entry"));
        };
        let entry = Entry::read(value).map_err(|why| OrgError::Rule(seq, why))?;
        self.fold(&entry).map_err(|why| OrgError::Rule(seq, why))?;
        self.frontier.push(verified.leaf());
        self.entries.push(core);
        Ok(entry)
    }

    fn fold(&mut self, entry: &Entry) -> Result<(), &'static str> {
        match entry {
            Entry::Keyring { name, keys } => {
                if self.frontier.size() != 0 {
                    return Err("a second keyring");
                }
                if keys.values().any(|key| *key == self.party.root()) {
                    return Err("the root key has another role too");
                }
                self.name = name.clone();
                self.keys = keys.iter().map(|(role, key)| (*role, (*key, thumbprint(key)))).collect();
            }
            _ if self.frontier.size() == 0 => return Err("the keyring must come first"),
            Entry::Feed { origin, follows } => {
                let own = origin.party() == self.party && !origin.is_org();
                let renews = origin.n() > 1;
                if !own || renews != follows.is_some() || self.feeds.contains_key(&origin.to_string()) {
                    return Err("a feed that is not ours to open, or open already");
                }
                self.feeds.insert(origin.to_string(), *follows);
            }
            Entry::Withdrawal { origin, leaf, reason, .. } => {
                if !self.feeds.contains_key(&origin.to_string()) {
                    return Err("a withdrawal from a feed that is not open");
                }
                self.withdrawn.insert(*leaf, reason.clone());
            }
        }
        Ok(())
    }

    /// Whether a checkpoint is signed by the log key and fits the entries.
    pub fn check(&self, checkpoint: &str) -> Result<(), OrgError> {
        let key = self.key(Role::Log).ok_or(OrgError::Empty)?;
        let opened = Checkpoint::open(checkpoint, key)?;
        let fits = opened.origin.to_string() == self.origin && opened.size == self.size() && opened.root == self.frontier.root();
        if fits { Ok(()) } else { Err(OrgError::Checkpoint) }
    }

    /// The party.
    pub fn party(&self) -> PartyId {
        self.party
    }

    /// Its `did:key`, as statements carry it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What it calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Entries so far.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The right edge of the org feed's tree.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Its entries, as received.
    pub fn entries(&self) -> &[Vec<u8>] {
        &self.entries
    }

    /// The key for a role now.
    pub fn key(&self, role: Role) -> Option<&VerifyingKey> {
        self.keys.get(&role).map(|(key, _)| key)
    }

    /// The key with this thumbprint, if it may sign in this role at this place.
    ///
    /// The place decides, never a claimed time. With one keyring and no revocation yet, every place is within range.
    pub fn key_for(&self, role: Role, kid: &Hash, _origin: &str, _seq: u64) -> Option<&VerifyingKey> {
        self.keys.get(&role).filter(|(_, thumbprint)| thumbprint == kid).map(|(key, _)| key)
    }

    /// Whether a feed was opened here.
    pub fn has_feed(&self, origin: &str) -> bool {
        self.feeds.contains_key(origin)
    }

    /// The origins of all feeds.
    pub fn feeds(&self) -> impl Iterator<Item = &str> {
        self.feeds.keys().map(String::as_str)
    }

    /// Why a record was withdrawn, if it was.
    pub fn withdrawn(&self, leaf: &Hash) -> Option<&str> {
        self.withdrawn.get(leaf).map(String::as_str)
    }
}

/// Signs the next org entry: the keyring by the root, everything else by the record key.
pub fn seal(org: &Org, entry: &Entry, now: u64, signer: &Signer, random: impl FnMut(&mut [u8])) -> Result<Sealed, StatementError> {
    let place = Place { origin: Origin::org(org.party), seq: org.size(), now, supersedes: None };
    statement::seal_entry(Type::Org, entry.to_value(), &place, signer, random)
}

/// The first entry of a data feed: which org feed says whose keys sign it, as it stood when the feed was opened.
pub fn seal_first(org: &Org, origin: &Origin, now: u64, signer: &Signer, random: impl FnMut(&mut [u8])) -> Result<Sealed, StatementError> {
    let place = Place { origin: origin.clone(), seq: 0, now, supersedes: None };
    let entry = codec::map([(1, codec::text(org.origin.as_str())), (2, codec::uint(org.size())), (3, codec::bytes(org.frontier.root().0))]);
    statement::seal_entry(Type::Feed, entry, &place, signer, random)
}

/// Size and root of the org feed that a data feed's first entry names.
pub fn read_first(org: &Org, entry: &Value) -> Result<(u64, Hash), CodecError> {
    let mut fields = Fields::of(entry.clone())?;
    if fields.text(1, "no org feed")? != org.origin {
        return Err(CodecError::Shape("another organisation's org feed"));
    }
    let size = fields.uint(2, "no size of the org feed")?;
    let root = Hash::from_slice(&fields.bytes(3, "no root of the org feed")?).ok_or(CodecError::Shape("a root of another length"))?;
    fields.end()?;
    Ok((size, root))
}
