//! The code: nine characters that one owner reads to another.
//!
//! Three say which invitation is meant, six are the secret: 30 bits, of which a stranger may try three. No letter can be taken
//! for a digit (Crockford's base 32).

use std::fmt;
use std::str::FromStr;

use crate::keys::random;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const NUMBER_CHARS: usize = 3;
const CHARS: usize = 9;

/// How many invitations can be told apart.
pub const NUMBERS: u32 = 1 << 15;

/// A code.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; CHARS]);

/// What was typed is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a code has nine letters and digits, as K7M-4QX-9TP")]
pub struct NoCode;

impl Code {
    /// A new one, whose number nobody uses (`free`). None: all numbers that were tried are in use.
    pub fn new(free: impl Fn(u16) -> bool) -> Option<Code> {
        let fresh = || {
            let mut drawn = [0u8; CHARS];
            random(&mut drawn);
            // 256 is a multiple of 32: every character is equally likely.
            Code(drawn.map(|byte| ALPHABET[usize::from(byte % 32)]))
        };
        (0..256).map(|_| fresh()).find(|code| free(code.number()))
    }

    /// Which invitation is meant. No secret.
    pub fn number(&self) -> u16 {
        self.0[..NUMBER_CHARS].iter().fold(0, |number, char| number * 32 + value(*char))
    }

    /// The whole of it, for the key exchange.
    pub(super) fn secret(&self) -> &[u8] {
        &self.0
    }
}

fn value(char: u8) -> u16 {
    ALPHABET.iter().position(|other| *other == char).map_or(0, |at| at as u16)
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.0);
        write!(f, "{}-{}-{}", &text[..3], &text[3..6], &text[6..])
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({}, ..)", self.number())
    }
}

impl FromStr for Code {
    type Err = NoCode;

    /// Case, spaces and hyphens mean nothing; O is 0, and I and L are 1.
    fn from_str(text: &str) -> Result<Code, NoCode> {
        let kept = text.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        });
        let bytes = kept.map(|c| u8::try_from(c).ok().filter(|byte| ALPHABET.contains(byte))).take(CHARS + 1).collect::<Option<Vec<u8>>>();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Code).ok_or(NoCode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_back_however_it_was_typed() {
        for _ in 0..100 {
            let code = Code::new(|_| true).unwrap();
            let text = code.to_string();
            assert_eq!(text.len(), 11);
            assert_eq!(text.parse(), Ok(code.clone()));
            assert_eq!(text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l").parse(), Ok(code.clone()));
            assert!(u32::from(code.number()) < NUMBERS);
            assert!(!format!("{code:?}").contains(&text[4..]), "a log shows no secret");
        }
        for wrong in ["", "K7M-4QX-9T", "K7M-4QX-9TPP", "K7M-4QX-9TU", "K7M-4QX-9Tä", &"A".repeat(100_000)] {
            assert_eq!(wrong.parse::<Code>(), Err(NoCode), "{wrong}");
        }
    }

    #[test]
    fn numbers_in_use_are_not_given_out() {
        let first = Code::new(|_| true).unwrap();
        assert!((0..100).all(|_| Code::new(|number| number != first.number()).unwrap().number() != first.number()));
        assert!(Code::new(|_| false).is_none());
    }
}
