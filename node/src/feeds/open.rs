//! Founding a home, reading it back at start, and confirming one that was restored.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use lotline_policy::{Policy, Stopped};
use lotline_schema::codec::{self, Value};
use lotline_schema::org::{self, About, Entry as OrgEntry, Org, Role};
use lotline_schema::statement::{Body, Type, Unverified};
use lotline_schema::{Hash, Origin, tree};
use tokio::sync::watch;

use super::state::{Head, Partner, StateError, Summary, key, put, take};
use super::witness::read_witnessed;
use super::{Feed, FeedError, Feeds, Snapshot, feed_state, head_state, push_statement, sign_head};
use crate::keys::{Founding, Keys, random};
use crate::store::{self, Batch, Opened, Reader, Store};

/// What a new home is founded with.
pub struct Founded<'a> {
    /// The organisation's name.
    pub name: &'a str,
    /// Its keys, the root among them.
    pub founding: &'a Founding,
    /// The working keys, as read back from the home.
    pub keys: &'a Keys,
    /// What else the keyring says.
    pub about: About,
}

impl Feeds {
    /// Makes the store of a new home: the org feed with its keyring, signed by the root.
    pub fn found(store_path: &Path, founded: Founded<'_>, now: u64) -> Result<(), FeedError> {
        let (mut store, _) = Store::open(store_path, store::Options::default(), &|_| {})?;
        let party = founded.founding.party();
        let mut org = Org::new(party);
        let (name, keys) = (founded.name.to_owned(), founded.founding.public());
        let entry = OrgEntry::Keyring { name, keys, about: founded.about };
        let sealed = org::seal(&org, &entry, now, &founded.founding.root, random)?;
        org.accept(sealed.core.clone())?;
        let origin = Origin::org(party);
        let mut batch = Batch::new();
        batch.push(feed_state(&origin, 0, true));
        push_statement(&mut batch, 0, 0, sealed, &Summary::default());
        batch.push(head_state(&origin, &sign_head(&origin, org.frontier().clone(), founded.keys)));
        store.commit(batch)?;
        Ok(store.close()?)
    }

    /// Opens the store of a home and reads everything that is kept in memory.
    pub fn open(
        store_path: &Path,
        keys: Arc<Keys>,
        progress: &dyn Fn(store::Progress),
    ) -> Result<(Feeds, Opened, watch::Receiver<Arc<Snapshot>>), FeedError> {
        let (mut store, mut opened) = Store::open(store_path, store::Options::default(), progress)?;
        let mut reader = store.reader();
        if catch_up(&reader, progress).is_err() {
            // An index that a full disk or a crash left half written can fail after it was opened. It is marked by now:
            // opening again rebuilds it from the journal. Once, or a disk that is still full would keep us here.
            store.close()?;
            (store, opened) = Store::open(store_path, store::Options::default(), progress)?;
            reader = store.reader();
            catch_up(&reader, progress)?;
        }
        let feeds = read_feeds(&reader)?;
        let mut orgs = BTreeMap::new();
        for feed in feeds.values().filter(|feed| feed.origin.is_org() && feed.size() > 0) {
            orgs.insert(feed.origin.party(), Arc::new(read_org(&reader, feed)?));
        }
        let own = feeds.values().find(|feed| feed.own && feed.origin.is_org()).ok_or(StateError("own org feed"))?;
        let party = own.origin.party();
        let org = orgs.get(&party).ok_or(StateError("own org feed"))?;
        // A rotation that was cut between its commit and its last file is finished here.
        let keys = keys.settle(org)?.map_or(keys, Arc::new);
        let policy = read_policy(&reader, org)?;
        let snapshot = Snapshot {
            party,
            name: org.name().to_owned(),
            policy: Arc::new(policy),
            book: Arc::new(read_book(&reader)?),
            restored: opened.restored.as_ref().map(ToString::to_string),
            feeds,
            orgs,
        };
        let next_feed = snapshot.feeds.values().map(|feed| feed.id + 1).max().unwrap_or(0);
        let ledger = reader.state(&key::of(key::HEAD, crate::ledger::origin(party).as_str()))?;
        let ledger = ledger.map(|head| Head::read(&head)).transpose()?.unwrap_or_default();
        let count = |name: &str| -> Result<u64, FeedError> {
            let Some(value) = reader.state(name.as_bytes())? else {
                return Ok(0);
            };
            Ok(codec::as_uint(&take(&value, "counter")?).ok_or(StateError("counter"))?)
        };
        let (next_receipt, epoch) = (count(key::RECEIPTS)?, count(key::EPOCH)?);
        let (changed, watching) = watch::channel(Arc::new(snapshot.clone()));
        let (cosigned_to, recent) = (HashMap::new(), HashMap::new());
        let mut feeds = Feeds { store, reader, keys, snapshot, changed, next_feed, ledger, next_receipt, epoch, cosigned_to, recent };
        feeds.carry_ledger_over()?;
        Ok((feeds, opened, watching))
    }

