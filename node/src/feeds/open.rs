//! Founding a home, reading it back at start, and confirming one that was restored.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use lotline_policy::{MemberList, Policy, Stopped};
use lotline_schema::codec::{self, Value};
use lotline_schema::id::peer_id_text;
use lotline_schema::org::{self, About, Entry as OrgEntry, Org, Role};
use lotline_schema::statement::{Body, Type, Unverified};
use lotline_schema::{Hash, Origin, tree};
use tokio::sync::watch;

use super::heard::Heard;
use super::listed::read_lists;
use super::requests::read_letters;
use super::state::{Head, Partner, StateError, Summary, key, put, take};
use super::transport::Moving;
use super::witness::read_witnessed;
use super::{Feed, FeedError, Feeds, Snapshot, delegate, feed_state, head_state, push_statement, sign_head, terms};
use crate::clock::Clock;
use crate::keys::{Founding, Keys, random};
use crate::store::{self, Batch, Entry, Opened, Reader, Store};

/// More receipts than a home signs after one backup, for a clock that cannot be believed.
const RECEIPTS_LOST_MAX: u64 = 1 << 32;
/// More receipts a second than a home ever signs: numbered by the time of the confirmation they are beyond all before it.
const RECEIPTS_A_SECOND: u64 = 1 << 16;

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
        batch.push(head_state(&origin, &sign_head(&origin, org.frontier().clone(), &founded.keys.log)));
        store.commit(batch)?;
        Ok(store.close()?)
    }

    /// Opens the store of a home and reads everything that is kept in memory.
    pub fn open(
        store_path: &Path,
        keys: Arc<Keys>,
        progress: &dyn Fn(store::Progress),
    ) -> Result<(Feeds, Opened, watch::Receiver<Arc<Snapshot>>), FeedError> {
        Feeds::open_by(Clock::system(), store_path, keys, progress)
    }

    /// The same by another clock than the computer's.
    pub fn open_by(
        clock: Clock,
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
        let own = feeds.values().find(|feed| feed.is_own() && feed.origin.is_org()).ok_or(StateError("own org feed"))?;
        let party = own.origin.party();
        let org = orgs.get(&party).ok_or(StateError("own org feed"))?;
        // A rotation that was cut between its commit and its last file is finished here.
        let moving = reader.state(key::MOVING.as_bytes())?.map(|moving| Moving::read(&moving)).transpose()?;
        let keys = keys.settle(org, moving.is_some())?.map_or(keys, Arc::new);
        let (asked, pens) = delegate::read_asked(&reader, &keys)?;
        let policy = read_policy(&reader, org)?;
        let marked = reader.state(key::CLOCK.as_bytes())?.map(|mark| read_count(&mark)).transpose()?;
        clock.begin(marked);
        let snapshot = Snapshot {
            party,
            name: org.name().to_owned(),
            policy: Arc::new(policy),
            book: Arc::new(read_book(&reader)?),
            lists: Arc::new(read_lists(&reader)?),
            letters: Arc::new(read_letters(&reader)?),
            forgettings: 0,
            restored: opened.restored.as_ref().map(ToString::to_string),
            asked: Arc::new(asked),
            writers: Arc::new(delegate::read_writers(&reader)?),
            accepted: Arc::new(terms::read_accepted(&reader, &orgs)?),
            accepting: Arc::new(terms::read_accepting(&reader)?),
            offers: Arc::new(terms::read_offers(&reader)?),
            jumped: clock.jumped(),
            peer: peer_id_text(&keys.transport()),
            moving,
            feeds,
            orgs,
        };
        let next_feed = snapshot.feeds.values().map(|feed| feed.id + 1).max().unwrap_or(0);
        let ledger = reader.state(&key::of(key::HEAD, crate::ledger::origin(party).as_str()))?;
        let ledger = ledger.map(|head| Head::read(&head)).transpose()?.unwrap_or_default();
        let count =
            |name: &str| -> Result<u64, FeedError> { Ok(reader.state(name.as_bytes())?.map_or(Ok(0), |value| read_count(&value))?) };
        let (next_receipt, first_receipt, epoch) = (count(key::RECEIPTS)?, count(key::FIRST_RECEIPT)?, count(key::EPOCH)?);
        let (changed, watching) = watch::channel(Arc::new(snapshot.clone()));
        let (cosigned_to, recent) = (HashMap::new(), HashMap::new());
        let marked = marked.unwrap_or(0);
        let mut feeds = Feeds {
            store,
            clock,
            marked,
            reader,
            keys,
            snapshot,
            changed,
            next_feed,
            ledger,
            next_receipt,
            first_receipt,
            epoch,
            pens,
            cosigned_to,
            recent,
            heard: Heard::default(),
        };
        feeds.carry_ledger_over()?;
        Ok((feeds, opened, watching))
    }

    /// The owner has looked at partners and sharing rules of a restored home and confirms them: each data feed goes on
    /// in its next life, whose org entry names the last size and root this home knows of the old one.
    ///
    /// Invariant: a home that may sign has its next lives. One commit makes all of them, and the store is sealed anew after
    /// it: who is cut between the two is still restored, signs nothing, and confirms again, into lives after these.
    pub fn confirm_restored(&mut self, now: u64) -> Result<Vec<Origin>, FeedError> {
        let renewed = self.renew_lives(now)?;
        self.keys.keep_pens(&[])?;
        self.store.confirm_restored()?;
        self.snapshot.restored = None;
        self.show();
        Ok(renewed)
    }

    /// Everything that a confirmation changes, in one durable commit.
    fn renew_lives(&mut self, now: u64) -> Result<Vec<Origin>, FeedError> {
        self.keys_fit()?;
        let mut renewed = Vec::new();
        for (name, n) in self.newest_lives() {
            // Of a feed opened after the backup nothing is here but its name in the org feed that partners gave back.
            let before = self.snapshot.own_feed(&name).map_or((0, tree::empty_root()), |feed| (feed.size(), feed.head.frontier.root()));
            renewed.push((Origin::new(self.snapshot.party, &name, n + 1)?, Some(before)));
        }
        let mut batch = Batch::new();
        // Witness keys and receipt numbers of the time before are never used again: what was signed with them after the
        // backup is unknown here. One backup may be restored twice, so that counting from it is not enough. Nor are the keys
        // of feeds that others own: a next life of such a feed is its owner's to open.
        let epoch = (self.epoch + 1).max(now);
        let next_receipt = (self.next_receipt + RECEIPTS_LOST_MAX).max(now.saturating_mul(RECEIPTS_A_SECOND));
        batch.push(Entry::State { key: key::EPOCH.into(), value: Some(put(codec::uint(epoch))) });
        for counted in [key::RECEIPTS, key::FIRST_RECEIPT] {
            batch.push(Entry::State { key: counted.into(), value: Some(put(codec::uint(next_receipt))) });
        }
        self.forget_pens(&mut batch);
        let ledger = self.note_restore(&mut batch, now)?;
        let origins = renewed.iter().map(|(origin, _)| origin.clone()).collect();
        self.open_feeds(renewed, batch, now)?;
        (self.epoch, self.next_receipt, self.first_receipt, self.ledger) = (epoch, next_receipt, next_receipt, ledger);
        self.pens.clear();
        self.snapshot.asked = Arc::default();
        Ok(origins)
    }

    /// Every data feed of ours that we write and its newest life, by what the org feed says.
    pub(super) fn newest_lives(&self) -> BTreeMap<String, u32> {
        let (org, mut lives) = (&self.snapshot.orgs[&self.snapshot.party], BTreeMap::new());
        let own = org.feeds().filter(|text| org.delegation(text).is_none());
        for origin in own.filter_map(|text| text.parse::<Origin>().ok()) {
            let newest = lives.entry(origin.name().to_owned()).or_default();
            *newest = origin.n().max(*newest);
        }
        lives
    }
}

