//! The auditor's question: is this bundle intact, and whose is it? A pure function from bytes to a reasoned report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::bundle::{self, Bundle, OrgPart};
use crate::codec::CodecError;
use crate::id::{Hash, Origin, PartyId};
use crate::note::{Checkpoint, InclusionProof};
use crate::org::{Org, Role};
use crate::statement::Unverified;
use crate::tree;
use crate::view::{Expected, Package, VerifiedView};

/// Roots somebody checked, from a trust file, the command line or a partner book.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    roots: BTreeMap<PartyId, TrustedRoot>,
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
    /// Trust in nobody.
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
}

/// One thing that was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Short name, stable: `format`, `org`, `statement`, `inclusion`, `fields`, `one-truth`, `status`, `signer`.
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
    /// Not a bundle this program can read.
    Unreadable,
    /// Something was altered after it was signed.
    Altered,
    /// Two truths for one place or one lot.
    Forked,
    /// Intact, but a record in it was withdrawn.
    Withdrawn,
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
            Outcome::Withdrawn => 8,
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
            Outcome::Withdrawn => "withdrawn",
            Outcome::Forked => "forked",
            Outcome::Unreadable => "unreadable",
        }
    }
}

/// A record of the bundle that holds.
#[derive(Clone, Debug)]
pub struct VerifiedRecord {
    /// Its issuer.
    pub party: PartyId,
    /// What can be seen of it.
    pub view: VerifiedView,
    /// Size of the checkpoint it is proven in.
    pub size: u64,
    /// Why it was withdrawn, if it was.
    pub withdrawn: Option<String>,
    /// Its package, for exploding into parts.
    pub package: Package,
}

/// An issuer of the bundle.
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
    /// Its org feed's checkpoint.
    pub checkpoint: String,
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
}

impl Report {
    /// Whether nothing was altered.
    pub fn intact(&self) -> bool {
        !matches!(self.outcome, Outcome::Altered | Outcome::Unreadable | Outcome::Forked)
    }

    /// Whether somebody trusted vouches for every issuer.
    pub fn signer_established(&self) -> bool {
        !self.issuers.is_empty() && self.issuers.iter().all(|issuer| issuer.trusted.is_some())
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
        let whose = self.issuers.iter().map(who).collect::<Vec<_>>().join("; ");
        let why = self.failure().map_or(String::new(), |check| format!("{}: {}", check.on, check.finding));
        match self.outcome {
            Outcome::Verified => format!("Intact, {records}, {whose}."),
            Outcome::SignerNotEstablished => format!("Intact, {records}; {whose}."),
            Outcome::Withdrawn => format!("Intact, {records}, but withdrawn by the issuer; {whose}."),
            Outcome::Altered => format!("ALTERED. {why}."),
            Outcome::Forked => format!("TWO TRUTHS. {why}."),
            Outcome::Unreadable => format!("Unreadable. {why}."),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Holds(text) | Finding::Fails(text) | Finding::Notes(text) => f.write_str(text),
        }
    }
}

/// Verifies a bundle from its bytes alone.
///
/// ```
/// use lotline_schema::verify::{Outcome, Trust, verify};
/// let report = verify(b"not a bundle", &Trust::none());
/// assert_eq!(report.outcome, Outcome::Unreadable);
/// assert_eq!(report.sentence(), "Unreadable. the file: this is not a Lotline bundle.");
/// ```
pub fn verify(bytes: &[u8], trust: &Trust) -> Report {
    let mut run =
        Run { trust, report: Report { outcome: Outcome::Verified, checks: Vec::new(), records: Vec::new(), issuers: Vec::new() } };
    match Bundle::read(bytes) {
        Ok(bundle) => run.bundle(bundle),
        Err(why) => {
            // A file that begins like a bundle and does not read was damaged or altered, unless this program is too old for it.
            let unreadable = why == bundle::NOT_A_BUNDLE || matches!(why, CodecError::Newer(_));
            let outcome = if unreadable { Outcome::Unreadable } else { Outcome::Altered };
            run.fails(outcome, "format", "the file".into(), why.to_string());
        }
    }
    run.report
}

struct Run<'a> {
    trust: &'a Trust,
    report: Report,
}

