//! A new transport key: partners know a node by its name on the network, so all have to know the next one before it is
//! used. Ours: who has acknowledged the org entry that names it. A partner's: what our book calls it, and what it was.

use std::collections::BTreeSet;
use std::sync::Arc;

use lotline_schema::PartyId;
use lotline_schema::codec::{self, Value};
use lotline_schema::id::peer_id_text;
use lotline_schema::org::{Entry as OrgEntry, Org, Role};

use super::accept::AcceptError;
use super::state::{Partner, StateError, key, put, take};
use super::{FeedError, Feeds, Snapshot};
use crate::store::{Batch, Entry};

/// How many former names of a partner are kept, the newest: whoever changes its own more often than that while nobody
/// looks is paired anew.
const BEFORE_MAX: usize = 4;

/// A transport key of ours that the org feed names and that is not in use yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moving {
    /// The org entry that names it.
    pub entry: u64,
    /// Names of partners that have acknowledged that entry.
    pub known_by: BTreeSet<String>,
}

impl Moving {
    pub(super) fn begun(entry: u64) -> Moving {
        Moving { entry, known_by: BTreeSet::new() }
    }

    pub(super) fn state(&self) -> Entry {
        let names = self.known_by.iter().map(|name| codec::text(name.as_str()));
        Entry::State { key: key::MOVING.into(), value: Some(put(codec::array([codec::uint(self.entry), codec::array(names)]))) }
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Moving, StateError> {
        const WHAT: StateError = StateError("new transport key");
        let value = take(bytes, "new transport key")?;
        let [entry, Value::Array(names)] = codec::as_array(&value).unwrap_or_default() else {
            return Err(WHAT);
        };
        let name = |name: &Value| codec::as_text(name).map(str::to_owned).ok_or(WHAT);
        Ok(Moving { entry: codec::as_uint(entry).ok_or(WHAT)?, known_by: names.iter().map(name).collect::<Result<_, _>>()? })
    }
}

impl Snapshot {
    /// Whether a partner needs our keys though we share nothing with it: we follow it, and sign receipts for what it sends; we
    /// accepted terms of its; or it writes a feed of ours, and our org feed says for how long.
    pub fn owes_keys(&self, partner: &Partner) -> bool {
        self.delegates_to(&partner.party)
            || self.accepting.contains_key(&partner.party)
            || partner.subscribed && self.feeds.values().any(|feed| feed.origin.party() == partner.party && !feed.origin.is_org())
    }

    /// The partners that are offered our org feed and so learn of a new transport key by themselves. `now` in seconds
    /// since 1970.
    pub fn told_partners(&self, now: u64) -> impl Iterator<Item = &Partner> {
        let names = self.own_feed_names();
        let shares = move |partner: &Partner| !self.policy.feeds_for(&self.viewer(&partner.name), &names, now as i64).is_empty();
        self.book.values().filter(move |partner| shares(partner) || self.owes_keys(partner))
    }

    /// Who else than this party has this name on the network: another partner, or we ourselves, with a key that is not in
    /// use yet too. Anybody may state any public key, so that a name belongs to who had it first.
    pub fn holder(&self, peer: &str, party: &PartyId) -> Option<&str> {
        let named = || self.orgs[&self.party].key(Role::Transport).map(peer_id_text);
        if self.peer == peer || named().is_some_and(|ours| ours == peer) {
            return Some(&self.name);
        }
        self.book.values().find(|other| other.party != *party && other.answers_to(peer)).map(|other| other.name.as_str())
    }

    /// Partners whose org feed gives them the name of somebody else, and whose: our book keeps their old name.
    pub fn misnamed(&self) -> impl Iterator<Item = (&Partner, &str)> {
        self.book.values().filter_map(|partner| {
            let newest = names(self.orgs.get(&partner.party)?).pop()?;
            Some((partner, self.holder(&newest, &partner.party)?))
        })
    }

