//! Reads the keys whose behaviour this version does not have yet, so that nothing written is silently ignored.
//!
//! Invariant: a bad value is reported as bad, a good one as not supported, and the documented default passes.

use std::time::Duration;

use crate::{
    hooks::{
        keys,
        read::{Check, Field, Section},
        secrets, units,
        yaml::Value,
    },
    model::hook::Patterns,
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
    let markers = ["[skip deploy]", "[deploy skip]"].map(str::to_owned).to_vec();
    only(section, "skip_markers", check, (&markers, "[\"[skip deploy]\", \"[deploy skip]\"]"), &texts);
    only(section, "paths", check, (&true, "any path"), &|it, check| {
        let globs = texts(it, check)?;
        it.parsed_list(check, &globs).then(|| globs.iter().all(|it| it == "**"))
    });
    only(section, "priority", check, (&0, "0"), &|it, check| it.number(check, -100..=100));
    for key in ["debounce", "min_interval"] {
        only(section, key, check, (&Duration::ZERO, "that there is none"), &|it, check| it.duration(check));
    }
    only(section, "health", check, (&0, "that there is none"), &|it, check| Some(it.each(check, probe)?.len()));
    only(section, "report", check, (&0, "that there is none"), &report);
}

/// What `deploy` may ask for later.
pub(super) fn read_deploy(section: &Section, check: &mut Check) {
    let word = |choices: &'static [&'static str]| {
        move |it: &Field, check: &mut Check| {
            let pairs: Vec<(&str, &str)> = choices.iter().map(|it| (*it, *it)).collect();
            it.choice(check, &pairs)
        }
    };
    only(section, "submodules", check, (&"off", "`off`"), &word(&["off", "on", "recursive"]));
    only(section, "lfs", check, (&"fail", "`fail`"), &word(&["fail", "pull", "ignore"]));
    only(section, "rollback", check, (&"auto", "`auto`"), &word(&["auto", "off"]));
    only(section, "depth", check, (&0, "0"), &|it, check| it.number(check, 0..=1_000_000));
    only(section, "keep", check, (&5, "5"), &|it, check| it.number(check, 1..=10_000));
    only(section, "keep_failed", check, (&1, "1"), &|it, check| it.number(check, 0..=10_000));
    only(section, "subdir", check, (&false, "that there is none"), &|it, check| inner_path(it, check).map(|()| true));
    only(section, "shared", check, (&0, "that there is none"), &|it, check| Some(it.each(check, shared)?.len()));
}

fn texts(field: &Field, check: &mut Check) -> Option<Vec<String>> {
    let items = field.items(check)?.len();
    let texts = field.each(check, |it, check| it.text(check).map(str::to_owned))?;
    (texts.len() == items).then_some(texts)
}

impl Field<'_> {
    /// Whether these texts are globs.
    fn parsed_list(&self, check: &mut Check, texts: &[String]) -> bool {
        match Patterns::parse(texts) {
            Ok(_) => true,
            Err(why) => {
                self.refuse(check, "bad-glob", "has a bad glob", why);
                false
            }
        }
    }
}

/// A path inside of the tree.
fn inner_path(field: &Field, check: &mut Check) -> Option<()> {
    let text = field.text(check)?;
    if text.starts_with('/') || text.split('/').any(|it| it == "..") {
        field.refuse(check, "bad-path", "must stay inside of the tree", "write it without `..` and a leading `/`");
        return None;
    }
    Some(())
}

fn shared(field: &Field, check: &mut Check) -> Option<()> {
    if let Value::Text(_) = field.node.value {
        return inner_path(field, check);
    }
    let section = field.section(check, keys::SHARED)?;
    match section.get("path") {
        Some(path) => inner_path(path, check)?,
        None => section.miss(check, "`path`", "the path inside of the release: `{path: .env}`"),
    }
    section.read("required", check, false, Field::flag);
    section.read("seed", check, (), inner_path);
    section.read("mode", check, 0, |it, check| {
        let octal = |text: &str| u32::from_str_radix(text.trim_start_matches("0o"), 8).ok().filter(|it| *it <= 0o7777);
        it.parsed(check, "bad-number", |text| octal(text).ok_or("write it in octal: `\"0640\"`"))
    });
    Some(())
}

fn probe(field: &Field, check: &mut Check) -> Option<()> {
    let section = field.section(check, keys::PROBE)?;
    let kinds = ["http", "tcp", "command"].into_iter().filter_map(|it| section.get(it)).count();
    if kinds != 1 {
        field.refuse(
            check,
            "bad-probe",
            "must name one thing to probe",
            "write exactly one of `http`, `tcp`, `command`",
        );
    }
    section.read("http", check, String::new(), |it, check| it.parsed(check, "bad-url", units::base_url));
    section.read("tcp", check, (), |it, check| {
        let has_port = |text: &str| {
            text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        it.parsed(check, "bad-address", |text| if has_port(text) { Ok(()) } else { Err("write `127.0.0.1:8080`") })
    });
    for key in ["command", "body"] {
        section.read(key, check, "", Field::text);
    }
    section.read("expect", check, (), |it, check| {
        let is_code = |text: &str| text.parse::<u16>().is_ok_and(|it| (100..600).contains(&it));
        let is_range =
            |text: &str| text.split_once('-').map_or(is_code(text), |(low, high)| is_code(low) && is_code(high));
        it.parsed(check, "bad-number", |text| if is_range(text) { Ok(()) } else { Err("write `200` or `200-399`") })
    });
    for key in ["attempts", "stable"] {
        section.read(key, check, 1, |it, check| it.number(check, 1..=10_000));
    }
    for key in ["interval", "timeout", "start_after"] {
        section.read(key, check, Duration::ZERO, Field::duration);
    }
    Some(())
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
