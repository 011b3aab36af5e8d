//! Forks a child into a control group, and makes it a program.
//!
//! A process that is moved into a group after its fork waits for it: the kernel lets all processors come to rest
//! first, which takes ten milliseconds and more. One that is forked into a group is there at once (clone(2),
//! `CLONE_INTO_CGROUP`). Not everywhere may it be asked for: a container's filter may know no `clone3`.
//!
//! Invariant: between fork and exec the child makes system calls only. It takes no lock and allocates nothing, since
//! another thread may have held the allocator's lock when it was forked.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, OsStr, OsString, c_char},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    ptr,
};

use nix::{errno::Errno, libc, sys::wait::waitpid, unistd::Pid};
use rustix::pipe::{PipeFlags, pipe_with};

/// Where a program is looked for if its environment has no `PATH`, as execvp(3) has it.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// As in `linux/sched.h`; that of the libc crate does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A program that is ready to be started.
pub(super) struct Program {
    /// Where it may be, in this order.
    places: Vec<CString>,
    argv: Strings,
    env: Strings,
}

impl Program {
    /// The program with these arguments, of which the first is its name, and this environment.
    pub(super) fn new(argv: &[OsString], env: &BTreeMap<OsString, OsString>) -> io::Result<Self> {
        let name = argv.first().ok_or_else(|| io::Error::other("there is no program"))?;
        let places = if name.as_bytes().contains(&b'/') {
            vec![CString::new(name.as_bytes())?]
        } else {
            let path = env.get(OsStr::new("PATH")).map_or(DEFAULT_PATH.as_bytes(), |it| it.as_bytes());
            let place =
                |folder: &[u8]| CString::new(Path::new(OsStr::from_bytes(folder)).join(name).as_os_str().as_bytes());
            path.split(|it| *it == b':').map(place).collect::<Result<_, _>>()?
        };
        let argv = argv.iter().map(|it| CString::new(it.as_bytes()));
        let env = env.iter().map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()));
        Ok(Self { places, argv: Strings::new(argv)?, env: Strings::new(env)? })
    }

    /// Becomes it; comes back only with an error.
    fn exec(&self) -> Errno {
        let mut worst = Errno::ENOENT;
        for place in &self.places {
            // SAFETY: all three are, or end with, what execve(2) expects, and live until it returns.
            #[expect(unsafe_code, reason = "nix's own allocates, which a forked child may not")]
            unsafe {
                libc::execve(place.as_ptr(), self.argv.pointers.as_ptr(), self.env.pointers.as_ptr());
            }
            match Errno::last() {
                Errno::ENOENT | Errno::ENOTDIR => (),
                Errno::EACCES => worst = Errno::EACCES,
                // An enum of another crate: all else means that it is there and cannot be started.
                errno => return errno,
            }
        }
        worst
    }
}

/// Strings, and the list of their addresses that ends with none.
struct Strings {
    _texts: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    fn new(texts: impl Iterator<Item = Result<CString, std::ffi::NulError>>) -> io::Result<Self> {
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let pointers = texts.iter().map(|it| CStr::as_ptr(it)).chain([ptr::null()]).collect();
        Ok(Self { _texts: texts, pointers })
    }
}

