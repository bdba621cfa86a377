//! When this computer may be somewhere else: an address came or went, or it has slept. Then every wait was for another network, and a
//! connection may lead nowhere although nobody said so.
//!
//! Knows nothing of partners: it tells the network task twice, when that happens and when whoever is still there has had the time to
//! answer. The clock that people set plays no part.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use if_watch::{IfEvent, tokio::IfWatcher};
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};

use super::task::Command;
use crate::platform;

/// How often it is looked whether we slept.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What passed between two looks beyond that was spent asleep, or stopped: a partner may have given us up.
const SLEEP_MIN: Duration = Duration::from_secs(15);

/// A change of networks is several events: an address goes, another comes, each with a second family. It is one when none came for this long.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// The system begins by telling all addresses there are, which is no news; a busy computer takes its time for that.
const BEGINS_FOR: Duration = Duration::from_secs(10);

/// For a partner to be heard of after a change: a round trip, behind whatever was on its way on a slow line.
const PROOF_MAX: Duration = Duration::from_secs(10);

/// Tells the network task until there is none.
pub(super) async fn watch(task: mpsc::WeakSender<Command>) {
    let mut moves = Moves::new();
    loop {
        let told = moves.next().await;
        let Some(task) = task.upgrade() else { return };
        if let Some(command) = told
            && task.send(command).await.is_err()
        {
            return;
        }
    }
}

struct Moves {
    /// None where the system does not say.
    addresses: Option<IfWatcher>,
    began: Instant,
    looks: Interval,
    last_look: Duration,
    /// Events came, and are one change at this moment.
    settled: Option<Instant>,
    /// The last change; whoever is there has been heard since, [`PROOF_MAX`] later.
    moved: Option<Instant>,
}

impl Moves {
    fn new() -> Self {
        let addresses = IfWatcher::new().inspect_err(|error| tracing::warn!(%error, "changes of addresses are not seen"));
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (began, last_look) = (Instant::now(), platform::passed());
        Self { addresses: addresses.ok(), began, looks, last_look, settled: None, moved: None }
    }

    /// What to tell, or nothing now and then.
    async fn next(&mut self) -> Option<Command> {
        let (settled, proven) = (self.settled, self.moved.map(|at| at + PROOF_MAX));
        tokio::select! {
            event = next_of(&mut self.addresses) => {
                match event {
                    Ok(event) if matters(&event) && (matches!(event, IfEvent::Down(_)) || self.began.elapsed() >= BEGINS_FOR) => {
                        self.settled = Some(Instant::now() + SETTLED_AFTER);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, "changes of addresses are no longer seen");
                        self.addresses = None;
                    }
                }
                None
            }
            () = until(settled) => Some(self.moved("another address")),
            () = until(proven) => self.moved.take().map(|since| Command::CloseSilent { since }),
            _ = self.looks.tick() => {
                let passed = platform::passed();
                let slept = slept(std::mem::replace(&mut self.last_look, passed), passed);
                slept.then(|| self.moved("awake again"))
            }
        }
    }

    fn moved(&mut self, why: &str) -> Command {
        tracing::info!(why, "this computer may be somewhere else: partners are asked and dialled now");
        (self.settled, self.moved) = (None, Some(Instant::now()));
        Command::Moved
    }
}

/// Whether more passed between two looks than a busy computer takes.
fn slept(last: Duration, now: Duration) -> bool {
    now.saturating_sub(last) >= LOOK_EVERY + SLEEP_MIN
}

/// Partners are not reached by addresses of this computer alone or of one cable; containers come and go with such.
fn matters(event: &IfEvent) -> bool {
    let (IfEvent::Up(network) | IfEvent::Down(network)) = event;
    match network.addr() {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

async fn next_of(addresses: &mut Option<IfWatcher>) -> std::io::Result<IfEvent> {
    match addresses {
        Some(addresses) => addresses.select_next_some().await,
        None => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_told_from_a_busy_computer() {
        let at = Duration::from_secs;
        for (last, now, expected) in [(100, 105, false), (100, 119, false), (100, 120, true), (100, 90_000, true), (100, 90, false)] {
            assert_eq!(slept(at(last), at(now)), expected, "{last} {now}");
        }
    }

    #[test]
    fn addresses_of_this_computer_alone_do_not_matter() {
        for (network, expected) in [
            ("192.168.1.7/24", true),
            ("2001:db8::7/64", true),
            ("127.0.0.2/8", false),
            ("::1/128", false),
            ("169.254.3.4/16", false),
            ("fe80::42/64", false),
        ] {
            let network = network.parse().unwrap();
            assert_eq!(matters(&IfEvent::Up(network)), expected, "{network}");
            assert_eq!(matters(&IfEvent::Down(network)), expected, "{network}");
        }
    }
}
