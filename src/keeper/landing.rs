//! Makes the folder that the code lands in, where the hook's user could not.
//!
//! Invariant: a folder is made as the daemon's own user only where nobody else could put something in its place: every
//! folder above it belongs to that user, and no other may write to it.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::Path,
};

use nix::unistd::geteuid;

use crate::process::user::Account;

/// Makes a folder for this user, with the folders above it that are missing. Where others have a say in those above, it
/// makes nothing: git work, as the user, says what is missing.
pub fn make(folder: &Path, account: &Account) -> io::Result<()> {
    if account.is_own() || folder.symlink_metadata().is_ok() {
        return Ok(());
    }
    let Some(above) = folder.parent() else { return Ok(()) };
    let Some(standing) = above.ancestors().find(|it| it.symlink_metadata().is_ok()) else { return Ok(()) };
    if !is_ours_alone(standing)? {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o755).create(above)?;
    DirBuilder::new().mode(0o755).create(folder)?;
    chown(folder, Some(account.uid.as_raw()), Some(account.gid.as_raw()))
}

/// Whether a folder and all above it are real ones that no other user may write to.
fn is_ours_alone(folder: &Path) -> io::Result<bool> {
    for it in folder.ancestors() {
        let metadata = fs::symlink_metadata(it)?;
        let is_theirs = metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0;
        if !metadata.is_dir() || is_theirs {
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
        make(&folder, &account).expect("made");
        let owner = |it: &Path| it.metadata().expect("it is there").uid();
        assert_eq!((owner(&folder), owner(&safe.path().join("a"))), (account.uid.as_raw(), 0));

        fs::set_permissions(safe.path(), fs::Permissions::from_mode(0o777)).expect("a mode");
        make(&safe.path().join("c/d"), &account).expect("left alone");
        assert!(!safe.path().join("c").exists());
    }
}
