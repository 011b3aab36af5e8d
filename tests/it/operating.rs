//! What an operator can rely on: starting, checking, reloading, stopping, and being told clearly.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use landfall::journal::progress;
use serde_json::{Value, json};

use crate::world::{
    house::{House, SECRET},
    until,
};

const HOOK: &str = r#"on: {push: main}
deploy: {path: "{live}", remote: "{remote}"}
run: ./deploy.sh"#;

/// A file with six different mistakes, a line each.
const SIX_MISTAKES: &str = r#"hooks:
  site:
    github: acme/site
    secret: {env: NOT_SET_ANYWHERE}
    brnch: main
    on: {push: "a["}
    deploy: {path: srv/site}
    run: true
    run: "false"
    timeout: soon
"#;

fn landfall(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_landfall")).current_dir(folder).args(arguments).output();
    let output = output.expect("the command runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn check_reports_six_mistakes_at_once_with_their_places() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("hooks.yaml"), SIX_MISTAKES).expect("written");
    let (code, out, _) = landfall(folder.path(), &["check", "--json"]);
    let problems: Vec<Value> = serde_json::from_str(&out).expect("JSON");
    let errors: Vec<&Value> = problems.iter().filter(|it| it["severity"] == "error").collect();
    assert_eq!((code, errors.len()), (2, 6), "{out}");
    let mut lines: Vec<u64> = errors.iter().map(|it| it["line"].as_u64().expect("a line")).collect();
    lines.sort_unstable();
    assert_eq!(lines, [4, 5, 6, 7, 9, 10], "{out}");
    for key in ["file", "line", "column", "code", "severity", "message", "help"] {
        assert!(problems.iter().all(|it| it.get(key).is_some()), "{key}");
    }
    let (code, out, _) = landfall(folder.path(), &["check"]);
    assert_eq!(code, 2);
    assert!(out.contains("hooks.yaml:5:5") && out.contains("^^^^^"), "{out}");
}

#[test]
fn check_is_content_with_warnings_and_takes_variables_from_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let text =
        "hooks:\n  site: {github: acme/site, secret: {env: FROM_FILE}, run: 'true', secrets: {T: in-the-open}}\n";
    fs::write(folder.path().join("hooks.yaml"), text).expect("written");
    fs::write(folder.path().join("env"), "FROM_FILE=a-long-secret\n").expect("written");
    assert_eq!(landfall(folder.path(), &["check"]).0, 2);
    let (code, out, _) = landfall(folder.path(), &["check", "--env-file", "env", "--json"]);
    let problems: Vec<Value> = serde_json::from_str(&out).expect("JSON");
    assert_eq!(code, 0, "{out}");
    assert!(!problems.is_empty() && problems.iter().all(|it| it["severity"] == "warning"), "{out}");
}

#[test]
fn a_daemon_with_a_bad_file_does_not_start_and_says_every_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("hooks.yaml"), SIX_MISTAKES).expect("written");
    let (code, _, said) = landfall(folder.path(), &["serve"]);
    assert_eq!(code, 2);
    assert_eq!(said.matches("error[").count(), 6, "{said}");
}

