//! Keeps what this process knows from other processes of the same user.
//!
//! Scripts of a daemon that is not root run as its own user, and so do its keepers and git work. Without this, each of them
//! could read in `/proc` the memory, the environment and the descriptors of all others, with the secrets of every hook.
//!
//! Invariant: what is hidden here from others stays as it was for this process itself.

use std::{env, fs, io};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Lets nobody but root look into this process: its memory, environment and descriptors (prctl(2), `PR_SET_DUMPABLE`). It
/// leaves no core file either. Programs that it starts begin anew; so whatever this program is asked to do, `main` calls this first of all.
pub fn hide() {
    // It is refused to nobody. Were it, the run would be no less right for that.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Empties the block of memory that `/proc/PID/environ` shows. Variables keep their values for this process, elsewhere.
///
/// For the very beginning of a process, while it has one thread.
pub fn empty_environment_block() -> io::Result<()> {
    let (start, end) = environment_block()?;
    for (name, value) in env::vars_os() {
        // SAFETY: there is one thread, so nobody reads the environment meanwhile. It puts a copy in the place of a value
        // that lies in the block.
        #[expect(unsafe_code, reason = "only a copy lets the original be emptied")]
        unsafe {
            env::set_var(name, value);
        }
    }
    // SAFETY: the kernel says that these bytes are the strings of the environment, on the stack of this process, writable
    // for ever; and every one of them has just been replaced, so nobody refers to one any more.
    #[expect(unsafe_code, reason = "the kernel shows others this very memory")]
    unsafe {
        std::ptr::write_bytes(std::ptr::with_exposed_provenance_mut::<u8>(start), 0, end.saturating_sub(start));
    }
    Ok(())
}

/// Where the strings of the environment are: `env_start` and `env_end` of proc_pid_stat(5).
fn environment_block() -> io::Result<(usize, usize)> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    // The first after the name is the third of all.
    let mut fields = fields.skip(50 - 3).map(str::parse);
    match (fields.next(), fields.next()) {
        (Some(Ok(start)), Some(Ok(end))) if start != 0 && start <= end => Ok((start, end)),
        _ => Err(io::Error::other("the kernel does not say where the environment is")),
    }
}
