//! What comes in: a partner's batch is verified whole, outside the writer, and then stored whole or not at all.
//!
//! Every index is accounted for: an item is a view or a leaf hash, and all of them together must reproduce the root of
//! a checkpoint that the feed's log key signed. A batch that does not hold freezes its feed at the last good head.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use lotline_schema::delivery::{Delivery, Way};
use lotline_schema::fork::ForkProof;
use lotline_schema::note::{Checkpoint, NoteError};
use lotline_schema::org::{self, Org, OrgError};
use lotline_schema::slot::Disclosure;
use lotline_schema::statement::{Body, Type, Unverified};
use lotline_schema::tree::{self, Frontier, ProofError};
use lotline_schema::view::{Expected, SealedView, VerifiedView, ViewError};
use lotline_schema::{Hash, Origin};

use super::release::push_release;
use super::state::{Head, StateError, Summary, key};
use super::terms::{Under, check_under};
use super::{Feed, FeedError, Feeds, Live, feed_state, head_state, identity_of};
use crate::exchange::message::{Cosigned, backfill_digest, items_digest};
use crate::store::{Batch, Entry, Row};

/// One entry of a feed as a partner sends it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// What we may see.
    View(SealedView),
    /// The leaf hash of what we may not.
    Hidden(Hash),
}

/// A batch as received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Index of the first item.
    pub from: u64,
    /// Consecutive entries.
    pub items: Vec<Item>,
    /// A checkpoint at or beyond the last item.
    pub checkpoint: String,
    /// Consistency proof from the last item to the checkpoint; empty when they are level.
    pub tail: Vec<Hash>,
    /// The version of the sharing rules that the sender states; none for an org feed.
    pub policy: Option<u64>,
    /// What of it is shown under terms alone.
    pub under: Vec<Under>,
}

/// Entries opened later, as received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backfill {
    /// Places and views.
    pub items: Vec<(u64, SealedView)>,
    /// The version of the sharing rules that the sender states.
    pub policy: Option<u64>,
    /// What of it is shown under terms alone.
    pub under: Vec<Under>,
}

/// A batch that does not hold, or not here. The peer's fault, but for the last two.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It does not follow what we have.
    #[error("expected entry {expected}, got {found}")]
    Gap {
        /// What comes next.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// It is empty.
    #[error("an empty batch")]
    Empty,
    /// Its checkpoint does not open.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] NoteError),
    /// Its entries are not those of the checkpoint, or its past is not the one we saw.
    #[error("FORK: the signed checkpoint of size {size} is not of the history we were shown: {source}")]
    Fork {
        /// Size of the checkpoint.
        size: u64,
        /// What does not fit.
        source: ProofError,
    },
    /// A view does not hold.
    #[error("entry {seq}: {source}")]
    View {
        /// Which.
        seq: u64,
        /// Why.
        source: ViewError,
    },
    /// The first entry of the feed does not point to the org feed we know.
    #[error("the feed's first entry does not point to its owner's org feed")]
    First,
    /// An entry of the org feed does not hold.
    #[error(transparent)]
    Org(#[from] OrgError),
    /// An org feed hides something.
    #[error("an org feed hides nothing, but entry {0} came hidden")]
    OrgHidden(u64),
    /// A feed of ours that a partner writes hides something from us.
    #[error("this feed is ours and hides nothing from us, but entry {0} came without all its fields")]
    NotWhole(u64),
    /// What a partner writes in our name would be a second word of ours about one inspection.
    #[error(
        "entry {seq} is another live statement of ours about the same inspection of lot `{lot}`, beside record {first} of feed `{feed}`"
    )]
    SecondWord {
        /// Which.
        seq: u64,
        /// The lot.
        lot: String,
        /// The feed of the first.
        feed: String,
        /// Its place.
        first: u64,
    },
    /// The keyring and our partner book disagree about who this is.
    #[error("the org feed never named the transport key that the partner book has")]
    TransportKey,
    /// A backfilled entry is another than the one we have the leaf hash of.
    #[error("FORK: entry {0} has another leaf hash than the one we were given before")]
    Other(u64),
    /// What it says of terms is about other fields than it shows.
    #[error("what it says of terms is not about what it shows")]
    Under,
    /// It stands under terms that we have not accepted.
    #[error("it came under terms that are not accepted here; `lotline subscribe` shows them")]
    Terms,
    /// The feed is frozen.
    #[error("the feed is frozen: {0}")]
    Frozen(String),
    /// We do not know the owner's keys yet: try again when the org feed is here.
    #[error("the owner's org feed is not here yet")]
    OrgBehind,
    /// Ours.
    #[error(transparent)]
    Ours(Box<FeedError>),
}

