//! Messages and their frames: u32 length of type and body, u8 type, body in deterministic CBOR.

use lotline_schema::Hash;
use lotline_schema::codec::{self, CodecError, Fields, Value};
use lotline_schema::deletion::DELETION_BYTES_MAX;
use lotline_schema::slot::Disclosure;
use lotline_schema::terms::{ACCEPTANCE_BYTES_MAX, TERMS_MAX};
use lotline_schema::view::SealedView;

use super::{BATCH_ENTRIES_MAX, FRAME_BYTES_MAX};
use crate::feeds::terms::{OFFERS_MAX, offers_value, read_offer};
use crate::feeds::witness::GIVEN_MAX;
use crate::feeds::{Backfill, Item, LETTER_BYTES_MAX, Offer, Received, Under};

/// Version of the protocol; the number in the protocol's name is the incompatible one.
pub const VERSION: u64 = 1;

/// The most lines of a catalog. The smallest listing has four bytes, and many times that once it is read.
const LISTINGS_MAX: usize = 1024;

/// The most receipts sent again at once: those of the frames that may have been under way.
pub const RECEIPTS_MAX: usize = 4;

/// What names a page of receipts: a key of the giver's store.
const PAGE_BYTES_MAX: usize = 256;

/// Why a stream ends. `NoSuchFeed` answers for "forbidden" and for "does not exist" alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// Try again later.
    Busy,
    /// No feed of that name for you.
    NoSuchFeed,
    /// Sharing ended.
    Revoked,
    /// Your cursor is beyond our head: our past was lost, or is not the one you saw.
    CursorAhead,
    /// Your root at the cursor is not ours.
    Fork,
    /// What you sent is not the protocol.
    Malformed,
    /// A message that does not belong here.
    Unexpected,
    /// We share nothing with anybody for now: our clock cannot be believed, or our home was restored.
    Paused,
    /// We froze your feed: something in it does not hold.
    Frozen,
}

impl Code {
    const ALL: [(Code, u64); 9] = [
        (Code::Busy, 101),
        (Code::Paused, 105),
        (Code::NoSuchFeed, 202),
        (Code::Revoked, 203),
        (Code::CursorAhead, 303),
        (Code::Fork, 304),
        (Code::Malformed, 403),
        (Code::Unexpected, 404),
        (Code::Frozen, 501),
    ];

    fn number(self) -> u64 {
        Code::ALL.iter().find(|(code, _)| *code == self).map(|(_, number)| *number).expect("ALL lists every code")
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Code::Busy => "busy, try again later",
            Code::Paused => "the partner has paused sharing with everybody",
            Code::NoSuchFeed => "no such feed",
            Code::Revoked => "sharing ended",
            Code::CursorAhead => "the partner has fewer entries than we have seen: its past was lost or changed",
            Code::Fork => "the partner's past is not the one we have seen",
            Code::Malformed => "not the protocol",
            Code::Unexpected => "a message that does not belong here",
            Code::Frozen => "the feed is frozen: something in it did not hold",
        })
    }
}

/// One line of the catalog.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    /// Origin of the feed.
    pub origin: String,
    /// Its size.
    pub size: u64,
    /// The share's own filter in words.
    pub term: String,
}

