//! `lotline run`: the node. Exchange with partners, the local API and the page, until it is told to stop.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use serde_json::json;

use super::partner;
use crate::answer::{Answer, Failure, exit};
use crate::api;
use crate::capture::Capture;
use crate::config::{Config, Home};
use crate::desk;
use crate::feeds::Feeds;
use crate::links;
use crate::net::{self, Address, Net};
use crate::pairing::Pairings;
use crate::platform;
use crate::relaying;
use crate::service::{AUDIT, Handle, LinkBoard, Service, ServiceError, now};

/// How often a node that may deletes what it promised to: promises are of days, and the index is made anew each time.
const PROMISES_EVERY: std::time::Duration = std::time::Duration::from_secs(86_400);
/// When it tries again if it could not.
const PROMISES_AGAIN: std::time::Duration = std::time::Duration::from_secs(3_600);

/// Flags of `run`.
#[derive(clap::Args)]
#[command(
    after_help = "Example: lotline run\n         lotline run --listen 0.0.0.0:4001\n         lotline run --relay --listen 0.0.0.0:4001"
)]
pub struct Args {
    /// Listen on this address too.
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Be a relay for partners, and for those in relay-users.txt, who cannot reach each other. It sees none of what they exchange.
    #[arg(long)]
    relay: bool,
    /// Show what happens (set LOTLINE_LOG for more, as LOTLINE_LOG=debug).
    #[arg(long, short)]
    verbose: bool,
    /// Write every frame with entries that is handed to the transport into this file, to compare it with the ledger later
    /// (`lotline audit --ledger --captured FILE`). It holds what partners are shown, in the clear.
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,
    /// Write a line of JSON for each event into this file: who came and went, what left, what was received, what commands
    /// changed. No content. docs/operating.md lists the events.
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// End when standard input ends: for programs that start nodes.
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// Runs the node.
pub fn run(home: Home, args: Args) -> Result<Answer, Failure> {
    start_log(args.verbose, args.audit_log.as_deref())?;
    let config = home.config()?;
    let service = Service::open(home, &desk::show_progress).map_err(|error| match error {
        ServiceError::Feed(crate::feeds::FeedError::Store(crate::store::StoreError::Locked)) => {
            Failure::new("another lotline is using this home")
                .exit(exit::BUSY)
                .hint("only one node runs on a home; `lotline status` asks the one that does")
        }
        other => other.into(),
    })?;
    desk::warn_of(&service);
    let listen = config
        .listen
        .iter()
        .chain(&args.listen)
        .map(|address| address.parse::<Address>())
        .collect::<Result<Vec<_>, _>>()
        .map_err(Failure::new)?;
    if config.web.certificate.is_none() && listen.iter().any(|address| address.to_string().ends_with("/tls/ws")) {
        return Err(Failure::new("listening at a wss:// address needs a certificate")
            .hint("give web.certificate and web.key in lotline.toml, or listen at ws:// behind a proxy that has one"));
    }
    if let Some(through) = listen.iter().find(|address| address.relay().is_some()) {
        return Err(Failure::new(format!("nobody can listen on `{}`: it is an address through a relay", through.host_port()))
            .hint("name it under relays in lotline.toml"));
    }
    if args.relay && listen.is_empty() {
        return Err(Failure::new("a relay has to be reached by others, and this node listens nowhere")
            .hint("give --listen 0.0.0.0:4001, and let that port in; docs/relay.md tells more"));
    }
    let snapshot = service.handle.snapshot();
    let dialled = snapshot.book.values().flat_map(|partner| partner.addresses.iter().cloned());
    refuse_examples_off_loopback(service.keys.are_examples(), listen.iter().map(ToString::to_string).chain(dialled))?;
    let capture = args
        .capture
        .as_deref()
        .map(|file| Capture::open(file).map_err(|why| Failure::new(format!("cannot write the capture `{}`: {why}", file.display()))));
    let capture = capture.transpose()?;
    platform::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(&service, Lines { listen, relay: args.relay }, capture, args.until_stdin_ends));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    service.close()?;
    outcome
}

/// Published keys are anybody's: a node that has them talks to this computer only.
pub(super) fn refuse_examples_off_loopback(examples: bool, addresses: impl IntoIterator<Item = String>) -> Result<(), Failure> {
    let local = |address: &String| address.parse::<Address>().is_ok_and(|address| address.is_loopback());
    match addresses.into_iter().find(|address| examples && !local(address)) {
        None => Ok(()),
        Some(address) => Err(Failure::new(format!("this home has published example keys, and `{address}` is not on this computer"))
            .hint("set up a home of your own with `lotline init`; example keys are for trying things on 127.0.0.1")),
    }
}

