//! Where things are measured: on the disk that builds are on, or in memory.
//!
//! Invariant: a folder is gone with the value that stands for it.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// A folder on the disk.
pub fn on_disk() -> Result<TempDir> {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).context("a folder on the disk")
}

/// A folder in memory, where the disk's noise stays out.
pub fn in_memory() -> Result<TempDir> {
    tempfile::tempdir_in("/dev/shm").context("a folder in /dev/shm")
}

/// How long it takes to bring 4 KiB more of a file onto the disk.
pub fn flush(folder: &Path, times: usize) -> Result<Vec<Duration>> {
    let path = folder.join("flushed");
    let mut file = File::options().create(true).append(true).open(path)?;
    let mut took = Vec::new();
    for _ in 0..times {
        file.write_all(&[b'x'; 4096])?;
        let begin = Instant::now();
        file.sync_data()?;
        took.push(begin.elapsed());
    }
    Ok(took)
}
