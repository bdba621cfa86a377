//! Evidence that needs nobody's trust, by the commands people type: receipts and cosignatures over the network and on a
//! stick, bundles that prove a date, and two truths found, frozen and proven to anybody.
#![allow(clippy::unwrap_used, reason = "tests, also outside the test functions")]

use std::path::Path;

use lotline_integration::world::{Firm, World, string, text, wait_until_level};
use lotline_schema::fork::ForkProof;
use lotline_schema::verify::{Outcome, Trust, verify};
use serde_json::Value;

const RULES: &str = r#"
[[share]]
name = "a-sees-results"
with = "oem-a"
feed = "quality"
parts = "all"
show = ["identity", "verdict"]
until = "revoked"

[[share]]
name = "b-sees-results"
with = "oem-b"
feed = "quality"
parts = "all"
show = ["identity", "verdict"]
until = "revoked"
"#;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

fn publish(firm: &Firm, lot: &str) -> Value {
    let file = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/plate_fair_long.csv"));
    firm.publish(&file, &["--lot", lot, "--part", "PLATE", "--feed", "quality"])
}

/// A supplier and two customers that were paired and never met: nobody runs.
fn strangers(world: &World) -> (Firm, Firm, Firm) {
    let (supplier, a, b) = (world.firm("supplier"), world.reachable_firm("oem-a"), world.reachable_firm("oem-b"));
    supplier.pair("supplier", &a, "oem-a");
    supplier.pair("supplier", &b, "oem-b");
    publish(&supplier, "PLATE-1");
    supplier.apply(RULES);
    (supplier, a, b)
}

fn carry(world: &World, from: &Firm, to: &Firm, name: &str) -> (String, Value) {
    let (file, answer) = (text(&world.path(&format!("{name}.carried"))), text(&world.path(&format!("{name}.answer"))));
    from.ok(&["carry", "--to", name, "-o", &file]);
    let said = to.ok(&["receive", &file, "-o", &answer]);
    (answer, said)
}

#[test]
fn what_goes_on_a_stick_is_verified_signed_for_and_in_the_ledger() {
    let world = World::new();
    let (supplier, a, b) = strangers(&world);
    let (answer, said) = carry(&world, &supplier, &a, "oem-a");
    assert_eq!(said["receipts"], 1, "{said}");
    assert_eq!(a.count("PLATE-1"), 1);
    // The fields that the rules hide are not in the file.
    let carried = std::fs::read(world.path("oem-a.carried")).unwrap();
    assert!(!carried.windows(12).any(|window| window == b"Cone Angle 1"), "a hidden field is in the file");
    let outcomes = || supplier.ledger("oem-a").iter().map(|row| string(&row["outcome"])).collect::<Vec<_>>();
    assert!(outcomes().iter().all(|outcome| outcome == "exported"), "{:?}", outcomes());
    // The file is for one customer alone, and a second time changes nothing.
    let refused = b.fails(3, &["receive", &text(&world.path("oem-a.carried"))]);
    assert!(refused.error().contains("for somebody else"), "{}", refused.out);
    assert_eq!(a.ok(&["receive", &text(&world.path("oem-a.carried"))])["entries"], 0);
    let taken = supplier.ok(&["receive", &answer]);
    assert_eq!((taken["receipts"].as_u64(), taken["strange"].as_u64()), (Some(1), Some(0)), "{taken}");
    assert!(taken["cosignatures"].as_u64() > Some(0), "{taken}");
    assert!(outcomes().iter().any(|outcome| outcome.starts_with("acknowledged")), "{:?}", outcomes());
    assert_eq!(supplier.ok(&["receive", &answer])["receipts"], 0, "the same answer counts once");
    // What has been signed for is not written again; what is new is.
    supplier.fails(5, &["carry", "--to", "oem-a", "-o", &text(&world.path("again"))]);
    publish(&supplier, "PLATE-2");
    carry(&world, &supplier, &a, "oem-a");
    assert_eq!(a.count("PLATE-2"), 1);
    // A file that was altered on the way is refused whole, and the feed is stopped with the evidence.
    let mut altered = std::fs::read(world.path("oem-a.carried")).unwrap();
    let at = altered.len() / 2;
    altered[at] ^= 1;
    let refused = b.call(&["receive", &world.file("altered", &altered)]);
    assert_ne!(refused.code, 0, "{}", refused.out);
    supplier.is_clean();
    a.is_clean();
}

