//! Forgetting: what goes from this home for good by its owner's word, whom that is to be told, and what is past its time.
//!
//! Fields go; the signed core with their digests, its place, proofs and checkpoints stay. So nothing that was ever signed
//! or sent stops verifying, and what was forgotten and comes again is known by its place and dropped (`feeds/accept`).

use std::collections::{BTreeMap, BTreeSet};

use lotline_schema::kind::{self, Group, Schema};
use lotline_schema::slot::Disclosure;
use lotline_schema::statement::Unverified;
use lotline_schema::view::{SealedView, VerifiedView};
use lotline_schema::{Facts, Hash, Origin, codec};

use super::state::{StateError, Summary};
use super::{Feed, FeedError, Feeds, Snapshot, terms};
use crate::ledger::Outcome;
use crate::retention::{Retention, SHORTEST_SLACK_SECONDS};
use crate::store::{Batch, Entry, Reader, Row, StoreError};

/// Rows read at once.
const PAGE: usize = 512;
/// Promises looked at in one go; what is due beyond comes with the next.
const PROMISED_MAX: usize = 100_000;
/// One commit of orders: far below the size of a segment.
const ORDER_BYTES_MAX: usize = 1 << 20;

/// Not something that can be forgotten here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgetError {
    /// We write it, and another organisation owns it.
    #[error("record {seq} stands in feed {feed} of {owner}, which you only write")]
    Theirs {
        /// The feed.
        feed: String,
        /// Whose it is.
        owner: String,
        /// Its place.
        seq: u64,
    },
}

/// Slots of a record that are to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forget {
    /// Its feed's number in the store.
    pub feed: u32,
    /// Its place.
    pub seq: u64,
    /// A bit each.
    pub slots: u64,
}

/// Something past its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Due {
    /// What is to go.
    pub forget: Forget,
    /// Its feed.
    pub origin: Origin,
    /// The kind of the record.
    pub kind: String,
    /// The customer or partner it counts for, by name.
    pub partner: Option<String>,
    /// The day on which it became due, in seconds since 1970.
    pub since: u64,
    /// Why, in a word or two.
    pub why: String,
    /// The terms under which we promised it; none: our own period is over.
    pub terms: Option<Hash>,
}

impl Feeds {
    /// Forgets slots of records in this home for good; of what is not here nothing. Returns how many records that touched.
    /// When it returns, no file of the store holds them.
    pub fn forget(&mut self, items: &[Forget], why: &str, now: u64) -> Result<u64, FeedError> {
        self.may_sign()?;
        self.settle()?;
        let items = &merged(items);
        for item in items {
            self.snapshot.may_forget(self.snapshot.feed_numbered(item.feed).ok_or(StateError("feed"))?, item.seq)?;
        }
        let (mut orders, mut order, mut ordered, mut records) = (Vec::new(), Batch::new(), Vec::new(), 0);
        for item in items {
            if order.bytes_len() > ORDER_BYTES_MAX {
                self.report(&mut order, &std::mem::take(&mut ordered), now)?;
                orders.push(std::mem::take(&mut order));
            }
            ordered.push(*item);
            let feed = self.snapshot.feed_numbered(item.feed).ok_or(StateError("feed"))?;
            if !feed.ours {
                // What was promised is kept with it, in the same commit.
                terms::discharge(&self.reader, &feed.origin, item.seq, item.slots)?.into_iter().for_each(|entry| order.push(entry));
            }
            let Some(row) = self.reader.row(item.feed, item.seq)?.filter(|row| row.has_core && row.slots() & item.slots != 0) else {
                continue;
            };
            order.push(self.without(&row, row.slots() & item.slots, why, now)?);
            records += 1;
        }
        self.report(&mut order, &ordered, now)?;
        orders.push(order);
        let outcome = self.store.forget(orders);
        self.show_forgotten(outcome)?;
        Ok(records)
    }

    /// Goes on with what was ordered and could not be carried out everywhere. Whether there was anything.
    pub fn finish_forgetting(&mut self) -> Result<bool, FeedError> {
        if !self.reader.status().forgetting {
            return Ok(false);
        }
        let outcome = self.store.forget(Vec::new());
        self.show_forgotten(outcome)?;
        Ok(true)
    }

    /// What was read before counts no more from the order on, whether it was carried out everywhere or not: who is about to
    /// send it hears of that.
    fn show_forgotten(&mut self, outcome: Result<(), StoreError>) -> Result<(), FeedError> {
        if !matches!(outcome, Ok(()) | Err(StoreError::Ordered(_))) {
            return Ok(outcome?);
        }
        // Whoever reads from now on gets nothing of it: the index is level, or answers nothing.
        let level = self.settle();
        // Summaries of what was published a moment ago.
        self.recent.clear();
        self.snapshot.forgettings += 1;
        self.show();
        outcome?;
        level
    }

