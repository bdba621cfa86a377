//! The tasks that run sessions over streams: one control task a connected partner, one task a feed on each side.
//!
//! Knows sockets (through `net`), the feeds thread (through its handle) and the sessions; decides nothing about rights,
//! which is `policy::clear`'s, nor about truth, which is `feeds::accept`'s.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use lotline_policy::Rule;
use lotline_schema::note::Checkpoint;

use crate::capture::Capture;
use crate::exchange::message::{Listing, VERSION};
use crate::exchange::{Code, FIRST_FRAME, FRAME_BYTES_MAX, Message, MessageError, SILENCE, WRITE_DEADLINE};
use crate::feeds::deletion::{REPORTS_MAX, ReportError, untold};
use crate::feeds::ledger::refill_due;
use crate::feeds::terms::TermsError;
use crate::feeds::witness::{self, ReceiptError};
use crate::feeds::{Feed, FeedError, Feeds, LETTER_BYTES_MAX, Letter, LetterError, Offer, Partner, Snapshot};
use crate::net::{Address, Event, Net, OpenError, PeerId, Protocol, Stream};
use crate::pairing::Pairings;
use crate::service::{AUDIT, Handle, LinkBoard, Path};

mod controls;
mod follow;
mod serve;
#[cfg(test)]
mod tests;

use controls::{Controls, Opener};

pub(crate) use serve::clear_row;
pub use serve::serve;

/// Frames read ahead of the session that takes them: enough to overlap reading with verifying.
const FRAMES_AHEAD: usize = 4;
/// How long a feed waits for the other side's org feed, which comes on a stream of its own.
const ORG_WAIT: Duration = Duration::from_secs(20);
/// How often an idle control stream says something.
const PING_EVERY: Duration = Duration::from_secs(15);
/// How often a partner may change what it asks for or accepts.
const TERMS_EVERY: Duration = Duration::from_secs(1);
/// How often the clock is looked at when nothing else asks for it.
const CLOCK_EVERY: Duration = Duration::from_secs(10);
/// How long after a failed stream the next is tried.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// What an owner is told of a feed that we write in its name.
const OWN_TERM: &str = "your own feed, which we write under your delegation; hides nothing";
/// Under how many of its names a partner is dialled: the newest, and the one before, which it may go on under for a while.
const NAMES_DIALLED: usize = 2;
/// Malformed streams a partner may send before its connection is closed.
const STRIKES_MAX: u32 = 3;

/// What every task here needs.
#[derive(Clone)]
pub struct Context {
    /// The network.
    pub net: Net,
    /// The feeds thread.
    pub handle: Handle,
    /// How the links stand.
    pub board: LinkBoard,
    /// Who is expected to pair; none: nobody ever is.
    pub pairings: Option<Pairings>,
    /// Where to write what the transport is handed, when the owner wants that.
    pub capture: Option<Capture>,
}

/// Runs until the network stops.
pub async fn run(context: Context, mut events: mpsc::Receiver<Event>) {
    let controls = Controls::new(context.net.peer());
    let mut links = Links {
        context: context.clone(),
        controls,
        connected: HashSet::new(),
        dialled: HashSet::new(),
        tasks: JoinSet::new(),
        strikes: HashMap::new(),
        moved: watch::Sender::default(),
    };
    let mut snapshots = context.handle.watch();
    let mut known = BTreeMap::new();
    links.take_book(&mut known).await;
    let clock = tokio::spawn(watch_clock(context.handle.clone()));
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => links.apply(event).await,
                None => break,
            },
            changed = snapshots.changed() => match changed {
                Ok(()) => links.take_book(&mut known).await,
                Err(_) => break,
            },
            Some(ended) = links.tasks.join_next() => links.ended(ended).await,
        }
    }
    clock.abort();
    links.tasks.shutdown().await;
}

/// Looks at the clock now and then, and when a share ends: that is written down at once.
async fn watch_clock(handle: Handle) {
    loop {
        let (now, snapshot) = (handle.now() as i64, handle.snapshot());
        let ends = snapshot.policy.shares().iter().flat_map(Rule::ends);
        let next = ends.filter(|end| now < *end).map(|end| Duration::from_secs(end.abs_diff(now))).min();
        drop(snapshot);
        tokio::time::sleep(next.map_or(CLOCK_EVERY, |next| next.min(CLOCK_EVERY))).await;
        match handle.with(Feeds::look_at_clock).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::warn!(%why, "could not write down what the clock shows"),
            Err(_) => return,
        }
    }
}

