//! Deterministic CBOR (RFC 8949 section 4.2.1), the only place that names the CBOR crate.
//!
//! What is signed or hashed has one spelling: shortest heads, definite lengths, map keys sorted bytewise and
//! unique, no floats, no simple values but false, true and null, no tags but 4, 18 and 60, depth at most 16.
//! [`check`] walks the bytes once and refuses any other spelling before the library decodes them, so neither
//! recursion nor allocation follows a stranger's numbers. Property tests hold it equal to "decode, encode, compare".

use std::collections::BTreeMap;

pub use serde_cbor::Value;

use crate::decimal::Decimal;

/// The deepest nesting we read.
pub const DEPTH_MAX: usize = 16;
/// The longest text key of a map, in bytes.
pub const KEY_BYTES_MAX: u64 = 255;
/// A decimal fraction.
pub const TAG_DECIMAL: u64 = 4;
/// A COSE_Sign1.
pub const TAG_SIGN1: u64 = 18;
/// A redacted array element (SD-CWT).
pub const TAG_REDACTED: u64 = 60;

/// Bytes that are not deterministic CBOR of our profile; `at` is the offset of the item that breaks the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The input ends inside an item, or a length reaches beyond it.
    #[error("cut short at byte {0}")]
    Short(usize),
    /// Bytes follow the item.
    #[error("bytes follow the end at byte {0}")]
    Trailing(usize),
    /// A number or length is not in its shortest form, or a length is indefinite.
    #[error("not the shortest form at byte {0}")]
    NotShortest(usize),
    /// Map keys unsorted or repeated.
    #[error("map keys unsorted or repeated at byte {0}")]
    KeyOrder(usize),
    /// A map key that is neither a number nor a text of at most 255 bytes.
    #[error("a map key of a kind not allowed at byte {0}")]
    KeyKind(usize),
    /// A float, an unassigned simple value, or undefined.
    #[error("a float or simple value at byte {0}")]
    Simple(usize),
    /// A tag outside 4, 18, 60, or one whose content has the wrong form.
    #[error("a tag not allowed at byte {0}")]
    Tag(usize),
    /// An integer outside 64 signed bits.
    #[error("a number too large at byte {0}")]
    Range(usize),
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8 at byte {0}")]
    Utf8(usize),
    /// Nested deeper than 16.
    #[error("nested too deep at byte {0}")]
    Depth(usize),
    /// The item has another shape than asked for.
    #[error("{0}")]
    Shape(&'static str),
    /// Made by a newer program.
    #[error("{0}: made by a newer Lotline, update the program")]
    Newer(&'static str),
}

struct Head {
    major: u8,
    argument: u64,
    next: usize,
}

fn head(bytes: &[u8], at: usize) -> Result<Head, CodecError> {
    let first = *bytes.get(at).ok_or(CodecError::Short(at))?;
    let (major, info) = (first >> 5, first & 0x1f);
    let width = match info {
        0..=23 => return Ok(Head { major, argument: info.into(), next: at + 1 }),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        // 28 to 30 are unassigned, 31 is an indefinite length.
        _ => return Err(CodecError::NotShortest(at)),
    };
    let field = bytes.get(at + 1..at + 1 + width).ok_or(CodecError::Short(at))?;
    let argument = field.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let least = [0, 24, 0x100, 0, 0x1_0000, 0, 0, 0, 0x1_0000_0000][width];
    if major == 7 {
        return Err(CodecError::Simple(at));
    }
    if argument < least {
        return Err(CodecError::NotShortest(at));
    }
    Ok(Head { major, argument, next: at + 1 + width })
}

/// Whether `bytes` are exactly one item of our profile.
pub fn check(bytes: &[u8]) -> Result<(), CodecError> {
    let end = item(bytes, 0, 0)?;
    if end == bytes.len() { Ok(()) } else { Err(CodecError::Trailing(end)) }
}

/// Checks the item at `at` and returns the offset behind it. The recursion is bounded by [`DEPTH_MAX`].
fn item(bytes: &[u8], at: usize, depth: usize) -> Result<usize, CodecError> {
    if depth > DEPTH_MAX {
        return Err(CodecError::Depth(at));
    }
    let head = head(bytes, at)?;
    match head.major {
        0 | 1 if head.argument > i64::MAX as u64 => Err(CodecError::Range(at)),
        0 | 1 => Ok(head.next),
        2 | 3 => {
            let length = usize::try_from(head.argument).map_err(|_| CodecError::Short(at))?;
            let end = head.next.checked_add(length).ok_or(CodecError::Short(at))?;
            let content = bytes.get(head.next..end).ok_or(CodecError::Short(at))?;
            if head.major == 3 && std::str::from_utf8(content).is_err() {
                return Err(CodecError::Utf8(at));
            }
            Ok(end)
        }
        4 => (0..head.argument).try_fold(head.next, |at, _| item(bytes, at, depth + 1)),
        5 => map_entries(bytes, head.argument, head.next, depth),
        6 => tagged(bytes, at, &head, depth),
        _ if (20..=22).contains(&head.argument) => Ok(head.next),
        _ => Err(CodecError::Simple(at)),
    }
}

fn map_entries(bytes: &[u8], count: u64, start: usize, depth: usize) -> Result<usize, CodecError> {
    let mut at = start;
    let mut before: Option<&[u8]> = None;
    for _ in 0..count {
        let key_head = head(bytes, at)?;
        let allowed = key_head.major <= 1 || (key_head.major == 3 && key_head.argument <= KEY_BYTES_MAX);
        if !allowed {
            return Err(CodecError::KeyKind(at));
        }
        let value_at = item(bytes, at, depth + 1)?;
        let key = &bytes[at..value_at];
        if before.is_some_and(|before| before >= key) {
            return Err(CodecError::KeyOrder(at));
        }
        before = Some(key);
        at = item(bytes, value_at, depth + 1)?;
    }
    Ok(at)
}

fn tagged(bytes: &[u8], at: usize, tag: &Head, depth: usize) -> Result<usize, CodecError> {
    let content = head(bytes, tag.next)?;
    let fits = match tag.argument {
        TAG_DECIMAL => {
            content.major == 4 && content.argument == 2 && {
                let exponent = head(bytes, content.next)?;
                exponent.major <= 1 && head(bytes, exponent.next)?.major <= 1
            }
        }
        TAG_SIGN1 => content.major == 4 && content.argument == 4,
        TAG_REDACTED => content.major == 2 && content.argument == 32,
        _ => false,
    };
    if fits { item(bytes, tag.next, depth + 1) } else { Err(CodecError::Tag(at)) }
}

/// Decodes one item of our profile.
pub fn decode(bytes: &[u8]) -> Result<Value, CodecError> {
    check(bytes)?;
    serde_cbor::from_slice(bytes).map_err(|_| CodecError::Shape("not CBOR"))
}

/// Encodes deterministically. The library writes shortest heads, and its map is sorted as 4.2.1 asks.
pub fn encode(value: &Value) -> Vec<u8> {
    serde_cbor::to_vec(value).expect("a Value without floats always encodes")
}

/// Appends the head of an item: major type and argument in the shortest form.
pub fn put_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..=23 => out.push(major | argument as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

/// The head of a byte string of this length, without allocating: at most nine bytes, and how many.
pub(crate) fn bytes_head(length: usize) -> ([u8; 9], usize) {
    let mut head = [0u8; 9];
    match length {
        0..=23 => head[0] = 0x40 | length as u8,
        24..=0xff => head[..2].copy_from_slice(&[0x58, length as u8]),
        0x100..=0xffff => {
            head[0] = 0x59;
            head[1..3].copy_from_slice(&(length as u16).to_be_bytes());
            return (head, 3);
        }
        _ => {
            let mut bytes = Vec::with_capacity(9);
            put_head(&mut bytes, 2, length as u64);
            head[..bytes.len()].copy_from_slice(&bytes);
            return (head, bytes.len());
        }
    }
    (head, if length < 24 { 1 } else { 2 })
}

/// Appends an integer.
pub fn put_int(out: &mut Vec<u8>, number: i64) {
    match u64::try_from(number) {
        Ok(positive) => put_head(out, 0, positive),
        Err(_) => put_head(out, 1, !number as u64),
    }
}

/// Appends a byte string.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_head(out, 2, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a text.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_head(out, 3, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends any value.
pub fn put(out: &mut Vec<u8>, value: &Value) {
    serde_cbor::to_writer(&mut *out, value).expect("a Value without floats always encodes");
}

/// An integer.
pub fn int(number: i64) -> Value {
    Value::Integer(number.into())
}

/// An unsigned integer. Sizes and sequence numbers stay far below 2^63.
pub fn uint(number: u64) -> Value {
    Value::Integer(number.into())
}

/// A text.
pub fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

/// A byte string.
pub fn bytes(bytes: impl Into<Vec<u8>>) -> Value {
    Value::Bytes(bytes.into())
}

/// An array.
pub fn array(items: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(items.into_iter().collect())
}

/// A map with integer keys.
pub fn map(entries: impl IntoIterator<Item = (i64, Value)>) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (int(key), value)).collect())
}

