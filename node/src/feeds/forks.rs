//! Two truths: finding them in what is stored, and proving them to others.
//!
//! A follower that is shown another past freezes the feed and keeps what was sent. Where the two sides carry the owner's
//! signatures, they become a fork proof ([`lotline_schema::fork`]), which anybody can verify. A head that does not follow
//! from the one before is a reason to stop, and no proof.

use std::collections::{BTreeMap, BTreeSet};

use lotline_schema::bundle::{Bundle, OrgPart};
use lotline_schema::fork::{ForkProof, Side};
use lotline_schema::note::{Checkpoint, InclusionProof};
use lotline_schema::slot::Disclosure;
use lotline_schema::statement::Unverified;
use lotline_schema::verify::VerifiedRecord;
use lotline_schema::view::{Expected, Package, SealedView, VerifiedView};
use lotline_schema::{Hash, Origin, PartyId};

use super::accept::AcceptError;
use super::state::{Summary, key};
use super::witness::first_witnessed;
use super::{Feed, FeedError, Snapshot};
use crate::exchange::Message;
use crate::store::{Reader, Row};

/// A contradiction that was found: in which feed, what in words, and the proof if there is one.
pub type Found = (Origin, String, Option<ForkProof>);

/// Why to freeze a feed, in words, and the proof if there is one.
pub type Accusation = (String, Option<ForkProof>);

/// The proof kept for a frozen feed, if there is one.
pub fn kept(reader: &Reader, origin: &Origin) -> Result<Option<Vec<u8>>, FeedError> {
    Ok(reader.state(&key::of(key::FORK, origin.as_str()))?)
}

/// What a refused message proves together with what we hold.
fn proof_from<'a>(reader: &Reader, snapshot: &Snapshot, origin: &Origin, message: &'a Message) -> Option<ForkProof> {
    let feed = snapshot.feeds.get(origin.as_str())?;
    let org = org_part(snapshot, &origin.party())?;
    reader.settle().ok()?;
    let views: Vec<&SealedView> = match message {
        Message::Batch(batch) => {
            if let Some(proof) = two_roots(reader, feed, &org, &batch.checkpoint) {
                return Some(proof);
            }
            let view = |item: &'a super::Item| if let super::Item::View(view) = item { Some(view) } else { None };
            batch.items.iter().filter_map(view).collect()
        }
        Message::Backfill(backfill) => backfill.items.iter().map(|(_, view)| view).collect(),
        _ => return None,
    };
    views.into_iter().find_map(|view| two_statements(reader, feed, &org, &view.core))
}

/// What a refused message says against the feed's owner: why to freeze the feed, and the proof if there is one. None when
/// the refusal is no evidence and nothing that the owner signed in it contradicts what we hold.
pub fn accusation(reader: &Reader, snapshot: &Snapshot, origin: &Origin, message: &Message, refused: &AcceptError) -> Option<Accusation> {
    match refused.freezes() {
        true => Some((refused.to_string(), proof_from(reader, snapshot, origin, message))),
        false => contradiction(reader, snapshot, origin, message),
    }
}

/// What of a message contradicts what we hold, whether or not it came at its turn.
pub fn contradiction(reader: &Reader, snapshot: &Snapshot, origin: &Origin, message: &Message) -> Option<Accusation> {
    let proof = proof_from(reader, snapshot, origin, message);
    if let Some((_, what)) = proof.as_ref().and_then(|proof| proof.check().ok()) {
        return Some((format!("FORK: {what}"), proof));
    }
    // While a catch-up is between two batches, our newest checkpoint is beyond what is here and proves nothing yet.
    let (Message::Batch(batch), Some(feed)) = (message, snapshot.feeds.get(origin.as_str())) else {
        return None;
    };
    let org = snapshot.orgs.get(&origin.party())?;
    let theirs = org.open(&batch.checkpoint).ok().filter(|theirs| theirs.origin == *origin && theirs.size <= feed.size())?;
    let ours = reader.tree(feed.id, feed.size()).root(theirs.size).ok()?;
    (ours != theirs.root).then(|| (format!("FORK: the signed checkpoint of size {} is not of the history we have", theirs.size), None))
}