/// A witness's cosignature on the wire, with the key it was made with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cosigned {
    /// Size of the checkpoint.
    pub size: u64,
    /// The witness's verifier key (C2SP).
    pub key: String,
    /// The cosignature line.
    pub line: String,
}

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// First on the control stream, both ways.
    Hello {
        /// [`VERSION`].
        version: u64,
        /// What the sender calls itself.
        name: String,
        /// Its clock, in seconds since 1970.
        now: u64,
    },
    /// The feeds this partner may follow.
    Catalog(Vec<Listing>),
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
    /// Asks for a feed from a cursor on.
    Open {
        /// Origin of the feed.
        origin: String,
        /// The next index.
        next: u64,
        /// The root of everything before.
        root: Hash,
        /// The view it was taken under so far.
        view: Option<Hash>,
        /// Bytes that may be sent without an acknowledgement.
        credit: u64,
    },
    /// Yes.
    Opened {
        /// The view it is sent under.
        view: Hash,
        /// Size of the feed now.
        size: u64,
        /// Entries of the owner's org feed needed to verify it.
        org_size: u64,
        /// The share's own filter in words.
        term: String,
        /// No receipt is here for the entry before the cursor: nothing goes out before it comes again.
        owed: bool,
    },
    /// Receipts that were given before and did not arrive.
    Receipts(Vec<Vec<u8>>),
    /// Consecutive entries.
    Batch(Received),
    /// Everything before `next` is verified and durable; one for each batch and backfill, in their order.
    Ack {
        /// The next index.
        next: u64,
        /// Bytes that may be sent in addition.
        credit: u64,
        /// The delivery receipt for it ([`lotline_schema::delivery`]); none for an org feed, which hides nothing.
        receipt: Option<Vec<u8>>,
    },
    /// The receiver's cosignature on a checkpoint it has met.
    Cosigned(Cosigned),
    /// The reader has met the head.
    CaughtUp {
        /// Size at that moment.
        size: u64,
    },
    /// Entries before the cursor that may be seen now.
    Backfill(Backfill),
    /// The rules changed; it goes on under another view.
    View {
        /// The new view.
        view: Hash,
        /// The share's own filter in words.
        term: String,
    },
    /// A restored home asks for the receipts it was given: its ledger may lack rows. May be skipped.
    Lost {
        /// Receipts from this time on, by the giver's clock.
        since: u64,
        /// Where the page before said that the next begins.
        after: Option<Vec<u8>>,
    },
    /// A page of them. May be skipped.
    Given {
        /// Delivery receipts.
        receipts: Vec<Vec<u8>>,
        /// Where the next page begins; none: that was all.
        next: Option<Vec<u8>>,
    },
    /// The terms that the sender asks for, all of them each time. May be skipped.
    Terms(Vec<Offer>),
    /// What the sender accepted of the other side's terms: a signed acceptance ([`lotline_schema::terms`]). May be skipped.
    Accept(Vec<u8>),
    /// The sender deleted what it promised the other side to: a signed report ([`lotline_schema::deletion`]). May be skipped, and
    /// is said again at the next connection until it is answered.
    Deleted(Vec<u8>),
    /// The report of this number is kept. May be skipped.
    Noted(u64),
    /// A customer's requirements, or our answer to them: the signed file. May be skipped.
    Letter(Vec<u8>),
    /// The stream ends.
    Error(Code),
}

/// Bytes that are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A frame of no or too many bytes.
    #[error("a frame of {0} bytes (1 to {FRAME_BYTES_MAX} are allowed)")]
    Length(usize),
    /// An unknown type.
    #[error("a message of unknown type {0}")]
    Type(u8),
    /// A body out of form.
    #[error("a message out of form: {0}")]
    Body(#[from] CodecError),
}

/// A type with this bit set may be skipped by those who do not know it.
const SKIPPABLE: u8 = 0x80;

impl Message {
    fn typ(&self) -> u8 {
        match self {
            Message::Hello { .. } => 1,
            Message::Catalog(_) => 2,
            Message::Ping => 3,
            Message::Pong => 4,
            Message::Open { .. } => 16,
            Message::Opened { .. } => 17,
            Message::Batch(_) => 18,
            Message::Ack { .. } => 19,
            Message::CaughtUp { .. } => 20,
            Message::Backfill(_) => 21,
            Message::View { .. } => 22,
            Message::Cosigned(_) => 23,
            Message::Receipts(_) => 24,
            Message::Error(_) => 32,
            Message::Lost { .. } => SKIPPABLE | 5,
            Message::Given { .. } => SKIPPABLE | 6,
            Message::Terms(_) => SKIPPABLE | 7,
            Message::Accept(_) => SKIPPABLE | 8,
            Message::Deleted(_) => SKIPPABLE | 9,
            Message::Noted(_) => SKIPPABLE | 10,
            Message::Letter(_) => SKIPPABLE | 14,
        }
    }

