//! The repository of a submodule that the commit no longer has, where another submodule's has to be: git keeps them by
//! their names, so that of `lib` is in the way of one named `lib/two`, and the other way round.
//!
//! Invariant: what is set aside belongs to no submodule of the commit, and a folder of files that led to it still does,
//! so that what a person changed there is found and saved.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use git2::Config;

use super::{
    gitfile::{link, relative},
    writable,
};
use crate::git::{GitFailure, entries::as_path, locks, progress::say, shell::path_word, submodules::Within};

/// Sets aside what is in the way of a submodule's repository. `all` are the submodules of the commit, `top` is the
/// outermost working tree.
pub(super) fn make_room(
    modules: &Path,
    top: &Path,
    (within, all): (&Within, &[Within]),
    spares_others: bool,
) -> Result<(), GitFailure> {
    let Some(old) = obstacle(modules, &modules.join(as_path(&within.name))) else { return Ok(()) };
    let shown = old.display();
    let others = all.iter().filter(|it| it.name != within.name);
    if let Some(user) = others.map(|it| modules.join(as_path(&it.name))).find(|it| uses(it, &old)) {
        return Err(GitFailure::permanent(match user == old {
            true => format!(
                "its name in `.gitmodules` would put its repository into that of another submodule, `{shown}`: give one \
                 of them another name"
            ),
            false => format!(
                "its name in `.gitmodules` would put the repository of another submodule, `{}`, into its own: give one \
                 of them another name, or, if they have had these names before, run `mv {} {}`",
                user.display(),
                path_word(&old),
                path_word(&free_name(&old)?)
            ),
        }));
    }
    let new = free_name(&old)?;
    let led = led_here(&old);
    for (git_dir, folder) in &led {
        if spares_others {
            writable::judge_way(top, folder)?;
        }
        locks::wait_until_free(&git_dir.join("index.lock"))?;
    }
    fs::rename(&old, &new).map_err(|err| {
        GitFailure::other(format!(
            "cannot set aside `{shown}`, which no submodule of the commit has any more and where its repository has to \
             be: {err}. `mv {} {}` does it",
            path_word(&old),
            path_word(&new)
        ))
    })?;
    for (git_dir, folder) in &led {
        let below = git_dir.strip_prefix(&old).unwrap_or(Path::new(""));
        let moved = if below.as_os_str().is_empty() { new.clone() } else { new.join(below) };
        link(&moved, (top, folder))?;
    }
    say(&format!("the repository of a submodule that the commit no longer has is kept as `{}`", new.display()));
    Ok(())
}

/// What is where a repository has to be: another one that it would be in, or a folder with another one in it.
fn obstacle(modules: &Path, git_dir: &Path) -> Option<PathBuf> {
    let above = git_dir.ancestors().skip(1).take_while(|it| *it != modules);
    let around = above.filter(|it| is_repository(it)).last();
    let is_there = || git_dir.symlink_metadata().is_ok() && !is_repository(git_dir);
    let is_empty = || fs::read_dir(git_dir).is_ok_and(|mut it| it.next().is_none());
    around.map(Path::to_owned).or_else(|| (is_there() && !is_empty()).then(|| git_dir.to_owned()))
}

/// Whether the repository of a submodule would go with what is set aside.
fn uses(git_dir: &Path, old: &Path) -> bool {
    git_dir == old || git_dir.starts_with(old) && is_repository(git_dir)
}

fn is_repository(folder: &Path) -> bool {
    folder.join("HEAD").exists()
}

/// A name beside a repository that nothing has.
pub(super) fn free_name(old: &Path) -> Result<PathBuf, GitFailure> {
    let name = old.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut free = (1..1000).map(|it| old.with_file_name(format!("{name}.old-{it}"))).filter(|it| !it.exists());
    free.next().ok_or_else(|| GitFailure::other("there are 1,000 old submodules of one name"))
}

/// The repositories in a folder that the files of a submodule lead to, each with the folder of these.
fn led_here(old: &Path) -> Vec<(PathBuf, PathBuf)> {
    let (mut led, mut open) = (Vec::new(), vec![old.to_owned()]);
    while let Some(next) = open.pop() {
        if is_repository(&next) {
            led.extend(files_of(&next).map(|folder| (next.clone(), folder)));
            open.push(next.join("modules"));
        } else {
            let entries = fs::read_dir(&next).into_iter().flatten().flatten();
            open.extend(entries.filter(|it| it.file_type().is_ok_and(|it| it.is_dir())).map(|it| it.path()));
        }
    }
    led
}

/// The folder of a repository's files, if these lead to it.
fn files_of(git_dir: &Path) -> Option<PathBuf> {
    let config = Config::open(&git_dir.join("config")).ok()?;
    let folder = plain_path(&git_dir.join(config.get_string("core.worktree").ok()?));
    let git = folder.join(".git");
    // No link is followed, and a pipe is not waited for.
    git.symlink_metadata().ok().filter(fs::Metadata::is_file)?;
    let text = fs::read_to_string(&git).ok()?;
    let leads = Path::new(text.strip_prefix("gitdir: ")?.trim_end_matches(['\r', '\n']));
    (leads == relative(&folder, git_dir) || leads == git_dir).then_some(folder)
}

/// A path without `..`.
fn plain_path(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::Normal(_) | Component::RootDir | Component::CurDir | Component::Prefix(_) => plain.push(part),
        }
    }
    plain
}
