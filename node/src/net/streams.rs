//! Streams with partners: opened on a chosen connection, counted a peer, and never left hanging.
//!
//! Ours rather than `libp2p-stream`, which picks a random connection, loses dials and inbound streams, and has no limit
//! (docs/design.md). Two rules make it simple:
//! - a pending open is carried, reply and all, to the connection that serves it. Wherever it is dropped, on success,
//!   failure, or a connection closing under it, the caller hears of it, so no table of pending opens can leak;
//! - every stream, pending or open, in or out, holds a place of its peer. Queues here hold only streams that have one.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    future::{Ready, ready},
    io,
    ops::RangeInclusive,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
    vec,
};

use futures::{AsyncRead as _, AsyncWrite as _, FutureExt, channel::oneshot as end, future::Shared};
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, InboundUpgrade, OutboundUpgrade, UpgradeInfo, transport::PortUse},
    ping,
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
        StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};

use super::{OpenError, roles::Roles};

/// Streams with a guest: one conversation, and one to spare.
const GUEST_STREAMS_MAX: usize = 2;

/// Ping failures in a row after which a connection is given up.
const PING_FAILURES_MAX: u32 = 3;

/// Majors above our own that a stream is asked for when ours is unknown there: whether the other program is the newer one. Each costs a
/// round trip, and only then.
const NEWER_ASKED: u32 = 4;

/// The incompatible versions of the protocol that a program speaks: the newest, and the one before as long as there are programs that
/// speak no other.
pub(super) type Majors = RangeInclusive<u32>;

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The conversation about what is shared; one a peer.
    Control,
    /// One followed feed.
    Feed,
    /// Getting to know each other by a code: with guests, and with nobody else.
    Pair,
}

impl Protocol {
    /// What partners are offered.
    const PARTNERS: &'static [Self] = &[Self::Control, Self::Feed];
    /// What guests are offered.
    const GUESTS: &'static [Self] = &[Self::Pair];
    /// What those are offered who are a relay to us, or we to them.
    const RELAYS: &'static [Self] = &[];

    /// What it is called, whatever the version.
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "/lotline/ctl",
            Self::Feed => "/lotline/feed",
            Self::Pair => "/lotline/pair",
        }
    }

    fn at(self, major: u32) -> Version {
        Version { protocol: self, major, name: format!("{}/{major}", self.name()) }
    }
}

/// A protocol in one of its versions: the name both sides agree on.
#[derive(Clone, Debug)]
pub(super) struct Version {
    protocol: Protocol,
    major: u32,
    name: String,
}

impl AsRef<str> for Version {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

/// A two-way stream of bytes with a partner.
///
/// Shut it down when done: a dropped stream is reset, and what was under way may be lost. The end of the stream does not
/// prove that the partner was done, since a broken connection reads as an end too; frames have to tell. While one side
/// writes in bulk, the other must read: poll both halves on their own (`tokio::io::split`).
#[derive(Debug)]
pub struct Stream {
    inner: Box<libp2p::Stream>,
    link: Arc<Link>,
    read_end: End,
    write_end: End,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    fn new(inner: libp2p::Stream, link: Arc<Link>, place: OwnedSemaphorePermit) -> Self {
        let (read_end, write_end) = (End(Some(link.ended.clone())), End(Some(link.ended.clone())));
        Self { inner: Box::new(inner), link, read_end, write_end, _place: place }
    }

    /// Who is at the other end: the key that TLS has proven.
    pub fn peer(&self) -> super::PeerId {
        super::PeerId(self.link.peer)
    }

    pub(super) fn connection(&self) -> ConnectionId {
        self.link.connection
    }

