//! Looks whether a run can begin in a folder of releases, and what is live in it.
//!
//! Invariant: nothing is changed here, and what is refused here is said together with the command that mends it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::{ErrandFailure, Looked, cannot, held, say, shared};
use crate::{
    journal::{
        releases::{History, Release},
        site::{Site, Standing},
    },
    model::{
        deploy::SharedPath,
        name::HookName,
        release::{ReleaseName, Verdict},
    },
};

/// Does the order.
pub(super) fn look(
    site: &Site,
    hook: &HookName,
    shared: &[SharedPath],
    wanted: Option<&ReleaseName>,
) -> Result<Looked, ErrandFailure> {
    writable(site)?;
    shared::look(site, shared)?;
    let link = live_link(site, hook)?;
    let history = History::read(site)?;
    if let Some(damage) = history.damage() {
        say(&damage);
    }
    let live = history.live.as_ref().and_then(|it| history.find(it)).cloned();
    let wanted = wanted.map(|it| find_good(&history, it)).transpose()?;
    Ok(Looked { link, live, wanted })
}

/// Whether we may make and rename things in the folder, or make the folder itself.
fn writable(site: &Site) -> Result<(), ErrandFailure> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    let user = user.map_or_else(|| nix::unistd::geteuid().to_string(), |it| it.name);
    let root = site.root();
    if !root.exists() {
        let parent = root.parent().unwrap_or(Path::new("/"));
        return access(parent, Access::WRITE_OK | Access::EXEC_OK).map_err(|_| {
            let root = root.display();
            ErrandFailure::permanent(format!(
                "user `{user}` cannot make `{root}`; make it for them: sudo install -d -o {user} {root}"
            ))
        });
    }
    held::look(site)?;
    for folder in [root.to_owned(), site.releases(), site.shared(), site.own()].iter().filter(|it| it.exists()) {
        access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|_| {
            let folder = folder.display();
            ErrandFailure::permanent(format!(
                "user `{user}` cannot write into `{folder}`; give it to them: sudo chown {user} {folder}"
            ))
        })?;
    }
    Ok(())
}

fn live_link(site: &Site, hook: &HookName) -> Result<Option<PathBuf>, ErrandFailure> {
    let current = site.current();
    match site.standing().map_err(cannot(format!("look at `{}`", current.display())))? {
        Standing::Nothing => Ok(None),
        // A link to nowhere is nothing that could be gone back to.
        Standing::Link(link) => Ok(fs::metadata(&current).is_ok_and(|it| it.is_dir()).then_some(link)),
        Standing::Folder => Err(ErrandFailure::permanent(format!(
            "`{}` is no link, so it cannot be switched in one step; make it the first release: landfall adopt {hook}",
            current.display()
        ))),
        Standing::Other => Err(ErrandFailure::permanent(format!(
            "`{}` is neither a link nor a folder, and stands where the link to the live release belongs; move it away",
            current.display()
        ))),
    }
}

fn find_good(history: &History, name: &ReleaseName) -> Result<Release, ErrandFailure> {
    let refuse = |why: &str| Err(ErrandFailure::permanent(format!("release {name} {why}")));
    let Some(release) = history.find(name) else { return refuse("is not on record") };
    // Whoever asked for it meant to leave another one, which has been left meanwhile.
    if history.live.as_ref() == Some(name) && release.verdict == Verdict::Good {
        return Ok(release.clone());
    }
    history.obstacle(release).map_or_else(|| Ok(release.clone()), refuse)
}

/// The kind of an error that says that something is not there.
pub(super) fn is_absent(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
