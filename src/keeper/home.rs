//! Where the control groups of runs are.
//!
//! Where controllers are switched on for the groups below one, there may be no process in that one itself (cgroups(7), "no
//! internal processes"). So a service manager may put the daemon, and with it its keepers, into a leaf below the group
//! that it hands over: systemd does since version 254, by `DelegateSubgroup=landfall-daemon`. Then the groups of runs are
//! beside that leaf, and their limits hold. Landfall never moves itself into one: an older systemd, which knows nothing of
//! it, could not start the daemon again beside keepers that go on.
//!
//! Invariant: daemon and keepers of one service find the same home.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The name of the leaf for daemon and keepers.
pub const LEAF: &str = "landfall-daemon";

/// The group below which each run gets its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Home {
    /// Its folder.
    pub folder: PathBuf,
    /// Whether we are in a leaf of it, and not in itself.
    pub is_above_us: bool,
}

/// The home of this process; the error is a sentence that says why there is none.
pub fn find() -> Result<Home, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|err| format!("cannot read `{path}`: {err}"));
    let own = own_folder(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)?;
    Ok(home_of(own))
}

fn home_of(own: PathBuf) -> Home {
    match own.parent() {
        Some(above) if own.ends_with(LEAF) => Home { folder: above.to_owned(), is_above_us: true },
        Some(_) | None => Home { folder: own, is_above_us: false },
    }
}

/// Our own group among these groups and mounts; see cgroups(7) and proc_pid_mountinfo(5).
fn own_folder(groups: &str, mounts: &str) -> Result<PathBuf, String> {
    let own = groups.lines().find_map(|it| it.strip_prefix("0::")).ok_or("this kernel has no cgroup v2")?;
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let mut fields = before.split(' ').skip(3);
        let (Some(root), Some(place), true) = (fields.next(), fields.next(), after.starts_with("cgroup2 ")) else {
            continue;
        };
        // What is mounted may be a part of the whole, and we may be outside of it.
        if let Ok(relative) = Path::new(own).strip_prefix(root)
            && !own.contains("/..")
        {
            // Joining nothing would leave a slash at the end.
            return Ok(Path::new(place).components().chain(relative.components()).collect());
        }
    }
    Err("our own control group is below no mounted cgroup v2".into())
}

#[cfg(test)]
mod tests {
    use super::{Home, home_of, own_folder};

    #[test]
    fn the_own_group_is_found_wherever_cgroup2_is_mounted() {
        let both = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let own = "4:memory:/x\n0::/system.slice/landfall.service\n";
        let expected = std::path::PathBuf::from("/sys/fs/cgroup/unified/system.slice/landfall.service");
        assert_eq!(own_folder(own, both), Ok(expected));
        let part = "41 31 0:38 /system.slice /sys/fs/cgroup rw shared:9 master:1 - cgroup2 cgroup rw\n";
        assert_eq!(own_folder(own, part), Ok("/sys/fs/cgroup/landfall.service".into()));
        for (groups, mounts) in [("4:memory:/x\n", both), (own, ""), ("0::/../x\n", both), ("0::/user.slice\n", part)] {
            assert!(own_folder(groups, mounts).is_err(), "{groups} {mounts}");
        }
    }

    #[test]
    fn runs_are_beside_the_leaf_that_a_service_manager_made_for_us_and_else_within_our_own_group() {
        let home = |own: &str| home_of(own.into());
        let service = "/sys/fs/cgroup/system.slice/landfall.service";
        let above = Home { folder: service.into(), is_above_us: true };
        assert_eq!(home(&format!("{service}/landfall-daemon")), above);
        assert_eq!(home(service), Home { is_above_us: false, ..above });
        assert!(!home("/sys/fs/cgroup/not-landfall-daemon").is_above_us);
    }
}
