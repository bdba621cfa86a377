//! What others signed about records, gathered for a file that leaves: proofs under the newest and the first witnessed
//! checkpoint, cosignatures, histories, receipts, and the org feeds behind them.
//!
//! Who a file is for decides what goes along: a partner gets its own cosignatures and receipts and nobody else's, since
//! they would show who the other customers are.

use std::collections::{BTreeMap, BTreeSet};

use lotline_schema::bundle::{Bundle, History, OrgPart};
use lotline_schema::delivery::Receipt;
use lotline_schema::note::{Checkpoint, Cosignature, InclusionProof, with_cosignatures};
use lotline_schema::view::{Package, SealedView};
use lotline_schema::{Hash, Origin, PartyId};

use crate::feeds::witness::{self, Kept};
use crate::feeds::{Feed, FeedError, Snapshot};
use crate::store::Reader;

/// Whose evidence may go along.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whom {
    /// Our own about a followed feed: it is ours to show.
    Ours,
    /// One partner's about our feed.
    Partner(String),
    /// Everybody's: a full disclosure.
    Everybody,
}

/// Evidence that cannot be gathered.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The stored tree does not fit its signed head.
    #[error("the stored entries of feed `{0}` do not give its signed root")]
    Root(String),
    /// A followed feed is not level with its checkpoint yet.
    #[error("feed `{0}` is still being received; try again in a moment")]
    Behind(String),
    /// An org feed that is needed is not here.
    #[error("the org feed of {0} is not here")]
    NoOrg(String),
    /// The store.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The store.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

/// Gathers what belongs into one file.
pub struct Gathering<'a> {
    snapshot: &'a Snapshot,
    reader: &'a Reader,
    whom: Whom,
    bundle: Bundle,
    /// Sizes of the checkpoints used, by feed.
    sizes: BTreeMap<String, BTreeSet<u64>>,
    feeds: BTreeMap<String, Feed>,
    witnesses: BTreeSet<String>,
    deliveries: BTreeSet<Vec<u8>>,
    parties: BTreeSet<PartyId>,
    /// Whether receipts of our own go along.
    ours_too: bool,
    /// The newest checkpoint of each feed, with the lines that go along.
    heads: BTreeMap<String, String>,
    /// What the log owner's receipts are asked for: package, checkpoint, place, path.
    asked: Vec<(usize, Checkpoint, u64, Vec<Hash>)>,
}

