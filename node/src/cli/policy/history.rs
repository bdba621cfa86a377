//! Versions of the rules that were put in force before: which, when, and what changed.

use lotline_policy::{Classes, Difference, Policy};
use serde_json::json;

use super::counted;
use crate::answer::{Answer, Failure, exit};
use crate::desk::Desk;
use crate::feeds::{AppliedPolicy, applied_policy};
use crate::service::{self, day_text};

/// Every applied version, oldest first.
pub(super) fn log(desk: &Desk) -> Result<Answer, Failure> {
    let newest = desk.handle.snapshot().policy.version();
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    let mut before = Policy::nothing();
    for version in 1..=newest {
        let AppliedPolicy { policy, day } = applied(desk, version)?;
        let words = Difference::between(&before, &policy, [], &Classes::default(), 0).words();
        let changed = match &words[..] {
            [] => "no rule changed".to_owned(),
            [only] => only.clone(),
            [first, more @ ..] => format!("{first}; and {} more", more.len()),
        };
        let day = day_text(day);
        lines.push(format!("version {version}  {day}  {}: {changed}", counted(&policy)));
        let (shares, nevers) = (policy.shares().len(), policy.nevers().len());
        rows.push(json!({ "version": version, "day": day, "shares": shares, "nevers": nevers, "changes": words }));
        before = policy;
    }
    if lines.is_empty() {
        lines.push("no rules were ever put in force".into());
    }
    Ok(Answer::new(lines.join("\n"), json!({ "versions": rows })))
}

/// One version, or the one that was in force at the end of a day.
pub(super) fn show(desk: &Desk, version: Option<u64>, at: Option<&str>) -> Result<Answer, Failure> {
    let newest = desk.handle.snapshot().policy.version();
    let version = match (version, at) {
        (Some(version), _) => version,
        (None, at) => in_force(desk, newest, at.unwrap_or_default())?,
    };
    if !(1..=newest).contains(&version) {
        let why = match newest {
            0 => "no rules were ever put in force".to_owned(),
            newest => format!("there is no version {version}; the newest is {newest}"),
        };
        return Err(Failure::new(why).exit(exit::NOT_FOUND).hint("`lotline policy log` lists them"));
    }
    let AppliedPolicy { policy, day } = applied(desk, version)?;
    let day = day_text(day);
    let state = if version == newest { "in force" } else { "no longer in force" };
    let text = format!("# version {version}, put in force on {day}, {state}\n{}", policy.text());
    Ok(Answer::new(text, json!({ "version": version, "day": day, "in_force": version == newest, "text": policy.text() })))
}

/// The last version that was put in force up to the end of a day; 0 before the first. Versions say their day and no hour.
fn in_force(desk: &Desk, newest: u64, day: &str) -> Result<u64, Failure> {
    let asked = service::day(day).ok_or_else(|| Failure::new(format!("`{day}` is no day")).exit(exit::USAGE).hint("write 2026-11-23"))?;
    for version in (1..=newest).rev() {
        if applied(desk, version)?.day <= asked {
            return Ok(version);
        }
    }
    Err(Failure::new(format!("nothing was in force on {day}: nothing was shared"))
        .exit(exit::NOT_FOUND)
        .hint("`lotline policy log` lists the versions"))
}

fn applied(desk: &Desk, version: u64) -> Result<AppliedPolicy, Failure> {
    Ok(applied_policy(desk.handle.reader(), &desk.handle.snapshot(), version)?)
}
