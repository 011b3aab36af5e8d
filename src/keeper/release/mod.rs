//! Work on the folder of a hook's releases: trees get their place, one goes live, old ones go.
//!
//! Like git work it is done by a child of the keeper, as the hook's user, one order per process. Every order finds its
//! way from whatever an earlier one, killed at any instruction, has left.
//!
//! Invariant: a name in `releases/` that does not begin with a dot is a complete tree, and `current` changes in one
//! step or not at all.

mod order;

mod look;

mod furnish;
mod shared;

mod seal;

mod switch;

mod adopt;

mod in_use;
mod tidy;

#[cfg(test)]
mod tests;

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use rustix::{fs::Mode, process::umask};
use thiserror::Error;

pub use self::{
    in_use::in_use,
    order::{decode_answer, encode_errand},
};
use crate::{
    journal::{
        Unreadable,
        releases::{History, Release},
        site::Site,
    },
    model::{
        deploy::SharedPath,
        name::HookName,
        push::CommitId,
        release::{ReleaseName, Verdict},
        run::{FailureClass, RunId},
    },
};

/// The hidden subcommand: reads one errand from standard input, does it, and writes one answer to standard output.
/// What people should read goes to standard error, line by line.
pub fn serve() -> ExitCode {
    umask(Mode::from_raw_mode(0o022));
    let mut text = String::new();
    let read = io::stdin().read_to_string(&mut text).map_err(cannot("read the errand"));
    let answer = read.and_then(|_| order::decode_errand(&text)).and_then(|errand| run(&errand));
    let mut out = io::stdout();
    match out.write_all(order::encode_answer(&answer).as_bytes()).and_then(|()| out.flush()) {
        Ok(()) if answer.is_ok() => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

/// What a child is to do, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// The folder of the releases.
    pub root: PathBuf,
    /// What is to be done in it.
    pub order: Order,
}

/// What a child is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Look whether a run can begin, and what is live. Changes nothing.
    Look {
        /// The hook, as people call it.
        hook: HookName,
        /// What must be in `shared/` already.
        shared: Vec<SharedPath>,
        /// The release that is to be gone back to.
        wanted: Option<ReleaseName>,
    },
    /// Make the folders that a new tree needs, and room for it.
    Prepare {
        /// Whose tree it is to be.
        run: RunId,
    },
    /// Link what is shared into the tree in the making, and write its REVISION.
    Furnish {
        /// Whose tree it is.
        run: RunId,
        /// Its commit.
        commit: CommitId,
        /// What is linked.
        shared: Vec<SharedPath>,
    },
    /// Give the tree its final name.
    Seal {
        /// What is known of it.
        release: Release,
    },
    /// Let `current` point elsewhere.
    Switch {
        /// By which run.
        run: RunId,
        /// The text of the link.
        link: PathBuf,
    },
    /// Write down what is known of a release by now.
    Judge {
        /// Which.
        name: ReleaseName,
        /// What is known of it.
        verdict: Verdict,
        /// Why; a sentence.
        note: Option<String>,
    },
    /// Make a release of the folder that stands at `current`.
    Adopt {
        /// What it is to be known as.
        release: Release,
    },
    /// Put away what is not kept.
    Tidy {
        /// By which run.
        run: RunId,
        /// How many good ones are kept.
        good: usize,
        /// How many broken ones are kept.
        failed: usize,
        /// What is kept in any case, besides what is live.
        spared: Vec<ReleaseName>,
    },
}

/// What became of an errand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// This was seen.
    Looked(Looked),
    /// The folder is now this release.
    Adopted(Release),
    /// As much of it is done as could be; sentences about the rest.
    Tidied(Vec<String>),
}

/// What a look gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// The text of `current`, if it leads to a folder.
    pub link: Option<PathBuf>,
    /// What is known of the release that is live.
    pub live: Option<Release>,
    /// What is known of the release that is to be gone back to.
    pub wanted: Option<Release>,
}

