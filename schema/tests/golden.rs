//! Our own golden vectors: rebuilt from fixed seeds byte for byte, verified from the file alone, and shown in
//! `docs/wire.md`. A vector file is added, never edited: `LOTLINE_VECTORS=write` writes one that is missing.
#![allow(clippy::unwrap_used)] // tests

mod common;

use common::{
    Filler, NOW, RECORDED_AT, World, at, bytes, inspection, key_json, laid_out, rebuilt, report, set, slot, statement_json, vectors,
};
use ed25519_dalek::VerifyingKey;
use lotline_schema::bundle::Bundle;
use lotline_schema::codec::{self, Value};
use lotline_schema::cose::{Sign1, Signer};
use lotline_schema::id::{Hash, Origin, PartyId, hex, strong_key, thumbprint, unhex};
use lotline_schema::kind::inspection::{Inspection, SCHEMA};
use lotline_schema::note::{self, Checkpoint, InclusionProof};
use lotline_schema::org::{Org, read_first};
use lotline_schema::slot::{Disclosure, SlotError, Slots};
use lotline_schema::statement::{Body, Unverified};
use lotline_schema::tree;
use lotline_schema::verify::{Outcome, Trust, TrustedRoot, verify};
use lotline_schema::view::{Expected, Package, SealedView};
use serde_json::{Value as Json, json};

const NAME: &str = "lotline-1.json";
const DOCUMENT: &str = include_str!("../../docs/wire.md");
/// The slots the example view shows.
const SHOWN: [&str; 4] = ["part", "lot", "sample", "verdict_recomputed"];

fn shown(at: usize) -> bool {
    SHOWN.iter().any(|name| slot(name) == at)
}

fn file() -> Json {
    vectors(NAME)
}

// ---- rebuild ----

fn built() -> Json {
    let world = World::with_one();
    let mut filler = Filler::new("lotline vectors 1");
    let mut first = [0; 64];
    filler.fill(&mut first);
    let sealed = world.sealed(1);
    let disclosures: Vec<Json> = sealed
        .disclosures
        .iter()
        .zip(SCHEMA.fields)
        .enumerate()
        .map(|(at, (one, field))| json!({"slot": at, "name": field.name, "bytes": hex(one.bytes()), "digest": one.digest().to_string()}))
        .collect();
    let view = world.view(1, shown);
    let bundle = first_version(&world, vec![world.package(1, shown)]).to_bytes();
    let package = codec::decode(&bundle).unwrap();
    let package = codec::as_array(&codec::as_map(&package).unwrap()[&codec::int(3)]).unwrap()[0].clone();
    json!({
        "note": "Lotline wire format, version 1: docs/wire.md. Keys are 32 repeated bytes; random bytes are SHA-256(label || counter as 8 bytes, big endian), block after block.",
        "filler": {"label": "lotline vectors 1", "first_64_bytes": hex(&first)},
        "now": NOW,
        "recorded_at": RECORDED_AT,
        "keys": {
            "root": key_json(0x11, &world.root),
            "record": key_json(0x12, &world.record),
            "log": key_json(0x13, &world.log),
            "witness": key_json(0x14, &world.witness),
            "transport": key_json(0x15, &world.transport),
        },
        "party": {"did": world.party.to_string(), "key_text": world.party.key_text(), "six_words": world.party.six_words()},
        "origins": {"org": Origin::org(world.party).to_string(), "feed": world.origin.to_string()},
        "vkeys": {
            "org": note::vkey(&Origin::org(world.party).to_string(), &world.log.public()),
            "feed": note::vkey(&world.origin.to_string(), &world.log.public()),
        },
        "schema": {"name": SCHEMA.name, "version": SCHEMA.version, "hash": SCHEMA.hash().to_string()},
        "org_feed": world.org.entries().iter().map(|core| statement_json(core)).collect::<Vec<_>>(),
        "org_checkpoint": world.org_checkpoint(),
        "feed_first": statement_json(&world.first.core),
        "record": statement_json(&sealed.core),
        "disclosures": disclosures,
        "view": {"shown": SHOWN, "disclosures": view.disclosures.iter().map(|one| hex(one.bytes())).collect::<Vec<_>>()},
        "tree": {"leaves": world.leaves.iter().map(Hash::to_string).collect::<Vec<_>>(), "root": world.tree().root(2).to_string()},
        "checkpoint": world.checkpoint(2).sign(&world.log),
        "proof": world.proof(1, 2).to_text(),
        "package": hex(&codec::encode(&package)),
        "bundle": hex(&bundle),
        "negative": negative(&world),
    })
}

