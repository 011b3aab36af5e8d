//! Promises about those who own a repository, or a server, and mean ill.

use crate::{git::Answer, process::errand};
use std::{
    fs,
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use super::{
    Order, Room, SshRoom, answer, git, git_with_input, id,
    in_place::{FAIL, SAVE},
    large::within_limit,
    make_executable,
    server::{GitServer, Judge, Verdict, everyone},
    wait_for,
};
use crate::{
    git::Place,
    model::{
        deploy::{Clean, Dirty, Submodules, UnknownFilters},
        job::Target,
        push::RefName,
        run::FailureClass,
    },
};

/// A name that git takes for a branch, and a shell for a command.
const NAME: &str = "$(touch${IFS}pwned);touch${IFS}pwned;`touch${IFS}pwned`'";

#[test]
fn no_command_that_a_failure_names_does_what_a_name_says() {
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    room.git(&["branch", NAME]);
    let home = room.path("it's a home");
    fs::create_dir(&home).expect("a folder");
    fs::write(home.join("index.html"), "old site").expect("a file");
    let bring = || {
        let (ref_name, patch) = (Some(RefName::Branch(NAME.into())), room.path("edits.patch"));
        let place = Place::InPlace { path: home.clone(), ref_name, dirty: Dirty::Save, clean: Clean::None, patch };
        room.fetch_commit(&commit).and_then(|_| room.stage(&commit, place, None))
    };
    let failure = bring().expect_err("files");
    let begin = failure.reason.rfind("`cd ").expect("commands");
    let commands = failure.reason[begin + 1..].strip_suffix('`').expect("the end").to_owned();
    let mended = Command::new("sh").args(["-ec", &commands]).current_dir(room.folder.path()).output().expect("sh");
    assert!(mended.status.success(), "{commands}: {}", String::from_utf8_lossy(&mended.stderr));
    assert!(!room.path("pwned").exists() && !home.join("pwned").exists(), "{commands}");
    bring().expect("mended");
}

#[test]
fn what_an_ssh_server_says_on_the_side_is_neither_kept_nor_logged_without_end() {
    let ssh = SshRoom::new();
    ssh.knows(&ssh.sshd.known_hosts_line);
    ssh.room.commit(&[("a", "1")]);
    let program = ssh.sshd.programs.join("git-upload-pack");
    let script = "#!/bin/sh\nhead -c 200000000 /dev/zero | tr '\\0' x >&2\necho >&2\nyes line | head -n 5000 >&2\n\
                  echo 'fatal: not today' >&2\nexit 1\n";
    fs::write(&program, script).expect("written");
    make_executable(&program);
    let order = ssh.room.order(&ssh.remote(), ssh.door(), Target::DefaultBranch);
    let output = within_limit(&ssh.room, &Order::Fetch(order));
    let failure = errand::decode(answer(&output)).and_then(Answer::fetched).expect_err("nothing but words");
    assert_eq!(failure.class, FailureClass::Fetch, "{}", failure.reason);
    assert!(failure.reason.contains("not today"), "{}", failure.reason);
    let said = String::from_utf8_lossy(&output.stderr).lines().count();
    assert!(said < 200, "{said} lines");
}

#[test]
fn refs_without_end_are_cut_off() {
    let room = Room::new();
    let server = GitServer::plain(room.folder.path(), Box::new(|_| Verdict::Refs));
    let remote = format!("http://{}/x", server.address);
    let failure = room.fetch_from(&remote, Vec::new(), Target::DefaultBranch).expect_err("no end");
    assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
    assert!(failure.reason.contains("more refs than"), "{}", failure.reason);
}

#[test]
fn what_is_read_whole_has_a_limit_that_the_failure_names() {
    let text = "#".repeat((1 << 20) + 1);
    for path in [".gitmodules", ".gitattributes", "deep/.gitattributes"] {
        let mut room = Room::new();
        room.scope.submodules = Submodules::On;
        room.commit(&[("x", "1")]);
        let (commit, link) = (room.git(&["rev-parse", "HEAD"]), "lib");
        room.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{link}")]);
        room.git(&["commit", "-qm", "a submodule"]);
        room.write(&[(path, Some(text.as_bytes()))]);
        room.git(&["add", path]);
        room.git(&["commit", "-qm", "a large file"]);
        let failure = room.stage_fresh(&room.head(), "tree").expect_err(path);
        assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
        let expected = format!("`{path}` of the tree has 1 MiB");
        assert!(failure.reason.contains(&expected), "{}", failure.reason);
    }
    let room = Room::new();
    let target = git_with_input(&room.source(), &["hash-object", "-w", "--stdin"], &[b'a'; 5000]);
    room.git(&["update-index", "--add", "--cacheinfo", &format!("120000,{target},link")]);
    room.git(&["commit", "-qm", "a long link"]);
    let failure = room.stage_fresh(&room.head(), "tree").expect_err("a link of 5000 bytes");
    assert!(failure.reason.contains("`link` is a link of 5000 bytes"), "{}", failure.reason);

    let room = Room::new();
    let commit = room.commit(&[(".gitattributes", "*.txt eol=crlf\n"), ("a.txt", &"\n".repeat((64 << 20) + 1))]);
    let failure = room.stage_fresh(&commit, "tree").expect_err("64 MiB of line ends");
    assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
    assert!(failure.reason.contains("`a.txt` has 64 MiB"), "{}", failure.reason);
}

#[test]
fn many_attributes_files_have_a_limit_together() {
    let room = Room::new();
    let attributes = (0..40_000).map(|it| format!("{it} text\n")).collect::<String>();
    let folders: Vec<String> = (0..12).map(|it| format!("d{it}/.gitattributes")).collect();
    let files: Vec<(&str, &str)> = folders.iter().map(|it| (it.as_str(), attributes.as_str())).collect();
    let commit = room.commit(&files);
    let failure = room.stage_fresh(&commit, "tree").expect_err("all of them");
    assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
    assert!(failure.reason.contains("`.gitattributes` files"), "{}", failure.reason);
}

#[test]
fn git_work_may_take_half_of_the_machines_memory_and_no_more() {
    let room = Room::new();
    let commit = room.commit(&[("a", &"1".repeat(5000))]);
    let judge: Judge = Box::new(|request| match request.method.as_str() {
        "POST" => Verdict::Stall,
        _ => Verdict::Serve,
    });
    let server = GitServer::plain(room.folder.path(), judge);
    let remote = format!("http://{}/source/.git", server.address);
    let target = Target::Commit { commit, ref_name: None };
    let mut child = room.start_child(&Order::Fetch(room.order(&remote, Vec::new(), target)), &[]);
    wait_for("the fetch to be under way", || server.seen().iter().any(|it| it.method == "POST"));
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("limits");
    child.kill().expect("it was alive");
    child.wait().expect("it is dead");
    let mut memory = String::new();
    fs::File::open("/proc/meminfo").and_then(|mut it| it.read_to_string(&mut memory)).expect("meminfo");
    let total = memory.lines().find_map(|it| it.strip_prefix("MemTotal:")).expect("a total");
    let total: u64 = total.trim().trim_end_matches(" kB").parse().expect("a number");
    let limit = limits.lines().find_map(|it| it.strip_prefix("Max data size")).expect("a limit");
    let limit: Vec<&str> = limit.split_whitespace().collect();
    assert_eq!(limit[0], (total * 1024 / 2).to_string());
}

/// Makes a submodule of what has submodules, and so on: each level holds the one below it twice.
fn bomb(room: &Room, levels: usize) {
    room.commit(&[("a", "1")]);
    for _ in 0..levels {
        let inner = room.git(&["rev-parse", "HEAD"]);
        let modules: String = ["one", "two"]
            .iter()
            .map(|it| format!("[submodule \"{it}\"]\n\tpath = {it}\n\turl = {}\n", room.source().display()))
            .collect();
        room.write(&[(".gitmodules", Some(modules.as_bytes()))]);
        room.git(&["add", ".gitmodules"]);
        for name in ["one", "two"] {
            room.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{inner},{name}")]);
        }
        room.git(&["commit", "-q", "--allow-empty", "-m", "one level more"]);
    }
}

#[test]
fn submodules_that_multiply_end_at_the_limit() {
    let mut room = Room::new();
    room.scope.submodules = Submodules::Recursive;
    bomb(&room, 9);
    let failure = room.fetch_commit(&room.head()).expect_err("a bomb");
    assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
    assert!(failure.reason.contains("more than 500 submodules"), "{}", failure.reason);

    let mut room = Room::new();
    room.scope.submodules = Submodules::Recursive;
    bomb(&room, 3);
    let tree = room.stage_fresh(&room.head(), "tree").expect("fourteen are none");
    assert!(tree.join("one/two/one/a").exists());
}

#[test]
fn hooks_filters_and_commands_that_a_repository_brings_along_do_not_run() {
    let mut room = Room::new();
    room.scope.filters = UnknownFilters::Ignore;
    let touch = format!("touch {}", room.path("ran").display());
    let hook = format!("#!/bin/sh\n{touch}\n");
    room.write(&[
        (".githooks/post-checkout", Some(hook.as_bytes())),
        (".gitconfig", Some(b"[core]\nhooksPath=.githooks\n")),
    ]);
    make_executable(&room.source().join(".githooks/post-checkout"));
    // Of the served repository itself; nothing of it reaches a clone.
    for name in ["post-checkout", "post-merge", "pre-auto-gc"] {
        let file = room.source().join(".git/hooks").join(name);
        fs::create_dir_all(file.parent().expect("below")).expect("a folder");
        fs::write(&file, &hook).expect("a hook");
        make_executable(&file);
    }
    let attributes = "* filter=evil diff=evil merge=evil\n";
    let first = room.commit(&[(".gitattributes", attributes), ("a", "1")]);
    room.bring(&first, super::in_place::SAVE).expect("first");
    // As where a person, or a script of the repository, has set it up.
    for (key, value) in [
        ("core.hooksPath", ".githooks"),
        ("filter.evil.smudge", touch.as_str()),
        ("filter.evil.clean", touch.as_str()),
        ("filter.evil.required", "true"),
        ("diff.evil.textconv", touch.as_str()),
        ("diff.evil.command", touch.as_str()),
        ("core.fsmonitor", touch.as_str()),
        ("core.pager", touch.as_str()),
        ("core.sshCommand", touch.as_str()),
        ("core.alternateRefsCommand", touch.as_str()),
    ] {
        git(&room.home(), &["config", key, value]);
    }
    fs::write(room.home().join("a"), "an edit").expect("written");
    let second = room.commit(&[("a", "2"), ("b", "2")]);
    assert!(room.bring(&second, super::in_place::SAVE).expect("second").patch_saved);
    let _ = room.stage_fresh(&second, "tree").expect("a fresh tree");
    assert!(!room.path("ran").exists());
    assert_eq!(fs::read_to_string(room.home().join("a")).expect("a file"), "2");
}

#[test]
fn a_remote_helper_is_started_for_nobody() {
    let mut room = Room::new();
    let ran = room.path("ran");
    let touch = format!("ext::sh -c \"touch% {}\"", ran.display());
    let failure = room.fetch_from(&touch, Vec::new(), Target::DefaultBranch).expect_err("ext");
    assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
    room.scope.submodules = Submodules::On;
    let inner = room.commit(&[("a", "1")]);
    let server = GitServer::plain(room.folder.path(), everyone());
    let remote = format!("http://{}/source/.git", server.address);
    for url in [touch.as_str(), "fd::17", "-oProxyCommand=touch:x", "ssh://-oProxyCommand=touch/x", "file:///etc"] {
        let modules = format!("[submodule \"x\"]\n\tpath = x\n\turl = {url:?}\n");
        room.write(&[(".gitmodules", Some(modules.as_bytes()))]);
        room.git(&["add", ".gitmodules"]);
        room.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{inner},x")]);
        room.git(&["commit", "-qm", url]);
        let target = Target::Commit { commit: id(&room.git(&["rev-parse", "HEAD"])), ref_name: None };
        let failure = room.fetch_from(&remote, Vec::new(), target).expect_err(url);
        assert_eq!(failure.class, FailureClass::Permanent, "{}", failure.reason);
        assert!(failure.reason.contains("submodule `x`"), "{}", failure.reason);
    }
    assert!(!Path::new(&ran).exists());
}

#[test]
fn what_the_configuration_of_a_clone_says_is_neither_started_nor_believed() {
    says_in_vain(&[]);
}

#[test]
fn what_the_configuration_of_a_clones_working_tree_says_is_neither_started_nor_believed() {
    says_in_vain(&["--worktree"]);
}

/// Names programs and other remotes in a file of the repository's configuration, git's usual one or the one of `file`.
fn says_in_vain(file: &[&str]) {
    let mut room = Room::new();
    let first = room.commit(&[("a", "1")]);
    let server = GitServer::plain(room.folder.path(), everyone());
    room.remote = format!("http://{}/source/.git", server.address);
    room.bring(&first, FAIL).expect("first");
    let evil = room.path("evil");
    fs::write(&evil, format!("#!/bin/sh\necho \"$0 $*\" >> {}\n", room.path("started").display())).expect("written");
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).expect("a mode");
    let run = evil.display().to_string();
    if !file.is_empty() {
        git(&room.home(), &["config", "core.repositoryFormatVersion", "1"]);
        git(&room.home(), &["config", "extensions.worktreeConfig", "true"]);
    }
    let elsewhere = room.path("elsewhere").display().to_string();
    for (key, value) in [
        (format!("url.{elsewhere}.insteadOf"), room.remote.clone()),
        ("url.git://127.0.0.1:1/.insteadOf".into(), "http://".into()),
        ("remote.origin.uploadpack".into(), run.clone()),
        ("remote.origin.proxy".into(), "http://127.0.0.1:1".into()),
        ("remote.origin.vcs".into(), "evil".into()),
        ("http.proxy".into(), "http://127.0.0.1:1".into()),
        ("core.sshCommand".into(), run.clone()),
        ("core.gitProxy".into(), run.clone()),
        ("core.fsmonitor".into(), run.clone()),
        ("core.hooksPath".into(), room.folder.path().display().to_string()),
        ("core.pager".into(), run.clone()),
        ("core.editor".into(), run.clone()),
        ("credential.helper".into(), format!("!{run}")),
        ("gc.recentObjectsHook".into(), run.clone()),
        ("filter.evil.smudge".into(), run.clone()),
        ("filter.evil.process".into(), run.clone()),
        ("diff.external".into(), run.clone()),
        ("uploadpack.packObjectsHook".into(), run.clone()),
        ("core.alternateRefsCommand".into(), run),
        ("gc.auto".into(), "1".into()),
        ("gc.autoPackLimit".into(), "1".into()),
    ] {
        git(&room.home(), &[&["config"], file, &[&*key, &value]].concat());
    }
    for hook in ["post-checkout", "reference-transaction", "pre-auto-gc", "post-index-change"] {
        symlink(&evil, room.home().join(".git/hooks").join(hook)).unwrap_or_else(|_| {
            fs::create_dir_all(room.home().join(".git/hooks")).expect("a folder");
            symlink(&evil, room.home().join(".git/hooks").join(hook)).expect("a hook");
        });
        symlink(&evil, room.folder.path().join(hook)).expect("a hook");
    }
    // So many that git tidies up, with objects that nothing refers to any more, and old.
    let packs = room.path("packs");
    git(room.folder.path(), &["init", "-q", "packs"]);
    for number in 0..70 {
        let blob = git_with_input(&packs, &["hash-object", "-w", "--stdin"], number.to_string().as_bytes());
        let place = room.home().join(".git/objects/pack/pack");
        git_with_input(&packs, &["pack-objects", "-q", place.to_str().expect("text")], blob.as_bytes());
    }
    let old = SystemTime::now() - Duration::from_secs(40 * 24 * 3600);
    for pack in fs::read_dir(room.home().join(".git/objects/pack")).expect("packs").flatten() {
        // Packs are read-only; root and the owner may set their times all the same.
        fs::File::open(pack.path()).and_then(|it| it.set_modified(old)).expect("a time");
    }
    for turn in 0..40 {
        let next = room.commit(&[("a", &turn.to_string())]);
        room.bring(&next, SAVE).expect("brought");
    }
    assert_eq!(fs::read_to_string(room.home().join("a")).expect("a file"), "39");
    assert!(!room.path("started").exists(), "{}", fs::read_to_string(room.path("started")).unwrap_or_default());
}
