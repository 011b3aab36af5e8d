//! A network of its own for a test, in which this machine has every address of 198.51.100.0/24.
//!
//! What comes from loopback has no share of anything, so promises about shares need other addresses.

use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
    thread,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tokio::net::{TcpSocket, TcpStream};

/// The address of the network that a listener is bound to.
pub const LISTENER: &str = "198.51.100.1:0";

/// Runs this in a thread that sees no other network. Only root can.
pub fn in_a_network<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    raise_descriptors();
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            leave_network();
            ip("link set lo up");
            ip("route add local 198.51.100.0/24 dev lo");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(test());
        });
        inside.join().expect("the test");
    });
}

#[expect(unsafe_code, reason = "what a thread shares with its process is for the caller to know")]
fn leave_network() {
    // SAFETY: it concerns the network of this thread alone, no descriptor and no memory.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("a network");
}

/// A connection takes a descriptor at each end, and both ends are in this process.
pub fn raise_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("as many descriptors as may be");
}

/// The address 198.51.100.x.
pub fn host(number: u8) -> IpAddr {
    IpAddr::from([198, 51, 100, number])
}

/// Connects from that address.
pub async fn connect(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(from, 0)).expect("an address of ours");
    socket.connect(to).await.expect("a connection")
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip(8)");
    assert!(status.success(), "ip {arguments}");
}