/// A tagged item.
pub fn tag(number: u64, value: Value) -> Value {
    Value::Tag(number, Box::new(value))
}

/// A decimal fraction (tag 4).
pub fn decimal(number: &Decimal) -> Value {
    tag(TAG_DECIMAL, array([int(number.exponent()), int(number.mantissa())]))
}

/// `null` for none.
pub fn optional<T>(value: Option<T>, encode: impl FnOnce(T) -> Value) -> Value {
    value.map_or(Value::Null, encode)
}

/// The integer, if it is one.
pub fn as_int(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => i64::try_from(*number).ok(),
        _ => None,
    }
}

/// The unsigned integer, if it is one.
pub fn as_uint(value: &Value) -> Option<u64> {
    as_int(value).and_then(|number| u64::try_from(number).ok())
}

/// The text, if it is one.
pub fn as_text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// The bytes, if it is a byte string.
pub fn as_bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// The items, if it is an array.
pub fn as_array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

/// The entries, if it is a map.
pub fn as_map(value: &Value) -> Option<&BTreeMap<Value, Value>> {
    match value {
        Value::Map(entries) => Some(entries),
        _ => None,
    }
}

/// The decimal, if it is one.
pub fn as_decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Tag(TAG_DECIMAL, inner) => match as_array(inner)? {
            [exponent, mantissa] => Decimal::new(as_int(mantissa)?, as_int(exponent)?),
            _ => None,
        },
        _ => None,
    }
}