    /// The whole frame.
    pub fn to_frame(&self) -> Vec<u8> {
        let mut frame = vec![0, 0, 0, 0, self.typ()];
        self.put_body(&mut frame);
        let length = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        frame
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        let body = match self {
            Message::Hello { version, name, now } => {
                codec::map([(1, codec::uint(*version)), (2, codec::text(name.as_str())), (3, codec::uint(*now))])
            }
            Message::Catalog(listings) => {
                let listing =
                    |of: &Listing| codec::array([codec::text(of.origin.as_str()), codec::uint(of.size), codec::text(of.term.as_str())]);
                codec::map([(1, codec::array(listings.iter().map(listing)))])
            }
            Message::Ping | Message::Pong => codec::map([]),
            Message::Open { origin, next, root, view, credit } => codec::map([
                (1, codec::text(origin.as_str())),
                (2, codec::uint(*next)),
                (3, codec::bytes(root.0)),
                (4, codec::optional(*view, |view| codec::bytes(view.0))),
                (5, codec::uint(*credit)),
            ]),
            Message::Opened { view, size, org_size, term, owed } => {
                let owed = owed.then_some((5, Value::Bool(true)));
                let rest = [(2, codec::uint(*size)), (3, codec::uint(*org_size)), (4, codec::text(term.as_str()))];
                codec::map([(1, codec::bytes(view.0))].into_iter().chain(rest).chain(owed))
            }
            Message::Receipts(receipts) => codec::map([(1, codec::array(receipts.iter().map(|receipt| codec::bytes(receipt.as_slice()))))]),
            Message::Batch(batch) => return put_batch(out, batch),
            Message::Ack { next, credit, receipt } => {
                let receipt = receipt.as_ref().map(|receipt| (3, codec::bytes(receipt.as_slice())));
                codec::map([(1, codec::uint(*next)), (2, codec::uint(*credit))].into_iter().chain(receipt))
            }
            Message::Cosigned(Cosigned { size, key, line }) => {
                codec::map([(1, codec::uint(*size)), (2, codec::text(key.as_str())), (3, codec::text(line.as_str()))])
            }
            Message::CaughtUp { size } => codec::map([(1, codec::uint(*size))]),
            Message::Backfill(backfill) => return put_backfill(out, backfill),
            Message::View { view, term } => codec::map([(1, codec::bytes(view.0)), (2, codec::text(term.as_str()))]),
            Message::Lost { since, after } => {
                let after = after.as_ref().map(|after| (2, codec::bytes(after.as_slice())));
                codec::map([(1, codec::uint(*since))].into_iter().chain(after))
            }
            Message::Given { receipts, next } => {
                let next = next.as_ref().map(|next| (2, codec::bytes(next.as_slice())));
                let receipts = codec::array(receipts.iter().map(|receipt| codec::bytes(receipt.as_slice())));
                codec::map([(1, receipts)].into_iter().chain(next))
            }
            Message::Terms(offers) => codec::map([(1, offers_value(offers))]),
            Message::Accept(core) | Message::Deleted(core) => codec::map([(1, codec::bytes(core.as_slice()))]),
            Message::Noted(number) => codec::map([(1, codec::uint(*number))]),
            Message::Letter(file) => codec::map([(1, codec::bytes(file.as_slice()))]),
            Message::Error(code) => codec::map([(1, codec::uint(code.number()))]),
        };
        codec::put(out, &body);
    }

    /// Reads type and body; none for a message we may skip.
    pub fn read(frame: &[u8]) -> Result<Option<Message>, MessageError> {
        let Some((typ, body)) = frame.split_first().filter(|_| frame.len() <= FRAME_BYTES_MAX) else {
            return Err(MessageError::Length(frame.len()));
        };
        let known = matches!(typ, 1..=4 | 16..=24 | 32 | 0x85..=0x8a | 0x8e);
        if !known {
            return if typ & SKIPPABLE != 0 { Ok(None) } else { Err(MessageError::Type(*typ)) };
        }
        let mut fields = Fields::of(codec::decode(body)?)?;
        let message = read_body(*typ, &mut fields)?;
        Ok(Some(message))
    }
}

/// Bulk is laid out directly: a batch is the hot path, and its bytes are the store's.
fn put_batch(out: &mut Vec<u8>, batch: &Received) {
    codec::put_head(out, 5, 4 + u64::from(batch.policy.is_some()) + u64::from(!batch.under.is_empty()));
    codec::put_int(out, 1);
    codec::put_head(out, 0, batch.from);
    codec::put_int(out, 2);
    put_items(out, &batch.items);
    codec::put_int(out, 3);
    codec::put_text(out, &batch.checkpoint);
    codec::put_int(out, 4);
    codec::put_head(out, 4, batch.tail.len() as u64);
    for hash in &batch.tail {
        codec::put_bytes(out, &hash.0);
    }
    put_policy(out, batch.policy);
    put_under(out, &batch.under);
}

