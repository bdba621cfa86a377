//! The ledger: what did they ever receive about this lot, under which rule? By every way out, with real nodes; compared
//! with receipts and with captured traffic; altered in a store and found; lost with a disk and refilled.
#![allow(clippy::unwrap_used, reason = "tests, also outside the test functions")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use lotline_integration::forge::{Forge, Keeper, record};
use lotline_integration::world::{Firm, World, lots_file, string, text, wait, wait_until_level};
use lotline_node::capture::{self, Capture, CaptureError, Captured};
use lotline_node::feeds::ledger::{self, acknowledged, places_between, rows_about};
use lotline_node::feeds::{Feeds, OnConflict, Submission, witness};
use lotline_node::ledger::{Intent, Items, Outcome, Sent, Way};
use lotline_node::store::{Batch, Entry, Options, Reader, Store, StoreError};
use lotline_schema::codec;
use lotline_schema::delivery::{self, Delivery};
use lotline_schema::tree::leaf_hash;
use lotline_schema::{Hash, Origin};
use serde_json::{Value, json};

/// The number of the ledger's tree in a store.
const TREE: u32 = u32::MAX;

fn share(name: &str, with: &str, show: &str) -> String {
    format!("[[share]]\nname = '{name}'\nwith = '{with}'\nfeed = 'quality'\nparts = 'all'\nshow = {show}\nuntil = 'revoked'\n")
}

/// A supplier that a customer can dial, paired; nobody runs.
fn two_firms(world: &World) -> (Firm, Firm) {
    let (supplier, oem) = (world.reachable_firm("supplier"), world.firm("oem"));
    supplier.pair("supplier", &oem, "oem");
    (supplier, oem)
}

fn publish(world: &World, supplier: &Firm, prefix: &str) -> Value {
    supplier.publish(&world.file(&format!("{prefix}.csv"), lots_file(prefix, "PIN", 1)), &["--feed", "quality"])
}

fn all_acknowledged(supplier: &Firm, to: &str) {
    wait("everything to be acknowledged", || supplier.ledger(to).iter().all(|row| row["outcome"] == "acknowledged"));
}

fn about(supplier: &Firm, lot: &str, to: &str) -> Vec<Value> {
    supplier.ok(&["ledger", "--lot", lot, "--partner", to])["records"].as_array().unwrap().clone()
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list")).iter().map(string).collect()
}

fn shown(firm: &Firm, lot: &str) -> BTreeSet<String> {
    let fields = firm.ok(&["show", lot])["record"]["fields"].as_object().unwrap().clone();
    fields.into_iter().filter(|(_, field)| field["state"] != "hidden").map(|(name, _)| name).collect()
}