/// What must be refused. The words are not pinned, the exit codes are.
fn negative(world: &World) -> Json {
    let sign1 = Sign1::read(&world.sealed(1).core).unwrap();
    let core = |name: &str, core: Vec<u8>| {
        assert!(Unverified::read(&core).is_err(), "{name}");
        json!({"name": name, "core": hex(&core)})
    };
    let header = |name: &str, change: &dyn Fn(&mut Value)| core(name, world.resigned(1, |header, _| change(header)));
    let claims = |name: &str, change: &dyn Fn(&mut Value)| core(name, world.resigned(1, |_, payload| change(payload)));
    let slots = |change: fn(&mut Vec<Value>)| {
        move |payload: &mut Value| {
            let Value::Map(entries) = payload else { panic!("a map") };
            let Value::Array(slots) = entries.get_mut(&codec::int(-65802)).unwrap() else { panic!("an array") };
            change(slots);
        }
    };
    let kid = codec::map([(4, codec::bytes(world.record.kid().0))]);
    let flipped = [&sign1.protected[..1], &[0x18, 0xaa, 0x2f], &sign1.protected[1..sign1.protected.len() - 3]].concat();
    let cores = vec![
        header("algorithm EdDSA (-8)", &|header| set(header, 1, codec::int(-8))),
        header("type of another statement", &|header| set(header, 16, codec::text("application/x.lotline.org+cwt"))),
        header("critical header", &|header| set(header, 2, codec::array([codec::int(1)]))),
        claims("exact time in the clear", &|payload| set(payload, 6, codec::uint(NOW))),
        claims("unknown claim", &|payload| set(payload, -65807, codec::int(0))),
        claims("other subject than the header", &|payload| set(payload, 2, codec::text("urn:uuid:00000000-0000-4000-8000-000000000000"))),
        claims(
            "slot with two digests",
            &slots(|slots| {
                let Value::Array(other) = slots[1].clone() else { panic!("a slot") };
                let Value::Array(first) = &mut slots[0] else { panic!("a slot") };
                first.extend(other);
            }),
        ),
        claims("empty slot", &slots(|slots| slots[0] = codec::array([]))),
        claims("clear slot", &slots(|slots| slots[0] = codec::array([codec::text("4711-A")]))),
        claims("one digest in two slots", &slots(|slots| slots[1] = slots[0].clone())),
        core("key id in both headers", laid_out(true, &sign1.protected, &kid, &sign1.payload, &sign1.signature)),
        core("no tag", laid_out(false, &sign1.protected, &codec::map([]), &sign1.payload, &sign1.signature)),
        core("header out of order", lotline_schema::cose::sign(&world.record, &flipped, &sign1.payload)),
        core("a byte behind", [&world.sealed(1).core[..], &[0]].concat()),
    ];
    json!({"cores": cores, "disclosures": negative_disclosures(), "checkpoints": negative_checkpoints(world), "bundles": negative_bundles(world)})
}

fn negative_disclosures() -> Json {
    let salt = "5007070707070707070707070707070707";
    let all = [
        ("three parts", format!("83{salt}05636b6579")),
        ("no salt", "80".into()),
        ("short salt", "824f07070707070707070707070707070705".into()),
        ("a float", format!("82{salt}f93c00")),
        ("a longer integer", format!("82{salt}1805")),
        ("a redacted item inside", format!("82{salt}81d83c5820{}", "00".repeat(32))),
        ("an indefinite array", format!("9f{salt}05ff")),
        ("a bignum", format!("82{salt}c24101")),
    ];
    let one = |(name, text): (&str, String)| json!({"name": name, "bytes": text});
    Json::Array(all.into_iter().map(one).collect())
}

