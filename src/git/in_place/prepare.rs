//! Everything that an update of a working tree, and of those within it, will do; and the order in which it is done.
//!
//! Invariant: nothing of a person's is changed before each of them has been looked at, so that a failure in one leaves
//! all of them as they were.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    rc::Rc,
};

use git2::Oid;

use super::{
    InPlace,
    adopt::{self, Home},
    apply, branch, clean, folders, gitfile,
    module::{self, Seat},
    plan::{self, Plan},
    save,
    standing::Standing,
    temporary::Temporary,
    under_way::UnderWay,
    unusual, writable,
};
use crate::{
    git::{
        GitFailure, Scope, cannot,
        entries::as_path,
        progress::{plain, say},
        submodules::{self, Within},
    },
    model::{
        deploy::{Clean, Submodules},
        push::{CommitId, RefName},
    },
};

/// Files that go before anything else is written: the paths are absolute.
type Cleared = Rc<BTreeSet<PathBuf>>;

/// One working tree, and what will be done to it.
pub(super) struct Prepared {
    /// The submodules that it is within, from the outermost, and itself.
    names: Vec<Vec<u8>>,
    home: Home,
    under_way: UnderWay,
    standing: Standing,
    plan: Plan,
    lost: BTreeSet<Oid>,
    /// `None`: its files go, and nothing takes their place.
    commit: Option<Oid>,
    ref_name: Option<RefName>,
    seat: Option<Seat>,
    /// Where a submodule's files were that has moved, and what goes there.
    left: Option<(Seat, Vec<Vec<u8>>)>,
    /// What a person changed where it was.
    edits: Option<Leaving>,
    scope: Scope,
    clean: Clean,
    patch: PathBuf,
    temporary: Option<Temporary>,
}

/// Looks at a working tree, and at those within it.
pub(super) fn all(home: Home, commit: Oid, place: &InPlace<'_>) -> Result<Vec<Prepared>, GitFailure> {
    let mut looked = Looked::default();
    looked.add(home, commit, place, Around::default())?;
    let left = looked.leaving.into_iter().map(|it| it.prepared(place));
    Ok(left.chain(looked.all).collect())
}

/// What was found so far.
#[derive(Default)]
struct Looked {
    all: Vec<Prepared>,
    /// Submodules that leave their places, and have not been met at another one yet.
    leaving: Vec<Vacated>,
    /// What goes with them.
    cleared: Cleared,
}

/// What is known of a submodule's surroundings.
#[derive(Default)]
struct Around {
    names: Vec<Vec<u8>>,
    seat: Option<Seat>,
}

/// The folder that a submodule leaves, and what of it goes.
struct Leaving {
    folder: PathBuf,
    plan: Plan,
}

/// A submodule that leaves its place.
struct Vacated {
    names: Vec<Vec<u8>>,
    seat: Seat,
    git_dir: PathBuf,
    home: Home,
    under_way: UnderWay,
    standing: Standing,
    plan: Plan,
}

impl Looked {
    fn add(&mut self, home: Home, commit: Oid, place: &InPlace<'_>, around: Around) -> Result<(), GitFailure> {
        let within = self.look_within(&home, commit, place, &around.names)?;
        let one = Prepared::new(home, commit, place, &around, self.cleared.clone())?;
        self.add_all(one, within, place, &around.names)
    }

