//! The ready-made shares of `lotline share with`: what each shows and what it must be told, as data, and the rule it makes.

use jiff::civil::Date;

/// A ready-made share.
#[derive(Debug)]
pub struct Template {
    /// What the command line calls it.
    pub name: &'static str,
    /// What it is for, in words.
    pub what: &'static str,
    /// The groups it shows. Never persons, never commercial data.
    pub show: &'static [&'static str],
    /// The only lots it is about.
    pub only: Option<&'static str>,
    /// What it must be told beside feed, parts and end.
    pub asks: Asks,
}

/// What a template must be told beside feed, parts and end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asks {
    /// No more.
    NoMore,
    /// The lots it is about.
    Lots,
    /// The first day, and an end that is a day.
    Window,
    /// How long a record waits.
    Delay,
}

/// Every template; docs/policy.md shows the rule each makes.
pub const TEMPLATES: [Template; 6] = [
    Template {
        name: "incoming-inspection",
        what: "a summary for incoming inspection: verdict and capability, no single values",
        show: &["identity", "verdict", "capability"],
        only: None,
        asks: Asks::NoMore,
    },
    Template {
        name: "first-article",
        what: "first article and PPAP: limits, values, capability and defects of the lots you name",
        show: &["identity", "specification", "verdict", "capability", "defects", "measurements"],
        only: None,
        asks: Asks::Lots,
    },
    Template {
        name: "non-conforming",
        what: "non-conforming lots only, with their defects",
        show: &["identity", "verdict", "defects"],
        only: Some("non-conforming"),
        asks: Asks::NoMore,
    },
    Template {
        name: "audit-window",
        what: "everything but persons and commercial data, from one day to another",
        show: &[
            "identity",
            "specification",
            "verdict",
            "capability",
            "defects",
            "measurements",
            "process",
            "genealogy",
            "document",
            "sustainability",
        ],
        only: None,
        asks: Asks::Window,
    },
    Template {
        name: "delayed",
        what: "identity and verdict, some time after signing",
        show: &["identity", "verdict"],
        only: None,
        asks: Asks::Delay,
    },
    Template {
        name: "special-characteristics",
        what: "limits, verdicts, capability and values of special characteristics, nothing of the others",
        show: &["identity", "specification:special", "verdict:special", "capability:special", "measurements:special"],
        only: None,
        asks: Asks::NoMore,
    },
];

/// What a template was told: a rule with nothing left open.
#[derive(Clone, Debug)]
pub struct Told {
    /// What the rule is called.
    pub name: String,
    /// The partner, group or member list.
    pub with: String,
    /// The feed, or `all`.
    pub feed: String,
    /// Which parts.
    pub parts: Chosen,
    /// Only these lots; empty: every lot.
    pub lots: Vec<String>,
    /// The first day.
    pub from: Option<Date>,
    /// The day it ends; none: until revoked.
    pub until: Option<Date>,
    /// How long a record waits.
    pub delay: Option<String>,
    /// What the partner must state that it uses the data for; empty: any use.
    pub purposes: Vec<String>,
    /// After what time the partner is to delete what it received.
    pub delete_after: Option<String>,
    /// Whether the partner must not pass it on.
    pub stays: bool,
}

/// Which parts a share is about.
#[derive(Clone, Debug)]
pub enum Chosen {
    /// `theirs` or `all`.
    Word(&'static str),
    /// These numbers.
    Numbers(Vec<String>),
}

impl Template {
    /// The template of this name.
    pub fn named(name: &str) -> Option<&'static Template> {
        TEMPLATES.iter().find(|template| template.name == name)
    }

    /// The rule, as it stands in policy.toml.
    pub fn rule(&self, told: &Told) -> String {
        told.rule(self.show, self.only, NO_KINDS)
    }
}

impl Told {
    /// What the partner promises, as `then` says it.
    fn then(&self) -> Option<String> {
        let deleted = self.delete_after.as_deref().map(|after| format!("delete_after = {}", quoted(after)));
        let promised: Vec<String> = deleted.into_iter().chain(self.stays.then(|| "pass_on = \"no\"".to_owned())).collect();
        (!promised.is_empty()).then(|| format!("{{ {} }}", promised.join(", ")))
    }

