//! `lotline verify`: no home, no node, no network. One sentence, then each check, then what the record says.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lotline_schema::bundle::BUNDLE_BYTES_MAX;
use lotline_schema::id::{hex, thumbprint};
use lotline_schema::org::Role;
use lotline_schema::quorum::Quorum;
use lotline_schema::receipt::transparent_statement;
use lotline_schema::slot::Disclosure;
use lotline_schema::verify::{Finding, Outcome, Report, Trust, TrustedRoot, VerifiedRecord, verify_showing};
use lotline_schema::view::SealedView;
use lotline_schema::{Origin, PartyId, codec, note};
use serde::Deserialize;
use serde_json::json;

use crate::answer::{Answer, Failure, exit};
use crate::certificate::{Certificate, harmless};
use crate::desk::show_done;
use crate::platform;

/// Flags of `verify`.
#[derive(clap::Args)]
#[command(
    after_help = "Example: lotline verify L-2026-11.lotline --trust suppliers.toml\n         lotline verify L-2026-11.lotline --issuer did:key:z6Mk…\n         lotline verify L-2026-11.lotline --quorum witnesses.txt --at 2026-12-31"
)]
pub struct Args {
    /// The bundle.
    file: PathBuf,
    /// A file of roots you or somebody you trust has checked.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// A member list of an association whose root is trusted (by --trust or --issuer): its members are then known.
    #[arg(long, value_name = "FILE")]
    members: Vec<PathBuf>,
    /// The identity you expect, from a source you trust.
    #[arg(long, value_name = "did:key:…")]
    issuer: Option<String>,
    /// Whose cosignatures count, and how many of them: a C2SP quorum file.
    #[arg(long, value_name = "FILE")]
    quorum: Option<PathBuf>,
    /// Every record must have been witnessed by this day or time.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// The news about keys and withdrawals must have been witnessed on this day or later.
    #[arg(long, value_name = "TIME")]
    fresh_after: Option<String>,
    /// Write the parts into this folder, for other tools.
    #[arg(long, value_name = "FOLDER")]
    explode: Option<PathBuf>,
}

/// `[[trust]]` of a trust file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    trust: Vec<TrustEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustEntry {
    /// `did:key` of the root.
    issuer: String,
    /// Who it is.
    name: String,
    /// Who checked that, how, and when.
    checked: String,
}

/// Verifies.
pub fn run(args: Args) -> Result<Answer, Failure> {
    let trust = trust(&args)?;
    let bytes = read(&args.file)?;
    let shown = Mutex::new(());
    let report = verify_showing(&bytes, &trust, &|done, total| {
        // Below a thousand records nobody waits; and one thread at a time speaks.
        if total > 1000 && (done % 256 == 0 || done == total) && shown.try_lock().is_ok() {
            show_done("verifying", done, total);
        }
    });
    if let Some(folder) = &args.explode {
        explode(&report, folder)?;
    }
    Ok(Answer { text: text(&report), json: to_json(&report), exit: report.outcome.exit_code() })
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::new(format!("cannot read `{}`: {why}", file.display())).exit(exit::UNREADABLE);
    let length = std::fs::metadata(file).map_err(|why| failed(&why).exit(exit::NOT_FOUND))?.len();
    if length > BUNDLE_BYTES_MAX as u64 {
        return Err(failed(&"it is larger than any bundle (1 GiB)"));
    }
    std::fs::read(file).map_err(|why| failed(&why))
}