/// What a partner's clock shows may confirm what ours does.
async fn hear_time(context: &Context, peer: PeerId, shown: u64) -> Result<(), LinkError> {
    let snapshot = context.handle.snapshot();
    if let Some(partner) = snapshot.partner_at(&peer.to_string()) {
        context.handle.clock().heard(&partner.name, shown);
    }
    if snapshot.jumped.is_some() {
        let looked = context.handle.with(Feeds::look_at_clock).await?;
        looked.map_err(|why| LinkError::Ours(why.to_string()))?;
    }
    Ok(())
}

struct Links {
    context: Context,
    controls: Controls<AbortHandle>,
    connected: HashSet<PeerId>,
    /// Connected partners that we dialled: the control stream with them is ours to open.
    dialled: HashSet<PeerId>,
    tasks: JoinSet<Ended>,
    strikes: HashMap<PeerId, u32>,
    /// Marked when this computer may be somewhere else.
    moved: watch::Sender<()>,
}

/// How a task ended.
struct Ended {
    peer: PeerId,
    /// The number of a control stream.
    control: Option<u64>,
    result: Result<(), LinkError>,
}

/// A stream that ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The partner's: it does not speak the protocol.
    #[error("{0}")]
    Malformed(#[from] MessageError),
    /// The partner's: it speaks another version.
    #[error("the partner speaks version {0} of the protocol")]
    Version(u64),
    /// The partner's: a message that does not belong here.
    #[error("a message that does not belong here")]
    Unexpected,
    /// The partner's: an acknowledgement without a delivery receipt, or one that does not hold.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The partner's: an acceptance of terms that does not hold.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// The partner's: too slow.
    #[error("silent for too long")]
    Silent,
    /// The network's.
    #[error("the connection ended: {0}")]
    Io(#[from] std::io::Error),
    /// The network's.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// Ours: the rules changed while it was being sent.
    #[error("the sharing rules changed")]
    RulesChanged,
    /// Ours: the node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// Ours.
    #[error("{0}")]
    Ours(String),
}

impl From<crate::service::ServiceError> for LinkError {
    fn from(_: crate::service::ServiceError) -> LinkError {
        LinkError::Stopping
    }
}

impl Links {
    /// Tells the network who may connect, when the partner book changed.
    async fn take_book(&mut self, known: &mut BTreeMap<String, Partner>) {
        let book = self.context.handle.snapshot().book.clone();
        if *book != *known {
            // One that has a new transport key may still come under the old one.
            let at = |partner: &Partner| {
                let addresses: Vec<_> = partner.addresses.iter().filter_map(|address| address.parse::<Address>().ok()).collect();
                let at = |(at, peer): (usize, &str)| {
                    let addresses = if at < NAMES_DIALLED { addresses.clone() } else { Vec::new() };
                    Some(crate::net::Partner { peer: peer.parse().ok()?, addresses })
                };
                partner.peers().enumerate().filter_map(at).collect::<Vec<_>>()
            };
            self.context.net.set_partners(book.values().flat_map(at).collect()).await;
            *known = BTreeMap::clone(&book);
        }
        // An old invitation that was accepted once more gives back no name to who is here under a newer one. Looked at also when
        // the book is the one we know: it may have changed and changed back since.
        if book.values().any(|partner| !partner.before.is_empty()) {
            for peer in self.connected.clone() {
                self.seen_at(peer).await;
            }
        }
    }

    async fn apply(&mut self, event: Event) {
        match event {
            Event::Listening(address) => {
                if address.relay().is_some() {
                    tracing::info!(target: AUDIT, event = "relay kept", at = %address);
                }
                self.listening().await;
            }
            Event::NotListening { address, why } => {
                tracing::info!(target: AUDIT, event = "relay lost", at = %address, why);
                self.listening().await;
            }
            Event::Connected { peer, dialed_by_us, remote } => {
                let since = self.context.handle.now();
                self.with_name(peer, |link| {
                    link.connected = true;
                    link.trouble = None;
                    link.dials_failed = 0;
                    link.connections += 1;
                    link.path = Some(Path { remote: remote.clone(), dialled_by_us: dialed_by_us, since });
                });
                self.note(peer, "connected", &remote);
                tracing::info!(%peer, dialed_by_us, "connected");
                self.connected.insert(peer);
                self.seen_at(peer).await;
                if dialed_by_us {
                    self.dialled(peer);
                }
            }
            Event::Dialed { peer } => self.dialled(peer),
            Event::Path { peer, dialed_by_us, remote } => {
                let since = self.context.handle.now();
                self.with_name(peer, |link| link.path = Some(Path { remote, dialled_by_us: dialed_by_us, since }));
            }
            Event::Disconnected { peer } => {
                tracing::info!(%peer, "disconnected");
                self.note(peer, "disconnected", "");
                self.with_name(peer, |link| {
                    link.connected = false;
                    link.path = None;
                    link.credit.clear();
                });
                self.redial_others(peer).await;
                self.connected.remove(&peer);
                self.dialled.remove(&peer);
                if let Some(control) = self.controls.forget(peer) {
                    control.abort();
                }
            }
            Event::Stream { peer, protocol: Protocol::Control, stream } => self.control(peer, Opener::Them, async move { Ok(stream) }),
            Event::Stream { peer, protocol: Protocol::Feed, stream } => {
                let Some(partner) = self.context.handle.snapshot().partner_at(&peer.to_string()).cloned() else {
                    return;
                };
                let context = self.context.clone();
                self.tasks.spawn(async move { Ended { peer, control: None, result: serve::serve(context, partner, stream).await } });
            }
            Event::DialFailed { peer, why } => self.with_name(peer, |link| {
                link.dials_failed += 1;
                // Under another name it may be connected all the same.
                if !link.connected {
                    link.trouble = Some(format!("cannot connect: {why}"));
                }
            }),
            Event::Moved => self.moved.send_replace(()),
            Event::Guest { stream } => {
                if let Some(pairings) = &self.context.pairings {
                    pairings.guest(stream);
                }
            }
            // Offered to guests alone.
            Event::Stream { protocol: Protocol::Pair, .. } => {}
            Event::Refused { peer } => {
                self.note(peer, "refused", "");
                tracing::info!(%peer, "turned an unknown peer away");
            }
        }
    }

    async fn listening(&self) {
        let addresses = self.context.net.listen_addresses().await;
        self.context.board.set_listening(addresses.iter().map(ToString::to_string).collect());
    }

    /// A partner that came under a newer name comes under no older one again.
    async fn seen_at(&self, peer: PeerId) {
        let text = peer.to_string();
        let Some(partner) = self.context.handle.snapshot().partner_at(&text).filter(|partner| !partner.before.is_empty()).cloned() else {
            return;
        };
        let seen = self.context.handle.with(move |feeds| feeds.partner_is_at(&partner.name, &text)).await;
        if let Ok(Err(why)) = seen {
            tracing::warn!(%peer, %why, "could not write down under which name a partner came");
        }
    }

    /// A partner that is gone under one name may be on its way back under another.
    async fn redial_others(&self, peer: PeerId) {
        let text = peer.to_string();
        let known = self.context.handle.snapshot().partner_at(&text).cloned();
        for other in known.iter().flat_map(Partner::peers).filter(|other| *other != text).filter_map(|other| other.parse().ok()) {
            self.context.net.redial(other).await;
        }
    }

    /// A line for the audit log.
    fn note(&self, peer: PeerId, event: &str, at: &str) {
        let snapshot = self.context.handle.snapshot();
        let partner = snapshot.partner_at(&peer.to_string()).map_or("", |partner| &partner.name);
        tracing::info!(target: AUDIT, event, partner, %peer, at);
    }

    fn with_name(&self, peer: PeerId, change: impl FnOnce(&mut crate::service::PartnerLink)) {
        if let Some(partner) = self.context.handle.snapshot().partner_at(&peer.to_string()) {
            self.context.board.update(&partner.name, change);
        }
    }

    /// A connection that we dialled: the control stream is ours to open, unless the partner was faster.
    fn dialled(&mut self, peer: PeerId) {
        self.dialled.insert(peer);
        self.open_control(peer, Duration::ZERO);
    }

    fn open_control(&mut self, peer: PeerId, after: Duration) {
        let context = self.context.clone();
        self.control(peer, Opener::Us, async move {
            tokio::time::sleep(after).await;
            context.net.open(peer, Protocol::Control).await.map_err(LinkError::from)
        });
    }

    /// One control task a partner; [`Controls`] says which. A stream that does not count is dropped, which resets it.
    fn control(&mut self, peer: PeerId, opener: Opener, stream: impl Future<Output = Result<Stream, LinkError>> + Send + 'static) {
        if !self.controls.counts(peer, opener, Instant::now()) {
            return;
        }
        let (context, number, moved) = (self.context.clone(), self.controls.number(), self.moved.subscribe());
        let task = self.tasks.spawn(async move {
            let result = match stream.await {
                Ok(stream) => control(context, peer, stream, moved).await,
                Err(error) => Err(error),
            };
            Ended { peer, control: Some(number), result }
        });
        if let Some(older) = self.controls.put(peer, number, opener, task, Instant::now()) {
            older.abort();
        }
    }

    async fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let Ok(Ended { peer, control, result }) = ended else {
            return;
        };
        let left = control.is_some_and(|number| self.controls.ended(peer, number));
        // The connection may live on without it: whoever dialled tries again, until the network says that it is gone.
        if left && self.dialled.contains(&peer) && self.context.handle.snapshot().partner_at(&peer.to_string()).is_some() {
            self.open_control(peer, RETRY_AFTER);
        }
        let Err(error) = result else {
            return;
        };
        tracing::info!(%peer, %error, "stream ended");
        if let LinkError::Open(why @ (OpenError::Unsupported(_) | OpenError::Newer(_))) = &error {
            self.with_name(peer, |link| link.trouble = Some(why.to_string()));
        }
        let hostile = matches!(
            error,
            LinkError::Malformed(_)
                | LinkError::Unexpected
                | LinkError::Receipt(_)
                | LinkError::Terms(_)
                | LinkError::Version(_)
                | LinkError::Silent
        );
        if hostile {
            self.with_name(peer, |link| link.trouble = Some(error.to_string()));
            let strikes = self.strikes.entry(peer).or_default();
            *strikes += 1;
            if *strikes >= STRIKES_MAX {
                *strikes = 0;
                self.context.net.disconnect(peer).await;
            }
        }
    }
}

