//! Checks what no single entry of hooks.yaml can know: how its entries get along with one another.
//!
//! Invariant: after it, no two runs can write into the same folder at once, hooks that share a folder want the same of
//! it, and everybody who is to be told can be.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{getegid, geteuid};

use crate::{
    hooks::{
        hook::Draft,
        read::{Check, Field, Section},
        server::Server,
        yaml::Place,
    },
    model::deploy::{Clean, Depth, Strategy},
    process::{
        shell::path_word,
        way::{self, user_name},
    },
};

/// Everything that the entries may have against one another.
pub(super) fn check_all(drafts: &[Draft], sources: &[Field], has_smtp: bool, server: &Server, check: &mut Check) {
    let real: Vec<Option<PathBuf>> = drafts.iter().map(|it| it.path().map(without_links)).collect();
    check_folders(drafts, &real, check);
    check_agreement(drafts, &real, check);
    check_state(drafts, &server.state, check);
    check_names(drafts, sources, check);
    if !has_smtp {
        for place in drafts.iter().filter_map(|it| it.email_place) {
            let help = "add `smtp: {host: mail.example.org, from: deploys@example.org}` at the top level";
            check.error(place, "no-smtp", "e-mail is asked for, and there is no `smtp` to send it by", help);
        }
    }
}

/// Whoever can change the file of a root daemon becomes root by it.
pub(super) fn warn_of_others(file: &Path, check: &mut Check) {
    if !geteuid().is_root() {
        return;
    }
    let Ok(metadata) = fs::metadata(file) else { return };
    let way = || way::look_at_file(file).ok().and_then(|it| it.judge_for(geteuid(), getegid()).err());
    let why = match metadata.uid() {
        0 if metadata.mode() & 0o022 == 0 => way(),
        0 => Some(format!("others than root may write to it: `chmod go-w {}`", path_word(file))),
        uid => Some(format!("it belongs to `{}`: `chown root {}`", user_name(uid), path_word(file))),
    };
    if let Some(why) = why {
        let place = Place { line: 1, column: 1, end_line: 1, end_column: 1 };
        let message = "others than root can change this file, and a root daemon does as root what it says";
        check.warn(place, "changed-by-others", message, why);
    }
}

/// Two hooks in different lanes may run at once, so they must not deploy into the same or nested folders.
fn check_folders(drafts: &[Draft], real: &[Option<PathBuf>], check: &mut Check) {
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

/// Hooks that share a folder must want the same of it: one run after the other would make another thing of it, as
/// somebody whom the files of the last one do not belong to, or out of a history that is not there.
fn check_agreement(drafts: &[Draft], real: &[Option<PathBuf>], check: &mut Check) {
    let mut first: BTreeMap<&Path, &Draft> = BTreeMap::new();
    for (draft, path) in drafts.iter().zip(real) {
        // What could not be read has been reported, and what stands in for it means nothing.
        let Some(path) = path.as_deref().filter(|_| draft.is_landing_known) else { continue };
        let other = *first.entry(path).or_insert(draft);
        let differences = differences(draft, other);
        if differences.is_empty() {
            continue;
        }
        let (name, other_name) = (&draft.hook.name, &other.hook.name);
        let place = draft.path_place.unwrap_or(draft.name_place);
        let other_line = other.path_place.unwrap_or(other.name_place).line;
        let (line, path) = (place.line, draft.path().unwrap_or(path).display());
        let message = format!(
            "hook `{name}` (line {line}) deploys into `{path}` as hook `{other_name}` (line {other_line}) does, and \
             they differ: {}",
            differences.join("; ")
        );
        check.error(place, "unlike-hooks", message, "make them agree, or use folders apart");
    }
}

/// In what two hooks of one folder do not agree, each with both values.
fn differences(one: &Draft, other: &Draft) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, one: &str, other: &str| found.push(format!("{what} `{one}` and `{other}`"));
    let (strategy, other_strategy) = (&one.hook.deploy.strategy, &other.hook.deploy.strategy);
    if strategy.word() != other_strategy.word() {
        differ("strategy", strategy.word(), other_strategy.word());
    }
    if one.hook.user != other.hook.user {
        let user = |it: &'_ Draft| it.hook.user.clone().unwrap_or_else(|| "the daemon's".to_owned());
        differ("user", &user(one), &user(other));
    }
    if let (Some(git), Some(other)) = (strategy.git(), other_strategy.git()) {
        if !git.remote.parts().is_same_repository(other.remote.parts()) {
            differ("remote", git.remote.as_str(), other.remote.as_str());
        }
        if git.depth != other.depth {
            differ("depth", &depth_word(git.depth), &depth_word(other.depth));
        }
    }
    found
}

/// A depth as hooks.yaml has it.
fn depth_word(depth: Depth) -> String {
    match depth {
        Depth::Auto => "auto".to_owned(),
        Depth::All => "0".to_owned(),
        Depth::Commits(number) => number.to_string(),
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

/// Warns where all senders would come from one address: that of a proxy which `trusted_proxies` does not name.
///
/// It is said where a proxy must be there: the listener can be reached from this machine alone, and either forges reach it
/// by another address, or hooks.yaml itself asks for the senders' addresses.
pub(super) fn check_proxies(section: &Section, server: &Server, asks_for_addresses: bool, check: &mut Check) {
    let addresses = server.listen.addresses();
    let is_reached_by_proxy = !addresses.is_empty() && addresses.iter().all(|it| it.ip().is_loopback());
    let has_proxy = asks_for_addresses || !server.is_public_url_loopback();
    if !is_reached_by_proxy
        || !has_proxy
        || section.get("trusted_proxies").is_some()
        || !server.trusted_proxies.is_empty()
    {
        return;
    }
    let named = ["listen", "allow_from", "public_url"].into_iter().find_map(|it| section.get(it));
    let consequence = match asks_for_addresses {
        true => "`allow_from` refuses every delivery that a proxy passes on",
        false => "no sender has a share of connections of its own",
    };
    let message = format!(
        "only this machine reaches {}, so a proxy passes deliveries on, and `trusted_proxies` names none: {consequence}",
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    );
    let help = "add `trusted_proxies: [127.0.0.1, \"::1\"]` to `server`, and let the proxy set X-Forwarded-For";
    check.warn(named.map_or(section.place, |it| it.key_place), "no-proxies", message, help);
}
