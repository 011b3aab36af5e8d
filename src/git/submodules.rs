//! Repositories within a repository: where they come from, and who may see our credentials.
//!
//! Invariant: what `.gitmodules` says is believed only as a place to fetch from, by the same ways as any remote; it
//! never makes us read a local folder for a remote one, nor show credentials to another host.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use git2::{Oid, Tree};
use sha2::{Digest, Sha256};

use super::{
    GitFailure, Scope, cannot, entries as tree,
    mirror::repository::LocalRepo,
    modules,
    progress::{plain, say},
    remote,
    tree::listing::{Listing, tree_of},
};
use crate::model::{deploy::Submodules, push::CommitId};

/// Deeper nesting is a trap.
const LEVELS_MAX: usize = 12;

/// So are more of them altogether: a few commits can stand for billions.
const REPOSITORIES_MAX: usize = 500;

/// Where an order is among those it led to.
#[derive(Clone, Copy)]
pub(super) struct Depth<'a> {
    /// How many levels are above.
    level: usize,
    /// How many repositories there are so far, on all levels.
    count: &'a Cell<usize>,
    /// Where it is in the outermost tree.
    pub(super) path: &'a [u8],
}

impl<'a> Depth<'a> {
    /// At the outermost one.
    pub(super) fn outermost(count: &'a Cell<usize>) -> Self {
        Self { level: 0, count, path: b"" }
    }

    /// Whether it is the outermost one.
    pub(super) fn is_outermost(self) -> bool {
        self.level == 0
    }

    /// One level further in, at this path of the outermost tree.
    pub(super) fn within(self, path: &'a [u8]) -> Result<Self, GitFailure> {
        self.count.set(self.count.get() + 1);
        if self.level == LEVELS_MAX {
            return Err(GitFailure::permanent(format!("there are submodules within submodules, {LEVELS_MAX} deep")));
        }
        if self.count.get() > REPOSITORIES_MAX {
            return Err(GitFailure::permanent(format!("there are more than {REPOSITORIES_MAX} submodules")));
        }
        Ok(Self { level: self.level + 1, path, ..self })
    }
}

/// A repository within another one.
#[derive(Debug)]
pub(super) struct Within {
    /// What `.gitmodules` calls it. It is a relative path, without `..`.
    pub(super) name: Vec<u8>,
    /// From the root of the outer tree.
    pub(super) path: Vec<u8>,
    pub(super) commit: Oid,
    pub(super) remote: String,
}

/// The repositories within a commit, as far as they are wanted.
pub(super) fn named_by(
    mirror: &LocalRepo,
    commit: &CommitId,
    subdir: Option<&Path>,
    remote: &str,
) -> Result<Vec<Within>, GitFailure> {
    let id = Oid::from_str(commit.as_str()).map_err(cannot("read the commit's id"))?;
    let tree = tree_of(mirror, id)?;
    let listing = Listing::of(mirror, &tree, subdir)?;
    resolve(mirror, &tree, listing.submodules().collect(), remote)
}

/// Finds out where the repositories within a tree come from.
pub(super) fn resolve(
    mirror: &LocalRepo,
    tree: &Tree<'_>,
    links: Vec<(Vec<u8>, Oid)>,
    outer: &str,
) -> Result<Vec<Within>, GitFailure> {
    if links.is_empty() {
        return Ok(Vec::new());
    }
    let file = tree::entry_at(tree, b".gitmodules").filter(|it| it.kind.is_file());
    let text = file.map(|it| tree::small_file(&mirror.repo, it.id, ".gitmodules")).transpose()?;
    let modules = modules::parse(&text.unwrap_or_default());
    let mut within = Vec::new();
    for (path, commit) in links {
        let refused = |why: &str| Err(failed(&path, GitFailure::permanent(why)));
        let Some(module) = modules.iter().find(|it| it.path == path) else {
            return refused("`.gitmodules` does not say where it comes from");
        };
        if module.is_left_out {
            say(&format!("submodule `{}` says `update = none`, and stays empty", plain(&path)));
            continue;
        }
        let is_bad = |it: &[u8]| matches!(it, b"" | b"." | b"..") || it.eq_ignore_ascii_case(b".git");
        if module.name.split(|it| matches!(it, b'/' | b'\\')).any(is_bad) {
            return refused("its name in `.gitmodules` leads out of the repository, or into git's own data");
        }
        let Ok(url) = std::str::from_utf8(&module.url) else { return refused("its URL is not UTF-8") };
        let remote = locate(outer, url).map_err(|failure| failed(&path, failure))?;
        within.push(Within { name: module.name.clone(), path, commit, remote });
    }
    Ok(within)
}