#[test]
fn what_did_they_ever_receive_about_this_lot_under_which_rule() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    let traffic = text(&world.path("traffic.capture"));
    publish(&world, &supplier, "A");
    supplier.apply(&share("little", "oem", "['identity', 'verdict']"));
    supplier.start_with(&["--capture", &traffic]);
    oem.start();
    wait_until_level(&supplier, &oem);
    all_acknowledged(&supplier, "oem");

    // Our keys went too, under no rule: an org feed hides nothing.
    let org: Vec<_> = supplier.ledger("oem").into_iter().filter(|row| string(&row["origin"]).ends_with("/org/1")).collect();
    assert!(!org.is_empty() && org.iter().all(|row| row["way"] == "network" && row["policy_version"].is_null()), "{org:?}");

    // One row, one rule, a receipt, and the rest never.
    let [record] = &about(&supplier, "A-0000", "oem")[..] else { panic!("one record") };
    let [row] = &record["received"].as_array().unwrap()[..] else { panic!("one row: {record}") };
    assert_eq!((row["way"].as_str(), row["policy_version"].as_u64(), &row["rules"]), (Some("network"), Some(1), &json!(["little"])));
    assert!(row["receipt"]["number"].is_u64() && row["receipt"]["at"].is_string() && row["outcome"] == "acknowledged", "{row}");
    let little = shown(&oem, "A-0000");
    assert_eq!(names(&row["fields"]), little);
    assert!(little.contains("lot") && names(&record["never"]).contains("machine") && names(&record["never"]).is_disjoint(&little));

    // Wider rules: what was opened later is a row of its own, under both rules of the new version.
    supplier.apply(&(share("little", "oem", "['identity', 'verdict']") + &share("values", "oem", "['measurements']")));
    wait("the values to be opened", || oem.field("A-0000", "other_values") == "shown");
    all_acknowledged(&supplier, "oem");
    let [record] = &about(&supplier, "A-0000", "oem")[..] else { panic!("one record") };
    let later = &record["received"][1];
    assert_eq!((later["way"].as_str(), later["policy_version"].as_u64()), (Some("network, opened later"), Some(2)));
    assert_eq!((names(&later["rules"]), names(&later["fields"])), (["little", "values"].map(str::to_owned).into(), shown(&oem, "A-0000")));

    // A newer version of the lot: both are told.
    let changed = lots_file("A", "PIN", 1).replace("12.4", "12.5");
    supplier.publish(&world.file("again.csv", changed), &["--feed", "quality", "--supersede"]);
    wait_until_level(&supplier, &oem);
    all_acknowledged(&supplier, "oem");
    let records = about(&supplier, "A-0000", "oem");
    let superseded: Vec<_> = records.iter().map(|record| (record["seq"].as_u64(), record["superseded"].as_bool())).collect();
    assert_eq!(superseded, [(Some(1), Some(true)), (Some(2), Some(false))]);
    assert_eq!(records[1]["received"][0]["rules"], json!(["little", "values"]));

    // Revoked in the middle: nothing of what comes leaves, what left stays told.
    supplier.ok(&["share", "stop", "oem"]);
    publish(&world, &supplier, "B");
    wait("the customer to hear that nothing is offered", || oem.partner("supplier")["offers"] == json!([]));
    let [record] = &about(&supplier, "B-0000", "oem")[..] else { panic!("one record") };
    assert_eq!((&record["received"], &record["shown"]), (&json!([]), &json!([])));
    assert!(names(&record["never"]).contains("lot"), "{record}");
    assert_eq!(about(&supplier, "A-0000", "oem"), records);
    supplier.ok(&["share", "resume", "--yes"]);
    wait_until_level(&supplier, &oem);
    all_acknowledged(&supplier, "oem");

    // By files too, to whoever was named.
    let path = |name: &str| text(&world.path(name));
    supplier.ok(&["bundle", "--lot", "B-0000", "--for", "oem", "-o", &path("for.lotline")]);
    supplier.ok(&["bundle", "--lot", "B-0000", "--full", "The Court", "--yes", "-o", &path("full.lotline")]);
    supplier.ok(&["carry", "--to", "oem", "--feed", "quality", "--from", "0", "-o", &path("stick")]);
    let [record] = &about(&supplier, "B-0000", "oem")[..] else { panic!("one record") };
    let ways: Vec<_> = record["received"].as_array().unwrap().iter().map(|row| (string(&row["way"]), string(&row["outcome"]))).collect();
    let expected = [("network", "acknowledged"), ("bundle", "exported"), ("carried file", "exported")];
    assert_eq!(ways, expected.map(|(way, outcome)| (way.to_owned(), outcome.to_owned())));
    assert!(record["received"][1]["receipt"].is_null() && names(&record["received"][1]["rules"]).len() == 2);
    let [record] = &about(&supplier, "B-0000", "The Court")[..] else { panic!("one record") };
    assert_eq!((&record["received"][0]["full_disclosure"], &record["never"]), (&json!(true), &json!([])));

    // In words, and what cannot be answered.
    let said = supplier.command(["ledger", "--lot", "B-0000", "--partner", "oem"]).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    for part in ["network: identity", "rule `little`, `values`", "received: receipt", "no receipt: may have left", "never: "] {
        assert!(said.contains(part), "{part}: {said}");
    }
    supplier.fails(5, &["ledger", "--lot", "NO-SUCH", "--partner", "oem"]);
    supplier.fails(5, &["ledger", "--lot", "B-0000", "--part", "OTHER", "--partner", "oem"]);
    supplier.fails(5, &["ledger", "--lot", "B-0000", "--partner", "rival"]);
    supplier.fails(2, &["ledger", "--lot", "B-0000"]);
    assert_eq!(supplier.ledger("The Court").len(), 1);
    let last = supplier.ok(&["ledger", "--to", "oem", "--last", "2"])["rows"].clone();
    assert_eq!(last.as_array().unwrap().iter().map(|row| string(&row["way"])).collect::<Vec<_>>(), ["carried file"; 2]);

    // The ledger fits its head, its receipts, and all that was handed to the transport.
    let audit = supplier.ok(&["audit", "--ledger", "--captured", &traffic]);
    let captured = &audit["captured"];
    assert!(captured["entries"].as_u64() >= Some(6) && captured["fields"].as_u64() > Some(30), "{audit}");
    assert_eq!((&captured["entries"], &captured["fields"]), (&captured["accounted_entries"], &captured["accounted_fields"]));
    assert!(audit["receipted"].as_u64() >= Some(4) && audit["rows"].as_u64() > audit["receipted"].as_u64(), "{audit}");
    supplier.stop();
    supplier.is_clean();
    assert_eq!(supplier.ok(&["audit", "--ledger"])["captured"], Value::Null);
    what_the_ledger_does_not_know_is_named(&world, &supplier, &traffic);
}

