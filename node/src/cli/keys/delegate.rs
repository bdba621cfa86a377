//! `lotline keys request-delegation`, `keys delegate` and `keys end-delegation`: a second site or a service provider
//! writes a feed that is its owner's.

use std::path::PathBuf;

use lotline_schema::bundle::OrgPart;
use lotline_schema::file;
use lotline_schema::org::PSEUDO_FEEDS;
use lotline_schema::request::{Request, RequestFile};
use lotline_schema::{Origin, PartyId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::life;
use super::root::{Root, stated};
use crate::answer::{Answer, Failure, exit};
use crate::certificate::harmless;
use crate::cli::{confirmed, input};
use crate::desk::Desk;
use crate::feeds::{DelegateError, Feed, FeedError};
use crate::keys::random;
use crate::platform;
use crate::service::{day, day_text, now};

/// Flags of `keys request-delegation`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct RequestArgs {
    /// The partner whose feed it is to be.
    #[arg(long, value_name = "PARTNER")]
    of: String,
    /// Its name: at most 32 small letters, digits and hyphens.
    #[arg(long, value_name = "NAME")]
    feed: String,
    /// The file to write, for that partner.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
}

/// Flags of `keys delegate`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct DelegateArgs {
    /// The partner's request.
    file: PathBuf,
    /// The last day on which it may write, as 2027-06-30 (UTC).
    #[arg(long, value_name = "DAY")]
    until: String,
    #[command(flatten)]
    root: Root,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Flags of `keys end-delegation`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct EndArgs {
    /// The feed, as lab or lab/2.
    feed: String,
    /// The first entry that is not yours any more (else: the first that is not here yet).
    #[arg(long, value_name = "ENTRY")]
    from: Option<u64>,
    #[command(flatten)]
    root: Root,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Makes keys for a feed of a partner, and the file that asks for it.
pub fn request(desk: &Desk, args: RequestArgs) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    let partner = snapshot.book.get(&args.of).cloned().ok_or_else(|| Failure::from(FeedError::NoPartner(args.of.clone())))?;
    if Origin::new(partner.party, &args.feed, 1).is_err() || PSEUDO_FEEDS.contains(&args.feed.as_str()) {
        return Err(Failure::new(format!("`{}` cannot name a feed", args.feed))
            .exit(exit::USAGE)
            .hint("a name has at most 32 small letters, digits and hyphens"));
    }
    let (owner, feed) = (partner.party, args.feed.clone());
    let (core, org) = desk.feeds(move |feeds| {
        let asked = feeds.ask(owner, &feed)?;
        let (snapshot, keys) = (feeds.snapshot(), feeds.keys());
        let org = &snapshot.orgs[&snapshot.party];
        let core = asked.seal(org, now(), &keys.record, random)?;
        let checkpoint = &snapshot.feeds[Origin::org(snapshot.party).as_str()].head.checkpoint;
        Ok((core, OrgPart::of(org, checkpoint)))
    })?;
    let bytes = RequestFile { org, core }.to_bytes();
    platform::write_file(&args.output, &bytes).map_err(|why| Failure::new(format!("cannot write `{}`: {why}", args.output.display())))?;
    let text = format!(
        "The request for feed {} of {} is in {} ({} bytes; no secret is in it, but your org feed is).\n\
         Give it to {}, who grants it with: lotline keys delegate FILE --until DAY --kit KIT\n\
         Your six words, for the telephone: {}\n\
         Afterwards, once connected: lotline publish FILE --feed {} --owner {}",
        args.feed,
        args.of,
        args.output.display(),
        bytes.len(),
        args.of,
        snapshot.party.six_words(),
        args.feed,
        args.of
    );
    Ok(Answer::new(
        text,
        json!({ "file": args.output, "owner": owner.to_string(), "feed": args.feed, "six_words": snapshot.party.six_words() }),
    ))
}

/// A request that holds, of a partner, for us.
struct Asked {
    request: Request,
    by: PartyId,
    /// What it calls itself.
    name: String,
    /// What our partner book calls it.
    partner: String,
}

