//! `cargo bench`: the parts of the journey one by one, each beside what it cannot be faster than.
//!
//! Prints the median of nine rounds. `LOTLINE_BENCH_ROUNDS=1` makes it a smoke test. No figure is asserted.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Instant;

use ed25519_dalek::{Signature, Signer as _, SigningKey};
use lotline_node::exchange::Message;
use lotline_node::feeds::{Item, Received};
use lotline_policy::{Item as Cleanable, Policy, Viewer, clear};
use lotline_schema::cose::{Sign1, Signer, sig_structure};
use lotline_schema::id::PartyId;
use lotline_schema::org::{self, Entry, Org, Role};
use lotline_schema::statement::{Place, seal_record};
use lotline_schema::tree::{Frontier, leaf_hash};
use lotline_schema::view::{Expected, SealedView};
use lotline_schema::{Origin, Record, codec};

fn random(buffer: &mut [u8]) {
    getrandom::fill(buffer).unwrap();
}

/// Nanoseconds of one call, median over the rounds.
fn time(name: &str, floor: Option<f64>, mut work: impl FnMut()) -> f64 {
    let rounds: usize = std::env::var("LOTLINE_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(9);
    let calls = if rounds == 1 { 20 } else { 2_000 };
    let mut medians: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..calls {
                work();
            }
            start.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let median = medians[rounds / 2];
    let beside = floor.map_or(String::new(), |floor| format!("   {:.2} of the floor", median / floor));
    println!("{name:<44} {median:>10.0} ns{beside}");
    median
}

fn main() {
    let root = Signer::from_seed(&[1; 32]);
    let signers: Vec<Signer> = (2..6).map(|seed| Signer::from_seed(&[seed; 32])).collect();
    let party = PartyId::of(&root.public());
    let mut org = Org::new(party);
    let keys = Role::ALL.into_iter().zip(signers.iter().map(Signer::public)).collect();
    org.accept(org::seal(&org, &Entry::keyring("bench", keys), 0, &root, random).unwrap().core).unwrap();
    let origin = Origin::new(party, "bench", 1).unwrap();
    let record_signer = &signers[0];
    org.accept(org::seal(&org, &Entry::Feed { origin: origin.clone(), follows: None }, 0, record_signer, random).unwrap().core).unwrap();
    let record = Record::benchmark((0..20).map(|slot| codec::text(format!("value {slot:02} of a record"))).collect());
    let place = Place { origin: origin.clone(), seq: 1, now: 0, supersedes: None };
    let sealed = seal_record(&record, &place, record_signer, random).unwrap();
    let view = SealedView { core: sealed.core.clone(), disclosures: sealed.disclosures.clone() };

    let sign1 = Sign1::read(&sealed.core).unwrap();
    let message = sig_structure(&sign1.protected, &sign1.payload);
    let raw = SigningKey::from_bytes(&[2; 32]);
    let (public, signature) = (raw.verifying_key(), Signature::from_bytes(&sign1.signature));
    println!(
        "a record of 20 slots: core {} B, disclosures {} B",
        sealed.core.len(),
        sealed.disclosures.iter().map(|of| of.bytes().len()).sum::<usize>()
    );
    let floor = time("dalek sign (floor)", None, || {
        black_box(raw.sign(&message));
    });
    time("seal a record", Some(floor), || {
        black_box(seal_record(&record, &place, record_signer, random).unwrap());
    });
    let floor = time("dalek verify_strict (floor)", None, || {
        public.verify_strict(&message, &signature).unwrap();
    });
    let text = origin.to_string();
    time("verify a view whole", Some(floor), || {
        black_box(view.verify(&org, Expected { origin: &text, seq: 1 }).unwrap());
    });
    time("open our own record", Some(floor), || {
        black_box(view.trusted().unwrap());
    });
    let policy = Policy::restore("[[share]]\nname='s'\nwith='oem'\nfeed='all'\nparts='all'\nshow='everything'\nuntil='revoked'").unwrap();
    let (viewer, facts) = (Viewer::new("oem"), record.facts());
    let item = Cleanable {
        feed: "bench",
        origin: &text,
        seq: 1,
        leaf: sealed.leaf,
        core: &sealed.core,
        disclosures: &sealed.disclosures,
        schema: Some(record.schema()),
        facts: &facts,
    };
    time("policy::clear", None, || {
        black_box(clear(&policy, &viewer, &item, 0));
    });
    let batch = Message::Batch(Received {
        from: 0,
        items: vec![Item::View(view.clone()); 128],
        checkpoint: String::new(),
        tail: Vec::new(),
        policy: None,
        under: Vec::new(),
    });
    let frame = batch.to_frame();
    time("batch of 128 to a frame", None, || {
        black_box(batch.to_frame());
    });
    time("frame to a batch of 128", None, || {
        black_box(Message::read(&frame[4..]).unwrap());
    });
    let mut frontier = Frontier::new();
    time("append a leaf and take the root", None, || {
        frontier.push(leaf_hash(&sealed.core));
        black_box(frontier.root());
    });
}
