//! Delegations, with the real program: a laboratory writes a feed that is its customer's, the owner shares it on under
//! its own rules, and nobody else is shown it by the laboratory.
#![allow(clippy::unwrap_used, reason = "tests, also outside the test functions")]

use lotline_integration::world::{Firm, Said, World, lots_file, string, text, wait, wait_until_level};
use lotline_node::carry::{Carried, CarriedFile};
use lotline_node::config::Home;
use lotline_node::feeds::{DelegateError, FeedError, OnConflict, Submission};
use lotline_node::service::{Service, now};
use lotline_schema::{PartyId, Record};
use serde_json::Value;

const RULES: &str = "[[share]]\nname = \"lab\"\nwith = \"oem\"\nfeed = \"lab\"\nparts = \"all\"\nshow = [\"identity\", \"verdict\", \"measurements\"]\nuntil = \"revoked\"\n";
const FAR: &str = "2099-12-31";

/// An owner, its laboratory, and a customer of the owner; all run, and the owner is paired with both.
struct Firms {
    world: World,
    owner: Firm,
    lab: Firm,
    oem: Firm,
}

impl Firms {
    fn new() -> Firms {
        let world = World::new();
        // The owner dials, and nobody dials it: two that dial each other in the same moment are another story.
        let (owner, lab, oem) = (world.firm("owner"), world.reachable_firm("lab"), world.reachable_firm("oem"));
        for firm in [&owner, &lab, &oem] {
            firm.start();
        }
        owner.pair("owner", &oem, "oem");
        // Neither follows the other's own feeds.
        owner.ok(&["partner", "accept", &lab.invitation(), "--as", "lab"]);
        lab.ok(&["partner", "accept", &owner.invitation(), "--as", "owner"]);
        Firms { world, owner, lab, oem }
    }

    fn request(&self) -> String {
        let file = text(&self.world.path("request.lotline"));
        self.lab.ok(&["keys", "request-delegation", "--of", "owner", "--feed", "lab", "-o", &file]);
        file
    }

    fn kit(&self) -> Vec<String> {
        ["--kit", &text(&self.world.path("kit of owner.txt")), "--passphrase-file", &self.world.passphrase()].map(str::to_owned).to_vec()
    }

    /// With the owner's node stopped for a moment.
    fn by_root(&self, verb: &[&str]) -> Value {
        self.owner.stop();
        let kit = self.kit();
        let said = self.owner.ok(&verb.iter().copied().chain(kit.iter().map(String::as_str)).collect::<Vec<_>>());
        self.owner.start();
        said
    }

    fn delegate(&self, until: &str) -> Value {
        let request = self.request();
        let said = self.by_root(&["keys", "delegate", &request, "--until", until, "--yes"]);
        let origin = string(&said["origin"]);
        wait("the laboratory to learn of its delegation", || {
            self.lab.ok(&["status"])["delegated"].as_array().unwrap().iter().any(|of| of["origin"] == origin.as_str())
        });
        said
    }

    fn file(&self, prefix: &str, lots: usize) -> String {
        self.world.file(&format!("{prefix}.csv"), lots_file(prefix, "PIN", lots))
    }

    fn publish(&self, prefix: &str, lots: usize) -> Value {
        self.lab.publish(&self.file(prefix, lots), &["--feed", "lab", "--owner", "owner"])
    }
}

fn feed(firm: &Firm, name: &str) -> Value {
    let feeds = firm.ok(&["feeds"]);
    feeds["feeds"].as_array().unwrap().iter().find(|feed| feed["name"] == name).cloned().unwrap_or(Value::Null)
}

