//! Slots: one field of a record, hidden behind a salted digest or shown.
//!
//! The body of a statement is an array with one slot per schema field: `[60(digest)]`. A disclosure is `[salt16, value]`,
//! for an absent field the decoy `[salt16]`. Exactly one digest a slot: one statement cannot hold two truths.
//! The digest is SHA-256 over the disclosure as a byte string *including its CBOR head* (docs/wire.md).

use crate::codec::{self, CodecError, TAG_REDACTED, Value};
use crate::id::Hash;

/// Length of a salt in bytes.
pub const SALT_BYTES: usize = 16;

/// What opens a slot: the encoded `[salt, value]` or `[salt]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disclosure(Vec<u8>);

/// What a slot holds once open.
#[derive(Clone, PartialEq, Debug)]
pub enum Opened {
    /// The signed value.
    Value(Value),
    /// The field is absent, and the signer said so.
    Absent,
}

impl Opened {
    /// The value, if the field is there.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Opened::Value(value) => Some(value),
            Opened::Absent => None,
        }
    }
}

/// A disclosure that opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// Not `[salt, value]` or `[salt]` in deterministic CBOR.
    #[error("a disclosure is not in form: {0}")]
    Form(#[from] CodecError),
    /// Its digest stands in no slot.
    #[error("a disclosure fits no slot of the statement")]
    Foreign,
    /// It opens a slot that is open already, or repeats a salt.
    #[error("slot {0} is opened twice")]
    Twice(usize),
}

impl Disclosure {
    /// Seals a value, or its absence, under a fresh salt.
    pub fn seal(salt: &[u8; SALT_BYTES], value: Option<&Value>) -> Disclosure {
        // Room for what most slots hold: a record makes dozens of these, and growing each costs more than filling it.
        let mut bytes = Vec::with_capacity(64);
        bytes.push(if value.is_some() { 0x82 } else { 0x81 });
        codec::put_bytes(&mut bytes, salt);
        if let Some(value) = value {
            codec::put(&mut bytes, value);
        }
        Disclosure(bytes)
    }

    /// Takes received bytes as they are.
    pub fn received(bytes: Vec<u8>) -> Disclosure {
        Disclosure(bytes)
    }

    /// The encoded content.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The content, given away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// SHA-256 over the byte string with its head.
    pub fn digest(&self) -> Hash {
        let (head, length) = codec::bytes_head(self.0.len());
        Hash::of(&[&head[..length], &self.0])
    }

    /// Salt and content, if in form. A value holds no redacted item of its own in this version.
    pub fn open(&self) -> Result<([u8; SALT_BYTES], Opened), SlotError> {
        const SHAPE: CodecError = CodecError::Shape("neither [salt, value] nor [salt]");
        let Value::Array(mut parts) = codec::decode(&self.0)? else {
            return Err(SHAPE.into());
        };
        let opened = match parts.len() {
            1 => Opened::Absent,
            2 => Opened::Value(parts.pop().expect("there are two")),
            _ => return Err(SHAPE.into()),
        };
        if let Opened::Value(value) = &opened
            && holds_other_tags(value)
        {
            return Err(CodecError::Shape("a tag inside a value").into());
        }
        let salt = codec::as_bytes(&parts[0]).and_then(|salt| salt.try_into().ok()).ok_or(SHAPE)?;
        Ok((salt, opened))
    }
}

fn holds_other_tags(value: &Value) -> bool {
    match value {
        Value::Tag(tag, inner) => *tag != codec::TAG_DECIMAL || holds_other_tags(inner),
        Value::Array(items) => items.iter().any(holds_other_tags),
        Value::Map(entries) => entries.values().any(holds_other_tags),
        _ => false,
    }
}

/// The body of a statement: one digest a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slots(Vec<Hash>);

impl Slots {
    /// The digests of disclosures in slot order.
    pub fn of(disclosures: &[Disclosure]) -> Slots {
        Slots(disclosures.iter().map(Disclosure::digest).collect())
    }

    /// How many slots.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none; a statement has at least one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the encoded body.
    pub(crate) fn put(&self, bytes: &mut Vec<u8>) {
        codec::put_head(bytes, 4, self.0.len() as u64);
        for digest in &self.0 {
            bytes.extend_from_slice(&[0x81, 0xd8, TAG_REDACTED as u8]);
            codec::put_bytes(bytes, &digest.0);
        }
    }

