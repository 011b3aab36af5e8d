//! Promises about files that are kept in Git LFS.

use super::ssh_login;
use crate::git::Login;
use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use sha2::{Digest, Sha256};

use super::{
    Room, git,
    https::{keyholders, token},
    in_place::{FAIL, SAVE},
    make_executable,
    server::{GitServer, Judge, Request, Sshd, Verdict},
};
use crate::{
    git::GitFailure,
    model::{deploy::Lfs, job::Target, push::CommitId, run::FailureClass},
};

const ATTRIBUTES: (&str, &str) = (".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");

fn oid(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

fn pointer(content: &[u8]) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n", oid(content), content.len())
}

/// Answers the batch API and hands out objects, as a forge does; `files` is where they are said to be.
fn forge(objects: &[&[u8]], door: Option<&'static str>, files: Option<String>) -> Judge {
    let objects: BTreeMap<String, Vec<u8>> = objects.iter().map(|it| (oid(it), it.to_vec())).collect();
    let guard = door.map(keyholders);
    Box::new(move |request: &Request| {
        if let Some(Verdict::Answer(refused)) = guard.as_ref().map(|it| it(request)) {
            return Verdict::Answer(refused);
        }
        if let Some(name) = request.target.strip_prefix("/objects/") {
            return match objects.get(name) {
                Some(content) => Verdict::Body(content.clone()),
                None => Verdict::Answer("404 Not Found".into()),
            };
        }
        if !request.target.ends_with("/info/lfs/objects/batch") {
            return Verdict::Serve;
        }
        let asked: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
        let files = files.clone().unwrap_or_else(|| format!("http://{}", request.host));
        let answers = asked["objects"].as_array().expect("a list").iter().map(|it| {
            let (oid, size) = (it["oid"].as_str().expect("an oid"), it["size"].as_u64().expect("a size"));
            match objects.contains_key(oid) {
                true => serde_json::json!({"oid": oid, "size": size, "actions": {"download": {
                    "href": format!("{files}/objects/{oid}"), "header": {"X-Ticket": "of the forge"},
                }}}),
                false => serde_json::json!({"oid": oid, "size": size, "error": {"code": 404, "message": "no such"}}),
            }
        });
        let answer = serde_json::json!({"transfer": "basic", "objects": answers.collect::<Vec<_>>()});
        Verdict::Body(serde_json::to_vec(&answer).expect("JSON"))
    })
}

fn served(room: &mut Room, judge: Judge) -> GitServer {
    let server = GitServer::plain(room.folder.path(), judge);
    room.remote = format!("http://{}/source/.git", server.address);
    room.scope.lfs = Lfs::Pull;
    server
}

fn pull(room: &Room, commit: &CommitId, door: Vec<Login>, name: &str) -> Result<PathBuf, GitFailure> {
    room.fetch_from(&room.remote, door, Target::Commit { commit: commit.clone(), ref_name: None })?;
    let tree = room.path(name);
    room.stage(commit, room.fresh(&tree), None)?;
    Ok(tree)
}

fn batches(server: &GitServer) -> usize {
    server.seen().iter().filter(|it| it.target.ends_with("/batch")).count()
}

#[test]
fn a_tree_that_needs_git_lfs_is_refused_by_the_name_of_its_file_with_what_to_set() {
    let room = Room::new();
    let text = pointer(b"abc");
    let commit = room.commit(&[ATTRIBUTES, ("big/a.bin", &text), ("doc.txt", &text)]);
    let failure = room.stage_fresh(&commit, "tree").expect_err("lfs");
    assert_eq!(failure.class, FailureClass::Permanent);
    for word in ["Git LFS", "`big/a.bin`", "`deploy.lfs`", "`pull`", "`ignore`"] {
        assert!(failure.reason.contains(word), "{}", failure.reason);
    }
    assert!(!room.path("tree").exists());

    let real = room.commit(&[("big/a.bin", "real bytes")]);
    let staged = room.stage_fresh(&real, "tree").expect("nothing but text that looks like a pointer");
    assert!(staged.join("doc.txt").exists());
}

#[test]
fn a_working_tree_is_refused_too_even_where_the_pointers_are_old() {
    let mut room = Room::new();
    let text = pointer(b"abc");
    room.scope.lfs = Lfs::Ignore;
    let first = room.commit(&[ATTRIBUTES, ("a.bin", &text)]);
    room.bring(&first, FAIL).expect("pointers were wanted");
    assert_eq!(room.text("a.bin"), text);
    room.scope.lfs = Lfs::Fail;
    let second = room.commit(&[("b", "1")]);
    let failure = room.bring(&second, FAIL).expect_err("lfs");
    assert!(failure.reason.contains("`a.bin`"), "{}", failure.reason);
    assert!(!room.home().join("b").exists());
}

