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
    store,
    web::{socket::FILE_NAME, views::Refusal},
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
    /// Where it may be, the likeliest place first; there is one at least.
    sockets: Vec<PathBuf>,
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
    /// Finds the places where the daemon's socket may be; it is not asked anything yet.
    pub(super) fn find(reach: &Reach) -> Result<Self, Trouble> {
        Self::at(sockets_of(reach)?)
    }

    /// The daemon at one of these sockets.
    pub(super) fn at(sockets: Vec<PathBuf>) -> Result<Self, Trouble> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|err| Trouble::new(Exit::Failed, format!("cannot start: {err}")))?;
        Ok(Self { sockets, runtime })
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
            Ok(Err(Failure::Connecting(trouble))) => return Err(trouble),
            Ok(Err(Failure::Exchange(err))) => return Err(unreachable(&format!("the daemon broke off: {err}"))),
            Err(_) => return Err(unreachable("the daemon took the connection and does not answer")),
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

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(bool, Bytes), Failure> {
        let stream = self.connect().await.map_err(Failure::Connecting)?;
        Self::talk(stream, method, path, body).await.map_err(Failure::Exchange)
    }

    async fn talk(stream: UnixStream, method: Method, path: &str, body: Bytes) -> anyhow::Result<(bool, Bytes)> {
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

    /// Connects to the first socket where somebody listens. A file may be left of a daemon that was killed.
    async fn connect(&self) -> Result<UnixStream, Trouble> {
        let mut silent = Vec::new();
        for socket in &self.sockets {
            match connect(socket).await {
                Ok(stream) => return Ok(stream),
                Err(err) if err.kind() == io::ErrorKind::PermissionDenied => return Err(not_allowed(socket)),
                Err(err) if err.kind() == io::ErrorKind::NotFound => silent.push(format!("no {}", socket.display())),
                Err(err) => silent.push(format!("nobody answers at {}: {err}", socket.display())),
            }
        }
        let held = self.sockets.iter().filter_map(|it| it.parent()).find(|it| store::is_in_use(it));
        let silent = silent.join("; ");
        Err(match held {
            Some(state) => Trouble::new(
                Exit::Unreachable,
                format!(
                    "a daemon is running on {}, and cannot be reached: {silent}\nit makes its socket again within seconds; \
                     if it does not, restart it: deploys under way go on",
                    state.display()
                ),
            ),
            None => unreachable(&format!("no daemon is running: {silent}")),
        })
    }
}

/// Why the daemon gave no answer.
enum Failure {
    /// Nobody could be connected to; all is said.
    Connecting(Trouble),
    /// The connection broke.
    Exchange(anyhow::Error),
}

fn unreachable(why: &str) -> Trouble {
    let help = "start one with `landfall serve`, or name its hooks.yaml with --config";
    Trouble::new(Exit::Unreachable, format!("{why}\n{help}"))
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

/// The sockets at which the daemon may be, the likeliest first.
fn sockets_of(reach: &Reach) -> Result<Vec<PathBuf>, Trouble> {
    if let Some(socket) = &reach.socket {
        return Ok(vec![socket.clone()]);
    }
    // Where there is no hooks.yaml any more, its daemon may go on beside it.
    let config = config_of(reach.config.as_deref()).unwrap_or_else(|| PathBuf::from(CONFIGS[0]));
    let state = state_of(&config, reach.config.is_some())?;
    let mut sockets: Vec<PathBuf> = state.iter().map(|it| it.join(FILE_NAME)).collect();
    // Who names another file means another daemon.
    if reach.config.as_deref().is_none_or(|it| it == Path::new(PACKAGED_CONFIG)) {
        sockets.push(PACKAGED_SOCKET.into());
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::net::UnixListener, path::PathBuf};

    use axum::{Json, Router, routing::get};
    use tokio::runtime;
    use tokio_util::sync::CancellationToken;

    use super::{Client, Exit, FILE_NAME};
    use crate::web::socket;

    #[test]
    fn where_nobody_listens_at_a_socket_the_next_one_is_tried() {
        let [stale, live] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        drop(UnixListener::bind(stale.path().join(FILE_NAME)).expect("a socket"));
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let router = Router::new().route("/v1/where", get(async || Json("here")));
        let serving = async {
            let socket = socket::bind(live.path(), None).expect("a socket");
            socket::serve(socket, router, CancellationToken::new()).await;
        };
        let sockets = [&stale, &live].map(|it| it.path().join(FILE_NAME)).to_vec();
        std::thread::scope(|scope| {
            let stop = CancellationToken::new();
            let stopped = stop.clone();
            scope.spawn(move || {
                runtime.block_on(async {
                    tokio::select! { () = serving => (), () = stopped.cancelled() => () }
                });
            });
            let client = Client::at(sockets).expect("a client");
            let answer: Result<String, _> = client.get_patiently("/v1/where", None);
            stop.cancel();
            assert_eq!(answer.map_err(|it| it.message), Ok("here".to_owned()));
        });
    }

    #[test]
    fn all_places_that_were_looked_at_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        File::create(folder.path().join("plain")).expect("a file");
        let sockets: Vec<PathBuf> = ["plain", "none"].iter().map(|it| folder.path().join(it)).collect();
        let trouble = Client::at(sockets).expect("a client").get::<String>("/v1/where").expect_err("nobody");
        assert_eq!(trouble.exit, Exit::Unreachable);
        let said = trouble.message;
        assert!(said.contains("no daemon is running") && said.contains("/plain") && said.contains("/none"), "{said}");
    }
}
