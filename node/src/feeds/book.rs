//! Partners, sharing rules and the ledger: changing state, in the same durable commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use lotline_policy::Policy;
use lotline_schema::bundle::OrgPart;
use lotline_schema::codec;
use lotline_schema::members::{Members, MembersFile};
use lotline_schema::statement::{self, Place, Type};
use lotline_schema::voucher::Voucher;
use lotline_schema::{Hash, Origin, PartyId};

use super::open::{first_free, open_policy};
use super::state::{Partner, StateError, key, put};
use super::witness::Evidence;
use super::{FeedError, Feeds, Snapshot, transport};
use crate::keys::random;
use crate::ledger::{Outcome, Row};
use crate::store::{Batch, Entry, Reader};

/// A disclosure about to happen, for [`Feeds::intend`].
#[derive(Clone, Debug)]
pub struct Intent {
    /// To whom.
    pub to: String,
    /// From which feed.
    pub origin: String,
    /// Entries, and the slots of each.
    pub items: Vec<(u64, u64)>,
    /// Under which policy version; none for a full disclosure.
    pub policy: Option<u64>,
    /// SHA-256 over the items as sent.
    pub digest: Hash,
}

impl Feeds {
    /// Adds a partner, or changes one: the root stays what it was.
    pub fn put_partner(&mut self, partner: Partner) -> Result<(), FeedError> {
        if self.snapshot.book.get(&partner.name).is_some_and(|known| known.party != partner.party) {
            return Err(FeedError::NameTaken(partner.name));
        }
        // An invitation may be older than what its org feed says by now.
        let renamed = self.snapshot.orgs.get(&partner.party).and_then(|org| transport::renamed(org, &partner).ok().flatten());
        let partner = renamed.unwrap_or(partner);
        self.commit_state(key::of(key::PARTNER, &partner.name), Some(partner.to_bytes()))?;
        Arc::make_mut(&mut self.snapshot.book).insert(partner.name.clone(), partner);
        self.show();
        Ok(())
    }

    /// Removes a partner from the book. What it received stays with it, and in the ledger.
    pub fn remove_partner(&mut self, name: &str) -> Result<Partner, FeedError> {
        let partner = self.snapshot.book.get(name).cloned().ok_or_else(|| FeedError::NoPartner(name.into()))?;
        self.commit_state(key::of(key::PARTNER, name), None)?;
        Arc::make_mut(&mut self.snapshot.book).remove(name);
        self.show();
        Ok(partner)
    }

    /// Puts checked sharing rules in force as the next version, signed. What was stopped stays stopped unless the
    /// owner says otherwise.
    pub fn apply_policy(&mut self, policy: Policy, resume: bool, now: u64) -> Result<u64, FeedError> {
        self.may_sign()?;
        let version = self.snapshot.policy.version() + 1;
        let place = Place { origin: Origin::new(self.snapshot.party, "policy", 1)?, seq: version, now, supersedes: None };
        let sealed = statement::seal_entry(Type::Policy, codec::text(policy.text()), &place, &self.keys.record, random)?;
        let mut batch = Batch::new();
        batch.push(Entry::State { key: key::numbered(key::POLICY, version), value: Some(sealed.core) });
        let mut policy = policy.with_version(version);
        if resume {
            batch.push(Entry::State { key: key::STOPPED.into(), value: None });
        } else {
            policy = policy.with_stopped(self.snapshot.policy.stopped().clone());
        }
        self.store.commit(batch)?;
        self.snapshot.policy = Arc::new(policy);
        self.show();
        Ok(version)
    }

    /// Signs what was checked about a partner, under the next number, and keeps it. Returns the number.
    pub fn vouch(&mut self, voucher: &Voucher) -> Result<u64, FeedError> {
        self.may_sign()?;
        self.settle()?;
        let number = first_free(|number| Ok(self.reader.state(&key::numbered(key::VOUCHER, number))?.is_some()))?;
        let core = voucher.seal(self.snapshot.party, number, &self.keys.record, random)?;
        self.commit_state(key::numbered(key::VOUCHER, number), Some(core))?;
        Ok(number)
    }

    /// Signs a list of our members, under the next number, and keeps it. Returns the number and the signed list.
    pub fn sign_members(&mut self, list: &Members, now: u64) -> Result<(u64, Vec<u8>), FeedError> {
        self.may_sign()?;
        self.settle()?;
        let number = first_free(|number| Ok(self.reader.state(&key::numbered(key::MEMBERS, number))?.is_some()))?;
        let core = list.seal(self.snapshot.party, number, now, &self.keys.record, random)?;
        self.commit_state(key::numbered(key::MEMBERS, number), Some(core.clone()))?;
        Ok((number, core))
    }

    /// Stops sharing with a partner, or with everybody, without reading any file.
    pub fn stop_sharing(&mut self, partner: Option<&str>) -> Result<(), FeedError> {
        if let Some(name) = partner.filter(|name| !self.snapshot.book.contains_key(*name)) {
            return Err(FeedError::NoPartner(name.into()));
        }
        let policy = self.snapshot.policy.stop(partner);
        let names = policy.stopped().partners.iter().map(|name| codec::text(name.as_str()));
        let stopped = put(codec::array([codec::Value::Bool(policy.stopped().everybody), codec::array(names)]));
        self.commit_state(key::STOPPED.into(), Some(stopped))?;
        self.snapshot.policy = Arc::new(policy);
        self.show();
        Ok(())
    }

