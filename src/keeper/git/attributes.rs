//! What the `.gitattributes` of a tree ask for, as far as it changes what is written.
//!
//! Invariant: attributes come from the tree that is written, never from a folder it is written to.

use git2::{AttrCheckFlags, Index, Oid, Repository, Tree};

use super::{
    GitFailure, cannot,
    progress::{plain, say},
    tree::{Change, Kind, as_path},
};

/// The name of such a file.
pub(super) const FILE_NAME: &[u8] = b".gitattributes";

/// The first line of every pointer (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

/// A pointer is small.
const LFS_POINTER_BYTES_MAX: usize = 1024;

/// What the `.gitattributes` files of a tree ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Some files differ from their blobs when they are written.
    pub(super) filters: bool,
    lfs: bool,
    encoding: bool,
}

impl Asked {
    /// Reads the given `.gitattributes` blobs. It is enough that a word stands there: what it applies to, libgit2
    /// finds out.
    pub(super) fn by(repo: &Repository, blobs: impl IntoIterator<Item = Oid>) -> Result<Self, GitFailure> {
        let mut asked = Self::default();
        for id in blobs {
            let blob = repo.find_blob(id).map_err(cannot("read a .gitattributes file of the tree"))?;
            for word in blob.content().split(u8::is_ascii_whitespace) {
                asked.filters |= matches!(word, b"eol=crlf" | b"ident" | b"crlf" | b"crlf=auto");
                asked.lfs |= word == b"filter=lfs";
                asked.encoding |= word.starts_with(b"working-tree-encoding=");
            }
        }
        if asked.encoding {
            say("warning: `working-tree-encoding` is left out: such files are written as they are stored");
        }
        Ok(asked)
    }

    /// Refuses a tree that is not complete without Git LFS.
    pub(super) fn refuse_lfs(self, repo: &Repository, tree: &Tree<'_>, written: &[Change]) -> Result<(), GitFailure> {
        if !self.lfs {
            return Ok(());
        }
        use_attributes_of(repo, tree)?;
        let odb = repo.odb().map_err(cannot("open the mirror's objects"))?;
        for change in written {
            let Some(entry) = change.now.filter(|it| matches!(it.kind, Kind::File | Kind::Executable)) else {
                continue;
            };
            let attribute = repo.get_attr_bytes(as_path(&change.path), "filter", AttrCheckFlags::INDEX_ONLY);
            if attribute.ok().flatten() != Some(b"lfs") {
                continue;
            }
            let what = || format!("read `{}` of the tree", plain(&change.path));
            let (size, _) = odb.read_header(entry.id).map_err(cannot(what()))?;
            if size <= LFS_POINTER_BYTES_MAX
                && odb.read(entry.id).map_err(cannot(what()))?.data().starts_with(LFS_POINTER)
            {
                let path = plain(&change.path);
                return Err(GitFailure::permanent(format!(
                    "the tree needs Git LFS, which this version does not fetch: `{path}` is only a pointer"
                )));
            }
        }
        Ok(())
    }
}

/// Makes libgit2 read attributes out of this tree: a bare repository has them from its index.
pub(super) fn use_attributes_of(repo: &Repository, tree: &Tree<'_>) -> Result<(), GitFailure> {
    let what = "read the tree's attributes";
    let mut index = Index::new().map_err(cannot(what))?;
    index.read_tree(tree).map_err(cannot(what))?;
    repo.set_index(&mut index).map_err(cannot(what))
}

/// Whether the path is one of a `.gitattributes` file.
pub(super) fn is_attributes(path: &[u8]) -> bool {
    path.rsplit(|it| *it == b'/').next() == Some(FILE_NAME)
}
