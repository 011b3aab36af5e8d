//! Copies what a commit needs into a working tree's own repository, so that its git goes on working without the mirror.
//!
//! Invariant: a commit whose parents are not there is in the `shallow` file (gitrepository-layout(5)) before any ref
//! leads to it, and no other one is.

use std::{collections::BTreeSet, fs, io};

use git2::{Oid, Repository};

use crate::git::{GitFailure, cannot, mirror::Mirror, packs};

/// Copies it.
pub(super) fn bring(mirror: &Mirror, repo: &Repository, commit: Oid) -> Result<(), GitFailure> {
    let what = || cannot::<git2::Error>(format!("read `{}`", repo.path().display()));
    let is_cut_short = repo.is_shallow() || mirror.repo.is_shallow();
    if !repo.odb().map_err(what())?.exists(commit) {
        let load = if is_cut_short {
            packs::gather_missing(&mirror.repo, repo, commit)?
        } else {
            let mut has = Vec::new();
            for reference in repo.references().map_err(what())? {
                has.extend(reference.map_err(what())?.target());
            }
            has.extend(repo.head().ok().and_then(|it| it.target()));
            packs::gather(&mirror.repo, &[commit], &has)?
        };
        if load.is_large() {
            packs::link(&mirror.repo, repo, Some(commit))?;
        } else {
            load.pour(repo)?;
        }
        packs::unite(repo)?;
    }
    if is_cut_short {
        note_ends(mirror, repo).map_err(cannot(format!("write `{}`", repo.path().join("shallow").display())))?;
    }
    Ok(())
}

/// Notes where history ends.
fn note_ends(mirror: &Mirror, repo: &Repository) -> io::Result<()> {
    let odb = repo.odb().map_err(io::Error::other)?;
    let mut ends = BTreeSet::new();
    for repository in [repo, &mirror.repo] {
        let text = match fs::read_to_string(repository.path().join("shallow")) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            Err(err) => return Err(err),
        };
        for id in text.lines().filter_map(|it| Oid::from_str(it).ok()) {
            // libgit2's own reading of a commit would leave out the very parents that this is about.
            let Ok(object) = odb.read(id) else { continue };
            let lines = object.data().split(|it| *it == b'\n').take_while(|it| !it.is_empty());
            let parents = lines.filter_map(|it| it.strip_prefix(b"parent "));
            let mut parents = parents.filter_map(|it| Oid::from_str(std::str::from_utf8(it).ok()?).ok());
            if parents.any(|it| !odb.exists(it)) {
                ends.insert(id);
            }
        }
    }
    let (new, file) = (repo.path().join("landfall/shallow"), repo.path().join("shallow"));
    if ends.is_empty() {
        return match fs::remove_file(file) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            Ok(()) | Err(_) => Ok(()),
        };
    }
    fs::write(&new, ends.iter().map(|it| format!("{it}\n")).collect::<String>())?;
    fs::rename(new, file)
}
