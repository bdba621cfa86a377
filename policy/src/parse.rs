//! From text to a checked policy: every slip is found at once, with its rule, its place, what was meant and the next step.
//!
//! Strict on purpose: the largest danger is a rule that shares more than its writer meant, so what is unknown, missing, void or
//! past is refused, and every value has one spelling.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use lotline_schema::kind::{self, Group, Schema};
use lotline_schema::terms::{DELETE_AFTER_DAYS_MAX, PURPOSE_CHARS_MAX, PURPOSES_MAX, Terms, is_purpose};
use lotline_schema::text_distance;
use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::delay::Delay;
use crate::explain::moment;
use crate::policy::{Feeds, MEMBERS_OF, Masks, MemberList, Only, PURPOSES, Parts, Policy, RELEASED, Rule, Show, TABLES, table_of};
use crate::prove::{Claim, Scope, Sees, Test, Who};

/// The longest policy, in bytes: some thousand rules, more than anybody can oversee.
pub const POLICY_BYTES_MAX: usize = 256 * 1024;
/// The longest name of a rule or group, in characters: it must fit a line of the ledger.
pub const NAME_CHARS_MAX: usize = 64;

/// What a policy is checked against.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// Partners, as the partner book names them.
    pub partners: &'a [String],
    /// Names of our feeds.
    pub feeds: &'a [String],
    /// Part numbers in the store.
    pub parts: &'a BTreeSet<String>,
    /// Lots in the store.
    pub lots: &'a BTreeSet<String>,
    /// Member lists we keep, by the names we gave them.
    pub lists: &'a BTreeMap<String, MemberList>,
    /// The clock, in seconds since 1970.
    pub now: i64,
}

/// An empty world: nobody, nothing, 1970.
impl Default for World<'_> {
    fn default() -> Self {
        static NONE: BTreeSet<String> = BTreeSet::new();
        static LISTS: BTreeMap<String, MemberList> = BTreeMap::new();
        World { partners: &[], feeds: &[], parts: &NONE, lots: &NONE, lists: &LISTS, now: 0 }
    }
}

/// One thing wrong with a policy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Slip {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The rule, if it has a name.
    pub rule: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What was probably meant.
    pub meant: Option<String>,
    /// What to do.
    pub next: String,
}

impl fmt::Display for Slip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if let Some(rule) = &self.rule {
            write!(f, "`{rule}`: ")?;
        }
        write!(f, "{}", self.what)?;
        if let Some(meant) = &self.meant {
            write!(f, " (did you mean `{meant}`?)")?;
        }
        write!(f, "; {}", self.next)
    }
}

/// All that is wrong with a policy, in the order of the file; never empty.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Slips(pub Vec<Slip>);

impl fmt::Display for Slips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Slip::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Slips {}

/// Reads a policy and checks it against the world.
///
/// ```
/// use lotline_policy::{World, parse};
/// let (partners, feeds) = (["oem-a".into()], ["quality".into()]);
/// let world = World { partners: &partners, feeds: &feeds, ..World::default() };
/// let slips = parse("[[never]]\nname = 'mine'\nwith = 'oem-aa'\nshow = 'everything'", &world).unwrap_err();
/// assert_eq!(
///     slips.to_string(),
///     "line 3, column 8: `mine`: no partner or group is called `oem-aa` (did you mean `oem-a`?); \
///      correct the name, or pair with them first",
/// );
/// ```
pub fn parse(text: &str, world: &World<'_>) -> Result<Policy, Slips> {
    read(text, Some(world), world.lists)
}

/// An applied version, with the lists frozen in it.
pub(crate) fn restore(text: &str, lists: &BTreeMap<String, MemberList>) -> Result<Policy, Slips> {
    read(text, None, lists)
}

fn read(text: &str, world: Option<&World<'_>>, lists: &BTreeMap<String, MemberList>) -> Result<Policy, Slips> {
    let mut reader = Reader {
        text,
        world,
        lists,
        slips: Vec::new(),
        groups: BTreeMap::new(),
        new_parts: BTreeSet::new(),
        new_lots: BTreeSet::new(),
        purposes: BTreeSet::new(),
    };
    if POLICY_BYTES_MAX < text.len() {
        reader.slip(None, 0..0, format!("the policy is longer than {POLICY_BYTES_MAX} bytes"), None, "put partners into groups");
        return Err(Slips(reader.slips));
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    let policy = reader.policy(table.get_ref());
    let found = std::mem::take(&mut reader.slips);
    errors.iter().for_each(|error| reader.syntax(error));
    reader.keep(found, &errors);
    if let Some(world) = world.filter(|_| reader.slips.is_empty()) {
        reader.slips.extend(policy.tests.iter().flat_map(|test| failing(test, &policy, world.now)));
    }
    if reader.slips.is_empty() {
        return Ok(policy);
    }
    reader.slips.sort();
    reader.slips.dedup();
    Err(Slips(reader.slips))
}

const SHARE_KEYS: [&str; 13] = ["name", "with", "feed", "parts", "lots", "show", "from", "until", "kinds", "only", "delay", "for", "then"];
const NEVER_KEYS: [&str; 6] = ["name", "with", "show", "parts", "lots", "feed"];
const THEN_KEYS: [&str; 2] = ["delete_after", "pass_on"];
const TEST_KEYS: [&str; 9] = ["who", "sees", "never", "feed", "kind", "part", "lot", "for", "on"];
const TOP_KEYS: [&str; 7] = ["share", "never", "test", "groups", "new_parts", "new_lots", "purposes"];
/// Keys of the top that people write further below, where they would belong to a group or a rule.
const TOP_LISTS: [&str; 3] = ["new_parts", "new_lots", "purposes"];
const ALTERING_KEYS: [&str; 4] = ["as", "mask", "round", "decimals"];

type Value<'t> = Spanned<DeValue<'t>>;

/// The rule being read.
struct Section<'t> {
    share: bool,
    table: &'t DeTable<'t>,
    span: Range<usize>,
    name: Option<String>,
}

