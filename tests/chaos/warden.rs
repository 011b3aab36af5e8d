//! The warden of a scene: a process that ends what is left of it when the harness is gone, even by SIGKILL.
//!
//! Invariant: no daemon, keeper or script of a scene outlives it, and no mount does.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// The warden. Dropped, it ends everything and waits until that is done.
pub struct Warden {
    process: Child,
}

impl Warden {
    /// Sets a warden over the processes that have `CHAOS_SCENE` with this folder in their environment, or work in it.
    pub fn over(scene: &Path) -> Self {
        let mut command = Command::new("sh");
        command.arg("-c").arg(include_str!("warden.sh")).arg("warden").arg(scene).stdin(Stdio::piped());
        // A group of its own: Ctrl-C ends the harness and must not end the warden.
        command.env_remove("CHAOS_SCENE").process_group(0);
        Self { process: command.spawn().expect("a shell") }
    }

    /// The scene's folder is to stay.
    pub fn keep(&mut self) {
        self.process.stdin.as_mut().expect("a pipe").write_all(b"keep\n").expect("a warden that listens");
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Command};

    use super::Warden;

    #[test]
    fn what_a_scene_has_started_ends_with_its_warden_even_if_it_hears_no_term() {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let warden = Warden::over(&folder);
        let deaf = "trap '' TERM; sleep 1000 & sleep 1000";
        let mut child = Command::new("setsid").args(["sh", "-c", deaf]).env("CHAOS_SCENE", &folder).spawn();
        drop(warden);
        let status = child.as_mut().expect("a process").wait().expect("it ends");
        assert_eq!((status.signal(), folder.exists()), (Some(9), false));
    }

    #[test]
    fn who_shows_no_environment_ends_with_the_warden_too() {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let warden = Warden::over(&folder);
        let mut child = Command::new("sleep").arg("1000").env_clear().current_dir(&folder).spawn().expect("a process");
        drop(warden);
        assert_eq!(child.wait().expect("it ends").signal(), Some(9));
    }
}
