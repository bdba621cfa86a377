//! `lotline carry` and `lotline receive`: the same exchange on a stick or by e-mail.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lotline_schema::delivery::{Delivery, Receipt, Way};
use lotline_schema::note::{Checkpoint, Cosignature, WitnessKey};
use lotline_schema::org::Org;
use lotline_schema::{Hash, Origin};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::lists::{feed_name, owner};
use crate::answer::{Answer, Failure, exit};
use crate::carry::{CARRIED_BYTES_MAX, Carried, CarriedAnswer, CarriedFile, pack};
use crate::desk::Desk;
use crate::exchange::message::{Cosigned, Message};
use crate::feeds::accept::{self, AcceptError};
use crate::feeds::forks::Accusation;
use crate::feeds::ledger::{places_between, row_for};
use crate::feeds::witness::{self, Evidence};
use crate::feeds::{Accepted, Feed, FeedError, Head, Partner, Received, forks};
use crate::ledger::{Outcome, Row};
use crate::platform;
use crate::service::now;

/// The most feeds of one partner that are remembered, as over the network.
const FEEDS_MAX: usize = 128;

/// Flags of `carry`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
#[command(after_help = "Example: lotline carry --to oem-a -o for-oem-a.lotline")]
pub struct CarryArgs {
    /// The partner it is for.
    #[arg(long, value_name = "PARTNER")]
    to: String,
    /// One feed only.
    #[arg(long)]
    feed: Option<String>,
    /// From this entry on (else: what the partner has not signed for yet).
    #[arg(long, value_name = "ENTRY", requires = "feed")]
    from: Option<u64>,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
}

