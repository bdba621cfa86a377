//! A firm's HTTP proxy, for networks that let programs out through it alone: the `CONNECT` of RFC 9110, section 9.3.6.
//!
//! Used for WebSocket addresses: what goes through is TLS to the proxy's eyes, as of a browser. The name of the other side is resolved
//! by the proxy.

use std::{
    fmt, io,
    pin::Pin,
    str::FromStr,
    task::{Context, Poll},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, FutureExt as _, TryFutureExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    multiaddr::Protocol as Part,
};

use super::Address;

/// The longest head of an answer that is read.
const HEAD_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;

/// Where the proxy is, and who asks it.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    at: Address,
    /// `user:password`.
    user: Option<String>,
}

impl Proxy {
    /// The proxy itself.
    pub fn at(&self) -> &Address {
        &self.at
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let wrong = || ProxyError(text.rsplit_once('@').map_or(text, |(_, place)| place).into());
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user.to_owned()), place));
        let at: Address = place.parse().map_err(|_| wrong())?;
        let fits = !place.contains('/') && at.relay().is_none() && user.as_ref().is_none_or(|user| user.contains(':'));
        fits.then_some(Self { at, user }).ok_or_else(wrong)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("at", &self.at).finish_non_exhaustive()
    }
}

/// The text is not a proxy we can use. Without the user and the password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a proxy: expected `http://host:port` or `http://user:password@host:port`")]
pub struct ProxyError(String);

/// TCP lines, through a proxy if there is one.
pub(super) struct Proxied<T> {
    line: T,
    proxy: Option<Proxy>,
}

impl<T> Proxied<T> {
    pub(super) fn new(line: T, proxy: Option<Proxy>) -> Self {
        Self { line, proxy }
    }
}

/// Why a line through a proxy failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error<E> {
    /// There is no line to the proxy, or to the other side where none is used.
    #[error(transparent)]
    Line(E),
    /// The line to the proxy broke.
    #[error("the proxy broke off")]
    Broken(#[source] io::Error),
    /// What it said.
    #[error("the proxy answered `{0}`")]
    Refused(String),
}

/// Asks for a line to `to` and reads no byte behind the answer.
async fn connect<E>(line: &mut (impl AsyncRead + AsyncWrite + Unpin), to: &str, user: Option<&str>) -> Result<(), Error<E>> {
    let user = user.map_or(String::new(), |user| format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(user)));
    let ask = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{user}\r\n");
    line.write_all(ask.as_bytes()).await.map_err(Error::Broken)?;
    line.flush().await.map_err(Error::Broken)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES_MAX {
            return Err(Error::Refused("a head without an end".into()));
        }
        let mut byte = [0];
        line.read_exact(&mut byte).await.map_err(Error::Broken)?;
        head.push(byte[0]);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    match answer.parse(&head) {
        Ok(_) if answer.code.is_some_and(|code| (200..300).contains(&code)) => Ok(()),
        Ok(_) => Err(Error::Refused(format!("{} {}", answer.code.unwrap_or_default(), answer.reason.unwrap_or_default()))),
        Err(_) => Err(Error::Refused("no HTTP".into())),
    }
}

impl<T> Transport for Proxied<T>
where
    T: Transport + Unpin,
    T::Output: AsyncRead + AsyncWrite + Unpin + Send,
    T::Error: Send + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    type Output = T::Output;
    type Error = Error<T::Error>;
    type ListenerUpgrade = BoxFuture<'static, Result<T::Output, Self::Error>>;
    type Dial = BoxFuture<'static, Result<T::Output, Self::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.line.listen_on(id, address).map_err(|error| error.map(Error::Line))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.line.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        // libp2p puts the partner's id behind its address.
        let place: Multiaddr = address.iter().take_while(|part| !matches!(part, Part::P2p(_))).collect();
        let through = self.proxy.clone().zip(Address::from_multiaddr(&place)).filter(|(_, to)| !to.is_loopback());
        let Some((proxy, to)) = through else {
            return Ok(self.line.dial(address, opts).map_err(|error| error.map(Error::Line))?.map_err(Error::Line).boxed());
        };
        let line = self.line.dial(proxy.at.to_multiaddr(), opts).map_err(|error| error.map(Error::Line))?;
        let through = async move {
            let mut line = line.await.map_err(Error::Line)?;
            connect(&mut line, &to.host_port(), proxy.user.as_deref()).await?;
            Ok(line)
        };
        Ok(through.boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let event = Pin::new(&mut self.line).poll(cx);
        event.map(|event| event.map_upgrade(|upgrade| upgrade.map_err(Error::Line).boxed()).map_err(Error::Line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a proxy is asked when it says this, and how that is taken.
    fn asked(says: &str, user: Option<&str>) -> (String, Result<(), Error<io::Error>>) {
        let mut asks = Vec::new();
        let says = says.as_bytes().to_vec();
        struct Both<'a>(io::Cursor<Vec<u8>>, &'a mut Vec<u8>);
        impl AsyncRead for Both<'_> {
            fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                Poll::Ready(io::Read::read(&mut self.0, buf))
            }
        }
        impl AsyncWrite for Both<'_> {
            fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                self.get_mut().1.extend_from_slice(buf);
                Poll::Ready(Ok(buf.len()))
            }
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
        let mut line = Both(io::Cursor::new(says), &mut asks);
        let taken = futures::executor::block_on(connect(&mut line, "oem.example:443", user));
        (String::from_utf8(asks).unwrap(), taken)
    }

    #[test]
    fn a_line_is_asked_for_and_refusals_are_told() {
        let (asks, taken) = asked("HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\nTLS", None);
        assert_eq!(asks, "CONNECT oem.example:443 HTTP/1.1\r\nHost: oem.example:443\r\n\r\n");
        assert!(taken.is_ok());
        let (asks, taken) = asked("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Some("till:geheim"));
        assert!(asks.contains("\r\nProxy-Authorization: Basic dGlsbDpnZWhlaW0=\r\n"));
        assert_eq!(taken.unwrap_err().to_string(), "the proxy answered `407 Proxy Authentication Required`");
        for (says, why) in [
            ("SSH-2.0-OpenSSH\r\n\r\n", "the proxy answered `no HTTP`"),
            (&"x".repeat(HEAD_BYTES_MAX + 1), "the proxy answered `a head without an end`"),
            ("HTTP/1.1 200 OK\r\n", "the proxy broke off"),
            ("", "the proxy broke off"),
        ] {
            assert_eq!(asked(says, None).1.unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn a_proxy_has_one_form_and_its_password_is_not_printed() {
        for (text, at, user) in [
            ("http://proxy.example:3128", "proxy.example:3128", None),
            ("http://proxy.example:3128/", "proxy.example:3128", None),
            ("http://till:ge@heim@[::1]:3128", "[::1]:3128", Some("till:ge@heim")),
        ] {
            let proxy: Proxy = text.parse().unwrap();
            assert_eq!((proxy.at().host_port().as_str(), proxy.user.as_deref()), (at, user));
            assert!(!format!("{proxy:?}").contains("heim"));
        }
        for wrong in
            ["", "proxy:3128", "https://proxy:3128", "http://proxy", "http://till@proxy:3128", "socks5://proxy:1", "http://wss://a"]
        {
            assert!(wrong.parse::<Proxy>().is_err(), "{wrong}");
        }
        assert!(!"http://till:geheim@proxy".parse::<Proxy>().unwrap_err().to_string().contains("geheim"));
    }
}