fn read_count(value: &[u8]) -> Result<u64, StateError> {
    codec::as_uint(&take(value, "counter")?).ok_or(StateError("counter"))
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
        let [id, Value::Bool(written)] = codec::as_array(&value).unwrap_or_default() else {
            return Err(WHAT.into());
        };
        let head = reader.state(&key::of(key::HEAD, &name))?.map(|head| Head::read(&head)).transpose()?.unwrap_or_default();
        let frozen = reader.state(&key::of(key::FROZEN, &name))?.map(|why| String::from_utf8_lossy(&why).into_owned());
        let view = reader.state(&key::of(key::VIEW, &name))?.and_then(|view| Hash::from_slice(&view));
        let witnessed = reader.state(&key::of(key::WITNESSED, &name))?.map(|value| read_witnessed(&value)).transpose()?;
        let id = codec::as_uint(id).and_then(|id| u32::try_from(id).ok()).ok_or(WHAT)?;
        let origin: Origin = name.parse().map_err(|_| WHAT)?;
        let level = reader.state(&key::of(key::LEVEL, &name))?.map(|head| Head::read(&head)).transpose()?.map(Arc::new);
        feeds.insert(name, Feed { id, origin, ours: false, written: *written, head: Arc::new(head), level, frozen, view, witnessed });
    }
    // Every home writes one org feed, and that says who we are.
    let party = feeds.values().find(|feed| feed.written && feed.origin.is_org()).map(|feed| feed.origin.party());
    feeds.values_mut().for_each(|feed| feed.ours = party == Some(feed.origin.party()));
    Ok(feeds)
}

