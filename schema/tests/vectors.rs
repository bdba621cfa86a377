//! Public vectors: every one passes as the profile allows. The copies in `vectors/public` run always, all of
//! `../shared/vectors` when it is there; `LOTLINE_SHARED=require` makes it an error when it is not.
#![allow(clippy::unwrap_used)] // tests

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use common::World;
use coset::{CborSerializable as _, TaggedCborSerializable as _};
use ed25519_dalek::{Signature, VerifyingKey};
use lotline_schema::codec::{self, CodecError, Value};
use lotline_schema::cose::{Sign1, sig_structure};
use lotline_schema::id::{Hash, hex, strong_key, thumbprint, unhex};
use lotline_schema::note::{self, Checkpoint, InclusionProof};
use lotline_schema::slot::Disclosure;
use lotline_schema::statement::Unverified;
use lotline_schema::tree;
use serde_json::Value as Json;

/// A folder of vectors, and which of its files were tried.
struct Folder {
    root: PathBuf,
    tried: BTreeSet<String>,
}

impl Folder {
    fn bytes(&mut self, path: &str) -> Vec<u8> {
        self.tried.insert(path.into());
        std::fs::read(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn text(&mut self, path: &str) -> String {
        String::from_utf8(self.bytes(path)).unwrap()
    }

    fn json(&mut self, path: &str) -> Json {
        serde_json::from_slice(&self.bytes(path)).unwrap()
    }

    /// All files, as paths below the root.
    fn files(&self) -> BTreeSet<String> {
        fn walk(root: &Path, below: &Path, files: &mut BTreeSet<String>) {
            for entry in std::fs::read_dir(below).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(root, &path, files);
                } else {
                    files.insert(path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/"));
                }
            }
        }
        let mut files = BTreeSet::new();
        walk(&self.root, &self.root, &mut files);
        files
    }
}

fn folders() -> Vec<Folder> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = here.join("../../shared/vectors");
    let required = std::env::var("LOTLINE_SHARED").is_ok_and(|value| value == "require");
    assert!(shared.is_dir() || !required, "LOTLINE_SHARED=require, and {} is missing", shared.display());
    let all = [here.join("vectors/public"), shared];
    all.into_iter().filter(|root| root.is_dir()).map(|root| Folder { root, tried: BTreeSet::new() }).collect()
}

/// Every file of every folder is tried, or said to be no vector for us.
#[test]
fn every_public_vector_passes_as_the_profile_allows() {
    for mut folder in folders() {
        cbor(&mut folder);
        wycheproof(&mut folder);
        sd_cwt(&mut folder);
        cose_examples(&mut folder);
        receipts(&mut folder);
        signed_note(&mut folder);
        prototype(&mut folder);
        duplicates(&mut folder);
        let no_vector = |path: &String| {
            path.ends_with(".md")
                // The readable form of a token beside it, and disclosures encrypted with an AEAD, which we have not.
                || (path.starts_with("sd-cwt/") && (path.ends_with(".edn") || path.starts_with("sd-cwt/aead-")))
        };
        let left: Vec<String> = folder.files().into_iter().filter(|path| !folder.tried.contains(path) && !no_vector(path)).collect();
        assert!(left.is_empty(), "files nobody tried: {left:?}");
        eprintln!("{}: {} files tried", folder.root.display(), folder.tried.len());
    }
}

#[test]
fn the_copies_are_the_originals_and_small() {
    let mut folders = folders();
    let sizes: u64 = folders[0].files().iter().map(|path| std::fs::metadata(folders[0].root.join(path)).unwrap().len()).sum();
    assert!(sizes < 300 * 1024, "{sizes} bytes");
    if let [copies, shared] = &mut folders[..] {
        for path in copies.files().into_iter().filter(|path| path != "SOURCE.md") {
            assert_eq!(copies.bytes(&path), shared.bytes(&path), "{path}");
        }
    }
}

// ---- CBOR ----

