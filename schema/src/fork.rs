//! Fork proofs: one organisation signed two truths, in a file that proves it to anybody.
//!
//! Three kinds, strongest first (notes on equivocation in `docs/wire.md`): two statements for one place of a feed, or a
//! statement against what the log committed to there; two checkpoints of one size with different roots; two live
//! statements about one inspection of one lot. A log that *cannot show* how its new head follows from its old one is
//! suspect, but that is no proof, and there is no file for it.

use crate::bundle::{self, OrgPart};
use crate::codec::{self, CodecError, Fields, Value};
use crate::id::{Hash, Origin};
use crate::note::{Checkpoint, InclusionProof};
use crate::org::{Org, Role, Standing};
use crate::statement::{Type, Unverified};
use crate::tree;
use crate::verify::{Finding, Outcome, Report, Trust};
use crate::view::{Expected, Package};

const MAGIC: &str = "lotline fork proof";
const VERSION: u64 = 1;
/// The largest fork proof we read, in bytes: two packages and an org feed.
pub const FORK_PROOF_BYTES_MAX: usize = 8 << 20;

/// One of the two truths.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Side {
    /// A statement, which names its own place.
    Statement(Vec<u8>),
    /// What the log committed to at a place: a leaf hash and a tlog-proof.
    Leaf(Hash, String),
    /// A checkpoint.
    Checkpoint(String),
    /// What a checkpoint says of its own beginning: size and root of the first entries, and the consistency proof. The
    /// newer root leaves the older one no choice.
    Prefix {
        /// Size of the beginning.
        size: u64,
        /// Its root.
        root: Hash,
        /// Consistency proof from there to the checkpoint.
        path: Vec<Hash>,
        /// The checkpoint.
        checkpoint: String,
    },
    /// A record with its identity open.
    Record(Package),
}

/// A proof that an organisation signed two truths.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForkProof {
    /// The org feed that says whose keys signed.
    pub org: OrgPart,
    /// The two truths.
    pub sides: [Side; 2],
}

/// Two sides that contradict nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForkError {
    /// The file breaks the form.
    #[error("not a fork proof: {0}")]
    Form(#[from] CodecError),
    /// The org feed does not hold.
    #[error("its org feed does not hold: {0}")]
    Org(String),
    /// A side does not hold.
    #[error("side {0} does not hold: {1}")]
    Side(usize, String),
    /// Both hold, and both may be true.
    #[error("the two sides do not contradict each other")]
    Agree,
}

/// What a side says once it holds.
enum Truth {
    /// A leaf stands at a place.
    Place(Origin, u64, Hash),
    /// A feed has this root at this size.
    Size(Origin, u64, Hash),
    /// A live statement about an inspection.
    Live(Live),
}

struct Live {
    place: (Origin, u64),
    identity: String,
    leaf: Hash,
    replaces: Option<Hash>,
}

/// Whether bytes begin like a fork proof.
pub fn is_fork_proof(bytes: &[u8]) -> bool {
    bundle::is_titled(bytes, MAGIC)
}

impl ForkProof {
    /// A proof from two sides, if they contradict each other under these keys.
    pub fn of(org: OrgPart, one: Side, other: Side) -> Option<ForkProof> {
        let proof = ForkProof { org, sides: [one, other] };
        proof.check().is_ok().then_some(proof)
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(&codec::map([
            (0, codec::text(MAGIC)),
            (1, codec::uint(VERSION)),
            (2, codec::array([self.org.to_value()])),
            (3, codec::array(self.sides.iter().map(Side::to_value))),
        ]))
    }

    /// Reads the file strictly.
    pub fn read(bytes: &[u8]) -> Result<ForkProof, CodecError> {
        if bytes.len() > FORK_PROOF_BYTES_MAX {
            return Err(CodecError::Shape("a fork proof larger than 8 MiB"));
        }
        let mut fields = Fields::of(codec::decode(bytes)?)?;
        if fields.text(0, "no title")? != MAGIC {
            return Err(CodecError::Shape("not a fork proof"));
        }
        if fields.uint(1, "no version")? != VERSION {
            return Err(CodecError::Newer("a fork proof of another version"));
        }
        let (mut orgs, sides) = (fields.array(2, "no org feed")?, fields.array(3, "no sides")?);
        fields.end()?;
        let (Some(org), true) = (orgs.pop(), orgs.is_empty()) else {
            return Err(CodecError::Shape("not exactly one org feed"));
        };
        let sides = sides.into_iter().map(Side::read).collect::<Result<Vec<_>, _>>()?;
        let sides = sides.try_into().map_err(|_| CodecError::Shape("not exactly two sides"))?;
        Ok(ForkProof { org: OrgPart::read(org)?, sides })
    }

