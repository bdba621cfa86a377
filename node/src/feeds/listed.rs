//! Member lists of associations that we keep, so that sharing rules can name their members.
//!
//! Whom the owner trusts as an association is decided before a list comes here; from then on only newer lists of that
//! association take its place. A kept list changes no rule: what it means is frozen when rules are applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lotline_policy::MemberList;
use lotline_schema::codec::{self, Value};
use lotline_schema::members::{MembersError, MembersFile, OpenedMembers};
use lotline_schema::{Hash, PartyId};

use super::open::all_states;
use super::state::{StateError, key, put, take};
use super::{FeedError, Feeds, Snapshot};
use crate::store::Reader;

/// A member list that cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Not what it should be.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// It says no end, so nothing says how long its members are members.
    #[error("the list does not say until when it holds")]
    Endless,
    /// It holds no more.
    #[error("the list ended already")]
    Ended,
    /// An older one than the one kept.
    #[error("list {given} is older than list {kept}, which is kept")]
    Older {
        /// Number of the kept one.
        kept: u64,
        /// Number of the one given.
        given: u64,
    },
    /// The association signed two lists under one number.
    #[error("list {0} differs from the list kept under that number: the association signed both")]
    Twice(u64),
    /// The name is another association's.
    #[error("`{0}` is the list of another association")]
    NameTaken(String),
    /// The association's list is kept already, under another name.
    #[error("the list of this association is kept as `{0}`")]
    Known(String),
    /// No such list.
    #[error("no member list is called `{0}`")]
    Unknown(String),
}

/// A member list we keep.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// What we call it.
    pub name: String,
    /// The association.
    pub party: PartyId,
    /// What the association calls itself on the list.
    pub association: String,
    /// Its number: a higher one is newer.
    pub number: u64,
    /// The first second it no longer holds, since 1970.
    pub until: u64,
    /// SHA-256 of the signed list.
    pub hash: Hash,
    /// Its members.
    pub members: BTreeSet<PartyId>,
}

impl Listed {
    /// What is kept of a list that holds; none when it says no end.
    fn of(name: &str, file: &MembersFile, opened: OpenedMembers) -> Option<Listed> {
        Some(Listed {
            name: name.to_owned(),
            party: opened.by.party(),
            number: opened.number,
            until: opened.list.until?,
            hash: Hash::of(&[&file.core]),
            association: opened.list.association,
            members: opened.list.members.into_iter().map(|member| member.party).collect(),
        })
    }
}

impl Feeds {
    /// Keeps the list of an association that the owner trusts, in the place of an older one. Returns it, and the one before.
    pub fn keep_list(&mut self, name: &str, file: &MembersFile, now: u64) -> Result<(Listed, Option<Listed>), FeedError> {
        let list = Listed::of(name, file, file.open().map_err(ListError::from)?).ok_or(ListError::Endless)?;
        let before = self.snapshot.lists.get(name).cloned();
        if let Some(other) = self.snapshot.lists.values().find(|known| known.party == list.party && known.name != name) {
            return Err(ListError::Known(other.name.clone()).into());
        }
        match &before {
            Some(before) if before.party != list.party => return Err(ListError::NameTaken(name.into()).into()),
            Some(before) if list.number < before.number => {
                return Err(ListError::Older { kept: before.number, given: list.number }.into());
            }
            Some(before) if list.number == before.number && list.hash != before.hash => return Err(ListError::Twice(list.number).into()),
            _ => {}
        }
        if list.until <= now {
            return Err(ListError::Ended.into());
        }
        self.commit_state(key::of(key::LISTED, name), Some(put(codec::bytes(file.to_bytes()))))?;
        Arc::make_mut(&mut self.snapshot.lists).insert(name.to_owned(), list.clone());
        self.show();
        Ok((list, before))
    }

    /// Forgets a list. Rules in force keep the members they were applied with.
    pub fn remove_list(&mut self, name: &str) -> Result<Listed, FeedError> {
        let list = self.snapshot.lists.get(name).cloned().ok_or_else(|| ListError::Unknown(name.into()))?;
        self.commit_state(key::of(key::LISTED, name), None)?;
        Arc::make_mut(&mut self.snapshot.lists).remove(name);
        self.show();
        Ok(list)
    }
}

impl Snapshot {
    /// The kept lists as rules know them: with the partners who are on them now.
    pub fn member_lists(&self) -> BTreeMap<String, MemberList> {
        let listed = |list: &Listed| {
            let partners = self.book.values().filter(|partner| list.members.contains(&partner.party));
            let partners = partners.map(|partner| partner.name.clone()).collect();
            MemberList { hash: list.hash, until: i64::try_from(list.until).unwrap_or(i64::MAX), partners }
        };
        self.lists.iter().map(|(name, list)| (name.clone(), listed(list))).collect()
    }
}

/// Every list kept, its signatures checked anew.
pub(super) fn read_lists(reader: &Reader) -> Result<BTreeMap<String, Listed>, FeedError> {
    const WHAT: StateError = StateError("member list");
    let mut lists = BTreeMap::new();
    for (state_key, value) in all_states(reader, key::LISTED.as_bytes())? {
        let name = String::from_utf8_lossy(&state_key[key::LISTED.len()..]).into_owned();
        let Value::Bytes(bytes) = take(&value, "member list")? else {
            return Err(WHAT.into());
        };
        let file = MembersFile::read(&bytes).map_err(|_| WHAT)?;
        let opened = file.open().map_err(ListError::from)?;
        lists.insert(name.clone(), Listed::of(&name, &file, opened).ok_or(WHAT)?);
    }
    Ok(lists)
}
