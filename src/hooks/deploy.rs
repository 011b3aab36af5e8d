//! Reads `deploy`: where and how the code of a hook lands.
//!
//! Invariant: a key that does nothing with the chosen strategy is an error, unless it says what would hold anyway.

use std::{
    num::NonZeroU32,
    path::{Component, PathBuf},
};

use crate::{
    hooks::{
        keys,
        read::{Check, Field, Section},
        releases,
        remote::{self, Transport},
        secrets,
        yaml::Place,
    },
    model::{
        deploy::{Clean, Credentials, Deploy, Dirty, Git, Keeping, Lfs, Strategy, Submodules},
        push::RepoName,
        source::Forge,
    },
};

/// 512 MiB.
const MIN_FREE_DEFAULT: u64 = 512 << 20;

/// Where a hook without `deploy` has its code: in a fresh tree.
pub(super) fn default(forge: Forge, repo: &RepoName) -> Deploy {
    let git = Git::plain(default_remote(forge, repo), Credentials::Ambient);
    Deploy { strategy: Strategy::Checkout { git }, min_free_bytes: MIN_FREE_DEFAULT }
}

/// What `deploy` says, and where it says its path.
pub(super) struct Found {
    pub(super) deploy: Deploy,
    pub(super) path_place: Option<Place>,
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
    let section = field.section(check, keys::DEPLOY)?;
    let path_field = section.get("path");
    let path = path_field.map(|it| absolute(it, check));
    let default_word = if path.is_some() { Word::InPlace } else { Word::Checkout };
    let word = section.read("strategy", check, default_word, |it, check| it.choice(check, &WORDS));
    // A mistake in it has been reported, and must not hide where the hook deploys to.
    let git = git(&section, forge, repo, check)
        .unwrap_or_else(|| Git::plain(default_remote(forge, repo), Credentials::Ambient));
    let keeping = releases::read(&section, check);
    let dirty =
        section.read("dirty", check, Dirty::Save, |it, check| it.choice(check, &words(Dirty::ALL, Dirty::word)));
    let clean =
        section.read("clean", check, Clean::None, |it, check| it.choice(check, &words(Clean::ALL, Clean::word)));
    let min_free_bytes =
        section.read("min_free", check, MIN_FREE_DEFAULT, |it, check| it.size(check, 0, i64::MAX as u64));
    refuse_useless(&section, word, (dirty, clean), &keeping, check);
    let strategy = match word {
        Word::Checkout => Strategy::Checkout { git },
        Word::None => Strategy::None { folder: check.folder.clone() },
        Word::InPlace => Strategy::InPlace { git, path: path.or_else(|| miss_path(&section, check))??, dirty, clean },
        Word::Releases => Strategy::Releases { git, path: path.or_else(|| miss_path(&section, check))??, keeping },
    };
    Some(Found { deploy: Deploy { strategy, min_free_bytes }, path_place: path_field.map(Field::place) })
}

/// Choices with their words, as [`Field::choice`] takes them.
fn words<T: Copy>(all: &[T], word: fn(T) -> &'static str) -> Vec<(&'static str, T)> {
    all.iter().map(|it| (word(*it), *it)).collect()
}

fn miss_path(section: &Section, check: &mut Check) -> Option<Option<PathBuf>> {
    section.miss(check, "`path`", "the folder to deploy into, absolute: `path: /srv/website`");
    None
}

