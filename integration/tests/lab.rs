//! Two firms with a network between them that is as bad as real ones: routers that translate addresses, firewalls, cut lines, changing
//! addresses, lost packets. Whatever it does, each record arrives once and verified, and an exchange goes on where it was.
//!
//! Needs Linux, root, `ip` and `nft` (packages iproute2 and nftables); without them the tests say that they were skipped. `RECORDS=…`
//! measures with more records than the few of an ordinary run, `SEED=…` repeats which packets were lost.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test, also outside the test functions")]

use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use lotline_integration::lab::{Lab, Line, Nat, Passed, Place, Way, Wire};
use lotline_integration::web::{certificates, configure};
use lotline_integration::world::{Firm, PATIENCE, World, lots_file, string, wait, wait_for};

const SHARE: &str = "[[share]]\nname = 'all'\nwith = '{with}'\nfeed = 'quality'\nparts = 'all'\nshow = 'everything'\nuntil = 'revoked'\n";

/// A line that is dead without a word: the watchdog asks every 15 s and gives three answers 20 s each.
const DEAD_LINE: Duration = Duration::from_secs(150);

/// A lab, or the word that nothing was tested.
fn lab(what: &str) -> Option<Lab> {
    match Lab::new() {
        Ok(lab) => Some(lab),
        Err(why) => {
            eprintln!("SKIPPED: {what} was not tested: {why}");
            None
        }
    }
}

/// A supplier and its customer, in their places.
struct Pair {
    world: World,
    supplier: Firm,
    oem: Firm,
    lots: std::cell::Cell<usize>,
}

impl Pair {
    /// Both run and know each other; the supplier dials, both share all that they publish.
    fn new(supplier: &Place, oem: &Place) -> Pair {
        let world = World::new();
        let reached = format!("{}:4001", oem.address());
        let pair = Pair {
            supplier: world.firm("supplier").within(supplier.name()),
            oem: world.firm_listening("oem", &reached).within(oem.name()),
            lots: std::cell::Cell::new(0),
            world,
        };
        pair.begin();
        pair
    }

    fn begin(&self) {
        self.oem.start();
        self.supplier.start();
        self.oem.ok(&["partner", "accept", &self.supplier.invitation(), "--as", "supplier", "--subscribe"]);
        self.supplier.ok(&["partner", "accept", &self.oem.invitation(), "--as", "oem", "--subscribe"]);
        self.share(&self.supplier, "oem");
    }

    /// One record, so that there is a feed, and the rule that shares it.
    fn share(&self, from: &Firm, with: &str) {
        self.publish(from, 1);
        from.apply(&SHARE.replace("{with}", with));
    }

    fn publish(&self, from: &Firm, lots: usize) {
        let name = format!("L{}", self.lots.replace(self.lots.get() + 1));
        from.publish(&self.world.file(&format!("{name}.csv"), lots_file(&name, "PIN", lots)), &["--feed", "quality"]);
    }

    /// Waits until every record of one firm is with the other, each once.
    fn arrived(&self, from: &Firm, to: &Firm, patience: Duration) {
        let heads = from.heads();
        assert!(!heads.is_empty(), "nothing was published");
        wait_for(patience, "everything to arrive", || {
            let theirs = to.heads();
            heads.iter().all(|head| theirs.contains(head))
        });
        let (sent, received) = (from.records(), to.records());
        let origins: Vec<_> = heads.iter().map(|head| &head.0).collect();
        let ours = |rows: Vec<(String, u64, String)>| rows.into_iter().filter(|row| origins.contains(&&row.0)).collect::<Vec<_>>();
        let (sent, received) = (ours(sent), ours(received));
        assert_eq!(sent, received);
        let mut once = received.clone();
        once.dedup();
        assert_eq!(once.len(), received.len(), "something arrived twice");
    }

    /// Both stores verify, nothing is frozen.
    fn end(&self) {
        for firm in [&self.oem, &self.supplier] {
            firm.is_clean();
            firm.stop();
        }
    }

    fn connected(&self, firm: &Firm, patience: Duration, so: bool) {
        let partner = if std::ptr::eq(firm, &self.oem) { "supplier" } else { "oem" };
        let what = format!("{partner} to be {}", if so { "connected" } else { "noticed to be gone" });
        wait_for(patience, &what, || firm.partner(partner)["connected"] == so);
    }
}

