//! `lotline share with`, `list` and `end`, and requirements of customers: rules for people who never open the file.
#![allow(clippy::unwrap_used, reason = "tests, also outside the test functions")]

use std::collections::BTreeSet;
use std::path::Path;

use lotline_integration::world::{Firm, World, lots_file, string, text, wait, wait_until_level};
use serde_json::Value;

/// A supplier with a customer, three lots for that customer and one for nobody.
fn supplier(world: &World) -> Firm {
    let (supplier, oem) = (world.firm("supplier"), world.firm("oem-a"));
    supplier.pair("supplier", &oem, "oem-a");
    publish(world, &supplier, "A", 3, &["--to", "oem-a"]);
    publish(world, &supplier, "Q", 1, &["--feed", "quality"]);
    supplier
}

fn publish(world: &World, firm: &Firm, prefix: &str, lots: usize, more: &[&str]) {
    firm.publish(&world.file(&format!("{prefix}.csv"), lots_file(prefix, "P-4711", lots)), more);
}

/// The feed that is the customer's own.
fn feed(supplier: &Firm) -> String {
    string(&supplier.ok(&["partner", "list"])["partners"][0]["feed"])
}

/// Runs `share with oem-a …`, without a question.
fn with(supplier: &Firm, template: &str, more: &[&str]) -> Value {
    supplier.ok(&[&["share", "with", "oem-a", template, "--yes"], more].concat())
}

/// The file of rules, and what is in force.
fn rules(supplier: &Firm) -> (Option<String>, Value) {
    (std::fs::read_to_string(supplier.path("policy.toml")).ok(), supplier.ok(&["policy", "show"]))
}

fn preview(supplier: &Firm) -> Vec<(String, BTreeSet<String>)> {
    let answer = supplier.ok(&["policy", "preview", "oem-a"]);
    let fields = |row: &Value| row["fields"].as_array().unwrap().iter().map(string).collect();
    let mut rows: Vec<_> = answer["records"].as_array().unwrap().iter().map(|row| (string(&row["lot"]), fields(row))).collect();
    rows.sort();
    rows
}

#[test]
fn a_share_is_written_shown_and_in_force_in_one_go() {
    let world = World::new();
    let supplier = supplier(&world);
    let answer = with(&supplier, "incoming-inspection", &["--feed", "all", "--parts", "theirs", "--until", "2027-07-01"]);
    assert_eq!((string(&answer["share"]), answer["version"].as_u64()), ("oem-a-incoming-inspection".into(), Some(1)));
    let gains = string(answer["changes"].as_array().unwrap().last().unwrap());
    assert!(gains.starts_with("until 2027-07-01 00:00 UTC, oem-a gains") && gains.contains("of 3 records in feed"), "{gains}");
    let (file, shown) = rules(&supplier);
    let file = file.unwrap();
    assert_eq!(shown["text"], file.as_str());
    let words = "oem-a sees capability, identity and verdict of all lots made for them in every feed, up to and including 2027-06-30";
    assert!(file.starts_with(&format!("# {words}. Added ")), "{file}");
    assert!(file.ends_with(
        " by lotline share\n[[share]]\nname  = \"oem-a-incoming-inspection\"\nwith  = \"oem-a\"\nfeed  = \"all\"\nparts = \"theirs\"\n\
         show  = [\"identity\", \"verdict\", \"capability\"]\nuntil = 2027-07-01\n"
    ));
    assert_eq!(supplier.ok(&["policy", "check"])["shares"], 1);
    let listed = supplier.ok(&["share", "list"]);
    assert_eq!((string(&listed["shares"][0]["words"]), listed["shares"][0]["over"].as_bool()), (words.into(), Some(false)));
    let seen = preview(&supplier);
    assert_eq!(seen.iter().map(|(lot, _)| lot.as_str()).collect::<Vec<_>>(), ["A-0000", "A-0001", "A-0002"]);
    assert!(seen[0].1.contains("verdict_recomputed") && !seen[0].1.iter().any(|field| field.contains("values")), "{seen:?}");

    // A second one of the same template has a name of its own; both end, and the file is what it was.
    let second = with(&supplier, "incoming-inspection", &["--feed", "quality", "--parts", "P-4711", "--until", "revoked"]);
    assert_eq!(second["share"], "oem-a-incoming-inspection-2");
    assert_eq!(preview(&supplier).len(), 4);
    let ended = supplier.ok(&["share", "end", "oem-a-incoming-inspection-2", "--yes"]);
    let loses = string(ended["changes"].as_array().unwrap().last().unwrap());
    assert!(loses.starts_with("oem-a loses") && loses.contains("of 1 record in feed quality"), "{loses}");
    assert_eq!(rules(&supplier).0.as_deref(), Some(file.as_str()));
    supplier.ok(&["share", "end", "oem-a-incoming-inspection", "--yes"]);
    assert_eq!(rules(&supplier).0.as_deref(), Some(""));
    assert_eq!(preview(&supplier), []);
}

