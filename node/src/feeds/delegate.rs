//! Feeds that one organisation owns and another writes: asking for one, stating it, writing into it, and its end.
//!
//! The owner states a delegation in its org feed and remembers which partner writes; the feed is one of ours from then on,
//! under our rules. Who writes it keeps two keys for it alone and learns from the owner's org feed, and from nowhere else,
//! whether they count. What it writes is the owner's: it goes there whole, and to nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use lotline_schema::codec::{self, Value};
use lotline_schema::cose::Signer;
use lotline_schema::id::pure_key;
use lotline_schema::org::{Delegation, Entry as OrgEntry};
use lotline_schema::request::Request;
use lotline_schema::{Origin, PartyId};

use super::open::all_states;
use super::state::{StateError, key, put, take};
use super::{Feed, FeedError, Feeds, Head, Snapshot, feed_state};
use crate::keys::{Keys, Pen};
use crate::store::{Batch, Entry, Reader};

/// Public keys for records and checkpoints that were made for feeds of others, by owner and name, the newest last.
pub type Asked = BTreeMap<(PartyId, String), Vec<(VerifyingKey, VerifyingKey)>>;

/// The keys themselves.
pub(super) type Pens = BTreeMap<(PartyId, String), Vec<Pen>>;

const DAY: u64 = 86_400;

/// About a feed that one organisation owns and another writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DelegateError {
    /// The user's: nothing was asked for.
    #[error("you have not asked {owner} for a feed `{feed}`")]
    NotAsked {
        /// Whose feed it would be.
        owner: String,
        /// Its name.
        feed: String,
    },
    /// The owner's: it has not stated it, or its org feed with that has not come.
    #[error("{owner} has not delegated the feed `{feed}` to you, as far as is known here")]
    NotStated {
        /// Whose feed it would be.
        owner: String,
        /// Its name.
        feed: String,
    },
    /// Its time is over.
    #[error("nothing more can be published to feed `{feed}` of {owner}: {why}")]
    Over {
        /// Whose feed it is.
        owner: String,
        /// Its name.
        feed: String,
        /// Why.
        why: String,
    },
    /// The user's: the name is taken by a feed that a partner writes.
    #[error("feed `{feed}` is yours, and {writer} writes it")]
    Theirs {
        /// Its name.
        feed: String,
        /// Who writes it.
        writer: String,
    },
    /// The user's: the name is taken by a feed that we write ourselves.
    #[error("you write a feed `{0}` yourself")]
    Ours(String),
    /// The user's: no such delegation, or none that goes on.
    #[error("no delegation of a feed `{0}` goes on")]
    NoDelegation(String),
}

/// A feed that one organisation owns and another writes, as our screens show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delegated {
    /// The feed.
    pub origin: Origin,
    /// Whether it is ours, and a partner writes it; else it is a partner's, and we write it.
    pub ours: bool,
    /// The other side, by its name in the partner book.
    pub with: String,
    /// Whom the org feed names as the writer.
    pub name: String,
    /// The last day, in seconds since 1970.
    pub until: u64,
    /// From which entry on nothing counts, if it was ended.
    pub ended: Option<u64>,
}

/// What the owner stated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    /// The feed.
    pub origin: Origin,
    /// Where the org feed says so; none: it said so before.
    pub entry: Option<u64>,
}

impl Delegated {
    /// Whether it goes on at this moment.
    pub fn goes_on(&self, now: u64) -> bool {
        self.ended.is_none() && now / DAY * DAY <= self.until
    }

    /// Whole days from today to the last one.
    pub fn days_left(&self, now: u64) -> u64 {
        self.until.saturating_sub(now / DAY * DAY) / DAY
    }
}

impl Snapshot {
    /// Whether what is in this feed comes from that partner: its own feeds, and ours that it writes.
    pub fn is_written_by(&self, origin: &Origin, party: &PartyId) -> bool {
        origin.party() == *party || self.writers.get(origin.as_str()) == Some(party)
    }

