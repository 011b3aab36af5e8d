//! Fetches from a remote, and no more of the history than is wanted.
//!
//! Invariant: what a repository lacks of its history is said in its `shallow` file, and one that has all of it keeps all
//! of it. What has to be sent is worked out by libgit2 and the remote's git, never here.

use std::{collections::BTreeSet, fs};

use git2::{AutotagOption, Direction, ErrorClass, FetchOptions, RemoteCallbacks, RemoteHead};

use super::{
    commits::{find, gone, sha256, speaks_of_sha256},
    packs,
    refs::{self, Offered, WANTED},
    repository::{Kind, LocalRepo},
};
use crate::git::{
    Cause, GitFailure, Scope,
    history::Reach,
    progress::{ServerWords, say},
    remote::Remote,
    transport::{journey::Journey, local, pack_stream::EMPTY_PACK_STEM},
};
use crate::model::{
    deploy::Depth,
    job::Target,
    push::{CommitId, RefName},
    run::FailureClass,
};

/// How far a history is followed back where a question needs it; then comes all of it.
const DEEPENINGS: [i32; 2] = [100, 2000];

/// libgit2's word for all of the history (`GIT_FETCH_DEPTH_UNSHALLOW`).
const ALL: i32 = i32::MAX;

/// Refs that are asked for together, by their full names; `HEAD` is what the remote's own stands for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    names: BTreeSet<String>,
    /// So many commits of history; `None`: all that leads to what is there already.
    depth: Option<i32>,
}

/// Brings what the target stands for, with as much history as the scope wants. `settle` is asked whether the repository
/// is one that may be fetched into, once the remote has said what it has.
pub(in crate::git) fn fetch(
    mirror: &LocalRepo,
    journey: &Journey,
    target: &Target,
    scope: &Scope,
    settle: impl FnOnce(&Offered) -> Result<(), GitFailure>,
) -> Result<Offered, GitFailure> {
    let mut session = Session::open(mirror, journey)?;
    let offered = session.offered()?;
    settle(&offered)?;
    let named = match target {
        Target::Commit { ref_name, .. } => ref_name.as_ref(),
        Target::Ref(ref_name) => Some(ref_name),
        Target::DefaultBranch | Target::Release { .. } | Target::Standing => None,
    };
    let mut fetched = BTreeSet::new();
    for request in requests(mirror, &offered, target, named, scope)? {
        match session.ask(&request) {
            Ok(()) => fetched.extend(request.names),
            Err(failure) => fetched.extend(ask_for_less(&mut session, named, request, failure)?),
        }
    }
    if scope.tags && matches!(mirror.folder.kind, Kind::Clone { .. }) {
        fetched.extend(bring_tags(mirror, &mut session, &offered)?);
    }
    refs::adopt(mirror, &offered, &fetched, named)?;
    if let Target::Commit { commit, .. } = target
        && find(&mirror.repo, commit).is_none()
    {
        let has_all = offered.names().all(|it| fetched.contains(it));
        // Every server gives out what a ref of its own leads to, and not every one what is asked for by its id.
        let asked = offered.other_name_of(commit).unwrap_or(commit.as_str());
        ask_for_commit(mirror, &mut session, (commit, asked, named), scope, has_all)?;
    }
    Ok(offered)
}

