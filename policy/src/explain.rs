//! Reasons in words: for the owner with rules named, for a partner only what its own shares come to.

use std::collections::BTreeSet;

use jiff::Timestamp;
use lotline_schema::kind::{self, Field, Group, Schema};
use lotline_schema::terms::Terms;

use crate::decide::{Decision, NearMiss, Reason, Viewer};
use crate::moment::Moment;
use crate::policy::{Condition, Feeds, MEMBERS_OF, Masks, Parts, Policy, Rule, Show, table_of};

impl Decision {
    /// One sentence a group, or one a reason where the fields of a group differ. For the owner: it names rules.
    ///
    /// ```
    /// use lotline_policy::{Policy, Viewer, decide};
    /// use lotline_schema::{Facts, kind::inspection::SCHEMA};
    /// let text = "[[share]]\nname = 's'\nwith = 'oem-a'\nfeed = 'all'\nparts = ['P-1']\nshow = 'everything'\nuntil = 'revoked'";
    /// let policy = Policy::restore(text)?;
    /// let facts = Facts { part: Some("P-2".into()), ..Facts::default() };
    /// let words = decide(&policy, &Viewer::new("oem-a"), "quality", &SCHEMA, &facts, 0).explain(&policy, &SCHEMA);
    /// assert_eq!(words[0], "identity: hidden, no share shows it; `s` would, but it covers part P-1");
    /// # Ok::<(), lotline_policy::Slips>(())
    /// ```
    pub fn explain(&self, policy: &Policy, schema: &Schema) -> Vec<String> {
        let mut sentences = Vec::new();
        for group in Group::ALL {
            let mut told: Vec<(&Reason, Vec<&str>)> = Vec::new();
            for (field, reason) in schema.fields.iter().zip(&self.reasons).filter(|(field, _)| field.group == group) {
                match told.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, fields)) => fields.push(field.name),
                    None => told.push((reason, vec![field.name])),
                }
            }
            if let [(_, fields)] = &mut told[..] {
                *fields = vec![group.name()];
            }
            sentences.extend(told.iter().map(|(reason, fields)| format!("{}: {}", fields.join(", "), reason.words(policy))));
        }
        sentences
    }
}

impl Reason {
    /// In words, for the owner.
    ///
    /// ```
    /// # use lotline_policy::{Policy, Reason};
    /// let reason = Reason::Banned { rule: "no-competitors".into() };
    /// assert_eq!(reason.words(&Policy::nothing()), "hidden, `no-competitors` forbids it");
    /// ```
    pub fn words(&self, policy: &Policy) -> String {
        match self {
            Reason::Shown { rule } => format!("shown by `{rule}`"),
            Reason::Banned { rule } => format!("hidden, `{rule}` forbids it"),
            Reason::Thin { rule, needs } => {
                let needs = needs.unwrap_or("their values");
                format!("hidden, `{rule}` shows statistics over fewer than ten values, which leave only together with {needs}")
            }
            Reason::NoRule { nearest: None } => "hidden, no share shows it".into(),
            Reason::NoRule { nearest: Some(NearMiss { rule, condition: condition @ (Condition::Purpose | Condition::Terms) }) } => {
                let share = policy.shares().iter().find(|share| share.name == *rule);
                let purposes = share.and_then(Rule::purposes).map_or_else(String::new, or);
                let promises = share.and_then(|share| share.terms.as_ref()).map(Terms::promises).unwrap_or_default().join("; ");
                let but = match condition {
                    Condition::Purpose => format!("has not stated the purpose {purposes}"),
                    _ => format!("has not accepted its terms ({promises})"),
                };
                format!("hidden, no share shows it; `{rule}` would, but the partner {but}")
            }
            Reason::NoRule { nearest: Some(NearMiss { rule, condition }) } => {
                let but = policy.shares().iter().find(|share| share.name == *rule).map(|share| share.says(*condition));
                format!("hidden, no share shows it; `{rule}` would, but it {}", but.unwrap_or_else(|| format!("fails on {condition}")))
            }
            Reason::Stopped => "hidden, sharing with this partner is stopped".into(),
            Reason::Forgotten { asked: None } => "forgotten here".into(),
            Reason::Forgotten { asked: Some(asked) } => format!("hidden, rules ask for `{asked}`, which was forgotten here"),
        }
    }
}

