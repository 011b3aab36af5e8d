//! Promises about what a pushed commit is held against, and about who is asked for it.

use super::ssh_login;
use std::fs;

use super::{
    Room, main_branch,
    server::{GitServer, Sshd, everyone},
};
use crate::{
    git::{Against, Fetch, GitFailure, Verdict, bring::fetch},
    model::{
        job::{Asked, Target},
        push::{CommitId, RefName},
        run::FailureClass,
    },
};

/// What becomes of a push of `commit` to main while `live` is live.
fn pushed(room: &Room, commit: &CommitId, live: &CommitId) -> Verdict {
    asked(room, commit, live, Asked::Push)
}

fn asked(room: &Room, commit: &CommitId, live: &CommitId, asked: Asked) -> Verdict {
    judged(room, &room.source().display().to_string(), commit, &main_branch(), live, asked).expect("judged")
}

fn judged(
    room: &Room,
    remote: &str,
    commit: &CommitId,
    ref_name: &RefName,
    live: &CommitId,
    asked: Asked,
) -> Result<Verdict, GitFailure> {
    judged_against(room, remote, (commit, ref_name), Against { live_ref: Some(ref_name.clone()), ..since(live, asked) })
}

/// This is live, from a ref that is not known.
fn since(live: &CommitId, asked: Asked) -> Against {
    Against { live: Some(live.clone()), ..Against::nothing(asked) }
}

fn judged_against(
    room: &Room,
    remote: &str,
    (commit, ref_name): (&CommitId, &RefName),
    against: Against,
) -> Result<Verdict, GitFailure> {
    let target = Target::Commit { commit: commit.clone(), ref_name: Some(ref_name.clone()) };
    fetch(&Fetch { against, ..room.order(remote, Vec::new(), target) }).map(|it| it.verdict)
}

fn stale(verdict: Verdict) -> String {
    match verdict {
        Verdict::Stale { reason, .. } => reason,
        Verdict::GoAhead { .. } | Verdict::Skipped { .. } => panic!("not stale: {verdict:?}"),
    }
}

fn remark(verdict: Verdict) -> String {
    match verdict {
        Verdict::GoAhead { remark } => remark.unwrap_or_default(),
        Verdict::Stale { .. } | Verdict::Skipped { .. } => panic!("it does not go ahead: {verdict:?}"),
    }
}

#[test]
fn what_comes_after_what_is_live_goes_ahead_also_when_the_branch_has_moved_on() {
    let room = Room::new();
    let (first, second, _) = (room.commit(&[("a", "1")]), room.commit(&[("a", "2")]), room.commit(&[("a", "3")]));
    assert_eq!(pushed(&room, &second, &first), Verdict::GoAhead { remark: None });
}

#[test]
fn an_older_push_is_stale_and_the_reason_names_what_is_live_and_where_the_branch_is() {
    let room = Room::new();
    let (first, second, third) = (room.commit(&[("a", "1")]), room.commit(&[("a", "2")]), room.commit(&[("a", "3")]));
    let reason = stale(pushed(&room, &first, &second));
    let (first, second, third) = (first.short(), second.short(), third.short());
    assert_eq!(
        reason,
        format!("{first} is older than {second}, which is live, and branch `main` of the remote is at {third} by now")
    );
}

#[test]
fn a_branch_that_was_moved_back_is_followed_although_the_mirror_had_the_commit_and_asked_nobody() {
    let room = Room::new();
    let (first, second) = (room.commit(&[("a", "1")]), room.commit(&[("a", "2")]));
    room.fetch_commit(&second).expect("both are in the mirror");
    stale(pushed(&room, &first, &second));
    room.git(&["reset", "-q", "--hard", first.as_str()]);
    assert!(remark(pushed(&room, &first, &second)).contains("points at it now, so it is meant"));
}

#[test]
fn a_force_push_replaces_what_is_live_and_a_diverged_commit_that_the_remote_left_does_not() {
    let room = Room::new();
    room.commit(&[("a", "1")]);
    let live = room.commit(&[("a", "2")]);
    room.fetch_commit(&live).expect("it was deployed");
    room.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let forced = room.commit(&[("a", "3")]);
    assert!(remark(pushed(&room, &forced, &live)).contains("does not come after"));
    room.commit(&[("a", "4")]);
    assert!(stale(pushed(&room, &forced, &live)).contains("does not come after"));
    room.git(&["checkout", "-q", "--detach"]);
    room.git(&["branch", "-q", "-D", "main"]);
    assert!(stale(pushed(&room, &forced, &live)).ends_with("branch `main` of the remote is gone"));
}

