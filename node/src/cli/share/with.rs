//! `lotline share with`: a share from a template, for people who never open the file. Every question is also a flag.

use std::collections::BTreeSet;

use jiff::civil::Date;
use lotline_policy::MEMBERS_OF;
use lotline_policy::parse::meant;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::rule_file::{Consent, RuleFile};
use super::template::{Asks, Chosen, TEMPLATES, Template, Told};
use super::words;
use crate::answer::{Answer, Failure, exit};
use crate::cli::{ask, policy};
use crate::desk::Desk;
use crate::service::{day_text, now};

/// Flags of `share with`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
#[command(after_help = "Example: lotline share with oem-a\n         \
    lotline share with oem-a incoming-inspection --feed quality --parts theirs --until 2027-07-01 --yes\n         \
    lotline share with oem-a first-article --feed quality --parts P-4711 --lots L-2026-11 --until revoked --dry-run")]
pub struct Args {
    /// The partner (or a group of your rules, or members-of:NAME).
    with: Option<String>,
    /// What to share: incoming-inspection, first-article, non-conforming, audit-window, delayed or special-characteristics.
    template: Option<String>,
    /// From which of your feeds: a name, or all.
    #[arg(long)]
    feed: Option<String>,
    /// Which parts: theirs (lots you published for them), all, or a part number. Give it again for more numbers.
    #[arg(long, value_name = "PART")]
    parts: Vec<String>,
    /// Only this lot. Give it again for more lots.
    #[arg(long, value_name = "LOT")]
    lots: Vec<String>,
    /// The first day, as 2027-01-01.
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// The day it ends, as 2027-07-01, or revoked: until you end it.
    #[arg(long, value_name = "DAY")]
    until: Option<String>,
    /// For `delayed`: how long after signing, as 24h.
    #[arg(long, value_name = "TIME")]
    delay: Option<String>,
    /// Only for a partner that states this purpose: incoming-inspection, audit, containment, supplier-development, or one that
    /// policy.toml declares. Give it again for more.
    #[arg(long = "for", value_name = "PURPOSE")]
    #[serde(default)]
    purposes: Vec<String>,
    /// The partner must promise to delete it after this time, as 90d or 2w.
    #[arg(long, value_name = "TIME")]
    #[serde(default)]
    delete_after: Option<String>,
    /// `no`: the partner must promise to pass it on to nobody.
    #[arg(long, value_name = "no", value_parser = ["no"])]
    #[serde(default)]
    pass_on: Option<String>,
    /// What the rule is called in answers and in the ledger (else after partner and template).
    #[arg(long)]
    name: Option<String>,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
    /// Show the rule and what it would change, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Does it.
pub fn run(desk: &Desk, args: Args) -> Result<Answer, Failure> {
    let file = RuleFile::open(desk)?;
    let consent = Consent { yes: args.yes, dry_run: args.dry_run };
    let (template, told) = tell(desk, args)?;
    share(desk, file, template, &told, consent)
}

/// Adds the rule of a template to the file, shows it in words, and applies it.
fn share(desk: &Desk, file: RuleFile, template: &Template, told: &Told, consent: Consent) -> Result<Answer, Failure> {
    let rule = template.rule(told);
    let path = desk.home.policy_file();
    let checked = policy::check(desk, &path, &RuleFile::with_rule(&file.text, "", "", &rule))
        .map_err(|failure| failure.hint("nothing was changed; rules that ended or name what is gone go with `lotline share end NAME`"))?;
    let sentence = checked.shares().iter().find(|share| share.name == told.name).map(words::share).unwrap_or_default();
    let text = RuleFile::with_rule(&file.text, &sentence, &day_text(now()), &rule);
    let shown = format!("{rule}\nIn words: {sentence}.");
    file.put(desk, text, &shown, consent, json!({ "share": told.name, "rule": rule, "words": sentence, "template": template.name }))
}

/// What a template is told, from flags or by asking; each name is checked at once.
fn tell(desk: &Desk, args: Args) -> Result<(&'static Template, Told), Failure> {
    let snapshot = desk.handle.snapshot();
    let asking = Asking { desk };
    let lists = snapshot.lists.keys().map(|list| format!("{MEMBERS_OF}{list}"));
    let known: Vec<String> = snapshot.book.keys().cloned().chain(snapshot.policy.groups().keys().cloned()).chain(lists).collect();
    let example = snapshot.book.keys().next().map_or("", String::as_str);
    let with = asking.for_one(args.with, "PARTNER", "Whom do you want to show something?", example)?;
    let with = one_of(with, &known, "partner or group", "pair with them first; `lotline partner list` shows whom you know")?;

    let names = TEMPLATES.map(|template| template.name);
    let choice = TEMPLATES.map(|template| format!("  {:<24} {}\n", template.name, template.what)).concat();
    let question = format!("What do you want to share?\n{choice}Which of these?");
    let template = asking.for_one(args.template, "TEMPLATE", &question, names[0])?;
    let template = one_of(template, &names, "template", &format!("the templates are {}", names.join(", ")))?;
    let template = Template::named(&template).expect("its name was found in the list");

    let mut feeds = snapshot.own_feed_names();
    feeds.extend(snapshot.book.values().map(|partner| partner.feed.clone()));
    let example = snapshot.book.get(&with).map(|partner| partner.feed.clone()).filter(|feed| snapshot.own_feed_names().contains(feed));
    let example = example.or(snapshot.own_feed_names().first().cloned()).unwrap_or_else(|| "all".into());
    let feed = asking.for_one(args.feed, "--feed", "From which of your feeds? One name, or all", &example)?;
    feeds.push("all".into());
    let feed = one_of(feed, &feeds, "feed", "`lotline feeds` shows your feeds; write all for every one")?;

    let (parts, lots) = policy::parts_and_lots(desk)?;
    let question = "Which parts? theirs (lots you published for them), all, or part numbers with commas between them";
    let chosen = match &asking.for_some(args.parts, "--parts", question, "theirs")?[..] {
        [word] if word == "theirs" => Chosen::Word("theirs"),
        [word] if word == "all" => Chosen::Word("all"),
        numbers => Chosen::Numbers(all_of(numbers, &parts, "part", "write theirs or all alone, or numbers of parts that you published")?),
    };
    let named = match template.asks {
        Asks::Lots => {
            let example = lots.iter().next().map_or("", String::as_str);
            asking.for_some(args.lots, "--lots", "Which lots? Lot numbers with commas between them", example)?
        }
        _ => args.lots,
    };
    let lots = all_of(&named, &lots, "lot", "`lotline records` shows what you published")?;

    let window = template.asks == Asks::Window;
    let from = match window {
        true => Some(asking.for_one(args.from, "--from", "From which day?", &day_text(now()))?),
        false => args.from,
    };
    let from = from.map(|from| day("--from", &from)).transpose()?;
    let (question, example) = match window {
        true => ("Until when? The first day on which it is over", days_ahead(14)),
        false => ("Until when? A day, or revoked: until you end it", days_ahead(365)),
    };
    let until = match asking.for_one(args.until, "--until", question, &example)?.as_str() {
        "revoked" if !window => None,
        until => Some(day("--until", until)?),
    };
    if let (Some(from), Some(until)) = (from, until)
        && until <= from
    {
        return Err(Failure::new(format!("it would end ({until}) before it begins ({from})")).exit(exit::USAGE));
    }
    let delay = match (template.asks, args.delay) {
        (Asks::Delay, delay) => Some(asking.for_one(delay, "--delay", "How long after signing?", "24h")?),
        (_, None) => None,
        (_, Some(_)) => {
            return Err(Failure::new("--delay belongs to the template `delayed`").exit(exit::USAGE).hint("choose that template"));
        }
    };
    let name =
        args.name.unwrap_or_else(|| free_name(&desk.handle.snapshot().policy, &format!("{}-{}", with.replace(':', "-"), template.name)));
    Ok((
        template,
        Told {
            name,
            with,
            feed,
            parts: chosen,
            lots,
            from,
            until,
            delay,
            purposes: args.purposes,
            delete_after: args.delete_after,
            stays: args.pass_on.is_some(),
        },
    ))
}

/// Asks where somebody can answer; beside a running node flags say it all.
pub(in crate::cli) struct Asking<'d> {
    pub desk: &'d Desk,
}

