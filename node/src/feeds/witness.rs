//! What others sign of our feeds, and we of theirs: cosignatures on checkpoints, and delivery receipts.
//!
//! A checkpoint of a followed feed is cosigned when we hold every leaf below it: then it follows from all we cosigned
//! before. Comparing with the last one and storing the new one are one durable commit of the one writer, before the
//! cosignature leaves: no size is ever signed with two roots, whatever is killed when.

use lotline_schema::codec::{self, Value};
use lotline_schema::delivery::{Delivery, DeliveryError, Receipt, Way};
use lotline_schema::note::{Checkpoint, Cosignature, WitnessKey};
use lotline_schema::org::Org;
use lotline_schema::receipt;
use lotline_schema::tree::ProofError;
use lotline_schema::{Hash, Origin, PartyId};

use super::accept::AcceptError;
use super::state::{StateError, key, put, take};
use super::terms::named;
use super::{Feed, FeedError, Feeds};
use crate::exchange::BATCH_ENTRIES_MAX;
use crate::exchange::message::Cosigned;
use crate::keys::random;
use crate::ledger::Row;
use crate::store::{Batch, Entry, Reader};

/// How old our newest cosignature of a feed at rest may get before we sign the same checkpoint again: a later time shows
/// that nothing was revoked or withdrawn until then.
pub const FRESH_FOR_SECONDS: u64 = 3600;

/// Receipts sent to a restored partner at once: 50 kB.
pub const GIVEN_MAX: usize = 64;
/// Receipts looked at for one such page.
const GIVEN_SCANNED_MAX: usize = 2048;

/// A cosignature that is kept, with the checkpoint it is on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// A partner's name; empty: ourselves.
    pub by: String,
    /// Its verifier key.
    pub key: String,
    /// Its line.
    pub line: String,
    /// The checkpoint's note, with the log's line alone.
    pub note: String,
}

/// What arrived at a sender and waits for the next commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// A verified receipt for a row of the ledger.
    Receipt(Row, Vec<u8>),
    /// A partner's verified cosignature on a checkpoint of ours.
    Cosignature {
        /// The partner's name.
        by: String,
        /// The checkpoint.
        checkpoint: Checkpoint,
        /// Key and line.
        cosigned: Cosigned,
    },
}

impl Kept {
    fn to_bytes(&self) -> Vec<u8> {
        put(codec::array([&self.by, &self.key, &self.line, &self.note].map(|text| codec::text(text.as_str()))))
    }

    /// Reads what is kept.
    pub fn read(bytes: &[u8]) -> Result<Kept, StateError> {
        const WHAT: StateError = StateError("cosignature");
        match <[Value; 4]>::try_from(codec::as_array(&take(bytes, "cosignature")?).unwrap_or_default().to_vec()) {
            Ok([Value::Text(by), Value::Text(key), Value::Text(line), Value::Text(note)]) => Ok(Kept { by, key, line, note }),
            _ => Err(WHAT),
        }
    }

    /// The state entries that keep it: as the first of its size, if it is, and as the newest of its witness.
    fn push(&self, batch: &mut Batch, origin: &str, size: u64, first: bool) {
        if first {
            batch.push(Entry::State { key: cosigned_key(origin, size, &self.by), value: Some(self.to_bytes()) });
        }
        batch.push(Entry::State { key: fresh_key(origin, &self.by), value: Some(self.to_bytes()) });
    }
}

fn cosigned_key(origin: &str, size: u64, by: &str) -> Vec<u8> {
    [&key::placed(key::COSIGNED, origin, size), by.as_bytes()].concat()
}

fn fresh_key(origin: &str, by: &str) -> Vec<u8> {
    [key::FRESH.as_bytes(), origin.as_bytes(), b"/", by.as_bytes()].concat()
}