#[test]
fn what_a_laboratory_publishes_for_its_customer_reaches_that_ones_customers() {
    let firms = Firms::new();
    let Firms { world, owner, lab, oem } = &firms;
    // Before anything was granted.
    let file = firms.file("A", 2);
    assert!(lab.fails(5, &["publish", &file, "--feed", "lab", "--owner", "nobody"]).error().contains("partner book"));
    let said = lab.fails(3, &["publish", &file, "--feed", "lab", "--owner", "owner"]);
    assert!(said.error().contains("have not asked") && said.hint().contains("request-delegation"), "{}", said.out);
    let request = firms.request();
    let asked = std::fs::read(&request).unwrap();
    assert_eq!(std::fs::read_dir(lab.path("keys/delegated")).unwrap().count(), 2);
    firms.request();
    assert_eq!(std::fs::read_dir(lab.path("keys/delegated")).unwrap().count(), 2, "asking again makes no other keys");
    assert!(lab.fails(3, &["publish", &file, "--feed", "lab", "--owner", "owner"]).error().contains("has not delegated"));

    // Granted, with the owner's key alone.
    owner.fails(6, &["keys", "delegate", &request, "--until", FAR, "--yes", "--kit", "x", "--passphrase-file", "x"]);
    let granted = firms.delegate(FAR);
    let origin = string(&granted["origin"]);
    assert!(origin.ends_with("/lab/1") && !asked.is_empty(), "{granted}");
    let known = feed(owner, "lab");
    assert_eq!((known["own"].as_bool(), known["written"].as_bool()), (Some(true), Some(false)), "{known}");
    assert_eq!((known["delegation"]["with"].as_str(), known["delegation"]["until"].as_str()), (Some("lab"), Some(FAR)));
    let shown = Said::of(&mut lab.command(["status"])).out;
    assert!(shown.contains(&format!("owner's, written here until {FAR}")), "{shown}");

    // Written by the laboratory, whole at the owner, and on to the customer by the owner's rules.
    let published = firms.publish("A", 2);
    assert_eq!(published["published"][0]["origin"].as_str(), Some(origin.as_str()));
    assert_eq!(firms.publish("A", 2)["published"][1]["repeated"], true);
    wait("the owner to have it", || owner.count("A-0001") == 1);
    assert_eq!(owner.field("A-0000", "other_values"), "shown");
    assert_eq!(oem.records(), [], "no rule names the feed yet");
    owner.apply(RULES);
    wait("the customer to have it", || oem.count("A-0001") == 1);
    firms.publish("LIVE", 1);
    wait("what is published live to reach the customer", || oem.count("LIVE-0000") == 1);
    wait_until_level(owner, oem);
    assert_eq!(owner.heads(), oem.heads());
    let seen = oem.ok(&["show", "LIVE-0000"]);
    assert_eq!(seen["origin"].as_str(), Some(origin.as_str()), "a feed of the owner's");
    assert!(feed(oem, "lab")["whose"] == "owner");

    // Everybody signed for what came.
    wait("the owner's receipt", || lab.ledger("owner").iter().all(|row| row["outcome"] == "acknowledged" && row["receipt"].is_object()));
    wait("the customer's receipt", || owner.ledger("oem").iter().all(|row| row["outcome"] == "acknowledged"));
    assert!(owner.ledger("oem").iter().any(|row| row["origin"] == origin.as_str() && row["policy_version"] == 1));
    let ledger = Said::of(&mut lab.command(["ledger", "--to", "owner"])).out;
    assert!(ledger.contains("no rules: to its owner"), "{ledger}");

    // It is the owner's to forget, and who wrote it is told as well.
    let said = lab.fails(3, &["forget", "A-0000", "--everything", "--yes"]);
    assert!(said.error().contains("which you only write") && said.hint().contains("owner's to forget"), "{}", said.out);
    assert_eq!(lab.field("A-0000", "other_values"), "shown");
    let dry = owner.ok(&["forget", "A-0000", "--fields", "remarks", "--dry-run"]);
    assert_eq!(dry["recipients"], serde_json::json!([{ "name": "lab", "records": 1 }]), "{dry}");
    let dry = owner.ok(&["forget", "A-0000", "--fields", "lot", "--dry-run"]);
    assert_eq!(dry["recipients"].as_array().unwrap().len(), 2, "{dry}");

    // An auditor who trusts the owner.
    for (firm, name) in [(owner, "owner"), (oem, "oem")] {
        let bundle = text(&world.path(&format!("{name}.lotline")));
        let whom: &[&str] = if name == "owner" { &["--for", "oem"] } else { &[] };
        firm.ok(&[&["bundle", "--lot", "A-0000", "-o", &bundle], whom].concat());
        let said = world.verify(&bundle, &["--issuer", &owner.identity()]);
        assert_eq!((said.code, said.json["outcome"].as_str()), (0, Some("verified")), "{name}: {}", said.out);
        assert_eq!(world.verify(&bundle, &["--issuer", &lab.identity()]).code, 7, "the laboratory's key is nobody's word here");
    }

    let parts = world.path("parts");
    world.verify(&text(&world.path("oem.lotline")), &["--issuer", &owner.identity(), "--explode", &text(&parts)]);
    let keys: Value = serde_json::from_slice(&std::fs::read(parts.join("keys.json")).unwrap()).unwrap();
    let of_owner = keys["issuers"].as_array().unwrap().iter().find(|of| of["identity"] == owner.identity().as_str()).unwrap();
    let log = |name: &str| string(&of_owner["vkeys"][name]).rsplit('+').next().unwrap().to_owned();
    assert_ne!(log(&origin), log(&origin.replace("/lab/1", "/org/1")), "the feed's log key is the laboratory's");

    // The owner takes back, the laboratory corrects, and each only that.
    assert!(lab.fails(3, &["withdraw", "A-0000", "--reason", "wrong", "--yes"]).error().contains("owner"));
    owner.ok(&["withdraw", "A-0000", "--reason", "another lot's bag", "--yes"]);
    wait("the withdrawal", || oem.ok(&["show", "A-0000"])["withdrawn"] == "another lot's bag");
    let corrected = lots_file("A", "PIN", 2).replace("12.4", "12.5");
    let corrected = world.file("A2.csv", corrected);
    let said = lab.fails(1, &["publish", &corrected, "--feed", "lab", "--owner", "owner"]);
    assert!(said.error().contains("already published"), "{}", said.out);
    lab.publish(&corrected, &["--feed", "lab", "--owner", "owner", "--supersede"]);
    let superseded = |firm: &Firm| {
        let records = firm.ok(&["records", "--lot", "A-0001"])["records"].clone();
        records.as_array().unwrap().iter().filter(|row| row["superseded"] == true).count()
    };
    wait("the correction", || superseded(oem) == 1);
    assert_eq!(superseded(owner), 1);
    // The owner's own word about the same inspection would be a second one.
    let own = owner.fails(1, &["publish", &file, "--feed", "quality"]);
    assert!(own.error().contains("already published") && own.error().contains("`lab`"), "{}", own.out);
    assert!(owner.fails(3, &["publish", &firms.file("X", 1), "--feed", "lab"]).error().contains("writes it"));
    // What the laboratory says of the same lot in its own name is another matter.
    lab.publish(&file, &["--feed", "quality"]);
    assert_eq!(lab.ok(&["records", "--lot", "A-0000"])["records"].as_array().unwrap().len(), 3);
    for firm in [owner, lab, oem] {
        firm.is_clean();
    }
}