/// What is asked for.
fn requests(
    mirror: &LocalRepo,
    offered: &Offered,
    target: &Target,
    named: Option<&RefName>,
    scope: &Scope,
) -> Result<Vec<Request>, GitFailure> {
    let repo = &mirror.repo;
    let is_new = repo.references().is_ok_and(|mut it| it.next().is_none());
    let (is_shallow, is_clone) = (repo.is_shallow(), matches!(mirror.folder.kind, Kind::Clone { .. }));
    let offers = |name: &String| name == "HEAD" || offered.id_of(name).is_some();
    let mut wanted: BTreeSet<String> = named.map(RefName::full).into_iter().collect();
    if matches!(target, Target::DefaultBranch) {
        wanted.extend(offered.head().map(|(_, branch)| branch.as_ref().map_or("HEAD".to_owned(), RefName::full)));
    }
    if let (Target::Commit { commit, .. }, true) = (target, wanted.is_empty()) {
        // Not every server gives out what is asked for by its id, but all give what a ref of theirs leads to.
        let leads_there = |it: &&String| offered.commit_of(it).is_some_and(|id| id.to_string() == commit.as_str());
        wanted.extend(offered.names().find(leads_there).cloned());
    }
    wanted.retain(offers);
    let mut known: BTreeSet<String> = offered.names().filter(|it| is_known(mirror, it)).cloned().collect();
    let all = || {
        let is_tag = |name: &String| name.starts_with("refs/tags/");
        let names = offered.names().filter(|it| scope.tags || !is_clone || !is_tag(it) || wanted.contains(*it));
        names.cloned().chain(wanted.iter().cloned()).collect()
    };
    let one = |names, depth| vec![Request { names, depth }];
    let requests = match scope.depth {
        // Of a clone that a person cut short no more is fetched than is new, unless the hook says how much.
        Depth::Auto if is_clone && is_shallow => apart(mirror, wanted, BTreeSet::new(), 1),
        Depth::Auto if is_clone => one(all(), None),
        Depth::Auto if is_new => one(wanted, Some(1)),
        Depth::Auto if is_shallow => apart(mirror, wanted, known, 1),
        Depth::All => one(all(), is_shallow.then_some(ALL)),
        Depth::Commits(_) if is_clone && !is_new && !is_shallow => one(wanted, None),
        Depth::Commits(depth) if is_new || is_shallow => {
            if !is_clone {
                wanted.append(&mut known);
            }
            one(wanted, Some(i32::try_from(depth.get()).unwrap_or(ALL)))
        }
        // Where all of the history is, what comes after it is cheaper than a cut.
        Depth::Auto | Depth::Commits(_) => {
            wanted.append(&mut known);
            one(wanted, None)
        }
    };
    Ok(requests.into_iter().filter(|it| !it.names.is_empty()).collect())
}

/// Refs that were here before come with all that is new, and others with their last commits alone: how far a new one is
/// from what is here, nobody knows.
fn apart(mirror: &LocalRepo, wanted: BTreeSet<String>, mut known: BTreeSet<String>, depth: i32) -> Vec<Request> {
    let (mut before, new): (BTreeSet<_>, BTreeSet<_>) = wanted.into_iter().partition(|it| is_known(mirror, it));
    before.append(&mut known);
    vec![Request { names: new, depth: Some(depth) }, Request { names: before, depth: None }]
}

fn is_known(mirror: &LocalRepo, full: &str) -> bool {
    mirror.folder.kind.local_name(full).is_some_and(|it| mirror.repo.refname_to_id(&it).is_ok())
}

/// One broken branch is nobody else's trouble: where all of them together cannot be had, the one that is wanted may be.
fn ask_for_less(
    session: &mut Session<'_>,
    named: Option<&RefName>,
    request: Request,
    failure: GitFailure,
) -> Result<BTreeSet<String>, GitFailure> {
    let Some(name) = named.map(RefName::full).filter(|it| request.names.len() > 1 && request.names.contains(it)) else {
        return Err(failure);
    };
    say(&format!("warning: {}", failure.reason));
    say(&format!("fetching `{name}` alone"));
    let less = Request { names: BTreeSet::from([name]), ..request };
    session.ask(&less).map_err(|again| match again.class {
        FailureClass::Permanent | FailureClass::Tempfail | FailureClass::Other => again,
        FailureClass::Fetch => failure,
    })?;
    Ok(less.names)
}

/// Tags that lead into what has come in, which git, too, fetches with it.
fn bring_tags(
    mirror: &LocalRepo,
    session: &mut Session<'_>,
    offered: &Offered,
) -> Result<BTreeSet<String>, GitFailure> {
    let odb_has = |name: &String| offered.id_of(name).is_some_and(|id| mirror.repo.odb().is_ok_and(|it| it.exists(id)));
    let tags = offered.tags_into(&mirror.repo)?;
    let absent: BTreeSet<String> = tags.iter().filter(|it| !odb_has(it)).cloned().collect();
    if !absent.is_empty() {
        session.ask(&Request { names: absent, depth: None })?;
    }
    Ok(tags.into_iter().collect())
}