impl Rule {
    /// What it asks under one condition, as what follows "it".
    ///
    /// ```
    /// # use lotline_policy::{Condition, Policy};
    /// let policy = Policy::restore("[[never]]\nname = 'n'\nwith = 'rival'\nshow = ['process', 'inspector']")?;
    /// assert_eq!(policy.nevers()[0].says(Condition::Partner), "is for `rival`");
    /// assert_eq!(policy.nevers()[0].says(Condition::Field), "names inspector, process");
    /// # Ok::<(), lotline_policy::Slips>(())
    /// ```
    pub fn says(&self, condition: Condition) -> String {
        match condition {
            Condition::Partner if self.partners.contains(&self.with) => format!("is for `{}`", self.with),
            Condition::Partner => match self.with.strip_prefix(MEMBERS_OF) {
                Some(list) => format!("is for the members of `{list}`"),
                None => format!("is for the group `{}`", self.with),
            },
            Condition::Field => match &self.show {
                Show::Everything => "names everything".into(),
                Show::EverythingButInspector => "names everything but the inspector".into(),
                Show::Named(names) => format!("names {}", list(names)),
            },
            Condition::Feed => match &self.feed {
                Feeds::All => "covers every feed".into(),
                Feeds::One(feed) => format!("covers feed `{feed}`"),
            },
            Condition::Kind => {
                format!("covers {}", self.kinds.as_ref().map_or("every kind".into(), |kinds| format!("kind {}", list(kinds))))
            }
            Condition::Parts => match &self.parts {
                Parts::All => "covers every part".into(),
                Parts::Theirs => "covers lots made for the partner".into(),
                Parts::List(parts) if parts.len() == 1 => format!("covers part {}", list(parts)),
                Parts::List(parts) => format!("covers parts {}", list(parts)),
            },
            Condition::Lots => match &self.lots {
                None => "covers every lot".into(),
                Some(lots) => format!("covers lot{} {}", if lots.len() == 1 { "" } else { "s" }, list(lots)),
            },
            Condition::Only => format!("covers {}", self.only.map_or("every lot".into(), |only| format!("{} lots only", only.name()))),
            Condition::Released => format!("covers {}", if self.released { "released records only" } else { "every record" }),
            Condition::From => self.from.map_or("has always held".into(), |from| format!("begins on {}", moment(from))),
            Condition::Until => format!("lasts until {}", self.until.map_or("revoked".into(), moment)),
            Condition::List => match self.list_until {
                Some(until) => format!("{}, whose list holds until {}", self.says(Condition::Partner), moment(until)),
                None => "needs no member list".into(),
            },
            Condition::Delay => match self.delay {
                Some(delay) => format!("shows a record {} after it was signed", delay.words()),
                None => "shows a record at once".into(),
            },
            Condition::Purpose => match self.purposes() {
                Some(purposes) => format!("asks for the purpose {}", or(purposes)),
                None => "asks for no purpose".into(),
            },
            Condition::Terms => match &self.terms {
                Some(terms) => format!("asks for these terms: {}", terms.promises().join("; ")),
                None => "asks for no terms".into(),
            },
        }
    }
}

/// What a partner is told of a share that it sees nothing of before it accepts its terms, in the words of [`term`].
pub fn offer(policy: &Policy, viewer: &Viewer, feed: &str, share: &Rule) -> String {
    share_term(policy, viewer, feed, share, &policy.reach(share, &viewer.partner))
}

/// What a partner is told of a feed: its own live shares with what they can show. Names no rule, no group, no other partner and
/// no never; "with exceptions" stands where a never takes something back from some records only.
///
/// ```
/// # use lotline_policy::{Policy, Viewer, term};
/// let text = "[[share]]\nname = 's'\nwith = 'oem-a'\nfeed = 'all'\nparts = ['P-1']\nshow = ['identity', 'verdict']\nuntil = 'revoked'";
/// let policy = Policy::restore(text)?;
/// let words = "your share covers part P-1 and lasts until revoked; fields: identity, verdict";
/// assert_eq!(term(&policy, &Viewer::new("oem-a"), "quality", 0), words);
/// assert_eq!(term(&policy, &Viewer::new("oem-b"), "quality", 0), "nothing is shared with you here");
/// # Ok::<(), lotline_policy::Slips>(())
/// ```
pub fn term(policy: &Policy, viewer: &Viewer, feed: &str, now: impl Into<Moment>) -> String {
    let shares = policy.live(viewer, feed, now);
    let mut terms: Vec<String> = shares.map(|(share, reach)| share_term(policy, viewer, feed, share, &reach)).collect();
    // By content, not by the rules' names.
    terms.sort();
    terms.dedup();
    if terms.is_empty() { "nothing is shared with you here".into() } else { terms.join("; also, ") }
}

