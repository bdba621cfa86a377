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

/// How an address ends that goes through a relay; the id of the relay is between `/p2p/` and it.
const CIRCUIT: &str = "/p2p-circuit";

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
/// TLS (`/tls/ws`), for networks that let nothing else out; or through a relay (`/p2p/ID/p2p-circuit` behind the address of the relay
/// with that id), for nodes that nobody can dial.
///
/// Kept as text in one canonical form; `acme.example:4001`, `[::1]:4001`, `wss://acme.example`, `ws://127.0.0.1:8080`,
/// `relay://ID@relay.example:4001` and `relay+wss://ID@relay.example` are understood too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

impl Address {
    /// Invariant: the text is `/ip4|ip6|dns|dns4|dns6/<host>/tcp/<port>`, then `/ws` or `/tls/ws` or nothing, then
    /// `/p2p/<relay>/p2p-circuit` or nothing. `/dnsaddr` is left out, since there a DNS server chooses the transport; a last `/p2p`,
    /// since a partner's id is stated once, beside its addresses.
    pub(super) fn from_multiaddr(address: &Multiaddr) -> Option<Self> {
        let parts: Vec<Part<'_>> = address.iter().collect();
        let (line, relay) = match &parts[..] {
            [line @ .., Part::P2p(relay), Part::P2pCircuit] => (line, Some(PeerId::from_bytes(&relay.to_bytes()).ok()?)),
            line => (line, None),
        };
        let (place, over) = match line {
            [host, port @ Part::Tcp(_)] => ([host, port], ""),
            [host, port @ Part::Tcp(_), Part::Ws(path)] if path == "/" => ([host, port], WS),
            [host, port @ Part::Tcp(_), Part::Wss(path)] if path == "/" => ([host, port], WSS),
            [host, port @ Part::Tcp(_), Part::Tls, Part::Ws(path)] if path == "/" => ([host, port], WSS),
            _ => return None,
        };
        let has_host = match place[0] {
            Part::Ip4(_) | Part::Ip6(_) => true,
            Part::Dns(name) | Part::Dns4(name) | Part::Dns6(name) => is_host_name(name),
            _ => false,
        };
        let place: Multiaddr = place.into_iter().cloned().collect();
        let line = has_host.then(|| Self(format!("{place}{over}")))?;
        Some(relay.map_or(line.clone(), |relay| line.through(relay)))
    }

    /// The same place as that of this relay, for who keeps a place there.
    pub fn through(&self, relay: PeerId) -> Self {
        Self(format!("{}/p2p/{relay}{CIRCUIT}", self.0))
    }

    /// The relay it goes through, and where that one is reached; none for an address of the node itself.
    pub fn relay(&self) -> Option<(PeerId, Address)> {
        let (line, relay) = self.0.strip_suffix(CIRCUIT)?.rsplit_once("/p2p/")?;
        Some((relay.parse().ok()?, Address(line.to_owned())))
    }

    /// What goes over the TCP connection: nothing, [`WS`] or [`WSS`]; and the text before that.
    fn parts(&self) -> (&str, &'static str) {
        let line = self.0.split_once("/p2p/").map_or(&*self.0, |(line, _)| line);
        match line.strip_suffix(WSS) {
            Some(place) => (place, WSS),
            None => line.strip_suffix(WS).map_or((line, ""), |place| (place, WS)),
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

    /// Whether it is that of a WebSocket.
    pub fn is_web(&self) -> bool {
        !self.parts().1.is_empty()
    }

    /// The same host with the port of another address.
    pub(super) fn with_port_of(&self, other: &Address) -> Self {
        let ((place, over), (other, _)) = (self.parts(), other.parts());
        let (host, port) = (place.rsplit_once('/'), other.rsplit_once('/'));
        host.zip(port).map_or_else(|| self.clone(), |((host, _), (_, port))| Self(format!("{host}/{port}{over}")))
    }

    /// The same place for people, as it can be typed again: `host:port`, `ws://host:port` or `wss://host:port`; through a relay,
    /// `relay://ID@host:port`.
    pub fn host_port(&self) -> String {
        let place = self.host_and_port();
        match (self.relay(), self.parts().1) {
            (None, "") => place,
            (None, WS) => format!("ws://{place}"),
            (None, _) => format!("wss://{place}"),
            (Some((relay, _)), "") => format!("relay://{relay}@{place}"),
            (Some((relay, _)), WS) => format!("relay+ws://{relay}@{place}"),
            (Some((relay, _)), _) => format!("relay+wss://{relay}@{place}"),
        }
    }

    /// `host:port`, whatever goes over it.
    pub(super) fn host_and_port(&self) -> String {
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
        let parsed = if text.starts_with('/') {
            text.parse().ok().and_then(|address| Self::from_multiaddr(&address))
        } else if let Some((over, rest)) = text.strip_prefix("relay").and_then(|text| text.split_once("://")) {
            parse_through_relay(over, rest)
        } else {
            parse_line(text)
        };
        parsed.ok_or_else(|| AddressError(text.into()))
    }
}

/// `ID@host:port`, after `relay://`, `relay+ws://` or `relay+wss://`.
fn parse_through_relay(over: &str, text: &str) -> Option<Address> {
    let (relay, place) = text.split_once('@')?;
    let line = match over {
        "" => Address::from_multiaddr(&parse_host_port(place)?)?,
        "+ws" => parse_line(&format!("ws://{place}"))?,
        "+wss" => parse_line(&format!("wss://{place}"))?,
        _ => return None,
    };
    Some(line.through(relay.parse().ok()?))
}

fn parse_line(text: &str) -> Option<Address> {
    let parsed = if let Some(place) = text.strip_prefix("wss://") {
        parse_web(place, 443)?.with(Part::Tls).with(Part::Ws("/".into()))
    } else if let Some(place) = text.strip_prefix("ws://") {
        parse_web(place, 80)?.with(Part::Ws("/".into()))
    } else {
        parse_host_port(text)?
    };
    Address::from_multiaddr(&parsed)
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
#[error(
    "`{0}` is not an address: expected `host:port`, `wss://host`, `relay://ID@host:port` or `/ip4|ip6|dns/<host>/tcp/<port>`, without a path or peer id"
)]
pub struct AddressError(String);
