//! A whole bundle of version 2, and fork proofs, altered byte by byte: nothing goes unnoticed, nothing panics, and of a
//! cosignature exactly its witness is lost. And every reader of evidence on what nobody would write.
#![allow(clippy::unwrap_used)] // tests

mod common;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use common::{NOW, RECORDED_AT, Rich, Rng, World, inspection, slot};
use lotline_schema::bundle::Bundle;
use lotline_schema::delivery::Receipt;
use lotline_schema::fork::{ForkProof, Side};
use lotline_schema::note::{Cosignature, Cosigned, InclusionProof, WitnessKey};
use lotline_schema::quorum::Quorum;
use lotline_schema::receipt::{self, Included};
use lotline_schema::release::Release;
use lotline_schema::verify::{Outcome, Report, Trust, Witnessed, verify};
use lotline_schema::voucher::Voucher;
use proptest::prelude::*;

/// Patterns that keep a letter a letter, make it another kind of byte, or turn all of it.
const PATTERNS: [u8; 6] = [0x01, 0x20, 0x80, 0xff, 0x02, 0x10];

/// What witnesses prove in a report: for each record, for each issuer.
type Seen = (Vec<Option<Witnessed>>, Vec<Option<Witnessed>>);

fn seen(report: &Report) -> Seen {
    let records = report.records.iter().map(|record| record.witnessed.clone()).collect();
    (records, report.issuers.iter().map(|issuer| issuer.witnessed.clone()).collect())
}

/// The text of a bundle that may carry cosignatures, in the order of the file.
fn texts(bundle: &mut Bundle) -> Vec<&mut String> {
    let orgs = bundle.orgs.iter_mut().map(|part| &mut part.checkpoint);
    let proofs = bundle.packages.iter_mut().flat_map(|package| std::iter::once(&mut package.proof).chain(&mut package.witnessed));
    orgs.chain(proofs).collect()
}

/// Where a piece that somebody may lose stands, and the bundle without it.
struct Piece {
    at: Range<usize>,
    without: Bundle,
}

/// Every cosignature line, and every witness key.
fn pieces(bundle: &Bundle, bytes: &[u8]) -> Vec<Piece> {
    let find = |text: &str, from: usize| from + bytes[from..].windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    let (mut found, mut from) = (Vec::new(), 0);
    for (number, text) in texts(&mut bundle.clone()).into_iter().enumerate() {
        let start = find(text, from);
        from = start + text.len();
        let note = text.rfind("\n\n").unwrap() + 2;
        let mut line_at = note;
        for (index, line) in text[note..].split_inclusive('\n').enumerate() {
            if index > 0 {
                let mut without = bundle.clone();
                texts(&mut without)[number].replace_range(line_at..line_at + line.len(), "");
                found.push(Piece { at: start + line_at..start + line_at + line.len(), without });
            }
            line_at += line.len();
        }
    }
    for key in &bundle.witnesses {
        let start = find(key, from);
        let mut without = bundle.clone();
        without.witnesses.retain(|other| other != key);
        found.push(Piece { at: start..start + key.len(), without });
    }
    found
}