    /// The rule that shows these groups and fields, as it stands in policy.toml.
    pub fn rule(&self, show: &[impl AsRef<str>], only: Option<&str>, kinds: &[impl AsRef<str>]) -> String {
        let day = |day: Option<Date>| day.map(|day| day.to_string());
        let parts = match &self.parts {
            Chosen::Word(word) => quoted(word),
            Chosen::Numbers(numbers) => list(numbers),
        };
        let lines = [
            ("name", Some(quoted(&self.name))),
            ("with", Some(quoted(&self.with))),
            ("feed", Some(quoted(&self.feed))),
            ("parts", Some(parts)),
            ("lots", (!self.lots.is_empty()).then(|| list(&self.lots))),
            ("show", Some(list(show))),
            ("kinds", (!kinds.is_empty()).then(|| list(kinds))),
            ("only", only.map(quoted)),
            ("delay", self.delay.as_deref().map(quoted)),
            ("for", (!self.purposes.is_empty()).then(|| list(&self.purposes))),
            ("then", self.then()),
            ("from", day(self.from)),
            ("until", Some(day(self.until).unwrap_or_else(|| quoted("revoked")))),
        ];
        let mut rule = String::from("[[share]]\n");
        for (key, value) in lines {
            if let Some(value) = value {
                rule.push_str(&format!("{key:<5} = {value}\n"));
            }
        }
        rule
    }
}

/// A template is about every kind.
const NO_KINDS: &[&str] = &[];

/// A text as TOML writes it: a quote in a name ends no string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list(items: &[impl AsRef<str>]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item.as_ref())).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use lotline_policy::{Viewer, World, decide, parse};
    use lotline_schema::Facts;
    use lotline_schema::kind::inspection::SCHEMA;

    use super::*;

    fn told(template: &Template) -> Told {
        Told {
            name: format!("oem-a-{}", template.name),
            with: "oem-a".into(),
            feed: "quality".into(),
            parts: Chosen::Numbers(vec!["P-4711".into(), "P \"1\" \\ 'x'".into()]),
            lots: if template.asks == Asks::Lots { vec!["L-1".into()] } else { Vec::new() },
            from: (template.asks == Asks::Window).then(|| Date::constant(2026, 12, 1)),
            until: (template.asks == Asks::Window).then(|| Date::constant(2026, 12, 13)),
            delay: (template.asks == Asks::Delay).then(|| "24h".into()),
            purposes: Vec::new(),
            delete_after: None,
            stays: false,
        }
    }

    /// The fields a partner sees of a lot under a template alone.
    fn seen(template: &Template, verdict: &str) -> BTreeSet<&'static str> {
        let (partners, feeds) = (["oem-a".to_owned()], ["quality".to_owned()]);
        let parts = BTreeSet::from(["P-4711".to_owned(), "P \"1\" \\ 'x'".to_owned()]);
        let lots = BTreeSet::from(["L-1".to_owned()]);
        let world = World { partners: &partners, feeds: &feeds, parts: &parts, lots: &lots, ..World::default() };
        let policy = parse(&template.rule(&told(template)), &world).unwrap();
        let facts = Facts {
            kind: SCHEMA.name.into(),
            part: Some("P-4711".into()),
            lot: Some("L-1".into()),
            verdict: Some(verdict.into()),
            recorded_at: Some("2026-11-01T00:00:00Z".into()),
            ..Facts::default()
        };
        let december = 1_796_515_200;
        let mask = decide(&policy, &Viewer::new("oem-a"), "quality", &SCHEMA, &facts, december).mask;
        SCHEMA.fields.iter().enumerate().filter(|(slot, _)| mask >> slot & 1 == 1).map(|(_, field)| field.name).collect()
    }

    #[test]
    fn each_template_shows_its_groups_and_nothing_else() {
        for template in &TEMPLATES {
            let named = |group: &str, field: &str| {
                let table = field.split('_').next().unwrap();
                template.show.contains(&group) || template.show.contains(&format!("{group}:{table}").as_str())
            };
            let says: BTreeSet<&str> =
                SCHEMA.fields.iter().filter(|field| named(field.group.name(), field.name)).map(|field| field.name).collect();
            assert_eq!(seen(template, "non-conforming"), says, "{}", template.name);
            assert!(!says.contains("inspector") && !says.contains("commercial"), "{}", template.name);
            let conforming = seen(template, "conforming");
            assert_eq!(conforming.is_empty(), template.only.is_some(), "{}", template.name);
        }
    }

    #[test]
    fn each_template_can_ask_for_a_purpose_and_for_promises() {
        for template in &TEMPLATES {
            let told = Told { purposes: vec!["audit".into()], delete_after: Some("90d".into()), stays: true, ..told(template) };
            let rule = template.rule(&told);
            let policy = lotline_policy::Policy::restore(&rule).unwrap();
            let terms = policy.shares()[0].terms.clone().unwrap();
            assert_eq!(terms.promises(), ["use it only for: audit", "delete it 90 days after receipt", "pass it on to nobody"], "{rule}");
        }
    }

    #[test]
    fn a_delayed_share_says_how_long() {
        let template = Template::named("delayed").unwrap();
        assert!(template.rule(&told(template)).contains("\ndelay = \"24h\"\n"));
        assert_eq!(template.show, ["identity", "verdict"]);
    }
}
