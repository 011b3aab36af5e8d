//! Promises to people whose disks are full, whose mirrors are spoilt, and whose gits were killed.

use crate::{
    git::{Answer, Into},
    process::errand,
};
use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, FileTimes, OpenOptions, Permissions},
    io::{Seek, SeekFrom, Write},
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    Order, Room, Stage, answer, contents, git,
    in_place::{FAIL, SAVE},
    main_branch, wait_for,
};
use crate::{
    git::{Against, Fetch, Verdict, bring::fetch},
    model::{
        job::Target,
        push::{CommitId, RefName},
        run::FailureClass,
    },
};

/// Whether this promise can be tried here; says so if not.
pub(super) fn is_root(promise: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        println!("SKIPPED, needs root: {promise}");
    }
    is_root
}

/// A small disk of its own, gone with the value.
struct Disk(PathBuf);

impl Disk {
    fn at(path: PathBuf, options: &str) -> Self {
        fs::create_dir_all(&path).expect("a folder");
        let disk = Self(path);
        disk.mount(options);
        disk
    }

    fn mount(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(&self.0);
        assert!(mount.status().expect("mount").success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
    }
}

/// A way in which a mirror may be spoilt, by its name.
type Spoil = (&'static str, fn(&Room));

fn pack(room: &Room, extension: &str) -> PathBuf {
    let files = fs::read_dir(room.path("mirror.git/objects/pack")).expect("packs").map(|it| it.expect("a file").path());
    files.into_iter().find(|it| it.extension() == Some(OsStr::new(extension))).expect("a pack")
}

/// Files that do not fit into a few bytes, and that are no differences of one another.
fn noise(seed: u32, length: usize) -> String {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        char::from(b'!' + (state >> 25) as u8 % 90)
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_mirror_that_was_spoilt_in_any_way_is_fetched_anew_by_the_same_order() {
    let spoil: [Spoil; 9] = [
        ("a pack cut short", |room| {
            let pack = pack(room, "pack");
            fs::set_permissions(&pack, Permissions::from_mode(0o600)).expect("a mode");
            let file = OpenOptions::new().write(true).open(pack).expect("a pack");
            file.set_len(file.metadata().expect("a length").len() / 2).expect("cut");
        }),
        ("an empty pack", |room| {
            let pack = pack(room, "pack");
            fs::set_permissions(&pack, Permissions::from_mode(0o600)).expect("a mode");
            fs::write(pack, "").expect("written");
        }),
        ("no pack", |room| fs::remove_file(pack(room, "pack")).expect("removed")),
        ("no index", |room| fs::remove_file(pack(room, "idx")).expect("removed")),
        ("no folder of packs", |room| fs::remove_dir_all(room.path("mirror.git/objects/pack")).expect("removed")),
        ("no objects", |room| fs::remove_dir_all(room.path("mirror.git/objects")).expect("removed")),
        ("no refs", |room| fs::remove_dir_all(room.path("mirror.git/refs")).expect("removed")),
        ("packed refs that are none", |room| {
            fs::write(room.path("mirror.git/packed-refs"), "\x00garbage\n").expect("written");
        }),
        ("a ref to nowhere", |room| {
            fs::write(room.path("mirror.git/refs/heads/main"), format!("{}\n", "12".repeat(20))).expect("written");
        }),
    ];
    for (what, spoil) in spoil {
        let room = Room::new();
        let first = room.commit(&[("a", &noise(1, 20_000)), ("b", &noise(2, 20_000))]);
        room.fetch_commit(&first).expect("first");
        spoil(&room);
        let tree = room.stage_fresh(&first, "tree").unwrap_or_else(|failure| panic!("{what}: {failure}"));
        assert_eq!(fs::read_to_string(tree.join("a")).expect("a file"), noise(1, 20_000), "{what}");
        spoil(&room);
        let second = room.commit(&[("c", &noise(3, 20_000))]);
        room.stage_fresh(&second, "again").unwrap_or_else(|failure| panic!("{what}: {failure}"));
        git(&room.path("mirror.git"), &["fsck", "--strict"]);
    }
}

#[test]
fn a_mirror_whose_bits_have_flipped_fails_one_run_at_most() {
    let room = Room::new();
    let first = room.commit(&[("a", &noise(1, 20_000)), ("b", &noise(2, 20_000)), ("c", &noise(3, 20_000))]);
    room.fetch_commit(&first).expect("first");
    let pack = pack(&room, "pack");
    let length = fs::metadata(&pack).expect("a length").len();
    // The commit is at the front of a pack, its files at the end.
    for offset in [14, 60, length / 3, length / 2, length - 4_000] {
        let pack = self::pack(&room, "pack");
        fs::set_permissions(&pack, Permissions::from_mode(0o600)).expect("a mode");
        let mut file = OpenOptions::new().write(true).open(pack).expect("a pack");
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(&[0xa5; 40])).expect("spoilt");
        let name = format!("tree{offset}");
        if let Err(failure) = room.stage_fresh(&first, &name) {
            assert_eq!(failure.class, FailureClass::Fetch, "{}", failure.reason);
            assert!(failure.reason.contains("is damaged and will be fetched anew"), "{}", failure.reason);
            let _ = fs::remove_dir_all(room.path(&name));
            room.stage_fresh(&first, &name).expect("the next one mends it");
        }
        git(&room.path("mirror.git"), &["fsck", "--strict"]);
    }
}

#[test]
fn what_is_live_and_cannot_be_read_any_more_is_not_taken_for_gone() {
    let room = Room::new();
    let live = room.commit(&[("a", "1")]);
    let remote = format!("file://{}", room.source().display());
    let target = |commit: &CommitId| Target::Commit { commit: commit.clone(), ref_name: Some(main_branch()) };
    room.fetch_from(&remote, Vec::new(), target(&live)).expect("first");
    let pack = pack(&room, "pack");
    fs::set_permissions(&pack, Permissions::from_mode(0o600)).expect("a mode");
    let mut bytes = fs::read(&pack).expect("a pack");
    let end = bytes.len() - 20;
    bytes[14..end].fill(0xa5);
    fs::write(&pack, bytes).expect("spoilt");
    let (second, _) = (room.commit(&[("a", "2")]), room.commit(&[("a", "3")]));
    let order = room.order(&remote, Vec::new(), target(&second));
    let fetched = fetch(&Fetch { against: Against { live: Some(live), ..order.against }, ..order });
    assert_eq!(fetched.expect("fetched anew").verdict, Verdict::GoAhead { remark: None });
}

#[test]
fn locks_of_a_killed_git_keep_nobody_from_a_mirror() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.fetch_commit(&first).expect("first");
    for name in ["shallow.lock", "packed-refs.lock", "config.lock", "HEAD.lock", "refs/heads/main.lock"] {
        fs::write(room.path("mirror.git").join(name), "").expect("a lock");
    }
    let second = room.commit(&[("a", "2")]);
    room.stage_fresh(&second, "tree").expect("fetched");
    assert_eq!(git(&room.path("mirror.git"), &["rev-parse", "main"]), second.as_str());
}

#[test]
fn a_lock_on_the_refs_of_a_working_tree_is_waited_for_before_anything_is_changed() {
    for name in ["HEAD.lock", "packed-refs.lock", "shallow.lock", "config.lock", "refs/heads/main.lock"] {
        let room = Room::new();
        let first = room.commit(&[("a", "1")]);
        room.bring(&first, SAVE).expect("first");
        let second = room.commit(&[("a", "2")]);
        let target = Target::Commit { commit: second.clone(), ref_name: Some(main_branch()) };
        room.fetch_into(&room.home(), target).expect("its objects are there");
        let (lock, ours) = (room.home().join(".git").join(name), room.home().join(".git/index.lock"));
        fs::write(&lock, "").expect("a lock");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| room.bring(&second, SAVE));
            wait_for("the update to stand at the lock", || ours.exists());
            assert_eq!(room.text("a"), "1", "{name}");
            fs::remove_file(&lock).expect("let go");
            waiting.join().expect("no panic").unwrap_or_else(|failure| panic!("{name}: {failure}"));
        });
        room.assert_is_at(&second);
        // Older than the machine's last start: whoever it was is gone.
        let left = fs::File::create(&lock).expect("a lock");
        left.set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1))).expect("a time");
        room.bring(&first, SAVE).unwrap_or_else(|failure| panic!("{name}: {failure}"));
        room.assert_is_at(&first);
    }
}

