//! The ledger: our own log of what left, to whom, when, under which rule. The word is used for nothing else.
//!
//! An append-only tree whose head the log key signs, in the commit that adds the entries: see docs/design.md. A row is
//! written, durably, before the bytes it speaks of are handed to the network: the intent. What became of them follows as
//! an entry of its own: acknowledged by the partner, cut, or thrown away. A row without an outcome may have left.

use lotline_policy::{Cleared, Policy};
use lotline_schema::codec::{self, Value};
use lotline_schema::delivery::{self, Delivery};
use lotline_schema::{Hash, Origin, PartyId};

use crate::feeds::state::{StateError, put, take};

/// Entries of a feed in one row: what leaves in one piece, and no row of a file is longer.
pub const ROW_ENTRIES_MAX: usize = 256;
/// Share names of one row; what more shares open is told under one mark.
const SHARES_MAX: usize = 32;
/// Stands for all shares beyond those that a row names; no share can have this name.
pub const FURTHER_SHARES: &str = "";
/// Items of a row that was written before rows were bounded.
const ITEMS_MAX: u64 = 1 << 24;

/// The tree of the ledger. No data feed can have this name: it has been reserved for the rules from the first version
/// on, whose versions are numbered under `policy/1`.
pub fn origin(party: PartyId) -> Origin {
    Origin::new(party, "policy", 2).expect("a fixed name")
}

/// What became of something we meant to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Handed over or about to be: it may have left.
    Open,
    /// The partner said it has it, verified and stored.
    Acknowledged,
    /// Stopped while it was being written: part of it may have left.
    Cut,
    /// Written to a file for this recipient.
    Exported,
    /// Thrown away before the first byte left, because the rules changed.
    NotSent,
}

impl Outcome {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Open => "may have left",
            Outcome::Acknowledged => "acknowledged",
            Outcome::Cut => "cut, may have left in part",
            Outcome::Exported => "exported",
            Outcome::NotSent => "not sent, the rules changed",
        }
    }

    const ALL: [Outcome; 5] = [Outcome::Open, Outcome::Acknowledged, Outcome::Cut, Outcome::Exported, Outcome::NotSent];

    pub(crate) fn value(self) -> Value {
        codec::uint(Outcome::ALL.iter().position(|outcome| *outcome == self).expect("ALL lists every outcome") as u64)
    }

    pub(crate) fn read(value: &Value) -> Option<Outcome> {
        Outcome::ALL.get(usize::try_from(codec::as_uint(value)?).ok()?).copied()
    }
}

/// By which way something left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Over the network, in the feed's order.
    Batch,
    /// Over the network, opened later.
    Backfill,
    /// In a bundle.
    Bundle,
    /// In a carried file.
    Carried,
    /// Written down before ways were.
    Unknown,
}

impl Way {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Way::Batch => "network",
            Way::Backfill => "network, opened later",
            Way::Bundle => "bundle",
            Way::Carried => "carried file",
            Way::Unknown => "network or file",
        }
    }

    const ALL: [Way; 5] = [Way::Batch, Way::Backfill, Way::Bundle, Way::Carried, Way::Unknown];

    fn value(self) -> Value {
        codec::uint(Way::ALL.iter().position(|way| *way == self).expect("ALL lists every way") as u64)
    }

    fn read(value: &Value) -> Option<Way> {
        Way::ALL.get(usize::try_from(codec::as_uint(value)?).ok()?).copied()
    }

    /// What a row says before anything else is known.
    fn first_outcome(self) -> Outcome {
        match self {
            Way::Bundle | Way::Carried => Outcome::Exported,
            Way::Batch | Way::Backfill | Way::Unknown => Outcome::Open,
        }
    }
}

impl From<delivery::Way> for Way {
    fn from(way: delivery::Way) -> Way {
        match way {
            delivery::Way::Batch => Way::Batch,
            delivery::Way::Backfill => Way::Backfill,
        }
    }
}

/// One entry of a feed in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Its place in the feed.
    pub seq: u64,
    /// The slots that left, a bit each; 0: the leaf hash alone, or an entry without slots.
    pub mask: u64,
    /// The shares that opened them, a bit for each name of the row.
    pub shares: u64,
}

/// What is about to leave in one piece, entry by entry.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Items {
    /// In the order of the feed.
    pub sent: Vec<Sent>,
    /// Names of the shares that opened something.
    pub shares: Vec<String>,
}

