//! What one commit holds, and its bytes. The store knows which record an entry belongs to, never what it means.
//!
//! All numbers are little-endian; `blob` is a u32 length and that many bytes; `text?` is a byte 0, or 1 and a blob.
//!
//! ```text
//! 1 statement    feed u32, seq u64, leaf [32], core blob, summary blob, lot text?, part text?
//! 2 disclosures  feed u32, seq u64, blob of: (slot u8, blob)*
//! 3 hidden       feed u32, seq u64, leaf [32]
//! 4 describe     feed u32, seq u64, summary blob, lot text?, part text?
//! 5 set state    key blob, value blob
//! 6 delete state key blob
//! 7 forgotten    feed u32, seq u64, slots u64, at u64, why blob, summary blob, lot text?, part text?
//! ```
//!
//! **What was forgotten** (see `forget`) is blanked where it stood, in as many bytes: a disclosure becomes one of slot
//! `BLANK` with zeros in it, and summary, lot and part of an older statement or description become one summary of zeros.

use std::collections::BTreeMap;

use super::frame::HEAD_BYTES;

/// A statement has at most 64 slots (design section 10); one mask word holds which of them an entry opens.
pub(super) const SLOTS_MAX: u8 = 64;
/// The slot of a disclosure that was blanked.
const BLANK: u8 = 0xff;
/// Lot numbers, part numbers and state keys become keys of the index, which copies whole leaves of them.
pub(super) const KEY_BYTES_MAX: usize = 4096;

/// One thing to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A signed record at its place in a feed.
    Statement {
        /// Local number of the feed.
        feed: u32,
        /// Place in the feed.
        seq: u64,
        /// Leaf hash.
        leaf: [u8; 32],
        /// Signed bytes, kept as they are.
        core: Vec<u8>,
        /// What lists and filters show.
        summary: Vec<u8>,
        /// Findable under this lot.
        lot: Option<String>,
        /// Findable under this part.
        part: Option<String>,
    },
    /// Opened slots of a record. They may come later and in parts; a slot already open stays as it is. A record does
    /// not show before its statement, or its leaf hash, is there too.
    Disclosures {
        /// Local number of the feed.
        feed: u32,
        /// Place in the feed.
        seq: u64,
        /// Slot number (below 64) and disclosure.
        slots: Vec<(u8, Vec<u8>)>,
    },
    /// An entry of a foreign feed of which only the leaf hash is known. A statement replaces it.
    Hidden {
        /// Local number of the feed.
        feed: u32,
        /// Place in the feed.
        seq: u64,
        /// Leaf hash.
        leaf: [u8; 32],
    },
    /// A new summary and new index terms for a record.
    Describe {
        /// Local number of the feed.
        feed: u32,
        /// Place in the feed.
        seq: u64,
        /// What lists and filters show from now on.
        summary: Vec<u8>,
        /// Findable under this lot from now on.
        lot: Option<String>,
        /// Findable under this part from now on.
        part: Option<String>,
    },
    /// Slots of a record that were forgotten, and what is shown of it from now on. They never open again, whatever comes.
    /// Only in what is given to `Store::forget`.
    Forgotten {
        /// Local number of the feed.
        feed: u32,
        /// Place in the feed.
        seq: u64,
        /// The slots, a bit each. Their digests stay, in the signed bytes.
        slots: u64,
        /// When, in seconds since 1970.
        at: u64,
        /// Why, in a word or two.
        why: String,
        /// What lists and filters show from now on.
        summary: Vec<u8>,
        /// Findable under this lot from now on.
        lot: Option<String>,
        /// Findable under this part from now on.
        part: Option<String>,
    },
    /// Changing state: the last value of a key counts, `None` deletes it.
    State {
        /// Its name.
        key: Vec<u8>,
        /// Its value.
        value: Option<Vec<u8>>,
    },
}

