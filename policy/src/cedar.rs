//! The rules in force as Cedar text (cedarpolicy.com, language 4): for tools and people that know that language, and for the
//! oracle in the tests, which asks Cedar's own evaluator the same questions.
//!
//! A share is a `permit`, a never is a `forbid`; both languages say no by default, and a forbid wins in both. One action
//! stands for one field of one kind, grouped as the fields are: `Action::"inspection:verdict_stated"` in
//! `Action::"inspection:group/verdict"`.

use std::fmt::Write as _;

use jiff::Timestamp;
use lotline_schema::kind::{self, Group, Schema};

use crate::policy::{Condition, Feeds, MEMBERS_OF, Only, Parts, Policy, Rule, Stopped};

/// What the policies below are about, as a Cedar schema: parties in groups, records, and an action a field. Who asks gives
/// the moment, the purposes that the party stated, and the ids of the terms that it accepted.
///
/// ```
/// let schema = lotline_policy::cedar::schema();
/// assert!(schema.contains("action \"inspection:lot\" in [\"inspection:group/identity\"]"));
/// ```
pub fn schema() -> String {
    let mut text = String::from(
        "entity Group;\nentity Party in [Group];\nentity Record = {\n  feed: String,\n  part?: String,\n  lot?: String,\n  customer?: Party,\n  conforming?: Bool,\n  recorded?: datetime,\n  released: Bool,\n  \
         thin: Set<String>,\n};\ntype Ask = {\n  now: datetime,\n  purposes: Set<String>,\n  terms: Set<String>,\n};\n\
         action \"nothing\" appliesTo { principal: Party, resource: Record, context: Ask };\n",
    );
    for schema in kinds() {
        for group in groups(schema) {
            let _ = writeln!(text, "action {};", quoted(&whole(schema, group)));
        }
        for field in schema.fields {
            let (of, group) = (quoted(&action(schema, field.name)), quoted(&whole(schema, field.group)));
            let _ = writeln!(text, "action {of} in [{group}] appliesTo {{ principal: Party, resource: Record, context: Ask }};");
        }
    }
    text
}

/// The rules as Cedar policies, with the members of groups as remarks. What is stopped is in it.
///
/// ```
/// use lotline_policy::{Policy, cedar};
/// let text = "[[never]]\nname = 'stays-here'\nwith = 'rival'\nshow = ['process']";
/// let cedar = cedar::export(&Policy::restore(text)?);
/// assert!(cedar.contains("@id(\"stays-here\")\nforbid (principal, action in [Action::\"inspection:group/process\"], resource)"));
/// # Ok::<(), lotline_policy::Slips>(())
/// ```
pub fn export(policy: &Policy) -> String {
    let mut text = format!("// The sharing rules of a Lotline node, version {}.\n", policy.version());
    let lists = policy.lists().iter().map(|(name, list)| (format!("{MEMBERS_OF}{name}"), &list.partners));
    for (group, members) in policy.groups().iter().map(|(name, members)| (name.clone(), members)).chain(lists) {
        let _ = writeln!(text, "// Group {}: {}", quoted(&group), set(members));
    }
    for rule in policy.shares() {
        put(&mut text, "permit", &rule.name, &actions(rule), &conditions(rule));
    }
    for rule in policy.nevers() {
        put(&mut text, "forbid", &rule.name, &actions(rule), &conditions(rule));
    }
    for schema in kinds() {
        thin(&mut text, policy, schema);
    }
    let Stopped { everybody, partners } = policy.stopped();
    if *everybody {
        put(&mut text, "forbid", "stopped with everybody", &[], &[]);
    }
    for partner in partners {
        put(&mut text, "forbid", &format!("stopped with {partner}"), &[], &[format!("principal == Party::{}", quoted(partner))]);
    }
    text
}

/// Statistics over fewer than ten values leave only where their values do.
fn thin(text: &mut String, policy: &Policy, schema: &'static Schema) {
    for field in schema.fields {
        let Some(values) = field.name.strip_suffix("_statistics").and_then(|table| schema.slot(&format!("{table}_values"))) else {
            continue;
        };
        let naming = |rules: &[Rule]| -> String {
            let rules = rules.iter().filter(|rule| shown_of(rule, schema) >> values & 1 == 1);
            let each: Vec<String> = rules.map(|rule| format!("({})", conditions(rule).join(" && "))).collect();
            if each.is_empty() { "false".into() } else { each.join(" || ") }
        };
        let open = format!("!(({}) && !({}))", naming(policy.shares()), naming(policy.nevers()));
        let is_thin = format!("resource.thin.contains({})", quoted(field.name));
        put(text, "forbid", &format!("too few values: {}", field.name), &[action(schema, field.name)], &[is_thin, open]);
    }
}

