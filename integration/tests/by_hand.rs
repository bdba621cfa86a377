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
use lotline_schema::codec::{self, Value};
use lotline_schema::cose::{self, Signer};
use lotline_schema::note::{Checkpoint, InclusionProof, key_id};
use lotline_schema::slot::Disclosure;
use lotline_schema::statement::{self, Place, Type};
use lotline_schema::tree::{Tree, leaf_hash};
use lotline_schema::{Hash, Origin, PartyId, Record, id};

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

    // Nothing in the file is unsigned: what reads all of it notices every altered byte, the others those of their part.
    let size = std::fs::metadata(&bundle).unwrap().len() as usize;
    bench.refuses_every_bit("whole.py", &bundle, &[&identity], 0..size);
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
    person: Signer,
    customer: Signer,
    receiving: Signer,
    witness: Signer,
}

impl Scene {
    fn new() -> Scene {
        let key = || {
            let mut seed = [0; 32];
            random(&mut seed);
            Signer::from_seed(&seed)
        };
        let records = [key(), key(), key()];
        let (supplier, successor, customer) = (key(), key(), key());
        Scene { supplier, successor, records, log: key(), person: key(), customer, receiving: key(), witness: key() }
    }

    fn delegated(&self) -> Origin {
        Origin::new(PartyId::of(&self.supplier.public()), "second-plant", 1).unwrap()
    }

    fn feed(&self) -> Origin {
        Origin::new(PartyId::of(&self.supplier.public()), "quality", 1).unwrap()
    }

    fn org_part(&self, root: &Signer, log: &Signer, name: &str, record: &Signer, more: &[(Value, &Signer)]) -> Value {
        let origin = Origin::org(PartyId::of(&root.public()));
        let roles = [("record", record.public()), ("log", log.public()), ("witness", self.witness.public()), ("transport", root.public())];
        let roles = roles.map(|(role, key)| (codec::text(role), codec::bytes(key.as_bytes().as_slice())));
        let none = || codec::map(std::iter::empty::<(i64, Value)>());
        let keyring = [codec::text("keyring"), codec::text(name), Value::Map(roles.into()), none(), codec::array([])];
        let entries = std::iter::once((codec::array(keyring), root)).chain(more.iter().map(|(entry, signer)| (entry.clone(), *signer)));
        let sealed = entries.enumerate().map(|(seq, (entry, signer))| {
            let place = Place { origin: origin.clone(), seq: seq as u64, now: NOW, supersedes: None };
            statement::seal_entry(Type::Org, entry, &place, signer, random).unwrap().core
        });
        let cores: Vec<Vec<u8>> = sealed.collect();
        let tree = Tree::new(cores.iter().map(|core| leaf_hash(core)).collect());
        let checkpoint = Checkpoint { origin, size: tree.size(), root: tree.root(tree.size()) }.sign(log);
        codec::map([(1, codec::array(cores.into_iter().map(codec::bytes))), (2, codec::text(checkpoint))])
    }

    /// A checkpoint with the line of the witness.
    fn cosigned(&self, checkpoint: &Checkpoint, time: u64) -> String {
        let note = checkpoint.sign(&self.log);
        let (body, _) = note.split_once("\n\n").unwrap();
        let signature = self.witness.sign(format!("cosignature/v1\ntime {time}\n{body}\n").as_bytes());
        let (name, id) = self.witness_name();
        format!("{note}\u{2014} {name} {}\n", base64(&[&id[..], &time.to_be_bytes(), &signature].concat()))
    }

    fn witness_name(&self) -> (String, [u8; 4]) {
        let key = self.witness.public();
        let name = format!("w-{}", &Hash::of(&[key.as_bytes()]).to_string()[..8]);
        let id = key_id(&name, 4, key.as_bytes());
        (name, id)
    }

    fn vkey(&self) -> String {
        let (name, key_id) = self.witness_name();
        format!("{name}+{}+{}", id::hex(&key_id), base64(&[&[4], &self.witness.public().as_bytes()[..]].concat()))
    }

    /// An inclusion receipt (RFC 9942).
    fn receipt(&self, origin: &Origin, tree: &Tree, index: u64) -> Vec<u8> {
        let size = tree.size();
        let claims = codec::map([
            (1, codec::text(PartyId::of(&self.supplier.public()).to_string())),
            (2, codec::text(origin.to_string())),
            (6, codec::uint(NOW + 60)),
        ]);
        let kid = codec::bytes(self.log.kid().0);
        let protected =
            codec::encode(&codec::map([(1, codec::int(-19)), (4, kid), (15, claims), (395, codec::int(1)), (-65811, codec::uint(size))]));
        let path = tree.inclusion(index, size).unwrap().into_iter().map(|hash| codec::bytes(hash.0));
        let proof = codec::encode(&codec::array([codec::uint(size), codec::uint(index), codec::array(path)]));
        let signature = self.log.sign(&cose::sig_structure(&protected, &tree.root(size).0));
        let unprotected = codec::map([(396, codec::map([(-1, codec::array([codec::bytes(proof)]))]))]);
        let nothing = codec::optional(None::<u64>, codec::uint);
        codec::encode(&codec::tag(18, codec::array([codec::bytes(protected), unprotected, nothing, codec::bytes(signature)])))
    }

