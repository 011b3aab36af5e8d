//! Folders that are held by a descriptor, and what is opened, made, renamed and removed beneath them.
//!
//! Whoever may write to a folder can put a link in the place of anything in it, at any moment. So root, and whoever else
//! works in folders of others, never looks at a path first and uses it then: each step is taken from a descriptor, and
//! the kernel is told to follow nothing (`RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS` of openat2(2)).
//!
//! Invariant: beneath a [`Folder`] no link is followed and no `..` is taken, whatever others do meanwhile.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::MetadataExt,
        },
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Uid, fchmod, fchown, fstat, fsync,
        mkdirat, openat, openat2, readlinkat, renameat_with, statat, symlinkat, unlinkat,
    },
    io::Errno,
};

use super::user::Account;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// A folder that nothing is done in but to name what is.
const PASSAGE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// How often the kernel is asked again that could not tell where a way led, as something was renamed meanwhile.
const TRIES: usize = 100;

/// A folder that is held by a descriptor: whatever becomes of its name, it stays the same one.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl Folder {
    /// The folder at a path. Links on the way there are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, path, FOLDER | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// The folder at a path beneath this one.
    pub fn folder(&self, path: &Path) -> io::Result<Self> {
        Ok(Self(open_beneath(self.as_fd(), path, FOLDER, Mode::empty())?))
    }

    /// The folder of this name in this one, made if it is not there.
    pub fn make(&self, name: &OsStr, mode: u32) -> io::Result<Self> {
        match mkdirat(&self.0, one_name(name)?, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => self.folder(Path::new(name)),
            Err(err) => Err(err.into()),
        }
    }

    /// Makes the folders of a path that are missing.
    pub fn make_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mut last: Option<OwnedFd> = None;
        for name in names(path)? {
            let folder = last.as_ref().map_or(self.as_fd(), AsFd::as_fd);
            match mkdirat(folder, name, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(Errno::EXIST) => {
                    last = Some(open_beneath(folder, Path::new(name), PASSAGE, Mode::empty())?)
                }
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }

    /// A new file, open to be written.
    pub fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        Ok(open_beneath(self.as_fd(), path, flags, Mode::from_raw_mode(mode))?.into())
    }

    /// A plain file, open to be read. One that is something else is an error, and nobody is waited for.
    pub fn read(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = File::from(open_beneath(self.as_fd(), path, flags, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a plain file")) }
    }

    /// The names of what is in it.
    pub fn entries(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    /// The text of a link.
    pub fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let (folder, name) = self.passage(path)?;
        let text = readlinkat(&folder, name, Vec::new())?;
        Ok(OsString::from_vec(text.into_bytes()).into())
    }

    /// A new link.
    pub fn link(&self, target: &OsStr, path: &Path) -> io::Result<()> {
        let (folder, name) = self.passage(path)?;
        Ok(symlinkat(target, &folder, name)?)
    }

    /// Gives a file another name beneath another folder, or the same.
    pub fn rename(&self, from: &Path, to: (&Self, &Path), flags: RenameFlags) -> io::Result<()> {
        let (from_folder, from) = self.passage(from)?;
        let (to_folder, to) = to.0.passage(to.1)?;
        Ok(renameat_with(&from_folder, from, &to_folder, to, flags)?)
    }

    /// Removes a file or a link.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.passage(path)?;
        Ok(unlinkat(&folder, name, AtFlags::empty())?)
    }

    /// Removes an empty folder.
    pub fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.passage(path)?;
        Ok(unlinkat(&folder, name, AtFlags::REMOVEDIR)?)
    }

    /// What the kernel says of it.
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(fstat(&self.0)?)
    }

    /// What the kernel says of what is at a path; of a link, and not of what it leads to.
    pub fn stat_of(&self, path: &Path) -> io::Result<Stat> {
        let (folder, name) = self.passage(path)?;
        Ok(statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Changes the mode of what is at a path, which is no link.
    pub fn set_mode_of(&self, path: &Path, mode: u32) -> io::Result<()> {
        let held = open_beneath(self.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
        Ok(fchmod(&held, Mode::from_raw_mode(mode))?)
    }

    /// The names in it are on the disk when this returns.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.0)?)
    }

    /// Changes its mode, unless it has it.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        let has_it = self.stat()?.st_mode & 0o7777 == mode;
        if has_it { Ok(()) } else { Ok(fchmod(&self.0, Mode::from_raw_mode(mode))?) }
    }

    /// Gives it to a user.
    pub fn give_to(&self, account: &Account) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(account.uid.as_raw()), Gid::from_raw(account.gid.as_raw()));
        Ok(fchown(&self.0, Some(uid), Some(gid))?)
    }

    /// Gives it to a user's group.
    pub fn share_with(&self, account: &Account) -> io::Result<()> {
        Ok(fchown(&self.0, None, Some(Gid::from_raw(account.gid.as_raw())))?)
    }

    /// The folder that a path is in, to name what is in it and for nothing else; and the name that the path has there.
    pub fn above<'p>(&self, path: &'p Path) -> io::Result<(Self, &'p Path)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok((Self(open_beneath(self.as_fd(), folder, PASSAGE, Mode::empty())?), Path::new(name)))
    }

    fn passage<'p>(&self, path: &'p Path) -> io::Result<(Passage<'_>, &'p OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        match path.parent() {
            None => Err(Errno::INVAL.into()),
            Some(folder) if folder.as_os_str().is_empty() => Ok((Passage::Here(self.as_fd()), name)),
            Some(folder) => Ok((Passage::Below(open_beneath(self.as_fd(), folder, PASSAGE, Mode::empty())?), name)),
        }
    }
}