    /// The owner has looked at partners and sharing rules of a restored home and confirms them: each data feed goes on
    /// in its next life, whose org entry names the last size and root this home knows of the old one.
    pub fn confirm_restored(&mut self, now: u64) -> Result<Vec<Origin>, FeedError> {
        self.keys_fit()?;
        // Witness keys of the time before are never used again: what they signed after the backup is unknown here. Before
        // the store is sealed anew: a crash between the two costs a number, and the other way round it would cost the rule.
        let mut batch = Batch::new();
        batch.push(store::Entry::State { key: key::EPOCH.into(), value: Some(put(codec::uint(self.epoch + 1))) });
        let ledger = self.note_restore(&mut batch, now)?;
        self.store.commit(batch)?;
        self.epoch += 1;
        self.ledger = ledger;
        self.store.confirm_restored()?;
        self.snapshot.restored = None;
        let mut renewed = Vec::new();
        for (name, n) in self.newest_lives() {
            // Of a feed opened after the backup nothing is here but its name in the org feed that partners gave back.
            let before = self.snapshot.own_feed(&name).map_or((0, tree::empty_root()), |feed| (feed.size(), feed.head.frontier.root()));
            let origin = Origin::new(self.snapshot.party, &name, n + 1)?;
            self.open_feed(origin.clone(), Some(before), now)?;
            renewed.push(origin);
        }
        self.show();
        Ok(renewed)
    }

    /// Every data feed of ours and its newest life, by what the org feed says.
    pub(super) fn newest_lives(&self) -> BTreeMap<String, u32> {
        let mut lives = BTreeMap::new();
        for origin in self.snapshot.orgs[&self.snapshot.party].feeds().filter_map(|text| text.parse::<Origin>().ok()) {
            let newest = lives.entry(origin.name().to_owned()).or_default();
            *newest = origin.n().max(*newest);
        }
        lives
    }
}