fn behind(nat: Nat) {
    let Some(lab) = lab("a supplier behind a router that translates addresses") else { return };
    let (oem, site) = (lab.host("oem"), lab.site("supplier", nat));
    let pair = Pair::new(&site.host, &oem);
    pair.publish(&pair.supplier, 20);
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);

    // The other way, through the connection that the supplier made.
    pair.share(&pair.oem, "supplier");
    pair.publish(&pair.oem, 20);
    pair.arrived(&pair.oem, &pair.supplier, PATIENCE);
    let path = pair.oem.partner("supplier")["path"].clone();
    assert_eq!(path["dialled_by_us"], false);
    let seen = format!("/ip4/{}/tcp/", site.router.address());
    assert!(string(&path["remote"]).starts_with(&seen), "{path}: it is the router that the customer sees");
    pair.end();
}

#[test]
fn behind_a_full_cone() {
    behind(Nat::Cone);
}

#[test]
fn behind_a_port_restricted_cone() {
    behind(Nat::PortRestricted);
}

#[test]
fn behind_a_symmetric_translation() {
    behind(Nat::Symmetric);
}

#[test]
fn out_on_443_alone_and_no_datagrams() {
    let Some(lab) = lab("a supplier that may call port 443 alone") else { return };
    let (oem, site) = (lab.host("oem"), lab.site("supplier", Nat::PortRestricted));
    site.router
        .nft("table ip firewall {\nchain forward {\ntype filter hook forward priority 10\nct state established accept\niifname lan tcp dport != 443 drop\nmeta l4proto != tcp drop\n}\n}\n")
        .unwrap();
    site.host
        .nft("table ip quiet {\nchain output {\ntype filter hook output priority 0\noifname != lo meta l4proto udp drop\n}\n}\n")
        .unwrap();

    let world = World::new();
    let pair = Pair {
        supplier: world.firm("supplier").within(site.host.name()),
        oem: world.firm("oem").within(oem.name()),
        lots: std::cell::Cell::new(0),
        world,
    };
    certificates(pair.oem.home(), &[oem.address()]);
    // The plain port first, which the supplier's firewall does not let through.
    let listen = format!("listen = [\"{0}:4001\", \"wss://{0}:443\"]", oem.address());
    configure(&pair.oem, &listen, "certificate = \"cert.pem\"\nkey = \"key.pem\"");
    configure(&pair.supplier, "", &format!("trust = {:?}", pair.oem.path("ca.pem")));
    pair.begin();
    pair.publish(&pair.supplier, 20);
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);
    let path = pair.supplier.partner("oem")["path"].clone();
    assert_eq!(path["remote"], format!("/ip4/{}/tcp/443/tls/ws", oem.address()));

    // Who asks what is in the way of the other address is told.
    let found = pair.supplier.ok(&["doctor", "net", "oem"])["found"][0].clone();
    let tried = |of: &str| {
        found["tried"].as_array().unwrap().iter().find(|tried| tried["address"] == of).unwrap_or_else(|| panic!("{of}: {found}"))
    };
    let plain = tried(&format!("{}:4001", oem.address()));
    assert_eq!(plain["found"], "does not answer", "{found}");
    assert!(string(&plain["todo"]).contains("a firewall on the way drops it"), "{found}");
    assert_eq!(tried(&format!("wss://{}:443", oem.address()))["answers"], true, "{found}");
    pair.end();
}

#[test]
fn both_behind_routers_meet_at_a_relay() {
    let Some(lab) = lab("two firms behind routers, and relays") else { return };
    let (ours, theirs) = (lab.site("supplier", Nat::Symmetric), lab.site("oem", Nat::PortRestricted));
    let hosts = [lab.host("first"), lab.host("second")];
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier").within(ours.host.name()), world.firm("oem").within(theirs.host.name()));
    let relays = [0, 1].map(|at: usize| {
        let listen = format!("{}:4001", hosts[at].address());
        let relay = world.firm_listening(["first", "second"][at], &listen).within(hosts[at].name());
        relay.start_as_relay_for(&[&supplier, &oem]);
        relay
    });
    oem.keep_places_at(&[&relays[0], &relays[1]]);
    let pair = Pair { supplier, oem, lots: std::cell::Cell::new(0), world };
    pair.begin();
    pair.publish(&pair.supplier, 20);
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);
    pair.share(&pair.oem, "supplier");
    pair.arrived(&pair.oem, &pair.supplier, PATIENCE);

    // That one of them dies is tried in tests/relay.rs.
    let path = string(&pair.supplier.partner("oem")["path"]["remote"]);
    assert!(relays.iter().any(|relay| path.contains(&relay.peer())), "{path}");
    pair.end();
}