impl AcceptError {
    /// Whether it is evidence against the feed's owner, and stops the feed until a person has looked.
    pub fn freezes(&self) -> bool {
        // Another transport key may be the partner book's mistake, which a new invitation mends.
        let harmless = matches!(
            self,
            AcceptError::Gap { .. }
                | AcceptError::Empty
                | AcceptError::Frozen(_)
                | AcceptError::TransportKey
                | AcceptError::Under
                | AcceptError::Terms
        );
        !harmless && !matches!(self, AcceptError::OrgBehind | AcceptError::Ours(_))
    }
}

impl From<FeedError> for AcceptError {
    fn from(error: FeedError) -> AcceptError {
        AcceptError::Ours(Box::new(error))
    }
}

impl From<StateError> for AcceptError {
    fn from(error: StateError) -> AcceptError {
        FeedError::from(error).into()
    }
}

/// A batch every part of which holds.
pub struct VerifiedBatch {
    origin: Origin,
    from: u64,
    items: Vec<VerifiedItem>,
    head: Head,
    signed: Checkpoint,
    /// What a receipt says of it; none for an org feed.
    delivered: Option<Delivered>,
    under: UnderTerms,
    org: Option<Org>,
}

/// Slots under terms, by place.
type UnderTerms = BTreeMap<u64, Vec<(Hash, u64)>>;

/// What a delivery receipt says of received items beside their place.
struct Delivered {
    items: Hash,
    policy: Option<u64>,
}

/// What became of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The next index.
    pub next: u64,
    /// Our delivery receipt.
    pub receipt: Option<Vec<u8>>,
    /// Our cosignature on the checkpoint that was met.
    pub cosigned: Option<Cosigned>,
}

impl VerifiedBatch {
    /// Lots of records in it that show which inspection they are about: of these there must be one live statement each.
    pub fn lots(&self) -> BTreeSet<String> {
        let view = |item: &VerifiedItem| match item {
            VerifiedItem::View(_, view) if view.shows_identity() => view.facts().lot,
            _ => None,
        };
        self.items.iter().filter_map(view).collect()
    }

    /// Of an org feed: the organisation as it states itself with this batch.
    pub fn org(&self) -> Option<&Org> {
        self.org.as_ref()
    }
}

enum VerifiedItem {
    View(SealedView, Box<VerifiedView>),
    Hidden(Hash),
}

/// Entries opened later, each equal to the leaf hash we had.
pub struct VerifiedBackfill {
    origin: Origin,
    items: Vec<(u64, SealedView, VerifiedView)>,
    delivered: Delivered,
    under: UnderTerms,
}

/// Below this many views a second thread costs more than it brings (a signature takes 40 us, a thread 30).
const VIEWS_PER_THREAD_MIN: usize = 16;

