//! The limits of a run's control group, and what its processes met of them.
//!
//! Invariant: a limit that is not set is said, with the reason.

use std::{fs, path::Path};

use crate::{
    keeper::home::{Home, LEAF},
    model::{limits::RunLimits, size::Size},
};

/// A limit, as it is written in hooks.yaml and in the group of a run (cgroup-v2.rst).
struct Knob {
    key: &'static str,
    controller: &'static str,
    file: &'static str,
    value: String,
}

fn knobs(limits: &RunLimits) -> Vec<Knob> {
    let RunLimits { processes, memory_bytes, cpu_weight } = limits;
    let knob = |key, controller, file, value| Knob { key, controller, file, value };
    let mut knobs = vec![knob("processes", "pids", "pids.max", processes.to_string())];
    knobs.extend(memory_bytes.map(|it| knob("memory", "memory", "memory.max", it.to_string())));
    knobs.extend(cpu_weight.map(|it| knob("cpu_weight", "cpu", "cpu.weight", it.to_string())));
    knobs
}

/// Holds a new group below this home to its limits; gives a sentence for each reason why some do not hold.
pub(super) fn hold(home: &Home, group: &Path, limits: &RunLimits) -> Vec<String> {
    let mut unheld: Vec<(String, Vec<String>)> = Vec::new();
    for knob in knobs(limits) {
        let Err(why) = switch_on(home, knob.controller).and_then(|()| turn(group, &knob)) else { continue };
        let key = format!("`limits.{}`", knob.key);
        match unheld.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, keys)) => keys.push(key),
            None => unheld.push((why, vec![key])),
        }
    }
    keep_from_swap(group, limits);
    // What counts memory is switched on in any case: a run that ends because the machine has none left is told so.
    let _ = switch_on(home, "memory");
    let sentence = |(why, keys): (String, Vec<String>)| {
        let verb = if keys.len() == 1 { "does" } else { "do" };
        format!("{} {verb} not hold: {why}", keys.join(", "))
    };
    unheld.into_iter().map(sentence).collect()
}

/// Sets the limits of a group, as far as that works.
pub(super) fn set(group: &Path, limits: &RunLimits) {
    for knob in knobs(limits) {
        let _ = turn(group, &knob);
    }
    keep_from_swap(group, limits);
}

fn turn(group: &Path, knob: &Knob) -> Result<(), String> {
    let file = group.join(knob.file);
    fs::write(&file, &knob.value).map_err(|err| format!("cannot write `{}`: {err}", file.display()))
}

/// A limit of memory that only moves the rest to the disk would slow down everybody. Not every kernel counts it.
fn keep_from_swap(group: &Path, limits: &RunLimits) {
    if limits.memory_bytes.is_some() {
        let _ = fs::write(group.join("memory.swap.max"), "0");
    }
}

/// Sees to it that groups below have this controller.
fn switch_on(home: &Home, controller: &str) -> Result<(), String> {
    let shown = home.folder.display();
    let names = |file: &str| fs::read_to_string(home.folder.join(file)).unwrap_or_default();
    let has = |file: &str| names(file).split_ascii_whitespace().any(|it| it == controller);
    if has("cgroup.subtree_control") {
        return Ok(());
    }
    if !has("cgroup.controllers") {
        return Err(format!("`{shown}` has not been given the controller `{controller}`"));
    }
    if !home.is_above_us {
        return Err(format!(
            "daemon and keepers are in `{shown}` themselves; systemd 254 or newer gives them a group of their own with \
             `DelegateSubgroup={LEAF}`"
        ));
    }
    let file = home.folder.join("cgroup.subtree_control");
    fs::write(&file, format!("+{controller}"))
        .map_err(|err| format!("cannot switch on the controller `{controller}` in `{}`: {err}", file.display()))
}

/// How often processes of a group met its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Processes that were ended because memory was short.
    killed: u64,
    /// How often the limit of memory was the reason.
    at_memory_limit: u64,
    /// Processes that could not be started.
    unstarted: u64,
}

impl Met {
    /// What the kernel has counted in this group, and in those below it.
    pub(super) fn read(group: &Path) -> Self {
        let count = |file: &str, name: &str| {
            let text = fs::read_to_string(group.join(file)).unwrap_or_default();
            let of_line = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
            text.lines().find_map(of_line).unwrap_or(0)
        };
        Self {
            killed: count("memory.events", "oom_kill"),
            at_memory_limit: count("memory.events", "oom"),
            unstarted: count("pids.events", "max"),
        }
    }

    /// What was met since then, as a clause with the next step, if anything was.
    pub fn since(&self, before: &Self, limits: &RunLimits) -> Option<String> {
        // A group that was made anew counts from nothing.
        let more = |now: u64, then: u64| if now >= then { now - then } else { now };
        let killed = more(self.killed, before.killed);
        let unstarted = more(self.unstarted, before.unstarted);
        let processes =
            |count: u64| if count == 1 { "1 process was".into() } else { format!("{count} processes were") };
        let memory = (killed > 0).then(|| match limits.memory_bytes {
            Some(bytes) if more(self.at_memory_limit, before.at_memory_limit) > 0 => format!(
                "out of memory: {} ended at `limits.memory` of {}; raise it if the step needs more",
                processes(killed),
                Size(bytes)
            ),
            Some(_) | None => format!(
                "out of memory: the machine had none left, and {} ended; add memory or swap, or keep other hooks to less \
                 with `limits: {{memory: ...}}`",
                processes(killed)
            ),
        });
        let pids = (unstarted > 0).then(|| {
            format!(
                "{} not started at `limits.processes` of {} (threads count, too); raise it if the step needs more",
                processes(unstarted),
                limits.processes
            )
        });
        let met: Vec<String> = memory.into_iter().chain(pids).collect();
        (!met.is_empty()).then(|| met.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Met;
    use crate::model::limits::RunLimits;

    fn met(memory: &str, pids: &str) -> Met {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("memory.events"), memory).expect("written");
        fs::write(folder.path().join("pids.events"), pids).expect("written");
        Met::read(folder.path())
    }

    #[test]
    fn what_a_step_met_is_what_the_kernel_counted_since_it_began() {
        let limits = RunLimits { processes: 64, memory_bytes: Some(32 << 20), cpu_weight: None };
        let before = met("low 0\nhigh 0\nmax 7\noom 2\noom_kill 2\noom_group_kill 0\n", "max 1\n");
        let after = met("low 0\nhigh 0\nmax 9\noom 3\noom_kill 3\noom_group_kill 0\n", "max 5\n");
        assert_eq!(before.since(&before, &limits), None);
        let said = after.since(&before, &limits).expect("something");
        assert!(said.contains("1 process was ended at `limits.memory` of 32 MiB"), "{said}");
        assert!(said.contains("4 processes were not started at `limits.processes` of 64"), "{said}");
        // Made anew meanwhile.
        let anew = met("oom 1\noom_kill 1\n", "");
        assert!(anew.since(&after, &limits).is_some_and(|it| it.contains("1 process was ended at `limits.memory`")));
    }

    #[test]
    fn a_machine_without_memory_is_not_taken_for_a_limit() {
        let after = met("oom 0\noom_kill 2\n", "");
        let said = after.since(&Met::default(), &RunLimits::default()).expect("something");
        assert!(said.contains("the machine had none left, and 2 processes were ended"), "{said}");
        assert_eq!(met("", "").since(&Met::default(), &RunLimits::default()), None);
    }
}