#[test]
fn a_laboratory_shows_its_customers_feed_to_nobody_else() {
    let firms = Firms::new();
    let Firms { world, owner, lab, .. } = &firms;
    let rival = world.firm("rival");
    rival.start();
    lab.pair("lab", &rival, "rival");
    firms.delegate(FAR);
    firms.publish("A", 1);
    // A feed of the same name of its own, shared with everything there is to share.
    lab.publish(&firms.file("OWN", 1), &["--feed", "lab"]);
    lab.apply(
        &RULES
            .replace("with = \"oem\"", "with = \"rival\"")
            .replace("show = [\"identity\", \"verdict\", \"measurements\"]", "show = \"everything\""),
    );
    wait("the rival to have what is the laboratory's", || rival.count("OWN-0000") == 1);
    wait("the owner to have what is its own", || owner.count("A-0000") == 1);
    assert_eq!((rival.count("A-0000"), rival.heads().len(), owner.count("OWN-0000")), (0, 1, 0));
    let offers = rival.partner("lab")["offers"].clone();
    assert!(offers.as_array().unwrap().iter().all(|of| string(&of["origin"]).contains(&lab.identity()[8..])), "{offers}");

    let out = text(&world.path("out.lotline"));
    for door in [&["--for", "rival"][..], &["--for", "owner"], &["--full", "rival", "--yes"], &[]] {
        let said = lab.fails(3, &[&["bundle", "--lot", "A-0000", "-o", &out], door].concat());
        assert!(said.error().contains("owner") && !world.path("out.lotline").exists(), "{}", said.out);
    }
    lab.ok(&["carry", "--to", "rival", "--feed", "lab", "--from", "0", "-o", &out]);
    let carried = std::fs::read(&out).unwrap();
    assert!(!carried.windows(6).any(|window| window == b"A-0000"));
    let preview = Said::of(&mut lab.command(["policy", "preview", "rival"])).out;
    assert!(preview.contains("OWN-0000") && !preview.contains("A-0000") && preview.contains("not yours to share"), "{preview}");
    let said = lab.fails(3, &["policy", "explain", "A-0000", "rival"]);
    assert!(said.error().contains("which you only write"), "{}", said.out);
    assert!(lab.ledger("rival").iter().all(|row| !string(&row["origin"]).contains(&owner.identity()[8..])));
}

