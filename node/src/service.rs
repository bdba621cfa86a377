//! Joins the rooms: the feeds thread, which owns the home, and the handle by which everybody else reaches it.
//!
//! Three loops with one owner each: the feeds thread (synchronous, the only writer), the links task (network) and the
//! API task. The clock is read here and nowhere else.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::config::{Home, HomeError};
use crate::feeds::{FeedError, Feeds, GROUP_MAX, Published, Snapshot, Submission};
use crate::keys::{KeyError, Keys};
use crate::store::{self, Opened, Reader};

/// Commands waiting for the feeds thread. Each is one request of one task; more than that means "busy".
const WAITING_MAX: usize = 1024;

/// The target of events for the audit log of `lotline run --audit-log`: who came and went, what was changed, what left. Never
/// content. Each has the field `event`; docs/operating.md lists them.
pub const AUDIT: &str = "lotline_audit";

/// Seconds since 1970, now.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A time of [`now`] as RFC 3339, UTC.
pub fn time_text(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| seconds.to_string(), |time| time.to_string())
}

/// The day of a time of [`now`], UTC, as 2027-06-30.
pub fn day_text(seconds: u64) -> String {
    time_text(seconds).split('T').next().unwrap_or_default().to_owned()
}

/// The first second of a day written as 2027-06-30, UTC.
pub fn day(text: &str) -> Option<u64> {
    let date: jiff::civil::Date = text.parse().ok()?;
    u64::try_from(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second()).ok()
}

/// The exact time now as RFC 3339 with milliseconds, UTC: what a record says of its recording.
pub fn exact_time_text() -> String {
    let millis = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let time = i64::try_from(millis).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    time.map_or_else(|| time_text(now()), |time| time.to_string())
}

/// A home that could not be opened, or whose feeds thread has ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its store.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The feeds thread has ended.
    #[error("the node is stopping")]
    Stopped,
}

type Work = Box<dyn FnOnce(&mut Feeds) + Send>;

enum Command {
    Submit(Box<Submission>, oneshot::Sender<Result<Published, Arc<FeedError>>>),
    With(Work),
}

/// Reaches the feeds thread. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    reader: Reader,
    clock: Clock,
}

/// An open home: the handle, and the thread behind it.
pub struct Service {
    /// Reaches it.
    pub handle: Handle,
    /// The home.
    pub home: Home,
    /// Its keys.
    pub keys: Arc<Keys>,
    /// What opening found.
    pub opened: Opened,
    thread: JoinHandle<Result<(), FeedError>>,
}

impl Service {
    /// Opens a home and starts its feeds thread. `progress` hears of steps that take long.
    pub fn open(home: Home, progress: &dyn Fn(store::Progress)) -> Result<Service, ServiceError> {
        Service::open_by(Clock::system(), home, progress)
    }

    /// The same by another clock than the computer's.
    pub fn open_by(clock: Clock, home: Home, progress: &dyn Fn(store::Progress)) -> Result<Service, ServiceError> {
        home.config()?;
        let keys = Arc::new(Keys::read(&home.keys())?);
        let (feeds, opened, snapshots) = Feeds::open_by(clock.clone(), &home.store(), keys.clone(), progress)?;
        let (commands, waiting) = mpsc::channel(WAITING_MAX);
        let handle = Handle { commands, snapshots, reader: feeds.reader().clone(), clock };
        let thread = std::thread::Builder::new()
            .name("feeds".into())
            .spawn(move || run(feeds, waiting))
            .map_err(|source| ServiceError::Home(HomeError::File { path: PathBuf::from("feeds thread"), source }))?;
        Ok(Service { handle, home, keys, opened, thread })
    }

    /// An orderly end: waits for what is under way. Every other clone of the handle must be gone or idle.
    pub fn close(self) -> Result<(), FeedError> {
        drop(self.handle);
        self.thread.join().unwrap_or(Ok(()))
    }
}

