//! No answer is stale: what is said to hold until a moment holds until then, and the rules about one partner answer as all do. Asked
//! at 100,000 random times within a second of a boundary, by clocks of which some were set back.
#![allow(clippy::unwrap_used)] // tests

use std::fmt::Write as _;

use lotline_policy::{Moment, Policy, Viewer, next_change, shown, view_id};
use lotline_schema::kind::inspection::SCHEMA;
use lotline_schema::{Facts, Origin};

const DAY: i64 = 86_400;
/// 2026-11-23.
const START: i64 = 1_795_392_000;
const PARTNERS: u64 = 5;
const ASKED: usize = 100_000;

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound
    }
}

/// The day of November or December 2026 that begins so many days after the start.
fn date(days: u64) -> String {
    match 23 + days {
        day @ ..=30 => format!("2026-11-{day:02}"),
        day => format!("2026-12-{:02}", day - 30),
    }
}

/// Rules of every kind of time, and every moment at which one of them may change an answer.
fn rules(dice: &mut Dice, recorded: i64) -> (Policy, Vec<i64>) {
    let (mut text, mut boundaries) = (String::new(), Vec::new());
    let fields = ["identity", "verdict", "capability", "measurements", "process", "document"];
    for at in 0..4 + dice.below(12) {
        let (with, show) = (dice.below(PARTNERS), fields[dice.below(6) as usize]);
        let from = dice.below(8);
        let until = from + 1 + dice.below(8);
        let hours = 1 + dice.below(200);
        writeln!(text, "[[share]]\nname = 's{at}'\nwith = 'p{with}'\nfeed = 'all'\nparts = 'all'\nshow = ['{show}']").unwrap();
        if dice.below(2) == 0 {
            writeln!(text, "from = {}", date(from)).unwrap();
            boundaries.push(START + from as i64 * DAY);
        }
        if dice.below(2) == 0 {
            writeln!(text, "delay = '{hours}h'").unwrap();
            boundaries.push(recorded + hours as i64 * 3_600);
        }
        if dice.below(3) == 0 {
            text.push_str("until = 'revoked'\n");
        } else {
            writeln!(text, "until = {}", date(until)).unwrap();
            boundaries.push(START + until as i64 * DAY);
        }
    }
    boundaries.push(START);
    (Policy::restore(&text).unwrap_or_else(|slips| panic!("{slips}\n{text}")), boundaries)
}

#[test]
fn no_answer_outlives_its_moment() {
    let mut dice = Dice(0x5eed);
    let origin: Origin = "z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd/quality/1".parse().unwrap();
    let (mut asked, mut changed, mut set_back) = (0, 0, 0);
    while asked < ASKED {
        // Signed at a whole hour of the week before.
        let recorded = START - dice.below(168) as i64 * 3_600;
        let hours = (START - recorded) / 3_600;
        let (day, hour) = ((hours + 23) / 24, (24 - hours % 24) % 24);
        let facts = Facts { recorded_at: Some(format!("2026-11-{:02}T{hour:02}:00:00Z", 23 - day)), ..Facts::default() };
        assert_eq!(lotline_policy::recorded(&facts), Some(recorded));
        let (policy, boundaries) = rules(&mut dice, recorded);
        let viewer = Viewer::new(format!("p{}", dice.below(PARTNERS)));
        let about = policy.about(&viewer.partner);
        let mut latest = i64::MIN;
        for _ in 0..50 {
            let near = |dice: &mut Dice| boundaries[dice.below(boundaries.len() as u64) as usize] - 1 + dice.below(3) as i64;
            let now = near(&mut dice);
            latest = if dice.below(4) == 0 { latest.max(near(&mut dice)) } else { now };
            let at = |now| Moment::new(now, latest);
            let ask = |policy: &Policy, now| shown(policy, &viewer, "quality", &SCHEMA, &facts, at(now));
            let answer = ask(&policy, now);
            assert_eq!(answer, ask(&about, now), "the rules about one partner answer as all do");
            set_back += usize::from(at(now).is_set_back());
            // A moment later, within the time that the answer was given for: it still holds, and so does the name of the view.
            let later = now + dice.below(3) as i64;
            if answer.changes_at.is_none_or(|change| later < change) {
                assert_eq!(answer.mask, ask(&policy, later).mask, "a stale answer at {later}, asked at {now}");
            } else {
                changed += usize::from(answer.mask != ask(&policy, later).mask);
            }
            if next_change(&policy, &viewer, "quality", now).is_none_or(|change| later < change) {
                let name = |now| view_id(&policy, &viewer, &origin, at(now));
                assert_eq!(name(now), name(later));
            }
            asked += 1;
        }
    }
    assert!(changed > ASKED / 100 && set_back > ASKED / 20, "{changed} answers changed, {set_back} clocks were set back");
}