/// The control stream: hello both ways, our catalog whenever it changes, theirs as it comes.
async fn control(context: Context, peer: PeerId, stream: Stream, mut moved: watch::Receiver<()>) -> Result<(), LinkError> {
    let (mut frames, mut writer) = split(stream);
    let mut snapshots = context.handle.watch();
    let name = context.handle.snapshot().name.clone();
    write(&mut writer, &Message::Hello { version: VERSION, name, now: context.handle.now() }).await?;
    match tokio::time::timeout(FIRST_FRAME, frames.next()).await.map_err(|_| LinkError::Silent)?? {
        Some((Message::Hello { version: VERSION, now, .. }, _)) => hear_time(&context, peer, now).await?,
        Some((Message::Hello { version, .. }, _)) => return Err(LinkError::Version(version)),
        Some(_) => return Err(LinkError::Unexpected),
        // It crossed with one of the partner's, which counts.
        None => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
    }
    let mut told: Option<Vec<(String, String)>> = None;
    let (mut asked, mut agreed, mut reports) = (false, Agreed::default(), Reports::default());
    let mut written: Vec<Letter> = Vec::new();
    let mut following = follow::Following::new(context.clone(), peer);
    let mut ping = tokio::time::interval(PING_EVERY);
    let mut heard = tokio::time::Instant::now();
    loop {
        let Some(partner) = snapshots.borrow_and_update().partner_at(&peer.to_string()).cloned() else {
            return Ok(());
        };
        let catalog = catalog(&context.handle, &partner);
        let terms: Vec<_> = catalog.iter().map(|listing| (listing.origin.clone(), listing.term.clone())).collect();
        if told.as_ref() != Some(&terms) {
            write(&mut writer, &Message::Catalog(catalog)).await?;
            told = Some(terms);
        }
        following.set_wanted(&partner);
        for message in agreed.next(&context, &partner).await? {
            write(&mut writer, &message).await?;
        }
        for report in reports.next(&context, &partner).await? {
            write(&mut writer, &report).await?;
        }
        // After a restore: what the ledger lost stands in the receipts that partners gave.
        if !asked && context.handle.snapshot().restored.is_none() {
            asked = true;
            if let Some(ask) = ask_for_lost(&context, &partner, None).await? {
                write(&mut writer, &ask).await?;
            }
        }
        // While nothing is sent, nothing counts as sent.
        if context.handle.snapshot().restored.is_none() {
            let post = context.handle.snapshot().letters.to(&partner.party);
            for letter in post.iter().filter(|letter| !written.contains(*letter)) {
                if let Some(message) = posted(&context, letter).await? {
                    write(&mut writer, &message).await?;
                }
            }
            written = post;
        }
        tokio::select! {
            changed = snapshots.changed() => changed.map_err(|_| LinkError::Stopping)?,
            _ = ping.tick() => write(&mut writer, &Message::Ping).await?,
            // It is asked at once whether the partner is still there.
            Ok(()) = moved.changed() => ping.reset_immediately(),
            () = following.ended() => {}
            () = tokio::time::sleep_until(heard + SILENCE) => return Err(LinkError::Silent),
            () = agreed.due() => {}
            frame = frames.next() => {
                heard = tokio::time::Instant::now();
                match frame? {
                    Some((Message::Catalog(listings), _)) => following.take_catalog(listings, &partner),
                    Some((Message::Ping, _)) => write(&mut writer, &Message::Pong).await?,
                    Some((Message::Pong, _)) => {}
                    Some((Message::Terms(offers), _)) => agreed.offered = Some(offers),
                    Some((Message::Accept(core), _)) => agreed.accepted = Some(core),
                    Some((Message::Deleted(core), _)) => {
                        if let Some(noted) = reports.take(&context, &partner, core).await? {
                            write(&mut writer, &noted).await?;
                        }
                    }
                    Some((Message::Noted(number), _)) => reports.noted(&context, &partner, number).await?,
                    Some((Message::Lost { since, after }, _)) => {
                        if let Some(given) = given_again(&context, &partner, since, after).await? {
                            write(&mut writer, &given).await?;
                        }
                    }
                    Some((Message::Given { receipts, next }, _)) if asked => {
                        if let Some(ask) = take_given(&context, &partner, receipts, next).await? {
                            write(&mut writer, &ask).await?;
                        }
                    }
                    Some((Message::Letter(file), _)) => take_letter(&context, &partner, file).await?,
                    Some(_) => return Err(LinkError::Unexpected),
                    None => return Ok(()),
                }
            }
        }
    }
}

