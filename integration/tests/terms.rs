//! Purposes and terms between real nodes: nothing leaves before they are accepted, exactly what is shown after; changes, withdrawals,
//! restarts and rotated keys. What is forged, and what is kept, is in `acceptance.rs`.
#![allow(clippy::unwrap_used, reason = "tests, also outside the test functions")]

use std::collections::BTreeSet;

use lotline_integration::world::{Firm, World, lots_file, string, text, wait, wait_until_level};
use serde_json::Value;

const FREE: &str =
    "[[share]]\nname = \"free\"\nwith = \"oem\"\nfeed = \"open\"\nparts = \"all\"\nshow = [\"identity\"]\nuntil = \"revoked\"\n";

/// A share of feed `quality` that asks for terms.
fn audit(show: &str, then: &str) -> String {
    format!(
        "[[share]]\nname = \"audit\"\nwith = \"oem\"\nfeed = \"quality\"\nparts = \"all\"\nshow = {show}\nfor = \"audit\"\n{then}until = \"revoked\"\n"
    )
}

const DELETE: &str = "then = { delete_after = \"90d\" }\n";
const STAYS: &str = "then = { delete_after = \"90d\", pass_on = \"no\" }\n";

/// A supplier and a customer that follows it; both run.
struct Firms {
    world: World,
    supplier: Firm,
    oem: Firm,
}

impl Firms {
    fn new(rules: &str) -> Firms {
        let world = World::new();
        let (supplier, oem) = (world.reachable_firm("supplier"), world.firm("oem"));
        supplier.start();
        oem.start();
        supplier.pair("supplier", &oem, "oem");
        let firms = Firms { world, supplier, oem };
        firms.publish("A", "quality");
        firms.publish("F", "open");
        firms.supplier.apply(rules);
        firms
    }

    fn publish(&self, prefix: &str, feed: &str) {
        let file = self.world.file(&format!("{prefix}.csv"), lots_file(prefix, "P-1", 2));
        self.supplier.publish(&file, &["--feed", feed]);
    }

    /// Waits until the customer's node has heard of so many terms that wait, and says their ids.
    fn waiting(&self, count: usize) -> Vec<String> {
        let ids = || -> Vec<String> {
            let answer = self.oem.ok(&["terms"]);
            let rows = answer["asked_of_us"].as_array().unwrap();
            rows.iter().filter(|row| row["since"].is_null()).map(|row| string(&row["terms"]["id"])).collect()
        };
        wait("the customer to hear of terms", || ids().len() == count);
        ids()
    }

    fn accept(&self) -> Value {
        self.oem.ok(&["subscribe", "supplier", "--for", "audit", "--accept-terms", "all", "--yes"])
    }

    /// What the customer sees of a lot.
    fn shown(&self, lot: &str) -> BTreeSet<String> {
        let fields = self.oem.ok(&["show", lot])["record"]["fields"].clone();
        let fields = fields.as_object().unwrap().iter().filter(|(_, field)| field["state"] != "hidden");
        fields.map(|(name, _)| name.clone()).collect()
    }

    fn came(&self, lot: &str) {
        wait("a lot to come", || self.oem.count(lot) == 1);
    }
}

fn group(show: &[&str]) -> BTreeSet<String> {
    use lotline_schema::kind::inspection::SCHEMA;
    SCHEMA.fields.iter().filter(|field| show.contains(&field.group.name())).map(|field| field.name.to_owned()).collect()
}

