//! A record: content that passed every check, as one optional value a slot. Next comes signing.

use crate::codec::{self, Value};
use crate::draft::SHAREABLE_N_MIN;
use crate::id::Hash;
use crate::kind::{Form, Schema};

/// Checked content of one lot's inspection, certificate or event, in the slots of its schema.
#[derive(Clone, Debug)]
pub struct Record {
    schema: &'static Schema,
    values: Vec<Option<Value>>,
}

impl Record {
    /// Only for content that passed its kind's checks.
    pub(crate) fn new(schema: &'static Schema, values: Vec<Option<Value>>) -> Record {
        debug_assert_eq!(schema.fields.len(), values.len());
        Record { schema, values }
    }

    /// A record of the benchmark kind, whose slots take any value; missing ones at the end are absent.
    pub fn benchmark(values: Vec<Value>) -> Record {
        let mut values: Vec<Option<Value>> = values.into_iter().map(Some).collect();
        values.resize(crate::kind::BENCHMARK.fields.len(), None);
        Record::new(&crate::kind::BENCHMARK, values)
    }

    /// Its schema.
    pub fn schema(&self) -> &'static Schema {
        self.schema
    }

    /// Its values, one a slot.
    pub fn values(&self) -> &[Option<Value>] {
        &self.values
    }

    /// What lists, filters and policies need to know of it.
    pub fn facts(&self) -> Facts {
        Facts::read(self.schema, |slot| self.values[slot].as_ref())
    }

    /// About how large its package will be: values with their salts, the core, and evidence. Never less than it is.
    pub fn package_bytes(&self) -> usize {
        const PER_SLOT: usize = 64;
        const EVIDENCE: usize = 8 * 1024;
        let mut values = Vec::with_capacity(1024);
        self.values.iter().flatten().for_each(|value| codec::put(&mut values, value));
        PER_SLOT * self.values.len() + values.len() + EVIDENCE
    }

    /// SHA-256 over the values, without the time of recording and the source file: equal for a file imported twice.
    pub fn content_hash(&self) -> Hash {
        let mut bytes = Vec::with_capacity(1024);
        codec::put_head(&mut bytes, 4, self.values.len() as u64);
        for (field, value) in self.schema.fields.iter().zip(&self.values) {
            let apart = matches!(field.name, "recorded_at" | "source");
            codec::put(&mut bytes, value.as_ref().filter(|_| !apart).unwrap_or(&Value::Null));
        }
        Hash::of(&[&bytes])
    }
}

/// What lists, filters and policies know of a record; from a view, only what the view shows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// The kind, as in `inspection`.
    pub kind: String,
    /// Part number of the maker.
    pub part: Option<String>,
    /// Part number of the customer.
    pub customer_part: Option<String>,
    /// Revision of the part.
    pub revision: Option<String>,
    /// Lot.
    pub lot: Option<String>,
    /// The customer, as the partner book names it.
    pub customer: Option<String>,
    /// maker, receiver or laboratory.
    pub role: Option<String>,
    /// Operation.
    pub operation: Option<String>,
    /// Reason for the test.
    pub reason: Option<String>,
    /// Sample number.
    pub sample: Option<String>,
    /// The recomputed verdict, or the stated one where nothing could be recomputed.
    pub verdict: Option<String>,
    /// Pieces inspected and pieces non-conforming.
    pub pieces: Option<(u64, u64)>,
    /// When it was recorded.
    pub recorded_at: Option<String>,
    /// Slots of statistics over fewer than ten values: shared only with their values.
    pub thin: u64,
    /// Whether a named person released it, and that counts. No slot says so: whoever asks rules about a record of its own
    /// looks, and where nobody looked it is false.
    pub released: bool,
    /// Slots that were forgotten where the record is kept, a bit each. No slot says so either.
    pub forgotten: u64,
}

/// The slots behind [`Facts::identity`], beside the kind.
pub(crate) const IDENTITY: [&str; 7] = ["role", "part", "revision", "lot", "operation", "reason", "sample"];

/// The kind under which lists know a release, which is no record.
const RELEASE: &str = "release";

impl Facts {
    /// Of a release: it has no slots, and says nothing but which record it is about.
    pub fn of_release() -> Facts {
        Facts { kind: RELEASE.into(), ..Facts::default() }
    }

    /// Whether it is of a release and not of a record.
    pub fn is_release(&self) -> bool {
        self.kind == RELEASE
    }

    /// Reads the facts from whatever slots can be seen.
    pub fn read<'a>(schema: &Schema, value: impl Fn(usize) -> Option<&'a Value>) -> Facts {
        let text = |name: &str| {
            let value = schema.slot(name).and_then(&value)?;
            codec::as_text(value).map(str::to_owned)
        };
        let recomputed = schema.slot("verdict_recomputed").and_then(&value).and_then(codec::as_array);
        let recomputed_verdict = recomputed.and_then(|row| codec::as_text(row.first()?)).map(str::to_owned);
        let verdict = match recomputed_verdict.as_deref() {
            None | Some("undecided") => text("verdict_stated").or(recomputed_verdict),
            Some(_) => recomputed_verdict,
        };
        let thin =
            schema.fields.iter().enumerate().filter(|(slot, field)| field.form == Form::Statistics && value(*slot).is_some_and(is_thin));
        Facts {
            kind: schema.name.into(),
            part: text("part"),
            customer_part: text("customer_part"),
            revision: text("revision"),
            lot: text("lot"),
            customer: text("customer"),
            role: text("role"),
            operation: text("operation"),
            reason: text("reason"),
            sample: text("sample"),
            verdict,
            pieces: recomputed.and_then(|row| Some((codec::as_uint(row.get(1)?)?, codec::as_uint(row.get(2)?)?))),
            recorded_at: text("recorded_at"),
            thin: thin.fold(0, |mask, (slot, _)| mask | 1 << slot),
            released: false,
            forgotten: 0,
        }
    }

    /// What makes two live statements about the same thing: publishing a second needs `--supersede` or `--sample`.
    pub fn identity(&self) -> String {
        let parts = [&self.role, &self.part, &self.revision, &self.lot, &self.operation, &self.reason, &self.sample];
        // The unit separator cannot stand in a checked text.
        let parts: Vec<&str> = parts.iter().map(|part| part.as_deref().unwrap_or("")).collect();
        format!("{}\u{1f}{}", self.kind, parts.join("\u{1f}"))
    }

    /// Whether the lot conforms, if anybody can say.
    pub fn conforming(&self) -> Option<bool> {
        match self.verdict.as_deref() {
            Some("conforming") => Some(true),
            Some("non-conforming") => Some(false),
            _ => None,
        }
    }
}

fn is_thin(statistics: &Value) -> bool {
    // Recomputed and stated rows alike: a file may state figures over values it does not hold.
    let tables = codec::as_array(statistics).and_then(|parts| parts.get(1..)).unwrap_or_default();
    let n = |row: &Value| codec::as_array(row).and_then(|row| codec::as_uint(row.first()?));
    tables.iter().filter_map(codec::as_array).flatten().filter_map(n).any(|n| n < SHAREABLE_N_MIN)
}
