//! Clocks that jump, are set back and come right again. What ended stays ended, what has not begun stays hidden, and after a jump
//! nothing leaves until a partner's clock agrees or the owner says that the date is right.
//!
//! `SEED=…` repeats a failure of the random part.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lotline_integration::clock::SetClock;
use lotline_integration::forge::{Forge, Node, Peer, until};
use lotline_integration::world::{Dice, seed};
use lotline_node::clock::{AGREE_SECONDS_MAX, Clock, JUMP_SECONDS_MIN};
use lotline_node::exchange::{CREDIT_BYTES, Code, Message};
use lotline_node::feeds::Feeds;
use lotline_node::service::{day, time_text};
use lotline_policy::{Moment, Policy, Viewer, next_change, shown, view_id};
use lotline_schema::kind::BENCHMARK;
use lotline_schema::kind::inspection::{Inspection, Verdict};
use lotline_schema::tree::empty_root;
use lotline_schema::{Facts, Origin, Record};
use serde_json::json;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;
const JUMPS: [i64; 7] = [1, MINUTE, HOUR, 23 * HOUR, 25 * HOUR, YEAR, 10 * YEAR];
/// An ordinary day; both changes to and from summer time in Europe; a leap day, the days around it, and the end of such a year; the
/// end of 32-bit clocks.
const DAYS: [&str; 9] =
    ["2026-11-23", "2026-10-25", "2027-03-28", "2028-02-28", "2028-02-29", "2028-03-01", "2028-12-31", "2036-02-29", "2038-01-19"];

/// What this clock is when it has run for long: believed, with a mark.
fn believed(clock: &SetClock) -> Clock {
    let watched = clock.watched();
    watched.begin(Some(clock.shown()));
    assert!(watched.moment().is_ok());
    watched
}

#[test]
fn a_jump_forward_of_more_than_a_day_pauses_and_any_other_does_not() {
    for start in DAYS.map(|text| day(text).unwrap()).into_iter().flat_map(|day| [day - 1, day, day + 3_600, day + 86_399]) {
        for jump in JUMPS.into_iter().flat_map(|jump| [jump, -jump]) {
            // Both while it runs and between two runs.
            for restarts in [false, true] {
                let clock = SetClock::at(start);
                let mut watched = believed(&clock);
                clock.jump(jump);
                if restarts {
                    let mark = watched.mark();
                    watched = clock.watched();
                    watched.begin(Some(mark));
                }
                let pauses = jump > JUMP_SECONDS_MIN as i64;
                assert_eq!(watched.moment().is_err(), pauses, "{} {jump:+} s", time_text(start));
                assert_eq!(watched.set_back().is_some(), jump < -5 * MINUTE);
                if let Err(jumped) = watched.moment() {
                    assert_eq!((jumped.expected, jumped.shown), (start, clock.shown()));
                    // It is over when it is undone.
                    clock.jump(-jump);
                    assert!(watched.moment().is_ok() && watched.mark() == start);
                    clock.jump(jump);
                    // Or when the owner says so.
                    watched.confirm();
                    assert!(watched.moment().is_ok() && watched.mark() == clock.shown());
                }
            }
        }
    }
}

#[test]
fn many_small_jumps_are_one_large_one_and_time_that_passes_is_none() {
    let clock = SetClock::at(day("2026-11-23").unwrap());
    let watched = believed(&clock);
    for _ in 0..400 {
        clock.pass(Duration::from_secs(86_400));
        assert!(watched.moment().is_ok(), "a laptop that slept for a day, or a node that ran for a year");
    }
    for _ in 0..23 {
        clock.jump(HOUR);
        assert!(watched.moment().is_ok());
    }
    clock.jump(HOUR + 1);
    assert!(watched.moment().is_err());
}