#[test]
fn files_of_git_lfs_are_pulled_once_and_land_in_place_of_their_pointers() {
    let mut room = Room::new();
    let (big, small): (Vec<u8>, &[u8]) = ((0..3_000_000_u32).map(|it| (it % 251) as u8).collect(), b"#!/bin/sh\n");
    room.commit(&[ATTRIBUTES, ("a/big.bin", &pointer(&big)), ("same.bin", &pointer(&big))]);
    room.write(&[("run.bin", Some(pointer(small).as_bytes()))]);
    make_executable(&room.source().join("run.bin"));
    let commit = room.commit(&[("plain", "1")]);
    let server = served(&mut room, forge(&[&big, small], Some("hunter2"), None));
    let tree = pull(&room, &commit, token("hunter2"), "tree").expect("pulled");
    assert!(
        fs::read(tree.join("a/big.bin")).expect("file") == big && fs::read(tree.join("same.bin")).expect("file") == big
    );
    assert_eq!(fs::read(tree.join("run.bin")).expect("file"), small);
    assert_eq!(fs::metadata(tree.join("run.bin")).expect("file").permissions().mode() & 0o777, 0o755);
    assert_eq!(batches(&server), 1);
    let fetched = server.seen().into_iter().filter(|it| it.target.starts_with("/objects/")).count();
    assert_eq!(fetched, 2, "each object comes once");

    let second = room.commit(&[("plain", "2")]);
    pull(&room, &second, token("hunter2"), "again").expect("pulled");
    assert_eq!(batches(&server), 1, "nothing was missing");
    let failure =
        pull(&room, &room.commit(&[("b.bin", &pointer(b"x"))]), token("hunter2"), "none").expect_err("missing");
    assert_eq!(failure.class, FailureClass::Permanent);
    assert!(failure.reason.contains("`b.bin`") && failure.reason.contains("404 no such"), "{}", failure.reason);
}

#[test]
fn a_server_of_files_elsewhere_gets_the_forges_ticket_and_none_of_our_credentials() {
    let mut room = Room::new();
    let commit = room.commit(&[ATTRIBUTES, ("a.bin", &pointer(b"abc"))]);
    let elsewhere = GitServer::plain(room.folder.path(), forge(&[b"abc"], None, None));
    let files = format!("http://{}", elsewhere.address);
    let own = served(&mut room, forge(&[b"abc"], Some("hunter2"), Some(files)));
    let tree = pull(&room, &commit, token("hunter2"), "tree").expect("pulled");
    assert_eq!(fs::read(tree.join("a.bin")).expect("file"), b"abc");
    assert!(own.seen().iter().all(|it| it.authorization.is_some()));
    assert!(!elsewhere.seen().is_empty() && elsewhere.seen().iter().all(|it| it.authorization.is_none()));
}

#[test]
fn a_server_that_lfsconfig_names_is_asked_instead_and_without_our_credentials() {
    let mut room = Room::new();
    let elsewhere = GitServer::plain(room.folder.path(), forge(&[b"abc"], None, None));
    let config = format!("[lfs]\n\turl = http://{}/x/info/lfs\n", elsewhere.address);
    let commit = room.commit(&[ATTRIBUTES, ("a.bin", &pointer(b"abc")), (".lfsconfig", &config)]);
    let own = served(&mut room, forge(&[], Some("hunter2"), None));
    let tree = pull(&room, &commit, token("hunter2"), "tree").expect("pulled");
    assert_eq!(fs::read(tree.join("a.bin")).expect("file"), b"abc");
    assert_eq!((batches(&own), batches(&elsewhere)), (0, 1));
    assert!(elsewhere.seen().iter().all(|it| it.authorization.is_none()));
}

#[test]
fn a_server_that_lfsconfig_names_on_the_remotes_own_host_sees_our_credentials() {
    let mut room = Room::new();
    let own = served(&mut room, forge(&[b"abc"], Some("hunter2"), None));
    let config = format!("[lfs]\n\turl = http://{}/other/info/lfs\n", own.address);
    let commit = room.commit(&[ATTRIBUTES, ("a.bin", &pointer(b"abc")), (".lfsconfig", &config)]);
    pull(&room, &commit, token("hunter2"), "tree").expect("pulled");
    let asked: Vec<String> = own.seen().into_iter().map(|it| it.target).filter(|it| it.ends_with("/batch")).collect();
    assert_eq!(asked, ["/other/info/lfs/objects/batch"]);
}

