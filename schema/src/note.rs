//! Signed notes of C2SP: checkpoints, cosignatures, verifier keys and tlog-proofs, as text.
//!
//! Inside our bundles a checkpoint is read strictly: the origin is the key's name, no extension lines, the log's
//! signature line and then cosignature lines in the order of their names, canonical base64. [`verify_signature`] is
//! the tolerant reader the C2SP text asks of verifiers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::cose::Signer;
use crate::id::{Hash, Origin, hex, pure_key, unhex};

/// The signed size and root of a feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The feed.
    pub origin: Origin,
    /// Entries.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

/// The kind of key behind a signature line.
const TYPE_ED25519: u8 = 1;
/// The kind of key behind a cosignature line (C2SP tlog-cosignature, cosignature/v1).
const TYPE_COSIGNATURE: u8 = 4;
/// The most cosignature lines of a checkpoint.
pub const COSIGNATURES_MAX: usize = 16;
/// The longest checkpoint we read, in bytes; ours are about 250, sixteen cosignatures add 3 KiB.
pub const CHECKPOINT_BYTES_MAX: usize = 16 * 1024;
/// The most hashes in a proof: one a level.
const PATH_MAX: usize = 63;
const PROOF_TITLE: &str = "c2sp.org/tlog-proof@v1";

/// Text that is no checkpoint or proof of ours, or not signed by the key asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text breaks the form.
    #[error("not a checkpoint: {0}")]
    Form(&'static str),
    /// A line we do not know, in a file that must hold nothing unknown.
    #[error("the checkpoint has a signature line that is not the feed's own")]
    UnknownLine,
    /// Cosignature lines out of order, twice, or too many.
    #[error("the checkpoint's cosignature lines are out of form")]
    Cosignatures,
    /// The signature does not hold.
    #[error("the checkpoint's signature does not match")]
    Signature,
}

/// SHA-256(name ‖ 0A ‖ type ‖ key), first four bytes.
pub fn key_id(name: &str, kind: u8, key: &[u8; 32]) -> [u8; 4] {
    let hash = Hash::of(&[name.as_bytes(), &[b'\n', kind], key]);
    hash.0[..4].try_into().expect("four of 32 bytes")
}

/// The verifier key: `name+hex8+base64`.
pub fn vkey(name: &str, key: &VerifyingKey) -> String {
    let id = key_id(name, TYPE_ED25519, key.as_bytes());
    format!("{name}+{}+{}", hex(&id), BASE64.encode([&[TYPE_ED25519], &key.as_bytes()[..]].concat()))
}

/// Name and key of a log's verifier key.
pub fn read_vkey(text: &str) -> Result<(String, VerifyingKey), NoteError> {
    read_vkey_of(TYPE_ED25519, text)
}

fn read_vkey_of(kind: u8, text: &str) -> Result<(String, VerifyingKey), NoteError> {
    const FORM: NoteError = NoteError::Form("not a verifier key");
    let mut parts = text.trim_end().splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(FORM);
    };
    let key = BASE64.decode(key).map_err(|_| FORM)?;
    let key = key.split_first().filter(|(found, _)| **found == kind).and_then(|(_, key)| pure_key(key)).ok_or(FORM)?;
    let matches = unhex(id).is_some_and(|id| id == key_id(name, kind, key.as_bytes()));
    if matches && fits_key(name) { Ok((name.into(), key)) } else { Err(FORM) }
}

/// Whether a text can name a key (C2SP signed-note): it is shown to people, so it has no control characters either.
fn fits_key(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// The seed of the key with which a node witnesses one feed. `secret`: the seed of its witness key; `epoch`: 0, and
/// larger each time the node was restored, so that a restored node cannot sign against what it had signed before.
pub fn witness_seed(secret: &[u8; 32], origin: &Origin, epoch: u64) -> [u8; 32] {
    hmac(secret, format!("lotline witness v1\n{origin}\n{epoch}").as_bytes())
}

/// HMAC-SHA-256 (RFC 2104) with a key of at most one block, which are 64 bytes.
///
/// # Panics
///
/// If the key is longer.
pub fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0u8; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Hash::of(&[&block.map(|byte| byte ^ 0x36), message]);
    Hash::of(&[&block.map(|byte| byte ^ 0x5c), &inner.0]).0
}

