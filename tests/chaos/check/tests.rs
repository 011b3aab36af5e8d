//! Small histories with one thing wrong each, and the law that names it.

use super::*;
use crate::{
    history::Sink,
    record::{Delivery, Letter},
    rules::RULES,
};

/// A history and what the store tells; in order until a test spoils it.
#[derive(Clone, Default)]
struct World {
    events: Vec<Event>,
    record: Record,
    offers: BTreeMap<&'static str, String>,
}

impl World {
    /// Two pushes to `docs` (all run, mail), the second of which was tried again, and all of it told.
    fn in_order() -> Self {
        let mut world = Self::default();
        world.event(Event::DaemonUp);
        world.push(1, "docs", "aa");
        world.push(2, "docs", "bb");
        world.run(1, "docs", "aa").outcome = Some("succeeded".into());
        world.run(2, "docs", "bb").outcome = Some("failed".into());
        let retry = world.run(3, "docs", "bb");
        (retry.outcome, retry.retry_of, retry.attempt) = (Some("succeeded".into()), Some(2), 2);
        world.of(2).exit_code = Some(75);
        for (run, code) in [(1, 0), (2, 75), (3, 0)] {
            world.script(run, code);
        }
        for (letter, run, occasion) in [(1, 1, "start"), (2, 1, "success"), (3, 2, "start"), (4, 3, "success")] {
            world.mail(letter, run, occasion);
        }
        world
    }

    /// Three pushes to `shop` (the newest of a ref, nobody told); the second gave way to the third.
    fn with_a_superseded_run() -> Self {
        let mut world = Self::default();
        for (run, sha) in [(1, "aa"), (2, "bb"), (3, "cc")] {
            world.push(run, "shop", sha);
            world.run(run, "shop", sha).outcome = Some("succeeded".into());
        }
        let second = world.of(2);
        (second.outcome, second.reason) = (Some("superseded".into()), Some("superseded by run 3".into()));
        (second.started_at, second.fence) = (None, None);
        world.script(1, 0);
        world.script(3, 0);
        world
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// A push that was queued as this run.
    fn push(&mut self, run: i64, hook: &str, sha: &str) {
        self.delivery(run, hook, sha, (202, "queued"));
    }

    fn delivery(&mut self, run: i64, hook: &str, sha: &str, (status, result): (u16, &str)) {
        let turn = self.events.len() as u64;
        let (id, path, repo) = (format!("id-{turn}"), format!("/hooks/{hook}"), format!("acme/{hook}"));
        let (sha, ref_name, tree) = (sha.to_owned(), "refs/heads/main".to_owned(), format!("tree-{sha}"));
        self.event(Event::Sent { turn, id: id.clone(), path: path.clone(), repo, sha, ref_name, tree });
        self.event(Event::Answered { turn, status, result: result.into(), runs: vec![run] });
        let number = self.record.deliveries.len() as i64 + 1;
        let runs = vec![run];
        self.record.deliveries.push(Delivery { id: number, delivery_id: Some(id), path, result: result.into(), runs });
    }

    fn run(&mut self, id: i64, hook: &str, sha: &str) -> &mut Run {
        let lane = self.rule(hook).lane.to_owned();
        self.record.runs.push(Run {
            id,
            hook: hook.into(),
            lane,
            state: "finished".into(),
            outcome: None,
            trigger: "push".into(),
            exit_code: None,
            sha: Some(sha.into()),
            ref_name: Some("refs/heads/main".into()),
            reason: None,
            created_at: format!("{id}0"),
            started_at: Some(format!("{id}1")),
            finished_at: Some(format!("{id}2")),
            attempt: 1,
            retry_of: None,
            supersedes: Vec::new(),
            fence: Some(id * 10),
            letters: Vec::new(),
        });
        self.of(id)
    }

    fn rule(&self, hook: &str) -> &'static Rule {
        RULES.iter().find(|it| it.name == hook).expect("a hook")
    }