#[test]
fn a_lock_that_stays_is_named_with_the_command_that_removes_it() {
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.bring(&first, SAVE).expect("first");
    let second = room.commit(&[("a", "2")]);
    let lock = room.home().join(".git/refs/heads/main.lock");
    fs::write(&lock, "").expect("a lock");
    let failure = room.bring(&second, SAVE).expect_err("another git");
    assert_eq!(failure.class, FailureClass::Other);
    assert_eq!(room.text("a"), "1", "nothing was changed");
    let command = failure.reason.split('`').find(|it| it.starts_with("rm ")).expect("a command");
    assert!(Command::new("sh").args(["-ec", command]).status().expect("sh").success(), "{command}");
    room.bring(&second, SAVE).expect("mended");
    room.assert_is_at(&second);
}

#[test]
fn an_index_that_is_spoilt_is_named_with_the_command_that_mends_it() {
    let room = Room::new();
    let first = room.commit(&[("a", "1"), ("b", "1")]);
    room.bring(&first, SAVE).expect("first");
    let second = room.commit(&[("a", "2")]);
    for spoilt in [&b"garbage"[..], b""] {
        fs::write(room.home().join(".git/index"), spoilt).expect("spoilt");
        let Err(failure) = room.bring(&second, FAIL) else { continue };
        let command = failure.reason.split('`').find(|it| it.starts_with("rm ")).expect("a command");
        assert!(Command::new("sh").args(["-ec", command]).status().expect("sh").success(), "{command}");
        // What is there is still what the commit before had.
        room.bring(&second, FAIL).expect("mended");
    }
    room.assert_is_at(&second);
}

