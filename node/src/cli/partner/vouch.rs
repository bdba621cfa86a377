//! `lotline partner vouch` and `partner trust-file`: what was checked about a partner, signed for others, and written
//! down for `lotline verify`.

use std::path::Path;

use lotline_schema::voucher::Voucher;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::{Answer, Failure, exit};
use crate::certificate::harmless;
use crate::cli::init::read_ids;
use crate::desk::Desk;
use crate::feeds::{FeedError, vouchers};
use crate::platform;
use crate::service::{now, time_text};

const DAY: u64 = 86_400;
const TEXT_BYTES_MAX: usize = 1000;

/// Flags of `partner vouch`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct Args {
    /// The partner.
    partner: String,
    /// Its legal name, as you checked it.
    #[arg(long, value_name = "NAME")]
    legal_name: String,
    /// A registered id of it that you checked, as vat=DE123456789 or duns=123456789.
    #[arg(long, value_name = "KIND=ID")]
    id: Vec<String>,
    /// How you checked, in words.
    #[arg(long, value_name = "TEXT")]
    how: String,
}

/// Signs it.
pub fn run(desk: &Desk, args: Args) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    let partner = snapshot.book.get(&args.partner).ok_or_else(|| FeedError::NoPartner(args.partner.clone()))?;
    let line = |text: &str| !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control);
    if !line(&args.legal_name) || !line(&args.how) {
        return Err(Failure::new("--legal-name and --how are one line each, of at most 1,000 bytes").exit(exit::USAGE));
    }
    let ids = read_ids(&args.id)?;
    let voucher = Voucher { party: partner.party, name: args.legal_name, ids, how: args.how, day: now() / DAY * DAY };
    let signed = voucher.clone();
    let number = desk.feeds(move |feeds| feeds.vouch(&signed))?;
    let text = format!(
        "You vouch for {}: {} ({}).\nBundles that you make of its records carry this, with your own org feed: whoever trusts you knows whose they are.",
        args.partner,
        harmless(&voucher.name),
        checked(&voucher)
    );
    let json = json!({
        "partner": args.partner, "identity": voucher.party.to_string(), "legal_name": voucher.name, "ids": voucher.ids, "how": voucher.how,
        "day": time_text(voucher.day), "number": number,
    });
    Ok(Answer::new(text, json))
}

/// How and when, in one line.
pub fn checked(voucher: &Voucher) -> String {
    harmless(&format!("{}, {}", voucher.how, day(voucher.day)))
}

fn day(time: u64) -> String {
    time_text(time).chars().take("2026-11-23".len()).collect()
}

/// Writes `[[trust]]` for everybody in the partner book.
pub fn trust_file(desk: &Desk, output: Option<&Path>) -> Result<Answer, Failure> {
    desk.settle()?;
    let snapshot = desk.handle.snapshot();
    let vouchers = vouchers(desk.handle.reader(), &snapshot)?;
    let mut text = format!("# The partner book of {}, for: lotline verify FILE --trust THIS-FILE\n", harmless(&snapshot.name));
    for partner in snapshot.book.values() {
        let (name, how) = match vouchers.get(&partner.party) {
            Some((_, voucher)) => (voucher.name.clone(), format!("{}: {}", snapshot.name, checked(voucher))),
            None => {
                let calls_itself = snapshot.orgs.get(&partner.party).map_or(partner.name.as_str(), |org| org.name());
                (calls_itself.to_owned(), format!("{}: accepted by invitation, {}", snapshot.name, day(partner.added)))
            }
        };
        let string = |text: &str| toml::Value::String(harmless(text)).to_string();
        let (issuer, name, how) = (string(&partner.party.to_string()), string(&name), string(&how));
        text.push_str(&format!("\n[[trust]]\nissuer  = {issuer}\nname    = {name}\nchecked = {how}\n"));
    }
    let count = snapshot.book.len();
    let json = json!({ "partners": count, "file": output, "text": text });
    let Some(output) = output else {
        return Ok(Answer::new(text, json));
    };
    platform::write_file(output, text.as_bytes()).map_err(|why| Failure::new(format!("cannot write `{}`: {why}", output.display())))?;
    let partners = if count == 1 { "1 partner".to_owned() } else { format!("{count} partners") };
    let text = format!("{partners} written to {}. Read it before you give it to anybody: it says whom you trust.", output.display());
    Ok(Answer::new(text, json))
}
