//! Member lists: what is sealed opens, and no altered byte of a file goes unnoticed.
#![allow(clippy::unwrap_used)] // tests

use std::collections::BTreeMap;

use lotline_schema::bundle::OrgPart;
use lotline_schema::cose::Signer;
use lotline_schema::id::{Origin, PartyId};
use lotline_schema::members::{Member, Members, MembersError, MembersFile};
use lotline_schema::note::Checkpoint;
use lotline_schema::org::{self, Entry, Org, Role};

fn signer(byte: u8) -> Signer {
    Signer::from_seed(&[byte; 32])
}

fn party(byte: u8) -> PartyId {
    PartyId::of(&signer(byte).public())
}

/// An association with root 1 and working keys 2 to 5.
fn association() -> (Org, OrgPart) {
    let mut org = Org::new(party(1));
    let keys = Role::ALL.into_iter().zip(2..).map(|(role, byte)| (role, signer(byte).public())).collect();
    org.accept(org::seal(&org, &Entry::keyring("VDZ", keys), 0, &signer(1), |bytes| bytes.fill(9)).unwrap().core).unwrap();
    let checkpoint = Checkpoint { origin: Origin::org(party(1)), size: 1, root: org.frontier().root() }.sign(&signer(3));
    let part = OrgPart::of(&org, &checkpoint);
    (org, part)
}

fn member(byte: u8, name: &str) -> Member {
    Member { party: party(byte), name: name.into(), ids: BTreeMap::from([("VAT".into(), format!("DE{byte}"))]) }
}

fn file(by: &Signer) -> MembersFile {
    let list = Members::new("VDZ e. V.", vec![member(11, "Brandt"), member(10, "ACME")]).unwrap();
    let core = list.seal(party(1), 4, 1_795_392_000, by, |bytes| bytes.fill(8)).unwrap();
    MembersFile { org: association().1, core }
}

#[test]
fn what_an_association_signed_opens() {
    let bytes = file(&signer(2)).to_bytes();
    let opened = MembersFile::read(&bytes).unwrap().open().unwrap();
    assert_eq!((opened.number, opened.day, opened.by.party()), (4, 1_795_392_000, party(1)));
    assert_eq!((opened.list.association.as_str(), opened.list.members.len()), ("VDZ e. V.", 2));
    assert!(opened.list.members.windows(2).all(|pair| pair[0].party < pair[1].party));
    assert!(opened.list.members.contains(&member(10, "ACME")));
}

#[test]
fn only_the_record_key_of_the_association_signs() {
    for other in [1, 3, 77] {
        let file = MembersFile::read(&file(&signer(other)).to_bytes()).unwrap();
        assert!(matches!(file.open(), Err(MembersError::Key(_))), "key {other}");
    }
    let elsewhere = Members::new("VDZ", vec![]).unwrap().seal(party(9), 0, 0, &signer(2), |bytes| bytes.fill(8)).unwrap();
    let file = MembersFile { core: elsewhere, ..file(&signer(2)) };
    assert!(matches!(file.open(), Err(MembersError::Elsewhere)));
}

#[test]
fn every_altered_byte_is_noticed() {
    let bytes = file(&signer(2)).to_bytes();
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        assert!(MembersFile::read(&altered).map_err(MembersError::from).and_then(|file| file.open()).is_err(), "byte {at}");
        assert!(MembersFile::read(&bytes[..at]).is_err());
    }
}

#[test]
fn a_list_has_one_form() {
    assert!(Members::new("", vec![]).is_err());
    assert!(Members::new("VDZ", vec![member(10, "ACME"), member(10, "ACME once more")]).is_err());
    assert!(Members::new("VDZ", vec![member(10, "two\nlines")]).is_err());
}

#[test]
fn a_list_may_say_until_when_it_holds() {
    let open = |list: &Members| {
        let core = list.seal(party(1), 5, 1_795_392_000, &signer(2), |bytes| bytes.fill(8)).unwrap();
        MembersFile { org: association().1, core }.open().unwrap().list
    };
    let endless = Members::new("VDZ e. V.", vec![member(10, "ACME")]).unwrap();
    assert_eq!((open(&endless).until, open(&endless)), (None, endless.clone()));
    let ending = endless.with_end(1_830_297_600);
    assert_eq!((open(&ending).until, open(&ending)), (Some(1_830_297_600), ending));
}
