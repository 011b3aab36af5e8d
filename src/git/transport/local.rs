//! Fetching from a repository of this machine, by git's own `upload-pack`.
//!
//! Invariant: whoever owns the repository, nothing that its configuration names is started.

use std::{collections::VecDeque, io, path::Path, process::Command};

use git2::{
    Error,
    transport::{Service, SmartSubtransport, SmartSubtransportStream},
};

use super::{child_stream::ChildStream, journey::Journey, pack_stream::PackStream};
use crate::git::{
    GitFailure, git_program,
    remote::{self, Remote},
};

/// What libgit2 knows this transport by. It is no scheme that people write.
pub(in crate::git) const SCHEME: &str = "landfall-local";

/// One remote's connection.
pub(in crate::git) struct Local {
    journey: Journey,
}

impl Local {
    pub(in crate::git) fn new(journey: Journey) -> Self {
        Self { journey }
    }
}

impl SmartSubtransport for Local {
    fn action(&self, _url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, Error> {
        match service {
            // The second request goes through the stream of the first.
            Service::UploadPackLs | Service::UploadPack => {
                let stream = connect(&self.journey).inspect_err(|failure| self.journey.trouble.note(failure));
                let stream = stream.map_err(|failure| Error::from_str(&failure.reason))?;
                Ok(Box::new(PackStream::new(stream, &self.journey)))
            }
            Service::ReceivePackLs | Service::ReceivePack => Err(Error::from_str("nothing is ever pushed")),
        }
    }

    fn close(&self) -> Result<(), Error> {
        // The stream ends its program when libgit2 drops it.
        Ok(())
    }
}

fn connect(journey: &Journey) -> Result<ChildStream, GitFailure> {
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
