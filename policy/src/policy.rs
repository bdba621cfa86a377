//! What a policy is: shares, nevers, and the closed list of conditions a rule is made of.
//!
//! Only [`parse`](mod@crate::parse) makes rules. Knows nothing of TOML, and answers no question itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lotline_schema::Hash;
use lotline_schema::kind::{self, Group, Schema};
use lotline_schema::terms::Terms;
use serde::Serialize;

use crate::decide::Viewer;
use crate::delay::Delay;
use crate::moment::Moment;
use crate::parse::Slips;
use crate::prove::Test;

/// Every rule in force, with the text it came from and who is cut off for now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    pub(crate) version: u64,
    pub(crate) text: String,
    pub(crate) groups: BTreeMap<String, BTreeSet<String>>,
    pub(crate) purposes: BTreeSet<String>,
    // Invariant: both sorted by name, so that the order in the file cannot matter.
    pub(crate) shares: Vec<Rule>,
    pub(crate) nevers: Vec<Rule>,
    pub(crate) lists: BTreeMap<String, MemberList>,
    pub(crate) tests: Vec<Test>,
    pub(crate) stopped: Stopped,
}

impl Policy {
    /// The policy of a new node: nothing is shared.
    ///
    /// ```
    /// use lotline_policy::{Policy, Viewer};
    /// assert!(Policy::nothing().feeds_for(&Viewer::new("oem-a"), &["quality".into()], 0).is_empty());
    /// ```
    pub fn nothing() -> Policy {
        Policy::default()
    }

    /// Reads an applied version back. What it was checked against (partners, parts, today) has moved on since, and
    /// a policy in force must not fall silent because a date passed: only the form is checked. Rules that take their
    /// partners from member lists are read back with [`Policy::restore_with`].
    ///
    /// ```
    /// use lotline_policy::Policy;
    /// let text = "[[never]]\nname = 'n'\nwith = 'rival'\nshow = 'everything'";
    /// assert_eq!(Policy::restore(text)?.with_version(3).nevers()[0].name, "n");
    /// # Ok::<(), lotline_policy::Slips>(())
    /// ```
    pub fn restore(text: &str) -> Result<Policy, Slips> {
        Policy::restore_with(text, &BTreeMap::new())
    }

    /// Reads an applied version back with what was frozen when it was applied: which partners each list it names meant.
    ///
    /// ```
    /// use std::collections::{BTreeMap, BTreeSet};
    /// use lotline_policy::{MemberList, Policy};
    /// use lotline_schema::Hash;
    /// let text = "[[never]]\nname = 'n'\nwith = 'members-of:vda'\nshow = 'everything'";
    /// let list = MemberList { hash: Hash([0; 32]), until: 1_798_761_600, partners: BTreeSet::from(["rival".into()]) };
    /// let policy = Policy::restore_with(text, &BTreeMap::from([("vda".into(), list)]))?;
    /// assert!(policy.nevers()[0].partners.contains("rival"));
    /// assert!(Policy::restore(text).is_err());
    /// # Ok::<(), lotline_policy::Slips>(())
    /// ```
    pub fn restore_with(text: &str, lists: &BTreeMap<String, MemberList>) -> Result<Policy, Slips> {
        crate::parse::restore(text, lists)
    }

    /// The version applied; 0 before the first.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The same rules as version `n`.
    pub fn with_version(self, n: u64) -> Policy {
        Policy { version: n, ..self }
    }

    /// The source, byte for byte as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What may be seen, sorted by name.
    pub fn shares(&self) -> &[Rule] {
        &self.shares
    }

    /// What must never be seen, sorted by name.
    pub fn nevers(&self) -> &[Rule] {
        &self.nevers
    }

    /// The member lists its rules name, as they were when it was checked.
    pub fn lists(&self) -> &BTreeMap<String, MemberList> {
        &self.lists
    }

    /// Groups of partners.
    pub fn groups(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.groups
    }

    /// Every purpose that can be stated: those there are anyway, and what the file declares.
    pub fn purposes(&self) -> impl Iterator<Item = &str> {
        PURPOSES.into_iter().chain(self.purposes.iter().map(String::as_str))
    }