    /// Whether a feed of ours is to be taken from this partner: it writes it, and its delegation has not ended before the
    /// next entry.
    pub fn is_awaited_from(&self, origin: &Origin, party: &PartyId) -> bool {
        let size = self.feeds.get(origin.as_str()).map_or(0, Feed::size);
        let ended = self.orgs[&self.party].delegation(origin.as_str()).and_then(|of| of.ended).is_some_and(|from| size >= from);
        self.writers.get(origin.as_str()) == Some(party) && !ended
    }

    /// Whether we hold the keys of a feed of another organisation: it was delegated to them.
    pub fn holds_pen(&self, origin: &Origin) -> bool {
        self.granted(&origin.party(), origin.name()).any(|(granted, _)| granted == *origin)
    }

    /// The feeds of this name and owner that were delegated to keys of ours.
    fn granted<'a>(&'a self, owner: &PartyId, name: &str) -> impl Iterator<Item = (Origin, &'a Delegation)> + use<'a> {
        let asked = self.asked.get(&(*owner, name.to_owned())).map(Vec::as_slice).unwrap_or_default();
        let all = self.orgs.get(owner).into_iter().flat_map(|org| org.delegations());
        let mine = all.filter(move |(_, of)| asked.iter().any(|(record, log)| record == of.record_key() && log == of.log_key()));
        mine.filter_map(|(origin, of)| Some((origin.parse().ok()?, of)))
    }

    /// The newest life of another organisation's feed that we may write, if it was begun.
    pub fn delegated_feed(&self, owner: &PartyId, name: &str) -> Option<&Feed> {
        let newest = self.granted(owner, name).map(|(origin, _)| origin).max_by_key(Origin::n)?;
        self.feeds.get(newest.as_str()).filter(|feed| feed.written)
    }

    /// The partner that writes this feed of ours, by its name in the partner book.
    pub fn partner_of_feed(&self, feed: &Feed) -> Option<&str> {
        Some(self.partner_of(self.writers.get(feed.origin.as_str())?)?.name.as_str())
    }

    /// Who writes our feed of this name, if it was delegated.
    pub fn written_by_others(&self, name: &str) -> Option<String> {
        let all = self.orgs[&self.party].delegations();
        let mut of_name = all.filter(|(origin, _)| origin.parse::<Origin>().is_ok_and(|origin| origin.name() == name));
        of_name.next().map(|(_, of)| of.name.clone())
    }

    /// Whether a feed of ours comes from this partner, so that it needs our keys and our word on how long it may go on.
    pub fn delegates_to(&self, party: &PartyId) -> bool {
        self.writers.values().any(|writer| writer == party)
    }

    /// Every feed that one organisation owns and another writes, on either side.
    pub fn delegated(&self) -> Vec<Delegated> {
        let named = |party: &PartyId| self.partner_of(party).map_or_else(|| party.short(), |partner| partner.name.clone());
        let of = |origin: Origin, ours: bool, with: String, of: &Delegation| Delegated {
            origin,
            ours,
            with,
            name: of.name.clone(),
            until: of.until,
            ended: of.ended,
        };
        let ours = self.orgs[&self.party].delegations().filter_map(|(origin, delegation)| {
            let with = self.writers.get(origin).map_or_else(|| "nobody we know".to_owned(), named);
            Some(of(origin.parse().ok()?, true, with, delegation))
        });
        let theirs = self.asked.keys().flat_map(|(owner, name)| {
            self.granted(owner, name).map(move |(origin, delegation)| of(origin, false, named(owner), delegation))
        });
        ours.chain(theirs).collect()
    }
}

impl Feeds {
    /// The keys for a feed that another organisation is asked for: the same as last time, unless those were delegated
    /// already.
    pub fn ask(&mut self, owner: PartyId, name: &str) -> Result<Request, FeedError> {
        self.may_sign()?;
        let place = (owner, name.to_owned());
        let org = self.snapshot.orgs.get(&owner);
        let used = |pen: &&Pen| org.is_some_and(|org| org.delegations().any(|(_, of)| *of.record_key() == pen.record.public()));
        let newest = self.pens.get(&place).and_then(|pens| pens.last());
        let pen = match newest.filter(|pen| !used(pen)) {
            Some(pen) => pen.clone(),
            None => {
                let (pen, mut pens) = (self.keys.make_pen()?, self.pens.get(&place).cloned().unwrap_or_default());
                pens.push(pen.clone());
                let pair = |pen: &Pen| [pen.record.public(), pen.log.public()].map(|key| codec::bytes(*key.as_bytes()));
                let row = put(codec::array(pens.iter().map(|pen| codec::array(pair(pen)))));
                self.commit_state(asked_key(&owner, name), Some(row))?;
                let publics = pens.iter().map(|pen| (pen.record.public(), pen.log.public())).collect();
                Arc::make_mut(&mut self.snapshot.asked).insert(place.clone(), publics);
                self.pens.insert(place, pens);
                self.show();
                pen
            }
        };
        Ok(Request { owner, feed: name.to_owned(), record: pen.record.public(), log: pen.log.public() })
    }

