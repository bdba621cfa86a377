//! Golden vectors of version 2: evidence by others, key terms, fork proofs. Rebuilt from fixed seeds byte for byte, and
//! checked from the file alone. `golden.rs` has those of version 1 and compares the document with both.
#![allow(clippy::unwrap_used)] // tests

mod common;

use common::{NOW, RECORDED_AT, Rich, World, at, bytes, inspection, key_json, rebuilt, signer, slot, statement_json, vectors, voucher_for};
use lotline_schema::bundle::Bundle;
use lotline_schema::codec::{self, Value};
use lotline_schema::cose::{Signer, sig_structure};
use lotline_schema::delivery::{Delivery, Receipt};
use lotline_schema::fork::{ForkProof, Side};
use lotline_schema::id::{Hash, Origin, hex, unhex};
use lotline_schema::kind::inspection::Inspection;
use lotline_schema::note::{self, Checkpoint, Cosignature, Cosigned, InclusionProof, WitnessKey};
use lotline_schema::org::{Entry, Org, Places, Role};
use lotline_schema::quorum::Quorum;
use lotline_schema::receipt::{self, Included};
use lotline_schema::statement::{Body, Unverified};
use lotline_schema::verify::{Outcome, Trust, TrustedRoot, verify};
use lotline_schema::view::Package;
use lotline_schema::voucher::Voucher;
use serde_json::{Value as Json, json};

const NAME: &str = "lotline-2.json";

fn shown(at: usize) -> bool {
    ["part", "lot", "sample", "verdict_recomputed"].iter().any(|name| slot(name) == at)
}

fn identity(at: usize) -> bool {
    ["part", "revision", "lot", "operation", "reason", "sample", "role"].iter().any(|name| slot(name) == at)
}

fn of(lot: &str) -> lotline_schema::Record {
    Inspection { lot: lot.into(), ..inspection() }.check(RECORDED_AT).unwrap()
}

/// Parts of a COSE receipt.
fn receipt_json(receipt: &[u8], root: &Hash) -> Json {
    let Value::Tag(18, parts) = codec::decode(receipt).unwrap() else { panic!("tagged") };
    let [Value::Bytes(protected), unprotected, Value::Null, Value::Bytes(signature)] = codec::as_array(&parts).unwrap() else {
        panic!("parts");
    };
    let vdp = &codec::as_map(unprotected).unwrap()[&codec::int(396)];
    let proof = &codec::as_array(&codec::as_map(vdp).unwrap()[&codec::int(-1)]).unwrap()[0];
    json!({
        "bytes": hex(receipt),
        "protected": hex(protected),
        "proof": hex(codec::as_bytes(proof).unwrap()),
        "root": root.to_string(),
        "sig_structure": hex(&sig_structure(protected, &root.0)),
        "signature": hex(signature),
    })
}