#[test]
fn nothing_before_acceptance_exact_fields_after_and_a_withdrawal_cuts() {
    let firms = Firms::new(&format!("{FREE}{}", audit("[\"identity\", \"verdict\"]", DELETE)));
    let (supplier, oem) = (&firms.supplier, &firms.oem);
    firms.came("F-0001");
    let ids = firms.waiting(1);
    // The feed under terms is not even offered: no entry of it came, hidden ones neither.
    let feeds = |firm: &Firm| -> BTreeSet<String> {
        let rows = firm.ok(&["feeds"])["feeds"].clone();
        rows.as_array().unwrap().iter().map(|feed| string(&feed["name"])).collect()
    };
    assert!(!feeds(oem).contains("quality"), "{:?}", feeds(oem));
    assert!(supplier.ledger("oem").iter().all(|row| !string(&row["origin"]).contains("/quality/")));
    let status = |firm: &Firm| firm.ok(&["status"])["alarms"].to_string();
    assert!(status(oem).contains("supplier asks you for terms that wait"), "{}", status(oem));
    assert!(status(supplier).contains("oem has not accepted terms"), "{}", status(supplier));
    assert!(oem.fails(2, &["subscribe", "supplier", "--accept-terms", "all"]).error().contains("delete it 90 days after receipt"));
    assert!(
        oem.fails(2, &["subscribe", "supplier", "--for", "containment"]).error().contains("that you use its records for: containment.")
    );
    oem.fails(5, &["subscribe", "supplier", "--accept-terms", "0123456789", "--yes"]);

    let accepted = firms.accept();
    assert_eq!(accepted["accepted"][0], ids[0].as_str());
    firms.came("A-0000");
    firms.came("A-0001");
    assert_eq!(firms.shown("A-0000"), group(&["identity", "verdict"]));
    let show = oem.ok(&["show", "A-0000"]);
    let obliged = &show["obligations"][0];
    assert_eq!(obliged["terms"]["promises"], serde_json::json!(["use it only for: audit", "delete it 90 days after receipt"]));
    let obliged: BTreeSet<String> = obliged["fields"].as_array().unwrap().iter().map(string).collect();
    assert_eq!(obliged, group(&["identity", "verdict"]));
    assert_eq!(oem.ok(&["show", "F-0000"])["obligations"], serde_json::json!([]));
    wait("receipts", || supplier.ledger("oem").iter().all(|row| string(&row["origin"]).ends_with("/org/1") || !row["receipt"].is_null()));
    let number = accepted["acceptance"].as_u64().unwrap();
    let about = supplier.ok(&["ledger", "--lot", "A-0000", "--partner", "oem"]);
    assert_eq!(about["records"][0]["received"][0]["receipt"]["acceptance"], number, "{about}");
    let free = supplier.ok(&["ledger", "--lot", "F-0000", "--partner", "oem"]);
    assert!(free["records"][0]["received"][0]["receipt"]["acceptance"].is_null(), "{free}");
    assert!(supplier.ok(&["terms", "oem"])["asked_by_us"][0]["acceptance"].as_u64() == Some(number));
    assert!(!status(supplier).contains("has not accepted") && !status(oem).contains("asks you"));

    // Taken back: what comes later does not come; what came stays.
    oem.fails(5, &["terms", "withdraw", "supplier", "ffffffffff", "--yes"]);
    oem.ok(&["terms", "withdraw", "supplier", "--yes"]);
    wait("the supplier to hear of it", || supplier.ok(&["terms", "oem"])["asked_by_us"][0]["acceptance"].is_null());
    firms.publish("B", "quality");
    firms.publish("G", "open");
    firms.came("G-0001");
    assert_eq!((oem.count("B-0000"), oem.count("A-0000")), (0, 1));
    assert_eq!(firms.shown("A-0000"), group(&["identity", "verdict"]));
    firms.accept();
    firms.came("B-0000");
    firms.came("B-0001");
    supplier.stop();
    oem.stop();
    supplier.is_clean();
    oem.is_clean();
}

#[test]
fn changed_terms_pause_that_share_and_the_others_go_on_over_restarts() {
    let rules = |then: &str| format!("{FREE}{}", audit("[\"identity\", \"verdict\"]", then));
    let firms = Firms::new(&rules(DELETE));
    let (supplier, oem) = (&firms.supplier, &firms.oem);
    let before = firms.waiting(1);
    firms.accept();
    firms.came("A-0001");
    let changes = supplier.apply(&rules(STAYS))["changes"].to_string();
    assert!(changes.contains("oem must accept anew before `audit` shows it anything"), "{changes}");
    let after = firms.waiting(1);
    assert_ne!(before, after);
    firms.publish("B", "quality");
    firms.publish("G", "open");
    firms.came("G-0001");
    assert_eq!(oem.count("B-0000"), 0);
    // A restart of either side changes nothing of it.
    for firm in [oem, supplier] {
        firm.stop();
        firm.start();
        assert_eq!(firms.waiting(1), after);
    }
    firms.accept();
    firms.came("B-0001");
    for firm in [supplier, oem] {
        firm.stop();
        firm.start();
    }
    firms.publish("C", "quality");
    firms.came("C-0001");
    wait_until_level(supplier, oem);
    // What came under the former terms stays under them; the newer ones say that it must not be passed on.
    let promises = |lot: &str| oem.ok(&["show", lot])["obligations"][0]["terms"]["promises"].as_array().unwrap().len();
    assert_eq!((promises("A-0000"), promises("B-0000"), promises("C-0000")), (2, 3, 3));
}