    fn check(&self) -> io::Result<()> {
        if self.link.revoked.load(Ordering::Acquire) { Err(disconnected()) } else { Ok(()) }
    }
}

fn disconnected() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "disconnected from the partner")
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let space = buf.initialize_unfilled();
        let read = ready!(this.read_end.or(cx, |cx| Pin::new(&mut this.inner).poll_read(cx, space)))?;
        buf.advance(read);
        if read > 0 {
            this.link.hear();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check()?;
        this.write_end.or(cx, |cx| Pin::new(&mut this.inner).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        this.write_end.or(cx, |cx| Pin::new(&mut this.inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        this.write_end.or(cx, |cx| Pin::new(&mut this.inner).poll_close(cx))
    }
}

/// Wakes one half of a stream when its connection ends. Needed because yamux does not: after a local close it leaves
/// readers and writers asleep for ever.
#[derive(Debug)]
struct End(Option<Shared<end::Receiver<Infallible>>>);

impl End {
    /// What `poll` says, or an error if it would wait for a connection that has ended. What had arrived before the end
    /// can still be read.
    fn or<T>(&mut self, cx: &mut Context<'_>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = poll(cx) {
            return Poll::Ready(done);
        }
        if let Some(end) = &mut self.0 {
            let _ = ready!(end.poll_unpin(cx));
            self.0 = None;
        }
        // Again: the last bytes may have come between the first look and the end.
        match poll(cx) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => Poll::Ready(Err(disconnected())),
        }
    }
}

/// What a connection and its streams know of each other.
#[derive(Debug)]
struct Link {
    peer: PeerId,
    connection: ConnectionId,
    /// What the peer may open.
    served: &'static [Protocol],
    majors: Majors,
    /// The places for streams, shared by all connections of the peer.
    places: Arc<Semaphore>,
    since: Instant,
    /// When bytes last arrived on a stream, in microseconds after `since`.
    heard_us: AtomicU64,
    /// We closed the connection: no byte is read or written any more, whatever is still in buffers.
    revoked: AtomicBool,
    /// Dropped when the connection ends, by us or by the peer.
    open: Mutex<Option<end::Sender<Infallible>>>,
    ended: Shared<end::Receiver<Infallible>>,
}

impl Link {
    fn new(peer: PeerId, connection: ConnectionId, served: &'static [Protocol], majors: Majors, places: Arc<Semaphore>) -> Self {
        let (open, ended) = end::channel();
        Self {
            peer,
            connection,
            served,
            majors,
            places,
            since: Instant::now(),
            heard_us: AtomicU64::new(0),
            revoked: AtomicBool::new(false),
            open: Mutex::new(Some(open)),
            ended: ended.shared(),
        }
    }

    fn end(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
        self.end();
    }

    fn hear(&self) {
        let now = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.heard_us.store(now, Ordering::Relaxed);
    }

    fn heard_within(&self, window: Duration) -> bool {
        let heard = Duration::from_micros(self.heard_us.load(Ordering::Relaxed));
        !heard.is_zero() && self.since.elapsed().saturating_sub(heard) < window
    }

    fn heard_since(&self, moment: Instant) -> bool {
        // Kept in whole microseconds, rounded down.
        let heard = Duration::from_micros(self.heard_us.load(Ordering::Relaxed) + 1);
        self.since + heard >= moment
    }
}

/// One request for a stream, on its way to the connection that will open it.
#[derive(Debug)]
pub(super) struct Opening {
    protocol: Protocol,
    place: OwnedSemaphorePermit,
    reply: oneshot::Sender<Result<Stream, OpenError>>,
}

/// A stream the peer opened.
#[derive(Debug)]
pub(super) struct Arrival(Protocol, Stream);

