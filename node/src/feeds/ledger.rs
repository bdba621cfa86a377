//! The ledger in the store: a tree whose head the log key signs in the commit that adds the entries, and what is found
//! in it without reading it from its beginning.
//!
//! Its entries are kept like those of a feed, under a number that no feed has: so journal, replay, rebuild and the nodes
//! of the tree are those of every feed. It is in no snapshot, so nothing can offer, serve or bundle it. Beside each row
//! stand index keys in the same commit: what it says of which entries, for whom. They follow from the entries alone, and
//! `audit` compares them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lotline_schema::codec;
use lotline_schema::delivery::{self, Delivery, Receipt};
use lotline_schema::note::Checkpoint;
use lotline_schema::tree::{Frontier, leaf_hash};
use lotline_schema::{Hash, Origin};

use super::open::all_states;
use super::state::{Head, Partner, StateError, key, put, take};
use super::witness::{Evidence, receipt_core, receipt_key};
use super::{FeedError, Feeds, Snapshot, head_state, sign_head};
use crate::ledger::{self, Became, Entry, Intent, Outcome, ROW_ENTRIES_MAX, Row, Sent, read_runs, runs_value};
use crate::store::{self, Batch, Reader};

/// The number of the ledger's tree in the store. Feeds count from 0.
pub(super) const ID: u32 = u32::MAX;
/// Entries read at once.
const PAGE: usize = 512;
/// Entries of a feed under one index key of a row.
const CHUNK_ENTRIES: u64 = 256;
/// Where rows stand of which only two ends are known.
const WIDE: u64 = u64::MAX;
/// Receipts that one partner can fill the ledger with after a restore.
pub const REFILL_MAX: u64 = 100_000;
/// Clocks differ: a receipt this much older than the last row may still be for a row that was lost.
const CLOCKS_DIFFER_SECONDS: u64 = 86_400;

/// Entries on their way into a commit, and the head they give.
pub(super) struct Appended {
    head: Head,
}

impl Feeds {
    /// Writes down what is about to leave, durably, what became of earlier rows, and what partners signed meanwhile.
    /// Returns the row.
    pub fn intend(&mut self, intent: Intent, outcomes: &[(Row, Outcome)], evidence: &[Evidence], now: u64) -> Result<Row, FeedError> {
        let mut rows = self.write_down(vec![intent], outcomes, evidence, now)?;
        Ok(rows.remove(0))
    }

    /// Writes down what is about to leave in a file, all of it or nothing.
    pub fn export(&mut self, intents: Vec<Intent>, now: u64) -> Result<Vec<Row>, FeedError> {
        self.write_down(intents, &[], &[], now)
    }

    fn write_down(
        &mut self,
        intents: Vec<Intent>,
        outcomes: &[(Row, Outcome)],
        evidence: &[Evidence],
        now: u64,
    ) -> Result<Vec<Row>, FeedError> {
        let (mut batch, mut entries) = (Batch::new(), became(outcomes, evidence, now));
        let first = self.ledger.frontier.size() + entries.len() as u64;
        let rows: Vec<Row> = (first..).zip(intents).map(|(number, intent)| Row::of(intent, number, now)).collect();
        entries.extend(rows.iter().cloned().map(Entry::Intent));
        let appended = self.append_ledger(&mut batch, &entries, outcomes)?;
        self.keep(&mut batch, evidence)?;
        self.commit(batch)?;
        self.ledger = appended.head;
        Ok(rows)
    }

    /// Writes down what became of rows, and what partners signed meanwhile.
    pub fn conclude(&mut self, outcomes: &[(Row, Outcome)], evidence: &[Evidence], now: u64) -> Result<(), FeedError> {
        let (mut batch, entries) = (Batch::new(), became(outcomes, evidence, now));
        let appended = match entries.is_empty() {
            true => None,
            false => Some(self.append_ledger(&mut batch, &entries, outcomes)?),
        };
        self.keep(&mut batch, evidence)?;
        if !batch.is_empty() {
            self.commit(batch)?;
        }
        if let Some(appended) = appended {
            self.ledger = appended.head;
        }
        Ok(())
    }