    /// Reads the body. A slot of any length but one, or one digest in two slots, is refused (pitfalls 1 and 3).
    pub(crate) fn read(items: &[Value]) -> Result<Slots, CodecError> {
        let digest = |item: &Value| match codec::as_array(item) {
            Some([Value::Tag(TAG_REDACTED, inner)]) => codec::as_bytes(inner).and_then(Hash::from_slice),
            _ => None,
        };
        let slots: Vec<Hash> =
            items.iter().map(digest).collect::<Option<_>>().ok_or(CodecError::Shape("a slot is not exactly one redacted digest"))?;
        if !(1..=crate::kind::SLOTS_MAX).contains(&slots.len()) {
            return Err(CodecError::Shape("a body has 1 to 64 slots"));
        }
        let mut sorted = slots.clone();
        sorted.sort_unstable();
        match sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            true => Err(CodecError::Shape("one digest stands in two slots")),
            false => Ok(Slots(slots)),
        }
    }

    /// Opens slots with disclosures: each must open exactly one, and no salt may repeat.
    pub fn open(&self, disclosures: &[Disclosure]) -> Result<Vec<Option<Opened>>, SlotError> {
        self.open_indexed(disclosures).map(|(open, _)| open)
    }

    /// The same, and which slot each disclosure opened.
    pub fn open_indexed(&self, disclosures: &[Disclosure]) -> Result<(Vec<Option<Opened>>, Vec<u8>), SlotError> {
        let mut open: Vec<Option<Opened>> = vec![None; self.0.len()];
        let mut salts = Vec::with_capacity(disclosures.len());
        let mut order = Vec::with_capacity(disclosures.len());
        for disclosure in disclosures {
            let slot = self.slot_of(disclosure).ok_or(SlotError::Foreign)?;
            let (salt, opened) = disclosure.open()?;
            if open[slot].is_some() || salts.contains(&salt) {
                return Err(SlotError::Twice(slot));
            }
            salts.push(salt);
            order.push(slot as u8);
            open[slot] = Some(opened);
        }
        Ok((open, order))
    }

    /// Which slot a disclosure opens.
    pub fn slot_of(&self, disclosure: &Disclosure) -> Option<usize> {
        let digest = disclosure.digest();
        self.0.iter().position(|slot| *slot == digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_covers_the_head_of_the_byte_string() {
        // Slot 0 of prototype record 3: formats note, section 1.
        let salt = crate::id::unhex("f9708bdff80ec7accf54ef410dc90d2a").unwrap();
        let disclosure = Disclosure::seal(&salt.try_into().unwrap(), Some(&codec::text("PASS")));
        assert_eq!(disclosure.digest().to_string(), "3d48cf9b19613643b6c1f416b6598ca22ea78e11c5d8482ae5fb9dd3a435b1b7");
    }

    #[test]
    fn a_disclosure_opens_one_slot_once() {
        let sealed = [Disclosure::seal(&[1; 16], Some(&codec::int(5))), Disclosure::seal(&[2; 16], None)];
        let slots = Slots::of(&sealed);
        assert_eq!(slots.open(&sealed).unwrap(), vec![Some(Opened::Value(codec::int(5))), Some(Opened::Absent)]);
        assert_eq!(slots.open(&sealed[1..]).unwrap(), vec![None, Some(Opened::Absent)]);
        assert_eq!(slots.open(&[sealed[0].clone(), sealed[0].clone()]), Err(SlotError::Twice(0)));
        let foreign = Disclosure::seal(&[3; 16], Some(&codec::int(5)));
        assert_eq!(slots.open(&[foreign]), Err(SlotError::Foreign));
        let three = codec::encode(&codec::array([codec::bytes([4; 16]), codec::int(1), codec::text("key")]));
        let slots = Slots::of(&[Disclosure::received(three.clone())]);
        assert!(matches!(slots.open(&[Disclosure::received(three)]), Err(SlotError::Form(_))));
        let nested = Disclosure::seal(&[5; 16], Some(&codec::array([codec::tag(TAG_REDACTED, codec::bytes([0; 32]))])));
        assert!(matches!(Slots::of(std::slice::from_ref(&nested)).open(&[nested]), Err(SlotError::Form(_))));
    }
}
