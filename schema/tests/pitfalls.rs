//! The pitfalls of the format notes (section 3), one test each, named after its number there.
//!
//! Two of them are no matter of bytes and belong to the node: 21 (witness race: compare and store before the answer) is the
//! test `witness` of its feeds, 30 (signing twice after a crash) are the crash tests of `integration`. 20 has its other half,
//! the newest checkpoint that a node keeps, in the node's feeds too.
#![allow(clippy::unwrap_used)] // tests

mod common;

use common::{NOW, RECORDED_AT, World, inspection, laid_out, remove, report, set, signer, slot, vkeys};
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use lotline_schema::bundle::Bundle;
use lotline_schema::codec::{self, CodecError, Value};
use lotline_schema::cose::{self, Sign1, Signer};
use lotline_schema::fork::{ForkError, ForkProof, Side};
use lotline_schema::id::{Hash, Origin, PartyId, hex, pure_key, strong_key, thumbprint, unhex};
use lotline_schema::kind::inspection::{Inspection, SCHEMA, Verdict};
use lotline_schema::note::{self, Checkpoint, InclusionProof};
use lotline_schema::org::{self, Entry, Org, Role};
use lotline_schema::receipt::{self, Included, ReceiptError};
use lotline_schema::record::Record;
use lotline_schema::slot::{Disclosure, Opened, SlotError, Slots};
use lotline_schema::statement::{self, Body, Place, StatementError, Type, Unverified};
use lotline_schema::tree::{self, ProofError, Tree};
use lotline_schema::verify::{Outcome, Trust, verify};
use lotline_schema::view::{Expected, Package, SealedView, ViewError};

fn refused(core: &[u8]) -> StatementError {
    Unverified::read(core).expect_err("refused")
}

fn redacted(digest: Hash) -> Value {
    codec::array([codec::tag(60, codec::bytes(digest.0))])
}

fn slots_of(payload: &mut Value) -> &mut Vec<Value> {
    let Value::Map(entries) = payload else { panic!("a map") };
    let Value::Array(slots) = entries.get_mut(&codec::int(-65802)).unwrap() else { panic!("an array") };
    slots
}

/// A statement re-signed with other claims, verified as a view.
fn view_of(world: &World, core: Vec<u8>) -> Result<lotline_schema::view::VerifiedView, ViewError> {
    let origin = world.origin.to_string();
    SealedView { core, disclosures: vec![] }.verify(&world.org, Expected { origin: &origin, seq: 1 })
}

/// Two values behind one key: no map-key redaction, and no slot but one of exactly one digest.
#[test]
fn pitfall_01_a_slot_holds_exactly_one_digest() {
    let world = World::with_one();
    let (pass, fail) = (Disclosure::seal(&[1; 16], Some(&codec::text("PASS"))), Disclosure::seal(&[2; 16], Some(&codec::text("FAIL"))));
    let (pass, fail) = (pass.digest(), fail.digest());
    let bodies = [
        codec::array([codec::tag(60, codec::bytes(pass.0)), codec::tag(60, codec::bytes(fail.0))]),
        codec::array([]),
        codec::tag(60, codec::bytes(pass.0)),
        codec::array([codec::text("PASS")]),
        codec::array([codec::bytes(pass.0)]),
        codec::array([redacted(pass)]),
        codec::map([(1, codec::tag(60, codec::bytes(pass.0)))]),
        Value::Null,
    ];
    for body in bodies {
        let core = world.resigned(1, |_, payload| slots_of(payload)[0] = body.clone());
        assert!(matches!(refused(&core), StatementError::Shape(_)), "{body:?}");
    }
    // simple(59) as the key of redacted claims: the codec knows no such value.
    assert_eq!(
        codec::check(&unhex("a1f83b8158200000000000000000000000000000000000000000000000000000000000000000").unwrap()),
        Err(CodecError::Simple(1))
    );
    assert_eq!(codec::check(&unhex("f83b").unwrap()), Err(CodecError::Simple(0)));
    assert_eq!(codec::check(&unhex("d83c4101").unwrap()), Err(CodecError::Tag(0)));
    for count in [0, 65] {
        let digests: Vec<Value> = (0..count).map(|at: u8| redacted(Hash([at; 32]))).collect();
        let core = world.resigned(1, |_, payload| *slots_of(payload) = digests);
        refused(&core);
    }
    // Slots are as many as the schema has.
    let core = world.resigned(1, |_, payload| {
        slots_of(payload).pop();
    });
    assert_eq!(view_of(&world, core).unwrap_err(), ViewError::Slots(SCHEMA.fields.len() - 1, SCHEMA.fields.len()));
}

/// The digest covers the head of the byte string.
#[test]
fn pitfall_02_the_digest_covers_the_head() {
    for value in [None, Some(codec::int(1)), Some(codec::text("x".repeat(10))), Some(codec::text("x".repeat(300)))] {
        let disclosure = Disclosure::seal(&[7; 16], value.as_ref());
        let mut whole = Vec::new();
        codec::put_bytes(&mut whole, disclosure.bytes());
        assert_eq!(disclosure.digest(), Hash::of(&[&whole]));
        assert_ne!(disclosure.digest(), Hash::of(&[disclosure.bytes()]));
    }
}

/// Disclosures in the wrong place, shape or number.
#[test]
fn pitfall_03_every_disclosure_opens_its_one_slot() {
    let world = World::with_one();
    let origin = world.origin.to_string();
    let open = |disclosures: Vec<Disclosure>| {
        let view = SealedView { core: world.sealed(1).core.clone(), disclosures };
        view.verify(&world.org, Expected { origin: &origin, seq: 1 })
    };
    let all = &world.sealed(1).disclosures;
    assert_eq!(open(all.clone()).unwrap().hidden(), 0);
    let mut backwards = all.clone();
    backwards.reverse();
    assert_eq!(open(backwards).unwrap().hidden(), 0);
    // Unused, repeated.
    let foreign = Disclosure::seal(&[9; 16], Some(&codec::text("x")));
    assert_eq!(open(vec![all[0].clone(), foreign]).unwrap_err(), ViewError::Slot(SlotError::Foreign));
    assert_eq!(open(vec![all[0].clone(), all[0].clone()]).unwrap_err(), ViewError::Slot(SlotError::Twice(0)));
    // A view of a feed's first entry has nothing to open.
    let first = SealedView { core: world.first.core.clone(), disclosures: vec![] };
    assert!(first.verify(&world.org, Expected { origin: &origin, seq: 0 }).is_ok());
    let first = SealedView { disclosures: vec![all[0].clone()], ..first };
    assert_eq!(first.verify(&world.org, Expected { origin: &origin, seq: 0 }).unwrap_err(), ViewError::NotARecord);
    // Shapes: three elements, a decoy with a value, a salt of another length, no salt, a tag 60 or 18 inside the value.
    let salt = || codec::bytes([3; 16]);
    let shapes = [
        codec::array([salt(), codec::int(1), codec::text("key")]),
        codec::array([]),
        codec::array([codec::bytes([3; 15]), codec::int(1)]),
        codec::array([codec::bytes([3; 17])]),
        codec::array([codec::text("salt"), codec::int(1)]),
        codec::map([(1, salt())]),
        salt(),
        codec::array([salt(), codec::tag(60, codec::bytes([0; 32]))]),
        codec::array([salt(), codec::map([(1, codec::array([codec::tag(60, codec::bytes([0; 32]))]))])]),
        codec::array([salt(), codec::tag(18, codec::array([codec::bytes([]), codec::map([]), codec::bytes([]), codec::bytes([])]))]),
    ];
    for shape in shapes {
        let disclosure = Disclosure::received(codec::encode(&shape));
        let slots = Slots::of(std::slice::from_ref(&disclosure));
        assert!(matches!(slots.open(&[disclosure]), Err(SlotError::Form(_))), "{shape:?}");
    }
    // One digest in two slots; one salt in two disclosures.
    let core = world.resigned(1, |_, payload| {
        let slots = slots_of(payload);
        slots[1] = slots[0].clone();
    });
    refused(&core);
    let same_salt = [Disclosure::seal(&[5; 16], Some(&codec::int(1))), Disclosure::seal(&[5; 16], Some(&codec::int(2)))];
    assert_eq!(Slots::of(&same_salt).open(&same_salt), Err(SlotError::Twice(1)));
    // A required field shown as absent, a field in another form than its schema's.
    for (name, value) in [("part", None), ("part", Some(codec::int(1))), ("recorded_at", Some(codec::text("yesterday")))] {
        let forged = Disclosure::seal(&[6; 16], value.as_ref());
        let core = world.resigned(1, |_, payload| slots_of(payload)[slot(name)] = redacted(forged.digest()));
        let view = SealedView { core, disclosures: vec![forged] };
        let error = view.verify(&world.org, Expected { origin: &origin, seq: 1 }).unwrap_err();
        assert_eq!(error, if value.is_none() { ViewError::Required("part") } else { ViewError::Form(name) });
    }
}

