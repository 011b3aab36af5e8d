//! Promises that can only be tried as root: another user, and a disk of our own.
//!
//! Invariant: each test is one promise; where it cannot be tried, it says so by name and passes.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Command,
};

use landfall::model::run::{Outcome, RunStep};

use super::bench::{running, script};

/// Whether this test can be tried here; says so if not.
pub fn is_root(name: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        println!("SKIPPED, needs root: {name}");
    }
    is_root
}

#[test]
fn as_root_steps_run_as_the_hooks_user_and_with_nothing_of_roots() {
    if !is_root("as_root_steps_run_as_the_hooks_user_and_with_nothing_of_roots") {
        return;
    }
    let text = r#"
        id -un; id -Gn; echo "$HOME $USER"; grep -c . "$DEPLOY_PAYLOAD"
        echo by=nobody >> "$DEPLOY_OUTPUT"
        cat ../../../../runs/7/spec.json 2>/dev/null || echo closed
        ls ../../../.. 2>/dev/null || echo hidden
        touch mine; stat -c '%U %a' mine .
        ! mv . ../elsewhere 2>/dev/null && ! mkdir ../8 2>/dev/null && echo fixed
    "#;
    let mut bench = running("true").hook(|it| {
        let mut step = script("build", text);
        step.shell = vec!["/bin/sh".into()];
        it.user = Some("nobody".into());
        it.run = vec![step];
        it.activate = vec![script("reload", "id -un")];
        it.activate[0].user = Some("root".into());
    });
    bench.payload = Some(b"{}\n".to_vec());
    let desk = bench.path("work/nobody/runs/7");
    bench.hook.run[0].cwd = Some(desk);
    let ended = bench.finish();
    assert_eq!(ended.outcome(), Outcome::Succeeded, "{:?}", ended.output());
    let user = nix::unistd::User::from_name("nobody").expect("user database").expect("nobody");
    let group = nix::unistd::Group::from_gid(user.gid).expect("group database").expect("a group").name;
    let home = format!("{} nobody", user.dir.display());
    let expected = ["nobody", &group, &home, "1", "closed", "hidden", "nobody 644", "nobody 700", "fixed", "root"];
    assert_eq!(ended.output(), expected);
    assert_eq!(ended.facts().fields, [("by".to_owned(), "nobody".to_owned())]);
    let seen = |path| fs::metadata(path).map(|it| (it.uid(), it.permissions().mode() & 0o777)).expect("metadata");
    assert_eq!(seen(ended.bench.state.path().to_owned()), (0, 0o711));
    assert_eq!(seen(ended.bench.path("work")), (0, 0o711));
    assert_eq!(seen(ended.bench.path("work/nobody")), (0, 0o710));
    assert_eq!(seen(ended.bench.path("runs/7")), (0, 0o700));
}

#[test]
fn as_root_a_users_trick_with_deploy_output_shows_nothing_of_roots() {
    if !is_root("as_root_a_users_trick_with_deploy_output_shows_nothing_of_roots") {
        return;
    }
    let text = "rm \"$DEPLOY_OUTPUT\"; ln -s /etc/shadow \"$DEPLOY_OUTPUT\"";
    let bench = running(text).hook(|it| it.user = Some("nobody".into())).hook(|it| it.run[0].cwd = Some("/".into()));
    let ended = bench.finish();
    assert_eq!((ended.outcome(), ended.facts().fields), (Outcome::Succeeded, Vec::new()));
    assert!(ended.has_remark("cannot read DEPLOY_OUTPUT"));
}

#[test]
fn as_root_processes_of_another_user_are_ended_too() {
    if !is_root("as_root_processes_of_another_user_are_ended_too") {
        return;
    }
    let text = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1000; done' &); while :; do sleep 1000; done";
    let bench = running(text).hook(|it| it.user = Some("nobody".into())).hook(|it| it.run[0].cwd = Some("/".into()));
    let ended = bench.hook(|it| it.timeout = std::time::Duration::from_secs(1)).finish();
    assert_eq!(ended.said().0, "timed_out");
    let pid = ended.output()[0].parse().expect("a number");
    assert!(!super::bench::is_alive(pid));
}

#[test]
fn as_root_a_full_disk_interrupts_the_run_cleanly() {
    if !is_root("as_root_a_full_disk_interrupts_the_run_cleanly") {
        return;
    }
    let bench = running("seq 1 1000000; echo never > never").hook(|it| it.finally.push(script("tidy", "touch tidied")));
    let mounted = bench.dir.path().to_owned();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&mounted).status();
    assert!(mount.expect("mount").success());
    let ended = bench.finish();
    let (outcome, is_tidied, is_never) =
        (ended.outcome(), ended.bench.path("tidied").exists(), ended.bench.path("never").exists());
    let first = ended.output().first().cloned();
    assert!(Command::new("umount").arg(&mounted).status().expect("umount").success());
    assert!(matches!(outcome, Outcome::Interrupted { step: Some(RunStep::Run), .. }), "{outcome:?}");
    let reason = outcome.reason().unwrap_or_default();
    assert!(reason.contains("cannot write the log: No space left on device"), "{reason}");
    assert!(!is_never && !is_tidied, "nothing runs whose output cannot be kept");
    assert_eq!(first.as_deref(), Some("1"));
}
