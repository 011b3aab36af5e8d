//! What an update will do to a working tree, worked out before the first file changes.
//!
//! Invariant: the plan changes nothing, and names everything of a person's that it would overwrite.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    rc::Rc,
};

use git2::{ObjectType, Oid, Tree};

use super::{
    adopt::Home,
    sparse::Sparse,
    standing::{Eyes, Flags, Found, Standing},
    under_way::UnderWay,
};
use crate::{
    git::{
        GitFailure, Scope, cannot,
        entries::{self as tree, Change, Entry, as_path},
        lfs,
        progress::plain,
        shell::path_word,
        tree::attributes::{Attributes, filter_refusal, is_attributes},
    },
    model::{
        deploy::{Lfs, UnknownFilters},
        run::FailureClass,
    },
};

/// What an update will do.
pub(super) struct Plan {
    /// Written out of the commit.
    pub(super) puts: Vec<Change>,
    /// Removed, since the commit does not have them.
    pub(super) gone: Vec<Vec<u8>>,
    /// As the commit has them already; the index only needs to know.
    pub(super) fits: Vec<(Vec<u8>, Entry)>,
    /// Files that git was told to leave alone; the index only needs to know what the commit has there.
    pub(super) kept: Vec<Kept>,
    /// Tracked files that a person changed, by `git add` or without.
    pub(super) edits: Vec<Vec<u8>>,
    /// Untracked files where the commit has something.
    pub(super) in_the_way: Vec<Vec<u8>>,
    /// What the `.gitattributes` of the commit ask for.
    pub(super) attributes: Rc<Attributes>,
}

impl Plan {
    /// The paths of all that is written or removed.
    pub(super) fn touched(&self) -> impl Iterator<Item = &Vec<u8>> + Clone {
        self.puts.iter().map(|it| &it.path).chain(&self.gone).chain(&self.in_the_way)
    }
}

/// A file that git was told to leave alone.
pub(super) struct Kept {
    pub(super) path: Vec<u8>,
    /// What the commit has there.
    pub(super) now: Option<Entry>,
    /// What tells git so.
    pub(super) flags: Flags,
}

/// Works it out. Without a commit all files go.
pub(super) fn make(
    home: &Home,
    under_way: &UnderWay,
    standing: &mut Standing,
    commit: Option<Oid>,
    scope: &Scope,
    cleared: Rc<BTreeSet<PathBuf>>,
) -> Result<Plan, GitFailure> {
    let what = || cannot::<git2::Error>(format!("compare `{}` with the commit", home.path.display()));
    let index_tree = standing.index.write_tree_to(&home.repo).map_err(what())?;
    let head = home.repo.head().ok().and_then(|it| it.peel_to_tree().ok());
    let target = match commit {
        Some(commit) => home.repo.find_commit(commit).and_then(|it| it.tree()),
        None => home.repo.treebuilder(None).and_then(|it| it.write()).and_then(|id| home.repo.find_tree(id)),
    };
    let target = target.map_err(what())?;
    let mut update = changes_there(home, Some(index_tree), target.id())?;
    let staged = match standing.is_forgotten {
        true => Vec::new(),
        false => tree::changes(&home.repo, head.as_ref().map(Tree::id), Some(index_tree))?,
    };
    let before = attributes(home, standing, &[])?;
    let attributes = Rc::new(attributes(home, standing, &update)?);
    let kept = take_kept(home, standing, &mut update)?;

    let mut versions = vec![target];
    versions.extend(head);
    for id in &under_way.earlier {
        // An update that never got as far as the objects has not written a file either.
        versions.extend(home.repo.find_commit(*id).and_then(|it| it.tree()).ok());
    }
    let has_broken_off = !under_way.earlier.is_empty();
    let eyes = Eyes::new(home, &attributes, cleared);
    let attributes = [attributes, Rc::new(before)];
    let planner = Planner { home, eyes, versions, attributes, index_tree, has_broken_off };
    let mut plan = planner.plan(standing, update, &staged)?;
    plan.kept = kept;
    planner.find_pointers(scope.lfs, standing, &mut plan)?;
    planner.judge_objects(&plan)?;
    match scope.filters {
        UnknownFilters::Fail => filter_refusal(&plan.attributes, b"", &plan.puts).map_or(Ok(plan), Err),
        UnknownFilters::Ignore => Ok(plan),
    }
}