/// Every byte of a bundle with all evidence, in several patterns.
#[test]
fn no_altered_byte_of_the_evidence_goes_unnoticed() {
    let shown = ["part", "lot", "verdict_recomputed", "sample"].map(slot);
    let mut rich = Rich::new(|at| shown.contains(&at));
    // A record and its release: what is left out here is of the same kinds.
    rich.bundle.packages.truncate(2);
    let (bytes, trust) = (rich.bundle.to_bytes(), &rich.trust);
    let original = verify(&bytes, trust);
    assert_eq!(original.outcome, Outcome::Verified, "{}", original.sentence());
    let pieces: Vec<(Range<usize>, Seen, Outcome)> = pieces(&rich.bundle, &bytes)
        .into_iter()
        .map(|piece| {
            let report = verify(&piece.without.to_bytes(), trust);
            (piece.at, seen(&report), report.outcome)
        })
        .collect();
    // Two lines on each of two packages and on the org feed, one on the first witnessed checkpoint, three keys.
    assert_eq!(pieces.len(), 2 * 2 + 2 + 1 + 3);
    let lost: Mutex<BTreeMap<usize, (u32, u32)>> = Mutex::default();
    let altered = |at: usize, pattern: u8| {
        let mut changed = bytes.clone();
        changed[at] ^= pattern;
        let report = verify(&changed, trust);
        let what = format!("byte {at} xor {pattern:02x}: {}", report.sentence());
        assert_ne!(report.checks, original.checks, "{what}");
        let refused = matches!(report.outcome, Outcome::Altered | Outcome::Unreadable);
        match pieces.iter().position(|(range, ..)| range.contains(&at)) {
            None => assert!(refused && report.failure().is_some(), "{what}"),
            Some(number) => {
                let (_, expected, outcome) = &pieces[number];
                let mut lost = lost.lock().unwrap();
                let counts = lost.entry(number).or_default();
                if refused {
                    counts.1 += 1;
                } else {
                    assert_eq!((&seen(&report), report.outcome), (expected, *outcome), "{what}");
                    assert_eq!(report.outcome, original.outcome, "{what}");
                    counts.0 += 1;
                }
            }
        }
    };
    let tried: usize = std::thread::scope(|scope| {
        let halves = [0usize, 1].map(|half| {
            let (altered, bytes) = (&altered, &bytes);
            scope.spawn(move || {
                let mut tried = 0;
                for at in (half..bytes.len()).step_by(2) {
                    altered(at, PATTERNS[at / 2 % PATTERNS.len()]);
                    tried += 1;
                }
                tried
            })
        });
        halves.into_iter().map(|half| half.join().unwrap()).sum()
    });
    assert!(tried >= 10_000, "{tried}");
    let lost = lost.into_inner().unwrap();
    assert_eq!(lost.len(), pieces.len());
    let (witness, refused) = lost.values().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    assert!(lost.values().all(|(witness, _)| *witness > 10), "{lost:?}");
    eprintln!(
        "altered bundles: {tried} of {} bytes; in cosignatures and witness keys {witness} lost a witness, {refused} were refused",
        bytes.len()
    );
}

/// Letters of a cosignature's base64 that stay letters: always exactly its witness is lost.
#[test]
fn an_altered_letter_of_a_cosignature_loses_its_witness_alone() {
    let rich = Rich::new(|_| false);
    let (bytes, trust) = (rich.bundle.to_bytes(), &rich.trust);
    let original = verify(&bytes, trust);
    let name = |witness: usize| WitnessKey::opaque(rich.witnesses[witness].public()).name().to_owned();
    let mut tried = 0;
    for piece in pieces(&rich.bundle, &bytes).into_iter().filter(|piece| bytes[piece.at.end - 1] == b'\n') {
        let expected = verify(&piece.without.to_bytes(), trust);
        let line = String::from_utf8(bytes[piece.at.clone()].to_vec()).unwrap();
        let blob = piece.at.start + line.rfind(' ').unwrap() + 1;
        for at in (blob..piece.at.end - 4).step_by(5) {
            let mut changed = bytes.clone();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let report = verify(&changed, trust);
            assert_eq!((report.outcome, seen(&report)), (Outcome::Verified, seen(&expected)), "byte {at}: {}", report.sentence());
            assert_ne!(report.checks, original.checks);
            tried += 1;
        }
    }
    assert!(tried > 150, "{tried}");
    // What is lost: the first date of record 1, the later news of the org feed.
    let without = |part: &dyn Fn(&mut Bundle)| {
        let mut bundle = rich.bundle.clone();
        part(&mut bundle);
        seen(&verify(&bundle.to_bytes(), trust))
    };
    let (records, issuers) = seen(&original);
    assert_eq!((records[0].as_ref().unwrap().at, issuers[0].as_ref().unwrap().at), (NOW + 10, NOW + 300));
    let flip = |text: &mut String, witness: usize| {
        let at = text.find(&name(witness)).unwrap() + 30;
        let letter = if &text[at..=at] == "A" { "B" } else { "A" };
        text.replace_range(at..=at, letter);
    };
    let (records, issuers) = without(&|bundle| flip(bundle.packages[0].witnessed.as_mut().unwrap(), 2));
    assert_eq!((records[0].as_ref().unwrap().at, issuers[0].as_ref().unwrap().at), (NOW + 100, NOW + 300));
    let (records, issuers) = without(&|bundle| flip(&mut bundle.orgs[0].checkpoint, 2));
    assert_eq!((records[0].as_ref().unwrap().at, issuers[0].as_ref().unwrap().at), (NOW + 10, NOW + 200));
}

