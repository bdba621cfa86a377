//! What holds for every record there could be, at every moment from now on: claims, in sentences and as `[[test]]`s.
//!
//! A [`Claim`] says what somebody sees at most, exactly, or never. It is checked at the critical points of the rules: since each
//! rule is a conjunction, whatever a partner can ever see it sees at one of them. A claim that does not hold comes back as a
//! [`Hole`], one sentence with an example.

use std::collections::BTreeSet;
use std::fmt;

use lotline_schema::Facts;
use lotline_schema::kind::{self, Schema};
use lotline_schema::terms::Terms;

use crate::decide::{Question, Viewer};
use crate::explain::{list, moment, names_of};
use crate::parse::{day_of, is_field, meant};
use crate::policy::{Condition, Feeds, MEMBERS_OF, Masks, Only, Parts, Policy, Rule, Show};

/// A day, in seconds.
const DAY: i64 = 86_400;

/// A sentence about what is seen, of which records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    pub(crate) who: Who,
    pub(crate) sees: Sees,
    pub(crate) scope: Scope,
}

/// Whom a claim is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    /// Every partner that a rule is for.
    Nobody,
    /// A partner, a group, or the members of a list.
    Named(String),
    /// Everybody else: what they do not see.
    Only(String),
}

/// What a claim says of fields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Sees {
    /// None of these, of any record.
    Never(Show),
    /// None but these; without any, nothing.
    AtMost(BTreeSet<String>),
    /// None but these, and each of these of at least one record.
    Exactly(BTreeSet<String>),
}

/// Of which records, and when.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Scope {
    pub(crate) feed: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) part: Option<String>,
    pub(crate) lot: Option<String>,
    /// The one purpose that is stated; none: whatever is.
    pub(crate) purpose: Option<String>,
    /// The first second of a day; none: from now on.
    pub(crate) on: Option<i64>,
}

/// A `[[test]]` of a rule file: what must hold for the file to be accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Test {
    /// Its line in the file, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// What it claims.
    pub claims: Vec<Claim>,
}

/// Where a claim does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hole {
    /// Somebody sees what it must not.
    Seen(Box<Example>),
    /// Somebody never sees what it should.
    Unseen {
        /// The partner.
        partner: String,
        /// The fields.
        fields: Vec<String>,
    },
}

/// One record that could exist, and who sees what of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Example {
    /// The partner.
    pub partner: String,
    /// The share that shows it.
    pub rule: String,
    /// What it must not see, by groups and fields.
    pub fields: Vec<String>,
    /// The record: its feed (none: any that no rule names), kind, and what rules ask of it.
    pub feed: Option<String>,
    /// What rules know of the record.
    pub facts: Facts,
    /// What the partner must have stated and accepted to see it.
    pub viewer: Viewer,
    /// From when on, in seconds since 1970.
    pub at: i64,
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Example { partner, rule, fields, feed, facts, viewer, at } = match self {
            Hole::Unseen { partner, fields } => return write!(f, "{partner} sees {} of no such record", fields.join(", ")),
            Hole::Seen(example) => &**example,
        };
        write!(f, "{partner} sees {} of a record of kind {}", fields.join(", "), facts.kind)?;
        let feed = feed.as_ref().map_or("any feed that no rule names".into(), |feed| format!("feed {feed}"));
        write!(f, " in {feed}")?;
        let said = [("part", &facts.part), ("lot", &facts.lot), ("customer", &facts.customer), ("verdict", &facts.verdict)];
        for (word, value) in said {
            if let Some(value) = value {
                write!(f, ", {word} {value}")?;
            }
        }
        let released = if facts.released { ", released" } else { "" };
        let terms = if viewer.terms.is_empty() { "" } else { ", once it has accepted the terms" };
        write!(f, "{released}{terms}, from {} on, by `{rule}`", moment(*at))
    }
}