/// A checkpoint against what we hold of its feed.
fn two_roots(reader: &Reader, feed: &Feed, org: &OrgPart, note: &str) -> Option<ForkProof> {
    let theirs = Checkpoint::read(note).ok().filter(|theirs| theirs.origin == feed.origin)?;
    let ours = Checkpoint::read(&feed.head.checkpoint).ok()?;
    let log_line_alone = log_part(note);
    if theirs.size == ours.size {
        return ForkProof::of(org.clone(), Side::Checkpoint(feed.head.checkpoint.clone()), Side::Checkpoint(log_line_alone));
    }
    // Of a shorter one our own head says what its root had to be.
    (theirs.size < ours.size && ours.size == feed.size() && theirs.size > 0).then(|| {
        let tree = reader.tree(feed.id, feed.size());
        let prefix = Side::Prefix {
            size: theirs.size,
            root: tree.root(theirs.size).ok()?,
            path: tree.consistency(theirs.size, ours.size).ok()?,
            checkpoint: feed.head.checkpoint.clone(),
        };
        ForkProof::of(org.clone(), prefix, Side::Checkpoint(log_line_alone))
    })?
}

/// The note with the log's line alone.
fn log_part(note: &str) -> String {
    match note.split_once("\n\n") {
        Some((body, signatures)) => format!("{body}\n\n{}\n", signatures.lines().next().unwrap_or_default()),
        None => note.to_owned(),
    }
}

/// A statement against the one we hold at its place.
fn two_statements(reader: &Reader, feed: &Feed, org: &OrgPart, core: &[u8]) -> Option<ForkProof> {
    let unverified = Unverified::read(core).ok()?;
    let claims = unverified.claims();
    if claims.origin != feed.origin.as_str() {
        return None;
    }
    let row = reader.row(feed.id, claims.seq).ok()?.filter(|row| row.leaf != unverified.leaf().0)?;
    ForkProof::of(org.clone(), our_side(reader, feed, &row)?, Side::Statement(core.to_vec()))
}

/// What the owner signed for a place, as we hold it: the statement, or the leaf hash its log committed to.
fn our_side(reader: &Reader, feed: &Feed, row: &Row) -> Option<Side> {
    match reader.core(row).ok()? {
        Some(core) => Some(Side::Statement(core)),
        None => Some(Side::Leaf(Hash(row.leaf), proof_text(reader, feed, row.seq)?)),
    }
}

/// An inclusion proof under a signed checkpoint that we are level with: the head, or the first we cosigned.
fn proof_text(reader: &Reader, feed: &Feed, seq: u64) -> Option<String> {
    let head = Checkpoint::read(&feed.head.checkpoint).ok()?;
    let (size, checkpoint) = match head.size == feed.size() {
        true => (head.size, feed.head.checkpoint.clone()),
        false => {
            let note = first_witnessed(reader, feed.origin.as_str(), seq, str::is_empty).ok()?.into_iter().next()?.note;
            (Checkpoint::read(&note).ok()?.size, note)
        }
    };
    let path = reader.tree(feed.id, feed.size()).inclusion(seq, size).ok()?;
    Some(InclusionProof { index: seq, path, checkpoint }.to_text())
}

fn org_part(snapshot: &Snapshot, party: &PartyId) -> Option<OrgPart> {
    let (org, feed) = (snapshot.orgs.get(party)?, snapshot.feeds.get(Origin::org(*party).as_str())?);
    Some(OrgPart::of(org, &feed.head.checkpoint))
}

/// Two live statements of one firm about one inspection of one of these lots.
pub fn twins(reader: &Reader, snapshot: &Snapshot, origin: &Origin, lots: &BTreeSet<String>) -> Result<Option<Found>, FeedError> {
    reader.settle()?;
    for lot in lots {
        let rows = of_firm(reader, snapshot, origin.party(), lot)?;
        // One statement contradicts nobody, and of most lots there is one: these need not be read again.
        if rows.len() < 2 {
            continue;
        }
        let mut live: BTreeMap<String, (Feed, Row, SealedView)> = BTreeMap::new();
        for (feed, row) in rows {
            let Some((sealed, view)) = shown_live(reader, snapshot, &feed, &row)? else {
                continue;
            };
            let identity = view.facts().identity();
            // What replaces something that is not here may well replace the other by way of it.
            if view.claims().supersedes.is_some() && live.contains_key(&identity) {
                continue;
            }
            let Some((first_feed, first, first_view)) = live.get(&identity) else {
                live.insert(identity, (feed, row, sealed));
                continue;
            };
            let why = format!(
                "TWO TRUTHS: entry {} of {} and entry {} of {} are live statements about the same inspection of lot {lot}",
                first.seq,
                first_feed.origin.name(),
                row.seq,
                feed.origin.name()
            );
            let package = |feed: &Feed, row: &Row, view: &SealedView| Some(Package::new(view.clone(), proof_text(reader, feed, row.seq)?));
            let sides = package(first_feed, first, first_view).zip(package(&feed, &row, &sealed));
            let proof = sides.zip(org_part(snapshot, &origin.party()));
            let proof = proof.and_then(|((one, other), org)| ForkProof::of(org, Side::Record(one), Side::Record(other)));
            return Ok(Some((feed.origin.clone(), why, proof)));
        }
    }
    Ok(None)
}