fn fork_proofs() -> Vec<(Trust, Vec<u8>)> {
    let of = |lot: &str| lotline_schema::kind::inspection::Inspection { lot: lot.into(), ..inspection() }.check(RECORDED_AT).unwrap();
    let (mut one, mut other) = (World::new(), World::new());
    for (world, lots) in [(&mut one, ["a", "L"]), (&mut other, ["x", "L"])] {
        for lot in lots {
            world.publish(&of(lot));
        }
    }
    one.publish(&of("L"));
    let statement = |world: &World| Side::Statement(world.sealed(1).core.clone());
    let leaf = |world: &World| Side::Leaf(world.leaves[1], world.proof(1, 3).to_text());
    let checkpoint = |world: &World| Side::Checkpoint(world.checkpoint(3).sign(&world.log));
    let identity = ["part", "revision", "lot", "operation", "reason", "sample", "role"].map(slot);
    let live = |seq| Side::Record(one.package(seq, |at| identity.contains(&at)));
    let pairs = [
        [statement(&one), statement(&other)],
        [statement(&one), leaf(&other)],
        [leaf(&one), leaf(&other)],
        [checkpoint(&one), checkpoint(&other)],
        [live(2), live(3)],
    ];
    pairs.map(|sides| (one.trust(), ForkProof { org: one.org_part(), sides }.to_bytes())).into()
}

#[test]
fn no_altered_byte_of_a_fork_proof_still_proves() {
    let mut tried = 0;
    for (number, (trust, bytes)) in fork_proofs().into_iter().enumerate() {
        assert_eq!(verify(&bytes, &trust).outcome, Outcome::Forked);
        // The org feed is the same in all of them.
        let org_entry = bytes.windows(6).rposition(|window| window == b"org+cw").unwrap();
        let (from, step) = if number == 0 { (0, 1) } else { (org_entry, 3) };
        for at in (from..bytes.len()).step_by(step) {
            let mut changed = bytes.clone();
            changed[at] ^= PATTERNS[at % PATTERNS.len()];
            let report = verify(&changed, &trust);
            assert!(matches!(report.outcome, Outcome::Altered | Outcome::Unreadable), "byte {at}: {}", report.sentence());
            tried += 1;
        }
        for length in (0..bytes.len()).step_by(23) {
            assert_ne!(verify(&bytes[..length], &trust).outcome, Outcome::Forked);
        }
    }
    eprintln!("altered fork proofs: {tried}");
}

// ---- readers ----

/// Every reader of evidence on the same bytes. What one accepts has one spelling.
struct Readers {
    rich: Rich,
    seeds: Vec<Vec<u8>>,
}

impl Readers {
    fn new() -> Readers {
        let rich = Rich::new(|at| at < 4);
        let key = WitnessKey::opaque(rich.witnesses[0].public());
        let quorum = format!("# who\nlog {}\nwitness a {key}\ngroup g any a\nquorum g\n", rich.bundle.witnesses[1].replace("+B", "+A"));
        let mut seeds = vec![
            rich.bundle.to_bytes(),
            rich.bundle.packages[0].receipt.clone().unwrap(),
            rich.bundle.deliveries[0].clone(),
            rich.bundle.vouchers[0].clone(),
            rich.world.sealed(3).core.clone(),
            rich.bundle.orgs[0].checkpoint.clone().into_bytes(),
            rich.bundle.packages[0].proof.clone().into_bytes(),
            rich.bundle.witnesses[0].clone().into_bytes(),
            rich.bundle.orgs[0].checkpoint.lines().last().unwrap().to_owned().into_bytes(),
            quorum.into_bytes(),
        ];
        seeds.extend(rich.world.org.entries().iter().cloned());
        seeds.extend(fork_proofs().into_iter().map(|(_, bytes)| bytes));
        Readers { rich, seeds }
    }