fn negative_checkpoints(world: &World) -> Json {
    let note = world.checkpoint(2).sign(&world.log);
    let other = world.checkpoint(2).sign(&Signer::from_seed(&[0x77; 32]));
    let dash = note.find('\u{2014}').unwrap();
    let all = [
        ("signed by the record key", world.checkpoint(2).sign(&world.record)),
        ("a second signature line", format!("{note}{}", &other[other.find('\u{2014}').unwrap()..])),
        ("an extension line", format!("{}extension\n{}", &note[..dash - 1], &note[dash - 1..])),
        ("another size", note.replacen("\n2\n", "\n3\n", 1)),
        ("a size with a leading zero", note.replacen("\n2\n", "\n02\n", 1)),
        ("a hyphen for the dash", note.replacen('\u{2014}', "-", 1)),
        ("no last newline", note.trim_end().to_owned()),
    ];
    let one = |(name, text): (&str, String)| json!({"name": name, "note": text});
    Json::Array(all.into_iter().map(one).collect())
}

/// These vectors are of version 1, which is read for good.
fn first_version(world: &World, packages: Vec<Package>) -> Bundle {
    Bundle { first_version: true, ..world.bundle_of(packages) }
}

fn negative_bundles(world: &World) -> Json {
    let good = first_version(world, vec![world.package(1, shown)]).to_bytes();
    let altered = |from: &[u8]| {
        let mut altered = good.clone();
        let at = good.windows(from.len()).position(|window| window == from).unwrap();
        altered[at + from.len() - 1] ^= 1;
        altered
    };
    let value = |change: &dyn Fn(&mut Value)| {
        let mut value = codec::decode(&good).unwrap();
        change(&mut value);
        codec::encode(&value)
    };
    let mut relabelled = world.package(1, shown);
    relabelled.proof = InclusionProof { index: 0, ..world.proof(1, 2) }.to_text();
    let mut double = World::founded(0x51, "Muster GmbH");
    double.publish(&inspection().check(RECORDED_AT).unwrap());
    let mut withdrawn = World::with_one();
    withdrawn.withdraw(1, "wrong gauge");
    let mut twice = World::with_one();
    twice.publish(&Inspection { remarks: None, ..inspection() }.check(RECORDED_AT).unwrap());
    let identity = ["part", "revision", "lot", "operation", "reason", "sample", "role"].map(slot);
    let identity = |at: usize| identity.contains(&at);
    let all = [
        ("one letter of the lot altered", altered(b"L-2026-081")),
        ("one bit of a digest altered", altered(&world.sealed(1).disclosures[0].digest().0)),
        ("proof relabelled to another index", first_version(world, vec![relabelled]).to_bytes()),
        ("unknown part", value(&|bundle| set(bundle, 4, Value::Null))),
        ("signed again, whole, by a double of the same name", first_version(&double, vec![double.package(1, shown)]).to_bytes()),
        ("withdrawn", first_version(&withdrawn, vec![withdrawn.package(1, shown)]).to_bytes()),
        (
            "two live records of one inspection",
            first_version(&twice, vec![twice.package(1, identity), twice.package(2, identity)]).to_bytes(),
        ),
        ("not a bundle", b"PK\x03\x04".to_vec()),
    ];
    let one = |(name, bytes): (&str, Vec<u8>)| json!({"name": name, "bundle": hex(&bytes), "exit_code": verify(&bytes, &world.trust()).outcome.exit_code()});
    Json::Array(all.into_iter().map(one).collect())
}

#[test]
fn the_vectors_are_rebuilt_byte_for_byte() {
    rebuilt(NAME, built());
}

// ---- verify from the file alone ----