    /// The tests of the file, in its order. Those of a policy that [`parse`](crate::parse()) accepted hold.
    pub fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// The partners that a name in a rule means: a partner, the members of a group or of a list.
    pub(crate) fn meant_by(&self, name: &str) -> BTreeSet<String> {
        let list = name.strip_prefix(MEMBERS_OF).and_then(|list| self.lists.get(list)).map(|list| &list.partners);
        self.groups.get(name).or(list).cloned().unwrap_or_else(|| BTreeSet::from([name.to_owned()]))
    }

    /// Cuts sharing with one partner, or with all. Kept beside the text: it needs no file that parses, and no file undoes it.
    ///
    /// ```
    /// use lotline_policy::{Policy, Stopped};
    /// let cut = Policy::nothing().stop(Some("oem-a"));
    /// assert!(cut.stopped().covers("oem-a") && !cut.stopped().covers("oem-b"));
    /// assert!(!cut.with_stopped(Stopped::default()).stopped().covers("oem-a"));
    /// ```
    pub fn stop(&self, partner: Option<&str>) -> Policy {
        let mut policy = self.clone();
        policy.stopped.partners.extend(partner.map(str::to_owned));
        policy.stopped.everybody |= partner.is_none();
        policy
    }

    /// Who is cut off.
    pub fn stopped(&self) -> &Stopped {
        &self.stopped
    }

    /// The same rules with another set cut off: the stored one after a restart, an empty one when sharing goes on.
    pub fn with_stopped(self, stopped: Stopped) -> Policy {
        Policy { stopped, ..self }
    }

    /// The feeds this viewer may follow now: following shows how many records exist, so a share must be able to show
    /// something of one. A share wholly taken back by nevers opens no feed, nor does one whose terms were not accepted.
    pub fn feeds_for(&self, viewer: &Viewer, feeds: &[String], now: impl Into<Moment>) -> Vec<String> {
        let now = now.into();
        feeds.iter().filter(|feed| self.live(viewer, feed, now).next().is_some()).cloned().collect()
    }

    /// The shares with this partner on this feed that hold now and ask for terms, whatever the partner has accepted: what it is
    /// to be asked for.
    pub fn asking<'a>(&'a self, partner: &'a str, feed: &'a str, now: impl Into<Moment>) -> impl Iterator<Item = (&'a Rule, &'a Terms)> {
        self.open(partner, feed, now).filter_map(|(share, _)| Some((share, share.terms.as_ref()?)))
    }

    /// Whether a share with this partner on this feed waits for records to be released: then an old record can open when a
    /// release of it comes, which neither [`crate::next_change`] nor [`crate::view_id`] can know.
    pub fn waits_for_releases(&self, partner: &str, feed: &str) -> bool {
        self.shares.iter().any(|share| share.released && share.partners.contains(partner) && share.feed.covers(feed))
    }

    /// The longest delay of a share with this partner on this feed: a record that was signed longer ago waits for none of them.
    pub fn longest_delay(&self, partner: &str, feed: &str) -> Option<i64> {
        let shares = self.shares.iter().filter(|share| share.partners.contains(partner) && share.feed.covers(feed));
        shares.filter_map(|share| share.delay).map(Delay::seconds).max()
    }

    /// Whether any rule asks whether a record is released.
    pub fn asks_for_releases(&self) -> bool {
        self.shares.iter().any(|share| share.released)
    }

    /// The rules that are about a partner, and no other: they give it the same answers, and are quicker to walk.
    pub fn about(&self, partner: &str) -> Policy {
        let of = |rules: &[Rule]| rules.iter().filter(|rule| rule.partners.contains(partner)).cloned().collect();
        let (shares, nevers) = (of(&self.shares), of(&self.nevers));
        Policy { version: self.version, shares, nevers, stopped: self.stopped.clone(), ..Policy::default() }
    }

    /// The shares that can show this viewer something of this feed now, each with what it can show at most.
    pub(crate) fn live<'a>(&'a self, viewer: &'a Viewer, feed: &'a str, now: impl Into<Moment>) -> impl Iterator<Item = (&'a Rule, Masks)> {
        self.open(&viewer.partner, feed, now).filter(|(share, _)| viewer.meets_terms(share))
    }

    /// The same for a partner that has stated and accepted whatever is asked for.
    pub(crate) fn open<'a>(&'a self, partner: &'a str, feed: &'a str, now: impl Into<Moment>) -> impl Iterator<Item = (&'a Rule, Masks)> {
        let now = now.into();
        let live = move |rule: &&Rule| {
            rule.partners.contains(partner)
                && rule.feed.covers(feed)
                && rule.from.is_none_or(|from| now.is_after(from))
                && !rule.ends().any(|end| now.is_over(end))
        };
        let shares = if self.stopped.covers(partner) { &[] } else { &self.shares[..] };
        let reach = move |rule| (rule, self.reach(rule, partner));
        shares.iter().filter(live).map(reach).filter(|(_, reach)| reach.iter().any(|mask| *mask != 0))
    }

    /// What a share can show this partner at most: its fields without those that a never takes from all it covers.
    pub(crate) fn reach(&self, share: &Rule, partner: &str) -> Masks {
        let mut reach: Masks = share.in_kinds(&share.masks).collect();
        for never in self.nevers.iter().filter(|never| never.outreaches(share, partner)) {
            reach.iter_mut().zip(&never.masks).for_each(|(mask, banned)| *mask &= !banned);
        }
        reach
    }
}

