//! Talks to the daemon over its Unix socket.
//!
//! Invariant: a client finds the daemon without resolving a secret, and says which places it looked at.

use std::{
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anstream::eprintln;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustix::fs::{Mode, OFlags, open};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, runtime::Runtime, time::timeout};

use crate::{
    cli::{Exit, Reach},
    hooks::{self, Environment},
    model::text,
    web::views::Refusal,
};

/// The hooks.yaml of the packaged daemon.
const PACKAGED_CONFIG: &str = "/etc/landfall/hooks.yaml";

/// Where hooks.yaml is looked for when no one says.
const CONFIGS: [&str; 2] = ["hooks.yaml", PACKAGED_CONFIG];

/// Where the packaged daemon listens; its state folder is the service manager's to choose.
const PACKAGED_SOCKET: &str = "/run/landfall/landfall.sock";

/// No answer of the daemon takes longer; a followed log is asked for again and again.
const PATIENCE: Duration = Duration::from_secs(60);

/// The file that commands use when `--config` is not given: the first of the usual ones that is there.
pub(super) fn config_of(given: Option<&Path>) -> Option<PathBuf> {
    match given {
        Some(file) => Some(file.to_owned()),
        None => CONFIGS.iter().map(PathBuf::from).find(|it| it.exists()),
    }
}

/// How long a daemon may be away while somebody waits for a run: one that a deploy restarts takes its `grace` to end.
const ABSENCE_MAX: Duration = Duration::from_secs(60);

/// How often a daemon that is away is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A daemon that answers.
pub(super) struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

/// Why a command got no good answer; it has been told to the person already where `Exit` is all there is.
#[derive(Debug)]
pub(super) struct Trouble {
    /// The exit code it means.
    pub(super) exit: Exit,
    /// What to say.
    pub(super) message: String,
}

impl Trouble {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl Client {
    /// Finds the daemon's socket; it is not asked anything yet.
    pub(super) fn find(reach: &Reach) -> Result<Self, Trouble> {
        Self::at(socket_of(reach)?)
    }

