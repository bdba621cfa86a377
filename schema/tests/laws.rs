//! Laws: what is sealed verifies, what is altered does not, one statement holds one truth, decoders never panic.
//!
//! The pitfalls of the format notes have their tests in `pitfalls.rs`.
#![allow(clippy::unwrap_used)] // tests

mod common;

use std::collections::BTreeSet;

use common::{NOW, RECORDED_AT, Rng, World, inspection, report, set, slot};
use lotline_schema::bundle::{Bundle, OrgPart};
use lotline_schema::codec::{self, Value};
use lotline_schema::cose::{Sign1, Signer};
use lotline_schema::decimal::Decimal;
use lotline_schema::id::{Hash, Origin, PartyId, unhex};
use lotline_schema::kind::inspection::{Characteristic, Inspection, Limit, Measured, SCHEMA, Statistics, Verdict};
use lotline_schema::kind::looks_like_time;
use lotline_schema::note::{self, Checkpoint, InclusionProof};
use lotline_schema::org::{Entry, Org, Role};
use lotline_schema::slot::{Disclosure, Opened};
use lotline_schema::statement::{self, Place, Type, Unverified};
use lotline_schema::verify::{Outcome, Trust, verify};
use lotline_schema::view::{Expected, Package, SealedView};
use proptest::prelude::*;

// ---- what is sealed verifies ----

fn a_text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 äöüßµ./#+-]{0,23}[a-z0-9]"
}

fn a_decimal() -> impl Strategy<Value = Decimal> {
    (any::<i32>(), -6i64..=0).prop_map(|(mantissa, exponent)| Decimal::new(mantissa.into(), exponent).unwrap())
}

fn a_value() -> impl Strategy<Value = Measured> {
    prop_oneof![
        4 => a_decimal().prop_map(|number| Measured::Number(number, None)),
        1 => (a_decimal(), a_text()).prop_map(|(number, text)| Measured::Number(number, Some(text))),
        1 => any::<bool>().prop_map(Measured::Good),
        1 => Just(Measured::Missing),
    ]
}

fn limits() -> impl Strategy<Value = (Limit, Limit)> {
    (a_decimal(), a_decimal(), 0..4u8).prop_map(|(a, b, kinds)| {
        let (low, high) = if a.compare(&b).is_le() { (a, b) } else { (b, a) };
        match kinds {
            0 => (Limit::None, Limit::Limit(high)),
            1 => (Limit::Natural(low), Limit::Limit(high)),
            2 => (Limit::Limit(low), Limit::Limit(high)),
            _ => (Limit::None, Limit::None),
        }
    })
}

fn a_characteristic(pieces: usize) -> impl Strategy<Value = Characteristic> {
    let unit = proptest::option::of(prop_oneof![Just("mm".to_owned()), Just("µm".to_owned()), Just("Nm".to_owned())]);
    let stated = proptest::option::of((0u64..100, proptest::option::of(a_decimal())));
    let values = proptest::collection::vec(a_value(), pieces);
    (a_text(), proptest::option::of(a_text()), unit, proptest::option::of(a_decimal()), limits(), values, stated).prop_map(
        |(name, class, unit, nominal, (lower, upper), values, stated)| Characteristic {
            name,
            class,
            unit,
            nominal,
            lower,
            upper,
            values,
            stated: stated.map(|(n, mean)| Statistics { n, mean, ..Statistics::default() }),
            ..Characteristic::default()
        },
    )
}

