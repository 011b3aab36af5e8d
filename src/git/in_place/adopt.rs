//! Whose working tree this is: ours, one of the same repository, or none of our business.
//!
//! Invariant: a folder is made a working tree only if it was empty, and one is adopted only if it is of the same
//! repository: one of its remotes is ours, or the remote offers the commit of one of its refs. That is settled before an
//! object is fetched into it.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use git2::{ConfigLevel, Oid, Repository, RepositoryInitOptions, RepositoryOpenFlags};

use super::{unusual, writable};
use crate::{
    git::{
        Cause, GitFailure, cannot,
        mirror::{
            refs::Offered,
            repository::{Kind, LocalRepo},
        },
        progress::{plain, say},
        remote::{self, Remote},
        shell::{path_word, word},
        transport::library,
        tree::attributes::Habit,
    },
    model::push::{CommitId, RefName},
};

/// Where a new `.git` is made, until it has been filled.
const NEW: &str = ".landfall-new";

/// What a clone of ours calls the remote.
pub(super) const ORIGIN: &str = "origin";

/// An open working tree.
pub(super) struct Home {
    /// With the person's own configuration.
    pub(super) repo: Repository,
    /// The same, with none: what is fetched and written comes from here.
    pub(super) store: LocalRepo,
    /// Without links, and the same as the repository's own idea of it.
    pub(super) path: PathBuf,
    /// The working tree that it is within, by the outermost, or itself.
    pub(super) top: PathBuf,
    /// The remote of it that is ours, by its name.
    pub(super) origin: Option<String>,
    /// Whether the executable bit of a file means anything (`core.fileMode`).
    pub(super) trusts_modes: bool,
    /// Whether links are made (`core.symlinks`), or files that hold where they lead.
    pub(super) makes_links: bool,
    /// How it keeps line ends where the attributes leave it open.
    pub(super) habit: Habit,
    /// Whether names that differ in case alone are one file (`core.ignoreCase`).
    pub(super) ignores_case: bool,
}

/// Opens the repository of a working tree to fetch into it. An empty folder gets one, which takes its place once it has
/// been filled.
pub(in crate::git) fn open_to_fetch(
    path: &Path,
    remote: &Remote,
    ref_name: Option<&RefName>,
) -> Result<LocalRepo, GitFailure> {
    library::settle()?;
    let what = || format!("open the working tree `{}`", path.display());
    if let Err(err) = DirBuilder::new().recursive(true).mode(0o777).create(path) {
        writable::judge_new(path)?;
        return Err(cannot(what())(err));
    }
    let path = path.canonicalize().map_err(cannot(what()))?;
    writable::judge(&path)?;
    remove_folder(&path.join(NEW)).map_err(cannot(what()))?;
    let is_empty = fs::read_dir(&path).map_err(cannot(what()))?.next().is_none();
    if is_empty {
        make(&path, remote)?;
        return LocalRepo::of_clone(&path.join(NEW).join(".git"), Some(ORIGIN.to_owned()));
    }
    if path.join(".git").symlink_metadata().is_err() {
        return Err(foreign(&path, remote, ref_name, "it is not empty, and no clone of it"));
    }
    let repo = open_own(&path).map_err(|why| foreign(&path, remote, ref_name, &why))?;
    unusual::refuse(&repo)?;
    writable::judge(repo.path())?;
    LocalRepo::of_clone(repo.path(), our_remote(&repo, remote))
}

/// Whether a repository that knows no remote of ours is of the same repository all the same.
pub(in crate::git) fn settle(
    path: &Path,
    mirror: &LocalRepo,
    remote: &Remote,
    ref_name: Option<&RefName>,
    offered: &Offered,
) -> Result<(), GitFailure> {
    let shares_a_commit = || {
        let references = mirror.repo.references().into_iter().flatten().flatten();
        let heads = references.chain(mirror.repo.head());
        heads.filter_map(|it| it.peel_to_commit().ok()).any(|it| offered.has(it.id()))
    };
    match mirror.folder.kind {
        Kind::Clone { remote_name: None } if !shares_a_commit() => {
            Err(foreign(path, remote, ref_name, "it is a clone of something else"))
        }
        Kind::Clone { .. } | Kind::Bare => Ok(()),
    }
}

/// Gives a new repository its place.
pub(in crate::git) fn complete(path: &Path) -> Result<(), GitFailure> {
    let new = path.join(NEW);
    let what = || format!("make a working tree in `{}`", path.display());
    match fs::rename(new.join(".git"), path.join(".git")) {
        Ok(()) => fs::remove_dir(&new).map_err(cannot(what())),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(cannot(what())(err)),
    }
}

/// Opens a working tree whose repository has been fetched into.
pub(super) fn open(path: &Path, remote: &str, ref_name: Option<&RefName>) -> Result<Home, GitFailure> {
    library::settle()?;
    let path = path.canonicalize().map_err(cannot(format!("open the working tree `{}`", path.display())))?;
    let remote = remote::parse(remote)?;
    let repo = open_own(&path).map_err(|why| foreign(&path, &remote, ref_name, &why))?;
    let origin = our_remote(&repo, &remote);
    Home::new(repo, (path.clone(), path), origin)
}