/// What the command line says of the network.
#[derive(Clone)]
struct Lines {
    listen: Vec<Address>,
    relay: bool,
}

async fn serve(service: &Service, mut lines: Lines, capture: Option<Capture>, until_stdin_ends: bool) -> Result<Answer, Failure> {
    // Rules or the book may have changed since the last partner acknowledged.
    service.handle.with(|feeds| feeds.move_when_known(now())).await??;
    let board = LinkBoard::default();
    let pairings = Pairings::open(service.handle.clone(), &service.home.invitations_file())
        .map_err(|why| Failure::new(why).hint("put the file away to start without it; the invitations in it are then worth nothing"))?;
    let context =
        api::Context { home: service.home.clone(), handle: service.handle.clone(), board: board.clone(), pairings: pairings.clone() };
    let mut network = Network::start(service, lines.clone(), &context, capture.clone()).await?;
    let pairing = [tokio::spawn(pairings.watch()), tokio::spawn(put_into_book(context.clone()))];
    let api = api::start(context.clone()).await?;
    announce(service, &service.home.config()?, lines.relay, &board, &api);
    let stopped = until_stopped(until_stdin_ends);
    tokio::pin!(stopped);
    let keeping = service.home.config()?.retention.auto_delete().then(|| tokio::spawn(keep_promises(service.handle.clone())));
    loop {
        tokio::select! {
            () = &mut stopped => break,
            () = network.renamed(service) => {
                tracing::info!("the new transport key is in use");
                lines.listen = network.stop().await;
                network = Network::start(service, lines.clone(), &context, capture.clone()).await?;
            }
        }
    }
    tracing::info!("stopping");
    tracing::info!(target: AUDIT, event = "stopping");
    keeping.inspect(tokio::task::JoinHandle::abort);
    pairing.iter().for_each(tokio::task::JoinHandle::abort);
    drop(context);
    api.stop().await;
    network.stop().await;
    Ok(Answer::new("", json!({ "stopped": true })))
}