fn put_policy(out: &mut Vec<u8>, policy: Option<u64>) {
    if let Some(version) = policy {
        codec::put_int(out, 5);
        codec::put_head(out, 0, version);
    }
}

/// Only for a partner that accepted terms: without them a message has the bytes it always had.
fn put_under(out: &mut Vec<u8>, under: &[Under]) {
    if under.is_empty() {
        return;
    }
    codec::put_int(out, 6);
    codec::put_head(out, 4, under.len() as u64);
    for Under { terms, slots } in under {
        codec::put_head(out, 4, 2);
        codec::put_bytes(out, &terms.0);
        codec::put_head(out, 4, slots.len() as u64);
        for (seq, mask) in slots {
            codec::put_head(out, 4, 2);
            codec::put_head(out, 0, *seq);
            codec::put_head(out, 0, *mask);
        }
    }
}

fn put_items(out: &mut Vec<u8>, items: &[Item]) {
    codec::put_head(out, 4, items.len() as u64);
    for item in items {
        match item {
            Item::Hidden(leaf) => codec::put_bytes(out, &leaf.0),
            Item::View(view) => {
                codec::put_head(out, 4, 2);
                put_view(out, view);
            }
        }
    }
}

/// SHA-256 over the items of a batch as they stand in the message: what a delivery receipt names.
pub fn items_digest(items: &[Item]) -> Hash {
    let mut bytes = Vec::with_capacity(super::BATCH_BYTES_MAX);
    put_items(&mut bytes, items);
    Hash::of(&[&bytes])
}

/// The same for a backfill.
pub fn backfill_digest(items: &[(u64, SealedView)]) -> Hash {
    let mut bytes = Vec::with_capacity(super::BATCH_BYTES_MAX);
    put_backfilled(&mut bytes, items);
    Hash::of(&[&bytes])
}

/// How many bytes a view takes in a frame.
pub fn view_bytes(view: &SealedView) -> u64 {
    let mut out = Vec::new();
    put_view(&mut out, view);
    out.len() as u64
}

fn put_view(out: &mut Vec<u8>, view: &SealedView) {
    codec::put_bytes(out, &view.core);
    codec::put_head(out, 4, view.disclosures.len() as u64);
    for disclosure in &view.disclosures {
        codec::put_bytes(out, disclosure.bytes());
    }
}

fn put_backfill(out: &mut Vec<u8>, backfill: &Backfill) {
    codec::put_head(out, 5, 1 + u64::from(backfill.policy.is_some()) + u64::from(!backfill.under.is_empty()));
    codec::put_int(out, 1);
    put_backfilled(out, &backfill.items);
    put_policy(out, backfill.policy);
    put_under(out, &backfill.under);
}

fn put_backfilled(out: &mut Vec<u8>, items: &[(u64, SealedView)]) {
    codec::put_head(out, 4, items.len() as u64);
    for (seq, view) in items {
        codec::put_head(out, 4, 3);
        codec::put_head(out, 0, *seq);
        put_view(out, view);
    }
}

