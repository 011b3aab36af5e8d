//! What `landfall doctor` promises: it finds what is wrong with a set-up before a push does, and says what to do.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Output,
};

use landfall::keeper;
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::{
    keeper::root::is_root,
    world::{
        house::{House, signed},
        until,
    },
};

const HOOK: &str = r#"on: {push: main}
deploy: {path: "{live}", remote: "{remote}"}
run: ./deploy.sh"#;

/// What the doctor found, and its exit code.
struct Found {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Found {
    fn of(output: &Output) -> Self {
        let findings = serde_json::from_slice(&output.stdout).expect("a JSON array");
        Self { code: output.status.code(), findings }
    }

    /// The one finding about this subject whose message has these words.
    fn about(&self, subject: &str, words: &str) -> &Value {
        let fits =
            |it: &&Value| it["subject"] == subject && it["message"].as_str().is_some_and(|it| it.contains(words));
        let mut found = self.findings.iter().filter(fits);
        found.next().unwrap_or_else(|| panic!("nothing on {subject} with `{words}`: {:#?}", self.findings))
    }

    /// A failure about this subject with these words, and what to do.
    fn fails(&self, subject: &str, words: &str, help: &str) {
        let finding = self.about(subject, words);
        assert_eq!((self.code, &finding["verdict"]), (Some(1), &Value::from("fail")), "{finding}");
        assert!(finding["help"].as_str().is_some_and(|it| it.contains(help)), "{finding}");
    }

