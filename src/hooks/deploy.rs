//! Reads `deploy`: where and how the code of a hook lands.
//!
//! Invariant: a key that does nothing with the chosen strategy is an error, unless it says what would hold anyway.

use std::{
    num::NonZeroU32,
    path::{Component, PathBuf},
};

use crate::{
    hooks::{
        credentials, keys,
        read::{Check, Field, Section},
        releases, remote,
        yaml::Place,
    },
    model::{
        deploy::{Clean, Deploy, Depth, Dirty, Git, Keeping, Lfs, Strategy, Submodules, UMASK_DEFAULT, UnknownFilters},
        push::RepoName,
        remote::WrittenRemote,
        source::Forge,
    },
};

/// 512 MiB.
const MIN_FREE_DEFAULT: u64 = 512 << 20;

/// Where a hook without `deploy` has its code: in a fresh tree.
pub(super) fn default(forge: Forge, repo: &RepoName) -> Deploy {
    let git = Git::plain(default_remote(forge, repo));
    Deploy { strategy: Strategy::Checkout { git }, min_free_bytes: MIN_FREE_DEFAULT }
}

/// What `deploy` says, and where it says its path.
pub(super) struct Found {
    pub(super) deploy: Deploy,
    pub(super) path_place: Option<Place>,
    /// Whether all of it could be read, so that it can be compared with that of another hook.
    pub(super) is_complete: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Checkout,
    InPlace,
    Releases,
    None,
}

const WORDS: [(&str, Word); 4] =
    [("checkout", Word::Checkout), ("in-place", Word::InPlace), ("releases", Word::Releases), ("none", Word::None)];

/// Reads the map.
pub(super) fn read(field: &Field, forge: Forge, repo: &RepoName, check: &mut Check) -> Option<Found> {
    let errors_before = check.errors();
    let section = field.section(check, keys::DEPLOY)?;
    let path_field = section.get("path");
    let path = path_field.map(|it| absolute(it, check));
    let default_word = if path.is_some() { Word::InPlace } else { Word::Checkout };
    let word = section.read("strategy", check, default_word, |it, check| it.choice(check, &WORDS));
    // A mistake in it has been reported, and must not hide where the hook deploys to.
    let git = git(&section, forge, repo, check).unwrap_or_else(|| Git::plain(default_remote(forge, repo)));
    let keeping = releases::read(&section, check);
    let dirty =
        section.read("dirty", check, Dirty::Save, |it, check| it.choice(check, &words(Dirty::ALL, Dirty::word)));
    let clean =
        section.read("clean", check, Clean::None, |it, check| it.choice(check, &words(Clean::ALL, Clean::word)));
    let min_free_bytes =
        section.read("min_free", check, MIN_FREE_DEFAULT, |it, check| it.size(check, 0, i64::MAX as u64));
    let said = Said { word, dirty, clean, exports: git.export_ignore, keeping: &keeping };
    refuse_useless(&section, &said, check);
    let strategy = match word {
        Word::Checkout => Strategy::Checkout { git },
        Word::None => Strategy::None { folder: check.folder.clone() },
        Word::InPlace => Strategy::InPlace { git, path: path.or_else(|| miss_path(&section, check))??, dirty, clean },
        Word::Releases => Strategy::Releases { git, path: path.or_else(|| miss_path(&section, check))??, keeping },
    };
    let is_complete = check.errors() == errors_before;
    let deploy = Deploy { strategy, min_free_bytes };
    Some(Found { deploy, path_place: path_field.map(Field::place), is_complete })
}

/// Choices with their words, as [`Field::choice`] takes them.
fn words<T: Copy>(all: &[T], word: fn(T) -> &'static str) -> Vec<(&'static str, T)> {
    all.iter().map(|it| (word(*it), *it)).collect()
}

fn miss_path(section: &Section, check: &mut Check) -> Option<Option<PathBuf>> {
    section.miss(check, "`path`", "the folder to deploy into, absolute: `path: /srv/website`");
    None
}

/// What has been read, as far as it matters to whether a key does something.
struct Said<'a> {
    word: Word,
    dirty: Dirty,
    clean: Clean,
    exports: bool,
    keeping: &'a Keeping,
}

