//! Requirements of a customer and answers of a supplier: signed here, and kept by whoever asked.

use lotline_schema::bundle::OrgPart;
use lotline_schema::codec::{self, Value};
use lotline_schema::requirements::{Answer, Requirement, Requirements, RequirementsFile, Stated};
use lotline_schema::{Hash, Origin, PartyId};

use super::open::{all_states, first_free};
use super::state::{StateError, key, put, take};
use super::{FeedError, Feeds};
use crate::keys::random;
use crate::store::Reader;

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

impl Feeds {
    /// Signs what we ask of a supplier, under the next number, and keeps it. Returns the number with the file.
    pub fn ask_for(&mut self, to: PartyId, wanted: Vec<Requirement>, now: u64) -> Result<(u64, RequirementsFile), FeedError> {
        self.may_sign()?;
        self.settle()?;
        let first = first_free(|number| Ok(self.reader.state(&key::numbered(key::WANTED, number + 1))?.is_some()))?;
        let requirements = Requirements { to, number: first + 1, wanted };
        let core = requirements.seal(&self.snapshot.orgs[&self.snapshot.party], now, &self.keys.record, random)?;
        let file = RequirementsFile { org: self.org_part(), core };
        self.commit_state(key::numbered(key::WANTED, requirements.number), Some(put(codec::bytes(file.to_bytes()))))?;
        Ok((requirements.number, file))
    }

    /// Signs our answer to a customer's request.
    pub fn answer_request(&mut self, answer: &Answer, now: u64) -> Result<RequirementsFile, FeedError> {
        self.may_sign()?;
        let core = answer.seal(&self.snapshot.orgs[&self.snapshot.party], now, &self.keys.record, random)?;
        Ok(RequirementsFile { org: self.org_part(), core })
    }

    /// Keeps an answer to a request of ours.
    pub fn keep_answer(&mut self, to: &Hash, file: &RequirementsFile) -> Result<(), FeedError> {
        self.commit_state(key::of(key::ANSWERED, &to.to_string()), Some(put(codec::bytes(file.to_bytes()))))
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
        let (hash, Stated::Requirements(requirements)) = kept(&value)? else {
            return Err(UNREADABLE.into());
        };
        let answer = match reader.state(&key::of(key::ANSWERED, &hash.to_string()))? {
            None => None,
            Some(value) => match kept(&value)? {
                (_, Stated::Answer(answer)) => Some(answer),
                _ => return Err(UNREADABLE.into()),
            },
        };
        sent.push(Sent { hash, requirements, answer });
    }
    Ok(sent)
}

const UNREADABLE: StateError = StateError("request");

/// A kept file, its signature checked anew.
fn kept(value: &[u8]) -> Result<(Hash, Stated), StateError> {
    let Value::Bytes(bytes) = take(value, "request")? else {
        return Err(UNREADABLE);
    };
    let opened = RequirementsFile::read(&bytes).map_err(|_| UNREADABLE)?.open().map_err(|_| UNREADABLE)?;
    Ok((opened.hash, opened.stated))
}
