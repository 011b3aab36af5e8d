//! Fetches over the network, and no more of the history than is wanted.
//!
//! Invariant: a mirror that lacks history says so in its `shallow` file, and one that has all of it keeps all of it.

use std::num::NonZeroU32;

use git2::{
    AutotagOption, Direction, ErrorClass, FetchOptions, Remote as Connection, RemoteCallbacks, RemoteHead, Repository,
};

use super::{
    Cause, GitFailure, cannot,
    fetch::{Offered, adopt_refs, find, gone, sha256, speaks_of_sha256},
    library::Journey,
    progress::{Meter, ServerWords, say},
    remote::Remote,
};
use crate::model::{
    job::Target,
    push::{CommitId, RefName},
};

/// All of these are fetched; the mirror's own refs are written by [`adopt_refs`].
const REFSPECS: [&str; 3] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+HEAD:refs/landfall/head"];

/// Where a commit stays that is on no ref that is fetched, so that the next fetch builds on it.
pub(super) const WANTED: &str = "refs/landfall/wanted";

/// How far a history is followed back where a question needs it; then comes all of it.
const DEEPENINGS: [i32; 2] = [100, 2000];

/// libgit2's word for all of the history (`GIT_FETCH_DEPTH_UNSHALLOW`).
const ALL: i32 = i32::MAX;

/// How much of the history is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// More could be had.
    Part,
    /// All that the remote has.
    All,
}

/// Brings what the target stands for, and with it `depth` commits of history; `None` is all, of all branches and tags.
pub(super) fn fetch(
    repo: &Repository,
    journey: &Journey,
    target: &Target,
    depth: Option<NonZeroU32>,
) -> Result<Offered, GitFailure> {
    let failed = |err: git2::Error| failure(&err, journey);
    // Where all of the history is, the rest is cheaper than a cut.
    let is_new = || repo.references().is_ok_and(|mut it| it.next().is_none());
    let depth = depth.filter(|_| repo.is_shallow() || is_new()).and_then(|it| i32::try_from(it.get()).ok());
    let mut remote = repo.remote_anonymous(&address(journey)).map_err(failed)?;
    let mut connection = remote.connect_auth(Direction::Fetch, None, None).map_err(failed)?;
    let offered = offered(&connection).map_err(failed)?;
    match depth {
        None => {
            let all = repo.is_shallow().then_some(ALL);
            download(connection.remote(), &REFSPECS, all).map_err(failed)?;
        }
        Some(_) => {
            let refspecs = refspecs(repo, target, &offered)?;
            let refspecs: Vec<&str> = refspecs.iter().map(String::as_str).collect();
            if !refspecs.is_empty() {
                download(connection.remote(), &refspecs, depth).map_err(failed)?;
            }
        }
    }
    drop(connection);
    adopt_refs(repo, &offered)?;
    if let Target::Commit { commit, ref_name } = target
        && find(repo, commit).is_none()
    {
        ask_for(repo, journey, commit, ref_name.as_ref(), depth)?;
    }
    Ok(offered)
}

/// What is fetched where not all is: what the target names, and what was fetched before.
fn refspecs(repo: &Repository, target: &Target, offered: &Offered) -> Result<Vec<String>, GitFailure> {
    let named = match target {
        Target::Commit { ref_name, .. } => ref_name.as_ref().map(RefName::full),
        Target::Ref(ref_name) => Some(ref_name.full()),
        Target::DefaultBranch | Target::Release { .. } | Target::Standing => None,
    };
    let mut names: Vec<String> = named.into_iter().collect();
    for reference in repo.references().map_err(cannot("read the mirror's refs"))? {
        let reference = reference.map_err(cannot("read the mirror's refs"))?;
        names.extend(reference.name().map(str::to_owned));
    }
    names.sort_unstable();
    names.dedup();
    names.retain(|it| offered.id_of(it).is_some());
    let mut refspecs: Vec<String> = names.iter().map(|it| format!("+{it}:{it}")).collect();
    if matches!(target, Target::DefaultBranch) {
        refspecs.push("+HEAD:refs/landfall/head".to_owned());
    }
    Ok(refspecs)
}