    /// What the customer signs for a batch.
    fn delivery(&self, root: &Hash) -> Vec<u8> {
        let origin = Origin::new(PartyId::of(&self.customer.public()), "receipts", 1).unwrap();
        let null = || codec::optional(None::<u64>, codec::uint);
        let entry = codec::map([
            (1, codec::text(self.feed().to_string())),
            (2, codec::uint(1)),
            (3, codec::uint(6)),
            (4, codec::uint(6)),
            (5, codec::bytes(root.0)),
            (6, codec::bytes([7; 32])),
            (7, codec::uint(1)),
            (8, null()),
            (9, codec::uint(NOW + 70)),
            (10, codec::text("batch")),
        ]);
        seal("receipt+cwt", &origin, 0, entry, &self.receiving)
    }

    /// What the supplier states of itself: its record key changes at place 5 of the feed, its root is handed on, a feed is
    /// delegated until a day, a person releases records.
    fn org(&self, until: u64) -> Value {
        let (text, key) = (|text: &str| codec::text(text), |signer: &Signer| codec::bytes(signer.public().as_bytes().as_slice()));
        let (feed, org) = (self.feed().to_string(), Origin::org(self.feed().party()).to_string());
        let places = [(text(&feed), codec::uint(5)), (text(&org), codec::uint(2))];
        let rotation = [text("rotation"), text("record"), key(&self.records[1]), Value::Map(places.into()), text("a new computer")];
        let delegated = self.delegated().to_string();
        let delegation =
            [text("delegation"), text("the second plant"), text(&delegated), key(&self.records[2]), key(&self.log), codec::uint(until)];
        let entries = [
            (codec::array([text("feed"), text(&feed), codec::optional(None::<u64>, codec::uint)]), &self.records[0]),
            (codec::array(rotation), &self.supplier),
            (codec::array([text("successor"), codec::bytes(self.successor.kid().0)]), &self.supplier),
            (codec::array([text("root"), key(&self.successor)]), &self.successor),
            (codec::array(delegation), &self.successor),
            (codec::array([text("signer"), text("J. Doe"), text("head of quality"), key(&self.person)]), &self.successor),
        ];
        self.org_part(&self.supplier, &self.log, "Brandt Precision", &self.records[0], &entries)
    }

    /// A package: proven in the newest tree, and in an older one that a witness saw first.
    fn package(&self, origin: &Origin, tree: &Tree, older: u64, index: u64, core: &[u8], disclosures: &[Disclosure]) -> Value {
        let proof = |size: u64| {
            let checkpoint = Checkpoint { origin: origin.clone(), size, root: tree.root(size) };
            let path = tree.inclusion(index, size).unwrap();
            codec::bytes(InclusionProof { index, path, checkpoint: self.cosigned(&checkpoint, NOW + 10 * size) }.to_text())
        };
        let mut parts = vec![(1, codec::bytes(core)), (3, codec::bytes(self.receipt(origin, tree, index))), (4, proof(tree.size()))];
        if !disclosures.is_empty() {
            parts.push((2, codec::array(disclosures.iter().map(|disclosure| codec::bytes(disclosure.bytes())))));
        }
        if older != tree.size() {
            parts.push((6, proof(older)));
        }
        codec::map(parts)
    }

    /// A bundle of one record, proven in the trees of 13 and of 6; perhaps with one of the delegated feed, and with the
    /// release of a record by a person.
    fn bundle(&self, index: u64, until: u64, others: bool) -> Vec<u8> {
        let feed = self.feed();
        let record = |origin: &Origin, seq: u64, signer: &Signer| {
            let place = Place { origin: origin.clone(), seq, now: NOW, supersedes: None };
            let record = Record::benchmark(vec![codec::text(format!("L-{seq}")), codec::text("PIN")]);
            statement::seal_record(&record, &place, signer, random).unwrap()
        };
        let sealed: Vec<_> = (0..12u64).map(|seq| record(&feed, seq, &self.records[usize::from(seq >= 5)])).collect();
        let one = &sealed[usize::try_from(index).unwrap()];
        let release = codec::map([(1, codec::bytes(one.leaf.0)), (2, codec::uint(index))]);
        let release = seal("release+cwt", &feed, 12, release, &self.person);
        let tree = Tree::new(sealed.iter().map(|sealed| sealed.leaf).chain([leaf_hash(&release)]).collect());
        let mut packages = vec![self.package(&feed, &tree, 6, index, &one.core, &one.disclosures[..2])];
        if others {
            let delegated = self.delegated();
            let theirs: Vec<_> = (0..2u64).map(|seq| record(&delegated, seq, &self.records[2])).collect();
            let their_tree = Tree::new(theirs.iter().map(|sealed| sealed.leaf).collect());
            packages.push(self.package(&feed, &tree, 13, 12, &release, &[]));
            packages.push(self.package(&delegated, &their_tree, 2, 1, &theirs[1].core, &[]));
        }
        let link = tree.consistency(6, 13).unwrap().into_iter().map(|hash| codec::bytes(hash.0));
        let link = codec::array([codec::uint(6), codec::array(link)]);
        let history = codec::map([(1, codec::text(feed.to_string())), (2, codec::uint(13)), (3, codec::array([link]))]);
        let customer = self.org_part(&self.customer, &self.receiving, "OEM A", &self.receiving, &[]);
        codec::encode(&codec::map([
            (0, codec::text("lotline bundle")),
            (1, codec::uint(2)),
            (2, codec::array([self.org(until), customer])),
            (3, codec::array(packages)),
            (4, codec::array([codec::text(self.vkey())])),
            (5, codec::array([history])),
            (6, codec::array([codec::bytes(self.delivery(&tree.root(6)))])),
        ]))
    }
}

