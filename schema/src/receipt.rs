//! Inclusion receipts: COSE Receipts of RFC 9942 over our tree (RFC9162_SHA256), and Transparent Statements of RFC 9943.
//!
//! The log's owner signs, in another form than the checkpoint's, that a statement is in its feed, for tools that speak
//! COSE and not signed notes. RFC 9942 signs neither size nor index; ours carries the size in the protected header
//! (label -65811), and a receipt whose proof has another size is refused.

use ed25519_dalek::{Signature, VerifyingKey};

use crate::codec::{self, CodecError, Fields, TAG_SIGN1, Value};
use crate::cose::{Sign1, Signer, sig_structure};
use crate::id::{Hash, Origin};
use crate::note::Checkpoint;
use crate::org::Org;
use crate::tree;

const ALG_ED25519: i64 = -19;
/// Tree algorithm RFC9162_SHA256 (RFC 9942 section 5).
const RFC9162_SHA256: i64 = 1;
const HEADER_CWT: i64 = 15;
const HEADER_VDS: i64 = 395;
const HEADER_VDP: i64 = 396;
/// Transparent Statement: receipts (RFC 9943).
const HEADER_RECEIPTS: i64 = 394;
const HEADER_SIZE: i64 = -65811;
const INCLUSION: i64 = -1;
/// The most hashes in a path: one a level.
const PATH_MAX: usize = 63;
/// The largest receipt we read, in bytes: a path of 63 hashes and the headers.
pub const INCLUSION_RECEIPT_BYTES_MAX: usize = 4096;

