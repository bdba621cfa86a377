//! `docs/verify-by-hand.md` against real bundles: every listing runs as printed, with the packages at the versions printed,
//! accepts what holds, and refuses a copy with one bit altered in any part that it looks at.
//!
//! Needs `python3` with `venv` and `pip`, and a package index once; the tools are then kept in the target folder. Without
//! them it says in capitals what was skipped, there and in a file that `.ci/run` reads, and passes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests, also outside the test functions")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use lotline_integration::world::{World, lots_file, text};
use lotline_node::keys::random;
use lotline_schema::bundle::{Bundle, History, OrgPart};
use lotline_schema::codec::{self, Value};
use lotline_schema::cose::Signer;
use lotline_schema::delivery::{Delivery, Way};
use lotline_schema::note::{Checkpoint, Cosignature, InclusionProof, WitnessKey, with_cosignatures};
use lotline_schema::org::{self, Entry, Org, Places, Role};
use lotline_schema::release::Release;
use lotline_schema::statement::{self, Place, Sealed};
use lotline_schema::tree::Tree;
use lotline_schema::verify::{Outcome, Trust, TrustedRoot, verify};
use lotline_schema::view::{Package, SealedView};
use lotline_schema::voucher::Voucher;
use lotline_schema::{Hash, Origin, PartyId, Record, id, receipt};

/// For making the environment, and for one run of a listing.
const PATIENCE: Duration = Duration::from_secs(300);
/// 2026-11-23.
const NOW: u64 = 1_795_392_000;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// What stands in the fenced block of the page that is opened by this line.
fn block(fence: &str) -> String {
    let page = std::fs::read_to_string(project().join("docs/verify-by-hand.md")).unwrap();
    let (_, from) = page.split_once(&format!("\n```{fence}\n")).unwrap_or_else(|| panic!("the page has no block `{fence}`"));
    format!("{}\n", from.split("\n```").next().unwrap())
}

/// Runs something to its end, or kills it.
fn finish(command: &mut Command, input: &str) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    // What does not read its input has ended, and says why by itself.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let id = child.id();
    let (done, waited) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || done.send(child.wait_with_output()));
    let output = waited.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
        Err(std::io::Error::new(std::io::ErrorKind::TimedOut, format!("not done after {} s", PATIENCE.as_secs())))
    });
    drop((writer, reader));
    output
}

/// The folder with the environment and the listings.
struct Bench {
    folder: PathBuf,
    listings: World,
}