fn read_body(typ: u8, fields: &mut Fields) -> Result<Message, CodecError> {
    let hash =
        |fields: &mut Fields, key, what| fields.bytes(key, what).and_then(|bytes| Hash::from_slice(&bytes).ok_or(CodecError::Shape(what)));
    Ok(match typ {
        1 => Message::Hello { version: fields.uint(1, "no version")?, name: fields.text(2, "no name")?, now: fields.uint(3, "no clock")? },
        2 => {
            let listings = fields.array(1, "no listings")?;
            if listings.len() > LISTINGS_MAX {
                return Err(CodecError::Shape("too many listings in a catalog"));
            }
            Message::Catalog(listings.iter().map(read_listing).collect::<Result<_, _>>()?)
        }
        3 => Message::Ping,
        4 => Message::Pong,
        16 => Message::Open {
            origin: fields.text(1, "no feed")?,
            next: fields.uint(2, "no cursor")?,
            root: hash(fields, 3, "no root")?,
            view: match fields.need(4, "no view")? {
                Value::Null => None,
                Value::Bytes(view) => Some(Hash::from_slice(&view).ok_or(CodecError::Shape("a view of another length"))?),
                _ => return Err(CodecError::Shape("no view")),
            },
            credit: fields.uint(5, "no credit")?,
        },
        17 => Message::Opened {
            view: hash(fields, 1, "no view")?,
            size: fields.uint(2, "no size")?,
            org_size: fields.uint(3, "no org size")?,
            term: fields.text(4, "no term")?,
            owed: match fields.take(5) {
                None => false,
                Some(Value::Bool(true)) => true,
                Some(_) => return Err(CodecError::Shape("a mark out of form")),
            },
        },
        18 => {
            let items = fields.array(2, "no items")?;
            if items.len() > BATCH_ENTRIES_MAX {
                return Err(CodecError::Shape("too many entries in a batch"));
            }
            let tail = fields.array(4, "no tail")?;
            let tail_hash = |item: &Value| codec::as_bytes(item).and_then(Hash::from_slice);
            Message::Batch(Received {
                from: fields.uint(1, "no place")?,
                items: items.into_iter().map(read_item).collect::<Result<_, _>>()?,
                checkpoint: fields.text(3, "no checkpoint")?,
                tail: tail.iter().map(tail_hash).collect::<Option<_>>().ok_or(CodecError::Shape("a tail of something else than hashes"))?,
                policy: read_policy(fields)?,
                under: read_under(fields)?,
            })
        }
        19 => Message::Ack {
            next: fields.uint(1, "no cursor")?,
            credit: fields.uint(2, "no credit")?,
            receipt: fields.take_bytes(3, "a receipt that is no byte string")?,
        },
        20 => Message::CaughtUp { size: fields.uint(1, "no size")? },
        21 => {
            let items = fields.array(1, "no items")?;
            if items.len() > BATCH_ENTRIES_MAX {
                return Err(CodecError::Shape("too many entries in a backfill"));
            }
            let items = items.into_iter().map(read_backfill).collect::<Result<_, _>>()?;
            Message::Backfill(Backfill { items, policy: read_policy(fields)?, under: read_under(fields)? })
        }
        24 => Message::Receipts(read_receipts(fields, RECEIPTS_MAX)?),
        0x85 => Message::Lost { since: fields.uint(1, "no time")?, after: read_page(fields)? },
        0x86 => Message::Given { receipts: read_receipts(fields, GIVEN_MAX)?, next: read_page(fields)? },
        0x87 => {
            let offers = fields.array(1, "no terms")?;
            if offers.len() > OFFERS_MAX {
                return Err(CodecError::Shape("more terms than may be asked for"));
            }
            let offer = |value: &Value| read_offer(value).ok_or(CodecError::Shape("terms out of form"));
            Message::Terms(offers.iter().map(offer).collect::<Result<_, _>>()?)
        }
        0x88 => {
            let core = fields.bytes(1, "no acceptance")?;
            if core.len() > ACCEPTANCE_BYTES_MAX {
                return Err(CodecError::Shape("an acceptance longer than it may be"));
            }
            Message::Accept(core)
        }
        0x89 => {
            let core = fields.bytes(1, "no deletion report")?;
            if core.len() > DELETION_BYTES_MAX {
                return Err(CodecError::Shape("a deletion report longer than it may be"));
            }
            Message::Deleted(core)
        }
        0x8a => Message::Noted(fields.uint(1, "no number of a deletion report")?),
        0x8e => {
            let file = fields.bytes(1, "no letter")?;
            if file.len() > LETTER_BYTES_MAX {
                return Err(CodecError::Shape("a letter that is too long"));
            }
            Message::Letter(file)
        }
        22 => Message::View { view: hash(fields, 1, "no view")?, term: fields.text(2, "no term")? },
        23 => Message::Cosigned(Cosigned {
            size: fields.uint(1, "no size")?,
            key: fields.text(2, "no witness key")?,
            line: fields.text(3, "no cosignature")?,
        }),
        _ => {
            let number = fields.uint(1, "no code")?;
            let code = Code::ALL.iter().find(|(_, known)| *known == number).map(|(code, _)| *code);
            Message::Error(code.ok_or(CodecError::Shape("an unknown code"))?)
        }
    })
}

