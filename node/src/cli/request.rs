//! `lotline request`: a customer signs what it wants to be shown, by when and what for; the supplier shares, trims or
//! declines; both are files. Only the supplier's rules share anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lotline_policy::{Policy, decide};
use lotline_schema::delivery::Receipt;
use lotline_schema::file;
use lotline_schema::kind;
use lotline_schema::requirements::{Answer as Reply, Deadline, Opened, Reply as Said, Requirement, Requirements, RequirementsFile, Stated};
use lotline_schema::verify::Outcome;
use lotline_schema::{Hash, PartyId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::input;
use super::policy;
use super::share::rule_file::{Consent, RuleFile};
use super::share::template::{Chosen, Told};
use super::share::with::{Asking, day, free_name, one_of};
use super::share::words;
use crate::answer::{Answer, Failure, exit};
use crate::certificate::harmless;
use crate::desk::Desk;
use crate::feeds::{LETTER_BYTES_MAX, LetterError, Partner, Sent, Summary, demands, requests, witness};
use crate::platform;
use crate::service::{day as midnight, day_text, now};

/// What to do with requirements.
#[derive(clap::Subcommand, Serialize, Deserialize, Clone, Debug)]
pub enum Verb {
    /// Customer: sign what you want a supplier to show you.
    #[command(after_help = "Example: lotline request sign requirements.toml")]
    Sign {
        /// The list: to = "supplier", and a [[requirement]] with name, show, purpose, and parts, kinds, deadline where you want them.
        file: PathBuf,
        /// Write it into this file as well, to send by mail.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Supplier: read a customer's requirements, and share, trim or decline each. Without a decision it only shows them.
    Answer(Decisions),
    /// Customer: keep a supplier's answer that came by mail; over the network it comes by itself.
    #[command(after_help = "Example: lotline request take answer.lotline")]
    Take {
        /// The answer, as the supplier gave it to you.
        file: PathBuf,
    },
    /// Which requirement is met, open, late or declined; and what partners ask of you.
    #[command(after_help = "Example: lotline request status")]
    Status,
}

/// Flags of `request answer`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
#[command(after_help = "Example: lotline request answer --from oem-a\n         \
    lotline request answer requirements.lotline --share incoming --decline \"process=not agreed\" --feed quality --until revoked --yes -o answer.lotline")]
pub struct Decisions {
    /// The customer's requirements, when they came by mail.
    #[arg(conflicts_with = "from")]
    file: Option<PathBuf>,
    /// The customer whose requirements came over the network; without it and without FILE the one that waits.
    #[arg(long, value_name = "PARTNER")]
    from: Option<String>,
    /// Share what this requirement asks for, as far as your bans let it. Give it again for more.
    #[arg(long, value_name = "NAME")]
    share: Vec<String>,
    /// Share these groups and fields of it and no others, as incoming=identity,verdict.
    #[arg(long, value_name = "NAME=GROUPS")]
    trim: Vec<String>,
    /// Decline it and say why, as process="not agreed".
    #[arg(long, value_name = "NAME=REASON")]
    decline: Vec<String>,
    /// From which of your feeds: a name, or all.
    #[arg(long)]
    feed: Option<String>,
    /// The day the shares end, as 2027-07-01, or revoked: until you end them.
    #[arg(long, value_name = "DAY")]
    until: Option<String>,
    /// Write the signed answer into this file as well, to send by mail.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
    /// Show what would be shared, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Verb {
    pub(super) fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Verb::Sign { file, output } => std::iter::once(file).chain(output).collect(),
            Verb::Answer(of) => of.file.iter_mut().chain(&mut of.output).collect(),
            Verb::Take { file } => vec![file],
            Verb::Status => Vec::new(),
        }
    }
}

/// The requirements as a customer writes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// The supplier, as the partner book names it.
    to: String,
    requirement: Vec<WantedOne>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedOne {
    name: String,
    show: BTreeSet<String>,
    purpose: String,
    #[serde(default)]
    kinds: BTreeSet<String>,
    #[serde(default)]
    parts: BTreeSet<String>,
    /// A day, or "each lot within 5d".
    deadline: Option<toml::Value>,
}

