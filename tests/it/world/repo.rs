//! A bare repository and a clone to push from, made by git itself.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// A repository.
pub struct Repo {
    /// The bare one, which is deployed from.
    pub bare: PathBuf,
    /// The clone, which is pushed from.
    pub work: PathBuf,
}

impl Repo {
    /// An empty repository below `folder`.
    pub fn make(folder: &Path) -> Self {
        let repo = Self { bare: folder.join("site.git"), work: folder.join("work") };
        git(folder, &["init", "--quiet", "--bare", "--initial-branch=main", "site.git"]);
        git(folder, &["clone", "--quiet", "site.git", "work"]);
        repo
    }

    /// Commits files with these contents to main and pushes; gives the commit. `deploy.sh` is made executable.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        for (name, content) in files {
            let path = self.work.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, content).expect("written");
            if name.ends_with(".sh") {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
            }
        }
        git(&self.work, &["add", "--all"]);
        git(&self.work, &["commit", "--quiet", "--allow-empty", "-m", "a commit"]);
        git(&self.work, &["push", "--quiet", "--force", "origin", "HEAD:main"]);
        self.head()
    }

    /// The newest commit of the clone.
    pub fn head(&self) -> String {
        git(&self.work, &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Runs git in the clone.
    pub fn git(&self, arguments: &[&str]) -> String {
        git(&self.work, arguments)
    }
}

/// Runs git, without the configuration of whoever runs the tests.
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null");
    for (name, value) in [("NAME", "Ana"), ("EMAIL", "ana@example.org")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    let output = command.output().expect("git is installed by scripts/test");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
