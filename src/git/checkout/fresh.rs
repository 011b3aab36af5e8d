//! Writes what is deployed of a commit into a new folder.
//!
//! Invariant: afterwards the folder holds exactly that, without git's own data, or the order failed.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use git2::{Oid, Tree};

use super::{
    put::{self, Handling},
    write,
};
use crate::git::{
    GitFailure, Scope, cannot,
    entries::as_path,
    mirror::repository::LocalRepo,
    progress::{plain, say},
    submodules::{self, Within},
    tree::{
        attributes::Substitution,
        listing::{Listing, tree_of},
    },
};
use crate::model::{deploy::Submodules, push::RefName};

/// Writes it, and the repositories within.
pub(in crate::git) fn write(
    mirror: &LocalRepo,
    remote: &str,
    (commit, ref_name): (Oid, Option<&RefName>),
    scope: &Scope,
    folder: &Path,
) -> Result<(), GitFailure> {
    let tree = tree_of(mirror, commit)?;
    let mut listing = Listing::of(mirror, &tree, scope.subdir.as_deref())?;
    let mut substitution = None;
    if scope.export_ignore {
        listing.leave_out_export_ignored().iter().for_each(|it| say(it));
        substitution = survey(mirror, (commit, ref_name), &listing)?;
    }
    let handling = Handling { substitution: substitution.as_ref(), ..scope.into() };
    let puts = put::prepare(mirror, &listing.attributes, &listing.prefix, &listing.files, handling)?;
    make(folder)?;
    write::write(mirror, &puts, &listing.folders, folder)?;
    let files = match listing.files.len() {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    say(&format!("wrote {files} to {}", folder.display()));
    write_submodules(mirror, remote, &tree, &listing, scope, folder)
}

/// Looks through the files that name the commit, and says what of them is not expanded.
fn survey(
    mirror: &LocalRepo,
    (commit, ref_name): (Oid, Option<&RefName>),
    listing: &Listing,
) -> Result<Option<Substitution>, GitFailure> {
    let texts = listing.export_substs();
    if texts.is_empty() {
        return Ok(None);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs() as i64);
    let survey = Substitution::survey(&mirror.repo, commit, ref_name, now, &texts, write::CONVERTED_BYTES_MAX)?;
    match &survey.left_out()[..] {
        [] => (),
        left_out => say(&format!("warning: these stay as they are in `$Format$`: {}", left_out.join(" "))),
    }
    Ok(Some(survey))
}

fn write_submodules(
    mirror: &LocalRepo,
    remote: &str,
    tree: &Tree<'_>,
    listing: &Listing,
    scope: &Scope,
    folder: &Path,
) -> Result<(), GitFailure> {
    let links: Vec<_> = listing.submodules().collect();
    if scope.submodules == Submodules::Off {
        for (path, _) in &links {
            say(&format!("`{}` is a submodule, and stays empty", plain(path)));
        }
        return Ok(());
    }
    for Within { path, commit, remote, .. } in submodules::resolve(mirror, tree, links, remote)? {
        let inner = LocalRepo::for_reading(&submodules::mirror_beside(mirror.folder.path(), &remote))?;
        let scope = submodules::scope_within(scope);
        let folder = folder.join(as_path(&path[listing.prefix.len()..]));
        let written = write(&inner, &remote, (commit, None), &scope, &folder);
        written.map_err(|failure| submodules::failed(&path, failure))?;
    }
    Ok(())
}

/// Makes the folder; one that is there must be empty.
fn make(folder: &Path) -> Result<(), GitFailure> {
    let what = || format!("make `{}`", folder.display());
    match DirBuilder::new().mode(0o777).create(folder) {
        Ok(()) => Ok(()),
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
            let mut entries = fs::read_dir(folder).map_err(cannot(what()))?;
            match entries.next() {
                Some(_) => Err(GitFailure::other(format!("cannot {}: it is there, and not empty", what()))),
                None => Ok(()),
            }
        }
        Err(err) => Err(cannot(what())(err)),
    }
}
