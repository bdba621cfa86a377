//! Pairing by a code: `partner invite`, `partner accept CODE`, and what the owner says once both screens show six digits.
//!
//! The node talks to the other node; a command begins a pairing there and asks how it goes. Where a person sits at a terminal,
//! the command stays and asks the questions; a program gives the flags, or asks for the steps one by one.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Verb, add};
use crate::answer::{Answer, Failure, exit};
use crate::certificate::harmless;
use crate::cli::share::rule_file::{Consent, RuleFile};
use crate::cli::share::with::day;
use crate::cli::{HomeVerb, confirmed};
use crate::config::{Config, Home};
use crate::desk::{self, Desk};
use crate::import;
use crate::invitation::{ADDRESSES_MAX, Invitation};
use crate::keys::kit::Picture;
use crate::net::Address;
use crate::pairing::code::Code;
use crate::pairing::{BOUND_MAX, Bound, CODE_FOR, Pairing, Pairings, Refused, State};
use crate::service::{now, time_text};

/// How often a waiting command asks the node.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long invitations for single suppliers last, unless said otherwise.
const BOUND_DAYS: u64 = 30;

/// Where partners reach us: the announced addresses, else the ones listened on, with their real ports, else the configured ones; none
/// that means nothing to others. Last, the ones through a relay, whether or not it keeps us a place just now.
pub fn reached_at(config: &Config, listening: &[String]) -> Vec<Address> {
    let lists = [&config.announce[..], listening, &config.listen[..]];
    let list = lists.into_iter().find(|list| !list.is_empty()).unwrap_or_default();
    let addresses = list.iter().filter_map(|address| address.parse::<Address>().ok());
    let says_something = |address: &Address| {
        let text = address.to_string();
        !text.contains("/0.0.0.0/") && !text.contains("/ip6/::/") && !text.ends_with("/tcp/0")
    };
    let all: Vec<Address> = addresses.filter(says_something).collect();
    // Of this computer alone only where there is nothing else: as when trying things out.
    let (here, mut elsewhere): (Vec<_>, Vec<_>) = all.into_iter().partition(Address::is_loopback);
    if elsewhere.is_empty() {
        elsewhere = here;
    }
    elsewhere.retain(|address| address.relay().is_none());
    elsewhere.extend(config.relays.iter().filter_map(|address| address.parse().ok()));
    elsewhere.truncate(ADDRESSES_MAX);
    elsewhere
}

/// Begins a pairing with a new code.
pub fn invite(desk: &Desk, at: Option<String>) -> Result<Answer, Failure> {
    let pairings = pairings(desk)?;
    if let Some(at) = at {
        let address = address(desk, &at)?;
        let place = address.host_port();
        let (number, code) = done(pairings.call_and_wait(address))?;
        let text = format!(
            "Code  {code}   (for {} minutes, once)\n\nTell it to your partner by telephone, who runs there: lotline partner accept {code}\nThis node calls {place} until somebody answers. Nothing is shared by pairing.",
            CODE_FOR.as_secs() / 60
        );
        return Ok(begun(number, &code, Some(&place), text));
    }
    let reached = reached_here(desk);
    let Some(host) = reached.first().map(Address::host_port) else {
        return Err(Failure::new("partners cannot call this node: it has no address that means something to them")
            .exit(exit::USAGE)
            .hint("if your partner has one, give it: lotline partner invite --at HOST:PORT. Else write yours into lotline.toml as announce = [\"host:port\"], or use the long line of lotline partner invite --offline"));
    };
    let (number, code) = done(pairings.expect(None))?;
    let picture = Picture::of(format!("{code}@{host}").as_bytes()).to_terminal();
    let text = format!(
        "Code  {code}   (for {} minutes, once)\nHost  {host}\n\n{picture}\nTell both to your partner, the code best by telephone, who runs: lotline partner accept {code} {host}\nNothing is shared by pairing.",
        CODE_FOR.as_secs() / 60
    );
    Ok(begun(number, &code, Some(&host), text))
}

