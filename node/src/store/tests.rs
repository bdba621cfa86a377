//! The store as a whole: what is saved stays, in whatever way it was stopped or hurt.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use lotline_schema::Hash;
use lotline_schema::tree::{Frontier, node_hash, verify_consistency, verify_inclusion};

use super::{journal::Fault, manifest::Manifest, *};

const SMALL: Options = Options { segment_bytes: 16 << 10, cache_bytes: 1 << 20 };

fn open(dir: &Path) -> (Store, Opened) {
    try_open(dir).unwrap()
}

fn try_open(dir: &Path) -> Result<(Store, Opened), StoreError> {
    Store::open(dir, SMALL, &|_| ())
}

fn leaf(feed: u32, seq: u64) -> [u8; 32] {
    let mut leaf = [feed as u8; 32];
    leaf[..8].copy_from_slice(&seq.to_le_bytes());
    leaf
}

fn statement(feed: u32, seq: u64) -> Entry {
    let core = (0..200 + seq % 50).map(|i| (i * 7 + seq) as u8).collect();
    let lot = (!seq.is_multiple_of(5)).then(|| format!("L-{}", seq % 3));
    Entry::Statement { feed, seq, leaf: leaf(feed, seq), core, summary: format!("s{seq}").into(), lot, part: Some("P".into()) }
}

fn state(key: &str, value: &str) -> Entry {
    Entry::State { key: key.into(), value: Some(value.into()) }
}

fn batch(entries: impl IntoIterator<Item = Entry>) -> Batch {
    let mut batch = Batch::new();
    entries.into_iter().for_each(|e| batch.push(e));
    batch
}

/// One commit: a statement with a disclosure and a head.
fn commit(store: &mut Store, seq: u64) -> Position {
    let opened = Entry::Disclosures { feed: 1, seq, slots: vec![(3, vec![seq as u8; 20])] };
    store.commit(batch([statement(1, seq), opened, state("head", &seq.to_string())])).unwrap()
}

fn save(store: &mut Store, commits: std::ops::Range<u64>) {
    commits.for_each(|seq| assert!(commit(store, seq) <= store.journal.end));
}

fn fill(dir: &Path, commits: u64) {
    let (mut store, _) = open(dir);
    save(&mut store, 0..commits);
    store.close().unwrap();
}

/// Everything that `fill` saved is there, in all ways of looking.
fn assert_holds(store: &Store, commits: u64) {
    store.settle().unwrap();
    let reader = store.reader();
    let rows = reader.rows(1, 0, usize::MAX).unwrap();
    assert_eq!(rows.len() as u64, commits);
    for (seq, row) in rows.iter().enumerate() {
        let Entry::Statement { core, summary, leaf, .. } = statement(1, seq as u64) else { unreachable!() };
        assert_eq!((row.seq, &row.summary, row.leaf), (seq as u64, &summary, leaf));
        assert_eq!(reader.core(row).unwrap(), Some(core));
        assert_eq!(reader.disclosures(row).unwrap(), [(3, vec![seq as u8; 20])]);
    }
    let head = commits.checked_sub(1).map(|seq| seq.to_string().into_bytes());
    assert_eq!(reader.state(b"head").unwrap(), head);
    assert_eq!(reader.by_part("P").unwrap().len() as u64, commits);
    let report = reader.audit(&|_| ()).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    // The journal last: what it holds is at least what was copied before it knows.
    let mut entries: Vec<_> = fs::read_dir(from).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort_by_key(|p| p.ends_with(JOURNAL));
    for path in entries {
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &to);
        } else if path.exists() {
            fs::copy(&path, &to).unwrap();
        }
    }
}

fn flip(path: &Path, offset: u64, mask: u8) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    disk::read_at(&file, &mut byte, offset).unwrap();
    disk::write_at(&file, &[byte[0] ^ mask], offset).unwrap();
}

fn segment(dir: &Path, number: u32) -> PathBuf {
    dir.join(JOURNAL).join(format!("{number:08}.seg"))
}

/// Small and repeatable.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }
}

#[test]
fn what_is_saved_comes_back_merged() {
    let mut store = Store::temporary().unwrap();
    let reader = store.reader();
    let slots = |slots: &[(u8, u8)]| slots.iter().map(|(n, v)| (*n, vec![*v; 3])).collect::<Vec<_>>();
    let opened = |s: &[(u8, u8)]| Entry::Disclosures { feed: 2, seq: 1, slots: slots(s) };
    store.commit(batch([Entry::Hidden { feed: 2, seq: 1, leaf: leaf(2, 1) }])).unwrap();
    store.settle().unwrap();
    let row = reader.row(2, 1).unwrap().unwrap();
    assert!(!row.has_core && row.leaf == leaf(2, 1) && reader.core(&row).unwrap().is_none());
    assert_eq!(reader.row(2, 2).unwrap(), None);

    store.commit(batch([statement(2, 1), opened(&[(1, 10), (5, 50)])])).unwrap();
    store.commit(batch([opened(&[(5, 51), (0, 1)]), opened(&[(63, 9)])])).unwrap();
    store.commit(batch([Entry::Hidden { feed: 2, seq: 1, leaf: [0; 32] }])).unwrap();
    store.settle().unwrap();
    let row = reader.row(2, 1).unwrap().unwrap();
    assert!(row.has_core && row.leaf == leaf(2, 1), "a statement is never hidden again");
    assert_eq!(reader.disclosures(&row).unwrap(), slots(&[(0, 1), (1, 10), (5, 50), (63, 9)]), "the first one wins");
    assert_eq!(reader.by_lot("L-1").unwrap(), [(2, 1)]);

    let describe = |lot: &str| Entry::Describe { feed: 2, seq: 1, summary: b"new".to_vec(), lot: Some(lot.into()), part: None };
    store.commit(batch([describe("L-12")])).unwrap();
    store.settle().unwrap();
    let row = reader.row(2, 1).unwrap().unwrap();
    assert_eq!((&*row.summary, row.lot.as_deref()), (&b"new"[..], Some("L-12")));
    assert!(reader.core(&row).unwrap().is_some());
    assert_eq!(reader.by_lot("L-12").unwrap(), [(2, 1)]);
    assert_eq!((reader.by_lot("L-1").unwrap(), reader.by_part("P").unwrap()), (vec![], vec![]));
    assert_eq!(reader.counts().unwrap(), Counts { records: 1, hidden: 0, nodes: 0, lots: 1, parts: 0, states: 0 });
    assert!(reader.audit(&|_| ()).unwrap().is_clean());
    store.close().unwrap();
    assert!(matches!(reader.row(2, 1), Err(StoreError::Closed)));
}

#[test]
fn state_is_paged_and_deleted() {
    let mut store = Store::temporary().unwrap();
    let reader = store.reader();
    store.commit(batch(["a/1", "a/2", "a/3", "b"].map(|k| state(k, k)))).unwrap();
    store.commit(batch([Entry::State { key: b"a/2".to_vec(), value: None }, state("b", "")])).unwrap();
    store.settle().unwrap();
    let keys = |prefix: &str, after: Option<&str>, max| {
        let states = reader.states(prefix.as_bytes(), after.map(str::as_bytes), max).unwrap();
        states.into_iter().map(|(k, _)| String::from_utf8(k).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(keys("a/", None, 10), ["a/1", "a/3"]);
    assert_eq!(keys("a/", None, 1), ["a/1"]);
    assert_eq!(keys("a/", Some("a/1"), 10), ["a/3"]);
    assert_eq!(keys("", Some("a/3"), 10), ["b"]);
    assert_eq!(reader.state(b"b").unwrap(), Some(vec![]));
    assert_eq!(reader.state(b"a/2").unwrap(), None);
}

#[test]
fn a_group_of_256_is_one_commit() {
    let mut store = Store::temporary().unwrap();
    store.commit(batch((0..256).map(|seq| statement(seq as u32 % 4, seq / 4)))).unwrap();
    store.settle().unwrap();
    let reader = store.reader();
    assert_eq!(reader.rows(0, 60, 100).unwrap().len(), 4);
    assert_eq!(reader.status().waiting, 0);
}

#[test]
fn bounds_are_kept_and_the_store_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let big = |n| batch([Entry::State { key: vec![], value: Some(vec![1; n]) }]);
    assert!(matches!(store.commit(big(16 << 10)), Err(StoreError::TooBig { max: 16320, .. })));
    assert!(matches!(store.commit(batch([state(&"k".repeat(5000), "")])), Err(StoreError::Refused(_))));
    let largest = 16320 - big(0).bytes_len();
    assert!(store.commit(big(largest + 1)).is_err());
    store.commit(big(largest)).unwrap();
    store.commit(big(largest)).unwrap();
    let end = commit(&mut store, 0);
    assert_eq!(store.commit(Batch::new()).unwrap(), end);
    assert_eq!(end.segment, 3);
    store.settle().unwrap();
    assert!(store.reader().row(1, 0).unwrap().is_some());
}

#[test]
fn reopening_finds_everything_in_many_segments() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 300);
    let (mut store, opened) = open(dir.path());
    assert_eq!(opened, Opened::default());
    assert!(!store.reader().status().checking, "a clean stop needs no check");
    assert!(store.reader().status().segments > 5);
    commit(&mut store, 300);
    assert_holds(&store, 301);
    drop(store);
    assert!(audit(dir.path(), &|_| ()).unwrap().is_clean());
}

