//! Drafts of packs, which a killed fetch leaves in the repository of a working tree.
//!
//! Invariant: a file goes only if it is our user's, was written by the work that was killed, and is open in no process:
//! a person's own git may be fetching at this moment.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use rustix::process::geteuid;

/// What the names of drafts begin with: those of libgit2, of `git index-pack`, and of `git gc`.
const DRAFTS: [&str; 3] = ["pack_git2_", "tmp_", ".tmp-"];

/// No git leaves one half of a pack without the other for so long.
const HALF_A_PACK: Duration = Duration::from_secs(2);

/// Removes the drafts that were written since then.
pub(super) fn remove(git_dir: &Path, since: SystemTime) -> io::Result<()> {
    let (mut drafts, mut halves) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(git_dir.join("objects/pack"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !path.symlink_metadata().is_ok_and(|it| is_of(&it, since)) {
            continue;
        }
        if DRAFTS.iter().any(|it| name.starts_with(it)) {
            drafts.push(path);
        } else if is_half(&path) {
            halves.push(path);
        }
    }
    if !drafts.is_empty() {
        let open = open_files();
        drafts.retain(|it| it.symlink_metadata().is_ok_and(|it| !open.contains(&(it.dev(), it.ino()))));
    }
    if !halves.is_empty() {
        thread::sleep(HALF_A_PACK);
        halves.retain(|it| is_half(it));
    }
    drafts.into_iter().chain(halves).try_for_each(|it| remove_file(&it))
}

fn is_of(metadata: &fs::Metadata, since: SystemTime) -> bool {
    let is_ours = metadata.is_file() && metadata.uid() == geteuid().as_raw();
    is_ours && metadata.modified().is_ok_and(|it| it >= since)
}

/// Whether this is a pack without its index, or an index without its pack.
fn is_half(path: &Path) -> bool {
    let other = match path.extension().and_then(|it| it.to_str()) {
        Some("pack") => "idx",
        Some("idx") => "pack",
        Some(_) | None => return false,
    };
    !path.with_extension(other).exists()
}

/// Device and inode of every file that a process of our user has open.
fn open_files() -> HashSet<(u64, u64)> {
    let list = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path());
    let files = list("/proc".into()).flat_map(|it| list(it.join("fd")));
    files.filter_map(|it| fs::metadata(it).ok()).map(|it| (it.dev(), it.ino())).collect()
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        Ok(()) | Err(_) => Ok(()),
    }
}
