//! Says from which address a request comes, behind whatever proxies the operator trusts, and whose share it counts to.
//!
//! Invariant: nothing that an untrusted hop has written decides anything. What cannot be read comes from nowhere, and
//! nowhere is in no list.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use hyper::HeaderMap;
use ipnet::IpNet;

use crate::{hooks::Proxies, model::text};

const FORWARDED_FOR: &str = "X-Forwarded-For";

/// What nginx calls a client that came by a Unix socket.
const UNIX: &str = "unix:";

/// What is shown of an entry that cannot be read.
const SHOWN_CHARACTERS_MAX: usize = 60;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// A host at this address.
    At(IpAddr),
    /// A process of this machine, by a Unix socket.
    Unix,
}

/// From where a request comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// From this address.
    At(IpAddr),
    /// By a Unix socket, which has no address.
    Unix,
    /// A trusted proxy named this, which is no address.
    Unreadable(String),
}

impl From<Peer> for Sender {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::At(address) => Self::At(address.to_canonical()),
            Peer::Unix => Self::Unix,
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => write!(out, "{address}"),
            Self::Unix => out.write_str("a Unix socket"),
            Self::Unreadable(_) => out.write_str("an unknown address"),
        }
    }
}

impl Peer {
    /// Whose share a connection counts to before a request has come by it; `None`: nobody's, since whoever is at this
    /// address may pass on the requests of all others.
    pub(super) fn share(self, proxies: &Proxies) -> Option<IpAddr> {
        Sender::from(self).share(proxies)
    }
}

impl Sender {
    /// The right-most hop that is no trusted proxy.
    ///
    /// A hop appends the address that it saw to the right end of the header, so from the right every entry up to and
    /// with the first untrusted one was written by a proxy we trust. If all are trusted, it is the left-most.
    pub(super) fn of(peer: Peer, headers: &HeaderMap, proxies: &Proxies) -> Self {
        let mut hop = Self::from(peer);
        // Repeated headers are one list, in their order.
        for line in headers.get_all(FORWARDED_FOR).into_iter().rev() {
            for entry in line.as_bytes().rsplit(|it| *it == b',') {
                if !hop.is_trusted(proxies) {
                    return hop;
                }
                let text = String::from_utf8_lossy(entry);
                let text = text.trim();
                // `a,,b` and an empty header name no hop (RFC 9110, 5.6.1).
                if !text.is_empty() {
                    hop = parse(text).unwrap_or_else(|| Self::Unreadable(shown(text)));
                }
            }
        }
        hop
    }

    /// The address, if there is one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::At(address) => Some(*address),
            Self::Unix | Self::Unreadable(_) => None,
        }
    }

    /// Whose share it counts to: the address, or its /64 of IPv6. `None`: nobody's. Loopback and proxies speak for
    /// others, and a share would be that of all of them together.
    pub(super) fn share(&self, proxies: &Proxies) -> Option<IpAddr> {
        let address = self.address()?;
        (!address.is_loopback() && !proxies.include(address)).then(|| neighbourhood(address))
    }

    /// Whether every list that says anything lets it in.
    pub(super) fn is_allowed(&self, lists: &[&[IpNet]]) -> bool {
        lists.iter().all(|list| list.is_empty() || self.address().is_some_and(|it| is_in(list, it)))
    }

    /// Why no list lets it in, for the operator.
    pub(super) fn why_denied(&self, proxies: &Proxies) -> String {
        match self {
            Self::At(address) if address.is_loopback() && proxies.is_empty() => {
                "its address is not in `allow_from`; if a proxy passes deliveries on, name it in `server.trusted_proxies`"
                    .into()
            }
            Self::At(_) => "its address is not in `allow_from`".into(),
            Self::Unix => "a Unix socket has no address that could be in `allow_from`; if a proxy uses it, write \
                 \"unix:\" into `server.trusted_proxies`"
                .into(),
            Self::Unreadable(entry) => {
                format!("its address is not known, as a trusted proxy wrote `{entry}` into {FORWARDED_FOR}")
            }
        }
    }

    fn is_trusted(&self, proxies: &Proxies) -> bool {
        match self {
            Self::At(address) => proxies.include(*address),
            Self::Unix => proxies.unix,
            Self::Unreadable(_) => false,
        }
    }
}

