//! What is in a folder, and what git would have put there.
//!
//! Invariant: whatever is called `.git` is git's own and no part of a tree.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::PermissionsExt,
    },
    path::{Path, PathBuf},
};

use crate::{
    git::{self, Reach},
    history::Part,
};

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    Folder,
    File { is_executable: bool, length: u64, digest: u64 },
    Link(Vec<u8>),
}

/// All that is below a folder.
pub type Snapshot = BTreeMap<Vec<u8>, Thing>;

/// Takes one of a folder.
pub fn taken_of(folder: &Path) -> Snapshot {
    let mut snapshot = Snapshot::new();
    look(folder, b"", &mut snapshot);
    snapshot
}

fn look(folder: &Path, prefix: &[u8], snapshot: &mut Snapshot) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.as_bytes() == b".git" {
            continue;
        }
        let path = [prefix, name.as_bytes()].concat();
        let kind = entry.file_type().expect("a kind");
        let thing = if kind.is_symlink() {
            Thing::Link(fs::read_link(entry.path()).expect("a link").into_os_string().into_vec())
        } else if kind.is_dir() {
            look(&entry.path(), &[&path, b"/".as_slice()].concat(), snapshot);
            Thing::Folder
        } else {
            let content = fs::read(entry.path()).expect("a file");
            let mut hasher = DefaultHasher::new();
            content.hash(&mut hasher);
            let is_executable = entry.metadata().expect("a file").permissions().mode() & 0o100 != 0;
            Thing::File { is_executable, length: content.len() as u64, digest: hasher.finish() }
        };
        snapshot.insert(path, thing);
    }
}

/// A path for people.
pub fn word(path: &[u8]) -> String {
    format!("`{}`", path.escape_ascii())
}

/// Where trees come from, as git sees it.
pub struct Reference {
    /// A bare repository that has all commits.
    pub source: PathBuf,
    /// The folder with the repositories of submodules.
    pub served: PathBuf,
    pub parts: Vec<Part>,
    /// A folder to work in.
    pub folder: PathBuf,
}

/// What git makes of a commit.
#[derive(Clone, Default)]
pub struct Expected {
    pub tree: Snapshot,
    /// What each file has in the repository.
    pub blobs: BTreeMap<Vec<u8>, String>,
    /// Where submodules are, with those of submodules.
    pub submodules: Vec<Vec<u8>>,
}

impl Reference {
    /// What `git checkout` of this commit gives; with what is in its submodules, if they are asked for.
    pub fn expect(&self, commit: &str, with_submodules: bool) -> Expected {
        let mut expected = Expected::default();
        self.add(&self.source, commit, b"", with_submodules, &mut expected);
        expected
    }

    fn add(&self, bare: &Path, commit: &str, prefix: &[u8], with_submodules: bool, expected: &mut Expected) {
        let (tree, index) = (self.folder.join("reference-tree"), self.folder.join("reference-index"));
        let _ = fs::remove_file(&index);
        let _ = fs::remove_dir_all(&tree);
        fs::create_dir_all(&tree).expect("a folder");
        let work_tree = format!("--work-tree={}", tree.display());
        let git_dir = format!("--git-dir={}", bare.display());
        let arguments = [&git_dir, &work_tree, "-c", "core.bare=false", "read-tree", "--reset", "-u", commit];
        let mut command = git::command(&tree, &arguments);
        let output = command.env("GIT_INDEX_FILE", &index).output().expect("git");
        assert!(output.status.success(), "{commit}: {}", String::from_utf8_lossy(&output.stderr));
        for (path, thing) in taken_of(&tree) {
            expected.tree.insert([prefix, &path].concat(), thing);
        }
        let list = git::ask(&Reach::default(), bare, &["ls-tree", "-r", "-z", commit]).expect("a tree");
        for line in list.split(|it| *it == 0).filter(|it| !it.is_empty()) {
            let tab = line.iter().position(|it| *it == b'\t').expect("a path");
            let (facts, path) = (String::from_utf8_lossy(&line[..tab]), [prefix, &line[tab + 1..]].concat());
            let id = facts.split(' ').nth(2).expect("an id").to_owned();
            if !facts.starts_with("160000") {
                expected.blobs.insert(path, id);
                continue;
            }
            expected.submodules.push(path.clone());
            if with_submodules {
                let part = self.parts.iter().find(|it| it.commits.contains(&id)).expect("a part");
                let below = [&path, b"/".as_slice()].concat();
                self.add(&self.served.join(&part.name), &id, &below, true, expected);
            }
        }
    }
}

/// What differs, a line each: `missing`, `extra`, and what is wrong with the rest.
pub fn differences(
    expected: &Snapshot,
    found: &Snapshot,
    is_as_good: impl Fn(&[u8], &Thing, &Thing) -> bool,
) -> Vec<(&'static str, Vec<u8>, String)> {
    let mut all = Vec::new();
    for (path, thing) in expected {
        match found.get(path) {
            None => all.push(("a path is missing", path.clone(), format!("{thing:?}"))),
            Some(it) if it == thing || is_as_good(path, thing, it) => (),
            Some(it) => {
                let what = match (thing, it) {
                    (Thing::File { length, digest, .. }, Thing::File { length: own, digest: other, .. }) => {
                        if length == own && digest == other { "an exec bit differs" } else { "a content differs" }
                    }
                    (Thing::Link(_), Thing::Link(_)) => "a link leads elsewhere",
                    (Thing::Folder | Thing::Link(_) | Thing::File { .. }, _) => "a path is of another kind",
                };
                all.push((what, path.clone(), format!("is {it:?}, not {thing:?}")));
            }
        }
    }
    for (path, thing) in found.iter().filter(|(path, _)| !expected.contains_key(*path)) {
        all.push(("a path is too much", path.clone(), format!("{thing:?}")));
    }
    all
}
