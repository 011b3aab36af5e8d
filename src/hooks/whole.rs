//! Checks what no single entry of hooks.yaml can know: how its entries get along with one another.
//!
//! Invariant: after it, no two runs can write into the same folder at once, and everybody who is to be told can be.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

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
    let real: Vec<Option<PathBuf>> = drafts.iter().map(|it| it.path().map(without_links)).collect();
    let mut by_path: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    for (index, path) in real.iter().enumerate() {
        if let Some(path) = path {
            by_path.entry(path).or_default().push(index);
        }
    }
    for (index, draft) in drafts.iter().enumerate() {
        let Some(path) = real[index].as_deref() else { continue };
        let others = path.ancestors().filter_map(|it| by_path.get(it)).flatten().map(|it| (*it, &drafts[*it]));
        let clash = others.into_iter().find(|(other_index, other)| {
            let is_reported_there = real[*other_index].as_deref() == Some(path) && *other_index >= index;
            other.hook.lane != draft.hook.lane && !is_reported_there
        });
        if let Some((other_index, other)) = clash {
            let (name, other_name, line) = (&draft.hook.name, &other.hook.name, other.name_place.line);
            let is_same = real[other_index].as_deref() == Some(path);
            let path = draft.path().unwrap_or(path).display();
            let how = if is_same { "the same folder as" } else { "a folder inside of that of" };
            let message = format!(
                "hook `{name}` deploys into `{path}`, {how} hook `{other_name}` (line {line}), in another lane"
            );
            let help = format!("give both one lane (`lane: {}`), or use folders apart", other.hook.lane);
            check.error(draft.path_place.unwrap_or(draft.name_place), "shared-path", message, help);
        }
    }
}

/// The folder behind a path, as far as it is there.
fn without_links(path: &Path) -> PathBuf {
    let real = path.ancestors().find_map(|it| Some((fs::canonicalize(it).ok()?, path.strip_prefix(it).ok()?)));
    real.map_or_else(|| path.to_owned(), |(real, rest)| if rest == Path::new("") { real } else { real.join(rest) })
}

/// The state folder is Landfall's own, and a folder of releases has one of its own.
fn check_state(drafts: &[Draft], state: &Path, check: &mut Check) {
    for draft in drafts {
        let (name, place) = (&draft.hook.name, draft.path_place.unwrap_or(draft.name_place));
        let (path, would_be_cleaned) = match &draft.hook.deploy.strategy {
            Strategy::InPlace { path, clean, .. } => (path, *clean == Clean::Untracked && state.starts_with(path)),
            Strategy::Releases { path, .. } => (path, false),
            Strategy::Checkout { .. } | Strategy::None { .. } => continue,
        };
        if path.starts_with(state) || would_be_cleaned {
            let message = format!("hook `{name}` would overwrite Landfall's own state in `{}`", state.display());
            check.error(place, "state-path", message, "use another folder, or another `server.state`");
        } else if matches!(&draft.hook.deploy.strategy, Strategy::Releases { .. })
            && state.starts_with(path.join(".landfall"))
        {
            let message = format!(
                "hook `{name}` keeps the record of its releases in `{}`, where Landfall's state is, and both would be \
                 lost together",
                state.display()
            );
            check.warn(place, "state-path", message, "use another folder, or another `server.state`");
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