impl Claim {
    /// Reads a sentence of the closed form, such as "competitors see nothing" or "oem-a sees at most identity, verdict of part P-1".
    ///
    /// ```
    /// use lotline_policy::{Claim, Policy};
    /// let text = "[[share]]\nname = 's'\nwith = 'oem-a'\nfeed = 'quality'\nparts = ['P-1']\nshow = ['verdict']\nuntil = 'revoked'";
    /// let policy = Policy::restore(text)?;
    /// let hole = |sentence| Claim::read(sentence, &policy, &["oem-a".into()]).unwrap().check(&policy, 0).err().map(|hole| hole.to_string());
    /// assert_eq!(hole("nobody sees measurements"), None);
    /// assert_eq!(hole("oem-a never sees verdict of part P-2"), None);
    /// let found = "oem-a sees verdict of a record of kind inspection in feed quality, part P-1, from 1970-01-01 00:00 UTC on, by `s`";
    /// assert_eq!(hole("oem-a sees nothing").as_deref(), Some(found));
    /// # Ok::<(), lotline_policy::Slips>(())
    /// ```
    pub fn read(sentence: &str, policy: &Policy, partners: &[String]) -> Result<Claim, Unread> {
        Sentence { words: words(sentence)?, at: 0 }.claim(policy, partners)
    }

    /// Whether it holds from a moment on, under these rules; else where it does not.
    pub fn check(&self, policy: &Policy, now: i64) -> Result<(), Hole> {
        for partner in self.partners(policy) {
            self.check_partner(policy, &partner, now)?;
        }
        Ok(())
    }

    fn check_partner(&self, policy: &Policy, partner: &str, now: i64) -> Result<(), Hole> {
        let (banned, wanted) = self.masks();
        let about = policy.about(partner);
        let span = self.scope.on.map_or((now, None), |on| (on, Some(on + DAY)));
        let mut wanted = wanted;
        for (at, share) in about.shares.iter().enumerate() {
            // What nevers take back from all it covers is seen nowhere.
            let reach = about.reach(share, partner);
            if about.stopped.covers(partner) || !meets(&reach, &banned) && !meets(&reach, &wanted) {
                continue;
            }
            for point in points(&about, share, partner, &self.scope, span) {
                let slots = point.slots();
                let mask = point.question().mask(&about);
                wanted[slots] &= !mask;
                if mask & banned[slots] != 0 {
                    return Err(Hole::Seen(Box::new(point.example(&about.shares[at], mask & banned[slots]))));
                }
            }
        }
        let missing = |(schema, _): &(&'static Schema, _), mask: u64| if in_use(schema) { names_of(schema, mask) } else { Vec::new() };
        let fields: Vec<String> = kind::known().iter().zip(&wanted).flat_map(|(known, mask)| missing(known, *mask)).collect();
        if fields.is_empty() { Ok(()) } else { Err(Hole::Unseen { partner: partner.to_owned(), fields }) }
    }

    /// The partner, group or list that it is about, if it is about one.
    pub(crate) fn whom(&self) -> Option<&str> {
        if let Who::Named(name) = &self.who { Some(name) } else { None }
    }

    /// The partners it speaks of. Somebody whom no rule is for sees nothing.
    fn partners(&self, policy: &Policy) -> BTreeSet<String> {
        let all = || policy.shares.iter().chain(&policy.nevers).flat_map(|rule| rule.partners.iter().cloned()).collect::<BTreeSet<_>>();
        match &self.who {
            Who::Nobody => all(),
            Who::Named(name) => policy.meant_by(name),
            Who::Only(name) => &all() - &policy.meant_by(name),
        }
    }

    /// The slots that must not be seen, and those that must be seen somewhere.
    fn masks(&self) -> (Masks, Masks) {
        let none = || kind::known().iter().map(|_| 0).collect::<Masks>();
        let beside = |names: &BTreeSet<String>| Show::Named(names.clone()).masks().into_iter().map(|mask| !mask).collect::<Masks>();
        match &self.sees {
            Sees::Never(show) => (show.masks(), none()),
            Sees::AtMost(names) => (beside(names), none()),
            Sees::Exactly(names) => {
                let kinds =
                    kind::known().iter().map(|(schema, _)| self.scope.kind.as_ref().map_or(in_use(schema), |kind| kind == schema.name));
                let wanted = Show::Named(names.clone()).masks().into_iter().zip(kinds);
                (beside(names), wanted.map(|(mask, of_kind)| if of_kind { mask } else { 0 }).collect())
            }
        }
    }
}

/// Kinds that people publish.
pub(crate) fn in_use(schema: &Schema) -> bool {
    !std::ptr::eq(schema, &kind::BENCHMARK)
}

fn meets(these: &Masks, those: &Masks) -> bool {
    these.iter().zip(those).any(|(this, that)| this & that != 0)
}

/// Of which records and when, in words that [`Claim::read`] reads.
impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Nobody => write!(f, "nobody")?,
            Who::Named(name) => write!(f, "{}", quoted(name))?,
            Who::Only(name) => write!(f, "only {}", quoted(name))?,
        }
        match (&self.who, &self.sees) {
            (_, Sees::AtMost(names)) if names.is_empty() => write!(f, " sees nothing")?,
            (_, Sees::AtMost(names)) => write!(f, " sees at most {}", list(names))?,
            (_, Sees::Exactly(names)) => write!(f, " sees exactly {}", list(names))?,
            (who, Sees::Never(show)) => {
                let verb = if matches!(who, Who::Named(_)) { "never sees" } else { "sees" };
                match show {
                    Show::Named(names) => write!(f, " {verb} {}", list(names))?,
                    _ => write!(f, " {verb} anything")?,
                }
            }
        }
        let Scope { feed, kind, part, lot, purpose, on } = &self.scope;
        for (word, value) in [("in feed", feed), ("of kind", kind), ("of part", part), ("of lot", lot), ("for", purpose)] {
            if let Some(value) = value {
                write!(f, " {word} {}", quoted(value))?;
            }
        }
        on.map_or(Ok(()), |on| write!(f, " on {:.10}", moment(on)))
    }
}

