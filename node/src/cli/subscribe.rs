//! `lotline subscribe`: follow every feed a partner offers, state what for and accept its terms; or stop following.

use std::collections::{BTreeMap, BTreeSet};

use lotline_schema::Hash;
use lotline_schema::terms::{PURPOSES_MAX, Terms, is_purpose};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::confirmed_at;
use super::terms::{offer_json, sentences};
use crate::answer::{Answer, Failure, exit};
use crate::desk::Desk;
use crate::feeds::{FeedError, Offer, Partner};
use crate::service::now;

/// Flags of `subscribe`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct Args {
    /// The partner.
    partner: String,
    /// State that you use its records for this purpose. Give it again for more.
    #[arg(long = "for", value_name = "PURPOSE", conflicts_with = "off")]
    #[serde(default)]
    purposes: Vec<String>,
    /// Accept terms that it asks for: their id as `lotline terms` shows it, or all. Give it again for more.
    #[arg(long, value_name = "ID|all", conflicts_with = "off")]
    #[serde(default)]
    accept_terms: Vec<String>,
    /// Do not ask about terms.
    #[arg(long)]
    #[serde(default)]
    yes: bool,
    /// Stop following; what was received stays.
    #[arg(long)]
    off: bool,
}

/// Does it.
pub fn run(desk: &Desk, args: Args) -> Result<Answer, Failure> {
    let (name, on) = (args.partner.clone(), !args.off);
    let partner = desk.handle.snapshot().book.get(&name).cloned().ok_or(FeedError::NoPartner(name))?;
    let chosen = if on { choose(desk, &partner, &args)? } else { None };
    let changed = Partner { subscribed: on, ..partner.clone() };
    desk.feeds(move |feeds| feeds.put_partner(changed))?;
    if !on {
        let text =
            format!("You no longer follow {} (a stream that is open ends with the connection). What you received stays.", args.partner);
        return Ok(Answer::new(text, json!({ "partner": args.partner, "subscribed": false })));
    }
    let mut text = format!("You follow every feed {} offers you, now and later. `lotline feeds` shows how far.", args.partner);
    let accepted: Vec<String> = chosen.iter().flat_map(|chosen| &chosen.fresh).map(Hash::to_string).collect();
    let number = chosen.map(|chosen| chosen.accept(desk, &partner)).transpose()?;
    if let Some(number) = number {
        text.push_str(&format!(
            "\nYou accepted the terms of {} (acceptance {number}); it goes out by itself, at once when you are connected.",
            args.partner
        ));
    }
    let snapshot = desk.handle.snapshot();
    let waiting = snapshot.waiting_offers(&partner.party);
    if !waiting.is_empty() {
        text.push_str(&format!(
            "\n{}\nAccept with: lotline subscribe {} --accept-terms all",
            sentences(&args.partner, &waiting),
            args.partner
        ));
    }
    let json = json!({
        "partner": args.partner, "subscribed": true, "acceptance": number, "accepted": accepted,
        "waiting": waiting.into_iter().map(offer_json).collect::<Vec<_>>(),
    });
    Ok(Answer::new(text, json))
}

/// All that is to be accepted of one owner.
struct Chosen {
    purposes: BTreeSet<String>,
    terms: BTreeMap<Hash, Terms>,
    fresh: Vec<Hash>,
}

impl Chosen {
    fn accept(self, desk: &Desk, partner: &Partner) -> Result<u64, Failure> {
        let owner = partner.party;
        let number = desk.feeds(move |feeds| feeds.accept_terms(owner, self.purposes, self.terms, now()))?;
        number.ok_or_else(|| {
            Failure::new(format!("that is more than one acceptance may hold of {}", partner.name))
                .hint(format!("withdraw what you no longer need: lotline terms withdraw {} ID", partner.name))
        })
    }
}