/// Does it.
pub fn run(desk: &Desk, verb: Verb) -> Result<Answer, Failure> {
    match verb {
        Verb::Sign { file, output } => sign(desk, &file, output.as_deref()),
        Verb::Answer(decisions) => answer(desk, decisions),
        Verb::Take { file } => take(desk, &file),
        Verb::Status => status(desk),
    }
}

// ---- the customer asks

fn sign(desk: &Desk, file: &Path, output: Option<&Path>) -> Result<Answer, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::new(format!("`{}`: {why}", file.display()))
            .exit(exit::USAGE)
            .hint("docs/policy.md shows the form: to = \"supplier\", then [[requirement]] with name, show, purpose, parts, deadline")
    };
    let text = std::fs::read_to_string(file).map_err(|why| wrong(&why).exit(exit::NOT_FOUND))?;
    let read: Wanted = toml::from_str(&text).map_err(|why| wrong(&why))?;
    let snapshot = desk.handle.snapshot();
    let known: Vec<&String> = snapshot.book.keys().collect();
    let supplier = one_of(read.to, &known, "partner", "`lotline partner list` shows whom you know")?;
    let mut wanted = Vec::new();
    for one in read.requirement {
        let deadline = one.deadline.as_ref().map(deadline).transpose().map_err(|why| wrong(&format!("`{}`: {why}", one.name)))?;
        let of = Requirement { name: one.name, kinds: one.kinds, parts: one.parts, show: one.show, purpose: one.purpose, deadline };
        // The reader of rules knows every kind, group and field.
        Policy::restore(&rule_of(&of, "them", &of.show)).map_err(|slips| wrong(&format!("`{}`: {}", of.name, slips_of(&slips))))?;
        wanted.push(of);
    }
    wanted.sort_by(|a, b| a.name.cmp(&b.name));
    let party = snapshot.book[&supplier].party;
    let asked = Requirements { to: party, number: 1, wanted: wanted.clone() };
    asked.check().map_err(|_| {
        wrong(&"there are none or more than 128, two have one name, a list is longer than 64, or a text is empty, not on one line or over 255 bytes")
    })?;
    let (number, signed) = desk.feeds(move |feeds| feeds.ask_for(party, wanted, now()))?;
    let bytes = signed.to_bytes();
    let mut text = format!("Request {number} to {supplier}, with {}, is signed. ", counted(asked.wanted.len(), "requirement"));
    text.push_str(&match bytes.len() <= LETTER_BYTES_MAX {
        true => format!("It goes out by itself when the node runs and {supplier} is connected."),
        false => "It is too long to go over the network.".into(),
    });
    if let Some(output) = output {
        platform::write_file(output, &bytes).map_err(|why| {
            Failure::new(format!("it is signed, but `{}` could not be written: {why}", output.display())).hint("sign it again")
        })?;
        text.push_str(&format!(
            "\nIt is in {} as well ({} bytes), to send by mail: {supplier} answers with `lotline request answer FILE`.",
            output.display(),
            bytes.len()
        ));
    }
    Ok(Answer::new(text, json!({ "number": number, "to": supplier, "requirements": asked.wanted.len(), "file": output })))
}

/// A day, or `each lot within 5d`.
fn deadline(value: &toml::Value) -> Result<Deadline, String> {
    const WRONG: &str = "`deadline` is a day without quotes, as 2027-01-15, or \"each lot within 5d\"";
    if let toml::Value::Datetime(of) = value {
        let before = of.date.filter(|_| of.time.is_none() && of.offset.is_none()).and_then(|date| midnight(&date.to_string()));
        return before.map(|day| Deadline::Before(day + DAY)).ok_or_else(|| WRONG.into());
    }
    let span = value.as_str().and_then(|text| text.strip_prefix("each lot within ")).ok_or(WRONG)?;
    let number =
        |unit: char| span.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok()).filter(|number| (1..=3650).contains(number));
    number('d').map(|days| days * DAY).or(number('h').map(|hours| hours * 3600)).map(Deadline::EachWithin).ok_or_else(|| WRONG.into())
}

const DAY: u64 = 86_400;

