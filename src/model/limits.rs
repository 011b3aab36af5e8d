//! What one run may have of the machine.
//!
//! Invariant: a limit that is `None` is none; how many processes there may be is always bounded.

/// What one run may have of the machine, where its control group can hold it to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimits {
    /// Processes and threads at once.
    pub processes: u32,
    /// Bytes of memory, files that it has just read or written included.
    pub memory_bytes: Option<u64>,
    /// Its share of the processors where they are short, 1 to 10,000; others have 100.
    pub cpu_weight: Option<u16>,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self { processes: 4096, memory_bytes: None, cpu_weight: None }
    }
}
