//! The remote of an order, and the folder of one that is on this machine.
//!
//! Invariant: a remote that cannot be taken apart is never shown in full, as its user part may be a token.

use std::path::{Path, PathBuf};

use super::{GitFailure, progress::plain};
pub(super) use crate::model::remote::Remote;

/// Takes a remote apart.
pub(super) fn parse(text: &str) -> Result<Remote, GitFailure> {
    Remote::parse(text).map_err(|why| {
        let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
        GitFailure::permanent(format!("cannot fetch from remote `{}`: {why}", plain(shown.as_bytes())))
    })
}

/// The folder of a local remote. Git itself also finds `/srv/site.git` when it is asked for `/srv/site`.
pub(super) fn folder(path: &Path) -> PathBuf {
    if !path.exists() {
        let with_suffix = {
            let mut name = path.as_os_str().to_owned();
            name.push(".git");
            PathBuf::from(name)
        };
        if with_suffix.exists() {
            return with_suffix;
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_refusal_shows_no_credentials() {
        let failure = parse("https://ana:hunter2@example.org/x?y").expect_err("query");
        assert!(!failure.reason.contains("hunter2"), "{}", failure.reason);
    }
}
