//! A statement: a record, a feed's first entry or an org entry, signed, at its place in a feed.
//!
//! All types (`typ`, RFC 9596) share one envelope: a COSE_Sign1 whose protected header carries algorithm, content type,
//! key thumbprint and the CWT claims issuer and subject (RFC 9597, RFC 9943), and whose payload repeats those and adds
//! day, id, confirmation, feed origin and sequence number. The bytes are in `docs/wire.md`. A record's body is slots
//! (SD-CWT element redaction); the others' is one clear value.

use std::fmt;

use crate::codec::{self, CodecError, Fields, Value};
use crate::cose::{self, CoseError, Sign1, Signer};
use crate::id::{Hash, Origin};
use crate::kind::SchemaClaim;
use crate::record::Record;
use crate::slot::{Disclosure, SALT_BYTES, Slots};
use crate::tree;

/// Ed25519, fully specified (RFC 9864).
const ALG_ED25519: i64 = -19;
/// SHA-256 (SD-CWT `sd_alg`).
const SHA_256: i64 = -16;
const CONTENT_TYPE: &str = "application/x.lotline.claims+cbor";
/// The largest core: C2SP entry bundles give a length of two bytes.
pub const CORE_BYTES_MAX: usize = 65_535;
/// Seconds of a day: the clear time is cut to it.
const DAY: u64 = 86_400;

const CLAIM_SCHEMA: i64 = -65801;
const CLAIM_SLOTS: i64 = -65802;
const CLAIM_SEQ: i64 = -65803;
const CLAIM_FEED: i64 = -65804;
const CLAIM_SUPERSEDES: i64 = -65805;
const CLAIM_ENTRY: i64 = -65806;

/// What a statement is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// A record with slots.
    Record,
    /// Index 0 of a data feed: where its keys are.
    Feed,
    /// An entry of the org feed.
    Org,
    /// A version of the owner's sharing rules, kept in the owner's store; its sequence number is the version.
    Policy,
    /// A named person releases a record of the same feed.
    Release,
    /// A delivery receipt: a partner signs what it received.
    Receipt,
    /// A voucher: one organisation says what it checked about another.
    Voucher,
    /// The members of an association, as its key lists them; its sequence number is the version.
    Members,
    /// Another holder asks for a feed of its own; stands in no feed.
    Request,
    /// A customer says what it wants to be shown; stands in no feed.
    Requirements,
    /// A supplier's answer to that; stands in no feed.
    Answer,
    /// A receiver accepts terms; numbered with its delivery receipts.
    Acceptance,
    /// A receiver deleted what it promised to; numbered with its delivery receipts.
    Deletion,
}

impl Type {
    const ALL: [Type; 13] = [
        Type::Record,
        Type::Feed,
        Type::Org,
        Type::Policy,
        Type::Release,
        Type::Receipt,
        Type::Voucher,
        Type::Members,
        Type::Request,
        Type::Requirements,
        Type::Answer,
        Type::Acceptance,
        Type::Deletion,
    ];

    fn media_type(self) -> &'static str {
        match self {
            Type::Record => "application/x.lotline.record+sd-cwt",
            Type::Feed => "application/x.lotline.feed+cwt",
            Type::Org => "application/x.lotline.org+cwt",
            Type::Policy => "application/x.lotline.policy+cwt",
            Type::Release => "application/x.lotline.release+cwt",
            Type::Receipt => "application/x.lotline.receipt+cwt",
            Type::Voucher => "application/x.lotline.voucher+cwt",
            Type::Members => "application/x.lotline.members+cwt",
            Type::Request => "application/x.lotline.request+cwt",
            Type::Requirements => "application/x.lotline.requirements+cwt",
            Type::Answer => "application/x.lotline.answer+cwt",
            Type::Acceptance => "application/x.lotline.acceptance+cwt",
            Type::Deletion => "application/x.lotline.deletion+cwt",
        }
    }
}

/// What a statement says in the clear.
#[derive(Clone, PartialEq, Debug)]
pub struct Claims {
    /// What it is.
    pub typ: Type,
    /// `did:key` of the issuer's root, as text; compare it with the org feed's.
    pub issuer: String,
    /// Opaque: `urn:uuid:…`.
    pub subject: String,
    /// Thumbprint of the key that signed.
    pub kid: Hash,
    /// Claimed day, in whole seconds since 1970 (a multiple of 86,400).
    pub day: u64,
    /// Random id.
    pub id: [u8; 16],
    /// Feed origin, as text.
    pub origin: String,
    /// Place in the feed.
    pub seq: u64,
    /// Leaf hash of the statement this one replaces.
    pub supersedes: Option<Hash>,
    /// Content.
    pub body: Body,
}

