//! Two firms that nobody can dial, and a third that puts them through: real programs, real lines.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use lotline_integration::world::{Firm, World, lots_file, string, wait, wait_until_level};
use lotline_node::net::{Address, Config, Net, Partner, PeerId, transport_peer_id};
use serde_json::json;

const SHARE: &str =
    "[[share]]\nname = 'all'\nwith = 'oem'\nfeed = 'quality'\nparts = 'all'\nshow = ['identity', 'verdict']\nuntil = 'revoked'\n";

/// A relay for these firms, by the list that its owner keeps.
fn relay_for(world: &World, name: &str, firms: &[&Firm]) -> Firm {
    let relay = world.reachable_firm(name);
    relay.start_as_relay_for(firms);
    relay
}

#[test]
fn records_go_through_a_relay_and_through_the_next_when_it_dies() {
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.firm("oem"));
    let relays = ["first", "second"].map(|name| relay_for(&world, name, &[&supplier, &oem]));
    oem.keep_places_at(&[&relays[0], &relays[1]]);
    oem.start();
    supplier.start();
    wait("the relays to keep two places", || oem.places_kept() == 2);

    // The invitation says how to get there; pairing by hand is as ever.
    supplier.pair("supplier", &oem, "oem");
    supplier.publish(&world.file("lots.csv", lots_file("A", "PIN", 3)), &["--feed", "quality"]);
    supplier.apply(SHARE);
    wait_until_level(&supplier, &oem);
    let path = string(&supplier.partner("oem")["path"]["remote"]);
    let used = relays.iter().position(|relay| path.contains(&relay.peer())).expect("the way leads through one of the relays");
    assert!(path.ends_with("/p2p-circuit"), "{path}");
    wait("the relay to count both", || {
        let load = relays[used].ok(&["status"])["relaying"].clone();
        load["lines"] == json!(1) && load["places"] == json!(1)
    });

    // What it puts through it does not have: no partner, no feed, no record.
    assert_eq!(relays[used].ok(&["partner", "list"])["partners"], json!([]));
    assert_eq!(relays[used].records(), []);

    // It dies in the middle of things.
    assert!(relays[used].kill());
    supplier.publish(&world.file("more.csv", lots_file("B", "PIN", 3)), &["--feed", "quality"]);
    wait_until_level(&supplier, &oem);
    let path = string(&supplier.partner("oem")["path"]["remote"]);
    assert!(path.contains(&relays[1 - used].peer()), "{path}");
    wait("the loss to show", || oem.places_kept() == 1);

    // It comes back, and keeps the place again.
    relays[used].start_with(&["--relay"]);
    wait("the place to be kept again", || oem.places_kept() == 2);
    oem.is_clean();
    supplier.is_clean();
}

#[test]
fn the_list_of_a_running_relay_is_what_its_file_says_and_a_mistake_changes_nothing() {
    let world = World::new();
    let supplier = world.firm("supplier");
    let relay = relay_for(&world, "relay", &[]);
    supplier.keep_places_at(&[&relay]);
    supplier.start();
    wait("the refusal to show", || {
        let place = supplier.ok(&["status"])["relays"][0].clone();
        place["kept"] == json!(false) && place["trouble"].is_string()
    });
    let list = relay.path("relay-users.txt");
    std::fs::write(&list, format!("# members\n{} Muster GmbH\n", supplier.peer())).unwrap();
    wait("the new member to have a place", || supplier.places_kept() == 1);
    std::fs::write(&list, "Muster GmbH\n").unwrap();
    wait("the mistake to be named", || relay.log().contains("line 1: `Muster` is not a peer id"));
    assert_eq!(supplier.places_kept(), 1);
    std::fs::write(&list, "").unwrap();
    wait("the former member to be out", || supplier.places_kept() == 0);
}