fn share_term(policy: &Policy, viewer: &Viewer, feed: &str, share: &Rule, reach: &Masks) -> String {
    let parts = if share.parts == Parts::Theirs { "covers lots made for you".into() } else { share.says(Condition::Parts) };
    let lots = share.lots.as_ref().map_or(String::new(), |lots| format!(", lots {} only", list(lots)));
    let only = share.only.map_or(String::new(), |only| format!(", {} lots only", only.name()));
    let released = if share.released { ", released records only" } else { "" };
    let delay = share.delay.map_or(String::new(), |delay| format!(", each {} after it was signed", delay.words()));
    let kinds = share.kinds.as_ref().map_or(String::new(), |kinds| format!(", kind {} only", list(kinds)));
    let until = format!("lasts until {}", share.end().map_or("revoked".into(), moment));
    let fields = if share.show == Show::EverythingButInspector && *reach == share.masks {
        "everything but the inspector".into()
    } else {
        fields(share, reach).join(", ")
    };
    let narrower = policy.nevers().iter().any(|never| {
        let meets = never.partners.contains(&viewer.partner) && never.feed.covers(feed) && never.may_meet(share);
        meets && never.masks.iter().zip(reach).any(|(banned, mask)| banned & mask != 0)
    });
    let exceptions = if narrower { ", with exceptions" } else { "" };
    let terms = share.terms.as_ref().map_or(String::new(), |terms| format!(", on terms: {}", terms.promises().join(", ")));
    format!("your share {parts}{lots}{only}{released}{kinds}{delay} and {until}; fields: {fields}{exceptions}{terms}")
}

/// Groups that can be shown whole, and single fields of the others.
fn fields(share: &Rule, reach: &Masks) -> Vec<&'static str> {
    let known = || kind::known().iter().map(|(schema, _)| *schema).zip(reach).filter(|(schema, _)| share.covers_kind(schema));
    let slots = |(schema, mask): (&'static Schema, &u64)| {
        let mask = *mask;
        schema.fields.iter().enumerate().map(move |(slot, field)| (field, mask >> slot & 1 == 1))
    };
    let of = |group: Group| known().flat_map(slots).filter(move |(field, _)| field.group == group);
    let names = |group: Group| -> Vec<&'static str> {
        let shown: Vec<&Field> = of(group).filter(|(_, shown)| *shown).map(|(field, _)| field).collect();
        let whole = !shown.is_empty() && of(group).all(|(_, shown)| shown);
        if whole { vec![group.name()] } else { shown.iter().map(|field| field.name).collect() }
    };
    Group::ALL.into_iter().flat_map(names).collect()
}

/// What a mask shows, in as few words as `show` has for it: whole groups, tables of groups, single fields.
///
/// ```
/// use lotline_policy::names_of;
/// use lotline_schema::kind::inspection::SCHEMA;
/// let slots = |names: &[&str]| names.iter().fold(0, |mask, name| mask | 1 << SCHEMA.slot(name).unwrap());
/// assert_eq!(names_of(&SCHEMA, slots(&["lot", "special_values", "other_values"])), ["lot", "measurements"]);
/// assert_eq!(names_of(&SCHEMA, slots(&["special_values"])), ["measurements:special"]);
/// ```
pub fn names_of(schema: &Schema, mask: u64) -> Vec<String> {
    let of = |group: Group| schema.fields.iter().enumerate().filter(move |(_, field)| field.group == group);
    let mut names = Vec::new();
    for group in Group::ALL.into_iter().filter(|group| of(*group).any(|(slot, _)| mask >> slot & 1 == 1)) {
        if of(group).all(|(slot, _)| mask >> slot & 1 == 1) {
            names.push(group.name().to_owned());
            continue;
        }
        let whole = |table: &str| of(group).filter(|(_, field)| table_of(field.name) == Some(table)).all(|(slot, _)| mask >> slot & 1 == 1);
        for (_, field) in of(group).filter(|(slot, _)| mask >> slot & 1 == 1) {
            let name = match table_of(field.name).filter(|table| whole(table)) {
                Some(table) => format!("{group}:{table}"),
                None => field.name.to_owned(),
            };
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// The first second a rule holds or no longer holds, as people write it.
pub(crate) fn moment(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds);
    time.map_or_else(|_| format!("second {seconds}"), |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

fn or(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(" or ")
}

pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