/// Records of a lot in the feeds of one firm.
fn of_firm(reader: &Reader, snapshot: &Snapshot, party: PartyId, lot: &str) -> Result<Vec<(Feed, Row)>, FeedError> {
    let mut found = Vec::new();
    for (id, seq) in reader.by_lot(lot)? {
        let feed = snapshot.feed_numbered(id).filter(|feed| feed.origin.party() == party);
        if let (Some(feed), Some(row)) = (feed, reader.row(id, seq)?.filter(|row| row.has_core)) {
            found.push((feed.clone(), row));
        }
    }
    Ok(found)
}

/// A stored record that is the firm's word today and shows what it is about.
fn shown_live(reader: &Reader, snapshot: &Snapshot, feed: &Feed, row: &Row) -> Result<Option<(SealedView, VerifiedView)>, FeedError> {
    let replaced = Summary::read(&row.summary)?.superseded_by.is_some();
    let withdrawn = snapshot.orgs.get(&feed.origin.party()).is_some_and(|org| org.withdrawn(&Hash(row.leaf)).is_some());
    let Some(core) = reader.core(row)?.filter(|_| !replaced && !withdrawn) else {
        return Ok(None);
    };
    let disclosures = reader.disclosures(row)?.into_iter().map(|(_, bytes)| Disclosure::received(bytes)).collect();
    let sealed = SealedView { core, disclosures };
    Ok(sealed.trusted().ok().filter(VerifiedView::shows_identity).map(|view| (sealed, view)))
}

/// A feed's later life that follows from another past than the one we saw of the life before.
pub fn broken_life(reader: &Reader, snapshot: &Snapshot, party: PartyId) -> Result<Option<Found>, FeedError> {
    let Some(org) = snapshot.orgs.get(&party) else {
        return Ok(None);
    };
    reader.settle()?;
    for origin in org.feeds().filter_map(|text| text.parse::<Origin>().ok()).filter(|origin| origin.n() > 1) {
        let before = Origin::new(party, origin.name(), origin.n() - 1)?;
        let (Some((size, root)), Some(feed)) = (org.follows(origin.as_str()), snapshot.feeds.get(before.as_str())) else {
            continue;
        };
        // What it lost after the backup we may have: that is no contradiction. The beginning must be the one we saw.
        if size > feed.size() || feed.frozen.is_some() || reader.tree(feed.id, feed.size()).root(size)? == root {
            continue;
        }
        let why = format!("FORK: the feed goes on as {} from a past of {size} entries that is not the one we have seen", origin.n());
        return Ok(Some((before, why, None)));
    }
    Ok(None)
}

/// What a comparison with somebody else's bundle found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Checkpoints that are the same here.
    pub checkpoints: u64,
    /// Records that are the same here.
    pub records: u64,
    /// What cannot be compared, since it is not here, or not yet.
    pub unknown: u64,
    /// Contradictions.
    pub found: Vec<Found>,
}

/// Compares a verified bundle of somebody else with what is here.
pub fn compare(reader: &Reader, snapshot: &Snapshot, bundle: &Bundle, records: &[VerifiedRecord]) -> Result<Comparison, FeedError> {
    reader.settle()?;
    let mut comparison = Comparison::default();
    for part in &bundle.orgs {
        compare_org(reader, snapshot, part, &mut comparison)?;
    }
    let mut seen = BTreeSet::new();
    for package in &bundle.packages {
        for proof in std::iter::once(&package.proof).chain(&package.witnessed) {
            let note = InclusionProof::read(proof).map(|proof| log_part(&proof.checkpoint)).unwrap_or_default();
            if seen.insert(note.clone()) {
                compare_checkpoint(reader, snapshot, &note, &mut comparison)?;
            }
        }
    }
    for record in records {
        compare_record(reader, snapshot, record, &mut comparison)?;
    }
    Ok(comparison)
}

fn compare_org(reader: &Reader, snapshot: &Snapshot, part: &OrgPart, comparison: &mut Comparison) -> Result<(), FeedError> {
    let Ok((org, _)) = part.open() else {
        return Ok(());
    };
    let origin = Origin::org(org.party());
    let (Some(feed), Some(ours)) = (snapshot.feeds.get(origin.as_str()), snapshot.orgs.get(&org.party())) else {
        comparison.unknown += 1;
        return Ok(());
    };
    let differs = part.entries.iter().zip(ours.entries()).position(|(theirs, ours)| theirs != ours);
    if let Some(at) = differs {
        let why = format!("its org feed has two entries {at}");
        let proof = two_statements(reader, feed, &OrgPart::of(ours, &feed.head.checkpoint), &part.entries[at]);
        comparison.found.push((origin, why, proof));
    }
    Ok(())
}

