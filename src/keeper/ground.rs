//! Looks what stands where hooks deploy to, for a daemon whose store does not know it.
//!
//! The daemon may be root, and those folders are others'. So children look, each in a time of its own: one tells whose the
//! folders are, and then one of each owner looks into them, as that user from its first instruction.
//!
//! Invariant: nothing is changed, and what a look leads to is a commit or nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::task::{JoinSet, spawn_blocking};

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

/// What a child is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Order {
    /// To tell as whom each place is looked at, if anybody may be trusted with the way there.
    Owners(Vec<Place>),
    /// To tell what stands there.
    Standing(Vec<Place>),
}

/// What it tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Answer {
    Owners(Vec<Option<u32>>),
    Standing(Vec<Found>),
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
    let mut by_owner: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
    if let Some(Answer::Owners(owners)) = ask(None, Order::Owners(places.clone())).await {
        for (place, owner) in places.into_iter().zip(owners) {
            if let Some(owner) = owner {
                by_owner.entry(owner).or_default().push(place);
            }
        }
    }
    let looks = by_owner.into_iter().map(|(owner, places)| async move {
        let account = spawn_blocking(move || Account::numbered(owner)).await.ok()?.ok()?;
        ask(Some(account), Order::Standing(places)).await
    });
    let answers = looks.collect::<JoinSet<_>>().join_all().await;
    let found = answers.into_iter().flatten().filter_map(|it| match it {
        Answer::Standing(found) => Some(found),
        Answer::Owners(_) => None,
    });
    found.flatten().map(|it| (it.hook, it.commit)).collect()
}

/// Has a child look, as this user or as who we are. One that is late, or of another mind, has told nothing.
async fn ask(account: Option<Account>, order: Order) -> Option<Answer> {
    let account = account.as_ref();
    let child = ErrandChild { errand: "ground-work", account, env: BTreeMap::new(), time_max: TIME_MAX };
    let answer = child.carry_out(&errand::encode(&order)).await.ok()?;
    errand::decode(&answer).ok()
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
    errand::serve(|order: Order| {
        Ok(match order {
            Order::Owners(places) => {
                let own = Account::find(None).map_err(errand::ErrandFailure::other)?;
                Answer::Owners(places.iter().map(|it| owner_of(it, &own)).collect())
            }
            Order::Standing(places) => {
                git::prepare_to_look()?;
                let found =
                    |it: Place| Some(Found { commit: standing(&it.path, it.remote.as_deref())?, hook: it.hook });
                Answer::Standing(places.into_iter().filter_map(found).collect())
            }
        })
    })
}

/// As whom a folder is looked at: as whoever brings the code there (`keeper/preflight.rs`). `None`: nobody may be trusted
/// with the way there.
fn owner_of(place: &Place, own: &Account) -> Option<u32> {
    let uid = match &place.user {
        Some(user) => Account::find(Some(user)).ok()?.uid,
        None => own.uid,
    };
    if !uid.is_root() {
        return Some(uid.as_raw());
    }
    let way = way::look(&place.path).ok().filter(|it| it.is_whole)?;
    way.judge().ok()?;
    Some(way.owner)
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