impl Items {
    /// Adds what was cleared under these rules.
    pub fn add(&mut self, cleared: &Cleared, policy: &Policy) {
        let shares = cleared.shares().iter().filter_map(|at| policy.shares().get(*at)).fold(0, |all, rule| all | self.share(&rule.name));
        self.sent.push(Sent { seq: cleared.seq(), mask: cleared.mask(), shares });
    }

    fn share(&mut self, name: &str) -> u64 {
        let at = self.shares.iter().position(|known| known == name).unwrap_or_else(|| {
            let name = if self.shares.len() + 1 < SHARES_MAX { name } else { FURTHER_SHARES };
            if self.shares.len() < SHARES_MAX {
                self.shares.push(name.to_owned());
            }
            self.shares.len() - 1
        });
        1 << at
    }

    /// In rows that are not too long, in the order of the feed.
    pub fn rows(self) -> Vec<Items> {
        in_order(self.sent).chunks(ROW_ENTRIES_MAX).map(|sent| Items { sent: sent.to_vec(), shares: self.shares.clone() }).collect()
    }
}

/// A disclosure about to happen.
#[derive(Clone, Debug)]
pub struct Intent {
    /// To whom.
    pub to: String,
    /// From which feed.
    pub origin: String,
    /// By which way.
    pub way: Way,
    /// Entries, the slots of each, and the shares behind them.
    pub items: Items,
    /// Under which policy version; none for a full disclosure, and for what hides nothing.
    pub policy: Option<u64>,
    /// SHA-256 over the items as sent, or over the file.
    pub digest: Hash,
}

/// One disclosure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its number: its place in the ledger's tree.
    pub number: u64,
    /// When, in seconds since 1970.
    pub at: u64,
    /// To whom: a partner's name, or for a full bundle the name that was typed.
    pub to: String,
    /// From which feed.
    pub origin: String,
    /// By which way.
    pub way: Way,
    /// Index of the first entry.
    pub from: u64,
    /// Index after the last.
    pub end: u64,
    /// Which entries, and which slots of each; none when the row was lost and only the partner's receipt tells of it.
    pub items: Vec<Sent>,
    /// Names of the shares that opened something.
    pub shares: Vec<String>,
    /// Under which policy version; none for what hides nothing, goes to its owner, or is a full disclosure confirmed by hand.
    pub policy: Option<u64>,
    /// SHA-256 over the items as sent.
    pub digest: Hash,
    /// What became of it.
    pub outcome: Outcome,
}

impl Row {
    /// Whether it went to who owns the feed, of which we only write.
    pub fn is_to_owner(&self, us: &PartyId) -> bool {
        self.policy.is_none() && self.origin.parse::<Origin>().is_ok_and(|origin| !origin.is_org() && origin.party() != *us)
    }

    /// What is about to be written down.
    pub(crate) fn of(intent: Intent, number: u64, at: u64) -> Row {
        let Intent { to, origin, way, items, policy, digest } = intent;
        let from = items.sent.iter().map(|sent| sent.seq).min().unwrap_or(0);
        let end = items.sent.iter().map(|sent| sent.seq + 1).max().unwrap_or(0);
        let Items { sent: items, shares } = items;
        Row { number, at, to, origin, way, from, end, items, shares, policy, digest, outcome: way.first_outcome() }
    }

    /// What a partner's receipt tells of a row that was lost.
    pub(crate) fn refilled(to: &str, of: &Delivery, number: u64, at: u64) -> Row {
        Row {
            number,
            at,
            to: to.to_owned(),
            origin: of.origin.clone(),
            way: of.way.into(),
            from: of.from,
            end: of.to,
            items: Vec::new(),
            shares: Vec::new(),
            policy: of.policy,
            digest: of.items,
            outcome: Outcome::Acknowledged,
        }
    }

    /// Whether the row itself was lost and a receipt of the partner stands in its place: which fields left is not known.
    pub fn is_refilled(&self) -> bool {
        self.items.is_empty()
    }

    /// The slots of an entry that this row says left, and the shares behind them; none: it does not speak of it.
    pub fn sent(&self, seq: u64) -> Option<Sent> {
        let at = self.items.binary_search_by_key(&seq, |sent| sent.seq).ok()?;
        Some(self.items[at])
    }

    /// Names of the shares behind something sent.
    pub fn shares_of(&self, sent: &Sent) -> Vec<&str> {
        self.shares.iter().enumerate().filter(|(at, _)| sent.shares >> at & 1 == 1).map(|(_, name)| name.as_str()).collect()
    }