impl Bench {
    /// Makes the environment as the page says, once, and lays out the listings. None, loudly, where that cannot be done.
    fn set_up() -> Option<Bench> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock();
        let installing = block("sh install");
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap().join("by-hand");
        let folder = target.join(Hash::of(&[installing.as_bytes()]).short());
        let (ready, skipped) = (folder.join("ready"), target.join("SKIPPED"));
        std::fs::create_dir_all(&target).unwrap();
        let _ = std::fs::remove_file(&skipped);
        if !ready.exists() {
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            let made = finish(Command::new("sh").args(["-e", "-c", &installing]).current_dir(&folder), "");
            let why = match made {
                Ok(output) if output.status.success() => None,
                Ok(output) => Some(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("no reason given").to_owned()),
                Err(why) => Some(why.to_string()),
            };
            if let Some(why) = why {
                std::fs::write(&skipped, format!("{why}\n")).unwrap();
                // Not by eprintln, which is shown for tests that fail alone.
                let line = format!("\nSKIPPED: BUNDLES WERE NOT CHECKED WITH TOOLS OF OTHERS (docs/verify-by-hand.md): {why}\n");
                std::io::stderr().write_all(line.as_bytes()).unwrap();
                return None;
            }
            std::fs::write(&ready, "").unwrap();
        }
        let listings = World::new();
        for name in LISTINGS {
            listings.file(name, block(&format!("python {name}")));
        }
        Some(Bench { folder, listings })
    }

    fn python(&self) -> Command {
        let mut command = Command::new(self.folder.join("tools/bin/python"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONIOENCODING", "utf-8");
        command
    }

    fn run(&self, listing: &str, bundle: &str, args: &[&str]) -> Output {
        finish(self.python().arg(self.listings.path(listing)).arg(bundle).args(args), "").unwrap()
    }

    /// Runs a listing that must be content; what it printed.
    fn accepts(&self, listing: &str, bundle: &str, args: &[&str]) -> String {
        let output = self.run(listing, bundle, args);
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(output.status.success(), "{listing}: {out}{err}");
        assert!(out.lines().last().is_some_and(|line| line.starts_with("holds")), "{listing} printed {out}");
        out
    }

    /// Runs a listing that must refuse; what it said.
    fn refuses(&self, listing: &str, bundle: &str, args: &[&str]) -> String {
        let output = self.run(listing, bundle, args);
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success() && !out.contains("holds"), "{listing} accepts: {out}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Alters one bit in every byte of these places of a bundle: the listing must refuse each copy.
    fn refuses_every_bit(&self, listing: &str, bundle: &str, args: &[&str], places: impl IntoIterator<Item = usize>) {
        let bytes = std::fs::read(bundle).unwrap();
        let places: Vec<(usize, usize)> = places.into_iter().map(|at| (at, (at * 5) % 8)).collect();
        assert!(places.len() > 30, "{listing}: only {} places", places.len());
        let driver = project().join("integration/tests/by_hand/flips.py");
        let mut command = self.python();
        command.arg(driver).arg(self.listings.path(listing)).arg(bundle).args(args);
        let output = finish(&mut command, &serde_json::to_string(&places).unwrap()).unwrap();
        assert!(output.status.success(), "{listing}: {}", String::from_utf8_lossy(&output.stderr));
        let accepted: Vec<(usize, usize)> = serde_json::from_slice(&output.stdout).unwrap();
        let around = |at: usize| String::from_utf8_lossy(&bytes[at.saturating_sub(12)..(at + 12).min(bytes.len())]).into_owned();
        let accepted: Vec<_> = accepted.iter().map(|(at, bit)| (at, bit, around(*at))).collect();
        assert!(accepted.is_empty(), "{listing} overlooks {} of {} altered bits: {accepted:?}", accepted.len(), places.len());
        eprintln!("{listing}: {} altered copies refused", places.len());
    }
}

const LISTINGS: [&str; 5] = ["short.py", "whole.py", "sdcwt.py", "receipt.py", "tlog.py"];

#[test]
fn every_listing_of_the_page_is_run_here() {
    let page = std::fs::read_to_string(project().join("docs/verify-by-hand.md")).unwrap();
    let named = page.lines().filter_map(|line| line.strip_prefix("```python"));
    assert_eq!(named.map(str::trim).collect::<Vec<_>>(), LISTINGS);
}

/// Where these bytes stand in a file.
fn places(file: &str, part: &[u8]) -> std::ops::Range<usize> {
    let bytes = std::fs::read(file).unwrap();
    let at = bytes.windows(part.len()).position(|window| window == part).expect("the part stands in the bundle as it is");
    at..at + part.len()
}

#[test]
fn a_bundle_of_the_program_is_checked_by_tools_of_others() {
    let Some(bench) = Bench::set_up() else { return };
    let world = World::new();
    let (supplier, oem) = (world.firm("supplier"), world.firm("oem"));
    supplier.pair("supplier", &oem, "oem");
    supplier.publish(&world.file("lots.csv", lots_file("L", "PIN", 11)), &["--feed", "quality"]);
    supplier.apply(
        "[[share]]\nname = \"oem\"\nwith = \"oem\"\nfeed = \"quality\"\nparts = \"all\"\nshow = [\"identity\", \"verdict\"]\nuntil = \"revoked\"\n",
    );
    let bundle = text(&world.path("lot.lotline"));
    supplier.ok(&["bundle", "--lot", "L-0004", "--for", "oem", "-o", &bundle]);
    let identity = supplier.identity();
    let parts = world.path("parts");
    assert_eq!(world.verify(&bundle, &["--issuer", &identity, "--explode", &text(&parts)]).code, 0);
    let keys: serde_json::Value = serde_json::from_slice(&std::fs::read(parts.join("keys.json")).unwrap()).unwrap();
    let key = |role: &str| keys["issuers"][0]["keys"][role]["public_hex"].as_str().unwrap().to_owned();
    let (record, log) = (key("record"), key("log"));

    let short = bench.accepts("short.py", &bundle, &[&identity]);
    assert!(short.contains("slot 6 ['L-0004']"), "{short}");
    let whole = bench.accepts("whole.py", &bundle, &[&identity]);
    assert!(whole.contains("slot 6: ['L-0004']") && whole.contains(&format!("signed by record key {record}\n")), "{whole}");
    assert!(whole.contains(&format!("size 12 signed by log key {log}\n")), "{whole}");
    bench.accepts("sdcwt.py", &bundle, &[&record]);
    bench.accepts("tlog.py", &bundle, &[&log, "0"]);

    // Of somebody else, or under the key of another role.
    let other = oem.identity();
    bench.refuses("short.py", &bundle, &[&other]);
    assert!(bench.refuses("whole.py", &bundle, &[&other]).contains("a firm you did not name"));
    bench.refuses("sdcwt.py", &bundle, &[&log]);
    bench.refuses("tlog.py", &bundle, &[&record, "0"]);
    assert!(bench.refuses("tlog.py", &bundle, &[&log, "1"]).contains("quorum"));

    // The parts as files.
    std::os::unix::fs::symlink(bench.folder.join("tools"), world.path("tools")).unwrap();
    let vkeys = keys["issuers"][0]["vkeys"].as_object().unwrap();
    let (_, vkey) = vkeys.iter().find(|(feed, _)| feed.contains("/quality/")).unwrap();
    for (vkey, right) in
        [(vkey.as_str().unwrap(), true), (&vkeys.iter().find(|(feed, _)| feed.contains("/org/")).unwrap().1.to_string(), false)]
    {
        let checked = finish(Command::new("sh").args(["-e", "-c", &block("sh parts")]).env("VKEY", vkey).current_dir(world.path("")), "");
        assert_eq!(checked.as_ref().unwrap().status.success(), right, "{checked:?}");
    }

    // Nothing in the file is unsigned: what reads all of it notices every altered byte but those of the inclusion receipt,
    // which it leaves to the tool that knows such receipts; the others notice those of their part.
    let size = std::fs::metadata(&bundle).unwrap().len() as usize;
    let receipt = places(&bundle, &std::fs::read(parts.join("000.receipt.cbor")).unwrap());
    bench.refuses_every_bit("whole.py", &bundle, &[&identity], (0..size).filter(|at| !receipt.contains(at)));
    bench.accepts("receipt.py", &bundle, &[&record, &log]);
    bench.refuses_every_bit("receipt.py", &bundle, &[&record, &log], receipt.clone());
    let part = |name: &str| std::fs::read(parts.join(name)).unwrap();
    let (core, proof) = (places(&bundle, &part("000.core.cbor")), places(&bundle, &part("000.tlog-proof")));
    let disclosures = (0..3).flat_map(|n| places(&bundle, &part(&format!("000.disclosure-{n:02}.cbor"))));
    bench.refuses_every_bit("short.py", &bundle, &[&identity], core.clone().step_by(3).chain(disclosures.clone()));
    bench.refuses_every_bit("sdcwt.py", &bundle, &[&record], core.clone().step_by(3).chain(disclosures));
    bench.refuses_every_bit("tlog.py", &bundle, &[&log, "0"], core.step_by(3).chain(proof));
}

/// The keys behind a bundle of version 2, which is made here of its parts.
struct Scene {
    supplier: Signer,
    successor: Signer,
    records: [Signer; 3],
    log: Signer,
    second_log: Signer,
    person: Signer,
    customer: Signer,
    receiving: Signer,
    witness: Signer,
}

/// Places where something begins, by feed.
fn places_of(places: &[(&Origin, u64)]) -> Places {
    places.iter().map(|(origin, from)| (origin.to_string(), *from)).collect()
}

fn key() -> Signer {
    let mut seed = [0; 32];
    random(&mut seed);
    Signer::from_seed(&seed)
}

impl Scene {
    fn new() -> Scene {
        Scene {
            supplier: key(),
            successor: key(),
            records: [key(), key(), key()],
            log: key(),
            second_log: key(),
            person: key(),
            customer: key(),
            receiving: key(),
            witness: key(),
        }
    }

    fn party(&self) -> PartyId {
        PartyId::of(&self.supplier.public())
    }

    fn feed(&self) -> Origin {
        Origin::new(self.party(), "quality", 1).unwrap()
    }

    fn delegated(&self) -> Origin {
        Origin::new(self.party(), "second-plant", 1).unwrap()
    }

    fn org_part(root: &Signer, log: &Signer, name: &str, record: &Signer, more: &[(Entry, &Signer)]) -> OrgPart {
        let mut org = Org::new(PartyId::of(&root.public()));
        let roles = [(Role::Record, record.public()), (Role::Log, log.public())];
        let others = [Role::Witness, Role::Transport].map(|role| (role, key().public()));
        let keyring = (Entry::keyring(name, roles.into_iter().chain(others).collect()), root);
        for (entry, signer) in std::iter::once(&keyring).chain(more) {
            let sealed = org::seal(&org, entry, NOW, signer, random).unwrap();
            org.accept(sealed.core).unwrap();
        }
        let checkpoint = Checkpoint { origin: Origin::org(org.party()), size: org.size(), root: org.frontier().root() };
        OrgPart::of(&org, &checkpoint.sign(log))
    }

    /// What the supplier states of itself: its record key changes at place 5 of the feed, its root is handed on, a feed is
    /// delegated until a day, a person releases records.
    fn org(&self, until: u64) -> OrgPart {
        let (feed, org) = (self.feed(), Origin::org(self.party()));
        let rotation = Entry::Rotation {
            role: Role::Record,
            key: self.records[1].public(),
            from: places_of(&[(&feed, 5), (&org, 2)]),
            reason: "a new computer".into(),
        };
        let delegation = Entry::Delegation {
            name: "the second plant".into(),
            origin: self.delegated(),
            record: self.records[2].public(),
            log: self.second_log.public(),
            until,
        };
        let entries = [
            (Entry::Feed { origin: feed, follows: None }, &self.records[0]),
            (rotation, &self.supplier),
            (Entry::Successor { thumbprint: self.successor.kid() }, &self.supplier),
            (Entry::Root { key: self.successor.public() }, &self.successor),
            (delegation, &self.successor),
            (Entry::Signer { name: "J. Doe".into(), function: "head of quality".into(), key: self.person.public() }, &self.successor),
        ];
        Scene::org_part(&self.supplier, &self.log, "Brandt Precision", &self.records[0], &entries)
    }

    /// A package: proven in the newest tree, and in an older one that a witness saw first.
    fn package(&self, tree: &Tree, log: &Signer, older: u64, (origin, index): (&Origin, u64), view: SealedView) -> Package {
        let at = |size: u64| Checkpoint { origin: origin.clone(), size, root: tree.root(size) };
        let proof = |size: u64| {
            let cosignature = Cosignature::sign(&at(size), &self.witness, NOW + 10 * size);
            let checkpoint = with_cosignatures(&at(size).sign(log), &[cosignature]);
            InclusionProof { index, path: tree.inclusion(index, size).unwrap(), checkpoint }.to_text()
        };
        let size = tree.size();
        let receipt = receipt::issue(log, &at(size), index, &tree.inclusion(index, size).unwrap(), NOW + 60);
        Package { receipt, witnessed: (older != size).then(|| proof(older)), ..Package::new(view, proof(size)) }
    }

    /// What the customer signed for the first batch, which came with this root.
    fn delivery(&self, root: Hash) -> Vec<u8> {
        let (origin, items) = (self.feed().to_string(), Hash([7; 32]));
        let (policy, terms, way) = (Some(1), None, Way::Batch);
        let delivery = Delivery { origin, from: 1, to: 6, size: 6, root, items, policy, terms, at: NOW + 70, way };
        delivery.seal(PartyId::of(&self.customer.public()), 0, &self.receiving, random).unwrap()
    }

    /// A bundle of one record, proven in the trees of 13 and of 6; perhaps with one of the delegated feed, and with the
    /// release of a record by a person.
    fn bundle(&self, index: u64, until: u64, others: bool) -> Vec<u8> {
        let (feed, delegated) = (self.feed(), self.delegated());
        let place = |origin: &Origin, seq: u64| Place { origin: origin.clone(), seq, now: NOW, supersedes: None };
        let record = |origin: &Origin, seq: u64, signer: &Signer| {
            let record = Record::benchmark(vec![codec::text(format!("L-{seq}")), codec::text("PIN")]);
            statement::seal_record(&record, &place(origin, seq), signer, random).unwrap()
        };
        let tree = |sealed: &[Sealed]| Tree::new(sealed.iter().map(|sealed| sealed.leaf).collect());
        let view =
            |sealed: &Sealed, open: usize| SealedView { core: sealed.core.clone(), disclosures: sealed.disclosures[..open].to_vec() };

        let mut sealed: Vec<_> = (0..12u64).map(|seq| record(&feed, seq, &self.records[usize::from(seq >= 5)])).collect();
        let one = usize::try_from(index).unwrap();
        let release = Release { leaf: sealed[one].leaf, seq: index };
        sealed.push(release.seal(&place(&feed, 12), &self.person, random).unwrap());
        let grown = tree(&sealed);
        let mut packages = vec![self.package(&grown, &self.log, 6, (&feed, index), view(&sealed[one], 2))];
        if others {
            let theirs: Vec<_> = (0..2u64).map(|seq| record(&delegated, seq, &self.records[2])).collect();
            packages.push(self.package(&grown, &self.log, 13, (&feed, 12), view(&sealed[12], 0)));
            packages.push(self.package(&tree(&theirs), &self.second_log, 2, (&delegated, 1), view(&theirs[1], 1)));
        }
        let voucher = Voucher {
            party: self.party(),
            name: "Brandt Precision GmbH".into(),
            ids: [("VAT".to_owned(), "DE123456789".to_owned())].into(),
            how: "the register, and a call".into(),
            day: NOW,
        };
        let history = History { origin: feed.to_string(), size: 13, older: vec![(6, grown.consistency(6, 13).unwrap())] };
        let bundle = Bundle {
            orgs: vec![self.org(until), Scene::org_part(&self.customer, &key(), "OEM A", &self.receiving, &[])],
            packages,
            witnesses: vec![self.witness()],
            histories: vec![history],
            deliveries: vec![self.delivery(grown.root(6))],
            vouchers: vec![voucher.seal(PartyId::of(&self.customer.public()), 0, &self.receiving, random).unwrap()],
            first_version: false,
        };
        bundle.to_bytes()
    }

    /// What our own verifier says to somebody who knows the supplier.
    fn outcome(&self, bundle: &[u8]) -> Outcome {
        let mut trust = Trust::none();
        trust.add(self.party(), TrustedRoot { name: "Brandt Precision".into(), checked: "founded here".into() });
        let report = verify(bundle, &trust);
        eprintln!("lotline verify: {}", report.sentence());
        report.outcome
    }

    fn witness(&self) -> String {
        WitnessKey::opaque(self.witness.public()).to_string()
    }
}

/// Part of a bundle of version 2, by the keys and places on the way to it.
fn part(bundle: &Value, way: &[i64]) -> Vec<u8> {
    let found = way.iter().fold(bundle, |value, step| match codec::as_array(value) {
        Some(items) => &items[usize::try_from(*step).unwrap()],
        None => &codec::as_map(value).unwrap()[&codec::int(*step)],
    });
    codec::as_bytes(found).unwrap().to_vec()
}

#[test]
fn witnesses_receipts_histories_and_a_changed_key_are_checked_by_tools_of_others() {
    let Some(bench) = Bench::set_up() else { return };
    let (world, scene) = (World::new(), Scene::new());
    let identity = scene.party().to_string();
    let hex = |signer: &Signer| id::hex(signer.public().as_bytes());
    let (log, vkey) = (hex(&scene.log), scene.witness());

    for (index, signer) in [(3, &scene.records[0]), (5, &scene.records[1])] {
        let bytes = scene.bundle(index, NOW, false);
        let bundle = world.file(&format!("{index}.lotline"), &bytes);
        let record = hex(signer);
        assert_eq!(scene.outcome(&bytes), Outcome::Verified);
        let whole = bench.accepts("whole.py", &bundle, &[&identity]);
        assert_eq!(whole.matches(" seen by 'w-").count(), 2, "{whole}");
        assert!(whole.contains(&format!("signed by record key {record}\n")) && whole.contains("receipt by did:key:"), "{whole}");
        assert!(whole.contains(&format!("size 13 signed by log key {log}\n")), "{whole}");
        bench.accepts("sdcwt.py", &bundle, &[&record]);
        bench.accepts("receipt.py", &bundle, &[&record, &log]);
        let tlog = bench.accepts("tlog.py", &bundle, &[&log, "1", &vkey]);
        assert!(tlog.contains("the tree of 13 continues the tree of 6"), "{tlog}");

        let value = codec::decode(&bytes).unwrap();
        let of = |way: &[i64]| places(&bundle, &part(&value, way));
        let (core, disclosure) = (of(&[3, 0, 1]), of(&[3, 0, 2, 0]));
        let (receipt, proof, witnessed) = (of(&[3, 0, 3]), of(&[3, 0, 4]), of(&[3, 0, 6]));
        let history = places(&bundle, &part(&value, &[5, 0, 3, 0, 1, 0]));
        bench.refuses_every_bit("sdcwt.py", &bundle, &[&record], core.clone().chain(disclosure));
        bench.refuses_every_bit("receipt.py", &bundle, &[&record, &log], core.clone().step_by(3).chain(receipt.clone()));
        let both = proof.clone().chain(witnessed.clone());
        bench.refuses_every_bit("tlog.py", &bundle, &[&log, "1", &vkey], core.step_by(3).chain(both).chain(history.clone()));
        // What only others look at; a name or a key id of a witness may be altered into one that is not known here.
        let apart = |at: &usize| !receipt.contains(at) && !places(&bundle, &codec::encode(&part_of_history(&value))).contains(at);
        let line = format!("\u{2014} {} ", WitnessKey::opaque(scene.witness.public()).name());
        let unknown: Vec<_> = starts(&bytes, line.as_bytes()).map(|at| at..at + line.len() + 6).collect();
        let looked_at = (0..bytes.len()).filter(apart).filter(|at| !unknown.iter().any(|range| range.contains(at)));
        bench.refuses_every_bit("whole.py", &bundle, &[&identity], looked_at.step_by(3));
        if index == 3 {
            let short = bench.accepts("short.py", &bundle, &[&identity]);
            assert!(short.contains("seen by 'w-"), "{short}");
        } else {
            bench.refuses("short.py", &bundle, &[&identity]);
        }
    }
}

#[test]
fn releases_by_persons_and_delegated_feeds_are_checked_by_tools_of_others() {
    let Some(bench) = Bench::set_up() else { return };
    let (world, scene) = (World::new(), Scene::new());
    let identity = scene.party().to_string();
    let hex = |signer: &Signer| id::hex(signer.public().as_bytes());
    let bytes = scene.bundle(5, NOW, true);
    assert_eq!(scene.outcome(&bytes), Outcome::Verified);
    let bundle = world.file("all.lotline", &bytes);
    let whole = bench.accepts("whole.py", &bundle, &[&identity]);
    assert!(whole.contains("'J. Doe', 'head of quality', releases record 5"), "{whole}");
    let signers = [&scene.records[1], &scene.person, &scene.records[2]].map(hex);
    bench.accepts("sdcwt.py", &bundle, &signers.each_ref().map(String::as_str));
    let logs = [&scene.log, &scene.second_log].map(hex).join(",");
    bench.accepts("receipt.py", &bundle, &[&signers.join(","), &logs]);
    bench.accepts("tlog.py", &bundle, &[&logs, "1", &scene.witness()]);

    // The delegation ended the day before.
    let expired = scene.bundle(5, NOW - 86_400, true);
    assert_eq!(scene.outcome(&expired), Outcome::Revoked);
    let expired = world.file("expired.lotline", expired);
    assert!(bench.refuses("whole.py", &expired, &[&identity]).contains("after the last day"));
    // The customer signed for another history than the one that is proven here.
    let mut forked = Bundle::read(&scene.bundle(5, NOW, false)).unwrap();
    forked.deliveries = vec![scene.delivery(Hash([1; 32]))];
    assert_eq!(scene.outcome(&forked.to_bytes()), Outcome::Incomplete);
    let forked = world.file("forked.lotline", forked.to_bytes());
    assert!(bench.refuses("whole.py", &forked, &[&identity]).contains("was shown another"));
    // Somebody whom the org feed does not name.
    let stranger = Scene { person: key(), ..scene };
    let mut mixed = Bundle::read(&stranger.bundle(5, NOW, true)).unwrap();
    mixed.orgs = Bundle::read(&bytes).unwrap().orgs;
    let mixed = world.file("mixed.lotline", mixed.to_bytes());
    bench.refuses("whole.py", &mixed, &[&identity]);
}

fn part_of_history(bundle: &Value) -> Value {
    codec::as_map(bundle).unwrap()[&codec::int(5)].clone()
}

fn starts<'a>(bytes: &'a [u8], part: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(part.len()).enumerate().filter(move |(_, window)| *window == part).map(|(at, _)| at)
}
