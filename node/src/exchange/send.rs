//! The sending side of one followed feed, without sockets: who asks for what, what goes next, and when it ends.

use std::collections::VecDeque;
use std::ops::Range;

use lotline_schema::Hash;

use super::message::{Code, Cosigned, Message};

/// Frames that may lack their receipt while another is sent: one travels while the next is made ready.
pub const UNRECEIPTED_MAX: usize = 1;

/// What happens to a sender.
#[derive(Debug)]
pub enum Input {
    /// A message came.
    Received(Message),
    /// The answer to [`Output::Authorise`], or to a change: how this partner stands with the feed now.
    Standing(Option<Standing>),
    /// The answer to [`Output::Load`]: the message is ready and in the ledger.
    Loaded {
        /// The message to send.
        message: Message,
        /// The size of its frame.
        bytes: u64,
        /// The index after it; unchanged for a backfill.
        next: u64,
        /// For a backfill: whether it was the last.
        backfilled: bool,
    },
    /// The answer to [`Output::Receipts`]: what was owed is here.
    Signed,
    /// There was nothing to load: this backfill is through.
    Nothing,
    /// Of these entries, those before the partner's cursor are to be looked at again: time has opened some.
    Due(Vec<Range<u64>>),
    /// What was being loaded belongs to rules that changed meanwhile, and was thrown away.
    Stale,
    /// Instead of how the partner stands: our clock cannot be believed, and nothing is shared with anybody.
    Paused,
}

/// How a partner stands with a feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Size of the feed.
    pub size: u64,
    /// The view it gets.
    pub view: Hash,
    /// Entries of the org feed.
    pub org_size: u64,
    /// The share's own filter in words.
    pub term: String,
    /// Whether we lack the partner's receipt for the entry before its cursor.
    pub owed: bool,
    /// Our root at the partner's cursor; none when the cursor is beyond our head.
    pub root_at_cursor: Option<Hash>,
    /// Entries before the cursor that time may have opened since the partner was here.
    pub delayed: Option<Range<u64>>,
}

/// What a sender wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Look up how the partner stands with this feed; `next` is its cursor.
    Authorise {
        /// Origin of the feed.
        origin: String,
        /// The cursor.
        next: u64,
    },
    /// Send.
    Send(Message),
    /// Read, clear and write into the ledger the entries from here on.
    Load {
        /// The first index.
        from: u64,
    },
    /// Read, clear and write into the ledger what is newly open of the entries before `before`, from `from` on.
    LoadBackfill {
        /// The first index.
        from: u64,
        /// The end.
        before: u64,
    },
    /// Everything before this index arrived, and with it the oldest frame without a receipt.
    Acknowledged {
        /// The next index.
        next: u64,
        /// The receipt for that frame.
        receipt: Option<Vec<u8>>,
    },
    /// The receiver sent receipts again: verify and keep them.
    Receipts(Vec<Vec<u8>>),
    /// The receiver cosigned one of our checkpoints.
    Cosigned(Cosigned),
    /// End the stream, after sending what was to be sent.
    Close,
}

enum State {
    /// Waiting for OPEN.
    Fresh,
    /// Waiting to hear how the partner stands.
    Authorising { next: u64, root: Hash, view: Option<Hash>, credit: u64 },
    /// Sending.
    Serving(Serving),
    /// Over.
    Closed,
}

struct Serving {
    next: u64,
    acked: u64,
    credit: u64,
    /// Batches and backfills sent that no acknowledgement, and so no receipt, has come for.
    unreceipted: usize,
    /// The receipt for the last frame of an earlier stream has not come: nothing goes out before it.
    owed: bool,
    size: u64,
    view: Hash,
    loading: bool,
    told_caught_up: bool,
    /// Older entries to look at again; the first range is being looked at, from its start on.
    backfill: VecDeque<Range<u64>>,
    /// A changed view is announced when everything older that it opens is through: a receiver that dies before that
    /// comes back with the old view, and the backfill is looked at again.
    announce: Option<Message>,
}

/// The sending side of one followed feed.
pub struct Sender {
    state: State,
}

impl Default for Sender {
    fn default() -> Self {
        Sender::new()
    }
}

impl Sender {
    /// Waits for OPEN.
    pub fn new() -> Sender {
        Sender { state: State::Fresh }
    }

