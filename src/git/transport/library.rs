//! libgit2's process-wide settings: our transports, and whose repositories it opens.
//!
//! Invariant: settled once per process, before the first repository is opened.

use std::{cell::RefCell, fs, sync::OnceLock};

use git2::{Error, transport::Transport};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::{child_stream::ByChild, https::Https, journey::Journey, local, ssh};
use crate::git::{Cause, GitFailure};

/// How much of a pack is mapped at once, and of all packs together: more is never needed for one object, and a pack of
/// gigabytes would else be in memory whole, as far as anybody can tell from outside.
const WINDOW_BYTES: usize = 32 << 20;
const WINDOWS_BYTES_MAX: usize = 512 << 20;

thread_local! {
    /// The journey under way on this thread. libgit2's registry of transports is process-wide and takes no argument of
    /// ours; it makes a transport on the thread that connects.
    static UNDER_WAY: RefCell<Option<Journey>> = const { RefCell::new(None) };
}

/// Does `work`, whose connections are made as `journey` says.
pub(in crate::git) fn travel<T>(journey: &Journey, work: impl FnOnce() -> T) -> T {
    UNDER_WAY.set(Some(journey.clone()));
    let result = work();
    UNDER_WAY.set(None);
    result
}

/// Lets this process, and what it starts, have half of the machine's memory for data of their own: libgit2 takes a
/// commit, a folder, or what is stored as a difference whole, and a remote may say that one has any size.
pub(in crate::git) fn limit_memory() {
    let Some(total) = memory_bytes() else { return };
    let mut limit = getrlimit(Resource::Data);
    limit.current = Some(limit.current.map_or(total / 2, |it| it.min(total / 2)));
    // Where it cannot be set, everything works as before.
    let _ = setrlimit(Resource::Data, limit);
}

/// The memory of this machine (proc_meminfo(5)).
fn memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find_map(|it| it.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|it| it << 10)
}

/// Settles what libgit2 keeps for the whole process.
pub(in crate::git) fn settle() -> Result<(), GitFailure> {
    static SETTLED: OnceLock<Result<(), String>> = OnceLock::new();
    let settled = SETTLED.get_or_init(|| {
        // reqwest is built without a provider of its own choice. Another part of the process may have been first,
        // which is as good: there is only this one in the build.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        settle_libgit2().map_err(|err| err.why())
    });
    settled.clone().map_err(|why| GitFailure::other(format!("cannot set up libgit2: {why}")))
}

#[expect(unsafe_code, reason = "libgit2 keeps these settings in globals without a lock")]
fn settle_libgit2() -> Result<(), Error> {
    // SAFETY: all of these write globals that libgit2 reads without a lock. They run once, inside the `OnceLock` of
    // `settle`, and every way to a repository of ours goes through `settle` first, so nothing reads them meanwhile.
    //
    // Ownership is not checked, as `safe.directory` would: a path or a working tree that belongs to someone else is an
    // ordinary thing to deploy. The check guards git's users from hooks, filters, pagers and fsmonitors that such a
    // repository configures; libgit2 runs none of them.
    //
    // The id of an object is not computed again with each read: that was done when its pack came in, and takes a third
    // of the time of writing a tree. What a disk spoils later, the checksum within each object tells.
    unsafe {
        git2::opts::set_verify_owner_validation(false)?;
        git2::opts::strict_hash_verification(false);
        git2::opts::set_mwindow_size(WINDOW_BYTES)?;
        git2::opts::set_mwindow_mapped_limit(WINDOWS_BYTES_MAX)?;
        for scheme in ["http", "https"] {
            git2::transport::register(scheme, |remote| {
                let https = Https::new(&under_way()?).map_err(|it| Error::from_str(&it.reason))?;
                Transport::smart(remote, true, https)
            })?;
        }
        git2::transport::register("ssh", |remote| {
            Transport::smart(remote, false, ByChild::new(under_way()?, ssh::connect))
        })?;
        git2::transport::register(local::SCHEME, |remote| {
            Transport::smart(remote, false, ByChild::new(under_way()?, local::connect))
        })?;
    }
    Ok(())
}

fn under_way() -> Result<Journey, Error> {
    UNDER_WAY.with_borrow(Clone::clone).ok_or_else(|| Error::from_str("no fetch is under way on this thread"))
}
