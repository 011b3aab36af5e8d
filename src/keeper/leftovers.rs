//! Finds and ends what a keeper left behind that was itself killed.
//!
//! With the keeper gone its children belong to somebody else, so they are found in the run's control group, by the run
//! token in their environment, and by being below such a process.
//!
//! Invariant: `Ok` means that nothing of the run is left.

use std::{
    collections::HashSet,
    fs, io,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use thiserror::Error;

use crate::{
    journal::{entries::Begin, spec::RunToken},
    keeper::{
        cgroup::Cgroup,
        child::errand_mark,
        identity,
        processes::{self, Process, Signalled, descendants},
    },
    process::errand::OWN_PROGRAM,
};

/// How long after KILL everything must be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something of a run is left, or may be, and could not be ended: its lane must stand still.
#[derive(Debug, Error)]
pub enum Leftover {
    /// The processes of this machine cannot be listed.
    #[error("cannot look for processes that the run left behind: {0}")]
    Unseen(#[from] io::Error),
    /// It is not known whether these belong to the run.
    #[error("cannot tell whether {0} belongs to the run: its environment cannot be read")]
    Unknown(String),
    /// These belong to the run and do not end.
    #[error("cannot end {0}, which the run left behind")]
    Stays(String),
}

/// Ends every process of the run whose keeper died: TERM, the grace, then KILL. Returns the names of those it ended.
///
/// Blocks for up to the grace and a few seconds. A machine that was started anew since has nothing left of the run.
/// Where the run had no control group, programs that overwrite their own environment are found only while they are below
/// one that does not.
pub fn end_leftovers(token: &RunToken, keeper: &Begin, grace: Duration) -> Result<Vec<String>, Leftover> {
    if identity::boot_id()? != keeper.boot_id {
        return Ok(Vec::new());
    }
    let group = keeper.cgroup.as_deref().map(Cgroup::at);
    let term_until = Instant::now() + grace;
    let kill_until = term_until + PATIENCE;
    let mut told: HashSet<(i32, u64)> = HashSet::new();
    let mut names = Vec::new();
    let mut is_quiet = false;
    loop {
        let found = find(token, keeper, group.as_ref())?;
        // Looked at twice: who forks and ends while we look may be missed once.
        if found.ours.is_empty() && !is_quiet {
            is_quiet = true;
            continue;
        }
        if found.ours.is_empty() && is_removed(group.as_ref())? {
            return if found.unknown.is_empty() {
                Ok(names)
            } else {
                Err(Leftover::Unknown(processes::names(&found.unknown)))
            };
        }
        is_quiet = false;
        // Who is in the group and cannot be seen, as from within a namespace, can only be ended with all the others.
        let is_late = Instant::now() >= term_until || found.ours.is_empty();
        if let Some(group) = group.as_ref().filter(|_| is_late) {
            group.kill()?;
        }
        let staying = tell(found.ours, is_late, &mut told, &mut names);
        if Instant::now() >= kill_until {
            return Err(Leftover::Stays(stay(&staying, group.as_ref())));
        }
        sleep(Duration::from_millis(20));
    }
}

/// Whether the run has no control group any more. A child that its keeper was starting when it died is not in it yet, and
/// never begins once it is gone.
fn is_removed(group: Option<&Cgroup>) -> io::Result<bool> {
    group.map_or(Ok(true), Cgroup::remove)
}

/// TERM for those who are new, KILL for all when it is late. Returns those who may stay all the same.
fn tell(ours: Vec<Process>, is_late: bool, told: &mut HashSet<(i32, u64)>, names: &mut Vec<String>) -> Vec<Process> {
    let mut staying = Vec::new();
    for process in ours {
        let is_new = told.insert((process.pid, process.start));
        if is_new {
            names.push(process.to_string());
        }
        let signalled = match (is_late, is_new) {
            (true, _) => process.signal(Signal::KILL),
            (false, true) => process.signal(Signal::TERM),
            (false, false) => Signalled::Yes,
        };
        if is_late || signalled == Signalled::Refused {
            staying.push(process);
        }
    }
    staying
}

/// Who stays, for people.
fn stay(staying: &[Process], group: Option<&Cgroup>) -> String {
    match group {
        Some(group) if staying.is_empty() => format!("somebody in `{}`", group.folder().display()),
        Some(_) | None => processes::names(staying),
    }
}

struct Found {
    ours: Vec<Process>,
    /// Those that may be ours; nobody can say.
    unknown: Vec<Process>,
}

fn find(token: &RunToken, keeper: &Begin, group: Option<&Cgroup>) -> Result<Found, Leftover> {
    let mark = format!("{}={}", RunToken::VARIABLE, token.as_str()).into_bytes();
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let everyone = processes::all()?;
    let members = group.map(Cgroup::members).unwrap_or_default();
    // Whatever the keeper started was started after it, and so was what they started.
    let later: Vec<Process> = everyone
        .iter()
        .filter(|it| it.start >= keeper.process_start && !it.is_dead && it.pid != own)
        .cloned()
        .collect();
    let (mut ours, mut unknown) = (Vec::new(), Vec::new());
    for process in later {
        if members.contains(&process.pid) {
            ours.push(process);
            continue;
        }
        match fs::read(process.folder().join("environ")) {
            Ok(environ) if environ.split(|it| *it == 0).any(|it| it == mark) => ours.push(process),
            Ok(_) => (),
            Err(err) if is_gone(&err) => (),
            Err(_) => match errand_of(&process) {
                Some(Errand::OfRun(it)) if it == errand_mark(token).as_bytes() => ours.push(process),
                Some(Errand::OfRun(_) | Errand::Keeper) => (),
                None => unknown.push(process),
            },
        }
    }
    let roots: Vec<i32> = ours.iter().map(|it| it.pid).collect();
    let below = descendants(&everyone, &roots);
    // Of a run that has a group, whoever is outside of it and shows no token is a stranger.
    unknown.retain(|it| group.is_none() && !below.contains(it) && may_be_ours(it, &everyone, keeper));
    ours.extend(below.into_iter().filter(|it| !it.is_dead));
    Ok(Found { ours, unknown })
}

/// A process of ours, which shows its environment to nobody (`process/hidden.rs`).
enum Errand {
    /// What a keeper has started, with the mark of its run.
    OfRun(Vec<u8>),
    /// A keeper; that of the run is dead.
    Keeper,
}

/// What a process of ours is doing, by its command line, which everybody may read.
fn errand_of(process: &Process) -> Option<Errand> {
    let line = fs::read(process.folder().join("cmdline")).ok()?;
    let mut parts = line.split(|it| *it == 0);
    if parts.next() != Some(OWN_PROGRAM.as_bytes()) {
        return None;
    }
    match (parts.next()?, parts.next()?) {
        (b"keeper", _) => Some(Errand::Keeper),
        (b"git-work" | b"release-work", mark) => Some(Errand::OfRun(mark.to_owned())),
        _ => None,
    }
}

fn is_gone(err: &io::Error) -> bool {
    // ESRCH: the process ended between opening and reading.
    err.kind() == io::ErrorKind::NotFound || err.raw_os_error() == Some(nix::libc::ESRCH)
}

/// Whether a process whose environment cannot be read may belong to the run: it has fallen to somebody who takes in
/// orphans, and it is in our own control group, which a process leaves only with help from above.
fn may_be_ours(process: &Process, everyone: &[Process], keeper: &Begin) -> bool {
    let find = |pid: i32| everyone.iter().find(|it| it.pid == pid);
    let mut eldest = process;
    while let Some(parent) = find(eldest.parent).filter(|it| it.start >= keeper.process_start) {
        eldest = parent;
    }
    // Still below somebody older than the keeper who does not take in orphans: of another family.
    let is_orphan = find(eldest.parent).is_none_or(|it| it.pid == 1 || it.name.starts_with("systemd"));
    let cgroup = |folder: &Path| fs::read_to_string(folder.join("cgroup")).ok();
    is_orphan && cgroup(&process.folder()).is_none_or(|it| Some(it) == cgroup(Path::new("/proc/self")))
}
