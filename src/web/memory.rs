//! How much memory the process may still take, where somebody has set a limit to its address space.
//!
//! Invariant: what is asked before memory is taken costs nothing where there is no limit.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// What a body that is on its way needs beyond what it has: to grow, to be compressed, and to be written.
const TIMES: u64 = 4;

/// What everything else may need meanwhile.
const REST_BYTES: u64 = 24 * 1024 * 1024;

/// The limit of the address space, as it was set when the process began (`ulimit -v`, `LimitAS=`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceiling {
    bytes: Option<u64>,
}

impl Ceiling {
    /// That of this process.
    pub(super) fn of_this_process() -> Self {
        Self { bytes: getrlimit(Resource::As).current }
    }

    /// Whether there is room for all that comes of bodies of which so many bytes are there.
    pub(super) fn has_room_for(self, bytes: u64) -> bool {
        let Some(limit) = self.bytes else { return true };
        // Where the kernel does not say, the limit is left to speak for itself.
        let taken = taken_bytes().unwrap_or(0);
        limit.saturating_sub(taken) >= bytes.saturating_mul(TIMES).saturating_add(REST_BYTES)
    }
}

/// The address space that is taken (`man 5 proc_pid_status`).
fn taken_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes: u64 =
        status.lines().find_map(|it| it.strip_prefix("VmSize:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::{Ceiling, REST_BYTES, taken_bytes};

    #[test]
    fn under_a_limit_there_is_room_for_what_bodies_become_and_without_one_for_anything() {
        assert!(Ceiling { bytes: None }.has_room_for(u64::MAX));
        let taken = taken_bytes().unwrap();
        assert!(taken > 1 << 20);
        let ceiling = Ceiling { bytes: Some(taken + REST_BYTES + (400 << 20)) };
        assert!(ceiling.has_room_for(50 << 20));
        assert!(!ceiling.has_room_for(200 << 20));
        assert!(!Ceiling { bytes: Some(taken) }.has_room_for(1));
    }
}