    fn verdict(&self, subject: &str, words: &str) -> &str {
        self.about(subject, words)["verdict"].as_str().expect("a word")
    }
}

fn doctor(house: &House) -> Found {
    Found::of(&house.landfall(&["doctor", "--json"]))
}

#[test]
fn a_set_up_that_works_has_no_failure_and_each_part_of_it_is_named() {
    let mut house = House::with_hook(HOOK);
    house.start();
    let found = doctor(&house);
    assert!(found.code == Some(0) && found.findings.iter().all(|it| it["verdict"] != "fail"), "{:#?}", found.findings);
    assert_eq!(found.verdict("hooks.yaml", "1 hook"), "ok");
    let (version, pid) = (env!("CARGO_PKG_VERSION"), house.daemon_pid());
    assert_eq!(found.verdict("daemon", &format!("landfall {version} answers, process {pid}")), "ok");
    assert_eq!(found.verdict("store", "`quick_check` finds no damage"), "ok");
    found.about("state", &house.state().display().to_string());
    let live = house.live().display().to_string();
    assert_eq!(found.verdict("hook site", &live), "ok");
    assert_eq!(found.verdict("secrets", "1 variable"), "ok");
    let help =
        found.about("public_url", "leads to this machine alone")["help"].as_str().expect("what to do").to_owned();
    assert!(help.contains("server.public_url"), "{help}");
    house.stop();
}

#[test]
fn how_runs_are_held_together_is_the_daemons_own_word() {
    let mut house = House::with_hook(HOOK);
    house.start();
    let holding = house.json(&["status"])["holding"].clone();
    match keeper::probe_cgroup() {
        Ok(own) => {
            assert_eq!(holding["cgroup"], own.display().to_string());
            assert_eq!(doctor(&house).verdict("processes", holding["cgroup"].as_str().expect("a path")), "ok");
        }
        Err(why) => {
            assert_eq!(holding["why_none"], why);
            assert_eq!(doctor(&house).verdict("processes", &why), "warn");
        }
    }
    house.stop();
}

#[test]
fn every_finding_is_one_line_with_what_to_do_about_it() {
    let house = House::with_hook(HOOK);
    let count = doctor(&house).findings.len();
    let output = house.landfall(&["doctor"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().count(), count, "{text}");
    for line in text.lines() {
        let word = line.split(' ').next().unwrap_or_default();
        assert!(
            word == "ok" && !line.contains(" → ") || ["warn", "fail"].contains(&word) && line.contains(" → "),
            "{line}"
        );
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("warning") && !said.contains("failure"), "{said}");
}

#[test]
fn before_the_first_start_nothing_fails_and_nothing_is_made() {
    let house = House::with_hook(HOOK);
    let found = doctor(&house);
    assert_eq!(found.code, Some(0), "{:#?}", found.findings);
    assert_eq!(found.verdict("daemon", "none is running"), "warn");
    assert_eq!(found.verdict("state", "is not there yet"), "ok");
    assert_eq!(found.verdict("store", "no database yet"), "ok");
    assert!(!house.state().exists() && !house.live().exists());
}

#[test]
fn a_hooks_yaml_that_would_not_be_taken_is_told_with_its_place_and_the_rest_is_looked_at_all_the_same() {
    let house = House::with_hook(&format!("{HOOK}\ntimeout: soon"));
    let found = doctor(&house);
    assert_eq!(found.code, Some(2));
    assert_eq!(found.verdict("hooks.yaml", "soon"), "fail");
    found.about("hooks.yaml", "hooks.yaml:");
    found.about("processes", "");
}

#[test]
fn secrets_are_not_looked_up_but_their_files_must_be_there_and_closed() {
    let hook = format!("{HOOK}\nsecrets: {{TOKEN: {{file: \"{{folder}}/token\"}}}}");
    let mut house = House::with_hook(&hook);
    // What the daemon gets from its own environment is nothing that a shell has.
    house.variables.clear();
    doctor(&house).fails("secrets", "hooks.site.secrets.TOKEN", "daemon's user");
    let token = house.folder.path().join("token");
    fs::write(&token, "a-token-that-nobody-sees").expect("written");
    let mode = |mode| fs::set_permissions(&token, fs::Permissions::from_mode(mode)).expect("a mode");
    mode(0o644);
    assert_eq!(doctor(&house).verdict("secrets", "everybody on this machine may read"), "warn");
    mode(0o600);
    let output = house.landfall(&["doctor", "--json"]);
    assert_eq!(Found::of(&output).verdict("secrets", "1 file"), "ok");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("a-token-that-nobody-sees"));
}

#[test]
fn a_database_that_is_damaged_is_found_so() {
    let mut house = House::with_hook(HOOK);
    house.start();
    house.stop();
    let file = house.state().join("landfall.db");
    let mut bytes = fs::read(&file).expect("a database");
    let page = bytes.len() / 2 / 4096 * 4096;
    bytes[page..page + 4096].fill(0xa5);
    fs::write(&file, bytes).expect("written");
    doctor(&house).fails("store", "is damaged", "backup");
}

#[test]
fn a_daemon_that_holds_the_state_folder_and_does_not_answer_is_a_failure() {
    let house = House::with_hook(HOOK);
    fs::create_dir(house.state()).expect("a state folder");
    let lock = fs::File::create(house.state().join("landfall.lock")).expect("a lock");
    assert_eq!(doctor(&house).verdict("daemon", "none is running"), "warn");
    flock(&lock, FlockOperation::LockExclusive).expect("locked");
    doctor(&house).fails("daemon", "cannot be asked", "restart it");
}

#[test]
fn a_full_disk_is_told_before_a_push_meets_it() {
    let house = House::with_hook(&HOOK.replace("{path:", "{min_free: 99999GiB, path:"));
    fs::create_dir(house.state()).expect("a state folder");
    doctor(&house).fails("state", "`deploy.min_free` asks for", "make room");
}

#[test]
fn a_host_key_that_ssh_would_refuse_is_told_with_the_command_that_makes_it_known() {
    let address = "ssh://git@git.example.org:2222/acme/site.git";
    let credentials = "credentials: {ssh_key: \"{folder}/key\", known_hosts: \"{folder}/known\"}";
    let house =
        House::with_hook(&HOOK.replace("{remote}", address).replace("{path:", &format!("{{{credentials}, path:")));
    let file = |name: &str, text: &str| {
        let path = house.folder.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("closed");
    };
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    file("key", "a key");
    file("known", &format!("other.example.org {key}\n"));
    let command = format!("ssh-keyscan -p 2222 git.example.org >> {}", house.folder.path().join("known").display());
    doctor(&house).fails("hook site", "host key of [git.example.org]:2222", &command);
    file("known", &format!("[git.example.org]:2222 {key}\n"));
    assert_eq!(doctor(&house).verdict("hook site", address), "ok");
    fs::set_permissions(house.folder.path().join("key"), fs::Permissions::from_mode(0o644)).expect("opened");
    doctor(&house).fails("hook site", "is open to others", "chmod 600");
}

#[test]
fn a_unit_that_would_end_deploys_at_a_restart_is_a_failure() {
    let mut house = House::with_hook(HOOK);
    let programs = house.folder.path().join("programs");
    fs::create_dir(&programs).expect("a folder");
    let says = |settings: &str| {
        let text = format!("#!/bin/sh\nprintf 'LoadState=loaded\\n{settings}'\n");
        fs::write(programs.join("systemctl"), text).expect("written");
        fs::set_permissions(programs.join("systemctl"), fs::Permissions::from_mode(0o755)).expect("a program");
    };
    house.variables.push(("PATH".into(), format!("{}:/usr/bin:/bin", programs.display())));
    says("KillMode=control-group\\nDelegate=no\\nOOMPolicy=stop\\n");
    let found = doctor(&house);
    found.fails("systemd", "ends the deploys under way", "KillMode=process");
    assert_eq!(found.verdict("systemd", "Delegate=no"), "warn");
    assert_eq!(found.verdict("systemd", "OOMPolicy=stop"), "warn");
    says("KillMode=process\\nDelegate=yes\\nOOMPolicy=continue\\n");
    assert_eq!(doctor(&house).verdict("systemd", "leaves deploys under way alone"), "ok");
    says("KillMode=process\\nDelegate=yes\\nOOMPolicy=continue\\nNoNewPrivileges=yes\\n");
    assert_eq!(doctor(&house).verdict("systemd", "steps have no sudo"), "ok");
    let text = fs::read_to_string(house.hooks_file()).expect("read");
    fs::write(house.hooks_file(), text + "    activate: sudo systemctl reload nginx\n").expect("written");
    doctor(&house).fails("systemd", "steps of `site` use it", "landfall.service");
}

#[test]
fn limits_that_do_not_hold_are_told_with_the_reason_in_the_daemons_own_words() {
    let mut house = House::with_hook(HOOK);
    house.start();
    let holding = house.json(&["status"])["holding"].clone();
    let unheld = keeper::probe_unheld_limits();
    assert_eq!(holding["unheld_limits"], Value::from(unheld.clone()));
    let found = doctor(&house);
    match (keeper::probe_cgroup(), unheld.first()) {
        (Ok(_), None) => assert_eq!(found.verdict("limits", "each run is held to its `limits`"), "ok"),
        (Ok(_), Some(why)) => assert_eq!(found.verdict("limits", why), "warn"),
        (Err(why), _) => assert_eq!(found.verdict("processes", &why), "warn"),
    }
    house.stop();
}

#[test]
fn as_root_a_hook_whose_steps_would_be_roots_is_told() {
    if !is_root("as_root_a_hook_whose_steps_would_be_roots_is_told") {
        return;
    }
    let house = House::with_hook(HOOK);
    assert_eq!(doctor(&house).verdict("hook site", "names no `user`"), "warn");
    assert_eq!(doctor(&house).verdict("hooks.yaml", "runs as root"), "warn");
    let house = House::with_hook(&format!("{HOOK}\nuser: root"));
    let findings = doctor(&house).findings;
    assert!(findings.iter().all(|it| !it["message"].as_str().is_some_and(|it| it.contains("runs as root"))));
    assert_eq!(doctor(&house).verdict("hook site", "as `root`"), "ok");
}

#[test]
fn as_root_a_folder_that_the_hooks_user_cannot_write_to_is_told_with_the_command_that_mends_it() {
    if !is_root("as_root_a_folder_that_the_hooks_user_cannot_write_to_is_told_with_the_command_that_mends_it") {
        return;
    }
    let house = House::with_hook(&format!("{HOOK}\nuser: nobody"));
    let (top, live) = (house.folder.path(), house.live());
    let opened = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    opened(top, 0o700);
    doctor(&house).fails("hook site", "on the way to its folders", &format!("chmod o+x {}", top.display()));
    opened(top, 0o755);
    let command = format!("install -d -o nobody {}", live.display());
    doctor(&house).fails("hook site", &format!("`nobody` cannot make {}", live.display()), &command);
    fs::create_dir(&live).expect("a folder");
    doctor(&house).fails("hook site", &format!("`nobody` cannot write to {}", live.display()), "chown -R nobody");
    let nobody = nix::unistd::User::from_name("nobody").expect("user database").expect("nobody");
    chown(&live, Some(nobody.uid.as_raw()), None).expect("given away");
    assert_eq!(doctor(&house).verdict("hook site", "as `nobody`"), "ok");
}

#[test]
fn hooks_with_secrets_that_share_a_user_are_told_of_one_another() {
    let lines = format!("{HOOK}\nsecrets: {{A: {{env: SECRET}}}}");
    let house = House::with_hook(&lines);
    let findings = doctor(&house).findings;
    assert!(findings.iter().all(|it| it["subject"] != "hooks apart"), "there is one hook: {findings:#?}");
    let other = "\n  shop:\n    github: acme/shop\n    secret: {env: SECRET}\n    run: \"true\"\n    deploy: {strategy: none}\n    \
                 secrets: {B: {env: SECRET}}\n";
    let text = fs::read_to_string(house.hooks_file()).expect("read") + other;
    fs::write(house.hooks_file(), &text).expect("written");
    assert_eq!(doctor(&house).verdict("hooks apart", "`shop`, `site` run as `"), "warn");
    if is_root("hooks_with_secrets_that_share_a_user_are_told_of_one_another, the second half") {
        fs::write(house.hooks_file(), text + "    user: nobody\n").expect("written");
        assert_eq!(doctor(&house).verdict("hooks apart", "has a user of its own"), "ok");
    }
}

#[test]
fn as_root_a_state_folder_that_another_user_owns_is_not_used() {
    if !is_root("as_root_a_state_folder_that_another_user_owns_is_not_used") {
        return;
    }
    let mut house = House::with_hook(HOOK);
    house.start().kill();
    let work = house.state().join("work");
    std::os::unix::fs::symlink("/etc", &work).expect("a link");
    let output = house.landfall(&["serve"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("follows no link in its state folder") && said.contains(&format!("`rm {}`", work.display())),
        "{said}"
    );
    fs::remove_file(&work).expect("removed");
    let runs = house.state().join("runs");
    fs::create_dir_all(&runs).expect("a folder");
    chown(&runs, Some(65534), None).expect("given away");
    let output = house.landfall(&["serve"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("runs` belongs to `nobody`") && said.contains("chown -RP root: "), "{said}");
}

#[test]
fn a_repository_that_was_renamed_is_told_of_by_its_old_and_new_name_until_hooks_yaml_has_the_new_one() {
    let mut house = House::with_hook("on: {push: main}\ndeploy: {strategy: none}\nrun: 'true'");
    house.start();
    let push = |digit: &str, name: &str| {
        let named = format!("\"full_name\":\"{name}\",\"id\":4711");
        let body = house.push_of(&digit.repeat(40), "refs/heads/main").replace("\"full_name\":\"acme/site\"", &named);
        house.post("/hooks/site", signed(body))
    };
    let status = || house.json(&["status"])["hooks"][0]["renamed_to"].clone();
    assert_eq!(push("a", "acme/site").0, 202);
    assert_eq!(status(), Value::Null);
    // Another repository is no rename.
    let (code, answer) = {
        let body = house.push_of(&"b".repeat(40), "refs/heads/main").replace("acme/site", "acme/else");
        house.post("/hooks/site", signed(body))
    };
    assert_eq!((code, &answer["result"], status()), (200, &"ignored".into(), Value::Null));

    let (code, answer) = push("c", "acme/new");
    let message = answer["message"].as_str().expect("a message");
    assert!(code == 200 && message.contains("`acme/site`") && message.contains("`acme/new`"), "{answer}");
    assert_eq!(status(), "acme/new");
    let text = String::from_utf8_lossy(&house.landfall(&["status"]).stdout).into_owned();
    assert!(text.contains("site: the forge now calls its repository acme/new: write that for acme/site"), "{text}");
    let sentences = house.json(&["why", "site"])["sentences"].to_string();
    assert!(
        sentences.contains("GitHub now calls its repository `acme/new`, and hooks.yaml `acme/site`"),
        "{sentences}"
    );
    doctor(&house).fails("hook site", "the forge now calls `acme/site` `acme/new`", "write `acme/new` in hooks.yaml");
    assert!(house.log().contains("the forge now calls the repository of hook `site` `acme/new`"), "{}", house.log());

    let text = fs::read_to_string(house.hooks_file()).expect("hooks.yaml");
    fs::write(house.hooks_file(), text.replace("github: acme/site", "github: acme/new")).expect("written");
    until("the new name is in force", || (house.json(&["status"])["hooks"][0]["repo"] == "acme/new").then_some(()));
    assert_eq!(status(), Value::Null);
    assert_eq!(push("c", "acme/new").0, 202, "the very push that was ignored");
    let found = doctor(&house);
    assert!(!found.findings.iter().any(|it| it["message"].to_string().contains("now calls")), "{:#?}", found.findings);
}