/// How the index and the commit differ. An object that is missing is a damage.
fn changes_there(home: &Home, old: Option<Oid>, new: Oid) -> Result<Vec<Change>, GitFailure> {
    // The index may name objects that a person's `git add` has just made, which the other view has not seen yet.
    tree::changes(&home.repo, old, Some(new)).map_err(|failure| match failure.class {
        FailureClass::Permanent => failure,
        FailureClass::Tempfail | FailureClass::Fetch | FailureClass::Other => {
            home.store.folder.is_damaged(&failure.reason)
        }
    })
}

/// Takes out of an update what git was told to leave alone, and what a sparse checkout leaves out.
fn take_kept(home: &Home, standing: &Standing, update: &mut Vec<Change>) -> Result<Vec<Kept>, GitFailure> {
    let sparse = Sparse::read(home.repo.path())?;
    let (mut kept, mut refused) = (Vec::new(), None);
    let is_tracked = |path: &[u8]| standing.index.get_path(as_path(path), 0).is_some();
    update.retain(|change| {
        let flags = match standing.kept.get(&change.path) {
            Some(flags) => *flags,
            // Only what is new is judged by the patterns: what is here is here because a person wanted it.
            None if change.now.is_some() && !is_tracked(&change.path) => match &sparse {
                Some(sparse) if !sparse.wants(&as_sparse(change)) => Flags::SKIPPED,
                Some(_) | None => return true,
            },
            None => return true,
        };
        let is_there = || fs::symlink_metadata(home.path.join(as_path(&change.path))).is_ok();
        if change.now.is_none() && is_there() {
            refused.get_or_insert_with(|| change.path.clone());
        }
        kept.push(Kept { path: change.path.clone(), now: change.now, flags });
        false
    });
    match refused {
        None => Ok(kept),
        Some(path) => {
            let (shown, word) = (plain(&path), path_word(as_path(&path)));
            Err(GitFailure::permanent(format!(
                "the commit does not have `{shown}`, and git was told to leave that file alone: keep a copy of it, then                  run `cd {} && git update-index --no-skip-worktree {word} && git update-index --no-assume-unchanged {word}`",
                path_word(&home.path)
            )))
        }
    }
}

/// A path as the patterns of a sparse checkout see it: to them a submodule is a folder.
fn as_sparse(change: &Change) -> Vec<u8> {
    let mut path = change.path.clone();
    if change.now.is_some_and(|it| it.kind == tree::Kind::Submodule) {
        path.push(b'/');
    }
    path
}

/// The attributes of the commit: those of the index, as far as the update does not change them.
fn attributes(home: &Home, standing: &Standing, update: &[Change]) -> Result<Attributes, GitFailure> {
    let mut blobs: BTreeMap<&[u8], Option<Oid>> =
        standing.attributes.iter().map(|(path, id)| (path.as_slice(), Some(*id))).collect();
    let changed = update.iter().filter(|it| is_attributes(&it.path));
    let blob = |change: &Change| change.now.filter(|it| it.kind.is_file()).map(|it| it.id);
    blobs.extend(changed.map(|it| (it.path.as_slice(), blob(it))));
    let read = Attributes::read(&home.repo, blobs.into_iter().filter_map(|(path, id)| Some((path, id?))));
    read.map(|it| it.in_clone_of(home.habit))
}

struct Planner<'a> {
    home: &'a Home,
    eyes: Eyes<'a>,
    /// Trees whose files are nobody's edits: the commit's first, then HEAD's, then those of updates that broke off.
    versions: Vec<Tree<'a>>,
    /// Those of the commit, and those of the index.
    attributes: [Rc<Attributes>; 2],
    index_tree: Oid,
    has_broken_off: bool,
}

