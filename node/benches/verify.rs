//! `cargo bench --bench verify`: a bundle of 10,000 records, one signature each, verified whole, beside raw
//! `verify_strict` of the same signatures on the same cores.
//!
//! Prints the median of nine rounds (three for the whole bundle). `LOTLINE_BENCH_ROUNDS=1` makes it a smoke test with 500
//! records. No figure is asserted.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::Instant;

use ed25519_dalek::{Signature, VerifyingKey};
use lotline_schema::bundle::{Bundle, OrgPart};
use lotline_schema::cose::{Sign1, Signer, sig_structure};
use lotline_schema::id::PartyId;
use lotline_schema::note::{Checkpoint, InclusionProof};
use lotline_schema::org::{self, Entry, Org, Role};
use lotline_schema::statement::{Place, Sealed, seal_record};
use lotline_schema::tree::Tree;
use lotline_schema::verify::{Outcome, Trust, verify};
use lotline_schema::view::{Package, SealedView};
use lotline_schema::{Origin, Record, codec};

fn random(buffer: &mut [u8]) {
    getrandom::fill(buffer).unwrap();
}

/// Seconds until the result is there, median over the rounds. What gives its memory back is not measured.
fn median<T>(rounds: usize, mut work: impl FnMut() -> T) -> f64 {
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            let result = work();
            let seconds = start.elapsed().as_secs_f64();
            drop(result);
            seconds
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}

struct Feed {
    root: Signer,
    record: Signer,
    log: Signer,
    org: Org,
    origin: Origin,
}

fn feed() -> Feed {
    let root = Signer::from_seed(&[1; 32]);
    let signers: Vec<Signer> = (2..6).map(|seed| Signer::from_seed(&[seed; 32])).collect();
    let party = PartyId::of(&root.public());
    let mut org = Org::new(party);
    let keys = Role::ALL.into_iter().zip(signers.iter().map(Signer::public)).collect();
    org.accept(org::seal(&org, &Entry::keyring("bench", keys), 0, &root, random).unwrap().core).unwrap();
    let origin = Origin::new(party, "bench", 1).unwrap();
    let open = Entry::Feed { origin: origin.clone(), follows: None };
    org.accept(org::seal(&org, &open, 0, &signers[0], random).unwrap().core).unwrap();
    Feed { root, record: signers[0].clone(), log: signers[1].clone(), org, origin }
}

fn bundle(feed: &Feed, records: u64) -> (Vec<u8>, Vec<Sealed>) {
    let record = Record::benchmark((0..20).map(|slot| codec::text(format!("value {slot:02} of a record"))).collect());
    let place = |seq| Place { origin: feed.origin.clone(), seq, now: 0, supersedes: None };
    let mut sealed = vec![org::seal_first(&feed.org, &feed.origin, 0, &feed.record, random).unwrap()];
    sealed.extend((1..=records).map(|seq| seal_record(&record, &place(seq), &feed.record, random).unwrap()));
    let tree = Tree::new(sealed.iter().map(|one| one.leaf).collect());
    let size = tree.size();
    let checkpoint = Checkpoint { origin: feed.origin.clone(), size, root: tree.root(size) }.sign(&feed.log);
    let package = |(index, one): (usize, &Sealed)| {
        let index = index as u64;
        let proof = InclusionProof { index, path: tree.inclusion(index, size).unwrap(), checkpoint: checkpoint.clone() };
        Package::new(SealedView { core: one.core.clone(), disclosures: one.disclosures.clone() }, proof.to_text())
    };
    let packages = sealed.iter().enumerate().skip(1).map(package).collect();
    let org_checkpoint = Checkpoint { origin: Origin::org(feed.org.party()), size: feed.org.size(), root: feed.org.frontier().root() };
    let orgs = vec![OrgPart::of(&feed.org, &org_checkpoint.sign(&feed.log))];
    (Bundle { orgs, packages, ..Bundle::default() }.to_bytes(), sealed)
}

/// The same signatures and nothing else, on all cores.
fn raw(key: &VerifyingKey, signed: &[(Vec<u8>, Signature)]) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for chunk in signed.chunks(signed.len().div_ceil(cores)) {
            scope.spawn(move || chunk.iter().for_each(|(message, signature)| key.verify_strict(message, signature).unwrap()));
        }
    });
}

fn main() {
    let rounds: usize = std::env::var("LOTLINE_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(9);
    let records = if rounds == 1 { 500 } else { 10_000 };
    let feed = feed();
    assert_eq!(feed.root.public(), feed.org.party().root());
    let (bytes, sealed) = bundle(&feed, records);
    let signed: Vec<(Vec<u8>, Signature)> = sealed
        .iter()
        .skip(1)
        .map(|one| {
            let sign1 = Sign1::read(&one.core).unwrap();
            (sig_structure(&sign1.protected, &sign1.payload), Signature::from_bytes(&sign1.signature))
        })
        .collect();
    let floor = median(rounds, || raw(&feed.record.public(), &signed));
    let whole = median(rounds.min(3), || {
        let report = verify(&bytes, &Trust::none());
        assert_eq!(report.outcome, Outcome::SignerNotEstablished);
        report
    });
    let reading = median(rounds.min(3), || Bundle::read(&bytes).unwrap());
    let rate = |seconds: f64| records as f64 / seconds;
    println!("verify a bundle of {records} records ({} kB)", bytes.len() / 1000);
    println!("  raw verify_strict, all cores {:>10.0} /s", rate(floor));
    println!("  the bundle, whole            {:>10.0} /s   {:.2} of raw (aim 0.6)", rate(whole), floor / whole);
    println!("  of that, reading the file    {:>10.0} ms of {:.0} ms, on one core", reading * 1e3, whole * 1e3);
}
