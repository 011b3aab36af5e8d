//! The repository of a submodule: where `git submodule` keeps it, in `modules/<name>` of the outer one.
//!
//! Invariant: what lies at a submodule's place and is another repository is never fetched into, nor removed: only its
//! tracked files go, once they are saved.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use git2::{Repository, RepositoryInitOptions, RepositoryOpenFlags};
use rustix::fs::RenameFlags;

use super::{
    adopt::{Home, ORIGIN, our_remote},
    folders,
    gitfile::{GIT, link},
    set_aside, unusual, writable,
};
use crate::{
    git::{
        GitFailure, cannot,
        entries::as_path,
        progress::{plain, say},
        remote,
        submodules::Within,
        transport::library,
    },
    process::beneath::Folder,
};

/// Where the repositories of submodules are.
const MODULES: &str = "modules";

/// Where a submodule is in the working tree around it.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    /// The repository around it.
    pub(super) outer_git_dir: PathBuf,
    /// The folder of its files.
    pub(super) folder: PathBuf,
}

/// The repository that a submodule is fetched into: made where there is none, and taken out of the working tree where an
/// earlier way of doing it has put it there (`git submodule absorbgitdirs`). `top` is the outermost working tree, and
/// `all` are the submodules of the commit.
pub(in crate::git) fn prepare(
    outer_git_dir: &Path,
    (top, folder): (&Path, &Path),
    (within, all): (&Within, &[Within]),
    spares_others: bool,
) -> Result<PathBuf, GitFailure> {
    library::settle()?;
    if spares_others {
        writable::judge_way(top, folder)?;
    }
    set_aside::make_room(&outer_git_dir.join(MODULES), top, (within, all), spares_others)?;
    let git_dir = git_dir(outer_git_dir, within)?;
    let what = || format!("make the repository of submodule `{}`", plain(&within.path));
    if git_dir.join("HEAD").exists() {
        return Ok(git_dir);
    }
    if let Some(parent) = git_dir.parent() {
        DirBuilder::new().recursive(true).mode(0o777).create(parent).map_err(cannot(what()))?;
    }
    if is_ours(folder, &within.remote) {
        take_out(top, folder, &git_dir).map_err(cannot(what()))?;
        return link(&git_dir, (top, folder)).map(|()| git_dir);
    }
    let new = git_dir.with_extension("landfall-new");
    super::adopt::remove_folder(&new).map_err(cannot(what()))?;
    let mut options = RepositoryInitOptions::new();
    options.bare(true).no_reinit(true).external_template(false).mkdir(true);
    let repo = Repository::init_opts(&new, &options).map_err(cannot(what()))?;
    repo.remote(ORIGIN, &remote::parse(&within.remote)?.shown()).map_err(cannot(what()))?;
    repo.config().and_then(|mut it| it.set_bool("core.bare", false)).map_err(cannot(what()))?;
    fs::rename(&new, &git_dir).map_err(cannot(what()))?;
    Ok(git_dir)
}

/// Moves the repository that lies in a submodule's folder elsewhere.
fn take_out(top: &Path, folder: &Path, to: &Path) -> io::Result<()> {
    let (parent, name) = (to.parent().unwrap_or(to), to.file_name().unwrap_or_default());
    let to = (&Folder::open(parent)?, Path::new(name));
    folders::open(top, folder)?.rename(Path::new(GIT), to, RenameFlags::empty())
}

/// Where it is, or will be.
pub(super) fn git_dir(outer_git_dir: &Path, within: &Within) -> Result<PathBuf, GitFailure> {
    let modules = outer_git_dir.join(MODULES);
    let git_dir = modules.join(as_path(&within.name));
    let mut above = git_dir.ancestors().skip(1).take_while(|it| *it != modules);
    match above.find(|it| it.join("HEAD").exists()) {
        Some(other) => Err(GitFailure::permanent(format!(
            "its name in `.gitmodules` would put its repository into that of another submodule, `{}`",
            other.display()
        ))),
        None => Ok(git_dir),
    }
}

/// Whether a folder has a repository of its own in it, of this remote.
fn is_ours(folder: &Path, remote: &str) -> bool {
    let none: [&Path; 0] = [];
    let git = folder.join(".git");
    git.symlink_metadata().is_ok_and(|it| it.is_dir())
        && Repository::open_ext(folder, RepositoryOpenFlags::NO_SEARCH, none).is_ok_and(|repo| {
            repo.path().canonicalize().ok() == git.canonicalize().ok()
                && remote::parse(remote).is_ok_and(|it| our_remote(&repo, &it).is_some())
        })
}

/// Opens a submodule that has been fetched, with its files in this folder of the outermost working tree.
pub(super) fn open(git_dir: &Path, (top, folder): (&Path, &Path)) -> Result<Home, GitFailure> {
    let what = || format!("open the repository `{}`", git_dir.display());
    let none: [&Path; 0] = [];
    // Where its configuration says that its files are may be where they were, or where they will be.
    let flags = RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::BARE | RepositoryOpenFlags::NO_DOTGIT;
    let repo = Repository::open_ext(git_dir, flags, none).map_err(cannot(what()))?;
    if folder.is_dir() {
        repo.set_workdir(folder, false).map_err(cannot(what()))?;
    }
    unusual::refuse(&repo)?;
    Home::new(repo, (folder.to_owned(), top.to_owned()), Some(ORIGIN.to_owned()))
}

/// The repository that lies at a submodule's place now, if one does.
pub(super) fn at(folder: &Path) -> Option<PathBuf> {
    let none: [&Path; 0] = [];
    folder.join(".git").symlink_metadata().ok()?;
    let repo = Repository::open_ext(folder, RepositoryOpenFlags::NO_SEARCH, none).ok()?;
    repo.path().canonicalize().ok()
}

/// Takes the repository out of a folder that it has left: the file that named it, or the whole of one that lay there,
/// which is kept.
pub(super) fn unlink(top: &Path, seat: &Seat) -> Result<(), GitFailure> {
    let git = seat.folder.join(".git");
    let what = || format!("remove `{}`", git.display());
    match git.symlink_metadata() {
        Err(err) if err.kind() == io::ErrorKind::NotFound => (),
        Err(err) => return Err(cannot(what())(err)),
        Ok(metadata) if metadata.is_dir() => {
            let modules = seat.outer_git_dir.join(MODULES);
            DirBuilder::new().recursive(true).mode(0o777).create(&modules).map_err(cannot(what()))?;
            let kept = set_aside::free_name(&modules.join(seat.folder.file_name().unwrap_or_default()))?;
            take_out(top, &seat.folder, &kept).map_err(cannot(what()))?;
            say(&format!("the repository that lay in `{}` is kept as `{}`", seat.folder.display(), kept.display()));
        }
        Ok(_) => {
            let removed = folders::open(top, &seat.folder).and_then(|it| it.remove_file(Path::new(GIT)));
            removed.map_err(cannot(what()))?;
        }
    }
    // What a person has put there stays.
    let _ = folders::below(top, &seat.folder).and_then(|it| Folder::open(top)?.remove_folder(it));
    Ok(())
}
