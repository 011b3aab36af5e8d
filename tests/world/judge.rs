//! Holds a place after a deploy against what git makes of the same commit.
//!
//! Invariant: only the judge of a place says what is wrong with it, and each kind of thing once for each place.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

use crate::{
    git::{self, Reach},
    place::{Order, Place, Start, Strategy},
    report::Report,
    snapshot::{Expected, differences, taken_of, word},
};

/// What was deployed, and what is to be true now.
pub struct Case<'a> {
    pub seed: u64,
    pub step: usize,
    pub commit: &'a str,
    pub order: Order,
    pub expected: &'a Expected,
    /// The bare repository that was deployed from.
    pub remote: &'a Path,
    pub reach: &'a Reach,
    pub report: &'a Report,
    /// Everything is read, too, and not only what is linked.
    pub is_thorough: bool,
}

impl Case<'_> {
    /// Takes a complaint down, unless this place has had it already.
    pub fn complain(&self, place: &mut Place, check: &str, detail: &str) {
        if place.told.insert(check.to_owned()) {
            let commit = &self.commit[..9];
            let place = format!("{place} at step {}, commit {commit} by {:?}", self.step, self.order);
            self.report.complain(check, self.seed, &place, detail);
        }
    }

    /// Looks at everything.
    pub fn judge(&self, place: &mut Place) {
        place.expect(self.expected, true);
        self.judge_tree(place);
        if place.strategy == Strategy::InPlace {
            self.judge_status(place);
            self.judge_refs(place);
            self.judge_objects(place);
        }
    }

    fn judge_tree(&self, place: &mut Place) {
        let mut found = taken_of(&place.tree());
        // A release says which commit it is.
        let revision = b"REVISION".as_slice();
        if place.strategy == Strategy::Releases && !self.expected.tree.contains_key(revision) {
            let said = fs::read_to_string(place.tree().join("REVISION")).unwrap_or_default();
            if said.trim() == self.commit {
                found.remove(revision);
            }
        }
        let found = differences(&self.expected.tree, &found, |path, fresh, thing| place.is_usable(path, fresh, thing));
        let mut kinds: Vec<(&'static str, String, usize)> = Vec::new();
        for (kind, path, detail) in found {
            if kind == "a path is too much" && place.is_left_by_submodule(&path) {
                continue;
            }
            match kinds.iter_mut().find(|it| it.0 == kind) {
                Some((_, _, count)) => *count += 1,
                None => kinds.push((kind, format!("{} {detail}", word(&path)), 1)),
            }
        }
        for (kind, first, count) in kinds {
            self.complain(place, &format!("tree: {kind}"), &format!("{count} of them, the first is {first}"));
        }
    }

    fn judge_status(&self, place: &mut Place) {
        let arguments = ["status", "--porcelain", "-z", "--ignore-submodules=none"];
        let status = match self.ask(place, &arguments) {
            Ok(status) => status,
            Err(why) => return self.complain(place, "git status: fails", &why),
        };
        for line in status.split(|it| *it == 0).filter(|it| it.len() > 3) {
            let (state, path) = (String::from_utf8_lossy(&line[..2]), &line[3..]);
            let is_git_s_own = (state == " M" && place.is_ambiguous(path))
                || (state == "??" && place.is_left_by_submodule(path))
                // A submodule in which attributes changed.
                || (state == " M" && self.is_ambiguous_inside(place, path));
            if !is_git_s_own {
                let check = format!("git status: is not empty ({state})");
                self.complain(place, &check, &format!("{state} {}", word(path)));
            }
        }
    }

    fn is_ambiguous_inside(&self, place: &Place, submodule: &[u8]) -> bool {
        let below = [submodule, b"/"].concat();
        place.usable.keys().any(|it| it.starts_with(&below) && place.is_ambiguous(it))
    }

    fn judge_refs(&self, place: &mut Place) {
        let text = |it: Vec<u8>| String::from_utf8_lossy(&it).trim().to_owned();
        let head = self.ask(place, &["rev-parse", "HEAD"]).map(text);
        if head.as_deref() != Ok(self.commit) {
            self.complain(place, "HEAD: is not the commit", &format!("{head:?}"));
        }
        let branch = self.ask(place, &["symbolic-ref", "HEAD"]).map(text);
        if branch.as_deref() != Ok("refs/heads/main") {
            self.complain(place, "HEAD: is not on the branch", &format!("{branch:?}"));
        }
        // A commit that is asked for by itself says nothing of where the remote's branch is.
        let tracking = format!("refs/remotes/{}/main", place.remote_name());
        let tracked = self.ask(place, &["rev-parse", &tracking]).map(text);
        if self.order != Order::Commit && tracked.as_deref() != Ok(self.commit) {
            self.complain(place, "tracking ref: is not the remote's", &format!("{tracking}: {tracked:?}"));
        }
        if place.is_whole() {
            let none = |it: Result<Vec<u8>, String>| it.map(text).unwrap_or_else(|_| "no name".into());
            let found = none(self.ask(place, &["describe", "--tags"]));
            let right = none(git::ask(self.reach, self.remote, &["describe", "--tags", self.commit]));
            if found != right {
                self.complain(place, "git describe: differs", &format!("{found}, not {right}"));
            }
        }
    }

    fn judge_objects(&self, place: &mut Place) {
        let mut arguments = vec!["fsck", "--no-progress", "--no-dangling"];
        if !self.is_thorough {
            arguments.push("--connectivity-only");
        }
        if let Err(why) = self.ask(place, &arguments) {
            self.complain(place, "git fsck: of the tree", &why);
        }
        if !place.with_submodules {
            return;
        }
        for path in &self.expected.submodules {
            let folder = place.tree().join(OsStr::from_bytes(path));
            if let Err(why) = git::ask(self.reach, &folder, &arguments) {
                self.complain(place, "git fsck: of a submodule", &format!("{}: {why}", word(path)));
            }
        }
    }

    /// What a person does in an in-place tree: pull, and gather what is loose.
    pub fn visit(&self, place: &mut Place) {
        // A submodule may be another repository at the same path by now, where git itself asks the wrong one.
        let mut arguments = vec!["pull", "--quiet", "--prune", "--no-recurse-submodules"];
        if place.start == Start::Shallow {
            arguments.extend(["--depth", "3"]);
        }
        if let Err(why) = self.ask(place, &arguments) {
            self.complain(place, "git pull: fails", &why);
        }
        if let Err(why) = self.ask(place, &["gc", "--quiet", "--prune=now"]) {
            self.complain(place, "git gc: fails", &why);
        }
    }

    fn ask(&self, place: &Place, arguments: &[&str]) -> Result<Vec<u8>, String> {
        git::ask(self.reach, &place.tree(), arguments)
    }

    /// Looks at all mirrors below the daemon's state; gives those that are damaged.
    pub fn judge_mirrors(&self, state: &Path) -> Vec<String> {
        let folders = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|it| it.path());
        let mirrors = folders(&state.join("work")).flat_map(|user| folders(&user.join("mirrors")));
        let arguments = ["fsck", "--no-progress", "--no-dangling", "--connectivity-only"];
        let mut damaged = Vec::new();
        for mirror in mirrors.filter(|it| it.extension().is_some_and(|it| it == "git")) {
            if let Err(why) = git::ask(self.reach, &mirror, &arguments) {
                let name = mirror.file_name().unwrap_or_default().to_string_lossy().into_owned();
                damaged.push(format!("{name}: {why}"));
            }
        }
        damaged
    }
}
