//! Every key of hooks.yaml, by the place where it may stand.
//!
//! Invariant: a key that is not here is refused, and a key that is here is read by exactly one file of this room.

pub(super) const TOP: &[&str] = &["version", "server", "sources", "smtp", "slack", "defaults", "hooks"];

pub(super) const SERVER: &[&str] = &[
    "listen",
    "admin",
    "socket_group",
    "public_url",
    "admin_url",
    "state",
    "workers",
    "max_connections",
    "max_body",
    "body_timeout",
    "trusted_proxies",
    "allow_from",
    "rate_limit",
    "grace",
    "keep_runs",
    "keep_logs",
    "max_log",
];

pub(super) const CONNECTIONS: &[&str] = &["all", "address"];

pub(super) const SOURCE: &[&str] = &["forge", "secret", "signing_token", "accept_token_too", "allow_from"];

/// What says whose pushes start a hook and how their sender proves itself. It belongs to one hook each, never to
/// `defaults`: a secret shared by accident, or a weakened proof, must be visible at the hook.
pub(super) const IDENTITY: &[&str] =
    &["github", "gitlab", "source", "repo", "secret", "signing_token", "accept_token_too"];

/// What else a hook may say; each of these may also stand in `defaults`.
pub(super) const SETTINGS: &[&str] = &[
    "allow_from",
    "on",
    "paths",
    "skip_markers",
    "poll",
    "enabled",
    "deploy",
    "run",
    "activate",
    "health",
    "on_failure",
    "finally",
    "env",
    "pass_env",
    "secrets",
    "user",
    "timeout",
    "idle_timeout",
    "kill_grace",
    "limits",
    "retry",
    "queue",
    "lane",
    "priority",
    "debounce",
    "min_interval",
    "notify",
    "report",
    "environment",
    "url",
];

pub(super) const ON: &[&str] = &["push", "tag", "release", "merge", "ci_green", "schedule"];
/// Those of them that a later version brings.
pub(super) const LATER_EVENTS: &[&str] = &["release", "merge", "ci_green", "schedule"];

pub(super) const DEPLOY: &[&str] = &[
    "strategy",
    "path",
    "remote",
    "credentials",
    "submodules",
    "lfs",
    "depth",
    "tags",
    "export_ignore",
    "filters",
    "umask",
    "subdir",
    "dirty",
    "clean",
    "keep",
    "keep_failed",
    "shared",
    "rollback",
    "min_free",
];

pub(super) const CREDENTIALS: &[&str] = &["host", "token", "username", "ssh_key", "known_hosts"];
pub(super) const SHARED: &[&str] = &["path", "required", "seed", "mode"];
pub(super) const STEP: &[&str] = &["name", "run", "shell", "timeout", "env", "user", "cwd"];
pub(super) const LIMITS: &[&str] = &["processes", "memory", "cpu_weight"];
pub(super) const RETRY: &[&str] = &["max", "on", "backoff"];
pub(super) const PROBE: &[&str] =
    &["http", "tcp", "command", "expect", "body", "attempts", "interval", "timeout", "start_after", "stable"];
pub(super) const REPORT: &[&str] = &["github", "gitlab"];
pub(super) const TOKEN: &[&str] = &["token"];
pub(super) const NOTIFICATION: &[&str] = &["slack", "email", "on"];
pub(super) const SMTP: &[&str] = &["host", "port", "tls", "username", "password", "from"];
pub(super) const SECRET: &[&str] = &["env", "file", "credential"];

/// Keys whose value may be a secret in plain text, wherever they stand.
pub(super) const OF_SECRETS: &[&str] = &["secret", "signing_token", "token", "password", "slack"];

/// Where a key could belong that stands in the wrong place, most likely first.
const HOMES: [(&str, &[&str]); 13] = [
    ("a hook", SETTINGS),
    ("a hook", IDENTITY),
    ("`deploy`", DEPLOY),
    ("the top level", TOP),
    ("`server`", SERVER),
    ("an entry of `notify`", NOTIFICATION),
    ("a step", STEP),
    ("`smtp`", SMTP),
    ("`retry`", RETRY),
    ("`limits`", LIMITS),
    ("an entry of `deploy.credentials`", CREDENTIALS),
    ("an entry of `sources`", SOURCE),
    ("`health`", PROBE),
];

