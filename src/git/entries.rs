//! What is in a tree, and how two trees differ.
//!
//! Invariant: a path that comes out of here stays below the folder it is joined to and never leads into git's own
//! data, whatever the repository holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use git2::{ObjectType, Oid, Repository, Tree};

use super::{GitFailure, cannot, progress::plain};
use crate::model::size::Size;

/// A tree of more files and folders is a trap: a few small objects can stand for billions.
const ENTRIES_MAX: usize = 3_000_000;

/// What their paths may have, one with another: the same few objects can stand for long ones, too.
const PATH_LENGTH_MEAN_MAX: usize = 100;

/// As Linux' `PATH_MAX`, less room for the folder the tree goes to.
const PATH_LENGTH_MAX: usize = 3500;

/// What a file may have that we read for ourselves, such as `.gitmodules`.
const SMALL_FILE_BYTES_MAX: usize = 1 << 20;

/// One path that differs between two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::git) struct Change {
    /// Relative, with `/` between its names.
    pub(in crate::git) path: Vec<u8>,
    /// What the new tree has there; `None`: nothing, or a folder.
    pub(in crate::git) now: Option<Entry>,
}

/// What a tree has at a path that is no folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::git) struct Entry {
    pub(in crate::git) id: Oid,
    pub(in crate::git) kind: Kind,
}

/// What an entry becomes on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::git) enum Kind {
    File,
    Executable,
    Link,
    /// A folder that stays empty.
    Submodule,
}

impl Kind {
    /// Whether it has a content of its own.
    pub(in crate::git) fn is_file(self) -> bool {
        matches!(self, Self::File | Self::Executable)
    }

    /// The mode as git writes it.
    pub(in crate::git) fn mode(self) -> u32 {
        match self {
            Self::File => 0o100_644,
            Self::Executable => 0o100_755,
            Self::Link => 0o120_000,
            Self::Submodule => 0o160_000,
        }
    }
}

/// A relative path as the file system takes it.
pub(in crate::git) fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// What the tree has at a path that is no folder.
pub(in crate::git) fn entry_at(tree: &Tree<'_>, path: &[u8]) -> Option<Entry> {
    let entry = tree.get_path(as_path(path)).ok()?;
    let kind = node(entry.filemode_raw())?;
    match kind {
        Node::Entry(kind) => Some(Entry { id: entry.id(), kind }),
        Node::Folder => None,
    }
}

/// The content of a file that we read for ourselves. It is refused where nobody would write so much by hand.
pub(in crate::git) fn small_file(repo: &Repository, id: Oid, path: &str) -> Result<Vec<u8>, GitFailure> {
    let what = || cannot::<git2::Error>(format!("read `{path}` of the tree"));
    let odb = repo.odb().map_err(what())?;
    let (size, _) = odb.read_header(id).map_err(what())?;
    if size > SMALL_FILE_BYTES_MAX {
        let (size, limit) = (Size(size as u64), Size(SMALL_FILE_BYTES_MAX as u64));
        return Err(GitFailure::permanent(format!("`{path}` of the tree has {size}, and may have {limit}")));
    }
    odb.read(id).map(|it| it.data().to_vec()).map_err(what())
}

/// Every path that differs, in the order of their bytes. `None` is the empty tree; so this lists a tree, too.
pub(in crate::git) fn changes(
    repo: &Repository,
    old: Option<Oid>,
    new: Option<Oid>,
) -> Result<Vec<Change>, GitFailure> {
    changes_up_to(ENTRIES_MAX, repo, old, new)
}