#[test]
fn only_who_was_delegated_a_feed_brings_it() {
    let firms = Firms::new();
    let Firms { world, owner, lab, .. } = &firms;
    let rival = world.firm("rival");
    owner.ok(&["partner", "accept", &rival.invitation(), "--as", "rival"]);
    rival.ok(&["partner", "accept", &owner.invitation(), "--as", "owner"]);
    lab.ok(&["partner", "remove", "owner"]);
    lab.ok(&["partner", "accept", &owner.invitation(), "--as", "owner"]);
    firms.delegate(FAR);
    // By hand: nothing has gone over the network yet.
    owner.stop();
    firms.publish("A", 2);
    let file = text(&world.path("carried.lotline"));
    lab.ok(&["carry", "--to", "owner", "-o", &file]);
    // The same batches from somebody else, who is a partner too.
    let CarriedFile::Feed(carried) = CarriedFile::read(&std::fs::read(&file).unwrap()).unwrap() else { panic!("a carried feed") };
    let of_owner: Vec<_> = carried.batches.iter().filter(|(origin, _)| origin.party() == carried.to).cloned().collect();
    assert_eq!(of_owner.len(), 1);
    let from: PartyId = rival.identity().parse().unwrap();
    let stolen = CarriedFile::Feed(Carried { from, batches: of_owner.clone(), ..carried.clone() }).to_bytes();
    let stolen = world.file("stolen.lotline", stolen);
    let said = owner.fails(4, &["receive", &stolen]);
    assert!(said.error().contains("somebody else"), "{}", said.out);
    // Half of it hidden, from the right one: what is ours comes whole.
    let mut hidden = of_owner;
    let batch = &mut hidden[0].1;
    batch.items[1] = match &batch.items[1] {
        lotline_node::feeds::Item::View(view) => lotline_node::feeds::Item::Hidden(view.clone().trusted().unwrap().leaf()),
        lotline_node::feeds::Item::Hidden(_) => panic!("whole"),
    };
    let half = world.file("half.lotline", CarriedFile::Feed(Carried { batches: hidden, ..carried }).to_bytes());
    let said = owner.fails(4, &["receive", &half]);
    assert!(said.error().contains("without all its fields"), "{}", said.out);
    assert_eq!((owner.count("A-0000"), owner.frozen().len()), (0, 1));
    assert!(owner.fails(4, &["receive", &file]).error().contains("frozen"));
    owner.ok(&["thaw", "--from", "lab", "--feed", "lab", "--yes"]);
    let answer = text(&world.path("answer.lotline"));
    owner.ok(&["receive", &file, "-o", &answer]);
    assert_eq!((owner.count("A-0000"), owner.count("A-0001")), (1, 1));
    let said = lab.ok(&["receive", &answer]);
    assert_eq!(said["receipts"], 1, "{said}");
    owner.is_clean();
    owner.start();
    wait("the owner to go on over the network", || lab.partner("owner")["connected"] == true);
    firms.publish("B", 1);
    wait("the owner to have it", || owner.count("B-0000") == 1);
    owner.is_clean();
}