#[test]
fn a_partner_confirms_what_the_clock_shows_and_nothing_else() {
    let agrees = |said: i64| {
        let clock = SetClock::at(day("2026-11-23").unwrap());
        let watched = believed(&clock);
        clock.jump(21 * DAY);
        watched.heard("oem", (clock.shown() as i64 + said) as u64);
        watched.moment().is_ok()
    };
    let apart = AGREE_SECONDS_MAX as i64;
    assert!([0, 1, -1, apart, -apart].into_iter().all(agrees));
    assert!(![apart + 1, -apart - 1, DAY, -DAY, -21 * DAY, YEAR].into_iter().any(agrees));

    // Whatever a partner says while the clock is right changes nothing.
    let clock = SetClock::at(day("2026-11-23").unwrap());
    let watched = believed(&clock);
    for said in [0, 1, 4_102_444_800, u64::MAX] {
        watched.heard("liar", said);
        assert_eq!(watched.moment(), Ok(Moment::from(clock.shown() as i64)));
    }
    // What it said before the jump counts on: a clock that was three days behind comes right.
    watched.heard("oem", clock.shown() + 3 * 86_400);
    clock.pass(Duration::from_secs(7 * 3_600));
    clock.jump(3 * DAY);
    assert!(watched.moment().is_ok());
    // Who is no partner any more confirms nothing.
    watched.heard("oem", clock.shown() + 9 * 86_400);
    watched.keep_partners(|name| name == "liar");
    clock.jump(9 * DAY);
    assert!(watched.moment().is_err());
}

/// One share that begins, ends and holds records back, asked under clocks that do what they like: nothing that was over is ever
/// shown again, and nothing before its time by the clock.
#[test]
fn a_thousand_clocks_reopen_nothing_and_open_nothing_early() {
    let mut dice = Dice(seed());
    let (mut pauses, mut set_back, mut restarts, mut over, mut open) = (0, 0, 0, 0, 0);
    for _ in 0..1_000 {
        let start = day(DAYS[dice.below(DAYS.len() as u64) as usize]).unwrap();
        let [from, until] = [start + (1 + dice.below(3)) * 86_400, start + (4 + dice.below(4)) * 86_400];
        let date = |at: u64| time_text(at)[..10].to_owned();
        let text = format!(
            "[[share]]\nname = 's'\nwith = 'oem'\nfeed = 'quality'\nparts = 'all'\nshow = ['lot']\nfrom = {}\nuntil = {}\ndelay = '36h'\n",
            date(from),
            date(until)
        );
        let (policy, viewer) = (Policy::restore(&text).unwrap(), Viewer::new("oem"));
        let origin: Origin = "z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd/quality/1".parse().unwrap();
        let records: Vec<u64> = (0..4).map(|_| start + dice.below(6) * 43_200).collect();
        let facts: Vec<Facts> = records.iter().map(|at| Facts { recorded_at: Some(time_text(*at)), ..Default::default() }).collect();
        let clock = SetClock::at(start);
        let (mut watched, mut ended, mut views) = (believed(&clock), false, std::collections::HashMap::new());
        for _ in 0..60 {
            match dice.below(8) {
                0..4 => clock.pass(Duration::from_secs(dice.below(86_400))),
                4 | 5 => {
                    let jump = JUMPS[dice.below(JUMPS.len() as u64) as usize];
                    clock.jump(if dice.below(2) == 0 { jump } else { -jump });
                }
                6 => {
                    // A restart: the mark is written when something ends, and with each disclosure.
                    let mark = watched.mark();
                    watched = clock.watched();
                    watched.begin(Some(mark));
                    restarts += 1;
                }
                _ => watched.heard("oem", start + dice.below(10) * 86_400),
            }
            let Ok(moment) = watched.moment() else {
                pauses += 1;
                continue;
            };
            let now = clock.shown();
            assert_eq!(moment.now(), now as i64);
            set_back += u64::from(watched.mark() > now);
            ended |= now >= until;
            let mut masks = Vec::new();
            for (facts, recorded) in facts.iter().zip(&records) {
                let seen = shown(&policy, &viewer, "quality", &BENCHMARK, facts, moment).mask != 0;
                assert!(!seen || !ended, "an ended share is open again");
                assert!(!seen || (now >= from && now >= recorded + 36 * 3_600), "shown before its time");
                assert_eq!(seen, !ended && now >= from && now >= recorded + 36 * 3_600, "and not later than its time");
                // Delays are each record's own; the rest has the view's name.
                masks.push(seen || now < recorded + 36 * 3_600);
                open += u64::from(seen);
            }
            over += u64::from(ended);
            assert_eq!(policy.feeds_for(&Viewer::new("oem"), &["quality".into()], moment).is_empty(), ended || now < from);
            let view = view_id(&policy, &viewer, &origin, moment);
            assert_eq!(*views.entry(view).or_insert((now >= from, ended)), (now >= from, ended), "two views under one name");
            assert!(next_change(&policy, &viewer, "quality", now as i64).is_none_or(|at| at > now as i64));
        }
    }
    eprintln!("{pauses} pauses, {set_back} times set back, {restarts} restarts, {over} times over, {open} records seen");
    assert!([pauses, set_back, restarts, over, open].into_iter().all(|count| count > 1_000));
}