/// Brings a commit that no ref that was fetched leads to.
fn ask_for_commit(
    mirror: &LocalRepo,
    session: &mut Session<'_>,
    (commit, asked, named): (&CommitId, &str, Option<&RefName>),
    scope: &Scope,
    has_all: bool,
) -> Result<(), GitFailure> {
    let repo = &mirror.repo;
    let is_sparing = is_sparing(mirror);
    let depth = match scope.depth {
        Depth::Auto if is_sparing && mirror.folder.kind == Kind::Bare => Some(1),
        Depth::Commits(depth) if is_sparing => Some(i32::try_from(depth.get()).unwrap_or(ALL)),
        Depth::Auto | Depth::All | Depth::Commits(_) => None,
    };
    say(&format!(
        "asking for {} {}",
        commit.short(),
        if asked == commit.as_str() { "by its id" } else { "by a ref of its own" }
    ));
    let asked = session.download(&[format!("+{asked}:{WANTED}")], depth);
    let journey = session.journey;
    if let (Ok(()), Some(id)) = (&asked, find(repo, commit)) {
        return match mirror.folder.kind {
            Kind::Bare => repo.reference(WANTED, id, true, "landfall: fetch").map(drop),
            // The branch of the working tree will hold it.
            Kind::Clone { .. } => Ok(()),
        }
        .map_err(crate::git::cannot(format!("write `{WANTED}`")));
    }
    // A server that does not have it, or does not serve by id, says so in many ways, and all of them but a broken line
    // mean that it is gone.
    if let Some(broke_off) = journey.trouble.take().filter(|it| it.class != FailureClass::Permanent)
        && !broke_off.reason.contains("not our ref")
    {
        return Err(broke_off);
    }
    // A branch that was not asked for may lead there.
    let mut reach = if has_all && !repo.is_shallow() { Reach::All } else { Reach::Part };
    let mut times = 0;
    while reach == Reach::Part && find(repo, commit).is_none() {
        reach = deepen(mirror, journey, named, times)?;
        times += 1;
    }
    find(repo, commit).map(drop).ok_or_else(|| gone(commit, journey))
}

/// Whether a repository has no more of the history than was needed so far.
fn is_sparing(mirror: &LocalRepo) -> bool {
    mirror.repo.is_shallow() || mirror.repo.references().is_ok_and(|mut it| it.next().is_none())
}

/// Follows the history of a ref, or of all, further back: each time further, and at last to its beginning. The caller
/// opens the repository anew, since libgit2 remembers where history ended.
pub(in crate::git) fn deepen(
    mirror: &LocalRepo,
    journey: &Journey,
    ref_name: Option<&RefName>,
    times: usize,
) -> Result<Reach, GitFailure> {
    let mut session = Session::open(mirror, journey)?;
    let offered = session.offered()?;
    let name = ref_name.map(RefName::full).filter(|it| offered.id_of(it).is_some());
    // What has all of the history of its refs is not cut short; it lacks other refs.
    let depth = DEEPENINGS.get(times).filter(|_| is_sparing(mirror));
    let (reach, request) = match (depth, name) {
        (Some(depth), Some(name)) => {
            say(&format!("fetching {depth} commits of history, as those at hand do not tell enough"));
            (Reach::Part, Request { names: BTreeSet::from([name]), depth: Some(*depth) })
        }
        (Some(_), None) | (None, _) => {
            say("fetching all of the history, as what is at hand does not tell enough");
            let depth = mirror.repo.is_shallow().then_some(ALL);
            (Reach::All, Request { names: offered.names().cloned().collect(), depth })
        }
    };
    session.ask(&request)?;
    refs::adopt(mirror, &offered, &request.names, ref_name)?;
    Ok(reach)
}

/// A connection to the remote; each download ends one, and the next begins another.
pub(in crate::git) struct Session<'a> {
    mirror: &'a LocalRepo,
    journey: &'a Journey,
    remote: git2::Remote<'a>,
}