    /// States that a partner writes a feed of ours, in the next free life of its name, until the end of that day. What was
    /// stated before, in a home that was restored since, is only remembered again.
    pub fn delegate(
        &mut self,
        asked: &Request,
        to: PartyId,
        name: &str,
        until: u64,
        root: &Signer,
        now: u64,
    ) -> Result<Granted, FeedError> {
        self.may_sign()?;
        self.is_root(root)?;
        let (party, org) = (self.snapshot.party, &self.snapshot.orgs[&self.snapshot.party]);
        let stated = org.delegations().find(|(_, of)| *of.record_key() == asked.record && *of.log_key() == asked.log);
        let known = stated.and_then(|(origin, _)| origin.parse::<Origin>().ok());
        if self.snapshot.own_feed(&asked.feed).is_some() || self.newest_lives().contains_key(&asked.feed) {
            return Err(DelegateError::Ours(asked.feed.clone()).into());
        }
        let mut batch = Batch::new();
        let (origin, stated) = match known {
            Some(origin) => (origin, None),
            None => {
                let lives = org.feeds().filter_map(|text| text.parse::<Origin>().ok()).filter(|origin| origin.name() == asked.feed);
                let origin = Origin::new(party, &asked.feed, lives.map(|origin| origin.n()).max().unwrap_or(0) + 1)?;
                let (name, record, log) = (name.to_owned(), asked.record, asked.log);
                let entry = OrgEntry::Delegation { name, origin: origin.clone(), record, log, until };
                (origin, Some(self.append_org_by(&mut batch, &entry, root, &self.keys, now)?))
            }
        };
        let text = origin.to_string();
        batch.push(Entry::State { key: key::of(key::WRITER, &text), value: Some(put(codec::text(to.to_string()))) });
        let id = self.next_feed;
        let fresh = !self.snapshot.feeds.contains_key(&text);
        if fresh {
            batch.push(feed_state(&origin, id, false));
        }
        self.commit(batch)?;
        let entry = stated.as_ref().map(|(org, _)| org.size() - 1);
        if let Some((org, head)) = stated {
            self.take_org(org, head);
        }
        Arc::make_mut(&mut self.snapshot.writers).insert(text, to);
        match fresh {
            true => self.take_feed(Feed {
                id,
                origin: origin.clone(),
                ours: true,
                written: false,
                head: Arc::new(Head::default()),
                level: None,
                frozen: None,
                view: None,
                witnessed: None,
            }),
            false => self.show(),
        }
        Ok(Granted { origin, entry })
    }

    /// States that a delegation ends: entries from this one on are not vouched for. Returns the place of that statement.
    pub fn end_delegation(&mut self, origin: &Origin, from: u64, root: &Signer, now: u64) -> Result<u64, FeedError> {
        let goes_on = self.snapshot.orgs[&self.snapshot.party].delegation(origin.as_str()).is_some_and(|of| of.ended.is_none());
        if !goes_on {
            return Err(DelegateError::NoDelegation(origin.name().to_owned()).into());
        }
        self.state_by_root(&OrgEntry::DelegationEnd { origin: origin.clone(), from }, root, now)
    }