fn built() -> Json {
    let rich = Rich::new(shown);
    let (world, bundle) = (&rich.world, &rich.bundle);
    let package = &bundle.packages[0];
    let checkpoint = world.checkpoint(5);
    let cosignature = Cosignature::sign(&checkpoint, &rich.witnesses[0], NOW + 100);
    let key = WitnessKey::opaque(rich.witnesses[0].public());
    let file = codec::decode(&bundle.to_bytes()).unwrap();
    let part = |key: i64, at: usize| hex(&codec::encode(&codec::as_array(&codec::as_map(&file).unwrap()[&codec::int(key)]).unwrap()[at]));
    let fork_proofs: Vec<Json> = fork_proofs().into_iter().map(|(kind, bytes)| json!({"kind": kind, "bytes": hex(&bytes)})).collect();
    let body = checkpoint.sign(&world.log).split("\n\n").next().unwrap().to_owned();
    json!({
        "note": "Lotline wire format, version 2: docs/wire.md. Keys are 32 repeated bytes; random bytes are SHA-256(label || counter as 8 bytes, big endian), block after block.",
        "filler": {"label": "lotline vectors 2", "customer_label": "lotline vectors 2, customer"},
        "now": NOW,
        "recorded_at": RECORDED_AT,
        "keys": {
            "root": key_json(0x11, &signer(0x11)),
            "record": key_json(0x12, &signer(0x12)),
            "log": key_json(0x13, &signer(0x13)),
            "witness": key_json(0x14, &signer(0x14)),
            "transport": key_json(0x15, &signer(0x15)),
            "person": key_json(0x21, &rich.person),
            "site_record": key_json(0x22, &signer(0x22)),
            "site_log": key_json(0x23, &signer(0x23)),
            "second_root": key_json(0x24, &world.root),
            "second_record": key_json(0x25, &world.record),
            "customer_root": key_json(0x31, &rich.customer.root),
            "customer_record": key_json(0x32, &rich.customer.record),
            "customer_log": key_json(0x33, &rich.customer.log),
            "customer_witness": key_json(0x34, &rich.customer.witness),
            "customer_transport": key_json(0x35, &rich.customer.transport),
            "second_witness": key_json(0x41, &rich.witnesses[1]),
            "third_witness": key_json(0x42, &rich.witnesses[2]),
        },
        "parties": {"issuer": world.party.to_string(), "customer": rich.customer.party.to_string()},
        "origins": {
            "feed": world.origin.to_string(),
            "org": Origin::org(world.party).to_string(),
            "receipts": Origin::new(rich.customer.party, "receipts", 1).unwrap().to_string(),
            "vouchers": Origin::new(rich.customer.party, "vouchers", 1).unwrap().to_string(),
        },
        "witness": {
            "secret": hex(&[0x34; 32]),
            "message": format!("lotline witness v1\n{}\n0", world.origin),
            "seed": hex(&note::witness_seed(&[0x34; 32], &world.origin, 0)),
            "seed_of_epoch_1": hex(&note::witness_seed(&[0x34; 32], &world.origin, 1)),
            "public": hex(rich.witnesses[0].public().as_bytes()),
            "name": key.name(),
            "vkey": key.to_string(),
        },
        "org_feed": world.org.entries().iter().map(|core| statement_json(core)).collect::<Vec<_>>(),
        "org_checkpoint": bundle.orgs[0].checkpoint,
        "customer_org_feed": rich.customer.org.entries().iter().map(|core| statement_json(core)).collect::<Vec<_>>(),
        "customer_org_checkpoint": bundle.orgs[1].checkpoint,
        "record": statement_json(&world.sealed(1).core),
        "release": statement_json(&world.sealed(3).core),
        "record_under_the_second_key": statement_json(&world.sealed(4).core),
        "tree": {"leaves": world.leaves.iter().map(Hash::to_string).collect::<Vec<_>>(), "root": checkpoint.root.to_string()},
        "checkpoint": checkpoint.sign(&world.log),
        "cosignature": {
            "line": cosignature.to_line(),
            "message": format!("cosignature/v1\ntime {}\n{body}\n", NOW + 100),
            "vkey": key.to_string(),
            "time": NOW + 100,
        },
        "cosigned_checkpoint": InclusionProof::read(&package.proof).unwrap().checkpoint,
        "proof": package.proof,
        "witnessed_proof": package.witnessed,
        "inclusion_receipt": receipt_json(package.receipt.as_ref().unwrap(), &checkpoint.root),
        "transparent_statement": hex(&receipt::transparent_statement(&package.view.core, &[package.receipt.as_ref().unwrap()]).unwrap()),
        "delivery_receipt": statement_json(&bundle.deliveries[0]),
        "voucher": statement_json(&bundle.vouchers[0]),
        "history": part(5, 0),
        "package": part(3, 0),
        "bundle": hex(&bundle.to_bytes()),
        "demands": demands(&rich),
        "fork_proofs": fork_proofs,
        "negative": negative(&rich),
    })
}

