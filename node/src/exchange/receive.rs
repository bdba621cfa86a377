//! The receiving side of one followed feed, without sockets.

use lotline_schema::Hash;

use super::CREDIT_BYTES;
use super::message::{Code, Cosigned, Message};
use crate::feeds::{Backfill, Received};

/// What happens to a receiver.
#[derive(Debug)]
pub enum Input {
    /// A message came, in a frame of this many bytes.
    Received(Message, u64),
    /// The answer to [`Output::Verify`]: verified and durable up to here.
    Stored {
        /// The next index.
        next: u64,
        /// Our receipt for it.
        receipt: Option<Vec<u8>>,
        /// Our cosignature, when it met a checkpoint.
        cosigned: Option<Cosigned>,
    },
    /// The answer to [`Output::Backfill`]: verified and durable.
    Opened {
        /// Our receipt for it.
        receipt: Option<Vec<u8>>,
    },
    /// Receipts we gave that did not arrive.
    Owed(Vec<Vec<u8>>),
    /// We signed a checkpoint again, at a later time.
    Witnessed(Cosigned),
    /// What came does not hold; the feed is frozen, or we cannot go on.
    Refused(Code),
}

/// What a receiver wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send.
    Send(Message),
    /// The sender answered: it speaks under this view, and needs so many entries of its owner's org feed known.
    Begin {
        /// The view.
        view: Hash,
        /// Entries of the org feed.
        org_size: u64,
        /// Size of the feed at that moment.
        size: u64,
        /// The share's filter in words.
        term: String,
        /// It lacks our receipt for the entry before our cursor.
        owed: bool,
    },
    /// Verify this batch and store it.
    Verify(Received),
    /// Verify these older entries and store them.
    Backfill(Backfill),
    /// Remember the new view.
    View {
        /// The view.
        view: Hash,
        /// The share's filter in words.
        term: String,
    },
    /// We have met the sender's head.
    CaughtUp {
        /// Size of the feed at that moment.
        size: u64,
    },
    /// The other side ended it.
    Ended(Code),
    /// End the stream.
    Close,
}

/// Where a receiver stands in a feed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// The next index.
    pub next: u64,
    /// The root of everything before.
    pub root: Hash,
    /// The view it was taken under.
    pub view: Option<Hash>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Following,
    Closed,
}

/// The receiving side of one followed feed.
pub struct Receiver {
    state: State,
    /// Frames that were not acknowledged, in order: bytes each. What a sender may have in flight is bounded by credit.
    waiting: std::collections::VecDeque<u64>,
    next: u64,
}

impl Receiver {
    /// Asks for a feed from a cursor on.
    pub fn start(origin: &str, cursor: Cursor) -> (Receiver, Output) {
        let Cursor { next, root, view } = cursor;
        let open = Message::Open { origin: origin.to_owned(), next, root, view, credit: CREDIT_BYTES };
        (Receiver { state: State::Opening, waiting: Default::default(), next }, Output::Send(open))
    }

    /// Takes what happened and says what to do.
    pub fn handle(&mut self, input: Input) -> Vec<Output> {
        match (self.state, input) {
            (State::Closed, _) => Vec::new(),
            (State::Opening, Input::Received(Message::Opened { view, size, org_size, term, owed }, _)) => {
                self.state = State::Following;
                vec![Output::Begin { view, org_size, size, term, owed }]
            }
            (State::Following, Input::Received(Message::Batch(received), bytes)) => self.take(bytes, Output::Verify(received)),
            (State::Following, Input::Received(Message::Backfill(backfill), bytes)) => self.take(bytes, Output::Backfill(backfill)),
            (State::Following, Input::Received(Message::View { view, term }, _)) => vec![Output::View { view, term }],
            (State::Following, Input::Received(Message::CaughtUp { size }, _)) => vec![Output::CaughtUp { size }],
            (State::Following, Input::Stored { next, receipt, cosigned }) => {
                self.next = next;
                let mut outputs = vec![self.acknowledge(receipt)];
                outputs.extend(cosigned.map(|cosigned| Output::Send(Message::Cosigned(cosigned))));
                outputs
            }
            (State::Following, Input::Opened { receipt }) => vec![self.acknowledge(receipt)],
            (State::Following, Input::Owed(receipts)) => vec![Output::Send(Message::Receipts(receipts))],
            (State::Following, Input::Witnessed(cosigned)) => vec![Output::Send(Message::Cosigned(cosigned))],
            (_, Input::Received(Message::Error(code), _)) => {
                self.state = State::Closed;
                vec![Output::Ended(code), Output::Close]
            }
            (_, Input::Refused(code)) => self.close(code),
            (_, Input::Received(..)) => self.close(Code::Unexpected),
            (_, Input::Stored { .. } | Input::Opened { .. } | Input::Witnessed(_) | Input::Owed(_)) => Vec::new(),
        }
    }

    fn take(&mut self, bytes: u64, output: Output) -> Vec<Output> {
        // One frame may always go; beyond that a sender keeps to its credit or is cut.
        let waiting: u64 = self.waiting.iter().sum();
        if waiting >= CREDIT_BYTES {
            return self.close(Code::Malformed);
        }
        self.waiting.push_back(bytes);
        vec![output]
    }

    fn acknowledge(&mut self, receipt: Option<Vec<u8>>) -> Output {
        let credit = self.waiting.pop_front().unwrap_or(0);
        Output::Send(Message::Ack { next: self.next, credit, receipt })
    }

    fn close(&mut self, code: Code) -> Vec<Output> {
        self.state = State::Closed;
        vec![Output::Send(Message::Error(code)), Output::Close]
    }
}