#[test]
fn what_is_live_and_gone_from_the_remote_leaves_the_decision_to_the_remote() {
    let room = Room::new();
    let unknown = super::id(&"ab".repeat(20));
    let first = room.commit(&[("a", "1")]);
    assert!(remark(pushed(&room, &first, &unknown)).contains("cannot be told"));
    room.commit(&[("a", "2")]);
    stale(pushed(&room, &first, &unknown));
}

#[test]
fn the_commit_that_is_live_is_skipped_unless_a_run_since_then_or_a_person_gives_a_reason_not_to() {
    let room = Room::new();
    let live = room.commit(&[("a", "1")]);
    let reason = format!("{} is already live", live.short());
    assert_eq!(pushed(&room, &live, &live), Verdict::Skipped { reason });
    for asks in [Asked::Again, Asked::ByHand] {
        assert!(remark(asked(&room, &live, &live, asks)).ends_with("as a person asked for it"));
    }
    let against = Against { is_disturbed: true, ..since(&live, Asked::Push) };
    let order = room.order(&room.source().display().to_string(), Vec::new(), Target::Ref(main_branch()));
    let disturbed = fetch(&Fetch { against, ..order }).expect("fetched").verdict;
    assert!(remark(disturbed).contains("may not be as a run on record has left it"));
}

#[test]
fn a_person_may_deploy_an_older_commit_and_a_push_that_a_person_repeats_is_no_less_old() {
    let room = Room::new();
    let (first, second) = (room.commit(&[("a", "1")]), room.commit(&[("a", "2")]));
    assert!(remark(asked(&room, &first, &second, Asked::ByHand)).contains("is older than"));
    stale(asked(&room, &first, &second, Asked::Again));
}

#[test]
fn a_tag_is_compared_by_the_commit_it_leads_to() {
    let room = Room::new();
    let (first, second) = (room.commit(&[("a", "1")]), room.commit(&[("a", "2")]));
    room.fetch_commit(&second).expect("both are in the mirror");
    let tag = RefName::Tag("v1".into());
    let server = GitServer::plain(room.folder.path(), everyone());
    let local = room.source().display().to_string();
    let http = format!("http://{}/source/.git", server.address);
    for remote in [&local, &http] {
        let judged = || judged(&room, remote, &first, &tag, &second, Asked::Push).expect("judged");
        room.git(&["tag", "-f", "-a", "-m", "one", "v1", first.as_str()]);
        assert!(remark(judged()).contains("tag `v1` of the remote points at it now"), "{remote}");
        room.git(&["tag", "-f", "-a", "-m", "two", "v1", second.as_str()]);
        stale(judged());
    }
}

#[test]
fn a_new_tag_on_an_older_commit_is_stale_and_the_command_that_deploys_it_is_named() {
    let room = Room::new();
    let (first, second) = (room.commit(&[("a", "1")]), room.commit(&[("a", "2")]));
    for (name, options) in [("v1", "--ref refs/tags/v1"), ("v1;id", "--ref 'refs/tags/v1;id'")] {
        let tag = RefName::Tag(name.into());
        room.git(&["tag", name, first.as_str()]);
        let judged = |is_new_tag| {
            let against = Against { is_new_tag, ..since(&second, Asked::Push) };
            judged_against(&room, &room.remote, (&first, &tag), against).expect("judged")
        };
        let (short, live) = (first.short(), second.short());
        let reason = format!("tag `{name}` is new, and {short} is older than {live}, which is live");
        assert_eq!(judged(true), Verdict::Stale { reason, options: options.into() });
        assert!(remark(judged(false)).contains("points at it now, so it is meant"), "a tag that was moved");
    }
}

