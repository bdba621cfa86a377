//! Releases: a named person countersigns a record with a key of its own, in the feed that holds the record.
//!
//! The person's key never comes here: the statement arrives signed, for the next place of the feed, and is checked like
//! one that a stranger sends.

use lotline_policy::{Item, Policy};
use lotline_schema::kind;
use lotline_schema::org::Org;
use lotline_schema::release::Release;
use lotline_schema::slot::Disclosure;
use lotline_schema::statement::{Body, Sealed, Type, Unverified};
use lotline_schema::tree;
use lotline_schema::view::{Expected, SealedView, VerifiedView, ViewError};
use lotline_schema::{Facts, Hash, Origin};

use super::state::{StateError, key, put};
use super::{Feed, FeedError, Feeds, Published, Snapshot, Summary, head_state, push_statement};
use crate::store::{Batch, Entry, Reader, Row};

/// A release that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Signed for a place that is taken by now: sign it again for the next one.
    #[error("the feed went on meanwhile: its next entry is {0}")]
    Moved(u64),
    /// Not what it should be, or not signed by somebody who releases.
    #[error("this release does not hold: {0}")]
    View(#[from] ViewError),
    /// Signed by somebody who releases no more.
    #[error("{0}")]
    Ended(String),
    /// About no record of this feed.
    #[error("a release of a record that is not in this feed")]
    NoRecord,
}

/// Who released a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Released {
    /// Who.
    pub name: String,
    /// In which function.
    pub function: String,
    /// Thumbprint of the person's key.
    pub kid: Hash,
    /// The release's place in the feed.
    pub entry: u64,
    /// Why it does not count, if it does not.
    pub ended: Option<String>,
}

impl Released {
    /// In one line: `J. Doe (quality manager), entry 7`.
    pub fn to_text(&self) -> String {
        let ended = self.ended.as_ref().map_or(String::new(), |why| format!(", which does not count: {why}"));
        format!("{} ({}), entry {}{ended}", self.name, self.function, self.entry)
    }
}

impl Feeds {
    /// Appends a release of a record of ours, signed by a person for the next place of its feed.
    pub fn release(&mut self, core: Vec<u8>) -> Result<Published, FeedError> {
        self.may_sign()?;
        let unverified = Unverified::read(&core)?;
        let claims = unverified.claims().clone();
        let feed = self.snapshot.feeds.get(&claims.origin).filter(|feed| feed.is_own() && claims.typ == Type::Release);
        // A life that is over gets no more entries: after a restore others may hold what stands there.
        let feed = feed.filter(|feed| self.snapshot.own_feed(feed.origin.name()).is_some_and(|newest| newest.origin == feed.origin));
        let feed = feed.ok_or(ReleaseError::NoRecord)?.clone();
        if claims.seq != feed.size() {
            return Err(ReleaseError::Moved(feed.size()).into());
        }
        let org = &self.snapshot.orgs[&self.snapshot.party];
        let expected = Expected { origin: &claims.origin, seq: claims.seq };
        let view = SealedView { core: core.clone(), disclosures: Vec::new() }.verify(org, expected).map_err(ReleaseError::from)?;
        if let Some(why) = view.revoked() {
            return Err(ReleaseError::Ended(why.to_owned()).into());
        }
        let of = release_of(&core).ok_or(ReleaseError::NoRecord)?;
        self.settle()?;
        let record = self.reader.row(feed.id, of.seq)?.filter(|row| row.leaf == of.leaf.0 && of.seq > 0).ok_or(ReleaseError::NoRecord)?;
        if Summary::read(&record.summary)?.facts.is_release() {
            return Err(ReleaseError::NoRecord.into());
        }
        let (summary, leaf) = (Summary { facts: view.facts(), ..Summary::default() }, tree::leaf_hash(&core));
        let (bytes, mut frontier, mut batch) = (core.len(), feed.head.frontier.clone(), Batch::new());
        frontier.push(leaf);
        push_release(&mut batch, &feed.origin, &view);
        push_statement(&mut batch, feed.id, claims.seq, Sealed { core, leaf, disclosures: Vec::new() }, &summary);
        let head = self.sign_head(&feed.origin, frontier);
        batch.push(head_state(&feed.origin, &head));
        self.commit(batch)?;
        self.snapshot.feeds.get_mut(&claims.origin).expect("looked up above").head = std::sync::Arc::new(head);
        self.show();
        Ok(Published { origin: feed.origin, seq: claims.seq, leaf, repeated: false, bytes })
    }
}

/// Remembers of which record a verified statement is a release, if it is one, so that the record can tell.
pub(super) fn push_release(batch: &mut Batch, origin: &Origin, view: &VerifiedView) {
    if let Some((_, release)) = view.release() {
        let seq = view.claims().seq;
        // Under its own feed: nobody can take the place of a release in another's.
        let state_key = key::placed(&format!("{}{}/", key::RELEASE, release.leaf), origin.as_str(), seq);
        batch.push(Entry::State { key: state_key, value: Some(put(lotline_schema::codec::text(origin.to_string()))) });
    }
}

/// Releases of a record that are counted and shown: more on one record say nothing more.
const RELEASES_MAX: usize = 16;

/// The statements that release a record, as stored: releases can be hidden from us.
pub fn release_rows(reader: &Reader, snapshot: &Snapshot, feed: &Feed, leaf: Hash) -> Result<Vec<Row>, FeedError> {
    let mut rows = Vec::new();
    // A release counts in the feed of its record alone, and there after it.
    let prefix = [key::of(key::RELEASE, &format!("{leaf}/")), feed.origin.as_str().into(), b"/".to_vec()].concat();
    for (state_key, _) in reader.states(&prefix, None, RELEASES_MAX)? {
        let seq = state_key.last_chunk::<8>().map(|seq| u64::from_be_bytes(*seq)).ok_or(StateError("release"))?;
        if snapshot.feeds.contains_key(feed.origin.as_str()) {
            rows.extend(reader.row(feed.id, seq)?.filter(|row| row.has_core));
        }
    }
    Ok(rows)
}

