//! What each connection has part in, as `gate` decided; the other behaviours ask here.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        derive_prelude::Either, dummy,
    },
};

/// Guests connected at once.
pub(super) const GUESTS_MAX: usize = 16;

/// Of these from one source address.
const GUESTS_ALIKE_MAX: usize = 8;

/// What one connection may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Role {
    /// Control and feeds.
    pub(super) partner: bool,
    /// Pairing.
    pub(super) guest: bool,
    /// We keep a place at this relay, or reach a partner through it.
    pub(super) relay: bool,
    /// It may keep a place at us, and be put through.
    pub(super) relayed: bool,
    /// Where a guest came from; none for one whose guest we are: who comes to us takes no place from it.
    pub(super) source: Option<IpAddr>,
}

impl Role {
    /// More than a guest: there is a ping, too.
    pub(super) fn is_known(self) -> bool {
        self.partner || self.relay || self.relayed
    }
}

/// The roles of all connections. Who asks sees what `gate` has decided, which decides first.
#[derive(Clone, Default)]
pub(super) struct Roles(Arc<Mutex<HashMap<ConnectionId, Role>>>);

impl Roles {
    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<ConnectionId, Role>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None at all for a connection that is not there.
    pub(super) fn of(&self, id: ConnectionId) -> Role {
        self.locked().get(&id).copied().unwrap_or_default()
    }

    pub(super) fn set(&self, id: ConnectionId, role: Role) {
        self.locked().insert(id, role);
    }

    /// A guest that came to us. False: there are too many, or too many of this source.
    pub(super) fn add_guest(&self, id: ConnectionId, source: IpAddr) -> bool {
        let mut roles = self.locked();
        let came = || roles.values().filter_map(|role| role.source);
        let room = came().count() < GUESTS_MAX && came().filter(|other| *other == source).count() < GUESTS_ALIKE_MAX;
        if room {
            roles.insert(id, Role { guest: true, source: Some(source), ..Role::default() });
        }
        room
    }

    pub(super) fn remove(&self, id: ConnectionId) {
        self.locked().remove(&id);
    }
}

/// A behaviour that only some connections have part in; on the others it is not there at all.
pub(super) struct Only<B> {
    roles: Roles,
    has_part: fn(Role) -> bool,
    inner: B,
    /// Those that the inner behaviour knows of.
    known: HashSet<ConnectionId>,
}

impl<B> Only<B> {
    pub(super) fn new(roles: Roles, has_part: fn(Role) -> bool, inner: B) -> Self {
        Self { roles, has_part, inner, known: HashSet::new() }
    }

    fn handler<H>(
        &mut self,
        id: ConnectionId,
        admit: impl FnOnce(&mut B) -> Result<H, ConnectionDenied>,
    ) -> Result<Choice<H>, ConnectionDenied> {
        if !(self.has_part)(self.roles.of(id)) {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.known.insert(id);
        admit(&mut self.inner).map(Either::Left)
    }
}

type Choice<H> = Either<H, dummy::ConnectionHandler>;

impl<B: NetworkBehaviour> NetworkBehaviour for Only<B> {
    type ConnectionHandler = Choice<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handler(id, |inner| inner.handle_established_inbound_connection(id, peer, local, remote))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handler(id, |inner| inner.handle_established_outbound_connection(id, peer, remote, role, port))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let concerned = match &event {
            FromSwarm::ConnectionEstablished(up) => self.known.contains(&up.connection_id),
            FromSwarm::AddressChange(change) => self.known.contains(&change.connection_id),
            FromSwarm::ConnectionClosed(down) => self.known.remove(&down.connection_id),
            // A dial may fail that the inner behaviour asked for, whether or not it got as far as a connection.
            FromSwarm::DialFailure(failure) => {
                self.known.remove(&failure.connection_id);
                true
            }
            FromSwarm::ListenFailure(failure) => {
                self.known.remove(&failure.connection_id);
                true
            }
            _ => true,
        };
        if concerned {
            self.inner.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Either::Left(event) => self.inner.on_connection_handler_event(peer, id, event),
            Either::Right(never) => match never {},
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx).map(|event| event.map_in(Either::Left))
    }
}
