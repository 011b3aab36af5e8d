//! Releases: complete trees beside one another, of which one is live.
//!
//! Invariant: a release's name is one plain part of a path, so it never leads out of `releases/`.

use std::fmt;

use crate::model::{push::CommitId, run::RunId, word::words};

/// The name of a release: when it was made, by which run, of which commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseName(String);

impl ReleaseName {
    /// The name of what this run makes; `stamp` is the time, in digits that sort. Without a commit it was adopted.
    pub fn of(stamp: &str, run: RunId, commit: Option<&CommitId>) -> Option<Self> {
        Self::parse(&format!("{stamp}-r{run}-{}", commit.map_or("adopted", CommitId::short)))
    }

    /// The name, if it can be one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |it: u8| it.is_ascii_alphanumeric() || b"._-".contains(&it);
        let is_name = (1..=100).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(is_plain);
        is_name.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReleaseName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

words! {
    /// What is known of a release.
    Verdict {
        /// It is complete and has never been live.
        Ready = "ready",
        /// It went live, and nobody has found it good or bad yet.
        Live = "live",
        /// It was live, and everything that was asked of it went well. Only such a release is gone back to.
        Good = "good",
        /// It was live and did not come up.
        Bad = "bad",
    }
}

#[cfg(test)]
mod tests {
    use super::ReleaseName;
    use crate::model::{push::CommitId, run::RunId};

    #[test]
    fn a_name_says_when_by_which_run_and_of_which_commit() {
        let commit = CommitId::parse(&"9f1c2ab0".repeat(5)).expect("a commit");
        let name = ReleaseName::of("20261123T081642Z", RunId(1842), Some(&commit)).expect("a name");
        assert_eq!(name.as_str(), "20261123T081642Z-r1842-9f1c2ab");
        assert_eq!(ReleaseName::parse(name.as_str()), Some(name));
    }

    #[test]
    fn a_name_never_leads_anywhere_else() {
        for text in ["", ".", "..", ".staging-r7", "a/b", "/etc", "a\nb", "a b", "\u{2026}"] {
            assert_eq!(ReleaseName::parse(text), None, "{text:?}");
        }
    }
}
