//! What a change of the rules means for the records there are: shown before rules are put in force, and by `policy diff`.

use lotline_policy::{Classes, Difference, Policy};

use super::each_own;
use crate::answer::Failure;
use crate::desk::Desk;
use crate::service::now;

/// What other rules would change, exactly, over every record of ours. Who is cut off stays cut off.
pub(in crate::cli) fn changes(desk: &Desk, before: &Policy, after: &Policy) -> Result<Difference, Failure> {
    desk.settle()?;
    let after = after.clone().with_stopped(before.stopped().clone());
    let mut classes = Classes::of(&[before, &after]);
    // Whether records are released is looked up if either version asks.
    let asking = if before.asks_for_releases() { before } else { &after };
    each_own(desk, asking, |feed, _, facts| {
        classes.count(feed.origin.name(), &facts);
        Ok(())
    })?;
    let snapshot = desk.handle.snapshot();
    let viewers: Vec<_> = snapshot.book.keys().map(|name| snapshot.viewer(name)).collect();
    Ok(Difference::between(before, &after, &viewers, &classes, now() as i64))
}

/// The same in words, a line each.
pub(in crate::cli) fn lines(difference: &Difference) -> String {
    let mut text: String = difference.words().iter().map(|line| format!("  {line}\n")).collect();
    if difference.changes.is_empty() {
        text.push_str("  nobody gains or loses a field of any record there is\n");
    }
    text
}
