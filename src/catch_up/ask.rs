//! Asks a remote for its refs, in a child that runs as the hook's user.
//!
//! Invariant: the child has a time to answer and no more, and goes with all that it started.

use std::{
    io,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::unistd::setsid;
use rustix::{
    process::{Gid, Pid, Signal, Uid, kill_process_group},
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

use super::{Lookout, group::Group};
use crate::{
    git::{self, Answer, Login, LoginProof, Looked, LookedRef, Order, Wanted},
    model::{
        baseline::{RemoteRef, RemoteRefs},
        deploy::{Credential, RemoteProof},
        hook::{BranchFilter, Hook},
    },
    process::{environment, errand, user::Account},
};

/// Within this time a remote has told its refs, or is not waited for.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// An answer beyond this is not read: about half a million refs.
const ANSWER_BYTES_MAX: u64 = 128 << 20;

/// Asks the remote of a group for the refs that these hooks of it want. The error is a clause for people.
pub(super) async fn ask<'a>(
    lookout: &Lookout,
    group: &Group,
    hooks: impl Iterator<Item = &'a Arc<Hook>>,
) -> Result<RemoteRefs, String> {
    let wanted = hooks.flat_map(|it| wanted(it)).collect();
    let (remote, logins) = (group.remote.clone(), logins(lookout, &group.credentials)?);
    let order = errand::encode(&Order::Look(git::Look { remote, logins, wanted, silence: git::SILENCE }));
    let mut child =
        start(&group.account).map_err(|err| format!("cannot start a child as `{}`: {err}", group.account.name))?;
    let (answered, rest) = (timeout(ANSWER_MAX, converse(&mut child, &order)).await, Rest::of(&child));
    rest.end();
    let (answer, status) = answered
        .map_err(|_| format!("the remote did not tell its refs within {} s", ANSWER_MAX.as_secs()))?
        .map_err(|err| format!("the child that asks the remote broke off: {err}"))?;
    if answer.is_empty() {
        return Err(format!("the child that asks the remote gave no answer ({status})"));
    }
    let looked = errand::decode(&answer).and_then(Answer::looked).map_err(|it| it.reason)?;
    Ok(refs(looked))
}

/// Hands over the order and takes the answer.
async fn converse(child: &mut Child, order: &str) -> io::Result<(Vec<u8>, ExitStatus)> {
    let mut to_child = child.stdin.take().expect("the child was given a pipe as its input");
    let mut from_child = child.stdout.take().expect("the child was given a pipe as its output").take(ANSWER_BYTES_MAX);
    let mut answer = Vec::new();
    let hand_over = async {
        // A child that ends without reading says why by itself.
        let _ = to_child.write_all(order.as_bytes()).await;
        drop(to_child);
    };
    let ((), read) = tokio::join!(hand_over, from_child.read_to_end(&mut answer));
    read?;
    Ok((answer, child.wait().await?))
}

/// What the child may have left behind: its session.
struct Rest(Option<Pid>);

impl Rest {
    fn of(child: &Child) -> Self {
        // The number of a child that was waited for is nobody's; then it has said all it had to say.
        Self(child.id().and_then(|it| i32::try_from(it).ok()).and_then(Pid::from_raw))
    }

    fn end(&self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

fn start(account: &Account) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("git-work").env_clear().envs(environment::of_git_work(account)).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    become_user(&mut command, account);
    command.spawn()
}

/// Lets the child have a session of its own, and be that user.
#[expect(unsafe_code, reason = "a child becomes another user only between fork and exec")]
fn become_user(command: &mut Command, account: &Account) {
    let is_own = account.is_own();
    let (uid, gid) = (Uid::from_raw(account.uid.as_raw()), Gid::from_raw(account.gid.as_raw()));
    let groups: Vec<_> = account.groups.iter().map(|it| Gid::from_raw(it.as_raw())).collect();
    let become_it = move || {
        setsid()?;
        if !is_own {
            set_thread_groups(&groups)?;
            set_thread_gid(gid)?;
            set_thread_uid(uid)?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec; it makes system calls only, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(become_it);
    }
}

fn wanted(hook: &Hook) -> Vec<Wanted> {
    let branches = match &hook.on.push {
        BranchFilter::Never => None,
        BranchFilter::DefaultBranch => Some(Wanted::DefaultBranch),
        BranchFilter::Matching(patterns) => Some(Wanted::Branches(patterns.texts().to_vec())),
    };
    branches.into_iter().chain(hook.on.tag.as_ref().map(|it| Wanted::Tags(it.texts().to_vec()))).collect()
}

fn logins(lookout: &Lookout, credentials: &[Credential]) -> Result<Vec<Login>, String> {
    let hooks = lookout.hooks.borrow().clone();
    let login = |credential: &Credential| {
        let proof = match &credential.proof {
            RemoteProof::Token { username, token } => {
                let value = hooks.secret(token, &lookout.environment);
                let token = value.map_err(|err| format!("secret `deploy.credentials.token`: {err}"))?;
                LoginProof::Token { username: username.clone(), token }
            }
            RemoteProof::SshKey { key, known_hosts } => {
                LoginProof::SshKey { key: key.clone(), known_hosts: known_hosts.clone() }
            }
        };
        Ok(Login { host: credential.host.clone(), proof })
    };
    credentials.iter().map(login).collect()
}

fn refs(looked: Looked) -> RemoteRefs {
    let each = |LookedRef { name, commit, tag }| RemoteRef { name, commit, tag };
    RemoteRefs { refs: looked.refs.into_iter().map(each).collect(), default_branch: looked.default_branch }
}
