//! IPv4 and IPv6: pods, services and nodes have the same kinds of addresses, or k3s does not start (k3s v1.34.3+k3s1,
//! pkg/daemons/agent: "cluster-cidr … and node-ip …, must share the same IP version").

use super::{Both, Check};
use crate::cluster::ip;
use crate::cluster::k3s::minor;
use crate::cluster::model::Node;
use crate::cluster::settings::Setting;
use crate::diag::Fault;
use ipnet::IpNet;

/// What to write where there are IPv6 addresses.
const SIX: &str = "give k3s both of IPv6, such as `pod_cidr: fd00:42::/56` and `service_cidr: fd00:43::/112`, or both of both kinds: \
                   `pod_cidr: [10.42.0.0/16, \"fd00:42::/56\"]` and `service_cidr: [10.43.0.0/16, \"fd00:43::/112\"]`";

impl Check<'_> {
    pub(super) fn families(&mut self, both: &Both<'_>) {
        for (at, node, k3s) in both.members() {
            let (Some(pods), Some(services)) =
                (k3s.settings.get("pod_cidr"), k3s.settings.get("service_cidr"))
            else {
                continue;
            };
            let nets = |setting: &Setting| ip::networks(setting.text().unwrap_or_default());
            let (pod, service) = (nets(pods), nets(services));
            // Another size of the nodes' parts may be said there.
            let sized = k3s
                .settings
                .get("server")
                .is_some_and(|server| server.get("kube-controller-manager-arg").is_some());
            // From 1.34 on addresses of services are no bitmap any more (kube-apiserver's validateClusterIPFlags:
            // DisableAllocatorDualWrite).
            let version = k3s.settings.get("version").and_then(Setting::text);
            let bitmap = version.and_then(minor).is_some_and(|minor| minor < 34);
            self.sizes(
                (pods, if sized { &[] } else { &pod }),
                (services, if bitmap { &service } else { &[] }),
            );
            self.first((pods, &pod), (services, &service));
            if kinds(&pod) != kinds(&service) {
                if self.said.insert((pods.span.start, "families")) {
                    let message = format!(
                        "the pods have {} and the services {}",
                        said(kinds(&pod)),
                        said(kinds(&service))
                    );
                    // A default has the place of the whole mapping.
                    let fault = Fault::error("families", &pods.span, message).label("the pods");
                    self.faults.push(fault.also(&services.span, "the services").help(SIX));
                }
                continue;
            }
            self.node_families((at, node), kinds(&pod), both);
        }
    }

    /// The family that comes first is that of the address that a server is known by, and of the service `kubernetes`
    /// (kube-apiserver 1.34, cmd/kube-apiserver/app/options: "service IP family … must match public address family …").
    fn first(&mut self, (pods, pod): (&Setting, &[IpNet]), (services, service): (&Setting, &[IpNet])) {
        let (Some(one), Some(other)) = (pod.first(), service.first()) else { return };
        let both = kinds(pod) == (true, true) && kinds(service) == (true, true);
        if both
            && one.addr().is_ipv4() != other.addr().is_ipv4()
            && self.said.insert((services.span.start, "first"))
        {
            let name = |net: &IpNet| if net.addr().is_ipv4() { "IPv4" } else { "IPv6" };
            let message = format!("the pods have {} first, and the services {}", name(one), name(other));
            let fault = Fault::error("families", &services.span, message).label("k3s would not start");
            self.faults
                .push(fault.also(&pods.span, "the pods").help("let both lists begin with the same family"));
        }
    }

    fn node_families(&mut self, (at, node): (usize, &Node), (four, six): (bool, bool), both: &Both<'_>) {
        let addresses = node.network.addresses();
        let has = (addresses.iter().any(|one| one.is_ipv4()), addresses.iter().any(|one| one.is_ipv6()));
        let (message, help) = match (addresses.is_empty(), four, six) {
            // k3s then takes the node's IPv4 address, and no other.
            (true, _, true) if node.network.asks_dhcp() => (
                format!(
                    "the pods have {}, and k3s takes one address of {}: the IPv4 address that DHCP gives",
                    said((four, six)),
                    node.name
                ),
                "give the node fixed `addresses` of the same kinds, or, for IPv6 alone, `network: { dhcp: false, router_advertisements: true }`",
            ),
            (true, ..) => return,
            (false, true, true) if has != (true, true) => (
                format!(
                    "the pods have IPv4 and IPv6, and {} has an address of {} alone",
                    node.name,
                    said(has)
                ),
                "give it one of each kind: `network: { interfaces: { lan: { interface: \"en*\", addresses: [10.0.0.2/24, \"fd00::2/64\"] } } }`",
            ),
            (false, true, false) if !has.0 => {
                (format!("{} has an IPv6 address, and the pods have IPv4", node.name), SIX)
            }
            (false, false, true) if !has.1 => (
                format!("{} has an IPv4 address, and the pods have IPv6", node.name),
                "give the node an address of IPv6, or `pod_cidr` and `service_cidr` networks of IPv4",
            ),
            _ => return,
        };
        let fault = Fault::error("families", &both.address(at), message).label("k3s would not start");
        self.faults.push(fault.help(help));
    }

    /// Limits of Kubernetes: kube-apiserver to 1.33 (services have 20 bits at most), kube-controller-manager (a node has /24 or
    /// /64, and there are 16 bits of nodes at most).
    fn sizes(&mut self, (pods, pod): (&Setting, &[IpNet]), (services, service): (&Setting, &[IpNet])) {
        for net in service.iter().filter(|net| net.max_prefix_len() - net.prefix_len() > 20) {
            if self.said.insert((services.span.start, "size")) {
                let least = net.max_prefix_len() - 20;
                let message = format!("{net} is too large a network for services");
                let fault = Fault::error("families", &services.span, message).label("here");
                self.faults.push(fault.help(format!("the API server takes /{least} and smaller")));
            }
        }
        for net in pod {
            let node = if net.addr().is_ipv4() { 24 } else { 64 };
            let fits = (node - 16..=node).contains(&net.prefix_len());
            if !fits && self.said.insert((pods.span.start, "size")) {
                let message = format!("{net} can't be divided into the nodes' /{node}");
                let fault = Fault::error("families", &pods.span, message).label("here");
                self.faults.push(fault.help(format!("take one from /{} to /{node}", node - 16)));
            }
        }
    }
}

/// Whether there are any of IPv4, and any of IPv6.
fn kinds(nets: &[IpNet]) -> (bool, bool) {
    (nets.iter().any(|net| net.addr().is_ipv4()), nets.iter().any(|net| net.addr().is_ipv6()))
}

fn said(kinds: (bool, bool)) -> &'static str {
    match kinds {
        (true, true) => "IPv4 and IPv6",
        (true, false) => "IPv4",
        (false, true) => "IPv6",
        (false, false) => "none",
    }
}