#[test]
fn each_template_passes_the_check_and_stands_in_the_manual_as_it_is_written() {
    let world = World::new();
    let supplier = supplier(&world);
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.md")).unwrap();
    publish(&world, &supplier, "L", 1, &["--feed", "quality"]);
    let part = ["--feed", "quality", "--parts", "P-4711"];
    let cases: [(&str, &[&str]); 6] = [
        ("incoming-inspection", &["--until", "2027-07-01"]),
        ("first-article", &["--lots", "L-0000", "--until", "2027-03-01"]),
        ("non-conforming", &["--until", "revoked"]),
        ("audit-window", &["--from", "2026-12-01", "--until", "2026-12-13"]),
        ("delayed", &["--delay", "24h", "--until", "revoked"]),
        ("special-characteristics", &["--until", "revoked"]),
    ];
    for (template, more) in cases {
        let answer = with(&supplier, template, &[&part[..], more].concat());
        let rule = string(&answer["rule"]).replace("L-0000", "L-2026-11");
        assert!(page.contains(&rule), "docs/policy.md does not show what `{template}` makes:\n{rule}");
        assert!(!rule.contains("inspector") && !rule.contains("commercial") && !rule.contains("everything"), "{rule}");
    }
    assert_eq!(supplier.ok(&["policy", "check"])["shares"], 6);
    let fields: BTreeSet<String> = preview(&supplier).into_iter().flat_map(|(_, fields)| fields).collect();
    assert!(!fields.contains("inspector") && !fields.contains("commercial"), "{fields:?}");
}