/// Verifies a batch of a data feed: views on all cores, then the history against the signed checkpoint.
pub fn verify(org: &Org, origin: &Origin, head: &Head, received: Received) -> Result<VerifiedBatch, AcceptError> {
    follows(head, &received)?;
    let text = origin.to_string();
    if !org.has_feed(&text) {
        return Err(AcceptError::OrgBehind);
    }
    let views = verify_views(org, &text, &received)?;
    let opened = |seq: u64| {
        let at = usize::try_from(seq.checked_sub(received.from)?).ok()?;
        views.get(at)?.as_ref().map(slots_of)
    };
    let under = check_under(&received.under, opened).ok_or(AcceptError::Under)?;
    let delivered = Some(Delivered { items: items_digest(&received.items), policy: received.policy });
    let mut frontier = head.frontier.clone();
    let mut items = Vec::with_capacity(views.len());
    for (item, view) in received.items.into_iter().zip(views) {
        items.push(match (item, view) {
            (Item::View(sealed), Some(view)) => {
                frontier.push(view.leaf());
                VerifiedItem::View(sealed, Box::new(view))
            }
            (Item::Hidden(leaf), _) => {
                frontier.push(leaf);
                VerifiedItem::Hidden(leaf)
            }
            (Item::View(_), None) => unreachable!("each view was verified above"),
        });
    }
    let signed = check_history(org, origin, &frontier, &received.checkpoint, &received.tail)?;
    let head = Head { frontier, checkpoint: received.checkpoint };
    Ok(VerifiedBatch { origin: origin.clone(), from: received.from, items, head, signed, delivered, under, org: None })
}

/// Verifies a batch of an org feed: nothing is hidden there, and each entry must follow from those before.
pub fn verify_org(known: &Org, head: &Head, received: Received) -> Result<VerifiedBatch, AcceptError> {
    follows(head, &received)?;
    if !received.under.is_empty() {
        return Err(AcceptError::Under);
    }
    let mut org = known.clone();
    let mut items = Vec::with_capacity(received.items.len());
    for (seq, item) in (received.from..).zip(received.items) {
        let Item::View(sealed) = item else {
            return Err(AcceptError::OrgHidden(seq));
        };
        org.accept(sealed.core.clone())?;
        let view = sealed.trusted().map_err(|source| AcceptError::View { seq, source })?;
        items.push(VerifiedItem::View(sealed, Box::new(view)));
    }
    let (origin, frontier) = (Origin::org(org.party()), org.frontier().clone());
    let signed = check_history(&org, &origin, &frontier, &received.checkpoint, &received.tail)?;
    let head = Head { frontier, checkpoint: received.checkpoint };
    Ok(VerifiedBatch { origin, from: received.from, items, head, signed, delivered: None, under: UnderTerms::new(), org: Some(org) })
}

fn follows(head: &Head, received: &Received) -> Result<(), AcceptError> {
    let expected = head.frontier.size();
    if received.items.is_empty() {
        return Err(AcceptError::Empty);
    }
    if received.from != expected {
        return Err(AcceptError::Gap { expected, found: received.from });
    }
    Ok(())
}

fn verify_views(org: &Org, origin: &str, received: &Received) -> Result<Vec<Option<VerifiedView>>, AcceptError> {
    let one = |(seq, item): (u64, &Item)| match item {
        Item::Hidden(_) => Ok(None),
        Item::View(sealed) => {
            let view = sealed.verify(org, Expected { origin, seq }).map_err(|source| AcceptError::View { seq, source })?;
            check_first(org, &view)?;
            Ok(Some(view))
        }
    };
    let views = received.items.iter().filter(|item| matches!(item, Item::View(_))).count();
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(views / VIEWS_PER_THREAD_MIN).max(1);
    if cores == 1 {
        return (received.from..).zip(&received.items).map(one).collect();
    }
    let share = received.items.len().div_ceil(cores);
    std::thread::scope(|scope| {
        let chunks = received.items.chunks(share).enumerate().map(|(at, chunk)| {
            let from = received.from + (at * share) as u64;
            scope.spawn(move || (from..).zip(chunk).map(one).collect::<Result<Vec<_>, AcceptError>>())
        });
        let threads: Vec<_> = chunks.collect();
        let mut all = Vec::with_capacity(received.items.len());
        for thread in threads {
            all.extend(thread.join().expect("verification does not panic")?);
        }
        Ok(all)
    })
}

