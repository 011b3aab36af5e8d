//! Brings a working tree at a fixed path to exactly one commit.
//!
//! It is a clone like any other, and a person may work in it: what is theirs is saved, refused or left alone.
//!
//! Invariant: a local edit is overwritten only after it was saved, or where the hook says so; no file, index or HEAD
//! changes before everything that is needed is there; and whenever this is killed, the same order or a later one
//! completes it without taking our own half-done work for an edit.

mod writable;

mod sound;

mod unusual;

mod adopt;

mod module;

mod gitfile;

mod set_aside;

mod register;

mod under_way;

mod standing;

mod plan;

mod branch;

mod save;

mod folders;

mod leftovers;

mod temporary;

mod apply;

mod clean;

mod prepare;

mod sparse;

use std::path::Path;

use git2::Oid;

pub(super) use self::{
    adopt::{complete, open_to_fetch, settle, standing_commit},
    module::prepare as module,
    register::register,
};
use crate::git::{GitFailure, Scope};
use crate::model::{
    deploy::{Clean, Dirty},
    push::RefName,
};

/// What the order says about the working tree.
#[derive(Clone, Copy)]
pub(super) struct InPlace<'a> {
    pub(super) path: &'a Path,
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
pub(super) fn bring(commit: Oid, place: &InPlace<'_>) -> Result<Brought, GitFailure> {
    let home = adopt::open(place.path, place.remote, place.ref_name)?;
    let before = home.head();
    let mut all = prepare::all(home, commit, place)?;
    let mut patch_saved = false;
    match place.dirty {
        Dirty::Fail => all.iter().try_for_each(prepare::Prepared::refuse_edits)?,
        Dirty::Save => {
            for one in &mut all {
                patch_saved |= one.save_edits()?;
            }
        }
        Dirty::Overwrite => (),
    }
    // Everything that may fail for want of room, rights or an object does so here.
    for one in &mut all {
        one.write_files()?;
    }
    all.iter_mut().try_for_each(prepare::Prepared::note)?;
    all.iter_mut().try_for_each(prepare::Prepared::clear)?;
    all.into_iter().try_for_each(prepare::Prepared::switch)?;
    Ok(Brought { before, patch_saved })
}