#[test]
fn any_history_reads_like_its_model() {
    let mut dice = Dice(7);
    let dir = tempfile::tempdir().unwrap();
    /// Whether it has a core, its slots, its summary.
    type Model = (bool, BTreeMap<u8, u8>, String);
    let mut model: BTreeMap<(u32, u64), Model> = BTreeMap::new();
    let mut states: BTreeMap<String, String> = BTreeMap::new();
    let (mut store, _) = open(dir.path());
    for round in 0..400 {
        let mut entries = Vec::new();
        for _ in 0..1 + dice.roll(6) {
            let (feed, seq) = (dice.roll(2) as u32, dice.roll(40));
            let known = model.contains_key(&(feed, seq));
            match dice.roll(5) {
                0 | 1 => {
                    entries.push(statement(feed, seq));
                    let record = model.entry((feed, seq)).or_default();
                    (record.0, record.2) = (true, format!("s{seq}"));
                }
                2 if known => {
                    let (slot, value) = (dice.roll(8) as u8, dice.roll(256) as u8);
                    entries.push(Entry::Disclosures { feed, seq, slots: vec![(slot, vec![value])] });
                    model.get_mut(&(feed, seq)).unwrap().1.entry(slot).or_insert(value);
                }
                3 if known => {
                    let (summary, lot) = (format!("d{round}"), format!("L{}", dice.roll(3)));
                    model.get_mut(&(feed, seq)).unwrap().2.clone_from(&summary);
                    entries.push(Entry::Describe { feed, seq, summary: summary.into(), lot: Some(lot), part: None });
                }
                4 if dice.roll(2) == 0 => {
                    entries.push(Entry::Hidden { feed, seq, leaf: leaf(feed, seq) });
                    model.entry((feed, seq)).or_default();
                }
                _ => {
                    let (key, value) = (format!("k{}", dice.roll(10)), format!("v{round}"));
                    let deleted = dice.roll(3) == 0;
                    entries.push(Entry::State { key: key.clone().into(), value: (!deleted).then(|| value.clone().into()) });
                    if deleted { drop(states.remove(&key)) } else { drop(states.insert(key, value)) }
                }
            }
        }
        store.commit(batch(entries)).unwrap();
        if dice.roll(40) == 0 {
            // Sometimes in good order, sometimes not.
            if dice.roll(2) == 0 {
                store.close().unwrap()
            } else {
                drop(store)
            }
            store = open(dir.path()).0;
        }
    }
    store.settle().unwrap();
    let reader = store.reader();
    let mut rows = reader.rows(0, 0, usize::MAX).unwrap();
    rows.extend(reader.rows(1, 0, usize::MAX).unwrap());
    assert_eq!(rows.len(), model.len());
    for row in rows {
        let (has_core, slots, summary) = &model[&(row.feed, row.seq)];
        assert_eq!((row.has_core, String::from_utf8(row.summary.clone()).unwrap()), (*has_core, summary.clone()));
        let opened = reader.disclosures(&row).unwrap();
        assert_eq!(opened, slots.iter().map(|(s, v)| (*s, vec![*v])).collect::<Vec<_>>());
    }
    let found = reader.states(b"", None, usize::MAX).unwrap();
    assert_eq!(found, states.into_iter().map(|(k, v)| (k.into(), v.into())).collect::<Vec<(Vec<u8>, Vec<u8>)>>());
    let report = reader.audit(&|_| ()).unwrap();
    assert!(report.is_clean() && report.commits == 400, "{report:?}");
    store.shared.wait_checked();
    assert_eq!(store.shared.phase(), Phase::Following);
}

/// What the index holds.
fn dump(db: &sled::Db) -> Vec<(sled::IVec, sled::IVec)> {
    db.iter().map(Result::unwrap).collect()
}

/// The roots of a feed of `leaf`s by size.
fn roots(feed: u32, size: u64) -> Vec<Hash> {
    let mut frontier = Frontier::new();
    let mut roots = vec![frontier.root()];
    roots.extend((0..size).map(|seq| {
        frontier.push(Hash(leaf(feed, seq)));
        frontier.root()
    }));
    roots
}

#[test]
fn every_proof_holds_after_any_history() {
    let mut dice = Dice(11);
    let dir = tempfile::tempdir().unwrap();
    let mut sizes = [0_u64; 3];
    let (mut store, _) = open(dir.path());
    let (mut rebuilds, mut restarts) = (0, 0);
    for round in 0..150 {
        let mut entries = Vec::new();
        for _ in 0..1 + dice.roll(30) {
            let feed = dice.roll(3) as u32;
            let (size, seq) = (sizes[feed as usize], dice.roll(sizes[feed as usize] + 1));
            let opened = |seq| Entry::Disclosures { feed, seq, slots: vec![(1, vec![2; 3])] };
            match dice.roll(6) {
                // An entry that was hidden is shown, one that was shown comes again, and the other way round.
                0 if seq < size => entries.push(statement(feed, seq)),
                1 if seq < size => entries.push(Entry::Hidden { feed, seq, leaf: leaf(feed, seq) }),
                // Slots before their leaf, a commit ahead even.
                2 => entries.push(opened(size)),
                other => {
                    let one = if other == 3 { statement(feed, size) } else { Entry::Hidden { feed, seq: size, leaf: leaf(feed, size) } };
                    entries.push(one);
                    sizes[feed as usize] += 1;
                }
            }
        }
        store.commit(batch(entries)).unwrap();
        if dice.roll(10) == 0 {
            let lost = dice.roll(3) == 0;
            if dice.roll(2) == 0 {
                store.close().unwrap()
            } else {
                drop(store)
            }
            if lost {
                fs::remove_dir_all(dir.path().join(INDEX)).unwrap();
            }
            (rebuilds, restarts) = (rebuilds + u32::from(lost), restarts + 1);
            store = open(dir.path()).0;
        }
        if round % 10 != 9 {
            continue;
        }
        store.settle().unwrap();
        let reader = store.reader();
        for (feed, size) in (0..).zip(sizes) {
            let (tree, roots) = (reader.tree(feed, size), roots(feed, size));
            for _ in 0..50 {
                let new = dice.roll(size) + 1;
                let (index, old) = (dice.roll(new), dice.roll(new) + 1);
                let root = |size: u64| roots[size as usize];
                assert_eq!(tree.root(new).unwrap(), root(new));
                let path = tree.inclusion(index, new).unwrap();
                assert_eq!(verify_inclusion(&Hash(leaf(feed, index)), index, new, &path, &root(new)), Ok(()));
                let path = tree.consistency(old, new).unwrap();
                assert_eq!(verify_consistency(old, &root(old), new, &root(new), &path), Ok(()));
            }
            assert!(tree.root(size + 1).is_err() && tree.inclusion(0, size + 1).is_err() && tree.consistency(1, size + 1).is_err());
            assert!(tree.inclusion(size, size).is_err() && tree.consistency(0, size).is_err());
            assert_eq!(reader.node(feed, 0, size).unwrap(), None);
            assert_eq!(reader.node(feed, 64, 0).unwrap(), None);
        }
    }
    assert!(rebuilds > 1 && restarts > 8 && sizes.iter().all(|size| *size > 200), "{rebuilds}, {restarts}, {sizes:?}");
    let report = store.reader().audit(&|_| ()).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn an_append_writes_few_hashes_and_one_key_for_them() {
    let mut store = Store::temporary().unwrap();
    let reader = store.reader();
    let mut before = Written::default();
    for seq in 0..1100 {
        store.commit(batch([Entry::Hidden { feed: 1, seq, leaf: leaf(1, seq) }])).unwrap();
        store.settle().unwrap();
        let now = reader.status().written;
        let (nodes, keys) = (now.nodes - before.nodes, now.keys - before.keys);
        assert_eq!((now.leaves - before.leaves, nodes), (1, u64::from(seq.trailing_ones())), "at {seq}");
        assert!(nodes <= 2 * u64::from((seq + 1).ilog2()), "{nodes} hashes at {seq}");
        // The record, the nodes if any, and the place reached.
        assert_eq!(keys, 2 + u64::from(nodes > 0), "at {seq}");
        before = now;
    }
    assert_eq!(reader.counts().unwrap().nodes, 1100 - u64::from(1100_u64.count_ones()));
    // What is known already costs the tree nothing.
    store.commit(batch((0..100).map(|seq| statement(1, seq)))).unwrap();
    store.settle().unwrap();
    let now = reader.status().written;
    assert_eq!((now.leaves, now.nodes), (before.leaves, before.nodes));
    assert!(reader.tree(1, 1100).inclusion(50, 1100).is_ok());
}

#[test]
fn a_missing_node_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 100);
    let (store, _) = open(dir.path());
    let reader = store.reader();
    let (inclusion, root) = (reader.tree(1, 100).inclusion(3, 100).unwrap(), reader.tree(1, 100).root(100).unwrap());
    assert_eq!(verify_inclusion(&Hash(leaf(1, 3)), 3, 100, &inclusion, &root), Ok(()));
    store.shared.read(|db| Ok(db.remove(tree::nodes_key(1, 63))?)).unwrap();
    let error = reader.tree(1, 100).root(100).unwrap_err();
    assert_eq!(error.to_string(), "the index lacks the hash over entries 0 to 63 of feed number 1; run `lotline audit`");
    store.shared.read(|db| Ok(db.insert(tree::nodes_key(1, 63), b"too short")?)).unwrap();
    for size in 1..=100 {
        let _ = (reader.tree(1, 100).inclusion(size - 1, size), reader.tree(1, 100).consistency(size, 100));
    }
    assert!(matches!(reader.tree(1, 100).inclusion(70, 100), Err(StoreError::NoNode { feed: 1, first: 0, last: 63 })));
    assert!(matches!(reader.tree(1, 100).inclusion(100, 100), Err(StoreError::OutsideTree { .. })));
    // More than the index has.
    assert!(matches!(reader.tree(1, 200).root(150), Err(StoreError::NoNode { feed: 1, .. })));
    assert!(matches!(reader.tree(1, u64::MAX).root(u64::MAX), Err(StoreError::NoNode { feed: 1, .. })));
}

