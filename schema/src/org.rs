//! The org feed: the one small, never redacted feed in which an organisation states its keys and feeds.
//!
//! [`Org`] is that feed folded: it takes entries one by one, checks each against what came before, and answers
//! which key may sign what. Entry 0 is the keyring, signed by the root key that gives the organisation its name.

use std::collections::BTreeMap;
use std::fmt;

use ed25519_dalek::VerifyingKey;

use crate::codec::{self, CodecError, Fields, Value};
use crate::cose::{CoseError, Signer};
use crate::id::{Hash, ORG_FEED, Origin, PartyId, pure_key, thumbprint};
use crate::note::{Checkpoint, Cosigned, NoteError};
use crate::statement::{self, Body, Place, Sealed, StatementError, Type, Unverified};
use crate::tree::Frontier;

mod entry;
mod keys;

pub use entry::{ATTESTATION_BYTES_MAX, About, By, Entry, NAME_BYTES_MAX, Places, REASON_BYTES_MAX};
use keys::Keys;

/// Names that no data feed may have: numbered statements of their own, which stand in no tree.
pub const PSEUDO_FEEDS: [&str; 5] = [ORG_FEED, "policy", "receipts", "vouchers", "members"];

/// The most attestations of an organisation, those of its keyring among them.
pub const ATTESTATIONS_MAX: usize = 256;

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

    /// The role of this name.
    pub fn named(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }

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

impl OrgError {
    /// Whether the feed may well be in order, and only this program too old to say.
    pub fn is_newer(&self) -> bool {
        matches!(self, OrgError::Rule(_, entry::UNKNOWN))
    }
}

/// An organisation's statements about itself, folded from its org feed.
#[derive(Clone, Debug)]
pub struct Org {
    party: PartyId,
    issuer: String,
    origin: String,
    name: String,
    about: About,
    root: VerifyingKey,
    successor: Option<Hash>,
    keys: Keys,
    feeds: BTreeMap<String, Option<(u64, Hash)>>,
    delegations: BTreeMap<String, Delegation>,
    signers: BTreeMap<Hash, Person>,
    withdrawn: BTreeMap<Hash, String>,
    entries: Vec<Vec<u8>>,
    read: Vec<(Entry, Hash)>,
    frontier: Frontier,
}

/// Another holder's feed under this organisation's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delegation {
    /// Who, in words.
    pub name: String,
    /// The last day, in seconds since 1970.
    pub until: u64,
    /// Where it ended, if it did.
    pub ended: Option<u64>,
    record: (VerifyingKey, Hash),
    log: VerifyingKey,
}

impl Delegation {
    /// The key that signs its records, and no other's.
    pub fn record_key(&self) -> &VerifyingKey {
        &self.record.0
    }

    /// The key that signs its checkpoints.
    pub fn log_key(&self) -> &VerifyingKey {
        &self.log
    }

    /// Why the next record, of this day (a multiple of 86,400) and for this place, would not be vouched for.
    pub fn over(&self, seq: u64, day: u64) -> Option<String> {
        match self.ended {
            Some(from) if seq >= from => Some(format!("the delegation to {} ended before this record", self.name)),
            _ if day > self.until => Some(format!("the delegation to {} had expired", self.name)),
            _ => None,
        }
    }
}

/// A named person who releases records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    /// Who.
    pub name: String,
    /// In which function.
    pub function: String,
    key: VerifyingKey,
    ended: Option<Places>,
}

impl Person {
    /// Whether the person still releases records.
    pub fn is_active(&self) -> bool {
        self.ended.is_none()
    }

    /// The person's key.
    pub fn key(&self) -> &VerifyingKey {
        &self.key
    }
}