fn slips_of(slips: &lotline_policy::Slips) -> String {
    slips
        .0
        .iter()
        .map(|slip| slip.what.clone() + &slip.meant.as_ref().map_or(String::new(), |meant| format!(" (did you mean `{meant}`?)")))
        .collect::<Vec<_>>()
        .join("; ")
}

fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// A requirement as the rule that would meet it.
fn rule_of(of: &Requirement, with: &str, show: &BTreeSet<String>) -> String {
    let parts = if of.parts.is_empty() { Chosen::Word("theirs") } else { Chosen::Numbers(of.parts.iter().cloned().collect()) };
    let told = Told {
        name: "asked".into(),
        with: with.into(),
        feed: "all".into(),
        parts,
        lots: vec![],
        from: None,
        until: None,
        delay: None,
        purposes: Vec::new(),
        delete_after: None,
        stays: false,
    };
    told.rule(&show.iter().collect::<Vec<_>>(), None, &of.kinds.iter().collect::<Vec<_>>())
}

fn says(of: &Requirement) -> String {
    let list = |names: &BTreeSet<String>| names.iter().map(|name| harmless(name)).collect::<Vec<_>>().join(", ");
    let parts = if of.parts.is_empty() { "what is made for them".into() } else { format!("part {}", list(&of.parts)) };
    let kinds = if of.kinds.is_empty() { String::new() } else { format!(" (kind {})", list(&of.kinds)) };
    let by = match of.deadline {
        None => String::new(),
        Some(Deadline::Before(at)) => format!(", by {}", day_text(at.saturating_sub(1))),
        Some(Deadline::EachWithin(seconds)) if seconds % DAY == 0 => {
            format!(", each lot within {}", counted((seconds / DAY) as usize, "day"))
        }
        Some(Deadline::EachWithin(seconds)) => format!(", each lot within {} hours", seconds / 3600),
    };
    format!("{}: {} of {parts}{kinds}{by}; for {}", harmless(&of.name), list(&of.show), harmless(&of.purpose))
}

// ---- reading, the same on both sides

fn open(desk: &Desk, path: &Path) -> Result<(RequirementsFile, Opened, Partner), Failure> {
    let bytes = input::read(path, file::BYTES_MAX, "request")?;
    desk.handle.snapshot().open_letter(&bytes).map_err(|why| {
        let failure = Failure::new(format!("`{}`: {why}", path.display()));
        match why {
            LetterError::Unreadable(_) => failure.exit(exit::UNREADABLE),
            LetterError::Altered(_) => failure.exit(exit::ALTERED),
            LetterError::Stranger { .. } => {
                failure.exit(Outcome::SignerNotEstablished.exit_code()).hint("pair with them first: lotline partner accept")
            }
            LetterError::OldKey(_) => failure.exit(exit::ALTERED).hint("ask them to sign it anew"),
            LetterError::Elsewhere | LetterError::Older | LetterError::Unasked | LetterError::TooMany => failure.exit(exit::REFUSED),
        }
    })
}

/// A request to answer.
struct Demanded {
    asked: Requirements,
    /// SHA-256 of what was signed.
    hash: Hash,
    partner: Partner,
    /// The file, if it is not kept yet.
    by_mail: Option<RequirementsFile>,
}

