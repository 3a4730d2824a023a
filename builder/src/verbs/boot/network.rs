//! The network that a node's seed expects, out of QEMU's user network. Pure.

use ipnet::{IpNet, Ipv4Net};
use kiln_qemu::{Forward, Network, Subnet};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// QEMU needs room for the node, the router, the name server and the DHCP server.
const LONGEST_PREFIX: u8 = 28;

/// The network of a machine, and what it can't do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The network.
    pub(super) network: Network,
    /// What is worth a warning.
    pub(super) warnings: Vec<String>,
}

impl Plan {
    /// The command that logs in, if a port leads to the node.
    pub(super) fn ssh(&self, user: &str) -> Option<String> {
        let port = self.network.forwards.first()?.host;
        Some(format!(
            "ssh -p {port} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null {user}@127.0.0.1"
        ))
    }
}

/// network-config of version 2, as far as it matters here.
#[derive(Deserialize)]
struct Config {
    ethernets: BTreeMap<String, Ethernet>,
}

#[derive(Deserialize)]
struct Ethernet {
    #[serde(rename = "match", default)]
    matching: Matching,
    #[serde(default)]
    addresses: Vec<IpNet>,
    #[serde(default)]
    routes: Vec<Route>,
    #[serde(default)]
    nameservers: NameServers,
}

#[derive(Deserialize, Default)]
struct Matching {
    name: Option<String>,
    macaddress: Option<String>,
}

#[derive(Deserialize)]
struct Route {
    via: IpAddr,
}

#[derive(Deserialize, Default)]
struct NameServers {
    #[serde(default)]
    addresses: Vec<IpAddr>,
}

