//! Terms and their acceptance: golden vectors, rebuilt from fixed seeds byte for byte and checked from the file alone; one spelling of
//! each; and nothing altered goes unnoticed.
#![allow(clippy::unwrap_used)] // tests

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Filler, NOW, at, bytes, key_json, rebuilt, signer, statement_json, vectors};
use lotline_schema::codec::{self, Value};
use lotline_schema::deletion::{Deletion, Reported};
use lotline_schema::id::{Hash, Origin, PartyId, hex};
use lotline_schema::org::{Entry, Org, Places, Role};
use lotline_schema::terms::{ACCEPTANCE_BYTES_MAX, Acceptance, AcceptanceError, Accepted, DELETE_AFTER_DAYS_MAX, TERMS_MAX, Terms};
use lotline_schema::{delivery, org};
use serde_json::{Value as Json, json};

const NAME: &str = "lotline-3.json";
const NUMBER: u64 = 17;

fn purposes(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn some() -> [Terms; 3] {
    [
        Terms::new(purposes(&["audit"]), Some(90), true).unwrap(),
        Terms::new(purposes(&["incoming-inspection", "containment"]), None, false).unwrap(),
        Terms::new(purposes(&[]), Some(14), false).unwrap(),
    ]
}

fn party(byte: u8) -> PartyId {
    PartyId::of(&signer(byte).public())
}

/// The customer of the vectors: root 31, then its working keys.
fn customer(filler: &mut Filler) -> Org {
    let mut customer = Org::new(party(0x31));
    let keys = Role::ALL.into_iter().zip(0x32..).map(|(role, byte)| (role, signer(byte).public())).collect();
    let entry = Entry::keyring("OEM A", keys);
    customer.accept(org::seal(&customer, &entry, NOW, &signer(0x31), |bytes| filler.fill(bytes)).unwrap().core).unwrap();
    customer
}

fn acceptance() -> Acceptance {
    let terms: BTreeMap<Hash, Terms> = some().into_iter().map(|terms| (terms.id(), terms)).collect();
    Acceptance { owner: party(0x11), purposes: purposes(&["audit", "containment"]), terms, at: NOW + 60 }
}

fn seal(of: &Acceptance, number: u64, key: u8, filler: &mut Filler) -> Vec<u8> {
    of.seal(party(0x31), number, &signer(key), |bytes| filler.fill(bytes)).unwrap().unwrap()
}

fn built() -> Json {
    let mut filler = Filler::new("lotline vectors 3");
    let customer = customer(&mut filler);
    let core = seal(&acceptance(), NUMBER, 0x32, &mut filler);
    let report = deletion().seal(party(0x31), NUMBER + 1, &signer(0x32), |bytes| filler.fill(bytes)).unwrap();
    let terms = |terms: &Terms| json!({ "bytes": hex(&codec::encode(&terms.to_value())), "id": terms.id().to_string(), "promises": terms.promises() });
    let negative: Vec<Json> = wrong().into_iter().map(|(why, value)| json!({ "why": why, "bytes": hex(&codec::encode(&value)) })).collect();
    json!({
        "note": "Lotline wire format: terms and their acceptance, docs/wire.md. Keys are 32 repeated bytes; random bytes are SHA-256(label || counter as 8 bytes, big endian), block after block.",
        "filler": { "label": "lotline vectors 3" },
        "now": NOW,
        "keys": { "root": key_json(0x31, &signer(0x31)), "record": key_json(0x32, &signer(0x32)) },
        "receiver": customer.party().to_string(),
        "owner": party(0x11).to_string(),
        "origin": Origin::new(customer.party(), "receipts", 1).unwrap().to_string(),
        "org_entry": hex(&customer.entries()[0]),
        "terms": some().iter().map(terms).collect::<Vec<_>>(),
        "acceptance": { "number": NUMBER, "statement": statement_json(&core) },
        "deletion": { "number": NUMBER + 1, "statement": statement_json(&report) },
        "negative_terms": negative,
    })
}

/// What was promised by the first of the terms, and done.
fn deletion() -> Deletion {
    let origin = Origin::new(party(0x11), "quality", 1).unwrap().to_string();
    Deletion { origin, terms: some()[0].id(), entries: vec![(3, 0b1011), (7, 1 << 45)], at: NOW + 90 * 86_400 }
}

/// What terms are not.
fn wrong() -> Vec<(&'static str, Value)> {
    let of = |names: &[&str]| codec::array(names.iter().map(|name| codec::text(*name)));
    let map = |more: &[(i64, Value)]| codec::map([(1, codec::uint(1)), (2, of(&["audit"]))].into_iter().chain(more.iter().cloned()));
    vec![
        ("of another version", codec::map([(1, codec::uint(2)), (2, of(&["audit"]))])),
        ("without purposes", codec::map([(1, codec::uint(1)), (3, codec::uint(86_400))])),
        ("of nothing", codec::map([(1, codec::uint(1)), (2, of(&[]))])),
        ("purposes out of order", codec::map([(1, codec::uint(1)), (2, of(&["containment", "audit"]))])),
        ("a purpose twice", codec::map([(1, codec::uint(1)), (2, of(&["audit", "audit"]))])),
        ("a name that is none", codec::map([(1, codec::uint(1)), (2, of(&["Audit"]))])),
        ("part of a day", map(&[(3, codec::uint(86_401))])),
        ("no day", map(&[(3, codec::uint(0))])),
        ("more than a hundred years", map(&[(3, codec::uint((DELETE_AFTER_DAYS_MAX + 1) * 86_400))])),
        ("passed on", map(&[(4, codec::text("yes"))])),
        ("a mark instead of the word", map(&[(4, Value::Bool(true))])),
        ("something more", map(&[(5, codec::uint(1))])),
    ]
}

#[test]
fn the_vectors_are_rebuilt_byte_for_byte() {
    rebuilt(NAME, built());
}

#[test]
fn the_vectors_verify_from_the_file_alone() {
    let file = vectors(NAME);
    let mut receiver = Org::new(file["receiver"].as_str().unwrap().parse().unwrap());
    receiver.accept(bytes(&file, "/org_entry")).unwrap();
    let opened = Accepted::open(&bytes(&file, "/acceptance/statement/core"), &receiver).unwrap();
    assert_eq!((opened.number, opened.acceptance.owner.to_string()), (NUMBER, file["owner"].as_str().unwrap().to_owned()));
    let reported = Reported::open(&bytes(&file, "/deletion/statement/core"), &receiver).unwrap();
    assert_eq!(reported, Reported { number: NUMBER + 1, deletion: deletion() });
    for listed in file["terms"].as_array().unwrap() {
        let value = codec::decode(&lotline_schema::id::unhex(listed["bytes"].as_str().unwrap()).unwrap()).unwrap();
        let terms = Terms::read(&value).unwrap();
        assert_eq!(terms.id().to_string(), listed["id"].as_str().unwrap());
        assert_eq!(json!(terms.promises()), listed["promises"]);
        assert_eq!(opened.acceptance.terms[&terms.id()], terms);
    }
    for at in 0..file["negative_terms"].as_array().unwrap().len() {
        let value = codec::decode(&bytes(&file, &format!("/negative_terms/{at}/bytes"))).unwrap();
        assert!(Terms::read(&value).is_err(), "{}", file["negative_terms"][at]["why"]);
    }
    assert!(!at(&file, "/origin").is_empty());
}

#[test]
fn no_altered_byte_of_a_report_goes_unnoticed() {
    let mut filler = Filler::new("reports");
    let customer = customer(&mut filler);
    let core = deletion().seal(party(0x31), NUMBER, &signer(0x32), |bytes| filler.fill(bytes)).unwrap();
    assert_eq!(Reported::open(&core, &customer).unwrap().deletion, deletion());
    for at in 0..core.len() {
        let mut altered = core.clone();
        altered[at] ^= 1;
        assert!(Reported::open(&altered, &customer).is_err(), "byte {at}");
        assert!(Reported::open(&core[..at], &customer).is_err());
    }
    let by_other = deletion().seal(party(0x31), NUMBER, &signer(0x33), |bytes| filler.fill(bytes)).unwrap();
    assert!(Reported::open(&by_other, &customer).is_err() && Accepted::open(&core, &customer).is_err());
    let empty = Deletion { entries: Vec::new(), ..deletion() }.seal(party(0x31), NUMBER, &signer(0x32), |bytes| filler.fill(bytes));
    assert!(Reported::open(&empty.unwrap(), &customer).is_err());
}

#[test]
fn no_altered_byte_goes_unnoticed_and_only_the_record_key_signs() {
    let mut filler = Filler::new("other");
    let mut customer = customer(&mut filler);
    let core = seal(&acceptance(), NUMBER, 0x32, &mut filler);
    assert_eq!(Accepted::open(&core, &customer).unwrap().acceptance, acceptance());
    for at in 0..core.len() {
        let mut altered = core.clone();
        altered[at] ^= 1;
        assert!(Accepted::open(&altered, &customer).is_err(), "byte {at}");
        assert!(Accepted::open(&core[..at], &customer).is_err());
    }
    for key in [0x31, 0x33, 0x77] {
        let by_other = seal(&acceptance(), NUMBER, key, &mut filler);
        assert!(matches!(Accepted::open(&by_other, &customer), Err(AcceptanceError::Key(_))), "{key}");
    }
    let padded = [core.clone(), vec![0; ACCEPTANCE_BYTES_MAX]].concat();
    assert!(matches!(Accepted::open(&padded, &customer), Err(AcceptanceError::TooLarge(_))));
    // A delivery receipt of the same row of numbers is no acceptance, and the other way round.
    assert!(delivery::Receipt::open(&core, &customer).is_err() && delivery::Receipt::peek(&core).is_none());
    // Where a rotation ends the key by its number, what it signed before stays good.
    let from: Places = [customer.party()]
        .into_iter()
        .flat_map(|party| [(Origin::org(party).to_string(), 1), (Origin::new(party, "receipts", 1).unwrap().to_string(), NUMBER + 1)])
        .collect();
    let rotation = Entry::Rotation { role: Role::Record, key: signer(0x36).public(), from, reason: "a new one".into() };
    customer.accept(org::seal(&customer, &rotation, NOW, &signer(0x31), |bytes| filler.fill(bytes)).unwrap().core).unwrap();
    assert!(Accepted::open(&core, &customer).is_ok());
    assert!(Accepted::open(&seal(&acceptance(), NUMBER + 1, 0x32, &mut filler), &customer).is_err());
    assert!(Accepted::open(&seal(&acceptance(), NUMBER + 1, 0x36, &mut filler), &customer).is_ok());
}

#[test]
fn an_acceptance_holds_no_more_than_it_may() {
    let many = |count: usize| -> BTreeMap<Hash, Terms> {
        (1..=count as u64).map(|days| Terms::new(purposes(&[]), Some(days), false).unwrap()).map(|terms| (terms.id(), terms)).collect()
    };
    let sealed = |of: Acceptance| of.seal(party(0x31), 1, &signer(0x32), |bytes| bytes.fill(1)).unwrap();
    assert!(sealed(Acceptance { terms: many(TERMS_MAX), ..acceptance() }).is_some());
    assert!(sealed(Acceptance { terms: many(TERMS_MAX + 1), ..acceptance() }).is_none());
    assert!(sealed(Acceptance { purposes: purposes(&["no purpose"]), ..acceptance() }).is_none());
}
