//! The command line as its users meet it: what verbs answer, with which exit code, and what is left when they refuse.
#![allow(clippy::unwrap_used, reason = "tests, also outside the test functions")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use lotline_integration::world::{Firm, Said, World, lots_file, string, text, wait, wait_until_level};
use lotline_node::keys::{Keys, random};
use lotline_schema::bundle::{Bundle, OrgPart};
use lotline_schema::note::Checkpoint;
use lotline_schema::org::{self, Entry, Org};
use lotline_schema::{Origin, PartyId, codec, tree};
use serde_json::{Value, json};

const RULES: &str = r#"
[[share]]
name = "oem-sees-verdicts"
with = "oem"
feed = "quality"
parts = "all"
show = ["identity", "verdict", "capability"]
until = "revoked"
"#;

/// A word that no partner is ever shown.
const SECRET: &str = "SECRET-LATHE-7";

fn fixture(name: &str) -> String {
    text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name))
}

fn publish_plate(firm: &Firm, lot: &str, more: &[&str]) -> Value {
    let flags = ["--lot", lot, "--part", "PLATE", "--feed", "quality", "--machine", SECRET, "--special", "Flatness Datum A"];
    firm.publish(&fixture("plate_fair_long.csv"), &[&flags, more].concat())
}

fn publish_lots(world: &World, firm: &Firm, prefix: &str, lots: usize) -> Value {
    let file = world.file(&format!("{prefix}.csv"), lots_file(prefix, "PIN", lots));
    firm.publish(&file, &["--feed", "quality"])
}

/// A supplier and a customer that follows it, both running, one plate lot shared.
fn two_firms(world: &World) -> (Firm, Firm) {
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem"));
    supplier.start();
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    publish_plate(&supplier, "PLATE-1", &[]);
    supplier.apply(RULES);
    wait_until_level(&supplier, &oem);
    (supplier, oem)
}

/// Names of the fields of a record that are not hidden.
fn shown(fields: &Value) -> BTreeSet<String> {
    let fields = fields.as_object().unwrap();
    fields.iter().filter(|(_, field)| field["state"] != "hidden").map(|(name, _)| name.clone()).collect()
}

/// Everything below a folder, by name, with content; what a refused command must leave as it was.
fn tree_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree_of(&path));
        }
        let content = std::fs::read(&path).unwrap_or_default();
        found.insert(path, content);
    }
    found
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

// ---- answers

/// Every verb on a home, once each; the second test below checks that none is missing here.
const ASKING: &[&[&str]] = &[
    &["status"],
    &["terms"],
    &["partner", "list"],
    &["policy", "check"],
    &["policy", "diff"],
    &["policy", "test"],
    &["policy", "show"],
    &["policy", "show", "--version", "1"],
    &["policy", "log"],
    &["policy", "matrix"],
    &["policy", "prove", "nobody sees measurements"],
    &["policy", "export", "--format", "cedar"],
    &["policy", "explain", "PLATE-1", "oem"],
    &["policy", "preview", "oem"],
    &["feeds"],
    &["records"],
    &["records", "--part", "PLATE"],
    &["show", "PLATE-1"],
    &["audit"],
    &["ledger"],
    &["keys", "show"],
    &["partner", "invite", "--offline"],
    &["partner", "trust-file"],
    &["members", "list"],
    &["share", "list"],
    &["request", "status"],
    &["forget", "PLATE-1", "--everything", "--dry-run"],
];

#[test]
fn every_verb_answers_the_same_beside_a_running_node_and_without_one() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    publish_lots(&world, &supplier, "PIN", 3);
    wait_until_level(&supplier, &oem);
    wait("everything to be acknowledged", || supplier.ledger("oem").iter().all(|row| row["outcome"] == "acknowledged"));
    oem.stop();
    wait("the customer to be gone", || supplier.partner("oem")["connected"] == false);
    let beside: Vec<Value> = ASKING.iter().map(|verb| supplier.ok(verb)).collect();
    assert_eq!(beside[0]["running"], true);
    supplier.stop();
    let alone: Vec<Value> = ASKING.iter().map(|verb| supplier.ok(verb)).collect();
    assert_eq!(alone[0]["running"], false);
    for ((verb, mut beside), mut alone) in ASKING.iter().zip(beside).zip(alone) {
        // What is about the running process itself.
        for answer in [&mut beside, &mut alone] {
            for key in ["running", "memory_bytes", "listening", "relays", "relaying", "store", "clock"] {
                answer.as_object_mut().unwrap().remove(key);
            }
            for partner in answer.get_mut("partners").and_then(Value::as_array_mut).into_iter().flatten() {
                for key in [
                    "connected",
                    "trouble",
                    "offers",
                    "caught_up",
                    "follows",
                    "credit_bytes",
                    "dials_failed",
                    "connections",
                    "path",
                    "lags",
                ] {
                    partner.as_object_mut().unwrap().remove(key);
                }
            }
        }
        assert_eq!(beside, alone, "lotline {}", verb.join(" "));
    }
    // And the verbs that change something.
    let file = world.file("more.csv", lots_file("MORE", "PIN", 1));
    let alone = supplier.publish(&file, &["--feed", "quality"]);
    supplier.start();
    let beside = supplier.publish(&file, &["--feed", "quality"]);
    assert_eq!((beside["published"][0]["seq"].as_u64(), beside["published"][0]["repeated"].as_bool()), (Some(5), Some(true)));
    assert_eq!(beside["published"][0]["leaf"], alone["published"][0]["leaf"]);
    let dry = supplier.publish(&world.file("dry.csv", lots_file("DRY", "PIN", 2)), &["--feed", "quality", "--dry-run"]);
    assert_eq!((dry["dry_run"].as_bool(), dry["lots"].as_u64(), supplier.count("DRY-0000")), (Some(true), Some(2), 0));
    // Paths are those of whoever types, not of the node.
    let here = world.path("here");
    std::fs::create_dir(&here).unwrap();
    std::fs::write(here.join("relative.csv"), lots_file("REL", "PIN", 1)).unwrap();
    let said = Said::of(supplier.command(["publish", "relative.csv", "--feed", "quality", "--json"]).current_dir(&here));
    assert_eq!(said.code, 0, "{} {}", said.out, said.err);
    let said =
        Said::of(supplier.command(["bundle", "--lot", "REL-0000", "--for", "oem", "-o", "relative.lotline", "--json"]).current_dir(&here));
    assert_eq!(said.code, 0, "{} {}", said.out, said.err);
    assert!(here.join("relative.lotline").exists());
}

