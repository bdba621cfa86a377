//! Evidence by others and about keys: cosignatures, quorums, receipts, vouchers, releases, rotations, fork proofs; each
//! good, and bad in every way that has its own answer. The mutations of a whole bundle are in `mutations.rs`.
#![allow(clippy::unwrap_used)] // tests

mod common;

use common::{NOW, RECORDED_AT, Rich, World, inspection, set, signer, slot, vkeys, voucher_for};
use lotline_schema::bundle::{Bundle, History};
use lotline_schema::codec::{self, Value};
use lotline_schema::cose::{self, Sign1, Signer};
use lotline_schema::delivery::{Delivery, DeliveryError, Receipt};
use lotline_schema::fork::{ForkError, ForkProof, Side};
use lotline_schema::id::{Hash, Origin, hex, thumbprint};
use lotline_schema::kind::inspection::Inspection;
use lotline_schema::note::{self, COSIGNATURES_MAX, Checkpoint, Cosignature, Cosigned, InclusionProof, NoteError, WitnessKey};
use lotline_schema::org::{Entry, Org, OrgError, Places, Role, Standing};
use lotline_schema::quorum::Quorum;
use lotline_schema::receipt::{self, Included, ReceiptError};
use lotline_schema::release::Release;
use lotline_schema::statement::{self, Place, Type, Unverified};
use lotline_schema::verify::{Finding, Outcome, Report, Trust, verify};
use lotline_schema::view::Package;
use lotline_schema::voucher::{Voucher, VoucherError};

const DAY: u64 = 86_400;

fn of(lot: &str) -> lotline_schema::Record {
    Inspection { lot: lot.into(), ..inspection() }.check(RECORDED_AT).unwrap()
}

/// A feed of this many entries: its first, and a record of each other lot.
fn feed_of(size: u64) -> World {
    let mut world = World::new();
    for lot in 1..size {
        world.publish(&of(&format!("L{lot}")));
    }
    world
}

fn checked(bundle: &Bundle, trust: &Trust) -> Report {
    let bytes = bundle.to_bytes();
    assert_eq!(Bundle::read(&bytes).as_ref(), Ok(bundle));
    verify(&bytes, trust)
}

/// Findings of a name, in words.
fn found(report: &Report, name: &str) -> Vec<String> {
    report.checks.iter().filter(|check| check.name == name).map(|check| check.finding.to_string()).collect()
}

fn failing(report: &Report) -> Vec<&'static str> {
    report.checks.iter().filter(|check| matches!(check.finding, Finding::Fails(_))).map(|check| check.name).collect()
}

fn outcome(report: &Report) -> (Outcome, u8) {
    (report.outcome, report.outcome.exit_code())
}

// ---- the whole of it ----

#[test]
fn a_bundle_with_all_evidence_verifies_and_says_what_each_piece_proves() {
    let rich = Rich::new(|_| true);
    let report = checked(&rich.bundle, &rich.trust);
    assert_eq!(outcome(&report), (Outcome::Verified, 0), "{}", report.sentence());
    assert!(!report.checks.iter().any(|check| matches!(check.finding, Finding::Fails(_))));
    assert_eq!(report.records.len(), 2);
    let first = &report.records[0];
    assert_eq!(first.witnessed.as_ref().unwrap().at, NOW + 10);
    assert_eq!(first.released_by, [("Petra Pruefer".to_owned(), "quality manager".to_owned())]);
    assert_eq!(first.deliveries, [(rich.customer.party, rich.world.delivery(1, 5, 5))]);
    assert_eq!(report.records[1].witnessed.as_ref().unwrap().at, NOW + 100);
    // For a date the first counts, for news the last.
    assert_eq!(report.issuers[0].witnessed.as_ref().unwrap().at, NOW + 300);
    assert_eq!(report.issuers[0].witnessed.as_ref().unwrap().by.len(), 1);
    assert!(report.sentence().contains("Muster Metallbau GmbH (vouched for by OEM One AG on 2026-11-23"), "{}", report.sentence());
    for name in ["receipt", "history", "delivery", "voucher"] {
        assert_eq!(found(&report, name).len(), 1, "{name}");
    }
    // Trust in the issuer itself stays what it is.
    assert!(checked(&rich.bundle, &rich.world.trust()).sentence().contains("Muster GmbH (by telephone)"));
    assert_eq!(outcome(&checked(&rich.bundle, &Trust::none())), (Outcome::SignerNotEstablished, 7));
}

// ---- cosignatures ----

#[test]
fn a_cosignature_holds_for_one_checkpoint_one_key_and_one_time() {
    let world = feed_of(3);
    let (checkpoint, witness) = (world.checkpoint(3), signer(0x41));
    let key = WitnessKey::opaque(witness.public());
    let cosignature = Cosignature::sign(&checkpoint, &witness, NOW);
    assert_eq!(cosignature.verify(&checkpoint, &key), Ok(()));
    assert_eq!((cosignature.name(), cosignature.time()), (key.name(), NOW));
    assert_eq!(key.name(), format!("w-{}", &hex(&Hash::of(&[witness.public().as_bytes()]).0)[..8]));
    assert_eq!(Cosignature::read(&cosignature.to_line()), Ok(cosignature.clone()));
    assert_eq!(WitnessKey::read(&key.to_string()), Ok(key.clone()));
    // Another checkpoint, another key, the log's kind of key.
    assert_eq!(cosignature.verify(&world.checkpoint(2), &key), Err(NoteError::Signature));
    assert_eq!(cosignature.verify(&checkpoint, &WitnessKey::opaque(signer(0x42).public())), Err(NoteError::Signature));
    assert!(WitnessKey::read(&note::vkey(key.name(), &witness.public())).is_err());
    assert!(note::read_vkey(&key.to_string()).is_err());
    assert!(WitnessKey::read(&format!("{key}\n")).is_err());
    assert!(WitnessKey::read(&key.to_string().to_uppercase()).is_err());
    // Another time in the line: what was signed names the first one.
    let line = cosignature.to_line();
    let (head, blob) = line.rsplit_once(' ').unwrap();
    let mut blob = base64_of(blob);
    assert_eq!(blob.len(), 76);
    blob[11] ^= 1;
    let dated_back = Cosignature::read(&format!("{head} {}", base64(&blob))).unwrap();
    assert_eq!(dated_back.time(), NOW ^ 1);
    assert_eq!(dated_back.verify(&checkpoint, &key), Err(NoteError::Signature));
    // A signature over the checkpoint alone, as a log makes it, is none.
    let plain = checkpoint.sign(&witness);
    let plain = base64_of(plain.trim_end().rsplit(' ').next().unwrap());
    let moved = [&blob[..4], &NOW.to_be_bytes(), &plain[4..]].concat();
    assert!(Cosignature::read(&format!("{head} {}", base64(&moved))).unwrap().verify(&checkpoint, &key).is_err());
    // Names that no key can have.
    for name in ["", "a+b", "a\u{2028}b", "a\u{9b}b", &"x".repeat(256)] {
        assert!(Cosignature::read(&format!("\u{2014} {name} {}", base64(&blob))).is_err(), "{name}");
    }
    for wrong in [&blob[..75], &[&blob[..], &[0]].concat()[..], &blob[..68]] {
        assert!(Cosignature::read(&format!("{head} {}", base64(wrong))).is_err());
    }
}

fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

fn base64_of(text: &str) -> Vec<u8> {
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap()
}

#[test]
fn cosignature_lines_stand_in_order_once_and_at_most_sixteen() {
    let world = feed_of(3);
    let (checkpoint, note) = (world.checkpoint(3), world.checkpoint(3).sign(&world.log));
    let log = world.log.public();
    let witnesses: Vec<Signer> = (0..17).map(|at| signer(0x80 + at)).collect();
    let mut lines: Vec<Cosignature> = witnesses.iter().map(|one| Cosignature::sign(&checkpoint, one, NOW)).collect();
    let all = note::with_cosignatures(&note, &lines);
    assert_eq!(all.lines().count(), note.lines().count() + COSIGNATURES_MAX);
    let opened = Cosigned::open(&all, &[&log]).unwrap();
    assert_eq!((opened.checkpoint, opened.cosignatures.len()), (checkpoint.clone(), COSIGNATURES_MAX));
    lines.sort_by(|a, b| a.name().cmp(b.name()));
    let text = |lines: &[&Cosignature]| lines.iter().fold(note.clone(), |text, line| format!("{text}{}\n", line.to_line()));
    let open = |text: &str| Cosigned::open(text, &[&log]).map(|opened| opened.cosignatures.len());
    assert_eq!(open(&text(&[&lines[0], &lines[1]])), Ok(2));
    assert_eq!(open(&text(&[&lines[1], &lines[0]])), Err(NoteError::Cosignatures));
    assert_eq!(open(&text(&[&lines[0], &lines[0]])), Err(NoteError::Cosignatures));
    assert_eq!(open(&text(&lines.iter().collect::<Vec<_>>())), Err(NoteError::Cosignatures));
    // Twice under one name with two times: still one name.
    let later = Cosignature::sign(&checkpoint, &witnesses[0], NOW + 1);
    assert_eq!(note::with_cosignatures(&note, &[later.clone(), lines[0].clone(), later]).lines().count(), note.lines().count() + 2);
    // The log's own name again; a cosignature before the log's line; none of the log at all.
    let own = checkpoint.sign(&signer(0x77));
    assert_eq!(open(&format!("{note}{}", &own[own.find('\u{2014}').unwrap()..])), Err(NoteError::UnknownLine));
    let dash = note.find('\u{2014}').unwrap();
    let before = format!("{}{}\n{}", &note[..dash], lines[0].to_line(), &note[dash..]);
    assert!(open(&before).is_err());
    assert!(open(&format!("{}{}\n", &note[..dash], lines[0].to_line())).is_err());
    // Where no cosignature belongs they are refused, as in a version 1 bundle.
    assert_eq!(lotline_schema::note::Checkpoint::open(&text(&[&lines[0]]), &log), Err(NoteError::UnknownLine));
    let package = Package::new(world.view(1, |_| true), world.cosigned_proof(1, 3, &[(&witnesses[0], NOW)]));
    let first = Bundle { first_version: true, ..world.bundle_of(vec![package.clone()]) };
    assert_eq!(outcome(&checked(&first, &world.trust())), (Outcome::Altered, 4));
    let mut org = world.bundle_of(vec![world.package(1, |_| true)]);
    org.orgs[0].checkpoint = world.cosigned_org_checkpoint(&[(&witnesses[0], NOW)]);
    assert_eq!(checked(&Bundle { first_version: true, ..org.clone() }, &world.trust()).outcome, Outcome::Altered);
    assert_eq!(checked(&org, &world.trust()).outcome, Outcome::Verified);
}