#[test]
fn a_partition_is_noticed_and_healed() {
    let Some(lab) = lab("a partition") else { return };
    let (oem, site) = (lab.host("oem"), lab.site("supplier", Nat::PortRestricted));
    let pair = Pair::new(&site.host, &oem);
    pair.publish(&pair.supplier, 10);
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);

    site.router.cut();
    let cut = Instant::now();
    pair.publish(&pair.supplier, 300);
    pair.connected(&pair.supplier, DEAD_LINE, false);
    eprintln!("the supplier noticed the dead line after {:.0} s", cut.elapsed().as_secs_f64());
    pair.connected(&pair.oem, DEAD_LINE, false);
    eprintln!("the customer noticed it after {:.0} s", cut.elapsed().as_secs_f64());
    pair.publish(&pair.supplier, 10);
    site.router.heal();
    let healed = Instant::now();
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);
    eprintln!("level again {:.1} s after the line was healed", healed.elapsed().as_secs_f64());
    pair.end();
}

#[test]
fn another_address_and_a_customer_that_starts_again() {
    let Some(lab) = lab("a change of address") else { return };
    let (oem, supplier) = (lab.host("oem"), lab.host("supplier"));
    let pair = Pair::new(&supplier, &oem);
    pair.publish(&pair.supplier, 10);
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);

    supplier.set(&format!("ip addr del {}/24 dev eth && ip addr add 203.0.113.77/24 dev eth", supplier.address()));
    let moved = Instant::now();
    pair.publish(&pair.supplier, 10);
    // Sooner than the watchdog finds the line dead: it was noticed that the address is gone.
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);
    eprintln!("level again {:.1} s after the address changed", moved.elapsed().as_secs_f64());
    wait("the customer to see the new address", || {
        let path = &pair.oem.partner("supplier")["path"];
        path["remote"].as_str().is_some_and(|remote| remote.starts_with("/ip4/203.0.113.77/"))
    });

    pair.oem.stop();
    pair.publish(&pair.supplier, 10);
    pair.oem.start();
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);
    pair.oem.kill();
    pair.oem.start();
    pair.publish(&pair.supplier, 10);
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);
    pair.end();
}

/// Two places with nothing but a line between them, or the word that nothing was tested.
fn over(what: &str, line: Line) -> Option<(Lab, Wire, [Place; 2])> {
    if !Path::new("/dev/net/tun").exists() {
        eprintln!("SKIPPED: {what} was not tested: there is no /dev/net/tun");
        return None;
    }
    let lab = lab(what)?;
    let places = [("one", "10.9.0.1"), ("other", "10.9.0.2")].map(|(name, address)| lab.alone(name).at(address));
    let wire = Wire::between(&places[0], &places[1], line);
    Some((lab, wire, places))
}

fn exchange_over(what: &str, line: Line) {
    let Some((_lab, wire, [supplier, oem])) = over(what, line) else { return };
    let pair = Pair::new(&supplier, &oem);
    pair.publish(&pair.supplier, 1_000);
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);

    // And a cut in the middle of a transfer, shorter than anybody's patience.
    pair.publish(&pair.supplier, 500);
    wire.cut();
    pair.publish(&pair.supplier, 500);
    wire.heal();
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);
    pair.end();
}

#[test]
fn five_packets_of_a_hundred_are_lost() {
    exchange_over("a line that loses packets", Line::new(Duration::from_millis(20)).losing(50));
}

#[test]
fn once_around_the_world() {
    exchange_over("a slow line", Line::new(Duration::from_millis(300)));
}