#[test]
fn a_bad_reload_keeps_the_old_hooks_and_a_good_one_takes_over() {
    let mut house = House::with_hook(HOOK);
    let commit = house.repo.commit(&[("deploy.sh", "#!/bin/sh\necho deployed\n")]);
    house.start();
    house.write_hooks("", &format!("{HOOK}\ntimeout: soon"));
    let trouble =
        until("status tells of the trouble", || house.json(&["status"])["config_trouble"].as_str().map(str::to_owned));
    assert!(trouble.contains("soon"), "{trouble}");
    assert!(house.log().contains("soon"), "the log tells of it too: {}", house.log());
    let run = house.queue(&commit);
    assert_eq!(house.ended(run)["outcome"], "succeeded", "the old hooks are in force");
    house.write_hooks("", &format!("{HOOK}\nenvironment: staging"));
    until("the good file is in force", || house.json(&["status"])["config_trouble"].is_null().then_some(()));
    let output = house.landfall(&["deploy", "site", "--wait"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(house.run(run + 1)["environment"], "staging");
    house.stop();
}

#[test]
fn a_reload_does_not_change_a_waiting_or_running_run() {
    let gated = format!("{HOOK}\nenv: {{GATE: \"{{folder}}/gate\"}}\nqueue: all\nenvironment: before");
    let mut house = House::with_hook(&gated);
    let script = "#!/bin/sh\nuntil [ -e $GATE ]; do sleep 0.05; done\n";
    let commit = house.repo.commit(&[("deploy.sh", script)]);
    house.start();
    let running = house.queue(&commit);
    house.run_once(running, "running");
    let commit = house.repo.commit(&[("page", "two")]);
    let waiting = house.queue(&commit);
    house.write_hooks("", &gated.replace("before", "after").replace("/gate", "/another-gate"));
    until("the change is in force", || {
        let output = house.landfall(&["deploy", "site"]);
        let run: i64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a run");
        let is_new = house.run(run)["environment"] == "after";
        house.landfall(&["cancel", &run.to_string()]);
        is_new.then_some(())
    });
    fs::write(house.folder.path().join("gate"), "").expect("opened");
    for run in [running, waiting] {
        let view = house.ended(run);
        assert_eq!((&view["outcome"], &view["environment"]), (&json!("succeeded"), &json!("before")), "{view}");
    }
}

#[test]
fn a_second_daemon_on_the_same_state_folder_is_refused_and_the_first_goes_on() {
    let mut house = House::with_hook(HOOK);
    house.start();
    let output = house.landfall(&["serve"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(".landfall"), "{said}");
    assert!(house.landfall(&["status"]).status.success());
    house.stop();
}

#[test]
fn a_state_folder_with_a_path_too_long_for_a_socket_works() {
    let long = "a-rather-long-name-of-a-folder".repeat(5);
    let mut house = House::with("", HOOK);
    let top = format!("server: {{listen: \"127.0.0.1:0\", state: \"{{folder}}/{long}\"}}");
    house.write_hooks(&top, HOOK);
    house.start();
    assert!(house.json(&["status"])["state"].as_str().expect("a path").len() > 120);
    house.stop();
}

#[test]
fn what_the_daemon_keeps_is_for_its_user_alone() {
    let mut house = House::with_hook(HOOK);
    let commit = house.repo.commit(&[("deploy.sh", "#!/bin/sh\necho deployed\n")]);
    house.start();
    let run = house.queue(&commit);
    house.ended(run);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&house.state()), 0o700);
    assert_eq!(mode(&house.state().join("landfall.sock")), 0o600);
    assert_eq!(mode(house.run_dir(run).path()), 0o700);
    assert_eq!(mode(&house.run_dir(run).log()) & 0o077, 0);
    house.stop();
}

#[test]
fn a_command_without_a_daemon_says_where_it_looked_and_what_to_do() {
    let house = House::with_hook(HOOK);
    let output = house.landfall(&["status"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("landfall.sock") && said.contains("landfall serve"), "{said}");
    let packaged = said.contains("/run/landfall");
    let named = house.hooks_file();
    let output = house.landfall(&["status", "--config", named.to_str().expect("plain")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((packaged, said.contains("/run/landfall")), (true, false), "only what was looked at is named: {said}");
    let output = house.landfall(&["status", "--config", "nowhere.yaml"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.matches("nowhere.yaml").count()), (Some(2), 1), "{said}");
}

#[test]
fn a_hooks_yaml_that_nobody_can_read_keeps_nobody_from_the_daemon() {
    let mut house = House::with_hook(HOOK);
    let commit = house.repo.commit(&[("deploy.sh", "#!/bin/sh\necho deployed\n")]);
    house.start();
    let run = house.queue(&commit);
    house.ended(run);
    let (file, aside) = (house.hooks_file(), house.folder.path().join("aside.yaml"));
    fs::rename(&file, &aside).expect("moved");
    type Break = fn(&Path);
    let breaks: [(&str, Break); 5] = [
        ("", |_| ()),
        ("cannot read", |file| fs::create_dir(file).expect("a folder in its place")),
        ("UTF-8", |file| fs::write(file, [0xff, 0xfe]).expect("written")),
        ("state", |file| fs::write(file, "server: {state: [a, b]}\nhooks: {").expect("written")),
        ("", |file| fs::write(file, "hooks: {").expect("written")),
    ];
    for (why, break_it) in breaks {
        let _ = fs::remove_dir(&file).or_else(|_| fs::remove_file(&file));
        break_it(&file);
        let (about, named) = (run.to_string(), file.to_str().expect("plain").to_owned());
        let commands: [&[&str]; 7] = [
            &["status"],
            &["runs"],
            &["show", &about],
            &["log", &about],
            &["deliveries"],
            &["why", "site"],
            &["status", "--config", &named],
        ];
        // A file that is named and is not there is misspelt.
        for arguments in commands.into_iter().filter(|it| file.exists() || !it.contains(&"--config")) {
            let output = house.landfall(arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments:?} beside a file that is wrong ({why:?}): {said}");
            let is_said = said.contains("usual state folder") && said.contains(".landfall");
            assert!(said.contains(why) && is_said != why.is_empty(), "{arguments:?}, {why:?}: {said}");
        }
    }
    let _ = fs::remove_file(&file);
    fs::rename(&aside, &file).expect("moved back");
    house.stop();
}

#[test]
fn a_daemon_that_is_stopped_leaves_its_runs_to_their_keepers() {
    let gated = format!("{HOOK}\nenv: {{GATE: \"{{folder}}/gate\"}}");
    let mut house = House::with("server: {listen: \"127.0.0.1:0\", grace: 1s}", &gated);
    let script = "#!/bin/sh\nuntil [ -e $GATE ]; do sleep 0.05; done\necho through\n";
    let commit = house.repo.commit(&[("deploy.sh", script)]);
    house.start();
    let run = house.queue(&commit);
    house.run_once(run, "running");
    house.stop();
    fs::write(house.folder.path().join("gate"), "").expect("opened");
    house.start();
    assert_eq!(house.ended(run)["outcome"], "succeeded");
    assert_eq!(house.output(run), ["through"]);
}

#[test]
fn a_deploy_that_replaces_landfall_and_restarts_it_completes_and_is_watched_to_its_end() {
    let lines = "on: {push: main}\ndeploy: {strategy: none}\nrun: sh ./renew.sh\nenv: {PROGRAM: \"{folder}/landfall\"}";
    let mut house = House::with("server: {listen: \"127.0.0.1:0\", grace: 1s}", lines);
    let renew = "old=$(cat .landfall/landfall.lock)\necho before\ncp $PROGRAM new\nmv new $PROGRAM\nkill -TERM $old\n\
                 until new=$(cat .landfall/landfall.lock) && [ \"$new\" != \"$old\" ]; do sleep 0.05; done\necho after\n";
    fs::write(house.folder.path().join("renew.sh"), renew).expect("written");
    let copy = house.folder.path().join("landfall");
    fs::copy(&house.program, &copy).expect("copied");
    house.program = copy;
    house.start();
    let waiting = house.command(&["deploy", "site", "--wait"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let waiting = waiting.expect("the command runs");
    // As the service manager does it.
    house.stopped().start();
    let output = waiting.wait_with_output().expect("the command ends");
    let (shown, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<_> = shown.lines().filter(|it| ["before", "after"].contains(it)).collect();
    assert_eq!((output.status.code(), lines), (Some(0), vec!["before", "after"]), "{shown}{said}");
    assert!(said.contains("the next daemon is waited for") && said.contains("run 1 succeeded"), "{said}");
    assert_eq!(house.ended(1)["outcome"], "succeeded");
}

#[test]
fn a_keeper_sees_no_secret_of_the_daemons_environment_and_nobody_sees_one_on_a_command_line() {
    let secrets = "secrets: {TOKEN: {env: TOKEN}}";
    let gated = format!("{HOOK}\nenv: {{GATE: \"{{folder}}/gate\"}}\n{secrets}");
    let mut house = House::with_hook(&gated);
    let (own, foreign) = ("the-token-of-this-hook", "the-password-of-somebody-else");
    house.variables.extend([("TOKEN".into(), own.into()), ("FOREIGN".into(), foreign.into())]);
    let commit = house.repo.commit(&[("deploy.sh", "#!/bin/sh\nuntil [ -e $GATE ]; do sleep 0.05; done\n")]);
    house.start();
    let run = house.queue(&commit);
    until("the script runs", || (house.run(run)["step"] == "run").then_some(()));
    let keeper = progress::read(&house.run_dir(run)).expect("a journal").begin.expect("it has begun").pid;
    let environ = fs::read(format!("/proc/{keeper}/environ")).expect("a process");
    let environ = String::from_utf8_lossy(&environ).into_owned();
    for secret in [SECRET, own, foreign] {
        assert!(!environ.contains(secret), "{environ}");
    }
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    for process in processes.filter(|it| it.file_name().to_string_lossy().bytes().all(|it| it.is_ascii_digit())) {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(own), "{}", process.path().display());
    }
    fs::write(house.folder.path().join("gate"), "").expect("opened");
    assert_eq!(house.ended(run)["outcome"], "succeeded");
    house.stop();
}

/// The daemon's own memory, in kilobytes (`man 5 proc`).
fn resident_kilobytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

#[test]
fn a_log_of_100_megabytes_does_not_grow_the_daemon() {
    let hook = HOOK.replace("./deploy.sh", "head -c 100000000 /dev/zero | tr '\\\\0' 'x' | fold -w 99");
    let mut house = House::with_hook(&hook.replace("run: ", "run: \"").replace("fold -w 99", "fold -w 99\""));
    let commit = house.repo.commit(&[("page", "one")]);
    house.start();
    let first = house.landfall(&["deploy", "site", "--sha", &commit, "--json"]);
    assert!(first.status.success());
    let before = resident_kilobytes(house.daemon_pid());
    let view = house.ended(1);
    assert_eq!(view["outcome"], "succeeded", "{view}");
    let size = fs::read_dir(house.run_dir(1).path()).expect("a folder").flatten();
    let size: u64 = size.map(|it| it.metadata().expect("a file").len()).sum();
    assert!(size > 100_000_000, "the log is {size} bytes");
    let grown = resident_kilobytes(house.daemon_pid()) - before;
    assert!(grown < 20_000, "the daemon has grown by {grown} kB");
    house.stop();
}

#[test]
fn a_terminal_gets_colours_of_a_log_and_nothing_else_that_acts_unless_it_is_asked_for() {
    let hook = "on: {push: main}\ndeploy: {path: \"{live}\", remote: \"{remote}\"}\nrun: ./deploy.sh";
    let mut house = House::with_hook(hook);
    let script = "#!/bin/sh\nprintf 'a\\033[31mred\\033[0m\\033]52;c;aGk=\\007\\033[2Jb\\n'\n";
    let commit = house.repo.commit(&[("deploy.sh", script)]);
    house.start();
    let run = house.queue(&commit);
    house.ended(run);
    let on_terminal = |more: &str| {
        let socket = house.state().join("landfall.sock");
        let program = house.program.display();
        let line = format!("{program} log {run} --socket {} {more}", socket.display());
        let mut command = std::process::Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").stdin(std::process::Stdio::null());
        String::from_utf8_lossy(&command.output().expect("script is of util-linux").stdout).into_owned()
    };
    let seen = on_terminal("");
    assert!(seen.contains("a\u{1b}[31mred\u{1b}[0mb\u{1b}[0m") && !seen.contains("]52;"), "{seen:?}");
    assert!(on_terminal("--raw").contains("\u{1b}]52;c;aGk=\u{7}\u{1b}[2Jb"));
}
