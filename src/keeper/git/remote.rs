//! The ways a remote may be written, and when two of them are the same repository.
//!
//! Invariant: only `https`, `http`, ssh and local folders come through; nothing in a remote can become an option or a
//! command, and what is shown of it has no credentials.

use std::path::{Path, PathBuf};

use reqwest::Url;

use super::{GitFailure, progress::plain};

/// A remote, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    /// `https://` or `http://`.
    Http {
        /// Without credentials.
        url: Url,
        /// User name and password that were written into the URL.
        login: Option<(String, String)>,
    },
    /// `ssh://` or scp-style.
    Ssh {
        user: Option<String>,
        /// Does not begin with `-`.
        host: String,
        port: Option<u16>,
        /// As the far side's git gets it.
        path: String,
    },
    /// `file://` or an absolute path.
    Local(PathBuf),
}

impl Remote {
    /// Takes a remote apart, or says why it is none we fetch from.
    pub(super) fn parse(text: &str) -> Result<Self, GitFailure> {
        let remote = if text.is_empty() || text.chars().any(char::is_control) {
            Err("it is empty or has control characters")
        } else if text.starts_with("https://") || text.starts_with("http://") {
            parse_http(text)
        } else if let Some(rest) = text.strip_prefix("ssh://") {
            parse_ssh_url(rest)
        } else if let Some(path) = text.strip_prefix("file://") {
            decode(path).filter(|it| it.starts_with('/')).map(local).ok_or("its path is not absolute")
        } else if text.starts_with('/') {
            Ok(local(text.to_owned()))
        } else if text.contains("://") || text.contains("::") && !text.contains('[') {
            Err("only https, http, ssh and local repositories can be fetched from")
        } else {
            parse_scp(text)
        };
        // A remote that cannot be taken apart is not repeated in full: its user part may be a token.
        remote.map_err(|why| {
            let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
            GitFailure::permanent(format!("cannot fetch from remote `{}`: {why}", plain(shown.as_bytes())))
        })
    }

    /// How people see it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Http { url, .. } => url.to_string(),
            Self::Ssh { user, host, port, path } => {
                let user = user.as_ref().map(|it| format!("{it}@")).unwrap_or_default();
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                match port {
                    Some(port) => format!("ssh://{user}{host}:{port}/{}", path.trim_start_matches('/')),
                    None => format!("{user}{host}:{path}"),
                }
            }
            Self::Local(path) => path.display().to_string(),
        }
    }

    /// Whether it is a folder of this machine.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// User name and password, if they were written into it.
    pub(super) fn login(&self) -> Option<&(String, String)> {
        match self {
            Self::Http { login, .. } => login.as_ref(),
            Self::Ssh { .. } | Self::Local(_) => None,
        }
    }

    /// Whether what opens the one opens the other by right: the same protocol, host and port.
    pub(super) fn has_door_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Http { url: one, .. }, Self::Http { url: two, .. }) => one.origin() == two.origin(),
            (Self::Ssh { .. }, Self::Ssh { .. }) => {
                let (one, two) = (self.place(), other.place());
                one.host == two.host && one.port == two.port
            }
            (Self::Local(_), Self::Local(_)) => true,
            (Self::Local(_), Self::Http { .. } | Self::Ssh { .. })
            | (Self::Http { .. }, Self::Local(_) | Self::Ssh { .. })
            | (Self::Ssh { .. }, Self::Local(_) | Self::Http { .. }) => false,
        }
    }

    /// Whether both are ways to the same repository: the same host and path, however one gets there. A port counts
    /// only where both go by the same protocol.
    pub(super) fn is_same_repository(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Local(one), Self::Local(two)) => real_path(one) == real_path(two),
            (Self::Local(_), Self::Http { .. } | Self::Ssh { .. })
            | (Self::Http { .. } | Self::Ssh { .. }, Self::Local(_)) => false,
            (Self::Http { .. } | Self::Ssh { .. }, Self::Http { .. } | Self::Ssh { .. }) => {
                let (one, two) = (self.place(), other.place());
                let ports_fit = one.port == two.port || one.is_ssh != two.is_ssh;
                one.host == two.host && one.path == two.path && ports_fit
            }
        }
    }

    fn place(&self) -> NetworkPlace {
        let (host, port, path, is_ssh) = match self {
            Self::Http { url, .. } => {
                (url.host_str().unwrap_or_default(), url.port_or_known_default(), url.path(), false)
            }
            Self::Ssh { host, port, path, .. } => (host.as_str(), Some(port.unwrap_or(22)), path.as_str(), true),
            Self::Local(path) => ("", None, path.to_str().unwrap_or_default(), false),
        };
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
        NetworkPlace { host: host.to_ascii_lowercase(), port, path: path.to_owned(), is_ssh }
    }
}

