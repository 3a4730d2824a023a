//! `network.interfaces`: every interface by itself.

use super::{INTERFACE, Known};
use crate::cluster::file::{BondSection, InterfaceSection, NetworkSection, RouteSection, WifiSection};
use crate::cluster::model::{BondMode, Bonding, Interface, Link, LinkKind, Route, Wifi};
use crate::cluster::read::{Spanned, Text};
use crate::cluster::settings::Reading;
use crate::cluster::validate::{Check, DOMAIN, Rule};
use crate::cluster::{ip, words};
use crate::diag::{Fault, Span};
use ipnet::IpNet;
use std::net::IpAddr;

const MADE: Rule = Rule {
    check: plain_interface,
    what: "the name of an interface",
    code: "interface",
    help: "write at most 15 of letters, digits, `-`, `_` and `.`, without patterns, such as `bond0`",
};

/// Bytes that every IPv6 network carries in one packet (RFC 8200 §5).
const IPV6_MTU: u32 = 1280;

fn plain_interface(text: &str) -> Result<(), &'static str> {
    words::interface(text)?;
    match text.contains(['*', '?', '[', ']']) || text.starts_with('.') {
        true => Err("it is a pattern, and one interface has one name"),
        false => Ok(()),
    }
}

/// An interface as it is written: its key, the key's place, and what stands behind it.
pub(super) type Written<'a> = (&'a String, &'a (Span, InterfaceSection));