/// Brings a commit that no ref that was fetched leads to.
fn ask_for(
    repo: &Repository,
    journey: &Journey,
    commit: &CommitId,
    ref_name: Option<&RefName>,
    depth: Option<i32>,
) -> Result<(), GitFailure> {
    match depth {
        Some(_) => say(&format!("asking for {} by its id", commit.short())),
        None => say(&format!("{} is on no branch or tag; asking for it by its id", commit.short())),
    }
    let refspec = format!("{commit}:{WANTED}");
    let asked = repo.remote_anonymous(&address(journey)).and_then(|mut it| download(&mut it, &[&refspec], depth));
    if let (Ok(()), Some(id)) = (&asked, find(repo, commit)) {
        return repo.reference(WANTED, id, true, "fetch").map(drop).map_err(cannot(format!("write `{WANTED}`")));
    }
    // A server that does not have it, or does not serve by id, says so in many ways, and all of them but a broken line
    // mean that it is gone.
    if let Some(broke_off) = journey.trouble.take().filter(|it| !it.reason.contains("not our ref")) {
        return Err(broke_off);
    }
    let mut reach = if depth.is_some() { Reach::Part } else { Reach::All };
    let mut times = 0;
    while reach == Reach::Part && find(repo, commit).is_none() {
        reach = deepen(repo, journey, ref_name, times)?;
        times += 1;
    }
    find(repo, commit).map(drop).ok_or_else(|| gone(commit))
}

/// Follows the history of a ref, or of all, further back: each time further, and at last to its beginning. The caller
/// opens the mirror anew, since libgit2 remembers where history ended.
pub(super) fn deepen(
    repo: &Repository,
    journey: &Journey,
    ref_name: Option<&RefName>,
    times: usize,
) -> Result<Reach, GitFailure> {
    let failed = |err: git2::Error| failure(&err, journey);
    let mut remote = repo.remote_anonymous(&address(journey)).map_err(failed)?;
    let mut connection = remote.connect_auth(Direction::Fetch, None, None).map_err(failed)?;
    let offered = offered(&connection).map_err(failed)?;
    let name = ref_name.map(RefName::full).filter(|it| offered.id_of(it).is_some());
    let reach = match (DEEPENINGS.get(times), name) {
        (Some(depth), Some(name)) => {
            say(&format!("fetching {depth} commits of history, as those at hand do not tell enough"));
            download(connection.remote(), &[&format!("+{name}:{name}")], Some(*depth)).map_err(failed)?;
            Reach::Part
        }
        (Some(_), None) | (None, _) => {
            say("fetching all of the history, as what is at hand does not tell enough");
            download(connection.remote(), &REFSPECS, Some(ALL)).map_err(failed)?;
            Reach::All
        }
    };
    drop(connection);
    adopt_refs(repo, &offered)?;
    Ok(reach)
}

fn offered(connection: &git2::RemoteConnection<'_, '_, '_>) -> Result<Offered, git2::Error> {
    let heads = connection.list()?;
    Ok(Offered::new(
        heads
            .iter()
            .map(|head: &RemoteHead<'_>| (head.name().to_owned(), head.oid(), head.symref_target().map(str::to_owned))),
    ))
}

/// A remote as libgit2 gets it: our transports know the way, and it needs the scheme to find them.
pub(super) fn address(journey: &Journey) -> String {
    match &journey.remote {
        Remote::Ssh { host, .. } => format!("ssh://{host}/"),
        Remote::Http { .. } | Remote::Local(_) => journey.remote.shown(),
    }
}

fn download(connection: &mut Connection<'_>, refspecs: &[&str], depth: Option<i32>) -> Result<(), git2::Error> {
    let (mut meter, mut words) = (Meter::new(), ServerWords::default());
    let result = {
        let mut callbacks = RemoteCallbacks::new();
        callbacks.sideband_progress(|piece| {
            words.take(piece);
            true
        });
        callbacks.transfer_progress(|progress| {
            meter.note(progress.received_objects(), progress.total_objects(), progress.received_bytes());
            true
        });
        let mut options = FetchOptions::new();
        options.remote_callbacks(callbacks).download_tags(AutotagOption::None).update_fetchhead(false);
        if let Some(depth) = depth {
            options.depth(depth);
        }
        connection.download(refspecs, Some(&mut options))
    };
    if result.is_ok() {
        meter.end();
    }
    result
}

/// What a failed fetch means for people.
pub(super) fn failure(err: &git2::Error, journey: &Journey) -> GitFailure {
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
