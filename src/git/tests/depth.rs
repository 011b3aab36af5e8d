//! Promises of a history that is cut short, kept against real servers.

use super::ssh_login;
use super::{
    Room, git,
    in_place::SAVE,
    main_branch,
    server::{GitServer, Sshd, everyone},
};
use crate::model::deploy::Depth;
use crate::{
    git::{Against, Fetch, Fetched, Filter, Staged, Verdict, bring::fetch},
    model::{
        job::{Asked, Target},
        push::CommitId,
    },
};

/// A room whose source has 30 commits and a tag at the first, served over HTTP; the hook wants `depth` of them.
fn room_of(depth: u32) -> (Room, GitServer, Vec<CommitId>) {
    let mut room = Room::new();
    let commits = (0..30).map(|it| room.commit(&[("a", &it.to_string()), (&format!("f{it}"), "x")])).collect();
    room.git(&["tag", "first", "HEAD~29"]);
    let server = GitServer::plain(room.folder.path(), everyone());
    room.remote = format!("http://{}/source/.git", server.address);
    room.scope.depth = std::num::NonZeroU32::new(depth).map_or(Depth::All, Depth::Commits);
    (room, server, commits)
}

fn history(room: &Room, folder: &str) -> usize {
    git(&room.path(folder), &["rev-list", "--all", "--count"]).parse().expect("a number")
}

fn is_shallow(room: &Room, folder: &str) -> bool {
    git(&room.path(folder), &["rev-parse", "--is-shallow-repository"]) == "true"
}

/// What becomes of a push of `commit` while `live` is live.
fn pushed(room: &Room, commit: &CommitId, live: Option<&CommitId>, filter: Filter) -> Fetched {
    let target = Target::Commit { commit: commit.clone(), ref_name: Some(main_branch()) };
    let against = Against { live: live.cloned(), filter, ..Against::nothing(Asked::Push) };
    fetch(&Fetch { against, ..room.order(&room.remote, Vec::new(), target) }).expect("fetched")
}

fn stage(room: &Room, commit: &CommitId, name: &str, previous: Option<&CommitId>) -> Staged {
    let tree = room.path(name);
    let staged = room.stage(commit, room.fresh(&tree), previous).expect("staged");
    let expected = room.git(&["show", &format!("{commit}:a")]);
    assert_eq!(std::fs::read_to_string(tree.join("a")).expect("a file"), expected);
    staged
}

#[test]
fn no_more_history_is_fetched_than_is_wanted_and_each_push_is_deployed() {
    let (room, _server, commits) = room_of(3);
    let last = &commits[29];
    room.fetch_commit(last).expect("fetched");
    assert_eq!((history(&room, "mirror.git"), is_shallow(&room, "mirror.git")), (3, true));
    stage(&room, last, "one", None);

    let next = room.commit(&[("a", "next")]);
    assert_eq!(pushed(&room, &next, Some(last), Filter::default()).verdict, Verdict::GoAhead { remark: None });
    assert!(history(&room, "mirror.git") <= 4 && is_shallow(&room, "mirror.git"));
    let staged = stage(&room, &next, "two", Some(last));
    assert_eq!((staged.changed, staged.commit_count), (1, Some(1)));
    git(&room.path("mirror.git"), &["fsck", "--strict"]);
}

#[test]
fn a_commit_below_the_cut_is_deployed_whether_or_not_the_server_gives_it_by_its_id() {
    for gives in ["false", "true"] {
        let (room, _server, commits) = room_of(1);
        room.git(&["config", "uploadpack.allowAnySHA1InWant", gives]);
        room.fetch_commit(&commits[29]).expect("fetched");
        room.fetch_commit(&commits[20]).expect("fetched");
        stage(&room, &commits[20], "tree", None);
        assert_eq!(
            is_shallow(&room, "mirror.git"),
            gives == "true",
            "30 commits are within the first step further back"
        );
        git(&room.path("mirror.git"), &["fsck"]);
        let gone = CommitId::parse(&"12".repeat(20)).expect("hex");
        let failure = room.fetch_commit(&gone).expect_err("gone");
        assert!(failure.reason.contains("no longer on the remote"), "{}", failure.reason);
    }
}