/// The request that is to be answered: of the file, or the one that came over the network.
fn demanded(desk: &Desk, args: &Decisions) -> Result<Demanded, Failure> {
    if let Some(path) = &args.file {
        let (file, opened, partner) = open(desk, path)?;
        let Stated::Requirements(asked) = opened.stated else {
            return Err(Failure::new("this is an answer, not a request").exit(exit::USAGE).hint("keep it with: lotline request take FILE"));
        };
        return Ok(Demanded { asked, hash: opened.hash, partner, by_mail: Some(file) });
    }
    let snapshot = desk.handle.snapshot();
    let waiting: Vec<&String> = snapshot
        .book
        .values()
        .filter(|partner| snapshot.letters.unanswered(&partner.party).is_some())
        .map(|partner| &partner.name)
        .collect();
    let name = match (&args.from, &waiting[..]) {
        (Some(name), _) => {
            one_of(name.clone(), &snapshot.book.keys().collect::<Vec<_>>(), "partner", "`lotline partner list` shows whom you know")?
        }
        (None, [one]) => (*one).clone(),
        (None, []) => {
            return Err(Failure::new("no request waits for an answer")
                .exit(exit::NOT_FOUND)
                .hint("name the file, if one came by mail: lotline request answer FILE"));
        }
        (None, more) => {
            let names: Vec<&str> = more.iter().map(|name| name.as_str()).collect();
            return Err(Failure::new(format!("requests of {} wait for an answer", names.join(", ")))
                .exit(exit::USAGE)
                .hint("say whose with --from"));
        }
    };
    let partner = snapshot.book[&name].clone();
    desk.settle()?;
    let found = demands(desk.handle.reader())?.into_iter().find(|(party, _)| *party == partner.party);
    let (_, demand) = found.ok_or_else(|| {
        Failure::new(format!("no request of {name} is here"))
            .exit(exit::NOT_FOUND)
            .hint("`lotline request status` shows what partners ask of you")
    })?;
    Ok(Demanded { asked: demand.requirements, hash: demand.hash, partner, by_mail: None })
}

// ---- the supplier answers

/// What is decided about one requirement.
enum Choice {
    Share,
    Trim(BTreeSet<String>),
    Decline(String),
}

fn answer(desk: &Desk, args: Decisions) -> Result<Answer, Failure> {
    let demanded = demanded(desk, &args)?;
    let (asked, partner) = (&demanded.asked, &demanded.partner);
    let mut choices = choices(&args, asked)?;
    let (mut text, mut rows) = (format!("{} asks, in its request {}:\n", partner.name, asked.number), Vec::new());
    for of in &asked.wanted {
        let (shared, all) = shared_already(desk, of, &partner.name)?;
        text.push_str(&format!("  {}\n    shared already: {shared} of {}\n", says(of), counted(all, "record")));
        rows.push(json!({ "name": of.name, "words": says(of), "shared": shared, "records": all }));
    }
    if choices.is_empty() {
        let asking = Asking { desk };
        eprint!("{}", if desk.board.is_none() { text.as_str() } else { "" });
        for of in &asked.wanted {
            let question = format!("{}: share, a list of groups with commas between them, or no and the reason", harmless(&of.name));
            match asking.for_one(None, "--share", &question, "share").ok().as_deref() {
                None => {
                    text.push_str("Decide with --share NAME, --trim NAME=GROUPS or --decline NAME=REASON for each.");
                    return Ok(Answer::new(text, json!({ "from": partner.name, "number": asked.number, "requirements": rows })));
                }
                Some("share") => drop(choices.insert(of.name.clone(), Choice::Share)),
                Some(no) if no == "no" || no.starts_with("no ") => {
                    let why = no.strip_prefix("no").map(str::trim).filter(|why| !why.is_empty()).unwrap_or("no reason given");
                    choices.insert(of.name.clone(), Choice::Decline(why.into()));
                }
                Some(groups) => drop(choices.insert(of.name.clone(), Choice::Trim(listed(groups)))),
            }
        }
    }
    if let Some(open) = asked.wanted.iter().find(|of| !choices.contains_key(&of.name)) {
        return Err(Failure::new(format!("nothing is decided about `{}`", harmless(&open.name)))
            .exit(exit::USAGE)
            .hint("an answer says something to each requirement: --share, --trim or --decline"));
    }
    give(desk, &args, &demanded, &choices, rows)
}