/// What a reader may ask of the bundle, and the exit code of the answer; the customer is trusted.
fn demands(rich: &Rich) -> Json {
    let key = |at: usize| WitnessKey::opaque(rich.witnesses[at].public()).to_string();
    let quorum = |needed: &str| format!("witness a {}\nwitness b {}\ngroup g {needed} a b\nquorum g\n", key(0), key(1));
    let other = format!("witness c {}\nquorum c\n", key(2));
    let all = [
        ("two of two witnesses", Some(quorum("2")), None, None),
        ("a witness that saw record 1 alone", Some(other), None, None),
        ("there when the second of two had signed", Some(quorum("all")), Some(NOW + 200), None),
        ("there before that", Some(quorum("all")), Some(NOW + 199), None),
        ("fresh when the last witness signed the org feed", None, None, Some(NOW + 300)),
        ("fresher than that", None, None, Some(NOW + 301)),
        ("fresh when one of a quorum signed the org feed", Some(quorum("any")), None, Some(NOW + 200)),
        ("all of a quorum, of which one never signed the org feed", Some(quorum("all")), None, Some(NOW + 100)),
    ];
    let one = |(name, quorum, by, after): (&str, Option<String>, Option<u64>, Option<u64>)| {
        let trust = asking(&rich.trust, quorum.as_deref(), by, after);
        let code = verify(&rich.bundle.to_bytes(), &trust).outcome.exit_code();
        json!({"name": name, "quorum": quorum, "witnessed_by": by, "fresh_after": after, "exit_code": code})
    };
    Json::Array(all.into_iter().map(one).collect())
}

fn asking(trust: &Trust, quorum: Option<&str>, by: Option<u64>, after: Option<u64>) -> Trust {
    let mut trust = trust.clone();
    quorum.into_iter().for_each(|file| trust.demand_quorum(Quorum::read(file).unwrap()));
    by.into_iter().for_each(|time| trust.demand_witnessed_by(time));
    after.into_iter().for_each(|time| trust.demand_fresh_after(time));
    trust
}

/// Two histories that part at entry 1; at entry 2 both say the same again.
fn forked() -> (World, World) {
    let (mut one, mut other) = (World::new(), World::new());
    for (world, lots) in [(&mut one, ["a", "L", "L"]), (&mut other, ["x", "L", "M"])] {
        for lot in lots {
            world.publish(&of(lot));
        }
    }
    (one, other)
}

fn statement_side(world: &World, seq: u64) -> Side {
    Side::Statement(world.sealed(seq).core.clone())
}

fn leaf_side(world: &World, seq: u64, size: u64) -> Side {
    Side::Leaf(world.leaves[seq as usize], world.proof(seq, size).to_text())
}

fn fork_proofs() -> Vec<(&'static str, Vec<u8>)> {
    let (one, other) = forked();
    let head = |world: &World| Side::Checkpoint(world.checkpoint(4).sign(&world.log));
    let live = |seq| Side::Record(one.package(seq, identity));
    let pairs = [
        ("two statements at one place", [statement_side(&one, 1), statement_side(&other, 1)]),
        ("a statement against the log", [statement_side(&one, 1), leaf_side(&other, 1, 4)]),
        ("two leaves at one place, under checkpoints of different sizes", [leaf_side(&one, 1, 3), leaf_side(&other, 1, 4)]),
        ("two checkpoints of one size", [head(&one), head(&other)]),
        ("two live statements about one inspection", [live(2), live(3)]),
    ];
    pairs.map(|(kind, sides)| (kind, ForkProof { org: one.org_part(), sides }.to_bytes())).into()
}

// ---- what must be refused ----

fn negative(rich: &Rich) -> Json {
    json!({
        "checkpoints": negative_checkpoints(rich),
        "receipts": negative_receipts(rich),
        "org_entries": negative_org_entries(rich),
        "bundles": negative_bundles(rich),
        "fork_proofs": negative_fork_proofs(rich),
    })
}