fn compare_checkpoint(reader: &Reader, snapshot: &Snapshot, note: &str, comparison: &mut Comparison) -> Result<(), FeedError> {
    let Ok(theirs) = Checkpoint::read(note) else {
        return Ok(());
    };
    let Some(feed) = snapshot.feeds.get(theirs.origin.as_str()).filter(|feed| feed.size() >= theirs.size) else {
        comparison.unknown += 1;
        return Ok(());
    };
    // Signed by a key that we know to be no good at that size: it says nothing about its issuer.
    if snapshot.orgs.get(&theirs.origin.party()).is_some_and(|org| org.open(note).is_err()) {
        comparison.unknown += 1;
        return Ok(());
    }
    if reader.tree(feed.id, feed.size()).root(theirs.size)? == theirs.root {
        comparison.checkpoints += 1;
        return Ok(());
    }
    let why = format!("two signed histories of {} entries of feed {}", theirs.size, theirs.origin.name());
    let proof = org_part(snapshot, &theirs.origin.party()).and_then(|org| two_roots(reader, feed, &org, note));
    comparison.found.push((theirs.origin, why, proof));
    Ok(())
}

fn compare_record(reader: &Reader, snapshot: &Snapshot, record: &VerifiedRecord, comparison: &mut Comparison) -> Result<(), FeedError> {
    let claims = record.view.claims();
    let feed = snapshot.feeds.get(&claims.origin);
    // By what we know today of its issuer's keys: what a stolen one signed accuses nobody.
    let org = snapshot.orgs.get(&record.party).filter(|org| org.size() > 0);
    let vouched = org.is_none_or(|org| {
        let expected = Expected { origin: &claims.origin, seq: claims.seq };
        record.package.view.verify(org, expected).is_ok_and(|view| view.revoked().is_none())
    });
    if !vouched {
        comparison.unknown += 1;
        return Ok(());
    }
    let row = feed.map(|feed| reader.row(feed.id, claims.seq)).transpose()?.flatten();
    match feed.zip(row) {
        Some((feed, row)) if row.leaf != record.view.leaf().0 => {
            let why = format!("two contents of entry {} of feed {}", claims.seq, feed.origin.name());
            let org = org_part(snapshot, &record.party);
            let proof = org.and_then(|org| two_statements(reader, feed, &org, &record.package.view.core));
            comparison.found.push((feed.origin.clone(), why, proof));
            return Ok(());
        }
        Some(_) => comparison.records += 1,
        None => comparison.unknown += 1,
    }
    // Where the file is older than what is here, or the other way round, a correction is no contradiction: only a
    // statement that replaces nothing can contradict one that nothing replaced.
    let replaced_here = match feed.map(|feed| reader.row(feed.id, claims.seq)).transpose()?.flatten() {
        Some(row) => Summary::read(&row.summary)?.superseded_by.is_some(),
        None => false,
    };
    let withdrawn_here = org.is_some_and(|org| org.withdrawn(&record.view.leaf()).is_some());
    let live = record.is_live() && claims.supersedes.is_none() && !replaced_here && !withdrawn_here;
    if let (true, Some(lot)) = (live, record.view.facts().lot) {
        let identity = record.view.facts().identity();
        for (feed, row) in of_firm(reader, snapshot, record.party, &lot)? {
            let Some((sealed, view)) = shown_live(reader, snapshot, &feed, &row)? else {
                continue;
            };
            if view.leaf() == record.view.leaf() || view.claims().supersedes.is_some() || view.facts().identity() != identity {
                continue;
            }
            let why =
                format!("two live statements about the same inspection of lot {lot}: entry {} here, entry {} there", row.seq, claims.seq);
            let here = proof_text(reader, &feed, row.seq).map(|proof| Side::Record(Package::new(sealed, proof)));
            let there = Side::Record(Package::new(record.package.view.clone(), log_alone(&record.package.proof)));
            let proof = here.zip(org_part(snapshot, &record.party)).and_then(|(here, org)| ForkProof::of(org, here, there));
            comparison.found.push((feed.origin.clone(), why, proof));
        }
    }
    Ok(())
}

/// A tlog-proof whose checkpoint has the log's line alone.
fn log_alone(proof: &str) -> String {
    match InclusionProof::read(proof) {
        Ok(read) => InclusionProof { checkpoint: log_part(&read.checkpoint), ..read }.to_text(),
        Err(_) => proof.to_owned(),
    }
}
