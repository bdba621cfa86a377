//! `lotline partner`: invite, accept, list, remove. By a code between two running nodes, or by a long line each side gives the
//! other; neither trusts a server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::{Answer, Failure, exit};
use crate::certificate::harmless;
use crate::cli::share::rule_file::{Consent, RuleFile};
use crate::desk::Desk;
use crate::feeds::{Partner, vouchers};
use crate::invitation::{Invitation, looks_like_one};
use crate::keys::random;
use crate::service::{now, time_text};

mod pair;
mod vouch;

pub use pair::{at_terminal, reached_at};

/// What to do with partners.
#[derive(clap::Subcommand, Serialize, Deserialize, Clone, Debug)]
pub enum Verb {
    /// Pair with a partner: shows a code for it, and waits for it. Beside a running node.
    #[command(
        after_help = "Example: lotline partner invite\n         lotline partner invite --at oem.example:4001\n         lotline partner invite --from suppliers.csv --group suppliers\n         lotline partner invite --offline"
    )]
    Invite {
        /// Where your partner is reached, when you are not: this node then calls there.
        #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["offline", "from"])]
        #[serde(default)]
        at: Option<String>,
        /// Print a long line for your partner instead, who then gives you one of its own. Needs no running node.
        #[arg(long, conflicts_with = "from")]
        #[serde(default)]
        offline: bool,
        /// One invitation for each supplier in this list (columns supplier, name, group): who comes with its code is in the
        /// partner book at once.
        #[arg(long, value_name = "FILE")]
        #[serde(default)]
        from: Option<PathBuf>,
        /// With --from: the day on which the invitations end, as 2027-07-01 (else in 30 days).
        #[arg(long, value_name = "DAY", requires = "from")]
        #[serde(default)]
        until: Option<String>,
        /// What you call this partner, in your rules and on your screens.
        #[arg(long = "as", value_name = "NAME", conflicts_with = "from")]
        #[serde(default)]
        name: Option<String>,
        /// The group of partners it joins. A new name makes a new group.
        #[arg(long)]
        #[serde(default)]
        group: Option<String>,
        /// Follow every feed it offers.
        #[arg(long, conflicts_with = "from")]
        #[serde(default)]
        subscribe: bool,
        /// Do not ask whether the digits are the same. The code alone then says who came.
        #[arg(long, conflicts_with = "from")]
        #[serde(default)]
        yes: bool,
    },
    /// Pair with a partner by the code and host it told you, or by the long line it gave you.
    #[command(
        after_help = "Example: lotline partner accept K7M-4QX-9TP oem.example:4001\n         lotline partner accept lotline-1-… --as oem-a"
    )]
    Accept {
        /// The code, or the long line.
        #[arg(value_name = "CODE")]
        invitation: String,
        /// The host it told you, as oem.example:4001; not needed where your partner calls you.
        #[arg(value_name = "HOST:PORT")]
        #[serde(default)]
        host: Option<String>,
        /// What you call this partner, in your rules and on your screens.
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
        /// The group of partners it joins. A new name makes a new group.
        #[arg(long)]
        #[serde(default)]
        group: Option<String>,
        /// Follow every feed it offers.
        #[arg(long)]
        subscribe: bool,
        /// Do not ask whether the digits are the same. The code alone then says who came.
        #[arg(long)]
        #[serde(default)]
        yes: bool,
    },
    /// Pairings that wait for somebody, or for your word.
    Pairings {
        /// Only this one.
        pairing: Option<u64>,
    },
    /// Put who came into the partner book: both screens show the same six digits.
    #[command(after_help = "Example: lotline partner confirm 3 --as oem-a --group customers")]
    Confirm {
        /// The number of the pairing.
        pairing: u64,
        /// What you call this partner, in your rules and on your screens.
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
        /// The group of partners it joins. A new name makes a new group.
        #[arg(long)]
        group: Option<String>,
        /// Follow every feed it offers.
        #[arg(long)]
        subscribe: bool,
    },
    /// End a pairing: the digits differ, or nobody came.
    Decline {
        /// The number of the pairing.
        pairing: u64,
    },
    /// State what you checked about a partner: signed, kept, and put into bundles of its records for others.
    #[command(
        after_help = "Example: lotline partner vouch brandt --legal-name \"Brandt Precision GmbH\" --id vat=DE123456789 --how \"by phone, six words compared\""
    )]
    Vouch(vouch::Args),
    /// Write a trust file for `lotline verify --trust` from the partner book.
    #[command(after_help = "Example: lotline partner trust-file -o suppliers.toml")]
    TrustFile {
        /// The file (else it is printed).
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show the partner book.
    List,
    /// Remove a partner: it is disconnected and can no longer connect.
    Remove {
        /// Its name.
        name: String,
    },
}