#[test]
fn the_vectors_verify_from_the_file_alone() {
    let file = file();
    let key = |name: &str| strong_key(&bytes(&file, &format!("/keys/{name}/public"))).unwrap();
    for name in ["root", "record", "log", "witness", "transport"] {
        let seed: [u8; 32] = bytes(&file, &format!("/keys/{name}/seed")).try_into().unwrap();
        assert_eq!(Signer::from_seed(&seed).public(), key(name));
        assert_eq!(thumbprint(&key(name)).to_string(), at(&file, &format!("/keys/{name}/thumbprint")));
    }
    let party: PartyId = at(&file, "/party/did").parse().unwrap();
    assert_eq!((party.root(), party.six_words().as_str()), (key("root"), at(&file, "/party/six_words")));
    let origin: Origin = at(&file, "/origins/feed").parse().unwrap();
    assert_eq!((origin.party(), origin.name(), origin.n()), (party, "quality", 1));
    assert_eq!(note::read_vkey(at(&file, "/vkeys/feed")).unwrap(), (origin.to_string(), key("log")));
    // The org feed.
    let cores: Vec<Vec<u8>> = (0..2).map(|seq| bytes(&file, &format!("/org_feed/{seq}/core"))).collect();
    let org = Org::from_parts(party, cores, at(&file, "/org_checkpoint")).unwrap();
    assert_eq!((org.name(), org.size(), org.has_feed(&origin.to_string())), ("Muster GmbH", 2, true));
    // The feed's first entry and the record.
    let first = Unverified::read(&bytes(&file, "/feed_first/core")).unwrap().verify(&key("record")).unwrap();
    let Body::Entry(entry) = &first.claims().body else { panic!("an entry") };
    assert_eq!(read_first(&org, entry), Ok((2, org.frontier().root())));
    let core = bytes(&file, "/record/core");
    let record = Unverified::read(&core).unwrap().verify(&key("record")).unwrap();
    assert_eq!((record.claims().seq, record.leaf().to_string().as_str()), (1, at(&file, "/record/leaf")));
    check_slots(&file, &record.claims().body);
    // The view.
    let received = |text: &Json| Disclosure::received(unhex(text.as_str().unwrap()).unwrap());
    let disclosures = file["view"]["disclosures"].as_array().unwrap().iter().map(received).collect();
    let view = SealedView { core, disclosures }.verify(&org, Expected { origin: &origin.to_string(), seq: 1 }).unwrap();
    assert_eq!((view.text("part"), view.text("lot"), view.text("sample")), (Some("4711-A"), Some("L-2026-0815"), None));
    assert_eq!(view.hidden(), SCHEMA.fields.len() - SHOWN.len());
    check_tree(&file, &key("log"));
    // The bundle.
    let bundle = bytes(&file, "/bundle");
    let mut trust = Trust::none();
    assert_eq!(verify(&bundle, &trust).outcome, Outcome::SignerNotEstablished);
    trust.add(party, TrustedRoot { name: "Muster GmbH".into(), checked: "by telephone".into() });
    assert_eq!(verify(&bundle, &trust).outcome, Outcome::Verified);
    assert_eq!(Bundle::read(&bundle).unwrap().to_bytes(), bundle);
    assert!(hex(&bundle).contains(at(&file, "/package")));
}

fn check_slots(file: &Json, body: &Body) {
    let Body::Slots(schema, slots) = body else { panic!("slots") };
    assert!(schema.known().is_some());
    let all = file["disclosures"].as_array().unwrap();
    assert_eq!(slots.len(), all.len());
    for (number, one) in all.iter().enumerate() {
        let disclosure = Disclosure::received(unhex(one["bytes"].as_str().unwrap()).unwrap());
        assert_eq!(disclosure.digest().to_string(), one["digest"].as_str().unwrap());
        assert_eq!(slots.slot_of(&disclosure), Some(number));
        assert_eq!((one["slot"].as_u64(), one["name"].as_str()), (Some(number as u64), Some(SCHEMA.fields[number].name)));
    }
}

fn check_tree(file: &Json, log: &VerifyingKey) {
    let checkpoint = Checkpoint::open(at(file, "/checkpoint"), log).unwrap();
    assert_eq!((checkpoint.size, checkpoint.root.to_string().as_str()), (2, at(file, "/tree/root")));
    let leaf: Hash = at(file, "/record/leaf").parse().unwrap();
    assert_eq!(at(file, "/tree/leaves/1"), at(file, "/record/leaf"));
    assert_eq!(at(file, "/tree/leaves/0"), at(file, "/feed_first/leaf"));
    let proof = InclusionProof::read(at(file, "/proof")).unwrap();
    assert_eq!(proof.checkpoint, at(file, "/checkpoint"));
    assert_eq!(tree::verify_inclusion(&leaf, proof.index, checkpoint.size, &proof.path, &checkpoint.root), Ok(()));
}