/// Begins a pairing with the code that the partner told: calls it there, or waits for its call.
pub fn accept(desk: &Desk, code: &str, host: Option<&str>) -> Result<Answer, Failure> {
    let (code, host) = code.split_once('@').map_or((code, host), |(code, host)| (code, Some(host)));
    let code: Code = code.parse().map_err(|why| {
        Failure::new(format!("`{}` is neither a code nor an invitation: {why}", harmless(code))).exit(exit::USAGE).hint(
            "give the nine characters and the host, as in lotline partner accept K7M-4QX-9TP oem.example:4001, or the whole long line",
        )
    })?;
    let pairings = pairings(desk)?;
    let (number, text) = match host {
        Some(host) => {
            let address = address(desk, host)?;
            let place = address.host_port();
            (done(pairings.call(code.clone(), address))?, format!("Calling {place} with the code {code}."))
        }
        None if reached_here(desk).is_empty() => {
            return Err(Failure::new("where? The code alone is enough only for a node that partners can call")
                .exit(exit::USAGE)
                .hint(format!("add the host that your partner told you: lotline partner accept {code} HOST:PORT")));
        }
        None => (done(pairings.expect(Some(code.clone())))?.0, format!("Waiting for the call of whoever has the code {code}.")),
    };
    Ok(begun(number, &code, host, text))
}

fn begun(number: u64, code: &Code, host: Option<&str>, text: String) -> Answer {
    let next = format!("\nHow it goes: lotline partner pairings. Then: lotline partner confirm {number} --as NAME --group GROUP");
    Answer::new(text + &next, json!({ "pairing": number, "code": code.to_string(), "host": host, "seconds": CODE_FOR.as_secs() }))
}

/// Makes one invitation for each supplier number of a list.
pub fn invite_all(desk: &Desk, file: &Path, group: Option<&str>, until: Option<&str>) -> Result<Answer, Failure> {
    let pairings = pairings(desk)?;
    let host = reached_here(desk).first().map(Address::host_port).ok_or_else(|| {
        Failure::new("suppliers cannot call this node: it has no address that means something to them")
            .exit(exit::USAGE)
            .hint("write it into lotline.toml as announce = [\"host:port\"]")
    })?;
    // The file of the rules has to be changed for each that comes: better said now.
    RuleFile::open(desk)?;
    let until = match until {
        Some(day_text) => {
            let end = day("--until", day_text)?;
            crate::service::day(&end.to_string())
                .filter(|end| now() < *end)
                .ok_or_else(|| Failure::new("--until is over").exit(exit::USAGE))?
        }
        None => now() + BOUND_DAYS * 86_400,
    };
    let bound = read_suppliers(desk, file, group)?;
    let made = done(pairings.bind(bound, until))?;
    let mut text = "supplier;name;group;code;host;until\n".to_owned();
    for (bound, code) in &made {
        text.push_str(&format!("{};{};{};{code};{host};{}\n", bound.number, bound.name, bound.group, time_text(until)));
    }
    let rows = made
        .iter()
        .map(|(bound, code)| json!({ "supplier": bound.number, "name": bound.name, "group": bound.group, "code": code.to_string() }));
    Ok(Answer::new(text, json!({ "host": host, "until": time_text(until), "invitations": rows.collect::<Vec<_>>() })))
}