/// An org feed as far as it is here. It may have come in parts, and ended below the checkpoint that they were sent under.
fn read_org(reader: &Reader, feed: &Feed) -> Result<Org, FeedError> {
    let mut org = Org::new(feed.origin.party());
    for row in reader.rows(feed.id, 0, feed.size() as usize)? {
        org.accept(reader.core(&row)?.ok_or(StateError("org feed entry"))?)?;
    }
    if *org.frontier() != feed.head.frontier {
        return Err(StateError("org feed").into());
    }
    let signed = org.open(&feed.head.checkpoint)?;
    if signed.size <= org.size() {
        org.check(&feed.head.checkpoint)?;
    }
    Ok(org)
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
        number => read_version(reader, org, number)?.policy,
    };
    if let Some(stopped) = reader.state(key::STOPPED.as_bytes())? {
        policy = policy.with_stopped(read_stopped(&stopped)?);
    }
    Ok(policy)
}

/// A version of the rules that was put in force, and the day on which it was.
pub struct AppliedPolicy {
    /// The rules.
    pub policy: Policy,
    /// The first second of that day.
    pub day: u64,
}

/// An applied version, its signature checked. It cannot be put back: a version is good under its own number alone.
pub fn applied_policy(reader: &Reader, snapshot: &Snapshot, version: u64) -> Result<AppliedPolicy, FeedError> {
    read_version(reader, &snapshot.orgs[&snapshot.party], version)
}

