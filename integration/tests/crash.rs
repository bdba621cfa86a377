//! kill -9 at 400 random points: 100 of a program that publishes as fast as it can, 100 of supplier and customer while
//! they replicate, 200 of a customer that signs what it gets. What was acknowledged must be there afterwards, with the
//! same leaf, once, and both must agree; no receipt and no cosignature that left may contradict another.
//!
//! SEED=… repeats the choices (not the scheduling).
#![allow(clippy::unwrap_used, reason = "tests, also outside the test functions")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lotline_integration::world::{Dice, Firm, World, lots_file, seed, string, wait_until_level};
use lotline_node::config::Home;
use lotline_node::feeds::witness::Kept;
use lotline_node::feeds::{OnConflict, Submission};
use lotline_node::import;
use lotline_node::ledger::Outcome;
use lotline_node::service::{Service, now};
use lotline_schema::delivery::Receipt;
use lotline_schema::note::{Cosignature, WitnessKey};
use lotline_schema::{Hash, PartyId, Record};

/// How often each is killed: `KILLS`, else a quarter of what `.ci/run` asks for, a witness twice as often.
fn kills() -> u64 {
    std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(25)
}
/// Set for the child that publishes: the home, and a word that makes its lots its own.
const WRITER: &str = "LOTLINE_CRASH_WRITER";

/// What was acknowledged: leaf by place.
type Acknowledged = BTreeMap<u64, String>;

fn acknowledge(all: &mut Acknowledged, seq: u64, leaf: String) {
    let before = all.insert(seq, leaf.clone());
    assert!(before.is_none_or(|before| before == leaf), "place {seq} was acknowledged with two leaves");
}

fn open(home: &Path) -> Service {
    Service::open(Home::at(Some(home)).unwrap(), &|_| ()).unwrap()
}

/// Size and root of the feed `quality` in a home that nobody has open, after a look at each entry: no gaps, and the
/// leaves that were acknowledged. With their leaves.
fn check_feed(home: &Path, acknowledged: &Acknowledged) -> (u64, String, Vec<String>) {
    let service = open(home);
    let snapshot = service.handle.snapshot();
    let feed = snapshot.feeds.values().find(|feed| feed.origin.name() == "quality").expect("the feed is there").clone();
    service.handle.reader().settle().unwrap();
    let rows = service.handle.reader().rows(feed.id, 0, usize::MAX).unwrap();
    assert_eq!(rows.len() as u64, feed.size());
    assert!(rows.iter().enumerate().all(|(at, row)| row.seq == at as u64), "a gap");
    let leaves: Vec<String> = rows.iter().map(|row| lotline_schema::Hash(row.leaf).to_string()).collect();
    for (seq, leaf) in acknowledged {
        assert_eq!(leaves.get(*seq as usize), Some(leaf), "place {seq} was acknowledged with another leaf, or is gone");
    }
    assert_eq!(feed.frozen, None);
    assert_eq!(service.opened.damage, []);
    let root = feed.head.frontier.root().to_string();
    service.close().unwrap();
    (feed.size(), root, leaves)
}

// ---- publish

