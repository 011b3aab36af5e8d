//! Reads the keys whose behaviour this version does not have yet, so that nothing written is silently ignored.
//!
//! Invariant: a bad value is reported as bad, a good one as not supported, and the documented default passes.

use crate::hooks::{
    keys,
    read::{Check, Field, Section},
    secrets,
};

/// Notes that a well-formed value asks for something that is not there yet.
pub(super) fn refuse(field: &Field, check: &mut Check, default: &str) {
    let message = format!("`{}` is not supported by this version", field.path);
    check.error(field.key_place, "not-supported", message, format_args!("remove it; what holds is {default}"));
}

/// Refuses a value that could be read and is not the default.
fn only<T: PartialEq>(section: &Section, key: &str, check: &mut Check, default: (&T, &str), read: Read<'_, T>) {
    let Some(field) = section.get(key) else { return };
    let errors = check.errors();
    if let Some(found) = read(field, check)
        && found != *default.0
        && check.errors() == errors
    {
        refuse(field, check, default.1);
    }
}

type Read<'f, T> = &'f dyn Fn(&Field, &mut Check) -> Option<T>;

/// What a hook may ask for later.
pub(super) fn read_hook(section: &Section, check: &mut Check) {
    only(section, "report", check, (&0, "that there is none"), &report);
}

/// How many forges are to be told.
fn report(field: &Field, check: &mut Check) -> Option<usize> {
    let section = field.section(check, keys::REPORT)?;
    for forge in &section.fields {
        token(forge, check);
    }
    Some(section.fields.len())
}

/// `{token: SECRET}`.
fn token(field: &Field, check: &mut Check) -> Option<()> {
    let section = field.section(check, keys::TOKEN)?;
    match section.get("token") {
        Some(token) => secrets::one(token, check).map(drop),
        None => {
            section.miss(check, "`token`", "write `{token: {env: NAME}}`");
            None
        }
    }
}

/// Top-level `slack`: the account behind channels.
pub(super) fn read_slack(field: &Field, check: &mut Check) {
    if token(field, check).is_some() {
        let help = "remove it, and use an incoming webhook: `notify: {slack: {env: SLACK_WEBHOOK_URL}}`";
        let message = "Slack by bot token is not supported by this version";
        check.error(field.key_place, "not-supported", message, help);
    }
}
