//! Whether we may write where an update has to, asked before the first file changes.
//!
//! Invariant: who reads the refusal learns whose the folder is, who we are, and the command that mends it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;
use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    io::Errno,
};

use crate::{
    git::{GitFailure, cannot, entries::as_path, shell},
    process::way::{self, user_name},
};

/// Fails where a folder that is there cannot be written to.
pub(super) fn judge(folder: &Path) -> Result<(), GitFailure> {
    refusal(folder, || {
        format!("`chown -R {} {}` gives it over", shell::word(&user_name(geteuid().as_raw())), shell::path_word(folder))
    })
}

/// Fails where a folder that is not there cannot be made.
pub(super) fn judge_new(folder: &Path) -> Result<(), GitFailure> {
    let Some(above) = folder.ancestors().skip(1).find(|it| it.exists()) else { return Ok(()) };
    let (user, path) = (shell::word(&user_name(geteuid().as_raw())), shell::path_word(folder));
    refusal(above, || format!("`install -d -o {user} {path}` makes the one that is wanted"))
}

/// Fails where one of the folders that these paths are in cannot be written to; or, where others are spared, where one
/// of them or of these paths is another user's.
pub(super) fn judge_all<'a>(
    root: &Path,
    paths: impl Iterator<Item = &'a Vec<u8>> + Clone,
    spares_others: bool,
) -> Result<(), GitFailure> {
    if spares_others && let Some((path, owner)) = paths.clone().find_map(|it| of_another(root, it)) {
        let (shown, own) = (path.display(), shell::word(&user_name(geteuid().as_raw())));
        let owner = user_name(owner);
        return Err(GitFailure::permanent(format!(
            "the commit changes `{shown}`, which belongs to `{owner}`, and this hook works as {own}, who leaves alone \
             what is another's: `chown -hR {own} {}` gives it over, or `user:` names who works",
            shell::path_word(&path)
        )));
    }
    let folders: BTreeSet<PathBuf> = paths.filter_map(|it| as_path(it).parent().map(Path::to_owned)).collect();
    // What is no folder yet, or no real one, will be made where its parent is.
    let folders = folders.iter().map(|it| root.join(it));
    folders.filter(|it| it.symlink_metadata().is_ok_and(|it| it.is_dir())).try_for_each(|it| judge(&it))
}

/// Fails where another user could put something else in the place of a submodule, or of a folder on the way to it from
/// the outermost working tree: what belongs to the submodule would be written there.
pub(super) fn judge_way(top: &Path, folder: &Path) -> Result<(), GitFailure> {
    let git = folder.join(".git");
    let mut way: Vec<&Path> = git.ancestors().take_while(|it| it.starts_with(top)).collect();
    way.reverse();
    for at in way {
        let Ok(metadata) = fs::symlink_metadata(at) else { return Ok(()) };
        if let Some((path, who, is_theirs)) = who_else(at, &metadata, at == git) {
            let (shown, own, word) =
                (path.display(), shell::word(&user_name(geteuid().as_raw())), shell::path_word(&path));
            let mend = if is_theirs { format!("chown -hR {own} {word}") } else { format!("chmod go-w {word}") };
            return Err(GitFailure::permanent(format!(
                "`{shown}` {who}, so something else could take its place, and this hook works as {own}, who writes \
                 nothing there: `{mend}` mends that, or `user:` names who works"
            )));
        }
        if !metadata.is_dir() {
            return Ok(());
        }
    }
    Ok(())
}

/// Who else may change a part of the way to a submodule, as a clause, and whether it is theirs. To root it matters who
/// may write to a folder, too, and all that is in a repository.
fn who_else(at: &Path, metadata: &fs::Metadata, is_repository: bool) -> Option<(PathBuf, String, bool)> {
    let own = geteuid();
    if metadata.uid() != own.as_raw() {
        return Some((at.to_owned(), format!("belongs to `{}`", user_name(metadata.uid())), true));
    }
    if !own.is_root() {
        return None;
    }
    let (path, who) = match is_repository && metadata.is_dir() {
        true => way::not_roots_alone(at)?,
        false => (at.to_owned(), way::who_besides_root(at, metadata)?),
    };
    let is_theirs = fs::symlink_metadata(&path).is_ok_and(|it| it.uid() != own.as_raw());
    Some((path, who, is_theirs))
}

/// Fails where a file cannot be written to, or, if it is not there, not be made.
pub(super) fn judge_file(file: &Path) -> Result<(), GitFailure> {
    let Some(there) = file.ancestors().find(|it| it.symlink_metadata().is_ok()) else { return Ok(()) };
    judge(there)
}

/// The first folder on the way to a path of a working tree, or what is there, that belongs to another user; and to whom.
pub(super) fn of_another(root: &Path, path: &[u8]) -> Option<(PathBuf, u32)> {
    let own = geteuid().as_raw();
    let mut at = root.to_owned();
    for part in as_path(path).components() {
        at.push(part);
        let metadata = fs::symlink_metadata(&at).ok()?;
        if metadata.uid() != own {
            return Some((at, metadata.uid()));
        }
        if !metadata.is_dir() {
            // Whatever is below it will be made in its place.
            return None;
        }
    }
    None
}

fn refusal(folder: &Path, advice: impl FnOnce() -> String) -> Result<(), GitFailure> {
    let shown = folder.display();
    let wanted = if folder.is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
    match accessat(CWD, folder, wanted, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        Err(Errno::ROFS) => Err(GitFailure::other(format!(
            "`{shown}` is on a file system that is mounted read-only: mount it to be written"
        ))),
        Err(Errno::ACCESS | Errno::PERM) => {
            let owner = fs::symlink_metadata(folder).ok().map(|it| it.uid());
            if owner == Some(geteuid().as_raw()) {
                return Err(own_and_closed(folder));
            }
            let owner = owner.map_or_else(|| "nobody we know".into(), user_name);
            Err(GitFailure::permanent(format!(
                "`{shown}` belongs to `{owner}`, and `{}`, as whom this hook works, may not write to it: {}",
                user_name(geteuid().as_raw()),
                advice()
            )))
        }
        Err(err) => Err(cannot(format!("look at `{shown}`"))(err)),
    }
}

/// What is ours, and cannot be written to all the same.
fn own_and_closed(folder: &Path) -> GitFailure {
    let (shown, path) = (folder.display(), shell::path_word(folder));
    GitFailure::permanent(match geteuid().is_root() {
        true => format!("`{shown}` cannot be written to, even by root: `chattr -R -i {path}` makes it changeable"),
        false => format!("`{shown}` cannot be written to by its own user: `chmod -R u+w {path}` opens it"),
    })
}