fn read(desk: &Desk, args: &DelegateArgs) -> Result<Asked, Failure> {
    let bytes = input::read(&args.file, file::BYTES_MAX, "request")?;
    let unreadable = |why: &dyn std::fmt::Display| Failure::new(format!("cannot read `{}`: {why}", args.file.display()));
    let file = RequestFile::read(&bytes)
        .map_err(|why| unreadable(&why).exit(exit::UNREADABLE).hint("a file of `lotline keys request-delegation`"))?;
    let altered = |why: &dyn std::fmt::Display| Failure::new(format!("the request does not hold: {why}")).exit(exit::ALTERED);
    let (org, request) = file.open().map_err(|why| altered(&why))?;
    let snapshot = desk.handle.snapshot();
    if request.owner != snapshot.party {
        let what = format!("the request is to somebody else: root {}", request.owner.six_words());
        return Err(Failure::new(what).exit(exit::REFUSED).hint("your own six words: `lotline keys show`"));
    }
    let by = org.party();
    let Some(partner) = snapshot.partner_of(&by) else {
        let what = format!(
            "the request is of somebody who is not in your partner book: calls itself {}, root {}",
            harmless(org.name()),
            by.six_words()
        );
        return Err(Failure::new(what)
            .exit(exit::REFUSED)
            .hint("pair first: `lotline partner accept` with their invitation, and compare the six words"));
    };
    Ok(Asked { request, by, name: org.name().to_owned(), partner: partner.name.clone() })
}

/// Grants a request.
pub fn delegate(desk: &Desk, args: DelegateArgs) -> Result<Answer, Failure> {
    let Asked { request, by, name, partner } = read(desk, &args)?;
    let until =
        day(&args.until).ok_or_else(|| Failure::new(format!("`{}` is no day", args.until)).exit(exit::USAGE).hint("as 2027-06-30"))?;
    if until < day(&day_text(now())).unwrap_or(0) {
        return Err(Failure::new(format!("{} is over", args.until)).exit(exit::USAGE).hint("give the last day on which it may write"));
    }
    let question = format!(
        "{partner} (calls itself {}, six words {}) asks to write feed {} in your name.\n\
         What it publishes there is yours: your customers see it as your word, under your rules, and you answer for it.\n\
         It may do so until the end of {} (UTC). Grant it?",
        harmless(&name),
        by.six_words(),
        request.feed,
        day_text(until)
    );
    let root = args.root.open()?;
    desk.feeds({
        let signer = root.signer().clone();
        move |feeds| Ok(feeds.is_root(&signer)?)
    })?;
    if !confirmed(args.yes, &question) {
        return Err(Failure::new("not confirmed; nothing was granted").hint("add --yes to confirm without a question"));
    }
    let granted = desk.feeds(move |feeds| feeds.delegate(&request, by, &name, until, root.signer(), now()))?;
    let text = match granted.entry {
        Some(entry) => format!(
            "{partner} writes your feed {} until {} (entry {entry} of your org feed). It learns that when your nodes are connected.\n\
             Nobody sees anything of it before a rule of yours names the feed: lotline policy apply",
            life(&granted.origin),
            day_text(until)
        ),
        None => format!("That was granted before, as feed {}; it is known again that {partner} writes it.", life(&granted.origin)),
    };
    let json = json!({ "origin": granted.origin.to_string(), "writer": partner, "until": args.until, "entry": granted.entry });
    Ok(stated(text, json))
}

/// Ends a delegation.
pub fn end(desk: &Desk, args: EndArgs) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    let goes_on = snapshot.delegated().into_iter().filter(|of| of.ours && of.ended.is_none());
    let of = goes_on.filter(|of| of.origin.name() == args.feed || life(&of.origin) == args.feed).max_by_key(|of| of.origin.n());
    let of = of.ok_or_else(|| Failure::from(FeedError::from(DelegateError::NoDelegation(args.feed.clone()))))?;
    let size = snapshot.feeds.get(of.origin.as_str()).map_or(0, Feed::size);
    // Its first entry says whose keys sign the feed and is no record.
    let from = args.from.unwrap_or(size).max(1);
    let gone = size.saturating_sub(from);
    let question = format!(
        "End the delegation of feed {} to {} before entry {from}? {} that you hold become revoked. That cannot be taken back.",
        life(&of.origin),
        of.with,
        if gone == 1 { "1 entry".to_owned() } else { format!("{gone} entries") }
    );
    let root = args.root.open()?;
    if !confirmed(args.yes, &question) {
        return Err(Failure::new("not confirmed; nothing was changed").hint("add --yes to confirm without a question"));
    }
    let origin = of.origin.clone();
    let entry = desk.feeds(move |feeds| feeds.end_delegation(&origin, from, root.signer(), now()))?;
    let text = format!(
        "{} writes feed {} no more: what stands there from entry {from} on is not vouched for (entry {entry} of your org feed).",
        of.with,
        life(&of.origin)
    );
    Ok(stated(text, json!({ "origin": of.origin.to_string(), "from": from, "revoked": gone, "entry": entry })))
}
