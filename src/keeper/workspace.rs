//! The folders of a run that the hook's user can reach: `<state>/work/<user>/{mirrors,trees,runs}`.
//!
//! The chain down to a run's own folders belongs to the daemon; only `mirrors` and what is inside one run's folders
//! belongs to the user. So a user can put nothing in the place of a folder that the keeper, which may be root, writes
//! to or removes.
//!
//! Invariant: what a user may have changed is opened without following links, and read only up to a bound.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, openat};
use sha2::{Digest, Sha256};

use crate::{journal::folder::RunDir, keeper::environment::shortened, model::run::RunId, process::user::Account};

/// What is read of a `DEPLOY_OUTPUT` at most.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// The folders of one run.
#[derive(Debug)]
pub struct Workspace {
    state: PathBuf,
    run: RunId,
    /// The body of the delivery, if scripts get one.
    payload: Option<PathBuf>,
    desks: Vec<Desk>,
    tree: Option<PathBuf>,
}

/// The folder where one user finds what a run hands over, and leaves what the run takes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeskPaths {
    /// The folder itself.
    pub folder: PathBuf,
    /// The body of the delivery, for `DEPLOY_PAYLOAD`.
    pub payload: Option<PathBuf>,
    /// For `DEPLOY_OUTPUT`.
    pub output: PathBuf,
}

#[derive(Debug)]
struct Desk {
    account: Account,
    paths: DeskPaths,
    handle: OwnedFd,
}

impl Workspace {
    /// Nothing is made yet.
    pub fn new(state: &Path, run: RunId, payload: Option<PathBuf>) -> Self {
        Self { state: state.to_owned(), run, payload, desks: Vec::new(), tree: None }
    }

    /// The folder of this user, made when it is first asked for.
    pub fn desk(&mut self, account: &Account) -> io::Result<DeskPaths> {
        if let Some(desk) = self.desks.iter().find(|it| it.account.uid == account.uid) {
            return Ok(desk.paths.clone());
        }
        let folder = self.chain(account, "runs")?.join(self.run.to_string());
        fresh_folder(&folder)?;
        let payload = match &self.payload {
            None => None,
            Some(body) => {
                let path = folder.join("payload.json");
                io::copy(&mut File::open(body)?, &mut new_file(&path, account)?)?;
                Some(path)
            }
        };
        let output = folder.join("output");
        new_file(&output, account)?;
        let handle = OwnedFd::from(File::open(&folder)?);
        own(&folder, account)?;
        let paths = DeskPaths { folder, payload, output };
        self.desks.push(Desk { account: account.clone(), paths: paths.clone(), handle });
        Ok(paths)
    }

    /// A fresh, empty folder for the tree, owned by the user.
    pub fn tree(&mut self, account: &Account) -> io::Result<PathBuf> {
        let tree = self.chain(account, "trees")?.join(self.run.to_string());
        fresh_folder(&tree)?;
        own(&tree, account)?;
        self.tree = Some(tree.clone());
        Ok(tree)
    }

    /// The folder of the user's mirrors.
    pub fn mirrors(&self, account: &Account) -> io::Result<PathBuf> {
        let mirrors = self.chain(account, "mirrors")?;
        own(&mirrors, account)?;
        Ok(mirrors)
    }

    /// What the mirror of a remote is called there.
    pub fn mirror_name(remote: &str) -> String {
        format!("{}.git", hex::encode(Sha256::digest(remote.as_bytes())))
    }

    /// What scripts wrote to `DEPLOY_OUTPUT`: `key=value` lines in the order of writing, and what is wrong with others.
    pub fn fields(&self) -> (Vec<(String, String)>, Vec<String>) {
        let (mut fields, mut problems) = (Vec::new(), Vec::new());
        for desk in &self.desks {
            match desk.read_output() {
                Ok(text) => parse_fields(&text, &mut fields, &mut problems),
                Err(err) => problems.push(format!("cannot read DEPLOY_OUTPUT: {err}")),
            }
        }
        (fields, problems)
    }

    /// Moves saved local edits into the run's folder, where they stay with its log: a patch, a folder of files, or both.
    /// Answers where they are.
    pub fn keep_edits(&self, patch: &Path, dir: &RunDir) -> io::Result<Vec<PathBuf>> {
        let mut files = patch.as_os_str().to_owned();
        files.push(".files");
        let mut kept = Vec::new();
        for (from, to, is_folder) in [(patch, dir.patch(), false), (Path::new(&files), dir.patch_files(), true)] {
            match fs::rename(from, &to) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                renamed => renamed?,
            }
            let kind = fs::symlink_metadata(&to)?.file_type();
            if (kind.is_file() && !is_folder) || (kind.is_dir() && is_folder) {
                kept.push(to);
            } else {
                fs::remove_file(&to)?;
                return Err(io::Error::other("the patch is not a plain file"));
            }
        }
        Ok(kept)
    }

    /// Removes everything of this run, the tree too, however the run ended: what is left to look at is the log.
    pub fn remove(&mut self) -> io::Result<()> {
        let desks = std::mem::take(&mut self.desks).into_iter().map(|it| it.paths.folder);
        let results: Vec<_> = self.tree.take().into_iter().chain(desks).map(|it| remove_all(&it)).collect();
        results.into_iter().collect()
    }

    /// `<state>/work/<user>/<name>`, made as far as it is missing.
    fn chain(&self, account: &Account, name: &str) -> io::Result<PathBuf> {
        let work = self.state.join("work");
        let of_user = work.join(&account.name);
        let inner = of_user.join(name);
        if account.is_own() {
            for folder in [&work, &of_user, &inner] {
                folder_of_mode(folder, if folder == &work { None } else { Some(0o700) })?;
            }
            return Ok(inner);
        }
        // Others may pass through, but not look around.
        widen(&self.state)?;
        folder_of_mode(&work, Some(0o711))?;
        for folder in [&of_user, &inner] {
            let is_the_users = fs::symlink_metadata(folder).is_ok_and(|it| it.uid() == account.uid.as_raw());
            if !is_the_users {
                folder_of_mode(folder, Some(0o710))?;
                chown(folder, None, Some(account.gid.as_raw()))?;
            }
        }
        Ok(inner)
    }
}