fn an_inspection() -> impl Strategy<Value = Inspection> {
    let texts = (a_text(), a_text(), proptest::option::of(a_text()), proptest::option::of(a_text()), proptest::option::of(a_text()));
    let characteristics = (0usize..7).prop_flat_map(|pieces| (Just(pieces), proptest::collection::vec(a_characteristic(pieces), 0..5)));
    (texts, characteristics, proptest::option::of((a_decimal(), a_text())), 0..3usize).prop_map(
        |((part, lot, revision, customer, remarks), (pieces, mut characteristics), quantity, verdict)| {
            for (at, characteristic) in characteristics.iter_mut().enumerate() {
                characteristic.position = at as u32 + 1;
            }
            Inspection {
                part,
                lot,
                revision,
                customer,
                remarks,
                quantity,
                verdict_stated: Some([Verdict::Conforming, Verdict::NonConforming, Verdict::Undecided][verdict]),
                serials: (0..pieces).map(|piece| format!("S{piece}")).collect(),
                characteristics,
                ..Inspection::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any draft without a fault, sealed, shown in part and bundled: intact, and every slot shown is the slot signed.
    #[test]
    fn what_is_sealed_verifies(draft in an_inspection(), mask: u64) {
        let record = draft.check(RECORDED_AT).unwrap();
        let mut world = World::new();
        let seq = world.publish(&record);
        let package = world.package(seq, |slot| mask >> slot & 1 == 1);
        let bytes = world.bundle_of(vec![package]).to_bytes();
        let report = verify(&bytes, &world.trust());
        prop_assert_eq!(report.outcome, Outcome::Verified, "{}", report.sentence());
        prop_assert_eq!(Bundle::read(&bytes).unwrap().to_bytes(), bytes);
        for (slot, opened) in report.records[0].view.slots().iter().enumerate() {
            let expected = (mask >> slot & 1 == 1).then(|| record.values()[slot].clone().map_or(Opened::Absent, Opened::Value));
            prop_assert_eq!(opened, &expected);
        }
    }

    /// Two views of one core that are both accepted never differ in a slot both show, whatever disclosures they bring.
    #[test]
    fn one_core_holds_one_truth(masks: (u64, u64), forged: (prop::sample::Index, prop::sample::Index), byte: u8, at: prop::sample::Index) {
        let world = World::with_one();
        let forge = |which: &prop::sample::Index| {
            let mut bytes = which.get(&world.sealed(1).disclosures).bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            Disclosure::received(bytes)
        };
        let (mut one, mut other) = (world.view(1, |slot| masks.0 >> slot & 1 == 1), world.view(1, |slot| masks.1 >> slot & 1 == 1));
        one.disclosures.push(forge(&forged.0));
        other.disclosures.insert(0, forge(&forged.1));
        let origin = world.origin.to_string();
        let expected = Expected { origin: &origin, seq: 1 };
        let (one, other) = (one.verify(&world.org, expected), other.verify(&world.org, expected));
        let honest = world.view(1, |_| true).verify(&world.org, expected).unwrap();
        for view in [one, other].into_iter().flatten() {
            for (slot, truth) in view.slots().iter().zip(honest.slots()) {
                prop_assert!(slot.is_none() || slot == truth);
            }
        }
    }

    /// The length of a core says nothing about what it hides.
    #[test]
    fn the_length_of_a_core_is_the_same_for_any_content(one in an_inspection(), other in an_inspection()) {
        let length = |draft: &Inspection| {
            let mut world = World::new();
            let seq = world.publish(&draft.check(RECORDED_AT).unwrap());
            world.sealed(seq).core.len()
        };
        prop_assert_eq!(length(&one), length(&other));
    }
}

#[test]
fn an_empty_record_and_a_full_one_have_cores_of_one_length() {
    let least = Inspection { part: "P".into(), lot: "L".into(), verdict_stated: Some(Verdict::Conforming), ..Inspection::default() };
    let mut most = inspection();
    most.serials = (0..500).map(|at| format!("serial {at}")).collect();
    most.characteristics = (1..=40)
        .map(|position| Characteristic {
            position,
            name: format!("characteristic {position}"),
            values: vec![Measured::Number(common::number("12.345678"), None); 500],
            ..Characteristic::default()
        })
        .collect();
    most.remarks = Some("long ".repeat(800));
    let mut world = World::new();
    let (one, other) = (world.publish(&least.check(RECORDED_AT).unwrap()), world.publish(&most.check(RECORDED_AT).unwrap()));
    assert_eq!(world.sealed(one).core.len(), world.sealed(other).core.len());
    assert_eq!(world.sealed(one).disclosures.len(), SCHEMA.fields.len());
    assert_eq!(world.sealed(other).disclosures.len(), SCHEMA.fields.len());
}

// ---- what is altered does not ----

/// Every byte of a whole bundle, in three patterns: never intact, never the report of the original.
#[test]
fn every_altered_byte_of_a_bundle_is_refused() {
    let world = World::with_one();
    let shown = ["part", "lot", "verdict_recomputed", "other_values", "sample"].map(slot);
    let bytes = world.bundle_of(vec![world.package(1, |slot| shown.contains(&slot))]).to_bytes();
    let original = verify(&bytes, &Trust::none());
    assert_eq!(original.outcome, Outcome::SignerNotEstablished, "{}", original.sentence());
    let refuse = |bytes: &[u8], what: &str| {
        let report = verify(bytes, &Trust::none());
        assert!(!report.intact(), "{what}: {}", report.sentence());
        assert!(matches!(report.outcome, Outcome::Altered | Outcome::Unreadable), "{what}: {}", report.sentence());
        assert_ne!(report.checks, original.checks, "{what}");
        assert!(report.failure().is_some(), "{what}");
    };
    let patterns: [u8; 3] = [0x01, 0x20, 0xff];
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (bytes, refuse) = (&bytes, &refuse);
            scope.spawn(move || {
                for at in (half..bytes.len()).step_by(2) {
                    for pattern in patterns {
                        let mut altered = bytes.clone();
                        altered[at] ^= pattern;
                        refuse(&altered, &format!("byte {at} xor {pattern:02x}"));
                    }
                }
            });
        }
    });
    for length in 0..bytes.len() {
        refuse(&bytes[..length], &format!("cut to {length}"));
    }
    refuse(&[&bytes[..], &[0]].concat(), "one byte more");
    eprintln!("altered bundles refused: {} of {} bytes", bytes.len() * (patterns.len() + 1) + 1, bytes.len());
}

// ---- outcomes and exit codes ----

#[test]
fn the_outcomes_have_their_exit_codes() {
    let world = World::with_one();
    let bytes = world.bundle().to_bytes();
    let code = |bytes: &[u8], trust: &Trust| verify(bytes, trust).outcome.exit_code();
    assert_eq!(code(&bytes, &world.trust()), 0);
    assert_eq!(code(&bytes, &Trust::none()), 7);
    // Signed again, whole, by somebody who calls himself the same: intact, and not him.
    let mut double = World::founded(0x51, "Muster GmbH");
    double.publish(&inspection().check(RECORDED_AT).unwrap());
    let report = verify(&double.bundle().to_bytes(), &world.trust());
    assert_eq!(report.outcome.exit_code(), 7);
    assert!(report.intact() && !report.signer_established());
    assert_eq!(
        report.sentence(),
        format!("Intact, 1 record; signer not established: calls itself Muster GmbH, root {}.", double.party.six_words())
    );
    assert_ne!(double.party.six_words(), world.party.six_words());
    for garbage in [&b""[..], b"PK\x03\x04", &[0xa4, 0x00], "Lotline bundle".as_bytes(), &[0xff; 5000]] {
        assert_eq!(code(garbage, &world.trust()), 11);
    }
    let mut altered = bytes.clone();
    let last = altered.len() - 100;
    altered[last] ^= 1;
    assert_eq!(code(&altered, &world.trust()), 4);
    let numbers =
        [Outcome::Unreadable, Outcome::Altered, Outcome::Forked, Outcome::Withdrawn, Outcome::SignerNotEstablished, Outcome::Verified]
            .map(|outcome| (outcome.name(), outcome.exit_code()));
    let unique: BTreeSet<u8> = numbers.iter().map(|(_, code)| *code).collect();
    assert_eq!(unique.len(), numbers.len());
}