/// Commits that fill a feed in no order, and say other leaves for some entries afterwards.
fn disorder(dice: &mut Dice, entries: u64, commits: u64) -> Vec<Vec<(u64, [u8; 32])>> {
    let mut waiting: Vec<u64> = (0..entries).collect();
    (0..commits)
        .map(|commit| {
            let again = (0..dice.roll(3)).map(|_| dice.roll(entries)).collect::<Vec<_>>();
            let count = if commit + 1 == commits { waiting.len() } else { waiting.len().min(dice.roll(4) as usize) };
            let fresh = (0..count).map(|_| waiting.remove(dice.roll(1 + waiting.len().min(7) as u64 / 2) as usize)).collect::<Vec<_>>();
            fresh.into_iter().map(|seq| (seq, leaf(1, seq))).chain(again.into_iter().map(|seq| (seq, [dice.roll(256) as u8; 32]))).collect()
        })
        .collect()
}

fn stated((seq, leaf): (u64, [u8; 32])) -> Entry {
    match statement(1, seq) {
        Entry::Statement { feed, seq, core, summary, lot, part, .. } => Entry::Statement { feed, seq, leaf, core, summary, lot, part },
        _ => unreachable!(),
    }
}

/// No feed of ours is ever filled like this. The invariant that nodes follow from the leaves alone makes replay, rebuild
/// and audit right without a thought about what feeds do.
#[test]
fn trees_follow_from_their_leaves_in_any_order() {
    for seed in 0..8 {
        let mut dice = Dice(seed);
        let mut store = Store::temporary().unwrap();
        let mut leaves: BTreeMap<u64, [u8; 32]> = BTreeMap::new();
        for commit in disorder(&mut dice, 90, 60) {
            leaves.extend(commit.iter().copied());
            store.commit(batch(commit.into_iter().map(stated))).unwrap();
            if dice.roll(4) > 0 {
                continue;
            }
            store.settle().unwrap();
            let reader = store.reader();
            let mut below: BTreeMap<u64, Hash> = leaves.iter().map(|(seq, leaf)| (*seq, Hash(*leaf))).collect();
            for level in 1..9 {
                let pairs = below.iter().filter(|(at, _)| *at % 2 == 0);
                below = pairs.filter_map(|(at, left)| Some((at / 2, node_hash(left, below.get(&(at + 1))?)))).collect();
                for index in 0..=90 >> level {
                    assert_eq!(reader.node(1, level, index).unwrap(), below.get(&index).copied(), "{level}, {index}");
                }
            }
        }
        let report = store.reader().audit(&|_| ()).unwrap();
        assert!(report.is_clean(), "{report:?}");
        // The check after an unclean stop agrees.
        store.shared.checking(true);
        audit::check(&store.shared);
        assert_eq!(store.shared.phase(), Phase::Following);
    }
}

#[test]
fn an_index_stopped_before_any_key_goes_on_to_the_same() {
    let mut dice = Dice(3);
    let mut store = Store::temporary().unwrap();
    for commit in disorder(&mut dice, 20, 12) {
        store.commit(batch(commit.into_iter().map(stated))).unwrap();
    }
    store.settle().unwrap();
    let files = store.shared.files.clone();
    let mut frames = Vec::new();
    let mut at = files.advance(files.start());
    while at < store.journal.end {
        frames.push(files.frame(at).unwrap());
        at = files.advance(frames.last().unwrap().next);
    }
    let expected = store.shared.read(|db| Ok(dump(db))).unwrap();
    let mut stops = 0;
    for stop in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::make(&dir.path().join(INDEX), 1 << 20, None).unwrap();
        let mut writer = index.writer();
        index::STOP_AT_KEY.set(Some(stop));
        let done = frames.iter().take_while(|frame| writer.apply(frame, files.store).is_ok()).count();
        index::STOP_AT_KEY.set(None);
        // From where it stood, and once more from further back: sled may have lost its last seconds.
        for from in [done, done / 2] {
            let mut writer = index.writer();
            frames[from..].iter().for_each(|frame| writer.apply(frame, files.store).unwrap());
            assert_eq!(dump(&index.db), expected, "stopped before key {stop}");
        }
        if done == frames.len() {
            break;
        }
        stops += 1;
    }
    assert!(stops > 80, "{stops}");
}

#[test]
fn a_second_opening_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    assert!(matches!(try_open(dir.path()), Err(StoreError::Locked)));
    assert!(matches!(audit(dir.path(), &|_| ()), Err(StoreError::Locked)));
    drop(first);
    open(dir.path());
}

#[test]
fn a_torn_tail_is_cut_and_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    save(&mut store, 0..3);
    store.settle().unwrap();
    let end = store.journal.end;
    store.journal.fault = Some(Fault::ShortWrite);
    let torn = batch([statement(1, 3), statement(1, 4)]);
    assert!(matches!(store.commit(torn), Err(StoreError::Poisoned(_))));
    assert!(matches!(store.commit(batch([state("a", "b")])), Err(StoreError::Poisoned(_))), "poisoned until reopened");
    assert!(store.reader().row(1, 2).unwrap().is_some(), "reading goes on");
    drop(store);
    let (mut store, opened) = open(dir.path());
    assert!(opened.torn_tail_bytes > 16 && opened.damage.is_empty() && opened.restored.is_none(), "{opened:?}");
    assert_eq!(store.journal.end, end);
    commit(&mut store, 3);
    drop(store);
    let (store, opened) = open(dir.path());
    assert_eq!(opened.torn_tail_bytes, 0, "nothing of it was left");
    assert_holds(&store, 4);
}

