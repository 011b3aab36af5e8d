//! Sizes, durations and addresses as people write them.
//!
//! Invariant: what is read is bounded (ten years, 8 EiB), so that later sums do not overflow.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

const SECONDS_MAX: u64 = 3650 * 86_400;

/// `90s`, `20m`, `1h 30m`, `250ms`; the error says what would have been right.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    const HELP: &str = "write a number and a unit: `250ms`, `90s`, `20m`, `1h 30m`, `90d`";
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(HELP);
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|it: char| it.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|it: char| it.is_ascii_lowercase()).len();
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| HELP)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(HELP),
        };
        let part = number.checked_mul(millis).filter(|it| *it <= SECONDS_MAX * 1_000);
        total += Duration::from_millis(part.ok_or("no more than ten years")?);
        rest = after.trim_start();
    }
    if total.as_secs() > SECONDS_MAX { Err("no more than ten years") } else { Ok(total) }
}

/// `26MiB`, `1GiB`, `0B`; the error says what would have been right.
pub(super) fn size(text: &str) -> Result<u64, &'static str> {
    const HELP: &str = "write a number and a unit: `512B`, `64KiB`, `26MiB`, `1GiB`";
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|it: char| it.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| HELP)?;
    let shift = match unit.trim_start() {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(HELP),
    };
    let bytes = number.checked_mul(1 << shift).filter(|it| *it <= i64::MAX as u64);
    bytes.ok_or("no more than 8388607TiB")
}

/// A size as a person would write it.
pub(super) fn size_text(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = units.into_iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    whole.map_or_else(|| format!("{bytes}B"), |(shift, name)| format!("{}{name}", bytes >> shift))
}

/// One address, or a network like `10.0.0.0/8`; the error says what would have been right.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if text.contains(',') {
        let parts: Vec<&str> = text.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
        return Err(format!("a list is written with brackets: `[{}]`", parts.join(", ")));
    }
    let network: IpNet = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().map_err(|_| "write an address or a network: `192.0.2.7`, `10.0.0.0/8`")?,
    };
    // Senders are known by their own address, however a listener writes it down.
    if let IpNet::V6(within) = &network
        && let Some(own) = within.addr().to_ipv4_mapped()
    {
        return Err(format!("an IPv4 address is written as one: `{own}`"));
    }
    if network.trunc() == network { Ok(network) } else { Err(format!("the network is written `{}`", network.trunc())) }
}

/// `http://` or `https://`, a host, and perhaps a port and a path. Returned without a slash at the end.
pub(super) fn base_url(text: &str) -> Result<String, &'static str> {
    const HELP: &str = "write it like `https://deploy.example.org`";
    let lower = text.to_ascii_lowercase();
    let rest = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://")).ok_or(HELP)?;
    let host = rest.split('/').next().unwrap_or_default();
    let is_plain = text.chars().all(|it| it.is_ascii_graphic() && !"\"<>\\^`{|}?#".contains(it));
    if host.is_empty() || host.starts_with(':') || host.contains('@') || !is_plain {
        return Err(HELP);
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// An address with a path, and perhaps a query.
pub(super) fn link(text: &str) -> Result<String, &'static str> {
    let base = text.split(['?', '#']).next().unwrap_or_default();
    let is_plain = text.chars().all(|it| it.is_ascii_graphic() && !"\"<>\\^`{|}".contains(it));
    base_url(base)?;
    if is_plain { Ok(text.to_owned()) } else { Err("write it like `https://www.example.org/`") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{base_url, duration, network, size, size_text};

    #[test]
    fn durations_have_units_and_an_end() {
        for (text, seconds) in [("90s", 90), ("20m", 1200), ("1h 30m", 5400), ("1h30m", 5400), ("90d", 7_776_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "90", "s", "soon", "1.5h", "-1s", "1 h", "1H", "9999999d", "99999999999999999999s", "٣s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        for (text, bytes) in [("0B", 0), ("26MiB", 26 << 20), ("1GiB", 1 << 30), ("1 KiB", 1024)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "26", "26MB", "1.5GiB", "99999999TiB", "MiB", "-1B"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for text in ["26MiB", "1GiB", "100B", "0B"] {
            assert_eq!(size_text(size(text).expect(text)), text);
        }
    }

    #[test]
    fn networks_have_no_host_bits() {
        for good in ["192.0.2.7", "10.0.0.0/8", "::1", "fd00::/8"] {
            assert!(network(good).is_ok(), "{good}");
        }
        assert_eq!(network("10.0.0.1/8"), Err("the network is written `10.0.0.0/8`".into()));
        assert!(network("example.org").is_err());
        let list = "a list is written with brackets: `[10.0.0.1, 10.0.0.2]`";
        assert_eq!(network("10.0.0.1, 10.0.0.2"), Err(list.into()));
        assert_eq!(network("::ffff:192.0.2.7"), Err("an IPv4 address is written as one: `192.0.2.7`".into()));
    }

    #[test]
    fn a_base_is_an_http_url_without_query_or_user() {
        assert_eq!(base_url("https://x.example.org/landfall/"), Ok("https://x.example.org/landfall".into()));
        for bad in
            ["", "x.example.org", "ftp://x", "https://", "https:///a", "https://u@h", "https://h?q", "http://a b"]
        {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }
}