/// Like [`changes`], refusing when more than `limit` files and folders differ.
pub(in crate::git) fn changes_up_to(
    limit: usize,
    repo: &Repository,
    old: Option<Oid>,
    new: Option<Oid>,
) -> Result<Vec<Change>, GitFailure> {
    let (mut changes, mut folders, mut length) = (Vec::new(), 0, 0);
    let mut open = vec![(Vec::new(), old, new)];
    while let Some((prefix, old, new)) = open.pop() {
        let old = old.map(|id| children(repo, id, &prefix)).transpose()?.unwrap_or_default();
        let new = new.map(|id| children(repo, id, &prefix)).transpose()?.unwrap_or_default();
        let names: BTreeSet<&Vec<u8>> = old.keys().chain(new.keys()).collect();
        for name in names {
            let (before, after) = (old.get(name), new.get(name));
            if before == after {
                continue;
            }
            let mut path = prefix.clone();
            path.extend_from_slice(name);
            length += path.len();
            if length > limit * PATH_LENGTH_MEAN_MAX {
                return Err(GitFailure::permanent(format!(
                    "the paths of the tree have more than {} together",
                    Size((limit * PATH_LENGTH_MEAN_MAX) as u64)
                )));
            }
            let folder = |child: Option<&Child>| child.filter(|it| it.node == Node::Folder).map(|it| it.id);
            let entry = |child: Option<&Child>| match child.map(|it| (it.node, it.id)) {
                Some((Node::Entry(kind), id)) => Some(Entry { id, kind }),
                Some((Node::Folder, _)) | None => None,
            };
            if entry(before).is_some() || entry(after).is_some() {
                changes.push(Change { path: path.clone(), now: entry(after) });
            }
            if folder(before).is_some() || folder(after).is_some() {
                path.push(b'/');
                open.push((path, folder(before), folder(after)));
            }
        }
        folders += 1;
        if changes.len() + folders > limit {
            return Err(GitFailure::permanent(format!("the tree has more than {limit} files and folders")));
        }
    }
    changes.sort_unstable_by(|one, two| one.path.cmp(&two.path));
    Ok(changes)
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Child {
    id: Oid,
    node: Node,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    Entry(Kind),
}

/// What a mode stands for; `None`: git has no such mode.
fn node(mode: i32) -> Option<Node> {
    match mode & 0o170_000 {
        0o040_000 => Some(Node::Folder),
        0o100_000 if mode & 0o100 != 0 => Some(Node::Entry(Kind::Executable)),
        0o100_000 => Some(Node::Entry(Kind::File)),
        0o120_000 => Some(Node::Entry(Kind::Link)),
        0o160_000 => Some(Node::Entry(Kind::Submodule)),
        _ => None,
    }
}

fn children(repo: &Repository, id: Oid, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Child>, GitFailure> {
    let refused = |name: &[u8], why: &str| {
        let path = plain(&[prefix, name].concat());
        GitFailure::permanent(format!("the tree has an entry `{path}` that is refused: {why}"))
    };
    let tree = repo.find_object(id, Some(ObjectType::Tree)).and_then(|it| it.peel_to_tree());
    let tree = tree.map_err(cannot(format!("read folder `{}` of the tree", plain(prefix))))?;
    let mut children = BTreeMap::new();
    for entry in tree.iter() {
        let name = entry.name_bytes();
        if let Some(why) = refusal(name) {
            return Err(refused(name, why));
        }
        if prefix.len() + name.len() > PATH_LENGTH_MAX {
            return Err(refused(name, "its path is too long"));
        }
        let node = node(entry.filemode_raw()).ok_or_else(|| refused(name, "git has no such kind of entry"))?;
        if children.insert(name.to_owned(), Child { id: entry.id(), node }).is_some() {
            return Err(refused(name, "there are two of that name"));
        }
    }
    Ok(children)
}

/// Why a name must not be written, if so. The rules are those of `git fsck`, for all systems: a tree may be shared to
/// one that folds names, or copied there.
fn refusal(name: &[u8]) -> Option<&'static str> {
    if name.is_empty() || matches!(name, b"." | b"..") || name.contains(&b'/') || name.contains(&0) {
        return Some("it is not a plain name");
    }
    // HFS+ ignores these (https://git-scm.com: utf8.c, `next_hfs_char`).
    let ignored_by_hfs = |it: &char| matches!(it, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let text = String::from_utf8_lossy(name);
    let visible: String = text.chars().filter(|it| !ignored_by_hfs(it)).collect();
    // NTFS ignores dots and spaces at the end, what follows a colon names a stream of the same file, and a backslash
    // ends the name of a folder.
    let plain = visible.split([':', '\\']).next().unwrap_or_default().trim_end_matches(['.', ' ']).to_ascii_lowercase();
    matches!(plain.as_str(), ".git" | "git~1").then_some("it would be git's own folder")
}

#[cfg(test)]
mod tests {
    use super::refusal;

    #[test]
    fn names_that_lead_out_or_into_gits_own_data_are_refused() {
        let dots: [&[u8]; 4] = [b"", b".", b"..", b"a/b"];
        let gits = [
            ".git",
            ".GIT",
            ".Git ",
            ".git.",
            ".git::$INDEX_ALLOCATION",
            "GIT~1",
            ".g\u{200c}it",
            ".git\u{feff}",
            ".git\\hooks",
            "git~1\\x",
        ];
        for bad in dots.into_iter().chain(gits.iter().map(|it| it.as_bytes())) {
            assert!(refusal(bad).is_some(), "{}", String::from_utf8_lossy(bad));
        }
        for good in [".gitignore", ".gitattributes", "git", "git~2", "...", "a:b", "\u{200c}", "-x", "a\\b"] {
            assert!(refusal(good.as_bytes()).is_none(), "{good}");
        }
        assert!(refusal(b"\xff\xfe").is_none());
    }
}
