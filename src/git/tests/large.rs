//! Promises about memory: what comes in may be of any size.

use crate::git::Answer;
use std::{
    fs::File,
    io::Write,
    process::{Command, Output},
};

use super::{
    Order, Place, Room, Stage, answer, git,
    in_place::FAIL,
    main_branch,
    server::{GitServer, everyone},
};
use crate::{
    model::{job::Target, push::CommitId},
    process::errand,
};

const MIB: usize = 1 << 20;

/// Larger than all that a child may take together.
const FILE_MIB: usize = 96;

/// What a child may take, in KiB: all that is its own, and not what the kernel only keeps of files (setrlimit(2)).
const MEMORY_KIB_MAX: &str = "65536";

/// Commits files that cannot be compressed, of this size each.
fn commit_large(room: &Room, names: &[&str], mib: usize) -> CommitId {
    for name in names {
        let mut piece = vec![0; MIB];
        getrandom::fill(&mut piece).expect("random bytes");
        let mut file = File::create(room.source().join(name)).expect("a file");
        for number in 0..mib {
            piece[..8].copy_from_slice(&number.to_le_bytes());
            file.write_all(&piece).expect("written");
        }
    }
    // So that git, too, leaves it alone.
    for (key, value) in [("core.compression", "0"), ("core.bigFileThreshold", "1m")] {
        room.git(&["config", key, value]);
    }
    room.commit(&[])
}

/// Has an order done by a child that ends where it takes more.
pub(super) fn within_limit(room: &Room, order: &Order) -> Output {
    let mut command = Command::new("sh");
    let own = std::env::current_exe().expect("a test knows its program");
    command.args(["-c", "ulimit -d \"$0\" && exec \"$@\"", MEMORY_KIB_MAX]).arg(own);
    room.start_child_by(command, order, &[]).wait_with_output().expect("the child ends")
}

fn stage(room: &Room, commit: &CommitId, place: Place) {
    let order = Stage {
        remote: room.remote.clone(),
        commit: commit.clone(),
        place,
        scope: room.scope.clone(),
        previous: None,
        changed_files: room.path("changed-files"),
    };
    errand::decode(answer(&within_limit(room, &Order::Stage(order)))).and_then(Answer::staged).expect("staged");
}

#[test]
fn a_large_file_is_fetched_and_staged_without_being_in_memory() {
    let mut room = Room::new();
    let first = room.commit(&[("a", "1")]);
    let server = GitServer::plain(room.folder.path(), everyone());
    room.remote = format!("http://{}/source/.git", server.address);
    room.bring(&first, FAIL).expect("a working tree");

    let second = commit_large(&room, &["large.bin"], FILE_MIB);
    let target = Target::Commit { commit: second.clone(), ref_name: Some(main_branch()) };
    let order = Order::Fetch(room.order(&room.remote, Vec::new(), target));
    let fetched = errand::decode(answer(&within_limit(&room, &order))).and_then(Answer::fetched);
    assert_eq!(fetched.expect("fetched").commit, second);
    let into = super::Into::WorkTree(room.home());
    let target = Target::Commit { commit: second.clone(), ref_name: Some(main_branch()) };
    let order = Order::Fetch(super::Fetch { into, ..room.order(&room.remote, Vec::new(), target) });
    errand::decode(answer(&within_limit(&room, &order))).and_then(Answer::fetched).expect("fetched in place");
    let tree = room.path("tree");
    stage(&room, &second, room.fresh(&tree));
    stage(&room, &second, room.place(Some(main_branch()), FAIL));
    for folder in [tree, room.home()] {
        let id = git(&room.source(), &["hash-object", "--no-filters", &folder.join("large.bin").display().to_string()]);
        assert_eq!(id, room.git(&["rev-parse", "HEAD:large.bin"]));
    }
    room.assert_is_at(&second);
}
