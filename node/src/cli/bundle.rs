//! `lotline bundle`: everything an auditor needs about one lot, in one file.
//!
//! On a customer's node: what it holds. On the owner's: through the only door out, for a named recipient.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lotline_policy::{Cleared, FullDisclosure, Item, Viewer};
use lotline_schema::bundle::{Bundle, OrgPart};
use lotline_schema::note::InclusionProof;
use lotline_schema::tree::Tree;
use lotline_schema::view::{Package, SealedView};
use lotline_schema::{Hash, PartyId, kind};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::confirmed_at;
use super::lists::{open_row, owner};
use crate::answer::{Answer, Failure, exit};
use crate::desk::Desk;
use crate::feeds::{Feed, Intent, Summary, Whole, release_rows, vouchers};
use crate::ledger::Outcome;
use crate::platform;
use crate::service::now;
use crate::store::Row;

/// Flags of `bundle`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
#[command(after_help = "Example: lotline bundle --lot L-2026-11 --for oem-a -o L-2026-11.lotline")]
pub struct Args {
    /// The lot.
    #[arg(long)]
    lot: String,
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

struct Found {
    feed: Feed,
    row: Row,
    summary: Summary,
}

/// Writes it.
pub fn run(desk: &Desk, args: Args) -> Result<Answer, Failure> {
    desk.settle()?;
    let found = find(desk, &args)?;
    let own = found[0].feed.own;
    let door = door(desk, &args, own)?;
    let mut trees = BTreeMap::new();
    let (mut packages, mut items, mut released) = (Vec::new(), Vec::new(), 0);
    for one in &found {
        let (sealed, _) = open_row(desk.handle.reader(), &one.row)?;
        let Some((view, mask)) = door.pass(desk, one, sealed)? else {
            continue;
        };
        packages.push(Package::new(view, prove(desk, one, &mut trees)?));
        items.push((one.row.seq, mask));
        for release in releases(desk, one)? {
            let (sealed, _) = open_row(desk.handle.reader(), &release.row)?;
            if let Some((view, mask)) = door.pass(desk, &release, sealed)? {
                packages.push(Package::new(view, prove(desk, &release, &mut trees)?));
                items.push((release.row.seq, mask));
                released += 1;
            }
        }
    }
    if packages.is_empty() {
        let whom = args.partner.as_deref().unwrap_or_default();
        let what = format!("your rules show {whom} nothing of lot `{}`", args.lot);
        return Err(Failure::new(what).exit(exit::REFUSED).hint(format!("`lotline policy explain {} {whom}` says why", args.lot)));
    }
    let parties: std::collections::BTreeSet<PartyId> = found.iter().map(|one| one.feed.origin.party()).collect();
    let mut orgs = parties.iter().map(|party| org_part(desk, party)).collect::<Result<Vec<_>, _>>()?;
    // Only with records of others: nobody vouches for itself.
    let vouchers = if own || args.without_voucher { Vec::new() } else { vouchers_for(desk, &parties)? };
    if !vouchers.is_empty() {
        orgs.push(org_part(desk, &desk.handle.snapshot().party)?);
    }
    let records = packages.len() - released;
    let bytes = Bundle { orgs, packages, vouchers, ..Bundle::default() }.to_bytes();
    door.write_down(desk, &found[0].feed, items, &bytes)?;
    platform::write_file(&args.output, &bytes).map_err(|why| Failure::new(format!("cannot write `{}`: {why}", args.output.display())))?;
    let text = format!(
        "{} of lot {} in {} ({} bytes).\nAnybody can check it without a network or an account: lotline verify {}",
        if records == 1 { "1 record".to_owned() } else { format!("{records} records") },
        args.lot,
        args.output.display(),
        bytes.len(),
        args.output.display(),
    );
    Ok(Answer::new(
        text,
        json!({ "file": args.output, "bytes": bytes.len(), "records": records, "sha256": Hash::of(&[&bytes]).to_string() }),
    ))
}

fn find(desk: &Desk, args: &Args) -> Result<Vec<Found>, Failure> {
    let (snapshot, reader) = (desk.handle.snapshot(), desk.handle.reader());
    let mut found = Vec::new();
    for (id, seq) in reader.by_lot(&args.lot)? {
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
        0 => Err(Failure::new(format!("no record of lot `{}` is here", args.lot))
            .exit(exit::NOT_FOUND)
            .hint("`lotline records` lists what is here")),
        1 => Ok(found),
        _ => {
            let lines: Vec<String> = kinds.iter().map(|(from, part)| format!("--from {from} --part {part}")).collect();
            let what = format!("several firms or parts have a lot `{}`:\n  {}", args.lot, lines.join("\n  "));
            Err(Failure::new(what).exit(exit::USAGE).hint("say which with --from and --part"))
        }
    }
}

/// Who released a record goes with it.
fn releases(desk: &Desk, of: &Found) -> Result<Vec<Found>, Failure> {
    let rows = release_rows(desk.handle.reader(), &desk.handle.snapshot(), &of.feed, Hash(of.row.leaf))?;
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
            if to.trim().is_empty() || !confirmed_at(desk, args.yes, &format!("Give EVERY field of lot {} to {to}?", args.lot)) {
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
    fn pass(&self, desk: &Desk, one: &Found, sealed: SealedView) -> Result<Option<(SealedView, u64)>, Failure> {
        if let Door::Received = self {
            return Ok(Some((sealed, one.row.slots())));
        }
        let origin = one.feed.origin.to_string();
        let item = Item {
            feed: one.feed.origin.name(),
            origin: &origin,
            seq: one.row.seq,
            leaf: Hash(one.row.leaf),
            core: &sealed.core,
            disclosures: &sealed.disclosures,
            schema: kind::known().iter().map(|(schema, _)| *schema).find(|schema| schema.name == one.summary.facts.kind),
            facts: &one.summary.facts,
        };
        let whole = Whole::read(desk.handle.reader(), &one.feed, &one.row)?;
        let cleared = match (self, whole.record_of(desk.handle.reader(), &one.feed)?) {
            (Door::Policy(partner), Some(record)) => {
                let policy = desk.handle.snapshot().policy.clone();
                lotline_policy::clear_release(&policy, &Viewer::new(partner.as_str()), &item, &record.item(), now() as i64)
            }
            (Door::Policy(partner), None) => {
                let snapshot = desk.handle.snapshot();
                lotline_policy::clear(&snapshot.policy, &Viewer::new(partner.as_str()), &item, now() as i64)
            }
            (Door::Full(confirmed), _) => Cleared::full(&item, confirmed),
            (Door::Received, _) => unreachable!("answered above"),
        };
        let mask = cleared.mask();
        Ok(cleared.into_view().map(|view| (view, mask)))
    }

    /// Our own records leave: the ledger says so before the file is written.
    fn write_down(&self, desk: &Desk, feed: &Feed, items: Vec<(u64, u64)>, bytes: &[u8]) -> Result<(), Failure> {
        let (to, policy) = match self {
            Door::Received => return Ok(()),
            Door::Policy(partner) => (partner.clone(), Some(desk.handle.snapshot().policy.version())),
            Door::Full(confirmed) => (confirmed.to().to_owned(), None),
        };
        let intent = Intent { to, origin: feed.origin.to_string(), items, policy, digest: Hash::of(&[bytes]) };
        desk.feeds(move |feeds| {
            let row = feeds.intend(intent, &[], now())?;
            feeds.conclude(&[(row, Outcome::Exported)])
        })
    }
}

fn prove(desk: &Desk, one: &Found, trees: &mut BTreeMap<u32, Tree>) -> Result<String, Failure> {
    let size = one.feed.size();
    if let std::collections::btree_map::Entry::Vacant(place) = trees.entry(one.feed.id) {
        let leaves = desk.handle.reader().leaves(one.feed.id, 0, size)?;
        place.insert(Tree::new(leaves.into_iter().map(Hash).collect()));
    }
    let tree = &trees[&one.feed.id];
    if tree.root(size) != one.feed.head.frontier.root() {
        return Err(Failure::new("the stored entries of the feed do not give its signed root")
            .exit(exit::ALTERED)
            .hint("run `lotline audit`"));
    }
    let path = tree
        .inclusion(one.row.seq, size)
        .ok_or_else(|| Failure::new("the record lies beyond the head of its feed").hint("run `lotline audit`"))?;
    Ok(InclusionProof { index: one.row.seq, path, checkpoint: one.feed.head.checkpoint.clone() }.to_text())
}

/// What we vouch for about the issuers of these records.
fn vouchers_for(desk: &Desk, parties: &std::collections::BTreeSet<PartyId>) -> Result<Vec<Vec<u8>>, Failure> {
    let ours = vouchers(desk.handle.reader(), &desk.handle.snapshot())?;
    Ok(ours.into_iter().filter(|(party, _)| parties.contains(party)).map(|(_, (core, _))| core).collect())
}

fn org_part(desk: &Desk, party: &PartyId) -> Result<OrgPart, Failure> {
    let snapshot = desk.handle.snapshot();
    let origin = lotline_schema::Origin::org(*party).to_string();
    match (snapshot.orgs.get(party), snapshot.feeds.get(&origin)) {
        (Some(org), Some(feed)) => Ok(OrgPart::of(org, &feed.head.checkpoint)),
        _ => Err(Failure::new("the issuer's org feed is not here").exit(exit::NOT_FOUND)),
    }
}
