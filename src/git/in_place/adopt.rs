//! Whose working tree this is: ours, one of the same repository, or none of our business.
//!
//! Invariant: a folder is made a working tree only if it was empty, and one is adopted only if it is of the same
//! repository: one of its remotes is ours, or the remote has the commit of one of its refs.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use git2::{ConfigLevel, Repository, RepositoryInitOptions, RepositoryOpenFlags};

use super::{InPlace, writable};
use crate::{
    git::{
        Cause, GitFailure, cannot,
        mirror::Mirror,
        packs,
        progress::{plain, say},
        remote::{self, Remote},
        shell::{path_word, word},
    },
    model::push::RefName,
};

/// Where a new `.git` is made, until it is complete.
const NEW: &str = ".landfall-new";

/// An open working tree.
pub(super) struct Home {
    pub(super) repo: Repository,
    /// Without links, and the same as the repository's own idea of it.
    pub(super) path: PathBuf,
    /// The remote of it that is ours, by its name.
    pub(super) origin: Option<String>,
}

/// Opens the working tree, or makes it.
pub(super) fn open(mirror: &Mirror, place: &InPlace<'_>) -> Result<Home, GitFailure> {
    let what = || format!("open the working tree `{}`", place.path.display());
    if let Err(err) = DirBuilder::new().recursive(true).mode(0o755).create(place.path) {
        writable::judge_new(place.path)?;
        return Err(cannot(what())(err));
    }
    let path = place.path.canonicalize().map_err(cannot(what()))?;
    writable::judge(&path)?;
    match fs::remove_dir_all(path.join(NEW)) {
        Ok(()) => (),
        Err(err) if err.kind() == io::ErrorKind::NotFound => (),
        Err(err) => return Err(cannot(what())(err)),
    }
    let remote = remote::parse(place.remote)?;
    let is_empty = fs::read_dir(&path).map_err(cannot(what()))?.next().is_none();
    if is_empty {
        make(mirror, &path, &remote)?;
    } else if path.join(".git").symlink_metadata().is_err() {
        return Err(foreign(&path, &remote, place, "it is not empty, and no clone of it"));
    }
    adopt(mirror, path, &remote, place)
}

/// Makes an empty folder a working tree of nothing yet.
fn make(mirror: &Mirror, path: &Path, remote: &Remote) -> Result<(), GitFailure> {
    let what = || format!("make a working tree in `{}`", path.display());
    say(&format!("making a working tree of {} in {}", remote.shown(), path.display()));
    let mut options = RepositoryInitOptions::new();
    options.no_reinit(true).external_template(false).mkdir(true);
    let new = path.join(NEW);
    let repo = Repository::init_opts(&new, &options).map_err(cannot(what()))?;
    repo.remote("origin", &url_without_credentials(remote)).map_err(cannot(what()))?;
    packs::link(&mirror.repo, &repo, None)?;
    fs::rename(new.join(".git"), path.join(".git")).map_err(cannot(what()))?;
    fs::remove_dir(&new).map_err(cannot(what()))
}

fn url_without_credentials(remote: &Remote) -> String {
    remote.shown()
}

fn adopt(mirror: &Mirror, path: PathBuf, remote: &Remote, place: &InPlace<'_>) -> Result<Home, GitFailure> {
    let none: [&Path; 0] = [];
    let repo = Repository::open_ext(&path, RepositoryOpenFlags::NO_SEARCH, none)
        .map_err(|err| foreign(&path, remote, place, &format!("git cannot open it: {}", err.why())))?;
    let (git, data) = (path.join(".git"), repo.path().canonicalize().ok());
    let is_own = git.symlink_metadata().is_ok_and(|it| it.is_dir()) && data.as_ref() == Some(&git);
    // Where `git submodule` puts it.
    let modules = place.outer.map(|it| it.join(".git/modules"));
    let is_outers = modules.is_some_and(|it| data.is_some_and(|data| data.starts_with(it)));
    if !is_own && !is_outers {
        let why = "its `.git` is not a folder (a linked work tree, or a submodule of something else)";
        return Err(foreign(&path, remote, place, why));
    }
    let workdir = repo.workdir().and_then(|it| it.canonicalize().ok());
    if workdir.as_deref() != Some(&path) {
        return Err(foreign(&path, remote, place, "its repository is bare, or has its files elsewhere"));
    }
    writable::judge(repo.path())?;
    let origin = our_remote(&repo, remote);
    if origin.is_none() && !shares_a_commit(&repo, mirror) {
        return Err(foreign(&path, remote, place, "it is a clone of something else"));
    }
    Ok(Home { repo, path, origin })
}

/// The refs of a working tree that an update moves.
pub(super) fn refs(home: &Home, place: &InPlace<'_>) -> Vec<String> {
    match place.ref_name {
        Some(full @ RefName::Branch(name)) => {
            let tracking = home.origin.iter().map(|it| format!("refs/remotes/{it}/{name}"));
            tracking.chain([full.full()]).collect()
        }
        Some(RefName::Tag(_)) | None => Vec::new(),
    }
}

/// The name of the remote that is ours.
fn our_remote(repo: &Repository, remote: &Remote) -> Option<String> {
    let config = repo.config().and_then(|it| it.open_level(ConfigLevel::Local)).ok()?;
    let names = repo.remotes().ok()?;
    names.iter().flatten().flatten().find_map(|name| {
        // As it is written: `insteadOf` is a person's own matter.
        let url = config.get_string(&format!("remote.{name}.url")).ok()?;
        remote::parse(&url).is_ok_and(|it| it.is_same_repository(remote)).then(|| name.to_owned())
    })
}

/// Whether the mirror has the commit of one of its refs: then it is of the same repository, however it was cloned.
fn shares_a_commit(repo: &Repository, mirror: &Mirror) -> bool {
    let Ok(odb) = mirror.repo.odb() else { return false };
    let Ok(references) = repo.references() else { return false };
    let heads = references.flatten().chain(repo.head());
    heads.filter_map(|it| it.peel_to_commit().ok()).any(|it| odb.exists(it.id()))
}

fn foreign(path: &Path, remote: &Remote, place: &InPlace<'_>, why: &str) -> GitFailure {
    let url = url_without_credentials(remote);
    let (shown_url, shown) = (plain(url.as_bytes()), path.display());
    let (url, name) = (word(&url), word(place.ref_name.map_or("HEAD", |it| it.short())));
    let (old, path) = (word(&format!("{shown}.old")), path_word(path));
    GitFailure::permanent(format!(
        "cannot deploy {shown_url} into `{shown}`: {why}. Move it away with `mv {path} {old}`, or make it a clone that \
         keeps its files with `cd {path} && rm -rf .git && git init && git remote add origin {url} && git fetch \
         origin {name} && git reset FETCH_HEAD`"
    ))
}
