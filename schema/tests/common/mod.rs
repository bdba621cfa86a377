//! A small supplier with fixed keys, its feed, and a bundle of it: what several tests start from.
#![allow(dead_code, clippy::unwrap_used)] // each test program uses a part; tests

use lotline_schema::bundle::{Bundle, History, OrgPart};
use lotline_schema::codec::{self, Value};
use lotline_schema::cose::{self, Sign1, Signer, sig_structure};
use lotline_schema::delivery::{Delivery, Way};
use lotline_schema::id::{Hash, Origin, PartyId, hex, unhex};
use lotline_schema::kind::inspection::{Characteristic, Inspection, Limit, Measured, SCHEMA, Statistics};
use lotline_schema::note::{self, Checkpoint, Cosignature, InclusionProof, WitnessKey};
use lotline_schema::org::{self, Entry, Org, OrgError, Places, Role};
use lotline_schema::receipt;
use lotline_schema::record::Record;
use lotline_schema::release::Release;
use lotline_schema::slot::Disclosure;
use lotline_schema::statement::{self, Place, Sealed};
use lotline_schema::tree::Tree;
use lotline_schema::verify::{Report, Trust, TrustedRoot, verify};
use lotline_schema::view::{Package, SealedView};
use lotline_schema::voucher::Voucher;
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;

/// 2026-11-23 10:00:00 UTC.
pub(crate) const NOW: u64 = 1_795_428_000;
pub(crate) const RECORDED_AT: &str = "2026-11-23T10:00:00Z";

/// Deterministic "random" bytes: SHA-256(label ‖ counter as eight big-endian bytes), block after block.
pub(crate) struct Filler {
    label: String,
    counter: u64,
    rest: Vec<u8>,
}

impl Filler {
    pub(crate) fn new(label: &str) -> Filler {
        Filler { label: label.into(), counter: 0, rest: Vec::new() }
    }

    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            if self.rest.is_empty() {
                self.rest = Hash::of(&[self.label.as_bytes(), &self.counter.to_be_bytes()]).0.into();
                self.rest.reverse();
                self.counter += 1;
            }
            *byte = self.rest.pop().unwrap();
        }
    }
}

/// A fast generator for mutations (splitmix64).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

pub(crate) fn number(text: &str) -> lotline_schema::Decimal {
    text.parse().unwrap()
}

/// Three pieces, a special diameter, a flatness with a stated verdict.
pub(crate) fn inspection() -> Inspection {
    let values = |texts: [&str; 3]| texts.iter().map(|text| Measured::Number(number(text), None)).collect::<Vec<_>>();
    Inspection {
        part: "4711-A".into(),
        revision: Some("C".into()),
        lot: "L-2026-0815".into(),
        customer: Some("OEM One".into()),
        quantity: Some((number("500"), "pcs".into())),
        serials: ["1", "2", "3"].map(str::to_owned).into(),
        characteristics: vec![
            Characteristic {
                position: 1,
                name: "Durchmesser".into(),
                class: Some("SC".into()),
                feature: Some("Diameter".into()),
                unit: Some("mm".into()),
                nominal: Some(number("12.50")),
                lower: Limit::Limit(number("12.45")),
                upper: Limit::Limit(number("12.55")),
                values: values(["12.50", "12.49", "12.51"]),
                ..Characteristic::default()
            },
            Characteristic {
                position: 2,
                name: "Ebenheit".into(),
                feature: Some("Flatness".into()),
                unit: Some("mm".into()),
                lower: Limit::Natural(number("0")),
                upper: Limit::Limit(number("0.05")),
                values: vec![
                    Measured::Number(number("0.01"), Some("0,010".into())),
                    Measured::Number(number("0.02"), None),
                    Measured::Missing,
                ],
                stated_good: vec![Some(true), Some(true), None],
                stated: Some(Statistics { n: 2, mean: Some(number("0.015")), ..Statistics::default() }),
                ..Characteristic::default()
            },
        ],
        remarks: Some("Grüße".into()),
        ..Inspection::default()
    }
}