/// Keys that a person may think do something here.
fn refuse_useless(section: &Section, word: Word, (dirty, clean): (Dirty, Clean), keeping: &Keeping, check: &mut Check) {
    let (is_in_place, is_releases) = (word == Word::InPlace, word == Word::Releases);
    let usual = Keeping::default();
    let uses_git = word != Word::None;
    let uses_path = matches!(word, Word::InPlace | Word::Releases);
    for (key, is_useless) in [
        ("path", !uses_path),
        ("dirty", !is_in_place && dirty != Dirty::Save),
        ("clean", !is_in_place && clean != Clean::None),
        ("keep", !is_releases && keeping.good != usual.good),
        ("keep_failed", !is_releases && keeping.failed != usual.failed),
        ("shared", !is_releases && keeping.shared != usual.shared),
        ("rollback", !is_releases && keeping.rollback != usual.rollback),
        ("remote", !uses_git),
        ("credentials", !uses_git),
        ("submodules", !uses_git),
        ("lfs", !uses_git),
        ("depth", !uses_git),
        ("subdir", !uses_git),
    ] {
        let Some(field) = section.get(key).filter(|_| is_useless) else { continue };
        let strategy = WORDS.iter().find(|(_, it)| *it == word).map_or("", |(text, _)| text);
        let message = format!("`{}` does nothing with strategy `{strategy}`", field.path);
        let help = match key {
            "keep" | "keep_failed" | "shared" | "rollback" => "remove it, or use `strategy: releases`",
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

fn default_remote(forge: Forge, repo: &RepoName) -> String {
    format!("{}/{repo}.git", forge.cloud())
}

fn git(section: &Section, forge: Forge, repo: &RepoName, check: &mut Check) -> Option<Git> {
    let remote = match section.get("remote") {
        None => default_remote(forge, repo),
        Some(field) => judged(field, check)?,
    };
    let transport = remote::transport(&remote);
    let credentials = match section.get("credentials") {
        None => Credentials::Ambient,
        Some(field) => credentials(field, transport?, forge, check)?,
    };
    let submodules = words(Submodules::ALL, Submodules::word);
    let lfs = words(Lfs::ALL, Lfs::word);
    Some(Git {
        remote,
        credentials,
        submodules: section.read("submodules", check, Submodules::Off, |it, check| it.choice(check, &submodules)),
        lfs: section.read("lfs", check, Lfs::Fail, |it, check| it.choice(check, &lfs)),
        depth: section.read("depth", check, None, |it, check| {
            it.number(check, 0..=1_000_000).map(|it| u32::try_from(it).ok().and_then(NonZeroU32::new))
        }),
        subdir: section.read("subdir", check, None, |it, check| releases::inner_path(it, check).map(Some)),
    })
}

/// A remote that may hold a password is not repeated in the message.
fn judged(field: &Field, check: &mut Check) -> Option<String> {
    let text = field.text(check)?;
    match remote::judge(text) {
        Ok(_) => Some(text.to_owned()),
        Err(help) => {
            if text.contains('@') {
                check.hide(field.place());
            }
            field.refuse(check, "bad-remote", "is not a remote that can be fetched from", help);
            None
        }
    }
}

fn credentials(field: &Field, transport: Transport, forge: Forge, check: &mut Check) -> Option<Credentials> {
    let section = field.section(check, keys::CREDENTIALS)?;
    let user_default = match forge {
        Forge::GitHub => "x-access-token",
        Forge::GitLab => "oauth2",
    };
    let username = section.read("username", check, user_default, Field::text).to_owned();
    let known_hosts = section.read("known_hosts", check, None, |it, check| existing_file(it, check).map(Some));
    let only_for = |section: &Section, key: &str, other: &str, check: &mut Check| {
        if let Some(field) = section.get(key) {
            let message = format!("`{}` goes with `{other}` only", field.path);
            check.error(field.key_place, "useless-key", message, format_args!("remove it, or add `{other}`"));
        }
    };
    match (section.get("token"), section.get("ssh_key")) {
        (Some(token), None) => {
            only_for(&section, "known_hosts", "ssh_key", check);
            let secret = secrets::one_reference(token, check);
            match transport {
                Transport::Https | Transport::Http { is_loopback: true } => (),
                Transport::Http { is_loopback: false } => {
                    let message = format!("`{}` would cross the network in plain text", token.path);
                    check.warn(token.key_place, "token-in-clear", message, "use an `https://` remote");
                }
                Transport::Ssh | Transport::Local => {
                    let help = "use an `https://` remote, or remove it";
                    token.refuse(check, "bad-credentials", "is for https, and the remote is not", help);
                }
            }
            Some(Credentials::Token { username, token: secret? })
        }
        (None, Some(key)) => {
            only_for(&section, "username", "token", check);
            if transport != Transport::Ssh {
                let help = "use a remote like `git@host:path`, or a `token`";
                key.refuse(check, "bad-credentials", "is for ssh, and the remote is not", help);
            }
            Some(Credentials::SshKey { key: existing_file(key, check)?, known_hosts })
        }
        (Some(_), Some(_)) | (None, None) => {
            let help = "write `{token: SECRET}` for https, or `{ssh_key: path}` for ssh";
            field.refuse(check, "bad-credentials", "must be one way to prove ourselves", help);
            None
        }
    }
}

fn existing_file(field: &Field, check: &mut Check) -> Option<PathBuf> {
    let path = field.path(check)?;
    if path.try_exists().is_ok_and(|it| !it) {
        let message = format!("names `{}`, which does not exist", path.display());
        field.refuse(check, "missing-file", message, "put the file there, or correct the path");
        return None;
    }
    Some(path)
}