    /// The text of an applied version of the sharing rules.
    pub fn policy_text(&self, version: u64) -> Result<String, FeedError> {
        let core = self.reader.state(&key::numbered(key::POLICY, version))?.ok_or(StateError("policy"))?;
        open_policy(&core, version, &self.snapshot.orgs[&self.snapshot.party])
    }

    /// Writes down what is about to leave, durably, what became of earlier rows, and what partners signed meanwhile.
    /// Returns the row.
    pub fn intend(&mut self, intent: Intent, outcomes: &[(Row, Outcome)], evidence: &[Evidence], now: u64) -> Result<Row, FeedError> {
        if let Some(why) = &self.snapshot.restored {
            return Err(FeedError::Restored(why.clone()));
        }
        let Intent { to, origin, items, policy, digest } = intent;
        let row = Row { number: self.next_ledger, at: now, to, origin, items, policy, digest, outcome: Outcome::Open };
        let mut batch = Batch::new();
        for (row, outcome) in outcomes {
            batch.push(ledger_state(&Row { outcome: *outcome, ..row.clone() }));
        }
        batch.push(ledger_state(&row));
        self.keep(&mut batch, evidence)?;
        self.store.commit(batch)?;
        self.next_ledger += 1;
        Ok(row)
    }

    /// Writes down what became of rows, and what partners signed meanwhile.
    pub fn conclude(&mut self, outcomes: &[(Row, Outcome)], evidence: &[Evidence]) -> Result<(), FeedError> {
        let mut batch = Batch::new();
        for (row, outcome) in outcomes {
            batch.push(ledger_state(&Row { outcome: *outcome, ..row.clone() }));
        }
        self.keep(&mut batch, evidence)?;
        if !batch.is_empty() {
            self.store.commit(batch)?;
        }
        Ok(())
    }

    /// Shows every row of the ledger, oldest first, in bounded memory.
    pub fn each_row(&self, mut show: impl FnMut(Row)) -> Result<(), FeedError> {
        const PAGE: usize = 512;
        self.settle()?;
        let mut from = 0;
        loop {
            let rows = self.ledger(from, PAGE)?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            from = last.number + 1;
            rows.into_iter().for_each(&mut show);
        }
    }

    /// The ledger, newest last, from a row number on.
    pub fn ledger(&self, from: u64, max: usize) -> Result<Vec<Row>, FeedError> {
        let after = from.checked_sub(1).map(|before| key::numbered(key::LEDGER, before));
        let mut rows = Vec::new();
        for (state_key, value) in self.reader.states(key::LEDGER.as_bytes(), after.as_deref(), max)? {
            let number = state_key[key::LEDGER.len()..].try_into().map(u64::from_be_bytes).map_err(|_| StateError("ledger row"))?;
            rows.push(Row::read(number, &value)?);
        }
        Ok(rows)
    }

    pub(super) fn commit_state(&mut self, state_key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), FeedError> {
        let mut batch = Batch::new();
        batch.push(Entry::State { key: state_key, value });
        self.store.commit(batch)?;
        Ok(())
    }
}

/// The newest voucher of ours about each party, as signed and as read; one whose key was revoked counts for nothing.
pub fn vouchers(reader: &Reader, snapshot: &Snapshot) -> Result<BTreeMap<PartyId, (Vec<u8>, Voucher)>, FeedError> {
    const PAGE: usize = 512;
    let org = &snapshot.orgs[&snapshot.party];
    let (mut newest, mut after) = (BTreeMap::new(), None::<Vec<u8>>);
    loop {
        let page = reader.states(key::VOUCHER.as_bytes(), after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok(newest);
        };
        after = Some(last.clone());
        for (_, core) in page {
            if let Ok(voucher) = Voucher::open(&core, org) {
                newest.insert(voucher.party, (core, voucher));
            }
        }
    }
}

/// What does not verify among the numbered statements of ours: rules, vouchers, member lists. For `audit`.
pub fn numbered_faults(reader: &Reader, snapshot: &Snapshot) -> Result<(u64, Vec<String>), FeedError> {
    let (org, mut checked, mut faults) = (&snapshot.orgs[&snapshot.party], 0, Vec::new());
    let checkpoint = &snapshot.feeds[&Origin::org(snapshot.party).to_string()].head.checkpoint;
    let list = |core: &[u8]| MembersFile { org: OrgPart::of(org, checkpoint), core: core.to_vec() }.open();
    type Check<'a> = &'a dyn Fn(&[u8], u64) -> Result<(), String>;
    let checks: [(&str, u64, &str, Check<'_>); 3] = [
        (key::POLICY, 1, "rules version", &|core, number| open_policy(core, number, org).map(drop).map_err(|why| why.to_string())),
        (key::VOUCHER, 0, "voucher", &|core, _| Voucher::open(core, org).map(drop).map_err(|why| why.to_string())),
        (key::MEMBERS, 0, "member list", &|core, _| list(core).map(drop).map_err(|why| why.to_string())),
    ];
    for (prefix, first, what, check) in checks {
        for number in first.. {
            let Some(core) = reader.state(&key::numbered(prefix, number))? else {
                break;
            };
            checked += 1;
            faults.extend(check(&core, number).err().map(|why| format!("{what} {number}: {why}")));
        }
    }
    Ok((checked, faults))
}

fn ledger_state(row: &Row) -> Entry {
    Entry::State { key: key::numbered(key::LEDGER, row.number), value: Some(row.to_bytes()) }
}