    fn of(&mut self, run: i64) -> &mut Run {
        self.record.runs.iter_mut().find(|it| it.id == run).expect("a run")
    }

    fn script(&mut self, run: i64, code: i32) {
        self.begin(run);
        let lane = self.of(run).lane.clone();
        self.event(Event::Beat { run, lane: lane.clone() });
        self.event(Event::Done { run, lane, code });
    }

    fn begin(&mut self, run: i64) {
        let Run { lane, hook, attempt, sha, .. } = self.of(run).clone();
        let tree = format!("tree-{}", sha.expect("a commit"));
        self.event(Event::Begin { run, lane, hook, attempt, tree });
    }

    fn mail(&mut self, id: i64, run: i64, occasion: &str) {
        let letter = Letter { id, occasion: occasion.into(), state: "sent".into() };
        self.of(run).letters.push(letter);
        let key = format!("<run.{run}.{occasion}.{id}@localhost>");
        let call = u64::try_from(id).expect("a number");
        self.event(Event::Called { call });
        self.event(Event::Arrived { sink: Sink::Mail, to: "docs@localhost".into(), key, call });
    }

    /// The place of the first such event.
    fn find(&self, is_it: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().position(is_it).expect("such an event")
    }

    fn complaints(&self) -> Vec<Violation> {
        let lines: Vec<Line> = self.events.iter().map(|it| Line { up: 0.0, event: it.clone() }).collect();
        judge(&Case { rules: RULES, lines: &lines, record: &self.record, offers: &self.offers })
    }

    /// This law is broken, and no other.
    fn breaks(&self, law: &'static str) {
        let complaints = self.complaints();
        assert!(complaints.iter().any(|it| it.law == law), "not seen: {law}: {complaints:?}");
        assert!(complaints.iter().all(|it| it.law == law), "{complaints:?}");
    }
}

#[test]
fn a_history_in_order_breaks_no_law() {
    assert_eq!(World::in_order().complaints(), []);
    assert_eq!(World::with_a_superseded_run().complaints(), []);
}

#[test]
fn an_acknowledged_push_that_is_not_stored_is_named() {
    let mut world = World::in_order();
    world.push(9, "docs", "cc");
    world.breaks(STORED);
    let mut world = World::in_order();
    world.record.deliveries.pop();
    world.breaks(STORED);
}

#[test]
fn a_push_of_which_nothing_is_known_may_be_lost_but_no_run_may_be_invented() {
    let mut world = World::in_order();
    let sent = |turn, sha: &str| Event::Sent {
        turn,
        id: "x".into(),
        path: "/hooks/docs".into(),
        repo: "acme/docs".into(),
        sha: sha.into(),
        ref_name: "refs/heads/main".into(),
        tree: String::new(),
    };
    world.event(sent(77, "cc"));
    world.event(Event::Unknown { turn: 77, why: "broken".into() });
    assert_eq!(world.complaints(), []);
    let mut invented = World::with_a_superseded_run();
    invented.run(4, "jobs", "dd").outcome = Some("failed".into());
    invented.breaks(INVENTED);
}

#[test]
fn a_genuine_delivery_that_is_refused_is_named_and_one_that_is_put_off_is_not() {
    let mut world = World::in_order();
    world.delivery(1, "docs", "aa", (503, "unavailable"));
    world.record.deliveries.pop();
    assert_eq!(world.complaints(), []);
    world.delivery(1, "docs", "aa", (401, "unauthenticated"));
    world.breaks(TAKEN);
}

#[test]
fn what_a_remote_offers_and_no_run_is_of_is_named() {
    let mut world = World::in_order();
    world.offers.insert("acme/docs", "bb".into());
    world.offers.insert("acme/site", "nobody ever pushed to it".into());
    assert_eq!(world.complaints(), []);
    world.offers.insert("acme/docs", "cc".into());
    world.breaks(CAUGHT_UP);
}

