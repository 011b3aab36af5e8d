//! Reads steps (`run`, `activate`, `on_failure`, `finally`), the values they get (`env`, `pass_env`, `secrets`), and
//! `user`.
//!
//! Invariant: every script and value fits into one argument of a program, and no name is one that Landfall sets itself.

use std::{collections::BTreeMap, path::PathBuf};

use nix::unistd::{User, geteuid};

use crate::{
    hooks::{
        environment::is_variable_name,
        keys,
        read::{Check, Field, shortened},
        secrets,
        yaml::Value,
    },
    model::{hook::Step, secret::SecretRef},
};

/// Linux takes no longer argument or variable (`MAX_ARG_STRLEN`, with its closing NUL).
const ARGUMENT_BYTES_MAX: usize = (128 << 10) - 1;

/// What every step gets from Landfall.
const OWN_NAMES: [&str; 31] = [
    "CI",
    "DEPLOY_RUN_ID",
    "DEPLOY_RUN_URL",
    "DEPLOY_ATTEMPT",
    "DEPLOY_HOOK",
    "DEPLOY_REPO",
    "DEPLOY_FORGE",
    "DEPLOY_REF",
    "DEPLOY_BRANCH",
    "DEPLOY_TAG",
    "DEPLOY_SHA",
    "DEPLOY_SHORT_SHA",
    "DEPLOY_PREVIOUS_SHA",
    "DEPLOY_BEFORE_SHA",
    "DEPLOY_COMPARE_URL",
    "DEPLOY_COMMIT_COUNT",
    "DEPLOY_COMMIT_SUBJECT",
    "DEPLOY_COMMIT_AUTHOR",
    "DEPLOY_COMMIT_AUTHOR_EMAIL",
    "DEPLOY_CHANGED_FILES",
    "DEPLOY_ACTOR",
    "DEPLOY_TRIGGER",
    "DEPLOY_PATH",
    "DEPLOY_CURRENT_PATH",
    "DEPLOY_SHARED_PATH",
    "DEPLOY_PREVIOUS_RELEASE",
    "DEPLOY_STEP",
    "DEPLOY_PAYLOAD",
    "DEPLOY_OUTPUT",
    "DEPLOY_ROLLBACK",
    "GIT_TERMINAL_PROMPT",
];

/// One step or a list of them.
pub(super) fn read(field: &Field, check: &mut Check) -> Option<Vec<Step>> {
    field.each(check, step)
}

fn step(field: &Field, check: &mut Check) -> Option<Step> {
    if let Value::Map(_) = field.node.value {
        return step_with_settings(field, check);
    }
    let script = script(field, check)?;
    Some(Step {
        name: name_of(&script),
        script,
        shell: default_shell(),
        timeout: None,
        env: BTreeMap::new(),
        user: None,
        cwd: None,
    })
}

fn step_with_settings(field: &Field, check: &mut Check) -> Option<Step> {
    let section = field.section(check, keys::STEP)?;
    let found = section.get("run").map(|it| script(it, check));
    if found.is_none() {
        section.miss(check, "`run`", "a step is a string, or a map with its script under `run`");
    }
    let script = found.flatten().unwrap_or_default();
    let optional = |it: &Field<'_>, check: &mut Check| it.text(check).map(str::to_owned);
    Some(Step {
        name: section.read("name", check, name_of(&script), optional),
        shell: section.read("shell", check, default_shell(), shell),
        timeout: section.read("timeout", check, None, |it, check| it.limit(check).map(Some)),
        env: section.read("env", check, BTreeMap::new(), values),
        user: section.read("user", check, None, |it, check| user(it, check).map(Some)),
        cwd: section.read("cwd", check, None, |it, check| it.text(check).map(|it| Some(PathBuf::from(it)))),
        script,
    })
}

fn default_shell() -> Vec<String> {
    ["/bin/sh", "-e"].map(str::to_owned).to_vec()
}