    /// A partner under the newest name that its org feed gives it, if that is another than our book's.
    pub(super) fn renamed(&self, org: &Org, partner: &Partner) -> Result<Option<Partner>, AcceptError> {
        renamed(org, partner, |peer| self.holder(peer, &partner.party).is_some())
    }
}

impl Feeds {
    /// A partner holds our org feed up to here: it may be the last one that our new transport key waited for.
    pub fn partner_holds_org(&mut self, partner: &str, size: u64, now: u64) -> Result<(), FeedError> {
        let Some(moving) = self.snapshot.moving.clone().filter(|moving| moving.entry < size && !moving.known_by.contains(partner)) else {
            return Ok(());
        };
        let mut moving = moving;
        moving.known_by.insert(partner.to_owned());
        let mut batch = Batch::new();
        batch.push(moving.state());
        self.commit(batch)?;
        self.snapshot.moving = Some(moving);
        self.show();
        self.move_when_known(now).map(drop)
    }

    /// Takes a new transport key into use, if there is one and every partner that learns of it by itself knows it.
    pub fn move_when_known(&mut self, now: u64) -> Result<bool, FeedError> {
        let Some(moving) = &self.snapshot.moving else {
            return Ok(false);
        };
        let all_know = self.snapshot.told_partners(now).all(|partner| moving.known_by.contains(&partner.name));
        if all_know {
            self.move_now()?;
        }
        Ok(all_know)
    }

    /// Takes a new transport key into use, whoever knows it. The old secret goes with that.
    pub fn move_now(&mut self) -> Result<(), FeedError> {
        // A crash after this commit is made good at the next start: what is named and not moving takes its place.
        self.commit_state(key::MOVING.into(), None)?;
        self.snapshot.moving = None;
        if let Some(keys) = self.keys.settle(&self.snapshot.orgs[&self.snapshot.party], false)? {
            self.keys = Arc::new(keys);
        }
        self.snapshot.peer = peer_id_text(&self.keys.transport());
        self.show();
        Ok(())
    }

    /// A partner is connected under one of its names: those before it are names no more.
    pub fn partner_is_at(&mut self, name: &str, peer: &str) -> Result<(), FeedError> {
        let Some(known) = self.snapshot.book.get(name).filter(|known| !known.before.is_empty()) else {
            return Ok(());
        };
        let over = if known.peer == peer { known.before.len() } else { known.before.iter().position(|one| one == peer).unwrap_or(0) };
        match over {
            0 => Ok(()),
            _ => self.put_partner(Partner { before: known.before[over..].to_vec(), ..known.clone() }),
        }
    }
}

/// Every name on the network that an org feed ever gave its owner, the newest last.
pub fn names(org: &Org) -> Vec<String> {
    let named = |entry: &OrgEntry| match entry {
        OrgEntry::Keyring { keys, .. } => keys.get(&Role::Transport).map(peer_id_text),
        OrgEntry::Rotation { role: Role::Transport, key, .. } => Some(peer_id_text(key)),
        _ => None,
    };
    org.statements().filter_map(named).collect()
}

/// A partner under the name that its org feed gives it, if that is another than our book's. Former ones are accepted while
/// they may be in use; one that is `taken` counts for nothing. An error when the org feed never had the name we know.
fn renamed(org: &Org, partner: &Partner, taken: impl Fn(&str) -> bool) -> Result<Option<Partner>, AcceptError> {
    let mut names = names(org);
    let Some(last) = names.pop().filter(|last| *last != partner.peer) else {
        return Ok(None);
    };
    let known = names.iter().position(|name| *name == partner.peer).ok_or(AcceptError::TransportKey)?;
    if taken(&last) {
        return Ok(None);
    }
    let former = partner.before.iter().cloned().chain(names.split_off(known));
    let mut before: Vec<String> = former.filter(|name| !taken(name)).collect();
    before.drain(..before.len().saturating_sub(BEFORE_MAX));
    Ok(Some(Partner { peer: last, before, ..partner.clone() }))
}

#[cfg(test)]
mod tests {
    use lotline_schema::cose::Signer;
    use lotline_schema::org::{self, Places};

    use super::*;
    use crate::keys::{Founding, random};

    fn partner(peer: String, before: Vec<String>) -> Partner {
        let party = Founding::new().party();
        Partner { name: "oem".into(), party, peer, before, addresses: vec![], feed: "f-1".into(), subscribed: true, added: 1 }
    }