    /// Puts entries and the signed head they give into a batch, with everything they are found by. The caller takes the
    /// head once the batch is durable.
    fn append_ledger(&self, batch: &mut Batch, entries: &[Entry], outcomes: &[(Row, Outcome)]) -> Result<Appended, FeedError> {
        self.may_sign()?;
        let receipts: HashMap<u64, Option<Hash>> = entries.iter().flat_map(of_outcomes).map(|of| (of.row, of.receipt)).collect();
        for (row, outcome) in outcomes {
            let state = Standing { outcome: *outcome, receipt: receipts.get(&row.number).copied().flatten() };
            batch.push(store::Entry::Describe { feed: ID, seq: row.number, summary: state.to_bytes(), lot: None, part: None });
            push_places(batch, &Row { outcome: *outcome, ..row.clone() });
        }
        Ok(Appended { head: self.push_entries(batch, entries, true) })
    }

    fn push_entries(&self, batch: &mut Batch, entries: &[Entry], sign: bool) -> Head {
        let mut frontier = self.ledger.frontier.clone();
        for entry in entries {
            let (core, seq) = (entry.to_bytes(), frontier.size());
            let leaf = leaf_hash(&core);
            let summary = match entry {
                Entry::Former(row) | Entry::Intent(row) => Standing { outcome: row.outcome, receipt: None }.to_bytes(),
                Entry::Refilled(row, receipt) => Standing { outcome: row.outcome, receipt: Some(*receipt) }.to_bytes(),
                Entry::Outcomes { .. } | Entry::Restored { .. } => Vec::new(),
            };
            if let Entry::Former(row) | Entry::Intent(row) | Entry::Refilled(row, _) = entry {
                push_places(batch, row);
            }
            frontier.push(leaf);
            batch.push(store::Entry::Statement { feed: ID, seq, leaf: leaf.0, core, summary, lot: None, part: None });
        }
        let origin = ledger::origin(self.snapshot.party);
        let head = match sign {
            true => sign_head(&origin, frontier, &self.keys.log),
            // The next entry signs for all before it.
            false => Head { frontier, checkpoint: String::new() },
        };
        batch.push(head_state(&origin, &head));
        head
    }

    /// The ledger's head, signed anew by other keys, into the commit that puts them in force.
    pub(super) fn sign_ledger_again(&self, batch: &mut Batch, keys: &crate::keys::Keys) -> Option<Head> {
        let origin = ledger::origin(self.snapshot.party);
        let head = (self.ledger.frontier.size() > 0).then(|| sign_head(&origin, self.ledger.frontier.clone(), &keys.log))?;
        batch.push(head_state(&origin, &head));
        Some(head)
    }

