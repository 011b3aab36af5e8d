//! Brings a working tree at a fixed path to exactly one commit.
//!
//! Invariant: a local edit is overwritten only after it was saved, or where the hook says so; and whenever this is
//! killed, the same order or a later one completes it without taking our own half-done work for an edit.

mod writable;

mod adopt;

mod objects;

mod under_way;

mod standing;

mod plan;

mod save;

mod apply;

mod clean;

mod within;

mod sparse;

use std::path::Path;

use git2::{Commit, Oid};

use super::{GitFailure, Scope, mirror::Mirror, progress::say};
use crate::model::{
    deploy::{Clean, Dirty},
    push::RefName,
};

/// What the order says about the working tree.
#[derive(Clone, Copy)]
pub(super) struct InPlace<'a> {
    pub(super) path: &'a Path,
    /// The working tree that this one is a submodule within, at whatever depth.
    pub(super) outer: Option<&'a Path>,
    pub(super) remote: &'a str,
    pub(super) ref_name: Option<&'a RefName>,
    pub(super) dirty: Dirty,
    pub(super) clean: Clean,
    pub(super) patch: &'a Path,
    pub(super) scope: &'a Scope,
}

/// What was done.
pub(super) struct Brought {
    /// The commit that was checked out before.
    pub(super) before: Option<Oid>,
    pub(super) patch_saved: bool,
}

/// Does it.
pub(super) fn bring(mirror: &Mirror, commit: &Commit<'_>, place: &InPlace<'_>) -> Result<Brought, GitFailure> {
    let home = adopt::open(mirror, place)?;
    let before = home.repo.head().ok().and_then(|it| it.peel_to_commit().ok()).map(|it| it.id());
    let mut under_way = under_way::UnderWay::begin(&home.repo, &adopt::refs(&home, place))?;
    objects::bring(mirror, &home.repo, commit.id())?;
    let mut standing = standing::Standing::look(&home, &under_way)?;
    let plan = plan::make((mirror, place.scope.lfs), &home, &under_way, &mut standing, commit)?;
    writable::judge_all(&home, &plan)?;
    let lost = save::lost_commits(mirror, &home, place.ref_name)?;
    let mut patch_saved = match place.dirty {
        Dirty::Save => save::save(&home, &plan, &lost, place.patch)?,
        Dirty::Fail => {
            save::refuse(&home, &plan, &lost)?;
            within::refuse_all(mirror, &home, commit, place)?;
            false
        }
        Dirty::Overwrite => false,
    };
    under_way.note(commit.id())?;
    apply::apply((mirror, place.scope.lfs), &home, &under_way, standing, &plan, commit)?;
    apply::move_refs(&home, commit.id(), place.ref_name)?;
    under_way.end()?;
    match place.clean {
        Clean::None => (),
        Clean::Untracked => clean::remove_untracked(&home)?,
    }
    say(&format!(
        "{} is at {:.7}: {} {} written, {} removed",
        home.path.display(),
        commit.id(),
        plan.puts.len(),
        if plan.puts.len() == 1 { "file" } else { "files" },
        plan.gone.len()
    ));
    patch_saved |= within::bring_all(mirror, &home, commit, place)?;
    Ok(Brought { before, patch_saved })
}

/// Fails where [`bring`] would overwrite edits. No file is changed.
fn refuse(mirror: &Mirror, commit: &Commit<'_>, place: &InPlace<'_>) -> Result<(), GitFailure> {
    let home = adopt::open(mirror, place)?;
    let under_way = under_way::UnderWay::begin(&home.repo, &adopt::refs(&home, place))?;
    objects::bring(mirror, &home.repo, commit.id())?;
    let mut standing = standing::Standing::look(&home, &under_way)?;
    let plan = plan::make((mirror, place.scope.lfs), &home, &under_way, &mut standing, commit)?;
    save::refuse(&home, &plan, &save::lost_commits(mirror, &home, place.ref_name)?)?;
    within::refuse_all(mirror, &home, commit, place)
}