    /// Whether a receipt is for what this row says.
    pub(crate) fn fits(&self, of: &Delivery) -> bool {
        self.origin == of.origin && (self.from, self.end) == (of.from, of.to) && self.digest == of.items && self.policy == of.policy
    }

    fn kept(&self) -> [Value; 5] {
        let policy = codec::optional(self.policy, codec::uint);
        let (to, origin) = (codec::text(self.to.as_str()), codec::text(self.origin.as_str()));
        [codec::uint(self.at), to, origin, policy, codec::bytes(self.digest.0)]
    }
}

/// What became of a row, and the SHA-256 of the receipt that says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Became {
    /// The row's number.
    pub row: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Of the receipt, where there is one.
    pub receipt: Option<Hash>,
}

/// One entry of the ledger's tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// A row of a store made before the ledger was a tree, with what had become of it.
    Former(Row),
    /// About to leave.
    Intent(Row),
    /// What became of rows.
    Outcomes {
        /// When it was written down.
        at: u64,
        /// Of which.
        of: Vec<Became>,
    },
    /// A row that was lost, as the partner's receipt tells it.
    Refilled(Row, Hash),
    /// The home was restored and confirmed: what left between the entry before and this one may be missing.
    Restored {
        /// When it was confirmed.
        at: u64,
    },
}

impl Entry {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        put(codec::array(match self {
            Entry::Former(row) => {
                let tail = [runs_value(&row.items), row.outcome.value()];
                [codec::uint(0)].into_iter().chain(row.kept()).chain(tail).collect::<Vec<_>>()
            }
            Entry::Intent(row) => {
                let names = codec::array(row.shares.iter().map(|name| codec::text(name.as_str())));
                let tail = [row.way.value(), runs_value(&row.items), names];
                [codec::uint(1)].into_iter().chain(row.kept()).chain(tail).collect()
            }
            Entry::Outcomes { at, of } => {
                let one = |of: &Became| {
                    codec::array([codec::uint(of.row), of.outcome.value(), codec::optional(of.receipt, |hash| codec::bytes(hash.0))])
                };
                vec![codec::uint(2), codec::uint(*at), codec::array(of.iter().map(one))]
            }
            Entry::Refilled(row, receipt) => {
                let tail = [row.way.value(), codec::uint(row.from), codec::uint(row.end), codec::bytes(receipt.0)];
                [codec::uint(3)].into_iter().chain(row.kept()).chain(tail).collect()
            }
            Entry::Restored { at } => vec![codec::uint(4), codec::uint(*at)],
        }))
    }

    /// Reads the entry at this place of the tree.
    pub(crate) fn read(number: u64, bytes: &[u8]) -> Result<Entry, StateError> {
        const WHAT: StateError = StateError("ledger entry");
        let value = take(bytes, "ledger entry")?;
        let parts = codec::as_array(&value).unwrap_or_default();
        let (kind, parts) = parts.split_first().ok_or(WHAT)?;
        let entry = match (codec::as_uint(kind), parts) {
            (Some(0), [at, to, origin, policy, digest, runs, outcome]) => {
                let outcome = Outcome::read(outcome).ok_or(WHAT)?;
                let row = read_row(number, [at, to, origin, policy, digest]).ok_or(WHAT)?;
                Some(Entry::Former(Row { outcome, ..with_items(row, read_runs(runs).ok_or(WHAT)?) }))
            }
            (Some(1), [at, to, origin, policy, digest, way, runs, names]) => {
                let row = read_row(number, [at, to, origin, policy, digest]).ok_or(WHAT)?;
                let way = Way::read(way).ok_or(WHAT)?;
                let names = codec::as_array(names).ok_or(WHAT)?.iter().map(|name| codec::as_text(name).map(str::to_owned));
                let shares = names.collect::<Option<Vec<_>>>().ok_or(WHAT)?;
                Some(Entry::Intent(Row { way, shares, outcome: way.first_outcome(), ..with_items(row, read_runs(runs).ok_or(WHAT)?) }))
            }
            (Some(2), [at, of]) => {
                let one = |value: &Value| match codec::as_array(value)? {
                    [row, outcome, receipt] => {
                        Some(Became { row: codec::as_uint(row)?, outcome: Outcome::read(outcome)?, receipt: read_hash(receipt) })
                    }
                    _ => None,
                };
                let of = codec::as_array(of).and_then(|of| of.iter().map(one).collect::<Option<Vec<_>>>());
                codec::as_uint(at).zip(of).map(|(at, of)| Entry::Outcomes { at, of })
            }
            (Some(3), [at, to, origin, policy, digest, way, from, end, receipt]) => {
                let row = read_row(number, [at, to, origin, policy, digest]).ok_or(WHAT)?;
                let (way, outcome) = (Way::read(way).ok_or(WHAT)?, Outcome::Acknowledged);
                let span = codec::as_uint(from).zip(codec::as_uint(end));
                span.zip(read_hash(receipt)).map(|((from, end), receipt)| Entry::Refilled(Row { way, from, end, outcome, ..row }, receipt))
            }
            (Some(4), [at]) => codec::as_uint(at).map(|at| Entry::Restored { at }),
            _ => None,
        };
        entry.ok_or(WHAT)
    }

    /// The row it opens, if it opens one.
    pub(crate) fn into_row(self) -> Option<Row> {
        match self {
            Entry::Former(row) | Entry::Intent(row) | Entry::Refilled(row, _) => Some(row),
            Entry::Outcomes { .. } | Entry::Restored { .. } => None,
        }
    }

    /// A row as it was kept before the ledger was a tree.
    pub(crate) fn read_former(number: u64, bytes: &[u8]) -> Result<Entry, StateError> {
        const WHAT: StateError = StateError("ledger row");
        let value = take(bytes, "ledger row")?;
        let [at, to, origin, items, policy, digest, outcome] = codec::as_array(&value).unwrap_or_default() else {
            return Err(WHAT);
        };
        let item = |item: &Value| match codec::as_array(item)? {
            [seq, mask] => Some(Sent { seq: codec::as_uint(seq)?, mask: read_mask(mask)?, shares: 0 }),
            _ => None,
        };
        let items: Vec<Sent> = codec::as_array(items).and_then(|items| items.iter().map(item).collect()).ok_or(WHAT)?;
        let row = read_row(number, [at, to, origin, policy, digest]).ok_or(WHAT)?;
        Ok(Entry::Former(Row { outcome: Outcome::read(outcome).ok_or(WHAT)?, ..with_items(row, in_order(items)) }))
    }
}

