//! Connections to partners: who may connect, keeping connected, and streams. The only place of libp2p.
//!
//! It moves bytes and knows nothing of what they mean; that is for `exchange`. No discovery and no gossip: partners are known, and the
//! one that can reach the other dials, through a relay if neither can (docs/design.md). Reading order:
//! - [`Net`], the handle, and [`Event`], what it reports;
//! - `task`: the loop that owns the swarm;
//! - `gate`: admission, `roles`: what a connection has part in; `dial`: when to call whom, `moves`: when to call at once;
//!   `streams`: opening and counting;
//! - `relay`: places at relays, and being one; `probe`: what stands at an address;
//! - `transport`: TCP, WebSockets, TLS and yamux; `proxy`: through a firm's own; `address`: ids and addresses.
//!
//! Invariants: an unknown peer gets nothing after the handshake, and while an invitation is open a stream for pairing and nothing else; every call of [`Net`] ends; whatever a peer does, our
//! memory is bounded by the numbers in [`Config`].

use std::{fmt, io, ops::RangeInclusive, time::Duration};

use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

mod address;
mod dial;
mod gate;
mod moves;
mod probe;
mod proxy;
mod relay;
mod roles;
mod streams;
mod task;
#[cfg(test)]
mod tests;
mod transport;

pub use address::{Address, AddressError, PeerId, PeerIdError, peer_id_of, transport_peer_id};
pub use dial::Backoff;
pub use probe::Obstacle;
pub use proxy::{Proxy, ProxyError};
pub use relay::{Load, Place, Serving};
pub use streams::{Protocol, Stream};
use task::{Command, Task};
pub use transport::Web;

/// Commands waiting for the network task. It takes them in microseconds; callers of a burst wait their turn.
const COMMANDS_MAX: usize = 64;

/// Events waiting for their reader: every place of four partners. When full, new streams are closed and the swarm rests.
const EVENTS_MAX: usize = 256;

/// The incompatible versions of the protocol that this program speaks. There is one so far; docs/design.md says how the second is added.
const MAJORS: RangeInclusive<u32> = 1..=1;

/// rustls writes every session key to the file named by this variable.
const KEY_LOG: &str = "SSLKEYLOGFILE";

/// How the node takes part in the network.
pub struct Config {
    /// The seed of the Ed25519 transport key; cleared from memory when dropped.
    pub seed: Zeroizing<[u8; 32]>,
    /// Where to listen; may be empty for a node that only dials. Port 0 lets the system choose.
    pub listen: Vec<Address>,
    /// Addresses through relays at which a place is kept, two at once.
    pub relays: Vec<Address>,
    /// Whether the node is a relay for others, and how.
    pub serving: Option<Serving>,
    /// WebSockets: certificates, and a proxy on the way out.
    pub web: Web,
    /// The versions of the protocol that are spoken, the newest asked for first. Others are for tests of how two versions meet.
    pub majors: RangeInclusive<u32>,
    /// Connections with one partner: two when both dial at once, and room for replacing a dead one.
    pub connections_per_peer_max: u32,
    /// Streams with one partner in both directions: a control stream, and the feeds it follows.
    pub streams_per_peer_max: usize,
    /// Lines through one relay, in both directions: each is a stream of the connection with it.
    pub lines_max: usize,
    /// Handshakes of callers that have not shown their key; half of it for one source address.
    pub pending_handshakes_max: u32,
    /// Unknown peers from one source address in a minute; then it is not answered. At least 1. Counting restarts when a partner is added.
    pub unknown_per_minute_max: u32,
    /// Connections in all.
    pub connections_max: u32,
    /// No new connection while the process uses more memory than this. In bytes, since a share of the machine's memory
    /// ignores the limit of a container.
    pub memory_bytes_max: usize,
    /// How long to wait between dials.
    pub backoff: Backoff,
    /// How long [`Net::open`] tries.
    pub open_timeout: Duration,
    /// How often to ask whether the other side is alive.
    pub ping_interval: Duration,
    /// How long an answer may take; a connection is closed after three that took longer.
    pub ping_timeout: Duration,
}

