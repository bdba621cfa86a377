//! `lotline terms`: which terms partners ask of us and we of them, what is accepted since when; and taking an acceptance back.

use std::collections::BTreeSet;

use lotline_schema::Hash;
use lotline_schema::terms::Terms;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::confirmed_at;
use crate::answer::{Answer, Failure, exit};
use crate::certificate::harmless;
use crate::desk::Desk;
use crate::feeds::{FeedError, KeptAcceptance, Offer, Partner};
use crate::service::{now, time_text};

/// Flags of `terms`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example: lotline terms\n         lotline terms supplier\n         lotline terms withdraw supplier"
)]
pub struct Args {
    /// Only those with this partner.
    partner: Option<String>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What to do with terms.
#[derive(clap::Subcommand, Serialize, Deserialize, Clone, Debug)]
pub enum Verb {
    /// Take an acceptance back: the partner shows you nothing more under these terms. What you received stays under them.
    Withdraw {
        /// The partner.
        partner: String,
        /// The terms, as `lotline terms` shows them; else all of this partner.
        id: Option<String>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Does it.
pub fn run(desk: &Desk, args: Args) -> Result<Answer, Failure> {
    match args.verb {
        Some(Verb::Withdraw { partner, id, yes }) => withdraw(desk, &partner, id.as_deref(), yes),
        None => list(desk, args.partner.as_deref()),
    }
}

/// Terms that wait, in plain sentences.
pub(super) fn sentences(partner: &str, offers: &[&Offer]) -> String {
    let one = |offer: &&Offer| {
        let promises = offer.terms.promises().join("; ");
        let (feed, what, id) = (harmless(&offer.feed), harmless(&offer.what), offer.terms.id().short());
        format!("{partner} asks you, for its feed {feed}: {promises}.\n  terms {id}; it would show: {what}")
    };
    offers.iter().map(one).collect::<Vec<_>>().join("\n")
}

pub(super) fn offer_json(offer: &Offer) -> Value {
    json!({ "feed": offer.feed, "shows": offer.what, "terms": terms_json(&offer.terms) })
}

pub(super) fn terms_json(terms: &Terms) -> Value {
    json!({
        "id": terms.id().to_string(), "purposes": terms.purposes(), "delete_after_seconds": terms.delete_after(),
        "pass_on": if terms.stays() { "no" } else { "yes" }, "promises": terms.promises(),
    })
}

/// Terms that wait to be accepted, on either side, in words for `status`.
pub(super) fn waiting(desk: &Desk) -> Vec<String> {
    let (snapshot, at) = (desk.handle.snapshot(), now() as i64);
    let counted = |count: usize| if count == 1 { "terms that wait".to_owned() } else { format!("{count} terms that wait") };
    let mut lines = Vec::new();
    for partner in snapshot.book.values() {
        let (name, of_us) = (&partner.name, snapshot.waiting_offers(&partner.party).len());
        if of_us > 0 {
            lines.push(format!("{name} asks you for {}: lotline subscribe {name} --accept-terms all", counted(of_us)));
        }
        let accepted = snapshot.viewer(name).terms;
        let of_them = snapshot.asks(name, at).iter().filter(|offer| !accepted.contains(&offer.terms.id())).count();
        if of_them > 0 {
            lines.push(format!("{name} has not accepted {} for it: lotline terms {name}", counted(of_them)));
        }
    }
    lines
}

fn list(desk: &Desk, only: Option<&str>) -> Result<Answer, Failure> {
    let (snapshot, at) = (desk.handle.snapshot(), now() as i64);
    if let Some(name) = only.filter(|name| !snapshot.book.contains_key(*name)) {
        return Err(FeedError::NoPartner(name.to_owned()).into());
    }
    let (mut lines, mut theirs, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    let row = |terms: &Terms, feeds: &[&str], since: Option<(u64, u64)>| {
        let feeds = if feeds.is_empty() { "not asked for any more".to_owned() } else { format!("feed {}", harmless(&feeds.join(", "))) };
        let state = since.map_or("NOT ACCEPTED".to_owned(), |(number, at)| format!("accepted {} (acceptance {number})", time_text(at)));
        format!("  {}  {feeds}: {}; {state}", terms.id().short(), terms.promises().join("; "))
    };
    for partner in snapshot.book.values().filter(|partner| only.is_none_or(|only| only == partner.name)) {
        let of_them = snapshot.offers.get(&partner.party).cloned().unwrap_or_default();
        let of_us = snapshot.asks(&partner.name, at);
        let sides = [
            ("asks you", of_them, snapshot.accepting.get(&partner.party), &mut theirs),
            ("is asked by you", of_us, snapshot.accepted.get(&partner.party), &mut ours),
        ];
        for (side, offers, kept, json) in sides {
            let known = all_terms(&offers, kept);
            if known.is_empty() {
                continue;
            }
            let stated = kept.map(|kept| kept.accepted.acceptance.purposes.iter().cloned().collect::<Vec<_>>().join(", "));
            let stated = stated.filter(|stated| !stated.is_empty()).map_or(String::new(), |stated| format!(", stated: {stated}"));
            lines.push(format!("{} {side}{stated}", partner.name));
            for terms in known {
                let feeds: Vec<&str> = offers.iter().filter(|of| of.terms == terms).map(|of| of.feed.as_str()).collect();
                let since = kept.filter(|kept| kept.accepted.acceptance.terms.contains_key(&terms.id()));
                let since = since.map(|kept| (kept.accepted.number, kept.accepted.acceptance.at));
                lines.push(row(&terms, &feeds, since));
                json.push(json!({
                    "partner": partner.name, "terms": terms_json(&terms), "feeds": feeds,
                    "acceptance": since.map(|(number, _)| number), "since": since.map(|(_, at)| time_text(at)),
                }));
            }
        }
    }
    if lines.is_empty() {
        lines.push("No terms are asked for or accepted.".into());
    }
    Ok(Answer::new(lines.join("\n"), json!({ "asked_of_us": theirs, "asked_by_us": ours })))
}

/// What is asked for, and what was accepted though it is not asked for any more.
fn all_terms(offers: &[Offer], kept: Option<&KeptAcceptance>) -> BTreeSet<Terms> {
    let accepted = kept.into_iter().flat_map(|kept| kept.accepted.acceptance.terms.values());
    offers.iter().map(|offer| &offer.terms).chain(accepted).cloned().collect()
}

fn withdraw(desk: &Desk, name: &str, id: Option<&str>, yes: bool) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    let partner: Partner = snapshot.book.get(name).cloned().ok_or_else(|| FeedError::NoPartner(name.to_owned()))?;
    let none =
        || Failure::new(format!("you have accepted no such terms of {name}")).exit(exit::NOT_FOUND).hint(format!("lotline terms {name}"));
    let before = snapshot.accepting.get(&partner.party).map(|kept| kept.accepted.acceptance.clone()).ok_or_else(none)?;
    let goes = |key: &Hash| id.is_none_or(|id| id.len() >= 8 && key.to_string().starts_with(id));
    let (gone, kept): (Vec<_>, Vec<_>) = before.terms.into_iter().partition(|(key, _)| goes(key));
    if gone.is_empty() {
        return Err(none());
    }
    let shown: Vec<String> = gone.iter().map(|(key, terms)| format!("{}: {}", key.short(), terms.promises().join("; "))).collect();
    let question = format!("Take back what you accepted of {name} ({})? It shows you nothing more under it.", shown.join(", "));
    if !confirmed_at(desk, yes, &question) {
        return Err(Failure::new("not confirmed; nothing was taken back")
            .exit(exit::USAGE)
            .hint("add --yes to confirm without a question"));
    }
    // A purpose that no terms left ask for is stated no more.
    let purposes: BTreeSet<String> =
        before.purposes.into_iter().filter(|purpose| kept.iter().any(|(_, terms)| terms.purposes().contains(purpose))).collect();
    let (owner, terms) = (partner.party, kept.into_iter().collect());
    let number = desk.feeds(move |feeds| feeds.accept_terms(owner, purposes, terms, now()))?;
    let text = format!(
        "Taken back (acceptance {}): {}. {name} hears of it by itself, at once when you are connected. What you received stays under the terms it came with.",
        number.unwrap_or_default(),
        shown.join(", ")
    );
    let gone: Vec<String> = gone.iter().map(|(key, _)| key.to_string()).collect();
    Ok(Answer::new(text, json!({ "partner": name, "withdrawn": gone, "acceptance": number })))
}