impl Run<'_> {
    fn add(&mut self, name: &'static str, on: String, finding: Finding) {
        self.report.checks.push(Check { name, on, finding });
    }

    fn fails(&mut self, outcome: Outcome, name: &'static str, on: String, why: String) {
        self.report.outcome = self.report.outcome.min(outcome);
        self.add(name, on, Finding::Fails(why));
    }

    fn bundle(&mut self, bundle: Bundle) {
        self.add("format", "the file".into(), Finding::Holds("a Lotline bundle, version 1, read to the last byte".into()));
        if bundle.packages.is_empty() {
            self.fails(Outcome::Altered, "format", "the file".into(), "it holds no record".into());
        }
        for part in bundle.orgs {
            self.org(part);
        }
        // A checkpoint opened once need not be opened again: many records share it.
        let mut checkpoints = BTreeMap::new();
        for (at, package) in bundle.packages.into_iter().enumerate() {
            self.package(at, package, &mut checkpoints);
        }
        self.one_truth();
        self.signers();
    }

    fn org(&mut self, part: OrgPart) {
        let found = founder(&part).map_err(|why| (Outcome::Altered, why)).and_then(|party| {
            Org::from_parts(party, part.entries.iter().cloned(), &part.checkpoint).map(|org| (party, org)).map_err(|why| {
                let outcome = if why.is_newer() { Outcome::Unreadable } else { Outcome::Altered };
                (outcome, why.to_string())
            })
        });
        match found {
            Ok((party, _)) if self.report.issuers.iter().any(|issuer| issuer.party == party) => {
                self.fails(Outcome::Altered, "org", format!("org feed of {}", party.short()), "it is there twice".into());
            }
            Ok((party, org)) => {
                let entries = org.size();
                self.add(
                    "org",
                    format!("org feed of {}", party.short()),
                    Finding::Holds(format!("{entries} entries, signed from its root on")),
                );
                let (calls_itself, trusted) = (org.name().to_owned(), self.trust.of(&party).cloned());
                self.report.issuers.push(Issuer { party, calls_itself, trusted, org, checkpoint: part.checkpoint });
            }
            Err((outcome, why)) => self.fails(outcome, "org", "an org feed".into(), why),
        }
    }

    fn package(&mut self, at: usize, package: Package, checkpoints: &mut BTreeMap<String, Checkpoint>) {
        match self.record(&package, checkpoints) {
            Ok((record, on)) => {
                let (shown, hidden) = (record.view.slots().len() - record.view.hidden(), record.view.hidden());
                self.add("statement", on.clone(), Finding::Holds("signed by the issuer's record key".into()));
                self.add("fields", on.clone(), Finding::Holds(format!("{shown} fields open to their signed values, {hidden} stay hidden")));
                self.add(
                    "inclusion",
                    on.clone(),
                    Finding::Holds(format!("in the feed, under a signed checkpoint of {} entries", record.size)),
                );
                if record.view.schema().is_none() {
                    self.add("fields", on.clone(), Finding::Notes("its kind is unknown to this program: fields have numbers only".into()));
                }
                match &record.withdrawn {
                    Some(reason) => {
                        self.report.outcome = self.report.outcome.min(Outcome::Withdrawn);
                        self.add("status", on, Finding::Notes(format!("withdrawn by its issuer: {reason}")));
                    }
                    None => {
                        let size = self.issuer(&record.party).map_or(0, |issuer| issuer.org.size());
                        self.add(
                            "status",
                            on,
                            Finding::Holds(format!("not withdrawn up to org feed size {size}; later unknown; date claimed, not witnessed")),
                        );
                    }
                }
                self.report.records.push(record);
            }
            Err((name, on, why)) => self.fails(Outcome::Altered, name, on.unwrap_or_else(|| format!("package {}", at + 1)), why),
        }
    }

    fn issuer(&self, party: &PartyId) -> Option<&Issuer> {
        self.report.issuers.iter().find(|issuer| issuer.party == *party)
    }

    #[allow(clippy::type_complexity)] // a failed check: its name, what it was on, why
    fn record(
        &self,
        package: &Package,
        checkpoints: &mut BTreeMap<String, Checkpoint>,
    ) -> Result<(VerifiedRecord, String), (&'static str, Option<String>, String)> {
        let unverified = Unverified::read(&package.view.core).map_err(|why| ("statement", None, why.to_string()))?;
        let claims = unverified.claims();
        let origin: Origin = claims.origin.parse().map_err(|why: crate::id::IdError| ("statement", None, why.to_string()))?;
        let (party, seq, on) = (origin.party(), claims.seq, format!("record {} of {}", claims.seq, origin.short()));
        let failed = |name: &'static str, why: String| (name, Some(on.clone()), why);
        let issuer = self.issuer(&party).ok_or_else(|| failed("org", "the bundle has no org feed of its issuer".into()))?;
        if !issuer.org.has_feed(&claims.origin) || seq == 0 {
            return Err(failed("org", "its issuer never opened this feed for records".into()));
        }
        let expected = Expected { origin: &claims.origin, seq };
        let view = package.view.verify(&issuer.org, expected).map_err(|why| failed("statement", why.to_string()))?;
        let proof = InclusionProof::read(&package.proof).map_err(|why| failed("inclusion", why.to_string()))?;
        let checkpoint = match checkpoints.get(&proof.checkpoint) {
            Some(opened) => opened.clone(),
            None => {
                let key = issuer.org.key(Role::Log).expect("an org that holds has a keyring");
                let opened = Checkpoint::open(&proof.checkpoint, key).map_err(|why| failed("inclusion", why.to_string()))?;
                checkpoints.insert(proof.checkpoint.clone(), opened.clone());
                opened
            }
        };
        if checkpoint.origin != origin || proof.index != seq {
            return Err(failed("inclusion", "the proof is for another place".into()));
        }
        tree::verify_inclusion(&view.leaf(), seq, checkpoint.size, &proof.path, &checkpoint.root)
            .map_err(|why| failed("inclusion", why.to_string()))?;
        let withdrawn = issuer.org.withdrawn(&view.leaf()).map(str::to_owned);
        Ok((VerifiedRecord { party, view, size: checkpoint.size, withdrawn, package: package.clone() }, on))
    }

    /// Two statements at one place, two roots for one size, or two live statements about one thing are two truths.
    fn one_truth(&mut self) {
        let mut places: BTreeMap<(String, u64), Hash> = BTreeMap::new();
        let mut live: BTreeMap<(PartyId, String), String> = BTreeMap::new();
        let mut roots: BTreeMap<(String, u64), String> = BTreeMap::new();
        let mut found = Vec::new();
        // Only its own issuer can replace a statement.
        let superseded: BTreeSet<(PartyId, Hash)> =
            self.report.records.iter().filter_map(|record| Some((record.party, record.view.claims().supersedes?))).collect();
        for record in &self.report.records {
            let claims = record.view.claims();
            let on = format!("record {} of {}", claims.seq, claims.origin);
            if places.insert((claims.origin.clone(), claims.seq), record.view.leaf()).is_some_and(|leaf| leaf != record.view.leaf()) {
                found.push((on.clone(), "two statements stand at one place of the feed".to_owned()));
            }
            let root = record.package.proof.rsplit_once("\n\n").map_or("", |(head, _)| head.rsplit('\n').next().unwrap_or("")).to_owned();
            if roots.insert((claims.origin.clone(), record.size), root.clone()).is_some_and(|before| before != root) {
                found.push((on.clone(), "two checkpoints of one size have different roots".to_owned()));
            }
            let live_here = record.view.shows_identity() && record.withdrawn.is_none();
            if live_here
                && !superseded.contains(&(record.party, record.view.leaf()))
                && let Some(other) = live.insert((record.party, record.view.facts().identity()), on.clone()).filter(|other| *other != on)
            {
                found.push((on, format!("{other} is a live statement about the same inspection of the same lot")));
            }
        }
        for (on, why) in found {
            self.fails(Outcome::Forked, "one-truth", on, why);
        }
    }

    fn signers(&mut self) {
        let used: BTreeSet<PartyId> = self.report.records.iter().map(|record| record.party).collect();
        let mut findings = Vec::new();
        for issuer in &self.report.issuers {
            let on = issuer.party.to_string();
            findings.push(match &issuer.trusted {
                _ if !used.contains(&issuer.party) => Err((on, "an org feed without a record in the bundle".to_owned())),
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
                    self.add("signer", on, finding);
                }
                Err((on, why)) => self.fails(Outcome::Altered, "org", on, why),
            }
        }
    }
}

/// The party an org feed claims to be of: its first entry's issuer.
fn founder(part: &OrgPart) -> Result<PartyId, String> {
    let first = part.entries.first().ok_or("it is empty")?;
    let unverified = Unverified::read(first).map_err(|why| why.to_string())?;
    unverified.claims().issuer.parse().map_err(|why: crate::id::IdError| why.to_string())
}