/// A witnessed world: record 1 under a checkpoint signed by these, whose keys are listed.
fn witnessed(world: &World, by: &[(&Signer, u64)], listed: &[&Signer]) -> Bundle {
    let package = Package::new(world.view(1, |_| true), world.cosigned_proof(1, world.leaves.len() as u64, by));
    Bundle { witnesses: vkeys(listed), ..world.bundle_of(vec![package]) }
}

#[test]
fn a_witnessed_date_is_the_first_and_needs_the_key() {
    let world = feed_of(3);
    let (a, b) = (&signer(0x41), &signer(0x42));
    let trust = world.trust();
    let seen = |bundle: &Bundle| {
        let report = checked(bundle, &trust);
        assert_eq!(report.outcome, Outcome::Verified, "{}", report.sentence());
        report.records[0].witnessed.clone().map(|seen| (seen.at, seen.by.len()))
    };
    assert_eq!(seen(&witnessed(&world, &[(a, 500), (b, 400)], &[a, b])), Some((400, 1)));
    assert_eq!(seen(&witnessed(&world, &[(a, 400), (b, 400)], &[a, b])), Some((400, 2)));
    // A line whose key is not here counts for nothing, and is listed; so is a key that made no line.
    let without = witnessed(&world, &[(a, 500), (b, 400)], &[a]);
    assert_eq!(seen(&without), Some((500, 1)));
    let name = WitnessKey::opaque(b.public()).name().to_owned();
    assert!(
        found(&checked(&without, &trust), "witness").contains(&format!("the cosignature of {name} cannot be checked: its key is not here"))
    );
    let idle = witnessed(&world, &[(a, 500)], &[a, b]);
    assert_eq!(seen(&idle), Some((500, 1)));
    assert!(found(&checked(&idle, &trust), "witness").iter().any(|text| text.ends_with("made no line here")));
    assert_eq!(seen(&witnessed(&world, &[], &[])), None);
    // A line on another checkpoint does not hold here.
    let mut moved = witnessed(&world, &[(a, 500)], &[a]);
    let (other, own) = (Cosignature::sign(&world.checkpoint(2), a, 500), Cosignature::sign(&world.checkpoint(3), a, 500));
    moved.packages[0].proof = moved.packages[0].proof.replace(&own.to_line(), &other.to_line());
    assert_eq!(seen(&moved), None);
    assert!(found(&checked(&moved, &trust), "witness").iter().any(|text| text.ends_with("does not hold and counts for nothing")));
    // Keys out of order or twice; a key that cannot be read.
    let mut keys = vkeys(&[a, b]);
    keys.reverse();
    for keys in [keys, vkeys(&[a, a])] {
        assert_eq!(checked(&Bundle { witnesses: keys, ..idle.clone() }, &trust).outcome, Outcome::Altered);
    }
    let unread = Bundle { witnesses: vec!["w-00000000+01020304+BAAA".into()], ..witnessed(&world, &[], &[]) };
    assert_eq!(seen(&unread), None);
}

#[test]
fn the_first_witnessed_checkpoint_dates_and_the_newest_org_feed_informs() {
    let world = feed_of(5);
    let (a, b) = (&signer(0x41), &signer(0x42));
    let mut package = Package::new(world.view(1, |_| true), world.cosigned_proof(1, 5, &[(a, NOW + 50)]));
    package.witnessed = Some(world.cosigned_proof(1, 2, &[(b, NOW + 5)]));
    let mut bundle = Bundle { witnesses: vkeys(&[a, b]), histories: vec![world.history(&[2, 5])], ..world.bundle_of(vec![package]) };
    bundle.orgs[0].checkpoint = world.cosigned_org_checkpoint(&[(a, NOW + 70), (b, NOW + 60)]);
    let report = checked(&bundle, &world.trust());
    assert_eq!(report.outcome, Outcome::Verified, "{}", report.sentence());
    assert_eq!((report.records[0].witnessed.as_ref().unwrap().at, report.records[0].size), (NOW + 5, 5));
    let news = report.issuers[0].witnessed.as_ref().unwrap();
    assert_eq!((news.at, &news.by[..]), (NOW + 70, &[WitnessKey::opaque(a.public()).name().to_owned()][..]));
    // The first witnessed one is not the newer one, is of the same record, and of this feed.
    let with = |witnessed: String| {
        let mut bundle = bundle.clone();
        bundle.packages[0].witnessed = Some(witnessed);
        bundle.histories.clear();
        checked(&bundle, &world.trust()).outcome
    };
    assert_eq!(with(world.cosigned_proof(1, 5, &[(b, NOW)])), Outcome::Verified);
    assert_eq!(with(world.cosigned_proof(2, 5, &[(b, NOW)])), Outcome::Altered);
    let mut longer = feed_of(5);
    longer.publish(&of("more"));
    assert_eq!(with(longer.cosigned_proof(1, 6, &[(b, NOW)])), Outcome::Altered);
}

#[test]
fn demands_that_are_not_met_are_incomplete() {
    let world = feed_of(3);
    let (a, b, c) = (&signer(0x41), &signer(0x42), &signer(0x43));
    let key = |witness: &Signer| WitnessKey::opaque(witness.public()).to_string();
    let file = format!("witness a {}\nwitness b {}\ngroup both all a b\nquorum both\n", key(a), key(b));
    let ask = |change: &dyn Fn(&mut Trust)| {
        let mut trust = world.trust();
        change(&mut trust);
        trust
    };
    let quorum = ask(&|trust| trust.demand_quorum(Quorum::read(&file).unwrap()));
    // Reached when the last of them has signed; the bundle need not list the keys.
    let both = witnessed(&world, &[(a, 500), (b, 900), (c, 100)], &[]);
    let report = checked(&both, &quorum);
    assert_eq!(outcome(&report), (Outcome::Verified, 0), "{}", report.sentence());
    let seen = report.records[0].witnessed.clone().unwrap();
    assert_eq!((seen.at, seen.by), (900, vec!["a".to_owned(), "b".to_owned()]));
    // Strangers count for nothing, however many; a line that does not hold neither.
    for (by, listed) in [(vec![(a, 500), (c, 100)], vec![c]), (vec![(c, 100)], vec![c]), (vec![], vec![])] {
        let report = checked(&witnessed(&world, &by, &listed), &quorum);
        assert_eq!(outcome(&report), (Outcome::Incomplete, 9));
        assert!(report.intact() && report.sentence().contains("NOT ALL IS PROVEN"), "{}", report.sentence());
        assert!(report.records[0].witnessed.is_none());
    }
    let mut forged = both.clone();
    let (own, other) = (Cosignature::sign(&world.checkpoint(3), b, 900), Cosignature::sign(&world.checkpoint(2), b, 900));
    forged.packages[0].proof = forged.packages[0].proof.replace(&own.to_line(), &other.to_line());
    assert_eq!(outcome(&checked(&forged, &quorum)), (Outcome::Incomplete, 9));
    // A log that the file does not name.
    let logs = |origin: &Origin| format!("log {}\n{file}", note::vkey(origin.as_str(), &world.log.public()));
    for (origin, expected) in [(world.origin.clone(), Outcome::Verified), (world.origin.renewed(), Outcome::Incomplete)] {
        let trust = ask(&|trust| trust.demand_quorum(Quorum::read(&logs(&origin)).unwrap()));
        assert_eq!(checked(&both, &trust).outcome, expected);
    }
    // There by a time.
    for (time, expected) in [(900, Outcome::Verified), (899, Outcome::Incomplete)] {
        let trust = ask(&|trust| {
            trust.demand_quorum(Quorum::read(&file).unwrap());
            trust.demand_witnessed_by(time);
        });
        assert_eq!(checked(&both, &trust).outcome, expected, "{time}");
    }
    let by = ask(&|trust| trust.demand_witnessed_by(u64::MAX));
    assert_eq!(outcome(&checked(&witnessed(&world, &[], &[]), &by)), (Outcome::Incomplete, 9));
    assert_eq!(checked(&witnessed(&world, &[(a, 5)], &[a]), &by).outcome, Outcome::Verified);
    assert_eq!(checked(&witnessed(&world, &[(a, 5)], &[]), &by).outcome, Outcome::Incomplete);
    // News since a time: the org feed's checkpoint counts, not the record's.
    let mut fresh = witnessed(&world, &[], &[a, b]);
    fresh.orgs[0].checkpoint = world.cosigned_org_checkpoint(&[(a, NOW + 9), (b, NOW + 5)]);
    for (after, expected) in [(NOW + 9, Outcome::Verified), (NOW + 10, Outcome::Incomplete)] {
        let trust = ask(&|trust| trust.demand_fresh_after(after));
        assert_eq!(checked(&fresh, &trust).outcome, expected, "{after}");
        assert_eq!(checked(&witnessed(&world, &[(a, NOW + 20)], &[a]), &trust).outcome, Outcome::Incomplete);
    }
    // All are asked for, so the one who saw it longest ago decides.
    for (after, expected) in [(NOW + 5, Outcome::Verified), (NOW + 6, Outcome::Incomplete)] {
        let trust = ask(&|trust| {
            trust.demand_quorum(Quorum::read(&file.replace("quorum both", "quorum none")).unwrap());
            trust.demand_fresh_after(after);
        });
        let all = ask(&|trust| {
            trust.demand_quorum(Quorum::read(&file).unwrap());
            trust.demand_fresh_after(after);
        });
        let mut fresh = witnessed(&world, &[(a, NOW), (b, NOW)], &[a, b]);
        fresh.orgs[0].checkpoint = world.cosigned_org_checkpoint(&[(a, NOW + 9), (b, NOW + 5)]);
        assert_eq!(checked(&fresh, &all).outcome, expected, "{after}");
        assert_eq!(checked(&fresh, &trust).outcome, Outcome::Verified);
    }
    // A demand makes nothing good: what is altered stays altered, and an unknown signer is named too.
    assert_eq!(checked(&witnessed(&world, &[], &[]), &Trust::none()).outcome, Outcome::SignerNotEstablished);
}

// ---- histories ----