    /// Adds a working tree, and then those within it.
    fn add_all(
        &mut self,
        one: Prepared,
        within: Vec<Within>,
        place: &InPlace<'_>,
        names: &[Vec<u8>],
    ) -> Result<(), GitFailure> {
        let (git_dir, root) = (one.home.repo.path().to_owned(), one.home.path.clone());
        let top = one.home.top.clone();
        for it in &within {
            if place.scope.spares_others {
                let judged = writable::judge_way(&one.home.top, &root.join(as_path(&it.path)));
                judged.map_err(|failure| submodules::failed(&it.path, failure))?;
            }
            judge_way(&root, &it.path, &one.plan, &self.cleared)?;
        }
        if !within.is_empty() {
            // What the tree around them takes away first is in no submodule's way: it has looked at it itself.
            let gone = one.plan.gone.iter().chain(&one.plan.in_the_way).map(|it| root.join(as_path(it)));
            self.cleared = Rc::new(self.cleared.iter().cloned().chain(gone).collect());
        }
        self.all.push(one);
        for it in within {
            let failed = |failure| submodules::failed(&it.path, failure);
            let folder = root.join(as_path(&it.path));
            let patch = patch_within(place.patch, &it.path)?;
            let scope = submodules::scope_within(place.scope);
            let (path, remote, patch, scope) = (&*folder, &*it.remote, &*patch, &scope);
            let inner = InPlace { path, remote, ref_name: None, patch, scope, ..*place };
            let seat = Some(Seat { outer_git_dir: git_dir.clone(), folder: folder.clone() });
            let around = Around { names: names.iter().cloned().chain([it.path.clone()]).collect(), seat };
            let module = module::git_dir(&git_dir, &it).map_err(failed)?;
            self.add_module((&module, &top), it.commit, &inner, around).map_err(failed)?;
        }
        Ok(())
    }

    fn add_module(
        &mut self,
        (git_dir, top): (&Path, &Path),
        commit: Oid,
        place: &InPlace<'_>,
        around: Around,
    ) -> Result<(), GitFailure> {
        let real = git_dir.canonicalize().map_err(cannot(format!("open `{}`", git_dir.display())))?;
        let Some(at) = self.leaving.iter().position(|it| it.git_dir == real) else {
            return self.add(module::open(git_dir, (top, place.path))?, commit, place, around);
        };
        // It moves: what it had goes from the old place, and all of it comes to the new one.
        let Vacated { seat, home, under_way, mut standing, plan: left, .. } = self.leaving.swap_remove(at);
        let within = submodules_of(&home, commit, place)?;
        standing.forget()?;
        let home = Home { path: place.path.to_owned(), ..home };
        if place.path.is_dir() {
            home.repo.set_workdir(place.path, false).map_err(cannot("move a submodule"))?;
        }
        let cleared = self.cleared.clone();
        let plan = plan::make(&home, &under_way, &mut standing, Some(commit), place.scope, cleared)?;
        writable::judge_all(&home.path, plan.touched(), place.scope.spares_others)?;
        let (lost, gone) = (save::lost_commits(&home, None)?, left.gone.clone());
        let edits = (!left.edits.is_empty()).then(|| Leaving { folder: seat.folder.clone(), plan: left });
        let one = Prepared {
            names: around.names.clone(),
            home,
            under_way,
            standing,
            plan,
            lost,
            commit: Some(commit),
            ref_name: None,
            seat: around.seat,
            left: Some((seat, gone)),
            edits,
            scope: place.scope.clone(),
            clean: place.clean,
            patch: place.patch.to_owned(),
            temporary: None,
        };
        self.add_all(one, within, place, &around.names)
    }

    /// The submodules that the commit has. Those that leave their places are noted.
    fn look_within(
        &mut self,
        home: &Home,
        commit: Oid,
        place: &InPlace<'_>,
        names: &[Vec<u8>],
    ) -> Result<Vec<Within>, GitFailure> {
        let within = submodules_of(home, commit, place)?;
        if place.scope.submodules == Submodules::Off {
            return Ok(within);
        }
        for path in submodules_of_index(home)? {
            let stays = within.iter().find(|it| it.path == path).map(|it| module::git_dir(home.repo.path(), it));
            let stays = stays.transpose()?.and_then(|it| it.canonicalize().ok());
            let names: Vec<Vec<u8>> = names.iter().cloned().chain([path.clone()]).collect();
            self.leave(home, &path, stays.as_deref(), &submodules::scope_within(place.scope), &names)?;
        }
        Ok(within)
    }

