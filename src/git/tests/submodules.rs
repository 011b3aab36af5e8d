//! Promises about repositories within a repository.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, path::PathBuf};

use super::{
    Room, contents, git, git_command,
    https::{keyholders, token},
    in_place::{FAIL, SAVE},
    server::{GitServer, everyone},
    write_files,
};
use crate::{
    git::GitFailure,
    model::{deploy::Submodules, job::Target, push::CommitId, run::FailureClass},
};

/// Another repository in the room, with one commit of these files.
pub(super) fn repository(room: &Room, name: &str, files: &[(&str, &str)]) -> String {
    let folder = room.path(name);
    fs::create_dir_all(&folder).expect("a folder");
    git(&folder, &["init", "-q", "-b", "main"]);
    git(&folder, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
    commit_in(room, name, files)
}

pub(super) fn commit_in(room: &Room, name: &str, files: &[(&str, &str)]) -> String {
    let folder = room.path(name);
    write_files(&folder, &files.iter().map(|(path, text)| (*path, Some(text.as_bytes()))).collect::<Vec<_>>());
    git(&folder, &["add", "-A"]);
    git(&folder, &["commit", "-q", "-m", "change things"]);
    git(&folder, &["rev-parse", "HEAD"])
}

/// Commits that `outer` has `commit` of the repository at `url` at `path`.
pub(super) fn embed(room: &Room, outer: &str, (name, path, url): (&str, &str, &str), commit: &str) -> CommitId {
    let folder = room.path(outer);
    fs::create_dir_all(folder.join(path)).expect("a folder");
    for (key, value) in [("path", path), ("url", url)] {
        git(&folder, &["config", "-f", ".gitmodules", &format!("submodule.{name}.{key}"), value]);
    }
    git(&folder, &["add", ".gitmodules"]);
    git(&folder, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
    git(&folder, &["commit", "-q", "-m", "embed"]);
    CommitId::parse(&git(&folder, &["rev-parse", "HEAD"])).expect("an id")
}

/// A room whose source has `lib` at `vendor/lib`, which has `deep` at `inner`, by relative URLs.
pub(super) fn nested() -> (Room, CommitId) {
    let room = Room::new();
    let deep = repository(&room, "deep", &[("d", "deep\n"), (".gitattributes", "d eol=crlf\n")]);
    repository(&room, "lib", &[("l", "lib\n")]);
    let lib = embed(&room, "lib", ("in", "inner", "../deep"), &deep);
    room.commit(&[("a", "1")]);
    let commit = embed(&room, "source", ("lib", "vendor/lib", "../lib"), lib.as_str());
    (room, commit)
}

/// What git itself makes of the source, without git's own data.
pub(super) fn cloned(room: &Room, arguments: &[&str]) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let _ = fs::remove_dir_all(room.path("reference"));
    let mut command = git_command(room.folder.path());
    command.args(["-c", "protocol.file.allow=always", "clone", "-q"]).args(arguments).args(["source", "reference"]);
    assert!(command.status().expect("git").success());
    without_git(contents(&room.path("reference")))
}

pub(super) fn without_git(contents: BTreeMap<PathBuf, (u32, Vec<u8>)>) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    contents.into_iter().filter(|(path, _)| !path.components().any(|it| it.as_os_str() == ".git")).collect()
}

#[test]
fn submodules_come_with_the_tree_as_deep_as_the_hook_says() {
    let (mut room, commit) = nested();
    for (setting, name) in [(Submodules::Off, "off"), (Submodules::On, "on"), (Submodules::Recursive, "recursive")] {
        room.scope.submodules = setting;
        let staged = contents(&room.stage_fresh(&commit, name).expect(name));
        let mut expected = cloned(&room, &["--recurse-submodules"]);
        match setting {
            Submodules::Off => expected = cloned(&room, &[]),
            Submodules::On => {
                expected.retain(|path, _| !path.starts_with("vendor/lib/inner") || path.ends_with("inner"))
            }
            Submodules::Recursive => assert_eq!(staged[&PathBuf::from("vendor/lib/inner/d")].1, b"deep\r\n"),
        }
        assert_eq!(staged, expected, "{name}");
    }
    room.scope.subdir = Some("vendor".into());
    let staged = room.stage_fresh(&commit, "subdir").expect("staged");
    assert_eq!(fs::read(staged.join("lib/inner/d")).expect("a file"), b"deep\r\n");
}