impl Planner<'_> {
    fn plan(&self, standing: &Standing, update: Vec<Change>, staged: &[Change]) -> Result<Plan, GitFailure> {
        let attributes = self.attributes[0].clone();
        let (puts, gone, fits) = (Vec::new(), Vec::new(), Vec::new());
        let kept = Vec::new();
        let mut plan = Plan { puts, gone, fits, kept, edits: Vec::new(), in_the_way: Vec::new(), attributes };
        let updated: BTreeSet<&[u8]> = update.iter().map(|it| it.path.as_slice()).collect();
        let mut doubtful: BTreeSet<&[u8]> = standing.suspects.iter().map(Vec::as_slice).collect();
        doubtful.extend(staged.iter().map(|it| it.path.as_slice()));
        doubtful.extend(standing.conflicts.iter().map(Vec::as_slice));
        doubtful.retain(|it| !standing.kept.contains_key(*it));
        let mut fitting = BTreeSet::new();
        for path in doubtful {
            let found = self.eyes.look(path)?;
            if !self.is_known(&found, path) {
                plan.edits.push(path.to_owned());
            }
            match tree::entry_at(&self.versions[0], path) {
                Some(entry) if found.is(Some(entry)) && found != Found::Nothing => {
                    plan.fits.push((path.to_owned(), entry));
                    fitting.insert(path.to_owned());
                }
                now @ Some(_) if !updated.contains(path) => plan.puts.push(Change { path: path.to_owned(), now }),
                None if standing.conflicts.iter().any(|it| it == path) => plan.gone.push(path.to_owned()),
                Some(_) | None => (),
            }
        }
        let indexed = self.home.repo.find_tree(self.index_tree).map_err(cannot("read the index"))?;
        let (update, gone): (Vec<_>, Vec<_>) = update.into_iter().partition(|it| it.now.is_some());
        plan.gone.extend(gone.into_iter().map(|it| it.path));
        for change in update {
            match change.now {
                Some(_) if fitting.contains(&change.path) => (),
                Some(entry) => {
                    let is_tracked = tree::entry_at(&indexed, &change.path).is_some();
                    self.plan_put(&mut plan, change, entry, is_tracked)?;
                }
                None => (),
            }
        }
        if self.has_broken_off {
            self.find_leftovers(&mut plan, &indexed)?;
        }
        self.find_obstacles(&mut plan, &indexed)?;
        Ok(plan)
    }

    /// A path whose entry differs from the index: nobody's file is written without a look, a person's is in the way.
    fn plan_put(&self, plan: &mut Plan, change: Change, entry: Entry, is_tracked: bool) -> Result<(), GitFailure> {
        if !is_tracked {
            let found = self.eyes.look(&change.path)?;
            if found.is(Some(entry)) && found != Found::Nothing {
                plan.fits.push((change.path, entry));
                return Ok(());
            }
            let is_leaf =
                matches!(found, Found::Leaf { .. } | Found::Strange) && !self.is_case_of_gone(plan, &change.path);
            if is_leaf && !self.is_known(&found, &change.path) && !plan.edits.contains(&change.path) {
                plan.in_the_way.push(change.path.clone());
            }
        }
        plan.puts.push(change);
        Ok(())
    }

    /// Whether a file that goes is the very one that is there, since only the case of its name changes.
    fn is_case_of_gone(&self, plan: &Plan, path: &[u8]) -> bool {
        self.home.ignores_case && plan.gone.iter().any(|it| it.eq_ignore_ascii_case(path))
    }

    /// Fails where a file's content is not there, before anything changes.
    fn judge_objects(&self, plan: &Plan) -> Result<(), GitFailure> {
        let odb = self.home.store.repo.odb().map_err(cannot("open the objects"))?;
        let missing = plan.puts.iter().find_map(|it| {
            let entry = it.now.filter(|entry| entry.kind != tree::Kind::Submodule && !odb.exists(entry.id))?;
            Some((entry.id, &it.path))
        });
        match missing {
            Some((id, path)) => Err(self
                .home
                .store
                .folder
                .is_damaged(&format!("object {id}, `{}` of the tree, is missing", plain(path)))),
            None => Ok(()),
        }
    }

    fn is_known(&self, found: &Found, path: &[u8]) -> bool {
        self.versions.iter().any(|tree| found.is(tree::entry_at(tree, path))) || self.is_converted(found, path)
    }

    /// Whether it is what was written for a blob that its file differs from. Undoing that does not always lead back: a
    /// blob may have line ends of both kinds.
    fn is_converted(&self, found: &Found, path: &[u8]) -> bool {
        let Found::Leaf { kinds, ids } = found else { return false };
        let conversions = self.attributes.iter().map(|it| it.of(path, false).conversion());
        let is_file = kinds.iter().any(|it| it.is_file());
        let conversions: Vec<_> = conversions.filter(|it| is_file && it.is_needed()).collect();
        if conversions.is_empty() {
            return false;
        }
        let entries = self.versions.iter().filter_map(|tree| tree::entry_at(tree, path));
        entries.filter(|it| kinds.contains(&it.kind)).any(|entry| {
            let Ok(blob) = self.home.repo.find_blob(entry.id) else { return false };
            let written = conversions.iter().map(|it| it.apply(entry.id, blob.content().to_vec()));
            let mut hashes = written.filter_map(|it| Oid::hash_object(ObjectType::Blob, &it).ok());
            hashes.any(|it| ids.contains(&it))
        })
    }

    /// Finds untracked files where the commit has a folder, and untracked files below a folder where it has a file.
    fn find_obstacles(&self, plan: &mut Plan, indexed: &Tree<'_>) -> Result<(), GitFailure> {
        let mut obstacles = BTreeSet::new();
        let mut below = Vec::new();
        for change in &plan.puts {
            let separators = change.path.iter().enumerate().filter(|(_, it)| **it == b'/');
            let parents = separators.map(|(at, _)| &change.path[..at]);
            obstacles.extend(parents.filter(|it| !self.eyes.is_real_folder(as_path(it))).map(<[u8]>::to_owned));
            let is_submodule = change.now.is_some_and(|it| it.kind == tree::Kind::Submodule);
            if !is_submodule && self.eyes.is_real_folder(as_path(&change.path)) {
                below.push(change.path.clone());
            }
        }
        while let Some(folder) = below.pop() {
            let whole = self.home.path.join(as_path(&folder));
            let what = || cannot::<std::io::Error>(format!("read `{}`", whole.display()));
            for entry in fs::read_dir(&whole).map_err(what())? {
                let entry = entry.map_err(what())?;
                let path = [&folder, &b"/"[..], entry.file_name().as_bytes()].concat();
                if self.eyes.is_cleared(&entry.path()) {
                    continue;
                }
                if entry.file_type().map_err(what())?.is_dir() {
                    below.push(path);
                } else {
                    obstacles.insert(path);
                }
            }
        }
        let present: BTreeSet<Vec<u8>> = plan.in_the_way.iter().chain(&plan.gone).cloned().collect();
        for path in obstacles.into_iter().filter(|it| !present.contains(it)) {
            let found = self.eyes.look(&path)?;
            if !matches!(found, Found::Leaf { .. } | Found::Strange) || tree::entry_at(indexed, &path).is_some() {
                continue;
            }
            match self.is_known(&found, &path) {
                true => plan.gone.push(path),
                false => plan.in_the_way.push(path),
            }
        }
        Ok(())
    }

    /// Finds files of Git LFS that are at hand and not in place, such as where the pointers were deployed before.
    fn find_pointers(&self, lfs: Lfs, standing: &Standing, plan: &mut Plan) -> Result<(), GitFailure> {
        let matters = match lfs {
            Lfs::Fail | Lfs::Pull => plan.attributes.has_lfs,
            Lfs::Ignore => false,
        };
        if !matters {
            return Ok(());
        }
        let mirror = &self.home.store;
        let is_kept = |path: &Vec<u8>, plan: &Plan| {
            standing.kept.contains_key(path) || plan.kept.iter().any(|it| it.path == *path)
        };
        let planned: BTreeSet<Vec<u8>> = plan.puts.iter().map(|it| it.path.clone()).collect();
        for change in tree::changes(&self.home.repo, None, Some(self.versions[0].id()))? {
            let Some(entry) = change.now.filter(|it| it.kind.is_file()) else { continue };
            if !plan.attributes.of(&change.path, false).is_lfs() || is_kept(&change.path, plan) {
                continue;
            }
            let Some(pointer) = lfs::pointer(mirror, &change.path, entry)? else { continue };
            lfs::object(mirror, lfs, &change.path, &pointer)?;
            let whole = self.home.path.join(as_path(&change.path));
            let is_there = fs::symlink_metadata(&whole).is_ok_and(|it| it.is_file() && it.len() == pointer.size)
                && (!pointer.is_tiny() || lfs::pointer_of_file(&whole).is_ok_and(|it| it == entry.id));
            if !is_there && !planned.contains(&change.path) {
                plan.fits.retain(|(path, _)| *path != change.path);
                plan.puts.push(change);
            }
        }
        Ok(())
    }

    /// Finds what an update that broke off has written, and neither the index nor the commit knows.
    fn find_leftovers(&self, plan: &mut Plan, indexed: &Tree<'_>) -> Result<(), GitFailure> {
        for version in &self.versions[1..] {
            for change in tree::changes(&self.home.repo, Some(self.versions[0].id()), Some(version.id()))? {
                let is_new = change.now.is_some() && tree::entry_at(&self.versions[0], &change.path).is_none();
                if !is_new || tree::entry_at(indexed, &change.path).is_some() || plan.gone.contains(&change.path) {
                    continue;
                }
                let found = self.eyes.look(&change.path)?;
                if matches!(found, Found::Leaf { .. }) && found.is(change.now) {
                    plan.gone.push(change.path);
                }
            }
        }
        Ok(())
    }
}
