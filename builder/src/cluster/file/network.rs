//! `network` of a node.

use crate::cluster::read::{Spanned, Text, document, words};
use crate::cluster::settings::Raw;
use crate::diag::Span;
use std::collections::BTreeMap;

document! {
    /// How a node reaches its network: `dhcp: true`, an `address`, or several `interfaces`.
    NetworkSection, "`network`",
    required {}
    optional {
        /// Ask a DHCP server.
        dhcp: Spanned<bool>,
        /// Fixed address with its prefix length.
        #[schemars(extend("examples" = ["192.168.86.71/24", "2001:db8::71/64"]))]
        address: Text,
        /// Default router.
        #[schemars(extend("examples" = ["192.168.86.1"]))]
        gateway: Text,
        /// Name servers. Without them a node with a fixed address asks its gateway.
        dns: Vec<Text>,
        /// Domains in which short names are looked up.
        search: Vec<Text>,
        /// Name of the interface; `*` stands for any characters. `e*` when left out: every wired one.
        #[schemars(extend("examples" = ["enp1s0", "e*"]))]
        interface: Text,
        /// Hardware address of the interface, instead of its name.
        #[schemars(extend("pattern" = "^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$", "examples" = ["52:54:00:12:34:56"]))]
        mac: Text,
        /// Largest packet in bytes.
        #[schemars(range(min = 68, max = 65535))]
        mtu: Spanned<u32>,
        /// Takes IPv6 addresses and routes from router advertisements. systemd's own choice when left out: yes, unless the
        /// node is a router.
        router_advertisements: Spanned<bool>,
        /// Interfaces by name, instead of all of the above: several network cards, bonds, VLANs, bridges, Wi-Fi.
        #[schemars(with = "Option<BTreeMap<String, InterfaceSection>>")]
        interfaces: BTreeMap<String, (Span, InterfaceSection)>,
    }
}

document! {
    /// A network interface. What says neither `bond`, `vlan`, `bridge` nor `wifi` is a network card.
    InterfaceSection, "an interface",
    required {}
    optional {
        /// Which network card, by its name; `*` stands for any characters. Its key in `interfaces` when left out.
        #[schemars(extend("examples" = ["enp1s0"]))]
        interface: Text,
        /// Which network card, by its hardware address.
        #[schemars(extend("pattern" = "^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$", "examples" = ["52:54:00:12:34:56"]))]
        mac: Text,
        /// Ask a DHCP server for an IPv4 address. `false` when left out.
        dhcp: Spanned<bool>,
        /// Fixed addresses with their prefix lengths.
        #[schemars(extend("examples" = [["192.168.86.71/24", "2001:db8::71/64"]]))]
        addresses: Vec<Text>,
        /// Default router.
        gateway: Text,
        /// Further routes.
        routes: Vec<RouteSection>,
        /// Name servers. Without them an interface with fixed addresses and a gateway asks the gateway.
        dns: Vec<Text>,
        /// Domains in which short names are looked up.
        search: Vec<Text>,
        /// Largest packet in bytes.
        #[schemars(range(min = 68, max = 65535))]
        mtu: Spanned<u32>,
        /// Takes IPv6 addresses and routes from router advertisements. systemd's own choice when left out: yes, unless the
        /// node is a router.
        router_advertisements: Spanned<bool>,
        /// Several network cards as one.
        bond: BondSection,
        /// A virtual network on another interface.
        vlan: VlanSection,
        /// A switch between interfaces.
        bridge: BridgeSection,
        /// A Wi-Fi card.
        wifi: WifiSection,
    }
}

document! {
    /// A route.
    RouteSection, "a route",
    required {
        /// The network that it leads to; `default` is everywhere.
        #[schemars(extend("examples" = ["10.0.0.0/8", "default"]))]
        to: Text,
        /// The router.
        via: Text,
    }
    optional {
        /// Of two routes to one network that with the lower number counts.
        metric: Spanned<u32>,
    }
}

words! {
    /// How a bond uses its interfaces, in the kernel's words.
    BondMode, "a mode of a bond" {
        /// One at a time; the switch need not know.
        ActiveBackup = "active-backup",
        /// LACP; the switch takes part.
        Lacp = "802.3ad",
        /// One after the other.
        RoundRobin = "balance-rr",
        /// By a hash of the addresses.
        Xor = "balance-xor",
        /// All at once.
        Broadcast = "broadcast",
        /// Sends by load.
        TransmitLoad = "balance-tlb",
        /// Sends and receives by load.
        AdaptiveLoad = "balance-alb",
    }
}

words! {
    /// How often a bond of mode 802.3ad tells the switch, in the kernel's words (Linux 6.12, networking/bonding.rst).
    LacpRate, "a rate of LACP" {
        /// Every 30 seconds.
        Slow = "slow",
        /// Every second.
        Fast = "fast",
    }
}

words! {
    /// What of a packet says which card it takes, in the kernel's words (Linux 6.12, networking/bonding.rst), as far as
    /// systemd 257 and netplan 1.1 have them.
    BondHash, "a hash policy of a bond" {
        /// Hardware addresses.
        Layer2 = "layer2",
        /// Hardware and IP addresses.
        Layer23 = "layer2+3",
        /// IP addresses and ports.
        Layer34 = "layer3+4",
        /// As `layer2+3`, inside of tunnels.
        Encap23 = "encap2+3",
        /// As `layer3+4`, inside of tunnels.
        Encap34 = "encap3+4",
    }
}

document! {
    /// Several network cards as one.
    BondSection, "a bond",
    required {
        /// Its network cards, by their keys in `interfaces`.
        interfaces: Spanned<Vec<Text>>,
    }
    optional {
        /// How it uses them. `active-backup` when left out.
        mode: Spanned<BondMode>,
        /// Of `802.3ad`: how often the switch is told. `slow` (every 30 s) when left out.
        lacp_rate: Spanned<LacpRate>,
        /// Of `802.3ad`, `balance-xor` and `balance-tlb`: what of a packet says which card it takes. `layer2` when left out.
        xmit_hash_policy: Spanned<BondHash>,
        /// Milliseconds between two looks at each cable. 100 when left out.
        #[schemars(range(min = 1, max = 60000))]
        miimon: Spanned<u32>,
    }
}

document! {
    /// A virtual network (IEEE 802.1Q) on another interface.
    VlanSection, "a VLAN",
    required {
        /// The interface that it is on, by its key in `interfaces`.
        link: Text,
        /// Its number.
        #[schemars(range(min = 1, max = 4094))]
        id: Spanned<u32>,
    }
    optional {}
}

document! {
    /// A switch between interfaces.
    BridgeSection, "a bridge",
    required {
        /// Its interfaces, by their keys in `interfaces`.
        interfaces: Spanned<Vec<Text>>,
    }
    optional {}
}

document! {
    /// The Wi-Fi network of a card.
    WifiSection, "a Wi-Fi network",
    required {
        /// Its name.
        ssid: Text,
    }
    optional {
        /// Its password (WPA2 or WPA3): where it is kept, such as `{ secret: wifi }`. An open network when left out.
        password: Raw,
        /// Country whose rules for radio hold, as two letters (ISO 3166).
        #[schemars(extend("pattern" = "^[A-Z]{2}$", "examples" = ["DE"]))]
        country: Text,
    }
}
