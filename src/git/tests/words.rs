//! Promises about what a remote says, or fails to say, when a fetch fails: people read its own words.

use super::{
    Room, git, main_branch,
    server::{GitServer, Judge, Request, Verdict, everyone},
};
use crate::{
    git::GitFailure,
    model::{job::Target, run::FailureClass},
};

/// The failure of a fetch whose request for a pack is answered in this way, held to be one that another try may mend.
fn failure_of(answer: impl Fn(&Request) -> Verdict + Send + Sync + 'static) -> GitFailure {
    let room = Room::new();
    let commit = room.commit(&[("a", &"1".repeat(5000))]);
    let judge: Judge = Box::new(move |request| match request.method.as_str() {
        "POST" => answer(request),
        _ => Verdict::Serve,
    });
    let server = GitServer::plain(room.folder.path(), judge);
    let remote = format!("http://{}/source/.git", server.address);
    let failure = room.fetch_from(&remote, Vec::new(), Target::Ref(main_branch())).expect_err("no pack");
    assert_eq!(failure.class, FailureClass::Fetch, "{}", failure.reason);
    let server = GitServer::plain(room.folder.path(), everyone());
    let remote = format!("http://{}/source/.git", server.address);
    assert_eq!(room.fetch_from(&remote, Vec::new(), Target::Ref(main_branch())).expect("again").commit, commit);
    git(&room.path("mirror.git"), &["fsck", "--strict"]);
    failure
}

fn line(payload: &[u8]) -> Vec<u8> {
    [format!("{:04x}", payload.len() + 4).as_bytes(), payload].concat()
}

#[test]
fn a_remote_that_refuses_to_send_a_pack_is_quoted() {
    let failure = failure_of(|_| Verdict::Pack(line(b"ERR the quota of\x1b[2J acme is used up\n")));
    assert!(failure.reason.ends_with("gave up: the quota of [2J acme is used up"), "{}", failure.reason);
    assert!(failure.reason.contains("/source/.git"), "{}", failure.reason);
}

#[test]
fn a_remote_that_gives_up_within_a_pack_is_quoted() {
    let words = b"\x03aborting due to possible repository corruption on the remote side.\n";
    let failure = failure_of(move |_| Verdict::Pack([line(b"NAK\n"), line(words)].concat()));
    assert!(failure.reason.contains("gave up: aborting due to possible"), "{}", failure.reason);
    let begun = line(&[&b"\x01PACK\0\0\0\x02\0\0\0\x03"[..], &[0; 30]].concat());
    let failure = failure_of(move |_| Verdict::Pack([line(b"NAK\n"), begun.clone(), line(words)].concat()));
    assert!(failure.reason.contains("gave up: aborting due to possible"), "{}", failure.reason);
}

#[test]
fn an_answer_that_ends_early_as_if_it_were_whole_is_said_to_have_broken_off() {
    // Without the last four bytes, which say that this is the end; within the pack; and with nothing in it.
    for (left_out, place) in [(4, "in the middle of the pack"), (40, "broke off"), (1 << 20, "before it answered")] {
        let failure = failure_of(move |_| Verdict::Cut(left_out));
        assert!(failure.reason.contains("broke off"), "{}", failure.reason);
        assert!(failure.reason.contains(place), "{}", failure.reason);
    }
}

#[test]
fn a_line_that_breaks_is_told_with_its_cause() {
    let failure = failure_of(|_| Verdict::Break);
    assert!(failure.reason.contains("`127.0.0.1` broke off: "), "{}", failure.reason);
    assert!(failure.reason.contains("end of file before message length reached"), "{}", failure.reason);
}
