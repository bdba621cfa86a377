//! The auditor's question: is this file intact, and whose is it? A pure function from bytes to a reasoned report.
//!
//! Three questions, answered apart. *Intact?*: signatures, slots, places, roots, one truth. *Whose?*: does somebody the
//! reader trusts vouch for the root. *Since when, and still?*: what witnesses signed proves a date and how fresh the
//! news about keys and withdrawals is; the reader's demands ([`Trust`]) say whether that is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bundle::{self, Bundle, History, OrgPart};
use crate::codec::CodecError;
use crate::delivery::{Delivery, Receipt};
use crate::id::{Hash, Origin, PartyId};
use crate::note::{Checkpoint, Cosigned, InclusionProof, WitnessKey, vkey};
use crate::org::{Org, OrgError};
use crate::quorum::Quorum;
use crate::receipt::{self, Included};
use crate::statement::Unverified;
use crate::tree;
use crate::view::{Expected, Package, VerifiedView};
use crate::voucher::Voucher;

mod shelves;

use shelves::{Places, Roots, WitnessKeys};

/// Whom the reader trusts, and what evidence the reader demands.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    roots: BTreeMap<PartyId, TrustedRoot>,
    quorum: Option<Quorum>,
    by: Option<u64>,
    fresh_after: Option<u64>,
}

/// What is known of a trusted root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustedRoot {
    /// Who it is.
    pub name: String,
    /// Who checked that, and how.
    pub checked: String,
}

impl Trust {
    /// Trust in nobody, and no demands.
    pub fn none() -> Trust {
        Trust::default()
    }

    /// Adds a root.
    pub fn add(&mut self, party: PartyId, root: TrustedRoot) {
        self.roots.insert(party, root);
    }

    /// What is known of a party.
    pub fn of(&self, party: &PartyId) -> Option<&TrustedRoot> {
        self.roots.get(party)
    }

    /// Counts the cosignatures of these witnesses only, and demands their quorum.
    pub fn demand_quorum(&mut self, quorum: Quorum) {
        self.quorum = Some(quorum);
    }

    /// Demands that every record was witnessed by this time, in seconds since 1970.
    pub fn demand_witnessed_by(&mut self, time: u64) {
        self.by = Some(time);
    }

    /// Demands that the news about keys and withdrawals was witnessed at or after this time, in seconds since 1970.
    pub fn demand_fresh_after(&mut self, time: u64) {
        self.fresh_after = Some(time);
    }
}

/// One thing that was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Short name, stable: `format`, `org`, `statement`, `inclusion`, `fields`, `receipt`, `history`, `witness`,
    /// `delivery`, `voucher`, `one-truth`, `status`, `signer`, `fork`.
    pub name: &'static str,
    /// What it was checked on, as in `record 3 of z6Mk…/quality/1`.
    pub on: String,
    /// What was found.
    pub finding: Finding,
}

/// The result of a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// Holds; the text says what that means.
    Holds(String),
    /// Does not hold.
    Fails(String),
    /// Holds, with something the reader should know.
    Notes(String),
}

/// The answer, worst first where several apply.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// Not a file this program can read.
    Unreadable,
    /// Something was altered after it was signed.
    Altered,
    /// Two truths for one place or one lot.
    Forked,
    /// Intact, but signed with a key that its organisation had revoked for that place.
    Revoked,
    /// Intact, but a record in it was withdrawn.
    Withdrawn,
    /// Intact, but it does not prove all that was asked: a link, a quorum, a date is missing.
    Incomplete,
    /// Intact; nobody vouches for the signer.
    SignerNotEstablished,
    /// Intact, and signed by somebody trusted.
    Verified,
}

impl Outcome {
    /// The exit code of `lotline verify`.
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Verified => 0,
            Outcome::Altered => 4,
            Outcome::SignerNotEstablished => 7,
            Outcome::Revoked | Outcome::Withdrawn => 8,
            Outcome::Incomplete => 9,
            Outcome::Forked => 10,
            Outcome::Unreadable => 11,
        }
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Verified => "verified",
            Outcome::Altered => "altered",
            Outcome::SignerNotEstablished => "signer-not-established",
            Outcome::Revoked => "revoked",
            Outcome::Withdrawn => "withdrawn",
            Outcome::Incomplete => "incomplete",
            Outcome::Forked => "forked",
            Outcome::Unreadable => "unreadable",
        }
    }
}

/// The first moment at which somebody else had signed that a record is in its feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Witnessed {
    /// When, by the witnesses' clocks, in seconds since 1970.
    pub at: u64,
    /// By whom: names of the quorum file, else names of keys, which say nothing but which key it was.
    pub by: Vec<String>,
}

/// A record of the bundle that holds.
#[derive(Clone, Debug)]
pub struct VerifiedRecord {
    /// What checks call it: `record 3 of z6Mk…/quality/1`.
    pub name: String,
    /// Its issuer.
    pub party: PartyId,
    /// What can be seen of it.
    pub view: VerifiedView,
    /// Size of the checkpoint it is proven in.
    pub size: u64,
    /// When it was first witnessed; none: its date is unproven.
    pub witnessed: Option<Witnessed>,
    /// Why it was withdrawn, if it was.
    pub withdrawn: Option<String>,
    /// Leaf hash of the record here that replaces it.
    pub superseded_by: Option<Hash>,
    /// Persons who released it, each with the function.
    pub released_by: Vec<(String, String)>,
    /// Who signed for having received it, and what they signed.
    pub deliveries: Vec<(PartyId, Delivery)>,
    /// Its package, for exploding into parts.
    pub package: Package,
}