#[test]
fn what_cannot_be_a_relay_or_a_place_at_one_is_refused_with_a_reason() {
    let world = World::new();
    let firm = world.firm("firm");
    let fails = |args: &[&str]| {
        let out = firm.command(args.iter().copied()).output().unwrap();
        assert!(!out.status.success());
        String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout)
    };
    assert!(fails(&["run", "--relay"]).contains("this node listens nowhere"));
    let id = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    assert!(fails(&["run", "--listen", &format!("relay://{id}@relay.example:4001")]).contains("name it under relays in lotline.toml"));
    std::fs::write(firm.path("relay-users.txt"), "\n\nnobody\n").unwrap();
    assert!(fails(&["run", "--relay", "--listen", "127.0.0.1:0"]).contains("line 3: `nobody` is not a peer id"));
    let path = firm.path("lotline.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("relays = [\"relay.example:4001\"]\n{text}")).unwrap();
    assert!(fails(&["run"]).contains("does not say which relay"));
}

/// What a relay costs: memory with places kept and lines put through, and bytes while nothing is said. `PLACES=1000` counts more.
#[test]
fn a_relay_keeps_many_places_and_says_what_they_cost() {
    let places: usize = std::env::var("PLACES").ok().and_then(|places| places.parse().ok()).unwrap_or(40);
    let world = World::new();
    let seeds: Vec<[u8; 32]> = (0..places).map(|n| std::array::from_fn(|at| n.to_le_bytes().get(at).copied().unwrap_or(9))).collect();
    let relay = world.reachable_firm("relay");
    let ids: Vec<PeerId> = seeds.iter().map(transport_peer_id).collect();
    std::fs::write(relay.path("relay-users.txt"), ids.iter().map(|id| format!("{id}\n")).collect::<String>()).unwrap();
    relay.start_with(&["--relay"]);
    let at: Address = relay.relay_address().parse().unwrap();
    let load = || relay.ok(&["status"])["relaying"].clone();
    let memory = || relay.ok(&["status"])["memory_bytes"].as_u64().unwrap() as f64 / 1048576.0;
    let before = memory();

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut nets = Vec::new();
    for seed in &seeds {
        let config = Config { relays: vec![at.clone()], ..Config::new(*seed, Vec::new()) };
        let (net, mut events) = runtime.block_on(Net::start(config)).unwrap();
        runtime.spawn(async move { while events.recv().await.is_some() {} });
        nets.push(net);
        // As firms come: not all in the same second.
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    wait_longer("every place to be kept", || load()["places"] == json!(places));
    let kept = memory();

    // Every second one calls the one after it.
    let lines = places / 2;
    for pair in 0..lines {
        let (near, far) = (&nets[2 * pair], &nets[2 * pair + 1]);
        let partner = |peer, addresses| vec![Partner { peer, addresses }];
        runtime.block_on(far.set_partners(partner(near.peer(), Vec::new())));
        runtime.block_on(near.set_partners(partner(far.peer(), vec![at.clone()])));
    }
    wait_longer("every line to be put through", || load()["lines"] == json!(lines));
    let through = memory();
    let sent = || -> Option<u64> {
        let text = std::fs::read_to_string("/proc/net/dev").ok()?;
        text.lines().find_map(|line| line.trim().strip_prefix("lo:")?.split_whitespace().next()?.parse().ok())
    };
    let (bytes, started) = (sent(), std::time::Instant::now());
    if places > 100 {
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
    let idle = bytes.zip(sent()).map(|(from, to)| (to - from) as f64 / started.elapsed().as_secs_f64() / places as f64);
    eprintln!(
        "a relay: {before:.1} MiB alone, {kept:.1} MiB with {places} places, {through:.1} MiB with {lines} lines; \
         on this interface {:.0} bytes a second and place while nothing is said, both ways, lines included",
        idle.unwrap_or(0.0)
    );
    runtime.shutdown_background();
}

/// Hundreds of handshakes on a busy computer.
fn wait_longer(what: &str, mut so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !so() {
        assert!(start.elapsed().as_secs() < 300, "waited 300 s in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}
