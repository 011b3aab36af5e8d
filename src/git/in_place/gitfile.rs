//! The file `.git` in a submodule's folder, which leads to its repository, and what leads back.
//!
//! Invariant: it is written whole or not at all, and through no link.

use std::{
    io::{self, Write},
    path::{Component, Path, PathBuf},
};

use rustix::fs::RenameFlags;

use super::folders;
use crate::{
    git::{GitFailure, cannot},
    process::beneath::Folder,
};

/// What names the repository in a submodule's folder.
pub(super) const GIT: &str = ".git";

/// The same, until it is whole.
const NEW_GIT: &str = ".landfall-new-git";

/// Lets repository and files know of each other.
pub(super) fn link(git_dir: &Path, (top, folder): (&Path, &Path)) -> Result<(), GitFailure> {
    let what = || format!("write `{}`", folder.join(".git").display());
    let from_folder = relative(folder, git_dir);
    let from_git_dir = relative(git_dir, folder);
    let text = format!("gitdir: {}\n", from_folder.display());
    folders::open(top, folder).and_then(|it| write_link(&it, &text)).map_err(cannot(what()))?;
    let worktree = from_git_dir.to_str().ok_or_else(|| GitFailure::permanent("its path is not UTF-8"))?;
    let mut config = git2::Config::open(&git_dir.join("config")).map_err(cannot(what()))?;
    if config.get_string("core.worktree").is_ok_and(|it| it == worktree) {
        return Ok(());
    }
    config.set_str("core.worktree", worktree).map_err(cannot(what()))
}

/// Writes the file that names a repository, in the place of what is there.
fn write_link(folder: &Folder, text: &str) -> io::Result<()> {
    let (git, new) = (Path::new(GIT), Path::new(NEW_GIT));
    if folder.read(git).and_then(io::read_to_string).is_ok_and(|it| it == text) {
        return Ok(());
    }
    match folder.remove_file(new) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        Ok(()) | Err(_) => (),
    }
    folder.create(new, 0o666)?.write_all(text.as_bytes())?;
    folder.rename(new, (folder, git), RenameFlags::empty())
}

/// The way from one folder to another, both absolute and without `..`.
pub(super) fn relative(from: &Path, to: &Path) -> PathBuf {
    let (from, to): (Vec<Component<'_>>, Vec<Component<'_>>) = (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(one, two)| one == two).count();
    let up = from[shared..].iter().map(|_| Component::ParentDir);
    up.chain(to[shared..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::symlink,
        path::{Path, PathBuf},
    };

    use super::{link, relative};

    #[test]
    fn a_link_in_place_of_a_submodule_or_of_the_file_in_it_is_not_written_through() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["top/lib", "top/.git/modules/lib", "out"] {
            fs::create_dir_all(at(name)).expect("folders");
        }
        fs::write(at("out/file"), "sings").expect("written");
        symlink(at("out/file"), at("top/lib/.git")).expect("a link");
        link(&at("top/.git/modules/lib"), (&at("top"), &at("top/lib"))).expect("linked");
        assert_eq!(fs::read_to_string(at("out/file")).expect("a file"), "sings");
        assert_eq!(fs::read_to_string(at("top/lib/.git")).expect("a file"), "gitdir: ../.git/modules/lib\n");
        assert_eq!(fs::read_dir(at("top/lib")).expect("a folder").count(), 1);

        fs::rename(at("top/lib"), at("top/away")).expect("moved");
        symlink(at("out"), at("top/lib")).expect("a link");
        link(&at("top/.git/modules/lib"), (&at("top"), &at("top/lib"))).expect_err("a link");
        assert!(!at("out/.git").exists());
    }

    #[test]
    fn a_way_between_two_folders_goes_up_no_further_than_it_must() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to));
        assert_eq!(way("/srv/site/lib/x", "/srv/site/.git/modules/x"), PathBuf::from("../../.git/modules/x"));
        assert_eq!(way("/srv/site/.git/modules/a/b", "/srv/site/b"), PathBuf::from("../../../../b"));
    }
}