/// A letter to send; none when it is too long for the network.
async fn posted(context: &Context, letter: &Letter) -> Result<Option<Message>, LinkError> {
    let (reader, letter) = (context.handle.reader().clone(), letter.clone());
    let file = blocking(move || {
        reader.settle()?;
        letter.file(&reader)
    });
    let file = file.await?.map_err(|why: FeedError| LinkError::Ours(why.to_string()))?;
    Ok((file.len() <= LETTER_BYTES_MAX).then_some(Message::Letter(file)))
}

/// Keeps a partner's letter, if it counts. One that came before, or came late, is no fault of its.
async fn take_letter(context: &Context, partner: &Partner, file: Vec<u8>) -> Result<(), LinkError> {
    let (snapshot, party) = (context.handle.snapshot(), partner.party);
    if snapshot.restored.is_some() {
        return Ok(());
    }
    let opened = blocking(move || snapshot.open_letter(&file)).await?;
    let (file, stated) = match opened {
        Ok((file, opened, by)) if by.party == party => (file, opened.stated),
        Ok(_) | Err(LetterError::Unreadable(_) | LetterError::Altered(_) | LetterError::Elsewhere) => return Err(LinkError::Unexpected),
        Err(why) => {
            tracing::warn!(partner = partner.name, %why, "a letter does not count");
            return Ok(());
        }
    };
    let kept = context.handle.with(move |feeds| feeds.take_letter(party, &stated, &file));
    match kept.await? {
        Ok(()) => tracing::info!(partner = partner.name, "a letter about requirements is here"),
        Err(FeedError::Letter(why)) => tracing::info!(partner = partner.name, %why, "a letter does not count"),
        Err(why) => return Err(LinkError::Ours(why.to_string())),
    }
    Ok(())
}