#[test]
fn a_withdrawn_record_is_intact_and_says_so() {
    let mut world = World::with_one();
    world.withdraw(1, "wrong gauge");
    let report = verify(&world.bundle().to_bytes(), &world.trust());
    assert_eq!(report.outcome.exit_code(), 8);
    assert!(report.intact() && report.signer_established());
    assert_eq!(report.records[0].withdrawn.as_deref(), Some("wrong gauge"));
    // It outranks an unknown signer, and the reader is told of both.
    assert_eq!(common::report(&world.bundle()).outcome, Outcome::Withdrawn);
}

#[test]
fn two_live_statements_about_one_inspection_are_two_truths() {
    let record = inspection().check(RECORDED_AT).unwrap();
    let mut world = World::new();
    world.publish(&record);
    world.publish(&record);
    assert_eq!(report(&world.bundle()).outcome.exit_code(), 10);
    // The same record twice in one bundle is one truth told twice.
    assert!(report(&world.bundle_of(vec![world.package(1, |_| true), world.package(1, |slot| slot < 10)])).intact());
    // Superseded by its own issuer, or withdrawn: one of them is not live.
    let mut superseding = World::new();
    superseding.publish(&record);
    let leaf = superseding.leaves[1];
    superseding.publish_over(&record, Some(leaf));
    assert!(report(&superseding.bundle()).intact());
    world.withdraw(1, "twice");
    assert_eq!(report(&world.bundle()).outcome, Outcome::Withdrawn);
    // Another sample is another inspection.
    let mut samples = World::new();
    for sample in ["1", "2"] {
        samples.publish(&Inspection { sample: Some(sample.into()), ..inspection() }.check(RECORDED_AT).unwrap());
    }
    assert!(report(&samples.bundle()).intact());
    // And where the sample is hidden nobody may conclude anything.
    let hidden = |seq| samples.package(seq, |at| at != slot("sample"));
    let report = report(&samples.bundle_of(vec![hidden(1), hidden(2)]));
    assert!(report.intact(), "{}", report.sentence());
}

#[test]
fn a_stranger_cannot_supersede_what_is_not_his() {
    let record = inspection().check(RECORDED_AT).unwrap();
    let mut world = World::new();
    world.publish(&record);
    world.publish(&record);
    let mut stranger = World::founded(0x61, "Stranger");
    stranger.publish_over(&record, Some(world.leaves[1]));
    let bundle = Bundle {
        orgs: vec![world.org_part(), stranger.org_part()],
        packages: vec![world.package(1, |_| true), world.package(2, |_| true), stranger.package(1, |_| true)],
        ..Bundle::default()
    };
    assert_eq!(report(&bundle).outcome, Outcome::Forked);
}

#[test]
fn two_histories_of_one_feed_are_two_truths() {
    let (mut one, mut other) = (World::new(), World::new());
    one.publish(&inspection().check(RECORDED_AT).unwrap());
    other.publish(&Inspection { lot: "other".into(), ..inspection() }.check(RECORDED_AT).unwrap());
    // Two statements at one place.
    let bundle = one.bundle_of(vec![one.package(1, |slot| slot == 3), other.package(1, |slot| slot == 3)]);
    let report = report(&bundle);
    assert_eq!(report.outcome, Outcome::Forked);
    assert!(report.sentence().starts_with("TWO TRUTHS."), "{}", report.sentence());
    // Also when their checkpoints have different sizes.
    other.publish(&Inspection { lot: "more".into(), ..inspection() }.check(RECORDED_AT).unwrap());
    let bundle = one.bundle_of(vec![one.package(1, |slot| slot == 3), other.package(1, |slot| slot == 3)]);
    assert_eq!(common::report(&bundle).outcome, Outcome::Forked);
    // Two roots of one size, of which only one place each is shown.
    for lot in ["a", "b"] {
        one.publish(&Inspection { lot: lot.into(), ..inspection() }.check(RECORDED_AT).unwrap());
    }
    let third = one.leaves[3];
    let mut forked = World::new();
    for lot in ["x", "y"] {
        forked.publish(&Inspection { lot: lot.into(), ..inspection() }.check(RECORDED_AT).unwrap());
    }
    forked.publish(&Inspection { lot: "z".into(), ..inspection() }.check(RECORDED_AT).unwrap());
    assert_ne!(third, forked.leaves[3]);
    let bundle = one.bundle_of(vec![one.package(1, |slot| slot == 3), forked.package(2, |slot| slot == 3)]);
    assert_eq!(common::report(&bundle).outcome, Outcome::Forked);
}

/// The checkpoint of an org feed is for exactly its entries; that of a record for exactly its feed.
#[test]
fn checkpoints_belong_to_one_feed_and_one_size() {
    let world = World::with_one();
    let (size, root) = (world.org.size(), world.org.frontier().root());
    let org = |size, root| Checkpoint { origin: Origin::org(world.party), size, root }.sign(&world.log);
    assert!(world.org.check(&org(size, root)).is_ok());
    for (size, root) in [(size + 1, root), (size - 1, root), (size, Hash([7; 32]))] {
        assert!(world.org.check(&org(size, root)).is_err());
    }
    let with = |checkpoint: Checkpoint| {
        let mut package = world.package(1, |_| true);
        package.proof = InclusionProof { checkpoint: checkpoint.sign(&world.log), ..world.proof(1, 2) }.to_text();
        report(&world.bundle_of(vec![package])).outcome
    };
    assert_eq!(with(world.checkpoint(2)), Outcome::SignerNotEstablished);
    for origin in [Origin::new(world.party, "other", 1).unwrap(), world.origin.renewed(), Origin::org(world.party)] {
        assert_eq!(with(Checkpoint { origin, ..world.checkpoint(2) }), Outcome::Altered);
    }
}

