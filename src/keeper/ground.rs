//! Looks what stands where hooks deploy to, for a daemon whose store does not know it.
//!
//! The daemon may be root, and those folders are others'. So a child looks, in a time of its own, and it looks at each
//! folder on a thread that is its owner for good (the kernel keeps a user for each thread).
//!
//! Invariant: nothing is changed, and what a look leads to is a commit or nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    git,
    journal::{releases::History, site::Site},
    model::{deploy::Strategy, hook::Hook, push::CommitId},
    process::{errand, errand_child::ErrandChild, text_form, user::Account, way},
};

/// A folder that is not looked at by then is of a file system that does not answer.
const TIME_MAX: Duration = Duration::from_secs(5);

/// What is looked at for one hook.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Place {
    hook: String,
    /// The user that the hook names.
    user: Option<String>,
    path: PathBuf,
    /// Of a working tree: the remote that its clone has to be of. Without one, it is a folder of releases.
    remote: Option<String>,
}

/// What stands for one hook.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Found {
    hook: String,
    #[serde(with = "text_form")]
    commit: CommitId,
}

/// The commit that stands in the fixed folder of each of these hooks, by the hook's name: HEAD of a clone of its remote, or
/// what `current` of its releases leads to. What cannot be told, or not in time, is left out.
pub async fn look(hooks: &[Arc<Hook>]) -> BTreeMap<String, CommitId> {
    let places: Vec<Place> = hooks.iter().filter_map(|it| place(it)).collect();
    if places.is_empty() {
        return BTreeMap::new();
    }
    let child = ErrandChild { errand: "ground-work", account: None, env: BTreeMap::new(), time_max: TIME_MAX };
    let answer = child.carry_out(&errand::encode(&places)).await;
    let found = answer.ok().and_then(|it| errand::decode::<Vec<Found>>(&it).ok());
    found.unwrap_or_default().into_iter().map(|it| (it.hook, it.commit)).collect()
}

fn place(hook: &Hook) -> Option<Place> {
    let (path, remote) = match &hook.deploy.strategy {
        Strategy::InPlace { git, path, .. } => (path, Some(git.remote.to_string())),
        Strategy::Releases { path, .. } => (path, None),
        Strategy::Checkout { .. } | Strategy::None { .. } => return None,
    };
    Some(Place { hook: hook.name.to_string(), user: hook.user.clone(), path: path.clone(), remote })
}

/// Serves one look: the hidden subcommand `landfall ground-work`.
pub fn serve() -> ExitCode {
    errand::serve(|places: Vec<Place>| {
        git::prepare_to_look()?;
        let own = Account::find(None).map_err(errand::ErrandFailure::other)?;
        let mut by_account: BTreeMap<u32, (Account, Vec<Place>)> = BTreeMap::new();
        for place in places {
            if let Some(account) = account_of(&place, &own) {
                by_account.entry(account.uid.as_raw()).or_insert_with(|| (account, Vec::new())).1.push(place);
            }
        }
        let looks =
            by_account.into_values().map(|(account, places)| thread::spawn(move || as_account(&account, &places)));
        let looks: Vec<_> = looks.collect();
        // One that panicked has found nothing.
        Ok(looks.into_iter().filter_map(|it| it.join().ok()).flatten().collect::<Vec<Found>>())
    })
}

/// As whom a folder is looked at: as whoever brings the code there (`keeper/preflight.rs`). `None`: nobody may be trusted
/// with the way there.
fn account_of(place: &Place, own: &Account) -> Option<Account> {
    let account = match &place.user {
        Some(user) => Account::find(Some(user)).ok()?,
        None => own.clone(),
    };
    if !account.uid.is_root() {
        return Some(account);
    }
    let way = way::look(&place.path).ok().filter(|it| it.is_whole)?;
    way.judge().ok()?;
    Account::numbered(way.owner).ok()
}

fn as_account(account: &Account, places: &[Place]) -> Vec<Found> {
    if account.assume()().is_err() {
        return Vec::new();
    }
    let found = |it: &Place| Some(Found { hook: it.hook.clone(), commit: standing(&it.path, it.remote.as_deref())? });
    places.iter().filter_map(found).collect()
}

fn standing(path: &Path, remote: Option<&str>) -> Option<CommitId> {
    match remote {
        Some(remote) => git::standing(path, remote),
        None => {
            let history = History::read(&Site::at(path)).ok()?;
            let live = history.find(history.live.as_ref()?)?;
            live.commit.clone()
        }
    }
}
