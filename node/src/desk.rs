//! The desk at which verbs on a home are done: in this process, or inside the node that runs on that home.

use std::time::{Duration, Instant};

use crate::answer::{Answer, Failure, exit};
use crate::api;
use crate::cli::HomeVerb;
use crate::config::{Config, Home};
use crate::feeds::{FeedError, Feeds};
use crate::pairing::Pairings;
use crate::service::{Handle, LinkBoard, Service, ServiceError};
use crate::store::StoreError;

/// What a verb works with.
pub struct Desk {
    /// The home.
    pub home: Home,
    /// Its configuration.
    pub config: Config,
    /// The feeds thread.
    pub handle: Handle,
    /// How the links stand, inside a running node.
    pub board: Option<LinkBoard>,
    /// Pairings by code, inside a running node.
    pub pairings: Option<Pairings>,
}

impl Desk {
    /// Does something on the feeds thread. Desks are used on threads that may block.
    pub fn feeds<T: Send + 'static>(&self, work: impl FnOnce(&mut Feeds) -> Result<T, FeedError> + Send + 'static) -> Result<T, Failure> {
        Ok(self.handle.with_blocking(work)??)
    }

    /// Waits until queries show everything committed.
    pub fn settle(&self) -> Result<(), Failure> {
        Ok(self.handle.reader().settle()?)
    }
}

/// How long a command waits for another command on the same home to end.
const BUSY_FOR: Duration = Duration::from_secs(10);
const BUSY_STEP: Duration = Duration::from_millis(50);

/// Does a verb on a home: through the running node's API when one runs there, else here.
pub fn at_home(home: Home, verb: HomeVerb) -> Result<Answer, Failure> {
    if !home.exists() {
        return Err(crate::config::HomeError::Missing(home.path().to_path_buf()).into());
    }
    let start = Instant::now();
    loop {
        if let Some(answer) = api::client::ask(&home, &verb)? {
            return answer;
        }
        match Service::open(home.clone(), &show_progress) {
            Ok(service) => return here(service, verb),
            // Another command has the home, or a node is just starting on it.
            Err(ServiceError::Feed(FeedError::Store(StoreError::Locked))) if start.elapsed() < BUSY_FOR => std::thread::sleep(BUSY_STEP),
            Err(ServiceError::Feed(FeedError::Store(StoreError::Locked))) => {
                let what = format!("another lotline is using `{}`", home.path().display());
                return Err(Failure::new(what).exit(exit::BUSY).hint("wait for it, or stop it"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn here(service: Service, verb: HomeVerb) -> Result<Answer, Failure> {
    let home = service.home.clone();
    let (answer, index_failed) = once(service, verb.clone())?;
    if answer.is_err() && index_failed {
        // The check after an unclean stop found the index wanting while the verb ran. It is marked: opening again
        // rebuilds it from the journal. Every verb may be done twice: what was saved already is recognised.
        return once(Service::open(home, &show_progress)?, verb)?.0;
    }
    answer
}

/// Does a verb, and says whether the index failed meanwhile.
fn once(service: Service, verb: HomeVerb) -> Result<(Result<Answer, Failure>, bool), Failure> {
    let desk =
        Desk { home: service.home.clone(), config: service.home.config()?, handle: service.handle.clone(), board: None, pairings: None };
    warn_of(&service);
    let answer = verb.perform(&desk);
    let index_failed = desk.handle.reader().status().index_failed;
    drop(desk);
    service.close()?;
    Ok((answer, index_failed))
}

/// Says on stderr what opening found, when there is anything to say.
pub(crate) fn warn_of(service: &Service) {
    let opened = &service.opened;
    if let Some(why) = &opened.rebuilt {
        eprintln!("note: the index was rebuilt from the journal ({why}); nothing is lost");
    }
    if opened.torn_tail_bytes > 0 {
        eprintln!("note: {} bytes of an unfinished, never acknowledged write were cut", opened.torn_tail_bytes);
    }
    for damage in &opened.damage {
        eprintln!("WARNING: damage in the journal: {damage}; run `lotline audit`");
    }
    if let Some(why) = &opened.restored {
        eprintln!("WARNING: this home was restored ({why}). It signs and sends nothing until `lotline restore --confirm`");
    }
}

/// Progress of opening on stderr, after the first second.
pub(crate) fn show_progress(progress: crate::store::Progress) {
    let what = match progress.step {
        crate::store::Step::Reading => "reading the journal",
        crate::store::Step::Indexing => "building the index",
        crate::store::Step::Auditing => "auditing",
        crate::store::Step::Copying => "copying",
    };
    show_done(what, progress.done, progress.total);
}

/// How far something is, on stderr, once it has taken a second.
pub(crate) fn show_done(what: &'static str, done: u64, total: u64) {
    use std::sync::Mutex;
    static BAR: Mutex<Option<(Instant, Option<indicatif::ProgressBar>)>> = Mutex::new(None);
    let mut bar = BAR.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (start, bar) = bar.get_or_insert_with(|| (Instant::now(), None));
    if start.elapsed() < Duration::from_secs(1) {
        return;
    }
    let bar = bar.get_or_insert_with(|| {
        let style = indicatif::ProgressStyle::with_template("{msg} {bar:30} {percent} %").expect("a fixed template");
        indicatif::ProgressBar::new(total).with_style(style)
    });
    bar.set_message(what);
    bar.set_length(total);
    bar.set_position(done);
    if done >= total {
        bar.finish_and_clear();
    }
}