#[test]
fn every_verb_speaks_json_with_its_version() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    let bundle = text(&world.path("b.lotline"));
    let (backup, secret) = (text(&world.path("b.age")), world.passphrase());
    let lots = world.file("pin.csv", lots_file("PIN", "PIN", 1));
    let line = oem.invitation();
    let changing: &[&[&str]] = &[
        &["publish", &lots, "--feed", "quality"],
        &["partner", "accept", &line, "--as", "oem"],
        &["partner", "vouch", "oem", "--legal-name", "OEM AG", "--how", "by phone"],
        &["policy", "apply", "--yes"],
        &["share", "stop", "oem"],
        &["share", "resume", "--yes"],
        &["share", "resume", "--clock", "--yes"],
        &["share", "with", "oem", "non-conforming", "--feed", "quality", "--parts", "all", "--until", "revoked", "--yes"],
        &["share", "end", "oem-non-conforming", "--yes"],
        &["subscribe", "oem"],
        &["subscribe", "oem", "--off"],
        &["bundle", "--lot", "PLATE-1", "--for", "oem", "-o", &bundle],
        &["backup", "-o", &backup, "--passphrase-file", &secret, "--work-factor", "2"],
        &["partner", "remove", "oem"],
        &["completions", "bash"],
    ];
    for verb in ASKING.iter().chain(changing) {
        // `ok` checks the version.
        supplier.ok(verb);
        // For people: words, and not JSON.
        let said = Said::of(&mut supplier.command(verb.iter().filter(|word| !word.contains("b.age"))));
        assert!(said.json.is_null() || said.out.trim().is_empty(), "lotline {}: {}", verb.join(" "), said.out);
    }
    let restored = Firm::at(&world.path("restored"));
    let answer = restored.ok(&["restore", &backup, "--passphrase-file", &secret]);
    assert_eq!(answer["schema_version"], 1);
    let verified = world.verify(&bundle, &["--issuer", &supplier.identity()]);
    assert_eq!((verified.json["schema_version"].as_u64(), verified.json["ok"].as_bool()), (Some(1), Some(true)));
    // A failure as well.
    let failed = supplier.fails(5, &["show", "no such lot"]);
    assert_eq!((failed.json["schema_version"].as_u64(), failed.json["exit"].as_u64()), (Some(1), Some(5)), "{}", failed.out);

    // Verbs that need the recovery kit, and a home without a node: `keys.rs`, `delegate.rs`. Files between firms: `evidence.rs`.
    let with_the_kit = [
        "keys witness",
        "keys rotate",
        "keys revoke",
        "keys successor",
        "keys inherit",
        "keys words",
        "keys signer",
        "keys attest",
        "keys request-delegation",
        "keys delegate",
        "keys end-delegation",
        "members sign",
        "members add",
        "members remove",
        // `share.rs`
        "request sign",
        "request answer",
        "request take",
        // `terms.rs`
        "terms withdraw",
        // `pairing.rs`
        "partner pairings",
        "partner confirm",
        "partner decline",
    ];
    let elsewhere = [
        "init",
        "run",
        // Dials: tests/doctor.rs.
        "doctor net",
        "verify",
        "release",
        "carry",
        "receive",
        "fork-proof",
        "withdraw",
        "thaw",
        "backup",
        "restore",
        "demo",
        "bench",
        "completions",
        "help",
    ];
    let tried: BTreeSet<String> =
        ASKING.iter().chain(changing).flat_map(|verb| [verb[0].to_owned(), verb[..2.min(verb.len())].join(" ")]).collect();
    for verb in lotline_node::cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = verb.get_name();
        let inner: Vec<_> = verb.get_subcommands().filter(|inner| inner.get_name() != "help").collect();
        if inner.is_empty() {
            assert!(tried.contains(name) || elsewhere.contains(&name), "`lotline {name}` is tried by no test here");
        }
        for inner in inner {
            let name = format!("{name} {}", inner.get_name());
            assert!(
                tried.contains(&name) || with_the_kit.contains(&&*name) || elsewhere.contains(&&*name),
                "`lotline {name}` is tried by no test here"
            );
        }
    }
}

#[test]
fn the_demo_runs_and_tells_the_truth_of_its_data() {
    let world = World::new();
    let keep = text(&world.path("kept"));
    let said = Said::of(Command::new(lotline_integration::world::program()).args(["demo", "--json", "--keep", &keep]));
    assert_eq!(said.code, 0, "{} {}", said.out, said.err);
    assert_eq!((said.json["schema_version"].as_u64(), said.json["plate"]["nonconforming"].as_u64()), (Some(1), Some(19)));
    assert_eq!(said.json["cover"]["nonconforming"], 1);
    assert_eq!(said.json["competitor"], json!({ "feeds": 0, "records": 0, "traces": 0, "control": said.json["competitor"]["control"] }));
    assert_eq!(said.json["auditor"], json!({ "verified": "verified", "without_trust": "signer-not-established", "tampered": "altered" }));
    for who in ["supplier", "oem-a", "oem-b", "competitor"] {
        Firm::at(&Path::new(&keep).join(who)).is_clean();
    }
    let again = Said::of(Command::new(lotline_integration::world::program()).args(["demo", "--json", "--keep", &keep]));
    assert_eq!(again.code, 2, "{}", again.out);
}

#[test]
fn a_wrong_command_line_and_a_missing_home_say_so() {
    let world = World::new();
    let nobody = Firm::at(&world.path("nobody"));
    for verb in ASKING {
        let said = nobody.fails(5, verb);
        assert!(said.error().contains("there is no Lotline home") && said.hint().contains("lotline init"), "{}", said.out);
    }
    nobody.fails(5, &["run"]);
    assert!(!nobody.home().exists(), "asking makes no home");
    let firm = world.firm("firm");
    for wrong in [
        &["frobnicate"][..],
        &["publish"],
        &["publish", "x.csv"],
        &["publish", "x.csv", "--to", "a", "--feed", "b"],
        &["status", "--frob"],
        &["share"],
    ] {
        firm.fails(2, wrong);
    }
    firm.fails(2, &["publish", &fixture("plate_fair_long.csv"), "--lot", "L", "--part", "P", "--feed", "quality", "--role", "king"]);
    firm.fails(5, &["publish", &fixture("plate_fair_long.csv"), "--lot", "L", "--part", "P", "--to", "stranger"]);
    firm.fails(2, &["partner", "accept", "this is no invitation"]);
    let own = firm.invitation();
    let said = firm.fails(1, &["partner", "accept", &own]);
    assert!(said.error().contains("your own invitation"), "{}", said.out);
    firm.fails(5, &["partner", "remove", "stranger"]);
    firm.fails(5, &["share", "stop", "stranger"]);
    firm.fails(5, &["subscribe", "stranger"]);
    firm.fails(5, &["policy", "preview", "stranger"]);
    assert_eq!(firm.records(), []);
}

#[test]
fn a_file_that_is_no_measuring_file_changes_nothing() {
    let world = World::new();
    let firm = world.firm("firm");
    publish_plate(&firm, "PLATE-1", &[]);
    let before = (firm.records(), firm.heads());
    let head = "serial,characteristic,lsl,usl,unit,value\n";
    let flags = ["--lot", "L", "--part", "P", "--feed", "other"];
    for (name, content, word) in [
        ("empty.csv", Vec::new(), "empty"),
        ("no-number.csv", format!("{head}1,D,1,2,mm,many\n").into_bytes(), "row 2"),
        ("swapped.csv", format!("{head}1,D,2,1,mm,1.5\n").into_bytes(), "limit"),
        ("unit.csv", format!("{head}1,D,1,2,furlong,1.5\n").into_bytes(), "unit"),
        ("twice.csv", format!("{head}1,D,1,2,mm,1.5\n2,D,1,2,mm,1.5\n1,D,1,2,mm,1.6\n").into_bytes(), "serial"),
        ("no-value.csv", b"serial,characteristic,lsl\n1,D,1\n".to_vec(), "column"),
        ("binary.csv", vec![0, 159, 146, 150, 0, 1, 2, 3], ""),
        ("cut.csv", format!("{head}1,D,1,2,mm,1.5\n1,E,1,2,\"m").into_bytes(), ""),
    ] {
        let file = world.file(name, content);
        let said = firm.fails(1, &[&["publish", &file][..], &flags].concat());
        assert!(said.error().contains(word) && said.error().contains(name), "{name}: {}", said.out);
    }
    let contradicts = world.file("lots.csv", lots_file("X", "PIN", 1));
    let said = firm.fails(1, &[&["publish", &contradicts][..], &flags].concat());
    assert!(said.error().contains("X-0000") || said.error().contains("lot"), "{}", said.out);
    firm.fails(1, &[&["publish", &text(&world.path("nowhere.csv"))][..], &flags].concat());
    assert_eq!((firm.records(), firm.heads()), before, "not even a feed was opened");
    firm.is_clean();
}

// ---- homes

