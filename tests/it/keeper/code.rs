//! Promises about the code a run brings: fetched and staged as the hook's user, at exactly the commit.
//!
//! Invariant: each test is one promise.

use std::{fs, path::Path, process::Command, time::Duration};

use landfall::model::{
    deploy::{Clean, Dirty, Git, Strategy},
    job::{Job, Target},
    push::{CommitId, RefName},
    remote::WrittenRemote,
    run::{Outcome, RunStep},
};

use super::bench::{Bench, running};

pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let out = Command::new("git").arg("-C").arg(folder).args(arguments).output().expect("git");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text").trim().to_owned()
}

/// Into the folder `site`, which keeps what was edited in it.
pub fn in_place(git: Git, bench: &Bench) -> Strategy {
    Strategy::InPlace { git, path: bench.path("site"), dirty: Dirty::Save, clean: Clean::None }
}

/// A run of a hook whose remote is a repository with one commit; the repository, too.
pub fn deploying(text: &str, strategy: impl FnOnce(Git, &Bench) -> Strategy) -> (Bench, CommitId) {
    let mut bench = running(text);
    let remote = bench.path("remote");
    fs::create_dir(&remote).expect("folder");
    git(&remote, &["init", "-q", "-b", "main"]);
    fs::write(remote.join("index.html"), "hello\n").expect("file");
    git(&remote, &["add", "."]);
    git(&remote, &["-c", "user.name=Ann", "-c", "user.email=ann@x.org", "commit", "-q", "-m", "first words"]);
    let commit = CommitId::parse(&git(&remote, &["rev-parse", "HEAD"])).expect("a commit");
    let source = Git::plain(WrittenRemote::parse(remote.to_str().expect("text")).expect("a remote"));
    bench.hook.deploy.strategy = strategy(source, &bench);
    let target = commit.clone();
    bench.job = Box::new(move |job: &mut Job| {
        let ref_name = RefName::parse("refs/heads/main");
        job.target = Target::Commit { commit: target.clone(), ref_name };
    });
    (bench, commit)
}

#[test]
fn a_checkout_runs_in_a_fresh_tree_of_the_commit_that_is_gone_afterwards() {
    let text = "cat index.html; pwd; echo $DEPLOY_PATH $DEPLOY_SHA; echo $DEPLOY_COMMIT_SUBJECT; test -f $DEPLOY_CHANGED_FILES";
    let (bench, commit) = deploying(text, |git, _| Strategy::Checkout { git });
    let ended = bench.finish();
    assert_eq!(ended.outcome(), Outcome::Succeeded, "{:?}", ended.output());
    let output = ended.output();
    let tree = output[output.iter().position(|it| it == "hello").expect("the file") + 1].clone();
    assert!(output.contains(&format!("{tree} {commit}")) && output.contains(&"first words".to_owned()), "{output:?}");
    assert!(tree.ends_with("/trees/7") && !Path::new(&tree).exists());
    assert_eq!(ended.facts().commit, Some(commit));
}

#[test]
fn an_in_place_tree_stays_and_a_patch_of_local_edits_stays_with_the_run() {
    let (bench, _) = deploying("cat index.html", in_place);
    git(bench.state.path(), &["clone", "-q", bench.path("remote").to_str().expect("text"), "site"]);
    fs::write(bench.path("site/index.html"), "edited\n").expect("edited");
    let ended = bench.finish();
    assert_eq!(ended.outcome(), Outcome::Succeeded, "{:?}", ended.output());
    assert!(ended.output().contains(&"hello".to_owned()));
    assert!(fs::read_to_string(ended.bench.dir.patch()).expect("patch").contains("+edited"));
}

#[test]
fn as_root_the_tree_and_the_mirror_are_the_users() {
    if !super::root::is_root("as_root_the_tree_and_the_mirror_are_the_users") {
        return;
    }
    let text = "stat -c %U . index.html; touch built; ls -d $HOME/nothing ../../mirrors/*.git | xargs stat -c %U";
    let (bench, _) = deploying(text, |git, _| Strategy::Checkout { git });
    let bench = bench.hook(|it| {
        it.user = Some("nobody".into());
        it.run[0].shell = vec!["/bin/sh".into()];
    });
    let ended = bench.finish();
    assert_eq!(ended.outcome(), Outcome::Succeeded, "{:?}", ended.output());
    assert_eq!(ended.output().iter().filter(|it| *it == "nobody").count(), 3, "{:?}", ended.output());
}

#[test]
fn a_commit_that_is_gone_fails_the_fetch_for_good() {
    let (mut bench, _) = deploying("echo never", |git, _| Strategy::Checkout { git });
    bench.job = Box::new(|job| {
        job.target = Target::Commit { commit: CommitId::parse(&"d4".repeat(20)).expect("a commit"), ref_name: None };
    });
    let ended = bench.finish();
    assert_eq!(ended.outcome().step(), Some(RunStep::Fetch), "{:?}", ended.outcome());
    assert!(!ended.output().contains(&"never".to_owned()));
}

#[test]
fn a_cancel_ends_a_fetch_that_hangs() {
    // It takes the connection and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let remote = format!("http://{}/acme/website.git", silent.local_addr().expect("address"));
    let (mut bench, _) = deploying("echo never", |git, _| Strategy::Checkout { git });
    bench.hook.deploy.strategy =
        Strategy::Checkout { git: Git::plain(WrittenRemote::parse(remote).expect("a remote")) };
    let keeper = bench.start();
    let _connection = silent.accept().expect("the fetch connects");
    keeper.signal(rustix::process::Signal::TERM);
    let ended = keeper.finish();
    assert_eq!((ended.said(), ended.outcome().step()), (("cancelled", "cancelled".into()), Some(RunStep::Fetch)));
}

#[test]
fn the_timeout_of_the_run_ends_a_fetch_that_hangs() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let remote = format!("http://{}/acme/website.git", silent.local_addr().expect("address"));
    let (mut bench, _) = deploying("echo never", |git, _| Strategy::Checkout { git });
    bench.hook.deploy.strategy =
        Strategy::Checkout { git: Git::plain(WrittenRemote::parse(remote).expect("a remote")) };
    let ended = bench.hook(|it| it.timeout = Duration::from_secs(1)).finish();
    assert_eq!((ended.said().0, ended.outcome().step()), ("timed_out", Some(RunStep::Fetch)));
    assert!(!ended.output().contains(&"never".to_owned()));
}

#[test]
fn files_that_were_in_the_way_stay_with_the_run() {
    let (bench, _) = deploying("cat index.html", in_place);
    fs::create_dir(bench.path("site")).expect("a folder");
    let site = bench.path("site");
    git(&site, &["init", "-q", "-b", "main"]);
    git(&site, &["remote", "add", "origin", bench.path("remote").to_str().expect("text")]);
    fs::write(site.join("index.html"), "mine\n").expect("written");
    let ended = bench.finish();
    assert_eq!(ended.outcome(), Outcome::Succeeded, "{:?}", ended.output());
    assert!(ended.output().contains(&"hello".to_owned()));
    let saved = ended.bench.dir.patch_files().join("index.html");
    assert_eq!(fs::read_to_string(saved).expect("saved"), "mine\n");
}