/// An issuer of the bundle, or somebody who signed a receipt or voucher in it.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The party.
    pub party: PartyId,
    /// What it calls itself.
    pub calls_itself: String,
    /// What is known of it.
    pub trusted: Option<TrustedRoot>,
    /// Its org feed.
    pub org: Org,
    /// Its org feed's checkpoint, as it came.
    pub checkpoint: String,
    /// When that was last witnessed.
    pub witnessed: Option<Witnessed>,
    /// Whether records here are its own.
    pub has_records: bool,
}

/// What was checked, and what came out.
#[derive(Clone, Debug)]
pub struct Report {
    /// The answer.
    pub outcome: Outcome,
    /// Each check, in order.
    pub checks: Vec<Check>,
    /// Records that hold.
    pub records: Vec<VerifiedRecord>,
    /// Issuers that hold.
    pub issuers: Vec<Issuer>,
    /// Places in `issuers`.
    by_party: BTreeMap<PartyId, usize>,
}

impl Report {
    pub(crate) fn new() -> Report {
        let (checks, records, issuers) = (Vec::new(), Vec::new(), Vec::new());
        Report { outcome: Outcome::Verified, checks, records, issuers, by_party: BTreeMap::new() }
    }

    /// Whether nothing was altered.
    pub fn intact(&self) -> bool {
        !matches!(self.outcome, Outcome::Altered | Outcome::Unreadable | Outcome::Forked)
    }

    /// Whether somebody trusted vouches for every issuer of a record.
    pub fn signer_established(&self) -> bool {
        let mut issuers = self.issuers.iter().filter(|issuer| issuer.has_records).peekable();
        issuers.peek().is_some() && issuers.all(|issuer| issuer.trusted.is_some())
    }

    /// The first failing check.
    pub fn failure(&self) -> Option<&Check> {
        self.checks.iter().find(|check| matches!(check.finding, Finding::Fails(_)))
    }

    /// The verdict in one sentence.
    pub fn sentence(&self) -> String {
        let records = match self.records.len() {
            1 => "1 record".to_owned(),
            count => format!("{count} records"),
        };
        let who = |issuer: &Issuer| match &issuer.trusted {
            Some(root) => format!("signed by {} ({})", root.name, root.checked),
            None => format!("signer not established: calls itself {}, root {}", issuer.calls_itself, issuer.party.six_words()),
        };
        let whose = self.issuers.iter().filter(|issuer| issuer.has_records).map(who).collect::<Vec<_>>().join("; ");
        let why = self.failure().map_or(String::new(), |check| format!("{}: {}", check.on, check.finding));
        match self.outcome {
            Outcome::Verified => format!("Intact, {records}, {whose}."),
            Outcome::SignerNotEstablished => format!("Intact, {records}; {whose}."),
            Outcome::Incomplete => format!("Intact, {records}, but NOT ALL IS PROVEN that was asked. {why}; {whose}."),
            Outcome::Withdrawn => format!("Intact, {records}, but withdrawn by the issuer; {whose}."),
            Outcome::Revoked => format!("Intact, {records}, but NOT VOUCHED FOR. {why}; {whose}."),
            Outcome::Altered => format!("ALTERED. {why}."),
            Outcome::Forked => format!("TWO TRUTHS. {why}."),
            Outcome::Unreadable => format!("Unreadable. {why}."),
        }
    }

    pub(crate) fn add(&mut self, name: &'static str, on: impl Into<String>, finding: Finding) {
        self.checks.push(Check { name, on: on.into(), finding });
    }

    pub(crate) fn fails(&mut self, outcome: Outcome, name: &'static str, on: impl Into<String>, why: impl Into<String>) {
        self.outcome = self.outcome.min(outcome);
        self.add(name, on, Finding::Fails(why.into()));
    }

    /// Opens an org feed and lists it; none, and a failing check, when it does not hold.
    pub(crate) fn open_org(&mut self, part: OrgPart, trust: &Trust) -> Option<(usize, Cosigned)> {
        match part.open() {
            Ok((org, _)) if self.by_party.contains_key(&org.party()) => {
                self.fails(Outcome::Altered, "org", format!("org feed of {}", org.party().short()), "it is there twice");
                None
            }
            Ok((org, cosigned)) => {
                let (party, entries) = (org.party(), org.size());
                let noun = if entries == 1 { "entry" } else { "entries" };
                let holds = Finding::Holds(format!("{entries} {noun}, signed from its root on"));
                self.add("org", format!("org feed of {}", party.short()), holds);
                let (calls_itself, trusted) = (org.name().to_owned(), trust.of(&party).cloned());
                let checkpoint = part.checkpoint;
                self.by_party.insert(party, self.issuers.len());
                self.issuers.push(Issuer { party, calls_itself, trusted, org, checkpoint, witnessed: None, has_records: false });
                Some((self.issuers.len() - 1, cosigned))
            }
            Err(why) => {
                let outcome = if why.is_newer() { Outcome::Unreadable } else { Outcome::Altered };
                self.fails(
                    outcome,
                    "org",
                    "an org feed",
                    match why {
                        OrgError::Empty => "it is empty".to_owned(),
                        why => why.to_string(),
                    },
                );
                None
            }
        }
    }

    /// The org feed of a party, if it is here and holds.
    pub(crate) fn org(&self, party: &PartyId) -> Option<&Org> {
        self.issuer(party).map(|issuer| &issuer.org)
    }

    fn issuer(&self, party: &PartyId) -> Option<&Issuer> {
        self.by_party.get(party).map(|at| &self.issuers[*at])
    }

