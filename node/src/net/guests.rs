//! A behaviour that guests have no part in: on their connections it is not there at all.

use std::task::{Context, Poll};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        derive_prelude::Either, dummy,
    },
};

use super::gate::Guests;

/// The behaviour, for all who are no guests.
pub(super) struct NotFor<B> {
    guests: Guests,
    inner: B,
}

impl<B> NotFor<B> {
    pub(super) fn new(guests: Guests, inner: B) -> Self {
        Self { guests, inner }
    }

    fn handler<H>(
        &mut self,
        id: ConnectionId,
        admit: impl FnOnce(&mut B) -> Result<H, ConnectionDenied>,
    ) -> Result<Choice<H>, ConnectionDenied> {
        if self.guests.contains(id) { Ok(Either::Right(dummy::ConnectionHandler)) } else { admit(&mut self.inner).map(Either::Left) }
    }
}

type Choice<H> = Either<H, dummy::ConnectionHandler>;

impl<B: NetworkBehaviour> NetworkBehaviour for NotFor<B> {
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
        let of_guest = match &event {
            FromSwarm::ConnectionEstablished(up) => self.guests.contains(up.connection_id),
            // `gate` has struck it off by now; the inner behaviour never heard of it, and keeps nothing by connection.
            _ => false,
        };
        if !of_guest {
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
