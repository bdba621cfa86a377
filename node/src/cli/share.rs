//! `lotline share`: stop and resume. Needs no file that parses, so that it works on the worst day.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::confirmed_at;
use crate::answer::{Answer, Failure};
use crate::desk::Desk;
use crate::service::now;

/// What to do with sharing.
#[derive(clap::Subcommand, Serialize, Deserialize, Clone, Debug)]
pub enum Verb {
    /// Stop sharing now, with one partner or with everybody.
    Stop {
        /// The partner; none: everybody.
        partner: Option<String>,
    },
    /// Share again what the rules in force say.
    Resume {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Does it.
pub fn run(desk: &Desk, verb: Verb) -> Result<Answer, Failure> {
    match verb {
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
        Verb::Resume { yes } => {
            let policy = desk.handle.snapshot().policy.clone();
            if !confirmed_at(desk, yes, "Share again with everybody as the rules in force say?") {
                return Err(Failure::new("not confirmed").hint("`lotline policy show` prints the rules; add --yes to confirm"));
            }
            let version = desk.feeds(move |feeds| feeds.apply_policy((*policy).clone().with_stopped(Default::default()), true, now()))?;
            Ok(Answer::new(format!("Sharing goes on under version {version} of your rules."), json!({ "version": version })))
        }
    }
}
