//! `docs/verify.html`, the verifier for browsers, in a real headless Chromium: it must say what `lotline_schema::verify` says,
//! of good bundles and of ten thousand bad ones, and let nothing in a record be more than text.
//!
//! The browser is driven over `--remote-debugging-pipe`, so that a test needs no port and no crate. Where there is no
//! Chromium the tests say so in capitals and pass.
#![cfg(unix)]
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use lotline_integration::forge::{Forge, Forged, Line, record};
use lotline_node::keys::random;
use lotline_node::service::now;
use lotline_schema::bundle::{Bundle, History, OrgPart};
use lotline_schema::codec;
use lotline_schema::cose::Signer;
use lotline_schema::delivery::{Delivery, Way};
use lotline_schema::fork::{ForkProof, Side};
use lotline_schema::id::unhex;
use lotline_schema::kind::inspection::{Characteristic, Inspection, Limit, Measured};
use lotline_schema::members::{Member, Members, MembersFile};
use lotline_schema::note::{Checkpoint, Cosignature, InclusionProof, WitnessKey, vkey, with_cosignatures};
use lotline_schema::org::{self, About, Entry, Org, Role};
use lotline_schema::quorum::Quorum;
use lotline_schema::receipt;
use lotline_schema::release::Release;
use lotline_schema::statement::{self, Place, Type};
use lotline_schema::tree::{Tree, leaf_hash};
use lotline_schema::verify::{Trust, TrustedRoot, verify};
use lotline_schema::view::{Package, SealedView};
use lotline_schema::voucher::Voucher;
use lotline_schema::{Hash, Origin, PartyId, Record};
use serde_json::{Value, json};
use tempfile::TempDir;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn page() -> String {
    fs::read_to_string(project().join("docs/verify.html")).unwrap()
}

// ---- The browser ----

/// The slowest answer is that to ten thousand mutations.
const PATIENCE: Duration = Duration::from_secs(300);

/// A headless Chromium with the page open in one tab.
struct Browser {
    child: Child,
    orders: File,
    news: Receiver<Value>,
    session: Option<String>,
    sent: u64,
    events: Vec<Value>,
    folder: TempDir,
}

impl Browser {
    /// Starts one, if there is one.
    fn open() -> Option<Browser> {
        let mut browser = Browser::start()?;
        let tab = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let session = browser.call("Target.attachToTarget", json!({ "targetId": tab["targetId"], "flatten": true }));
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log", "DOM"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.load();
        Some(browser)
    }