/// What both sides of a control stream said of terms.
#[derive(Default)]
struct Agreed {
    /// What we told the partner that we ask for.
    told: Option<Vec<Offer>>,
    /// What we told it that we accepted.
    given: Option<Vec<u8>>,
    /// What the partner asks for, and what it accepted, as they came and wait to be taken in.
    offered: Option<Vec<Offer>>,
    accepted: Option<Vec<u8>>,
    /// How much of its org feed was here when the acceptance was looked at last.
    org_size: u64,
    /// When something was taken in last.
    taken: Option<tokio::time::Instant>,
}

impl Agreed {
    /// Takes in what came, and says what the partner has to hear.
    async fn next(&mut self, context: &Context, partner: &Partner) -> Result<Vec<Message>, LinkError> {
        self.take(context, partner).await?;
        let (snapshot, party, mut messages) = (context.handle.snapshot(), partner.party, Vec::new());
        if snapshot.restored.is_some() {
            return Ok(messages);
        }
        // What we accept, and what we take back of it, needs no moment.
        let newest = snapshot.accepting.get(&party).map(|kept| &kept.core);
        if newest.is_some() && newest != self.given.as_ref() {
            let at = context.handle.clock().now();
            let core = context.handle.with(move |feeds| feeds.acceptance(&party, at)).await?;
            self.given = core.map_err(|why| LinkError::Ours(why.to_string()))?;
            messages.extend(self.given.clone().map(Message::Accept));
        }
        if let Ok(moment) = context.handle.clock().moment() {
            let asks = snapshot.asks(&partner.name, moment);
            if self.told.as_ref() != Some(&asks) {
                messages.insert(0, Message::Terms(asks.clone()));
                self.told = Some(asks);
            }
        }
        Ok(messages)
    }