/// The content of a statement.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// A record of this schema.
    Slots(SchemaClaim, Slots),
    /// A clear entry.
    Entry(Value),
}

/// Bytes that are no statement of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Larger than a core may be.
    #[error("a statement of {0} bytes is larger than {CORE_BYTES_MAX}")]
    TooLarge(usize),
    /// Not deterministic CBOR, or not the envelope.
    #[error(transparent)]
    Shape(#[from] CodecError),
    /// The signature does not hold.
    #[error(transparent)]
    Cose(#[from] CoseError),
    /// Header and payload say different things.
    #[error("header and payload name different {0}")]
    Differs(&'static str),
}

/// Where the next statement goes.
#[derive(Clone, Debug)]
pub struct Place {
    /// The feed.
    pub origin: Origin,
    /// The next sequence number.
    pub seq: u64,
    /// The clock, in whole seconds since 1970.
    pub now: u64,
    /// What it replaces.
    pub supersedes: Option<Hash>,
}

/// A signed statement of ours, not stored yet.
pub struct Sealed {
    /// The signed bytes.
    pub core: Vec<u8>,
    /// Its leaf hash.
    pub leaf: Hash,
    /// What opens its slots, in slot order; empty for clear entries.
    pub disclosures: Vec<Disclosure>,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({}, {} bytes)", self.leaf.short(), self.core.len())
    }
}

impl Sealed {
    fn of(core: Vec<u8>, disclosures: Vec<Disclosure>) -> Result<Sealed, StatementError> {
        if core.len() > CORE_BYTES_MAX {
            return Err(StatementError::TooLarge(core.len()));
        }
        Ok(Sealed { leaf: tree::leaf_hash(&core), core, disclosures })
    }
}

/// Signs a record into its place. `random` fills a buffer from the operating system's generator.
pub fn seal_record(record: &Record, place: &Place, signer: &Signer, mut random: impl FnMut(&mut [u8])) -> Result<Sealed, StatementError> {
    let mut noise = vec![0u8; 32 + SALT_BYTES * record.values().len()];
    random(&mut noise);
    let (ids, salts) = noise.split_at(32);
    let seal = |(salt, value): (&[u8], &Option<Value>)| Disclosure::seal(salt.try_into().expect("chunks of a salt"), value.as_ref());
    let disclosures: Vec<Disclosure> = salts.chunks_exact(SALT_BYTES).zip(record.values()).map(seal).collect();
    let body = Body::Slots(record.schema().claim(), Slots::of(&disclosures));
    Sealed::of(sign(Type::Record, &body, place, signer, ids), disclosures)
}

/// Signs a clear entry (the org feed's, or a feed's first).
pub fn seal_entry(
    typ: Type,
    entry: Value,
    place: &Place,
    signer: &Signer,
    mut random: impl FnMut(&mut [u8]),
) -> Result<Sealed, StatementError> {
    let mut ids = [0u8; 32];
    random(&mut ids);
    Sealed::of(sign(typ, &Body::Entry(entry), place, signer, &ids), Vec::new())
}

/// Lays out header and payload in key order and signs them. `ids`: 16 random bytes for the subject, 16 for the id.
fn sign(typ: Type, body: &Body, place: &Place, signer: &Signer, ids: &[u8]) -> Vec<u8> {
    let issuer = format!("did:key:{}", place.origin.key_text());
    let subject = format!("urn:uuid:{}", uuid(&ids[..16]));
    let protected = put_protected(typ, &issuer, &subject, signer.kid());
    let mut payload = Vec::with_capacity(3000);
    let supersedes = place.supersedes.is_some();
    codec::put_head(&mut payload, 5, if matches!(body, Body::Slots(..)) { 9 } else { 8 } + u64::from(supersedes));
    codec::put_int(&mut payload, 1);
    codec::put_text(&mut payload, &issuer);
    codec::put_int(&mut payload, 2);
    codec::put_text(&mut payload, &subject);
    codec::put_int(&mut payload, 6);
    codec::put_head(&mut payload, 0, place.now / DAY * DAY);
    codec::put_int(&mut payload, 7);
    codec::put_bytes(&mut payload, &ids[16..32]);
    codec::put_int(&mut payload, 8);
    payload.extend_from_slice(&[0xa1, 0x05]);
    codec::put_bytes(&mut payload, &signer.kid().0);
    if let Body::Slots(schema, slots) = body {
        codec::put_int(&mut payload, CLAIM_SCHEMA);
        codec::put_head(&mut payload, 4, 3);
        codec::put_text(&mut payload, &schema.name);
        codec::put_head(&mut payload, 0, schema.version.into());
        codec::put_bytes(&mut payload, &schema.hash.0);
        codec::put_int(&mut payload, CLAIM_SLOTS);
        slots.put(&mut payload);
    }
    codec::put_int(&mut payload, CLAIM_SEQ);
    codec::put_head(&mut payload, 0, place.seq);
    codec::put_int(&mut payload, CLAIM_FEED);
    codec::put_text(&mut payload, place.origin.as_str());
    if let Some(leaf) = place.supersedes {
        codec::put_int(&mut payload, CLAIM_SUPERSEDES);
        codec::put_bytes(&mut payload, &leaf.0);
    }
    if let Body::Entry(entry) = body {
        codec::put_int(&mut payload, CLAIM_ENTRY);
        codec::put(&mut payload, entry);
    }
    cose::sign(signer, &protected, &payload)
}

/// The protected header, in the order of its encoded keys: 1, 3, 4, 15, 16 and for records 170 (`sd_alg`).
fn put_protected(typ: Type, issuer: &str, subject: &str, kid: Hash) -> Vec<u8> {
    let mut out = Vec::with_capacity(300);
    let redactable = typ == Type::Record;
    codec::put_head(&mut out, 5, 5 + u64::from(redactable));
    codec::put_int(&mut out, 1);
    codec::put_int(&mut out, ALG_ED25519);
    codec::put_int(&mut out, 3);
    codec::put_text(&mut out, CONTENT_TYPE);
    codec::put_int(&mut out, 4);
    codec::put_bytes(&mut out, &kid.0);
    codec::put_int(&mut out, 15);
    out.push(0xa2);
    codec::put_int(&mut out, 1);
    codec::put_text(&mut out, issuer);
    codec::put_int(&mut out, 2);
    codec::put_text(&mut out, subject);
    codec::put_int(&mut out, 16);
    codec::put_text(&mut out, typ.media_type());
    if redactable {
        codec::put_int(&mut out, 170);
        codec::put_int(&mut out, SHA_256);
    }
    out
}

fn uuid(bytes: &[u8]) -> String {
    let mut bytes: [u8; 16] = bytes.try_into().expect("sixteen bytes");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = crate::id::hex(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A statement as received: read, its signature not yet checked.
#[derive(Clone, Debug)]
pub struct Unverified {
    sign1: Sign1,
    claims: Claims,
    leaf: Hash,
}

impl Unverified {
    /// Reads the bytes strictly: one form only, header and payload agree.
    pub fn read(core: &[u8]) -> Result<Unverified, StatementError> {
        if core.len() > CORE_BYTES_MAX {
            return Err(StatementError::TooLarge(core.len()));
        }
        let sign1 = Sign1::read(core)?;
        let header = Header::read(&sign1.protected)?;
        let claims = read_claims(&sign1.payload, header)?;
        Ok(Unverified { sign1, claims, leaf: tree::leaf_hash(core) })
    }

    /// What it says; believe it after [`Unverified::verify`].
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Its leaf hash.
    pub fn leaf(&self) -> Hash {
        self.leaf
    }

    /// Verifies the signature; the key must be the one the statement names.
    pub fn verify(self, key: &ed25519_dalek::VerifyingKey) -> Result<Verified, StatementError> {
        if crate::id::thumbprint(key) != self.claims.kid {
            return Err(StatementError::Differs("keys"));
        }
        self.sign1.verify(key)?;
        Ok(Verified { claims: self.claims, leaf: self.leaf })
    }
}

/// A statement whose signature holds under a key its caller chose.
#[derive(Clone, Debug)]
pub struct Verified {
    claims: Claims,
    leaf: Hash,
}

impl Verified {
    /// What it says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Its leaf hash.
    pub fn leaf(&self) -> Hash {
        self.leaf
    }
}

struct Header {
    typ: Type,
    kid: Hash,
    issuer: String,
    subject: String,
}

impl Header {
    fn read(protected: &[u8]) -> Result<Header, StatementError> {
        let mut fields = Fields::of(codec::decode(protected)?)?;
        if fields.take(1) != Some(codec::int(ALG_ED25519)) {
            return Err(CodecError::Shape("the algorithm is not Ed25519 (-19)").into());
        }
        if fields.take(3) != Some(codec::text(CONTENT_TYPE)) {
            return Err(CodecError::Shape("an unknown content type").into());
        }
        let kid =
            Hash::from_slice(&fields.bytes(4, "no key thumbprint")?).ok_or(CodecError::Shape("a key thumbprint of another length"))?;
        let mut cwt = Fields::of(fields.need(15, "no CWT claims")?)?;
        let (issuer, subject) = (cwt.text(1, "no issuer")?, cwt.text(2, "no subject")?);
        cwt.end()?;
        let media_type = fields.text(16, "no type")?;
        let typ =
            Type::ALL.into_iter().find(|typ| typ.media_type() == media_type).ok_or(CodecError::Shape("an unknown type of statement"))?;
        let digest_algorithm = (typ == Type::Record).then_some(codec::int(SHA_256));
        if fields.take(170) != digest_algorithm {
            return Err(CodecError::Shape("a digest algorithm other than SHA-256").into());
        }
        fields.end()?;
        Ok(Header { typ, kid, issuer, subject })
    }
}

fn read_claims(payload: &[u8], header: Header) -> Result<Claims, StatementError> {
    let mut fields = Fields::of(codec::decode(payload)?)?;
    if fields.text(1, "no issuer")? != header.issuer {
        return Err(StatementError::Differs("issuers"));
    }
    if fields.text(2, "no subject")? != header.subject {
        return Err(StatementError::Differs("subjects"));
    }
    let day = fields.uint(6, "no day")?;
    if !day.is_multiple_of(DAY) {
        return Err(CodecError::Shape("the clear time is not cut to the day").into());
    }
    let id = fields.bytes(7, "no id")?.try_into().map_err(|_| CodecError::Shape("an id of another length"))?;
    let mut confirmation = Fields::of(fields.need(8, "no confirmation")?)?;
    if confirmation.bytes(5, "no key in the confirmation")? != header.kid.0 {
        return Err(StatementError::Differs("keys"));
    }
    confirmation.end()?;
    let (seq, origin) = (fields.uint(CLAIM_SEQ, "no sequence number")?, fields.text(CLAIM_FEED, "no feed")?);
    let supersedes = match fields.take(CLAIM_SUPERSEDES) {
        None => None,
        Some(Value::Bytes(leaf)) if header.typ == Type::Record => {
            Some(Hash::from_slice(&leaf).ok_or(CodecError::Shape("a superseded leaf of another length"))?)
        }
        Some(_) => return Err(CodecError::Shape("a superseded leaf out of place").into()),
    };
    let body = match header.typ {
        Type::Record => {
            let schema = read_schema(&fields.array(CLAIM_SCHEMA, "no schema")?)?;
            Body::Slots(schema, Slots::read(&fields.array(CLAIM_SLOTS, "no slots")?)?)
        }
        _ => Body::Entry(fields.need(CLAIM_ENTRY, "no entry")?),
    };
    fields.end()?;
    let Header { typ, kid, issuer, subject } = header;
    Ok(Claims { typ, issuer, subject, kid, day, id, origin, seq, supersedes, body })
}

fn read_schema(parts: &[Value]) -> Result<SchemaClaim, CodecError> {
    const SHAPE: CodecError = CodecError::Shape("the schema is not [name, version, hash]");
    let [name, version, hash] = parts else {
        return Err(SHAPE);
    };
    let version = codec::as_uint(version).and_then(|version| u32::try_from(version).ok());
    Ok(SchemaClaim {
        name: codec::as_text(name).filter(|name| name.len() <= 64).ok_or(SHAPE)?.into(),
        version: version.ok_or(SHAPE)?,
        hash: codec::as_bytes(hash).and_then(Hash::from_slice).ok_or(SHAPE)?,
    })
}
