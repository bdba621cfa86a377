//! The main job, end to end: real processes, real files, TCP on loopback. Each test is a story of firms.
#![allow(clippy::unwrap_used, reason = "tests, also outside the test functions")]

use std::path::Path;

use lotline_integration::world::{Firm, World, lots_file, string, text, wait, wait_until_level};

const FULL: &str = r#"["identity", "specification", "verdict", "capability", "measurements"]"#;

fn fixture(name: &str) -> String {
    text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name))
}

/// A share of the feed `quality`.
fn share(name: &str, with: &str, parts: &str, show: &str) -> String {
    format!("[[share]]\nname = \"{name}\"\nwith = \"{with}\"\nfeed = \"quality\"\nparts = {parts}\nshow = {show}\nuntil = \"revoked\"\n\n")
}

fn everything_for(partner: &str) -> String {
    share(&format!("all-for-{partner}"), partner, "\"all\"", FULL)
}

/// A supplier that dials out and a customer that listens, both running, paired as `supplier` and `oem`.
fn two_firms(world: &World) -> (Firm, Firm) {
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem"));
    supplier.start();
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    (supplier, oem)
}

fn publish_plate(supplier: &Firm, lot: &str, more: &[&str]) -> serde_json::Value {
    let flags = ["--lot", lot, "--part", "PLATE", "--feed", "quality", "--special", "Flatness Datum A"];
    supplier.publish(&fixture("plate_fair_long.csv"), &[&flags, more].concat())
}

fn publish_lots(world: &World, supplier: &Firm, prefix: &str, lots: usize) -> serde_json::Value {
    let file = world.file(&format!("{prefix}.csv"), lots_file(prefix, "PIN", lots));
    supplier.publish(&file, &["--feed", "quality"])
}

#[test]
fn a_lot_published_before_pairing_and_one_after_reach_the_customer_and_an_auditor() {
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem"));
    // Before anybody runs, before anybody is paired.
    publish_plate(&supplier, "PLATE-1", &["--reason", "first article", "--verdict", "non-conforming"]);
    supplier.start();
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    assert_eq!(oem.records(), []);

    supplier.apply(&everything_for("oem"));
    wait_until_level(&supplier, &oem);
    let live = supplier.publish(&fixture("cover_fair_long.csv"), &["--lot", "COVER-1", "--part", "COVER", "--feed", "quality"]);
    wait_until_level(&supplier, &oem);
    assert_eq!(oem.records(), supplier.records());
    assert_eq!(string(&live["published"][0]["leaf"]), oem.records()[1].2);
    let plate = oem.ok(&["records", "--lot", "PLATE-1"])["records"][0].clone();
    assert_eq!((plate["nonconforming"].as_u64(), plate["inspected"].as_u64()), (Some(19), Some(20)));
    assert_eq!((oem.field("PLATE-1", "special_values"), oem.field("PLATE-1", "machine")), ("shown".into(), "hidden".into()));

    // Everything off: the auditor needs the file and the identity.
    let identity = supplier.identity();
    supplier.stop();
    oem.stop();
    let bundle = text(&world.path("plate.lotline"));
    oem.ok(&["bundle", "--lot", "PLATE-1", "-o", &bundle]);
    let verified = world.verify(&bundle, &["--issuer", &identity]);
    assert_eq!((verified.code, verified.json["outcome"].as_str()), (0, Some("verified")), "{}", verified.out);
    assert_eq!(verified.json["records"][0]["record"]["fields"]["special_values"]["state"], "shown");
    assert_eq!(verified.json["records"][0]["record"]["fields"]["machine"]["state"], "hidden");
    assert_eq!(verified.json["records"][0]["leaf"], plate["leaf"]);
    let unknown = world.verify(&bundle, &[]);
    assert_eq!((unknown.code, unknown.json["intact"].as_bool()), (7, Some(true)), "{}", unknown.out);
    supplier.is_clean();
    oem.is_clean();
}