    /// Takes rows of a store made before the ledger was a tree into the tree, under the numbers they had. What is cut off
    /// in the middle goes on at the next start. A home that may not sign leaves the head unsigned until it may.
    pub(super) fn carry_ledger_over(&mut self) -> Result<(), FeedError> {
        let (prefix, mut after) = (key::FORMER_LEDGER.as_bytes(), None::<Vec<u8>>);
        let sign = self.may_sign().is_ok();
        loop {
            let page = self.reader.states(prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = Some(last.clone());
            self.store.copy_before("ledger-tree", &|_| {})?;
            let (mut batch, mut entries) = (Batch::new(), Vec::with_capacity(page.len()));
            for (number, (state_key, value)) in (self.ledger.frontier.size()..).zip(page) {
                let before = state_key[prefix.len()..].try_into().map(u64::from_be_bytes).map_err(|_| StateError("ledger row"))?;
                let entry = Entry::read_former(number, &value)?;
                // Receipts are kept under the row's number. It changes only where an older program wrote rows beside a tree.
                if let Entry::Former(row) = &entry
                    && before != number
                    && let Some(core) = receipt_core(&self.reader, &Row { number: before, ..row.clone() })?
                {
                    let delivery = Receipt::peek(&core).ok_or(StateError("delivery receipt"))?;
                    batch.push(store::Entry::State { key: receipt_key(key::GOT, &delivery, before), value: None });
                    batch.push(store::Entry::State { key: receipt_key(key::GOT, &delivery, number), value: Some(core) });
                }
                entries.push(entry);
                batch.push(store::Entry::State { key: state_key, value: None });
            }
            let head = self.push_entries(&mut batch, &entries, sign);
            self.commit(batch)?;
            self.ledger = head;
        }
    }

    /// The owner has confirmed a restored home: the ledger says so, and every partner is asked for what it signed since.
    pub(super) fn note_restore(&mut self, batch: &mut Batch, now: u64) -> Result<Head, FeedError> {
        self.settle()?;
        let last = last_rows(&self.reader, self.ledger.frontier.size(), 1, |_| true)?.pop().map_or(0, |row| row.at);
        let since = last.saturating_sub(CLOCKS_DIFFER_SECONDS);
        for name in self.snapshot.book.keys() {
            // What an earlier restore still waits for reaches further back.
            let since = refill_due(&self.reader, name)?.map_or(since, |due| due.since.min(since));
            batch.push(store::Entry::State { key: key::of(key::REFILL, name), value: Some(Refill { since, taken: 0 }.to_bytes()) });
        }
        Ok(self.push_entries(batch, &[Entry::Restored { at: now }], true))
    }

    /// Enters what a partner signed for and our ledger does not know: it was lost with a disk. Returns how many rows it
    /// filled, and whether the partner may go on.
    pub fn refill(&mut self, partner: &Partner, receipts: &[Vec<u8>], last: bool, now: u64) -> Result<u64, FeedError> {
        self.settle()?;
        let Some(Refill { taken, since }) = refill_due(&self.reader, &partner.name)? else {
            return Ok(0);
        };
        let filled = self.fill(partner, receipts, now)?;
        // An empty page counts too: else a partner that sends nothing else would be asked, and written down, for ever.
        let taken = taken + receipts.len().max(1) as u64;
        let rest = (!last && taken < REFILL_MAX).then(|| Refill { since, taken }.to_bytes());
        self.commit_state(key::of(key::REFILL, &partner.name), rest)?;
        Ok(filled)
    }

    fn fill(&mut self, partner: &Partner, receipts: &[Vec<u8>], now: u64) -> Result<u64, FeedError> {
        let (mut entries, mut outcomes, mut evidence, mut seen) = (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
        let mut number = self.ledger.frontier.size();
        for core in receipts {
            let Some(delivery) =
                self.signed_by(partner, core).filter(|of| seen.insert((of.origin.clone(), of.from, of.to, of.items.0, of.policy)))
            else {
                continue;
            };
            match row_for(&self.reader, &partner.name, &delivery)? {
                Some(row) if row.outcome == Outcome::Acknowledged => {}
                Some(row) => {
                    evidence.push(Evidence::Receipt(row.clone(), core.clone()));
                    outcomes.push((row, Outcome::Acknowledged));
                }
                None => {
                    let row = Row::refilled(&partner.name, &delivery, number, now);
                    evidence.push(Evidence::Receipt(row.clone(), core.clone()));
                    entries.push(Entry::Refilled(row, Hash::of(&[core])));
                    number += 1;
                }
            }
        }
        let filled = entries.len() as u64;
        entries.extend(became(&outcomes, &evidence, now));
        if entries.is_empty() {
            return Ok(0);
        }
        let mut batch = Batch::new();
        let appended = self.append_ledger(&mut batch, &entries, &outcomes)?;
        self.keep(&mut batch, &evidence)?;
        self.commit(batch)?;
        self.ledger = appended.head;
        Ok(filled)
    }

    /// What a receipt says, if it holds under the partner's keys and can be for a feed of ours. A root is compared as far
    /// as our feed goes; beyond, only a life that a restore ended can have had entries that are lost here.
    fn signed_by(&self, partner: &Partner, core: &[u8]) -> Option<Delivery> {
        let org = self.snapshot.orgs.get(&partner.party)?;
        let delivery = Receipt::open(core, org).ok()?.delivery;
        let origin: Origin = delivery.origin.parse().ok()?;
        let ours = &self.snapshot.orgs[&self.snapshot.party];
        if origin.is_org() || !ours.has_feed(origin.as_str()) {
            return None;
        }
        if delivery.way == delivery::Way::Batch && delivery.to - delivery.from > ROW_ENTRIES_MAX as u64 {
            return None;
        }
        let ended = self.newest_lives().get(origin.name()).is_some_and(|newest| origin.n() < *newest);
        match self.snapshot.feeds.get(origin.as_str()) {
            Some(feed) if delivery.size <= feed.size() => {
                self.reader.tree(feed.id, feed.size()).root(delivery.size).is_ok_and(|root| root == delivery.root).then_some(delivery)
            }
            _ => ended.then_some(delivery),
        }
    }

    /// Shows every row of the ledger, oldest first, in bounded memory.
    pub fn each_row(&self, mut show: impl FnMut(Row)) -> Result<(), FeedError> {
        self.settle()?;
        let mut from = 0;
        loop {
            let rows = self.ledger(from, PAGE)?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            from = last.number + 1;
            rows.into_iter().for_each(&mut show);
        }
    }

    /// The ledger, newest last, from a row number on.
    pub fn ledger(&self, from: u64, max: usize) -> Result<Vec<Row>, FeedError> {
        let (mut rows, mut next, size) = (Vec::new(), from, self.ledger.frontier.size());
        while next < size && rows.len() < max {
            let page = self.reader.rows(ID, next, PAGE)?;
            let Some(last) = page.last() else {
                break;
            };
            next = last.seq + 1;
            for row in &page {
                rows.extend(read_row(&self.reader, row)?);
            }
        }
        rows.truncate(max);
        Ok(rows)
    }

    /// The last rows of the ledger that are wanted, newest last. Reads from the end.
    pub fn last_rows(&self, max: usize, wanted: impl Fn(&Row) -> bool) -> Result<Vec<Row>, FeedError> {
        last_rows(&self.reader, self.ledger.frontier.size(), max, wanted)
    }
}

fn last_rows(reader: &Reader, size: u64, max: usize, wanted: impl Fn(&Row) -> bool) -> Result<Vec<Row>, FeedError> {
    let (mut rows, mut end) = (Vec::new(), size);
    while end > 0 && rows.len() < max {
        let from = end.saturating_sub(PAGE as u64);
        for row in reader.rows(ID, from, (end - from) as usize)?.iter().rev() {
            rows.extend(read_row(reader, row)?.filter(&wanted));
        }
        end = from;
    }
    rows.truncate(max);
    rows.reverse();
    Ok(rows)
}

/// What became of rows, as entries of bounded length.
fn became(outcomes: &[(Row, Outcome)], evidence: &[Evidence], now: u64) -> Vec<Entry> {
    let signed = |one: &Evidence| match one {
        Evidence::Receipt(row, core) => Some((row.number, Hash::of(&[core]))),
        Evidence::Cosignature { .. } => None,
    };
    let receipts: HashMap<u64, Hash> = evidence.iter().filter_map(signed).collect();
    let one = |(row, outcome): &(Row, Outcome)| Became { row: row.number, outcome: *outcome, receipt: receipts.get(&row.number).copied() };
    outcomes.chunks(ROW_ENTRIES_MAX).map(|part| Entry::Outcomes { at: now, of: part.iter().map(one).collect() }).collect()
}

fn of_outcomes(entry: &Entry) -> &[Became] {
    match entry {
        Entry::Outcomes { of, .. } => of,
        _ => &[],
    }
}

/// What became of a row, as lists show it: beside its entry, which never changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Standing {
    outcome: Outcome,
    receipt: Option<Hash>,
}

impl Standing {
    fn to_bytes(self) -> Vec<u8> {
        put(codec::array([self.outcome.value(), codec::optional(self.receipt, |hash| codec::bytes(hash.0))]))
    }