/// A map with integer keys whose entries are taken one by one; what is left at the end is unknown and refused.
pub struct Fields(BTreeMap<Value, Value>);

impl Fields {
    /// The fields of a map.
    pub fn of(value: Value) -> Result<Fields, CodecError> {
        match value {
            Value::Map(entries) => Ok(Fields(entries)),
            _ => Err(CodecError::Shape("a map was expected")),
        }
    }

    /// Takes a field that may be missing.
    pub fn take(&mut self, key: i64) -> Option<Value> {
        self.0.remove(&int(key))
    }

    /// Takes a field that must be there.
    pub fn need(&mut self, key: i64, what: &'static str) -> Result<Value, CodecError> {
        self.take(key).ok_or(CodecError::Shape(what))
    }

    /// Takes an unsigned integer.
    pub fn uint(&mut self, key: i64, what: &'static str) -> Result<u64, CodecError> {
        as_uint(&self.need(key, what)?).ok_or(CodecError::Shape(what))
    }

    /// Takes a text.
    pub fn text(&mut self, key: i64, what: &'static str) -> Result<String, CodecError> {
        match self.need(key, what)? {
            Value::Text(text) => Ok(text),
            _ => Err(CodecError::Shape(what)),
        }
    }

    /// Takes a byte string.
    pub fn bytes(&mut self, key: i64, what: &'static str) -> Result<Vec<u8>, CodecError> {
        match self.need(key, what)? {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(CodecError::Shape(what)),
        }
    }

