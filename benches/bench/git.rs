//! Git work against git: a tree of 20,000 files and about 111 MB, of which each commit changes ten.
//!
//! Each order is a process of its own, as a keeper starts it, and is measured from its start to its end. In place it
//! is the fetch into the warm mirror and the update of the working tree, against `git fetch && git reset --hard` in a
//! clone; for a new tree it is the stage alone, against `git worktree add` of a commit that is there. All repositories
//! have fetched every commit before, and the two take turns at going first.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use landfall::{
    keeper::git::{self, Against, Door, Fetch, Filter, Order, Place, Scope, Stage},
    model::{
        deploy::{Clean, Dirty, Lfs, Submodules},
        job::{Asked, Target},
        push::{CommitId, RefName},
    },
};

use crate::{
    daemon::PROGRAM,
    place,
    table::{Row, Target as Wanted, median},
};

const FILES: u64 = 20_000;
const FOLDERS: u64 = 200;
const CHANGED: u64 = 10;
const REPETITIONS: u64 = 7;

/// The rows, in memory and on the disk.
pub fn rows() -> Result<Vec<Row>> {
    let in_memory = place::in_memory()?;
    let mut rows = Room::fill(in_memory.path())?.measure("in memory", (Wanted::AtMost(1.0), Wanted::AtMost(0.5)))?;
    drop(in_memory);
    let on_disk = place::on_disk()?;
    rows.extend(Room::fill(on_disk.path())?.measure("on disk", (Wanted::Shown, Wanted::Shown))?);
    Ok(rows)
}

/// A bare repository, its mirror and working tree, and a clone of it.
struct Room {
    folder: PathBuf,
    commits: u64,
    /// What the working tree is at.
    live: Option<CommitId>,
}

impl Room {
    fn fill(folder: &Path) -> Result<Self> {
        let mut room = Self { folder: folder.to_owned(), commits: 0, live: None };
        run(git_in(folder).args(["init", "--quiet", "--bare", "--initial-branch=main", "source"]))?;
        let first = room.commit(FILES)?;
        run(git_in(&room.at("source")).args(["repack", "-a", "-d", "-q"]))?;
        run(git_in(folder).args(["clone", "--quiet", "--no-local", "source", "clone"]))?;
        room.bring_in_place(&first)?;
        Ok(room)
    }