/// What data may be asked for, in words that everybody knows; a file may declare more.
pub const PURPOSES: [&str; 4] = ["incoming-inspection", "audit", "containment", "supplier-development"];

/// What stands before the name of a member list where a rule names it.
pub const MEMBERS_OF: &str = "members-of:";

/// A member list as rules know it: which of our partners were on it, and how long that holds. A newer list changes
/// nothing in a policy that was applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberList {
    /// SHA-256 of the signed list.
    pub hash: Hash,
    /// The first second it no longer holds, since 1970.
    pub until: i64,
    /// The partners on it, as the partner book names them.
    pub partners: BTreeSet<String>,
}

/// Who is cut off by `lotline share stop`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stopped {
    /// Everybody.
    pub everybody: bool,
    /// These partners.
    pub partners: BTreeSet<String>,
}

impl Stopped {
    /// Whether this partner gets nothing for now.
    pub fn covers(&self, partner: &str) -> bool {
        self.everybody || self.partners.contains(partner)
    }
}

/// Per known schema, in the order of [`kind::known`]: bit = slot.
pub(crate) type Masks = Vec<u64>;

/// One share or never: it acts where all its conditions hold. A never has no condition on kind, verdict or time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Its name, unique in the file.
    pub name: String,
    /// The partner, group or member list it names.
    pub with: String,
    /// The partners that are meant.
    pub partners: BTreeSet<String>,
    /// Which feeds.
    pub feed: Feeds,
    /// Which parts.
    pub parts: Parts,
    /// Only these lots; none: every lot.
    pub lots: Option<BTreeSet<String>>,
    /// Which fields.
    pub show: Show,
    /// Which kinds of record; none: every kind.
    pub kinds: Option<BTreeSet<String>>,
    /// Only lots with this verdict.
    pub only: Option<Only>,
    /// Only records that a named person released.
    pub released: bool,
    /// How long after it was signed a record opens; none: at once.
    pub delay: Option<Delay>,
    /// First second it holds, since 1970.
    pub from: Option<i64>,
    /// First second it no longer holds; none: until revoked.
    pub until: Option<i64>,
    /// Of a share with the members of a list: the first second that list no longer holds. A never holds on after it.
    pub list_until: Option<i64>,
    /// The terms that the partner must have accepted: its purposes and what else it must promise; none: no terms.
    pub terms: Option<Terms>,
    /// `show` as slots.
    pub(crate) masks: Masks,
}

