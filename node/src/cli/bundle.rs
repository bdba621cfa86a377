//! `lotline bundle`: everything an auditor needs about one lot, or about a whole feed, in one file.
//!
//! On a customer's node: what it holds. On the owner's: through the only door out, for a named recipient.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lotline_policy::{Cleared, FullDisclosure, Policy};
use lotline_schema::bundle::BUNDLE_BYTES_MAX;
use lotline_schema::kind::{self, Schema};
use lotline_schema::view::SealedView;
use lotline_schema::{Hash, PartyId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::confirmed_at;
use super::lists::{groups, open_row, owner, seen};
use crate::answer::{Answer, Failure, exit};
use crate::desk::{Desk, show_done};
use crate::evidence::{EvidenceError, Gathering, Whom};
use crate::feeds::terms::obligations;
use crate::feeds::{Feed, Summary, Whole, release_rows, vouchers};
use crate::ledger::{Intent, Items, Sent, Way};
use crate::platform;
use crate::service::now;
use crate::store::Row;

/// Flags of `bundle`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
#[command(
    after_help = "Example: lotline bundle --lot L-2026-11 --for oem-a -o L-2026-11.lotline\n         lotline bundle --feed quality --for oem-a -o quality.lotline"
)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["lot", "feed"]))]
pub struct Args {
    /// The lot.
    #[arg(long)]
    lot: Option<String>,
    /// A whole feed, by its name.
    #[arg(long, conflicts_with = "part")]
    feed: Option<String>,
    /// The part, when several have this lot.
    #[arg(long)]
    part: Option<String>,
    /// Whose records, when several firms stated something about this lot: `ours` or a partner.
    #[arg(long)]
    from: Option<String>,
    /// For our own records: exactly what this partner may see.
    #[arg(long = "for", value_name = "PARTNER", conflicts_with = "full")]
    partner: Option<String>,
    /// For our own records: everything, to the person or office named. It is asked again and enters the ledger.
    #[arg(long, value_name = "TO")]
    full: Option<String>,
    /// For received records: leave out what you vouched for their issuer, and with it your own org feed.
    #[arg(long)]
    #[serde(default)]
    without_voucher: bool,
    /// Do not ask about --full.
    #[arg(long)]
    yes: bool,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
}

impl Args {
    /// What it is of, in words.
    fn what(&self) -> String {
        match (&self.lot, &self.feed) {
            (Some(lot), _) => format!("lot {lot}"),
            (None, Some(feed)) => format!("feed {feed}"),
            (None, None) => String::new(),
        }
    }
}

struct Found {
    feed: Feed,
    row: Row,
    summary: Summary,
}

