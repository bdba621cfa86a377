//! How the node stands, in the text format that monitoring programs read (OpenMetrics 1.0, which Prometheus takes).
//!
//! Made anew for each question from what `lotline status` shows: nothing is counted twice, and a node nobody asks pays nothing.
//! Names of partners and feeds are in it; no content of any record.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::desk::Desk;
use crate::service::LinkBoard;

/// What the answer says it is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<u64, AtomicU64>>;

/// The whole answer.
pub fn text(desk: &Desk) -> String {
    let mut registry = Registry::with_prefix("lotline");
    let snapshot = desk.handle.snapshot();
    let store = desk.handle.reader().status();

    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    one(&mut registry, "build", "The program", version, 1);
    let up = |yes: bool| u64::from(yes);
    one(&mut registry, "sharing_paused", "1 while the clock is not believed", Vec::new(), up(desk.handle.clock().jumped().is_some()));
    one(&mut registry, "sharing_stopped", "1 while sharing is stopped with everybody", Vec::new(), up(snapshot.policy.stopped().everybody));
    one(&mut registry, "restored_unconfirmed", "1 while a restored home waits for its owner", Vec::new(), up(snapshot.restored.is_some()));
    one(&mut registry, "index_failed", "1 when the index broke", Vec::new(), up(store.index_failed));
    one(&mut registry, "journal_damages", "Places of the journal that cannot be read", Vec::new(), store.damage.len() as u64);
    one(&mut registry, "index_waiting", "Commits that the index has still to take up", Vec::new(), store.waiting);
    one(&mut registry, "rules_version", "Version of the sharing rules in force", Vec::new(), snapshot.policy.version());
    in_bytes(&mut registry, "journal", "What is saved", store.journal_bytes);
    if let Some(memory) = crate::platform::resident_bytes() {
        in_bytes(&mut registry, "resident_memory", "Memory of the process", memory);
    }

    let relays = desk.board.as_ref().map(LinkBoard::relays).unwrap_or_default();
    one(
        &mut registry,
        "relays_kept",
        "Relays that keep us a place",
        Vec::new(),
        relays.places.iter().filter(|place| place.kept).count() as u64,
    );
    if let Some(load) = relays.load {
        one(&mut registry, "relay_places", "Nodes that keep a place at this relay", Vec::new(), load.places as u64);
        one(&mut registry, "relay_lines", "Lines that this relay puts through", Vec::new(), load.lines as u64);
    }

    let (entries, frozen) = (Gauges::default(), Gauges::default());
    for feed in snapshot.feeds.values().filter(|feed| !feed.origin.is_org()) {
        let owner =
            if feed.ours { Some("ours".to_owned()) } else { snapshot.partner_of(&feed.origin.party()).map(|partner| partner.name.clone()) };
        let labels = vec![("feed", own_name(feed.origin.as_str())), ("of", owner.unwrap_or_else(|| feed.origin.party().short()))];
        entries.get_or_create(&labels).set(feed.size());
        frozen.get_or_create(&labels).set(up(feed.frozen.is_some()));
    }
    registry.register("feed_entries", "Entries of a feed that are here", entries);
    registry.register("feed_frozen", "1 when a feed is frozen", frozen);

    let (connected, failed, credit, lag) = (Gauges::default(), Gauges::default(), Gauges::default(), Gauges::default());
    let connections = Family::<Labels, Counter>::default();
    for partner in snapshot.book.values() {
        let link = desk.board.as_ref().map(|board| board.of(&partner.name)).unwrap_or_default();
        let labels = vec![("partner", partner.name.clone())];
        connected.get_or_create(&labels).set(up(link.connected));
        failed.get_or_create(&labels).set(link.dials_failed);
        connections.get_or_create(&labels).inc_by(link.connections);
        for (origin, bytes) in &link.credit {
            credit.get_or_create(&with_feed(&labels, origin, "out")).set(*bytes);
        }
        for behind in link.lags(&snapshot) {
            lag.get_or_create(&with_feed(&labels, &behind.origin, if behind.ours { "out" } else { "in" })).set(behind.entries);
        }
    }
    registry.register("partner_connected", "1 while connected", connected);
    registry.register("partner_dials_failed", "Dials that failed since the last connection", failed);
    registry.register("partner_connections", "Connections since the node started", connections);
    registry.register_with_unit("credit", "What a partner lets us send before it acknowledges more", Unit::Bytes, credit);
    registry.register("lag_entries", "Entries that one side has and the other has not acknowledged; way out: ours, in: theirs", lag);

    let mut text = String::new();
    encode(&mut text, &registry).expect("writing into a string does not fail");
    text
}

fn one(registry: &mut Registry, name: &str, help: &str, labels: Labels, value: u64) {
    let gauges = Gauges::default();
    gauges.get_or_create(&labels).set(value);
    registry.register(name, help, gauges);
}

fn in_bytes(registry: &mut Registry, name: &str, help: &str, bytes: u64) {
    let gauge: Gauge<u64, AtomicU64> = Gauge::default();
    gauge.set(bytes);
    registry.register_with_unit(name, help, Unit::Bytes, gauge);
}

fn with_feed(labels: &Labels, origin: &str, way: &str) -> Labels {
    labels.iter().cloned().chain([("feed", own_name(origin)), ("way", way.to_owned())]).collect()
}

/// A feed's own name with its life, as `quality/1`: its owner is a label of its own.
fn own_name(origin: &str) -> String {
    origin.split_once('/').map_or(origin, |(_, name)| name).to_owned()
}
