//! Reads how releases are kept, and what they share.
//!
//! Invariant: shared paths stay inside of the tree, and no two of them overlap.

use std::path::{Component, PathBuf};

use crate::{
    hooks::{
        keys,
        read::{Check, Field, Section},
        yaml::Value,
    },
    model::deploy::{Keeping, Rollback, SharedPath},
};

/// What `deploy` says about keeping releases.
pub(super) fn read(section: &Section, check: &mut Check) -> Keeping {
    let count = |least: i64| {
        move |it: &Field, check: &mut Check| it.number(check, least..=10_000).and_then(|it| u32::try_from(it).ok())
    };
    let words: Vec<_> = Rollback::ALL.iter().map(|it| (it.word(), *it)).collect();
    let usual = Keeping::default();
    Keeping {
        good: section.read("keep", check, usual.good, count(1)),
        failed: section.read("keep_failed", check, usual.failed, count(0)),
        shared: section.read("shared", check, usual.shared, shared_paths),
        rollback: section.read("rollback", check, usual.rollback, |it, check| it.choice(check, &words)),
    }
}

fn shared_paths(field: &Field, check: &mut Check) -> Option<Vec<SharedPath>> {
    let items = field.items(check)?;
    let mut found: Vec<SharedPath> = Vec::new();
    for item in &items {
        let Some(shared) = shared_path(item, check) else { continue };
        if shared.path.starts_with("REVISION") {
            let message = "shares `REVISION`, where each release has its commit";
            item.refuse(check, "shared-revision", message, "share another path");
        }
        let overlap = found.iter().find(|it| it.path.starts_with(&shared.path) || shared.path.starts_with(&it.path));
        if let Some(other) = overlap {
            let message = format!("shares `{}`, which overlaps with `{}`", shared.path.display(), other.path.display());
            item.refuse(check, "shared-twice", message, "keep the outer one of them");
        }
        found.push(shared);
    }
    Some(found)
}

fn shared_path(field: &Field, check: &mut Check) -> Option<SharedPath> {
    if let Value::Text(_) = field.node.value {
        let path = inner_path(field, check)?;
        return Some(SharedPath { path, required: false, seed: None, mode: None });
    }
    let section = field.section(check, keys::SHARED)?;
    let path = match section.get("path") {
        Some(path) => inner_path(path, check),
        None => {
            section.miss(check, "`path`", "the path inside of the release: `{path: .env}`");
            None
        }
    };
    let required = section.read("required", check, false, Field::flag);
    let seed = section.read("seed", check, None, |it, check| inner_path(it, check).map(Some));
    let mode = section.read("mode", check, None, |it, check| {
        let octal = |text: &str| u32::from_str_radix(text.trim_start_matches("0o"), 8).ok().filter(|it| *it <= 0o7777);
        it.parsed(check, "bad-number", |text| octal(text).map(Some).ok_or("write it in octal: `\"0640\"`"))
    });
    Some(SharedPath { path: path?, required, seed, mode })
}

/// A path inside of the tree, without `.` and doubled slashes.
pub(super) fn inner_path(field: &Field, check: &mut Check) -> Option<PathBuf> {
    let text = field.text(check)?;
    let path: PathBuf = PathBuf::from(text).components().filter(|it| *it != Component::CurDir).collect();
    let is_plain = path.components().all(|it| matches!(it, Component::Normal(name) if name != ".git"));
    if !is_plain || path.as_os_str().is_empty() {
        field.refuse(check, "bad-path", "must stay inside of the tree", "write it without `..` and a leading `/`");
        return None;
    }
    Some(path)
}