/// Writes it.
pub fn run(desk: &Desk, args: Args) -> Result<Answer, Failure> {
    desk.settle()?;
    let found = as_served(match &args.feed {
        Some(name) => find_feed(desk, name, args.from.as_deref())?,
        None => find(desk, &args)?,
    })?;
    let own = found[0].feed.ours;
    if let Some(one) = found.iter().find(|one| one.feed.written && !one.feed.ours) {
        let whose = owner(desk, &one.feed);
        let what = format!("{} stands in feed {} of {whose}, which you only write", args.what(), one.feed.origin.name());
        return Err(Failure::new(what).exit(exit::REFUSED).hint(format!("it is {whose}'s to give away: ask there for a bundle")));
    }
    let door = door(desk, &args, own)?;
    let snapshot = desk.handle.snapshot();
    let policy = snapshot.policy.clone();
    let mut gathering = Gathering::new(&snapshot, desk.handle.reader(), door.whom());
    if args.without_voucher {
        gathering.without_ours();
    }
    let (mut items, mut released, mut staying) = (BTreeMap::<String, Items>::new(), 0, Staying::default());
    let total = found.len() as u64;
    for (done, one) in (1..).zip(&found) {
        let (sealed, _) = open_row(desk.handle.reader(), &one.row)?;
        let Some(sealed) = staying.take_out(desk, one, sealed)? else {
            continue;
        };
        let listed = items.entry(one.feed.origin.to_string()).or_default();
        if let Some(view) = door.pass(desk, &policy, one, sealed, listed)? {
            gathering.add(&one.feed, one.row.seq, view)?;
            for release in releases(desk, one)? {
                let (sealed, _) = open_row(desk.handle.reader(), &release.row)?;
                if let Some(view) = door.pass(desk, &policy, &release, sealed, listed)? {
                    gathering.add(&release.feed, release.row.seq, view)?;
                    released += 1;
                }
            }
        }
        if total > PROGRESS_FROM && done % 64 == 0 || done == total {
            show_done("bundling", done, total);
        }
    }
    items.retain(|_, listed| !listed.sent.is_empty());
    if items.is_empty() && staying.records > 0 {
        let what = format!("nothing of {} may be passed on: {}", args.what(), staying.words());
        return Err(Failure::new(what).exit(exit::REFUSED).hint("`lotline terms` shows what you promised; ask the issuer for a bundle"));
    }
    if items.is_empty() {
        let whom = args.partner.as_deref().unwrap_or_default();
        let what = format!("your rules show {whom} nothing of {}", args.what());
        let hint = args
            .lot
            .as_ref()
            .map_or("`lotline policy show` says what is shared".into(), |lot| format!("`lotline policy explain {lot} {whom}` says why"));
        return Err(Failure::new(what).exit(exit::REFUSED).hint(hint));
    }
    // Only with records of others: nobody vouches for itself.
    if !own && !args.without_voucher {
        let parties = found.iter().map(|one| one.feed.origin.party()).collect();
        gathering.vouch(vouchers_for(desk, &parties)?);
    }
    let asked = gathering.asked();
    let receipts = desk.feeds(move |feeds| Ok(feeds.inclusion_receipts(asked, now())))?;
    let bundle = gathering.finish(receipts)?;
    let (records, witnesses, deliveries) = (bundle.packages.len() - released, bundle.witnesses.len(), bundle.deliveries.len());
    let bytes = bundle.to_bytes();
    if bytes.len() > BUNDLE_BYTES_MAX {
        return Err(Failure::new("the bundle would be larger than 1 GiB").hint("bundle lots instead of the whole feed"));
    }
    if matches!(door, Door::Policy(_)) && !std::sync::Arc::ptr_eq(&policy, &desk.handle.snapshot().policy) {
        return Err(Failure::new("the rules changed while the bundle was made; nothing was written").exit(exit::BUSY).hint("try again"));
    }
    door.write_down(desk, policy.version(), items, &bytes)?;
    platform::write_file(&args.output, &bytes).map_err(|why| Failure::new(format!("cannot write `{}`: {why}", args.output.display())))?;
    let held = if staying.records > 0 { format!("\nLeft out: {}.", staying.words()) } else { String::new() };
    let text = format!(
        "{} of {} in {} ({} bytes){}.{held}\nAnybody can check it without a network or an account: lotline verify {}",
        if records == 1 { "1 record".to_owned() } else { format!("{records} records") },
        args.what(),
        args.output.display(),
        bytes.len(),
        signed_by_others(witnesses, deliveries),
        args.output.display(),
    );
    Ok(Answer::new(
        text,
        json!({
            "file": args.output, "bytes": bytes.len(), "records": records, "witnesses": witnesses, "delivery_receipts": deliveries,
            "sha256": Hash::of(&[&bytes]).to_string(), "left_out": { "fields": staying.names(), "terms": staying.terms.iter().map(Hash::to_string).collect::<Vec<_>>() },
        }),
    ))
}

