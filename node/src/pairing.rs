//! Getting to know each other by a code: who may still come, who has come, and what its owner has to say to that.
//!
//! Reading order: [`code`] (nine characters), [`handshake`] (what two nodes say to each other), and here what becomes of it. A
//! pairing ends in the partner book and nowhere else: it is no right to see anything.
//!
//! A pairing is kept in memory for ten minutes. Those made for many suppliers at once are *bound* to a name and a group, last for
//! days, and stand in a file of the home that only its owner can read.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::invitation::{ADDRESSES_MAX, Invitation};
use crate::net::{Address, Net, OpenError, Stream};
use crate::platform;
use crate::service::{AUDIT, Handle};

pub mod code;
pub mod handshake;

use code::{Code, NUMBERS};
use handshake::{Claim, Ends, Met, PairError};

/// How long a code counts.
pub const CODE_FOR: Duration = Duration::from_secs(600);
/// Wrong tries after which a code is burnt.
pub const TRIES: u8 = 3;
/// Pairings by hand that are open at once.
const OPEN_MAX: usize = 16;
/// Bound invitations that are open at once: enough numbers stay free.
pub const BOUND_MAX: usize = NUMBERS as usize / 2;
/// How often the other side is called until it answers. An unknown caller may knock three times a minute.
const CALL_EVERY: Duration = Duration::from_secs(25);
/// How often codes that have expired are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often a bound pairing is offered again that could not be put into the book.
const OFFERED_EVERY: Duration = Duration::from_secs(60);
/// Pairings with guests at once.
const GUESTS_MAX: usize = 16;

/// Pairings of a running node. Cheap to clone.
#[derive(Clone)]
pub struct Pairings(Arc<Shared>);

struct Shared {
    handle: Handle,
    file: PathBuf,
    inner: Mutex<Inner>,
    /// A bound pairing has met: it needs nobody's word.
    bound_met: Notify,
    /// Held while the door is opened or shut, so that what was decided last is done last.
    door: tokio::sync::Mutex<()>,
    conversations: Arc<tokio::sync::Semaphore>,
}

#[derive(Default)]
struct Inner {
    open: BTreeMap<u64, Pairing>,
    next: u64,
    net: Option<Net>,
    /// Where we are reached, for what we say of ourselves.
    reached: Option<Reached>,
}

/// Tells under which addresses we are reached by now.
pub type Reached = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// One pairing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pairing {
    /// As it is read to the other owner.
    #[serde(with = "as_text")]
    pub code: Code,
    /// When it ends, in seconds since 1970.
    pub until: u64,
    /// Wrong tries that are left.
    pub tries: u8,
    /// Whom it was made for, when no person is asked on this side.
    pub bound: Option<Bound>,
    /// What has happened.
    #[serde(skip)]
    pub state: State,
    /// Conversations under way: never more than tries are left, or who speaks on many connections at once had more.
    #[serde(skip)]
    talking: u8,
    /// We call: nobody is let in for it.
    #[serde(skip)]
    calls: bool,
}

/// What a bound invitation leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The supplier's number with us.
    pub number: String,
    /// What we will call it.
    pub name: String,
    /// The group of partners it joins.
    pub group: String,
}

/// How far a pairing is.
#[derive(Clone, Debug, Default)]
pub enum State {
    /// Nobody has come yet; the last thing that went wrong.
    #[default]
    Open,
    /// The same, and why it did not work so far.
    Tried(String),
    /// Both sides have the digits; the owner has to say what it thinks of that.
    Met(Box<Met>),
    /// It will come to nothing.
    Over(String),
}

/// A pairing that cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Too many at once.
    #[error("{0} pairings are open; end one first")]
    TooMany(usize),
    /// The first three characters of the code are those of another invitation here.
    #[error("another invitation of yours begins like this code: ask your partner to invite once more")]
    Taken,
    /// The file of bound invitations.
    #[error("`{path}`: {why}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

