//! Work on the folder of a hook's releases: trees get their place, one goes live, old ones go.
//!
//! Like git work it is done by a child of the keeper, as the hook's user, one order per process. Every order finds its
//! way from whatever an earlier one, killed at any instruction, has left.
//!
//! Invariant: a name in `releases/` that does not begin with a dot is a complete tree, and `current` changes in one
//! step or not at all.

mod form;

mod held;
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
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use rustix::{fs::Mode, process::umask};
use serde::{Deserialize, Serialize};

use self::held::HeldSite;
pub use self::in_use::in_use;
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
        run::RunId,
    },
    process::{
        beneath::Folder,
        errand::{self, ErrandFailure},
        text_form,
    },
};

/// The hidden subcommand: carries out one [`Errand`].
pub fn serve() -> ExitCode {
    errand::serve(|errand: Errand| {
        umask(Mode::from_raw_mode(errand.umask));
        run(&errand)
    })
}

/// What a child is to do, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// The folder of the releases.
    pub root: PathBuf,
    /// What the files and folders that are made do without.
    pub umask: u32,
    /// What is to be done in it.
    pub order: Order,
}

/// What a child is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Look whether a run can begin, and what is live. Changes nothing.
    Look {
        /// The hook, as people call it.
        #[serde(with = "text_form")]
        hook: HookName,
        /// What must be in `shared/` already.
        #[serde(with = "form::shared")]
        shared: Vec<SharedPath>,
        /// The release that is to be gone back to.
        #[serde(with = "text_form")]
        wanted: Option<ReleaseName>,
    },
    /// Make the folders that a new tree needs, and room for it.
    Prepare {
        /// Whose tree it is to be.
        #[serde(with = "text_form")]
        run: RunId,
    },
    /// Link what is shared into the tree in the making, and write its REVISION.
    Furnish {
        /// Whose tree it is.
        #[serde(with = "text_form")]
        run: RunId,
        /// Its commit.
        #[serde(with = "text_form")]
        commit: CommitId,
        /// What is linked.
        #[serde(with = "form::shared")]
        shared: Vec<SharedPath>,
    },
    /// Give the tree its final name.
    Seal {
        /// What is known of it.
        #[serde(with = "form::record")]
        release: Release,
    },
    /// Let `current` point elsewhere.
    Switch {
        /// By which run.
        #[serde(with = "text_form")]
        run: RunId,
        /// The text of the link.
        link: PathBuf,
    },
    /// Write down what is known of a release by now.
    Judge {
        /// Which.
        #[serde(with = "text_form")]
        name: ReleaseName,
        /// What is known of it.
        #[serde(with = "text_form")]
        verdict: Verdict,
        /// Why; a sentence.
        note: Option<String>,
    },
    /// Make a release of the folder that stands at `current`.
    Adopt {
        /// What it is to be known as.
        #[serde(with = "form::record")]
        release: Release,
    },
    /// Put away what is not kept.
    Tidy {
        /// By which run.
        #[serde(with = "text_form")]
        run: RunId,
        /// How many good ones are kept.
        good: usize,
        /// How many broken ones are kept.
        failed: usize,
        /// What is kept in any case, besides what is live.
        #[serde(with = "form::names")]
        spared: Vec<ReleaseName>,
    },
}

/// What became of an errand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// This was seen.
    Looked(Box<Looked>),
    /// The folder is now this release.
    Adopted(#[serde(with = "form::record")] Release),
    /// As much of it is done as could be; sentences about the rest.
    Tidied(Vec<String>),
}

/// What a look gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// The text of `current`, if it leads to a folder.
    pub link: Option<PathBuf>,
    /// What is known of the release that is live.
    #[serde(with = "form::perhaps_record")]
    pub live: Option<Release>,
    /// What is known of the release that is to be gone back to.
    #[serde(with = "form::perhaps_record")]
    pub wanted: Option<Release>,
}

/// What is written down cannot be read, and no other try changes that.
impl From<Unreadable> for ErrandFailure {
    fn from(err: Unreadable) -> Self {
        Self::permanent(err.to_string())
    }
}

/// `.map_err(cannot("make a folder"))`.
fn cannot<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> ErrandFailure {
    let what = what.into();
    move |err| ErrandFailure::other(format!("cannot {what}: {}", err.into()))
}

/// Does an errand.
fn run(errand: &Errand) -> Result<Answer, ErrandFailure> {
    let site = Site::at(&errand.root);
    match &errand.order {
        Order::Look { hook, shared, wanted } => {
            look::look(&site, hook, shared, wanted.as_ref()).map(|it| Answer::Looked(Box::new(it)))
        }
        Order::Prepare { run } => prepare(&site, *run).map(|()| Answer::Done),
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

/// The folders that a new tree needs, and room for it: one of that run's number may be there where the state folder was
/// lost, and numbers began anew.
fn prepare(site: &Site, run: RunId) -> Result<(), ErrandFailure> {
    let held = HeldSite::make(site)?;
    let releases = held.releases()?;
    let staging = site.staging(run);
    match releases.stat_of(name_of(&staging)) {
        Ok(_) => tidy::set_aside(site, (&releases, &held.own()?), &staging, run),
        Err(_) => Ok(()),
    }
}

/// Writes down what is known of a release by now.
fn judge(site: &Site, name: &ReleaseName, verdict: Verdict, note: Option<String>) -> Result<(), ErrandFailure> {
    let mut history = History::read(site)?;
    let Some(release) = history.releases.iter_mut().find(|it| it.name == *name) else {
        return Err(ErrandFailure::other(format!("release {name} is not on record")));
    };
    (release.verdict, release.note) = (verdict, note);
    write_down(&mut history)
}

fn write_down(history: &mut History) -> Result<(), ErrandFailure> {
    history.write().map_err(cannot("write down what is known of the releases"))
}

/// The name of a path in the folder that it is in.
fn name_of(path: &Path) -> &Path {
    Path::new(path.file_name().unwrap_or_default())
}

/// A folder that is there afterwards.
fn make_folder(folder: &Path) -> Result<(), ErrandFailure> {
    match DirBuilder::new().mode(0o777).create(folder) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
            Err(cannot(format!("make `{}`", folder.display()))(err))
        }
        Ok(()) | Err(_) if fs::metadata(folder).is_ok_and(|it| it.is_dir()) => Ok(()),
        Ok(()) | Err(_) => Err(ErrandFailure::permanent(format!("`{}` is not a folder", folder.display()))),
    }
}

/// The names in a folder are on the disk when this returns.
fn sync_folder(folder: &Folder, path: &Path) -> Result<(), ErrandFailure> {
    folder.sync().map_err(cannot(format!("flush `{}`", path.display())))
}

/// Writes one line for people. That nobody reads it is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{}", line.replace(char::is_control, " "));
}