/// The same traffic, said to have gone elsewhere, or to have opened more.
fn what_the_ledger_does_not_know_is_named(world: &World, supplier: &Firm, traffic: &str) {
    let mut all = Vec::new();
    let file = std::fs::File::open(traffic).unwrap();
    capture::read(file, |_, captured| {
        all.push(captured);
        Ok::<_, CaptureError>(())
    })
    .unwrap();
    let write = |name: &str, frames: &[Captured]| {
        let path = world.path(name);
        let file = Capture::open(&path).unwrap();
        frames.iter().for_each(|captured| file.write(captured).unwrap());
        text(&path)
    };
    let rival: Vec<Captured> = all.iter().map(|captured| Captured { to: "rival".into(), ..captured.clone() }).collect();
    let said = supplier.fails(4, &["audit", "--ledger", "--captured", traffic, &write("rival.capture", &rival)]);
    let (entries, accounted) = (said.json["captured"]["entries"].as_u64(), said.json["captured"]["accounted_entries"].as_u64());
    assert_eq!(entries, accounted.map(|accounted| 2 * accounted), "{}", said.out);
    assert!(said.json["problems"][0].as_str().unwrap().contains("went to rival, and the ledger does not say so"), "{}", said.out);
    // What went to the court whole is more than the customer was to get.
    let data = all.iter().find(|captured| captured.origin.contains("/quality/")).unwrap();
    let lotline_node::exchange::Message::Batch(mut batch) = data.message().unwrap() else { panic!("a batch") };
    let full = lotline_schema::bundle::Bundle::read(&std::fs::read(world.path("full.lotline")).unwrap()).unwrap();
    let view = full.packages.into_iter().map(|package| package.view).next().unwrap();
    let seq = view.trusted().unwrap().claims().seq;
    (batch.from, batch.items) = (seq, vec![lotline_node::feeds::Item::View(view)]);
    let more = Captured { frame: lotline_node::exchange::Message::Batch(batch).to_frame(), ..data.clone() };
    let said = supplier.fails(4, &["audit", "--ledger", "--captured", &write("more.capture", &[more])]);
    let problem = string(&said.json["problems"][0]);
    assert!(problem.contains("with more than the ledger says") && problem.contains("machine") && !problem.contains("lot,"), "{problem}");
    // What is no capture is no answer.
    supplier.fails(11, &["audit", "--ledger", "--captured", &world.file("no.capture", "something else")]);
    supplier.fails(5, &["audit", "--ledger", "--captured", &text(&world.path("nowhere"))]);
    supplier.fails(2, &["audit", "--captured", traffic]);
}

/// Every verb that writes a file, and whether records of ours can be in it. A new one has to be decided here.
#[test]
fn every_way_out_is_in_the_ledger() {
    let decided: BTreeMap<&str, bool> = [
        ("bundle", true),
        ("carry", true),
        // Receipts, cosignatures and our org feed: no record of ours.
        ("receive", false),
        ("fork-proof", false),
        // Keys and our org feed.
        ("keys request-delegation", false),
        // What is wanted, and what was decided of it.
        ("request sign", false),
        ("request answer", false),
        ("keys successor", false),
        ("members sign", false),
        ("partner trust-file", false),
        // Sealed, whole, for nobody else.
        ("backup", false),
    ]
    .into();
    let mut writers = BTreeSet::new();
    for verb in lotline_node::cli::command().get_subcommands() {
        writers.extend(verb.get_arguments().any(|arg| arg.get_id() == "output").then(|| verb.get_name().to_owned()));
        for part in verb.get_subcommands().filter(|part| part.get_arguments().any(|arg| arg.get_id() == "output")) {
            writers.insert(format!("{} {}", verb.get_name(), part.get_name()));
        }
    }
    assert_eq!(writers, decided.keys().map(|name| (*name).to_owned()).collect(), "decide whether a new file is in the ledger");

    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    publish(&world, &supplier, "A");
    supplier.apply(&share("little", "oem", "['identity', 'verdict']"));
    let mut expected = Vec::new();
    let path = |name: &str| text(&world.path(name));
    let check = |expected: &[(&str, &str)]| {
        let [record] = &about(&supplier, "A-0000", "oem")[..] else { panic!("one record") };
        let found: Vec<_> = record["received"].as_array().unwrap().iter().map(|row| (string(&row["way"]), row["rules"].clone())).collect();
        let expected: Vec<_> = expected.iter().map(|(way, rule)| ((*way).to_owned(), json!([rule]))).collect();
        assert_eq!(found, expected);
        assert_eq!(names(&record["received"].as_array().unwrap().last().unwrap()["fields"]), names(&record["shown"]));
    };
    supplier.ok(&["bundle", "--feed", "quality", "--for", "oem", "-o", &path("a.lotline")]);
    expected.push(("bundle", "little"));
    check(&expected);
    supplier.ok(&["carry", "--to", "oem", "-o", &path("a.stick")]);
    expected.push(("carried file", "little"));
    check(&expected);
    // The files that hold nothing of ours leave no row.
    let rows = supplier.ledger("oem").len();
    oem.ok(&["receive", &path("a.stick"), "-o", &path("a.answer")]);
    supplier.ok(&["receive", &path("a.answer")]);
    supplier.ok(&["partner", "trust-file", "-o", &path("trust.toml")]);
    supplier.ok(&["backup", "-o", &path("backup.age"), "--passphrase-file", &world.passphrase(), "--work-factor", "2"]);
    assert_eq!(supplier.ledger("oem").len(), rows);
    // Over the network, in order and later; and the org feed, which hides nothing.
    publish(&world, &supplier, "B");
    supplier.start();
    oem.start();
    wait_until_level(&supplier, &oem);
    supplier.apply(&share("more", "oem", "['identity', 'verdict', 'measurements']"));
    wait("the values to be opened", || oem.field("A-0000", "other_values") == "shown");
    expected.push(("network, opened later", "more"));
    check(&expected);
    let b = about(&supplier, "B-0000", "oem");
    assert_eq!((&b[0]["received"][0]["way"], &b[0]["received"][0]["rules"]), (&json!("network"), &json!(["little"])));
    let org = |rows: Vec<Value>| rows.into_iter().filter(|row| string(&row["origin"]).ends_with("/org/1")).map(|row| string(&row["way"]));
    assert!(org(supplier.ledger("oem")).all(|way| way == "carried file") && org(supplier.ledger("oem")).count() > 1);
    // Nothing offers the ledger, and nobody can publish into its name.
    let feeds = oem.ok(&["feeds"])["feeds"].to_string() + &supplier.ok(&["feeds"])["feeds"].to_string();
    assert!(!feeds.contains("/policy/"), "{feeds}");
    let file = world.file("c.csv", lots_file("C", "PIN", 1));
    assert_ne!(supplier.call(&["publish", &file, "--feed", "policy"]).code, 0);
    supplier.stop();
    supplier.is_clean();
}

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