    fn read(bytes: &[u8]) -> Result<Standing, StateError> {
        const WHAT: StateError = StateError("ledger row");
        let value = take(bytes, "ledger row")?;
        match codec::as_array(&value).unwrap_or_default() {
            [outcome, receipt] => {
                let receipt = codec::as_bytes(receipt).and_then(Hash::from_slice);
                Ok(Standing { outcome: Outcome::read(outcome).ok_or(WHAT)?, receipt })
            }
            _ => Err(WHAT),
        }
    }
}

/// The row that an entry of the tree opens, as it stands now; none for other entries.
fn read_row(reader: &Reader, row: &store::Row) -> Result<Option<Row>, FeedError> {
    if row.summary.is_empty() {
        return Ok(None);
    }
    let core = reader.core(row)?.ok_or(StateError("ledger entry"))?;
    let read = Entry::read(row.seq, &core)?.into_row().ok_or(StateError("ledger entry"))?;
    Ok(Some(Row { outcome: Standing::read(&row.summary)?.outcome, ..read }))
}

// ---- What rows say of entries ----

/// What a row says of some entries of a feed: the value of an index key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The row.
    pub number: u64,
    /// Its first entry.
    pub from: u64,
    /// The index after its last.
    pub end: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Those of its entries that stand under this key; none when only a receipt tells of the row.
    pub sent: Vec<Sent>,
}

/// What keys of one recipient and feed begin with.
fn places_of(to: &str, origin: &str) -> Vec<u8> {
    let hash = Hash::of(&[&(to.len() as u64).to_be_bytes(), to.as_bytes(), origin.as_bytes()]);
    [key::SENT.as_bytes(), &hash.0[..16]].concat()
}