#[test]
fn credentials_are_shown_to_the_remotes_own_host_and_to_no_other() {
    let mut room = Room::new();
    let near = repository(&room, "lib", &[("l", "near\n")]);
    let far = repository(&room, "far/lib", &[("l", "far\n")]);
    let own = GitServer::plain(room.folder.path(), keyholders("hunter2"));
    let other = GitServer::plain(&room.path("far"), everyone());
    embed(&room, "source", ("near", "near", "../../lib/.git"), &near);
    let far_url = format!("http://{}/lib/.git", other.address);
    let commit = embed(&room, "source", ("far", "far", &far_url), &far);
    room.remote = format!("http://{}/source/.git", own.address);
    room.scope.submodules = Submodules::On;
    let target = Target::Commit { commit: commit.clone(), ref_name: None };
    room.fetch_from(&room.remote, token("hunter2"), target).expect("fetched");
    let tree = room.path("tree");
    room.stage(&commit, room.fresh(&tree), None).expect("staged");
    assert_eq!(fs::read(tree.join("near/l")).expect("near"), b"near\n");
    assert_eq!(fs::read(tree.join("far/l")).expect("far"), b"far\n");
    assert!(own.seen().iter().any(|it| it.target.starts_with("/lib/") && it.authorization.is_some()));
    assert!(!other.seen().is_empty() && other.seen().iter().all(|it| it.authorization.is_none()));
}

#[test]
fn what_a_hostile_gitmodules_asks_for_is_refused_by_name() {
    for (name, path, url, expected) in [
        ("m", "sub", "ext::sh -c touch% /tmp/x", "only https, http, ssh"),
        ("m", "sub", "file:///etc", "local path"),
        ("m", "sub", "/etc", "local path"),
        ("m", "sub", "-oProxyCommand=x:y", "plain name"),
        ("m", "sub", "../../../../x", "leads out of the remote's host"),
        ("../m", "sub", "../lib", "its name"),
        ("x/.git/y", "sub", "../lib", "its name"),
    ] {
        let mut room = Room::new();
        let commit = repository(&room, "secret", &[("s", "s")]);
        let server = GitServer::plain(room.folder.path(), everyone());
        let commit = embed(&room, "source", (name, path, url), &commit);
        room.remote = format!("http://{}/source/.git", server.address);
        room.scope.submodules = Submodules::Recursive;
        let failure: GitFailure = room.fetch_commit(&commit).expect_err(url);
        assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
        assert!(failure.reason.contains("submodule `sub`") && failure.reason.contains(expected), "{}", failure.reason);
    }
}

#[test]
fn a_submodule_that_gitmodules_does_not_name_is_an_error_that_names_it() {
    let mut room = Room::new();
    room.commit(&[("a", "1")]);
    let entry = format!("160000,{},sub", "12".repeat(20));
    room.git(&["update-index", "--add", "--cacheinfo", &entry]);
    room.git(&["commit", "-q", "-m", "sub"]);
    room.scope.submodules = Submodules::On;
    let failure = room.stage_fresh(&room.head(), "tree").expect_err("from nowhere");
    assert_eq!(failure.reason, "submodule `sub`: `.gitmodules` does not say where it comes from");
}