impl Check<'_> {
    /// What of the short form stands beside `interfaces`.
    pub(super) fn short_form(&mut self, section: &NetworkSection) {
        let spans = [
            ("dhcp", section.dhcp.as_ref().map(|word| &word.span)),
            ("address", section.address.as_ref().map(|text| &text.span)),
            ("gateway", section.gateway.as_ref().map(|text| &text.span)),
            ("dns", section.dns.as_ref().and_then(|list| list.first()).map(|text| &text.span)),
            ("search", section.search.as_ref().and_then(|list| list.first()).map(|text| &text.span)),
            ("interface", section.interface.as_ref().map(|text| &text.span)),
            ("mtu", section.mtu.as_ref().map(|word| &word.span)),
            ("router_advertisements", section.router_advertisements.as_ref().map(|word| &word.span)),
            ("mac", section.mac.as_ref().map(|text| &text.span)),
        ];
        for (key, span) in spans.into_iter().filter_map(|(key, span)| Some((key, span?))) {
            let message = format!("`{key}` and `interfaces` exclude each other");
            let help = format!("write `{key}` below the interface that it is about");
            self.faults.push(Fault::error("network", span, message).label("beside `interfaces`").help(help));
        }
    }

    /// The interface, as far as it can be told without the others.
    pub(super) fn link(&mut self, (name, (place, section)): Written<'_>, known: &mut Known) -> Option<Link> {
        let before = self.faults.len();
        let key = Text { value: name.clone(), span: place.clone() };
        self.word(&key, MADE);
        let kind = self.kind(&key, section, known);
        let addresses: Vec<IpNet> = section
            .addresses
            .iter()
            .flatten()
            .filter_map(|text| {
                let address = self.address(text)?;
                known.addresses.check(&address.addr().to_string(), &text.span, self.faults);
                Some(address)
            })
            .collect();
        let dhcp = section.dhcp.as_ref().is_some_and(|dhcp| dhcp.value);
        let mut routes = Vec::new();
        if let Some(text) = &section.gateway {
            routes.extend(self.default_route(text, &addresses));
        }
        for route in section.routes.iter().flatten() {
            routes.extend(self.route(route, (&addresses, dhcp)));
        }
        let mut dns: Vec<IpAddr> =
            section.dns.iter().flatten().filter_map(|dns| self.ip(dns, "dns")).collect();
        if section.dns.is_none() && section.gateway.is_some() && !dhcp {
            dns.extend(routes.first().map(|route| route.via));
        }
        let search = section.search.iter().flatten().filter_map(|domain| self.word(domain, DOMAIN)).collect();
        let mtu = section.mtu.as_ref().map(|mtu| self.mtu(mtu, &addresses));
        let router_advertisements = section.router_advertisements.as_ref().map(|word| word.value);
        let link = Link {
            name: name.clone(),
            kind: kind?,
            dhcp,
            addresses,
            routes,
            dns,
            search,
            mtu,
            router_advertisements,
        };
        // Whatever was wrong with it, others may speak of it: it is kept, and the faults end the work.
        debug_assert!(self.faults.len() >= before);
        Some(link)
    }

    fn kind(&mut self, key: &Text, section: &InterfaceSection, known: &mut Known) -> Option<LinkKind> {
        let kinds = [
            ("bond", section.bond.as_ref().map(|bond| &bond.span)),
            ("vlan", section.vlan.as_ref().map(|vlan| &vlan.span)),
            ("bridge", section.bridge.as_ref().map(|bridge| &bridge.span)),
            ("wifi", section.wifi.as_ref().map(|wifi| &wifi.span)),
        ];
        let given: Vec<&str> =
            kinds.iter().filter(|(_, span)| span.is_some()).map(|(kind, _)| *kind).collect();
        if let [one, other, ..] = given[..] {
            let message = format!("`{}` is a {one} and a {other} at once", key.value);
            let fault = Fault::error("interface", &key.span, message).label("this interface");
            self.faults
                .push(fault.help("keep one of the two; an interface of its own can stand on top of it"));
            return None;
        }
        let made = section.bond.is_some() || section.vlan.is_some() || section.bridge.is_some();
        for text in [&section.interface, &section.mac].into_iter().flatten().filter(|_| made) {
            let message = format!("`{}` is no network card, and so has no other name", key.value);
            let help = "remove this line; the cards that it uses are interfaces of their own";
            self.faults.push(Fault::error("interface", &text.span, message).label("here").help(help));
        }
        let names = |list: Option<&Spanned<Vec<Text>>>| -> Vec<String> {
            list.iter().flat_map(|list| &list.value).map(|text| text.value.clone()).collect()
        };
        if let Some(bond) = &section.bond {
            let bonding = self.bonding(bond);
            return Some(LinkKind::Bond { interfaces: names(bond.interfaces.as_ref()), bonding });
        }
        if let Some(bridge) = &section.bridge {
            return Some(LinkKind::Bridge { interfaces: names(bridge.interfaces.as_ref()) });
        }
        if let Some(vlan) = &section.vlan {
            let id = vlan.id.as_ref()?;
            if !(1..=4094).contains(&id.value) {
                let fault =
                    Fault::error("vlan", &id.span, format!("there is no VLAN {}", id.value)).label("here");
                self.faults.push(fault.help("VLANs have the numbers 1 to 4094"));
            }
            return Some(LinkKind::Vlan { link: vlan.link.as_ref()?.value.clone(), id: id.value });
        }
        if let Some(wifi) = &section.wifi {
            return self.wifi(key, section, wifi).map(LinkKind::Wifi);
        }
        if let (Some(_), Some(mac)) = (&section.interface, &section.mac) {
            let fault =
                Fault::error("interface", &mac.span, "`interface` and `mac` both say which interface it is");
            self.faults.push(fault.label("and this").help("keep one of the two"));
        }
        let card = match (&section.mac, &section.interface) {
            (Some(text), _) => {
                let mac = self.mac(text)?;
                known.macs.check(&mac, &text.span, self.faults);
                Interface::Mac(mac)
            }
            (None, Some(name)) => {
                let word = self.word(name, INTERFACE)?;
                self.card(name);
                Interface::Name(word)
            }
            (None, None) => {
                self.card(key);
                Interface::Name(key.value.clone())
            }
        };
        Some(LinkKind::Ethernet(card))
    }

    fn bonding(&mut self, bond: &BondSection) -> Bonding {
        let mode = bond.mode.as_ref().map_or(BondMode::ActiveBackup, |mode| mode.value);
        let mut only = |key: &str, span: Option<&Span>, modes: &[BondMode]| {
            let Some(span) = span.filter(|_| !modes.contains(&mode)) else { return };
            let words: Vec<String> = modes.iter().map(|mode| format!("`mode: {mode}`")).collect();
            let message = format!("`{key}` means nothing to a bond of mode {mode}");
            let fault = Fault::error("bond", span, message).label("here");
            self.faults.push(fault.help(format!("remove it, or write {}", words.join(" or "))));
        };
        // Which modes read them: Linux 6.12, Documentation/networking/bonding.rst.
        only("lacp_rate", bond.lacp_rate.as_ref().map(|word| &word.span), &[BondMode::Lacp]);
        let hashing = [BondMode::Lacp, BondMode::Xor, BondMode::TransmitLoad];
        only("xmit_hash_policy", bond.xmit_hash_policy.as_ref().map(|word| &word.span), &hashing);
        if let Some(miimon) = bond.miimon.as_ref().filter(|miimon| !(1..=60_000).contains(&miimon.value)) {
            let message = format!("`miimon` is {} ms", miimon.value);
            let fault = Fault::error("bond", &miimon.span, message).label("here");
            self.faults.push(fault.help(
                "it is from 1 to 60000, and usually 100: without it a cable that is pulled goes unnoticed",
            ));
        }
        Bonding {
            mode,
            lacp_rate: bond.lacp_rate.as_ref().map(|word| word.value),
            hash: bond.xmit_hash_policy.as_ref().map(|word| word.value),
            miimon: bond.miimon.as_ref().map_or(100, |miimon| miimon.value),
        }
    }

    fn wifi(&mut self, key: &Text, section: &InterfaceSection, wifi: &WifiSection) -> Option<Wifi> {
        if let Some(mac) = &section.mac {
            let message = "a Wi-Fi card is told by its name, not by its hardware address";
            let help = "`ip link` lists names such as `wlan0` or `wlp2s0`: write `interface:` with it";
            self.faults.push(Fault::error("wifi", &mac.span, message).label("here").help(help));
        }
        let interface = match &section.interface {
            Some(name) => self.word(name, MADE)?,
            None => key.value.clone(),
        };
        let ssid = wifi.ssid.as_ref()?;
        // IEEE 802.11-2020 §9.4.2.2: an SSID has up to 32 bytes.
        if ssid.value.is_empty() || ssid.value.len() > 32 {
            let fault = Fault::error("wifi", &ssid.span, "the name of a Wi-Fi network has 1 to 32 bytes")
                .label("here");
            self.faults.push(fault.help("write it as other machines show it"));
        }
        let password = wifi.password.as_ref().and_then(|raw| {
            let mut reading = Reading {
                faults: self.faults,
                folder: self.folder,
                what: "a Wi-Fi network".to_owned(),
                place: raw.0.span.clone(),
            };
            reading.secret(&raw.0, "password")
        });
        let country = wifi.country.as_ref();
        if let Some(text) =
            country.filter(|c| c.value.len() != 2 || !c.value.chars().all(|c| c.is_ascii_uppercase()))
        {
            let fault =
                Fault::error("wifi", &text.span, format!("{:?} is not a country", text.value)).label("here");
            self.faults.push(fault.help("write its two letters (ISO 3166) in capitals, such as `DE`"));
        }
        let country = country.map(|country| country.value.clone());
        Some(Wifi { interface, ssid: ssid.value.clone(), password, country })
    }

    fn default_route(&mut self, text: &Text, addresses: &[IpNet]) -> Option<Route> {
        let gateway = self.ip(text, "gateway")?;
        let same = |address: &&IpNet| address.addr().is_ipv4() == gateway.is_ipv4();
        let family: Vec<&IpNet> = addresses.iter().filter(same).collect();
        if family.is_empty() {
            let fault =
                Fault::error("gateway", &text.span, "a `gateway` needs an address of its kind beside it");
            self.faults
                .push(fault.label("alone").help("add it to `addresses:`, or remove it: DHCP brings its own"));
            return None;
        }
        if !family.iter().any(|address| reaches(address, gateway)) {
            let subnets =
                family.iter().map(|address| address.trunc().to_string()).collect::<Vec<_>>().join(", ");
            let message = format!("the gateway {gateway} is outside the interface's subnet {subnets}");
            let fault = Fault::error("gateway", &text.span, message).label("here");
            self.faults
                .push(fault.help("the node could not reach it: check the prefix length and both addresses"));
        }
        if family.iter().any(|address| address.addr() == gateway) {
            let fault =
                Fault::error("gateway", &text.span, format!("the gateway {gateway} is the node itself"));
            self.faults.push(fault.label("here").help("give the router's address"));
        }
        Some(Route { to: everywhere(gateway), via: gateway, metric: None })
    }

    fn route(&mut self, section: &RouteSection, (addresses, dhcp): (&[IpNet], bool)) -> Option<Route> {
        let (to, via) = (section.to.as_ref()?, section.via.as_ref()?);
        let router = self.ip(via, "route")?;
        let network = match to.value.as_str() {
            "default" => everywhere(router),
            text => match ip::network(text) {
                Ok(network) if network == network.trunc() => network,
                Ok(network) => {
                    let message = format!("{network} is an address in the network {}", network.trunc());
                    let fault = Fault::error("route", &to.span, message).label("here");
                    self.faults.push(fault.help("a route leads to a network: write that"));
                    return None;
                }
                Err(_) => {
                    let message = format!("{:?} is not a network with a prefix length (CIDR)", to.value);
                    let fault = Fault::error("route", &to.span, message).label("here");
                    self.faults.push(fault.help("write it such as `10.0.0.0/8`, or `default`"));
                    return None;
                }
            },
        };
        if network.addr().is_ipv4() != router.is_ipv4() {
            let fault = Fault::error(
                "route",
                &via.span,
                format!("no IPv{} router leads to {network}", if router.is_ipv4() { 4 } else { 6 }),
            )
            .label("here");
            self.faults.push(fault.help("give the router's address of the same kind as the network's"));
            return None;
        }
        if !dhcp && !addresses.iter().any(|address| reaches(address, router)) {
            let message = format!("the router {router} is in no subnet of the interface");
            let fault = Fault::error("route", &via.span, message).label("here");
            self.faults.push(fault.help("the node could not reach it: check `addresses` and `via`"));
        }
        Some(Route { to: network, via: router, metric: section.metric.as_ref().map(|metric| metric.value) })
    }

    pub(super) fn mtu(&mut self, mtu: &Spanned<u32>, addresses: &[IpNet]) -> u32 {
        let least = if addresses.iter().any(|address| address.addr().is_ipv6()) { IPV6_MTU } else { 68 };
        if !(least..=65_535).contains(&mtu.value) {
            let message = format!("an `mtu` of {} is not possible here", mtu.value);
            let fault = Fault::error("mtu", &mtu.span, message).label("here");
            self.faults.push(fault.help(format!("it is from {least} to 65535; Ethernet's usual is 1500")));
        }
        mtu.value
    }
}

/// True when an interface with that address reaches that router.
fn reaches(address: &IpNet, router: IpAddr) -> bool {
    let link_local = matches!(router, IpAddr::V6(v6) if v6.is_unicast_link_local());
    address.contains(&router) || link_local && address.addr().is_ipv6()
}

/// The network of all addresses of the router's kind.
fn everywhere(router: IpAddr) -> IpNet {
    let all = if router.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0_u16; 8]) };
    IpNet::new_assert(all, 0)
}
