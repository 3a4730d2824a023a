//! systemd-networkd's own files, for the nodes of Kiln images with several interfaces (systemd.network(5),
//! systemd.netdev(5)). cloud-init writes them before networkd starts.

use super::{Error, File, Vault, wifi};
use crate::cluster::{Interface, Link, LinkKind, Node};
use std::fmt::Write as _;
use std::sync::Arc;

const FOLDER: &str = "/etc/systemd/network";
/// Files that everybody may read: networkd runs as a user of its own.
const MODE: u16 = 0o644;

/// The files of `node`; none where it has one interface only.
pub(super) fn files(node: &Node, vault: &Arc<dyn Vault>) -> Result<Vec<File>, Error> {
    let links = &node.network.links;
    let mut files = Vec::new();
    for link in links {
        // What is told by its name or its address is matched before what fits a pattern.
        let order = match &link.kind {
            LinkKind::Ethernet(Interface::Name(name)) if name.contains(['*', '?', '[']) => 30,
            LinkKind::Ethernet(_) => 20,
            _ => 10,
        };
        let path = |ending: &str| format!("{FOLDER}/{order}-kiln-{}.{ending}", link.name);
        let mut add = |path: String, text: String| files.push(File { path, mode: MODE, text, secret: false });
        if let Some(text) = netdev(link) {
            add(path("netdev"), text);
        }
        add(path("network"), network(link, links));
        if let LinkKind::Wifi(wifi) = &link.kind {
            let password = wifi::password(wifi, vault)?;
            files.push(File {
                path: format!("/etc/wpa_supplicant/wpa_supplicant-{}.conf", wifi.interface),
                mode: 0o600,
                text: wifi::supplicant(wifi, password.as_deref()),
                secret: password.is_some(),
            });
        }
    }
    Ok(files)
}

/// What makes an interface that is no card.
fn netdev(link: &Link) -> Option<String> {
    let (kind, section) = match &link.kind {
        LinkKind::Ethernet(_) | LinkKind::Wifi(_) => return None,
        LinkKind::Bond { bonding, .. } => {
            let mut section =
                format!("\n[Bond]\nMode={}\nMIIMonitorSec={}ms\n", bonding.mode, bonding.miimon);
            // Writing to a string does not fail.
            if let Some(rate) = bonding.lacp_rate {
                let _ = writeln!(section, "LACPTransmitRate={rate}");
            }
            if let Some(hash) = bonding.hash {
                let _ = writeln!(section, "TransmitHashPolicy={hash}");
            }
            ("bond", section)
        }
        LinkKind::Bridge { .. } => ("bridge", "\n[Bridge]\nSTP=no\n".to_owned()),
        LinkKind::Vlan { id, .. } => ("vlan", format!("\n[VLAN]\nId={id}\n")),
    };
    Some(format!("[NetDev]\nName={}\nKind={kind}\n{section}", link.name))
}

fn network(link: &Link, links: &[Link]) -> String {
    let mut text = String::from("[Match]\n");
    // Writing to a string does not fail.
    let mut line = |words: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{words}");
    };
    match &link.kind {
        // A VLAN has the hardware address of what it is on: only what has no kind is a card.
        LinkKind::Ethernet(Interface::Mac(mac)) => line(format_args!("PermanentMACAddress={mac}\nKind=!*")),
        LinkKind::Ethernet(Interface::Name(name)) => line(format_args!("Name={name}\nKind=!*")),
        LinkKind::Wifi(wifi) => line(format_args!("Name={}", wifi.interface)),
        LinkKind::Bond { .. } | LinkKind::Bridge { .. } | LinkKind::Vlan { .. } => {
            line(format_args!("Name={}", link.name));
        }
    }
    if let Some(mtu) = link.mtu {
        line(format_args!("\n[Link]\nMTUBytes={mtu}"));
    }
    line(format_args!("\n[Network]\nDHCP={}", if link.dhcp { "ipv4" } else { "no" }));
    if let Some(taken) = link.router_advertisements {
        line(format_args!("IPv6AcceptRA={}", if taken { "yes" } else { "no" }));
    }
    let owner = links.iter().find(|other| other.kind.members().contains(&link.name));
    match owner.map(|owner| (&owner.kind, &owner.name)) {
        Some((LinkKind::Bond { .. }, name)) => line(format_args!("LinkLocalAddressing=no\nBond={name}")),
        Some((_, name)) => line(format_args!("LinkLocalAddressing=no\nBridge={name}")),
        None => {}
    }
    for other in links {
        if matches!(&other.kind, LinkKind::Vlan { link: below, .. } if *below == link.name) {
            line(format_args!("VLAN={}", other.name));
        }
    }
    for address in &link.addresses {
        line(format_args!("Address={address}"));
    }
    for server in &link.dns {
        line(format_args!("DNS={server}"));
    }
    if !link.search.is_empty() {
        line(format_args!("Domains={}", link.search.join(" ")));
    }
    for route in &link.routes {
        line(format_args!("\n[Route]\nDestination={}\nGateway={}", route.to, route.via));
        if let Some(metric) = route.metric {
            line(format_args!("Metric={metric}"));
        }
    }
    text
}