#[test]
fn submodules_of_a_working_tree_are_working_trees_and_follow_its_commits() {
    let (mut room, commit) = nested();
    room.scope.submodules = Submodules::Recursive;
    room.bring(&commit, FAIL).expect("first");
    assert_eq!(without_git(contents(&room.home())), cloned(&room, &["--recurse-submodules"]));
    assert_eq!(git(&room.home(), &["status", "--porcelain"]), "");

    let deep = commit_in(&room, "deep", &[("d", "deeper\n")]);
    let lib = embed(&room, "lib", ("in", "inner", "../deep"), &deep);
    let second = embed(&room, "source", ("lib", "vendor/lib", "../lib"), lib.as_str());
    write_files(&room.home(), &[("vendor/lib/inner/d", Some(b"by hand\n")), ("vendor/lib/l", Some(b"by hand\n"))]);
    let failure = {
        room.fetch_commit(&second).expect("fetched");
        room.bring(&second, FAIL).expect_err("edits")
    };
    assert!(
        failure.reason.contains("submodule `vendor/lib`: ") && failure.reason.contains("`l`"),
        "{}",
        failure.reason
    );
    assert_eq!(git(&room.home(), &["rev-parse", "HEAD"]), commit.as_str(), "nothing was changed");
    let staged = room.bring(&second, SAVE).expect("second");
    assert!(staged.patch_saved);
    let patch = fs::read_to_string(room.path("edits.patch.files/vendor/lib.patch")).expect("a patch");
    assert!(patch.contains("+by hand"), "{patch}");
    assert!(room.path("edits.patch.files/vendor/lib.patch.files/inner.patch").exists());
    assert_eq!(without_git(contents(&room.home())), cloned(&room, &["--recurse-submodules"]));
    assert_eq!(git(&room.home(), &["status", "--porcelain"]), "");
}

#[test]
fn a_clone_with_submodules_that_a_person_made_is_adopted() {
    let (mut room, commit) = nested();
    let mut command = git_command(room.folder.path());
    command.args(["-c", "protocol.file.allow=always", "clone", "-q", "--recurse-submodules", "source", "home"]);
    assert!(command.status().expect("git").success());
    room.scope.submodules = Submodules::Recursive;
    room.bring(&commit, FAIL).expect("adopted");
    let lib = commit_in(&room, "lib", &[("l", "lib 2\n")]);
    let second = embed(&room, "source", ("lib", "vendor/lib", "../lib"), &lib);
    room.bring(&second, FAIL).expect("second");
    assert_eq!(without_git(contents(&room.home())), cloned(&room, &["--recurse-submodules"]));
    let status = git(&room.home(), &["submodule", "status", "--recursive"]);
    assert!(status.lines().all(|it| it.starts_with(' ') || !it.starts_with(['+', '-', 'U'])), "{status}");
}

#[test]
fn a_link_in_place_of_a_submodule_or_above_it_leads_nowhere() {
    for link in ["vendor/lib", "vendor"] {
        let (mut room, commit) = nested();
        room.bring(&commit, FAIL).expect("without them");
        fs::remove_dir_all(room.home().join(link)).expect("empty folders");
        fs::create_dir(room.path("elsewhere")).expect("a folder");
        symlink(room.path("elsewhere"), room.home().join(link)).expect("a link");
        room.scope.submodules = Submodules::On;
        let failure = room.bring(&commit, FAIL).expect_err("a link");
        assert!(failure.reason.contains("is not a folder"), "{}", failure.reason);
        assert_eq!(fs::read_dir(room.path("elsewhere")).expect("a folder").count(), 0);
    }
}

/// Takes a submodule out of the source, with what `.gitmodules` says of it.
pub(super) fn remove_submodule(room: &Room, name: &str, path: &str) {
    git(&room.source(), &["config", "-f", ".gitmodules", "--remove-section", &format!("submodule.{name}")]);
    git(&room.source(), &["update-index", "--force-remove", path]);
    git(&room.source(), &["add", ".gitmodules"]);
    git(&room.source(), &["commit", "-q", "-m", "remove"]);
}

#[test]
fn another_repository_at_the_place_of_an_old_submodule_takes_its_place() {
    let (mut room, commit) = nested();
    room.scope.submodules = Submodules::Recursive;
    room.bring(&commit, FAIL).expect("first");
    let other = repository(&room, "other", &[("o", "other\n")]);
    remove_submodule(&room, "lib", "vendor/lib");
    let second = embed(&room, "source", ("other", "vendor/lib", "../other"), &other);
    write_files(&room.home(), &[("vendor/lib/l", Some(b"by hand\n"))]);
    assert!(room.bring(&second, FAIL).expect_err("an edit").reason.contains("`l`"));
    assert_eq!(git(&room.home(), &["rev-parse", "HEAD"]), commit.as_str(), "nothing was changed");
    assert!(room.bring(&second, SAVE).expect("second").patch_saved);
    assert_eq!(without_git(contents(&room.home())), cloned(&room, &["--recurse-submodules"]));
    assert_eq!(git(&room.home(), &["status", "--porcelain"]), "");
    git(&room.home(), &["submodule", "foreach", "--recursive", "git fsck --connectivity-only"]);
}

