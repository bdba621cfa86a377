//! Following a partner's feeds: one task a feed, which opens a stream, resumes from the cursor, verifies and stores.

use std::collections::BTreeSet;
use std::time::Duration;

use lotline_schema::delivery::{Receipt, Way};
use lotline_schema::fork::ForkProof;
use lotline_schema::org::Org;
use lotline_schema::{Hash, Origin};
use tokio::io::WriteHalf;
use tokio::task::{JoinHandle, JoinSet};

use super::{Context, Frames, LinkError, ORG_WAIT, RETRY_AFTER, blocking, split, write};
use crate::exchange::message::{Listing, RECEIPTS_MAX};
use crate::exchange::receive::{Cursor, Input, Output, Receiver};
use crate::exchange::{Code, FIRST_FRAME, Message};
use crate::feeds::accept::{self, AcceptError};
use crate::feeds::forks;
use crate::feeds::witness::FRESH_FOR_SECONDS;
use crate::feeds::{Accepted, Backfill, Feed, Partner, Received};
use crate::net::{PeerId, Protocol, Stream};
use crate::service::AUDIT;

/// The most feeds taken from one partner's catalog; each is a stream of at most 64.
const FEEDS_MAX: usize = 32;
/// The most feeds of one partner that are remembered, those of former catalogs among them.
const FEEDS_REMEMBERED_MAX: usize = 4 * FEEDS_MAX;

/// The feeds followed over one connection.
pub(super) struct Following {
    context: Context,
    peer: PeerId,
    offered: Vec<Listing>,
    running: BTreeSet<String>,
    tasks: JoinSet<String>,
}

impl Following {
    pub(super) fn new(context: Context, peer: PeerId) -> Following {
        Following { context, peer, offered: Vec::new(), running: BTreeSet::new(), tasks: JoinSet::new() }
    }

    /// What the partner offers now.
    pub(super) fn take_catalog(&mut self, mut listings: Vec<Listing>, partner: &Partner) {
        listings.truncate(FEEDS_MAX);
        let snapshot = self.context.handle.snapshot();
        let theirs = |of: &&Listing| of.origin.parse::<Origin>().is_ok_and(|origin| snapshot.is_written_by(&origin, &partner.party));
        let offers = listings.iter().filter(theirs).map(|of| (of.origin.clone(), of.size, of.term.clone())).collect();
        self.context.board.update(&partner.name, |link| link.offers = offers);
        self.offered = listings;
        self.set_wanted(partner);
    }

    /// Starts what is offered, wanted and not running.
    pub(super) fn set_wanted(&mut self, partner: &Partner) {
        let snapshot = self.context.handle.snapshot();
        // A restored node takes its own org feed back from whoever holds it, before its owner lets it sign again.
        let lost = |origin: &Origin| snapshot.restored.is_some() && *origin == Origin::org(snapshot.party);
        let mut remembered = snapshot.feeds.values().filter(|feed| feed.origin.party() == partner.party).count();
        for listing in &self.offered {
            // A partner may offer only feeds of its own, but for those that we write ourselves, and feeds of ours that it
            // writes: what others state comes from them.
            let written =
                |origin: &Origin| snapshot.holds_pen(origin) || snapshot.feeds.get(origin.as_str()).is_some_and(|feed| feed.written);
            let theirs = |origin: &Origin| match origin.party() == partner.party {
                true => origin.is_org() || partner.subscribed && !written(origin),
                false => snapshot.is_awaited_from(origin, &partner.party),
            };
            // While it waits for its owner's word it signs nothing, receipts and cosignatures neither.
            let wanted = |origin: &Origin| snapshot.restored.is_none() && theirs(origin) || lost(origin);
            let own = listing.origin.parse::<Origin>().ok().filter(wanted);
            let Some(origin) = own.filter(|_| !self.running.contains(&listing.origin)) else {
                continue;
            };
            // Each catalog may name other feeds: neither tasks nor the store grow with what a partner makes up.
            let known = snapshot.feeds.contains_key(&listing.origin);
            if self.running.len() >= FEEDS_MAX || (!known && remembered >= FEEDS_REMEMBERED_MAX) {
                continue;
            }
            remembered += usize::from(!known);
            self.running.insert(listing.origin.clone());
            let (context, peer, partner) = (self.context.clone(), self.peer, partner.clone());
            self.tasks.spawn(async move {
                let name = origin.to_string();
                follow(context, peer, partner, origin).await;
                // Whether it is still offered, the next catalog says; until it is here, no more than one try a second.
                tokio::time::sleep(RETRY_AFTER).await;
                name
            });
        }
    }

