//! Removes a folder with everything in it, which may be another user's.
//!
//! Invariant: no link is followed and no file system is entered that is mounted there; and no folder of another user's is
//! opened up: only one's own modes are changed.

use std::{
    ffi::{CStr, OsStr},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, chmod, fstat, openat, openat2, renameat, unlinkat},
    io::Errno,
    process::geteuid,
};

use super::beneath::Folder;

/// How many folders are held open at once, each within the one before. What is deeper is moved up first.
const DEPTH_MAX: usize = 32;

/// How often one thing is tried again that somebody puts back meanwhile.
const TRIES: usize = 100;

/// Removes what has this name in a folder, if it is there.
pub fn remove_all(folder: &Folder, name: &OsStr) -> io::Result<()> {
    let clearing = Clearing { top: folder.as_fd(), name: name.as_bytes(), moved: AtomicUsize::new(0) };
    let name = std::ffi::CString::new(name.as_bytes())?;
    clearing.remove(folder.as_fd(), &name, 0)?;
    // What was too deep stands beside it by now, and may be deep itself.
    let mut next = 0;
    while next < clearing.moved.load(Ordering::Relaxed) {
        clearing.remove(folder.as_fd(), &clearing.name_above(next), 0)?;
        next += 1;
    }
    Ok(())
}

struct Clearing<'a> {
    /// The folder that all of it is in.
    top: BorrowedFd<'a>,
    name: &'a [u8],
    /// How much was moved up there.
    moved: AtomicUsize,
}

impl Clearing<'_> {
    fn remove(&self, folder: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
        let mut last = Errno::AGAIN;
        for _ in 0..TRIES {
            match unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // Linux says the one of a folder, POSIX the other.
                Err(Errno::ISDIR | Errno::PERM) => (),
                Err(err) => return Err(err.into()),
            }
            let inner = match open(folder, name) {
                Ok(inner) => inner,
                // Somebody has put something else there.
                Err(err @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => {
                    last = err;
                    continue;
                }
                Err(Errno::XDEV) => return Err(mounted(name)),
                Err(err) => return Err(err.into()),
            };
            if depth < DEPTH_MAX {
                self.empty(inner.as_fd(), depth)?;
            } else {
                let number = self.moved.load(Ordering::Relaxed);
                // Before it is moved: what was moved and not counted would stay.
                self.moved.store(number + 1, Ordering::Relaxed);
                match renameat(folder, name, self.top, &*self.name_above(number)) {
                    Ok(()) => return Ok(()),
                    Err(err) => last = err,
                }
                continue;
            }
            match unlinkat(folder, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(err @ (Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR)) => last = err,
                Err(Errno::BUSY) => return Err(mounted(name)),
                Err(err) => return Err(err.into()),
            }
        }
        Err(last.into())
    }

    fn empty(&self, folder: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                self.remove(folder, entry.file_name(), depth + 1)?;
            }
        }
        Ok(())
    }

    fn name_above(&self, number: usize) -> std::ffi::CString {
        let name = [b".", self.name, b".", number.to_string().as_bytes()].concat();
        std::ffi::CString::new(name).expect("a name of a file has no NUL byte")
    }
}

/// Opens a folder to empty it. One's own is opened up, as some package caches are made read-only; root needs no right.
fn open(folder: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let held = open_here(folder, name)?;
    let (stat, own) = (fstat(&held)?, geteuid());
    if stat.st_uid == own.as_raw() && !own.is_root() && stat.st_mode & 0o700 != 0o700 {
        // A descriptor that only names a folder takes no fchmod(2); the kernel's own link to it is no link of anybody's.
        chmod(Path::new(&format!("/proc/self/fd/{}", held.as_raw_fd())), Mode::RWXU)?;
    }
    openat(&held, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The folder of this name, unless something is mounted there.
fn open_here(folder: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(folder, name, flags, Mode::empty(), ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS) {
        Err(Errno::NOSYS | Errno::PERM) => {
            let inner = openat(folder, name, flags, Mode::empty())?;
            let is_here = fstat(folder)?.st_dev == fstat(&inner)?.st_dev;
            if is_here { Ok(inner) } else { Err(Errno::XDEV) }
        }
        opened => opened,
    }
}

fn mounted(name: &CStr) -> io::Error {
    io::Error::other(format!("something is mounted at `{}`: unmount it", name.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
        process::Command,
        sync::atomic::{AtomicBool, AtomicUsize, Ordering},
        thread,
    };

    use rustix::fs::{CWD, Mode, RenameFlags, mkdirat, renameat_with};

    use super::remove_all;
    use crate::process::beneath::Folder;

    #[test]
    fn a_tree_goes_however_deep_it_is_and_what_its_links_lead_to_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("canary"), "sings").expect("written");
        let tree = Folder::open(folder.path()).expect("opened").make(OsStr::new("tree"), 0o700).expect("made");
        symlink(outside.path(), folder.path().join("tree/link")).expect("a link");
        fs::write(folder.path().join("tree/file"), "x").expect("written");
        let mut inner = tree;
        for _ in 0..500 {
            mkdirat(&inner, "a", Mode::RWXU).expect("made");
            inner = inner.folder("a".as_ref()).expect("opened");
        }
        drop(inner);
        let held = Folder::open(folder.path()).expect("opened");
        remove_all(&held, OsStr::new("tree")).expect("removed");
        remove_all(&held, OsStr::new("tree")).expect("it is not there");
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 0);
        assert!(outside.path().join("canary").exists());
    }

    #[test]
    fn as_root_what_is_mounted_in_a_tree_is_left_alone() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("canary"), "sings").expect("written");
        fs::create_dir_all(folder.path().join("tree/mnt")).expect("folders");
        let at = folder.path().join("tree/mnt");
        let mounted = Command::new("mount").arg("--bind").arg(outside.path()).arg(&at).status();
        if !mounted.is_ok_and(|it| it.success()) {
            println!("SKIPPED, nothing can be mounted here: as_root_what_is_mounted_in_a_tree_is_left_alone");
            return;
        }
        let removed = remove_all(&Folder::open(folder.path()).expect("opened"), OsStr::new("tree"));
        assert!(Command::new("umount").arg(&at).status().expect("umount").success());
        assert!(removed.expect_err("refused").to_string().contains("something is mounted at `mnt`"));
        assert!(outside.path().join("canary").exists());
    }

    #[test]
    fn a_removal_that_is_raced_with_links_removes_and_opens_up_nothing_outside() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("out/inner")).expect("folders");
        fs::write(at("out/inner/canary"), "sings").expect("written");
        fs::set_permissions(at("out"), fs::Permissions::from_mode(0o751)).expect("a mode");
        let held = Folder::open(folder.path()).expect("opened");
        let (is_over, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = symlink(at("out"), at("tree/b"));
                    let swapped = renameat_with(CWD, at("tree/a"), CWD, at("tree/b"), RenameFlags::EXCHANGE);
                    swaps.fetch_add(usize::from(swapped.is_ok()), Ordering::Relaxed);
                }
            });
            for _ in 0.. {
                if swaps.load(Ordering::Relaxed) >= 1_000 {
                    break;
                }
                let _ = fs::create_dir_all(at("tree/a/inner"));
                // Where the link is by now, this comes to lie outside.
                let _ = fs::write(at("tree/a/inner/other"), "x");
                let _ = remove_all(&held, OsStr::new("tree"));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_to_string(at("out/inner/canary")).expect("it sings"), "sings");
        assert_eq!(at("out").metadata().expect("there").mode() & 0o777, 0o751);
    }
}
