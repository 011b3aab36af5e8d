//! The first deploy of a repository of about 200,000 objects, over HTTP, against `git clone`.
//!
//! As a release it is the tree alone that has to come; in place it is all of the history, as with git. Each is a fetch and
//! a stage in processes of their own, and takes turns with git at going first.

use std::{
    fs,
    io::{BufWriter, Write},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use landfall::{
    git::{Into, Place},
    model::push::CommitId,
};

use crate::{
    forest::{BRANCH, git_in, run},
    front, order, place,
    table::{Row, Target, median},
};

/// Commits, each of which changes ten files in as many folders.
const COMMITS: u64 = 14_000;
const CHANGED: u64 = 10;
const FILES: u64 = 3_000;
const FOLDERS: u64 = 60;

const TURNS: usize = 3;

/// The rows.
pub fn rows() -> Result<Vec<Row>> {
    let folder = place::on_disk()?;
    let folder = folder.path();
    let commit = grow(folder)?;
    let remote = format!("http://{}/source", front::serve(folder)?);
    let (mut fresh, mut in_place, mut git) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        if turn % 2 == 0 {
            fresh.push(release(folder, &remote, &commit)?);
            in_place.push(working_tree(folder, &remote, &commit)?);
            git.push(clone(folder, &remote)?);
        } else {
            git.push(clone(folder, &remote)?);
            in_place.push(working_tree(folder, &remote, &commit)?);
            fresh.push(release(folder, &remote, &commit)?);
        }
    }
    let objects = git_in(&folder.join("source")).args(["count-objects", "-v"]).output()?.stdout;
    let objects =
        String::from_utf8_lossy(&objects).lines().find_map(|it| it.strip_prefix("in-pack: ").map(str::to_owned));
    let objects = objects.unwrap_or_default();
    let than = (median(&git), "`git clone`");
    let subject = |what: &str| format!("first deploy of {objects} objects over http, {what}");
    Ok(vec![
        Row::of_times(subject("as a release"), median(&fresh), than, Target::AtMost(0.3)),
        Row::of_times(subject("in place, all history"), median(&in_place), than, Target::AtMost(1.0)),
    ])
}

fn release(folder: &Path, remote: &str, commit: &CommitId) -> Result<Duration> {
    let (mirror, tree) = (folder.join("mirror.git"), folder.join("release"));
    let place = Place::Fresh { mirror: mirror.clone(), tree: tree.clone(), ref_name: None };
    let begin = Instant::now();
    order::carry_out(&order::fetch(remote, BRANCH, commit, Into::Mirror(mirror.clone()), None))?;
    order::carry_out(&order::stage(remote, commit, place, None, folder))?;
    let took = begin.elapsed();
    fs::remove_dir_all(mirror)?;
    fs::remove_dir_all(tree)?;
    Ok(took)
}

fn working_tree(folder: &Path, remote: &str, commit: &CommitId) -> Result<Duration> {
    let live = folder.join("live");
    let begin = Instant::now();
    order::carry_out(&order::fetch(remote, BRANCH, commit, Into::WorkTree(live.clone()), None))?;
    let place = order::in_place(live.clone(), BRANCH, folder);
    order::carry_out(&order::stage(remote, commit, place, None, folder))?;
    let took = begin.elapsed();
    run(git_in(&live).args(["fsck", "--connectivity-only"]))?;
    fs::remove_dir_all(live)?;
    Ok(took)
}

fn clone(folder: &Path, remote: &str) -> Result<Duration> {
    let begin = Instant::now();
    run(git_in(folder).args(["clone", "--quiet", remote, "clone"]))?;
    let took = begin.elapsed();
    fs::remove_dir_all(folder.join("clone"))?;
    Ok(took)
}

/// Makes the repository.
fn grow(folder: &Path) -> Result<CommitId> {
    run(git_in(folder).args(["init", "--quiet", "--bare", "--initial-branch", BRANCH, "source"]))?;
    let source = folder.join("source");
    let mut import = git_in(&source);
    import.args(["fast-import", "--quiet"]).stdin(Stdio::piped());
    let mut import = import.spawn().context("git fast-import")?;
    let mut script = BufWriter::new(import.stdin.take().context("a pipe")?);
    for number in 0..COMMITS {
        let date = 1_700_000_000 + number;
        write!(script, "commit refs/heads/{BRANCH}\ncommitter Ana <ana@example.org> {date} +0000\ndata 6\nchange\n")?;
        let files = if number == 0 { FILES } else { CHANGED };
        for file in 0..files {
            let file = if number == 0 { file } else { (number * 7 + file * (FILES / CHANGED)) % FILES };
            let text = text(file, number);
            writeln!(script, "M 100644 inline src/{:02}/{file:04}.txt\ndata {}\n{text}", file % FOLDERS, text.len())?;
        }
    }
    drop(script);
    if !import.wait()?.success() {
        bail!("git fast-import failed");
    }
    run(git_in(&source).args(["repack", "-a", "-d", "-q"]))?;
    let id = git_in(&source).args(["rev-parse", BRANCH]).output()?.stdout;
    CommitId::parse(String::from_utf8_lossy(&id).trim()).context("git names a commit")
}

/// A file of 60 lines, of which a commit changes a few, as people do.
fn text(file: u64, commit: u64) -> String {
    let line = |line: u64| {
        let last = if line % 9 == commit % 9 { commit } else { 0 };
        let word = (file << 20 ^ line << 40 ^ last).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{word:016x} {:x}\n", word.rotate_left(29))
    };
    (0..60).map(line).collect()
}
