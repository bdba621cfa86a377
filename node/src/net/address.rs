//! Who a partner is and where it is reached, in types of our own.
//!
//! Knows the shape of addresses only; whether one answers is for `dial`.

use std::{fmt, str::FromStr};

use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol as Part};
use zeroize::Zeroizing;

/// An identity multihash of 36 bytes: protobuf field 1 is the key type Ed25519, field 2 the 32 bytes of the key.
const ED25519_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// How a WebSocket ends an address, and one inside TLS.
const WS: &str = "/ws";
const WSS: &str = "/tls/ws";

/// The longest name DNS allows.
const HOST_NAME_BYTES_MAX: usize = 253;

/// The identity of a node on the network: its Ed25519 transport key. Printed in base58.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub(super) libp2p::PeerId);

/// The peer id that the transport key with this seed has.
pub fn transport_peer_id(seed: &[u8; 32]) -> PeerId {
    PeerId(keypair(seed).public().to_peer_id())
}

/// The peer id that this Ed25519 public key has.
pub fn peer_id_of(public_key: &[u8; 32]) -> PeerId {
    let mut bytes = [0; 38];
    bytes[..6].copy_from_slice(&ED25519_PREFIX);
    bytes[6..].copy_from_slice(public_key);
    PeerId(libp2p::PeerId::from_bytes(&bytes).expect("an identity multihash of 36 bytes is a peer id"))
}

/// The transport key itself; it does not leave this module.
pub(super) fn keypair(seed: &[u8; 32]) -> Keypair {
    let mut copy = Zeroizing::new(*seed);
    Keypair::ed25519_from_bytes(copy.as_mut_slice()).expect("any 32 bytes are an Ed25519 seed")
}

impl PeerId {
    /// The 38 bytes of the multihash, as other libp2p programs write it.
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// The reverse of [`PeerId::to_bytes`]; only ids that hold an Ed25519 key are taken.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PeerIdError> {
        let key = bytes.strip_prefix(&ED25519_PREFIX).ok_or(PeerIdError)?;
        Ok(peer_id_of(key.try_into().map_err(|_| PeerIdError)?))
    }

    /// The Ed25519 public key inside.
    pub fn public_key(self) -> Option<[u8; 32]> {
        self.to_bytes().strip_prefix(&ED25519_PREFIX)?.try_into().ok()
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        let id: libp2p::PeerId = text.parse().map_err(|_| PeerIdError)?;
        Self::from_bytes(&id.to_bytes())
    }
}

/// The text or bytes are not the id of an Ed25519 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a peer id: expected the base58 id of an Ed25519 key, such as `12D3KooW…`")]
pub struct PeerIdError;

/// Where a node listens or is reached: over TCP, such as `/dns/acme.example/tcp/4001`, or over a WebSocket, alone (`/ws`) or inside
/// TLS (`/tls/ws`), for networks that let nothing else out.
///
/// Kept as text in one canonical form; `acme.example:4001`, `[::1]:4001`, `wss://acme.example` and `ws://127.0.0.1:8080` are
/// understood too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

impl Address {
    /// Invariant: the text is `/ip4|ip6|dns|dns4|dns6/<host>/tcp/<port>`, then `/ws` or `/tls/ws` or nothing. `/dnsaddr` is left out,
    /// since there a DNS server chooses the transport; `/p2p`, since a partner's id is stated once, beside its addresses.
    pub(super) fn from_multiaddr(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let host = match parts.next()? {
            Part::Ip4(_) | Part::Ip6(_) => true,
            Part::Dns(name) | Part::Dns4(name) | Part::Dns6(name) => is_host_name(&name),
            _ => false,
        };
        let Some(Part::Tcp(_)) = parts.next().filter(|_| host) else { return None };
        let place: Multiaddr = address.iter().take(2).collect();
        let over = match (parts.next(), parts.next(), parts.next()) {
            (None, _, _) => "",
            (Some(Part::Ws(path)), None, _) if path == "/" => WS,
            (Some(Part::Wss(path)), None, _) if path == "/" => WSS,
            (Some(Part::Tls), Some(Part::Ws(path)), None) if path == "/" => WSS,
            _ => return None,
        };
        Some(Self(format!("{place}{over}")))
    }

    /// What goes over the TCP connection: nothing, [`WS`] or [`WSS`]; and the text before that.
    fn parts(&self) -> (&str, &'static str) {
        match self.0.strip_suffix(WSS) {
            Some(place) => (place, WSS),
            None => self.0.strip_suffix(WS).map_or((&self.0, ""), |place| (place, WS)),
        }
    }

    pub(super) fn to_multiaddr(&self) -> Multiaddr {
        self.0.parse().expect("the text was a multiaddr when it was made")
    }

    /// Whether it is on this computer. Whole hosts only: anybody may call one `localhost.example`.
    pub fn is_loopback(&self) -> bool {
        let host_port = self.host_and_port();
        let host = host_port.rsplit_once(':').map_or(host_port.as_str(), |(host, _)| host).trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The same host with the port of another address.
    pub(super) fn with_port_of(&self, other: &Address) -> Self {
        let ((place, over), (other, _)) = (self.parts(), other.parts());
        let (host, port) = (place.rsplit_once('/'), other.rsplit_once('/'));
        host.zip(port).map_or_else(|| self.clone(), |((host, _), (_, port))| Self(format!("{host}/{port}{over}")))
    }

    /// The same place for people, as it can be typed again: `host:port`, `ws://host:port` or `wss://host:port`.
    pub fn host_port(&self) -> String {
        let over = match self.parts().1 {
            "" => "",
            WS => "ws://",
            _ => "wss://",
        };
        format!("{over}{}", self.host_and_port())
    }

    fn host_and_port(&self) -> String {
        let mut parts = self.parts().0.split('/').skip(1);
        match (parts.next(), parts.next(), parts.nth(1)) {
            (Some("ip6"), Some(host), Some(port)) => format!("[{host}]:{port}"),
            (_, Some(host), Some(port)) => format!("{host}:{port}"),
            _ => self.0.clone(),
        }
    }
}

fn is_host_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !name.is_empty() && name.len() <= HOST_NAME_BYTES_MAX && name.chars().all(fits)
}

fn parse_host_port(text: &str) -> Option<Multiaddr> {
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return Some(Multiaddr::from(socket.ip()).with(Part::Tcp(socket.port())));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    is_host_name(host).then(|| Multiaddr::empty().with(Part::Dns(host.into())).with(Part::Tcp(port)))
}

/// `host[:port]` or `host[:port]/`, as in a browser.
fn parse_web(text: &str, port: u16) -> Option<Multiaddr> {
    let place = text.strip_suffix('/').unwrap_or(text);
    parse_host_port(place).or_else(|| parse_host_port(&format!("{place}:{port}")))
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let parsed = match text {
            _ if text.starts_with('/') => text.parse().ok(),
            _ if let Some(place) = text.strip_prefix("wss://") => {
                parse_web(place, 443).map(|place| place.with(Part::Tls).with(Part::Ws("/".into())))
            }
            _ if let Some(place) = text.strip_prefix("ws://") => parse_web(place, 80).map(|place| place.with(Part::Ws("/".into()))),
            _ => parse_host_port(text),
        };
        parsed.as_ref().and_then(Self::from_multiaddr).ok_or_else(|| AddressError(text.into()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not an address we can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address: expected `host:port`, `wss://host` or `/ip4|ip6|dns/<host>/tcp/<port>`, without a path or peer id")]
pub struct AddressError(String);