impl Rule {
    /// The slots of a schema that `show` names; of a schema that this program does not know, none.
    pub fn mask(&self, schema: &Schema) -> u64 {
        kind::known().iter().zip(&self.masks).find(|((known, _), _)| std::ptr::eq(*known, schema)).map_or(0, |(_, mask)| *mask)
    }

    /// Whether it narrows anything under this condition; a rule always names partners and fields.
    pub fn asks(&self, condition: Condition) -> bool {
        match condition {
            Condition::Partner | Condition::Field => true,
            Condition::Feed => self.feed != Feeds::All,
            Condition::Kind => self.kinds.is_some(),
            Condition::Parts => self.parts != Parts::All,
            Condition::Lots => self.lots.is_some(),
            Condition::Only => self.only.is_some(),
            Condition::Released => self.released,
            Condition::From => self.from.is_some(),
            Condition::Until => self.until.is_some(),
            Condition::List => self.list_until.is_some(),
            Condition::Delay => self.delay.is_some(),
            Condition::Purpose => self.purposes().is_some(),
            Condition::Terms => self.terms.is_some(),
        }
    }

    /// The partner must have stated one of these purposes, which are part of its terms; none: any use.
    pub fn purposes(&self) -> Option<&BTreeSet<String>> {
        self.terms.as_ref().map(Terms::purposes).filter(|purposes| !purposes.is_empty())
    }

    /// The moments at which it begins and ends.
    pub(crate) fn dates(&self) -> impl Iterator<Item = i64> + use<> {
        [self.from, self.until, self.list_until].into_iter().flatten()
    }

    /// What ends it: the first seconds it no longer holds.
    pub fn ends(&self) -> impl Iterator<Item = i64> + use<> {
        [self.until, self.list_until].into_iter().flatten()
    }

    /// The first second it no longer holds, whatever ends it.
    pub(crate) fn end(&self) -> Option<i64> {
        self.ends().min()
    }

    pub(crate) fn covers_kind(&self, schema: &Schema) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(schema.name))
    }

    /// Slots without those of kinds it is not about.
    pub(crate) fn in_kinds<'a>(&'a self, masks: &'a Masks) -> impl Iterator<Item = u64> + 'a {
        let slots = kind::known().iter().zip(masks);
        slots.map(|((schema, _), mask)| if self.covers_kind(schema) { *mask } else { 0 })
    }

    /// Whether a never covers, for this partner, every record the share covers.
    pub(crate) fn outreaches(&self, share: &Rule, partner: &str) -> bool {
        let lots = match (&self.lots, &share.lots) {
            (None, _) => true,
            (Some(all), Some(some)) => some.is_subset(all),
            (Some(_), None) => false,
        };
        self.partners.contains(partner) && self.feed.includes(&share.feed) && self.parts.includes(&share.parts) && lots
    }

    /// Whether one record can be of lots and parts of both.
    pub(crate) fn may_meet(&self, other: &Rule) -> bool {
        let apart = matches!((&self.lots, &other.lots), (Some(these), Some(those)) if these.is_disjoint(those));
        self.parts.may_meet(&other.parts) && !apart
    }
}

/// Which feeds a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Feeds {
    /// Every feed, also later ones.
    All,
    /// This one, in all its lives.
    One(String),
}

impl Feeds {
    pub(crate) fn covers(&self, feed: &str) -> bool {
        matches!(self, Feeds::All) || matches!(self, Feeds::One(name) if name == feed)
    }

    fn includes(&self, other: &Feeds) -> bool {
        matches!(self, Feeds::All) || self == other
    }
}

/// Which parts a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parts {
    /// Every part, also later ones.
    All,
    /// Records whose customer is the partner.
    Theirs,
    /// These part numbers of the maker.
    List(BTreeSet<String>),
}

impl Parts {
    fn includes(&self, other: &Parts) -> bool {
        match (self, other) {
            (Parts::All, _) => true,
            (Parts::List(all), Parts::List(some)) => some.is_subset(all),
            (mine, other) => mine == other,
        }
    }

