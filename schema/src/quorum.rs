//! Whose cosignatures count: a quorum file in the form of C2SP tlog-policy.
//!
//! ```text
//! log z6Mk…/quality/1+hash+key        (any number; when there is one, only these logs count)
//! witness oem-a w-1a2b3c4d+hash+key   (a name of the reader's, and the verifier key)
//! group customers 2 oem-a oem-b oem-c (any, all, or a number)
//! quorum customers                    (a witness, a group, or none)
//! ```
//!
//! A witness run by the supplier proves nothing to its customer: who counts is the reader's decision alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::note::{Cosignature, WitnessKey, read_vkey, vkey};

/// The longest file, in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;
/// The most members of a group, and witnesses of a file.
const MEMBERS_MAX: usize = 1000;
/// How deep groups may hold groups.
const DEPTH_MAX: usize = 16;

/// A file that does not say whose cosignatures count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct QuorumError {
    /// Which line, from 1; 0 for the whole file.
    pub line: usize,
    /// What is wrong, and what was expected.
    pub what: String,
}

/// Who must have cosigned.
#[derive(Clone, Debug)]
pub struct Quorum {
    logs: BTreeSet<String>,
    witnesses: BTreeMap<String, WitnessKey>,
    /// Names of witnesses, by what a cosignature says of its key.
    by_mark: BTreeMap<(String, [u8; 4]), String>,
    groups: BTreeMap<String, Group>,
    /// None: no cosignature is asked for.
    goal: Option<String>,
}

#[derive(Clone, Debug)]
struct Group {
    needed: usize,
    members: Vec<String>,
    depth: usize,
}

