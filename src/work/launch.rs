//! Starts the keeper of a run: its folder, its secrets, its lane's lock.
//!
//! Invariant: a keeper has its lane's lock from its first instruction, and a script never has it.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
    process::Stdio,
};

use thiserror::Error;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdout, Command},
};
use tracing::{error, warn};

use crate::{
    hooks::Hooks,
    journal::{
        entries,
        folder::{RunDir, Whose},
        secrets::{self, RunSecrets},
        spec::Spec,
    },
    model::{
        deploy::{RemoteProof, Strategy},
        job::Job,
        push::RefName,
        secret::{Secret, SecretRef},
    },
    process::{environment::FOR_REMOTES, errand::OWN_PROGRAM, open_files::OpenFiles},
    store::Claim,
    work::{Workplace, lane::LaneLock},
};

/// Why a keeper was not started.
#[derive(Debug, Error)]
pub(super) enum LaunchError {
    /// What the run needs is not there: the run failed, and a person has to mend something.
    #[error("{0}")]
    RunCannot(String),
    /// We could not do our work: the run is queued again, for a while.
    #[error("{0}")]
    WeCannot(String),
    /// It has begun before, which the store does not know: how it ended, or will, stands in its folder.
    #[error("it has begun before")]
    HasBegun,
}

/// The descriptor under which a keeper expects its lane's lock.
const LOCK_DESCRIPTOR: RawFd = 3;

/// Of the daemon's own environment, what a keeper gets besides the way to remotes and what its hook passes on. Secrets of
/// other hooks stay here.
const ENVIRONMENT: &[&str] = &["LANG", "LC_ALL", "TZ"];

/// A keeper that has just been started.
pub(super) struct Launched {
    /// The process.
    pub(super) keeper: Child,
    /// Says something whenever the journal has grown, and closes when the keeper has ended.
    pub(super) bell: ChildStdout,
}

/// Makes the run's folder and starts its keeper, which takes over the lane's lock.
pub(super) async fn launch(place: &Workplace, claim: &Claim, lock: LaneLock) -> Result<Launched, LaunchError> {
    let hooks = place.hooks.borrow().clone();
    let secrets = run_secrets(place, &hooks, claim.job()).map_err(LaunchError::RunCannot)?;
    let we_cannot = |what: &str, err: &dyn std::fmt::Display| LaunchError::WeCannot(format!("cannot {what}: {err}"));
    let payload = match claim.delivery() {
        Some(number) => place.store.payload(number).await.map_err(|err| we_cannot("read the payload", &err))?,
        None => None,
    };
    let spec = spec(place, &hooks, claim, payload.is_some()).await.map_err(LaunchError::WeCannot)?;
    let folder = own_folder(place, claim)?;
    // A keeper that was killed before its `begin` may have left an empty journal; nobody but us holds the lane.
    let made = folder.create().and_then(|()| entries::discard_unbegun(&folder));
    let written = made.and_then(|()| folder.write_spec(&spec));
    written.map_err(|err| we_cannot("make the run's folder", &err))?;
    if let Some(payload) = payload {
        folder.write_payload(&payload).map_err(|err| we_cannot("write the payload", &err))?;
    }
    lock.note(claim.run()).map_err(|err| we_cannot("note which run has the lane", &err))?;
    let mut keeper = start(place, claim.job(), &folder, lock).map_err(|err| we_cannot("start a keeper", &err))?;
    let mut pipe = keeper.stdin.take().expect("the keeper was given a pipe as its input");
    let bell = keeper.stdout.take().expect("the keeper was given a pipe as its output");
    // A keeper that is gone already says so by ending without a `begin`; a broken pipe says no more than that.
    let _ = pipe.write_all(secrets::encode(&secrets).as_bytes()).await;
    let _ = pipe.shutdown().await;
    Ok(Launched { keeper, bell })
}

/// The folder of the run, in which nothing of another run is.
fn own_folder(place: &Workplace, claim: &Claim) -> Result<RunDir, LaunchError> {
    let (folder, run) = (RunDir::of(&place.state, claim.run()), claim.run());
    match folder.whose(claim.token()) {
        Whose::Nobodys | Whose::Its { has_begun: false } => Ok(folder),
        Whose::Its { has_begun: true } => {
            warn!(run.id = %run, "run {run} has begun before, and the store does not know of it: the store was put back");
            Err(LaunchError::HasBegun)
        }
        Whose::Anothers => {
            set_aside(&folder, claim).map_err(LaunchError::WeCannot)?;
            Ok(folder)
        }
    }
}

