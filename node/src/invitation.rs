//! An invitation: one line by which two organisations name each other. Each side gives one and accepts the other's.
//!
//! It carries names, keys and addresses, no secret and no right: what a partner may see is said by the sharing rules.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use lotline_schema::codec::{self, Value};
use lotline_schema::{Hash, PartyId};

const PREFIX: &str = "lotline-1-";
const CHECK_BYTES: usize = 4;
/// The most addresses in one.
pub const ADDRESSES_MAX: usize = 16;
/// The longest invitation we read.
const TEXT_BYTES_MAX: usize = 4096;

/// Whether a text begins like the line of an invitation.
pub fn looks_like_one(text: &str) -> bool {
    text.trim_start().starts_with(PREFIX)
}

/// Who invites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its root.
    pub party: PartyId,
    /// What it calls itself.
    pub name: String,
    /// Peer id of its node.
    pub peer: String,
    /// Where it can be dialled; empty when it only dials out.
    pub addresses: Vec<String>,
}

/// A line that is no invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// It does not begin like one.
    #[error("this is not a Lotline invitation (it begins with `{PREFIX}`)")]
    Other,
    /// Characters are missing or changed.
    #[error("the invitation was cut or mistyped; copy the whole line again")]
    Damaged,
}

impl Invitation {
    /// The line.
    pub fn to_text(&self) -> String {
        let body = codec::encode(&codec::array([
            codec::text(self.party.to_string()),
            codec::text(self.name.as_str()),
            codec::text(self.peer.as_str()),
            codec::array(self.addresses.iter().map(|address| codec::text(address.as_str()))),
        ]));
        let check = Hash::of(&[PREFIX.as_bytes(), &body]);
        format!("{PREFIX}{}", BASE64.encode([&check.0[..CHECK_BYTES], &body].concat()))
    }

    /// Reads the line; white space around and inside it (from a mail program) is ignored.
    pub fn read(text: &str) -> Result<Invitation, InvitationError> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let encoded = text.strip_prefix(PREFIX).ok_or(InvitationError::Other)?;
        let bytes = BASE64.decode(encoded).ok().filter(|bytes| bytes.len() > CHECK_BYTES && text.len() <= TEXT_BYTES_MAX);
        let bytes = bytes.ok_or(InvitationError::Damaged)?;
        let (check, body) = bytes.split_at(CHECK_BYTES);
        if check != &Hash::of(&[PREFIX.as_bytes(), body]).0[..CHECK_BYTES] {
            return Err(InvitationError::Damaged);
        }
        Invitation::read_body(body).ok_or(InvitationError::Damaged)
    }

    fn read_body(body: &[u8]) -> Option<Invitation> {
        let value = codec::decode(body).ok()?;
        let [Value::Text(party), Value::Text(name), Value::Text(peer), Value::Array(addresses)] = codec::as_array(&value)? else {
            return None;
        };
        let addresses: Vec<String> = addresses.iter().map(|address| codec::as_text(address).map(str::to_owned)).collect::<Option<_>>()?;
        let fits = !name.is_empty() && name.len() <= 255 && !name.chars().any(char::is_control) && addresses.len() <= ADDRESSES_MAX;
        fits.then_some(())?;
        Some(Invitation { party: party.parse().ok()?, name: name.clone(), peer: peer.clone(), addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invitation() -> Invitation {
        let party = crate::keys::Founding::example("supplier").unwrap().party();
        Invitation { party, name: "ACME".into(), peer: "12D3".into(), addresses: vec!["/ip4/127.0.0.1/tcp/4001".into()] }
    }

    #[test]
    fn a_line_is_read_back_whatever_a_mail_program_did_to_it() {
        let text = invitation().to_text();
        assert_eq!(Invitation::read(&text), Ok(invitation()));
        let wrapped = format!("  {}\r\n{} ", &text[..40], &text[40..]);
        assert_eq!(Invitation::read(&wrapped), Ok(invitation()));
    }

    #[test]
    fn every_changed_or_missing_character_is_noticed() {
        let text = invitation().to_text();
        assert_eq!(Invitation::read("hello"), Err(InvitationError::Other));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(Invitation::read(std::str::from_utf8(&changed).unwrap()).is_err(), "byte {at}");
            assert!(Invitation::read(&text[..at]).is_err());
        }
    }
}