/// The first entry of a data feed must name the org feed as we know it.
fn check_first(org: &Org, view: &VerifiedView) -> Result<(), AcceptError> {
    let claims = view.claims();
    // A release is an entry as well, and points to its record.
    let Body::Entry(entry) = &claims.body else {
        return Ok(());
    };
    if claims.typ != Type::Feed {
        return Ok(());
    }
    let (size, root) = org::read_first(org, entry).map_err(|_| AcceptError::First)?;
    if size > org.size() {
        return Err(AcceptError::OrgBehind);
    }
    let mut then = Frontier::new();
    org.entries().iter().zip(0..size).for_each(|(entry, _)| then.push(tree::leaf_hash(entry)));
    if then.root() == root { Ok(()) } else { Err(AcceptError::First) }
}

fn check_history(org: &Org, origin: &Origin, frontier: &Frontier, checkpoint: &str, tail: &[Hash]) -> Result<Checkpoint, AcceptError> {
    let signed = org.open(checkpoint)?;
    if signed.origin != *origin {
        return Err(NoteError::UnknownLine.into());
    }
    tree::verify_consistency(frontier.size(), &frontier.root(), signed.size, &signed.root, tail)
        .map_err(|source| AcceptError::Fork { size: signed.size, source })?;
    Ok(signed)
}

/// Verifies entries opened later against the leaf hashes we have.
pub fn verify_backfill(
    org: &Org,
    feed: &Feed,
    backfill: Backfill,
    leaf_of: impl Fn(u64) -> Option<Hash>,
) -> Result<VerifiedBackfill, AcceptError> {
    let origin = feed.origin.to_string();
    let delivered = Delivered { items: backfill_digest(&backfill.items), policy: backfill.policy };
    let mut verified = Vec::with_capacity(backfill.items.len());
    for (seq, sealed) in backfill.items {
        if seq >= feed.size() {
            return Err(AcceptError::Gap { expected: feed.size(), found: seq });
        }
        let view = sealed.verify(org, Expected { origin: &origin, seq }).map_err(|source| AcceptError::View { seq, source })?;
        if leaf_of(seq) != Some(view.leaf()) {
            return Err(AcceptError::Other(seq));
        }
        verified.push((seq, sealed, view));
    }
    let opened = |seq: u64| verified.iter().find(|(at, ..)| *at == seq).map(|(.., view)| slots_of(view));
    let under = check_under(&backfill.under, opened).ok_or(AcceptError::Under)?;
    Ok(VerifiedBackfill { origin: feed.origin.clone(), items: verified, delivered, under })
}

/// The slots that a view opens, a bit a slot.
fn slots_of(view: &VerifiedView) -> u64 {
    view.opened().iter().fold(0, |mask, slot| mask | 1 << slot)
}

impl Feeds {
    /// Starts following a partner's feed, or goes on.
    pub fn follow(&mut self, origin: &Origin) -> Result<(), FeedError> {
        if self.snapshot.feeds.contains_key(&origin.to_string()) {
            return Ok(());
        }
        let id = self.next_feed;
        let mut batch = Batch::new();
        batch.push(feed_state(origin, id, false));
        self.commit(batch)?;
        self.next_feed += 1;
        let feed = Feed {
            id,
            origin: origin.clone(),
            ours: false,
            written: false,
            head: Arc::default(),
            level: None,
            frozen: None,
            view: None,
            witnessed: None,
        };
        self.snapshot.feeds.insert(origin.to_string(), feed);
        self.show();
        Ok(())
    }