struct NetworkPlace {
    host: String,
    port: Option<u16>,
    path: String,
    is_ssh: bool,
}

/// Git itself also finds `/srv/site.git` when it is asked for `/srv/site`.
fn local(path: String) -> Remote {
    let path = PathBuf::from(path);
    if !path.exists() {
        let mut with_suffix = path.clone().into_os_string();
        with_suffix.push(".git");
        if Path::new(&with_suffix).exists() {
            return Remote::Local(with_suffix.into());
        }
    }
    Remote::Local(path)
}

fn real_path(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn parse_http(text: &str) -> Result<Remote, &'static str> {
    let mut url = Url::parse(text).map_err(|_| "it is not a URL")?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a remote has no `?` and no `#`");
    }
    let user = decode(url.username()).ok_or("its user name is not UTF-8")?;
    let password = decode(url.password().unwrap_or_default()).ok_or("its password is not UTF-8")?;
    let login = (!user.is_empty() || !password.is_empty()).then_some((user, password));
    url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| "it has no host")?;
    Ok(Remote::Http { url, login })
}

fn parse_ssh_url(rest: &str) -> Result<Remote, &'static str> {
    let (authority, path) = rest.split_once('/').ok_or("it has no path")?;
    let (user, address) = match authority.rsplit_once('@') {
        Some((user, address)) => (Some(decode(user).ok_or("its user name is not UTF-8")?), address),
        None => (None, authority),
    };
    let (host, port) = match address.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let port = port.filter(|it| !it.is_empty()).map(str::parse).transpose().map_err(|_| "its port is not a number")?;
    let path = decode(path).ok_or("its path is not UTF-8")?;
    // `ssh://host/~user/site` is below that user's home, as in git.
    let path = if path.starts_with('~') { path } else { format!("/{path}") };
    ssh(user, host, port, path)
}

fn parse_scp(text: &str) -> Result<Remote, &'static str> {
    const NEITHER: &str = "it is neither a URL, nor `host:path`, nor an absolute path";
    let (user, rest) = match text.split_once('@') {
        Some((user, rest)) if !user.contains([':', '/']) => (Some(user.to_owned()), rest),
        Some(_) | None => (None, text),
    };
    let (host, path) = match rest.strip_prefix('[').and_then(|it| it.split_once("]:")) {
        Some(parts) => parts,
        None => rest.split_once(':').ok_or(NEITHER)?,
    };
    if host.contains('/') {
        return Err(NEITHER);
    }
    ssh(user, host, None, path.to_owned())
}

fn ssh(user: Option<String>, host: &str, port: Option<u16>, path: String) -> Result<Remote, &'static str> {
    // A person's ssh configuration may hand host and user on to a shell, as `ProxyCommand` does.
    let is_word = |it: &str| {
        !it.is_empty()
            && !it.starts_with('-')
            && it.chars().all(|it| it.is_ascii_alphanumeric() || ".-_:%+~".contains(it))
    };
    if user.as_ref().is_some_and(|it| it.contains(':')) {
        return Err("it has a password, and ssh takes a key");
    }
    if !is_word(host) || user.as_ref().is_some_and(|it| !is_word(it)) {
        return Err("its host or user is not a plain name");
    }
    if path.is_empty() || path.starts_with('-') || path.chars().any(char::is_control) {
        return Err("its path is empty, or begins with `-`");
    }
    Ok(Remote::Ssh { user, host: host.to_owned(), port, path })
}

