//! Asks a remote for its refs, in a child that runs as the hook's user.
//!
//! Invariant: a remote that says nothing costs a time that is bounded.

use std::{sync::Arc, time::Duration};

use super::{Lookout, group::Group};
use crate::{
    git::{self, Answer, Login, Looked, LookedRef, Order, WantedRefs},
    model::{
        baseline::{RemoteRef, RemoteRefs},
        deploy::Credential,
        hook::{BranchFilter, Hook},
    },
    process::{environment, errand, errand_child::ErrandChild},
};

/// Within this time a remote has told its refs, or is not waited for.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// Asks the remote of a group for the refs that these hooks of it want. The error is a clause for people.
pub(super) async fn ask<'a>(
    lookout: &Lookout,
    group: &Group,
    hooks: impl Iterator<Item = &'a Arc<Hook>>,
) -> Result<RemoteRefs, String> {
    let wanted = hooks.flat_map(|it| wanted(it)).collect();
    let (remote, logins) = (group.remote.clone(), logins(lookout, &group.credentials)?);
    let order = errand::encode(&Order::Look(git::Look { remote, logins, wanted, silence: git::SILENCE }));
    let (account, env) = (Some(&group.account), environment::of_git_work(&group.account));
    let child = ErrandChild { errand: "git-work", account, env, time_max: ANSWER_MAX };
    let answer = child.carry_out(&order).await.map_err(|why| format!("cannot ask the remote: {why}"))?;
    let looked = errand::decode(&answer).and_then(Answer::looked).map_err(|it| it.reason)?;
    Ok(refs(looked))
}

fn wanted(hook: &Hook) -> Vec<WantedRefs> {
    let branches = match &hook.on.push {
        BranchFilter::Never => None,
        BranchFilter::DefaultBranch => Some(WantedRefs::DefaultBranch),
        BranchFilter::Matching(patterns) => Some(WantedRefs::Branches(patterns.texts().to_vec())),
    };
    branches.into_iter().chain(hook.on.tag.as_ref().map(|it| WantedRefs::Tags(it.texts().to_vec()))).collect()
}

/// The credentials, each with its value.
fn logins(lookout: &Lookout, credentials: &[Credential]) -> Result<Vec<Login>, String> {
    let hooks = lookout.hooks.borrow().clone();
    git::logins(credentials, |token| {
        let value = hooks.secret(token, &lookout.environment);
        value.map_err(|err| format!("secret `deploy.credentials.token`: {err}"))
    })
}

fn refs(looked: Looked) -> RemoteRefs {
    let each = |LookedRef { name, commit, tag }| RemoteRef { name, commit, tag };
    RemoteRefs { refs: looked.refs.into_iter().map(each).collect(), default_branch: looked.default_branch }
}
