//! Canaries: records with values that nobody else has, in every field, and a search that finds them wherever they went.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use lotline_schema::codec::{self, Value};
use lotline_schema::id::hex;
use lotline_schema::kind::inspection::{
    Attachment, Characteristic, Defect, Input, Inspection, Limit, Measured, SCHEMA, Source, Statistics,
};
use lotline_schema::{Decimal, Hash, Record};

use crate::forge::Node;

/// Something to look for, and where it comes from.
pub struct Needle {
    /// The field, and in which form.
    pub what: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Shorter than this, and chance finds it.
const NEEDLE_BYTES_MIN: usize = 6;

/// Looks for many needles in one pass.
pub struct Search {
    /// What is looked for.
    pub needles: Vec<Needle>,
    starts: Vec<Vec<usize>>,
}

impl Search {
    /// Needles of at least six bytes each.
    pub fn new(needles: Vec<Needle>) -> Search {
        let mut starts = vec![Vec::new(); 1 << 16];
        for (at, needle) in needles.iter().enumerate() {
            assert!(needle.bytes.len() >= NEEDLE_BYTES_MIN, "{} is too short to look for", needle.what);
            starts[usize::from(u16::from_be_bytes([needle.bytes[0], needle.bytes[1]]))].push(at);
        }
        Search { needles, starts }
    }

    /// The needles in it.
    pub fn find(&self, haystack: &[u8]) -> Vec<&str> {
        self.places(haystack).into_iter().map(|at| self.needles[at].what.as_str()).collect()
    }

    /// The same by their places in the list.
    pub fn places(&self, haystack: &[u8]) -> Vec<usize> {
        let mut found = vec![false; self.needles.len()];
        for at in 0..haystack.len().saturating_sub(1) {
            for needle in &self.starts[usize::from(u16::from_be_bytes([haystack[at], haystack[at + 1]]))] {
                found[*needle] |= haystack[at..].starts_with(&self.needles[*needle].bytes);
            }
        }
        (0..found.len()).filter(|at| found[*at]).collect()
    }

    /// The needles in any file below a folder, with the file.
    pub fn find_below(&self, folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(self.find_below(&path));
            } else {
                let mut bytes = std::fs::read(&path).unwrap();
                // Segments are laid out in advance.
                bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
                found.extend(self.find(&bytes).iter().map(|what| format!("{what} in {}", path.display())));
            }
        }
        found
    }
}

/// A text that exists once in the world.
pub fn canary(what: &str) -> String {
    let mut noise = [0; 6];
    lotline_node::keys::random(&mut noise);
    format!("canary-{what}-{}", hex(&noise))
}

fn some(what: &str) -> Option<String> {
    Some(canary(what))
}

/// A number of nine digits that exists once in the world, between 100,000 and a million.
fn number() -> Decimal {
    let mut noise = [0; 4];
    lotline_node::keys::random(&mut noise);
    let noise = u32::from_le_bytes(noise);
    // No zero at the end: it could be written shorter somewhere.
    format!("{}.{:03}", 100_000 + noise % 899_999, noise / 7 % 1000 / 10 * 10 + 1 + noise % 9).parse().unwrap()
}

fn hash() -> Hash {
    let mut noise = [0; 32];
    lotline_node::keys::random(&mut noise);
    Hash(noise)
}

/// A moment in the past that nothing else names.
fn moment() -> Option<String> {
    let mut noise = [0; 4];
    lotline_node::keys::random(&mut noise);
    let [a, b, c, d] = noise;
    Some(format!("19{:02}-0{}-1{}T0{}:{:02}:{:02}", a % 60 + 10, b % 9 + 1, c % 10, d % 10, a % 60, b % 60))
}

const PIECES: usize = 12;

fn characteristic(position: u32, class: Option<String>) -> Characteristic {
    let nominal = number();
    let beside = |by: i64| Decimal::whole(nominal.to_f64() as i64 + by);
    let figure = || Some(number());
    Characteristic {
        position,
        name: canary("characteristic"),
        class,
        feature: some("feature"),
        unit: Some("canary-unit".into()),
        nominal: Some(nominal),
        lower: Limit::Limit(beside(-2_000_000)),
        upper: Limit::Limit(beside(3_000_000)),
        values: (0..PIECES).map(|at| Measured::Number(number(), (at == 0).then(|| canary("as written")))).collect(),
        stated_good: vec![Some(true); PIECES],
        stated: Some(Statistics {
            n: PIECES as u64,
            mean: figure(),
            s: figure(),
            min: figure(),
            max: figure(),
            cp: figure(),
            cpk: figure(),
            pp: figure(),
            ppk: figure(),
        }),
        place: None,
    }
}

