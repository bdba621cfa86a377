//! `/record/{origin}/{seq}`: one record as a certificate to read and to print; for our own, who sees what of it.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use lotline_schema::Facts;
use lotline_schema::org::Org;
use lotline_schema::slot::Disclosure;
use lotline_schema::view::{Expected, SealedView, VerifiedView};

use super::home::owner;
use super::sheet::{Sheet, Signer};
use super::sight::Sight;
use super::words::Tag;
use super::{Context, Frame, rendered, settled};
use crate::answer::{Failure, exit};
use crate::certificate::harmless;
use crate::evidence::Attested;
use crate::feeds::{Feed, Snapshot, Summary, released_by, with_release};
use crate::store::{Reader, Row};

/// Answers.
pub(super) async fn show(State(context): State<Context>, Path((origin, seq)): Path<(String, String)>) -> Response {
    rendered(context, move |context| RecordPage::of(context, &origin, &seq)).await
}

#[derive(Template)]
#[template(path = "record.html")]
struct RecordPage {
    frame: Frame,
    sheet: Sheet,
    own: bool,
    sight: Option<Sight>,
}

impl RecordPage {
    fn of(context: &Context, origin: &str, seq: &str) -> Result<RecordPage, Failure> {
        let (snapshot, reader) = (context.handle.snapshot(), settled(context)?);
        let missing = || Failure::new("there is no such record here").exit(exit::NOT_FOUND).hint("the overview lists what is here");
        let feed = snapshot.feeds.get(origin).filter(|feed| !feed.origin.is_org()).ok_or_else(missing)?;
        let seq: u64 = seq.parse().ok().filter(|seq| *seq > 0).ok_or_else(missing)?;
        let row = reader.row(feed.id, seq)?.ok_or_else(missing)?;
        if !row.has_core {
            let what = format!(
                "entry {seq} of feed {} is hidden from you; only its leaf hash is here: {}",
                feed.origin.name(),
                lotline_schema::Hash(row.leaf)
            );
            return Err(Failure::new(what).exit(exit::NOT_FOUND).hint("its owner shares it with others, or with nobody"));
        }
        let org = snapshot.orgs.get(&feed.origin.party()).ok_or_else(missing)?;
        let view = read(reader, org, feed, &row)?;
        let mut sheet = Sheet { rank: 1, ..Sheet::of(&view, &row.forgotten, signer(&snapshot, feed, org)) };
        if let Some(why) = org.withdrawn(&view.leaf()) {
            sheet.marks.push(Tag::bad(format!("withdrawn by its issuer: {}", harmless(why))));
        }
        if let Some(why) = view.revoked() {
            sheet.marks.push(Tag::bad(format!("revoked, not vouched for by its issuer: {}", harmless(why))));
        }
        if Summary::read(&row.summary).is_ok_and(|summary| summary.superseded_by.is_some()) {
            sheet.marks.push(Tag::warn("superseded by a newer record about the same inspection"));
        }
        if view.claims().supersedes.is_some() {
            sheet.marks.push(Tag::calm("↻", "replaces an older record"));
        }
        let attested = Attested::of(reader, &snapshot, feed, seq)?;
        sheet.marks.push(match &attested.witnessed {
            Some(_) => Tag::good(attested.date()),
            None => Tag::calm("·", attested.date()),
        });
        sheet.marks.extend(attested.receipts().into_iter().map(|line| Tag::calm("✉", line)));
        for released in released_by(reader, &snapshot, feed, view.leaf())? {
            let text = format!("released by {}", harmless(&released.to_text()));
            sheet.marks.push(if released.ended.is_none() { Tag::good(text) } else { Tag::warn(text) });
        }
        // Nothing of a kind this program does not know is shown to anybody.
        let sight = match view.schema().filter(|_| feed.ours) {
            Some(schema) => {
                let facts = Facts { forgotten: row.forgotten_slots(), ..view.facts() };
                let facts = with_release(facts, reader, &snapshot, &snapshot.policy, feed, view.leaf())?;
                Some(Sight::of(&snapshot, feed, schema, &facts))
            }
            None => None,
        };
        Ok(RecordPage { frame: Frame::new(&snapshot, "", &sheet.heading), sheet, own: feed.ours, sight })
    }
}

/// Opens a stored record and checks it anew, signature and all: what stands on a certificate was verified just now.
fn read(reader: &Reader, org: &Org, feed: &Feed, row: &Row) -> Result<VerifiedView, Failure> {
    let core = reader.core(row)?.unwrap_or_default();
    let disclosures = reader.disclosures(row)?.into_iter().map(|(_, bytes)| Disclosure::received(bytes)).collect();
    let origin = feed.origin.to_string();
    let verified = SealedView { core, disclosures }.verify(org, Expected { origin: &origin, seq: row.seq });
    verified.map_err(|why| Failure::new(format!("this record does not verify any more: {why}")).hint("run `lotline audit`"))
}

fn signer(snapshot: &Snapshot, feed: &Feed, org: &Org) -> Signer {
    let standing = match feed.ours {
        true => Tag::good("signature checked; this is you"),
        false => match snapshot.partner_of(&feed.origin.party()) {
            Some(_) => Tag::good(format!("signature checked; {} in your partner book", owner(snapshot, feed))),
            None => Tag::warn("signature checked; not in your partner book"),
        },
    };
    Signer { party: feed.origin.party(), name: harmless(org.name()), standing }
}
