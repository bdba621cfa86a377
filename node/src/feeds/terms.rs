//! Terms: what partners ask of us and we accepted, what they accepted of ours, and the obligations that received records stand
//! under.
//!
//! An acceptance is kept before it has effect, each under its number; the newest counts. An obligation is kept in the commit that
//! stores what stands under it, with the moment of receipt, so that what falls due is found by day.

use std::collections::{BTreeMap, BTreeSet};

use lotline_policy::{Cleared, Moment, Viewer};
use lotline_schema::codec::{self, Value};
use lotline_schema::org::Org;
use lotline_schema::terms::{Acceptance, AcceptanceError, Accepted, Terms};
use lotline_schema::{Hash, Origin, PartyId};

use super::accept::AcceptError;
use super::heard::Change;
use super::open::all_states;
use super::state::{StateError, key, put, take};
use super::{FeedError, Feeds, Snapshot};
use crate::keys::random;
use crate::store::{Batch, Entry, Reader};

/// The most terms that a partner may ask for at once.
pub const OFFERS_MAX: usize = 64;
/// The longest text that says what would be shown, in bytes.
pub const OFFER_TEXT_BYTES_MAX: usize = 1024;
/// Acceptances of a partner that are kept although no delivery receipt names them yet: one may be under way that does.
const LATEST_KEPT: usize = 8;
const DAY: u64 = 86_400;
/// Keys by day that are read at once.
const DUE_PAGE: usize = 512;

/// Terms that a partner asks for: for which of its feeds, and what it would show under them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The name of the feed.
    pub feed: String,
    /// The terms.
    pub terms: Terms,
    /// What would be shown, in the owner's words.
    pub what: String,
}

/// An acceptance as it was signed, and what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptAcceptance {
    /// The signed bytes.
    pub core: Vec<u8>,
    /// What they say.
    pub accepted: Accepted,
}

/// Slots that are shown under terms alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Under {
    /// The id of the terms.
    pub terms: Hash,
    /// Places in the feed, ascending, and the slots of each, a bit a slot.
    pub slots: Vec<(u64, u64)>,
}

/// What a received record stands under.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Obligation {
    /// The terms.
    pub terms: Terms,
    /// Which of its slots, a bit a slot.
    pub mask: u64,
    /// When they were received, by our clock, in seconds since 1970.
    pub received: u64,
}

impl Obligation {
    /// From when on these slots are to be gone, in seconds since 1970; none: no such promise.
    pub fn due(&self) -> Option<u64> {
        self.terms.delete_after().map(|after| self.received.saturating_add(after))
    }
}

/// Slots of a received record that are to be gone by now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Due {
    /// The feed.
    pub origin: Origin,
    /// The record's place in it.
    pub seq: u64,
    /// Which of its slots, a bit a slot.
    pub mask: u64,
    /// The id of the terms that say so.
    pub terms: Hash,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