impl Desk {
    fn read_output(&self) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.handle, "output", flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(String::new()),
            Err(err) => return Err(err.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.uid() != self.account.uid.as_raw() {
            return Err(io::Error::other("it is not a plain file of the user's"));
        }
        let mut bytes = Vec::new();
        file.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Reads `key=value` lines. A later line of the same key takes the place of the earlier one.
fn parse_fields(text: &str, fields: &mut Vec<(String, String)>, problems: &mut Vec<String>) {
    const FIELDS_MAX: usize = 100;
    const VALUE_BYTES_MAX: usize = 4 * 1024;
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let is_key = |key: &str| {
            (1..=64).contains(&key.len()) && key.bytes().all(|it| it.is_ascii_alphanumeric() || b"_.-".contains(&it))
        };
        let Some((key, value)) = line.split_once('=').filter(|(key, _)| is_key(key)) else {
            problems.push(format!("line {} of DEPLOY_OUTPUT is not `key=value`: left out", index + 1));
            continue;
        };
        let value = shortened(value, VALUE_BYTES_MAX).replace('\0', "");
        if let Some(field) = fields.iter_mut().find(|(known, _)| known == key) {
            field.1 = value;
        } else if fields.len() < FIELDS_MAX {
            fields.push((key.to_owned(), value));
        } else {
            problems.push(format!("DEPLOY_OUTPUT has more than {FIELDS_MAX} fields: the rest is left out"));
            return;
        }
    }
}

/// The state folder lets other users pass, as soon as one of them works for us.
fn widen(state: &Path) -> io::Result<()> {
    let mode = fs::metadata(state)?.permissions().mode();
    if mode & 0o011 != 0o011 {
        fs::set_permissions(state, Permissions::from_mode(mode & 0o7777 | 0o011))?;
    }
    Ok(())
}

fn folder_of_mode(folder: &Path, mode: Option<u32>) -> io::Result<()> {
    match DirBuilder::new().mode(mode.unwrap_or(0o700)).create(folder) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
        Ok(()) | Err(_) => (),
    }
    if let Some(mode) = mode
        && fs::symlink_metadata(folder)?.permissions().mode() & 0o777 != mode
    {
        fs::set_permissions(folder, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// An empty folder that is ours for now. What stands there is of an earlier try.
fn fresh_folder(folder: &Path) -> io::Result<()> {
    remove_all(folder)?;
    DirBuilder::new().mode(0o700).create(folder)
}

fn own(folder: &Path, account: &Account) -> io::Result<()> {
    if account.is_own() {
        return Ok(());
    }
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    chown(folder, Some(account.uid.as_raw()), Some(account.gid.as_raw()))
}

fn new_file(path: &Path, account: &Account) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    if !account.is_own() {
        fchown(&file, Some(account.uid.as_raw()), Some(account.gid.as_raw()))?;
    }
    Ok(file)
}

/// Removes a folder, also one whose inner folders were made read-only, as some package caches are.
fn remove_all(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => {
            open_up(folder)?;
            fs::remove_dir_all(folder)
        }
        result => result,
    }
}

/// Only ever needed, and only ever of effect, where the folders are our own user's.
fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::{Workspace, parse_fields};
    use crate::{model::run::RunId, process::user::Account};

    #[test]
    fn fields_are_read_in_order_and_the_last_of_a_key_counts() {
        let (mut fields, mut problems) = (Vec::new(), Vec::new());
        parse_fields("url=https://x/?a=b\nnonsense\n\nversion=1\nversion=2\n=x\n", &mut fields, &mut problems);
        assert_eq!(fields, [("url".into(), "https://x/?a=b".into()), ("version".into(), "2".to_owned())]);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn an_output_that_became_a_link_is_not_followed() {
        let state = tempfile::tempdir().expect("temporary folder");
        let account = Account::find(None).expect("own account");
        let mut workspace = Workspace::new(state.path(), RunId(1), None);
        let desk = workspace.desk(&account).expect("desk");
        fs::remove_file(&desk.output).expect("removed");
        fs::write(state.path().join("hidden"), "password=x").expect("written");
        symlink(state.path().join("hidden"), &desk.output).expect("link");
        let (fields, problems) = workspace.fields();
        assert!(fields.is_empty() && problems.len() == 1, "{fields:?} {problems:?}");
    }

    #[test]
    fn nothing_of_a_run_stays_not_even_what_was_made_read_only() {
        let state = tempfile::tempdir().expect("temporary folder");
        let account = Account::find(None).expect("own account");
        let mut workspace = Workspace::new(state.path(), RunId(1), None);
        let (desk, tree) = (workspace.desk(&account).expect("desk"), workspace.tree(&account).expect("tree"));
        fs::create_dir_all(tree.join("cache/inner")).expect("folders");
        fs::set_permissions(tree.join("cache"), fs::Permissions::from_mode(0o500)).expect("read-only");
        workspace.remove().expect("removed");
        assert!(!desk.folder.exists() && !tree.exists());
    }
}