/// An inspection with a canary wherever one can sit.
pub fn inspection(part: &str, lot: &str) -> Inspection {
    Inspection {
        part: part.into(),
        customer_part: some("customer_part"),
        revision: some("revision"),
        part_name: some("part_name"),
        drawing: some("drawing"),
        customer: some("customer"),
        lot: lot.into(),
        order: some("order"),
        delivery_note: some("delivery_note"),
        quantity: Some((number(), "pcs".into())),
        operation: some("operation"),
        reason: some("reason"),
        sample: some("sample"),
        inspected_from: moment(),
        inspected_to: moment(),
        site: some("site"),
        standard: some("standard"),
        certificate: Some(("3.1".into(), canary("certificate"))),
        released_by: some("released_by"),
        concession: some("concession"),
        serials: (0..PIECES).map(|_| canary("serial")).collect(),
        characteristics: vec![characteristic(1, some("class")), characteristic(2, None)],
        defects: vec![Defect { code: canary("defect"), text: some("defect text"), count: 3 }],
        machine: some("machine"),
        gauge: some("gauge"),
        program: some("program"),
        environment: some("environment"),
        inspector: some("inspector"),
        inputs: vec![Input { lot: canary("input"), part: some("input part"), supplier: some("supplier"), statement: Some(hash()) }],
        attachments: vec![Attachment { name: canary("attachment"), media_type: "application/pdf".into(), bytes: 1, sha256: hash() }],
        source: Some(Source { name: canary("source"), sha256: hash(), importer: canary("importer") }),
        commercial: some("commercial"),
        remarks: some("remarks"),
        own_units: vec!["canary-unit".into()],
        ..Inspection::default()
    }
}

/// The record of an inspection, signed now.
pub fn checked(inspection: &Inspection) -> Record {
    inspection.check(&lotline_node::service::exact_time_text()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// Everything of a value that is found nowhere else: its texts, its numbers as text and as tag 4, its bytes.
fn needles_of(field: &str, value: &Value, needles: &mut Vec<Needle>) {
    let mut add = |kind: &str, bytes: Vec<u8>| needles.push(Needle { what: format!("{field} ({kind})"), bytes });
    match value {
        // What is not ours alone (a verdict, a unit, `limit`) is found by its salt instead.
        Value::Text(text) if text.starts_with("canary-") && text != "canary-unit" => add("text", text.clone().into_bytes()),
        Value::Text(text) if text.starts_with("19") && text.len() > 10 => add("time", text.clone().into_bytes()),
        Value::Bytes(bytes) if bytes.len() == 32 => {
            add("bytes", bytes.clone());
            add("hex", hex(bytes).into_bytes());
        }
        Value::Array(items) => items.iter().for_each(|item| needles_of(field, item, needles)),
        other => {
            let Some(number) = codec::as_decimal(other) else { return };
            let text = number.to_string();
            if text.bytes().filter(u8::is_ascii_digit).count() >= 7 {
                add("number as tag 4", codec::encode(other));
                add("number with a comma", text.replace('.', ",").into_bytes());
                add("number as text", text.into_bytes());
            }
        }
    }
}

/// What a record hides: of its values what is recognisable, and of every slot, present or not, its salt.
pub async fn needles_in(maker: &Node, feed: &str, record: &Record, seq: u64, hidden: impl Fn(&str) -> bool) -> Vec<Needle> {
    let feed = maker.feed(&maker.own(feed)).unwrap().id;
    let slots = maker
        .with(move |feeds| {
            feeds.settle()?;
            let row = feeds.reader().row(feed, seq)?.unwrap();
            Ok::<_, lotline_node::feeds::FeedError>(feeds.reader().disclosures(&row)?)
        })
        .await
        .unwrap();
    assert_eq!(slots.len(), SCHEMA.fields.len());
    let mut needles = Vec::new();
    for (slot, disclosure) in slots {
        let name = SCHEMA.fields[slot as usize].name;
        if !hidden(name) {
            continue;
        }
        let salt = disclosure[2..18].to_vec();
        needles.push(Needle { what: format!("{name} (salt in hex)"), bytes: hex(&salt).into_bytes() });
        needles.push(Needle { what: format!("{name} (salt)"), bytes: salt });
        if let Some(value) = &record.values()[slot as usize] {
            needles_of(name, value, &mut needles);
        }
    }
    needles
}

/// Everything that any part of this process logs, at any level.
pub fn log() -> Arc<Mutex<Vec<u8>>> {
    #[derive(Clone)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    static LOG: OnceLock<Log> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        let log = Log(Arc::default());
        let writer = log.clone();
        let filter = tracing_subscriber::EnvFilter::new("debug,lotline_node=trace,lotline_policy=trace,lotline_schema=trace");
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone()).init();
        tracing::trace!("the log is kept");
        log
    });
    log.0.clone()
}