    fn issuer_mut(&mut self, party: &PartyId) -> Option<&mut Issuer> {
        self.by_party.get(party).map(|at| &mut self.issuers[*at])
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Holds(text) | Finding::Fails(text) | Finding::Notes(text) => f.write_str(text),
        }
    }
}

/// Verifies a bundle, or a fork proof ([`crate::fork`]), from its bytes alone.
///
/// ```
/// use lotline_schema::verify::{Outcome, Trust, verify};
/// let report = verify(b"not a bundle", &Trust::none());
/// assert_eq!(report.outcome, Outcome::Unreadable);
/// assert_eq!(report.sentence(), "Unreadable. the file: this is not a Lotline bundle.");
/// ```
pub fn verify(bytes: &[u8], trust: &Trust) -> Report {
    verify_showing(bytes, trust, &|_, _| {})
}

/// The same; `progress` hears how many of how many records are done, from several threads.
pub fn verify_showing(bytes: &[u8], trust: &Trust, progress: &(dyn Fn(u64, u64) + Sync)) -> Report {
    if crate::fork::is_fork_proof(bytes) {
        return crate::fork::verify(bytes, trust);
    }
    let mut run =
        Run { trust, report: Report::new(), witnesses: Witnesses::default(), opened: BTreeMap::new(), signed: BTreeSet::new(), progress };
    match Bundle::read(bytes) {
        Ok(bundle) => run.bundle(bundle),
        Err(why) => {
            // A file that begins like a bundle and does not read was damaged or altered, unless this program is too old for it.
            let unreadable = why == bundle::NOT_A_BUNDLE || matches!(why, CodecError::Newer(_));
            let outcome = if unreadable { Outcome::Unreadable } else { Outcome::Altered };
            run.report.fails(outcome, "format", "the file", why.to_string());
        }
    }
    run.report
}

/// The witness keys of a bundle, and which of them made a line that was looked at.
#[derive(Default)]
struct Witnesses {
    keys: WitnessKeys,
    used: BTreeSet<String>,
}

/// The most delivery receipts shown of one record, so that a file cannot grow in memory: one a customer and widening.
const DELIVERIES_PER_RECORD_MAX: usize = 256;

/// Below this many packages a second thread costs more than it brings (a signature takes 40 us, a thread 30).
const PACKAGES_PER_THREAD_MIN: usize = 16;

struct Run<'a> {
    trust: &'a Trust,
    report: Report,
    witnesses: Witnesses,
    /// Checkpoints of packages by their text: many records share one.
    opened: Opened,
    /// Who signed a receipt or a voucher here.
    signed: BTreeSet<PartyId>,
    progress: &'a (dyn Fn(u64, u64) + Sync),
}

/// The signed roots of one feed by size: one each, unless there are two truths.
type Sizes = BTreeMap<u64, BTreeSet<Hash>>;

/// Opened checkpoints by their text.
type Opened = BTreeMap<String, Cosigned>;

/// What a thread need not open twice: checkpoints, and the origin of the record before.
#[derive(Default)]
struct Shelf {
    opened: Opened,
    origin: Option<(Origin, String)>,
}

impl Shelf {
    /// An origin, and what reports call it.
    fn origin(&mut self, text: &str) -> Result<(Origin, String), crate::id::IdError> {
        match &self.origin {
            Some(known) if known.0.as_str() == text => Ok(known.clone()),
            _ => {
                let origin: Origin = text.parse()?;
                let short = origin.short();
                Ok(self.origin.insert((origin, short)).clone())
            }
        }
    }
}

