//! Reads `server`: how the daemon runs.
//!
//! Invariant: a [`Server`] is complete; paths in it are absolute and URLs have no slash at the end.

use std::{
    net::SocketAddr,
    path::{Component, Path, PathBuf},
    thread,
    time::Duration,
};

use ipnet::IpNet;
use nix::unistd::Group;

use crate::{
    hooks::{
        keys,
        listen::{self, Connections, Listen, Proxies, address, networks},
        read::{Check, Field, Section},
        units,
    },
    model::remote::is_loopback,
};

const ADMIN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9001);
const MAX_LOG_DEFAULT: u64 = 256 << 20;

/// How the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where deliveries are received.
    pub listen: Listen,
    /// How many connections may be open there.
    pub max_connections: Connections,
    /// Address of dashboard and API; `None`: off.
    pub admin: Option<SocketAddr>,
    /// Group that may use the Unix socket besides the daemon's user.
    pub socket_group: Option<String>,
    /// Base of the payload URLs that people enter at a forge.
    pub public_url: String,
    /// Base of links in notifications.
    pub admin_url: String,
    /// Folder of store, mirrors, runs and logs; absolute.
    pub state: PathBuf,
    /// Runs at once, over all lanes.
    pub workers: usize,
    /// Limit of one delivery's body.
    pub max_body_bytes: u64,
    /// The whole body must be in by then.
    pub body_timeout: Duration,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Proxies,
    /// Addresses that may deliver; empty means any.
    pub allow_from: Vec<IpNet>,
    /// Failed authentications per minute and address; beyond it a 401 becomes a 429.
    pub rate_limit: u32,
    /// Time that running work gets at a stop before the daemon leaves its keepers to themselves.
    pub grace: Duration,
    /// Runs kept for each hook.
    pub keep_runs: u64,
    /// How long logs are kept.
    pub keep_logs: Duration,
    /// Bytes of log a run may keep; the middle is cut beyond it.
    pub max_log_bytes: u64,
}

impl Server {
    /// Whether the payload URLs lead to this machine alone, as far as their host says.
    pub fn is_public_url_loopback(&self) -> bool {
        let rest = self.public_url.split_once("://").map_or("", |(_, rest)| rest);
        let place = rest.split('/').next().unwrap_or_default();
        let host = match place.strip_prefix('[').and_then(|it| it.split_once(']')) {
            Some((host, _)) => host,
            None => place.split(':').next().unwrap_or_default(),
        };
        is_loopback(host) || host.parse().is_ok_and(|it: std::net::IpAddr| it.is_unspecified())
    }
}

/// The server of a file, or of one that says nothing about it.
pub(super) fn read(section: &Section, check: &mut Check) -> Server {
    section.refuse_unknown(check, keys::SERVER);
    let listen = section.read("listen", check, Listen::NotWritten, listen::listen);
    let admin = section.read("admin", check, Some(ADMIN_DEFAULT), admin);
    Server {
        max_connections: section.read("max_connections", check, Connections::default(), listen::connections),
        admin,
        socket_group: section.read("socket_group", check, None, |it, check| group(it, check).map(Some)),
        public_url: section.read("public_url", check, listen.default_url(), public_url),
        listen,
        admin_url: section.read("admin_url", check, format!("http://{}", admin.unwrap_or(ADMIN_DEFAULT)), url),
        state: state(section, check),
        workers: section.read("workers", check, workers_default(), |it, check| {
            it.number(check, 1..=1024).and_then(|it| usize::try_from(it).ok())
        }),
        max_body_bytes: section.read("max_body", check, 26 << 20, |it, check| it.size(check, 1 << 10, 1 << 30)),
        body_timeout: section.read("body_timeout", check, Duration::from_secs(10), Field::limit),
        trusted_proxies: section.read("trusted_proxies", check, Proxies::default(), listen::proxies),
        allow_from: section.read("allow_from", check, Vec::new(), networks),
        rate_limit: section.read("rate_limit", check, 60, |it, check| {
            it.number(check, 1..=1_000_000).and_then(|it| u32::try_from(it).ok())
        }),
        grace: section.read("grace", check, Duration::from_secs(10), Field::duration),
        keep_runs: section.read("keep_runs", check, 10_000, |it, check| {
            it.number(check, 1..=1_000_000_000).and_then(|it| u64::try_from(it).ok())
        }),
        keep_logs: section.read("keep_logs", check, Duration::from_secs(90 * 86_400), Field::limit),
        max_log_bytes: section.read("max_log", check, MAX_LOG_DEFAULT, |it, check| it.size(check, 64 << 10, 1 << 40)),
    }
}

/// The state folder alone: all that a client of a running daemon needs to find its socket.
pub(super) fn state(section: &Section, check: &mut Check) -> PathBuf {
    let default = usual_state(&check.folder, check.environment);
    tidy(&section.read("state", check, default, Field::path))
}

/// That of a file which says nothing of it.
pub(super) fn usual_state(folder: &Path, environment: &super::Environment) -> PathBuf {
    folder.join(environment.state_directory().unwrap_or_else(|| PathBuf::from(".landfall")))
}

/// The path without `.` and, as far as names alone can tell, without `..`.
pub(super) fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(tidied.pop()),
            Component::CurDir => (),
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => tidied.push(component),
        }
    }
    tidied
}

fn workers_default() -> usize {
    thread::available_parallelism().map_or(2, |it| it.get().max(2))
}

fn admin(field: &Field, check: &mut Check) -> Option<Option<SocketAddr>> {
    if field.text(check)? == "off" {
        return Some(None);
    }
    let address = address(field, check)?;
    if address != ADMIN_DEFAULT {
        let message = format!("nothing listens at `{}` with this version: it has no dashboard", field.path);
        check.warn(field.place(), "not-served", message, "the command line asks the daemon over its Unix socket");
    }
    Some(Some(address))
}

fn group(field: &Field, check: &mut Check) -> Option<String> {
    let name = field.text(check)?;
    match Group::from_name(name) {
        Ok(Some(_)) => Some(name.to_owned()),
        Ok(None) | Err(_) => {
            let help = format!("make it with `groupadd {name}`, or name another");
            field.refuse(check, "unknown-group", format_args!("names group `{name}`, which does not exist"), help);
            None
        }
    }
}

fn url(field: &Field, check: &mut Check) -> Option<String> {
    field.parsed(check, "bad-url", units::base_url)
}

/// The base of payload URLs. One that ends as they begin is right only behind a proxy that takes that part away.
fn public_url(field: &Field, check: &mut Check) -> Option<String> {
    let url = url(field, check)?;
    for end in ["/hooks", "/sources"] {
        if let Some(base) = url.strip_suffix(end) {
            let message = format!("`{}` ends in `{end}`, so payload URLs begin with `{url}/hooks/`", field.path);
            let help = format!("write `{base}`, unless a proxy takes `{end}` away before it asks here");
            check.warn(field.place(), "odd-url", message, help);
        }
    }
    Some(url)
}

/// The keys that differ and that a running daemon cannot take over: they are bound or opened at its start.
pub(super) fn needs_restart(old: &Server, new: &Server) -> Vec<&'static str> {
    let differs = [
        ("listen", old.listen != new.listen),
        ("admin", old.admin != new.admin),
        ("socket_group", old.socket_group != new.socket_group),
        ("state", old.state != new.state),
        ("workers", old.workers != new.workers),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}
