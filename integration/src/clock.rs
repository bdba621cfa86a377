//! A clock for tests: time passes and the clock is set only when the test says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use lotline_node::clock::{Clock, Reading};

/// A computer's clock. Clones are the same clock.
#[derive(Clone, Default)]
pub struct SetClock(Arc<Inner>);

#[derive(Default)]
struct Inner {
    passed_ms: AtomicU64,
    /// What the clock shows less what has passed, in milliseconds.
    ahead_ms: AtomicI64,
}

impl SetClock {
    /// One that shows this many seconds since 1970.
    pub fn at(seconds: u64) -> SetClock {
        let clock = SetClock::default();
        clock.set(seconds);
        clock
    }

    /// Time passes, and the clock goes with it.
    pub fn pass(&self, span: Duration) {
        self.0.passed_ms.fetch_add(span.as_millis() as u64, Ordering::SeqCst);
    }

    /// Somebody sets the clock forward or back; no time passes.
    pub fn jump(&self, seconds: i64) {
        self.0.ahead_ms.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// Somebody sets the clock.
    pub fn set(&self, seconds: u64) {
        let passed = self.0.passed_ms.load(Ordering::SeqCst);
        self.0.ahead_ms.store(seconds as i64 * 1000 - passed as i64, Ordering::SeqCst);
    }

    /// What it shows, in seconds since 1970.
    pub fn shown(&self) -> u64 {
        self.shown_ms() / 1000
    }

    /// The same in milliseconds.
    pub fn shown_ms(&self) -> u64 {
        (self.0.passed_ms.load(Ordering::SeqCst) as i64 + self.0.ahead_ms.load(Ordering::SeqCst)).max(0) as u64
    }

    /// What has passed, in milliseconds.
    pub fn passed_ms(&self) -> u64 {
        self.0.passed_ms.load(Ordering::SeqCst)
    }

    /// It as a node watches it, which has watched nothing yet.
    pub fn watched(&self) -> Clock {
        let of = self.clone();
        Clock::new(move || Reading { shown: of.shown(), passed: Duration::from_millis(of.0.passed_ms.load(Ordering::SeqCst)) })
    }
}
