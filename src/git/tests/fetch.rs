//! Promises of a fetch, whatever the way.

use std::fs;

use super::{
    Room, contents, git, git_with_input, id, main_branch,
    server::{GitServer, everyone},
};
use crate::model::{
    job::Target,
    push::{CommitId, RefName},
    run::FailureClass,
};

fn by_id(commit: &CommitId) -> Target {
    Target::Commit { commit: commit.clone(), ref_name: None }
}

#[test]
fn a_path_and_a_file_url_are_remotes() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    let fetched = room.fetch(by_id(&commit)).expect("by path");
    assert_eq!(fetched.commit, commit);
    assert_eq!(fetched.facts.subject, "change things");
    assert_eq!(fetched.facts.author_email, "ana@example.org");

    let newer = room.commit(&[("a", "2")]);
    let url = format!("file://{}", room.source().display());
    assert_eq!(room.fetch_from(&url, Vec::new(), by_id(&newer)).expect("by URL").commit, newer);
}

#[test]
fn a_ref_and_the_default_branch_are_what_the_remote_has_now() {
    let room = Room::new();
    room.commit(&[("a", "1")]);
    room.fetch(Target::DefaultBranch).expect("first");
    let newer = room.commit(&[("a", "2")]);
    let fetched = room.fetch(Target::DefaultBranch).expect("second");
    assert_eq!((fetched.commit, fetched.ref_name), (newer.clone(), Some(main_branch())));
    assert_eq!(room.fetch(Target::Ref(main_branch())).expect("by ref").commit, newer);

    let missing = room.fetch(Target::Ref(RefName::Branch("nope".into()))).expect_err("no such branch");
    assert_eq!(missing.class, FailureClass::Permanent);
    assert!(missing.reason.contains("branch `nope` is not on the remote"), "{}", missing.reason);
}

#[test]
fn a_ref_that_is_not_there_is_missed_with_what_may_have_been_meant() {
    let room = Room::new();
    let missed = |ref_name: RefName| {
        let failure = room.fetch(Target::Ref(ref_name)).expect_err("not there");
        assert_eq!(failure.class, FailureClass::Permanent);
        failure.reason
    };
    let empty = missed(main_branch());
    assert!(empty.ends_with("is empty"), "{empty}");
    room.commit(&[("a", "1")]);
    room.git(&["tag", "v1"]);
    let tag = missed(RefName::Branch("v1".into()));
    assert!(tag.contains("there is a tag: `--ref refs/tags/v1`"), "{tag}");
    let branch = missed(RefName::Tag("main".into()));
    assert!(branch.contains("there is a branch: `--ref refs/heads/main`"), "{branch}");
    room.git(&["branch", "-m", "main", "trunk"]);
    let gone = missed(main_branch());
    assert!(gone.contains("its default branch is `trunk`"), "{gone}");
}

#[test]
fn an_annotated_tag_leads_to_its_commit_by_name_and_by_id() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    room.git(&["tag", "-a", "-m", "one", "v1"]);
    room.git(&["tag", "-a", "-m", "a tag of a tag", "v1-final", "v1"]);
    let tag = RefName::Tag("v1-final".into());
    let fetched = room.fetch(Target::Ref(tag.clone())).expect("by name");
    assert_eq!((fetched.commit, fetched.ref_name), (commit.clone(), Some(tag)));
    let tag_id = id(&room.git(&["rev-parse", "v1"]));
    assert_ne!(tag_id, commit);
    assert_eq!(room.fetch(by_id(&tag_id)).expect("by id").commit, commit);

    let blob = id(&room.git(&["rev-parse", "HEAD:a"]));
    assert_eq!(room.fetch(by_id(&blob)).expect_err("a file is no commit").class, FailureClass::Permanent);
}

#[test]
fn a_commit_that_is_in_the_mirror_needs_no_remote() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    room.fetch(by_id(&commit)).expect("first");
    fs::remove_dir_all(room.source()).expect("the remote goes away");
    assert_eq!(room.fetch(by_id(&commit)).expect("second").commit, commit);
}

#[test]
fn a_commit_that_is_gone_from_the_remote_says_so_for_good() {
    let room = Room::new();
    room.commit(&[("a", "1")]);
    let gone = id(&"12".repeat(20));
    let failure = room.fetch(by_id(&gone)).expect_err("gone");
    assert_eq!(failure.class, FailureClass::Permanent);
    let expected = "commit 1212121 is no longer on the remote (was the branch force-pushed or deleted?)";
    assert_eq!(failure.reason, expected);
}

#[test]
fn after_a_force_push_the_mirror_follows_and_the_old_commit_can_still_be_had_by_its_id() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.git(&["branch", "topic/one"]);
    room.fetch(by_id(&first)).expect("first");
    let old = room.commit(&[("a", "2")]);
    room.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let new = room.commit(&[("a", "3")]);
    room.git(&["branch", "-D", "-q", "topic/one"]);
    room.git(&["branch", "topic"]);
    assert_eq!(room.fetch(Target::Ref(main_branch())).expect("new").commit, new);
    assert_eq!(room.fetch(by_id(&old)).expect("unreachable, and not gone yet").commit, old);
    let refs = git(&room.path("mirror.git"), &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/heads/main\nrefs/heads/topic\nrefs/landfall/wanted");
    git(&room.path("mirror.git"), &["fsck", "--strict"]);
}

