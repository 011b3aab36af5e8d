//! Checks what no single entry of hooks.yaml can know: how its entries get along with one another.
//!
//! Invariant: after it, no two runs can write into the same folder at once, and everybody who is to be told can be.

use std::{collections::BTreeMap, path::Path};

use crate::{
    hooks::{
        hook::Draft,
        read::{Check, Field},
        server::Server,
    },
    model::deploy::{Clean, Strategy},
};

/// Everything that the entries may have against one another.
pub(super) fn check_all(drafts: &[Draft], sources: &[Field], has_smtp: bool, server: &Server, check: &mut Check) {
    check_folders(drafts, check);
    check_state(drafts, &server.state, check);
    check_names(drafts, sources, check);
    if !has_smtp {
        for place in drafts.iter().filter_map(|it| it.email_place) {
            let help = "add `smtp: {host: mail.example.org, from: deploys@example.org}` at the top level";
            check.error(place, "no-smtp", "e-mail is asked for, and there is no `smtp` to send it by", help);
        }
    }
}

/// Two hooks in different lanes may run at once, so they must not deploy into the same or nested folders.
fn check_folders(drafts: &[Draft], check: &mut Check) {
    let mut by_path: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        if let Some(path) = draft.path() {
            by_path.entry(path).or_default().push(index);
        }
    }
    for (index, draft) in drafts.iter().enumerate() {
        let Some(path) = draft.path() else { continue };
        let others = path.ancestors().filter_map(|it| by_path.get(it)).flatten().map(|it| (*it, &drafts[*it]));
        let clash = others.into_iter().find(|(other_index, other)| {
            let is_reported_there = other.path() == Some(path) && *other_index >= index;
            other.hook.lane != draft.hook.lane && !is_reported_there
        });
        if let Some((_, other)) = clash {
            let (name, other_name, line) = (&draft.hook.name, &other.hook.name, other.name_place.line);
            let path = path.display();
            let how = if other.path() == draft.path() { "the same folder as" } else { "a folder inside of that of" };
            let message = format!(
                "hook `{name}` deploys into `{path}`, {how} hook `{other_name}` (line {line}), in another lane"
            );
            let help = format!("give both one lane (`lane: {}`), or use folders apart", other.hook.lane);
            check.error(draft.path_place.unwrap_or(draft.name_place), "shared-path", message, help);
        }
    }
}

/// The state folder is Landfall's own.
fn check_state(drafts: &[Draft], state: &Path, check: &mut Check) {
    for draft in drafts {
        let Strategy::InPlace { path, clean, .. } = &draft.hook.deploy.strategy else { continue };
        let would_be_cleaned = *clean == Clean::Untracked && state.starts_with(path);
        if path.starts_with(state) || would_be_cleaned {
            let message =
                format!("hook `{}` would overwrite Landfall's own state in `{}`", draft.hook.name, state.display());
            let place = draft.path_place.unwrap_or(draft.name_place);
            check.error(place, "state-path", message, "use another folder, or another `server.state`");
        }
    }
}

/// A hook with a sender of its own is a source by that name.
fn check_names(drafts: &[Draft], sources: &[Field], check: &mut Check) {
    let lines: BTreeMap<&str, usize> = sources.iter().map(|it| (it.key, it.key_place.line)).collect();
    for draft in drafts.iter().filter(|it| it.source.is_some()) {
        if let Some(line) = lines.get(draft.hook.name.as_str()) {
            let message =
                format!("hook `{}` has a sender of its own and the name of a source (line {line})", draft.hook.name);
            check.error(draft.name_place, "name-taken", message, "rename one of them");
        }
    }
}