/// The inbound offer: every protocol we serve this peer, whichever it names.
#[derive(Clone, Debug)]
pub(super) struct Served(&'static [Protocol], Majors);

impl UpgradeInfo for Served {
    type Info = Version;
    type InfoIter = vec::IntoIter<Version>;

    fn protocol_info(&self) -> Self::InfoIter {
        let Served(protocols, majors) = self;
        protocols.iter().flat_map(|protocol| majors.clone().map(|major| protocol.at(major))).collect::<Vec<_>>().into_iter()
    }
}

impl InboundUpgrade<libp2p::Stream> for Served {
    type Output = (Protocol, libp2p::Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: libp2p::Stream, version: Version) -> Self::Future {
        ready(Ok((version.protocol, stream)))
    }
}

/// What we ask for: our newest version, then the one before. Behind them come versions that we do not speak, only to learn from the
/// answer that the other program is newer.
#[derive(Clone, Debug)]
pub(super) struct Asked(Protocol, Majors);

impl UpgradeInfo for Asked {
    type Info = Version;
    type InfoIter = vec::IntoIter<Version>;

    fn protocol_info(&self) -> Self::InfoIter {
        let Asked(protocol, majors) = self;
        let newer = (1..=NEWER_ASKED).map(|beyond| majors.end() + beyond);
        majors.clone().rev().chain(newer).map(|major| protocol.at(major)).collect::<Vec<_>>().into_iter()
    }
}

impl OutboundUpgrade<libp2p::Stream> for Asked {
    type Output = Result<libp2p::Stream, OpenError>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: libp2p::Stream, version: Version) -> Self::Future {
        let Asked(protocol, majors) = self;
        ready(Ok(if majors.contains(&version.major) { Ok(stream) } else { Err(OpenError::Newer(protocol)) }))
    }
}

/// The streams of one connection. It does not keep the connection alive; its open streams do.
pub(super) struct Handler {
    link: Arc<Link>,
    open_timeout: Duration,
    // Both bounded by the peer's places.
    openings: VecDeque<Opening>,
    arrivals: VecDeque<Arrival>,
}

impl Handler {
    fn arrived(&mut self, protocol: Protocol, stream: libp2p::Stream) {
        match self.link.places.clone().try_acquire_owned() {
            Ok(place) => self.arrivals.push_back(Arrival(protocol, Stream::new(stream, self.link.clone(), place))),
            Err(_) => tracing::debug!(protocol = protocol.name(), "stream closed: the peer has too many"),
        }
    }

