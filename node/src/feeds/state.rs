//! What the store keeps for us beside records: its keys, and values as `[version, content]` in deterministic CBOR.
//!
//! Everything stored has a version in front; a reader meets a newer one with a clear error instead of a guess.

use lotline_schema::codec::{self, Value};
use lotline_schema::record::Facts;
use lotline_schema::tree::Frontier;
use lotline_schema::{Hash, PartyId};

/// The version of every stored value so far.
const VERSION: u64 = 1;

/// A stored value that does not read.
#[derive(Debug, thiserror::Error)]
#[error("the store holds a `{0}` that this version of Lotline cannot read; update the program, or restore a backup")]
pub struct StateError(pub &'static str);

/// A value with its version in front.
pub(crate) fn put(content: Value) -> Vec<u8> {
    codec::encode(&codec::array([codec::uint(VERSION), content]))
}

/// The content of a stored value.
pub(crate) fn take(bytes: &[u8], what: &'static str) -> Result<Value, StateError> {
    match codec::decode(bytes) {
        Ok(Value::Array(mut parts)) if parts.len() == 2 && codec::as_uint(&parts[0]) == Some(VERSION) => Ok(parts.remove(1)),
        _ => Err(StateError(what)),
    }
}

/// Keys of the changing state.
pub(crate) mod key {
    /// Every feed this node writes or follows, by origin.
    pub(crate) const FEED: &str = "feed/";
    /// Head of a feed, by origin.
    pub(crate) const HEAD: &str = "head/";
    /// A feed that was frozen, by origin: why, and the evidence.
    pub(crate) const FROZEN: &str = "frozen/";
    /// What was sent when a feed was frozen, by origin.
    pub(crate) const EVIDENCE: &str = "evidence/";
    /// The proof that its owner signed two truths, by origin.
    pub(crate) const FORK: &str = "fork/";
    /// The view under which a followed feed was last taken, by origin.
    pub(crate) const VIEW: &str = "view/";
    /// A partner, by name.
    pub(crate) const PARTNER: &str = "partner/";
    /// Who had a name last that was removed from the partner book, by name.
    pub(crate) const FORMER_PARTNER: &str = "former/";
    /// Policy versions, by number.
    pub(crate) const POLICY: &str = "policy/";
    /// Sharing that was stopped: a list of partner names, `*` for all.
    pub(crate) const STOPPED: &str = "stopped";
    /// Rows of the ledger as they were kept before it was a tree, by number.
    pub(crate) const FORMER_LEDGER: &str = "ledger/";
    /// What rows of the ledger say of entries: by recipient and feed (16 bytes of a hash), place (8 bytes) and row.
    pub(crate) const SENT: &str = "sent/";
    /// Partners that are to be asked for the receipts they gave, since the ledger may lack rows: by name.
    pub(crate) const REFILL: &str = "refill/";
    /// Size and root of the last checkpoint we cosigned of a followed feed, by origin.
    pub(crate) const WITNESSED: &str = "witnessed/";
    /// The first cosignature of each witness on each checkpoint, by origin, size (8 bytes, big-endian) and witness.
    pub(crate) const COSIGNED: &str = "cosigned/";
    /// The newest cosignature of each witness, by origin and witness.
    pub(crate) const FRESH: &str = "fresh/";
    /// Delivery receipts we gave, by origin, end and number; and the next number.
    pub(crate) const GIVEN: &str = "given/";
    pub(crate) const RECEIPTS: &str = "receipts";
    /// The first number that was free after the last restore.
    pub(crate) const FIRST_RECEIPT: &str = "first-receipt";
    /// Delivery receipts we got, by origin, end and number of the ledger's row.
    pub(crate) const GOT: &str = "got/";
    /// Terms we accepted, by id: what obligations speak of.
    pub(crate) const TERMS: &str = "terms/";
    /// What a partner asks us for, by party.
    pub(crate) const OFFERED: &str = "offered/";
    /// Acceptances of ours by owner and number, and those of partners by party and number.
    pub(crate) const ACCEPTING: &str = "accepting/";
    pub(crate) const ACCEPTED: &str = "accepted/";
    /// Acceptances of a partner that are kept because they are the latest, by party: numbers; and those that its delivery receipts
    /// name, by party and number.
    pub(crate) const LATEST: &str = "latest/";
    pub(crate) const NAMED: &str = "named/";
    /// What received records stand under, by origin and place; and those that fall due, by day, origin and place.
    pub(crate) const OBLIGED: &str = "obliged/";
    pub(crate) const DUE: &str = "due/";
    /// Deletion reports of ours that their reader has not answered, and all we signed, by party and number.
    pub(crate) const UNTOLD: &str = "untold/";
    pub(crate) const DELETED: &str = "deleted/";
    /// Deletion reports of partners, by party and number; and what they say of an entry, by party, origin and place.
    pub(crate) const REPORTED: &str = "reported/";
    pub(crate) const GONE: &str = "gone/";
    /// 0, and the time of the last confirmation of a home that was restored.
    pub(crate) const EPOCH: &str = "epoch";
    /// Releases, by leaf hash of the record and place of the release: the feed both stand in.
    pub(crate) const RELEASE: &str = "release/";
    /// Vouchers of ours, by number.
    pub(crate) const VOUCHER: &str = "voucher/";
    /// Lists of our members, by number.
    pub(crate) const MEMBERS: &str = "members/";
    /// What we asked suppliers to show us, by number; and their newest answers, by hash of the request.
    pub(crate) const WANTED: &str = "wanted/";
    pub(crate) const ANSWERED: &str = "answered/";
    /// The newest request that a customer sent, and our newest answer to it: by the customer's party.
    pub(crate) const DEMANDED: &str = "demanded/";
    pub(crate) const REPLIED: &str = "replied/";
    /// Keys made for feeds we asked others for, by owner and name: a list of [record, log], the newest last.
    pub(crate) const ASKED: &str = "asked/";
    /// Which partner writes a feed of ours, by origin.
    pub(crate) const WRITER: &str = "writer/";
    /// Of such a feed: its newest head below which every leaf is here, by origin.
    pub(crate) const LEVEL: &str = "level/";
    /// Member lists of associations that we keep, by our name for each.
    pub(crate) const LISTED: &str = "listed/";
    /// A transport key of ours that is named and not in use yet: where it is named, and who knows.
    pub(crate) const MOVING: &str = "moving";
    /// The latest time that was believed of this computer's clock.
    pub(crate) const CLOCK: &str = "clock";
    /// Imports, by identity of file and options.
    pub(crate) const IMPORT: &str = "import/";

    pub(crate) fn of(prefix: &str, name: &str) -> Vec<u8> {
        [prefix.as_bytes(), name.as_bytes()].concat()
    }

    /// A key with a place behind a name, so that what follows a place in a feed is found by range.
    pub(crate) fn placed(prefix: &str, name: &str, place: u64) -> Vec<u8> {
        [prefix.as_bytes(), name.as_bytes(), b"/", &place.to_be_bytes()].concat()
    }

    pub(crate) fn numbered(prefix: &str, number: u64) -> Vec<u8> {
        [prefix.as_bytes(), &number.to_be_bytes()].concat()
    }
}

/// The head of a feed: enough to append, to answer and to go on after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The right edge of its tree.
    pub frontier: Frontier,
    /// Its newest checkpoint, signed by its owner; empty for an empty feed.
    pub checkpoint: String,
}