#[test]
fn init_takes_no_home_and_no_kit_away_and_asks_where_nobody_can_answer() {
    let world = World::new();
    let firm = world.firm("firm");
    let (kit, secret) = (text(&world.path("kit of firm.txt")), world.passphrase());
    let before = (tree_of(firm.home()), std::fs::read(&kit).unwrap());
    let said = firm.fails(1, &["init", "--name", "Other", "--kit", &text(&world.path("new kit.txt")), "--passphrase-file", &secret]);
    assert!(said.error().contains("already"), "{}", said.out);
    let other = Firm::at(&world.path("other"));
    let said = other.fails(1, &["init", "--name", "Other", "--kit", &kit, "--passphrase-file", &secret]);
    assert!(said.error().contains("never overwritten") && said.hint().contains("--kit"), "{}", said.out);
    assert_eq!((tree_of(firm.home()), std::fs::read(&kit).unwrap()), before);

    let new = text(&world.path("new kit.txt"));
    let short = world.file("short.txt", "1234567\n");
    for (missing, args) in [
        ("--name", &["init", "--kit", &new, "--passphrase-file", &secret][..]),
        ("--kit", &["init", "--name", "Other", "--passphrase-file", &secret]),
        ("--passphrase-file", &["init", "--name", "Other", "--kit", &new]),
        ("fewer than 8", &["init", "--name", "Other", "--kit", &new, "--passphrase-file", &short]),
        ("host:port", &["init", "--name", "Other", "--kit", &new, "--passphrase-file", &secret, "--listen", "nonsense"]),
    ] {
        let said = other.fails(2, args);
        assert!(said.error().contains(missing) || said.hint().contains(missing), "{missing}: {}", said.out);
    }
    let nowhere = text(&world.path("no/such/folder/kit.txt"));
    let said = other.fails(1, &["init", "--name", "Other", "--kit", &nowhere, "--passphrase-file", &secret, "--kit-work-factor", "2"]);
    assert!(said.hint().contains("--kit"), "{}", said.out);
    other.fails(5, &["status"]);
    assert!(!Path::new(&new).exists());
    // What was left half made does not stand in the way.
    other.ok(&["init", "--name", "Other", "--kit", &new, "--passphrase-file", &secret, "--kit-work-factor", "2"]);
    other.is_clean();
}

#[cfg(unix)]
#[test]
fn secrets_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let firm = world.firm("firm");
    firm.start();
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(firm.home().into()), mode(firm.path("keys"))), (0o700, 0o700));
    for file in ["keys/record.key", "keys/log.key", "keys/transport.key", "run.json", "api-token"] {
        assert_eq!(mode(firm.path(file)), 0o600, "{file}");
    }
    assert_eq!(mode(world.path("kit of firm.txt")), 0o600);
    firm.stop();

    for key in ["record", "log", "transport"] {
        let key = firm.path(&format!("keys/{key}.key"));
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
        for verb in [&["status"][..], &["run", "--until-stdin-ends"]] {
            let said = firm.fails(1, verb);
            assert!(said.error().contains("others can read") && said.error().contains("chmod 600"), "{}", said.out);
        }
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    firm.ok(&["status"]);
}

#[test]
fn two_nodes_do_not_run_on_one_home() {
    let world = World::new();
    let firm = world.firm("firm");
    firm.start();
    let said = firm.fails(6, &["run", "--until-stdin-ends"]);
    assert!(said.error().contains("another lotline is using this home") && said.hint().contains("only one node"), "{}", said.out);
    // The first one is none the worse for it, and its run file is still there.
    assert_eq!(firm.ok(&["status"])["running"], true);
    firm.fails(6, &["restore", "--confirm", "--yes"]);
    assert_eq!(firm.ok(&["status"])["running"], true);
    firm.stop();

    // A home that somebody holds without answering.
    let home = lotline_node::config::Home::at(Some(firm.home())).unwrap();
    let service = lotline_node::service::Service::open(home, &|_| ()).unwrap();
    let said = firm.fails(6, &["records"]);
    assert!(said.error().contains("another lotline is using"), "{}", said.out);
    service.close().unwrap();
    firm.ok(&["records"]);
}

#[test]
fn published_keys_and_key_logs_stay_off_the_network() {
    let world = World::new();
    let example = |name: &str, listen: &str| {
        let firm = Firm::at(&world.path(name));
        let kit = text(&world.path(&format!("{name} kit.txt")));
        firm.ok(&[
            "init",
            "--example",
            "supplier",
            "--name",
            name,
            "--listen",
            listen,
            "--kit",
            &kit,
            "--passphrase-file",
            &world.passphrase(),
            "--kit-work-factor",
            "2",
        ]);
        firm
    };
    let open = example("open", "0.0.0.0:0");
    let said = open.fails(1, &["run", "--until-stdin-ends"]);
    assert!(said.error().contains("published example keys") && said.error().contains("0.0.0.0"), "{}", said.out);
    let local = example("local", "127.0.0.1:0");
    local.fails(1, &["run", "--until-stdin-ends", "--listen", "0.0.0.0:0"]);
    local.start();
    local.stop();
    // Nor dialling out.
    let far = Firm::at(&world.path("far"));
    let kit = text(&world.path("far kit.txt"));
    far.ok(&[
        "init",
        "--name",
        "far",
        "--listen",
        "127.0.0.1:0",
        "--announce",
        "192.0.2.7:4001",
        "--kit",
        &kit,
        "--passphrase-file",
        &world.passphrase(),
        "--kit-work-factor",
        "2",
    ]);
    local.start();
    let accepted = local.call(&["partner", "accept", &far.invitation(), "--as", "far"]);
    assert_eq!(accepted.code, 1, "a running node with example keys took a partner far away: {}", accepted.out);
    assert!(accepted.error().contains("published example keys"), "{}", accepted.out);
    local.stop();
    assert_eq!(local.ok(&["partner", "list"])["partners"], json!([]));

    let firm = world.firm("firm");
    let log = world.path("keys.log");
    let said = Said::of(firm.command(["run", "--until-stdin-ends", "--json"]).env("SSLKEYLOGFILE", &log));
    assert_eq!(said.code, 1, "{} {}", said.out, said.err);
    assert!(said.error().contains("SSLKEYLOGFILE") && said.hint().contains("unset"), "{}", said.out);
    assert!(!log.exists() && !firm.path("run.json").exists());
    firm.start();
    firm.stop();
}

#[test]
fn a_configuration_that_is_not_understood_is_refused() {
    let world = World::new();
    let firm = world.firm("firm");
    let good = std::fs::read_to_string(firm.path("lotline.toml")).unwrap();
    for (bad, word) in [
        (format!("{good}\nfrobnicate = true\n"), "frobnicate"),
        (good.replace("127.0.0.1:0", "0.0.0.0:8080"), "loopback"),
        ("name = ".to_owned(), "lotline.toml"),
    ] {
        std::fs::write(firm.path("lotline.toml"), bad).unwrap();
        for verb in [&["status"][..], &["run", "--until-stdin-ends"]] {
            let said = firm.fails(1, verb);
            assert!(said.error().contains(word), "{word}: {}", said.out);
        }
    }
    std::fs::write(firm.path("lotline.toml"), good).unwrap();
    firm.ok(&["status"]);
}

// ---- store

#[test]
fn an_index_that_is_gone_broken_or_anothers_is_made_again() {
    let world = World::new();
    let (firm, other) = (world.firm("firm"), world.firm("other"));
    publish_lots(&world, &firm, "A", 50);
    publish_lots(&world, &other, "B", 20);
    let (records, heads) = (firm.records(), firm.heads());
    let index = firm.path("store/index");
    let broken = |break_it: &dyn Fn(&Path)| {
        break_it(&index);
        let said = Said::of(&mut firm.command(["records", "--last", "1000", "--json"]));
        assert_eq!((said.code, said.json["records"].as_array().unwrap().len()), (0, 50), "{} {}", said.out, said.err);
        assert!(said.err.contains("nothing is lost"), "{}", said.err);
        assert_eq!((firm.records(), firm.heads()), (records.clone(), heads.clone()));
        firm.is_clean();
    };
    broken(&|index| std::fs::remove_dir_all(index).unwrap());
    broken(&|index| {
        for path in tree_of(index).keys().filter(|path| path.is_file()) {
            std::fs::write(path, vec![0xa5; 4096]).unwrap();
        }
    });
    broken(&|index| {
        for path in tree_of(index).keys().filter(|path| path.is_file()) {
            std::fs::File::options().write(true).open(path).unwrap().set_len(100).unwrap();
        }
    });
    broken(&|index| {
        std::fs::remove_dir_all(index).unwrap();
        copy_folder(&other.path("store/index"), index);
    });
    // Under a node, and publishing goes on.
    std::fs::remove_dir_all(&index).unwrap();
    firm.start();
    assert_eq!(firm.records(), records);
    publish_lots(&world, &firm, "C", 1);
    assert_eq!(firm.records().len(), 51);
    firm.is_clean();
}

