//! Serving one feed to one partner: read from the cursor, clear each entry, write the intent into the ledger, send.
//!
//! The rules are looked at before each batch is read, again after its intent is durable, and before every chunk that
//! is handed to the transport: a batch that a change overtook is thrown away or cut, and the ledger says so.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use lotline_policy::{Cleared, Moment, Policy, Viewer};
use lotline_schema::delivery::{Delivery, Receipt, Way};
use lotline_schema::note::{Checkpoint, Cosignature, WitnessKey};
use lotline_schema::view::SealedView;
use lotline_schema::{Hash, Origin};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::{Context, Frames, LinkError, ORG_WAIT, Shown, blocking, end, split, write};
use crate::capture::Captured;
use crate::exchange::message::{Cosigned, backfill_digest, items_digest};
use crate::exchange::send::{Input, Output, Sender, Standing, UNRECEIPTED_MAX};
use crate::exchange::waiting::Waiting;
use crate::exchange::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, Code, FIRST_FRAME, Message, WRITE_DEADLINE};
use crate::feeds::ledger::{acknowledged, refill_due, row_for, rows_about};
use crate::feeds::terms::add_under;
use crate::feeds::witness::{self, Evidence, FRESH_FOR_SECONDS, ReceiptError};
use crate::feeds::{Backfill, Feed, FeedError, Head, Item, Partner, Received, Snapshot, StateError, Summary, Whole, release_of};
use crate::ledger::{self, Intent, Items, Outcome, Row};
use crate::service::AUDIT;
use crate::store::{FeedTree, Reader, StoreError};

/// How much is handed to the transport between two looks at the rules: at 1 Mbit/s an eighth of a second.
const CHUNK_BYTES: usize = 16 * 1024;

/// How long a write may wait for the partner before the rules are looked at again.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// How much earlier than a batch its rules may have been looked at: an hour is more than any disk takes.
const SLACK_SECONDS: i64 = 3_600;

/// How long outcomes wait for an intent to go along with.
const CONCLUDE_AFTER: std::time::Duration = std::time::Duration::from_millis(200);

/// Checkpoints remembered for cosignatures: those of the frames under way, the one just met, and the cursor's.
const CHECKPOINTS_MAX: usize = UNRECEIPTED_MAX + 3;