#[test]
fn as_root_a_disk_that_fills_up_fails_the_order_and_the_next_one_completes_it() {
    if !is_root("as_root_a_disk_that_fills_up_fails_the_order_and_the_next_one_completes_it") {
        return;
    }
    let room = Room::new();
    let first = room.commit(&[("a", "1"), ("b", "1")]);
    let disk = Disk::at(room.home(), "size=2m");
    room.bring(&first, SAVE).expect("first");
    let (large, name) = (noise(7, 3 << 20), "No space left on device");
    let second = room.commit(&[("a", "2"), ("b", &large)]);
    let failure = room.bring(&second, FAIL).expect_err("no room");
    assert_eq!(failure.class, FailureClass::Other, "{}", failure.reason);
    assert!(failure.reason.contains(name) && failure.reason.contains("home"), "{}", failure.reason);
    assert_eq!((room.text("a"), room.text("b")), ("1".into(), "1".into()));
    assert_eq!(git(&room.home(), &["status", "--porcelain"]), "");
    disk.mount("remount,size=64m");
    room.bring(&second, FAIL).expect("completed");
    room.assert_is_at(&second);

    let tree = Disk::at(room.path("small"), "size=1m");
    let place = || room.fresh(&tree.0.join("tree"));
    room.fetch_commit(&second).expect("fetched");
    let failure = room.stage(&second, place(), None).expect_err("no room");
    assert!(failure.reason.contains(name) && failure.reason.contains("small/tree"), "{}", failure.reason);

    let mirror = Disk::at(room.path("mirrors"), "size=1m");
    let mut order = room.order(&room.remote, Vec::new(), super::Target::Ref(main_branch()));
    order.into = Into::Mirror(mirror.0.join("mirror.git"));
    let failure = crate::git::bring::fetch(&order).expect_err("no room");
    assert_eq!(failure.class, FailureClass::Other, "{}", failure.reason);
    assert!(failure.reason.contains(name) && failure.reason.contains("mirror"), "{}", failure.reason);
    mirror.mount("remount,size=64m");
    crate::git::bring::fetch(&order).expect("there is room");
    git(&mirror.0.join("mirror.git"), &["fsck", "--strict"]);
}