/// Deterministic input only: every envelope has one spelling.
#[test]
fn pitfall_04_another_spelling_is_refused_at_every_layer() {
    let world = World::with_one();
    let core = &world.sealed(1).core;
    let sign1 = Sign1::read(core).unwrap();
    // Non-shortest tag, array length, byte-string length; indefinite array; trailing byte.
    let rest = &core[2..];
    for start in [&[0xd8, 0x12, 0x84][..], &[0xd2, 0x98, 0x04], &[0xd2, 0x9f]] {
        refused(&[start, rest].concat());
    }
    refused(&[&core[..], &[0]].concat());
    refused(&[&[0xd2, 0x84, 0x59, 0x00], &core[3..]].concat());
    // Inside: header and payload with a longer integer, an indefinite map, a trailing byte. All signed anew.
    for (from, to) in [("0132", "013812"), ("0132", "18010132")] {
        let longer = hex(&sign1.protected).replacen(from, to, 1);
        refused(&cose::sign(&world.record, &unhex(&longer).unwrap(), &sign1.payload));
    }
    let indefinite = |bytes: &[u8], head: u8| [&[head][..], &bytes[1..], &[0xff]].concat();
    refused(&cose::sign(&world.record, &indefinite(&sign1.protected, 0xbf), &sign1.payload));
    refused(&cose::sign(&world.record, &sign1.protected, &indefinite(&sign1.payload, 0xbf)));
    refused(&cose::sign(&world.record, &[&sign1.protected[..], &[0]].concat(), &sign1.payload));
    refused(&cose::sign(&world.record, &sign1.protected, &[&sign1.payload[..], &[0]].concat()));
    // A key twice.
    assert_eq!(codec::check(&unhex("a201000100").unwrap()), Err(CodecError::KeyOrder(3)));
    let doubled = [&[sign1.protected[0] + 1, 0x01, 0x32][..], &sign1.protected[1..]].concat();
    refused(&cose::sign(&world.record, &doubled, &sign1.payload));
    // A disclosure, signed for in a longer spelling: its digest fits, its form does not.
    let long = [&[0x82, 0x58, 0x10][..], &[7; 16], &[0x18, 0x05]].concat();
    for bytes in [long, [&[0x82, 0x50][..], &[7; 16], &[0x05, 0x00]].concat(), [&[0x9f, 0x50][..], &[7; 16], &[0x05, 0xff]].concat()] {
        let disclosure = Disclosure::received(bytes);
        let slots = Slots::of(std::slice::from_ref(&disclosure));
        assert!(matches!(slots.open(&[disclosure]), Err(SlotError::Form(_))));
    }
    // A proof.
    let proof = world.proof(1, 2).to_text();
    for (from, to) in [("index 1", "index 01"), ("index 1", "index +1"), ("index 1", "index  1"), ("@v1", "@v2"), ("\nindex", "\n\nindex")]
    {
        assert!(InclusionProof::read(&proof.replacen(from, to, 1)).is_err(), "{to}");
    }
    // A bundle.
    let bytes = world.bundle().to_bytes();
    for wrong in [[&bytes[..], &[0]].concat(), [&[0xbf][..], &bytes[1..], &[0xff]].concat(), [&[0xb8, 4][..], &bytes[1..]].concat()] {
        assert!(Bundle::read(&wrong).is_err());
    }
}

/// No floats: not even where they would be exact.
#[test]
fn pitfall_05_floats_are_refused() {
    for float in ["f93c00", "f97e00", "fa3f800000", "fb3ff0000000000000", "fb4029000000000000", "f90000", "f98000"] {
        let float = unhex(float).unwrap();
        assert_eq!(codec::check(&float), Err(CodecError::Simple(0)));
        let disclosure = Disclosure::received([&[0x82, 0x50][..], &[7; 16], &float].concat());
        let slots = Slots::of(std::slice::from_ref(&disclosure));
        assert!(matches!(slots.open(&[disclosure]), Err(SlotError::Form(CodecError::Simple(_)))));
    }
    // Nothing we sign holds one: 12.50 is tag 4 [-2, 1250].
    assert_eq!(hex(&codec::encode(&codec::decimal(&common::number("12.50")))), "c482211904e2");
}

/// Bytewise order (RFC 8949 4.2.1), not length first (RFC 7049).
#[test]
fn pitfall_06_map_keys_are_ordered_bytewise() {
    assert!(codec::check(&unhex("a601000a00186400200021003863 00".replace(' ', "").as_str()).unwrap()).is_ok());
    // Length first: 1, 10, -1, -2, 100, -100.
    assert_eq!(codec::check(&unhex("a601000a0020002100186400386300").unwrap()), Err(CodecError::KeyOrder(9)));
    // A text key after all integers, whatever its length.
    assert!(codec::check(&unhex("a23903e70061610 0".replace(' ', "").as_str()).unwrap()).is_ok());
    assert!(codec::check(&unhex("a2616100 3903e700".replace(' ', "").as_str()).unwrap()).is_err());
}

/// Integers in 64 signed bits; no bignums.
#[test]
fn pitfall_07_integers_are_64_bit() {
    for (number, fine) in [
        ("1b7fffffffffffffff", true),
        ("3b7fffffffffffffff", true),
        ("1b8000000000000000", false),
        ("3b8000000000000000", false),
        ("3bffffffffffffffff", false),
        ("c249010000000000000000", false),
        ("c349010000000000000000", false),
        ("c240", false),
        ("c4820 03bffffffffffffffff", false),
    ] {
        let bytes = unhex(&number.replace(' ', "")).unwrap();
        assert_eq!(codec::check(&bytes).is_ok(), fine, "{number}");
        assert_eq!(codec::decode(&bytes).is_ok(), fine, "{number}");
    }
    assert_eq!(codec::as_int(&codec::decode(&unhex("3b7fffffffffffffff").unwrap()).unwrap()), Some(i64::MIN));
}