#[test]
fn a_store_of_a_newer_program_is_left_alone() {
    let world = World::new();
    let firm = world.firm("firm");
    publish_lots(&world, &firm, "A", 1);
    let manifest = firm.path("store/journal/manifest");
    let good = std::fs::read_to_string(&manifest).unwrap();
    let (listed, _) = good.rsplit_once("crc32c ").unwrap();
    let newer = listed.replace("format 1", "format 3");
    std::fs::write(&manifest, format!("{newer}crc32c {:08x}\n", crc32c(newer.as_bytes()))).unwrap();
    let journal = tree_of(&firm.path("store/journal"));
    for verb in [
        &["status"][..],
        &["run", "--until-stdin-ends"],
        &["publish", &fixture("plate_fair_long.csv"), "--lot", "L", "--part", "P", "--feed", "quality"],
    ] {
        let said = firm.fails(1, verb);
        assert!(said.error().contains("newer Lotline") && said.error().contains("update"), "{}", said.out);
    }
    assert_eq!(tree_of(&firm.path("store/journal")), journal);
    std::fs::write(&manifest, good).unwrap();
    assert_eq!(firm.records().len(), 1);
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// A small file system of its own; needs root.
#[cfg(target_os = "linux")]
struct SmallDisk(PathBuf);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn mount(at: PathBuf, megabytes: u32) -> Result<SmallDisk, String> {
        std::fs::create_dir_all(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=700"), "lotline-test"]).arg(&at);
        let output = mount.output().map_err(|why| why.to_string())?;
        if output.status.success() { Ok(SmallDisk(at)) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    use std::io::Write as _;
    const LOTS: usize = 60;
    let world = World::new();
    let disk = match SmallDisk::mount(world.path("disk"), 160) {
        Ok(disk) => disk,
        Err(why) => return eprintln!("SKIPPED: a full disk was not tested, since a small one could not be mounted: {why}"),
    };
    let firm = Firm::at(&disk.0.join("firm"));
    let kit = text(&world.path("kit.txt"));
    firm.ok(&["init", "--name", "firm", "--kit", &kit, "--passphrase-file", &world.passphrase(), "--kit-work-factor", "2"]);
    firm.start();
    let mut acknowledged = Vec::new();
    let mut publish = |name: &str| {
        let file = world.file(&format!("{name}.csv"), lots_file(name, "PIN", LOTS));
        let said = firm.call(&["publish", &file, "--feed", "quality"]);
        if said.code != 0 {
            return Some((said, file));
        }
        acknowledged
            .extend(said.json["published"].as_array().unwrap().iter().map(|one| (one["seq"].as_u64().unwrap(), string(&one["leaf"]))));
        None
    };
    assert!(publish("BEFORE").is_none());
    let ballast = disk.0.join("ballast");
    {
        // Closed again: a deleted file keeps its blocks for as long as somebody has it open.
        let mut file = std::fs::File::create(&ballast).unwrap();
        while file.write_all(&[0; 65536]).is_ok() {}
        while file.write_all(&[0; 512]).is_ok() {}
    }
    // The journal's own segment was reserved and goes on taking records; the index was not.
    let (said, file) = (0..200).find_map(|round| publish(&format!("R{round}"))).expect("the disk is full at last");
    eprintln!("{} records acknowledged until the full disk said: {}", acknowledged.len(), said.error());
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.error().contains("disk is full") || said.hint().contains("make room on the disk"), "{}", said.out);
    // The node still answers, and says what to do.
    let status = firm.ok(&["status"]);
    assert!(status["running"] == true && status["alarms"].to_string().contains("is the disk full?"), "{status}");
    firm.ok(&["partner", "list"]);

    // Room again and a new start: everything acknowledged is there, and the refused file goes in.
    std::fs::remove_file(&ballast).unwrap();
    firm.kill();
    let records = firm.records();
    for (seq, leaf) in &acknowledged {
        let there = &records[*seq as usize - 1];
        assert_eq!((there.1, &there.2), (*seq, leaf));
    }
    firm.is_clean();
    firm.start();
    firm.publish(&file, &["--feed", "quality"]);
    let records = firm.records();
    assert!(records.len() >= acknowledged.len() + LOTS && records.last().unwrap().1 == records.len() as u64, "no gaps");
    firm.is_clean();
    firm.stop();
}

// ---- backup and restore

#[test]
fn a_restored_node_keeps_still_until_it_is_confirmed_and_goes_on_in_a_new_life() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    let secret = world.passphrase();
    let backup = text(&world.path("backup.age"));
    supplier.ok(&["backup", "-o", &backup, "--passphrase-file", &secret, "--work-factor", "2"]);
    supplier.fails(1, &["backup", "-o", &backup, "--passphrase-file", &secret, "--work-factor", "2"]);
    // After the backup: the customer has it, the restored node will not.
    publish_lots(&world, &supplier, "LOST", 1);
    wait_until_level(&supplier, &oem);
    let old = oem.records();
    let identity = supplier.identity();
    supplier.kill();

    let restored = Firm::at(&world.path("restored"));
    let answer = restored.ok(&["restore", &backup, "--passphrase-file", &secret]);
    assert_eq!((answer["restored"].as_bool(), answer["name"].as_str()), (Some(true), Some("supplier")));
    assert_eq!(restored.records(), old[..1]);
    let alarms = restored.ok(&["status"])["alarms"].to_string();
    assert!(alarms.contains("RESTORED") && alarms.contains("lotline restore --confirm"), "{alarms}");
    let new = world.file("new.csv", lots_file("NEW", "PIN", 1));
    let publish = ["publish", &new, "--feed", "quality"];
    let check_still = || {
        let said = restored.fails(1, &publish);
        assert!(said.error().contains("was restored") && said.hint().contains("lotline restore --confirm"), "{}", said.out);
        let said = restored.fails(1, &["policy", "apply", "--yes"]);
        assert!(said.error().contains("was restored"), "{}", said.out);
        let out = text(&world.path("leak.lotline"));
        let said = restored.fails(1, &["bundle", "--lot", "PLATE-1", "--for", "oem", "-o", &out]);
        assert!(said.error().contains("was restored") && !Path::new(&out).exists(), "{}", said.out);
    };
    check_still();
    let rows = restored.ledger("oem").len();
    restored.start();
    check_still();
    wait("both to be connected", || restored.partner("oem")["connected"] == true && oem.partner("supplier")["connected"] == true);
    wait("nothing to be offered", || oem.partner("supplier")["offers"] == json!([]));
    restored.stop();
    assert_eq!(restored.ledger("oem").len(), rows, "nothing was sent");

    let said = restored.fails(1, &["restore", "--confirm"]);
    assert!(said.error().contains("not confirmed"), "{}", said.out);
    restored.fails(1, &publish);
    let confirmed = restored.ok(&["restore", "--confirm", "--yes"]);
    let feeds = confirmed["feeds"].as_array().unwrap();
    assert!(confirmed["confirmed"] == true && feeds.len() == 1 && string(&feeds[0]).ends_with("/quality/2"), "{confirmed}");
    assert_eq!(restored.ok(&["restore", "--confirm", "--yes"])["confirmed"], false, "once is enough");

    restored.ok(&publish);
    // The old lot is known, whichever life it stands in.
    assert_eq!(publish_plate(&restored, "PLATE-1", &[])["published"][0]["repeated"], true);
    restored.start();
    wait("the new life to arrive", || oem.count("NEW-0000") == 1);
    assert_eq!(oem.records()[..2], old[..], "the old life stays");
    assert!(oem.records()[2].0.ends_with("/quality/2") && oem.records()[2].1 == 1);
    assert_eq!(oem.frozen(), Vec::<Value>::new(), "nobody is incriminated");
    let bundle = text(&world.path("new.lotline"));
    oem.ok(&["bundle", "--lot", "NEW-0000", "-o", &bundle]);
    assert_eq!(world.verify(&bundle, &["--issuer", &identity]).code, 0);
    let bundle = text(&world.path("old.lotline"));
    oem.ok(&["bundle", "--lot", "LOST-0000", "-o", &bundle]);
    assert_eq!(world.verify(&bundle, &["--issuer", &identity]).code, 0);
    restored.is_clean();
    oem.is_clean();
    supplier.is_clean();
}

#[test]
fn a_restored_node_whose_keys_stated_more_since_the_backup_incriminates_nobody() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    let (secret, backup) = (world.passphrase(), text(&world.path("backup.age")));
    supplier.ok(&["backup", "-o", &backup, "--passphrase-file", &secret, "--work-factor", "2"]);
    // A new feed after the backup: the org feed has an entry that the restored node does not know.
    let lots = world.file("x.csv", lots_file("X", "PIN", 1));
    supplier.publish(&lots, &["--feed", "second"]);
    publish_lots(&world, &supplier, "LOST", 1);
    wait("the last lot to arrive", || oem.count("LOST-0000") == 1);
    wait("the org feed to arrive", || {
        oem.ok(&["feeds"])["feeds"]
            .as_array()
            .unwrap()
            .iter()
            .any(|feed| feed["name"] == "org" && feed["own"] == false && feed["size"] == 3)
    });
    supplier.kill();
    let restored = Firm::at(&world.path("restored"));
    restored.ok(&["restore", &backup, "--passphrase-file", &secret]);
    restored.start();
    wait("the org feed to be handed back", || {
        restored.ok(&["feeds"])["feeds"]
            .as_array()
            .unwrap()
            .iter()
            .any(|feed| feed["name"] == "org" && feed["own"] == true && feed["size"] == 3)
    });
    restored.stop();
    restored.ok(&["restore", "--confirm", "--yes"]);
    publish_lots(&world, &restored, "NEW", 1);
    restored.start();
    wait("the new life to arrive", || !oem.frozen().is_empty() || oem.count("NEW-0000") == 1);
    assert_eq!(oem.frozen(), Vec::<Value>::new(), "nobody is incriminated");
    assert_eq!(oem.count("NEW-0000"), 1);
}

