//! One change of policy.toml and of what is in force, together: shown, confirmed, applied; or neither is touched.

use std::io::Write as _;
use std::ops::Range;
use std::path::PathBuf;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::answer::{Answer, Failure, exit};
use crate::cli::{confirmed, policy};
use crate::desk::Desk;
use crate::service::now;

/// What the comment above a rule of ours ends with: it goes when the rule goes.
const SIGNATURE: &str = "by lotline share";

/// The rules as they stand in the file and in force.
pub struct RuleFile {
    path: PathBuf,
    /// The file as it was found; none: there was none.
    found: Option<Vec<u8>>,
    /// What it says, and what is in force.
    pub text: String,
    version: u64,
}

/// How a change is confirmed.
#[derive(Clone, Copy)]
pub struct Consent {
    /// Nobody is asked.
    pub yes: bool,
    /// Nothing is done.
    pub dry_run: bool,
}

impl RuleFile {
    /// Reads it. A file with edits that are not in force is refused: they would take effect without having been meant now.
    pub fn open(desk: &Desk) -> Result<RuleFile, Failure> {
        let path = desk.home.policy_file();
        // What a link names is replaced, not the link.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let found = match std::fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => None,
            Err(why) => return Err(Failure::new(format!("cannot read `{}`: {why}", path.display()))),
        };
        let in_force = desk.handle.snapshot().policy.clone();
        if found.as_ref().is_some_and(|found| found != in_force.text().as_bytes()) {
            return Err(Failure::new("policy.toml has edits that are not in force, and this would apply them too")
                .exit(exit::USAGE)
                .hint("apply them first with `lotline policy apply`, or undo them (`lotline policy show` prints what is in force)"));
        }
        Ok(RuleFile { path, found, text: in_force.text().to_owned(), version: in_force.version() })
    }

    /// A text with a rule behind all others, and a line in words above it.
    pub fn with_rule(text: &str, words: &str, day: &str, rule: &str) -> String {
        let gap = match text {
            "" => "",
            text if text.ends_with('\n') => "\n",
            _ => "\n\n",
        };
        format!("{text}{gap}# {words}. Added {day} {SIGNATURE}\n{rule}")
    }

    /// The file without a share, its comment lines inside, and the line that `share with` wrote above it. None: it is not
    /// written as [[share]].
    pub fn without_share(text: &str, name: &str) -> Option<String> {
        let table = DeTable::parse(text).ok()?;
        let shares = table.get_ref().get("share")?.get_ref().as_array()?.iter();
        let tables = shares.filter_map(|share| share.get_ref().as_table());
        let share = tables.into_iter().find(|share| share.get("name").and_then(|name| name.get_ref().as_str()) == Some(name))?;
        let first = share.keys().map(|key| key.span().start).min()?;
        let last = share.values().map(|value: &Spanned<DeValue<'_>>| value.span().end).max()?;
        let lines = line_ranges(text);
        let header = lines.iter().rposition(|line| line.start < first && text[line.clone()].trim_start().starts_with("[["))?;
        let last = lines.iter().position(|line| last <= line.end)?;
        let is = |at: usize, what: &dyn Fn(&str) -> bool| lines.get(at).is_some_and(|line| what(text[line.clone()].trim()));
        let mut top = header;
        if top > 0 && is(top - 1, &|line| line.starts_with('#') && line.ends_with(SIGNATURE)) {
            top -= 1;
        }
        if top > 0 && is(top - 1, &str::is_empty) {
            top -= 1;
        }
        Some(format!("{}{}", &text[..lines[top].start], &text[lines[last].end..]))
    }

    /// The file with one more partner in a group, which is made if there is none. A partner that is in it already stays once. None:
    /// the groups are not written below a line `[groups]`, and a new one has no place.
    pub fn with_member(&self, group: &str, partner: &str) -> Option<String> {
        let member = |member: &Spanned<DeValue<'_>>| member.get_ref().as_str() == Some(partner);
        // Read again: a line that looks like the header may stand inside a text.
        self.member_added(group, partner).filter(|text| {
            let parsed = DeTable::parse(text).ok();
            let groups = parsed.as_ref().and_then(|table| table.get_ref().get("groups")).and_then(|groups| groups.get_ref().as_table());
            let members = groups.and_then(|groups| groups.get(group)).and_then(|members| members.get_ref().as_array());
            members.is_some_and(|members| members.iter().any(member))
        })
    }

    fn member_added(&self, group: &str, partner: &str) -> Option<String> {
        let text = &self.text;
        let quoted = |name: &str| Value::from(name).to_string();
        let parsed = DeTable::parse(text).ok();
        let groups = parsed.as_ref().and_then(|table| table.get_ref().get("groups")).and_then(|groups| groups.get_ref().as_table());
        let members = groups.and_then(|groups| groups.get(group));
        let Some(members) = members else {
            // Below [groups], or below everything else.
            let line = format!("{} = [{}]\n", quoted(group), quoted(partner));
            let says_groups = |line: &Range<usize>| {
                let head = text[line.clone()].split('#').next().unwrap_or_default();
                head.chars().filter(|c| !c.is_whitespace()).eq("[groups]".chars())
            };
            return match line_ranges(text).into_iter().find(says_groups) {
                Some(header) if text[header.clone()].ends_with('\n') => {
                    Some(format!("{}{line}{}", &text[..header.end], &text[header.end..]))
                }
                Some(header) => Some(format!("{}\n{line}", &text[..header.end])),
                None if groups.is_some() => None,
                None => {
                    let gap = match text.as_str() {
                        "" => "",
                        text if text.ends_with('\n') => "\n",
                        _ => "\n\n",
                    };
                    Some(format!("{text}{gap}[groups]\n{line}"))
                }
            };
        };
        let is_in =
            members.get_ref().as_array().is_some_and(|members| members.iter().any(|member| member.get_ref().as_str() == Some(partner)));
        if is_in {
            return Some(text.clone());
        }
        let last = members.get_ref().as_array().and_then(|members| members.last().map(|member| member.span().end));
        let at = last.unwrap_or(members.span().start + 1);
        let comma = if last.is_some() { ", " } else { "" };
        Some(format!("{}{comma}{}{}", &text[..at], quoted(partner), &text[at..]))
    }

    /// The file with a partner in no group any more; rules that name it stay as they are.
    pub fn without_member(&self, partner: &str) -> String {
        let mut text = self.text.clone();
        let parsed = DeTable::parse(&self.text).ok();
        let groups = parsed.as_ref().and_then(|table| table.get_ref().get("groups")).and_then(|groups| groups.get_ref().as_table());
        let members = groups.into_iter().flat_map(|groups| groups.values()).filter_map(|members| members.get_ref().as_array());
        let named = members.flat_map(|members| members.iter()).filter(|member| member.get_ref().as_str() == Some(partner));
        let mut spans: Vec<Range<usize>> = named.map(Spanned::span).collect();
        spans.sort_by_key(|span| std::cmp::Reverse(span.start));
        for span in spans {
            // With the comma behind it, or the one before the last.
            let after = text[span.end..].trim_start();
            let end = after.strip_prefix(',').map(|rest| text.len() - rest.trim_start_matches(' ').len());
            let before = text[..span.start].trim_end();
            let start = before.strip_suffix(',').filter(|_| end.is_none()).map_or(span.start, str::len);
            text.replace_range(start..end.unwrap_or(span.end), "");
        }
        text
    }

    /// Puts a changed text in force and into the file, after showing what it does.
    pub fn put(self, desk: &Desk, text: String, words: &str, consent: Consent, more: Value) -> Result<Answer, Failure> {
        let before = desk.handle.snapshot().policy.clone();
        let rules = policy::check(desk, &self.path, &text)?.with_stopped(before.stopped().clone());
        let difference = policy::changes(desk, &before, &rules)?;
        let mut shown = format!("{words}\nWhat changes:\n{}", policy::lines(&difference));
        let mut json = json!({ "changes": difference.words(), "difference": difference, "dry_run": consent.dry_run });
        if let (Some(json), Value::Object(more)) = (json.as_object_mut(), more) {
            json.extend(more);
        }
        if consent.dry_run {
            return Ok(Answer::new(format!("{shown}Nothing was changed: this was a dry run."), json));
        }
        if !consent.yes {
            if desk.board.is_some() {
                return Err(Failure::new(format!("not confirmed. {}", shown.trim_end()))
                    .exit(exit::USAGE)
                    .hint("add --yes when that is what you want"));
            }
            eprint!("{shown}");
            if !confirmed(false, "Put this in force and into policy.toml?") {
                return Err(
                    Failure::new("not confirmed; rules and policy.toml stay as they are").hint("add --yes to confirm without a question")
                );
            }
            shown.clear();
        }
        let version = self.commit(desk, rules, &text)?;
        json["version"] = json!(version);
        Ok(Answer::new(format!("{shown}Version {version} of your rules is in force, and policy.toml says the same."), json))
    }

    /// The new file is on the disk before its rules are applied, and takes its name after: what fails before leaves all as it was.
    fn commit(self, desk: &Desk, rules: lotline_policy::Policy, text: &str) -> Result<u64, Failure> {
        let cannot = |why: std::io::Error| Failure::new(format!("cannot write `{}`: {why}; nothing was changed", self.path.display()));
        let folder = self.path.parent().unwrap_or(desk.home.path());
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(cannot)?;
        file.write_all(text.as_bytes()).map_err(cannot)?;
        if let Ok(before) = std::fs::metadata(&self.path) {
            file.as_file().set_permissions(before.permissions()).map_err(cannot)?;
        }
        file.as_file().sync_all().map_err(cannot)?;
        let overtaken = || Failure::new("the rules or policy.toml were changed meanwhile; nothing was done").hint("look again");
        if std::fs::read(&self.path).ok() != self.found {
            return Err(overtaken());
        }
        let from = self.version;
        let applied = desk.feeds(move |feeds| match feeds.snapshot().policy.version() == from {
            true => feeds.apply_policy(rules, false, now()).map(Some),
            false => Ok(None),
        })?;
        let version = applied.ok_or_else(overtaken)?;
        file.persist(&self.path).map_err(|why| {
            Failure::new(format!("version {version} is in force, but `{}` could not be replaced: {}", self.path.display(), why.error))
                .hint("write into it what `lotline policy show` prints")
        })?;
        crate::platform::sync_folder(folder)?;
        Ok(version)
    }
}

