//! Requests for a delegation: what is sealed opens, and no altered byte of a file goes unnoticed.
#![allow(clippy::unwrap_used)] // tests

use lotline_schema::bundle::OrgPart;
use lotline_schema::cose::Signer;
use lotline_schema::id::{Origin, PartyId};
use lotline_schema::note::Checkpoint;
use lotline_schema::org::{self, Entry, Org, Role};
use lotline_schema::request::{Request, RequestError, RequestFile};

fn signer(byte: u8) -> Signer {
    Signer::from_seed(&[byte; 32])
}

fn party(byte: u8) -> PartyId {
    PartyId::of(&signer(byte).public())
}

/// A laboratory with root 1 and working keys 2 to 5.
fn laboratory() -> (Org, OrgPart) {
    let mut org = Org::new(party(1));
    let keys = Role::ALL.into_iter().zip(2..).map(|(role, byte)| (role, signer(byte).public())).collect();
    org.accept(org::seal(&org, &Entry::keyring("Lab", keys), 0, &signer(1), |bytes| bytes.fill(9)).unwrap().core).unwrap();
    let checkpoint = Checkpoint { origin: Origin::org(party(1)), size: 1, root: org.frontier().root() }.sign(&signer(3));
    let part = OrgPart::of(&org, &checkpoint);
    (org, part)
}

fn request() -> Request {
    Request { owner: party(50), feed: "lab".into(), record: signer(60).public(), log: signer(61).public() }
}

fn file(asked: &Request, by: &Signer) -> RequestFile {
    let (org, part) = laboratory();
    RequestFile { org: part, core: asked.seal(&org, 1_795_392_000, by, |bytes| bytes.fill(8)).unwrap() }
}

#[test]
fn what_a_laboratory_asks_for_opens() {
    let bytes = file(&request(), &signer(2)).to_bytes();
    let (by, asked) = RequestFile::read(&bytes).unwrap().open().unwrap();
    assert_eq!((by.party(), by.name(), asked), (party(1), "Lab", request()));
}

#[test]
fn only_the_record_key_of_who_asks_signs() {
    for other in [1, 3, 60, 77] {
        assert!(matches!(file(&request(), &signer(other)).open(), Err(RequestError::Key(_))), "key {other}");
    }
    // What another organisation signed does not become this one's by standing beside its org feed.
    let elsewhere = request().seal(&Org::new(party(9)), 0, &signer(2), |bytes| bytes.fill(8)).unwrap();
    assert_eq!(RequestFile { core: elsewhere, ..file(&request(), &signer(2)) }.open().unwrap_err(), RequestError::Elsewhere);
}

#[test]
fn a_request_names_a_data_feed_and_two_keys() {
    let wrong = [
        Request { feed: "org".into(), ..request() },
        Request { feed: "policy".into(), ..request() },
        Request { feed: "Lab".into(), ..request() },
        Request { log: signer(60).public(), ..request() },
    ];
    for asked in wrong {
        assert!(matches!(file(&asked, &signer(2)).open(), Err(RequestError::Shape(_))), "{asked:?}");
    }
}

#[test]
fn every_altered_byte_is_noticed() {
    let bytes = file(&request(), &signer(2)).to_bytes();
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        assert!(RequestFile::read(&altered).map_err(RequestError::from).and_then(|file| file.open().map(drop)).is_err(), "byte {at}");
        assert!(RequestFile::read(&bytes[..at]).is_err());
    }
}
