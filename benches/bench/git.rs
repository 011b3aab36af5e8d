//! Git work against git: the tree of [`Forest`], of which each commit changes ten files.
//!
//! Each order is a process of its own, as a keeper starts it, and is measured from its start to its end. In place it
//! is the fetch and the update of the working tree, against `git fetch && git reset --hard` in a
//! clone; for a new tree it is the stage alone, against `git worktree add` of a commit that is there. All repositories
//! have fetched every commit before, and the two take turns at going first.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use landfall::{
    git::{Into, Place},
    model::push::CommitId,
};

use crate::{
    forest::{BRANCH, Forest, git_in, run},
    order, place,
    table::{Row, Target as Wanted, median},
};

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

/// A repository, its mirror and working tree, and a clone of it.
struct Room {
    folder: PathBuf,
    forest: Forest,
    /// What the working tree is at.
    live: Option<CommitId>,
}

impl Room {
    fn fill(folder: &Path) -> Result<Self> {
        let (forest, first) = Forest::plant(folder)?;
        let mut room = Self { folder: folder.to_owned(), forest, live: None };
        run(git_in(folder).args(["clone", "--quiet", "--no-local", "source", "clone"]))?;
        room.bring_in_place(&first)?;
        Ok(room)
    }

    fn measure(&mut self, whereabouts: &str, (in_place, fresh): (Wanted, Wanted)) -> Result<Vec<Row>> {
        let (mut ours, mut gits) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for turn in 0..REPETITIONS {
            let commit = self.forest.commit(CHANGED)?;
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

    fn bring_in_place(&mut self, commit: &CommitId) -> Result<Duration> {
        let remote = self.forest.remote();
        let live = self.at("live");
        let fetch = order::fetch(&remote, BRANCH, commit, Into::WorkTree(live.clone()), self.live.as_ref());
        let place = order::in_place(live, BRANCH, &self.folder);
        let stage = order::stage(&remote, commit, place, self.live.as_ref(), &self.folder);
        let begin = Instant::now();
        order::carry_out(&fetch)?;
        order::carry_out(&stage)?;
        let took = begin.elapsed();
        self.live = Some(commit.clone());
        Ok(took)
    }

    fn bring_afresh(&self, commit: &CommitId) -> Result<Duration> {
        let (mirror, tree, remote) = (self.at("mirror"), self.at("fresh"), self.forest.remote());
        order::carry_out(&order::fetch(&remote, BRANCH, commit, Into::Mirror(mirror.clone()), None))?;
        let place = Place::Fresh { mirror, tree: tree.clone(), ref_name: None };
        let stage = order::stage(&remote, commit, place, self.live.as_ref(), &self.folder);
        let begin = Instant::now();
        order::carry_out(&stage)?;
        let took = begin.elapsed();
        fs::remove_dir_all(tree)?;
        Ok(took)
    }

    fn reset(&self) -> Result<Duration> {
        let begin = Instant::now();
        run(git_in(&self.at("clone")).args(["fetch", "--quiet"]))?;
        run(git_in(&self.at("clone")).args(["reset", "--quiet", "--hard", &format!("origin/{BRANCH}")]))?;
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