    /// Whether a record could be published now to a feed of another organisation, and its origin.
    pub fn may_write(&self, owner: PartyId, name: &str, now: u64) -> Result<Origin, FeedError> {
        self.may_sign()?;
        let whose = || self.snapshot.partner_of(&owner).map_or_else(|| owner.short(), |partner| partner.name.clone());
        let feed = name.to_owned();
        if !self.pens.contains_key(&(owner, feed.clone())) {
            return Err(DelegateError::NotAsked { owner: whose(), feed }.into());
        }
        let newest = self.snapshot.granted(&owner, name).max_by_key(|(origin, _)| origin.n());
        let Some((origin, delegation)) = newest else {
            return Err(DelegateError::NotStated { owner: whose(), feed }.into());
        };
        let size = self.snapshot.feeds.get(origin.as_str()).map_or(0, Feed::size);
        match delegation.over(size, now / DAY * DAY) {
            Some(why) => Err(DelegateError::Over { owner: whose(), feed, why }.into()),
            None => Ok(origin),
        }
    }

    /// Begins a feed of another organisation, if it was delegated to us and is not begun: its first entry points to the org
    /// feed of its owner.
    pub(super) fn ensure_delegated(&mut self, owner: PartyId, name: &str, now: u64) -> Result<Origin, FeedError> {
        let origin = self.may_write(owner, name, now)?;
        if self.snapshot.delegated_feed(&owner, name).is_some() {
            return Ok(origin);
        }
        let (org, mut batch) = (self.snapshot.orgs[&owner].clone(), Batch::new());
        let (record, log) = self.pen(&origin).map(|(record, log)| (record.clone(), log.clone())).expect("delegated to keys of ours");
        let feed = self.begin(&mut batch, self.next_feed, origin.clone(), &org, (&record, &log), now)?;
        self.commit(batch)?;
        self.take_feed(feed);
        Ok(origin)
    }

    /// Puts into a batch that no key made for a feed of others is used any more.
    pub(super) fn forget_pens(&self, batch: &mut Batch) {
        for (owner, name) in self.pens.keys() {
            batch.push(Entry::State { key: asked_key(owner, name), value: None });
        }
    }
}

fn asked_key(owner: &PartyId, name: &str) -> Vec<u8> {
    key::of(key::ASKED, &format!("{owner}/{name}"))
}

/// Feeds we asked others for: their public keys, and the keys themselves, which lie in files. Files of no row were made for
/// a request that never was.
pub(super) fn read_asked(reader: &Reader, keys: &Keys) -> Result<(Asked, Pens), FeedError> {
    const WHAT: StateError = StateError("keys of a feed asked for");
    let (mut asked, mut pens) = (Asked::new(), BTreeMap::new());
    for (state_key, value) in all_states(reader, key::ASKED.as_bytes())? {
        let name = String::from_utf8_lossy(&state_key[key::ASKED.len()..]).into_owned();
        let (owner, name) = name.rsplit_once('/').ok_or(WHAT)?;
        let place = (owner.parse::<PartyId>().map_err(|_| WHAT)?, name.to_owned());
        let value = take(&value, "keys of a feed asked for")?;
        let key = |value: &Value| codec::as_bytes(value).and_then(pure_key).ok_or(WHAT);
        let pair = |value: &Value| match codec::as_array(value).unwrap_or_default() {
            [record, log] => Ok((key(record)?, key(log)?)),
            _ => Err(WHAT),
        };
        let pairs = codec::as_array(&value).ok_or(WHAT)?.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
        let read = pairs.iter().map(|(record, log)| keys.pen(record, log)).collect::<Result<Vec<_>, _>>()?;
        pens.insert(place.clone(), read);
        asked.insert(place, pairs);
    }
    let known: Vec<VerifyingKey> = asked.values().flatten().flat_map(|(record, log)| [*record, *log]).collect();
    keys.keep_pens(&known)?;
    Ok((asked, pens))
}

/// Which partner writes each feed of ours that was delegated.
pub(super) fn read_writers(reader: &Reader) -> Result<BTreeMap<String, PartyId>, FeedError> {
    const WHAT: StateError = StateError("writer of a feed");
    let mut writers = BTreeMap::new();
    for (state_key, value) in all_states(reader, key::WRITER.as_bytes())? {
        let party = codec::as_text(&take(&value, "writer of a feed")?).and_then(|text| text.parse().ok()).ok_or(WHAT)?;
        writers.insert(String::from_utf8_lossy(&state_key[key::WRITER.len()..]).into_owned(), party);
    }
    Ok(writers)
}
