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
use super::ledger::{may_have_left, refill_due};
use super::state::{StateError, key, put, take};
use super::terms::obligations;
use super::{FeedError, Feeds};
use crate::keys::random;
use crate::store::{Batch, Entry, Reader};

/// Reports of one connection that wait for their answer; what is answered makes room for the next.
pub const REPORTS_MAX: usize = 64;
/// What is kept of reports about one entry by one partner; no record has more slots.
const GONE_MAX: usize = 64;

/// A partner's report that is not kept.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The partner's: it does not hold.
    #[error("a deletion report does not hold: {0}")]
    Broken(#[from] DeletionError),
    /// Ours: a restored ledger still lacks what it sent, until the partner has given its receipts again.
    #[error("the ledger of this home was restored, and waits for the partner's receipts")]
    LedgerBehind,
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

    /// Verifies a partner's report, and keeps what it says of slots that may have left to that partner. Returns its number, for
    /// the answer: the same whatever is kept, or who asks would hear which feeds there are.
    pub fn take_report(&mut self, party: &PartyId, core: Vec<u8>) -> Result<u64, ReportError> {
        let org = self.snapshot.orgs.get(party).ok_or(ReportError::OrgBehind)?;
        let Reported { number, deletion } = match Reported::open(&core, org) {
            Err(DeletionError::Key(_)) => return Err(ReportError::OrgBehind),
            opened => opened?,
        };
        let Some(partner) = self.snapshot.partner_of(party).map(|partner| partner.name.clone()) else { return Ok(number) };
        self.settle()?;
        if refill_due(&self.reader, &partner)?.is_some() {
            return Err(ReportError::LedgerBehind);
        }
        let mut left = may_have_left(&self.reader, &partner, &deletion.origin, deletion.entries.iter().map(|(seq, _)| *seq))?;
        let Some(feed) = self.snapshot.feeds.get(&deletion.origin).filter(|feed| feed.ours && !feed.origin.is_org()) else {
            return Ok(number);
        };
        let mut batch = Batch::new();
        for (seq, slots) in &deletion.entries {
            let Some(row) = self.reader.row(feed.id, *seq).map_err(FeedError::from)? else { continue };
            let slots = slots & left.remove(seq).unwrap_or(0) & (row.slots() | row.forgotten_slots());
            let mut known = gone_of(&self.reader, party, &feed.origin, *seq)?;
            let news = known.iter().fold(slots, |rest, gone| rest & !gone.slots);
            // Only what is new is kept: so nobody can fill the store with reports.
            if news != 0 && known.len() < GONE_MAX {
                known.push(Gone { slots: news, at: deletion.at, number });
                batch.push(Entry::State { key: gone_key(party, &feed.origin, *seq), value: Some(gone_value(&known)) });
            }
        }
        if !batch.is_empty() {
            batch.push(Entry::State { key: report_key(key::REPORTED, party, number), value: Some(core) });
            self.commit(batch).map_err(FeedError::from)?;
        }
        Ok(number)
    }
}

/// Reports for an owner that it has not answered, numbered above `after`, the oldest first, at most `max`. None while something
/// ordered is not gone everywhere.
pub fn untold(reader: &Reader, owner: &PartyId, after: Option<u64>, max: usize) -> Result<Vec<(u64, Vec<u8>)>, FeedError> {
    let mut reports = Vec::new();
    if reader.status().forgetting {
        return Ok(reports);
    }
    let prefix = [key::UNTOLD.as_bytes(), owner.to_string().as_bytes(), b"/"].concat();
    let after = after.map(|number| report_key(key::UNTOLD, owner, number));
    for (state_key, _) in reader.states(&prefix, after.as_deref(), max)? {
        let number = state_key.last_chunk::<8>().map(|number| u64::from_be_bytes(*number)).ok_or(StateError("deletion report"))?;
        reports.extend(reader.state(&report_key(key::DELETED, owner, number))?.map(|core| (number, core)));
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