#[test]
fn a_submodule_that_moves_or_is_renamed_comes_along() {
    let (mut room, commit) = nested();
    room.scope.submodules = Submodules::Recursive;
    room.bring(&commit, FAIL).expect("first");
    let lib = git(&room.path("lib"), &["rev-parse", "HEAD"]);
    // First to another place, then under another name.
    for (old, (name, path)) in
        [(("lib", "vendor/lib"), ("lib", "moved/here")), (("lib", "moved/here"), ("new", "moved/here"))]
    {
        remove_submodule(&room, old.0, old.1);
        let next = embed(&room, "source", (name, path, "../lib"), &lib);
        room.bring(&next, FAIL).unwrap_or_else(|failure| panic!("{name} at {path}: {failure}"));
        assert_eq!(without_git(contents(&room.home())), cloned(&room, &["--recurse-submodules"]), "{path}");
        assert_eq!(git(&room.home(), &["status", "--porcelain"]), "");
        git(&room.home(), &["submodule", "status", "--recursive"]);
    }
}

#[test]
fn a_submodule_that_says_update_none_stays_empty() {
    let (mut room, _) = nested();
    git(&room.source(), &["config", "-f", ".gitmodules", "submodule.lib.update", "none"]);
    git(&room.source(), &["add", ".gitmodules"]);
    git(&room.source(), &["commit", "-q", "-m", "none"]);
    room.scope.submodules = Submodules::Recursive;
    let commit = room.head();
    let tree = room.stage_fresh(&commit, "tree").expect("a fresh tree");
    assert_eq!(fs::read_dir(tree.join("vendor/lib")).expect("a folder").count(), 0);
    room.bring(&commit, FAIL).expect("in place");
    assert_eq!(fs::read_dir(room.home().join("vendor/lib")).expect("a folder").count(), 0);
    assert_eq!(git(&room.home(), &["status", "--porcelain"]), "");
}

#[test]
fn each_remote_sees_the_credentials_of_its_own_host_and_protocol() {
    use crate::{
        git::{Login, LoginProof, remote::Remote, transport::journey::choose},
        model::secret::Secret,
    };
    let token = |host: Option<&str>, text: &str| Login {
        host: host.map(str::to_owned),
        proof: LoginProof::Token { username: "x".into(), token: Secret::new(text.into()).expect("not empty") },
    };
    let key = |host: Option<&str>| Login {
        host: host.map(str::to_owned),
        proof: LoginProof::SshKey { key: "/k".into(), known_hosts: None },
    };
    let logins = [token(None, "own"), token(Some("b.example"), "b"), key(Some("a.example"))];
    let remote = |text: &str| Remote::parse(text).expect(text);
    let outer = remote("https://a.example/x");
    let shown = |text: &str| match choose(&logins, Some(&outer), &remote(text)) {
        Some(LoginProof::Token { token, .. }) => token.expose().to_owned(),
        Some(LoginProof::SshKey { .. }) => "key".into(),
        None => "nothing".into(),
    };
    for (url, expected) in [
        ("https://a.example/lib", "own"),
        ("https://b.example/lib", "b"),
        ("git@a.example:lib", "key"),
        ("git@b.example:lib", "nothing"),
        ("https://c.example/lib", "nothing"),
        ("https://a.example:8443/lib", "nothing"),
        // In the clear nothing is shown that the hook does not itself show so.
        ("http://b.example/lib", "nothing"),
        ("http://a.example/lib", "nothing"),
    ] {
        assert_eq!(shown(url), expected, "{url}");
    }
}

