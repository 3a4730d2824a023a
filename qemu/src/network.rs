//! Network cards: on user-mode networks, where the guest sees a router and the host nothing but the ports that are
//! forwarded, and on links between two machines.

use crate::Error;
use crate::machine::quoted;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;

/// A TCP port of the host's 127.0.0.1 that leads into the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Port on 127.0.0.1.
    pub host: u16,
    /// Address of the guest; none is the first that QEMU's DHCP server gives.
    pub address: Option<Ipv4Addr>,
    /// Port in the guest.
    pub guest: u16,
}

/// Addresses of a network whose guest has a fixed one. All must differ, and from the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// The network's address.
    pub network: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
    /// The router's address: QEMU's own in the network.
    pub host: Ipv4Addr,
    /// The name server's address.
    pub dns: Ipv4Addr,
    /// The first address that the DHCP server gives.
    pub dhcp: Ipv4Addr,
}

/// A user-mode network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The guest's hardware address: six bytes in hexadecimal with colons.
    pub mac: String,
    /// Addresses; QEMU's own (10.0.2.0/24) when left out.
    pub subnet: Option<Subnet>,
    /// Ports that lead into the guest.
    pub forwards: Vec<Forward>,
    /// The guest can reach the network only, not the host nor the world.
    pub restricted: bool,
}

impl Default for Network {
    fn default() -> Self {
        // The prefix that QEMU hands out; the address is the same in every run, as the boot should be.
        Self { mac: "52:54:00:6b:69:6c".to_owned(), subnet: None, forwards: Vec::new(), restricted: false }
    }
}

/// A cable to a card of another machine on this host. A frame is a UDP packet, so that either side may start, end and
/// start again while the other runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The card's hardware address: six bytes in hexadecimal with colons.
    pub mac: String,
    /// UDP port of 127.0.0.1 that this side receives on.
    pub local: u16,
    /// UDP port of 127.0.0.1 that the other side receives on.
    pub remote: u16,
}

impl Link {
    /// Both ends of a cable between cards with these hardware addresses, on free ports.
    pub fn pair(one: &str, other: &str) -> Result<(Self, Self), Error> {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let ports = bind().and_then(|first| {
            let second = bind()?;
            Ok((first.local_addr()?.port(), second.local_addr()?.port()))
        });
        let (first, second) = ports.map_err(Error::io("find a free port on", Path::new("127.0.0.1")))?;
        Ok((
            Self { mac: one.to_owned(), local: first, remote: second },
            Self { mac: other.to_owned(), local: second, remote: first },
        ))
    }
}

/// A network card and what it is plugged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Card {
    /// A user-mode network.
    User(Network),
    /// A link to another machine.
    Link(Link),
}

impl From<Network> for Card {
    fn from(network: Network) -> Self {
        Self::User(network)
    }
}

impl From<Link> for Card {
    fn from(link: Link) -> Self {
        Self::Link(link)
    }
}

impl Card {
    /// The arguments of card number `index`.
    pub(crate) fn arguments(&self, index: usize) -> Vec<String> {
        let (netdev, mac) = match self {
            Self::User(network) => (network.netdev(index), &network.mac),
            Self::Link(Link { mac, local, remote }) => {
                let side = |side: &str, port: &u16| {
                    format!(",{side}.type=inet,{side}.host=127.0.0.1,{side}.port={port}")
                };
                (format!("dgram,id=net{index}{}{}", side("local", local), side("remote", remote)), mac)
            }
        };
        // Without its boot ROM the card offers the firmware no network boot to wait for.
        let device = format!("virtio-net-pci,netdev=net{index},romfile=,mac={}", quoted(mac));
        vec!["-netdev".to_owned(), netdev, "-device".to_owned(), device]
    }
}

impl Network {
    fn netdev(&self, index: usize) -> String {
        let mut netdev = format!("user,id=net{index}");
        if let Some(Subnet { network, prefix, host, dns, dhcp }) = self.subnet {
            netdev.push_str(&format!(",net={network}/{prefix},host={host},dns={dns},dhcpstart={dhcp}"));
        }
        if self.restricted {
            netdev.push_str(",restrict=on");
        }
        for Forward { host, address, guest } in &self.forwards {
            let address = address.map(|address| address.to_string()).unwrap_or_default();
            netdev.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-{address}:{guest}"));
        }
        netdev
    }
}

/// A port of 127.0.0.1 that nobody listens on at this moment.
pub fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    Ok(address.map_err(Error::io("find a free port on", Path::new("127.0.0.1")))?.port())
}