impl<'a> Gathering<'a> {
    /// Nothing yet.
    pub fn new(snapshot: &'a Snapshot, reader: &'a Reader, whom: Whom) -> Gathering<'a> {
        Gathering {
            snapshot,
            reader,
            whom,
            bundle: Bundle::default(),
            sizes: BTreeMap::new(),
            feeds: BTreeMap::new(),
            witnesses: BTreeSet::new(),
            deliveries: BTreeSet::new(),
            parties: BTreeSet::new(),
            ours_too: true,
            heads: BTreeMap::new(),
            asked: Vec::new(),
        }
    }

    fn counts(&self, by: &str) -> bool {
        match &self.whom {
            Whom::Ours => by.is_empty(),
            Whom::Partner(name) => by == name,
            Whom::Everybody => true,
        }
    }

    /// Adds a record, or a release, as far as it may be seen.
    pub fn add(&mut self, feed: &Feed, seq: u64, view: SealedView) -> Result<(), EvidenceError> {
        let origin = feed.origin.to_string();
        let head = self.head(feed)?;
        let size = feed.size();
        let path = self.reader.tree(feed.id, size).inclusion(seq, size)?;
        let mut package = Package::new(view, InclusionProof { index: seq, path: path.clone(), checkpoint: head.clone() }.to_text());
        let first = witness::first_witnessed(self.reader, &origin, seq, |by| self.counts(by))?;
        if let Some(note) = first.first().map(|kept| kept.note.clone()) {
            let checkpoint = Checkpoint::read(&note).map_err(FeedError::from)?;
            if checkpoint.size < size {
                let path = self.reader.tree(feed.id, size).inclusion(seq, checkpoint.size)?;
                let cosigned = with_cosignatures(&note, &self.lines(&first));
                package.witnessed = Some(InclusionProof { index: seq, path, checkpoint: cosigned }.to_text());
                self.sizes.entry(origin.clone()).or_default().insert(checkpoint.size);
            }
        }
        if feed.is_own() {
            let checkpoint = Checkpoint::read(&feed.head.checkpoint).map_err(FeedError::from)?;
            self.asked.push((self.bundle.packages.len(), checkpoint, seq, path));
        }
        for receipt in witness::receipts_about(self.reader, &origin, seq, feed.ours || feed.written)? {
            self.delivery(receipt);
        }
        self.sizes.entry(origin.clone()).or_default().insert(size);
        self.feeds.entry(origin).or_insert_with(|| feed.clone());
        self.parties.insert(feed.origin.party());
        self.bundle.packages.push(package);
        Ok(())
    }

    /// The newest checkpoint of a feed with the cosignatures that go along, after looking whether the store still fits it.
    fn head(&mut self, feed: &Feed) -> Result<String, EvidenceError> {
        let origin = feed.origin.to_string();
        if let Some(head) = self.heads.get(&origin) {
            return Ok(head.clone());
        }
        let (size, name) = (feed.size(), || feed.origin.name().to_owned());
        let signed = Checkpoint::read(&feed.head.checkpoint).map_err(FeedError::from)?;
        if signed.size != size {
            return Err(EvidenceError::Behind(name()));
        }
        if self.reader.tree(feed.id, size).root(size)? != signed.root {
            return Err(EvidenceError::Root(name()));
        }
        // The entry before the end is first held by the checkpoint of this very size.
        let first = witness::first_witnessed(self.reader, &origin, size - 1, |by| self.counts(by))?;
        let of_this_size = |kept: &Kept| Checkpoint::read(&kept.note).is_ok_and(|checkpoint| checkpoint.size == size);
        let here: Vec<Kept> = first.into_iter().filter(of_this_size).collect();
        // Cosigned as the log key of that time signed it; another may have signed the same size since.
        let note = here.first().map_or_else(|| feed.head.checkpoint.clone(), |kept| kept.note.clone());
        let head = with_cosignatures(&note, &self.lines(&here));
        self.heads.insert(origin, head.clone());
        Ok(head)
    }

    fn lines(&mut self, kept: &[Kept]) -> Vec<Cosignature> {
        let mut lines = Vec::new();
        for one in kept {
            if let Ok(line) = Cosignature::read(&one.line) {
                self.witnesses.insert(one.key.clone());
                lines.push(line);
            }
        }
        lines
    }

    fn delivery(&mut self, receipt: Vec<u8>) {
        let Some(party) = Receipt::claimed_by(&receipt) else {
            return;
        };
        let may = match &self.whom {
            Whom::Ours | Whom::Everybody => true,
            Whom::Partner(name) => self.snapshot.book.get(name).is_some_and(|partner| partner.party == party),
        };
        let wanted = self.ours_too || party != self.snapshot.party;
        // A receipt that its signer has taken back since, with the key, would spoil the whole file.
        if may && wanted && self.snapshot.orgs.get(&party).is_some_and(|org| Receipt::open(&receipt, org).is_ok()) {
            self.parties.insert(party);
            self.deliveries.insert(receipt);
        }
    }

    /// Leaves out what we signed ourselves, and with it our own org feed.
    pub fn without_ours(&mut self) {
        self.ours_too = false;
    }

    /// Adds what we vouch for about issuers of the records, signed under our own keys.
    pub fn vouch(&mut self, vouchers: Vec<Vec<u8>>) {
        if !vouchers.is_empty() {
            self.parties.insert(self.snapshot.party);
            self.bundle.vouchers = vouchers;
        }
    }

    /// What the log's owner is to sign receipts for; see [`crate::feeds::Feeds::inclusion_receipts`].
    pub fn asked(&mut self) -> Vec<(usize, Checkpoint, u64, Vec<Hash>)> {
        std::mem::take(&mut self.asked)
    }

    /// The whole, with the receipts that the log's owner signed.
    pub fn finish(mut self, receipts: Vec<(usize, Vec<u8>)>) -> Result<Bundle, EvidenceError> {
        for (at, receipt) in receipts {
            self.bundle.packages[at].receipt = Some(receipt);
        }
        for (origin, sizes) in std::mem::take(&mut self.sizes).into_iter().filter(|(_, sizes)| sizes.len() > 1) {
            let feed = &self.feeds[&origin];
            let tree = self.reader.tree(feed.id, feed.size());
            let newest = feed.size();
            let older = sizes.into_iter().filter(|size| *size != newest).map(|size| Ok((size, tree.consistency(size, newest)?)));
            let older = older.collect::<Result<Vec<_>, crate::store::StoreError>>()?;
            self.bundle.histories.push(History { origin, size: newest, older });
        }
        for party in std::mem::take(&mut self.parties) {
            let part = self.org_part(&party)?;
            self.bundle.orgs.push(part);
        }
        self.bundle.deliveries = self.deliveries.into_iter().collect();
        self.bundle.witnesses = self.witnesses.into_iter().collect();
        Ok(self.bundle)
    }

    /// An org feed with the newest of what witnesses signed of it.
    fn org_part(&mut self, party: &PartyId) -> Result<OrgPart, EvidenceError> {
        let origin = Origin::org(*party).to_string();
        let here = self.snapshot.orgs.get(party).zip(self.snapshot.feeds.get(&origin));
        let (org, feed) = here.ok_or_else(|| EvidenceError::NoOrg(party.short()))?;
        if org.check(&feed.head.checkpoint).is_err() {
            return Err(EvidenceError::Behind(origin));
        }
        let newest = witness::newest(self.reader, &origin)?;
        let here: Vec<Kept> = newest.into_iter().filter(|kept| kept.note == feed.head.checkpoint && self.counts(&kept.by)).collect();
        let checkpoint = with_cosignatures(&feed.head.checkpoint, &self.lines(&here));
        Ok(OrgPart::of(org, &checkpoint))
    }
}