#[test]
fn a_push_that_its_remote_offers_again_is_run_again_once_another_came_between() {
    let mut world = World::in_order();
    world.run(4, "docs", "aa").outcome = Some("succeeded".into());
    world.of(4).trigger = "catch_up".into();
    world.script(4, 0);
    world.mail(5, 4, "start");
    world.mail(6, 4, "success");
    assert_eq!(world.complaints(), []);
    world.of(4).trigger = "push".into();
    world.breaks(ONE_RUN);
}

#[test]
fn a_second_run_of_the_same_push_is_named_unless_the_first_ended_badly() {
    let mut world = World::with_a_superseded_run();
    world.push(4, "shop", "cc");
    world.run(4, "shop", "cc").outcome = Some("succeeded".into());
    world.script(4, 0);
    world.breaks(ONE_RUN);
    world.of(3).outcome = Some("interrupted".into());
    assert_eq!(world.complaints(), []);
    world.of(4).created_at = "31".into();
    world.breaks(ONE_RUN);
}

#[test]
fn a_duplicate_that_is_answered_with_a_foreign_run_is_named() {
    let mut world = World::in_order();
    world.delivery(1, "docs", "aa", (200, "duplicate"));
    assert_eq!(world.complaints(), []);
    world.delivery(1, "docs", "bb", (200, "duplicate"));
    world.breaks(SAME_ANSWER);
}

#[test]
fn what_of_a_run_is_alive_after_the_next_began_is_named() {
    let mut world = World::in_order();
    let second = world.find(|it| matches!(it, Event::Begin { run: 2, .. }));
    world.events.insert(second + 1, Event::Beat { run: 1, lane: "docs".into() });
    world.breaks(OVERLAP);
}

#[test]
fn starts_out_of_order_are_named() {
    let mut world = World::with_a_superseded_run();
    let (first, third) = (world.of(1).fence, world.of(3).fence);
    (world.of(1).fence, world.of(3).fence) = (third, first);
    let from = world.find(|it| matches!(it, Event::Begin { run: 1, .. }));
    world.events[from..].rotate_left(3);
    world.breaks(ORDER);
}

#[test]
fn a_retry_that_lost_its_place_is_named() {
    let mut world = World::in_order();
    world.push(4, "docs", "cc");
    world.run(4, "docs", "cc").outcome = Some("failed".into());
    world.of(4).fence = Some(25);
    world.mail(5, 4, "start");
    world.mail(6, 4, "failure");
    let retry = world.find(|it| matches!(it, Event::Begin { run: 3, .. }));
    let begin = Event::Begin { run: 4, lane: "docs".into(), hook: "docs".into(), attempt: 1, tree: "tree-cc".into() };
    world.events.insert(retry, begin);
    world.breaks(ORDER);
}

#[test]
fn a_fence_that_does_not_rise_is_named() {
    let mut world = World::in_order();
    world.of(2).fence = world.of(1).fence;
    world.breaks(FENCE);
}

#[test]
fn a_run_without_an_end_is_named() {
    let mut world = World::in_order();
    let open = world.of(3);
    (open.state, open.outcome) = ("running".into(), None);
    open.letters.clear();
    world.events.retain(|it| !matches!(it, Event::Arrived { key, .. } if key.contains(".4@")));
    world.breaks(ENDED);
}

#[test]
fn a_run_that_is_carried_out_twice_is_named() {
    let mut world = World::in_order();
    let done = world.find(|it| matches!(it, Event::Done { run: 3, .. }));
    let again = world.events[world.find(|it| matches!(it, Event::Begin { run: 3, .. }))].clone();
    world.events.insert(done, again);
    let complaints = world.complaints();
    assert!(complaints.iter().any(|it| it.law == STARTED_ONCE), "{complaints:?}");
}