/// A label in the unprotected header, again or alone.
#[test]
fn pitfall_08_the_unprotected_header_is_empty() {
    let world = World::with_one();
    let sign1 = Sign1::read(&world.sealed(1).core).unwrap();
    let with = |unprotected: Value| laid_out(true, &sign1.protected, &unprotected, &sign1.payload, &sign1.signature);
    assert_eq!(with(codec::map([])), world.sealed(1).core);
    for (label, value) in [
        (4, codec::bytes(world.record.kid().0)),
        (1, codec::int(-19)),
        (17, codec::array([codec::bytes(world.sealed(1).disclosures[0].bytes())])),
        (394, codec::array([])),
        (99, Value::Null),
    ] {
        refused(&with(codec::map([(label, value)])));
    }
    refused(&with(Value::Null));
    refused(&laid_out(false, &sign1.protected, &codec::map([]), &sign1.payload, &sign1.signature));
}

/// Verified over the bytes received: another order of the same header is refused, never put right.
#[test]
fn pitfall_09_the_protected_header_is_never_put_in_order() {
    let world = World::with_one();
    let sign1 = Sign1::read(&world.sealed(1).core).unwrap();
    // The last entry (170: -16, as 18 aa 2f) goes first.
    let flipped = [&sign1.protected[..1], &[0x18, 0xaa, 0x2f], &sign1.protected[1..sign1.protected.len() - 3]].concat();
    assert_eq!(flipped.len(), sign1.protected.len());
    // Signed over the usual order, sent in another; and honestly signed in another.
    let sent = laid_out(true, &flipped, &codec::map([]), &sign1.payload, &sign1.signature);
    assert!(matches!(refused(&sent), StatementError::Shape(CodecError::KeyOrder(_))));
    let signed = cose::sign(&world.record, &flipped, &sign1.payload);
    assert!(matches!(refused(&signed), StatementError::Shape(CodecError::KeyOrder(_))));
    let raw = Sign1::read(&signed).unwrap();
    assert!(raw.verify(&world.record.public()).is_ok());
    assert!(Sign1 { protected: sign1.protected.clone(), ..raw }.verify(&world.record.public()).is_err());
}

/// Only Ed25519 (−19), only in the protected header, only a key the org feed names for records.
#[test]
fn pitfall_10_the_algorithm_is_ed25519_and_the_key_is_named() {
    let world = World::with_one();
    for algorithm in [codec::int(-8), codec::int(-7), codec::int(-35), codec::int(19), codec::int(0), codec::text("Ed25519"), Value::Null] {
        refused(&world.resigned(1, |header, _| set(header, 1, algorithm.clone())));
    }
    refused(&world.resigned(1, |header, _| remove(header, 1)));
    let sign1 = Sign1::read(&world.sealed(1).core).unwrap();
    let mut header = codec::decode(&sign1.protected).unwrap();
    remove(&mut header, 1);
    refused(&laid_out(true, &codec::encode(&header), &codec::map([(1, codec::int(-19))]), &sign1.payload, &sign1.signature));
    refused(&world.resigned(1, |header, _| set(header, 2, codec::array([codec::int(1)]))));
    refused(&world.resigned(1, |header, _| set(header, 170, codec::int(-43))));
    // A key of the organisation in another role, the root, or a stranger: signed right, not allowed.
    for signer in [&world.log, &world.witness, &world.transport, &world.root, &Signer::from_seed(&[0x77; 32])] {
        let place = Place { origin: world.origin.clone(), seq: 1, now: NOW, supersedes: None };
        let record = inspection().check(RECORDED_AT).unwrap();
        let sealed = statement::seal_record(&record, &place, signer, |noise| common::Filler::new("pitfall 10").fill(noise));
        assert_eq!(view_of(&world, sealed.unwrap().core).unwrap_err(), ViewError::Key(signer.kid().short()));
    }
    // The right kid over another key's signature.
    let core = cose::sign(&world.log, &sign1.protected, &sign1.payload);
    assert!(matches!(view_of(&world, core).unwrap_err(), ViewError::Statement(StatementError::Cose(_))));
    // The right signature under another kid, header and confirmation alike.
    let other = world.log.kid();
    let core = world.resigned(1, |header, payload| {
        set(header, 4, codec::bytes(other.0));
        set(payload, 8, codec::map([(5, codec::bytes(other.0))]));
    });
    assert!(matches!(view_of(&world, core.clone()).unwrap_err(), ViewError::Key(_)));
    assert_eq!(Unverified::read(&core).unwrap().verify(&world.record.public()).unwrap_err(), StatementError::Differs("keys"));
}

/// `verify_strict` everywhere; weak keys are nobody's.
#[test]
fn pitfall_11_weak_keys_and_loose_signatures_are_refused() {
    let mut identity = [0u8; 32];
    identity[0] = 1;
    let weak = VerifyingKey::from_bytes(&identity).unwrap();
    // R = identity, S = 0: the loose check takes it for any message.
    let mut signature = [0u8; 64];
    signature[0] = 1;
    for message in [&b"one"[..], b"another"] {
        assert!(weak.verify(message, &Signature::from_bytes(&signature)).is_ok());
        assert!(weak.verify_strict(message, &Signature::from_bytes(&signature)).is_err());
    }
    let sign1 = Sign1 { protected: vec![0xa0], payload: vec![0xa0], signature };
    assert!(sign1.verify(&weak).is_err());
    assert!(strong_key(&identity).is_none());
    assert!(strong_key(&[0; 31]).is_none());
    let vkey = note::vkey("weak", &weak);
    assert!(note::read_vkey(&vkey).is_err());
    let weak_party = PartyId::of(&weak);
    assert!(weak_party.to_string().parse::<PartyId>().is_err());
    assert!(format!("{}/quality/1", weak_party.key_text()).parse::<Origin>().is_err());
    // A keyring with a weak key; every point of small order is one.
    let orders = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    ];
    let world = World::new();
    for order in orders {
        let key = VerifyingKey::from_bytes(&unhex(order).unwrap().try_into().unwrap()).unwrap();
        assert!(key.is_weak() && strong_key(key.as_bytes()).is_none(), "{order}");
        let keys = [(Role::Record, world.record.public()), (Role::Log, key), (Role::Witness, world.witness.public())];
        let keys = keys.into_iter().chain([(Role::Transport, world.transport.public())]).collect();
        let mut org = Org::new(world.party);
        let keyring = Entry::keyring("W", keys);
        let sealed = org::seal(&org, &keyring, NOW, &world.root, |noise| noise.fill(1)).unwrap();
        assert!(org.accept(sealed.core).is_err());
    }
}