fn read_receipts(fields: &mut Fields, max: usize) -> Result<Vec<Vec<u8>>, CodecError> {
    let receipts = fields.array(1, "no receipts")?;
    if receipts.len() > max {
        return Err(CodecError::Shape("too many receipts at once"));
    }
    let bytes = |item| if let Value::Bytes(bytes) = item { Ok(bytes) } else { Err(CodecError::Shape("a receipt that is no byte string")) };
    receipts.into_iter().map(bytes).collect()
}

fn read_page(fields: &mut Fields) -> Result<Option<Vec<u8>>, CodecError> {
    let page = fields.take_bytes(2, "a page that is no byte string")?;
    match page.as_ref().is_some_and(|page| page.len() > PAGE_BYTES_MAX) {
        true => Err(CodecError::Shape("the name of a page is too long")),
        false => Ok(page),
    }
}

fn read_policy(fields: &mut Fields) -> Result<Option<u64>, CodecError> {
    fields.take(5).map(|version| codec::as_uint(&version).ok_or(CodecError::Shape("a policy version that is no number"))).transpose()
}

fn read_under(fields: &mut Fields) -> Result<Vec<Under>, CodecError> {
    const SHAPE: CodecError = CodecError::Shape("terms of entries out of form");
    let Some(value) = fields.take(6) else {
        return Ok(Vec::new());
    };
    let slots = |value: &Value| match codec::as_array(value).unwrap_or_default() {
        [seq, mask] => codec::as_uint(seq).zip(codec::as_uint(mask)).ok_or(SHAPE),
        _ => Err(SHAPE),
    };
    let under = |value: &Value| match codec::as_array(value).unwrap_or_default() {
        [id, Value::Array(listed)] if listed.len() <= BATCH_ENTRIES_MAX => {
            let terms = codec::as_bytes(id).and_then(Hash::from_slice).ok_or(SHAPE)?;
            Ok(Under { terms, slots: listed.iter().map(slots).collect::<Result<_, _>>()? })
        }
        _ => Err(SHAPE),
    };
    let listed = codec::as_array(&value).filter(|all| (1..=TERMS_MAX).contains(&all.len())).ok_or(SHAPE)?;
    listed.iter().map(under).collect()
}

fn read_listing(value: &Value) -> Result<Listing, CodecError> {
    match codec::as_array(value) {
        Some([Value::Text(origin), size, Value::Text(term)]) => Ok(Listing {
            origin: origin.clone(),
            size: codec::as_uint(size).ok_or(CodecError::Shape("a size that is no number"))?,
            term: term.clone(),
        }),
        _ => Err(CodecError::Shape("a listing out of form")),
    }
}

fn read_item(value: Value) -> Result<Item, CodecError> {
    match value {
        Value::Bytes(leaf) => Ok(Item::Hidden(Hash::from_slice(&leaf).ok_or(CodecError::Shape("a leaf hash of another length"))?)),
        Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
            Ok([core, disclosures]) => Ok(Item::View(read_view(core, disclosures)?)),
            Err(_) => Err(CodecError::Shape("an entry out of form")),
        },
        _ => Err(CodecError::Shape("an entry out of form")),
    }
}

fn read_backfill(value: Value) -> Result<(u64, SealedView), CodecError> {
    const SHAPE: CodecError = CodecError::Shape("a backfilled entry out of form");
    let Value::Array(parts) = value else {
        return Err(SHAPE);
    };
    let [seq, core, disclosures] = <[Value; 3]>::try_from(parts).map_err(|_| SHAPE)?;
    Ok((codec::as_uint(&seq).ok_or(SHAPE)?, read_view(core, disclosures)?))
}