/// The list: a header with `supplier`, and perhaps `name` and `group`; all faults at once.
fn read_suppliers(desk: &Desk, file: &Path, group: Option<&str>) -> Result<Vec<Bound>, Failure> {
    let usage = |what: String| Failure::new(format!("`{}`: {what}", file.display())).exit(exit::USAGE);
    let rows = import::list(file, BOUND_MAX + 1).map_err(|why| usage(why.to_string()))?;
    let Some(((_, header), rows)) = rows.split_first() else {
        return Err(usage("it is empty".into()));
    };
    let column = |name: &str| header.iter().position(|cell| cell.eq_ignore_ascii_case(name));
    let Some(number_at) = column("supplier").or_else(|| column("supplier number")).or_else(|| column("number")) else {
        return Err(usage("its first line names no column `supplier`".into())
            .hint("the columns are supplier, name and group; the last two may be missing"));
    };
    let (name_at, group_at) = (column("name"), column("group"));
    let (mut bound, mut faults) = (Vec::new(), Vec::new());
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    let book = desk.handle.snapshot().book.clone();
    for (line, row) in rows {
        let cell = |at: Option<usize>| at.and_then(|at| row.get(at)).map(String::as_str).filter(|cell| !cell.is_empty());
        let Some(number) = cell(Some(number_at)) else {
            faults.push(format!("line {line}: no supplier number"));
            continue;
        };
        let name = cell(name_at).unwrap_or(number);
        let group = cell(group_at).or(group);
        if !names_a_partner(name) {
            faults.push(format!("line {line}: `{}` cannot name a partner (no spaces, at most 64 bytes)", harmless(name)));
        } else if book.contains_key(name) {
            faults.push(format!("line {line}: `{name}` is in the partner book already"));
        } else if !numbers.insert(number.to_owned()) || !names.insert(name.to_owned()) {
            faults.push(format!("line {line}: `{name}` stands in the list twice"));
        }
        match group {
            Some(group) if names_a_partner(group) => {
                bound.push(Bound { number: number.into(), name: name.into(), group: group.into() });
            }
            Some(group) => faults.push(format!("line {line}: `{}` cannot name a group", harmless(group))),
            None => faults.push(format!("line {line}: no group, and none was given with --group")),
        }
    }
    if rows.len() > BOUND_MAX {
        faults.push(format!("more than {BOUND_MAX} suppliers"));
    }
    match faults.is_empty() {
        true => Ok(bound),
        false => {
            let more = faults.len().saturating_sub(20);
            let shown = faults.iter().take(20).cloned().collect::<Vec<_>>().join("\n  ");
            Err(usage(format!("nothing was made:\n  {shown}{}", if more > 0 { format!("\n  and {more} more") } else { String::new() })))
        }
    }
}

/// Whether this can be what we call a partner, or a group of them.
pub(super) fn names_a_partner(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name != "*"
        && !name.chars().any(|c| c.is_control() || c.is_whitespace() || "\"\\;:".contains(c))
}

/// Pairings that are open, or were lately; or one of them.
pub fn list(desk: &Desk, number: Option<u64>) -> Result<Answer, Failure> {
    let all = pairings(desk)?.list();
    let shown: Vec<_> = all.into_iter().filter(|(other, _)| number.is_none_or(|number| number == *other)).collect();
    if let (Some(number), true) = (number, shown.is_empty()) {
        return Err(no_pairing(number));
    }
    let mut text: String = shown.iter().map(|(number, pairing)| line(*number, pairing)).collect();
    if text.is_empty() {
        text = "no pairing is open; begin one with: lotline partner invite".into();
    }
    Ok(Answer::new(text, json!({ "pairings": shown.iter().map(|(number, pairing)| facts(*number, pairing)).collect::<Vec<_>>() })))
}

fn line(number: u64, pairing: &Pairing) -> String {
    let whose = pairing.bound.as_ref().map_or(String::new(), |bound| format!(" for supplier {}", harmless(&bound.number)));
    let state = match &pairing.state {
        State::Open => format!("waits until {}", time_text(pairing.until)),
        State::Tried(why) => format!("waits until {}; {}", time_text(pairing.until), harmless(why)),
        State::Met(met) => format!("met `{}`; both screens show {}", harmless(&met.claim.invitation.name), met.digits),
        State::Over(why) => format!("over: {}", harmless(why)),
    };
    format!("{number:>4}{whose}  {state}\n")
}

fn facts(number: u64, pairing: &Pairing) -> Value {
    let (state, why) = match &pairing.state {
        State::Open => ("open", None),
        State::Tried(why) => ("open", Some(why.clone())),
        State::Met(_) => ("met", None),
        State::Over(why) => ("over", Some(why.clone())),
    };
    let mut facts = json!({ "pairing": number, "state": state, "why": why, "until": time_text(pairing.until), "tries_left": pairing.tries, "supplier": pairing.bound.as_ref().map(|bound| &bound.number) });
    if let State::Met(met) = &pairing.state {
        let claim = &met.claim.invitation;
        facts["digits"] = json!(met.digits);
        facts["claims"] = json!({ "name": claim.name, "identity": claim.party.to_string(), "six_words": claim.party.six_words(), "addresses": claim.addresses });
        facts["attended"] = json!(met.claim.attended);
    }
    facts
}