    /// What it proves, in words; an error when it proves nothing.
    pub fn check(&self) -> Result<(Org, String), ForkError> {
        let (org, cosigned) = self.org.open().map_err(|why| ForkError::Org(why.to_string()))?;
        if !cosigned.cosignatures.is_empty() {
            return Err(ForkError::Org("it carries cosignatures, which nothing here can check".into()));
        }
        let truth = |at: usize| self.sides[at].truth(&org).map_err(|why| ForkError::Side(at + 1, why));
        let text = contradiction(&truth(0)?, &truth(1)?).ok_or(ForkError::Agree)?;
        Ok((org, text))
    }
}

fn contradiction(a: &Truth, b: &Truth) -> Option<String> {
    match (a, b) {
        (Truth::Place(origin, seq, one), Truth::Place(other_origin, other_seq, other)) => {
            (origin == other_origin && seq == other_seq && one != other)
                .then(|| format!("it signed two different contents for entry {seq} of feed {origin}"))
        }
        (Truth::Size(origin, size, one), Truth::Size(other_origin, other_size, other)) => {
            (origin == other_origin && size == other_size && one != other)
                .then(|| format!("it signed two different histories of {size} entries of feed {origin}"))
        }
        (Truth::Live(one), Truth::Live(other)) => {
            let (earlier, later) = if one.place <= other.place { (one, other) } else { (other, one) };
            // The later one may replace the earlier by way of a third that is not here; then nothing is proven. In one
            // feed an earlier record cannot name a later one.
            let apart = earlier.place.0 == later.place.0 || earlier.replaces.is_none();
            (one.identity == other.identity && one.leaf != other.leaf && later.replaces.is_none() && apart)
                .then(|| "it signed two live statements about the same inspection of the same lot".to_owned())
        }
        _ => None,
    }
}

impl Side {
    fn to_value(&self) -> Value {
        codec::map(match self {
            Side::Statement(core) => vec![(1, codec::bytes(core.as_slice()))],
            Side::Leaf(leaf, proof) => vec![(2, codec::bytes(leaf.0)), (3, codec::bytes(proof.as_bytes()))],
            Side::Checkpoint(note) => vec![(4, codec::text(note.as_str()))],
            Side::Prefix { size, root, path, checkpoint } => vec![
                (4, codec::text(checkpoint.as_str())),
                (5, codec::uint(*size)),
                (7, codec::bytes(root.0)),
                (8, codec::array(path.iter().map(|hash| codec::bytes(hash.0)))),
            ],
            Side::Record(package) => vec![(6, package.to_value())],
        })
    }

    fn read(value: Value) -> Result<Side, CodecError> {
        const FORM: CodecError = CodecError::Shape("a side out of form");
        let mut fields = Fields::of(value)?;
        let side = if let Some(core) = fields.take_bytes(1, "a statement that is no byte string")? {
            Side::Statement(core)
        } else if let Some(leaf) = fields.take_bytes(2, "a leaf hash that is no byte string")? {
            let proof = String::from_utf8(fields.bytes(3, "a leaf without a proof")?).map_err(|_| FORM)?;
            Side::Leaf(Hash::from_slice(&leaf).ok_or(FORM)?, proof)
        } else if let Some(package) = fields.take(6) {
            let package = Package::read(package, 2)?;
            // What other witnesses say of a record decides nothing here, and nothing unchecked stands in the file.
            if package.witnessed.is_some() || package.receipt.is_some() {
                return Err(FORM);
            }
            Side::Record(package)
        } else {
            let checkpoint = fields.text(4, "a side of no known kind")?;
            match fields.take(5) {
                None => Side::Checkpoint(checkpoint),
                Some(size) => Side::Prefix {
                    size: codec::as_uint(&size).ok_or(FORM)?,
                    root: Hash::from_slice(&fields.bytes(7, "a beginning without a root")?).ok_or(FORM)?,
                    path: read_path(&fields.array(8, "a beginning without a proof")?).ok_or(FORM)?,
                    checkpoint,
                },
            }
        };
        fields.end()?;
        Ok(side)
    }

    fn truth(&self, org: &Org) -> Result<Truth, String> {
        match self {
            Side::Statement(core) => statement_truth(core, org),
            Side::Leaf(leaf, proof) => leaf_truth(leaf, proof, org),
            Side::Checkpoint(note) => {
                let Checkpoint { origin, size, root } = open(note, org)?;
                Ok(Truth::Size(origin, size, root))
            }
            Side::Prefix { size, root, path, checkpoint } => {
                let newer = open(checkpoint, org)?;
                tree::verify_consistency(*size, root, newer.size, &newer.root, path).map_err(|why| why.to_string())?;
                Ok(Truth::Size(newer.origin, *size, *root))
            }
            Side::Record(package) => live_truth(package, org),
        }
    }
}

fn read_path(items: &[Value]) -> Option<Vec<Hash>> {
    const PATH_MAX: usize = 64;
    let hash = |item: &Value| codec::as_bytes(item).and_then(Hash::from_slice);
    (items.len() <= PATH_MAX).then(|| items.iter().map(hash).collect())?
}

