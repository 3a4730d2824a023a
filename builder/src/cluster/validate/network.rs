//! `network` of a node.

use super::{Check, DOMAIN, Rule};
use crate::cluster::file::NetworkSection;
use crate::cluster::model::{Fixed, Interface, Network};
use crate::cluster::read::Text;
use crate::cluster::words;
use crate::diag::{Fault, Span};
use ipnet::IpNet;
use std::net::IpAddr;

const INTERFACE: Rule = Rule {
    check: words::interface,
    what: "an interface name",
    code: "interface",
    help: "`ip link` lists names such as `enp1s0`; `e*` stands for every wired one",
};

impl Check<'_> {
    pub(super) fn network(&mut self, section: Option<&NetworkSection>) -> Network {
        let every_wired = Interface::Name("e*".to_owned());
        let Some(section) = section else {
            return Network { interface: every_wired, fixed: None, dns: Vec::new(), search: Vec::new() };
        };
        let name = section.interface.as_ref().and_then(|name| self.word(name, INTERFACE));
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
        Network { interface, fixed, dns, search }
    }

    fn fixed(&mut self, section: &NetworkSection) -> Option<Fixed> {
        let dhcp = section.dhcp.as_ref();
        let Some(text) = &section.address else {
            if let Some(dhcp) = dhcp.filter(|dhcp| !dhcp.value) {
                let fault = Fault::error("network", &dhcp.span, "without DHCP the node needs an `address`");
                self.faults.push(
                    fault.label("no DHCP").help("add `address: 192.168.1.10/24`, or write `dhcp: true`"),
                );
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
        let gateway =
            section.gateway.as_ref().and_then(|gateway| self.gateway(gateway, &address, &text.span));
        Some(Fixed { address, gateway })
    }

    fn address(&mut self, text: &Text) -> Option<IpNet> {
        let mut fail = |message: String, help: String| {
            self.faults.push(Fault::error("address", &text.span, message).label("here").help(help));
        };
        let example = "write address and prefix length, such as `192.168.86.71/24`";
        let net: IpNet = match text.value.parse() {
            Ok(net) => net,
            Err(_) if text.value.parse::<IpAddr>().is_ok() => {
                fail(
                    format!("{:?} lacks its prefix length", text.value),
                    format!("write `{}/24` if the netmask is 255.255.255.0", text.value),
                );
                return None;
            }
            Err(_) => {
                fail(
                    format!("{:?} is not an address with a prefix length (CIDR)", text.value),
                    example.to_owned(),
                );
                return None;
            }
        };
        let address = net.addr();
        let point_to_point = net.max_prefix_len() - net.prefix_len() <= 1;
        if address.is_loopback() || address.is_multicast() || address.is_unspecified() {
            fail(format!("{address} can't be a node's address"), example.to_owned());
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
        let address = text.value.parse().ok();
        if address.is_none() {
            let fault = Fault::error(code, &text.span, format!("{:?} is not an IP address", text.value))
                .label("here");
            self.faults.push(fault.help("write an address without a prefix length, such as `192.168.86.1`"));
        }
        address
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
