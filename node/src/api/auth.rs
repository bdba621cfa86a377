//! Who may ask at all: the right Host (no name rebound to this computer), the right Origin (no page of somebody else),
//! and a key, on every address and every method.
//!
//! One secret token a start; the other keys are derived from it, so that none of them gives away another:
//!
//! - the token itself, in `Authorization: Bearer`, does everything. It is in a file only the owner can read;
//! - the page's key, in the link once and then in a cookie, reads the page. A browser sends cookies to every port of
//!   this computer and keeps links in its history, so this key must not do more;
//! - the metrics' key, in a file of its own for a monitoring program, reads `/metrics` alone;
//! - the knock, which a client shows before it shows its token, opens `health` alone.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use lotline_schema::Hash;
use lotline_schema::id::hex;

use crate::keys::random;

/// The secret of one start, and the keys derived from it.
pub(super) struct Keys {
    token: String,
}

impl Keys {
    /// A new secret.
    pub(super) fn new() -> Keys {
        let mut token = [0u8; 32];
        random(&mut token);
        Keys::of(hex(&token))
    }

    /// The one in the token file.
    pub(super) fn of(token: String) -> Keys {
        Keys { token }
    }

    /// Does everything.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Reads the page.
    pub(super) fn page(&self) -> String {
        self.derived(b"lotline page")
    }

    /// Reads the metrics.
    pub(super) fn metrics(&self) -> String {
        self.derived(b"lotline metrics")
    }

    /// Opens `health`.
    pub(super) fn knock(&self) -> String {
        self.derived(b"lotline knock")
    }

    /// Only who has the token can say this.
    pub(super) fn proof(&self, nonce: &str) -> String {
        self.derived(format!("lotline proof {nonce}").as_bytes())
    }

    fn derived(&self, purpose: &[u8]) -> String {
        // The token has a fixed length and comes first, so no two purposes make the same bytes.
        Hash::of(&[self.token.as_bytes(), purpose]).to_string()
    }
}

/// What every request passes.
pub(super) struct Gate {
    keys: Keys,
    hosts: [String; 4],
    cookie: String,
}

/// What a request may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Admission {
    /// What it asks for.
    Go,
    /// It brought the link: take the key out of the address, into a cookie.
    Enter,
}

/// Why a request may not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    /// It was sent to another name.
    Host,
    /// It comes from somebody else's page.
    Origin,
    /// It has no key.
    Key,
}

impl Gate {
    /// For the API at this address.
    pub(super) fn new(keys: Keys, address: SocketAddr) -> Gate {
        let port = address.port();
        let hosts = [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}"), address.to_string()];
        // Cookies do not tell ports apart: two nodes on one computer need two names.
        Gate { keys, hosts, cookie: format!("lotline-{port}") }
    }

    pub(super) fn proof(&self, nonce: &str) -> String {
        self.keys.proof(nonce)
    }

    fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Admission, Refusal> {
        let host = self.host(uri, headers).ok_or(Refusal::Host)?;
        if !from_here(headers, host) {
            return Err(Refusal::Origin);
        }
        let bearer = only(headers, header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let brings = |key: &str| bearer.is_some_and(|bearer| same(bearer, key));
        let path = uri.path();
        let admitted = brings(self.keys.token())
            || path == super::HEALTH && brings(&self.keys.knock())
            || path == super::METRICS && brings(&self.keys.metrics())
            || !path.starts_with("/api/") && self.has_cookie(headers);
        if path == "/" && method == Method::GET && self.has_link(uri) {
            return Ok(Admission::Enter);
        }
        if admitted { Ok(Admission::Go) } else { Err(Refusal::Key) }
    }

    /// The name it was sent to, when that is one of ours: exactly one Host, and no other in the request line.
    fn host<'a>(&'a self, uri: &Uri, headers: &HeaderMap) -> Option<&'a str> {
        let host = only(headers, header::HOST)?;
        let ours = self.hosts.iter().find(|ours| ours.eq_ignore_ascii_case(host))?;
        uri.authority().is_none_or(|authority| authority.as_str() == host).then_some(ours)
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut cookies = lines.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        let key = self.keys.page();
        cookies.any(|(name, value)| name == self.cookie && same(value, &key))
    }

    fn has_link(&self, uri: &Uri) -> bool {
        let key = self.keys.page();
        let mut pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.any(|(name, value)| name == "token" && same(value, &key))
    }

    /// The key moves from the address, where it would stay in view, into a cookie no script can read.
    fn enter(&self) -> Response {
        let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie, self.keys.page());
        (StatusCode::SEE_OTHER, [(header::LOCATION, "/".to_owned()), (header::SET_COOKIE, cookie)]).into_response()
    }
}

/// Whether no other origin had a hand in it. Browsers say so in two headers; programs send neither.
fn from_here(headers: &HeaderMap, host: &str) -> bool {
    let origin = match headers.contains_key(header::ORIGIN) {
        true => only(headers, header::ORIGIN)
            .and_then(|origin| origin.strip_prefix("http://"))
            .is_some_and(|origin| origin.eq_ignore_ascii_case(host)),
        false => true,
    };
    // Says also of a GET where it came from; another port of this computer is `same-site`.
    let site = headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    origin && site
}

/// The value of a header that is there once and is text.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

/// Compared by hash, so that the time it takes says nothing about the key.
fn same(brought: &str, key: &str) -> bool {
    Hash::of(&[brought.as_bytes()]) == Hash::of(&[key.as_bytes()])
}

/// Stands before every route.
pub(super) async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let mut response = match gate.admit(request.method(), request.uri(), request.headers()) {
        Ok(Admission::Go) => next.run(request).await,
        Ok(Admission::Enter) => gate.enter(),
        Err(refusal) => refuse(refusal),
    };
    harden(response.headers_mut());
    response
}

fn refuse(refusal: Refusal) -> Response {
    let (status, why) = match refusal {
        Refusal::Host => (StatusCode::FORBIDDEN, "this address does not answer under that name\n"),
        Refusal::Origin => (StatusCode::FORBIDDEN, "this address does not answer to pages of others; open the link yourself\n"),
        Refusal::Key => {
            (StatusCode::UNAUTHORIZED, "open the page with the link that `lotline run` printed; it holds the key of this start\n")
        }
    };
    (status, why).into_response()
}

/// On every answer. `same-origin` as referrer policy, since with `no-referrer` browsers hide the Origin of our own form.
fn harden(headers: &mut HeaderMap) {
    const FIXED: [(HeaderName, &str); 8] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ];
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
