//! A repository of 20,000 files and about 111 MB, and its commits.
//!
//! Invariant: no two files are the same, and each commit changes exactly as many as it is told to.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use landfall::model::push::CommitId;

/// How many files it has.
pub const FILES: u64 = 20_000;

const FOLDERS: u64 = 200;

/// The file that every commit changes.
pub const FIRST_FILE: &str = "src/000/file-00000.txt";

/// Its only branch, as that of the recorded push.
pub const BRANCH: &str = "master";

/// A bare repository, `source`.
pub struct Forest {
    /// Where it is.
    pub path: PathBuf,
    files: u64,
    commits: u64,
}

impl Forest {
    /// Makes it below a folder; gives its first commit too.
    pub fn plant(folder: &Path) -> Result<(Self, CommitId)> {
        Self::of(folder, FILES)
    }

    /// Makes a smaller one.
    pub fn of(folder: &Path, files: u64) -> Result<(Self, CommitId)> {
        run(git_in(folder).args(["init", "--quiet", "--bare", "--initial-branch", BRANCH, "source"]))?;
        let mut forest = Self { path: folder.join("source"), files, commits: 0 };
        let first = forest.commit(files)?;
        run(git_in(&forest.path).args(["repack", "-a", "-d", "-q"]))?;
        Ok((forest, first))
    }

    /// Its address.
    pub fn remote(&self) -> String {
        format!("file://{}", self.path.display())
    }

    /// What a file says in a commit.
    pub fn shown(&self, commit: &CommitId, path: &str) -> Result<Vec<u8>> {
        Ok(git_in(&self.path).args(["show", &format!("{commit}:{path}")]).output()?.stdout)
    }

    /// Writes so many files anew, as one commit; the first of them is always [`FIRST_FILE`].
    pub fn commit(&mut self, files: u64) -> Result<CommitId> {
        self.commits += 1;
        let mut import = git_in(&self.path);
        import.args(["fast-import", "--quiet"]).stdin(Stdio::piped());
        let mut import = import.spawn().context("git fast-import")?;
        let mut script = std::io::BufWriter::new(import.stdin.take().context("a pipe")?);
        let number = self.commits;
        let date = 1_700_000_000 + number;
        let branch = format!("refs/heads/{BRANCH}");
        write!(script, "commit {branch}\ncommitter Ana <ana@example.org> {date} +0000\ndata 6\nchange\n")?;
        if number > 1 {
            writeln!(script, "from {branch}^0")?;
        }
        for file in 0..files {
            let file = file * (self.files / files);
            let text = text(file, number);
            writeln!(script, "M 100644 inline src/{:03}/file-{file:05}.txt\ndata {}", file % FOLDERS, text.len())?;
            script.write_all(&text)?;
            writeln!(script)?;
        }
        drop(script);
        if !import.wait()?.success() {
            bail!("git fast-import failed");
        }
        let id = git_in(&self.path).args(["rev-parse", BRANCH]).output()?.stdout;
        CommitId::parse(String::from_utf8_lossy(&id).trim()).context("git names a commit")
    }
}

/// What a file says: on average 5.5 KB of words, no two files the same.
fn text(file: u64, commit: u64) -> Vec<u8> {
    let mut state = file.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ commit.wrapping_mul(0xd1b5_4a32_d192_ed03) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let size = usize::try_from(1000 + next() % 9100).unwrap_or(1000);
    let mut text = Vec::with_capacity(size + 16);
    while text.len() < size {
        let word = next();
        text.extend_from_slice(format!("{:x}", word >> 44).as_bytes());
        text.push(if word % 12 == 0 { b'\n' } else { b' ' });
    }
    text
}

/// A git command that nobody's configuration touches.
pub fn git_in(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command
}

/// Runs a command that has to go well.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
