//! The network task: the one owner of the swarm. It takes one turn at a time and applies it without waiting.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    error::Error,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr,
    connection_limits::{self, ConnectionLimits},
    core::transport::ListenerId,
    memory_connection_limits,
    multiaddr::Protocol as Part,
    ping, relay,
    swarm::{
        self, ConnectionId, DialError, ListenError, NetworkBehaviour, Swarm, SwarmEvent,
        behaviour::toggle::Toggle,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep_until, timeout},
};

use super::{
    Address, Config, Event, NetError, OpenError, Partner, PeerId, Protocol, Stream,
    address::keypair,
    dial::Dialer,
    gate,
    relay::{Counted, Load, Place, Places, is_circuit},
    roles::{Only, Role},
    streams,
    transport::{check_free, transport},
};

/// Inbound streams in negotiation on one connection; more wait in yamux. Enough for a partner that opens all at once.
const NEGOTIATING_MAX: usize = 32;

/// A connection without streams lives this long. The control stream keeps those in use.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// For listeners to report their real ports at start; they do so on the first poll unless no interface is up.
const LISTENING_MAX: Duration = Duration::from_secs(2);

/// For connections to close at shutdown; a little more than one close may take.
const SHUTDOWN_MAX: Duration = Duration::from_secs(3);

#[derive(NetworkBehaviour)]
struct Behaviour {
    gate: gate::Behaviour,
    memory: memory_connection_limits::Behaviour,
    limits: connection_limits::Behaviour,
    streams: streams::Behaviour,
    ping: Only<ping::Behaviour>,
    through: Only<relay::client::Behaviour>,
    serving: Toggle<Only<relay::Behaviour>>,
}