#[test]
fn checkpoints_of_several_sizes_must_be_one_history() {
    let world = feed_of(7);
    let package = |seq, size| Package::new(world.view(seq, |_| true), world.proof(seq, size).to_text());
    let packages = vec![package(1, 3), package(2, 5), package(4, 7)];
    let of = |histories: Vec<History>| {
        let bundle = Bundle { histories, ..world.bundle_of(packages.clone()) };
        let report = checked(&bundle, &world.trust());
        (report.outcome, report.outcome.exit_code(), failing(&report))
    };
    let good = world.history(&[3, 5, 7]);
    assert_eq!(of(vec![good.clone()]), (Outcome::Verified, 0, vec![]));
    assert_eq!(of(vec![]), (Outcome::Incomplete, 9, vec!["history"]));
    let altered = (Outcome::Altered, 4, vec!["history"]);
    for (what, sizes) in [("a size missing", &[3, 7][..]), ("a size too many", &[3, 4, 5, 7]), ("another newest", &[3, 5, 6])] {
        assert_eq!(of(vec![world.history(sizes)]), altered, "{what}");
    }
    for at in 0..good.older.len() {
        let mut other = good.clone();
        other.older[at].1[0].0[7] ^= 1;
        assert_eq!(of(vec![other]), altered);
        let mut shorter = good.clone();
        shorter.older[at].1.pop();
        assert_eq!(of(vec![shorter]), altered);
        let mut swapped = good.clone();
        swapped.older[at].1 = good.older[1 - at].1.clone();
        assert_eq!(of(vec![swapped]), altered);
    }
    assert_eq!(of(vec![good.clone(), good.clone()]), altered);
    let elsewhere = History { origin: world.origin.renewed().to_string(), ..good.clone() };
    assert_eq!(of(vec![good.clone(), elsewhere.clone()]), altered);
    assert_eq!(of(vec![elsewhere]).0, Outcome::Altered);
    // Of one size there is nothing to link.
    let one = Bundle { histories: vec![world.history(&[3, 7])], ..world.bundle_of(vec![package(1, 7)]) };
    assert_eq!(checked(&one, &world.trust()).outcome, Outcome::Altered);
    // Out of form: older sizes not ascending, not below, none.
    for older in [vec![(5, vec![]), (3, vec![])], vec![(7, vec![])], vec![(3, vec![]), (3, vec![])], vec![]] {
        let bundle = Bundle { histories: vec![History { older, ..good.clone() }], ..world.bundle_of(packages.clone()) };
        assert!(Bundle::read(&bundle.to_bytes()).is_err());
    }
    // Version 1 could not say so, and is not asked.
    let first = Bundle { first_version: true, ..world.bundle_of(packages) };
    let report = checked(&first, &world.trust());
    assert_eq!(report.outcome, Outcome::Verified);
    assert!(found(&report, "history")[0].contains("version 1"));
}

/// A feed whose later head does not follow: the proof cannot be made, and one for another history does not hold.
#[test]
fn a_rewritten_history_does_not_link() {
    let (old, mut new) = (feed_of(4), World::new());
    for lot in ["L1", "other", "L3", "L4", "L5", "L6"] {
        new.publish(&of(lot));
    }
    assert_eq!(old.leaves[..2], new.leaves[..2]);
    let packages = vec![
        Package::new(old.view(1, |_| true), old.proof(1, 4).to_text()),
        Package::new(new.view(6, |_| true), new.proof(6, 7).to_text()),
    ];
    let bundle = Bundle { histories: vec![new.history(&[4, 7])], ..new.bundle_of(packages.clone()) };
    assert_eq!(outcome(&checked(&bundle, &new.trust())), (Outcome::Altered, 4));
    assert_eq!(outcome(&checked(&new.bundle_of(packages), &new.trust())), (Outcome::Incomplete, 9));
    // Two roots of one size are two truths, whichever of them the history links.
    let third = Package::new(new.view(1, |_| true), new.proof(1, 4).to_text());
    let forked = Bundle { packages: vec![bundle.packages[0].clone(), third, bundle.packages[1].clone()], ..bundle };
    assert_eq!(outcome(&checked(&forked, &new.trust())), (Outcome::Forked, 10));
}

// ---- inclusion receipts ----

fn included<'a>(world: &'a World, seq: u64) -> Included<'a> {
    Included { origin: &world.origin, seq, leaf: world.leaves[seq as usize] }
}

/// A receipt with header and proof changed, signed again by this key over this root.
fn resigned(receipt: &[u8], root: &Hash, key: &Signer, change: impl FnOnce(&mut Value, &mut Value)) -> Vec<u8> {
    let Value::Tag(18, parts) = codec::decode(receipt).unwrap() else { panic!("tagged") };
    let parts = codec::as_array(&parts).unwrap().to_vec();
    let mut header = codec::decode(codec::as_bytes(&parts[0]).unwrap()).unwrap();
    let vdp = &codec::as_map(&parts[1]).unwrap()[&codec::int(396)];
    let list = codec::as_array(&codec::as_map(vdp).unwrap()[&codec::int(-1)]).unwrap();
    let mut proof = codec::decode(codec::as_bytes(&list[0]).unwrap()).unwrap();
    change(&mut header, &mut proof);
    let header = codec::encode(&header);
    let signature = key.sign(&cose::sig_structure(&header, &root.0));
    let proof = codec::array([codec::bytes(codec::encode(&proof))]);
    let unprotected = codec::map([(396, codec::map([(-1, proof)]))]);
    let parts = codec::array([codec::bytes(header), unprotected, Value::Null, codec::bytes(signature.to_vec())]);
    codec::encode(&codec::tag(18, parts))
}

fn set_at(list: &mut Value, at: usize, value: Value) {
    let Value::Array(items) = list else { panic!("an array") };
    items[at] = value;
}

#[test]
fn an_inclusion_receipt_is_for_one_statement_at_one_place() {
    let world = feed_of(5);
    let (root, bytes) = (world.tree().root(5), world.inclusion_receipt(4, 5));
    let verify = |bytes: &[u8]| receipt::verify(bytes, included(&world, 4), &world.org);
    assert_eq!(verify(&bytes), Ok((5, root)));
    let again = |change: &dyn Fn(&mut Value, &mut Value)| verify(&resigned(&bytes, &root, &world.log, change));
    assert_eq!(again(&|_, _| ()), Ok((5, root)));
    // The same hashes as (2, 1), (3, 2), (9, 8): in the proof alone, and signed so by the log itself.
    for (size, index) in [(2, 1), (3, 2), (9, 8)] {
        let proof = |proof: &mut Value| {
            set_at(proof, 0, codec::uint(size));
            set_at(proof, 1, codec::uint(index));
        };
        assert_eq!(again(&|_, value| proof(value)), Err(ReceiptError::Elsewhere("size than it signs")));
        let both = again(&|header, value| {
            set(header, -65811, codec::uint(size));
            proof(value);
        });
        assert_eq!(both, Err(ReceiptError::Elsewhere("place")));
        let signed = again(&|header, value| {
            set(header, -65811, codec::uint(size));
            set_at(value, 0, codec::uint(size));
        });
        // The right place under another size: another root, or none.
        assert!(matches!(signed, Err(ReceiptError::Proof(_) | ReceiptError::Signature)), "{signed:?}");
    }
    // Another leaf, place, feed, log key, organisation.
    let other = |of: Included<'_>| receipt::verify(&bytes, of, &world.org).unwrap_err();
    assert_eq!(other(Included { leaf: world.leaves[3], ..included(&world, 4) }), ReceiptError::Signature);
    assert_eq!(other(included(&world, 3)), ReceiptError::Elsewhere("place"));
    let renewed = world.origin.renewed();
    assert_eq!(other(Included { origin: &renewed, ..included(&world, 4) }), ReceiptError::Elsewhere("feed"));
    assert_eq!(verify(&resigned(&bytes, &root, &world.record, |_, _| ())), Err(ReceiptError::Signature));
    let by_record = resigned(&bytes, &root, &world.record, |header, _| set(header, 4, codec::bytes(world.record.kid().0)));
    assert_eq!(verify(&by_record), Err(ReceiptError::Elsewhere("log key")));
    let stranger = World::founded(0x61, "Stranger");
    assert!(receipt::verify(&bytes, included(&world, 4), &stranger.org).is_err());
    let issuer = again(&|header, _| set_cwt(header, 1, codec::text(stranger.party.to_string())));
    assert_eq!(issuer, Err(ReceiptError::Elsewhere("issuer")));
    let feed = again(&|header, _| set_cwt(header, 2, codec::text(renewed.to_string())));
    assert_eq!(feed, Err(ReceiptError::Elsewhere("feed")));
    // Another algorithm, another tree, more headers, no time, two proofs, none, a path too long or short.
    for (key, value) in [(1, codec::int(-8)), (395, codec::int(2)), (3, codec::text("x")), (4, codec::bytes([0; 31]))] {
        assert!(matches!(again(&|header, _| set(header, key, value.clone())), Err(ReceiptError::Form(_))), "{key}");
    }
    assert!(matches!(again(&|header, _| set_cwt(header, 3, codec::text("x"))), Err(ReceiptError::Form(_))));
    assert!(matches!(again(&|header, _| set_cwt(header, 6, Value::Null)), Err(ReceiptError::Form(_))));
    for path in [codec::array([]), codec::array([codec::bytes([0; 31])]), codec::array(vec![codec::bytes([0; 32]); 64])] {
        assert!(matches!(again(&|_, proof| set_at(proof, 2, path.clone())), Err(ReceiptError::Form(_))));
    }
    assert!(matches!(again(&|_, proof| set_at(proof, 2, codec::array(vec![codec::bytes([0; 32]); 3]))), Err(ReceiptError::Proof(_))));
    assert!(verify(&[&bytes[..], &[0]].concat()).is_err());
    assert!(verify(&vec![0; 5000]).is_err());
    // A tree of one leaf has no path, and no receipt.
    let tree = world.tree();
    assert_eq!(receipt::issue(&world.log, &world.checkpoint(1), 0, &tree.inclusion(0, 1).unwrap(), NOW), None);
}

fn set_cwt(header: &mut Value, key: i64, value: Value) {
    let Value::Map(entries) = header else { panic!("a map") };
    set(entries.get_mut(&codec::int(15)).unwrap(), key, value);
}