fn push_places(batch: &mut Batch, row: &Row) {
    for (state_key, value) in places(row) {
        batch.push(store::Entry::State { key: state_key, value: Some(value) });
    }
}

/// The index keys of a row and their values.
fn places(row: &Row) -> Vec<(Vec<u8>, Vec<u8>)> {
    let prefix = places_of(&row.to, &row.origin);
    let entry = |chunk: u64, sent: &[Sent]| {
        let state_key = [&prefix[..], &chunk.to_be_bytes(), &row.number.to_be_bytes()].concat();
        let span = [codec::uint(row.from), codec::uint(row.end)];
        (state_key, put(codec::array(span.into_iter().chain([row.outcome.value(), runs_value(sent)]))))
    };
    if !row.is_refilled() {
        let same = |a: &Sent, b: &Sent| a.seq / CHUNK_ENTRIES == b.seq / CHUNK_ENTRIES;
        return row.items.chunk_by(same).map(|sent| entry(sent[0].seq / CHUNK_ENTRIES, sent)).collect();
    }
    let (first, last) = (row.from / CHUNK_ENTRIES, row.end.saturating_sub(1) / CHUNK_ENTRIES);
    // A stranger's range never sizes anything.
    match last - first {
        0 | 1 => (first..=last).map(|chunk| entry(chunk, &[])).collect(),
        _ => vec![entry(WIDE, &[])],
    }
}

fn read_place(state_key: &[u8], value: &[u8]) -> Result<Place, StateError> {
    const WHAT: StateError = StateError("place in the ledger");
    let number = state_key.last_chunk::<8>().map(|number| u64::from_be_bytes(*number)).ok_or(WHAT)?;
    let value = take(value, "place in the ledger")?;
    let [from, end, outcome, sent] = codec::as_array(&value).unwrap_or_default() else {
        return Err(WHAT);
    };
    let span = codec::as_uint(from).zip(codec::as_uint(end));
    let read = span.zip(Outcome::read(outcome)).zip(read_runs(sent));
    let (((from, end), outcome), sent) = read.ok_or(WHAT)?;
    Ok(Place { number, from, end, outcome, sent })
}

/// What rows say of the entries from `from` to `end` (not included) of a feed, for one recipient: a few keys for each
/// 256 entries, however long the ledger is.
pub fn places_between(reader: &Reader, to: &str, origin: &str, from: u64, end: u64) -> Result<Vec<Place>, FeedError> {
    let prefix = places_of(to, origin);
    let mut found = Vec::new();
    if from >= end {
        return Ok(found);
    }
    let mut after = Some([&prefix[..], &(from / CHUNK_ENTRIES).to_be_bytes()].concat());
    let last = (end - 1) / CHUNK_ENTRIES;
    'pages: loop {
        let page = reader.states(&prefix, after.as_deref(), PAGE)?;
        let Some((last_key, _)) = page.last() else {
            break;
        };
        after = Some(last_key.clone());
        for (state_key, value) in &page {
            let chunk =
                state_key.get(prefix.len()..prefix.len() + 8).and_then(|chunk| chunk.try_into().ok()).map_or(WIDE, u64::from_be_bytes);
            if chunk > last {
                break 'pages;
            }
            found.push(read_place(state_key, value)?);
        }
    }
    let wide = [&prefix[..], &WIDE.to_be_bytes()].concat();
    for (state_key, value) in all_states(reader, &wide)? {
        found.push(read_place(&state_key, &value)?);
    }
    found.retain(|place| place.from < end && from < place.end);
    Ok(found)
}

/// The slots of entries that a recipient has acknowledged.
pub fn acknowledged(reader: &Reader, to: &str, origin: &str, from: u64, end: u64) -> Result<HashMap<u64, u64>, FeedError> {
    let mut masks = HashMap::new();
    let places = places_between(reader, to, origin, from, end)?;
    for sent in places.iter().filter(|place| place.outcome == Outcome::Acknowledged).flat_map(|place| &place.sent) {
        *masks.entry(sent.seq).or_default() |= sent.mask;
    }
    Ok(masks)
}

