//! COSE_Sign1 (RFC 9052) in the one shape we sign: tagged, Ed25519 (−19), empty unprotected header, attached payload.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::codec::{self, CodecError, TAG_SIGN1, Value};
use crate::id::{Hash, thumbprint};

/// A signature that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoseError {
    /// Not the shape above.
    #[error("not a signed statement: {0}")]
    Shape(#[from] CodecError),
    /// The bytes are not what the key signed.
    #[error("the signature does not match")]
    Signature,
}

/// A key that signs, with its thumbprint at hand.
#[derive(Clone)]
pub struct Signer {
    key: SigningKey,
    kid: Hash,
}

impl Signer {
    /// From the 32-byte seed of an Ed25519 key. The seed is wiped when the signer is dropped.
    pub fn from_seed(seed: &[u8; 32]) -> Signer {
        let key = SigningKey::from_bytes(seed);
        let kid = thumbprint(&key.verifying_key());
        Signer { key, kid }
    }

    /// The key others verify with.
    pub fn public(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// Its thumbprint.
    pub fn kid(&self) -> Hash {
        self.kid
    }

    /// Raw Ed25519 over a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer(kid {}, secret (..))", self.kid.short())
    }
}

/// A COSE_Sign1 as received: its parts are the received bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sign1 {
    /// Protected header, encoded.
    pub protected: Vec<u8>,
    /// Payload, encoded.
    pub payload: Vec<u8>,
    /// Signature.
    pub signature: [u8; 64],
}

impl Sign1 {
    /// Reads the tagged form; the unprotected header must be empty, since nothing protects it.
    pub fn read(bytes: &[u8]) -> Result<Sign1, CodecError> {
        const SHAPE: CodecError = CodecError::Shape("not a tagged COSE_Sign1 with an empty unprotected header");
        let Value::Tag(TAG_SIGN1, inner) = codec::decode(bytes)? else {
            return Err(SHAPE);
        };
        let Value::Array(parts) = *inner else {
            return Err(SHAPE);
        };
        let Ok([Value::Bytes(protected), Value::Map(unprotected), Value::Bytes(payload), Value::Bytes(signature)]) =
            <[Value; 4]>::try_from(parts)
        else {
            return Err(SHAPE);
        };
        let signature = signature.try_into().map_err(|_| SHAPE)?;
        if unprotected.is_empty() { Ok(Sign1 { protected, payload, signature }) } else { Err(SHAPE) }
    }

    /// Verifies strictly (`verify_strict`) over the received bytes.
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), CoseError> {
        let message = sig_structure(&self.protected, &self.payload);
        key.verify_strict(&message, &Signature::from_bytes(&self.signature)).map_err(|_| CoseError::Signature)
    }
}

/// What is signed: `["Signature1", protected, h'', payload]` (RFC 9052 section 4.4).
pub fn sig_structure(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(protected.len() + payload.len() + 24);
    message.extend_from_slice(b"\x84\x6aSignature1");
    codec::put_bytes(&mut message, protected);
    message.push(0x40);
    codec::put_bytes(&mut message, payload);
    message
}

/// Signs and lays out the tagged form.
pub fn sign(signer: &Signer, protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let signature = signer.sign(&sig_structure(protected, payload));
    let mut bytes = Vec::with_capacity(protected.len() + payload.len() + 80);
    bytes.extend_from_slice(&[0xd2, 0x84]);
    codec::put_bytes(&mut bytes, protected);
    bytes.push(0xa0);
    codec::put_bytes(&mut bytes, payload);
    codec::put_bytes(&mut bytes, &signature);
    bytes
}