impl Verb {
    pub(super) fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Verb::TrustFile { output } => output.iter_mut().collect(),
            Verb::Invite { from, .. } => from.iter_mut().collect(),
            _ => Vec::new(),
        }
    }
}

/// Does it.
pub fn run(desk: &Desk, verb: Verb) -> Result<Answer, Failure> {
    match verb {
        Verb::Invite { offline: true, .. } => invite_offline(desk),
        Verb::Invite { from: Some(file), group, until, .. } => pair::invite_all(desk, &file, group.as_deref(), until.as_deref()),
        Verb::Invite { at, .. } => pair::invite(desk, at),
        Verb::Accept { invitation, name, group, subscribe, .. } if looks_like_one(&invitation) => {
            accept_offline(desk, &invitation, name, group, subscribe)
        }
        Verb::Accept { invitation, host, .. } => pair::accept(desk, &invitation, host.as_deref()),
        Verb::Pairings { pairing } => pair::list(desk, pairing),
        Verb::Confirm { pairing, name, group, subscribe } => pair::confirm(desk, pairing, name, group, subscribe),
        Verb::Decline { pairing } => pair::decline(desk, pairing),
        Verb::Vouch(args) => vouch::run(desk, args),
        Verb::TrustFile { output } => vouch::trust_file(desk, output.as_deref()),
        Verb::List => Ok(list(desk)),
        Verb::Remove { name } => remove(desk, name),
    }
}

/// Out of the book, and out of the groups of the rules: they may name partners only.
fn remove(desk: &Desk, name: String) -> Result<Answer, Failure> {
    // Unapplied edits of the rules, or rules that name it: it goes all the same, on the worst day too.
    let left = RuleFile::open(desk).map(|file| {
        let text = file.without_member(&name);
        (text != file.text).then_some((file, text))
    });
    let (target, partner) = (name.clone(), name);
    desk.feeds(move |feeds| feeds.remove_partner(&target))?;
    let mut text =
        format!("{partner} is removed and disconnected. What it received it still has; `lotline ledger --to {partner}` lists it.");
    let consent = Consent { yes: true, dry_run: false };
    let left = left.and_then(|left| left.map_or(Ok(()), |(file, text)| file.put(desk, text, "", consent, json!({})).map(drop)));
    if left.is_err() {
        text.push_str(&format!("\nYour policy.toml may still name {partner}: take it out and `lotline policy apply`."));
    }
    Ok(Answer::new(text, json!({ "removed": partner })))
}

/// The verb with which a running node puts an invited supplier into the book that has come.
pub(super) fn confirm_bound(pairing: u64) -> super::HomeVerb {
    super::HomeVerb::Partner(Verb::Confirm { pairing, name: None, group: None, subscribe: true })
}

fn invite_offline(desk: &Desk) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    let listening = desk.board.as_ref().map(crate::service::LinkBoard::listening).unwrap_or_default();
    let invitation = Invitation {
        party: snapshot.party,
        name: snapshot.name.clone(),
        peer: snapshot.peer.clone(),
        addresses: reached_at(&desk.config, &listening).iter().map(ToString::to_string).collect(),
    };
    let line = invitation.to_text();
    let listens = !desk.config.listen.is_empty() || !listening.is_empty();
    let reach = match invitation.addresses.as_slice() {
        [] if listens => "You listen, but under which address partners reach you is not known: write it into lotline.toml as announce = [\"host:port\"], or let this partner be the one that is dialled.".to_owned(),
        [] => "You dial out only: the partner needs no address of yours.".to_owned(),
        addresses => format!("It says you can be reached at {}.", addresses.join(", ")),
    };
    let text = format!(
        "{line}\n\nSend this line to your partner (it holds no secret), who runs: lotline partner accept LINE\n{reach}\nThen accept the line your partner sends you. Compare by telephone: {}",
        snapshot.party.six_words()
    );
    Ok(Answer::new(text, json!({ "invitation": line, "addresses": invitation.addresses, "six_words": snapshot.party.six_words() })))
}

fn accept_offline(desk: &Desk, line: &str, name: Option<String>, group: Option<String>, subscribe: bool) -> Result<Answer, Failure> {
    let invitation = Invitation::read(line).map_err(|why| Failure::new(why).exit(exit::USAGE))?;
    let Some(group) = group else {
        return add(desk, &invitation, name, subscribe);
    };
    pair::add_to_group(desk, &invitation, name, &group, subscribe)
}