/// Why our profile refuses an item of RFC 8949 Appendix A.
fn refusal(hex: &str) -> Option<fn(&CodecError) -> bool> {
    const RANGE: fn(&CodecError) -> bool = |error| matches!(error, CodecError::Range(0));
    const TAG: fn(&CodecError) -> bool = |error| matches!(error, CodecError::Tag(0));
    const SIMPLE: fn(&CodecError) -> bool = |error| matches!(error, CodecError::Simple(0));
    const INDEFINITE: fn(&CodecError) -> bool = |error| matches!(error, CodecError::NotShortest(_));
    match hex {
        // Beyond 64 signed bits.
        "1bffffffffffffffff" | "3bffffffffffffffff" => Some(RANGE),
        // A date in floating point: the float is seen first.
        "c1fb41d452d9ec200000" => Some(|error| *error == CodecError::Simple(1)),
        // Bignums, dates, encoded CBOR, URIs: no tags but 4, 18 and 60.
        _ if ["c2", "c3", "c0", "c1", "d7", "d818", "d820"].iter().any(|tag| hex.starts_with(tag)) => Some(TAG),
        // Floats, undefined, other simple values.
        _ if ["f9", "fa", "fb", "f7", "f0", "f8"].iter().any(|head| hex.starts_with(head)) => Some(SIMPLE),
        // Indefinite lengths, alone or inside.
        _ if ["5f", "7f", "9f", "bf"].iter().any(|head| hex.starts_with(head)) => Some(INDEFINITE),
        "83018202039f0405ff" | "83019f0203ff820405" | "826161bf61626163ff" => Some(INDEFINITE),
        _ => None,
    }
}

fn cbor(folder: &mut Folder) {
    let table = folder.json("cbor/rfc8949_appendix_a.json");
    let (mut accepted, mut refused) = (0, 0);
    for item in table.as_array().unwrap() {
        let text = item["hex"].as_str().unwrap();
        let bytes = unhex(text).unwrap();
        match refusal(text) {
            Some(reason) => {
                let error = codec::decode(&bytes).expect_err(text);
                assert!(reason(&error), "{text}: {error}");
                refused += 1;
            }
            None => {
                let value = codec::decode(&bytes).unwrap_or_else(|error| panic!("{text}: {error}"));
                assert_eq!(codec::encode(&value), bytes);
                match item.get("decoded") {
                    Some(decoded) => assert!(same(&value, decoded), "{text}: {value:?} is not {decoded}"),
                    None => assert!(matches!(
                        (text, &value),
                        ("40", Value::Bytes(_)) | ("4401020304", Value::Bytes(_)) | ("a201020304", Value::Map(_))
                    )),
                }
                assert_eq!(item["roundtrip"], Json::Bool(true));
                accepted += 1;
            }
        }
    }
    assert_eq!((accepted, refused), (35, 47), "82 items");
}

fn same(value: &Value, json: &Json) -> bool {
    match (value, json) {
        (Value::Null, Json::Null) => true,
        (Value::Bool(a), Json::Bool(b)) => a == b,
        (Value::Integer(a), Json::Number(b)) => b.as_i64().map(i128::from) == Some(*a),
        (Value::Text(a), Json::String(b)) => a == b,
        (Value::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Map(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| codec::as_text(key).and_then(|key| b.get(key)).is_some_and(|b| same(a, b)))
        }
        _ => false,
    }
}

// ---- Ed25519 ----

fn wycheproof(folder: &mut Folder) {
    let file = folder.json("ed25519/wycheproof_ed25519_test.json");
    let mut count = 0;
    for group in file["testGroups"].as_array().unwrap() {
        let key = strong_key(&unhex(group["publicKey"]["pk"].as_str().unwrap()).unwrap());
        for test in group["tests"].as_array().unwrap() {
            let message = unhex(test["msg"].as_str().unwrap()).unwrap();
            let signature = unhex(test["sig"].as_str().unwrap()).unwrap();
            let holds = key
                .zip(Signature::from_slice(&signature).ok())
                .is_some_and(|(key, signature)| key.verify_strict(&message, &signature).is_ok());
            assert_eq!(holds, test["result"] == "valid", "case {}: {}", test["tcId"], test["comment"]);
            count += 1;
        }
    }
    assert_eq!((count, file["numberOfTests"].as_u64()), (151, Some(151)));
}

// ---- SD-CWT ----

/// CBOR of any profile, for tokens that ours refuses: simple values, floats and other tags.
#[derive(Debug, Clone)]
enum Any {
    Whole(i128),
    Bytes(Vec<u8>),
    Text,
    Array(Vec<Any>),
    Map(Vec<(Any, Any)>),
    Tag(Box<Any>),
    Simple,
}