fn negative_checkpoints(rich: &Rich) -> Json {
    let (world, checkpoint) = (&rich.world, rich.world.checkpoint(5));
    let note = checkpoint.sign(&world.log);
    let line = |witness: &Signer| Cosignature::sign(&checkpoint, witness, NOW).to_line();
    let mut lines = [line(&rich.witnesses[0]), line(&rich.witnesses[1])];
    lines.sort();
    let [a, b] = &lines;
    let many: String = {
        let mut lines: Vec<String> = (0x80..0x91).map(|seed| line(&signer(seed))).collect();
        lines.sort();
        lines.iter().map(|line| format!("{line}\n")).collect()
    };
    let own = checkpoint.sign(&world.record);
    let dash = note.find('\u{2014}').unwrap();
    let all = [
        ("cosignatures out of order", format!("{note}{b}\n{a}\n")),
        ("a cosignature twice", format!("{note}{a}\n{a}\n")),
        ("seventeen cosignatures", format!("{note}{many}")),
        ("a cosignature under the name of the log", format!("{note}{}", &own[own.find('\u{2014}').unwrap()..])),
        ("a cosignature before the log's line", format!("{}{a}\n{}", &note[..dash], &note[dash..])),
        ("no line of the log", format!("{}{a}\n", &note[..dash])),
        ("a cosignature without padding", format!("{note}{}\n", a.trim_end_matches('='))),
        ("a cosignature that is too short", format!("{note}{}AAAA=\n", &a[..a.len() - 8])),
    ];
    let one = |(name, text): (&str, String)| json!({"name": name, "note": text});
    Json::Array(all.into_iter().map(one).collect())
}

/// Receipts for record 1 that are none.
fn negative_receipts(rich: &Rich) -> Json {
    let world = &rich.world;
    let (tree, checkpoint) = (world.tree(), world.checkpoint(5));
    let path = |seq, size| tree.inclusion(seq, size).unwrap();
    let issue = |key: &Signer, checkpoint: &Checkpoint, seq, path: &[Hash]| receipt::issue(key, checkpoint, seq, path, NOW).unwrap();
    let other_root = Checkpoint { root: tree.root(4), ..checkpoint.clone() };
    let elsewhere = Checkpoint { origin: world.origin.renewed(), ..checkpoint.clone() };
    let good = issue(&world.log, &checkpoint, 1, &path(1, 5));
    let Value::Tag(18, parts) = codec::decode(&good).unwrap() else { panic!("tagged") };
    let mut parts = codec::as_array(&parts).unwrap().to_vec();
    let mut proof = vec![codec::uint(8), codec::uint(1)];
    proof.push(codec::array(path(1, 5).iter().map(|hash| codec::bytes(hash.0))));
    let proof = codec::bytes(codec::encode(&codec::array(proof)));
    parts[1] = codec::map([(396, codec::map([(-1, codec::array([proof]))]))]);
    let relabelled = codec::encode(&codec::tag(18, codec::array(parts)));
    let all = [
        ("a size in the proof that is not signed", relabelled),
        ("signed over another root", issue(&world.log, &other_root, 1, &path(1, 5))),
        ("for another place", issue(&world.log, &checkpoint, 2, &path(2, 5))),
        ("for another feed", issue(&world.log, &elsewhere, 1, &path(1, 5))),
        ("under the record key", issue(&world.record, &checkpoint, 1, &path(1, 5))),
        ("with a path that is too short", issue(&world.log, &checkpoint, 1, &path(1, 5)[..2])),
    ];
    let one = |(name, bytes): (&str, Vec<u8>)| json!({"name": name, "receipt": hex(&bytes)});
    Json::Array(all.into_iter().map(one).collect())
}

/// Entries that may not follow the org feed of the issuer.
fn negative_org_entries(rich: &Rich) -> Json {
    let world = &rich.world;
    let size = world.org.size();
    let fresh = signer(0x26);
    let rotation = |key: &Signer, from: Places| Entry::Rotation { role: Role::Record, key: key.public(), from, reason: "lost".into() };
    let whole = world.places(size, 5);
    let short: Places = [(world.origin.to_string(), 5)].into();
    let delegation = |name: &str| Entry::Delegation {
        name: "Site C".into(),
        origin: Origin::new(world.party, name, 1).unwrap(),
        record: fresh.public(),
        log: signer(0x27).public(),
        until: NOW / 86_400 * 86_400,
    };
    let all = [
        ("a rotation that does not name the org feed", rotation(&fresh, short), &world.root),
        ("a rotation from a place that is not there yet", rotation(&fresh, world.places(size + 1, 5)), &world.root),
        ("a rotation to a key that had a place", rotation(&signer(0x12), whole.clone()), &world.root),
        ("a rotation by the record key", rotation(&fresh, whole.clone()), &world.record),
        ("a rotation by the first root", rotation(&fresh, whole), &signer(0x11)),
        ("a root that no successor entry named", Entry::Root { key: fresh.public() }, &fresh),
        ("a delegation of a pseudo feed", delegation("vouchers"), &world.root),
        ("a delegation of an open feed", delegation("quality"), &world.root),
        ("the end of a delegation that is not there", Entry::DelegationEnd { origin: world.origin.clone(), from: 1 }, &world.root),
        ("the end of a signer who is not there", Entry::SignerEnd { thumbprint: fresh.kid(), from: world.places(size, 5) }, &world.root),
        ("a signer named by the record key", Entry::Signer { name: "N".into(), function: "F".into(), key: fresh.public() }, &world.record),
    ];
    let one = |(name, entry, key): (&str, Entry, &Signer)| {
        let sealed = lotline_schema::org::seal(&world.org, &entry, NOW, key, |noise| noise.fill(0x77)).unwrap();
        json!({"name": name, "core": hex(&sealed.core)})
    };
    Json::Array(all.into_iter().map(one).collect())
}