pub(super) fn receipt_key(prefix: &str, delivery: &Delivery, number: u64) -> Vec<u8> {
    let way = match delivery.way {
        Way::Batch => prefix.to_owned(),
        Way::Backfill => format!("{prefix}late/"),
    };
    [key::placed(&way, &delivery.origin, delivery.to), number.to_be_bytes().to_vec()].concat()
}

pub(super) fn read_witnessed(bytes: &[u8]) -> Result<(u64, Hash), StateError> {
    const WHAT: StateError = StateError("witnessed checkpoint");
    let value = take(bytes, "witnessed checkpoint")?;
    match codec::as_array(&value).unwrap_or_default() {
        [size, root] => codec::as_uint(size).zip(codec::as_bytes(root).and_then(Hash::from_slice)).ok_or(WHAT),
        _ => Err(WHAT),
    }
}

impl Feeds {
    /// Cosigns a checkpoint below which we hold every leaf, into the batch that stores the last of them.
    pub(super) fn cosign(&self, batch: &mut Batch, signed: &Checkpoint, note: &str, now: u64) -> Result<Cosigned, AcceptError> {
        let (origin, size) = (signed.origin.as_str(), signed.size);
        let last = self.snapshot.feeds.get(origin).and_then(|feed| feed.witnessed);
        match last {
            // A head that is level follows from all heads before it; a store that says otherwise is not ours.
            Some((before, root)) if before == size && root != signed.root => {
                return Err(AcceptError::Fork { size, source: ProofError::Root });
            }
            Some((before, _)) if before > size => {
                return Err(AcceptError::Fork { size, source: ProofError::Outside { index: before, size } });
            }
            _ => {}
        }
        let signer = self.keys.witness(&signed.origin, self.epoch);
        let key = WitnessKey::opaque(signer.public()).to_string();
        let line = Cosignature::sign(signed, &signer, now).to_line();
        let kept = Kept { by: String::new(), key, line, note: note.into() };
        kept.push(batch, origin, size, last.is_none_or(|(before, _)| before < size));
        let last = put(codec::array([codec::uint(size), codec::bytes(signed.root.0)]));
        batch.push(Entry::State { key: key::of(key::WITNESSED, origin), value: Some(last) });
        Ok(Cosigned { size, key: kept.key, line: kept.line })
    }

    /// The newest cosignature of ours on a followed feed at rest, made anew when the last one is old.
    pub fn cosign_again(&mut self, origin: &Origin, now: u64) -> Result<Option<Cosigned>, AcceptError> {
        self.may_sign()?;
        let name = origin.as_str();
        // Nothing to sign: not followed, or not a single entry came yet.
        let Some(feed) = self.snapshot.feeds.get(name).filter(|feed| !feed.written && feed.frozen.is_none() && feed.size() > 0) else {
            return Ok(None);
        };
        let signed = Checkpoint::read(&feed.head.checkpoint)?;
        let note = feed.head.checkpoint.clone();
        if signed.size != feed.size() || signed.root != feed.head.frontier.root() {
            return Ok(None);
        }
        self.settle()?;
        let newest = self.reader.state(&fresh_key(name, "")).map_err(FeedError::from)?.map(|bytes| Kept::read(&bytes)).transpose()?;
        // Of another size or of an earlier epoch it is no use here.
        let current = self.witness_key(origin).to_string();
        let newest = newest.filter(|kept| kept.key == current && kept.note == note);
        if let Some(kept) = newest {
            let made = Cosignature::read(&kept.line).map_or(0, |line| line.time());
            if now.saturating_sub(made) < FRESH_FOR_SECONDS {
                return Ok(Some(Cosigned { size: signed.size, key: kept.key, line: kept.line }));
            }
        }
        let mut batch = Batch::new();
        let cosigned = self.cosign(&mut batch, &signed, &note, now)?;
        self.commit(batch).map_err(FeedError::from)?;
        self.snapshot.feeds.get_mut(name).expect("looked up above").witnessed = Some((signed.size, signed.root));
        Ok(Some(cosigned))
    }