/// Keeps promises to delete, at the start and then once a day.
async fn keep_promises(handle: Handle) {
    loop {
        let Ok(kept) = handle.with(Feeds::keep_promises).await else { return };
        let wait = match kept {
            Ok(Some(records)) => {
                tracing::info!(records, "deleted as promised");
                PROMISES_EVERY
            }
            // The clock has jumped: `status` says so.
            Ok(None) => PROMISES_AGAIN,
            // A backup under way, a full disk: `status` goes on to list it.
            Err(why) => {
                tracing::warn!(%why, "what was promised to be deleted is still here");
                PROMISES_AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Suppliers that were invited by their number and came: nobody is asked.
async fn put_into_book(context: api::Context) {
    loop {
        for number in context.pairings.bound_that_met().await {
            let context = context.clone();
            let done = tokio::task::spawn_blocking(move || partner::confirm_bound(number).perform(&context.desk()?));
            match done.await {
                Ok(Ok(answer)) => {
                    tracing::info!(target: AUDIT, event = "command", verb = "partner confirm", exit = 0);
                    tracing::info!(partner = %answer.json["name"], "an invited supplier is in the partner book");
                }
                // It is offered again.
                Ok(Err(why)) => tracing::warn!(%why, "an invited supplier came and is not in the partner book yet"),
                Err(why) => tracing::error!(%why, "putting an invited supplier into the partner book broke off"),
            }
        }
    }
}

/// How the node takes part in the network, as its home and the command line say.
async fn net_config(service: &Service, home: &Config, lines: Lines) -> Result<net::Config, Failure> {
    let mut seed = service.handle.with(|feeds| feeds.keys().transport_seed()).await?;
    let mut config = net::Config::new(seed, lines.listen);
    zeroize::Zeroize::zeroize(&mut seed);
    config.web = service.home.web(home)?;
    config.relays = relays(home)?;
    if lines.relay {
        config.connections_max = config.connections_max.saturating_add(u32::try_from(home.relay.places).unwrap_or(u32::MAX));
        config.serving = Some(net::Serving {
            reached_at: home.announce.iter().filter_map(|address| address.parse().ok()).collect(),
            users: relaying::users(&service.home.relay_users_file()).map_err(Failure::new)?,
            places_max: home.relay.places,
            lines_max: home.relay.lines,
        });
    }
    let snapshot = service.handle.snapshot();
    let mut partners = snapshot.book.values().flat_map(|partner| &partner.addresses).filter_map(|address| address.parse::<Address>().ok());
    if lines.relay || !config.relays.is_empty() || partners.any(|address| address.relay().is_some()) {
        config.lines_max = home.relay.lines;
    }
    Ok(config)
}

/// The relays at which a place is to be kept.
fn relays(home: &Config) -> Result<Vec<Address>, Failure> {
    let relay = |text: &String| {
        let address: Address = text.parse().map_err(Failure::new)?;
        let named = address.relay().is_some();
        named.then_some(address).ok_or_else(|| {
            Failure::new(format!("`{text}`, under relays in lotline.toml, does not say which relay"))
                .hint("a relay says its address when it starts: relay://ID@host:port")
        })
    };
    home.relays.iter().map(relay).collect()
}

/// The node's part in the network under one transport key.
struct Network {
    net: Net,
    linking: tokio::task::JoinHandle<()>,
    relaying: tokio::task::JoinHandle<()>,
}

impl Network {
    async fn start(service: &Service, lines: Lines, context: &api::Context, capture: Option<Capture>) -> Result<Network, Failure> {
        let home_config = service.home.config()?;
        let (board, pairings) = (&context.board, context.pairings.clone());
        let config = net_config(service, &home_config, lines).await?;
        let list = config.serving.is_some().then(|| service.home.relay_users_file());
        let (net, events) = Net::start(config).await.map_err(|error| match error {
            net::NetError::KeyLog => {
                Failure::new(error).hint("unset SSLKEYLOGFILE: with it, whoever reads that file reads what you exchange")
            }
            other => Failure::new(other),
        })?;
        board.set_listening(net.listen_addresses().await.iter().map(ToString::to_string).collect());
        let listening = board.clone();
        let reached = move || partner::reached_at(&home_config, &listening.listening()).iter().map(ToString::to_string).collect();
        pairings.use_net(net.clone(), std::sync::Arc::new(reached)).await;
        let relaying = tokio::spawn(relaying::watch(net.clone(), board.clone(), list));
        let context =
            links::Context { net: net.clone(), handle: service.handle.clone(), board: board.clone(), pairings: Some(pairings), capture };
        Ok(Network { net, linking: tokio::spawn(links::run(context, events)), relaying })
    }

    /// Waits until the home has another transport key in use than this network.
    async fn renamed(&self, service: &Service) {
        let ours = self.net.peer().to_string();
        if service.handle.watch().wait_for(|shown| shown.peer != ours).await.is_err() {
            std::future::pending().await
        }
    }

    /// Closes everything; says where it was told to listen, with the real ports.
    async fn stop(self) -> Vec<Address> {
        let listened = self.net.listen_hosts().await;
        self.relaying.abort();
        self.net.shutdown().await;
        let _ = self.linking.await;
        listened
    }
}

fn announce(service: &Service, config: &Config, relay: bool, board: &LinkBoard, api: &api::Running) {
    let snapshot = service.handle.snapshot();
    eprintln!("{} is running; stop it with Ctrl-C", snapshot.name);
    for address in board.listening() {
        eprintln!("  partners   {address}");
    }
    if let Some(peer) = snapshot.peer.parse().ok().filter(|_| relay) {
        let reached = partner::reached_at(config, &board.listening());
        for address in reached.iter().filter(|address| address.relay().is_none()) {
            eprintln!("  relay      {}", address.through(peer).host_port());
        }
    }
    // The link opens the page to whoever reads it: it is for the person at this terminal, not for a log.
    if std::io::stderr().is_terminal() {
        eprintln!("  page       {}", api.page_link());
    } else {
        eprintln!("  page       its link is in {}", service.home.run_file().display());
    }
}

/// Ctrl-C, a termination signal, or (when asked for) the end of standard input.
async fn until_stopped(until_stdin_ends: bool) {
    let stdin = async {
        if until_stdin_ends {
            let mut sink = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut tokio::io::stdin(), &mut sink).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
        () = stdin => {}
    }
}

fn start_log(verbose: bool, audit_log: Option<&std::path::Path>) -> Result<(), Failure> {
    use tracing_subscriber::filter::{EnvFilter, FilterFn};
    use tracing_subscriber::prelude::*;
    let default = if verbose { "lotline_node=info,warn" } else { "warn" };
    let filter = EnvFilter::try_from_env("LOTLINE_LOG").unwrap_or_else(|_| default.into());
    let shown =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).with_filter(filter);
    let written = match audit_log {
        Some(path) => {
            let file = platform::append_private(path)
                .map_err(|why| Failure::new(format!("cannot write the audit log `{}`: {why}", path.display())))?;
            let lines = tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_target(false);
            Some(lines.with_writer(std::sync::Mutex::new(file)).with_filter(FilterFn::new(|of| of.target() == AUDIT)))
        }
        None => None,
    };
    // A second start in one process (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(shown).with(written).try_init();
    tracing::info!(target: AUDIT, event = "started", version = env!("CARGO_PKG_VERSION"));
    Ok(())
}
