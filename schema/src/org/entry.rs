//! What an organisation states in its org feed, and the form of each statement.

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;

use super::Role;
use crate::codec::{self, Value};
use crate::id::{Hash, Origin, pure_key};

/// The longest reason, name or function, in bytes; it is shown to people on one line.
pub const REASON_BYTES_MAX: usize = 1000;
/// The longest name, or type of an attestation, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// The most registered ids and attestations of a keyring.
const ABOUT_MAX: usize = 32;
/// The longest attestation: a qualified seal with its certificates has some ten thousand bytes.
pub const ATTESTATION_BYTES_MAX: usize = 32 * 1024;
/// Seconds of a day.
const DAY: u64 = 86_400;
/// An entry of a type that a later version added.
pub(super) const UNKNOWN: &str = "is of a type this program does not know: made by a newer Lotline, update the program";

/// From which place on something holds, by feed.
pub type Places = BTreeMap<String, u64>;

/// What else a keyring says of its organisation. Nobody has checked it unless an attestation says so.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct About {
    /// Registered ids by kind: `BPN`, `DUNS`, `VAT`.
    pub ids: BTreeMap<String, String>,
    /// Attestations over the root key: a type, such as `qseal` or `rfc3161`, and the bytes that others made.
    pub attestations: Vec<(String, Vec<u8>)>,
}

/// An entry of the org feed.
#[derive(Clone, PartialEq, Debug)]
#[allow(clippy::large_enum_variant, reason = "an org feed has tens of entries")]
pub enum Entry {
    /// The organisation's name and its keys. Signed by the root.
    Keyring {
        /// What it calls itself; nobody has checked that.
        name: String,
        /// One key a role.
        keys: BTreeMap<Role, VerifyingKey>,
        /// Registered ids and attestations.
        about: About,
    },
    /// A feed begins. Signed by the record key.
    Feed {
        /// Its origin.
        origin: Origin,
        /// For n above 1: last known size and root of the life before.
        follows: Option<(u64, Hash)>,
    },
    /// A record is withdrawn: it stays provable, and every verdict says so. Signed by the record key.
    Withdrawal {
        /// Its feed.
        origin: Origin,
        /// Its place.
        seq: u64,
        /// Its leaf hash.
        leaf: Hash,
        /// Why.
        reason: String,
    },
    /// A role gets a new key. Signed by the root. A place below a feed's size then revokes what the old key signed from
    /// there on.
    Rotation {
        /// The role.
        role: Role,
        /// Its key from now on.
        key: VerifyingKey,
        /// Where the new key begins: records from this sequence number, checkpoints from this size.
        from: Places,
        /// Why, for people.
        reason: String,
    },
    /// Names the key that may replace a lost root, by its thumbprint. Signed by the root.
    Successor {
        /// Thumbprint of the successor's key.
        thumbprint: Hash,
    },
    /// The successor takes over. Signed by itself.
    Root {
        /// The new root key.
        key: VerifyingKey,
    },
    /// What others attest of the root key, added later: a qualified seal, a time stamp. Signed by the root.
    Attestation {
        /// Its type, such as `qseal` or `rfc3161`.
        kind: String,
        /// The bytes that others made.
        bytes: Vec<u8>,
    },
    /// Another holder, a second site or a service provider, publishes to a feed of its own. Signed by the root.
    Delegation {
        /// Who, in words.
        name: String,
        /// The feed that this opens.
        origin: Origin,
        /// Signs its records.
        record: VerifyingKey,
        /// Signs its checkpoints.
        log: VerifyingKey,
        /// The last day, in seconds since 1970 (a multiple of 86,400).
        until: u64,
    },
    /// A delegation ends. Signed by the root.
    DelegationEnd {
        /// Its feed.
        origin: Origin,
        /// Records from here on are not vouched for.
        from: u64,
    },
    /// A named person who releases records. Signed by the root.
    Signer {
        /// Who.
        name: String,
        /// In which function, such as `quality manager`.
        function: String,
        /// The person's key.
        key: VerifyingKey,
    },
    /// A person releases no more. Signed by the root.
    SignerEnd {
        /// Thumbprint of the person's key.
        thumbprint: Hash,
        /// Releases from here on do not count, by feed.
        from: Places,
    },
}

/// Who signs an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The root of that moment.
    Root,
    /// The record key of that place.
    Record,
    /// The successor that the entry itself names.
    Successor,
}

impl Entry {
    /// A keyring that says nothing beside name and keys.
    pub fn keyring(name: impl Into<String>, keys: BTreeMap<Role, VerifyingKey>) -> Entry {
        Entry::Keyring { name: name.into(), keys, about: About::default() }
    }

