//! The sockets that deliveries come in by: bound here, or handed over by the service manager.
//!
//! A socket that was handed over outlives this process. What waits in its queue when we stop is left there for the next
//! one; what waits in the queue of our own is taken before we close it.
//!
//! Invariant: every one is a listening stream socket that does not block, and no child inherits it.

use std::{
    fmt,
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{FromRawFd, OwnedFd, RawFd},
        unix,
    },
    path::PathBuf,
    process,
    task::{Context, Poll},
};

use rustix::{
    io::{FdFlags, fcntl_getfd, fcntl_setfd},
    net::{AddressFamily, SocketType, sockopt},
};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tracing::warn;

use crate::{
    hooks::{Environment, Listen},
    web::address::Peer,
};

/// The first descriptor that a service manager hands over: sd_listen_fds(3).
const FIRST_HANDED: RawFd = 3;

/// More sockets than these no service is given.
const HANDED_MAX: RawFd = 256;

/// Why there is nothing to listen at.
#[derive(Debug, Error)]
pub enum ListenError {
    /// An address cannot be bound.
    #[error("cannot listen at {address}: {source}; is another program there, or is `server.listen` wrong?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// `listen: systemd`, and there is no socket.
    #[error(
        "`server.listen` is `systemd`, and no socket was handed over: start `landfall.socket` first (`systemctl enable --now \
         landfall.socket`), or name an address"
    )]
    NothingHandedOver,
    /// A descriptor that was handed over cannot be listened at.
    #[error("socket `{name}` (descriptor {descriptor}) was handed over, and cannot be used: {why}")]
    Unusable {
        /// What the service manager calls it.
        name: String,
        /// Its number.
        descriptor: RawFd,
        /// What is wrong with it.
        why: String,
    },
}

/// What the service manager has handed over.
#[derive(Debug, Default)]
pub struct HandedOver(Vec<(String, RawFd, OwnedFd)>);

impl HandedOver {
    /// Takes what the variables of sd_listen_fds(3) name, so that no child gets it, and the variables too.
    ///
    /// For the very beginning of the process: whatever else it opens must not be taken for one of these.
    pub fn take(environment: Environment) -> (Self, Environment) {
        let variable = |name: &str| environment.variable(name).and_then(|it| it.trim().parse::<RawFd>().ok());
        let (count, pid) = (variable("LISTEN_FDS").unwrap_or(0), variable("LISTEN_PID"));
        let names = environment.variable("LISTEN_FDNAMES").unwrap_or_default().to_owned();
        let rest = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];
        let rest = rest.into_iter().fold(environment, Environment::without);
        if count <= 0 {
            return (Self::default(), rest);
        }
        // They are meant for the process that the service manager started, and others inherit the variables by accident.
        if pid.map(RawFd::cast_unsigned) != Some(process::id()) {
            let (pid, own) = (pid.unwrap_or_default(), process::id());
            warn!("sockets were handed over to process {pid}, and this is {own}: they are not taken");
            return (Self::default(), rest);
        }
        let mut names = names.split(':').map(str::to_owned);
        let descriptors = FIRST_HANDED..FIRST_HANDED.saturating_add(count.min(HANDED_MAX));
        let take = |descriptor| {
            let name = names.next().filter(|it| !it.is_empty()).unwrap_or_else(|| "unknown".to_owned());
            Some((name, descriptor, own(descriptor)?))
        };
        (Self(descriptors.filter_map(take).collect()), rest)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The descriptor as ours, closed in whatever we start; `None`: there is none of that number.
fn own(descriptor: RawFd) -> Option<OwnedFd> {
    // SAFETY: the protocol says that this number is ours and nobody else's here; whether it is open is asked before
    // anything else is done with it, and where it is not, it is forgotten and never closed.
    #[expect(unsafe_code, reason = "a number is all that another process can hand over")]
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    if fcntl_getfd(&owned).is_err() {
        std::mem::forget(owned);
        return None;
    }
    // It can only fail for a descriptor that is not open.
    let _ = fcntl_setfd(&owned, FdFlags::CLOEXEC);
    Some(owned)
}

/// Where a listener is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// At an address, with the port that was really bound.
    At(SocketAddr),
    /// At a Unix socket.
    Unix(PathBuf),
}