/// Puts who came into the partner book and into a group, and ends the pairing.
pub fn confirm(desk: &Desk, number: u64, name: Option<String>, group: Option<String>, subscribe: bool) -> Result<Answer, Failure> {
    let pairings = pairings(desk)?;
    let pairing = pairings.get(number).ok_or_else(|| no_pairing(number))?;
    let State::Met(met) = &pairing.state else {
        return Err(Failure::new(format!("nobody has come yet: {}", line(number, &pairing).trim())).exit(exit::NOT_FOUND));
    };
    let bound = pairing.bound.as_ref();
    let name = name.or_else(|| bound.map(|bound| bound.name.clone())).ok_or_else(|| missing("--as", "what you call this partner"))?;
    let group =
        group.or_else(|| bound.map(|bound| bound.group.clone())).ok_or_else(|| missing("--group", "the group of partners it joins"))?;
    let answer = add_to_group(desk, &met.claim.invitation, Some(name), &group, subscribe)?;
    done_plain(pairings.end(number));
    Ok(answer)
}

/// Puts who invited into the partner book and into a group of the rules: both or neither.
pub fn add_to_group(desk: &Desk, invitation: &Invitation, name: Option<String>, group: &str, subscribe: bool) -> Result<Answer, Failure> {
    if !names_a_partner(group) {
        let failure = Failure::new(format!("`{}` cannot name a group", harmless(group))).exit(exit::USAGE);
        return Err(failure.hint("give a short name without spaces"));
    }
    let file = RuleFile::open(desk)?;
    let known = desk.handle.snapshot().partner_of(&invitation.party).is_some();
    let mut added = add(desk, invitation, name, subscribe)?;
    let name = added.json["name"].as_str().unwrap_or_default().to_owned();
    let undo = |name: String| {
        if !known && let Err(why) = desk.feeds(move |feeds| feeds.remove_partner(&name)) {
            tracing::warn!(%why, "a partner that could not join its group is in the book");
        }
    };
    let Some(text) = file.with_member(group, &name) else {
        undo(name);
        return Err(Failure::new(format!(
            "policy.toml does not write its groups below a line [groups], so `{group}` cannot be added to it"
        ))
        .exit(exit::USAGE)
        .hint("write [groups] on a line of its own, each group below it, and `lotline policy apply`"));
    };
    if text != file.text {
        let consent = Consent { yes: true, dry_run: false };
        let words = format!("{name} joins the group {group}.");
        let joined = file.put(desk, text, &words, consent, json!({})).inspect_err(|_| undo(name))?;
        added.text.push_str(&format!("\n\n{}", joined.text.trim_end()));
        added.json["changes"] = joined.json["changes"].clone();
    }
    added.json["group"] = json!(group);
    Ok(added)
}

/// Ends a pairing: nobody is put into the book.
pub fn decline(desk: &Desk, number: u64) -> Result<Answer, Failure> {
    let pairings = pairings(desk)?;
    done_plain(pairings.end(number)).ok_or_else(|| no_pairing(number))?;
    Ok(Answer::new("The pairing is ended; nothing was changed.", json!({ "ended": number })))
}

fn missing(flag: &str, what: &str) -> Failure {
    Failure::new(format!("{flag} is missing: {what}")).exit(exit::USAGE).hint(format!("add {flag} NAME"))
}

fn no_pairing(number: u64) -> Failure {
    Failure::new(format!("there is no pairing {number}"))
        .exit(exit::NOT_FOUND)
        .hint("lotline partner pairings lists them; codes do not outlive the node")
}

fn reached_here(desk: &Desk) -> Vec<Address> {
    let listening = desk.board.as_ref().map(crate::service::LinkBoard::listening).unwrap_or_default();
    reached_at(&desk.config, &listening)
}

fn address(desk: &Desk, text: &str) -> Result<Address, Failure> {
    let address: Address = text.parse().map_err(|why| Failure::new(why).exit(exit::USAGE))?;
    let examples = desk.feeds(|feeds| Ok(feeds.keys().are_examples()))?;
    crate::cli::run::refuse_examples_off_loopback(examples, [address.to_string()])?;
    Ok(address)
}

fn pairings(desk: &Desk) -> Result<&Pairings, Failure> {
    desk.pairings.as_ref().ok_or_else(|| {
        Failure::new("pairing by a code needs the running node")
            .hint("start it in another window with: lotline run. Without it, use the long line of lotline partner invite --offline")
    })
}

