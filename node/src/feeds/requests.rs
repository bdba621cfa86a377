//! Requirements of a customer and answers of a supplier: signed here, kept on both sides, sent as letters.
//!
//! A letter is the signed file itself, whether a message of the control stream or a person's mail brings it: one check
//! for both. It changes no rule. Kept is one of each kind a partner: the newest request it sent, and our newest answer to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use lotline_schema::bundle::OrgPart;
use lotline_schema::codec::{self, CodecError, Value};
use lotline_schema::requirements::{Answer, Opened, Requirement, Requirements, RequirementsError, RequirementsFile, Stated};
use lotline_schema::{Hash, Origin, PartyId};

use super::heard::{CHANGES_A_DAY_MAX, Change};
use super::open::all_states;
use super::state::{Partner, StateError, key, put, take};
use super::{FeedError, Feeds, Snapshot};
use crate::keys::random;
use crate::store::Reader;

/// The largest letter that goes over the network, in bytes: half of what a frame holds. A larger one travels as a file.
pub const LETTER_BYTES_MAX: usize = 512 * 1024;

/// A request of ours, with the newest answer to it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// SHA-256 of what was signed.
    pub hash: Hash,
    /// The request.
    pub requirements: Requirements,
    /// The answer, if it came.
    pub answer: Option<Answer>,
}

/// What partners and we have to say to each other about requirements. The files themselves are in the store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Letters {
    /// Our newest request to each supplier, while it is not answered.
    pub asking: BTreeMap<PartyId, Letter>,
    /// The newest request of each customer.
    pub asked: BTreeMap<PartyId, Letter>,
    /// Our answer to it, if there is one; its number is the request's.
    pub answered: BTreeMap<PartyId, Letter>,
}

/// A signed file that is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// Number of the request, given by who asks: a higher one is newer.
    pub number: u64,
    /// SHA-256 of what was signed.
    pub hash: Hash,
    /// Under which key of the state the file stands.
    key: Vec<u8>,
}