/// Serves one stream, whatever carries it.
pub async fn serve(context: Context, partner: Partner, stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Result<(), LinkError> {
    let (mut frames, mut writer) = split(stream);
    let first = tokio::time::timeout(FIRST_FRAME, frames.next()).await.map_err(|_| LinkError::Silent)??;
    let Some((first, _)) = first else {
        return Ok(());
    };
    let mut serving = Serving {
        context: context.clone(),
        partner,
        sender: Sender::new(),
        origin: None,
        pinned: None,
        looked: context.handle.now() as i64,
        waiting: Waiting::default(),
        unacknowledged: VecDeque::new(),
        concluded: Vec::new(),
        evidence: Vec::new(),
        checkpoints: VecDeque::new(),
        met: None,
    };
    let outputs = serving.sender.handle(Input::Received(first));
    let result = serving.run(outputs, &mut frames, &mut writer).await;
    // Whatever ended it: what is known of the last batches is written down.
    serving.conclude().await.and(result)
}

struct Serving {
    context: Context,
    partner: Partner,
    sender: Sender,
    origin: Option<Origin>,
    /// The head a catch-up works towards.
    pinned: Option<Arc<Head>>,
    /// When the session last heard how the partner stands.
    looked: i64,
    /// Entries before the partner's cursor that a delay holds back.
    waiting: Waiting,
    /// What was sent, the way, and whether some of it stands under terms.
    unacknowledged: VecDeque<(Row, Way, bool)>,
    concluded: Vec<(Row, Outcome)>,
    /// Receipts and cosignatures that wait for the next commit.
    evidence: Vec<Evidence>,
    /// The last checkpoints the partner was shown and may cosign, oldest first.
    checkpoints: VecDeque<Checkpoint>,
    /// Size of the checkpoint that was cosigned last, and when.
    met: Option<(u64, u64)>,
}

/// The rules under which something is cleared, and the view they give at that moment: taken before the first entry is
/// looked at, so that a date passing meanwhile makes the view another.
struct Rules {
    snapshot: Shown,
    /// Those about this partner: of many rules most are about others, and each entry asks all of them.
    policy: Arc<Policy>,
    at: Moment,
    /// The moment at which the view becomes another if nothing else does.
    until: Option<i64>,
    view: Hash,
}

impl Rules {
    /// The version that cleared entries of this feed; an org feed hides nothing and stands under none, nor does what goes to
    /// its owner.
    fn policy(&self, feed: &Feed) -> Option<u64> {
        self.policy_of(&feed.origin)
    }

    /// What a row says of cleared entries.
    fn items(&self, cleared: &[Cleared]) -> Items {
        let mut items = Items::default();
        cleared.iter().for_each(|cleared| items.add(cleared, &self.policy));
        items
    }

    fn policy_of(&self, origin: &Origin) -> Option<u64> {
        (!origin.is_org() && origin.party() == self.snapshot.party).then(|| self.snapshot.policy.version())
    }
}

impl Serving {
    async fn run(
        &mut self,
        mut outputs: Vec<Output>,
        frames: &mut Frames,
        writer: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<(), LinkError> {
        let mut snapshots = self.context.handle.watch();
        loop {
            if self.perform(outputs, writer).await? {
                return Ok(());
            }
            outputs = tokio::select! {
                frame = frames.next() => match frame? {
                    Some((message, _)) => self.sender.handle(Input::Received(message)),
                    None => return Ok(()),
                },
                changed = snapshots.changed() => {
                    changed.map_err(|_| LinkError::Stopping)?;
                    self.look()
                }
                () = self.rest() => {
                    self.conclude().await?;
                    Vec::new()
                }
                () = self.boundary() => self.look(),
                () = self.sleep_until(self.waiting.next()) => self.open_due(),
            };
        }
    }

    /// Does what the session wants; true when the stream is over.
    async fn perform(&mut self, outputs: Vec<Output>, writer: &mut (impl AsyncWrite + Unpin + Send)) -> Result<bool, LinkError> {
        let mut queue = VecDeque::from(outputs);
        while let Some(output) = queue.pop_front() {
            match output {
                Output::Authorise { origin, next } => {
                    let standing = self.authorise(&origin, next).await?;
                    queue.extend(self.stands(standing));
                }
                Output::Load { from } => queue.extend(self.load(from, writer).await?),
                Output::LoadBackfill { from, before } => queue.extend(self.load_backfill(from, before, writer).await?),
                Output::Acknowledged { next, receipt } => self.acknowledged(next, receipt).await?,
                Output::Cosigned(cosigned) => self.cosigned(cosigned),
                Output::Receipts(receipts) => queue.extend(self.receipts_again(receipts).await?),
                // Batches and backfills were written when they were loaded, under the eyes of the rules.
                Output::Send(Message::Batch(_) | Message::Backfill(_)) => {}
                Output::Send(Message::Error(code)) => {
                    tracing::info!(partner = self.partner.name, %code, "ended a feed stream");
                    end(writer, code).await?;
                    if matches!(code, Code::Unexpected | Code::Malformed) {
                        return Err(LinkError::Unexpected);
                    }
                }
                Output::Send(message) => write(writer, &message).await?,
                Output::Close => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Whether this partner may follow that feed, and whether its past is ours. "Forbidden" and "does not exist" are one answer.
    async fn authorise(&mut self, origin: &str, next: u64) -> Result<Option<Standing>, LinkError> {
        let ours = self.context.handle.snapshot().party;
        self.origin = origin.parse::<Origin>().ok().filter(|origin| origin.party() == ours || origin.party() == self.partner.party);
        let Some((feed, standing)) = self.stands_with() else {
            return Ok(None);
        };
        // After a restore the owner may have more of its feed than we do: that is no fork, and we write it no more.
        if feed.written && !feed.ours && next > feed.size() && !self.context.handle.snapshot().holds_pen(&feed.origin) {
            return Ok(None);
        }
        let root = if next > feed.size() {
            None
        } else if next == feed.size() {
            Some(feed.head.frontier.root())
        } else {
            Some(self.of_tree(&feed, move |tree| tree.root(next)).await?)
        };
        if root.is_some() {
            self.holds_org(next).await?;
        }
        if let (Some(root), Some(origin)) = (root, &self.origin) {
            self.checkpoints = VecDeque::from([Checkpoint { origin: origin.clone(), size: next, root }]);
        }
        let owed = root.is_some() && self.lacks_receipt(next).await?;
        let delayed = if root.is_some() { self.delayed_before(next).await? } else { None };
        Ok(Some(Standing { root_at_cursor: root, owed, delayed, ..standing }))
    }

    /// The entries before the cursor that a delay may have opened since the partner last took some, or holds back still. Before
    /// a batch goes, everything that is open by then has gone: so only what was signed less than the longest delay before the
    /// batch with the last entry counts. Where no batch brought that entry, every one does.
    async fn delayed_before(&self, next: u64) -> Result<Option<Range<u64>>, LinkError> {
        let snapshot = self.context.handle.snapshot();
        let (Some(feed), Some(last)) = (self.feed().filter(|feed| feed.ours && !feed.origin.is_org()), next.checked_sub(1)) else {
            return Ok(None);
        };
        let Some(longest) = snapshot.policy.longest_delay(&self.partner.name, feed.origin.name()) else {
            return Ok(None);
        };
        let (reader, to) = (self.context.handle.reader().clone(), self.partner.name.clone());
        let from = blocking(move || {
            reader.settle()?;
            let rows = rows_about(&reader, &to, feed.origin.as_str(), last)?;
            // A stick brings new entries alone.
            let unsure = |row: &Row| matches!(row.way, ledger::Way::Carried | ledger::Way::Unknown) || row.is_refilled();
            let batch = rows.iter().filter(|row| row.way == ledger::Way::Batch).map(|row| row.at as i64).min();
            match batch.filter(|_| !rows.iter().any(unsure)) {
                Some(at) => first_since(&reader, &feed, next, at - longest - SLACK_SECONDS),
                None => Ok(0),
            }
        });
        let from = from.await?.map_err(|why: FeedError| LinkError::Ours(why.to_string()))?;
        Ok(Some(from..next))
    }

    /// Tells the session which older entries a delay has opened by now.
    fn open_due(&mut self) -> Vec<Output> {
        let due = self.waiting.due(self.now());
        if due.is_empty() { Vec::new() } else { self.sender.handle(Input::Due(due)) }
    }

    /// Whether we have no receipt of this partner for the entry before its cursor: it was lost with a connection.
    async fn lacks_receipt(&self, next: u64) -> Result<bool, LinkError> {
        let (Some(origin), Some(last)) = (self.origin.clone().filter(|origin| !origin.is_org()), next.checked_sub(1)) else {
            return Ok(false);
        };
        let (reader, party) = (self.context.handle.reader().clone(), self.partner.party);
        let found = blocking(move || {
            reader.settle()?;
            let receipts = witness::receipts_about(&reader, origin.as_str(), last, true)?;
            Ok::<_, FeedError>(receipts.iter().any(|core| Receipt::claimed_by(core) == Some(party)))
        });
        Ok(!found.await?.map_err(|why| LinkError::Ours(why.to_string()))?)
    }

    /// Receipts that come again: each is verified like the first time, and kept with the row of the ledger it is for.
    async fn receipts_again(&mut self, receipts: Vec<Vec<u8>>) -> Result<Vec<Output>, LinkError> {
        let Some(origin) = self.origin.clone() else {
            return Ok(Vec::new());
        };
        let next = self.checkpoints.front().map_or(0, |checkpoint| checkpoint.size);
        let (to, name) = (self.partner.name.clone(), origin.to_string());
        let claimed: Vec<Delivery> = receipts.iter().map(|core| Receipt::peek(core)).collect::<Option<_>>().ok_or(LinkError::Unexpected)?;
        let (reader, asked) = (self.context.handle.reader().clone(), claimed.clone());
        let rows = blocking(move || {
            reader.settle()?;
            let rows = asked.iter().map(|of| if of.origin == name { row_for(&reader, &to, of) } else { Ok(None) });
            Ok((rows.collect::<Result<Vec<_>, _>>()?, refill_due(&reader, &to)?.is_some()))
        });
        let (rows, refills) = rows.await?.map_err(|why: FeedError| LinkError::Ours(why.to_string()))?;
        let (mut paid, mut lost) = (false, Vec::new());
        for ((core, claimed), row) in receipts.into_iter().zip(claimed).zip(rows) {
            if claimed.origin != origin.as_str() {
                return Err(ReceiptError::Other.into());
            }
            // A row that a restored home lost is no fault of the partner's: what it signed counts all the same. Where none
            // can have been lost, a receipt for no row is for nothing that we sent.
            let expected = row.clone().unwrap_or_else(|| Row::refilled(&self.partner.name, &claimed, 0, 0));
            self.check_receipt(&core, &expected, claimed.way).await?;
            paid |= (row.is_some() || refills) && (claimed.from..claimed.to).contains(&next.saturating_sub(1));
            match row {
                Some(row) => {
                    self.evidence.push(Evidence::Receipt(row.clone(), core));
                    self.became(row, Outcome::Acknowledged);
                }
                None => lost.push(core),
            }
        }
        self.conclude().await?;
        if !lost.is_empty() {
            let partner = self.partner.clone();
            let filled = self.context.handle.with(move |feeds| feeds.refill(&partner, &lost, false, feeds.clock().now())).await?;
            filled.map_err(|why| LinkError::Ours(why.to_string()))?;
        }
        if paid { Ok(self.sender.handle(Input::Signed)) } else { Err(LinkError::Unexpected) }
    }

    fn feed(&self) -> Option<Feed> {
        let (snapshot, origin) = (self.context.handle.snapshot(), self.origin.as_ref()?);
        match origin.party() == snapshot.party || !origin.is_org() {
            true => snapshot.feeds.get(origin.as_str()).and_then(Feed::as_served),
            false => super::held_for(&snapshot, &self.partner).cloned(),
        }
    }

    /// Tells the session how the partner stands now.
    fn look(&mut self) -> Vec<Output> {
        self.looked = self.now();
        let standing = self.standing();
        self.stands(standing)
    }

    /// While the clock cannot be believed nothing is told of any feed, whether there is one or not.
    fn stands(&mut self, standing: Option<Standing>) -> Vec<Output> {
        let paused = self.context.handle.clock().jumped().is_some();
        self.sender.handle(if paused { Input::Paused } else { Input::Standing(standing) })
    }

    /// What the clock shows.
    fn now(&self) -> i64 {
        self.context.handle.now() as i64
    }

    /// How the partner stands now; none: it may not follow this feed, or there is none.
    fn standing(&self) -> Option<Standing> {
        self.stands_with().map(|(_, standing)| standing)
    }

    /// The feed that the partner may follow, and how it stands with it. Whether there is such a feed is looked up last: what is
    /// forbidden and what does not exist must cost the same work, or the time of the answer would tell them apart.
    fn stands_with(&self) -> Option<(Feed, Standing)> {
        self.stands_under(&self.context.handle.snapshot(), self.context.handle.clock().moment().ok()?)
    }

    fn stands_under(&self, snapshot: &Shown, now: Moment) -> Option<(Feed, Standing)> {
        let origin = self.origin.as_ref()?;
        if snapshot.restored.is_some() || snapshot.book.get(&self.partner.name).is_none_or(|known| !known.answers_to(&self.partner.peer)) {
            return None;
        }
        let viewer = snapshot.viewer(&self.partner.name);
        let offered = snapshot.policy.feeds_for(&viewer, &snapshot.own_feed_names(), now);
        let allowed = match origin.is_org() {
            // Its own org feed is its own.
            true => origin.party() == self.partner.party || !offered.is_empty() || snapshot.owes_keys(&self.partner),
            // What we write in a partner's name is its own, whatever our rules say, and no rule of ours opens it to others.
            false if origin.party() != snapshot.party => origin.party() == self.partner.party,
            false => offered.iter().any(|name| name == origin.name()),
        };
        if !allowed {
            return None;
        }
        let feed = self.feed()?;
        let signed_by = if origin.is_org() { snapshot.party } else { origin.party() };
        let standing = Standing {
            size: feed.size(),
            view: self.view_of(snapshot, origin, now),
            org_size: snapshot.orgs.get(&signed_by).map_or(0, |org| org.size()),
            term: if feed.ours { lotline_policy::term(&snapshot.policy, &viewer, origin.name(), now) } else { super::OWN_TERM.into() },
            root_at_cursor: None,
            owed: false,
            delayed: None,
        };
        Some((feed, standing))
    }

    /// An org feed hides nothing, nor does a feed from its owner: their views never change.
    fn view_of(&self, snapshot: &Shown, origin: &Origin, now: Moment) -> Hash {
        if origin.is_org() {
            return Hash::of(&[b"lotline org view"]);
        }
        if origin.party() != snapshot.party {
            return Hash::of(&[b"lotline owner's view"]);
        }
        let view = lotline_policy::view_id(&snapshot.policy, &snapshot.viewer(&self.partner.name), origin, now);
        match snapshot.policy.waits_for_releases(&self.partner.name, origin.name()) {
            // What is released may cease to be: a person's key is revoked, a release withdrawn. The org feed says so.
            true => Hash::of(&[b"lotline view of what is released", &view.0, &snapshot.orgs[&snapshot.party].size().to_be_bytes()]),
            false => view,
        }
    }

    /// Sleeps until nothing has happened for a while, if outcomes wait to be written down. With more to send they go
    /// along with the next intent, which costs no commit of their own.
    async fn rest(&self) {
        match self.concluded.is_empty() && self.evidence.is_empty() {
            true => std::future::pending().await,
            false => tokio::time::sleep(CONCLUDE_AFTER).await,
        }
    }

    /// Sleeps until time alone changes what this partner sees, counted from when the session last heard: a moment that
    /// passed while something else was done must not be missed.
    async fn boundary(&self) {
        let next = self.origin.as_ref().and_then(|origin| {
            let snapshot = self.context.handle.snapshot();
            lotline_policy::next_change(&snapshot.policy, &snapshot.viewer(&self.partner.name), origin.name(), self.looked)
        });
        self.sleep_until(next).await;
    }

    /// A root or a proof from the tree of a feed.
    async fn of_tree<T: Send + 'static>(
        &self,
        feed: &Feed,
        ask: impl FnOnce(FeedTree<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, LinkError> {
        let (reader, id, size) = (self.context.handle.reader().clone(), feed.id, feed.size());
        let found = blocking(move || {
            // The index lags behind the journal by a few commits: wait for it.
            reader.settle()?;
            ask(reader.tree(id, size))
        });
        found.await?.map_err(|why| LinkError::Ours(why.to_string()))
    }

    /// The rules to clear by; none while the clock cannot be believed, and for a partner that may not follow this feed any more:
    /// not even how many entries there are is for it.
    fn rules(&self) -> Option<Rules> {
        let (snapshot, at) = (self.context.handle.snapshot(), self.context.handle.clock().moment().ok()?);
        let origin = self.origin.as_ref().expect("authorised before anything is loaded");
        let view = self.stands_under(&snapshot, at)?.1.view;
        let until = lotline_policy::next_change(&snapshot.policy, &snapshot.viewer(&self.partner.name), origin.name(), at.now());
        Some(Rules { policy: Arc::new(snapshot.policy.about(&self.partner.name)), snapshot, at, until, view })
    }

    /// Whether these rules still show the partner the same view, of records that nothing was forgotten of since they were
    /// read. While nothing was committed and the clock is before the next
    /// boundary nothing need be asked.
    fn hold(&self, rules: &Rules) -> bool {
        let same = Arc::ptr_eq(&rules.snapshot, &self.context.handle.snapshot());
        let goes_on = |now: Moment| {
            !now.is_set_back() && !rules.at.is_set_back() && rules.at.is_before(now) && rules.until.is_none_or(|until| now.now() < until)
        };
        same && self.context.handle.clock().moment().is_ok_and(goes_on)
            || self.nothing_forgotten(rules) && self.standing().is_some_and(|standing| standing.view == rules.view)
    }

    /// Whether what was read under these rules is as it was: a row read before, and its fields after something was forgotten, look
    /// like a record that shows nothing.
    fn nothing_forgotten(&self, rules: &Rules) -> bool {
        rules.snapshot.forgettings == self.context.handle.snapshot().forgettings
    }

    /// What was read is thrown away. The session hears of the change before it asks again: else it would ask for the same, for
    /// ever.
    fn overtaken(&mut self) -> Vec<Output> {
        let mut outputs = self.look();
        outputs.extend(self.sender.handle(Input::Stale));
        outputs
    }

    /// Sleeps until the clock shows a moment; for ever without one.
    async fn sleep_until(&self, moment: Option<i64>) {
        match moment {
            // A minute at most: clocks are set, and a sleeping laptop does not count.
            Some(at) => tokio::time::sleep(std::time::Duration::from_secs((at - self.now()).clamp(0, 60) as u64)).await,
            None => std::future::pending().await,
        }
    }

    /// Reads, clears, writes down and sends the next batch.
    async fn load(&mut self, from: u64, writer: &mut (impl AsyncWrite + Unpin + Send)) -> Result<Vec<Output>, LinkError> {
        let Some(feed) = self.feed() else {
            return Ok(self.sender.handle(Input::Standing(None)));
        };
        // What opened goes before what is newer: a partner that has a batch has all that was open before it.
        if self.waiting.next().is_some_and(|at| at <= self.now()) {
            let mut outputs = self.open_due();
            outputs.extend(self.sender.handle(Input::Stale));
            return Ok(outputs);
        }
        if let Some(outputs) = self.load_released(&feed, from, writer).await? {
            return Ok(outputs);
        }
        // A catch-up works towards one checkpoint until it has met it; then towards the next.
        let head = self.pinned.take().filter(|head| head.frontier.size() > from).unwrap_or_else(|| feed.head.clone());
        self.pinned = Some(head.clone());
        let Some(rules) = self.rules() else {
            return Ok(self.look());
        };
        let (cleared, _) = self.clear(&rules, &feed, from, head.frontier.size(), |_, cleared| Some(cleared)).await?;
        let to = from + cleared.len() as u64;
        let tail = if to == head.frontier.size() {
            Vec::new()
        } else {
            let size = head.frontier.size();
            self.of_tree(&feed, move |tree| tree.consistency(to, size)).await?
        };
        let items = rules.items(&cleared);
        let mut under = Vec::new();
        cleared.iter().for_each(|cleared| add_under(&mut under, cleared));
        let item = |cleared: Cleared| {
            let leaf = cleared.leaf();
            cleared.into_view().map_or(Item::Hidden(leaf), Item::View)
        };
        let items_sent = cleared.into_iter().map(item).collect();
        let (checkpoint, policy) = (head.checkpoint.clone(), rules.policy(&feed));
        let message = Message::Batch(Received { from, items: items_sent, checkpoint, tail, policy, under });
        self.show_checkpoint(Checkpoint { origin: feed.origin.clone(), size: head.frontier.size(), root: head.frontier.root() });
        self.send_bulk(&rules, message, items, writer, to, false).await
    }

    /// Sends the older records that the entries from `from` on release, before those: a partner that has a release has what
    /// it opened, wherever the line was cut. None where no record waited for one of these releases.
    async fn load_released(
        &mut self,
        feed: &Feed,
        from: u64,
        writer: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<Option<Vec<Output>>, LinkError> {
        let waits = || self.context.handle.snapshot().policy.waits_for_releases(&self.partner.name, feed.origin.name());
        if feed.origin.is_org() || !waits() {
            return Ok(None);
        }
        let Some(rules) = self.rules() else {
            return Ok(Some(self.look()));
        };
        let (reader, of, wanted) =
            (self.context.handle.reader().clone(), feed.clone(), (feed.size() - from).min(BATCH_ENTRIES_MAX as u64) as usize);
        let waited = blocking(move || released_before(&reader, &of, from, wanted)).await?;
        let mut waited = waited.map_err(|why| LinkError::Ours(why.to_string()))?;
        if waited.is_empty() {
            return Ok(None);
        }
        self.conclude().await?;
        let under_way = self.under_way();
        let (policy, moment) = (rules.policy.clone(), rules.at);
        let (reader, snapshot, of, viewer) =
            (self.context.handle.reader().clone(), rules.snapshot.clone(), feed.clone(), rules.snapshot.viewer(&self.partner.name));
        let page = blocking(move || {
            reader.settle()?;
            let (mut page, mut bytes, mut opening) = (Vec::new(), 0, Vec::new());
            while let Some(seq) = waited.pop_first() {
                let row = reader.row(of.id, seq)?.ok_or(StateError("released record"))?;
                let cleared = clear_row(&reader, &snapshot, &of, &viewer, &row, (&policy, moment))?;
                opening.extend(cleared.opens_at().map(|at| (seq, at)));
                let known = acknowledged(&reader, &viewer.partner, of.origin.as_str(), seq, seq + 1)?;
                let known = [&known, &under_way].into_iter().filter_map(|known| known.get(&seq)).fold(0, |all, mask| all | mask);
                if cleared.mask() & !known == 0 {
                    continue;
                }
                bytes += size_of(&cleared);
                if !page.is_empty() && bytes > BATCH_BYTES_MAX {
                    break;
                }
                page.push(cleared);
            }
            Ok::<_, FeedError>((page, opening))
        });
        let (page, opening) = page.await?.map_err(|why| LinkError::Ours(why.to_string()))?;
        opening.into_iter().for_each(|(seq, at)| self.waiting.add(seq, at));
        match page.is_empty() {
            true if !self.nothing_forgotten(&rules) => Ok(Some(self.overtaken())),
            true => Ok(None),
            // The cursor stays: what comes next is looked at again, and then finds these among what was sent.
            false => self.send_backfill(&rules, feed, page, writer, from, false).await.map(Some),
        }
    }

    async fn send_backfill(
        &mut self,
        rules: &Rules,
        feed: &Feed,
        page: Vec<Cleared>,
        writer: &mut (impl AsyncWrite + Unpin + Send),
        next: u64,
        backfilled: bool,
    ) -> Result<Vec<Output>, LinkError> {
        let items = rules.items(&page);
        let mut under = Vec::new();
        page.iter().for_each(|cleared| add_under(&mut under, cleared));
        let views: Vec<(u64, SealedView)> = page.into_iter().filter_map(|cleared| Some((cleared.seq(), cleared.into_view()?))).collect();
        let message = Message::Backfill(Backfill { items: views, policy: rules.policy(feed), under });
        self.send_bulk(rules, message, items, writer, next, backfilled).await
    }

    /// Sends what is newly open of older entries.
    async fn load_backfill(
        &mut self,
        from: u64,
        before: u64,
        writer: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<Vec<Output>, LinkError> {
        let (Some(feed), Some(origin)) = (self.feed(), self.origin.clone()) else {
            return Ok(self.sender.handle(Input::Standing(None)));
        };
        if origin.is_org() || !feed.ours {
            return Ok(self.sender.handle(Input::Nothing));
        }
        self.conclude().await?;
        let Some(rules) = self.rules() else {
            return Ok(self.look());
        };
        let mut at = from;
        while at < before {
            let page_end = before.min(at + BATCH_ENTRIES_MAX as u64);
            let known = self.sent_between(&origin, at, page_end).await?;
            let fresh = move |seq: u64, cleared: Cleared| {
                let new = cleared.mask() & !known.get(&seq).copied().unwrap_or(0);
                (new != 0).then_some(cleared)
            };
            let (page, read) = self.clear(&rules, &feed, at, page_end, fresh).await?;
            if page.is_empty() && !self.nothing_forgotten(&rules) {
                return Ok(self.overtaken());
            }
            if page.is_empty() {
                at = read;
                continue;
            }
            return self.send_backfill(&rules, &feed, page, writer, read, true).await;
        }
        Ok(self.sender.handle(Input::Nothing))
    }

    /// Slots of these entries that need not go again: acknowledged, or under way on this stream.
    async fn sent_between(&self, origin: &Origin, from: u64, end: u64) -> Result<HashMap<u64, u64>, LinkError> {
        let (reader, to, name) = (self.context.handle.reader().clone(), self.partner.name.clone(), origin.to_string());
        let known = blocking(move || {
            reader.settle()?;
            acknowledged(&reader, &to, &name, from, end)
        });
        let mut known = known.await?.map_err(|why| LinkError::Ours(why.to_string()))?;
        for (seq, mask) in self.under_way() {
            *known.entry(seq).or_default() |= mask;
        }
        Ok(known)
    }

    /// Slots that are under way on this stream, by entry: they arrive, or the stream ends.
    fn under_way(&self) -> HashMap<u64, u64> {
        let mut slots = HashMap::new();
        for sent in self.unacknowledged.iter().flat_map(|(row, ..)| &row.items) {
            *slots.entry(sent.seq).or_default() |= sent.mask;
        }
        slots
    }

    /// Clears entries from `from` on, as many as one batch takes; what `keep` drops is not counted. Returns where it stopped, and
    /// remembers what a delay holds back.
    async fn clear(
        &mut self,
        rules: &Rules,
        feed: &Feed,
        from: u64,
        to: u64,
        keep: impl Fn(u64, Cleared) -> Option<Cleared> + Send + 'static,
    ) -> Result<(Vec<Cleared>, u64), LinkError> {
        let viewer = rules.snapshot.viewer(&self.partner.name);
        let (reader, snapshot, feed) = (self.context.handle.reader().clone(), rules.snapshot.clone(), feed.clone());
        let (policy, moment) = (rules.policy.clone(), rules.at);
        let wanted = usize::try_from(to - from).unwrap_or(usize::MAX).min(BATCH_ENTRIES_MAX);
        let page = move || {
            let mut rows = reader.rows(feed.id, from, wanted)?;
            if rows.len() < wanted {
                // The index lags behind the journal by a few commits: wait for it.
                reader.settle()?;
                rows = reader.rows(feed.id, from, wanted)?;
            }
            let (mut cleared, mut bytes, mut at, mut opening) = (Vec::with_capacity(rows.len()), 0, from, Vec::new());
            for row in rows {
                if row.seq != at {
                    break;
                }
                let one = clear_row(&reader, &snapshot, &feed, &viewer, &row, (&policy, moment))?;
                let size = size_of(&one);
                if !cleared.is_empty() && bytes + size > BATCH_BYTES_MAX {
                    break;
                }
                at += 1;
                opening.extend(one.opens_at().map(|opens| (row.seq, opens)));
                if let Some(kept) = keep(row.seq, one) {
                    bytes += size;
                    cleared.push(kept);
                }
            }
            Ok::<_, FeedError>((cleared, at, opening))
        };
        let (cleared, at, opening) = blocking(page).await?.map_err(|why| LinkError::Ours(why.to_string()))?;
        opening.into_iter().for_each(|(seq, moment)| self.waiting.add(seq, moment));
        if at == from {
            return Err(LinkError::Ours(format!("entry {from} of our feed cannot be read; run `lotline audit`")));
        }
        Ok((cleared, at))
    }

    /// Writes the intent into the ledger, looks at the rules once more, and sends.
    async fn send_bulk(
        &mut self,
        rules: &Rules,
        message: Message,
        items: Items,
        writer: &mut (impl AsyncWrite + Unpin + Send),
        next: u64,
        backfilled: bool,
    ) -> Result<Vec<Output>, LinkError> {
        let origin = self.origin.clone().expect("authorised before anything is loaded");
        let frame = message.to_frame();
        let (digest, way, obliges) = match &message {
            Message::Batch(batch) => (items_digest(&batch.items), Way::Batch, !batch.under.is_empty()),
            Message::Backfill(backfill) => (backfill_digest(&backfill.items), Way::Backfill, !backfill.under.is_empty()),
            _ => return Err(LinkError::Ours("only batches and backfills are sent in bulk".into())),
        };
        let (to, policy) = (self.partner.name.clone(), rules.policy_of(&origin));
        let intent = Intent { to, origin: origin.to_string(), way: ledger::Way::from(way), items, policy, digest };
        let (outcomes, evidence) = (std::mem::take(&mut self.concluded), std::mem::take(&mut self.evidence));
        let row = self.context.handle.with(move |feeds| feeds.intend(intent, &outcomes, &evidence, feeds.clock().now())).await?;
        let row = row.map_err(|why| LinkError::Ours(why.to_string()))?;
        if !self.hold(rules) {
            self.became(row, Outcome::NotSent);
            return Ok(self.overtaken());
        }
        let mut handed = 0;
        let written = self.write_watching(&frame, rules, writer, &mut handed).await;
        let captured = self.capture(&row, handed, &frame);
        if let Err(error) = written.and(captured) {
            self.became(row, Outcome::Cut);
            return Err(error);
        }
        self.unacknowledged.push_back((row, way, obliges));
        Ok(self.sender.handle(Input::Loaded { message, bytes: frame.len() as u64, next, backfilled }))
    }

    /// Hands a frame over in chunks, looking at the rules before each and while one waits.
    async fn write_watching(
        &self,
        frame: &[u8],
        rules: &Rules,
        writer: &mut (impl AsyncWrite + Unpin + Send),
        handed: &mut u64,
    ) -> Result<(), LinkError> {
        let mut snapshots = self.context.handle.watch();
        let deadline = tokio::time::sleep(WRITE_DEADLINE);
        tokio::pin!(deadline);
        for chunk in frame.chunks(CHUNK_BYTES) {
            let mut rest = chunk;
            while !rest.is_empty() {
                if !self.hold(rules) {
                    return Err(LinkError::RulesChanged);
                }
                tokio::select! {
                    // In this order: a change that is known goes before a byte that could be written.
                    biased;
                    changed = snapshots.changed() => changed.map_err(|_| LinkError::Stopping)?,
                    () = &mut deadline => return Err(LinkError::Silent),
                    written = writer.write(rest) => {
                        let written = written?;
                        *handed += written as u64;
                        rest = &rest[written..];
                    }
                    // Time alone may have changed the rules while the partner took nothing.
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        }
        tokio::select! {
            flushed = writer.flush() => Ok(flushed?),
            () = &mut deadline => Err(LinkError::Silent),
        }
    }

    /// Writes down what the transport was handed, when the owner wants that.
    fn capture(&self, row: &Row, handed: u64, frame: &[u8]) -> Result<(), LinkError> {
        let Some(capture) = self.context.capture.as_ref().filter(|_| handed > 0) else {
            return Ok(());
        };
        let captured =
            Captured { at: self.context.handle.now(), to: row.to.clone(), origin: row.origin.clone(), handed, frame: frame.to_vec() };
        capture.write(&captured).map_err(|why| LinkError::Ours(format!("cannot write the capture: {why}")))
    }

    /// The partner has this much of our org feed: a new transport key may wait for that.
    /// What became of a frame: for the ledger, with its next commit, and for the audit log.
    fn became(&mut self, row: Row, outcome: Outcome) {
        let (partner, feed, from, to, rules) = (&self.partner.name, &row.origin, row.from, row.end, row.policy);
        tracing::info!(target: AUDIT, event = "sent", partner, feed, from, to, rules, outcome = outcome.name(), number = row.number);
        self.concluded.push((row, outcome));
    }

    async fn holds_org(&self, size: u64) -> Result<(), LinkError> {
        let snapshot = self.context.handle.snapshot();
        let is_org = self.origin.as_ref().is_some_and(|origin| origin.is_org() && origin.party() == snapshot.party);
        if is_org && snapshot.moving.is_some() {
            let name = self.partner.name.clone();
            let held = self.context.handle.with(move |feeds| feeds.partner_holds_org(&name, size, feeds.clock().now())).await?;
            held.map_err(|why| LinkError::Ours(why.to_string()))?;
        }
        Ok(())
    }

    async fn acknowledged(&mut self, next: u64, receipt: Option<Vec<u8>>) -> Result<(), LinkError> {
        // Frames are acknowledged one by one, in the order they were sent.
        if let Some((row, way, obliges)) = self.unacknowledged.pop_front() {
            if self.origin.as_ref().is_some_and(|origin| !origin.is_org()) {
                let receipt = receipt.ok_or(ReceiptError::None)?;
                self.check_receipt(&receipt, &row, way).await?;
                if obliges && Receipt::peek(&receipt).is_none_or(|of| of.terms.is_none()) {
                    return Err(ReceiptError::Terms.into());
                }
                self.evidence.push(Evidence::Receipt(row.clone(), receipt));
            }
            self.became(row, Outcome::Acknowledged);
        }
        self.holds_org(next).await?;
        if let Some(origin) = &self.origin {
            let (name, credit) = (origin.to_string(), self.sender.credit());
            self.context.board.update(&self.partner.name, |link| {
                link.credit.insert(name.clone(), credit);
                link.follows.insert(name, next);
            });
        }
        Ok(())
    }

    /// A receipt counts when it holds under the partner's keys, which come on a stream of their own, and for what we sent.
    async fn check_receipt(&self, receipt: &[u8], row: &Row, way: Way) -> Result<(), LinkError> {
        let party = self.partner.party;
        let mut snapshots = self.context.handle.watch();
        let here = snapshots.wait_for(|shown| shown.orgs.get(&party).is_some_and(|org| org.size() > 0));
        let org = match tokio::time::timeout(ORG_WAIT, here).await {
            Ok(Ok(shown)) => shown.orgs[&party].clone(),
            Ok(Err(_)) => return Err(LinkError::Stopping),
            Err(_) => {
                let trouble = "its org feed did not come, so its delivery receipts cannot be checked";
                self.context.board.update(&self.partner.name, |link| link.trouble = Some(trouble.into()));
                return Err(LinkError::Ours(format!("{}: {trouble}", self.partner.name)));
            }
        };
        let delivery = witness::check_receipt(receipt, &org, row, way)?;
        if self.is_ours(&delivery).await? { Ok(()) } else { Err(ReceiptError::Checkpoint.into()) }
    }

    /// Whether the checkpoint that a receipt names is of our feed. A backfill may name any that the partner ever met.
    async fn is_ours(&self, delivery: &Delivery) -> Result<bool, LinkError> {
        if let Some(shown) = self.checkpoints.iter().find(|checkpoint| checkpoint.size == delivery.size) {
            return Ok(shown.root == delivery.root);
        }
        let (Some(feed), size) = (self.feed().filter(|feed| delivery.size <= feed.size()), delivery.size) else {
            return Ok(false);
        };
        Ok(self.of_tree(&feed, move |tree| tree.root(size)).await? == delivery.root)
    }

    /// Remembers a checkpoint that goes out.
    fn show_checkpoint(&mut self, checkpoint: Checkpoint) {
        // All batches of a catch-up come under one.
        if self.checkpoints.back().is_none_or(|last| last.size < checkpoint.size) {
            self.checkpoints.push_back(checkpoint);
        }
        if self.checkpoints.len() > CHECKPOINTS_MAX {
            self.checkpoints.pop_front();
        }
    }

    /// A cosignature counts when it holds for a checkpoint that this partner was shown. A wrong one costs its sender its
    /// own evidence, and us nothing.
    fn cosigned(&mut self, cosigned: Cosigned) {
        let Some(at) = self.checkpoints.iter().position(|checkpoint| checkpoint.size == cosigned.size) else {
            return;
        };
        // What is repeated before it can have become stale is dropped, or each would cost us a commit.
        if self.met.is_some_and(|(size, at)| size == cosigned.size && self.context.handle.now() < at + FRESH_FOR_SECONDS / 2) {
            return;
        }
        let checkpoint = self.checkpoints[at].clone();
        let holds = WitnessKey::read(&cosigned.key).is_ok_and(|key| {
            let line = Cosignature::read(&cosigned.line);
            key.is_opaque() && line.is_ok_and(|line| line.verify(&checkpoint, &key).is_ok())
        });
        if !holds {
            tracing::warn!(partner = self.partner.name, size = cosigned.size, "a cosignature does not hold");
            return;
        }
        self.met = Some((cosigned.size, self.context.handle.now()));
        self.checkpoints.drain(..at);
        self.evidence.push(Evidence::Cosignature { by: self.partner.name.clone(), checkpoint, cosigned });
    }

    async fn conclude(&mut self) -> Result<(), LinkError> {
        let (outcomes, evidence) = (std::mem::take(&mut self.concluded), std::mem::take(&mut self.evidence));
        if outcomes.is_empty() && evidence.is_empty() {
            return Ok(());
        }
        let done = self.context.handle.with(move |feeds| feeds.conclude(&outcomes, &evidence, feeds.clock().now())).await?;
        done.map_err(|why| LinkError::Ours(why.to_string()))
    }
}

/// The first of the last entries before `next` that were signed at this moment or later. Times in a feed may be a little out of
/// order: a whole page must be older.
fn first_since(reader: &Reader, feed: &Feed, next: u64, since: i64) -> Result<u64, FeedError> {
    let mut first = next;
    while first > 0 {
        let page = first.saturating_sub(BATCH_ENTRIES_MAX as u64);
        let (mut young, mut dated) = (false, false);
        for row in reader.rows(feed.id, page, (first - page) as usize)? {
            if let Some(at) = lotline_policy::recorded(&Summary::read(&row.summary)?.facts) {
                (young, dated) = (young || at >= since, true);
            }
        }
        // A page of releases alone says nothing about time.
        if dated && !young {
            return Ok(first);
        }
        first = page;
    }
    Ok(0)
}

/// About how many bytes of a frame an entry takes.
fn size_of(cleared: &Cleared) -> usize {
    cleared.view().map_or(40, |view| view.core.len() + view.disclosures.iter().map(|of| of.bytes().len() + 4).sum::<usize>())
}

/// The records before `from` that some of the next entries release.
fn released_before(reader: &Reader, feed: &Feed, from: u64, wanted: usize) -> Result<BTreeSet<u64>, FeedError> {
    let mut rows = reader.rows(feed.id, from, wanted)?;
    if rows.len() < wanted {
        // The index lags behind the journal by a few commits: wait for it.
        reader.settle()?;
        rows = reader.rows(feed.id, from, wanted)?;
    }
    let mut records = BTreeSet::new();
    for row in rows {
        if Summary::read(&row.summary)?.facts.is_release() {
            let core = reader.core(&row)?.ok_or(StateError("release"))?;
            records.extend(release_of(&core).map(|of| of.seq).filter(|seq| *seq < from));
        }
    }
    Ok(records)
}

/// Clears one stored entry of a feed that is ours, or of the viewer's own that we write.
pub(crate) fn clear_row(
    reader: &Reader,
    snapshot: &Snapshot,
    feed: &Feed,
    viewer: &Viewer,
    row: &crate::store::Row,
    (policy, at): (&Policy, Moment),
) -> Result<Cleared, FeedError> {
    let whole = Whole::read(reader, snapshot, feed, row)?;
    if !feed.ours && !feed.origin.is_org() {
        let party = snapshot.book.get(&viewer.partner).map(|partner| partner.party);
        let cleared = party.and_then(|party| Cleared::to_its_owner(&viewer.partner, party, &whole.item()));
        return cleared.ok_or(StateError("signed bytes of a record").into());
    }
    // Entries that hide nothing say whose keys are valid: index 0 of a data feed, and the org feed.
    if row.seq == 0 || feed.origin.is_org() {
        return Cleared::own_feed_entry(&viewer.partner, &whole.item()).ok_or(StateError("signed bytes of a record").into());
    }
    match whole.record_of(reader, snapshot, feed)? {
        Some(record) => Ok(lotline_policy::clear_release(policy, viewer, &whole.item(), &record.item(), at)),
        None => Ok(lotline_policy::clear(policy, viewer, &whole.item(), at)),
    }
}