/// Keeps the folder of another run of the same number where nobody takes it for that of this one.
pub(super) fn set_aside(folder: &RunDir, claim: &Claim) -> Result<(), String> {
    let run = claim.run();
    let place = folder.set_aside();
    let place = place
        .map_err(|err| format!("cannot set `{}` aside, which is of another run: {err}", folder.path().display()))?;
    error!(run.id = %run, "there was a folder of another run {run}, which the store does not know: it is kept in `{}`",
        place.display());
    Ok(())
}

async fn spec(place: &Workplace, hooks: &Hooks, claim: &Claim, has_payload: bool) -> Result<Spec, String> {
    let job = claim.job();
    let live = place.store.live(&job.hook.name, live_ref(job)).await;
    let is_disturbed = place.store.is_disturbed(&job.hook.name, live_ref(job)).await;
    let unknown = |err| format!("cannot look up what is live: {err}");
    Ok(Spec {
        run: claim.run(),
        token: claim.token().cloned().ok_or("the store has given it no word to be known by")?,
        state: place.state.clone(),
        run_url: format!("{}/runs/{}", hooks.server.admin_url.trim_end_matches('/'), claim.run()),
        live: live.map_err(unknown)?,
        live_ref: place.store.ref_of_live(&job.hook.name, live_ref(job)).await.map_err(unknown)?,
        is_disturbed: is_disturbed.map_err(unknown)?,
        has_payload,
        job: job.as_ref().clone(),
    })
}

/// The ref within which a commit counts as live: of its own for trees that are made fresh, one for a fixed place.
fn live_ref(job: &Job) -> Option<&RefName> {
    match job.hook.deploy.strategy {
        Strategy::Checkout { .. } => job.target.ref_name(),
        Strategy::InPlace { .. } | Strategy::Releases { .. } | Strategy::None { .. } => None,
    }
}

/// The values behind the references of a job, looked up now, since a stored job holds none.
fn run_secrets(place: &Workplace, hooks: &Hooks, job: &Job) -> Result<RunSecrets, String> {
    let find = |name: &str, place_of: &SecretRef| -> Result<Secret, String> {
        hooks.secret(place_of, &place.environment).map_err(|err| format!("secret `{name}` of the hook: {err}"))
    };
    let mut environment = BTreeMap::new();
    for (name, place_of) in &job.hook.secrets {
        environment.insert(name.clone(), find(name, place_of)?);
    }
    let mut git_tokens = Vec::new();
    let credentials = job.hook.deploy.strategy.git().map_or(&[][..], |git| &git.credentials);
    for (index, credential) in credentials.iter().enumerate() {
        match &credential.proof {
            RemoteProof::Token { token, .. } if credentials.len() == 1 => {
                git_tokens.push(find("deploy.credentials.token", token)?);
            }
            RemoteProof::Token { token, .. } => {
                git_tokens.push(find(&format!("deploy.credentials[{index}].token"), token)?);
            }
            RemoteProof::SshKey { .. } => (),
        }
    }
    Ok(RunSecrets { env: environment, git_tokens })
}

/// Starts this very program as a keeper. `/proc/self/exe` is the file we were started from, even if another one
/// stands at its path by now.
fn start(place: &Workplace, job: &Job, folder: &RunDir, lock: LaneLock) -> io::Result<Child> {
    let lock = OwnedFd::from(lock);
    let trouble = fs::File::options().create(true).append(true).mode(0o600).open(folder.keeper_trouble())?;
    let mut command = Command::new(OWN_PROGRAM);
    let passed_on = ENVIRONMENT.iter().chain(FOR_REMOTES).copied().chain(job.hook.pass_env.iter().map(String::as_str));
    let values = passed_on.filter_map(|name| place.environment.variable(name).map(|value| (name, value)));
    command.env_clear().envs(values);
    command.arg("keeper").arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(trouble);
    prepare(&mut command, lock, place.files);
    command.spawn()
}

/// Lets the child have the lock as descriptor [`LOCK_DESCRIPTOR`], and no other of our children; and gives it the limit of
/// open files that we were given ourselves.
#[expect(unsafe_code, reason = "a descriptor can be placed in one child alone only between fork and exec")]
fn prepare(command: &mut Command, lock: OwnedFd, files: OpenFiles) {
    let place_it = move || {
        files.restore()?;
        // SAFETY: the number names no owned descriptor of ours in the child; it is forgotten again before anything
        // could close it.
        let mut target = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(LOCK_DESCRIPTOR) });
        if lock.as_raw_fd() == LOCK_DESCRIPTOR {
            return rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty()).map_err(io::Error::from);
        }
        rustix::io::dup2(&lock, &mut target).map_err(io::Error::from)
    };
    // SAFETY: the closure runs between fork and exec; it makes two system calls, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(place_it);
    }
}