    /// Who signs it.
    pub fn signed_by(&self) -> By {
        match self {
            Entry::Feed { .. } | Entry::Withdrawal { .. } => By::Record,
            Entry::Root { .. } => By::Successor,
            _ => By::Root,
        }
    }

    pub(super) fn to_value(&self) -> Value {
        let key = |key: &VerifyingKey| codec::bytes(*key.as_bytes());
        let places =
            |from: &Places| Value::Map(from.iter().map(|(origin, seq)| (codec::text(origin.as_str()), codec::uint(*seq))).collect());
        let origin_text = |origin: &Origin| codec::text(origin.to_string());
        let parts = match self {
            Entry::Keyring { name, keys, about } => vec![
                codec::text("keyring"),
                codec::text(name),
                Value::Map(keys.iter().map(|(role, of)| (codec::text(role.name()), key(of))).collect()),
                Value::Map(about.ids.iter().map(|(kind, id)| (codec::text(kind), codec::text(id))).collect()),
                codec::array(
                    about.attestations.iter().map(|(kind, bytes)| codec::array([codec::text(kind), codec::bytes(bytes.as_slice())])),
                ),
            ],
            Entry::Feed { origin, follows } => vec![
                codec::text("feed"),
                origin_text(origin),
                codec::optional(*follows, |(size, root)| codec::array([codec::uint(size), codec::bytes(root.0)])),
            ],
            Entry::Withdrawal { origin, seq, leaf, reason } => {
                vec![codec::text("withdrawal"), origin_text(origin), codec::uint(*seq), codec::bytes(leaf.0), codec::text(reason)]
            }
            Entry::Rotation { role, key: new, from, reason } => {
                vec![codec::text("rotation"), codec::text(role.name()), key(new), places(from), codec::text(reason)]
            }
            Entry::Successor { thumbprint } => vec![codec::text("successor"), codec::bytes(thumbprint.0)],
            Entry::Root { key: new } => vec![codec::text("root"), key(new)],
            Entry::Attestation { kind, bytes } => vec![codec::text("attestation"), codec::text(kind), codec::bytes(bytes.as_slice())],
            Entry::Delegation { name, origin, record, log, until } => {
                vec![codec::text("delegation"), codec::text(name), origin_text(origin), key(record), key(log), codec::uint(*until)]
            }
            Entry::DelegationEnd { origin, from } => vec![codec::text("delegation-end"), origin_text(origin), codec::uint(*from)],
            Entry::Signer { name, function, key: of } => vec![codec::text("signer"), codec::text(name), codec::text(function), key(of)],
            Entry::SignerEnd { thumbprint, from } => vec![codec::text("signer-end"), codec::bytes(thumbprint.0), places(from)],
        };
        codec::array(parts)
    }

    pub(super) fn read(value: &Value) -> Result<Entry, &'static str> {
        let parts = codec::as_array(value).ok_or("not an array")?;
        match (parts.first().and_then(codec::as_text), &parts[1.min(parts.len())..]) {
            (Some("keyring"), [Value::Text(name), Value::Map(keys), Value::Map(ids), Value::Array(attestations)]) => {
                Ok(Entry::Keyring { name: read_name(name)?, keys: read_keys(keys)?, about: read_about(ids, attestations)? })
            }
            (Some("feed"), [origin, Value::Null]) => Ok(Entry::Feed { origin: read_origin(origin)?, follows: None }),
            (Some("feed"), [origin, Value::Array(before)]) => match &before[..] {
                [size, root] => {
                    let size = codec::as_uint(size).ok_or("the size of the life before is no number")?;
                    let root = codec::as_bytes(root).and_then(Hash::from_slice).ok_or("the root of the life before is no hash")?;
                    Ok(Entry::Feed { origin: read_origin(origin)?, follows: Some((size, root)) })
                }
                _ => Err("the life before is not [size, root]"),
            },
            (Some("withdrawal"), [origin, seq, leaf, Value::Text(reason)]) => Ok(Entry::Withdrawal {
                origin: read_origin(origin)?,
                seq: codec::as_uint(seq).ok_or("no sequence number")?,
                leaf: read_hash(leaf)?,
                reason: read_reason(reason)?,
            }),
            (Some("rotation"), [Value::Text(role), key, Value::Map(from), Value::Text(reason)]) => Ok(Entry::Rotation {
                role: Role::named(role).ok_or("an unknown role")?,
                key: read_key(key)?,
                from: read_places(from)?,
                reason: read_reason(reason)?,
            }),
            (Some("successor"), [thumbprint]) => Ok(Entry::Successor { thumbprint: read_hash(thumbprint)? }),
            (Some("root"), [key]) => Ok(Entry::Root { key: read_key(key)? }),
            (Some("attestation"), [Value::Text(kind), Value::Bytes(bytes)]) if bytes.len() <= ATTESTATION_BYTES_MAX => {
                Ok(Entry::Attestation { kind: read_name(kind)?, bytes: bytes.clone() })
            }
            (Some("delegation"), [Value::Text(name), origin, record, log, until]) => Ok(Entry::Delegation {
                name: read_name(name)?,
                origin: read_origin(origin)?,
                record: read_key(record)?,
                log: read_key(log)?,
                until: codec::as_uint(until).filter(|day| day.is_multiple_of(DAY)).ok_or("the last day is no day")?,
            }),
            (Some("delegation-end"), [origin, from]) => {
                Ok(Entry::DelegationEnd { origin: read_origin(origin)?, from: codec::as_uint(from).ok_or("no sequence number")? })
            }
            (Some("signer"), [Value::Text(name), Value::Text(function), key]) => {
                Ok(Entry::Signer { name: read_name(name)?, function: read_name(function)?, key: read_key(key)? })
            }
            (Some("signer-end"), [thumbprint, Value::Map(from)]) => {
                Ok(Entry::SignerEnd { thumbprint: read_hash(thumbprint)?, from: read_places(from)? })
            }
            _ => Err(UNKNOWN),
        }
    }
}

