//! Whether the files in which a clone keeps its refs say something, and whether objects can be added to it.
//!
//! libgit2 stops at what git only warns of, and names no file. A person's clone is theirs to mend, so what is wrong is
//! refused with the command that mends it.
//!
//! Invariant: no command of these takes a branch, a tag or a stash away that can still be read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use git2::Repository;
use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    io::Errno,
};

use crate::git::{GitFailure, owner, progress::plain, shell::path_word};

/// The folders of refs that are read.
const REFS: [&str; 3] = ["refs/heads", "refs/remotes", "refs/tags"];

/// A ref that names another one leads no further than this, as with git.
const HOPS_MAX: usize = 5;

/// Where objects are added.
const OBJECTS: [&str; 2] = ["objects", "objects/pack"];

/// Fails where one of these is damaged.
pub(super) fn refuse(repo: &Repository) -> Result<(), GitFailure> {
    let git_dir = repo.commondir();
    judge_head(repo)?;
    judge_packed(&git_dir.join("packed-refs"))?;
    for folder in REFS {
        judge_loose(git_dir, &git_dir.join(folder))?;
    }
    for folder in OBJECTS.map(|it| git_dir.join(it)) {
        let access = accessat(CWD, &folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
        if matches!(access, Err(Errno::ACCESS | Errno::PERM)) {
            return Err(owner::refusal(&folder, "write to it"));
        }
    }
    Ok(())
}

/// What the file of a ref says.
enum Says<'a> {
    Commit,
    Ref(&'a str),
    Nothing,
}

fn says(text: &[u8]) -> Says<'_> {
    let text = text.trim_ascii_end();
    if let Some(name) = text.strip_prefix(b"ref:").and_then(|it| std::str::from_utf8(it).ok()) {
        let name = name.trim_start();
        return if name.starts_with("refs/") { Says::Ref(name) } else { Says::Nothing };
    }
    match behind_id(text) {
        Some(rest) if rest.first().is_none_or(u8::is_ascii_whitespace) => Says::Commit,
        Some(_) | None => Says::Nothing,
    }
}

/// What follows the id that a text begins with, be it SHA-1 or SHA-256.
fn behind_id(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|it| it.is_ascii_hexdigit()).count();
    matches!(length, 40 | 64).then(|| &text[length..])
}

fn is_id(text: &[u8]) -> bool {
    behind_id(text).is_some_and(<[u8]>::is_empty)
}

fn judge_head(repo: &Repository) -> Result<(), GitFailure> {
    let file = repo.path().join("HEAD");
    let Ok(text) = fs::read(&file) else { return Ok(()) };
    match says(&text) {
        // A branch of another encoding is a branch.
        _ if text.starts_with(b"ref: refs/") => Ok(()),
        Says::Commit | Says::Ref(_) => Ok(()),
        Says::Nothing => {
            let branches = repo.references_glob("refs/heads/*").into_iter().flatten().flatten();
            let mut names: Vec<String> = branches.filter_map(|it| it.name().ok().map(str::to_owned)).collect();
            // Which one it was on is known only where there is no other.
            let name = if names.len() == 1 { names.remove(0) } else { "refs/heads/main".to_owned() };
            let (shown, word) = (file.display(), path_word(&file));
            Err(GitFailure::permanent(format!(
                "`{shown}` is damaged, so that git takes the folder for no repository: run `echo 'ref: {}' > {word}`, \
                 with the branch that it was on",
                plain(name.as_bytes())
            )))
        }
    }
}

/// Git reads no ref at all where one line of this file is none of its own.
fn judge_packed(file: &Path) -> Result<(), GitFailure> {
    let Ok(text) = fs::read(file) else { return Ok(()) };
    let (shown, word) = (file.display(), path_word(file));
    for (number, line) in (1..).zip(text.split(|it| *it == b'\n')) {
        let is_ref = || behind_id(line).is_some_and(|it| it.starts_with(b" ") && it.len() > 1);
        let is_peeled = || line.strip_prefix(b"^").is_some_and(is_id);
        if !line.is_empty() && !line.starts_with(b"#") && !is_ref() && !is_peeled() {
            return Err(GitFailure::permanent(format!(
                "line {number} of `{shown}` is damaged, so that git reads no refs: `{}`. `sed -i.old {number}d {word}` \
                 takes it out, and keeps the file as it is under the name `{shown}.old`",
                plain(line)
            )));
        }
    }
    match text.is_empty() || text.ends_with(b"\n") {
        true => Ok(()),
        false => Err(GitFailure::permanent(format!(
            "`{shown}` has no end of its last line, so that git reads no refs: run `echo >> {word}`"
        ))),
    }
}

/// Judges the files in a folder of refs, and in those below it.
fn judge_loose(git_dir: &Path, folder: &Path) -> Result<(), GitFailure> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|it| it.is_dir()) {
                folders.push(path);
            } else if !name.starts_with('.') && !name.ends_with(".lock") {
                judge_file(git_dir, &path)?;
            }
        }
    }
    Ok(())
}

fn judge_file(git_dir: &Path, file: &Path) -> Result<(), GitFailure> {
    let mut next: PathBuf = file.to_owned();
    for _ in 0..=HOPS_MAX {
        // What is not there, or is packed, or cannot be read is another matter.
        let Ok(text) = fs::read(&next) else { return Ok(()) };
        match says(&text) {
            Says::Commit => return Ok(()),
            Says::Ref(name) => next = git_dir.join(name),
            // Met by itself, if it is not this one.
            Says::Nothing if next != file => return Ok(()),
            Says::Nothing => return Err(damaged(git_dir, file, "says no commit")),
        }
    }
    Err(damaged(git_dir, file, "leads to itself"))
}

/// The refusal of a ref, and what mends it: where the reflog of a branch tells where it was, it goes there; what is not a
/// branch comes with the next fetch.
fn damaged(git_dir: &Path, file: &Path, what: &str) -> GitFailure {
    let (shown, word) = (file.display(), path_word(file));
    let is_branch = file.starts_with(git_dir.join("refs/heads"));
    let log = file.strip_prefix(git_dir).ok().and_then(|it| fs::read(git_dir.join("logs").join(it)).ok());
    let last = log.as_deref().and_then(|it| it.trim_ascii_end().rsplit(|it| *it == b'\n').next());
    let was = last.and_then(|it| it.get(41..81)).filter(|it| is_branch && is_id(it));
    let command = match was {
        Some(id) => format!("echo {} > {word}", String::from_utf8_lossy(id)),
        None => format!("rm {word}"),
    };
    GitFailure::permanent(format!("the ref `{shown}` {what}: it is damaged. Run `{command}`"))
}

#[cfg(test)]
mod tests {
    use super::{Says, says};

    #[test]
    fn a_ref_says_a_commit_of_either_hash_or_another_ref_or_nothing() {
        let (sha1, sha256) = ("ab".repeat(20), "ab".repeat(32));
        for good in [sha1.clone(), format!("{sha1}\n"), format!("{sha256}\n"), format!("{sha1}\tbranch 'x'\n")] {
            assert!(matches!(says(good.as_bytes()), Says::Commit), "{good}");
        }
        assert!(matches!(says(b"ref: refs/heads/main\n"), Says::Ref("refs/heads/main")));
        for bad in ["", "\n", "garbage\n", "ref: \n", "ref: elsewhere", &sha1[1..], &format!("{sha1}x")] {
            assert!(matches!(says(bad.as_bytes()), Says::Nothing), "{bad}");
        }
    }
}