#[test]
fn a_publisher_killed_many_times_loses_nothing_it_acknowledged() {
    if let Ok(task) = std::env::var(WRITER) {
        return publish_until_killed(&task);
    }
    let start = Instant::now();
    let mut dice = Dice(seed());
    let world = World::new();
    let firm = world.firm("firm");
    let (mut acknowledged, mut during_start) = (Acknowledged::new(), 0);
    let all = kills();
    for kill in 0..all {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_publisher_killed_many_times_loses_nothing_it_acknowledged", "--nocapture"])
            .env(WRITER, format!("{kill} {}", firm.home().display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        // Its lines are read by a thread of their own, so that a full pipe never decides when it dies.
        let lines = BufReader::new(child.stdout.take().unwrap());
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        let reading = std::thread::spawn(move || {
            for line in lines.split(b'\n').map_while(Result::ok) {
                heard.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        if dice.below(5) == 0 {
            std::thread::sleep(Duration::from_micros(dice.below(150_000)));
        } else {
            let enough = dice.below(40) as usize + 1;
            let count = || said.lock().unwrap().iter().filter(|line| line.starts_with("saved ")).count();
            while count() < enough && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(Duration::from_micros(dice.below(4_000)));
        }
        child.kill().unwrap();
        assert!(child.wait().unwrap().code().is_none(), "the writer ended by itself: {:?}", said.lock().unwrap());
        reading.join().unwrap();
        let said = std::mem::take(&mut *said.lock().unwrap());
        let words = said.iter().map(|line| line.split(' ').collect::<Vec<_>>());
        let before = acknowledged.len();
        for words in words {
            match words[..] {
                // The last line may be cut: a leaf has 64 digits.
                ["saved", seq, leaf] if leaf.len() == 64 => acknowledge(&mut acknowledged, seq.parse().unwrap(), leaf.to_owned()),
                ["opened", size] => {
                    let needed = acknowledged.last_key_value().map_or(0, |(seq, _)| seq + 1);
                    assert!(size.parse::<u64>().unwrap() >= needed, "kill {kill}: {needed} entries acknowledged, {size} found");
                }
                _ => {}
            }
        }
        during_start += u64::from(acknowledged.len() == before);
        if kill % 10 == 9 {
            check_feed(firm.home(), &acknowledged);
        }
        if kill % 25 == 24 {
            firm.is_clean();
        }
    }
    let (size, ..) = check_feed(firm.home(), &acknowledged);
    firm.is_clean();
    eprintln!(
        "publish: {all} kills ({during_start} before the first record), {} records acknowledged, {} there, 0 lost, in {:.0?}",
        acknowledged.len(),
        size - 1,
        start.elapsed()
    );
    assert!(acknowledged.len() as u64 > all && during_start < all / 2, "it was hardly killed while publishing");
}

/// The child: opens the home and publishes, one record a commit or a few together, and says what is saved.
fn publish_until_killed(task: &str) {
    let (kill, home) = task.split_once(' ').unwrap();
    let records = records(&format!("K{kill}"));
    let service = open(Path::new(home));
    let mut out = std::io::stdout();
    let size = service.handle.snapshot().own_feed("quality").map_or(0, |feed| feed.size());
    writeln!(out, "\nopened {size}").unwrap();
    let mut records = records.into_iter();
    for commit in 0.. {
        let group = if commit % 7 == 6 { 9 } else { 1 };
        let submission = |record| Submission { record, owner: None, feed: "quality".into(), on_conflict: OnConflict::Refuse };
        let submissions: Vec<_> = records.by_ref().take(group).map(submission).collect();
        assert!(!submissions.is_empty(), "killed too late");
        let published = service.handle.with_blocking(move |feeds| feeds.submit(submissions, now())).unwrap().unwrap();
        for one in published {
            let one = one.unwrap();
            writeln!(out, "saved {} {}", one.seq, one.leaf).unwrap();
        }
        out.flush().unwrap();
    }
}

fn records(prefix: &str) -> Vec<Record> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(lots_file(prefix, "PIN", 1000).as_bytes()).unwrap();
    let import = import::read(file.path(), &import::Options::default(), &|_, _| ()).unwrap();
    import.lots.iter().map(|lot| lot.check("2026-11-23T10:00:00Z").unwrap()).collect()
}

// ---- replicate

/// Publishes files of so many lots one after the other through the program, and the same one again until it is in.
fn keep_publishing(lots: usize, home: &Path, folder: &Path, acknowledged: &Mutex<Acknowledged>, enough: &AtomicBool) {
    let firm = Firm::at(home);
    for number in 0.. {
        let file = folder.join(format!("{number}.csv"));
        std::fs::write(&file, lots_file(&format!("F{number}"), "PIN", lots)).unwrap();
        loop {
            let said = firm.call(&["publish", file.to_str().unwrap(), "--feed", "quality"]);
            if said.code == 0 {
                let mut all = acknowledged.lock().unwrap();
                for one in said.json["published"].as_array().unwrap() {
                    acknowledge(&mut all, one["seq"].as_u64().unwrap(), string(&one["leaf"]));
                }
                break;
            }
            // The node was killed under it, or is just starting on this home.
            assert!(said.error().contains("stopped answering") || said.code == 6, "{} {}", said.out, said.err);
        }
        if enough.load(Ordering::Relaxed) {
            return;
        }
    }
}

#[test]
fn supplier_and_customer_killed_many_times_end_with_the_same_feed() {
    let start = Instant::now();
    let mut dice = Dice(seed());
    let world = World::new();
    // Each can dial the other: whoever comes back does so at once.
    let (supplier, oem) = (world.reachable_firm("supplier"), world.reachable_firm("oem"));
    supplier.publish(&world.file("first.csv", lots_file("FIRST", "PIN", 1)), &["--feed", "quality"]);
    supplier.start();
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    let show = r#"["identity", "specification", "verdict", "measurements"]"#;
    supplier.apply(&format!(
        "[[share]]\nname = \"all\"\nwith = \"oem\"\nfeed = \"quality\"\nparts = \"all\"\nshow = {show}\nuntil = \"revoked\"\n"
    ));
    wait_until_level(&supplier, &oem);

    let (acknowledged, enough) = (Mutex::new(Acknowledged::new()), AtomicBool::new(false));
    let all = kills();
    let mut kills = BTreeMap::from([("supplier", 0), ("supplier starting", 0), ("customer", 0), ("customer starting", 0)]);
    let (home, folder) = (supplier.home(), world.path(""));
    std::thread::scope(|scope| {
        scope.spawn(|| keep_publishing(30, home, &folder, &acknowledged, &enough));
        // Also when this thread gives up: the scope waits for the publisher.
        let _enough = Raise(&enough);
        while kills.values().sum::<u64>() < all {
            let (name, victim) = if dice.below(2) == 0 { ("supplier", &supplier) } else { ("customer", &oem) };
            std::thread::sleep(Duration::from_micros(dice.below(400_000)));
            *kills.get_mut(name).unwrap() += u64::from(victim.kill());
            while dice.below(4) == 0 {
                victim.spawn();
                std::thread::sleep(Duration::from_micros(dice.below(120_000)));
                *kills.get_mut(&*format!("{name} starting")).unwrap() += u64::from(victim.kill());
            }
            victim.start_among_commands();
        }
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    wait_until_level(&supplier, &oem);
    supplier.is_clean();
    oem.is_clean();
    let sent: u64 = supplier.ledger("oem").iter().filter(|row| row["outcome"] == "acknowledged").count() as u64;
    supplier.stop();
    oem.stop();
    let ours = check_feed(supplier.home(), &acknowledged);
    let theirs = check_feed(oem.home(), &acknowledged);
    assert_eq!(ours, theirs, "the customer has what the supplier has");
    supplier.is_clean();
    oem.is_clean();
    eprintln!(
        "replicate: {} kills {kills:?}, {} records acknowledged, {} there on both sides, 0 lost, {sent} batches acknowledged by the customer, in {:.0?}",
        kills.values().sum::<u64>(),
        acknowledged.len(),
        ours.0 - 1,
        start.elapsed()
    );
    assert!(acknowledged.len() as u64 > all && sent > all / 4, "hardly anything was replicated between the kills");
}

// ---- witness

/// Every value under a prefix of the changing state.
fn states(service: &Service, prefix: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    service.handle.reader().settle().unwrap();
    service.handle.reader().states(prefix.as_bytes(), None, usize::MAX).unwrap()
}

/// Receipts in a home under a prefix, each verified with the receiver's keys as this home knows them.
fn receipts(service: &Service, prefix: &str, receiver: &PartyId) -> Vec<Receipt> {
    let org = service.handle.snapshot().orgs[receiver].clone();
    states(service, prefix).iter().map(|(_, core)| Receipt::open(core, &org).expect("a receipt that is kept holds")).collect()
}

/// Cosignatures in a home on the feed `quality`, first and newest: size and root, each verified.
fn cosignatures(service: &Service) -> Vec<(u64, Hash)> {
    let snapshot = service.handle.snapshot();
    let origin = snapshot.feeds.values().find(|feed| feed.origin.name() == "quality").unwrap().origin.clone();
    let kept = |prefix| states(service, &format!("{prefix}/{origin}/"));
    let all = kept("cosigned").into_iter().chain(kept("fresh"));
    all.map(|(_, bytes)| {
        let kept = Kept::read(&bytes).unwrap();
        let checkpoint = snapshot.orgs[&origin.party()].open(&kept.note).expect("the log's own line holds");
        let key = WitnessKey::read(&kept.key).unwrap();
        Cosignature::read(&kept.line).unwrap().verify(&checkpoint, &key).expect("a cosignature that is kept holds");
        (checkpoint.size, checkpoint.root)
    })
    .collect()
}

/// A customer that is killed between checking, storing and answering signs nothing twice and takes nothing back.
#[test]
fn a_witness_killed_many_times_signs_one_history() {
    let all = 2 * kills();
    let start = Instant::now();
    let mut dice = Dice(seed());
    let world = World::new();
    let (supplier, oem) = (world.reachable_firm("supplier"), world.firm("oem"));
    supplier.publish(&world.file("first.csv", lots_file("FIRST", "PIN", 1)), &["--feed", "quality"]);
    supplier.start();
    oem.start();
    supplier.pair("supplier", &oem, "oem");
    let share = "[[share]]\nname = 'all'\nwith = 'oem'\nfeed = 'quality'\nparts = 'all'\nshow = ['verdict']\nuntil = 'revoked'\n";
    supplier.apply(share);
    wait_until_level(&supplier, &oem);

    let (acknowledged, enough) = (Mutex::new(Acknowledged::new()), AtomicBool::new(false));
    let (home, folder) = (supplier.home(), world.path(""));
    let (mut kills, mut starting) = (0, 0);
    std::thread::scope(|scope| {
        // Few at a time: a customer that catches up for ever meets no checkpoint.
        scope.spawn(|| keep_publishing(1, home, &folder, &acknowledged, &enough));
        let _enough = Raise(&enough);
        while kills + starting < all {
            std::thread::sleep(Duration::from_micros(dice.below(300_000)));
            kills += u64::from(oem.kill());
            while dice.below(5) == 0 {
                oem.spawn();
                std::thread::sleep(Duration::from_micros(dice.below(120_000)));
                starting += u64::from(oem.kill());
            }
            oem.start_among_commands();
        }
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    wait_until_level(&supplier, &oem);
    // Stopping in order writes down what is known of the last batches.
    oem.stop();
    supplier.stop();
    assert_eq!(check_feed(supplier.home(), &acknowledged), check_feed(oem.home(), &acknowledged));

    let (ours, theirs) = (open(supplier.home()), open(oem.home()));
    let receiver = theirs.handle.snapshot().party;
    let mut roots = BTreeMap::new();
    let (here, there) = (cosignatures(&ours), cosignatures(&theirs));
    for (size, root) in here.iter().chain(&there) {
        assert_eq!(roots.entry(*size).or_insert(*root), root, "two roots were signed at size {size}");
    }
    // What the customer signed it has itself: the supplier holds nothing that a kill made it forget.
    let signed_there: std::collections::BTreeSet<_> = there.iter().collect();
    assert!(here.iter().all(|one| signed_there.contains(one)), "the witness forgot a cosignature that had left");
    let (got, given) = (receipts(&ours, "got/", &receiver), receipts(&theirs, "given/", &receiver));
    assert!(got.iter().all(|receipt| given.contains(receipt)), "the customer forgot a receipt that had left");
    // What a kill took on its way comes again with the next connection, before anything else goes out.
    assert!(given.len() - got.len() <= 1, "{} receipts were given, and {} arrived", given.len(), got.len());
    let mut numbers: Vec<u64> = given.iter().map(|receipt| receipt.number).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "receipts are numbered without gaps and none twice");
    // Every entry is covered by exactly one receipt of the customer's.
    let mut batches: Vec<(u64, u64)> = given.iter().map(|receipt| (receipt.delivery.from, receipt.delivery.to)).collect();
    batches.sort_unstable();
    let size = ours.handle.snapshot().own_feed("quality").unwrap().size();
    let end = batches.iter().fold(0, |at, (from, to)| {
        assert_eq!(*from, at, "one receipt after the other");
        *to
    });
    assert_eq!(end, size);
    // No row is acknowledged without its receipt.
    let rows = ours.handle.with_blocking(|feeds| feeds.ledger(0, usize::MAX)).unwrap().unwrap();
    let rows: Vec<_> = rows.into_iter().filter(|row| row.origin.contains("/quality/")).collect();
    let done: Vec<_> = rows.iter().filter(|row| row.outcome == Outcome::Acknowledged).collect();
    assert_eq!(done.len(), got.len());
    for row in &done {
        assert!(got.iter().any(|receipt| receipt.delivery.items == row.digest && receipt.delivery.from == row.from));
    }
    eprintln!(
        "witness: {} kills ({starting} while starting), {} cosignatures here and {} there on {} sizes, {} receipts given, {} of them here, in {:.0?}",
        kills + starting,
        here.len(),
        there.len(),
        roots.len(),
        given.len(),
        got.len(),
        start.elapsed()
    );
    ours.close().unwrap();
    theirs.close().unwrap();
    supplier.is_clean();
    oem.is_clean();
    let enough = got.len() as u64 > all / 4 && roots.len() as u64 > all / 4;
    assert!(enough, "hardly anything was received or cosigned between the kills");
}

struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