fn negative_bundles(rich: &Rich) -> Json {
    // Record 1 and its release: enough for each of these.
    let packages = rich.bundle.packages[..2].to_vec();
    let (world, good) = (&rich.world, &Bundle { packages, ..rich.bundle.clone() });
    let with = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        bundle.to_bytes()
    };
    let value = |change: &dyn Fn(&mut Value)| {
        let mut value = codec::decode(&good.to_bytes()).unwrap();
        change(&mut value);
        codec::encode(&value)
    };
    let received = |delivery: &Delivery| delivery.seal(rich.customer.party, 0, &rich.customer.record, |noise| noise.fill(0x66)).unwrap();
    let vouched = |voucher: &Voucher| voucher.seal(rich.customer.party, 0, &rich.customer.record, |noise| noise.fill(0x66)).unwrap();
    let letter = |text: &mut String, from: usize| {
        let letter = if &text[from..=from] == "A" { "B" } else { "A" };
        text.replace_range(from..=from, letter);
    };
    let cosigned = |bundle: &mut Bundle| {
        let proof = bundle.packages[0].witnessed.as_mut().unwrap();
        letter(proof, proof.rfind(' ').unwrap() + 40);
    };
    let log_line = |bundle: &mut Bundle| {
        let proof = &mut bundle.packages[0].proof;
        let line = proof.find('\u{2014}').unwrap();
        letter(proof, line + proof[line..].find('\n').unwrap() - 20);
    };
    let all = [
        ("one letter of the first cosignature altered: its witness is lost, the rest stands", with(&cosigned)),
        ("one letter of the log's signature altered", with(&log_line)),
        ("without history", with(&|bundle| bundle.histories.clear())),
        ("one bit of the history altered", with(&|bundle| bundle.histories[0].older[0].1[0].0[0] ^= 1)),
        ("a history of sizes that are not here", with(&|bundle| bundle.histories = vec![world.history(&[2, 3, 5])])),
        ("an inclusion receipt for another record", with(&|bundle| bundle.packages[0].receipt = Some(world.inclusion_receipt(2, 5)))),
        ("an inclusion receipt under another size", with(&|bundle| bundle.packages[0].receipt = Some(world.inclusion_receipt(1, 4)))),
        ("witness keys out of order", with(&|bundle| bundle.witnesses.reverse())),
        (
            "a delivery receipt that names another root",
            with(&|bundle| {
                bundle.deliveries = vec![received(&Delivery { root: Hash([9; 32]), ..world.delivery(1, 5, 5) })];
            }),
        ),
        ("a delivery receipt for no record that is here", with(&|bundle| bundle.deliveries = vec![received(&world.delivery(2, 3, 5))])),
        (
            "a delivery receipt for more than its checkpoint has",
            with(&|bundle| bundle.deliveries = vec![received(&world.delivery(1, 6, 5))]),
        ),
        (
            "a voucher for somebody who is not here",
            with(&|bundle| {
                bundle.vouchers = vec![vouched(&Voucher { party: rich.customer.party, ..voucher_for(world) })];
            }),
        ),
        ("without the voucher", with(&|bundle| bundle.vouchers.clear())),
        ("an org feed that nothing needs", with(&|bundle| (bundle.vouchers, bundle.deliveries) = (vec![], vec![]))),
        (
            "a release without its record",
            with(&|bundle| {
                bundle.packages.remove(0);
                bundle.histories.clear();
            }),
        ),
        ("version 1 with evidence", value(&|bundle| common::set(bundle, 1, codec::uint(1)))),
        ("version 3", value(&|bundle| common::set(bundle, 1, codec::uint(3)))),
        ("an unknown part", value(&|bundle| common::set(bundle, 8, codec::array([])))),
        ("a record under the first record key where the second had begun", revoked(rich)),
        ("a delegated record of the day after the last", delegated(rich)),
        ("two records of one inspection, and what the later one replaces is not here", gap(rich)),
    ];
    let one = |(name, bytes): (&str, Vec<u8>)| json!({"name": name, "bundle": hex(&bytes), "exit_code": verify(&bytes, &rich.trust).outcome.exit_code()});
    Json::Array(all.into_iter().map(one).collect())
}