fn read_row(number: u64, [at, to, origin, policy, digest]: [&Value; 5]) -> Option<Row> {
    Some(Row {
        number,
        at: codec::as_uint(at)?,
        to: codec::as_text(to)?.to_owned(),
        origin: codec::as_text(origin)?.to_owned(),
        way: Way::Unknown,
        from: 0,
        end: 0,
        items: Vec::new(),
        shares: Vec::new(),
        policy: codec::as_uint(policy),
        digest: read_hash(digest)?,
        outcome: Outcome::Open,
    })
}

/// Each entry once, in the order of the feed.
fn in_order(mut items: Vec<Sent>) -> Vec<Sent> {
    items.sort_unstable_by_key(|sent| sent.seq);
    items.dedup_by(|twin, kept| {
        let same = twin.seq == kept.seq;
        if same {
            (kept.mask, kept.shares) = (kept.mask | twin.mask, kept.shares | twin.shares);
        }
        same
    });
    items
}

fn with_items(row: Row, items: Vec<Sent>) -> Row {
    let (from, end) = (items.first().map_or(0, |sent| sent.seq), items.last().map_or(0, |sent| sent.seq + 1));
    Row { from, end, items, ..row }
}

fn read_hash(value: &Value) -> Option<Hash> {
    codec::as_bytes(value).and_then(Hash::from_slice)
}

fn read_mask(value: &Value) -> Option<u64> {
    Some(u64::from_be_bytes(codec::as_bytes(value)?.try_into().ok()?))
}

/// Entries that follow each other and left alike, as one: a batch is a few runs. Masks are bytes, since with all 64 slots
/// shown they would not fit a signed number.
pub(crate) fn runs_value(items: &[Sent]) -> Value {
    let follows = |a: &Sent, b: &Sent| b.seq == a.seq + 1 && (b.mask, b.shares) == (a.mask, a.shares);
    let run = |run: &[Sent]| {
        let Sent { seq, mask, shares } = run[0];
        codec::array([codec::uint(seq), codec::uint(run.len() as u64), codec::bytes(mask.to_be_bytes()), codec::uint(shares)])
    };
    codec::array(items.chunk_by(follows).map(run))
}