/// What is saved together: all of it or nothing. Entries are encoded as they are pushed, so a commit only adds the
/// frame head and writes.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Room for the frame head, then the entries.
    pub(super) bytes: Vec<u8>,
    pub(super) entries: u32,
    pub(super) refused: Option<&'static str>,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch { bytes: vec![0; HEAD_BYTES], entries: 0, refused: None }
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds an entry. A value out of bounds is refused by `commit`.
    pub fn push(&mut self, entry: Entry) {
        self.entries += 1;
        match entry {
            Entry::Statement { feed, seq, leaf, core, summary, lot, part } => {
                self.head(1, feed, seq);
                self.bytes.extend_from_slice(&leaf);
                self.blob(&core);
                self.described(&summary, lot, part);
            }
            Entry::Disclosures { feed, seq, slots } => {
                self.head(2, feed, seq);
                let len: usize = slots.iter().map(|(_, d)| 5 + d.len()).sum();
                self.bytes.extend_from_slice(&(len as u32).to_le_bytes());
                for (slot, disclosure) in slots {
                    if slot >= SLOTS_MAX {
                        self.refused = Some("a record has at most 64 slots");
                    }
                    self.bytes.push(slot);
                    self.blob(&disclosure);
                }
            }
            Entry::Hidden { feed, seq, leaf } => {
                self.head(3, feed, seq);
                self.bytes.extend_from_slice(&leaf);
            }
            Entry::Describe { feed, seq, summary, lot, part } => {
                self.head(4, feed, seq);
                self.described(&summary, lot, part);
            }
            Entry::Forgotten { feed, seq, slots, at, why, summary, lot, part } => {
                self.head(7, feed, seq);
                self.bytes.extend_from_slice(&slots.to_le_bytes());
                self.bytes.extend_from_slice(&at.to_le_bytes());
                self.key(why.as_bytes());
                self.described(&summary, lot, part);
            }
            Entry::State { key, value } => {
                self.bytes.push(if value.is_some() { 5 } else { 6 });
                self.key(&key);
                if let Some(value) = value {
                    self.blob(&value);
                }
            }
        }
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// How many entries were pushed.
    pub fn len(&self) -> usize {
        self.entries as usize
    }

    /// Its size in the journal, for the bound on a group commit.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    fn head(&mut self, tag: u8, feed: u32, seq: u64) {
        self.bytes.push(tag);
        self.bytes.extend_from_slice(&feed.to_le_bytes());
        self.bytes.extend_from_slice(&seq.to_le_bytes());
    }

    fn described(&mut self, summary: &[u8], lot: Option<String>, part: Option<String>) {
        self.blob(summary);
        for term in [lot, part] {
            self.bytes.push(u8::from(term.is_some()));
            if let Some(term) = term {
                self.key(term.as_bytes());
            }
        }
    }

    fn key(&mut self, key: &[u8]) {
        if key.len() > KEY_BYTES_MAX {
            self.refused = Some("a lot number, part number or key has more than 4096 bytes");
        }
        self.blob(key);
    }

    // A length beyond u32 would wrap here; such a batch is larger than any segment and refused for that.
    fn blob(&mut self, blob: &[u8]) {
        self.bytes.extend_from_slice(&(blob.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(blob);
    }
}

/// A piece of a frame's body: offset from the start of the body, and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) at: u32,
    pub(super) len: u32,
}

/// An entry read back, borrowed from its frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Record { feed: u32, seq: u64, news: News<'a> },
    State { key: &'a [u8], value: Option<&'a [u8]> },
}

/// What an entry says about its record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News<'a> {
    Statement { leaf: [u8; 32], core: Span, shown: Shown<'a> },
    Disclosures { payload: Span, slots: u64 },
    Hidden { leaf: [u8; 32] },
    Describe { shown: Shown<'a> },
    Forgotten { slots: u64, at: u64, why: &'a str, shown: Shown<'a> },
}

/// What lists show of a record, and what it is found by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown<'a> {
    pub(super) summary: &'a [u8],
    pub(super) lot: Option<&'a str>,
    pub(super) part: Option<&'a str>,
    /// All three, the length in front of the summary included.
    span: Span,
}