#[test]
fn a_bundle_proves_its_date_and_who_received_it() {
    let world = World::new();
    let (supplier, a, _) = strangers(&world);
    let (bundle, unproven) = (text(&world.path("b.lotline")), text(&world.path("u.lotline")));
    supplier.ok(&["bundle", "--lot", "PLATE-1", "--for", "oem-a", "-o", &unproven]);
    let said = world.verify(&unproven, &["--issuer", &supplier.identity()]);
    assert_eq!((said.code, &said.json["records"][0]["witnessed"]), (0, &Value::Null), "{}", said.out);
    let said = world.verify(&unproven, &["--issuer", &supplier.identity(), "--at", "2099-01-01"]);
    assert_eq!((said.code, said.json["failing_check"].as_str()), (9, Some("witness")), "{}", said.out);
    supplier.start();
    a.start();
    wait_until_level(&supplier, &a);
    publish(&supplier, "PLATE-2");
    wait_until_level(&supplier, &a);
    for maker in [&supplier, &a] {
        let whom: &[&str] = if maker.path("") == supplier.path("") { &["--for", "oem-a"] } else { &[] };
        let evidence = || {
            maker.ok(&[&["bundle", "--feed", "quality", "-o", &bundle], whom].concat());
            world.verify(&bundle, &["--issuer", &supplier.identity(), "--at", "2099-01-01", "--fresh-after", "2026-01-01"])
        };
        lotline_integration::world::wait("cosignatures and receipts to be kept", || evidence().code == 0);
        let said = evidence();
        assert_eq!(said.json["records"].as_array().unwrap().len(), 2, "{}", said.out);
        for record in said.json["records"].as_array().unwrap() {
            assert!(record["witnessed"]["at"].as_u64() > Some(1_700_000_000), "{}", said.out);
            assert_eq!(record["received_by"][0]["identity"].as_str(), Some(a.identity().as_str()), "{}", said.out);
        }
        let late = world.verify(&bundle, &["--issuer", &supplier.identity(), "--at", "2020-01-01"]);
        assert_eq!(late.code, 9, "{}", late.out);
        let stale = world.verify(&bundle, &["--issuer", &supplier.identity(), "--fresh-after", "2099-01-01"]);
        assert_eq!((stale.code, stale.json["failing_check"].as_str()), (9, Some("status")), "{}", stale.out);
        // A quorum of a witness that never signed.
        let key = "witness x w-96aae5a8+f5b3a0c7+";
        let quorum = world.file("bad-quorum.txt", format!("{key}\nquorum x\n"));
        let said = world.verify(&bundle, &["--quorum", &quorum]);
        assert_eq!(said.code, 2, "{}", said.out);
    }
    // Each part of the evidence is a file for other tools.
    let folder = text(&world.path("parts"));
    supplier.ok(&["bundle", "--lot", "PLATE-1", "--for", "oem-a", "-o", &bundle]);
    world.verify(&bundle, &["--explode", &folder]);
    for part in ["000.receipt.cbor", "000.transparent-statement.cbor", "000.witnessed.tlog-proof"] {
        assert!(Path::new(&folder).join(part).exists(), "{part}");
    }
}