/// Whoever has one IPv6 address has its /64.
pub(super) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(it) => IpAddr::V6((it.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

fn is_in(list: &[IpNet], address: IpAddr) -> bool {
    list.iter().any(|it| it.contains(&address))
}

/// An entry that cannot be read, short and harmless enough for the log.
fn shown(text: &str) -> String {
    text::shown(text).chars().take(SHOWN_CHARACTERS_MAX).collect()
}

/// A hop, bare or as some proxies write it: an address with a port, an IPv6 address in brackets or with the zone in which
/// the proxy saw it, or `unix:`.
fn parse(text: &str) -> Option<Sender> {
    if text.starts_with(UNIX) {
        return Some(Sender::Unix);
    }
    // A zone names an interface of the proxy's machine (RFC 4007, 11), and tells us nothing.
    let without_zone = match text.split_once('%') {
        None => text.to_owned(),
        Some((address, rest)) => {
            let after = rest.find(']').map_or("", |it| &rest[it..]);
            format!("{address}{after}")
        }
    };
    let text = without_zone.as_str();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|it| it.ip());
    let address: IpAddr = text.parse().ok().or_else(bracketed).or_else(with_port)?;
    Some(Sender::At(address.to_canonical()))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use hyper::{HeaderMap, header::HeaderValue};
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::{Peer, Sender};
    use crate::hooks::Proxies;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|it| it.parse().unwrap()).collect()
    }

    fn proxies(texts: &[&str]) -> Proxies {
        let networks: Vec<&str> = texts.iter().copied().filter(|it| *it != "unix:").collect();
        Proxies { networks: nets(&networks), unix: texts.contains(&"unix:") }
    }

    fn of(peer: &str, lines: &[&str], trusted: &[&str]) -> Sender {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let peer = if peer == "unix:" { Peer::Unix } else { Peer::At(peer.parse().unwrap()) };
        Sender::of(peer, &headers, &proxies(trusted))
    }

    fn sender(peer: &str, lines: &[&str], trusted: &[&str]) -> Option<String> {
        of(peer, lines, trusted).address().map(|it| it.to_string())
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(sender("1.2.3.4", &["9.9.9.9"], &[]).as_deref(), Some("1.2.3.4"));
        assert_eq!(sender("1.2.3.4", &["9.9.9.9"], &["10.0.0.0/8"]).as_deref(), Some("1.2.3.4"));
        assert_eq!(sender("10.0.0.1", &["9.9.9.9"], &["10.0.0.0/8"]).as_deref(), Some("9.9.9.9"));
        assert_eq!(sender("::ffff:10.0.0.1", &["9.9.9.9"], &["10.0.0.0/8"]).as_deref(), Some("9.9.9.9"));
    }

    #[test]
    fn the_right_most_untrusted_hop_counts_whatever_stands_left_of_it() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        let of = |lines: &[&str]| sender("10.0.0.1", lines, &trusted);
        assert_eq!(of(&["6.6.6.6, 9.9.9.9, 10.0.0.2"]).as_deref(), Some("9.9.9.9"));
        assert_eq!(of(&["6.6.6.6", "9.9.9.9", "10.0.0.2"]).as_deref(), Some("9.9.9.9"));
        assert_eq!(of(&["nonsense, 9.9.9.9"]).as_deref(), Some("9.9.9.9"));
        assert_eq!(of(&["9.9.9.9:4711, [fd00::1]"]).as_deref(), Some("9.9.9.9"));
        assert_eq!(of(&["[2001:db8::1]:443"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(of(&["10.0.0.3, 10.0.0.2"]).as_deref(), Some("10.0.0.3"));
        assert_eq!(of(&["9.9.9.9,,", ""]).as_deref(), Some("9.9.9.9"));
        assert_eq!(of(&[]).as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn what_is_no_address_comes_from_nowhere_and_is_named() {
        for bad in ["unknown", "9.9.9.9 8.8.8.8", "ü", "9.9.9", "_hidden", "[fe80::1%eth0"] {
            let found = of("10.0.0.1", &[bad], &["10.0.0.0/8"]);
            assert_eq!(found, Sender::Unreadable(bad.into()));
            assert!(found.why_denied(&proxies(&["10.0.0.0/8"])).contains(&format!("`{bad}`")), "{bad}");
            assert!(found.is_allowed(&[&[], &[]]));
            assert!(!found.is_allowed(&[&[], &nets(&["0.0.0.0/0"])]));
        }
        let Sender::Unreadable(shown) = of("10.0.0.1", &[&"x\u{85}".repeat(100)], &["10.0.0.0/8"]) else {
            panic!("it was read");
        };
        assert!(shown.len() < 200 && !shown.contains('\u{85}'), "{shown:?}");
    }

    #[test]
    fn a_zone_is_left_out_and_unix_is_a_hop_that_may_be_trusted() {
        let trusted = ["10.0.0.0/8", "fe80::/10", "unix:"];
        for zoned in ["fe80::1%eth0", "[fe80::1%eth0]", "[fe80::1%25eth0]:4711"] {
            assert_eq!(sender("10.0.0.1", &[&format!("9.9.9.9, {zoned}")], &trusted).as_deref(), Some("9.9.9.9"));
            assert_eq!(sender("10.0.0.1", &[zoned], &["10.0.0.0/8"]).as_deref(), Some("fe80::1"));
        }
        assert_eq!(sender("10.0.0.1", &["9.9.9.9, unix:"], &trusted).as_deref(), Some("9.9.9.9"));
        assert_eq!(of("10.0.0.1", &["9.9.9.9, unix:"], &["10.0.0.0/8"]), Sender::Unix);
        assert_eq!(sender("unix:", &["9.9.9.9"], &trusted).as_deref(), Some("9.9.9.9"));
        assert_eq!(of("unix:", &["9.9.9.9"], &["0.0.0.0/0", "::/0"]), Sender::Unix);
        assert!(!Sender::Unix.is_allowed(&[&nets(&["0.0.0.0/0"])]));
        assert!(Sender::Unix.why_denied(&proxies(&[])).contains("\"unix:\""));
    }

    #[test]
    fn only_who_speaks_for_nobody_else_has_a_share() {
        let trusted = proxies(&["10.0.0.0/8"]);
        let share = |peer: &str| Peer::At(peer.parse().unwrap()).share(&trusted).map(|it| it.to_string());
        for exempt in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3"] {
            assert_eq!(share(exempt), None, "{exempt}");
        }
        assert_eq!(Peer::Unix.share(&trusted), None);
        assert_eq!(share("192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(share("::ffff:192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(share("2001:db8:0:1::2").as_deref(), Some("2001:db8:0:1::"));
        let forwarded = of("10.0.0.1", &["192.0.2.1"], &["10.0.0.0/8"]).share(&trusted);
        assert_eq!(forwarded, share("192.0.2.1").map(|it| it.parse().unwrap()));
    }

    #[test]
    fn each_list_narrows_the_others() {
        let address = Sender::At(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)));
        assert!(address.is_allowed(&[&nets(&["10.0.0.0/8"]), &nets(&["10.1.0.0/16"])]));
        assert!(!address.is_allowed(&[&nets(&["10.0.0.0/8"]), &nets(&["10.2.0.0/16"])]));
    }

    proptest! {
        #[test]
        fn nothing_an_untrusted_peer_writes_changes_its_address(
            peer in any::<[u8; 4]>(), lines in prop::collection::vec("[ -~]{0,60}", 0..4),
        ) {
            prop_assume!(peer[0] != 10);
            let peer = Ipv4Addr::from(peer).to_string();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            prop_assert_eq!(sender(&peer, &lines, &["10.0.0.0/8"]), Some(peer));
        }

        #[test]
        fn nothing_left_of_an_untrusted_hop_changes_its_address(hop in any::<[u8; 4]>(), left in "[ -~]{0,60}") {
            prop_assume!(hop[0] != 10);
            let hop = Ipv4Addr::from(hop).to_string();
            let line = format!("{left}, {hop}, 10.9.9.9");
            prop_assert_eq!(sender("10.0.0.1", &[&line], &["10.0.0.0/8"]), Some(hop));
        }
    }
}
