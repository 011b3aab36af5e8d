//! The files of a log: its head, and the ring of segments that holds its newest lines.
//!
//! Invariant: segments come in the order of their positions and do not overlap.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::journal::folder::RunDir;

/// One file of a log.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// The file.
    pub(super) path: PathBuf,
    /// Position of its first byte.
    pub(super) start: u64,
    /// How long it was when it was looked at.
    pub(super) len: u64,
}

impl Segment {
    /// The position after its last byte.
    pub(super) fn end(&self) -> u64 {
        self.start + self.len
    }
}

/// The file of the segment that begins at this position.
pub(super) fn path(dir: &RunDir, start: u64) -> PathBuf {
    if start == 0 { dir.log() } else { dir.path().join(format!("log.{start:020}")) }
}

/// All files of a log, as they are now; none if nothing was logged yet.
pub(super) fn list(dir: &RunDir) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir.path())? {
        let entry = entry?;
        let Some(start) = position_of(&entry.path()) else { continue };
        match entry.metadata() {
            Ok(metadata) => segments.push(Segment { path: entry.path(), start, len: metadata.len() }),
            // The ring has moved on meanwhile.
            Err(err) if err.kind() == io::ErrorKind::NotFound => (),
            Err(err) => return Err(err),
        }
    }
    segments.sort_by_key(|it| it.start);
    Ok(segments)
}

fn position_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    if name == "log" {
        return Some(0);
    }
    let digits = name.strip_prefix("log.")?;
    let is_position = digits.len() == 20 && digits.bytes().all(|it| it.is_ascii_digit());
    // No log is so long that its positions could not be counted on; a file of such a name is none of ours.
    is_position.then(|| digits.parse().ok().filter(|it| *it <= i64::MAX as u64))?
}