    fn measure(&mut self, whereabouts: &str, (in_place, fresh): (Wanted, Wanted)) -> Result<Vec<Row>> {
        let (mut ours, mut gits) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for turn in 0..REPETITIONS {
            let commit = self.commit(CHANGED)?;
            // Whoever goes first finds the processor's caches cold.
            if turn % 2 == 0 {
                ours.0.push(self.bring_in_place(&commit)?);
                gits.0.push(self.reset()?);
                ours.1.push(self.bring_afresh(&commit)?);
                gits.1.push(self.add_worktree(&commit)?);
            } else {
                gits.0.push(self.reset()?);
                ours.0.push(self.bring_in_place(&commit)?);
                gits.1.push(self.add_worktree(&commit)?);
                ours.1.push(self.bring_afresh(&commit)?);
            }
            self.compare(&commit)?;
        }
        let subject = |what: &str| format!("{what} of 20,000 files, 10 of them changed, {whereabouts}");
        let than = (median(&gits.0), "`git fetch && git reset --hard`");
        let fresh_than = (median(&gits.1), "`git worktree add`");
        Ok(vec![
            Row::of_times(subject("update in place"), median(&ours.0), than, in_place),
            Row::of_times(subject("new tree"), median(&ours.1), fresh_than, fresh),
        ])
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the first so many files anew, as one commit of `main`.
    fn commit(&mut self, files: u64) -> Result<CommitId> {
        self.commits += 1;
        let mut import = git_in(&self.at("source"));
        import.args(["fast-import", "--quiet"]).stdin(Stdio::piped());
        let mut import = import.spawn().context("git fast-import")?;
        let mut script = std::io::BufWriter::new(import.stdin.take().context("a pipe")?);
        let number = self.commits;
        let date = 1_700_000_000 + number;
        write!(script, "commit refs/heads/main\ncommitter Ana <ana@example.org> {date} +0000\ndata 6\nchange\n")?;
        if number > 1 {
            writeln!(script, "from refs/heads/main^0")?;
        }
        for file in 0..files {
            let file = file * (FILES / files);
            let text = text(file, number);
            writeln!(script, "M 100644 inline src/{:03}/file-{file:05}.txt\ndata {}", file % FOLDERS, text.len())?;
            script.write_all(&text)?;
            writeln!(script)?;
        }
        drop(script);
        if !import.wait()?.success() {
            bail!("git fast-import failed");
        }
        let id = git_in(&self.at("source")).args(["rev-parse", "main"]).output()?.stdout;
        CommitId::parse(String::from_utf8_lossy(&id).trim()).context("git names a commit")
    }

    fn bring_in_place(&mut self, commit: &CommitId) -> Result<Duration> {
        let branch = RefName::Branch("main".into());
        let filter = Filter { paths: Vec::new(), skip_markers: vec!["[skip deploy]".into()] };
        let against = Against { live: self.live.clone(), is_disturbed: false, asked: Asked::Push, filter };
        let fetch = Order::Fetch(Fetch {
            mirror: self.at("mirror"),
            remote: self.remote(),
            door: Door::Open,
            target: Target::Commit { commit: commit.clone(), ref_name: Some(branch.clone()) },
            scope: scope(),
            against,
            silence: git::SILENCE,
        });
        let place = Place::InPlace {
            path: self.at("live"),
            ref_name: Some(branch),
            dirty: Dirty::Save,
            clean: Clean::None,
            patch: self.at("patch"),
        };
        let stage = self.stage(commit, place);
        let begin = Instant::now();
        order(&fetch)?;
        order(&stage)?;
        let took = begin.elapsed();
        self.live = Some(commit.clone());
        Ok(took)
    }

    fn bring_afresh(&self, commit: &CommitId) -> Result<Duration> {
        let tree = self.at("fresh");
        let stage = self.stage(commit, Place::Fresh { tree: tree.clone() });
        let begin = Instant::now();
        order(&stage)?;
        let took = begin.elapsed();
        fs::remove_dir_all(tree)?;
        Ok(took)
    }

    fn stage(&self, commit: &CommitId, place: Place) -> Order {
        Order::Stage(Stage {
            mirror: self.at("mirror"),
            remote: self.remote(),
            commit: commit.clone(),
            place,
            scope: scope(),
            previous: self.live.clone(),
            changed_files: self.at("changed"),
        })
    }

    fn remote(&self) -> String {
        format!("file://{}", self.at("source").display())
    }

    fn reset(&self) -> Result<Duration> {
        let begin = Instant::now();
        run(git_in(&self.at("clone")).args(["fetch", "--quiet"]))?;
        run(git_in(&self.at("clone")).args(["reset", "--quiet", "--hard", "origin/main"]))?;
        Ok(begin.elapsed())
    }

    fn add_worktree(&self, commit: &CommitId) -> Result<Duration> {
        let clone = self.at("clone");
        let begin = Instant::now();
        run(git_in(&clone).args(["worktree", "add", "--quiet", "--detach", "../worktree", commit.as_str()]))?;
        let took = begin.elapsed();
        run(git_in(&clone).args(["worktree", "remove", "--force", "../worktree"]))?;
        Ok(took)
    }

    /// A figure is worth nothing if the trees are not the same.
    fn compare(&self, commit: &CommitId) -> Result<()> {
        let head = git_in(&self.at("live")).args(["rev-parse", "HEAD"]).output()?.stdout;
        if String::from_utf8_lossy(&head).trim() != commit.as_str() {
            bail!("the working tree is not at {commit}");
        }
        run(Command::new("diff").args(["-rq", "-x", ".git", "live", "clone"]).current_dir(&self.folder))
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

fn order(order: &Order) -> Result<()> {
    let mut child = Command::new(PROGRAM);
    child.arg("git-work").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().context("git-work")?;
    child.stdin.take().context("a pipe")?.write_all(git::encode_order(order).as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("git-work failed: {}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

/// A git command that nobody's configuration touches.
/// What a hook wants that says nothing about it.
fn scope() -> Scope {
    Scope { submodules: Submodules::Off, lfs: Lfs::Fail, depth: None, subdir: None }
}

fn git_in(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
