//! Requirements and answers: what is sealed opens, and no altered byte, other signer or number out of bounds goes unnoticed.
#![allow(clippy::unwrap_used)] // tests

use std::collections::BTreeSet;

use lotline_schema::Hash;
use lotline_schema::bundle::OrgPart;
use lotline_schema::cose::Signer;
use lotline_schema::id::{Origin, PartyId};
use lotline_schema::note::Checkpoint;
use lotline_schema::org::{self, Entry, Org, Role};
use lotline_schema::requirements::{
    Answer, Deadline, NAMES_MAX, REQUIREMENTS_MAX, Reply, Requirement, Requirements, RequirementsError, RequirementsFile, Stated,
};

fn signer(byte: u8) -> Signer {
    Signer::from_seed(&[byte; 32])
}

fn party(byte: u8) -> PartyId {
    PartyId::of(&signer(byte).public())
}

/// A customer with root 1 and working keys 2 to 5.
fn customer() -> (Org, OrgPart) {
    let mut org = Org::new(party(1));
    let keys = Role::ALL.into_iter().zip(2..).map(|(role, byte)| (role, signer(byte).public())).collect();
    org.accept(org::seal(&org, &Entry::keyring("OEM", keys), 0, &signer(1), |bytes| bytes.fill(9)).unwrap().core).unwrap();
    let checkpoint = Checkpoint { origin: Origin::org(party(1)), size: 1, root: org.frontier().root() }.sign(&signer(3));
    let part = OrgPart::of(&org, &checkpoint);
    (org, part)
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn requirement(name: &str) -> Requirement {
    Requirement {
        name: name.into(),
        kinds: set(&["inspection"]),
        parts: set(&["P-4711"]),
        show: set(&["identity", "verdict"]),
        purpose: "incoming inspection".into(),
        deadline: Some(Deadline::EachWithin(432_000)),
    }
}

fn requirements() -> Requirements {
    let dated = Requirement { deadline: Some(Deadline::Before(1_800_000_000)), parts: set(&[]), ..requirement("b") };
    Requirements { to: party(50), number: 3, wanted: vec![requirement("a"), dated, Requirement { deadline: None, ..requirement("c") }] }
}

fn answer() -> Answer {
    let replies = vec![("a".into(), Reply::Shown(set(&["identity"]))), ("b".into(), Reply::Declined("not ours to show".into()))];
    Answer { to: party(50), request: Hash([7; 32]), at: 1_795_392_000, replies }
}

fn asked(requirements: &Requirements, by: &Signer) -> RequirementsFile {
    let (org, part) = customer();
    RequirementsFile { org: part, core: requirements.seal(&org, 1_795_392_000, by, |bytes| bytes.fill(8)).unwrap() }
}

fn answered(answer: &Answer) -> RequirementsFile {
    let (org, part) = customer();
    RequirementsFile { org: part, core: answer.seal(&org, 1_795_392_000, &signer(2), |bytes| bytes.fill(8)).unwrap() }
}

#[test]
fn what_is_asked_and_answered_opens() {
    let opened = RequirementsFile::read(&asked(&requirements(), &signer(2)).to_bytes()).unwrap().open().unwrap();
    assert_eq!((opened.by.party(), opened.stated.clone()), (party(1), Stated::Requirements(requirements())));
    assert!(opened.stands_under(&customer().0) && opened.stands_under(&Org::new(party(1))) && !opened.stands_under(&Org::new(party(9))));
    let opened = RequirementsFile::read(&answered(&answer()).to_bytes()).unwrap().open().unwrap();
    assert_eq!(opened.stated, Stated::Answer(answer()));
}

#[test]
fn only_the_record_key_of_who_asks_signs() {
    for other in [1, 3, 60, 77] {
        assert!(matches!(asked(&requirements(), &signer(other)).open(), Err(RequirementsError::Key(_))), "key {other}");
    }
    let elsewhere = requirements().seal(&Org::new(party(9)), 0, &signer(2), |bytes| bytes.fill(8)).unwrap();
    let file = RequirementsFile { core: elsewhere, ..asked(&requirements(), &signer(2)) };
    assert_eq!(file.open().unwrap_err(), RequirementsError::Elsewhere);
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let many = |count: usize| (0..count).map(|at| format!("{at:04}"));
    let wrong = [
        Requirements { wanted: vec![], ..requirements() },
        Requirements { number: 0, ..requirements() },
        Requirements { wanted: vec![requirement("a"), requirement("a")], ..requirements() },
        Requirements { wanted: vec![requirement("b"), requirement("a")], ..requirements() },
        Requirements { wanted: many(REQUIREMENTS_MAX + 1).map(|name| requirement(&name)).collect(), ..requirements() },
        Requirements { wanted: vec![Requirement { show: set(&[]), ..requirement("a") }], ..requirements() },
        Requirements { wanted: vec![Requirement { parts: many(NAMES_MAX + 1).collect(), ..requirement("a") }], ..requirements() },
        Requirements { wanted: vec![Requirement { purpose: "two\nlines".into(), ..requirement("a") }], ..requirements() },
        Requirements { wanted: vec![requirement(&"x".repeat(256))], ..requirements() },
    ];
    for wrong in wrong {
        assert!(matches!(asked(&wrong, &signer(2)).open(), Err(RequirementsError::Shape(_))), "{wrong:?}");
    }
    let wrong = [
        vec![],
        vec![("a".into(), Reply::Shown(set(&[])))],
        vec![("a".into(), Reply::Declined(" ".into()))],
        vec![("b".into(), Reply::Declined("no".into())), ("a".into(), Reply::Declined("no".into()))],
    ];
    for replies in wrong {
        assert!(matches!(answered(&Answer { replies, ..answer() }).open(), Err(RequirementsError::Shape(_))));
    }
}

#[test]
fn every_altered_byte_is_noticed() {
    for bytes in [asked(&requirements(), &signer(2)).to_bytes(), answered(&answer()).to_bytes()] {
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            let opened = RequirementsFile::read(&altered).map_err(RequirementsError::from).and_then(|file| file.open().map(drop));
            assert!(opened.is_err(), "byte {at}");
            assert!(RequirementsFile::read(&bytes[..at]).is_err());
        }
    }
}
