//! Makes the folder that the code lands in, where the hook's user could not, or where others could come first.
//!
//! Invariant: root makes a folder for another user only where nobody else could put something in its place: every folder
//! above it belongs to root, and no other may write to it. Where anybody may, as in `/tmp`, what somebody else has made
//! meanwhile is not taken for ours.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Component, Path},
};

use crate::process::{beneath::Folder, user::Account, way};

/// Makes a folder for this user, with the folders above it that are missing; one of root's gets the mode that this umask
/// leaves. Where others have a say in those above, it makes nothing for them: git work, as the user, says what is missing.
pub fn make(folder: &Path, account: &Account, umask: u32) -> io::Result<()> {
    let is_roots = account.uid.is_root();
    if account.is_own() && !is_roots {
        return Ok(());
    }
    let way = way::look(folder)?;
    let names = way.missing.components();
    if way.is_whole || way.owner != 0 || !names.clone().all(|it| matches!(it, Component::Normal(_))) {
        return Ok(());
    }
    let mut held = Folder::open(&way.standing)?;
    // Root's own errand makes it with all else, unless somebody could come first.
    let is_left = if is_roots { held.stat()?.st_mode & 0o022 == 0 } else { !is_roots_alone(&way.standing)? };
    if is_left {
        return Ok(());
    }
    let mut path = way.standing;
    for name in names {
        path.push(name);
        held = held.make(name.as_os_str(), 0o755)?;
        let stat = held.stat()?;
        if stat.st_uid != 0 {
            let (shown, user) = (path.display(), way::user_name(stat.st_uid));
            return Err(io::Error::other(format!("`{user}` has just made `{shown}`")));
        }
    }
    if is_roots { held.set_mode(0o777 & !umask) } else { held.give_to(account) }
}

/// Whether a folder and all above it belong to root, and nobody else may write to them.
fn is_roots_alone(folder: &Path) -> io::Result<bool> {
    for it in folder.ancestors() {
        let metadata = fs::symlink_metadata(it)?;
        if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt},
        path::Path,
    };

    use super::make;
    use crate::process::user::Account;

    #[test]
    fn as_root_missing_folders_are_made_for_the_user_where_nobody_else_has_a_say() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let account = Account::find(Some("nobody")).expect("every system has one");
        let safe = tempfile::tempdir_in("/var").expect("a folder of root's");
        fs::set_permissions(safe.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let folder = safe.path().join("a/b");
        make(&folder, &account, 0o022).expect("made");
        let owner = |it: &Path| it.metadata().expect("it is there").uid();
        assert_eq!((owner(&folder), owner(&safe.path().join("a"))), (account.uid.as_raw(), 0));

        fs::set_permissions(safe.path(), fs::Permissions::from_mode(0o777)).expect("a mode");
        make(&safe.path().join("c/d"), &account, 0o022).expect("left alone");
        assert!(!safe.path().join("c").exists());
    }

    #[test]
    fn as_root_a_folder_that_is_to_be_roots_is_made_first_where_anybody_may_make_it() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let root = Account::find(Some("root")).expect("every system has one");
        let open = tempfile::tempdir().expect("a folder");
        let at = |name: &str| open.path().join(name);
        make(&at("a/b"), &root, 0o027).expect("left to the errand");
        assert!(!at("a").exists());
        fs::set_permissions(open.path(), fs::Permissions::from_mode(0o1777)).expect("a mode");
        make(&at("a/b"), &root, 0o027).expect("made");
        assert_eq!((at("a/b").metadata().expect("there").mode() & 0o777, at("a").exists()), (0o750, true));
    }
}