impl Home {
    /// A working tree by its repository, within the outermost one.
    pub(super) fn new(
        repo: Repository,
        (path, top): (PathBuf, PathBuf),
        origin: Option<String>,
    ) -> Result<Self, GitFailure> {
        writable::judge(repo.path())?;
        let store = LocalRepo::of_clone(repo.path(), origin.clone())?;
        let flag = |name: &str| repo.config().and_then(|it| it.get_bool(name)).ok();
        let (trusts_modes, makes_links) =
            (flag("core.fileMode").unwrap_or(true), flag("core.symlinks").unwrap_or(true));
        let ignores_case = flag("core.ignoreCase").unwrap_or(false);
        let habit = repo.config().map_or_else(|_| Habit::default(), |it| Habit::of(&it));
        Ok(Self { repo, store, path, top, origin, trusts_modes, makes_links, habit, ignores_case })
    }

    /// The commit that is checked out.
    pub(super) fn head(&self) -> Option<Oid> {
        self.repo.head().ok().and_then(|it| it.peel_to_commit().ok()).map(|it| it.id())
    }
}

/// The commit that is checked out in a folder that is a clone of this remote.
pub(in crate::git) fn standing_commit(path: &Path, remote: &Remote) -> Option<CommitId> {
    let repo = open_own(&path.canonicalize().ok()?).ok()?;
    our_remote(&repo, remote)?;
    let head = repo.head().ok()?.peel_to_commit().ok()?.id();
    CommitId::parse(&head.to_string())
}

/// The full names of the refs of a working tree that an update moves.
pub(super) fn refs(ref_name: Option<&RefName>) -> Vec<String> {
    match ref_name {
        Some(full @ RefName::Branch(_)) => vec![full.full()],
        Some(RefName::Tag(_)) | None => Vec::new(),
    }
}

/// Makes a repository for an empty folder.
fn make(path: &Path, remote: &Remote) -> Result<(), GitFailure> {
    let what = || format!("make a working tree in `{}`", path.display());
    say(&format!("making a working tree of {} in {}", remote.shown(), path.display()));
    let mut options = RepositoryInitOptions::new();
    options.no_reinit(true).external_template(false).mkdir(true);
    let repo = Repository::init_opts(path.join(NEW), &options).map_err(cannot(what()))?;
    repo.remote(ORIGIN, &remote.shown()).map(drop).map_err(cannot(what()))
}

/// The repository of this very folder. The error is a clause for people.
fn open_own(path: &Path) -> Result<Repository, String> {
    let none: [&Path; 0] = [];
    let repo = Repository::open_ext(path, RepositoryOpenFlags::NO_SEARCH, none).map_err(|err| {
        unusual::advice(&err).map_or_else(|| format!("git cannot open it: {}", err.why()), str::to_owned)
    })?;
    let (git, data) = (path.join(".git"), repo.path().canonicalize().ok());
    if !git.symlink_metadata().is_ok_and(|it| it.is_dir()) || data.as_ref() != Some(&git) {
        return Err("its `.git` is not a folder (a linked work tree, or a submodule of something else)".into());
    }
    let workdir = repo.workdir().and_then(|it| it.canonicalize().ok());
    match workdir.as_deref() == Some(path) {
        true => Ok(repo),
        false => Err("its repository is bare, or has its files elsewhere".into()),
    }
}

/// The name of the remote that is ours.
pub(super) fn our_remote(repo: &Repository, remote: &Remote) -> Option<String> {
    let config = repo.config().and_then(|it| it.open_level(ConfigLevel::Local)).ok()?;
    let names = repo.remotes().ok()?;
    names.iter().flatten().flatten().find_map(|name| {
        // As it is written: `insteadOf` is a person's own matter.
        let url = config.get_string(&format!("remote.{name}.url")).ok()?;
        let other = Remote::parse(&url).ok()?;
        (other.is_same_repository(remote) || is_same_folder(&other, remote)).then(|| name.to_owned())
    })
}

fn is_same_folder(one: &Remote, two: &Remote) -> bool {
    match (one, two) {
        (Remote::Local(one), Remote::Local(two)) => {
            let real = |path: &Path| remote::folder(path).canonicalize().ok();
            real(one).is_some_and(|it| Some(it) == real(two))
        }
        (Remote::Local(_), Remote::Http { .. } | Remote::Ssh { .. })
        | (Remote::Http { .. } | Remote::Ssh { .. }, Remote::Local(_) | Remote::Http { .. } | Remote::Ssh { .. }) => {
            false
        }
    }
}

/// Removes a folder, if it is there.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn foreign(path: &Path, remote: &Remote, ref_name: Option<&RefName>, why: &str) -> GitFailure {
    let url = remote.shown();
    let (shown_url, shown) = (plain(url.as_bytes()), path.display());
    let (url, name) = (word(&url), word(ref_name.map_or("HEAD", |it| it.short())));
    let (begin, away) = match path.join(".git").symlink_metadata() {
        Ok(_) => ("Mend that, move", format!("mv .git {} && ", word(&format!("{shown}.git.old")))),
        Err(_) => ("Move", String::new()),
    };
    let (old, path) = (word(&format!("{shown}.old")), path_word(path));
    GitFailure::permanent(format!(
        "cannot deploy {shown_url} into `{shown}`: {why}. {begin} it away with `mv {path} {old}`, or make it a \
         clone that keeps its files with `cd {path} && {away}git init && git remote add origin {url} && git fetch origin \
         {name} && git reset FETCH_HEAD`"
    ))
}