/// The slots of some entries, named in ascending order, that may have left to a recipient. Which they were is not known of a row
/// that only a receipt tells of: all of them.
pub fn may_have_left(
    reader: &Reader,
    to: &str,
    origin: &str,
    entries: impl IntoIterator<Item = u64>,
) -> Result<HashMap<u64, u64>, FeedError> {
    let (mut masks, entries) = (HashMap::new(), entries.into_iter().collect::<Vec<_>>());
    for near in entries.chunk_by(|a, b| a / CHUNK_ENTRIES == b / CHUNK_ENTRIES) {
        let (Some(first), Some(end)) = (near.first(), near.last().and_then(|last| last.checked_add(1))) else { continue };
        for place in places_between(reader, to, origin, *first, end)?.iter().filter(|place| place.outcome != Outcome::NotSent) {
            for sent in &place.sent {
                *masks.entry(sent.seq).or_default() |= sent.mask;
            }
            let known_by_receipt = near.iter().filter(|seq| place.sent.is_empty() && (place.from..place.end).contains(seq));
            masks.extend(known_by_receipt.map(|seq| (*seq, u64::MAX)));
        }
    }
    Ok(masks)
}

/// The rows that speak of an entry, oldest first.
pub fn rows_about(reader: &Reader, to: &str, origin: &str, seq: u64) -> Result<Vec<Row>, FeedError> {
    let mut rows = BTreeMap::new();
    for place in places_between(reader, to, origin, seq, seq + 1)? {
        if place.sent.is_empty() || place.sent.iter().any(|sent| sent.seq == seq) {
            rows.extend(row_numbered(reader, place.number)?.map(|row| (row.number, row)));
        }
    }
    Ok(rows.into_values().collect())
}

/// The row that a receipt is for. Several may be for one range: what was cut is sent again, and the last one counts.
pub fn row_for(reader: &Reader, to: &str, delivery: &Delivery) -> Result<Option<Row>, FeedError> {
    let mut found = None;
    let mut places = places_between(reader, to, &delivery.origin, delivery.from, delivery.from + 1)?;
    places.sort_unstable_by_key(|place| place.number);
    places.retain(|place| (place.from, place.end) == (delivery.from, delivery.to) && place.outcome != Outcome::NotSent);
    for place in places {
        if let Some(row) = row_numbered(reader, place.number)?.filter(|row| row.to == to && row.fits(delivery)) {
            found = Some(row);
        }
    }
    Ok(found)
}

/// The row with this number; none when it is another entry's, or none.
pub fn row_numbered(reader: &Reader, number: u64) -> Result<Option<Row>, FeedError> {
    match reader.row(ID, number)? {
        Some(row) => read_row(reader, &row),
        None => Ok(None),
    }
}

// ---- What was lost ----

/// What a partner is still to be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refill {
    /// Receipts given from this time on, by the receiver's clock.
    pub since: u64,
    /// How many it sent so far; a page without any counts as one.
    pub taken: u64,
}

impl Refill {
    fn to_bytes(self) -> Vec<u8> {
        put(codec::array([codec::uint(self.since), codec::uint(self.taken)]))
    }
}

/// Whether a partner is to be asked for the receipts it gave, since a restored ledger may lack rows.
pub fn refill_due(reader: &Reader, partner: &str) -> Result<Option<Refill>, FeedError> {
    let Some(value) = reader.state(&key::of(key::REFILL, partner))? else {
        return Ok(None);
    };
    let value = take(&value, "receipts to ask for")?;
    match codec::as_array(&value).unwrap_or_default() {
        [since, taken] => Ok(codec::as_uint(since).zip(codec::as_uint(taken)).map(|(since, taken)| Refill { since, taken })),
        _ => Err(StateError("receipts to ask for").into()),
    }
}

// ---- Audit ----

/// What `audit` found in the ledger.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct LedgerAudit {
    /// Entries of its tree.
    pub entries: u64,
    /// Rows among them.
    pub rows: u64,
    /// Rows for which a receipt was due and is here.
    pub receipted: u64,
    /// Rows that may have left and that nobody signed for.
    pub open: u64,
    /// Rows that were lost and stand here as a receipt tells them.
    pub refilled: u64,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// Reads the whole ledger: its tree against the signed head, what lists and lookups show against the entries, and each