fn trust(args: &Args) -> Result<Trust, Failure> {
    let mut trust = Trust::none();
    let party = |text: &str| text.parse::<PartyId>().map_err(|why| Failure::new(why).exit(exit::USAGE));
    if let Some(issuer) = &args.issuer {
        trust.add(party(issuer)?, TrustedRoot { name: "the identity you named".into(), checked: "named with --issuer".into() });
    }
    if let Some(file) = &args.trust {
        let wrong = |why: &dyn std::fmt::Display| {
            let hint = "a trust file has entries like: [[trust]] issuer = \"did:key:z6Mk…\" name = \"ACME GmbH\" checked = \"by phone, J. Doe, 2026-11-23\"";
            Failure::new(format!("trust file `{}`: {why}", file.display())).exit(exit::USAGE).hint(hint)
        };
        let text = std::fs::read_to_string(file).map_err(|why| wrong(&why))?;
        let read: TrustFile = toml::from_str(&text).map_err(|why| wrong(&why))?;
        for entry in read.trust {
            trust.add(party(&entry.issuer)?, TrustedRoot { name: entry.name, checked: entry.checked });
        }
    }
    if let Some(file) = &args.quorum {
        let wrong = |why: &dyn std::fmt::Display| {
            let hint = "a quorum file has lines like: witness NAME VKEY, group NAME 2 NAME NAME NAME, quorum NAME (C2SP tlog-policy)";
            Failure::new(format!("quorum file `{}`: {why}", file.display())).exit(exit::USAGE).hint(hint)
        };
        let text = std::fs::read_to_string(file).map_err(|why| wrong(&why))?;
        trust.demand_quorum(Quorum::read(&text).map_err(|why| wrong(&why))?);
    }
    if let Some(text) = &args.at {
        trust.demand_witnessed_by(moment(text, Edge::End)?);
    }
    if let Some(text) = &args.fresh_after {
        trust.demand_fresh_after(moment(text, Edge::Start)?);
    }
    for file in &args.members {
        trust_members(&mut trust, file)?;
    }
    Ok(trust)
}

/// Which end of a day is meant.
enum Edge {
    Start,
    End,
}

/// A day (UTC) or an exact time, in seconds since 1970.
fn moment(text: &str, edge: Edge) -> Result<u64, Failure> {
    let day = text.parse::<jiff::civil::Date>().ok().filter(|_| !text.contains(':')).and_then(|day| {
        let day = match edge {
            Edge::Start => day,
            Edge::End => day.tomorrow().ok()?,
        };
        let start = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
        Some(match edge {
            Edge::Start => start,
            Edge::End => start - 1,
        })
    });
    let seconds = day.or_else(|| text.parse::<jiff::Timestamp>().ok().map(|time| time.as_second()));
    seconds.and_then(|seconds| u64::try_from(seconds).ok()).ok_or_else(|| {
        Failure::new(format!("`{text}` is no day and no time"))
            .exit(exit::USAGE)
            .hint("a day like 2026-11-23, or a time like 2026-11-23T14:00:00Z")
    })
}