fn read_version(reader: &Reader, org: &Org, version: u64) -> Result<AppliedPolicy, FeedError> {
    let core = reader.state(&key::numbered(key::POLICY, version))?.ok_or(StateError("policy"))?;
    let Applied { text, lists, day } = open_policy(&core, version, org)?;
    let policy = Policy::restore_with(&text, &lists).map_err(|slips| FeedError::Policy(slips.to_string()))?;
    Ok(AppliedPolicy { policy: policy.with_version(version), day })
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

/// An applied policy version: its text, the member lists frozen in it, and its day.
pub(super) struct Applied {
    text: String,
    lists: BTreeMap<String, MemberList>,
    day: u64,
}

impl Applied {
    /// What is signed: the text alone, as ever, or with the lists that its rules name.
    pub(super) fn entry(policy: &Policy) -> Value {
        let list = |(name, list): (&String, &MemberList)| {
            let partners = list.partners.iter().map(|partner| codec::text(partner.as_str()));
            (codec::text(name.as_str()), codec::array([codec::bytes(list.hash.0), codec::int(list.until), codec::array(partners)]))
        };
        let text = codec::text(policy.text());
        match policy.lists().is_empty() {
            true => text,
            false => codec::array([text, Value::Map(policy.lists().iter().map(list).collect())]),
        }
    }

    fn read(entry: &Value, day: u64) -> Option<Applied> {
        let list = |(name, list): (&Value, &Value)| {
            let [hash, until, partners] = codec::as_array(list)? else {
                return None;
            };
            let partners = codec::as_array(partners)?.iter().map(|name| codec::as_text(name).map(str::to_owned)).collect::<Option<_>>()?;
            let list = MemberList { hash: Hash::from_slice(codec::as_bytes(hash)?)?, until: codec::as_int(until)?, partners };
            Some((codec::as_text(name)?.to_owned(), list))
        };
        match entry {
            Value::Text(text) => Some(Applied { text: text.clone(), lists: BTreeMap::new(), day }),
            Value::Array(parts) => match &parts[..] {
                [Value::Text(text), Value::Map(lists)] => {
                    Some(Applied { text: text.clone(), lists: lists.iter().map(list).collect::<Option<_>>()?, day })
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// A stored policy version, after checking that our record key signed it.
pub(super) fn open_policy(core: &[u8], number: u64, org: &Org) -> Result<Applied, FeedError> {
    let unverified = Unverified::read(core)?;
    let claims = unverified.claims();
    if claims.typ != Type::Policy || claims.seq != number || claims.issuer != org.issuer() {
        return Err(StateError("policy").into());
    }
    let key = org.key_for(Role::Record, &claims.kid, &claims.origin, number).ok_or(StateError("policy"))?;
    let verified = unverified.verify(key)?;
    match &verified.claims().body {
        Body::Entry(entry) => Ok(Applied::read(entry, verified.claims().day).ok_or(StateError("policy"))?),
        Body::Slots(..) => Err(StateError("policy").into()),
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
    use super::*;
    use crate::store::Progress;

    fn silent(_: Progress) {}

    #[test]
    fn an_older_version_of_the_rules_cannot_be_put_back() {
        const VERSIONS: u64 = 1000;
        let home = Restored::new();
        let mut feeds = home.open();
        feeds.confirm_restored(3).unwrap();
        for _ in 1..=VERSIONS {
            feeds.apply_policy(Policy::nothing(), false, 1).unwrap();
        }
        feeds.settle().unwrap();
        let (reader, snapshot) = (feeds.reader.clone(), feeds.snapshot.clone());
        for version in 1..=VERSIONS {
            assert_eq!(applied_policy(&reader, &snapshot, version).unwrap().policy.version(), version);
            let core = reader.state(&key::numbered(key::POLICY, version)).unwrap().unwrap();
            for other in [version - 1, version + 1, VERSIONS, VERSIONS + 1].into_iter().filter(|other| *other != version) {
                assert!(open_policy(&core, other, &snapshot.orgs[&snapshot.party]).is_err(), "{version} as {other}");
            }
        }
        // Written over the newest, or behind it, it stops the node.
        let old = reader.state(&key::numbered(key::POLICY, 3)).unwrap();
        feeds.commit_state(key::numbered(key::POLICY, VERSIONS + 1), old).unwrap();
        feeds.settle().unwrap();
        assert!(read_policy(&feeds.reader, &snapshot.orgs[&snapshot.party]).is_err());
    }

    /// A home with two data feeds, as a backup puts it back: without its seal.
    struct Restored {
        folder: tempfile::TempDir,
        keys: Arc<Keys>,
    }

    impl Restored {
        fn new() -> Restored {
            let folder = tempfile::tempdir().unwrap();
            let founding = Founding::new();
            founding.write(&folder.path().join("keys")).unwrap();
            let keys = Arc::new(Keys::read(&folder.path().join("keys")).unwrap());
            let about = About::default();
            Feeds::found(&folder.path().join("store"), Founded { name: "ACME", founding: &founding, keys: &keys, about }, 1).unwrap();
            let home = Restored { folder, keys };
            let mut feeds = home.open();
            feeds.ensure_feed("quality", 2).unwrap();
            feeds.ensure_feed("trial", 2).unwrap();
            feeds.close().unwrap();
            home.lose_seal();
            home
        }

        fn open(&self) -> Feeds {
            Feeds::open(&self.folder.path().join("store"), self.keys.clone(), &silent).unwrap().0
        }

        fn lose_seal(&self) {
            std::fs::remove_file(self.folder.path().join("store/seal")).unwrap();
        }

        fn commits(&self) -> u64 {
            store::audit(&self.folder.path().join("store"), &silent).unwrap().commits
        }
    }

    fn lives(feeds: &Feeds) -> Vec<String> {
        feeds.newest_lives().into_iter().map(|(name, n)| format!("{name}/{n}")).collect()
    }

    #[test]
    fn a_confirmation_is_one_commit_and_the_seal_comes_after_it() {
        let home = Restored::new();
        let before = home.commits();
        let mut feeds = home.open();
        assert!(feeds.snapshot().restored.is_some() && feeds.ensure_feed("other", 3).is_err());
        assert_eq!(feeds.confirm_restored(3).unwrap().len(), 2);
        assert_eq!(lives(&feeds), ["quality/2", "trial/2"]);
        feeds.close().unwrap();
        assert_eq!(home.commits(), before + 1, "there is nothing to be cut between");
        let feeds = home.open();
        assert!(feeds.snapshot().restored.is_none() && feeds.snapshot().own_feed("trial").unwrap().origin.n() == 2);
    }

    #[test]
    fn a_confirmation_that_was_cut_before_the_seal_signs_nothing_and_is_made_again() {
        let home = Restored::new();
        let mut feeds = home.open();
        feeds.renew_lives(3).unwrap();
        // Cut here: the threads end, nothing is sealed.
        drop(feeds);
        let mut feeds = home.open();
        let epoch = feeds.epoch;
        assert!(feeds.snapshot().restored.is_some(), "nobody may sign");
        assert!(matches!(feeds.ensure_feed("other", 4), Err(FeedError::Restored(_))));
        feeds.confirm_restored(4).unwrap();
        assert_eq!(lives(&feeds), ["quality/3", "trial/3"], "never a second time in a life that may have been begun");
        assert!(feeds.epoch > epoch);
        feeds.close().unwrap();
        assert_eq!(lives(&home.open()), ["quality/3", "trial/3"]);
        assert!(home.open().snapshot().restored.is_none());
    }

    #[test]
    fn receipts_and_witness_keys_begin_anew_after_each_restore_of_one_backup() {
        const NOW: u64 = 1_795_428_000;
        let home = Restored::new();
        let backup = tempfile::tempdir().unwrap();
        let copy = |from: &Path, to: &Path| {
            for folder in [from.join("store"), from.join("store/journal")] {
                let at = to.join(folder.strip_prefix(from).unwrap());
                std::fs::create_dir_all(&at).unwrap();
                let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap()).filter(|file| file.path().is_file());
                files.for_each(|file| assert!(std::fs::copy(file.path(), at.join(file.file_name())).is_ok()));
            }
        };
        copy(home.folder.path(), backup.path());
        let again = Restored { folder: backup, keys: home.keys.clone() };
        let origin = Origin::new(lotline_schema::PartyId::of(&home.keys.log.public()), "theirs", 1).unwrap();
        let mut used = Vec::new();
        for (home, now) in [(&home, NOW), (&again, NOW + 60)] {
            let mut feeds = home.open();
            let (receipts, key) = (feeds.next_receipt, feeds.witness_key(&origin).to_string());
            feeds.confirm_restored(now).unwrap();
            used.extend([(receipts, key), (feeds.next_receipt, feeds.witness_key(&origin).to_string())]);
            let next = feeds.next_receipt;
            feeds.close().unwrap();
            assert_eq!(home.open().next_receipt, next, "it is stored");
        }
        assert_eq!(used[0], used[2], "one backup");
        assert!(used[1].0 >= used[0].0 + RECEIPTS_LOST_MAX && used[3].0 >= used[1].0 + 60 * RECEIPTS_A_SECOND, "{used:?}");
        assert!(used[1].1 != used[0].1 && used[3].1 != used[1].1 && used[3].1 != used[0].1);
        // A clock before all that: the numbers still go on beyond those of the backup.
        home.lose_seal();
        let mut feeds = home.open();
        feeds.confirm_restored(5).unwrap();
        assert!(feeds.next_receipt >= used[1].0 + RECEIPTS_LOST_MAX);
    }

    #[test]
    fn the_first_free_number_is_found() {
        for count in [0u64, 1, 2, 3, 7, 8, 9, 1000] {
            assert_eq!(super::first_free(|number| Ok(number < count)).unwrap(), count);
        }
    }
}