impl Asking<'_> {
    /// What the flag says, else the answer; `example` is the answer when somebody only presses enter.
    pub fn for_one(&self, given: Option<String>, flag: &str, question: &str, example: &str) -> Result<String, Failure> {
        let asked = || if self.desk.board.is_none() { ask(question, example) } else { None };
        given.or_else(asked).map(|answer| answer.trim().to_owned()).filter(|answer| !answer.is_empty()).ok_or_else(|| {
            let hint = if example.is_empty() { String::new() } else { format!(", for example {example}") };
            Failure::new(format!("{flag} is missing. {question}")).exit(exit::USAGE).hint(format!("add {flag}{hint}"))
        })
    }

    fn for_some(&self, given: Vec<String>, flag: &str, question: &str, example: &str) -> Result<Vec<String>, Failure> {
        if !given.is_empty() {
            return Ok(given);
        }
        let answer = self.for_one(None, flag, question, example)?;
        Ok(answer.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
    }
}

/// The answer, if it is one of those known; else what was probably meant.
pub(in crate::cli) fn one_of(answer: String, known: &[impl AsRef<str>], what: &str, next: &str) -> Result<String, Failure> {
    if known.iter().any(|known| known.as_ref() == answer) {
        return Ok(answer);
    }
    let meant = meant(&answer, known.iter().map(AsRef::as_ref)).map_or(String::new(), |meant| format!(" (did you mean `{meant}`?)"));
    Err(Failure::new(format!("no {what} is called `{answer}`{meant}")).exit(exit::USAGE).hint(next))
}

fn all_of(answers: &[String], known: &BTreeSet<String>, what: &str, next: &str) -> Result<Vec<String>, Failure> {
    let known: Vec<&String> = known.iter().collect();
    answers.iter().map(|answer| one_of(answer.clone(), &known, what, next)).collect()
}

/// A day, in its one spelling.
pub(in crate::cli) fn day(flag: &str, text: &str) -> Result<Date, Failure> {
    let wrong = || Failure::new(format!("{flag} is a day, and `{text}` is none")).exit(exit::USAGE).hint("write a day as 2027-07-01");
    text.parse::<Date>().ok().filter(|date| date.to_string() == text).ok_or_else(wrong)
}

fn days_ahead(days: u64) -> String {
    day_text(now() + days * 86_400)
}

/// A name that no rule has.
pub(in crate::cli) fn free_name(policy: &lotline_policy::Policy, name: &str) -> String {
    let taken = |name: &str| policy.shares().iter().chain(policy.nevers()).any(|rule| rule.name == name);
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken(name)).expect("there is always a next number")
}