fn quoted(name: &str) -> String {
    let plain = !name.is_empty() && !name.contains(|letter: char| letter.is_whitespace() || letter == ',' || letter == '"');
    if plain { name.to_owned() } else { format!("\"{name}\"") }
}

// ---- the points

/// One record that could exist, asked for at one moment by a viewer that has stated and accepted something.
#[derive(Clone)]
struct Point {
    viewer: Viewer,
    feed: Option<String>,
    schema: &'static Schema,
    facts: Facts,
    now: i64,
}

/// Signed before anything that a delay could still hold back.
const LONG_AGO: &str = "1000-01-01T00:00:00Z";

/// The first moment asked about, and the first that no longer is; none: for ever.
type Span = (i64, Option<i64>);

/// All that a partner sees of any record of a feed at one moment. The rules are those about that partner.
pub(crate) fn seen(about: &Policy, partner: &str, feed: &str, now: i64) -> Masks {
    let scope = Scope { feed: Some(feed.to_owned()), ..Scope::default() };
    let mut seen: Masks = kind::known().iter().map(|_| 0).collect();
    for (share, _) in about.open(partner, feed, now) {
        for point in points(about, share, partner, &scope, (now, Some(now + 1))) {
            seen[point.slots()] |= point.question().mask(about);
        }
    }
    seen
}

/// The records and moments at which one share shows a partner all that it ever shows. The rules are those about that partner.
///
/// The share is a conjunction, so one value of each condition it asks for is enough, but for what nevers tell apart: each value that
/// a never names, and one that none does. Nevers ask for no verdict, release or time, and thin statistics only hide more.
fn points(policy: &Policy, share: &Rule, partner: &str, scope: &Scope, span: Span) -> Vec<Point> {
    // Of all records, one that no share holds back any more shows most.
    let facts = Facts { recorded_at: Some(LONG_AGO.into()), ..Facts::default() };
    let first = Point { viewer: Viewer::new(partner), feed: None, schema: &kind::BENCHMARK, facts, now: span.0 };
    let mut points = vec![first];
    for condition in Condition::ALL {
        points = points.into_iter().flat_map(|point| point.split(condition, policy, share, scope, span.1)).collect();
    }
    points
}

