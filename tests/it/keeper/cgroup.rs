//! Promises about a run that is held together by a control group of its own.
//!
//! Invariant: each test is one promise; where no control group is handed over to us, it says so by name and passes.

use std::{fs, path::Path, time::Duration};

use landfall::keeper::{end_leftovers, probe_cgroup};
use rustix::process::Signal;

use super::{
    bench::{Bench, begin, is_alive, pid_in, running, script},
    root::is_root,
};

/// A script that starts a daemon as daemons do it: a session of its own, forked twice, and nothing of the script's
/// environment. It does not heed TERM.
pub const DAEMONISES: &str = r#"
env -i setsid /bin/sh -c '(/bin/sh -c "trap \"\" TERM; echo \$\$ > daemon.new; mv daemon.new daemon; while :; do sleep 1000; done" &)' > /dev/null 2>&1
while ! test -s daemon; do sleep 0.01; done
echo ready
"#;

/// Whether this test can be tried here; says so if not.
pub fn has_group(name: &str) -> bool {
    probe_cgroup().map_err(|why| println!("SKIPPED, needs a control group, and {why}: {name}")).is_ok()
}

fn waiting() -> String {
    format!("{DAEMONISES}\nsleep 1000\n")
}

/// The group of the run, as the kernel names that of this process.
fn group_of(pid: i32) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process");
    groups.lines().find_map(|it| it.strip_prefix("0::")).expect("cgroup v2").to_owned()
}

/// The daemon that the script has started; it is in the group that the journal names, and the keeper is not.
fn daemon(bench: &Bench) -> i32 {
    let begin = begin(&bench.dir);
    let folder = begin.cgroup.expect("a control group");
    let name = format!("landfall-{}", bench.token.as_str());
    let pid = pid_in(&bench.path("daemon")).expect("a daemon");
    assert!(folder.ends_with(&name) && group_of(pid).ends_with(&name), "{} {}", folder.display(), group_of(pid));
    pid
}

#[test]
fn under_a_control_group_a_daemon_that_hides_is_ended_at_a_cancel() {
    if !has_group("under_a_control_group_a_daemon_that_hides_is_ended_at_a_cancel") {
        return;
    }
    let mut keeper = running(&waiting()).start();
    keeper.until_line("ready");
    let (daemon, begin) = (daemon(&keeper.bench), begin(&keeper.bench.dir));
    assert_ne!(group_of(begin.pid), group_of(daemon), "the keeper is outside of it");
    keeper.signal(Signal::TERM);
    let ended = keeper.finish();
    assert_eq!(ended.said().0, "cancelled");
    assert!(!is_alive(daemon) && !begin.cgroup.expect("a group").exists());
}

#[test]
fn under_a_control_group_a_daemon_that_hides_is_ended_at_a_timeout() {
    if !has_group("under_a_control_group_a_daemon_that_hides_is_ended_at_a_timeout") {
        return;
    }
    let mut keeper = running(&waiting()).hook(|it| it.timeout = Duration::from_secs(3)).start();
    keeper.until_line("ready");
    let daemon = daemon(&keeper.bench);
    let ended = keeper.finish();
    assert_eq!(ended.said().0, "timed_out");
    assert!(!is_alive(daemon) && !ended.begin().cgroup.expect("a group").exists());
}

#[test]
fn under_a_control_group_a_daemon_that_hides_is_ended_after_its_step_and_named() {
    if !has_group("under_a_control_group_a_daemon_that_hides_is_ended_after_its_step_and_named") {
        return;
    }
    let next = "kill -0 $(cat daemon) 2>/dev/null || echo gone; cat /proc/self/cgroup > group";
    let ended = running(DAEMONISES).hook(|it| it.run.push(script("next", next))).finish();
    assert_eq!((ended.said().0, ended.output()), ("succeeded", vec!["ready".to_owned(), "gone".to_owned()]));
    let daemon = pid_in(&ended.bench.path("daemon")).expect("a daemon");
    assert!(ended.has_remark(&format!("`sh` ({daemon})")));
    let group = fs::read_to_string(ended.bench.path("group")).expect("written");
    assert!(group.contains(&format!("landfall-{}", ended.bench.token.as_str())), "the next step is in it too: {group}");
}

#[test]
fn under_a_control_group_a_daemon_that_hides_is_found_after_its_keeper_was_killed() {
    if !has_group("under_a_control_group_a_daemon_that_hides_is_found_after_its_keeper_was_killed") {
        return;
    }
    let mut keeper = running(&waiting()).start();
    keeper.until_line("ready");
    let (daemon, begin) = (daemon(&keeper.bench), begin(&keeper.bench.dir));
    keeper.signal(Signal::KILL);
    keeper.child.wait().expect("waited");
    assert!(is_alive(daemon), "it outlives the keeper");
    let ended = end_leftovers(&keeper.bench.token, &begin, Duration::from_millis(100)).expect("all ended");
    assert!(ended.iter().any(|it| it.contains(&format!("({daemon})"))), "{ended:?}");
    assert!(!is_alive(daemon) && !begin.cgroup.clone().expect("a group").exists());
    let again = end_leftovers(&keeper.bench.token, &begin, Duration::ZERO).expect("nothing left");
    assert!(again.is_empty(), "{again:?}");
}

#[test]
fn as_root_under_a_control_group_another_users_daemon_is_ended_and_cannot_leave_the_group() {
    let name = "as_root_under_a_control_group_another_users_daemon_is_ended_and_cannot_leave_the_group";
    if !is_root(name) || !has_group(name) {
        return;
    }
    let home = probe_cgroup().expect("a group");
    let text = format!("! echo 0 2>/dev/null > {}/cgroup.procs\n{}", home.display(), waiting());
    let bench = running(&text).hook(|it| it.user = Some("nobody".into()));
    let folder = bench.path("nobodys");
    fs::create_dir(&folder).expect("a folder");
    std::os::unix::fs::chown(&folder, Some(65_534), None).expect("given away");
    open_to_all(bench.state.path());
    let mut keeper = bench.hook(|it| it.run[0].cwd = Some(folder.clone())).start();
    keeper.until_line("ready");
    let daemon = pid_in(&folder.join("daemon")).expect("a daemon");
    assert!(group_of(daemon).ends_with(keeper.bench.token.as_str()), "{}", group_of(daemon));
    keeper.signal(Signal::TERM);
    assert_eq!(keeper.finish().said().0, "cancelled");
    assert!(!is_alive(daemon));
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).expect("opened");
}