/// An organisation with one data feed.
pub(crate) struct World {
    pub(crate) root: Signer,
    pub(crate) record: Signer,
    pub(crate) log: Signer,
    pub(crate) witness: Signer,
    pub(crate) transport: Signer,
    pub(crate) party: PartyId,
    pub(crate) origin: Origin,
    pub(crate) org: Org,
    pub(crate) filler: Filler,
    /// The feed's first entry.
    pub(crate) first: Sealed,
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) leaves: Vec<Hash>,
}

impl World {
    /// Keys of 32 repeated bytes: `from` the root, then record, log, witness, transport.
    pub(crate) fn founded(from: u8, name: &str) -> World {
        World::founded_as(from, name, org::About::default(), "lotline vectors 1")
    }

    pub(crate) fn founded_as(from: u8, name: &str, about: org::About, label: &str) -> World {
        let key = |at: u8| Signer::from_seed(&[from + at; 32]);
        let (root, record, log, witness, transport) = (key(0), key(1), key(2), key(3), key(4));
        let mut filler = Filler::new(label);
        let party = PartyId::of(&root.public());
        let mut org = Org::new(party);
        let keys = [(Role::Record, &record), (Role::Log, &log), (Role::Witness, &witness), (Role::Transport, &transport)];
        let keys = keys.map(|(role, key)| (role, key.public())).into();
        let keyring = Entry::Keyring { name: name.into(), keys, about };
        let sealed = org::seal(&org, &keyring, NOW, &root, |noise| filler.fill(noise)).unwrap();
        org.accept(sealed.core).unwrap();
        let origin = Origin::new(party, "quality", 1).unwrap();
        let open = Entry::Feed { origin: origin.clone(), follows: None };
        let sealed = org::seal(&org, &open, NOW, &record, |noise| filler.fill(noise)).unwrap();
        org.accept(sealed.core).unwrap();
        let first = org::seal_first(&org, &origin, NOW, &record, |noise| filler.fill(noise)).unwrap();
        let leaves = vec![first.leaf];
        World { root, record, log, witness, transport, party, origin, org, filler, first, sealed: Vec::new(), leaves }
    }

    /// The usual one, called Muster GmbH.
    pub(crate) fn new() -> World {
        World::founded(0x11, "Muster GmbH")
    }

    /// With one inspection published.
    pub(crate) fn with_one() -> World {
        let mut world = World::new();
        world.publish(&inspection().check(RECORDED_AT).unwrap());
        world
    }

    /// Publishes a record at the next place, which is returned.
    pub(crate) fn publish(&mut self, record: &Record) -> u64 {
        self.publish_over(record, None)
    }

    pub(crate) fn publish_over(&mut self, record: &Record, supersedes: Option<Hash>) -> u64 {
        let place = Place { origin: self.origin.clone(), seq: self.leaves.len() as u64, now: NOW, supersedes };
        let sealed = statement::seal_record(record, &place, &self.record, |noise| self.filler.fill(noise)).unwrap();
        self.push(sealed)
    }

    /// Puts any statement at the next place.
    pub(crate) fn push(&mut self, sealed: Sealed) -> u64 {
        self.leaves.push(sealed.leaf);
        self.sealed.push(sealed);
        self.leaves.len() as u64 - 1
    }

    /// Puts any core at the next place, with the disclosures of another.
    pub(crate) fn push_core(&mut self, core: Vec<u8>, disclosures: Vec<Disclosure>) -> u64 {
        self.push(Sealed { leaf: lotline_schema::tree::leaf_hash(&core), core, disclosures })
    }

    /// States an org entry, signed by the record key.
    pub(crate) fn state(&mut self, entry: &Entry) {
        let sealed = org::seal(&self.org, entry, NOW, &self.record, |noise| self.filler.fill(noise)).unwrap();
        self.org.accept(sealed.core).unwrap();
    }