fn any(bytes: &mut &[u8]) -> Any {
    let (first, mut rest) = bytes.split_first().unwrap();
    let width = match first & 0x1f {
        0..=23 => 0,
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => panic!("indefinite"),
    };
    let (field, after) = rest.split_at(width);
    let argument = if width == 0 { u64::from(first & 0x1f) } else { field.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)) };
    rest = after;
    *bytes = rest;
    let mut take = |count: u64| {
        let (content, after) = bytes.split_at(count as usize);
        *bytes = after;
        content.to_vec()
    };
    match first >> 5 {
        0 => Any::Whole(argument.into()),
        1 => Any::Whole(-1 - i128::from(argument)),
        2 => Any::Bytes(take(argument)),
        3 => {
            take(argument);
            Any::Text
        }
        4 => Any::Array((0..argument).map(|_| any(bytes)).collect()),
        5 => Any::Map((0..argument).map(|_| (any(bytes), any(bytes))).collect()),
        6 => Any::Tag(Box::new(any(bytes))),
        _ => Any::Simple,
    }
}

fn entry(map: &Any, key: i128) -> Option<&Any> {
    let Any::Map(entries) = map else { return None };
    entries.iter().find(|(found, _)| matches!(found, Any::Whole(found) if *found == key)).map(|(_, value)| value)
}

/// Every byte string of 32 bytes, anywhere: digests are among them.
fn digests(item: &Any, found: &mut BTreeSet<Vec<u8>>) {
    match item {
        Any::Bytes(bytes) if bytes.len() == 32 => {
            found.insert(bytes.clone());
        }
        Any::Array(items) => items.iter().for_each(|item| digests(item, found)),
        Any::Map(entries) => entries.iter().for_each(|(key, value)| {
            digests(key, found);
            digests(value, found);
        }),
        Any::Tag(inner) => digests(inner, found),
        _ => {}
    }
}

/// The disclosures of a token and of the token inside it, each of which must be in the signed payload by its digest.
fn token(bytes: &[u8], disclosures: &mut Vec<(Vec<u8>, BTreeSet<Vec<u8>>)>) {
    let Any::Tag(inner) = any(&mut &bytes[..]) else { panic!("no tag") };
    read_token(&inner, disclosures);
}

fn read_token(item: &Any, disclosures: &mut Vec<(Vec<u8>, BTreeSet<Vec<u8>>)>) {
    let Any::Array(parts) = item else { panic!("no array") };
    let [Any::Bytes(protected), unprotected, Any::Bytes(payload), Any::Bytes(_)] = &parts[..] else { panic!("no COSE_Sign1") };
    if let Some(Any::Tag(inner)) = entry(&any(&mut &protected[..]), 13) {
        read_token(inner, disclosures);
    }
    let mut signed = BTreeSet::new();
    digests(&any(&mut &payload[..]), &mut signed);
    let Some(Any::Array(shown)) = entry(unprotected, 17) else { return };
    let shown: Vec<Vec<u8>> =
        shown.iter().map(|item| if let Any::Bytes(bytes) = item { bytes.clone() } else { panic!("no bytes") }).collect();
    for disclosure in &shown {
        digests(&any(&mut &disclosure[..]), &mut signed);
    }
    disclosures.extend(shown.into_iter().map(|disclosure| (disclosure, signed.clone())));
}

fn sd_cwt(folder: &mut Folder) {
    let (mut with_head, mut without, mut all) = (0, 0, 0);
    for name in ["decoy", "issuer_cwt", "kbt", "nested_cwt", "nested_issuer_cwt", "nested_kbt"] {
        let bytes = folder.bytes(&format!("sd-cwt/{name}.cbor"));
        let mut disclosures = Vec::new();
        token(&bytes, &mut disclosures);
        assert!(!disclosures.is_empty(), "{name}");
        for (disclosure, signed) in disclosures {
            all += 1;
            with_head += usize::from(signed.contains(&Disclosure::received(disclosure.clone()).digest().0[..]));
            without += usize::from(signed.contains(&Hash::of(&[&disclosure]).0[..]));
        }
        // ES384, map-key redaction, another header: none is a statement of ours.
        assert!(Unverified::read(&bytes).is_err());
    }
    assert_eq!((all, with_head, without), (41, 41, 0));
    // The figure of the draft's text: SHA-256 without the head. We produce the other one.
    let wrong: Hash = folder.text("sd-cwt/first-blinded-hash.WRONG-FORM.txt").trim().parse().unwrap();
    assert!(folder.text("sd-cwt/first-disclosure.edn").contains("bae611067bb823486797da1ebbb52f83"));
    let salt = unhex("bae611067bb823486797da1ebbb52f83").unwrap();
    let first = codec::encode(&codec::array([codec::bytes(salt), codec::text("ABCD-123456"), codec::int(501)]));
    assert_eq!(Hash::of(&[&first]), wrong);
    assert_ne!(Disclosure::received(first.clone()).digest(), wrong);
    assert!(Disclosure::received(first.clone()).digest().to_string().starts_with("af375dc3"));
    // And it has three parts: no disclosure of our profile.
    assert!(Disclosure::received(first).open().is_err());
}

