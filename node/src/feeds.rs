//! THE JOURNEY: a record is checked, signed, appended and stored; a partner's batch is verified, appended and stored.
//!
//! [`Feeds`] is the only writer of a home. Nothing derived from a core leaves this module before the batch that holds
//! it is durable: heads in memory, answers and snapshots change after `store.commit` returned.
//!
//! Here: what goes out of our hands (`submit`). `feeds/accept.rs`: what comes in. `feeds/witness.rs`: what others sign of
//! our feeds and we of theirs. `feeds/delegate.rs`: feeds that one organisation owns and another writes. `feeds/forks.rs`:
//! two truths. `feeds/book.rs`: partners, sharing rules and the ledger. `feeds/listed.rs`: lists of members.
//! `feeds/release.rs`: what named persons countersign. `feeds/forget.rs`: what goes for good. `feeds/deletion.rs`: what is said
//! of that. `feeds/root.rs`: what the root key signs. `feeds/transport.rs`: new names on the network. `feeds/terms.rs`: what is
//! accepted, and what received records stand under. `feeds/requests.rs`: what customers ask. `feeds/open.rs`: founding
//! and reading a home. `feeds/state.rs`: what is stored, and how.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lotline_policy::{Policy, Rule};
use lotline_schema::cose::Signer;
use lotline_schema::id::IdError;
use lotline_schema::note::{Checkpoint, NoteError};
use lotline_schema::org::{self, Entry as OrgEntry, Org, OrgError, Role, Standing};
use lotline_schema::record::Facts;
use lotline_schema::statement::{self, Place, Sealed, StatementError};
use lotline_schema::tree::Frontier;
use lotline_schema::view::PACKAGE_BYTES_MAX;
use lotline_schema::{Hash, Origin, PartyId, Record};
use tokio::sync::watch;

use crate::clock::{Clock, Jumped};
use crate::keys::{KeyError, Keys, random};
use crate::store::{self, Batch, Entry, Reader, Store, StoreError};

pub mod accept;
mod book;
mod delegate;
pub mod deletion;
pub mod forget;
pub mod forks;
pub mod heard;
pub mod ledger;
mod listed;
mod open;
mod release;
mod requests;
mod root;
pub mod state;
pub mod terms;
pub(crate) mod transport;
pub mod witness;

pub use accept::{AcceptError, Accepted, Backfill, Item, Received, VerifiedBackfill, VerifiedBatch};
pub use book::{numbered_faults, vouchers};
pub use delegate::{Asked, DelegateError, Delegated, Granted};
pub use listed::{ListError, Listed};
pub use open::{AppliedPolicy, Founded, applied_policy};
pub use release::{ReleaseError, Released, Whole, release_of, release_rows, released_by, releases_in, with_release};
pub use requests::{LETTER_BYTES_MAX, Letter, LetterError, Letters, Sent, demands, requests};
pub use root::{Rotated, WrongRoot};
use state::key;
pub use state::{Head, Partner, StateError, Summary};
pub use terms::{KeptAcceptance, Offer, Under};
pub use transport::Moving;

