//! Promises of the way over HTTP and HTTPS.

use crate::git::{Login, LoginProof};
use std::{ffi::OsStr, fs};

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    Room, git, id,
    server::{GitServer, Judge, Request, Verdict, certify, everyone},
};
use crate::model::{job::Target, push::CommitId, run::FailureClass, secret::Secret};

pub(super) fn token(text: &str) -> Vec<Login> {
    vec![Login {
        host: None,
        proof: LoginProof::Token {
            username: "x-access-token".into(),
            token: Secret::new(text.into()).expect("not empty"),
        },
    }]
}

fn by_id(commit: &CommitId) -> Target {
    Target::Commit { commit: commit.clone(), ref_name: None }
}

/// Lets in who knows the token.
pub(super) fn keyholders(text: &str) -> Judge {
    let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("x-access-token:{text}")));
    Box::new(move |request: &Request| match request.authorization.as_deref() {
        Some(it) if it == expected => Verdict::Serve,
        Some(_) | None => Verdict::Answer("401 Unauthorized\r\nWWW-Authenticate: Basic".into()),
    })
}

/// Answers everything with the same status line and headers.
fn always(head: &str) -> Judge {
    let head = head.to_owned();
    Box::new(move |_| Verdict::Answer(head.clone()))
}

fn url(server: &GitServer) -> String {
    format!("http://{}/source/.git", server.address)
}

#[test]
fn a_private_authority_is_trusted_when_the_environment_names_it_and_no_other_is() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    let server = GitServer::tls(room.folder.path(), &room.path("authority.pem"), everyone());
    certify(&room.path("other.pem"));
    let remote = format!("https://{}/source/.git", server.address);

    let authority = |name: &str| room.path(name).into_os_string();
    let (right, wrong) = (authority("authority.pem"), authority("other.pem"));
    let order = || room.order(&remote, Vec::new(), Target::DefaultBranch);
    let (refused, _) = room.fetch_by_child(order(), &[("SSL_CERT_FILE", &wrong)]);
    let refused = refused.expect_err("another authority");
    assert_eq!(refused.class, FailureClass::Permanent, "{}", refused.reason);
    assert!(refused.reason.contains("cannot trust `127.0.0.1`"), "{}", refused.reason);

    let (fetched, said) = room.fetch_by_child(order(), &[("SSL_CERT_FILE", &right)]);
    assert_eq!(fetched.expect("fetched").commit, first);
    assert!(said.contains("received 3 objects"), "{said}");
    let second = room.commit(&[("a", "2")]);
    let (fetched, _) = room.fetch_by_child(order(), &[("SSL_CERT_FILE", &right)]);
    assert_eq!(fetched.expect("fetched").commit, second);
    git(&room.path("mirror.git"), &["fsck", "--strict"]);
}

#[test]
fn a_token_opens_the_door_and_is_shown_to_nobody() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    let server = GitServer::plain(room.folder.path(), keyholders("hunter2"));
    for (door, expected) in [(Vec::new(), "asks for credentials"), (token("wrong"), "does not accept the token")] {
        let failure = room.fetch_from(&url(&server), door, by_id(&commit)).expect_err("locked");
        assert_eq!(failure.class, FailureClass::Permanent);
        assert!(failure.reason.contains(expected), "{}", failure.reason);
    }
    let (fetched, said) = room.fetch_by_child(room.order(&url(&server), token("hunter2"), by_id(&commit)), &[]);
    assert_eq!(fetched.expect("let in").commit, commit);
    assert!(!said.contains("hunter2"), "{said}");
    assert!(said.contains("warning: the token goes over plain http"), "{said}");

    fs::remove_dir_all(room.path("mirror.git")).expect("anew");
    let in_url = url(&server).replace("http://", "http://x-access-token:hunter2@");
    let (fetched, said) = room.fetch_by_child(room.order(&in_url, Vec::new(), by_id(&commit)), &[]);
    assert_eq!(fetched.expect("let in").commit, commit);
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_redirect_is_followed_on_the_same_host_and_never_to_another() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    let judge: Judge = Box::new(|request| match request.target.strip_prefix("/old/") {
        Some(rest) => Verdict::Answer(format!("301 Moved Permanently\r\nLocation: /source/.git/{rest}")),
        None => Verdict::Serve,
    });
    let server = GitServer::plain(room.folder.path(), judge);
    let old = format!("http://{}/old", server.address);
    assert_eq!(room.fetch_from(&old, token("hunter2"), by_id(&commit)).expect("followed").commit, commit);
    let posted = server.seen().into_iter().find(|it| it.method == "POST").expect("a POST");
    assert_eq!(posted.target, "/source/.git/git-upload-pack");

    let elsewhere = GitServer::plain(room.folder.path(), everyone());
    let location = format!("302 Found\r\nLocation: {}/info/refs?service=git-upload-pack", url(&elsewhere));
    let server = GitServer::plain(room.folder.path(), always(&location));
    let other = room.commit(&[("a", "2")]);
    let failure = room.fetch_from(&url(&server), token("hunter2"), by_id(&other)).expect_err("another host");
    assert_eq!(failure.class, FailureClass::Permanent);
    assert!(failure.reason.contains("redirects to") && failure.reason.contains(&url(&elsewhere)), "{}", failure.reason);
    assert_eq!(elsewhere.seen(), []);
}