/// An acceptance of a partner's that does not count.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    /// The partner's: it does not hold.
    #[error("an acceptance of terms does not hold: {0}")]
    Broken(#[from] AcceptanceError),
    /// The partner's: it is about somebody else's terms.
    #[error("an acceptance of somebody else's terms")]
    Other,
    /// The partner's: it signed two under one number.
    #[error("two acceptances under number {0}")]
    Twice(u64),
    /// We do not have the key yet that signed it.
    #[error("the partner's org feed is not here yet")]
    OrgBehind,
    /// Ours.
    #[error(transparent)]
    Ours(#[from] FeedError),
}

impl Snapshot {
    /// A partner as our rules see it: with what it has stated and accepted.
    pub fn viewer(&self, partner: &str) -> Viewer {
        let accepted = self.book.get(partner).and_then(|known| self.accepted.get(&known.party));
        match accepted.map(|kept| &kept.accepted.acceptance) {
            None => Viewer::new(partner),
            Some(of) => Viewer { partner: partner.to_owned(), purposes: of.purposes.clone(), terms: of.terms.keys().copied().collect() },
        }
    }

    /// The terms that our rules ask a partner for now, by feed, as many as it is told of; nothing while this home waits for its owner.
    pub fn asks(&self, partner: &str, now: impl Into<Moment>) -> Vec<Offer> {
        let mut offers = self.asks_in_all(partner, now);
        offers.truncate(OFFERS_MAX);
        offers
    }

    /// The same, those among it that are too many to be told.
    pub fn asks_in_all(&self, partner: &str, now: impl Into<Moment>) -> Vec<Offer> {
        let now = now.into();
        let mut offers: Vec<Offer> = Vec::new();
        if self.restored.is_some() || self.policy.shares().iter().all(|share| share.terms.is_none()) {
            return offers;
        }
        let viewer = self.viewer(partner);
        for feed in self.own_feed_names() {
            for (share, terms) in self.policy.asking(partner, &feed, now) {
                let what = lotline_policy::offer(&self.policy, &viewer, &feed, share);
                match offers.iter_mut().find(|known| known.feed == feed && known.terms == *terms) {
                    Some(known) => known.what.extend(["; also, ", what.as_str()]),
                    None => offers.push(Offer { feed: feed.clone(), terms: terms.clone(), what }),
                }
            }
        }
        for offer in &mut offers {
            let end = (0..=OFFER_TEXT_BYTES_MAX.min(offer.what.len())).rev().find(|end| offer.what.is_char_boundary(*end));
            offer.what.truncate(end.unwrap_or(0));
        }
        offers
    }

    /// The terms that a partner asks for and that we have not accepted.
    pub fn waiting_offers(&self, party: &PartyId) -> Vec<&Offer> {
        let accepted = self.accepting.get(party).map(|kept| &kept.accepted.acceptance.terms);
        let offers = self.offers.get(party).into_iter().flatten();
        offers.filter(|offer| accepted.is_none_or(|accepted| !accepted.contains_key(&offer.terms.id()))).collect()
    }
}

impl Feeds {
    /// Keeps what a partner asks for, so that it can be shown without a connection.
    pub fn take_offers(&mut self, party: PartyId, offers: Vec<Offer>) -> Result<(), FeedError> {
        if self.snapshot.offers.get(&party).map(Vec::as_slice).unwrap_or_default() == offers {
            return Ok(());
        }
        if !self.heard.allows(party, Change::Terms, self.clock.now()) {
            tracing::warn!(party = party.short(), "asks for other terms all day: what it says is left for a later connection");
            return Ok(());
        }
        self.commit_state(key::of(key::OFFERED, &party.to_string()), Some(put(offers_value(&offers))))?;
        std::sync::Arc::make_mut(&mut self.snapshot.offers).insert(party, offers);
        self.show();
        Ok(())
    }

    /// Signs what we accept of an owner's terms, all of it each time, under the next number. None when it is more than one
    /// acceptance may hold.
    pub fn accept_terms(
        &mut self,
        owner: PartyId,
        purposes: BTreeSet<String>,
        terms: BTreeMap<Hash, Terms>,
        now: u64,
    ) -> Result<Option<u64>, FeedError> {
        self.may_sign()?;
        let (number, acceptance) = (self.next_receipt, Acceptance { owner, purposes, terms, at: now });
        let Some(core) = acceptance.seal(self.snapshot.party, number, &self.keys.record, random)? else {
            return Ok(None);
        };
        let mut batch = Batch::new();
        batch.push(Entry::State { key: acceptance_key(key::ACCEPTING, &owner, number), value: Some(core.clone()) });
        batch.push(Entry::State { key: key::RECEIPTS.into(), value: Some(put(codec::uint(number + 1))) });
        for (id, terms) in &acceptance.terms {
            batch.push(Entry::State { key: key::of(key::TERMS, &id.to_string()), value: Some(put(terms.to_value())) });
        }
        self.commit(batch)?;
        self.next_receipt = number + 1;
        let kept = KeptAcceptance { core, accepted: Accepted { number, acceptance } };
        std::sync::Arc::make_mut(&mut self.snapshot.accepting).insert(owner, kept);
        self.show();
        Ok(Some(number))
    }

    /// What we have accepted of an owner's terms, to be sent to it: signed anew where our record key is another one by now, and once
    /// after a restore, since the owner may hold a later one that is unknown here. Numbers after a restore are beyond all before.
    pub fn acceptance(&mut self, owner: &PartyId, now: u64) -> Result<Option<Vec<u8>>, FeedError> {
        let Some(kept) = self.snapshot.accepting.get(owner).cloned() else {
            return Ok(None);
        };
        let signed_by = Accepted::claimed_by(&kept.core).map(|(_, kid)| kid);
        if signed_by != Some(self.keys.record.kid()) || kept.accepted.number < self.first_receipt {
            let Acceptance { purposes, terms, .. } = kept.accepted.acceptance;
            self.accept_terms(*owner, purposes, terms, now)?;
        }
        Ok(self.snapshot.accepting.get(owner).map(|kept| kept.core.clone()))
    }

    /// Verifies what a partner accepted of our terms, keeps it, and lets it count. Whether it is news: an older one that comes
    /// again counts for nothing. Older is what its keys vouch for: one by a key that was revoked since bars no later one.
    pub fn take_acceptance(&mut self, party: &PartyId, core: Vec<u8>) -> Result<bool, TermsError> {
        let org = self.snapshot.orgs.get(party).ok_or(TermsError::OrgBehind)?;
        let accepted = match Accepted::open(&core, org) {
            Err(AcceptanceError::Key(_)) => return Err(TermsError::OrgBehind),
            opened => opened?,
        };
        if accepted.acceptance.owner != self.snapshot.party {
            return Err(TermsError::Other);
        }
        match self.snapshot.accepted.get(party) {
            Some(kept) if kept.accepted.number == accepted.number && kept.core != core => return Err(TermsError::Twice(accepted.number)),
            Some(kept) if kept.accepted.number >= accepted.number => return Ok(false),
            _ => {}
        }
        if !self.heard.allows(*party, Change::Acceptance, self.clock.now()) {
            tracing::warn!(party = party.short(), "accepts something else all day: what it says is left for a later connection");
            return Ok(false);
        }
        self.settle()?;
        let batch = self.keep_acceptance(party, accepted.number, core.clone())?;
        self.commit(batch).map_err(FeedError::from)?;
        std::sync::Arc::make_mut(&mut self.snapshot.accepted).insert(*party, KeptAcceptance { core, accepted });
        self.show();
        Ok(true)
    }

    /// Keeps an acceptance of a partner's among its latest. Of those before, what no delivery receipt names goes: nothing was
    /// shown under it.
    fn keep_acceptance(&self, party: &PartyId, number: u64, core: Vec<u8>) -> Result<Batch, FeedError> {
        let mut batch = Batch::new();
        let mut latest = latest(&self.reader, party)?;
        latest.retain(|known| *known != number);
        latest.push(number);
        for old in latest.drain(..latest.len().saturating_sub(LATEST_KEPT)) {
            if self.reader.state(&acceptance_key(key::NAMED, party, old))?.is_none() {
                batch.push(Entry::State { key: acceptance_key(key::ACCEPTED, party, old), value: None });
            }
        }
        let latest = put(codec::array(latest.into_iter().map(codec::uint)));
        batch.push(Entry::State { key: key::of(key::LATEST, &party.to_string()), value: Some(latest) });
        batch.push(Entry::State { key: acceptance_key(key::ACCEPTED, party, number), value: Some(core) });
        Ok(batch)
    }

    /// A partner's keys are other ones now: the newest acceptance counts that they vouch for.
    pub(super) fn look_at_acceptance(&mut self, party: &PartyId) -> Result<(), FeedError> {
        let (Some(kept), Some(org)) = (self.snapshot.accepted.get(party), self.snapshot.orgs.get(party)) else {
            return Ok(());
        };
        if Accepted::open(&kept.core, org).is_ok() {
            return Ok(());
        }
        self.settle()?;
        let under = [key::ACCEPTED.as_bytes(), party.to_string().as_bytes(), b"/"].concat();
        let kept = all_states(&self.reader, &under)?.into_iter().rev().find(|(_, core)| Accepted::open(core, org).is_ok());
        let accepted = std::sync::Arc::make_mut(&mut self.snapshot.accepted);
        accepted.remove(party);
        if let Some((_, core)) = kept {
            accepted.insert(*party, read_acceptance(core)?);
        }
        Ok(())
    }

    /// Puts what received slots stand under into the batch that stores them. In a backfill of the feed with the number `later` only
    /// what was neither open nor forgotten here: what came free stays free, and what was forgotten does not come back. Returns the
    /// number of our acceptance; none when nothing stands under terms.
    pub(super) fn oblige(
        &self,
        batch: &mut Batch,
        origin: &Origin,
        under: &BTreeMap<u64, Vec<(Hash, u64)>>,
        later: Option<u32>,
        now: u64,
    ) -> Result<Option<u64>, AcceptError> {
        if under.is_empty() {
            return Ok(None);
        }
        let accepted = self.snapshot.accepting.get(&origin.party()).map(|kept| &kept.accepted);
        let Some(accepted) = accepted.filter(|_| self.snapshot.party != origin.party()) else {
            return Err(AcceptError::Terms);
        };
        if later.is_some() {
            self.settle()?;
        }
        for (seq, slots) in under {
            let place = key::placed(key::OBLIGED, origin.as_str(), *seq);
            // A place is new in a batch; in a backfill some of it may be here already.
            let (mut kept, here) = match later {
                Some(feed) => {
                    let row = self.reader.row(feed, *seq).map_err(FeedError::from)?;
                    (read_obliged(&self.reader, &place)?, row.map_or(0, |row| row.slots() | row.forgotten_slots()))
                }
                None => (Vec::new(), 0),
            };
            let before = kept.len();
            for (id, mask) in slots {
                let terms = accepted.acceptance.terms.get(id).ok_or(AcceptError::Terms)?;
                if mask & !here == 0 {
                    continue;
                }
                kept.push((*id, mask & !here, now));
                if let Some(after) = terms.delete_after() {
                    batch.push(Entry::State { key: due_key(now.saturating_add(after), origin, *seq), value: Some(put(codec::uint(0))) });
                }
            }
            if before < kept.len() {
                batch.push(Entry::State { key: place, value: Some(obliged_value(&kept)) });
            }
        }
        Ok(Some(accepted.number))
    }
}

/// Adds what a cleared entry shows under terms alone; entries come in the order of the feed.
pub fn add_under(under: &mut Vec<Under>, cleared: &Cleared) {
    for (terms, mask) in cleared.under() {
        let place = (cleared.seq(), *mask);
        match under.iter_mut().find(|known| known.terms == *terms) {
            Some(known) => known.slots.push(place),
            None => under.push(Under { terms: *terms, slots: vec![place] }),
        }
    }
}

/// Whether what a message says of terms is about what it shows: places ascending, slots opened, none twice. By place.
pub(super) fn check_under(under: &[Under], opened: impl Fn(u64) -> Option<u64>) -> Option<BTreeMap<u64, Vec<(Hash, u64)>>> {
    let mut by_place: BTreeMap<u64, Vec<(Hash, u64)>> = BTreeMap::new();
    for Under { terms, slots } in under {
        if slots.is_empty() || slots.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return None;
        }
        for (seq, mask) in slots {
            let known = by_place.entry(*seq).or_default();
            let taken = known.iter().fold(0, |taken, (_, mask)| taken | mask);
            if *mask == 0 || mask & !opened(*seq)? != 0 || mask & taken != 0 || known.iter().any(|(id, _)| id == terms) {
                return None;
            }
            known.push((*terms, *mask));
        }
    }
    Some(by_place)
}