/// A letter that does not count.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// Not such a file.
    #[error(transparent)]
    Unreadable(#[from] CodecError),
    /// It does not hold.
    #[error(transparent)]
    Altered(#[from] RequirementsError),
    /// Signed by one that is not in the partner book.
    #[error("signed by one that calls itself {name}, {words}, who is no partner of yours")]
    Stranger {
        /// What it calls itself, made harmless.
        name: String,
        /// The six words of its root.
        words: String,
    },
    /// A key signed it that has ended since.
    #[error("the key that signed it is not {0}'s any more")]
    OldKey(String),
    /// For another organisation.
    #[error("it is for somebody else")]
    Elsewhere,
    /// One that is as new, or newer, is here.
    #[error("a later one is here already")]
    Older,
    /// An answer to nothing we asked.
    #[error("it answers a request that this home did not sign")]
    Unasked,
    /// One more than a day takes in.
    #[error("more than {CHANGES_A_DAY_MAX} came today; it is left for a later connection")]
    TooMany,
}

impl Letters {
    /// What a partner should have from us.
    pub fn to(&self, party: &PartyId) -> Vec<Letter> {
        [&self.asking, &self.answered].into_iter().filter_map(|letters| letters.get(party)).cloned().collect()
    }

    /// The customer's newest request, if we have not answered it.
    pub fn unanswered(&self, party: &PartyId) -> Option<&Letter> {
        self.asked.get(party).filter(|asked| self.answered.get(party).is_none_or(|answer| answer.number < asked.number))
    }
}

impl Letter {
    /// The file.
    pub fn file(&self, reader: &Reader) -> Result<Vec<u8>, FeedError> {
        let value = reader.state(&self.key)?.ok_or(UNREADABLE)?;
        Ok(bytes_of(&value)?)
    }
}

impl Snapshot {
    /// Checks a letter: signed by a partner of ours, by a key that is good as far as we know, and meant for us.
    pub fn open_letter(&self, bytes: &[u8]) -> Result<(RequirementsFile, Opened, Partner), LetterError> {
        let file = RequirementsFile::read(bytes)?;
        let opened = file.open()?;
        let party = opened.by.party();
        let stranger = || LetterError::Stranger { name: crate::certificate::harmless(opened.by.name()), words: party.six_words() };
        let partner = self.partner_of(&party).cloned().ok_or_else(stranger)?;
        if self.orgs.get(&party).is_some_and(|known| !opened.stands_under(known)) {
            return Err(LetterError::OldKey(partner.name));
        }
        let to = match &opened.stated {
            Stated::Requirements(of) => of.to,
            Stated::Answer(of) => of.to,
        };
        if to == self.party { Ok((file, opened, partner)) } else { Err(LetterError::Elsewhere) }
    }
}

impl Feeds {
    /// Signs what we ask of a supplier, under the next number, and keeps it. Returns the number with the file.
    pub fn ask_for(&mut self, to: PartyId, wanted: Vec<Requirement>, now: u64) -> Result<(u64, RequirementsFile), FeedError> {
        self.may_sign()?;
        self.settle()?;
        // What was numbered after a backup is unknown here: after a restore numbers are beyond all before it.
        let last = requests(&self.reader)?.last().map_or(0, |sent| sent.requirements.number);
        let requirements = Requirements { to, number: last.max(self.epoch) + 1, wanted };
        let core = requirements.seal(&self.snapshot.orgs[&self.snapshot.party], now, &self.keys.record, random)?;
        let file = RequirementsFile { org: self.org_part(), core };
        let letter = Letter { number: requirements.number, hash: file.hash(), key: key::numbered(key::WANTED, requirements.number) };
        self.keep_letter(&letter, &file, |letters| &mut letters.asking, to)?;
        Ok((requirements.number, file))
    }

    /// Signs our answer to a customer's request of this number, and keeps it.
    pub fn answer_request(&mut self, number: u64, answer: &Answer, now: u64) -> Result<RequirementsFile, FeedError> {
        self.may_sign()?;
        let core = answer.seal(&self.snapshot.orgs[&self.snapshot.party], now, &self.keys.record, random)?;
        let file = RequirementsFile { org: self.org_part(), core };
        let letter = Letter { number, hash: file.hash(), key: key::of(key::REPLIED, &answer.to.to_string()) };
        self.keep_letter(&letter, &file, |letters| &mut letters.answered, answer.to)?;
        Ok(file)
    }

    /// Keeps a customer's request, however it came.
    pub fn keep_request(&mut self, from: PartyId, requirements: &Requirements, file: &RequirementsFile) -> Result<(), FeedError> {
        let letter = Letter { number: requirements.number, hash: file.hash(), key: key::of(key::DEMANDED, &from.to_string()) };
        match self.snapshot.letters.asked.get(&from) {
            Some(before) if before.hash == letter.hash => Ok(()),
            Some(before) if before.number >= letter.number => Err(LetterError::Older.into()),
            _ => self.keep_letter(&letter, file, |letters| &mut letters.asked, from),
        }
    }

    /// Keeps a letter that came over the network; one that is here already costs nothing.
    pub fn take_letter(&mut self, from: PartyId, stated: &Stated, file: &RequirementsFile) -> Result<(), FeedError> {
        self.settle()?;
        let known = match stated {
            Stated::Requirements(_) => self.snapshot.letters.asked.get(&from).is_some_and(|letter| letter.hash == file.hash()),
            Stated::Answer(answer) => {
                self.reader.state(&key::of(key::ANSWERED, &answer.request.to_string()))? == Some(put(codec::bytes(file.to_bytes())))
            }
        };
        if known {
            return Ok(());
        }
        if !self.heard.allows(from, Change::Letter, self.clock.now()) {
            return Err(LetterError::TooMany.into());
        }
        match stated {
            Stated::Requirements(requirements) => self.keep_request(from, requirements, file),
            Stated::Answer(answer) => self.keep_answer(from, answer, file).map(drop),
        }
    }

    /// Keeps a supplier's answer to a request of ours, however it came. Returns that request.
    pub fn keep_answer(&mut self, from: PartyId, answer: &Answer, file: &RequirementsFile) -> Result<Sent, FeedError> {
        self.settle()?;
        let asked = requests(&self.reader)?.into_iter().find(|sent| sent.hash == answer.request && sent.requirements.to == from);
        let asked = asked.ok_or(LetterError::Unasked)?;
        match &asked.answer {
            Some(before) if before == answer => return Ok(asked),
            Some(before) if before.at > answer.at => return Err(LetterError::Older.into()),
            _ => self.commit_state(key::of(key::ANSWERED, &answer.request.to_string()), Some(put(codec::bytes(file.to_bytes()))))?,
        }
        let letters = Arc::make_mut(&mut self.snapshot.letters);
        if letters.asking.get(&from).is_some_and(|asking| asking.hash == answer.request) {
            letters.asking.remove(&from);
            self.show();
        }
        Ok(asked)
    }

    fn keep_letter(
        &mut self,
        letter: &Letter,
        file: &RequirementsFile,
        kind: fn(&mut Letters) -> &mut BTreeMap<PartyId, Letter>,
        party: PartyId,
    ) -> Result<(), FeedError> {
        self.commit_state(letter.key.clone(), Some(put(codec::bytes(file.to_bytes()))))?;
        kind(Arc::make_mut(&mut self.snapshot.letters)).insert(party, letter.clone());
        self.show();
        Ok(())
    }

    fn org_part(&self) -> OrgPart {
        let party = self.snapshot.party;
        OrgPart::of(&self.snapshot.orgs[&party], &self.snapshot.feeds[&Origin::org(party).to_string()].head.checkpoint)
    }
}

/// The requests we signed, in the order of their numbers.
pub fn requests(reader: &Reader) -> Result<Vec<Sent>, FeedError> {
    let mut sent = Vec::new();
    for (_, value) in all_states(reader, key::WANTED.as_bytes())? {
        let Opened { hash, stated: Stated::Requirements(requirements), .. } = kept(&value)? else {
            return Err(UNREADABLE.into());
        };
        let answer = match reader.state(&key::of(key::ANSWERED, &hash.to_string()))? {
            None => None,
            Some(value) => match kept(&value)?.stated {
                Stated::Answer(answer) => Some(answer),
                Stated::Requirements(_) => return Err(UNREADABLE.into()),
            },
        };
        sent.push(Sent { hash, requirements, answer });
    }
    Ok(sent)
}

/// The newest request of each customer, with our answer to it.
pub fn demands(reader: &Reader) -> Result<Vec<(PartyId, Sent)>, FeedError> {
    let mut demands = Vec::new();
    for (_, value) in all_states(reader, key::DEMANDED.as_bytes())? {
        let Opened { hash, by, stated: Stated::Requirements(requirements), .. } = kept(&value)? else {
            return Err(UNREADABLE.into());
        };
        let reply = reader.state(&key::of(key::REPLIED, &by.party().to_string()))?;
        let answer = match reply.map(|value| kept(&value)).transpose()?.map(|opened| opened.stated) {
            Some(Stated::Answer(answer)) => Some(answer).filter(|answer| answer.request == hash),
            Some(Stated::Requirements(_)) => return Err(UNREADABLE.into()),
            None => None,
        };
        demands.push((by.party(), Sent { hash, requirements, answer }));
    }
    Ok(demands)
}

/// Reads back at start what there is to say.
pub(super) fn read_letters(reader: &Reader) -> Result<Letters, FeedError> {
    let mut letters = Letters::default();
    for Sent { hash, requirements: Requirements { to, number, .. }, answer } in requests(reader)? {
        match answer {
            Some(_) => drop(letters.asking.remove(&to)),
            None => drop(letters.asking.insert(to, Letter { number, hash, key: key::numbered(key::WANTED, number) })),
        }
    }
    for (from, demand) in demands(reader)? {
        let (name, number) = (from.to_string(), demand.requirements.number);
        letters.asked.insert(from, Letter { number, hash: demand.hash, key: key::of(key::DEMANDED, &name) });
        if demand.answer.is_some() {
            let key = key::of(key::REPLIED, &name);
            let hash = kept(&reader.state(&key)?.ok_or(UNREADABLE)?)?.hash;
            letters.answered.insert(from, Letter { number, hash, key });
        }
    }
    Ok(letters)
}

const UNREADABLE: StateError = StateError("request");

fn bytes_of(value: &[u8]) -> Result<Vec<u8>, StateError> {
    match take(value, "request")? {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(UNREADABLE),
    }
}

/// A kept file, its signature checked anew.
fn kept(value: &[u8]) -> Result<Opened, StateError> {
    RequirementsFile::read(&bytes_of(value)?).map_err(|_| UNREADABLE)?.open().map_err(|_| UNREADABLE)
}