/// The issuer and its customer's voucher, with other packages.
fn reduced(rich: &Rich, packages: Vec<Package>) -> Vec<u8> {
    Bundle { packages, histories: vec![], witnesses: vec![], deliveries: vec![], ..rich.bundle.clone() }.to_bytes()
}

fn revoked(rich: &Rich) -> Vec<u8> {
    let world = feed_under(rich, rich.world.origin.clone(), &signer(0x12), &rich.world.log, &["a", "b", "c", "d"], NOW);
    reduced(rich, vec![world.package(4, shown)])
}

fn delegated(rich: &Rich) -> Vec<u8> {
    let origin = Origin::new(rich.world.party, "site-b", 1).unwrap();
    let late = rich.world.org.delegation(origin.as_str()).unwrap().until + 86_400;
    let world = feed_under(rich, origin, &signer(0x22), &signer(0x23), &["a"], late);
    reduced(rich, vec![world.package(1, shown)])
}

fn gap(rich: &Rich) -> Vec<u8> {
    let mut world = feed_under(rich, rich.world.origin.clone(), &signer(0x12), &rich.world.log, &["L"], NOW);
    for _ in 0..2 {
        let leaf = *world.leaves.last().unwrap();
        world.publish_over(&of("L"), Some(leaf));
    }
    reduced(rich, vec![world.package(1, identity), world.package(3, identity)])
}

/// A feed of the issuer with other records, under these keys.
fn feed_under(rich: &Rich, origin: Origin, record: &Signer, log: &Signer, lots: &[&str], now: u64) -> World {
    let mut world = World::new();
    world.filler = common::Filler::new("lotline vectors 2, more");
    world.org = rich.world.org.clone();
    (world.origin, world.record, world.log) = (origin, record.clone(), log.clone());
    for lot in lots {
        let place =
            lotline_schema::statement::Place { origin: world.origin.clone(), seq: world.leaves.len() as u64, now, supersedes: None };
        let sealed = lotline_schema::statement::seal_record(&of(lot), &place, record, |noise| world.filler.fill(noise)).unwrap();
        world.push(sealed);
    }
    world
}

