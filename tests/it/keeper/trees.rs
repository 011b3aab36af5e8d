//! Promises about the processes of a run: all of them end with it, and none outlives it unseen.
//!
//! Invariant: each test is one promise.

use std::time::Duration;

use landfall::{
    journal::entries::Entry,
    keeper::{self, end_leftovers},
    model::run::{Outcome, RunStep},
};
use rustix::process::Signal;

use super::bench::{Keeper, begin, is_alive, log, pid_in, running, script};

/// A script that ignores TERM, beside a grandchild that does so too, in a session of its own, below nobody.
const STUBBORN: &str = r#"
trap '' TERM
( setsid sh -c 'trap "" TERM; echo $$ > grandchild; while :; do sleep 1000; done' & )
echo $$ > child
echo ready
while :; do sleep 1000; done
"#;

#[test]
fn a_script_that_ignores_term_and_its_hidden_grandchild_are_ended_after_the_grace() {
    let mut keeper = running(STUBBORN).start();
    keeper.until_line("ready").until("a grandchild", |it| pid_in(&it.path("grandchild")).is_some());
    let asked = std::time::Instant::now();
    keeper.signal(Signal::TERM);
    let ended = keeper.finish();
    assert!(asked.elapsed() >= Duration::from_millis(300) && asked.elapsed() < Duration::from_secs(10));
    for name in ["child", "grandchild"] {
        assert!(!is_alive(pid_in(&ended.bench.path(name)).expect("a process")), "{name}");
    }
    assert_eq!(ended.said(), ("cancelled", "cancelled".into()));
}

#[test]
fn a_cancel_says_who_and_why_and_lets_a_script_clean_up() {
    let text = "trap 'echo cleaned; exit 0' TERM; echo ready; while :; do :; done";
    let mut keeper = running(text).hook(|it| it.kill_grace = Duration::from_secs(30)).start();
    keeper.until_line("ready");
    keeper.bench.dir.write_cancel("anna: wrong branch").expect("reason");
    keeper.signal(Signal::TERM);
    let ended = keeper.finish();
    assert_eq!(ended.said(), ("cancelled", "anna: wrong branch".into()));
    assert_eq!(ended.outcome().step(), Some(RunStep::Run));
    assert_eq!(ended.output(), ["ready", "cleaned"]);
}

#[test]
fn a_cancel_that_is_passed_on_again_does_not_end_the_last_steps_and_another_one_does() {
    let ticking = "n=0; until [ -e gate ]; do n=$((n + 1)); echo tick $n; sleep 0.02; done; echo tidied";
    let bench = || running("echo ready; sleep 1000").hook(|it| it.finally.push(script("tidy", ticking)));
    let cancel = |keeper: &Keeper, reason: &str| {
        keeper.bench.dir.write_cancel(reason).expect("reason");
        keeper.signal(Signal::TERM);
    };
    let mut keeper = bench().start();
    cancel(keeper.until_line("ready"), "anna: wrong branch");
    cancel(keeper.until_line("tick 1"), "anna: wrong branch");
    // Whoever keeps these lines has heard the signal before them.
    let heard = log(&keeper.bench.dir).len() + 10;
    keeper.until("ten more lines", |it| log(&it.dir).len() >= heard);
    std::fs::write(keeper.bench.path("gate"), "").expect("opened");
    let ended = keeper.finish();
    assert_eq!(ended.said(), ("cancelled", "anna: wrong branch".into()));
    assert_eq!(ended.output().last().map(String::as_str), Some("tidied"));

    let mut keeper = bench().start();
    cancel(keeper.until_line("ready"), "anna: wrong branch");
    cancel(keeper.until_line("tick 1"), "anna: now, please");
    assert_eq!(keeper.finish().said().0, "cancelled");
}

#[test]
fn the_timeout_of_the_run_ends_it_and_is_named() {
    let ended = running("sleep 1000").hook(|it| it.timeout = Duration::from_millis(500)).finish();
    let reason = "step `build` of `run` was ended: the whole run took longer than its `timeout` of 0.5s";
    assert_eq!(ended.said(), ("timed_out", reason.into()));
}

#[test]
fn the_timeout_of_a_step_ends_it_and_is_named() {
    let ended = running("sleep 1000").hook(|it| it.run[0].timeout = Some(Duration::from_millis(300))).finish();
    let reason = "step `build` of `run` was ended: the step took longer than its own `timeout` of 0.3s";
    assert_eq!(ended.said(), ("timed_out", reason.into()));
}