    async fn take(&mut self, context: &Context, partner: &Partner) -> Result<(), LinkError> {
        // Each is a commit: a partner that says something else all the time is heard once a second.
        if self.taken.is_some_and(|at| at.elapsed() < TERMS_EVERY) || self.offered.is_none() && self.accepted.is_none() {
            return Ok(());
        }
        let (snapshot, party) = (context.handle.snapshot(), partner.party);
        if snapshot.restored.is_some() {
            return Ok(());
        }
        if let Some(offers) = self.offered.take() {
            self.taken = Some(tokio::time::Instant::now());
            let taken = context.handle.with(move |feeds| feeds.take_offers(party, offers)).await?;
            taken.map_err(|why| LinkError::Ours(why.to_string()))?;
        }
        // It is verified with the partner's keys, which come on a stream of their own.
        let org_size = snapshot.orgs.get(&party).map_or(0, |org| org.size());
        if let Some(core) = self.accepted.clone().filter(|_| org_size > self.org_size) {
            self.taken = Some(tokio::time::Instant::now());
            match context.handle.with(move |feeds| feeds.take_acceptance(&party, core)).await? {
                Ok(news) => {
                    (self.accepted, self.org_size) = (None, 0);
                    tracing::info!(partner = partner.name, news, "an acceptance of terms");
                }
                Err(TermsError::OrgBehind) => self.org_size = org_size,
                Err(TermsError::Ours(why)) => return Err(LinkError::Ours(why.to_string())),
                Err(why) => return Err(why.into()),
            }
        }
        Ok(())
    }

    /// Sleeps until what waits may be taken in; for ever, when nothing waits for its time.
    async fn due(&self) {
        match self.taken.filter(|_| self.offered.is_some() || self.accepted.is_some() && self.org_size == 0) {
            Some(at) => tokio::time::sleep_until(at + TERMS_EVERY).await,
            None => std::future::pending().await,
        }
    }
}

/// Deletion reports on one control stream.
#[derive(Default)]
struct Reports {
    /// The number of the last one said.
    said: Option<u64>,
    /// Those said, and not answered yet.
    waiting: BTreeSet<u64>,
    /// How many were heard that we did not answer.
    unanswered: usize,
    /// How often something had been forgotten when there was nothing more to say: only a forgetting makes a report.
    level: Option<u64>,
}

impl Reports {
    /// What is to be said and was not yet.
    async fn next(&mut self, context: &Context, partner: &Partner) -> Result<Vec<Message>, LinkError> {
        let (room, snapshot) = (REPORTS_MAX.saturating_sub(self.waiting.len()), context.handle.snapshot());
        if snapshot.restored.is_some() || room == 0 || self.level == Some(snapshot.forgettings) {
            return Ok(Vec::new());
        }
        let (reader, party, after) = (context.handle.reader().clone(), partner.party, self.said);
        // An index that is being made again answers later: then this is asked at least with every ping.
        let Ok(reports) = blocking(move || untold(&reader, &party, after, room)).await? else {
            return Ok(Vec::new());
        };
        self.level = (reports.len() < room).then_some(snapshot.forgettings);
        self.said = reports.last().map(|(number, _)| *number).or(self.said);
        self.waiting.extend(reports.iter().map(|(number, _)| *number));
        Ok(reports.into_iter().map(|(_, core)| Message::Deleted(core)).collect())
    }

