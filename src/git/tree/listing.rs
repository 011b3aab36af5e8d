//! What of a commit's tree is deployed: all of it, or one folder, and not what its attributes leave out.
//!
//! Invariant: paths are relative to what is deployed; attributes see them from the root of the tree.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use git2::{Oid, Tree};
use memchr::memchr_iter;

use crate::git::tree::attributes::{self, Attributes, is_attributes};
use crate::git::{
    GitFailure, cannot,
    entries::{self as tree, Change},
    mirror::repository::LocalRepo,
    progress::plain,
};

/// How many names of what is left out are said: the rest is a number.
const NAMES_SAID_MAX: usize = 3;

/// What is deployed.
pub(in crate::git) struct Listing {
    pub(in crate::git) files: Vec<Change>,
    /// Folders that are made even if nothing is left in them: git makes them, too.
    pub(in crate::git) folders: BTreeSet<Vec<u8>>,
    /// Where they are in the tree: empty, or a folder with a slash at its end.
    pub(in crate::git) prefix: Vec<u8>,
    pub(in crate::git) attributes: Attributes,
}

impl Listing {
    /// Lists a tree, or one folder of it.
    pub(in crate::git) fn of(mirror: &LocalRepo, tree: &Tree<'_>, subdir: Option<&Path>) -> Result<Self, GitFailure> {
        let prefix = subdir.map(|it| [it.as_os_str().as_bytes(), b"/"].concat()).unwrap_or_default();
        let root = match subdir {
            None => tree.id(),
            Some(subdir) => {
                let entry = tree.get_path(subdir).ok().filter(|it| it.filemode_raw() == 0o040_000);
                entry.map(|it| it.id()).ok_or_else(|| {
                    let subdir = plain(subdir.as_os_str().as_bytes());
                    GitFailure::permanent(format!("the commit has no folder `{subdir}`, which `deploy.subdir` names"))
                })?
            }
        };
        let files = mirror.changes(None, root)?;
        let mut sources: Vec<(Vec<u8>, Oid)> = Vec::new();
        let above = prefix.iter().enumerate().filter(|(_, it)| **it == b'/').map(|(at, _)| at + 1);
        for end in std::iter::once(0).chain(above).filter(|it| *it < prefix.len()) {
            let path = [&prefix[..end], attributes::FILE_NAME].concat();
            sources.extend(tree::entry_at(tree, &path).filter(|it| it.kind.is_file()).map(|it| (path, it.id)));
        }
        for Change { path, now } in files.iter().filter(|it| is_attributes(&it.path)) {
            sources.extend(now.filter(|it| it.kind.is_file()).map(|it| ([&prefix[..], path].concat(), it.id)));
        }
        let attributes = Attributes::read(&mirror.repo, sources.iter().map(|(path, id)| (&path[..], *id)))?;
        Ok(Self { files, folders: BTreeSet::new(), prefix, attributes })
    }

    /// Drops what has the attribute `export-ignore`, and everything below a folder that has it, as `git archive` does.
    /// Returns what people should read of it, if there is any.
    pub(in crate::git) fn leave_out_export_ignored(&mut self) -> Option<String> {
        if !self.attributes.has_export_ignore {
            return None;
        }
        let Self { files, folders, prefix, attributes } = self;
        let (count, mut names) = (files.len(), BTreeSet::new());
        let mut known: HashMap<Vec<u8>, bool> = HashMap::new();
        files.retain(|Change { path, .. }| {
            let separators: Vec<usize> = memchr_iter(b'/', path).collect();
            let ignored = separators.iter().map(|at| &path[..*at]).find(|folder| {
                *known
                    .entry(folder.to_vec())
                    .or_insert_with(|| attributes.of(&[&prefix[..], folder].concat(), true).is_export_ignored())
            });
            if let Some(folder) = ignored {
                names.insert([folder, b"/"].concat());
                return false;
            }
            let is_left_out = attributes.of(&[&prefix[..], path].concat(), false).is_export_ignored();
            if is_left_out {
                names.insert(path.clone());
                folders.extend(separators.last().map(|at| path[..*at].to_vec()));
            }
            !is_left_out
        });
        let count = count - files.len();
        (count > 0).then(|| {
            let first: Vec<String> = names.iter().take(NAMES_SAID_MAX).map(|it| plain(it)).collect();
            let more = match names.len().saturating_sub(NAMES_SAID_MAX) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let files = if count == 1 { "file" } else { "files" };
            format!("left out {count} {files} marked export-ignore: {}{more}", first.join(", "))
        })
    }

    /// The files that are marked `export-subst`: path in what is deployed, and blob.
    pub(in crate::git) fn export_substs(&self) -> BTreeMap<&[u8], Oid> {
        if !self.attributes.has_export_subst {
            return BTreeMap::new();
        }
        let files = self.files.iter().filter_map(|it| Some((&it.path[..], it.now.filter(|it| it.kind.is_file())?.id)));
        let is_marked = |path: &[u8]| self.attributes.of(&[&self.prefix, path].concat(), false).is_export_subst();
        files.filter(|(path, _)| is_marked(path)).collect()
    }

    /// The repositories within: path in the tree, and commit.
    pub(in crate::git) fn submodules(&self) -> impl Iterator<Item = (Vec<u8>, Oid)> {
        let links = self.files.iter().filter_map(|it| it.now.map(|now| (&it.path, now)));
        let links = links.filter(|(_, now)| now.kind == tree::Kind::Submodule);
        links.map(|(path, now)| ([&self.prefix[..], path].concat(), now.id))
    }
}

/// A tree of the mirror by the commit it belongs to.
pub(in crate::git) fn tree_of<'a>(mirror: &'a LocalRepo, commit: Oid) -> Result<Tree<'a>, GitFailure> {
    let tree = mirror.repo.find_commit(commit).and_then(|it| it.tree());
    tree.map_err(cannot(format!("find commit {commit:.7} in the mirror")))
}