/// A failed check of a record: its name, what it was on, why.
type Failed = (&'static str, Option<String>, String);

/// A package every part of which holds.
struct Held {
    party: PartyId,
    view: VerifiedView,
    package: Package,
    on: String,
    /// Checkpoint of the proof, and of the first witnessed one: texts, for [`Opened`].
    checkpoints: Vec<String>,
    has_receipt: bool,
}

impl Run<'_> {
    fn bundle(&mut self, bundle: Bundle) {
        let version = if bundle.first_version { 1 } else { 2 };
        self.report.add("format", "the file", Finding::Holds(format!("a Lotline bundle, version {version}, read to the last byte")));
        if bundle.packages.is_empty() {
            self.report.fails(Outcome::Altered, "format", "the file", "it holds no record");
        }
        self.read_witnesses(&bundle.witnesses);
        let mut org_cosigned = false;
        for part in bundle.orgs {
            if let Some((at, cosigned)) = self.report.open_org(part, self.trust) {
                org_cosigned |= !cosigned.cosignatures.is_empty();
                let on = self.report.issuers[at].org.party().short();
                self.report.issuers[at].witnessed = self.newest(&cosigned, &format!("org feed of {on}"));
            }
        }
        let held = self.packages(bundle.packages);
        if bundle.first_version && (org_cosigned || self.opened.values().any(|one| !one.cosignatures.is_empty())) {
            self.report.fails(Outcome::Altered, "format", "the file", "version 1 has no cosignatures");
        }
        self.records(held);
        self.histories(bundle.histories, bundle.first_version);
        self.deliveries(&bundle.deliveries);
        self.vouchers(&bundle.vouchers);
        self.unused_witnesses();
        self.one_truth();
        self.statuses();
        self.signers();
    }

    fn read_witnesses(&mut self, vkeys: &[String]) {
        for vkey in vkeys {
            match WitnessKey::read(vkey) {
                Ok(key) => self.witnesses.keys.put(key),
                Err(why) => {
                    self.report.add("witness", "a witness key", Finding::Notes(format!("it cannot be read and counts for nothing: {why}")))
                }
            }
        }
        if vkeys.windows(2).any(|pair| pair[0] >= pair[1]) {
            self.report.fails(Outcome::Altered, "format", "the file", "its witness keys are not in order");
        }
    }

    /// The cosignatures of a checkpoint that hold and count, by name; a line that does not is listed.
    fn count(&mut self, cosigned: &Cosigned, on: &str) -> BTreeMap<String, u64> {
        let mut counted = BTreeMap::new();
        for cosignature in &cosigned.cosignatures {
            let named = self.trust.quorum.as_ref().and_then(|quorum| quorum.witness_of(cosignature));
            let listed = self.witnesses.keys.of(cosignature);
            let (name, key) = match (named, listed) {
                (Some((name, key)), _) => (name, key),
                (None, Some(key)) => (key.name(), key),
                (None, None) => {
                    let text = format!("the cosignature of {} cannot be checked: its key is not here", cosignature.name());
                    self.report.add("witness", on, Finding::Notes(text));
                    continue;
                }
            };
            self.witnesses.used.insert(key.to_string());
            if cosignature.verify(&cosigned.checkpoint, key).is_err() {
                let text = format!("the cosignature of {} does not hold and counts for nothing", cosignature.name());
                self.report.add("witness", on, Finding::Notes(text));
            } else if self.trust.quorum.is_none() || named.is_some() {
                counted.insert(name.to_owned(), cosignature.time());
            }
        }
        counted
    }

    /// When a checkpoint was last witnessed.
    fn newest(&mut self, cosigned: &Cosigned, on: &str) -> Option<Witnessed> {
        let counted = self.count(cosigned, on);
        let at = match &self.trust.quorum {
            Some(quorum) => quorum.newest(&counted)?,
            None => *counted.values().max()?,
        };
        let by: Vec<String> = counted.into_iter().filter(|(_, time)| *time >= at).map(|(name, _)| name).collect();
        (!by.is_empty()).then_some(Witnessed { at, by })
    }

    /// Verifies packages on all cores, in order.
    fn packages(&mut self, packages: Vec<Package>) -> Vec<Held> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(packages.len() / PACKAGES_PER_THREAD_MIN).max(1);
        let share = packages.len().div_ceil(cores).max(1);
        let mut rest = packages.into_iter();
        let (report, progress, total, done) = (&self.report, self.progress, rest.len() as u64, AtomicU64::new(0));
        let chunks: Vec<Vec<Package>> = (0..cores).map(|_| rest.by_ref().take(share).collect()).collect();
        let work = |chunk: Vec<Package>| {
            let mut shelf = Shelf::default();
            let one = |package| {
                let held = hold(report, package, &mut shelf);
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
                held
            };
            let results: Vec<_> = chunk.into_iter().map(one).collect();
            (results, shelf.opened)
        };
        let done: Vec<_> = match cores {
            1 => chunks.into_iter().map(work).collect(),
            _ => std::thread::scope(|scope| {
                let threads: Vec<_> = chunks.into_iter().map(|chunk| scope.spawn(|| work(chunk))).collect();
                threads.into_iter().map(|thread| thread.join().expect("verification does not panic")).collect()
            }),
        };
        let mut held = Vec::new();
        let mut at = 0;
        for (results, opened) in done {
            self.opened.extend(opened);
            for result in results {
                at += 1;
                match result {
                    Ok(one) => held.push(one),
                    Err((name, on, why)) => self.report.fails(Outcome::Altered, name, on.unwrap_or_else(|| format!("package {at}")), why),
                }
            }
        }
        held
    }

    /// Lists the records that hold, each with what witnesses signed of it, and sorts releases to them.
    fn records(&mut self, held: Vec<Held>) {
        let mut counted: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for (text, cosigned) in std::mem::take(&mut self.opened) {
            let Checkpoint { origin, size, .. } = &cosigned.checkpoint;
            let on = format!("checkpoint of {size} entries of {}", origin.short());
            counted.insert(text.clone(), self.count(&cosigned, &on));
            self.opened.insert(text, cosigned);
        }
        let (releases, records): (Vec<Held>, Vec<Held>) = held.into_iter().partition(|one| one.view.release().is_some());
        for one in records {
            let first = one.checkpoints.iter().filter_map(|text| self.first(&counted[text], &self.opened[text])).min_by_key(|seen| seen.at);
            let size = self.opened[&one.checkpoints[0]].checkpoint.size;
            self.list(&one, size, first.as_ref());
            let withdrawn = self.report.org(&one.party).and_then(|org| org.withdrawn(&one.view.leaf())).map(str::to_owned);
            if let Some(issuer) = self.report.issuer_mut(&one.party) {
                issuer.has_records = true;
            }
            self.report.records.push(VerifiedRecord {
                name: one.on,
                party: one.party,
                view: one.view,
                size,
                witnessed: first,
                withdrawn,
                superseded_by: None,
                released_by: Vec::new(),
                deliveries: Vec::new(),
                package: one.package,
            });
        }
        let places = self.places();
        for one in releases {
            self.release(one, &places);
        }
        let replaces = |record: &VerifiedRecord| Some(((record.party, record.view.claims().supersedes?), record.view.leaf()));
        // What its organisation does not vouch for replaces nothing.
        let vouched = self.report.records.iter().filter(|record| record.view.revoked().is_none());
        let replaced: BTreeMap<(PartyId, Hash), Hash> = vouched.filter_map(replaces).collect();
        for record in &mut self.report.records {
            // Only its own issuer can replace a statement.
            record.superseded_by = replaced.get(&(record.party, record.view.leaf())).copied();
        }
    }

    /// The records by their places.
    fn places(&self) -> Places {
        let mut places = Places::default();
        for (at, record) in self.report.records.iter().enumerate() {
            places.put(&record.view.claims().origin, record.view.claims().seq, at);
        }
        places
    }

    /// The moment from which what was counted on a checkpoint is enough.
    fn first(&self, counted: &BTreeMap<String, u64>, cosigned: &Cosigned) -> Option<Witnessed> {
        let at = match &self.trust.quorum {
            Some(quorum) => {
                let org = self.report.org(&cosigned.checkpoint.origin.party())?;
                let Checkpoint { origin, size, .. } = &cosigned.checkpoint;
                let counts = org.log_keys(origin, *size).iter().any(|key| quorum.counts_log(&vkey(origin.as_str(), key)));
                quorum.reached(counted).filter(|_| counts)?
            }
            None => *counted.values().min()?,
        };
        let by: Vec<String> = counted.iter().filter(|(_, time)| **time <= at).map(|(name, _)| name.clone()).collect();
        (!by.is_empty()).then_some(Witnessed { at, by })
    }

    /// The checks of one record that holds, in words.
    fn list(&mut self, one: &Held, size: u64, first: Option<&Witnessed>) {
        let on = one.on.clone();
        let (shown, hidden) = (one.view.slots().len() - one.view.hidden(), one.view.hidden());
        let report = &mut self.report;
        match one.view.revoked() {
            None => report.add("statement", &on, Finding::Holds("signed by the issuer's record key".into())),
            Some(why) => report.fails(Outcome::Revoked, "status", &on, format!("its issuer does not vouch for it: {why}")),
        }
        report.add("fields", &on, Finding::Holds(format!("{shown} fields open to their signed values, {hidden} stay hidden")));
        report.add("inclusion", &on, Finding::Holds(format!("in the feed, under a signed checkpoint of {size} entries")));
        if one.has_receipt {
            report.add("receipt", &on, Finding::Holds("the log's owner signed a receipt for its place (RFC 9942)".into()));
        }
        if one.view.schema().is_none() {
            report.add("fields", &on, Finding::Notes("its kind is unknown to this program: fields have numbers only".into()));
        }
        match first {
            Some(Witnessed { at, by }) => {
                let text = format!("seen by {} at the latest at {}", by.join(", "), time_text(*at));
                report.add("witness", &on, Finding::Holds(text));
            }
            None if self.trust.quorum.as_ref().is_some_and(Quorum::asks) => {
                report.fails(Outcome::Incomplete, "witness", &on, "the quorum you demand did not sign it");
            }
            None => report.add("witness", &on, Finding::Notes("date unproven: no witness signed that it was there".into())),
        }
        if let Some(by) = self.trust.by {
            match first {
                Some(seen) if seen.at <= by => {
                    report.add("witness", &on, Finding::Holds(format!("there by {}, as you demand", time_text(by))))
                }
                _ => report.fails(Outcome::Incomplete, "witness", &on, format!("nothing proves that it was there by {}", time_text(by))),
            }
        }
    }

    fn release(&mut self, one: Held, places: &Places) {
        let (person, release) = one.view.release().expect("sorted out by the caller");
        let (name, function, on) = (person.name.clone(), person.function.clone(), one.on.clone());
        let seq = one.view.claims().seq;
        if let Some(why) = one.view.revoked() {
            return self.report.fails(Outcome::Revoked, "status", on, format!("this release does not count: {why}"));
        }
        // A person releases what stands there already, in the same feed, and names both leaf and place.
        let there = places.at(&one.view.claims().origin, release.seq).iter().copied();
        let named = there.filter(|_| release.seq < seq).find(|at| self.report.records[*at].view.leaf() == release.leaf);
        match named.map(|at| &mut self.report.records[at]) {
            Some(record) => {
                let of = record.view.claims().seq;
                record.released_by.push((name.clone(), function.clone()));
                self.report.add("status", on, Finding::Holds(format!("{name} ({function}) released record {of}")));
            }
            None => self.report.fails(Outcome::Altered, "status", on, "a release of a record that is not here"),
        }
    }

    /// Checkpoints of different sizes of one feed must be one history.
    fn histories(&mut self, histories: Vec<History>, first_version: bool) {
        let mut sizes: BTreeMap<String, Sizes> = BTreeMap::new();
        for Cosigned { checkpoint, .. } in self.opened.values() {
            sizes.entry(checkpoint.origin.to_string()).or_default().entry(checkpoint.size).or_default().insert(checkpoint.root);
        }
        let mut given: BTreeMap<String, History> = BTreeMap::new();
        for history in histories {
            let needed = sizes.get(&history.origin).is_some_and(|sizes| sizes.len() > 1);
            let on = format!("feed {}", history.origin);
            if !needed || given.insert(history.origin.clone(), history).is_some() {
                self.report.fails(Outcome::Altered, "history", on, "a history that nothing here needs");
            }
        }
        for (origin, sizes) in sizes.into_iter().filter(|(_, sizes)| sizes.len() > 1) {
            let on = format!("feed {origin}");
            match given.remove(&origin) {
                Some(history) => match linked(&history, &sizes) {
                    Ok(()) => {
                        let text = format!("its {} checkpoints here are one history, each the beginning of the next", sizes.len());
                        self.report.add("history", on, Finding::Holds(text));
                    }
                    Err(why) => self.report.fails(Outcome::Altered, "history", on, why),
                },
                None if first_version => {
                    let text = "checkpoints of several sizes, and a bundle of version 1 does not say that they are one history";
                    self.report.add("history", on, Finding::Notes(text.into()));
                }
                None => self.report.fails(Outcome::Incomplete, "history", on, "nothing shows that its checkpoints are one history"),
            }
        }
    }

    fn deliveries(&mut self, deliveries: &[Vec<u8>]) {
        let mut roots = Roots::new();
        for Cosigned { checkpoint: Checkpoint { origin, size, root }, .. } in self.opened.values() {
            roots.entry((origin.to_string(), *size)).or_insert(*root);
        }
        let mut places = self.places();
        for core in deliveries {
            let altered = |report: &mut Report, why: String| report.fails(Outcome::Altered, "delivery", "a delivery receipt", why);
            let org = Receipt::claimed_by(core).and_then(|party| self.report.org(&party));
            let Some(org) = org else {
                altered(&mut self.report, "the bundle has no org feed of its signer".into());
                continue;
            };
            let receipt = match Receipt::open(core, org) {
                Ok(receipt) => receipt,
                Err(why) => {
                    altered(&mut self.report, why.to_string());
                    continue;
                }
            };
            let (name, delivery) = (org.name().to_owned(), receipt.delivery);
            self.signed.insert(receipt.receiver);
            let on = format!("receipt {} of {}", receipt.number, receipt.receiver.short());
            if roots.get(&(delivery.origin.clone(), delivery.size)).is_some_and(|root| *root != delivery.root) {
                // The receiver's word alone: two truths are proven by two signatures of the one who is accused.
                let why = "its signer says it was shown another root for one of the sizes here; ask it for a bundle and compare";
                self.report.fails(Outcome::Incomplete, "delivery", on, why);
                continue;
            }
            let covered = places.between(&delivery.origin, delivery.from, delivery.to);
            let any = !covered.is_empty();
            for (seq, at) in covered {
                let record = &mut self.report.records[at];
                record.deliveries.push((receipt.receiver, delivery.clone()));
                if record.deliveries.len() == DELIVERIES_PER_RECORD_MAX {
                    places.take(&delivery.origin, seq, at);
                }
            }
            if any {
                let text = format!(
                    "{name} signed that it received entries {} to {} of {} (its clock: {})",
                    delivery.from,
                    delivery.to - 1,
                    delivery.origin,
                    time_text(delivery.at)
                );
                self.report.add("delivery", on, Finding::Holds(text));
            } else {
                self.report.fails(Outcome::Altered, "delivery", on, "it is about no record that is here");
            }
        }
    }

    fn vouchers(&mut self, vouchers: &[Vec<u8>]) {
        for core in vouchers {
            let org = Voucher::claimed_by(core).and_then(|party| self.report.org(&party));
            let Some(org) = org else {
                self.report.fails(Outcome::Altered, "voucher", "a voucher", "the bundle has no org feed of its signer");
                continue;
            };
            let (by, calls_itself) = (org.party(), org.name().to_owned());
            let voucher = match Voucher::open(core, org) {
                Ok(voucher) => voucher,
                Err(why) => {
                    self.report.fails(Outcome::Altered, "voucher", "a voucher", why.to_string());
                    continue;
                }
            };
            let on = voucher.party.to_string();
            let trusted = self.trust.of(&by).cloned();
            let Some(issuer) = self.report.issuer_mut(&voucher.party).filter(|issuer| issuer.has_records) else {
                self.report.fails(Outcome::Altered, "voucher", on, "it vouches for nobody with a record here");
                continue;
            };
            self.signed.insert(by);
            let day = &time_text(voucher.day)[..10];
            match trusted {
                Some(root) => {
                    let checked = format!("vouched for by {} on {day}: {}", root.name, voucher.how);
                    issuer.trusted.get_or_insert(TrustedRoot { name: voucher.name.clone(), checked });
                    let text = format!("{} checked on {day} that this is {}: {}", root.name, voucher.name, voucher.how);
                    self.report.add("voucher", on, Finding::Holds(text));
                }
                None => {
                    let text = format!("somebody you did not name ({calls_itself}, {}) says that this is {}", by.six_words(), voucher.name);
                    self.report.add("voucher", on, Finding::Notes(text));
                }
            }
        }
    }

    /// A key that made no line here says nothing; it is listed, so that no byte of it goes unnoticed.
    fn unused_witnesses(&mut self) {
        let unused = |key: &&WitnessKey| !self.witnesses.used.contains(&key.to_string());
        let unused: Vec<String> = self.witnesses.keys.iter().filter(unused).map(ToString::to_string).collect();
        for key in unused {
            self.report.add("witness", "a witness key", Finding::Notes(format!("{key} made no line here")));
        }
    }

    /// Two statements at one place, two roots for one size, or two live statements about one thing are two truths.
    fn one_truth(&mut self) {
        let mut places: BTreeMap<(String, u64), Hash> = BTreeMap::new();
        let mut roots: BTreeMap<(String, u64), Hash> = BTreeMap::new();
        let mut found = Vec::new();
        for Cosigned { checkpoint: Checkpoint { origin, size, root }, .. } in self.opened.values() {
            if roots.insert((origin.to_string(), *size), *root).is_some_and(|before| before != *root) {
                let why = format!("two signed checkpoints of {size} entries have different roots");
                found.push((Outcome::Forked, format!("feed {origin}"), why));
            }
        }
        for record in &self.report.records {
            let claims = record.view.claims();
            if places.insert((claims.origin.clone(), claims.seq), record.view.leaf()).is_some_and(|leaf| leaf != record.view.leaf()) {
                found.push((Outcome::Forked, record.name.clone(), "two statements stand at one place of the feed".to_owned()));
            }
        }
        found.extend(two_live(&self.report.records));
        for (outcome, on, why) in found {
            self.report.fails(outcome, "one-truth", on, why);
        }
    }

    /// Withdrawn or replaced, and how new that news is.
    fn statuses(&mut self) {
        let mut findings = Vec::new();
        let places: BTreeMap<Hash, u64> = self.report.records.iter().map(|record| (record.view.leaf(), record.view.claims().seq)).collect();
        for record in &self.report.records {
            let (claims, on) = (record.view.claims(), record.name.clone());
            if let Some(by) = &record.superseded_by {
                let new = places[by];
                findings.push((on.clone(), None, Finding::Notes(format!("replaced by record {new}; it stays provable"))));
            } else if let Some(old) = claims.supersedes {
                let which = places.get(&old).map_or("an earlier record that is not here".into(), |seq| format!("record {seq}"));
                findings.push((on.clone(), None, Finding::Notes(format!("it replaces {which}"))));
            }
            let Some(issuer) = self.report.issuer(&record.party) else {
                continue;
            };
            let size = issuer.org.size();
            let known = match &issuer.witnessed {
                Some(Witnessed { at, by }) => {
                    format!("up to org feed size {size}, witnessed {} by {}; later unknown", time_text(*at), by.join(", "))
                }
                None => format!("up to org feed size {size}, not witnessed; later unknown"),
            };
            match (&record.withdrawn, record.view.revoked()) {
                (Some(reason), _) => {
                    findings.push((on, Some(Outcome::Withdrawn), Finding::Notes(format!("withdrawn by its issuer: {reason}"))));
                }
                (None, None) => findings.push((on, None, Finding::Holds(format!("not revoked or withdrawn {known}")))),
                (None, Some(_)) => {}
            }
        }
        for (on, outcome, finding) in findings {
            self.report.outcome = self.report.outcome.min(outcome.unwrap_or(Outcome::Verified));
            self.report.add("status", on, finding);
        }
        let Some(after) = self.trust.fresh_after else {
            return;
        };
        let stale = |issuer: &&Issuer| issuer.has_records && issuer.witnessed.as_ref().is_none_or(|seen| seen.at < after);
        let stale: Vec<String> = self.report.issuers.iter().filter(stale).map(|issuer| issuer.party.short()).collect();
        for party in stale {
            let why =
                format!("no witness signed its org feed after {}, as you demand: a later revocation would not show", time_text(after));
            self.report.fails(Outcome::Incomplete, "status", format!("org feed of {party}"), why);
        }
    }

    fn signers(&mut self) {
        let with_evidence: BTreeSet<PartyId> = self.used();
        let mut findings = Vec::new();
        for issuer in &self.report.issuers {
            let on = issuer.party.to_string();
            findings.push(match &issuer.trusted {
                _ if !with_evidence.contains(&issuer.party) => {
                    Err((on, "an org feed without a record or receipt in the bundle".to_owned()))
                }
                _ if !issuer.has_records => continue,
                Some(root) => Ok((on, Finding::Holds(format!("{}, {}", root.name, root.checked)), true)),
                None => {
                    let words = issuer.party.six_words();
                    let text = format!(
                        "calls itself {}; nobody you named vouches for that. Compare the six words of its root by telephone: {words}",
                        issuer.calls_itself
                    );
                    Ok((on, Finding::Notes(text), false))
                }
            });
        }
        for finding in findings {
            match finding {
                Ok((on, finding, established)) => {
                    if !established {
                        self.report.outcome = self.report.outcome.min(Outcome::SignerNotEstablished);
                    }
                    self.report.add("signer", on, finding);
                }
                Err((on, why)) => self.report.fails(Outcome::Altered, "org", on, why),
            }
        }
    }

    /// Everybody who signed something that is here.
    fn used(&self) -> BTreeSet<PartyId> {
        let records = self.report.records.iter().map(|record| record.party);
        records.chain(self.signed.iter().copied()).collect()
    }
}

