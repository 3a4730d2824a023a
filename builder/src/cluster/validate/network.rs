//! `network` of a node.

mod cards;
mod links;
mod together;

pub(in crate::cluster) use cards::{fits, is_kernels};

use super::{Check, DOMAIN, Rule, Seen};
use crate::cluster::file::NetworkSection;
use crate::cluster::model::{Fixed, Interface, LinkKind, Network};
use crate::cluster::read::Text;
use crate::cluster::{ip, words};
use crate::diag::{Fault, Span};
use ipnet::IpNet;
use std::net::IpAddr;

const INTERFACE: Rule = Rule {
    check: words::interface,
    what: "an interface name",
    code: "interface",
    help: "`ip link` lists names such as `enp1s0`; `e*` stands for every wired one",
};

/// Firmware packages of Wi-Fi cards that [`crate::cluster::AUTO_FIRMWARE`] has not.
const WIFI_FIRMWARE: [&str; 9] = [
    "atmel-firmware",
    "firmware-ath9k-htc",
    "firmware-atheros",
    "firmware-b43-installer",
    "firmware-brcm80211",
    "firmware-iwlwifi",
    "firmware-libertas",
    "firmware-mediatek",
    "firmware-ti-connectivity",
];

/// What no two nodes share.
pub(super) struct Known {
    addresses: Seen,
    macs: Seen,
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            addresses: Seen::new("duplicate-address", "the address", "give each node its own address"),
            macs: Seen::new("duplicate-mac", "the hardware address", "give each node its own"),
        }
    }
}