    /// Stores a verified batch with the cursor, our receipt for it and our cosignature on a checkpoint it met, in one
    /// durable commit. `now` in seconds since 1970.
    pub fn accept(&mut self, batch: VerifiedBatch, view: Option<Hash>, now: u64) -> Result<Accepted, AcceptError> {
        let VerifiedBatch { origin, from, items, head, signed, delivered, under, org } = batch;
        let name = origin.to_string();
        let taken_back = self.snapshot.restored.is_some() && origin.is_org();
        let feed = self.snapshot.feeds.get(&name).filter(|feed| !feed.written || taken_back).ok_or(StateError("followed feed"))?;
        if let Some(why) = &feed.frozen {
            return Err(AcceptError::Frozen(why.clone()));
        }
        // It was verified against a head that another task may have moved meanwhile.
        if from != feed.size() {
            return Err(AcceptError::Gap { expected: feed.size(), found: from });
        }
        let (id, next) = (feed.id, head.frontier.size());
        let delegated = feed.ours && !feed.written;
        if !taken_back {
            self.may_sign()?;
        }
        // What is ours comes whole, or we could not show anybody what it says.
        if let Some(seq) = batch_hides(from, &items).filter(|_| delegated) {
            return Err(AcceptError::NotWhole(seq));
        }
        let live = if delegated { self.one_word(&items)? } else { HashMap::new() };
        let mut entries = Batch::new();
        let terms = self.oblige(&mut entries, &origin, &under, None, now)?;
        let partner = org.as_ref().and_then(|org| self.snapshot.partner_of(&org.party()));
        let renamed = match org.as_ref().zip(partner).map(|(org, partner)| self.snapshot.renamed(org, partner)) {
            // What is still to come may have the name that an invitation gave us.
            Some(Err(AcceptError::TransportKey)) if signed.size > next => None,
            renamed => renamed.transpose()?.flatten(),
        };
        if let Some(partner) = &renamed {
            entries.push(Entry::State { key: key::of(key::PARTNER, &partner.name), value: Some(partner.to_bytes()) });
        }
        let (mut replacing, mut here) = (Vec::new(), Vec::new());
        for (seq, item) in (from..).zip(items) {
            match item {
                VerifiedItem::Hidden(leaf) => entries.push(Entry::Hidden { feed: id, seq, leaf: leaf.0 }),
                VerifiedItem::View(sealed, view) => {
                    push_release(&mut entries, &origin, &view);
                    push_view(&mut entries, id, seq, sealed, &view, true);
                    if view.claims().supersedes.is_some() {
                        replacing.push(here.len());
                    }
                    here.push((seq, view));
                }
            }
        }
        for at in replacing {
            let view = &here[at].1;
            let in_batch = here[..at].iter().find(|(_, old)| Some(old.leaf()) == view.claims().supersedes);
            match in_batch {
                Some((seq, old)) => entries.push(superseded(id, *seq, Summary { facts: old.facts(), ..Summary::default() }, view.leaf())),
                None => self.describe_superseded(&mut entries, &origin, view)?,
            }
        }
        entries.push(head_state(&origin, &head));
        let level = delegated && signed.size == next;
        if level {
            entries.push(Entry::State { key: key::of(key::LEVEL, &name), value: Some(head.to_bytes()) });
        }
        if let Some(view) = view {
            entries.push(Entry::State { key: key::of(key::VIEW, &name), value: Some(view.0.into()) });
        }
        let cosigned = match taken_back || signed.size != next {
            true => None,
            false => Some(self.cosign(&mut entries, &signed, &head.checkpoint, now)?),
        };
        let receipt = match delivered {
            Some(Delivered { items, policy }) if !taken_back => {
                let (size, root, origin) = (signed.size, signed.root, name.clone());
                let delivery = Delivery { origin, from, to: next, size, root, items, policy, terms, at: now, way: Way::Batch };
                Some(self.receipt(&mut entries, &delivery)?)
            }
            _ => None,
        };
        self.commit(entries).map_err(FeedError::from)?;
        self.next_receipt += u64::from(receipt.is_some());
        let feed = self.snapshot.feeds.get_mut(&name).expect("looked up above");
        if cosigned.is_some() {
            feed.witnessed = Some((signed.size, signed.root));
        }
        feed.head = Arc::new(head);
        if level {
            feed.level = Some(feed.head.clone());
        }
        feed.view = view.or(feed.view);
        if let Some(org) = org {
            let party = org.party();
            self.snapshot.orgs.insert(party, Arc::new(org));
            self.look_at_acceptance(&party)?;
        }
        if let Some(partner) = renamed {
            Arc::make_mut(&mut self.snapshot.book).insert(partner.name.clone(), partner);
        }
        self.remember(live).map_err(FeedError::from)?;
        self.show();
        Ok(Accepted { next, receipt, cosigned })
    }