/// A witness's key, under the name its cosignatures carry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WitnessKey {
    name: String,
    key: VerifyingKey,
}

impl WitnessKey {
    /// One of ours: its name says nothing but which key it is, `w-` and eight hex digits.
    pub fn opaque(key: VerifyingKey) -> WitnessKey {
        WitnessKey { name: format!("w-{}", &hex(&Hash::of(&[key.as_bytes()]).0)[..8]), key }
    }

    /// Reads the verifier key of any C2SP witness: `name+hex8+base64`.
    pub fn read(vkey: &str) -> Result<WitnessKey, NoteError> {
        let (name, key) = read_vkey_of(TYPE_COSIGNATURE, vkey)?;
        let read = WitnessKey { name, key };
        if read.to_string() == vkey { Ok(read) } else { Err(NoteError::Form("a verifier key in another spelling")) }
    }

    /// Whether its name is the one that follows from the key. From a partner nothing else is taken: a name of its choice
    /// could be the feed's own, or another witness's.
    pub fn is_opaque(&self) -> bool {
        *self == WitnessKey::opaque(self.key)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> [u8; 4] {
        key_id(&self.name, TYPE_COSIGNATURE, self.key.as_bytes())
    }

    /// What a cosignature says of the key that made it.
    pub(crate) fn mark(&self) -> (String, [u8; 4]) {
        (self.name.clone(), self.id())
    }
}

/// The verifier key.
impl std::fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}+{}", self.name, hex(&self.id()), BASE64.encode([&[TYPE_COSIGNATURE], &self.key.as_bytes()[..]].concat()))
    }
}

/// A witness's signature on a checkpoint: it saw this one follow from all it saw before, at this time by its clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cosignature {
    name: String,
    id: [u8; 4],
    time: u64,
    signature: [u8; 64],
}

impl Cosignature {
    /// Cosigns a checkpoint; the name is [`WitnessKey::opaque`]'s. `time`: seconds since 1970.
    pub fn sign(checkpoint: &Checkpoint, witness: &Signer, time: u64) -> Cosignature {
        let key = WitnessKey::opaque(witness.public());
        let signature = witness.sign(&cosigned(&checkpoint.body(), time));
        Cosignature { id: key.id(), name: key.name, time, signature }
    }

    /// Reads a line of a note, without its newline.
    pub fn read(line: &str) -> Result<Cosignature, NoteError> {
        const FORM: NoteError = NoteError::Form("a cosignature line out of form");
        let (name, blob) = read_line(line)?;
        let (Some((id, rest)), true) = (blob.split_first_chunk::<4>(), blob.len() == 76 && fits_key(name)) else {
            return Err(FORM);
        };
        let (time, signature) = rest.split_first_chunk::<8>().ok_or(FORM)?;
        let signature = signature.try_into().map_err(|_| FORM)?;
        Ok(Cosignature { name: name.into(), id: *id, time: u64::from_be_bytes(*time), signature })
    }

    /// The line, without its newline.
    pub fn to_line(&self) -> String {
        let blob = [&self.id[..], &self.time.to_be_bytes(), &self.signature].concat();
        format!("\u{2014} {} {}", self.name, BASE64.encode(blob))
    }

    /// The name it was made under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When, by the witness's clock, in seconds since 1970.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// What it says of its key.
    pub(crate) fn mark(&self) -> (String, [u8; 4]) {
        (self.name.clone(), self.id)
    }

    /// Whether it was made under this key's name.
    pub fn is_of(&self, key: &WitnessKey) -> bool {
        self.name == key.name && self.id == key.id()
    }

