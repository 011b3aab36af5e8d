//! Everything a letter may tell: the facts of one run, cleaned once, the same for every medium.
//!
//! Invariant: no text that others wrote is in a story but as a [`Line`] or a [`Link`].

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    model::{
        job::Trigger,
        letter::{Address, LetterId, Occasion},
        name::HookName,
        push::{CommitId, RepoName},
        run::{Outcome, RunId},
        source::Forge,
    },
    notify::foreign::{Line, Link},
};

/// The facts of one letter.
#[derive(Clone, Debug)]
pub struct Story {
    /// The letter; it gives the message its identity.
    pub letter: LetterId,
    /// To whom it goes.
    pub address: Address,
    /// What it is written for.
    pub occasion: Occasion,
    /// The run it tells of.
    pub run: RunId,
    /// How far that run has come.
    pub chapter: Chapter,
    /// The hook.
    pub hook: HookName,
    /// Its repository.
    pub repo: RepoName,
    /// Where that lives.
    pub forge: Forge,
    /// What people call the place it deploys to.
    pub environment: Line,
    /// Where that place can be looked at.
    pub url: Option<Link>,
    /// The working tree that the run changes, if there is one that outlives it.
    pub working_tree: Option<Line>,
    /// The commit, once known.
    pub commit: Option<Commit>,
    /// The branch or tag, if one is known.
    pub ref_name: Option<Line>,
    /// The last commit that went well before this run.
    pub previous: Option<CommitId>,
    /// A page that shows what is new.
    pub compare: Option<Link>,
    /// How many commits are new, as the forge counts.
    pub commit_count: Option<u64>,
    /// Who is behind it.
    pub actor: Line,
    /// Why there was a run at all.
    pub trigger: Trigger,
    /// Which try it was, and how many there may be.
    pub attempt: (u32, u32),
    /// Bad runs in a row, up to and including this one, or ended by it.
    pub streak: Option<Streak>,
    /// What the scripts reported about the run.
    pub fields: Vec<(Line, Line)>,
    /// The end of the log.
    pub log_tail: Vec<LogLine>,
    /// The run's own page.
    pub run_page: Option<Link>,
    /// What else this address is told of.
    pub told_of: Vec<Occasion>,
    /// What people call this Landfall: the host of its public address.
    pub server: Line,
}

/// How far a run has come.
#[derive(Clone, Debug)]
pub enum Chapter {
    /// It has only begun.
    Began {
        /// When.
        at: Timestamp,
    },
    /// It is over.
    Ended {
        /// When.
        at: Timestamp,
        /// How long it took, if it ever began.
        took: Option<Duration>,
        /// How.
        outcome: Outcome,
    },
}

/// A commit, as people know it.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Its id.
    pub id: CommitId,
    /// First line of its message, where known.
    pub subject: Option<Line>,
    /// Its author, where known.
    pub author: Option<Line>,
    /// Its page at the forge.
    pub page: Option<Link>,
}

/// Bad runs of a hook in a row.
#[derive(Clone, Debug)]
pub struct Streak {
    /// The first of them.
    pub first: RunId,
    /// When that ended.
    pub since: Timestamp,
    /// How many there were.
    pub failures: u32,
}

/// One line of a run's log.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// Its number in the whole log; the first is 1.
    pub number: u64,
    /// What it says.
    pub text: Line,
}

impl Story {
    /// What the run is about, in one word or two: the commit's short id, else the ref.
    pub fn subject_matter(&self) -> String {
        match (&self.commit, &self.ref_name) {
            (Some(commit), _) => commit.id.short().to_owned(),
            (None, Some(ref_name)) => ref_name.to_string(),
            (None, None) => "the default branch".to_owned(),
        }
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.chapter {
            Chapter::Began { .. } => None,
            Chapter::Ended { outcome, .. } => Some(outcome),
        }
    }
}

/// The page of a commit. The forge's address is taken from a page the forge itself named, else from the remote;
/// a remote on this machine has no pages.
pub fn commit_page(
    forge: Forge,
    repo: &RepoName,
    commit: &CommitId,
    compare: Option<&Link>,
    remote: Option<&str>,
) -> Option<Link> {
    let origin = match (compare, remote) {
        (Some(compare), _) => compare.origin().to_owned(),
        (None, Some(remote)) => web_origin(remote)?,
        (None, None) => forge.cloud().to_owned(),
    };
    let path = match forge {
        Forge::GitHub => "commit",
        Forge::GitLab => "-/commit",
    };
    Link::parse(&format!("{origin}/{repo}/{path}/{commit}"))
}

/// The web address of the host behind a remote: that of `https://host/...`, `ssh://git@host/...`, `git@host:...`.
fn web_origin(remote: &str) -> Option<String> {
    if remote.starts_with("https://") || remote.starts_with("http://") {
        // A user name before the host does not belong in a link.
        let link = Link::parse(remote).filter(|it| !it.origin().contains('@'))?;
        return Some(link.origin().to_owned());
    }
    let authority = match remote.strip_prefix("ssh://") {
        Some(rest) => rest.split('/').next()?,
        None if remote.starts_with('/') || remote.contains("://") => return None,
        None => remote.split_once(':')?.0,
    };
    let host = authority.rsplit('@').next()?.split(':').next()?;
    (!host.is_empty()).then(|| format!("https://{host}"))
}

#[cfg(test)]
mod tests {
    use super::{Forge, Link, RepoName, commit_page};
    use crate::model::push::CommitId;

    #[test]
    fn a_commit_page_is_at_the_forge_that_the_commit_came_from() {
        let repo = RepoName::parse("acme/sub/shop").expect("a name");
        let id = CommitId::parse(&"9f".repeat(20)).expect("an id");
        let page = |forge, compare: Option<&str>, remote| {
            let compare = compare.and_then(Link::parse);
            commit_page(forge, &repo, &id, compare.as_ref(), remote).map(|it| it.as_str().replace(id.as_str(), "ID"))
        };
        let compare = Some("https://git.acme.org:8443/acme/sub/shop/-/compare/1...2");
        let cases = [
            (compare, Some("/srv/git/shop.git"), Some("https://git.acme.org:8443/acme/sub/shop/-/commit/ID")),
            (None, Some("git@git.acme.org:acme/sub/shop.git"), Some("https://git.acme.org/acme/sub/shop/-/commit/ID")),
            (None, Some("ssh://git@git.acme.org:2222/x"), Some("https://git.acme.org/acme/sub/shop/-/commit/ID")),
            (None, Some("https://git.acme.org/x.git"), Some("https://git.acme.org/acme/sub/shop/-/commit/ID")),
            (None, Some("https://me:token@git.acme.org/x.git"), None),
            (None, Some("/srv/git/shop.git"), None),
            (None, Some("file:///srv/git/shop.git"), None),
            (None, None, Some("https://gitlab.com/acme/sub/shop/-/commit/ID")),
        ];
        for (compare, remote, expected) in cases {
            assert_eq!(page(Forge::GitLab, compare, remote).as_deref(), expected, "{compare:?} {remote:?}");
        }
        let github = page(Forge::GitHub, None, None);
        assert_eq!(github.as_deref(), Some("https://github.com/acme/sub/shop/commit/ID"));
    }
}