#[test]
fn a_bundle_holds_the_receipt_of_its_own_record_and_checkpoint() {
    let world = feed_of(5);
    let with = |receipt: Vec<u8>| {
        let mut package = world.package(3, |_| true);
        package.receipt = Some(receipt);
        let report = checked(&world.bundle_of(vec![package]), &world.trust());
        (report.outcome, failing(&report).first().copied())
    };
    assert_eq!(with(world.inclusion_receipt(3, 5)), (Outcome::Verified, None));
    // Of an earlier tree, of another record, of a twin feed, signed over a root of another history.
    let altered = (Outcome::Altered, Some("receipt"));
    assert_eq!(with(world.inclusion_receipt(3, 4)), altered);
    assert_eq!(with(world.inclusion_receipt(2, 5)), altered);
    let mut twin = World::new();
    twin.origin = Origin::new(twin.party, "twin", 1).unwrap();
    twin.leaves = world.leaves.clone();
    assert_eq!(with(twin.inclusion_receipt(3, 5)), altered);
    let mut forked = feed_of(5);
    forked.leaves[4] = Hash([9; 32]);
    assert_eq!(with(forked.inclusion_receipt(3, 5)), altered);
    // The Transparent Statement keeps every signed byte.
    let (core, receipt) = (&world.sealed(3).core, world.inclusion_receipt(3, 5));
    let transparent = receipt::transparent_statement(core, &[&receipt]).unwrap();
    let Value::Tag(18, parts) = codec::decode(&transparent).unwrap() else { panic!("tagged") };
    let (parts, sign1) = (codec::as_array(&parts).unwrap(), Sign1::read(core).unwrap());
    assert_eq!(parts[0], codec::bytes(sign1.protected.clone()));
    assert_eq!(parts[1], codec::map([(394, codec::array([codec::bytes(receipt)]))]));
    assert_eq!((&parts[2], &parts[3]), (&codec::bytes(sign1.payload.clone()), &codec::bytes(sign1.signature.to_vec())));
    assert!(Unverified::read(&transparent).is_err());
}

// ---- delivery receipts ----

fn received(world: &World, customer: &World, receipts: Vec<Vec<u8>>) -> Report {
    let packages = vec![world.package(1, |_| true), world.package(3, |_| true)];
    let orgs = vec![world.org_part(), customer.org_part()];
    checked(&Bundle { orgs, deliveries: receipts, ..world.bundle_of(packages) }, &world.trust())
}

#[test]
fn a_delivery_receipt_says_who_got_what() {
    let (world, mut customer) = (feed_of(5), World::founded(0x31, "OEM One AG"));
    let delivery = world.delivery(1, 3, 5);
    let core = customer.receive(&delivery, 7);
    let opened = Receipt::open(&core, &customer.org).unwrap();
    assert_eq!((opened.receiver, opened.number, &opened.delivery), (customer.party, 7, &delivery));
    assert_eq!(Receipt::claimed_by(&core), Some(customer.party));
    let report = received(&world, &customer, vec![core.clone()]);
    assert_eq!(report.outcome, Outcome::Verified, "{}", report.sentence());
    assert_eq!((report.records[0].deliveries.len(), report.records[1].deliveries.len()), (1, 0));
    assert!(found(&report, "delivery")[0].starts_with("OEM One AG signed that it received entries 1 to 2 of "));
    // The receiver need not be trusted: whose records they are is another question.
    assert!(report.signer_established());
    // Another receiver's, or one whose org feed is not here.
    assert_eq!(Receipt::open(&core, &world.org), Err(DeliveryError::Elsewhere));
    let mut stranger = World::founded(0x61, "Stranger");
    let foreign = stranger.receive(&delivery, 0);
    assert_eq!(received(&world, &customer, vec![core.clone(), foreign]).outcome, Outcome::Altered);
    // Nobody's org feed stands there for nothing.
    assert_eq!(received(&world, &customer, vec![]).outcome, Outcome::Altered);
    // Another key of the receiver, another pseudo feed, another type.
    let log = customer.log.clone();
    let wrong = delivery.seal(customer.party, 0, &log, |noise| noise.fill(1)).unwrap();
    assert_eq!(Receipt::open(&wrong, &customer.org), Err(DeliveryError::Key(log.kid().short())));
    let place = |name: &str| Place { origin: Origin::new(customer.party, name, 1).unwrap(), seq: 0, now: NOW, supersedes: None };
    for (typ, name) in [(Type::Voucher, "receipts"), (Type::Receipt, "vouchers"), (Type::Receipt, "quality")] {
        let sealed = statement::seal_entry(typ, codec::map([]), &place(name), &customer.record, |noise| noise.fill(1)).unwrap();
        assert_eq!(Receipt::open(&sealed.core, &customer.org), Err(DeliveryError::Elsewhere));
    }
    let mut altered = core.clone();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    assert!(matches!(Receipt::open(&altered, &customer.org), Err(DeliveryError::Statement(_))));
    assert!(matches!(Receipt::open(&vec![0; 5000], &customer.org), Err(DeliveryError::TooLarge(5000))));
}

#[test]
fn a_delivery_receipt_is_about_a_record_that_is_here() {
    let (world, mut customer) = (feed_of(5), World::founded(0x31, "OEM One AG"));
    let about = |customer: &mut World, delivery: Delivery| {
        let core = customer.receive(&delivery, 0);
        let report = received(&world, customer, vec![core]);
        (report.outcome, failing(&report).first().copied())
    };
    let good = world.delivery(3, 5, 5);
    assert_eq!(about(&mut customer, good.clone()), (Outcome::Verified, None));
    // A range that holds none of them, another feed.
    let altered = (Outcome::Altered, Some("delivery"));
    assert_eq!(about(&mut customer, world.delivery(2, 3, 5)), altered);
    assert_eq!(about(&mut customer, world.delivery(4, 5, 5)), altered);
    assert_eq!(about(&mut customer, Delivery { origin: world.origin.renewed().to_string(), ..good.clone() }), altered);
    // No range at all, or beyond its own checkpoint.
    for (from, to, size) in [(3, 3, 5), (3, 2, 5), (3, 6, 5)] {
        assert_eq!(about(&mut customer, Delivery { from, to, size, ..good.clone() }), altered);
    }
    // Another root for a size that is here: two truths. For a size that is not here nobody can say.
    let shown_another = Delivery { root: Hash([7; 32]), ..good.clone() };
    assert_eq!(about(&mut customer, shown_another.clone()), (Outcome::Incomplete, Some("delivery")));
    assert_eq!(about(&mut customer, Delivery { size: 9, ..shown_another }), (Outcome::Verified, None));
    // Its form: every part there, of its kind, nothing else.
    let seal = |entry: Value| {
        let place = Place { origin: Origin::new(customer.party, "receipts", 1).unwrap(), seq: 0, now: NOW, supersedes: None };
        statement::seal_entry(Type::Receipt, entry, &place, &customer.record, |noise| noise.fill(1)).unwrap().core
    };
    let entry = {
        let core = good.seal(customer.party, 0, &customer.record, |noise| noise.fill(1)).unwrap();
        match Unverified::read(&core).unwrap().claims().body.clone() {
            statement::Body::Entry(entry) => entry,
            statement::Body::Slots(..) => panic!("an entry"),
        }
    };
    assert!(Receipt::open(&seal(entry.clone()), &customer.org).is_ok());
    for key in 1..=10 {
        let mut without = entry.clone();
        common::remove(&mut without, key);
        assert!(Receipt::open(&seal(without), &customer.org).is_err(), "without {key}");
        let mut other = entry.clone();
        set(&mut other, key, codec::array([]));
        assert!(Receipt::open(&seal(other), &customer.org).is_err(), "{key} of another kind");
    }
    for (key, value) in [(11, Value::Null), (10, codec::text("post")), (5, codec::bytes([0; 31])), (7, codec::int(-1))] {
        let mut other = entry.clone();
        set(&mut other, key, value);
        assert!(Receipt::open(&seal(other), &customer.org).is_err(), "{key}");
    }
}

// ---- vouchers ----

#[test]
fn a_voucher_of_somebody_trusted_establishes_the_signer() {
    let (world, mut customer) = (feed_of(3), World::founded(0x31, "OEM One AG"));
    let voucher = voucher_for(&world);
    let core = customer.vouch(&voucher, 0);
    assert_eq!(Voucher::open(&core, &customer.org), Ok(voucher.clone()));
    assert_eq!(Voucher::open(&core, &world.org), Err(VoucherError::Elsewhere));
    let with = |vouchers: Vec<Vec<u8>>, trust: &Trust| {
        let orgs = vec![world.org_part(), customer.org_part()];
        checked(&Bundle { orgs, vouchers, ..world.bundle() }, trust)
    };
    let report = with(vec![core.clone()], &customer.trust());
    assert_eq!(outcome(&report), (Outcome::Verified, 0), "{}", report.sentence());
    assert_eq!(report.issuers[0].trusted.as_ref().unwrap().name, "Muster Metallbau GmbH");
    // Of somebody nobody named: a note.
    let report = with(vec![core.clone()], &Trust::none());
    assert_eq!(outcome(&report), (Outcome::SignerNotEstablished, 7));
    assert!(found(&report, "voucher")[0].starts_with("somebody you did not name (OEM One AG"));
    // For somebody else, altered, by another key, by somebody whose org feed is not here.
    let elsewhere = Voucher { party: customer.party, ..voucher.clone() };
    let place = |seq| Place { origin: Origin::new(customer.party, "vouchers", 1).unwrap(), seq, now: NOW, supersedes: None };
    let sealed = |voucher: &Voucher, key: &Signer| voucher.seal(customer.party, 1, key, |noise| noise.fill(1)).unwrap();
    let mut altered = core.clone();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    let stranger = World::founded(0x61, "Stranger");
    let foreign = voucher.seal(stranger.party, 0, &stranger.record, |noise| noise.fill(1)).unwrap();
    for wrong in [sealed(&elsewhere, &customer.record), sealed(&voucher, &customer.log), altered, foreign] {
        assert_eq!(outcome(&with(vec![core.clone(), wrong], &customer.trust())), (Outcome::Altered, 4));
    }
    // Out of form.
    for wrong in [
        Voucher { name: String::new(), ..voucher.clone() },
        Voucher { name: "a\u{1b}[31mb".into(), ..voucher.clone() },
        Voucher { how: "x".repeat(1001), ..voucher.clone() },
        Voucher { day: DAY + 1, ..voucher.clone() },
        Voucher { ids: [("a\nb".to_owned(), "c".to_owned())].into(), ..voucher.clone() },
    ] {
        assert!(Voucher::open(&sealed(&wrong, &customer.record), &customer.org).is_err(), "{wrong:?}");
    }
    for (typ, name) in [(Type::Receipt, "vouchers"), (Type::Voucher, "receipts")] {
        let place = Place { origin: Origin::new(customer.party, name, 1).unwrap(), ..place(0) };
        let sealed = statement::seal_entry(typ, codec::map([]), &place, &customer.record, |noise| noise.fill(1)).unwrap();
        assert_eq!(Voucher::open(&sealed.core, &customer.org), Err(VoucherError::Elsewhere));
    }
    // Trust goes one step: of somebody vouched for, a voucher says nothing.
    let (mut third, mut second) = (World::founded(0x71, "Third"), World::founded(0x61, "Second"));
    third.publish(&of("L"));
    let chain = vec![customer.vouch(&voucher_for(&second), 1), second.vouch(&voucher_for(&third), 0)];
    second.publish(&of("S"));
    let packages = vec![third.package(1, |_| true), second.package(1, |_| true)];
    let orgs = vec![third.org_part(), second.org_part(), customer.org_part()];
    let report = checked(&Bundle { orgs, packages, vouchers: chain, ..Bundle::default() }, &customer.trust());
    assert_eq!(report.outcome, Outcome::SignerNotEstablished);
    assert!(report.issuers[0].trusted.is_none() && report.issuers[1].trusted.is_some());
}