    /// Byte string under a key that may be missing.
    pub fn take_bytes(&mut self, key: i64, what: &'static str) -> Result<Option<Vec<u8>>, CodecError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            Some(_) => Err(CodecError::Shape(what)),
        }
    }

    /// Takes an array.
    pub fn array(&mut self, key: i64, what: &'static str) -> Result<Vec<Value>, CodecError> {
        match self.need(key, what)? {
            Value::Array(items) => Ok(items),
            _ => Err(CodecError::Shape(what)),
        }
    }

    /// Refuses anything not taken.
    pub fn end(self) -> Result<(), CodecError> {
        if self.0.is_empty() { Ok(()) } else { Err(CodecError::Shape("an unknown part")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::unhex;
    use proptest::prelude::*;

    fn refused(hex: &str) -> CodecError {
        check(&unhex(hex).unwrap()).expect_err(hex)
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for hex in [
            "1801",
            "5803010203",
            "a201010102",
            "a202010102",
            "9f01ff",
            "bf0101ff",
            "f97e01",
            "fb7ff8000000000001",
            "fb3ff8000000000000",
            "fa7f800000",
            "f7",
            "0100",
            "61ff",
            "62c328",
            "f83b",
            "f0",
            "f810",
            "f8ff",
            "1c",
            "ff",
            "9bffffffffffffffff",
            "5b7fffffffffffffff",
            "a1410000",
            "a1d83c0100",
            "a1f93c0000",
            "c24101",
            "3bffffffffffffffff",
            "1bffffffffffffffff",
            "",
            "a0a0",
            "a2616201616101",
            "d83c4101",
            "c401",
            "d2a0",
            "a2010220",
        ] {
            refused(hex);
        }
        assert_eq!(refused("a202010102"), CodecError::KeyOrder(3));
        assert_eq!(refused("c1c0"), CodecError::Tag(0));
    }

    #[test]
    fn canonical_order_is_bytewise_and_not_length_first() {
        let map = map([(-100, int(0)), (1, int(0)), (-1, int(0)), (100, int(0)), (10, int(0)), (-2, int(0))]);
        let bytes = encode(&map);
        assert_eq!(crate::id::hex(&bytes), "a601000a00186400200021003863 00".replace(' ', ""));
        check(&bytes).unwrap();
    }

    #[test]
    fn depth_is_bounded_before_the_library_sees_it() {
        let nested = |depth: usize| [vec![0x81; depth], vec![0x00]].concat();
        check(&nested(16)).unwrap();
        assert_eq!(check(&nested(17)), Err(CodecError::Depth(17)));
        assert!(matches!(check(&nested(10_000)), Err(CodecError::Depth(_))));
        assert!(check(&[[0xd8, 0x3c].repeat(100_000), vec![0]].concat()).is_err());
    }

    fn arbitrary() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(int),
            ".{0,40}".prop_map(text),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(bytes),
            any::<bool>().prop_map(Value::Bool),
            Just(Value::Null),
            (any::<i64>(), -60i64..60).prop_map(|(m, e)| decimal(&Decimal::new(m, e).unwrap())),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                proptest::collection::btree_map(any::<i64>().prop_map(int), inner, 0..8).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_we_encode_we_accept(value in arbitrary()) {
            let bytes = encode(&value);
            prop_assert_eq!(check(&bytes), Ok(()));
            prop_assert_eq!(decode(&bytes).unwrap(), value);
        }

        #[test]
        fn what_we_accept_encodes_to_the_same_bytes(value in arbitrary(), at: prop::sample::Index, with: u8) {
            let mut bytes = encode(&value);
            let at = at.index(bytes.len());
            bytes[at] = with;
            if let Ok(value) = decode(&bytes) {
                prop_assert_eq!(encode(&value), bytes);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = decode(&bytes) {
                prop_assert_eq!(encode(&value), bytes);
            }
        }
    }
}
