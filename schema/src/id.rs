//! Names that do not change: hashes, key thumbprints, parties, feed origins, sequence numbers.
//!
//! Each is a newtype with one text form and, for logs, a short one. Knows nothing of records.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};

/// 32 bytes of SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// SHA-256 of the parts laid one after another.
    pub fn of(parts: &[&[u8]]) -> Hash {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Hash(hasher.finalize().into())
    }

    /// From exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Hash> {
        bytes.try_into().ok().map(Hash)
    }

    /// The first eight hex digits, for logs and lists.
    pub fn short(&self) -> String {
        hex(&self.0[..4])
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({})", self.short())
    }
}

impl FromStr for Hash {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Hash, IdError> {
        unhex(text).and_then(|bytes| Hash::from_slice(&bytes)).ok_or_else(|| IdError::Hash(text.into()))
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a hex text of even length.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    // Looked at digit by digit: `from_str_radix` would read `+f` too.
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// A name that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 64 hex digits.
    #[error("`{0}` is not a SHA-256 hash in hex")]
    Hash(String),
    /// Not a did:key of an Ed25519 key.
    #[error("`{0}` is not an Ed25519 key in the form did:key:z6Mk…")]
    Party(String),
    /// The key is one of the few of small order, which sign anything.
    #[error("the key in `{0}` is weak and cannot identify anybody")]
    Weak(String),
    /// Not `<z6Mk…>/<name>/<n>`.
    #[error("`{0}` is not the origin of a feed (<key>/<name>/<number>)")]
    Origin(String),
    /// Not `[a-z0-9-]{1,32}`.
    #[error("`{0}` cannot name a feed: use 1 to 32 of a-z, 0-9 and -")]
    FeedName(String),
}

/// RFC 9679 SHA-256 COSE Key Thumbprint of an Ed25519 key: the `kid` of everything it signs.
pub fn thumbprint(key: &VerifyingKey) -> Hash {
    // {1: 1 (OKP), -1: 6 (Ed25519), -2: x} in deterministic CBOR.
    Hash::of(&[&[0xa3, 0x01, 0x01, 0x20, 0x06, 0x21, 0x58, 0x20], key.as_bytes()])
}

/// A key fit to verify with: decoded, and not of small order (pitfall 11 of the format notes).
pub fn strong_key(bytes: &[u8]) -> Option<VerifyingKey> {
    let key = VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()?;
    (!key.is_weak()).then_some(key)
}

/// A key fit to be learnt: strong, in its one spelling, and wholly in the prime-order group. With a part of small order
/// verifiers of other make, which look at a key less strictly, would disagree with ours. Takes as long as a signature.
pub fn pure_key(bytes: &[u8]) -> Option<VerifyingKey> {
    let key = strong_key(bytes)?;
    let point = key.to_edwards();
    (point.compress().as_bytes() == key.as_bytes() && point.is_torsion_free()).then_some(key)
}

/// An organisation for life: the key it was founded with, as `did:key` (multicodec 0xed01, base58btc).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartyId([u8; 32]);

impl PartyId {
    /// The party founded with this root key.
    pub fn of(root: &VerifyingKey) -> PartyId {
        PartyId(root.to_bytes())
    }

    /// Its root key.
    pub fn root(&self) -> VerifyingKey {
        VerifyingKey::from_bytes(&self.0).expect("a PartyId is only made from a key that decodes")
    }

    /// The bytes of its root key, which nobody need decode for: that costs as much as a quarter of a signature.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key's text without `did:key:`: the first part of every origin.
    pub fn key_text(&self) -> String {
        let mut bytes = vec![0xed, 0x01];
        bytes.extend_from_slice(&self.0);
        format!("z{}", bs58::encode(bytes).into_string())
    }

    /// Six words that two people can compare over the telephone: 66 bits of the root key's thumbprint.
    pub fn six_words(&self) -> String {
        let digest = thumbprint(&self.root()).0;
        let words = bip39::Language::English.word_list();
        let bits = digest[..9].iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
        (0..6).map(|at| words[(bits >> (72 - 11 * (at + 1)) & 0x7ff) as usize]).collect::<Vec<_>>().join(" ")
    }

    /// Enough of the key to tell parties apart in a log.
    pub fn short(&self) -> String {
        let text = self.key_text();
        format!("{}…{}", &text[..5], &text[text.len() - 4..])
    }
}

impl fmt::Display for PartyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "did:key:{}", self.key_text())
    }
}

impl fmt::Debug for PartyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartyId({})", self.short())
    }
}

impl FromStr for PartyId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<PartyId, IdError> {
        let wrong = || IdError::Party(text.into());
        let key_text = text.strip_prefix("did:key:").unwrap_or(text);
        let encoded = key_text.strip_prefix('z').filter(|rest| rest.len() <= 64).ok_or_else(wrong)?;
        let bytes = bs58::decode(encoded).into_vec().map_err(|_| wrong())?;
        let key = bytes.strip_prefix(&[0xed, 0x01]).ok_or_else(wrong)?;
        let array: &[u8; 32] = key.try_into().map_err(|_| wrong())?;
        let key = VerifyingKey::from_bytes(array).map_err(|_| wrong())?;
        if key.is_weak() {
            return Err(IdError::Weak(text.into()));
        }
        let party = PartyId(key.to_bytes());
        // One text form: what we print is the only spelling we read.
        if party.key_text() == key_text { Ok(party) } else { Err(wrong()) }
    }
}