impl Head {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let edges = self.frontier.edges().iter().map(|edge| codec::bytes(edge.0));
        put(codec::array([codec::uint(self.frontier.size()), codec::array(edges), codec::text(self.checkpoint.as_str())]))
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Head, StateError> {
        const WHAT: StateError = StateError("feed head");
        let value = take(bytes, "feed head")?;
        let [size, edges, checkpoint] = codec::as_array(&value).unwrap_or_default() else {
            return Err(WHAT);
        };
        let edge = |edge: &Value| codec::as_bytes(edge).and_then(Hash::from_slice);
        let edges = codec::as_array(edges).and_then(|edges| edges.iter().map(edge).collect::<Option<Vec<_>>>());
        let frontier = codec::as_uint(size).zip(edges).and_then(|(size, edges)| Frontier::from_parts(size, edges)).ok_or(WHAT)?;
        Ok(Head { frontier, checkpoint: codec::as_text(checkpoint).ok_or(WHAT)?.to_owned() })
    }
}

/// What lists and filters show of a record without opening it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// What is known of the content.
    pub facts: Facts,
    /// SHA-256 of the content of our own records, to tell an import repeated from one changed.
    pub content: Option<Hash>,
    /// The statement that replaced it.
    pub superseded_by: Option<Hash>,
}

