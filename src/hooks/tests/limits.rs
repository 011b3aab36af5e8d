//! Promises about what a run may have: `limits`, and whose its steps are.

use std::{fs, os::unix::fs::chown};

use nix::unistd::{User, geteuid};

use super::{Sandbox, finds, loads, working};
use crate::model::{hook::Hook, limits::RunLimits};

fn only_hook(yaml: &str) -> Hook {
    let hooks = loads(yaml).hooks.hooks;
    hooks.into_values().next().expect("a hook").as_ref().clone()
}

#[test]
fn limits_are_those_that_are_written_and_processes_are_always_bounded() {
    assert_eq!(only_hook(&working("")).limits, RunLimits { processes: 4096, memory_bytes: None, cpu_weight: None });
    let written = only_hook(&working("limits: {processes: 64, memory: 2GiB, cpu_weight: 50}")).limits;
    assert_eq!(written, RunLimits { processes: 64, memory_bytes: Some(2 << 30), cpu_weight: Some(50) });
    let shared = format!("defaults: {{limits: {{memory: 1GiB}}}}\n{}", working(""));
    assert_eq!(only_hook(&shared).limits, RunLimits { memory_bytes: Some(1 << 30), ..RunLimits::default() });
}

#[test]
fn a_limit_that_no_kernel_takes_is_refused_where_it_stands() {
    finds(&working("limits: {processes: 0}"), &["bad-number@4:25"]);
    finds(&working("limits: {memory: 2GB}"), &["bad-size@4:22"]);
    finds(&working("limits: {memory: 1MiB}"), &["bad-size@4:22"]);
    finds(&working("limits: {cpu_weight: 10001}"), &["bad-number@4:26"]);
    finds(&working("limits: {memroy: 1GiB}"), &["unknown-key@4:14"]);
    finds(&working("limits: 4096"), &["wrong-type@4:13"]);
}

#[test]
fn a_limit_that_this_machine_cannot_hold_is_warned_of() {
    let has = |name: &str| {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let all = read("/sys/fs/cgroup/cgroup.controllers") + " " + &read("/sys/fs/cgroup/unified/cgroup.controllers");
        all.split_ascii_whitespace().any(|it| it == name)
    };
    let warnings = |lines: &str| {
        let all = Sandbox::with(&working(lines)).warnings();
        all.into_iter().filter(|it| it.code == "limits-not-held").map(|it| it.message).collect::<Vec<_>>()
    };
    assert_eq!(warnings("").len(), 0, "nobody has asked for one");
    for (key, controller) in [("processes: 64", "pids"), ("memory: 1GiB", "memory"), ("cpu_weight: 50", "cpu")] {
        let said = warnings(&format!("limits: {{{key}}}"));
        assert_eq!(said.is_empty(), has(controller), "{key}: {said:?}");
    }
}

#[test]
fn a_hook_whose_steps_would_be_roots_is_warned_of_unless_it_says_so() {
    let warnings = |lines: &str| Sandbox::with(&working(lines)).warnings();
    let is_warned = |lines: &str| warnings(lines).iter().any(|it| it.code == "runs-as-root");
    let is_root = geteuid().is_root();
    assert_eq!(is_warned(""), is_root);
    let own = User::from_uid(geteuid()).expect("user database").expect("whoever tests").name;
    assert!(!is_warned(&format!("user: {own}")));
    let folder = tempfile::tempdir().expect("a folder");
    let into = format!("deploy: {{path: {}}}", folder.path().display());
    assert_eq!(is_warned(&into), is_root);
    if is_root {
        // Git work and steps are then the owner's.
        chown(folder.path(), Some(65_534), None).expect("given away");
        assert!(!is_warned(&into));
    }
}