#[test]
fn an_empty_repository_a_missing_one_and_a_sha256_one_are_told_apart() {
    let room = Room::new();
    let empty = room.fetch(Target::DefaultBranch).expect_err("empty");
    assert!(empty.reason.contains("is empty"), "{}", empty.reason);
    assert_eq!(empty.class, FailureClass::Permanent);

    let missing = room.fetch_from("/nowhere/at/all", Vec::new(), Target::DefaultBranch).expect_err("missing");
    assert!(missing.reason.contains("no git repository"), "{}", missing.reason);
    assert_eq!(missing.class, FailureClass::Permanent);

    fs::create_dir(room.path("sha256")).expect("a folder");
    git(&room.path("sha256"), &["init", "-q", "--object-format=sha256"]);
    git(&room.path("sha256"), &["commit", "-q", "--allow-empty", "-m", "x"]);
    let remote = room.path("sha256").display().to_string();
    let sha256 = room.fetch_from(&remote, Vec::new(), Target::DefaultBranch).expect_err("sha256");
    assert!(sha256.reason.contains("SHA-256"), "{}", sha256.reason);
    assert_eq!(sha256.class, FailureClass::Permanent);
    assert!(room.fetch(by_id(&id(&"ab".repeat(32)))).expect_err("a long id").reason.contains("SHA-256"));
}

#[test]
fn many_fetches_do_not_make_many_packs_and_lose_nothing() {
    let room = Room::new();
    let stream: String = (0..55)
        .map(|it| {
            format!("commit refs/hidden/all\ncommitter A <a> {it} +0000\ndata 0\nM 644 inline a\ndata 2\n{it:02}\n")
        })
        .collect();
    git_with_input(&room.source(), &["fast-import", "--quiet"], stream.as_bytes());
    let commits = room.git(&["rev-list", "--reverse", "refs/hidden/all"]);
    let commits: Vec<CommitId> = commits.lines().map(id).collect();
    for commit in &commits {
        room.git(&["update-ref", "refs/heads/main", commit.as_str()]);
        room.fetch(Target::Ref(main_branch())).expect("fetched");
    }
    let packs = fs::read_dir(room.path("mirror.git/objects/pack")).expect("packs").count() / 2;
    assert!(packs < 20, "{packs} packs");
    git(&room.path("mirror.git"), &["fsck", "--strict"]);
    assert_eq!(git(&room.path("mirror.git"), &["rev-list", "--count", "main"]), "55");
}

#[test]
fn a_mirror_that_is_damaged_is_made_anew() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    room.fetch(by_id(&commit)).expect("first");
    fs::write(room.path("mirror.git/HEAD"), "garbage").expect("damage");
    fs::write(room.path("mirror.git/config"), "[garbage").expect("damage");
    let tree = room.stage_fresh(&commit, "tree").expect("mended");
    assert_eq!(contents(&tree).len(), 1);
}

/// The source by HTTP, and from its folder.
fn by_http_and_from_a_folder(room: &Room) -> (GitServer, [String; 2]) {
    let server = GitServer::plain(room.folder.path(), everyone());
    let remotes = [format!("http://{}/source/.git", server.address), format!("file://{}", room.source().display())];
    (server, remotes)
}

#[test]
fn a_ref_whose_name_is_no_text_is_nobody_elses_trouble() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    for name in [&b"refs/heads/caf\xe9"[..], b"refs/pull/caf\xe9/head", b"refs/aaa\xff"] {
        let mut command = super::git_command(&room.source());
        let made = command.arg("update-ref").arg(OsStr::from_bytes(name)).arg(commit.as_str()).status();
        assert!(made.expect("git").success());
    }
    // Of such a name is also what HEAD stands for.
    let (_server, remotes) = by_http_and_from_a_folder(&room);
    for head in [&b"ref: refs/heads/main\n"[..], b"ref: refs/heads/caf\xe9\n"] {
        fs::write(room.source().join(".git/HEAD"), head).expect("written");
        for remote in &remotes {
            let _ = fs::remove_dir_all(room.path("mirror.git"));
            let fetched = room.fetch_from(remote, Vec::new(), Target::Ref(main_branch())).expect("fetched");
            assert_eq!(fetched.commit, commit);
        }
    }
}

#[test]
fn a_commit_of_a_pull_request_is_had_by_its_id_from_servers_that_give_out_refs_alone() {
    let room = Room::new();
    room.commit(&[("a", "1")]);
    room.git(&["checkout", "-q", "-b", "theirs"]);
    let commit = room.commit(&[("a", "2")]);
    room.git(&["update-ref", "refs/pull/1/head", "theirs"]);
    room.git(&["checkout", "-q", "main"]);
    room.git(&["branch", "-D", "theirs"]);
    let (_server, remotes) = by_http_and_from_a_folder(&room);
    for remote in &remotes {
        let _ = fs::remove_dir_all(room.path("mirror.git"));
        assert_eq!(room.fetch_from(remote, Vec::new(), by_id(&commit)).expect("fetched").commit, commit);
    }
}