/// Reads the entries of a frame's body; `None` when it is not one.
pub(super) fn items(body: &[u8], mut each: impl FnMut(Item<'_>)) -> Option<()> {
    let mut bytes = Bytes { body, at: 0 };
    while bytes.at < body.len() {
        each(bytes.item()?);
    }
    Some(())
}

/// The records a frame's body has entries for, as far as it can be read; for reports on damage only.
pub(super) fn records(body: &[u8]) -> Vec<(u32, u64)> {
    let mut found = Vec::new();
    let _ = items(body, |item| {
        if let Item::Record { feed, seq, .. } = item {
            found.push((feed, seq));
        }
    });
    found.sort_unstable();
    found.dedup();
    found
}

/// Reads the payload of a disclosures entry; `None` when it is not one.
pub(super) fn slots(payload: &[u8], mut each: impl FnMut(u8, &[u8])) -> Option<()> {
    let mut bytes = Bytes { body: payload, at: 0 };
    while bytes.at < payload.len() {
        let slot = bytes.take(1)?[0];
        each(slot, bytes.blob()?.0);
    }
    Some(())
}

/// Slots to be forgotten, by feed and place.
pub(super) type Orders = BTreeMap<(u32, u64), u64>;

/// The slots that a frame's body says were forgotten.
pub(super) fn orders(body: &[u8], into: &mut Orders) {
    // A body with a right checksum was written by us; what does not read orders nothing.
    let _ = items(body, |item| {
        if let Item::Record { feed, seq, news: News::Forgotten { slots, .. } } = item {
            *into.entry((feed, seq)).or_default() |= slots;
        }
    });
}

/// Blanks what is to be forgotten in a frame's body, and everything that lists showed of these records. Whether a byte of
/// it changed; none when it is no body.
pub(super) fn blank(body: &mut [u8], orders: &Orders) -> Option<bool> {
    let (mut payloads, mut shown_before) = (Vec::new(), Vec::new());
    items(body, |item| {
        let Item::Record { feed, seq, news } = item else { return };
        let Some(slots) = orders.get(&(feed, seq)) else { return };
        match news {
            News::Disclosures { payload, slots: here } if here & slots != 0 => payloads.push((payload, *slots)),
            News::Statement { shown, .. } | News::Describe { shown } | News::Forgotten { shown, .. } => shown_before.push(shown.span),
            News::Disclosures { .. } | News::Hidden { .. } => {}
        }
    })?;
    let mut changed = !payloads.is_empty();
    for (Span { at, len }, slots) in payloads {
        blank_slots(&mut body[at as usize..(at + len) as usize], slots)?;
    }
    for Span { at, len } in shown_before {
        let blanked = &mut body[at as usize..(at + len) as usize];
        // A summary of zeros that takes the room of all three, then neither lot nor part.
        let summary = len.checked_sub(6)?.to_le_bytes();
        let wanted = summary.into_iter().chain(std::iter::repeat(0));
        for (byte, wanted) in blanked.iter_mut().zip(wanted) {
            changed |= *byte != wanted;
            *byte = wanted;
        }
    }
    Some(changed)
}

fn blank_slots(payload: &mut [u8], slots: u64) -> Option<()> {
    let mut at = 0;
    while at < payload.len() {
        let mut bytes = Bytes { body: payload, at };
        let (slot, (_, span)) = (bytes.take(1)?[0], bytes.blob()?);
        let next = bytes.at;
        if slot < SLOTS_MAX && slots >> slot & 1 == 1 {
            payload[at] = BLANK;
            payload[span.at as usize..(span.at + span.len) as usize].fill(0);
        }
        at = next;
    }
    Some(())
}

/// A cursor that never reads beyond its slice.
pub(super) struct Bytes<'a> {
    pub(super) body: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let taken = self.body.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn blob(&mut self) -> Option<(&'a [u8], Span)> {
        let len = self.u32()?;
        let span = Span { at: self.at as u32, len };
        Some((self.take(len as usize)?, span))
    }

    pub(super) fn text(&mut self) -> Option<Option<&'a str>> {
        match self.take(1)?[0] {
            0 => Some(None),
            1 => Some(Some(std::str::from_utf8(self.blob()?.0).ok()?)),
            _ => None,
        }
    }

    fn item(&mut self) -> Option<Item<'a>> {
        let tag = self.take(1)?[0];
        if tag == 5 || tag == 6 {
            let key = self.blob()?.0;
            let value = if tag == 5 { Some(self.blob()?.0) } else { None };
            return Some(Item::State { key, value });
        }
        let (feed, seq) = (self.u32()?, self.u64()?);
        let news = match tag {
            1 => News::Statement { leaf: self.array()?, core: self.blob()?.1, shown: self.shown()? },
            2 => {
                let (payload, span) = self.blob()?;
                let mut mask = 0;
                slots(payload, |slot, _| mask |= 1u64.checked_shl(slot.into()).unwrap_or(0))?;
                News::Disclosures { payload: span, slots: mask }
            }
            3 => News::Hidden { leaf: self.array()? },
            4 => News::Describe { shown: self.shown()? },
            7 => {
                let (slots, at) = (self.u64()?, self.u64()?);
                let why = std::str::from_utf8(self.blob()?.0).ok()?;
                News::Forgotten { slots, at, why, shown: self.shown()? }
            }
            _ => return None,
        };
        Some(Item::Record { feed, seq, news })
    }

    fn shown(&mut self) -> Option<Shown<'a>> {
        let at = self.at;
        let (summary, lot, part) = (self.blob()?.0, self.text()?, self.text()?);
        Some(Shown { summary, lot, part, span: Span { at: at as u32, len: (self.at - at) as u32 } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_no_cut_panics() {
        let mut batch = Batch::new();
        let (core, summary) = (vec![7; 10], vec![1, 2]);
        batch.push(Entry::Statement { feed: 3, seq: 9, leaf: [4; 32], core, summary, lot: Some("L1".into()), part: None });
        batch.push(Entry::Disclosures { feed: 3, seq: 9, slots: vec![(0, vec![1]), (63, vec![])] });
        batch.push(Entry::State { key: b"k".to_vec(), value: None });
        let body = &batch.bytes[HEAD_BYTES..];
        let mut seen = Vec::new();
        items(body, |i| seen.push(format!("{i:?}"))).unwrap();
        assert_eq!(seen.len(), 3);
        assert!(seen[0].contains("lot: Some(\"L1\"), part: None"), "{}", seen[0]);
        assert!(seen[1].contains(&format!("slots: {}", 1u64 << 63 | 1)), "{}", seen[1]);
        assert_eq!(records(body), [(3, 9)]);
        for n in 0..body.len() {
            let _ = items(&body[..n], |_| ());
        }
    }

    #[test]
    fn what_is_forgotten_is_blanked_in_its_place() {
        let mut batch = Batch::new();
        let (core, summary) = (vec![7; 10], b"secret".to_vec());
        batch.push(Entry::Statement { feed: 3, seq: 9, leaf: [4; 32], core, summary, lot: Some("L-secret".into()), part: None });
        batch.push(Entry::Disclosures { feed: 3, seq: 9, slots: vec![(0, b"kept".to_vec()), (5, b"secret".to_vec())] });
        batch.push(Entry::Disclosures { feed: 3, seq: 8, slots: vec![(5, b"another".to_vec())] });
        let before = batch.bytes[HEAD_BYTES..].to_vec();
        let (mut body, mut orders) = (before.clone(), Orders::new());
        let mut order = Batch::new();
        let why = "test".to_owned();
        order.push(Entry::Forgotten { feed: 3, seq: 9, slots: 1 << 5, at: 1, why, summary: vec![], lot: None, part: None });
        super::orders(&order.bytes[HEAD_BYTES..], &mut orders);
        assert_eq!(blank(&mut body, &orders), Some(true));
        assert_eq!(body.len(), before.len());
        let holds = |text: &[u8]| body.windows(text.len()).any(|at| at == text);
        assert!(holds(b"kept") && holds(b"another") && !holds(b"secret"));
        let mut seen = Vec::new();
        items(&body, |i| seen.push(format!("{i:?}"))).unwrap();
        assert!(seen.len() == 3 && seen[0].contains("lot: None, part: None"), "{seen:?}");
        assert!(seen[1].contains("slots: 1 ") && seen[2].contains("slots: 32 "), "{seen:?}");
        assert_eq!(blank(&mut body.clone(), &orders), Some(false), "once is enough");
        for n in 0..before.len() {
            let _ = blank(&mut before[..n].to_vec(), &orders);
        }
    }

    #[test]
    fn bounds_are_remembered() {
        let mut batch = Batch::new();
        batch.push(Entry::Disclosures { feed: 0, seq: 0, slots: vec![(64, vec![])] });
        assert!(batch.refused.is_some());
        let mut batch = Batch::new();
        batch.push(Entry::State { key: vec![0; KEY_BYTES_MAX + 1], value: None });
        assert!(batch.refused.is_some());
    }
}
