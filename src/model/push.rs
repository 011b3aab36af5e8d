//! A push: the fact that a ref of a repository now points at a commit, or is gone.
//!
//! Invariant: ids, refs and repository names of these types are well formed, whoever sent them.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use crate::model::source::Forge;

/// The id of a git object: 40 (SHA-1) or 64 (SHA-256) lower-case hex digits, not all zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommitId(String);

impl CommitId {
    /// The id, if `text` is one. Upper-case digits are folded.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = matches!(text.len(), 40 | 64) && text.bytes().all(|it| it.is_ascii_hexdigit());
        let is_null = text.bytes().all(|it| it == b'0');
        (is_hex && !is_null).then(|| Self(text.to_ascii_lowercase()))
    }

    /// All digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first seven digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..7]
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// `owner/name`, or with GitLab's subgroups `group/subgroup/name`. Equality ignores case, as forges do.
#[derive(Clone, Debug)]
pub struct RepoName(String);

impl RepoName {
    /// The name, if `text` is two or more plain components. A repository may be called `-x`, but no owner is.
    pub fn parse(text: &str) -> Option<Self> {
        let is_component = |part: &str| {
            !part.is_empty()
                && !matches!(part, "." | "..")
                && part.chars().all(|it| it.is_alphanumeric() || matches!(it, '.' | '_' | '-' | '+' | '~'))
        };
        let is_repo =
            text.len() <= 512 && text.contains('/') && !text.starts_with('-') && text.split('/').all(is_component);
        is_repo.then(|| Self(text.to_owned()))
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for RepoName {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_lowercase() == other.0.to_lowercase()
    }
}

impl Eq for RepoName {}

impl Hash for RepoName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_lowercase().hash(state);
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A branch or a tag, by its short name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RefName {
    /// `refs/heads/<name>`.
    Branch(String),
    /// `refs/tags/<name>`.
    Tag(String),
}

impl RefName {
    /// The branch or tag of a full ref name. `None`: not a legal name, or neither branch nor tag.
    pub fn parse(full: &str) -> Option<Self> {
        if let Some(name) = full.strip_prefix("refs/heads/") {
            is_ref_name(name).then(|| Self::Branch(name.to_owned()))
        } else if let Some(name) = full.strip_prefix("refs/tags/") {
            is_ref_name(name).then(|| Self::Tag(name.to_owned()))
        } else {
            None
        }
    }

    /// `refs/heads/...` or `refs/tags/...`.
    pub fn full(&self) -> String {
        match self {
            Self::Branch(name) => format!("refs/heads/{name}"),
            Self::Tag(name) => format!("refs/tags/{name}"),
        }
    }

    /// The name without its prefix.
    pub fn short(&self) -> &str {
        match self {
            Self::Branch(name) | Self::Tag(name) => name,
        }
    }
}

/// Whether git would take the name, after the rules of `git check-ref-format`.
pub fn is_ref_name(name: &str) -> bool {
    let component_is_fine = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let character_is_fine = |it: char| !it.is_ascii_control() && !" ~^:?*[\\".contains(it);
    name.len() <= 1024
        && name != "@"
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && name.split('/').all(component_is_fine)
        && name.chars().all(character_is_fine)
}

/// What happened to the ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefChange {
    /// It points at this commit now. (For an annotated tag: the commit, where the forge names it, else the tag.)
    Moved(CommitId),
    /// It is gone, so there is nothing to deploy.
    Deleted,
}

/// The commit a person thinks of when they read "this push".
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CommitFacts {
    /// First line of the message.
    pub subject: String,
    /// Name of the author.
    pub author: String,
    /// Address of the author; forges may leave it out.
    pub author_email: String,
}

/// What a forge says happened. Whoever holds one need not have checked it; see `forge::VerifiedPush`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Who says so.
    pub forge: Forge,
    /// In which repository.
    pub repo: RepoName,
    /// Its default branch, where the forge names it.
    pub default_branch: Option<String>,
    /// Which branch or tag.
    pub ref_name: RefName,
    /// What happened to it.
    pub change: RefChange,
    /// Where it pointed before; `None` for a new one.
    pub before: Option<CommitId>,
    /// Who pushed, as the forge calls them.
    pub actor: String,
    /// A page that shows the difference.
    pub compare_url: Option<String>,
    /// How many commits came with it, as the forge counts.
    pub commit_count: Option<u64>,
    /// The newest of them, where the forge describes it.
    pub head: Option<CommitFacts>,
}

impl Push {
    /// Where the ref points now; `None`: it is gone.
    pub fn commit(&self) -> Option<&CommitId> {
        match &self.change {
            RefChange::Moved(commit) => Some(commit),
            RefChange::Deleted => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CommitId, RefName, RepoName};

    #[test]
    fn a_commit_id_is_40_or_64_hex_digits_and_not_null() {
        assert!(CommitId::parse(&"a1".repeat(20)).is_some());
        assert!(CommitId::parse(&"a1".repeat(32)).is_some());
        assert_eq!(CommitId::parse(&"AB".repeat(20)).expect("hex").as_str(), "ab".repeat(20));
        for bad in ["", "abc", &"0".repeat(40), &"g".repeat(40), &"a".repeat(41)] {
            assert!(CommitId::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn repository_names_compare_without_case() {
        assert_eq!(RepoName::parse("Acme/Site"), RepoName::parse("acme/site"));
        for good in ["group/sub/name", "a/-b", "a/-", "a/--x"] {
            assert!(RepoName::parse(good).is_some(), "{good}");
        }
        for bad in ["", "acme", "/acme", "acme/", "a//b", "../x", "a/..", "-a/b", "a/b c"] {
            assert!(RepoName::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn refs_obey_gits_rules() {
        assert_eq!(RefName::parse("refs/heads/release/1.2"), Some(RefName::Branch("release/1.2".into())));
        assert_eq!(RefName::parse("refs/tags/v1"), Some(RefName::Tag("v1".into())));
        let bad = ["refs/heads/", "refs/heads/a..b", "refs/heads/.a", "refs/heads/a.lock", "refs/heads/a b"];
        for bad in bad.into_iter().chain(["refs/heads/a~1", "refs/heads/@", "refs/heads/a//b", "main", "refs/x/y"]) {
            assert_eq!(RefName::parse(bad), None, "{bad}");
        }
    }
}