// ---- Real nodes ----

const START: &str = "2027-03-27";

fn rules(more: &str) -> String {
    format!("[[share]]\nname = 's'\nwith = 'oem'\nfeed = 'quality'\nparts = 'all'\nshow = 'everything'\n{more}\n")
}

fn lot(lot: &str, at: u64) -> Record {
    let draft = Inspection { part: "P-1".into(), lot: lot.into(), verdict_stated: Some(Verdict::Conforming), ..Default::default() };
    draft.check(&time_text(at)).unwrap()
}

/// A maker and a customer, each with a clock of its own, connected and level.
struct Scene {
    clocks: [SetClock; 2],
    maker: Node,
    oem: Node,
    /// A partner without a share.
    spy: Forge,
    origin: Origin,
}

impl Scene {
    async fn new(rules: &str) -> Scene {
        let clocks = [0, 0].map(|_| SetClock::at(day(START).unwrap()));
        let maker = Node::new_by(clocks[0].watched(), "maker").await;
        let oem = Node::new_by(clocks[1].watched(), "oem").await;
        maker.apply(rules).await;
        maker.publish("quality", vec![lot("L-1", clocks[0].shown() - 60 * 86_400)]).await;
        maker.know(oem.as_partner(false).await).await;
        oem.know(maker.as_partner(true).await).await;
        let (spy, origin) = (Forge::new("spy"), maker.own("quality"));
        maker.know(spy.as_partner(false)).await;
        let scene = Scene { clocks, maker, oem, spy, origin };
        scene.arrives(2).await;
        scene
    }

    fn size(&self) -> u64 {
        self.oem.feed(&self.origin).map_or(0, |feed| feed.size())
    }

    async fn arrives(&self, size: u64) {
        until("the feed to arrive", || (self.size() == size).then_some(())).await;
    }

    async fn publish(&self, name: &str) {
        self.maker.publish("quality", vec![lot(name, self.clocks[0].shown() - 60 * 86_400)]).await;
    }

    /// The maker looks at its clock now, and not within the next ten seconds.
    async fn look(&self) -> bool {
        self.maker.with(Feeds::look_at_clock).await.unwrap();
        self.maker.service.handle.snapshot().jumped.is_some()
    }

    /// What a partner without a share is told that opens a feed of the maker's.
    async fn answer(&self, origin: &Origin) -> Option<Code> {
        let peer = Peer::connect(&self.spy, &self.maker).await;
        let open = Message::Open { origin: origin.to_string(), next: 0, root: empty_root(), view: None, credit: CREDIT_BYTES };
        match peer.follow(&open).await.next().await {
            Some(Message::Error(code)) => Some(code),
            _ => None,
        }
    }