// ---- COSE ----

fn cose_examples(folder: &mut Folder) {
    let names: Vec<String> = folder.files().into_iter().filter(|path| path.starts_with("cose-wg-examples/")).collect();
    let mut equal = Vec::new();
    for path in &names {
        let file = folder.json(path);
        let bytes = unhex(file["output"]["cbor"].as_str().unwrap()).unwrap();
        let name = path.rsplit('/').next().unwrap().trim_end_matches(".json");
        // Nothing here is a statement: other algorithms, key ids outside the protected header, other tags.
        assert!(Unverified::read(&bytes).is_err(), "{name}");
        let Some(to_be_signed) = file["intermediates"]["ToBeSign_hex"].as_str() else {
            // COSE_Sign, tag 98, with several signers.
            assert_eq!(codec::check(&bytes), Err(CodecError::Tag(0)), "{name}");
            continue;
        };
        let parts = match any(&mut &bytes[..]) {
            Any::Tag(inner) => *inner,
            untagged => untagged,
        };
        let Any::Array(parts) = parts else { panic!("{name}: no array") };
        let [Any::Bytes(protected), unprotected, Any::Bytes(payload), Any::Bytes(signature)] = &parts[..] else {
            panic!("{name}: no parts")
        };
        if sig_structure(protected, payload) == unhex(to_be_signed).unwrap() {
            equal.push(name.to_owned());
        }
        // Any unprotected header at all is refused; the CWT example has none, and fails on its algorithm alone.
        let empty = matches!(unprotected, Any::Map(entries) if entries.is_empty());
        assert_eq!(Sign1::read(&bytes).is_ok(), empty, "{name}");
        if name == "eddsa-sig-01" {
            let key = strong_key(&unhex(file["input"]["sign0"]["key"]["x_hex"].as_str().unwrap()).unwrap()).unwrap();
            let sign1 = Sign1 { protected: protected.clone(), payload: payload.clone(), signature: signature[..].try_into().unwrap() };
            assert!(sign1.verify(&key).is_ok());
            let altered = Sign1 { payload: b"This is the content!".to_vec(), ..sign1 };
            assert!(altered.verify(&key).is_err());
        }
    }
    equal.sort();
    eprintln!("COSE examples: Sig_structure equals ToBeSign_hex for {equal:?}");
    assert_eq!(names.len(), 14);
    // The others were altered after signing (02, 03, 04, 06, 07), sign an external text (pass-02), or write an empty
    // header as an empty map (pass-01): over the bytes received it is another message, so none can verify.
    assert_eq!(equal, ["A_3", "eddsa-sig-01", "eddsa-sig-02", "sign-fail-01", "sign-pass-03"]);
}

fn receipts(folder: &mut Folder) {
    for (name, proofs) in [("inclusion", -1), ("consistency", -2)] {
        let bytes = folder.bytes(&format!("cose-receipts/{name}-receipt.cbor"));
        let Value::Tag(codec::TAG_SIGN1, inner) = codec::decode(&bytes).unwrap() else { panic!("no tag 18") };
        let [protected, unprotected, payload, signature] = codec::as_array(&inner).unwrap() else { panic!("four parts") };
        assert_eq!(codec::as_bytes(signature).unwrap().len(), 64);
        assert_eq!(*payload, Value::Null, "the root is detached");
        // Its protected header is not in deterministic order (395 before 15): no header of ours may be.
        assert!(matches!(codec::decode(codec::as_bytes(protected).unwrap()), Err(CodecError::KeyOrder(_))));
        let mut header = codec::Fields::of(unprotected.clone()).unwrap();
        let mut by_kind = codec::Fields::of(header.need(396, "proofs").unwrap()).unwrap();
        header.end().unwrap();
        let list = by_kind.array(proofs, "a list").unwrap();
        by_kind.end().unwrap();
        let [Value::Bytes(proof)] = &list[..] else { panic!("one proof") };
        let proof = codec::decode(proof).unwrap();
        let [Value::Integer(first), Value::Integer(second), Value::Array(path)] = codec::as_array(&proof).unwrap() else {
            panic!("a proof")
        };
        assert!(*first > 0 && *second >= 0);
        assert!(path.iter().all(|hash| codec::as_bytes(hash).is_some_and(|hash| hash.len() == 32)));
        assert!(Unverified::read(&bytes).is_err());
    }
}