impl Summary {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let of = &self.facts;
        let text = |text: &Option<String>| codec::optional(text.as_deref(), codec::text);
        let hash = |hash: Option<Hash>| codec::optional(hash, |hash| codec::bytes(hash.0));
        // As in earlier stores while nothing is forgotten.
        let forgotten = (of.forgotten != 0).then(|| codec::bytes(of.forgotten.to_be_bytes()));
        let parts = [
            codec::text(of.kind.as_str()),
            text(&of.part),
            text(&of.customer_part),
            text(&of.revision),
            text(&of.lot),
            text(&of.customer),
            text(&of.role),
            text(&of.operation),
            text(&of.reason),
            text(&of.sample),
            text(&of.verdict),
            codec::optional(of.pieces, |(inspected, failed)| codec::array([codec::uint(inspected), codec::uint(failed)])),
            text(&of.recorded_at),
            codec::uint(of.thin),
            hash(self.content),
            hash(self.superseded_by),
        ];
        put(codec::array(parts.into_iter().chain(forgotten)))
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Summary, StateError> {
        const WHAT: StateError = StateError("record summary");
        let value = take(bytes, "record summary")?;
        let parts = codec::as_array(&value).filter(|parts| matches!(parts.len(), 16 | 17)).ok_or(WHAT)?;
        let text = |at: usize| codec::as_text(&parts[at]).map(str::to_owned);
        let hash = |at: usize| codec::as_bytes(&parts[at]).and_then(Hash::from_slice);
        let pieces = |pair: &[Value]| Some((codec::as_uint(pair.first()?)?, codec::as_uint(pair.get(1)?)?));
        // A mask of 64 slots is no integer of the profile.
        let mask = |value: &Value| Some(u64::from_be_bytes(codec::as_bytes(value)?.try_into().ok()?));
        Ok(Summary {
            facts: Facts {
                kind: text(0).ok_or(WHAT)?,
                part: text(1),
                customer_part: text(2),
                revision: text(3),
                lot: text(4),
                customer: text(5),
                role: text(6),
                operation: text(7),
                reason: text(8),
                sample: text(9),
                verdict: text(10),
                pieces: codec::as_array(&parts[11]).and_then(pieces),
                recorded_at: text(12),
                thin: codec::as_uint(&parts[13]).ok_or(WHAT)?,
                released: false,
                forgotten: parts.get(16).map_or(Some(0), mask).ok_or(WHAT)?,
            },
            content: hash(14),
            superseded_by: hash(15),
        })
    }
}

/// Somebody we paired with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partner {
    /// The name our policy and our screens use.
    pub name: String,
    /// The root we accepted by invitation.
    pub party: PartyId,
    /// Its transport key's peer id.
    pub peer: String,
    /// Former ones that it may still use, oldest first, until it is seen under a later one.
    pub before: Vec<String>,
    /// Where to dial it; empty when it dials us.
    pub addresses: Vec<String>,
    /// The feed we write for it.
    pub feed: String,
    /// Whether we follow its feeds.
    pub subscribed: bool,
    /// When it was added, in seconds since 1970.
    pub added: u64,
}

impl Partner {
    /// Whether it may come under this peer id.
    pub fn answers_to(&self, peer: &str) -> bool {
        self.peer == peer || self.before.iter().any(|before| before == peer)
    }

    /// Every peer id it may come under, the newest first.
    pub fn peers(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.peer.as_str()).chain(self.before.iter().rev().map(String::as_str))
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let texts = |texts: &[String]| codec::array(texts.iter().map(|text| codec::text(text.as_str())));
        let mut parts = vec![
            codec::text(self.name.as_str()),
            codec::text(self.party.to_string()),
            codec::text(self.peer.as_str()),
            texts(&self.addresses),
            codec::text(self.feed.as_str()),
            Value::Bool(self.subscribed),
            codec::uint(self.added),
        ];
        // As in earlier stores when there is nothing to add.
        parts.extend((!self.before.is_empty()).then(|| texts(&self.before)));
        put(codec::array(parts))
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Partner, StateError> {
        const WHAT: StateError = StateError("partner");
        let value = take(bytes, "partner")?;
        let [name, party, peer, addresses, feed, Value::Bool(subscribed), added, before @ ..] = codec::as_array(&value).unwrap_or_default()
        else {
            return Err(WHAT);
        };
        let text = |value: &Value| codec::as_text(value).map(str::to_owned).ok_or(WHAT);
        let texts = |value: &Value| codec::as_array(value).ok_or(WHAT)?.iter().map(text).collect::<Result<Vec<_>, _>>();
        let before = match before {
            [] => Vec::new(),
            [before] => texts(before)?,
            _ => return Err(WHAT),
        };
        Ok(Partner {
            before,
            name: text(name)?,
            party: text(party)?.parse().map_err(|_| WHAT)?,
            peer: text(peer)?,
            addresses: texts(addresses)?,
            feed: text(feed)?,
            subscribed: *subscribed,
            added: codec::as_uint(added).ok_or(WHAT)?,
        })
    }
}
