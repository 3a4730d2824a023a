//! Networks that must not overlap: of pods, of services, of the nodes, and Tailscale's.

use super::{Both, Check};
use crate::cluster::ip;
use crate::cluster::settings::Setting;
use crate::diag::{Fault, Span};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What Tailscale gives its machines addresses from (RFC 6598's shared address space).
const TAILSCALE: &str = "100.64.0.0/10";

/// A network, what is in it, and where the file says so.
struct Range {
    net: IpNet,
    what: String,
    /// It is one that nodes have addresses of.
    hosts: bool,
    span: Span,
}

impl Check<'_> {
    pub(super) fn ranges(&mut self, both: &Both<'_>) {
        let Some((_, node, k3s)) = both.members().next() else { return };
        let mut ranges: Vec<Range> = Vec::new();
        for (name, what) in [("pod_cidr", "the pods"), ("service_cidr", "the services")] {
            let Some(setting) = k3s.settings.get(name) else { continue };
            for net in ip::networks(setting.text().unwrap_or_default()) {
                ranges.push(Range { net, what: what.to_owned(), hosts: false, span: setting.span.clone() });
            }
        }
        if let Some(overlay) = node.overlay("tailscale") {
            let net = TAILSCALE.parse().ok();
            ranges.extend(net.map(|net| Range {
                net,
                what: "Tailscale".to_owned(),
                hosts: false,
                span: overlay.span.clone(),
            }));
        }
        let mut hosts = BTreeSet::new();
        for (at, node, _) in both.members() {
            for address in node.network.nets() {
                let net = address.trunc();
                // Nodes share networks: the first of each stands for all.
                if ip::is_link_local(net.addr()) || !hosts.insert(net) {
                    continue;
                }
                ranges.push(Range {
                    net,
                    what: format!("the network of {}", node.name),
                    hosts: true,
                    span: both.address(at),
                });
            }
        }
        for (number, one) in ranges.iter().enumerate() {
            // Networks of nodes stand behind all others.
            for other in ranges[..number].iter().take_while(|other| !(one.hosts && other.hosts)) {
                if !(one.net.contains(&other.net) || other.net.contains(&one.net)) {
                    continue;
                }
                let message =
                    format!("{} ({}) and {} ({}) overlap", one.what, one.net, other.what, other.net);
                let fault = Fault::error("overlap", &one.span, message).label("this");
                self.faults.push(
                    fault.also(&other.span, "and this").help(
                        "packets to one of them would go to the other: give `cluster.k3s.pod_cidr` or `service_cidr` a network \
                         of its own, such as 10.52.0.0/16",
                    ),
                );
            }
        }
        let dns = k3s.settings.get("cluster_dns");
        let all: Vec<&IpNet> =
            ranges.iter().filter(|range| range.what == "the services").map(|range| &range.net).collect();
        if let Some((dns, address)) = dns.and_then(address)
            && !all.iter().any(|services| services.contains(&address))
        {
            let services = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let message = format!("the DNS service's address {address} is outside the services' {services}");
            let fault = Fault::error("cluster-dns", &dns.span, message).label("here");
            self.faults.push(fault.help("leave it out: k3s takes the tenth address of `service_cidr`"));
        }
    }
}

fn address(setting: &Setting) -> Option<(&Setting, IpAddr)> {
    Some((setting, setting.text()?.parse().ok()?))
}