/// Why an errand failed, and whether trying again may help.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Trouble {
    /// Whether trying again may help.
    pub class: FailureClass,
    /// One sentence for people, without a full stop.
    pub reason: String,
}

impl Trouble {
    fn permanent(reason: impl Into<String>) -> Self {
        Self { class: FailureClass::Permanent, reason: reason.into() }
    }

    fn other(reason: impl Into<String>) -> Self {
        Self { class: FailureClass::Other, reason: reason.into() }
    }
}

impl From<Unreadable> for Trouble {
    fn from(err: Unreadable) -> Self {
        Self::permanent(err.to_string())
    }
}

/// `.map_err(cannot("make a folder"))`.
fn cannot<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Trouble {
    let what = what.into();
    move |err| Trouble::other(format!("cannot {what}: {}", err.into()))
}

/// Does an errand.
fn run(errand: &Errand) -> Result<Answer, Trouble> {
    let site = Site::at(&errand.root);
    match &errand.order {
        Order::Look { hook, shared, wanted } => look::look(&site, hook, shared, wanted.as_ref()).map(Answer::Looked),
        Order::Prepare { run } => prepare(&site).and_then(|()| make_room(&site, *run)).map(|()| Answer::Done),
        Order::Furnish { run, commit, shared } => furnish::furnish(&site, *run, commit, shared).map(|()| Answer::Done),
        Order::Seal { release } => seal::seal(&site, release).map(|()| Answer::Done),
        Order::Switch { run, link } => switch::switch(&site, *run, link).map(|()| Answer::Done),
        Order::Judge { name, verdict, note } => judge(&site, name, *verdict, note.clone()).map(|()| Answer::Done),
        Order::Adopt { release } => adopt::adopt(&site, release).map(Answer::Adopted),
        Order::Tidy { run, good, failed, spared } => {
            Ok(Answer::Tidied(tidy::tidy(&site, *run, (*good, *failed), spared)))
        }
    }
}

/// The folders that a new tree needs.
fn prepare(site: &Site) -> Result<(), Trouble> {
    for folder in [site.root().to_owned(), site.releases(), site.shared(), site.own()] {
        make_folder(&folder)?;
    }
    Ok(())
}

/// A tree of that run's number may be there where the state folder was lost, and numbers began anew.
fn make_room(site: &Site, run: RunId) -> Result<(), Trouble> {
    let staging = site.staging(run);
    if fs::symlink_metadata(&staging).is_ok() { tidy::set_aside(site, &staging, run) } else { Ok(()) }
}

/// Writes down what is known of a release by now.
fn judge(site: &Site, name: &ReleaseName, verdict: Verdict, note: Option<String>) -> Result<(), Trouble> {
    let mut history = History::read(site)?;
    let Some(release) = history.releases.iter_mut().find(|it| it.name == *name) else {
        return Err(Trouble::other(format!("release {name} is not on record")));
    };
    (release.verdict, release.note) = (verdict, note);
    write_down(&mut history)
}

fn write_down(history: &mut History) -> Result<(), Trouble> {
    history.write().map_err(cannot("write down what is known of the releases"))
}

/// A folder that is there afterwards.
fn make_folder(folder: &Path) -> Result<(), Trouble> {
    match DirBuilder::new().mode(0o755).create(folder) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
            Err(cannot(format!("make `{}`", folder.display()))(err))
        }
        Ok(()) | Err(_) if fs::metadata(folder).is_ok_and(|it| it.is_dir()) => Ok(()),
        Ok(()) | Err(_) => Err(Trouble::permanent(format!("`{}` is not a folder", folder.display()))),
    }
}

/// The names in a folder are on the disk when this returns.
fn sync_folder(folder: &Path) -> Result<(), Trouble> {
    let synced = File::open(folder).and_then(|it| it.sync_all());
    synced.map_err(cannot(format!("flush `{}`", folder.display())))
}

/// Writes one line for people. That nobody reads it is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{}", line.replace(char::is_control, " "));
}