mod as_text {
    use super::Code;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(code: &Code, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(code)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Code, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl Pairings {
    /// Those of a home.
    pub fn open(handle: Handle, file: &Path) -> Result<Pairings, Refused> {
        let kept = match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice::<Vec<Pairing>>(&bytes).map_err(|why| refused(file, why))?,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(why) => return Err(refused(file, why)),
        };
        let open: BTreeMap<u64, Pairing> = (1..).zip(kept).collect();
        let inner = Inner { next: open.len() as u64 + 1, open, ..Inner::default() };
        let conversations = Arc::new(tokio::sync::Semaphore::new(GUESTS_MAX));
        Ok(Pairings(Arc::new(Shared {
            handle,
            file: file.into(),
            inner: Mutex::new(inner),
            bound_met: Notify::new(),
            door: Default::default(),
            conversations,
        })))
    }

    /// Waits until a bound pairing has met, or for a minute, and gives the numbers of those that have: also of those that could not be
    /// put into the book before (rules with edits, too many at once).
    pub async fn bound_that_met(&self) -> Vec<u64> {
        let _ = tokio::time::timeout(OFFERED_EVERY, self.0.bound_met.notified()).await;
        let inner = self.inner();
        let met = inner.open.iter().filter(|(_, pairing)| pairing.bound.is_some() && matches!(pairing.state, State::Met(_)));
        met.map(|(number, _)| *number).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network it goes over, from now on, and under which addresses we are reached.
    pub async fn use_net(&self, net: Net, reached: Reached) {
        {
            let mut inner = self.inner();
            inner.net = Some(net);
            inner.reached = Some(reached);
        }
        self.look().await;
    }

    /// Ends what has expired, and shuts the door when nobody is expected. Every few seconds, for as long as the node runs.
    pub async fn watch(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look().await;
        }
    }

    /// Lets guests in exactly while one is expected.
    async fn look(&self) {
        let _door = self.0.door.lock().await;
        let now = self.0.handle.now();
        let (net, expecting) = {
            let mut inner = self.inner();
            for pairing in inner.open.values_mut().filter(|pairing| pairing.until <= now && pairing.waits()) {
                pairing.state = State::Over("the code has expired".into());
            }
            // What came to nothing is still told for a while.
            inner.open.retain(|_, pairing| now < pairing.until.saturating_add(CODE_FOR.as_secs()));
            (inner.net.clone(), inner.open.values().any(|pairing| pairing.waits() && !pairing.calls))
        };
        if let Some(net) = net {
            net.admit_guests(expecting).await;
        }
    }

    /// Expects somebody who has this code (a new one if none is given). Returns the number of the pairing, and the code.
    pub async fn expect(&self, code: Option<Code>) -> Result<(u64, Code), Refused> {
        let begun = self.begin(code, false)?;
        self.look().await;
        Ok(begun)
    }

    /// Calls the other side, which invited with this code, until it answers, says that the code is wrong, or the code expires.
    pub async fn call(&self, code: Code, address: Address) -> Result<u64, Refused> {
        let (number, code) = self.begin(Some(code), true)?;
        tokio::spawn(self.clone().keep_calling(number, code, address, false));
        Ok(number)
    }

    /// Calls the other side with a new code, until somebody has typed it in there or it expires.
    pub async fn call_and_wait(&self, address: Address) -> Result<(u64, Code), Refused> {
        let (number, code) = self.begin(None, true)?;
        tokio::spawn(self.clone().keep_calling(number, code.clone(), address, true));
        Ok((number, code))
    }

    fn begin(&self, code: Option<Code>, calls: bool) -> Result<(u64, Code), Refused> {
        let until = self.0.handle.now() + CODE_FOR.as_secs();
        let mut inner = self.inner();
        let by_hand = inner.open.values().filter(|pairing| pairing.bound.is_none() && pairing.waits()).count();
        if by_hand >= OPEN_MAX {
            return Err(Refused::TooMany(by_hand));
        }
        if let Some(code) = &code {
            // The same code once more is the same pairing begun anew.
            inner.open.retain(|_, pairing| pairing.bound.is_some() || pairing.code != *code);
            if !calls && !inner.is_free(code.number()) {
                return Err(Refused::Taken);
            }
        }
        let code = code.or_else(|| Code::new(|number| inner.is_free(number))).ok_or(Refused::TooMany(inner.open.len()))?;
        let number = inner.add(Pairing::new(code.clone(), until, None, calls));
        Ok((number, code))
    }

    /// Makes bound invitations, each with a code of its own, and keeps them in the file. One that is there already for a supplier's
    /// number is replaced.
    pub async fn bind(&self, all: Vec<Bound>, until: u64) -> Result<Vec<(Bound, Code)>, Refused> {
        let made = {
            let mut inner = self.inner();
            let invited: HashSet<&str> = all.iter().map(|bound| bound.number.as_str()).collect();
            let again = |pairing: &Pairing| pairing.bound.as_ref().is_some_and(|one| invited.contains(one.number.as_str()));
            let mut open = inner.open.clone();
            open.retain(|_, pairing| !again(pairing));
            if open.len() + all.len() > BOUND_MAX {
                return Err(Refused::TooMany(open.len()));
            }
            let mut numbers: HashSet<u16> = open.values().map(|pairing| pairing.code.number()).collect();
            let mut made = Vec::new();
            let mut next = inner.next;
            for bound in &all {
                let code = Code::new(|number| !numbers.contains(&number)).ok_or(Refused::TooMany(open.len()))?;
                numbers.insert(code.number());
                open.insert(next, Pairing::new(code.clone(), until, Some(bound.clone()), false));
                next += 1;
                made.push((bound.clone(), code));
            }
            self.keep(&open)?;
            (inner.open, inner.next) = (open, next);
            made
        };
        self.look().await;
        Ok(made)
    }

    /// Writes the bound ones down.
    fn keep(&self, open: &BTreeMap<u64, Pairing>) -> Result<(), Refused> {
        let bound: Vec<&Pairing> =
            open.values().filter(|pairing| pairing.bound.is_some() && !matches!(pairing.state, State::Over(_))).collect();
        let bytes = serde_json::to_vec(&bound).map_err(|why| refused(&self.0.file, why))?;
        platform::write_secret(&self.0.file, &bytes).map_err(|why| refused(&self.0.file, why))
    }

    /// All that are open or were lately.
    pub fn list(&self) -> Vec<(u64, Pairing)> {
        self.inner().open.iter().map(|(number, pairing)| (*number, pairing.clone())).collect()
    }

    /// One of them.
    pub fn get(&self, number: u64) -> Option<Pairing> {
        self.inner().open.get(&number).cloned()
    }

    /// Ends one: it is in the book, or will never be.
    pub async fn end(&self, number: u64) -> Option<Pairing> {
        let ended = {
            let mut inner = self.inner();
            let ended = inner.open.remove(&number)?;
            if ended.bound.is_some()
                && let Err(why) = self.keep(&inner.open)
            {
                tracing::warn!(%why, "a used invitation is still in its file");
            }
            ended
        };
        self.look().await;
        Some(ended)
    }

    /// Somebody came. Runs the conversation in a task of its own; too many at once find no answer.
    pub fn guest(&self, stream: Stream) {
        let Ok(place) = self.0.conversations.clone().try_acquire_owned() else { return };
        let pairings = self.clone();
        tokio::spawn(async move {
            pairings.answer(stream).await;
            drop(place);
        });
    }

    async fn answer(&self, mut stream: Stream) {
        let Some(net) = self.inner().net.clone() else { return };
        let ends = Ends { caller: stream.peer(), host: net.peer() };
        let begun = std::sync::Mutex::new(None);
        let find = |number| {
            let (of, code, claim) = self.asked(number)?;
            *begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(of);
            Some((code, claim))
        };
        let here = || *begun.lock().unwrap_or_else(PoisonError::into_inner);
        let take = |met: &Met| here().is_some_and(|of| self.inner().take(of, met));
        let outcome = handshake::answer(&mut stream, ends, find, take).await;
        if let Some(of) = here() {
            let mut inner = self.inner();
            inner.ended(of, outcome.as_ref().err());
            let bound = inner.open.get(&of).filter(|pairing| pairing.bound.is_some());
            if bound.is_some_and(|pairing| matches!(pairing.state, State::Met(_))) {
                self.0.bound_met.notify_one();
            }
            if bound.is_some()
                && let Err(why) = self.keep(&inner.open)
            {
                tracing::warn!(%why, "the tries that are left were not written down");
            }
        }
        if let Err(why) = &outcome {
            tracing::info!(caller = %ends.caller, %why, "a pairing did not succeed");
            tracing::info!(target: AUDIT, event = "pairing failed", peer = %ends.caller, %why);
        }
        finish(&net, stream).await;
        self.look().await;
    }

    /// The open invitation with this number, and what we say of ourselves to who knows it. A conversation about it has begun.
    fn asked(&self, number: u16) -> Option<(u64, Code, Claim)> {
        let now = self.0.handle.now();
        let mut inner = self.inner();
        let fits = |pairing: &Pairing| {
            pairing.code.number() == number && pairing.waits() && now < pairing.until && pairing.talking < pairing.tries
        };
        let (of, pairing) = inner.open.iter_mut().find(|(_, pairing)| fits(pairing))?;
        pairing.talking += 1;
        let (of, code, attended) = (*of, pairing.code.clone(), pairing.bound.is_none());
        Some((of, code, self.claim(&inner, attended)))
    }

    fn claim(&self, inner: &Inner, attended: bool) -> Claim {
        let snapshot = self.0.handle.snapshot();
        let (party, name, peer) = (snapshot.party, snapshot.name.clone(), snapshot.peer.clone());
        let addresses = inner.reached.as_ref().map(|reached| reached()).unwrap_or_default();
        let org = snapshot.orgs[&party].entries().to_vec();
        Claim { invitation: Invitation { party, name, peer, addresses }, org, attended }
    }

    async fn keep_calling(self, number: u64, code: Code, address: Address, may_come_later: bool) {
        while self.get(number).is_some_and(|pairing| pairing.waits()) {
            let why = match self.call_once(&code, &address).await {
                Ok(mut met) => {
                    // Where it answered is where it is reached, whatever it says of itself.
                    let addresses = &mut met.claim.invitation.addresses;
                    addresses.retain(|other| *other != address.to_string());
                    addresses.insert(0, address.to_string());
                    addresses.truncate(ADDRESSES_MAX);
                    self.inner().take(number, &met);
                    return;
                }
                Err(why) => why,
            };
            if let CallError::Pair(why) = &why {
                tracing::info!(target: AUDIT, event = "pairing failed", %why);
            }
            let wrong = matches!(why, CallError::Pair(PairError::WrongCode));
            if let Some(pairing) = self.inner().open.get_mut(&number).filter(|pairing| pairing.waits()) {
                let last = why.is_final() || wrong && !may_come_later;
                pairing.state = if last { State::Over(why.to_string()) } else { State::Tried(why.to_string()) };
            }
            tokio::time::sleep(CALL_EVERY).await;
        }
    }

    async fn call_once(&self, code: &Code, address: &Address) -> Result<Met, CallError> {
        let (net, claim) = {
            let inner = self.inner();
            (inner.net.clone(), self.claim(&inner, true))
        };
        let net = net.ok_or(OpenError::Stopped)?;
        let mut stream = net.visit(address.clone()).await?;
        let ends = Ends { caller: net.peer(), host: stream.peer() };
        let met = handshake::call(&mut stream, ends, code, &claim).await;
        finish(&net, stream).await;
        Ok(met?)
    }
}

/// Lets what was written last arrive, then closes the connection.
async fn finish(net: &Net, mut stream: Stream) {
    use tokio::io::AsyncWriteExt as _;
    let _ = tokio::time::timeout(Duration::from_secs(2), stream.shutdown()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    net.part(stream).await;
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{}", explain(.0))]
    Open(#[from] OpenError),
    #[error(transparent)]
    Pair(#[from] PairError),
}

fn explain(why: &OpenError) -> String {
    match why {
        OpenError::Unsupported(_) => {
            "the other side has this node in its partner book already, or knows no pairing by code: it must remove the entry first".into()
        }
        other => other.to_string(),
    }
}

impl CallError {
    /// Whether calling again cannot help.
    fn is_final(&self) -> bool {
        let told =
            matches!(self, CallError::Pair(PairError::Deceived | PairError::BrokenOff(_) | PairError::Version | PairError::Malformed));
        told || matches!(self, CallError::Open(OpenError::Known | OpenError::Unsupported(_) | OpenError::Newer(_)))
    }
}

fn refused(file: &Path, why: impl std::fmt::Display) -> Refused {
    Refused::File { path: file.into(), why: why.to_string() }
}

impl Inner {
    fn is_free(&self, number: u16) -> bool {
        self.open.values().all(|pairing| pairing.code.number() != number)
    }

    fn add(&mut self, pairing: Pairing) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, pairing);
        number
    }

    /// Somebody has come for an invitation; false: it is there no more.
    fn take(&mut self, of: u64, met: &Met) -> bool {
        let Some(pairing) = self.open.get_mut(&of).filter(|pairing| pairing.waits()) else { return false };
        tracing::info!(with = met.line(), "a pairing succeeded");
        tracing::info!(target: AUDIT, event = "paired", with = met.line());
        pairing.state = State::Met(Box::new(met.clone()));
        true
    }

    /// A conversation is over.
    fn ended(&mut self, of: u64, why: Option<&PairError>) {
        let Some(pairing) = self.open.get_mut(&of) else { return };
        pairing.talking = pairing.talking.saturating_sub(1);
        let Some(why) = why.filter(|_| pairing.waits()) else { return };
        pairing.state = match why {
            PairError::WrongCode => {
                pairing.tries = pairing.tries.saturating_sub(1);
                match pairing.tries {
                    0 => State::Over("the code was tried wrongly three times, and is burnt: invite once more".into()),
                    left => State::Tried(format!("somebody tried a wrong code; {left} tries are left")),
                }
            }
            PairError::BrokenOff(_) | PairError::Deceived => State::Over(why.to_string()),
            // Before the caller has proven anything it has learned nothing.
            _ => State::Tried(why.to_string()),
        };
    }
}

impl Pairing {
    fn new(code: Code, until: u64, bound: Option<Bound>, calls: bool) -> Self {
        Self { code, until, tries: TRIES, bound, state: State::Open, talking: 0, calls }
    }

    /// Whether somebody may still come.
    pub fn waits(&self) -> bool {
        matches!(self.state, State::Open | State::Tried(_))
    }
}