fn negative_fork_proofs(rich: &Rich) -> Json {
    let (one, other) = forked();
    let proof = |world: &World, sides: [Side; 2]| ForkProof { org: world.org_part(), sides };
    // The record key is said to be stolen from entry 1 on.
    let mut revoked = World::new();
    let places = revoked.places(revoked.org.size(), 1);
    revoked.rotate(Role::Record, signer(0x26), places);
    let head = |world: &World, size| Side::Checkpoint(world.checkpoint(size).sign(&world.log));
    let newer = {
        let mut value = codec::decode(&fork_proofs()[0].1).unwrap();
        common::set(&mut value, 1, codec::uint(2));
        codec::encode(&value)
    };
    let relabelled = {
        let proof = one.proof(1, 4);
        let checkpoint = proof.checkpoint.replacen("\n4\n", "\n3\n", 1);
        Side::Leaf(one.leaves[1], InclusionProof { checkpoint, ..proof }.to_text())
    };
    let evidence = Package { receipt: Some(one.inclusion_receipt(3, 4)), ..one.package(3, identity) };
    let mut cosigned = proof(&one, [statement_side(&one, 1), statement_side(&other, 1)]);
    cosigned.org.checkpoint = one.cosigned_org_checkpoint(&[(&rich.witnesses[1], NOW)]);
    let all = [
        ("one statement twice", proof(&one, [statement_side(&one, 1), statement_side(&one, 1)]).to_bytes()),
        ("checkpoints of different sizes", proof(&one, [head(&one, 3), head(&other, 4)]).to_bytes()),
        ("a statement and its own leaf", proof(&one, [statement_side(&one, 1), leaf_side(&one, 1, 4)]).to_bytes()),
        ("a key that was revoked there", proof(&revoked, [statement_side(&one, 1), statement_side(&other, 1)]).to_bytes()),
        ("a leaf under a relabelled size", proof(&one, [statement_side(&other, 1), relabelled]).to_bytes()),
        (
            "a record with evidence that decides nothing",
            proof(&one, [Side::Record(one.package(2, identity)), Side::Record(evidence)]).to_bytes(),
        ),
        ("an org feed with a cosignature", cosigned.to_bytes()),
        ("a later version", newer),
    ];
    let one = |(name, bytes): (&str, Vec<u8>)| json!({"name": name, "bytes": hex(&bytes), "exit_code": verify(&bytes, &rich.trust).outcome.exit_code()});
    Json::Array(all.into_iter().map(one).collect())
}

// ---- the tests ----

#[test]
fn the_vectors_of_version_2_are_rebuilt_byte_for_byte() {
    rebuilt(NAME, built());
}

fn trusting(file: &Json) -> Trust {
    let mut trust = Trust::none();
    trust.add(at(file, "/parties/customer").parse().unwrap(), TrustedRoot { name: "OEM One AG".into(), checked: "by telephone".into() });
    trust
}

fn org(file: &Json, feed: &str, checkpoint: &str, party: &str) -> Org {
    let cores = file[feed].as_array().unwrap().iter().map(|one| unhex(one["core"].as_str().unwrap()).unwrap());
    Org::from_parts(at(file, party).parse().unwrap(), cores, at(file, checkpoint)).unwrap()
}