impl Point {
    /// This point with every value that matters under one condition.
    fn split(self, condition: Condition, policy: &Policy, share: &Rule, scope: &Scope, end: Option<i64>) -> Vec<Point> {
        let with = |change: &dyn Fn(&mut Point)| {
            let mut point = self.clone();
            change(&mut point);
            point
        };
        match condition {
            Condition::Partner | Condition::Field | Condition::Delay => vec![self],
            Condition::Feed => {
                let named = policy.nevers.iter().filter_map(|never| never.feed.one()).cloned();
                let values = values(share.feed.one().map(|feed| BTreeSet::from([feed.clone()])).as_ref(), named, scope.feed.as_ref());
                values.into_iter().map(|feed| with(&|point| point.feed = feed.clone())).collect()
            }
            Condition::Kind => {
                let schemas = kind::known().iter().map(|(schema, _)| *schema).filter(|schema| share.covers_kind(schema));
                let asked = schemas.filter(|schema| scope.kind.as_ref().map_or(in_use(schema), |kind| kind == schema.name));
                asked.map(|schema| with(&|point| (point.schema, point.facts.kind) = (schema, schema.name.into()))).collect()
            }
            Condition::Parts => {
                let listed = |rule: &Rule| if let Parts::List(parts) = &rule.parts { Some(parts.clone()) } else { None };
                let named = policy.nevers.iter().filter_map(listed).flatten();
                let parts = values(listed(share).as_ref(), named, scope.part.as_ref());
                // A never for lots made for the partner tells them apart; a share of them shows no others.
                let apart = policy.nevers.iter().any(|never| never.parts == Parts::Theirs);
                let customers: &[bool] = match &share.parts {
                    Parts::Theirs => &[true],
                    _ if apart => &[false, true],
                    _ => &[false],
                };
                let customer = |theirs: bool| theirs.then(|| self.viewer.partner.clone());
                let both = parts.into_iter().flat_map(|part| customers.iter().map(move |theirs| (part.clone(), customer(*theirs))));
                both.map(|(part, customer)| with(&|point| (point.facts.part, point.facts.customer) = (part.clone(), customer.clone())))
                    .collect()
            }
            Condition::Lots => {
                let named = policy.nevers.iter().flat_map(|never| never.lots.iter().flatten().cloned());
                let lots = values(share.lots.as_ref(), named, scope.lot.as_ref());
                lots.into_iter().map(|lot| with(&|point| point.facts.lot = lot.clone())).collect()
            }
            Condition::Only => {
                let verdict = share.only.map(|only: Only| only.name().to_owned());
                vec![with(&|point| point.facts.verdict = verdict.clone())]
            }
            Condition::Released => vec![with(&|point| point.facts.released = share.released)],
            // Nevers ask neither, and shares only add: what a share asks for is enough, and no more can be stated than is asked about.
            Condition::Purpose => {
                let asked = |purposes: &BTreeSet<String>| scope.purpose.as_ref().is_none_or(|asked| purposes.contains(asked));
                if share.purposes().is_some_and(|purposes| !asked(purposes)) {
                    return Vec::new();
                }
                let stated = scope.purpose.clone().or(share.purposes().and_then(|purposes| purposes.first().cloned()));
                vec![with(&|point| point.viewer.purposes = stated.iter().cloned().collect())]
            }
            Condition::Terms => vec![with(&|point| point.viewer.terms = share.terms.iter().map(Terms::id).collect())],
            // The first second of those asked about in which it holds; with the end, below, none may be left.
            Condition::From => vec![with(&|point| point.now = share.from.map_or(point.now, |from| from.max(point.now)))],
            Condition::Until | Condition::List => {
                let end = [share.end(), end].into_iter().flatten().min();
                if end.is_none_or(|end| self.now < end) { vec![self] } else { Vec::new() }
            }
        }
    }

