//! Forgetting, with the real program: what its owner orders forgotten is in no file of the home, and everything that was
//! signed, sent and proven holds as before.
#![allow(clippy::unwrap_used, reason = "tests, also outside the test functions")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lotline_integration::clock::SetClock;
use lotline_integration::forge::{Forge, Keeper, Line, Node, Wire, record, within};
use lotline_integration::world::{Dice, Firm, Said, World, lots_file, seed, string, text, wait, wait_until_level};
use lotline_node::config::Home;
use lotline_node::exchange::{CREDIT_BYTES, Message};
use lotline_node::feeds::deletion::{Gone, ReportError, gone_of, untold};
use lotline_node::feeds::forget::Forget;
use lotline_node::feeds::{Backfill, FeedError, Feeds, Item, OnConflict, Submission, Under, accept};
use lotline_node::import;
use lotline_node::ledger::{Intent, Items, Outcome, Sent, Way};
use lotline_node::links;
use lotline_node::service::{Service, now};
use lotline_schema::deletion::{Deletion, Reported};
use lotline_schema::org::Org;
use lotline_schema::terms::Terms;
use lotline_schema::tree::empty_root;
use lotline_schema::{Hash, Origin, Record};

const SHOW: &str = r#"["identity", "verdict", "measurements", "inspector"]"#;

fn everything_for(partner: &str) -> String {
    format!(
        "[[share]]\nname = \"{partner}\"\nwith = \"{partner}\"\nfeed = \"quality\"\nparts = \"all\"\nshow = {SHOW}\nuntil = \"revoked\"\n\n"
    )
}

/// Names of persons that exist once in the world.
fn person(lot: usize) -> String {
    format!("Canary Inspector {lot:04} of the night shift")
}

/// A measuring file whose lots have an inspector each.
fn file_of(lots: usize) -> String {
    let mut text = String::from("lot,part,serial,characteristic,nominal,lsl,usl,unit,value,inspector\n");
    for lot in 0..lots {
        for serial in 1..=3 {
            let value = format!("12.{}", 480 + (lot * 7 + serial) % 40);
            text.push_str(&format!("PIN-{lot:04},PIN,{serial},Diameter,12.5,12.4,12.6,mm,{value},{}\n", person(lot)));
        }
    }
    text
}

fn records(lots: usize) -> Vec<Record> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, file_of(lots).as_bytes()).unwrap();
    let options = import::Options { persons: true, ..import::Options::default() };
    let import = import::read(file.path(), &options, &|_, _| ()).unwrap();
    import.lots.iter().map(|lot| lot.check("2026-11-23T10:00:00Z").unwrap()).collect()
}

/// The files below a folder that hold a text.
fn holding(folder: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(holding(&path, needle));
        } else if let Ok(bytes) = std::fs::read(&path) {
            // Segments are laid out in advance: most of it is zeros.
            const STEP: usize = 1 << 14;
            let (needle, zeros) = (needle.as_bytes(), [0; STEP]);
            let in_step = |at: usize| {
                let step = &bytes[at..bytes.len().min(at + STEP)];
                let longer = &bytes[at..bytes.len().min(at + STEP + needle.len())];
                *step != zeros[..step.len()] && longer.windows(needle.len()).any(|here| here == needle)
            };
            let hit = (0..bytes.len()).step_by(STEP).any(in_step);
            found.extend(hit.then(|| path.display().to_string()));
        }
    }
    found
}

/// Adds lines to the configuration, which says whether persons are imported.
fn configure(firm: &Firm, more: &str) {
    let path = firm.home().join("lotline.toml");
    let old = std::fs::read_to_string(&path).unwrap().replace("persons = false", "persons = true");
    std::fs::write(&path, format!("{old}\n{more}")).unwrap();
}