    /// Tries to state an org entry under any key.
    pub(crate) fn state_by(&mut self, entry: &Entry, signer: &Signer) -> Result<Entry, OrgError> {
        let sealed = org::seal(&self.org, entry, NOW, signer, |noise| self.filler.fill(noise)).unwrap();
        self.org.accept(sealed.core)
    }

    /// The same under the root of this moment, if it was not replaced.
    pub(crate) fn state_as_root(&mut self, entry: &Entry) -> Result<Entry, OrgError> {
        let root = self.root.clone();
        self.state_by(entry, &root)
    }

    /// Places for the org feed and the data feed.
    pub(crate) fn places(&self, org: u64, feed: u64) -> Places {
        [(Origin::org(self.party).to_string(), org), (self.origin.to_string(), feed)].into()
    }

    /// Rotates the record or log key; this world signs with the new one from here on. The old one is returned.
    pub(crate) fn rotate(&mut self, role: Role, new: Signer, from: Places) -> Signer {
        let entry = Entry::Rotation { role, key: new.public(), from, reason: "yearly".into() };
        self.state_as_root(&entry).unwrap();
        match role {
            Role::Record => std::mem::replace(&mut self.record, new),
            Role::Log => std::mem::replace(&mut self.log, new),
            Role::Witness => std::mem::replace(&mut self.witness, new),
            Role::Transport => std::mem::replace(&mut self.transport, new),
        }
    }

    /// A proof under a checkpoint that these witnesses signed at these times.
    pub(crate) fn cosigned_proof(&self, seq: u64, size: u64, witnesses: &[(&Signer, u64)]) -> String {
        let proof = self.proof(seq, size);
        InclusionProof { checkpoint: cosigned(&self.checkpoint(size), &proof.checkpoint, witnesses), ..proof }.to_text()
    }

    pub(crate) fn cosigned_org_checkpoint(&self, witnesses: &[(&Signer, u64)]) -> String {
        let checkpoint = Checkpoint { origin: Origin::org(self.party), size: self.org.size(), root: self.org.frontier().root() };
        cosigned(&checkpoint, &self.org_checkpoint(), witnesses)
    }

    /// How these sizes hang together; the last is the newest.
    pub(crate) fn history(&self, sizes: &[u64]) -> History {
        let (size, older) = sizes.split_last().unwrap();
        let older = older.iter().map(|old| (*old, self.tree().consistency(*old, *size).unwrap())).collect();
        History { origin: self.origin.to_string(), size: *size, older }
    }

    /// The log's receipt for a place.
    pub(crate) fn inclusion_receipt(&self, seq: u64, size: u64) -> Vec<u8> {
        receipt::issue(&self.log, &self.checkpoint(size), seq, &self.tree().inclusion(seq, size).unwrap(), NOW).unwrap()
    }

    /// What a receiver of `from` to `to` under the checkpoint of this size signs.
    pub(crate) fn delivery(&self, from: u64, to: u64, size: u64) -> Delivery {
        Delivery {
            origin: self.origin.to_string(),
            from,
            to,
            size,
            root: self.tree().root(size),
            items: Hash::of(&[b"the items as they came"]),
            policy: Some(3),
            terms: None,
            at: NOW + 60,
            way: Way::Batch,
        }
    }

    /// Signs for having received something.
    pub(crate) fn receive(&mut self, delivery: &Delivery, number: u64) -> Vec<u8> {
        delivery.seal(self.party, number, &self.record, |noise| self.filler.fill(noise)).unwrap()
    }

    /// Vouches for another.
    pub(crate) fn vouch(&mut self, voucher: &Voucher, number: u64) -> Vec<u8> {
        voucher.seal(self.party, number, &self.record, |noise| self.filler.fill(noise)).unwrap()
    }

