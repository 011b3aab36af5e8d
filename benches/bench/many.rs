//! Half of 8,000 small files change in a working tree on the disk, against `git fetch && git reset --hard`.
//!
//! Each turn is in folders of its own: ext4 passes over inodes that were freed in the last minute.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use landfall::{git::Into, model::push::CommitId};

use crate::{
    forest::{BRANCH, Forest, git_in, run},
    order, place,
    table::{Row, Target, median},
};

const FILES: u64 = 8_000;
const CHANGED: u64 = 4_000;
const TURNS: usize = 5;

/// The rows.
pub fn rows() -> Result<Vec<Row>> {
    let folder = place::on_disk()?;
    let folder = folder.path();
    let (mut forest, first) = Forest::of(folder, FILES)?;
    for turn in 0..TURNS {
        run(git_in(folder).args(["clone", "--quiet", "--no-local", "source", &format!("clone-{turn}")]))?;
        bring(folder, &forest, turn, &first, None)?;
    }
    let second = forest.commit(CHANGED)?;
    run(&mut std::process::Command::new("sync"))?;
    let (mut ours, mut gits) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        if turn % 2 == 0 {
            ours.push(bring(folder, &forest, turn, &second, Some(&first))?);
            gits.push(reset(folder, turn)?);
        } else {
            gits.push(reset(folder, turn)?);
            ours.push(bring(folder, &forest, turn, &second, Some(&first))?);
        }
    }
    let than = (median(&gits), "`git fetch && git reset --hard`");
    let subject = "update in place of 8,000 files, 4,000 of them changed, on disk";
    Ok(vec![Row::of_times(subject, median(&ours), than, Target::AtMost(1.0))])
}

fn bring(folder: &Path, forest: &Forest, turn: usize, commit: &CommitId, live: Option<&CommitId>) -> Result<Duration> {
    let (path, remote) = (folder.join(format!("live-{turn}")), forest.remote());
    let begin = Instant::now();
    order::carry_out(&order::fetch(&remote, BRANCH, commit, Into::WorkTree(path.clone()), live))?;
    order::carry_out(&order::stage(&remote, commit, order::in_place(path, BRANCH, folder), live, folder))?;
    Ok(begin.elapsed())
}

fn reset(folder: &Path, turn: usize) -> Result<Duration> {
    let clone = folder.join(format!("clone-{turn}"));
    let begin = Instant::now();
    run(git_in(&clone).args(["fetch", "--quiet"]))?;
    run(git_in(&clone).args(["reset", "--quiet", "--hard", &format!("origin/{BRANCH}")]))?;
    Ok(begin.elapsed())
}