#[test]
fn a_second_word_about_one_inspection_stops_the_feed_before_a_customer_sees_it() {
    let firms = Firms::new();
    let Firms { owner, lab, oem, .. } = &firms;
    firms.delegate(FAR);
    let both = format!("{RULES}\n{}", RULES.replace("\"lab\"", "\"quality\""));
    // The owner measured the second lot itself.
    let second: String =
        lots_file("A", "PIN", 2).lines().filter(|line| !line.starts_with("A-0000")).map(|line| format!("{line}\n")).collect();
    let own = firms.world.file("own.csv", second);
    owner.publish(&own, &["--feed", "quality"]);
    owner.apply(&both);
    wait("the customer to have the owner's word", || oem.count("A-0001") == 1);
    firms.publish("B", 1);
    wait("the laboratory's first word at the customer", || oem.count("B-0000") == 1);
    firms.publish("A", 2);
    wait("the feed to be frozen", || owner.frozen().len() == 1);
    let frozen = owner.frozen().remove(0);
    assert!(frozen["name"] == "lab" && string(&frozen["frozen"]).contains("record 1 of feed `quality`"), "{frozen}");
    assert!(Said::of(&mut owner.command(["status"])).out.contains("FROZEN feed lab"));
    assert_eq!((oem.count("A-0000"), oem.count("A-0001"), oem.frozen().len()), (0, 1, 0));
    // Nor does anything of it leave in a file; what the owner said itself does.
    let bundle = |what: [&str; 2]| ["bundle", what[0], what[1], "--for", "oem", "-o"].map(str::to_owned).to_vec();
    let file = text(&firms.world.path("frozen.lotline"));
    for what in [["--feed", "lab"], ["--lot", "B-0000"]] {
        let said = owner.fails(3, &bundle(what).iter().map(String::as_str).chain([file.as_str()]).collect::<Vec<_>>());
        assert!(said.out.contains("frozen"), "{}", said.out);
    }
    let own = owner.ok(&bundle(["--lot", "A-0001"]).iter().map(String::as_str).chain([file.as_str()]).collect::<Vec<_>>());
    assert_eq!(own["records"], 1);
    // Its own goes, the laboratory's stands.
    owner.ok(&["withdraw", "A-0001", "--reason", "the laboratory's counts", "--yes"]);
    owner.ok(&["thaw", "--from", "lab", "--feed", "lab", "--yes"]);
    wait("the laboratory's word at the customer", || oem.count("A-0000") == 1);
    let thawed = owner.ok(&bundle(["--feed", "lab"]).iter().map(String::as_str).chain([file.as_str()]).collect::<Vec<_>>());
    assert_eq!(thawed["records"], 3);
    for firm in [owner, lab, oem] {
        firm.is_clean();
    }
}

#[test]
fn what_was_withdrawn_does_not_hide_what_was_stated_since() {
    let firms = Firms::new();
    firms.delegate(FAR);
    firms.owner.apply(RULES);
    // The owner's own word, withdrawn; then the laboratory's, which stands.
    let own = firms.file("A", 1);
    firms.owner.publish(&own, &["--feed", "own"]);
    firms.owner.ok(&["withdraw", "A-0000", "--reason", "measured on the wrong gauge", "--yes"]);
    firms.publish("A", 1);
    wait("the record to arrive", || feed(&firms.owner, "lab")["size"] == 2);
    // The owner's next word meets the one that stands, and not the one that is gone.
    let said = firms.owner.fails(1, &["publish", &own, "--feed", "own"]);
    assert!(said.error().contains("feed `lab`"), "{}", said.out);
}

