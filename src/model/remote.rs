//! The ways a remote may be written, and when two of them are the same repository.
//!
//! Invariant: only `https`, `http`, ssh and local folders come through; nothing in a remote can become an option or a
//! command, and what is shown of it has no credentials.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

const FORMS: &str = "only https, http, ssh and local repositories can be fetched from";

/// A remote, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// `https://` or `http://`.
    Http {
        /// Without credentials.
        url: Url,
        /// User name and password that were written into the URL.
        login: Option<(String, String)>,
    },
    /// `ssh://` or scp-style.
    Ssh {
        /// `None`: the user's ssh configuration decides.
        user: Option<String>,
        /// Does not begin with `-`.
        host: String,
        /// `None`: the user's ssh configuration decides.
        port: Option<u16>,
        /// As the far side's git gets it.
        path: String,
    },
    /// `file://` or an absolute path.
    Local(PathBuf),
}

impl Remote {
    /// Takes a remote apart. The error is a clause that says why it is none we fetch from.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err("it is empty or has control characters");
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.starts_with('/') {
                Ok(Self::Local(PathBuf::from(text)))
            } else if text.contains("::") && !text.contains('[') {
                Err(FORMS)
            } else {
                parse_scp(text)
            };
        };
        match scheme.to_ascii_lowercase().as_str() {
            "https" | "http" => parse_http(text),
            "ssh" | "git+ssh" | "ssh+git" => parse_ssh_url(rest),
            "file" => {
                let path = rest.strip_prefix("localhost").filter(|it| it.starts_with('/')).unwrap_or(rest);
                decode(path)
                    .filter(|it| it.starts_with('/') && it.len() > 1)
                    .map(|it| Self::Local(it.into()))
                    .ok_or("its path is not absolute")
            }
            _ => Err(FORMS),
        }
    }

    /// How people see it.
    pub fn shown(&self) -> String {
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
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// User name and password, if they were written into it.
    pub fn login(&self) -> Option<&(String, String)> {
        match self {
            Self::Http { login, .. } => login.as_ref(),
            Self::Ssh { .. } | Self::Local(_) => None,
        }
    }

    /// Whether what opens the one opens the other by right: the same protocol, host and port.
    pub fn has_door_of(&self, other: &Self) -> bool {
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
    pub fn is_same_repository(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Local(_), Self::Local(_)) => self.place().path == other.place().path,
            (Self::Local(_), Self::Http { .. } | Self::Ssh { .. })
            | (Self::Http { .. } | Self::Ssh { .. }, Self::Local(_)) => false,
            (Self::Http { .. } | Self::Ssh { .. }, Self::Http { .. } | Self::Ssh { .. }) => {
                let (one, two) = (self.place(), other.place());
                let ports_fit = one.port == two.port || one.is_ssh != two.is_ssh;
                one.host == two.host && one.path == two.path && ports_fit
            }
        }
    }

    /// The host; `None`: this machine.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Http { url, .. } => url.host_str(),
            Self::Ssh { host, .. } => Some(host),
            Self::Local(_) => None,
        }
    }

    /// Whether what is shown there crosses a network where others can read it.
    pub fn is_in_clear(&self) -> bool {
        match self {
            Self::Http { url, .. } => url.scheme() == "http",
            Self::Ssh { .. } | Self::Local(_) => false,
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
    let text = percent_decode_str(text).decode_utf8().ok()?;
    (!text.contains('\0')).then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::Remote;

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
            assert!(Remote::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_repository_is_the_same_however_one_gets_there() {
        let same =
            |one: &str, two: &str| Remote::parse(one).expect(one).is_same_repository(&Remote::parse(two).expect(two));
        assert!(same("https://GitHub.com/acme/site.git", "git@github.com:acme/site"));
        assert!(same("ssh://git@git.example.org:2222/acme/site", "https://git.example.org/acme/site/"));
        assert!(same("/tmp/x", "file://localhost/tmp/x.git/"));
        assert!(!same("https://github.com/acme/site", "https://gitlab.com/acme/site"));
        assert!(!same("https://github.com/acme/site", "https://github.com/acme/Site2"));
        assert!(!same("https://example.org/x", "https://example.org:8443/x"));
        assert!(!same("/x", "https://example.org/x"));
    }
}
