//! Promises about pushes that change nothing a hook cares for, and commits that say so themselves.

use super::{Room, main_branch};
use crate::{
    git::{Against, Fetch, Filter, Verdict, bring::fetch},
    model::{
        job::{Asked, Target},
        push::{CommitId, RefName},
    },
};

/// A push of the newest commit to a hook with this filter.
struct Pushed<'a> {
    room: &'a Room,
    live: Option<&'a CommitId>,
    paths: &'a [&'a str],
    markers: &'a [&'a str],
    asked: Asked,
    is_disturbed: bool,
    ref_name: RefName,
}

impl<'a> Pushed<'a> {
    fn after(room: &'a Room, live: &'a CommitId) -> Self {
        Self {
            room,
            live: Some(live),
            paths: &[],
            markers: &[],
            asked: Asked::Push,
            is_disturbed: false,
            ref_name: main_branch(),
        }
    }

    /// The rule that leaves it out.
    fn rule(&self) -> Option<String> {
        let texts = |them: &[&str]| them.iter().map(|it| (*it).to_owned()).collect();
        let filter = Filter { paths: texts(self.paths), skip_markers: texts(self.markers) };
        let (live, is_disturbed, asked) = (self.live.cloned(), self.is_disturbed, self.asked);
        let against = Against { live, is_disturbed, filter, ..Against::nothing(asked) };
        let target = Target::Commit { commit: self.room.head(), ref_name: Some(self.ref_name.clone()) };
        let order = self.room.order(&self.room.source().display().to_string(), Vec::new(), target);
        match fetch(&Fetch { against, ..order }).expect("fetched").verdict {
            Verdict::Skipped { reason } => Some(reason),
            Verdict::GoAhead { .. } => None,
            Verdict::Stale { reason, .. } => panic!("stale: {reason}"),
        }
    }
}

fn say(room: &Room, message: &str) -> CommitId {
    room.git(&["commit", "-q", "--allow-empty", "-m", message]);
    room.head()
}

#[test]
fn a_push_counts_by_all_files_that_differ_from_what_is_live_and_not_by_its_own() {
    let room = Room::new();
    let live = room.commit(&[("web/page", "1"), ("docs/page", "1")]);
    room.commit(&[("web/page", "2")]);
    room.commit(&[("docs/page", "2")]);
    let pushed = Pushed { paths: &["web/**"], ..Pushed::after(&room, &live) };
    assert_eq!(pushed.rule(), None, "the first of both commits changed it");
    room.commit(&[("web/page", "1"), ("docs/other", "1")]);
    let rule = "`paths`: none of the 2 files that differ from what is live is in [`web/**`]";
    assert_eq!(pushed.rule().as_deref(), Some(rule), "it was changed back");
}

#[test]
fn an_excluded_path_does_not_count_and_a_removed_or_moved_file_does() {
    let room = Room::new();
    let live = room.commit(&[("web/page", "1"), ("web/README.md", "1"), ("web/old", "a long line\n")]);
    let paths: &[&str] = &["web/**", "!**/*.md"];
    room.commit(&[("web/README.md", "2")]);
    let rule = Pushed { paths, ..Pushed::after(&room, &live) }.rule().expect("left out");
    assert_eq!(rule, "`paths`: the one file that differs from what is live is not in [`web/**`, `!**/*.md`]");
    room.git(&["mv", "web/old", "elsewhere"]);
    say(&room, "move a file out");
    assert_eq!(Pushed { paths, ..Pushed::after(&room, &live) }.rule(), None);
    let moved = room.head();
    let nothing = Pushed { paths, ..Pushed::after(&room, &moved) };
    say(&room, "nothing at all");
    assert_eq!(nothing.rule().as_deref(), Some("`paths`: no file differs from what is live"));
}

#[test]
fn neither_paths_nor_markers_leave_a_tag_out() {
    let room = Room::new();
    let live = room.commit(&[("docs/page", "1")]);
    room.commit(&[("docs/page", "2")]);
    say(&room, "words [skip deploy]");
    room.git(&["tag", "v1"]);
    let tag = RefName::Tag("v1".into());
    for (paths, markers) in [(&["web/**"][..], &[][..]), (&[], &["[skip deploy]", "change things"])] {
        let pushed = |ref_name| Pushed { paths, markers, ref_name, ..Pushed::after(&room, &live) }.rule();
        assert!(pushed(main_branch()).is_some(), "{paths:?} {markers:?}");
        assert_eq!(pushed(tag.clone()), None, "{paths:?} {markers:?}");
    }
}

#[test]
fn where_the_difference_is_not_known_nothing_is_left_out_by_paths() {
    let room = Room::new();
    let live = room.commit(&[("docs/page", "1")]);
    room.commit(&[("docs/page", "2")]);
    let pushed = || Pushed { paths: &["web/**"], ..Pushed::after(&room, &live) };
    assert!(pushed().rule().is_some());
    assert_eq!(Pushed { live: None, ..pushed() }.rule(), None, "a first deploy");
    let gone = super::id(&"ab".repeat(20));
    assert_eq!(Pushed { live: Some(&gone), ..pushed() }.rule(), None, "what is live is gone");
    assert_eq!(Pushed { is_disturbed: true, ..pushed() }.rule(), None, "a run since then failed half-way");
}

#[test]
fn every_new_commit_must_carry_a_marker_for_nothing_to_run() {
    let room = Room::new();
    let live = room.commit(&[("a", "1")]);
    let markers: &[&str] = &["[skip deploy]", "[deploy skip]"];
    let rule = || Pushed { markers, ..Pushed::after(&room, &live) }.rule();
    say(&room, "words\n\nat the end of the body [deploy skip]");
    assert_eq!(rule().as_deref(), Some("`skip_markers`: the message of the new commit has `[deploy skip]`"));
    say(&room, "more words [skip deploy]");
    let both = "`skip_markers`: the message of each of the 2 new commits has `[skip deploy]` or `[deploy skip]`";
    assert_eq!(rule().as_deref(), Some(both));
    say(&room, "a fix");
    say(&room, "typo [skip deploy]");
    assert_eq!(rule(), None, "one of them does not");
    assert_eq!(Pushed { markers: &[], ..Pushed::after(&room, &live) }.rule(), None);
}

#[test]
fn a_branch_that_is_moved_back_has_no_new_commit_that_could_carry_a_marker() {
    let room = Room::new();
    room.commit(&[("a", "1")]);
    say(&room, "quiet [skip deploy]");
    let live = room.commit(&[("a", "2")]);
    room.fetch_commit(&live).expect("it was deployed");
    room.git(&["reset", "-q", "--hard", "HEAD~1"]);
    assert_eq!(Pushed { markers: &["[skip deploy]"], ..Pushed::after(&room, &live) }.rule(), None);
}

#[test]
fn what_a_person_asks_for_is_not_left_out() {
    let room = Room::new();
    let live = room.commit(&[("docs/page", "1")]);
    room.write(&[("docs/page", Some(b"2"))]);
    room.git(&["commit", "-q", "-a", "-m", "words [skip deploy]"]);
    for (asked, is_left_out) in [(Asked::Push, true), (Asked::Again, false), (Asked::ByHand, false)] {
        let (paths, markers): (&[&str], &[&str]) = (&["web/**"], &["[skip deploy]"]);
        for pushed in
            [Pushed { paths, ..Pushed::after(&room, &live) }, Pushed { markers, ..Pushed::after(&room, &live) }]
        {
            assert_eq!(Pushed { asked, ..pushed }.rule().is_some(), is_left_out, "{asked:?}");
        }
    }
}
