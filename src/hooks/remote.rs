//! Judges where a repository may be fetched from.
//!
//! Invariant: a remote that passes names no program to run (`ext::`), no option (`-oProxyCommand=`) and no password.

/// How a remote is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// `https://`.
    Https,
    /// `http://`; whether it stays on this machine.
    Http { is_loopback: bool },
    /// `ssh://` or scp-style.
    Ssh,
    /// `file://` or an absolute path.
    Local,
}

const FORMS: &str =
    "write `https://host/path`, `ssh://user@host/path`, `user@host:path`, `file:///path` or an absolute path";
const NO_DASH: &str = "a user, host or path that begins with `-` would be taken for an option";
const NO_PASSWORD: &str =
    "no user or password in an https URL: write `credentials: {token: SECRET, username: NAME}` under `deploy`";

/// How the remote is reached; the error says what would have been right.
pub(super) fn judge(remote: &str) -> Result<Transport, &'static str> {
    if remote.chars().any(|it| it.is_whitespace() || it.is_control()) {
        return Err("no spaces: write them as `%20` in a URL");
    }
    if let Some((scheme, rest)) = remote.split_once("://") {
        return judge_url(&scheme.to_ascii_lowercase(), rest);
    }
    if remote.starts_with('/') {
        return Ok(Transport::Local);
    }
    match remote.split_once(':') {
        Some((place, path)) if !place.contains('/') && !path.starts_with(':') && !path.is_empty() => {
            judge_place(place, path)?;
            Ok(Transport::Ssh)
        }
        Some(_) | None => Err(FORMS),
    }
}

/// The transport of a remote that has been judged already.
pub(super) fn transport(remote: &str) -> Option<Transport> {
    judge(remote).ok()
}

fn judge_url(scheme: &str, rest: &str) -> Result<Transport, &'static str> {
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    match scheme {
        "https" | "http" => {
            if place.contains('@') {
                return Err(NO_PASSWORD);
            }
            let host = host_of(place);
            if host.is_empty() || path.is_empty() || rest.contains(['?', '#']) {
                return Err(FORMS);
            }
            if host.starts_with('-') {
                return Err(NO_DASH);
            }
            let is_loopback = is_loopback(host);
            Ok(if scheme == "https" { Transport::Https } else { Transport::Http { is_loopback } })
        }
        "ssh" | "git+ssh" | "ssh+git" => {
            judge_place(place, path)?;
            Ok(Transport::Ssh)
        }
        "file" if matches!(place, "" | "localhost") && !path.is_empty() => Ok(Transport::Local),
        "git" => Err("`git://` proves nothing and hides nothing: use https or ssh"),
        _ => Err(FORMS),
    }
}

/// `[user@]host[:port]` and a path, as ssh would be given them.
fn judge_place(place: &str, path: &str) -> Result<(), &'static str> {
    let (user, host) = place.rsplit_once('@').map_or((None, place), |(user, host)| (Some(user), host));
    if user.is_some_and(|it| it.contains(':')) {
        return Err("no password in an ssh remote: use `credentials: {ssh_key: path}` under `deploy`");
    }
    if host.starts_with('-') || path.starts_with('-') || user.is_some_and(|it| it.starts_with('-')) {
        return Err(NO_DASH);
    }
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "._-[]:".contains(it);
    let user_is_plain =
        |it: &str| !it.is_empty() && it.chars().all(|it| it.is_ascii_alphanumeric() || "._-+".contains(it));
    let host_is_fine = !host_of(host).is_empty() && host.chars().all(is_plain);
    if host_is_fine && !path.is_empty() && user.is_none_or(user_is_plain) { Ok(()) } else { Err(FORMS) }
}

/// The host of `host[:port]`, without the brackets of an IPv6 address.
fn host_of(place: &str) -> &str {
    match place.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((host, _)) => host,
        None => place.split(':').next().unwrap_or_default(),
    }
}

/// Whether a host is this machine, by its name alone.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::{Transport, judge};

    #[test]
    fn the_forms_that_git_users_write_pass() {
        for (remote, transport) in [
            ("https://github.com/acme/site.git", Transport::Https),
            ("HTTPS://git.example.org:8443/a/b", Transport::Https),
            ("http://127.0.0.1:3000/a.git", Transport::Http { is_loopback: true }),
            ("http://[::1]:3000/a.git", Transport::Http { is_loopback: true }),
            ("http://git.example.org/a.git", Transport::Http { is_loopback: false }),
            ("ssh://git@git.example.org:2222/a/b.git", Transport::Ssh),
            ("git@github.com:acme/site.git", Transport::Ssh),
            ("example:repos/site.git", Transport::Ssh),
            ("file:///srv/git/site.git", Transport::Local),
            ("/srv/git/site.git", Transport::Local),
        ] {
            assert_eq!(judge(remote), Ok(transport), "{remote}");
        }
    }

    #[test]
    fn a_remote_that_could_run_something_or_shows_a_password_is_refused() {
        for remote in [
            "ext::sh -c touch% /tmp/x",
            "ext::sh",
            "fd::7",
            "-oProxyCommand=x:a",
            "ssh://-oProxyCommand=x/a",
            "ssh://git@-oProxyCommand=x/a",
            "git@-oProxyCommand=x:a",
            "-l@host:a",
            "git@host:-a",
            "https://-x/a",
            "https://u:p@github.com/a/b",
            "https://token@github.com/a/b",
            "ssh://git:pw@host/a",
            "git://github.com/a/b",
            "ftp://host/a",
            "file://host/a",
            "file://",
            "https://github.com",
            "https:///a",
            "ssh://host",
            "host:",
            "../relative",
            "relative/path",
            "site.git",
            "",
            "https://h/a\nb",
            "ssh://a;b@host/x",
        ] {
            assert!(judge(remote).is_err(), "{remote}");
        }
    }
}
