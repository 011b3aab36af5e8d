//! Whose the state folder is: the daemon's own, but for what belongs to the users below `work/<user>`.
//!
//! A root daemon writes there as root. Where another user may put a link in the place of a folder of it, that link leads
//! root anywhere; such a folder is what an earlier daemon leaves behind that ran as that user.
//!
//! Invariant: nobody else may change the way there; down to `work/<user>/<folder>` each folder is entered by its descriptor, is no link, and belongs to the
//! daemon's user or to root; `mirrors` may belong to the user that it is for.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{User, getegid, geteuid};
use rustix::io::Errno;
use thiserror::Error;

use crate::process::{
    beneath::Folder,
    way::{self, user_name},
};

/// What the daemon keeps in its state folder.
const ENTRIES: [&str; 8] =
    ["landfall.db", "landfall.db-wal", "landfall.db-shm", "landfall.lock", "landfall.sock", "lanes", "runs", "work"];

/// Why a state folder is not used: what is wrong, and the command that mends it.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct NotOurs(String);

/// Looks at all of a state folder that decides where the daemon and its keepers write. What is not there is in order.
pub fn judge(state: &Path) -> Result<(), NotOurs> {
    let metadata = fs::metadata(state).ok();
    if let Some(metadata) = &metadata {
        judge_one(state, metadata.uid(), None, Mend::GiveAll)?;
    }
    judge_way(state)?;
    for entry in ENTRIES {
        judge_entry(&state.join(entry), None, Mend::Give)?;
    }
    let work = state.join("work");
    for user in entries(&work)? {
        judge_entry(&user, None, Mend::Remove)?;
        let name = user.file_name().and_then(OsStr::to_str).unwrap_or_default();
        // A user that is no more, and whose folder nobody uses.
        let Some(account) = User::from_name(name).ok().flatten() else { continue };
        for folder in entries(&user)? {
            let is_the_users = folder.ends_with("mirrors");
            judge_entry(&folder, is_the_users.then(|| account.uid.as_raw()), Mend::Remove)?;
        }
    }
    Ok(())
}

/// Nobody else may put another folder in the place of this one: runs are carried out as their folders say.
fn judge_way(state: &Path) -> Result<(), NotOurs> {
    let way =
        way::look(state).map_err(|err| NotOurs(format!("cannot look at the way to `{}`: {err}", state.display())))?;
    way.judge_for(geteuid(), getegid()).map_err(|why| {
        NotOurs(format!(
            "others could put something else in the place of the state folder `{}`: {why}, or name another by \
             `server.state`",
            state.display()
        ))
    })
}

/// Enters the folder of this name in one that is known to be ours, makes it if it is missing, and fails if it is
/// somebody else's. `at` is where that one is, for people; `user` may own it, too.
pub fn enter(folder: &Folder, at: &Path, name: &str, user: Option<u32>) -> io::Result<Folder> {
    let path = at.join(name);
    let inner = folder.make(OsStr::new(name), 0o700).map_err(|err| match Errno::from_io_error(&err) {
        Some(Errno::LOOP | Errno::NOTDIR) => io::Error::other(no_folder(&path)),
        _ => err,
    })?;
    judge_one(&path, inner.stat()?.st_uid, user, Mend::Remove).map_err(|err| io::Error::other(err.0))?;
    Ok(inner)
}

/// How something is mended that is not ours.
#[derive(Clone, Copy)]
enum Mend {
    /// It is given to the daemon with all that is in it.
    GiveAll,
    Give,
    /// It is a copy, and the next run makes it anew.
    Remove,
}

fn judge_entry(path: &Path, user: Option<u32>, mend: Mend) -> Result<(), NotOurs> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Err(NotOurs(no_folder(path))),
        Ok(metadata) => judge_one(path, metadata.uid(), user, mend),
        Err(_) => Ok(()),
    }
}