impl Local {
    /// Where this very host reaches it: an unspecified address stands for all, loopback among them.
    pub fn reachable(&self) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(path.clone()),
            Self::At(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
                    other => other,
                };
                Self::At(SocketAddr::new(ip, address.port()))
            }
        }
    }
}

impl From<SocketAddr> for Local {
    fn from(address: SocketAddr) -> Self {
        Self::At(address)
    }
}

impl fmt::Display for Local {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => write!(out, "{address}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// All listeners; there is one at least.
#[derive(Debug)]
pub struct Listeners {
    all: Vec<Listener>,
    /// Whose turn it is to be asked first, so that none is forgotten beside one with many connections.
    turn: usize,
}

#[derive(Debug)]
struct Listener {
    socket: Socket,
    local: Local,
    is_handed_over: bool,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that has come in.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listeners {
    /// Opens what hooks.yaml asks for.
    pub async fn open(listen: &Listen, handed_over: HandedOver) -> Result<Self, ListenError> {
        match listen {
            Listen::HandedOver if handed_over.is_empty() => Err(ListenError::NothingHandedOver),
            Listen::HandedOver => Self::of(handed_over),
            Listen::NotWritten if !handed_over.is_empty() => Self::of(handed_over),
            Listen::NotWritten => Self::bind(listen.addresses()).await,
            Listen::At(addresses) => {
                if !handed_over.is_empty() {
                    let names: Vec<String> = handed_over.0.iter().map(|(name, ..)| format!("`{name}`")).collect();
                    let names = names.join(", ");
                    warn!(
                        "socket {names} was handed over and is not used, as `server.listen` names addresses: write \
                         `listen: systemd`, or disable the socket unit"
                    );
                }
                Self::bind(addresses).await
            }
        }
    }

    async fn bind(addresses: &[SocketAddr]) -> Result<Self, ListenError> {
        let mut bound = Vec::new();
        for &address in addresses {
            let failed = |source| ListenError::Bind { address, source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let local = Local::At(listener.local_addr().map_err(failed)?);
            bound.push(Listener { socket: Socket::Tcp(listener), local, is_handed_over: false });
        }
        Ok(Self { all: bound, turn: 0 })
    }

    fn of(handed_over: HandedOver) -> Result<Self, ListenError> {
        let listeners = handed_over.0.into_iter().map(|(name, descriptor, socket)| {
            let opened = adopt(socket);
            opened.map_err(|why| ListenError::Unusable { name, descriptor, why })
        });
        Ok(Self { all: listeners.collect::<Result<_, _>>()?, turn: 0 })
    }

    /// Where they are reached, in the order of hooks.yaml or of the service manager.
    pub fn local(&self) -> Vec<Local> {
        self.all.iter().map(|it| it.local.clone()).collect()
    }

    /// Whether all were handed over, so that whoever connects later waits for the next daemon.
    pub fn outlive_us(&self) -> bool {
        self.all.iter().all(|it| it.is_handed_over)
    }

    /// Waits for the next connection, at any of them.
    pub(super) async fn accept(&mut self) -> io::Result<(Stream, Peer)> {
        let (count, turn) = (self.all.len(), self.turn);
        let (index, accepted) = poll_fn(|context| {
            for index in (turn..turn + count).map(|it| it % count) {
                if let Poll::Ready(accepted) = self.all[index].poll_accept(context) {
                    return Poll::Ready((index, accepted));
                }
            }
            Poll::Pending
        })
        .await;
        self.turn = (index + 1) % count;
        accepted
    }

    /// Closes them. Gives the connections that have waited in the queues of those that close for good.
    pub(super) fn close(self) -> Vec<(Stream, Peer)> {
        let mut last = Vec::new();
        for listener in self.all.into_iter().filter(|it| !it.is_handed_over) {
            if let Err(err) = listener.take_waiting(&mut last) {
                warn!("cannot take the connections that wait at {}: {err}", listener.local);
            }
        }
        last
    }
}

impl From<TcpListener> for Listeners {
    fn from(listener: TcpListener) -> Self {
        let unspecified = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let local = Local::At(listener.local_addr().unwrap_or(unspecified));
        Self { all: vec![Listener { socket: Socket::Tcp(listener), local, is_handed_over: false }], turn: 0 }
    }
}

impl Listener {
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Stream, Peer)>> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let accepted = listener.poll_accept(context);
                accepted.map_ok(|(stream, peer)| (Stream::Tcp(stream), Peer::At(peer.ip())))
            }
            Socket::Unix(listener) => {
                listener.poll_accept(context).map_ok(|(stream, _)| (Stream::Unix(stream), Peer::Unix))
            }
        }
    }