// ---- rotation ----

fn alone(world: &World, seq: u64) -> Report {
    checked(&world.bundle_of(vec![world.package(seq, |_| true)]), &world.trust())
}

/// Signs a record at the next place, with any key and claimed day.
fn publish_by(world: &mut World, key: &Signer, now: u64, lot: &str) -> u64 {
    let place = Place { origin: world.origin.clone(), seq: world.leaves.len() as u64, now, supersedes: None };
    let sealed = statement::seal_record(&of(lot), &place, key, |noise| world.filler.fill(noise)).unwrap();
    world.push(sealed)
}

#[test]
fn a_rotated_record_key_signs_what_came_before_and_no_more() {
    let mut world = feed_of(3);
    let places = world.places(world.org.size(), 3);
    let old = world.rotate(Role::Record, signer(0x25), places);
    let new = world.record.clone();
    publish_by(&mut world, &new, NOW, "new");
    // The old key again, whatever day it claims: yesterday, or when it was good.
    for (at, now) in [NOW, NOW - 365 * DAY, 0].into_iter().enumerate() {
        publish_by(&mut world, &old, now, &format!("stolen {at}"));
    }
    let strange = signer(0x77);
    publish_by(&mut world, &strange, NOW, "strange");
    for (seq, expected) in [(1, 0), (2, 0), (3, 0), (4, 8), (5, 8), (6, 8), (7, 4)] {
        assert_eq!(alone(&world, seq).outcome.exit_code(), expected, "record {seq}");
    }
    let report = alone(&world, 4);
    assert!(report.intact() && report.sentence().contains("NOT VOUCHED FOR"), "{}", report.sentence());
    assert!(report.records[0].view.revoked().unwrap().ends_with("revoked from entry 3 on: yearly"));
    // The new key does not reach back.
    let mut early = feed_of(1);
    publish_by(&mut early, &new, NOW, "early");
    publish_by(&mut early, &old, NOW, "good");
    early.org = world.org.clone();
    assert_eq!(alone(&early, 1).outcome, Outcome::Altered);
    assert_eq!(alone(&early, 2).outcome, Outcome::Verified);
    assert_eq!(world.org.key(Role::Record), Some(&new.public()));
    // Receipts and vouchers: an origin that the rotation did not name has the new key alone.
    let delivery = early.delivery(1, 2, 3);
    let by = |key: &Signer| delivery.seal(world.party, 0, key, |noise| noise.fill(1)).unwrap();
    assert!(matches!(Receipt::open(&by(&old), &world.org), Err(DeliveryError::Key(_))));
    assert!(Receipt::open(&by(&new), &world.org).is_ok());
    let voucher = voucher_for(&early).seal(world.party, 0, &old, |noise| noise.fill(1)).unwrap();
    assert!(matches!(Voucher::open(&voucher, &world.org), Err(VoucherError::Key(_))));
}

#[test]
fn pseudo_feeds_are_named_where_they_were_used() {
    let mut world = feed_of(2);
    let mut places = world.places(world.org.size(), 2);
    places.insert(Origin::new(world.party, "receipts", 1).unwrap().to_string(), 2);
    let old = world.rotate(Role::Record, signer(0x25), places);
    let delivery = world.delivery(1, 2, 2);
    let by = |key: &Signer, number| Receipt::open(&delivery.seal(world.party, number, key, |noise| noise.fill(1)).unwrap(), &world.org);
    assert!(by(&old, 0).is_ok() && by(&old, 1).is_ok() && by(&world.record, 2).is_ok());
    assert!(by(&old, 2).is_err() && by(&world.record, 1).is_err());
}

#[test]
fn a_rotated_log_key_signs_sizes_before_and_both_at_the_boundary() {
    let mut world = feed_of(6);
    let places = world.places(world.org.size(), 4);
    let old = world.rotate(Role::Log, signer(0x26), places);
    let new = world.log.clone();
    let by = |key: &Signer, size| {
        let note = world.checkpoint(size).sign(key);
        let proof = InclusionProof { checkpoint: note, ..world.proof(1, size) }.to_text();
        let package = Package::new(world.view(1, |_| true), proof);
        checked(&world.bundle_of(vec![package]), &world.trust()).outcome
    };
    for (size, old_holds, new_holds) in [(2, true, false), (3, true, false), (4, true, true), (5, false, true), (6, false, true)] {
        let expected = |holds| if holds { Outcome::Verified } else { Outcome::Altered };
        assert_eq!((by(&old, size), by(&new, size)), (expected(old_holds), expected(new_holds)), "size {size}");
        let owner = |key: &Signer| receipt::issue(key, &world.checkpoint(size), 1, &world.tree().inclusion(1, size).unwrap(), NOW);
        for (key, holds) in [(&old, old_holds), (&new, new_holds)] {
            assert_eq!(receipt::verify(&owner(key).unwrap(), included(&world, 1), &world.org).is_ok(), holds, "receipt of {size}");
        }
    }
    // The org feed's own checkpoint is past the boundary.
    assert!(world.org.check(&world.org_checkpoint()).is_ok());
    world.log = old;
    assert!(world.org.check(&world.org_checkpoint()).is_err());
}

#[test]
fn a_rotation_names_every_place_and_a_key_nobody_had() {
    let mut world = feed_of(3);
    let second = Origin::new(world.party, "second", 1).unwrap();
    world.state(&Entry::Feed { origin: second.clone(), follows: None });
    let size = world.org.size();
    let places = |feeds: &[(&Origin, u64)]| feeds.iter().map(|(origin, from)| (origin.to_string(), *from)).collect::<Places>();
    let (org, first) = (Origin::org(world.party), world.origin.clone());
    let whole = places(&[(&org, size), (&first, 3), (&second, 0)]);
    let rotation = |role, key: &Signer, from: &Places| Entry::Rotation { role, key: key.public(), from: from.clone(), reason: "x".into() };
    let fresh = signer(0x25);
    let stranger = World::founded(0x61, "B").origin;
    let unopened = first.renewed();
    for (what, from) in [
        ("a feed is missing", places(&[(&org, size), (&first, 3)])),
        ("the org feed is missing", places(&[(&first, 3), (&second, 0)])),
        ("a feed that is not open", places(&[(&org, size), (&first, 3), (&second, 0), (&unopened, 0)])),
        ("somebody else's", places(&[(&org, size), (&first, 3), (&second, 0), (&stranger, 0)])),
        ("beyond the org feed's end", places(&[(&org, size + 1), (&first, 3), (&second, 0)])),
        ("nothing", Places::new()),
    ] {
        for role in [Role::Record, Role::Log] {
            assert!(matches!(world.state_as_root(&rotation(role, &fresh, &from)), Err(OrgError::Rule(..))), "{what}");
        }
    }
    // Keys that have a place: any role, the root, and the key it replaces.
    let taken = [world.root.clone(), world.record.clone(), world.log.clone(), world.witness.clone(), world.transport.clone()];
    for key in &taken {
        for role in Role::ALL {
            let from = if matches!(role, Role::Record | Role::Log) { whole.clone() } else { Places::new() };
            assert!(matches!(world.state_as_root(&rotation(role, key, &from)), Err(OrgError::Rule(..))), "{role}");
        }
    }
    // Only the root rotates.
    for key in &taken[1..] {
        assert!(world.state_by(&rotation(Role::Record, &fresh, &whole), key).is_err());
    }
    // Witness and transport sign in no feed.
    assert!(world.state_as_root(&rotation(Role::Witness, &fresh, &whole)).is_err());
    world.rotate(Role::Witness, fresh.clone(), Places::new());
    assert_eq!(world.org.key(Role::Witness), Some(&fresh.public()));
    // It never comes back, nor in another role.
    assert!(world.state_as_root(&rotation(Role::Witness, &taken[3], &Places::new())).is_err());
    assert!(world.state_as_root(&rotation(Role::Transport, &taken[3], &Places::new())).is_err());
    let mut whole = whole;
    whole.insert(org.to_string(), world.org.size());
    let old = world.rotate(Role::Record, signer(0x26), whole.clone());
    whole.insert(org.to_string(), world.org.size());
    assert!(world.state_as_root(&rotation(Role::Record, &old, &whole)).is_err());
    // A feed opened since then has to be named from now on.
    let third = Origin::new(world.party, "third", 1).unwrap();
    world.state(&Entry::Feed { origin: third.clone(), follows: None });
    whole.insert(org.to_string(), world.org.size());
    assert!(world.state_as_root(&rotation(Role::Record, &signer(0x27), &whole)).is_err());
    whole.insert(third.to_string(), 0);
    assert!(world.state_as_root(&rotation(Role::Record, &signer(0x27), &whole)).is_ok());
}

#[test]
fn a_revocation_in_the_past_voids_what_the_thief_stated() {
    let mut world = feed_of(4);
    let before = world.org.size();
    world.withdraw(1, "honest");
    let theft = world.org.size();
    // The thief opens a feed and withdraws a good record.
    let fake = Origin::new(world.party, "fake", 1).unwrap();
    world.state(&Entry::Feed { origin: fake.clone(), follows: None });
    world.withdraw(2, "by the thief");
    assert!(world.org.has_feed(fake.as_str()) && world.org.withdrawn(&world.leaves[2]).is_some());
    let mut places = world.places(theft, 3);
    places.insert(fake.to_string(), 0);
    let stolen = world.rotate(Role::Record, signer(0x25), places);
    assert!(!world.org.has_feed(fake.as_str()));
    assert_eq!((world.org.withdrawn(&world.leaves[1]), world.org.withdrawn(&world.leaves[2])), (Some("honest"), None));
    assert_eq!((world.org.size(), world.org.feeds().count()), (theft + 3, 1));
    assert!(before < theft);
    // Record 2 stands again, record 3 is not vouched for.
    assert_eq!(alone(&world, 2).outcome, Outcome::Verified);
    assert_eq!(outcome(&alone(&world, 3)), (Outcome::Revoked, 8));
    // The old key states no more; the new one may open the voided feed for real.
    let fake_again = Entry::Feed { origin: fake.clone(), follows: None };
    assert!(world.state_by(&fake_again, &stolen).is_err());
    world.state(&fake_again);
    assert!(world.org.has_feed(fake.as_str()));
    // Read back from its entries it is the same.
    let again = Org::from_parts(world.party, world.org.entries().to_vec(), &world.org_checkpoint()).unwrap();
    assert_eq!(format!("{again:?}"), format!("{:?}", world.org));
}