/// What other programs call something that has another name here: that name, and how it is written.
const ELSEWHERE: [(&[&str], &str, &str); 3] = [
    (&["branch", "branches"], "push", "branches are under `push`: `push: main`"),
    (&["branch", "branches"], "on", "branches are under `on`: `on: {push: main}`"),
    (
        &["script", "scripts", "command", "commands", "cmd", "exec", "steps"],
        "run",
        "what is run is under `run`: `run: ./deploy.sh`",
    ),
];

/// The known key that goes by this name elsewhere, and how it is written.
fn by_another_name<'k>(key: &str, known: &[&'k str]) -> Option<(&'k str, &'static str)> {
    let mut names = ELSEWHERE.iter().filter(|(names, ..)| names.contains(&key));
    names.find_map(|(_, ours, help)| known.iter().find(|it| *it == ours).map(|it| (*it, *help)))
}

/// What to do about a key that is not one of those known here: the nearest known one, or its proper place.
pub(super) fn advise(key: &str, known: &[&str]) -> String {
    if let Some((_, help)) = by_another_name(key, known) {
        return help.to_owned();
    }
    let homes = HOMES.iter().filter(|(_, keys)| keys.contains(&key)).map(|(home, _)| *home);
    let mut homes: Vec<&str> = homes.collect();
    homes.dedup();
    let place = format!("`{key}` belongs to {}", homes.join(" or "));
    match (nearest(key, known), homes.as_slice()) {
        (None, []) => format!("known here: {}", known.join(", ")),
        (None, _) => place,
        (Some(near), []) => format!("did you mean `{near}`?"),
        (Some(near), _) => format!("did you mean `{near}`? {place}"),
    }
}

/// The word of the list that a person most likely meant.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    if let Some((ours, _)) = by_another_name(word, known) {
        return Some(ours);
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let distance = |it: &str| strsim::damerau_levenshtein(&plain(word), &plain(it));
    let (near, distance) = known.iter().map(|it| (*it, distance(it))).min_by_key(|(_, distance)| *distance)?;
    (distance <= (near.len().max(word.len()) / 3).max(1)).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::{DEPLOY, IDENTITY, ON, SERVER, SETTINGS, TOP, advise};

    #[test]
    fn a_misspelt_key_is_answered_with_the_nearest_one() {
        let hook = [IDENTITY, SETTINGS].concat();
        for (key, near) in [
            ("secrt", "secret"),
            ("time_out", "timeout"),
            ("on-failure", "on_failure"),
            ("Deploy", "deploy"),
            ("notfiy", "notify"),
        ] {
            assert_eq!(advise(key, &hook), format!("did you mean `{near}`?"), "{key}");
        }
    }

    #[test]
    fn a_key_of_another_program_is_answered_with_ours() {
        let hook = [IDENTITY, SETTINGS].concat();
        assert_eq!(advise("branch", &hook), "branches are under `on`: `on: {push: main}`");
        assert_eq!(advise("branches", ON), "branches are under `push`: `push: main`");
        for key in ["script", "command", "steps"] {
            assert_eq!(advise(key, &hook), "what is run is under `run`: `run: ./deploy.sh`");
        }
    }

    #[test]
    fn a_key_in_the_wrong_place_is_answered_with_its_place() {
        assert_eq!(advise("path", &[IDENTITY, SETTINGS].concat()), "did you mean `paths`? `path` belongs to `deploy`");
        assert_eq!(advise("workers", TOP), "`workers` belongs to `server`");
        assert_eq!(advise("github", SERVER), "`github` belongs to a hook");
        assert_eq!(advise("timeout", DEPLOY), "`timeout` belongs to a hook or a step or `health`");
        assert_eq!(advise("zzz", ON), "known here: push, tag, release, merge, ci_green, schedule");
    }
}
