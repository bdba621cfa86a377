//! Which key may sign where: each role has one key after another, and each has its range of places in every feed.

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;

use super::{Places, Role, Standing};
use crate::id::{Hash, thumbprint};

/// One key's time in a role, measured in places, never in hours.
#[derive(Clone, Debug)]
struct Term {
    key: VerifyingKey,
    kid: Hash,
    /// Where it begins; in a feed that is not named, at the beginning.
    from: Places,
    /// Where the next begins, and why there is a next; in a feed that is not named, at the beginning.
    until: Option<(Places, String)>,
}

impl Term {
    fn new(key: VerifyingKey, from: Places) -> Term {
        Term { kid: thumbprint(&key), key, from, until: None }
    }

    fn begins(&self, origin: &str) -> u64 {
        self.from.get(origin).copied().unwrap_or(0)
    }
}

/// Where the first of these terms ends, and why. A later key that begins before its forerunner did revokes that one's
/// forerunners too: a theft may come to light after another rotation.
fn end<'a>(terms: &'a [Term], origin: &str) -> Option<(u64, &'a str)> {
    let ends = terms.iter().filter_map(|term| term.until.as_ref());
    ends.map(|(places, reason)| (places.get(origin).copied().unwrap_or(0), reason.as_str())).min_by_key(|(end, _)| *end)
}

/// All keys of an organisation, by role, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    terms: BTreeMap<Role, Vec<Term>>,
}

impl Keys {
    /// Those of the keyring: good from the beginning of every feed.
    pub(super) fn first(keys: &BTreeMap<Role, VerifyingKey>) -> Keys {
        Keys { terms: keys.iter().map(|(role, key)| (*role, vec![Term::new(*key, Places::new())])).collect() }
    }

    /// A role's next key. Where it begins, all former ones end: also one that an earlier rotation let stand longer.
    pub(super) fn rotate(&mut self, role: Role, key: VerifyingKey, from: &Places, reason: &str) {
        let terms = self.terms.entry(role).or_default();
        for term in terms.iter_mut() {
            let (places, _) = term.until.get_or_insert_with(|| (from.clone(), reason.to_owned()));
            for (origin, end) in places.iter_mut() {
                *end = (*end).min(from.get(origin).copied().unwrap_or(*end));
            }
        }
        terms.push(Term::new(key, from.clone()));
    }

    pub(super) fn current(&self, role: Role) -> Option<&VerifyingKey> {
        Some(&self.terms.get(&role)?.last()?.key)
    }

    pub(super) fn knows(&self, key: &VerifyingKey) -> bool {
        self.terms.values().flatten().any(|term| term.key == *key)
    }

    /// How a key stands at a sequence number; none if it never could sign there.
    pub(super) fn standing(&self, role: Role, kid: &Hash, origin: &str, seq: u64) -> Option<Standing<'_>> {
        let terms = self.terms.get(&role)?;
        let at = terms.iter().position(|term| term.kid == *kid)?;
        let term = &terms[at];
        match end(&terms[at..], origin) {
            _ if seq < term.begins(origin) => None,
            Some((end, reason)) if seq >= end => {
                Some(Standing::Revoked(&term.key, format!("the key that signed it was revoked from entry {end} on: {reason}")))
            }
            _ => Some(Standing::Good(&term.key)),
        }
    }

    /// The keys that may sign a checkpoint of this size. Where one took over both may: the old one has signed that size
    /// already, and the new one signs it again.
    pub(super) fn log_at(&self, origin: &str, size: u64) -> Vec<&VerifyingKey> {
        let terms = self.terms.get(&Role::Log).map(Vec::as_slice).unwrap_or_default();
        let within = |places: &Places| places.get(origin).is_some_and(|end| size <= *end);
        let lasts = |at: usize| terms[at..].iter().filter_map(|term| term.until.as_ref()).all(|(places, _)| within(places));
        (0..terms.len()).filter(|at| size >= terms[*at].begins(origin) && lasts(*at)).map(|at| &terms[at].key).collect()
    }
}
