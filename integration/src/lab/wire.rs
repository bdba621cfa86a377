//! A line between two namespaces, made in user space, since not every kernel can delay and lose packets by itself: two TUN devices and
//! this process between them.

use std::cell::RefCell;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_tun::Tun;

use super::{Place, run};
use crate::world::Dice;

/// Bytes of one packet.
const MTU: usize = 1500;

/// Wires of this process so far.
static WIRES: AtomicU32 = AtomicU32::new(0);

/// What a line does to packets, the same in both directions.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// From one end to the other: half a round trip.
    pub delay: Duration,
    /// Bits a second.
    pub rate: u64,
    /// How long a packet may wait for its turn; what would wait longer is lost.
    pub queue: Duration,
    /// Of a thousand packets, how many are lost.
    pub loss: u64,
    /// Which ones.
    pub seed: u64,
}

impl Line {
    /// 20 Mbit/s over this round trip, nothing lost but where it overflows: after 100 ms, as in a small firm's router.
    pub fn new(round_trip: Duration) -> Line {
        Line { delay: round_trip / 2, rate: 20_000_000, queue: Duration::from_millis(100), loss: 0, seed: crate::world::seed() }
    }

    /// The same, with this many of a thousand packets lost.
    pub fn losing(self, loss: u64) -> Line {
        Line { loss, ..self }
    }
}

/// The direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the place that was named first.
    There,
    /// To it.
    Back,
}

/// A packet that came out at the other end.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// When.
    pub at: Instant,
    /// The direction.
    pub way: Way,
    /// Its bytes, with the IP header.
    pub bytes: usize,
    /// Whether it is the first one of a TCP connection.
    pub opens: bool,
}

/// A line that lies between two places. Gone when dropped.
pub struct Wire {
    runtime: RefCell<Option<Runtime>>,
    state: Arc<State>,
}

struct State {
    cut: AtomicBool,
    passed: Mutex<Vec<Passed>>,
}

impl Wire {
    /// Lays a line between two places that have nothing but it: their addresses are the ends of it.
    pub fn between(one: &Place, other: &Place, line: Line) -> Wire {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let state = Arc::new(State { cut: AtomicBool::new(false), passed: Mutex::default() });
        {
            let _inside = runtime.enter();
            let number = WIRES.fetch_add(2, Ordering::Relaxed);
            let near = end(number, one, other);
            let far = end(number + 1, other, one);
            tokio::spawn(carry(near.clone(), far.clone(), line, Way::There, state.clone()));
            tokio::spawn(carry(far, near, Line { seed: line.seed ^ 1, ..line }, Way::Back, state.clone()));
        }
        Wire { runtime: RefCell::new(Some(runtime)), state }
    }

    /// From now on nothing comes out.
    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::Relaxed);
    }

    /// Ends [`Wire::cut`].
    pub fn heal(&self) {
        self.state.cut.store(false, Ordering::Relaxed);
    }

    /// What came out so far, in its order.
    pub fn passed(&self) -> Vec<Passed> {
        self.state.passed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins the list of what came out anew.
    pub fn forget(&self) {
        self.state.passed.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // The devices go with the tasks that hold them.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A device in a place. It is made here and then moved, which our end of it does not notice.
fn end(number: u32, place: &Place, other: &Place) -> Arc<Tun> {
    let name = format!("lw{}x{number}", std::process::id());
    let device = Tun::builder().name(&name).mtu(MTU as i32).build().expect("a TUN device").swap_remove(0);
    run(Command::new("ip").args(["link", "set", &name, "netns", place.name()]), "").expect("the device is moved");
    place.set(&format!("ip addr add {} peer {} dev {name}", place.address, other.address));
    place.set(&format!("ip link set {name} up"));
    Arc::new(device)
}

/// IPv4 without options, TCP, SYN and not ACK.
fn opens(packet: &[u8]) -> bool {
    packet.first() == Some(&0x45) && packet.get(9) == Some(&6) && packet.get(33).is_some_and(|flags| flags & 0x12 == 0x02)
}

async fn carry(from: Arc<Tun>, to: Arc<Tun>, line: Line, way: Way, state: Arc<State>) {
    // Bounded by what may wait for its turn and what is on its way.
    let (enter, mut leave) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let there = state.clone();
    tokio::spawn(async move {
        while let Some((due, packet)) = leave.recv().await {
            tokio::time::sleep_until(due.into()).await;
            if !there.cut.load(Ordering::Relaxed) && to.send(&packet).await.is_ok() {
                let passed = Passed { at: Instant::now(), way, bytes: packet.len(), opens: opens(&packet) };
                there.passed.lock().unwrap_or_else(PoisonError::into_inner).push(passed);
            }
        }
    });
    let (mut dice, mut free, mut packet) = (Dice(line.seed), Instant::now(), vec![0; MTU]);
    while let Ok(bytes) = from.recv(&mut packet).await {
        let now = Instant::now();
        let begins = free.max(now);
        if state.cut.load(Ordering::Relaxed) || dice.below(1000) < line.loss || begins - now > line.queue {
            continue;
        }
        free = begins + Duration::from_nanos(bytes as u64 * 8 * 1_000_000_000 / line.rate);
        if enter.send((free + line.delay, packet[..bytes].to_vec())).is_err() {
            return;
        }
    }
}