fn judge_one(path: &Path, owner: u32, user: Option<u32>, mend: Mend) -> Result<(), NotOurs> {
    let own = geteuid().as_raw();
    if owner == own || owner == 0 || Some(owner) == user {
        return Ok(());
    }
    let (shown, theirs, ours) = (path.display(), user_name(owner), user_name(own));
    let mend = match mend {
        Mend::GiveAll => format!("run it as `{theirs}`, or give the folder over: `chown -RP {ours}: {shown}`"),
        Mend::Give => format!("give it over: `chown -RP {ours}: {shown}`"),
        Mend::Remove => format!("remove it, it holds copies that the next run makes anew: `rm -rf {shown}`"),
    };
    Err(NotOurs(format!("`{shown}` belongs to `{theirs}`, and the daemon runs as `{ours}`: {mend}")))
}

fn no_folder(path: &Path) -> String {
    let shown = path.display();
    format!(
        "`{shown}` leads elsewhere, and the daemon follows no link in its state folder: remove it (`rm {shown}`); a \
         folder of another disk can be mounted there"
    )
}

/// What is in a folder that has just been found in order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, NotOurs> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().map(|it| it.path()).collect()),
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(err) => Err(NotOurs(format!("cannot look into `{}`: {err}", folder.display()))),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{chown, lchown, symlink},
    };

    use super::{enter, judge};
    use crate::process::beneath::Folder;

    const NOBODY: Option<u32> = Some(65534);

    #[test]
    fn a_link_in_the_state_folder_is_refused_at_the_start_and_before_use() {
        let (state, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        judge(&state.path().join("not-yet")).expect("nothing is in order");
        judge(state.path()).expect("so is an empty one");
        for name in ["landfall.db", "runs", "work"] {
            let link = state.path().join(name);
            symlink(outside.path(), &link).expect("a link");
            let refused = judge(state.path()).expect_err("refused").to_string();
            assert!(refused.contains(&format!("`rm {}`", link.display())), "{refused}");
            let held = Folder::open(state.path()).expect("opened");
            let refused = enter(&held, state.path(), name, None).expect_err("refused").to_string();
            assert!(refused.contains("leads elsewhere"), "{refused}");
            fs::remove_file(link).expect("removed");
        }
        assert_eq!(fs::read_dir(outside.path()).expect("there").count(), 0);
    }

    #[test]
    fn as_root_a_state_folder_that_others_can_put_another_in_the_place_of_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("cfg/state");
        fs::create_dir_all(&state).expect("folders");
        judge(&state).expect("all of it is root's");
        chown(folder.path().join("cfg"), NOBODY, NOBODY).expect("given away");
        for state in [state.clone(), folder.path().join("cfg/not-yet")] {
            let refused = judge(&state).expect_err("refused").to_string();
            assert!(refused.contains("belongs to `nobody`: `chown root "), "{refused}");
            assert!(refused.contains("or name another by `server.state`"), "{refused}");
        }
    }

    #[test]
    fn as_root_what_belongs_to_another_is_refused_with_the_command_that_mends_it() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let state = tempfile::tempdir().expect("a folder");
        let at = |name: &str| state.path().join(name);
        let expect = |name: &str, mend: &str| {
            let path = if name.is_empty() { state.path().to_owned() } else { at(name) };
            lchown(&path, NOBODY, None).expect("given away");
            let refused = judge(state.path()).expect_err(name).to_string();
            assert!(refused.contains("belongs to `nobody`") && refused.contains(mend), "{name}: {refused}");
            lchown(&path, Some(0), None).expect("taken back");
        };
        for folder in ["runs", "lanes", "work/nobody/trees", "work/nobody/mirrors/x.git", "work/gone-user/mirrors"] {
            fs::create_dir_all(at(folder)).expect("folders");
        }
        chown(at("work/nobody/mirrors/x.git"), NOBODY, NOBODY).expect("the user's");
        chown(at("work/nobody/mirrors"), NOBODY, NOBODY).expect("the user's");
        judge(state.path()).expect("this is how it should be");
        expect("", "chown -RP root: ");
        expect("runs", "chown -RP root: ");
        expect("work", "chown -RP root: ");
        expect("work/nobody", "rm -rf ");
        expect("work/nobody/trees", "rm -rf ");
        chown(at("work/nobody/mirrors"), Some(1), None).expect("given to another");
        assert!(judge(state.path()).expect_err("refused").to_string().contains("belongs to `daemon`"));
    }
}