/// row against the receipts kept, and the other way round.
pub fn audit(reader: &Reader, snapshot: &Snapshot, progress: &dyn Fn(u64, u64)) -> Result<LedgerAudit, FeedError> {
    let mut found = LedgerAudit::default();
    let head = stored_head(reader, snapshot)?;
    let (size, mut suspects) = (head.frontier.size(), Vec::new());
    let standing = audit_tree(reader, snapshot, &head, &mut found, progress)?;
    if reader.row(ID, size)?.is_some() {
        suspects.push((size, format!("entry {size} stands beyond the signed head")));
    }
    audit_rows(reader, &standing, size, &mut found, &mut suspects)?;
    audit_receipts(reader, snapshot, &standing, &mut suspects)?;
    if !suspects.is_empty() {
        let changed = changed_since(reader, snapshot, size)?;
        found.problems.extend(suspects.into_iter().filter(|(row, _)| !changed.contains(row)).map(|(_, problem)| problem));
    }
    Ok(found)
}

fn stored_head(reader: &Reader, snapshot: &Snapshot) -> Result<Head, FeedError> {
    let head = reader.state(&key::of(key::HEAD, ledger::origin(snapshot.party).as_str()))?;
    Ok(head.map(|head| Head::read(&head)).transpose()?.unwrap_or_default())
}

/// Entries that came since the ledger had this size, and the rows they speak of: beside a node that goes on these are of
/// another moment than the head, and are for the next audit.
fn changed_since(reader: &Reader, snapshot: &Snapshot, size: u64) -> Result<BTreeSet<u64>, FeedError> {
    reader.settle()?;
    let (grown, mut changed, mut next) = (stored_head(reader, snapshot)?.frontier.size(), BTreeSet::new(), size);
    loop {
        let page = reader.rows(ID, next, PAGE)?;
        let Some(last) = page.last().filter(|_| next < grown) else {
            return Ok(changed);
        };
        next = last.seq + 1;
        for row in page.iter().filter(|row| row.seq < grown) {
            changed.insert(row.seq);
            let entry = reader.core(row)?.and_then(|core| Entry::read(row.seq, &core).ok());
            changed.extend(entry.iter().flat_map(of_outcomes).map(|of| of.row));
        }
    }
}

/// Every entry of the tree in its order, and what became of each row by their word.
fn audit_tree(
    reader: &Reader,
    snapshot: &Snapshot,
    head: &Head,
    found: &mut LedgerAudit,
    progress: &dyn Fn(u64, u64),
) -> Result<BTreeMap<u64, Standing>, FeedError> {
    let (size, mut frontier, mut standing) = (head.frontier.size(), Frontier::new(), BTreeMap::new());
    while frontier.size() < size {
        let from = frontier.size();
        for row in reader.rows(ID, from, PAGE)?.into_iter().take_while(|row| row.seq < size) {
            if row.seq != frontier.size() {
                break;
            }
            frontier.push(Hash(row.leaf));
            if let Err(problem) = audit_entry(reader, &row, &mut standing, found) {
                found.problems.push(format!("entry {}: {problem}", row.seq));
            }
        }
        if frontier.size() < size && frontier.size() - from < PAGE as u64 {
            found.problems.push(format!("entry {} is missing", frontier.size()));
            break;
        }
        progress(frontier.size(), size);
    }
    (found.entries, found.rows) = (frontier.size(), standing.len() as u64);
    let origin = ledger::origin(snapshot.party);
    match head.checkpoint.as_str() {
        // A home that may not sign yet has only carried over what an older version kept.
        "" if size == 0 || snapshot.restored.is_some() => {}
        "" => found.problems.push("its head is not signed".into()),
        note => match snapshot.orgs[&snapshot.party].open(note) {
            Ok(Checkpoint { origin: of, size: signed, root }) if of == origin && signed == size && root == frontier.root() => {}
            Ok(_) => found.problems.push("its entries do not give the root of its signed head: one was altered, removed or moved".into()),
            Err(why) => found.problems.push(format!("its head: {why}")),
        },
    }
    Ok(standing)
}

fn audit_entry(reader: &Reader, row: &store::Row, standing: &mut BTreeMap<u64, Standing>, found: &mut LedgerAudit) -> Result<(), String> {
    let core = reader.core(row).map_err(|why| why.to_string())?.ok_or("its bytes are missing")?;
    if leaf_hash(&core).0 != row.leaf {
        return Err("it was altered: its bytes are not those of its leaf hash".into());
    }
    match Entry::read(row.seq, &core).map_err(|why| why.to_string())? {
        Entry::Outcomes { of, .. } => {
            for Became { row, outcome, receipt } in of {
                let known = standing.get_mut(&row).ok_or_else(|| format!("it tells what became of row {row}, which is not there"))?;
                *known = Standing { outcome, receipt };
            }
        }
        Entry::Refilled(_, receipt) => {
            found.refilled += 1;
            standing.insert(row.seq, Standing { outcome: Outcome::Acknowledged, receipt: Some(receipt) });
        }
        Entry::Former(of) | Entry::Intent(of) => {
            standing.insert(row.seq, Standing { outcome: of.outcome, receipt: None });
        }
        Entry::Restored { .. } => {}
    }
    Ok(())
}