#[test]
fn a_backup_beside_a_busy_node_is_whole_and_a_bad_one_leaves_nothing() {
    let world = World::new();
    let firm = world.firm("firm");
    firm.start();
    publish_lots(&world, &firm, "A", 10);
    std::fs::write(firm.path("policy.toml"), "# nothing yet\n").unwrap();
    let (secret, backup) = (world.passphrase(), text(&world.path("backup.age")));
    let file = world.file("b.csv", lots_file("B", "PIN", 600));
    let mut publishing =
        firm.command(["publish", &file, "--feed", "quality", "--json"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    wait("publishing to be under way", || firm.records().len() > 10);
    firm.ok(&["backup", "-o", &backup, "--passphrase-file", &secret, "--work-factor", "2"]);
    assert!(publishing.wait().unwrap().success());
    let records = firm.records();
    assert_eq!(records.len(), 610);

    let restored = Firm::at(&world.path("restored"));
    let names = |folder: &Path| tree_of(folder).into_keys().collect::<Vec<_>>();
    let nothing_left = |why: &str| {
        assert!(!restored.home().exists() && names(&world.path("")).iter().all(|path| !text(path).contains(".lotline-restore")), "{why}")
    };
    let wrong = world.file("wrong.txt", "another passphrase\n");
    let said = restored.fails(11, &["restore", &backup, "--passphrase-file", &wrong]);
    assert!(said.error().contains("wrong passphrase"), "{}", said.out);
    nothing_left("wrong passphrase");
    restored.fails(2, &["restore", &backup]);
    restored.fails(5, &["restore", &text(&world.path("nowhere.age")), "--passphrase-file", &secret]);
    let bytes = std::fs::read(&backup).unwrap();
    for cut in [0, 1, 100, bytes.len() / 3, bytes.len() / 2, bytes.len() - 65_600] {
        let bad = world.file("cut.age", &bytes[..cut]);
        restored.fails(11, &["restore", &bad, "--passphrase-file", &secret]);
        nothing_left("cut");
    }
    for at in [3, 200, bytes.len() / 2] {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        restored.fails(11, &["restore", &world.file("flipped.age", bad), "--passphrase-file", &secret]);
        nothing_left("flipped");
    }
    restored.fails(11, &["restore", &fixture("plate_fair_long.csv"), "--passphrase-file", &secret]);
    let said = firm.fails(1, &["restore", &backup, "--passphrase-file", &secret]);
    assert!(said.hint().contains("new or empty folder"), "{}", said.out);

    restored.ok(&["restore", &backup, "--passphrase-file", &secret]);
    let there = restored.records();
    eprintln!("{} of 610 records were in the backup made while publishing", there.len());
    assert!(there.len() >= 10 && there[..] == records[..there.len()]);
    assert_eq!(std::fs::read_to_string(restored.path("policy.toml")).unwrap(), "# nothing yet\n");
    restored.is_clean();
    firm.stop();
    // Without a node as well.
    let second = text(&world.path("second.age"));
    firm.ok(&["backup", "-o", &second, "--passphrase-file", &secret, "--work-factor", "2"]);
    let whole = Firm::at(&world.path("whole"));
    whole.ok(&["restore", &second, "--passphrase-file", &secret]);
    assert_eq!(whole.records(), records);
}

// ---- sharing

#[test]
fn the_ledger_lists_exactly_what_went_out() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    publish_lots(&world, &supplier, "PIN", 2);
    supplier.apply(&RULES.replace("\"all\"", "[\"PLATE\"]"));
    publish_lots(&world, &supplier, "UNSEEN", 1);
    wait_until_level(&supplier, &oem);
    wait("everything to be acknowledged", || supplier.ledger("oem").iter().all(|row| row["outcome"] == "acknowledged"));
    let rows = supplier.ledger("oem");
    let mut listed: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    let mut times = BTreeMap::new();
    for row in rows.iter().filter(|row| string(&row["origin"]).contains("/quality/")) {
        assert!(row["policy_version"].is_u64() && row["at"].is_string() && row["digest"].is_string(), "{row}");
        for item in row["items"].as_array().unwrap() {
            let seq = item["seq"].as_u64().unwrap();
            *times.entry(seq).or_insert(0) += 1;
            listed.entry(seq).or_default().extend(item["fields"].as_array().unwrap().iter().map(string));
        }
    }
    assert_eq!(times, BTreeMap::from([(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]), "each once: {rows:?}");
    for (seq, lot) in [(1, "PLATE-1"), (2, "PIN-0000"), (3, "PIN-0001")] {
        assert_eq!(listed[&seq], shown(&oem.ok(&["show", lot])["record"]["fields"]), "{lot}");
    }
    assert_eq!((listed[&4].len(), oem.count("UNSEEN-0000")), (0, 0), "a leaf hash, and no field");
    assert_eq!(rows.iter().map(|row| row["number"].as_u64().unwrap()).collect::<BTreeSet<_>>().len(), rows.len());
    // The customer shares nothing; its public keys went out, since it signs receipts with them.
    let back = oem.ledger("supplier");
    assert!(!back.is_empty() && back.iter().all(|row| string(&row["origin"]).ends_with("/org/1")), "{back:?}");
    assert!(
        rows.iter().filter(|row| string(&row["origin"]).contains("/quality/")).all(|row| row["receipt"]["number"].is_u64()),
        "{rows:?}"
    );
}

#[test]
fn rules_that_are_not_in_order_change_nothing_and_status_says_so() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    let in_force = supplier.ok(&["policy", "show"]);
    assert_eq!(in_force["version"], 1);
    assert_eq!(supplier.ok(&["status"])["alarms"], json!([]));
    for (broken, word) in [
        ("[[share]\nname = 3", "line 1"),
        ("[[share]]\nname = 'x'\nwith = 'oem'\nfeed = 'quality'\nparts = 'all'\nshow = 'everything'\n", "until"),
        ("[[share]]\nname = 'x'\nwith = 'oen'\nfeed = 'quality'\nparts = 'all'\nshow = 'everything'\nuntil = 'revoked'\n", "oem"),
        ("[[never]]\nname = 'x'\nwith = 'oem'\nshow = ['mesurements']\n", "measurements"),
        ("[[frob]]\nname = 'x'\n", "frob"),
    ] {
        std::fs::write(supplier.path("policy.toml"), broken).unwrap();
        for verb in [&["policy", "check"][..], &["policy", "apply", "--yes"]] {
            let said = supplier.fails(1, verb);
            assert!(said.error().contains(word), "{word}: {}", said.out);
        }
        let alarms = supplier.ok(&["status"])["alarms"].to_string();
        assert!(alarms.contains("policy.toml is not what is in force"), "{alarms}");
        assert_eq!(supplier.ok(&["policy", "show"]), in_force);
    }
    supplier.fails(5, &["policy", "apply", &text(&world.path("nowhere.toml")), "--yes"]);
    // Nobody has said yes, and there is nobody to ask.
    std::fs::write(supplier.path("policy.toml"), "").unwrap();
    assert_ne!(supplier.call(&["policy", "apply"]).code, 0);
    assert_eq!(supplier.ok(&["policy", "show"]), in_force);
    // Sharing goes on under the rules in force.
    publish_lots(&world, &supplier, "PIN", 1);
    wait_until_level(&supplier, &oem);
    assert_eq!(oem.count("PIN-0000"), 1);
    supplier.stop();
    assert_ne!(supplier.call(&["policy", "apply"]).code, 0);
    assert_eq!(supplier.ok(&["policy", "show"]), in_force);
}

/// Rules name partners: a name they speak of does not pass to somebody else without a word.
#[test]
fn a_name_that_rules_speak_of_is_not_given_to_another_firm() {
    let world = World::new();
    let (supplier, first, second) = (world.firm("supplier"), world.firm("first"), world.firm("second"));
    let accept = |firm: &Firm| ["partner", "accept", &firm.invitation(), "--as", "oem"].map(str::to_owned);
    let call = |verb: &[String; 5], code: i32| {
        let verb: Vec<&str> = verb.iter().map(String::as_str).collect();
        if code == 0 { drop(supplier.ok(&verb)) } else { drop(supplier.fails(code, &verb)) }
    };
    let (to_first, to_second) = (accept(&first), accept(&second));
    call(&to_first, 0);
    supplier.apply("[[share]]\nname = 'x'\nwith = 'oem'\nfeed = 'all'\nparts = 'all'\nshow = 'everything'\nuntil = 'revoked'\n");
    supplier.ok(&["partner", "remove", "oem"]);
    call(&to_second, 3);
    // The same firm comes back to what was meant for it.
    call(&to_first, 0);
    supplier.ok(&["partner", "remove", "oem"]);
    supplier.apply("");
    call(&to_second, 0);
}

#[test]
fn rules_are_compared_proven_tested_and_remembered() {
    let world = World::new();
    let (supplier, _oem) = two_firms(&world);
    publish_lots(&world, &supplier, "PIN", 3);
    let ban = "[[never]]\nname = 'no-process'\nwith = 'oem'\nshow = ['process']\n";
    let test = "[[test]]\nwho = 'oem'\nsees = ['identity', 'verdict', 'capability']\n";
    std::fs::write(supplier.path("policy.toml"), format!("{RULES}{ban}{test}")).unwrap();
    assert_eq!(supplier.ok(&["policy", "test"])["claims"], json!(["oem sees exactly capability, identity, verdict"]));
    let diff = supplier.ok(&["policy", "diff"]);
    assert_eq!(diff["changes"], json!(["new never `no-process`: it is for `oem`, names process"]));
    assert_eq!(supplier.ok(&["policy", "apply", "--yes"])["changes"], diff["changes"]);

    // Narrower to one part, with defects, and without the ban: exact counts, the ban first.
    let narrow = RULES.replace("parts = \"all\"", "parts = [\"PIN\"]").replace("\"capability\"", "\"capability\", \"defects\"");
    std::fs::write(supplier.path("policy.toml"), &narrow).unwrap();
    let diff = supplier.ok(&["policy", "diff"]);
    let changes: Vec<String> = diff["changes"].as_array().unwrap().iter().map(string).collect();
    assert_eq!(changes[0], "REMOVED BAN `no-process`");
    assert!(changes[1].starts_with("share `oem-sees-verdicts`: it names capability, defects, identity, verdict (before:"), "{changes:?}");
    assert!(changes[2].starts_with("oem gains defects of 3 records; it loses identity, verdict, "), "{changes:?}");
    assert!(changes[2].ends_with("of 1 record in feed quality"), "{changes:?}");
    assert_eq!(diff["difference"]["removed_bans"], json!(["no-process"]));

    // A test that fails refuses the file, with its place and a counterexample; what is in force stays.
    std::fs::write(supplier.path("policy.toml"), format!("{narrow}{test}")).unwrap();
    for verb in [&["policy", "check"][..], &["policy", "test"], &["policy", "diff"], &["policy", "apply", "--yes"]] {
        let said = supplier.fails(1, verb);
        assert!(said.error().contains("fails: oem sees defects of a record of kind inspection in feed quality, part PIN"), "{}", said.out);
        assert!(said.error().contains(&format!("line {}, column 1", narrow.lines().count() + 1)), "{}", said.out);
    }
    assert_eq!(supplier.ok(&["policy", "show"])["version"], 2);

    let log = supplier.ok(&["policy", "log"]);
    let versions: Vec<u64> = log["versions"].as_array().unwrap().iter().map(|row| row["version"].as_u64().unwrap()).collect();
    assert_eq!((versions, &log["versions"][1]["nevers"]), (vec![1, 2], &json!(1)));
    assert_eq!(log["versions"][1]["changes"][0], "new never `no-process`: it is for `oem`, names process");
    let first = supplier.ok(&["policy", "show", "--version", "1"]);
    assert_eq!((&first["text"], &first["in_force"]), (&json!(RULES), &json!(false)));
    let today = string(&first["day"]);
    assert_eq!(supplier.ok(&["policy", "show", "--at", &today])["version"], 2);
    supplier.fails(5, &["policy", "show", "--at", "2001-01-01"]);
    supplier.fails(5, &["policy", "show", "--version", "3"]);
    supplier.fails(2, &["policy", "show", "--at", "yesterday"]);

    // What is proven is what is seen.
    for holds in ["nobody sees measurements", "oem sees exactly identity, verdict, capability", "oem never sees process of part PIN"] {
        assert_eq!(supplier.ok(&["policy", "prove", holds])["holds"], true, "{holds}");
    }
    let hole = supplier.fails(3, &["policy", "prove", "oem sees at most identity"]);
    assert_eq!(hole.json["holds"], false);
    assert!(
        string(&hole.json["counterexample"]).starts_with("oem sees verdict, capability of a record of kind inspection in feed quality, ")
    );
    let slip = supplier.fails(2, &["policy", "prove", "oem sees at most identiti"]);
    assert!(slip.error().contains("did you mean `identity`?"), "{}", slip.out);

    let matrix = supplier.ok(&["policy", "matrix"]);
    let cells = &matrix["rows"][0]["cells"];
    assert_eq!((&cells["identity"], &cells["process"], &cells["defects"]), (&json!("all"), &json!("never"), &json!("nothing")));
    let said = Said::of(&mut supplier.command(["policy", "matrix"]));
    assert!(said.out.lines().take(4).all(|line| line.chars().count() <= 80), "{}", said.out);

    let cedar = world.path("rules.cedar");
    supplier.ok(&["policy", "export", "--format", "cedar", "-o", &text(&cedar)]);
    assert!(std::fs::read_to_string(&cedar).unwrap().contains("@id(\"no-process\")\nforbid"));
    assert!(std::fs::read_to_string(world.path("rules.cedarschema")).unwrap().contains("entity Party"));

    // The bytes of a preview are those that leave.
    let preview = supplier.ok(&["policy", "preview", "oem"]);
    let each: u64 = preview["records"].as_array().unwrap().iter().map(|row| row["bytes"].as_u64().unwrap()).sum();
    assert_eq!(preview["bytes"].as_u64(), Some(each));
    assert!(500 < each, "{each}");
}

#[test]
fn a_partner_that_is_removed_is_cut_off() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    wait("it to be connected", || oem.partner("supplier")["connected"] == true);
    supplier.ok(&["partner", "remove", "oem"]);
    wait("it to be disconnected", || oem.partner("supplier")["connected"] == false);
    assert_eq!(supplier.ok(&["partner", "list"])["partners"], json!([]));
    let rows = supplier.ledger("oem");
    publish_lots(&world, &supplier, "AFTER", 1);
    // It tries again, by dialling itself and after a restart.
    oem.kill();
    oem.start();
    supplier.stop();
    supplier.start();
    assert_eq!(supplier.ledger("oem"), rows);
    assert_eq!((oem.count("PLATE-1"), oem.count("AFTER-0000")), (1, 0));
    let said = supplier.fails(5, &["bundle", "--lot", "PLATE-1", "--for", "oem", "-o", &text(&world.path("b.lotline"))]);
    assert!(said.error().contains("oem"), "{}", said.out);
    supplier.is_clean();
    oem.is_clean();
}