    /// Keeps a partner's report; the answer to it.
    async fn take(&mut self, context: &Context, partner: &Partner, core: Vec<u8>) -> Result<Option<Message>, LinkError> {
        if context.handle.snapshot().restored.is_some() || self.unanswered >= REPORTS_MAX {
            return Ok(None);
        }
        let party = partner.party;
        match context.handle.with(move |feeds| feeds.take_report(&party, core)).await? {
            Ok(number) => Ok(Some(Message::Noted(number))),
            Err(ReportError::Ours(why)) => Err(LinkError::Ours(why.to_string())),
            // It comes again with the next connection; by then its keys, or our own ledger, may be here.
            Err(why) => {
                self.unanswered += 1;
                tracing::warn!(partner = partner.name, %why, "a deletion report was not kept");
                Ok(None)
            }
        }
    }

    /// The partner has it.
    async fn noted(&mut self, context: &Context, partner: &Partner, number: u64) -> Result<(), LinkError> {
        if !self.waiting.remove(&number) {
            return Ok(());
        }
        let party = partner.party;
        let noted = context.handle.with(move |feeds| feeds.noted(&party, number)).await?;
        noted.map_err(|why| LinkError::Ours(why.to_string()))
    }
}

/// What to ask a partner for whose receipts tell of rows that a restored ledger lost; none when nothing is due.
async fn ask_for_lost(context: &Context, partner: &Partner, after: Option<Vec<u8>>) -> Result<Option<Message>, LinkError> {
    let (reader, name) = (context.handle.reader().clone(), partner.name.clone());
    let due = blocking(move || {
        reader.settle()?;
        refill_due(&reader, &name)
    });
    let due = due.await?.map_err(|why: FeedError| LinkError::Ours(why.to_string()))?;
    Ok(due.map(|due| Message::Lost { since: due.since, after }))
}

/// A page of the receipts we gave a partner that was restored. While we wait for our own owner we say nothing.
async fn given_again(context: &Context, partner: &Partner, since: u64, after: Option<Vec<u8>>) -> Result<Option<Message>, LinkError> {
    if context.handle.snapshot().restored.is_some() {
        return Ok(None);
    }
    let (reader, party) = (context.handle.reader().clone(), partner.party);
    let page = blocking(move || {
        reader.settle()?;
        witness::given_to(&reader, &party, since, after.as_deref())
    });
    let (receipts, next) = page.await?.map_err(|why: FeedError| LinkError::Ours(why.to_string()))?;
    Ok(Some(Message::Given { receipts, next }))
}

/// Enters what a partner signed for into the ledger, and says how to go on.
async fn take_given(
    context: &Context,
    partner: &Partner,
    receipts: Vec<Vec<u8>>,
    next: Option<Vec<u8>>,
) -> Result<Option<Message>, LinkError> {
    // They are verified with its keys, which come on a stream of their own; a page that came too early is asked for again
    // with the next connection.
    let (party, mut snapshots) = (partner.party, context.handle.watch());
    let here = snapshots.wait_for(|shown| shown.orgs.get(&party).is_some_and(|org| org.size() > 0));
    if tokio::time::timeout(ORG_WAIT, here).await.is_err() {
        return Ok(None);
    }
    let (whom, last) = (partner.clone(), next.is_none());
    let filled = context.handle.with(move |feeds| feeds.refill(&whom, &receipts, last, feeds.clock().now())).await?;
    let filled = filled.map_err(|why| LinkError::Ours(why.to_string()))?;
    if filled > 0 {
        tracing::info!(partner = partner.name, filled, "rows of the ledger refilled from receipts");
    }
    match next {
        Some(after) => ask_for_lost(context, partner, Some(after)).await,
        None => Ok(None),
    }
}

