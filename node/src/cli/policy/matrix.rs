//! Who sees which groups of fields: a line a partner and a line a group, on one screen.

use std::collections::BTreeMap;

use lotline_policy::Cell;
use lotline_schema::kind::Group;
use serde_json::json;

use crate::answer::Answer;
use crate::desk::Desk;
use crate::service::now;

/// The columns of a screen that the name of a partner takes, and those of a cell.
const NAME: usize = 15;
const CELL: usize = 5;

/// A line: whom it is about, one feed or all alike, and its cells; none where the members of a group differ.
struct Line {
    who: String,
    feed: Option<String>,
    cells: Vec<Option<Cell>>,
}

/// Prints it.
pub(super) fn matrix(desk: &Desk) -> Answer {
    let snapshot = desk.handle.snapshot();
    let (policy, at) = (snapshot.policy.clone(), now() as i64);
    let mut feeds = snapshot.own_feed_names();
    feeds.extend(snapshot.delegated().into_iter().filter(|of| of.ours).map(|of| of.origin.name().to_owned()));
    feeds.sort();
    feeds.dedup();
    let rows = |who: &str| -> Vec<Vec<Option<Cell>>> {
        feeds.iter().map(|feed| policy.row(who, feed, at).into_iter().map(Some).collect()).collect()
    };
    let of_partners: BTreeMap<&String, _> = snapshot.book.keys().map(|partner| (partner, rows(partner))).collect();
    let mut lines = Vec::new();
    for (group, members) in policy.groups() {
        let of_members: Vec<_> = members.iter().filter_map(|member| of_partners.get(member)).collect();
        let Some(first) = of_members.first() else {
            continue;
        };
        let mut common = (*first).clone();
        for (feed, cells) in common.iter_mut().enumerate() {
            for (at, cell) in cells.iter_mut().enumerate() {
                *cell = cell.filter(|cell| of_members.iter().all(|rows| rows[feed][at] == Some(*cell)));
            }
        }
        put(&mut lines, &format!("[{group}]"), &feeds, common);
    }
    for (partner, cells) in &of_partners {
        put(&mut lines, partner, &feeds, cells.clone());
    }
    let json = json!({ "version": policy.version(), "feeds": feeds, "rows": lines.iter().map(|line| json!({
        "who": line.who, "feed": line.feed,
        "cells": Group::ALL.iter().zip(&line.cells).map(|(group, cell)| (group.name(), json!(cell))).collect::<BTreeMap<_, _>>(),
    })).collect::<Vec<_>>() });
    Answer::new(print(&lines), json)
}

/// One line where all feeds are alike, else one a feed.
fn put(lines: &mut Vec<Line>, who: &str, feeds: &[String], rows: Vec<Vec<Option<Cell>>>) {
    let alike = rows.windows(2).all(|pair| pair[0] == pair[1]);
    for (feed, cells) in feeds.iter().zip(rows).take(if alike { 1 } else { usize::MAX }) {
        lines.push(Line { who: who.to_owned(), feed: (!alike).then(|| feed.clone()), cells });
    }
}

fn print(lines: &[Line]) -> String {
    // Group names are wider than a cell: they stand on three lines, each above its column.
    let mut text = String::new();
    for shift in 0..3 {
        let mut head = " ".repeat(NAME + shift * CELL);
        for name in Group::ALL.iter().map(|group| group.name()).skip(shift).step_by(3) {
            head.push_str(&format!("{name:<width$}", width = 3 * CELL));
        }
        text.push_str(head.trim_end());
        text.push('\n');
    }
    let mut last = "";
    for line in lines {
        let name = match &line.feed {
            None => line.who.clone(),
            Some(feed) => {
                if last != line.who {
                    text.push_str(&format!("{}\n", line.who));
                }
                format!("  in {feed}")
            }
        };
        last = &line.who;
        let cells = line.cells.iter().map(|cell| match cell {
            Some(Cell::All) => "all",
            Some(Cell::Some) => "some",
            Some(Cell::Never) => "X",
            Some(Cell::Nothing) => ".",
            None => "?",
        });
        let cells: String = cells.map(|cell| format!("{cell:<CELL$}")).collect();
        let pad = NAME.saturating_sub(name.chars().count()).max(1);
        text.push_str(format!("{name}{}{cells}", " ".repeat(pad)).trim_end());
        text.push('\n');
    }
    text.push_str("all: of every record; some: some fields or records; X: never; .: nothing; ?: its members differ");
    text
}