#[test]
fn a_delegation_ends_by_its_day_and_by_the_owners_word() {
    let firms = Firms::new();
    let Firms { world, owner, lab, oem } = &firms;
    let today = lotline_node::service::day_text(now());
    let request = firms.request();
    owner.stop();
    let kit = firms.kit();
    let grant = |until: &str| -> Vec<String> {
        ["keys", "delegate", &request, "--until", until, "--yes"].into_iter().map(str::to_owned).chain(kit.clone()).collect()
    };
    let fails = |code, until: &str| owner.fails(code, &grant(until).iter().map(String::as_str).collect::<Vec<_>>());
    assert!(fails(2, "2020-01-01").error().contains("is over"));
    assert!(fails(2, "soon").error().contains("is no day"));
    owner.start();
    firms.delegate(&today);
    let status = Said::of(&mut lab.command(["status"])).out;
    assert!(status.contains(&format!("you may write feed lab of owner until {today}")), "{status}");
    assert!(Said::of(&mut owner.command(["status"])).out.contains("the delegation of feed lab to lab ends on"));
    owner.apply(RULES);
    firms.publish("A", 3);
    wait("the customer to have it", || oem.count("A-0002") == 1);

    // Tomorrow.
    lab.stop();
    let party: PartyId = owner.identity().parse().unwrap();
    let service = Service::open(Home::at(Some(lab.home())).unwrap(), &|_| {}).unwrap();
    let refused = service.handle.with_blocking(move |feeds| feeds.submit(vec![late(party)], now() + 86_400)).unwrap();
    assert!(matches!(refused, Err(FeedError::Delegate(DelegateError::Over { .. }))), "{refused:?}");
    service.close().unwrap();
    lab.start();

    // Taken back from the second record on.
    let said = firms.by_root(&["keys", "end-delegation", "lab", "--from", "2", "--yes"]);
    assert_eq!((said["from"].as_u64(), said["revoked"].as_u64()), (Some(2), Some(2)), "{said}");
    wait("the laboratory to learn of it", || lab.ok(&["status"])["delegated"][0]["ended"] == 2);
    let said = lab.fails(3, &["publish", &firms.file("B", 1), "--feed", "lab", "--owner", "owner"]);
    assert!(said.error().contains("ended"), "{}", said.out);
    wait("the customer to learn of it", || oem.ok(&["show", "A-0001"])["revoked"].is_string());
    assert!(oem.ok(&["show", "A-0000"])["revoked"].is_null());
    let bundle = text(&world.path("b.lotline"));
    oem.ok(&["bundle", "--lot", "A-0001", "-o", &bundle]);
    assert_eq!(world.verify(&bundle, &["--issuer", &owner.identity()]).code, 8);
    owner.stop();
    let again: Vec<String> = ["keys", "end-delegation", "lab", "--yes"].into_iter().map(str::to_owned).chain(kit.clone()).collect();
    owner.fails(5, &again.iter().map(String::as_str).collect::<Vec<_>>());
    owner.start();

    // Asked anew: other keys, the next life of the name.
    let granted = firms.delegate(FAR);
    assert!(string(&granted["origin"]).ends_with("/lab/2"), "{granted}");
    assert_eq!(std::fs::read_dir(lab.path("keys/delegated")).unwrap().count(), 4);
    firms.publish("B", 1);
    wait("the customer to have the next life", || oem.count("B-0000") == 1);
    for firm in [owner, lab, oem] {
        assert_eq!(firm.frozen(), Vec::<Value>::new());
        assert_eq!(firm.ok(&["audit"])["clean"], true);
    }
}

fn late(owner: PartyId) -> Submission {
    let values = (0..20).map(|slot| lotline_schema::codec::text(format!("value {slot}"))).collect();
    Submission { record: Record::benchmark(values), owner: Some(owner), feed: "lab".into(), on_conflict: OnConflict::Refuse }
}

#[test]
fn a_restored_laboratory_asks_anew() {
    let firms = Firms::new();
    let Firms { world, owner, lab, oem } = &firms;
    firms.delegate(FAR);
    owner.apply(RULES);
    firms.publish("OLD", 2);
    wait("the customer to have it", || oem.count("OLD-0001") == 1);
    let (backup, secret) = (text(&world.path("b.age")), world.passphrase());
    lab.ok(&["backup", "-o", &backup, "--passphrase-file", &secret, "--work-factor", "2"]);
    firms.publish("LOST", 2);
    wait("the customer to have it", || oem.count("LOST-0001") == 1);
    lab.stop();

    let restored = Firm::at(&world.path("restored"));
    restored.ok(&["restore", &backup, "--passphrase-file", &secret]);
    assert_eq!(std::fs::read_dir(restored.path("keys/delegated")).unwrap().count(), 2, "the keys are in the backup");
    let file = firms.file("NEW", 1);
    let said = restored.fails(1, &["publish", &file, "--feed", "lab", "--owner", "owner"]);
    assert!(said.error().contains("restored"), "{}", said.out);
    restored.ok(&["restore", "--confirm", "--yes"]);
    assert_eq!(std::fs::read_dir(restored.path("keys/delegated")).unwrap().count(), 0, "and never used again");
    let said = restored.fails(3, &["publish", &file, "--feed", "lab", "--owner", "owner"]);
    assert!(said.error().contains("have not asked"), "{}", said.out);
    restored.start();
    let request = text(&world.path("anew.lotline"));
    restored.ok(&["keys", "request-delegation", "--of", "owner", "--feed", "lab", "-o", &request]);
    let granted = firms.by_root(&["keys", "delegate", &request, "--until", FAR, "--yes"]);
    assert!(string(&granted["origin"]).ends_with("/lab/2"), "{granted}");
    wait("the restored laboratory to learn of it", || !restored.ok(&["status"])["delegated"].as_array().unwrap().is_empty());
    restored.publish(&file, &["--feed", "lab", "--owner", "owner"]);
    wait("the next life at the customer", || oem.count("NEW-0000") == 1);
    assert_eq!((oem.count("OLD-0001"), oem.count("LOST-0001")), (1, 1));
    for firm in [owner, oem, &restored] {
        firm.is_clean();
    }
}