#[test]
fn our_own_records_leave_as_files_by_the_same_door() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    let identity = supplier.identity();
    let path = |name: &str| text(&world.path(name));
    let said = supplier.fails(2, &["bundle", "--lot", "PLATE-1", "-o", &path("none.lotline")]);
    assert!(said.hint().contains("--for") && said.hint().contains("--full"), "{}", said.out);
    supplier.fails(5, &["bundle", "--lot", "PLATE-1", "--for", "stranger", "-o", &path("none.lotline")]);
    supplier.fails(5, &["bundle", "--lot", "NO-SUCH", "--for", "oem", "-o", &path("none.lotline")]);
    supplier.fails(3, &["bundle", "--lot", "PLATE-1", "--full", "The Auditor", "-o", &path("none.lotline")]);
    supplier.fails(2, &["bundle", "--lot", "PLATE-1", "--full", "The Auditor", "--for", "oem", "-o", &path("none.lotline")]);
    oem.fails(2, &["bundle", "--lot", "PLATE-1", "--full", "The Auditor", "--yes", "-o", &path("none.lotline")]);
    assert!(!Path::new(&path("none.lotline")).exists());

    // Exactly its view.
    supplier.ok(&["bundle", "--lot", "PLATE-1", "--for", "oem", "-o", &path("for.lotline")]);
    let for_oem = world.verify(&path("for.lotline"), &["--issuer", &identity]);
    assert_eq!(for_oem.code, 0, "{}", for_oem.out);
    let fields = &for_oem.json["records"][0]["record"]["fields"];
    assert_eq!(*fields, oem.ok(&["show", "PLATE-1"])["record"]["fields"]);
    assert!(shown(fields).contains("verdict_recomputed") && !shown(fields).contains("machine"));
    oem.ok(&["bundle", "--lot", "PLATE-1", "-o", &path("received.lotline")]);
    let (sent, received) = (std::fs::read(path("for.lotline")).unwrap(), std::fs::read(path("received.lotline")).unwrap());
    let packages = |bytes: &[u8]| Bundle::read(bytes).unwrap().packages.into_iter().map(|package| package.view).collect::<Vec<_>>();
    assert_eq!(packages(&sent), packages(&received), "the very same bytes");
    let holds = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    supplier.ok(&["bundle", "--lot", "PLATE-1", "--full", "The Auditor", "--yes", "-o", &path("full.lotline")]);
    assert!(!holds(&sent) && holds(&std::fs::read(path("full.lotline")).unwrap()));
    let full = world.verify(&path("full.lotline"), &["--issuer", &identity]);
    assert_eq!(
        shown(&full.json["records"][0]["record"]["fields"]).len(),
        full.json["records"][0]["record"]["fields"].as_object().unwrap().len()
    );

    let row = &supplier.ledger("The Auditor")[0];
    assert_eq!(
        (row["outcome"].as_str(), row["policy_version"].is_null(), row["items"][0]["seq"].as_u64()),
        (Some("exported"), true, Some(1))
    );
    assert!(row["items"][0]["fields"].as_array().unwrap().contains(&json!("machine")), "{row}");
    let exported: Vec<_> = supplier.ledger("oem").into_iter().filter(|row| row["outcome"] == "exported").collect();
    assert_eq!(exported.len(), 1);
    let listed: BTreeSet<String> = exported[0]["items"][0]["fields"].as_array().unwrap().iter().map(string).collect();
    assert_eq!((listed, exported[0]["policy_version"].as_u64()), (shown(fields), Some(1)));

    // Nobody is asked on the terminal of a node that runs: without --yes the answer is no, at once.
    supplier.stop();
    let on_a_terminal = format!("{:?} --home {:?} run", lotline_integration::world::program(), supplier.home());
    let script = Command::new("script")
        .args(["-qec", &on_a_terminal, "/dev/null"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn();
    match script {
        Ok(mut script) => {
            // Not by asking it: a command without a node would hold the home.
            wait("the node on a terminal to start", || supplier.path("run.json").exists());
            assert_eq!(supplier.ok(&["status"])["running"], true);
            supplier.fails(3, &["bundle", "--lot", "PLATE-1", "--full", "The Auditor", "-o", &path("none.lotline")]);
            supplier.ok(&["share", "stop"]);
            let said = supplier.fails(1, &["share", "resume"]);
            assert!(said.hint().contains("--yes"), "{}", said.out);
            supplier.ok(&["share", "resume", "--yes"]);
            // Ctrl-C; a hang-up would be ignored wherever these tests run under `nohup` or a service.
            std::io::Write::write_all(script.stdin.as_mut().unwrap(), b"\x03").unwrap();
            wait("the node to end with its terminal", || script.try_wait().unwrap().is_some());
            assert_eq!(supplier.call(&["status"]).json["running"], false);
        }
        Err(why) => eprintln!("SKIPPED: questions on a node's own terminal, since there is no `script`: {why}"),
    }

    // What the rules show nothing of is refused, and no file is left.
    supplier.apply(&format!("new_parts = [\"PIN\"]\n{}", RULES.replace("\"all\"", "[\"PIN\"]")));
    let said = supplier.fails(3, &["bundle", "--lot", "PLATE-1", "--for", "oem", "-o", &path("none.lotline")]);
    assert!(said.error().contains("show oem nothing") && said.hint().contains("policy explain"), "{}", said.out);
    assert!(!Path::new(&path("none.lotline")).exists());
}

// ---- verifying

/// The bundle with another entry in its issuer's org feed, signed with the keys of that home.
fn with_org_entry(firm: &Firm, bundle: &[u8], entry: &dyn Fn(&Org) -> Entry) -> Vec<u8> {
    let keys = Keys::read(&firm.path("keys")).unwrap();
    let mut bundle = Bundle::read(bundle).unwrap();
    let party: PartyId = firm.identity().parse().unwrap();
    let mut org = Org::from_parts(party, bundle.orgs[0].entries.iter().cloned(), &bundle.orgs[0].checkpoint).unwrap();
    let sealed = org::seal(&org, &entry(&org), lotline_node::service::now(), &keys.record, random).unwrap();
    org.accept(sealed.core).unwrap();
    let checkpoint = Checkpoint { origin: Origin::org(party), size: org.size(), root: org.frontier().root() };
    bundle.orgs[0] = OrgPart::of(&org, &checkpoint.sign(&keys.log));
    bundle.to_bytes()
}

#[test]
fn verify_tells_good_altered_withdrawn_forked_unknown_and_unreadable_apart() {
    let world = World::new();
    let firm = world.firm("firm");
    publish_plate(&firm, "PLATE-1", &[]);
    let identity = firm.identity();
    let good = text(&world.path("good.lotline"));
    firm.ok(&["bundle", "--lot", "PLATE-1", "--full", "test", "--yes", "-o", &good]);
    let bytes = std::fs::read(&good).unwrap();
    let check = |name: &str, bytes: &[u8], code: i32, outcome: &str| {
        let said = world.verify(&world.file(name, bytes), &["--issuer", &identity]);
        assert_eq!((said.code, said.json["outcome"].as_str()), (code, Some(outcome)), "{name}: {}", said.out);
        assert_eq!((said.json["schema_version"].as_u64(), said.json["ok"].as_bool()), (Some(1), Some(code == 0)));
        said.json
    };
    check("good", &bytes, 0, "verified");
    for at in [60, bytes.len() / 4, bytes.len() / 2, bytes.len() * 3 / 4, bytes.len() - 3] {
        let mut bad = bytes.clone();
        bad[at] ^= 4;
        let said = check("tampered", &bad, 4, "altered");
        assert!(said["failing_check"].is_string() && said["intact"] == false, "{said}");
    }
    check("cut", &bytes[..bytes.len() - 1], 4, "altered");
    check("garbage", b"this is a shopping list", 11, "unreadable");
    check("empty", b"", 11, "unreadable");
    check("a table", &std::fs::read(fixture("cover_fair_long.csv")).unwrap(), 11, "unreadable");
    assert_eq!(world.verify(&text(&world.path("nowhere")), &[]).code, 5);

    // Re-signed whole by somebody else who takes the same name.
    let forger = Firm::at(&world.path("forger"));
    forger.ok(&[
        "init",
        "--name",
        "firm",
        "--kit",
        &text(&world.path("forged kit.txt")),
        "--passphrase-file",
        &world.passphrase(),
        "--kit-work-factor",
        "2",
    ]);
    publish_plate(&forger, "PLATE-1", &[]);
    let forged = text(&world.path("forged.lotline"));
    forger.ok(&["bundle", "--lot", "PLATE-1", "--full", "test", "--yes", "-o", &forged]);
    let said = check("forged", &std::fs::read(&forged).unwrap(), 7, "signer-not-established");
    assert_eq!((said["intact"].as_bool(), said["issuers"][0]["calls_itself"].as_str()), (Some(true), Some("firm")));
    let sentence = string(&said["sentence"]);
    assert!(sentence.starts_with("Intact") && sentence.contains("signer not established"), "{sentence}");

    // Trust by file, and a trust file that is none.
    let trust =
        world.file("trust.toml", format!("[[trust]]\nissuer = \"{identity}\"\nname = \"Firm GmbH\"\nchecked = \"by telephone, today\"\n"));
    let said = world.verify(&good, &["--trust", &trust]);
    assert_eq!((said.code, said.json["issuers"][0]["name"].as_str()), (0, Some("Firm GmbH")), "{}", said.out);
    assert_eq!(world.verify(&forged, &["--trust", &trust]).code, 7);
    for bad in ["", "[[trust]]\nissuer = \"did:key:nonsense\"\nname = \"x\"\nchecked = \"y\"\n", "[[trust]]\nissuer = 3\n"] {
        assert_eq!(world.verify(&good, &["--trust", &world.file("bad.toml", bad)]).code, 2, "{bad}");
    }
    assert_eq!(world.verify(&good, &["--issuer", "Firm GmbH"]).code, 2);

    let record = firm.records()[0].clone();
    let withdrawn = with_org_entry(&firm, &bytes, &|_| Entry::Withdrawal {
        origin: record.0.parse().unwrap(),
        seq: record.1,
        leaf: Bundle::read(&bytes).map(|bundle| tree::leaf_hash(&bundle.packages[0].view.core)).unwrap(),
        reason: "wrong gauge".into(),
    });
    let said = check("withdrawn", &withdrawn, 8, "withdrawn");
    assert_eq!(said["records"][0]["withdrawn"], "wrong gauge");

    // A copied home that goes on beside the first: two truths at one place.
    let twin = Firm::at(&world.path("twin"));
    copy_folder(firm.home(), twin.home());
    publish_lots(&world, &firm, "ONE", 1);
    publish_lots(&world, &twin, "TWO", 1);
    let bundle_of = |firm: &Firm, lot: &str| {
        let file = text(&world.path(&format!("{lot}.lotline")));
        firm.ok(&["bundle", "--lot", lot, "--full", "test", "--yes", "-o", &file]);
        std::fs::read(file).unwrap()
    };
    let mut both = Bundle::read(&bundle_of(&firm, "ONE-0000")).unwrap();
    both.packages.extend(Bundle::read(&bundle_of(&twin, "TWO-0000")).unwrap().packages);
    check("forked", &both.to_bytes(), 10, "forked");
}

#[test]
fn a_customer_notices_a_copied_home_that_goes_on_beside_the_first() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    supplier.stop();
    let twin = Firm::at(&world.path("twin"));
    copy_folder(supplier.home(), twin.home());
    publish_lots(&world, &supplier, "ONE", 1);
    supplier.start();
    wait_until_level(&supplier, &oem);
    supplier.stop();
    let good = oem.heads();
    publish_lots(&world, &twin, "TWO", 2);
    twin.start();
    wait("the customer to see two truths", || {
        let said = oem.partner("supplier")["trouble"].to_string() + &twin.partner("oem")["trouble"].to_string();
        !oem.frozen().is_empty() || said.to_lowercase().contains("fork") || said.contains("past")
    });
    assert_eq!(oem.heads(), good, "it stays at the last good head");
    assert_eq!(oem.count("TWO-0000") + oem.count("TWO-0001"), 0);
}