#[test]
fn a_folder_that_becomes_a_submodule_holds_nobodys_edits() {
    let mut room = Room::new();
    room.scope.submodules = Submodules::On;
    let lib = repository(&room, "lib", &[("f", "of the submodule\n")]);
    let first = room.commit(&[("n/f", "of the tree\n"), ("a", "1")]);
    room.bring(&first, FAIL).expect("first");
    git(&room.source(), &["rm", "-q", "-r", "n"]);
    let second = embed(&room, "source", ("n", "n", "../lib"), &lib);
    let staged = room.bring(&second, FAIL).expect("second");
    assert!(!staged.patch_saved);
    assert_eq!(without_git(contents(&room.home())), cloned(&room, &["--recurse-submodules"]));
    assert_eq!(git(&room.home(), &["status", "--porcelain"]), "");
}

#[test]
fn a_repository_of_a_persons_own_at_the_place_of_a_submodule_gives_way_with_all_that_is_in_it() {
    for edits in [false, true] {
        let mut room = Room::new();
        room.scope.submodules = Submodules::Recursive;
        let lib = repository(&room, "lib", &[("l", "one\n")]);
        room.commit(&[("a", "1")]);
        embed(&room, "source", ("lib", "m", "../lib"), &lib);
        git(room.folder.path(), &["clone", "-q", "source", "home"]);
        // The same repository, as another one.
        git(&room.home(), &["clone", "-q", "../lib", "m"]);
        git(&room.home().join("m"), &["remote", "set-url", "origin", "https://example.org/lib"]);
        let local = git(&room.home().join("m"), &["rev-parse", "HEAD"]);
        if edits {
            write_files(&room.home(), &[("m/l", Some(b"mine\n")), ("m/untracked", Some(b"mine\n"))]);
        }
        let lib = commit_in(&room, "lib", &[("l", "two\n")]);
        let commit = embed(&room, "source", ("lib", "m", "../lib"), &lib);
        let staged = room.bring(&commit, SAVE).expect("brought");
        room.assert_is_at(&commit);
        assert_eq!(room.text("m/l"), "two\n");
        assert_eq!(git(&room.home().join("m"), &["rev-parse", "HEAD"]), lib);
        let kept = room.home().join(".git/modules/m.old-1");
        assert_eq!(git(&kept, &["rev-parse", "HEAD"]), local);
        assert!(!kept.join("index.lock").exists() && !kept.join("landfall/updating").exists());
        assert_eq!(staged.patch_saved, edits);
        if edits {
            assert_eq!(room.text("m/untracked"), "mine\n");
        }
        git(&room.home(), &["fsck", "--connectivity-only"]);
    }
}

#[test]
fn submodules_of_a_working_tree_are_registered_as_git_submodule_init_does_it() {
    let (mut room, commit) = nested();
    room.scope.submodules = Submodules::Recursive;
    room.bring(&commit, FAIL).expect("first");
    let status = git(&room.home(), &["submodule", "status", "--recursive"]);
    assert_eq!(status.lines().count(), 2, "{status}");
    // The first line has lost its space.
    assert!(!status.lines().any(|it| it.starts_with(['-', '+', 'U'])), "{status}");
    let visited = git(&room.home(), &["submodule", "--quiet", "foreach", "--recursive", "echo $sm_path"]);
    assert_eq!(visited, "vendor/lib\ninner");
    let url = |home: &str| git(&room.path(home), &["config", "submodule.lib.url"]);
    cloned(&room, &["--recurse-submodules"]);
    assert_eq!(url("home"), room.path("lib").display().to_string());

    git(&room.home(), &["config", "submodule.lib.url", "git@example.org:mine"]);
    git(&room.home(), &["config", "submodule.lib.active", "false"]);
    let deeper = commit_in(&room, "lib", &[("l", "lib 2\n")]);
    let second = embed(&room, "source", ("lib", "vendor/lib", "../lib"), &deeper);
    room.bring(&second, FAIL).expect("second");
    assert_eq!(url("home"), "git@example.org:mine");
    assert_eq!(git(&room.home(), &["config", "submodule.lib.active"]), "false");
}
