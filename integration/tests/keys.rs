//! The life of keys, with the real program: rotation, revocation, a lost root, words, and where secrets may be.
#![allow(clippy::unwrap_used, reason = "tests, also outside the test functions")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lotline_integration::world::{Dice, Firm, PASSPHRASE, Said, World, lots_file, seed, string, text, wait_until_level};
use lotline_node::keys::kit::{Kit, Secret};
use serde_json::Value;

const RULES: &str = "[[share]]\nname = \"all\"\nwith = \"oem\"\nfeed = \"quality\"\nparts = \"all\"\nshow = [\"identity\", \"verdict\"]\nuntil = \"revoked\"\n";

fn publish(world: &World, firm: &Firm, prefix: &str, lots: usize) -> Value {
    let file = world.file(&format!("{prefix}.csv"), lots_file(prefix, "PIN", lots));
    firm.publish(&file, &["--feed", "quality"])
}

fn kit_of(world: &World, firm: &Firm) -> String {
    let name = firm.home().file_name().unwrap().to_str().unwrap();
    text(&world.path(&format!("kit of {name}.txt")))
}

/// What opens a kit in a command.
fn with_kit(world: &World, kit: &str) -> Vec<String> {
    ["--kit", kit, "--passphrase-file", &world.passphrase()].map(str::to_owned).to_vec()
}

fn args<'a>(verb: &[&'a str], more: &'a [String]) -> Vec<&'a str> {
    verb.iter().copied().chain(more.iter().map(String::as_str)).collect()
}

fn rotate(world: &World, firm: &Firm, role: &str) -> Value {
    firm.ok(&args(&["keys", "rotate", role], &with_kit(world, &kit_of(world, firm))))
}

/// A bundle of everything about a lot, and what a fresh verification says of it.
fn verified(world: &World, firm: &Firm, lot: &str) -> Said {
    let bundle = text(&world.path(&format!("{lot}-{}.lotline", firm.heads().len())));
    let _ = std::fs::remove_file(&bundle);
    firm.ok(&["bundle", "--lot", lot, "--full", "auditor", "--yes", "-o", &bundle]);
    world.verify(&bundle, &["--issuer", &firm.identity()])
}

/// The secret of a key file, in hex.
fn secret(firm: &Firm, role: &str) -> String {
    std::fs::read_to_string(firm.path(&format!("keys/{role}.key"))).unwrap().trim().to_owned()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

// ---- rotation

#[test]
fn what_an_old_key_signed_stays_valid_after_every_rotation() {
    let world = World::new();
    let firm = world.firm("firm");
    publish(&world, &firm, "OLD", 3);
    firm.apply("");
    let early = text(&world.path("early.lotline"));
    firm.ok(&["bundle", "--lot", "OLD-0000", "--full", "auditor", "--yes", "-o", &early]);
    let before: Vec<String> = ["record", "log", "witness", "transport"].map(|role| secret(&firm, role)).to_vec();

    let rotated = rotate(&world, &firm, "record");
    let origin = string(&firm.records()[0].0.clone().into());
    assert_eq!((rotated["role"].as_str(), rotated["from"][&origin].as_u64()), (Some("record"), Some(4)), "{rotated}");
    publish(&world, &firm, "MID", 2);
    rotate(&world, &firm, "log");
    publish(&world, &firm, "NEW", 2);
    rotate(&world, &firm, "witness");
    rotate(&world, &firm, "record");
    publish(&world, &firm, "LAST", 1);

    let after: Vec<String> = ["record", "log", "witness", "transport"].map(|role| secret(&firm, role)).to_vec();
    assert_eq!(before.iter().zip(&after).map(|(a, b)| a == b).collect::<Vec<_>>(), [false, false, false, true]);
    firm.is_clean();
    assert_eq!(firm.ok(&["policy", "show"])["version"], 1, "rules signed by the first key hold");
    assert_eq!(firm.apply("")["version"], 2);
    for lot in ["OLD-0000", "MID-0001", "NEW-0000", "LAST-0000"] {
        let said = verified(&world, &firm, lot);
        assert_eq!((said.code, said.json["outcome"].as_str()), (0, Some("verified")), "{lot}: {}", said.out);
    }
    assert_eq!(world.verify(&early, &["--issuer", &firm.identity()]).code, 0, "a bundle from before the rotations");
    let shown = firm.ok(&["keys", "show"]);
    assert_eq!(shown["changes"].as_array().unwrap().len(), 4, "{shown}");
    assert_eq!(publish(&world, &firm, "OLD", 3)["published"][0]["repeated"], true, "what an old key signed is still there");
}

#[test]
fn a_follower_goes_on_over_a_rotation() {
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem"));
    supplier.start();
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    publish(&world, &supplier, "OLD", 3);
    supplier.apply(RULES);
    wait_until_level(&supplier, &oem);
    for role in ["record", "log"] {
        supplier.stop();
        rotate(&world, &supplier, role);
        publish(&world, &supplier, &format!("AFTER-{role}"), 3);
        supplier.start();
        wait_until_level(&supplier, &oem);
    }
    oem.is_clean();
    let bundle = text(&world.path("b.lotline"));
    oem.ok(&["bundle", "--lot", "OLD-0001", "-o", &bundle]);
    assert_eq!(world.verify(&bundle, &["--issuer", &supplier.identity()]).code, 0);

    // A revocation reaches the customer with the org feed, for records it has had for long.
    supplier.stop();
    let kit = with_kit(&world, &kit_of(&world, &supplier));
    supplier.ok(&args(&["keys", "revoke", "record", "--from", "quality:6", "--yes"], &kit));
    assert_eq!(oem.ok(&["show", "AFTER-log-0000"])["revoked"], Value::Null);
    supplier.start();
    let known = || oem.ok(&["show", "AFTER-log-0000"])["revoked"].is_string();
    lotline_integration::world::wait("the customer to learn of the revocation", known);
    assert_eq!(oem.ok(&["show", "OLD-0000"])["revoked"], Value::Null);
    let late = text(&world.path("late.lotline"));
    oem.ok(&["bundle", "--lot", "AFTER-log-0000", "-o", &late]);
    assert_eq!(world.verify(&late, &["--issuer", &supplier.identity()]).code, 8);
    assert_eq!(oem.ok(&["audit"])["clean"], true);
}

#[test]
fn a_rotation_cut_anywhere_leaves_a_home_that_opens() {
    let world = World::new();
    let firm = world.firm("firm");
    publish(&world, &firm, "A", 1);
    let key = |name: &str| firm.path(&format!("keys/{name}.key"));
    for role in ["record", "log", "witness"] {
        // Cut before the commit: a key that nothing names.
        let named = secret(&firm, role);
        std::fs::write(key(&format!("{role}.next")), format!("{}\n", "07".repeat(32))).unwrap();
        private(&key(&format!("{role}.next")));
        publish(&world, &firm, &format!("B-{role}"), 1);
        assert_eq!((secret(&firm, role), key(&format!("{role}.next")).exists()), (named.clone(), false));
        // Cut after the commit, before the file was moved.
        rotate(&world, &firm, role);
        let new = secret(&firm, role);
        assert_ne!(new, named);
        std::fs::rename(key(role), key(&format!("{role}.next"))).unwrap();
        std::fs::write(key(role), format!("{named}\n")).unwrap();
        private(&key(role));
        publish(&world, &firm, &format!("C-{role}"), 1);
        assert_eq!((secret(&firm, role), key(&format!("{role}.next")).exists()), (new, false));
        firm.is_clean();
        assert_eq!(verified(&world, &firm, &format!("C-{role}-0000")).code, 0);
    }
}

fn private(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    #[cfg(not(unix))]
    let _ = path;
}

#[test]
fn rotations_killed_at_random_moments_lose_nothing() {
    let world = World::new();
    let firm = world.firm("firm");
    let mut dice = Dice(seed());
    publish(&world, &firm, "FIRST", 2);
    let kit = with_kit(&world, &kit_of(&world, &firm));
    let (mut killed, mut done) = (0, 0);
    for round in 0..24 {
        let role = if dice.below(2) == 0 { "record" } else { "log" };
        let mut child = firm.command(args(&["keys", "rotate", role], &kit)).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(dice.below(160_000)));
        let _ = child.kill();
        match child.wait().unwrap().code() {
            Some(code) => {
                assert_eq!(code, 0);
                done += 1;
            }
            None => killed += 1,
        }
        publish(&world, &firm, &format!("R{round}"), 1);
    }
    eprintln!("{killed} killed, {done} done, {} stated", firm.ok(&["keys", "show"])["changes"].as_array().unwrap().len());
    firm.is_clean();
    let mut keys = Vec::new();
    files(&firm.path("keys"), &mut keys);
    assert!(keys.iter().all(|path| !text(path).contains(".next")), "{keys:?}");
    assert_eq!(verified(&world, &firm, "FIRST-0000").code, 0);
    assert_eq!(verified(&world, &firm, "R23-0000").code, 0);
    assert!(killed > 4, "hardly anything was killed");
}