/// A failure that is about a repository within.
pub(super) fn failed(path: &[u8], failure: GitFailure) -> GitFailure {
    GitFailure { reason: format!("submodule `{}`: {}", plain(path), failure.reason), ..failure }
}

/// What is wanted of a repository within.
pub(super) fn scope_within(scope: &Scope) -> Scope {
    let submodules = match scope.submodules {
        Submodules::Recursive => Submodules::Recursive,
        Submodules::Off | Submodules::On => Submodules::Off,
    };
    Scope { submodules, subdir: None, ..scope.clone() }
}

/// The mirror of a remote, among those that have the outer one.
pub(super) fn mirror_beside(outer: &Path, remote: &str) -> PathBuf {
    outer.with_file_name(format!("{}.git", hex::encode(Sha256::digest(remote.as_bytes()))))
}

/// The remote that a URL of `.gitmodules` stands for; a relative one begins at the outer remote.
fn locate(outer: &str, url: &str) -> Result<String, GitFailure> {
    let remote = match url.starts_with("./") || url.starts_with("../") {
        true => relative(outer, url).ok_or_else(|| {
            GitFailure::permanent(format!("its URL `{}` leads out of the remote's host", plain(url.as_bytes())))
        })?,
        false => url.to_owned(),
    };
    let (there, here) = (remote::parse(&remote)?, remote::parse(outer)?);
    if there.is_local() && !here.is_local() {
        return Err(GitFailure::permanent("its URL is a local path, and the repository it is in is not local"));
    }
    if remote.split(['/', ':']).any(|it| it == "..") {
        return Err(GitFailure::permanent("its URL has `..` in its path"));
    }
    Ok(remote)
}

/// As `git submodule` resolves it.
fn relative(outer: &str, url: &str) -> Option<String> {
    let mut base = outer.trim_end_matches('/');
    // Nothing is cut off that names the host.
    let host_end = base.find("://").map(|it| it + 3);
    let host_end = host_end.and_then(|start| base[start..].find('/').map(|it| start + it)).unwrap_or(0);
    if base.contains("://") && host_end == 0 {
        return None;
    }
    let (mut rest, mut separator) = (url, '/');
    loop {
        if let Some(tail) = rest.strip_prefix("./") {
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix("../") {
            rest = tail;
            let cut = base.rfind('/').filter(|it| *it >= host_end && separator == '/');
            let colon = || base.rfind(':').filter(|_| host_end == 0 && separator == '/');
            (base, separator) = match cut {
                Some(at) => (&base[..at], '/'),
                None => (&base[..colon()?], ':'),
            };
        } else {
            break;
        }
    }
    (!rest.is_empty()).then(|| format!("{base}{separator}{}", rest.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::locate;

    #[test]
    fn a_relative_url_begins_at_the_remote() {
        for (outer, url, expected) in [
            ("https://example.org/acme/site.git", "../lib.git", "https://example.org/acme/lib.git"),
            ("https://example.org/acme/site.git/", "./x/lib", "https://example.org/acme/site.git/x/lib"),
            ("https://example.org/acme/site", "../../other/lib/", "https://example.org/other/lib"),
            ("git@example.org:acme/site.git", "../lib.git", "git@example.org:acme/lib.git"),
            ("git@example.org:site.git", "../lib.git", "git@example.org:lib.git"),
            ("ssh://git@example.org:22/acme/site", "../lib", "ssh://git@example.org:22/acme/lib"),
            ("/srv/git/site.git", "../lib.git", "/srv/git/lib.git"),
            ("https://example.org/site", "git@example.com:a/b", "git@example.com:a/b"),
        ] {
            assert_eq!(locate(outer, url).expect(url), expected);
        }
    }

    #[test]
    fn hostile_urls_are_refused() {
        let site = "https://example.org/acme/site.git";
        for url in [
            "ext::sh -c touch /tmp/x",
            "-oProxyCommand=x:y",
            "--upload-pack=touch x",
            "ssh://-oProxyCommand=x/y",
            "file:///etc",
            "/etc",
            "git://example.org/x",
            "../../../../x",
            "../x/../../../y",
            "git@example.org:../../x",
            "https://example.org/a\nb",
            "",
            "..",
            "../",
        ] {
            assert!(locate(site, url).is_err(), "{url}");
        }
        assert!(locate("git@example.org:site", "../../x").is_err());
        assert!(locate("https://example.org", "../x").is_err());
    }
}