impl VerifiedRecord {
    /// Whether it is the issuer's word today, as far as this file shows, and shows what it is about.
    pub fn is_live(&self) -> bool {
        let stands = self.withdrawn.is_none() && self.superseded_by.is_none() && self.view.revoked().is_none();
        stands && self.view.shows_identity()
    }
}

/// Records by their place.
type InOrder<'a> = BTreeMap<(&'a str, u64), &'a VerifiedRecord>;

/// Live statements about one inspection of one lot beside each other: two truths. Where what the later one replaces is
/// not here, it may be that a third, which is not here either, replaced the earlier: then it is not shown which it is.
fn two_live(records: &[VerifiedRecord]) -> Vec<(Outcome, String, String)> {
    let by_leaf: BTreeMap<(PartyId, Hash), &VerifiedRecord> =
        records.iter().map(|record| ((record.party, record.view.leaf()), record)).collect();
    let mut ends = BTreeMap::new();
    let mut live: BTreeMap<(PartyId, String), InOrder<'_>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.is_live()) {
        let claims = record.view.claims();
        live.entry((record.party, record.view.facts().identity())).or_default().insert((&claims.origin, claims.seq), record);
    }
    let mut found = Vec::new();
    for group in live.values() {
        let group: Vec<&VerifiedRecord> = group.values().copied().collect();
        for pair in group.windows(2) {
            let (one, other) = (pair[0], pair[1]);
            let same_feed = one.view.claims().origin == other.view.claims().origin;
            let settled = ends_here(other, &by_leaf, &mut ends) && (same_feed || ends_here(one, &by_leaf, &mut ends));
            found.push(match settled {
                true => {
                    let why = format!("{} is a live statement about the same inspection of the same lot", one.name);
                    (Outcome::Forked, other.name.clone(), why)
                }
                false => {
                    let why = format!("{} is about the same inspection of the same lot, and what this one replaces is not here", one.name);
                    (Outcome::Incomplete, other.name.clone(), why)
                }
            });
        }
    }
    found
}

