//! What is in the way is named, with what to do about it; and looking changes nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use lotline_integration::world::{Firm, Said, World, free_port, string, wait};
use serde_json::{Value, json};

/// A port where something answers that is no node.
fn stranger() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut line in listener.incoming().map_while(Result::ok) {
            let _ = line.read(&mut [0; 64]);
            let _ = line.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    port
}

fn announce(firm: &Firm, addresses: &[String]) {
    let path = firm.path("lotline.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let kept: String = text.lines().filter(|line| !line.starts_with("announce")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, format!("announce = {}\n{kept}", json!(addresses))).expect("a configuration is written");
}

fn look(firm: &Firm, more: &[&str]) -> Value {
    let said = Said::of(&mut firm.command(["doctor", "net", "--json"].iter().chain(more)));
    serde_json::from_str(&said.out).expect("JSON")
}

#[test]
fn each_thing_in_the_way_is_named_and_the_way_in_use_is_shown() {
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem"));
    assert!(String::from_utf8_lossy(&supplier.command(["doctor", "net"]).output().expect("it runs").stdout).contains("none yet"));
    oem.start();
    let real = string(&oem.ok(&["status"])["listening"][0]);
    let port = real.rsplit('/').next().expect("a port").to_owned();
    let (other, nobody, garbage) = (world.reachable_firm("other"), free_port(), stranger());
    other.start();
    let another = string(&other.ok(&["status"])["listening"][0]).rsplit('/').next().expect("a port").to_owned();
    announce(
        &oem,
        &[format!("127.0.0.1:{nobody}"), format!("127.0.0.1:{garbage}"), format!("127.0.0.1:{another}"), format!("127.0.0.1:{port}")],
    );
    supplier.start();
    supplier.pair("supplier", &oem, "oem");
    wait("the two to be connected", || supplier.partner("oem")["connected"] == true);

    // Connected: the way in use, and nothing is dialled.
    let found = look(&supplier, &[]);
    assert_eq!((&found["fine"], &found["found"][0]["tried"]), (&json!(true), &json!([])));
    assert!(string(&found["found"][0]["state"]).contains(&format!("to /ip4/127.0.0.1/tcp/{port}")), "{found}");

    // Asked about by name, every address is tried, and what each lacks is said.
    let found = look(&supplier, &["oem"]);
    let tried = found["found"][0]["tried"].as_array().expect("addresses");
    for (at, what) in [(0, "nothing listens at that port"), (1, "not as a node does"), (2, "is another node")] {
        assert!(string(&tried[at]["found"]).contains(what), "{}", tried[at]);
        assert!(string(&tried[at]["todo"]).len() > 20, "{}", tried[at]);
    }
    assert_eq!((&tried[3]["answers"], &found["fine"]), (&json!(true), &json!(true)));

    // It changed nothing: still connected, and the customer saw nobody but the supplier.
    assert_eq!(supplier.partner("oem")["connected"], true);
    assert_eq!(supplier.partner("oem")["connections"], 1);

    // The other side cannot dial, and is told so when it matters.
    supplier.stop();
    wait("the supplier to be gone", || oem.partner("supplier")["connected"] == false);
    let found = look(&oem, &[]);
    assert_eq!(found["fine"], false);
    assert!(string(&found["found"][0]["todo"]).contains("it has to dial this node"), "{found}");

    // Without a node, and with the partner gone: an error for scripts, words for people.
    oem.stop();
    let said = Said::of(supplier.command(["doctor", "net"]).env("HTTPS_PROXY", "http://proxy.firm.example:3128"));
    assert_eq!(said.code, 1);
    for words in ["not running", "needs no open port", "HTTPS_PROXY", "nothing listens at that port", "->"] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    let path = supplier.path("lotline.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let relay = "relay://12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN@nowhere.invalid:4001";
    std::fs::write(&path, format!("relays = [{relay:?}]\n{text}")).expect("a configuration is written");
    let found = look(&supplier, &[]);
    let relay = &found["found"][0];
    assert_eq!((&relay["kind"], &relay["fine"], &found["fine"]), (&json!("relay"), &json!(false), &json!(false)));
    assert!(string(&relay["tried"][0]["found"]).contains("a name that is not known here"), "{relay}");
    assert_eq!(supplier.fails(5, &["doctor", "net", "nobody"]).error(), "there is no partner `nobody`");
}