/// What a [`super::Net`] asks of the task.
pub(super) enum Command {
    Open {
        peer: PeerId,
        protocol: Protocol,
        reply: oneshot::Sender<Result<Stream, OpenError>>,
    },
    Visit {
        address: Address,
        reply: oneshot::Sender<Result<Stream, OpenError>>,
    },
    AdmitGuests {
        open: bool,
        reply: oneshot::Sender<()>,
    },
    Part {
        connection: ConnectionId,
    },
    SetPartners {
        partners: Vec<Partner>,
        reply: oneshot::Sender<()>,
    },
    SetRelayUsers {
        users: Vec<PeerId>,
        reply: oneshot::Sender<()>,
    },
    Places {
        reply: oneshot::Sender<Vec<Place>>,
    },
    RelayLoad {
        reply: oneshot::Sender<Option<Load>>,
    },
    Redial {
        peer: PeerId,
    },
    Disconnect {
        peer: PeerId,
    },
    /// This computer may be somewhere else.
    Moved,
    /// Whoever is still there has been heard since.
    CloseSilent {
        since: Instant,
    },
    ListenAddresses {
        reply: oneshot::Sender<Vec<Address>>,
    },
    ListenHosts {
        reply: oneshot::Sender<Vec<Address>>,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

/// One thing that happened.
enum Turn {
    Swarm(Box<SwarmEvent<BehaviourEvent>>),
    Command(Command),
    /// The reader of events took one that had waited.
    Delivered,
    /// A dial is due.
    Wake,
    /// Nobody holds a handle, or nobody reads events: there is no one left to work for.
    Abandoned,
}

pub(super) struct Task {
    swarm: Swarm<Behaviour>,
    dialer: Dialer,
    /// Dials to somebody unknown, for pairing, and who waits for them. One that ends without an answer is dropped here.
    visits: HashMap<ConnectionId, oneshot::Sender<Result<Stream, OpenError>>>,
    /// Places at relays.
    places: Places,
    /// Relays behind which partners are.
    relays: BTreeSet<libp2p::PeerId>,
    counted: Counted,
    /// What each listener was told to listen on.
    hosts: Vec<(ListenerId, Address)>,
    listening: Vec<(ListenerId, Address)>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Events that found the channel full. Invariant: a handful, since the swarm rests while there are any.
    waiting: VecDeque<Event>,
    ping_window: Duration,
}

impl Task {
    /// Bind and listen. Fails on anything the user has to fix.
    pub(super) async fn start(config: &Config, commands: mpsc::Receiver<Command>, events: mpsc::Sender<Event>) -> Result<Self, NetError> {
        let key = keypair(&config.seed);
        let local = key.public().to_peer_id();
        let (circuits, through) = relay::client::new(local);
        let transport = transport(&key, circuits, config.streams_per_peer_max + config.lines_max, &config.web)?;
        let tuning = swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(IDLE_MAX)
            .with_max_negotiating_inbound_streams(NEGOTIATING_MAX)
            .with_dial_concurrency_factor(std::num::NonZeroU8::MIN);
        let mut task = Self {
            swarm: Swarm::new(transport, behaviour(config, local, through), local, tuning),
            dialer: Dialer::new(config.backoff, usize::MAX),
            visits: HashMap::new(),
            places: Places::new(&config.relays, Instant::now()),
            relays: BTreeSet::new(),
            counted: Counted::default(),
            hosts: Vec::new(),
            listening: Vec::new(),
            commands,
            events,
            waiting: VecDeque::new(),
            ping_window: config.ping_timeout,
        };
        task.know_relays();
        task.listen(&config.listen).await?;
        if let Some(serving) = &config.serving {
            task.set_relay_users(&serving.users);
            // Without one the library keeps nobody a place. What it tells them is not used: they know by which address they came.
            let listening = task.listening.iter().map(|(_, address)| address);
            let reached: Vec<_> = serving.reached_at.iter().chain(listening).map(Address::to_multiaddr).collect();
            reached.into_iter().for_each(|address| task.swarm.add_external_address(address));
        }
        Ok(task)
    }

    async fn listen(&mut self, addresses: &[Address]) -> Result<(), NetError> {
        let mut silent = Vec::new();
        for address in addresses {
            check_free(address)?;
            let listener = self.swarm.listen_on(address.to_multiaddr());
            let id = listener.map_err(|error| NetError::Listen { address: address.clone(), source: std::io::Error::other(error) })?;
            self.hosts.push((id, address.clone()));
            silent.push(id);
        }
        let _ = timeout(LISTENING_MAX, async {
            while silent.iter().any(|id| self.listening.iter().all(|(listener, _)| listener != id)) {
                let event = self.swarm.select_next_some().await;
                self.apply_swarm(event);
            }
        })
        .await;
        Ok(())
    }

    /// Runs until shut down or abandoned.
    pub(super) async fn run(mut self) {
        let reply = loop {
            let turn = self.next().await;
            if let ControlFlow::Break(reply) = self.apply(turn) {
                break reply;
            }
            self.dial();
        };
        self.close().await;
        if let Some(reply) = reply {
            let _ = reply.send(());
        }
    }

    async fn next(&mut self) -> Turn {
        let wake = self.dialer.wake().into_iter().chain(self.places.wake()).min();
        tokio::select! {
            room = self.events.reserve(), if !self.waiting.is_empty() => match (room, self.waiting.pop_front()) {
                (Ok(room), Some(event)) => {
                    room.send(event);
                    Turn::Delivered
                }
                _ => Turn::Abandoned,
            },
            () = self.events.closed(), if self.waiting.is_empty() => Turn::Abandoned,
            command = self.commands.recv() => command.map_or(Turn::Abandoned, Turn::Command),
            // A slow reader of events slows the peers down rather than growing our memory.
            event = self.swarm.select_next_some(), if self.waiting.is_empty() => Turn::Swarm(Box::new(event)),
            () = sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => Turn::Wake,
        }
    }

    fn apply(&mut self, turn: Turn) -> ControlFlow<Option<oneshot::Sender<()>>> {
        match turn {
            Turn::Swarm(event) => self.apply_swarm(*event),
            Turn::Command(Command::Shutdown { reply }) => return ControlFlow::Break(Some(reply)),
            Turn::Command(command) => self.apply_command(command),
            Turn::Delivered | Turn::Wake => {}
            Turn::Abandoned => return ControlFlow::Break(None),
        }
        ControlFlow::Continue(())
    }

    fn apply_command(&mut self, command: Command) {
        match command {
            Command::Open { peer, protocol, reply } => {
                self.swarm.behaviour_mut().streams.open(peer.0, protocol, reply);
            }
            Command::Visit { address, reply } => self.visit(&address, reply),
            Command::AdmitGuests { open, reply } => {
                self.swarm.behaviour_mut().gate.open(open);
                let _ = reply.send(());
            }
            Command::Part { connection } => drop(self.swarm.close_connection(connection)),
            Command::SetPartners { partners, reply } => {
                self.set_partners(&partners);
                let _ = reply.send(());
            }
            Command::SetRelayUsers { users, reply } => {
                self.set_relay_users(&users);
                let _ = reply.send(());
            }
            Command::Places { reply } => drop(reply.send(self.places.all().cloned().collect())),
            Command::RelayLoad { reply } => {
                let serves = self.swarm.behaviour().serving.is_enabled();
                let _ = reply.send(serves.then(|| self.counted.load()));
            }
            Command::Redial { peer } => self.dialer.redial(peer, Instant::now()),
            Command::Disconnect { peer } => self.disconnect(peer.0),
            Command::Moved => {
                self.dialer.redial_all(Instant::now());
                self.places.again(Instant::now());
                self.emit(Event::Moved);
            }
            Command::CloseSilent { since } => {
                let silent = self.swarm.behaviour_mut().streams.give_up_silent(since);
                if !silent.is_empty() {
                    self.leave_relays();
                }
                for (peer, connection) in silent {
                    tracing::info!(%peer, "the connection leads nowhere any more");
                    self.swarm.close_connection(connection);
                }
            }
            Command::ListenAddresses { reply } => {
                let own = self.listening.iter().map(|(_, address)| address);
                let _ = reply.send(own.chain(self.places.kept()).cloned().collect());
            }
            Command::ListenHosts { reply } => {
                let real = |id: &ListenerId| self.listening.iter().find(|(listener, _)| listener == id).map(|(_, address)| address);
                let host = |(id, host): &(ListenerId, Address)| real(id).map_or_else(|| host.clone(), |real| host.with_port_of(real));
                let _ = reply.send(self.hosts.iter().map(host).collect());
            }
            Command::Shutdown { reply } => drop(reply),
        }
    }

    fn set_partners(&mut self, partners: &[Partner]) {
        let list = partners.iter().map(|partner| partner.peer.0).collect();
        for peer in self.swarm.behaviour_mut().gate.set(list) {
            self.disconnect(peer);
        }
        let addresses = partners.iter().flat_map(|partner| &partner.addresses);
        self.relays = addresses.filter_map(|address| Some(address.relay()?.0.0)).collect();
        self.know_relays();
        let streams = &self.swarm.behaviour().streams;
        self.dialer.set(partners, |peer| streams.is_connected(&peer.0), Instant::now());
    }

    /// Our relays, and those behind which partners are.
    fn know_relays(&mut self) {
        let all = self.relays.iter().copied().chain(self.places.relays().map(|relay| relay.0)).collect();
        self.swarm.behaviour_mut().gate.set_relays(all);
    }

    /// Closes the lines to relays that are relays only: on another network they lead nowhere, and carry nothing that would be heard.
    fn leave_relays(&mut self) {
        let all: Vec<_> = self.relays.iter().copied().chain(self.places.relays().map(|relay| relay.0)).collect();
        for relay in all {
            if !self.swarm.behaviour().streams.is_connected(&relay) {
                let _ = self.swarm.disconnect_peer_id(relay);
            }
        }
    }

    fn set_relay_users(&mut self, users: &[PeerId]) {
        if self.swarm.behaviour().serving.is_enabled() {
            for peer in self.swarm.behaviour_mut().gate.set_relayed(users.iter().map(|user| user.0).collect()) {
                self.disconnect(peer);
            }
        }
    }

    /// Streams fail at once; the connections behind them close in their own time, but within a bound.
    fn disconnect(&mut self, peer: libp2p::PeerId) {
        self.swarm.behaviour_mut().streams.revoke(peer);
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn dial(&mut self) {
        let now = Instant::now();
        while let Some((peer, addresses)) = self.dialer.next_due(now) {
            let addresses = addresses.iter().map(Address::to_multiaddr).collect();
            // Not `Disconnected`: a connection of before that is still closing is none.
            let dial = DialOpts::peer_id(peer.0).condition(PeerCondition::NotDialing).addresses(addresses).build();
            if let Err(error) = self.swarm.dial(dial) {
                self.dial_failed(peer, &error);
            }
        }
        while let Some((relay, address)) = self.places.next_due(now) {
            match self.swarm.listen_on(address.to_multiaddr()) {
                Ok(listener) => self.places.asked(relay, listener),
                Err(error) => self.place_lost(relay, Some(last_source(&error))),
            }
        }
    }

    fn place_lost(&mut self, relay: PeerId, why: Option<String>) {
        let (lost, why) = self.places.lost(relay, why, Instant::now(), jitter());
        tracing::info!(%relay, why, "no place at the relay");
        if let Some(address) = lost {
            self.emit(Event::NotListening { address, why });
        }
    }

    /// Dial somebody whose key is not known yet.
    fn visit(&mut self, address: &Address, reply: oneshot::Sender<Result<Stream, OpenError>>) {
        self.visits.retain(|_, waiting| !waiting.is_closed());
        let dial = DialOpts::unknown_peer_id().address(address.to_multiaddr()).build();
        let id = dial.connection_id();
        self.swarm.behaviour_mut().gate.visit(id);
        match self.swarm.dial(dial) {
            Ok(()) => drop(self.visits.insert(id, reply)),
            Err(error) => drop(reply.send(Err(OpenError::Unreachable(reason(&error))))),
        }
    }

    fn dial_failed(&mut self, peer: PeerId, error: &DialError) {
        if let DialError::WrongPeerId { address, .. } = error
            && let Some(address) = Address::from_multiaddr(&place(address))
        {
            self.dialer.set_back(peer, &address);
        }
        self.dialer.failed(peer, Instant::now(), jitter());
        let why = reason(error);
        tracing::debug!(%peer, why, "dial failed");
        self.emit(Event::DialFailed { peer, why });
    }

    fn apply_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(event)) => self.apply_streams(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping)) => self.apply_ping(&ping),
            SwarmEvent::Behaviour(BehaviourEvent::Through(event)) => self.apply_through(&event),
            SwarmEvent::Behaviour(BehaviourEvent::Serving(event)) => self.counted.note(&event),
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, connection_id, .. } => {
                if let Some(reply) = self.visits.remove(&connection_id) {
                    self.swarm.behaviour_mut().streams.visit(peer_id, connection_id, reply);
                }
                // Not left to `Connected`, which comes a turn later: the partner would be dialled once more meanwhile.
                self.dialer.connected(PeerId(peer_id), endpoint.is_dialer(), Instant::now());
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                if let Some(reply) = self.visits.remove(&connection_id) {
                    let _ = reply.send(Err(OpenError::Unreachable(reason(&error))));
                } else if let Some(peer) = peer_id {
                    self.places.unreachable(PeerId(peer), reason(&error));
                    self.dial_failed(PeerId(peer), &error);
                }
            }
            SwarmEvent::IncomingConnectionError { peer_id, error, send_back_addr, .. } => {
                tracing::debug!(from = %send_back_addr, error = last_source(&error), "connection refused");
                if let (Some(peer), ListenError::Denied { cause }) = (peer_id, &error)
                    && cause.downcast_ref::<gate::NotAPartner>().is_some()
                {
                    self.emit(Event::Refused { peer: PeerId(peer) });
                }
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                // A relay may know other addresses of itself; the one that we were given counts.
                if let Some(address) = Address::from_multiaddr(&address).filter(|_| !is_circuit(&address)) {
                    self.listening.push((listener_id, address.clone()));
                    self.emit(Event::Listening(address));
                }
            }
            SwarmEvent::ExpiredListenAddr { listener_id, address } => {
                let expired = Address::from_multiaddr(&address);
                self.listening.retain(|(id, address)| (*id, Some(address)) != (listener_id, expired.as_ref()));
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } if self.places.of(listener_id).is_some() => {
                if let Some(relay) = self.places.of(listener_id) {
                    self.place_lost(relay, reason.err().map(|why| last_source(&why)));
                }
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                self.listening.retain(|(id, _)| *id != listener_id);
                tracing::error!(?reason, "no longer listening");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a connection could not be accepted"),
            _ => {}
        }
    }

    fn apply_streams(&mut self, event: streams::Event) {
        match event {
            streams::Event::Connected { peer, dialed_by_us, remote } => {
                self.emit(Event::Connected { peer: PeerId(peer), dialed_by_us, remote: place(&remote).to_string() });
            }
            streams::Event::Dialed { peer } => self.emit(Event::Dialed { peer: PeerId(peer) }),
            streams::Event::Path { peer, dialed_by_us, remote } => {
                self.emit(Event::Path { peer: PeerId(peer), dialed_by_us, remote: place(&remote).to_string() });
            }
            streams::Event::Disconnected { peer } => {
                let peer = PeerId(peer);
                self.dialer.disconnected(peer, Instant::now(), jitter());
                self.emit(Event::Disconnected { peer });
            }
            streams::Event::Arrived { protocol: Protocol::Pair, stream, .. } => self.emit(Event::Guest { stream }),
            streams::Event::Arrived { peer, protocol, stream } => {
                self.emit(Event::Stream { peer: PeerId(peer), protocol, stream });
            }
        }
    }

    fn apply_through(&mut self, event: &relay::client::Event) {
        let relay::client::Event::ReservationReqAccepted { relay_peer_id, limit, .. } = event else { return };
        // A relay without a bound says 0.
        let bytes_max = limit.as_ref().and_then(|limit| limit.data_in_bytes()).filter(|bytes| *bytes > 0);
        if let Some(address) = self.places.accepted(PeerId(*relay_peer_id), bytes_max, Instant::now()) {
            self.emit(Event::Listening(address));
        }
    }

    fn apply_ping(&mut self, ping: &ping::Event) {
        let streams = &mut self.swarm.behaviour_mut().streams;
        // The line to a relay carries no stream that is ours; it has missed two pings, since libp2p keeps the first to itself.
        let to_a_relay = !streams.is_connected(&ping.peer) && ping.result.is_err();
        if streams.pinged(ping, self.ping_window) || to_a_relay {
            tracing::info!(peer = %ping.peer, "the connection is dead");
            self.swarm.close_connection(ping.connection);
        }
    }

    /// Hand an event over or, if the reader is behind, keep it; what may be lost then is lost: a stream closes, and the
    /// peer opens it again when its own deadline has passed.
    fn emit(&mut self, event: Event) {
        let may_be_lost =
            matches!(event, Event::Stream { .. } | Event::Guest { .. } | Event::DialFailed { .. } | Event::Refused { .. } | Event::Moved);
        let left = if self.waiting.is_empty() {
            match self.events.try_send(event) {
                Err(mpsc::error::TrySendError::Full(event)) => Some(event),
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            }
        } else {
            Some(event)
        };
        match left {
            Some(_) if may_be_lost => tracing::warn!("the reader of network events is behind: one was dropped"),
            Some(event) => self.waiting.push_back(event),
            None => {}
        }
    }

    /// By value: when it returns, ports and connections are gone.
    async fn close(mut self) {
        for (id, _) in self.listening.drain(..) {
            self.swarm.remove_listener(id);
        }
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = timeout(SHUTDOWN_MAX, async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        });
        if closed.await.is_err() {
            tracing::debug!("connections were cut at shutdown");
        }
    }
}