#[test]
fn a_grant_is_for_us_of_a_partner_and_by_the_owners_key() {
    let firms = Firms::new();
    let Firms { world, owner, lab, oem } = &firms;
    let request = firms.request();
    let kit = firms.kit();
    let grant = |firm: &Firm, file: &str, kit: &[String], code| {
        let verb = ["keys", "delegate", file, "--until", FAR, "--yes"];
        firm.fails(code, &verb.into_iter().chain(kit.iter().map(String::as_str)).collect::<Vec<_>>())
    };
    owner.stop();
    oem.stop();
    assert!(grant(oem, &request, &kit, 3).error().contains("to somebody else"));
    let of_oem: Vec<String> = kit.iter().map(|part| part.replace("kit of owner", "kit of oem")).collect();
    assert!(grant(owner, &request, &of_oem, 1).error().contains("not the root key"));
    let mut altered = std::fs::read(&request).unwrap();
    let at = altered.len() - 70;
    altered[at] ^= 1;
    let altered = world.file("altered.lotline", altered);
    grant(owner, &altered, &kit, 4);
    grant(owner, &kit[1], &kit, 11);
    // Somebody else's, who learnt the owner's identity from an invitation.
    let stranger = world.firm("stranger");
    stranger.ok(&["partner", "accept", &owner.invitation(), "--as", "owner"]);
    let strange = text(&world.path("strange.lotline"));
    stranger.ok(&["keys", "request-delegation", "--of", "owner", "--feed", "lab", "-o", &strange]);
    let said = grant(owner, &strange, &kit, 3);
    assert!(said.error().contains("not in your partner book") && said.error().contains("stranger"), "{}", said.out);
    // A name of the owner's own.
    owner.publish(&firms.file("OWN", 1), &["--feed", "quality"]);
    let quality = text(&world.path("quality.lotline"));
    lab.ok(&["keys", "request-delegation", "--of", "owner", "--feed", "quality", "-o", &quality]);
    assert!(grant(owner, &quality, &kit, 3).error().contains("write a feed `quality` yourself"));
    for name in ["org", "policy", "Lab", ""] {
        lab.fails(2, &["keys", "request-delegation", "--of", "owner", "--feed", name, "-o", &quality]);
    }
    assert_eq!(owner.ok(&["keys", "show"])["changes"], serde_json::json!([]));
    // Granted twice is granted once.
    let words = |verb: &[&str]| owner.ok(&verb.iter().copied().chain(kit.iter().map(String::as_str)).collect::<Vec<_>>());
    assert!(words(&["keys", "delegate", &request, "--until", FAR, "--yes"])["entry"].is_u64());
    assert!(words(&["keys", "delegate", &request, "--until", FAR, "--yes"])["entry"].is_null());
    assert_eq!(owner.ok(&["keys", "show"])["changes"].as_array().unwrap().len(), 1);
    // Secrets are the home's alone, and were never said.
    #[cfg(unix)]
    for file in std::fs::read_dir(lab.path("keys/delegated")).unwrap() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = file.unwrap().path();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let secret = std::fs::read_to_string(&path).unwrap();
        let sent = std::fs::read(&request).unwrap();
        let bytes = lotline_schema::id::unhex(secret.trim()).unwrap();
        assert!(!sent.windows(32).any(|window| window == bytes) && !lab.log().contains(secret.trim()));
    }
}