    /// Signs for what was received, into the batch that stores it.
    pub(super) fn receipt(&self, batch: &mut Batch, delivery: &Delivery) -> Result<Vec<u8>, FeedError> {
        let number = self.next_receipt;
        let core = delivery.seal(self.snapshot.party, number, &self.keys.record, random)?;
        batch.push(Entry::State { key: receipt_key(key::GIVEN, delivery, number), value: Some(core.clone()) });
        batch.push(Entry::State { key: key::RECEIPTS.into(), value: Some(put(codec::uint(number + 1))) });
        Ok(core)
    }

    /// The key with which checkpoints of this followed feed are cosigned here.
    pub fn witness_key(&self, origin: &Origin) -> WitnessKey {
        WitnessKey::opaque(self.keys.witness(origin, self.epoch).public())
    }

    /// The log owner's receipts for places in our feeds (RFC 9942); none for a feed of one entry.
    pub fn inclusion_receipts(&self, asked: Vec<(usize, Checkpoint, u64, Vec<Hash>)>, now: u64) -> Vec<(usize, Vec<u8>)> {
        let org = &self.snapshot.orgs[&self.snapshot.party];
        let issue = |(at, checkpoint, seq, path): (usize, Checkpoint, u64, Vec<Hash>)| {
            // The life before a restore keeps the head that the key of its time signed.
            let may = org.log_keys(&checkpoint.origin, checkpoint.size).contains(&&self.keys.log.public());
            Some((at, receipt::issue(&self.keys.log, &checkpoint, seq, &path, now).filter(|_| may)?))
        };
        asked.into_iter().filter_map(issue).collect()
    }

    /// Puts what arrived at a sender into a batch.
    pub(super) fn keep(&mut self, batch: &mut Batch, evidence: &[Evidence]) -> Result<(), FeedError> {
        for one in evidence {
            match one {
                Evidence::Receipt(row, core) => {
                    let delivery = Receipt::peek(core).ok_or(StateError("delivery receipt"))?;
                    batch.push(Entry::State { key: receipt_key(key::GOT, &delivery, row.number), value: Some(core.clone()) });
                    // The acceptance that it names is evidence from now on, and stays.
                    if let (Some(party), Some(number)) = (Receipt::claimed_by(core), delivery.terms) {
                        batch.push(named(&party, number));
                    }
                }
                Evidence::Cosignature { by, checkpoint, cosigned } => {
                    let (origin, size) = (checkpoint.origin.as_str(), checkpoint.size);
                    let Some(note) = self.note_of(checkpoint)? else {
                        continue;
                    };
                    let first = self.is_first(origin, size, by)?;
                    let kept = Kept { by: by.clone(), key: cosigned.key.clone(), line: cosigned.line.clone(), note };
                    kept.push(batch, origin, size, first);
                }
            }
        }
        Ok(())
    }

    /// Whether a partner never cosigned this size before. A first cosignature proves how early an entry was seen: no later
    /// one takes its place, of a partner that was restored neither.
    fn is_first(&mut self, origin: &str, size: u64, by: &str) -> Result<bool, FeedError> {
        // What is larger than the feed was when it was first asked cannot be in the store: nothing is looked for.
        let now = self.snapshot.feeds.get(origin).map_or(0, Feed::size);
        let largest = self.cosigned_to.entry((origin.to_owned(), by.to_owned())).or_insert(now);
        if *largest < size {
            *largest = size;
            return Ok(true);
        }
        self.settle()?;
        Ok(self.reader.state(&cosigned_key(origin, size, by))?.is_none())
    }