struct Reader<'w> {
    text: &'w str,
    /// None: an applied version is read back, only the form counts.
    world: Option<&'w World<'w>>,
    lists: &'w BTreeMap<String, MemberList>,
    slips: Vec<Slip>,
    groups: BTreeMap<String, BTreeSet<String>>,
    new_parts: BTreeSet<String>,
    new_lots: BTreeSet<String>,
    /// Purposes that the file declares.
    purposes: BTreeSet<String>,
}

impl Reader<'_> {
    fn policy(&mut self, table: &DeTable<'_>) -> Policy {
        for key in table.keys() {
            match key.get_ref().as_ref() {
                known if TOP_KEYS.contains(&known) => {}
                other => {
                    let meant = meant(other, TOP_KEYS);
                    let what = format!("`{other}` has no place at the top of a policy");
                    self.slip(
                        None,
                        key.span(),
                        what,
                        meant,
                        "a policy holds [[share]], [[never]], [[test]], [groups], new_parts, new_lots and purposes",
                    );
                }
            }
        }
        if let Some(value) = table.get("new_parts") {
            let parts = self.texts(None, "new_parts", value).unwrap_or_default();
            self.new_parts = parts.into_iter().map(|(part, _)| part).collect();
        }
        if let Some(value) = table.get("new_lots") {
            let lots = self.texts(None, "new_lots", value).unwrap_or_default();
            self.new_lots = lots.into_iter().map(|(lot, _)| lot).collect();
        }
        if let Some(value) = table.get("purposes") {
            self.read_purposes(value);
        }
        if let Some(value) = table.get("groups") {
            self.read_groups(value);
        }
        let sections: Vec<Section<'_>> = [("share", true), ("never", false)]
            .into_iter()
            .filter_map(|(key, share)| Some((key, share, table.get(key)?)))
            .flat_map(|(key, share, value)| self.sections(key, share, value))
            .collect();
        self.check_names(&sections);
        let rules: Vec<(Section<'_>, Rule)> =
            sections.into_iter().filter_map(|section| self.rule(&section).map(|rule| (section, rule))).collect();
        let side = |share: bool| {
            let mut rules: Vec<Rule> = rules.iter().filter(|(section, _)| section.share == share).map(|(_, rule)| rule.clone()).collect();
            rules.sort_by(|a, b| a.name.cmp(&b.name));
            rules
        };
        let (shares, nevers) = (side(true), side(false));
        let tests: Vec<Test> = table.get("test").map(|value| self.tests(value)).unwrap_or_default();
        let tested = tests.iter().flat_map(|test| &test.claims).filter_map(Claim::whom);
        let named =
            shares.iter().chain(&nevers).map(|rule| rule.with.as_str()).chain(tested).filter_map(|with| with.strip_prefix(MEMBERS_OF));
        let lists = named.filter_map(|name| Some((name.to_owned(), self.lists.get(name)?.clone()))).collect();
        let policy = Policy {
            text: self.text.into(),
            groups: self.groups.clone(),
            purposes: self.purposes.clone(),
            shares,
            nevers,
            lists,
            tests,
            ..Policy::default()
        };
        if self.world.is_some() {
            rules.iter().filter(|(section, _)| section.share).for_each(|(section, rule)| self.check_void(&policy, section, rule));
        }
        policy
    }

    fn read_purposes(&mut self, value: &Value<'_>) {
        for (purpose, span) in self.texts(None, "purposes", value).unwrap_or_default() {
            if PURPOSES.contains(&purpose.as_str()) {
                self.slip(None, span, format!("the purpose `{purpose}` is known anyway"), None, "remove it from the list");
            } else if !is_purpose(&purpose) {
                let next = format!("write 1 to {PURPOSE_CHARS_MAX} of a to z, 0 to 9 and the hyphen");
                self.slip(None, span, format!("`{purpose}` is no name for a purpose{}", look_alike(&purpose)), None, next);
            } else if !self.purposes.insert(purpose.clone()) {
                self.slip(None, span, format!("the purpose `{purpose}` is declared twice"), None, "remove it once");
            }
        }
    }

    fn read_groups(&mut self, value: &Value<'_>) {
        let DeValue::Table(table) = value.get_ref() else {
            return self.slip(None, value.span(), "`groups` is no table", None, "write [groups], and below it customers = [\"oem-a\"]");
        };
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if TOP_LISTS.contains(&name) {
                self.slip(None, key.span(), format!("`{name}` is no group"), None, TOP_LISTS_FIRST);
                continue;
            }
            self.check_name(None, name, key.span());
            if name.starts_with(MEMBERS_OF) {
                let what = format!("`{name}` is no name for a group");
                self.slip(None, key.span(), what, None, format!("give it another: with = \"{MEMBERS_OF}…\" names a member list"));
                continue;
            }
            if self.is_partner(name) {
                let what = format!("`{name}` is a partner already");
                self.slip(None, key.span(), what, None, "give the group another name: a rule could mean either");
                continue;
            }
            let mut partners = BTreeSet::new();
            for (partner, span) in self.texts(None, name, value).unwrap_or_default() {
                if let Some(world) = self.world.filter(|world| !world.partners.contains(&partner)) {
                    let nested = table.contains_key(partner.as_str());
                    let what = format!("the group `{name}` names `{partner}`, who is no partner{}", look_alike(&partner));
                    let next = match nested {
                        true => "list the partners of that group: groups hold no groups",
                        false if partner.starts_with(MEMBERS_OF) => "name the list in a rule of its own: groups hold no lists",
                        false => PAIR_FIRST,
                    };
                    self.slip(None, span, what, meant(&partner, world.partners), next);
                }
                partners.insert(partner);
            }
            self.groups.insert(name.into(), partners);
        }
    }

    /// The tables of `[[share]]` or `[[never]]`.
    fn sections<'t>(&mut self, key: &str, share: bool, value: &'t Value<'t>) -> Vec<Section<'t>> {
        let mut sections = Vec::new();
        let next = format!("begin each rule with [[{key}]], in two brackets");
        let DeValue::Array(items) = value.get_ref() else {
            self.slip(None, value.span(), format!("`{key}` is no list of rules"), None, next);
            return sections;
        };
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    let name = table.get("name").and_then(|name| name.get_ref().as_str()).map(str::to_owned);
                    sections.push(Section { share, table, span: item.span(), name });
                }
                _ => self.slip(None, item.span(), format!("`{key}` is no list of rules"), None, next.clone()),
            }
        }
        sections
    }

    fn check_names(&mut self, sections: &[Section<'_>]) {
        let mut first: BTreeMap<&str, Range<usize>> = BTreeMap::new();
        let mut named: Vec<(&str, Range<usize>)> = Vec::new();
        for section in sections {
            if let (Some(name), Some(value)) = (&section.name, section.table.get("name")) {
                named.push((name, value.span()));
            }
        }
        named.sort_by_key(|(_, span)| span.start);
        for (name, span) in named {
            self.check_name(Some(name), name, span.clone());
            match first.get(name) {
                Some(other) => {
                    let what = format!("two rules are called so, the other on line {}", self.place(other.start).0);
                    self.slip(
                        Some(name),
                        span,
                        what,
                        None,
                        "give each rule a name of its own: answers and the ledger speak of rules by name",
                    );
                }
                None => drop(first.insert(name, span)),
            }
        }
    }

    fn check_name(&mut self, rule: Option<&str>, name: &str, span: Range<usize>) {
        let fits = (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control) && name.trim() == name;
        if !fits {
            let next = format!("write 1 to {NAME_CHARS_MAX} characters on one line, without space around them");
            self.slip(rule, span, "the name is empty, too long or not on one line", None, next);
        }
    }

    /// One rule; none where a slip leaves nothing to go on with.
    fn rule(&mut self, section: &Section<'_>) -> Option<Rule> {
        self.check_keys(section);
        let name = self.text(section, "name");
        let with = self.with(section, "with");
        let feed = if section.share || section.table.contains_key("feed") { self.feed(section) } else { Some(Feeds::All) };
        let parts = if section.share || section.table.contains_key("parts") { self.parts(section) } else { Some(Parts::All) };
        let lots = optional(self.lots(section));
        let show = self.show(section);
        let (mut kinds, mut only, mut from, mut until) = (Some(None), Some((None, false)), Some(None), Some(None));
        let (mut delay, mut terms) = (Some(None), Some(None));
        // A never has no such keys: refused above, and it must hold whatever they say.
        if section.share {
            kinds = optional(self.kinds(section));
            only = self.only(section);
            from = optional(section.table.get("from").map(|value| self.day(section, "from", value)));
            until = self.until(section, from.flatten());
            delay = optional(section.table.get("delay").map(|value| self.delay(section, value, kinds.as_ref()?.as_ref())));
            terms = self.terms(section);
        }
        let (name, (with, partners), show) = (name?, with?, show?);
        let list_until = self.list_until(section, &with, from.flatten());
        let (only, released) = only?;
        let masks = show.masks();
        Some(Rule {
            name,
            with,
            partners,
            feed: feed?,
            parts: parts?,
            lots: lots?,
            show,
            kinds: kinds?,
            only,
            released,
            delay: delay?,
            from: from?,
            until: until?,
            list_until,
            terms: terms?,
            masks,
        })
    }

    fn check_keys(&mut self, section: &Section<'_>) {
        let (word, keys) = if section.share { ("share", &SHARE_KEYS[..]) } else { ("never", &NEVER_KEYS[..]) };
        let rule = section.name.as_deref();
        for key in section.table.keys() {
            let (name, span) = (key.get_ref().as_ref(), key.span());
            if keys.contains(&name) {
                continue;
            }
            if ALTERING_KEYS.contains(&name) {
                let what = format!("`{name}`: a field is shown as it was signed or not at all, never masked or rounded");
                self.slip(rule, span, what, None, format!("remove `{name}`"));
            } else if TOP_LISTS.contains(&name) {
                self.slip(rule, span, format!("`{name}` is no key of a rule"), None, TOP_LISTS_FIRST);
            } else if SHARE_KEYS.contains(&name) {
                let what = format!("`{name}` has no place in a never, which holds for every record at all times");
                self.slip(rule, span, what, None, format!("remove `{name}`, or write [[share]] if you mean to show something"));
            } else {
                let what = format!("a {word} has no key `{name}`");
                self.slip(rule, span, what, meant(name, keys.iter().copied()), format!("its keys are {}", keys.join(", ")));
            }
        }
    }

    fn with(&mut self, section: &Section<'_>, key: &str) -> Option<(String, BTreeSet<String>)> {
        let with = self.text(section, key)?;
        let span = section.table.get(key)?.span();
        if let Some(list) = with.strip_prefix(MEMBERS_OF) {
            let partners = self.members_of(section, list, span)?;
            return Some((with, partners));
        }
        if let Some(partners) = self.groups.get(&with).cloned() {
            if partners.is_empty() {
                let what = format!("the group `{with}` is empty, so the rule would touch nobody");
                self.slip(section.name.as_deref(), span, what, None, "add partners to the group, or remove the rule");
            }
            return Some((with, partners));
        }
        if let Some(world) = self.world.filter(|_| !self.is_partner(&with)) {
            let what = format!("no partner or group is called `{with}`{}", look_alike(&with));
            let lists: Vec<String> = self.lists.keys().map(|list| format!("{MEMBERS_OF}{list}")).collect();
            let listed = self.lists.contains_key(&with).then(|| format!("{MEMBERS_OF}{with}"));
            let meant = listed.or(meant(&with, world.partners.iter().chain(self.groups.keys()).chain(&lists)));
            self.slip(section.name.as_deref(), span, what, meant, PAIR_FIRST);
            return None;
        }
        Some((with.clone(), BTreeSet::from([with])))
    }

    /// The partners who are on a member list now, or were when the rules were applied.
    fn members_of(&mut self, section: &Section<'_>, name: &str, span: Range<usize>) -> Option<BTreeSet<String>> {
        let rule = section.name.as_deref();
        let Some(list) = self.lists.get(name) else {
            let what = format!("no member list is called `{name}`{}", look_alike(name));
            self.slip(
                rule,
                span,
                what,
                meant(name, self.lists.keys()),
                "correct the name, or keep the list first with `lotline members add`",
            );
            return None;
        };
        if self.world.is_some_and(|world| list.until <= world.now) {
            let what = format!("the member list `{name}` ended ({}), so nobody is known as a member", moment(list.until));
            self.slip(rule, span, what, None, "get a newer list from the association and keep it with `lotline members add`");
        } else if self.world.is_some() && list.partners.is_empty() {
            let what = format!("no partner of yours is on the member list `{name}`, so the rule would touch nobody");
            self.slip(rule, span, what, None, "pair with a member first, or remove the rule");
        }
        Some(list.partners.clone())
    }

    /// When the list behind a share ends. A never holds on after it: a ban must not lapse because nobody renewed a file.
    fn list_until(&mut self, section: &Section<'_>, with: &str, from: Option<i64>) -> Option<i64> {
        let name = with.strip_prefix(MEMBERS_OF).filter(|_| section.share)?;
        let until = self.lists.get(name)?.until;
        if self.world.is_some_and(|world| world.now < until) && from.is_some_and(|from| until <= from) {
            let what = format!("the member list `{name}` ends ({}) before the share begins, so it would never apply", moment(until));
            let span = section.table.get("with").map_or(section.span.clone(), Spanned::span);
            self.slip(section.name.as_deref(), span, what, None, "let the share begin earlier, or get a newer list");
        }
        Some(until)
    }

    fn feed(&mut self, section: &Section<'_>) -> Option<Feeds> {
        let feed = self.text(section, "feed")?;
        if feed == "all" {
            return Some(Feeds::All);
        }
        if let Some(world) = self.world.filter(|world| !world.feeds.contains(&feed)) {
            let what = format!("no feed is called `{feed}`{}", look_alike(&feed));
            let words = world.feeds.iter().map(String::as_str).chain(["all"]);
            let next = "write the name of one of your feeds, or \"all\"";
            self.slip(section.name.as_deref(), section.table.get("feed")?.span(), what, meant(&feed, words), next);
            return None;
        }
        Some(Feeds::One(feed))
    }

    fn parts(&mut self, section: &Section<'_>) -> Option<Parts> {
        let rule = section.name.as_deref();
        let next = "write a list as [\"P-1\"], or \"theirs\" for lots made for them, or \"all\"";
        let value = self.need(section, "parts", next)?;
        match value.get_ref().as_str() {
            Some("all") => return Some(Parts::All),
            Some("theirs") => return Some(Parts::Theirs),
            Some(other) => {
                let what = format!("`{other}` is not in a list");
                self.slip(rule, value.span(), what, meant(other, ["all", "theirs"]).or(Some(format!("[\"{other}\"]"))), next);
                return None;
            }
            None => {}
        }
        let parts = self.filled(section, "parts", value)?;
        for (part, span) in &parts {
            let Some(world) = self.world.filter(|world| !world.parts.contains(part) && !self.new_parts.contains(part)) else {
                continue;
            };
            let next = match part.as_str() {
                "all" | "theirs" => "write the word without brackets",
                _ => "correct the number, or list it above the first rule as new_parts = [\"…\"] if it is still to come",
            };
            let meant = meant(part, world.parts.iter().chain(&self.new_parts));
            self.slip(rule, span.clone(), format!("no part `{part}` is in the store{}", look_alike(part)), meant, next);
        }
        Some(Parts::List(parts.into_iter().map(|(part, _)| part).collect()))
    }

    fn lots(&mut self, section: &Section<'_>) -> Option<Option<BTreeSet<String>>> {
        let value = section.table.get("lots")?;
        let lots = self.filled(section, "lots", value).unwrap_or_default();
        for (lot, span) in &lots {
            let Some(world) = self.world.filter(|world| !world.lots.contains(lot) && !self.new_lots.contains(lot)) else {
                continue;
            };
            let next = match lot.as_str() {
                "all" => "leave out `lots` if you mean every lot",
                _ => "correct the lot, or list it above the first rule as new_lots = [\"…\"] if it is still to come",
            };
            let meant = meant(lot, world.lots.iter().chain(&self.new_lots));
            self.slip(section.name.as_deref(), span.clone(), format!("no lot `{lot}` is in the store{}", look_alike(lot)), meant, next);
        }
        Some(Some(lots.into_iter().map(|(lot, _)| lot).collect()))
    }

    fn show(&mut self, section: &Section<'_>) -> Option<Show> {
        let rule = section.name.as_deref();
        let next = "write \"everything\", or a list of groups and fields as [\"identity\", \"verdict\"]";
        let value = self.need(section, "show", next)?;
        match value.get_ref().as_str() {
            Some("everything") if section.share => return Some(Show::EverythingButInspector),
            Some("everything") => return Some(Show::Everything),
            Some(other) => {
                let list = is_field(other).then(|| format!("[\"{other}\"]"));
                self.slip(rule, value.span(), format!("`{other}` is not in a list"), list.or(meant(other, ["everything"])), next);
                return None;
            }
            None => {}
        }
        self.fields(section, "show", value).map(Show::Named)
    }

    /// Names of groups, tables of groups and fields.
    fn fields(&mut self, section: &Section<'_>, key: &str, value: &Value<'_>) -> Option<BTreeSet<String>> {
        let names = self.filled(section, key, value)?;
        for (name, span) in names.iter().filter(|(name, _)| !is_field(name)) {
            let what = format!("no group or field is called `{name}`{}", look_alike(name));
            let next = match name.as_str() {
                word @ ("everything" | "nothing") => format!("write {key} = \"{word}\" without brackets"),
                tabled if tabled.contains(':') => {
                    format!("special and other characteristics are told apart in {}", tables().collect::<Vec<_>>().join(", "))
                }
                _ => format!("the groups are {}", Group::ALL.map(Group::name).join(", ")),
            };
            let known: Vec<String> = field_names().map(String::from).chain(tables()).collect();
            self.slip(section.name.as_deref(), span.clone(), what, meant(name, &known), next);
        }
        names.iter().all(|(name, _)| is_field(name)).then(|| names.into_iter().map(|(name, _)| name).collect())
    }

    fn kinds(&mut self, section: &Section<'_>) -> Option<Option<BTreeSet<String>>> {
        let value = section.table.get("kinds")?;
        let kinds = self.filled(section, "kinds", value).unwrap_or_default();
        let known = || kind::known().iter().map(|(schema, _)| schema.name);
        for (kind, span) in kinds.iter().filter(|(kind, _)| !known().any(|known| known == kind)) {
            let next = format!("the kinds are {}", known().collect::<Vec<_>>().join(", "));
            self.slip(section.name.as_deref(), span.clone(), format!("no kind of record is called `{kind}`"), meant(kind, known()), next);
        }
        Some(Some(kinds.into_iter().map(|(kind, _)| kind).collect()))
    }

    /// The verdict lots must have, and whether they must be released: one word or a list of words.
    fn only(&mut self, section: &Section<'_>) -> Option<(Option<Only>, bool)> {
        let Some(value) = section.table.get("only") else {
            return Some((None, false));
        };
        let rule = section.name.as_deref();
        let words = match value.get_ref().as_str() {
            Some(word) => vec![(word.to_owned(), value.span())],
            None => self.filled(section, "only", value)?,
        };
        let next = "write \"conforming\", \"non-conforming\" or \"released\", or a list of them";
        let (mut only, mut released, mut understood) = (None, false, true);
        for (word, span) in words {
            match Only::ALL.into_iter().find(|only| only.name() == word) {
                Some(verdict) if only.is_some_and(|other| other != verdict) => {
                    let what = "no lot is both conforming and non-conforming, so the share would never apply";
                    self.slip(rule, span, what, None, "keep one of the two, or write two shares");
                }
                Some(verdict) => only = Some(verdict),
                None if word == RELEASED => released = true,
                None => {
                    understood = false;
                    let meant = meant(&word, Only::ALL.map(Only::name).into_iter().chain([RELEASED]));
                    self.slip(rule, span, format!("`{word}` is no verdict and not \"released\""), meant, next);
                }
            }
        }
        understood.then_some((only, released))
    }

    /// Outside: was there a slip; inside: none is "until revoked".
    fn until(&mut self, section: &Section<'_>, from: Option<i64>) -> Option<Option<i64>> {
        let value = self.need(section, "until", "write a day as 2027-01-01, or \"revoked\": nothing is shared for ever by accident")?;
        let rule = section.name.as_deref();
        if value.get_ref().as_str() == Some("revoked") {
            return Some(None);
        }
        let until = self.day(section, "until", value)?;
        if from.is_some_and(|from| until <= from) {
            let what = format!("the share ends ({}) before it begins, so it would never apply", moment(until));
            self.slip(rule, value.span(), what, None, "let `until` be later than `from`");
        } else if self.world.is_some_and(|world| until <= world.now) {
            let what = format!("the share ended already ({}), so it would never apply", moment(until));
            self.slip(rule, value.span(), what, None, "give a later day, or remove the share");
        }
        Some(Some(until))
    }

    /// How long a record is held back. Only kinds that say when a record was signed can be.
    fn delay(&mut self, section: &Section<'_>, value: &Value<'_>, kinds: Option<&BTreeSet<String>>) -> Option<Delay> {
        let (rule, text) = (section.name.as_deref(), value.get_ref().as_str());
        let Some(delay) = text.and_then(Delay::read) else {
            let what =
                text.map_or("`delay` is no text".into(), |text| format!("`delay` is hours, days or weeks, and `{text}` is none of them"));
            self.slip(rule, value.span(), what, text.and_then(Delay::meant), "write delay = \"24h\", \"90d\" or \"2w\", or remove it");
            return None;
        };
        let dated = |kinds: &BTreeSet<String>| kind::known().iter().any(|(schema, _)| kinds.contains(schema.name) && says_when(schema));
        if self.world.is_some() && kinds.is_some_and(|kinds| !kinds.is_empty() && !dated(kinds)) {
            let what = "no record of its kinds says when it was signed, so the share would never apply";
            self.slip(rule, value.span(), what, None, "remove `delay`, or name other kinds");
        }
        Some(delay)
    }

    /// What the partner must state that it uses the data for.
    fn purposes(&mut self, section: &Section<'_>) -> Option<BTreeSet<String>> {
        let value = section.table.get("for")?;
        let words = match value.get_ref().as_str() {
            Some(word) => vec![(word.to_owned(), value.span())],
            None => self.filled(section, "for", value).unwrap_or_default(),
        };
        if words.len() > PURPOSES_MAX {
            let what = format!("`for` names more than {PURPOSES_MAX} purposes");
            self.slip(section.name.as_deref(), value.span(), what, None, "write two shares");
        }
        words.iter().for_each(|(word, span)| self.check_purpose(section, word, span.clone()));
        Some(words.into_iter().map(|(word, _)| word).collect())
    }

    fn check_purpose(&mut self, section: &Section<'_>, word: &str, span: Range<usize>) {
        let known = || PURPOSES.into_iter().chain(self.purposes.iter().map(String::as_str));
        if known().any(|known| known == word) {
            return;
        }
        let known: Vec<String> = known().map(str::to_owned).collect();
        let what = format!("no purpose is called `{word}`{}", look_alike(word));
        let next = format!("the purposes are {}; one of your own is listed above the first rule as purposes = [\"…\"]", known.join(", "));
        self.slip(section.name.as_deref(), span, what, meant(word, &known), next);
    }

    /// What the partner must promise: its purposes, and what `then` says. Outside: was there a slip.
    fn terms(&mut self, section: &Section<'_>) -> Option<Option<Terms>> {
        let (purposes, rule) = (self.purposes(section).unwrap_or_default(), section.name.as_deref());
        let mut deleted = None;
        if let Some(value) = section.table.get("then") {
            let next = "write then = { delete_after = \"90d\", pass_on = \"no\" }, or one of the two";
            let Some(table) = value.get_ref().as_table().filter(|table| !table.is_empty()) else {
                self.slip(rule, value.span(), "`then` does not say what the partner promises", None, next);
                return None;
            };
            for key in table.keys().filter(|key| !THEN_KEYS.contains(&key.get_ref().as_ref())) {
                let name = key.get_ref().as_ref();
                let next = format!("its keys are {}", THEN_KEYS.join(", "));
                self.slip(rule, key.span(), format!("`then` has no key `{name}`"), meant(name, THEN_KEYS), next);
            }
            if let Some(value) = table.get("delete_after") {
                deleted = Some(self.delete_after(section, value)?);
            }
            if let Some(value) = table.get("pass_on").filter(|value| value.get_ref().as_str() != Some("no")) {
                let what = "`pass_on` can only be \"no\": what is not forbidden may be passed on";
                self.slip(rule, value.span(), what, None, "write pass_on = \"no\", or remove it");
            }
            let stays = table.contains_key("pass_on");
            return Some(Terms::new(purposes, deleted, stays));
        }
        Some(Terms::new(purposes, None, false))
    }

    /// After how many days the partner deletes what it received.
    fn delete_after(&mut self, section: &Section<'_>, value: &Value<'_>) -> Option<u64> {
        const NEXT: &str = "write delete_after = \"90d\" or \"2w\", or remove it";
        let (rule, text) = (section.name.as_deref(), value.get_ref().as_str());
        let Some(after) = text.and_then(Delay::read) else {
            let what =
                text.map_or("`delete_after` is no text".into(), |text| format!("`delete_after` is days or weeks, and `{text}` is neither"));
            self.slip(rule, value.span(), what, text.and_then(Delay::meant), NEXT);
            return None;
        };
        if text.is_some_and(|text| text.ends_with('h')) {
            let what = "`delete_after` is days or weeks: a node that is off for a night could not keep a promise of hours";
            self.slip(rule, value.span(), what, None, NEXT);
            return None;
        }
        let days = after.seconds().unsigned_abs() / 86_400;
        if days > DELETE_AFTER_DAYS_MAX {
            self.slip(rule, value.span(), "`delete_after` is more than a hundred years", None, NEXT);
            return None;
        }
        Some(days)
    }

    /// Midnight UTC at which a day begins.
    fn day(&mut self, section: &Section<'_>, key: &str, value: &Value<'_>) -> Option<i64> {
        let date = match value.get_ref() {
            DeValue::Datetime(at) if at.time.is_none() && at.offset.is_none() => at.date,
            _ => None,
        };
        let fields =
            date.and_then(|date| Some((i16::try_from(date.year).ok()?, i8::try_from(date.month).ok()?, i8::try_from(date.day).ok()?)));
        let midnight = fields.and_then(|(year, month, day)| Date::new(year, month, day).ok()?.to_zoned(TimeZone::UTC).ok());
        if midnight.is_none() {
            let shown = value.get_ref().as_str().map_or("this".into(), |text| format!("`{text}`"));
            let meant = value.get_ref().as_str().and_then(|text| meant(text, ["revoked"])).filter(|_| key == "until");
            let next = if key == "until" {
                "write 2027-01-01 without quotes and time, or \"revoked\""
            } else {
                "write 2027-01-01 without quotes and time"
            };
            self.slip(section.name.as_deref(), value.span(), format!("`{key}` is a day, and {shown} is none"), meant, next);
        }
        midnight.map(|midnight| midnight.timestamp().as_second())
    }

    /// The tables of `[[test]]`.
    fn tests(&mut self, value: &Value<'_>) -> Vec<Test> {
        let sections = self.sections("test", false, value);
        sections.iter().filter_map(|section| self.test(section)).collect()
    }

    fn test(&mut self, section: &Section<'_>) -> Option<Test> {
        for key in section.table.keys().filter(|key| !TEST_KEYS.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let next = format!("its keys are {}", TEST_KEYS.join(", "));
            self.slip(None, key.span(), format!("a test has no key `{name}`"), meant(name, TEST_KEYS), next);
        }
        let who = self.with(section, "who");
        let on = section.table.get("on").and_then(|value| self.day(section, "on", value));
        let [feed, kind, part, lot] = ["feed", "kind", "part", "lot"].map(|key| self.known(section, key));
        let purpose = section.table.get("for").and_then(|value| {
            let word = self.text(section, "for")?;
            self.check_purpose(section, &word, value.span());
            Some(word)
        });
        let mut said = Vec::new();
        if let Some(value) = section.table.get("sees") {
            match value.get_ref().as_str() {
                Some("nothing") => said.push(Sees::AtMost(BTreeSet::new())),
                // As in a share: persons must be named.
                Some("everything") => {
                    let groups = Group::ALL.into_iter().filter(|group| *group != Group::Inspector);
                    said.push(Sees::Exactly(groups.map(|group| group.name().to_owned()).collect()));
                }
                Some(other) => {
                    let next = "write \"nothing\", \"everything\", or a list of groups and fields as [\"identity\", \"verdict\"]";
                    self.slip(None, value.span(), format!("`{other}` is not in a list"), meant(other, ["nothing", "everything"]), next);
                }
                None => said.extend(self.fields(section, "sees", value).map(Sees::Exactly)),
            }
        }
        if let Some(value) = section.table.get("never") {
            said.extend(self.fields(section, "never", value).map(|names| Sees::Never(Show::Named(names))));
        }
        if !section.table.contains_key("sees") && !section.table.contains_key("never") {
            let next = "add sees = [\"…\"], sees = \"nothing\" or never = [\"…\"]";
            self.slip(None, section.span.clone(), "the test does not say what is seen", None, next);
        }
        let (who, scope) = (who?.0, Scope { feed, kind, part, lot, purpose, on });
        let (line, column) = self.place(section.span.start);
        let claim = |sees| Claim { who: Who::Named(who.clone()), sees, scope: scope.clone() };
        Some(Test { line, column, claims: said.into_iter().map(claim).collect() })
    }

    /// What a test limits itself to under one key, which must be known: with a slip in it, it would hold for nothing.
    fn known(&mut self, section: &Section<'_>, key: &str) -> Option<String> {
        let span = section.table.get(key)?.span();
        let value = self.text(section, key)?;
        let words: Vec<&str> = match (key, self.world) {
            ("kind", _) => kind::known().iter().map(|(schema, _)| schema.name).collect(),
            (_, None) => return Some(value),
            ("feed", Some(world)) => world.feeds.iter().map(String::as_str).collect(),
            ("part", Some(world)) => world.parts.iter().chain(&self.new_parts).map(String::as_str).collect(),
            (_, Some(world)) => world.lots.iter().chain(&self.new_lots).map(String::as_str).collect(),
        };
        if !words.contains(&value.as_str()) {
            let (what, meant) = (format!("no {key} `{value}` is known here{}", look_alike(&value)), meant(&value, words));
            self.slip(None, span, what, meant, format!("correct it, or leave out `{key}` if you mean every {key}"));
        }
        Some(value)
    }

    /// Refuses what a share names and nevers take back whole from everybody it is for: its writer expects to share it.
    fn check_void(&mut self, policy: &Policy, section: &Section<'_>, share: &Rule) {
        let reach: Vec<Masks> = share.partners.iter().map(|partner| policy.reach(share, partner)).collect();
        let Some(value) = section.table.get("show") else {
            return;
        };
        let items: Vec<(Show, String, Range<usize>)> = match value.get_ref().as_array() {
            None => vec![(share.show.clone(), "everything".into(), value.span())],
            Some(items) => {
                let named = |item: &Value<'_>| {
                    let name = item.get_ref().as_str()?.to_owned();
                    Some((Show::Named(BTreeSet::from([name.clone()])), name, item.span()))
                };
                items.iter().filter_map(named).collect()
            }
        };
        for (item, name, span) in items {
            let slots: Masks = share.in_kinds(&item.masks()).collect();
            let open = reach.iter().any(|reach| meets(reach, &slots));
            // A rule for nobody has a slip of its own.
            if meets(&slots, &slots) && !open && !share.partners.is_empty() {
                let bans =
                    |never: &&Rule| share.partners.iter().any(|partner| never.outreaches(share, partner)) && meets(&never.masks, &slots);
                let nevers: Vec<String> = policy.nevers().iter().filter(bans).map(|never| format!("`{}`", never.name)).collect();
                let what = format!("it would show `{name}`, which {} forbids", nevers.join(" with "));
                self.slip(Some(&share.name), span, what, None, format!("remove `{name}` from the share, or narrow the never"));
            }
        }
    }

    fn need<'t>(&mut self, section: &Section<'t>, key: &str, next: &str) -> Option<&'t Value<'t>> {
        let value = section.table.get(key);
        if value.is_none() {
            self.slip(section.name.as_deref(), section.span.clone(), format!("`{key}` is missing"), None, next);
        }
        value
    }

    fn text(&mut self, section: &Section<'_>, key: &str) -> Option<String> {
        let value = self.need(section, key, &format!("add {key} = \"…\""))?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.slip(
                section.name.as_deref(),
                value.span(),
                format!("`{key}` is not one text"),
                None,
                format!("write {key} = \"…\", in quotes"),
            );
        }
        text.map(str::to_owned)
    }

    fn texts(&mut self, rule: Option<&str>, key: &str, value: &Value<'_>) -> Option<Vec<(String, Range<usize>)>> {
        let text = |item: &Value<'_>| Some((item.get_ref().as_str()?.to_owned(), item.span()));
        let texts = value.get_ref().as_array().and_then(|items| items.iter().map(text).collect());
        if texts.is_none() {
            self.slip(rule, value.span(), format!("`{key}` is no list of texts"), None, format!("write {key} = [\"…\", \"…\"]"));
        }
        texts
    }

    fn filled(&mut self, section: &Section<'_>, key: &str, value: &Value<'_>) -> Option<Vec<(String, Range<usize>)>> {
        let texts = self.texts(section.name.as_deref(), key, value)?;
        if texts.is_empty() {
            self.slip(
                section.name.as_deref(),
                value.span(),
                format!("`{key}` is empty, so the rule would never apply"),
                None,
                "fill the list, or remove the rule",
            );
        }
        Some(texts)
    }

    fn is_partner(&self, name: &str) -> bool {
        self.world.is_some_and(|world| world.partners.iter().any(|partner| partner == name))
    }

    /// What TOML says, with the next step for the slips people make.
    fn syntax(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let start = self.text[..span.start.min(self.text.len())].rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[start..].lines().next().unwrap_or("");
        let key = line.split('=').next().unwrap_or("").trim();
        let next = match key {
            _ if error.message().contains("duplicate key") => "keep one of the two lines",
            "from" | "until" => "write a day as 2027-01-01, or until = \"revoked\"",
            _ if line.matches('"').count() % 2 == 1 || line.matches('\'').count() % 2 == 1 => "close the quote",
            _ => "write key = \"value\", key = [\"value\", \"value\"] or [[share]]",
        };
        self.slip(None, span, format!("not in form: {}", error.message()), None, next);
    }

    /// Keeps what was found in the sections that could be read; what a broken one seems to lack is no news.
    fn keep(&mut self, found: Vec<Slip>, errors: &[toml::de::Error]) {
        let mut starts = vec![1];
        starts.extend(self.text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with('[')).map(|(at, _)| at + 1));
        let section = |line: usize| starts.iter().rev().find(|start| **start <= line).copied().unwrap_or(1);
        let line_of = |error: &toml::de::Error| self.place(error.span().map_or(0, |span| span.start)).0;
        let lines: Vec<usize> = errors.iter().map(line_of).collect();
        // Groups, new parts and headers bear on every rule.
        let bears_on_all = |line: &usize| {
            let header = self.text.lines().nth(section(*line) - 1).unwrap_or("").trim_start();
            section(*line) == *line || !header.starts_with("[[")
        };
        if lines.iter().any(bears_on_all) {
            return;
        }
        self.slips.extend(found.into_iter().filter(|slip| lines.iter().all(|line| section(*line) != section(slip.line))));
    }

    fn slip(&mut self, rule: Option<&str>, span: Range<usize>, what: impl Into<String>, meant: Option<String>, next: impl Into<String>) {
        let (line, column) = self.place(span.start);
        self.slips.push(Slip { line, column, rule: rule.map(str::to_owned), what: what.into(), meant, next: next.into() });
    }

    /// Line and column in characters, from 1.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }
}