fn field(firm: &Firm, lot: &str, field: &str) -> (String, String) {
    let shown = firm.ok(&["show", lot])["record"]["fields"][field].clone();
    (string(&shown["state"]), shown["on"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_person_is_forgotten_everywhere_in_the_home_and_nothing_signed_changes() {
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem"));
    configure(&supplier, "");
    supplier.start();
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    supplier.publish(&world.file("pin.csv", file_of(6)), &["--feed", "quality"]);
    supplier.apply(&everything_for("oem"));
    wait_until_level(&supplier, &oem);
    wait("everything to be acknowledged", || supplier.ledger("oem").iter().all(|row| row["outcome"] == "acknowledged"));
    let (heads, name) = (supplier.heads(), person(2));
    assert_eq!(field(&supplier, "PIN-0002", "inspector").0, "shown");
    assert!(!holding(supplier.home(), &name).is_empty() && !holding(oem.home(), &name).is_empty(), "or the search proves nothing");

    // First what it would be; nothing goes unasked.
    let dry = supplier.ok(&["forget", "--person", &name, "--dry-run"]);
    assert_eq!((dry["records"].as_array().unwrap().len(), dry["forgotten"].as_u64()), (1, Some(0)), "{dry}");
    assert_eq!(dry["records"][0]["fields"], serde_json::json!(["inspector"]));
    assert_eq!(dry["recipients"], serde_json::json!([{ "name": "oem", "records": 1 }]), "who is to be told");
    let said = supplier.fails(3, &["forget", "--person", &name]);
    assert!(said.error().contains("nothing was forgotten") && said.hint().contains("--yes"), "{}", said.out);
    assert_eq!(field(&supplier, "PIN-0002", "inspector").0, "shown");
    let part_of_it = supplier.ok(&["forget", "--person", "Canary Inspector 0002", "--yes"]);
    assert_eq!(part_of_it["records"], serde_json::json!([]), "exactly this name, or nobody");

    // Beside the running node.
    let gone = supplier.ok(&["forget", "--person", &name, "--yes"]);
    assert_eq!(gone["forgotten"], 1, "{gone}");
    assert_eq!(holding(supplier.home(), &name), Vec::<String>::new());
    let today = string(&serde_json::json!(lotline_node::service::day_text(now())));
    assert_eq!(field(&supplier, "PIN-0002", "inspector"), ("forgotten".into(), today.clone()));
    assert_eq!(field(&supplier, "PIN-0003", "inspector").0, "shown");
    let shown = Said::of(&mut supplier.command(["show", "PIN-0002"])).out;
    assert!(shown.contains(&format!("forgotten on {today}: inspector")), "{shown}");
    let listed = supplier.ok(&["records", "--lot", "PIN-0002"]);
    assert_eq!(listed["records"][0]["forgotten"], serde_json::json!(["inspector"]));
    assert_eq!(supplier.heads(), heads, "not a leaf of the tree changed");
    supplier.is_clean();

    // The customer keeps what it has until it is told, and forgets its own copy by its own word.
    assert_eq!(field(&oem, "PIN-0002", "inspector").0, "shown");
    let told = oem.ok(&["forget", "PIN-0002", "--from", "supplier", "--persons", "--yes"]);
    assert_eq!((told["forgotten"].as_u64(), told["recipients"].as_array().unwrap().len()), (Some(1), 0), "{told}");
    assert_eq!(holding(oem.home(), &name), Vec::<String>::new());
    oem.is_clean();
    oem.fails(5, &["forget", "PIN-0002", "--from", "nobody", "--persons", "--yes"]);

    // What leaves from now on lacks it, and verifies.
    let other = world.reachable_firm("other");
    other.start();
    supplier.pair("supplier", &other, "other");
    supplier.apply(&(everything_for("oem") + &everything_for("other")));
    wait_until_level(&supplier, &other);
    assert_eq!(field(&other, "PIN-0002", "inspector").0, "hidden");
    assert_eq!(
        (field(&other, "PIN-0002", "special_values").0, field(&other, "PIN-0003", "inspector").0),
        ("absent".into(), "shown".into())
    );
    assert_eq!(holding(other.home(), &name), Vec::<String>::new());
    other.is_clean();
    for (firm, args) in [(&supplier, &["--for", "other"][..]), (&supplier, &["--full", "court", "--yes"]), (&oem, &[])] {
        let file = text(&world.path(&format!("{}.lotline", args.len() + usize::from(args.contains(&"court")))));
        firm.ok(&[&["bundle", "--lot", "PIN-0002", "-o", &file], args].concat());
        let verified = world.verify(&file, &["--issuer", &supplier.identity()]);
        assert_eq!((verified.code, verified.json["outcome"].as_str()), (0, Some("verified")), "{}", verified.out);
        let fields = &verified.json["records"][0]["record"]["fields"];
        assert_eq!((fields["inspector"]["state"].as_str(), fields["lot"]["state"].as_str()), (Some("hidden"), Some("shown")));
    }
    let why = Said::of(&mut supplier.command(["policy", "explain", "PIN-0002", "oem"])).out;
    assert!(why.contains("forgotten here"), "{why}");

    // It goes on: a new record, a restart, a backup that knows.
    let again = supplier.fails(1, &["publish", &world.file("again.csv", file_of(6)), "--feed", "quality"]);
    assert!(again.error().contains("other content"), "{}", again.out);
    supplier.publish(&world.file("more.csv", lots_file("MORE", "PIN", 1)), &["--feed", "quality"]);
    wait_until_level(&supplier, &oem);
    supplier.stop();
    assert_eq!(holding(supplier.home(), &name), Vec::<String>::new());
    let (backup, secret) = (text(&world.path("b.age")), world.passphrase());
    supplier.ok(&["backup", "-o", &backup, "--passphrase-file", &secret, "--work-factor", "2"]);
    let restored = Firm::at(&world.path("restored"));
    restored.ok(&["restore", &backup, "--passphrase-file", &secret]);
    assert_eq!(field(&restored, "PIN-0002", "inspector").0, "forgotten");
    restored.is_clean();
    let refused = restored.fails(1, &["forget", "PIN-0003", "--persons", "--yes"]);
    assert!(refused.error().contains("was restored"), "{}", refused.out);
}

#[test]
fn a_lot_is_forgotten_by_fields_or_whole_and_rules_do_not_open_what_they_can_not_judge() {
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem"));
    supplier.publish(&world.file("pin.csv", file_of(3)), &["--feed", "quality"]);
    supplier.ok(&["partner", "accept", &oem.invitation(), "--as", "oem"]);
    supplier.apply(&format!(
        "{}[[never]]\nname = \"not-this-lot\"\nwith = \"oem\"\nfeed = \"all\"\nlots = [\"PIN-0001\"]\nshow = \"everything\"\n",
        everything_for("oem")
    ));
    let file = |name: &str| text(&world.path(name));
    let wrong = supplier.fails(2, &["forget", "PIN-0000", "--fields", "inspektor", "--yes"]);
    assert!(wrong.error().contains("did you mean `inspector`?"), "{}", wrong.out);
    supplier.fails(2, &["forget", "PIN-0000"]);
    supplier.fails(2, &["forget"]);
    supplier.fails(2, &["forget", "PIN-0000", "--persons", "--person", "X"]);
    supplier.fails(5, &["forget", "PIN-9999", "--everything", "--yes"]);

    // Values go, and what is computed from them stays.
    let gone = supplier.ok(&["forget", "PIN-0000", "--fields", "measurements,remarks", "--yes"]);
    assert_eq!(gone["recipients"], serde_json::json!([]));
    assert_eq!(field(&supplier, "PIN-0000", "other_values").0, "forgotten");
    assert_eq!(
        (field(&supplier, "PIN-0000", "other_statistics").0, field(&supplier, "PIN-0000", "lot").0),
        ("shown".into(), "shown".into())
    );
    supplier.ok(&["bundle", "--lot", "PIN-0000", "--for", "oem", "-o", &file("values.lotline")]);

    // The never speaks of a lot; once nobody can say which lot it is, nothing of the record leaves.
    supplier.fails(3, &["bundle", "--lot", "PIN-0001", "--for", "oem", "-o", &file("never.lotline")]);
    supplier.ok(&["forget", "PIN-0001", "--fields", "lot", "--yes"]);
    assert_eq!(supplier.count("PIN-0001"), 0);
    let preview = supplier.ok(&["policy", "preview", "oem"]);
    assert_eq!(preview["records"].as_array().unwrap().iter().filter(|record| record["seq"] == 2).count(), 0, "{preview}");
    supplier.is_clean();

    // Whole: the entry stays, and says so.
    supplier.ok(&["forget", "PIN-0002", "--everything", "--yes"]);
    assert_eq!(holding(supplier.home(), "PIN-0002"), Vec::<String>::new());
    let listed = supplier.ok(&["records"]);
    let whole = listed["records"].as_array().unwrap().iter().find(|record| record["seq"] == 3).unwrap().clone();
    assert_eq!((whole["forgotten"].as_array().unwrap().len(), whole["lot"].is_null()), (43, true), "{whole}");
    supplier.is_clean();
    let again = supplier.ok(&["forget", "PIN-0000", "--fields", "remarks", "--yes"]);
    assert_eq!(again["forgotten"], 0);
}

#[test]
fn what_is_forgotten_and_comes_again_is_dropped_and_receipted() {
    let (mut supplier, mut customer) = (Forge::new("supplier"), Keeper::new("customer"));
    let mut line = supplier.open("quality");
    for record in records(3) {
        line.publish(&supplier, &record);
    }
    customer.know_keys_of(&supplier).unwrap();
    // The second record came hidden, and opened later.
    let mut batch = line.batch(&supplier, 0, 4);
    batch.items[2] = Item::Hidden(line.entries[2].leaf);
    customer.take(&line.origin, batch, now()).unwrap();
    let id = customer.feeds().snapshot().feeds[line.origin.as_str()].id;
    let inspector = 1 << lotline_schema::kind::inspection::SCHEMA.slot("inspector").unwrap();
    let all = |seq| Forget { feed: id, seq, slots: u64::MAX };
    let persons = |seq| Forget { feed: id, seq, slots: inspector };
    assert_eq!(customer.feeds().forget(&[persons(1), all(3)], "asked", now()).unwrap(), 2);
    let org = customer.feeds().snapshot().orgs[&supplier.party()].clone();
    let feed = customer.feeds().snapshot().feeds[line.origin.as_str()].clone();
    let reader = customer.feeds().reader().clone();
    let items = (1..4).map(|seq| (seq, line.entries[seq as usize].view())).collect();
    let leaf_of = |seq| reader.row(id, seq).unwrap().map(|row| Hash(row.leaf));
    let verified = accept::verify_backfill(&org, &feed, Backfill { items, policy: Some(1), under: Vec::new() }, leaf_of).unwrap();
    assert!(customer.feeds().accept_backfill(verified, now()).unwrap().is_some(), "the receipt covers what came");
    customer.feeds().settle().unwrap();
    let row = |seq| reader.row(id, seq).unwrap().unwrap();
    assert_eq!((row(1).slots() & inspector, row(1).forgotten_slots()), (0, inspector));
    assert_eq!((row(3).slots(), row(3).lot.clone(), row(3).forgotten_slots().count_ones()), (0, None, 43));
    assert_eq!(row(2).slots().count_ones(), 43, "what was not forgotten opened");
    assert!(reader.audit(&|_| ()).unwrap().is_clean());
    customer.restart();
    // Not before the owner of a restored home has confirmed it.
    customer.restore();
    assert!(matches!(customer.feeds().forget(&[all(2)], "asked", now()), Err(FeedError::Restored(_))));
}

#[test]
fn killed_fifty_times_while_forgetting_all_of_it_is_there_or_none() {
    const KILLS: u64 = 50;
    let (world, mut dice, start) = (World::new(), Dice(seed()), Instant::now());
    let firm = world.firm("firm");
    configure(&firm, "");
    firm.publish(&world.file("pin.csv", file_of(60)), &["--feed", "quality"]);
    let heads = firm.heads();
    let lot = |kill: u64| format!("PIN-{kill:04}");
    let order = |kill: u64| -> Command { firm.command(["forget", &lot(kill), "--persons", "--yes", "--json"]) };
    // How long one takes, so that kills fall anywhere in it.
    let first = Instant::now();
    assert_eq!(Said::of(&mut order(59)).code, 0);
    let takes = first.elapsed().as_micros() as u64;
    let (mut kept, mut gone) = (0, 0);
    for kill in 0..KILLS {
        let mut child = order(kill).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(dice.below(takes)));
        let _ = child.kill();
        child.wait().unwrap();
        let shown = field(&firm, &lot(kill), "inspector").0;
        let found = holding(firm.home(), &person(kill as usize));
        match shown.as_str() {
            "forgotten" => {
                assert_eq!(found, Vec::<String>::new(), "kill {kill}");
                gone += 1;
            }
            _ => kept += u64::from(!found.is_empty()),
        }
        if kill % 10 == 9 {
            firm.is_clean();
        }
    }
    assert_eq!(kept + gone, KILLS);
    for kill in 0..KILLS {
        firm.ok(&["forget", &lot(kill), "--persons", "--yes"]);
        assert_eq!(holding(firm.home(), &person(kill as usize)), Vec::<String>::new());
    }
    assert_eq!(firm.heads(), heads);
    assert_eq!(field(&firm, "PIN-0055", "inspector").0, "shown");
    firm.is_clean();
    eprintln!("forget: {KILLS} kills, {gone} times all of it was gone, {kept} times all of it was there, in {:.0?}", start.elapsed());
}

#[test]
fn what_is_past_its_time_is_listed_and_goes_only_on_its_owners_word() {
    let world = World::new();
    let firm = world.firm("firm");
    let years = |years: u64| now() - years * 366 * 86_400;
    // The first stands before all that is older: the clock was ahead.
    let mut published = records(7);
    published.rotate_right(1);
    let mut published = published.into_iter();
    {
        let service = Service::open(Home::at(Some(firm.home())).unwrap(), &|_| ()).unwrap();
        for at in [now(), years(20), years(19), years(16), years(5), years(1), now()] {
            let record = published.next().unwrap();
            let one = Submission { record, owner: None, feed: "quality".into(), on_conflict: OnConflict::Refuse };
            service.handle.with_blocking(move |feeds| feeds.submit(vec![one], at)).unwrap().unwrap().remove(0).unwrap();
        }
        service.close().unwrap();
    }
    let due = |firm: &Firm| firm.ok(&["status"])["due"]["records"].as_u64().unwrap();
    assert_eq!(due(&firm), 0, "nobody said how long");
    assert_eq!(firm.ok(&["forget", "--due", "--yes"])["forgotten"], 0);
    let plain = std::fs::read_to_string(firm.home().join("lotline.toml")).unwrap();
    let says = |more: &str| std::fs::write(firm.home().join("lotline.toml"), format!("{plain}\n{more}")).unwrap();
    says("[retention]\ninspektion = \"15y\"\n");
    assert!(firm.fails(1, &["status"]).error().contains("did you mean `inspection`?"));
    says("[retention]\ninspection = \"15y\"\n");
    assert_eq!(due(&firm), 3);
    let words = Said::of(&mut firm.command(["status"])).out;
    assert!(words.contains("3 inspection past their time, the oldest since") && words.contains("lotline forget --due"), "{words}");
    assert_eq!(due(&firm), 3, "nothing goes unasked");
    firm.fails(3, &["forget", "--due"]);
    let none = firm.ok(&["forget", "--due", "--partner", "oem", "--yes"]);
    assert_eq!(none["forgotten"], 0);
    let none = firm.ok(&["forget", "--due", "--kind", "custom/benchmark", "--yes"]);
    assert_eq!(none["forgotten"], 0);
    assert_eq!(firm.ok(&["forget", "--due", "--dry-run"])["records"].as_array().unwrap().len(), 3);
    let gone = firm.ok(&["forget", "--due", "--kind", "inspection", "--yes"]);
    assert_eq!((gone["forgotten"].as_u64(), due(&firm)), (Some(3), 0), "{gone}");
    assert_eq!(holding(&firm.home().join("store"), "PIN-0002"), Vec::<String>::new());
    assert_eq!((firm.count("PIN-0003"), firm.count("PIN-0002")), (1, 0));
    // A customer's longer period counts for what was made for that customer.
    says("[retention]\ninspection = \"4y\"\n\n[retention.customer.firm]\ninspection = \"1d\"\n");
    assert_eq!(due(&firm), 1, "the longer one counts");
    firm.is_clean();
}

#[test]
fn what_was_promised_and_deleted_is_reported_to_its_owner_until_that_one_answers() {
    let world = World::new();
    let (supplier, oem) = (world.reachable_firm("supplier"), world.firm("oem"));
    supplier.start();
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    supplier.publish(&world.file("a.csv", lots_file("A", "P-1", 2)), &["--feed", "quality"]);
    supplier.apply("[[share]]\nname = \"audit\"\nwith = \"oem\"\nfeed = \"quality\"\nparts = \"all\"\nshow = [\"identity\", \"measurements\"]\nfor = \"audit\"\nthen = { delete_after = \"90d\" }\nuntil = \"revoked\"\n");
    wait("the customer to hear of terms", || oem.ok(&["terms"])["asked_of_us"].as_array().is_some_and(|asked| !asked.is_empty()));
    oem.ok(&["subscribe", "supplier", "--for", "audit", "--accept-terms", "all", "--yes"]);
    wait("a lot to come", || oem.count("A-0001") == 1);
    assert_eq!(oem.ok(&["status"])["due"]["records"], 0);
    let about = |lot: &str| supplier.ok(&["ledger", "--lot", lot, "--partner", "oem"])["records"][0]["reported_deleted"].clone();
    assert_eq!(about("A-0000"), serde_json::json!([]));

    // Earlier than promised is as good.
    oem.ok(&["forget", "A-0000", "--everything", "--yes"]);
    wait("the report", || about("A-0000").as_array().unwrap().len() == 1);
    let fields = about("A-0000")[0]["fields"].clone();
    assert!(fields.as_array().unwrap().iter().any(|field| field == "other_values"), "{fields}");
    let text = Said::of(&mut supplier.command(["ledger", "--lot", "A-0000", "--partner", "oem"])).out;
    assert!(text.contains("oem reports that it deleted"), "{text}");
    assert!(Said::of(&mut supplier.command(["show", "A-0000"])).out.contains("oem reports that it deleted"));
    assert_eq!(about("A-0001"), serde_json::json!([]));

    // Without a connection it waits, and comes with the next one.
    supplier.stop();
    oem.ok(&["forget", "A-0001", "--fields", "measurements", "--yes"]);
    oem.stop();
    supplier.start();
    oem.start();
    wait("the second report", || about("A-0001").as_array().unwrap().len() == 1);
    assert_eq!(about("A-0001")[0]["fields"], serde_json::json!(["special_values", "other_values"]));
    let open = |firm: &Firm| Service::open(Home::at(Some(firm.home())).unwrap(), &|_| ()).unwrap();
    let answered = || {
        oem.stop();
        let service = open(&oem);
        let owner = service.handle.snapshot().book["supplier"].party;
        let none = untold(service.handle.reader(), &owner, None, 64).unwrap().is_empty();
        service.close().unwrap();
        oem.start();
        none
    };
    wait("the answer", answered);
    supplier.is_clean();
    oem.is_clean();
}

/// A customer's home that took three records under a promise of ninety days, a hundred days ago. The last one came free.
fn take_under_a_promise(feeds: &mut Feeds, supplier: &Forge, line: &Line) {
    let terms = Terms::new(["audit".to_owned()].into(), Some(90), false).unwrap();
    take_under(feeds, supplier, line, &[(terms, vec![(1, ALL), (2, ALL)])]);
}

/// The same under these terms, for these slots of these records.
fn take_under(feeds: &mut Feeds, supplier: &Forge, line: &Line, promises: &[(Terms, Vec<(u64, u64)>)]) {
    let org = Origin::org(supplier.party());
    feeds.follow(&org).unwrap();
    let verified = accept::verify_org(&Org::new(supplier.party()), &Default::default(), supplier.org_batch(0)).unwrap();
    feeds.accept(verified, None, now()).unwrap();
    let then = now() - 100 * 86_400;
    let accepted = promises.iter().map(|(terms, _)| (terms.id(), terms.clone())).collect();
    let purposes = promises.iter().flat_map(|(terms, _)| terms.purposes().clone()).collect();
    feeds.accept_terms(supplier.party(), purposes, accepted, then).unwrap();
    feeds.follow(&line.origin).unwrap();
    let mut batch = line.batch(supplier, 0, line.size());
    batch.under = promises.iter().map(|(terms, slots)| Under { terms: terms.id(), slots: slots.clone() }).collect();
    let feed = feeds.snapshot().feeds[line.origin.as_str()].clone();
    let keys = feeds.snapshot().orgs[&supplier.party()].clone();
    let verified = accept::verify(&keys, &line.origin, &feed.head, batch).unwrap();
    feeds.accept(verified, None, then).unwrap();
}

/// Every slot of an inspection.
const ALL: u64 = (1 << 43) - 1;

fn line_of(supplier: &mut Forge) -> Line {
    let mut line = supplier.open("quality");
    for record in records(3) {
        line.publish(supplier, &record);
    }
    line
}

#[test]
fn a_promise_that_is_due_is_listed_and_kept_by_the_node_that_may() {
    let (world, mut supplier) = (World::new(), Forge::new("supplier"));
    let (firm, line) = (world.firm("firm"), line_of(&mut supplier));
    let service = Service::open(Home::at(Some(firm.home())).unwrap(), &|_| ()).unwrap();
    let (taken, party) = (line.clone(), supplier.party());
    service.handle.with_blocking(move |feeds| take_under_a_promise(feeds, &supplier, &taken)).unwrap();
    service.close().unwrap();
    let due = |firm: &Firm| firm.ok(&["status"])["due"]["records"].as_u64().unwrap();
    assert_eq!(due(&firm), 2);
    firm.start();
    assert_eq!(due(&firm), 2, "nothing goes unasked");
    firm.stop();
    assert!(!holding(firm.home(), &person(0)).is_empty());
    configure(&firm, "[retention]\nauto_delete = true\n");
    firm.start();
    wait("the node to keep its promise", || due(&firm) == 0);
    // Closed with the order, and gone a moment later.
    wait("it to be gone from every file", || [0, 1].iter().all(|lot| holding(firm.home(), &person(*lot)).is_empty()));
    assert_eq!(field(&firm, "PIN-0002", "inspector").0, "shown");
    firm.is_clean();
    firm.stop();
    let service = Service::open(Home::at(Some(firm.home())).unwrap(), &|_| ()).unwrap();
    let snapshot = service.handle.snapshot();
    let reports = untold(service.handle.reader(), &party, None, 64).unwrap();
    let report = Reported::open(&reports[0].1, &snapshot.orgs[&snapshot.party]).unwrap();
    assert_eq!((reports.len(), report.deletion.origin.as_str()), (1, line.origin.as_str()));
    assert_eq!(report.deletion.entries, [(1, ALL), (2, ALL)]);
    // Answered, it is said no more.
    service.handle.with_blocking(move |feeds| feeds.noted(&party, report.number)).unwrap().unwrap();
    service.handle.reader().settle().unwrap();
    assert_eq!(untold(service.handle.reader(), &party, None, 64).unwrap(), Vec::new());
    service.close().unwrap();
}

/// A record that is due for two reasons goes once and whole: no order of one shows what the other forgets.
#[test]
fn a_record_that_is_due_twice_goes_whole() {
    let (world, mut supplier) = (World::new(), Forge::new("supplier"));
    let (firm, line) = (world.firm("firm"), line_of(&mut supplier));
    let slot = |name: &str| 1u64 << lotline_schema::kind::inspection::SCHEMA.slot(name).unwrap();
    let promise = |purpose: &str| Terms::new([purpose.to_owned()].into(), Some(90), false).unwrap();
    let named = slot("lot") | slot("part");
    let promises = [
        (promise("audit"), vec![(1, named), (2, named)]),
        (promise("claims"), vec![(1, slot("inspector") | slot("other_values")), (2, slot("inspector"))]),
    ];
    let service = Service::open(Home::at(Some(firm.home())).unwrap(), &|_| ()).unwrap();
    let (taken, party) = (line.clone(), supplier.party());
    service.handle.with_blocking(move |feeds| take_under(feeds, &supplier, &taken, &promises)).unwrap();
    service.close().unwrap();
    assert!(!holding(firm.home(), "PIN-0000").is_empty() && !holding(firm.home(), &person(1)).is_empty());
    let counted = |records: u64| assert_eq!(firm.ok(&["status"])["due"]["records"].as_u64(), Some(records), "a record counts once");
    counted(2);

    // Two terms, both due on one day.
    let service = Service::open(Home::at(Some(firm.home())).unwrap(), &|_| ()).unwrap();
    let kept = service.handle.with_blocking(|feeds| feeds.keep_promises()).unwrap().unwrap();
    assert_eq!(kept, Some(2));
    let again = service.handle.with_blocking(|feeds| feeds.keep_promises()).unwrap().unwrap();
    assert_eq!(again, Some(0));
    let reports = untold(service.handle.reader(), &party, None, 100).unwrap();
    assert_eq!(reports.len(), 2, "one for each of the terms");
    service.close().unwrap();
    for secret in ["PIN-0000", "PIN-0001", &person(0), &person(1)] {
        assert_eq!(holding(firm.home(), secret), Vec::<String>::new(), "{secret}");
    }
    assert_eq!((firm.count("PIN-0000"), firm.count("PIN-0002")), (0, 1));
    firm.is_clean();
    counted(0);
}

#[test]
fn a_record_past_its_period_and_under_two_terms_goes_whole() {
    let (world, mut supplier) = (World::new(), Forge::new("supplier"));
    let firm = world.firm("firm");
    let mut line = supplier.open("quality");
    for lot in 0..3 {
        let text = |text: String| lotline_schema::codec::text(text);
        let fields = vec![text(format!("CANARY-LOT-{lot}")), text(format!("CANARY-PART-{lot}")), text(format!("CANARY-TEXT-{lot}"))];
        line.publish(&supplier, &Record::benchmark(fields));
    }
    let promise = |purpose: &str| Terms::new([purpose.to_owned()].into(), Some(90), false).unwrap();
    let promises = [(promise("audit"), vec![(1, 0b001), (2, 0b100)]), (promise("claims"), vec![(1, 0b010), (2, 0b001)])];
    let service = Service::open(Home::at(Some(firm.home())).unwrap(), &|_| ()).unwrap();
    let taken = line.clone();
    service.handle.with_blocking(move |feeds| take_under(feeds, &supplier, &taken, &promises)).unwrap();
    let id = service.handle.snapshot().feeds[line.origin.as_str()].id;
    // The owner's period is over for all of it, besides.
    let items = [(1, 0b001), (1, u64::MAX), (1, 0b010), (2, 0b001), (2, 0b100)].map(|(seq, slots)| Forget { feed: id, seq, slots });
    assert_eq!(service.handle.with_blocking(move |feeds| feeds.forget(&items, "past its time", now())).unwrap().unwrap(), 2);
    service.close().unwrap();
    for secret in ["CANARY-LOT-0", "CANARY-PART-0", "CANARY-TEXT-0", "CANARY-LOT-1", "CANARY-TEXT-1"] {
        assert_eq!(holding(firm.home(), secret), Vec::<String>::new(), "{secret}");
    }
    assert!(!holding(firm.home(), "CANARY-PART-1").is_empty() && !holding(firm.home(), "CANARY-LOT-2").is_empty());
    assert_eq!(firm.ok(&["forget", "--due", "--yes"])["forgotten"], 0);
    firm.is_clean();
}

#[test]
fn a_report_counts_for_records_of_ours_and_by_whom_it_is_signed() {
    let (mut owner, customer, stranger) = (Keeper::new("owner"), Forge::new("customer"), Forge::new("stranger"));
    let submissions =
        records(2).into_iter().map(|record| Submission { record, owner: None, feed: "quality".into(), on_conflict: OnConflict::Refuse });
    let published = owner.feeds().submit(submissions.collect(), now()).unwrap().remove(0).unwrap();
    let report = |by: &Forge, origin: &Origin, number: u64, entries: &[(u64, u64)]| {
        let deletion = Deletion { origin: origin.to_string(), terms: Hash([1; 32]), entries: entries.to_vec(), at: 77 };
        deletion.seal(by.party(), number, &by.keys.record, lotline_node::keys::random).unwrap()
    };
    // It got slots 1 and 2 of the first record, and a third that never left; of the second it got nothing.
    let sent = |seq, mask, digest| Intent {
        to: customer.name.clone(),
        origin: published.origin.to_string(),
        way: Way::Batch,
        items: Items { sent: vec![Sent { seq, mask, shares: 1 }], shares: vec!["rule".into()] },
        policy: Some(1),
        digest: Hash([digest; 32]),
    };
    owner.feeds().put_partner(customer.as_partner(false)).unwrap();
    owner.feeds().intend(sent(1, 0b0111, 1), &[], &[], now()).unwrap();
    let stopped = owner.feeds().intend(sent(1, 0b1000, 2), &[], &[], now()).unwrap();
    owner.feeds().conclude(&[(stopped, Outcome::NotSent)], &[], now()).unwrap();
    let core = report(&customer, &published.origin, 5, &[(1, 6), (900, 1)]);
    let party = customer.party();
    assert!(matches!(owner.feeds().take_report(&party, core.clone()), Err(ReportError::OrgBehind)));
    owner.know_keys_of(&customer).unwrap();
    for _ in 0..2 {
        assert_eq!(owner.feeds().take_report(&party, core.clone()).unwrap(), 5, "once more is as good");
    }
    assert_eq!(owner.feeds().take_report(&party, report(&customer, &published.origin, 6, &[(1, u64::MAX >> 1), (2, 7)])).unwrap(), 6);
    owner.feeds().settle().unwrap();
    let gone = gone_of(owner.feeds().reader(), &party, &published.origin, 1).unwrap();
    assert_eq!(gone, [Gone { slots: 6, at: 77, number: 5 }, Gone { slots: 1, at: 77, number: 6 }], "what was known is not said twice");
    assert_eq!(gone_of(owner.feeds().reader(), &party, &published.origin, 2).unwrap(), [], "it never got that");
    assert_eq!(gone_of(owner.feeds().reader(), &party, &published.origin, 900).unwrap(), []);
    assert_eq!(gone_of(owner.feeds().reader(), &stranger.party(), &published.origin, 1).unwrap(), []);
    let theirs = Origin::new(party, "quality", 1).unwrap();
    assert_eq!(owner.feeds().take_report(&party, report(&customer, &theirs, 7, &[(1, 1)])).unwrap(), 7, "answered as any other");
    let forged = report(&stranger, &published.origin, 8, &[(1, 1)]);
    assert!(matches!(owner.feeds().take_report(&party, forged), Err(ReportError::Broken(_))));
    let mut altered = core.clone();
    *altered.last_mut().unwrap() ^= 1;
    assert!(matches!(owner.feeds().take_report(&party, altered), Err(ReportError::Broken(_))));
    // What a restored ledger lost stands in the partner's receipts: until these are here no report is answered.
    owner.restore();
    owner.feeds().confirm_restored(now()).unwrap();
    assert!(matches!(owner.feeds().take_report(&party, core.clone()), Err(ReportError::LedgerBehind)));
    owner.feeds().refill(&customer.as_partner(false), &[], true, now()).unwrap();
    assert_eq!(owner.feeds().take_report(&party, core).unwrap(), 5);
}

/// A clock that shows another year deletes nothing, and lists nothing, before its owner has said that it is right.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumped_is_no_reason_to_delete() {
    let mut supplier = Forge::new("supplier");
    let line = line_of(&mut supplier);
    // What was received a hundred days ago under a promise of ninety is ten days from due by this clock.
    let clock = SetClock::at(now() - 20 * 86_400);
    let node = Node::new_by(clock.watched(), "firm").await;
    node.with(move |feeds| take_under_a_promise(feeds, &supplier, &line)).await;
    let listed = async || node.verb(serde_json::json!({ "Status": {} })).await.unwrap().json["due"]["records"].as_u64();
    let forget = async || {
        let args = serde_json::json!({
            "lot": null, "part": null, "from": null, "fields": [], "persons": false, "everything": false, "person": null, "due": true,
            "kind": null, "partner": null, "dry_run": false, "yes": true,
        });
        node.verb(serde_json::json!({ "Forget": args })).await
    };
    assert_eq!((listed().await, node.with(Feeds::keep_promises).await.unwrap()), (Some(0), Some(0)));
    clock.jump(20 * 365 * 86_400);
    assert_eq!(node.with(Feeds::keep_promises).await.unwrap(), None);
    assert_eq!(listed().await, Some(0));
    let refused = forget().await.unwrap_err();
    assert!(refused.what.contains("the clock shows") && refused.hint.unwrap().contains("share resume --clock"), "{}", refused.what);
    assert!(!holding(node.service.home.path(), &person(0)).is_empty());
    // Set right, time passes, and the day comes.
    clock.jump(-20 * 365 * 86_400);
    clock.pass(Duration::from_secs(11 * 86_400));
    assert_eq!(listed().await, Some(2));
    assert_eq!(forget().await.unwrap().json["forgotten"], 2);
    assert_eq!(holding(node.service.home.path(), &person(0)), Vec::<String>::new());
    node.stop().await;
}

/// A batch that was read before a forgetting, and waits while that is done, is read again.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_under_way_does_not_leave_with_what_was_forgotten() {
    const SECRET: &str = "CANARY-TEXT";
    let (node, taker) = (Node::new("maker").await, Forge::new("oem"));
    node.publish("quality", (0..3).map(|at| record(&format!("L-{at}"), "P-1", SECRET)).collect()).await;
    node.know(taker.as_partner(false)).await;
    node.know_keys_of(&taker).await;
    node.apply("[[share]]\nname = 's'\nwith = 'oem'\nfeed = 'quality'\nparts = 'all'\nshow = 'everything'\nuntil = 'revoked'\n").await;
    let (origin, handle) = (node.own("quality"), node.service.handle.clone());
    let (go, told) = std::sync::mpsc::channel::<()>();
    let id = handle.snapshot().feeds[origin.as_str()].id;
    let items: Vec<Forget> = (1..4).map(|seq| Forget { feed: id, seq, slots: 0b100 }).collect();
    let orders = items.clone();
    // The feeds thread is busy: the session reads beside it, and waits with its batch.
    let forgetting = tokio::spawn(async move {
        let order = move |feeds: &mut Feeds| {
            told.recv().unwrap();
            (feeds.forget(&orders, "asked", now()).unwrap(), feeds.recipients(&orders).unwrap().len())
        };
        handle.with(order).await.unwrap()
    });
    let (near, far) = tokio::io::duplex(1 << 16);
    let (handle, partner) = (node.service.handle.clone(), node.service.handle.snapshot().book["oem"].clone());
    let context = links::Context { net: node.net.clone(), handle, board: node.board.clone(), pairings: None, capture: None };
    let serving = tokio::spawn(links::serve(context, partner, near));
    let mut wire = Wire::new(far);
    wire.send(&Message::Open { origin: origin.to_string(), next: 0, root: empty_root(), view: None, credit: CREDIT_BYTES }).await;
    assert!(matches!(within("the answer", wire.next()).await, Some(Message::Opened { .. })));
    tokio::time::sleep(Duration::from_millis(300)).await;
    go.send(()).unwrap();
    assert_eq!(within("the forgetting", forgetting).await.unwrap(), (3, 0), "nobody had it, and nobody gets it");
    loop {
        match within("the records", wire.take(&taker)).await.unwrap() {
            Message::Batch(batch) => {
                let shown = |item: &Item| matches!(item, Item::View(view) if !view.disclosures.is_empty());
                assert!(batch.items[1..].iter().all(shown), "what was not forgotten, and not a bare leaf");
            }
            Message::CaughtUp { .. } => break,
            _ => {}
        }
    }
    assert!(!wire.read.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    assert_eq!(node.with(move |feeds| feeds.recipients(&items).unwrap().len()).await, 0, "the ledger says that it was not sent");
    serving.abort();
    node.stop().await;
}

/// A disk that refuses in the middle: it is said, and the next order goes on where the last one stopped.
#[test]
fn a_forgetting_that_failed_halfway_is_said_and_finished_by_the_next() {
    let world = World::new();
    let firm = world.firm("firm");
    configure(&firm, "");
    firm.publish(&world.file("pin.csv", file_of(3)), &["--feed", "quality"]);
    firm.start();
    // The place of the segment's new file is taken.
    let taken = firm.home().join("store/journal/00000001.new");
    std::fs::create_dir(&taken).unwrap();
    let failed = firm.fails(1, &["forget", "PIN-0001", "--persons", "--yes"]);
    assert!(failed.error().contains("it is ordered"), "{}", failed.out);
    assert_eq!(field(&firm, "PIN-0001", "inspector").0, "forgotten", "closed to everybody");
    assert!(!holding(&firm.home().join("store/journal"), &person(1)).is_empty());
    let alarmed =
        || firm.ok(&["status"])["alarms"].as_array().unwrap().iter().any(|alarm| string(alarm).contains("FORGETTING IS NOT DONE"));
    assert!(alarmed());
    assert!(firm.fails(1, &["forget", "PIN-0001", "--persons", "--yes"]).error().contains("00000001"), "still refused");
    std::fs::remove_dir(&taken).unwrap();
    let finished = Said::of(&mut firm.command(["forget", "PIN-0001", "--persons", "--yes"]));
    assert!(finished.code == 0 && finished.out.contains("gone from every file now"), "{}", finished.out);
    assert!(!alarmed());
    assert_eq!(holding(firm.home(), &person(1)), Vec::<String>::new());
    assert_eq!(field(&firm, "PIN-0000", "inspector").0, "shown");
    firm.is_clean();
}
