//! The git program of this machine, for what git does best: serving a repository, taking in a pack, and tidying up.
//!
//! Invariant: it is started with no configuration but the repository's own, of which every key that names a program is
//! switched off, and with no variable of ours that could steer it.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use super::GitFailure;
use crate::process::environment;

/// Keys that name a program, or lead elsewhere. What a command line says counts more than a repository's own file.
const SWITCHED_OFF: [&str; 8] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.alternateRefsCommand=true",
    "core.pager=cat",
    "core.sshCommand=false",
    "core.askPass=false",
    "gc.autoDetach=false",
    "maintenance.auto=false",
];

/// A command that begins with git, if it is installed.
pub(super) fn command() -> Result<Command, GitFailure> {
    let mut command = Command::new(environment::program("git").ok_or_else(missing)?);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
        command.env_remove(name);
    }
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_NO_LAZY_FETCH", "1");
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C");
    command.args(SWITCHED_OFF.iter().flat_map(|it| ["-c", it])).current_dir("/").stdin(Stdio::null());
    Ok(command)
}

/// The same, working in this repository.
pub(super) fn command_in(git_dir: &Path) -> Result<Command, GitFailure> {
    let mut command = command()?;
    // That it is named outright settles whose it is.
    command.env("GIT_DIR", git_dir);
    // The configuration of a submodule names the folder of its files, which may not be there yet.
    command.env("GIT_WORK_TREE", git_dir);
    Ok(command)
}

/// Whether there is one.
pub(super) fn is_installed() -> bool {
    environment::program("git").is_some()
}

pub(super) fn missing() -> GitFailure {
    GitFailure::permanent(
        "the program `git` is not installed, and a remote on this machine needs it (on Debian: apt install git)",
    )
}