impl<'a> Session<'a> {
    /// Connects.
    pub(in crate::git) fn open(mirror: &'a LocalRepo, journey: &'a Journey) -> Result<Self, GitFailure> {
        let connect = || -> Result<git2::Remote<'a>, git2::Error> {
            let mut remote = mirror.repo.remote_anonymous(&address(journey))?;
            remote.connect(Direction::Fetch)?;
            Ok(remote)
        };
        let remote = connect().map_err(|err| failure(&err, mirror, journey))?;
        Ok(Self { mirror, journey, remote })
    }

    /// What the remote has at this moment.
    pub(in crate::git) fn offered(&self) -> Result<Offered, GitFailure> {
        let heads = self.remote.list().map_err(|err| failure(&err, self.mirror, self.journey))?;
        Ok(Offered::new(heads.iter().map(|head: &RemoteHead<'_>| {
            (head.name().to_owned(), head.oid(), head.symref_target().map(str::to_owned))
        })))
    }

    fn ask(&mut self, request: &Request) -> Result<(), GitFailure> {
        let refspecs: Vec<String> = request.names.iter().map(|it| format!("+{it}:{it}")).collect();
        self.download(&refspecs, request.depth).map_err(|err| failure(&err, self.mirror, self.journey))
    }

    fn download(&mut self, refspecs: &[String], depth: Option<i32>) -> Result<(), git2::Error> {
        let (journey, mut words) = (self.journey, ServerWords::default());
        let result = {
            let mut callbacks = RemoteCallbacks::new();
            callbacks.sideband_progress(|piece| {
                words.take(piece);
                true
            });
            callbacks.transfer_progress(|progress| {
                journey.meter.note(&progress);
                true
            });
            let mut options = FetchOptions::new();
            options.remote_callbacks(callbacks).download_tags(AutotagOption::None).update_fetchhead(false);
            if let Some(depth) = depth {
                options.depth(depth);
            }
            self.remote.download(refspecs, Some(&mut options))
        };
        let _ = self.remote.disconnect();
        // What libgit2 was told instead of the pack that git took in.
        for end in ["idx", "pack"] {
            let _ = fs::remove_file(packs::pack_folder(&self.mirror.repo).join(EMPTY_PACK_STEM).with_extension(end));
        }
        if result.is_ok() {
            journey.meter.end();
            self.mirror.repo.odb().and_then(|it| it.refresh())?;
        }
        result
    }
}

/// A remote as libgit2 gets it: our transports know the way, and it needs the scheme to find them.
pub(in crate::git) fn address(journey: &Journey) -> String {
    match &journey.remote {
        Remote::Ssh { host, .. } => format!("ssh://{host}/"),
        Remote::Http { .. } => journey.remote.shown(),
        Remote::Local(_) => format!("{}://here/", local::SCHEME),
    }
}

/// What a failed fetch means for people.
fn failure(err: &git2::Error, mirror: &LocalRepo, journey: &Journey) -> GitFailure {
    let of_objects = [ErrorClass::Zlib, ErrorClass::Odb, ErrorClass::Object, ErrorClass::Tree];
    if of_objects.contains(&err.class()) && !speaks_of_sha256(err) && !journey.trouble.is_noted() {
        return mirror.folder.is_damaged(&err.why());
    }
    refusal(err, journey)
}

/// What a failure means for people that has nothing to do with a repository of this machine.
pub(in crate::git) fn refusal(err: &git2::Error, journey: &Journey) -> GitFailure {
    let shown = journey.remote.shown();
    if speaks_of_sha256(err) {
        return sha256(&shown);
    }
    if let Some(failure) = journey.trouble.take() {
        return failure;
    }
    let reason = format!("cannot fetch {shown}: {}", err.why());
    let on_this_machine = [ErrorClass::Os, ErrorClass::Filesystem, ErrorClass::NoMemory, ErrorClass::Reference];
    match on_this_machine.contains(&err.class()) {
        true => GitFailure::other(reason),
        false => GitFailure::fetch(reason),
    }
}