#[test]
fn history_is_followed_further_back_where_a_question_needs_it() {
    let (room, _server, commits) = room_of(1);
    room.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    // What the branch has now needs no history.
    let ahead = Verdict::GoAhead { remark: None };
    assert_eq!(pushed(&room, &commits[29], Some(&commits[2]), Filter::default()).verdict, ahead);
    assert!(is_shallow(&room, "mirror.git"));
    // What it has left behind does: newer than what is live, and older.
    assert_eq!(pushed(&room, &commits[25], Some(&commits[10]), Filter::default()).verdict, ahead);
    let verdict = pushed(&room, &commits[9], Some(&commits[25]), Filter::default()).verdict;
    assert!(matches!(verdict, Verdict::Stale { .. }), "{verdict:?}");
}

#[test]
fn a_commit_without_a_marker_below_the_cut_is_not_skipped() {
    let (room, _server, commits) = room_of(2);
    let filter = || Filter { paths: Vec::new(), skip_markers: vec!["[skip deploy]".into()] };
    room.fetch_commit(&commits[29]).expect("fetched");
    room.commit(&[("a", "of weight")]);
    let mark = |text: &str| {
        room.git(&["commit", "-q", "--allow-empty", "-m", &format!("{text} [skip deploy]")]);
        room.head()
    };
    let (_, _, third) = (mark("one"), mark("two"), mark("three"));
    let verdict = pushed(&room, &third, Some(&commits[29]), filter()).verdict;
    assert_eq!(verdict, Verdict::GoAhead { remark: None });
    let fourth = mark("four");
    let verdict = pushed(&room, &fourth, Some(&third), filter()).verdict;
    assert!(matches!(verdict, Verdict::Skipped { .. }), "{verdict:?}");
}

#[test]
fn a_working_tree_with_a_short_history_is_one_that_git_is_content_with() {
    let (mut room, _server, commits) = room_of(1);
    let check = |room: &Room, commit: &CommitId| {
        room.assert_is_at(commit);
        git(&room.home(), &["fsck", "--strict"]);
        git(&room.home(), &["log", "--stat"]);
    };
    room.bring(&commits[29], SAVE).expect("first");
    check(&room, &commits[29]);
    assert_eq!(history(&room, "home"), 1);
    let before = room.commit(&[("a", "next"), ("big", &"noise".repeat(1000))]);
    room.bring(&before, SAVE).expect("second");
    check(&room, &before);
    assert_eq!(history(&room, "home"), 2);
    let blob = room.git(&["rev-parse", &format!("{}:f3", commits[29])]);
    let packs = git(&room.home(), &["cat-file", "--batch-all-objects", "--unordered", "--batch-check"]);
    assert_eq!(packs.lines().filter(|it| it.starts_with(&blob)).count(), 1);

    // Another hook wants all of the history, and then this one does.
    room.scope.depth = Depth::All;
    let after = room.commit(&[("a", "after")]);
    room.bring(&after, SAVE).expect("third");
    check(&room, &after);
    assert!(!is_shallow(&room, "home"));
    room.scope.depth = Depth::Commits(std::num::NonZeroU32::MIN);
    let last = room.commit(&[("a", "last")]);
    room.bring(&last, SAVE).expect("fourth");
    check(&room, &last);
    assert!(!is_shallow(&room, "home"), "what is there is not thrown away");
}