    /// What a partner writes in our name is looked at before it is ours: customers would find two live statements about one
    /// inspection, and hold them against us. The same rule as for what we publish ourselves. Returns what is live with it.
    fn one_word(&self, items: &[VerifiedItem]) -> Result<HashMap<Hash, Live>, AcceptError> {
        self.settle()?;
        let mut group = HashMap::new();
        for item in items {
            let VerifiedItem::View(_, view) = item else {
                continue;
            };
            let (facts, claims) = (view.facts(), view.claims());
            let Some(identity) = identity_of(&self.snapshot.party, &facts).filter(|_| view.revoked().is_none()) else {
                continue;
            };
            if let Some(first) = self.live(self.snapshot.party, &facts, &group)?
                && claims.supersedes != Some(first.leaf)
                && !self.is_gone(&first)?
            {
                let feed = self.snapshot.feed_numbered(first.feed).map_or_else(String::new, |feed| feed.origin.name().to_owned());
                return Err(AcceptError::SecondWord { seq: claims.seq, lot: facts.lot.unwrap_or_default(), feed, first: first.seq });
            }
            let feed = self.snapshot.feeds.get(&claims.origin).map_or(0, |feed| feed.id);
            let summary = Summary { facts, ..Summary::default() };
            group.insert(identity, Live { feed, seq: claims.seq, leaf: view.leaf(), summary });
        }
        Ok(group)
    }

    /// Stores entries opened later, with our receipt for them; what is open already stays as it is.
    pub fn accept_backfill(&mut self, backfill: VerifiedBackfill, now: u64) -> Result<Option<Vec<u8>>, AcceptError> {
        self.may_sign()?;
        let name = backfill.origin.to_string();
        let feed = self.snapshot.feeds.get(&name).filter(|feed| !feed.written).ok_or(StateError("followed feed"))?;
        let id = feed.id;
        let signed = Checkpoint::read(&feed.head.checkpoint)?;
        let places = backfill.items.iter().map(|(seq, ..)| *seq);
        let range = places.clone().min().zip(places.max());
        let (mut entries, mut lots) = (Batch::new(), BTreeSet::new());
        let terms = self.oblige(&mut entries, &backfill.origin, &backfill.under, Some(id), now)?;
        for (seq, sealed, view) in backfill.items {
            let row = self.reader.row(id, seq).map_err(FeedError::from)?;
            // The receipt covers what came; what was forgotten stays so.
            let (sealed, view) = match row.as_ref().map_or(0, Row::forgotten_slots) {
                0 => (sealed, view),
                forgotten => without(sealed, &view, forgotten).map_err(|source| AcceptError::View { seq, source })?,
            };
            lots.extend(view.facts().lot);
            let fresh = !row.as_ref().is_some_and(|row| row.has_core);
            push_release(&mut entries, &backfill.origin, &view);
            push_view(&mut entries, id, seq, sealed, &view, fresh);
            // What lists show comes from everything that is open now: what was before, and what came.
            if let Some(row) = row.filter(|row| row.has_core) {
                let before = Summary::read(&row.summary)?;
                let summary = Summary { facts: merge(before.facts, view.facts()), ..before };
                let (lot, part) = (summary.facts.lot.clone(), summary.facts.part.clone());
                entries.push(Entry::Describe { feed: id, seq, summary: summary.to_bytes(), lot, part });
            }
        }
        let Some((from, last)) = range else {
            return Err(AcceptError::Empty);
        };
        let Delivered { items, policy } = backfill.delivered;
        let (origin, size, root) = (name, signed.size, signed.root);
        let delivery = Delivery { origin, from, to: last + 1, size, root, items, policy, terms, at: now, way: Way::Backfill };
        let receipt = self.receipt(&mut entries, &delivery)?;
        self.commit(entries).map_err(FeedError::from)?;
        self.next_receipt += 1;
        self.show();
        self.describe_replaced(&backfill.origin, lots)?;
        Ok(Some(receipt))
    }