/// Whether everything that a record replaces, step by step, is here.
fn ends_here(record: &VerifiedRecord, by_leaf: &BTreeMap<(PartyId, Hash), &VerifiedRecord>, known: &mut BTreeMap<Hash, bool>) -> bool {
    let (mut steps, mut next) = (Vec::new(), Some(record));
    let ends = loop {
        // A leaf hash covers what it replaces, so there is no way round in a circle.
        let Some(one) = next else { break false };
        if let Some(ends) = known.get(&one.view.leaf()) {
            break *ends;
        }
        steps.push(one.view.leaf());
        match one.view.claims().supersedes {
            Some(leaf) => next = by_leaf.get(&(one.party, leaf)).copied(),
            None => break true,
        }
    };
    known.extend(steps.into_iter().map(|leaf| (leaf, ends)));
    ends
}

/// Checks everything about one package.
fn hold(report: &Report, package: Package, shelf: &mut Shelf) -> Result<Held, Failed> {
    let unverified = Unverified::read(&package.view.core).map_err(|why| ("statement", None, why.to_string()))?;
    let claims = unverified.claims();
    let (origin, short) = shelf.origin(&claims.origin).map_err(|why| ("statement", None, why.to_string()))?;
    let opened = &mut shelf.opened;
    let (party, seq, on) = (origin.party(), claims.seq, format!("record {} of {short}", claims.seq));
    let failed = |name: &'static str, why: String| (name, Some(on.clone()), why);
    let org = report.org(&party).ok_or_else(|| failed("org", "the bundle has no org feed of its issuer".into()))?;
    if !org.has_feed(&claims.origin) || seq == 0 {
        return Err(failed("org", "its issuer never opened this feed for records".into()));
    }
    let expected = Expected { origin: origin.as_str(), seq };
    let view = package.view.verify_read(unverified, org, expected).map_err(|why| failed("statement", why.to_string()))?;
    let mut checkpoints = Vec::new();
    for proof in std::iter::once(&package.proof).chain(&package.witnessed) {
        checkpoints.push(included(proof, &view, &origin, org, opened).map_err(|why| failed("inclusion", why))?);
    }
    let (size, root) = (opened[&checkpoints[0]].checkpoint.size, opened[&checkpoints[0]].checkpoint.root);
    if package.witnessed.is_some() && opened[&checkpoints[1]].checkpoint.size > size {
        return Err(failed("inclusion", "the witnessed checkpoint is newer than the record's own".into()));
    }
    if let Some(bytes) = &package.receipt {
        let of = Included { origin: &origin, seq, leaf: view.leaf() };
        let (receipt_size, receipt_root) = receipt::verify(bytes, of, org).map_err(|why| failed("receipt", why.to_string()))?;
        if receipt_size != size || receipt_root != root {
            return Err(failed("receipt", "it is for another checkpoint than the record's".into()));
        }
    }
    let has_receipt = package.receipt.is_some();
    Ok(Held { party, view, on, checkpoints, has_receipt, package })
}

