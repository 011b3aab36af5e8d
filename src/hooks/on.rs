//! Reads which pushes start a hook: events, branches, tags, changed files, and markers that skip.
//!
//! Invariant: a pattern that is read is compiled, and each text is compiled once per file.

use std::time::Duration;

use crate::{
    hooks::{
        keys, patterns,
        possible::Name,
        read::{Check, Field, Section},
        units,
        yaml::Value,
    },
    model::hook::{BranchFilter, Hook, On, Patterns, Poll},
};

/// What skips a push if every new commit carries one.
const SKIP_MARKERS: [&str; 2] = ["[skip deploy]", "[deploy skip]"];

/// `on`, or its default.
pub(super) fn read(section: &Section, check: &mut Check) -> On {
    section.read("on", check, On { push: BranchFilter::DefaultBranch, tag: None }, on)
}

/// `paths`; without it any file will do.
pub(super) fn paths(section: &Section, check: &mut Check) -> Option<Patterns> {
    section.read("paths", check, None, |it, check| patterns(it, check, Name::File).map(Some))
}

/// `skip_markers`; an empty list skips nothing.
pub(super) fn skip_markers(section: &Section, check: &mut Check) -> Vec<String> {
    let default = SKIP_MARKERS.map(str::to_owned).to_vec();
    section
        .read("skip_markers", check, default, |it, check| it.each(check, |it, check| it.text(check).map(str::to_owned)))
}

/// The shortest time between two looks at a remote: each is a connection, and forges count those.
const POLL_MIN: Duration = Duration::from_secs(1);

/// `poll`: `off`, or how often.
pub(super) fn poll(field: &Field, check: &mut Check) -> Option<Poll> {
    if field.text(check)? == "off" {
        return Some(Poll::Off);
    }
    field.parsed(check, "bad-poll", |text| match units::duration(text) {
        Ok(interval) if interval >= POLL_MIN => Ok(Poll::Every(interval)),
        Ok(_) | Err(_) => Err("write how often, like `5m`, or `off`; without the key it is asked at each start"),
    })
}

/// They ask git or a remote; without one, the first two would let everything through.
pub(super) fn refuse_without_git(section: &Section, hook: &Hook, check: &mut Check) {
    if hook.deploy.strategy.git().is_some() {
        return;
    }
    let own = ["paths", "skip_markers", "poll"].into_iter().filter_map(|it| section.get(it));
    for field in own.filter(|it| !it.path.starts_with("defaults.")) {
        let message = format!("`{}` does nothing with strategy `none`, which fetches no commits", field.path);
        check.error(field.key_place, "useless-key", message, "remove it, or use another strategy");
    }
}

fn on(field: &Field, check: &mut Check) -> Option<On> {
    let section = field.section(check, keys::ON)?;
    for later in section.fields.iter().filter(|it| keys::LATER_EVENTS.contains(&it.key)) {
        let message = format!("`{}` is not supported by this version", later.path);
        check.error(later.key_place, "not-supported", message, "use `push` or `tag`");
    }
    if section.fields.is_empty() {
        field.refuse(check, "no-event", "names no event", "remove it, or write `{push: main}` or `{tag: \"v*\"}`");
    }
    let push = match section.get("push") {
        None => BranchFilter::Never,
        Some(it) => BranchFilter::Matching(patterns(it, check, Name::Branch)?),
    };
    let tag = section.get("tag").map(|it| patterns(it, check, Name::Tag));
    Some(On { push, tag: tag.unwrap_or(None) })
}

/// A list of globs; each that is none, or that nothing can match, is noted.
fn patterns(field: &Field, check: &mut Check, of: Name) -> Option<Patterns> {
    if let Value::Map(_) = &field.node.value {
        let help = match field.key {
            "push" => "write the branches themselves: `push: [main, \"release/*\"]`",
            "tag" => "write the tags themselves: `tag: \"v*\"`",
            _ => "write the globs themselves: `paths: [web/**]`",
        };
        field.refuse(check, "wrong-type", "must be a name, a glob, or a list of them, not a map", help);
        return None;
    }
    // What is in the list, with the place of each.
    let items = field.items(check)?;
    if items.is_empty() {
        field.refuse(check, "empty-list", "is an empty list", "name at least one, or remove the key");
        return None;
    }
    let read: Vec<Option<&str>> = items.iter().map(|it| it.text(check)).collect();
    let texts: Option<Vec<String>> = read.into_iter().map(|it| it.map(str::to_owned)).collect();
    let texts = texts?;
    let judged = match check.patterns.get(&(of, texts.clone())) {
        Some(known) => known.clone(),
        None => {
            let judged = patterns::judge(&texts, of);
            check.patterns.insert((of, texts), judged.clone());
            judged
        }
    };
    for (index, trouble) in judged.troubles {
        let Some(item) = items.get(index) else { continue };
        let message = format!("`{}` {}", item.path, trouble.message);
        match trouble.is_warning {
            true => check.warn(item.place(), trouble.code, message, trouble.help),
            false => check.error(item.place(), trouble.code, message, trouble.help),
        }
    }
    judged.patterns
}