#[test]
fn a_customer_that_sleeps_is_given_up_and_found_again() {
    let Some(lab) = lab("a computer that sleeps") else { return };
    let (oem, supplier) = (lab.host("oem"), lab.host("supplier"));
    let pair = Pair::new(&supplier, &oem);
    pair.publish(&pair.supplier, 10);
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);

    // A program that is stopped keeps its connections and says nothing, like a computer whose lid was closed.
    pair.oem.signal("STOP");
    let asleep = Instant::now();
    pair.publish(&pair.supplier, 10);
    pair.connected(&pair.supplier, DEAD_LINE, false);
    eprintln!("the supplier gave the sleeping customer up after {:.0} s", asleep.elapsed().as_secs_f64());
    pair.publish(&pair.supplier, 10);
    pair.oem.signal("CONT");
    let awake = Instant::now();
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);
    eprintln!("level again {:.1} s after it woke", awake.elapsed().as_secs_f64());
    pair.end();
}

/// One TCP stream with nothing in it, in the direction and of the size of an exchange.
const SINK: &str = "import socket, sys\n\
    place = socket.create_server((sys.argv[1], 9000))\n\
    print('ready', flush=True)\n\
    stream, _ = place.accept()\n\
    while stream.recv(1 << 20):\n    pass\n";
const SOURCE: &str = "import socket, sys\n\
    stream = socket.create_connection((sys.argv[1], 9000))\n\
    stream.sendall(bytes(int(sys.argv[2])))\n";

fn plain_stream(from: &Place, to: &Place, bytes: usize) {
    let mut sink = to.command("python3").args(["-c", SINK, to.address()]).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    sink.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let sent = from.command("python3").args(["-c", SOURCE, to.address(), &bytes.to_string()]).status().unwrap();
    assert!(sent.success() && sink.wait().unwrap().success());
}

/// What went from the supplier to the customer in these packets: bits a second from the first to the last that was full, and bytes.
fn flow(passed: &[Passed]) -> (f64, usize) {
    let full: Vec<_> = passed.iter().filter(|packet| packet.way == Way::There && packet.bytes >= 1_000).collect();
    let bytes = full.iter().map(|packet| packet.bytes).sum::<usize>();
    let seconds = (full.last().unwrap().at - full[0].at).as_secs_f64();
    (bytes as f64 * 8.0 / seconds, bytes)
}

/// How much of a line an exchange uses, beside one plain stream over the same line, and how soon it goes on after a break.
fn figures(what: &str, line: Line) {
    let Some((_lab, wire, [supplier, oem])) = over(what, line) else { return };
    let records = std::env::var("RECORDS").ok().and_then(|records| records.parse().ok()).unwrap_or(2_000);
    let pair = Pair::new(&supplier, &oem);
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);
    pair.oem.stop();
    pair.publish(&pair.supplier, records);
    wire.forget();
    pair.oem.start();
    pair.arrived(&pair.supplier, &pair.oem, DEAD_LINE);
    let (ours, bytes) = flow(&wire.passed());
    wire.forget();
    plain_stream(&supplier, &oem, bytes);
    let (plain, _) = flow(&wire.passed());
    eprintln!(
        "figure: {what}: {records} records, {:.1} MB at {:.2} Mbit/s: {:.2} of the line, {:.2} of one plain stream ({:.2} Mbit/s)",
        bytes as f64 / 1e6,
        ours / 1e6,
        ours / line.rate as f64,
        ours / plain,
        plain / 1e6,
    );

    pair.oem.stop();
    pair.publish(&pair.supplier, 100);
    wire.forget();
    pair.oem.start();
    pair.arrived(&pair.supplier, &pair.oem, PATIENCE);
    let passed = wire.passed();
    let opened = passed.iter().rfind(|packet| packet.way == Way::There && packet.opens).expect("it was dialled");
    let mut there = 0;
    let resumed = passed.iter().filter(|packet| packet.way == Way::There && packet.at >= opened.at).find(|packet| {
        there += packet.bytes;
        // More than a handshake has: the batch is on its way.
        there > 12_000
    });
    let round_trips = (resumed.expect("a batch").at - opened.at).as_secs_f64() / (2.0 * line.delay.as_secs_f64());
    eprintln!("figure: {what}: from the first packet of a new connection to the first batch {round_trips:.1} round trips");
    pair.end();
}

#[test]
fn figures_of_a_line() {
    figures("60 ms, 20 Mbit/s", Line::new(Duration::from_millis(60)));
}

#[test]
fn figures_of_a_line_that_loses() {
    figures("60 ms, 20 Mbit/s, 1 % lost", Line::new(Duration::from_millis(60)).losing(10));
}