#[test]
fn a_failed_sync_poisons_and_what_it_wrote_may_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    commit(&mut store, 0);
    store.journal.fault = Some(Fault::Sync);
    assert!(matches!(store.commit(batch([statement(1, 1)])), Err(StoreError::Poisoned(_))));
    store.journal.fault = None;
    assert!(matches!(store.commit(batch([statement(1, 1)])), Err(StoreError::Poisoned(_))));
    store.settle().unwrap();
    assert_eq!(store.reader().row(1, 1).unwrap(), None, "not acknowledged, not shown");
    drop(store);
    let (store, opened) = open(dir.path());
    assert_eq!((opened.replayed, opened.torn_tail_bytes), (1, 0));
    store.settle().unwrap();
    assert!(store.reader().row(1, 1).unwrap().is_some());
}

/// Damage in a closed segment and in the last frame, seen by the index or not.
#[test]
fn damage_is_reported_where_the_index_knows_it_and_refused_elsewhere() {
    let check = |number: Option<u32>, indexed: bool| {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 200);
        let manifest = Manifest::load(&dir.path().join(JOURNAL).join("manifest")).unwrap().unwrap();
        let last = manifest.segments.last().unwrap().number;
        if !indexed {
            fs::remove_dir_all(dir.path().join(INDEX)).unwrap();
        }
        let (number, offset) = match number {
            Some(number) => (number, 3000),
            None => {
                let bytes = fs::read(segment(dir.path(), last)).unwrap();
                (last, bytes.iter().rposition(|b| *b != 0).unwrap() as u64 - 20)
            }
        };
        flip(&segment(dir.path(), number), offset, 4);
        let report = audit(dir.path(), &|_| ()).unwrap();
        assert!(!report.is_clean());
        match try_open(dir.path()) {
            Err(StoreError::Damaged(damage)) => {
                assert!(!indexed);
                assert_eq!((damage.len(), damage[0].segment), (1, number));
                assert_eq!(damage[0].records.len(), 1, "{damage:?}");
                let (mut store, opened) = Store::open_damaged(dir.path(), SMALL, &|_| ()).unwrap();
                assert_eq!(opened.damage.len(), 1);
                commit(&mut store, 200);
                store.settle().unwrap();
                assert_eq!(store.reader().rows(1, 0, 1000).unwrap().len(), 200, "all but one");
                // The record comes back from a partner.
                let (feed, seq) = opened.damage[0].records[0];
                store.commit(batch([statement(feed, seq)])).unwrap();
                store.settle().unwrap();
                let row = store.reader().row(feed, seq).unwrap().unwrap();
                assert!(store.reader().core(&row).unwrap().is_some());
            }
            Err(e) => panic!("{e}"),
            Ok((mut store, opened)) => {
                assert!(indexed);
                assert!(number != last || opened.damage.len() == 1, "{opened:?}");
                assert!(number != last || !opened.damage[0].records.is_empty(), "{opened:?}");
                commit(&mut store, 200);
                drop(store);
                let (store, again) = open(dir.path());
                store.settle().unwrap();
                assert!(number != last || again.damage.len() == 1, "reported every time: {again:?}");
                assert_eq!(store.reader().rows(1, 0, 1000).unwrap().len(), 201);
                store.shared.wait_checked();
                assert_eq!(store.reader().status().damage.len(), 1, "the check after an unclean stop reads all");
                assert!(!store.reader().audit(&|_| ()).unwrap().damage.is_empty());
            }
        }
    };
    check(Some(2), true);
    check(Some(2), false);
    check(None, true);
    check(None, false);
}

/// The rule by which opening judges a journal, on 10,000 flips of one bit: all commits are there, or damage is told.
#[test]
fn no_flipped_bit_goes_unnoticed() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 120);
    let manifest = Manifest::load(&dir.path().join(JOURNAL).join("manifest")).unwrap().unwrap();
    let files = Files::open(&dir.path().join(JOURNAL), 0).unwrap();
    let whole = files.survey(files.start(), &|_, _| ()).unwrap();
    assert_eq!((whole.frames, whole.damage.len()), (120, 0));
    let (first, end) = (files.start(), whole.end);
    // Where frames start, and the whole extent of each segment; the last frame.
    let mut heads = Vec::new();
    let mut last_frame = first;
    let damage = files.walk(first, end, |at, _, _| {
        heads.push(at);
        last_frame = at;
        true
    });
    assert_eq!(damage.unwrap(), []);
    let mut dice = Dice(11);
    let (mut harmless, mut told) = (0, 0);
    for n in 0..10_000 {
        let (number, offset) = match n % 4 {
            0 => (end.segment, last_frame.offset as u64 + dice.roll((end.offset - last_frame.offset).into())),
            1 => {
                let head = heads[dice.roll(heads.len() as u64) as usize];
                (head.segment, u64::from(head.offset) + dice.roll(16))
            }
            _ => {
                let number = manifest.segments[dice.roll(manifest.segments.len() as u64) as usize].number;
                (number, dice.roll(16 << 10))
            }
        };
        let (path, mask) = (segment(dir.path(), number), 1 << dice.roll(8));
        flip(&path, offset, mask);
        let mut survey = files.survey(first, &|_, _| ()).unwrap();
        let torn = survey.settle_tail(end);
        match survey.damage.is_empty() {
            true => {
                harmless += 1;
                let used = manifest.segments[number as usize - 1].end.unwrap_or(end.offset);
                assert!(survey.frames == 120 && offset >= used.into(), "segment {number} offset {offset}: unnoticed");
                assert!(torn > 0 || number != end.segment);
                assert!(torn == 0 || survey.end == end);
            }
            false => told += 1,
        }
        flip(&path, offset, mask);
    }
    assert!(harmless > 100 && told > 7000, "{harmless} {told}");
}

/// The same through the whole opening, for fewer.
#[test]
fn flips_before_opening_lose_nothing_silently() {
    let home = tempfile::tempdir().unwrap();
    let origin = home.path().join("origin");
    fill(&origin, 60);
    let mut dice = Dice(3);
    for n in 0..24 {
        let dir = home.path().join(n.to_string());
        copy_dir(&origin, &dir);
        if n % 2 == 0 {
            fs::remove_dir_all(dir.join(INDEX)).unwrap();
        }
        flip(&segment(&dir, 1 + dice.roll(2) as u32), dice.roll(16 << 10), 16);
        match try_open(&dir) {
            Ok((store, opened)) => {
                store.settle().unwrap();
                assert_eq!(store.reader().rows(1, 0, 100).unwrap().len(), 60, "{opened:?}");
            }
            Err(StoreError::Damaged(damage)) => assert!(!damage.is_empty()),
            Err(e) => panic!("{e}"),
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn zeros_within_the_journal_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 10);
    let file = fs::File::options().write(true).open(segment(dir.path(), 1)).unwrap();
    disk::write_at(&file, &[0; 1024], 64).unwrap();
    let (_, opened) = open(dir.path());
    assert_eq!((opened.damage.len(), opened.damage[0].offset), (1, 64));
    assert!(!opened.damage[0].records.is_empty(), "the index knows whose they were: {opened:?}");
}

#[test]
fn a_missing_segment_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 200);
    fs::remove_file(segment(dir.path(), 2)).unwrap();
    let (store, opened) = open(dir.path());
    assert_eq!(opened.damage.len(), 1);
    assert!(opened.damage[0].to_string().contains("segment 2") && opened.damage[0].records.len() > 10);
    drop(store);
    fs::remove_dir_all(dir.path().join(INDEX)).unwrap();
    assert!(matches!(try_open(dir.path()), Err(StoreError::Damaged(_))));
    let (store, _) = Store::open_damaged(dir.path(), SMALL, &|_| ()).unwrap();
    store.settle().unwrap();
    assert_eq!(store.reader().rows(1, 0, 1000).unwrap().len(), 200 - opened.damage[0].records.len());
}