/// The store of a firm whose node does not run. A command that another test starts has our files for a moment.
fn open_store(firm: &Firm) -> Store {
    let mut opened = None;
    wait("the store to open", || match Store::open(&firm.path("store"), Options::default(), &|_| {}) {
        Ok((store, _)) => opened.replace(store).is_none(),
        Err(StoreError::Locked) => false,
        Err(why) => panic!("{why}"),
    });
    opened.unwrap()
}

/// The entries of a ledger as they are signed.
fn cores(reader: &Reader) -> Vec<Vec<u8>> {
    reader.rows(TREE, 0, usize::MAX).unwrap().iter().map(|row| reader.core(row).unwrap().unwrap()).collect()
}

fn statement(seq: u64, core: &[u8], summary: Vec<u8>) -> Entry {
    Entry::Statement { feed: TREE, seq, leaf: leaf_hash(core).0, core: core.to_vec(), summary, lot: None, part: None }
}

/// Somebody who can write into the journal, with right checksums, but does not have the log key.
#[test]
fn a_row_that_is_altered_removed_or_moved_is_found() {
    let world = World::new();
    let supplier = world.firm("supplier");
    publish(&world, &supplier, "A");
    for to in ["first", "second", "third"] {
        supplier.ok(&["bundle", "--lot", "A-0000", "--full", to, "--yes", "-o", &text(&world.path("f.lotline"))]);
    }
    supplier.is_clean();
    let head_key = |name: &str| [b"head/", name.as_bytes()].concat();
    type Tamper<'a> = &'a dyn Fn(&Reader) -> Vec<Entry>;
    let origin = supplier.heads()[0].0.replace("/quality/1", "/policy/2");
    let summary = |reader: &Reader, seq: u64| reader.row(TREE, seq).unwrap().unwrap().summary;
    let replaced = |core: &[u8]| {
        // The same length, so that it is still well formed: nobody was told anything, says the second row.
        let at = core.windows(6).position(|window| window == b"second").unwrap();
        let mut other = core.to_vec();
        other[at..at + 6].copy_from_slice(b"nobody");
        other
    };
    let tampers: [(&str, Tamper<'_>); 5] = [
        ("altered", &|reader| vec![statement(1, &replaced(&cores(reader)[1]), summary(reader, 1))]),
        ("moved", &|reader| {
            let cores = cores(reader);
            vec![statement(1, &cores[2], summary(reader, 2)), statement(2, &cores[1], summary(reader, 1))]
        }),
        ("removed", &|reader| {
            // An older head, as it was signed: it is in the journal still.
            let bytes = reader.state(&head_key(&origin)).unwrap().unwrap();
            let mut value = codec::decode(&bytes).unwrap();
            let codec::Value::Array(parts) = &mut value else { panic!("a head") };
            parts[1] = codec::array([codec::uint(0), codec::array([]), codec::text("")]);
            vec![Entry::State { key: head_key(&origin), value: Some(codec::encode(&value)) }]
        }),
        ("what became of it", &|reader| {
            let not_sent = codec::encode(&codec::array([codec::uint(1), codec::array([codec::uint(4), codec::Value::Null])]));
            assert_ne!(summary(reader, 1), not_sent);
            vec![Entry::Describe { feed: TREE, seq: 1, summary: not_sent, lot: None, part: None }]
        }),
        ("where it is found", &|reader| {
            let keys = reader.states(b"sent/", None, 10).unwrap();
            vec![Entry::State { key: keys[1].0.clone(), value: None }]
        }),
    ];
    for (what, tamper) in tampers {
        let other = Firm::at(&world.path(what));
        copy(supplier.home(), other.home());
        let mut store = open_store(&other);
        store.settle().unwrap();
        let mut batch = Batch::new();
        tamper(&store.reader()).into_iter().for_each(|entry| batch.push(entry));
        store.commit(batch).unwrap();
        store.close().unwrap();
        for verb in [&["audit"][..], &["audit", "--ledger"]] {
            let said = other.fails(4, verb);
            assert_eq!(said.json["clean"], false, "{what}: {}", said.out);
        }
    }
    supplier.is_clean();
}

/// An audit that waits for an entry that is not there would hold the thread that writes.
#[test]
fn a_ledger_that_lacks_its_first_entries_is_told() {
    let world = World::new();
    let supplier = world.firm("supplier");
    publish(&world, &supplier, "A");
    let quality = supplier.heads()[0].0.clone();
    let head_key = |name: &str| [b"head/", name.as_bytes()].concat();
    let mut store = open_store(&supplier);
    store.settle().unwrap();
    let mut value = codec::decode(&store.reader().state(&head_key(&quality)).unwrap().unwrap()).unwrap();
    let codec::Value::Array(parts) = &mut value else { panic!("a head") };
    // Entry 5 of 6 is there, and nothing before it.
    parts[1] = codec::array([codec::uint(6), codec::array([codec::bytes([1; 32]), codec::bytes([2; 32])]), codec::text("")]);
    let mut batch = Batch::new();
    batch.push(statement(5, b"no entry", Vec::new()));
    batch.push(Entry::State { key: head_key(&quality.replace("/quality/1", "/policy/2")), value: Some(codec::encode(&value)) });
    store.commit(batch).unwrap();
    store.close().unwrap();
    let said = supplier.fails(4, &["audit", "--ledger"]);
    assert!(said.out.contains("entry 0 is missing"), "{}", said.out);
}

#[test]
fn a_ledger_that_was_lost_with_a_disk_is_refilled_from_receipts() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    publish(&world, &supplier, "A");
    supplier.apply(&share("little", "oem", "['identity', 'verdict']"));
    supplier.start();
    oem.start();
    wait_until_level(&supplier, &oem);
    all_acknowledged(&supplier, "oem");
    let backup = text(&world.path("backup.age"));
    supplier.ok(&["backup", "-o", &backup, "--passphrase-file", &world.passphrase(), "--work-factor", "2"]);
    // After the backup: two lots, and older fields opened.
    publish(&world, &supplier, "LOST");
    wait_until_level(&supplier, &oem);
    supplier.apply(&share("more", "oem", "['identity', 'verdict', 'measurements']"));
    wait("the values to be opened", || oem.field("A-0000", "other_values") == "shown");
    all_acknowledged(&supplier, "oem");
    let before = supplier.ledger("oem");
    supplier.kill();

    let restored = Firm::at(&world.path("restored"));
    restored.ok(&["restore", &backup, "--passphrase-file", &world.passphrase()]);
    let known = restored.ledger("oem").len();
    assert!(known < before.len());
    restored.ok(&["audit", "--ledger"]);
    restored.ok(&["restore", "--confirm", "--yes"]);
    restored.start();
    let refilled = || restored.ledger("oem").into_iter().filter(|row| row["refilled"] == true).collect::<Vec<_>>();
    wait("the lost rows to be refilled", || refilled().len() >= 2);
    for row in refilled() {
        let lost = before.iter().find(|lost| lost["digest"] == row["digest"]).unwrap_or_else(|| panic!("{row} never left"));
        for part in ["origin", "from", "end", "policy_version", "way", "receipt"] {
            assert_eq!(lost[part], row[part], "{part}");
        }
    }
    // Which fields it was nobody here knows; that something was, the receipt tells.
    let [record] = &about(&restored, "A-0000", "oem")[..] else { panic!("one record") };
    let row = record["received"].as_array().unwrap().iter().find(|row| row["refilled"] == true).unwrap();
    assert_eq!((&row["fields"], &row["way"], &record["never"]), (&Value::Null, &json!("network, opened later"), &Value::Null));
    // Each once, also when both meet again.
    let filled = refilled().len();
    restored.stop();
    restored.start();
    publish(&world, &restored, "NEW");
    wait("the new life to arrive", || oem.count("NEW-0000") == 1);
    assert_eq!(refilled().len(), filled);
    restored.stop();
    let audit = restored.ok(&["audit", "--ledger"]);
    assert_eq!(audit["refilled"].as_u64(), Some(filled as u64), "{audit}");
    restored.is_clean();
    oem.is_clean();
}