fn script(field: &Field, check: &mut Check) -> Option<String> {
    let script = field.text(check)?;
    if script.len() > ARGUMENT_BYTES_MAX {
        let help = "Linux passes no more than 128KiB to a program: put it into a file of the repository";
        field.refuse(check, "too-long", "is too long for a script", help);
        return None;
    }
    Some(script.to_owned())
}

/// The first line of a script that is not blank, short enough for a list.
fn name_of(script: &str) -> String {
    let first = script.lines().map(str::trim).find(|it| !it.is_empty()).unwrap_or_default();
    shortened(first)
}

/// A program and its arguments: a list, or a string that is split at spaces.
fn shell(field: &Field, check: &mut Check) -> Option<Vec<String>> {
    let words = match &field.node.value {
        Value::List(_) => field.each(check, |it, check| it.text(check).map(str::to_owned))?,
        Value::Null | Value::Text(_) | Value::Map(_) => {
            field.text(check)?.split_whitespace().map(str::to_owned).collect()
        }
    };
    if words.is_empty() {
        field.refuse(check, "empty-list", "names no program", "the program that runs the script: `[/bin/bash, -eu]`");
        return None;
    }
    Some(words)
}

/// `env`: names and values.
pub(super) fn values(field: &Field, check: &mut Check) -> Option<BTreeMap<String, String>> {
    let section = field.names(check)?;
    let mut values = BTreeMap::new();
    for field in &section.fields {
        let is_name = is_free_name(field, field.key, check);
        let Some(value) = field.any_text(check) else { continue };
        if field.key.len() + value.len() + 1 > ARGUMENT_BYTES_MAX {
            let help = "Linux passes no more than 128KiB in one variable: put it into a file";
            field.refuse(check, "too-long", "is too long for a variable", help);
        } else if is_name {
            values.insert(field.key.to_owned(), value.to_owned());
        }
    }
    Some(values)
}

/// `pass_env`: names of the daemon's own variables.
pub(super) fn passed_names(field: &Field, check: &mut Check) -> Option<Vec<String>> {
    field.each(check, |it, check| {
        let name = it.text(check)?;
        is_free_name(it, name, check).then(|| name.to_owned())
    })
}

/// `secrets`: names and secrets.
pub(super) fn named_secrets(field: &Field, check: &mut Check) -> Option<BTreeMap<String, SecretRef>> {
    let section = field.names(check)?;
    let mut named = BTreeMap::new();
    for field in &section.fields {
        let is_name = is_free_name(field, field.key, check);
        if let Some(secret) = secrets::one_reference(field, check)
            && is_name
        {
            named.insert(field.key.to_owned(), secret);
        }
    }
    Some(named)
}

fn is_free_name(field: &Field, name: &str, check: &mut Check) -> bool {
    if !is_variable_name(name) {
        let message = format!("`{}`: `{}` cannot be the name of a variable", field.path, shortened(name));
        check.error(field.key_place, "bad-name", message, "letters, digits and `_`, not beginning with a digit");
        return false;
    }
    if OWN_NAMES.contains(&name) {
        let message = format!("`{}`: Landfall itself sets `{name}`", field.path);
        check.error(field.key_place, "reserved-name", message, "use another name");
        return false;
    }
    true
}

/// The name of a user that this process can become.
pub(super) fn user(field: &Field, check: &mut Check) -> Option<String> {
    let name = field.text(check)?;
    let look_up = || User::from_name(name).ok().flatten().map(|it| it.uid.as_raw());
    let found = *check.users.entry(name.to_owned()).or_insert_with(look_up);
    let own = geteuid();
    match found {
        None => {
            let help = format!("make it with `useradd --system {name}`, or name another");
            field.refuse(check, "unknown-user", format_args!("names user `{name}`, who does not exist"), help);
            None
        }
        Some(uid) if !own.is_root() && uid != own.as_raw() => {
            let help = "run the daemon as root (`sudo landfall check` to check for it), or remove the key";
            field.refuse(
                check,
                "user-needs-root",
                format_args!("is `{name}`, and only root can become another user"),
                help,
            );
            None
        }
        Some(_) => Some(name.to_owned()),
    }
}