/// A head that counts against its owner. What the holder of a delegated feed signs beyond the end of the delegation is its
/// own doing.
fn open(note: &str, org: &Org) -> Result<Checkpoint, String> {
    let head = org.open(note).map_err(|why| why.to_string())?;
    match org.delegation(head.origin.as_str()).and_then(|to| to.ended) {
        Some(from) if head.size > from => Err("a head beyond the end of a delegation".into()),
        _ => Ok(head),
    }
}

/// The key of that place signed it; a key that was revoked there proves nothing against its owner.
fn statement_truth(core: &[u8], org: &Org) -> Result<Truth, String> {
    let unverified = Unverified::read(core).map_err(|why| why.to_string())?;
    let claims = unverified.claims();
    let origin: Origin = claims.origin.parse().map_err(|why: crate::id::IdError| why.to_string())?;
    let (seq, kid, typ) = (claims.seq, claims.kid, claims.typ);
    if claims.issuer != org.issuer() || origin.party() != org.party() {
        return Err("another issuer".into());
    }
    let root = org.root_at(seq);
    let key = match typ {
        Type::Record | Type::Feed => match org.record_key(&kid, origin.as_str(), seq, claims.day) {
            Some(Standing::Good(key)) => Some(key),
            _ => None,
        },
        Type::Org => org.key_for(Role::Record, &kid, origin.as_str(), seq).or((crate::id::thumbprint(&root) == kid).then_some(&root)),
        // A person signs for a place that may be taken by then, and signs again: that is no second truth of the firm's.
        Type::Release => return Err("a release alone proves nothing; the leaf that the log committed to does".into()),
        Type::Policy
        | Type::Receipt
        | Type::Voucher
        | Type::Members
        | Type::Request
        | Type::Requirements
        | Type::Answer
        | Type::Acceptance
        | Type::Deletion => {
            return Err("a statement that stands in no feed".into());
        }
    };
    let key = *key.ok_or("signed by a key that may not sign there")?;
    let verified = unverified.verify(&key).map_err(|why| why.to_string())?;
    Ok(Truth::Place(origin, seq, verified.leaf()))
}

fn leaf_truth(leaf: &Hash, proof: &str, org: &Org) -> Result<Truth, String> {
    let proof = InclusionProof::read(proof).map_err(|why| why.to_string())?;
    let checkpoint = open(&proof.checkpoint, org)?;
    tree::verify_inclusion(leaf, proof.index, checkpoint.size, &proof.path, &checkpoint.root).map_err(|why| why.to_string())?;
    Ok(Truth::Place(checkpoint.origin, proof.index, *leaf))
}

/// A record whose identity is open, live by what the org feed says, and in a feed.
fn live_truth(package: &Package, org: &Org) -> Result<Truth, String> {
    let unverified = Unverified::read(&package.view.core).map_err(|why| why.to_string())?;
    let claims = unverified.claims();
    let expected = Expected { origin: &claims.origin, seq: claims.seq };
    let view = package.view.verify(org, expected).map_err(|why| why.to_string())?;
    if view.revoked().is_some() || org.withdrawn(&view.leaf()).is_some() {
        return Err("it is revoked or withdrawn".into());
    }
    if !view.shows_identity() {
        return Err("it does not show which inspection of which lot it is about".into());
    }
    match leaf_truth(&view.leaf(), &package.proof, org)? {
        Truth::Place(origin, seq, leaf) if origin.as_str() == claims.origin && seq == claims.seq => {
            Ok(Truth::Live(Live { place: (origin, seq), identity: view.facts().identity(), leaf, replaces: claims.supersedes }))
        }
        _ => Err("its proof is for another place".into()),
    }
}

/// Verifies a fork proof: forked when it holds.
pub(crate) fn verify(bytes: &[u8], trust: &Trust) -> Report {
    let mut report = Report::new();
    let proof = match ForkProof::read(bytes) {
        Ok(proof) => proof,
        Err(why) => {
            let outcome = if matches!(why, CodecError::Newer(_)) { Outcome::Unreadable } else { Outcome::Altered };
            report.fails(outcome, "format", "the file", why.to_string());
            return report;
        }
    };
    report.add("format", "the file", Finding::Holds("a Lotline fork proof, read to the last byte".into()));
    match proof.check() {
        Ok((org, text)) => {
            let party = org.party();
            if report.open_org(proof.org, trust).is_some()
                && let Some(issuer) = report.issuers.last_mut()
            {
                issuer.has_records = true;
            }
            let who = trust
                .of(&party)
                .map_or(format!("somebody who calls itself {}, root {}", org.name(), party.six_words()), |root| root.name.clone());
            report.fails(Outcome::Forked, "fork", who, text);
        }
        Err(why) => report.fails(Outcome::Altered, "fork", "the file", format!("it proves nothing: {why}")),
    }
    report
}
