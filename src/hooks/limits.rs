//! Reads `limits`: what one run may have of the machine.
//!
//! Invariant: each is within what the kernel takes, so that none is refused when a run begins.

use std::fs;

use crate::{
    hooks::{
        keys,
        read::{Check, Field},
    },
    model::limits::RunLimits,
};

/// A shell with a pipe and git need about ten.
const PROCESSES_MIN: i64 = 16;

/// The most that any kernel has numbers for.
const PROCESSES_MAX: i64 = 4_194_304;

/// Below this not even a shell and git can work.
const MEMORY_BYTES_MIN: u64 = 16 << 20;

/// Where the controllers of the machine are named, as systemd mounts them: alone, or beside those of the first version.
const CONTROLLERS: [&str; 2] = ["/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/unified/cgroup.controllers"];

/// The value of `limits`.
pub(super) fn read(field: &Field, check: &mut Check) -> Option<RunLimits> {
    let section = field.section(check, keys::LIMITS)?;
    let default = RunLimits::default();
    let limits = RunLimits {
        processes: section.read("processes", check, default.processes, |it, check| {
            it.number(check, PROCESSES_MIN..=PROCESSES_MAX).and_then(|it| u32::try_from(it).ok())
        }),
        memory_bytes: section
            .read("memory", check, None, |it, check| it.size(check, MEMORY_BYTES_MIN, i64::MAX as u64).map(Some)),
        cpu_weight: section.read("cpu_weight", check, None, |it, check| {
            it.number(check, 1..=10_000).and_then(|it| u16::try_from(it).ok()).map(Some)
        }),
    };
    warn_of_lacking(field, check);
    Some(limits)
}

/// A machine without the controllers holds nobody to anything. Whether the daemon's own group has them is `doctor`'s to say.
fn warn_of_lacking(field: &Field, check: &mut Check) {
    let known = CONTROLLERS.into_iter().find_map(|it| fs::read_to_string(it).ok());
    let has = |name: &str| known.as_ref().is_some_and(|it| it.split_ascii_whitespace().any(|it| it == name));
    let needs = [("processes", "pids"), ("memory", "memory"), ("cpu_weight", "cpu")];
    let Some(section) = field.section(check, keys::LIMITS) else { return };
    let lacking = needs.into_iter().filter(|(key, controller)| section.get(key).is_some() && !has(controller));
    let names: Vec<String> = lacking.map(|(key, _)| format!("`{key}`")).collect();
    if !names.is_empty() {
        let message = format!("nobody is held to {} of `{}` on this machine", names.join(", "), field.path);
        let help = "it needs the controllers of cgroup v2 (on older systems: `systemd.unified_cgroup_hierarchy=1`)";
        check.warn(field.key_place, "limits-not-held", message, help);
    }
}