    fn slots(&self) -> usize {
        kind::known().iter().position(|(schema, _)| std::ptr::eq(*schema, self.schema)).unwrap_or(0)
    }

    fn question(&self) -> Question<'_> {
        // A name that no rule can hold stands for any that no rule names.
        Question::new(&self.viewer, self.feed.as_deref().unwrap_or(""), self.schema, &self.facts, self.now)
    }

    fn example(&self, share: &Rule, mask: u64) -> Example {
        Example {
            partner: self.viewer.partner.clone(),
            rule: share.name.clone(),
            fields: names_of(self.schema, mask),
            feed: self.feed.clone(),
            facts: self.facts.clone(),
            viewer: self.viewer.clone(),
            at: self.now,
        }
    }
}

/// What a value must be tried as: the one asked about, or each of those covered that a never names and one that none does.
/// None stands for any value that no rule names.
fn values(covered: Option<&BTreeSet<String>>, named: impl Iterator<Item = String>, asked: Option<&String>) -> Vec<Option<String>> {
    if let Some(asked) = asked {
        return if covered.is_none_or(|covered| covered.contains(asked)) { vec![Some(asked.clone())] } else { Vec::new() };
    }
    let named: BTreeSet<String> = named.collect();
    match covered {
        None => named.into_iter().map(Some).chain([None]).collect(),
        Some(covered) => {
            let (told, others): (Vec<&String>, Vec<&String>) = covered.iter().partition(|value| named.contains(*value));
            told.into_iter().chain(others.first().copied()).map(|value| Some(value.clone())).collect()
        }
    }
}

impl Feeds {
    fn one(&self) -> Option<&String> {
        if let Feeds::One(feed) = self { Some(feed) } else { None }
    }
}

// ---- sentences

/// A sentence that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}{}", meant.as_ref().map_or(String::new(), |meant| format!(" (did you mean `{meant}`?)")))]
pub struct Unread {
    /// What is wrong.
    pub what: String,
    /// What was probably meant.
    pub meant: Option<String>,
}

/// What a sentence may be.
pub const SENTENCES: &str = "WHO sees nothing | nobody sees WHAT | WHO never sees WHAT | only WHO sees WHAT | WHO sees at most WHAT | \
     WHO sees exactly WHAT; then, as needed: in feed F, of kind K, of part P, of lot L, for PURPOSE, on 2027-01-01";

struct Sentence {
    words: Vec<String>,
    at: usize,
}

impl Sentence {
    fn claim(mut self, policy: &Policy, partners: &[String]) -> Result<Claim, Unread> {
        let who = match self.next("whom the sentence is about")?.as_str() {
            "nobody" => Who::Nobody,
            "only" => Who::Only(self.name(policy, partners)?),
            _ => {
                self.at -= 1;
                Who::Named(self.name(policy, partners)?)
            }
        };
        let mut verb = self.next("`sees`")?;
        let never = verb == "never";
        if never {
            verb = self.next("`sees`")?;
        }
        if verb != "sees" && verb != "see" {
            return Err(Unread::new(format!("`{verb}` stands where `sees` is expected"), meant(&verb, ["sees", "never"])));
        }
        let sees = match (self.peek(), never, &who) {
            ("nothing", false, Who::Named(_)) => {
                self.at += 1;
                Sees::AtMost(BTreeSet::new())
            }
            ("anything" | "everything", _, _) if never || !matches!(who, Who::Named(_)) => {
                self.at += 1;
                Sees::Never(Show::Everything)
            }
            ("at", false, Who::Named(_)) => {
                self.at += 1;
                let most = self.next("`most`")?;
                if most != "most" {
                    return Err(Unread::new(format!("`{most}` stands where `most` is expected"), meant(&most, ["most"])));
                }
                Sees::AtMost(self.fields()?)
            }
            ("exactly", false, Who::Named(_)) => {
                self.at += 1;
                Sees::Exactly(self.fields()?)
            }
            (_, false, Who::Named(_)) => {
                return Err(Unread::new("say whether that is `sees exactly`, `sees at most` or `never sees`".to_owned(), None));
            }
            _ => Sees::Never(Show::Named(self.fields()?)),
        };
        let mut scope = Scope::default();
        while self.at < self.words.len() {
            self.limit(&mut scope, policy)?;
        }
        Ok(Claim { who, sees, scope })
    }