/// Verifiers of other make are looser: what they would take and we do not is refused, and keys on which they disagree are
/// never learnt. The cases are those of ed25519-speccheck (novifinancial, Apache-2.0): message, key, signature.
#[test]
fn pitfall_12_strict_and_loose_verifiers_differ_and_strict_counts() {
    const SMALL: &str = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa";
    const MIXED: &str = "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d";
    const OTHER: &str = "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43";
    const LARGE: &str = "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623";
    let cases = [
        // Key and R of small order, S = 0: any message.
        (
            "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
            SMALL,
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a0000000000000000000000000000000000000000000000000000000000000000",
        ),
        // The key of small order.
        (
            "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
            SMALL,
            "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        ),
        // R of small order.
        (
            "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
            OTHER,
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
        ),
        // Key and R with a part of small order; holds with and without the cofactor.
        (
            "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
            MIXED,
            "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
        ),
        // Holds with the cofactor alone.
        (
            "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
            MIXED,
            "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed5125ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
        ),
        (
            "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
            MIXED,
            "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
        ),
        // S not below the order of the group, by a little and by much.
        (
            "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
            LARGE,
            "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
        ),
        (
            "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
            LARGE,
            "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa19427e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
        ),
        // R of small order in another spelling.
        (
            "fdaebc429f4a735932a160da1301080c13280eea8bc280d1b392c6b9e6ba3a5a",
            OTHER,
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f454d370c8d9fc323a41450f8d513eafeb5b0697390c1e505a0d4ddc71f566607",
        ),
        (
            "84b698d39be126ff55fe45079e6c8bf64a0d7db6994560b4e96b7021eb39c1a1",
            OTHER,
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f084d5b99c2a9463d9c8bd5026916996984eeec87ddf1d3be329006ace1b37b09",
        ),
    ];
    let (mut strict_only, mut differ) = (Vec::new(), Vec::new());
    for (number, (message, key, signature)) in cases.iter().enumerate() {
        let key = VerifyingKey::from_bytes(&unhex(key).unwrap().try_into().unwrap()).unwrap();
        let signature = Signature::from_bytes(&unhex(signature).unwrap().try_into().unwrap());
        let message = unhex(message).unwrap();
        let (strict, loose) = (key.verify_strict(&message, &signature).is_ok(), key.verify(&message, &signature).is_ok());
        assert!(!strict || loose);
        if strict {
            strict_only.push(number);
        }
        if strict != loose {
            differ.push(number);
        }
    }
    // One is left, and only because its key has a part of small order, which nobody learns.
    assert_eq!(strict_only, [3]);
    assert!(differ.starts_with(&[0, 1, 2]), "{differ:?}");
    let learnt = |key: &str| pure_key(&unhex(key).unwrap()).is_some();
    assert_eq!([SMALL, MIXED, OTHER].map(learnt), [false; 3]);
    assert!(learnt(&hex(World::new().record.public().as_bytes())));
    // Nor does any other key of ours with such a part, wherever a key is learnt.
    let world = World::new();
    let small = VerifyingKey::from_bytes(&unhex(SMALL).unwrap().try_into().unwrap()).unwrap();
    let mixed = (world.transport.public().to_edwards() + small.to_edwards()).compress();
    let mixed = VerifyingKey::from_bytes(mixed.as_bytes()).unwrap();
    assert!(strong_key(mixed.as_bytes()).is_some() && pure_key(mixed.as_bytes()).is_none());
    let refused = |entry: &Entry, signer: &Signer| {
        let sealed = org::seal(&world.org, entry, NOW, signer, |noise| noise.fill(1)).unwrap();
        assert!(world.org.clone().accept(sealed.core).is_err(), "{entry:?}");
    };
    let from = world.places(2, 1);
    let origin = Origin::new(world.party, "b", 1).unwrap();
    refused(&Entry::Rotation { role: Role::Record, key: mixed, from, reason: String::new() }, &world.root);
    refused(&Entry::Signer { name: "N".into(), function: "F".into(), key: mixed }, &world.root);
    let (good, until) = (signer(0x22).public(), 0);
    refused(&Entry::Delegation { name: "N".into(), origin: origin.clone(), record: mixed, log: good, until }, &world.root);
    refused(&Entry::Delegation { name: "N".into(), origin, record: good, log: mixed, until }, &world.root);
    let keys = [(Role::Record, world.record.public()), (Role::Log, world.log.public()), (Role::Witness, world.witness.public())];
    let keyring = Entry::keyring("W", keys.into_iter().chain([(Role::Transport, mixed)]).collect());
    let sealed = org::seal(&Org::new(world.party), &keyring, NOW, &world.root, |noise| noise.fill(1)).unwrap();
    assert!(Org::new(world.party).accept(sealed.core).is_err());
    assert!(note::WitnessKey::read(&note::WitnessKey::opaque(mixed).to_string()).is_err());
    assert!(note::read_vkey(&note::vkey("log", &mixed)).is_err());
    // A root is looked at when its keyring is read: the name alone proves nothing yet.
    let party = PartyId::of(&mixed);
    let place = Place { origin: Origin::org(party), seq: 0, now: NOW, supersedes: None };
    let roles = ["record", "log", "witness", "transport"].map(|name| (codec::text(name), codec::bytes([name.len() as u8; 32])));
    let entry = codec::array([codec::text("keyring"), codec::text("W"), Value::Map(roles.into()), codec::map([]), codec::array([])]);
    let sealed = statement::seal_entry(Type::Org, entry, &place, &world.root, |noise| noise.fill(1)).unwrap();
    assert!(Org::new(party).accept(sealed.core).is_err());
}

/// Few possible values behind a digest: without the salt nobody finds out which.
#[test]
fn pitfall_13_a_verdict_cannot_be_guessed() {
    let world = World::with_one();
    let Body::Slots(_, slots) = Unverified::read(&world.sealed(1).core).unwrap().claims().body.clone() else { panic!("slots") };
    let verdicts = [Verdict::Conforming, Verdict::NonConforming, Verdict::Undecided].map(|verdict| codec::text(verdict.name()));
    let guess = |salt: &[u8; 16], value: Option<&Value>| slots.slot_of(&Disclosure::seal(salt, value));
    let mut guessed = 0u32;
    for at in 0..10_000u32 {
        let salt: [u8; 16] = Hash::of(&[&at.to_be_bytes()]).0[..16].try_into().unwrap();
        for value in [None, Some(&verdicts[0]), Some(&verdicts[1]), Some(&verdicts[2])] {
            assert_eq!(guess(&salt, value), None);
            guessed += 1;
        }
    }
    for salt in [[0; 16], [0xff; 16]] {
        assert_eq!(guess(&salt, None), None);
    }
    assert_eq!(guessed, 40_000);
    // Nor from another slot of the same record whose salt is known.
    for disclosure in &world.sealed(1).disclosures {
        let (salt, opened) = disclosure.open().unwrap();
        for verdict in &verdicts {
            assert!(guess(&salt, Some(verdict)).is_none() || opened == Opened::Value(verdict.clone()));
        }
    }
}

/// Presence, number and order of fields show nothing.
#[test]
fn pitfall_14_every_record_of_a_schema_has_the_same_shape() {
    let least = Inspection { part: "P".into(), lot: "L".into(), verdict_stated: Some(Verdict::Undecided), ..Inspection::default() };
    let shape = |record: &Record| {
        let mut world = World::new();
        world.publish(record);
        let sealed = world.sealed(1);
        let Body::Slots(schema, slots) = Unverified::read(&sealed.core).unwrap().claims().body.clone() else { panic!("slots") };
        (schema, slots.len(), sealed.disclosures.len(), sealed.core.len())
    };
    let (one, other) = (shape(&least.check(RECORDED_AT).unwrap()), shape(&inspection().check(RECORDED_AT).unwrap()));
    assert_eq!(one, other);
    assert_eq!(one.1, SCHEMA.fields.len());
    // An absent field is a decoy: a digest like any other, and its disclosure says "absent".
    let world = World::with_one();
    let absent = &world.sealed(1).disclosures[slot("machine")];
    assert_eq!(absent.open().unwrap().1, Opened::Absent);
    assert_eq!(absent.bytes().len(), 18);
}

/// The whole list of what a record says to everybody; its bytes hold nothing else.
#[test]
fn pitfall_15_two_records_share_only_what_the_list_says() {
    /// Reviewed: headers (alg, content type, kid, CWT claims, typ, sd_alg), then claims (iss, sub, iat as a day, cti, cnf,
    /// schema, slots, seq, feed).
    const HEADERS: [i64; 6] = [1, 3, 4, 15, 16, 170];
    const CLAIMS: [i64; 9] = [1, 2, 6, 7, 8, -65801, -65802, -65803, -65804];
    let mut world = World::new();
    for customer in ["OEM One", "OEM Two"] {
        let record = Inspection { customer: Some(customer.into()), lot: format!("lot for {customer}"), ..inspection() };
        world.publish(&record.check(RECORDED_AT).unwrap());
    }
    let parts = [1, 2].map(|seq| {
        let sign1 = Sign1::read(&world.sealed(seq).core).unwrap();
        let map = |bytes: &[u8]| codec::as_map(&codec::decode(bytes).unwrap()).unwrap().clone();
        (map(&sign1.protected), map(&sign1.payload))
    });
    let int = |key: &i64| codec::int(*key);
    let own = |map: &std::collections::BTreeMap<Value, Value>, listed: &[i64]| {
        assert_eq!(map.len(), listed.len());
        assert!(listed.iter().all(|key| map.contains_key(&codec::int(*key))));
    };
    for (header, claims) in &parts {
        own(header, &HEADERS);
        own(claims, &CLAIMS);
        let Value::Array(slots) = &claims[&codec::int(-65802)] else { panic!("slots") };
        assert!(slots.iter().all(|slot| matches!(codec::as_array(slot), Some([Value::Tag(60, _)]))));
    }
    let ((header, claims), (other_header, other_claims)) = (&parts[0], &parts[1]);
    let same = |keys: &[i64], one: &std::collections::BTreeMap<Value, Value>, other: &std::collections::BTreeMap<Value, Value>| {
        keys.iter().copied().filter(|key| one[&int(key)] == other[&int(key)]).collect::<Vec<_>>()
    };
    // 15 holds issuer and subject, and differs by the subject. In the claims: iss, day, key, schema and feed are common.
    assert_eq!(same(&HEADERS, header, other_header), [1, 3, 4, 16, 170]);
    assert_eq!(same(&CLAIMS, claims, other_claims), [1, 6, 8, -65801, -65804]);
    // No slot of one is a slot of the other, though all fields but two hold the same.
    let digests = |claims: &std::collections::BTreeMap<Value, Value>| match &claims[&codec::int(-65802)] {
        Value::Array(slots) => slots.clone(),
        _ => panic!("slots"),
    };
    let theirs = digests(other_claims);
    assert!(digests(claims).iter().all(|slot| !theirs.contains(slot)));
    // No name, no number of the content stands in the core.
    for seq in [1, 2] {
        let core = &world.sealed(seq).core;
        for text in ["OEM One", "OEM Two", "4711-A", "lot for", "Muster", "Durchmesser"] {
            assert!(!core.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
        }
    }
}

/// Sequence number, index and tree size tell how many entries a feed has, hidden ones too. That is a choice, and written
/// down: who may not know how much is made for others gets a feed of its own.
#[test]
fn pitfall_16_a_feed_tells_its_volume_and_the_document_says_so() {
    let mut world = World::new();
    for lot in 0..9 {
        world.publish(&Inspection { lot: format!("lot {lot}"), ..inspection() }.check(RECORDED_AT).unwrap());
    }
    let report = report(&world.bundle_of(vec![world.package(7, |_| false)]));
    assert_eq!((report.records[0].view.claims().seq, report.records[0].size), (7, 10));
    let document = include_str!("../../docs/wire.md");
    assert!(document.contains("A feed tells its volume"), "docs/wire.md says nothing of volume");
    // Two feeds of one supplier have nothing of each other but issuer and key.
    let other = Origin::new(world.party, "oem-two", 1).unwrap();
    world.state(&Entry::Feed { origin: other.clone(), follows: None });
    assert!(world.org.has_feed(other.as_str()));
}

/// The same hashes prove another index in another size: so the size is signed, and the index is the signed one.
#[test]
fn pitfall_17_a_relabelled_proof_is_refused() {
    let mut world = World::new();
    for lot in ["a", "b", "c", "d"] {
        world.publish(&Inspection { lot: lot.into(), ..inspection() }.check(RECORDED_AT).unwrap());
    }
    let (proof, tree) = (world.proof(4, 5), world.tree());
    let (leaf, root) = (world.leaves[4], tree.root(5));
    assert_eq!(tree::verify_inclusion(&leaf, 4, 5, &proof.path, &root), Ok(()));
    for (size, index) in [(2u64, 1u64), (3, 2), (9, 8)] {
        // The bare mathematics accepts it, which is the pitfall …
        assert_eq!(tree::verify_inclusion(&leaf, index, size, &proof.path, &root), Ok(()));
        // … but index, size and place are each signed.
        let relabelled = InclusionProof { index, ..proof.clone() }.to_text();
        let resized =
            InclusionProof { checkpoint: proof.checkpoint.replacen("\n5\n", &format!("\n{size}\n"), 1), ..proof.clone() }.to_text();
        let both = InclusionProof { index, ..InclusionProof::read(&resized).unwrap() }.to_text();
        for text in [relabelled, resized, both] {
            let mut package = world.package(4, |_| true);
            assert_eq!(package.proof, proof.to_text());
            package.proof = text;
            assert_eq!(report(&world.bundle_of(vec![package])).outcome, Outcome::Altered, "{size}, {index}");
        }
        // Nor may the log's owner move the statement: its own signature names the place.
        let moved = Checkpoint { size, root, origin: world.origin.clone() }.sign(&world.log);
        let mut package = world.package(4, |_| true);
        package.proof = InclusionProof { index, checkpoint: moved, ..proof.clone() }.to_text();
        assert_eq!(report(&world.bundle_of(vec![package])).outcome, Outcome::Altered);
    }
    assert_eq!(tree::verify_inclusion(&leaf, 5, 5, &proof.path, &root), Err(ProofError::Outside { index: 5, size: 5 }));
    assert_eq!(tree::verify_inclusion(&leaf, 4, 5, &[], &root), Err(ProofError::Length));
    assert_eq!(tree::verify_inclusion(&leaf, 4, 5, &[proof.path[0], root], &root), Err(ProofError::Length));
}

/// Consistency and inclusion at their edges.
#[test]
fn pitfall_18_proofs_at_their_edges() {
    let leaves: Vec<Hash> = (0..20u8).map(|at| tree::leaf_hash(&[at])).collect();
    let tree = Tree::new(leaves.clone());
    let mut probes = 0;
    for new in 1..=20u64 {
        for old in 1..=new {
            let path = tree.consistency(old, new).unwrap();
            let check =
                |old: u64, new: u64, path: &[Hash]| tree::verify_consistency(old, &tree.root(old.min(20)), new, &tree.root(new), path);
            assert_eq!(check(old, new, &path), Ok(()));
            let mut longer = path.clone();
            longer.push(Hash([0; 32]));
            assert!(check(old, new, &longer).is_err());
            longer.rotate_right(1);
            assert!(check(old, new, &longer).is_err());
            if let Some((_, shorter)) = path.split_last() {
                assert!(check(old, new, shorter).is_err());
            }
            for at in 0..path.len() {
                let mut other = path.clone();
                other[at].0[31] ^= 1;
                assert_eq!(check(old, new, &other), Err(ProofError::Root));
            }
            // Another history of the first leaf.
            let mut forked = leaves.clone();
            forked[0] = tree::leaf_hash(b"x");
            let forked = Tree::new(forked);
            assert!(tree::verify_consistency(old, &forked.root(old), new, &tree.root(new), &path).is_err());
            probes += 5 + path.len();
        }
    }
    assert!(probes > 196, "{probes}");
    let root = tree.root(5);
    assert!(tree::verify_consistency(0, &tree::empty_root(), 5, &root, &[]).is_err());
    assert!(tree::verify_consistency(6, &tree.root(6), 5, &root, &[]).is_err());
    assert_eq!(tree::verify_consistency(5, &root, 5, &root, &[]), Ok(()));
    assert_eq!(tree::verify_consistency(5, &root, 5, &root, &[root]), Err(ProofError::Length));
    assert_eq!(tree::verify_consistency(5, &root, 5, &tree.root(6), &[]), Err(ProofError::Root));
    assert!(tree::verify_inclusion(&leaves[0], 0, 0, &[], &tree::empty_root()).is_err());
    // Hashes of a proof have 32 bytes.
    let world = World::with_one();
    let proof = world.proof(1, 2).to_text();
    let hash = proof.lines().nth(2).unwrap();
    for other in ["AA==", "", &format!("{}A", &hash[..40]), &format!("{hash}\n")] {
        let read = InclusionProof::read(&proof.replacen(hash, other, 1)).and_then(|proof| Checkpoint::read(&proof.checkpoint));
        assert!(read.is_err(), "{other}");
    }
    let many = format!("{}\n", hash).repeat(64);
    assert!(InclusionProof::read(&proof.replacen(&format!("{hash}\n"), &many, 1)).is_err());
}

/// Two histories: two heads of one size, a head that does not follow, one place used twice.
#[test]
fn pitfall_19_equivocation_is_found_and_proven() {
    let history = |last: &str| {
        let mut world = World::new();
        for lot in ["a", "b", "c", "d", "e", last, "g"] {
            world.publish(&Inspection { lot: lot.into(), ..inspection() }.check(RECORDED_AT).unwrap());
        }
        world
    };
    let (world, other) = (history("f"), history("x"));
    let proven = |sides: [Side; 2]| {
        let proof = ForkProof { org: world.org_part(), sides };
        (proof.check().is_ok(), verify(&proof.to_bytes(), &world.trust()).outcome.exit_code())
    };
    let head = |world: &World, size| Side::Checkpoint(world.checkpoint(size).sign(&world.log));
    let leaf = |world: &World, seq: u64, size| Side::Leaf(world.leaves[seq as usize], world.proof(seq, size).to_text());
    // One size, two roots.
    assert_eq!(proven([head(&world, 7), head(&other, 7)]), (true, 10));
    // From 7 to 8 on a forked history: no consistency proof can be made, which is suspicion; a leaf on each side is proof.
    let path = other.tree().consistency(7, 8).unwrap();
    let follows = tree::verify_consistency(7, &world.tree().root(7), 8, &other.tree().root(8), &path);
    assert_eq!(follows, Err(ProofError::Root));
    assert_eq!(proven([head(&world, 7), head(&other, 8)]), (false, 4));
    assert_eq!(proven([leaf(&world, 6, 7), leaf(&other, 6, 8)]), (true, 10));
    assert_eq!(proven([leaf(&world, 5, 7), leaf(&other, 5, 8)]), (false, 4));
    // One place, two statements: no tree is needed.
    let statement = |world: &World, seq| Side::Statement(world.sealed(seq).core.clone());
    assert_eq!(proven([statement(&world, 6), statement(&other, 6)]), (true, 10));
    assert_eq!(proven([statement(&world, 5), statement(&other, 6)]), (false, 4));
    // And both in one bundle.
    let bundle = world.bundle_of(vec![world.package(6, |at| at == 3), other.package(6, |at| at == 3)]);
    assert_eq!(report(&bundle).outcome, Outcome::Forked);
}

/// An older head is no successor, however well it is signed; and old news is told from new by a demand.
#[test]
fn pitfall_20_an_old_checkpoint_does_not_follow_and_is_not_fresh() {
    let mut world = World::new();
    for lot in ["a", "b", "c"] {
        world.publish(&Inspection { lot: lot.into(), ..inspection() }.check(RECORDED_AT).unwrap());
    }
    let (tree, witness) = (world.tree(), signer(0x41));
    assert!(world.org.open(&world.checkpoint(2).sign(&world.log)).is_ok());
    // From the kept one, of 4, to the replayed one, of 2: refused whatever the path.
    for path in [vec![], tree.consistency(2, 4).unwrap()] {
        assert!(tree::verify_consistency(4, &tree.root(4), 2, &tree.root(2), &path).is_err());
    }
    assert_eq!(tree.consistency(4, 2), None);
    // Replayed with its old cosignature: intact, and too old for who asks.
    let replayed = |fresh_after: Option<u64>| {
        let mut bundle = world.bundle_of(vec![Package::new(world.view(1, |_| true), world.proof(1, 2).to_text())]);
        bundle.orgs[0].checkpoint = world.cosigned_org_checkpoint(&[(&witness, NOW - 1000)]);
        bundle.witnesses = vkeys(&[&witness]);
        let mut trust = world.trust();
        fresh_after.into_iter().for_each(|after| trust.demand_fresh_after(after));
        verify(&bundle.to_bytes(), &trust).outcome
    };
    assert_eq!(
        (replayed(None), replayed(Some(NOW - 1000)), replayed(Some(NOW))),
        (Outcome::Verified, Outcome::Verified, Outcome::Incomplete)
    );
}

/// The claimed day decides nothing, and has one form.
#[test]
fn pitfall_22_the_claimed_day_is_a_day_and_decides_nothing() {
    let world = World::with_one();
    let with = |day: Value| world.resigned(1, |_, payload| set(payload, 6, day));
    for wrong in [codec::int(-86_400), codec::int(1), codec::uint(NOW), codec::text("2026-11-23"), Value::Null] {
        refused(&with(wrong));
    }
    // A float, by hand: the day is 1a 6b0.. in the payload.
    let sign1 = Sign1::read(&world.sealed(1).core).unwrap();
    let day = NOW / 86_400 * 86_400;
    let (from, to) = (format!("061a{day:08x}"), format!("06fb{:016x}", (day as f64).to_bits()));
    let payload = hex(&sign1.payload);
    assert_eq!(payload.matches(&from).count(), 1);
    refused(&cose::sign(&world.record, &sign1.protected, &unhex(&payload.replace(&from, &to)).unwrap()));
    // Long gone, or in 2099: as good as any other, since the place in the feed decides which key may sign.
    for day in [0, 47_482 * 86_400] {
        assert!(view_of(&world, with(codec::uint(day))).is_ok());
    }
    // The clear time tells the day, no more.
    assert_eq!(Unverified::read(&world.sealed(1).core).unwrap().claims().day, day);
}

/// A key is good for places, and a stolen one cannot date itself back.
#[test]
fn pitfall_23_a_key_is_good_for_a_range_of_places() {
    let mut world = World::with_one();
    let places = world.places(world.org.size(), 2);
    let old = world.rotate(Role::Record, signer(0x25), places);
    let record = |lot: &str| Inspection { lot: lot.into(), ..inspection() }.check(RECORDED_AT).unwrap();
    let new = std::mem::replace(&mut world.record, old);
    // Dated to the day before the rotation, to 1970, to today.
    let days = [NOW - 86_400, 0, NOW];
    for now in days {
        let place = Place { origin: world.origin.clone(), seq: world.leaves.len() as u64, now, supersedes: None };
        let sealed = statement::seal_record(&record("stolen"), &place, &world.record, |noise| world.filler.fill(noise)).unwrap();
        world.push(sealed);
    }
    world.record = new;
    world.publish(&record("new"));
    let code = |seq| verify(&world.bundle_of(vec![world.package(seq, |_| true)]).to_bytes(), &world.trust()).outcome.exit_code();
    assert_eq!([1, 2, 3, 4, 5].map(code), [0, 8, 8, 8, 0]);
    // The new key claims the place of the first record.
    let mut early = World::new();
    early.record = world.record.clone();
    early.publish(&record("early"));
    early.org = world.org.clone();
    assert_eq!(report(&early.bundle()).outcome, Outcome::Altered);
    // Not the record key rotates itself.
    let entry = Entry::Rotation { role: Role::Record, key: signer(0x26).public(), from: world.places(3, 6), reason: String::new() };
    let mut org = world.org.clone();
    for thief in [&world.record, &world.log] {
        let sealed = org::seal(&org, &entry, NOW, thief, |noise| noise.fill(1)).unwrap();
        assert!(org.accept(sealed.core).is_err());
    }
}

/// Old key alone before the boundary, new key alone behind it, at the boundary either; never both lines in one note.
#[test]
fn pitfall_24_at_the_boundary_both_log_keys_hold() {
    let mut world = World::with_one();
    world.publish(&Inspection { lot: "b".into(), ..inspection() }.check(RECORDED_AT).unwrap());
    let places = world.places(world.org.size(), 2);
    let old = world.rotate(Role::Log, signer(0x26), places);
    let new = world.log.clone();
    let holds = |size, key: &Signer| world.org.open(&world.checkpoint(size).sign(key)).is_ok();
    assert_eq!([1, 2, 3].map(|size| holds(size, &old)), [true, true, false]);
    assert_eq!([1, 2, 3].map(|size| holds(size, &new)), [false, true, true]);
    let (one, other) = (world.checkpoint(2).sign(&old), world.checkpoint(2).sign(&new));
    let both = format!("{one}{}", &other[other.find('\u{2014}').unwrap()..]);
    assert!(world.org.open(&both).is_err() && world.org.open_cosigned(&both).is_err());
    // Who reads any signed note finds either line, each under its own key.
    for key in [&old, &new] {
        assert!(note::verify_signature(&both, world.origin.as_str(), &key.public()).is_ok());
    }
}

/// One key, one role, one kind of message.
#[test]
fn pitfall_25_messages_of_different_kinds_cannot_be_confused() {
    let mut world = World::with_one();
    assert_eq!(cose::sig_structure(b"", b"")[..2], [0x84, 0x6a]);
    assert!(std::str::from_utf8(&cose::sig_structure(b"", b"")).is_err());
    // A checkpoint under the record key, a record under the log key.
    let wrong = world.checkpoint(2).sign(&world.record);
    assert!(Checkpoint::open(&wrong, &world.log.public()).is_err());
    assert!(Checkpoint::open(&wrong, &world.record.public()).is_ok());
    let mut package = world.package(1, |_| true);
    package.proof = InclusionProof { checkpoint: wrong, ..world.proof(1, 2) }.to_text();
    assert_eq!(report(&world.bundle_of(vec![package])).outcome, Outcome::Altered);
    // The org feed's checkpoint is no checkpoint of the data feed, and the other way round.
    let mut package = world.package(1, |_| true);
    package.proof = InclusionProof { checkpoint: world.org_checkpoint(), ..world.proof(1, 2) }.to_text();
    assert_eq!(report(&world.bundle_of(vec![package])).outcome, Outcome::Altered);
    let mut part = world.org_part();
    part.checkpoint = world.checkpoint(2).sign(&world.log);
    assert_eq!(
        report(&Bundle { orgs: vec![part], packages: vec![world.package(1, |_| true)], ..Bundle::default() }).outcome,
        Outcome::Altered
    );
    // A checkpoint for an org feed that has grown since.
    let old = world.org_part();
    world.withdraw(1, "grown");
    let mut part = world.org_part();
    part.checkpoint = old.checkpoint.clone();
    assert_eq!(
        report(&Bundle { orgs: vec![part], packages: vec![world.package(1, |_| true)], ..Bundle::default() }).outcome,
        Outcome::Altered
    );
    // One key with two roles.
    let mut org = Org::new(world.party);
    let roles = |transport: &Signer| {
        let keys = [(Role::Record, &world.record), (Role::Log, &world.log), (Role::Witness, &world.witness), (Role::Transport, transport)];
        Entry::keyring("X", keys.map(|(role, key)| (role, key.public())).into())
    };
    for twice in [&world.record, &world.log, &world.witness, &world.root] {
        let sealed = org::seal(&org, &roles(twice), NOW, &world.root, |noise| noise.fill(1)).unwrap();
        assert!(org.accept(sealed.core).is_err());
    }
    let sealed = org::seal(&org, &roles(&world.transport), NOW, &world.root, |noise| noise.fill(1)).unwrap();
    org.accept(sealed.core).unwrap();
}

/// The type is signed and exact.
#[test]
fn pitfall_26_a_statement_of_one_type_is_not_taken_for_another() {
    let world = World::with_one();
    let origin = world.origin.to_string();
    for typ in [
        "application/x.lotline.feed+cwt",
        "application/x.lotline.org+cwt",
        "application/x.lotline.policy+cwt",
        "application/x.lotline.record+cwt",
        "application/x.lotline.record+sd-cwt ",
        "APPLICATION/X.LOTLINE.RECORD+SD-CWT",
        "x.lotline.record+sd-cwt",
        "",
    ] {
        refused(&world.resigned(1, |header, _| set(header, 16, codec::text(typ))));
    }
    for typ in [codec::uint(293), codec::uint(294), Value::Null] {
        refused(&world.resigned(1, |header, _| set(header, 16, typ)));
    }
    refused(&world.resigned(1, |header, _| set(header, 3, codec::text("application/cwt"))));
    // An entry where a record belongs, and a record where the entry belongs.
    let place = |seq| Place { origin: world.origin.clone(), seq, now: NOW, supersedes: None };
    let at = |core: Vec<u8>, seq| SealedView { core, disclosures: vec![] }.verify(&world.org, Expected { origin: &origin, seq });
    for typ in [Type::Feed, Type::Org, Type::Policy] {
        let entry = statement::seal_entry(typ, codec::map([]), &place(1), &world.record, |noise| noise.fill(2)).unwrap();
        assert_eq!(at(entry.core, 1).unwrap_err(), ViewError::Elsewhere("another type of statement"));
    }
    let record = inspection().check(RECORDED_AT).unwrap();
    let mut filler = common::Filler::new("pitfall 26");
    let first = statement::seal_record(&record, &place(0), &world.record, |noise| filler.fill(noise)).unwrap();
    assert_eq!(at(first.core, 0).unwrap_err(), ViewError::Elsewhere("another type of statement"));
    // An org entry's content under the type of a feed entry, in the org feed.
    let mut org = world.org.clone();
    let place = Place { origin: Origin::org(world.party), seq: org.size(), now: NOW, supersedes: None };
    let entry = codec::array([
        codec::text("feed"),
        codec::text(world.origin.renewed().to_string()),
        codec::array([codec::uint(2), codec::bytes([0; 32])]),
    ]);
    let sealed = statement::seal_entry(Type::Feed, entry.clone(), &place, &world.record, |noise| noise.fill(2)).unwrap();
    assert!(org.accept(sealed.core).is_err());
    let sealed = statement::seal_entry(Type::Org, entry, &place, &world.record, |noise| noise.fill(2)).unwrap();
    assert!(org.accept(sealed.core).is_ok());
    // A record of another feed, place or issuer.
    assert_eq!(at(world.sealed(1).core.clone(), 2).unwrap_err(), ViewError::Elsewhere("another place in the feed"));
    let elsewhere = SealedView { core: world.sealed(1).core.clone(), disclosures: vec![] };
    assert_eq!(elsewhere.verify(&world.org, Expected { origin: "x", seq: 1 }).unwrap_err(), ViewError::Elsewhere("another feed"));
    let stranger = World::founded(0x61, "Stranger");
    assert_eq!(elsewhere.verify(&stranger.org, Expected { origin: &origin, seq: 1 }).unwrap_err(), ViewError::Elsewhere("another issuer"));
}

/// Sizes are looked at before anything is built.
#[test]
fn pitfall_27_nothing_is_allocated_on_a_strangers_word() {
    let begin = std::time::Instant::now();
    for bytes in [
        unhex("9bffffffffffffffff").unwrap(),
        unhex("bbffffffffffffffff").unwrap(),
        unhex("5bffffffffffffffff").unwrap(),
        unhex("7b7fffffffffffffff").unwrap(),
        unhex("9a00ffffff").unwrap(),
        [vec![0x81; 100_000], vec![0]].concat(),
        [[0xa1, 0x00].repeat(100_000), vec![0]].concat(),
        [[0xd2].repeat(100_000), vec![0]].concat(),
        [vec![0x82; 64], vec![0; 10]].concat(),
        unhex("9b0000000100000000").unwrap().into_iter().chain(vec![0; 100]).collect(),
    ] {
        assert!(codec::decode(&bytes).is_err());
        assert!(matches!(Unverified::read(&bytes), Err(StatementError::Shape(_) | StatementError::TooLarge(_))));
        assert!(Disclosure::received(bytes.clone()).open().is_err());
        assert!(Bundle::read(&bytes).is_err());
    }
    assert_eq!(Unverified::read(&vec![0; 65_536]).unwrap_err(), StatementError::TooLarge(65_536));
    // A million empty disclosures: refused by count.
    let world = World::with_one();
    let mut package = world.package(1, |_| false);
    package.view.disclosures = vec![Disclosure::received(vec![0x80]); 1_000_000];
    assert!(Bundle::read(&world.bundle_of(vec![package]).to_bytes()).is_err());
    let mut package = world.package(1, |_| true);
    package.view.disclosures.resize(65, package.view.disclosures[0].clone());
    assert!(Bundle::read(&world.bundle_of(vec![package]).to_bytes()).is_err());
    // A checkpoint with a thousand lines, a key with a long text.
    let note = world.checkpoint(2).sign(&world.log);
    assert!(Checkpoint::read(&format!("{note}{}", &note[note.find('\u{2014}').unwrap()..].repeat(200))).is_err());
    assert!(format!("did:key:z{}", "2".repeat(1_000_000)).parse::<PartyId>().is_err());
    // A key of a map of at most 255 bytes.
    for (length, fine) in [(255usize, true), (256, false)] {
        let mut bytes = vec![0xa1];
        codec::put_text(&mut bytes, &"k".repeat(length));
        bytes.push(0);
        assert_eq!(codec::check(&bytes).is_ok(), fine);
    }
    assert!(begin.elapsed().as_secs() < 20);
}

/// A receipt of another feed for the very same leaf, of another organisation, of another log key.
#[test]
fn pitfall_28_a_foreign_receipt_attaches_to_nothing() {
    let mut world = World::with_one();
    let twin = Origin::new(world.party, "twin", 1).unwrap();
    world.state(&Entry::Feed { origin: twin.clone(), follows: None });
    let (root, path) = (world.tree().root(2), world.tree().inclusion(1, 2).unwrap());
    let at =
        |origin: &Origin, key: &Signer| receipt::issue(key, &Checkpoint { origin: origin.clone(), size: 2, root }, 1, &path, NOW).unwrap();
    let with = |receipt: Vec<u8>| {
        let package = Package { receipt: Some(receipt.clone()), ..world.package(1, |_| true) };
        let included = Included { origin: &world.origin, seq: 1, leaf: world.leaves[1] };
        (receipt::verify(&receipt, included, &world.org).err(), verify(&world.bundle_of(vec![package]).to_bytes(), &Trust::none()).outcome)
    };
    assert_eq!(with(at(&world.origin, &world.log)), (None, Outcome::SignerNotEstablished));
    assert_eq!(with(at(&twin, &world.log)), (Some(ReceiptError::Elsewhere("feed")), Outcome::Altered));
    assert_eq!(with(at(&world.origin, &world.record)), (Some(ReceiptError::Elsewhere("log key")), Outcome::Altered));
    let stranger = World::founded(0x61, "Stranger");
    assert_eq!(with(at(&stranger.origin, &stranger.log)), (Some(ReceiptError::Elsewhere("issuer")), Outcome::Altered));
    // Nor does a proof of the twin feed, signed by the same log key over the same root.
    let checkpoint = Checkpoint { origin: twin, size: 2, root }.sign(&world.log);
    let mut package = world.package(1, |_| true);
    package.proof = InclusionProof { checkpoint, ..world.proof(1, 2) }.to_text();
    assert_eq!(report(&world.bundle_of(vec![package.clone()])).outcome, Outcome::Altered);
    let sides = [Side::Record(package), Side::Record(world.package(1, |_| true))];
    assert!(matches!(ForkProof { org: world.org_part(), sides }.check(), Err(ForkError::Side(1, _))));
}

/// The leaf is the tagged core, not its hash, not the bare array, not a view.
#[test]
fn pitfall_29_the_leaf_is_the_core_as_signed() {
    let world = World::with_one();
    let core = &world.sealed(1).core;
    assert_eq!(world.sealed(1).leaf, Hash::of(&[&[0], core]));
    assert_eq!(Unverified::read(core).unwrap().leaf(), Hash::of(&[&[0], core]));
    for wrong in [&core[1..], &Hash::of(&[core]).0[..], &[&[0xd2, 0x84][..], &core[2..], &[0]].concat()] {
        let mut other = World::with_one();
        other.leaves[1] = tree::leaf_hash(wrong);
        assert_eq!(report(&other.bundle()).outcome, Outcome::Altered);
    }
    assert_eq!(report(&world.bundle()).outcome, Outcome::SignerNotEstablished);
    // The two first bytes of every core: tag 18, array of four.
    assert_eq!(core[..2], [0xd2, 0x84]);
    // The kid is the thumbprint of RFC 9679.
    assert_eq!(thumbprint(&world.record.public()), world.record.kid());
}