impl Quorum {
    /// Reads a file.
    ///
    /// ```
    /// use lotline_schema::quorum::Quorum;
    /// assert!(Quorum::read("quorum none\n").is_ok());
    /// assert_eq!(Quorum::read("qurom none\n").unwrap_err().to_string(), "line 1: `qurom` is none of log, witness, group, quorum");
    /// ```
    pub fn read(text: &str) -> Result<Quorum, QuorumError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(QuorumError { line: 0, what: "a quorum file has at most 1 MiB".into() });
        }
        let mut quorum =
            Quorum { logs: BTreeSet::new(), witnesses: BTreeMap::new(), by_mark: BTreeMap::new(), groups: BTreeMap::new(), goal: None };
        let mut goal_seen = false;
        for (at, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let wrong = |what: String| QuorumError { line: at + 1, what };
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["log", key, ..] => quorum.log(key).map_err(wrong)?,
                ["witness", name, key, ..] => quorum.witness(name, key).map_err(wrong)?,
                ["group", name, needed, members @ ..] => quorum.group(name, needed, members).map_err(wrong)?,
                ["quorum", _] if goal_seen => return Err(wrong("a second quorum line".into())),
                ["quorum", "none"] => goal_seen = true,
                ["quorum", name] if quorum.knows(name) => (quorum.goal, goal_seen) = (Some((*name).into()), true),
                ["quorum", name] => return Err(wrong(format!("`{name}` is no witness or group of the lines above"))),
                [word @ ("log" | "witness" | "group" | "quorum"), ..] => {
                    return Err(wrong(format!("a `{word}` line has too few or too many words")));
                }
                [word, ..] => return Err(wrong(format!("`{word}` is none of log, witness, group, quorum"))),
            }
        }
        match goal_seen {
            true => Ok(quorum),
            false => Err(QuorumError { line: 0, what: "there is no quorum line".into() }),
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.witnesses.contains_key(name) || self.groups.contains_key(name)
    }

    fn log(&mut self, key: &str) -> Result<(), String> {
        let (name, read) = read_vkey(key).map_err(|_| format!("`{key}` is no verifier key of a log"))?;
        self.logs.insert(vkey(&name, &read));
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str) -> Result<(), String> {
        let key = WitnessKey::read(key).map_err(|_| format!("`{key}` is no verifier key of a witness"))?;
        if name == "none" || self.knows(name) {
            return Err(format!("the name `{name}` is taken"));
        }
        // One key under two names would count twice.
        if self.witnesses.values().any(|known| *known == key) || self.witnesses.len() == MEMBERS_MAX {
            return Err("this key stands here already, or there are too many".into());
        }
        self.by_mark.entry(key.mark()).or_insert_with(|| name.into());
        self.witnesses.insert(name.into(), key);
        Ok(())
    }

    fn group(&mut self, name: &str, needed: &str, members: &[&str]) -> Result<(), String> {
        if name == "none" || self.knows(name) {
            return Err(format!("the name `{name}` is taken"));
        }
        if let Some(member) = members.iter().find(|member| !self.knows(member)) {
            return Err(format!("`{member}` is no witness or group of the lines above"));
        }
        if members.iter().collect::<BTreeSet<_>>().len() != members.len() || members.is_empty() || members.len() > MEMBERS_MAX {
            return Err("a group has members, and each once".into());
        }
        let depth = members.iter().map(|member| self.depth(member)).max().unwrap_or(0);
        let needed = match needed {
            "any" => 1,
            "all" => members.len(),
            number => number.parse().map_err(|_| format!("`{number}` is none of any, all, or a number"))?,
        };
        if needed == 0 || needed > members.len() || depth >= DEPTH_MAX {
            return Err(format!("a group of {} cannot need {needed}, or groups are nested too deep", members.len()));
        }
        let members = members.iter().map(|member| (*member).into()).collect();
        self.groups.insert(name.into(), Group { needed, members, depth: depth + 1 });
        Ok(())
    }

    fn depth(&self, name: &str) -> usize {
        self.groups.get(name).map_or(0, |group| group.depth)
    }

    /// The witness under whose key a cosignature was made, by the name this file gives it.
    pub fn witness_of(&self, cosignature: &Cosignature) -> Option<(&str, &WitnessKey)> {
        let name = self.by_mark.get(&cosignature.mark())?;
        Some((name, self.witnesses.get(name)?))
    }

    /// Whether a log's verifier key counts.
    pub fn counts_log(&self, vkey: &str) -> bool {
        self.logs.is_empty() || self.logs.contains(vkey)
    }

    /// When the quorum was first reached, given who signed when; none if it was not.
    pub fn reached(&self, signed: &BTreeMap<String, u64>) -> Option<u64> {
        match &self.goal {
            None => signed.values().min().copied().or(Some(0)),
            Some(goal) => Reaching { quorum: self, signed, latest: false, known: BTreeMap::new() }.by(goal),
        }
    }

    /// The latest moment at or after which a whole quorum signed: how fresh the news is. None if it was not reached.
    pub fn newest(&self, signed: &BTreeMap<String, u64>) -> Option<u64> {
        match &self.goal {
            None => signed.values().max().copied().or(Some(0)),
            Some(goal) => Reaching { quorum: self, signed, latest: true, known: BTreeMap::new() }.by(goal),
        }
    }

    /// Whether it asks for any cosignature at all.
    pub fn asks(&self) -> bool {
        self.goal.is_some()
    }
}

/// One evaluation. A group that many groups hold is looked at once: otherwise a small file could keep us busy for years.
struct Reaching<'a> {
    quorum: &'a Quorum,
    signed: &'a BTreeMap<String, u64>,
    latest: bool,
    known: BTreeMap<&'a str, Option<u64>>,
}

