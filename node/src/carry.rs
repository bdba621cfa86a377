//! Hand-over without a network: a file with batches for one partner, and the answer that brings receipts back.
//!
//! What is in the file is what would have gone over the wire, frame by frame, cleared by the same rules and written into
//! the same ledger; who takes it in verifies it by the same path. The file is not sealed: whoever has it can read it.

use std::collections::BTreeSet;

use lotline_policy::Moment;
use lotline_schema::bundle::OrgPart;
use lotline_schema::codec::{self, CodecError, Fields, Value};
use lotline_schema::{Origin, PartyId};

use crate::exchange::message::{Cosigned, Message, items_digest};
use crate::exchange::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};
use crate::feeds::terms::add_under;
use crate::feeds::{Feed, FeedError, Item, Partner, Received, Snapshot};
use crate::ledger::{Intent, Items, Way};
use crate::links::clear_row;
use crate::store::Reader;

const CARRIED: &str = "lotline carried feed";
const ANSWER: &str = "lotline carried answer";
const VERSION: u64 = 1;
/// The largest file we read, in bytes.
pub const CARRIED_BYTES_MAX: usize = 1 << 30;

/// Batches for one partner, in order: the org feed's first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried {
    /// Who wrote it.
    pub from: PartyId,
    /// For whom.
    pub to: PartyId,
    /// Each with its feed.
    pub batches: Vec<(Origin, Received)>,
}

/// What was received, signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CarriedAnswer {
    /// Who answers.
    pub from: PartyId,
    /// The org feed under whose keys the receipts hold.
    pub org: OrgPart,
    /// Delivery receipts.
    pub receipts: Vec<Vec<u8>>,
    /// Cosignatures, each with its feed.
    pub cosigned: Vec<(Origin, Cosigned)>,
}

/// A file of either kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CarriedFile {
    /// Batches.
    Feed(Carried),
    /// An answer.
    Answer(CarriedAnswer),
}

impl CarriedFile {
    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let party = |party: &PartyId| codec::text(party.to_string());
        codec::encode(&match self {
            CarriedFile::Feed(of) => {
                let batch = |(origin, batch): &(Origin, Received)| {
                    let frame = Message::Batch(batch.clone()).to_frame();
                    // Its length in front is for a wire.
                    codec::array([codec::text(origin.as_str()), codec::bytes(&frame[4..])])
                };
                let batches = codec::array(of.batches.iter().map(batch));
                codec::map([(0, codec::text(CARRIED)), (1, codec::uint(VERSION)), (2, party(&of.from)), (3, party(&of.to)), (4, batches)])
            }
            CarriedFile::Answer(of) => {
                let cosigned = |(origin, of): &(Origin, Cosigned)| {
                    let texts = [origin.as_str(), &of.key, &of.line].map(codec::text);
                    codec::array(texts.into_iter().chain([codec::uint(of.size)]))
                };
                codec::map([
                    (0, codec::text(ANSWER)),
                    (1, codec::uint(VERSION)),
                    (2, party(&of.from)),
                    (3, codec::array(of.org.entries.iter().map(|entry| codec::bytes(entry.as_slice())))),
                    (4, codec::text(of.org.checkpoint.as_str())),
                    (5, codec::array(of.receipts.iter().map(|receipt| codec::bytes(receipt.as_slice())))),
                    (6, codec::array(of.cosigned.iter().map(cosigned))),
                ])
            }
        })
    }

    /// Reads a file. Says nothing about signatures: what is in it goes the way of what comes over the network.
    pub fn read(bytes: &[u8]) -> Result<CarriedFile, CodecError> {
        const FORM: CodecError = CodecError::Shape("a carried file out of form");
        if bytes.len() > CARRIED_BYTES_MAX {
            return Err(CodecError::Shape("a carried file larger than 1 GiB"));
        }
        let mut fields = Fields::of(codec::decode(bytes)?)?;
        let title = fields.text(0, "this is no carried file")?;
        if title != CARRIED && title != ANSWER {
            return Err(CodecError::Shape("this is no carried file"));
        }
        if fields.uint(1, "no version")? != VERSION {
            return Err(CodecError::Newer("a carried file of another version"));
        }
        let party = |text: String| text.parse::<PartyId>().map_err(|_| FORM);
        let from = party(fields.text(2, "a file from nobody")?)?;
        let file = if title == CARRIED {
            let to = party(fields.text(3, "a file for nobody")?)?;
            let batch = |value: Value| match codec::as_array(&value).unwrap_or_default() {
                [Value::Text(origin), Value::Bytes(frame)] => match Message::read(frame) {
                    Ok(Some(Message::Batch(batch))) => Ok((origin.parse::<Origin>().map_err(|_| FORM)?, batch)),
                    _ => Err(FORM),
                },
                _ => Err(FORM),
            };
            let batches = fields.array(4, "a file without batches")?.into_iter().map(batch).collect::<Result<_, _>>()?;
            CarriedFile::Feed(Carried { from, to, batches })
        } else {
            let byte_string = |value: Value| if let Value::Bytes(bytes) = value { Ok(bytes) } else { Err(FORM) };
            let cosigned = |value: Value| match codec::as_array(&value).unwrap_or_default() {
                [Value::Text(origin), Value::Text(key), Value::Text(line), size] => {
                    let cosigned = Cosigned { size: codec::as_uint(size).ok_or(FORM)?, key: key.clone(), line: line.clone() };
                    Ok((origin.parse::<Origin>().map_err(|_| FORM)?, cosigned))
                }
                _ => Err(FORM),
            };
            let entries = fields.array(3, "an answer without an org feed")?.into_iter().map(byte_string).collect::<Result<_, _>>()?;
            let org = OrgPart { entries, checkpoint: fields.text(4, "an answer without a checkpoint")? };
            let receipts = fields.array(5, "an answer without receipts")?.into_iter().map(byte_string).collect::<Result<_, _>>()?;
            let cosigned = fields.array(6, "an answer without cosignatures")?.into_iter().map(cosigned).collect::<Result<_, _>>()?;
            CarriedFile::Answer(CarriedAnswer { from, org, receipts, cosigned })
        };
        fields.end()?;
        Ok(file)
    }
}

