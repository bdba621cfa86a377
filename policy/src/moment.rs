//! When a question is asked. A clock can be set back; what has ended stays ended all the same.

/// What begins (`from`, the end of a delay) goes by the clock; what ends (`until`, a member list) by the latest time that the clock
/// ever showed. So a clock that is set back opens nothing: neither what ended, nor what has not begun.
///
/// ```
/// use lotline_policy::Moment;
/// let set_back = Moment::new(50, 100);
/// assert!(!set_back.is_after(60) && set_back.is_over(60));
/// // An ordinary moment: the clock never showed anything later.
/// assert_eq!(Moment::from(50), Moment::new(50, 20));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    now: i64,
    latest: i64,
}

impl Moment {
    /// What the clock shows, and the latest it ever showed; seconds since 1970.
    pub fn new(now: i64, latest: i64) -> Moment {
        Moment { now, latest: latest.max(now) }
    }

    /// What the clock shows.
    pub fn now(self) -> i64 {
        self.now
    }

    /// Whether what begins at `start` has begun.
    pub fn is_after(self, start: i64) -> bool {
        start <= self.now
    }

    /// Whether what holds until `end` holds no more.
    pub fn is_over(self, end: i64) -> bool {
        end <= self.latest
    }

    /// Whether it is not later than another.
    pub fn is_before(self, other: Moment) -> bool {
        self.now <= other.now
    }

    /// Whether the clock was set back.
    pub fn is_set_back(self) -> bool {
        self.now < self.latest
    }
}

/// A moment of a clock that was never set back.
impl From<i64> for Moment {
    fn from(now: i64) -> Moment {
        Moment { now, latest: now }
    }
}