#[test]
fn a_lost_index_is_rebuilt_equal() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 150);
    let dump = |store: &Store| {
        store.settle().unwrap();
        store.shared.read(|db| Ok(dump(db))).unwrap()
    };
    let (store, _) = open(dir.path());
    let before = dump(&store);
    store.close().unwrap();
    fs::remove_dir_all(dir.path().join(INDEX)).unwrap();
    let (mut store, opened) = open(dir.path());
    assert_eq!((opened.rebuilt.as_deref(), opened.replayed), (Some("it is missing"), 150));
    commit(&mut store, 150);
    let after = dump(&store);
    assert_eq!(after.len(), before.len() + 2 + 1 - usize::from(150 % 5 == 0));
    assert_holds(&store, 151);
}

#[test]
fn a_broken_index_is_set_aside_whatever_breaks() {
    let home = tempfile::tempdir().unwrap();
    let origin = home.path().join("origin");
    let open = |dir: &Path| Store::open(dir, Options { segment_bytes: 1 << 20, ..SMALL }, &|_| ()).unwrap();
    let (mut store, _) = open(&origin);
    for group in 0..30 {
        // Long summaries, so that sled's file has several of its segments.
        let shown = |seq| Entry::Describe { feed: 1, seq, summary: vec![seq as u8; 600], lot: None, part: None };
        store.commit(batch((group * 100..group * 100 + 100).flat_map(|seq| [statement(1, seq), shown(seq)]))).unwrap();
    }
    store.settle().unwrap();
    drop(store); // unclean, so that the index is checked at the next start
    let mut dice = Dice(5);
    let (mut at_once, mut by_check, mut replayed, mut noticed) = (0, 0, 0, 0);
    for n in 0..12 {
        let dir = home.path().join(n.to_string());
        copy_dir(&origin, &dir);
        let db = dir.join(INDEX).join("db");
        let used: Vec<_> = fs::read(&db).unwrap().into_iter().enumerate().filter(|(_, b)| *b != 0).collect();
        for _ in 0..if n < 6 { 50 } else { 1 } {
            flip(&db, used[dice.roll(used.len() as u64) as usize].0 as u64, 1 << dice.roll(8));
        }
        let (mut store, opened) = open(&dir);
        store.shared.wait_checked();
        let set_aside = dir.join("index.broken").exists();
        assert!(opened.rebuilt.is_some() || !set_aside);
        at_once += u64::from(set_aside);
        replayed += u64::from(!set_aside && opened.replayed > 0); // sled took the rest of its log for torn
        noticed += u64::from(n < 6 && (set_aside || opened.replayed > 0 || store.shared.phase() == Phase::Failed));
        if store.shared.phase() == Phase::Failed {
            by_check += 1;
            drop(store);
            store = open(&dir).0;
        }
        store.settle().unwrap();
        assert_eq!(store.reader().rows(1, 0, usize::MAX).unwrap().len(), 3000);
        let report = store.reader().audit(&|_| ()).unwrap();
        assert!(report.is_clean(), "{report:?}");
        drop(store);
        fs::remove_dir_all(&dir).unwrap();
    }
    eprintln!("rebuilt {at_once}, by the check {by_check}, replayed {replayed}");
    assert!(noticed == 6 && at_once > 0, "fifty flips never pass: {noticed}, {at_once}");
}

#[test]
fn an_index_of_another_version_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 100);
    let (store, _) = open(dir.path());
    // As the first version left it: its number in front of the place reached, and no trees.
    let spoil = |db: &sled::Db| -> sled::Result<()> {
        for key in db.scan_prefix([index::NODES]).keys() {
            db.remove(key?)?;
        }
        let mut meta = db.get(b"m")?.unwrap().to_vec();
        meta[0] = 1;
        db.insert(b"m", meta).map(drop)
    };
    store.shared.read(|db| spoil(db).map_err(Into::into)).unwrap();
    store.close().unwrap();
    let report = audit(dir.path(), &|_| ()).unwrap();
    assert_eq!(report.differences, ["the index cannot be used: it was made by another version of Lotline"]);
    let (store, opened) = open(dir.path());
    assert_eq!((opened.rebuilt.as_deref(), opened.replayed), (Some("it was made by another version of Lotline"), 100));
    assert_holds(&store, 100);
    assert!(store.reader().tree(1, 100).inclusion(50, 100).is_ok());
}

#[test]
fn a_panic_in_sled_is_caught() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 10);
    index::PANIC_IN_OPEN.set(true);
    let (store, opened) = open(dir.path());
    assert_eq!(opened.rebuilt.as_deref(), Some("it panicked: injected panic in open"));
    assert_holds(&store, 10);
}

#[test]
fn an_index_that_lies_is_found_after_an_unclean_stop() {
    let check = |spoil: &dyn Fn(&sled::Db) -> sled::Result<Option<sled::IVec>>| {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 100);
        let (store, _) = open(dir.path());
        store.shared.read(|db| spoil(db).map_err(Into::into)).unwrap();
        drop(store);
        let (mut store, opened) = open(dir.path());
        assert_eq!((opened.rebuilt, opened.replayed), (None, 0));
        store.shared.wait_checked();
        assert!(matches!(store.reader().row(1, 1), Err(StoreError::Rebuilding)));
        assert!(matches!(store.settle(), Err(StoreError::Rebuilding)));
        assert!(store.reader().status().index_failed);
        commit(&mut store, 100); // saving goes on
        store.close().unwrap();
        let (store, opened) = open(dir.path());
        assert!(opened.rebuilt.is_some(), "{opened:?}");
        assert_holds(&store, 101);
    };
    check(&|db| db.remove(index::record_key(1, 50)));
    check(&|db| db.insert(index::record_key(1, 100), db.get(index::record_key(1, 1))?.unwrap()));
    check(&|db| db.remove(b"shead"));
    check(&|db| db.insert(b"shead", b"98"));
    check(&|db| db.remove(db.scan_prefix(b"l").keys().next().unwrap()?));
    check(&|db| db.insert(index::record_key(1, 50), b"rubbish"));
    check(&|db| db.remove(tree::nodes_key(1, 51)));
    check(&|db| db.insert(tree::nodes_key(1, 51), vec![7; 64]));
    check(&|db| db.insert(tree::nodes_key(1, 50), &[7; 32]));
}

#[test]
fn an_audit_names_what_differs() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 20);
    let (store, _) = open(dir.path());
    store.shared.read(|db| Ok(db.remove(index::record_key(1, 7))?)).unwrap();
    let report = store.reader().audit(&|_| ()).unwrap();
    assert_eq!(report.differences, ["record 7 of feed 1 is missing"]);
    store.shared.read(|db| Ok((db.remove(tree::nodes_key(1, 3))?, db.insert(tree::nodes_key(1, 5), &[7; 32])?))).unwrap();
    let report = store.reader().audit(&|_| ()).unwrap();
    let trees = ["the tree at record 3 of feed 1 is missing", "the tree at record 5 of feed 1 differs"];
    assert_eq!(report.differences, [trees[0], trees[1], "record 7 of feed 1 is missing"]);
    drop(store);
    let report = audit(dir.path(), &|_| ()).unwrap();
    assert_eq!((report.different, report.commits), (3, 20));
    fs::write(dir.path().join(INDEX).join("db"), b"rubbish").unwrap();
    assert_eq!(audit(dir.path(), &|_| ()).unwrap().different, 1);
    assert!(audit(&dir.path().join("none"), &|_| ()).is_err());
}

#[test]
fn an_audit_runs_while_commits_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let (reader, done) = (store.reader(), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        let audits = scope.spawn(|| {
            let reports: Vec<_> = (0..5).map(|_| reader.audit(&|_| ()).unwrap()).collect();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            reports
        });
        let mut seq = 0;
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            commit(&mut store, seq);
            seq += 1;
        }
        for report in audits.join().unwrap() {
            assert!(report.is_clean(), "{report:?}");
        }
    });
}