/// A feed's entries from `from` on as batches for a partner, with what the ledger has to say before they leave.
///
/// `ends`: where batches that left before ended. New ones end there too, so that whoever has some of them can leave those
/// out and take the rest.
pub fn pack(
    reader: &Reader,
    snapshot: &Snapshot,
    partner: &Partner,
    feed: &Feed,
    from: u64,
    ends: &BTreeSet<u64>,
    at: Moment,
) -> Result<Vec<(Received, Intent)>, FeedError> {
    reader.settle()?;
    let (viewer, size, policy) = (snapshot.viewer(&partner.name), feed.size(), snapshot.policy.version());
    let policy = (!feed.origin.is_org() && feed.ours).then_some(policy);
    let mut packed = Vec::new();
    let mut next = from;
    while next < size {
        let (mut items, mut listed, mut bytes, mut under) = (Vec::new(), Items::default(), 0, Vec::new());
        for row in reader.rows(feed.id, next, BATCH_ENTRIES_MAX)?.into_iter().take_while(|row| row.seq < size) {
            let cleared = clear_row(reader, snapshot, feed, &viewer, &row, (&snapshot.policy, at))?;
            let leaf = cleared.leaf();
            let len =
                cleared.view().map_or(40, |view| view.core.len() + view.disclosures.iter().map(|of| of.bytes().len() + 4).sum::<usize>());
            if !items.is_empty() && (bytes + len > BATCH_BYTES_MAX || ends.contains(&row.seq)) {
                break;
            }
            bytes += len;
            listed.add(&cleared, &snapshot.policy);
            add_under(&mut under, &cleared);
            items.push(cleared.into_view().map_or(Item::Hidden(leaf), Item::View));
        }
        if items.is_empty() {
            return Err(crate::feeds::StateError("entry of our own feed").into());
        }
        let to = next + items.len() as u64;
        let tail = if to == size { Vec::new() } else { reader.tree(feed.id, size).consistency(to, size)? };
        let digest = items_digest(&items);
        let (name, origin) = (partner.name.clone(), feed.origin.to_string());
        let intent = Intent { to: name, origin, way: Way::Carried, items: listed, policy, digest };
        packed.push((Received { from: next, items, checkpoint: feed.head.checkpoint.clone(), tail, policy, under }, intent));
        next = to;
    }
    Ok(packed)
}