/// Brings a working tree as the user `nobody`.
pub(super) fn bring_as_nobody(room: &Room, commit: &CommitId) -> Result<(), String> {
    let order = Stage {
        remote: room.remote.clone(),
        commit: commit.clone(),
        place: room.place(Some(RefName::Branch("main".into())), SAVE),
        scope: room.scope.clone(),
        previous: None,
        changed_files: room.path("desk/changed-files"),
    };
    let mut command = Command::new(std::env::current_exe().expect("a test knows its program"));
    command.uid(65534).gid(65534).current_dir("/");
    let child = room.start_child_by(command, &Order::Stage(order), &[]);
    let output = child.wait_with_output().expect("the child ends");
    errand::decode(answer(&output)).and_then(Answer::staged).map(drop).map_err(|failure| failure.reason)
}

/// Fetches a commit into the working tree, and lets `nobody` reach it and write down what a run tells.
fn open_to_nobody(room: &Room, commit: &CommitId) {
    let target = Target::Commit { commit: commit.clone(), ref_name: Some(main_branch()) };
    room.fetch_into(&room.home(), target).expect("its objects are there");
    fs::set_permissions(room.folder.path(), Permissions::from_mode(0o755)).expect("a mode");
    DirBuilder::new().mode(0o755).create(room.path("desk")).expect("a folder");
    give_away(&room.path("desk"));
}

pub(super) fn give_away(folder: &Path) {
    for path in contents(folder).keys().map(|it| folder.join(it)).chain([folder.to_owned()]) {
        if !path.is_symlink() {
            chown(&path, Some(65534), Some(65534)).expect("given away");
        }
    }
}

#[test]
fn as_root_a_folder_that_is_somebody_elses_is_refused_with_the_command_that_gives_it_over() {
    if !is_root("as_root_a_folder_that_is_somebody_elses_is_refused_with_the_command_that_gives_it_over") {
        return;
    }
    let room = Room::new();
    let first = room.commit(&[("a", "1"), ("deep/b", "1")]);
    room.bring(&first, SAVE).expect("first");
    let second = room.commit(&[("a", "2"), ("deep/b", "2")]);
    open_to_nobody(&room, &second);

    // Wholly somebody else's, then only what git keeps, and at last only a folder within.
    for theirs in ["", ".git", "deep"] {
        let reason = bring_as_nobody(&room, &second).expect_err("not theirs");
        assert!(reason.contains("`nobody`") && reason.contains("`root`"), "{theirs}: {reason}");
        assert_eq!(room.text("a"), "1", "{theirs}: nothing was changed");
        let command = reason.split('`').find(|it| it.starts_with("chown ")).expect("a command");
        match theirs {
            "" => chown(room.home(), Some(65534), None).expect("the folder alone"),
            ".git" => {
                give_away(&room.home());
                assert!(Command::new("sh").args(["-ec", command]).status().expect("sh").success(), "{command}");
                chown(room.home().join("deep"), Some(0), None).expect("one folder");
            }
            _ => assert!(Command::new("sh").args(["-ec", command]).status().expect("sh").success(), "{command}"),
        }
    }
    bring_as_nobody(&room, &second).expect("theirs");
    assert_eq!((room.text("a"), room.text("deep/b")), ("2".into(), "2".into()));
    assert_eq!(room.text(".git/refs/heads/main").trim_end(), second.as_str());
}

