//! What happens to a person's work before it is overwritten.
//!
//! Invariant: when `save` has returned, every edit and every file that is in the way is on disk elsewhere, and every
//! local commit has a ref.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, symlink},
    path::{Path, PathBuf},
};

use git2::{DiffFormat, DiffOptions, Oid};

use super::{adopt::Home, plan::Plan};
use crate::{
    git::{
        GitFailure, cannot,
        entries::as_path,
        mirror::refs::DEPLOYED,
        progress::{plain, say},
    },
    model::push::RefName,
};

/// Names of files that a failure lists.
const LISTED_MAX: usize = 10;

/// Commits that only the working tree has, and that moving its refs would leave behind.
pub(super) fn lost_commits(home: &Home, ref_name: Option<&RefName>) -> Result<BTreeSet<Oid>, GitFailure> {
    let mut moved = BTreeSet::new();
    moved.extend(home.repo.head().ok().and_then(|it| it.target()));
    if let Some(name @ RefName::Branch(_)) = ref_name {
        moved.extend(home.repo.refname_to_id(&name.full()).ok());
    }
    moved.retain(|id| is_lost(home, *id));
    Ok(moved)
}

/// Whether a commit is one that the remote never had: no ref of ours or of the remote's leads to it.
pub(super) fn is_lost(home: &Home, commit: Oid) -> bool {
    let repo = &home.repo;
    if repo.refname_to_id(DEPLOYED).ok() == Some(commit) {
        return false;
    }
    let walk = || -> Result<bool, git2::Error> {
        let mut walk = repo.revwalk()?;
        walk.push(commit)?;
        for theirs in ["refs/remotes/*", "refs/landfall/*", "refs/tags/*"] {
            walk.hide_glob(theirs)?;
        }
        Ok(walk.next().is_some())
    };
    // What cannot be told is saved.
    walk().unwrap_or(true)
}

/// Fails if there is anything that would be overwritten.
pub(super) fn refuse(home: &Home, plan: &Plan, lost: &BTreeSet<Oid>) -> Result<(), GitFailure> {
    let paths: Vec<&Vec<u8>> = plan.edits.iter().chain(&plan.in_the_way).collect();
    let mut reasons = Vec::new();
    if !paths.is_empty() {
        let mut names: Vec<String> = paths.iter().take(LISTED_MAX).map(|it| format!("`{}`", plain(it))).collect();
        if paths.len() > LISTED_MAX {
            names.push(format!("{} more", paths.len() - LISTED_MAX));
        }
        reasons.push(format!("local edits would be overwritten: {}", names.join(", ")));
    }
    reasons.extend(lost.iter().map(|id| format!("commit {id:.7} is not on the remote")));
    match reasons.is_empty() {
        true => Ok(()),
        false => Err(GitFailure::permanent(format!(
            "in `{}` {}, and the hook says `dirty: fail`: commit and push that, undo it, or have it put aside by \
             `dirty: save`",
            home.path.display(),
            reasons.join("; ")
        ))),
    }
}

/// Saves it; answers whether there was anything.
pub(super) fn save(home: &Home, plan: &Plan, lost: &BTreeSet<Oid>, patch: &Path) -> Result<bool, GitFailure> {
    for id in lost {
        let name = format!("refs/landfall/saved/{id}");
        home.repo.reference(&name, *id, true, "landfall: save").map_err(cannot(format!("write `{name}`")))?;
        say(&format!("commit {id:.7} is not on the remote; it stays as `{name}`"));
    }
    let mut copied: Vec<&Vec<u8>> = plan.in_the_way.iter().collect();
    if !plan.edits.is_empty() {
        let told = write_patch(home, &plan.edits, patch)?;
        if !told.is_empty() {
            say(&format!("saving the local edits of {} files", told.len()));
        }
        // What git does not see as a difference, such as an edit that it was told to overlook, is at least copied.
        copied.extend(plan.edits.iter().filter(|it| !told.contains(*it)));
    }
    if !copied.is_empty() {
        let mut folder = OsString::from(patch);
        folder.push(".files");
        copy(home, &copied, &PathBuf::from(folder))?;
    }
    Ok(!plan.edits.is_empty() || !plan.in_the_way.is_empty())
}

/// Writes the difference between HEAD and the working tree as `git apply` takes it, and answers which paths it is about.
fn write_patch(home: &Home, paths: &[Vec<u8>], patch: &Path) -> Result<BTreeSet<Vec<u8>>, GitFailure> {
    let what = format!("save local edits to `{}`", patch.display());
    let mut options = DiffOptions::new();
    options.disable_pathspec_match(true).show_binary(true).id_abbrev(40);
    options.include_untracked(true).recurse_untracked_dirs(true).show_untracked_content(true);
    for path in paths {
        options.pathspec(path.as_slice());
    }
    let head = home.repo.head().ok().and_then(|it| it.peel_to_tree().ok());
    let index = home.repo.index().map_err(cannot(&*what))?;
    // Where a merge is under way the index has no say: it holds three versions of a file.
    let diff = match index.has_conflicts() {
        true => home.repo.diff_tree_to_workdir(head.as_ref(), Some(&mut options)),
        false => home.repo.diff_tree_to_workdir_with_index(head.as_ref(), Some(&mut options)),
    };
    let diff = diff.map_err(cannot(&*what))?;
    let told: BTreeSet<Vec<u8>> = diff
        .deltas()
        .flat_map(|it| [it.old_file().path_bytes(), it.new_file().path_bytes()].map(|it| it.map(<[u8]>::to_vec)))
        .flatten()
        .collect();
    if told.is_empty() {
        return Ok(told);
    }
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(patch);
    let mut out = BufWriter::new(file.map_err(cannot(&*what))?);
    let mut trouble: Option<io::Error> = None;
    let printed = diff.print(DiffFormat::Patch, |_, _, line| {
        let mark = match line.origin() {
            mark @ (' ' | '+' | '-') => Some(mark as u8),
            _ => None,
        };
        let written = out.write_all(mark.as_slice()).and_then(|()| out.write_all(line.content()));
        trouble = written.err();
        trouble.is_none()
    });
    if let Some(err) = trouble {
        return Err(cannot(what)(err));
    }
    printed.map_err(cannot(&*what))?;
    // These edits are nowhere else.
    let whole = out.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file: File| file.sync_all());
    whole.map(|()| told).map_err(cannot(what))
}

fn copy(home: &Home, paths: &[&Vec<u8>], folder: &Path) -> Result<(), GitFailure> {
    for path in paths {
        let (source, target) = (home.path.join(as_path(path)), folder.join(as_path(path)));
        let what = || format!("save `{}` as `{}`", source.display(), target.display());
        let Ok(metadata) = fs::symlink_metadata(&source) else { continue };
        if let Some(parent) = target.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(cannot(what()))?;
        }
        let kind = metadata.file_type();
        let copied = if kind.is_symlink() {
            fs::read_link(&source).and_then(|it| symlink(it, &target))
        } else if kind.is_file() {
            fs::copy(&source, &target).and_then(|_| File::open(&target)?.sync_all())
        } else {
            debug_assert!(kind.is_fifo() || kind.is_socket() || !kind.is_dir());
            continue;
        };
        copied.map_err(cannot(what()))?;
    }
    say(&format!("saving {} files that were in the way", paths.len()));
    Ok(())
}