    #[test]
    fn a_partner_is_stored_as_in_earlier_stores_when_it_has_one_name() {
        for (before, parts) in [(vec![], 7), (vec!["a".to_owned(), "b".to_owned()], 8)] {
            let partner = partner("c".into(), before);
            let bytes = partner.to_bytes();
            assert_eq!(codec::as_array(&take(&bytes, "partner").unwrap()).unwrap().len(), parts);
            assert_eq!(Partner::read(&bytes).unwrap(), partner);
        }
    }

    #[test]
    fn a_partner_gets_the_name_of_its_newest_key_and_keeps_those_it_may_still_use() {
        let founding = Founding::new();
        let mut org = Org::new(founding.party());
        let mut state = |entry: &OrgEntry| {
            org.accept(org::seal(&org, entry, 0, &founding.root, random).unwrap().core).unwrap();
            org.clone()
        };
        let first = state(&OrgEntry::keyring("ACME", founding.public()));
        let keys = [7, 8].map(|seed| Signer::from_seed(&[seed; 32]).public());
        let rotation = |key| OrgEntry::Rotation { role: Role::Transport, key, from: Places::new(), reason: String::new() };
        state(&rotation(keys[0]));
        let last = state(&rotation(keys[1]));
        let names = [peer_id_text(&founding.public()[&Role::Transport]), peer_id_text(&keys[0]), peer_id_text(&keys[1])];
        let known = |name: &str| partner(name.to_owned(), Vec::new());
        let renamed = |org: &Org, partner: &Partner| renamed(org, partner, |_| false);
        assert_eq!(renamed(&first, &known(&names[0])).unwrap(), None);
        for (at, before) in [(0, &names[..2]), (1, &names[1..2])] {
            let new = renamed(&last, &known(&names[at])).unwrap().unwrap();
            assert_eq!((new.peer.as_str(), new.before.as_slice()), (names[2].as_str(), before));
            assert!(new.answers_to(&names[2]) && new.answers_to(&names[1]) && new.answers_to(&names[0]) == (at == 0));
        }
        assert_eq!(renamed(&last, &known(&names[2])).unwrap(), None);
        assert!(matches!(renamed(&last, &known("12D3KooWsomebody")), Err(AcceptError::TransportKey)));
    }

    #[test]
    fn of_a_partner_with_many_names_the_last_few_are_kept_and_none_that_is_taken() {
        let founding = Founding::new();
        let mut org = Org::new(founding.party());
        let mut names = vec![peer_id_text(&founding.public()[&Role::Transport])];
        org.accept(org::seal(&org, &OrgEntry::keyring("ACME", founding.public()), 0, &founding.root, random).unwrap().core).unwrap();
        for seed in 1..=9 {
            let key = Signer::from_seed(&[seed; 32]).public();
            names.push(peer_id_text(&key));
            let entry = OrgEntry::Rotation { role: Role::Transport, key, from: Places::new(), reason: String::new() };
            org.accept(org::seal(&org, &entry, 0, &founding.root, random).unwrap().core).unwrap();
        }
        let known = partner(names[1].clone(), vec![names[0].clone()]);
        let new = renamed(&org, &known, |_| false).unwrap().unwrap();
        assert_eq!((&new.peer, &new.before[..]), (&names[9], &names[5..9]));
        assert_eq!(new.peers().collect::<Vec<_>>(), [9, 8, 7, 6, 5].map(|at: usize| names[at].as_str()), "the newest first");
        let known = partner(names[7].clone(), vec![names[6].clone()]);
        let new = renamed(&org, &known, |name| name == names[8]).unwrap().unwrap();
        assert_eq!((&new.peer, &new.before[..]), (&names[9], &names[6..8]), "it may still come under what it came under");
        assert_eq!(renamed(&org, &known, |name| name == names[9]).unwrap(), None, "somebody else has it");
    }

    #[test]
    fn who_knows_a_new_key_is_read_back() {
        let mut moving = Moving::begun(4);
        moving.known_by.insert("oem".into());
        let Entry::State { value: Some(value), .. } = moving.state() else { panic!("a state") };
        assert_eq!(Moving::read(&value).unwrap(), moving);
        assert!(Moving::read(b"no").is_err());
    }
}