/// A theft may come to light after another, ordinary rotation.
#[test]
fn a_revocation_reaches_past_a_later_rotation() {
    let mut world = feed_of(4);
    let places = world.places(world.org.size(), 4);
    let (first_record, first_log) = (world.rotate(Role::Record, signer(0x25), places.clone()), world.log.clone());
    world.publish(&of("by the second key"));
    let places = world.places(world.org.size(), 4);
    world.rotate(Role::Log, signer(0x26), places);
    assert_eq!((alone(&world, 3).outcome, alone(&world, 4).outcome), (Outcome::Verified, Outcome::Verified));
    // The first key had been stolen before record 2.
    let places = world.places(world.org.size(), 2);
    let second_record = world.rotate(Role::Record, signer(0x27), places);
    for (key, seq, good) in [(&first_record, 1, true), (&first_record, 2, false), (&first_record, 3, false), (&second_record, 4, false)] {
        let standing = world.org.record_key(&key.kid(), world.origin.as_str(), seq, 0);
        assert_eq!(matches!(standing, Some(Standing::Good(_))), good, "record {seq}");
    }
    assert_eq!((alone(&world, 1).outcome, alone(&world, 2).outcome), (Outcome::Verified, Outcome::Revoked));
    assert_eq!((alone(&world, 3).outcome, alone(&world, 4).outcome), (Outcome::Revoked, Outcome::Revoked));
    // The same for checkpoints.
    let places = world.places(world.org.size(), 2);
    world.rotate(Role::Log, signer(0x28), places);
    let keys = |size| world.org.log_keys(&world.origin, size).into_iter().copied().collect::<Vec<_>>();
    assert_eq!(keys(1), [first_log.public()]);
    assert_eq!(keys(2), [first_log.public(), world.log.public()]);
    assert_eq!(keys(3), [world.log.public()]);
    assert_eq!(keys(9), [world.log.public()]);
}

#[test]
fn what_a_revoked_key_signed_decides_nothing() {
    // It replaces no good record, and is no second truth beside one.
    let mut world = World::new();
    world.publish(&of("L"));
    let leaf = world.leaves[1];
    let places = world.places(world.org.size(), 2);
    let old = world.rotate(Role::Record, signer(0x25), places);
    let new = std::mem::replace(&mut world.record, old);
    world.publish_over(&of("L"), Some(leaf));
    world.publish(&of("L"));
    world.record = new;
    let report = checked(&world.bundle(), &world.trust());
    assert_eq!(outcome(&report), (Outcome::Revoked, 8), "{}", report.sentence());
    assert_eq!(report.records[0].superseded_by, None);
    assert!(report.records[0].is_live() && !report.records[1].is_live());
}

// ---- two live records, and what lies between them ----

#[test]
fn a_chain_of_replacements_may_have_gaps() {
    let mut world = World::new();
    let mut leaf = None;
    for _ in 0..3 {
        world.publish_over(&of("L"), leaf);
        leaf = world.leaves.last().copied();
    }
    let of_some = |seqs: &[u64]| {
        let packages = seqs.iter().map(|seq| world.package(*seq, |_| true)).collect();
        outcome(&checked(&world.bundle_of(packages), &world.trust()))
    };
    assert_eq!(of_some(&[1, 2, 3]), (Outcome::Verified, 0));
    assert_eq!(of_some(&[3, 2]), (Outcome::Verified, 0));
    // Record 2 is not here: nobody can say whether 3 replaces 1.
    assert_eq!(of_some(&[1, 3]), (Outcome::Incomplete, 9));
    // A fourth that replaces nothing is a second truth beside any of them.
    world.publish(&of("L"));
    let of_some = |seqs: &[u64]| {
        let packages = seqs.iter().map(|seq| world.package(*seq, |_| true)).collect();
        outcome(&checked(&world.bundle_of(packages), &world.trust()))
    };
    for seqs in [&[1, 2, 3, 4][..], &[1, 4], &[4, 3], &[1, 3, 4]] {
        assert_eq!(of_some(seqs), (Outcome::Forked, 10), "{seqs:?}");
    }
}

// ---- successor and root ----

#[test]
fn the_named_successor_takes_over_and_nobody_else() {
    let mut world = feed_of(2);
    let (old, new, other) = (world.root.clone(), signer(0x24), signer(0x29));
    let root = |key: &Signer| Entry::Root { key: key.public() };
    let successor = |key: &Signer| Entry::Successor { thumbprint: key.kid() };
    // None was named.
    assert!(world.state_by(&root(&new), &new).is_err());
    assert!(world.state_by(&root(&new), &old).is_err());
    // Named by others than the root.
    for key in [&world.record.clone(), &new, &world.log.clone()] {
        assert!(world.state_by(&successor(&new), key).is_err());
    }
    world.state_by(&successor(&new), &old).unwrap();
    assert_eq!(world.org.successor(), Some(&thumbprint(&new.public())));
    assert!(world.state_by(&successor(&other), &old).is_err(), "one is pending");
    // Signed by the old root, by another, for another.
    assert!(world.state_by(&root(&new), &old).is_err());
    assert!(world.state_by(&root(&new), &other).is_err());
    assert!(world.state_by(&root(&other), &other).is_err());
    assert!(world.state_by(&root(&other), &new).is_err());
    let at = world.org.size();
    world.state_by(&root(&new), &new).unwrap();
    assert_eq!((world.org.root(), world.org.successor()), (&new.public(), None));
    assert_eq!(world.org.root_at(at - 1), old.public());
    assert_eq!((world.org.root_at(at), world.org.root_at(u64::MAX)), (new.public(), new.public()));
    // The name stays, the old root is out, and can be nothing else any more.
    assert_eq!(world.org.party(), world.party);
    let signs = Entry::Signer { name: "N".into(), function: "F".into(), key: signer(0x30).public() };
    assert!(world.state_by(&signs, &old).is_err());
    assert!(world.state_by(&signs, &new).is_ok());
    for key in [&old, &new] {
        let places = world.places(world.org.size(), 2);
        let rotation = Entry::Rotation { role: Role::Record, key: key.public(), from: places, reason: String::new() };
        assert!(world.state_by(&rotation, &new).is_err());
    }
    // Nor does it come back; a key in use is no successor either.
    world.state_by(&successor(&old), &new).unwrap();
    assert!(world.state_by(&root(&old), &old).is_err());
    assert_eq!(alone(&world, 1).outcome, Outcome::Verified);
    let mut taken = feed_of(2);
    let record = taken.record.clone();
    taken.state_as_root(&successor(&record)).unwrap();
    assert!(taken.state_by(&root(&record), &record).is_err());
}

// ---- delegation ----

#[test]
fn a_delegated_feed_has_its_own_keys_and_its_last_day() {
    let mut world = feed_of(2);
    let (record, log) = (signer(0x22), signer(0x23));
    let origin = Origin::new(world.party, "site-b", 1).unwrap();
    let until = NOW / DAY * DAY;
    let delegation = |origin: &Origin, record: &Signer, log: &Signer, until| Entry::Delegation {
        name: "Site B".into(),
        origin: origin.clone(),
        record: record.public(),
        log: log.public(),
        until,
    };
    for (what, entry) in [
        ("one key", delegation(&origin, &record, &record, until)),
        ("a key in use", delegation(&origin, &world.record, &log, until)),
        ("a key in use", delegation(&origin, &record, &world.log, until)),
        ("an open feed", delegation(&world.origin, &record, &log, until)),
        ("another party's", delegation(&World::founded(0x61, "B").origin, &record, &log, until)),
        ("a pseudo feed", delegation(&Origin::new(world.party, "receipts", 1).unwrap(), &record, &log, until)),
        ("no day", delegation(&origin, &record, &log, until + 1)),
    ] {
        assert!(world.state_as_root(&entry).is_err(), "{what}");
    }
    assert!(world.state_by(&delegation(&origin, &record, &log, until), &world.record.clone()).is_err());
    world.state_as_root(&delegation(&origin, &record, &log, until)).unwrap();
    // Nobody opens it again, and its keys are taken.
    assert!(world.state_by(&Entry::Feed { origin: origin.clone(), follows: None }, &world.record.clone()).is_err());
    assert!(world.state_as_root(&delegation(&origin.renewed(), &record, &signer(0x2a), until)).is_err());
    // The other holder's world: same party, another feed.
    let mut site = feed_of(1);
    (site.origin, site.record, site.log) = (origin.clone(), record.clone(), log.clone());
    let first = publish_by(&mut site, &record, NOW, "on the last day");
    publish_by(&mut site, &record, NOW + DAY, "a day late");
    let own = world.record.clone();
    publish_by(&mut site, &own, NOW, "by the party's own key");
    publish_by(&mut site, &record, NOW, "after the end");
    let check = |world: &World, seq| {
        let part = world.org_part();
        let bundle = Bundle { orgs: vec![part], ..site.bundle_of(vec![site.package(seq, |_| true)]) };
        checked(&bundle, &world.trust()).outcome.exit_code()
    };
    assert_eq!([1, 2, 3, 4].map(|seq| check(&world, seq)), [0, 8, 4, 0]);
    // The delegate's keys are good nowhere else.
    let mut elsewhere = feed_of(1);
    publish_by(&mut elsewhere, &record, NOW, "x");
    elsewhere.org = world.org.clone();
    assert_eq!(alone(&elsewhere, first).outcome, Outcome::Altered);
    let mut foreign_log = feed_of(2);
    foreign_log.org = world.org.clone();
    let org_part = foreign_log.org_part();
    foreign_log.log = log.clone();
    let bundle = Bundle { orgs: vec![org_part], packages: vec![foreign_log.package(1, |_| true)], ..Bundle::default() };
    assert_eq!(checked(&bundle, &world.trust()).outcome, Outcome::Altered);
    // A rotation of the party's own keys leaves it alone, and need not name it.
    let places = world.places(world.org.size(), 2);
    world.rotate(Role::Record, signer(0x25), places);
    assert_eq!(check(&world, 1), 0);
    // The end: by the root, once, and only of what is there.
    let two_heads =
        |size| [1, 2].map(|byte| Side::Checkpoint(Checkpoint { origin: origin.clone(), size, root: Hash([byte; 32]) }.sign(&log)));
    assert!(proves(&world, two_heads(4)).is_ok() && proves(&world, two_heads(5)).is_ok());
    let end = Entry::DelegationEnd { origin: origin.clone(), from: 4 };
    assert!(world.state_by(&end, &record).is_err());
    assert!(world.state_as_root(&Entry::DelegationEnd { origin: world.origin.clone(), from: 4 }).is_err());
    world.state_as_root(&end).unwrap();
    assert!(world.state_as_root(&end).is_err());
    assert_eq!([1, 2, 3, 4].map(|seq| check(&world, seq)), [0, 8, 4, 8]);
    assert_eq!(world.org.delegation(origin.as_str()).unwrap().ended, Some(4));
    // What its former holder signs beyond the end accuses nobody else.
    assert!(proves(&world, two_heads(4)).is_ok());
    assert_eq!(proves(&world, two_heads(5)), Err(ForkError::Side(1, "a head beyond the end of a delegation".into())));
}