    /// Puts a release of a record at the next place.
    pub(crate) fn release(&mut self, seq: u64, person: &Signer) -> u64 {
        let place = Place { origin: self.origin.clone(), seq: self.leaves.len() as u64, now: NOW, supersedes: None };
        let release = Release { leaf: self.leaves[seq as usize], seq };
        let sealed = release.seal(&place, person, |noise| self.filler.fill(noise)).unwrap();
        self.push(sealed)
    }

    pub(crate) fn withdraw(&mut self, seq: u64, reason: &str) {
        let leaf = self.leaves[seq as usize];
        self.state(&Entry::Withdrawal { origin: self.origin.clone(), seq, leaf, reason: reason.into() });
    }

    pub(crate) fn sealed(&self, seq: u64) -> &Sealed {
        &self.sealed[seq as usize - 1]
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree::new(self.leaves.clone())
    }

    pub(crate) fn checkpoint(&self, size: u64) -> Checkpoint {
        Checkpoint { origin: self.origin.clone(), size, root: self.tree().root(size) }
    }

    pub(crate) fn org_checkpoint(&self) -> String {
        let origin = Origin::org(self.party);
        Checkpoint { origin, size: self.org.size(), root: self.org.frontier().root() }.sign(&self.log)
    }

    pub(crate) fn proof(&self, seq: u64, size: u64) -> InclusionProof {
        let path = self.tree().inclusion(seq, size).unwrap();
        InclusionProof { index: seq, path, checkpoint: self.checkpoint(size).sign(&self.log) }
    }

    /// The view of a record that shows the slots asked for.
    pub(crate) fn view(&self, seq: u64, shown: impl Fn(usize) -> bool) -> SealedView {
        let sealed = self.sealed(seq);
        let disclosures = sealed.disclosures.iter().enumerate().filter(|(slot, _)| shown(*slot)).map(|(_, one)| one.clone()).collect();
        SealedView { core: sealed.core.clone(), disclosures }
    }

    pub(crate) fn package(&self, seq: u64, shown: impl Fn(usize) -> bool) -> Package {
        Package::new(self.view(seq, shown), self.proof(seq, self.leaves.len() as u64).to_text())
    }

    pub(crate) fn org_part(&self) -> OrgPart {
        OrgPart::of(&self.org, &self.org_checkpoint())
    }

    pub(crate) fn bundle_of(&self, packages: Vec<Package>) -> Bundle {
        Bundle { orgs: vec![self.org_part()], packages, ..Bundle::default() }
    }

    /// Every record with every slot shown.
    pub(crate) fn bundle(&self) -> Bundle {
        self.bundle_of((1..self.leaves.len() as u64).map(|seq| self.package(seq, |_| true)).collect())
    }

    pub(crate) fn trust(&self) -> Trust {
        let mut trust = Trust::none();
        trust.add(self.party, TrustedRoot { name: self.org.name().into(), checked: "by telephone".into() });
        trust
    }

    /// Signs a changed record in the place of an existing one: header and payload go through the hands of `change`.
    pub(crate) fn resigned(&self, seq: u64, change: impl FnOnce(&mut Value, &mut Value)) -> Vec<u8> {
        let sign1 = Sign1::read(&self.sealed(seq).core).unwrap();
        let (mut header, mut payload) = (codec::decode(&sign1.protected).unwrap(), codec::decode(&sign1.payload).unwrap());
        change(&mut header, &mut payload);
        cose::sign(&self.record, &codec::encode(&header), &codec::encode(&payload))
    }
}

pub(crate) fn signer(seed: u8) -> Signer {
    Signer::from_seed(&[seed; 32])
}

/// A checkpoint's note with what these witnesses signed of it.
pub(crate) fn cosigned(checkpoint: &Checkpoint, note: &str, witnesses: &[(&Signer, u64)]) -> String {
    let lines: Vec<Cosignature> = witnesses.iter().map(|(witness, time)| Cosignature::sign(checkpoint, witness, *time)).collect();
    note::with_cosignatures(note, &lines)
}

