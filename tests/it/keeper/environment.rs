//! Promises about what a script sees, and what it does not.
//!
//! Invariant: each test is one promise.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt};

use landfall::model::{
    job::Target,
    push::{CommitFacts, CommitId, Push, RefChange, RefName, RepoName},
    source::Forge,
};

use super::bench::{Bench, running};

/// The environment a script was started with: that of its shell, before the shell adds to it.
fn seen(bench: Bench) -> (BTreeMap<String, String>, Bench) {
    let ended = bench.finish();
    assert_eq!(ended.said(), ("succeeded", String::new()));
    let dump = String::from_utf8(fs::read(ended.bench.path("dump")).expect("dump")).expect("text");
    let pairs = dump.split_terminator('\0').map(|it| it.split_once('=').expect("a value"));
    (pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), ended.bench)
}

const DUMP: &str = "cat /proc/$$/environ > dump";

fn push(subject: &str) -> Push {
    Push {
        forge: Forge::GitHub,
        repo: RepoName::parse("acme/website").expect("a repository"),
        default_branch: Some("main".into()),
        ref_name: RefName::parse("refs/heads/main").expect("a ref"),
        change: RefChange::Moved(CommitId::parse(&"a1".repeat(20)).expect("a commit")),
        before: CommitId::parse(&"c3".repeat(20)),
        actor: "octocat".into(),
        compare_url: Some("https://github.com/acme/website/compare/c3...a1".into()),
        commit_count: Some(2),
        head: Some(CommitFacts { subject: subject.into(), author: "Ann".into(), author_email: "ann@x.org".into() }),
    }
}

#[test]
fn a_script_sees_exactly_the_environment_that_is_promised() {
    let mut bench = running(DUMP).secret("TOKEN", "hunter2hunter2").hook(|it| {
        it.env.insert("NODE_ENV".into(), "production".into());
        it.env.insert("WHO".into(), "hook".into());
        it.pass_env.extend(["PASSED".to_owned(), "NOT_SET".to_owned()]);
        it.run[0].env.insert("WHO".into(), "step".into());
    });
    bench.payload = Some(b"{}".to_vec());
    bench.job = Box::new(|job| job.push = Some(push("fix it")));
    bench.daemon_env = vec![("PASSED", "on".into()), ("DAEMON_SECRET", "x".into()), ("LANG", "de_DE.UTF-8".into())];
    let (seen, bench) = seen(bench);
    let account = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("user database").expect("an entry");
    let desk = bench.path("work").join(&account.name).join("runs/7");
    let path = |name: &str| desk.join(name).to_str().expect("text").to_owned();
    let (home, shell) = (account.dir.to_str().expect("text"), account.shell.to_str().expect("text"));
    let (sha, before, live) = ("a1".repeat(20), "c3".repeat(20), "b2".repeat(20));
    let expected = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", home),
        ("USER", &account.name),
        ("LOGNAME", &account.name),
        ("SHELL", shell),
        ("LANG", "de_DE.UTF-8"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("CI", "true"),
        ("DEPLOY_RUN_ID", "7"),
        ("DEPLOY_RUN_URL", "http://127.0.0.1:9001/runs/7"),
        ("DEPLOY_ATTEMPT", "1"),
        ("DEPLOY_HOOK", "website"),
        ("DEPLOY_REPO", "acme/website"),
        ("DEPLOY_FORGE", "github"),
        ("DEPLOY_REF", "refs/heads/main"),
        ("DEPLOY_BRANCH", "main"),
        ("DEPLOY_SHA", &sha),
        ("DEPLOY_SHORT_SHA", "a1a1a1a"),
        ("DEPLOY_PREVIOUS_SHA", &live),
        ("DEPLOY_BEFORE_SHA", &before),
        ("DEPLOY_COMPARE_URL", "https://github.com/acme/website/compare/c3...a1"),
        ("DEPLOY_COMMIT_COUNT", "2"),
        ("DEPLOY_COMMIT_SUBJECT", "fix it"),
        ("DEPLOY_COMMIT_AUTHOR", "Ann"),
        ("DEPLOY_COMMIT_AUTHOR_EMAIL", "ann@x.org"),
        ("DEPLOY_ACTOR", "octocat"),
        ("DEPLOY_TRIGGER", "push"),
        ("DEPLOY_STEP", "run"),
        ("DEPLOY_PAYLOAD", &path("payload.json")),
        ("DEPLOY_OUTPUT", &path("output")),
        ("NODE_ENV", "production"),
        ("WHO", "step"),
        ("PASSED", "on"),
        ("TOKEN", "hunter2hunter2"),
        ("LANDFALL_RUN_TOKEN", bench.token.as_str()),
    ];
    let expected: BTreeMap<String, String> = expected.map(|(name, value)| (name.into(), value.into())).into();
    assert_eq!(seen, expected);
}

