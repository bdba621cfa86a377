//! What programs that watch a node get: metrics, the audit log, and lag and path in `status`. Never a word of any record.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use lotline_integration::world::{Firm, World, lots_file, string, wait, wait_until_level};
use serde_json::Value;

const SHARE: &str =
    "[[share]]\nname = 'all'\nwith = 'oem'\nfeed = 'quality'\nparts = 'all'\nshow = ['identity', 'verdict']\nuntil = 'revoked'\n";

fn content(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Asks a node's page as a monitoring program would; status and body.
fn get(firm: &Firm, path: &str, key: &str) -> (u16, String) {
    let run: Value = serde_json::from_str(&content(&firm.path("run.json"))).unwrap();
    let address = string(&run["api"]);
    let mut stream = TcpStream::connect(&address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The value of a line of the metrics.
fn value(metrics: &str, line: &str) -> Option<u64> {
    metrics.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn metrics_status_and_audit_log_say_what_happened_and_nothing_of_what_is_in_it() {
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem"));
    let log = world.path("audit.jsonl").display().to_string();
    supplier.start_with(&["--audit-log", &log]);
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    supplier.publish(&world.file("secret.csv", lots_file("SECRETLOT", "SECRETPART", 3)), &["--feed", "quality"]);
    supplier.apply(SHARE);
    wait_until_level(&supplier, &oem);
    wait("everything to be acknowledged", || supplier.ledger("oem").iter().any(|row| row["outcome"] == "acknowledged"));

    let key = content(&supplier.path("metrics-token"));
    let (status, metrics) = get(&supplier, "/metrics", &key);
    assert_eq!(status, 200, "{metrics}");
    assert_eq!(value(&metrics, "lotline_partner_connected{partner=\"oem\"}"), Some(1), "{metrics}");
    assert_eq!(value(&metrics, "lotline_partner_connections_total{partner=\"oem\"}"), Some(1), "{metrics}");
    assert_eq!(value(&metrics, "lotline_feed_entries{feed=\"quality/1\",of=\"ours\"}"), Some(4), "{metrics}");
    assert_eq!(value(&metrics, "lotline_lag_entries{partner=\"oem\",feed=\"quality/1\",way=\"out\"}"), Some(0), "{metrics}");
    assert!(value(&metrics, "lotline_credit_bytes{partner=\"oem\",feed=\"quality/1\",way=\"out\"}").unwrap() > 100_000, "{metrics}");
    assert!(value(&metrics, "lotline_journal_bytes").unwrap() > 1000 && metrics.ends_with("# EOF\n"), "{metrics}");
    let (_, theirs) = get(&oem, "/metrics", &content(&oem.path("metrics-token")));
    assert_eq!(value(&theirs, "lotline_lag_entries{partner=\"supplier\",feed=\"quality/1\",way=\"in\"}"), Some(0), "{theirs}");

    // The key opens this and nothing else; the page's key is for the page.
    assert_eq!(get(&supplier, "/", &key).0, 401);
    assert_eq!(get(&supplier, "/metrics", &content(&oem.path("metrics-token"))).0, 401);

    let link = supplier.partner("oem");
    assert_eq!((&link["path"]["dialled_by_us"], &link["dials_failed"]), (&Value::Bool(true), &Value::from(0)), "{link}");
    assert!(string(&link["path"]["remote"]).starts_with("/ip4/127.0.0.1/tcp/"), "{link}");
    let said = supplier.call(&["status"]);
    assert_eq!(said.code, 0);

    // A customer that is gone: the lag grows, and shows.
    oem.stop();
    wait("the customer to be gone", || supplier.partner("oem")["connected"] == false);
    supplier.publish(&world.file("more.csv", lots_file("SECRETMORE", "SECRETPART", 2)), &["--feed", "quality"]);
    wait("the lag to show", || {
        supplier.partner("oem")["lags"].as_array().unwrap().iter().any(|lag| lag["entries"] == 2 && lag["ours"] == true)
    });
    wait("failed dials to be counted", || supplier.partner("oem")["dials_failed"].as_u64() > Some(0));
    let (_, metrics) = get(&supplier, "/metrics", &key);
    assert_eq!(value(&metrics, "lotline_partner_connected{partner=\"oem\"}"), Some(0), "{metrics}");
    assert_eq!(value(&metrics, "lotline_lag_entries{partner=\"oem\",feed=\"quality/1\",way=\"out\"}"), Some(2), "{metrics}");
    supplier.stop();

    let log = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: BTreeSet<String> = lines.iter().map(|line| string(&line["event"])).collect();
    for event in ["started", "connected", "disconnected", "sent", "command", "stopping"] {
        assert!(events.contains(event), "no `{event}` in {events:?}");
    }
    let sent = lines.iter().find(|line| line["event"] == "sent" && line["rules"] == 1).unwrap_or_else(|| panic!("{log}"));
    assert_eq!((&sent["partner"], &sent["outcome"]), (&Value::from("oem"), &Value::from("acknowledged")));
    assert!(sent["timestamp"].is_string() && sent["number"].is_u64() && string(&sent["feed"]).contains("/quality/"), "{sent}");
    let commands: BTreeSet<String> = lines.iter().filter(|line| line["event"] == "command").map(|line| string(&line["verb"])).collect();
    assert!(commands.contains("policy apply") && commands.contains("publish") && commands.contains("partner accept"), "{commands:?}");
    assert!(!log.contains("SECRET") && !metrics.contains("SECRET"), "content is nobody's business here");
}