    async fn verbs(&self) -> [Result<i32, (u8, String, Option<String>)>; 2] {
        let output = self.maker.folder.path().join("out");
        let said = |answer: Result<lotline_node::answer::Answer, lotline_node::answer::Failure>| match answer {
            Ok(_) => Ok(0),
            Err(failure) => Err((failure.exit, failure.to_string(), failure.hint)),
        };
        let bundle = json!({ "Bundle": { "lot": "L-1", "part": null, "from": null, "partner": "oem", "full": null, "yes": false, "output": output } });
        let carry = json!({ "Carry": { "to": "oem", "feed": "quality", "from": 0, "output": output } });
        [said(self.maker.verb(bundle).await), said(self.maker.verb(carry).await)]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_jump_nothing_leaves_until_the_owner_says_that_the_date_is_right() {
    let scene = Scene::new(&rules("until = 'revoked'")).await;
    scene.clocks[0].jump(25 * HOUR);
    // No look is needed for nothing to leave: each question is one.
    scene.publish("L-2").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(scene.size(), 2);
    assert!(scene.look().await);
    for origin in [&scene.origin, &Origin::org(scene.origin.party()), &scene.maker.own("nothing")] {
        assert_eq!(scene.answer(origin).await, Some(Code::Paused));
    }
    for said in scene.verbs().await {
        let (exit, why, hint) = said.unwrap_err();
        assert_eq!(exit, 3, "{why}");
        assert!(why.contains("25 hours") && hint.unwrap().contains("lotline share resume --clock"), "{why}");
    }
    let status = scene.maker.verb(json!({ "Status": {} })).await.unwrap();
    assert!(status.text.contains("SHARING IS PAUSED"), "{}", status.text);

    let resume = |yes: bool| json!({ "Share": { "Resume": { "clock": true, "yes": yes } } });
    assert!(scene.maker.verb(resume(false)).await.is_err(), "it asks");
    assert!(scene.maker.service.handle.snapshot().jumped.is_some());
    scene.maker.verb(resume(true)).await.unwrap();
    scene.arrives(3).await;
    assert!(scene.verbs().await.iter().all(Result::is_ok));
    assert!(!scene.maker.verb(json!({ "Status": {} })).await.unwrap().text.contains('!'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_that_is_undone_is_over() {
    let scene = Scene::new(&rules("until = 2027-05-01")).await;
    scene.clocks[0].jump(10 * YEAR);
    assert!(scene.look().await);
    scene.publish("L-2").await;
    scene.clocks[0].jump(-10 * YEAR);
    assert!(!scene.look().await);
    scene.arrives(3).await;
}

/// Closed for three weeks over Easter, on both sides: the first contact says that the jump is real.
#[tokio::test(flavor = "multi_thread")]
async fn a_firm_that_was_closed_for_weeks_goes_on_by_itself() {
    let Scene { clocks, maker, oem, spy, origin } = Scene::new(&rules("until = 'revoked'")).await;
    let ((maker_folder, maker_home), (oem_folder, oem_home)) = (maker.stop().await, oem.stop().await);
    clocks.iter().for_each(|clock| clock.pass(Duration::from_secs(21 * 86_400)));
    let maker = Node::start_by(clocks[0].watched(), maker_folder, maker_home).await;
    assert!(maker.service.handle.snapshot().jumped.is_some(), "nobody here knows how long it was closed");
    let oem = Node::start_by(clocks[1].watched(), oem_folder, oem_home).await;
    // The port is another one.
    oem.know(maker.as_partner(true).await).await;
    let scene = Scene { clocks, maker, oem, spy, origin };
    until("the clocks to agree", || scene.maker.service.handle.snapshot().jumped.is_none().then_some(())).await;
    scene.publish("L-2").await;
    scene.arrives(3).await;
}

/// The maker's clock alone is wrong after the holidays: a partner whose clock disagrees confirms nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_partner_whose_clock_disagrees_confirms_nothing() {
    let Scene { clocks, maker, oem, spy, origin } = Scene::new(&rules("until = 'revoked'")).await;
    let (folder, home) = maker.stop().await;
    clocks[0].jump(YEAR);
    let maker = Node::start_by(clocks[0].watched(), folder, home).await;
    oem.know(maker.as_partner(true).await).await;
    let scene = Scene { clocks, maker, oem, spy, origin };
    until("the customer to connect", || scene.maker.board.of("oem").connected.then_some(())).await;
    scene.publish("L-2").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(scene.look().await && scene.size() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_ended_stays_ended_when_the_clock_is_set_back_over_a_restart() {
    let Scene { clocks, maker, oem, spy, origin } = Scene::new(&rules("until = 2027-03-28")).await;
    // An hour before the end until an hour after it; the night after, summer time begins.
    clocks.iter().for_each(|clock| clock.pass(Duration::from_secs(25 * 3_600)));
    maker.with(Feeds::look_at_clock).await.unwrap();
    let mut scene = Scene { clocks, maker, oem, spy, origin };
    scene.publish("L-2").await;
    for back in [2 * HOUR, 23 * HOUR, YEAR] {
        let Scene { clocks, maker, oem, spy, origin } = scene;
        let (folder, home) = maker.stop().await;
        clocks[0].jump(-back);
        let maker = Node::start_by(clocks[0].watched(), folder, home).await;
        oem.know(maker.as_partner(true).await).await;
        scene = Scene { clocks, maker, oem, spy, origin };
        until("the customer to connect", || scene.maker.board.of("oem").connected.then_some(())).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(scene.size(), 2, "set back by {back} s");
        assert_eq!(scene.answer(&scene.origin).await, Some(Code::NoSuchFeed));
        let status = scene.maker.verb(json!({ "Status": {} })).await.unwrap();
        assert!(status.text.contains("the clock was set back"), "{}", status.text);
        scene.clocks[0].jump(back);
    }
    // Had it been ahead by mistake, the owner's word would bring the share back.
    scene.clocks[0].jump(-2 * HOUR);
    scene.maker.verb(json!({ "Share": { "Resume": { "clock": true, "yes": true } } })).await.unwrap();
    scene.arrives(3).await;
}