/// The network for a node with this network-config; `port` of 127.0.0.1 leads to its SSH.
pub(super) fn plan(config: &str, port: u16) -> anyhow::Result<Plan> {
    let config: Config = serde_saphyr::from_str(config).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut plan = Plan { network: Network::default(), warnings: Vec::new() };
    let Some(ethernet) = config.ethernets.into_values().next() else {
        // Several interfaces are configured elsewhere.
        let forward = Forward { host: port, address: None, guest: 22 };
        plan.network.forwards.push(forward);
        plan.warnings
            .push("the node has interfaces of its own, and QEMU one card: expect no network".to_owned());
        return Ok(plan);
    };
    if let Some(mac) = ethernet.matching.macaddress {
        plan.network.mac = mac;
    } else if let Some(name) = ethernet.matching.name.filter(|name| !name.contains('*')) {
        plan.warnings.push(format!(
            "the node's network is on interface {name}, which QEMU's card will hardly be called: expect no network"
        ));
    }
    let forward = |address| Forward { host: port, address, guest: 22 };
    match ethernet.addresses.first() {
        None => plan.network.forwards.push(forward(None)),
        Some(IpNet::V6(address)) => plan.warnings.push(format!(
            "the node's fixed address {address} is of IPv6: QEMU's network neither routes it nor leads SSH to it"
        )),
        Some(IpNet::V4(address)) => {
            let gateway = ethernet.routes.iter().find_map(|route| v4(route.via));
            let dns: Vec<Ipv4Addr> = ethernet.nameservers.addresses.iter().copied().filter_map(v4).collect();
            plan.network.subnet = Some(subnet(*address, gateway, &dns));
            plan.network.forwards.push(forward(Some(address.addr())));
        }
    }
    Ok(plan)
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// A network around a node with a fixed address. The name server that the node asks, if it is in there, is QEMU's; a
/// router that is also the name server is QEMU's name server, through which packets go out just the same.
fn subnet(node: Ipv4Net, gateway: Option<Ipv4Addr>, dns: &[Ipv4Addr]) -> Subnet {
    let net = Ipv4Net::new_assert(node.addr(), node.prefix_len().min(LONGEST_PREFIX)).trunc();
    let mut taken = vec![node.addr()];
    let inside = |address: &Ipv4Addr| net.contains(address) && *address != node.addr();
    let dns_wanted = dns.iter().copied().find(inside);
    let host_wanted = gateway.filter(inside).filter(|gateway| Some(*gateway) != dns_wanted);
    // What the seed names is not given to anything else.
    taken.extend(gateway.into_iter().chain(dns.iter().copied()));
    // Every network here has 14 addresses or more, and at most a few are taken.
    let mut free = net.hosts().filter(|address| !taken.contains(address));
    let mut next = || free.next().unwrap_or(net.broadcast());
    Subnet {
        network: net.network(),
        prefix: net.prefix_len(),
        host: host_wanted.unwrap_or_else(&mut next),
        dns: dns_wanted.unwrap_or_else(&mut next),
        dhcp: next(),
    }
}

#[cfg(test)]
mod tests {
    use super::plan;
    use kiln_qemu::Subnet;

    /// What QEMU is told: network, router, name server, first DHCP address.
    fn addresses(address: &str, gateway: &str, dns: &str) -> String {
        let routes = if gateway.is_empty() {
            String::new()
        } else {
            format!("    routes: [{{to: 0.0.0.0/0, via: {gateway}}}]\n")
        };
        let config = format!(
            "version: 2\nethernets:\n  \"e*\":\n    match: {{name: \"e*\"}}\n    dhcp4: false\n    addresses: [\"{address}\"]\n\
             {routes}    nameservers: {{addresses: [{dns}], search: []}}\n"
        );
        let plan = plan(&config, 2222).unwrap();
        let subnet = plan.network.subnet.unwrap();
        assert_eq!(plan.network.forwards[0].address.unwrap().to_string(), address.split('/').next().unwrap());
        let Subnet { network, prefix, host, dns, dhcp } = subnet;
        format!("{network}/{prefix} {host} {dns} {dhcp}")
    }

    #[test]
    fn fixed_addresses() {
        for (address, gateway, dns, wanted) in [
            (
                "192.168.86.71/24",
                "192.168.86.1",
                "",
                "192.168.86.0/24 192.168.86.1 192.168.86.2 192.168.86.3",
            ),
            // The router that answers names is QEMU's name server.
            (
                "192.168.86.71/24",
                "192.168.86.1",
                "192.168.86.1",
                "192.168.86.0/24 192.168.86.2 192.168.86.1 192.168.86.3",
            ),
            (
                "192.168.86.2/24",
                "192.168.86.1",
                "192.168.86.9",
                "192.168.86.0/24 192.168.86.1 192.168.86.9 192.168.86.3",
            ),
            ("10.0.0.1/8", "10.0.0.254", "1.1.1.1", "10.0.0.0/8 10.0.0.254 10.0.0.2 10.0.0.3"),
            ("10.0.0.2/24", "", "", "10.0.0.0/24 10.0.0.1 10.0.0.3 10.0.0.4"),
            // Too small for QEMU, which may know of more than the node.
            ("10.0.0.5/30", "10.0.0.6", "", "10.0.0.0/28 10.0.0.6 10.0.0.1 10.0.0.2"),
        ] {
            assert_eq!(addresses(address, gateway, dns), wanted, "{address} {gateway} {dns}");
        }
    }

    #[test]
    fn dhcp_and_hardware_addresses() {
        let config = "version: 2\nethernets:\n  \"e*\":\n    match:\n      macaddress: \"52:54:00:00:00:01\"\n    dhcp4: true\n";
        let plan = plan(config, 2222).unwrap();
        assert_eq!(plan.network.mac, "52:54:00:00:00:01");
        assert_eq!(plan.network.subnet, None);
        assert_eq!(plan.network.forwards[0].address, None);
        let command =
            "ssh -p 2222 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null anna@127.0.0.1";
        assert_eq!(plan.ssh("anna").unwrap(), command);
        assert!(plan.warnings.is_empty());
    }

    #[test]
    fn what_cannot_be_had_is_said() {
        let config = "ethernets: {enp7s0: {match: {name: enp7s0}, addresses: [\"fd00::5/64\"]}}";
        let plan = plan(config, 2222).unwrap();
        assert_eq!(plan.warnings.len(), 2, "{:?}", plan.warnings);
        assert!(plan.warnings[0].contains("enp7s0") && plan.warnings[1].contains("fd00::5/64"));
        assert_eq!(plan.ssh("anna"), None);
        assert!(super::plan("ethernets: {}", 1).unwrap().warnings[0].contains("interfaces of its own"));
        assert!(super::plan("- nonsense", 1).is_err());
    }
}