/// What must stay here of received records, by terms that we accepted: it is left out, and the rest goes. A field left out
/// leaves its hash, so that whoever gets the file sees that there is more, and asks the issuer.
#[derive(Default)]
struct Staying {
    records: u64,
    /// Slots, by the kind they are of.
    fields: Vec<(&'static Schema, u64)>,
    terms: BTreeSet<Hash>,
}

impl Staying {
    /// A received record without what must stay; none when nothing is left of it.
    fn take_out(&mut self, desk: &Desk, one: &Found, sealed: SealedView) -> Result<Option<SealedView>, Failure> {
        let (mut stays, slots) = (0, one.row.slots());
        if !one.feed.ours {
            for of in obligations(desk.handle.reader(), &one.feed.origin, one.row.seq)?.iter().filter(|of| of.terms.stays()) {
                stays |= of.mask & slots;
                self.terms.insert(of.terms.id());
            }
        }
        if stays == 0 {
            return Ok(Some(sealed));
        }
        self.records += 1;
        let schema = kind::called(&one.summary.facts.kind);
        match (schema, self.fields.iter_mut().find(|(known, _)| schema.is_some_and(|schema| std::ptr::eq(*known, schema)))) {
            (_, Some((_, mask))) => *mask |= stays,
            (schema, None) => self.fields.extend(schema.map(|schema| (schema, stays))),
        }
        // Disclosures stand in the order of their slots.
        let slot_of = (0..u64::BITS).filter(|slot| slots >> slot & 1 == 1);
        let kept = slot_of.zip(sealed.disclosures).filter(|(slot, _)| stays >> slot & 1 == 0).map(|(_, disclosure)| disclosure);
        let view = SealedView { core: sealed.core, disclosures: kept.collect() };
        Ok((slots & !stays != 0).then_some(view))
    }

    fn names(&self) -> BTreeSet<&'static str> {
        self.fields.iter().flat_map(|(schema, mask)| seen(schema, *mask)).collect()
    }

    fn words(&self) -> String {
        let fields: Vec<String> = self.fields.iter().map(|(schema, mask)| groups(schema, *mask)).collect();
        let terms: Vec<String> = self.terms.iter().map(Hash::short).collect();
        let records = if self.records == 1 { "1 record".to_owned() } else { format!("{} records", self.records) };
        format!("{} of {records}, by the terms {}, which you accepted (pass it on to nobody)", fields.join(", "), terms.join(", "))
    }
}

/// Below this many records nobody waits long enough for progress.
const PROGRESS_FROM: u64 = 1000;

fn signed_by_others(witnesses: usize, deliveries: usize) -> String {
    let count = |count: usize, noun: &str| match count {
        0 => None,
        1 => Some(format!("1 {noun}")),
        count => Some(format!("{count} {noun}s")),
    };
    let parts: Vec<String> = count(witnesses, "witness key").into_iter().chain(count(deliveries, "delivery receipt")).collect();
    if parts.is_empty() { String::new() } else { format!(", with {}", parts.join(" and ")) }
}

/// Every record of a feed, of all its lives.
fn find_feed(desk: &Desk, name: &str, from: Option<&str>) -> Result<Vec<Found>, Failure> {
    const PAGE: usize = 512;
    let (snapshot, reader) = (desk.handle.snapshot(), desk.handle.reader());
    let wanted = |feed: &&Feed| !feed.origin.is_org() && feed.origin.name() == name && from.is_none_or(|from| from == owner(desk, feed));
    let feeds: Vec<&Feed> = snapshot.feeds.values().filter(wanted).collect();
    let parties: BTreeSet<PartyId> = feeds.iter().map(|feed| feed.origin.party()).collect();
    if parties.len() > 1 {
        let names: Vec<String> = feeds.iter().map(|feed| format!("--from {}", owner(desk, feed))).collect();
        let what = format!("several firms have a feed `{name}`: {}", names.join(", "));
        return Err(Failure::new(what).exit(exit::USAGE).hint("say which with --from"));
    }
    let mut found = Vec::new();
    for feed in feeds {
        let mut next = 1;
        while next < feed.size() {
            let rows = reader.rows(feed.id, next, PAGE)?;
            let Some(last) = rows.last() else {
                break;
            };
            next = last.seq + 1;
            for row in rows.into_iter().filter(|row| row.has_core && row.seq < feed.size()) {
                let summary = Summary::read(&row.summary)?;
                // Releases go along with their records.
                if !summary.facts.is_release() {
                    found.push(Found { feed: feed.clone(), row, summary });
                }
            }
        }
    }
    match found.is_empty() {
        true => Err(Failure::new(format!("no record of a feed `{name}` is here")).exit(exit::NOT_FOUND).hint("`lotline feeds` lists them")),
        false => Ok(found),
    }
}