/// A feed that its owner's org feed never opened has no records.
#[test]
fn an_unopened_feed_has_no_records() {
    let mut world = World::new();
    world.origin = world.origin.renewed();
    world.publish(&inspection().check(RECORDED_AT).unwrap());
    assert_eq!(report(&world.bundle()).outcome, Outcome::Altered);
    let follows = Some((2, Hash([1; 32])));
    world.state(&Entry::Feed { origin: world.origin.clone(), follows });
    assert_eq!(report(&world.bundle()).outcome, Outcome::SignerNotEstablished);
    // And the first entry of a feed is no record.
    let mut package = world.package(1, |_| false);
    package.view.core = world.first.core.clone();
    assert_eq!(report(&world.bundle_of(vec![package])).outcome, Outcome::Altered);
    assert_eq!(report(&Bundle::default()).outcome, Outcome::Altered);
}

// ---- nothing unknown, one spelling ----

fn map_at<'a>(value: &'a mut Value, path: &[i64]) -> &'a mut Value {
    path.iter().fold(value, |value, step| match value {
        Value::Map(entries) => entries.get_mut(&codec::int(*step)).unwrap(),
        Value::Array(items) => &mut items[*step as usize],
        _ => panic!("no way down"),
    })
}

#[test]
fn unknown_parts_are_refused_everywhere() {
    let world = World::with_one();
    let bundle = codec::decode(&world.bundle().to_bytes()).unwrap();
    assert!(Bundle::read(&codec::encode(&bundle)).is_ok());
    for (path, key) in [(&[][..], 4), (&[], -1), (&[2, 0], 3), (&[2, 0], 0), (&[3, 0], 3), (&[3, 0], 5), (&[3, 0], -65807)] {
        let mut with = bundle.clone();
        set(map_at(&mut with, path), key, codec::text("x"));
        let bytes = codec::encode(&with);
        assert!(Bundle::read(&bytes).is_err(), "{path:?} {key}");
        assert!(!verify(&bytes, &world.trust()).intact());
    }
    let mut text_key = bundle.clone();
    let Value::Map(entries) = map_at(&mut text_key, &[3, 0]) else { panic!("a map") };
    entries.insert(codec::text("1"), Value::Null);
    assert!(Bundle::read(&codec::encode(&text_key)).is_err());
    // A part that is empty, double, or of another kind.
    for (path, value) in [
        (&[3, 0, 2][..], codec::array([])),
        (&[3, 0, 2], codec::array([codec::text("x")])),
        (&[3, 0, 4], codec::text("x")),
        (&[3, 0, 4], codec::bytes([0xff])),
        (&[3, 0], codec::array([])),
        (&[2, 0, 1, 0], codec::text("x")),
        (&[2, 0, 2], codec::bytes([0x20])),
        (&[1], codec::uint(0)),
        (&[1], codec::uint(3)),
        (&[0], codec::text("lotline bundlf")),
    ] {
        let mut with = bundle.clone();
        *map_at(&mut with, path) = value;
        assert!(Bundle::read(&codec::encode(&with)).is_err(), "{path:?}");
    }
    let mut twice = world.bundle();
    twice.orgs.push(world.org_part());
    assert_eq!(report(&twice).outcome, Outcome::Altered);
    let mut unused = world.bundle();
    unused.orgs.push(World::founded(0x61, "Bystander").org_part());
    assert_eq!(report(&unused).outcome, Outcome::Altered);
    let mut without = world.bundle();
    without.orgs.clear();
    assert_eq!(report(&without).outcome, Outcome::Altered);
    assert_eq!(report(&world.bundle_of(vec![])).outcome, Outcome::Altered);
}

#[test]
fn unknown_claims_and_headers_are_refused() {
    let world = World::with_one();
    assert!(Unverified::read(&world.resigned(1, |_, _| ())).is_ok());
    for key in [3, 4, 5, 9, 39, -65806, -65807] {
        let core = world.resigned(1, |_, payload| set(payload, key, codec::uint(1)));
        assert!(Unverified::read(&core).is_err(), "claim {key}");
    }
    for key in [2, 5, 13, 17, 33, 394, 395, -65811] {
        let core = world.resigned(1, |header, _| set(header, key, codec::uint(1)));
        assert!(Unverified::read(&core).is_err(), "header {key}");
    }
    for key in [1, 2, 6, 7, 8, -65801, -65802, -65803, -65804] {
        let core = world.resigned(1, |_, payload| common::remove(payload, key));
        assert!(Unverified::read(&core).is_err(), "without claim {key}");
    }
    for key in [1, 3, 4, 15, 16, 170] {
        let core = world.resigned(1, |header, _| common::remove(header, key));
        assert!(Unverified::read(&core).is_err(), "without header {key}");
    }
    // One part more where the parts are known.
    let core = world.resigned(1, |header, _| set(map_at(header, &[15]), 3, codec::text("audience")));
    assert!(Unverified::read(&core).is_err());
    let core = world.resigned(1, |_, payload| set(map_at(payload, &[8]), 1, codec::map([])));
    assert!(Unverified::read(&core).is_err());
    let differs: [(i64, Value); 5] = [
        (1, codec::text("did:key:other")),
        (2, codec::text("urn:uuid:other")),
        (7, codec::bytes([0; 15])),
        (8, codec::map([(5, codec::bytes([0; 32]))])),
        (-65801, codec::array([codec::text("inspection"), codec::uint(1)])),
    ];
    for (key, value) in differs {
        assert!(Unverified::read(&world.resigned(1, |_, payload| set(payload, key, value.clone()))).is_err(), "claim {key}");
    }
}