/// Flags of `receive`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
#[command(after_help = "Example: lotline receive for-oem-a.lotline -o answer.lotline\n         lotline receive answer.lotline")]
pub struct ReceiveArgs {
    /// The file: a carried feed, or the answer to one.
    pub(super) file: PathBuf,
    /// Where to write the answer, with the receipts.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

/// Writes a file with what a partner may see.
pub fn carry(desk: &Desk, args: CarryArgs) -> Result<Answer, Failure> {
    desk.settle()?;
    let snapshot = desk.handle.snapshot();
    let partner = snapshot.book.get(&args.to).cloned().ok_or_else(|| Failure::from(FeedError::NoPartner(args.to.clone())))?;
    if let Some(why) = &snapshot.restored {
        return Err(FeedError::Restored(why.clone()).into());
    }
    let allowed = snapshot.policy.feeds_for(&snapshot.viewer(&partner.name), &snapshot.own_feed_names(), now() as i64);
    let wanted = |feed: &&Feed| {
        // What we write in the partner's name is its own; of another's nothing goes to it.
        let may = if feed.ours { allowed.iter().any(|name| name == feed.origin.name()) } else { feed.origin.party() == partner.party };
        may && !feed.origin.is_org() && args.feed.as_ref().is_none_or(|name| name == feed.origin.name())
    };
    let feeds: Vec<Feed> = snapshot.feeds.values().filter(wanted).filter_map(Feed::as_served).collect();
    // Who writes a feed of ours learns from our org feed that it may.
    let keys_alone = args.feed.is_none() && snapshot.delegates_to(&partner.party);
    if feeds.is_empty() && !keys_alone {
        let theirs = |of: &&Feed| of.written && !of.ours && args.feed.as_deref() == Some(of.origin.name());
        if let Some(feed) = snapshot.feeds.values().find(theirs) {
            let (name, whose) = (feed_name(feed), owner(desk, feed));
            let failure = Failure::new(format!("feed {name} is {whose}'s, you only write it: it goes to {whose} and to nobody else"));
            return Err(failure.exit(exit::REFUSED).hint(format!("{whose} shares it under its own rules")));
        }
        let failure = Failure::new(format!("your rules share no such feed with {}", partner.name)).exit(exit::REFUSED);
        return Err(failure.hint("`lotline policy show` says what is shared"));
    }
    let org = snapshot.feeds[&Origin::org(snapshot.party).to_string()].clone();
    let (mut batches, mut intents, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    let reader = desk.handle.reader();
    for feed in std::iter::once(&org).chain(&feeds) {
        let from = match (feed.origin.is_org(), args.from) {
            (true, _) => 0,
            (false, Some(from)) => from,
            (false, None) => signed_for(desk, &partner, feed)?,
        };
        let ends: BTreeSet<u64> = match feed.origin.is_org() {
            // It may be known there in part by other ways, and is small: one entry a batch always fits.
            true => (1..feed.size()).collect(),
            false => {
                let before = places_between(reader, &partner.name, feed.origin.as_str(), from, feed.size())?;
                before.into_iter().map(|place| place.end).collect()
            }
        };
        for (batch, intent) in pack(reader, &snapshot, &partner, feed, from, &ends)? {
            batches.push((feed.origin.clone(), batch));
            intents.push(intent);
        }
        if !feed.origin.is_org() {
            lines.push(format!("{}: entries {from} to {}", feed_name(feed), feed.size().saturating_sub(1)));
        }
    }
    let count = intents.iter().filter(|intent| intent.origin != org.origin.as_str()).map(|intent| intent.items.sent.len()).sum::<usize>();
    if count == 0 && !keys_alone {
        return Err(Failure::new(format!("{} has signed for everything already", partner.name))
            .exit(exit::NOT_FOUND)
            .hint("--feed NAME --from 0 writes it again"));
    }
    let bytes = CarriedFile::Feed(Carried { from: snapshot.party, to: partner.party, batches }).to_bytes();
    if bytes.len() > CARRIED_BYTES_MAX {
        return Err(Failure::new("the file would be larger than 1 GiB").hint("carry one feed, or from a later entry on"));
    }
    if !std::sync::Arc::ptr_eq(&snapshot.policy, &desk.handle.snapshot().policy) {
        return Err(Failure::new("the rules changed while the file was made; nothing was written").exit(exit::BUSY).hint("try again"));
    }
    // The ledger knows before the file exists.
    desk.feeds(move |feeds| feeds.export(intents, now()))?;
    platform::write_file(&args.output, &bytes).map_err(|why| Failure::new(format!("cannot write `{}`: {why}", args.output.display())))?;
    let file = args.output.display();
    let text = format!(
        "For {}, in {file} ({} bytes):\n  {}\nWhoever has the file can read it. {} takes it in with: lotline receive FILE -o ANSWER\nand your `lotline receive ANSWER` brings the receipts home.",
        partner.name,
        bytes.len(),
        lines.join("\n  "),
        partner.name
    );
    Ok(Answer::new(text, json!({ "file": args.output, "bytes": bytes.len(), "entries": count, "sha256": Hash::of(&[&bytes]).to_string() })))
}

/// The first entry of a feed that a partner has not signed for.
fn signed_for(desk: &Desk, partner: &Partner, feed: &Feed) -> Result<u64, Failure> {
    let reader = desk.handle.reader();
    let (mut next, party) = (0, partner.party);
    // Batches follow each other: each receipt leads to the entry after it.
    while next < feed.size() {
        let receipts = witness::receipts_about(reader, feed.origin.as_str(), next, true)?;
        let signed = receipts.iter().filter(|core| Receipt::claimed_by(core) == Some(party)).filter_map(|core| Receipt::peek(core));
        match signed.filter(|of| of.way == Way::Batch).map(|of| of.to).max().filter(|end| *end > next) {
            Some(end) => next = end,
            None => break,
        }
    }
    Ok(next)
}

/// Takes a carried file in.
pub fn receive(desk: &Desk, args: ReceiveArgs) -> Result<Answer, Failure> {
    let bytes = read(&args.file)?;
    let file = CarriedFile::read(&bytes).map_err(|why| {
        let hint = "a file of `lotline carry`, or the answer of `lotline receive`; bundles are for `lotline verify`";
        Failure::new(format!("cannot read `{}`: {why}", args.file.display())).exit(exit::UNREADABLE).hint(hint)
    })?;
    match file {
        CarriedFile::Feed(carried) => take_feed(desk, &args, carried),
        CarriedFile::Answer(answer) => take_answer(desk, answer),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::new(format!("cannot read `{}`: {why}", file.display())).exit(exit::UNREADABLE);
    let length = std::fs::metadata(file).map_err(|why| failed(&why).exit(exit::NOT_FOUND))?.len();
    if length > CARRIED_BYTES_MAX as u64 {
        return Err(failed(&"it is larger than any carried file (1 GiB)"));
    }
    std::fs::read(file).map_err(|why| failed(&why))
}

fn sender(desk: &Desk, party: &lotline_schema::PartyId) -> Result<Partner, Failure> {
    desk.handle.snapshot().partner_of(party).cloned().ok_or_else(|| {
        let what = format!("the file is from somebody who is not in your partner book: root {}", party.six_words());
        Failure::new(what).exit(exit::REFUSED).hint("pair first: `lotline partner accept` with their invitation")
    })
}

fn take_feed(desk: &Desk, args: &ReceiveArgs, carried: Carried) -> Result<Answer, Failure> {
    let partner = sender(desk, &carried.from)?;
    let us = desk.handle.snapshot().party;
    if carried.to != us {
        let what = format!("the file is for somebody else: root {}", carried.to.six_words());
        return Err(Failure::new(what).exit(exit::REFUSED).hint("your own six words: `lotline keys show`"));
    }
    let (mut taken, mut known, mut receipts, mut cosigned) = (0u64, 0u64, Vec::new(), Vec::new());
    for (origin, batch) in carried.batches {
        let snapshot = desk.handle.snapshot();
        if origin.party() != partner.party && !snapshot.is_awaited_from(&origin, &partner.party) {
            return Err(Failure::new("the file holds a feed of somebody else than its sender").exit(exit::ALTERED));
        }
        let entries = batch.items.len() as u64;
        let Some(accepted) = take_batch(desk, &partner, &origin, batch)? else {
            known += entries;
            continue;
        };
        taken += entries;
        receipts.extend(accepted.receipt);
        cosigned.extend(accepted.cosigned.map(|one| (origin, one)));
    }
    let renamed = desk.handle.snapshot().book.get(&partner.name).is_some_and(|now| now.peer != partner.peer);
    // What came before, by network or by an earlier file, is signed for already: those receipts go along.
    let answer = answer(desk, &partner, receipts, cosigned)?;
    let count = answer.receipts.len();
    let bytes = CarriedFile::Answer(answer).to_bytes();
    let mut text = format!("{taken} entries from {} verified and stored; {known} were here already.", partner.name);
    if renamed {
        text.push_str(&format!(
            "\n{} has a new transport key, as its root key says; your node knows it under that from now on.",
            partner.name
        ));
    }
    match &args.output {
        Some(output) => {
            platform::write_file(output, &bytes).map_err(|why| Failure::new(format!("cannot write `{}`: {why}", output.display())))?;
            text.push_str(&format!(
                "\nThe answer with {count} receipts is in {}: give it to {}, who takes it in with `lotline receive`.",
                output.display(),
                partner.name
            ));
        }
        None => text.push_str("\nNo answer was written: with -o FILE the sender gets your receipts."),
    }
    Ok(Answer::new(
        text,
        json!({ "from": partner.name, "entries": taken, "known": known, "renamed": renamed, "receipts": count, "answer": args.output }),
    ))
}

/// The way of a batch from the network: verified whole, stored whole, or the feed is frozen with the evidence.
fn take_batch(desk: &Desk, partner: &Partner, origin: &Origin, batch: Received) -> Result<Option<Accepted>, Failure> {
    let known = desk.handle.snapshot();
    let theirs = known.feeds.values().filter(|feed| feed.origin.party() == partner.party).count();
    if batch.items.is_empty() || (!known.feeds.contains_key(origin.as_str()) && theirs >= FEEDS_MAX) {
        return Err(Failure::new("the file holds an empty batch, or more feeds than a partner may have").exit(exit::ALTERED));
    }
    let target = origin.clone();
    desk.feeds(move |feeds| feeds.follow(&target))?;
    let snapshot = desk.handle.snapshot();
    let feed = &snapshot.feeds[origin.as_str()];
    if feed.written {
        return Ok(None);
    }
    let end = batch.from + batch.items.len() as u64;
    let evidence = Message::Batch(batch.clone());
    // What is here already, or comes too early, may still say something else than what we hold.
    if batch.from != feed.size()
        && let Some(accused) = forks::contradiction(desk.handle.reader(), &snapshot, origin, &evidence)
    {
        return Err(froze(desk, origin, &evidence, accused));
    }
    if end <= feed.size() {
        return Ok(None);
    }
    if batch.from != feed.size() {
        let what = format!("the file begins at entry {} of feed {}, and {} are here", batch.from, feed_name(feed), feed.size());
        let hint = format!("ask {} for: lotline carry --to … --feed {} --from {}", partner.name, origin.name(), feed.size());
        return Err(Failure::new(what).exit(exit::REFUSED).hint(hint));
    }
    let party = origin.party();
    let org = snapshot.orgs.get(&party).cloned().unwrap_or_else(|| Org::new(party).into());
    let (head, name): (std::sync::Arc<Head>, Origin) = (feed.head.clone(), origin.clone());
    let verified = if origin.is_org() { accept::verify_org(&org, &head, batch) } else { accept::verify(&org, &name, &head, batch) };
    let (lots, lives) = match &verified {
        Ok(batch) => (batch.lots(), batch.org().is_some()),
        Err(_) => Default::default(),
    };
    let stored = match verified {
        Ok(batch) => desk.handle.with_blocking(move |feeds| feeds.accept(batch, None, now()))?,
        Err(error) => Err(error),
    };
    let accepted = stored.map_err(|error| refused(desk, partner, origin, error, &evidence))?;
    let (reader, snapshot) = (desk.handle.reader(), desk.handle.snapshot());
    let found = if lives { forks::broken_life(reader, &snapshot, partner.party)? } else { forks::twins(reader, &snapshot, origin, &lots)? };
    match found {
        Some((of, why, proof)) => {
            // Where one of the two is what we wrote ourselves, it is what came that stops.
            let origin = if snapshot.feeds.get(of.as_str()).is_some_and(|feed| feed.written) { origin.clone() } else { of };
            Err(froze(desk, &origin, &evidence, (why, proof)))
        }
        None => Ok(Some(accepted)),
    }
}

/// Freezes a feed with the evidence, and says so.
fn froze(desk: &Desk, origin: &Origin, evidence: &Message, (why, proof): Accusation) -> Failure {
    let (origin, frame, text) = (origin.clone(), evidence.to_frame(), why.clone());
    match desk.feeds(move |feeds| feeds.freeze(&origin, &text, &frame, proof.as_ref())) {
        Err(failure) => failure,
        Ok(()) => {
            Failure::new(why).exit(exit::ALTERED).hint("the feed is frozen; `lotline fork-proof -o FILE` writes the proof, if there is one")
        }
    }
}

fn refused(desk: &Desk, partner: &Partner, origin: &Origin, error: AcceptError, evidence: &Message) -> Failure {
    let why = error.to_string();
    if let Some((text, proof)) = forks::accusation(desk.handle.reader(), &desk.handle.snapshot(), origin, evidence, &error) {
        let (origin, frame) = (origin.clone(), evidence.to_frame());
        if let Err(failure) = desk.feeds(move |feeds| feeds.freeze(&origin, &text, &frame, proof.as_ref())) {
            return failure;
        }
    }
    let hint = format!("nothing of it was stored; talk to {}", partner.name);
    Failure::new(format!("the file does not hold: {why}")).exit(exit::ALTERED).hint(hint)
}

/// Receipts and cosignatures for the sender, under our keys.
fn answer(desk: &Desk, partner: &Partner, receipts: Vec<Vec<u8>>, cosigned: Vec<(Origin, Cosigned)>) -> Result<CarriedAnswer, Failure> {
    desk.settle()?;
    let snapshot = desk.handle.snapshot();
    let (org, feed) = (&snapshot.orgs[&snapshot.party], &snapshot.feeds[&Origin::org(snapshot.party).to_string()]);
    let mut all: BTreeSet<Vec<u8>> = receipts.into_iter().collect();
    let theirs = |feed: &&Feed| snapshot.is_written_by(&feed.origin, &partner.party) && !feed.written && !feed.origin.is_org();
    for feed in snapshot.feeds.values().filter(theirs) {
        let mut next = 0;
        while next < feed.size() {
            let about = witness::receipts_about(desk.handle.reader(), feed.origin.as_str(), next, false)?;
            // Batches lead from one to the next; backfills lie across them.
            let batches = about.iter().filter_map(|core| Receipt::peek(core)).filter(|of| of.way == Way::Batch);
            next = batches.map(|of| of.to).max().filter(|end| *end > next).unwrap_or(feed.size());
            all.extend(about);
        }
    }
    let org = lotline_schema::bundle::OrgPart::of(org, &feed.head.checkpoint);
    Ok(CarriedAnswer { from: snapshot.party, org, receipts: all.into_iter().collect(), cosigned })
}

fn take_answer(desk: &Desk, answer: CarriedAnswer) -> Result<Answer, Failure> {
    let partner = sender(desk, &answer.from)?;
    if let Some(why) = &desk.handle.snapshot().restored {
        return Err(FeedError::Restored(why.clone()).into());
    }
    let altered = |what: String| Failure::new(what).exit(exit::ALTERED);
    let (org, _) = answer.org.open().map_err(|why| altered(format!("the answer's org feed does not hold: {why}")))?;
    if org.party() != partner.party {
        return Err(altered("the answer's org feed is of somebody else".into()));
    }
    take_org(desk, &partner, &answer, &org)?;
    desk.settle()?;
    let (mut outcomes, mut evidence, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    for core in answer.receipts {
        let claimed = Receipt::peek(&core);
        let row = claimed.as_ref().map(|claimed| row_for(desk.handle.reader(), &partner.name, claimed)).transpose()?.flatten();
        let answered =
            |(row, way): &(Row, Way)| witness::check_receipt(&core, &org, row, *way).is_ok_and(|delivery| is_ours(desk, &delivery));
        match row.zip(claimed.map(|claimed| claimed.way)).filter(answered).map(|(row, _)| row) {
            Some(row) if row.outcome == Outcome::Acknowledged => {}
            Some(row) => {
                evidence.push(Evidence::Receipt(row.clone(), core));
                outcomes.push((row, Outcome::Acknowledged));
            }
            None => lost.push(core),
        }
    }
    // After a restore, rows may have been lost with the disk: then this answer holds every receipt the partner had given.
    let (whom, unknown) = (partner.clone(), lost.len() as u64);
    // It may be an old one: whether there are others is for the partner to say, over the network.
    let filled = match lost.is_empty() {
        true => 0,
        false => desk.feeds(move |feeds| feeds.refill(&whom, &lost, false, now()))?,
    };
    let mut strange = unknown - filled;
    let snapshot = desk.handle.snapshot();
    for (origin, cosigned) in answer.cosigned {
        let Some(feed) = snapshot.feeds.get(origin.as_str()).filter(|feed| (feed.ours || feed.written) && feed.size() >= cosigned.size)
        else {
            strange += 1;
            continue;
        };
        let root = desk.handle.reader().tree(feed.id, feed.size()).root(cosigned.size)?;
        let checkpoint = Checkpoint { origin, size: cosigned.size, root };
        let holds = WitnessKey::read(&cosigned.key)
            .is_ok_and(|key| key.is_opaque() && Cosignature::read(&cosigned.line).is_ok_and(|line| line.verify(&checkpoint, &key).is_ok()));
        match holds {
            true => evidence.push(Evidence::Cosignature { by: partner.name.clone(), checkpoint, cosigned }),
            false => strange += 1,
        }
    }
    let (new, signed) = (outcomes.len(), evidence.len() - outcomes.len());
    desk.feeds(move |feeds| feeds.conclude(&outcomes, &evidence, now()))?;
    let mut text = format!("{new} deliveries to {} are signed for, {signed} checkpoints cosigned; the ledger says so.", partner.name);
    if filled > 0 {
        text.push_str(&format!("\n{filled} deliveries that this restored home had lost stand in the ledger again, by their receipts."));
    }
    if strange > 0 {
        text.push_str(&format!("\n{strange} parts of the answer are for something else than what left here; they count for nothing."));
    }
    Ok(Answer::new(text, json!({ "from": partner.name, "receipts": new, "cosignatures": signed, "refilled": filled, "strange": strange })))
}

/// Whether the checkpoint that a receipt names is of our feed.
fn is_ours(desk: &Desk, delivery: &Delivery) -> bool {
    let snapshot = desk.handle.snapshot();
    let feed = snapshot.feeds.get(&delivery.origin).filter(|feed| (feed.ours || feed.written) && delivery.size <= feed.size());
    feed.is_some_and(|feed| desk.handle.reader().tree(feed.id, feed.size()).root(delivery.size).is_ok_and(|root| root == delivery.root))
}

/// The partner's org feed, as far as it is longer than what is here.
fn take_org(desk: &Desk, partner: &Partner, answer: &CarriedAnswer, org: &Org) -> Result<(), Failure> {
    let origin = Origin::org(partner.party);
    let known = desk.handle.snapshot().feeds.get(origin.as_str()).map_or(0, Feed::size);
    // What is no longer than ours is compared with it from its beginning: receipts count under keys that we know.
    let from = if known < org.size() { known } else { 0 };
    let view = |core: &Vec<u8>| crate::feeds::Item::View(lotline_schema::view::SealedView { core: core.clone(), disclosures: Vec::new() });
    let items = answer.org.entries.iter().skip(from as usize).map(view).collect();
    let batch = Received { from, items, checkpoint: answer.org.checkpoint.clone(), tail: Vec::new(), policy: None, under: Vec::new() };
    take_batch(desk, partner, &origin, batch).map(drop)
}