/// What of a test does not hold: its sentence, and where not.
fn failing(test: &Test, policy: &Policy, now: i64) -> Option<Slip> {
    let fails = |claim: &Claim| Some(format!("the test \"{claim}\" fails: {}", claim.check(policy, now).err()?));
    let what = test.claims.iter().find_map(fails)?;
    let next = "correct the rules, or the test".to_owned();
    Some(Slip { line: test.line, column: test.column, rule: None, what, meant: None, next })
}

/// Midnight UTC at which a day begins, written as in 2027-01-01.
pub(crate) fn day_of(text: &str) -> Option<i64> {
    let date: Date = text.parse().ok().filter(|_| text.len() == 10)?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

const PAIR_FIRST: &str = "correct the name, or pair with them first";
const TOP_LISTS_FIRST: &str = "move it to the top of the file, above the first bracket";

/// Whether records of a kind say when they were signed, which a delay counts from.
fn says_when(schema: &Schema) -> bool {
    schema.slot("recorded_at").is_some()
}

/// A key that is not there is fine; one that is must have been read.
fn optional<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}

fn meets(these: &Masks, those: &Masks) -> bool {
    these.iter().zip(those).any(|(this, that)| this & that != 0)
}

pub(crate) fn field_names() -> impl Iterator<Item = &'static str> {
    let fields = kind::known().iter().flat_map(|(schema, _)| schema.fields).map(|field| field.name);
    Group::ALL.into_iter().map(Group::name).chain(fields)
}

