//! The protocol between two partners, without sockets: messages, and one session a followed feed on each side.
//!
//! Shaped by three wishes. *Resume costs one round trip*: all state of a transfer is the receiver's cursor (next index,
//! root there, view), so either side may die at any byte. *No hand-over from catch-up to live*: the sender reads its
//! store from the cursor whenever it has credit and is behind the head; being woken by a new head is the live tail.
//! *Nothing unaccounted for*: every index arrives as a view or as a leaf hash, and must reproduce a signed checkpoint.
//!
//! ```text
//! control   HELLO <-> HELLO    CATALOG -> (feeds this partner may follow; again on every change)    PING <-> PONG
//!           TERMS -> (what the sender asks for; again on every change)    ACCEPT -> (what it has accepted, signed)
//!
//! feed      receiver                              sender
//!           OPEN {feed, next, root, view} ------>  may it? is the past the same?
//!           <------ OPENED {view, size, term, owed} or ERROR {code}
//!           RECEIPTS {…} ------------------------>  when the last ones were lost with their connection
//!           <------ BATCH {from, items, checkpoint, tail, under}     while credit lasts; `under`: what stands under terms
//!           ACK {next, credit, receipt} --------->  after it is verified and durable, with a signed receipt for it
//!           COSIGNED {size, key, line} ---------->  the signed checkpoint follows from all we saw before
//!           <------ BACKFILL {items}               entries that a wider view opens later
//!           <------ CAUGHT_UP {size}               the reader has met the head; then BATCH as heads come
//!           <------ VIEW {view, term}              the rules changed, older entries they open are through; goes on
//!           <------ ERROR {code}                   revoked, fork, …; the stream ends
//! ```
//!
//! Bounds: frame 1 MiB, first frame within 10 s, write deadline 30 s, silence 45 s, credit 4 MiB, one frame without its
//! receipt while another is sent, and what the sender reads at once 256 entries or 256 KiB.

pub mod message;
pub mod receive;
pub mod send;
pub mod waiting;

pub use message::{Code, Message, MessageError};
pub use receive::Receiver;
pub use send::Sender;

/// The largest frame: type and body.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// The most entries of a batch.
pub const BATCH_ENTRIES_MAX: usize = 256;
/// About how many bytes a batch has; one entry may always go, whatever its size.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Unverified bytes a receiver takes of one feed before it says so: a few batches in flight.
pub const CREDIT_BYTES: u64 = 4 << 20;
/// The first frame of a stream must come within this time.
pub const FIRST_FRAME: std::time::Duration = std::time::Duration::from_secs(10);
/// A frame must be written within this time.
pub const WRITE_DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);
/// A partner that says nothing for this long is gone.
pub const SILENCE: std::time::Duration = std::time::Duration::from_secs(45);