/// Who released a record, as far as it can be seen here; each signature is checked anew.
pub fn released_by(reader: &Reader, snapshot: &Snapshot, feed: &Feed, leaf: Hash) -> Result<Vec<Released>, FeedError> {
    let Some(org) = snapshot.orgs.get(&feed.origin.party()) else {
        return Ok(Vec::new());
    };
    let rows = release_rows(reader, snapshot, feed, leaf)?;
    let mut released = Vec::with_capacity(rows.len());
    for row in rows {
        released.extend(released_in(reader, org, feed, &row)?);
    }
    Ok(released)
}

/// What rules need to know of a record of ours: whether it is released as well, if a rule asks. A release counts while
/// neither it nor its record is withdrawn and its person was entitled at its place.
pub fn with_release(
    facts: Facts,
    reader: &Reader,
    snapshot: &Snapshot,
    policy: &Policy,
    feed: &Feed,
    leaf: Hash,
) -> Result<Facts, FeedError> {
    let org = snapshot.orgs.get(&feed.origin.party()).filter(|org| policy.asks_for_releases() && org.withdrawn(&leaf).is_none());
    let Some(org) = org.filter(|_| !facts.is_release()) else {
        return Ok(facts);
    };
    for row in release_rows(reader, snapshot, feed, leaf)?.into_iter().filter(|row| org.withdrawn(&Hash(row.leaf)).is_none()) {
        if released_in(reader, org, feed, &row)?.is_some_and(|released| released.ended.is_none()) {
            return Ok(Facts { released: true, ..facts });
        }
    }
    Ok(facts)
}

fn released_in(reader: &Reader, org: &Org, feed: &Feed, row: &Row) -> Result<Option<Released>, FeedError> {
    let core = reader.core(row)?.ok_or(StateError("release"))?;
    let expected = Expected { origin: feed.origin.as_str(), seq: row.seq };
    let view = SealedView { core, disclosures: Vec::new() }.verify(org, expected).map_err(ReleaseError::from)?;
    let (kid, ended) = (view.claims().kid, view.revoked().map(str::to_owned));
    Ok(view.release().map(|(person, _)| Released {
        name: person.name.clone(),
        function: person.function.clone(),
        kid,
        entry: row.seq,
        ended,
    }))
}

/// How many entries of a feed are releases, as far as they are known here.
pub fn releases_in(reader: &Reader, org: &Org, feed: &Feed) -> Result<u64, FeedError> {
    const PAGE: usize = 512;
    // Where nobody was ever named there is nothing to count.
    if org.signers().next().is_none() {
        return Ok(0);
    }
    let (mut count, mut after) = (0, None::<Vec<u8>>);
    loop {
        let page = reader.states(key::RELEASE.as_bytes(), after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok(count);
        };
        after = Some(last.clone());
        for (_, origin) in &page {
            let origin = super::state::take(origin, "release")?;
            count += u64::from(lotline_schema::codec::as_text(&origin) == Some(feed.origin.as_str()));
        }
    }
}

/// What a release is about.
pub fn release_of(core: &[u8]) -> Option<Release> {
    match &Unverified::read(core).ok()?.claims().body {
        Body::Entry(entry) => Release::read(entry).ok(),
        Body::Slots(..) => None,
    }
}

/// An entry of ours as the store holds it, whole: what the door out looks at.
pub struct Whole {
    origin: String,
    name: String,
    seq: u64,
    leaf: Hash,
    core: Vec<u8>,
    disclosures: Vec<Disclosure>,
    facts: Facts,
}

impl Whole {
    /// Reads an entry whole, with what the rules in force ask about it.
    pub fn read(reader: &Reader, snapshot: &Snapshot, feed: &Feed, row: &Row) -> Result<Whole, FeedError> {
        let core = reader.core(row)?.ok_or(StateError("signed bytes of a record"))?;
        let mut slots = reader.disclosures(row)?;
        slots.sort_unstable_by_key(|(slot, _)| *slot);
        let disclosures = slots.into_iter().map(|(_, bytes)| Disclosure::received(bytes)).collect();
        let (origin, name) = (feed.origin.to_string(), feed.origin.name().to_owned());
        let leaf = Hash(row.leaf);
        let facts = with_release(Summary::read(&row.summary)?.facts, reader, snapshot, &snapshot.policy, feed, leaf)?;
        Ok(Whole { origin, name, seq: row.seq, leaf, core, disclosures, facts })
    }

    /// The record that a release is about, whole; none for anything else.
    pub fn record_of(&self, reader: &Reader, snapshot: &Snapshot, feed: &Feed) -> Result<Option<Whole>, FeedError> {
        let Some(of) = Some(&self.facts).filter(|facts| facts.is_release()).and_then(|_| release_of(&self.core)) else {
            return Ok(None);
        };
        let row = reader.row(feed.id, of.seq)?.filter(|row| row.leaf == of.leaf.0);
        row.map(|row| Whole::read(reader, snapshot, feed, &row)).transpose()
    }

    /// For the door.
    pub fn item(&self) -> Item<'_> {
        Item {
            feed: &self.name,
            origin: &self.origin,
            seq: self.seq,
            leaf: self.leaf,
            core: &self.core,
            disclosures: &self.disclosures,
            schema: kind::called(&self.facts.kind),
            facts: &self.facts,
        }
    }
}