fn find(desk: &Desk, args: &Args) -> Result<Vec<Found>, Failure> {
    let (snapshot, reader) = (desk.handle.snapshot(), desk.handle.reader());
    let mut found = Vec::new();
    let lot = args.lot.as_deref().unwrap_or_default();
    for (id, seq) in reader.by_lot(lot)? {
        if let (Some(feed), Some(row)) = (snapshot.feed_numbered(id), reader.row(id, seq)?) {
            let summary = Summary::read(&row.summary)?;
            let wanted = args.part.as_ref().is_none_or(|part| summary.facts.part.as_ref() == Some(part))
                && args.from.as_ref().is_none_or(|from| *from == owner(desk, feed));
            if row.has_core && wanted {
                found.push(Found { feed: feed.clone(), row, summary });
            }
        }
    }
    let kinds: std::collections::BTreeSet<(String, String)> =
        found.iter().map(|one| (owner(desk, &one.feed), one.summary.facts.part.clone().unwrap_or_else(|| "–".into()))).collect();
    match kinds.len() {
        0 => Err(Failure::new(format!("no record of lot `{lot}` is here"))
            .exit(exit::NOT_FOUND)
            .hint("`lotline records` lists what is here")),
        1 => Ok(found),
        _ => {
            let lines: Vec<String> = kinds.iter().map(|(from, part)| format!("--from {from} --part {part}")).collect();
            let what = format!("several firms or parts have a lot `{lot}`:\n  {}", lines.join("\n  "));
            Err(Failure::new(what).exit(exit::USAGE).hint("say which with --from and --part"))
        }
    }
}

/// Of a feed of ours that a partner writes, what it was level with last leaves here, and nothing while it is frozen: as over
/// the network.
fn as_served(found: Vec<Found>) -> Result<Vec<Found>, Failure> {
    let (mut served, mut held) = (Vec::new(), None);
    for one in found {
        match one.feed.ours {
            false => served.push(one),
            true => match one.feed.as_served().filter(|feed| one.row.seq < feed.size()) {
                Some(feed) => served.push(Found { feed, ..one }),
                None => held = Some(one.feed),
            },
        }
    }
    match held.filter(|_| served.is_empty()) {
        None => Ok(served),
        Some(feed) if feed.frozen.is_some() => {
            let what = format!("feed {} is frozen, and a frozen feed is not given away", feed.origin.name());
            Err(Failure::new(what).exit(exit::REFUSED).hint("`lotline status` says why; `lotline thaw` lets it go on"))
        }
        Some(feed) => Err(EvidenceError::Behind(feed.origin.name().to_owned()).into()),
    }
}

/// Who released a record goes with it.
fn releases(desk: &Desk, of: &Found) -> Result<Vec<Found>, Failure> {
    let mut rows = release_rows(desk.handle.reader(), &desk.handle.snapshot(), &of.feed, Hash(of.row.leaf))?;
    rows.retain(|row| row.seq < of.feed.size());
    let found = |row: Row| Ok(Found { feed: of.feed.clone(), summary: Summary::read(&row.summary)?, row });
    rows.into_iter().map(found).collect()
}

/// The door our records leave by. What was received is not ours to filter: it goes out as it came in.
enum Door {
    Received,
    Policy(String),
    Full(FullDisclosure),
}

fn door(desk: &Desk, args: &Args, own: bool) -> Result<Door, Failure> {
    match (own, &args.partner, &args.full) {
        (false, None, None) => Ok(Door::Received),
        (false, ..) => {
            Err(Failure::new("--for and --full are for your own records; what you received goes out as it came").exit(exit::USAGE))
        }
        (true, Some(partner), _) => match desk.handle.snapshot().book.contains_key(partner) {
            true => Ok(Door::Policy(partner.clone())),
            false => Err(crate::feeds::FeedError::NoPartner(partner.clone()).into()),
        },
        (true, None, Some(to)) => {
            if to.trim().is_empty() || !confirmed_at(desk, args.yes, &format!("Give EVERY field of {} to {to}?", args.what())) {
                return Err(Failure::new("full disclosure was not confirmed")
                    .exit(exit::REFUSED)
                    .hint("--for PARTNER gives exactly what your rules allow; --yes confirms"));
            }
            Ok(Door::Full(FullDisclosure::confirmed_by_owner(to.trim())))
        }
        (true, None, None) => {
            let hint = "--for PARTNER gives exactly what that partner may see; --full \"NAME\" gives everything and enters the ledger";
            Err(Failure::new("these are your own records: say who the bundle is for").exit(exit::USAGE).hint(hint))
        }
    }
}

