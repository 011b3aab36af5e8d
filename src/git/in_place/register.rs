//! That a submodule is registered in the repository around it, as `git submodule init` does it: without that
//! `git submodule foreach` passes it by.
//!
//! Invariant: what a person has set of it stays.

use std::path::Path;

use git2::Config;

use crate::git::{GitFailure, cannot, locks, remote, submodules::Within};

/// Registers it.
pub(in crate::git) fn register(outer_git_dir: &Path, within: &Within) -> Result<(), GitFailure> {
    // `git submodule` itself does not know of one whose name is no text.
    let Ok(name) = std::str::from_utf8(&within.name) else { return Ok(()) };
    let file = outer_git_dir.join("config");
    let what = || cannot::<git2::Error>(format!("register a submodule in `{}`", file.display()));
    let mut config = Config::open(&file).map_err(what())?;
    let (active, url) = (format!("submodule.{name}.active"), format!("submodule.{name}.url"));
    if config.get_entry(&url).is_ok() || config.get_bool(&active).is_ok_and(|it| !it) {
        return Ok(());
    }
    locks::wait_until_free(&outer_git_dir.join("config.lock"))?;
    if config.get_entry(&active).is_err() && config.get_entry("submodule.active").is_err() {
        config.set_bool(&active, true).map_err(what())?;
    }
    config.set_str(&url, &remote::parse(&within.remote)?.shown()).map_err(what())
}
