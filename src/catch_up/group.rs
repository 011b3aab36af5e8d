//! Puts hooks together whose remote is asked once for all of them.
//!
//! Invariant: hooks of one group ask as the same user, and show the same credentials.

use std::{collections::HashMap, sync::Arc};

use crate::{
    keeper::preflight::{self, Obstacle},
    model::{
        deploy::Credential,
        hook::{BranchFilter, Hook},
        name::HookName,
    },
    process::user::Account,
};

/// Hooks that ask together.
pub(super) struct Group {
    /// Their remote.
    pub(super) remote: String,
    /// What is shown there.
    pub(super) credentials: Vec<Credential>,
    /// Who asks.
    pub(super) account: Account,
    /// The hooks; at least one.
    pub(super) hooks: Vec<Arc<Hook>>,
}

/// The groups, and the hooks that cannot ask, each with the reason.
pub(super) fn of(hooks: Vec<Arc<Hook>>) -> (Vec<Group>, Vec<(HookName, String)>) {
    let own = match Account::find(None) {
        Ok(own) => own,
        Err(why) => return (Vec::new(), hooks.iter().map(|it| (it.name.clone(), why.clone())).collect()),
    };
    let (mut groups, mut refused): (HashMap<_, Vec<Group>>, _) = (HashMap::new(), Vec::new());
    for hook in hooks {
        let Some(git) = hook.deploy.strategy.git() else { continue };
        let account = match preflight::crew(&hook, &own) {
            Ok(crew) => crew.landing,
            Err(Obstacle::ForGood(why) | Obstacle::ForNow(why)) => {
                refused.push((hook.name.clone(), why));
                continue;
            }
        };
        let (remote, credentials) = (git.remote.to_string(), git.credentials.clone());
        let alike = groups.entry((remote.clone(), account.uid.as_raw())).or_default();
        match alike.iter_mut().find(|it| it.credentials == credentials) {
            Some(group) => group.hooks.push(hook),
            None => alike.push(Group { remote, credentials, account, hooks: vec![hook] }),
        }
    }
    (groups.into_values().flatten().collect(), refused)
}

/// Which refs a hook looks for, and where: one text for each answer.
pub(super) fn looked_for(hook: &Hook) -> String {
    let branches = match &hook.on.push {
        BranchFilter::Never => "no branch".to_owned(),
        BranchFilter::DefaultBranch => "the default branch".to_owned(),
        BranchFilter::Matching(patterns) => format!("branches {:?}", patterns.texts()),
    };
    let tags = hook.on.tag.as_ref().map_or("no tag".to_owned(), |it| format!("tags {:?}", it.texts()));
    let remote = hook.deploy.strategy.git().map_or("", |it| it.remote.as_str());
    format!("{branches} and {tags} of {remote} as {}", hook.repo)
}