    /// Notes that the submodule at a path leaves it, with those within it, unless it is the one that stays.
    fn leave(
        &mut self,
        outer: &Home,
        path: &[u8],
        stays: Option<&Path>,
        scope: &Scope,
        names: &[Vec<u8>],
    ) -> Result<(), GitFailure> {
        let folder = outer.path.join(as_path(path));
        if folder.join(".git").symlink_metadata().is_err() {
            return Ok(());
        }
        if scope.spares_others {
            writable::judge_way(&outer.top, &folder).map_err(|failure| submodules::failed(path, failure))?;
        }
        let Some(git_dir) = module::at(&folder).filter(|it| Some(&**it) != stays) else { return Ok(()) };
        let seat = Seat { outer_git_dir: outer.repo.path().to_owned(), folder };
        say(&format!("submodule `{}` leaves its place", plain(&names.join(&b'/'))));
        let one = Vacated::look(seat, (git_dir, &outer.top), scope, names.to_vec());
        let one = one.map_err(|failure| submodules::failed(path, failure))?;
        for inner in submodules_of_index(&one.home)? {
            let names: Vec<Vec<u8>> = names.iter().cloned().chain([inner.clone()]).collect();
            self.leave(&one.home, &inner, None, scope, &names)?;
        }
        let mut cleared = BTreeSet::clone(&self.cleared);
        cleared.extend(one.paths());
        self.cleared = Rc::new(cleared);
        self.leaving.push(one);
        Ok(())
    }
}

/// The submodules that a commit has, if the hook wants them.
fn submodules_of(home: &Home, commit: Oid, place: &InPlace<'_>) -> Result<Vec<Within>, GitFailure> {
    match place.scope.submodules {
        Submodules::Off => return Ok(Vec::new()),
        Submodules::On | Submodules::Recursive => (),
    }
    let id = CommitId::parse(&commit.to_string()).expect("libgit2 prints ids as 40 hex digits");
    submodules::named_by(&home.store, &id, None, place.remote)
}

fn submodules_of_index(home: &Home) -> Result<Vec<Vec<u8>>, GitFailure> {
    let index = home.repo.index().map_err(cannot("read the index"))?;
    Ok(index.iter().filter(|it| it.mode == 0o160_000).map(|it| it.path).collect())
}

impl Vacated {
    fn look(
        seat: Seat,
        (git_dir, top): (PathBuf, &Path),
        scope: &Scope,
        names: Vec<Vec<u8>>,
    ) -> Result<Self, GitFailure> {
        let home = module::open(&git_dir, (top, &seat.folder))?;
        let under_way = UnderWay::begin(&home, &[])?;
        let mut standing = Standing::look(&home, &under_way)?;
        let plan = plan::make(&home, &under_way, &mut standing, None, scope, Cleared::default())?;
        writable::judge_all(&seat.folder, plan.touched(), scope.spares_others)?;
        Ok(Self { names, seat, git_dir, home, under_way, standing, plan })
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let gone = self.plan.gone.iter().map(|it| self.seat.folder.join(as_path(it)));
        gone.chain([self.seat.folder.join(".git")])
    }

    fn prepared(self, place: &InPlace<'_>) -> Prepared {
        let Self { names, seat, home, under_way, standing, plan, .. } = self;
        let name = seat.folder.file_name().unwrap_or_default().to_owned();
        let patch = patch_within(place.patch, name.as_encoded_bytes()).unwrap_or_else(|_| place.patch.to_owned());
        let (scope, clean) = (place.scope.clone(), Clean::None);
        let (left, lost) = (Some((seat, plan.gone.clone())), BTreeSet::new());
        let (commit, ref_name, temporary, seat) = (None, None, None, None);
        Prepared {
            names,
            home,
            under_way,
            standing,
            plan,
            lost,
            commit,
            ref_name,
            seat,
            left,
            edits: None,
            scope,
            clean,
            patch,
            temporary,
        }
    }
}

