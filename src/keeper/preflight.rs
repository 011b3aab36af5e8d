//! What must be there before anything changes: room on the disk, users, and a place for the code.
//!
//! Invariant: nothing is changed here.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::statvfs;

use crate::{
    model::{deploy::Strategy, hook::Hook, size::Size},
    process::{
        user::Account,
        way::{self, Way},
    },
};

/// Why a run cannot begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Somebody has to change the hook or the machine.
    ForGood(String),
    /// It may pass.
    ForNow(String),
}

/// Who works for a hook.
#[derive(Clone, Debug)]
pub struct Crew {
    /// Who steps run as that name nobody.
    pub steps: Account,
    /// Who brings the code to its place.
    pub landing: Account,
    /// The owner of that place, if root works as them, since anything else than that user could lead root astray.
    pub is_owner: bool,
}

impl Crew {
    fn of_one(account: Account) -> Self {
        Self { steps: account.clone(), landing: account, is_owner: false }
    }

    /// Whether what belongs to yet another user stays as it is.
    pub fn spares_others(&self) -> bool {
        self.is_owner || self.landing.uid.is_root()
    }
}

/// Who works for a hook, if all users of its steps exist. `own` is whom the daemon runs as.
///
/// Root writes only where root alone can (P18): where the code lands in a folder of another user, that user brings it
/// there, and runs the steps, too, unless the hook says `user: root`.
pub fn crew(hook: &Hook, own: &Account) -> Result<Crew, Obstacle> {
    for step in [&hook.run, &hook.activate, &hook.on_failure, &hook.finally].into_iter().flatten() {
        if let Some(user) = &step.user {
            Account::find(Some(user)).map_err(|why| Obstacle::ForGood(format!("step `{}`: {why}", step.name)))?;
        }
    }
    let named = hook.user.as_deref().map(|it| Account::find(Some(it))).transpose().map_err(Obstacle::ForGood)?;
    let is_named = named.is_some();
    let account = named.unwrap_or_else(|| own.clone());
    let Some(path) = hook.deploy.strategy.path().filter(|_| account.uid.is_root()) else {
        return Ok(Crew::of_one(account));
    };
    let shown = path.display();
    let way = match way::look(path) {
        Ok(way) => way,
        // Who is not root and only asks is not told everything.
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied && !account.is_own() => {
            return Ok(Crew::of_one(account));
        }
        Err(err) => return Err(Obstacle::ForNow(format!("cannot look at the way to `{shown}`: {err}"))),
    };
    way.judge().map_err(Obstacle::ForGood)?;
    if way.is_whole && matches!(hook.deploy.strategy, Strategy::InPlace { .. }) {
        own_repository(&way).map_err(Obstacle::ForGood)?;
    }
    if way.owner == account.uid.as_raw() {
        return Ok(Crew::of_one(account));
    }
    if !is_named {
        way.judge_owner().map_err(Obstacle::ForGood)?;
    }
    let owner = Account::numbered(way.owner).map_err(|why| {
        let standing = way.standing.display();
        Obstacle::ForGood(format!("`{standing}` belongs to user {}, and {why}: give it to one", way.owner))
    })?;
    let steps = if is_named { account } else { owner.clone() };
    Ok(Crew { steps, landing: owner, is_owner: true })
}

/// Whether the repository in a working tree is its owner's. Where that is root, all folders in it are.
fn own_repository(way: &Way) -> Result<(), String> {
    let git = way.standing.join(".git");
    let foreign = match fs::symlink_metadata(&git) {
        Ok(metadata) if metadata.uid() != way.owner => {
            Some((git.clone(), format!("belongs to `{}`", way::user_name(metadata.uid()))))
        }
        Ok(_) if way.owner == 0 => way::not_roots_alone(&git),
        Ok(_) | Err(_) => None,
    };
    let Some((path, why)) = foreign else { return Ok(()) };
    let (owner, git) = (way::user_name(way.owner), git.display());
    Err(format!(
        "`{}` {why}, and the working tree to `{owner}`: `chown -RP {owner} {git} && chmod -R go-w {git}` gives both to \
         one user",
        path.display(),
    ))
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
