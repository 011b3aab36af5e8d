//! Reads how senders prove themselves: the entries of `sources`, and the hooks that have a sender of their own.
//!
//! Invariant: a [`Proof`] holds at least one secret, and every signing token in it decodes to a key.

use base64::{Engine, engine::general_purpose::STANDARD};
use ipnet::IpNet;

use crate::{
    hooks::{
        keys,
        listen::networks,
        read::{Check, Field, Section},
        secrets,
    },
    model::{
        name::SourceName,
        secret::FoundSecret,
        source::{Forge, Proof, Source, SourcePath},
    },
};

/// One entry of `sources`.
pub(super) fn read(field: &Field, server_allows: &[IpNet], check: &mut Check) -> Option<(SourceName, Source)> {
    let name = SourceName::parse(field.key);
    if name.is_none() {
        bad_name(field, check);
    }
    let section = field.section(check, keys::SOURCE)?;
    let allow_from = allow_from(&section, server_allows, check);
    let Some(forge) = section.get("forge") else {
        section.miss(check, "`forge`", "write `forge: github` or `forge: gitlab`");
        judge_secrets(&section, check);
        return None;
    };
    let Some(forge) = forge.choice(check, &[("github", Forge::GitHub), ("gitlab", Forge::GitLab)]) else {
        judge_secrets(&section, check);
        return None;
    };
    let proof = proof(&section, forge, check)?;
    let name = name?;
    Some((name.clone(), Source { path: SourcePath::Shared(name), proof, allow_from }))
}

/// Notes that the key of an entry is not a name.
pub(super) fn bad_name(field: &Field, check: &mut Check) {
    let help = "up to 63 of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit: it stands in URLs";
    check.error(field.key_place, "bad-name", format_args!("`{}` is not a name", field.path), help);
}

/// The addresses a sender may post from: its own list, which may only narrow the server's, or the server's.
pub(super) fn allow_from(section: &Section, server_allows: &[IpNet], check: &mut Check) -> Vec<IpNet> {
    let Some(field) = section.get("allow_from") else { return server_allows.to_vec() };
    let Some(own) = networks(field, check) else { return Vec::new() };
    let is_inside = |it: &&IpNet| server_allows.iter().any(|wide| wide.contains(*it));
    if !server_allows.is_empty()
        && let Some(outside) = own.iter().find(|it| !is_inside(it))
    {
        let help = "it may only narrow the server's list: add the address there, or remove it here";
        field.refuse(check, "not-narrower", format_args!("has {outside}, which `server.allow_from` has not"), help);
    }
    own
}

/// What may stand beside a secret: in a hook, or in an entry of `sources`.
const KNOWN: &[&[&str]] = &[keys::IDENTITY, keys::SETTINGS, keys::SOURCE];

/// Notes what is wrong with the secrets of a sender that nothing more can be said of.
pub(super) fn judge_secrets(section: &Section, check: &mut Check) {
    if let Some(field) = section.get("secret") {
        secrets::several(field, check);
    }
    if let Some(field) = section.get("signing_token") {
        signing_tokens(field, check);
    }
}

/// How the sender of a section with `secret`, `signing_token` and `accept_token_too` proves itself.
pub(super) fn proof(section: &Section, forge: Forge, check: &mut Check) -> Option<Proof> {
    match forge {
        Forge::GitHub => {
            for key in ["signing_token", "accept_token_too"] {
                if let Some(field) = section.get(key) {
                    let message = format!("`{}` is for GitLab and does nothing here", field.path);
                    check.error(field.key_place, "useless-key", message, "GitHub signs with `secret`: remove it");
                }
            }
            let secrets = section.get("secret").map(|it| secrets::several(it, check));
            let is_misspelt = section.misspells(&["secret"], KNOWN);
            if secrets.is_none() && !is_misspelt {
                section.miss(
                    check,
                    "`secret`",
                    "the text you enter at GitHub as the webhook's secret: `secret: {env: NAME}`",
                );
            }
            Some(Proof::GitHub { secrets: secrets?? })
        }
        Forge::GitLab => gitlab(section, check),
    }
}

fn gitlab(section: &Section, check: &mut Check) -> Option<Proof> {
    let tokens = section.get("secret").map(|it| secrets::several(it, check));
    let signing_tokens = section.get("signing_token").map(|it| signing_tokens(it, check));
    let accepts_too = section.read("accept_token_too", check, false, Field::flag);
    if let Some(field) = section.get("accept_token_too").filter(|_| accepts_too)
        && (tokens.is_none() || signing_tokens.is_none())
    {
        let help = "write both, or remove it";
        field.refuse(check, "useless-key", "is for a sender with both `signing_token` and `secret`", help);
    }
    match (signing_tokens, tokens) {
        (None, None) if section.misspells(&["secret", "signing_token"], KNOWN) => None,
        (None, None) => {
            section.miss(check, "`secret` and no `signing_token`", "one of them must be there: `secret: {env: NAME}`");
            None
        }
        (None, Some(tokens)) => Some(Proof::GitLabToken { tokens: tokens? }),
        (Some(signing_tokens), tokens) => {
            let tokens = tokens.unwrap_or(Some(Vec::new()))?;
            let tokens = if accepts_too { tokens } else { Vec::new() };
            Some(Proof::GitLabSigned { signing_tokens: signing_tokens?, tokens })
        }
    }
}

/// Standard Webhooks: `whsec_`, then the key in base64.
fn signing_tokens(field: &Field, check: &mut Check) -> Option<Vec<FoundSecret>> {
    let found = secrets::several(field, check)?;
    let is_token = |text: &str| {
        let key = text.strip_prefix("whsec_").and_then(|it| STANDARD.decode(it).ok());
        key.is_some_and(|it| !it.is_empty())
    };
    let (good, bad): (Vec<_>, Vec<_>) = found.into_iter().partition(|it| secrets::fits(it, check, is_token));
    for bad in &bad {
        let help = "copy it from GitLab as it is: `whsec_` and then base64";
        let message = format!("is not a signing token ({})", bad.origin);
        field.refuse(check, "bad-signing-token", message, help);
    }
    bad.is_empty().then_some(good)
}