#[test]
fn unknown_lines_of_a_checkpoint_are_refused() {
    let world = World::with_one();
    let note = world.checkpoint(2).sign(&world.log);
    let key = world.log.public();
    assert!(Checkpoint::open(&note, &key).is_ok());
    let foreign = Signer::from_seed(&[0x77; 32]);
    let cosigned = format!("{note}\u{2014} w-01234567 {}\n", "A".repeat(100) + "==");
    let other_line = world.checkpoint(2).sign(&foreign);
    let both = format!("{note}{}", &other_line[other_line.find('\u{2014}').unwrap()..]);
    let extension = note.replacen("\n\n", "\nextension\n\n", 1);
    let first = format!("{}{}", &both[..note.find('\u{2014}').unwrap()], &other_line[other_line.find('\u{2014}').unwrap()..]);
    for (what, altered) in [
        ("a cosignature", cosigned),
        ("a second key", both),
        ("an extension line", extension),
        ("another key alone", first),
        ("no last newline", note.trim_end().to_owned()),
        ("another newline", format!("{note}\n")),
        ("a blank before", format!(" {note}")),
        ("carriage returns", note.replace('\n', "\r\n")),
        ("a minus for the dash", note.replace('\u{2014}', "-")),
        ("a tab", note.replacen(' ', "\t", 1)),
        ("a size with a plus", note.replacen("\n2\n", "\n+2\n", 1)),
        ("a size with a zero", note.replacen("\n2\n", "\n02\n", 1)),
    ] {
        assert!(Checkpoint::open(&altered, &key).is_err(), "{what}");
        let mut bundle = world.bundle();
        bundle.packages[0].proof = bundle.packages[0].proof.replace(&note, &altered);
        assert_eq!(report(&bundle).outcome, Outcome::Altered, "{what}");
    }
    // Signed right by the log key, and out of form all the same.
    let (body, _) = note.split_once("\n\n").unwrap();
    for (from, to) in
        [("\n2\n", "\n02\n"), ("\n2\n", "\n+2\n"), ("\n2\n", "\n2 \n"), ("=", ""), ("quality", "Quality"), ("quality/1", "quality/01")]
    {
        let altered = format!("{}\n", body.replacen(from, to, 1));
        assert_ne!(altered.trim_end(), body);
        let name = altered.lines().next().unwrap();
        let id = note::key_id(name, 1, key.as_bytes());
        let blob = [&id[..], &world.log.sign(altered.as_bytes())].concat();
        let line = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, blob);
        let signed = format!("{altered}\n\u{2014} {name} {line}\n");
        assert!(note::verify_signature(&signed, name, &key).is_ok());
        assert!(Checkpoint::open(&signed, &key).is_err(), "{to}");
    }
    let text = "a\tb\n";
    let blob = [&note::key_id("x", 1, key.as_bytes())[..], &world.log.sign(text.as_bytes())].concat();
    let signed = format!("{text}\n\u{2014} x {}\n", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, blob));
    assert!(note::verify_signature(&signed, "x", &key).is_err(), "control characters");
    // The tolerant reader passes over keys it does not know, and still wants its own.
    assert!(note::verify_signature(&both_of(&world), &world.origin.to_string(), &key).is_ok());
    assert!(note::verify_signature(&other_line, &world.origin.to_string(), &key).is_err());
}

fn both_of(world: &World) -> String {
    let other = world.checkpoint(2).sign(&Signer::from_seed(&[0x77; 32]));
    format!("{}{}", world.checkpoint(2).sign(&world.log), &other[other.find('\u{2014}').unwrap()..])
}

/// The last letter before the padding has bits that say nothing: every other value of them is another spelling.
fn other_spellings(base64: &str) -> Vec<String> {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bare = base64.trim_end_matches('=');
    let padding = base64.len() - bare.len();
    let (head, last) = bare.split_at(bare.len() - 1);
    let value = LETTERS.find(last).unwrap();
    let others = (1..1usize << (2 * padding)).map(|bits| format!("{head}{}{}", &LETTERS[value ^ bits..][..1], "=".repeat(padding)));
    let url = base64.replace('+', "-").replace('/', "_");
    let more = [bare.to_owned(), format!("{base64}="), format!("{base64} "), format!(" {base64}"), url];
    others.chain(more.into_iter().filter(|other| other != base64)).collect()
}

#[test]
fn base64_has_one_spelling() {
    let mut world = World::with_one();
    world.publish(&Inspection { lot: "other".into(), ..inspection() }.check(RECORDED_AT).unwrap());
    let bundle = world.bundle();
    let proof = bundle.packages[0].proof.clone();
    let lines: Vec<&str> = proof.lines().collect();
    // Every base64 word of the proof: the path, the root, the signature.
    let words: Vec<&str> = lines.iter().filter_map(|line| line.rsplit(' ').next()).filter(|word| word.ends_with('=')).collect();
    assert_eq!(words.len(), 4, "{proof}");
    let mut tried = 0;
    for word in words {
        for other in other_spellings(word) {
            let mut altered = bundle.clone();
            altered.packages[0].proof = proof.replacen(word, &other, 1);
            assert_ne!(altered.packages[0].proof, proof);
            assert_eq!(report(&altered).outcome, Outcome::Altered, "{word} as {other}");
            tried += 1;
        }
    }
    assert!(tried > 20);
    let vkey = note::vkey("muster", &world.log.public());
    // The base64 of a key may hold a plus of its own.
    let parts: Vec<&str> = vkey.splitn(3, '+').collect();
    let (head, key) = (format!("{}+{}+", parts[0], parts[1]), parts[2]);
    for other in other_spellings(key).into_iter().filter(|other| other.trim_end() == other) {
        assert!(note::read_vkey(&format!("{head}{other}")).is_err(), "{other}");
    }
}

#[test]
fn texts_have_one_spelling() {
    let world = World::new();
    let party = world.party.to_string();
    assert!(party.parse::<PartyId>().is_ok());
    for wrong in
        [party.to_uppercase(), format!("{party} "), party.replace("did:key:z", "did:key:f"), format!("{party}1"), party[..40].into()]
    {
        assert!(wrong.parse::<PartyId>().is_err(), "{wrong}");
    }
    let key = world.party.key_text();
    for wrong in ["/quality", "/quality/0", "/quality/+1", "/quality/1/", "//1", "/Quality/1", "/a b/1", "/quality/4294967296"] {
        assert!(format!("{key}{wrong}").parse::<Origin>().is_err(), "{wrong}");
    }
    assert!(format!("did:key:{key}/quality/1").parse::<Origin>().is_err());
    assert_eq!(unhex("+f+f"), None);
    assert_eq!(unhex("0"), None);
    assert!("+f".repeat(32).parse::<Hash>().is_err());
}