#[test]
fn a_new_tag_on_a_commit_of_another_line_goes_ahead_with_a_remark() {
    let room = Room::new();
    room.commit(&[("a", "1")]);
    let live = room.commit(&[("a", "2")]);
    room.git(&["checkout", "-q", "-b", "side", "HEAD~1"]);
    let aside = room.commit(&[("a", "3")]);
    room.git(&["tag", "v1"]);
    let against = Against { is_new_tag: true, ..since(&live, Asked::Push) };
    let verdict = judged_against(&room, &room.remote, (&aside, &RefName::Tag("v1".into())), against);
    assert!(remark(verdict.expect("judged")).contains("does not come after"));
}

#[test]
fn the_commit_that_is_live_is_deployed_once_more_for_another_ref() {
    let room = Room::new();
    let live = room.commit(&[("a", "1")]);
    room.git(&["tag", "v1"]);
    room.git(&["branch", "release/1"]);
    let (main, tag, branch) = (main_branch(), RefName::Tag("v1".into()), RefName::Branch("release/1".into()));
    let judged = |ref_name: &RefName, live_ref: Option<&RefName>| {
        let against = Against { live_ref: live_ref.cloned(), ..since(&live, Asked::Push) };
        judged_against(&room, &room.remote, (&live, ref_name), against).expect("judged")
    };
    for (ref_name, live_ref) in [(&tag, &main), (&branch, &main), (&main, &tag)] {
        let said = remark(judged(ref_name, Some(live_ref)));
        assert!(said.contains(&format!("is live from `{}`: once more", live_ref.short())), "{said}");
    }
    assert!(remark(judged(&tag, None)).contains("once more, as this is another ref"));
    for (ref_name, live_ref) in [(&tag, Some(&tag)), (&main, Some(&main)), (&main, None)] {
        assert!(matches!(judged(ref_name, live_ref), Verdict::Skipped { .. }), "{ref_name:?} {live_ref:?}");
    }
}

#[test]
fn an_event_that_is_no_push_is_never_already_live_or_too_old() {
    let room = Room::new();
    let (first, second) = (room.commit(&[("a", "1")]), room.commit(&[("a", "2")]));
    assert!(remark(asked(&room, &second, &second, Asked::Event)).ends_with("is outside of the repository"));
    assert!(remark(asked(&room, &first, &second, Asked::Event)).ends_with("is outside of the repository"));
}

#[test]
fn the_remote_is_asked_over_http_and_ssh_and_only_where_that_decides() {
    let room = Room::new();
    let (first, second) = (room.commit(&[("a", "1")]), room.commit(&[("a", "2")]));
    room.fetch_commit(&second).expect("both are in the mirror");
    room.git(&["reset", "-q", "--hard", first.as_str()]);
    let server = GitServer::plain(room.folder.path(), everyone());
    let remote = format!("http://{}/source/.git", server.address);
    let judged_over = |remote: &str, commit, live| judged(&room, remote, commit, &main_branch(), live, Asked::Push);
    assert_eq!(judged_over(&remote, &second, &first).expect("newer"), Verdict::GoAhead { remark: None });
    assert!(server.seen().is_empty(), "a newer commit that is in the mirror needs no remote");
    assert!(remark(judged_over(&remote, &first, &second).expect("older")).contains("is meant"));
    assert!(!server.seen().is_empty());

    let sshd = Sshd::start(room.folder.path());
    fs::write(room.path("known"), &sshd.known_hosts_line).expect("written");
    let door = ssh_login(sshd.key.clone(), room.path("known"));
    let remote = format!("ssh://127.0.0.1:{}{}", sshd.port, room.source().display());
    let target = Target::Commit { commit: first.clone(), ref_name: Some(main_branch()) };
    let against = since(&second, Asked::Push);
    let fetched = fetch(&Fetch { against, ..room.order(&remote, door, target) }).expect("over ssh");
    assert!(remark(fetched.verdict).contains("is meant"));
}

#[test]
fn a_remote_that_cannot_be_asked_fails_the_fetch_so_that_it_is_tried_again() {
    let room = Room::new();
    let (first, second) = (room.commit(&[("a", "1")]), room.commit(&[("a", "2")]));
    room.fetch_commit(&second).expect("both are in the mirror");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
    let remote = format!("http://{nobody}/source/.git");
    let failure = judged(&room, &remote, &first, &main_branch(), &second, Asked::Push).expect_err("nobody is there");
    assert_eq!(failure.class, FailureClass::Fetch, "{}", failure.reason);
}