/// What others signed about a record here, as our screens name them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attested {
    /// When it was first witnessed, in seconds since 1970, and by whom; none: its date is unproven.
    pub witnessed: Option<(u64, Vec<String>)>,
    /// Who signed for having received it, and when by their clock.
    pub received: Vec<(String, u64)>,
}

impl Attested {
    /// Looks it up.
    pub fn of(reader: &Reader, snapshot: &Snapshot, feed: &Feed, seq: u64) -> Result<Attested, FeedError> {
        let origin = feed.origin.as_str();
        let lines = witness::first_witnessed(reader, origin, seq, |_| true)?;
        let time = |kept: &Kept| Cosignature::read(&kept.line).map_or(u64::MAX, |line| line.time());
        let name = |kept: &Kept| if kept.by.is_empty() { "us".to_owned() } else { kept.by.clone() };
        let witnessed = lines.iter().map(time).min().map(|at| (at, lines.iter().map(name).collect()));
        let mut received = Vec::new();
        for core in witness::receipts_about(reader, origin, seq, feed.ours || feed.written)? {
            if let (Some(party), Some(delivery)) = (Receipt::claimed_by(&core), Receipt::peek(&core)) {
                let partner = snapshot.partner_of(&party).map(|partner| partner.name.clone());
                let name = if party == snapshot.party { "us".to_owned() } else { partner.unwrap_or_else(|| party.short()) };
                received.push((name, delivery.at));
            }
        }
        Ok(Attested { witnessed, received })
    }

    /// Since when it is proven to have been there, in words.
    pub fn date(&self) -> String {
        match &self.witnessed {
            Some((at, by)) => format!("first witnessed {} by {}", crate::service::time_text(*at), by.join(", ")),
            None => "date unproven: no witness has signed that it was there".into(),
        }
    }

    /// Who signed for it, in words.
    pub fn receipts(&self) -> Vec<String> {
        self.received
            .iter()
            .map(|(name, at)| format!("received by {name}, who signed for it at {}", crate::service::time_text(*at)))
            .collect()
    }
}