/// Verifier keys, in the order a bundle lists them.
pub(crate) fn vkeys(witnesses: &[&Signer]) -> Vec<String> {
    let mut keys: Vec<String> = witnesses.iter().map(|witness| WitnessKey::opaque(witness.public()).to_string()).collect();
    keys.sort();
    keys
}

/// What one organisation says it checked about another.
pub(crate) fn voucher_for(world: &World) -> Voucher {
    Voucher {
        party: world.party,
        name: "Muster Metallbau GmbH".into(),
        ids: [("BPN".to_owned(), "BPNL00000000TEST".to_owned()), ("DUNS".to_owned(), "315000554".to_owned())].into(),
        how: "extract of the commercial register, called back".into(),
        day: NOW / 86_400 * 86_400,
    }
}

/// A bundle with all evidence there is. Of Muster GmbH: record 1, first witnessed at size 3; record 2; release 3 of
/// record 1 by a named person; record 4 under a new record key. Its customer signed for all of it and vouches for it.
pub(crate) struct Rich {
    pub(crate) world: World,
    pub(crate) customer: World,
    /// Witnesses: of the customer (derived as nodes do it) and of two others.
    pub(crate) witnesses: [Signer; 3],
    /// The person who releases.
    pub(crate) person: Signer,
    pub(crate) bundle: Bundle,
    /// Trust in the customer alone: whose the records are follows from its voucher.
    pub(crate) trust: Trust,
}

impl Rich {
    pub(crate) fn new(shown: impl Fn(usize) -> bool + Copy) -> Rich {
        let about = org::About {
            ids: [("BPN".to_owned(), "BPNL00000000TEST".to_owned())].into(),
            attestations: vec![("qseal".into(), b"made by others".to_vec())],
        };
        let mut world = World::founded_as(0x11, "Muster GmbH", about, "lotline vectors 2");
        let mut customer = World::founded_as(0x31, "OEM One AG", org::About::default(), "lotline vectors 2, customer");
        let (person, root) = (signer(0x21), signer(0x24));
        let entries = [
            Entry::Signer { name: "Petra Pruefer".into(), function: "quality manager".into(), key: person.public() },
            Entry::Delegation {
                name: "Site B".into(),
                origin: Origin::new(world.party, "site-b", 1).unwrap(),
                record: signer(0x22).public(),
                log: signer(0x23).public(),
                until: (NOW / 86_400 + 365) * 86_400,
            },
            Entry::Successor { thumbprint: root.kid() },
        ];
        for entry in entries {
            world.state_as_root(&entry).unwrap();
        }
        world.state_by(&Entry::Root { key: root.public() }, &root).unwrap();
        world.root = root;
        world.publish(&inspection().check(RECORDED_AT).unwrap());
        world.publish(&Inspection { lot: "L-2026-0816".into(), ..inspection() }.check(RECORDED_AT).unwrap());
        world.release(1, &person);
        let places = world.places(world.org.size(), 4);
        world.rotate(Role::Record, signer(0x25), places);
        world.publish(&Inspection { lot: "L-2026-0817".into(), ..inspection() }.check(RECORDED_AT).unwrap());
        let derived = note::witness_seed(&[0x34; 32], &world.origin, 0);
        let witnesses = [Signer::from_seed(&derived), signer(0x41), signer(0x42)];
        let [a, b, c] = &witnesses;
        let newest = [(a, NOW + 100), (b, NOW + 200)];
        let packages = [1, 3, 4].map(|seq| {
            let package = Package::new(world.view(seq, shown), world.cosigned_proof(seq, 5, &newest));
            let first = (seq == 1).then(|| world.cosigned_proof(1, 3, &[(c, NOW + 10)]));
            Package { witnessed: first, receipt: (seq == 1).then(|| world.inclusion_receipt(1, 5)), ..package }
        });
        let org = OrgPart::of(&world.org, &world.cosigned_org_checkpoint(&[(b, NOW + 200), (c, NOW + 300)]));
        let delivery = customer.receive(&world.delivery(1, 5, 5), 0);
        let voucher = customer.vouch(&voucher_for(&world), 0);
        let bundle = Bundle {
            orgs: vec![org, customer.org_part()],
            packages: packages.into(),
            witnesses: vkeys(&[a, b, c]),
            histories: vec![world.history(&[3, 5])],
            deliveries: vec![delivery],
            vouchers: vec![voucher],
            first_version: false,
        };
        let trust = customer.trust();
        Rich { world, customer, witnesses, person, bundle, trust }
    }
}