#[test]
fn a_step_that_ended_in_time_while_its_keeper_stood_still_is_not_timed_out() {
    let limit = Duration::from_secs(4);
    let text = "echo $$ > pid; echo ready; until [ -e gate ]; do sleep 0.02; done";
    let mut keeper = running(text).hook(|it| it.run[0].timeout = Some(limit)).start();
    let began = std::time::Instant::now();
    keeper.until_line("ready").until("its number", |it| pid_in(&it.path("pid")).is_some());
    keeper.signal(Signal::STOP);
    let pid = pid_in(&keeper.bench.path("pid")).expect("a process");
    std::fs::write(keeper.bench.path("gate"), "").expect("opened");
    // Nobody has seen it end yet, and then its time is over.
    keeper.until("it has ended and the time is over", |_| !is_alive(pid) && began.elapsed() > 2 * limit);
    keeper.signal(Signal::CONT);
    assert_eq!(keeper.finish().outcome(), Outcome::Succeeded);
}

#[test]
fn silence_ends_a_step_and_a_step_that_keeps_talking_goes_on() {
    let text = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.2; done; sleep 1000";
    let ended = running(text).hook(|it| it.idle_timeout = Duration::from_secs(1)).finish();
    let reason = "step `build` of `run` was ended: it printed nothing for its `idle_timeout` of 1s";
    assert_eq!(ended.said(), ("timed_out", reason.into()));
    assert_eq!(ended.output().len(), 10);
}

#[test]
fn what_a_step_leaves_behind_is_ended_before_the_next_one_and_named() {
    let first = "(setsid sh -c 'echo $$ > left; exec sleep 1000' &); while ! test -s left; do :; done";
    let bench = running(first).hook(|it| it.run.push(script("next", "kill -0 $(cat left) 2>/dev/null || echo gone")));
    let ended = bench.finish();
    assert_eq!(ended.said().0, "succeeded");
    assert_eq!(ended.output(), ["gone"]);
    let pid = pid_in(&ended.bench.path("left")).expect("a process");
    let note = format!("the step left `sleep` ({pid}) behind");
    assert!(ended.has_remark(&note), "{:?}", log(&ended.bench.dir));
    assert!(ended.entries().iter().any(|it| matches!(it, Entry::Note { text, .. } if text.contains(&note))));
}

#[test]
fn the_last_words_of_a_pipe_behind_the_script_are_kept() {
    let text = "(while read -r line; do echo \"late $line\"; done) < fifo & exec 9> fifo; echo word >&9; exit 0";
    let bench = running(text);
    let fifo = bench.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    let ended = bench.finish();
    assert_eq!(ended.output(), ["late word"]);
    assert!(!ended.has_remark("behind"));
}

#[test]
fn what_is_left_of_a_run_whose_keeper_was_killed_is_found_and_ended() {
    let mut keeper = running(STUBBORN).start();
    keeper.until_line("ready").until("a grandchild", |it| pid_in(&it.path("grandchild")).is_some());
    let begin = begin(&keeper.bench.dir);
    assert!(keeper::is_alive(&begin));
    keeper.signal(Signal::KILL);
    keeper.child.wait().expect("waited");
    assert!(!keeper::is_alive(&begin) && !keeper::ask_to_cancel(&begin));
    let pids = ["child", "grandchild"].map(|it| pid_in(&keeper.bench.path(it)).expect("a process"));
    assert!(pids.into_iter().all(is_alive), "they outlive the keeper");
    let ended = end_leftovers(&keeper.bench.token, &begin, Duration::from_millis(100)).expect("all ended");
    assert!(pids.iter().all(|pid| ended.iter().any(|it| it.contains(&format!("({pid})")))), "{ended:?}");
    assert!(!pids.into_iter().any(is_alive));
    let again = end_leftovers(&keeper.bench.token, &begin, Duration::ZERO).expect("nothing left");
    assert!(again.is_empty(), "{again:?}");
}

#[test]
fn leftovers_of_another_run_are_left_alone() {
    let mut one = running("echo ready; sleep 1000").start();
    let other = running("true").finish();
    one.until_line("ready");
    let ended = end_leftovers(&other.bench.token, &other.begin(), Duration::ZERO).expect("nothing left");
    assert!(ended.is_empty(), "{ended:?}");
    one.signal(Signal::TERM);
    assert_eq!(one.finish().said().0, "cancelled");
}

#[test]
fn a_signal_that_takes_a_script_is_named() {
    let ended = running("kill -KILL $$").finish();
    assert_eq!(ended.said(), ("failed", "step `build` of `run` was killed by SIGKILL".into()));
    assert_eq!(ended.outcome().exit_code(), Some(137));
}