#[test]
fn a_kill_at_any_moment_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("live");
    let (mut store, _) = open(&dir);
    for seq in 0..250 {
        commit(&mut store, seq);
        if seq % 25 == 7 {
            // The follower is at work meanwhile, so sled's files are copied in the middle of something.
            let copy = home.path().join(seq.to_string());
            copy_dir(&dir, &copy);
            let (killed, opened) = open(&copy);
            assert!(opened.damage.is_empty() && opened.restored.is_none(), "{opened:?}");
            assert_holds(&killed, seq + 1);
            killed.shared.wait_checked();
            assert_eq!(killed.shared.phase(), Phase::Following);
        }
    }
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 1);
    let newer = |e: Result<(Store, Opened), StoreError>| match e {
        Err(e @ StoreError::Newer(2 | 3)) => e.to_string(),
        _ => panic!("opened"),
    };
    let path = segment(dir.path(), 1);
    let old = fs::read(&path).unwrap();
    let mut bytes = old.clone();
    bytes[8] = 2;
    let sum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert!(newer(try_open(dir.path())).contains("newer Lotline (format 2); update the program"));
    fs::write(&path, &old).unwrap();
    let path = dir.path().join(JOURNAL).join("manifest");
    let text = fs::read_to_string(&path).unwrap().replace("format 1", "format 3");
    let listed = text.rsplit_once("crc32c").unwrap().0;
    fs::write(&path, format!("{listed}crc32c {:08x}\n", crc32c::crc32c(listed.as_bytes()))).unwrap();
    newer(try_open(dir.path()));
}

#[test]
fn a_manifest_that_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 10);
    let manifest = dir.path().join(JOURNAL).join("manifest");
    let early = fs::read(&manifest).unwrap();
    let (mut store, _) = open(dir.path());
    save(&mut store, 10..200);
    drop(store);
    fs::write(&manifest, &early).unwrap();
    assert!(matches!(try_open(dir.path()), Err(StoreError::Manifest { .. })), "segments with commits are not thrown away");
    fs::remove_file(&manifest).unwrap();
    assert!(matches!(try_open(dir.path()), Err(StoreError::Manifest { .. })));
}

#[test]
fn a_restored_store_knows_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("node");
    fill(&dir, 40);
    let (mut store, opened) = open(&dir);
    assert_eq!(opened.restored, None);
    let backup = home.path().join("backup");
    let copied = store.reader().copy_for_backup(&backup, &|_| ()).unwrap();
    assert!(copied > 1000 && !backup.join("seal").exists() && !backup.join(INDEX).exists());
    assert!(store.reader().copy_for_backup(&backup, &|_| ()).is_err(), "a backup is never written over");
    save(&mut store, 40..60);
    store.close().unwrap();

    // Put back elsewhere: no seal. It stays restored until confirmed, commits or not.
    for _ in 0..2 {
        let (store, opened) = open(&backup);
        assert_eq!(opened.restored, Some(RestoredWhy::SealMissing));
        assert_holds(&store, 40);
        store.close().unwrap();
    }
    let (mut store, _) = open(&backup);
    store.confirm_restored().unwrap();
    commit(&mut store, 40);
    store.close().unwrap();
    assert_eq!(open(&backup).1, Opened::default());

    // Put back over the same node: the seal and the index have seen more.
    fs::remove_dir_all(dir.join(JOURNAL)).unwrap();
    let old = home.path().join("old");
    copy_for_backup(&backup, &old, &|_| ()).unwrap();
    copy_dir(&old.join(JOURNAL), &dir.join(JOURNAL));
    let (store, opened) = open(&dir);
    assert_eq!(opened.restored, Some(RestoredWhy::IndexAhead));
    assert_holds(&store, 41);
    drop(store);
    fs::remove_dir_all(dir.join(INDEX)).unwrap();
    assert_eq!(open(&dir).1.restored, Some(RestoredWhy::SealAhead));

    // Another machine, another store, rubbish.
    let note = Note { machine: [1; 32], store: [0; 16], end: Position::default(), clean: true };
    let seal = |note: &Note| Seal::open(&dir.join("seal")).unwrap().0.write(note).unwrap();
    seal(&note);
    assert_eq!(open(&dir).1.restored, Some(RestoredWhy::OtherMachine));
    seal(&Note { machine: disk::machine_id(), ..note });
    assert_eq!(open(&dir).1.restored, Some(RestoredWhy::OtherStore));
    fs::write(dir.join("seal"), b"rubbish").unwrap();
    assert_eq!(open(&dir).1.restored, Some(RestoredWhy::SealUnreadable));
}

/// A text that stands nowhere else, in slot 3 of a record, and as its summary and lot.
fn secret(seq: u64) -> String {
    format!("secret-{seq:06}-of-somebody")
}

/// One commit: a record with a secret, and something in slot 5 that is none.
fn commit_secret(store: &mut Store, seq: u64) {
    let Entry::Statement { feed, seq, leaf, core, part, .. } = statement(1, seq) else { unreachable!() };
    let shown = Entry::Statement { feed, seq, leaf, core, summary: secret(seq).into(), lot: Some(secret(seq)), part };
    let opened = |slots| Entry::Disclosures { feed: 1, seq, slots };
    let (first, later) = (vec![(3, secret(seq).into()), (5, b"kept".to_vec())], vec![(3, secret(seq).into()), (7, b"later".to_vec())]);
    store.commit(batch([shown, opened(first), opened(later)])).unwrap();
}

fn order(seq: u64, slots: u64) -> Entry {
    let (summary, why) = (b"new".to_vec(), "asked".to_owned());
    Entry::Forgotten { feed: 1, seq, slots, at: 1000, why, summary, lot: None, part: Some("P".into()) }
}

/// Which secrets stand in any file below a folder.
fn secrets_below(dir: &Path, found: &mut BTreeSet<u64>) {
    for path in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if path.is_dir() {
            secrets_below(&path, found);
            continue;
        }
        let Ok(bytes) = fs::read(&path) else { continue };
        for at in bytes.windows(7).enumerate().filter(|(_, at)| at == b"secret-").map(|(at, _)| at) {
            let number: Option<u64> = bytes.get(at + 7..at + 13).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            found.extend(number);
        }
    }
}

fn secrets(dir: &Path) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    secrets_below(dir, &mut found);
    found
}

/// Every record is there, with its secret unless it is one of `gone`; nothing is said to be wrong.
fn assert_forgotten(store: &Store, commits: u64, gone: &BTreeSet<u64>) {
    store.settle().unwrap();
    let reader = store.reader();
    for seq in 0..commits {
        let row = reader.row(1, seq).unwrap().unwrap();
        let Entry::Statement { core, leaf, .. } = statement(1, seq) else { unreachable!() };
        assert_eq!((reader.core(&row).unwrap(), row.leaf), (Some(core), leaf), "what is signed stays");
        let (kept, later) = ((5, b"kept".to_vec()), (7, b"later".to_vec()));
        if gone.contains(&seq) {
            assert_eq!((row.slots(), row.forgotten_slots()), (1 << 5 | 1 << 7, 1 << 3));
            assert_eq!(row.forgotten, [Forgotten { slots: 1 << 3, at: 1000, why: "asked".into() }]);
            assert_eq!(reader.disclosures(&row).unwrap(), [kept, later]);
            assert_eq!((&*row.summary, row.lot, row.part.as_deref()), (&b"new"[..], None, Some("P")));
            assert_eq!(reader.by_lot(&secret(seq)).unwrap(), []);
        } else {
            assert_eq!((row.slots(), row.forgotten_slots()), (1 << 3 | 1 << 5 | 1 << 7, 0));
            assert_eq!(reader.disclosures(&row).unwrap(), [(3, secret(seq).into()), kept, later]);
            assert_eq!(reader.by_lot(&secret(seq)).unwrap(), [(1, seq)]);
        }
    }
    assert_eq!(reader.by_part("P").unwrap().len() as u64, commits);
    let root = roots(1, commits)[commits as usize];
    assert_eq!(reader.tree(1, commits).root(commits).unwrap(), root);
    let report = reader.audit(&|_| ()).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn what_is_forgotten_is_in_no_file_and_everything_else_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    (0..120).for_each(|seq| commit_secret(&mut store, seq));
    assert!(store.reader().status().segments > 3);
    // An index that was set aside holds it as well.
    copy_dir(&dir.path().join(INDEX), &dir.path().join("index.broken"));
    let gone = BTreeSet::from([0, 60, 61, 119]);
    assert_eq!(secrets(dir.path()).len(), 120);
    store.forget(vec![batch([order(0, 1 << 3), order(60, 1 << 3)]), batch([order(61, 1 << 3), order(119, 1 << 3)])]).unwrap();
    assert_eq!(secrets(dir.path()).intersection(&gone).count(), 0);
    assert_forgotten(&store, 120, &gone);
    let dumped = store.shared.read(|db| Ok(dump(db))).unwrap();

    // It goes on, and what comes again stays forgotten.
    let again = Entry::Disclosures { feed: 1, seq: 60, slots: vec![(3, b"again".to_vec())] };
    store.commit(batch([again])).unwrap();
    assert_forgotten(&store, 120, &gone);
    store.close().unwrap();
    assert!(audit(dir.path(), &|_| ()).unwrap().is_clean());
    let (store, opened) = open(dir.path());
    assert_eq!(opened, Opened::default());
    assert_forgotten(&store, 120, &gone);
    drop(store);
    fs::remove_dir_all(dir.path().join(INDEX)).unwrap();
    let (mut store, _) = open(dir.path());
    assert_forgotten(&store, 120, &gone);
    let without_place = |rows: Vec<(sled::IVec, sled::IVec)>| rows.into_iter().filter(|(key, _)| **key != *b"m").collect::<Vec<_>>();
    assert_eq!(without_place(store.shared.read(|db| Ok(dump(db))).unwrap()), without_place(dumped));

    // More of the same, and of a record that was touched before.
    store.forget(vec![batch([order(60, 1 << 5), order(7, 1 << 3)])]).unwrap();
    let row = store.reader().row(1, 60).unwrap().unwrap();
    assert_eq!((row.forgotten.len(), row.slots(), row.forgotten_slots()), (2, 1 << 7, 1 << 3 | 1 << 5));
    assert!(!secrets(dir.path()).contains(&7));
    store.forget(vec![]).unwrap();
    // A closed segment takes no more room than it has frames.
    let longest = fs::read_dir(dir.path().join(JOURNAL)).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect::<Vec<_>>();
    assert!(longest.iter().filter(|bytes| **bytes == 16 << 10).count() <= 1, "{longest:?}");
}