/// Fails where something else than a folder is in the place of a submodule, or above it, and stays.
fn judge_way(outer: &Path, path: &[u8], plan: &Plan, cleared: &Cleared) -> Result<(), GitFailure> {
    let goes = |it: &Path| {
        let bytes = it.as_os_str().as_encoded_bytes();
        plan.gone.iter().chain(&plan.in_the_way).any(|gone| gone == bytes)
            || plan.puts.iter().any(|put| put.path == bytes)
            || cleared.contains(&outer.join(it))
    };
    let mut way = as_path(path).ancestors().filter(|it| !it.as_os_str().is_empty());
    let is_obstacle = |it: &&Path| outer.join(it).symlink_metadata().is_ok_and(|it| !it.is_dir()) && !goes(it);
    match way.find(is_obstacle) {
        Some(obstacle) => {
            let (path, obstacle) = (plain(path), outer.join(obstacle));
            Err(GitFailure::permanent(format!("submodule `{path}`: `{}` is not a folder", obstacle.display())))
        }
        None => Ok(()),
    }
}

impl Prepared {
    fn new(
        home: Home,
        commit: Oid,
        place: &InPlace<'_>,
        around: &Around,
        cleared: Cleared,
    ) -> Result<Self, GitFailure> {
        unusual::refuse_replaced(&home.repo, commit)?;
        let under_way = UnderWay::begin(&home, &adopt::refs(place.ref_name))?;
        let mut standing = Standing::look(&home, &under_way)?;
        let is_here = || module::at(&home.path) == home.repo.path().canonicalize().ok();
        if around.seat.is_some() && !is_here() {
            // What its index knows of was somewhere else, or a person has removed it.
            standing.forget()?;
        }
        let plan = plan::make(&home, &under_way, &mut standing, Some(commit), place.scope, cleared)?;
        writable::judge_all(&home.path, plan.touched(), place.scope.spares_others)?;
        let mut lost = save::lost_commits(&home, place.ref_name)?;
        lost.extend(branch::judge(&home, place.ref_name)?);
        Ok(Self {
            names: around.names.clone(),
            home,
            under_way,
            standing,
            plan,
            lost,
            commit: Some(commit),
            ref_name: place.ref_name.cloned(),
            seat: around.seat.clone(),
            left: None,
            edits: None,
            scope: place.scope.clone(),
            clean: place.clean,
            patch: place.patch.to_owned(),
            temporary: None,
        })
    }

    /// A failure that is about this one.
    fn failed(names: &[Vec<u8>]) -> impl Fn(GitFailure) -> GitFailure {
        move |failure| names.iter().rev().fold(failure, |failure, name| submodules::failed(name, failure))
    }

    /// Fails where something of a person's would be overwritten.
    pub(super) fn refuse_edits(&self) -> Result<(), GitFailure> {
        if let Some(Leaving { plan, .. }) = &self.edits {
            save::refuse(&self.home, plan, &BTreeSet::new()).map_err(Self::failed(&self.names))?;
        }
        save::refuse(&self.home, &self.plan, &self.lost).map_err(Self::failed(&self.names))
    }

    /// Saves what would be overwritten; answers whether there was anything.
    pub(super) fn save_edits(&mut self) -> Result<bool, GitFailure> {
        let names = self.names.clone();
        let was_moved = match self.edits.take() {
            Some(Leaving { folder, plan }) => self.save_moved(folder, &plan).map_err(Self::failed(&names))?,
            None => false,
        };
        let saved = save::save(&self.home, &self.plan, &self.lost, &self.patch).map_err(Self::failed(&names))?;
        Ok(saved || was_moved)
    }