fn behaviour(config: &Config, local: libp2p::PeerId, through: relay::client::Behaviour) -> Behaviour {
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(config.pending_handshakes_max))
        .with_max_established_per_peer(Some(config.connections_per_peer_max))
        .with_max_established(Some(config.connections_max));
    let quota = gate::Quota {
        pending_max: config.pending_handshakes_max.div_ceil(2) as usize,
        unknown_per_minute_max: config.unknown_per_minute_max.max(1),
    };
    let ping = ping::Config::new().with_interval(config.ping_interval).with_timeout(config.ping_timeout);
    let gate = gate::Behaviour::new(quota);
    let roles = gate.roles();
    let serving =
        config.serving.as_ref().map(|serving| Only::new(roles.clone(), |role| role.relayed, super::relay::behaviour(local, serving)));
    Behaviour {
        gate,
        memory: memory_connection_limits::Behaviour::with_max_bytes(config.memory_bytes_max),
        limits: connection_limits::Behaviour::new(limits),
        streams: streams::Behaviour::new(config.majors.clone(), config.streams_per_peer_max, config.open_timeout, roles.clone()),
        ping: Only::new(roles.clone(), Role::is_known, ping::Behaviour::new(ping)),
        through: Only::new(roles, |role| role.relay, through),
        serving: serving.into(),
    }
}

fn jitter() -> f64 {
    getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX))
}

/// Why a dial failed, for people.
fn reason(error: &DialError) -> String {
    match error {
        DialError::WrongPeerId { obtained, address } => format!("`{}` is another node: `{obtained}`", place(address)),
        DialError::LocalPeerId { address } => format!("`{}` is this node itself", place(address)),
        DialError::NoAddresses => "every address is our own".into(),
        DialError::DialPeerConditionFalse(_) => "another dial is under way".into(),
        DialError::Aborted => "given up".into(),
        DialError::Denied { cause } => last_source(cause),
        DialError::Transport(tried) => {
            let each = tried.iter().map(|(address, error)| format!("`{}`: {}", place(address), last_source(error)));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

/// The address as the user wrote it; libp2p has put the peer id behind it.
fn place(address: &Multiaddr) -> Multiaddr {
    let mut parts: Vec<Part<'_>> = address.iter().collect();
    parts.pop_if(|last| matches!(last, Part::P2p(_)));
    parts.into_iter().collect()
}

/// The innermost cause: the outer ones speak of libp2p's layers.
pub(super) fn last_source(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
