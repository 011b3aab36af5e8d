//! New files, written beside the old ones under names of their own.
//!
//! They are made in the folder they belong to, so that it gives them what it gives to files that git makes: default
//! access lists, its group, labels, a quota.
//!
//! Invariant: a file has its own name only once it is whole, and what a killed update leaves is known by name.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{fs::RenameFlags, io::Errno};

use super::{
    adopt::Home,
    folders::{self, remove_empty_parents},
    leftovers::{LIST, NAME},
    plan::Plan,
};
use crate::{
    git::{
        GitFailure, Scope, cannot,
        checkout::{
            put::{self, Handling},
            write,
        },
        entries::{Change, Kind, as_path},
        locks,
    },
    process::beneath::Folder,
};

/// Files that wait to take their places.
#[derive(Default)]
pub(super) struct Temporary {
    /// The outermost working tree.
    top: PathBuf,
    folder: PathBuf,
    /// The file's own path, and the one it has now; both relative.
    files: Vec<(Vec<u8>, Vec<u8>)>,
    /// What could not be written yet, as its folder is still something else.
    late: Vec<Change>,
}

impl Temporary {
    /// Writes all of the plan whose folder is there, or can be made.
    pub(super) fn write(home: &Home, own: &Path, plan: &Plan, scope: &Scope) -> Result<Self, GitFailure> {
        let (late, early): (Vec<Change>, Vec<Change>) =
            plan.puts.iter().filter(|it| !is_submodule(it)).cloned().partition(|it| has_obstacle(home, &it.path));
        let mut temporary = Self { top: home.top.clone(), folder: home.path.clone(), files: Vec::new(), late };
        temporary.add(home, own, plan, &early, scope)?;
        Ok(temporary)
    }

    /// Writes the rest, once what was in the way is gone.
    pub(super) fn write_late(&mut self, home: &Home, own: &Path, plan: &Plan, scope: &Scope) -> Result<(), GitFailure> {
        let late = std::mem::take(&mut self.late);
        self.add(home, own, plan, &late, scope)
    }

    fn add(
        &mut self,
        home: &Home,
        own: &Path,
        plan: &Plan,
        changes: &[Change],
        scope: &Scope,
    ) -> Result<(), GitFailure> {
        let handling = Handling { makes_links: home.makes_links, ..scope.into() };
        let puts = put::prepare(&home.store, &plan.attributes, b"", changes, handling)?;
        if puts.is_empty() {
            return Ok(());
        }
        let first = self.files.len();
        for (number, put) in (first..).zip(&puts) {
            self.files.push((put.path.to_owned(), beside(put.path, number)));
        }
        self.note(own).map_err(cannot(format!("write to `{}`", own.display())))?;
        let folders: BTreeSet<&Path> = puts.iter().filter_map(|it| as_path(it.path).parent()).collect();
        // That of a submodule may not be there yet.
        let root = folders::make(&home.top, &home.path);
        let root = root.map_err(cannot(format!("make `{}`", home.path.display())))?;
        for folder in folders {
            let made = root.make_all(folder, 0o777);
            made.map_err(cannot(format!("make `{}`", home.path.join(folder).display())))?;
        }
        let names: Vec<&[u8]> = self.files[first..].iter().map(|(_, name)| name.as_slice()).collect();
        write::write_as(&home.store, &puts, &names, (&root, &home.path))
    }

    /// Lists the names for whoever comes after a crash.
    fn note(&self, own: &Path) -> io::Result<()> {
        let (list, new) = (own.join(LIST), own.join("writing.new"));
        let text: Vec<u8> = self.files.iter().flat_map(|(_, name)| [name.as_slice(), b"\0"].concat()).collect();
        fs::write(&new, text)?;
        fs::rename(new, list)
    }

    /// Gives every file its place.
    pub(super) fn settle(mut self, own: &Path) -> Result<(), GitFailure> {
        let files = std::mem::take(&mut self.files);
        if !files.is_empty() {
            let root = folders::open(&self.top, &self.folder);
            let root = root.map_err(cannot(format!("write to `{}`", self.folder.display())))?;
            for (number, (path, name)) in files.iter().enumerate() {
                if let Err(err) = replace(&root, as_path(name), as_path(path)) {
                    self.files = files[number..].to_vec();
                    return Err(cannot(format!("write `{}`", self.folder.join(as_path(path)).display()))(err));
                }
            }
        }
        let list = own.join(LIST);
        locks::remove_if_there(&list).map_err(cannot(format!("remove `{}`", list.display())))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let Ok(root) = folders::open(&self.top, &self.folder) else { return };
        for (_, name) in &self.files {
            let _ = root.remove_file(as_path(name));
            remove_empty_parents(&root, name);
        }
    }
}

fn is_submodule(change: &Change) -> bool {
    change.now.is_none_or(|it| it.kind == Kind::Submodule)
}

fn beside(path: &[u8], number: usize) -> Vec<u8> {
    let name = format!("{NAME}{number}");
    let whole = as_path(path).with_file_name(OsStr::new(&name));
    whole.into_os_string().into_encoded_bytes()
}

/// Whether a folder of a path is something else for now.
fn has_obstacle(home: &Home, path: &[u8]) -> bool {
    let mut above = as_path(path).ancestors().skip(1).filter(|it| !it.as_os_str().is_empty());
    above.any(|it| home.path.join(it).symlink_metadata().is_ok_and(|it| !it.is_dir()))
}

/// Puts a file in the place of what is there. A plain rename onto a file makes ext4 write the new one out at once, which
/// takes longer than all the rest (ext4(5), `auto_da_alloc`); an exchange does not.
fn replace(root: &Folder, from: &Path, to: &Path) -> io::Result<()> {
    // Both are in one folder.
    let (folder, from) = root.above(from)?;
    let to = Path::new(to.file_name().unwrap_or_default());
    let rename = |flags| folder.rename(from, (&folder, to), flags);
    match errno(rename(RenameFlags::NOREPLACE))? {
        None => return Ok(()),
        Some(Errno::EXIST) => match errno(rename(RenameFlags::EXCHANGE))? {
            None => return folder.remove_file(from),
            Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => (),
            Some(err) => return Err(err.into()),
        },
        Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => (),
        Some(err) => return Err(err.into()),
    }
    rename(RenameFlags::empty())
}

/// What the kernel said, if it failed.
fn errno(renamed: io::Result<()>) -> io::Result<Option<Errno>> {
    match renamed {
        Ok(()) => Ok(None),
        Err(err) => Errno::from_io_error(&err).map(Some).ok_or(err),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{Folder, beside};

    #[test]
    fn a_file_takes_the_place_of_another_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("in")).expect("a folder");
        let (new, old) = (folder.path().join("in/new"), folder.path().join("in/old"));
        let replace = || {
            let root = Folder::open(folder.path()).expect("opened");
            super::replace(&root, Path::new("in/new"), Path::new("in/old"))
        };
        fs::write(&new, "1").expect("written");
        replace().expect("moved to a free name");
        fs::write(&new, "2").expect("written");
        replace().expect("exchanged");
        assert_eq!(fs::read_to_string(&old).expect("a file"), "2");
        assert!(!new.exists());
    }

    #[test]
    fn a_name_is_in_the_folder_of_its_file() {
        assert_eq!(beside(b"a/b", 7), b"a/.landfall-new-7");
        assert_eq!(beside(b"b", 0), b".landfall-new-0");
    }
}
