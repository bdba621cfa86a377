//! What stands at an address, and where a connection would fail, for people who look for what is in the way.

use std::{io, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    Transport as _,
    core::{
        Endpoint,
        transport::{DialOpts, PortUse},
    },
    relay,
};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{Address, Net, PeerId, Web, address::keypair, task::last_source, transport::transport};

/// For a name to be resolved, and for one address to take a connection.
const STEP_MAX: Duration = Duration::from_secs(5);

/// Addresses tried at once.
const AT_ONCE: usize = 16;

/// The addresses of one name that are tried.
const IPS_MAX: usize = 4;

/// Where a connection fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The name says nothing here.
    Name(String),
    /// No answer at all.
    Silent,
    /// The computer answers; nothing listens there.
    Closed,
    /// There is no way to it.
    Unreachable(String),
    /// The proxy does not put us through.
    Proxy(String),
    /// The certificate of the web address is not trusted.
    Certificate(String),
    /// What answers does not speak as a node does.
    Strange(String),
    /// Another node than the expected one.
    Another(PeerId),
}

impl Net {
    /// Connects to each address, proves that this node is there, and hangs up: with the transport key of this seed, so that a partner
    /// knows us. Of an address through a relay, the relay itself. Takes at most some 30 s for each sixteen.
    pub async fn probe(seed: &[u8; 32], web: &Web, places: Vec<(Address, PeerId)>) -> Vec<Result<(), Obstacle>> {
        let each = places.into_iter().map(|(address, expected)| {
            let (expected, address) = address.relay().unwrap_or((expected, address));
            async move { stands(seed, web, &address, expected).await }
        });
        futures::stream::iter(each).buffered(AT_ONCE).collect().await
    }
}

async fn stands(seed: &[u8; 32], web: &Web, address: &Address, expected: PeerId) -> Result<(), Obstacle> {
    let first = web.proxy.as_ref().filter(|_| address.is_web() && !address.is_loopback()).map(super::Proxy::at);
    reach(first.unwrap_or(address)).await?;
    let key = keypair(seed);
    // Kept until the end, since the lines through relays talk to it, and not used.
    let (circuits, _through) = relay::client::new(key.public().to_peer_id());
    let mut line = transport(&key, circuits, 0, web).map_err(|why| Obstacle::Certificate(why.to_string()))?;
    let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let dial = line.dial(address.to_multiaddr(), opts).map_err(|why| Obstacle::Strange(last_source(&why)))?;
    let found = dial.await.map_err(|why| {
        let why = last_source(&why);
        match why {
            _ if why.starts_with("the proxy") => Obstacle::Proxy(why),
            _ if why.contains("certificate") => Obstacle::Certificate(why),
            _ => Obstacle::Strange(why),
        }
    })?;
    let found = PeerId(found.0);
    if found == expected { Ok(()) } else { Err(Obstacle::Another(found)) }
}

/// Whether something takes TCP connections there.
async fn reach(address: &Address) -> Result<(), Obstacle> {
    let place = address.host_and_port();
    let ips = match timeout(STEP_MAX, lookup_host(&place)).await {
        Ok(Ok(ips)) => ips,
        Ok(Err(why)) => return Err(Obstacle::Name(why.to_string())),
        Err(_) => return Err(Obstacle::Name("no answer to the question for the name".into())),
    };
    let mut obstacle = Obstacle::Name("the name has no address".into());
    for ip in ips.take(IPS_MAX) {
        obstacle = match timeout(STEP_MAX, TcpStream::connect(ip)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(why)) if why.kind() == io::ErrorKind::ConnectionRefused => Obstacle::Closed,
            Ok(Err(why)) if why.kind() == io::ErrorKind::TimedOut => Obstacle::Silent,
            Ok(Err(why)) => Obstacle::Unreachable(why.to_string()),
            Err(_) => Obstacle::Silent,
        };
    }
    Err(obstacle)
}