#[test]
fn whoever_is_killed_goes_on_where_it_stopped_and_everything_arrives_once() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    let mut expected = Vec::new();
    let mut publish = |prefix: &str, supplier: &Firm| {
        let answer = publish_lots(&world, supplier, prefix, 40);
        for one in answer["published"].as_array().unwrap() {
            expected.push((string(&one["origin"]), one["seq"].as_u64().unwrap(), string(&one["leaf"])));
        }
    };
    publish("A", &supplier);
    supplier.apply(&everything_for("oem"));
    wait_until_level(&supplier, &oem);

    oem.kill();
    publish("B", &supplier);
    oem.start();
    wait_until_level(&supplier, &oem);

    supplier.kill();
    // The store is there without a node as well: published while off the network.
    publish("C", &supplier);
    supplier.start();
    wait_until_level(&supplier, &oem);

    supplier.kill();
    oem.kill();
    publish("D", &supplier);
    oem.start();
    supplier.start();
    publish("E", &supplier);
    wait_until_level(&supplier, &oem);

    assert_eq!(expected.len(), 200);
    assert_eq!(expected.iter().map(|row| row.1).collect::<Vec<_>>(), (1..=200).collect::<Vec<_>>());
    assert_eq!(supplier.records(), expected);
    assert_eq!(oem.records(), expected);
    supplier.is_clean();
    oem.is_clean();
}

#[test]
fn sharing_that_is_stopped_stops_and_goes_on_when_it_is_resumed() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    let other = world.reachable_firm("other");
    other.start();
    supplier.pair("supplier", &other, "other");
    publish_lots(&world, &supplier, "A", 1);
    supplier.apply(&(everything_for("oem") + &everything_for("other")));
    wait_until_level(&supplier, &oem);
    wait_until_level(&supplier, &other);

    let stopped = supplier.ok(&["share", "stop", "oem"]);
    assert_eq!(stopped["stopped"], "oem");
    let alarms = supplier.ok(&["status"])["alarms"].to_string();
    assert!(alarms.contains("sharing is stopped with oem"), "{alarms}");
    publish_lots(&world, &supplier, "B", 1);
    wait_until_level(&supplier, &other);
    wait("the customer to hear that nothing is offered", || oem.partner("supplier")["offers"].as_array().unwrap().is_empty());
    assert_eq!(oem.count("B-0000"), 0);
    assert_eq!(oem.count("A-0000"), 1, "what was received stays");
    // The ledger is written before anything leaves: what is not in it did not leave.
    let left = |seq: u64| {
        supplier.ledger("oem").iter().any(|row| {
            !row["origin"].as_str().unwrap().contains("/org/") && row["items"].as_array().unwrap().iter().any(|item| item["seq"] == seq)
        })
    };
    assert!(left(1) && !left(2));

    // Nor after a restart of either.
    supplier.stop();
    oem.kill();
    supplier.start();
    oem.start();
    publish_lots(&world, &supplier, "C", 1);
    wait_until_level(&supplier, &other);
    wait("the customer to be connected again", || oem.partner("supplier")["connected"] == true);
    assert!(!left(2) && !left(3));

    supplier.ok(&["share", "resume", "--yes"]);
    wait_until_level(&supplier, &oem);
    assert_eq!(oem.records(), supplier.records());

    supplier.ok(&["share", "stop"]);
    publish_lots(&world, &supplier, "D", 1);
    for firm in [&oem, &other] {
        wait("everybody to hear it", || firm.partner("supplier")["offers"].as_array().unwrap().is_empty());
        assert_eq!(firm.count("D-0000"), 0);
    }
    supplier.ok(&["share", "resume", "--yes"]);
    wait_until_level(&supplier, &oem);
    wait_until_level(&supplier, &other);
    for firm in [&supplier, &oem, &other] {
        firm.is_clean();
    }
}

