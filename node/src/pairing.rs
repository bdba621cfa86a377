//! Getting to know each other by a code: who may still come, who has come, and what its owner has to say to that.
//!
//! Reading order: [`code`] (nine characters), [`handshake`] (what two nodes say to each other), and here what becomes of it. A
//! pairing ends in the partner book and nowhere else: it is no right to see anything.
//!
//! A pairing is kept in memory for ten minutes. Those made for many suppliers at once are *bound* to a name and a group, last for
//! days, and stand in a file of the home that only its owner can read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::invitation::Invitation;
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
/// Pairings with guests at once.
const GUESTS_MAX: usize = 16;

/// Pairings of a running node. Cheap to clone.
#[derive(Clone)]
pub struct Pairings(Arc<Shared>);

struct Shared {
    handle: Handle,
    file: PathBuf,
    inner: Mutex<Inner>,
    /// Numbers of pairings that met and need nobody's word.
    bound: mpsc::Sender<u64>,
    conversations: Arc<tokio::sync::Semaphore>,
}

#[derive(Default)]
struct Inner {
    open: BTreeMap<u64, Pairing>,
    next: u64,
    net: Option<Net>,
    /// Where we are reached, for what we say of ourselves.
    addresses: Vec<String>,
}

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
    /// Those of a home. Returns the numbers of bound pairings that have met, for whoever puts them into the book.
    pub fn open(handle: Handle, file: &Path) -> Result<(Pairings, mpsc::Receiver<u64>), Refused> {
        let kept = match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice::<Vec<Pairing>>(&bytes).map_err(|why| refused(file, why))?,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(why) => return Err(refused(file, why)),
        };
        let (bound, met) = mpsc::channel(GUESTS_MAX);
        let open: BTreeMap<u64, Pairing> = (1..).zip(kept).collect();
        let inner = Inner { next: open.len() as u64 + 1, open, ..Inner::default() };
        let conversations = Arc::new(tokio::sync::Semaphore::new(GUESTS_MAX));
        Ok((Pairings(Arc::new(Shared { handle, file: file.into(), inner: Mutex::new(inner), bound, conversations })), met))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network it goes over, from now on, and under which addresses we are reached.
    pub async fn use_net(&self, net: Net, addresses: Vec<String>) {
        {
            let mut inner = self.inner();
            inner.net = Some(net);
            inner.addresses = addresses;
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
        let now = self.0.handle.now();
        let (net, expecting) = {
            let mut inner = self.inner();
            for pairing in inner.open.values_mut().filter(|pairing| pairing.until <= now && pairing.waits()) {
                pairing.state = State::Over("the code has expired".into());
            }
            // What came to nothing is still told for a while.
            inner.open.retain(|_, pairing| now < pairing.until.saturating_add(CODE_FOR.as_secs()));
            (inner.net.clone(), inner.open.values().any(Pairing::waits))
        };
        if let Some(net) = net {
            net.admit_guests(expecting).await;
        }
    }

    /// Expects somebody who has this code (a new one if none is given). Returns the number of the pairing, and the code.
    pub async fn expect(&self, code: Option<Code>) -> Result<(u64, Code), Refused> {
        let begun = self.begin(code)?;
        self.look().await;
        Ok(begun)
    }

    /// Calls the other side, which invited with this code, until it answers, says that the code is wrong, or the code expires.
    pub async fn call(&self, code: Code, address: Address) -> Result<u64, Refused> {
        let (number, code) = self.begin(Some(code))?;
        tokio::spawn(self.clone().keep_calling(number, code, address, false));
        Ok(number)
    }

    /// Calls the other side with a new code, until somebody has typed it in there or it expires.
    pub async fn call_and_wait(&self, address: Address) -> Result<(u64, Code), Refused> {
        let (number, code) = self.begin(None)?;
        tokio::spawn(self.clone().keep_calling(number, code.clone(), address, true));
        Ok((number, code))
    }

    fn begin(&self, code: Option<Code>) -> Result<(u64, Code), Refused> {
        let until = self.0.handle.now() + CODE_FOR.as_secs();
        let mut inner = self.inner();
        let by_hand = inner.open.values().filter(|pairing| pairing.bound.is_none() && pairing.waits()).count();
        if by_hand >= OPEN_MAX {
            return Err(Refused::TooMany(by_hand));
        }
        if let Some(code) = &code {
            // The same code once more is the same pairing begun anew.
            inner.open.retain(|_, pairing| pairing.bound.is_some() || pairing.code != *code);
        }
        let code = code.or_else(|| Code::new(|number| inner.is_free(number))).ok_or(Refused::TooMany(inner.open.len()))?;
        let number = inner.add(Pairing { code: code.clone(), until, tries: TRIES, bound: None, state: State::Open });
        Ok((number, code))
    }

    /// Makes bound invitations, each with a code of its own, and keeps them in the file. One that is there already for a supplier's
    /// number is replaced.
    pub async fn bind(&self, all: Vec<Bound>, until: u64) -> Result<Vec<(Bound, Code)>, Refused> {
        let made = {
            let mut inner = self.inner();
            let again = |pairing: &Pairing| pairing.bound.as_ref().is_some_and(|one| all.iter().any(|new| new.number == one.number));
            let others = inner.open.values().filter(|pairing| !again(pairing)).count();
            if others + all.len() > BOUND_MAX {
                return Err(Refused::TooMany(others));
            }
            inner.open.retain(|_, pairing| !again(pairing));
            let mut made = Vec::new();
            for bound in all {
                let code = Code::new(|number| inner.is_free(number)).ok_or(Refused::TooMany(inner.open.len()))?;
                inner.add(Pairing { code: code.clone(), until, tries: TRIES, bound: Some(bound.clone()), state: State::Open });
                made.push((bound, code));
            }
            self.keep(&inner)?;
            made
        };
        self.look().await;
        Ok(made)
    }

    /// Writes the bound ones down.
    fn keep(&self, inner: &Inner) -> Result<(), Refused> {
        let bound: Vec<&Pairing> = inner.open.values().filter(|pairing| pairing.bound.is_some() && pairing.waits()).collect();
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
                && let Err(why) = self.keep(&inner)
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
        let outcome = handshake::answer(&mut stream, ends, |number| self.asked(number)).await;
        let met = {
            let mut inner = self.inner();
            match outcome {
                Ok((asked, met)) => inner.met(asked, met),
                Err((asked, why)) => {
                    tracing::info!(caller = %ends.caller, %why, "a pairing did not succeed");
                    tracing::info!(target: AUDIT, event = "pairing failed", peer = %ends.caller, %why);
                    inner.failed(asked, &why);
                    None
                }
            }
        };
        if let Some(number) = met {
            let _ = self.0.bound.try_send(number);
        }
        finish(&net, stream).await;
        self.look().await;
    }

    /// The open invitation with this number, and what we say of ourselves to who knows it.
    fn asked(&self, number: u16) -> Option<(Code, Claim)> {
        let now = self.0.handle.now();
        let inner = self.inner();
        let pairing = inner.open.values().find(|pairing| pairing.code.number() == number && pairing.waits() && now < pairing.until)?;
        Some((pairing.code.clone(), self.claim(&inner, pairing.bound.is_none())))
    }

    fn claim(&self, inner: &Inner, attended: bool) -> Claim {
        let snapshot = self.0.handle.snapshot();
        let (party, name, peer) = (snapshot.party, snapshot.name.clone(), snapshot.peer.clone());
        Claim { invitation: Invitation { party, name, peer, addresses: inner.addresses.clone() }, attended }
    }

    async fn keep_calling(self, number: u64, code: Code, address: Address, may_come_later: bool) {
        while self.get(number).is_some_and(|pairing| pairing.waits()) {
            let why = match self.call_once(&code, &address).await {
                Ok(met) => {
                    if let Some(pairing) = self.inner().open.get_mut(&number) {
                        pairing.state = State::Met(Box::new(met));
                    }
                    return;
                }
                Err(why) => why,
            };
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
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Pair(#[from] PairError),
}

impl CallError {
    /// Whether calling again cannot help.
    fn is_final(&self) -> bool {
        matches!(self, CallError::Pair(PairError::Deceived | PairError::Version | PairError::Malformed) | CallError::Open(OpenError::Known))
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

    /// The conversation succeeded. Gives the number of a pairing that needs nobody's word.
    fn met(&mut self, asked: u16, met: Met) -> Option<u64> {
        let (number, pairing) = self.open.iter_mut().find(|(_, pairing)| pairing.code.number() == asked && pairing.waits())?;
        tracing::info!(with = met.line(), "a pairing succeeded");
        tracing::info!(target: AUDIT, event = "paired", with = met.line());
        pairing.state = State::Met(Box::new(met));
        pairing.bound.is_some().then_some(*number)
    }

    fn failed(&mut self, asked: Option<u16>, why: &PairError) {
        let asked = asked.and_then(|asked| self.open.values_mut().find(|pairing| pairing.code.number() == asked && pairing.waits()));
        if let Some(pairing) = asked {
            pairing.tries -= 1;
            pairing.state = match pairing.tries {
                0 => State::Over("the code was tried wrongly three times, and is burnt: invite once more".into()),
                left => State::Tried(format!("somebody tried a wrong code ({why}); {left} tries are left")),
            };
        }
    }
}

impl Pairing {
    /// Whether somebody may still come.
    pub fn waits(&self) -> bool {
        matches!(self.state, State::Open | State::Tried(_))
    }
}