/// Puts who invited into the partner book.
fn add(desk: &Desk, invitation: &Invitation, name: Option<String>, subscribe: bool) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    if invitation.party == snapshot.party {
        return Err(Failure::new("this is your own invitation").hint("accept the line your partner sends you"));
    }
    if let Some(known) = snapshot.partner_of(&invitation.party).filter(|known| name.as_ref().is_some_and(|name| *name != known.name)) {
        return Err(Failure::new(format!("this organisation is in the partner book already, as `{}`", known.name))
            .hint("remove it first to give it another name"));
    }
    let known = snapshot.partner_of(&invitation.party).map(|known| known.name.clone());
    let name = known.or(name).unwrap_or_else(|| short_name(&invitation.name));
    if !pair::names_a_partner(&name) {
        return Err(Failure::new(format!("`{name}` cannot name a partner"))
            .exit(exit::USAGE)
            .hint("give a short name without spaces with --as"));
    }
    let examples = desk.feeds(|feeds| Ok(feeds.keys().are_examples()))?;
    super::run::refuse_examples_off_loopback(examples, invitation.addresses.iter().cloned())?;
    let before = snapshot.book.get(&name);
    let mut opaque = [0u8; 4];
    random(&mut opaque);
    let partner = Partner {
        party: invitation.party,
        peer: invitation.peer.clone(),
        before: Vec::new(),
        addresses: invitation.addresses.clone(),
        // Opaque: the name of a feed is seen by everybody who may follow any feed of ours.
        feed: before.map_or_else(|| format!("f-{}", lotline_schema::id::hex(&opaque)), |before| before.feed.clone()),
        subscribed: subscribe || before.is_some_and(|before| before.subscribed),
        added: before.map_or_else(now, |before| before.added),
        name: name.clone(),
    };
    let stored = partner.clone();
    desk.feeds(move |feeds| feeds.put_partner(stored))?;
    let words = invitation.party.six_words();
    let follow = if partner.subscribed { "You follow every feed it offers." } else { "Follow what it offers with: lotline subscribe NAME" };
    let text = format!(
        "{} is in your partner book as `{name}`.\n  calls itself  {}\n  six words     {words}   (compare them by telephone)\n  your feed     {}   (lotline publish … --to {name})\n\nIt sees nothing until a rule in policy.toml says so. {}\nWhat you check about it you can state: lotline partner vouch {name} --legal-name … --how …",
        short_name(&invitation.name),
        harmless(&invitation.name),
        partner.feed,
        follow.replace("NAME", &name),
    );
    Ok(Answer::new(
        text,
        json!({ "name": name, "calls_itself": invitation.name, "identity": partner.party.to_string(), "six_words": words, "feed": partner.feed }),
    ))
}

/// A name of its own making for a partner: lower case, without spaces.
fn short_name(name: &str) -> String {
    let kept: String = name.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    kept.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

fn list(desk: &Desk) -> Answer {
    // The book itself is in memory, and is shown also while the index is broken.
    let readable = desk.settle().ok().and_then(|()| vouchers(desk.handle.reader(), &desk.handle.snapshot()).ok());
    let unread = readable.is_none();
    let vouchers = readable.unwrap_or_default();
    let snapshot = desk.handle.snapshot();
    let mut text = String::new();
    let mut rows = Vec::new();
    for partner in snapshot.book.values() {
        let link = desk.board.as_ref().map(|board| board.of(&partner.name));
        let state = match &link {
            None => "node not running",
            Some(link) if link.connected => "connected",
            Some(_) => "not connected",
        };
        text.push_str(&format!("{:<16} {state:<18} feed {:<12} {}\n", partner.name, partner.feed, partner.party.six_words()));
        // What it says of itself, and what we checked.
        let ids = snapshot.orgs.get(&partner.party).map(|org| org.about().ids.clone()).unwrap_or_default();
        for (kind, id) in &ids {
            text.push_str(&format!("  states {} {}\n", harmless(kind), harmless(id)));
        }
        let vouched = vouchers.get(&partner.party).map(|(_, voucher)| voucher);
        if let Some(voucher) = vouched {
            text.push_str(&format!("  you vouched: {} ({})\n", harmless(&voucher.name), vouch::checked(voucher)));
        }
        rows.push(json!({
            "ids": ids,
            "vouched": vouched.map(|of| json!({ "legal_name": of.name, "ids": of.ids, "how": of.how, "day": time_text(of.day) })),
            "name": partner.name, "identity": partner.party.to_string(), "six_words": partner.party.six_words(), "peer": partner.peer, "former_peers": partner.before,
            "addresses": partner.addresses, "feed": partner.feed, "subscribed": partner.subscribed, "added": time_text(partner.added),
            "connected": link.as_ref().map(|link| link.connected), "trouble": link.and_then(|link| link.trouble),
        }));
    }
    if rows.is_empty() {
        text = "no partners yet; send somebody the line of: lotline partner invite".into();
    }
    if unread {
        text.push_str("\nWhat you vouched for cannot be read now; `lotline status` says why.");
    }
    Answer::new(text, json!({ "partners": rows }))
}