// ---- revocation

#[test]
fn records_after_a_revocation_are_not_vouched_for_and_can_be_signed_anew() {
    let world = World::new();
    let firm = world.firm("firm");
    publish(&world, &firm, "L", 6);
    let kit = with_kit(&world, &kit_of(&world, &firm));
    let asked = firm.fails(1, &args(&["keys", "revoke", "record", "--from", "quality:4"], &kit));
    assert!(asked.error().contains("not confirmed"), "{}", asked.out);
    assert!(asked.err.contains("3 records become revoked") && asked.err.contains("L-0005"), "{}", asked.err);
    firm.fails(5, &args(&["keys", "revoke", "record", "--from", "nothing:4", "--yes"], &kit));
    for wrong in ["quality", "quality:0", "quality:8", "quality:x", "org:1"] {
        let said = firm.call(&args(&["keys", "revoke", "record", "--from", wrong, "--yes"], &kit));
        assert!(said.code == 2 || said.code == 5, "{wrong}: {}", said.out);
    }
    let revoked = firm.ok(&args(&["keys", "revoke", "record", "--from", "quality:4", "--yes"], &kit));
    assert_eq!((revoked["revoked"].as_u64(), revoked["lots"].as_array().unwrap().len()), (Some(3), 3), "{revoked}");

    assert_eq!(verified(&world, &firm, "L-0002").code, 0);
    let said = verified(&world, &firm, "L-0003");
    assert_eq!((said.code, said.json["outcome"].as_str()), (8, Some("revoked")), "{}", said.out);
    assert!(string(&said.json["sentence"]).contains("stolen"), "{}", said.out);
    assert!(string(&firm.ok(&["show", "L-0003"])["revoked"]).contains("stolen"));
    let listed = firm.ok(&["records"]);
    assert_eq!(listed["records"].as_array().unwrap().iter().filter(|one| one["revoked"].is_string()).count(), 3, "{listed}");
    let audit = firm.ok(&["audit"]);
    assert_eq!((audit["clean"].as_bool(), audit["revoked"].as_u64()), (Some(true), Some(3)), "{audit}");
    // The owner publishes the same file again: what is revoked is signed anew, the rest is there.
    let again = publish(&world, &firm, "L", 6);
    let repeated: Vec<bool> = again["published"].as_array().unwrap().iter().map(|one| one["repeated"].as_bool().unwrap()).collect();
    assert_eq!(repeated, [true, true, true, false, false, false]);
    assert_eq!(firm.ok(&["show", "L-0003"])["seq"], 7);
    let again = publish(&world, &firm, "L", 6);
    assert!(again["published"].as_array().unwrap().iter().all(|one| one["repeated"] == true), "{again}");
}

// ---- a lost root

#[test]
fn a_successor_takes_the_place_of_a_lost_root() {
    let world = World::new();
    let firm = world.firm("firm");
    publish(&world, &firm, "OLD", 1);
    let kit = with_kit(&world, &kit_of(&world, &firm));
    let (second, qr) = (text(&world.path("second kit.txt")), text(&world.path("second.svg")));
    assert!(string(&Value::from(Said::of(&mut firm.command(["status"])).out)).contains("no successor named"));
    let early = firm.fails(1, &args(&["keys", "inherit", "--yes"], &kit));
    assert!(early.error().contains("no successor was named"), "{}", early.out);
    let secret = world.passphrase();
    let name = ["keys", "successor", "-o", &second, "--new-passphrase-file", &secret, "--kit-work-factor", "2", "--qr", &qr];
    let named = firm.ok(&args(&name, &kit));
    assert!(std::fs::read_to_string(&qr).unwrap().starts_with("<svg "));
    let said = firm.fails(1, &args(&["keys", "successor", "-o", "other.txt"], &kit));
    assert!(said.error().contains("named already"), "{}", said.out);
    assert_eq!(firm.ok(&["status"])["successor"], named["successor"]);
    let shown = world_call(&world, &["keys", "show", "--kit", &second]);
    assert_eq!((shown["holds"].as_str(), &shown["key"]), (Some("successor"), &named["successor"]), "{shown}");
    assert_eq!(shown["identity"].as_str(), Some(firm.identity().as_str()));

    let second_kit = with_kit(&world, &second);
    let said = firm.fails(1, &args(&["keys", "rotate", "record"], &second_kit));
    assert!(said.error().contains("not the root key"), "{}", said.out);
    let said = firm.fails(1, &args(&["keys", "inherit", "--yes"], &kit));
    assert!(said.error().contains("not the key that was named"), "{}", said.out);
    firm.ok(&args(&["keys", "inherit", "--yes"], &second_kit));
    let said = firm.fails(1, &args(&["keys", "rotate", "record"], &kit));
    assert!(said.error().contains("not the root key"), "the lost kit is worth nothing: {}", said.out);
    firm.ok(&args(&["keys", "rotate", "record"], &second_kit));
    publish(&world, &firm, "NEW", 1);
    firm.is_clean();
    for lot in ["OLD-0000", "NEW-0000"] {
        assert_eq!(verified(&world, &firm, lot).code, 0, "{lot}");
    }
}

