//! Where the files of a remote's Git LFS come from.
//!
//! Invariant: the hook's credentials are shown to the remote's own host alone.

use std::{collections::BTreeMap, io::Read, path::PathBuf};

use reqwest::Url;
use serde::Deserialize;

use super::stranger::Guide;
use crate::git::{
    GitFailure,
    progress::say,
    remote::{self, Remote},
    shell::quoted,
    transport::{https, journey::Journey, ssh},
};

/// What a server says of itself over ssh is short.
const WORDS_MAX: u64 = 64 << 10;

/// Where files come from.
pub(super) enum Source {
    /// The store of a repository on this machine.
    Folder(PathBuf),
    /// A server that speaks the batch API.
    Server(Server),
}

/// A server that speaks the batch API.
pub(super) struct Server {
    pub(super) guide: Guide,
    /// The batch API is below it.
    pub(super) base: Url,
    /// Header lines that the server itself wants to see again.
    pub(super) headers: BTreeMap<String, String>,
    /// User name and password, for the host of `base`.
    pub(super) login: Option<(String, String)>,
}

/// Finds it out, as git-lfs does (<https://github.com/git-lfs/git-lfs/blob/main/docs/api/server-discovery.md>).
///
/// `configured` is what the tree's `.lfsconfig` says; only a web address is believed.
pub(super) fn find(journey: &Journey, configured: Option<&str>) -> Result<Source, GitFailure> {
    match configured.map(Remote::parse) {
        Some(Ok(Remote::Http { url, .. })) => return named_by_the_tree(journey, url),
        Some(Ok(Remote::Ssh { .. } | Remote::Local(_)) | Err(_)) => {
            say("warning: `lfs.url` in `.lfsconfig` is no web address, and left out");
        }
        None => (),
    }
    match &journey.remote {
        Remote::Local(path) => {
            let folder = remote::folder(path);
            let git = folder.join(".git");
            let git = if git.is_dir() { git } else { folder };
            Ok(Source::Folder(git.join("lfs/objects")))
        }
        Remote::Http { url, .. } => {
            let mut base = url.clone();
            let path = base.path().trim_end_matches('/').to_owned();
            let suffix = if path.ends_with(".git") { "/info/lfs" } else { ".git/info/lfs" };
            base.set_path(&format!("{path}{suffix}"));
            let login = https::login(journey);
            Ok(Source::Server(Server { guide: Guide::of_host(journey)?, base, headers: BTreeMap::new(), login }))
        }
        Remote::Ssh { path, .. } => authenticate(journey, path),
    }
}

/// A server that the tree names. Only the remote's own host sees our login; where another one may be is bounded.
fn named_by_the_tree(journey: &Journey, base: Url) -> Result<Source, GitFailure> {
    let is_ours = matches!(&journey.remote, Remote::Http { url, .. } if url.origin() == base.origin());
    say(&format!("`.lfsconfig` says that the files are at {}", https::shown(&base)));
    let (guide, login) = match is_ours {
        true => (Guide::of_host(journey)?, https::login(journey)),
        false => (Guide::of_stranger(journey)?, None),
    };
    Ok(Source::Server(Server { guide, base, headers: BTreeMap::new(), login }))
}

#[derive(Deserialize)]
struct FileAuthentication {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, String>,
}

/// Asks over ssh where the server is and what it wants to see.
fn authenticate(journey: &Journey, path: &str) -> Result<Source, GitFailure> {
    let shown = journey.remote.shown();
    let mut words = Vec::new();
    let answer = ssh::ask(journey, &format!("git-lfs-authenticate {} download", quoted(path)));
    let read = answer.and_then(|answer| {
        answer.take(WORDS_MAX).read_to_end(&mut words).map_err(|err| GitFailure::fetch(err.to_string()))
    });
    if let Some(failure) = journey.trouble.take().or_else(|| read.err()) {
        let has_none = failure.reason.contains("git-lfs-authenticate");
        return Err(match has_none {
            true => GitFailure::permanent(format!(
                "`{shown}` has no Git LFS over ssh: make the remote an https one, or set `deploy.lfs` to `ignore`"
            )),
            false => failure,
        });
    }
    let answer: FileAuthentication = serde_json::from_slice(&words)
        .map_err(|err| GitFailure::permanent(format!("`{shown}` does not answer as Git LFS does: {err}")))?;
    let base = Url::parse(&answer.href).ok().filter(|it| matches!(it.scheme(), "https" | "http"));
    let base = base.ok_or_else(|| GitFailure::permanent(format!("`{shown}` keeps its Git LFS at no web address")))?;
    Ok(Source::Server(Server { guide: Guide::of_host(journey)?, base, headers: answer.header, login: None }))
}