    /// Waits until one ends (for ever, when none runs); it starts again while it is offered.
    pub(super) async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(name)) => {
                self.running.remove(&name);
            }
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }
}

/// Follows one feed until it ends for good: revoked, frozen, refused, or the connection is gone.
async fn follow(context: Context, peer: PeerId, partner: Partner, origin: Origin) {
    let target = origin.clone();
    let followed = context.handle.with(move |feeds| feeds.follow(&target)).await;
    if !matches!(followed, Ok(Ok(()))) {
        return;
    }
    loop {
        match follow_once(&context, peer, &partner, &origin).await {
            Ok(()) | Err(LinkError::Stopping) => return,
            Err(LinkError::Open(crate::net::OpenError::NotConnected | crate::net::OpenError::Stopped)) => return,
            Err(error) => {
                tracing::info!(partner = partner.name, origin = origin.short(), %error, "feed stream ended; trying again");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

async fn follow_once(context: &Context, peer: PeerId, partner: &Partner, origin: &Origin) -> Result<(), LinkError> {
    let name = origin.to_string();
    let feed = feed_of(context, &name)?;
    if let Some(why) = &feed.frozen {
        let trouble = format!("feed {} is frozen: {why}", origin.name());
        context.board.update(&partner.name, |link| link.trouble = Some(trouble));
        return Ok(());
    }
    let (mut frames, mut writer) = split(context.net.open(peer, Protocol::Feed).await?);
    let cursor = Cursor { next: feed.size(), root: feed.head.frontier.root(), view: feed.view };
    let (receiver, open) = Receiver::start(&name, cursor);
    let mut run = Run { context, partner, origin, receiver, view: feed.view, looking: None };
    run.perform(vec![open], &mut writer).await?;
    let first = tokio::time::timeout(FIRST_FRAME, frames.next()).await.map_err(|_| LinkError::Silent)??;
    let result = run.frames(first, &mut frames, &mut writer).await;
    // Whatever ended it: what was stored last is looked at to the end.
    run.looked_at().await.and(result)
}

fn feed_of(context: &Context, name: &str) -> Result<Feed, LinkError> {
    context.handle.snapshot().feeds.get(name).cloned().ok_or_else(|| LinkError::Ours(format!("feed {name} is not followed")))
}

struct Run<'a> {
    context: &'a Context,
    partner: &'a Partner,
    origin: &'a Origin,
    receiver: Receiver,
    view: Option<Hash>,
    looking: Option<Looking>,
}

/// A look at what the batch stored last shows beside what was here, while the next is on its way and verified: it waits for the
/// index, and nothing more is stored before it has ended. Its task ends by itself: who shows two truths and hangs up is found too.
/// Gives the feed that it froze.
type Looking = JoinHandle<Result<Option<Origin>, LinkError>>;

impl Run<'_> {
    async fn frames(
        &mut self,
        first: Option<(Message, u64)>,
        frames: &mut Frames,
        writer: &mut WriteHalf<Stream>,
    ) -> Result<(), LinkError> {
        let mut next = first;
        // Silence is watched on the control stream: a feed at rest says nothing.
        while let Some((message, bytes)) = next {
            let outputs = self.receiver.handle(Input::Received(message, bytes));
            if self.perform(outputs, writer).await? {
                return Ok(());
            }
            next = loop {
                tokio::select! {
                    frame = frames.next() => break frame?,
                    outputs = self.looking_ends() => {
                        if self.perform(outputs?, writer).await? {
                            return Ok(());
                        }
                    }
                    () = tokio::time::sleep(Duration::from_secs(FRESH_FOR_SECONDS)) => {
                        let outputs = self.witness_again().await?;
                        self.perform(outputs, writer).await?;
                    }
                }
            };
        }
        Err(LinkError::Io(std::io::ErrorKind::ConnectionReset.into()))
    }

    /// Does what the session wants; true when the stream is over for good.
    async fn perform(&mut self, outputs: Vec<Output>, writer: &mut WriteHalf<Stream>) -> Result<bool, LinkError> {
        let mut queue = std::collections::VecDeque::from(outputs);
        while let Some(output) = queue.pop_front() {
            match output {
                Output::Send(message) => write(writer, &message).await?,
                Output::Begin { view, org_size, size, owed, .. } => {
                    let seen = self.known();
                    if size < seen && self.is_theirs() {
                        let why = format!("FORK: its owner says it has {size} entries, and {seen} were seen");
                        let opened = Message::Opened { view, size, org_size, term: String::new(), owed };
                        queue.extend(self.freeze(why, &opened, None).await?);
                        continue;
                    }
                    self.view = Some(view);
                    if owed {
                        let receipts = self.last_receipts().await?;
                        queue.extend(self.receiver.handle(Input::Owed(receipts)));
                    }
                    self.wait_for_org(org_size).await?;
                }
                Output::Verify(received) => queue.extend(self.verify(received).await?),
                Output::Backfill(backfill) => queue.extend(self.backfill(backfill).await?),
                Output::View { view, .. } => {
                    self.view = Some(view);
                    let origin = self.origin.clone();
                    if self.known() > 0 {
                        self.context
                            .handle
                            .with(move |feeds| feeds.set_view(&origin, view))
                            .await?
                            .map_err(|why| LinkError::Ours(why.to_string()))?;
                    }
                }
                Output::CaughtUp { size } => {
                    queue.extend(self.witness_again().await?);
                    let name = self.origin.to_string();
                    self.context.board.update(&self.partner.name, |link| {
                        link.caught_up.insert(name, size);
                    });
                }
                Output::Ended(Code::Fork) if self.is_theirs() => {
                    let why = "FORK: its owner says that its past is not the one we have seen".to_owned();
                    self.freeze(why, &Message::Error(Code::Fork), None).await?;
                    return Ok(true);
                }
                Output::Ended(code) => return self.ended(code),
                Output::Close => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Signs a head at rest again when the last time is long ago: so the owner can show how fresh its word is.
    async fn witness_again(&mut self) -> Result<Vec<Output>, LinkError> {
        if !self.is_theirs() {
            return Ok(Vec::new());
        }
        let origin = self.origin.clone();
        let cosigned = self.context.handle.with(move |feeds| feeds.cosign_again(&origin, feeds.clock().now())).await?;
        let cosigned = cosigned.map_err(|why| LinkError::Ours(why.to_string()))?;
        Ok(cosigned.map_or_else(Vec::new, |cosigned| self.receiver.handle(Input::Witnessed(cosigned))))
    }

    /// The receipts for the last frames we took, newest first: those that can have been lost with their connection.
    async fn last_receipts(&self) -> Result<Vec<Vec<u8>>, LinkError> {
        let (reader, origin, mut next) = (self.context.handle.reader().clone(), self.origin.clone(), self.known());
        let found = blocking(move || {
            reader.settle()?;
            let mut receipts: Vec<Vec<u8>> = Vec::new();
            while let Some(last) = next.checked_sub(1)
                && receipts.len() < RECEIPTS_MAX
            {
                let about = crate::feeds::witness::receipts_about(&reader, origin.as_str(), last, false)?;
                let batch = about.into_iter().find(|core| Receipt::peek(core).is_some_and(|of| of.way == Way::Batch));
                let Some(core) = batch else {
                    break;
                };
                next = Receipt::peek(&core).map_or(0, |of| of.from);
                receipts.push(core);
            }
            Ok::<_, crate::feeds::FeedError>(receipts)
        });
        found.await?.map_err(|why| LinkError::Ours(why.to_string()))
    }

    fn ended(&self, code: Code) -> Result<bool, LinkError> {
        // A pause ends with a catalog that offers the feed again.
        if code == Code::Busy {
            return Err(LinkError::Ours(code.to_string()));
        }
        let trouble = format!("feed {}: {code}", self.origin.name());
        self.context.board.update(&self.partner.name, |link| link.trouble = Some(trouble));
        Ok(true)
    }

    /// Whether the partner writes this feed, so that what does not hold in it speaks against the partner. What one says of
    /// our own org feed does not.
    fn is_theirs(&self) -> bool {
        self.context.handle.snapshot().is_written_by(self.origin, &self.partner.party)
    }

    fn known(&self) -> u64 {
        self.context.handle.snapshot().feeds.get(&self.origin.to_string()).map_or(0, Feed::size)
    }

    /// A data feed is verified with its owner's keys, which come on a stream of their own.
    async fn wait_for_org(&self, org_size: u64) -> Result<(), LinkError> {
        if self.origin.is_org() {
            return Ok(());
        }
        let party = self.origin.party();
        let mut snapshots = self.context.handle.watch();
        let here = snapshots.wait_for(|shown| shown.orgs.get(&party).is_some_and(|org| org.size() >= org_size));
        match tokio::time::timeout(ORG_WAIT, here).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(LinkError::Stopping),
            Err(_) => {
                let why = "the owner's org feed did not come";
                let trouble = format!("feed {}: {why}", self.origin.name());
                self.context.board.update(&self.partner.name, |link| link.trouble = Some(trouble));
                Err(LinkError::Ours(why.into()))
            }
        }
    }

    async fn verify(&mut self, received: Received) -> Result<Vec<Output>, LinkError> {
        let snapshot = self.context.handle.snapshot();
        let party = self.origin.party();
        let feed = feed_of(self.context, &self.origin.to_string())?;
        let org = snapshot.orgs.get(&party).cloned().unwrap_or_else(|| Org::new(party).into());
        let evidence = Message::Batch(received.clone());
        let (origin, head) = (self.origin.clone(), feed.head.clone());
        let verified = blocking(move || match origin.is_org() {
            true => accept::verify_org(&org, &head, received),
            false => accept::verify(&org, &origin, &head, received),
        })
        .await?;
        let view = self.view;
        let (lots, lives) = match &verified {
            Ok(batch) => (batch.lots(), batch.org().is_some()),
            Err(_) => Default::default(),
        };
        let frozen = self.looked_at().await?;
        if !frozen.is_empty() {
            return Ok(frozen);
        }
        let stored = match verified {
            Ok(batch) => self.context.handle.with(move |feeds| feeds.accept(batch, view, feeds.clock().now())).await?,
            Err(error) => Err(error),
        };
        match stored {
            Ok(Accepted { next, receipt, cosigned }) => {
                let (partner, feed) = (&self.partner.name, self.origin.to_string());
                tracing::info!(target: AUDIT, event = "received", partner, feed, to = next);
                self.looking = self.look(lots, lives, evidence);
                Ok(self.receiver.handle(Input::Stored { next, receipt, cosigned }))
            }
            Err(error) => self.refused(error, evidence).await,
        }
    }

    async fn backfill(&mut self, backfill: Backfill) -> Result<Vec<Output>, LinkError> {
        let snapshot = self.context.handle.snapshot();
        let feed = feed_of(self.context, &self.origin.to_string())?;
        let Some(org) = snapshot.orgs.get(&self.origin.party()).cloned() else {
            return Err(LinkError::Unexpected);
        };
        let evidence = Message::Backfill(backfill.clone());
        let reader = self.context.handle.reader().clone();
        let verified = blocking(move || {
            // What we look up was committed by us before: wait until the index shows it.
            let _ = reader.settle();
            let leaf_of = |seq| reader.row(feed.id, seq).ok().flatten().map(|row| Hash(row.leaf));
            accept::verify_backfill(&org, &feed, backfill, leaf_of)
        })
        .await?;
        let stored = match verified {
            Ok(backfill) => self.context.handle.with(move |feeds| feeds.accept_backfill(backfill, feeds.clock().now())).await?,
            Err(error) => Err(error),
        };
        match stored {
            Ok(receipt) => Ok(self.receiver.handle(Input::Opened { receipt })),
            Err(error) => self.refused(error, evidence).await,
        }
    }

    /// A batch that does not hold: freeze at the last good head and keep the evidence, or just end the stream.
    async fn refused(&mut self, error: AcceptError, evidence: Message) -> Result<Vec<Output>, LinkError> {
        let why = error.to_string();
        tracing::warn!(partner = self.partner.name, origin = self.origin.short(), why, "refused a batch");
        let trouble = format!("feed {}: {why}", self.origin.name());
        self.context.board.update(&self.partner.name, |link| link.trouble = Some(trouble));
        let ours = matches!(error, AcceptError::OrgBehind | AcceptError::Ours(_));
        // What a partner says of our own org feed is no evidence against us.
        if self.is_theirs() {
            let (reader, snapshot) = (self.context.handle.reader().clone(), self.context.handle.snapshot());
            let (origin, sent) = (self.origin.clone(), evidence.clone());
            let accused = blocking(move || forks::accusation(&reader, &snapshot, &origin, &sent, &error)).await?;
            if let Some((why, proof)) = accused {
                return self.freeze(why, &evidence, proof).await;
            }
        }
        match ours {
            true => Err(LinkError::Ours(why)),
            false => Ok(self.receiver.handle(Input::Refused(Code::Unexpected))),
        }
    }

    /// What is stored now may show two truths: two live statements about one thing, or a life that follows from another
    /// past than the one we saw.
    fn look(&self, lots: BTreeSet<String>, lives: bool, evidence: Message) -> Option<Looking> {
        if !self.is_theirs() || (lots.is_empty() && !lives) {
            return None;
        }
        let (context, partner, here) = (self.context.clone(), self.partner.name.clone(), self.origin.clone());
        Some(tokio::spawn(async move {
            let (reader, snapshot, origin) = (context.handle.reader().clone(), context.handle.snapshot(), here.clone());
            let found = blocking(move || match lives {
                true => forks::broken_life(&reader, &snapshot, origin.party()),
                false => forks::twins(&reader, &snapshot, &origin, &lots),
            });
            let Some((origin, why, proof)) = found.await?.map_err(|why| LinkError::Ours(why.to_string()))? else { return Ok(None) };
            // Where one of the two is what we wrote ourselves, it is what came that stops.
            let written = context.handle.snapshot().feeds.get(origin.as_str()).is_some_and(|feed| feed.written);
            let origin = if written { here } else { origin };
            freeze(&context, &partner, &origin, why, &evidence, proof).await?;
            Ok(Some(origin))
        }))
    }

    /// Waits until the look under way ends; for ever where none is.
    async fn looking_ends(&mut self) -> Result<Vec<Output>, LinkError> {
        let Some(looking) = &mut self.looking else {
            return std::future::pending().await;
        };
        let ended = looking.await;
        self.looking = None;
        let frozen = ended.map_err(|error| LinkError::Ours(error.to_string()))??;
        let here = frozen.is_some_and(|origin| origin == *self.origin);
        Ok(if here { self.receiver.handle(Input::Refused(Code::Frozen)) } else { Vec::new() })
    }

    /// The same, at once where none is under way.
    async fn looked_at(&mut self) -> Result<Vec<Output>, LinkError> {
        if self.looking.is_none() { Ok(Vec::new()) } else { self.looking_ends().await }
    }

    /// Freezes the feed that is followed here, and says why.
    async fn freeze(&mut self, why: String, evidence: &Message, proof: Option<ForkProof>) -> Result<Vec<Output>, LinkError> {
        freeze(self.context, &self.partner.name, self.origin, why, evidence, proof).await?;
        Ok(self.receiver.handle(Input::Refused(Code::Frozen)))
    }
}

/// Freezes a feed and says why.
async fn freeze(
    context: &Context,
    partner: &str,
    origin: &Origin,
    why: String,
    evidence: &Message,
    proof: Option<ForkProof>,
) -> Result<(), LinkError> {
    let trouble = format!("feed {}: {why}", origin.name());
    tracing::warn!(partner, origin = origin.short(), why, proven = proof.is_some(), "froze a feed");
    tracing::info!(target: AUDIT, event = "frozen", partner, feed = %origin, why);
    context.board.update(partner, |link| link.trouble = Some(trouble));
    let (frame, origin) = (evidence.to_frame(), origin.clone());
    let frozen = context.handle.with(move |feeds| feeds.freeze(&origin, &why, &frame, proof.as_ref())).await?;
    frozen.map_err(|why| LinkError::Ours(why.to_string()))
}