/// The folder that a path is in.
enum Passage<'f> {
    Here(BorrowedFd<'f>),
    Below(OwnedFd),
}

impl AsFd for Passage<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Here(folder) => *folder,
            Self::Below(folder) => folder.as_fd(),
        }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives an open file to a user.
pub fn give_file(file: &File, account: &Account) -> io::Result<()> {
    let metadata = file.metadata()?;
    if (metadata.uid(), metadata.gid()) == (account.uid.as_raw(), account.gid.as_raw()) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(account.uid.as_raw()), Gid::from_raw(account.gid.as_raw()));
    Ok(fchown(file, Some(uid), Some(gid))?)
}

/// Opens what is at a path beneath a folder, which the path may not leave.
fn open_beneath(folder: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    names(path)?;
    let way = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    for _ in 0..TRIES {
        match openat2(folder, way, flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS) {
            Err(Errno::AGAIN) => (),
            // A kernel before 5.6, or a filter of system calls that was written before it. A permission that is really
            // missing is missing on the other way, too.
            Err(Errno::NOSYS | Errno::PERM) => return walk(folder, path, flags, mode),
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// The same, name by name.
fn walk(folder: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let names = names(path)?;
    let Some((last, above)) = names.split_last() else { return openat(folder, ".", flags, mode) };
    let mut held: Option<OwnedFd> = None;
    for name in above {
        let at = held.as_ref().map_or(folder, AsFd::as_fd);
        held = Some(openat(at, *name, PASSAGE | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?);
    }
    openat(held.as_ref().map_or(folder, AsFd::as_fd), *last, flags, mode)
}

/// The names of a path, which must not lead out of where it begins.
fn names(path: &Path) -> Result<Vec<&OsStr>, Errno> {
    let name = |part| match part {
        Component::Normal(name) => Ok(name),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => Err(Errno::INVAL),
    };
    path.components().map(name).collect()
}

fn one_name(name: &OsStr) -> Result<&OsStr, Errno> {
    match names(Path::new(name))?.as_slice() {
        [only] if *only == name => Ok(name),
        _ => Err(Errno::INVAL),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        fs,
        os::{fd::AsFd, unix::fs::symlink},
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};

    use super::{Folder, open_beneath, walk};

    #[test]
    fn by_either_way_no_link_is_followed_and_nothing_outside_is_reached() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("in/deep")).expect("folders");
        fs::create_dir(at("out")).expect("a folder");
        fs::write(at("in/deep/file"), "x").expect("written");
        for name in ["in/link", "in/deep/link"] {
            symlink(at("out"), at(name)).expect("a link");
        }
        let held = Folder::open(&at("in")).expect("opened");
        for open in [open_beneath, walk] {
            let opens = |path: &str| {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                open(held.as_fd(), Path::new(path), flags, Mode::empty()).is_ok()
            };
            assert!(["", "deep", "deep/file"].into_iter().all(opens));
            let bad =
                ["link", "deep/link", "link/x", "deep/link/x", "..", "../out", "deep/../deep", "/", "/etc", "nil"];
            assert_eq!(bad.into_iter().find(|it| opens(it)), None);
            let new = open(held.as_fd(), Path::new("link/new"), OFlags::CREATE | OFlags::WRONLY, Mode::RUSR);
            assert!(new.is_err() && !at("out/new").exists());
        }
        let link = Path::new("deep/link");
        assert_eq!(held.read_link(link).expect("a link"), at("out"));
        assert!(held.stat_of(link).is_ok() && held.stat_of(&link.join("x")).is_err());
        assert!(held.set_mode_of(link, 0o777).is_err() && held.set_mode_of(Path::new("deep/file"), 0o600).is_ok());
        let mut entries = held.folder(Path::new("deep")).expect("opened").entries().expect("readable");
        entries.sort();
        assert_eq!(entries, ["file", "link"]);
        assert!(held.make(OsStr::new("a/b"), 0o700).is_err() && held.make(OsStr::new(".."), 0o700).is_err());
        assert!(held.make_all(Path::new("link/new"), 0o700).is_err() && !at("out/new").exists());
    }

    /// How many times everything is tried while a folder and a link change places.
    const TRIES: usize = 2_000;

    #[test]
    fn a_folder_that_is_swapped_for_a_link_leads_nothing_outside() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("in/sub")).expect("folders");
        fs::create_dir(at("out")).expect("a folder");
        fs::write(at("out/canary"), "sings").expect("written");
        symlink(at("out"), at("in/other")).expect("a link");
        let held = Folder::open(&at("in")).expect("opened");
        let (is_over, swaps) = (AtomicBool::new(false), std::sync::atomic::AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    renameat_with(CWD, at("in/sub"), CWD, at("in/other"), RenameFlags::EXCHANGE).expect("swapped");
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut arrived = 0;
            for number in 0.. {
                if arrived >= TRIES && swaps.load(Ordering::Relaxed) >= TRIES {
                    break;
                }
                let name = format!("sub/{number}");
                let path = Path::new(&name);
                arrived += usize::from(held.create(path, 0o600).is_ok());
                let _ = held.make_all(&path.with_extension("d"), 0o700);
                let _ = held.link(OsStr::new("x"), &path.with_extension("l"));
                let _ = held.rename(path, (&held, &path.with_extension("r")), RenameFlags::empty());
                let _ = held.remove_file(Path::new("sub/canary"));
                let _ = held.remove_file(&path.with_extension("r"));
                let _ = held.remove_folder(&path.with_extension("d"));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let outside: Vec<_> = fs::read_dir(at("out")).expect("there").flatten().map(|it| it.file_name()).collect();
        assert_eq!(outside, ["canary"]);
    }
}
