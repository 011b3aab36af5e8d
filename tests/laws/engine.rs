//! The engine under test, and how it is made to crash.
//!
//! Another engine is plugged in by another [`Engine`]: it opens a store in a folder, opens the same store again after a
//! crash, and has a failpoint right before and right after each commit. Nothing else in this suite knows an engine.

use std::{
    panic,
    path::Path,
    time::{Duration, Instant},
};

use landfall::store::{OpenError, Store};
use tempfile::TempDir;

/// What the suite has to know of an engine.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    /// Opens the store that lives in a folder, making it if it is new.
    pub open: fn(&Path) -> Result<Store, OpenError>,
    /// The failpoint before a commit. `return` makes the commit fail; a panic takes the writer down, as a crash does.
    pub before_commit: &'static str,
    /// The failpoint after a commit, before anybody is told of it.
    pub after_commit: &'static str,
}

/// The embedded one.
pub const SQLITE: Engine =
    Engine { open: Store::open, before_commit: "store-before-commit", after_commit: "store-after-commit" };

/// No writer takes longer to die.
const DEATH_MAX: Duration = Duration::from_secs(20);

impl Engine {
    /// Opens the store; after a crash, once the dead writer has let go of the folder.
    pub fn open(&self, folder: &Path) -> Store {
        let deadline = Instant::now() + DEATH_MAX;
        loop {
            match (self.open)(folder) {
                Ok(store) => return store,
                Err(OpenError::InUse { .. }) if Instant::now() < deadline => std::thread::yield_now(),
                Err(error) => panic!("the store does not open: {error}"),
            }
        }
    }
}

/// Takes the writer down at a failpoint, without a word on standard error.
pub fn crash_at(failpoint: &str) {
    fail::cfg_callback(failpoint, || panic::resume_unwind(Box::new("a crash"))).expect("a failpoint");
}

/// Makes a commit fail.
pub fn refuse_at(failpoint: &str) {
    fail::cfg(failpoint, "return").expect("a failpoint");
}

/// Nothing happens there any more.
pub fn calm(failpoint: &str) {
    fail::remove(failpoint);
}

/// A folder for a store. In memory where that can be had: who crashes here is a process, never the machine.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    TempDir::new_in(memory).or_else(|_| TempDir::new()).expect("a folder")
}
