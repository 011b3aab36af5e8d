//! The Unix socket in the state folder, over which the command line talks to the daemon.
//!
//! A socket's file may be removed from under it, by a person or by whatever tidies folders. It is looked for every few
//! seconds, and made again.
//!
//! Invariant: who may open the socket may do everything; its permissions are the login.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use nix::unistd::{Gid, Group, chown};
use thiserror::Error;
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// A client has this long to send its request's headers.
const HEADERS: Duration = Duration::from_secs(10);

/// Requests under way get this long at a stop: a followed log ends its wait by then.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Clients at once; more wait in the socket's own queue.
const CLIENTS_MAX: usize = 256;

/// How often the socket's file is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The name of the socket in its folder.
pub const FILE_NAME: &str = "landfall.sock";

/// The socket cannot be made.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The file cannot be made or opened.
    #[error("cannot listen at {path}: {source}")]
    Bind {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `server.socket_group` cannot be given the socket.
    #[error("cannot give {path} to the group `{group}` of `server.socket_group`: {why}")]
    Group {
        /// What was to be given.
        path: PathBuf,
        /// To whom.
        group: String,
        /// What the system said.
        why: String,
    },
}

/// A bound socket. Its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    folder: PathBuf,
    group: Option<String>,
    /// Device and inode of the file.
    file: (u64, u64),
}

impl Socket {
    fn path(&self) -> PathBuf {
        self.folder.join(FILE_NAME)
    }

    fn found(&self) -> Found {
        match fs::symlink_metadata(self.path()) {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == self.file => Found::Ours,
            Ok(metadata) if metadata.file_type().is_socket() => Found::Gone,
            Ok(_) => Found::Other,
            Err(err) if err.kind() == io::ErrorKind::NotFound => Found::Gone,
            // Nobody reaches it there, and nothing can be made there either.
            Err(_) => Found::Other,
        }
    }

    /// Makes the file again if it is gone. Whoever has connected already stays connected.
    fn look(&mut self, is_lost: &mut bool) {
        let path = self.path();
        match self.found() {
            Found::Ours => *is_lost = false,
            Found::Gone => match bind(&self.folder, self.group.as_deref()) {
                Ok(made) => {
                    warn!("{} was gone and has been made again", path.display());
                    *self = made;
                    *is_lost = false;
                }
                Err(err) if !*is_lost => {
                    warn!("{} is gone, so the command line cannot reach the daemon: {err}", path.display());
                    *is_lost = true;
                }
                Err(_) => (),
            },
            Found::Other if !*is_lost => {
                warn!("something else is at {}, so the command line cannot reach the daemon there", path.display());
                *is_lost = true;
            }
            Found::Other => (),
        }
    }
}

/// What is where the socket's file should be.
enum Found {
    Ours,
    /// Nothing, or a socket that nobody can listen at: the lock of the state folder is ours.
    Gone,
    Other,
}

impl Drop for Socket {
    fn drop(&mut self) {
        match self.found() {
            Found::Ours => {
                // Where it cannot be removed, the next daemon replaces it.
                let _ = fs::remove_file(self.path());
            }
            Found::Gone | Found::Other => (),
        }
    }
}

/// Binds `landfall.sock` in `folder`, for its owner and, if one is named, a group.
///
/// An old socket file is removed: the caller holds the lock of the state folder, so nobody listens there.
pub fn bind(folder: &Path, group: Option<&str>) -> Result<Socket, SocketError> {
    let path = folder.join(FILE_NAME);
    let failed = |source| SocketError::Bind { path: path.clone(), source };
    match fs::remove_file(&path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(failed(err)),
        Ok(()) | Err(_) => (),
    }
    // A socket address holds 108 bytes of path (man 7 unix); the folder's descriptor makes any path short.
    let opened = File::open(folder).map_err(failed)?;
    let short = Path::new(&format!("/proc/self/fd/{}", opened.as_raw_fd())).join(FILE_NAME);
    let listener = UnixListener::bind(short).map_err(failed)?;
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    if let Some(group) = group {
        open_to_group(&path, group)?;
        open_to_group(folder, group)?;
        let mode = fs::metadata(folder).map_err(failed)?.permissions().mode() | 0o010;
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    let made = fs::symlink_metadata(&path).map_err(failed)?;
    let (folder, group) = (folder.to_owned(), group.map(str::to_owned));
    Ok(Socket { listener, folder, group, file: (made.dev(), made.ino()) })
}

fn open_to_group(path: &Path, group: &str) -> Result<(), SocketError> {
    let failed = |why: String| SocketError::Group { path: path.to_owned(), group: group.to_owned(), why };
    let found = Group::from_name(group).map_err(|err| failed(err.to_string()))?;
    let gid: Gid = found.ok_or_else(|| failed("there is no such group".into()))?.gid;
    chown(path, None, Some(gid)).map_err(|err| failed(err.to_string()))
}

/// Answers clients until `stop`.
pub async fn serve(mut socket: Socket, router: Router, stop: CancellationToken) {
    let mut clients = JoinSet::new();
    let (mut look_at, mut is_lost) = (Instant::now() + LOOK_EVERY, false);
    while !stop.is_cancelled() {
        tokio::select! {
            accepted = socket.listener.accept(), if clients.len() < CLIENTS_MAX => match accepted {
                Ok((stream, _)) => { clients.spawn(answer(stream, router.clone(), stop.clone())); }
                Err(err) => {
                    warn!("cannot accept a client: {err}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = clients.join_next() => (),
            () = sleep_until(look_at) => {
                socket.look(&mut is_lost);
                look_at = Instant::now() + LOOK_EVERY;
            }
            () = stop.cancelled() => (),
        }
    }
    drop(socket);
    let all_ended = async { while clients.join_next().await.is_some() {} };
    if timeout(LAST_ANSWERS, all_ended).await.is_err() {
        clients.shutdown().await;
    }
}

async fn answer(stream: UnixStream, router: Router, stop: CancellationToken) {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEADERS);
    let connection = protocol.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(err) = ended {
        debug!("a client went away: {err}");
    }
}
