//! Orders of git work, each carried out by a process of its own, as a keeper starts it.
//!
//! Invariant: an order says what a hook says that names nothing but its repository.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use landfall::{
    git::{self, Against, Fetch, Filter, Into, Order, Place, Scope, Stage},
    model::{
        deploy::{Clean, Depth, Dirty, Lfs, Submodules, UnknownFilters},
        job::{Asked, Target},
        push::{CommitId, RefName},
    },
    process::errand,
};

use crate::daemon::PROGRAM;

/// The order that brings a commit of a branch from its remote.
pub fn fetch(remote: &str, branch: &str, commit: &CommitId, into: Into, live: Option<&CommitId>) -> Order {
    let filter = Filter { paths: Vec::new(), skip_markers: vec!["[skip deploy]".into()] };
    let against = Against { live: live.cloned(), filter, ..Against::nothing(Asked::Push) };
    let target = Target::Commit { commit: commit.clone(), ref_name: Some(RefName::Branch(branch.into())) };
    let (Into::Mirror(place) | Into::WorkTree(place)) = &into;
    let mirrors = place.with_file_name("mirrors");
    let (remote, logins, scope, silence) = (remote.to_owned(), Vec::new(), scope(), git::SILENCE);
    Order::Fetch(Fetch { into, mirrors, remote, logins, target, scope, against, silence })
}

/// The order that writes it somewhere.
pub fn stage(remote: &str, commit: &CommitId, place: Place, live: Option<&CommitId>, folder: &Path) -> Order {
    let (commit, previous, changed_files) = (commit.clone(), live.cloned(), folder.join("changed"));
    Order::Stage(Stage { remote: remote.to_owned(), commit, place, scope: scope(), previous, changed_files })
}

/// A working tree on a branch.
pub fn in_place(path: PathBuf, branch: &str, folder: &Path) -> Place {
    let (ref_name, patch) = (Some(RefName::Branch(branch.into())), folder.join("patch"));
    Place::InPlace { path, ref_name, dirty: Dirty::Save, clean: Clean::None, patch }
}

/// Carries it out.
pub fn carry_out(order: &Order) -> Result<()> {
    let mut child = Command::new(PROGRAM);
    child.arg("git-work").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().context("git-work")?;
    child.stdin.take().context("a pipe")?.write_all(errand::encode(order).as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("git-work failed: {}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

/// What a hook wants that says nothing about it.
fn scope() -> Scope {
    Scope {
        submodules: Submodules::Off,
        lfs: Lfs::Fail,
        depth: Depth::Auto,
        tags: true,
        umask: 0o022,
        subdir: None,
        export_ignore: false,
        filters: UnknownFilters::Fail,
        spares_others: false,
    }
}
