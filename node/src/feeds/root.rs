//! What the root key signs: new keys, a successor, persons who release. The root is lent for one call and never kept.

use std::sync::Arc;

use lotline_schema::cose::Signer;
use lotline_schema::id::thumbprint;
use lotline_schema::org::{By, Entry as OrgEntry, Places, Role};
use lotline_schema::{Hash, Origin, PartyId};

use super::open::first_free;
use super::state::{Head, key};
use super::transport::Moving;
use super::{FeedError, Feeds, head_state, sign_head};
use crate::store::Batch;

/// A key that may not sign for the root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongRoot {
    /// Of another organisation, or of an earlier root.
    #[error("this is not the root key of {name} ({words})")]
    Other {
        /// Ours.
        name: String,
        /// Our six words.
        words: String,
    },
    /// Not the successor that was named.
    #[error("this is not the key that was named as successor")]
    NotNamed,
    /// No successor was named.
    #[error("no successor was named, so nothing can take the place of a lost root key")]
    NobodyNamed,
}

/// A role's new key, in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rotated {
    /// Where the org feed says so.
    pub entry: u64,
    /// Thumbprint of the new key.
    pub kid: Hash,
    /// Where it begins, by feed.
    pub from: Places,
}

/// Stands for "beyond everything" where a feed is over and its end not known for certain: what was signed there stays
/// good, and nothing is signed there any more.
const PAST: u64 = 1 << 48;

impl Feeds {
    /// Where a new key begins when nothing is to be revoked: at the end of every feed.
    ///
    /// A feed that went on in another life ends where its partners say; so does every feed of a restored home.
    pub fn places_now(&self) -> Result<Places, FeedError> {
        let (org, lives) = (&self.snapshot.orgs[&self.snapshot.party], self.newest_lives());
        let mut places = Places::new();
        for text in org.feeds().filter(|text| org.delegation(text).is_none()) {
            let goes_on = text.parse::<Origin>().is_ok_and(|origin| lives.get(origin.name()) == Some(&origin.n()));
            let here = self.snapshot.feeds.get(text).filter(|_| goes_on && self.snapshot.restored.is_none());
            places.insert(text.to_owned(), here.map_or(PAST, |feed| feed.size()));
        }
        places.insert(Origin::org(self.snapshot.party).to_string(), org.size());
        for (name, next) in self.numbered_places()? {
            places.insert(Origin::new(self.snapshot.party, name, 1)?.to_string(), next);
        }
        Ok(places)
    }

    /// The next number of each numbered state of ours that the record key signs. A policy's number is its version.
    fn numbered_places(&self) -> Result<Vec<(&'static str, u64)>, FeedError> {
        let next = |prefix: &'static str| first_free(|number| Ok(self.reader.state(&key::numbered(prefix, number))?.is_some()));
        let policy = self.snapshot.policy.version();
        let policy = if policy > 0 { policy + 1 } else { 0 };
        let (vouchers, members) = (next(key::VOUCHER)?, next(key::MEMBERS)?);
        let used = [("policy", policy), ("receipts", self.next_receipt), ("vouchers", vouchers), ("members", members)];
        Ok(used.into_iter().filter(|(_, next)| *next > 0).collect())
    }

    /// Gives a role a new key, from these places on. The key is on disk first; then one commit holds the org entry and
    /// every head that it makes necessary; then the old secret goes.
    pub fn rotate(&mut self, role: Role, from: Places, reason: &str, root: &Signer, now: u64) -> Result<Rotated, FeedError> {
        self.is_root(root)?;
        // In a restored home an outdated key is the proof that partners gave the org feed back: it is whole.
        if self.keys_fit().is_ok() {
            self.may_sign()?;
        }
        self.settle()?;
        // The file of the one that waits is the only place of its secret.
        if role == Role::Transport && self.snapshot.moving.is_some() {
            return Err(FeedError::Moving);
        }
        let next = self.keys.prepare(role)?;
        let from = if matches!(role, Role::Record | Role::Log) { from } else { Places::new() };
        let entry = OrgEntry::Rotation { role, key: next.public(), from: from.clone(), reason: reason.to_owned() };
        match self.commit_rotation(role, &next, &entry, root, now) {
            Ok(seq) => {
                // The key in memory is the new one already; a file that cannot be moved is moved at the next start.
                if let Err(why) = self.keys.settle(&self.snapshot.orgs[&self.snapshot.party], self.snapshot.moving.is_some()) {
                    tracing::warn!(%role, %why, "the new key's file is moved into place at the next start");
                }
                Ok(Rotated { entry: seq, kid: thumbprint(&next.public()), from })
            }
            Err(FeedError::Store(why)) => Err(FeedError::Store(why)),
            Err(why) => {
                // Not so after a failed commit, which may be durable all the same: the next start decides.
                next.forget();
                Err(why)
            }
        }
    }