fn read_origin(value: &Value) -> Result<Origin, &'static str> {
    codec::as_text(value).and_then(|text| text.parse().ok()).ok_or("not the origin of a feed")
}

fn read_hash(value: &Value) -> Result<Hash, &'static str> {
    codec::as_bytes(value).and_then(Hash::from_slice).ok_or("a hash of another length")
}

fn read_key(value: &Value) -> Result<VerifyingKey, &'static str> {
    codec::as_bytes(value).and_then(pure_key).ok_or("a key that is weak or broken")
}

fn read_name(name: &str) -> Result<String, &'static str> {
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    if fits { Ok(name.to_owned()) } else { Err("the name is empty, too long, or has control characters") }
}

fn read_reason(reason: &str) -> Result<String, &'static str> {
    let fits = reason.len() <= REASON_BYTES_MAX && !reason.chars().any(char::is_control);
    if fits { Ok(reason.to_owned()) } else { Err("the reason is too long or has control characters") }
}

fn read_places(map: &BTreeMap<Value, Value>) -> Result<Places, &'static str> {
    let place = |(origin, seq): (&Value, &Value)| Ok((read_origin(origin)?.to_string(), codec::as_uint(seq).ok_or("no sequence number")?));
    map.iter().map(place).collect()
}

fn read_about(ids: &BTreeMap<Value, Value>, attestations: &[Value]) -> Result<About, &'static str> {
    const FORM: &str = "ids or attestations out of form";
    if ids.len() > ABOUT_MAX || attestations.len() > ABOUT_MAX {
        return Err(FORM);
    }
    let short = |value: &Value| codec::as_text(value).ok_or(FORM).and_then(read_name);
    let id = |(kind, id): (&Value, &Value)| Ok::<_, &'static str>((short(kind)?, short(id)?));
    let attestation = |value: &Value| match codec::as_array(value).unwrap_or_default() {
        [kind, Value::Bytes(bytes)] if bytes.len() <= ATTESTATION_BYTES_MAX => Ok((short(kind)?, bytes.clone())),
        _ => Err(FORM),
    };
    Ok(About {
        ids: ids.iter().map(id).collect::<Result<_, _>>()?,
        attestations: attestations.iter().map(attestation).collect::<Result<_, _>>()?,
    })
}

fn read_keys(map: &BTreeMap<Value, Value>) -> Result<BTreeMap<Role, VerifyingKey>, &'static str> {
    let mut keys = BTreeMap::new();
    for role in Role::ALL {
        let bytes = map.get(&codec::text(role.name())).and_then(codec::as_bytes).ok_or("the keyring lacks a role")?;
        let key = pure_key(bytes).ok_or("a key of the keyring is weak or broken")?;
        if keys.values().any(|other| *other == key) {
            return Err("one key has two roles");
        }
        keys.insert(role, key);
    }
    if map.len() == keys.len() { Ok(keys) } else { Err("the keyring has an unknown role") }
}