/// Which terms are accepted now, after showing them; none when there is nothing to sign.
fn choose(desk: &Desk, partner: &Partner, args: &Args) -> Result<Option<Chosen>, Failure> {
    let snapshot = desk.handle.snapshot();
    let before = snapshot.accepting.get(&partner.party).map(|kept| kept.accepted.acceptance.clone());
    let (mut purposes, mut terms) = before.map_or_else(Default::default, |of| (of.purposes, of.terms));
    if let Some(odd) = args.purposes.iter().find(|purpose| !is_purpose(purpose)) {
        return Err(Failure::new(format!("`{odd}` is no purpose")).exit(exit::USAGE).hint("`lotline terms` shows what partners ask for"));
    }
    let stated = purposes.clone();
    purposes.extend(args.purposes.iter().cloned());
    let waiting = snapshot.waiting_offers(&partner.party);
    let mut wanted: Vec<&Offer> = Vec::new();
    for word in &args.accept_terms {
        let fits = |offer: &&&Offer| word == "all" || word.len() >= 8 && offer.terms.id().to_string().starts_with(word.as_str());
        let found: Vec<&Offer> = waiting.iter().filter(fits).copied().collect();
        if found.is_empty() && word != "all" {
            let what = format!("{} asks for no terms `{word}` that you have not accepted", partner.name);
            return Err(Failure::new(what).exit(exit::NOT_FOUND).hint(format!("lotline terms {}", partner.name)));
        }
        wanted.extend(found);
    }
    // Somebody who can be asked is shown what waits.
    if args.accept_terms.is_empty() && desk.board.is_none() && !args.yes {
        wanted.clone_from(&waiting);
    }
    for offer in std::mem::take(&mut wanted) {
        let asked = offer.terms.purposes();
        let words: Vec<&str> = asked.iter().map(String::as_str).collect();
        match asked.len() {
            1 => purposes.extend(asked.iter().cloned()),
            0 => {}
            _ if !asked.is_disjoint(&purposes) => {}
            _ if args.accept_terms.is_empty() => {
                eprintln!("left out: terms {} are for {}: add --for {}", offer.terms.id().short(), words.join(" or "), words[0]);
                continue;
            }
            _ => {
                return Err(Failure::new(format!("these terms are for {}: say which you mean", words.join(" or ")))
                    .exit(exit::USAGE)
                    .hint(format!("add --for {}", words[0])));
            }
        }
        wanted.push(offer);
    }
    if purposes.len() > PURPOSES_MAX {
        return Err(Failure::new(format!("more than {PURPOSES_MAX} purposes")).exit(exit::USAGE));
    }
    let fresh: Vec<Hash> = wanted.iter().map(|offer| offer.terms.id()).collect::<BTreeSet<_>>().into_iter().collect();
    if fresh.is_empty() && purposes == stated {
        return Ok(None);
    }
    let new: Vec<&str> = purposes.difference(&stated).map(String::as_str).collect();
    let mut shown: Vec<String> = (!wanted.is_empty()).then(|| sentences(&partner.name, &wanted)).into_iter().collect();
    if !new.is_empty() {
        shown.push(format!("You would state to {} that you use its records for: {}.", partner.name, new.join(", ")));
    }
    let shown = shown.join("\n");
    if !args.yes && desk.board.is_some() {
        return Err(Failure::new(format!("not confirmed. {shown}")).exit(exit::USAGE).hint("add --yes when that is what you promise"));
    }
    if !args.yes {
        eprintln!("{shown}");
    }
    if !confirmed_at(desk, args.yes, "Do you promise that?") {
        return match args.accept_terms.is_empty() && args.purposes.is_empty() {
            true => Ok(None),
            false => Err(Failure::new("not confirmed; nothing was accepted").hint("add --yes to confirm without a question")),
        };
    }
    terms.extend(wanted.iter().map(|offer| (offer.terms.id(), offer.terms.clone())));
    Ok(Some(Chosen { purposes, terms, fresh }))
}