    fn start() -> Option<Browser> {
        let Some(program) = chromium() else {
            // Past the capture of the test harness: a test that did not run must not look like one that did.
            let _ = writeln!(std::io::stderr(), "\nSKIPPED: NO CHROMIUM HERE, docs/verify.html WAS NOT TESTED\n");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let [orders, news] = ["orders", "news"].map(|name| folder.path().join(name));
        assert!(Command::new("mkfifo").args([&orders, &news]).status().unwrap().success());
        // The pipe of Chromium is its file descriptors 3 and 4, which only a shell can open without unsafe code here. A
        // container has no user namespaces for the sandbox, and the only page opened is ours.
        let child = Command::new("sh")
            .args(["-c", r#"orders=$1; news=$2; shift 2; exec "$@" 3<"$orders" 4>"$news""#, "sh"])
            .args([&orders, &news, &program])
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"])
            .args(["--remote-debugging-pipe", "--window-size=1280,900", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // In the order in which the shell opens them, since each waits for the other side.
        let orders = OpenOptions::new().write(true).open(orders).unwrap();
        let answers = File::open(news).unwrap();
        let (send, news) = mpsc::channel();
        std::thread::spawn(move || read_messages(answers, &send));
        Some(Browser { child, orders, news, session: None, sent: 0, events: Vec::new(), folder })
    }

    /// Opens the page anew.
    fn load(&mut self) {
        self.call("Page.navigate", json!({ "url": format!("file://{}", project().join("docs/verify.html").display()) }));
        self.until("document.readyState === 'complete' && typeof lotlineVerify === 'function'");
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let mut order = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = &self.session {
            order["sessionId"] = json!(session);
        }
        self.orders.write_all(format!("{order}\0").as_bytes()).unwrap();
        loop {
            let news = self.news.recv_timeout(PATIENCE).unwrap_or_else(|why| panic!("no answer to {method}: {why}"));
            if news["id"] == json!(self.sent) {
                assert!(news["error"].is_null(), "{method}: {news}");
                return news["result"].clone();
            }
            self.events.push(news);
        }
    }

    /// The value of an expression, awaited.
    fn ask(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    fn until(&mut self, condition: &str) {
        let looked = Instant::now();
        while self.ask(condition) != json!(true) {
            assert!(looked.elapsed() < PATIENCE / 4, "waited in vain for {condition}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the programmatic entry says of these bytes.
    fn verify(&mut self, bytes: &[u8], options: &Value) -> Value {
        self.ask(&format!("lotlineVerify({}, {options})", in_page(bytes)))
    }

    /// Gives the page a file, as somebody who picks one does, and waits for its answer; the text of the whole page.
    fn show(&mut self, bytes: &[u8]) -> String {
        let before = self.ask("document.documentElement.dataset.checked ?? ''");
        // Another name each time: the same file picked again is no change to a browser.
        let file = self.folder.path().join(format!("shown {}.lotline", self.sent));
        fs::write(&file, bytes).unwrap();
        let document = self.call("DOM.getDocument", json!({}));
        let input = self.call("DOM.querySelector", json!({ "nodeId": document["root"]["nodeId"], "selector": "#file" }));
        self.call("DOM.setFileInputFiles", json!({ "files": [file], "nodeId": input["nodeId"] }));
        self.until(&format!("(document.documentElement.dataset.checked ?? '') !== {before}"));
        self.text()
    }

    fn text(&mut self) -> String {
        self.ask("document.body.innerText").as_str().unwrap().to_owned()
    }

    /// Whatever the page complained about or asked the network for.
    fn complaints(&self) -> Vec<String> {
        let of = |event: &Value| match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" | "Log.entryAdded" | "Runtime.consoleAPICalled" => Some(event.to_string()),
            _ => None,
        };
        self.events.iter().filter_map(of).collect()
    }

    fn requests(&self) -> Vec<String> {
        let sent = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Messages end in a zero byte.
fn read_messages(mut from: File, send: &mpsc::Sender<Value>) {
    let (mut held, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        held.extend_from_slice(&buffer[..read]);
        while let Some(end) = held.iter().position(|byte| *byte == 0) {
            let message = serde_json::from_slice(&held[..end]).unwrap();
            held.drain(..=end);
            if send.send(message).is_err() {
                return;
            }
        }
    }
}

fn chromium() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let programs = ["chromium", "chromium-browser"];
    std::env::split_paths(&folders).flat_map(|folder| programs.map(|name| folder.join(name))).find(|file| file.is_file())
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let (length, bits) = (three.len(), (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(three.get(at).copied().unwrap_or(0))));
        (0..4).map(move |at| if at <= length { char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]) } else { '=' })
    };
    bytes.chunks(3).flat_map(group).collect()
}

fn in_page(bytes: &[u8]) -> String {
    format!("Uint8Array.from(atob('{}'), (letter) => letter.charCodeAt(0))", base64(bytes))
}

// ---- Bundles ----

/// A file, and whom its reader trusts.
struct Case {
    name: String,
    bytes: Vec<u8>,
    trusted: Vec<PartyId>,
    quorum: Option<String>,
    /// Days of November 2026: by when records, and from when on the news, must have been witnessed.
    by: Option<u64>,
    after: Option<u64>,
}

impl Case {
    fn new(name: &str, bytes: Vec<u8>, trusted: &[&Forge]) -> Case {
        Case::of(name, bytes, trusted.iter().map(|forge| forge.party()).collect())
    }

    fn of(name: &str, bytes: Vec<u8>, trusted: Vec<PartyId>) -> Case {
        Case { name: name.into(), bytes, trusted, quorum: None, by: None, after: None }
    }

    fn trust(&self) -> Trust {
        let mut trust = Trust::none();
        for party in &self.trusted {
            trust.add(*party, TrustedRoot { name: "expected".into(), checked: "by this test".into() });
        }
        if let Some(text) = &self.quorum {
            trust.demand_quorum(Quorum::read(text).unwrap());
        }
        let begins = |day: u64| WITNESSED_DAY + day * DAY - 23 * DAY;
        if let Some(day) = self.by {
            trust.demand_witnessed_by(begins(day + 1) - 1);
        }
        if let Some(day) = self.after {
            trust.demand_fresh_after(begins(day));
        }
        trust
    }

    fn options(&self) -> Value {
        let day = |day: Option<u64>| day.map(|day| format!("2026-11-{day}"));
        let trusted: Vec<String> = self.trusted.iter().map(ToString::to_string).collect();
        json!({ "trust": trusted, "quorum": self.quorum, "by": day(self.by), "after": day(self.after) })
    }
}

fn number(text: &str) -> lotline_schema::Decimal {
    text.parse().unwrap()
}

/// Three pieces; one value is too large, one missing, and one was written with a comma.
fn inspection(lot: &str) -> Inspection {
    let measured = |text: &str| Measured::Number(number(text), None);
    Inspection {
        part: "4711-A".into(),
        part_name: Some("Flansch".into()),
        revision: Some("C".into()),
        lot: lot.into(),
        customer: Some("OEM One".into()),
        quantity: Some((number("500"), "pcs".into())),
        serials: ["1", "2", "3"].map(str::to_owned).into(),
        characteristics: vec![
            Characteristic {
                position: 1,
                name: "Durchmesser".into(),
                class: Some("SC".into()),
                unit: Some("mm".into()),
                nominal: Some(number("12.50")),
                lower: Limit::Limit(number("12.45")),
                upper: Limit::Limit(number("12.55")),
                values: vec![measured("12.50"), measured("12.49"), measured("12.56")],
                ..Characteristic::default()
            },
            Characteristic {
                position: 2,
                name: "Ebenheit".into(),
                unit: Some("mm".into()),
                lower: Limit::Natural(number("0")),
                upper: Limit::Limit(number("0.05")),
                values: vec![Measured::Number(number("0.01"), Some("0,010".into())), measured("0.02"), Measured::Missing],
                ..Characteristic::default()
            },
        ],
        remarks: Some("Grüße".into()),
        ..Inspection::default()
    }
}

fn checked(draft: Inspection) -> Record {
    draft.check("2026-11-23T10:00:00Z").unwrap()
}

fn lot(name: &str) -> Record {
    checked(inspection(name))
}

fn org_part(forge: &Forge) -> OrgPart {
    let checkpoint = Checkpoint { origin: Origin::org(forge.party()), size: forge.org.size(), root: forge.org.frontier().root() };
    OrgPart::of(&forge.org, &checkpoint.sign(&forge.keys.log))
}

/// The package of one entry under the newest checkpoint, with the slots that `shown` picks.
fn package(forge: &Forge, line: &Line, index: u64, shown: impl Fn(usize) -> bool) -> Package {
    packages(forge, line, index..index + 1, shown).remove(0)
}

fn packages(forge: &Forge, line: &Line, indexes: std::ops::Range<u64>, shown: impl Fn(usize) -> bool) -> Vec<Package> {
    let tree = Tree::new(line.entries.iter().map(|entry| entry.leaf).collect());
    let checkpoint = Checkpoint { origin: line.origin.clone(), size: line.size(), root: tree.root(line.size()) };
    let checkpoint = checkpoint.sign(&forge.keys.log);
    let of = |index: u64| {
        let entry = &line.entries[index as usize];
        let path = tree.inclusion(index, line.size()).unwrap();
        let disclosures = entry.disclosures.iter().enumerate().filter(|(slot, _)| shown(*slot)).map(|(_, one)| one.clone());
        let view = SealedView { core: entry.core.clone(), disclosures: disclosures.collect() };
        Package::new(view, InclusionProof { index, path, checkpoint: checkpoint.clone() }.to_text())
    };
    indexes.map(of).collect()
}

fn all(_: usize) -> bool {
    true
}

fn file(forges: &[&Forge], packages: Vec<Package>) -> Vec<u8> {
    let orgs = forges.iter().map(|forge| org_part(forge)).collect();
    Bundle { orgs, packages, first_version: true, ..Bundle::default() }.to_bytes()
}

fn withdraw(forge: &mut Forge, line: &Line, seq: u64, reason: &str) {
    let leaf = line.entries[seq as usize].leaf;
    let entry = Entry::Withdrawal { origin: line.origin.clone(), seq, leaf, reason: reason.into() };
    let sealed = org::seal(&forge.org, &entry, now(), &forge.keys.record, random).unwrap();
    forge.org.accept(sealed.core).unwrap();
}

fn supersede(forge: &Forge, line: &mut Line, leaf: Hash, record: &Record) {
    let place = Place { origin: line.origin.clone(), seq: line.size(), now: now(), supersedes: Some(leaf) };
    let sealed = statement::seal_record(record, &place, &forge.keys.record, random).unwrap();
    line.push(sealed);
}

/// The same signature with the group order added to its S: what a looser reader takes for another spelling of it.
fn with_loose_signature(package: &Package) -> Package {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0x10,
    ];
    let mut loose = package.clone();
    let at = loose.view.core.len() - 32;
    let mut carry = 0;
    for (byte, add) in loose.view.core[at..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    loose
}

/// Every bundle on which the page and the program must agree. Bundles of further versions are added here.
fn bundles() -> Vec<Case> {
    [
        honest(),
        contradicting(),
        broken(),
        vectors(),
        witnessed(),
        quorums(),
        histories(),
        keys(),
        org_feeds(),
        stolen(),
        evidence(),
        revoked_receipts(),
        fork_proofs(),
        prefixes(),
        vec![rich()],
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn honest() -> Vec<Case> {
    let (mut anna, mut bert) = (Forge::new("Anna GmbH"), Forge::new("Bert & Söhne"));
    let mut line = anna.open("quality");
    for name in ["L-1", "L-2", "L-3"] {
        line.publish(&anna, &lot(name));
    }
    line.publish(&anna, &record("L-9", "P-9", "a kind for benchmarks"));
    let mut other = bert.open("quality");
    other.publish(&bert, &lot("L-1"));
    let one = |shown: fn(usize) -> bool| vec![package(&anna, &line, 1, shown)];
    let both = || [packages(&anna, &line, 1..4, all), packages(&bert, &other, 1..2, all)].concat();
    let mut cases = vec![
        Case::new("one record, whole", file(&[&anna], one(all)), &[&anna]),
        Case::new("one record, partly hidden", file(&[&anna], one(|slot| slot % 3 == 0)), &[&anna]),
        Case::new("one record, all hidden", file(&[&anna], one(|_| false)), &[&anna]),
        Case::new("nobody named", file(&[&anna], one(all)), &[]),
        Case::new("somebody else named", file(&[&anna], one(all)), &[&bert]),
        Case::new("the same record twice", file(&[&anna], [one(all), one(all)].concat()), &[&anna]),
        Case::new("four records, one for benchmarks", file(&[&anna], packages(&anna, &line, 1..5, all)), &[&anna]),
        Case::new("two issuers", file(&[&anna, &bert], both()), &[&anna, &bert]),
        Case::new("two issuers, one named", file(&[&bert, &anna], both()), &[&bert]),
    ];
    let replaced = line.entries[1].leaf;
    supersede(&anna, &mut line, replaced, &lot("L-1"));
    cases.push(Case::new("one replaced by another", file(&[&anna], packages(&anna, &line, 1..6, all)), &[&anna]));
    withdraw(&mut anna, &line, 2, "falsches Prüfmittel");
    cases.push(Case::new("one withdrawn", file(&[&anna], packages(&anna, &line, 1..3, all)), &[&anna]));
    cases.push(Case::new("one withdrawn, nobody named", file(&[&anna], packages(&anna, &line, 1..3, all)), &[]));
    cases
}

fn contradicting() -> Vec<Case> {
    let mut forge = Forge::new("Carl");
    let mut line = forge.open("quality");
    line.publish(&forge, &lot("L-1"));
    let mut fork = line.clone();
    line.publish(&forge, &lot("L-2"));
    fork.publish(&forge, &lot("L-3"));
    let place = vec![package(&forge, &line, 2, all), package(&forge, &fork, 2, all)];
    let size = vec![package(&forge, &line, 1, all), package(&forge, &fork, 2, all)];
    let mut cases = vec![
        Case::new("two statements at one place", file(&[&forge], place), &[&forge]),
        Case::new("two roots of one size", file(&[&forge], size), &[&forge]),
    ];
    line.publish(&forge, &lot("L-1"));
    cases.push(Case::new("two live records", file(&[&forge], packages(&forge, &line, 1..4, all)), &[&forge]));
    let hidden = packages(&forge, &line, 1..4, |slot| slot != 12);
    cases.push(Case::new("two records, the sample hidden", file(&[&forge], hidden), &[&forge]));
    cases
}

fn broken() -> Vec<Case> {
    let (mut forge, mut other) = (Forge::new("Dora"), Forge::new("Emil"));
    let (mut line, idle) = (forge.open("quality"), other.open("quality"));
    line.publish(&forge, &lot("L-1"));
    line.publish(&forge, &lot("L-2"));
    let good = package(&forge, &line, 1, all);
    let whole = file(&[&forge], vec![good.clone()]);
    let unopened = Line { origin: Origin::new(forge.party(), "secret", 1).unwrap(), entries: line.entries[..1].to_vec() };
    let mut unopened_line = unopened.clone();
    unopened_line.publish(&forge, &lot("L-1"));
    let stranger = {
        let mut line = Line { origin: line.origin.clone(), entries: line.entries[..1].to_vec() };
        let entry = line.seal(&other, &lot("L-7"));
        line.entries.push(Forged::of(entry.core, entry.disclosures));
        package(&forge, &line, 1, all)
    };
    let swapped = Package { proof: package(&forge, &line, 2, all).proof, ..good.clone() };
    let foreign = Package { proof: package(&other, &line, 1, all).proof, ..good.clone() };
    let twice = {
        let mut view = good.view.clone();
        view.disclosures.push(view.disclosures[0].clone());
        Package { view, ..good.clone() }
    };
    let borrowed = {
        let mut view = good.view.clone();
        view.disclosures[0] = line.entries[2].disclosures[0].clone();
        Package { view, ..good.clone() }
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no record", file(&[&forge], vec![])),
        ("the first entry as a record", file(&[&forge], vec![package(&forge, &line, 0, all)])),
        ("an org feed without a record", file(&[&forge, &other], vec![good.clone()])),
        ("an org feed twice", file(&[&forge, &forge], vec![good.clone()])),
        ("no org feed of the issuer", file(&[&other], vec![good.clone(), package(&other, &idle, 0, all)])),
        ("a feed never opened", file(&[&forge], vec![package(&forge, &unopened_line, 1, all)])),
        ("signed by a stranger", file(&[&forge], vec![stranger])),
        ("the proof of another record", file(&[&forge], vec![swapped])),
        ("a checkpoint under a stranger's key", file(&[&forge], vec![foreign])),
        ("a slot opened twice", file(&[&forge], vec![twice])),
        ("a disclosure of another record", file(&[&forge], vec![borrowed])),
        ("a loose signature", file(&[&forge], vec![with_loose_signature(&good)])),
        ("a record and its org feed cut", whole[..whole.len() - 1].to_vec()),
        ("a byte behind", [&whole[..], &[0]].concat()),
        ("nothing", Vec::new()),
        ("one byte", vec![0xa4]),
        ("a title alone", [&[0xa4, 0x00, 0x6e], &b"lotline bundle"[..]].concat()),
        ("a shopping list", b"a shopping list".to_vec()),
        ("a version of the future", with_version(&whole, 9)),
        ("the same in version 2", with_version(&whole, 2)),
    ];
    cases.into_iter().map(|(name, bytes)| Case::new(name, bytes, &[&forge, &other])).collect()
}

/// The file with another version number, which stands behind the title.
fn with_version(bundle: &[u8], version: u8) -> Vec<u8> {
    let mut bytes = bundle.to_vec();
    assert_eq!(bytes[17..19], [1, 1]);
    bytes[18] = version;
    bytes
}

/// Those of the published vectors, good and bad.
fn vectors() -> Vec<Case> {
    let text = fs::read_to_string(project().join("schema/vectors/lotline-1.json")).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    let party: PartyId = vectors["party"]["did"].as_str().unwrap().parse().unwrap();
    let case = |name: &Value, bytes: &Value| Case {
        name: format!("vector: {}", name.as_str().unwrap()),
        bytes: unhex(bytes.as_str().unwrap()).unwrap(),
        trusted: vec![party],
        quorum: None,
        by: None,
        after: None,
    };
    let bad = vectors["negative"]["bundles"].as_array().unwrap().iter().map(|one| case(&one["name"], &one["bundle"]));
    std::iter::once(case(&json!("the good one"), &vectors["bundle"])).chain(bad).collect()
}

// ---- Bundles of version 2 ----

/// A firm every key of which we hold, with one feed.
struct Firm {
    root: Signer,
    record: Signer,
    log: Signer,
    org: Org,
    origin: Origin,
    leaves: Vec<Hash>,
    entries: Vec<SealedView>,
}

fn key(seed: u8) -> Signer {
    Signer::from_seed(&[seed; 32])
}

impl Firm {
    /// Its keys are 32 repeated bytes, from `seed` on: root, record, log, witness, transport.
    fn new(seed: u8, name: &str) -> Firm {
        let (root, record, log) = (key(seed), key(seed + 1), key(seed + 2));
        let roles = [(Role::Record, &record), (Role::Log, &log), (Role::Witness, &key(seed + 3)), (Role::Transport, &key(seed + 4))];
        let keyring = Entry::keyring(name, roles.map(|(role, key)| (role, key.public())).into());
        let party = PartyId::of(&root.public());
        let origin = Origin::new(party, "quality", 1).unwrap();
        let mut firm = Firm { root, record, log, org: Org::new(party), origin, leaves: Vec::new(), entries: Vec::new() };
        firm.by_root(&keyring);
        firm.by_record(&Entry::Feed { origin: firm.origin.clone(), follows: None });
        let first = org::seal_first(&firm.org, &firm.origin, now(), &firm.record, random).unwrap();
        firm.push(first);
        firm
    }

    fn state(&mut self, entry: &Entry, by: &Signer) {
        let sealed = org::seal(&self.org, entry, now(), by, random).unwrap();
        self.org.accept(sealed.core).unwrap();
    }

    fn by_root(&mut self, entry: &Entry) {
        let root = self.root.clone();
        self.state(entry, &root);
    }

    fn by_record(&mut self, entry: &Entry) {
        let record = self.record.clone();
        self.state(entry, &record);
    }

    fn push(&mut self, sealed: statement::Sealed) {
        self.leaves.push(sealed.leaf);
        self.entries.push(SealedView { core: sealed.core, disclosures: sealed.disclosures });
    }

    fn place(&self) -> Place {
        Place { origin: self.origin.clone(), seq: self.leaves.len() as u64, now: now(), supersedes: None }
    }

    fn publish(&mut self, name: &str) {
        let sealed = statement::seal_record(&lot(name), &self.place(), &self.record, random).unwrap();
        self.push(sealed);
    }

    fn replace(&mut self, name: &str, leaf: Hash) {
        let place = Place { supersedes: Some(leaf), ..self.place() };
        let sealed = statement::seal_record(&lot(name), &place, &self.record, random).unwrap();
        self.push(sealed);
    }

    fn party(&self) -> PartyId {
        self.org.party()
    }

    fn tree(&self) -> Tree {
        Tree::new(self.leaves.clone())
    }

    fn checkpoint(&self, size: u64) -> Checkpoint {
        Checkpoint { origin: self.origin.clone(), size, root: self.tree().root(size) }
    }

    /// A proof of an entry under a checkpoint of this size, with cosignatures.
    fn proof(&self, index: u64, size: u64, cosignatures: &[Cosignature]) -> String {
        let path = self.tree().inclusion(index, size).unwrap();
        let checkpoint = with_cosignatures(&self.checkpoint(size).sign(&self.log), cosignatures);
        InclusionProof { index, path, checkpoint }.to_text()
    }

    fn package(&self, index: u64, size: u64) -> Package {
        Package::new(self.entries[index as usize].clone(), self.proof(index, size, &[]))
    }

    fn org_checkpoint(&self) -> Checkpoint {
        Checkpoint { origin: Origin::org(self.party()), size: self.org.size(), root: self.org.frontier().root() }
    }

    fn org_part(&self) -> OrgPart {
        OrgPart::of(&self.org, &self.org_checkpoint().sign(&self.log))
    }

    fn bundle(&self, packages: Vec<Package>) -> Bundle {
        Bundle { orgs: vec![self.org_part()], packages, ..Bundle::default() }
    }

    /// The org feed with one entry more, whether or not it holds.
    fn org_part_with(&self, entry: codec::Value, by: &Signer) -> OrgPart {
        let place = Place { origin: Origin::org(self.party()), seq: self.org.size(), now: now(), supersedes: None };
        let core = statement::seal_entry(Type::Org, entry, &place, by, random).unwrap().core;
        let entries: Vec<Vec<u8>> = self.org.entries().iter().cloned().chain([core]).collect();
        let tree = Tree::new(entries.iter().map(|entry| leaf_hash(entry)).collect());
        let size = entries.len() as u64;
        let checkpoint = Checkpoint { origin: Origin::org(self.party()), size, root: tree.root(size) }.sign(&self.log);
        OrgPart { entries, checkpoint }
    }

    fn history(&self, older: &[u64], size: u64) -> History {
        let older = older.iter().map(|old| (*old, self.tree().consistency(*old, size).unwrap())).collect();
        History { origin: self.origin.to_string(), size, older }
    }

    fn case(&self, name: &str, bundle: &Bundle) -> Case {
        Case::of(name, bundle.to_bytes(), vec![self.party()])
    }

    fn rotation(&self, role: Role, new: u8, from: u64) -> Entry {
        self.rotation_at(role, new, self.org.size(), from)
    }

    /// One that begins at a place of the org feed that may be long past.
    fn rotation_at(&self, role: Role, new: u8, org: u64, from: u64) -> Entry {
        let from = [(Origin::org(self.party()).to_string(), org), (self.origin.to_string(), from)].into();
        Entry::Rotation { role, key: key(new).public(), from, reason: "a new year".into() }
    }
}

const DAY: u64 = 86_400;
/// 2026-11-23, and a moment of it.
const WITNESSED_DAY: u64 = 1_795_392_000;
const WITNESSED_AT: u64 = WITNESSED_DAY + 8000;

fn witnesses(of: &[u8]) -> Vec<String> {
    let mut keys: Vec<String> = of.iter().map(|seed| WitnessKey::opaque(key(*seed).public()).to_string()).collect();
    keys.sort();
    keys
}

fn witnessed() -> Vec<Case> {
    let mut firm = Firm::new(10, "Zeuge GmbH");
    firm.publish("L-1");
    firm.publish("L-2");
    let sign = |size: u64, by: u8, time: u64| Cosignature::sign(&firm.checkpoint(size), &key(by), time);
    let of = |cosignatures: &[Cosignature]| {
        let mut package = firm.package(1, 3);
        package.proof = firm.proof(1, 3, cosignatures);
        firm.bundle(vec![package])
    };
    let two = [sign(3, 101, WITNESSED_AT), sign(3, 102, WITNESSED_AT + 60)];
    let listed = Bundle { witnesses: witnesses(&[101, 102]), ..of(&two) };
    let mut early = Bundle { witnesses: witnesses(&[101, 103]), ..of(&two) };
    early.packages[0].witnessed = Some(firm.proof(1, 2, &[sign(2, 103, WITNESSED_AT - 60)]));
    early.histories = vec![History { origin: firm.origin.to_string(), size: 3, older: vec![(2, firm.tree().consistency(2, 3).unwrap())] }];
    let later = {
        let mut bundle = firm.bundle(vec![firm.package(1, 2)]);
        bundle.packages[0].witnessed = Some(firm.proof(1, 3, &[]));
        bundle
    };
    let forged = Cosignature::sign(&firm.checkpoint(2), &key(101), WITNESSED_AT);
    let mut fresh = listed.clone();
    let org = Cosignature::sign(&firm.org_checkpoint(), &key(101), WITNESSED_AT);
    fresh.orgs[0].checkpoint = with_cosignatures(&fresh.orgs[0].checkpoint, &[org]);
    let many: Vec<Cosignature> = (100..116).map(|by| sign(3, by, WITNESSED_AT)).collect();
    let disorderly = {
        let mut bundle = listed.clone();
        let lines: Vec<String> = two.iter().map(|line| line.to_line() + "\n").collect();
        let mut sorted = lines.clone();
        sorted.sort();
        bundle.packages[0].proof = bundle.packages[0].proof.replace(&sorted.concat(), &[&sorted[1][..], &sorted[0]].concat());
        bundle
    };
    let quorum = |text: &str| Some(format!("{text}\n").replace("@A", &witnesses(&[101])[0]).replace("@B", &witnesses(&[104])[0]));
    let log = format!("log {}\n", vkey(firm.origin.as_str(), &firm.log.public()));
    let asked = |name: &str, bundle: &Bundle, text: &str| Case { quorum: quorum(text), ..firm.case(name, bundle) };
    vec![
        firm.case("version 2, no evidence", &firm.bundle(vec![firm.package(1, 3)])),
        firm.case("two witnesses", &listed),
        firm.case("witnesses nobody can check", &of(&two)),
        firm.case("a witness that signed nothing", &Bundle { witnesses: witnesses(&[101, 102, 105]), ..of(&two) }),
        firm.case("witnesses out of order", &Bundle { witnesses: witnesses(&[101, 102]).into_iter().rev().collect(), ..of(&two) }),
        firm.case("no witness key at all", &Bundle { witnesses: vec!["w-1+00000000+AAAA".into()], ..of(&two) }),
        firm.case("a cosignature of another checkpoint", &Bundle { witnesses: witnesses(&[101]), ..of(&[forged]) }),
        firm.case("cosignatures out of order", &disorderly),
        firm.case("sixteen witnesses", &of(&many)),
        firm.case("cosignatures in version 1", &Bundle { first_version: true, witnesses: Vec::new(), ..listed.clone() }),
        firm.case("witnessed earlier", &early),
        firm.case("witnessed later than it says", &later),
        firm.case("a witnessed org feed", &fresh),
        asked("a quorum of one, reached", &of(&two), "witness a @A\nquorum a"),
        asked("a quorum of one, not reached", &listed, "witness b @B\nquorum b"),
        asked("a quorum of any", &listed, "# who counts\nwitness a @A\nwitness b @B\ngroup any any a b\nquorum any"),
        asked("a quorum of all", &listed, "witness a @A\n\twitness  b  @B\ngroup all all a b\nquorum all"),
        asked("no quorum", &listed, "quorum none"),
        asked("a quorum, and this log", &listed, &format!("{log}witness a @A\nquorum a")),
        asked(
            "a quorum, and another log",
            &listed,
            &format!("{}witness a @A\nquorum a", log.replace(&log[4..], &(vkey("other", &key(9).public()) + "\n"))),
        ),
        Case { by: Some(23), ..firm.case("witnessed by the day", &listed) },
        Case { by: Some(22), ..firm.case("witnessed a day too late", &listed) },
        Case { by: Some(23), ..firm.case("witnessed by nobody", &firm.bundle(vec![firm.package(1, 3)])) },
        Case { by: Some(23), ..asked("witnessed in time, and not by the quorum", &listed, "witness b @B\nquorum b") },
        Case { by: Some(23), ..asked("witnessed in time, no quorum", &listed, "quorum none") },
        Case { after: Some(23), ..firm.case("news of the day", &fresh) },
        Case { after: Some(24), ..firm.case("news too old", &fresh) },
        Case { after: Some(23), ..firm.case("news nobody witnessed", &listed) },
        Case { by: Some(22), after: Some(24), ..firm.case("too late and too old", &fresh) },
        Case { by: Some(23), after: Some(23), ..asked("all that can be demanded", &fresh, "witness a @A\nquorum a") },
        Case { after: Some(23), ..asked("news not witnessed by the quorum", &fresh, "witness b @B\nquorum b") },
    ]
}

/// Quorum files in all the spellings there are.
fn quorums() -> Vec<Case> {
    let mut firm = Firm::new(10, "Quorum GmbH");
    firm.publish("L-1");
    let entry = firm.rotation(Role::Log, 19, 2);
    firm.by_root(&entry);
    let old = std::mem::replace(&mut firm.log, key(19));
    let sign = |by: u8, time: u64| Cosignature::sign(&firm.checkpoint(2), &key(by), time);
    let mut package = firm.package(1, 2);
    package.proof = firm.proof(1, 2, &[sign(101, WITNESSED_AT), sign(102, WITNESSED_AT + 60), sign(103, WITNESSED_AT + 120)]);
    let bundle = Bundle { witnesses: witnesses(&[101, 102, 103]), ..firm.bundle(vec![package]) };
    let three =
        ["a", "b", "c"].into_iter().zip(101..).map(|(name, by)| format!("witness {name} {}\n", witnesses(&[by])[0])).collect::<String>();
    let log = |key: &Signer| format!("log {} https\n", vkey(firm.origin.as_str(), &key.public()));
    let texts = [
        ("two of three", format!("{three}group two 2 a b c\nquorum two\n")),
        ("a witness in two groups", format!("{three}group one 2 a b\ngroup two 2 b c\ngroup both all one two\nquorum both\n")),
        ("a threshold with a sign", format!("{three}group two +02 a b c\nquorum two")),
        ("odd spaces", format!("\r\n#\u{a0}who\r\n{three}\u{a0}group\u{2003}two  any\ta \r\nquorum two\r\n")),
        ("a witness of this name, with a place", three.replace("\nwitness b", " https somewhere\nwitness b") + "quorum c"),
        ("the former log of this place", format!("{}{three}quorum a", log(&old))),
        ("the log of this place, twice", format!("{0}{0}{three}quorum a", log(&firm.log))),
        ("no log of this place", format!("{}{three}quorum a", log(&key(1)))),
    ];
    texts.into_iter().map(|(name, text)| Case { quorum: Some(text), ..firm.case(&format!("a quorum file: {name}"), &bundle) }).collect()
}

fn histories() -> Vec<Case> {
    let mut firm = Firm::new(20, "Historie AG");
    for name in ["L-1", "L-2", "L-3", "L-4"] {
        firm.publish(name);
    }
    let packages = || vec![firm.package(1, 2), firm.package(2, 4), firm.package(4, 5)];
    let link = |old: u64| (old, firm.tree().consistency(old, 5).unwrap());
    let history = |older: Vec<(u64, Vec<Hash>)>| History { origin: firm.origin.to_string(), size: 5, older };
    let with = |histories: Vec<History>| Bundle { histories, ..firm.bundle(packages()) };
    let mut crooked = link(4);
    crooked.1[0].0[0] ^= 1;
    vec![
        firm.case("one history", &with(vec![history(vec![link(2), link(4)])])),
        firm.case("no history", &with(vec![])),
        firm.case("a link missing", &with(vec![history(vec![link(4)])])),
        firm.case("a link too many", &with(vec![history(vec![link(2), link(3), link(4)])])),
        firm.case("a crooked link", &with(vec![history(vec![link(2), crooked])])),
        firm.case("a history twice", &with(vec![history(vec![link(2), link(4)]), history(vec![link(2), link(4)])])),
        firm.case("a history not needed", &Bundle { histories: vec![history(vec![link(2)])], ..firm.bundle(vec![firm.package(1, 5)]) }),
        firm.case("several sizes in version 1", &Bundle { first_version: true, ..firm.bundle(packages()) }),
    ]
}

fn keys() -> Vec<Case> {
    let mut cases = Vec::new();
    // The record key changes behind record 2 and, in another life, behind record 1, which revokes record 2.
    for (name, from) in [("a new record key", 3), ("a new record key that revokes", 2)] {
        let mut firm = Firm::new(30, "Schlüssel KG");
        firm.publish("L-1");
        firm.publish("L-2");
        let entry = firm.rotation(Role::Record, 40, from);
        firm.by_root(&entry);
        firm.record = key(40);
        firm.publish("L-3");
        cases.push(firm.case(name, &firm.bundle((1..4).map(|at| firm.package(at, 4)).collect())));
    }
    // The log key changes at size 2: both keys are good for that size, and only the new one beyond.
    let mut firm = Firm::new(30, "Schlüssel KG");
    firm.publish("L-1");
    let before = firm.package(1, 2);
    let entry = firm.rotation(Role::Log, 41, 2);
    firm.by_root(&entry);
    let old = std::mem::replace(&mut firm.log, key(41));
    firm.publish("L-2");
    cases.push(firm.case("a new log key", &firm.bundle(vec![firm.package(1, 3), firm.package(2, 3)])));
    cases.push(firm.case("the size of the change", &firm.bundle(vec![before, firm.package(1, 2)])));
    let new = std::mem::replace(&mut firm.log, old);
    let stale = firm.package(2, 3);
    firm.log = new;
    cases.push(firm.case("an old log key", &firm.bundle(vec![stale])));
    // A successor takes over, and a person and a second site come in.
    let mut firm = Firm::new(50, "Nachfolger & Co");
    firm.by_root(&Entry::Successor { thumbprint: key(60).kid() });
    firm.state(&Entry::Root { key: key(60).public() }, &key(60));
    firm.root = key(60);
    firm.publish("L-1");
    firm.by_root(&Entry::Signer { name: "Petra Prüferin".into(), function: "quality manager".into(), key: key(61).public() });
    let release = Release { leaf: firm.leaves[1], seq: 1 }.seal(&firm.place(), &key(61), random).unwrap();
    firm.push(release);
    let released = || vec![firm.package(1, 3), firm.package(2, 3)];
    cases.push(firm.case("a new root", &firm.bundle(vec![firm.package(1, 3)])));
    cases.push(firm.case("a release", &firm.bundle(released())));
    cases.push(firm.case("a release alone", &firm.bundle(vec![firm.package(2, 3)])));
    let place = firm.place();
    for (name, day) in [("a delegated feed", now()), ("a delegation that expired", 86_400)] {
        let mut firm = Firm::new(50, "Nachfolger & Co");
        let origin = Origin::new(firm.party(), "werk-2", 1).unwrap();
        let (record, log) = (key(70), key(71));
        let until = day.next_multiple_of(86_400);
        firm.by_root(&Entry::Delegation {
            name: "Werk 2".into(),
            origin: origin.clone(),
            record: record.public(),
            log: log.public(),
            until,
        });
        let part = firm.org_part();
        (firm.origin, firm.leaves, firm.entries, firm.record, firm.log) = (origin, Vec::new(), Vec::new(), record, log);
        let first = org::seal_first(&firm.org, &firm.origin, now(), &firm.record, random).unwrap();
        firm.push(first);
        firm.publish("L-1");
        let bundle = Bundle { orgs: vec![part], ..firm.bundle(vec![firm.package(1, 2)]) };
        cases.push(firm.case(name, &bundle));
    }
    assert_eq!(place.seq, 3);
    let from = [(firm.origin.to_string(), 2)].into();
    firm.by_root(&Entry::SignerEnd { thumbprint: key(61).kid(), from });
    let released = vec![firm.package(1, 3), firm.package(2, 3)];
    cases.push(firm.case("a release that no longer counts", &firm.bundle(released)));
    cases
}

/// Entries of the org feed, in form and out of it, signed by those who may and by others.
fn org_feeds() -> Vec<Case> {
    let attestation =
        |kind: &str, bytes: usize| codec::array([codec::text("attestation"), codec::text(kind), codec::bytes(vec![7; bytes])]);
    let unknown = |of: &str| codec::array([codec::text(of), codec::uint(1)]);
    let mut firm = Firm::new(120, "Stammreihe OHG");
    let old = std::mem::replace(&mut firm.record, key(129));
    let entry = firm.rotation(Role::Record, 129, 1);
    firm.by_root(&entry);
    firm.publish("L-1");
    let nobody = key(1);
    let ways: Vec<(&str, codec::Value, &Signer)> = vec![
        ("an attestation", attestation("qseal", 900), &firm.root),
        ("an attestation of nothing", attestation("rfc3161", 0), &firm.root),
        ("an attestation under the record key", attestation("qseal", 9), &firm.record),
        ("an attestation without a name", attestation("", 9), &firm.root),
        ("an attestation too long", attestation("qseal", 32 * 1024 + 1), &firm.root),
        ("an attestation too long, of nobody", attestation("qseal", 32 * 1024 + 1), &firm.log),
        ("an unknown entry of the root", unknown("audit"), &firm.root),
        ("an unknown entry of the record key", unknown("audit"), &firm.record),
        ("an unknown entry of a former key", unknown("audit"), &old),
        ("an unknown entry of the log key", unknown("audit"), &firm.log),
        ("an unknown entry of nobody", unknown("audit"), &nobody),
        ("a known entry of another form", unknown("feed"), &firm.record),
        ("a known entry of another form, of nobody", unknown("rotation"), &nobody),
        ("an entry that is no array", codec::uint(1), &firm.root),
        ("an entry without a name", codec::array([]), &firm.root),
        ("an entry without a name, of nobody", codec::array([]), &nobody),
    ];
    let mut cases: Vec<Case> = ways
        .into_iter()
        .map(|(name, entry, by)| {
            let bundle = Bundle { orgs: vec![firm.org_part_with(entry, by)], ..firm.bundle(vec![firm.package(1, 2)]) };
            firm.case(name, &bundle)
        })
        .collect();
    for (name, about) in [
        ("ids and attestations in the keyring", about("BPN", "BPNL00000000TEST", 3)),
        ("an id without a kind", about("", "BPNL00000000TEST", 3)),
        ("an attestation of the keyring too long", about("BPN", "BPNL00000000TEST", 32 * 1024 + 1)),
    ] {
        let org = Org::new(firm.party());
        let keys =
            [Role::Record, Role::Log, Role::Witness, Role::Transport].into_iter().zip(121..).map(|(role, seed)| (role, key(seed).public()));
        let keyring = Entry::Keyring { name: "Stammreihe OHG".into(), keys: keys.collect(), about };
        let core = org::seal(&org, &keyring, now(), &firm.root, random).unwrap().core;
        let root = Tree::new(vec![leaf_hash(&core)]).root(1);
        let checkpoint = Checkpoint { origin: Origin::org(firm.party()), size: 1, root }.sign(&firm.log);
        let part = OrgPart { entries: vec![core], checkpoint };
        cases.push(firm.case(name, &Bundle { orgs: vec![part], ..firm.bundle(vec![firm.package(1, 2)]) }));
    }
    cases
}

fn about(kind: &str, id: &str, bytes: usize) -> About {
    About { ids: [(kind.to_owned(), id.to_owned())].into(), attestations: vec![("qseal".into(), vec![7; bytes])] }
}

/// Keys that were taken back, and what they had stated.
fn stolen() -> Vec<Case> {
    let mut cases = Vec::new();
    // A second rotation begins below the first: of two former keys one loses one record, the other two.
    for role in [Role::Record, Role::Log] {
        let mut firm = Firm::new(130, "Zweimal & Söhne");
        firm.publish("L-1");
        firm.publish("L-2");
        let early = firm.package(1, 2);
        let entry = firm.rotation(role, 141, 3);
        firm.by_root(&entry);
        let held = if role == Role::Record { &mut firm.record } else { &mut firm.log };
        *held = key(141);
        firm.publish("L-3");
        let late = firm.package(3, 4);
        let before = firm.bundle(vec![firm.package(1, 4), firm.package(2, 4), late.clone()]);
        let entry = firm.rotation(role, 142, 2);
        firm.by_root(&entry);
        let held = if role == Role::Record { &mut firm.record } else { &mut firm.log };
        *held = key(142);
        firm.publish("L-4");
        cases.push(firm.case(&format!("a first rotation of the {role} key"), &before));
        cases.push(firm.case(
            &format!("a second rotation of the {role} key below the first"),
            &firm.bundle((1..5).map(|at| firm.package(at, 5)).collect()),
        ));
        let histories = vec![firm.history(&[2], 5)];
        cases.push(firm.case(
            &format!("what the former {role} keys had signed"),
            &Bundle { histories, ..firm.bundle(vec![early, firm.package(4, 5)]) },
        ));
        cases.push(firm.case(&format!("what a {role} key signed that was taken back"), &firm.bundle(vec![late, firm.package(4, 5)])));
    }
    // A thief withdraws a record and opens a feed, and before and after the key is taken back.
    let mut firm = Firm::new(130, "Bestohlen eG");
    firm.publish("L-1");
    let place = firm.org.size();
    let hidden = Origin::new(firm.party(), "hidden", 1).unwrap();
    firm.by_record(&Entry::Withdrawal { origin: firm.origin.clone(), seq: 1, leaf: firm.leaves[1], reason: "gestohlen".into() });
    firm.by_record(&Entry::Feed { origin: hidden.clone(), follows: None });
    let first = org::seal_first(&firm.org, &hidden, now(), &firm.record, random).unwrap();
    let mut thief =
        Firm { origin: hidden.clone(), leaves: Vec::new(), entries: Vec::new(), org: firm.org.clone(), ..Firm::new(130, "Bestohlen eG") };
    thief.push(first);
    thief.publish("L-9");
    cases.push(firm.case("withdrawn by a thief", &firm.bundle(vec![firm.package(1, 2)])));
    cases.push(firm.case("a feed of a thief", &firm.bundle(vec![thief.package(1, 2)])));
    for (name, from) in [("all that a thief stated is void", place), ("what a thief stated later is void", place + 1)] {
        let mut firm =
            Firm { org: firm.org.clone(), leaves: firm.leaves.clone(), entries: firm.entries.clone(), ..Firm::new(130, "Bestohlen eG") };
        firm.origin = Origin::new(firm.party(), "quality", 1).unwrap();
        let Entry::Rotation { role, key: new, from: mut places, reason } = firm.rotation_at(Role::Record, 143, from, 2) else {
            unreachable!()
        };
        places.insert(hidden.to_string(), 0);
        firm.by_root(&Entry::Rotation { role, key: new, from: places, reason });
        firm.record = key(143);
        firm.publish("L-2");
        cases.push(firm.case(name, &firm.bundle(vec![firm.package(1, 3), firm.package(2, 3)])));
        cases.push(firm.case(&format!("{name}, his feed too"), &firm.bundle(vec![firm.package(1, 3), thief.package(1, 2)])));
        if from == place {
            // What is void can be stated again.
            firm.by_record(&Entry::Feed { origin: hidden.clone(), follows: None });
            firm.by_record(&Entry::Withdrawal { origin: firm.origin.clone(), seq: 1, leaf: firm.leaves[1], reason: "wirklich".into() });
            cases.push(firm.case("withdrawn once more", &firm.bundle(vec![firm.package(1, 3), firm.package(2, 3)])));
        }
    }
    // A delegation ends between two records of the other site.
    let mut firm = Firm::new(150, "Mutterhaus");
    let origin = Origin::new(firm.party(), "werk-2", 1).unwrap();
    let (record, log, until) = (key(151 + 9), key(152 + 9), now().next_multiple_of(DAY) + DAY);
    let delegation = Entry::Delegation { name: "Werk 2".into(), origin: origin.clone(), record: record.public(), log: log.public(), until };
    firm.by_root(&delegation);
    let mut site = Firm {
        origin: origin.clone(),
        leaves: Vec::new(),
        entries: Vec::new(),
        org: firm.org.clone(),
        record,
        log,
        ..Firm::new(150, "Mutterhaus")
    };
    let first = org::seal_first(&firm.org, &origin, now(), &site.record, random).unwrap();
    site.push(first);
    site.publish("L-1");
    site.publish("L-2");
    let of =
        |firm: &Firm, at: &[u64]| Bundle { orgs: vec![firm.org_part()], ..site.bundle(at.iter().map(|at| site.package(*at, 3)).collect()) };
    cases.push(firm.case("before a delegation ends", &of(&firm, &[1, 2])));
    firm.by_root(&Entry::DelegationEnd { origin, from: 2 });
    cases.push(firm.case("a delegation that ended", &of(&firm, &[1, 2])));
    cases.push(firm.case("what came before a delegation ended", &of(&firm, &[1])));
    cases
}

fn evidence() -> Vec<Case> {
    let (mut firm, mut customer) = (Firm::new(80, "Lieferant"), Firm::new(90, "Kunde"));
    firm.publish("L-1");
    firm.publish("L-2");
    customer.publish("L-9");
    let packaged = |seq: u64, at: u64, size: u64| {
        let path = firm.tree().inclusion(seq, size).unwrap();
        let mut package = firm.package(at, 3);
        package.receipt = receipt::issue(&firm.log, &firm.checkpoint(size), seq, &path, now());
        firm.bundle(vec![package])
    };
    let delivery = |from: u64, to: u64, root: Hash| Delivery {
        origin: firm.origin.to_string(),
        from,
        to,
        size: 3,
        root,
        items: Hash([7; 32]),
        policy: Some(1),
        terms: None,
        at: WITNESSED_AT,
        way: Way::Batch,
    };
    let root = firm.checkpoint(3).root;
    let received = |delivery: &Delivery, by: &Signer| {
        let core = delivery.seal(customer.party(), 0, by, random).unwrap();
        Bundle { orgs: vec![firm.org_part(), customer.org_part()], deliveries: vec![core], ..firm.bundle(vec![firm.package(1, 3)]) }
    };
    let voucher = |of: PartyId| {
        let ids = [("VAT".to_owned(), "DE123456789".to_owned())].into();
        let how = "visited in person".into();
        let voucher = Voucher { party: of, name: "Lieferant GmbH".into(), ids, how, day: WITNESSED_AT / 86_400 * 86_400 };
        let core = voucher.seal(customer.party(), 0, &customer.record, random).unwrap();
        Bundle { orgs: vec![firm.org_part(), customer.org_part()], vouchers: vec![core], ..firm.bundle(vec![firm.package(1, 3)]) }
    };
    let both = |name: &str, bundle: &Bundle, trusted: Vec<PartyId>| Case::of(name, bundle.to_bytes(), trusted);
    let mut unsigned = received(&delivery(1, 3, root), &customer.record);
    unsigned.orgs.truncate(1);
    let mut cases = vec![
        firm.case("an inclusion receipt", &packaged(1, 1, 3)),
        firm.case("a receipt of another size", &packaged(1, 1, 2)),
        firm.case("a receipt of another place", &packaged(2, 1, 3)),
        firm.case("a delivery receipt", &received(&delivery(1, 3, root), &customer.record)),
        firm.case("a delivery of something else", &received(&delivery(2, 3, root), &customer.record)),
        firm.case("a delivery of another root", &received(&delivery(1, 3, Hash([9; 32])), &customer.record)),
        firm.case("a delivery signed by another key", &received(&delivery(1, 3, root), &customer.log)),
        firm.case("a delivery without its org feed", &unsigned),
        both("vouched for by somebody named", &voucher(firm.party()), vec![customer.party()]),
        both("vouched for by nobody named", &voucher(firm.party()), vec![]),
        both("vouched for, and named", &voucher(firm.party()), vec![firm.party()]),
        both("a voucher for somebody else", &voucher(PartyId::of(&key(1).public())), vec![firm.party()]),
    ];
    // Two live records; the later one replaces one that is not here, and then one that is.
    let mut firm = Firm::new(80, "Lieferant");
    firm.publish("L-1");
    firm.publish("L-0");
    firm.replace("L-1", firm.leaves[2]);
    cases.push(firm.case("what it replaces is here", &firm.bundle((1..4).map(|at| firm.package(at, 4)).collect())));
    cases.push(firm.case("what it replaces is not here", &firm.bundle(vec![firm.package(1, 4), firm.package(3, 4)])));
    cases
}

/// Delivery receipts of somebody whose record key was taken back, with and without a place for receipts.
fn revoked_receipts() -> Vec<Case> {
    let mut firm = Firm::new(80, "Lieferant");
    firm.publish("L-1");
    let root = firm.checkpoint(2).root;
    let delivery = Delivery {
        origin: firm.origin.to_string(),
        from: 1,
        to: 2,
        size: 2,
        root,
        items: Hash([7; 32]),
        policy: None,
        terms: Some(2),
        at: WITNESSED_AT,
        way: Way::Backfill,
    };
    let of = |receipts: Option<u64>, number: u64, by: u8| {
        let mut customer = Firm::new(90, "Kunde");
        let Entry::Rotation { role, key: new, mut from, reason } = customer.rotation(Role::Record, 99, 1) else { unreachable!() };
        if let Some(place) = receipts {
            from.insert(Origin::new(customer.party(), "receipts", 1).unwrap().to_string(), place);
        }
        customer.by_root(&Entry::Rotation { role, key: new, from, reason });
        let core = delivery.seal(customer.party(), number, &key(by), random).unwrap();
        Bundle { orgs: vec![firm.org_part(), customer.org_part()], deliveries: vec![core], ..firm.bundle(vec![firm.package(1, 2)]) }
    };
    let many = |count: u64| {
        let customer = Firm::new(90, "Kunde");
        let deliveries = (0..count).map(|number| delivery.seal(customer.party(), number, &customer.record, random).unwrap()).collect();
        Bundle { orgs: vec![firm.org_part(), customer.org_part()], deliveries, ..firm.bundle(vec![firm.package(1, 2)]) }
    };
    vec![
        firm.case("as many receipts as there may be", &many(256)),
        firm.case("one receipt too many", &many(257)),
        firm.case("a delivery receipt under a revoked key", &of(None, 4, 91)),
        firm.case("a delivery receipt under the new key", &of(None, 4, 99)),
        firm.case("a delivery receipt from before the new key", &of(Some(5), 4, 91)),
        firm.case("a delivery receipt under a key from its place on", &of(Some(4), 4, 91)),
        firm.case("a delivery receipt under a key that came later", &of(Some(5), 4, 99)),
    ]
}

/// A record, its replacement's release, a new key, a second record; witnesses, receipts, a voucher: all evidence there is.
fn rich() -> Case {
    let (mut firm, customer) = (Firm::new(160, "Reich & Cie"), Firm::new(170, "Kunde AG"));
    firm.by_root(&Entry::Attestation { kind: "qseal".into(), bytes: b"made by others".to_vec() });
    firm.by_root(&Entry::Signer { name: "Petra Prüferin".into(), function: "quality manager".into(), key: key(181).public() });
    let other = Origin::new(firm.party(), "werk-2", 1).unwrap();
    let until = now().next_multiple_of(DAY) + DAY;
    firm.by_root(&Entry::Delegation { name: "Werk 2".into(), origin: other, record: key(182).public(), log: key(183).public(), until });
    firm.by_root(&Entry::Successor { thumbprint: key(184).kid() });
    firm.state(&Entry::Root { key: key(184).public() }, &key(184));
    firm.root = key(184);
    firm.publish("L-1");
    let release = Release { leaf: firm.leaves[1], seq: 1 }.seal(&firm.place(), &key(181), random).unwrap();
    firm.push(release);
    let entry = firm.rotation(Role::Record, 185, 3);
    firm.by_root(&entry);
    firm.record = key(185);
    firm.publish("L-2");
    let sign = |size: u64, by: u8, time: u64| Cosignature::sign(&firm.checkpoint(size), &key(by), time);
    let shown = |at: u64| {
        let mut view = firm.entries[at as usize].clone();
        view.disclosures.truncate(if at == 1 { 24 } else { 0 });
        Package::new(view, firm.proof(at, 4, &[sign(4, 191, WITNESSED_AT), sign(4, 192, WITNESSED_AT + 60)]))
    };
    let mut packages: Vec<Package> = (1..4).map(shown).collect();
    packages[0].witnessed = Some(firm.proof(1, 2, &[sign(2, 193, WITNESSED_AT - 60)]));
    packages[0].receipt = receipt::issue(&firm.log, &firm.checkpoint(4), 1, &firm.tree().inclusion(1, 4).unwrap(), now());
    let delivery = Delivery {
        origin: firm.origin.to_string(),
        from: 1,
        to: 4,
        size: 4,
        root: firm.checkpoint(4).root,
        items: Hash([7; 32]),
        policy: Some(3),
        terms: None,
        at: WITNESSED_AT,
        way: Way::Batch,
    };
    let delivery = delivery.seal(customer.party(), 0, &customer.record, random).unwrap();
    let ids = [("VAT".to_owned(), "DE123456789".to_owned())].into();
    let voucher = Voucher { party: firm.party(), name: "Reich & Cie KG".into(), ids, how: "visited in person".into(), day: WITNESSED_DAY };
    let voucher = voucher.seal(customer.party(), 0, &customer.record, random).unwrap();
    let mut orgs = vec![firm.org_part(), customer.org_part()];
    let news = [191, 193].map(|by| Cosignature::sign(&firm.org_checkpoint(), &key(by), WITNESSED_AT + 120));
    orgs[0].checkpoint = with_cosignatures(&orgs[0].checkpoint, &news);
    let bundle = Bundle {
        orgs,
        packages,
        witnesses: witnesses(&[191, 192, 193]),
        histories: vec![firm.history(&[2], 4)],
        deliveries: vec![delivery],
        vouchers: vec![voucher],
        first_version: false,
    };
    Case { by: Some(23), after: Some(23), ..Case::of("all evidence there is", bundle.to_bytes(), vec![customer.party()]) }
}

/// What a later checkpoint says of its own beginning, against another checkpoint or another beginning.
fn prefixes() -> Vec<Case> {
    let mut firm = Firm::new(110, "Janus");
    firm.publish("L-1");
    let mut twin = Firm { org: firm.org.clone(), leaves: firm.leaves.clone(), entries: firm.entries.clone(), ..Firm::new(110, "Janus") };
    for name in ["L-2", "L-3", "L-4"] {
        firm.publish(name);
        twin.publish(name);
    }
    let prefix = |firm: &Firm, size: u64, of: u64| Side::Prefix {
        size,
        root: firm.checkpoint(size).root,
        path: if size == of { Vec::new() } else { firm.tree().consistency(size, of).unwrap() },
        checkpoint: firm.checkpoint(of).sign(&firm.log),
    };
    let (root, path, note) = (firm.checkpoint(3).root, firm.tree().consistency(3, 5).unwrap(), firm.checkpoint(5).sign(&firm.log));
    let altered = |size: u64, root: &Hash, path: &[Hash], note: &str| Side::Prefix {
        size,
        root: *root,
        path: path.to_vec(),
        checkpoint: note.to_owned(),
    };
    let turned = |hash: &Hash| Hash([&[hash.0[0] ^ 1], &hash.0[1..]].concat().try_into().unwrap());
    let crooked: Vec<Hash> = path.iter().map(turned).collect();
    let longer = |by: usize| [&path[..], &vec![Hash([7; 32]); by]].concat();
    let checkpoint = |firm: &Firm, size: u64| Side::Checkpoint(firm.checkpoint(size).sign(&firm.log));
    let case = |name: &str, one: Side, two: Side| {
        let sides = [one, two];
        Case::of(name, ForkProof { org: firm.org_part(), sides }.to_bytes(), vec![firm.party()])
    };
    let cosigned = Cosignature::sign(&firm.checkpoint(5), &key(101), WITNESSED_AT);
    vec![
        case("a fork: a beginning and a checkpoint", prefix(&firm, 3, 5), checkpoint(&twin, 3)),
        case("a fork: two beginnings", prefix(&twin, 4, 5), prefix(&firm, 4, 5)),
        case("a fork: a beginning that is all", prefix(&firm, 5, 5), checkpoint(&twin, 5)),
        case("no fork: a beginning and its own checkpoint", prefix(&firm, 3, 5), checkpoint(&firm, 3)),
        case("no fork: a common beginning", prefix(&firm, 2, 5), checkpoint(&twin, 2)),
        case("no fork: a beginning of another size", prefix(&firm, 3, 5), checkpoint(&twin, 4)),
        case("no fork: a beginning and a statement", prefix(&firm, 3, 5), Side::Statement(twin.entries[2].core.clone())),
        case("a beginning with another root", altered(3, &turned(&root), &path, &note), checkpoint(&twin, 3)),
        case("a beginning of no size", altered(0, &root, &path, &note), checkpoint(&twin, 3)),
        case("a beginning beyond the end", altered(6, &root, &path, &note), checkpoint(&twin, 3)),
        case("a beginning with a crooked path", altered(3, &root, &crooked, &note), checkpoint(&twin, 3)),
        case("a beginning with a step too few", altered(3, &root, &path[1..], &note), checkpoint(&twin, 3)),
        case("a beginning with a step too many", altered(3, &root, &longer(1), &note), checkpoint(&twin, 3)),
        case("a beginning with 64 steps too many", altered(3, &root, &longer(64), &note), checkpoint(&twin, 3)),
        case("a beginning of another log", altered(3, &root, &path, &firm.checkpoint(5).sign(&key(1))), checkpoint(&twin, 3)),
        case("a beginning with a cosignature", altered(3, &root, &path, &with_cosignatures(&note, &[cosigned])), checkpoint(&twin, 3)),
    ]
}

fn fork_proofs() -> Vec<Case> {
    let mut firm = Firm::new(110, "Janus");
    firm.publish("L-1");
    let mut twin = Firm::new(110, "Janus");
    (twin.org, twin.leaves, twin.entries) = (firm.org.clone(), firm.leaves.clone(), firm.entries.clone());
    firm.publish("L-2");
    twin.publish("L-3");
    let case = |name: &str, sides: [Side; 2]| Case::of(name, ForkProof { org: firm.org_part(), sides }.to_bytes(), vec![firm.party()]);
    let statement = |firm: &Firm, at: usize| Side::Statement(firm.entries[at].core.clone());
    let checkpoint = |firm: &Firm, size: u64| Side::Checkpoint(firm.checkpoint(size).sign(&firm.log));
    let leaf = |firm: &Firm, at: u64| Side::Leaf(firm.leaves[at as usize], firm.proof(at, 3, &[]));
    let mut cases = vec![
        case("a fork: two statements", [statement(&firm, 2), statement(&twin, 2)]),
        case("a fork: statement and leaf", [statement(&firm, 2), leaf(&twin, 2)]),
        case("a fork: two roots", [checkpoint(&firm, 3), checkpoint(&twin, 3)]),
        case("no fork: the same", [checkpoint(&firm, 3), checkpoint(&firm, 3)]),
        case("no fork: other sizes", [checkpoint(&firm, 2), checkpoint(&twin, 3)]),
        case("no fork: statement and checkpoint", [statement(&firm, 2), checkpoint(&twin, 3)]),
        case("no fork: two records", [Side::Record(firm.package(1, 3)), Side::Record(firm.package(2, 3))]),
    ];
    firm.publish("L-1");
    let sides = [Side::Record(firm.package(1, 4)), Side::Record(firm.package(3, 4))];
    cases.push(Case::of("a fork: two live records", ForkProof { org: firm.org_part(), sides }.to_bytes(), vec![]));
    let mut cut = cases[0].bytes.clone();
    cut.pop();
    cases.push(Case::of("a fork proof cut", cut, vec![]));
    cases
}

/// What both must agree on: exit code, failing check, records with their open slots, issuers and who of them is trusted.
fn summary(case: &Case) -> Value {
    let report = verify(&case.bytes, &case.trust());
    let record = |record: &lotline_schema::verify::VerifiedRecord| {
        let open = record.view.slots().iter().enumerate().filter(|(_, slot)| slot.is_some()).map(|(slot, _)| slot);
        json!({
            "leaf": record.view.leaf().to_string(),
            "withdrawn": record.withdrawn,
            "open": open.collect::<Vec<_>>(),
            "witnessed": record.witnessed.as_ref().map(|seen| seen.at.to_string()),
            "superseded": record.superseded_by.is_some(),
            "released_by": record.released_by,
        })
    };
    let issuer = |issuer: &lotline_schema::verify::Issuer| json!({ "party": issuer.party.to_string(), "calls_itself": issuer.calls_itself, "six_words": issuer.party.six_words(), "trusted": issuer.trusted.is_some() });
    json!({
        "exit": report.outcome.exit_code(),
        "failing_check": report.failure().map(|check| check.name),
        "records": report.records.iter().map(record).collect::<Vec<_>>(),
        "issuers": report.issuers.iter().map(issuer).collect::<Vec<_>>(),
    })
}

/// The same of what the page said.
fn said(report: &Value) -> Value {
    let pick = |items: &Value, keys: &[&str]| {
        let one = |item: &Value| Value::Object(keys.iter().map(|key| ((*key).to_owned(), item[*key].clone())).collect());
        items.as_array().unwrap().iter().map(one).collect::<Vec<_>>()
    };
    let mut records = report["records"].clone();
    for record in records.as_array_mut().unwrap() {
        record["witnessed"] = record["witnessed"]["time"].clone();
    }
    json!({
        "exit": report["exit"],
        "failing_check": report["failing_check"],
        "records": pick(&records, &["leaf", "withdrawn", "open", "witnessed", "superseded", "released_by"]),
        "issuers": pick(&report["issuers"], &["party", "calls_itself", "six_words", "trusted"]),
    })
}

// ---- The file itself ----

/// The text between two marks of the page.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    text.split(from).skip(1).map(|rest| rest.split(to).next().unwrap()).collect()
}

#[test]
fn the_page_is_the_one_whose_hash_is_published() {
    let page = page();
    let line = fs::read_to_string(project().join("docs/verify.html.sha256")).unwrap();
    assert_eq!(line, format!("{}  verify.html\n", Hash::of(&[page.as_bytes()])), "write this line to docs/verify.html.sha256");
    let allowed = between(&page, "http-equiv=\"Content-Security-Policy\" content=\"", "\"")[0];
    for (directive, begin, end) in [("script-src", "<script>", "</script>"), ("style-src", "<style>", "</style>")] {
        let inline = between(&page, begin, end).into_iter().map(|text| format!(" 'sha256-{}'", base64(&Hash::of(&[text.as_bytes()]).0)));
        let rule = format!("{directive}{};", inline.collect::<String>());
        assert!(allowed.contains(&rule), "the page's policy should say {rule}");
    }
    assert!(allowed.starts_with("default-src 'none';") && !allowed.contains("unsafe"), "{allowed}");
    for forbidden in
        ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "new Function", "http://", "https://", " src=", " on="]
    {
        assert!(!page.contains(forbidden), "the page has {forbidden}");
    }
}

// ---- What it says ----

#[test]
fn the_page_says_what_the_program_says() {
    let Some(mut browser) = Browser::open() else { return };
    let cases = bundles();
    let (mut outcomes, mut differences) = (BTreeMap::new(), Vec::new());
    for case in &cases {
        let report = browser.verify(&case.bytes, &case.options());
        let (said, expected) = (said(&report), summary(case));
        if said != expected {
            differences.push(format!("{}: the page says {said}, the program {expected}; {}", case.name, report["checks"]));
        }
        *outcomes.entry(report["exit"].as_u64().unwrap()).or_insert(0) += 1;
    }
    assert!(differences.is_empty(), "{} of {} cases\n{}", differences.len(), cases.len(), differences.join("\n"));
    assert_eq!(outcomes.keys().copied().collect::<Vec<_>>(), [0, 4, 7, 8, 9, 10, 11], "each outcome has a case");
    for odd in ["undefined", "null", "'text'", "{}", "[1, 2]", "new Uint8Array(0)", "new ArrayBuffer(3)", "42, 42", "null, { trust: 5 }"] {
        let outcome = browser.ask(&format!("lotlineVerify({odd}).then((report) => report.outcome)"));
        assert_eq!(outcome, "unreadable", "{odd}");
    }
}

/// Ten thousand files that differ from a good one in one byte: the same list for both, from a small generator.
const MUTATIONS: usize = 10_000;

fn flips(length: usize) -> Vec<(usize, u8)> {
    let mut word = 0x9e37_79b9_7f4a_7c15u64;
    let mut flip = |at: usize| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        (at % length, (word % 255) as u8 + 1)
    };
    (0..MUTATIONS).map(&mut flip).collect()
}

#[test]
fn no_altered_byte_goes_unnoticed() {
    let mut forge = Forge::new("Frida");
    let mut line = forge.open("quality");
    line.publish(&forge, &lot("L-1"));
    alter(&Case::new("mutated", file(&[&forge], vec![package(&forge, &line, 1, |slot| slot < 30)]), &[&forge]));
}

#[test]
fn no_altered_byte_of_the_evidence_goes_unnoticed() {
    alter(&rich());
}

/// Alters a good file ten thousand times: the page must notice, and say what the program says.
fn alter(case: &Case) {
    let Some(mut browser) = Browser::open() else { return };
    assert_eq!(verify(&case.bytes, &case.trust()).outcome.exit_code(), 0);
    let flips = flips(case.bytes.len());
    let script = format!(
        "(async () => {{
            const good = {}, options = {}, flips = {}, begun = performance.now();
            const verdict = async (bytes) => {{
                const report = await lotlineVerify(bytes, options);
                return [JSON.stringify(report), report.exit, report.failing_check];
            }};
            const [original] = await verdict(good), same = [], verdicts = [];
            for (let from = 0; from < flips.length; from += 100) {{
                const altered = flips.slice(from, from + 100).map(([at, flip]) => {{
                    const copy = good.slice();
                    copy[at] ^= flip;
                    return verdict(copy);
                }});
                (await Promise.all(altered)).forEach(([report, exit, check], at) => {{
                    if (report === original) same.push(flips[from + at]);
                    verdicts.push([exit, check]);
                }});
            }}
            return {{ same, verdicts, milliseconds: Math.round(performance.now() - begun) }};
        }})()",
        in_page(&case.bytes),
        case.options(),
        json!(flips)
    );
    let trust = case.trust();
    let said = |(at, flip): (usize, u8)| {
        let mut bytes = case.bytes.clone();
        bytes[at] ^= flip;
        let report = verify(&bytes, &trust);
        json!([report.outcome.exit_code(), report.failure().map(|check| check.name)])
    };
    // Both at once: neither is quick.
    let (answer, expected) = std::thread::scope(|scope| {
        let program = scope.spawn(|| flips.iter().copied().map(said).collect::<Vec<_>>());
        (browser.ask(&script), program.join().unwrap())
    });
    let _ = writeln!(std::io::stderr(), "{MUTATIONS} mutations of {} bytes: {} ms", case.bytes.len(), answer["milliseconds"]);
    assert_eq!(answer["same"], json!([]), "altered, and the same report");
    for (((at, flip), verdict), expected) in flips.into_iter().zip(answer["verdicts"].as_array().unwrap()).zip(expected) {
        assert_eq!(*verdict, expected, "byte {at} with {flip:#04x}");
    }
}

/// Printed and never asserted: machines differ.
#[test]
fn a_thousand_records_take_their_time() {
    let Some(mut browser) = Browser::open() else { return };
    let mut forge = Forge::new("Gustav");
    let mut line = forge.open("quality");
    for at in 0..1000 {
        line.publish(&forge, &lot(&format!("L-{at}")));
    }
    let bytes = file(&[&forge], packages(&forge, &line, 1..1001, all));
    let script = format!(
        "(async () => {{
            const bytes = {}, begun = performance.now();
            const report = await lotlineVerify(bytes, {{ trust: ['{}'] }});
            return [report.exit, report.records.length, Math.round(performance.now() - begun)];
        }})()",
        in_page(&bytes),
        forge.party()
    );
    let answer = browser.ask(&script);
    let _ = writeln!(std::io::stderr(), "1,000 records, {} KiB: {} ms", bytes.len() / 1024, answer[2]);
    assert_eq!((&answer[0], &answer[1]), (&json!(0), &json!(1000)));
    browser.load();
    // The page draws and listens meanwhile.
    browser.ask(
        "(() => {
            const line = document.getElementById('progress'), turn = () => {
                const now = performance.now();
                [window.longest, window.turned] = [Math.max(window.longest, now - window.turned), now];
                setTimeout(turn, 1);
            };
            [window.said, window.longest, window.turned] = [[], 0, performance.now()];
            new MutationObserver(() => window.said.push(line.textContent)).observe(line, { childList: true });
            turn();
        })()",
    );
    let shown = browser.show(&bytes);
    assert!(shown.contains("1000 records") && shown.contains("L-99"), "{shown}");
    let [said, longest] = ["said", "Math.round(longest)"].map(|what| browser.ask(what));
    let _ = writeln!(
        std::io::stderr(),
        "1,000 records shown: {} times it said how far it was, the longest silence {longest} ms",
        said.as_array().unwrap().len()
    );
    assert!(said.to_string().contains("of 1000 records"), "{said}");
    assert_eq!(browser.ask("document.getElementById('progress').hidden"), true);
}