    fn opened(&mut self, agreed: Result<libp2p::Stream, OpenError>, opening: Opening) {
        // A caller that stopped waiting drops the stream, which resets it.
        let _ = opening.reply.send(agreed.map(|stream| Stream::new(stream, self.link.clone(), opening.place)));
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.link.end();
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Opening;
    type ToBehaviour = Arrival;
    type InboundProtocol = Served;
    type OutboundProtocol = Asked;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opening;

    fn listen_protocol(&self) -> SubstreamProtocol<Served> {
        SubstreamProtocol::new(Served(self.link.served, self.link.majors.clone()), ()).with_timeout(self.open_timeout)
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Opening, Arrival>> {
        // No waker: the connection polls us after each event it gives us, and there is no other source.
        while let Some(opening) = self.openings.pop_front() {
            if !opening.reply.is_closed() {
                let asked = Asked(opening.protocol, self.link.majors.clone());
                let protocol = SubstreamProtocol::new(asked, opening).with_timeout(self.open_timeout);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
        }
        match self.arrivals.pop_front() {
            Some(arrival) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(arrival)),
            None => Poll::Pending,
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Option<Arrival>> {
        // Not left to `drop`: the handler outlives the close, which may take a while.
        self.link.end();
        Poll::Ready(None)
    }

    fn on_behaviour_event(&mut self, opening: Opening) {
        self.openings.push_back(opening);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Served, Asked, (), Opening>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (protocol, stream), .. }) => {
                self.arrived(protocol, stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                self.opened(protocol, info);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let _ = info.reply.send(Err(match error {
                    StreamUpgradeError::Timeout => OpenError::TimedOut,
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported(info.protocol),
                    StreamUpgradeError::Io(source) => OpenError::Io(source),
                    StreamUpgradeError::Apply(never) => match never {},
                }));
            }
            _ => {}
        }
    }
}

/// What happened with partners and their streams.
#[derive(Debug)]
pub(super) enum Event {
    /// The first connection is up.
    Connected { peer: PeerId, dialed_by_us: bool, remote: Multiaddr },
    /// A further connection is up, by our dial.
    Dialed { peer: PeerId },
    /// Of several connections another one is the newest.
    Path { peer: PeerId, dialed_by_us: bool, remote: Multiaddr },
    /// The last connection is gone.
    Disconnected { peer: PeerId },
    /// The peer opened a stream.
    Arrived { peer: PeerId, protocol: Protocol, stream: Stream },
}

/// The connections of every partner, and the way to open streams on them.
pub(super) struct Behaviour {
    majors: Majors,
    streams_max: usize,
    open_timeout: Duration,
    // Invariant: no entry without a connection.
    peers: BTreeMap<PeerId, Peer>,
    roles: Roles,
    /// The link whose connection the other behaviours are deciding on.
    candidate: Option<(ConnectionId, Arc<Link>)>,
    /// Drained by the swarm on each turn; openings and arrivals in it hold a place.
    queue: VecDeque<ToSwarm<Event, Opening>>,
}

struct Peer {
    places: Arc<Semaphore>,
    /// Oldest first.
    connections: Vec<Connection>,
}

struct Connection {
    id: ConnectionId,
    link: Arc<Link>,
    dialed_by_us: bool,
    remote: Multiaddr,
    ping_failures: u32,
}

impl Behaviour {
    pub(super) fn new(majors: Majors, streams_max: usize, open_timeout: Duration, roles: Roles) -> Self {
        let (peers, queue) = (BTreeMap::new(), VecDeque::new());
        Self { majors, streams_max, open_timeout, peers, roles, candidate: None, queue }
    }

    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// Open a stream on the peer's newest healthy connection. `reply` is used or dropped in the end.
    pub(super) fn open(&mut self, peer: PeerId, protocol: Protocol, reply: oneshot::Sender<Result<Stream, OpenError>>) {
        match self.place(peer) {
            Ok((connection, place)) => self.queue.push_back(ToSwarm::NotifyHandler {
                peer_id: peer,
                handler: NotifyHandler::One(connection),
                event: Opening { protocol, place, reply },
            }),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Open a pairing stream on a connection that we dialled for that. `reply` is used or dropped in the end.
    pub(super) fn visit(&mut self, peer: PeerId, id: ConnectionId, reply: oneshot::Sender<Result<Stream, OpenError>>) {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned();
        match place.ok().filter(|_| self.roles.of(id).guest) {
            Some(place) => self.queue.push_back(ToSwarm::NotifyHandler {
                peer_id: peer,
                handler: NotifyHandler::One(id),
                event: Opening { protocol: Protocol::Pair, place, reply },
            }),
            None => drop(reply.send(Err(OpenError::Known))),
        }
    }

    fn place(&self, peer: PeerId) -> Result<(ConnectionId, OwnedSemaphorePermit), OpenError> {
        let Peer { places, connections } = self.peers.get(&peer).ok_or(OpenError::NotConnected)?;
        let healthy = connections.iter().rev().find(|connection| connection.ping_failures == 0);
        let chosen = healthy.or(connections.last()).ok_or(OpenError::NotConnected)?;
        let place = places.clone().try_acquire_owned().map_err(|_| OpenError::TooManyStreams)?;
        Ok((chosen.id, place))
    }

    /// Cut off the peer: its streams fail from now on, even while its connections are still being closed.
    pub(super) fn revoke(&mut self, peer: PeerId) {
        if let Some(Peer { connections, .. }) = self.peers.remove(&peer) {
            connections.iter().for_each(|connection| connection.link.revoke());
            self.queue.push_back(ToSwarm::GenerateEvent(Event::Disconnected { peer }));
        }
    }

    /// Note a ping; true if the connection is dead and was given up. Bytes that arrived lately count as an answer, since
    /// on a slow line pings wait behind the data.
    pub(super) fn pinged(&mut self, ping: &ping::Event, window: Duration) -> bool {
        let connections = self.peers.get_mut(&ping.peer).map(|peer| &mut peer.connections);
        let Some(connection) = connections.into_iter().flatten().find(|it| it.id == ping.connection) else {
            return false;
        };
        connection.ping_failures = match ping.result {
            Ok(_) => 0,
            // Said once and then never again: without pings we would not notice a dead line.
            Err(ping::Failure::Unsupported) => PING_FAILURES_MAX,
            Err(_) if connection.link.heard_within(window) => 0,
            Err(_) => connection.ping_failures + 1,
        };
        // One more than we were told: the ping behaviour keeps the first failure of a row to itself.
        let dead = connection.ping_failures > 0 && connection.ping_failures + 1 >= PING_FAILURES_MAX;
        if dead {
            connection.link.revoke();
            self.forget(ping.peer, ping.connection);
        }
        dead
    }

    /// Give up connections on which nothing was heard since that moment; they are to be closed.
    pub(super) fn give_up_silent(&mut self, since: Instant) -> Vec<(PeerId, ConnectionId)> {
        let silent = |link: &Link| link.since < since && !link.heard_since(since);
        let all = self.peers.iter().flat_map(|(peer, entry)| entry.connections.iter().map(|connection| (*peer, connection)));
        let dead: Vec<_> =
            all.filter(|(_, connection)| silent(&connection.link)).map(|(peer, it)| (peer, it.id, it.link.clone())).collect();
        for (peer, id, link) in &dead {
            link.revoke();
            self.forget(*peer, *id);
        }
        dead.into_iter().map(|(peer, id, _)| (peer, id)).collect()
    }

    fn admit(&mut self, peer: PeerId, id: ConnectionId) -> Handler {
        let role = self.roles.of(id);
        let link = if role.partner {
            let known = self.peers.get(&peer).map(|peer| peer.places.clone());
            let places = known.unwrap_or_else(|| Arc::new(Semaphore::new(self.streams_max)));
            let link = Arc::new(Link::new(peer, id, Protocol::PARTNERS, self.majors.clone(), places));
            self.candidate = Some((id, link.clone()));
            link
        } else {
            let served = if role.guest { Protocol::GUESTS } else { Protocol::RELAYS };
            Arc::new(Link::new(peer, id, served, self.majors.clone(), Arc::new(Semaphore::new(GUEST_STREAMS_MAX))))
        };
        Handler { link, open_timeout: self.open_timeout, openings: VecDeque::new(), arrivals: VecDeque::new() }
    }

    fn remember(&mut self, peer: PeerId, id: ConnectionId, dialed_by_us: bool, remote: &Multiaddr) {
        let Some((_, link)) = self.candidate.take().filter(|(candidate, _)| *candidate == id) else { return };
        let first = !self.peers.contains_key(&peer);
        if first || dialed_by_us {
            let connected = || Event::Connected { peer, dialed_by_us, remote: remote.clone() };
            let event = if first { connected() } else { Event::Dialed { peer } };
            self.queue.push_back(ToSwarm::GenerateEvent(event));
        }
        if !first {
            self.queue.push_back(ToSwarm::GenerateEvent(Event::Path { peer, dialed_by_us, remote: remote.clone() }));
        }
        let entry = self.peers.entry(peer).or_insert_with(|| Peer { places: link.places.clone(), connections: Vec::new() });
        entry.connections.push(Connection { id, link, dialed_by_us, remote: remote.clone(), ping_failures: 0 });
    }

    fn forget(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let newest = entry.connections.last().is_some_and(|connection| connection.id == id);
        entry.connections.retain(|connection| connection.id != id);
        match entry.connections.last() {
            None => {
                self.peers.remove(&peer);
                self.queue.push_back(ToSwarm::GenerateEvent(Event::Disconnected { peer }));
            }
            Some(Connection { dialed_by_us, remote, .. }) if newest => {
                let path = Event::Path { peer, dialed_by_us: *dialed_by_us, remote: remote.clone() };
                self.queue.push_back(ToSwarm::GenerateEvent(path));
            }
            Some(_) => {}
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.admit(peer, id))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.admit(peer, id))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(up) => {
                self.remember(up.peer_id, up.connection_id, up.endpoint.is_dialer(), up.endpoint.get_remote_address());
            }
            FromSwarm::ConnectionClosed(down) => self.forget(down.peer_id, down.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, _: ConnectionId, arrival: THandlerOutEvent<Self>) {
        let Arrival(protocol, stream) = arrival;
        // One that crossed with our disconnect is dropped here.
        if stream.check().is_ok() {
            self.queue.push_back(ToSwarm::GenerateEvent(Event::Arrived { peer, protocol, stream }));
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        // No waker: the network task polls the swarm after each call it makes into us.
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