    /// The note of a checkpoint that left here. Of a feed written here the same key signs the same bytes again; before a
    /// rotation it was another key, and what that signed is kept with the cosignatures of its time. Of one that a partner
    /// writes it is kept with our own cosignature.
    fn note_of(&self, checkpoint: &Checkpoint) -> Result<Option<String>, FeedError> {
        let origin = &checkpoint.origin;
        let note = match self.pen(origin) {
            Some((_, log)) => Some(checkpoint.sign(log)),
            None => {
                let kept = self.reader.state(&cosigned_key(origin.as_str(), checkpoint.size, ""))?;
                let kept = kept.map(|bytes| Kept::read(&bytes)).transpose()?.map(|kept| kept.note);
                let feed = self.snapshot.feeds.get(origin.as_str());
                let heads = feed.into_iter().flat_map(|feed| std::iter::once(&feed.head).chain(&feed.level));
                kept.into_iter()
                    .chain(heads.map(|head| head.checkpoint.clone()))
                    .find(|note| Checkpoint::read(note).as_ref() == Ok(checkpoint))
            }
        };
        let org = self.snapshot.orgs.get(&origin.party());
        Ok(note.filter(|note| org.is_some_and(|org| org.open(note).is_ok())))
    }
}

/// The cosignatures on the first checkpoint of a feed with this entry in it, of those witnesses that count.
pub fn first_witnessed(reader: &Reader, origin: &str, seq: u64, counts: impl Fn(&str) -> bool) -> Result<Vec<Kept>, FeedError> {
    const PAGE: usize = 64;
    let prefix = [key::COSIGNED.as_bytes(), origin.as_bytes(), b"/"].concat();
    // Checkpoints of this size do not hold the entry yet; the first key of the next size comes after.
    let mut after = key::placed(key::COSIGNED, origin, seq + 1);
    let mut found: Vec<Kept> = Vec::new();
    // The key with no name behind it is our own, and `after` leaves it out.
    found.extend(reader.state(&after)?.map(|bytes| Kept::read(&bytes)).transpose()?.filter(|kept| counts(&kept.by)));
    loop {
        let page = reader.states(&prefix, Some(&after), PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok(found);
        };
        after = last.clone();
        for (_, bytes) in page {
            let kept = Kept::read(&bytes)?;
            if found.first().is_some_and(|first| first.note != kept.note) {
                return Ok(found);
            }
            if counts(&kept.by) {
                found.push(kept);
            }
        }
    }
}

/// The newest cosignature of each witness of a feed.
pub fn newest(reader: &Reader, origin: &str) -> Result<Vec<Kept>, FeedError> {
    let prefix = [key::FRESH.as_bytes(), origin.as_bytes(), b"/"].concat();
    let mut kept = Vec::new();
    for (_, bytes) in super::open::all_states(reader, &prefix)? {
        kept.push(Kept::read(&bytes)?);
    }
    Ok(kept)
}

/// Delivery receipts about an entry of a feed: those we got for what left here, or those we gave for what came.
pub fn receipts_about(reader: &Reader, origin: &str, seq: u64, got: bool) -> Result<Vec<Vec<u8>>, FeedError> {
    let prefix = if got { key::GOT } else { key::GIVEN };
    let mut found = Vec::new();
    // Batches of one partner follow each other; of several partners each has one that covers the entry.
    covering(reader, prefix, origin, seq, true, &mut found)?;
    covering(reader, &format!("{prefix}late/"), origin, seq, false, &mut found)?;
    Ok(found)
}

fn covering(reader: &Reader, prefix: &str, origin: &str, seq: u64, batches: bool, found: &mut Vec<Vec<u8>>) -> Result<(), FeedError> {
    const PAGE: usize = 64;
    let (under, mut after) = ([prefix.as_bytes(), origin.as_bytes(), b"/"].concat(), key::placed(prefix, origin, seq + 1));
    loop {
        let page = reader.states(&under, Some(&after), PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = last.clone();
        for (_, core) in page {
            let Some(delivery) = Receipt::peek(&core) else {
                continue;
            };
            if (delivery.from..delivery.to).contains(&seq) {
                found.push(core);
            } else if batches && delivery.from > seq + BATCH_ENTRIES_MAX as u64 {
                // No batch is that long: what follows begins later still.
                return Ok(());
            }
        }
    }
}

/// A receipt that a partner signed for a row of the ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowReceipt {
    /// Its number at the partner.
    pub number: u64,
    /// When, by the partner's clock, in seconds since 1970.
    pub at: u64,
    /// SHA-256 of its bytes.
    pub sha256: Hash,
    /// The number of the partner's acceptance, when some of it came under terms.
    pub terms: Option<u64>,
}