/// Groups of which a record has two tables, with the table: `measurements:special`.
fn tables() -> impl Iterator<Item = String> {
    let has = |group: Group, table: &str| {
        let mut fields = kind::known().iter().flat_map(|(schema, _)| schema.fields);
        fields.any(|field| field.group == group && table_of(field.name) == Some(table))
    };
    let of = move |group: Group| TABLES.into_iter().filter(move |table| has(group, table)).map(move |table| format!("{group}:{table}"));
    Group::ALL.into_iter().flat_map(of)
}

pub(crate) fn is_field(name: &str) -> bool {
    field_names().any(|known| known == name) || tables().any(|known| known == name)
}

/// The nearest known word, if it is near: letters in another case count as equal.
pub fn meant<'a>(wrong: &str, known: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>) -> Option<String> {
    let distance = |word: &str| text_distance(&wrong.to_lowercase(), &word.to_lowercase());
    let near = known.into_iter().map(|word| (distance(word.as_ref()), word.as_ref()));
    let (distance, word) = near.min()?;
    let length = wrong.chars().count();
    (distance <= 1 + length / 4 && distance < length).then(|| word.to_owned())
}

/// A letter of another alphabet that looks like ours cannot be seen: say it.
fn look_alike(name: &str) -> String {
    let odd = name.chars().find(|letter| matches!(letter, '\u{370}'..='\u{52f}' | '\u{200b}'..='\u{200f}' | '\u{ff00}'..='\u{ff5e}'));
    odd.map_or(String::new(), |letter| format!(" (it holds U+{:04X}, a look-alike)", u32::from(letter)))
}