#[test]
fn an_outcome_that_changes_is_named() {
    let mut world = World::in_order();
    world.event(Event::Seen { run: 1, outcome: "succeeded".into() });
    assert_eq!(world.complaints(), []);
    world.event(Event::Seen { run: 1, outcome: "interrupted".into() });
    world.breaks(ONE_OUTCOME);
}

#[test]
fn a_superseded_run_without_a_later_one_in_its_stead_is_named() {
    let mut world = World::with_a_superseded_run();
    world.of(2).reason = Some("superseded by run 1".into());
    world.breaks(SUCCESSOR);
    let mut world = World::with_a_superseded_run();
    world.of(3).ref_name = Some("refs/heads/next".into());
    let laws: Vec<_> = world.complaints().iter().map(|it| it.law).collect();
    assert_eq!(laws, [SUCCESSOR, LAST_PUSH, NEWEST]);
}

#[test]
fn a_newest_push_that_gave_way_to_the_redelivery_of_an_older_one_is_named() {
    let mut world = World::with_a_superseded_run();
    world.of(1).outcome = Some("failed".into());
    world.of(1).exit_code = Some(0);
    world.push(3, "shop", "aa");
    world.of(3).sha = Some("aa".into());
    let third = world.find(|it| matches!(it, Event::Sent { sha, .. } if sha == "cc"));
    world.events.drain(third..third + 2);
    world.record.deliveries.remove(2);
    world.breaks(NEWEST);
    world.of(3).outcome = Some("failed".into());
    world.of(3).exit_code = Some(0);
    world.of(3).supersedes = vec![2];
    let again = world.run(4, "shop", "bb");
    (again.outcome, again.retry_of) = (Some("succeeded".into()), Some(2));
    world.script(4, 0);
    assert_eq!(world.complaints(), [], "it waits again in the place of run 3");
}

#[test]
fn what_waits_again_has_the_place_of_the_run_that_took_its_own_in_vain() {
    let mut world = World::with_a_superseded_run();
    world.of(3).outcome = Some("failed".into());
    world.of(3).exit_code = Some(0);
    world.of(3).supersedes = vec![2];
    let again = world.run(4, "shop", "bb");
    (again.outcome, again.retry_of) = (Some("succeeded".into()), Some(2));
    assert_eq!(world.record.place(4), 3);
    assert_eq!(world.record.origin(4), 2);
    world.script(4, 0);
    assert_eq!(world.complaints(), []);
}

#[test]
fn a_redelivery_may_be_answered_with_the_run_of_a_newer_push_and_not_of_an_older_one() {
    let mut world = World::with_a_superseded_run();
    world.delivery(3, "shop", "aa", (200, "duplicate"));
    assert_eq!(world.complaints(), []);
    world.delivery(1, "shop", "cc", (200, "duplicate"));
    world.breaks(SAME_ANSWER);
}

#[test]
fn a_run_that_began_and_was_superseded_is_named_unless_its_hook_stops_runs_for_newer_ones() {
    let mut world = World::with_a_superseded_run();
    world.of(2).fence = Some(20);
    let third = world.find(|it| matches!(it, Event::Begin { run: 3, .. }));
    let begin = Event::Begin { run: 2, lane: "shared".into(), hook: "shop".into(), attempt: 1, tree: String::new() };
    world.events.insert(third, begin);
    world.of(2).started_at = Some("21".into());
    world.breaks(TRUE_OUTCOME);
    let spoken = |text: &mut String| *text = text.replace("shop", "preview").replace("shared", "preview");
    for run in &mut world.record.runs {
        [&mut run.hook, &mut run.lane].into_iter().for_each(spoken);
    }
    world.record.deliveries.iter_mut().for_each(|it| spoken(&mut it.path));
    for event in &mut world.events {
        if let Event::Sent { path, repo, .. } = event {
            [path, repo].into_iter().for_each(spoken);
        } else if let Event::Begin { lane, hook, .. } = event {
            [lane, hook].into_iter().for_each(spoken);
        } else if let Event::Beat { lane, .. } | Event::Done { lane, .. } = event {
            spoken(lane);
        }
    }
    let complaints = world.complaints();
    assert!(complaints.iter().all(|it| it.law == OWED), "only that nobody was told: {complaints:?}");
}