// ---- signed note ----

fn signed_note(folder: &mut Folder) {
    let (text, key) = (folder.text("c2sp/signed-note-example.note"), folder.text("c2sp/signed-note-example.vkey"));
    let (name, key) = note::read_vkey(&key).unwrap();
    assert_eq!(name, "example.com/foo");
    assert_eq!(note::verify_signature(&text, &name, &key), Ok("This is an example message.\n"));
    assert!(note::verify_signature(&text.replace("example message", "example massage"), &name, &key).is_err());
    assert!(note::verify_signature(&text, "example.com/bar", &key).is_err());
    // A note, but no checkpoint.
    assert!(Checkpoint::read(&text).is_err());
}

// ---- the prototype ----

fn prototype(folder: &mut Folder) {
    let file = folder.json("lotline-prototype/lotline-v0.json");
    let text = |name: &str| file[name].as_str().unwrap().to_owned();
    let list =
        |name: &str| -> Vec<String> { file[name].as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect() };
    let key = |name: &str| strong_key(&unhex(&text(name)).unwrap()).unwrap();
    let record_key = key("record_pk");
    assert_eq!(thumbprint(&record_key).to_string(), text("record_thumbprint"));
    let (cores, leaves) = (list("cores"), list("leaf_hashes"));
    assert_eq!((cores.len(), leaves.len()), (8, 8));
    let mut hashes = Vec::new();
    for (core, leaf) in cores.iter().zip(&leaves) {
        let core = unhex(core).unwrap();
        assert_eq!(tree::leaf_hash(&core).to_string(), *leaf);
        assert!(Sign1::read(&core).unwrap().verify(&record_key).is_ok());
        // Its names, its exact clear time and its schema without a hash are no precedent.
        assert!(Unverified::read(&core).is_err());
        hashes.push(tree::leaf_hash(&core));
    }
    let disclosures = list("disclosures_3");
    for (disclosure, digest) in disclosures.iter().zip(list("digests_3")) {
        let disclosure = Disclosure::received(unhex(disclosure).unwrap());
        assert_eq!(disclosure.digest().to_string(), digest);
        let (salt, opened) = disclosure.open().unwrap();
        assert_eq!(Disclosure::seal(&salt, opened.value()), disclosure);
    }
    let third = Sign1::read(&unhex(&cores[3]).unwrap()).unwrap();
    assert_eq!(hex(&sig_structure(&third.protected, &third.payload)), text("sig_structure_3"));
    // Views with disclosures in the unprotected header, receipts and key binding tokens are not what travels here.
    for name in ["view_full_3", "view_oem_3", "receipt_3_8", "transparent_statement_3", "kbt_3"] {
        assert!(Unverified::read(&unhex(&text(name)).unwrap()).is_err(), "{name}");
    }
    tree_of_the_prototype(hashes, &text, &list);
}