/// A receipt that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not the form above.
    #[error("not an inclusion receipt: {0}")]
    Form(#[from] CodecError),
    /// For another log, place or size than the statement's.
    #[error("it is about another {0}")]
    Elsewhere(&'static str),
    /// The proof leads nowhere, or elsewhere.
    #[error("its proof does not hold: {0}")]
    Proof(#[from] tree::ProofError),
    /// The signature does not hold.
    #[error("its signature does not match")]
    Signature,
}

/// A statement of which a receipt speaks.
#[derive(Clone, Copy, Debug)]
pub struct Included<'a> {
    /// Its feed.
    pub origin: &'a Origin,
    /// Its place.
    pub seq: u64,
    /// Its leaf hash.
    pub leaf: Hash,
}

/// Issues a receipt: the log key signs the root to which the path leads. `now` in seconds since 1970. None for a tree
/// of one leaf, whose empty path RFC 9942 cannot write.
pub fn issue(log: &Signer, checkpoint: &Checkpoint, seq: u64, path: &[Hash], now: u64) -> Option<Vec<u8>> {
    if path.is_empty() {
        return None;
    }
    let issuer = checkpoint.origin.party().to_string();
    let cwt = codec::map([(1, codec::text(issuer)), (2, codec::text(checkpoint.origin.as_str())), (6, codec::uint(now))]);
    let protected = codec::encode(&codec::map([
        (1, codec::int(ALG_ED25519)),
        (4, codec::bytes(log.kid().0)),
        (HEADER_CWT, cwt),
        (HEADER_VDS, codec::int(RFC9162_SHA256)),
        (HEADER_SIZE, codec::uint(checkpoint.size)),
    ]));
    let hashes = path.iter().map(|hash| codec::bytes(hash.0));
    let proof = codec::encode(&codec::array([codec::uint(checkpoint.size), codec::uint(seq), codec::array(hashes)]));
    let unprotected = codec::map([(HEADER_VDP, codec::map([(INCLUSION, codec::array([codec::bytes(proof)]))]))]);
    let signature = log.sign(&sig_structure(&protected, &checkpoint.root.0));
    let parts = codec::array([codec::bytes(protected), unprotected, Value::Null, codec::bytes(signature.to_vec())]);
    Some(codec::encode(&codec::tag(TAG_SIGN1, parts)))
}

/// Verifies a receipt for a statement and returns size and root it proves.
pub fn verify(receipt: &[u8], of: Included<'_>, owner: &Org) -> Result<(u64, Hash), ReceiptError> {
    const FORM: ReceiptError = ReceiptError::Form(CodecError::Shape("not a COSE receipt"));
    if receipt.len() > INCLUSION_RECEIPT_BYTES_MAX {
        return Err(FORM);
    }
    let Value::Tag(TAG_SIGN1, inner) = codec::decode(receipt)? else {
        return Err(FORM);
    };
    let Value::Array(parts) = *inner else {
        return Err(FORM);
    };
    let Ok([Value::Bytes(protected), unprotected, Value::Null, Value::Bytes(signature)]) = <[Value; 4]>::try_from(parts) else {
        return Err(FORM);
    };
    let (kid, size) = read_protected(&protected, &of)?;
    let (proof_size, index, path) = read_proof(unprotected)?;
    if proof_size != size {
        return Err(ReceiptError::Elsewhere("size than it signs"));
    }
    if index != of.seq {
        return Err(ReceiptError::Elsewhere("place"));
    }
    // The signature has to fit the root that the path leads to.
    let root = tree::root_from_inclusion(&of.leaf, index, size, &path)?;
    let keys = owner.log_keys(of.origin, size);
    let key: &VerifyingKey = keys.into_iter().find(|key| crate::id::thumbprint(key) == kid).ok_or(ReceiptError::Elsewhere("log key"))?;
    let signature = Signature::from_slice(&signature).map_err(|_| FORM)?;
    key.verify_strict(&sig_structure(&protected, &root.0), &signature).map_err(|_| ReceiptError::Signature)?;
    Ok((size, root))
}

fn read_protected(protected: &[u8], of: &Included<'_>) -> Result<(Hash, u64), ReceiptError> {
    let mut fields = Fields::of(codec::decode(protected)?)?;
    if fields.take(1) != Some(codec::int(ALG_ED25519)) || fields.take(HEADER_VDS) != Some(codec::int(RFC9162_SHA256)) {
        return Err(CodecError::Shape("another algorithm").into());
    }
    let kid = Hash::from_slice(&fields.bytes(4, "no key thumbprint")?).ok_or(CodecError::Shape("a key thumbprint of another length"))?;
    let size = fields.uint(HEADER_SIZE, "no signed tree size")?;
    let mut cwt = Fields::of(fields.need(HEADER_CWT, "no CWT claims")?)?;
    let (issuer, feed) = (cwt.text(1, "no issuer")?, cwt.text(2, "no feed")?);
    cwt.uint(6, "no time")?;
    cwt.end()?;
    fields.end()?;
    if issuer != of.origin.party().to_string() {
        return Err(ReceiptError::Elsewhere("issuer"));
    }
    if feed != of.origin.as_str() {
        return Err(ReceiptError::Elsewhere("feed"));
    }
    Ok((kid, size))
}

fn read_proof(unprotected: Value) -> Result<(u64, u64, Vec<Hash>), ReceiptError> {
    const FORM: CodecError = CodecError::Shape("not exactly one inclusion proof");
    let mut headers = Fields::of(unprotected)?;
    let mut proofs = Fields::of(headers.need(HEADER_VDP, "no proof")?)?;
    let list = proofs.array(INCLUSION, "no inclusion proof")?;
    proofs.end()?;
    headers.end()?;
    let [Value::Bytes(proof)] = &list[..] else {
        return Err(FORM.into());
    };
    let value = codec::decode(proof)?;
    let [size, index, Value::Array(path)] = codec::as_array(&value).unwrap_or_default() else {
        return Err(FORM.into());
    };
    if path.is_empty() || path.len() > PATH_MAX {
        return Err(FORM.into());
    }
    let path = path.iter().map(|hash| codec::as_bytes(hash).and_then(Hash::from_slice)).collect::<Option<_>>().ok_or(FORM)?;
    Ok((codec::as_uint(size).ok_or(FORM)?, codec::as_uint(index).ok_or(FORM)?, path))
}

/// The Transparent Statement of RFC 9943: the core with receipts in its unprotected header, no signed byte touched.
pub fn transparent_statement(core: &[u8], receipts: &[&[u8]]) -> Result<Vec<u8>, CodecError> {
    let Sign1 { protected, payload, signature } = Sign1::read(core)?;
    let unprotected = codec::map([(HEADER_RECEIPTS, codec::array(receipts.iter().map(|receipt| codec::bytes(*receipt))))]);
    let parts = codec::array([codec::bytes(protected), unprotected, codec::bytes(payload), codec::bytes(signature.to_vec())]);
    Ok(codec::encode(&codec::tag(TAG_SIGN1, parts)))
}