    fn read(&self, bytes: &[u8]) {
        let (world, customer) = (&self.rich.world, &self.rich.customer);
        if let Ok(bundle) = Bundle::read(bytes) {
            assert_eq!(bundle.to_bytes(), bytes);
        }
        if let Ok(proof) = ForkProof::read(bytes) {
            assert_eq!(proof.to_bytes(), bytes);
            let _ = proof.check();
        }
        let _ = verify(bytes, &self.rich.trust).sentence();
        let of = Included { origin: &world.origin, seq: 1, leaf: world.leaves[1] };
        let _ = receipt::verify(bytes, of, &world.org);
        let _ = receipt::transparent_statement(bytes, &[]);
        let _ = (Receipt::claimed_by(bytes), Voucher::claimed_by(bytes));
        let _ = (Receipt::open(bytes, &customer.org), Voucher::open(bytes, &customer.org));
        if let Ok(value) = lotline_schema::codec::decode(bytes) {
            let _ = Release::read(&value);
        }
        let mut org = world.org.clone();
        assert!(org.accept(bytes.to_vec()).is_err());
        let text = String::from_utf8_lossy(bytes);
        let log = world.log.public();
        if let Ok(opened) = Cosigned::open(&text, &[&log]) {
            assert!(opened.cosignatures.len() <= 16);
        }
        if let Ok(proof) = InclusionProof::read(&text) {
            assert_eq!(proof.to_text(), text);
            let _ = Cosigned::open(&proof.checkpoint, &[&log]);
        }
        if let Ok(line) = Cosignature::read(&text) {
            assert_eq!(line.to_line(), text);
        }
        if let Ok(key) = WitnessKey::read(&text) {
            assert_eq!(key.to_string(), text);
        }
        if let Ok(quorum) = Quorum::read(&text) {
            let signed = [("a".to_owned(), 1)].into();
            let _ = (quorum.reached(&signed), quorum.newest(&signed));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn readers_of_evidence_never_panic_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in "\\PC{0,200}") {
        thread_local!(static READERS: Readers = Readers::new());
        READERS.with(|readers| {
            readers.read(&bytes);
            readers.read(text.as_bytes());
            readers.read(&[b"\xa4\x00\x6elotline bundle\x01\x02", &bytes[..]].concat());
            readers.read(&[b"\xa4\x00\x72lotline fork proof\x01\x01", &bytes[..]].concat());
        });
    }
}

/// Altered, cut, doubled and mixed: good evidence in the hands of somebody careless or hostile.
#[test]
fn readers_of_evidence_never_panic_on_mutated_evidence() {
    let readers = Readers::new();
    let mut rng = Rng(std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(2));
    const HEADS: [&[u8]; 6] = [
        &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xbb, 0, 0, 0, 1, 0, 0, 0, 0],
        &[0x81; 40],
        "\n\n\u{2014} x ".as_bytes(),
        b"99999999999999999999",
    ];
    for _ in 0..6000 {
        let mut bytes = readers.seeds[rng.below(readers.seeds.len())].clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(bytes.len().max(1)).min(bytes.len());
            match rng.below(5) {
                0 if !bytes.is_empty() => bytes[at] = rng.next() as u8,
                1 => bytes.truncate(at),
                2 => {
                    let other = &readers.seeds[rng.below(readers.seeds.len())];
                    let from = rng.below(other.len());
                    let until = (from + rng.below(300)).min(other.len());
                    bytes.splice(at..at, other[from..until].iter().copied());
                }
                3 => {
                    bytes.splice(at..at, HEADS[rng.below(HEADS.len())].iter().copied());
                }
                _ if at < bytes.len() => {
                    bytes.remove(at);
                }
                _ => bytes.push(rng.next() as u8),
            }
        }
        // Many mutations hit only a signature: then it is still what it was, and everybody has to say no by themselves.
        if !readers.seeds.contains(&bytes) {
            readers.read(&bytes);
        }
    }
}
