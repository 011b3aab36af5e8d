//! What becomes of `$Format:...$` in files marked `export-subst`.
//!
//! Invariant: the same bytes as `git archive` writes, or the placeholders as they are stored, and then they are named.

use std::collections::{BTreeMap, BTreeSet};

use git2::{Oid, Repository};
use memchr::{memchr, memmem};

use super::{
    commit::CommitText,
    pretty::{Describing, Page},
};
use crate::git::{GitFailure, cannot, progress::plain};
use crate::model::push::RefName;

const HEAD: &[u8] = b"$Format:";

/// What the texts of one tree say of its commit.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::git) struct Substitution {
    commit: CommitText,
    now: i64,
    /// The files that have something to expand.
    files: BTreeSet<Vec<u8>>,
    /// The file that has the one `%(describe)` that git expands in an archive, and what it comes to.
    described: Option<(Vec<u8>, Vec<u8>)>,
    left_out: BTreeSet<Vec<u8>>,
}

impl Substitution {
    /// Looks through the files that are marked, in the order of their paths. None larger than `bytes_max` is read.
    pub(in crate::git) fn survey(
        repo: &Repository,
        commit: Oid,
        ref_name: Option<&RefName>,
        now: i64,
        texts: &BTreeMap<&[u8], Oid>,
        bytes_max: usize,
    ) -> Result<Self, GitFailure> {
        let commit = CommitText::read(repo, commit, ref_name)?;
        let odb = repo.odb().map_err(cannot("open the mirror's objects"))?;
        let (mut files, mut left_out, mut described) = (BTreeSet::new(), BTreeSet::new(), None);
        for (path, id) in texts {
            let what = || cannot::<git2::Error>(format!("read `{}` of the tree", plain(path)));
            if odb.read_header(*id).map_err(what())?.0 > bytes_max {
                // Whoever writes it says what to do about it.
                files.insert(path.to_vec());
                continue;
            }
            let content = odb.read(*id).map_err(what())?;
            if first_format(content.data()).is_none() {
                continue;
            }
            files.insert(path.to_vec());
            let describing = if described.is_some() { Describing::Spent } else { Describing::From(repo) };
            let mut page = Page::new(&commit, now, describing);
            fill(&mut page, content.data());
            if described.is_none() && page.has_described() {
                described = Some((path.to_vec(), page.described.take().unwrap_or_default()));
            }
            left_out.append(&mut page.left_out.into_iter().collect());
        }
        Ok(Self { commit, now, files, described, left_out })
    }

    /// Whether the file at a path has something to expand.
    pub(in crate::git) fn concerns(&self, path: &[u8]) -> bool {
        self.files.contains(path)
    }

    /// The file at a path, expanded.
    pub(in crate::git) fn expand(&self, path: &[u8], content: &[u8]) -> Vec<u8> {
        let described = self.described.as_ref().filter(|(file, _)| file == path);
        let describing = described.map_or(Describing::Spent, |(_, text)| Describing::Known(text));
        let mut page = Page::new(&self.commit, self.now, describing);
        fill(&mut page, content);
        page.into_text()
    }

    /// The placeholders that git would have expanded and we have not, as they are written.
    pub(in crate::git) fn left_out(&self) -> Vec<String> {
        self.left_out.iter().map(|it| plain(it)).collect()
    }
}

/// Copies a text to the page, and expands the formats in it.
fn fill(page: &mut Page<'_>, mut text: &[u8]) {
    while let Some((begin, end)) = first_format(text) {
        page.push(&text[..begin]);
        page.expand(&text[begin + HEAD.len()..end]);
        text = &text[end + 1..];
    }
    page.push(text);
}

/// Where the first format begins, and its last dollar.
fn first_format(text: &[u8]) -> Option<(usize, usize)> {
    let begin = memmem::find(text, HEAD)?;
    let inner = begin + HEAD.len();
    memchr(b'$', &text[inner..]).map(|it| (begin, inner + it))
}