fn put(text: &mut String, effect: &str, id: &str, actions: &[String], conditions: &[String]) {
    let actions: Vec<String> = actions.iter().map(|action| format!("Action::{}", quoted(action))).collect();
    let action = if actions.is_empty() { "action".into() } else { format!("action in [{}]", actions.join(", ")) };
    let _ = write!(text, "\n@id({})\n{effect} (principal, {action}, resource)", quoted(id));
    let _ = match conditions {
        [] => writeln!(text, ";"),
        conditions => writeln!(text, "\nwhen {{\n  {}\n}};", conditions.join(" &&\n  ")),
    };
}

/// The fields a rule names, by whole groups where it can be. A rule that names none of a known kind acts on nothing.
fn actions(rule: &Rule) -> Vec<String> {
    let mut actions = Vec::new();
    for schema in kinds() {
        let mask = shown_of(rule, schema);
        for group in groups(schema) {
            let fields = || schema.fields.iter().enumerate().filter(|(_, field)| field.group == group);
            match fields().all(|(slot, _)| mask >> slot & 1 == 1) {
                true => actions.push(whole(schema, group)),
                false => actions.extend(fields().filter(|(slot, _)| mask >> slot & 1 == 1).map(|(_, field)| action(schema, field.name))),
            }
        }
    }
    match actions.is_empty() {
        true => vec!["nothing".into()],
        false => actions,
    }
}

fn shown_of(rule: &Rule, schema: &'static Schema) -> u64 {
    if rule.covers_kind(schema) { rule.mask(schema) } else { 0 }
}

/// Every condition of a rule but kind and field, which its actions say.
fn conditions(rule: &Rule) -> Vec<String> {
    Condition::ALL.into_iter().filter_map(|condition| said(rule, condition)).collect()
}

fn said(rule: &Rule, condition: Condition) -> Option<String> {
    match condition {
        Condition::Partner if rule.partners.contains(&rule.with) => Some(format!("principal == Party::{}", quoted(&rule.with))),
        Condition::Partner => Some(format!("principal in Group::{}", quoted(&rule.with))),
        Condition::Field | Condition::Kind => None,
        Condition::Feed => match &rule.feed {
            Feeds::All => None,
            Feeds::One(feed) => Some(format!("resource.feed == {}", quoted(feed))),
        },
        Condition::Parts => match &rule.parts {
            Parts::All => None,
            Parts::Theirs => Some("resource has customer && resource.customer == principal".into()),
            Parts::List(parts) => Some(format!("resource has part && {}.contains(resource.part)", set(parts))),
        },
        Condition::Lots => rule.lots.as_ref().map(|lots| format!("resource has lot && {}.contains(resource.lot)", set(lots))),
        Condition::Released => rule.released.then(|| "resource.released".into()),
        Condition::Only => rule.only.map(|only| format!("resource has conforming && resource.conforming == {}", only == Only::Conforming)),
        Condition::From => rule.from.map(|from| format!("context.now >= {}", datetime(from))),
        Condition::Until => rule.until.map(|until| format!("context.now < {}", datetime(until))),
        Condition::List => rule.list_until.map(|until| format!("context.now < {}", datetime(until))),
        Condition::Delay => rule.delay.map(|delay| {
            let hours = quoted(&format!("{}h", delay.seconds() / 3_600));
            format!("resource has recorded && context.now >= resource.recorded.offset(duration({hours}))")
        }),
        Condition::Purpose => rule.purposes().map(|purposes| format!("context.purposes.containsAny({})", set(purposes))),
        Condition::Terms => rule.terms.as_ref().map(|terms| format!("context.terms.contains({})", quoted(&terms.id().to_string()))),
    }
}

/// The kinds that people publish: that of `lotline bench` is left out.
fn kinds() -> impl Iterator<Item = &'static Schema> {
    kind::known().iter().map(|(schema, _)| *schema).filter(|schema| !std::ptr::eq(*schema, &kind::BENCHMARK))
}

fn set<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    format!("[{}]", items.into_iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
}

fn datetime(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds).map_or_else(|_| String::new(), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    format!("datetime({})", quoted(&time))
}

fn groups(schema: &Schema) -> impl Iterator<Item = Group> {
    let of = schema.fields.iter().map(|field| field.group).collect::<Vec<_>>();
    Group::ALL.into_iter().filter(move |group| of.contains(group))
}

fn action(schema: &Schema, name: &str) -> String {
    format!("{}:{name}", schema.name)
}

/// The action that stands for a group of fields; some groups are called like a field.
fn whole(schema: &Schema, group: Group) -> String {
    action(schema, &format!("group/{}", group.name()))
}

/// A string literal of Cedar, whatever is in it.
fn quoted(text: &str) -> String {
    let mut literal = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => literal.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(literal, "\\u{{{:x}}}", u32::from(letter));
            }
            letter => literal.push(letter),
        }
    }
    literal.push('"');
    literal
}