// ---- an org feed that is refused stays as it was ----

#[test]
fn a_refused_org_entry_changes_nothing() {
    let mut world = World::new();
    let before = format!("{:?}", world.org);
    let again = Entry::Feed { origin: world.origin.clone(), follows: None };
    let renewed = Entry::Feed { origin: world.origin.renewed(), follows: None };
    let elsewhere = Entry::Feed { origin: Origin::new(World::founded(0x61, "B").party, "quality", 1).unwrap(), follows: None };
    let own_org = Entry::Feed { origin: Origin::org(world.party), follows: None };
    let withdrawal =
        |reason: &str| Entry::Withdrawal { origin: world.origin.clone(), seq: 1, leaf: Hash([1; 32]), reason: reason.to_owned() };
    let unopened = Entry::Withdrawal { origin: world.origin.renewed(), seq: 1, leaf: Hash([1; 32]), reason: "x".into() };
    let entries = [again, renewed, elsewhere, own_org, withdrawal("a\u{1b}[31mb"), withdrawal(&"x".repeat(1001)), unopened];
    for entry in entries {
        let sealed = lotline_schema::org::seal(&world.org, &entry, NOW, &world.record, |noise| noise.fill(9)).unwrap();
        assert!(world.org.accept(sealed.core).is_err(), "{entry:?}");
        assert_eq!(format!("{:?}", world.org), before);
    }
    // Another place, a second keyring, a role nobody knows.
    let org_place = |seq| Place { origin: Origin::org(world.party), seq, now: NOW, supersedes: None };
    let other = codec::array([codec::text("feed"), codec::text(format!("{}/other/1", world.party.key_text())), Value::Null]);
    for seq in [1, 3] {
        let sealed = statement::seal_entry(Type::Org, other.clone(), &org_place(seq), &world.record, |noise| noise.fill(9)).unwrap();
        assert!(world.org.accept(sealed.core).is_err());
    }
    let keys =
        [(Role::Record, &world.log), (Role::Log, &world.record), (Role::Witness, &world.witness), (Role::Transport, &world.transport)];
    let keyring = Entry::keyring("Another", keys.map(|(role, key)| (role, key.public())).into());
    let sealed = lotline_schema::org::seal(&world.org, &keyring, NOW, &world.record, |noise| noise.fill(9)).unwrap();
    assert!(world.org.accept(sealed.core).is_err());
    for (role, fine) in [("log", true), ("auditor", false)] {
        let roles = ["record", "log", "witness", "transport", role].map(|name| {
            let seed = if name == "auditor" { 0x99 } else { name.len() as u8 };
            (codec::text(name), codec::bytes(*Signer::from_seed(&[seed; 32]).public().as_bytes()))
        });
        let entry = [codec::text("keyring"), codec::text("X"), Value::Map(roles.into()), codec::map([]), codec::array([])];
        let sealed = statement::seal_entry(Type::Org, codec::array(entry), &org_place(0), &world.root, |noise| noise.fill(9)).unwrap();
        assert_eq!(Org::new(world.party).accept(sealed.core).is_ok(), fine, "{role}");
    }
    assert_eq!(format!("{:?}", world.org), before);
    // The record key states; no other key does, not even the root after the keyring.
    let fine = Entry::Feed { origin: Origin::new(world.party, "other", 1).unwrap(), follows: None };
    for signer in [&world.root, &world.log, &world.witness, &world.transport] {
        let sealed = lotline_schema::org::seal(&world.org, &fine, NOW, signer, |noise| noise.fill(9)).unwrap();
        assert!(world.org.accept(sealed.core).is_err());
    }
    world.state(&fine);
    assert_eq!(world.org.feeds().count(), 2);
}

// ---- salts ----

#[test]
fn salts_are_unique() {
    let record = inspection().check(RECORDED_AT).unwrap();
    let world = World::new();
    let mut salts = BTreeSet::new();
    let mut count = 0;
    while count < 100_000 {
        let place = Place { origin: world.origin.clone(), seq: 1, now: NOW, supersedes: None };
        let sealed = statement::seal_record(&record, &place, &world.record, |noise| getrandom::fill(noise).unwrap()).unwrap();
        for disclosure in &sealed.disclosures {
            salts.insert(disclosure.open().unwrap().0);
            count += 1;
        }
    }
    assert_eq!(salts.len(), count);
    eprintln!("salts drawn, all different: {count}");
}

// ---- decoders never panic ----

/// One mutation of bytes: what a careless or hostile hand does.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    if bytes.is_empty() {
        bytes.push(rng.next() as u8);
        return;
    }
    let at = rng.below(bytes.len());
    match rng.below(9) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = rng.next() as u8,
        2 => bytes.truncate(at),
        3 => bytes.insert(at, rng.next() as u8),
        4 => {
            bytes.remove(at);
        }
        5 => {
            let end = (at + rng.below(40)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            let to = rng.below(bytes.len());
            bytes.splice(to..to, piece);
        }
        6 => {
            let from = rng.below(other.len());
            let end = (from + rng.below(80)).min(other.len());
            let until = (at + rng.below(80)).min(bytes.len());
            bytes.splice(at..until, other[from..end].iter().copied());
        }
        7 => {
            const HEADS: [&[u8]; 8] = [
                &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                &[0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                &[0xbb, 0, 0, 0, 1, 0, 0, 0, 0],
                &[0x9f],
                &[0xf9, 0x7e, 0x00],
                &[0xd8, 0x3c],
                &[0xc4, 0x82],
                &[0x1b, 0x80, 0, 0, 0, 0, 0, 0, 0],
            ];
            bytes.splice(at..at, HEADS[rng.below(HEADS.len())].iter().copied());
        }
        _ => {
            const TEXTS: [&str; 8] = ["\n", "\n\n", "\u{2014} ", "99999999999999999999", "=", "+", "/", "-1"];
            bytes.splice(at..at, TEXTS[rng.below(TEXTS.len())].bytes());
        }
    }
}