/// A command that needs no home.
fn world_call(world: &World, verb: &[&str]) -> Value {
    Firm::at(&world.path("no such home")).ok(verb)
}

// ---- kits and words

#[test]
fn a_kit_says_whose_it_is_and_its_words_do_what_it_does() {
    let world = World::new();
    let (firm, other) = (world.firm("firm"), world.firm("other"));
    let (kit, picture) = (kit_of(&world, &firm), text(&world.path("kit.svg")));
    let shown = world_call(&world, &["keys", "show", "--kit", &kit, "--qr", &picture]);
    assert_eq!((shown["name"].as_str(), shown["holds"].as_str()), (Some("firm"), Some("root")));
    assert_eq!(shown["identity"].as_str(), Some(firm.identity().as_str()));
    assert!(std::fs::read_to_string(&picture).unwrap().starts_with("<svg "));
    let words = world_call(&world, &args(&["keys", "words"], &with_kit(&world, &kit)));
    let words: Vec<String> = words["words"].as_array().unwrap().iter().map(string).collect();
    assert_eq!(words.len(), 24);

    publish(&world, &firm, "A", 1);
    let typed = |firm: &Firm, line: &str| {
        let mut child = firm
            .command(["keys", "rotate", "record", "--words", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(typed(&firm, &format!("{}\n", words.join("\n"))).0, 0);
    firm.is_clean();
    let (code, said) = typed(&firm, &words[..23].join(" "));
    assert!(code == 2 && said.contains("24 words are needed"), "{said}");
    let mut swapped = words.clone();
    swapped.swap(0, 1);
    // One pair of words in 256 has the same checksum.
    let (code, said) = typed(&firm, &swapped.join(" "));
    assert!(code == 2 && said.contains("swapped") || code == 1 && said.contains("not the root key") || words[0] == words[1], "{said}");
    let (code, said) = typed(&other, &words.join(" "));
    assert!(code == 1 && said.contains("not the root key of other"), "{said}");
}

#[test]
fn a_wrong_kit_a_wrong_passphrase_and_a_running_node_change_nothing() {
    let world = World::new();
    let (firm, other) = (world.firm("firm"), world.firm("other"));
    publish(&world, &firm, "A", 1);
    let (kit, keys) = (kit_of(&world, &firm), ["record", "log", "witness"].map(|role| secret(&firm, role)));
    let before = firm.ok(&["keys", "show"]);
    let said = firm.fails(1, &args(&["keys", "rotate", "log"], &with_kit(&world, &kit_of(&world, &other))));
    assert!(said.error().contains("not the root key of firm") && said.hint().contains("keys show --kit"), "{}", said.out);
    let wrong = world.file("wrong.txt", "another passphrase\n");
    let said = firm.fails(11, &["keys", "rotate", "log", "--kit", &kit, "--passphrase-file", &wrong]);
    assert!(said.error().contains("wrong passphrase"), "{}", said.out);
    firm.fails(5, &["keys", "rotate", "log", "--kit", "nowhere.txt", "--passphrase-file", &wrong]);
    firm.fails(11, &["keys", "rotate", "log", "--kit", &wrong, "--passphrase-file", &wrong]);
    firm.fails(2, &["keys", "rotate", "log", "--kit", &kit]);
    firm.fails(2, &["keys", "rotate", "log"]);
    firm.fails(2, &args(&["keys", "rotate", "record", "--now"], &with_kit(&world, &kit)));
    firm.fails(2, &args(&["keys", "revoke", "log", "--from", "quality:1"], &with_kit(&world, &kit)));
    firm.start();
    let root = with_kit(&world, &kit);
    for verb in [
        &["keys", "rotate", "record"][..],
        &["keys", "rotate", "transport", "--now"],
        &["keys", "revoke", "record", "--from", "quality:1", "--yes"],
        &["keys", "successor", "-o", "second.txt"],
        &["keys", "inherit", "--yes"],
    ] {
        let said = firm.fails(6, &args(verb, &root));
        assert!(said.hint().contains("stop the node"), "{}", said.out);
    }
    firm.stop();
    assert_eq!(firm.ok(&["keys", "show"]), before);
    assert_eq!(["record", "log", "witness"].map(|role| secret(&firm, role)), keys);
    firm.is_clean();
}

// ---- the transport key

fn rules_for_two() -> String {
    let late = RULES.replace("\"oem\"", "\"late\"").replace("\"all\"\nwith", "\"late\"\nwith");
    format!("{RULES}\n{late}")
}

/// What its status says of its own transport key.
fn transport(firm: &Firm) -> Value {
    firm.ok(&["status"])["transport"].clone()
}

/// Under which peer id a firm knows a partner, and under which others it may still come.
fn known_at(firm: &Firm, partner: &str) -> (String, usize) {
    let answer = firm.ok(&["partner", "list"]);
    let row = answer["partners"].as_array().unwrap().iter().find(|row| row["name"] == partner).unwrap().clone();
    (string(&row["peer"]), row["former_peers"].as_array().unwrap().len())
}

#[test]
fn a_new_transport_key_is_used_when_every_partner_knows_it_and_the_old_one_is_nobody_then() {
    let world = World::new();
    let (supplier, oem, late) = (world.reachable_firm("supplier"), world.reachable_firm("oem"), world.firm("late"));
    for firm in [&supplier, &oem, &late] {
        firm.start();
    }
    supplier.pair("supplier", &oem, "oem");
    supplier.pair("supplier", &late, "late");
    publish(&world, &supplier, "A", 2);
    supplier.apply(&rules_for_two());
    wait_until_level(&supplier, &oem);
    wait_until_level(&supplier, &late);
    late.stop();
    supplier.stop();

    let (old, secret_of_old) = (string(&transport(&supplier)["peer"]), secret(&supplier, "transport"));
    let rotated = rotate(&world, &supplier, "transport");
    assert_eq!((&rotated["in_use"], rotated["waiting_for"].as_array().unwrap().len()), (&Value::Bool(false), 2), "{rotated}");
    let said = supplier.fails(1, &args(&["keys", "rotate", "transport"], &with_kit(&world, &kit_of(&world, &supplier))));
    assert!(said.error().contains("named already") && said.hint().contains("--now"), "{}", said.out);

    // One of two knows it: the node goes on under the old name, with both, also after a restart.
    supplier.start();
    lotline_integration::world::wait("one partner to know the new key", || {
        transport(&supplier)["waiting_for"] == serde_json::json!(["late"])
    });
    supplier.stop();
    supplier.start();
    let stands = transport(&supplier);
    assert_eq!((string(&stands["peer"]), &stands["waiting_for"]), (old.clone(), &serde_json::json!(["late"])));
    let shown = Said::of(&mut supplier.command(["status"])).out;
    assert!(shown.contains("1 of 2 partners know it; not yet: late"), "{shown}");
    assert_eq!(secret(&supplier, "transport"), secret_of_old);
    let (new, former) = known_at(&oem, "supplier");
    assert!(new != old && former == 1, "both are accepted while the old one is in use");
    publish(&world, &supplier, "B", 2);
    wait_until_level(&supplier, &oem);

    // The other comes back and learns it: the node changes its name while it runs.
    late.start();
    lotline_integration::world::wait("the new key to be used", || string(&transport(&supplier)["peer"]) == new);
    assert!(transport(&supplier)["waiting_for"].is_null());
    assert!(secret(&supplier, "transport") != secret_of_old && !supplier.path("keys/transport.next.key").exists());
    publish(&world, &supplier, "C", 2);
    for firm in [&oem, &late] {
        wait_until_level(&supplier, firm);
        assert_eq!(known_at(firm, "supplier"), (new.clone(), 0), "who comes under the old name is turned away");
    }
    supplier.stop();
    supplier.start();
    publish(&world, &supplier, "D", 1);
    wait_until_level(&supplier, &oem);
    for firm in [&supplier, &oem, &late] {
        firm.is_clean();
    }
}

#[test]
fn a_stolen_transport_key_is_replaced_at_once_and_a_carried_file_tells_partners() {
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem"));
    supplier.start();
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    publish(&world, &supplier, "A", 1);
    supplier.apply(RULES);
    wait_until_level(&supplier, &oem);
    supplier.stop();

    let old = string(&transport(&supplier)["peer"]);
    let root = with_kit(&world, &kit_of(&world, &supplier));
    let other = world.firm("other");
    rotate(&world, &supplier, "transport");
    let said = supplier.fails(1, &args(&["keys", "rotate", "transport", "--now"], &with_kit(&world, &kit_of(&world, &other))));
    assert!(said.error().contains("not the root key"), "{}", said.out);
    assert_eq!(string(&transport(&supplier)["peer"]), old, "another root changes nothing");
    assert_eq!(supplier.ok(&args(&["keys", "rotate", "transport", "--now"], &root))["in_use"], true);
    let new = string(&transport(&supplier)["peer"]);
    assert!(new != old);
    // Without a partner that has to know, a further one is used at once by itself.
    assert_eq!(rotate(&world, &other, "transport")["in_use"], true);

    supplier.start();
    publish(&world, &supplier, "B", 1);
    let file = text(&world.path("carried"));
    supplier.ok(&["carry", "--to", "oem", "-o", &file]);
    assert_eq!((oem.count("B-0000"), known_at(&oem, "supplier").0), (0, old), "the new name is unknown there");
    assert_eq!(oem.ok(&["receive", &file])["renamed"], true);
    assert_eq!((known_at(&oem, "supplier").0, &oem.ok(&["receive", &file])["renamed"]), (new.clone(), &Value::Bool(false)));
    publish(&world, &supplier, "C", 1);
    wait_until_level(&supplier, &oem);
    assert_eq!(known_at(&oem, "supplier"), (new, 0));
    supplier.is_clean();
    oem.is_clean();
}

// ---- secrets

#[test]
fn no_command_log_or_file_but_the_key_files_has_a_secret() {
    let world = World::new();
    let firm = world.firm("firm");
    publish(&world, &firm, "A", 3);
    let (kit, second) = (kit_of(&world, &firm), text(&world.path("second kit.txt")));
    let root = with_kit(&world, &kit);
    let pass = world.passphrase();
    let open = |file: &str| Kit::read(&std::fs::read_to_string(file).unwrap()).unwrap().open(PASSPHRASE).unwrap();
    // As words and as hex: the root's seed is never in the home in any form.
    let forms = |secret: &Secret| vec![secret.words().to_string(), hex_of_words(&secret.words())];
    let mut secrets = forms(&open(&kit));
    secrets.push(PASSPHRASE.to_owned());
    let working = || ["record", "log", "witness", "transport"].map(|role| secret(&firm, role));
    secrets.extend(working());
    let mut said = String::new();
    let successor = ["keys", "successor", "-o", &second, "--new-passphrase-file", &pass, "--kit-work-factor", "2"];
    let second_root = with_kit(&world, &second);
    for (at, verb) in [
        args(&["keys", "show"], &[]),
        args(&["keys", "show", "--kit", &kit], &[]),
        args(&["keys", "rotate", "record"], &root),
        args(&["keys", "rotate", "log"], &root),
        args(&["keys", "rotate", "witness"], &root),
        args(&["keys", "rotate", "transport"], &root),
        args(&["keys", "revoke", "record", "--from", "quality:2", "--yes"], &root),
        args(&successor, &root),
        args(&["keys", "inherit", "--yes"], &second_root),
        args(&["keys", "rotate", "record"], &second_root),
        args(&["keys", "rotate", "log"], &root),
        args(&["keys", "show"], &[]),
        args(&["status"], &[]),
        args(&["audit"], &[]),
    ]
    .iter()
    .enumerate()
    {
        let more: &[&str] = if at % 2 == 0 { &["--json"] } else { &[] };
        let answer = Said::of(firm.command(verb.iter().chain(more)).env("LOTLINE_LOG", "trace"));
        said.push_str(&answer.out);
        said.push_str(&answer.err);
        secrets.extend(working());
    }
    secrets.extend(forms(&open(&second)));
    firm.start();
    publish(&world, &firm, "B", 1);
    firm.stop();
    said.push_str(&firm.log());
    let current = working();
    secrets.sort();
    secrets.dedup();
    assert!(secrets.len() >= 13 && said.len() > 1000);
    let mut found = Vec::new();
    files(firm.home(), &mut found);
    for secret in &secrets {
        let bytes = lotline_schema::id::unhex(secret);
        assert!(!said.contains(secret.as_str()), "a command printed a secret");
        for path in &found {
            let content = std::fs::read(path).unwrap();
            let holds = |needle: &[u8]| content.windows(needle.len()).any(|window| window == needle);
            let has = holds(secret.as_bytes()) || bytes.as_ref().is_some_and(|bytes| holds(bytes));
            let may = current.contains(secret) && path.parent() == Some(&firm.path("keys"));
            assert!(!has || may, "{} holds a secret", path.display());
        }
    }
}

/// The seed of 24 words, in hex.
fn hex_of_words(words: &str) -> String {
    lotline_schema::id::hex(&words.parse::<bip39::Mnemonic>().unwrap().to_entropy())
}

// ---- persons

const PERSON: &str = "the person's own words";

fn add_person(world: &World, firm: &Firm, name: &str) -> (Value, String) {
    let own = world.file("person.txt", format!("{PERSON}\n"));
    let verb = ["keys", "signer", "add", name, "--function", "quality manager", "--person-passphrase-file", &own, "--kit-work-factor", "2"];
    (firm.ok(&args(&verb, &with_kit(world, &kit_of(world, firm)))), own)
}

fn rules(show: &str) -> String {
    RULES.replace("\"identity\", \"verdict\"", show)
}

#[test]
fn a_named_person_releases_and_whoever_sees_the_verdict_sees_it() {
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem"));
    publish(&world, &supplier, "A", 2);
    let (added, own) = add_person(&world, &supplier, "J. Doe");
    assert_eq!(added["entry"].as_u64(), Some(2), "{added}");
    supplier.start();
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    supplier.apply(&rules("\"identity\""));
    let release = |lot: &str| supplier.ok(&["release", lot, "--by", "J. Doe", "--passphrase-file", &own]);
    // Beside the running node, by a key that never reaches it.
    let said = release("A-0000");
    assert_eq!((said["record"].as_u64(), said["entry"].as_u64(), said["repeated"].as_bool()), (Some(1), Some(3), Some(false)), "{said}");
    assert_eq!(release("A-0000")["repeated"], true, "a second time changes nothing");
    let file = world.file("B.csv", lots_file("B", "PIN", 2));
    let said = supplier.publish(&file, &["--feed", "quality", "--release-by", "J. Doe", "--passphrase-file", &own]);
    assert_eq!(said["released"].as_array().unwrap().len(), 2, "{said}");
    wait_until_level(&supplier, &oem);
    let at_home = supplier.ok(&["show", "A-0000"]);
    assert_eq!((&at_home["released_by"][0]["name"], &at_home["released_by"][0]["entry"]), (&"J. Doe".into(), &3.into()), "{at_home}");
    let words = Said::of(&mut supplier.command(["show", "B-0001"])).out;
    assert!(words.contains("released by J. Doe (quality manager), entry 7"), "{words}");
    assert!(Said::of(&mut supplier.command(["records"])).out.contains("released by J. Doe"));
    assert_eq!(supplier.records().len(), 4, "releases are no records");
    let status = supplier.ok(&["status"]);
    let feed = status["feeds"].as_array().unwrap().iter().find(|feed| feed["own"] == true).unwrap();
    assert_eq!((feed["records"].as_u64(), feed["size"].as_u64()), (Some(4), Some(8)), "{feed}");

    // Identity alone: no verdict, no name.
    assert_eq!(oem.ok(&["show", "A-0000"])["released_by"], serde_json::json!([]));
    supplier.apply(&rules("\"identity\", \"verdict\""));
    let seen = || oem.ok(&["show", "A-0000"])["released_by"][0]["name"] == "J. Doe";
    lotline_integration::world::wait("the release to be opened later", seen);
    let ledger = supplier.ledger("oem");
    assert!(ledger.iter().any(|row| row["items"].as_array().unwrap().iter().any(|item| item["seq"] == 3)), "{ledger:?}");
    let bundle = text(&world.path("b.lotline"));
    oem.ok(&["bundle", "--lot", "A-0000", "-o", &bundle]);
    let said = world.verify(&bundle, &["--issuer", &supplier.identity()]);
    let record = &said.json["records"][0];
    assert_eq!((said.code, record["released_by"][0]["function"].as_str()), (0, Some("quality manager")), "{}", said.out);
    // From the owner, through the same door.
    let own_bundle = text(&world.path("own.lotline"));
    supplier.ok(&["bundle", "--lot", "A-0000", "--for", "oem", "-o", &own_bundle]);
    assert_eq!(world.verify(&own_bundle, &["--issuer", &supplier.identity()]).json["records"][0]["released_by"][0]["name"], "J. Doe");
    supplier.apply(&rules("\"identity\""));
    std::fs::remove_file(&own_bundle).unwrap();
    supplier.ok(&["bundle", "--lot", "A-0000", "--for", "oem", "-o", &own_bundle]);
    let said = world.verify(&own_bundle, &["--issuer", &supplier.identity()]);
    assert_eq!((said.code, &said.json["records"][0]["released_by"]), (0, &serde_json::json!([])), "{}", said.out);
    wait_until_level(&supplier, &oem);
    supplier.is_clean();
    oem.is_clean();
}

#[test]
fn only_a_named_person_with_its_own_passphrase_releases_and_an_ended_one_no_more() {
    let world = World::new();
    let firm = world.firm("firm");
    publish(&world, &firm, "A", 2);
    let (_, own) = add_person(&world, &firm, "J. Doe");
    let kit = with_kit(&world, &kit_of(&world, &firm));
    let heads = firm.heads();
    firm.fails(5, &["release", "A-0000", "--by", "Nobody", "--passphrase-file", &own]);
    firm.fails(5, &["release", "NO-LOT", "--by", "J. Doe", "--passphrase-file", &own]);
    firm.fails(11, &["release", "A-0000", "--by", "J. Doe", "--passphrase-file", &world.passphrase()]);
    firm.fails(2, &["release", "A-0000", "--by", "J. Doe"]);
    let file = world.file("N.csv", lots_file("N", "PIN", 1));
    firm.fails(11, &["publish", &file, "--feed", "quality", "--release-by", "J. Doe", "--passphrase-file", &world.passphrase()]);
    assert_eq!(firm.heads(), heads, "a wrong passphrase publishes nothing");
    let twice = ["keys", "signer", "add", "J. Doe", "--function", "intern", "--person-passphrase-file", &own];
    assert!(firm.fails(1, &args(&twice, &kit)).error().contains("releases records already"));
    firm.ok(&["release", "A-0000", "--by", "J. Doe", "--passphrase-file", &own]);

    let mut before = Vec::new();
    files(&firm.path("keys/signers"), &mut before);
    let sealed = std::fs::read(&before[0]).unwrap();
    firm.ok(&args(&["keys", "signer", "end", "J. Doe"], &kit));
    assert!(!before[0].exists());
    let listed = firm.ok(&["keys", "signer", "list"]);
    assert_eq!((listed["signers"].as_array().unwrap().len(), listed["signers"][0]["active"].as_bool()), (1, Some(false)));
    // Whoever kept a copy of the key releases nothing with it.
    std::fs::write(&before[0], sealed).unwrap();
    private(&before[0]);
    let said = firm.fails(5, &["release", "A-0001", "--by", "J. Doe", "--passphrase-file", &own]);
    assert!(said.error().contains("no more"), "{}", said.out);
    let said = verified(&world, &firm, "A-0000");
    assert_eq!((said.code, said.json["records"][0]["released_by"][0]["name"].as_str()), (0, Some("J. Doe")), "{}", said.out);
    // The name is free again, for another key.
    add_person(&world, &firm, "J. Doe");
    firm.ok(&["release", "A-0001", "--by", "J. Doe", "--passphrase-file", &own]);
    firm.is_clean();
}

// ---- whose keys

#[test]
fn what_was_checked_about_a_partner_reaches_an_auditor() {
    let world = World::new();
    let supplier = Firm::at(&world.path("supplier"));
    let kit = text(&world.path("kit of supplier.txt"));
    let (qr, pass) = (text(&world.path("init.svg")), world.passphrase());
    let init = ["init", "--name", "supplier", "--kit", &kit, "--passphrase-file", &pass, "--kit-work-factor", "2", "--qr", &qr];
    let ids = ["--id", "vat=DE123456789", "--id", "duns=123456789"];
    assert_eq!(supplier.fails(2, &[&init[..], &["--id", "nonsense"]].concat()).error(), "`nonsense` is no registered id");
    supplier.ok(&[&init[..], &ids[..]].concat());
    assert!(std::fs::read_to_string(&qr).unwrap().starts_with("<svg "));
    assert_eq!(supplier.ok(&["keys", "show"])["ids"]["VAT"], "DE123456789");
    let oem = world.reachable_firm("oem");
    supplier.start();
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    publish(&world, &supplier, "A", 1);
    supplier.apply(RULES);
    wait_until_level(&supplier, &oem);
    let listed = oem.ok(&["partner", "list"]);
    assert_eq!((&listed["partners"][0]["ids"]["DUNS"], listed["partners"][0]["vouched"].is_null()), (&"123456789".into(), true));

    oem.fails(5, &["partner", "vouch", "nobody", "--legal-name", "X", "--how", "Y"]);
    oem.fails(2, &["partner", "vouch", "supplier", "--legal-name", "two\nlines", "--how", "Y"]);
    let vouch = ["partner", "vouch", "supplier", "--legal-name", "Supplier GmbH", "--id", "vat=DE123456789", "--how", "by phone"];
    assert_eq!(oem.ok(&vouch)["number"], 0);
    assert_eq!(oem.ok(&["partner", "list"])["partners"][0]["vouched"]["legal_name"], "Supplier GmbH");
    let (bundle, bare) = (text(&world.path("b.lotline")), text(&world.path("bare.lotline")));
    oem.ok(&["bundle", "--lot", "A-0000", "-o", &bundle]);
    oem.ok(&["bundle", "--lot", "A-0000", "--without-voucher", "-o", &bare]);
    // Whoever trusts the customer knows the supplier; whoever trusts nobody does not.
    let said = world.verify(&bundle, &["--issuer", &oem.identity()]);
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(
        string(&said.json["sentence"]).contains("Supplier GmbH") && string(&said.json["sentence"]).contains("by phone"),
        "{}",
        said.out
    );
    let of_supplier = said.json["issuers"].as_array().unwrap().iter().find(|one| one["identity"] == supplier.identity().as_str()).unwrap();
    assert_eq!(of_supplier["ids"]["VAT"], "DE123456789");
    assert_eq!(world.verify(&bundle, &[]).code, 7);
    assert_eq!(world.verify(&bare, &["--issuer", &oem.identity()]).code, 7);

    // A trust file out of the partner book.
    let trust = text(&world.path("trust.toml"));
    oem.ok(&["partner", "trust-file", "-o", &trust]);
    let said = world.verify(&bare, &["--trust", &trust]);
    assert!(said.code == 0 && string(&said.json["sentence"]).contains("Supplier GmbH"), "{}", said.out);
    assert!(Said::of(&mut oem.command(["partner", "trust-file"])).out.contains("[[trust]]"));

    // After the customer's record key was rotated its vouchers hold, and the next one has a number of its own.
    oem.stop();
    rotate(&world, &oem, "record");
    assert_eq!(oem.ok(&vouch)["number"], 1);
    oem.ok(&["bundle", "--lot", "A-0000", "-o", &bundle]);
    assert_eq!(world.verify(&bundle, &["--issuer", &oem.identity()]).code, 0);

    // An association that the reader knows, and through it the supplier.
    let association = world.firm("association");
    let list = world.file(
        "members.toml",
        format!("name = \"VDZ e. V.\"\n[[member]]\nissuer = \"{}\"\nname = \"Supplier\"\nids = {{ vat = \"DE1\" }}\n", supplier.identity()),
    );
    let members = text(&world.path("members.lotline"));
    let signed = association.ok(&["members", "sign", &list, "-o", &members]);
    assert_eq!((signed["members"].as_u64(), signed["number"].as_u64()), (Some(1), Some(0)), "{signed}");
    rotate(&world, &association, "record");
    assert_eq!(association.ok(&["members", "sign", &list, "-o", &members])["number"], 1);
    let said = world.verify(&bare, &["--issuer", &association.identity(), "--members", &members]);
    assert!(said.code == 0 && string(&said.json["sentence"]).contains("member list 1"), "{}", said.out);
    let said = world.verify(&bare, &["--members", &members]);
    assert!(said.code == 7 && said.error().contains("you did not name"), "{}", said.out);
    let mut altered = std::fs::read(&members).unwrap();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    std::fs::write(&members, altered).unwrap();
    assert_eq!(world.verify(&bare, &["--issuer", &association.identity(), "--members", &members]).code, 4);
    assert_eq!(world.verify(&bare, &["--issuer", &association.identity(), "--members", &list]).code, 11);
}

#[test]
fn a_record_that_waits_for_its_release_comes_with_it() {
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem"));
    publish(&world, &supplier, "A", 4);
    let (_, own) = add_person(&world, &supplier, "J. Doe");
    supplier.start();
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    supplier.apply(&RULES.replace("until", "only = \"released\"\nuntil"));
    let release = |lot: &str| supplier.ok(&["release", lot, "--by", "J. Doe", "--passphrase-file", &own]);
    let held = || {
        let answer = oem.ok(&["records", "--last", "1000"]);
        let mut lots: Vec<String> = answer["records"].as_array().unwrap().iter().map(|record| string(&record["lot"])).collect();
        lots.sort();
        lots
    };
    wait_until_level(&supplier, &oem);
    assert!(held().is_empty(), "{:?}", held());
    let explained = Said::of(&mut supplier.command(["policy", "explain", "A-0000", "oem"])).out;
    assert!(explained.contains("`all` would, but it covers released records only"), "{explained}");

    // Live: the record and its release, each once.
    release("A-0001");
    wait_until_level(&supplier, &oem);
    assert_eq!(held(), ["A-0001"]);
    assert_eq!(oem.ok(&["show", "A-0001"])["released_by"][0]["name"], "J. Doe");
    // While the partner is away, and the node is started anew in between.
    oem.stop();
    release("A-0003");
    supplier.stop();
    supplier.start();
    release("A-0000");
    oem.start();
    wait_until_level(&supplier, &oem);
    assert_eq!(held(), ["A-0000", "A-0001", "A-0003"]);
    // Released when it is published.
    let file = world.file("B.csv", lots_file("B", "PIN", 2));
    supplier.publish(&file, &["--feed", "quality", "--release-by", "J. Doe", "--passphrase-file", &own]);
    wait_until_level(&supplier, &oem);
    assert_eq!(held().len(), 5);
    assert!(!held().contains(&"A-0002".to_owned()));
    // Nothing left twice, and never before its release.
    let mut left = std::collections::BTreeMap::<u64, u64>::new();
    for row in supplier.ledger("oem").iter().filter(|row| string(&row["origin"]).contains("/quality/")) {
        for item in row["items"].as_array().unwrap().iter().filter(|item| !item["fields"].as_array().unwrap().is_empty()) {
            *left.entry(item["seq"].as_u64().unwrap()).or_default() += 1;
        }
    }
    assert!(left.values().all(|times| *times == 1), "{left:?}");

    // Taken back: it is released no more, for whoever comes next.
    let bundle = text(&world.path("b.lotline"));
    supplier.ok(&["bundle", "--lot", "A-0003", "--for", "oem", "-o", &bundle]);
    supplier.ok(&["withdraw", "A-0003", "--reason", "wrong gauge", "--yes"]);
    std::fs::remove_file(&bundle).unwrap();
    assert_ne!(Said::of(&mut supplier.command(["bundle", "--lot", "A-0003", "--for", "oem", "-o", &bundle])).code, 0);
    wait_until_level(&supplier, &oem);
    oem.is_clean();
    supplier.is_clean();
}

#[test]
fn rules_name_the_members_of_an_association() {
    let world = World::new();
    let (supplier, association) = (world.firm("supplier"), world.firm("association"));
    let (oem, rival) = (world.reachable_firm("oem"), world.reachable_firm("rival"));
    [&supplier, &oem, &rival].iter().for_each(|firm| firm.start());
    supplier.pair("supplier", &oem, "oem");
    supplier.pair("supplier", &rival, "rival");
    publish(&world, &supplier, "A", 2);
    let members = text(&world.path("members.lotline"));
    let sign = |until: &str, on_it: &[&Firm]| {
        let entries = on_it.iter().map(|firm| format!("[[member]]\nissuer = \"{}\"\nname = \"M\"\n", firm.identity()));
        let file = world.file("members.toml", format!("name = \"VDZ\"\n{until}\n{}", entries.collect::<String>()));
        association.ok(&["members", "sign", &file, "-o", &members])
    };
    let rules = RULES.replace("\"oem\"", "\"members-of:vdz\"");
    let add = ["members", "add", &members, "--as", "vdz"];

    // A list without an end, of nobody the owner named, or under a wrong name is not kept.
    sign("", &[&oem]);
    let identity = association.identity();
    let named = [&add[..], &["--issuer", &identity]].concat();
    assert!(supplier.fails(1, &named).error().contains("does not say until when"));
    sign("until = 2099-01-01", &[&oem]);
    let said = supplier.fails(7, &add);
    assert!(said.error().contains("did not name") && said.hint().contains("--words"), "{}", said.out);
    supplier.fails(7, &[&add[..], &["--issuer", &oem.identity()]].concat());
    supplier.fails(7, &[&add[..], &["--words", "one two three four five six"]].concat());
    supplier.fails(2, &["members", "add", &members, "--as", "v d z", "--issuer", &identity]);
    let file = world.file("policy.toml", &rules);
    assert!(supplier.fails(1, &["policy", "check", &file]).error().contains("no member list is called `vdz`"));
    let words = string(&association.ok(&["status"])["identity"]);
    assert_eq!(words, identity);
    let kept = supplier.ok(&named);
    assert_eq!((kept["number"].as_u64(), kept["partners"].to_string()), (Some(1), "[\"oem\"]".into()), "{kept}");

    // Its members, and nobody else, follow what the rules show, also after a restart.
    supplier.apply(&rules);
    wait_until_level(&supplier, &oem);
    assert_eq!(oem.records().len(), 2);
    let explained = Said::of(&mut supplier.command(["policy", "explain", "A-0000", "rival"])).out;
    assert!(explained.contains("it is for the members of `vdz`"), "{explained}");
    let numbered = supplier.ok(&["policy", "show"])["version"].as_u64();
    supplier.stop();
    supplier.start();
    assert_eq!(supplier.ok(&["policy", "show"])["version"].as_u64(), numbered);
    publish(&world, &supplier, "B", 1);
    wait_until_level(&supplier, &oem);
    assert!(supplier.ok(&["audit"])["faults"].as_array().is_none_or(Vec::is_empty));

    // A newer list takes its place and needs no word again; what is in force waits for the owner.
    let older = std::fs::read(&members).unwrap();
    sign("until = 2099-01-01", &[&rival]);
    assert_eq!(supplier.ok(&add)["partners"].to_string(), "[\"rival\"]");
    let changed = "the list vdz changed since you applied: 1 member more, 1 less; lotline policy apply";
    assert!(supplier.ok(&["status"])["alarms"].as_array().unwrap().iter().any(|alarm| alarm == changed));
    assert_eq!(supplier.ok(&["policy", "check"])["lists"][0], changed);
    assert!(rival.records().is_empty());
    supplier.ok(&["policy", "apply", "--yes"]);
    wait_until_level(&supplier, &rival);
    assert_eq!(rival.records().len(), 3);
    assert!(supplier.ok(&["policy", "check"])["lists"].as_array().unwrap().is_empty());

    // An older one, another association under that name, and the same association under another.
    std::fs::write(&members, older).unwrap();
    assert!(supplier.fails(1, &add).error().contains("list 1 is older than list 2"));
    sign("until = 2099-01-01", &[&oem]);
    assert!(supplier.fails(1, &["members", "add", &members, "--as", "other", "--issuer", &identity]).error().contains("kept as `vdz`"));
    let alone = world.file("own.toml", "name = \"Us\"\nuntil = 2099-01-01\n");
    let own = text(&world.path("own.lotline"));
    oem.ok(&["members", "sign", &alone, "-o", &own]);
    assert!(supplier.fails(1, &["members", "add", &own, "--as", "vdz"]).error().contains("the list of another association"));

    assert_eq!(supplier.ok(&["members", "list"])["lists"][0]["number"], 2);
    supplier.ok(&["members", "remove", "vdz"]);
    supplier.fails(5, &["members", "remove", "vdz"]);
    assert!(supplier.ok(&["status"])["alarms"][0].as_str().unwrap().contains("the list vdz is no longer kept"));
}

#[test]
fn what_others_attest_of_the_root_key_is_added_and_shown() {
    let world = World::new();
    let firm = world.firm("firm");
    publish(&world, &firm, "A", 1);
    let kit = with_kit(&world, &kit_of(&world, &firm));
    let (seal, large, empty) =
        (world.file("root.qseal", vec![7; 32 * 1024]), world.file("scan.pdf", vec![7; 32 * 1024 + 1]), world.file("empty", ""));
    assert!(firm.fails(11, &args(&["keys", "attest", "qseal", &large], &kit)).error().contains("32769"));
    firm.fails(11, &args(&["keys", "attest", "qseal", &empty], &kit));
    firm.fails(5, &args(&["keys", "attest", "qseal", "no such file"], &kit));
    firm.fails(2, &args(&["keys", "attest", "two\nlines", &seal], &kit));
    let other = world.firm("other");
    let of_other = with_kit(&world, &kit_of(&world, &other));
    assert!(firm.fails(1, &args(&["keys", "attest", "qseal", &seal], &of_other)).error().contains("not the root key"));
    assert_eq!(firm.ok(&["keys", "show"])["attestations"], serde_json::json!([]));

    assert_eq!(firm.ok(&args(&["keys", "attest", "qseal", &seal], &kit))["entry"], 2);
    firm.ok(&args(&["keys", "attest", "rfc3161", &world.file("small", "abc")], &kit));
    let shown = firm.ok(&["keys", "show"]);
    let expected = serde_json::json!([{ "type": "qseal", "bytes": 32_768 }, { "type": "rfc3161", "bytes": 3 }]);
    assert_eq!((&shown["attestations"], shown["changes"].as_array().unwrap().len()), (&expected, 2));
    assert!(Said::of(&mut firm.command(["keys", "show"])).out.contains("attested   qseal, 32768 bytes"));
    assert_eq!(verified(&world, &firm, "A-0000").code, 0);
    firm.is_clean();
    firm.start();
    firm.fails(6, &args(&["keys", "attest", "qseal", &seal], &kit));
}

// ---- a backup from before a rotation

#[test]
fn a_home_restored_from_before_a_rotation_signs_only_with_new_keys() {
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem"));
    supplier.start();
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    publish(&world, &supplier, "OLD", 2);
    supplier.apply(RULES);
    wait_until_level(&supplier, &oem);
    let (backup, secret) = (text(&world.path("b.age")), world.passphrase());
    supplier.ok(&["backup", "-o", &backup, "--passphrase-file", &secret, "--work-factor", "2"]);
    supplier.stop();
    rotate(&world, &supplier, "record");
    rotate(&world, &supplier, "log");
    publish(&world, &supplier, "LOST", 2);
    supplier.start();
    wait_until_level(&supplier, &oem);
    supplier.stop();

    // The computer is gone: the backup knows neither the new keys nor the last two records.
    let restored = Firm::at(&world.path("restored"));
    restored.ok(&["restore", &backup, "--passphrase-file", &secret]);
    restored.start();
    let given_back = || restored.ok(&["keys", "show"])["changes"].as_array().unwrap().len() == 2;
    lotline_integration::world::wait("the org feed to be given back", given_back);
    restored.stop();
    let said = restored.fails(1, &["restore", "--confirm", "--yes"]);
    assert!(said.error().contains("not the one your org feed names") && said.hint().contains("keys rotate log"), "{}", said.out);
    let kit = with_kit(&world, &kit_of(&world, &supplier));
    let said = restored.fails(1, &args(&["keys", "rotate", "record"], &kit));
    assert!(said.hint().contains("keys rotate log"), "the log key signs the org feed's head: {}", said.out);
    restored.ok(&args(&["keys", "rotate", "log"], &kit));
    restored.ok(&args(&["keys", "rotate", "record"], &kit));
    restored.ok(&["restore", "--confirm", "--yes"]);
    publish(&world, &restored, "NEW", 2);
    restored.is_clean();
    restored.start();
    // The old life of the feed stays longer at the customer than here.
    lotline_integration::world::wait("the new life to be followed", || oem.count("NEW-0001") == 1);
    assert_eq!(oem.ok(&["audit"])["clean"], true);
    // What was lost with the computer stays good where it was received.
    for lot in ["OLD-0000", "LOST-0001", "NEW-0001"] {
        let bundle = text(&world.path(&format!("{lot}.lotline")));
        oem.ok(&["bundle", "--lot", lot, "-o", &bundle]);
        let said = world.verify(&bundle, &["--issuer", &restored.identity()]);
        assert_eq!((said.code, said.json["outcome"].as_str()), (0, Some("verified")), "{lot}: {}", said.out);
    }
}

#[test]
fn a_home_restored_from_before_a_new_transport_key_is_let_in_by_its_old_invitation() {
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem"));
    supplier.start();
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    publish(&world, &supplier, "OLD", 1);
    supplier.apply(RULES);
    wait_until_level(&supplier, &oem);
    let (backup, passphrase) = (text(&world.path("b.age")), world.passphrase());
    supplier.ok(&["backup", "-o", &backup, "--passphrase-file", &passphrase, "--work-factor", "2"]);
    supplier.stop();
    let old = string(&transport(&supplier)["peer"]);
    rotate(&world, &supplier, "transport");
    supplier.start();
    lotline_integration::world::wait("the new key to be used", || string(&transport(&supplier)["peer"]) != old);
    let lost = string(&transport(&supplier)["peer"]);
    lotline_integration::world::wait("the old name to be nobody's", || known_at(&oem, "supplier") == (lost.clone(), 0));
    supplier.stop();

    let restored = Firm::at(&world.path("restored"));
    let said = Said::of(&mut restored.command(["restore", &backup, "--passphrase-file", &passphrase])).out;
    assert!(said.contains("partner invite") && said.contains("keys rotate transport"), "{said}");
    restored.start();
    let invitation = string(&restored.ok(&["partner", "invite", "--offline"])["invitation"]);
    oem.ok(&["partner", "accept", &invitation, "--as", "supplier"]);
    assert_eq!(known_at(&oem, "supplier"), (lost, 1));
    let given_back = || restored.ok(&["keys", "show"])["changes"].as_array().is_some_and(|changes| changes.len() == 1);
    lotline_integration::world::wait("the org feed to be given back", given_back);
    restored.stop();
    restored.ok(&["restore", "--confirm", "--yes"]);
    restored.ok(&args(&["keys", "rotate", "transport"], &with_kit(&world, &kit_of(&world, &supplier))));
    publish(&world, &restored, "NEW", 1);
    restored.start();
    lotline_integration::world::wait("the new life to be followed", || oem.count("NEW-0000") == 1);
    lotline_integration::world::wait("the newest name to be the only one", || {
        let new = string(&transport(&restored)["peer"]);
        new != old && known_at(&oem, "supplier") == (new, 0)
    });
    assert_eq!(oem.ok(&["audit"])["clean"], true);
    restored.is_clean();
}
