//! Promises about how a run ends, and that it begins once.
//!
//! Invariant: each test is one promise.

use std::{fs, path::Path, time::Duration};

use landfall::{
    journal::entries::{Entry, StepExit},
    keeper::NOT_STARTED,
    model::{
        deploy::Strategy,
        hook::Hook,
        run::{FailureClass, Outcome, RunStep},
    },
};
use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
};

use super::bench::{running, script};

#[test]
fn a_run_whose_steps_go_well_succeeds_and_each_step_is_in_the_journal() {
    let bench = running("echo building").hook(|it| it.activate.push(script("reload", "echo reloading")));
    let ended = bench.finish();
    assert_eq!((ended.code, ended.outcome()), (Some(0), Outcome::Succeeded));
    assert_eq!(ended.output(), ["building", "reloading"]);
    let steps = ended.entries().into_iter().filter_map(|it| match it {
        Entry::StepEnd { step, script, exit, .. } => Some((step, script, exit)),
        _ => None,
    });
    let steps = steps.collect::<Vec<_>>();
    let good = |step, script: Option<&str>| (step, script.map(str::to_owned), StepExit::Good);
    let expected = [
        good(RunStep::Lock, None),
        good(RunStep::Preflight, None),
        good(RunStep::Run, Some("build")),
        good(RunStep::Activate, Some("reload")),
        good(RunStep::Cleanup, None),
    ];
    assert_eq!(steps, expected);
}

#[test]
fn the_log_range_of_a_step_is_what_it_printed() {
    let bench = running("echo one; echo two").hook(|it| it.run.push(script("next", "echo three")));
    let ended = bench.finish();
    let ranges = ended.entries().into_iter().filter_map(|it| match it {
        Entry::StepEnd { script: Some(_), log, .. } => Some(log),
        _ => None,
    });
    let whole = fs::read_to_string(ended.bench.dir.log()).expect("log");
    let position = |at: u64| usize::try_from(at).expect("a position");
    let texts: Vec<_> = ranges.map(|it| whole[position(it.start)..position(it.end)].lines().count()).collect();
    assert_eq!(texts, [2, 1]);
}

#[test]
fn scripts_stop_at_the_first_that_fails_and_the_reason_names_it() {
    let bench = running("exit 2").hook(|it| it.run.push(script("next", "echo never")));
    let ended = bench.finish();
    let Outcome::Failed(failure) = ended.outcome() else { panic!("{:?}", ended.outcome()) };
    assert_eq!(failure.reason, "step `build` of `run` ended with exit code 2");
    assert_eq!((failure.step, failure.exit_code, failure.class), (RunStep::Run, Some(2), FailureClass::Other));
    assert!(ended.output().is_empty());
}

#[test]
fn exit_code_75_asks_for_another_try() {
    let Outcome::Failed(failure) = running("exit 75").finish().outcome() else { panic!("failed") };
    assert_eq!((failure.exit_code, failure.class), (Some(75), FailureClass::Tempfail));
}

#[test]
fn exit_code_78_before_going_live_skips_the_run_and_after_it_fails_it() {
    let said = running("echo reason=first >> $DEPLOY_OUTPUT; echo reason=no changes >> $DEPLOY_OUTPUT; exit 78");
    assert_eq!(said.finish().said(), ("skipped", "no changes".into()));
    assert_eq!(running("exit 78").finish().said(), ("skipped", "step `build` of `run` found nothing to do".into()));
    let late = running("true").hook(|it| it.activate.push(script("reload", "exit 78")));
    assert_eq!(late.finish().said(), ("failed", "step `reload` of `activate` ended with exit code 78".into()));
}

#[test]
fn lines_of_deploy_output_become_fields_of_the_run() {
    let ended = running("printf 'version=1.2\\nnonsense\\nurl=https://x/?a=b\\n' >> \"$DEPLOY_OUTPUT\"").finish();
    let fields = ended.facts().fields;
    assert_eq!(fields, [("version".into(), "1.2".into()), ("url".to_owned(), "https://x/?a=b".to_owned())]);
    assert!(ended.has_remark("line 2 of DEPLOY_OUTPUT is not `key=value`"));
    assert_eq!(ended.facts().commit.expect("a commit").as_str(), "a1".repeat(20));
}

