//! Networks that must not overlap: of pods, of services, of the nodes, and Tailscale's.

use super::{Both, Check};
use crate::cluster::settings::Setting;
use crate::diag::{Fault, Span};
use ipnet::IpNet;
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
        let setting = |name: &str, what: &str| {
            let setting = k3s.settings.get(name)?;
            let net = setting.text()?.parse().ok()?;
            Some(Range { net, what: what.to_owned(), hosts: false, span: setting.span.clone() })
        };
        let mut ranges: Vec<Range> =
            [setting("pod_cidr", "the pods"), setting("service_cidr", "the services")]
                .into_iter()
                .flatten()
                .collect();
        if let Some(overlay) = node.overlay("tailscale") {
            let net = TAILSCALE.parse().ok();
            ranges.extend(net.map(|net| Range {
                net,
                what: "Tailscale".to_owned(),
                hosts: false,
                span: overlay.span.clone(),
            }));
        }
        for (at, node, _) in both.members() {
            let Some(fixed) = &node.network.fixed else { continue };
            let net = fixed.address.trunc();
            // Nodes share networks: the first of each stands for all.
            if !ranges.iter().any(|known| known.net == net && known.hosts) {
                ranges.push(Range {
                    net,
                    what: format!("the network of {}", node.name),
                    hosts: true,
                    span: both.address(at),
                });
            }
        }
        for (number, one) in ranges.iter().enumerate() {
            for other in &ranges[..number] {
                let hosts = one.hosts && other.hosts;
                if hosts || !(one.net.contains(&other.net) || other.net.contains(&one.net)) {
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
        let services = ranges.iter().find(|range| range.what == "the services");
        if let (Some((dns, address)), Some(services)) = (dns.and_then(address), services)
            && !services.net.contains(&address)
        {
            let message =
                format!("the DNS service's address {address} is outside the services' {}", services.net);
            let fault = Fault::error("cluster-dns", &dns.span, message).label("here");
            self.faults.push(fault.help("leave it out: k3s takes the tenth address of `service_cidr`"));
        }
    }
}

fn address(setting: &Setting) -> Option<(&Setting, IpAddr)> {
    Some((setting, setting.text()?.parse().ok()?))
}