    fn limit(&mut self, scope: &mut Scope, policy: &Policy) -> Result<(), Unread> {
        let word = self.next("more")?;
        let place = match word.as_str() {
            "on" => {
                let day = self.next("a day")?;
                scope.on = Some(day_of(&day).ok_or_else(|| Unread::new(format!("`{day}` is no day; write 2027-01-01"), None))?);
                return Ok(());
            }
            "in" | "of" => match self.next("`feed`, `kind`, `part` or `lot`")?.as_str() {
                "feed" => &mut scope.feed,
                "kind" => &mut scope.kind,
                "part" => &mut scope.part,
                "lot" => &mut scope.lot,
                other => {
                    return Err(Unread::new(format!("`{word} {other}` limits nothing"), meant(other, ["feed", "kind", "part", "lot"])));
                }
            },
            "for" => {
                let purpose = self.next("a purpose")?;
                let known: Vec<&str> = policy.purposes().collect();
                if !known.contains(&purpose.as_str()) {
                    return Err(Unread::new(format!("no purpose is called `{purpose}`"), meant(&purpose, &known)));
                }
                scope.purpose = Some(purpose);
                return Ok(());
            }
            other => return Err(Unread::new(format!("`{other}` has no place here"), meant(other, ["of", "in", "on", "for"]))),
        };
        *place = Some(self.words.get(self.at).cloned().ok_or_else(|| Unread::new("the sentence ends too early".to_owned(), None))?);
        self.at += 1;
        Ok(())
    }

    fn name(&mut self, policy: &Policy, partners: &[String]) -> Result<String, Unread> {
        let name = self.next("a partner or group")?;
        let lists: Vec<String> = policy.lists.keys().map(|list| format!("{MEMBERS_OF}{list}")).collect();
        let known: Vec<&String> = partners.iter().chain(policy.groups.keys()).chain(&lists).collect();
        if known.contains(&&name) {
            return Ok(name);
        }
        let words = known.iter().map(|known| known.as_str()).chain(["nobody", "only"]);
        Err(Unread::new(format!("no partner or group is called `{name}`"), meant(&name, words)))
    }

    /// Groups and fields up to the first word that is none.
    fn fields(&mut self) -> Result<BTreeSet<String>, Unread> {
        let mut fields = BTreeSet::new();
        while !["", "in", "of", "on", "for"].contains(&self.peek()) {
            let name = self.next("a group or field")?;
            if name == "and" {
                continue;
            }
            if !is_field(&name) {
                let known: Vec<String> = crate::parse::field_names().map(String::from).collect();
                return Err(Unread::new(format!("no group or field is called `{name}`"), meant(&name, &known)));
            }
            fields.insert(name);
        }
        if fields.is_empty() { Err(Unread::new("the sentence names no group or field".to_owned(), None)) } else { Ok(fields) }
    }

    fn peek(&self) -> &str {
        self.words.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self, expected: &str) -> Result<String, Unread> {
        let word = self.words.get(self.at).cloned();
        self.at += 1;
        word.ok_or_else(|| Unread::new(format!("the sentence ends where {expected} is expected"), None))
    }
}

impl Unread {
    fn new(what: String, meant: Option<String>) -> Unread {
        Unread { what, meant }
    }
}

/// Words between spaces and commas; quotes hold together what has spaces in it.
fn words(sentence: &str) -> Result<Vec<String>, Unread> {
    let mut words = Vec::new();
    for (at, piece) in sentence.split('"').enumerate() {
        match at % 2 {
            0 => words.extend(piece.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty()).map(str::to_owned)),
            _ => words.push(piece.to_owned()),
        }
    }
    if sentence.matches('"').count() % 2 == 1 {
        return Err(Unread::new("a quote is not closed".to_owned(), None));
    }
    Ok(words)
}