    /// Whether one record can be about parts of both.
    pub(crate) fn may_meet(&self, other: &Parts) -> bool {
        !matches!((self, other), (Parts::List(these), Parts::List(those)) if these.is_disjoint(those))
    }
}

/// Which fields a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Show {
    /// Every field: what "everything" means in a never.
    Everything,
    /// Every field but the group `inspector`, since persons must be named: what "everything" means in a share.
    EverythingButInspector,
    /// These groups, tables of groups (as `measurements:special`) and single fields.
    Named(BTreeSet<String>),
}

impl Show {
    /// The slots meant, by schema. A name is a group's, that of one of its two tables, or else a field's.
    pub(crate) fn masks(&self) -> Masks {
        let named = |group: Group, field: &str| match self {
            Show::Everything => true,
            Show::EverythingButInspector => group != Group::Inspector,
            Show::Named(names) => {
                let in_table = |table: &&str| names.contains(&format!("{group}:{table}"));
                names.contains(group.name()) || names.contains(field) || table_of(field).as_ref().is_some_and(in_table)
            }
        };
        let mask = |schema: &Schema| {
            let slots = schema.fields.iter().enumerate().filter(|(_, field)| named(field.group, field.name));
            slots.fold(0, |mask, (slot, _)| mask | 1 << slot)
        };
        kind::known().iter().map(|(schema, _)| mask(schema)).collect()
    }
}

/// The two tables of characteristics, as `show` tells them apart.
pub(crate) const TABLES: [&str; 2] = ["special", "other"];

/// The table that a field belongs to, if it does: `special_values` to `special`.
pub(crate) fn table_of(field: &str) -> Option<&'static str> {
    TABLES.into_iter().find(|table| field.strip_prefix(table).is_some_and(|rest| rest.starts_with('_')))
}

/// The word for records that a named person released, beside the verdicts.
pub(crate) const RELEASED: &str = "released";

/// Lots with one verdict only. Undecided lots are neither.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Only {
    Conforming,
    NonConforming,
}

impl Only {
    /// Both.
    pub const ALL: [Only; 2] = [Only::Conforming, Only::NonConforming];

    /// Its name in the file, which is the verdict's.
    pub fn name(self) -> &'static str {
        match self {
            Only::Conforming => "conforming",
            Only::NonConforming => "non-conforming",
        }
    }
}

/// What a rule asks. The list is closed: evaluation, explanation, difference and proof all walk it.
/// It runs from who to when, so of two near misses the later one is the nearer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// The viewer is the rule's partner, or in its group.
    Partner,
    /// `show` names the field.
    Field,
    /// The record is in the rule's feed.
    Feed,
    /// The record is of one of its kinds.
    Kind,
    /// The record is about one of its parts.
    Parts,
    /// The record is of one of its lots.
    Lots,
    /// The lot has its verdict.
    Only,
    /// A named person released the record.
    Released,
    /// The rule has begun.
    From,
    /// The rule has not ended.
    Until,
    /// The member list that its partners come from has not ended.
    List,
    /// The record was signed long enough ago.
    Delay,
    /// The viewer stated one of its purposes.
    Purpose,
    /// The viewer accepted its terms.
    Terms,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Condition; 14] = [
        Condition::Partner,
        Condition::Field,
        Condition::Feed,
        Condition::Kind,
        Condition::Parts,
        Condition::Lots,
        Condition::Only,
        Condition::Released,
        Condition::From,
        Condition::Until,
        Condition::List,
        Condition::Delay,
        Condition::Purpose,
        Condition::Terms,
    ];

    /// The key of the file that states it.
    pub fn key(self) -> &'static str {
        match self {
            Condition::Partner | Condition::List => "with",
            Condition::Field => "show",
            Condition::Feed => "feed",
            Condition::Kind => "kinds",
            Condition::Parts => "parts",
            Condition::Lots => "lots",
            Condition::Only | Condition::Released => "only",
            Condition::From => "from",
            Condition::Until => "until",
            Condition::Delay => "delay",
            Condition::Purpose => "for",
            Condition::Terms => "then",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.key())
    }
}