fn tree_of_the_prototype(leaves: Vec<Hash>, text: &impl Fn(&str) -> String, list: &impl Fn(&str) -> Vec<String>) {
    use base64::Engine as _;
    let hash = |base64: &String| Hash::from_slice(&base64::engine::general_purpose::STANDARD.decode(base64).unwrap()).unwrap();
    let hashes = |name: &str| list(name).iter().map(hash).collect::<Vec<_>>();
    let (root5, root8) = (hash(&text("root5")), hash(&text("root8")));
    let whole = tree::Tree::new(leaves.clone());
    assert_eq!((whole.root(5), whole.root(8)), (root5, root8));
    let (inclusion, consistency) = (hashes("inclusion_3_8"), hashes("consistency_5_8"));
    assert_eq!((whole.inclusion(3, 8).unwrap(), whole.consistency(5, 8).unwrap()), (inclusion.clone(), consistency.clone()));
    assert_eq!(tree::verify_inclusion(&leaves[3], 3, 8, &inclusion, &root8), Ok(()));
    assert_eq!(tree::verify_consistency(5, &root5, 8, &root8, &consistency), Ok(()));
    let (name, key) = note::read_vkey(&text("log_vkey")).unwrap();
    for checkpoint in ["checkpoint8", "checkpoint5"] {
        assert!(note::verify_signature(&text(checkpoint), &name, &key).is_ok(), "{checkpoint}");
        // An origin that is no key of anybody.
        assert!(Checkpoint::read(&text(checkpoint)).is_err());
    }
    // A cosigner's key is of another type.
    assert!(note::read_vkey(&text("wit_vkey")).is_err());
    let proof = InclusionProof::read(&text("tlog_proof_3")).unwrap();
    assert_eq!((proof.index, &proof.path, proof.to_text()), (3, &inclusion, text("tlog_proof_3")));
}

fn duplicates(folder: &mut Folder) {
    for name in ["dup_A", "dup_B", "dup_AB"] {
        let bytes = folder.bytes(&format!("lotline-prototype/{name}.cbor"));
        assert!(Unverified::read(&bytes).is_err(), "{name}");
        assert!(Sign1::read(&bytes).is_err(), "{name}");
        // The disclosures alone, over the same payload, are refused for its simple(59).
        let Any::Tag(inner) = any(&mut &bytes[..]) else { panic!("no tag") };
        let Any::Array(parts) = *inner else { panic!("no array") };
        let Any::Bytes(payload) = &parts[2] else { panic!("no payload") };
        assert!(matches!(codec::decode(payload), Err(CodecError::Simple(_))), "{name}");
    }
}

// ---- coset as an oracle ----

/// A foreign COSE library reads every statement we make and verifies the same Sig_structure.
#[test]
fn coset_reads_our_statements() {
    let world = World::with_one();
    let cores = [
        (world.sealed(1).core.clone(), &world.record),
        (world.first.core.clone(), &world.record),
        (world.org.entries()[0].clone(), &world.root),
        (world.org.entries()[1].clone(), &world.record),
    ];
    for (core, signer) in cores {
        let theirs = coset::CoseSign1::from_tagged_slice(&core).unwrap();
        let ours = Sign1::read(&core).unwrap();
        assert!(theirs.unprotected.is_empty());
        let header = &theirs.protected.header;
        assert_eq!(header.alg, Some(coset::Algorithm::Assigned(coset::iana::Algorithm::Ed25519)));
        assert_eq!(header.key_id, signer.kid().0);
        assert_eq!(header.content_type, Some(coset::ContentType::Text("application/x.lotline.claims+cbor".into())));
        let labels: BTreeMap<String, _> = header.rest.iter().map(|(label, value)| (format!("{label:?}"), value)).collect();
        assert!(labels.keys().any(|label| label.contains("15")) && labels.keys().any(|label| label.contains("16")), "{labels:?}");
        assert_eq!(theirs.payload.as_deref(), Some(&ours.payload[..]));
        assert_eq!(theirs.tbs_data(&[]), sig_structure(&ours.protected, &ours.payload));
        let verify = |signature: &[u8], message: &[u8]| {
            let key: VerifyingKey = signer.public();
            key.verify_strict(message, &Signature::from_slice(signature).unwrap())
        };
        theirs.verify_signature(&[], verify).unwrap();
        assert!(theirs.verify_signature(b"external", verify).is_err());
        let claims = coset::cwt::ClaimsSet::from_slice(&ours.payload).unwrap();
        assert_eq!(claims.issuer, Some(world.party.to_string()));
    }
    // Where the two differ we are the stricter one: coset takes a key id in both headers (pitfall 8).
    let sign1 = Sign1::read(&world.sealed(1).core).unwrap();
    let kid = codec::map([(4, codec::bytes(world.record.kid().0))]);
    let both = common::laid_out(true, &sign1.protected, &kid, &sign1.payload, &sign1.signature);
    assert!(coset::CoseSign1::from_tagged_slice(&both).is_ok());
    assert!(Unverified::read(&both).is_err());
}