/// Work of ours that could not be done. Whose fault it is comes first.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The user's: the lot is there with other content.
    #[error("lot `{lot}` of part `{part}` is already published with other content (record {seq} of feed `{feed}`)")]
    Conflict {
        /// The lot.
        lot: String,
        /// The part.
        part: String,
        /// The feed of the first.
        feed: String,
        /// Its place.
        seq: u64,
    },
    /// The user's: nothing to replace.
    #[error("lot `{0}` is not published yet, so there is nothing to supersede")]
    NothingToSupersede(String),
    /// The user's: the record is too large for one package.
    #[error("lot `{lot}` makes a package of {bytes} bytes, more than {PACKAGE_BYTES_MAX}")]
    TooLarge {
        /// The lot.
        lot: String,
        /// Its size.
        bytes: usize,
    },
    /// The user's: a name that cannot name a feed.
    #[error(transparent)]
    Name(#[from] IdError),
    /// The user's: no such partner.
    #[error("nobody called `{0}` is in the partner book")]
    NoPartner(String),
    /// The user's: the name is taken.
    #[error("`{0}` is in the partner book already, with another root key")]
    NameTaken(String),
    /// The user's: the rules in force name a removed partner of another root key.
    #[error("the rules in force speak of `{0}` and mean a partner with another root key, which you removed")]
    NameInRules(String),
    /// The user's: two could not be told apart on the network.
    #[error("the transport key given for `{partner}` is that of `{other}`")]
    PeerTaken {
        /// The partner to add or change.
        partner: String,
        /// Who has the key: another partner, or this node.
        other: String,
    },
    /// The owner has to confirm first.
    #[error("this home was restored ({0}); nothing is signed or sent until you confirm it")]
    Restored(String),
    /// The user's: the root key given is not the one that may sign this.
    #[error(transparent)]
    Root(#[from] WrongRoot),
    /// Not a release that can stand in our feed.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// About a feed that one organisation owns and another writes.
    #[error(transparent)]
    Delegate(#[from] DelegateError),
    /// Not something that can be forgotten here.
    #[error(transparent)]
    Forget(#[from] forget::ForgetError),
    /// Not a member list that can be kept.
    #[error(transparent)]
    List(#[from] ListError),
    /// About requirements of a customer, or the answer to them.
    #[error(transparent)]
    Letter(#[from] LetterError),
    /// The owner has to name a new key first.
    #[error("the {0} key in this home is not the one your org feed names: it was rotated after this backup was made")]
    Outdated(Role),
    /// The user's: one after another.
    #[error("a new transport key is named already and waits until your partners know it")]
    Moving,
    /// The machine's: a key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Ours: what we signed does not read.
    #[error("cannot sign: {0}")]
    Statement(#[from] StatementError),
    /// Ours: our own org feed does not hold together.
    #[error("our own org feed does not hold: {0}")]
    Org(#[from] OrgError),
    /// Ours: a stored checkpoint does not read.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Ours: a stored policy does not read.
    #[error("the stored sharing rules do not read: {0}")]
    Policy(String),
    /// Ours: a stored value does not read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The machine's.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What to do when the same inspection of the same lot is published already with other content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnConflict {
    /// Refuse.
    Refuse,
    /// Replace it: the new statement names the old one.
    Supersede,
}

/// A checked record on its way into a feed that is written here.
#[derive(Debug)]
pub struct Submission {
    /// The record.
    pub record: Record,
    /// Whose feed; none: ours.
    pub owner: Option<PartyId>,
    /// Name of the feed.
    pub feed: String,
    /// What to do about an earlier one.
    pub on_conflict: OnConflict,
}

/// Where a record of ours stands, durably.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Published {
    /// Its feed.
    pub origin: Origin,
    /// Its place.
    pub seq: u64,
    /// Its leaf hash, which identifies the statement.
    pub leaf: Hash,
    /// Whether it stood there before: same identity, same content, nothing to do.
    pub repeated: bool,
    /// Bytes of core and disclosures; 0 when repeated.
    pub bytes: usize,
}

/// A feed this node writes or follows.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Its number in the store.
    pub id: u32,
    /// Its origin.
    pub origin: Origin,
    /// Whether it is ours: our rules say who sees it, whoever writes it.
    pub ours: bool,
    /// Whether it is written here: we hold its keys, whosever it is.
    pub written: bool,
    /// Its head.
    pub head: Arc<Head>,
    /// Of a feed of ours that a partner writes: its newest head below which every leaf is here.
    pub level: Option<Arc<Head>>,
    /// Why it is frozen, if it is.
    pub frozen: Option<String>,
    /// For a followed feed: the view it was last taken under.
    pub view: Option<Hash>,
    /// For a followed feed: size and root of the last checkpoint we cosigned.
    pub witnessed: Option<(u64, Hash)>,
}

impl Feed {
    /// Entries so far.
    pub fn size(&self) -> u64 {
        self.head.frontier.size()
    }

    /// Whether it is ours and we write it ourselves.
    pub fn is_own(&self) -> bool {
        self.ours && self.written
    }

    /// The feed as far as it may leave here: one of ours that a partner writes goes on from the head it was level with last,
    /// and not at all while it is frozen. Nothing of a feed that we only follow.
    pub fn as_served(&self) -> Option<Feed> {
        match (self.ours, self.written) {
            (_, true) => Some(self.clone()),
            (true, false) if self.frozen.is_none() => Some(Feed { head: self.level.clone()?, ..self.clone() }),
            (true, false) | (false, false) => None,
        }
    }
}

/// What everybody but the writer sees: replaced whole after each commit.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Us.
    pub party: PartyId,
    /// What we call ourselves.
    pub name: String,
    /// The sharing rules in force.
    pub policy: Arc<Policy>,
    /// The partner book, by name.
    pub book: Arc<BTreeMap<String, Partner>>,
    /// Member lists of associations, by our name for each.
    pub lists: Arc<BTreeMap<String, Listed>>,
    /// Every feed, by origin.
    pub feeds: BTreeMap<String, Feed>,
    /// Every organisation we know keys of, ourselves included.
    pub orgs: BTreeMap<PartyId, Arc<Org>>,
    /// Feeds we asked others for, by owner and name.
    pub asked: Arc<Asked>,
    /// What partners and we have to say to each other about requirements.
    pub letters: Arc<Letters>,
    /// Which partner writes a feed of ours, by origin.
    pub writers: Arc<BTreeMap<String, PartyId>>,
    /// What each party accepted of our terms, as far as it counts.
    pub accepted: Arc<BTreeMap<PartyId, KeptAcceptance>>,
    /// What we accepted of each owner's terms.
    pub accepting: Arc<BTreeMap<PartyId, KeptAcceptance>>,
    /// What terms each party asks us for.
    pub offers: Arc<BTreeMap<PartyId, Vec<Offer>>>,
    /// How often something was forgotten since the start: what was read under another number may hold it.
    pub forgettings: u64,
    /// Why nothing is signed or sent, if nothing is.
    pub restored: Option<String>,
    /// Why sharing is paused, if the clock cannot be believed.
    pub jumped: Option<Jumped>,
    /// What we are called on the network: the peer id of the transport key in use.
    pub peer: String,
    /// The transport key that is named and not in use yet, if there is one.
    pub moving: Option<Moving>,
}

impl Snapshot {
    /// The partner with this transport key.
    pub fn partner_at(&self, peer: &str) -> Option<&Partner> {
        self.book.values().find(|partner| partner.answers_to(peer))
    }

    /// The partner that is this party.
    pub fn partner_of(&self, party: &PartyId) -> Option<&Partner> {
        self.book.values().find(|partner| partner.party == *party)
    }

    /// Names of our data feeds, those among them that partners write: what our rules speak of.
    pub fn own_feed_names(&self) -> Vec<String> {
        let ours = self.feeds.values().filter(|feed| feed.ours && !feed.origin.is_org());
        let mut names: Vec<String> = ours.map(|feed| feed.origin.name().to_owned()).collect();
        names.dedup();
        names
    }

    /// The newest life of the feed of this name that is ours and that we write.
    pub fn own_feed(&self, name: &str) -> Option<&Feed> {
        self.feeds.values().filter(|feed| feed.is_own() && feed.origin.name() == name).max_by_key(|feed| feed.origin.n())
    }

    /// The feed with this number in the store.
    pub fn feed_numbered(&self, id: u32) -> Option<&Feed> {
        self.feeds.values().find(|feed| feed.id == id)
    }
}

/// The only writer of a home.
pub struct Feeds {
    store: Store,
    clock: Clock,
    /// The latest time that was believed, as the store has it.
    marked: u64,
    reader: Reader,
    keys: Arc<Keys>,
    snapshot: Snapshot,
    changed: watch::Sender<Arc<Snapshot>>,
    next_feed: u32,
    /// The head of the ledger.
    ledger: Head,
    next_receipt: u64,
    /// 0, and after a restore the first number that was free: what has a lower one was signed before.
    first_receipt: u64,
    /// 0, and larger after each restore: witness keys are other ones then.
    epoch: u64,
    /// Keys of feeds we asked others for, by owner and name, the newest last.
    pens: delegate::Pens,
    /// The largest checkpoint of ours that a partner cosigned since the start, by origin and partner.
    cosigned_to: HashMap<(String, String), u64>,
    /// Identities committed since the index was last level; older ones are found through it.
    recent: HashMap<Hash, Live>,
    /// How often partners changed today what they say.
    heard: heard::Heard,
}

/// A live statement of ours about one inspection of one lot.
#[derive(Clone, Debug)]
struct Live {
    feed: u32,
    seq: u64,
    leaf: Hash,
    summary: Summary,
}

/// How much newer the latest time may be than the one that is kept, in seconds, before that is worth a commit.
const MARK_SECONDS: u64 = 300;
/// How many recent identities are kept before the index is waited for: 16 Ki of about 500 bytes.
const RECENT_MAX: usize = 16_384;
/// The most records a group commit takes together: more does not make the disk faster (docs/design.md).
pub const GROUP_MAX: usize = 256;

impl Feeds {
    /// Seals and stores checked records, all of one call in one durable commit. The outer error leaves nothing
    /// behind; the inner ones are of single records, which the others do not share.
    pub fn submit(&mut self, submissions: Vec<Submission>, now: u64) -> Result<Vec<Result<Published, FeedError>>, FeedError> {
        self.submit_with(submissions, Vec::new(), now)
    }

    /// The same, with changing state that belongs into the same commit (an import's progress).
    pub fn submit_with(
        &mut self,
        submissions: Vec<Submission>,
        state: Vec<Entry>,
        now: u64,
    ) -> Result<Vec<Result<Published, FeedError>>, FeedError> {
        self.may_sign()?;
        for submission in &submissions {
            match submission.owner {
                None => self.ensure_feed(&submission.feed, now)?,
                Some(owner) => self.ensure_delegated(owner, &submission.feed, now)?,
            };
        }
        let mut group = Group::default();
        let planned: Vec<_> = submissions.into_iter().map(|submission| self.plan(&mut group, submission, now)).collect();
        let signer = |origin: &Origin| self.pen(origin).expect("planned into feeds written here").0;
        let sealed = seal_all(&planned, signer)?;
        let outcomes = planned.into_iter().zip(sealed).map(|(planned, sealed)| match (planned, sealed) {
            (Ok(Plan::New(new)), Some(sealed)) => Ok(group.push(*new, sealed)),
            (Ok(Plan::Repeated(published)), _) => Ok(published),
            (Ok(Plan::Twin(identity, content)), _) => match group.live.get(&identity) {
                Some(first) if first.summary.content == Some(content) => Ok(self.repeated(first)),
                Some(first) => Err(self.conflict(first)),
                None => unreachable!("the first of twins was planned before it"),
            },
            (Err(error), _) => Err(error),
            (Ok(Plan::New(_)), None) => unreachable!("every new record was sealed"),
        });
        let outcomes: Vec<_> = outcomes.collect();
        for entry in state {
            group.batch.push(entry);
        }
        self.commit_group(group)?;
        Ok(outcomes)
    }

    /// Whether this record could be published in this organisation's name, without doing so: pass one of an import.
    pub fn try_submit(
        &self,
        party: PartyId,
        facts: &Facts,
        content: Hash,
        on_conflict: OnConflict,
    ) -> Result<Option<Published>, FeedError> {
        match self.live(party, facts, &HashMap::new())? {
            None if on_conflict == OnConflict::Supersede => Err(FeedError::NothingToSupersede(facts.lot.clone().unwrap_or_default())),
            None => Ok(None),
            Some(live) if self.is_gone(&live)? => Ok(None),
            Some(live) if live.summary.content == Some(content) => Ok(Some(self.repeated(&live))),
            Some(_) if on_conflict == OnConflict::Supersede => Ok(None),
            Some(live) => Err(self.conflict(&live)),
        }
    }

    /// How many of how many lots of a file went in before it was interrupted, if it was.
    pub fn import_under_way(&self, file: &Hash) -> Result<Option<(u64, u64)>, FeedError> {
        use lotline_schema::codec;
        let Some(row) = self.reader.state(&key::of(key::IMPORT, &file.to_string()))? else {
            return Ok(None);
        };
        let value = state::take(&row, "import")?;
        let [done, total] = codec::as_array(&value).unwrap_or_default() else {
            return Err(StateError("import").into());
        };
        Ok(codec::as_uint(done).zip(codec::as_uint(total)))
    }

    /// Gives a record its place, or says why it gets none.
    fn plan(&self, group: &mut Group, submission: Submission, now: u64) -> Result<Plan, FeedError> {
        let feed = match submission.owner {
            None => self.snapshot.own_feed(&submission.feed),
            Some(owner) => self.snapshot.delegated_feed(&owner, &submission.feed),
        };
        let feed = feed.expect("ensured above");
        let (facts, content) = (submission.record.facts(), submission.record.content_hash());
        let live = self.live(feed.origin.party(), &facts, &group.live)?;
        let supersedes = match (live, submission.on_conflict) {
            (None, OnConflict::Refuse) => None,
            (None, OnConflict::Supersede) => return Err(FeedError::NothingToSupersede(facts.lot.unwrap_or_default())),
            // Signed anew after its key was revoked, or after it was withdrawn: the new statement replaces what nobody
            // vouches for, so that the two can never look like two live ones, whoever shows them to whom and when.
            (Some(live), _) if self.is_gone(&live)? => Some(live),
            (Some(live), _) if live.summary.content == Some(content) => return Ok(Plan::Repeated(self.repeated(&live))),
            (Some(live), OnConflict::Supersede) => Some(live),
            (Some(live), OnConflict::Refuse) => return Err(self.conflict(&live)),
        };
        // Two records about one lot in one group: the second meets the first when that is signed.
        if let Some(identity) = identity_of(&feed.origin.party(), &facts)
            && !group.planned.insert(identity)
        {
            return Ok(Plan::Twin(identity, content));
        }
        let bytes = submission.record.package_bytes();
        if bytes > PACKAGE_BYTES_MAX {
            return Err(FeedError::TooLarge { lot: facts.lot.unwrap_or_default(), bytes });
        }
        let next = group.next.entry(feed.id).or_insert_with(|| feed.size());
        let place = Place { origin: feed.origin.clone(), seq: *next, now, supersedes: supersedes.as_ref().map(|live| live.leaf) };
        *next += 1;
        let summary = Summary { facts, content: Some(content), superseded_by: None };
        let new = New { record: submission.record, feed: feed.id, place, supersedes, summary };
        group.frontiers.entry(feed.id).or_insert_with(|| (feed.origin.clone(), feed.head.frontier.clone()));
        Ok(Plan::New(Box::new(new)))
    }

    /// Signs the new heads, commits everything at once, and only then lets anybody see it.
    fn commit_group(&mut self, group: Group) -> Result<(), FeedError> {
        let Group { mut batch, frontiers, live, .. } = group;
        let mut heads = Vec::new();
        for (origin, frontier) in frontiers.into_values() {
            let head = self.sign_head(&origin, frontier);
            batch.push(head_state(&origin, &head));
            heads.push((origin.to_string(), head));
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.commit(batch)?;
        self.remember(live)?;
        for (origin, head) in heads {
            self.snapshot.feeds.get_mut(&origin).expect("taken from there").head = Arc::new(head);
        }
        self.show();
        Ok(())
    }

    /// The live statement of one organisation about the same inspection of the same lot, if there is one: a laboratory may
    /// say of one lot what it found for each of two that gave it to it. Where all that were not replaced are gone, one of these.
    fn live(&self, party: PartyId, facts: &Facts, group: &HashMap<Hash, Live>) -> Result<Option<Live>, FeedError> {
        let (Some(identity), Some(lot)) = (identity_of(&party, facts), &facts.lot) else {
            return Ok(None);
        };
        let mut gone = None;
        if let Some(live) = group.get(&identity).or_else(|| self.recent.get(&identity)) {
            if !self.is_gone(live)? {
                return Ok(Some(live.clone()));
            }
            gone = Some(live.clone());
        }
        for (feed, seq) in self.reader.by_lot(lot)? {
            let here = |feed: &Feed| feed.origin.party() == party && (feed.ours || feed.written);
            if !self.snapshot.feed_numbered(feed).is_some_and(here) {
                continue;
            }
            if let Some(row) = self.reader.row(feed, seq)? {
                let summary = Summary::read(&row.summary)?;
                if summary.superseded_by.is_none() && summary.facts.identity() == facts.identity() {
                    let live = Live { feed, seq, leaf: Hash(row.leaf), summary };
                    if !self.is_gone(&live)? {
                        return Ok(Some(live));
                    }
                    gone.get_or_insert(live);
                }
            }
        }
        Ok(gone)
    }

    /// Remembers statements of ours that were committed and may not be in the index yet.
    fn remember(&mut self, live: HashMap<Hash, Live>) -> Result<(), StoreError> {
        self.recent.extend(live);
        if self.recent.len() > RECENT_MAX {
            self.store.settle()?;
            self.recent.clear();
        }
        Ok(())
    }

    /// Whether a statement of ours is not our word any more: withdrawn, or its key revoked for its place.
    fn is_gone(&self, live: &Live) -> Result<bool, FeedError> {
        let feed = self.snapshot.feed_numbered(live.feed);
        let Some(org) = feed.and_then(|feed| self.snapshot.orgs.get(&feed.origin.party())) else {
            return Ok(false);
        };
        if org.withdrawn(&live.leaf).is_some() {
            return Ok(true);
        }
        // What is not in the index yet was signed a moment ago, with the key of now.
        match self.reader.row(live.feed, live.seq)? {
            Some(row) => Ok(revoked(&self.reader, org, &row)?.is_some()),
            None => Ok(false),
        }
    }

    fn repeated(&self, live: &Live) -> Published {
        let origin = self.snapshot.feed_numbered(live.feed).expect("live statements stand in our feeds").origin.clone();
        Published { origin, seq: live.seq, leaf: live.leaf, repeated: true, bytes: 0 }
    }

    fn conflict(&self, live: &Live) -> FeedError {
        let feed = self.snapshot.feed_numbered(live.feed).map_or(String::new(), |feed| feed.origin.name().to_owned());
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        FeedError::Conflict { lot: text(&live.summary.facts.lot), part: text(&live.summary.facts.part), feed, seq: live.seq }
    }

    /// Opens a feed of ours, if it is not open: one org entry, and the feed's first entry, which points back to it.
    pub fn ensure_feed(&mut self, name: &str, now: u64) -> Result<Origin, FeedError> {
        if let Some(feed) = self.snapshot.own_feed(name) {
            return Ok(feed.origin.clone());
        }
        let origin = Origin::new(self.snapshot.party, name, 1)?;
        if let Some(other) = self.snapshot.written_by_others(name) {
            return Err(DelegateError::Theirs { feed: name.to_owned(), writer: other }.into());
        }
        if org::PSEUDO_FEEDS.contains(&name) {
            return Err(IdError::FeedName(name.into()).into());
        }
        self.open_feed(origin.clone(), None, now)?;
        Ok(origin)
    }

    fn open_feed(&mut self, origin: Origin, follows: Option<(u64, Hash)>, now: u64) -> Result<(), FeedError> {
        self.may_sign()?;
        self.open_feeds(vec![(origin, follows)], Batch::new(), now)
    }

    /// Opens feeds of ours in one durable commit, with what else belongs into it: an org entry and a first entry each.
    fn open_feeds(&mut self, opened: Vec<(Origin, Option<(u64, Hash)>)>, mut batch: Batch, now: u64) -> Result<(), FeedError> {
        let mut org = Org::clone(&self.snapshot.orgs[&self.snapshot.party]);
        let keys = self.keys.clone();
        let mut feeds = Vec::new();
        for (id, (origin, follows)) in (self.next_feed..).zip(opened) {
            self.push_org(&mut batch, &mut org, &OrgEntry::Feed { origin: origin.clone(), follows }, &keys.record, now)?;
            feeds.push(self.begin(&mut batch, id, origin, &org, (&keys.record, &keys.log), now)?);
        }
        let org_head = self.sign_head(&Origin::org(org.party()), org.frontier().clone());
        batch.push(head_state(&Origin::org(org.party()), &org_head));
        self.commit(batch)?;
        self.take_org(org, org_head);
        feeds.into_iter().for_each(|feed| self.take_feed(feed));
        self.show();
        Ok(())
    }

    /// Puts the first entry of a feed that is written here into a batch; it points to the org feed of who owns it.
    fn begin(
        &self,
        batch: &mut Batch,
        id: u32,
        origin: Origin,
        org: &Org,
        (record, log): (&Signer, &Signer),
        now: u64,
    ) -> Result<Feed, FeedError> {
        let first = org::seal_first(org, &origin, now, record, random)?;
        let mut frontier = Frontier::new();
        frontier.push(first.leaf);
        let head = sign_head(&origin, frontier, log);
        batch.push(feed_state(&origin, id, true));
        batch.push(head_state(&origin, &head));
        push_statement(batch, id, 0, first, &Summary::default());
        let ours = origin.party() == self.snapshot.party;
        Ok(Feed { id, origin, ours, written: true, head: Arc::new(head), level: None, frozen: None, view: None, witnessed: None })
    }

    /// Keeps a new feed in memory, once it is durable.
    fn take_feed(&mut self, feed: Feed) {
        self.next_feed = self.next_feed.max(feed.id + 1);
        self.snapshot.feeds.insert(feed.origin.to_string(), feed);
        self.show();
    }

    /// States in the org feed that a record of ours is withdrawn. Returns the place of that entry.
    pub fn withdraw(&mut self, origin: Origin, seq: u64, leaf: Hash, reason: String, now: u64) -> Result<u64, FeedError> {
        self.may_sign()?;
        let mut batch = Batch::new();
        let (org, head) = self.append_org(&mut batch, &OrgEntry::Withdrawal { origin, seq, leaf, reason }, now)?;
        let entry = org.size() - 1;
        self.commit(batch)?;
        self.take_org(org, head);
        self.show();
        Ok(entry)
    }

    /// Puts an entry for our org feed into a batch; what comes back is shown once the batch is durable.
    fn append_org(&self, batch: &mut Batch, entry: &OrgEntry, now: u64) -> Result<(Org, Head), FeedError> {
        self.append_org_by(batch, entry, &self.keys.record, &self.keys, now)
    }

    /// The same, signed by a key of the owner's choice; `keys` sign the new head.
    fn append_org_by(&self, batch: &mut Batch, entry: &OrgEntry, signer: &Signer, keys: &Keys, now: u64) -> Result<(Org, Head), FeedError> {
        let mut org = Org::clone(&self.snapshot.orgs[&self.snapshot.party]);
        self.push_org(batch, &mut org, entry, signer, now)?;
        let origin = Origin::org(self.snapshot.party);
        let head = sign_head(&origin, org.frontier().clone(), &keys.log);
        batch.push(head_state(&origin, &head));
        Ok((org, head))
    }

    /// Puts an entry for our org feed, without its head, into a batch.
    fn push_org(&self, batch: &mut Batch, org: &mut Org, entry: &OrgEntry, signer: &Signer, now: u64) -> Result<(), FeedError> {
        let (sealed, seq) = (org::seal(org, entry, now, signer, random)?, org.size());
        org.accept(sealed.core.clone())?;
        push_statement(batch, self.snapshot.feeds[&Origin::org(self.snapshot.party).to_string()].id, seq, sealed, &Summary::default());
        Ok(())
    }

    fn take_org(&mut self, org: Org, head: Head) {
        let origin = Origin::org(org.party()).to_string();
        self.snapshot.feeds.get_mut(&origin).expect("our org feed is open").head = Arc::new(head);
        self.snapshot.orgs.insert(org.party(), Arc::new(org));
    }

    fn sign_head(&self, origin: &Origin, frontier: Frontier) -> Head {
        sign_head(origin, frontier, self.pen(origin).expect("only for feeds written here").1)
    }

    /// The keys for records and checkpoints of a feed that is written here; none for one that others write.
    fn pen(&self, origin: &Origin) -> Option<(&Signer, &Signer)> {
        if origin.party() == self.snapshot.party {
            let ours = self.snapshot.orgs[&self.snapshot.party].delegation(origin.as_str()).is_none();
            return ours.then_some((&self.keys.record, &self.keys.log));
        }
        let delegation = self.snapshot.orgs.get(&origin.party())?.delegation(origin.as_str())?;
        let pens = self.pens.get(&(origin.party(), origin.name().to_owned()))?;
        pens.iter().find(|pen| pen.record.public() == *delegation.record_key()).map(|pen| (&pen.record, &pen.log))
    }

    fn may_sign(&self) -> Result<(), FeedError> {
        match &self.snapshot.restored {
            Some(why) => Err(FeedError::Restored(why.clone())),
            None => self.keys_fit(),
        }
    }

    /// What an outdated key signs would be refused by everybody.
    fn keys_fit(&self) -> Result<(), FeedError> {
        match self.keys.outdated(&self.snapshot.orgs[&self.snapshot.party]) {
            Some(role) => Err(FeedError::Outdated(role)),
            None => Ok(()),
        }
    }

    /// The one durable write, with the latest time that was believed when that is due.
    fn commit(&mut self, mut batch: Batch) -> Result<(), StoreError> {
        let mark = self.clock.mark();
        if mark > self.marked {
            batch.push(Entry::State { key: key::CLOCK.into(), value: Some(state::put(lotline_schema::codec::uint(mark))) });
        }
        self.store.commit(batch)?;
        self.marked = mark;
        Ok(())
    }

    /// A mark gets a commit of its own when it is some minutes newer, and at once when something ended since: that has ended for good.
    fn mark_is_due(&self, mark: u64) -> bool {
        let ended = |end: i64| (self.marked as i64) < end && end <= mark as i64;
        self.marked + MARK_SECONDS < mark || self.snapshot.policy.shares().iter().flat_map(Rule::ends).any(ended)
    }

    /// Looks at the clock: who shares hears of a jump, and of its end; the latest time that was believed is kept.
    pub fn look_at_clock(&mut self) -> Result<(), FeedError> {
        self.clock.keep_partners(|name| self.snapshot.book.contains_key(name));
        let jumped = self.clock.jumped();
        if jumped.is_none() && self.mark_is_due(self.clock.mark()) {
            self.commit(Batch::new())?;
        }
        // While it lasts the time that is shown runs on; who shares need not hear of every second.
        if jumped.is_some() != self.snapshot.jumped.is_some() {
            self.snapshot.jumped = jumped;
            self.show();
        }
        Ok(())
    }

    /// The owner says that the clock is right as it is. Returns what it shows.
    pub fn confirm_clock(&mut self) -> Result<u64, FeedError> {
        let now = self.clock.confirm();
        self.commit_state(key::CLOCK.into(), Some(state::put(lotline_schema::codec::uint(now))))?;
        self.marked = now;
        self.look_at_clock()?;
        Ok(now)
    }

    /// The clock of this home.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    fn show(&self) {
        self.changed.send_replace(Arc::new(self.snapshot.clone()));
    }

    /// What everybody may see.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Reads beside the writer.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The keys of this home.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Waits until the index shows everything committed.
    pub fn settle(&self) -> Result<(), FeedError> {
        Ok(self.store.settle()?)
    }

    /// An orderly end.
    pub fn close(self) -> Result<(), FeedError> {
        Ok(self.store.close()?)
    }
}

/// Why the organisation that signed a stored record does not vouch for it any more, by what its org feed says now; none
/// for a good one, and for one that is hidden here.
pub fn revoked(reader: &Reader, org: &Org, row: &store::Row) -> Result<Option<String>, FeedError> {
    // Most organisations never changed a key: then there is nothing to read.
    let may = |entry: &OrgEntry| matches!(entry, OrgEntry::Rotation { role: Role::Record, .. } | OrgEntry::Delegation { .. });
    if !org.statements().any(may) {
        return Ok(None);
    }
    let Some(core) = reader.core(row)? else {
        return Ok(None);
    };
    let unverified = statement::Unverified::read(&core)?;
    let claims = unverified.claims();
    Ok(match org.record_key(&claims.kid, &claims.origin, claims.seq, claims.day) {
        Some(Standing::Revoked(_, why)) => Some(why),
        Some(Standing::Good(_)) | None => None,
    })
}

/// A group commit in the making.
#[derive(Default)]
struct Group {
    batch: Batch,
    frontiers: BTreeMap<u32, (Origin, Frontier)>,
    next: BTreeMap<u32, u64>,
    planned: std::collections::HashSet<Hash>,
    live: HashMap<Hash, Live>,
}

/// What becomes of a submission.
enum Plan {
    New(Box<New>),
    Repeated(Published),
    Twin(Hash, Hash),
}

/// A record with its place, before it is signed.
struct New {
    record: Record,
    feed: u32,
    place: Place,
    supersedes: Option<Live>,
    summary: Summary,
}

impl Group {
    fn push(&mut self, new: New, sealed: Sealed) -> Published {
        let New { feed, place, supersedes, summary, .. } = new;
        let bytes = sealed.core.len() + sealed.disclosures.iter().map(|disclosure| disclosure.bytes().len()).sum::<usize>();
        self.frontiers.get_mut(&feed).expect("planned with its feed").1.push(sealed.leaf);
        if let Some(mut old) = supersedes {
            old.summary.superseded_by = Some(sealed.leaf);
            self.batch.push(describe_entry(&old));
        }
        if let Some(identity) = identity_of(&place.origin.party(), &summary.facts) {
            self.live.insert(identity, Live { feed, seq: place.seq, leaf: sealed.leaf, summary: summary.clone() });
        }
        let published = Published { origin: place.origin, seq: place.seq, leaf: sealed.leaf, repeated: false, bytes };
        push_statement(&mut self.batch, feed, place.seq, sealed, &summary);
        published
    }
}

/// Below this many records a second thread costs more than it brings (sealing takes 35 us, a thread 30).
const SEALS_PER_THREAD_MIN: usize = 16;

/// Signs everything new, each with the key of its feed, on all cores: places are given, so the order no longer matters.
fn seal_all<'a>(
    planned: &[Result<Plan, FeedError>],
    signer: impl Fn(&Origin) -> &'a Signer + Sync,
) -> Result<Vec<Option<Sealed>>, FeedError> {
    let seal = |plan: &Result<Plan, FeedError>| match plan {
        Ok(Plan::New(new)) => statement::seal_record(&new.record, &new.place, signer(&new.place.origin), random).map(Some),
        _ => Ok(None),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(planned.len() / SEALS_PER_THREAD_MIN).max(1);
    if cores == 1 {
        return Ok(planned.iter().map(seal).collect::<Result<_, _>>()?);
    }
    let sealed = std::thread::scope(|scope| {
        let share = planned.len().div_ceil(cores);
        let threads: Vec<_> = planned.chunks(share).map(|chunk| scope.spawn(|| chunk.iter().map(seal).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("sealing does not panic")).collect::<Result<Vec<_>, _>>()
    });
    Ok(sealed?)
}

fn identity_of(party: &PartyId, facts: &Facts) -> Option<Hash> {
    let named = facts.lot.is_some() && facts.part.is_some();
    named.then(|| Hash::of(&[party.as_bytes(), facts.identity().as_bytes()]))
}

fn push_statement(batch: &mut Batch, feed: u32, seq: u64, sealed: Sealed, summary: &Summary) {
    let (lot, part) = (summary.facts.lot.clone(), summary.facts.part.clone());
    batch.push(Entry::Statement { feed, seq, leaf: sealed.leaf.0, core: sealed.core, summary: summary.to_bytes(), lot, part });
    if !sealed.disclosures.is_empty() {
        let slots = sealed.disclosures.into_iter().enumerate().map(|(slot, disclosure)| (slot as u8, disclosure.into_bytes()));
        batch.push(Entry::Disclosures { feed, seq, slots: slots.collect() });
    }
}

fn describe_entry(live: &Live) -> Entry {
    let Summary { facts, .. } = &live.summary;
    Entry::Describe { feed: live.feed, seq: live.seq, summary: live.summary.to_bytes(), lot: facts.lot.clone(), part: facts.part.clone() }
}

fn sign_head(origin: &Origin, frontier: Frontier, log: &Signer) -> Head {
    let checkpoint = Checkpoint { origin: origin.clone(), size: frontier.size(), root: frontier.root() };
    Head { checkpoint: checkpoint.sign(log), frontier }
}

fn head_state(origin: &Origin, head: &Head) -> Entry {
    Entry::State { key: key::of(key::HEAD, &origin.to_string()), value: Some(head.to_bytes()) }
}

fn feed_state(origin: &Origin, id: u32, written: bool) -> Entry {
    use lotline_schema::codec;
    let value = state::put(codec::array([codec::uint(id.into()), codec::Value::Bool(written)]));
    Entry::State { key: key::of(key::FEED, &origin.to_string()), value: Some(value) }
}

/// The mark of an import under way: how many of how many lots of a file are in; it goes when all are.
pub fn import_row(file: &Hash, done: u64, total: u64) -> Entry {
    use lotline_schema::codec;
    let value = (done < total).then(|| state::put(codec::array([codec::uint(done), codec::uint(total)])));
    Entry::State { key: key::of(key::IMPORT, &file.to_string()), value }
}