/// One mutation of a decoded item, so that the result is still of the profile and goes deep into the readers.
fn mutate_value(value: &mut Value, rng: &mut Rng) {
    let deeper = rng.below(4) != 0;
    match value {
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = rng.below(items.len());
            match rng.below(8) {
                0 => {
                    items.remove(at);
                }
                1 => items.push(items[at].clone()),
                2 => {
                    let to = rng.below(items.len());
                    items.swap(at, to);
                }
                _ => mutate_value(&mut items[at], rng),
            }
        }
        Value::Map(entries) if deeper && !entries.is_empty() => {
            let key = entries.keys().nth(rng.below(entries.len())).unwrap().clone();
            match rng.below(8) {
                0 => {
                    entries.remove(&key);
                }
                1 => {
                    let value = entries[&key].clone();
                    entries.insert(codec::int(rng.below(40) as i64 - 20), value);
                }
                _ => mutate_value(entries.get_mut(&key).unwrap(), rng),
            }
        }
        Value::Tag(_, inner) if deeper => mutate_value(inner, rng),
        Value::Bytes(bytes) if deeper && !bytes.is_empty() => {
            // Encoded items inside byte strings are opened too.
            match codec::decode(bytes) {
                Ok(mut inner) if rng.below(3) != 0 => {
                    mutate_value(&mut inner, rng);
                    *bytes = codec::encode(&inner);
                }
                _ => mutate(bytes, b"\x00\x01\x02", rng),
            }
        }
        Value::Text(text) if deeper => {
            let mut bytes = std::mem::take(text).into_bytes();
            mutate(&mut bytes, b"did:key:z6Mk/quality/1", rng);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        other => {
            *other = match rng.below(8) {
                0 => Value::Null,
                1 => codec::int(rng.next() as i64 >> rng.below(64)),
                2 => codec::text("x".repeat(rng.below(300))),
                3 => codec::bytes(vec![rng.next() as u8; [0, 1, 16, 31, 32, 33, 64][rng.below(7)]]),
                4 => codec::array([]),
                5 => codec::map([]),
                6 => codec::tag(60, codec::bytes([rng.next() as u8; 32])),
                _ => codec::array([codec::tag(60, codec::bytes([7; 32]))]),
            }
        }
    }
}

struct Targets {
    world: World,
    other: Vec<u8>,
    core: Vec<u8>,
    record_sign1: Sign1,
    disclosures: Vec<Vec<u8>>,
    org_entry: Vec<u8>,
    checkpoint: String,
    proof: String,
    bundle: Vec<u8>,
    vkey: String,
}

/// Reads mutated input with every decoder it could meet. Whatever is accepted has one spelling.
impl Targets {
    fn new() -> Targets {
        let world = World::with_one();
        let shown = ["part", "lot", "verdict_recomputed", "special_values"].map(slot);
        let package = world.package(1, |slot| shown.contains(&slot));
        Targets {
            other: world.first.core.clone(),
            core: world.sealed(1).core.clone(),
            record_sign1: Sign1::read(&world.sealed(1).core).unwrap(),
            disclosures: world.sealed(1).disclosures.iter().map(|one| one.bytes().to_vec()).collect(),
            org_entry: world.org.entries()[1].clone(),
            checkpoint: world.checkpoint(2).sign(&world.log),
            proof: world.proof(1, 2).to_text(),
            bundle: world.bundle_of(vec![package]).to_bytes(),
            vkey: note::vkey("muster", &world.log.public()),
            world,
        }
    }

    fn mutated(&self, bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=rng.below(3) {
            mutate(&mut bytes, &self.other, rng);
        }
        bytes
    }

    fn mutated_text(&self, text: &str, rng: &mut Rng) -> String {
        String::from_utf8_lossy(&self.mutated(text.as_bytes(), rng)).into_owned()
    }

    fn restructured(&self, bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
        let mut value = codec::decode(bytes).unwrap();
        for _ in 0..=rng.below(2) {
            mutate_value(&mut value, rng);
        }
        codec::encode(&value)
    }

    fn codec(&self, rng: &mut Rng) -> bool {
        let from = &self.disclosures[rng.below(self.disclosures.len())];
        let bytes = self.mutated(from, rng);
        let Ok(value) = codec::decode(&bytes) else { return false };
        assert_eq!(codec::encode(&value), bytes);
        for field in SCHEMA.fields {
            field.form.fits(&value);
        }
        true
    }

    fn core(&self, rng: &mut Rng) -> bool {
        let bytes = match rng.below(3) {
            0 => self.mutated(&self.core, rng),
            1 => self.restructured(&self.core, rng),
            _ => {
                let (mut protected, mut payload) = (self.record_sign1.protected.clone(), self.record_sign1.payload.clone());
                if rng.below(2) == 0 {
                    protected = self.restructured(&protected, rng);
                } else {
                    payload = self.restructured(&payload, rng);
                }
                common::laid_out(true, &protected, &codec::map([]), &payload, &self.record_sign1.signature)
            }
        };
        let changed = bytes != self.core;
        let Ok(unverified) = Unverified::read(&bytes) else { return false };
        let (leaf, origin, seq) = (unverified.leaf(), unverified.claims().origin.clone(), unverified.claims().seq);
        assert_eq!(leaf != self.world.leaves[1], changed);
        let view = SealedView { core: bytes, disclosures: vec![] };
        let verified = view.verify(&self.world.org, Expected { origin: &origin, seq });
        assert_eq!(verified.is_err(), changed);
        if let Ok(view) = view.trusted() {
            view.facts();
        }
        true
    }

