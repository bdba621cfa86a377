//! The line itself: TCP without Nagle's delay, where needed a WebSocket in a TLS of its own, TLS 1.3, yamux, and a close that ends.
//!
//! Knows nothing of partners: the inner TLS proves which key the other end has, and `gate` decides. The outer one of a WebSocket is for
//! the networks on the way, which let through what looks like the web: a firm's own proxy may end it and sees nothing.

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use libp2p::{
    PeerId, Transport as _,
    core::{
        muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox},
        transport::Boxed,
        upgrade::Version,
    },
    dns,
    identity::Keypair,
    multiaddr::Protocol as Part,
    relay, tcp, tls, websocket, yamux,
};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};
use tokio::time::{Sleep, sleep};

use super::{
    Address, NetError,
    proxy::{Proxied, Proxy},
};

/// From the first byte to an agreed connection, in and out. Ten round trips fit on a satellite line; a silent caller
/// does not hold one of the few handshake places for longer.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// For what was written before a close to leave. A peer that stopped reading would otherwise keep the connection, and
/// the task and socket behind it, for ever.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// yamux streams above the peer's places: two pings, and those being negotiated or refused. yamux closes the connection
/// when its own bound is passed, so ours has to be met first.
const STREAMS_SPARE: usize = 32;

/// What a listening WebSocket takes as one message; ours have at most 16 KiB. A dialled one takes what the library does, 256 MiB: it is
/// the owner who chose where to dial.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// `circuits` are lines through a relay: inside them is the same TLS as on a line of our own.
pub(super) fn transport(
    key: &Keypair,
    circuits: relay::client::Transport,
    streams_max: usize,
    web: &Web,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetError> {
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(streams_max.saturating_add(STREAMS_SPARE));
    let security = tls::Config::new(key).map_err(|error| NetError::Tls(error.into()))?;
    let tcp = || Tcp::new(tcp::Config::default().nodelay(true));
    let mut over_web = websocket::Config::new(Proxied::new(resolving(tcp), web.proxy.clone()));
    // A redirect would lead to an address that nobody wrote down.
    over_web.set_max_redirects(0).set_max_data_size(MESSAGE_BYTES_MAX).set_tls_config(web.outer()?);
    // Plain TCP last: the others take their own addresses only.
    let lines = circuits.or_transport(over_web).or_transport(resolving(tcp));
    let line = lines.upgrade(Version::V1Lazy).authenticate(security).multiplex(muxer).timeout(HANDSHAKE_MAX);
    let line = line.boxed().map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Closing { muxer, deadline: None })));
    Ok(line.boxed())
}

/// WebSockets: the certificates of the outer TLS, and the way out.
#[derive(Clone, Debug, Default)]
pub struct Web {
    /// To listen at `wss://` without a proxy in front: the files of certificate chain and key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// A file of certificates (PEM) that are trusted beside the public ones: of a firm's own authority.
    pub trust: Option<PathBuf>,
    /// The firm's proxy, through which WebSocket addresses are dialled.
    pub proxy: Option<Proxy>,
}

impl Web {
    fn outer(&self) -> Result<websocket::tls::Config, NetError> {
        let wrong = |path: &Path, why: &dyn std::fmt::Display| NetError::Certificate { path: path.into(), why: why.to_string() };
        let mut builder = websocket::tls::Config::builder();
        if let Some((chain, key)) = &self.certificate {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|why| wrong(key, &why))?;
            let certificates = certificates(chain).map_err(|why| wrong(chain, &why))?;
            let key = websocket::tls::PrivateKey::new(secret.secret_der().to_vec());
            builder.server(key, certificates).map_err(|why| wrong(chain, &why))?;
        }
        if let Some(path) = &self.trust {
            for certificate in certificates(path).map_err(|why| wrong(path, &why))? {
                builder.add_trust(&certificate).map_err(|why| wrong(path, &why))?;
            }
        }
        Ok(builder.finish())
    }
}

fn certificates(path: &Path) -> Result<Vec<websocket::tls::Certificate>, pem::Error> {
    let all = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
    if all.is_empty() {
        return Err(pem::Error::NoItemsFound);
    }
    Ok(all.into_iter().map(|one| websocket::tls::Certificate::new(one.to_vec())).collect())
}

type Tcp = tcp::tokio::Transport;

/// Names resolve by the system's configuration. Without one, in a bare container, ip addresses still have to work.
fn resolving(tcp: impl Fn() -> Tcp) -> dns::tokio::Transport<Tcp> {
    dns::tokio::Transport::system(tcp()).unwrap_or_else(|error| {
        tracing::warn!(%error, "no DNS configuration: partners are reached by ip address only");
        unresolving(tcp())
    })
}

fn unresolving(tcp: Tcp) -> dns::tokio::Transport<Tcp> {
    let nowhere = dns::ResolverConfig::from_parts(None, Vec::new(), Vec::new());
    dns::tokio::Transport::custom(tcp, nowhere, dns::ResolverOpts::default())
}

/// Say that the port is taken, which the listener would not: it sets `SO_REUSEPORT`, and two nodes on one port would
/// each get some of the connections.
pub(super) fn check_free(address: &Address) -> Result<(), NetError> {
    let parts: Vec<_> = address.to_multiaddr().iter().map(|part| part.acquire()).collect();
    let (ip, port) = match parts[..] {
        [Part::Ip4(ip), Part::Tcp(port), ..] => (std::net::IpAddr::from(ip), port),
        [Part::Ip6(ip), Part::Tcp(port), ..] => (std::net::IpAddr::from(ip), port),
        _ => return Err(NetError::ListenName(address.clone())),
    };
    if ip == std::net::Ipv6Addr::UNSPECIFIED {
        // The standard library would take the IPv4 port as well, which our listener leaves to others.
        return Ok(());
    }
    match std::net::TcpListener::bind((ip, port)) {
        Ok(_) => Ok(()),
        Err(source) => Err(NetError::Listen { address: address.clone(), source }),
    }
}

/// A connection whose graceful close has a deadline.
struct Closing {
    muxer: StreamMuxerBox,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl StreamMuxer for Closing {
    type Substream = SubstreamBox;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        Pin::new(&mut self.muxer).poll_inbound(cx)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        Pin::new(&mut self.muxer).poll_outbound(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.muxer).poll(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(closed) = Pin::new(&mut self.muxer).poll_close(cx) {
            return Poll::Ready(closed);
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(CLOSE_MAX)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_close_that_the_peer_does_not_take_ends() {
        struct Deaf;
        impl StreamMuxer for Deaf {
            type Substream = SubstreamBox;
            type Error = io::Error;
            fn poll_inbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
                Poll::Pending
            }
            fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
                Poll::Pending
            }
            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
                Poll::Pending
            }
            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Pending
            }
        }
        use libp2p::core::muxing::StreamMuxerExt as _;
        let close = Closing { muxer: StreamMuxerBox::new(Deaf), deadline: None }.close();
        let closed = tokio::time::timeout(CLOSE_MAX * 2, close).await.expect("the close has a deadline");
        assert_eq!(closed.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn without_dns_a_name_fails_and_does_not_hang() {
        use libp2p::core::{
            Endpoint,
            transport::{DialOpts, PortUse},
        };
        let mut line = unresolving(Tcp::new(tcp::Config::default()));
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
        let dial = line.dial("/dns/partner.example/tcp/4001".parse().unwrap(), opts).unwrap();
        let failed = tokio::time::timeout(Duration::from_secs(5), dial).await.expect("no lookup is made");
        assert!(failed.is_err());
    }
}