/// Resolves `%41`.
fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        match hex.and_then(|it| u8::from_str_radix(it, 16).ok()) {
            Some(value) if byte == b'%' => {
                decoded.push(value);
                rest = &tail[2..];
            }
            Some(_) | None => {
                decoded.push(byte);
                rest = tail;
            }
        }
    }
    let text = String::from_utf8(decoded).ok()?;
    (!text.contains('\0')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::Remote;
    use crate::model::run::FailureClass;

    fn shown(text: &str) -> String {
        Remote::parse(text).expect(text).shown()
    }

    #[test]
    fn every_way_to_write_a_remote_is_understood() {
        assert_eq!(shown("https://ana:to%20ken@example.org/a/b.git"), "https://example.org/a/b.git");
        let Remote::Http { login, .. } = Remote::parse("https://ana:to%20ken@example.org/a").expect("https") else {
            panic!("not http")
        };
        assert_eq!(login, Some(("ana".into(), "to ken".into())));
        assert_eq!(shown("ssh://git@example.org:2222/a/b.git"), "ssh://git@example.org:2222/a/b.git");
        assert_eq!(shown("ssh://git@[::1]/a"), "git@[::1]:/a");
        assert_eq!(shown("ssh://example.org/~ana/site"), "example.org:~ana/site");
        assert_eq!(shown("git@github.com:acme/site.git"), "git@github.com:acme/site.git");
        assert_eq!(shown("[::1]:site"), "[::1]:site");
        assert_eq!(shown("file:///srv/a%20b"), "/srv/a b");
        assert_eq!(shown("/srv/a:b"), "/srv/a:b");
    }

    #[test]
    fn what_could_become_an_option_or_a_command_is_refused() {
        let options = ["-oProxyCommand=x:path", "ssh://-oProxyCommand=x/path", "-u@host:path", "ssh://-x@host/p"];
        let commands = ["ext::sh -c x", "fd::3", "git://example.org/x", "ftp://example.org/x", "host:-x", "ssh://h"];
        let shells = ["$(reboot):x", "a;b:x", "`x`:x", "ssh://a|b/x", "ssh://a&b@h/x", "$x@h:x", "a>b:x", "h\u{e9}:x"];
        let others = ["", "relative/path", "./x:y", "host:", "a\nb:c", "https://", "https://h/x?y", "ssh://a:b@h/x"];
        for bad in options.into_iter().chain(commands).chain(shells).chain(others) {
            let failure = Remote::parse(bad).expect_err(bad);
            assert_eq!(failure.class, FailureClass::Permanent, "{bad}");
        }
    }

    #[test]
    fn a_refusal_shows_no_credentials() {
        let failure = Remote::parse("https://ana:hunter2@example.org/x?y").expect_err("query");
        assert!(!failure.reason.contains("hunter2"), "{}", failure.reason);
    }

    #[test]
    fn a_repository_is_the_same_however_one_gets_there() {
        let same =
            |one: &str, two: &str| Remote::parse(one).expect(one).is_same_repository(&Remote::parse(two).expect(two));
        assert!(same("https://GitHub.com/acme/site.git", "git@github.com:acme/site"));
        assert!(same("ssh://git@git.example.org:2222/acme/site", "https://git.example.org/acme/site/"));
        assert!(same("/tmp/./x", "file:///tmp/x"));
        assert!(!same("https://github.com/acme/site", "https://gitlab.com/acme/site"));
        assert!(!same("https://github.com/acme/site", "https://github.com/acme/Site2"));
        assert!(!same("https://example.org/x", "https://example.org:8443/x"));
        assert!(!same("/x", "https://example.org/x"));
    }
}