/// The home of a supplier is copied, whole, and both go on: two truths under one key.
#[test]
fn two_customers_who_compare_find_the_fork_and_prove_it_to_anybody() {
    let world = World::new();
    let (supplier, a, b) = strangers(&world);
    let twin = world.path("twin");
    copy(supplier.home(), &twin);
    let twin = Firm::at(&twin);
    publish(&supplier, "PLATE-A");
    publish(&twin, "PLATE-B");
    carry(&world, &supplier, &a, "oem-a");
    carry(&world, &twin, &b, "oem-b");
    let (bundle, proof) = (text(&world.path("a.lotline")), text(&world.path("fork.lotline")));
    // Their common beginning contradicts nothing, whatever the head.
    a.ok(&["bundle", "--lot", "PLATE-A", "-o", &bundle]);
    b.fails(5, &["fork-proof", "-o", &proof]);
    let said = b.call(&["audit", "--against", &bundle]);
    assert_eq!(said.code, 10, "{}", said.out);
    assert!(said.json["forks"].as_array().unwrap().iter().any(|fork| fork["proven"] == true), "{}", said.out);
    assert_eq!(b.frozen().len(), 1, "the feed is frozen");
    b.ok(&["fork-proof", "-o", &proof]);
    let verdict = world.verify(&proof, &["--issuer", &supplier.identity()]);
    assert_eq!((verdict.code, verdict.json["outcome"].as_str()), (10, Some("forked")), "{}", verdict.out);
    // After a talk the feed goes on; the proof stays.
    b.fails(3, &["thaw", "--from", "supplier", "--feed", "quality"]);
    b.ok(&["thaw", "--from", "supplier", "--feed", "quality", "--yes"]);
    assert!(b.frozen().is_empty());
    let bytes = std::fs::read(&proof).unwrap();
    assert!(ForkProof::read(&bytes).unwrap().check().is_ok());
    for at in (0..bytes.len()).step_by(97) {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        assert_ne!(verify(&altered, &Trust::none()).outcome, Outcome::Forked, "byte {at}");
    }
    // The control: the same comparison with what the same supplier showed finds nothing.
    let same = text(&world.path("same.lotline"));
    a.ok(&["bundle", "--lot", "PLATE-1", "-o", &same]);
    let said = a.ok(&["audit", "--against", &same]);
    assert_eq!(said["forks"].as_array().map(Vec::len), Some(0), "{said}");
    assert!(a.frozen().is_empty());
}

/// Withdrawn, replaced: every view says so, and the old record stays provable.
#[test]
fn corrections_show_everywhere_and_what_was_stays_provable() {
    let world = World::new();
    let (supplier, a, _) = strangers(&world);
    carry(&world, &supplier, &a, "oem-a");
    supplier.fails(3, &["withdraw", "PLATE-1", "--reason", "gauge out of calibration"]);
    supplier.ok(&["withdraw", "PLATE-1", "--reason", "gauge out of calibration", "--yes"]);
    assert_eq!(supplier.ok(&["show", "PLATE-1"])["withdrawn"], "gauge out of calibration");
    // The lot is free again; the customer gets both, the old one as what it is.
    let again = publish(&supplier, "PLATE-1");
    assert_eq!((again["published"][0]["seq"].as_u64(), again["published"][0]["repeated"].as_bool()), (Some(2), Some(false)));
    carry(&world, &supplier, &a, "oem-a");
    for firm in [&supplier, &a] {
        let shown = firm.ok(&["show", "PLATE-1"]);
        assert_eq!((shown["seq"].as_u64(), &shown["withdrawn"]), (Some(2), &Value::Null), "{shown}");
        let all = firm.ok(&["records", "--lot", "PLATE-1"]);
        let marks: Vec<bool> = all["records"].as_array().unwrap().iter().map(|record| record["withdrawn"].is_string()).collect();
        assert_eq!(marks.iter().filter(|mark| **mark).count(), 1, "{all}");
    }
    let bundle = text(&world.path("withdrawn.lotline"));
    a.ok(&["bundle", "--lot", "PLATE-1", "-o", &bundle]);
    let said = world.verify(&bundle, &["--issuer", &supplier.identity()]);
    assert_eq!((said.code, said.json["outcome"].as_str()), (8, Some("withdrawn")), "{}", said.out);
    assert_eq!(said.json["records"].as_array().map(Vec::len), Some(2), "{}", said.out);
    a.is_clean();
}