/// What a received record stands under: an entry for each time that something of it came under terms. Empty for one that came
/// free, and for our own.
pub fn obligations(reader: &Reader, origin: &Origin, seq: u64) -> Result<Vec<Obligation>, FeedError> {
    let mut found = Vec::new();
    for (id, mask, received) in read_obliged(reader, &key::placed(key::OBLIGED, origin.as_str(), seq))? {
        found.push(Obligation { terms: terms_of(reader, &id)?, mask, received });
    }
    Ok(found)
}

/// What is to be gone by now, at most `max`, the oldest day first. Reads the days up to now alone, however much is due later.
/// Who has deleted something puts the entries of [`discharge`] into the same commit.
pub fn due(reader: &Reader, now: u64, max: usize) -> Result<Vec<Due>, FeedError> {
    let (mut found, mut after) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let page = reader.states(key::DUE.as_bytes(), after.as_deref(), DUE_PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok(found);
        };
        after = Some(last.clone());
        for (state_key, _) in page {
            let (day, origin, seq) = read_due_key(&state_key).ok_or(StateError("promise to delete"))?;
            if day > now / DAY || found.len() >= max {
                return Ok(found);
            }
            let due = |of: &Obligation| of.due().filter(|at| at / DAY == day && *at <= now);
            for (of, since) in obligations(reader, &origin, seq)?.into_iter().filter_map(|of| due(&of).map(|since| (of, since))) {
                found.push(Due { origin: origin.clone(), seq, mask: of.mask, terms: of.terms.id(), since });
            }
        }
    }
}

