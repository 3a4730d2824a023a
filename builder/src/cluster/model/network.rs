//! How a node reaches its network.

pub use crate::cluster::file::{BondHash, BondMode, LacpRate};

use crate::cluster::settings::Secret;
use ipnet::IpNet;
use std::net::IpAddr;

/// How a node reaches its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Which interface; that of the node's address where there are several.
    pub interface: Interface,
    /// The node's address: the first fixed one where there are several. `None` asks a DHCP server.
    pub fixed: Option<Fixed>,
    /// Name servers; empty leaves them to DHCP.
    pub dns: Vec<IpAddr>,
    /// Domains in which short names are looked up.
    pub search: Vec<String>,
    /// Largest packet in bytes, of the only interface.
    pub mtu: Option<u32>,
    /// The only interface asks no DHCP server and has no fixed address: its addresses are those of router advertisements.
    pub advertised_only: bool,
    /// Whether the only interface takes router advertisements, where it is said.
    pub router_advertisements: Option<bool>,
    /// All interfaces by name, where the cluster file names them one by one; else none.
    pub links: Vec<Link>,
}

/// What an interface is recognised by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interface {
    /// Its name, with `*` for any characters.
    Name(String),
    /// Its hardware address, lower case with colons.
    Mac(String),
}

/// A fixed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// Address with its prefix length.
    pub address: IpNet,
    /// Default router.
    pub gateway: Option<IpAddr>,
}

/// An interface of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its key in the cluster file; the name of what is made, such as a bond.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Asks a DHCP server for an IPv4 address.
    pub dhcp: bool,
    /// Fixed addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Routes, default ones among them.
    pub routes: Vec<Route>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Domains in which short names are looked up.
    pub search: Vec<String>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Whether it takes router advertisements, where it is said.
    pub router_advertisements: Option<bool>,
}

/// How a bond uses its cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bonding {
    /// Its mode.
    pub mode: BondMode,
    /// How often the switch is told.
    pub lacp_rate: Option<LacpRate>,
    /// What says which card a packet takes.
    pub hash: Option<BondHash>,
    /// Milliseconds between two looks at each cable.
    pub miimon: u32,
}

/// What an interface is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// A network card.
    Ethernet(Interface),
    /// Network cards as one.
    Bond {
        /// Names of its links.
        interfaces: Vec<String>,
        /// How it uses them.
        bonding: Bonding,
    },
    /// A virtual network on another interface.
    Vlan {
        /// Name of that link.
        link: String,
        /// Number, 1 to 4094.
        id: u32,
    },
    /// A switch between interfaces.
    Bridge {
        /// Names of its links.
        interfaces: Vec<String>,
    },
    /// A Wi-Fi card.
    Wifi(Wifi),
}

impl LinkKind {
    /// The links that it is made of.
    pub fn members(&self) -> &[String] {
        match self {
            Self::Bond { interfaces, .. } | Self::Bridge { interfaces } => interfaces,
            Self::Ethernet(_) | Self::Vlan { .. } | Self::Wifi(_) => &[],
        }
    }
}

/// A Wi-Fi card and its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wifi {
    /// The card's name, without patterns.
    pub interface: String,
    /// Name of the network, at most 32 bytes.
    pub ssid: String,
    /// Where its password is; an open network without.
    pub password: Option<Secret>,
    /// Country whose rules for radio hold.
    pub country: Option<String>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The network that it leads to.
    pub to: IpNet,
    /// The router.
    pub via: IpAddr,
    /// Its metric.
    pub metric: Option<u32>,
}

impl Route {
    /// Leads everywhere.
    pub fn is_default(&self) -> bool {
        self.to.prefix_len() == 0
    }
}

impl Network {
    /// All fixed addresses that others can reach, that of the node first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let first = self.fixed.as_ref().map(|fixed| fixed.address.addr());
        let mut found = Vec::new();
        for address in self.nets().map(IpNet::addr) {
            let reached = Some(address) == first || !crate::cluster::ip::is_link_local(address);
            if reached && !found.contains(&address) {
                found.push(address);
            }
        }
        found
    }
    /// All fixed addresses with their prefixes, that of the node first; some may be there twice.
    pub fn nets(&self) -> impl Iterator<Item = &IpNet> {
        let links = self.links.iter().flat_map(|link| &link.addresses);
        self.fixed.iter().map(|fixed| &fixed.address).chain(links)
    }
    /// The names and patterns of its interfaces; hardware addresses tell none.
    pub fn names(&self) -> Vec<String> {
        let own = |interface: &Interface| match interface {
            Interface::Name(name) => format!("`{name}`"),
            Interface::Mac(mac) => mac.clone(),
        };
        match self.links.is_empty() {
            true => vec![own(&self.interface)],
            false => self
                .links
                .iter()
                .map(|link| match &link.kind {
                    LinkKind::Ethernet(card) => own(card),
                    LinkKind::Wifi(wifi) => format!("`{}`", wifi.interface),
                    _ => format!("`{}`", link.name),
                })
                .collect(),
        }
    }
    /// Whether the node may have an interface of that name, as far as its names tell.
    pub fn may_have(&self, name: &str) -> bool {
        use crate::cluster::validate::fits;
        let own = |interface: &Interface| match interface {
            Interface::Name(pattern) => fits(pattern, name),
            Interface::Mac(_) => true,
        };
        match self.links.is_empty() {
            true => own(&self.interface),
            false => self.links.iter().any(|link| match &link.kind {
                LinkKind::Ethernet(card) => own(card),
                LinkKind::Wifi(wifi) => wifi.interface == name,
                _ => link.name == name,
            }),
        }
    }
    /// Whether any interface asks a DHCP server for an IPv4 address.
    pub fn asks_dhcp(&self) -> bool {
        if self.links.is_empty() {
            return self.fixed.is_none() && !self.advertised_only;
        }
        self.links.iter().any(|link| link.dhcp)
    }
    /// The Wi-Fi cards.
    pub fn wifis(&self) -> impl Iterator<Item = &Wifi> {
        self.links.iter().filter_map(|link| match &link.kind {
            LinkKind::Wifi(wifi) => Some(wifi),
            _ => None,
        })
    }
}
