//! `/verify`: drop a bundle, read one sentence, then each check, then each record. Nothing is kept, nothing leaves.

use askama::Template;
use axum::extract::{Multipart, State};
use axum::http::StatusCode;
use axum::response::Response;
use lotline_schema::verify::{Finding, Outcome, Report, Trust, TrustedRoot, VerifiedRecord, verify as verify_bundle};

use super::sheet::{Sheet, Signer};
use super::words::{self, BAD, GOOD, Prose, Tag, WARN};
use super::{Context, Frame, problem, rendered};
use crate::answer::{Failure, exit};
use crate::certificate::harmless;
use crate::feeds::Snapshot;
use crate::service::time_text;

/// The largest bundle taken here; it is held in memory. `lotline verify` takes larger ones.
pub(super) const UPLOAD_BYTES_MAX: usize = 64 << 20;
/// Certificates laid out on one page; the rest is counted.
const RECORDS_MAX: usize = 50;
/// Checks shown at once; more are folded away, failing ones never.
const CHECKS_OPEN_MAX: usize = 12;

/// The form.
pub(super) async fn form(State(context): State<Context>) -> Response {
    rendered(context, |context| Ok(VerifyPage { frame: frame(&context.handle.snapshot()), verdict: None })).await
}

/// Verifies what was sent.
pub(super) async fn verify(State(context): State<Context>, mut parts: Multipart) -> Response {
    let (name, bytes) = match bundle(&mut parts).await {
        Ok(file) => file,
        Err(failure) => return problem(&context.handle.snapshot(), &failure),
    };
    rendered(context, move |context| {
        let snapshot = context.handle.snapshot();
        let report = verify_bundle(&bytes, &trust(&snapshot));
        Ok(VerifyPage { frame: frame(&snapshot), verdict: Some(Verdict::of(&name, bytes.len(), &report)) })
    })
    .await
}

fn frame(snapshot: &Snapshot) -> Frame {
    Frame::new(snapshot, "verify", "Verify a bundle")
}

/// The file of the form.
async fn bundle(parts: &mut Multipart) -> Result<(String, Vec<u8>), Failure> {
    let again = |what: String| Failure::new(what).exit(exit::USAGE).hint("choose a file on the verify page and send it again");
    let broken = |error: axum::extract::multipart::MultipartError| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            again("this file is larger than 64 MiB".into()).hint("verify it with `lotline verify FILE`, which takes bundles up to 1 GiB")
        }
        _ => again("the file did not arrive whole".into()),
    };
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        if part.name() == Some("bundle") {
            let name = part.file_name().map(harmless).unwrap_or_default();
            let bytes = part.bytes().await.map_err(broken)?.to_vec();
            if bytes.is_empty() && name.is_empty() {
                break;
            }
            return Ok((name, bytes));
        }
    }
    Err(again("no file was chosen".into()))
}

/// Ourselves and everybody in the partner book.
fn trust(snapshot: &Snapshot) -> Trust {
    let mut trust = Trust::none();
    for partner in snapshot.book.values() {
        trust.add(partner.party, TrustedRoot { name: partner.name.clone(), checked: "in your partner book".into() });
    }
    trust.add(snapshot.party, TrustedRoot { name: snapshot.name.clone(), checked: "this is you".into() });
    trust
}

#[derive(Template)]
#[template(path = "verify.html")]
struct VerifyPage {
    frame: Frame,
    verdict: Option<Verdict>,
}

struct Verdict {
    tone: &'static str,
    symbol: &'static str,
    word: &'static str,
    sentence: String,
    file: String,
    size: String,
    failing: Vec<CheckLine>,
    checks: Vec<CheckLine>,
    checks_open: bool,
    records: Vec<Sheet>,
    more: Option<String>,
}

struct CheckLine {
    tag: Tag,
    name: &'static str,
    on: String,
    text: Prose,
}

