//! `network-config`, version 2 (networkd-style names of netplan's).

use super::template::{NETWORK_CONFIG, render};
use super::yaml::{map, plain, print, set, texts};
use super::{Error, Target, Vault, wifi};
use crate::cluster::user_data::Yaml;
use crate::cluster::{Interface, Link, LinkKind, Node};
use minijinja::{Value, context};
use std::sync::Arc;

/// What stands in the place of a configuration on a Kiln image whose node has several interfaces: cloud-init's renderer for
/// systemd-networkd knows no bonds, VLANs, bridges and Wi-Fi, so the seed has networkd's own files (see `networkd`).
const ELSEWHERE: &str = "# The files of systemd-networkd are in user-data.\nversion: 2\nethernets: {}\n";

/// What netplan calls the only interface of a node where a pattern or an address tells it.
const LAN: &str = "lan";

/// The document of `node`.
pub(super) fn config(node: &Node, target: Target, vault: &Arc<dyn Vault>) -> Result<String, Error> {
    match (node.network.links.is_empty(), target) {
        (true, target) => render(&NETWORK_CONFIG, one(node, target)),
        (false, Target::Kiln) => Ok(ELSEWHERE.to_owned()),
        (false, Target::Stock) => several(node, vault),
    }
}

fn one(node: &Node, target: Target) -> Value {
    let network = &node.network;
    let (interface, mac) = match &network.interface {
        Interface::Name(name) => (name.as_str(), None),
        // The renderer wants a name too; cloud-init replaces it with the true one when it sees the address.
        Interface::Mac(mac) => ("e*", Some(mac)),
    };
    // netplan refuses a key with a pattern ("Definition ID must not use globbing") and goes by `match`.
    let pattern = interface.contains(['*', '?', '[']);
    let key = if target == Target::Stock && pattern { LAN } else { interface };
    let fixed = network.fixed.as_ref().map(|fixed| {
        context! {
            address => fixed.address.to_string(),
            gateway => fixed.gateway.map(|gateway| gateway.to_string()),
            // cloud-init's networkd renderer has no word `default`.
            everywhere => if fixed.address.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" },
        }
    });
    let dns: Vec<String> = network.dns.iter().map(ToString::to_string).collect();
    context! {
        key, interface, mac, fixed, dns, search => &network.search,
        dhcp => network.asks_dhcp(),
        mtu => network.mtu,
        accept_ra => network.router_advertisements,
    }
}

/// netplan's own words, which cloud-init hands through to it.
fn several(node: &Node, vault: &Arc<dyn Vault>) -> Result<String, Error> {
    let mut kinds: [(&str, Vec<(Yaml, Yaml)>); 5] =
        ["ethernets", "bonds", "bridges", "vlans", "wifis"].map(|kind| (kind, Vec::new()));
    for link in &node.network.links {
        let mut entries = Vec::new();
        // A Wi-Fi card is told by the key alone.
        let (kind, name) = match &link.kind {
            LinkKind::Ethernet(_) => (0, &link.name),
            LinkKind::Bond { .. } => (1, &link.name),
            LinkKind::Bridge { .. } => (2, &link.name),
            LinkKind::Vlan { .. } => (3, &link.name),
            LinkKind::Wifi(wifi) => (4, &wifi.interface),
        };
        let mut put = |key: &str, value: Yaml| set(&mut entries, key, value);
        match &link.kind {
            LinkKind::Ethernet(Interface::Name(name)) => put("match", map([("name", Yaml::text(name))])),
            LinkKind::Ethernet(Interface::Mac(mac)) => put("match", map([("macaddress", Yaml::text(mac))])),
            LinkKind::Bond { interfaces, bonding } => {
                put("interfaces", texts(interfaces));
                let mut parameters = Vec::new();
                let mut add = |key: &str, value: &str| parameters.push((Yaml::text(key), Yaml::text(value)));
                add("mode", bonding.mode.as_str());
                // Without it the kernel does not notice when a cable is pulled.
                add("mii-monitor-interval", &bonding.miimon.to_string());
                if let Some(rate) = bonding.lacp_rate {
                    add("lacp-rate", rate.as_str());
                }
                if let Some(hash) = bonding.hash {
                    add("transmit-hash-policy", hash.as_str());
                }
                put("parameters", Yaml::Map(parameters));
            }
            LinkKind::Bridge { interfaces } => {
                put("interfaces", texts(interfaces));
                put("parameters", map([("stp", plain(false))]));
            }
            LinkKind::Vlan { link, id } => {
                put("id", plain(id));
                put("link", Yaml::text(link));
            }
            LinkKind::Wifi(wifi) => {
                if let Some(country) = &wifi.country {
                    put("regulatory-domain", Yaml::text(country));
                }
                let password = wifi::password(wifi, vault)?;
                let point =
                    password.map_or(Yaml::Map(Vec::new()), |text| map([("password", Yaml::text(text))]));
                put("access-points", Yaml::Map(vec![(Yaml::text(&wifi.ssid), point)]));
            }
        }
        let mtu = link.mtu.or_else(|| bridge_mtu(node, link));
        addresses((link, mtu), &mut put);
        kinds[kind].1.push((Yaml::text(name), Yaml::Map(entries)));
    }
    let mut document = vec![(Yaml::text("version"), plain(2))];
    let kinds = kinds.into_iter().filter(|(_, links)| !links.is_empty());
    document.extend(kinds.map(|(kind, links)| (Yaml::text(kind), Yaml::Map(links))));
    Ok(print(&document))
}

/// The largest packet of the bridge that this is a port of. netplan gives the bridge its size when it makes it, which the
/// kernel takes for no wish of anybody's: the first port that comes changes it to its own.
fn bridge_mtu(node: &Node, port: &Link) -> Option<u32> {
    let bridge = node.network.links.iter().find(
        |link| matches!(&link.kind, LinkKind::Bridge { interfaces } if interfaces.contains(&port.name)),
    );
    bridge?.mtu
}

fn addresses((link, mtu): (&Link, Option<u32>), put: &mut impl FnMut(&str, Yaml)) {
    put("dhcp4", plain(link.dhcp));
    if let Some(taken) = link.router_advertisements {
        put("accept-ra", plain(taken));
    }
    if let Some(mtu) = mtu {
        put("mtu", plain(mtu));
    }
    if !link.addresses.is_empty() {
        put("addresses", texts(&link.addresses));
    }
    if !link.dns.is_empty() || !link.search.is_empty() {
        put("nameservers", map([("addresses", texts(&link.dns)), ("search", texts(&link.search))]));
    }
    if !link.routes.is_empty() {
        let routes = link.routes.iter().map(|route| {
            let mut entries = vec![
                (Yaml::text("to"), Yaml::text(route.to.to_string())),
                (Yaml::text("via"), Yaml::text(route.via.to_string())),
            ];
            entries.extend(route.metric.map(|metric| (Yaml::text("metric"), plain(metric))));
            Yaml::Map(entries)
        });
        put("routes", Yaml::List(routes.collect()));
    }
}