#[test]
fn the_vectors_of_version_2_verify_from_the_file_alone() {
    let file = vectors(NAME);
    let (issuer, customer) = (
        org(&file, "org_feed", "/org_checkpoint", "/parties/issuer"),
        org(&file, "customer_org_feed", "/customer_org_checkpoint", "/parties/customer"),
    );
    // The witness key, and what it signed.
    let origin: Origin = at(&file, "/origins/feed").parse().unwrap();
    let secret: [u8; 32] = bytes(&file, "/witness/secret").try_into().unwrap();
    for (epoch, pointer) in [(0, "/witness/seed"), (1, "/witness/seed_of_epoch_1")] {
        assert_eq!(note::witness_seed(&secret, &origin, epoch).to_vec(), bytes(&file, pointer));
    }
    let witness = Signer::from_seed(&note::witness_seed(&secret, &origin, 0));
    let key = WitnessKey::read(at(&file, "/witness/vkey")).unwrap();
    assert_eq!(key, WitnessKey::opaque(witness.public()));
    let log = lotline_schema::id::pure_key(&bytes(&file, "/keys/log/public")).unwrap();
    let opened = Cosigned::open(at(&file, "/cosigned_checkpoint"), &[&log]).unwrap();
    assert_eq!(Checkpoint::open(at(&file, "/checkpoint"), &log), Ok(opened.checkpoint.clone()));
    let line = Cosignature::read(at(&file, "/cosignature/line")).unwrap();
    assert!(opened.cosignatures.contains(&line));
    assert_eq!(line.verify(&opened.checkpoint, &key), Ok(()));
    assert_eq!(Some(line.time()), file["cosignature"]["time"].as_u64());
    let signed = witness.sign(at(&file, "/cosignature/message").as_bytes());
    let blob = at(&file, "/cosignature/line").rsplit(' ').next().unwrap();
    let blob = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, blob).unwrap();
    assert_eq!(signed, blob[12..]);
    // The inclusion receipt.
    let leaf: Hash = at(&file, "/record/leaf").parse().unwrap();
    let included = Included { origin: &origin, seq: 1, leaf };
    let root: Hash = at(&file, "/tree/root").parse().unwrap();
    assert_eq!(receipt::verify(&bytes(&file, "/inclusion_receipt/bytes"), included, &issuer), Ok((5, root)));
    let transparent = receipt::transparent_statement(&bytes(&file, "/record/core"), &[&bytes(&file, "/inclusion_receipt/bytes")]);
    assert_eq!(transparent.unwrap(), bytes(&file, "/transparent_statement"));
    // Who received it, and who vouches.
    let receipt = Receipt::open(&bytes(&file, "/delivery_receipt/core"), &customer).unwrap();
    assert_eq!((receipt.number, receipt.delivery.from, receipt.delivery.to, receipt.delivery.root), (0, 1, 5, root));
    let voucher = Voucher::open(&bytes(&file, "/voucher/core"), &customer).unwrap();
    assert_eq!((voucher.party, voucher.name.as_str()), (issuer.party(), "Muster Metallbau GmbH"));
    // The whole.
    let bundle = bytes(&file, "/bundle");
    let report = verify(&bundle, &trusting(&file));
    assert_eq!(report.outcome, Outcome::Verified, "{}", report.sentence());
    assert_eq!(Bundle::read(&bundle).unwrap().to_bytes(), bundle);
    for pointer in ["/package", "/history"] {
        assert!(hex(&bundle).contains(at(&file, pointer)), "{pointer}");
    }
    let mut codes = Vec::new();
    for one in file["demands"].as_array().unwrap() {
        let trust = asking(&trusting(&file), one["quorum"].as_str(), one["witnessed_by"].as_u64(), one["fresh_after"].as_u64());
        let code = verify(&bundle, &trust).outcome.exit_code();
        assert_eq!(Some(code.into()), one["exit_code"].as_u64(), "{}", one["name"]);
        codes.push(code);
    }
    assert_eq!(codes, [0, 9, 0, 9, 0, 9, 0, 9]);
    for one in file["fork_proofs"].as_array().unwrap() {
        let report = verify(&unhex(one["bytes"].as_str().unwrap()).unwrap(), &Trust::none());
        assert_eq!(report.outcome.exit_code(), 10, "{}: {}", one["kind"], report.sentence());
    }
}

#[test]
fn the_negative_vectors_of_version_2_are_refused_from_the_file_alone() {
    let file = vectors(NAME);
    let list = |name: &str| file["negative"][name].as_array().unwrap().clone();
    let of = |one: &Json, name: &str| unhex(one[name].as_str().unwrap()).unwrap();
    let issuer = org(&file, "org_feed", "/org_checkpoint", "/parties/issuer");
    for one in list("checkpoints") {
        assert!(issuer.open_cosigned(one["note"].as_str().unwrap()).is_err(), "{}", one["name"]);
    }
    let origin: Origin = at(&file, "/origins/feed").parse().unwrap();
    let included = Included { origin: &origin, seq: 1, leaf: at(&file, "/record/leaf").parse().unwrap() };
    for one in list("receipts") {
        assert!(receipt::verify(&of(&one, "receipt"), included, &issuer).is_err(), "{}", one["name"]);
    }
    for one in list("org_entries") {
        let core = of(&one, "core");
        let Body::Entry(_) = Unverified::read(&core).unwrap().claims().body.clone() else { panic!("an entry") };
        assert!(issuer.clone().accept(core).is_err(), "{}", one["name"]);
    }
    let codes = |name: &str, bytes: &str| -> Vec<u8> {
        let check = |one: &Json| {
            let report = verify(&of(one, bytes), &trusting(&file));
            assert_eq!(Some(report.outcome.exit_code().into()), one["exit_code"].as_u64(), "{}: {}", one["name"], report.sentence());
            report.outcome.exit_code()
        };
        list(name).iter().map(check).collect()
    };
    assert_eq!(codes("bundles", "bundle"), [0, 4, 9, 4, 4, 4, 4, 4, 9, 4, 4, 4, 7, 4, 4, 4, 11, 4, 8, 8, 9]);
    assert_eq!(codes("fork_proofs", "bytes"), [4, 4, 4, 4, 4, 4, 4, 11]);
}
