//! Reads a file that somebody names to us, as whoever could put another in its place.
//!
//! Root may read every file. Where a user owns the file's folder, or a link on the way to it, that user says what is read in
//! the end; so it is read as that user, who is shown nothing new.
//!
//! Invariant: root reads only what lies on a way that root alone can change; and nobody is waited for, as at a pipe.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    thread,
};

use nix::unistd::geteuid;
use rustix::fs::OFlags;
use thiserror::Error;

use super::{user::Account, way};

/// Why a file cannot be read.
#[derive(Debug, Error)]
pub enum NotRead {
    /// It is on our own to mend.
    #[error("{0}")]
    Ours(#[from] io::Error),
    /// It is read as another user, who decides what is there.
    #[error("{why} (as `{user}`, who can change the way there, so as whom it is read)")]
    Anothers {
        /// The user.
        user: String,
        /// What the system says.
        why: io::Error,
    },
}

/// The text of a file of at most so many bytes.
pub fn read_text(path: &Path, bytes_max: u64) -> Result<String, NotRead> {
    if !geteuid().is_root() {
        return Ok(read_plainly(path, bytes_max)?);
    }
    let reader = way::look_at_file(path)?.reader().map_err(io::Error::other)?;
    if reader == 0 {
        return Ok(read_plainly(path, bytes_max)?);
    }
    let account = Account::numbered(reader).map_err(io::Error::other)?;
    read_as(&account, path, bytes_max).map_err(|why| NotRead::Anothers { user: account.name.clone(), why })
}

/// In a thread of its own, as the kernel keeps a user for each thread; it is that user to its end.
fn read_as(account: &Account, path: &Path, bytes_max: u64) -> io::Result<String> {
    let assume = account.assume();
    let read = || assume().and_then(|()| read_plainly(path, bytes_max));
    thread::scope(|scope| scope.spawn(read).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn read_plainly(path: &Path, bytes_max: u64) -> io::Result<String> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    file.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it is larger than {bytes_max} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, chown, symlink},
        process::Command,
    };

    use super::{NotRead, read_text};

    #[test]
    fn a_pipe_and_a_large_file_are_refused_and_nobody_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let (pipe, file) = (folder.path().join("pipe"), folder.path().join("file"));
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        assert!(read_text(&pipe, 10).expect_err("refused").to_string().contains("not a regular file"));
        fs::write(&file, "0123456789").expect("written");
        assert_eq!(read_text(&file, 10).expect("read"), "0123456789");
        assert!(read_text(&file, 9).expect_err("refused").to_string().contains("larger than 9 bytes"));
    }

    #[test]
    fn as_root_a_user_gets_nothing_read_that_they_could_not_read_themselves() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let (roots, home) = (folder.path().join("roots"), folder.path().join("home"));
        fs::write(&roots, "of root").expect("written");
        fs::set_permissions(&roots, fs::Permissions::from_mode(0o600)).expect("a mode");
        fs::create_dir(&home).expect("a folder");
        chown(&home, Some(65534), Some(65534)).expect("given away");
        let key = home.join("key");
        symlink(&roots, &key).expect("a link");
        match read_text(&key, 100) {
            Err(NotRead::Anothers { user, .. }) => assert_eq!(user, "nobody"),
            other => panic!("{other:?}"),
        }
        fs::remove_file(&key).expect("removed");
        fs::write(&key, "theirs").expect("written");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a mode");
        chown(&key, Some(65534), Some(65534)).expect("given away");
        assert_eq!(read_text(&key, 100).expect("read"), "theirs");
        assert_eq!(read_text(&roots, 100).expect("read"), "of root");
        let id = fs::metadata("/proc/thread-self").expect("there");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&id), 0, "this thread is who it was");
    }
}