    /// Verifies it, strictly.
    pub fn verify(&self, checkpoint: &Checkpoint, key: &WitnessKey) -> Result<(), NoteError> {
        let message = cosigned(&checkpoint.body(), self.time);
        let holds = self.is_of(key) && key.key.verify_strict(&message, &Signature::from_bytes(&self.signature)).is_ok();
        if holds { Ok(()) } else { Err(NoteError::Signature) }
    }
}

/// What a witness signs.
fn cosigned(body: &str, time: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{body}").into_bytes()
}

/// A checkpoint's note with cosignature lines behind the log's line, in the order of their names. Of one name the
/// first given stays.
pub fn with_cosignatures(note: &str, cosignatures: &[Cosignature]) -> String {
    let mut lines: Vec<&Cosignature> = cosignatures.iter().collect();
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    lines.dedup_by(|later, kept| later.name == kept.name);
    lines.truncate(COSIGNATURES_MAX);
    lines.into_iter().fold(note.to_owned(), |text, line| text + &line.to_line() + "\n")
}

/// A checkpoint whose log line holds, with its cosignatures: each is still to be verified, under a key the reader knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cosigned {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The cosignatures, in the order of their names.
    pub cosignatures: Vec<Cosignature>,
}

impl Checkpoint {
    fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.0))
    }

    /// Signs: the note, ready to store and send.
    pub fn sign(&self, signer: &Signer) -> String {
        let (body, name) = (self.body(), self.origin.to_string());
        let id = key_id(&name, TYPE_ED25519, signer.public().as_bytes());
        let signature = signer.sign(body.as_bytes());
        format!("{body}\n\u{2014} {name} {}\n", BASE64.encode([&id[..], &signature].concat()))
    }

    /// Reads a note of the form we write, without looking at its signature.
    pub fn read(note: &str) -> Result<Checkpoint, NoteError> {
        let (body, _) = split(note)?;
        let mut lines = body.split_terminator('\n');
        let (Some(origin), Some(size), Some(root), None) = (lines.next(), lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Form("a checkpoint has three lines"));
        };
        let number: u64 = size.parse().map_err(|_| NoteError::Form("the size is no number"))?;
        let root = BASE64.decode(root).ok().and_then(|root| Hash::from_slice(&root)).ok_or(NoteError::Form("the root is no hash"))?;
        let origin = origin.parse().map_err(|_| NoteError::Form("the origin is no feed"))?;
        if number.to_string() != size {
            return Err(NoteError::Form("the size is not in its one spelling"));
        }
        Ok(Checkpoint { origin, size: number, root })
    }

    /// Reads a note and verifies that exactly this key signed it, strictly.
    pub fn open(note: &str, key: &VerifyingKey) -> Result<Checkpoint, NoteError> {
        Checkpoint::open_by(note, &[key])
    }

    /// Reads a note and verifies that exactly one of these keys signed it, strictly; cosignatures are refused.
    pub fn open_by(note: &str, keys: &[&VerifyingKey]) -> Result<Checkpoint, NoteError> {
        match Cosigned::open(note, keys)? {
            Cosigned { checkpoint, cosignatures } if cosignatures.is_empty() => Ok(checkpoint),
            _ => Err(NoteError::UnknownLine),
        }
    }
}

impl Cosigned {
    /// Reads a note of ours: the log's line under one of these keys, then cosignature lines, each name once.
    pub fn open(note: &str, keys: &[&VerifyingKey]) -> Result<Cosigned, NoteError> {
        let checkpoint = Checkpoint::read(note)?;
        let (body, signatures) = split(note)?;
        let name = checkpoint.origin.as_str();
        let mut lines = signatures.split_terminator('\n');
        let (line_name, blob) = read_line(lines.next().ok_or(NoteError::Form("no signatures"))?)?;
        let key = keys.iter().find(|key| blob[..4] == key_id(name, TYPE_ED25519, key.as_bytes()));
        let key = key.filter(|_| line_name == name).ok_or(NoteError::UnknownLine)?;
        verify_blob(body, &blob, key)?;
        let cosignatures = read_cosignatures(lines, name)?;
        Ok(Cosigned { checkpoint, cosignatures })
    }
}