    fn disclosure(&self, rng: &mut Rng) -> bool {
        let at = rng.below(self.disclosures.len());
        let from = &self.disclosures[at];
        let bytes = if rng.below(2) == 0 { self.mutated(from, rng) } else { self.restructured(from, rng) };
        let changed = bytes != *from;
        let disclosure = Disclosure::received(bytes);
        let form = disclosure.open();
        if let Ok((salt, opened)) = &form {
            assert_eq!(Disclosure::seal(salt, opened.value()), disclosure);
            if let Some(value) = opened.value() {
                SCHEMA.fields[at].form.fits(value);
            }
        }
        let statement::Body::Slots(_, slots) = &Unverified::read(&self.core).unwrap().claims().body.clone() else { panic!("slots") };
        let foreign = self.disclosures.iter().any(|one| *one == disclosure.bytes());
        assert_eq!(slots.open(std::slice::from_ref(&disclosure)).is_err(), changed && !foreign);
        form.is_ok()
    }

    fn org_entry(&self, rng: &mut Rng) -> bool {
        let bytes = if rng.below(2) == 0 { self.mutated(&self.org_entry, rng) } else { self.restructured(&self.org_entry, rng) };
        let keyring = &self.world.org.entries()[0];
        let mut org = lotline_schema::org::Org::new(self.world.party);
        org.accept(keyring.clone()).unwrap();
        let changed = bytes != self.org_entry;
        let deep = Unverified::read(&bytes).is_ok();
        assert_eq!(org.accept(bytes).is_err(), changed);
        deep
    }

    fn checkpoint(&self, rng: &mut Rng) -> bool {
        let text = self.mutated_text(&self.checkpoint, rng);
        let opened = Checkpoint::open(&text, &self.world.log.public());
        assert_eq!(opened.is_ok(), text == self.checkpoint);
        let _ = note::verify_signature(&text, &self.world.origin.to_string(), &self.world.log.public());
        Checkpoint::read(&text).is_ok()
    }

    fn proof(&self, rng: &mut Rng) -> bool {
        let text = self.mutated_text(&self.proof, rng);
        let Ok(proof) = InclusionProof::read(&text) else { return false };
        assert_eq!(proof.to_text(), text);
        let _ = Checkpoint::read(&proof.checkpoint);
        true
    }

    fn bundle(&self, rng: &mut Rng) -> bool {
        let bytes = if rng.below(2) == 0 { self.mutated(&self.bundle, rng) } else { self.restructured(&self.bundle, rng) };
        let Ok(bundle) = Bundle::read(&bytes) else { return false };
        assert_eq!(bundle.to_bytes(), bytes);
        let report = verify(&bytes, &Trust::none());
        // A shorter list of disclosures is a narrower view, and just as true.
        if report.intact() {
            assert_eq!(report.records[0].view.leaf(), self.world.leaves[1]);
        }
        let _ = report.sentence();
        true
    }

    fn texts(&self, rng: &mut Rng) -> bool {
        let _ = note::read_vkey(&self.mutated_text(&self.vkey, rng));
        let party = self.mutated_text(&self.world.party.to_string(), rng);
        if let Ok(read) = party.parse::<PartyId>() {
            assert_eq!(read.key_text(), party.strip_prefix("did:key:").unwrap_or(&party));
        }
        let origin = self.mutated_text(&self.world.origin.to_string(), rng);
        if let Ok(read) = origin.parse::<Origin>() {
            assert_eq!(read.to_string(), origin);
        }
        let _ = self.mutated_text(&self.world.leaves[1].to_string(), rng).parse::<Hash>();
        looks_like_time(&self.mutated_text("2026-11-23T14:05:00.250+01:00", rng));
        let Ok(decimal) = self.mutated_text("-12.50e-3", rng).parse::<Decimal>() else { return false };
        assert_eq!(decimal.to_string().parse::<Decimal>().map(|again| again.compare(&decimal).is_eq()), Ok(true));
        true
    }
}

/// A million inputs over all decoders, in two threads with fixed seeds; `SEED=…` tries others.
#[test]
fn decoders_never_panic() {
    type Decoder = fn(&Targets, &mut Rng) -> bool;
    const PLAN: [(&str, Decoder, u32); 8] = [
        ("codec", Targets::codec, 200_000),
        ("core", Targets::core, 150_000),
        ("disclosure", Targets::disclosure, 100_000),
        ("org entry", Targets::org_entry, 50_000),
        ("checkpoint", Targets::checkpoint, 150_000),
        ("proof", Targets::proof, 150_000),
        ("bundle", Targets::bundle, 100_000),
        ("texts", Targets::texts, 100_000),
    ];
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    std::thread::scope(|scope| {
        for half in 0..2u64 {
            scope.spawn(move || {
                let targets = Targets::new();
                for (at, (name, decode, count)) in PLAN.iter().enumerate() {
                    let mut rng = Rng(seed << 32 | half << 16 | at as u64);
                    let begin = std::time::Instant::now();
                    let deep = (0..count / 2).filter(|_| decode(&targets, &mut rng)).count();
                    eprintln!("{name}: {} mutated inputs, {deep} in form, {:?}", count / 2, begin.elapsed());
                }
            });
        }
    });
    let total: u32 = PLAN.iter().map(|(_, _, count)| count).sum();
    assert_eq!(total, 1_000_000);
    eprintln!("mutated inputs over all decoders: {total}, seed {seed}");
}

#[test]
fn packages_and_org_parts_are_plain_data() {
    // What a test or an auditor's program builds by hand is what the reader gives back.
    let world = World::with_one();
    let bundle = world.bundle();
    let again = Bundle::read(&bundle.to_bytes()).unwrap();
    assert_eq!(again, bundle);
    let part = OrgPart { entries: world.org.entries().to_vec(), checkpoint: world.org_checkpoint() };
    assert_eq!(bundle.orgs, [part]);
    let package = Package::new(world.view(1, |_| true), world.proof(1, 2).to_text());
    assert_eq!(bundle.packages, [package]);
}