impl Check<'_> {
    pub(super) fn network(&mut self, section: Option<&NetworkSection>, known: &mut Known) -> Network {
        let every_wired = Interface::Name("e*".to_owned());
        let Some(section) = section else {
            return Network {
                interface: every_wired,
                fixed: None,
                dns: Vec::new(),
                search: Vec::new(),
                mtu: None,
                advertised_only: false,
                router_advertisements: None,
                links: Vec::new(),
            };
        };
        if let Some(interfaces) = &section.interfaces {
            self.short_form(section);
            let mut written: Vec<_> = interfaces.iter().collect();
            written.sort_by_key(|(_, (place, _))| place.start);
            let links: Vec<_> = written.into_iter().filter_map(|one| self.link(one, known)).collect();
            if interfaces.is_empty() {
                let fault = Fault::error("network", &section.span, "`interfaces` has no interface");
                self.faults.push(fault.label("here").help("add one, or write `dhcp: true` instead"));
            } else {
                self.together(interfaces, &links);
            }
            let reached = |address: &&IpNet| !ip::is_link_local(address.addr());
            let primary =
                links.iter().find(|link| link.addresses.iter().any(|one| reached(&one))).or(links.first());
            let interface = match primary.map(|link| (&link.name, &link.kind)) {
                Some((_, LinkKind::Ethernet(card))) => card.clone(),
                Some((_, LinkKind::Wifi(wifi))) => Interface::Name(wifi.interface.clone()),
                Some((name, _)) => Interface::Name(name.clone()),
                None => every_wired,
            };
            let fixed = primary.and_then(|link| {
                let address = *link.addresses.iter().find(reached)?;
                let same = |via: &IpAddr| via.is_ipv4() == address.addr().is_ipv4();
                let routes = link.routes.iter().filter(|route| route.is_default()).map(|route| route.via);
                Some(Fixed { address, gateway: routes.into_iter().find(same) })
            });
            let dns = links.iter().flat_map(|link| link.dns.iter().copied()).collect();
            let search = links.iter().flat_map(|link| link.search.iter().cloned()).collect();
            return Network {
                interface,
                fixed,
                dns,
                search,
                mtu: None,
                advertised_only: false,
                router_advertisements: None,
                links,
            };
        }
        let name = section.interface.as_ref().and_then(|name| self.word(name, INTERFACE));
        if let (Some(_), Some(text)) = (&name, &section.interface) {
            self.card(text);
        }
        let mac = section.mac.as_ref().and_then(|mac| self.mac(mac));
        if let (Some(_), Some(mac)) = (&section.interface, &section.mac) {
            let fault =
                Fault::error("interface", &mac.span, "`interface` and `mac` both say which interface it is");
            self.faults.push(fault.label("and this").help("keep one of the two"));
        }
        let interface = mac.map(Interface::Mac).or_else(|| name.map(Interface::Name)).unwrap_or(every_wired);
        let fixed = self.fixed(section);
        let mut dns: Vec<IpAddr> =
            section.dns.iter().flatten().filter_map(|dns| self.ip(dns, "dns")).collect();
        if section.dns.is_none() {
            dns.extend(fixed.as_ref().and_then(|fixed| fixed.gateway));
        }
        let search = section.search.iter().flatten().filter_map(|domain| self.word(domain, DOMAIN)).collect();
        if let (Some(fixed), Some(text)) = (&fixed, &section.address) {
            known.addresses.check(&fixed.address.addr().to_string(), &text.span, self.faults);
        }
        if let (Interface::Mac(mac), Some(text)) = (&interface, &section.mac) {
            known.macs.check(mac, &text.span, self.faults);
        }
        let addresses: Vec<IpNet> = fixed.iter().map(|fixed| fixed.address).collect();
        let mtu = section.mtu.as_ref().map(|mtu| self.mtu(mtu, &addresses));
        let router_advertisements = section.router_advertisements.as_ref().map(|word| word.value);
        let advertised_only = fixed.is_none()
            && section.dhcp.as_ref().is_some_and(|dhcp| !dhcp.value)
            && router_advertisements == Some(true);
        Network {
            interface,
            fixed,
            dns,
            search,
            mtu,
            advertised_only,
            router_advertisements,
            links: Vec::new(),
        }
    }

    /// Firmware that a Wi-Fi card most likely needs, among the packages that the file names.
    pub(super) fn wifi_firmware(
        &mut self,
        section: Option<&NetworkSection>,
        mut packages: impl Iterator<Item = impl AsRef<str>>,
    ) {
        let interfaces = section.and_then(|section| section.interfaces.as_ref());
        let wifi = interfaces.into_iter().flatten().find_map(|(_, (_, section))| section.wifi.as_ref());
        let Some(wifi) = wifi else { return };
        if packages.any(|package| WIFI_FIRMWARE.contains(&package.as_ref())) {
            return;
        }
        let place = wifi.ssid.as_ref().map_or(&wifi.span, |ssid| &ssid.span);
        let message = "most Wi-Fi cards need firmware, and no package of it is named";
        let fault = Fault::warning("wifi-firmware", place, message);
        self.faults.push(fault.label("for this card").help(
            "add its package to `packages`, such as `firmware-iwlwifi`, `firmware-atheros` or `firmware-brcm80211`; \
             those for Realtek cards are there",
        ));
    }

    fn fixed(&mut self, section: &NetworkSection) -> Option<Fixed> {
        let dhcp = section.dhcp.as_ref();
        let Some(text) = &section.address else {
            let advertised = section.router_advertisements.as_ref().is_some_and(|word| word.value);
            if let Some(dhcp) = dhcp.filter(|dhcp| !dhcp.value && !advertised) {
                let fault = Fault::error("network", &dhcp.span, "without DHCP the node needs an `address`");
                self.faults.push(fault.label("no DHCP").help(
                    "add `address: 192.168.1.10/24`, or write `dhcp: true`; with `router_advertisements: true` alone it has IPv6 only",
                ));
            }
            if let Some(gateway) = &section.gateway {
                let fault =
                    Fault::error("network", &gateway.span, "a `gateway` needs an `address` beside it");
                self.faults
                    .push(fault.label("alone").help("add `address:`, or remove it: DHCP brings its own"));
            }
            return None;
        };
        if let Some(dhcp) = dhcp.filter(|dhcp| dhcp.value) {
            let fault =
                Fault::error("network", &dhcp.span, "`dhcp: true` and a fixed `address` exclude each other");
            self.faults.push(fault.label("this").also(&text.span, "and this").help("keep one of the two"));
        }
        let address = self.address(text)?;
        if ip::is_link_local(address.addr()) {
            let message =
                format!("{} is of this link alone: no other network reaches the node", address.addr());
            let fault = Fault::error("address", &text.span, message).label("link-local");
            self.faults.push(
                fault.help("give an address of your network, such as `192.168.86.71/24` or `fd00:86::71/64`"),
            );
            return None;
        }
        let gateway =
            section.gateway.as_ref().and_then(|gateway| self.gateway(gateway, &address, &text.span));
        Some(Fixed { address, gateway })
    }

    fn address(&mut self, text: &Text) -> Option<IpNet> {
        let mut fail = |message: String, help: String| {
            self.faults.push(Fault::error("address", &text.span, message).label("here").help(help));
        };
        let example = "write address and prefix length, such as `192.168.86.71/24`";
        let net: IpNet = match ip::network(&text.value) {
            Ok(net) => net,
            Err(_) if ip::address(&text.value).is_ok() => {
                fail(
                    format!("{:?} lacks its prefix length", text.value),
                    format!("write `{}/24` if the netmask is 255.255.255.0", text.value),
                );
                return None;
            }
            Err(reason) => {
                fail(
                    format!("{:?} is not an address with a prefix length (CIDR): {reason}", text.value),
                    example.to_owned(),
                );
                return None;
            }
        };
        let address = net.addr();
        let point_to_point = net.max_prefix_len() - net.prefix_len() <= 1;
        if let Some(reason) = ip::refused(address) {
            fail(format!("{address} can't be a node's address: {reason}"), example.to_owned());
            return None;
        }
        if !point_to_point && address == net.network() {
            fail(format!("{address} is the address of the network {net} itself"), example.to_owned());
            return None;
        }
        if !point_to_point && address.is_ipv4() && address == net.broadcast() {
            fail(format!("{address} is the broadcast address of {}", net.trunc()), example.to_owned());
            return None;
        }
        Some(net)
    }

    fn gateway(&mut self, text: &Text, address: &IpNet, near: &Span) -> Option<IpAddr> {
        let gateway = self.ip(text, "gateway")?;
        let link_local =
            matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local()) && address.addr().is_ipv6();
        let mut fail = |message: String, help: &str| {
            let fault = Fault::error("gateway", &text.span, message).label("here");
            self.faults.push(fault.also(near, "the node's address").help(help));
        };
        if gateway == address.addr() {
            fail(format!("the gateway {gateway} is the node itself"), "give the router's address");
            return None;
        }
        if !link_local && !address.contains(&gateway) {
            let message = format!("the gateway {gateway} is outside the node's subnet {}", address.trunc());
            fail(message, "the node could not reach it: check the prefix length and both addresses");
            return None;
        }
        let narrow = address.max_prefix_len() - address.prefix_len() <= 1;
        if !narrow && gateway.is_ipv4() && (gateway == address.network() || gateway == address.broadcast()) {
            let message = format!("the gateway {gateway} is the first or the last of {}", address.trunc());
            fail(message, "those two stand for the network itself: give the router's address");
            return None;
        }
        Some(gateway)
    }

    fn ip(&mut self, text: &Text, code: &'static str) -> Option<IpAddr> {
        match ip::address(&text.value) {
            Ok(address) => Some(address),
            Err(reason) => {
                let message = format!("{:?} is not an IP address: {reason}", text.value);
                let fault = Fault::error(code, &text.span, message).label("here");
                self.faults
                    .push(fault.help("write an address without a prefix length, such as `192.168.86.1`"));
                None
            }
        }
    }

    fn mac(&mut self, text: &Text) -> Option<String> {
        match words::mac(&text.value) {
            Ok(mac) => Some(mac),
            Err(reason) => {
                let message = format!("{:?} is not a hardware address: {reason}", text.value);
                let fault = Fault::error("mac", &text.span, message).label("here");
                self.faults
                    .push(fault.help("`ip link` shows it behind `link/ether`, such as 52:54:00:12:34:56"));
                None
            }
        }
    }
}