/// Cosignature lines in ascending order of their names.
fn read_cosignatures<'a>(lines: impl Iterator<Item = &'a str>, origin: &str) -> Result<Vec<Cosignature>, NoteError> {
    let mut read: Vec<Cosignature> = Vec::new();
    for line in lines {
        let (name, _) = read_line(line)?;
        if name == origin {
            return Err(NoteError::UnknownLine);
        }
        let cosignature = Cosignature::read(line)?;
        let in_order = read.last().is_none_or(|before| before.name < cosignature.name);
        if !in_order || read.len() == COSIGNATURES_MAX {
            return Err(NoteError::Cosignatures);
        }
        read.push(cosignature);
    }
    Ok(read)
}

/// Checks a note of any origin under one verifier key, ignoring lines of other keys (C2SP signed-note).
pub fn verify_signature<'a>(note: &'a str, name: &str, key: &VerifyingKey) -> Result<&'a str, NoteError> {
    let (body, signatures) = split(note)?;
    let id = key_id(name, TYPE_ED25519, key.as_bytes());
    let mut found = false;
    for line in signatures.split_terminator('\n') {
        let (line_name, blob) = read_line(line)?;
        if line_name == name && blob[..4] == id {
            if found {
                return Err(NoteError::Form("two signature lines of one key"));
            }
            verify_blob(body, &blob, key)?;
            found = true;
        }
    }
    if found { Ok(body) } else { Err(NoteError::Signature) }
}

fn verify_blob(body: &str, blob: &[u8], key: &VerifyingKey) -> Result<(), NoteError> {
    let signature: [u8; 64] = blob[4..].try_into().map_err(|_| NoteError::Form("a signature of another length"))?;
    key.verify_strict(body.as_bytes(), &Signature::from_bytes(&signature)).map_err(|_| NoteError::Signature)
}

/// Text and signature lines of a note.
fn split(note: &str) -> Result<(&str, &str), NoteError> {
    if note.len() > CHECKPOINT_BYTES_MAX {
        return Err(NoteError::Form("too long"));
    }
    if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
        return Err(NoteError::Form("control characters"));
    }
    // The last blank line separates; the newline before it belongs to the text.
    let at = note.rfind("\n\n").ok_or(NoteError::Form("no signatures"))?;
    let (body, signatures) = (&note[..=at], &note[at + 2..]);
    if signatures.is_empty() || !signatures.ends_with('\n') { Err(NoteError::Form("no signatures")) } else { Ok((body, signatures)) }
}

fn read_line(line: &str) -> Result<(&str, Vec<u8>), NoteError> {
    const FORM: NoteError = NoteError::Form("a signature line out of form");
    let (name, blob) = line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' ')).ok_or(FORM)?;
    let blob = BASE64.decode(blob).map_err(|_| FORM)?;
    if name.is_empty() || blob.len() < 5 { Err(FORM) } else { Ok((name, blob)) }
}

/// An inclusion proof with the checkpoint it leads to, in the text form of C2SP tlog-proof.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InclusionProof {
    /// Index of the leaf.
    pub index: u64,
    /// Hashes from the leaf's sibling upwards.
    pub path: Vec<Hash>,
    /// The checkpoint's note.
    pub checkpoint: String,
}

impl InclusionProof {
    /// The text.
    pub fn to_text(&self) -> String {
        let path: String = self.path.iter().map(|hash| BASE64.encode(hash.0) + "\n").collect();
        format!("{PROOF_TITLE}\nindex {}\n{path}\n{}", self.index, self.checkpoint)
    }

