//! A daemon of the release binary, with a folder of its own.
//!
//! Invariant: it is ended with the value that stands for it, and so is what it left to its keepers to do.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use landfall::{
    journal::{folder::RunDir, progress},
    model::run::RunId,
};
use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_landfall");

/// The secret of every hook and source.
pub const SECRET: &str = "a secret that nobody guesses";

/// Nothing here takes longer, unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon, and when it was started and answered first.
pub struct Daemon {
    child: Child,
    /// Where clients find it.
    socket: PathBuf,
    /// Its public listener.
    pub address: SocketAddr,
    /// From just before the start of its process until `/healthz` was answered.
    pub ready_after: Duration,
}

impl Daemon {
    /// Writes hooks.yaml into the folder, with a `server` of these further keys, and starts the daemon on it.
    pub fn start(folder: &Path, server: &str, hooks: &str) -> Result<Self> {
        let mut command = Command::new(PROGRAM);
        command.arg("serve");
        Self::run(command, folder, server, hooks)
    }

    /// The same without a store.
    pub fn start_storeless(folder: &Path, server: &str, hooks: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--storeless", "."]);
        Self::run(command, folder, server, hooks)
    }

    fn run(mut command: Command, folder: &Path, server: &str, hooks: &str) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let comma = if server.is_empty() { "" } else { ", " };
        let text = format!("server: {{listen: \"{address}\", grace: 0s{comma}{server}}}\n{hooks}");
        fs::write(folder.join("hooks.yaml"), text)?;
        // Not beside hooks.yaml: the daemon is told of every change in that folder.
        let log_path = folder.join("log/daemon.log");
        fs::create_dir_all(folder.join("log"))?;
        let log = File::options().create(true).append(true).open(&log_path)?;
        command.current_dir(folder).env("SECRET", SECRET).stdin(Stdio::null()).stderr(log);
        let started_at = Instant::now();
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let mut daemon =
            Self { child, socket: folder.join(".landfall/landfall.sock"), address, ready_after: Duration::ZERO };
        while !is_healthy(address) {
            if daemon.child.try_wait()?.is_some() || started_at.elapsed() > PATIENCE {
                bail!("the daemon did not start: {}", fs::read_to_string(&log_path)?);
            }
            sleep(Duration::from_micros(200));
        }
        daemon.ready_after = started_at.elapsed();
        Ok(daemon)
    }

    /// Asks what the command line asks, over the socket, and gives the time until the whole answer was there.
    pub fn ask(&self, path: &str) -> Result<Duration> {
        let begin = Instant::now();
        let mut stream = UnixStream::connect(&self.socket)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let took = begin.elapsed();
        if answer.get(9..12) != Some(b"200") {
            bail!("not 200: {}", String::from_utf8_lossy(&answer));
        }
        Ok(took)
    }

    /// What of it is in memory now.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.status_line("VmRSS:")
    }

    /// The most that has been in memory since [`Self::forget_peak`].
    pub fn peak_bytes(&self) -> Result<u64> {
        self.status_line("VmHWM:")
    }

    /// Begins a new peak. <https://docs.kernel.org/filesystems/proc.html>, `clear_refs`
    pub fn forget_peak(&self) -> Result<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    fn status_line(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|it| it.strip_prefix(name)).context("a line of /proc/PID/status")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        // It may have ended by itself; then there is nobody to ask and nothing to wait for.
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn is_healthy(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer.ends_with(b"200"))
    };
    ask().unwrap_or(false)
}

/// Waits until a run has ended, as its journal tells.
pub fn wait_for_end(state: &Path, run: RunId) -> Result<()> {
    let folder = RunDir::of(state, run);
    let begin = Instant::now();
    while progress::read(&folder)?.end.is_none() {
        if begin.elapsed() > PATIENCE {
            bail!("run {run} does not end: see {}", folder.path().display());
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A pipe with a name, through which a script and the bench meet.
pub struct Fifo {
    /// Where it is.
    pub path: PathBuf,
    file: File,
}

impl Fifo {
    /// Makes one that the bench reads. Opened for both, so that it neither waits for a script nor ever ends.
    pub fn to_read(path: PathBuf) -> Result<Self> {
        mkfifo(&path, Mode::S_IRWXU)?;
        let file = File::options().read(true).write(true).open(&path)?;
        Ok(Self { path, file })
    }

    /// Waits for the next byte that a script writes, and gives the time at which it came.
    pub fn heard(&self) -> Result<Instant> {
        let mut fds = [rustix::event::PollFd::new(&self.file, rustix::event::PollFlags::IN)];
        let patience = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
        if rustix::event::poll(&mut fds, Some(&patience))? == 0 {
            bail!("no script has written to {}", self.path.display());
        }
        let at = Instant::now();
        (&self.file).read_exact(&mut [0])?;
        Ok(at)
    }
}

/// A run that goes on for as long as this is held: its script reads from a pipe to which nobody writes.
pub struct Blocker {
    held: Option<File>,
    state: PathBuf,
    run: RunId,
}

impl Blocker {
    /// The step of such a hook; makes the pipe.
    pub fn step(fifo: &Path) -> Result<String> {
        mkfifo(fifo, Mode::S_IRWXU)?;
        Ok(format!("read never < {}", fifo.display()))
    }

    /// Waits until its script reads. It is that run of the daemon on `state`.
    pub fn hold(fifo: &Path, state: &Path, run: RunId) -> Result<Self> {
        let begin = Instant::now();
        loop {
            match File::options().write(true).custom_flags(nix::libc::O_NONBLOCK).open(fifo) {
                Ok(file) => return Ok(Self { held: Some(file), state: state.to_owned(), run }),
                Err(err) if err.raw_os_error() == Some(nix::libc::ENXIO) && begin.elapsed() < PATIENCE => (),
                Err(err) if err.kind() == ErrorKind::Interrupted => (),
                Err(err) => return Err(err).context("wait for the run that holds the workers"),
            }
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Blocker {
    fn drop(&mut self) {
        self.held = None;
        if let Err(err) = wait_for_end(&self.state, self.run) {
            eprintln!("{err:#}");
        }
    }
}
