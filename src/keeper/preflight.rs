//! What must be there before anything changes: room on the disk, users, and a place for the code.
//!
//! Invariant: nothing is changed here.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::statvfs;

use crate::{
    model::{deploy::Strategy, hook::Hook, size::Size},
    process::user::Account,
};

/// Why a run cannot begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Somebody has to change the hook or the machine.
    ForGood(String),
    /// It may pass.
    ForNow(String),
}

/// The user of the hook, if all users of its steps exist.
pub fn users(hook: &Hook) -> Result<Account, Obstacle> {
    for step in [&hook.run, &hook.activate, &hook.on_failure, &hook.finally].into_iter().flatten() {
        if let Some(user) = &step.user {
            Account::find(Some(user)).map_err(|why| Obstacle::ForGood(format!("step `{}`: {why}", step.name)))?;
        }
    }
    Account::find(hook.user.as_deref()).map_err(Obstacle::ForGood)
}

/// Whether the code has a place to land.
pub fn place(hook: &Hook) -> Result<(), Obstacle> {
    let (path, what) = match &hook.deploy.strategy {
        Strategy::Checkout { .. } => return Ok(()),
        Strategy::InPlace { path, .. } => (path, "the working tree"),
        Strategy::Releases { path, .. } => (path, "the folder of the releases"),
        Strategy::None { folder } => (folder, "the folder of the steps"),
    };
    match (fs::metadata(path), &hook.deploy.strategy) {
        (Ok(metadata), _) if metadata.is_dir() => Ok(()),
        (Ok(_), _) => Err(Obstacle::ForGood(format!("{what} `{}` is not a folder", path.display()))),
        (Err(err), Strategy::InPlace { .. } | Strategy::Releases { .. }) if err.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        (Err(err), _) => Err(Obstacle::ForGood(format!("{what} `{}` cannot be used: {err}", path.display()))),
    }
}

/// Whether there is room where the code lands and where the state is.
pub fn room(hook: &Hook, state: &Path) -> Result<(), Obstacle> {
    let needed = hook.deploy.min_free_bytes;
    for path in hook.deploy.strategy.path().into_iter().chain([state]) {
        let existing = nearest_existing(path);
        let stat = statvfs(&existing)
            .map_err(|err| Obstacle::ForNow(format!("cannot ask for room at `{}`: {err}", existing.display())))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < needed {
            return Err(Obstacle::ForNow(format!(
                "only {} are free at `{}`, and `min_free` asks for {}",
                Size(free),
                existing.display(),
                Size(needed)
            )));
        }
    }
    Ok(())
}

fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors().find(|it| it.exists()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::nearest_existing;

    #[test]
    fn room_is_asked_for_where_the_path_will_be() {
        let folder = tempfile::tempdir().expect("temporary folder");
        assert_eq!(nearest_existing(&folder.path().join("not/yet")), folder.path());
        assert_eq!(nearest_existing(Path::new("/no-such-folder/x")), Path::new("/"));
    }
}