    /// Forgets what was promised to be gone by now: for a node whose owner said that it may. How many records that were; none
    /// while the clock cannot be believed.
    pub fn keep_promises(&mut self) -> Result<Option<u64>, FeedError> {
        self.finish_forgetting()?;
        let Ok(moment) = self.clock.moment() else { return Ok(None) };
        if self.may_sign().is_err() {
            return Ok(Some(0));
        }
        self.settle()?;
        let now = moment.now() as u64;
        let due = promised(&self.reader, &self.snapshot, now)?;
        match due.is_empty() {
            true => Ok(Some(0)),
            false => self.forget(&due.into_iter().map(|due| due.forget).collect::<Vec<_>>(), "promised", now).map(Some),
        }
    }

    /// The order to forget slots of a record, with what lists show of the rest.
    fn without(&self, row: &Row, slots: u64, why: &str, now: u64) -> Result<Entry, FeedError> {
        let view = opened(&self.reader, row, !slots)?.ok_or(StateError("signed bytes of a record"))?;
        let before = Summary::read(&row.summary)?;
        let facts = Facts { forgotten: row.forgotten_slots() | slots, ..view.facts() };
        let (lot, part) = (facts.lot.clone(), facts.part.clone());
        // The hash over the whole content goes as well: with it a short field could be guessed.
        let summary = Summary { facts, content: None, superseded_by: before.superseded_by };
        let (summary, why) = (summary.to_bytes(), why.to_owned());
        Ok(Entry::Forgotten { feed: row.feed, seq: row.seq, slots, at: now, why, summary, lot, part })
    }

    /// Who ever got some of these slots from here, and of how many records: by the ledger, and for a feed of ours that a
    /// partner writes, that partner.
    pub fn recipients(&self, items: &[Forget]) -> Result<BTreeMap<String, u64>, FeedError> {
        let mut wanted: BTreeMap<String, BTreeMap<u64, u64>> = BTreeMap::new();
        let mut found: BTreeMap<String, BTreeSet<(u32, u64)>> = BTreeMap::new();
        for item in items {
            let Some(feed) = self.snapshot.feed_numbered(item.feed).filter(|feed| feed.ours) else { continue };
            *wanted.entry(feed.origin.to_string()).or_default().entry(item.seq).or_default() |= item.slots;
            if let Some(writer) = self.snapshot.partner_of_feed(feed) {
                found.entry(writer.to_owned()).or_default().insert((item.feed, item.seq));
            }
        }
        self.each_row(|row| {
            let Some((feed, seqs)) = self.snapshot.feeds.get(&row.origin).zip(wanted.get(&row.origin)) else { return };
            if row.outcome == Outcome::NotSent {
                return;
            }
            for (seq, slots) in seqs.range(row.from..row.end.max(row.from)) {
                // Of a row that was lost nobody knows the fields.
                if row.is_refilled() || row.sent(*seq).is_some_and(|sent| sent.mask & slots != 0) {
                    found.entry(row.to.clone()).or_default().insert((feed.id, *seq));
                }
            }
        })?;
        Ok(found.into_iter().map(|(name, records)| (name, records.len() as u64)).collect())
    }
}

impl Snapshot {
    /// Whether what stands in this feed is ours to forget here.
    pub fn may_forget(&self, feed: &Feed, seq: u64) -> Result<(), ForgetError> {
        if feed.written && !feed.ours {
            let party = feed.origin.party();
            let owner = self.partner_of(&party).map_or_else(|| party.short(), |partner| partner.name.clone());
            return Err(ForgetError::Theirs { feed: feed.origin.name().to_owned(), owner, seq });
        }
        Ok(())
    }

    /// Data feeds whose records can be forgotten here: ours, and those we follow.
    fn forgettable(&self) -> impl Iterator<Item = &Feed> {
        self.feeds.values().filter(|feed| !feed.origin.is_org() && self.may_forget(feed, 0).is_ok())
    }
}

/// The same, each record once: an order says what lists show of the rest, so all that goes of a record goes by one.
pub fn merged(items: &[Forget]) -> Vec<Forget> {
    let mut records: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    items.iter().for_each(|item| *records.entry((item.feed, item.seq)).or_default() |= item.slots);
    records.into_iter().map(|((feed, seq), slots)| Forget { feed, seq, slots }).collect()
}

/// A record as far as these slots of it are here; none for a hidden one.
fn opened(reader: &Reader, row: &Row, slots: u64) -> Result<Option<VerifiedView>, FeedError> {
    let Some(core) = reader.core(row)? else { return Ok(None) };
    let kept = reader.disclosures(row)?.into_iter().filter(|(slot, _)| slots >> slot & 1 == 1);
    let sealed = SealedView { core, disclosures: kept.map(|(_, bytes)| Disclosure::received(bytes)).collect() };
    Ok(Some(sealed.trusted().map_err(|_| StateError("record"))?))
}

/// The slots of a kind that name persons.
pub fn person_slots(schema: &Schema) -> u64 {
    let persons = schema.fields.iter().enumerate().filter(|(_, field)| field.group == Group::Inspector);
    persons.fold(0, |mask, (slot, _)| mask | 1 << slot)
}