#[test]
fn what_a_payload_says_reaches_a_script_as_values_and_nothing_else() {
    let hostile = "$(touch owned); `touch owned` 'x' \"y\"\n&& touch owned\0 | é";
    let mut bench = running(&format!("{DUMP}; echo \"$DEPLOY_COMMIT_SUBJECT\""));
    bench.job = Box::new(move |job| {
        job.push = Some(push(hostile));
        job.actor = hostile.into();
        let ref_name = RefName::parse("refs/heads/$(touch${IFS}owned)");
        job.target = Target::Commit { commit: CommitId::parse(&"a1".repeat(20)).expect("a commit"), ref_name };
    });
    let (seen, bench) = seen(bench);
    assert_eq!(seen["DEPLOY_COMMIT_SUBJECT"], hostile.replace('\0', ""));
    assert_eq!(seen["DEPLOY_ACTOR"], hostile.replace('\0', ""));
    assert_eq!(seen["DEPLOY_BRANCH"], "$(touch${IFS}owned)");
    assert!(!bench.path("owned").exists());
}

#[test]
fn a_huge_subject_does_not_keep_a_script_from_starting() {
    let mut bench = running(DUMP);
    bench.job = Box::new(|job| job.push = Some(push(&"ü".repeat(1 << 20))));
    assert_eq!(seen(bench).0["DEPLOY_COMMIT_SUBJECT"], "ü".repeat(4096));
}

#[test]
fn the_payload_is_a_file_that_only_the_user_can_read() {
    let mut bench = running("cat \"$DEPLOY_PAYLOAD\"; stat -c %a \"$DEPLOY_PAYLOAD\"");
    bench.payload = Some(b"{\"zen\": \"; rm -rf /\"}\n".to_vec());
    assert_eq!(bench.finish().output(), ["{\"zen\": \"; rm -rf /\"}", "600"]);
}

#[test]
fn a_script_gets_three_descriptors_and_none_of_ours() {
    let ended = running("ls /proc/$$/fd; readlink /proc/$$/fd/0").finish();
    assert_eq!(ended.output(), ["0", "1", "2", "/dev/null"]);
}

#[test]
fn a_script_starts_with_fresh_signals_and_an_ordinary_umask() {
    let text = "grep -E '^Sig(Blk|Ign)' /proc/$$/status | cut -f2; umask; ps -o sid= -p $$ | tr -d ' '; echo $$";
    let output = running(text).finish().output();
    // The two signals behind the 31 ordinary ones belong to the C library and cannot be set.
    let ordinary = |text: &str| u64::from_str_radix(text, 16).expect("a mask") & 0x7fff_ffff;
    assert_eq!((ordinary(&output[0]), ordinary(&output[1]), output[2].as_str()), (0, 0, "0022"));
    assert_eq!(output[3], output[4], "a session of its own");
}

#[test]
fn a_step_runs_where_it_says() {
    let bench = running("pwd").hook(|it| it.run[0].cwd = Some("sub".into()));
    fs::create_dir(bench.path("sub")).expect("folder");
    let expected = fs::canonicalize(bench.path("sub")).expect("path").to_str().expect("text").to_owned();
    assert_eq!(bench.finish().output(), [expected]);
    let missing = running("pwd").hook(|it| it.run[0].cwd = Some("missing".into())).finish();
    assert!(missing.said().1.contains("/missing` as"), "{:?}", missing.said());
}

#[test]
fn without_another_user_the_state_folder_stays_closed() {
    let ended = running("true").finish();
    let mode = fs::metadata(ended.bench.state.path()).expect("metadata").mode();
    assert_eq!(mode & 0o777, 0o700);
}
