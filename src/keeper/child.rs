//! Starts a child of the keeper: a script's shell, or git work.
//!
//! A child has a session of its own, the user it is meant for, fresh signals, umask 022, nothing on its standard input
//! but what it is given, and one pipe for what it prints, so that standard output and error keep their order.
//!
//! Invariant: between fork and exec only calls are made that are safe there; everything is prepared before. A child is in
//! the run's control group, where there is one, before it is anything else.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsString},
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::Path,
    process::Command,
    rc::Rc,
};

use nix::{
    sys::{
        signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask},
        stat::{Mode, umask},
    },
    unistd::{chdir, setsid},
};
use rustix::{
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    process::{Pid, PidfdFlags, pidfd_open},
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::unix::pipe,
};

use crate::{
    journal::spec::RunToken,
    keeper::{
        cgroup::Cgroup,
        fork::{Program, fork_into},
    },
    process::{errand::OWN_PROGRAM, user::Account},
};

/// What a script may print before it has to wait for us. The most the kernel gives to any user.
const PIPE_BYTES: usize = 1024 * 1024;

/// What is to be started. No `Debug`: the environment holds secrets.
pub struct Plan<'a> {
    /// The program and its arguments; never empty.
    pub argv: Vec<OsString>,
    /// Where it runs.
    pub cwd: &'a Path,
    /// Its whole environment.
    pub env: BTreeMap<OsString, OsString>,
    /// Who it runs as.
    pub account: &'a Account,
    /// What it reads; without it, it reads nothing and all it prints goes to the log. With it, its standard output
    /// is an answer and only its standard error goes to the log.
    pub order: Option<String>,
}

/// A child that was started.
#[derive(Debug)]
pub struct Child {
    /// Its number.
    pub pid: i32,
    /// Readable when it has ended.
    pub ended: AsyncFd<OwnedFd>,
    /// What it prints.
    pub output: pipe::Receiver,
    /// What it answers, if it was given an order.
    pub answer: Option<pipe::Receiver>,
    /// The control group that it is in, with all it starts.
    pub group: Option<Rc<Cgroup>>,
}

/// The command line of an errand. It names its run by a mark, as its environment can be read by nobody.
pub fn errand_argv(errand: &str, token: &RunToken) -> Vec<OsString> {
    vec![OWN_PROGRAM.into(), errand.into(), errand_mark(token).into()]
}

/// What an errand says of its run: nothing that helps anybody to pretend to be of it.
pub fn errand_mark(token: &RunToken) -> String {
    hex::encode(&Sha256::digest(token.as_str().as_bytes())[..12])
}

/// Starts it, in this control group. The error is a sentence.
pub fn start(plan: Plan<'_>, group: Option<&Rc<Cgroup>>) -> Result<Child, String> {
    let program = plan.argv.first().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
    let whereabouts = format!("`{program}` in `{}` as `{}`", plan.cwd.display(), plan.account.name);
    try_start(plan, group).map_err(|err| format!("cannot start {whereabouts}: {err}"))
}

fn try_start(plan: Plan<'_>, group: Option<&Rc<Cgroup>>) -> io::Result<Child> {
    let (output, printed) = pipe_with(PipeFlags::CLOEXEC)?;
    // Smaller where the system's allowance is used up; that only costs speed.
    let _ = fcntl_setpipe_size(&printed, PIPE_BYTES);
    let (stdin, to_stdin, stdout, answer) = if plan.order.is_some() {
        let (stdin, to_stdin) = pipe_with(PipeFlags::CLOEXEC)?;
        let (answer, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        (stdin, Some(File::from(to_stdin)), stdout, Some(pipe::Receiver::from_owned_fd(answer)?))
    } else {
        (File::open("/dev/null")?.into(), None, printed.try_clone()?, None)
    };
    let raw = fork(&plan, [stdin, stdout, printed], group)?;
    let pid = Pid::from_raw(raw).ok_or_else(|| io::Error::other("the child has no number"))?;
    if let (Some(order), Some(mut to_stdin)) = (plan.order, to_stdin) {
        // A child that ends without reading says why by itself.
        let _ = to_stdin.write_all(order.as_bytes());
    }
    // It is reaped by its family.
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    // SAFETY: an owned descriptor stays the same and open until it is dropped, together with its registration.
    #[allow(unsafe_code)]
    let ended = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE)? };
    Ok(Child { pid: raw, ended, output: pipe::Receiver::from_owned_fd(output)?, answer, group: group.cloned() })
}

/// Forks it into its group, or, where the kernel does not do that, forks it and lets it go there. These are its standard
/// descriptors. Gives its number.
fn fork(plan: &Plan<'_>, [stdin, stdout, stderr]: [OwnedFd; 3], group: Option<&Rc<Cgroup>>) -> io::Result<i32> {
    if let Some(group) = group {
        let folder = group.open()?;
        let program = Program::new(&plan.argv, &plan.env)?;
        let stdio = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        if let Some(pid) = fork_into(folder.as_fd(), &program, stdio, &mut becoming(plan.account, plan.cwd, None)?)? {
            return Ok(pid);
        }
    }
    let mut command = Command::new(&plan.argv[0]);
    command.args(&plan.argv[1..]).env_clear().envs(&plan.env);
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    let become_it = becoming(plan.account, plan.cwd, group.map(|it| it.door()).transpose()?)?;
    // SAFETY: the closure makes system calls only: it takes no lock, and allocates and frees nothing.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(become_it);
    }
    i32::try_from(command.spawn()?.id()).map_err(io::Error::other)
}

/// What the child does between fork and exec.
fn becoming(
    account: &Account,
    cwd: &Path,
    door: Option<OwnedFd>,
) -> io::Result<impl FnMut() -> io::Result<()> + Send + Sync + 'static> {
    let cwd = CString::new(cwd.as_os_str().as_bytes())?;
    let assume = account.assume();
    Ok(move || {
        // First, and as who we are: where the group is gone, its run is over, and so is this child.
        if let Some(door) = &door {
            rustix::io::write(door, Cgroup::MYSELF)?;
        }
        setsid()?;
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        for signal in Signal::iterator().filter(|it| !matches!(it, Signal::SIGKILL | Signal::SIGSTOP)) {
            // SAFETY: the default handler is no code of ours.
            #[allow(unsafe_code)]
            unsafe {
                sigaction(signal, &default)?;
            }
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        umask(Mode::from_bits_truncate(0o022));
        assume()?;
        chdir(cwd.as_c_str())?;
        Ok(())
    })
}