// ---- releases ----

#[test]
fn a_named_person_releases_a_record_that_stands_there() {
    let mut world = feed_of(3);
    let (person, other) = (signer(0x21), signer(0x2b));
    let named = |key: &Signer| Entry::Signer { name: "Petra Pruefer".into(), function: "quality manager".into(), key: key.public() };
    assert!(world.state_by(&named(&person), &world.record.clone()).is_err());
    world.state_as_root(&named(&person)).unwrap();
    assert!(world.state_as_root(&named(&person)).is_err(), "once");
    let release = world.release(1, &person);
    let (record, by_nobody) = (world.record.clone(), world.release(1, &other));
    let by_record_key = world.release(1, &record);
    let push = |world: &mut World, leaf: Hash, seq: u64| {
        let place = Place { origin: world.origin.clone(), seq: world.leaves.len() as u64, now: NOW, supersedes: None };
        let sealed = Release { leaf, seq }.seal(&place, &person, |noise| noise.fill(3)).unwrap();
        world.push(sealed)
    };
    let (first, leaf) = (Hash([1; 32]), world.leaves[1]);
    let (leaf, misplaced) = (push(&mut world, first, 1), push(&mut world, leaf, 2));
    let later = world.publish(&of("later"));
    let with = |world: &World, seqs: &[u64]| {
        let packages = seqs.iter().map(|seq| world.package(*seq, |_| true)).collect();
        checked(&world.bundle_of(packages), &world.trust())
    };
    let report = with(&world, &[release, 1]);
    assert_eq!(outcome(&report), (Outcome::Verified, 0), "{}", report.sentence());
    assert_eq!((report.records.len(), report.records[0].released_by.len()), (1, 1));
    assert!(found(&report, "status").iter().any(|text| text == "Petra Pruefer (quality manager) released record 1"));
    // Nobody's key, the record key, another leaf, another place, a record that is not here, and one that came later.
    for seqs in [&[1, by_nobody][..], &[1, by_record_key], &[1, leaf], &[1, misplaced], &[2, release], &[release]] {
        assert_eq!(outcome(&with(&world, seqs)), (Outcome::Altered, 4), "{seqs:?}");
    }
    let later_leaf = world.leaves[later as usize];
    let mut early = feed_of(2);
    early.org = world.org.clone();
    let place = Place { origin: early.origin.clone(), seq: 2, now: NOW, supersedes: None };
    let sealed = Release { leaf: later_leaf, seq: 3 }.seal(&place, &person, |noise| noise.fill(3)).unwrap();
    early.push(sealed);
    assert_eq!(with(&early, &[1, 2]).outcome, Outcome::Altered);
    // A release opens nothing.
    let mut package = world.package(release, |_| true);
    package.view.disclosures = world.view(1, |_| true).disclosures;
    assert_eq!(checked(&world.bundle_of(vec![world.package(1, |_| true), package]), &world.trust()).outcome, Outcome::Altered);
    // The person stops: what came before stands.
    let end = Entry::SignerEnd { thumbprint: person.kid(), from: [(world.origin.to_string(), later + 1)].into() };
    assert!(world.state_by(&end, &record).is_err());
    assert!(world.state_as_root(&Entry::SignerEnd { thumbprint: other.kid(), from: [(world.origin.to_string(), 1)].into() }).is_err());
    assert!(world.state_as_root(&Entry::SignerEnd { thumbprint: person.kid(), from: Places::new() }).is_err());
    world.state_as_root(&end).unwrap();
    assert!(world.state_as_root(&end).is_err());
    let after = world.release(1, &person);
    assert_eq!(with(&world, &[1, release]).outcome, Outcome::Verified);
    let report = with(&world, &[1, after]);
    assert_eq!(outcome(&report), (Outcome::Revoked, 8), "{}", report.sentence());
    assert!(report.records[0].released_by.is_empty());
    assert!(world.org.signers().all(|(_, person)| !person.is_active()));
    // A person's key signs no record.
    let forged = publish_by(&mut world, &person, NOW, "by a person");
    assert_eq!(alone(&world, forged).outcome, Outcome::Altered);
}

// ---- fork proofs ----

fn proves(world: &World, sides: [Side; 2]) -> Result<String, ForkError> {
    let proof = ForkProof { org: world.org_part(), sides };
    let bytes = proof.to_bytes();
    assert_eq!(ForkProof::read(&bytes).as_ref(), Ok(&proof));
    let report = verify(&bytes, &world.trust());
    let answer = proof.check().map(|(_, text)| text);
    let expected = if answer.is_ok() { (Outcome::Forked, 10) } else { (Outcome::Altered, 4) };
    assert_eq!(outcome(&report), expected, "{}", report.sentence());
    assert_eq!(report.issuers.len(), usize::from(answer.is_ok()));
    answer
}

/// Two histories of one organisation that part at entry 2.
fn forked() -> (World, World) {
    let (mut one, mut other) = (feed_of(2), feed_of(2));
    for (world, lots) in [(&mut one, ["a", "b", "c"]), (&mut other, ["x", "b", "c"])] {
        for lot in lots {
            world.publish(&of(lot));
        }
    }
    assert_eq!(one.leaves[..2], other.leaves[..2]);
    assert_ne!(one.leaves[2], other.leaves[2]);
    (one, other)
}

fn statement_side(world: &World, seq: u64) -> Side {
    Side::Statement(world.sealed(seq).core.clone())
}

fn leaf_side(world: &World, seq: u64, size: u64) -> Side {
    Side::Leaf(world.leaves[seq as usize], world.proof(seq, size).to_text())
}

fn checkpoint_side(world: &World, size: u64) -> Side {
    Side::Checkpoint(world.checkpoint(size).sign(&world.log))
}

#[test]
fn two_truths_are_proven_to_anybody() {
    let (one, other) = forked();
    let entry = format!("it signed two different contents for entry 2 of feed {}", one.origin);
    assert_eq!(proves(&one, [statement_side(&one, 2), statement_side(&other, 2)]), Ok(entry.clone()));
    assert_eq!(proves(&one, [statement_side(&one, 2), leaf_side(&other, 2, 4)]), Ok(entry.clone()));
    assert_eq!(proves(&one, [leaf_side(&one, 2, 3), leaf_side(&other, 2, 5)]), Ok(entry));
    let history = format!("it signed two different histories of 4 entries of feed {}", one.origin);
    assert_eq!(proves(&one, [checkpoint_side(&one, 4), checkpoint_side(&other, 4)]), Ok(history));
    // The first entry of a feed, a release, an org entry.
    let mut first = World::new();
    let again = lotline_schema::org::seal_first(&first.org, &first.origin, NOW, &first.record, |noise| noise.fill(5)).unwrap();
    assert!(proves(&first, [Side::Statement(first.first.core.clone()), Side::Statement(again.core)]).is_ok());
    let entry = |lot: &str| Entry::Feed { origin: Origin::new(first.party, lot, 1).unwrap(), follows: None };
    let seal = |world: &World, entry: &Entry, key: &Signer| {
        Side::Statement(lotline_schema::org::seal(&world.org, entry, NOW, key, |noise| noise.fill(6)).unwrap().core)
    };
    let (two, three) = (seal(&first, &entry("two"), &first.record), seal(&first, &entry("three"), &first.record));
    assert!(proves(&first, [two.clone(), three]).is_ok());
    let named = Entry::Signer { name: "N".into(), function: "F".into(), key: signer(0x21).public() };
    let by_root = seal(&first, &named, &first.root);
    assert!(proves(&first, [two, by_root.clone()]).is_ok());
    first.state_as_root(&named).unwrap();
    let side = |fill: u8| {
        let place = Place { origin: first.origin.clone(), seq: 9, now: NOW, supersedes: None };
        Side::Statement(Release { leaf: Hash([1; 32]), seq: 1 }.seal(&place, &signer(0x21), |noise| noise.fill(fill)).unwrap().core)
    };
    // A person signs again when the place was taken meanwhile: two releases alone prove nothing against the firm.
    assert!(matches!(proves(&first, [side(1), side(2)]), Err(ForkError::Side(1, _))));
    // Two live statements about one inspection.
    let mut twice = World::new();
    twice.publish(&of("L"));
    twice.publish(&of("L"));
    let shown = |seq| Side::Record(twice.package(seq, |_| true));
    assert!(proves(&twice, [shown(1), shown(2)]).unwrap().contains("two live statements"));
    assert!(proves(&twice, [shown(2), shown(1)]).is_ok());
}

#[test]
fn pairs_that_agree_prove_nothing() {
    let (one, other) = forked();
    let agree = |sides: [Side; 2]| assert_eq!(proves(&one, sides), Err(ForkError::Agree));
    agree([statement_side(&one, 1), statement_side(&other, 1)]);
    agree([statement_side(&one, 1), statement_side(&one, 2)]);
    agree([statement_side(&one, 2), leaf_side(&one, 2, 5)]);
    agree([leaf_side(&one, 2, 3), leaf_side(&one, 2, 5)]);
    agree([leaf_side(&one, 1, 3), leaf_side(&other, 1, 5)]);
    agree([checkpoint_side(&one, 4), checkpoint_side(&one, 4)]);
    agree([checkpoint_side(&one, 2), checkpoint_side(&other, 2)]);
    // Heads of different sizes with no leaf to compare are suspect, and no proof.
    agree([checkpoint_side(&one, 4), checkpoint_side(&other, 5)]);
    agree([checkpoint_side(&one, 4), statement_side(&other, 2)]);
    // A side that does not hold.
    let fails = |at: usize, sides: [Side; 2]| match proves(&one, sides) {
        Err(ForkError::Side(side, _)) => assert_eq!(side, at),
        answer => panic!("{answer:?}"),
    };
    let stranger = World::founded(0x61, "Stranger");
    let mut foreign = feed_of(3);
    foreign.record = stranger.record.clone();
    foreign.publish(&of("forged"));
    fails(2, [statement_side(&one, 3), statement_side(&foreign, 3)]);
    foreign.log = stranger.log.clone();
    fails(1, [checkpoint_side(&foreign, 4), checkpoint_side(&one, 4)]);
    fails(1, [leaf_side(&foreign, 3, 4), leaf_side(&one, 3, 4)]);
    // The relabelled sizes of pitfall 17: the size is the signed one.
    let proof = one.proof(4, 5);
    for (size, index) in [(2u64, 1), (3, 2), (9, 8)] {
        let checkpoint = proof.checkpoint.replacen("\n5\n", &format!("\n{size}\n"), 1);
        let relabelled = InclusionProof { index, checkpoint, ..proof.clone() }.to_text();
        fails(2, [statement_side(&one, 1), Side::Leaf(one.leaves[4], relabelled)]);
    }
    // Statements outside of any feed are numbered, and no history.
    let (mut a, mut b) = (feed_of(2), feed_of(2));
    let delivery = a.delivery(1, 2, 2);
    let sides = [a.receive(&delivery, 0), b.receive(&Delivery { from: 0, ..delivery }, 0)].map(Side::Statement);
    fails(1, sides);
    // Another organisation's statements.
    let mut twice = World::founded(0x61, "Stranger");
    twice.publish(&of("L"));
    let core = twice.sealed(1).core.clone();
    fails(1, [Side::Statement(core.clone()), Side::Statement(core)]);
}