/// A statement with a clear entry, of a type that the crate does not sign yet.
fn seal(typ: &str, origin: &Origin, seq: u64, entry: Value, signer: &Signer) -> Vec<u8> {
    let iss = || codec::text(origin.party().to_string());
    let sub = || codec::text("urn:uuid:cb70511d-9ccd-45a3-9d65-134b780a7e6f");
    let kid = || codec::bytes(signer.kid().0);
    let protected = codec::map([
        (1, codec::int(-19)),
        (3, codec::text("application/x.lotline.claims+cbor")),
        (4, kid()),
        (15, codec::map([(1, iss()), (2, sub())])),
        (16, codec::text(format!("application/x.lotline.{typ}"))),
    ]);
    let payload = codec::map([
        (1, iss()),
        (2, sub()),
        (6, codec::uint(NOW)),
        (7, codec::bytes([9; 16])),
        (8, codec::map([(5, kid())])),
        (-65803, codec::uint(seq)),
        (-65804, codec::text(origin.to_string())),
        (-65806, entry),
    ]);
    cose::sign(signer, &codec::encode(&protected), &codec::encode(&payload))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().chain([0, 0].iter()).take(3).fold(0usize, |bits, byte| bits << 8 | usize::from(*byte));
        let letters = (0..4).map(|at| char::from(LETTERS[bits >> (18 - 6 * at) & 63]));
        text.extend(letters.take(chunk.len() + 1));
        text.extend(std::iter::repeat_n('=', 3 - chunk.len()));
    }
    text
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
    let identity = PartyId::of(&scene.supplier.public()).to_string();
    let hex = |signer: &Signer| id::hex(signer.public().as_bytes());
    let (log, vkey) = (hex(&scene.log), scene.vkey());

    for (index, signer) in [(3, &scene.records[0]), (5, &scene.records[1])] {
        let bytes = scene.bundle(index, NOW, false);
        let bundle = world.file(&format!("{index}.lotline"), &bytes);
        let record = hex(signer);
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
        let line = format!("\u{2014} {} ", scene.witness_name().0);
        let unknown: Vec<_> = starts(&bytes, line.as_bytes()).map(|at| at..at + line.len() + 6).collect();
        let looked_at = (0..bytes.len()).filter(apart).filter(|at| !unknown.iter().any(|range| range.contains(at)));
        bench.refuses_every_bit("whole.py", &bundle, &[&identity], looked_at);
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
    let identity = PartyId::of(&scene.supplier.public()).to_string();
    let hex = |signer: &Signer| id::hex(signer.public().as_bytes());
    let bundle = world.file("all.lotline", scene.bundle(5, NOW, true));
    let whole = bench.accepts("whole.py", &bundle, &[&identity]);
    assert!(whole.contains("'J. Doe', 'head of quality', releases record 5"), "{whole}");
    let signers = [&scene.records[1], &scene.person, &scene.records[2]].map(hex);
    bench.accepts("sdcwt.py", &bundle, &signers.each_ref().map(String::as_str));
    bench.accepts("receipt.py", &bundle, &[&signers.join(","), &hex(&scene.log)]);
    bench.accepts("tlog.py", &bundle, &[&hex(&scene.log), "1", &scene.vkey()]);

    // The delegation ended the day before.
    let expired = world.file("expired.lotline", scene.bundle(5, NOW - 86_400, true));
    assert!(bench.refuses("whole.py", &expired, &[&identity]).contains("after the last day"));
    // Somebody whom the org feed does not name.
    let stranger = Scene { person: Scene::new().person, ..scene };
    let named = codec::decode(&std::fs::read(&bundle).unwrap()).unwrap();
    let mut mixed = codec::as_map(&codec::decode(&stranger.bundle(5, NOW, true)).unwrap()).unwrap().clone();
    mixed.insert(codec::int(2), codec::as_map(&named).unwrap()[&codec::int(2)].clone());
    let mixed = world.file("mixed.lotline", codec::encode(&Value::Map(mixed)));
    bench.refuses("whole.py", &mixed, &[&identity]);
}

fn part_of_history(bundle: &Value) -> Value {
    codec::as_map(bundle).unwrap()[&codec::int(5)].clone()
}

fn starts<'a>(bytes: &'a [u8], part: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(part.len()).enumerate().filter(move |(_, window)| *window == part).map(|(at, _)| at)
}