#[test]
fn what_is_refused_or_only_looked_at_changes_neither_file_nor_store() {
    let world = World::new();
    let supplier = supplier(&world);
    let rest = "# by hand, kept\n[[never]]\nname='no-values'\nwith = \"oem-a\"\nshow = [ \"measurements\" ]   # never";
    supplier.apply(rest);
    let before = rules(&supplier);
    let complete = ["--feed", "quality", "--parts", "all", "--until", "revoked"];
    let said = |args: &[&str], code: i32, words: &str| {
        let said = supplier.fails(code, &[&["share"], args].concat());
        assert!(said.error().contains(words), "{args:?}: {}", said.error());
        assert_eq!(rules(&supplier), before, "{args:?}");
        said
    };
    let refused = |args: &[&str], words: &str| drop(said(&[&["with"], args].concat(), 2, words));
    refused(&["oem-aa", "incoming-inspection"], "did you mean `oem-a`?");
    refused(&["oem-a", "incoming"], "no template is called `incoming`");
    refused(&["oem-a", "non-conformin"], "did you mean `non-conforming`?");
    refused(&["oem-a", "delayed", "--feed", "qualty"], "did you mean `quality`?");
    refused(&["oem-a", "delayed", "--feed", "quality", "--parts", "P-4712"], "did you mean `P-4711`?");
    refused(&["oem-a", "first-article", "--feed", "quality", "--parts", "all"], "--lots is missing");
    refused(&["oem-a", "first-article", "--feed", "quality", "--parts", "all", "--lots", "A-000"], "did you mean `A-0000`?");
    refused(&["oem-a", "audit-window", "--feed", "quality", "--parts", "all"], "--from is missing");
    let audit = ["oem-a", "audit-window", "--feed", "quality", "--parts", "all", "--from", "2026-12-01", "--until"];
    refused(&[&audit[..], &["revoked"]].concat(), "--until is a day, and `revoked` is none");
    refused(&[&audit[..], &["2026-11-30"]].concat(), "would end (2026-11-30) before it begins");
    refused(&["oem-a", "incoming-inspection", "--feed", "quality", "--parts", "all", "--until", "1.7.2027"], "`1.7.2027` is none");
    refused(&[&["oem-a", "incoming-inspection", "--delay", "24h"], &complete[..]].concat(), "belongs to the template `delayed`");
    // A share that a ban takes back whole.
    said(&[&["with", "oem-a", "first-article", "--yes", "--lots", "A-0000"], &complete[..]].concat(), 1, "which `no-values` forbids");
    // Nobody said yes.
    let asked = said(&[&["with", "oem-a", "incoming-inspection"], &complete[..]].concat(), 1, "not confirmed");
    assert!(asked.hint().contains("--yes"));
    said(&["end", "no-value"], 5, "no share is called `no-value`");
    assert!(said(&["end", "no-values"], 5, "no share is called").hint().contains("ban"));

    // A dry run says all and does nothing.
    let dry = supplier.ok(&[&["share", "with", "oem-a", "incoming-inspection", "--dry-run"], &complete[..]].concat());
    let gains = string(dry["changes"].as_array().unwrap().last().unwrap());
    assert!(dry["dry_run"] == true && gains.starts_with("oem-a gains") && gains.contains("of 1 record in feed"), "{dry}");
    assert_eq!(rules(&supplier), before);

    // What is there stays byte for byte, also without a line end at its end.
    with(&supplier, "incoming-inspection", &complete);
    let added = rules(&supplier).0.unwrap();
    assert!(added.starts_with(&format!("{rest}\n\n# oem-a sees")), "{added}");
    assert_eq!(supplier.ok(&["share", "list"])["nevers"][0]["name"], "no-values");

    // Edits that nobody applied are not applied on the way.
    std::fs::write(supplier.path("policy.toml"), added.replace("measurements", "process")).unwrap();
    let before = rules(&supplier);
    let said = supplier.fails(2, &[&["share", "with", "oem-a", "incoming-inspection", "--yes"], &complete[..]].concat());
    assert!(said.error().contains("edits that are not in force"), "{}", said.error());
    supplier.fails(2, &["share", "end", "oem-a-incoming-inspection", "--yes"]);
    assert_eq!(rules(&supplier), before);
}

#[test]
fn beside_a_running_node_flags_say_everything() {
    let world = World::new();
    let supplier = supplier(&world);
    supplier.start();
    let own = feed(&supplier);
    let said = supplier.fails(2, &["share", "with", "oem-a", "incoming-inspection"]);
    assert!(said.error().contains("--feed is missing") && said.hint().contains(&own), "{} {}", said.error(), said.hint());
    let complete = ["share", "with", "oem-a", "incoming-inspection", "--feed", &own, "--parts", "theirs", "--until", "revoked"];
    let said = supplier.fails(2, &complete);
    assert!(said.error().contains("oem-a gains") && said.error().contains("of 3 records in feed"), "{}", said.error());
    supplier.ok(&[&complete[..], &["--yes"]].concat());
    assert_eq!(preview(&supplier).len(), 3);
    let said = supplier.fails(2, &["share", "end", "oem-a-incoming-inspection"]);
    assert!(said.error().contains("oem-a loses") && said.error().contains("of 3 records in feed"), "{}", said.error());
    supplier.ok(&["share", "end", "oem-a-incoming-inspection", "--yes"]);
    assert_eq!(preview(&supplier).len(), 0);
    supplier.stop();
    supplier.is_clean();
}