#[test]
fn a_repository_sends_nobody_into_a_private_network_that_its_remote_is_not_in() {
    let mut room = Room::new();
    room.scope.lfs = Lfs::Pull;
    let inside = GitServer::plain(room.folder.path(), forge(&[b"abc"], None, None));
    let port = inside.address.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"] {
        let config = format!("[lfs]\n\turl = http://{host}:{port}/x/info/lfs\n");
        let commit = room.commit(&[ATTRIBUTES, ("a.bin", &pointer(b"abc")), (".lfsconfig", &config)]);
        let failure = room.stage_fresh(&commit, "tree").expect_err(host);
        assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
        assert!(failure.reason.contains("private network"), "{}", failure.reason);
        assert!(failure.reason.contains("`.lfsconfig`"), "{}", failure.reason);
    }
    assert_eq!(inside.seen(), []);
}

#[test]
fn an_lfsconfig_that_names_no_web_address_is_left_out_and_a_huge_one_is_refused() {
    let mut room = Room::new();
    for url in ["ssh://127.0.0.1:1/x", "file:///etc", "/etc", "ext::sh -c x", "http://"] {
        let config = format!("[lfs]\n\turl = {url}\n");
        let content = url.as_bytes();
        let commit = room.commit(&[ATTRIBUTES, ("a.bin", &pointer(content)), (".lfsconfig", &config)]);
        let own = served(&mut room, forge(&[content], None, None));
        pull(&room, &commit, Vec::new(), &format!("tree{}", content.len())).expect(url);
        assert_eq!(batches(&own), 1);
    }
    let commit = room.commit(&[("a.bin", &pointer(b"xyz")), (".lfsconfig", &"#".repeat(2 << 20))]);
    let failure = pull(&room, &commit, Vec::new(), "none").expect_err("huge");
    assert_eq!(failure.class, FailureClass::Permanent);
    assert!(failure.reason.contains("`.lfsconfig` of the tree has 2 MiB"), "{}", failure.reason);
}

#[test]
fn a_file_that_is_not_what_its_pointer_says_lands_nowhere() {
    let mut room = Room::new();
    let commit = room.commit(&[ATTRIBUTES, ("a.bin", &pointer(b"abc"))]);
    for (content, expected) in [(&b"abd"[..], "SHA-256"), (b"abcd", "longer"), (b"ab", "shorter")] {
        let lying: Judge = Box::new(move |request| match request.target.starts_with("/objects/") {
            true => Verdict::Body(content.to_vec()),
            false => forge(&[b"abc"], None, None)(request),
        });
        let _server = served(&mut room, lying);
        let failure = pull(&room, &commit, Vec::new(), "tree").expect_err(expected);
        assert_eq!(failure.class, FailureClass::Permanent);
        assert!(failure.reason.contains("`a.bin`") && failure.reason.contains(expected), "{}", failure.reason);
        assert!(!room.path("tree").exists());
    }
    let cases = [("503 Service Unavailable", FailureClass::Fetch), ("403 Forbidden", FailureClass::Permanent)];
    for (answer, class) in cases {
        let judge: Judge = Box::new(move |request| match request.target.ends_with("/batch") {
            true => Verdict::Answer(answer.into()),
            false => Verdict::Serve,
        });
        let _server = served(&mut room, judge);
        assert_eq!(pull(&room, &commit, Vec::new(), "tree").expect_err(answer).class, class);
    }
    let _server = served(&mut room, forge(&[b"abc"], None, None));
    let tree = pull(&room, &commit, Vec::new(), "tree").expect("and the truth does");
    assert_eq!(fs::read(tree.join("a.bin")).expect("file"), b"abc");
}