/// Adds the members of an association that is trusted itself.
fn trust_members(trust: &mut Trust, file: &Path) -> Result<(), Failure> {
    let (_, opened) = super::members::read_members(file)?;
    let association = opened.by.party();
    let Some(root) = trust.of(&association).cloned() else {
        let what =
            format!("it is signed by an association you did not name: calls itself {}, root {association}", harmless(opened.by.name()));
        let failure = Failure::new(format!("member list `{}`: {what}", file.display()));
        return Err(failure.exit(Outcome::SignerNotEstablished.exit_code()).hint("put the association's root into the trust file"));
    };
    let day: String = crate::service::time_text(opened.day).chars().take("2026-11-23".len()).collect();
    for member in opened.list.members {
        if trust.of(&member.party).is_none() {
            let checked = format!("member list {} of {}, {day}", opened.number, root.name);
            trust.add(member.party, TrustedRoot { name: member.name, checked });
        }
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let mut text = format!("{}\n\n", harmless(&report.sentence()));
    for check in &report.checks {
        let mark = match check.finding {
            Finding::Holds(_) => "ok   ",
            Finding::Fails(_) => "FAILS",
            Finding::Notes(_) => "note ",
        };
        text.push_str(&format!("  {mark} {:<10} {}: {}\n", check.name, harmless(&check.on), harmless(&check.finding.to_string())));
    }
    for issuer in &report.issuers {
        for (kind, id) in &issuer.org.about().ids {
            let (kind, id, name) = (harmless(kind), harmless(id), harmless(&issuer.calls_itself));
            text.push_str(&format!("  note  ids        {name} states of itself: {kind} {id}\n"));
        }
    }
    for record in &report.records {
        let claims = record.view.claims();
        let day = crate::service::time_text(claims.day);
        text.push_str(&format!(
            "\nrecord {} of {}, claimed day {}, {}\n",
            claims.seq,
            claims.origin,
            &day[..day.len().min(10)],
            proven(record)
        ));
        for (name, function) in &record.released_by {
            text.push_str(&format!("released by {} ({})\n", harmless(name), harmless(function)));
        }
        for (party, delivery) in &record.deliveries {
            let who =
                report.issuers.iter().find(|issuer| issuer.party == *party).map_or(String::new(), |issuer| harmless(&issuer.calls_itself));
            text.push_str(&format!(
                "received by {who}, root {}, its clock: {}\n",
                party.six_words(),
                crate::service::time_text(delivery.at)
            ));
        }
        text.push_str(&Certificate::of(&record.view).to_text());
    }
    text
}

/// Since when a record is proven to have been there.
fn proven(record: &VerifiedRecord) -> String {
    match &record.witnessed {
        Some(seen) => format!("first witnessed {} by {}", crate::service::time_text(seen.at), harmless(&seen.by.join(", "))),
        None => "date unproven".into(),
    }
}

/// The report for programs.
pub(crate) fn to_json(report: &Report) -> serde_json::Value {
    let check = |check: &lotline_schema::verify::Check| {
        let outcome = match check.finding {
            Finding::Holds(_) => "holds",
            Finding::Fails(_) => "fails",
            Finding::Notes(_) => "notes",
        };
        json!({ "check": check.name, "on": check.on, "outcome": outcome, "text": check.finding.to_string() })
    };
    let record = |record: &lotline_schema::verify::VerifiedRecord| {
        let claims = record.view.claims();
        json!({
            "issuer": record.party.to_string(), "origin": claims.origin, "seq": claims.seq, "leaf": record.view.leaf().to_string(), "claimed_day": claims.day,
            "witnessed": record.witnessed.as_ref().map(|seen| json!({ "at": seen.at, "by": seen.by })),
            "released_by": record.released_by.iter().map(|(name, function)| json!({ "name": name, "function": function })).collect::<Vec<_>>(),
            "received_by": record.deliveries.iter().map(|(party, of)| json!({ "identity": party.to_string(), "at": of.at, "policy": of.policy })).collect::<Vec<_>>(),
            "revoked": record.view.revoked(), "superseded_by": record.superseded_by.map(|leaf| leaf.to_string()),
            "supersedes": claims.supersedes.map(|leaf| leaf.to_string()), "withdrawn": record.withdrawn, "record": Certificate::of(&record.view).to_json(),
        })
    };
    let issuer = |issuer: &lotline_schema::verify::Issuer| {
        json!({
            "identity": issuer.party.to_string(), "six_words": issuer.party.six_words(), "calls_itself": issuer.calls_itself, "ids": issuer.org.about().ids,
            "org_size": issuer.org.size(), "org_witnessed": issuer.witnessed.as_ref().map(|seen| json!({ "at": seen.at, "by": seen.by })),
            "has_records": issuer.has_records, "established": issuer.trusted.is_some(), "name": issuer.trusted.as_ref().map(|root| &root.name), "checked": issuer.trusted.as_ref().map(|root| &root.checked),
        })
    };
    json!({
        "outcome": report.outcome.name(), "sentence": report.sentence(), "intact": report.intact(), "signer_established": report.signer_established(),
        "failing_check": report.failure().map(|check| check.name),
        "checks": report.checks.iter().map(check).collect::<Vec<_>>(),
        "records": report.records.iter().map(record).collect::<Vec<_>>(),
        "issuers": report.issuers.iter().map(issuer).collect::<Vec<_>>(),
    })
}

/// Writes the parts for tools we did not write. Names are ours alone: nothing of the bundle becomes a path.
fn explode(report: &Report, folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)?;
    let put = |name: String, content: &[u8]| platform::write_file(&folder.join(name), content).map_err(Failure::from);
    let mut checkpoints: Vec<&str> = Vec::new();
    for (at, record) in report.records.iter().enumerate() {
        let (view, proof) = (&record.package.view, &record.package.proof);
        put(format!("{at:03}.core.cbor"), &view.core)?;
        put(format!("{at:03}.view.cbor"), &sd_cwt(view))?;
        put(format!("{at:03}.tlog-proof"), proof.as_bytes())?;
        if let Some(witnessed) = &record.package.witnessed {
            put(format!("{at:03}.witnessed.tlog-proof"), witnessed.as_bytes())?;
        }
        if let Some(receipt) = &record.package.receipt {
            put(format!("{at:03}.receipt.cbor"), receipt)?;
            if let Ok(statement) = transparent_statement(&view.core, &[receipt.as_slice()]) {
                put(format!("{at:03}.transparent-statement.cbor"), &statement)?;
            }
        }
        for (n, disclosure) in view.disclosures.iter().enumerate() {
            put(format!("{at:03}.disclosure-{n:02}.cbor"), disclosure.bytes())?;
        }
        let checkpoint = proof.split_once("\n\n").map_or("", |(_, checkpoint)| checkpoint);
        if !checkpoints.contains(&checkpoint) {
            checkpoints.push(checkpoint);
        }
    }
    let mut keys = Vec::new();
    for (at, issuer) in report.issuers.iter().enumerate() {
        checkpoints.push(&issuer.checkpoint);
        let entries = issuer.org.entries().iter().map(|entry| codec::bytes(entry.as_slice()));
        let name = if at == 0 { "org.cbor".to_owned() } else { format!("org-{at}.cbor") };
        put(name, &codec::encode(&codec::array(entries)))?;
        let root = issuer.party.root();
        let roles = Role::ALL.iter().filter_map(|role| Some((role.name().to_owned(), issuer.org.key(*role)?)));
        let roles = roles
            .chain(std::iter::once(("root".to_owned(), &root)))
            .map(|(role, key)| (role, json!({ "public_hex": hex(key.as_bytes()), "thumbprint": thumbprint(key).to_string() })));
        let roles: serde_json::Map<_, _> = roles.collect();
        let log = issuer.org.key(Role::Log).ok_or_else(|| Failure::new("an org feed without a log key"))?;
        let feeds = issuer.org.feeds().map(str::to_owned).chain(std::iter::once(Origin::org(issuer.party).to_string()));
        // A feed that another holder writes has a log key of its own.
        let of_feed = |feed: &str| issuer.org.delegation(feed).map_or(log, |of| of.log_key());
        let vkeys: serde_json::Map<_, _> = feeds.map(|feed| (feed.clone(), json!(note::vkey(&feed, of_feed(&feed))))).collect();
        keys.push(json!({ "identity": issuer.party.to_string(), "keys": roles, "vkeys": vkeys }));
    }
    for (at, checkpoint) in checkpoints.iter().enumerate() {
        put(format!("checkpoint-{at}.txt"), checkpoint.as_bytes())?;
    }
    put("keys.json".into(), format!("{:#}\n", json!({ "issuers": keys })).as_bytes())
}

/// The view as SD-CWT: the core with its disclosures in the unprotected header (label 17), no signed byte touched.
fn sd_cwt(view: &SealedView) -> Vec<u8> {
    if view.disclosures.is_empty() {
        return view.core.clone();
    }
    let Ok(sign1) = lotline_schema::cose::Sign1::read(&view.core) else {
        return view.core.clone();
    };
    let disclosures = view.disclosures.iter().map(Disclosure::bytes).map(codec::bytes);
    codec::encode(&codec::tag(
        codec::TAG_SIGN1,
        codec::array([
            codec::bytes(sign1.protected),
            codec::map([(17, codec::array(disclosures))]),
            codec::bytes(sign1.payload),
            codec::bytes(sign1.signature.to_vec()),
        ]),
    ))
}