// ---- requirements of customers

const REQUIREMENTS: &str = r#"
to = "supplier"

[[requirement]]
name = "incoming"
parts = ["P-4711"]
kinds = ["inspection"]
show = ["identity", "verdict", "capability", "commercial"]
purpose = "incoming inspection"
deadline = "each lot within 5d"

[[requirement]]
name = "process"
show = ["process"]
purpose = "process audit"

[[requirement]]
name = "values"
parts = ["P-4711"]
show = ["identity", "measurements"]
purpose = "capability studies"
deadline = 2026-11-20
"#;

const BAN: &str = "[[never]]\nname = \"no-capability\"\nwith = \"oem-a\"\nshow = [\"capability\"]\n";

/// A supplier and a customer who follows it, with the customer's signed requirements in a file.
fn asked(world: &World) -> (Firm, Firm, String) {
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem-a"));
    supplier.pair("supplier", &oem, "oem-a");
    publish(world, &supplier, "A", 2, &["--to", "oem-a"]);
    let file = text(&world.path("requirements.lotline"));
    let signed = oem.ok(&["request", "sign", &world.file("requirements.toml", REQUIREMENTS), "-o", &file]);
    assert_eq!((signed["number"].as_u64(), signed["requirements"].as_u64()), (Some(1), Some(3)));
    (supplier, oem, file)
}

fn states(customer: &Firm) -> Vec<(String, String, u64)> {
    let answer = customer.ok(&["request", "status"]);
    let rows = answer["requirements"].as_array().unwrap().iter();
    rows.map(|row| (string(&row["name"]), string(&row["state"]), row["records"].as_u64().unwrap())).collect()
}

fn state(name: &str, state: &str, records: u64) -> (String, String, u64) {
    (name.into(), state.into(), records)
}

#[test]
fn requirements_are_signed_answered_and_met() {
    let world = World::new();
    let (supplier, oem, file) = asked(&world);
    supplier.apply(BAN);
    // Nothing came yet: what had a day that is over is late.
    assert_eq!(states(&oem), [state("incoming", "open", 0), state("process", "open", 0), state("values", "late", 0)]);

    let before = rules(&supplier);
    let shown = supplier.ok(&["request", "answer", &file]);
    assert_eq!((shown["from"].as_str(), shown["requirements"][0]["shared"].as_u64()), (Some("oem-a"), Some(0)));
    assert_eq!(shown["requirements"][0]["records"], 2);
    assert_eq!(rules(&supplier), before);

    let reply = text(&world.path("answer.lotline"));
    let complete = ["request", "answer", &file, "--share", "incoming", "--decline", "process=not agreed", "--trim", "values=identity"];
    let how = ["--feed", "all", "--until", "2027-07-01", "-o", &reply];
    assert!(supplier.fails(1, &[&complete[..], &how].concat()).error().contains("not confirmed"));
    assert!(!Path::new(&reply).exists());
    supplier.ok(&[&complete[..], &how, &["--dry-run"]].concat());
    assert!(!Path::new(&reply).exists());
    assert_eq!(rules(&supplier), before);
    supplier.ok(&[&complete[..], &how, &["--yes"]].concat());
    // The ban took capability back, and commercial data is in no plain yes.
    let now = rules(&supplier).0.unwrap();
    assert!(now.starts_with(BAN) && now.contains("name  = \"oem-a-incoming\"\n"), "{now}");
    assert!(now.contains("show  = [\"identity\", \"verdict\"]\n") && now.contains("show  = [\"identity\"]\n"), "{now}");
    let listed = supplier.ok(&["share", "list"]);
    assert_eq!(listed["shares"].as_array().unwrap().len(), 2);

    let kept = oem.ok(&["request", "take", &reply]);
    assert_eq!((kept["shared"].as_u64(), kept["declined"].as_u64()), (Some(2), Some(1)));
    oem.start();
    supplier.start();
    wait_until_level(&supplier, &oem);
    wait("the records to be there", || states(&oem)[0].2 == 2);
    assert_eq!(states(&oem), [state("incoming", "met", 2), state("process", "declined", 0), state("values", "met", 2)]);
    let shared = supplier.ok(&["request", "answer", &file])["requirements"][2]["shared"].clone();
    assert_eq!(shared, 0, "measurements are not shared");
    supplier.stop();
    oem.stop();
    supplier.is_clean();
    oem.is_clean();
}