    /// Takes what waits in the queue by the system's own word: what the runtime knows of it may be a moment old.
    fn take_waiting(&self, last: &mut Vec<(Stream, Peer)>) -> io::Result<()> {
        let end = loop {
            let taken = match &self.socket {
                Socket::Tcp(listener) => accept_now(listener).and_then(|stream| {
                    let stream = std::net::TcpStream::from(stream);
                    let peer = Peer::At(stream.peer_addr()?.ip());
                    Ok((Stream::Tcp(TcpStream::from_std(stream)?), peer))
                }),
                Socket::Unix(listener) => accept_now(listener)
                    .and_then(|stream| Ok((Stream::Unix(UnixStream::from_std(stream.into())?), Peer::Unix))),
            };
            match taken {
                Ok(taken) => last.push(taken),
                // It has gone away while it waited.
                Err(err) if matches!(err.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::NotConnected) => (),
                Err(err) => break err,
            }
        };
        if end.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(end) }
    }
}

fn accept_now(listener: impl std::os::fd::AsFd) -> io::Result<OwnedFd> {
    let flags = rustix::net::SocketFlags::NONBLOCK | rustix::net::SocketFlags::CLOEXEC;
    Ok(rustix::net::accept_with(listener, flags)?)
}

/// A descriptor that was handed over as a listener; else what is wrong with it.
fn adopt(socket: OwnedFd) -> Result<Listener, String> {
    let failed = |err: io::Error| err.to_string();
    let kind = sockopt::socket_type(&socket).map_err(|_| "it is no socket".to_owned())?;
    if kind != SocketType::STREAM || !sockopt::socket_acceptconn(&socket).unwrap_or(false) {
        return Err("nobody can connect to it: the socket unit needs `ListenStream=` and `Accept=no`".into());
    }
    match sockopt::socket_domain(&socket).map_err(|err| failed(err.into()))? {
        AddressFamily::INET | AddressFamily::INET6 => {
            let listener = std::net::TcpListener::from(socket);
            listener.set_nonblocking(true).map_err(failed)?;
            let local = Local::At(listener.local_addr().map_err(failed)?);
            let socket = Socket::Tcp(TcpListener::from_std(listener).map_err(failed)?);
            Ok(Listener { socket, local, is_handed_over: true })
        }
        AddressFamily::UNIX => {
            let listener = unix::net::UnixListener::from(socket);
            listener.set_nonblocking(true).map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            let local = Local::Unix(address.as_pathname().map_or_else(|| "(no path)".into(), PathBuf::from));
            let socket = Socket::Unix(UnixListener::from_std(listener).map_err(failed)?);
            Ok(Listener { socket, local, is_handed_over: true })
        }
        other => Err(format!("it is of family {}, and neither of an address nor a Unix socket", other.as_raw())),
    }
}
