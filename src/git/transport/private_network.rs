//! Which hosts are in a private network: who owns a repository must not send us into one where its remote is not.
//!
//! Invariant: an address is judged where the connection is made, so neither a name nor a redirect gets around it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::journey::NamedBy;
use crate::git::{GitFailure, remote::Remote};

/// Finds addresses of the open network alone.
pub(in crate::git) struct OpenNetwork;

impl Resolve for OpenNetwork {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let open: Vec<SocketAddr> = found.filter(|it| !is_private(it.ip())).collect();
            match open.is_empty() {
                true => Err(format!("`{}` is in a private network", name.as_str()).into()),
                false => Ok(Box::new(open.into_iter()) as Addrs),
            }
        })
    }
}

/// Whether a remote may be in a private network: the hook names it, or it is where what the hook names is. One that may
/// not be there, and is, is refused.
pub(in crate::git) fn judge(remote: &Remote, named_by: &NamedBy) -> Result<bool, GitFailure> {
    let is_vouched_for = match named_by {
        NamedBy::Hook => true,
        NamedBy::Gitmodules { hooks_remote } => hooks_remote.has_door_of(remote) || is_in_private_network(hooks_remote),
    };
    match remote.host().filter(|it| !is_vouched_for && leads_inside(it)) {
        Some(host) => Err(GitFailure::permanent(format!(
            "it is at `{host}`, in a private network where the remote of the hook is not"
        ))),
        None => Ok(is_vouched_for),
    }
}

/// Whether a remote is in a private network.
pub(in crate::git) fn is_in_private_network(remote: &Remote) -> bool {
    match remote {
        Remote::Http { url, .. } => leads_inside(url.host_str().unwrap_or_default()),
        Remote::Ssh { host, .. } => leads_inside(host),
        Remote::Local(_) => false,
    }
}

/// Whether all that is known of a host is within a private network.
pub(in crate::git) fn leads_inside(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found: Vec<SocketAddr> = (host, 0).to_socket_addrs().into_iter().flatten().collect();
    !found.is_empty() && found.iter().all(|it| is_private(it.ip()))
}

/// Whether an address is not one of the open network
/// (<https://www.iana.org/assignments/iana-ipv4-special-registry>, and its sister for IPv6).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    matches!(
        address.octets(),
        [0 | 10 | 127 | 224.., ..]
            | [100, 64..128, ..]
            | [169, 254, ..]
            | [172, 16..32, ..]
            | [192, 168, ..]
            | [192, 0, 0 | 2, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let within = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // An address of IPv4 in other clothes: mapped, compatible, through NAT64, and by 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => within(high, low),
        [0x2002, high, low, ..] => within(high, low),
        // Of all the rest only 2000::/3 is given out, and in there some is for examples or for tunnels.
        [0x2001, 0..0x200 | 0xdb8, ..] => true,
        [first, ..] => first & 0xe000 != 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::is_private;

    #[test]
    fn an_address_of_a_private_network_is_one_in_any_clothes() {
        for inside in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.168.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(is_private(inside.parse().expect(inside)), "{inside}");
        }
        for outside in ["1.1.1.1", "100.128.0.1", "172.32.0.1", "140.82.121.4", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(!is_private(outside.parse().expect(outside)), "{outside}");
        }
    }
}
