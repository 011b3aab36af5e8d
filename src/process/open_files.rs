//! The limit of open files: the daemon may have all that the system allows, and its children what it was given itself.
//!
//! Programs that use select(2) break where a descriptor is above 1,023, so the soft limit is left low for whatever is
//! started (systemd.exec(5), `LimitNOFILE=`).
//!
//! Invariant: only the soft limit is ever changed, so a child gets back exactly what there was.

use std::io;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// The limits of open files, as they were before [`OpenFiles::raise`].
#[derive(Clone, Copy, Debug)]
pub struct OpenFiles {
    soft_before: rlim_t,
    soft: rlim_t,
    hard: rlim_t,
}

impl OpenFiles {
    /// Raises the soft limit of this process to the hard one.
    pub fn raise() -> io::Result<Self> {
        let (soft_before, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let soft = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft_before };
        Ok(Self { soft_before, soft, hard })
    }

    /// How many files this process may have open.
    pub fn max(&self) -> usize {
        usize::try_from(self.soft).unwrap_or(usize::MAX)
    }

    /// Gives this process the soft limit that there was. For a child, between fork and exec: it is one system call.
    pub fn restore(&self) -> io::Result<()> {
        Ok(setrlimit(Resource::RLIMIT_NOFILE, self.soft_before, self.hard)?)
    }
}