/// Where a feed comes from: `<z6Mk…>/<name>/<n>`; n grows when a restored node must start anew.
///
/// It keeps its text, since base58 of a key costs more than hashing a record, and every statement carries it.
#[derive(Clone)]
pub struct Origin {
    party: PartyId,
    name_at: usize,
    n: u32,
    text: Arc<str>,
}

/// The name of the one feed in which an organisation states its keys.
pub const ORG_FEED: &str = "org";

impl Origin {
    /// The origin of `name`, in its `n`th life (from 1).
    pub fn new(party: PartyId, name: &str, n: u32) -> Result<Origin, IdError> {
        let fits =
            (1..=32).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !fits || n == 0 {
            return Err(IdError::FeedName(name.into()));
        }
        Ok(Origin::made(party, name, n))
    }

    fn made(party: PartyId, name: &str, n: u32) -> Origin {
        let key = party.key_text();
        Origin { party, name_at: key.len() + 1, n, text: format!("{key}/{name}/{n}").into() }
    }

    /// The org feed of a party.
    pub fn org(party: PartyId) -> Origin {
        Origin::made(party, ORG_FEED, 1)
    }

    /// Whether this is an org feed.
    pub fn is_org(&self) -> bool {
        self.name() == ORG_FEED
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The owner's key as text: the first part.
    pub fn key_text(&self) -> &str {
        &self.text[..self.name_at - 1]
    }

    /// Whose feed it is.
    pub fn party(&self) -> PartyId {
        self.party
    }

    /// The name its owner gave it.
    pub fn name(&self) -> &str {
        let rest = &self.text[self.name_at..];
        rest.split_once('/').map_or(rest, |(name, _)| name)
    }

    /// Which life of the feed.
    pub fn n(&self) -> u32 {
        self.n
    }

    /// The next life of the same feed.
    pub fn renewed(&self) -> Origin {
        Origin::made(self.party, self.name(), self.n + 1)
    }

    /// For logs.
    pub fn short(&self) -> String {
        format!("{}/{}/{}", self.party.short(), self.name(), self.n)
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Origin) -> bool {
        self.text == other.text
    }
}

impl Eq for Origin {}

impl PartialOrd for Origin {
    fn partial_cmp(&self, other: &Origin) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Origin {
    fn cmp(&self, other: &Origin) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl std::hash::Hash for Origin {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({})", self.short())
    }
}

impl FromStr for Origin {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Origin, IdError> {
        let wrong = || IdError::Origin(text.into());
        let mut parts = text.split('/');
        let (Some(key), Some(name), Some(n), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(wrong());
        };
        if !key.starts_with('z') {
            return Err(wrong());
        }
        let origin = Origin::new(key.parse()?, name, n.parse().map_err(|_| wrong())?)?;
        if origin.to_string() == text { Ok(origin) } else { Err(wrong()) }
    }
}

/// What a transport key's node is called on the network: the libp2p peer id of an Ed25519 key, as text.
///
/// ```
/// use lotline_schema::id::peer_id_text;
/// let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
/// assert!(peer_id_text(&key).starts_with("12D3KooW"));
/// ```
pub fn peer_id_text(key: &VerifyingKey) -> String {
    // A multihash "identity" of 36 bytes: the protobuf of a public key of type Ed25519.
    const HEAD: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
    bs58::encode([&HEAD[..], key.as_bytes()].concat()).into_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;

    fn party() -> PartyId {
        PartyId::of(&SigningKey::from_bytes(&[7; 32]).verifying_key())
    }

    #[test]
    fn texts_are_read_back_and_have_one_spelling() {
        let party = party();
        assert_eq!(party.to_string().parse::<PartyId>(), Ok(party));
        assert!(party.key_text().starts_with("z6Mk"));
        let origin = Origin::new(party, "quality", 2).unwrap();
        assert_eq!(origin.to_string().parse::<Origin>(), Ok(origin.clone()));
        for wrong in ["", "z/quality/1", "did:key:z6Mk/quality/1"] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
        assert!(format!("{}/quality/01", party.key_text()).parse::<Origin>().is_err());
        assert!(format!("{}/Quality/1", party.key_text()).parse::<Origin>().is_err());
        assert!(Origin::new(party, &"a".repeat(33), 1).is_err());
    }

    #[test]
    fn the_identity_point_names_nobody() {
        let mut weak = vec![0xed, 0x01, 1];
        weak.extend([0; 31]);
        let text = format!("did:key:z{}", bs58::encode(weak).into_string());
        assert!(matches!(text.parse::<PartyId>(), Err(IdError::Weak(_))));
        let mut identity = [0u8; 32];
        identity[0] = 1;
        assert!(strong_key(&identity).is_none());
    }

    #[test]
    fn six_words_are_six_and_stable() {
        let words = party().six_words();
        assert_eq!(words.split(' ').count(), 6);
        assert_eq!(words, party().six_words());
    }
}