#[test]
fn live_statements_that_may_replace_each_other_prove_nothing() {
    let mut world = World::new();
    let mut leaf = None;
    for _ in 0..3 {
        world.publish_over(&of("L"), leaf);
        leaf = world.leaves.last().copied();
    }
    world.publish(&of("other"));
    let shown = |seq| Side::Record(world.package(seq, |_| true));
    // Directly, by way of a third, another lot, and one record twice.
    for (a, b) in [(1, 2), (2, 1), (2, 3), (1, 3), (3, 1), (1, 4), (2, 2)] {
        assert_eq!(proves(&world, [shown(a), shown(b)]), Err(ForkError::Agree), "{a}, {b}");
    }
    let mut world = World::new();
    world.publish(&of("L"));
    world.publish(&of("L"));
    // What it is about must be seen; what others say of it has no place here.
    let hidden = Side::Record(world.package(2, |at| at != slot("sample")));
    let shown = |world: &World, seq| Side::Record(world.package(seq, |_| true));
    assert!(matches!(proves(&world, [shown(&world, 1), hidden]), Err(ForkError::Side(2, _))));
    let mut package = world.package(2, |_| true);
    package.receipt = Some(world.inclusion_receipt(2, 3));
    let bytes = ForkProof { org: world.org_part(), sides: [shown(&world, 1), Side::Record(package)] }.to_bytes();
    assert!(ForkProof::read(&bytes).is_err());
    let cosigned = world.cosigned_org_checkpoint(&[(&signer(0x41), NOW)]);
    let mut proof = ForkProof { org: world.org_part(), sides: [shown(&world, 1), shown(&world, 2)] };
    assert!(proof.check().is_ok());
    proof.org.checkpoint = cosigned;
    assert!(matches!(proof.check(), Err(ForkError::Org(_))));
    // A proof for another place.
    let mut moved = world.package(2, |_| true);
    moved.proof = world.proof(1, 3).to_text();
    assert!(matches!(proves(&world, [shown(&world, 1), Side::Record(moved)]), Err(ForkError::Side(2, _))));
    // Withdrawn: no longer its word.
    world.withdraw(1, "twice");
    assert!(matches!(proves(&world, [shown(&world, 1), shown(&world, 2)]), Err(ForkError::Side(1, _))));
}

#[test]
fn a_revoked_key_proves_nothing_against_its_owner() {
    // The thief signs second truths for every place from 2 on, with the record key and with the log key.
    let (mut world, thief) = forked();
    assert!(proves(&world, [statement_side(&world, 2), statement_side(&thief, 2)]).is_ok());
    let places = world.places(world.org.size(), 2);
    let record = world.rotate(Role::Record, signer(0x25), places);
    assert!(matches!(proves(&world, [statement_side(&world, 2), statement_side(&thief, 2)]), Err(ForkError::Side(1, _))));
    let places = world.places(world.org.size(), 2);
    world.rotate(Role::Log, signer(0x26), places);
    let (own, stolen) = (checkpoint_side(&world, 4), checkpoint_side(&thief, 4));
    assert!(matches!(proves(&world, [own, stolen]), Err(ForkError::Side(2, _))));
    assert!(matches!(proves(&world, [leaf_side(&world, 2, 4), leaf_side(&thief, 2, 4)]), Err(ForkError::Side(2, _))));
    // Below the revoked place the keys were the organisation's own: that stays proven.
    let mut earlier = feed_of(1);
    earlier.publish(&of("another first"));
    assert!(proves(&world, [statement_side(&world, 1), statement_side(&earlier, 1)]).is_ok());
    // Its two live statements: revoked, not live.
    let mut twice = World::new();
    twice.publish(&of("L"));
    twice.publish(&of("L"));
    let places = twice.places(twice.org.size(), 2);
    twice.rotate(Role::Record, signer(0x25), places);
    let shown = |seq| Side::Record(twice.package(seq, |_| true));
    assert!(matches!(proves(&twice, [shown(1), shown(2)]), Err(ForkError::Side(2, _))));
    // An org entry by the stolen record key at a place where it no longer counted.
    let entry = |lot: &str| Entry::Feed { origin: Origin::new(world.party, lot, 1).unwrap(), follows: None };
    let seal = |lot: &str, key: &Signer| {
        Side::Statement(lotline_schema::org::seal(&world.org, &entry(lot), NOW, key, |noise| noise.fill(6)).unwrap().core)
    };
    assert!(matches!(proves(&world, [seal("a", &world.record), seal("b", &record)]), Err(ForkError::Side(2, _))));
    // A root that was replaced signs nothing more that counts.
    let (old, new) = (world.root.clone(), signer(0x24));
    world.state_as_root(&Entry::Successor { thumbprint: new.kid() }).unwrap();
    world.state_by(&Entry::Root { key: new.public() }, &new).unwrap();
    let named = |fill: u8, key: &Signer| {
        let entry = Entry::Signer { name: "N".into(), function: "F".into(), key: signer(0x21).public() };
        Side::Statement(lotline_schema::org::seal(&world.org, &entry, NOW, key, |noise| noise.fill(fill)).unwrap().core)
    };
    assert!(proves(&world, [named(1, &new), named(2, &new)]).is_ok());
    assert!(matches!(proves(&world, [named(1, &new), named(2, &old)]), Err(ForkError::Side(2, _))));
}

#[test]
fn a_fork_proof_is_read_strictly() {
    let (one, other) = forked();
    let proof = ForkProof { org: one.org_part(), sides: [statement_side(&one, 2), statement_side(&other, 2)] };
    let bytes = proof.to_bytes();
    let change = |change: &dyn Fn(&mut Value)| {
        let mut value = codec::decode(&bytes).unwrap();
        change(&mut value);
        let bytes = codec::encode(&value);
        (ForkProof::read(&bytes).is_ok(), verify(&bytes, &one.trust()).outcome)
    };
    assert_eq!(change(&|_| ()), (true, Outcome::Forked));
    assert_eq!(change(&|file| set(file, 1, codec::uint(2))), (false, Outcome::Unreadable));
    for (key, value) in
        [(4, Value::Null), (3, codec::array([])), (2, codec::array([])), (2, Value::Null), (3, codec::array(vec![codec::map([]); 3]))]
    {
        assert_eq!(change(&|file| set(file, key, value.clone())), (false, Outcome::Altered), "{key}");
    }
    let side = |value: Value| change(&|file| set(file, 3, codec::array([value.clone(), value.clone()])));
    let core = codec::bytes(one.sealed(2).core.clone());
    for wrong in [
        codec::map([(1, core.clone()), (7, Value::Null)]),
        codec::map([(1, core.clone()), (4, codec::text("x"))]),
        codec::map([(2, codec::bytes([0; 32]))]),
        codec::map([(2, codec::bytes([0; 31])), (3, codec::bytes([]))]),
        codec::map([(5, core)]),
        Value::Null,
    ] {
        assert_eq!(side(wrong.clone()), (false, Outcome::Altered), "{wrong:?}");
    }
    assert_eq!(verify(&bytes, &Trust::none()).outcome, Outcome::Forked);
}

// ---- the keyring's other parts ----

#[test]
fn a_keyring_may_say_more_of_its_organisation() {
    let rich = Rich::new(|_| true);
    let about = rich.world.org.about();
    assert_eq!(about.ids["BPN"], "BPNL00000000TEST");
    assert_eq!(about.attestations, [("qseal".to_owned(), b"made by others".to_vec())]);
    assert!(rich.customer.org.about().ids.is_empty());
}

#[test]
fn pseudo_feeds_hold_no_records() {
    let mut world = World::new();
    for name in lotline_schema::org::PSEUDO_FEEDS {
        let origin = Origin::new(world.party, name, 1).unwrap();
        assert!(world.state_by(&Entry::Feed { origin, follows: None }, &world.record.clone()).is_err(), "{name}");
    }
    // Members, policies, receipts and vouchers are no entries of a feed.
    for typ in [Type::Policy, Type::Members, Type::Receipt, Type::Voucher, Type::Org, Type::Feed] {
        let place = Place { origin: world.origin.clone(), seq: 1, now: NOW, supersedes: None };
        let sealed = statement::seal_entry(typ, codec::map([]), &place, &world.record, |noise| noise.fill(1)).unwrap();
        let mut world = World::new();
        world.push(sealed);
        assert_eq!(alone(&world, 1).outcome, Outcome::Altered, "{typ:?}");
    }
}

#[test]
fn the_order_of_outcomes_is_the_order_of_harm() {
    let order = [
        Outcome::Unreadable,
        Outcome::Altered,
        Outcome::Forked,
        Outcome::Revoked,
        Outcome::Withdrawn,
        Outcome::Incomplete,
        Outcome::SignerNotEstablished,
        Outcome::Verified,
    ];
    assert!(order.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(order.map(Outcome::exit_code), [11, 4, 10, 8, 8, 9, 7, 0]);
    // Several at once: the worst is the answer, and each is listed.
    let mut world = feed_of(3);
    world.withdraw(1, "wrong gauge");
    let mut trust = Trust::none();
    trust.demand_witnessed_by(NOW);
    let report = checked(&world.bundle(), &trust);
    assert_eq!(report.outcome, Outcome::Withdrawn);
    assert_eq!(failing(&report), ["witness", "witness"]);
}