impl Door {
    /// Whose evidence goes along.
    fn whom(&self) -> Whom {
        match self {
            Door::Received => Whom::Ours,
            Door::Policy(partner) => Whom::Partner(partner.clone()),
            Door::Full(_) => Whom::Everybody,
        }
    }

    /// What of a record leaves, and the ledger's word on it.
    fn pass(
        &self,
        desk: &Desk,
        policy: &Policy,
        one: &Found,
        sealed: SealedView,
        listed: &mut Items,
    ) -> Result<Option<SealedView>, Failure> {
        if let Door::Received = self {
            listed.sent.push(Sent { seq: one.row.seq, mask: one.row.slots(), shares: 0 });
            return Ok(Some(sealed));
        }
        let (reader, snapshot) = (desk.handle.reader(), desk.handle.snapshot());
        let whole = Whole::read(reader, &snapshot, &one.feed, &one.row)?;
        let (item, moment) = (whole.item(), || desk.handle.clock().moment());
        let cleared = match (self, whole.record_of(reader, &snapshot, &one.feed)?) {
            (Door::Policy(partner), Some(record)) => {
                lotline_policy::clear_release(policy, &snapshot.viewer(partner), &item, &record.item(), moment()?)
            }
            (Door::Policy(partner), None) => lotline_policy::clear(policy, &snapshot.viewer(partner), &item, moment()?),
            (Door::Full(confirmed), _) => Cleared::full(&item, confirmed),
            (Door::Received, _) => unreachable!("answered above"),
        };
        if !cleared.is_hidden() {
            listed.add(&cleared, policy);
        }
        Ok(cleared.into_view())
    }

    /// Our own records leave: the ledger says so before the file is written.
    fn write_down(&self, desk: &Desk, version: u64, items: BTreeMap<String, Items>, bytes: &[u8]) -> Result<(), Failure> {
        let (to, policy) = match self {
            Door::Received => return Ok(()),
            Door::Policy(partner) => (partner.clone(), Some(version)),
            Door::Full(confirmed) => (confirmed.to().to_owned(), None),
        };
        let digest = Hash::of(&[bytes]);
        // After a restore the lives of a feed are several, and each has rows of its own.
        let rows = items.into_iter().flat_map(|(origin, items)| items.rows().into_iter().map(move |items| (origin.clone(), items)));
        let intent = |(origin, items)| Intent { to: to.clone(), origin, way: Way::Bundle, items, policy, digest };
        let intents = rows.map(intent).collect();
        desk.feeds(move |feeds| feeds.export(intents, now()))?;
        Ok(())
    }
}

/// What we vouch for about the issuers of these records.
fn vouchers_for(desk: &Desk, parties: &BTreeSet<PartyId>) -> Result<Vec<Vec<u8>>, Failure> {
    let ours = vouchers(desk.handle.reader(), &desk.handle.snapshot())?;
    Ok(ours.into_iter().filter(|(party, _)| parties.contains(party)).map(|(_, (core, _))| core).collect())
}

impl From<EvidenceError> for Failure {
    fn from(error: EvidenceError) -> Failure {
        let failure = Failure::new(&error);
        match error {
            EvidenceError::Root(_) => failure.exit(exit::ALTERED).hint("run `lotline audit`"),
            EvidenceError::Behind(_) => failure.exit(exit::BUSY),
            EvidenceError::NoOrg(_) => failure.exit(exit::NOT_FOUND).hint("it comes with the first connection to that partner"),
            EvidenceError::Feed(error) => error.into(),
            EvidenceError::Store(error) => error.into(),
        }
    }
}
