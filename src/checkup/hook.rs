//! What one hook needs on this machine: its user, a place for the code with room, and a way to its repository.
//!
//! Invariant: a folder is tried as the user who will write there.

use std::path::Path;

use rustix::fs::Access;

use super::{AS_WHOM, Finding, plain};
use crate::{
    git::{HostKey, host_key, judge_key},
    keeper::preflight::{self, Obstacle},
    model::{
        deploy::{Git, RemoteProof, Strategy},
        hook::Hook,
    },
    process::user::{Account, Tried},
};

/// Looks at one hook, whose steps run as the daemon's user if it names none; one finding if all of it is in order.
pub(super) fn look(hook: &Hook, state: Option<&Path>, daemon: &Account) -> Vec<Finding> {
    let subject = format!("hook {}", hook.name);
    let fail = |why: &str, help: &str| Finding::fail(&subject, why, help);
    if let Err(Obstacle::ForGood(why) | Obstacle::ForNow(why)) = preflight::place(hook) {
        return vec![fail(&why, "move away what is there, or correct `deploy.path`")];
    }
    let crew = match preflight::crew(hook, daemon) {
        Ok(crew) => crew,
        Err(Obstacle::ForGood(why) | Obstacle::ForNow(why)) => {
            return vec![fail(
                &why,
                "mend it as it says, or name another user under `user` (`useradd --system NAME` makes one)",
            )];
        }
    };
    let (account, steps) = (crew.landing, crew.steps);
    if account.uid != daemon.uid && !daemon.uid.is_root() {
        let why = format!("only root can run steps as `{}`, and the daemon runs as `{}`", account.name, daemon.name);
        return vec![fail(&why, "run the daemon as root, or remove `user`")];
    }
    let mut findings = Vec::new();
    if let Some(path) = hook.deploy.strategy.path() {
        findings.extend(place(&subject, path, &account));
    }
    if let Some(path) = hook.deploy.strategy.path()
        && let Err(Obstacle::ForGood(why) | Obstacle::ForNow(why)) = preflight::room(hook, path)
    {
        findings.push(fail(&why, "make room, or lower `deploy.min_free`"));
    }
    findings.extend(state.and_then(|it| way_to_work(&subject, it, &account)));
    if let Some(git) = hook.deploy.strategy.git() {
        findings.extend(way_to_remote(&subject, git, &account));
        findings.extend(keys(&subject, git, &account));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(&subject, summary(hook, &account)));
    }
    findings.extend(steps_of_root(&subject, hook, &steps));
    findings
}

/// A root daemon runs what commits bring as root, unless the hook or the owner of its folder says otherwise.
fn steps_of_root(subject: &str, hook: &Hook, account: &Account) -> Option<Finding> {
    let is_meant = hook.user.is_some() || hook.steps().all(|it| it.user.is_some());
    let help = "name one under `user` (`useradd --system NAME` makes one); `user: root` says that root is meant";
    let why = "it names no `user`, so what its commits bring runs as root";
    (account.uid.is_root() && !is_meant).then(|| Finding::warn(subject, why, help))
}

fn summary(hook: &Hook, account: &Account) -> String {
    let from = hook.deploy.strategy.git().map(|git| format!(" from {}", git.remote)).unwrap_or_default();
    let what = match &hook.deploy.strategy {
        Strategy::Checkout { .. } => format!("checks out a fresh tree{from}"),
        Strategy::InPlace { path, .. } => format!("deploys into {}{from}", path.display()),
        Strategy::Releases { path, .. } => format!("keeps releases in {}{from}", path.display()),
        Strategy::None { folder } => format!("runs its steps in {}", folder.display()),
    };
    format!("{what}, as `{}`", account.name)
}

/// Whether the user may write where the code lands, or make that folder.
fn place(subject: &str, path: &Path, account: &Account) -> Option<Finding> {
    let nearest = path.ancestors().find(|it| it.exists()).unwrap_or(Path::new("/"));
    let (name, shown) = (&account.name, path.display());
    match account.tries(nearest, Access::WRITE_OK | Access::EXEC_OK) {
        Tried::Granted => None,
        Tried::Refused(err) if nearest == path => {
            let message = format!("`{name}` cannot write to {shown}: {}", plain(err));
            Some(Finding::fail(subject, message, format!("`chown -R {name} {shown}`")))
        }
        Tried::Refused(err) => {
            let message =
                format!("`{name}` cannot make {shown}, nor anything in {}: {}", nearest.display(), plain(err));
            Some(Finding::fail(subject, message, format!("`install -d -o {name} {shown}`")))
        }
        Tried::Untold => {
            Some(Finding::warn(subject, format!("cannot tell whether `{name}` may write to {shown}"), AS_WHOM))
        }
    }
}

/// Whether the user gets to its folders below the state folder.
fn way_to_work(subject: &str, state: &Path, account: &Account) -> Option<Finding> {
    let is_closed = |it: &&Path| it.exists() && matches!(account.tries(it, Access::EXEC_OK), Tried::Refused(_));
    let above: Vec<&Path> = state.ancestors().skip(1).collect();
    let closed = above.into_iter().rev().find(is_closed)?;
    let message =
        format!("`{}` cannot pass {} on the way to its folders in {}", account.name, closed.display(), state.display());
    Some(Finding::fail(
        subject,
        message,
        format!("`chmod o+x {}`, or set `server.state` to another folder", closed.display()),
    ))
}

/// Whether what it takes to fetch over ssh is there.
fn way_to_remote(subject: &str, git: &Git, account: &Account) -> Vec<Finding> {
    let mut findings = Vec::new();
    match host_key(git, account) {
        HostKey::NotNeeded => return findings,
        HostKey::Known => (),
        HostKey::Unknown { host, command } => findings.push(Finding::fail(
            subject,
            format!("`{}` does not know the host key of {host}, so ssh will refuse it", account.name),
            format!("{command}, and compare the key with what the host publishes"),
        )),
        HostKey::Untold => {
            let message = format!("cannot tell whether `{}` knows the host key of {}", account.name, git.remote);
            findings.push(Finding::warn(subject, message, AS_WHOM));
        }
        HostKey::NoProgram => {
            let help = "install OpenSSH (on Debian: `apt install openssh-client`)";
            findings.push(Finding::fail(subject, "its remote needs the program `ssh`, which is not installed", help));
        }
    }
    findings
}

/// The keys that ssh would not take, of the remote and of its submodules.
fn keys(subject: &str, git: &Git, account: &Account) -> Vec<Finding> {
    let key = |proof: &RemoteProof| match proof {
        RemoteProof::SshKey { key, .. } => Some(key.clone()),
        RemoteProof::Token { .. } => None,
    };
    let refused = |key: std::path::PathBuf| {
        let why = judge_key(&key, account).err()?;
        let help = format!("`chown {0} {1} && chmod 600 {1}`", account.name, key.display());
        Some(Finding::fail(subject, why, help))
    };
    git.credentials.iter().filter_map(|it| key(&it.proof)).filter_map(refused).collect()
}
