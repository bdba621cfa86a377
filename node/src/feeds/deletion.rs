//! Deletion reports: what we deleted as promised is signed and told its owner until that one answers; what partners report
//! is verified and kept.
//!
//! A report is signed in the commit that orders the deletion, so it is neither lost nor made up; it leaves only once
//! nothing waits to be carried out.

use std::collections::BTreeMap;

use lotline_schema::codec::{self, Value};
use lotline_schema::deletion::{DELETED_ENTRIES_MAX, Deletion, DeletionError, Reported};
use lotline_schema::{Hash, Origin, PartyId};

use super::forget::Forget;
use super::state::{StateError, key, put, take};
use super::terms::obligations;
use super::{FeedError, Feeds};
use crate::keys::random;
use crate::store::{Batch, Entry, Reader};

/// Reports said, and heard, on one connection; the rest waits for the next.
pub const REPORTS_MAX: usize = 64;
/// What is kept of reports about one entry by one partner; no record has more slots.
const GONE_MAX: usize = 64;

/// A partner's report that is not kept.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The partner's: it does not hold.
    #[error("a deletion report does not hold: {0}")]
    Broken(#[from] DeletionError),
    /// The partner's: it is about no record of ours.
    #[error("a deletion report about no record of ours")]
    Other,
    /// We do not have the key yet that signed it.
    #[error("the partner's org feed is not here yet")]
    OrgBehind,
    /// Ours.
    #[error(transparent)]
    Ours(#[from] FeedError),
}

/// What a partner says that it deleted of a record of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gone {
    /// Which slots, a bit each.
    pub slots: u64,
    /// When, by the partner's clock, in seconds since 1970.
    pub at: u64,
    /// Number of its report.
    pub number: u64,
}

impl Feeds {
    /// Signs for the deletion of slots that we promised to delete, into the batch that orders it.
    pub(super) fn report(&mut self, batch: &mut Batch, items: &[Forget], now: u64) -> Result<(), FeedError> {
        let mut gone: BTreeMap<(Origin, Hash), BTreeMap<u64, u64>> = BTreeMap::new();
        for item in items {
            let Some(feed) = self.snapshot.feed_numbered(item.feed).filter(|feed| !feed.ours) else { continue };
            for of in obligations(&self.reader, &feed.origin, item.seq)? {
                let slots = of.mask & item.slots;
                if of.terms.delete_after().is_some() && slots != 0 {
                    *gone.entry((feed.origin.clone(), of.terms.id())).or_default().entry(item.seq).or_default() |= slots;
                }
            }
        }
        for ((origin, terms), entries) in gone {
            let entries: Vec<(u64, u64)> = entries.into_iter().collect();
            for entries in entries.chunks(DELETED_ENTRIES_MAX) {
                let (number, owner) = (self.next_receipt, origin.party());
                let deletion = Deletion { origin: origin.to_string(), terms, entries: entries.to_vec(), at: now };
                let core = deletion.seal(self.snapshot.party, number, &self.keys.record, random)?;
                batch.push(Entry::State { key: report_key(key::DELETED, &owner, number), value: Some(core) });
                batch.push(Entry::State { key: report_key(key::UNTOLD, &owner, number), value: Some(put(codec::uint(number))) });
                batch.push(Entry::State { key: key::RECEIPTS.into(), value: Some(put(codec::uint(number + 1))) });
                // A number is never used twice, whatever becomes of the batch.
                self.next_receipt += 1;
            }
        }
        Ok(())
    }

    /// The owner has our report of this number.
    pub fn noted(&mut self, owner: &PartyId, number: u64) -> Result<(), FeedError> {
        self.settle()?;
        let untold = report_key(key::UNTOLD, owner, number);
        match self.reader.state(&untold)? {
            Some(_) => self.commit_state(untold, None),
            None => Ok(()),
        }
    }

    /// Verifies and keeps a partner's report about records of ours. Returns its number, for the answer.
    pub fn take_report(&mut self, party: &PartyId, core: Vec<u8>) -> Result<u64, ReportError> {
        let org = self.snapshot.orgs.get(party).ok_or(ReportError::OrgBehind)?;
        let Reported { number, deletion } = match Reported::open(&core, org) {
            Err(DeletionError::Key(_)) => return Err(ReportError::OrgBehind),
            opened => opened?,
        };
        let feed = self.snapshot.feeds.get(&deletion.origin).filter(|feed| feed.ours && !feed.origin.is_org()).ok_or(ReportError::Other)?;
        let (origin, size) = (feed.origin.clone(), feed.size());
        self.settle()?;
        let mut batch = Batch::new();
        for (seq, slots) in deletion.entries.iter().filter(|(seq, _)| *seq < size) {
            let mut known = gone_of(&self.reader, party, &origin, *seq)?;
            let news = known.iter().fold(*slots, |rest, gone| rest & !gone.slots);
            // Only what is new is kept: so nobody can fill the store with reports.
            if news != 0 && known.len() < GONE_MAX {
                known.push(Gone { slots: news, at: deletion.at, number });
                batch.push(Entry::State { key: gone_key(party, &origin, *seq), value: Some(gone_value(&known)) });
            }
        }
        if !batch.is_empty() {
            batch.push(Entry::State { key: report_key(key::REPORTED, party, number), value: Some(core) });
            self.store.commit(batch).map_err(FeedError::from)?;
        }
        Ok(number)
    }
}

/// Reports for an owner that it has not answered, the oldest first. None while something ordered is not gone everywhere.
pub fn untold(reader: &Reader, owner: &PartyId) -> Result<Vec<Vec<u8>>, FeedError> {
    let mut reports = Vec::new();
    if reader.status().forgetting {
        return Ok(reports);
    }
    let prefix = [key::UNTOLD.as_bytes(), owner.to_string().as_bytes(), b"/"].concat();
    for (state_key, _) in reader.states(&prefix, None, REPORTS_MAX)? {
        let number = state_key.last_chunk::<8>().map(|number| u64::from_be_bytes(*number)).ok_or(StateError("deletion report"))?;
        reports.extend(reader.state(&report_key(key::DELETED, owner, number))?);
    }
    Ok(reports)
}

/// What a partner reports to have deleted of an entry of ours.
pub fn gone_of(reader: &Reader, party: &PartyId, origin: &Origin, seq: u64) -> Result<Vec<Gone>, FeedError> {
    const WHAT: StateError = StateError("deletion report");
    let Some(value) = reader.state(&gone_key(party, origin, seq))? else { return Ok(Vec::new()) };
    let value = take(&value, "deletion report")?;
    let one = |value: &Value| match codec::as_array(value).unwrap_or_default() {
        [slots, at, number] => Some(Gone { slots: codec::as_uint(slots)?, at: codec::as_uint(at)?, number: codec::as_uint(number)? }),
        _ => None,
    };
    Ok(codec::as_array(&value).and_then(|all| all.iter().map(one).collect()).ok_or(WHAT)?)
}

fn gone_value(gone: &[Gone]) -> Vec<u8> {
    put(codec::array(gone.iter().map(|of| codec::array([codec::uint(of.slots), codec::uint(of.at), codec::uint(of.number)]))))
}

fn gone_key(party: &PartyId, origin: &Origin, seq: u64) -> Vec<u8> {
    key::placed(key::GONE, &format!("{party}/{origin}"), seq)
}

fn report_key(prefix: &str, party: &PartyId, number: u64) -> Vec<u8> {
    key::placed(prefix, &party.to_string(), number)
}
