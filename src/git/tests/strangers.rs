//! Promises about submodules on hosts that are not the hook's: where a redirect leads, and what people are told.

use std::fs;

use git2::transport::{Service, SmartSubtransport};

use super::{
    Room, git,
    https::{keyholders, token},
    server::{GitServer, Judge, Verdict, everyone},
    submodules::{embed, nested, repository},
};
use crate::{
    git::{
        Fetched, GitFailure, Login, SILENCE,
        remote::Remote,
        transport::{
            https::Https,
            journey::{Journey, NamedBy},
        },
    },
    model::{deploy::Submodules, job::Target, push::CommitId, run::FailureClass},
};

/// Sends everything below `/old/` to another server.
fn redirecting(to: &GitServer) -> Judge {
    let to = to.address;
    Box::new(move |request| match request.target.strip_prefix("/old/") {
        Some(rest) => Verdict::Answer(format!("301 Moved Permanently\r\nLocation: http://{to}/{rest}")),
        None => Verdict::Serve,
    })
}

/// A room whose source has one submodule at this URL, and is fetched from this server.
fn with_submodule(room: &mut Room, server: &GitServer, url: &str, commit: &str) -> CommitId {
    let commit = embed(room, "source", ("lib", "lib", url), commit);
    room.remote = format!("http://{}/source/.git", server.address);
    room.scope.submodules = Submodules::Recursive;
    commit
}

fn fetch(room: &Room, logins: Vec<Login>, commit: &CommitId) -> Result<Fetched, GitFailure> {
    room.fetch_from(&room.remote, logins, Target::Commit { commit: commit.clone(), ref_name: None })
}

#[test]
fn a_submodule_whose_url_redirects_to_another_host_is_fetched_there_where_nothing_is_shown() {
    let mut room = Room::new();
    let lib = repository(&room, "far/lib", &[("l", "far\n")]);
    let far = GitServer::plain(&room.path("far"), everyone());
    let near = GitServer::plain(room.folder.path(), redirecting(&far));
    let commit = with_submodule(&mut room, &near, "../../old/lib/.git", &lib);
    fetch(&room, Vec::new(), &commit).expect("followed");
    let tree = room.path("tree");
    room.stage(&commit, room.fresh(&tree), None).expect("staged");
    assert_eq!(fs::read(tree.join("lib/l")).expect("a file"), b"far\n");
    let seen = far.seen();
    assert!(seen.iter().any(|it| it.method == "POST") && seen.iter().all(|it| it.authorization.is_none()));
}

#[test]
fn a_submodule_whose_url_redirects_to_another_host_is_refused_where_we_show_who_we_are() {
    let mut room = Room::new();
    let lib = repository(&room, "far/lib", &[("l", "far\n")]);
    let far = GitServer::plain(&room.path("far"), everyone());
    let near = GitServer::plain(room.folder.path(), redirecting(&far));
    let commit = with_submodule(&mut room, &near, "../../old/lib/.git", &lib);
    let failure = fetch(&room, token("hunter2"), &commit).expect_err("another host");
    assert_eq!(failure.class, FailureClass::Permanent);
    let expected = format!("redirects to `http://{}/lib/.git`; if that is right, change its URL", far.address);
    assert!(failure.reason.contains(&expected), "{}", failure.reason);
    assert!(failure.reason.contains("submodule `lib`: ") && failure.reason.contains("`.gitmodules`"));
    assert_eq!(far.seen(), []);
}

#[test]
fn a_redirect_of_a_submodule_into_a_private_network_is_refused_where_the_hooks_remote_is_outside() {
    let room = Room::new();
    let far = GitServer::plain(room.folder.path(), everyone());
    let near = GitServer::plain(room.folder.path(), redirecting(&far));
    let remote = |text: &str| Remote::parse(text).expect(text);
    let named_by = NamedBy::Gitmodules { hooks_remote: remote("https://93.184.215.14/acme/site") };
    let old = remote(&format!("http://{}/old/source/.git", near.address));
    // As if it were outside, too.
    let journey = Journey::new(&[], SILENCE, &old, (named_by, true));
    let https = Https::new(&journey).expect("a client");
    assert!(https.action("", Service::UploadPackLs).is_err());
    let failure = journey.trouble.take().expect("noted");
    assert_eq!(failure.class, FailureClass::Permanent);
    assert!(failure.reason.contains("in a private network where the remote of the hook is not"), "{}", failure.reason);
    assert_eq!(far.seen(), []);
}

#[test]
fn a_private_submodule_is_told_how_its_own_host_is_shown_credentials() {
    let mut room = Room::new();
    let lib = repository(&room, "far/lib", &[("l", "far\n")]);
    let far = GitServer::plain(&room.path("far"), keyholders("other"));
    let near = GitServer::plain(room.folder.path(), redirecting(&far));
    let url = format!("http://{}/lib/.git", far.address);
    let commit = with_submodule(&mut room, &near, &url, &lib);
    let failure = fetch(&room, Vec::new(), &commit).expect_err("private");
    let expected = "asks for credentials (or is not there): add one with `host: 127.0.0.1` to `deploy.credentials`";
    assert!(failure.reason.contains(expected), "{}", failure.reason);
    assert!(failure.reason.starts_with("submodule `lib`: "), "{}", failure.reason);
    // What it says helps.
    let login = Login { host: Some("127.0.0.1".into()), ..token("other").remove(0) };
    fetch(&room, vec![login], &commit).expect("let in");

    let commit = with_submodule(&mut room, &near, "../../old/lib/.git", &lib);
    fs::remove_dir_all(room.path("mirror.git")).expect("anew");
    let failure = fetch(&room, Vec::new(), &commit).expect_err("private");
    assert!(failure.reason.contains("nothing is shown where one leads: change its URL"), "{}", failure.reason);

    let failure = room.fetch_from(&url, Vec::new(), Target::DefaultBranch).expect_err("private");
    assert!(failure.reason.ends_with("(or is not there): `deploy.credentials` sets them"), "{}", failure.reason);
}

#[test]
fn a_commit_of_a_submodule_that_was_never_pushed_is_told_with_its_remote_and_the_usual_cause() {
    let mut room = Room::new();
    repository(&room, "lib", &[("l", "lib\n")]);
    room.commit(&[("a", "1")]);
    embed(&room, "source", ("lib", "lib", "../lib"), &"12".repeat(20));
    room.scope.submodules = Submodules::On;
    let failure = room.fetch_commit(&room.head()).expect_err("never pushed");
    assert_eq!(failure.class, FailureClass::Permanent);
    let expected = format!(
        "submodule `lib`: commit 1212121, which the commit around it wants, is not on the remote {}: most likely it was \
         never pushed there",
        room.path("lib").display()
    );
    assert!(failure.reason.starts_with(&expected), "{}", failure.reason);
}

#[test]
fn a_submodule_within_another_is_named_by_its_whole_path() {
    let (mut room, commit) = nested();
    room.scope.submodules = Submodules::Recursive;
    let target = Target::Commit { commit, ref_name: None };
    let (fetched, said) = room.fetch_by_child(room.order(&room.remote, Vec::new(), target), &[]);
    fetched.expect("fetched");
    let deep = git(&room.path("deep"), &["rev-parse", "--short=7", "HEAD"]);
    assert!(said.contains(&format!("submodule `vendor/lib/inner` is at {deep}")), "{said}");
    assert!(said.contains("submodule `vendor/lib` is at "), "{said}");
}