// ---- Member lists ----

/// The member list that an association signs, as a file.
fn member_list(association: &Forge, number: u64, members: &[(&Forge, &str)]) -> Vec<u8> {
    let member = |(forge, name): &(&Forge, &str)| Member {
        party: forge.party(),
        name: (*name).into(),
        ids: [("VAT".to_owned(), "DE123456789".to_owned())].into(),
    };
    let list = Members::new("Association of Makers", members.iter().map(member).collect()).unwrap();
    let core = list.seal(association.party(), number, now(), &association.keys.record, random).unwrap();
    MembersFile { org: org_part(association), core }.to_bytes()
}

#[test]
fn a_member_list_names_signers_when_its_association_is_named() {
    let Some(mut browser) = Browser::open() else { return };
    let (mut maker, association, other) = (Forge::new("Ida"), Forge::new("Makers"), Forge::new("Else"));
    let mut line = maker.open("quality");
    line.publish(&maker, &lot("L-1"));
    let bytes = file(&[&maker], packages(&maker, &line, 1..2, all));
    let (good, without) =
        (member_list(&association, 3, &[(&other, "Else AG"), (&maker, "Ida GmbH")]), member_list(&association, 4, &[(&other, "Else AG")]));
    let mut altered = good.clone();
    *altered.last_mut().unwrap() ^= 1;
    let mut ask = |trusted: &Forge, lists: &[&[u8]]| {
        let lists: Vec<String> = lists.iter().map(|list| in_page(list)).collect();
        let trust = json!([trusted.party().to_string()]);
        browser.ask(&format!("lotlineVerify({}, {{ trust: {trust}, members: [{}] }})", in_page(&bytes), lists.join(", ")))
    };
    // The program adds the members of an association that is trusted to those it knows.
    for (lists, exit) in [(&[][..], 7), (&[&good[..]][..], 0), (&[&without[..]][..], 7), (&[&without[..], &good[..]][..], 0)] {
        let mut trust = Trust::none();
        let root = |name: &str| TrustedRoot { name: name.into(), checked: "by this test".into() };
        trust.add(association.party(), root("the association"));
        for list in lists {
            let opened = MembersFile::read(list).unwrap().open().unwrap();
            opened.list.members.iter().for_each(|member| trust.add(member.party, root(&member.name)));
        }
        assert_eq!(verify(&bytes, &trust).outcome.exit_code(), exit);
        let report = ask(&association, lists);
        assert_eq!(report["exit"], exit, "{report}");
        let said = report["checks"].to_string();
        assert_eq!(said.contains("Ida GmbH is on the list of Association of Makers, whom you named (list 3 of"), exit == 0, "{said}");
    }
    let report = ask(&other, &[&good]);
    assert!(report["exit"] == 7 && report["checks"].to_string().contains("signed by an association you did not name"), "{report}");
    for (bad, why) in
        [(&altered[..], "the signature does not match"), (b"a shopping list", "cut short"), (&bytes[..], "not exactly one org feed")]
    {
        let report = ask(&association, &[bad]);
        assert!(report["exit"] == 7 || report["exit"] == 9, "{report}");
        let failed = report["checks"].as_array().unwrap().iter().any(|check| check["on"] == "a member list" && check["outcome"] == "fails");
        assert!(failed && report["exit"] == 9, "{why}: {report}");
    }

    // Dropped beside the bundle, in any order.
    let shown = browser.show(&good);
    assert!(shown.contains("Member lists in use: shown"), "{shown}");
    browser.show(&bytes);
    let before = browser.ask("document.documentElement.dataset.checked");
    let words = association.party().six_words();
    browser.ask(&format!("document.getElementById('identity').value = '{words}'; document.getElementById('whom').requestSubmit()"));
    browser.until(&format!("document.documentElement.dataset.checked !== {before}"));
    let shown = browser.text();
    assert!(shown.contains("Intact, and the signer is on the list of an association you expect"), "{shown}");
    assert!(shown.contains("Ida GmbH is on the list of Association of Makers"), "{shown}");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

// ---- What a reader sees ----

#[test]
fn a_reader_picks_a_file_and_compares_six_words() {
    let Some(mut browser) = Browser::open() else { return };
    let mut forge = Forge::new("Hanna GmbH");
    let mut line = forge.open("quality");
    line.publish(&forge, &lot("L-1"));
    let bytes = file(&[&forge], vec![package(&forge, &line, 1, |slot| slot != 5)]);
    let shown = browser.show(&bytes);
    for text in
        ["Intact, but the signer is not established", "Hanna GmbH", &forge.party().six_words(), "Flansch", "L-1", "12.50", "0,010", "12.56"]
    {
        assert!(shown.contains(text), "`{text}` is missing in {shown}");
    }
    assert!(shown.contains("42 shown, 1 hidden") && shown.contains("date unproven"), "{shown}");
    let mut expect = |words: &str| {
        let before = browser.ask("document.documentElement.dataset.checked");
        browser.ask(&format!("document.getElementById('identity').value = '{words}'; document.getElementById('whom').requestSubmit()"));
        browser.until(&format!("document.documentElement.dataset.checked !== {before}"));
        browser.text()
    };
    assert!(expect(&forge.party().six_words()).contains("Intact, and from the identity you expect"));
    assert!(expect(&Forge::new("Else").party().to_string()).contains("Not the one you expect"));
    assert!(expect("six words").contains("This is neither six words of the list nor a did:key"));

    let mut altered = bytes.clone();
    let at = altered.len() / 2;
    altered[at] ^= 1;
    let shown = browser.show(&altered);
    assert!(shown.contains("Altered: this is not what was signed") && !shown.contains("Flansch"), "{shown}");
    assert!(browser.show(b"a shopping list").contains("This file cannot be checked"));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_reader_demands_days_and_a_quorum() {
    let Some(mut browser) = Browser::open() else { return };
    let case = rich();
    let shown = browser.show(&case.bytes);
    assert!(shown.contains("Intact, but the signer is not established") && shown.contains("Petra Prüferin"), "{shown}");
    let mut demand = |by: &str, after: &str, quorum: &str| {
        let before = browser.ask("document.documentElement.dataset.checked");
        for (id, value) in [("identity", &case.trusted[0].to_string()[..]), ("by", by), ("after", after), ("quorumText", quorum)] {
            browser.ask(&format!("document.getElementById('{id}').value = {}", json!(value)));
        }
        browser.ask("document.getElementById('whom').requestSubmit()");
        browser.until(&format!("document.documentElement.dataset.checked !== {before}"));
        browser.text()
    };
    const MET: &str = "Intact, and somebody you expect vouches for the signer";
    const MISSING: &str = "Intact as far as it goes, but something is missing";
    assert!(demand("", "", "").contains(MET));
    let met = demand("2026-11-23", "2026-11-23", "");
    assert!(met.contains(MET) && met.contains("is met, by keys that only this file names"), "{met}");
    let late = demand("2026-11-22", "", "");
    assert!(late.contains(MISSING) && late.contains("nothing proves that it was there by 2026-11-22 23:59:59 UTC"), "{late}");
    let stale = demand("", "2026-11-24", "");
    assert!(stale.contains(MISSING) && stale.contains("no witness signed its org feed after 2026-11-24 00:00:00 UTC"), "{stale}");
    assert!(demand("", "", &format!("witness a {}\nquorum a", witnesses(&[191])[0])).contains(MET));
    // A demand that cannot be read is not met.
    let slip = demand("", "", "qurom none");
    assert!(slip.contains(MISSING) && slip.contains("line 1: none of log, witness, group and quorum"), "{slip}");
    assert!(demand("", "", "quorum none").contains(MET));
    browser.ask("document.getElementById('de').click(); document.querySelector('#whom details').open = true");
    let german = browser.text();
    for text in ["Was Sie von Zeugen verlangen", "Bezeugt bis", "Stand bezeugt nach", "Tage in UTC"] {
        assert!(german.contains(text), "`{text}` is missing in {german}");
    }
    for odd in ["2026-02-30", "23.11.2026", "2026-11-23T00:00:00Z", "1969-12-31"] {
        let report = browser.verify(&case.bytes, &json!({ "trust": [case.trusted[0].to_string()], "by": odd }));
        assert_eq!((&report["exit"], &report["failing_check"]), (&json!(9), &json!("witness")), "{odd}");
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn it_speaks_german_to_those_who_do() {
    let Some(mut browser) = Browser::open() else { return };
    let mut forge = Forge::new("Ida");
    let mut line = forge.open("quality");
    line.publish(&forge, &lot("L-1"));
    let bytes = file(&[&forge], vec![package(&forge, &line, 1, all)]);
    let english = browser.show(&bytes);
    assert!(english.contains("Whose is it?") && !english.contains("Von wem ist es?"), "{english}");
    browser.ask("document.getElementById('de').click()");
    let german = browser.text();
    for text in ["Ein Bündel prüfen", "Unversehrt, aber der Aussteller steht nicht fest", "Von wem ist es?", "Merkmale", "nicht konform"]
    {
        assert!(german.contains(text), "`{text}` is missing in {german}");
    }
    assert_eq!(browser.ask("document.documentElement.lang"), "de");
    let report = browser.verify(&bytes, &json!({ "language": "de" }));
    assert!(report["checks"][0]["text"].as_str().unwrap().contains("gelesen bis zum letzten Byte"), "{report}");
    // A browser set to German is answered in German from the start.
    let agent = browser.ask("navigator.userAgent");
    browser.call("Network.setUserAgentOverride", json!({ "userAgent": agent, "acceptLanguage": "de-AT,de" }));
    browser.load();
    assert!(browser.text().contains("Wen erwarten Sie?"));
}

#[test]
fn what_stands_in_a_record_is_text_and_nothing_else() {
    let Some(mut browser) = Browser::open() else { return };
    const PAYLOAD: &str = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>\"'><svg onload=window.pwned=1>";
    let mut forge = Forge::new(&format!("Evil \u{202e}{PAYLOAD}"));
    let mut line = forge.open("quality");
    line.publish(&forge, &record(PAYLOAD, "a\u{200b}b\u{0}c\u{1b}[31m", "\u{2066}turned\u{2069}\u{feff}"));
    let of = |text: &str| Some(text.to_owned());
    let draft =
        Inspection { part_name: of(PAYLOAD), remarks: of(PAYLOAD), machine: of("javascript:window.pwned=1"), ..inspection(&PAYLOAD[..80]) };
    line.publish(&forge, &checked(draft));
    withdraw(&mut forge, &line, 2, &format!("{PAYLOAD}\u{202e}"));
    let shown = browser.show(&file(&[&forge], packages(&forge, &line, 1..3, all)));
    assert!(shown.matches(PAYLOAD).count() >= 4, "the text itself is shown: {shown}");
    for seen in ["U+202E", "U+200B", "U+0000", "U+001B", "U+2066", "U+2069", "U+FEFF"] {
        assert!(shown.contains(seen), "{seen} is not made visible: {shown}");
    }
    let harmful = |letter: char| matches!(letter, '\u{0}' | '\u{1b}' | '\u{200b}' | '\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    assert!(!shown.contains(harmful));
    assert_eq!(
        browser.ask(
            "[document.scripts.length, document.querySelectorAll('img, iframe, a:not(.skip), [onerror], [onload]').length, window.pwned]"
        ),
        json!([2, 0, null])
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_page_asks_nobody_for_anything() {
    let Some(mut browser) = Browser::open() else { return };
    let mut forge = Forge::new("Jakob");
    let mut line = forge.open("quality");
    line.publish(&forge, &lot("L-1"));
    browser.show(&file(&[&forge], vec![package(&forge, &line, 1, all)]));
    browser.ask("document.getElementById('de').click()");
    let asked = browser.requests();
    assert!(asked.len() == 1 && asked[0].ends_with("/docs/verify.html"), "{asked:?}");
    assert_eq!(browser.complaints(), Vec::<String>::new());
    // And it could not if it wanted to.
    let refused = browser.ask(
        "Promise.all([
            fetch('data:,x').then(() => 'went', () => 'refused'),
            new Promise((answer) => { const image = new Image(); image.onload = () => answer('went'); image.onerror = () => answer('refused'); image.src = 'file:///nothing.png'; }),
            (() => { try { document.body.innerHTML = '<b>x</b>'; return 'went'; } catch { return 'refused'; } })(),
        ])",
    );
    assert_eq!(refused, json!(["refused", "refused", "refused"]));
}