    /// The daemon at this socket.
    pub(super) fn at(socket: PathBuf) -> Result<Self, Trouble> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|err| Trouble::new(Exit::Failed, format!("cannot start: {err}")))?;
        Ok(Self { socket, runtime })
    }

    /// Asks for something.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        self.ask(Method::GET, path, Bytes::new())
    }

    /// Asks for something again and again while no daemon is there, since the run that is waited for may be what
    /// restarts it. Not beyond this moment, if one is given.
    pub(super) fn get_patiently<T: DeserializeOwned>(&self, path: &str, until: Option<Instant>) -> Result<T, Trouble> {
        let mut away_since = None;
        loop {
            let trouble = match self.get(path) {
                Err(trouble) if trouble.exit == Exit::Unreachable => trouble,
                answer => return answer,
            };
            let now = Instant::now();
            if away_since.is_none() {
                eprintln!("the daemon does not answer; its runs go on, and the next daemon is waited for");
            }
            if *away_since.get_or_insert(now) + ABSENCE_MAX <= now || until.is_some_and(|it| it <= now) {
                return Err(trouble);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Asks for something to be done.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Trouble> {
        let body = serde_json::to_vec(body).map_err(|err| Trouble::new(Exit::Failed, err.to_string()))?;
        self.ask(Method::POST, path, body.into())
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, Trouble> {
        let answer = self.runtime.block_on(async { timeout(PATIENCE, self.exchange(method, path, body)).await });
        let (is_good, bytes) = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(err)) if is_refused(&err) => return Err(not_allowed(&self.socket)),
            Ok(Err(err)) => return Err(self.unreachable(&err.to_string())),
            Err(_) => return Err(self.unreachable("it accepted the connection and does not answer")),
        };
        if is_good {
            return serde_json::from_slice(&bytes).map_err(|err| {
                Trouble::new(Exit::Failed, format!("the daemon's answer is of another version than this client: {err}"))
            });
        }
        let refusal: Refusal = serde_json::from_slice(&bytes)
            .map_err(|err| Trouble::new(Exit::Failed, format!("the daemon's refusal cannot be read: {err}")))?;
        let exit = match refusal.error.as_str() {
            "not_found" => Exit::NotFound,
            "not_allowed" => Exit::NotAllowed,
            "bad_request" => Exit::Usage,
            _ => Exit::Failed,
        };
        Err(Trouble::new(exit, refusal.message))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(bool, Bytes)> {
        let stream = connect(&self.socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder().method(method).uri(path).header("host", "landfall");
        let request = request.header("content-type", "application/json").body(Full::new(body))?;
        let answer = async {
            let answer = sender.send_request(request).await?;
            let is_good = answer.status().is_success();
            Ok::<_, anyhow::Error>((is_good, answer.into_body().collect().await?.to_bytes()))
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => {
                ended?;
                answer.await
            }
        }
    }

    fn unreachable(&self, why: &str) -> Trouble {
        let socket = self.socket.display();
        Trouble::new(
            Exit::Unreachable,
            format!(
                "no daemon answers at {socket}: {why}\nstart one with `landfall serve`, or name its hooks.yaml with --config"
            ),
        )
    }
}

/// Connects even where the path is longer than a socket address can hold (108 bytes, `man 7 unix`): the folder is
/// opened first and named by its descriptor.
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return UnixStream::connect(socket).await;
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // Whoever may use the socket need not be allowed to look around where it is.
    let folder = open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    UnixStream::connect(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name)).await
}

fn is_refused(err: &anyhow::Error) -> bool {
    err.downcast_ref::<io::Error>().is_some_and(|it| it.kind() == io::ErrorKind::PermissionDenied)
}

fn not_allowed(socket: &Path) -> Trouble {
    let why = "only root, the daemon's user and the members of `server.socket_group` may use it";
    Trouble::new(Exit::NotAllowed, format!("may not use the daemon's socket {}: {why}", socket.display()))
}

/// Where the daemon of this file keeps its state. A running daemon goes by what the file was, so one that cannot be read
/// any more keeps nobody from it: then it is looked for where it usually is.
fn state_of(config: &Path, is_named: bool) -> Result<Option<PathBuf>, Trouble> {
    let environment = Environment::of_process();
    let why = match hooks::state_folder(config, &environment) {
        Ok(state) => return Ok(Some(state)),
        Err(why) => why.problems.iter().map(|it| it.message.clone()).collect::<Vec<_>>().join("; "),
    };
    let usual = hooks::usual_state_folder(config, &environment).ok();
    match (&usual, config.try_exists().unwrap_or(true)) {
        (Some(usual), true) => eprintln!(
            "landfall: {}; looking for its daemon in the usual state folder, {} (--socket names another place)",
            text::shown(&why),
            usual.display()
        ),
        // A name that is nobody's is misspelt.
        (_, false) if is_named => {
            let help = "name its hooks.yaml with --config, or its socket with --socket";
            return Err(Trouble::new(Exit::Usage, format!("cannot tell where the daemon is: {why}\n{help}")));
        }
        (Some(_), false) | (None, _) => (),
    }
    Ok(usual)
}

fn socket_of(reach: &Reach) -> Result<PathBuf, Trouble> {
    if let Some(socket) = &reach.socket {
        return Ok(socket.clone());
    }
    let mut looked_at = Vec::new();
    // Where there is no hooks.yaml any more, its daemon may go on beside it.
    let config = config_of(reach.config.as_deref()).unwrap_or_else(|| PathBuf::from(CONFIGS[0]));
    if let Some(state) = state_of(&config, reach.config.is_some())? {
        let socket = state.join("landfall.sock");
        match socket.try_exists() {
            Ok(true) => return Ok(socket),
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => return Err(not_allowed(&socket)),
            Ok(false) | Err(_) => (),
        }
        looked_at.push(socket.display().to_string());
    }
    // Who names another file means another daemon.
    if reach.config.as_deref().is_none_or(|it| it == Path::new(PACKAGED_CONFIG)) {
        if Path::new(PACKAGED_SOCKET).exists() {
            return Ok(PACKAGED_SOCKET.into());
        }
        looked_at.push(PACKAGED_SOCKET.into());
    }
    Err(Trouble::new(
        Exit::Unreachable,
        format!(
            "no daemon is running: looked for a socket at {}\nstart one with `landfall serve`, or name its hooks.yaml with --config",
            looked_at.join(" and ")
        ),
    ))
}
