//! The folders of a run that the hook's user can reach: `<state>/work/<user>/{mirrors,trees,runs}`.
//!
//! The chain down to a run's own folders belongs to the daemon; only `mirrors` and what is inside one run's folders
//! belongs to the user. So a user can put nothing in the place of a folder that the keeper, which may be root, writes
//! to or removes.
//!
//! Invariant: what a user may have changed is opened without following links, and read only up to a bound.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{fs::RenameFlags, io::Errno};
use sha2::{Digest, Sha256};

use crate::{
    journal::folder::RunDir,
    keeper::{environment::shortened, premises},
    model::run::RunId,
    process::{
        beneath::{Folder, give_file},
        clear::remove_all,
        user::Account,
    },
};

/// What is read of a `DEPLOY_OUTPUT` at most.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// The name of a `DEPLOY_OUTPUT`.
const OUTPUT: &str = "output";

/// The folders of one run.
#[derive(Debug)]
pub struct Workspace {
    state: PathBuf,
    run: RunId,
    /// The body of the delivery, if scripts get one.
    payload: Option<PathBuf>,
    desks: Vec<Desk>,
    tree: Option<Place>,
}

/// Where a folder of the run is.
#[derive(Debug)]
struct Place {
    /// The daemon's own.
    parent: Folder,
    name: OsString,
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
    place: Place,
    folder: Folder,
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
        let (place, path, folder) = self.fresh(account, "runs")?;
        let payload = match &self.payload {
            None => None,
            Some(body) => {
                let name = "payload.json";
                io::copy(&mut File::open(body)?, &mut new_file(&folder, name, account)?)?;
                Some(path.join(name))
            }
        };
        let output = path.join(OUTPUT);
        new_file(&folder, OUTPUT, account)?;
        own(&folder, account)?;
        let paths = DeskPaths { folder: path, payload, output };
        self.desks.push(Desk { account: account.clone(), paths: paths.clone(), place, folder });
        Ok(paths)
    }

    /// A fresh, empty folder for the tree, owned by the user.
    pub fn tree(&mut self, account: &Account) -> io::Result<PathBuf> {
        let (place, path, tree) = self.fresh(account, "trees")?;
        own(&tree, account)?;
        self.tree = Some(place);
        Ok(path)
    }

    /// The folder of the user's mirrors.
    pub fn mirrors(&self, account: &Account) -> io::Result<PathBuf> {
        let (of_user, path) = self.chain(account)?;
        let mirrors = premises::enter(&of_user, &path, "mirrors", Some(account.uid.as_raw()))?;
        if mirrors.stat()?.st_uid != account.uid.as_raw() {
            own(&mirrors, account)?;
        }
        Ok(path.join("mirrors"))
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
        let desk = self.desks.iter().find(|it| Some(&*it.paths.folder) == patch.parent());
        let desk = desk.ok_or_else(|| io::Error::other("no folder of this run has it"))?;
        let to_folder = Folder::open(dir.path())?;
        let mut files = patch.file_name().unwrap_or_default().to_owned();
        let patch = files.clone();
        files.push(".files");
        let mut kept = Vec::new();
        for (from, to, is_folder) in [(patch, dir.patch(), false), (files, dir.patch_files(), true)] {
            let name = to.file_name().unwrap_or_default();
            match desk.folder.rename(Path::new(&from), (&to_folder, Path::new(name)), RenameFlags::empty()) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                renamed => renamed?,
            }
            let kind = fs::symlink_metadata(&to)?.file_type();
            if (kind.is_file() && !is_folder) || (kind.is_dir() && is_folder) {
                kept.push(to);
            } else {
                remove_all(&to_folder, name)?;
                return Err(io::Error::other("the patch is not a plain file"));
            }
        }
        Ok(kept)
    }

    /// Removes everything of this run, the tree too, however the run ended: what is left to look at is the log.
    pub fn remove(&mut self) -> io::Result<()> {
        let desks = std::mem::take(&mut self.desks).into_iter().map(|it| it.place);
        let places = self.tree.take().into_iter().chain(desks);
        let results: Vec<_> = places.map(|it| remove_all(&it.parent, &it.name)).collect();
        results.into_iter().collect()
    }

    /// An empty folder of this run in `<state>/work/<user>/<name>`, which is ours for now. What stands there is of an
    /// earlier try.
    fn fresh(&self, account: &Account, name: &str) -> io::Result<(Place, PathBuf, Folder)> {
        let (of_user, path) = self.chain(account)?;
        let parent = premises::enter(&of_user, &path, name, None)?;
        let_in(&parent, account)?;
        let run = OsString::from(self.run.to_string());
        remove_all(&parent, &run)?;
        let folder = parent.make(&run, 0o700)?;
        Ok((Place { parent, name: run.clone() }, path.join(name).join(run), folder))
    }

    /// `<state>/work/<user>`, made as far as it is missing.
    fn chain(&self, account: &Account) -> io::Result<(Folder, PathBuf)> {
        let state = Folder::open(&self.state)?;
        let work = premises::enter(&state, &self.state, "work", None)?;
        if !account.is_own() {
            // Others may pass through, but not look around.
            widen(&state)?;
            work.set_mode(0o711)?;
        }
        let path = self.state.join("work");
        let of_user = premises::enter(&work, &path, &account.name, None)?;
        let_in(&of_user, account)?;
        Ok((of_user, path.join(&account.name)))
    }
}

impl Desk {
    fn read_output(&self) -> io::Result<String> {
        let file = match self.folder.read(Path::new(OUTPUT)) {
            Ok(file) => file,
            Err(err) if Errno::from_io_error(&err) == Some(Errno::NOENT) => return Ok(String::new()),
            Err(err) => return Err(err),
        };
        if file.metadata()?.uid() != self.account.uid.as_raw() {
            return Err(io::Error::other("it is not a file of the user's"));
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
fn widen(state: &Folder) -> io::Result<()> {
    let mode = state.stat()?.st_mode & 0o7777;
    state.set_mode(mode | 0o011)
}

/// Lets a user pass through a folder of ours, and nobody else.
fn let_in(folder: &Folder, account: &Account) -> io::Result<()> {
    if account.is_own() {
        return folder.set_mode(0o700);
    }
    folder.share_with(account)?;
    folder.set_mode(0o710)
}

fn own(folder: &Folder, account: &Account) -> io::Result<()> {
    if account.is_own() { Ok(()) } else { folder.give_to(account) }
}

fn new_file(folder: &Folder, name: &str, account: &Account) -> io::Result<File> {
    let file = folder.create(Path::new(name), 0o600)?;
    give_file(&file, account)?;
    Ok(file)
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