fn read_view(core: Value, disclosures: Value) -> Result<SealedView, CodecError> {
    const SHAPE: CodecError = CodecError::Shape("a view out of form");
    let (Value::Bytes(core), Value::Array(disclosures)) = (core, disclosures) else {
        return Err(SHAPE);
    };
    let disclosure = |value| if let Value::Bytes(bytes) = value { Some(Disclosure::received(bytes)) } else { None };
    let disclosures: Vec<Disclosure> = disclosures.into_iter().map(disclosure).collect::<Option<_>>().ok_or(SHAPE)?;
    if disclosures.len() > lotline_schema::kind::SLOTS_MAX {
        return Err(SHAPE);
    }
    Ok(SealedView { core, disclosures })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> SealedView {
        SealedView { core: vec![1, 2, 3], disclosures: vec![Disclosure::received(vec![9; 40])] }
    }

    fn terms() -> lotline_schema::terms::Terms {
        lotline_schema::terms::Terms::new(["audit".to_owned()].into(), Some(90), true).unwrap()
    }

    fn all() -> Vec<Message> {
        let hash = Hash([7; 32]);
        let items = vec![Item::Hidden(hash), Item::View(view())];
        let under = vec![Under { terms: terms().id(), slots: vec![(5, 1), (7, 1 << 62)] }];
        vec![
            Message::Hello { version: 1, name: "ACME".into(), now: 5 },
            Message::Catalog(vec![Listing { origin: "o".into(), size: 3, term: "t".into() }]),
            Message::Ping,
            Message::Pong,
            Message::Open { origin: "o".into(), next: 4, root: hash, view: None, credit: 9 },
            Message::Open { origin: "o".into(), next: 4, root: hash, view: Some(hash), credit: 9 },
            Message::Opened { view: hash, size: 4, org_size: 2, term: "t".into(), owed: false },
            Message::Opened { view: hash, size: 4, org_size: 2, term: "t".into(), owed: true },
            Message::Receipts(vec![vec![1], vec![2]]),
            Message::Batch(Received {
                from: 4,
                items: items.clone(),
                checkpoint: "c".into(),
                tail: vec![hash],
                policy: None,
                under: Vec::new(),
            }),
            Message::Batch(Received { from: 4, items, checkpoint: "c".into(), tail: vec![hash], policy: Some(3), under: under.clone() }),
            Message::Ack { next: 4, credit: 0, receipt: None },
            Message::Ack { next: 4, credit: 0, receipt: Some(vec![1, 2]) },
            Message::Cosigned(Cosigned { size: 4, key: "k".into(), line: "l".into() }),
            Message::CaughtUp { size: 4 },
            Message::Backfill(Backfill { items: vec![(3, view())], policy: None, under: Vec::new() }),
            Message::Backfill(Backfill { items: vec![(3, view())], policy: Some(3), under }),
            Message::View { view: hash, term: "t".into() },
            Message::Lost { since: 7, after: None },
            Message::Lost { since: 7, after: Some(vec![1]) },
            Message::Given { receipts: vec![vec![1], vec![2]], next: None },
            Message::Given { receipts: Vec::new(), next: Some(vec![3]) },
            Message::Terms(vec![Offer { feed: "f".into(), terms: terms(), what: "w".into() }]),
            Message::Terms(Vec::new()),
            Message::Accept(vec![1, 2]),
            Message::Deleted(vec![1, 2]),
            Message::Noted(3),
            Message::Letter(vec![1, 2, 3]),
            Message::Error(Code::Fork),
        ]
    }

    #[test]
    fn messages_are_read_back() {
        for message in all() {
            let frame = message.to_frame();
            assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
            assert_eq!(Message::read(&frame[4..]), Ok(Some(message)));
        }
    }

    #[test]
    fn unknown_types_are_skipped_or_refused() {
        assert_eq!(Message::read(&[0x90, 0xff]), Ok(None));
        assert_eq!(Message::read(&[0x50]), Err(MessageError::Type(0x50)));
        assert_eq!(Message::read(&[]), Err(MessageError::Length(0)));
        assert!(Message::read(&vec![18; FRAME_BYTES_MAX + 1]).is_err());
    }

    /// 200,000 altered frames: read, refused or skipped, never a panic.
    #[test]
    fn altered_frames_never_panic() {
        let frames: Vec<Vec<u8>> = all().iter().map(|message| message.to_frame()[4..].to_vec()).collect();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        for round in 0..200_000 {
            let mut frame = frames[round % frames.len()].clone();
            for _ in 0..1 + next() % 3 {
                let at = next() % frame.len();
                match next() % 3 {
                    0 => frame[at] = next() as u8,
                    1 => frame.truncate(at.max(1)),
                    _ => frame.insert(at, next() as u8),
                }
            }
            let _ = Message::read(&frame);
        }
    }
}