#[test]
fn history_is_cut_short_over_ssh_too_and_at_hand_in_a_folder() {
    let (mut room, _server, commits) = room_of(2);
    let sshd = Sshd::start(room.folder.path());
    std::fs::write(room.path("known_hosts"), &sshd.known_hosts_line).expect("written");
    let door = ssh_login(sshd.key.clone(), room.path("known_hosts"));
    let remote = format!("ssh://127.0.0.1:{}{}", sshd.port, room.source().display());
    room.fetch_from(&remote, door, Target::Ref(main_branch())).expect("fetched");
    assert_eq!((history(&room, "mirror.git"), is_shallow(&room, "mirror.git")), (2, true));
    stage(&room, &commits[29], "tree", None);

    std::fs::remove_dir_all(room.path("mirror.git")).expect("removed");
    room.remote = format!("file://{}", room.source().display());
    room.fetch_commit(&commits[29]).expect("fetched");
    stage(&room, &commits[29], "another", None);
}

#[test]
fn a_commit_below_the_tip_of_a_branch_that_was_never_asked_for_is_found() {
    let (mut room, _server, _) = room_of(1);
    room.git(&["checkout", "-q", "-b", "other", "HEAD~5"]);
    let below = room.commit(&[("other", "1")]);
    room.commit(&[("other", "2")]);
    room.git(&["checkout", "-q", "main"]);
    let by_id = || Target::Commit { commit: below.clone(), ref_name: None };
    // A full mirror of one branch, and a full clone of one: each is asked for what no ref of theirs leads to.
    for depth in [Depth::Auto, Depth::Commits(std::num::NonZeroU32::new(5).expect("not zero"))] {
        for folder in ["mirror.git", "home"] {
            let _ = std::fs::remove_dir_all(room.path(folder));
        }
        let url = room.remote.clone();
        git(room.folder.path(), &["clone", "-q", "--bare", "--single-branch", &url, "mirror.git"]);
        git(room.folder.path(), &["clone", "-q", "--single-branch", &url, "home"]);
        room.scope.depth = depth;
        assert_eq!(room.fetch(by_id()).expect("in a mirror").commit, below);
        assert_eq!(room.fetch_into(&room.home(), by_id()).expect("in a clone").commit, below, "{depth:?}");
        assert!(!is_shallow(&room, "mirror.git") && !is_shallow(&room, "home"), "what is there is not cut short");
        for folder in ["mirror.git", "home"] {
            git(&room.path(folder), &["fsck", "--connectivity-only"]);
        }
    }
}

#[test]
fn new_commits_are_counted_beyond_a_cut_and_only_where_the_cut_hides_none() {
    for local in [false, true] {
        let (mut room, _server, commits) = room_of(1);
        room.scope.depth = Depth::Auto;
        if local {
            room.remote = format!("file://{}", room.source().display());
        }
        let last = &commits[29];
        room.fetch_commit(last).expect("fetched");
        room.git(&["branch", "old", "HEAD~5"]);
        let count = |commit: &CommitId, previous: &CommitId, name: &str| {
            room.fetch_commit(commit).expect("fetched");
            stage(&room, commit, name, Some(previous)).commit_count
        };
        // An ordinary push with a merge of what began after the cut.
        room.git(&["checkout", "-q", "-b", "side"]);
        room.commit(&[("side", "1")]);
        room.git(&["checkout", "-q", "main"]);
        room.commit(&[("main", "1")]);
        room.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
        let merged = room.head();
        assert_eq!(count(&merged, last, "one"), Some(3));
        // A merge of what began before it: the commits between are not told apart from those before them.
        room.git(&["checkout", "-q", "old"]);
        room.commit(&[("old", "1")]);
        room.git(&["checkout", "-q", "main"]);
        room.git(&["merge", "-q", "--no-ff", "-m", "merge", "old"]);
        let with_old = room.head();
        assert_eq!(count(&with_old, &merged, "two"), None);
        // With all of the history they are.
        room.scope.depth = Depth::All;
        room.fetch(Target::Ref(main_branch())).expect("all of it");
        assert_eq!(stage(&room, &with_old, "three", Some(&merged)).commit_count, Some(2));
    }
}