#[test]
fn requests_and_answers_go_over_the_network_by_themselves() {
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.reachable_firm("oem-a"));
    supplier.pair("supplier", &oem, "oem-a");
    publish(&world, &supplier, "A", 2, &["--to", "oem-a"]);
    let wanted = world.file("requirements.toml", REQUIREMENTS);
    // One that was signed before the nodes ran, and one beside a running node.
    oem.ok(&["request", "sign", &wanted]);
    oem.start();
    supplier.start();
    let number = || supplier.ok(&["request", "status"])["asked"][0]["request"].as_u64();
    wait("the request to come", || number() == Some(1));
    let alarms = supplier.ok(&["status"])["alarms"].to_string();
    assert!(alarms.contains("oem-a asks to be shown something: lotline request answer --from oem-a"), "{alarms}");
    oem.ok(&["request", "sign", &wanted]);
    wait("the newer request to take its place", || number() == Some(2));

    // Nothing is shared by a request, and the one that waits is found without a name.
    assert_eq!(preview(&supplier), []);
    assert_eq!(supplier.ok(&["request", "answer"])["number"], 2);
    let decided =
        ["--from", "oem-a", "--trim", "incoming=identity,verdict", "--decline", "process=not agreed", "--decline", "values=never"];
    supplier.ok(&[&["request", "answer"], &decided[..], &["--feed", "all", "--until", "2027-07-01", "--yes"]].concat());
    assert!(!supplier.ok(&["status"])["alarms"].to_string().contains("asks to be shown"));
    wait("the answer and the records", || states(&oem).first() == Some(&state("incoming", "met", 2)));
    assert_eq!(states(&oem)[1..], [state("process", "declined", 0), state("values", "declined", 0)]);
    let words = |row: &Value| (string(&row["name"]), string(&row["state"]));
    let asked = supplier.ok(&["request", "status"])["asked"].as_array().unwrap().iter().map(words).collect::<Vec<_>>();
    let expected = [("incoming", "shared"), ("process", "declined"), ("values", "declined")];
    assert_eq!(asked, expected.map(|(name, state)| (name.into(), state.into())));
    supplier.fails(5, &["request", "answer"]);

    // A second thought takes the place of the first, also when the customer was away.
    oem.stop();
    let again =
        ["request", "answer", "--from", "oem-a", "--decline", "incoming=no more", "--decline", "process=no", "--decline", "values=no"];
    supplier.ok(&again);
    supplier.stop();
    supplier.start();
    oem.start();
    wait("the second answer", || states(&oem)[0].1 == "declined");
    supplier.stop();
    oem.stop();
    supplier.is_clean();
    oem.is_clean();
}