#[test]
fn a_working_tree_has_the_files_and_git_sees_nothing_to_do() {
    let mut room = Room::new();
    room.scope.lfs = Lfs::Ignore;
    let (one, two): (&[u8], &[u8]) = (b"one one", b"two two two");
    let first = room.commit(&[ATTRIBUTES, ("a.bin", &pointer(one)), ("b.bin", &pointer(two))]);
    room.bring(&first, FAIL).expect("pointers");
    let _server = served(&mut room, forge(&[one, two], None, None));
    git(&room.home(), &["remote", "set-url", "origin", &room.remote]);
    let second = room.commit(&[("a.bin", &pointer(two)), ("c", "1")]);
    room.bring(&second, FAIL).expect("files");
    assert_eq!((room.text("a.bin").as_bytes(), room.text("b.bin").as_bytes()), (two, two));
    assert_eq!(git(&room.home(), &["status", "--porcelain"]), "");
    // Touched and unchanged is no edit; changed is one.
    room.edit("a.bin", "two two two");
    let third = room.commit(&[("c", "2")]);
    room.bring(&third, FAIL).expect("no edit");
    room.edit("a.bin", "by hand");
    let fourth = room.commit(&[("c", "3")]);
    assert!(room.bring(&fourth, FAIL).expect_err("an edit").reason.contains("`a.bin`"));
    assert!(room.bring(&fourth, SAVE).expect("saved").patch_saved);
    assert_eq!(room.text("a.bin").as_bytes(), two);
}

#[test]
fn a_repository_of_this_machine_has_its_files_in_its_own_store() {
    let mut room = Room::new();
    let commit = room.commit(&[ATTRIBUTES, ("a.bin", &pointer(b"abc"))]);
    room.scope.lfs = Lfs::Pull;
    let failure = room.stage_fresh(&commit, "none").expect_err("not there");
    assert!(failure.reason.contains("`a.bin`"), "{}", failure.reason);
    let oid = oid(b"abc");
    let folder = room.source().join(format!(".git/lfs/objects/{}/{}", &oid[..2], &oid[2..4]));
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join(&oid), "abc").expect("a file");
    let staged = room.stage_fresh(&commit, "tree").expect("staged");
    assert_eq!(fs::read(staged.join("a.bin")).expect("file"), b"abc");
}

#[test]
fn a_remote_over_ssh_tells_where_its_files_are() {
    let mut room = Room::new();
    let commit = room.commit(&[ATTRIBUTES, ("a.bin", &pointer(b"abc"))]);
    room.scope.lfs = Lfs::Pull;
    let sshd = Sshd::start(room.folder.path());
    fs::write(room.path("known_hosts"), &sshd.known_hosts_line).expect("written");
    let door = || ssh_login(sshd.key.clone(), room.path("known_hosts"));
    let remote = format!("ssh://127.0.0.1:{}{}", sshd.port, room.source().display());
    let target = || Target::Commit { commit: commit.clone(), ref_name: None };
    let failure = room.fetch_from(&remote, door(), target()).expect_err("no LFS there");
    assert!(failure.reason.contains("no Git LFS over ssh"), "{}", failure.reason);

    let server = GitServer::plain(room.folder.path(), forge(&[b"abc"], None, None));
    let answer = format!(
        "{{\"href\": \"http://{}/info/lfs\", \"header\": {{\"Authorization\": \"Ticket x\"}}}}",
        server.address
    );
    let program = sshd.programs.join("git-lfs-authenticate");
    let script =
        format!("#!/bin/sh\n[ \"$1\" = '{}' ] && [ \"$2\" = download ] && echo '{answer}'\n", room.source().display());
    fs::write(&program, script).expect("written");
    make_executable(&program);
    room.fetch_from(&remote, door(), target()).expect("fetched");
    assert!(
        server
            .seen()
            .iter()
            .all(|it| it.authorization.as_deref() == Some("Ticket x") || it.target.starts_with("/objects/"))
    );
    let tree = room.path("tree");
    room.stage(&commit, room.fresh(&tree), None).expect("staged");
    assert_eq!(fs::read(tree.join("a.bin")).expect("file"), b"abc");
}

#[test]
fn a_pointer_to_nothing_is_an_empty_file_and_no_server_is_asked_for_it() {
    let mut room = Room::new();
    let first = room.commit(&[ATTRIBUTES, ("empty.bin", &pointer(b"")), ("b", "1")]);
    let server = served(&mut room, forge(&[], None, None));
    room.bring(&first, FAIL).expect("first");
    assert_eq!((room.text("empty.bin"), batches(&server)), (String::new(), 0));
    let second = room.commit(&[("b", "2")]);
    assert!(!room.bring(&second, FAIL).expect("an empty file is nobody's edit").patch_saved);
    let tree = pull(&room, &second, Vec::new(), "tree").expect("a fresh tree");
    assert_eq!(fs::metadata(tree.join("empty.bin")).expect("a file").len(), 0);
}