impl Config {
    /// The defaults, for this key and these addresses.
    pub fn new(seed: [u8; 32], listen: Vec<Address>) -> Self {
        Self {
            seed: Zeroizing::new(seed),
            listen,
            relays: Vec::new(),
            serving: None,
            web: Web::default(),
            majors: MAJORS,
            connections_per_peer_max: 4,
            streams_per_peer_max: 64,
            lines_max: 0,
            pending_handshakes_max: 64,
            unknown_per_minute_max: 3,
            connections_max: 4096,
            memory_bytes_max: 2 << 30,
            backoff: Backoff::default(),
            open_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(15),
            ping_timeout: Duration::from_secs(20),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("seed", &format_args!("(..)")).field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// A node that may connect, and where we dial it. Without addresses it has to dial us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partner {
    /// Its transport key.
    pub peer: PeerId,
    /// Tried in this order.
    pub addresses: Vec<Address>,
}

/// What happened on the network. Once the channel is full, `Stream` and `Guest` (then closed), `DialFailed`, `Refused` and `Moved`
/// may be left out; the others never are.
#[derive(Debug)]
pub enum Event {
    /// We listen here; the port is the real one. Through a relay: it keeps us a place.
    Listening(Address),
    /// We are no longer reached there: the relay is gone, or keeps us no place any more.
    NotListening {
        /// The address.
        address: Address,
        /// The reason, for people.
        why: String,
    },
    /// The first connection with a partner is up. Further ones are not, but for [`Event::Dialed`].
    Connected {
        /// The partner.
        peer: PeerId,
        /// Whether that first connection is our dial.
        dialed_by_us: bool,
        /// The other end of it, for people.
        remote: String,
    },
    /// A further connection with a partner is up, by our dial: both dialled at once.
    Dialed {
        /// The partner.
        peer: PeerId,
    },
    /// Of several connections with a partner another one is the newest, and new streams go over it: it dialled from a new place while the
    /// old connection was not known to be dead, or the newest is gone.
    Path {
        /// The partner.
        peer: PeerId,
        /// Whether that connection is our dial.
        dialed_by_us: bool,
        /// The other end of it, for people.
        remote: String,
    },
    /// The last connection with a partner is gone.
    Disconnected {
        /// The partner.
        peer: PeerId,
    },
    /// A partner opened a stream.
    Stream {
        /// The partner.
        peer: PeerId,
        /// What the stream is for.
        protocol: Protocol,
        /// The stream.
        stream: Stream,
    },
    /// A dial failed; the next one is planned.
    DialFailed {
        /// The partner.
        peer: PeerId,
        /// The reason, for people.
        why: String,
    },
    /// A guest opened a stream for pairing; [`Stream::peer`] is the key it has proven.
    Guest {
        /// The stream.
        stream: Stream,
    },
    /// This computer may be somewhere else: an address came or went, or it slept. Have each partner say something: connections on which
    /// nothing is heard are closed after ten seconds.
    Moved,
    /// A peer that is no partner was turned away.
    Refused {
        /// The id it proved to have.
        peer: PeerId,
    },
}

/// The handle of the network task. When the last one is dropped, or the receiver of events, the task stops.
#[derive(Clone, Debug)]
pub struct Net {
    peer: PeerId,
    commands: mpsc::Sender<Command>,
    open_timeout: Duration,
}

impl Net {
    /// Listen and start the network task. Nobody may connect until [`Net::set_partners`].
    pub async fn start(config: Config) -> Result<(Self, mpsc::Receiver<Event>), NetError> {
        if std::env::var_os(KEY_LOG).is_some() {
            return Err(NetError::KeyLog);
        }
        // Another provider that is installed already is fine: libp2p names its own.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (outbox, events) = mpsc::channel(EVENTS_MAX);
        let task = Task::start(&config, inbox, outbox).await?;
        let net = Self { peer: transport_peer_id(&config.seed), commands, open_timeout: config.open_timeout };
        drop(config);
        tokio::spawn(moves::watch(net.commands.downgrade()));
        tokio::spawn(task.run());
        Ok((net, events))
    }

    /// Our own id.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Open a stream on the newest healthy connection with a partner. Does not dial: wait for [`Event::Connected`].
    pub async fn open(&self, peer: PeerId, protocol: Protocol) -> Result<Stream, OpenError> {
        let answer = async {
            let (reply, answer) = oneshot::channel();
            self.commands.send(Command::Open { peer, protocol, reply }).await.map_err(|_| OpenError::Stopped)?;
            // Dropped with the connection it was waiting for.
            answer.await.map_err(|_| OpenError::Closed)?
        };
        tokio::time::timeout(self.open_timeout, answer).await.map_err(|_| OpenError::TimedOut)?
    }

    /// Dial somebody whose key is not known yet, and open a stream for pairing. [`Stream::peer`] says what key it has proven, which
    /// means nothing before the code was compared.
    pub async fn visit(&self, address: Address) -> Result<Stream, OpenError> {
        let answer = async {
            let (reply, answer) = oneshot::channel();
            self.commands.send(Command::Visit { address, reply }).await.map_err(|_| OpenError::Stopped)?;
            answer.await.map_err(|_| OpenError::Closed)?
        };
        tokio::time::timeout(self.open_timeout, answer).await.map_err(|_| OpenError::TimedOut)?
    }

    /// Close the connection with a guest, or with one whose guest we are: the conversation is over.
    pub async fn part(&self, stream: Stream) {
        let _ = self.commands.send(Command::Part { connection: stream.connection() }).await;
    }

    /// Let unknown peers in for pairing and nothing else, or no more: [`Event::Guest`]. On return it is in force.
    pub async fn admit_guests(&self, open: bool) {
        self.ask(|reply| Command::AdmitGuests { open, reply }).await;
    }

    /// Replace the list of those who may connect. On return it is in force: whoever is no longer on it is disconnected,
    /// and those with addresses are dialled until they answer, and again whenever the connection is lost.
    pub async fn set_partners(&self, partners: Vec<Partner>) {
        self.ask(|reply| Command::SetPartners { partners, reply }).await;
    }

    /// Dial a partner now rather than after its back-off, unless it is connected.
    pub async fn redial(&self, peer: PeerId) {
        let _ = self.commands.send(Command::Redial { peer }).await;
    }

    /// Close the connections with a partner. It may come back, and if it has addresses we dial it after its back-off; to
    /// keep it out, take it off the list.
    pub async fn disconnect(&self, peer: PeerId) {
        let _ = self.commands.send(Command::Disconnect { peer }).await;
    }

    /// Where we listen now, with the real ports, and where a relay keeps us a place.
    pub async fn listen_addresses(&self) -> Vec<Address> {
        self.ask(|reply| Command::ListenAddresses { reply }).await.unwrap_or_default()
    }

    /// The relays it was given, and whether a place is kept there.
    pub async fn places(&self) -> Vec<Place> {
        self.ask(|reply| Command::Places { reply }).await.unwrap_or_default()
    }

    /// Replace the list of those who may use this node as a relay, beside the partners. On return it is in force. Nothing changes
    /// for a node that is none.
    pub async fn set_relay_users(&self, users: Vec<PeerId>) {
        self.ask(|reply| Command::SetRelayUsers { users, reply }).await;
    }

    /// How much it does as a relay; none: it is none.
    pub async fn relay_load(&self) -> Option<Load> {
        self.ask(|reply| Command::RelayLoad { reply }).await.flatten()
    }

    /// The hosts it was told to listen on, `0.0.0.0` as such, with the real ports.
    pub async fn listen_hosts(&self) -> Vec<Address> {
        self.ask(|reply| Command::ListenHosts { reply }).await.unwrap_or_default()
    }

    /// Close everything; the channel of events ends. On return the ports are free, and other handles answer [`OpenError::Stopped`].
    pub async fn shutdown(self) {
        self.ask(|reply| Command::Shutdown { reply }).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// Why the network did not start: ours to fix.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Session keys would be written to a file.
    #[error("`SSLKEYLOGFILE` is set: the keys of every connection would be written to that file")]
    KeyLog,
    /// The address cannot be bound.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// As configured.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// A name stands for an address elsewhere.
    #[error("cannot listen on the name `{0}`: expected an ip address, such as `0.0.0.0:4001`")]
    ListenName(Address),
    /// A certificate or key for WebSockets cannot be used.
    #[error("the certificate `{path}` cannot be used: {why}")]
    Certificate {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        why: String,
    },
    /// The TLS certificate could not be made.
    #[error("cannot make the certificate of the transport key")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a stream was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No connection with this peer.
    #[error("not connected to the partner")]
    NotConnected,
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// Whoever answers there is a partner already.
    #[error("whoever answers there is in the partner book already")]
    Known,
    /// Ours: too many streams with this peer are open already.
    #[error("too many streams with the partner are open")]
    TooManyStreams,
    /// The peer does not serve this: its program is older, or we are nobody to it that it would serve.
    #[error("the partner does not speak `{}` as this program does: it is older, or does not have this node in its partner book", .0.name())]
    Unsupported(Protocol),
    /// Ours: the peer serves newer versions of this alone.
    #[error("the partner speaks a newer `{}` than this program: update Lotline here", .0.name())]
    Newer(Protocol),
    /// The connection was lost while opening.
    #[error("the connection to the partner was lost")]
    Closed,
    /// The stream failed while opening.
    #[error("the stream to the partner failed")]
    Io(#[source] io::Error),
    /// No answer in time.
    #[error("the partner did not answer in time")]
    TimedOut,
    /// Ours: the network was shut down.
    #[error("the network is shut down")]
    Stopped,
}