impl<'a> Reaching<'a> {
    fn by(&mut self, name: &'a str) -> Option<u64> {
        let quorum: &'a Quorum = self.quorum;
        let Some(group) = quorum.groups.get(name) else {
            return self.signed.get(name).copied();
        };
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let mut times: Vec<u64> = group.members.iter().filter_map(|member| self.by(member)).collect();
        times.sort_unstable();
        if self.latest {
            times.reverse();
        }
        let time = times.get(group.needed - 1).copied();
        self.known.insert(name, time);
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cose::Signer;

    fn key(seed: u8) -> String {
        WitnessKey::opaque(Signer::from_seed(&[seed; 32]).public()).to_string()
    }

    fn file() -> String {
        format!("# who counts\nwitness a {}\nwitness b {}\nwitness c {}\ngroup two 2 a b c\nquorum two\n", key(1), key(2), key(3))
    }

    #[test]
    fn two_of_three_are_reached_when_the_second_has_signed() {
        let quorum = Quorum::read(&file()).unwrap();
        let signed = |of: &[(&str, u64)]| of.iter().map(|(name, time)| ((*name).to_owned(), *time)).collect();
        assert_eq!(quorum.reached(&signed(&[("a", 30), ("c", 10), ("b", 20)])), Some(20));
        assert_eq!(quorum.reached(&signed(&[("a", 30)])), None);
        assert_eq!(quorum.reached(&signed(&[("a", 30), ("stranger", 1)])), None);
    }

    #[test]
    fn the_newest_is_what_a_whole_quorum_signed_last() {
        let newest = |needed: &str, times: [u64; 3]| {
            let quorum = Quorum::read(&file().replace("group two 2", &format!("group two {needed}"))).unwrap();
            let signed: BTreeMap<String, u64> = ["a", "b", "c"].into_iter().map(str::to_owned).zip(times).collect();
            (quorum.reached(&signed), quorum.newest(&signed))
        };
        assert_eq!(newest("any", [10, 90, 50]), (Some(10), Some(90)));
        assert_eq!(newest("2", [10, 90, 50]), (Some(50), Some(50)));
        // All three are asked for, and one of them saw it long ago only.
        assert_eq!(newest("all", [10, 90, 50]), (Some(90), Some(10)));
    }

    #[test]
    fn groups_of_groups_take_no_time() {
        let mut text = format!("witness a {}\nwitness b {}\n", key(1), key(2));
        let names = |layer: usize| (0..60).map(|at| format!("g{layer}-{at}")).collect::<Vec<_>>();
        for layer in 0..15 {
            let below = if layer == 0 { "a b".to_owned() } else { names(layer - 1).join(" ") };
            text += &names(layer).iter().map(|name| format!("group {name} all {below}\n")).collect::<String>();
        }
        // Looked at along every path, that would be 60 to the power of 14 groups: this test would not end.
        let quorum = Quorum::read(&format!("{text}quorum g14-0\n")).unwrap();
        let signed = [("a".to_owned(), 5), ("b".to_owned(), 7)].into();
        assert_eq!((quorum.reached(&signed), quorum.newest(&signed)), (Some(7), Some(5)));
        let deeper = format!("{text}group g15 all g14-0\ngroup g16 all g15\nquorum g16\n");
        assert!(Quorum::read(&deeper).unwrap_err().to_string().contains("nested too deep"));
    }

    #[test]
    fn slips_are_named_with_their_line() {
        for (from, to, what) in [
            ("group two 2", "group two 4", "line 5: a group of 3 cannot need 4"),
            ("group two 2", "group two 0", "line 5: a group of 3 cannot need 0"),
            ("a b c", "a b a", "line 5: a group has members, and each once"),
            ("a b c", "a b d", "line 5: `d` is no witness"),
            ("quorum two", "quorum three", "line 6: `three` is no witness"),
            ("quorum two\n", "", "line 0: there is no quorum line"),
            ("witness b", "witness a", "line 3: the name `a` is taken"),
            ("witness a w-", "witness a x-", "line 2: `x-"),
        ] {
            let text = file().replacen(from, to, 1);
            let error = Quorum::read(&text).unwrap_err().to_string();
            assert!(error.starts_with(what), "{error}");
        }
        let twice = file().replace(&key(2), &key(1));
        assert!(Quorum::read(&twice).unwrap_err().to_string().starts_with("line 3: this key stands here already"));
    }
}