    /// Reads the text; the one that [`InclusionProof::to_text`] writes and no other.
    pub fn read(text: &str) -> Result<InclusionProof, NoteError> {
        const FORM: NoteError = NoteError::Form("an inclusion proof out of form");
        let (head, checkpoint) = text.split_once("\n\n").ok_or(FORM)?;
        let mut lines = head.split('\n');
        if lines.next() != Some(PROOF_TITLE) {
            return Err(FORM);
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(|index| index.parse().ok()).ok_or(FORM)?;
        let hash = |line: &str| BASE64.decode(line).ok().and_then(|bytes| Hash::from_slice(&bytes)).ok_or(FORM);
        let path: Vec<Hash> = lines.take(PATH_MAX + 1).map(hash).collect::<Result<_, _>>()?;
        let proof = InclusionProof { index, path, checkpoint: checkpoint.into() };
        if proof.path.len() <= PATH_MAX && proof.to_text() == text { Ok(proof) } else { Err(FORM) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PartyId;

    fn signer() -> Signer {
        Signer::from_seed(&[9; 32])
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: Origin::new(PartyId::of(&signer().public()), "quality", 1).unwrap(), size: 12, root: Hash([3; 32]) }
    }

    #[test]
    fn a_checkpoint_opens_under_its_key_alone() {
        let note = checkpoint().sign(&signer());
        assert_eq!(Checkpoint::open(&note, &signer().public()), Ok(checkpoint()));
        let other = Signer::from_seed(&[8; 32]).public();
        assert_eq!(Checkpoint::open(&note, &other), Err(NoteError::UnknownLine));
        let twice = format!("{note}{}", &note[note.find('\u{2014}').unwrap()..]);
        assert_eq!(Checkpoint::open(&twice, &signer().public()), Err(NoteError::UnknownLine));
        for (from, to) in [("\n12\n", "\n012\n"), ("\n12\n", "\n13\n"), ("\n\n", "\nx\n\n"), ("=\n\n", "\n\n")] {
            let altered = note.replacen(from, to, 1);
            assert_ne!(altered, note);
            assert!(Checkpoint::open(&altered, &signer().public()).is_err(), "{altered}");
        }
    }

    #[test]
    fn every_altered_character_is_refused() {
        let note = checkpoint().sign(&signer());
        for at in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1;
            if let Ok(text) = String::from_utf8(bytes) {
                assert!(Checkpoint::open(&text, &signer().public()).is_err(), "byte {at}");
            }
        }
    }

    /// RFC 4231, cases 1, 2 and 3.
    #[test]
    fn hmac_is_that_of_the_rfc() {
        for (key, message, mac) in [
            (vec![0x0b; 20], b"Hi There".to_vec(), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe".to_vec(),
                b"what do ya want for nothing?".to_vec(),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (vec![0xaa; 20], vec![0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        ] {
            assert_eq!(hex(&hmac(&key, &message)), mac);
        }
    }

    #[test]
    fn a_witness_has_another_key_for_each_feed_and_epoch() {
        let origin = checkpoint().origin;
        let seeds = [
            witness_seed(&[1; 32], &origin, 0),
            witness_seed(&[1; 32], &origin, 1),
            witness_seed(&[1; 32], &origin.renewed(), 0),
            witness_seed(&[2; 32], &origin, 0),
        ];
        assert_eq!(seeds.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    }

    /// The name is not signed: any witness can take any, so what counts is whether it follows from the key.
    #[test]
    fn a_name_of_somebodys_choice_is_not_opaque() {
        let own = WitnessKey::opaque(signer().public());
        assert!(WitnessKey::read(&own.to_string()).unwrap().is_opaque());
        for name in ["w-00000000".to_owned(), checkpoint().origin.to_string()] {
            let chosen = WitnessKey { name, ..own.clone() }.to_string();
            assert!(!WitnessKey::read(&chosen).unwrap().is_opaque(), "{chosen}");
        }
    }

    #[test]
    fn proofs_and_verifier_keys_are_read_back() {
        let proof = InclusionProof { index: 4, path: vec![Hash([1; 32]), Hash([2; 32])], checkpoint: checkpoint().sign(&signer()) };
        assert_eq!(InclusionProof::read(&proof.to_text()), Ok(proof.clone()));
        assert!(InclusionProof::read(&proof.to_text().replace("index 4", "index 04")).is_err());
        let key = vkey("lotline", &signer().public());
        assert_eq!(read_vkey(&key), Ok(("lotline".into(), signer().public())));
        assert!(read_vkey(&key.replace("lotline", "lotlime")).is_err());
    }
}