pub(crate) fn read_runs(value: &Value) -> Option<Vec<Sent>> {
    let mut items: Vec<Sent> = Vec::new();
    for run in codec::as_array(value)? {
        let [first, count, mask, shares] = codec::as_array(run)? else {
            return None;
        };
        let (first, count, mask, shares) = (codec::as_uint(first)?, codec::as_uint(count)?, read_mask(mask)?, codec::as_uint(shares)?);
        let after = items.last().map_or(0, |last| last.seq + 1);
        if first < after || count == 0 || count > ITEMS_MAX || items.len() as u64 + count > ITEMS_MAX {
            return None;
        }
        items.extend((first..first.checked_add(count)?).map(|seq| Sent { seq, mask, shares }));
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(items: Vec<Sent>) -> Row {
        let row = Row {
            number: 7,
            at: 5,
            to: "oem".into(),
            origin: "o".into(),
            way: Way::Batch,
            from: 0,
            end: 0,
            items: Vec::new(),
            shares: vec!["a".into(), "b".into()],
            policy: Some(3),
            digest: Hash([9; 32]),
            outcome: Outcome::Open,
        };
        with_items(row, items)
    }

    #[test]
    fn entries_are_read_back_and_a_batch_is_a_few_runs() {
        let batch = row((3..259).map(|seq| Sent { seq, mask: if seq == 100 { 0 } else { u64::MAX }, shares: 1 }).collect());
        let bytes = Entry::Intent(batch.clone()).to_bytes();
        assert!(bytes.len() < 200, "{} bytes for a batch", bytes.len());
        let refilled = Row { items: Vec::new(), shares: Vec::new(), outcome: Outcome::Acknowledged, ..batch.clone() };
        let became = Became { row: 2, outcome: Outcome::Cut, receipt: None };
        for entry in [
            Entry::Intent(batch.clone()),
            Entry::Former(Row { way: Way::Unknown, shares: Vec::new(), outcome: Outcome::NotSent, ..batch.clone() }),
            Entry::Outcomes { at: 4, of: vec![became, Became { receipt: Some(Hash([1; 32])), outcome: Outcome::Acknowledged, ..became }] },
            Entry::Refilled(refilled, Hash([2; 32])),
            Entry::Restored { at: 9 },
        ] {
            let bytes = entry.to_bytes();
            assert_eq!(Entry::read(7, &bytes).unwrap(), entry);
            for cut in 0..bytes.len() {
                assert!(Entry::read(7, &bytes[..cut]).is_err());
            }
        }
        assert_eq!(batch.sent(100).map(|sent| sent.mask), Some(0));
        assert_eq!(batch.sent(2), None);
        assert_eq!(batch.shares_of(&batch.items[0]), ["a"]);
    }

    #[test]
    fn runs_that_overlap_or_have_no_end_are_refused() {
        let run = |first: u64, count: u64| codec::array([codec::uint(first), codec::uint(count), codec::bytes([0; 8]), codec::uint(0)]);
        assert_eq!(read_runs(&codec::array([run(4, 2), run(6, 1)])).unwrap().len(), 3);
        for wrong in [vec![run(4, 2), run(5, 1)], vec![run(0, ITEMS_MAX + 1)], vec![run(i64::MAX as u64, 2), run(1, 1)], vec![Value::Null]]
        {
            assert_eq!(read_runs(&codec::array(wrong)), None);
        }
    }

    #[test]
    fn more_shares_than_a_row_names_are_told_under_one_mark() {
        let mut items = Items::default();
        let bits: Vec<u64> = (0..40).map(|at| items.share(&format!("share {at}"))).collect();
        assert_eq!((items.shares.len(), items.shares.last().map(String::as_str)), (SHARES_MAX, Some(FURTHER_SHARES)));
        assert!(bits[..31].iter().enumerate().all(|(at, bit)| *bit == 1 << at) && bits[31..].iter().all(|bit| *bit == 1 << 31));
        let sent = |seq| Sent { seq, mask: 1, shares: 1 };
        let rows = Items { sent: (0..600).rev().map(sent).collect(), shares: Vec::new() }.rows();
        assert_eq!(rows.iter().map(|row| row.sent.len()).collect::<Vec<_>>(), [256, 256, 88]);
        assert!(rows.windows(2).all(|pair| pair[0].sent.last().unwrap().seq < pair[1].sent[0].seq));
    }
}