/// Verbs run on threads of the node's runtime that may block.
fn done<T>(work: impl Future<Output = Result<T, Refused>>) -> Result<T, Failure> {
    done_plain(work).map_err(Failure::new)
}

fn done_plain<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(work)
}

/// What the person at a terminal has said already, for the questions of a pairing.
struct Answers {
    name: Option<String>,
    group: Option<String>,
    subscribe: bool,
    yes: bool,
}

/// A pairing with somebody at the terminal, or with everything said by flags. None: this verb begins none, or nobody is there.
pub fn at_terminal(home: &Home, verb: &HomeVerb) -> Option<Result<Answer, Failure>> {
    use std::io::IsTerminal as _;
    let HomeVerb::Partner(
        Verb::Invite { name, group, subscribe, yes, offline: false, from: None, .. } | Verb::Accept { name, group, subscribe, yes, .. },
    ) = verb
    else {
        return None;
    };
    if let HomeVerb::Partner(Verb::Accept { invitation, .. }) = verb
        && crate::invitation::looks_like_one(invitation)
    {
        return None;
    }
    let answers = Answers { name: name.clone(), group: group.clone(), subscribe: *subscribe, yes: *yes };
    let all_said = answers.yes && answers.name.is_some() && answers.group.is_some();
    (all_said || std::io::stdin().is_terminal()).then(|| converse(home, verb.clone(), answers))
}

fn converse(home: &Home, verb: HomeVerb, answers: Answers) -> Result<Answer, Failure> {
    let at_home = |verb: Verb| desk::at_home(home.clone(), HomeVerb::Partner(verb));
    let begun = desk::at_home(home.clone(), verb)?;
    let number = begun.json["pairing"].as_u64().ok_or_else(|| Failure::new("the node did not begin a pairing"))?;
    eprintln!("{}\n", begun.text.lines().filter(|line| !line.starts_with("How it goes")).collect::<Vec<_>>().join("\n"));
    let facts = wait(number, &at_home)?;
    let said = |pointer: &str| harmless(facts.pointer(pointer).and_then(Value::as_str).unwrap_or_default()).to_string();
    eprintln!(
        "It calls itself  {}   (a claim: only the digits are proof)\nSix words        {}\nDigits           {}\n",
        said("/claims/name"),
        said("/claims/six_words"),
        said("/digits")
    );
    let alike = match facts["attended"].as_bool() {
        Some(false) => "Nobody looks at the digits over there. Are these the six words that your customer has told you?",
        _ => "Does the other screen show the same six digits?",
    };
    if !confirmed(answers.yes, alike) {
        at_home(Verb::Decline { pairing: number })?;
        return Err(Failure::new("not paired: nothing was changed")
            .hint("if the digits differed, somebody stood in between: use another line, or meet"));
    }
    let asked = |given: Option<String>, flag: &str, question: &str| {
        let answer = given.or_else(|| crate::cli::ask(question, "")).filter(|answer| !answer.is_empty());
        answer.ok_or_else(|| missing(flag, question))
    };
    let name = asked(answers.name, "--as", "What do you call this partner, in your rules and on your screens?")?;
    let group =
        asked(answers.group, "--group", "Which group of partners does it join, as customers or suppliers? A new name makes a new group")?;
    at_home(Verb::Confirm { pairing: number, name: Some(name), group: Some(group), subscribe: answers.subscribe })
}

/// Waits until somebody has come; says what goes wrong meanwhile.
fn wait(number: u64, at_home: &impl Fn(Verb) -> Result<Answer, Failure>) -> Result<Value, Failure> {
    let mut told = None;
    loop {
        let answer = at_home(Verb::Pairings { pairing: Some(number) })?;
        let facts = answer.json["pairings"][0].clone();
        let why = facts["why"].as_str().map(|why| harmless(why).to_string());
        match facts["state"].as_str() {
            Some("met") => return Ok(facts),
            Some("over") => {
                return Err(Failure::new(format!("not paired: {}", why.unwrap_or_default())).hint("begin again with a new code"));
            }
            _ => {}
        }
        if why.is_some() && why != told {
            eprintln!("note: {}; still trying", why.as_deref().unwrap_or_default());
            told = why;
        }
        std::thread::sleep(ASK_EVERY);
    }
}
