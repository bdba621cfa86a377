//! `lotline share`: with, list, end, for people who never open the file; stop and resume need no file that parses, so that
//! they work on the worst day.

use lotline_policy::parse::meant;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::rule_file::{Consent, RuleFile};
use super::confirmed_at;
use crate::answer::{Answer, Failure, exit};
use crate::desk::Desk;
use crate::feeds::Feeds;
use crate::service::{now, time_text};

pub(super) mod rule_file;
pub(super) mod template;
pub(super) mod with;
pub(super) mod words;

/// What to do with sharing.
#[derive(clap::Subcommand, Serialize, Deserialize, Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one is made a run
pub enum Verb {
    /// Share something with a partner: questions in plain words, or flags. Writes the rule into policy.toml and applies it.
    With(with::Args),
    /// What is shared with whom, and what never is, in sentences.
    List,
    /// End shares: they leave policy.toml and are no longer in force.
    #[command(after_help = "Example: lotline share end oem-a-incoming-inspection")]
    End {
        /// Their names, as `lotline share list` shows them.
        #[arg(required = true)]
        names: Vec<String>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Show what would change, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop sharing now, with one partner or with everybody.
    Stop {
        /// The partner; none: everybody.
        partner: Option<String>,
    },
    /// Share again what the rules in force say.
    #[command(after_help = "Example: lotline share resume --clock")]
    Resume {
        /// This computer's clock is right: share again after it jumped, or was ahead. What was stopped stays stopped.
        #[arg(long)]
        clock: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Does it.
pub fn run(desk: &Desk, verb: Verb) -> Result<Answer, Failure> {
    match verb {
        Verb::With(args) => with::run(desk, args),
        Verb::List => Ok(list(desk)),
        Verb::End { names, yes, dry_run } => end(desk, &names, Consent { yes, dry_run }),
        Verb::Stop { partner } => {
            let target = partner.clone();
            desk.feeds(move |feeds| feeds.stop_sharing(target.as_deref()))?;
            let whom = partner.as_deref().unwrap_or("anybody");
            let text = format!(
                "Sharing with {whom} is stopped. Nothing new leaves; what was received before cannot be called back (`lotline ledger` lists it).\n\
                 Sharing goes on only after: lotline share resume"
            );
            Ok(Answer::new(text, json!({ "stopped": partner.map_or_else(|| json!("everybody"), |partner| json!(partner)) })))
        }
        Verb::Resume { clock: true, yes } => resume_clock(desk, yes),
        Verb::Resume { clock: false, yes } => {
            let policy = desk.handle.snapshot().policy.clone();
            if !confirmed_at(desk, yes, "Share again with everybody as the rules in force say?") {
                return Err(Failure::new("not confirmed").hint("`lotline policy show` prints the rules; add --yes to confirm"));
            }
            let version = desk.feeds(move |feeds| feeds.apply_policy((*policy).clone().with_stopped(Default::default()), true, now()))?;
            Ok(Answer::new(format!("Sharing goes on under version {version} of your rules."), json!({ "version": version })))
        }
    }
}

/// The owner's word that the date is right: shares begin and end by it.
fn resume_clock(desk: &Desk, yes: bool) -> Result<Answer, Failure> {
    let shows = time_text(desk.handle.now());
    if !confirmed_at(desk, yes, &format!("This computer's clock shows {shows}. Is that right, and shall shares begin and end by it?")) {
        return Err(Failure::new("not confirmed").hint("set the clock first if it is wrong; add --yes to confirm"));
    }
    let at = desk.feeds(Feeds::confirm_clock)?;
    Ok(Answer::new(format!("The clock is right: it shows {}. Shares begin and end by it.", time_text(at)), json!({ "clock": at })))
}

fn list(desk: &Desk) -> Answer {
    let (policy, at) = (desk.handle.snapshot().policy.clone(), now() as i64);
    let mut text = String::new();
    let mut shares = Vec::new();
    for share in policy.shares() {
        let over = [share.until, share.list_until].into_iter().flatten().any(|until| until <= at);
        let words = words::share(share);
        text.push_str(&format!("{}: {words}{}\n", share.name, if over { " (over)" } else { "" }));
        shares.push(json!({ "name": share.name, "with": share.with, "partners": share.partners, "words": words, "over": over }));
    }
    if shares.is_empty() {
        text.push_str("Nothing is shared with anybody. Begin with: lotline share with PARTNER\n");
    }
    let mut nevers = Vec::new();
    for never in policy.nevers() {
        let words = words::never(never);
        text.push_str(&format!("{}: {words}, whatever a share says\n", never.name));
        nevers.push(json!({ "name": never.name, "with": never.with, "partners": never.partners, "words": words }));
    }
    let stopped = policy.stopped();
    if stopped.everybody {
        text.push_str("Sharing is stopped with everybody; it goes on with: lotline share resume\n");
    } else if !stopped.partners.is_empty() {
        let partners = stopped.partners.iter().cloned().collect::<Vec<_>>().join(", ");
        text.push_str(&format!("Sharing is stopped with {partners}; it goes on with: lotline share resume\n"));
    }
    Answer::new(text, json!({ "version": policy.version(), "shares": shares, "nevers": nevers, "stopped": stopped }))
}

fn end(desk: &Desk, names: &[String], consent: Consent) -> Result<Answer, Failure> {
    let file = RuleFile::open(desk)?;
    let policy = desk.handle.snapshot().policy.clone();
    let (mut text, mut shown) = (file.text.clone(), String::new());
    for name in names {
        let Some(share) = policy.shares().iter().find(|share| share.name == *name) else {
            let near = meant(name, policy.shares().iter().map(|share| share.name.as_str()));
            let near = near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            let hint = match policy.nevers().iter().any(|never| never.name == *name) {
                true => "this is a ban; bans are removed by hand, in policy.toml",
                false => "`lotline share list` shows all",
            };
            return Err(Failure::new(format!("no share is called `{name}`{near}")).exit(exit::NOT_FOUND).hint(hint));
        };
        shown.push_str(&format!("Ends: {}: {}.\n", share.name, words::share(share)));
        text = RuleFile::without_share(&text, name).ok_or_else(|| {
            Failure::new(format!("`{name}` is named twice here, or not written as [[share]] in policy.toml"))
                .hint("remove it there by hand")
        })?;
    }
    file.put(desk, text, shown.trim_end(), consent, json!({ "ended": names }))
}