/// The feeds this partner may follow now; our org feed first, since they are verified with it.
fn catalog(handle: &Handle, partner: &Partner) -> Vec<Listing> {
    let snapshot = &handle.snapshot();
    let (None, Ok(now)) = (&snapshot.restored, handle.clock().moment()) else {
        return Vec::new();
    };
    let viewer = snapshot.viewer(&partner.name);
    let names = snapshot.policy.feeds_for(&viewer, &snapshot.own_feed_names(), now);
    let mut listings = Vec::new();
    for name in &names {
        // Every life of the feed: the partner may not have the end of the one before.
        let lives = snapshot.feeds.values().filter(|feed| feed.ours && feed.origin.name() == name);
        for feed in lives.filter_map(Feed::as_served) {
            let term = lotline_policy::term(&snapshot.policy, &viewer, name, now);
            listings.push(Listing { origin: feed.origin.to_string(), size: feed.size(), term });
        }
    }
    let for_its_rules = !listings.is_empty();
    // What we write in its name is its own, and goes to nobody else.
    for feed in snapshot.feeds.values().filter(|feed| feed.written && !feed.ours && feed.origin.party() == partner.party) {
        listings.push(Listing { origin: feed.origin.to_string(), size: feed.size(), term: OWN_TERM.into() });
    }
    if for_its_rules || snapshot.owes_keys(partner) {
        let origin = lotline_schema::Origin::org(snapshot.party).to_string();
        let size = snapshot.orgs[&snapshot.party].size();
        listings.insert(0, Listing { origin, size, term: "keys and feeds of the organisation; hides nothing".into() });
    }
    listings.extend(held_for(snapshot, partner).into_iter().map(|feed| {
        let term = "your own keys and feeds, as we hold them: for a node of yours that was restored";
        Listing { origin: feed.origin.to_string(), size: feed.size(), term: term.into() }
    }));
    listings
}

/// What we hold of a partner's own org feed, whole up to a checkpoint of its. A restored node takes it from its
/// partners, so that it does not state something else where they have seen an entry already.
fn held_for<'a>(snapshot: &'a Snapshot, partner: &Partner) -> Option<&'a Feed> {
    let feed = snapshot.feeds.get(lotline_schema::Origin::org(partner.party).as_str())?;
    let whole = Checkpoint::read(&feed.head.checkpoint).is_ok_and(|checkpoint| checkpoint.size == feed.size());
    (whole && feed.size() > 0 && feed.frozen.is_none()).then_some(feed)
}

/// Frames of a stream, read by a task of their own.
pub(crate) struct Frames {
    incoming: mpsc::Receiver<Result<(Message, u64), LinkError>>,
    reader: AbortHandle,
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Frames {
    /// The next message and the size of its frame; none when the partner closed the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<(Message, u64)>, LinkError> {
        self.incoming.recv().await.transpose()
    }
}

/// Splits a stream: both directions are polled apart, so that neither waits for the other.
pub(crate) fn split<S: AsyncRead + AsyncWrite + Send + 'static>(stream: S) -> (Frames, WriteHalf<S>) {
    let (reader, writer) = tokio::io::split(stream);
    let (outgoing, incoming) = mpsc::channel(FRAMES_AHEAD);
    let task = tokio::spawn(async move {
        let mut reader = reader;
        loop {
            match read(&mut reader).await {
                Ok(Some(frame)) => {
                    if outgoing.send(Ok(frame)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    let _ = outgoing.send(Err(error)).await;
                    return;
                }
            }
        }
    });
    (Frames { incoming, reader: task.abort_handle() }, writer)
}

/// Reads a frame. Its length is checked before anything is allocated, and memory grows with what has come.
async fn read(reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<(Message, u64)>, LinkError> {
    loop {
        let mut length = [0u8; 4];
        match reader.read_exact(&mut length).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let length = u32::from_be_bytes(length) as usize;
        if length == 0 || length > FRAME_BYTES_MAX {
            return Err(MessageError::Length(length).into());
        }
        let mut frame = Vec::with_capacity(length.min(64 * 1024));
        while frame.len() < length {
            let rest = (length - frame.len()) as u64;
            if (&mut *reader).take(rest).read_buf(&mut frame).await? == 0 {
                return Ok(None);
            }
        }
        if let Some(message) = Message::read(&frame)? {
            return Ok(Some((message, length as u64)));
        }
    }
}

/// Writes a message within the deadline.
pub(crate) async fn write(writer: &mut (impl AsyncWrite + Unpin + Send), message: &Message) -> Result<(), LinkError> {
    let frame = message.to_frame();
    tokio::time::timeout(WRITE_DEADLINE, async {
        writer.write_all(&frame).await?;
        writer.flush().await
    })
    .await
    .map_err(|_| LinkError::Silent)??;
    Ok(())
}

/// Says why and ends the stream properly.
pub(crate) async fn end(writer: &mut (impl AsyncWrite + Unpin + Send), code: Code) -> Result<(), LinkError> {
    write(writer, &Message::Error(code)).await?;
    let _ = tokio::time::timeout(Duration::from_secs(1), writer.shutdown()).await;
    Ok(())
}

/// Work that blocks (disk, signatures), off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LinkError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| LinkError::Ours(error.to_string()))
}

/// For reading a snapshot in a task.
pub(crate) type Shown = Arc<Snapshot>;