#[test]
fn steps_after_the_outcome_run_when_they_should_and_cannot_change_it() {
    let last = |text: &str| {
        running(text).hook(|it| {
            it.on_failure.push(script("tell", "echo failed; exit 1"));
            it.finally.push(script("tidy", "echo finally; exit 3"));
        })
    };
    let bad = last("exit 2").finish();
    assert_eq!((bad.output(), bad.outcome().exit_code()), (vec!["failed".into(), "finally".into()], Some(2)));
    let good = last("true").finish();
    assert_eq!((good.output(), good.outcome()), (vec!["finally".to_owned()], Outcome::Succeeded));
}

#[test]
fn a_second_term_ends_the_steps_after_the_outcome() {
    let text = "echo ready; sleep 1000";
    let mut keeper = running(text).hook(|it| it.finally.push(script("tidy", "echo tidying; sleep 1000"))).start();
    keeper.until_line("ready").signal(Signal::TERM);
    keeper.until_line("tidying").signal(Signal::TERM);
    assert_eq!(keeper.finish().said().0, "cancelled");
}

#[test]
fn what_must_be_there_is_missed_before_anything_runs() {
    type Change = fn(&mut Hook);
    let cases: [(&str, Change); 3] = [
        ("there is no user `no-such-user`", |it| it.user = Some("no-such-user".into())),
        ("`min_free` asks for", |it| it.deploy.min_free_bytes = 1 << 60),
        ("the folder of the steps `/no/such/folder` cannot be used", |it| {
            it.deploy.strategy = Strategy::None { folder: "/no/such/folder".into() };
        }),
    ];
    for (reason, change) in cases {
        let ended = running("echo never").hook(change).finish();
        let (word, said) = ended.said();
        assert!(word == "failed" && said.contains(reason), "{said}");
        assert_eq!(ended.outcome().step(), Some(RunStep::Preflight));
        assert!(ended.output().is_empty());
        // Room may come back by itself.
        let Outcome::Failed(failure) = ended.outcome() else { panic!("{word}: {said}") };
        assert_eq!(failure.class == FailureClass::Tempfail, reason.contains("min_free"));
    }
}

#[test]
fn without_its_secrets_a_run_never_starts() {
    for message in ["", "{\"env\": {\"TOKEN\": \"hun"] {
        let ended = running("echo never").start_with(message).finish();
        assert_eq!(ended.code, Some(i32::from(NOT_STARTED)));
        assert!(ended.entries().is_empty());
    }
}

#[test]
fn a_run_that_has_begun_is_not_begun_again() {
    let first = running("echo once >> times").finish();
    let second = first.bench.start().finish();
    assert_eq!(second.code, Some(i32::from(NOT_STARTED)));
    assert_eq!(fs::read_to_string(second.bench.path("times")).expect("file"), "once\n");
}

#[test]
fn nothing_runs_in_a_lane_that_somebody_else_holds() {
    let bench = running("echo never").hook(|it| it.finally.push(script("tidy", "echo never")));
    let lock = fs::File::create(bench.path("lane.lock")).expect("lock");
    flock(&lock, FlockOperation::LockExclusive).expect("locked");
    let ended = bench.finish();
    assert_eq!(ended.said(), ("failed", "another process holds the lock of this lane".into()));
    assert!(ended.output().is_empty());
}

#[test]
fn the_lane_is_free_only_when_the_last_process_is_gone() {
    let text = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.05; done' &); exit 0";
    let mut keeper = running(text).start();
    keeper.until_line("ready");
    let path = keeper.bench.path("lane.lock");
    let is_free = move |path: &Path| {
        let lock = fs::File::open(path).expect("lock");
        flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
    };
    assert!(!is_free(&path));
    let ended = keeper.finish();
    assert!(ended.took >= Duration::from_millis(300) && is_free(&path));
}

#[test]
fn nothing_of_a_run_stays_but_its_folder() {
    let mut bench = running("test -s \"$DEPLOY_PAYLOAD\"; echo \"$DEPLOY_PAYLOAD\"");
    bench.payload = Some(b"{}".to_vec());
    let ended = bench.finish();
    assert_eq!(ended.outcome(), Outcome::Succeeded);
    let payload = ended.output().remove(0);
    assert!(payload.ends_with("/runs/7/payload.json") && !Path::new(&payload).exists(), "{payload}");
    let user = fs::read_dir(ended.bench.path("work")).expect("work").next().expect("a user").expect("entry").path();
    assert_eq!(fs::read_dir(user.join("runs")).expect("runs").count(), 0);
}
