//! Partners, sharing rules, vouchers and member lists: changing state, in the same durable commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use lotline_policy::Policy;
use lotline_schema::bundle::OrgPart;
use lotline_schema::codec;
use lotline_schema::members::{Members, MembersFile};
use lotline_schema::statement::{self, Place, Type};
use lotline_schema::voucher::Voucher;
use lotline_schema::{Origin, PartyId};

use super::open::{Applied, first_free, open_policy};
use super::state::{Partner, key, put};
use super::{FeedError, Feeds, Snapshot};
use crate::keys::random;
use crate::store::{Batch, Entry, Reader};

impl Feeds {
    /// Adds a partner, or changes one: the root stays what it was.
    pub fn put_partner(&mut self, partner: Partner) -> Result<(), FeedError> {
        if self.snapshot.book.get(&partner.name).is_some_and(|known| known.party != partner.party) {
            return Err(FeedError::NameTaken(partner.name));
        }
        if !self.snapshot.book.contains_key(&partner.name) && self.rules_mean_another(&partner)? {
            return Err(FeedError::NameInRules(partner.name));
        }
        if let Some(other) = self.snapshot.holder(&partner.peer, &partner.party) {
            return Err(FeedError::PeerTaken { other: other.to_owned(), partner: partner.name });
        }
        // An invitation may be older than what its org feed says by now.
        let renamed = self.snapshot.orgs.get(&partner.party).and_then(|org| self.snapshot.renamed(org, &partner).ok().flatten());
        let partner = renamed.unwrap_or(partner);
        self.commit_state(key::of(key::PARTNER, &partner.name), Some(partner.to_bytes()))?;
        Arc::make_mut(&mut self.snapshot.book).insert(partner.name.clone(), partner);
        self.show();
        Ok(())
    }

    /// Removes a partner from the book. What it received stays with it, and in the ledger.
    pub fn remove_partner(&mut self, name: &str) -> Result<Partner, FeedError> {
        let partner = self.snapshot.book.get(name).cloned().ok_or_else(|| FeedError::NoPartner(name.into()))?;
        let mut batch = Batch::new();
        batch.push(Entry::State { key: key::of(key::PARTNER, name), value: None });
        batch.push(Entry::State { key: key::of(key::FORMER_PARTNER, name), value: Some(put(codec::text(partner.party.to_string()))) });
        self.commit(batch)?;
        Arc::make_mut(&mut self.snapshot.book).remove(name);
        self.show();
        Ok(partner)
    }

    /// Whether the rules in force were made for another root key that had this partner's name: they name partners, and who
    /// comes under a name that was removed would get what was meant for the other.
    fn rules_mean_another(&self, partner: &Partner) -> Result<bool, FeedError> {
        let policy = &self.snapshot.policy;
        if !policy.shares().iter().chain(policy.nevers()).any(|rule| rule.partners.contains(&partner.name)) {
            return Ok(false);
        }
        self.settle()?;
        let former = self.reader.state(&key::of(key::FORMER_PARTNER, &partner.name))?;
        Ok(former.is_some_and(|former| former != put(codec::text(partner.party.to_string()))))
    }

    /// Puts checked sharing rules in force as the next version, signed. What was stopped stays stopped unless the
    /// owner says otherwise.
    pub fn apply_policy(&mut self, policy: Policy, resume: bool, now: u64) -> Result<u64, FeedError> {
        self.may_sign()?;
        let version = self.snapshot.policy.version() + 1;
        let place = Place { origin: Origin::new(self.snapshot.party, "policy", 1)?, seq: version, now, supersedes: None };
        let sealed = statement::seal_entry(Type::Policy, Applied::entry(&policy), &place, &self.keys.record, random)?;
        let mut batch = Batch::new();
        batch.push(Entry::State { key: key::numbered(key::POLICY, version), value: Some(sealed.core) });
        let mut policy = policy.with_version(version);
        if resume {
            batch.push(Entry::State { key: key::STOPPED.into(), value: None });
        } else {
            policy = policy.with_stopped(self.snapshot.policy.stopped().clone());
        }
        self.commit(batch)?;
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

    pub(super) fn commit_state(&mut self, state_key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), FeedError> {
        let mut batch = Batch::new();
        batch.push(Entry::State { key: state_key, value });
        self.commit(batch)?;
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
