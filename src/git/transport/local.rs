//! Fetching from a repository of this machine, by git's own `upload-pack`.
//!
//! Invariant: whoever owns the repository, nothing that its configuration names is started.

use std::{collections::VecDeque, io, path::Path, process::Command};

use super::{child_stream::ChildStream, journey::Journey};
use crate::git::{
    GitFailure, git_program,
    remote::{self, Remote},
};

/// What libgit2 knows this transport by. It is no scheme that people write.
pub(in crate::git) const SCHEME: &str = "landfall-local";

/// Starts what speaks for the remote of a journey.
pub(in crate::git) fn connect(journey: &Journey) -> Result<ChildStream, GitFailure> {
    let Remote::Local(path) = &journey.remote else {
        return Err(GitFailure::other("this remote is not a folder"));
    };
    let folder = remote::folder(path);
    if !folder.exists() {
        return Err(absent(path, "there is no such folder"));
    }
    let mut command = git_program::command()?;
    serve_anything(&mut command);
    command.args(["upload-pack", "--timeout=0"]).arg(folder);
    ChildStream::start(command, "git", journey, meaning).map_err(|err| match err.kind() {
        io::ErrorKind::NotFound => git_program::missing(),
        _ => GitFailure::other(format!("cannot start git: {err}")),
    })
}

/// A repository of somebody else is an ordinary thing to deploy from: what `safe.directory` guards against, programs that
/// its configuration names, is switched off. Every commit that it has may be asked for.
fn serve_anything(command: &mut Command) {
    command.args(["-c", "safe.directory=*", "-c", "uploadpack.allowAnySHA1InWant=true"]);
}

fn absent(path: &Path, why: &str) -> GitFailure {
    GitFailure::permanent(format!("there is no git repository we can read at `{}`: {why}", path.display()))
}

/// What its last lines mean for people.
fn meaning(words: &VecDeque<String>, journey: &Journey) -> GitFailure {
    let shown = journey.remote.shown();
    let last = words.back().cloned().unwrap_or_else(|| "git said nothing".to_owned());
    let said = |what: &str| words.iter().any(|line| line.to_ascii_lowercase().contains(what));
    if said("not appear to be a git repository") || said("not a git repository") || said("permission denied") {
        return absent(Path::new(&shown), &last);
    }
    match said("not our ref") {
        true => GitFailure::permanent(format!("`{shown}` does not have it: {last}")),
        false => GitFailure::fetch(format!("git in `{shown}` ended: {last}")),
    }
}
