//! The ways a remote may be written, and when two of them are the same repository.
//!
//! Invariant: only `https`, `http`, ssh and local folders come through; nothing in a remote can become an option or a
//! command, and what is shown of it has no credentials.

use std::{fmt, net::IpAddr, path::PathBuf};

use percent_encoding::percent_decode_str;
use url::Url;

/// Why a text is no remote that we fetch from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRemote {
    /// It is empty or has control characters.
    Unprintable,
    /// A scheme that we do not speak, or `ext::` and the like.
    UnknownScheme,
    /// `git://`, which has neither authentication nor encryption.
    GitScheme,
    /// Neither a URL, nor scp-style, nor an absolute path.
    NoForm,
    /// A URL that cannot be taken apart.
    BadUrl,
    /// An `https://` or `http://` URL with a space in it.
    Space,
    /// A URL with `?` or `#`.
    Query,
    /// A percent-encoded part is not UTF-8.
    NotUtf8,
    /// A port that is not a number.
    BadPort,
    /// A password in a remote for ssh.
    SshPassword,
    /// A host, user or path that would be taken for an option.
    Option,
    /// A host or user with characters that a shell could act on.
    NoPlainName,
    /// There is no path.
    NoPath,
    /// The path of `file://` is not absolute.
    RelativePath,
}

/// A clause.
impl fmt::Display for BadRemote {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Unprintable => "it is empty or has control characters",
            Self::UnknownScheme => "only https, http, ssh and local repositories can be fetched from",
            Self::GitScheme => "`git://` proves nothing and hides nothing",
            Self::NoForm => "it is neither a URL, nor `host:path`, nor an absolute path",
            Self::BadUrl => "it is not a URL",
            Self::Space => "a URL of the web has no spaces",
            Self::Query => "a remote has no `?` and no `#`",
            Self::NotUtf8 => "a part of it is not UTF-8",
            Self::BadPort => "its port is not a number",
            Self::SshPassword => "it has a password, and ssh takes a key",
            Self::Option => "its host, user or path begins with `-`, so it is not a plain name",
            Self::NoPlainName => "its host or user is not a plain name",
            Self::NoPath => "it has no path",
            Self::RelativePath => "its path is not absolute",
        })
    }
}

/// A remote, with the text in which it was written: that is what is stored, and what a mirror is filed under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenRemote {
    text: String,
    parts: Remote,
}

impl WrittenRemote {
    /// Takes a remote apart and keeps its text.
    ///
    /// # Errors
    /// Says why it is none that we fetch from.
    pub fn parse(text: impl Into<String>) -> Result<Self, BadRemote> {
        let text = text.into();
        Remote::parse(&text).map(|parts| Self { text, parts })
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it is made of.
    pub fn parts(&self) -> &Remote {
        &self.parts
    }
}

/// As it was written.
impl fmt::Display for WrittenRemote {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

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
    /// Takes a remote apart.
    ///
    /// # Errors
    /// Says why it is none that we fetch from.
    pub fn parse(text: &str) -> Result<Self, BadRemote> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(BadRemote::Unprintable);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.starts_with('/') {
                Ok(Self::Local(PathBuf::from(text)))
            } else if text.contains("::") && !text.contains('[') {
                Err(BadRemote::UnknownScheme)
            } else {
                parse_scp(text)
            };
        };
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "https" | "http" if rest.contains(char::is_whitespace) => Err(BadRemote::Space),
            "https" | "http" => parse_http(text),
            "ssh" | "git+ssh" | "ssh+git" => parse_ssh_url(rest),
            "file" => {
                let path = rest.strip_prefix("localhost").filter(|it| it.starts_with('/')).unwrap_or(rest);
                decode(path)
                    .filter(|it| it.starts_with('/') && it.len() > 1)
                    .map(|it| Self::Local(it.into()))
                    .ok_or(BadRemote::RelativePath)
            }
            "git" => Err(BadRemote::GitScheme),
            _ => Err(BadRemote::UnknownScheme),
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

    /// The host in the form of [`plain_host`]; `None` for a folder of this machine.
    pub fn host(&self) -> Option<String> {
        match self {
            Self::Http { url, .. } => url.host_str().map(normal_host),
            Self::Ssh { host, .. } => Some(normal_host(host)),
            Self::Local(_) => None,
        }
    }

    /// Whether what is sent there stays on this machine, by the name of the host alone.
    pub fn is_loopback(&self) -> bool {
        self.host().is_none_or(|it| is_loopback(&it))
    }

    /// Whether what is sent there crosses a network in plain text.
    pub fn is_in_the_clear(&self) -> bool {
        matches!(self, Self::Http { url, .. } if url.scheme() == "http") && !self.is_loopback()
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

/// Whether a host is this machine, by its name alone.
pub fn is_loopback(host: &str) -> bool {
    let host = normal_host(host);
    host == "localhost" || host.parse().is_ok_and(|it: IpAddr| it.is_loopback())
}

/// A host name or address on its own, lower case and without the brackets of IPv6; `None`: the text is something else.
pub fn plain_host(text: &str) -> Option<String> {
    let host = normal_host(text);
    let is_name = !host.starts_with('-') && host.chars().all(|it| it.is_ascii_alphanumeric() || "._-+".contains(it));
    (!host.is_empty() && is_name || host.parse::<IpAddr>().is_ok()).then_some(host)
}

fn normal_host(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    host.parse().map_or_else(|_| host.to_ascii_lowercase(), |it: IpAddr| it.to_string())
}

fn parse_http(text: &str) -> Result<Remote, BadRemote> {
    let mut url = Url::parse(text).map_err(|_| BadRemote::BadUrl)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(BadRemote::Query);
    }
    if url.host_str().is_some_and(|it| it.starts_with('-')) {
        return Err(BadRemote::Option);
    }
    if url.path().trim_matches('/').is_empty() {
        return Err(BadRemote::NoPath);
    }
    let user = decode(url.username()).ok_or(BadRemote::NotUtf8)?;
    let password = decode(url.password().unwrap_or_default()).ok_or(BadRemote::NotUtf8)?;
    let login = (!user.is_empty() || !password.is_empty()).then_some((user, password));
    url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| BadRemote::BadUrl)?;
    Ok(Remote::Http { url, login })
}