/// Where each line stands, with its line end.
fn line_ranges(text: &str) -> Vec<Range<usize>> {
    let mut at = 0;
    let range = |line: &str| {
        at += line.len();
        at - line.len()..at
    };
    text.split_inclusive('\n').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\n[groups]\nall-of-them = [\"a\"] # here\n\n[[share]]\nname = \"one\"\nshow = [\n  \"identity\", # [[share]]\n]\n\n# kept\n[[never]]\nname = \"n\"\n";

    #[test]
    fn a_partner_joins_a_group_and_all_else_stays() {
        let file = |text: &str| RuleFile { path: PathBuf::new(), found: None, text: text.into(), version: 1 };
        let joined = |text: &str, group: &str| file(text).with_member(group, "oem-b").unwrap();
        assert_eq!(joined("", "all"), "[groups]\n\"all\" = [\"oem-b\"]\n");
        assert_eq!(joined("x = 1", "all"), "x = 1\n\n[groups]\n\"all\" = [\"oem-b\"]\n");
        assert_eq!(joined("[groups] # ours\na = []", "a"), "[groups] # ours\na = [\"oem-b\"]");
        assert_eq!(joined("[groups] # ours\na = []", "b"), "[groups] # ours\n\"b\" = [\"oem-b\"]\na = []");
        assert_eq!(joined("[ groups ]\r\na = [\"x\",]\r\n", "a"), "[ groups ]\r\na = [\"x\", \"oem-b\",]\r\n");
        assert_eq!(joined("groups = { a = [\"x\"] }\n", "a"), "groups = { a = [\"x\", \"oem-b\"] }\n");
        for elsewhere in ["groups = { a = [\"x\"] }\n", "groups.a = []\n"] {
            assert_eq!(file(elsewhere).with_member("b", "oem-b"), None, "a second [groups] would be a slip");
        }
        assert_eq!(file("x = \"\"\"\n[groups]\n\"\"\"\n").with_member("b", "oem-b"), None, "that is no header");
        assert_eq!(joined(FILE, "all-of-them"), FILE.replace("[\"a\"] # here", "[\"a\", \"oem-b\"] # here"));
        let many = "[groups]\na = [\n  \"x\",\n  \"y\", # last\n]\n";
        assert_eq!(joined(many, "a"), many.replace("\"y\", # last", "\"y\", \"oem-b\", # last"));
        for text in ["", FILE, many] {
            let once = joined(text, "a");
            assert_eq!(joined(&once, "a"), once, "twice is once");
            assert!(DeTable::parse(&once).is_ok());
        }
    }

    #[test]
    fn a_partner_leaves_its_groups_and_all_else_stays() {
        let without = |text: &str| RuleFile { path: PathBuf::new(), found: None, text: text.into(), version: 1 }.without_member("b");
        for (members, left) in [
            ("\"b\"", ""),
            ("\"a\", \"b\"", "\"a\""),
            ("\"b\", \"a\"", "\"a\""),
            ("\"a\", \"b\", \"c\"", "\"a\", \"c\""),
            ("\"a\", \"b\",", "\"a\", "),
            ("\"bb\"", "\"bb\""),
        ] {
            let file = |members: &str| format!("# ours\n[groups]\nx = [{members}] # here\ny = [\"c\"]\n\n[[share]]\nwith = \"b\"\n");
            assert_eq!(without(&file(members)), file(left));
        }
        let lines = "[groups]\nx = [\n  \"a\", # first\n  \"b\", # second\n]\n";
        assert!(DeTable::parse(&without(lines)).is_ok() && !without(lines).contains("\"b\""));
        assert_eq!(without("not = toml = at all"), "not = toml = at all");
    }

    #[test]
    fn what_is_added_comes_out_again_byte_for_byte() {
        for before in ["", FILE, "# no rule yet\n", "[[never]]\r\nname = 'n'\r\n"] {
            let added = RuleFile::with_rule(before, "oem-a sees it", "2026-11-23", "[[share]]\nname  = \"two\"\nuntil = \"revoked\"\n");
            assert!(added.starts_with(before), "{added}");
            assert_eq!(RuleFile::without_share(&added, "two").as_deref(), Some(before));
        }
    }

    #[test]
    fn a_share_written_by_hand_goes_and_all_else_stays() {
        let after = RuleFile::without_share(FILE, "one");
        let rest = "# ours\n[groups]\nall-of-them = [\"a\"] # here\n\n# kept\n[[never]]\nname = \"n\"\n";
        assert_eq!(after.as_deref(), Some(rest));
        for (text, name) in [(FILE, "n"), (FILE, "two"), ("share = [{ name = 'one' }]\n", "one"), ("[[share", "one")] {
            assert_eq!(RuleFile::without_share(text, name), None, "{text}");
        }
    }
}