#[test]
fn an_outcome_that_is_not_the_scripts_is_named() {
    let mut world = World::in_order();
    let done = world.find(|it| matches!(it, Event::Done { run: 1, .. }));
    world.events[done] = Event::Done { run: 1, lane: "docs".into(), code: 1 };
    world.breaks(TRUE_OUTCOME);
    let mut world = World::with_a_superseded_run();
    world.of(3).started_at = None;
    world.breaks(TRUE_OUTCOME);
}

#[test]
fn a_script_in_the_tree_of_another_commit_is_named() {
    let mut world = World::in_order();
    let begin = world.find(|it| matches!(it, Event::Begin { run: 2, .. }));
    if let Event::Begin { tree, .. } = &mut world.events[begin] {
        *tree = "tree-aa".into();
    }
    world.breaks(RIGHT_TREE);
}

#[test]
fn a_letter_that_nobody_wrote_and_one_that_was_lost_are_named() {
    let mut world = World::in_order();
    world.of(1).letters.remove(0);
    world.events.retain(|it| !matches!(it, Event::Arrived { key, .. } if key.contains(".1@")));
    world.breaks(OWED);
    let mut world = World::in_order();
    world.events.pop();
    world.breaks(ARRIVED);
    let mut world = World::in_order();
    world.event(Event::Arrived {
        sink: Sink::Mail,
        to: "docs@localhost".into(),
        key: "<run.7.start.9@localhost>".into(),
        call: 9,
    });
    world.breaks(NO_FOREIGN_LETTER);
}

#[test]
fn a_second_copy_of_a_letter_is_named_unless_the_daemon_was_killed_in_between() {
    let mut world = World::in_order();
    let copy = world.events.last().expect("a letter").clone();
    let mut killed = world.clone();
    world.event(copy.clone());
    world.breaks(COPY);
    killed.event(Event::KillDaemon);
    killed.event(Event::DaemonUp);
    killed.event(copy);
    assert_eq!(killed.complaints(), []);
}

#[test]
fn a_copy_is_of_the_daemon_that_called_however_late_its_line_is() {
    let mut late = World::in_order();
    let copy = late.events.pop().expect("a letter");
    late.event(Event::KillDaemon);
    late.event(Event::DaemonUp);
    late.event(copy.clone());
    let mut twice = late.clone();
    let Event::Arrived { sink, to, key, .. } = copy else { panic!("a letter") };
    let again = |call| Event::Arrived { sink, to: to.clone(), key: key.clone(), call };
    late.event(Event::Called { call: 98 });
    late.event(again(98));
    assert_eq!(late.complaints(), []);
    // Of two that one and the same daemon sends, none is the other's second copy after a kill.
    twice.event(Event::Called { call: 98 });
    twice.event(again(98));
    twice.event(Event::Called { call: 99 });
    twice.event(again(99));
    twice.breaks(COPY);
}

#[test]
fn a_daemon_that_ends_by_itself_and_what_is_left_behind_are_named() {
    let mut world = World::in_order();
    world.event(Event::Spoilt);
    world.event(Event::DaemonUp);
    world.event(Event::DaemonEnded { code: Some(2), said: "no".into() });
    assert_eq!(world.complaints(), []);
    world.event(Event::Mended);
    world.event(Event::DaemonUp);
    world.event(Event::DaemonEnded { code: Some(1), said: "no".into() });
    world.breaks(UP);
    let mut world = World::in_order();
    world.event(Event::Left { process: "7 sleep 1000".into() });
    world.breaks(NOTHING_LEFT);
    let mut world = World::in_order();
    world.event(Event::Stuck { what: "3 letters wait".into() });
    world.breaks(CALM);
}