    /// Lists must tell what was replaced from what is live: the old statement stands in a feed of the same firm, and
    /// both say the same lot, if they say one.
    fn describe_superseded(&self, entries: &mut Batch, origin: &Origin, view: &VerifiedView) -> Result<(), FeedError> {
        let (Some(old), Some(lot)) = (view.claims().supersedes, view.facts().lot) else {
            return Ok(());
        };
        self.settle()?;
        for (id, seq) in self.reader.by_lot(&lot)? {
            let same_firm = self.snapshot.feed_numbered(id).is_some_and(|feed| feed.origin.party() == origin.party());
            if let Some(row) = self.reader.row(id, seq)?.filter(|row| same_firm && row.has_core && row.leaf == old.0) {
                entries.push(superseded(id, seq, Summary::read(&row.summary)?, view.leaf()));
            }
        }
        Ok(())
    }

    /// The same for entries opened later, when either of the two may have been there first. On its own after the
    /// commit: what is not acknowledged yet comes again.
    fn describe_replaced(&mut self, origin: &Origin, lots: BTreeSet<String>) -> Result<(), FeedError> {
        self.settle()?;
        let mut entries = Batch::new();
        for lot in lots {
            let (mut rows, mut newer) = (Vec::new(), HashMap::new());
            for (id, seq) in self.reader.by_lot(&lot)? {
                let same_firm = self.snapshot.feed_numbered(id).is_some_and(|feed| feed.origin.party() == origin.party());
                let Some(row) = self.reader.row(id, seq)?.filter(|row| same_firm && row.has_core) else {
                    continue;
                };
                if let Some(core) = self.reader.core(&row)? {
                    newer.extend(Unverified::read(&core)?.claims().supersedes.map(|old| (old, Hash(row.leaf))));
                }
                rows.push((id, row));
            }
            for (id, row) in rows {
                let summary = Summary::read(&row.summary)?;
                if let Some(by) = newer.get(&Hash(row.leaf)).filter(|by| summary.superseded_by.as_ref() != Some(by)) {
                    entries.push(superseded(id, row.seq, summary, *by));
                }
            }
        }
        if !entries.is_empty() {
            self.commit(entries)?;
            self.show();
        }
        Ok(())
    }

    /// Remembers the view a feed is taken under.
    pub fn set_view(&mut self, origin: &Origin, view: Hash) -> Result<(), FeedError> {
        let name = origin.to_string();
        self.commit_state(key::of(key::VIEW, &name), Some(view.0.into()))?;
        if let Some(feed) = self.snapshot.feeds.get_mut(&name) {
            feed.view = Some(view);
            self.show();
        }
        Ok(())
    }

    /// Lets a frozen feed go on from its last good head; evidence and proof stay.
    pub fn thaw(&mut self, origin: &Origin) -> Result<(), FeedError> {
        self.commit_state(key::of(key::FROZEN, origin.as_str()), None)?;
        if let Some(feed) = self.snapshot.feeds.get_mut(origin.as_str()) {
            feed.frozen = None;
            self.show();
        }
        Ok(())
    }