#[test]
fn requests_of_others_and_hostile_files_are_refused() {
    let world = World::new();
    let (supplier, oem, file) = asked(&world);
    let before = rules(&supplier);
    let bytes = std::fs::read(&file).unwrap();
    // Damaged at any place, cut, enlarged, something else.
    for at in (0..bytes.len()).step_by(bytes.len() / 8) {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        let code = supplier.call(&["request", "answer", &world.file("altered", altered)]).code;
        assert!([4, 11].contains(&code), "byte {at}: {code}");
    }
    supplier.fails(11, &["request", "answer", &world.file("cut", &bytes[..bytes.len() / 2])]);
    supplier.fails(11, &["request", "answer", &world.file("large", vec![0; 4 * 1024 * 1024 + 1])]);
    supplier.fails(11, &["request", "answer", &world.file("toml", REQUIREMENTS)]);
    supplier.fails(5, &["request", "answer", &text(&world.path("none"))]);
    // Of somebody we have not paired with, or for somebody else.
    let stranger = world.firm("stranger");
    let said = stranger.fails(7, &["request", "answer", &file]);
    assert!(said.error().contains("no partner of yours"), "{}", said.error());
    stranger.ok(&["partner", "accept", &oem.invitation(), "--as", "oem-a"]);
    assert!(stranger.fails(3, &["request", "answer", &file]).error().contains("for somebody else"));
    // The wrong way round.
    assert!(oem.fails(7, &["request", "take", &file]).error().contains("no partner of yours"));
    // Decisions that do not fit the request.
    let refused = |flags: &[&str], words: &str| {
        let said = supplier.call(&[&["request", "answer", &file], flags].concat());
        assert!(said.code != 0 && said.error().contains(words), "{flags:?}: {} {}", said.code, said.error());
    };
    refused(&["--share", "incomin"], "did you mean `incoming`?");
    refused(&["--share", "incoming", "--decline", "incoming=no"], "decided twice");
    refused(&["--share", "incoming"], "nothing is decided about `process`");
    refused(&["--decline", "incoming"], "does not say which requirement");
    let rest = ["--decline", "process=no", "--decline", "values=no", "--feed", "all", "--until", "revoked", "-o", "never.lotline"];
    refused(&[&["--trim", "incoming=defects"], &rest[..]].concat(), "does not ask for `defects`");
    assert_eq!(rules(&supplier), before);

    // Declining all shares nothing, and an answer to another home's request is refused.
    let reply = text(&world.path("no.lotline"));
    let all = ["--decline", "incoming=no", "--decline", "process=no", "--decline", "values=no", "-o", &reply];
    supplier.ok(&[&["request", "answer", &file], &all[..]].concat());
    assert_eq!(rules(&supplier), before);
    oem.ok(&["request", "take", &reply]);
    assert_eq!(states(&oem).iter().map(|row| row.1.as_str()).collect::<Vec<_>>(), ["declined"; 3]);
    // A newer request begins anew.
    oem.ok(&["request", "sign", &world.file("requirements.toml", REQUIREMENTS), "-o", &file]);
    assert_eq!(states(&oem)[0], state("incoming", "open", 0));
}

#[test]
fn requirements_that_cannot_be_meant_are_not_signed() {
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.firm("oem-a"));
    supplier.pair("supplier", &oem, "oem-a");
    let output = text(&world.path("out.lotline"));
    let cases = [
        ("to = \"supplier\"", "to = \"suplier\"", "did you mean `supplier`?"),
        ("\"process\"]", "\"proces\"]", "did you mean `process`?"),
        ("\"inspection\"]", "\"inspektion\"]", "no kind of record is called `inspektion`"),
        ("name = \"values\"", "name = \"process\"", "two have one name"),
        ("within 5d", "within five days", "`deadline` is a day without quotes"),
        ("2026-11-20", "\"2026-11-20\"", "`deadline` is a day without quotes"),
        ("purpose = \"process audit\"", "porpoise = 1", "porpoise"),
        ("show = [\"process\"]", "show = []", "is empty"),
    ];
    for (right, wrong, words) in cases {
        let file = world.file("wrong.toml", REQUIREMENTS.replacen(right, wrong, 1));
        let said = oem.fails(2, &["request", "sign", &file, "-o", &output]);
        assert!(said.error().contains(words), "{wrong}: {}", said.error());
    }
    assert!(!Path::new(&output).exists());
    assert_eq!(states(&oem), []);
}
