//! A small disk of its own, which can be filled. Only root can have one.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

/// A small disk of its own below a folder, as long as it lives.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// One of eight mebibytes.
    pub fn at(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m,mode=0700", "none"]).arg(folder).status();
        assert!(mount.expect("mount").success());
        Self(folder.to_owned())
    }

    /// One in a file, of a file system that can be told that it is damaged.
    pub fn that_can_break(folder: &Path, image: &Path) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        fs::File::create(image).and_then(|it| it.set_len(32 << 20)).expect("an image");
        // Without a journal of its own, so that what was flushed is there at once.
        done(Command::new("mkfs.ext4").args(["-q", "-F", "-O", "^has_journal"]).arg(image));
        let disk = Self(folder.to_owned());
        disk.mount_image(image);
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("closed to others");
        disk
    }

    fn mount_image(&self, image: &Path) {
        done(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(image).arg(&self.0));
    }

    /// The kernel finds damage, and lets nobody write any more.
    pub fn breaks(&self) {
        let device = fs::metadata(&self.0).expect("there").dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let name = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).expect("a device");
        let name = name.file_name().expect("a name").to_str().expect("plain").to_owned();
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1").expect("told");
    }

    /// A person checks the disk of whom nobody is left, and mounts it again.
    pub fn is_mended(&self, image: &Path) {
        done(Command::new("umount").arg(&self.0));
        // 1: it was damaged, and is not any more.
        let checked = Command::new("e2fsck").args(["-p", "-f"]).arg(image).output().expect("e2fsck");
        assert!(checked.status.code().is_some_and(|it| it <= 1), "{checked:?}");
        self.mount_image(image);
    }

    /// What takes up its room once it is full.
    pub fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Leaves no room at all.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.filler()).expect("a file");
        while file.write(&[0; 4096]).is_ok() {}
    }

    /// Gives the room back.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("removed");
    }
}

fn done(command: &mut Command) {
    let output = command.output().expect("the command runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a test that failed may have left somebody in there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