    /// Stops a feed at its last good head and keeps what was sent as evidence, and the fork proof if there is one.
    pub fn freeze(&mut self, origin: &Origin, why: &str, evidence: &[u8], proof: Option<&ForkProof>) -> Result<(), FeedError> {
        let name = origin.to_string();
        let mut batch = Batch::new();
        if let Some(proof) = proof {
            batch.push(Entry::State { key: key::of(key::FORK, &name), value: Some(proof.to_bytes()) });
        }
        batch.push(Entry::State { key: key::of(key::FROZEN, &name), value: Some(why.as_bytes().to_vec()) });
        batch.push(Entry::State { key: key::of(key::EVIDENCE, &name), value: Some(evidence.to_vec()) });
        self.commit(batch)?;
        if let Some(feed) = self.snapshot.feeds.get_mut(&name) {
            feed.frozen = Some(why.to_owned());
            self.show();
        }
        Ok(())
    }
}

/// A verified view without what it shows of slots that were forgotten here.
fn without(sealed: SealedView, view: &VerifiedView, forgotten: u64) -> Result<(SealedView, VerifiedView), ViewError> {
    let shown = view.opened().iter().zip(sealed.disclosures).filter(|(slot, _)| forgotten >> **slot & 1 == 0);
    let sealed = SealedView { core: sealed.core, disclosures: shown.map(|(_, disclosure)| disclosure).collect() };
    let view = sealed.trusted()?;
    Ok((sealed, view))
}

/// The first entry of a batch that hides something.
fn batch_hides(from: u64, items: &[VerifiedItem]) -> Option<u64> {
    let hides = |item: &VerifiedItem| match item {
        VerifiedItem::Hidden(_) => true,
        VerifiedItem::View(_, view) => view.hidden() > 0,
    };
    items.iter().position(hides).map(|at| from + at as u64)
}

fn push_view(entries: &mut Batch, feed: u32, seq: u64, sealed: SealedView, view: &VerifiedView, with_core: bool) {
    if with_core {
        let summary = Summary { facts: view.facts(), ..Summary::default() };
        let (lot, part) = (summary.facts.lot.clone(), summary.facts.part.clone());
        entries.push(Entry::Statement { feed, seq, leaf: view.leaf().0, core: sealed.core, summary: summary.to_bytes(), lot, part });
    }
    if !sealed.disclosures.is_empty() {
        let slots = view.opened().iter().copied().zip(sealed.disclosures.into_iter().map(Disclosure::into_bytes));
        entries.push(Entry::Disclosures { feed, seq, slots: slots.collect() });
    }
}

/// The entry of a list for a statement that another one replaced.
fn superseded(feed: u32, seq: u64, summary: Summary, by: Hash) -> Entry {
    let (lot, part) = (summary.facts.lot.clone(), summary.facts.part.clone());
    Entry::Describe { feed, seq, summary: Summary { superseded_by: Some(by), ..summary }.to_bytes(), lot, part }
}

/// Facts known from two partial views of one record.
fn merge(a: lotline_schema::Facts, b: lotline_schema::Facts) -> lotline_schema::Facts {
    lotline_schema::Facts {
        kind: if a.kind.is_empty() { b.kind } else { a.kind },
        part: a.part.or(b.part),
        customer_part: a.customer_part.or(b.customer_part),
        revision: a.revision.or(b.revision),
        lot: a.lot.or(b.lot),
        customer: a.customer.or(b.customer),
        role: a.role.or(b.role),
        operation: a.operation.or(b.operation),
        reason: a.reason.or(b.reason),
        sample: a.sample.or(b.sample),
        verdict: a.verdict.or(b.verdict),
        pieces: a.pieces.or(b.pieces),
        recorded_at: a.recorded_at.or(b.recorded_at),
        thin: a.thin | b.thin,
        released: false,
        forgotten: a.forgotten | b.forgotten,
    }
}