#[test]
fn the_answer_to_a_stick_refills_a_restored_ledger() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    publish(&world, &supplier, "A");
    supplier.apply(&share("little", "oem", "['identity', 'verdict']"));
    let path = |name: &str| text(&world.path(name));
    supplier.ok(&["backup", "-o", &path("backup.age"), "--passphrase-file", &world.passphrase(), "--work-factor", "2"]);
    supplier.ok(&["carry", "--to", "oem", "-o", &path("stick")]);
    oem.ok(&["receive", &path("stick"), "-o", &path("answer")]);
    let restored = Firm::at(&world.path("restored"));
    restored.ok(&["restore", &path("backup.age"), "--passphrase-file", &world.passphrase()]);
    restored.fails(1, &["receive", &path("answer")]);
    restored.ok(&["restore", "--confirm", "--yes"]);
    let taken = restored.ok(&["receive", &path("answer")]);
    assert_eq!((taken["refilled"].as_u64(), taken["strange"].as_u64()), (Some(1), Some(0)), "{taken}");
    let again = restored.ok(&["receive", &path("answer")]);
    assert_eq!((again["refilled"].as_u64(), again["strange"].as_u64()), (Some(0), Some(0)), "once: {again}");
    restored.is_clean();
    // One file may be an old one: the network is still asked for the others.
    let store = open_store(&restored);
    assert!(ledger::refill_due(&store.reader(), "oem").unwrap().is_some());
    store.close().unwrap();
    // To a home that lost nothing a stranger's receipts say nothing.
    let other = world.firm("other");
    other.ok(&["partner", "accept", &oem.invitation(), "--as", "oem"]);
    assert_eq!(other.ok(&["receive", &path("answer")])["refilled"], 0);
    assert_eq!(other.ledger("oem"), Vec::<Value>::new());
}