#[test]
fn as_root_a_folder_that_cannot_be_written_is_refused_for_what_it_is() {
    if !is_root("as_root_a_folder_that_cannot_be_written_is_refused_for_what_it_is") {
        return;
    }
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    let disk = Disk::at(room.home(), "size=8m");
    room.bring(&first, SAVE).expect("first");
    let second = room.commit(&[("a", "2")]);
    disk.mount("remount,ro");
    let failure = room.bring(&second, SAVE).expect_err("read-only");
    assert!(failure.reason.contains("read-only"), "{}", failure.reason);
    assert!(failure.reason.contains(&room.home().display().to_string()), "{}", failure.reason);
    disk.mount("remount,rw");
    room.bring(&second, SAVE).expect("writable again");
    room.assert_is_at(&second);
}

/// The command that a failure names, which begins with this word; it is carried out.
fn mended_by(reason: &str, word: &str) {
    let command = reason.split('`').rfind(|it| it.starts_with(word)).unwrap_or_else(|| panic!("no command: {reason}"));
    assert!(Command::new("sh").args(["-ec", command]).status().expect("sh").success(), "{command}");
}

#[test]
fn as_root_refs_that_belong_to_others_are_named_before_a_file_changes() {
    if !is_root("as_root_refs_that_belong_to_others_are_named_before_a_file_changes") {
        return;
    }
    let room = Room::new();
    let first = room.commit(&[("a", "1")]);
    room.bring(&first, SAVE).expect("first");
    let second = room.commit(&[("a", "2")]);
    open_to_nobody(&room, &second);
    assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(room.home()).status().expect("chown").success());
    // What `sudo git` leaves in a folder.
    for theirs in [".git/logs/HEAD", ".git/logs/refs/heads/main", ".git/refs/heads"] {
        chown(room.home().join(theirs), Some(0), None).expect("root's");
        let reason = bring_as_nobody(&room, &second).expect_err("not theirs");
        assert!(reason.contains(theirs) && reason.contains("`root`"), "{theirs}: {reason}");
        assert_eq!(room.text("a"), "1", "{theirs}: nothing was changed");
        mended_by(&reason, "chown ");
    }
    // Their own, and closed.
    fs::set_permissions(room.home().join(".git/refs/heads"), Permissions::from_mode(0o555)).expect("a mode");
    let reason = bring_as_nobody(&room, &second).expect_err("closed");
    assert_eq!(room.text("a"), "1", "nothing was changed");
    mended_by(&reason, "chmod ");
    bring_as_nobody(&room, &second).expect("theirs");
    assert_eq!(room.text("a"), "2");
}

#[test]
fn a_clone_that_has_lost_objects_is_mended_by_the_command_that_is_named() {
    let room = Room::new();
    let first = room.commit(&[("a", "1"), ("b", "1")]);
    room.bring(&first, SAVE).expect("first");
    git(&room.home(), &["branch", "mine"]);
    let second = room.commit(&[("a", "2")]);
    let target = Target::Commit { commit: second.clone(), ref_name: Some(main_branch()) };
    room.fetch_into(&room.home(), target).expect("its objects are there");
    let objects = room.home().join(".git/objects");
    for folder in fs::read_dir(&objects).expect("readable").flatten().map(|it| it.path()) {
        fs::remove_dir_all(&folder).expect("lost");
    }
    fs::create_dir(objects.join("pack")).expect("a folder");
    let failure = room.bring(&second, SAVE).expect_err("nothing is there");
    mended_by(&failure.reason, "git --git-dir=");
    room.bring(&second, SAVE).expect("mended");
    room.assert_is_at(&second);
    git(&room.home(), &["fsck", "--connectivity-only"]);
    git(&room.home(), &["rev-parse", "mine"]);
}