/// The feeds thread: takes what waits. Submissions that wait together are committed together.
fn run(mut feeds: Feeds, mut waiting: mpsc::Receiver<Command>) -> Result<(), FeedError> {
    let mut held = None;
    while let Some(command) = held.take().or_else(|| waiting.blocking_recv()) {
        match command {
            Command::With(work) => work(&mut feeds),
            Command::Submit(submission, answer) => {
                let (mut submissions, mut answers) = (vec![*submission], vec![answer]);
                while submissions.len() < GROUP_MAX {
                    match waiting.try_recv() {
                        Ok(Command::Submit(submission, answer)) => {
                            submissions.push(*submission);
                            answers.push(answer);
                        }
                        Ok(other) => {
                            held = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                let now = feeds.clock().now();
                answer_all(feeds.submit(submissions, now), answers);
            }
        }
    }
    feeds.close()
}

fn answer_all(
    outcome: Result<Vec<Result<Published, FeedError>>, FeedError>,
    answers: Vec<oneshot::Sender<Result<Published, Arc<FeedError>>>>,
) {
    match outcome {
        Ok(outcomes) => {
            for (outcome, answer) in outcomes.into_iter().zip(answers) {
                // Whoever asked may have gone meanwhile.
                let _ = answer.send(outcome.map_err(Arc::new));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

impl Handle {
    /// What everybody may see now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// Hears of every change.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Reads beside the writer.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The clock, watched.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What the clock shows: for what is said and written down. Rules are asked by [`Clock::moment`].
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Does something on the feeds thread and waits for it.
    pub async fn with<T: Send + 'static>(&self, work: impl FnOnce(&mut Feeds) -> T + Send + 'static) -> Result<T, ServiceError> {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(move |feeds: &mut Feeds| drop(answer.send(work(feeds))));
        self.commands.send(Command::With(work)).await.map_err(|_| ServiceError::Stopped)?;
        answered.await.map_err(|_| ServiceError::Stopped)
    }

    /// The same, from a thread that may block.
    pub fn with_blocking<T: Send + 'static>(&self, work: impl FnOnce(&mut Feeds) -> T + Send + 'static) -> Result<T, ServiceError> {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(move |feeds: &mut Feeds| drop(answer.send(work(feeds))));
        self.commands.blocking_send(Command::With(work)).map_err(|_| ServiceError::Stopped)?;
        answered.blocking_recv().map_err(|_| ServiceError::Stopped)
    }

    /// Publishes one record; those that wait at the same time share one commit.
    pub async fn submit(&self, submission: Submission) -> Result<Result<Published, Arc<FeedError>>, ServiceError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Submit(Box::new(submission), answer)).await.map_err(|_| ServiceError::Stopped)?;
        answered.await.map_err(|_| ServiceError::Stopped)
    }
}

/// How the links to partners stand, for `status` and the page.
#[derive(Clone, Debug, Default)]
pub struct LinkBoard(Arc<Mutex<BoardInner>>);

#[derive(Debug, Default)]
struct BoardInner {
    partners: std::collections::BTreeMap<String, PartnerLink>,
    listening: Vec<String>,
    relays: Relays,
}

/// How it stands with relays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relays {
    /// Those at which we keep a place, or try to.
    pub places: Vec<crate::net::Place>,
    /// What this node does for others as one, if it is one.
    pub load: Option<crate::net::Load>,
}

/// How the link to one partner stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartnerLink {
    /// Whether it is connected.
    pub connected: bool,
    /// What it offers us: origin, size when last told, the share's filter in words.
    pub offers: Vec<(String, u64, String)>,
    /// Feeds we have caught up with, and the size at that time.
    pub caught_up: std::collections::BTreeMap<String, u64>,
    /// Feeds it follows of ours, and how far it acknowledged.
    pub follows: std::collections::BTreeMap<String, u64>,
    /// What it lets us send of these before it has acknowledged more, in bytes.
    pub credit: std::collections::BTreeMap<String, u64>,
    /// The connection that is up.
    pub path: Option<Path>,
    /// Dials that failed since it was last connected.
    pub dials_failed: u64,
    /// How often it was connected since the node started.
    pub connections: u64,
    /// The last thing that went wrong.
    pub trouble: Option<String>,
}

/// How far one side is behind the other in a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The feed.
    pub origin: String,
    /// Ours, and the partner has not acknowledged these entries; else the partner's, and they are not here.
    pub ours: bool,
    /// How many entries.
    pub entries: u64,
}

impl PartnerLink {
    /// Of each feed that one follows of the other, as far as is known.
    pub fn lags(&self, snapshot: &Snapshot) -> Vec<Lag> {
        let size = |origin: &String| snapshot.feeds.get(origin).map_or(0, crate::feeds::Feed::size);
        let out = self.follows.iter().map(|(origin, next)| Lag {
            origin: origin.clone(),
            ours: true,
            entries: size(origin).saturating_sub(*next),
        });
        let followed = self.offers.iter().filter(|(origin, _, _)| snapshot.feeds.contains_key(origin));
        let back =
            followed.map(|(origin, offered, _)| Lag { origin: origin.clone(), ours: false, entries: offered.saturating_sub(size(origin)) });
        out.chain(back).collect()
    }
}

/// The way to a partner that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The other end, as `/ip4/192.0.2.1/tcp/4001`.
    pub remote: String,
    /// Whether it was our dial.
    pub dialled_by_us: bool,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

impl LinkBoard {
    /// Changes what is known of a partner.
    pub fn update(&self, partner: &str, change: impl FnOnce(&mut PartnerLink)) {
        let mut board = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(board.partners.entry(partner.to_owned()).or_default());
    }

    /// What is known of a partner.
    pub fn of(&self, partner: &str) -> PartnerLink {
        let board = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        board.partners.get(partner).cloned().unwrap_or_default()
    }

    /// Where we listen.
    pub fn set_listening(&self, addresses: Vec<String>) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).listening = addresses;
    }

    /// Where we listen.
    pub fn listening(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).listening.clone()
    }

    /// How it stands with relays.
    pub fn set_relays(&self, relays: Relays) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).relays = relays;
    }

    /// How it stands with relays, as of a few seconds ago.
    pub fn relays(&self) -> Relays {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).relays.clone()
    }
}