impl Verdict {
    fn of(file: &str, bytes: usize, report: &Report) -> Verdict {
        let (tone, symbol, word) = match report.outcome {
            Outcome::Verified => (GOOD, "✓", "Verified"),
            Outcome::SignerNotEstablished => (WARN, "?", "Intact, signer not established"),
            Outcome::Incomplete => (WARN, "!", "Intact, but not all is proven"),
            Outcome::Withdrawn => (WARN, "!", "Intact, but withdrawn"),
            Outcome::Revoked => (WARN, "!", "Intact, but not vouched for"),
            Outcome::Altered => (BAD, "✗", "Altered"),
            Outcome::Forked => (BAD, "✗", "Two truths"),
            Outcome::Unreadable => (BAD, "✗", "Not a bundle"),
        };
        let checks: Vec<CheckLine> = report.checks.iter().map(CheckLine::of).collect();
        let (failing, checks): (Vec<_>, Vec<_>) = checks.into_iter().partition(|check| check.tag.tone == BAD);
        let more = report.records.len().checked_sub(RECORDS_MAX).filter(|more| *more > 0);
        Verdict {
            tone,
            symbol,
            word,
            sentence: harmless(&report.sentence()),
            file: file.to_owned(),
            size: words::count(bytes as u64, "byte"),
            failing,
            checks_open: checks.len() <= CHECKS_OPEN_MAX,
            checks,
            records: report.records.iter().take(RECORDS_MAX).map(|record| sheet(report, record)).collect(),
            more: more.map(|more| words::count(more as u64, "more record")),
        }
    }
}

impl CheckLine {
    fn of(check: &lotline_schema::verify::Check) -> CheckLine {
        let tag = match check.finding {
            Finding::Holds(_) => Tag::good("holds"),
            Finding::Fails(_) => Tag::bad("fails"),
            Finding::Notes(_) => Tag::warn("note"),
        };
        CheckLine { tag, name: check.name, on: harmless(&check.on), text: Prose::of(&words::sentence(&check.finding.to_string())) }
    }
}

fn sheet(report: &Report, record: &VerifiedRecord) -> Sheet {
    let issuer = report.issuers.iter().find(|issuer| issuer.party == record.party);
    let standing = match issuer.and_then(|issuer| issuer.trusted.as_ref()) {
        Some(root) => Tag::good(format!("signature checked; {}, {}", harmless(&root.name), harmless(&root.checked))),
        None => Tag::warn("signature checked; nobody you know vouches for this name"),
    };
    let name = issuer.map_or_else(String::new, |issuer| harmless(&issuer.calls_itself));
    let mut sheet = Sheet::of(&record.view, &[], Signer { party: record.party, name, standing });
    if let Some(why) = &record.withdrawn {
        sheet.marks.push(Tag::bad(format!("withdrawn by its issuer: {}", harmless(why))));
    }
    if let Some(why) = record.view.revoked() {
        sheet.marks.push(Tag::bad(format!("not vouched for: {}", harmless(why))));
    }
    if record.superseded_by.is_some() {
        sheet.marks.push(Tag::warn("superseded by a newer record about the same inspection"));
    }
    for (name, function) in &record.released_by {
        sheet.marks.push(Tag::good(format!("released by {} ({})", harmless(name), harmless(function))));
    }
    sheet.marks.push(match &record.witnessed {
        Some(seen) => Tag::good(format!("first witnessed {} by {}", time_text(seen.at), harmless(&seen.by.join(", ")))),
        None => Tag::calm("·", "date unproven: no witness has signed that it was there"),
    });
    for (party, delivery) in &record.deliveries {
        let name =
            report.issuers.iter().find(|issuer| issuer.party == *party).map_or_else(|| party.short(), |of| harmless(&of.calls_itself));
        sheet.marks.push(Tag::calm("✉", format!("received by {name}, who signed for it at {}", time_text(delivery.at))));
    }
    sheet
}