/// How a key stands at a place of a feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing<'a> {
    /// It may sign there.
    Good(&'a VerifyingKey),
    /// It signed there, and its organisation does not vouch for that: why, in words.
    Revoked(&'a VerifyingKey, String),
}

impl Org {
    /// An organisation of which nothing but its root is known yet.
    pub fn new(party: PartyId) -> Org {
        Org {
            party,
            issuer: party.to_string(),
            origin: Origin::org(party).to_string(),
            name: String::new(),
            about: About::default(),
            root: party.root(),
            successor: None,
            keys: Keys::default(),
            feeds: BTreeMap::new(),
            delegations: BTreeMap::new(),
            signers: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            entries: Vec::new(),
            read: Vec::new(),
            frontier: Frontier::new(),
        }
    }

    /// Folds a whole org feed and checks its checkpoint; cosignatures on it are the caller's to verify.
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
        let rule = |why| OrgError::Rule(seq, why);
        let unverified = Unverified::read(&core).map_err(statement)?;
        let claims = unverified.claims();
        if claims.typ != Type::Org || claims.issuer != self.issuer || claims.origin != self.origin || claims.seq != seq {
            return Err(rule("belongs elsewhere"));
        }
        let Body::Entry(value) = &claims.body else {
            return Err(rule("has no entry"));
        };
        // What an entry is decides who must have signed it; nothing of it counts before that signature holds.
        let (entry, kid) = match Entry::read(value) {
            Ok(entry) => (entry, claims.kid),
            // Only what the organisation signed can be newer than this program: anything else was altered.
            Err(entry::UNKNOWN) if !self.signed(&unverified) => return Err(statement(CoseError::Signature.into())),
            Err(why) => return Err(rule(why)),
        };
        let signer = self.signer_of(&entry, &kid, seq).map_err(rule)?;
        let verified = unverified.verify(&signer).map_err(statement)?;
        self.may(&entry).map_err(rule)?;
        self.apply(&entry);
        self.frontier.push(verified.leaf());
        self.entries.push(core);
        self.read.push((entry.clone(), kid));
        if matches!(entry, Entry::Rotation { role: Role::Record, .. }) {
            self.void_revoked();
        }
        Ok(entry)
    }

    /// Whether an entry of unknown meaning is signed by one of the keys that could have.
    fn signed(&self, entry: &Unverified) -> bool {
        let keys = [Some(&self.root), self.key(Role::Record)];
        keys.into_iter().flatten().any(|key| entry.clone().verify(key).is_ok())
    }

    /// The key that must have signed an entry.
    fn signer_of(&self, entry: &Entry, kid: &Hash, seq: u64) -> Result<VerifyingKey, &'static str> {
        match (entry, entry.signed_by()) {
            (Entry::Root { key }, _) if self.successor == Some(thumbprint(key)) => Ok(*key),
            (Entry::Root { .. }, _) => Err("a new root that no successor entry named"),
            (_, By::Root | By::Successor) if seq > 0 => Ok(self.root),
            (_, By::Root | By::Successor) => pure_key(self.root.as_bytes()).ok_or("the root key is weak or broken"),
            (_, By::Record) if seq == 0 => Err("the keyring must come first"),
            (_, By::Record) => {
                let current = self.key(Role::Record).ok_or("comes before the keyring")?;
                // The key it names decides which message a reader gets: an old key, or none of ours.
                match self.key_for(Role::Record, kid, &self.origin, seq) {
                    Some(key) => Ok(*key),
                    None => Ok(*current),
                }
            }
        }
    }

    /// Whether an entry may follow those before it.
    fn may(&self, entry: &Entry) -> Result<(), &'static str> {
        if matches!(entry, Entry::Keyring { .. }) != (self.frontier.size() == 0) {
            return Err(if self.frontier.size() == 0 { "the keyring must come first" } else { "a second keyring" });
        }
        let fresh = |key: &VerifyingKey| match self.was_used(key) {
            false => Ok(()),
            true => Err("a key that has, or had, another place in this organisation"),
        };
        match entry {
            Entry::Keyring { keys, .. } => match keys.values().any(|key| *key == self.party.root()) {
                true => Err("the root key has another role too"),
                false => Ok(()),
            },
            Entry::Feed { origin, follows } => match self.may_open(origin) && (origin.n() > 1) == follows.is_some() {
                true => Ok(()),
                false => Err("a feed that is not ours to open, or open already"),
            },
            Entry::Withdrawal { origin, .. } => match self.feeds.contains_key(origin.as_str()) {
                true => Ok(()),
                false => Err("a withdrawal from a feed that is not open"),
            },
            Entry::Rotation { role, key, from, .. } => {
                fresh(key)?;
                match role {
                    Role::Record | Role::Log => self.names_all_places(from, true),
                    Role::Witness | Role::Transport if from.is_empty() => Ok(()),
                    Role::Witness | Role::Transport => Err("places for a key that signs in no feed"),
                }
            }
            Entry::Attestation { .. } if self.about.attestations.len() >= ATTESTATIONS_MAX => Err("too many attestations"),
            Entry::Attestation { .. } => Ok(()),
            Entry::Successor { .. } if self.successor.is_some() => Err("a second successor"),
            Entry::Successor { .. } => Ok(()),
            Entry::Root { key } => fresh(key),
            Entry::Delegation { origin, record, log, .. } => {
                fresh(record)?;
                fresh(log)?;
                match (record == log, self.may_open(origin)) {
                    (true, _) => Err("one key has two roles"),
                    (_, false) => Err("a feed that is not ours to open, or open already"),
                    _ => Ok(()),
                }
            }
            Entry::DelegationEnd { origin, .. } => match self.delegations.get(origin.as_str()) {
                Some(Delegation { ended: None, .. }) => Ok(()),
                _ => Err("the end of a delegation that is not there"),
            },
            Entry::Signer { key, .. } => fresh(key),
            Entry::SignerEnd { thumbprint, from } => match self.signers.get(thumbprint) {
                Some(Person { ended: None, .. }) => self.names_all_places(from, false),
                _ => Err("the end of a signer who is not there"),
            },
        }
    }

    fn may_open(&self, origin: &Origin) -> bool {
        let own = origin.party() == self.party && !PSEUDO_FEEDS.contains(&origin.name());
        own && !self.feeds.contains_key(origin.as_str())
    }

    fn was_used(&self, key: &VerifyingKey) -> bool {
        let past_roots = self.read.iter().any(|(entry, _)| matches!(entry, Entry::Root { key: root } if root == key));
        let delegated = self.delegations.values().any(|to| to.record.0 == *key || to.log == *key);
        *key == self.party.root() || past_roots || delegated || self.keys.knows(key) || self.signers.contains_key(&thumbprint(key))
    }

    /// A map of places must name every feed, so that no feed is forgotten; and only feeds there are.
    fn names_all_places(&self, from: &Places, org_too: bool) -> Result<(), &'static str> {
        let own = self.feeds.keys().filter(|origin| !self.delegations.contains_key(*origin));
        if own.clone().any(|origin| !from.contains_key(origin)) || org_too && !from.contains_key(&self.origin) {
            return Err("it does not say where it holds for every feed");
        }
        if from.get(&self.origin).is_some_and(|seq| *seq > self.frontier.size()) {
            return Err("a place in the org feed that is not there yet");
        }
        let known = |origin: &String| match origin.parse::<Origin>() {
            Ok(read) => self.feeds.contains_key(origin) || read.party() == self.party && PSEUDO_FEEDS.contains(&read.name()),
            Err(_) => false,
        };
        if from.keys().all(known) { Ok(()) } else { Err("a place in a feed that is not open") }
    }

    fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Keyring { name, keys, about } => {
                (self.name, self.about) = (name.clone(), about.clone());
                self.keys = Keys::first(keys);
            }
            Entry::Feed { origin, follows } => {
                self.feeds.insert(origin.to_string(), *follows);
            }
            Entry::Withdrawal { leaf, reason, .. } => {
                self.withdrawn.insert(*leaf, reason.clone());
            }
            Entry::Rotation { role, key, from, reason } => self.keys.rotate(*role, *key, from, reason),
            Entry::Attestation { kind, bytes } => self.about.attestations.push((kind.clone(), bytes.clone())),
            Entry::Successor { thumbprint } => self.successor = Some(*thumbprint),
            Entry::Root { key } => (self.root, self.successor) = (*key, None),
            Entry::Delegation { name, origin, record, log, until } => {
                let record = (*record, thumbprint(record));
                let delegation = Delegation { name: name.clone(), until: *until, ended: None, record, log: *log };
                self.delegations.insert(origin.to_string(), delegation);
                self.feeds.insert(origin.to_string(), None);
            }
            Entry::DelegationEnd { origin, from } => {
                self.delegations.get_mut(origin.as_str()).expect("checked before").ended = Some(*from);
            }
            Entry::Signer { name, function, key } => {
                let person = Person { name: name.clone(), function: function.clone(), key: *key, ended: None };
                self.signers.insert(thumbprint(key), person);
            }
            Entry::SignerEnd { thumbprint, from } => {
                self.signers.get_mut(thumbprint).expect("checked before").ended = Some(from.clone());
            }
        }
    }

    /// What a record key stated in this feed after it was revoked does not count: the feeds and withdrawals are folded
    /// again without it.
    fn void_revoked(&mut self) {
        self.feeds = self.delegations.keys().map(|origin| (origin.clone(), None)).collect();
        self.withdrawn = BTreeMap::new();
        for (seq, (entry, kid)) in std::mem::take(&mut self.read).into_iter().enumerate() {
            let counts = self.key_for(Role::Record, &kid, &self.origin, seq as u64).is_some();
            if entry.signed_by() == By::Record && counts {
                self.apply(&entry);
            }
            self.read.push((entry, kid));
        }
    }

    /// Whether a checkpoint is signed by the log key and fits the entries.
    pub fn check(&self, checkpoint: &str) -> Result<Cosigned, OrgError> {
        if self.size() == 0 {
            return Err(OrgError::Empty);
        }
        let opened = self.open_cosigned(checkpoint)?;
        let Checkpoint { origin, size, root } = &opened.checkpoint;
        let fits = origin.as_str() == self.origin && *size == self.size() && *root == self.frontier.root();
        if fits { Ok(opened) } else { Err(OrgError::Checkpoint) }
    }

    /// Opens a checkpoint of one of its feeds under the log keys of that place, without cosignatures.
    pub fn open(&self, note: &str) -> Result<Checkpoint, NoteError> {
        let claimed = Checkpoint::read(note)?;
        Checkpoint::open_by(note, &self.log_keys(&claimed.origin, claimed.size))
    }

    /// The same with its cosignatures, which are the caller's to verify.
    pub fn open_cosigned(&self, note: &str) -> Result<Cosigned, NoteError> {
        let claimed = Checkpoint::read(note)?;
        Cosigned::open(note, &self.log_keys(&claimed.origin, claimed.size))
    }

    /// The log keys that may sign a checkpoint of this size: two where one took over from the other.
    pub fn log_keys(&self, origin: &Origin, size: u64) -> Vec<&VerifyingKey> {
        if origin.party() != self.party {
            return Vec::new();
        }
        match self.delegations.get(origin.as_str()) {
            Some(delegation) => vec![&delegation.log],
            None => self.keys.log_at(origin.as_str(), size),
        }
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

    /// What else it says of itself, and what others attest.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The key that signs root entries now.
    pub fn root(&self) -> &VerifyingKey {
        &self.root
    }

    /// The root that signed root entries at this place of the org feed: of a root that was replaced, nothing counts after.
    pub fn root_at(&self, seq: u64) -> VerifyingKey {
        let until = self.read.len().min(usize::try_from(seq).map_or(usize::MAX, |seq| seq.saturating_add(1)));
        let roots = self.read[..until].iter().rev();
        let newest = roots.filter_map(|(entry, _)| if let Entry::Root { key } = entry { Some(*key) } else { None }).next();
        newest.unwrap_or_else(|| self.party.root())
    }

    /// Thumbprint of the key that may replace the root, if one was named.
    pub fn successor(&self) -> Option<&Hash> {
        self.successor.as_ref()
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

    /// What its entries say, in order.
    pub fn statements(&self) -> impl Iterator<Item = &Entry> {
        self.read.iter().map(|(entry, _)| entry)
    }

    /// The key for a role now.
    pub fn key(&self, role: Role) -> Option<&VerifyingKey> {
        self.keys.current(role)
    }

    /// The key with this thumbprint, if it may sign in this role at this place. The place decides, never a claimed time.
    pub fn key_for(&self, role: Role, kid: &Hash, origin: &str, seq: u64) -> Option<&VerifyingKey> {
        match self.keys.standing(role, kid, origin, seq)? {
            Standing::Good(key) => Some(key),
            Standing::Revoked(..) => None,
        }
    }

    /// How the key with this thumbprint stands at a place of a data feed, for a record of this claimed day; none if it
    /// never could sign there.
    pub fn record_key(&self, kid: &Hash, origin: &str, seq: u64, day: u64) -> Option<Standing<'_>> {
        let Some(delegation) = self.delegations.get(origin) else {
            return self.keys.standing(Role::Record, kid, origin, seq);
        };
        let (key, thumbprint) = &delegation.record;
        if thumbprint != kid {
            return None;
        }
        Some(match delegation.over(seq, day) {
            Some(why) => Standing::Revoked(key, why),
            None => Standing::Good(key),
        })
    }

    /// How a person's key stands at a place of a data feed; none if no such person was named.
    pub fn signer_key(&self, kid: &Hash, origin: &str, seq: u64) -> Option<(&Person, Standing<'_>)> {
        let person = self.signers.get(kid)?;
        let ended = person.ended.as_ref().is_some_and(|places| seq >= places.get(origin).copied().unwrap_or(0));
        let standing = match ended {
            true => Standing::Revoked(&person.key, format!("{} released no more at that time", person.name)),
            false => Standing::Good(&person.key),
        };
        Some((person, standing))
    }

    /// The persons who release records, or did.
    pub fn signers(&self) -> impl Iterator<Item = (&Hash, &Person)> {
        self.signers.iter()
    }

    /// Whether a feed was opened here.
    pub fn has_feed(&self, origin: &str) -> bool {
        self.feeds.contains_key(origin)
    }

    /// The origins of all feeds.
    pub fn feeds(&self) -> impl Iterator<Item = &str> {
        self.feeds.keys().map(String::as_str)
    }

    /// For a feed in a later life: last known size and root of the one before.
    pub fn follows(&self, origin: &str) -> Option<(u64, Hash)> {
        self.feeds.get(origin).copied().flatten()
    }

    /// To whom a feed is delegated, if it is.
    pub fn delegation(&self, origin: &str) -> Option<&Delegation> {
        self.delegations.get(origin)
    }

    /// Every feed that was delegated, by origin.
    pub fn delegations(&self) -> impl Iterator<Item = (&str, &Delegation)> {
        self.delegations.iter().map(|(origin, delegation)| (origin.as_str(), delegation))
    }

    /// Why a record was withdrawn, if it was.
    pub fn withdrawn(&self, leaf: &Hash) -> Option<&str> {
        self.withdrawn.get(leaf).map(String::as_str)
    }
}

/// Signs the next org entry; [`Entry::signed_by`] says with whose key.
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