#[test]
fn wider_rules_open_what_was_hidden_and_narrower_ones_hold_for_what_comes() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    publish_plate(&supplier, "PLATE-1", &[]);
    supplier.publish(&fixture("cover_fair_long.csv"), &["--lot", "COVER-1", "--part", "COVER", "--feed", "quality"]);
    // The plates in part, the covers not at all.
    supplier.apply(&share("little", "oem", "[\"PLATE\"]", r#"["identity", "verdict"]"#));
    wait_until_level(&supplier, &oem);
    assert_eq!((oem.count("PLATE-1"), oem.count("COVER-1")), (1, 0));
    assert_eq!(oem.field("PLATE-1", "special_values"), "hidden");
    let before = oem.heads();

    let changes = supplier.apply(&everything_for("oem"))["changes"].to_string();
    assert!(changes.contains("oem gains specification, capability, measurements of 1 record and identity, "), "{changes}");
    wait("the covers to be opened", || oem.count("COVER-1") == 1);
    wait("the values of the plates to be opened", || oem.field("PLATE-1", "special_values") == "shown");
    assert_eq!(oem.field("COVER-1", "other_values"), "shown");
    assert_eq!(oem.heads(), before, "a backfill appends nothing");
    assert_eq!(oem.records(), supplier.records());
    // Idempotent: the same rules again, and a restart, send nothing again.
    wait("the backfill to be acknowledged", || supplier.ledger("oem").iter().all(|row| row["outcome"] == "acknowledged"));
    let rows = supplier.ledger("oem").len();
    supplier.apply(&everything_for("oem"));
    oem.kill();
    oem.start();
    publish_lots(&world, &supplier, "LATER", 1);
    wait_until_level(&supplier, &oem);
    let bulk = supplier.ledger("oem").len() - rows;
    assert_eq!(bulk, 1, "only the new record was sent: {:?}", supplier.ledger("oem"));

    let changes = supplier.apply(&share("little", "oem", "\"all\"", r#"["identity", "verdict"]"#))["changes"].to_string();
    assert!(changes.contains("oem loses specification, capability, measurements of "), "{changes}");
    publish_plate(&supplier, "PLATE-2", &[]);
    wait_until_level(&supplier, &oem);
    assert_eq!(oem.field("PLATE-2", "special_values"), "hidden");
    assert_eq!(oem.field("PLATE-2", "lot"), "shown");
    assert_eq!(oem.field("PLATE-1", "special_values"), "shown", "what was received stays");

    // Nothing at all: the record still counts, as a leaf hash.
    supplier.apply(&share("plates-only", "oem", "[\"PLATE\"]", r#"["identity"]"#));
    publish_lots(&world, &supplier, "UNSEEN", 1);
    wait_until_level(&supplier, &oem);
    assert_eq!(oem.count("UNSEEN-0000"), 0);
    supplier.is_clean();
    oem.is_clean();
}

#[test]
fn wider_rules_reach_a_customer_that_was_killed_in_the_middle_of_it() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    publish_lots(&world, &supplier, "A", 600);
    supplier.apply(&share("little", "oem", "\"all\"", r#"["identity"]"#));
    wait_until_level(&supplier, &oem);
    let opened = |firm: &Firm| {
        let rows = firm.ok(&["records", "--last", "1000"])["records"].as_array().unwrap().clone();
        rows.iter().filter(|row| row["inspected"].is_u64()).count()
    };
    assert_eq!(opened(&oem), 0);
    supplier.apply(&everything_for("oem"));
    wait("the backfill to begin", || opened(&oem) > 0);
    oem.kill();
    let then = opened(&oem);
    oem.start();
    wait("all of it to be opened", || opened(&oem) == 600);
    eprintln!("killed when {then} of 600 records were opened");
    oem.is_clean();
    supplier.is_clean();
}

#[test]
fn two_customers_see_each_what_is_theirs_and_parts_of_one_lot_are_asked_for() {
    let world = World::new();
    let (supplier, a) = two_firms(&world);
    let b = world.reachable_firm("b");
    b.start();
    supplier.pair("supplier", &b, "b");
    let one_lot = "lot,part,serial,characteristic,lsl,usl,unit,value\n7,BOLT,1,Length,9,11,mm,10.0\n7,NUT,1,Width,4,6,mm,5.0\n";
    let file = world.file("seven.csv", one_lot);
    let published = supplier.publish(&file, &["--feed", "quality"]);
    assert_eq!(published["published"].as_array().unwrap().len(), 2);
    supplier.apply(&(everything_for("oem") + &share("bolts", "b", "[\"BOLT\"]", r#"["identity", "verdict"]"#)));
    wait_until_level(&supplier, &a);
    wait_until_level(&supplier, &b);

    assert_eq!((a.count("7"), b.count("7")), (2, 1));
    let asked = a.fails(2, &["show", "7"]);
    assert!(asked.error().contains("BOLT") && asked.error().contains("NUT") && asked.hint().contains("--part"), "{}", asked.out);
    assert_eq!(a.ok(&["show", "7", "--part", "NUT"])["record"]["fields"]["part"]["value"], "NUT");
    let bundle = text(&world.path("seven.lotline"));
    let asked = a.fails(2, &["bundle", "--lot", "7", "-o", &bundle]);
    assert!(asked.error().contains("--from supplier --part BOLT") && asked.error().contains("--part NUT"), "{}", asked.out);
    assert!(!Path::new(&bundle).exists());
    a.ok(&["bundle", "--lot", "7", "--part", "NUT", "-o", &bundle]);
    let verified = world.verify(&bundle, &["--issuer", &supplier.identity()]);
    assert_eq!((verified.code, verified.json["records"][0]["record"]["fields"]["part"]["value"].as_str()), (0, Some("NUT")));
    b.ok(&["show", "7"]);
    assert_eq!(b.field("7", "other_values"), "hidden");
    b.fails(5, &["show", "7", "--part", "NUT"]);

    // Two firms state something about one lot: the customer measures it as well.
    a.publish(&file, &["--feed", "incoming", "--role", "receiver"]);
    let again = text(&world.path("again.lotline"));
    let asked = a.fails(2, &["bundle", "--lot", "7", "--part", "NUT", "-o", &again]);
    assert!(asked.error().contains("--from ours") && asked.error().contains("--from supplier"), "{}", asked.out);
    a.ok(&["bundle", "--lot", "7", "--part", "NUT", "--from", "supplier", "-o", &again]);
    for firm in [&supplier, &a, &b] {
        firm.is_clean();
    }
}

#[test]
fn a_correction_replaces_a_sample_stands_beside_and_the_same_file_changes_nothing() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    publish_plate(&supplier, "P-1", &[]);
    supplier.apply(&everything_for("oem"));
    wait_until_level(&supplier, &oem);
    let first = oem.records();

    let again = publish_plate(&supplier, "P-1", &[]);
    assert_eq!((again["published"][0]["repeated"].as_bool(), again["published"][0]["seq"].as_u64()), (Some(true), Some(1)));
    let said = supplier
        .command([
            "publish",
            &fixture("plate_fair_long.csv"),
            "--lot",
            "P-1",
            "--part",
            "PLATE",
            "--feed",
            "quality",
            "--special",
            "Flatness Datum A",
        ])
        .output()
        .unwrap();
    assert!(String::from_utf8(said.stdout).unwrap().contains("nothing to do"));

    // Other content for the same inspection of the same lot.
    let flags =
        ["publish", &fixture("plate_fair_long.csv"), "--lot", "P-1", "--part", "PLATE", "--feed", "quality", "--delivery-note", "DN-1"];
    let refused = supplier.fails(1, &flags);
    assert!(refused.error().contains("already published with other content"), "{}", refused.out);
    assert!(refused.hint().contains("--supersede") && refused.hint().contains("--sample"), "{}", refused.out);
    assert_eq!(supplier.records(), first);
    let nothing = supplier
        .fails(1, &["publish", &fixture("plate_fair_long.csv"), "--lot", "P-9", "--part", "PLATE", "--feed", "quality", "--supersede"]);
    assert!(nothing.error().contains("nothing to supersede"), "{}", nothing.out);

    supplier.ok(&[&flags[..], &["--sample", "2"]].concat());
    wait_until_level(&supplier, &oem);
    assert_eq!(oem.count("P-1"), 2);
    supplier.ok(&[&flags[..], &["--supersede"]].concat());
    wait_until_level(&supplier, &oem);
    assert_eq!((supplier.count("P-1"), oem.count("P-1")), (3, 3));
    assert_eq!(oem.records()[0], first[0], "the old one stays provable");
    for firm in [&supplier, &oem] {
        let rows = firm.ok(&["records", "--lot", "P-1"])["records"].as_array().unwrap().clone();
        let old: Vec<_> = rows.iter().filter(|row| row["superseded"] == true).map(|row| row["seq"].as_u64().unwrap()).collect();
        assert_eq!(old, [1], "{:?}", firm.home());
    }
    // Once more, unchanged: nothing to do, and no second truth.
    let again = supplier.ok(&[&flags[..], &["--supersede"]].concat());
    assert_eq!(again["published"][0]["repeated"], true);
    let bundle = text(&world.path("p1.lotline"));
    oem.ok(&["bundle", "--lot", "P-1", "-o", &bundle]);
    let verified = world.verify(&bundle, &["--issuer", &supplier.identity()]);
    assert_eq!((verified.code, verified.json["records"].as_array().unwrap().len()), (0, 3), "{}", verified.out);
    // One who hears of all three later, in two steps, has the same list.
    let late = world.reachable_firm("late");
    late.start();
    supplier.pair("supplier", &late, "late");
    supplier.apply(&(everything_for("oem") + &share("little", "late", "\"all\"", r#"["verdict"]"#)));
    wait_until_level(&supplier, &late);
    supplier.apply(&(everything_for("oem") + &everything_for("late")));
    wait("the lot to be opened", || late.count("P-1") == 3);
    wait("the replaced one to be marked", || late.ok(&["records", "--lot", "P-1"])["records"].to_string().contains("\"superseded\":true"));
    for firm in [&supplier, &oem, &late] {
        firm.is_clean();
    }
}

#[test]
fn a_file_with_many_lots_that_was_interrupted_goes_on() {
    const LOTS: usize = 960;
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    publish_lots(&world, &supplier, "FIRST", 1);
    supplier.apply(&everything_for("oem"));
    let file = world.file("many.csv", lots_file("MANY", "PIN", LOTS));
    let mut publishing = supplier.command(["publish", &file, "--feed", "quality", "--json"]);
    let mut publishing = publishing.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let there =
        |firm: &Firm| firm.ok(&["status"])["feeds"].as_array().unwrap().iter().map(|feed| feed["records"].as_u64().unwrap()).sum::<u64>();
    wait("the first lots to be in", || there(&supplier) > 1);
    supplier.kill();
    assert!(!publishing.wait().unwrap().success());

    let before = supplier.records();
    let done = before.len() - 1;
    eprintln!("killed after {done} of {LOTS} lots");
    assert!(done > 0 && done < LOTS, "killed too early or too late: {done}");
    let answer = supplier.publish(&file, &["--feed", "quality"]);
    let published = answer["published"].as_array().unwrap();
    assert_eq!(published.iter().filter(|one| one["repeated"] == true).count(), done);
    let lots: std::collections::BTreeSet<_> = published.iter().map(|one| string(&one["lot"])).collect();
    let seqs: std::collections::BTreeSet<_> = published.iter().map(|one| one["seq"].as_u64().unwrap()).collect();
    assert_eq!((lots.len(), seqs), (LOTS, (2..LOTS as u64 + 2).collect()));
    assert_eq!(supplier.records()[..=done], before[..]);
    let nothing = supplier.publish(&file, &["--feed", "quality"]);
    assert!(nothing["published"].as_array().unwrap().iter().all(|one| one["repeated"] == true));
    supplier.start();
    wait_until_level(&supplier, &oem);
    assert_eq!(oem.records(), supplier.records());
    supplier.is_clean();
    oem.is_clean();
}

/// The rule form knows days only, and a test does not wait for midnight: so rules whose day has passed are put in
/// force through the library, where the form is not compared with today, and the moment itself is asked of the
/// evaluator with a clock of our own.
#[test]
fn a_share_ends_with_its_day() {
    use lotline_node::config::Home;
    use lotline_node::service::{Service, now};
    use lotline_policy::{Policy, Viewer, next_change, term, view_id};

    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    publish_plate(&supplier, "PLATE-1", &[]);
    let until = |day: &str| everything_for("oem").replace("\"revoked\"", day);
    supplier.apply(&until("2999-01-01"));
    wait_until_level(&supplier, &oem);
    let past = supplier.fails(1, &["policy", "check", &world.file("past.toml", until("2020-01-01"))]);
    assert!(past.error().contains("ended already"), "{}", past.out);
    supplier.stop();

    let service = Service::open(Home::at(Some(supplier.home())).unwrap(), &|_| ()).unwrap();
    let rules = service.handle.snapshot().policy.clone();
    let origin = service.handle.snapshot().own_feed("quality").unwrap().origin.clone();
    let (viewer, feeds) = (Viewer::new("oem"), ["quality".to_owned()]);
    let end = next_change(&rules, &viewer, "quality", now() as i64).expect("the share has an end");
    assert_eq!(lotline_node::service::time_text(end as u64), "2999-01-01T00:00:00Z");
    assert_eq!((rules.feeds_for(&viewer, &feeds, end - 1).len(), rules.feeds_for(&viewer, &feeds, end).len()), (1, 0));
    assert_ne!(view_id(&rules, &viewer, &origin, end - 1), view_id(&rules, &viewer, &origin, end));
    assert_ne!(term(&rules, &viewer, "quality", end - 1), term(&rules, &viewer, "quality", end));
    let ended = Policy::restore(&until("2020-01-01")).unwrap();
    service.handle.with_blocking(move |feeds| feeds.apply_policy(ended, false, now())).unwrap().unwrap();
    service.close().unwrap();

    publish_plate(&supplier, "PLATE-2", &[]);
    supplier.start();
    wait("both to be connected again", || oem.partner("supplier")["connected"] == true && supplier.partner("oem")["connected"] == true);
    wait("nothing to be offered", || oem.partner("supplier")["offers"] == serde_json::json!([]));
    let out = text(&world.path("none.lotline"));
    supplier.fails(3, &["bundle", "--lot", "PLATE-2", "--for", "oem", "-o", &out]);
    assert_eq!((oem.count("PLATE-1"), oem.count("PLATE-2")), (1, 0));
    supplier.apply(&everything_for("oem"));
    wait_until_level(&supplier, &oem);
    assert_eq!(oem.records(), supplier.records());
}