/// The receipt we hold for a row of the ledger, if there is one. It was verified when it came.
pub fn receipt_of(reader: &Reader, row: &Row) -> Result<Option<RowReceipt>, FeedError> {
    let core = receipt_core(reader, row)?;
    let read = core.and_then(|core| Some((Receipt::numbered(&core)?, Hash::of(&[&core]))));
    Ok(read.map(|((number, delivery), sha256)| RowReceipt { number, at: delivery.at, sha256, terms: delivery.terms }))
}

/// The same as it was signed.
pub(super) fn receipt_core(reader: &Reader, row: &Row) -> Result<Option<Vec<u8>>, FeedError> {
    for prefix in [key::GOT.to_owned(), format!("{}late/", key::GOT)] {
        let place = [key::placed(&prefix, &row.origin, row.end), row.number.to_be_bytes().to_vec()].concat();
        if let Some(core) = reader.state(&place)? {
            return Ok(Some(core));
        }
    }
    Ok(None)
}

/// Receipts we gave for the feeds of one party from a time on, in pages: the receipts, and where the next page begins.
/// For a partner whose ledger was restored from a backup.
#[allow(clippy::type_complexity, reason = "a page, as everywhere")]
pub fn given_to(reader: &Reader, party: &PartyId, since: u64, after: Option<&[u8]>) -> Result<(Vec<Vec<u8>>, Option<Vec<u8>>), FeedError> {
    let under = |prefix: &str| format!("{prefix}{}/", party.key_text()).into_bytes();
    let mut receipts = Vec::new();
    // In the order of their keys; what comes before a page was sent with the pages before.
    for prefix in [under(&format!("{}late/", key::GIVEN)), under(key::GIVEN)] {
        if after.is_some_and(|after| after > prefix.as_slice() && !after.starts_with(&prefix)) {
            continue;
        }
        let page = reader.states(&prefix, after, GIVEN_SCANNED_MAX)?;
        let more = (page.len() == GIVEN_SCANNED_MAX).then(|| page[GIVEN_SCANNED_MAX - 1].0.clone());
        for (state_key, core) in page {
            if Receipt::peek(&core).is_some_and(|of| of.at >= since) {
                receipts.push(core);
                if receipts.len() == GIVEN_MAX {
                    return Ok((receipts, Some(state_key)));
                }
            }
        }
        if more.is_some() {
            return Ok((receipts, more));
        }
    }
    Ok((receipts, None))
}

/// A receipt that is not one for what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// None came.
    #[error("an acknowledgement without a delivery receipt")]
    None,
    /// It does not hold by itself.
    #[error("a delivery receipt does not hold: {0}")]
    Broken(#[from] DeliveryError),
    /// It holds, for something else.
    #[error("a delivery receipt is for something else than what was sent")]
    Other,
    /// It is for what came under terms, and does not say so.
    #[error("a delivery receipt for what came under terms names no acceptance")]
    Terms,
    /// It names a checkpoint that we never signed. Kept, it would speak against us.
    #[error("a delivery receipt names a checkpoint that is not ours")]
    Checkpoint,
}

/// Verifies what a partner answered to a row of the ledger. Whether the checkpoint it names is ours is not known here.
pub fn check_receipt(core: &[u8], receiver: &Org, row: &Row, way: Way) -> Result<Delivery, ReceiptError> {
    let delivery = Receipt::open(core, receiver)?.delivery;
    if row.fits(&delivery) && delivery.way == way { Ok(delivery) } else { Err(ReceiptError::Other) }
}