fn listed(text: &str) -> BTreeSet<String> {
    text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn choices(args: &Decisions, asked: &Requirements) -> Result<BTreeMap<String, Choice>, Failure> {
    let names: Vec<&str> = asked.wanted.iter().map(|of| of.name.as_str()).collect();
    let mut choices = BTreeMap::new();
    let mut put = |name: &str, choice: Choice| {
        let name = one_of(name.to_owned(), &names, "requirement", "`lotline request answer FILE` shows them")?;
        match choices.insert(name.clone(), choice) {
            None => Ok(()),
            Some(_) => Err(Failure::new(format!("`{}` is decided twice", harmless(&name))).exit(exit::USAGE)),
        }
    };
    let split = |flag: &str, text: &str| {
        let wrong = || {
            Failure::new(format!("`{text}` does not say which requirement and what"))
                .exit(exit::USAGE)
                .hint(format!("write --{flag} NAME=…"))
        };
        let (name, what) = text.split_once('=').ok_or_else(wrong)?;
        if what.trim().is_empty() { Err(wrong()) } else { Ok((name.trim().to_owned(), what.trim().to_owned())) }
    };
    for name in &args.share {
        put(name, Choice::Share)?;
    }
    for text in &args.trim {
        let (name, groups) = split("trim", text)?;
        put(&name, Choice::Trim(listed(&groups)))?;
    }
    for text in &args.decline {
        let (name, why) = split("decline", text)?;
        put(&name, Choice::Decline(why))?;
    }
    Ok(choices)
}

/// How many of our records of this requirement are shown as asked already, and how many there are.
fn shared_already(desk: &Desk, of: &Requirement, partner: &str) -> Result<(usize, usize), Failure> {
    // A field or kind that this program does not know is shown to nobody.
    let Ok(wanted) = Policy::restore(&rule_of(of, partner, &of.show)) else {
        return Ok((0, 0));
    };
    desk.settle()?;
    let (policy, at, viewer) = (desk.handle.snapshot().policy.clone(), now() as i64, desk.handle.snapshot().viewer(partner));
    let (mut shared, mut all) = (0, 0);
    policy::each_own(desk, &policy, |feed, _, facts| {
        let schema = kind::called(&facts.kind);
        let part = match of.parts.is_empty() {
            true => facts.customer.as_deref() == Some(partner),
            false => facts.part.as_ref().is_some_and(|part| of.parts.contains(part)),
        };
        if let Some(schema) = schema.filter(|schema| part && (of.kinds.is_empty() || of.kinds.contains(schema.name))) {
            let mask = wanted.shares()[0].mask(schema);
            all += 1;
            shared += usize::from(decide(&policy, &viewer, feed.origin.name(), schema, &facts, at).mask & mask == mask);
        }
        Ok(())
    })?;
    Ok((shared, all))
}

/// Shares what was decided, and signs the answer.
fn give(
    desk: &Desk,
    args: &Decisions,
    demanded: &Demanded,
    choices: &BTreeMap<String, Choice>,
    rows: Vec<serde_json::Value>,
) -> Result<Answer, Failure> {
    let (asking, file) = (Asking { desk }, RuleFile::open(desk)?);
    let (asked, partner) = (&demanded.asked, demanded.partner.name.as_str());
    let mut told: Option<(String, Option<jiff::civil::Date>)> = None;
    let (mut rules, mut shown, mut replies) = (file.text.clone(), String::new(), Vec::new());
    for of in &asked.wanted {
        let asked_for = match &choices[&of.name] {
            Choice::Decline(why) => {
                shown.push_str(&format!("{}: declined, {why}\n", harmless(&of.name)));
                replies.push((of.name.clone(), Said::Declined(why.clone())));
                continue;
            }
            Choice::Trim(show) => show.clone(),
            // Persons and commercial data leave only when the supplier names them.
            Choice::Share => of.show.iter().filter(|name| !UNASKED.contains(&name.as_str())).cloned().collect(),
        };
        if let Some(more) =
            asked_for.iter().find(|name| !of.show.contains(*name) && !UNASKED.contains(&name.as_str()) && !covered(name, &of.show))
        {
            return Err(Failure::new(format!("`{}` does not ask for `{more}`", harmless(&of.name)))
                .exit(exit::USAGE)
                .hint("trim to what is asked for"));
        }
        let (feed, until) = match &told {
            Some(told) => told.clone(),
            None => {
                let feed = asking.for_one(args.feed.clone(), "--feed", "From which of your feeds? One name, or all", "all")?;
                let until = asking.for_one(args.until.clone(), "--until", "Until when? A day, or revoked: until you end it", "revoked")?;
                let until = if until == "revoked" { None } else { Some(day("--until", &until)?) };
                told.insert((feed, until)).clone()
            }
        };
        let (parts, _) = policy::parts_and_lots(desk)?;
        let here: Vec<String> = of.parts.intersection(&parts).cloned().collect();
        if here.is_empty() && !of.parts.is_empty() {
            return Err(Failure::new(format!("no part of `{}` is in the store yet", harmless(&of.name)))
                .exit(exit::USAGE)
                .hint("publish first, or decline it until then"));
        }
        for missing in of.parts.difference(&parts) {
            shown.push_str(&format!("{}: part {} is not in the store, so it is left out\n", harmless(&of.name), harmless(missing)));
        }
        let taken = Policy::restore_with(&rules, desk.handle.snapshot().policy.lists()).unwrap_or_else(|_| Policy::nothing());
        let name: String = format!("{partner}-{}", harmless(&of.name)).chars().take(56).collect();
        let share = Told {
            name: free_name(&taken, name.trim()),
            with: partner.to_owned(),
            feed,
            parts: if of.parts.is_empty() { Chosen::Word("theirs") } else { Chosen::Numbers(here) },
            lots: Vec::new(),
            from: None,
            until,
            delay: None,
            purposes: Vec::new(),
            delete_after: None,
            stays: false,
        };
        let kinds: Vec<&String> = of.kinds.iter().collect();
        // One by one, so that a ban takes back what it forbids and no more.
        let (mut show, path) = (BTreeSet::new(), desk.home.policy_file());
        for field in &asked_for {
            match policy::check(desk, &path, &RuleFile::with_rule(&rules, "", "", &share.rule(&[field], None, &kinds))) {
                Ok(_) => drop(show.insert(field.clone())),
                Err(why) => {
                    shown.push_str(&format!("{}: {} is kept back: {}\n", harmless(&of.name), harmless(field), last_line(&why.what)))
                }
            }
        }
        if show.is_empty() {
            let why = shown.trim_end().to_owned();
            return Err(Failure::new(format!("nothing of `{}` can be shared:\n{why}", harmless(&of.name)))
                .exit(exit::REFUSED)
                .hint("decline it, and say why"));
        }
        let rule = share.rule(&show.iter().collect::<Vec<_>>(), None, &kinds);
        let checked = policy::check(desk, &path, &RuleFile::with_rule(&rules, "", "", &rule))?;
        let sentence = checked.shares().iter().find(|one| one.name == share.name).map(words::share).unwrap_or_default();
        rules = RuleFile::with_rule(&rules, &sentence, &day_text(now()), &rule);
        shown.push_str(&format!("{}: {sentence}\n", harmless(&of.name)));
        replies.push((of.name.clone(), Said::Shown(show)));
    }
    let reply = Reply { to: demanded.partner.party, request: demanded.hash, at: now(), replies };
    reply.check().map_err(|_| Failure::new("a reason is empty, not on one line or longer than 255 bytes").exit(exit::USAGE))?;
    let json = json!({ "from": partner, "number": asked.number, "requirements": rows, "answer": args.output });
    let consent = Consent { yes: args.yes, dry_run: args.dry_run };
    if let (Some(by_mail), false) = (demanded.by_mail.clone(), args.dry_run) {
        let (party, kept) = (demanded.partner.party, asked.clone());
        desk.feeds(move |feeds| feeds.keep_request(party, &kept, &by_mail))?;
    }
    let mut done = match rules == file.text {
        // Nothing is shared by declining, so nobody needs to confirm it.
        true => Answer::new(shown.trim_end(), json),
        false => file.put(desk, rules, shown.trim_end(), consent, json)?,
    };
    if args.dry_run {
        return Ok(done);
    }
    let number = asked.number;
    let signed = desk.feeds(move |feeds| feeds.answer_request(number, &reply, now()))?.to_bytes();
    done.text.push_str(&match signed.len() <= LETTER_BYTES_MAX {
        true => format!("\nThe answer is signed. It goes out by itself when the node runs and {partner} is connected."),
        false => "\nThe answer is signed. It is too long to go over the network.".into(),
    });
    if let Some(output) = &args.output {
        platform::write_file(output, &signed).map_err(|why| {
            Failure::new(format!("the shares are in force, but the answer `{}` could not be written: {why}", output.display()))
                .hint("answer again with another -o")
        })?;
        done.text.push_str(&format!(
            "\nIt is in {} as well, to send by mail: {partner} keeps it with `lotline request take FILE`.",
            output.display()
        ));
    }
    Ok(done)
}

/// Groups that no request gets by a plain yes.
const UNASKED: [&str; 3] = ["inspector", "commercial", "everything"];

/// Whether a table or field belongs to a group that was asked for.
fn covered(name: &str, asked: &BTreeSet<String>) -> bool {
    let group = name.split(':').next().unwrap_or(name);
    let fields = kind::known().iter().flat_map(|(schema, _)| schema.fields);
    asked.contains(group) || fields.into_iter().any(|field| field.name == name && asked.contains(field.group.name()))
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().to_owned()
}

// ---- the customer looks

fn take(desk: &Desk, path: &Path) -> Result<Answer, Failure> {
    let (file, opened, partner) = open(desk, path)?;
    let Stated::Answer(reply) = opened.stated else {
        return Err(Failure::new("this is a request, not an answer").exit(exit::USAGE).hint("answer it with: lotline request answer FILE"));
    };
    let names = |what: fn(&Said) -> bool| reply.replies.iter().filter(|(_, said)| what(said)).count();
    let (shown, declined) = (names(|said| matches!(said, Said::Shown(_))), names(|said| matches!(said, Said::Declined(_))));
    let party = partner.party;
    let asked = desk.feeds(move |feeds| feeds.keep_answer(party, &reply, &file))?;
    let text = format!(
        "The answer of {} to your request {} is kept: {shown} shared, {declined} declined. `lotline request status` shows each.",
        partner.name, asked.requirements.number
    );
    Ok(Answer::new(text, json!({ "from": partner.name, "number": asked.requirements.number, "shared": shown, "declined": declined })))
}

fn status(desk: &Desk) -> Result<Answer, Failure> {
    desk.settle()?;
    let snapshot = desk.handle.snapshot();
    // The newest request to each supplier holds.
    let newest: BTreeMap<PartyId, Sent> = requests(desk.handle.reader())?.into_iter().map(|sent| (sent.requirements.to, sent)).collect();
    let (mut text, mut rows) = (String::new(), Vec::new());
    for (party, sent) in &newest {
        let supplier = snapshot.partner_of(party).map_or_else(|| party.short(), |partner| partner.name.clone());
        let answered = if sent.answer.is_some() { "" } else { ", not answered yet" };
        text.push_str(&format!("{supplier}, request {}{answered}\n", sent.requirements.number));
        for of in &sent.requirements.wanted {
            let reply =
                sent.answer.as_ref().and_then(|answer| answer.replies.iter().find(|(name, _)| *name == of.name)).map(|(_, reply)| reply);
            let standing = Standing::of(desk, *party, of, reply)?;
            text.push_str(&format!("  {:<9} {}\n            {}\n", standing.word, says(of), standing.why));
            rows.push(json!({
                "supplier": supplier, "request": sent.requirements.number, "name": of.name, "state": standing.word, "why": standing.why,
                "records": standing.records, "lacking": standing.lacking, "late": standing.late,
            }));
        }
    }
    let mut asked = Vec::new();
    for (party, demand) in demands(desk.handle.reader())? {
        let customer = snapshot.partner_of(&party).map_or_else(|| party.short(), |partner| partner.name.clone());
        let open = if demand.answer.is_some() { String::new() } else { format!(", waits for: lotline request answer --from {customer}") };
        text.push_str(&format!("{customer} asks of you, request {}{open}\n", demand.requirements.number));
        for of in &demand.requirements.wanted {
            let said = demand.answer.iter().flat_map(|answer| &answer.replies).find(|(name, _)| *name == of.name).map(|(_, said)| said);
            let (word, why) = match said {
                None => ("open", String::new()),
                Some(Said::Shown(show)) => ("shared", show.iter().map(|name| harmless(name)).collect::<Vec<_>>().join(", ")),
                Some(Said::Declined(why)) => ("declined", harmless(why)),
            };
            text.push_str(&format!("  {word:<9} {}\n", says(of)));
            asked.push(json!({ "customer": customer, "request": demand.requirements.number, "name": of.name, "state": word, "why": why }));
        }
    }
    if text.is_empty() {
        text = "no requirements were signed here, and none came; begin with: lotline request sign FILE".into();
    }
    Ok(Answer::new(text, json!({ "requirements": rows, "asked": asked })))
}

/// How a requirement stands with the records received.
struct Standing {
    /// met, open, late or declined.
    word: &'static str,
    why: String,
    /// Records with every field that was agreed, or asked for where nothing was.
    records: usize,
    /// Records that lack some of them.
    lacking: usize,
    /// Records that came after their time.
    late: usize,
}

impl Standing {
    fn of(desk: &Desk, supplier: PartyId, of: &Requirement, reply: Option<&Said>) -> Result<Standing, Failure> {
        let (mut records, mut lacking, mut late) = (0, 0, 0);
        let show = match reply {
            Some(Said::Declined(why)) => {
                return Ok(Standing { word: "declined", why: harmless(why), records, lacking, late });
            }
            Some(Said::Shown(show)) => show,
            None => &of.show,
        };
        let wanted = Policy::restore(&rule_of(of, "us", show)).ok();
        let snapshot = desk.handle.snapshot();
        let reader = desk.handle.reader();
        for feed in snapshot.feeds.values().filter(|feed| feed.origin.party() == supplier && !feed.origin.is_org()) {
            const PAGE: usize = 512;
            let mut from = 1;
            loop {
                let rows = reader.rows(feed.id, from, PAGE)?;
                let Some(last) = rows.last() else {
                    break;
                };
                from = last.seq + 1;
                for row in rows.iter().filter(|row| row.has_core) {
                    let summary = Summary::read(&row.summary)?;
                    let facts = &summary.facts;
                    let schema = kind::called(&facts.kind);
                    let part = of.parts.is_empty() || facts.part.as_ref().is_some_and(|part| of.parts.contains(part));
                    let kinds = of.kinds.is_empty() || of.kinds.contains(&facts.kind);
                    let withdrawn = snapshot.orgs.get(&supplier).is_some_and(|org| org.withdrawn(&Hash(row.leaf)).is_some());
                    let (Some(schema), true) = (schema, part && kinds && !withdrawn && summary.superseded_by.is_none()) else {
                        continue;
                    };
                    let mask = wanted.as_ref().map_or(0, |wanted| wanted.shares()[0].mask(schema));
                    if mask == 0 || row.slots() & mask != mask {
                        lacking += 1;
                        continue;
                    }
                    records += 1;
                    if let Some(Deadline::EachWithin(seconds)) = of.deadline {
                        let came = came(desk, &feed.origin.to_string(), row.seq)?;
                        let recorded = facts.recorded_at.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
                        let recorded = recorded.and_then(|at| u64::try_from(at.as_second()).ok());
                        late += usize::from(matches!((came, recorded), (Some(came), Some(at)) if at.saturating_add(seconds) < came));
                    }
                }
            }
        }
        let had = match lacking {
            0 => counted(records, "record"),
            _ => format!("{}, and {lacking} without all of the fields", counted(records, "record")),
        };
        let (word, why) = match of.deadline {
            Some(Deadline::Before(at)) if records == 0 && at <= now() => ("late", format!("{had}; it was due by {}", day_text(at - 1))),
            Some(Deadline::EachWithin(_)) if late > 0 => ("late", format!("{had}; {late} came after their time")),
            _ if records > 0 => ("met", had),
            _ => ("open", had),
        };
        Ok(Standing { word, why, records, lacking, late })
    }
}

/// When the last of a record came, by our own receipts.
fn came(desk: &Desk, origin: &str, seq: u64) -> Result<Option<u64>, Failure> {
    let receipts = witness::receipts_about(desk.handle.reader(), origin, seq, false)?;
    Ok(receipts.iter().filter_map(|core| Receipt::peek(core)).map(|of| of.at).max())
}