/// Keys that a person may think do something here.
fn refuse_useless(section: &Section, said: &Said, check: &mut Check) {
    let Said { word, dirty, clean, exports, keeping } = *said;
    let (is_in_place, is_releases) = (word == Word::InPlace, word == Word::Releases);
    let usual = Keeping::default();
    let uses_git = word != Word::None;
    let uses_path = matches!(word, Word::InPlace | Word::Releases);
    for (key, is_useless) in [
        ("path", !uses_path),
        ("dirty", !is_in_place && dirty != Dirty::Save),
        ("clean", !is_in_place && clean != Clean::None),
        ("tags", !is_in_place),
        ("keep", !is_releases && keeping.good != usual.good),
        ("keep_failed", !is_releases && keeping.failed != usual.failed),
        ("shared", !is_releases && keeping.shared != usual.shared),
        ("rollback", !is_releases && keeping.rollback != usual.rollback),
        ("export_ignore", !uses_git || is_in_place && exports),
        ("remote", !uses_git),
        ("credentials", !uses_git),
        ("submodules", !uses_git),
        ("lfs", !uses_git),
        ("depth", !uses_git),
        ("filters", !uses_git),
        ("umask", !uses_git),
        ("subdir", !uses_git),
    ] {
        let Some(field) = section.get(key).filter(|_| is_useless) else { continue };
        let strategy = WORDS.iter().find(|(_, it)| *it == word).map_or("", |(text, _)| text);
        let message = format!("`{}` does nothing with strategy `{strategy}`", field.path);
        let help = match key {
            "keep" | "keep_failed" | "shared" | "rollback" => "remove it, or use `strategy: releases`",
            "export_ignore" if uses_git => "remove it, or use `strategy: releases` or `checkout`",
            _ if uses_git => "remove it, or use `strategy: in-place`",
            _ => "remove it, or use another strategy",
        };
        check.error(field.key_place, "useless-key", message, help);
    }
    if let Some(field) = section.get("subdir").filter(|_| is_in_place) {
        let message = format!("`{}` does not go with strategy `in-place`", field.path);
        let help = "use `strategy: releases` or `checkout`: a working tree of git is all of its repository";
        check.error(field.key_place, "useless-key", message, help);
    }
}

/// A folder to deploy into: absolute, without `..`, and not the root.
fn absolute(field: &Field, check: &mut Check) -> Option<PathBuf> {
    let text = field.text(check)?;
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        let help =
            if text.starts_with('~') { "only shells understand `~`: write the path out" } else { "begin it with `/`" };
        field.refuse(check, "relative-path", format_args!("is `{text}`, which is not absolute"), help);
        return None;
    }
    if path.components().any(|it| it == Component::ParentDir) || path.parent().is_none() {
        field.refuse(check, "bad-path", format_args!("cannot be `{text}`"), "name a folder of its own, without `..`");
        return None;
    }
    // Drops `.` and doubled or closing slashes, so that equal folders are equal paths.
    Some(path.components().collect())
}

fn default_remote(forge: Forge, repo: &RepoName) -> WrittenRemote {
    WrittenRemote::parse(format!("{}/{repo}.git", forge.cloud()))
        .expect("the address of a forge and the name of a repository are a URL")
}

fn git(section: &Section, forge: Forge, repo: &RepoName, check: &mut Check) -> Option<Git> {
    let remote = match section.get("remote") {
        None => default_remote(forge, repo),
        Some(field) => remote::read(field, check)?,
    };
    let credentials = match section.get("credentials") {
        None => Vec::new(),
        Some(field) => credentials::read(field, remote.parts(), forge, check)?,
    };
    let submodules = words(Submodules::ALL, Submodules::word);
    let lfs = words(Lfs::ALL, Lfs::word);
    let filters = words(UnknownFilters::ALL, UnknownFilters::word);
    Some(Git {
        remote,
        credentials,
        submodules: section.read("submodules", check, Submodules::Off, |it, check| it.choice(check, &submodules)),
        lfs: section.read("lfs", check, Lfs::Fail, |it, check| it.choice(check, &lfs)),
        depth: section.read("depth", check, Depth::Auto, depth),
        tags: section.read("tags", check, true, Field::flag),
        export_ignore: section.read("export_ignore", check, false, Field::flag),
        filters: section.read("filters", check, UnknownFilters::Fail, |it, check| it.choice(check, &filters)),
        umask: section.read("umask", check, UMASK_DEFAULT, umask),
        subdir: section.read("subdir", check, None, |it, check| releases::inner_path(it, check).map(Some)),
    })
}

fn depth(field: &Field, check: &mut Check) -> Option<Depth> {
    field.parsed(check, "bad-number", |text| match text.parse() {
        _ if text == "auto" => Ok(Depth::Auto),
        Ok(number @ 0..=1_000_000) => Ok(NonZeroU32::new(number).map_or(Depth::All, Depth::Commits)),
        Ok(_) | Err(_) => Err("write `auto`, or a whole number from 0 to 1000000; 0 is all"),
    })
}

/// YAML hands on what was written, so `022` is octal here with and without quotes. Fewer digits would leave open
/// whether a person meant `22` to be octal at all.
fn umask(field: &Field, check: &mut Check) -> Option<u32> {
    field.parsed(check, "bad-umask", |text| {
        let is_octal = matches!(text.len(), 3 | 4) && text.bytes().all(|it| matches!(it, b'0'..=b'7'));
        let bits = u32::from_str_radix(text, 8).ok().filter(|bits| is_octal && *bits <= 0o777);
        bits.ok_or("write three octal digits, as `umask` prints them in a shell: `umask: \"022\"`")
    })
}