/// A row as builds before the tree kept it.
fn former(at: u64, to: &str, origin: &str, items: &[(u64, u64)], policy: Option<u64>, outcome: u64) -> Vec<u8> {
    let item = |(seq, mask): &(u64, u64)| codec::array([codec::uint(*seq), codec::bytes(mask.to_be_bytes())]);
    let row = codec::array([
        codec::uint(at),
        codec::text(to),
        codec::text(origin),
        codec::array(items.iter().map(item)),
        codec::optional(policy, codec::uint),
        codec::bytes([7; 32]),
        codec::uint(outcome),
    ]);
    codec::encode(&codec::array([codec::uint(1), row]))
}

#[test]
fn a_store_of_an_earlier_build_keeps_its_rows() {
    let world = World::new();
    let (supplier, _oem) = two_firms(&world);
    publish(&world, &supplier, "A");
    let origin = supplier.heads()[0].0.clone();
    let org = origin.replace("/quality/", "/org/");
    let mut store = open_store(&supplier);
    let mut batch = Batch::new();
    let rows = [
        former(100, "oem", &org, &[(0, 0), (1, 0)], None, 1),
        former(200, "oem", &origin, &[(0, 0), (1, 0b11)], Some(1), 0),
        former(300, "The Court", &origin, &[(1, u64::MAX >> 16)], None, 3),
        // As a bundle of a long feed was listed: in any order, more than a row has now.
        former(400, "The Court", &origin, &(1..600).rev().map(|seq| (seq, 1)).collect::<Vec<_>>(), None, 3),
        former(500, "oem", &origin, &[(1, 0b100)], Some(1), 4),
    ];
    for (number, row) in (0u64..).zip(&rows) {
        batch.push(Entry::State { key: [b"ledger/", &number.to_be_bytes()[..]].concat(), value: Some(row.clone()) });
    }
    store.commit(batch).unwrap();
    store.close().unwrap();

    let listed = supplier.ok(&["ledger"])["rows"].as_array().unwrap().clone();
    assert_eq!(listed.iter().map(|row| row["number"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let outcomes = ["acknowledged", "may have left", "exported", "exported", "not sent, the rules changed"];
    assert_eq!(listed.iter().map(|row| string(&row["outcome"])).collect::<Vec<_>>(), outcomes);
    assert_eq!(listed[3]["items"].as_array().unwrap().len(), 599);
    // They are found by lot, and what was not sent is not shown as if it had been.
    let [record] = &about(&supplier, "A-0000", "oem")[..] else { panic!("one record") };
    assert_eq!((names(&record["shown"]).len(), record["received"].as_array().unwrap().len()), (2, 2));
    assert_eq!(about(&supplier, "A-0000", "The Court")[0]["received"].as_array().unwrap().len(), 2);
    // New rows follow, the whole is signed, and nothing of the old form is left.
    supplier.ok(&["bundle", "--lot", "A-0000", "--full", "The Court", "--yes", "-o", &text(&world.path("f.lotline"))]);
    assert_eq!(supplier.ok(&["ledger", "--last", "1"])["rows"][0]["number"], 5);
    supplier.is_clean();
    let store = open_store(&supplier);
    store.settle().unwrap();
    assert_eq!(store.reader().states(b"ledger/", None, 10).unwrap(), []);
    store.close().unwrap();
    // The store as the earlier build left it is beside it, until something is forgotten.
    let copy = supplier.path("store").join("before-ledger-tree");
    let (store, _) = Store::open(&copy, Options::default(), &|_| {}).unwrap();
    store.settle().unwrap();
    assert_eq!(store.reader().states(b"ledger/", None, 10).unwrap().len(), rows.len());
    store.close().unwrap();
    supplier.ok(&["forget", "A-0000", "--fields", "verdict", "--yes"]);
    assert!(!copy.exists());
}

/// What a backfill asks of a long ledger does not depend on its length.
#[test]
fn a_long_ledger_is_not_read_for_a_few_entries() {
    const ROWS: u64 = 100_000;
    const AT_ONCE: u64 = 2000;
    let mut keeper = Keeper::new("maker");
    let origin = keeper.feeds().ensure_feed("quality", 1).unwrap();
    let intent = |to: &str, origin: &Origin, seq: u64, way| Intent {
        to: to.into(),
        origin: origin.to_string(),
        way,
        items: Items { sent: vec![Sent { seq, mask: 0b101, shares: 1 }], shares: vec!["rule".into()] },
        policy: Some(1),
        digest: Hash::of(&[&seq.to_be_bytes()]),
    };
    for at in 0..ROWS / AT_ONCE {
        let rows = (at * AT_ONCE..(at + 1) * AT_ONCE).map(|seq| intent("oem", &origin, seq, Way::Bundle)).collect();
        keeper.feeds().export(rows, 1).unwrap();
    }
    let row = keeper.feeds().intend(intent("oem", &origin, 70_000, Way::Batch), &[], &[], 2).unwrap();
    keeper.feeds().conclude(&[(row, Outcome::Acknowledged)], &[], 3).unwrap();
    keeper.feeds().settle().unwrap();
    let reader = keeper.feeds().reader().clone();
    let start = Instant::now();
    let masks = acknowledged(&reader, "oem", origin.as_str(), 69_888, 70_144).unwrap();
    let (few, start) = (start.elapsed(), Instant::now());
    assert_eq!(masks.into_iter().collect::<Vec<_>>(), [(70_000, 0b101)]);
    let mut rows = 0;
    keeper.feeds().each_row(|_| rows += 1).unwrap();
    let all = start.elapsed();
    assert_eq!(rows, ROWS + 1);
    assert!(20 * few < all, "{few:?} for 256 entries, {all:?} for everything");
    let about = rows_about(&reader, "oem", origin.as_str(), 70_000).unwrap();
    assert_eq!(about.iter().map(|row| row.outcome).collect::<Vec<_>>(), [Outcome::Exported, Outcome::Acknowledged]);
    assert_eq!(rows_about(&reader, "oem", origin.as_str(), ROWS).unwrap(), []);
    assert_eq!(places_between(&reader, "rival", origin.as_str(), 0, ROWS).unwrap(), []);
    assert_eq!(keeper.feeds().last_rows(1, |row| row.way == Way::Batch).unwrap().len(), 1);
    eprintln!("{few:?} for 256 entries of {ROWS} rows, {all:?} for all of them");
}

const NOW: u64 = 1_795_392_000;

/// What a partner may say after a restore: its own word, about feeds of ours, as far as we cannot know better.
#[test]
fn what_a_partner_claims_after_a_restore_is_bounded() {
    let (mut keeper, forge, stranger) = (Keeper::new("maker"), Forge::new("oem"), Forge::new("stranger"));
    let partner = forge.as_partner(false);
    keeper.feeds().put_partner(partner.clone()).unwrap();
    keeper.know_keys_of(&forge).unwrap();
    let origin = keeper.feeds().ensure_feed("quality", NOW).unwrap();
    let records = (0..9).map(|at| record(&format!("L-{at}"), "P-1", "ok"));
    let submit = |record| Submission { record, feed: "quality".into(), owner: None, on_conflict: OnConflict::Refuse };
    keeper.feeds().submit(records.map(submit).collect(), NOW).unwrap();
    keeper.feeds().settle().unwrap();
    let id = keeper.feeds().snapshot().feeds[origin.as_str()].id;
    let root = keeper.feeds().reader().tree(id, 10).root(10).unwrap();
    let delivery = |from, to, size, root| {
        let (items, way) = (Hash::of(&[&[from as u8, to as u8]]), delivery::Way::Batch);
        Delivery { origin: origin.to_string(), from, to, size, root, items, policy: Some(1), terms: None, at: NOW, way }
    };
    let honest = forge.receipt(&delivery(0, 4, 10, root));
    // Nobody was restored: nothing is entered on anybody's word.
    assert_eq!(keeper.feeds().refill(&partner, std::slice::from_ref(&honest), false, NOW).unwrap(), 0);
    keeper.restore();
    assert_eq!(keeper.feeds().refill(&partner, std::slice::from_ref(&honest), false, NOW).unwrap(), 0, "nor before the owner confirms");
    keeper.feeds().confirm_restored(NOW).unwrap();
    let newer = Delivery { origin: origin.renewed().to_string(), ..delivery(0, 4, 90, root) };
    let long = Delivery { to: 700, ..delivery(0, 700, 700, root) };
    let wide = Delivery { way: delivery::Way::Backfill, ..delivery(3, 1 << 40, 1 << 40, root) };
    let of_others = Delivery { origin: Origin::new(forge.party(), "quality", 1).unwrap().to_string(), ..delivery(0, 4, 10, root) };
    let refused = [
        stranger.receipt(&delivery(0, 4, 10, root)),
        forge.receipt(&delivery(0, 4, 10, Hash([3; 32]))),
        forge.receipt(&newer),
        forge.receipt(&long),
        forge.receipt(&of_others),
        b"no receipt".to_vec(),
    ];
    assert_eq!(keeper.feeds().refill(&partner, &refused, false, NOW).unwrap(), 0);
    // Its word counts once, and beyond what is here in the life that ended; no range sizes anything.
    let taken = [honest.clone(), honest.clone(), forge.receipt(&delivery(10, 14, 14, Hash([4; 32]))), forge.receipt(&wide)];
    assert_eq!(keeper.feeds().refill(&partner, &taken, false, NOW).unwrap(), 3);
    assert_eq!(keeper.feeds().refill(&partner, &[honest], false, NOW).unwrap(), 0);
    keeper.feeds().settle().unwrap();
    let reader = keeper.feeds().reader().clone();
    for (seq, rows) in [(0, 1), (3, 2), (9, 1), (12, 2), (1 << 30, 1), (1 << 40, 0)] {
        assert_eq!(rows_about(&reader, "oem", origin.as_str(), seq).unwrap().len(), rows, "entry {seq}");
    }
    assert!(acknowledged(&reader, "oem", origin.as_str(), 0, 10).unwrap().is_empty(), "which fields is not known");
    // The last page ends it.
    assert_eq!(keeper.feeds().refill(&partner, &[], true, NOW).unwrap(), 0);
    assert_eq!(keeper.feeds().refill(&partner, &[forge.receipt(&delivery(4, 6, 10, root))], false, NOW).unwrap(), 0);
    let snapshot = keeper.feeds().snapshot().clone();
    let audit = ledger::audit(&reader, &snapshot, &|_, _| ()).unwrap();
    assert_eq!((audit.problems, audit.refilled, audit.receipted), (Vec::new(), 3, 3));
}

/// Pages without a receipt count too, and a second restore forgets nothing that the first one still waits for.
#[test]
fn a_refill_ends_and_reaches_back_as_far_as_the_first_restore() {
    let (mut keeper, forge) = (Keeper::new("maker"), Forge::new("oem"));
    let partner = forge.as_partner(false);
    keeper.feeds().put_partner(partner.clone()).unwrap();
    let row = |at| Intent {
        to: partner.name.clone(),
        origin: format!("{at}"),
        way: Way::Bundle,
        items: Items { sent: vec![Sent { seq: 1, mask: 1, shares: 0 }], shares: Vec::new() },
        policy: None,
        digest: Hash([1; 32]),
    };
    let due = |keeper: &mut Keeper| {
        keeper.feeds().settle().unwrap();
        ledger::refill_due(keeper.feeds().reader(), &partner.name).unwrap()
    };
    keeper.feeds().export(vec![row(1)], NOW).unwrap();
    keeper.restore();
    keeper.feeds().confirm_restored(NOW).unwrap();
    let first = due(&mut keeper).unwrap();
    assert_eq!(first.taken, 0);
    for taken in 1..4 {
        assert_eq!(keeper.feeds().refill(&partner, &[], false, NOW).unwrap(), 0);
        assert_eq!(due(&mut keeper).unwrap(), ledger::Refill { taken, ..first });
    }
    keeper.feeds().export(vec![row(2)], NOW + 1_000_000).unwrap();
    keeper.restore();
    keeper.feeds().confirm_restored(NOW + 1_000_000).unwrap();
    assert_eq!(due(&mut keeper).unwrap().since, first.since, "what the first one waits for is not forgotten");
}

/// What a node does while its ledger is read is no fault of the ledger; what nobody wrote into it is.
#[test]
fn an_audit_beside_a_node_that_goes_on_finds_nothing() {
    let keeper = RefCell::new(Keeper::new("maker"));
    let intent = || Intent {
        to: "oem".into(),
        origin: "feed".into(),
        way: Way::Bundle,
        items: Items { sent: vec![Sent { seq: 1, mask: 1, shares: 0 }], shares: Vec::new() },
        policy: None,
        digest: Hash([1; 32]),
    };
    let rows = keeper.borrow_mut().feeds().export(vec![intent(), intent()], NOW).unwrap();
    let audit = |meanwhile: &dyn Fn(&mut Feeds)| {
        keeper.borrow_mut().feeds().settle().unwrap();
        let reader = keeper.borrow_mut().feeds().reader().clone();
        let snapshot = keeper.borrow_mut().feeds().snapshot().clone();
        let found = ledger::audit(&reader, &snapshot, &|_, _| {
            let mut keeper = keeper.borrow_mut();
            meanwhile(keeper.feeds());
            keeper.feeds().settle().unwrap();
        });
        found.unwrap().problems
    };
    assert_eq!(audit(&|_| ()), Vec::<String>::new());
    let went_on = audit(&|feeds| {
        feeds.conclude(&[(rows[0].clone(), Outcome::NotSent)], &[], NOW).unwrap();
        feeds.export(vec![intent()], NOW).unwrap();
    });
    assert_eq!(went_on, Vec::<String>::new());
    assert_eq!(audit(&|_| ()), Vec::<String>::new(), "nor afterwards");
}

/// The other side: every receipt of a party's feeds once, page by page.
#[test]
fn receipts_are_given_again_in_pages() {
    let (mut forge, mut keeper) = (Forge::new("maker"), Keeper::new("oem"));
    keeper.know_keys_of(&forge).unwrap();
    let mut given = BTreeSet::new();
    for name in ["quality", "other"] {
        let mut line = forge.open(name);
        (1..100).for_each(|at| line.publish(&forge, &record(&format!("{name}-{at}"), "P-1", "ok")));
        keeper.know_keys_of(&forge).unwrap();
        for at in 0..100 {
            given.extend(keeper.take(&line.origin.clone(), line.batch(&forge, at, at + 1), NOW + at).unwrap().receipt);
        }
    }
    keeper.feeds().settle().unwrap();
    let reader = keeper.feeds().reader().clone();
    for (since, expected) in [(0, 200), (NOW + 50, 100), (NOW + 100, 0)] {
        let (mut found, mut after, mut pages) = (Vec::new(), None::<Vec<u8>>, 0);
        loop {
            let (receipts, next) = witness::given_to(&reader, &forge.party(), since, after.as_deref()).unwrap();
            assert!(receipts.len() <= witness::GIVEN_MAX);
            found.extend(receipts);
            pages += 1;
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((found.len(), found.iter().collect::<BTreeSet<_>>().len()), (expected, expected), "since {since}");
        assert!(found.iter().all(|core| given.contains(core)) && pages <= 4);
    }
    let party = Forge::new("nobody").party();
    assert_eq!(witness::given_to(&reader, &party, 0, None).unwrap(), (Vec::new(), None));
    // A page that nobody named begins nowhere else.
    for after in [&b"given/zzz"[..], b"keys", b"", b"zzz"] {
        let (receipts, _) = witness::given_to(&reader, &forge.party(), NOW + 100, Some(after)).unwrap();
        assert_eq!(receipts, Vec::<Vec<u8>>::new());
    }
}