fn parse_ssh_url(rest: &str) -> Result<Remote, BadRemote> {
    let (authority, path) = rest.split_once('/').filter(|(_, it)| !it.is_empty()).ok_or(BadRemote::NoPath)?;
    let (user, address) = match authority.rsplit_once('@') {
        Some((user, address)) => (Some(decode(user).ok_or(BadRemote::NotUtf8)?), address),
        None => (None, authority),
    };
    let (host, port) = match address.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let port = port.filter(|it| !it.is_empty()).map(str::parse).transpose().map_err(|_| BadRemote::BadPort)?;
    let path = decode(path).ok_or(BadRemote::NotUtf8)?;
    // `ssh://host/~user/site` is below that user's home, as in git.
    let path = if path.starts_with('~') { path } else { format!("/{path}") };
    ssh(user, host, port, path)
}

fn parse_scp(text: &str) -> Result<Remote, BadRemote> {
    let (user, rest) = match text.split_once('@') {
        Some((user, rest)) if !user.contains([':', '/']) => (Some(user.to_owned()), rest),
        Some(_) | None => (None, text),
    };
    let (host, path) = match rest.strip_prefix('[').and_then(|it| it.split_once("]:")) {
        Some(parts) => parts,
        None => rest.split_once(':').ok_or(BadRemote::NoForm)?,
    };
    if host.contains('/') {
        return Err(BadRemote::NoForm);
    }
    ssh(user, host, None, path.to_owned())
}

fn ssh(user: Option<String>, host: &str, port: Option<u16>, path: String) -> Result<Remote, BadRemote> {
    // A person's ssh configuration may hand host and user on to a shell, as `ProxyCommand` does.
    let is_word =
        |it: &str| !it.is_empty() && it.chars().all(|it| it.is_ascii_alphanumeric() || ".-_:%+~".contains(it));
    if user.as_ref().is_some_and(|it| it.contains(':')) {
        return Err(BadRemote::SshPassword);
    }
    if [host, path.as_str()].into_iter().chain(user.as_deref()).any(|it| it.starts_with('-')) {
        return Err(BadRemote::Option);
    }
    if !is_word(host) || user.as_ref().is_some_and(|it| !is_word(it)) {
        return Err(BadRemote::NoPlainName);
    }
    if path.is_empty() {
        return Err(BadRemote::NoPath);
    }
    if path.chars().any(char::is_control) {
        return Err(BadRemote::Unprintable);
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
    use super::{BadRemote, Remote, WrittenRemote, is_loopback, plain_host};

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
        let no_repositories = ["https://h", "https://h/", "https://-x/a", "ssh://h/", "file://", "file://h/a", "../x"];
        for bad in options.into_iter().chain(commands).chain(shells).chain(others).chain(no_repositories) {
            assert!(Remote::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_space_is_percent_encoded_over_http_and_may_stand_in_any_other_path() {
        assert_eq!(Remote::parse("https://h/a b"), Err(BadRemote::Space));
        for path in ["/srv/a b", "file:///srv/a b", "file:///srv/a%20b"] {
            assert_eq!(shown(path), "/srv/a b");
        }
        assert_eq!(shown("ssh://h/a b"), "h:/a b");
    }

    #[test]
    fn a_remote_keeps_the_text_it_was_written_in() {
        for text in ["HTTPS://Git.example.org/a/b.git", "git+ssh://git@host/a", "file://localhost/srv/a%20b", "h:a"] {
            let written = WrittenRemote::parse(text).expect(text);
            assert_eq!((written.as_str(), written.to_string().as_str()), (text, text));
        }
    }

    #[test]
    fn a_host_is_told_by_its_name_however_it_is_written() {
        for (text, host) in [
            ("https://Git.Example.ORG:8443/a", Some("git.example.org")),
            ("http://[::1]:3000/a", Some("::1")),
            ("git@GIT.example.org:a", Some("git.example.org")),
            ("ssh://git@[0:0::1]:22/a", Some("::1")),
            ("/srv/a", None),
        ] {
            assert_eq!(Remote::parse(text).expect(text).host().as_deref(), host, "{text}");
        }
        assert_eq!(plain_host("[::1]").as_deref(), Some("::1"));
        assert_eq!(plain_host("Git.example.org").as_deref(), Some("git.example.org"));
        for bad in ["", "-x", "https://h", "h/a", "h:22", "git@h", "h ost", "$h"] {
            assert_eq!(plain_host(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_plain_http_to_another_machine_is_in_the_clear() {
        let is_in_the_clear = |text: &str| Remote::parse(text).expect(text).is_in_the_clear();
        assert!(is_in_the_clear("http://git.example.org/a") && is_in_the_clear("HTTP://10.0.0.1:3000/a"));
        for text in ["https://git.example.org/a", "http://localhost/a", "http://[::1]/a", "h:a", "/srv/a"] {
            assert!(!is_in_the_clear(text), "{text}");
        }
        assert!(is_loopback("LOCALHOST") && is_loopback("127.1.2.3") && !is_loopback("localhost.example.org"));
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