/// On a busy machine the thread of an index may begin to run only after its index was set aside: it must end, or whoever waits for
/// it to end waits for ever.
#[test]
fn a_thread_that_begins_late_ends_when_its_index_was_set_aside() {
    let home = tempfile::tempdir().unwrap();
    fill(home.path(), 3);
    let (store, _) = open(home.path());
    let (shared, generation) = (store.shared.clone(), store.shared.generation());
    let index = shared.take_index().unwrap();
    shared.set_index_aside();
    let (done, ended) = std::sync::mpsc::channel();
    let late = std::thread::spawn({
        let shared = shared.clone();
        move || {
            follower::follow(&shared, &index, generation);
            done.send(()).unwrap();
        }
    });
    let in_time = ended.recv_timeout(std::time::Duration::from_secs(60));
    shared.stop();
    late.join().unwrap();
    in_time.expect("it ends by itself");
}

/// The program ends before each step of forgetting; the next one finds all of the old or all of the new.
#[test]
fn forgetting_killed_before_any_step_is_done_by_the_next_start_or_was_not_ordered() {
    let home = tempfile::tempdir().unwrap();
    let origin = home.path().join("origin");
    let (mut store, _) = open(&origin);
    (0..60).for_each(|seq| commit_secret(&mut store, seq));
    store.close().unwrap();
    let gone = BTreeSet::from([2, 30, 59]);
    let (mut untouched, mut carried_out) = (0, 0);
    for stop in 0.. {
        let (dir, killed) = (home.path().join(format!("{stop}")), home.path().join(format!("{stop}-killed")));
        copy_dir(&origin, &dir);
        let (mut store, _) = open(&dir);
        journal::STEPS_LEFT.set(Some(stop));
        let outcome = store.forget(vec![batch([order(2, 1 << 3), order(30, 1 << 3), order(59, 1 << 3)])]);
        // As a kill leaves it.
        copy_dir(&dir, &killed);
        journal::STEPS_LEFT.set(None);
        drop(store);
        let Err(why) = outcome else {
            assert!(stop > 10, "{stop} steps");
            break;
        };
        let ordered = matches!(why, StoreError::Ordered(_));
        for dir in [&dir, &killed] {
            // The start that carries it out may be killed as well.
            for again in 0..8 {
                journal::STEPS_LEFT.set(Some(again));
                let _ = try_open(dir);
                journal::STEPS_LEFT.set(None);
            }
            let (mut store, opened) = open(dir);
            assert!(opened.damage.is_empty() && opened.restored.is_none(), "{opened:?}");
            match ordered {
                false => {
                    assert_forgotten(&store, 60, &BTreeSet::new());
                    store.forget(vec![batch([order(2, 1 << 3), order(30, 1 << 3), order(59, 1 << 3)])]).unwrap();
                    untouched += 1;
                }
                true => carried_out += 1,
            }
            assert_forgotten(&store, 60, &gone);
            assert_eq!(secrets(dir).intersection(&gone).count(), 0, "stopped before step {stop}: {why}");
            drop(store);
            fs::remove_dir_all(dir).unwrap();
        }
    }
    assert!(untouched >= 4 && carried_out > 16, "{untouched}, {carried_out}");
}

/// Whatever is killed when, there is no copy or a whole one, from before the change; and it does not keep what is forgotten.
#[test]
fn a_copy_from_before_a_change_is_whole_or_not_there_and_goes_with_a_forgetting() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    (0..60).for_each(|seq| commit_secret(&mut store, seq));
    let copy = dir.path().join("before-change");
    let mut stops = 0;
    loop {
        journal::STEPS_LEFT.set(Some(stops));
        let copied = store.copy_before("change", &|_| ());
        journal::STEPS_LEFT.set(None);
        if copied.is_ok() {
            break;
        }
        assert!(!copy.exists(), "stopped before step {stops}");
        drop(store);
        store = open(dir.path()).0;
        let left = fs::read_dir(dir.path()).unwrap().filter(|entry| entry.as_ref().unwrap().file_name() == "copying-change");
        assert_eq!(left.count(), 0, "the next start clears it away");
        stops += 1;
    }
    assert!(stops > 2, "{stops} steps");
    commit_secret(&mut store, 60);
    store.copy_before("change", &|_| ()).unwrap();
    assert_forgotten(&open(&copy).0, 60, &BTreeSet::new());
    store.forget(vec![batch([order(2, 1 << 3)])]).unwrap();
    assert!(!copy.exists() && !secrets(dir.path()).contains(&2));
    drop(store);

    // Killed behind the order and before the copy went: the next start carries it out there too.
    let (mut store, _) = open(dir.path());
    store.copy_before("change", &|_| ()).unwrap();
    journal::STEPS_LEFT.set(Some(3));
    assert!(matches!(store.forget(vec![batch([order(30, 1 << 3)])]), Err(StoreError::Ordered(_))));
    journal::STEPS_LEFT.set(None);
    drop(store);
    assert!(copy.exists() && secrets(dir.path()).contains(&30));
    let (store, _) = open(dir.path());
    assert_forgotten(&store, 61, &BTreeSet::from([2, 30]));
    assert!(!copy.exists() && !secrets(dir.path()).contains(&30));
}

/// The same while it runs on: a disk that fails in the middle leaves the rest to the next order.
#[test]
fn forgetting_that_failed_goes_on_with_the_next_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    (0..60).for_each(|seq| commit_secret(&mut store, seq));
    journal::STEPS_LEFT.set(Some(4));
    let outcome = store.forget(vec![batch([order(2, 1 << 3)])]);
    journal::STEPS_LEFT.set(None);
    assert!(matches!(outcome, Err(StoreError::Ordered(_))), "{outcome:?}");
    store.settle().unwrap();
    let row = store.reader().row(1, 2).unwrap().unwrap();
    assert_eq!(store.reader().disclosures(&row).unwrap().len(), 2, "closed from the order on");
    assert!(store.reader().audit(&|_| ()).unwrap().is_clean());
    commit_secret(&mut store, 60);
    store.forget(vec![batch([order(30, 1 << 3)])]).unwrap();
    assert_forgotten(&store, 61, &BTreeSet::from([2, 30]));
    assert!(!secrets(dir.path()).contains(&2) && !secrets(dir.path()).contains(&30));
}

