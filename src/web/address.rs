//! Says from which address a request comes, behind whatever proxies the operator trusts.
//!
//! Invariant: nothing that an untrusted hop has written decides anything. What cannot be read comes from nowhere, and
//! nowhere is in no list.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "X-Forwarded-For";

/// The right-most hop that is no trusted proxy. `None`: a trusted proxy named something that is no address.
///
/// A hop appends the address that it saw to the right end of the header, so from the right every entry up to and
/// with the first untrusted one was written by a proxy we trust. If all are trusted, it is the left-most.
pub(super) fn of_sender(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> Option<IpAddr> {
    let mut hop = peer.to_canonical();
    // Repeated headers are one list, in their order.
    for line in headers.get_all(FORWARDED_FOR).into_iter().rev() {
        for entry in line.as_bytes().rsplit(|it| *it == b',') {
            if !is_in(trusted_proxies, hop) {
                return Some(hop);
            }
            let text = std::str::from_utf8(entry).ok()?.trim();
            // `a,,b` and an empty header name no hop (RFC 9110, 5.6.1).
            if !text.is_empty() {
                hop = parse(text)?;
            }
        }
    }
    Some(hop)
}

/// Whether every list that says anything lets the address in.
pub(super) fn is_allowed(address: Option<IpAddr>, lists: &[&[IpNet]]) -> bool {
    lists.iter().all(|list| list.is_empty() || address.is_some_and(|it| is_in(list, it)))
}

fn is_in(list: &[IpNet], address: IpAddr) -> bool {
    list.iter().any(|it| it.contains(&address))
}

/// An address, bare or as some proxies write it: with a port, or an IPv6 address in brackets.
fn parse(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|it| it.ip());
    let address = text.parse().ok().or_else(bracketed).or_else(with_port)?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use hyper::{HeaderMap, header::HeaderValue};
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::{is_allowed, of_sender};

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|it| it.parse().unwrap()).collect()
    }

    fn sender(peer: &str, lines: &[&str], trusted: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        of_sender(peer.parse().unwrap(), &headers, &nets(trusted)).map(|it| it.to_string())
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
    fn what_is_no_address_comes_from_nowhere() {
        for bad in ["unknown", "9.9.9.9 8.8.8.8", "ü", "9.9.9", "_hidden"] {
            assert_eq!(sender("10.0.0.1", &[bad], &["10.0.0.0/8"]), None, "{bad}");
        }
        assert!(is_allowed(None, &[&[], &[]]));
        assert!(!is_allowed(None, &[&[], &nets(&["0.0.0.0/0"])]));
    }

    #[test]
    fn each_list_narrows_the_others() {
        let address = Some(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)));
        assert!(is_allowed(address, &[&nets(&["10.0.0.0/8"]), &nets(&["10.1.0.0/16"])]));
        assert!(!is_allowed(address, &[&nets(&["10.0.0.0/8"]), &nets(&["10.2.0.0/16"])]));
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
