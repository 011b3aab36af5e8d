//! A run's own folder, `<state>/runs/<id>`, in which `work` and a keeper meet.
//!
//! Invariant: the folder and everything in it belong to the daemon's user and are closed to everybody else.

use std::{
    fs::{self, DirBuilder, DirEntry, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{
    journal::{
        Unreadable, progress,
        spec::{self, RunToken, Spec},
    },
    model::run::RunId,
    process::{beneath::Folder, clear},
};

/// The longest reason of a cancel that is read back.
const CANCEL_BYTES_MAX: usize = 4 * 1024;

/// Whose a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Nothing of a run is in it.
    Nobodys,
    /// The run's that was asked about.
    Its {
        /// Whether the run has begun.
        has_begun: bool,
    },
    /// That of a run which another database gave the same number.
    Anothers,
}

/// The folder of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// The folder of this run in this state folder.
    pub fn of(state: &Path, run: RunId) -> Self {
        Self(state.join("runs").join(run.to_string()))
    }

    /// The numbers of the runs that have a folder in this state folder, in no order.
    pub fn numbers(state: &Path) -> io::Result<Vec<RunId>> {
        let entries = match fs::read_dir(state.join("runs")) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let number = |entry: DirEntry| entry.file_name().to_str()?.parse().ok().map(RunId);
        entries.filter_map(|entry| entry.map(number).transpose()).collect()
    }

    /// The folder at this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Makes the folder, 0700, and those above it that are missing.
    pub fn create(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What the run has to do, as `work` wrote it.
    pub fn spec(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    /// What the keeper did, one entry a line.
    pub fn journal(&self) -> PathBuf {
        self.0.join("journal.jsonl")
    }

    /// The first part of the log; see [`crate::journal::log`].
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The body of the delivery, which scripts may read through a copy of their own.
    pub fn payload(&self) -> PathBuf {
        self.0.join("payload.json")
    }

    /// Local edits of a working tree that the run overwrote. It stays with the run's log.
    pub fn patch(&self) -> PathBuf {
        self.0.join("local-edits.patch")
    }

    /// Files that were in the way of the run's tree, and the edits of repositories within. They stay with its log, too.
    pub fn patch_files(&self) -> PathBuf {
        self.0.join("local-edits.patch.files")
    }

    /// Why the run was cancelled.
    pub fn cancel(&self) -> PathBuf {
        self.0.join("cancel")
    }

    /// The newer run that this one is to make room for.
    pub fn yields_to(&self) -> PathBuf {
        self.0.join("yields-to")
    }

    /// Writes down what the run has to do. A half-written spec is never seen under its name.
    pub fn write_spec(&self, spec: &Spec) -> io::Result<()> {
        self.write_whole(&self.spec(), spec::encode(spec).as_bytes())
    }

    /// Whose the folder is. A run is known by its word, since another database may have had one of the same number.
    /// `None`: the run was started by a Landfall that knew no words.
    pub fn whose(&self, token: Option<&RunToken>) -> Whose {
        if !self.0.is_dir() {
            return Whose::Nobodys;
        }
        let progress = progress::read(self);
        // One that cannot be read may say that it has.
        let has_begun = progress.as_ref().map_or(true, |it| it.begin.is_some());
        let written = progress.ok().and_then(|it| it.begin?.token);
        match (written.or_else(|| self.read_spec().ok().map(|it| it.token)), token) {
            (None, _) if !has_begun => Whose::Nobodys,
            (Some(there), Some(token)) if there != *token => Whose::Anothers,
            (None, Some(_)) => Whose::Anothers,
            (Some(_), Some(_)) | (_, None) => Whose::Its { has_begun },
        }
    }

    /// Gives the folder another name, so that its run can have one of its own.
    pub fn set_aside(&self) -> io::Result<PathBuf> {
        let free = (1..).map(|it| self.0.with_extension(format!("aside-{it}"))).find(|it| !it.exists());
        let place = free.ok_or_else(|| io::Error::other("there is no name left for it"))?;
        fs::rename(&self.0, &place)?;
        Ok(place)
    }

    /// Reads what the run has to do.
    pub fn read_spec(&self) -> Result<Spec, Unreadable> {
        let text = fs::read_to_string(self.spec()).map_err(|err| Unreadable::new("spec", err))?;
        spec::decode(&text)
    }

    /// Puts the body of the delivery into the folder.
    pub fn write_payload(&self, body: &[u8]) -> io::Result<()> {
        self.write_whole(&self.payload(), body)
    }

    /// Writes down who cancels the run, and why. The caller then sends TERM to the keeper.
    pub fn write_cancel(&self, reason: &str) -> io::Result<()> {
        self.write_whole(&self.cancel(), reason.as_bytes())
    }

    /// Writes down the newer run that this one is to make room for. The caller then sends TERM to the keeper.
    pub fn write_yield(&self, to: RunId) -> io::Result<()> {
        self.write_whole(&self.yields_to(), to.to_string().as_bytes())
    }

    /// The newer run that this one is to make room for, if there is one.
    pub fn read_yield(&self) -> Option<RunId> {
        fs::read_to_string(self.yields_to()).ok()?.parse().ok().map(RunId)
    }

    /// Who cancelled the run, and why, if it was said. One line, of bounded length.
    pub fn read_cancel(&self) -> Option<String> {
        let mut bytes = fs::read(self.cancel()).ok()?;
        bytes.truncate(CANCEL_BYTES_MAX);
        let text = String::from_utf8_lossy(&bytes);
        let line = text.trim().lines().next()?.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// What the keeper says when it cannot even write its journal.
    pub fn keeper_trouble(&self) -> PathBuf {
        self.0.join("keeper.err")
    }

    /// Removes the folder and everything in it. One that is gone already is fine.
    ///
    /// A user's own files may be in it, of any depth and with links in them. It takes as long as there is to remove.
    pub fn remove(&self) -> io::Result<()> {
        let (Some(parent), Some(name)) = (self.0.parent(), self.0.file_name()) else { return Ok(()) };
        match Folder::open(parent) {
            Ok(parent) => clear::remove_all(&parent, name),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// Makes the names in the folder survive a power failure.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let draft = path.with_extension("draft");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        fs::rename(&draft, path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{Folder, RunDir};
    use crate::model::run::RunId;

    #[test]
    fn a_runs_folder_is_closed_to_other_users() {
        let state = tempfile::tempdir().expect("temporary folder");
        let dir = RunDir::of(state.path(), RunId(7));
        dir.create().expect("folder");
        dir.write_payload(b"{}").expect("payload");
        let mode = |path| std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(dir.path(), state.path().join("runs/7"));
        assert_eq!((mode(dir.path().to_owned()), mode(dir.payload())), (0o700, 0o600));
        dir.remove().expect("removed");
        dir.remove().expect("gone already is fine");
    }

    #[test]
    fn whatever_a_user_has_put_into_a_runs_folder_it_is_removed_and_nothing_else_is() {
        let (state, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let dir = RunDir::of(state.path(), RunId(7));
        dir.create().expect("folder");
        std::fs::write(outside.path().join("file"), "").expect("written");
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).expect("a link");
        // As deep as no stack of a thread is.
        let mut deep = Folder::open(dir.path()).expect("opened");
        for _ in 0..20_000 {
            deep = deep.make("d".as_ref(), 0o700).expect("made");
        }
        dir.remove().expect("removed");
        assert!(!dir.path().exists() && outside.path().join("file").exists());
    }

    #[test]
    fn the_reason_of_a_cancel_is_one_line() {
        let state = tempfile::tempdir().expect("temporary folder");
        let dir = RunDir::at(state.path());
        assert_eq!(dir.read_cancel(), None);
        dir.write_cancel("anna: wrong branch\nand more\n").expect("written");
        assert_eq!(dir.read_cancel().as_deref(), Some("anna: wrong branch"));
    }
}