#[test]
fn the_parts_of_a_bundle_are_written_for_other_tools() {
    let world = World::new();
    let (supplier, oem) = two_firms(&world);
    publish_plate(&supplier, "PLATE-1", &["--sample", "2"]);
    wait_until_level(&supplier, &oem);
    let (bundle, folder) = (text(&world.path("b.lotline")), world.path("parts"));
    oem.ok(&["bundle", "--lot", "PLATE-1", "-o", &bundle]);
    let said = world.verify(&bundle, &["--issuer", &supplier.identity(), "--explode", &text(&folder)]);
    assert_eq!(said.code, 0, "{}", said.out);
    let names: BTreeSet<String> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for name in [
        "000.core.cbor",
        "000.view.cbor",
        "000.tlog-proof",
        "000.disclosure-00.cbor",
        "001.core.cbor",
        "001.view.cbor",
        "001.tlog-proof",
        "checkpoint-0.txt",
        "checkpoint-1.txt",
        "org.cbor",
        "keys.json",
    ] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    for at in 0..2 {
        let leaf = tree::leaf_hash(&read(&format!("00{at}.core.cbor"))).to_string();
        assert_eq!(Value::String(leaf), said.json["records"][at]["leaf"]);
    }
    let opened = shown(&said.json["records"][0]["record"]["fields"]).len();
    assert_eq!(names.iter().filter(|name| name.starts_with("000.disclosure-")).count(), opened);
    let keys: Value = serde_json::from_slice(&read("keys.json")).unwrap();
    // The customer's org feed is there too, with the receipt it signed; which of both comes first, their identities say.
    let (issuers, supplier_is) = (keys["issuers"].as_array().unwrap(), supplier.identity());
    let at = issuers.iter().position(|issuer| issuer["identity"] == supplier_is.as_str()).unwrap();
    let issuer = &issuers[at];
    for role in ["root", "record", "log", "transport"] {
        assert_eq!(string(&issuer["keys"][role]["public_hex"]).len(), 64, "{role}");
    }
    assert_eq!(issuer["keys"]["log"]["public_hex"], supplier.ok(&["keys", "show"])["keys"]["log"]["public"]);
    assert_eq!(issuer["vkeys"].as_object().unwrap().len(), 2);
    let codec::Value::Array(entries) = codec::decode(&read(if at == 0 { "org.cbor" } else { "org-1.cbor" })).unwrap() else {
        panic!("org.cbor is no array")
    };
    assert_eq!(entries.len(), 2, "the keyring, and the feed");
    let proof = String::from_utf8(read("000.tlog-proof")).unwrap();
    let checkpoint = String::from_utf8(read("checkpoint-0.txt")).unwrap();
    assert!(proof.ends_with(&checkpoint) && checkpoint.contains("/quality/1\n3\n"), "{checkpoint}");
    // A bundle that is no bundle writes nothing that looks like one.
    let none = world.path("none");
    assert_eq!(world.verify(&world.file("garbage", "garbage"), &["--explode", &text(&none)]).code, 11);
    assert!(!none.join("000.core.cbor").exists());
}