/// Checks one inclusion proof down to the log's signature; returns the text of its checkpoint.
fn included(proof: &str, view: &VerifiedView, origin: &Origin, org: &Org, opened: &mut Opened) -> Result<String, String> {
    let proof = InclusionProof::read(proof).map_err(|why| why.to_string())?;
    if !opened.contains_key(&proof.checkpoint) {
        opened.insert(proof.checkpoint.clone(), org.open_cosigned(&proof.checkpoint).map_err(|why| why.to_string())?);
    }
    let checkpoint = &opened[&proof.checkpoint].checkpoint;
    if checkpoint.origin != *origin || proof.index != view.claims().seq {
        return Err("the proof is for another place".into());
    }
    tree::verify_inclusion(&view.leaf(), proof.index, checkpoint.size, &proof.path, &checkpoint.root).map_err(|why| why.to_string())?;
    Ok(proof.checkpoint)
}

/// Whether a history links exactly the sizes that are here. Of two roots for one size it can link one; that there are
/// two is another finding.
fn linked(history: &History, sizes: &Sizes) -> Result<(), String> {
    let (newest, newest_roots) = sizes.last_key_value().expect("called for several sizes");
    let older: Vec<u64> = history.older.iter().map(|(size, _)| *size).collect();
    if history.size != *newest || older != sizes.keys().copied().filter(|size| size != newest).collect::<Vec<_>>() {
        return Err("its sizes are not those of the checkpoints here".into());
    }
    for (size, path) in &history.older {
        let mut pairs = sizes[size].iter().flat_map(|old| newest_roots.iter().map(move |new| (old, new)));
        if !pairs.any(|(old, new)| tree::verify_consistency(*size, old, *newest, new, path).is_ok()) {
            return Err(format!("the checkpoint of {size} entries is not shown to be the beginning of that of {newest}"));
        }
    }
    Ok(())
}

/// Seconds since 1970 as `2026-11-23 05:39:25 UTC` (proleptic Gregorian calendar; Howard Hinnant's days-to-civil).
pub(crate) fn time_text(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days.saturating_add(719_468);
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_read_as_days() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_412_365, "2026-11-23 05:39:25 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(super::time_text(seconds), text);
        }
        super::time_text(u64::MAX);
    }
}
