//! Reads `deploy.credentials`: how we prove ourselves to a remote and to its submodules.
//!
//! Invariant: at most one credential is for a protocol and a host, and each has a host at which it can be shown.

use std::path::PathBuf;

use crate::{
    hooks::{
        keys,
        read::{Check, Field, Section},
        secrets,
        yaml::Value,
    },
    model::{
        deploy::{Credential, RemoteProof},
        remote::{self, Remote},
        source::Forge,
    },
};

/// All of them, for a hook that fetches from `remote`: one map, or a list.
pub(super) fn read(field: &Field, remote: &Remote, forge: Forge, check: &mut Check) -> Option<Vec<Credential>> {
    let (items, is_list) = match &field.node.value {
        Value::List(_) => (field.items(check)?, true),
        Value::Null | Value::Text(_) | Value::Map(_) => (vec![field.clone()], false),
    };
    let mut found: Vec<(&Field, Credential)> = Vec::new();
    for item in &items {
        let Some(credential) = one(item, (remote, is_list), forge, check) else { continue };
        let twin = found.iter().find(|(_, it)| is_same_place(it, &credential, remote));
        if let Some((other, _)) = twin {
            let line = other.place().line;
            let message = format!("is for the same protocol and host as `{}` (line {line})", other.path);
            item.refuse(check, "credentials-twice", message, "keep one of them, or give each a `host` of its own");
        }
        found.push((item, credential));
    }
    (found.len() == items.len()).then(|| found.into_iter().map(|(_, it)| it).collect())
}

fn is_same_place(one: &Credential, two: &Credential, remote: &Remote) -> bool {
    let host = |it: &Credential| it.host.clone().or_else(|| remote.host());
    let is_same_protocol = match (&one.proof, &two.proof) {
        (RemoteProof::Token { .. }, RemoteProof::Token { .. })
        | (RemoteProof::SshKey { .. }, RemoteProof::SshKey { .. }) => true,
        (RemoteProof::Token { .. }, RemoteProof::SshKey { .. })
        | (RemoteProof::SshKey { .. }, RemoteProof::Token { .. }) => false,
    };
    is_same_protocol && host(one) == host(two)
}

fn one(field: &Field, about: (&Remote, bool), forge: Forge, check: &mut Check) -> Option<Credential> {
    let section = field.section(check, keys::CREDENTIALS)?;
    let host = section.read("host", check, None, |it, check| {
        let help = "write the name alone, without protocol, user, port and path: `host: git.example.org`";
        it.parsed(check, "bad-host", |text| remote::plain_host(text).map(Some).ok_or(help))
    });
    let user_default = match forge {
        Forge::GitHub => "x-access-token",
        Forge::GitLab => "oauth2",
    };
    let username = section.read("username", check, user_default, Field::text).to_owned();
    let known_hosts = section.read("known_hosts", check, None, |it, check| existing_file(it, check).map(Some));
    match (section.get("token"), section.get("ssh_key")) {
        (Some(token), None) => {
            only_for(&section, "known_hosts", "ssh_key", check);
            let secret = secrets::one_reference(token, check);
            judge_place(&section, token, &host, about, check);
            Some(Credential { host, proof: RemoteProof::Token { username, token: secret? } })
        }
        (None, Some(key)) => {
            only_for(&section, "username", "token", check);
            judge_place(&section, key, &host, about, check);
            Some(Credential { host, proof: RemoteProof::SshKey { key: existing_file(key, check)?, known_hosts } })
        }
        (Some(_), Some(_)) | (None, None) => {
            let help = "write `{token: SECRET}` for https, or `{ssh_key: path}` for ssh";
            field.refuse(check, "bad-credentials", "must be one way to prove ourselves", help);
            None
        }
    }
}

/// Notes where a credential has no place to be shown at, or should not be shown.
fn judge_place(
    section: &Section,
    key: &Field,
    host: &Option<String>,
    (remote, is_list): (&Remote, bool),
    check: &mut Check,
) {
    let is_token = key.key == "token";
    let suits_remote =
        if is_token { matches!(remote, Remote::Http { .. }) } else { matches!(remote, Remote::Ssh { .. }) };
    let is_for_remote = suits_remote && (host.is_none() || *host == remote.host());
    if is_token && is_for_remote && remote.is_in_the_clear() {
        let message = format!("`{}` would cross the network in plain text", key.path);
        check.warn(key.key_place, "token-in-clear", message, "use an `https://` remote");
    }
    // A `host` that cannot be read has been reported.
    if section.get("host").is_none() && !suits_remote {
        let (message, help) = match is_token {
            true => ("is for https, and the remote is not", "use an `https://` remote, or remove it"),
            false => ("is for ssh, and the remote is not", "use a remote like `git@host:path`, or a `token`"),
        };
        let of_list = "say whose it is with `host: git.example.org` beside it, or remove it";
        key.refuse(check, "bad-credentials", message, if is_list { of_list } else { help });
    }
}

fn only_for(section: &Section, key: &str, other: &str, check: &mut Check) {
    if let Some(field) = section.get(key) {
        let message = format!("`{}` goes with `{other}` only", field.path);
        check.error(field.key_place, "useless-key", message, format_args!("remove it, or add `{other}`"));
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