/// The state entries that take these slots out of what a record stands under, since they are gone: for the commit that says so.
pub fn discharge(reader: &Reader, origin: &Origin, seq: u64, gone: u64) -> Result<Vec<Entry>, FeedError> {
    let place = key::placed(key::OBLIGED, origin.as_str(), seq);
    let (mut entries, mut kept, mut days, mut cleared) = (Vec::new(), Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (id, mask, received) in read_obliged(reader, &place)? {
        let at = terms_of(reader, &id)?.delete_after().map(|after| received.saturating_add(after) / DAY);
        match mask & !gone {
            0 => cleared.extend(at),
            rest => {
                kept.push((id, rest, received));
                days.extend(at);
            }
        }
    }
    entries.extend(cleared.difference(&days).map(|day| Entry::State { key: due_key(day * DAY, origin, seq), value: None }));
    entries.push(Entry::State { key: place, value: (!kept.is_empty()).then(|| obliged_value(&kept)) });
    Ok(entries)
}

/// What does not verify of what was accepted, and days on which nothing falls due. For `audit`. Returns how many signatures were
/// checked.
pub fn terms_faults(reader: &Reader, snapshot: &Snapshot) -> Result<(u64, Vec<String>), FeedError> {
    let (mut checked, mut faults) = (0, Vec::new());
    for prefix in [key::ACCEPTING, key::ACCEPTED] {
        for (_, core) in all_states(reader, prefix.as_bytes())? {
            let Some((party, _)) = Accepted::claimed_by(&core) else {
                faults.push("an acceptance of terms does not read".to_owned());
                continue;
            };
            let Some(org) = snapshot.orgs.get(&party) else {
                continue;
            };
            checked += 1;
            match Accepted::open(&core, org) {
                // A key that was revoked since vouches for it no more, and it counts no more.
                Ok(_) | Err(AcceptanceError::Key(_)) => {}
                Err(why) => faults.push(format!("an acceptance of {}: {why}", party.short())),
            }
        }
    }
    let mut after = None::<Vec<u8>>;
    loop {
        let page = reader.states(key::DUE.as_bytes(), after.as_deref(), DUE_PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok((checked, faults));
        };
        after = Some(last.clone());
        for (state_key, _) in page {
            let (day, origin, seq) = read_due_key(&state_key).ok_or(StateError("promise to delete"))?;
            if !obligations(reader, &origin, seq)?.iter().any(|of| of.due().is_some_and(|at| at / DAY == day)) {
                faults.push(format!("record {seq} of feed {} is said to fall due, and stands under no such terms", origin.short()));
            }
        }
    }
}

fn terms_of(reader: &Reader, id: &Hash) -> Result<Terms, FeedError> {
    const WHAT: StateError = StateError("terms");
    let value = reader.state(&key::of(key::TERMS, &id.to_string()))?.ok_or(WHAT)?;
    Ok(Terms::read(&take(&value, "terms")?).ok().filter(|terms| terms.id() == *id).ok_or(WHAT)?)
}

fn obliged_value(kept: &[(Hash, u64, u64)]) -> Vec<u8> {
    let one = |(id, mask, received): &(Hash, u64, u64)| codec::array([codec::bytes(id.0), codec::uint(*mask), codec::uint(*received)]);
    put(codec::array(kept.iter().map(one)))
}

fn read_obliged(reader: &Reader, place: &[u8]) -> Result<Vec<(Hash, u64, u64)>, FeedError> {
    const WHAT: StateError = StateError("obligation");
    let Some(value) = reader.state(place)? else {
        return Ok(Vec::new());
    };
    let value = take(&value, "obligation")?;
    let one = |value: &Value| match codec::as_array(value).unwrap_or_default() {
        [id, mask, received] => Some((codec::as_bytes(id).and_then(Hash::from_slice)?, codec::as_uint(mask)?, codec::as_uint(received)?)),
        _ => None,
    };
    Ok(codec::as_array(&value).and_then(|all| all.iter().map(one).collect()).ok_or(WHAT)?)
}

/// A day, a feed and a place: what falls due is found by range.
fn due_key(at: u64, origin: &Origin, seq: u64) -> Vec<u8> {
    [key::DUE.as_bytes(), &(at / DAY).to_be_bytes(), origin.as_str().as_bytes(), b"/", &seq.to_be_bytes()].concat()
}

fn read_due_key(state_key: &[u8]) -> Option<(u64, Origin, u64)> {
    let (day, rest) = state_key.strip_prefix(key::DUE.as_bytes())?.split_first_chunk::<8>()?;
    let (origin, seq) = rest.split_last_chunk::<8>()?;
    let origin = std::str::from_utf8(origin.strip_suffix(b"/")?).ok()?.parse().ok()?;
    Some((u64::from_be_bytes(*day), origin, u64::from_be_bytes(*seq)))
}

fn acceptance_key(prefix: &str, party: &PartyId, number: u64) -> Vec<u8> {
    key::placed(prefix, &party.to_string(), number)
}

/// The state entry that says that a delivery receipt names this acceptance of a partner's.
pub(super) fn named(party: &PartyId, number: u64) -> Entry {
    Entry::State { key: acceptance_key(key::NAMED, party, number), value: Some(put(codec::uint(0))) }
}

/// Numbers of a partner's latest acceptances, as they came.
fn latest(reader: &Reader, party: &PartyId) -> Result<Vec<u64>, FeedError> {
    const WHAT: StateError = StateError("acceptances of terms");
    let Some(value) = reader.state(&key::of(key::LATEST, &party.to_string()))? else {
        return Ok(Vec::new());
    };
    let value = take(&value, "acceptances of terms")?;
    Ok(codec::as_array(&value).and_then(|all| all.iter().map(codec::as_uint).collect()).ok_or(WHAT)?)
}

fn read_acceptance(core: Vec<u8>) -> Result<KeptAcceptance, FeedError> {
    let accepted = Accepted::peek(&core).ok_or(StateError("acceptance of terms"))?;
    Ok(KeptAcceptance { core, accepted })
}

pub(super) type ByParty<T> = BTreeMap<PartyId, T>;

/// The newest acceptance of each partner that its keys vouch for.
pub(super) fn read_accepted(reader: &Reader, orgs: &BTreeMap<PartyId, std::sync::Arc<Org>>) -> Result<ByParty<KeptAcceptance>, FeedError> {
    let mut newest = BTreeMap::new();
    for (_, core) in all_states(reader, key::ACCEPTED.as_bytes())? {
        let vouched = |(party, _): &(PartyId, _)| orgs.get(party).is_some_and(|org| Accepted::open(&core, org).is_ok());
        if let Some((party, _)) = Accepted::claimed_by(&core).filter(vouched) {
            newest.insert(party, read_acceptance(core)?);
        }
    }
    Ok(newest)
}

/// The newest acceptance of ours for each owner.
pub(super) fn read_accepting(reader: &Reader) -> Result<ByParty<KeptAcceptance>, FeedError> {
    let mut newest = BTreeMap::new();
    for (_, core) in all_states(reader, key::ACCEPTING.as_bytes())? {
        let kept = read_acceptance(core)?;
        newest.insert(kept.accepted.acceptance.owner, kept);
    }
    Ok(newest)
}

/// What each partner asks for, as it said last.
pub(super) fn read_offers(reader: &Reader) -> Result<ByParty<Vec<Offer>>, FeedError> {
    const WHAT: StateError = StateError("terms that are asked for");
    let mut offers = BTreeMap::new();
    for (state_key, value) in all_states(reader, key::OFFERED.as_bytes())? {
        let party = std::str::from_utf8(&state_key[key::OFFERED.len()..]).ok().and_then(|text| text.parse().ok()).ok_or(WHAT)?;
        let listed = take(&value, "terms that are asked for")?;
        offers.insert(party, codec::as_array(&listed).and_then(|all| all.iter().map(read_offer).collect()).ok_or(WHAT)?);
    }
    Ok(offers)
}

pub(crate) fn offers_value(offers: &[Offer]) -> Value {
    let one = |of: &Offer| codec::array([codec::text(of.feed.as_str()), of.terms.to_value(), codec::text(of.what.as_str())]);
    codec::array(offers.iter().map(one))
}

/// One of them; none when it is out of form or longer than it may be.
pub(crate) fn read_offer(value: &Value) -> Option<Offer> {
    match codec::as_array(value)? {
        [Value::Text(feed), terms, Value::Text(what)] if feed.len() <= OFFER_TEXT_BYTES_MAX && what.len() <= OFFER_TEXT_BYTES_MAX => {
            Some(Offer { feed: feed.clone(), terms: Terms::read(terms).ok()?, what: what.clone() })
        }
        _ => None,
    }
}