    /// Takes what happened and says what to do.
    pub fn handle(&mut self, input: Input) -> Vec<Output> {
        match (&mut self.state, input) {
            (State::Closed, _) => Vec::new(),
            (State::Fresh, Input::Received(Message::Open { origin, next, root, view, credit })) => {
                self.state = State::Authorising { next, root, view, credit };
                vec![Output::Authorise { origin, next }]
            }
            (State::Authorising { next, root, view, credit }, Input::Standing(standing)) => {
                let (next, root, view, credit) = (*next, *root, *view, *credit);
                self.open(next, root, view, credit, standing)
            }
            (State::Serving(_), Input::Received(Message::Cosigned(cosigned))) => vec![Output::Cosigned(cosigned)],
            (State::Serving(serving), Input::Received(Message::Receipts(receipts))) if serving.owed => vec![Output::Receipts(receipts)],
            (State::Serving(serving), Input::Signed) => {
                serving.owed = false;
                serving.step()
            }
            (State::Serving(serving), Input::Received(Message::Ack { next, credit, receipt })) => match serving.acked(next, credit) {
                true => {
                    let mut outputs = vec![Output::Acknowledged { next, receipt }];
                    outputs.extend(serving.step());
                    outputs
                }
                false => self.close(Code::Unexpected),
            },
            (State::Serving(_), Input::Standing(None)) => self.close(Code::Revoked),
            (State::Serving(serving), Input::Standing(Some(standing))) => serving.moved(standing),
            (State::Serving(serving), Input::Loaded { message, bytes, next, backfilled }) => {
                serving.loaded(message, bytes, next, backfilled)
            }
            (State::Serving(serving), Input::Nothing) => {
                serving.loading = false;
                serving.backfill.pop_front();
                serving.step()
            }
            (State::Serving(serving), Input::Due(ranges)) => {
                let before = serving.next;
                serving
                    .backfill
                    .extend(ranges.into_iter().map(|range| range.start..range.end.min(before)).filter(|range| !range.is_empty()));
                serving.step()
            }
            (State::Serving(serving), Input::Stale) => {
                serving.loading = false;
                serving.step()
            }
            (State::Authorising { .. } | State::Serving(_), Input::Paused) => self.close(Code::Paused),
            // The partner's side of an error ends it; anything else does not belong here.
            (_, Input::Received(Message::Error(_))) => {
                self.state = State::Closed;
                vec![Output::Close]
            }
            (_, Input::Received(_)) => self.close(Code::Unexpected),
            (
                _,
                Input::Standing(_) | Input::Loaded { .. } | Input::Nothing | Input::Due(_) | Input::Stale | Input::Signed | Input::Paused,
            ) => Vec::new(),
        }
    }

    fn open(&mut self, next: u64, root: Hash, view: Option<Hash>, credit: u64, standing: Option<Standing>) -> Vec<Output> {
        let Some(standing) = standing else {
            return self.close(Code::NoSuchFeed);
        };
        match standing.root_at_cursor {
            None => return self.close(Code::CursorAhead),
            Some(ours) if ours != root => return self.close(Code::Fork),
            Some(_) => {}
        }
        let Standing { size, view: current, org_size, term, owed, delayed, .. } = standing;
        let widened = next > 0 && view != Some(current);
        let mut serving = Serving {
            next,
            acked: next,
            credit,
            unreceipted: 0,
            owed,
            size,
            view: current,
            loading: false,
            told_caught_up: false,
            backfill: widened.then_some(0..next).or(delayed).into_iter().collect(),
            // Where nothing new comes after it, the follower would not know under which view it stands, and have everything looked
            // at again each time.
            announce: widened.then(|| Message::View { view: current, term: term.clone() }),
        };
        let mut outputs = vec![Output::Send(Message::Opened { view: current, size, org_size, term, owed })];
        outputs.extend(serving.step());
        self.state = State::Serving(serving);
        outputs
    }

    /// Bytes that may go before the next acknowledgement grants more.
    pub fn credit(&self) -> u64 {
        if let State::Serving(serving) = &self.state { serving.credit } else { 0 }
    }

    fn close(&mut self, code: Code) -> Vec<Output> {
        self.state = State::Closed;
        vec![Output::Send(Message::Error(code)), Output::Close]
    }
}

impl Serving {
    /// An acknowledgement must not run ahead of what was sent, nor back.
    fn acked(&mut self, next: u64, credit: u64) -> bool {
        if next > self.next || next < self.acked || self.unreceipted == 0 {
            return false;
        }
        self.acked = next;
        self.unreceipted -= 1;
        self.credit = self.credit.saturating_add(credit);
        true
    }

    fn moved(&mut self, standing: Standing) -> Vec<Output> {
        self.size = standing.size;
        if standing.view != self.view {
            self.view = standing.view;
            // What is being loaded belongs to the old view and will be discarded by whoever loads it.
            self.backfill = (self.next > 0).then_some(0..self.next).into_iter().collect();
            self.announce = Some(Message::View { view: standing.view, term: standing.term });
        }
        self.step()
    }

    fn loaded(&mut self, message: Message, bytes: u64, next: u64, backfilled: bool) -> Vec<Output> {
        self.loading = false;
        self.unreceipted += 1;
        self.credit = self.credit.saturating_sub(bytes);
        if backfilled {
            if let Some(range) = self.backfill.front_mut() {
                range.start = next;
                if range.is_empty() {
                    self.backfill.pop_front();
                }
            }
        } else {
            self.next = next;
        }
        let mut outputs = vec![Output::Send(message)];
        outputs.extend(self.step());
        outputs
    }

    /// What goes next: older entries newly open first, then new ones, as long as there is credit and no more than
    /// [`UNRECEIPTED_MAX`] frames wait for their receipts. One item may always go while credit is above 0.
    fn step(&mut self) -> Vec<Output> {
        if self.loading || self.owed || self.credit == 0 || self.unreceipted > UNRECEIPTED_MAX {
            return Vec::new();
        }
        if let Some(Range { start: from, end: before }) = self.backfill.front().cloned() {
            self.loading = true;
            return vec![Output::LoadBackfill { from, before }];
        }
        let mut outputs: Vec<Output> = self.announce.take().map(Output::Send).into_iter().collect();
        if self.next < self.size {
            self.loading = true;
            outputs.push(Output::Load { from: self.next });
        } else if !self.told_caught_up {
            self.told_caught_up = true;
            outputs.push(Output::Send(Message::CaughtUp { size: self.size }));
        }
        outputs
    }
}
