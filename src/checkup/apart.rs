//! What keeps hooks apart on this machine, and what does not.
//!
//! Invariant: it is judged by who their steps run as; nothing is tried.

use std::collections::BTreeMap;

use super::Finding;
use crate::{hooks::Outline, keeper::preflight, process::user::Account};

const SUBJECT: &str = "hooks apart";

/// How many hooks are named.
const NAMED_MAX: usize = 5;

/// Says it where several hooks have secrets.
pub(super) fn look(outline: &Outline, daemon: &Account) -> Option<Finding> {
    let mut of_user: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for hook in outline.hooks.values().filter(|it| !it.secrets.is_empty()) {
        let user = preflight::crew(hook, daemon).ok()?.steps.name;
        of_user.entry(user).or_default().push(hook.name.as_str());
    }
    if of_user.values().map(Vec::len).sum::<usize>() < 2 {
        return None;
    }
    let Some((user, hooks)) = of_user.iter().find(|(_, hooks)| hooks.len() > 1) else {
        let message = format!("each of the {} hooks with secrets has a user of its own", of_user.len());
        return Some(Finding::ok(SUBJECT, message));
    };
    let mut names = hooks.iter().take(NAMED_MAX).map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ");
    if hooks.len() > NAMED_MAX {
        names.push_str(&format!(" and {} more", hooks.len() - NAMED_MAX));
    }
    let message = format!(
        "{names} run as `{user}`: the files of one, and the secrets of its steps while they run, are open to the scripts of \
         the others; only what the daemon, keepers and git work know is hidden from them"
    );
    let help = match daemon.uid.is_root() {
        true => "give each hook a `user` of its own",
        false => "run the daemon as root and give each hook a `user` of its own",
    };
    Some(Finding::warn(SUBJECT, message, help))
}
