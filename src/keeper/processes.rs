//! Processes of this machine: who is whose child, and signals that reach exactly the process they are meant for.
//!
//! Invariant: a signal goes through a pidfd whose process was seen to be the one meant, never to a bare number.

use std::{
    collections::HashSet,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// A process, as it was when it was looked at. Number and start together name it for ever (within one boot).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's number.
    pub parent: i32,
    /// When it was started, in clock ticks since boot.
    pub start: u64,
    /// Whether it has ended and only waits for its parent to notice.
    pub is_dead: bool,
    /// The name of its program.
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{}` ({})", self.name, self.pid)
    }
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// It arrived.
    Yes,
    /// The process had ended.
    Gone,
    /// The process belongs to somebody we may not signal.
    Refused,
}

impl Process {
    /// This process of the machine, if there is one of that number.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = fs::read(folder(pid).join("stat")).ok()?;
        parse(pid, &String::from_utf8_lossy(&stat))
    }

    /// Its folder in `/proc`.
    pub fn folder(&self) -> PathBuf {
        folder(self.pid)
    }

    /// Sends it a signal, and to no other process that may have got its number since.
    pub fn signal(&self, signal: Signal) -> Signalled {
        let Some(pid) = Pid::from_raw(self.pid) else { return Signalled::Gone };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Signalled::Gone,
            Err(_) => return Signalled::Refused,
        };
        if Self::find(self.pid).is_none_or(|now| now.start != self.start) {
            return Signalled::Gone;
        }
        match pidfd_send_signal(&pidfd, signal) {
            Ok(()) => Signalled::Yes,
            Err(Errno::SRCH) => Signalled::Gone,
            Err(_) => Signalled::Refused,
        }
    }
}

/// All processes of the machine that we can see.
pub fn all() -> io::Result<Vec<Process>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|it| it.parse().ok()) else { continue };
        processes.extend(Process::find(pid));
    }
    Ok(processes)
}

/// The living processes below this one (its children, their children, and so on), and those of these numbers.
pub fn living_among(root: i32, numbers: &[i32]) -> io::Result<Vec<Process>> {
    let processes = all()?;
    let below: HashSet<i32> = descendants(&processes, &[root]).iter().map(|it| it.pid).collect();
    let is_meant = |it: &Process| !it.is_dead && (below.contains(&it.pid) || numbers.contains(&it.pid));
    Ok(processes.into_iter().filter(is_meant).collect())
}

/// Those processes that are below one of the roots, dead ones too. The roots are not among them.
pub fn descendants(processes: &[Process], roots: &[i32]) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut parents = roots.to_vec();
    while !parents.is_empty() {
        let is_new = |it: &&Process| {
            parents.contains(&it.parent) && !roots.contains(&it.pid) && found.iter().all(|old| old.pid != it.pid)
        };
        let children: Vec<Process> = processes.iter().filter(is_new).cloned().collect();
        parents = children.iter().map(|it| it.pid).collect();
        found.extend(children);
    }
    found
}

/// The names of processes, for people; many of them are only counted.
pub fn names(processes: &[Process]) -> String {
    const NAMED_MAX: usize = 10;
    let mut text = processes.iter().take(NAMED_MAX).map(Process::to_string).collect::<Vec<_>>().join(", ");
    if processes.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", processes.len() - NAMED_MAX));
    }
    text
}

fn folder(pid: i32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// Reads a line of `/proc/<pid>/stat`; see proc_pid_stat(5). The name may hold blanks and parentheses itself.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let (name_from, name_to) = (stat.find('(')? + 1, stat.rfind(')')?);
    let mut rest = stat.get(name_to + 1..)?.split_ascii_whitespace();
    let state = rest.next()?;
    let parent = rest.next()?.parse().ok()?;
    let start = rest.nth(17)?.parse().ok()?;
    let name = stat.get(name_from..name_to)?.to_owned();
    Some(Process { pid, parent, start, is_dead: matches!(state, "Z" | "X"), name })
}

#[cfg(test)]
mod tests {
    use super::{Process, Signalled, descendants, parse};

    fn process(pid: i32, parent: i32) -> Process {
        Process { pid, parent, start: 1, is_dead: false, name: "x".into() }
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_reading() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 0 0";
        let it = parse(42, stat).expect("a process");
        assert_eq!((it.parent, it.start, it.is_dead, it.name.as_str()), (7, 987_654, false, "a) b (c"));
        assert_eq!(parse(1, ""), None);
    }

    #[test]
    fn everything_below_a_process_is_found_and_nothing_else() {
        let processes = [process(5, 4), process(2, 1), process(3, 2), process(4, 3), process(9, 8)];
        let pids: Vec<_> = descendants(&processes, &[2]).iter().map(|it| it.pid).collect();
        assert_eq!(pids, [3, 4, 5]);
    }

    #[test]
    fn a_signal_never_reaches_another_process_of_the_same_number() {
        let own = i32::try_from(std::process::id()).expect("a process number");
        let mut earlier = Process::find(own).expect("own process");
        earlier.start -= 1;
        // Were it sent, it would end this test.
        assert_eq!(earlier.signal(rustix::process::Signal::KILL), Signalled::Gone);
    }
}