#[test]
fn the_negative_vectors_are_refused_from_the_file_alone() {
    let file = file();
    let list = |name: &str| file["negative"][name].as_array().unwrap().clone();
    let text = |one: &Json, name: &str| one[name].as_str().unwrap().to_owned();
    for one in list("cores") {
        assert!(Unverified::read(&unhex(&text(&one, "core")).unwrap()).is_err(), "{}", one["name"]);
    }
    for one in list("disclosures") {
        let disclosure = Disclosure::received(unhex(&text(&one, "bytes")).unwrap());
        let slots = Slots::of(std::slice::from_ref(&disclosure));
        assert!(matches!(slots.open(&[disclosure]), Err(SlotError::Form(_))), "{}", one["name"]);
    }
    let log = strong_key(&bytes(&file, "/keys/log/public")).unwrap();
    for one in list("checkpoints") {
        assert!(Checkpoint::open(&text(&one, "note"), &log).is_err(), "{}", one["name"]);
    }
    let mut trust = Trust::none();
    trust.add(at(&file, "/party/did").parse().unwrap(), TrustedRoot { name: "Muster GmbH".into(), checked: "by telephone".into() });
    let mut codes = Vec::new();
    for one in list("bundles") {
        let found = verify(&unhex(&text(&one, "bundle")).unwrap(), &trust);
        assert_eq!(Some(found.outcome.exit_code().into()), one["exit_code"].as_u64(), "{}: {}", one["name"], found.sentence());
        codes.push(found.outcome.exit_code());
    }
    assert_eq!(codes, [4, 4, 4, 4, 7, 8, 10, 11]);
    eprintln!(
        "negative vectors: {} statements, {} disclosures, {} checkpoints, {} bundles",
        list("cores").len(),
        list("disclosures").len(),
        list("checkpoints").len(),
        codes.len()
    );
}

// ---- the document ----

/// Blocks ```` ```wire /json/pointer ```` are cut from the vectors of version 1, with `2:` before the pointer from those of
/// version 2, with `3:` from those of terms: what stands before `;` is hex of the vector, `…` leaves bytes out.
#[test]
fn the_document_shows_the_vectors() {
    let (file, second, third) = (file(), vectors("lotline-2.json"), vectors("lotline-3.json"));
    let mut blocks = 0;
    for block in DOCUMENT.split("```wire ").skip(1) {
        let (pointer, rest) = block.split_once('\n').unwrap();
        let text = rest.split("```").next().unwrap();
        let pieces: String = text.lines().map(|line| line.split(';').next().unwrap()).collect();
        let pieces: String = pieces.split_whitespace().collect();
        let whole = match pointer.trim().split_once(':') {
            Some(("2", pointer)) => at(&second, pointer),
            Some((_, pointer)) => at(&third, pointer),
            None => at(&file, pointer.trim()),
        };
        let mut position = 0;
        let parts: Vec<&str> = pieces.split('…').collect();
        for (number, part) in parts.iter().enumerate() {
            let found = whole[position..].find(part).unwrap_or_else(|| panic!("{pointer}: `{part}` is not there"));
            assert!(number > 0 || found == 0, "{pointer}: does not begin so");
            position += found + part.len();
        }
        assert!(pieces.ends_with('…') || position == whole.len(), "{pointer}: does not end so");
        blocks += 1;
    }
    assert!(blocks >= 20, "{blocks}");
    for pointer in ["/party/did", "/origins/org", "/origins/feed", "/vkeys/feed", "/checkpoint", "/proof", "/record/leaf", "/tree/root"] {
        let text = at(&file, pointer);
        assert!(DOCUMENT.contains(text.trim_end()), "{pointer}");
    }
    for pointer in ["/checkpoint", "/cosignature/line", "/cosignature/vkey", "/witness/seed", "/origins/receipts", "/origins/vouchers"] {
        let text = at(&second, pointer);
        assert!(DOCUMENT.contains(text.trim_end()), "2:{pointer}");
    }
    let types = [
        "record+sd-cwt",
        "feed+cwt",
        "org+cwt",
        "policy+cwt",
        "release+cwt",
        "receipt+cwt",
        "voucher+cwt",
        "acceptance+cwt",
        "deletion+cwt",
        "claims+cbor",
    ];
    for media_type in types {
        assert!(DOCUMENT.contains(&format!("application/x.lotline.{media_type}")));
    }
    for limit in [
        lotline_schema::statement::CORE_BYTES_MAX.to_string(),
        lotline_schema::note::CHECKPOINT_BYTES_MAX.to_string(),
        lotline_schema::org::REASON_BYTES_MAX.to_string(),
    ] {
        assert!(DOCUMENT.replace(',', "").contains(&limit), "{limit}");
    }
}

#[test]
fn a_report_is_the_same_every_time() {
    let world = World::with_one();
    let bundle = world.bundle();
    let (one, other) = (report(&bundle), report(&bundle));
    assert_eq!(one.checks, other.checks);
    assert_eq!(one.sentence(), other.sentence());
}