/// Of many orders the first may stand while the second cannot be written: that is said, and no less.
#[test]
fn an_order_that_stops_behind_its_first_commit_says_that_it_is_ordered() {
    for stop in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path());
        (0..60).for_each(|seq| commit_secret(&mut store, seq));
        journal::STEPS_LEFT.set(Some(stop));
        let outcome = store.forget(vec![batch([order(2, 1 << 3)]), batch([order(30, 1 << 3)])]);
        journal::STEPS_LEFT.set(None);
        drop(store);
        let ordered = matches!(outcome.unwrap_err(), StoreError::Ordered(_));
        let (store, _) = open(dir.path());
        assert_forgotten(&store, 60, &if ordered { BTreeSet::from([2]) } else { BTreeSet::new() });
        if ordered {
            return;
        }
    }
}

#[test]
fn readers_meanwhile_get_the_old_answer_or_none_and_later_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    (0..200).for_each(|seq| commit_secret(&mut store, seq));
    store.settle().unwrap();
    let (reader, done) = (store.reader(), std::sync::atomic::AtomicBool::new(false));
    let row = reader.row(1, 50).unwrap().unwrap();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut refused = 0;
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                match reader.row(1, 50).and_then(|row| reader.disclosures(&row.unwrap())) {
                    Ok(slots) => assert!(slots.len() == 3 || slots.len() == 2),
                    Err(StoreError::Rebuilding) => refused += 1,
                    Err(e) => panic!("{e}"),
                }
            }
            refused
        });
        store.forget(vec![batch([order(50, 1 << 3)])]).unwrap();
        // Whoever still holds the place it stood at reads zeros, through whatever file was open.
        assert_eq!(reader.disclosures(&row).unwrap().len(), 2);
        done.store(true, std::sync::atomic::Ordering::Release);
        reading.join().unwrap();
    });
    // A copy or an audit sees one journal, so it is not changed under them.
    let shared = store.shared.clone();
    let still = shared.files.still.read().unwrap();
    assert!(matches!(store.forget(vec![batch([order(51, 1 << 3)])]), Err(StoreError::Copying)));
    drop(still);
    store.forget(vec![batch([order(51, 1 << 3)])]).unwrap();
}

#[test]
fn a_backup_knows_what_was_forgotten_and_a_damaged_journal_forgets_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("node");
    let (mut store, _) = open(&dir);
    (0..60).for_each(|seq| commit_secret(&mut store, seq));
    store.forget(vec![batch([order(9, 1 << 3)])]).unwrap();
    let backup = home.path().join("backup");
    store.reader().copy_for_backup(&backup, &|_| ()).unwrap();
    // One made between the order and its end is carried out where it is restored.
    let pending = home.path().join("pending");
    journal::STEPS_LEFT.set(Some(3));
    assert!(store.forget(vec![batch([order(10, 1 << 3)])]).is_err());
    journal::STEPS_LEFT.set(None);
    store.reader().copy_for_backup(&pending, &|_| ()).unwrap();
    assert!(secrets(&pending).contains(&10));
    drop(store);
    for (dir, gone) in [(&backup, BTreeSet::from([9])), (&pending, BTreeSet::from([9, 10]))] {
        let (store, _) = open(dir);
        assert_forgotten(&store, 60, &gone);
        assert_eq!(secrets(dir).intersection(&gone).count(), 0);
    }
    // Older programs refuse the store instead of taking in again what was forgotten.
    let manifest = fs::read_to_string(dir.join(JOURNAL).join("manifest")).unwrap();
    assert!(manifest.starts_with("lotline journal\nformat 2\n"), "{manifest}");

    let (mut store, _) = open(&backup);
    flip(&segment(&backup, 2), 3000, 4);
    assert!(matches!(store.forget(vec![batch([order(11, 1 << 3)])]), Err(StoreError::Damaged(_))));
    assert_eq!(store.reader().row(1, 11).unwrap().unwrap().forgotten, []);
}

/// Damage that the owner went on without forbids forgetting only where it may hide what is to go.
#[test]
fn old_damage_elsewhere_does_not_forbid_forgetting() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    (0..200).for_each(|seq| commit_secret(&mut store, seq));
    store.close().unwrap();
    flip(&segment(dir.path(), 1), 3000, 4);
    let (mut store, _) = open(dir.path());
    assert!(matches!(store.forget(vec![batch([order(199, 1 << 3)])]), Err(StoreError::Damaged(_))), "the index shows what stood there");
    drop(store);
    fs::remove_dir_all(dir.path().join(INDEX)).unwrap();
    let (mut store, _) = Store::open_damaged(dir.path(), SMALL, &|_| ()).unwrap();
    store.settle().unwrap();
    let beside = 1;
    assert!(matches!(store.forget(vec![batch([order(beside, 1 << 3)])]), Err(StoreError::Damaged(_))), "in the damaged segment");
    store.forget(vec![batch([order(199, 1 << 3)])]).unwrap();
    assert!(!secrets(dir.path()).contains(&199) && secrets(dir.path()).contains(&beside));
    assert_eq!(store.reader().row(1, 199).unwrap().unwrap().forgotten_slots(), 1 << 3);
    assert_eq!(store.reader().row(1, beside).unwrap().unwrap().forgotten, []);
}

#[test]
fn no_flipped_bit_goes_unnoticed_in_what_was_blanked() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    (0..60).for_each(|seq| commit_secret(&mut store, seq));
    store.forget(vec![batch((0..60).map(|seq| order(seq, 1 << 3)))]).unwrap();
    store.close().unwrap();
    assert_eq!(secrets(dir.path()).len(), 0);
    let files = Files::open(&dir.path().join(JOURNAL), 0).unwrap();
    let end = files.survey(files.start(), &|_, _| ()).unwrap().end;
    let mut dice = Dice(5);
    let closed = files.listed().len() as u64 - 1;
    for _ in 0..2000 {
        let listed = files.listed()[dice.roll(closed) as usize];
        let (path, offset, mask) = (segment(dir.path(), listed.number), dice.roll(listed.end.unwrap().into()), 1 << dice.roll(8));
        flip(&path, offset, mask);
        let mut survey = files.survey(files.start(), &|_, _| ()).unwrap();
        survey.settle_tail(end);
        assert!(!survey.damage.is_empty(), "segment {} offset {offset}", listed.number);
        flip(&path, offset, mask);
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_told_before_anything_is_acknowledged() {
    let Some(disk) = SmallDisk::new(2 << 20) else {
        return eprintln!("SKIPPED a_full_disk_is_told_before_anything_is_acknowledged: needs root and tmpfs");
    };
    let dir = disk.0.path().join("home");
    let options = Options { segment_bytes: 256 << 10, cache_bytes: 1 << 20 };
    // The index elsewhere, so that it is the journal that meets the end of the disk.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir_all(&dir).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), dir.join(INDEX)).unwrap();
    let (mut store, _) = Store::open(&dir, options, &|_| ()).unwrap();
    let mut saved = BTreeSet::new();
    let commit = |store: &mut Store, seq: u64| store.commit(batch((0..100).map(|i| statement(1, seq * 100 + i))));
    let refused = (0..).find_map(|seq| match commit(&mut store, seq) {
        Ok(_) => {
            saved.insert(seq);
            None
        }
        Err(e) => Some(e),
    });
    assert!(matches!(refused, Some(StoreError::DiskFull { .. })), "{refused:?}");
    assert!(matches!(commit(&mut store, 999), Err(StoreError::DiskFull { .. })), "not poisoned");
    store.settle().unwrap();
    assert_eq!(store.reader().rows(1, 0, usize::MAX).unwrap().len(), saved.len() * 100);
    // Room again: it goes on.
    disk.grow(8 << 20);
    commit(&mut store, 999).unwrap();
    saved.insert(999);
    store.close().unwrap();
    let (store, opened) = Store::open(&dir, options, &|_| ()).unwrap();
    assert_eq!(opened, Opened::default());
    assert_eq!(store.reader().rows(1, 0, usize::MAX).unwrap().len(), saved.len() * 100);
}

#[cfg(unix)]
struct SmallDisk(tempfile::TempDir);

#[cfg(unix)]
impl SmallDisk {
    fn new(bytes: u64) -> Option<SmallDisk> {
        let disk = SmallDisk(tempfile::tempdir().unwrap());
        disk.mount(&format!("size={bytes}")).then_some(disk)
    }

    fn grow(&self, bytes: u64) {
        assert!(self.mount(&format!("remount,size={bytes}")));
    }

    fn mount(&self, options: &str) -> bool {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(self.0.path()).status();
        mount.is_ok_and(|status| status.success())
    }
}

#[cfg(unix)]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