/// What lists and lookups show must follow from the entries, and what is acknowledged must be signed for.
fn audit_rows(
    reader: &Reader,
    standing: &BTreeMap<u64, Standing>,
    size: u64,
    found: &mut LedgerAudit,
    suspects: &mut Vec<(u64, String)>,
) -> Result<(), FeedError> {
    let (mut keys, mut after) = (0u64, None::<Vec<u8>>);
    for (number, became) in standing {
        let shown = reader.row(ID, *number)?.map(|row| row.summary).unwrap_or_default();
        if shown != became.to_bytes() {
            suspects.push((*number, format!("row {number}: the list says something else of what became of it than the entries")));
        }
        // What does not read was told above.
        let Ok(Some(row)) = row_numbered(reader, *number) else {
            continue;
        };
        let row = Row { outcome: became.outcome, ..row };
        for (state_key, value) in places(&row) {
            keys += 1;
            if reader.state(&state_key)?.as_ref() != Some(&value) {
                suspects.push((*number, format!("row {number}: what it is found by does not follow from it")));
            }
        }
        // An org feed hides nothing, and nobody signs for it.
        let due = row.origin.parse::<Origin>().is_ok_and(|origin| !origin.is_org());
        match (row.outcome, receipt_core(reader, &row)?.is_some()) {
            (Outcome::Acknowledged, true) => found.receipted += 1,
            (Outcome::Acknowledged, false) if due => {
                suspects.push((*number, format!("row {number} to {} is acknowledged, and its receipt is not here", row.to)));
            }
            (Outcome::Open | Outcome::Cut | Outcome::Exported, false) => found.open += 1,
            (_, true) => suspects.push((*number, format!("row {number} to {} has a receipt, and is not acknowledged", row.to))),
            _ => {}
        }
    }
    loop {
        let page = reader.states(key::SENT.as_bytes(), after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else {
            break;
        };
        after = Some(last.clone());
        for number in page.iter().map(|(state_key, _)| number_in(state_key)) {
            match number < size {
                true => keys = keys.wrapping_sub(1),
                false => suspects.push((number, format!("row {number} is found by a key, and the ledger has no such row"))),
            }
        }
    }
    if keys != 0 {
        found.problems.push("rows are found by keys that follow from none".into());
    }
    Ok(())
}

/// The row at the end of an index key.
fn number_in(state_key: &[u8]) -> u64 {
    state_key.last_chunk::<8>().map_or(0, |number| u64::from_be_bytes(*number))
}

/// Each receipt that is kept holds, and is for the row it stands with.
fn audit_receipts(
    reader: &Reader,
    snapshot: &Snapshot,
    standing: &BTreeMap<u64, Standing>,
    suspects: &mut Vec<(u64, String)>,
) -> Result<(), FeedError> {
    let mut after = None::<Vec<u8>>;
    loop {
        let page = reader.states(key::GOT.as_bytes(), after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = Some(last.clone());
        for (state_key, core) in page {
            let number = number_in(&state_key);
            let row = row_numbered(reader, number).ok().flatten();
            let row = row.filter(|row| Receipt::peek(&core).is_some_and(|of| row.fits(&of)));
            let Some((row, became)) = row.zip(standing.get(&number)) else {
                suspects.push((number, format!("a receipt is kept for row {number}, and the ledger has no such row")));
                continue;
            };
            if became.receipt.is_some_and(|hash| hash != Hash::of(&[&core])) {
                suspects.push((number, format!("row {number}: its receipt is another one than the ledger names")));
            }
            let party = Receipt::claimed_by(&core);
            let named = snapshot.book.get(&row.to).is_none_or(|partner| Some(partner.party) == party);
            let org = party.and_then(|party| snapshot.orgs.get(&party));
            if !named || org.is_some_and(|org| Receipt::open(&core, org).is_err()) {
                suspects.push((number, format!("row {number}: its receipt does not hold under the keys of {}", row.to)));
            }
        }
    }
}