#[test]
fn what_must_stay_is_left_out_of_bundles_and_of_carried_files_only_by_their_owner() {
    let plain =
        "[[share]]\nname = \"plain\"\nwith = \"oem\"\nfeed = \"quality\"\nparts = \"all\"\nshow = [\"identity\"]\nuntil = \"revoked\"\n";
    let firms = Firms::new(&format!("{plain}{}", audit("[\"identity\", \"verdict\"]", STAYS)));
    let (world, supplier, oem) = (&firms.world, &firms.supplier, &firms.oem);
    firms.came("A-0000");
    assert_eq!(firms.shown("A-0000"), group(&["identity"]));
    firms.waiting(1);
    firms.accept();
    // Records that are here already open as backfill, with what they stand under.
    wait("the verdict to come", || firms.shown("A-0000") == group(&["identity", "verdict"]));
    wait("and of the other", || firms.shown("A-0001") == group(&["identity", "verdict"]));
    let obliged = oem.ok(&["show", "A-0000"])["obligations"].clone();
    let fields: BTreeSet<String> = obliged[0]["fields"].as_array().unwrap().iter().map(string).collect();
    assert_eq!((obliged.as_array().unwrap().len(), fields), (1, group(&["verdict"])), "what another share shows is free");
    let file = text(&world.path("A.lotline"));
    let said = oem.ok(&["bundle", "--lot", "A-0000", "-o", &file]);
    let left_out: BTreeSet<String> = said["left_out"]["fields"].as_array().unwrap().iter().map(string).collect();
    assert_eq!((said["records"].as_u64(), left_out), (Some(1), group(&["verdict"])));
    let verified = world.verify(&file, &[]);
    assert!(verified.out.contains("A-0000") && !verified.out.contains("conforming"), "{}", verified.out);
    // Of a record that came under such terms whole, nothing may go.
    supplier.apply(&audit("[\"identity\", \"verdict\"]", STAYS));
    firms.publish("B", "quality");
    firms.came("B-0000");
    let refused = oem.fails(3, &["bundle", "--lot", "B-0000", "-o", &text(&world.path("B.lotline"))]);
    assert!(refused.error().contains("pass it on to nobody") && !world.path("B.lotline").exists(), "{}", refused.error());
    // Ours is ours to give.
    supplier.ok(&["bundle", "--lot", "B-0000", "--for", "oem", "-o", &text(&world.path("C.lotline"))]);
}

#[test]
fn a_key_that_was_rotated_signs_what_was_accepted_again() {
    let firms = Firms::new(&audit("[\"identity\"]", DELETE));
    firms.waiting(1);
    let first = firms.accept()["acceptance"].as_u64().unwrap();
    firms.came("A-0001");
    let kit = ["--kit", &text(&firms.world.path("kit of oem.txt")), "--passphrase-file", &firms.world.passphrase()].map(str::to_owned);
    firms.oem.stop();
    let args: Vec<&str> = ["keys", "rotate", "record"].into_iter().chain(kit.iter().map(String::as_str)).collect();
    firms.oem.ok(&args);
    firms.oem.start();
    wait("the acceptance of the new key", || {
        firms.supplier.ok(&["terms", "oem"])["asked_by_us"][0]["acceptance"].as_u64().is_some_and(|number| number > first)
    });
    firms.publish("B", "quality");
    firms.came("B-0001");
}