    /// Saves what a person changed where a submodule was.
    fn save_moved(&mut self, folder: PathBuf, plan: &Plan) -> Result<bool, GitFailure> {
        let set_workdir = |home: &Home| home.repo.set_workdir(&home.path, false).map_err(cannot("move a submodule"));
        let new = std::mem::replace(&mut self.home.path, folder);
        set_workdir(&self.home)?;
        let saved = save::save(&self.home, plan, &BTreeSet::new(), &self.patch)?;
        self.home.path = new;
        // Where it is not there yet, it is set once it is.
        if self.home.path.is_dir() {
            set_workdir(&self.home)?;
        }
        Ok(saved)
    }

    /// Writes the new files beside the old ones.
    pub(super) fn write_files(&mut self) -> Result<(), GitFailure> {
        let written = Temporary::write(&self.home, &self.under_way.folder, &self.plan, &self.scope);
        self.temporary = Some(written.map_err(Self::failed(&self.names))?);
        Ok(())
    }

    /// Notes that files are about to change.
    pub(super) fn note(&mut self) -> Result<(), GitFailure> {
        self.commit.map_or(Ok(()), |commit| self.under_way.note(commit))
    }

    /// Takes away what has to be gone before any other file comes. What goes as a whole does so when its turn comes, which
    /// is before that of others.
    pub(super) fn clear(&mut self) -> Result<(), GitFailure> {
        match self.left.take_if(|_| self.commit.is_some()) {
            Some((seat, gone)) => {
                let top = &*self.home.top;
                gone.iter().try_for_each(|path| folders::remove((top, &seat.folder), path))?;
                module::unlink(top, &seat)
            }
            None => Ok(()),
        }
    }

    /// Takes its files away, and then its repository, which may lie among them: who is at work on it lets go first.
    fn go(mut self) -> Result<(), GitFailure> {
        let left = self.left.take();
        if let Some((seat, gone)) = &left {
            gone.iter().try_for_each(|path| folders::remove((&self.home.top, &seat.folder), path))?;
        }
        apply::empty_index(&self.home, &mut self.standing)?;
        self.under_way.end()?;
        left.map_or(Ok(()), |(seat, _)| module::unlink(&self.home.top, &seat))
    }

    /// Brings files, index and refs to the commit.
    pub(super) fn switch(self) -> Result<(), GitFailure> {
        let names = self.names.clone();
        self.bring().map_err(Self::failed(&names))
    }

    fn bring(mut self) -> Result<(), GitFailure> {
        let Some(commit) = self.commit else { return self.go() };
        if let Some(seat) = &self.seat {
            let place = (&*self.home.top, &*seat.folder);
            folders::make(place.0, place.1).map_err(cannot("make a submodule"))?;
            gitfile::link(self.home.repo.path(), place)?;
            self.home.repo.set_workdir(&seat.folder, false).map_err(cannot("open a submodule"))?;
        }
        let temporary = self.temporary.take().unwrap_or_default();
        apply::apply(
            &self.home,
            &self.under_way.folder,
            &mut self.standing,
            &self.plan,
            temporary,
            commit,
            &self.scope,
        )?;
        branch::move_refs(&self.home, commit, self.ref_name.as_ref())?;
        self.under_way.end()?;
        match self.clean {
            Clean::None => (),
            Clean::Untracked => clean::remove_untracked(&self.home, self.scope.spares_others)?,
        }
        let count = self.plan.puts.len();
        say(&format!(
            "{} is at {commit:.7}: {count} {} written, {} removed",
            self.home.path.display(),
            if count == 1 { "file" } else { "files" },
            self.plan.gone.len()
        ));
        Ok(())
    }
}

/// Where the edits of a submodule are saved: among the files that are saved of the outer one.
fn patch_within(patch: &Path, path: &[u8]) -> Result<PathBuf, GitFailure> {
    let mut files = OsString::from(patch);
    files.push(".files");
    let mut within = PathBuf::from(files).join(as_path(path)).into_os_string();
    within.push(".patch");
    let within = PathBuf::from(within);
    if let Some(parent) = within.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(cannot(format!("make `{}`", parent.display())))?;
    }
    Ok(within)
}
