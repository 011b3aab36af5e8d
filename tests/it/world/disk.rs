//! A small disk of its own, which can be filled. Only root can have one.

use std::{
    fs,
    io::Write,
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

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a test that failed may have left somebody in there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