pub(crate) fn report(bundle: &Bundle) -> Report {
    verify(&bundle.to_bytes(), &Trust::none())
}

/// Sets an entry of a map.
pub(crate) fn set(map: &mut Value, key: i64, value: Value) {
    let Value::Map(entries) = map else { panic!("a map") };
    entries.insert(codec::int(key), value);
}

/// Removes an entry of a map.
pub(crate) fn remove(map: &mut Value, key: i64) {
    let Value::Map(entries) = map else { panic!("a map") };
    entries.remove(&codec::int(key)).unwrap();
}

pub(crate) fn slot(name: &str) -> usize {
    SCHEMA.slot(name).unwrap()
}

/// The COSE_Sign1 of these parts, laid out by hand: nothing is checked.
pub(crate) fn laid_out(tagged: bool, protected: &[u8], unprotected: &Value, payload: &[u8], signature: &[u8]) -> Vec<u8> {
    let mut bytes = if tagged { vec![0xd2] } else { vec![] };
    bytes.push(0x84);
    codec::put_bytes(&mut bytes, protected);
    codec::put(&mut bytes, unprotected);
    codec::put_bytes(&mut bytes, payload);
    codec::put_bytes(&mut bytes, signature);
    bytes
}

// ---- vector files ----

/// A vector file of ours.
pub(crate) fn vectors(name: &str) -> Json {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub(crate) fn at<'a>(file: &'a Json, pointer: &str) -> &'a str {
    file.pointer(pointer).and_then(Json::as_str).unwrap_or_else(|| panic!("no text at {pointer}"))
}

pub(crate) fn bytes(file: &Json, pointer: &str) -> Vec<u8> {
    unhex(at(file, pointer)).unwrap_or_else(|| panic!("no hex at {pointer}"))
}

pub(crate) fn statement_json(core: &[u8]) -> Json {
    let sign1 = Sign1::read(core).unwrap();
    json!({
        "core": hex(core),
        "protected": hex(&sign1.protected),
        "payload": hex(&sign1.payload),
        "sig_structure": hex(&sig_structure(&sign1.protected, &sign1.payload)),
        "signature": hex(&sign1.signature),
        "leaf": lotline_schema::tree::leaf_hash(core).to_string(),
    })
}

pub(crate) fn key_json(seed: u8, signer: &Signer) -> Json {
    json!({
        "seed": hex(&[seed; 32]),
        "public": hex(signer.public().as_bytes()),
        "thumbprint": signer.kid().to_string(),
    })
}

/// Compares a file with what was built. A file that is missing is written with `LOTLINE_VECTORS=write`, none is edited.
pub(crate) fn rebuilt(name: &str, built: Json) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    if std::env::var("LOTLINE_VECTORS").is_ok_and(|value| value == "write") && !path.exists() {
        std::fs::write(path, format!("{}\n", serde_json::to_string_pretty(&built).unwrap())).unwrap();
    }
    let file = vectors(name);
    let (Json::Object(built), Json::Object(file)) = (built, &file) else { panic!("objects") };
    // The order of names says nothing: it depends on what else is built.
    assert_eq!(built.keys().collect::<BTreeSet<_>>(), file.keys().collect::<BTreeSet<_>>());
    for (name, value) in &built {
        assert_eq!(value, &file[name], "{name}");
    }
}
