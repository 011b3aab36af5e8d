//! Promises about a run that takes more of the machine than it may.
//!
//! Invariant: each test is one promise; where no control group holds anybody to a limit, it says so by name and passes.
//! `scripts/in-vm` boots a machine where they all can be tried.

use std::time::Duration;

use landfall::{
    keeper::{probe_cgroup, probe_unheld_limits},
    model::limits::RunLimits,
};

use super::bench::{running, script};

/// Whether this test can be tried here; says so if not.
fn are_held(name: &str) -> bool {
    let why = probe_cgroup().err().or_else(|| probe_unheld_limits().into_iter().next());
    if let Some(why) = &why {
        println!("SKIPPED, {why}: {name}");
    }
    why.is_none()
}

const FEW: RunLimits = RunLimits { processes: 64, memory_bytes: None, cpu_weight: None };
const LITTLE: RunLimits = RunLimits { processes: 4096, memory_bytes: Some(64 << 20), cpu_weight: Some(50) };

/// Eats memory without an end.
const EATS: &str = "head -c 1G /dev/zero | tail -c 1G > /dev/null";

#[test]
fn a_run_is_held_to_its_limits_from_its_first_instruction() {
    if !are_held("a_run_is_held_to_its_limits_from_its_first_instruction") {
        return;
    }
    let text = "cd $(sed 's|^0::|/sys/fs/cgroup|' /proc/self/cgroup); cat pids.max memory.max cpu.weight";
    let ended = running(text).hook(|it| it.limits = RunLimits { processes: 99, ..LITTLE }).finish();
    assert_eq!(ended.output(), ["99", "67108864", "50"], "{:?}", ended.whole_log());
    let unlimited = running(text).finish();
    assert_eq!(unlimited.output(), ["4096", "max", "100"], "processes are bounded in any case");
}

#[test]
fn a_fork_bomb_ends_with_its_run_and_the_reason_names_the_limit() {
    if !are_held("a_fork_bomb_ends_with_its_run_and_the_reason_names_the_limit") {
        return;
    }
    let bomb = "bomb() { bomb | bomb & }; bomb; while :; do sleep 1000; done";
    let bench = running(bomb).hook(|it| {
        it.limits = FEW;
        it.timeout = Duration::from_secs(3);
    });
    let ended = bench.finish();
    let (word, reason) = ended.said();
    // Its own shell may be refused a child, too, and end by that.
    assert!(["timed_out", "failed"].contains(&word), "{word}: {reason}");
    assert!(reason.contains("not started at `limits.processes` of 64"), "{reason}");
    assert!(!ended.begin().cgroup.expect("a group").exists(), "nobody is left");
}

#[test]
fn a_step_that_eats_memory_ends_at_its_limit_and_the_reason_says_what_to_do() {
    if !are_held("a_step_that_eats_memory_ends_at_its_limit_and_the_reason_says_what_to_do") {
        return;
    }
    let ended = running(EATS).hook(|it| it.limits = LITTLE).finish();
    let (word, reason) = ended.said();
    assert_eq!(word, "failed", "{reason}");
    let expected = "out of memory: 1 process was ended at `limits.memory` of 64 MiB; raise it if the step needs more";
    assert!(reason.contains(expected) && reason.starts_with("step `build` of `run` ended with exit code"), "{reason}");
    assert!(ended.has_remark(expected), "{:?}", ended.whole_log());
}

#[test]
fn what_a_step_met_is_told_even_if_it_got_over_it_and_is_not_the_next_steps() {
    if !are_held("what_a_step_met_is_told_even_if_it_got_over_it_and_is_not_the_next_steps") {
        return;
    }
    let bench = running(&format!("{EATS} || true")).hook(|it| {
        it.limits = LITTLE;
        it.run.push(script("next", "exit 3"));
    });
    let ended = bench.finish();
    assert_eq!(ended.said(), ("failed", "step `next` of `run` ended with exit code 3".to_owned()));
    assert!(ended.has_remark("out of memory: 1 process was ended"), "{:?}", ended.whole_log());
}

#[test]
fn where_limits_do_not_hold_a_run_that_has_some_says_so_and_one_that_has_none_does_not() {
    let unheld = probe_unheld_limits();
    let ended = running("true").hook(|it| it.limits = LITTLE).finish();
    assert_eq!(ended.said().0, "succeeded");
    assert_eq!(ended.has_remark("not hold"), !unheld.is_empty(), "{unheld:?} {:?}", ended.whole_log());
    assert!(!running("true").finish().has_remark("not hold"));
}
