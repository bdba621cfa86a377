//! The local API and the page: loopback only, one token, and nothing but the verbs of the command line.
//!
//! `POST /api/v1/verb` does what a command would do, inside this process; `GET /api/v1/health` proves who answers. All
//! other addresses are the page: rendered here, read-only, whole without JavaScript.
//!
//! Reading order: `auth` (who may ask at all), [`client`] (the other end of the API), `page` (what there is to see).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::answer::{Answer, Failure, exit};
use crate::cli::HomeVerb;
use crate::config::Home;
use crate::desk::Desk;
use crate::pairing::Pairings;
use crate::platform;
use crate::service::{AUDIT, Handle, LinkBoard};

mod auth;
pub mod client;
mod page;

use auth::{Gate, Keys};

/// The largest verb: paths, names and an invitation. Files stay where they are, a verb names them.
const VERB_BYTES_MAX: usize = 1 << 20;
/// How long requests under way may take once the node is told to stop; what is being committed is waited for elsewhere.
const STOP_WITHIN: Duration = Duration::from_secs(10);

const VERB: &str = "/api/v1/verb";
const HEALTH: &str = "/api/v1/health";
const METRICS: &str = "/metrics";

/// What the API works with.
#[derive(Clone)]
pub struct Context {
    /// The home.
    pub home: Home,
    /// Its feeds thread.
    pub handle: Handle,
    /// How the links stand.
    pub board: LinkBoard,
    /// Pairings by code.
    pub pairings: Pairings,
}

impl Context {
    /// The desk at which verbs are done inside this node.
    pub fn desk(self) -> Result<Desk, Failure> {
        let config = self.home.config()?;
        Ok(Desk { home: self.home, config, handle: self.handle, board: Some(self.board), pairings: Some(self.pairings) })
    }
}

/// The API, answering.
pub struct Running {
    home: Home,
    address: SocketAddr,
    page_link: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

/// `run.json`: where a node on this home answers. Readable by the owner only, since the link opens the page.
#[derive(Serialize, Deserialize)]
struct RunFile {
    api: SocketAddr,
    pid: u32,
    page: String,
}

/// What the verb route says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    Answer(Answer),
    Failure(Failure),
}

/// Listens on the page's address and begins to answer. The token is new at every start: an old one opens nothing.
pub async fn start(context: Context) -> Result<Running, Failure> {
    let wanted = context.home.config()?.page;
    let listener = TcpListener::bind(wanted).await.map_err(|why| {
        Failure::new(format!("the page cannot listen on {wanted}: {why}"))
            .hint("give it another port, or 0 for any, under `page` in lotline.toml")
    })?;
    let address = listener.local_addr()?;
    let keys = Keys::new();
    let page_link = format!("http://{address}/?token={}", keys.page());
    let home = context.home.clone();
    platform::write_secret(&home.token_file(), keys.token().as_bytes())?;
    platform::write_secret(&home.metrics_token_file(), keys.metrics().as_bytes())?;
    let run_file = RunFile { api: address, pid: std::process::id(), page: page_link.clone() };
    platform::write_secret(&home.run_file(), &serde_json::to_vec(&run_file).map_err(Failure::new)?)?;
    let (stop, stopped) = oneshot::channel();
    let routes = routes(context, Gate::new(keys, address));
    let serving = tokio::spawn(async move {
        // An error as well as a word: whoever started this is gone.
        let until = async move { drop(stopped.await) };
        if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(until).await {
            tracing::error!(%error, "the page stopped");
        }
    });
    Ok(Running { home, address, page_link, stop, serving })
}

impl Running {
    /// The link that opens the page; whoever has it can read what the page shows.
    pub fn page_link(&self) -> String {
        self.page_link.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new request, finishes those under way, and takes the run file away.
    pub async fn stop(mut self) {
        let _ = std::fs::remove_file(self.home.run_file());
        let _ = self.stop.send(());
        if tokio::time::timeout(STOP_WITHIN, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
    }
}

fn routes(context: Context, gate: Gate) -> Router {
    let gate = Arc::new(gate);
    let verbs = Router::new().route(VERB, post(verb)).layer(DefaultBodyLimit::max(VERB_BYTES_MAX)).with_state(context.clone());
    let health = Router::new().route(HEALTH, get(health)).with_state(gate.clone());
    let metrics = Router::new().route(METRICS, get(metrics)).with_state(context.clone());
    let everything = verbs.merge(health).merge(metrics).merge(page::routes(context)).fallback(page::nothing_here);
    // Outermost, so that nothing is said to a stranger, not even which addresses exist.
    everything.layer(axum::middleware::from_fn_with_state(gate, auth::guard))
}

/// Does a verb as the command line would, on a thread that may block.
async fn verb(State(context): State<Context>, body: Bytes) -> (StatusCode, Json<Said>) {
    let verb = match serde_json::from_slice::<HomeVerb>(&body) {
        Ok(verb) => verb,
        Err(why) => {
            let failure = Failure::new(format!("this node does not know the verb: {why}")).exit(exit::USAGE);
            let hint = "is the program newer than the node that runs? restart the node";
            return (StatusCode::BAD_REQUEST, Json(Said::Failure(failure.hint(hint))));
        }
    };
    let name = verb.name();
    let done = tokio::task::spawn_blocking(move || verb.perform(&context.desk()?));
    let said = match done.await {
        Ok(Ok(answer)) => Said::Answer(answer),
        Ok(Err(failure)) => Said::Failure(failure),
        Err(_) => {
            Said::Failure(Failure::new("the command broke off inside the node").hint("look at what the node printed, and please report it"))
        }
    };
    let exit = match &said {
        Said::Answer(answer) => answer.exit,
        Said::Failure(failure) => failure.exit,
    };
    tracing::info!(target: AUDIT, event = "command", verb = name, exit);
    (StatusCode::OK, Json(said))
}

/// For a monitoring program: see [`crate::metrics`].
async fn metrics(State(context): State<Context>) -> Response {
    let told = tokio::task::spawn_blocking(move || Ok::<_, Failure>(crate::metrics::text(&context.desk()?))).await;
    match told {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)], text).into_response(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Proves that this is the node of this home, to a client that has not shown its token yet.
async fn health(State(gate): State<Arc<Gate>>, Query(question): Query<Health>) -> Response {
    Json(serde_json::json!({ "ok": true, "proof": gate.proof(&question.nonce) })).into_response()
}

#[derive(Deserialize)]
struct Health {
    #[serde(default)]
    nonce: String,
}
