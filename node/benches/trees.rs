//! `cargo bench --bench trees`: what an append adds to the tree of a long feed, and what a proof from it costs.
//!
//! A feed of a million hidden entries; with `LOTLINE_BENCH_ROUNDS=1`, a smoke test, of twenty thousand. Another process
//! writes it, so that the memory shown is that of reading alone. No figure is asserted.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::time::Instant;

use lotline_node::platform::resident_bytes;
use lotline_node::store::{Batch, Entry, Options, Reader, Store};
use lotline_schema::Hash;
use lotline_schema::tree::{leaf_hash, verify_consistency, verify_inclusion};

const FEED: u32 = 1;
/// Set for the process that writes: the folder of the store.
const WRITE: &str = "LOTLINE_BENCH_TREES";
/// Proofs from anywhere, after which the memory is looked at.
const FEW: u64 = 100;
/// As many as one commit of the program takes at most.
const GROUP: u64 = 256;

fn main() {
    let smoke = std::env::var("LOTLINE_BENCH_ROUNDS").is_ok_and(|rounds| rounds == "1");
    let (entries, proofs) = if smoke { (20_000, 200) } else { (1_000_000, 20_000) };
    if let Some(folder) = std::env::var_os(WRITE) {
        return write(Path::new(&folder), entries);
    }
    let folder = tempfile::tempdir().unwrap();
    let writer = std::process::Command::new(std::env::current_exe().unwrap()).env(WRITE, folder.path()).status().unwrap();
    assert!(writer.success());
    let before = resident_bytes();
    let (store, opened) = Store::open(folder.path(), Options::default(), &|_| ()).unwrap();
    assert_eq!(opened.rebuilt, None);
    store.settle().unwrap();
    let after = resident_bytes();
    let few = prove(&store.reader(), entries, proofs);
    let [before, after, few, all] = [before, after, few, resident_bytes()].map(mib);
    let cache = Options::default().cache_bytes >> 20;
    println!("{:<44} {before} before opening, {after} after, {few} after {FEW} proofs, {all} after all (cache {cache} MiB)", "memory, MiB");
}

fn mib(bytes: Option<u64>) -> String {
    bytes.map_or("?".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1048576.0))
}

fn leaf(seq: u64) -> Hash {
    leaf_hash(&seq.to_be_bytes())
}

fn write(folder: &Path, entries: u64) {
    let (mut store, _) = Store::open(folder, Options::default(), &|_| ()).unwrap();
    let start = Instant::now();
    for from in (0..entries).step_by(GROUP as usize) {
        let mut batch = Batch::new();
        for seq in from..entries.min(from + GROUP) {
            batch.push(Entry::Hidden { feed: FEED, seq, leaf: leaf(seq).0 });
        }
        store.commit(batch).unwrap();
    }
    store.settle().unwrap();
    let rate = entries as f64 / start.elapsed().as_secs_f64();
    let written = store.reader().status().written;
    let each = |count: u64| count as f64 / written.leaves as f64;
    println!(
        "{:<44} {:.3} hashes, {:.3} keys with the record's own; {rate:.0} /s",
        format!("append to a feed, {entries} times"),
        each(written.nodes),
        each(written.keys)
    );
    store.close().unwrap();
}

/// Proves, and tells the memory after the first few.
fn prove(reader: &Reader, entries: u64, proofs: u64) -> Option<u64> {
    let tree = reader.tree(FEED, entries);
    let root = tree.root(entries).unwrap();
    // Any entry, any size: scattered, and the same in every run.
    let scattered = |at: u64, below: u64| at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) % below;
    let whole = |at| {
        let index = scattered(at, entries);
        let path = tree.inclusion(index, entries).unwrap();
        move || verify_inclusion(&leaf(index), index, entries, &path, &root).unwrap()
    };
    time("inclusion in the whole feed, the first", FEW, whole);
    let few = resident_bytes();
    time("inclusion in the whole feed", proofs, whole);
    time("inclusion in an older size", proofs, |at| {
        let size = scattered(at, entries) + 1;
        let (index, tree) = (scattered(!at, size), reader.tree(FEED, entries));
        let path = tree.inclusion(index, size).unwrap();
        move || verify_inclusion(&leaf(index), index, size, &path, &tree.root(size).unwrap()).unwrap()
    });
    time("consistency with an older size", proofs, |at| {
        let (old, tree) = (scattered(at, entries) + 1, reader.tree(FEED, entries));
        let path = tree.consistency(old, entries).unwrap();
        move || verify_consistency(old, &tree.root(old).unwrap(), entries, &root, &path).unwrap()
    });
    few
}

/// Times the proofs one by one; what verifies them is not timed.
fn time<V: FnOnce()>(name: &str, proofs: u64, prove: impl Fn(u64) -> V) {
    let mut took: Vec<f64> = Vec::new();
    for at in 0..proofs {
        let start = Instant::now();
        let verify = prove(at);
        took.push(start.elapsed().as_secs_f64() * 1e6);
        verify();
    }
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!("{name:<44} p50 {:.1} us   p99 {:.1} us   (aim 1000)", at(0.5), at(0.99));
}