    fn commit_rotation(
        &mut self,
        role: Role,
        next: &crate::keys::Next,
        entry: &OrgEntry,
        root: &Signer,
        now: u64,
    ) -> Result<u64, FeedError> {
        let (keys, mut batch) = (self.keys.with(next), Batch::new());
        let (org, org_head) = self.append_org_by(&mut batch, entry, root, &keys, now)?;
        if let Some(outdated) = keys.outdated(&org).filter(|outdated| *outdated == Role::Log) {
            return Err(FeedError::Outdated(outdated));
        }
        let mut heads = Vec::new();
        for feed in self.snapshot.feeds.values().filter(|feed| feed.is_own() && !feed.origin.is_org() && role == Role::Log) {
            // A life that is over keeps the head that its own key signed.
            if org.log_keys(&feed.origin, feed.size()).contains(&&keys.log.public()) {
                let head: Head = sign_head(&feed.origin, feed.head.frontier.clone(), &keys.log);
                batch.push(head_state(&feed.origin, &head));
                heads.push((feed.origin.to_string(), head));
            }
        }
        let ledger = if role == Role::Log { self.sign_ledger_again(&mut batch, &keys) } else { None };
        let seq = org.size() - 1;
        let moving = (role == Role::Transport).then(|| Moving::begun(seq));
        if let Some(moving) = &moving {
            batch.push(moving.state());
        }
        self.commit(batch)?;
        self.ledger = ledger.unwrap_or_else(|| std::mem::take(&mut self.ledger));
        self.snapshot.moving = moving.or(self.snapshot.moving.take());
        self.keys = Arc::new(keys);
        self.take_org(org, org_head);
        for (origin, head) in heads {
            self.snapshot.feeds.get_mut(&origin).expect("taken from there").head = Arc::new(head);
        }
        self.show();
        Ok(seq)
    }

    /// States something that the root, or for a new root the successor itself, signs. Returns its place.
    pub fn state_by_root(&mut self, entry: &OrgEntry, signer: &Signer, now: u64) -> Result<u64, FeedError> {
        self.may_sign()?;
        match entry.signed_by() {
            By::Successor => self.is_successor(signer)?,
            By::Root | By::Record => self.is_root(signer)?,
        }
        let mut batch = Batch::new();
        let (org, head) = self.append_org_by(&mut batch, entry, signer, &self.keys, now)?;
        let seq = org.size() - 1;
        self.commit(batch)?;
        self.take_org(org, head);
        self.show();
        Ok(seq)
    }

    /// Whether this is the root of now.
    pub fn is_root(&self, signer: &Signer) -> Result<(), WrongRoot> {
        let org = &self.snapshot.orgs[&self.snapshot.party];
        let party: PartyId = self.snapshot.party;
        match *org.root() == signer.public() {
            true => Ok(()),
            false => Err(WrongRoot::Other { name: org.name().to_owned(), words: party.six_words() }),
        }
    }

    fn is_successor(&self, signer: &Signer) -> Result<(), WrongRoot> {
        match self.snapshot.orgs[&self.snapshot.party].successor() {
            Some(named) if *named == signer.kid() => Ok(()),
            Some(_) => Err(WrongRoot::NotNamed),
            None => Err(WrongRoot::NobodyNamed),
        }
    }
}