/// Waits until the index is level with the journal, telling how far it is: after a rebuild that is the longest step.
fn catch_up(reader: &Reader, progress: &dyn Fn(store::Progress)) -> Result<(), FeedError> {
    const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(20);
    let total = reader.status().waiting;
    while reader.status().waiting > 0 && !reader.status().index_failed {
        let done = total.saturating_sub(reader.status().waiting);
        progress(store::Progress { step: store::Step::Indexing, done, total });
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(reader.settle()?)
}

/// Key and value of a state.
type StateRow = (Vec<u8>, Vec<u8>);

/// Every state under a prefix, in pages.
pub(super) fn all_states(reader: &Reader, prefix: &[u8]) -> Result<Vec<StateRow>, FeedError> {
    const PAGE: usize = 512;
    let mut all: Vec<StateRow> = Vec::new();
    loop {
        let after = all.last().map(|(key, _)| key.clone());
        let page = reader.states(prefix, after.as_deref(), PAGE)?;
        let last = page.len() < PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

fn read_feeds(reader: &Reader) -> Result<BTreeMap<String, Feed>, FeedError> {
    let mut feeds = BTreeMap::new();
    for (state_key, value) in all_states(reader, key::FEED.as_bytes())? {
        const WHAT: StateError = StateError("feed");
        let name = String::from_utf8_lossy(&state_key[key::FEED.len()..]).into_owned();
        let value = take(&value, "feed")?;
        let [id, Value::Bool(own)] = codec::as_array(&value).unwrap_or_default() else {
            return Err(WHAT.into());
        };
        let head = reader.state(&key::of(key::HEAD, &name))?.map(|head| Head::read(&head)).transpose()?.unwrap_or_default();
        let frozen = reader.state(&key::of(key::FROZEN, &name))?.map(|why| String::from_utf8_lossy(&why).into_owned());
        let view = reader.state(&key::of(key::VIEW, &name))?.and_then(|view| Hash::from_slice(&view));
        let witnessed = reader.state(&key::of(key::WITNESSED, &name))?.map(|value| read_witnessed(&value)).transpose()?;
        let id = codec::as_uint(id).and_then(|id| u32::try_from(id).ok()).ok_or(WHAT)?;
        let origin: Origin = name.parse().map_err(|_| WHAT)?;
        feeds.insert(name, Feed { id, origin, own: *own, head: Arc::new(head), frozen, view, witnessed });
    }
    Ok(feeds)
}

fn read_org(reader: &Reader, feed: &Feed) -> Result<Org, FeedError> {
    let mut entries = Vec::new();
    for row in reader.rows(feed.id, 0, feed.size() as usize)? {
        entries.push(reader.core(&row)?.ok_or(StateError("org feed entry"))?);
    }
    Ok(Org::from_parts(feed.origin.party(), entries, &feed.head.checkpoint)?)
}

fn read_book(reader: &Reader) -> Result<BTreeMap<String, Partner>, FeedError> {
    let mut book = BTreeMap::new();
    for (_, value) in all_states(reader, key::PARTNER.as_bytes())? {
        let partner = Partner::read(&value)?;
        book.insert(partner.name.clone(), partner);
    }
    Ok(book)
}

/// The newest applied policy, its signature checked, with what was stopped since.
fn read_policy(reader: &Reader, org: &Org) -> Result<Policy, FeedError> {
    let newest = first_free(|number| Ok(reader.state(&key::numbered(key::POLICY, number + 1))?.is_some()))?;
    let mut policy = match newest {
        0 => Policy::nothing(),
        number => {
            let core = reader.state(&key::numbered(key::POLICY, number))?.ok_or(StateError("policy"))?;
            let text = open_policy(&core, number, org)?;
            Policy::restore(&text).map_err(|slips| FeedError::Policy(slips.to_string()))?.with_version(number)
        }
    };
    if let Some(stopped) = reader.state(key::STOPPED.as_bytes())? {
        policy = policy.with_stopped(read_stopped(&stopped)?);
    }
    Ok(policy)
}

fn read_stopped(bytes: &[u8]) -> Result<Stopped, FeedError> {
    const WHAT: StateError = StateError("stopped sharing");
    let value = take(bytes, "stopped sharing")?;
    let [Value::Bool(everybody), Value::Array(names)] = codec::as_array(&value).unwrap_or_default() else {
        return Err(WHAT.into());
    };
    let name = |name: &Value| codec::as_text(name).map(str::to_owned).ok_or(WHAT);
    Ok(Stopped { everybody: *everybody, partners: names.iter().map(name).collect::<Result<_, _>>()? })
}

/// The text of a stored policy version, after checking that our record key signed it.
pub(super) fn open_policy(core: &[u8], number: u64, org: &Org) -> Result<String, FeedError> {
    let unverified = Unverified::read(core)?;
    let claims = unverified.claims();
    if claims.typ != Type::Policy || claims.seq != number || claims.issuer != org.issuer() {
        return Err(StateError("policy").into());
    }
    let key = org.key_for(Role::Record, &claims.kid, &claims.origin, number).ok_or(StateError("policy"))?;
    match &unverified.verify(key)?.claims().body {
        Body::Entry(Value::Text(text)) => Ok(text.clone()),
        _ => Err(StateError("policy").into()),
    }
}

/// The first number for which `taken` says no, where the taken ones have no gaps.
pub(super) fn first_free(taken: impl Fn(u64) -> Result<bool, FeedError>) -> Result<u64, FeedError> {
    let mut high = 1;
    while taken(high - 1)? {
        high *= 2;
    }
    let (mut low, mut high) = (high / 2, high - 1);
    while low < high {
        let middle = low + (high - low) / 2;
        if taken(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_free_number_is_found() {
        for count in [0u64, 1, 2, 3, 7, 8, 9, 1000] {
            assert_eq!(super::first_free(|number| Ok(number < count)).unwrap(), count);
        }
    }
}