#[test]
fn what_a_server_answers_decides_whether_another_try_may_help() {
    let room = Room::new();
    let cases = [
        ("404 Not Found", FailureClass::Permanent, "there is no repository"),
        ("403 Forbidden", FailureClass::Permanent, "forbidden to us, who show nothing there"),
        ("200 OK\r\nContent-Encoding: gzip", FailureClass::Permanent, "answers compressed"),
        ("200 OK\r\nContent-Type: text/html", FailureClass::Permanent, "does not answer as a git server"),
        ("500 Internal Server Error", FailureClass::Fetch, "answers 500"),
        ("503 Service Unavailable", FailureClass::Fetch, "answers 503"),
        ("429 Too Many Requests", FailureClass::Fetch, "answers 429"),
    ];
    for (head, class, expected) in cases {
        let server = GitServer::plain(room.folder.path(), always(head));
        let failure = room.fetch_from(&url(&server), Vec::new(), Target::DefaultBranch).expect_err(head);
        assert_eq!(failure.class, class, "{}", failure.reason);
        assert!(failure.reason.contains(expected), "{}", failure.reason);
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = format!("http://{}/x", listener.local_addr().expect("an address"));
    drop(listener);
    let failure = room.fetch_from(&nobody, Vec::new(), Target::DefaultBranch).expect_err("nobody listens");
    assert_eq!(failure.class, FailureClass::Fetch, "{}", failure.reason);
}

#[test]
fn a_server_of_plain_files_is_told_from_a_git_server_with_what_to_switch_on() {
    let room = Room::new();
    let judge: Judge = Box::new(|_| Verdict::Body(format!("{}\trefs/heads/main\n", "12".repeat(20)).into_bytes()));
    let server = GitServer::plain(room.folder.path(), judge);
    let failure = room.fetch_from(&url(&server), Vec::new(), Target::DefaultBranch).expect_err("files");
    assert_eq!(failure.class, FailureClass::Permanent);
    assert!(failure.reason.contains("dumb protocol alone"), "{}", failure.reason);
    assert!(failure.reason.contains("`git http-backend`"), "{}", failure.reason);
}

#[test]
fn an_answer_that_breaks_off_leaves_a_mirror_that_works() {
    let room = Room::new();
    let commit = room.commit(&[("a", &"1".repeat(5000))]);
    let judge: Judge = Box::new(|request| match request.method.as_str() {
        // A length that is not kept: what follows is the end of the connection.
        "POST" => Verdict::Answer(
            "200 OK\r\nContent-Type: application/x-git-upload-pack-result\r\nTransfer-Encoding: chunked".into(),
        ),
        _ => Verdict::Serve,
    });
    let server = GitServer::plain(room.folder.path(), judge);
    let failure = room.fetch_from(&url(&server), Vec::new(), by_id(&commit)).expect_err("broken off");
    assert_eq!(failure.class, FailureClass::Fetch, "{}", failure.reason);
    let server = GitServer::plain(room.folder.path(), everyone());
    assert_eq!(room.fetch_from(&url(&server), Vec::new(), by_id(&commit)).expect("again").commit, commit);
}

#[test]
fn a_commit_on_no_branch_is_asked_for_by_its_id() {
    let room = Room::new();
    room.commit(&[("a", "1")]);
    let server = GitServer::plain(room.folder.path(), everyone());
    let orphan = id(&room.git(&["commit-tree", "-m", "on no branch", "HEAD^{tree}"]));
    let refused = room.fetch_from(&url(&server), Vec::new(), by_id(&orphan)).expect_err("not served by id");
    assert_eq!(refused.class, FailureClass::Permanent);
    assert!(refused.reason.contains("is no longer on the remote"), "{}", refused.reason);

    room.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    assert_eq!(room.fetch_from(&url(&server), Vec::new(), by_id(&orphan)).expect("by id").commit, orphan);
    let gone = room.fetch_from(&url(&server), Vec::new(), by_id(&id(&"12".repeat(20)))).expect_err("gone");
    assert_eq!(gone.class, FailureClass::Permanent, "{}", gone.reason);
    assert!(gone.reason.contains("commit 1212121 is no longer on the remote"), "{}", gone.reason);
}

#[test]
fn a_sha256_repository_far_away_is_refused_for_what_it_is() {
    let room = Room::new();
    fs::create_dir(room.path("sha256")).expect("a folder");
    git(&room.path("sha256"), &["init", "-q", "--object-format=sha256"]);
    git(&room.path("sha256"), &["commit", "-q", "--allow-empty", "-m", "x"]);
    let server = GitServer::plain(room.folder.path(), everyone());
    let remote = format!("http://{}/sha256/.git", server.address);
    let failure = room.fetch_from(&remote, Vec::new(), Target::DefaultBranch).expect_err("sha256");
    assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
    assert!(failure.reason.contains("SHA-256"), "{}", failure.reason);
}

#[test]
fn an_empty_repository_far_away_is_called_empty() {
    let room = Room::new();
    let server = GitServer::plain(room.folder.path(), everyone());
    let failure = room.fetch_from(&url(&server), Vec::new(), Target::DefaultBranch).expect_err("empty");
    assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
    assert!(failure.reason.contains("is empty"), "{}", failure.reason);
}

#[test]
fn a_persons_own_git_configuration_sends_no_fetch_elsewhere() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    let server = GitServer::plain(room.folder.path(), everyone());
    let instead = format!("[url \"http://127.0.0.1:1/\"]\n\tinsteadOf = http://{}/\n", server.address);
    fs::write(room.path(".gitconfig"), instead).expect("written");
    let home: &OsStr = room.folder.path().as_os_str();
    let (fetched, _) = room.fetch_by_child(room.order(&url(&server), Vec::new(), by_id(&commit)), &[("HOME", home)]);
    assert_eq!(fetched.expect("fetched").commit, commit);
}
