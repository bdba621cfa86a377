//! Whether this computer's clock can be believed, since rules open and end by it.
//!
//! A clock that jumps forward by more than a day pauses sharing until a partner's clock agrees or the owner says so. One that is
//! set back opens nothing: what ended stays ended by the latest time that was believed (the *mark*, which is durable), and what has
//! not begun waits for the clock itself. Knows nothing of rules, partners' rights or the store: it is told the time, the mark and
//! what partners say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lotline_policy::Moment;

/// A clock that is further ahead than this, by what has passed since it was believed, has jumped.
pub const JUMP_SECONDS_MIN: u64 = 24 * 3_600;
/// How far apart our clock and a partner's may be when they agree.
pub const AGREE_SECONDS_MAX: u64 = 3_600;
/// A clock that was set back by more than this is spoken of.
pub const SET_BACK_SECONDS_MIN: u64 = 5 * 60;

/// What the machine says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Seconds since 1970, as the clock shows; anybody may set it.
    pub shown: u64,
    /// What has passed since some moment, sleep included; nobody sets it.
    pub passed: Duration,
}

/// Sharing is paused: the clock shows a time that nobody has confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the clock shows {}, {} after the last time that is known; sharing is paused until a partner's clock agrees or you confirm it", crate::service::time_text(self.shown), span(self.shown.saturating_sub(self.expected)))]
pub struct Jumped {
    /// What the clock should show, by the last time that was believed.
    pub expected: u64,
    /// What it shows.
    pub shown: u64,
}

/// The way out of a pause, for hints.
pub const CONFIRM: &str = "is that the right date? `lotline share resume --clock` confirms it; else set the clock";

/// A clock, watched. Clones share what it knows.
#[derive(Clone)]
pub struct Clock {
    read: Arc<dyn Fn() -> Reading + Send + Sync>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// A time that was believed, and the machine's word at that moment: what has passed since is counted from here, so that many
    /// small jumps are one large one.
    anchor: Option<(u64, Duration)>,
    /// The latest time that was believed.
    mark: u64,
    /// What each partner's clock showed last, and when we heard it.
    partners: BTreeMap<String, (u64, Duration)>,
}

impl Clock {
    /// The computer's own.
    pub fn system() -> Clock {
        Clock::new(|| Reading { shown: crate::service::now(), passed: crate::platform::passed() })
    }

    /// A clock that is read by asking `read`.
    pub fn new(read: impl Fn() -> Reading + Send + Sync + 'static) -> Clock {
        Clock { read: Arc::new(read), known: Arc::default() }
    }

    /// Begins with the mark of earlier runs: how long this home was closed nobody here knows.
    pub fn begin(&self, mark: Option<u64>) {
        let reading = (self.read)();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // A mark that was read once is not lowered by reading it again.
        known.mark = known.mark.max(mark.unwrap_or(0));
        known.anchor = mark.map(|mark| (mark, reading.passed));
        known.look(reading);
    }

    /// What the clock shows, believed or not: for what is written down as said by this computer.
    pub fn now(&self) -> u64 {
        (self.read)().shown
    }

    /// The moment to ask the rules with; each question is a look at the clock.
    pub fn moment(&self) -> Result<Moment, Jumped> {
        let reading = (self.read)();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.look(reading) {
            Some(jumped) => Err(jumped),
            None => Ok(Moment::new(reading.shown as i64, known.mark as i64)),
        }
    }

    /// The time by which something is over: what the clock shows, or the latest that was believed while it has jumped.
    pub fn believed(&self) -> u64 {
        self.moment().map_or_else(|_| self.mark(), |moment| moment.now() as u64)
    }

    /// Why sharing is paused, if it is.
    pub fn jumped(&self) -> Option<Jumped> {
        self.moment().err()
    }

    /// The latest time that was believed.
    pub fn mark(&self) -> u64 {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).mark
    }

    /// By how many seconds the clock was set back, if that is worth a word.
    pub fn set_back(&self) -> Option<u64> {
        let moment = self.moment().ok()?;
        let back = self.mark().saturating_sub(moment.now() as u64);
        (back > SET_BACK_SECONDS_MIN).then_some(back)
    }

    /// A partner said what its clock shows. It confirms what our own clock shows, and nothing else: neither of the two can
    /// bring in a time of its own.
    pub fn heard(&self, partner: &str, shown: u64) {
        let reading = (self.read)();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.partners.insert(partner.to_owned(), (shown, reading.passed));
        known.look(reading);
    }

    /// The partners that may speak are these; what others said is forgotten.
    pub fn keep_partners(&self, is_partner: impl Fn(&str) -> bool) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).partners.retain(|name, _| is_partner(name));
    }

    /// The owner says that the clock is right: a jump was none, and a mark that is ahead was an error.
    pub fn confirm(&self) -> u64 {
        let reading = (self.read)();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        (known.mark, known.anchor) = (reading.shown, Some((reading.shown, reading.passed)));
        reading.shown
    }
}

impl Known {
    /// Takes a reading, and says whether the clock has jumped.
    fn look(&mut self, Reading { shown, passed }: Reading) -> Option<Jumped> {
        let (believed, at) = *self.anchor.get_or_insert((shown, passed));
        let expected = believed.saturating_add(passed.saturating_sub(at).as_secs());
        let agrees = |(said, heard): &(u64, Duration)| {
            said.saturating_add(passed.saturating_sub(*heard).as_secs()).abs_diff(shown) <= AGREE_SECONDS_MAX
        };
        if shown.saturating_sub(expected) > JUMP_SECONDS_MIN {
            if !self.partners.values().any(agrees) {
                // Nothing is kept of it: a jump that is undone, by whoever made it, is over.
                return Some(Jumped { expected, shown });
            }
            self.anchor = Some((shown, passed));
        }
        self.mark = self.mark.max(shown);
        None
    }
}

/// A span in words: hours below three days, days from there on.
pub fn span(seconds: u64) -> String {
    match seconds / 3_600 {
        0 => format!("{} minutes", seconds / 60),
        hours @ 1..72 => format!("{hours} hours"),
        hours => format!("{} days", hours / 24),
    }
}
