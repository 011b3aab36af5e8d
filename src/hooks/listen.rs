//! Reads of `server` where deliveries come in, how many connections at once, and whose word about a sender is believed.
//!
//! Invariant: there is somewhere to listen at, and the share of one address is no larger than the whole.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use crate::hooks::{
    keys,
    read::{Check, Field},
    units,
    yaml::Value,
};

/// Where deliveries are received if hooks.yaml does not say.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9000);

/// What `listen` says to take what the service manager hands over.
const HANDED_OVER: &str = "systemd";

/// How `trusted_proxies` names every peer on a Unix socket; nginx writes it into X-Forwarded-For.
const UNIX: &str = "unix:";

/// Where deliveries are received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// At these addresses; there is one at least.
    At(Vec<SocketAddr>),
    /// At the sockets that the service manager hands over.
    HandedOver,
    /// It is not written: at the sockets that are handed over, if there are any, else at the default address.
    NotWritten,
}

impl Listen {
    /// The addresses that hooks.yaml or the default names; none where sockets must be handed over.
    pub fn addresses(&self) -> &[SocketAddr] {
        match self {
            Self::At(addresses) => addresses,
            Self::HandedOver => &[],
            Self::NotWritten => &[DEFAULT],
        }
    }

    /// What the payload URLs begin with where nobody has said how forges reach us.
    pub fn default_url(&self) -> String {
        format!("http://{}", self.addresses().first().unwrap_or(&DEFAULT))
    }
}

/// How many connections of the public listener may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// In all.
    pub all: usize,
    /// From one address, or one /64 of IPv6.
    pub address: usize,
}

impl Default for Connections {
    fn default() -> Self {
        Self { all: 1024, address: 64 }
    }
}

/// Whose X-Forwarded-For is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// At these addresses.
    pub networks: Vec<IpNet>,
    /// On a Unix socket.
    pub unix: bool,
}

impl Proxies {
    /// Whether the one at this address is believed.
    pub fn include(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|it| it.contains(&address))
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }
}

/// `listen`: an address, a list of them, or `systemd`.
pub(super) fn listen(field: &Field, check: &mut Check) -> Option<Listen> {
    let items = field.items(check)?;
    if items.is_empty() {
        field.refuse(check, "empty-list", "is an empty list", "name an address, or remove it for the default");
        return None;
    }
    let is_handed_over = |it: &Field| text_of(it) == Some(HANDED_OVER);
    if let Some(handed_over) = items.iter().find(|it| is_handed_over(it)) {
        if items.len() > 1 {
            let help = "write it alone, and the addresses as `ListenStream=` into the socket unit";
            handed_over.refuse(check, "bad-address", "names `systemd` beside addresses", help);
            return None;
        }
        return Some(Listen::HandedOver);
    }
    let addresses = field.each(check, address)?;
    for (index, item) in items.iter().enumerate().skip(1) {
        if items[..index].iter().any(|it| text_of(it) == text_of(item)) {
            item.refuse(check, "bad-address", "names the same address twice", "keep one of them");
            return None;
        }
    }
    (addresses.len() == items.len()).then_some(Listen::At(addresses))
}

/// An IP address and a port.
pub(super) fn address(field: &Field, check: &mut Check) -> Option<SocketAddr> {
    field.parsed(check, "bad-address", |text| {
        let help = || match text.strip_prefix(':') {
            Some(port) => format!("write `127.0.0.1:{port}`, or `0.0.0.0:{port}` for all addresses"),
            None => "write an IP address and a port: `127.0.0.1:9000`, `[::1]:9000`".to_owned(),
        };
        text.parse().map_err(|_| help())
    })
}

/// `max_connections`.
pub(super) fn connections(field: &Field, check: &mut Check) -> Option<Connections> {
    let default = Connections::default();
    let section = field.section(check, keys::CONNECTIONS)?;
    let number = |it: &Field, check: &mut Check| it.number(check, 1..=65_536).and_then(|it| usize::try_from(it).ok());
    let all = section.read("all", check, default.all, number);
    let address = section.read("address", check, default.address.min(all), number);
    if address > all {
        let at_fault = section.get("address").unwrap_or(field);
        let message = format!("gives one address more connections than there are in all ({all})");
        at_fault.refuse(check, "bad-number", message, "raise `all`, or lower `address`");
        return None;
    }
    Some(Connections { all, address })
}

/// `trusted_proxies`: addresses, networks, and `unix:` for peers on a Unix socket.
pub(super) fn proxies(field: &Field, check: &mut Check) -> Option<Proxies> {
    let items = field.items(check)?;
    let unix = items.iter().any(|it| text_of(it) == Some(UNIX));
    if items.len() == 1 && unix {
        return Some(Proxies { networks: Vec::new(), unix });
    }
    if items.is_empty() {
        // It says what is wrong with an empty list of addresses.
        networks(field, check)?;
    }
    let network = |it: &Field, check: &mut Check| match text_of(it) {
        Some(UNIX) => None,
        Some(_) | None => it.parsed(check, "bad-address", |text| {
            units::network(text).map_err(|help| format!("{help}, or \"{UNIX}\" for peers on a Unix socket"))
        }),
    };
    Some(Proxies { networks: field.each(check, network)?, unix })
}

/// A list of addresses and networks; at least one.
pub(super) fn networks(field: &Field, check: &mut Check) -> Option<Vec<IpNet>> {
    let networks = field.each(check, |it, check| it.parsed(check, "bad-address", units::network))?;
    if field.items(check)?.is_empty() {
        field.refuse(
            check,
            "empty-list",
            "is an empty list",
            "an empty list would not say whether all or none: remove it",
        );
        return None;
    }
    Some(networks)
}

fn text_of<'t>(field: &Field<'t>) -> Option<&'t str> {
    match &field.node.value {
        Value::Text(text) => Some(text),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}