/// Forks into the group with this folder; the child has these three as its standard descriptors, does what it has to
/// do in order to become who it is, and becomes the program. `None`: the kernel does not fork into a group here.
pub(super) fn fork_into(
    group: BorrowedFd<'_>,
    program: &Program,
    stdio: [BorrowedFd<'_>; 3],
    become_it: &mut impl FnMut() -> io::Result<()>,
) -> io::Result<Option<i32>> {
    let (said, says) = pipe_with(PipeFlags::CLOEXEC)?;
    match clone_into(group) {
        Err(_) => Ok(None),
        Ok(0) => {
            let errno = stand_up(stdio, become_it).err().unwrap_or_else(|| program.exec());
            let _ = rustix::io::write(&says, &(errno as i32).to_ne_bytes());
            // SAFETY: it ends this process and nothing else; what the parent has open or has not written stays as it is.
            #[expect(unsafe_code, reason = "std's own runs what the parent wanted done at its end")]
            unsafe {
                libc::_exit(127)
            }
        }
        Ok(pid) => {
            drop(says);
            hear(&said, pid).map(|()| Some(pid))
        }
    }
}

/// The child's number, or 0 in the child.
fn clone_into(group: BorrowedFd<'_>) -> Result<i32, Errno> {
    let args = libc::clone_args {
        flags: CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: group.as_raw_fd() as u64,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
    };
    // SAFETY: without `CLONE_VM` the child is a copy of this process with this thread alone, as after fork(2). It goes on
    // in `fork_into`, which allocates nothing and leaves by exec or `_exit`.
    #[expect(unsafe_code, reason = "only clone3(2) forks into a control group, and nobody wraps it")]
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    Errno::result(pid).map(|it| i32::try_from(it).unwrap_or(i32::MAX))
}

/// What the child does before it is the program.
fn stand_up(
    [stdin, stdout, stderr]: [BorrowedFd<'_>; 3],
    become_it: &mut impl FnMut() -> io::Result<()>,
) -> Result<(), Errno> {
    let named = |err: rustix::io::Errno| Errno::from_raw(err.raw_os_error());
    rustix::stdio::dup2_stdin(stdin).map_err(named)?;
    rustix::stdio::dup2_stdout(stdout).map_err(named)?;
    rustix::stdio::dup2_stderr(stderr).map_err(named)?;
    become_it().map_err(|err| Errno::from_raw(err.raw_os_error().unwrap_or(libc::EINVAL)))
}

/// Waits until the child is the program, or says why it is not.
fn hear(said: &OwnedFd, pid: i32) -> io::Result<()> {
    let mut errno = [0; 4];
    match rustix::io::retry_on_intr(|| rustix::io::read(said, &mut errno))? {
        0 => Ok(()),
        _ => {
            // Whoever reaps children here may have been quicker.
            let _ = waitpid(Pid::from_raw(pid), None);
            Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        fs::File,
        io::{self, ErrorKind, Read},
        os::fd::AsFd,
    };

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::{Program, fork_into};
    use crate::{
        journal::spec::RunToken,
        keeper::cgroup::{Cgroup, probe},
        model::limits::RunLimits,
    };

    /// What the program prints, started in a group of its own; `None` where none can be had.
    fn printed(group: &Cgroup, argv: &[&str], path: &str) -> io::Result<Option<String>> {
        let argv: Vec<_> = argv.iter().map(|it| (*it).into()).collect();
        let program = Program::new(&argv, &BTreeMap::from([("PATH".into(), path.into())]))?;
        let (output, printed) = pipe_with(PipeFlags::CLOEXEC)?;
        let (folder, null) = (group.open()?, File::open("/dev/null")?);
        let stdio = [null.as_fd(), printed.as_fd(), printed.as_fd()];
        let Some(pid) = fork_into(folder.as_fd(), &program, stdio, &mut || Ok(()))? else { return Ok(None) };
        drop(printed);
        let mut text = String::new();
        File::from(output).read_to_string(&mut text)?;
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None)?;
        Ok(Some(text))
    }

    #[test]
    fn a_child_is_in_its_group_from_its_first_instruction_or_says_why_not() {
        if let Err(why) = probe() {
            return println!("SKIPPED, {why}: a_child_is_in_its_group_from_its_first_instruction_or_says_why_not");
        }
        let token = RunToken::random().expect("random");
        let (group, _) = Cgroup::make(&token, RunLimits::default()).expect("a group");
        match printed(&group, &["cat", "/proc/self/cgroup"], "/no/such/folder:/usr/bin:/bin").expect("a child") {
            Some(text) => assert!(text.contains(&format!("/landfall-{}", token.as_str())), "{text}"),
            None => println!("SKIPPED, this kernel forks into no group: a_child_is_in_its_group"),
        }
        for (name, kind) in [("no-such-program", ErrorKind::NotFound), ("/etc/passwd", ErrorKind::PermissionDenied)] {
            match printed(&group, &[name], "/usr/bin:/bin") {
                Err(err) => assert_eq!(err.kind(), kind, "{name}: {err}"),
                Ok(text) => assert_eq!(text, None, "{name}"),
            }
        }
        assert!(group.remove().expect("removed"), "nobody is left");
    }
}