/// Records whose fields about persons hold exactly this name: those that can be forgotten here, and how many others stand in
/// feeds that we only write.
pub fn naming(reader: &Reader, snapshot: &Snapshot, person: &str) -> Result<(Vec<Forget>, u64), FeedError> {
    let (mut found, mut theirs) = (Vec::new(), 0);
    for feed in snapshot.feeds.values().filter(|feed| !feed.origin.is_org()) {
        each_record(reader, feed, |row, facts| {
            let persons = kind::called(&facts.kind).map_or(0, person_slots) & row.slots();
            let view = if persons == 0 { None } else { opened(reader, row, persons)? };
            let named = view.iter().flat_map(VerifiedView::slots).enumerate().filter(|(_, opened)| {
                let value = opened.as_ref().and_then(|opened| opened.value());
                value.and_then(codec::as_text) == Some(person)
            });
            let slots = named.fold(0, |mask, (slot, _)| mask | 1 << slot);
            match (slots, snapshot.may_forget(feed, row.seq)) {
                (0, _) => {}
                (_, Ok(())) => found.push(Forget { feed: feed.id, seq: row.seq, slots }),
                (_, Err(_)) => theirs += 1,
            }
            Ok(true)
        })?;
    }
    Ok((found, theirs))
}

/// What is past its time, oldest first: by the owner's own periods, and by what was promised of received records.
pub fn due(reader: &Reader, snapshot: &Snapshot, retention: &Retention, now: u64) -> Result<Vec<Due>, FeedError> {
    let mut found = promised(reader, snapshot, now)?;
    found.extend(outlived(reader, snapshot, retention, now)?);
    found.sort_by_key(|due| due.since);
    Ok(found)
}

/// What was promised to be gone by now, and is here.
pub fn promised(reader: &Reader, snapshot: &Snapshot, now: u64) -> Result<Vec<Due>, FeedError> {
    let mut found = Vec::new();
    for terms::Due { origin, seq, mask, terms, since } in terms::due(reader, now, PROMISED_MAX)? {
        let Some(feed) = snapshot.feeds.get(origin.as_str()).filter(|feed| !feed.ours && !feed.written) else { continue };
        let Some(row) = reader.row(feed.id, seq)?.filter(|row| row.has_core && row.slots() & mask != 0) else { continue };
        let partner = snapshot.partner_of(&origin.party()).map(|partner| partner.name.clone());
        let kind = Summary::read(&row.summary)?.facts.kind;
        let (forget, why) = (Forget { feed: feed.id, seq, slots: row.slots() & mask }, format!("promised, terms {}", terms.short()));
        found.push(Due { forget, origin, kind, partner, since, why, terms: Some(terms) });
    }
    Ok(found)
}

/// Records older than the owner keeps them.
fn outlived(reader: &Reader, snapshot: &Snapshot, retention: &Retention, now: u64) -> Result<Vec<Due>, FeedError> {
    let mut found = Vec::new();
    let Some(shortest) = retention.shortest() else { return Ok(found) };
    for feed in snapshot.forgettable() {
        let made_for = snapshot.book.values().find(|partner| feed.ours && partner.feed == feed.origin.name());
        each_record(reader, feed, |row, facts| {
            // What went long ago is not read again.
            if row.slots() == 0 {
                return Ok(true);
            }
            let Some(core) = reader.core(row)? else { return Ok(true) };
            let signed = Unverified::read(&core)?.claims().day;
            // Entries stand in the order they were signed in, but for a clock that was wrong: what comes after is younger still.
            if now < shortest.after(signed).saturating_sub(SHORTEST_SLACK_SECONDS) {
                return Ok(false);
            }
            let customer = facts.customer.as_deref().filter(|_| feed.ours).or(made_for.map(|partner| partner.name.as_str()));
            let (slots, period) = (row.slots(), retention.of(&facts.kind, customer));
            if let Some(period) = period.filter(|period| period.after(signed) <= now) {
                let partner = match feed.ours {
                    true => customer.map(str::to_owned),
                    false => snapshot.partner_of(&feed.origin.party()).map(|partner| partner.name.clone()),
                };
                found.push(Due {
                    forget: Forget { feed: feed.id, seq: row.seq, slots },
                    origin: feed.origin.clone(),
                    kind: facts.kind.clone(),
                    partner,
                    since: period.after(signed),
                    why: format!("kept {period}"),
                    terms: None,
                });
            }
            Ok(true)
        })?;
    }
    Ok(found)
}

/// Shows each record of a feed that is here, in its order, until the answer is no for a whole page of them.
fn each_record(reader: &Reader, feed: &Feed, mut each: impl FnMut(&Row, &Facts) -> Result<bool, FeedError>) -> Result<(), FeedError> {
    let mut next = 1;
    while next < feed.size() {
        let rows = reader.rows(feed.id, next, PAGE)?;
        let Some(last) = rows.last() else { break };
        next = last.seq + 1;
        let (mut shown, mut goes_on) = (false, false);
        for row in rows.iter().filter(|row| row.has_core && row.seq < feed.size()) {
            let facts = Summary::read(&row.summary)?.facts;
            if !facts.is_release() {
                shown = true;
                goes_on |= each(row, &facts)?;
            }
        }
        if shown && !goes_on {
            break;
        }
    }
    Ok(())
}
