//! `lotline subscribe`: follow every feed a partner offers, or stop following.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::{Answer, Failure};
use crate::desk::Desk;
use crate::feeds::FeedError;

/// Flags of `subscribe`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct Args {
    /// The partner.
    partner: String,
    /// Stop following; what was received stays.
    #[arg(long)]
    off: bool,
}

/// Does it.
pub fn run(desk: &Desk, args: Args) -> Result<Answer, Failure> {
    let (name, on) = (args.partner.clone(), !args.off);
    desk.feeds(move |feeds| {
        let known = feeds.snapshot().book.get(&name).cloned().ok_or(FeedError::NoPartner(name))?;
        feeds.put_partner(crate::feeds::Partner { subscribed: on, ..known })
    })?;
    let text = if on {
        format!("You follow every feed {} offers you, now and later. `lotline feeds` shows how far.", args.partner)
    } else {
        format!("You no longer follow {} (a stream that is open ends with the connection). What you received stays.", args.partner)
    };
    Ok(Answer::new(text, json!({ "partner": args.partner, "subscribed": on })))
}
