//! What overlays are told, held against the nodes and against itself.

use super::{Both, Check};
use crate::cluster::model::{Node, Overlay, Role};
use crate::cluster::settings::Setting;
use crate::cluster::validate::is_kernels;
use crate::diag::{Fault, Span, nearest};
use ipnet::IpNet;
use kiln_contract::policy::Use;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Words for what keeps data, in the name or the path of a Kustomization.
const STORAGE: [&str; 4] = ["storage", "longhorn", "rook", "ceph"];

/// A Kustomization as the cluster file has it.
struct Kustomization<'a> {
    name: &'a str,
    span: &'a Span,
    stores: bool,
    needs: Vec<(&'a str, &'a Span)>,
}

impl Check<'_> {
    /// An address that servers hand to one another must be in the network of each, and nobody's.
    pub(super) fn virtual_address(&mut self, both: &Both<'_>) {
        let overlay = both.cluster.nodes.iter().find_map(|node| node.overlay("kube-vip"));
        let Some(vip) = overlay.and_then(|overlay| overlay.settings.get("vip")) else { return };
        let Some(address) = vip.text().and_then(|text| text.parse::<IpAddr>().ok()) else { return };
        let mut said = false;
        self.virtual_is_usable(both, (vip, address));
        for (at, node) in both.cluster.nodes.iter().enumerate() {
            let Some(fixed) = &node.network.fixed else { continue };
            if fixed.address.addr() == address {
                let message = format!("the virtual address {address} is {}'s own", node.name);
                let fault =
                    Fault::error("vip", &vip.span, message).label("taken").also(&both.address(at), "here");
                self.faults.push(fault.help("give `vip` an address of the servers' network that nobody has"));
            } else if node.role == Role::Server
                && !said
                && fixed.address.addr().is_ipv4() == address.is_ipv4()
                && !fixed.address.contains(&address)
            {
                said = true;
                let net = fixed.address.trunc();
                let message =
                    format!("the virtual address {address} is outside the network of {}, {net}", node.name);
                let fault = Fault::error("vip", &vip.span, message).label("outside");
                self.faults.push(
                    fault.also(&both.address(at), "the server's address").help(
                        "kube-vip announces it by ARP, which no router passes on: take an address of the servers' network",
                    ),
                );
            }
        }
    }

    /// It is no gateway, not the network itself, and of a family that a server has.
    fn virtual_is_usable(&mut self, both: &Both<'_>, (vip, address): (&Setting, IpAddr)) {
        let servers = || both.cluster.nodes.iter().filter(|node| node.role == Role::Server);
        let fixed = || both.cluster.nodes.iter().filter_map(|node| node.network.fixed.as_ref());
        let ends = |net: &IpNet| {
            net.addr().is_ipv4()
                && net.prefix_len() < 31
                && [net.network(), net.broadcast()].contains(&address)
        };
        let addresses: Vec<IpAddr> = servers().flat_map(|node| node.network.addresses()).collect();
        let reason = if fixed().any(|fixed| fixed.gateway == Some(address)) {
            "is the nodes' gateway"
        } else if fixed().any(|fixed| ends(&fixed.address)) {
            "is the first or the last address of the nodes' network, which no machine can have"
        } else if !addresses.is_empty() && addresses.iter().all(|one| one.is_ipv4() != address.is_ipv4()) {
            "is of a kind, IPv4 or IPv6, that no server has an address of"
        } else {
            return;
        };
        let fault =
            Fault::error("vip", &vip.span, format!("the virtual address {address} {reason}")).label("here");
        self.faults.push(fault.help("give `vip` an address of the servers' network that nobody has"));
    }

    /// The interface that the virtual address is announced on must be one that every server has.
    pub(super) fn announcing(&mut self, both: &Both<'_>) {
        let wanted = both.members().flat_map(|(at, node, k3s)| {
            let vip = node.overlay("kube-vip").filter(|_| node.role == Role::Server);
            let vip = vip.and_then(|overlay| overlay.settings.get("interface"));
            let flannel =
                |section: &str| k3s.settings.get(section).and_then(|section| section.get("flannel-iface"));
            [("kube-vip", vip), ("flannel", flannel("agent")), ("flannel", flannel("server"))]
                .into_iter()
                .filter_map(move |(who, setting)| Some((at, node, who, setting?)))
        });
        let wanted: Vec<_> = wanted.collect();
        for (at, node, who, setting) in wanted {
            let Some(name) = setting.text() else { continue };
            let made = (name.starts_with("tailscale") && node.overlay("tailscale").is_some()) || name == "lo";
            let kernels = !self.kernel_names && is_kernels(name);
            if made
                || node.network.may_have(name) && !kernels
                || !self.said.insert((setting.span.start, "interface"))
            {
                continue;
            }
            let known = node.network.names().join(", ");
            let message = format!("{who} is to use the interface `{name}`, which {} has not", node.name);
            let fault = Fault::error("interface", &setting.span, message).label("unknown");
            let fault = fault.also(&both.name(at), "this node");
            self.faults.push(fault.help(match kernels {
                true => "cards are named by their place once udev has seen them, such as `enp1s0`: leave it out for the one with the default route".to_owned(),
                false => format!("its `network` names {known}; leave it out for the one with the default route"),
            }));
        }
    }

    /// Longhorn keeps every copy of a volume on another node.
    pub(super) fn replicas(&mut self, both: &Both<'_>) {
        let Some(overlay) = both.cluster.nodes.iter().find_map(|node| node.overlay("longhorn")) else {
            return;
        };
        let given = overlay.settings.get("version").and_then(Setting::text);
        let (Some(_), Some(replicas)) = (given, overlay.settings.get("replicas")) else { return };
        let stores = |node: &&Node| {
            let disks = node.disks.data.iter().any(|rule| rule.usage == Use::Longhorn);
            disks || node.iscsi.iter().flat_map(|iscsi| &iscsi.luns).any(|lun| lun.longhorn.is_some())
        };
        let nodes: Vec<&str> =
            both.cluster.nodes.iter().filter(stores).map(|node| node.name.as_str()).collect();
        let wanted = usize::try_from(replicas.integer().unwrap_or(0)).unwrap_or(0);
        if nodes.is_empty() || wanted <= nodes.len() {
            return;
        }
        let message = format!(
            "Longhorn is to keep {wanted} copies of a volume, and {} with disks for it: {}",
            match nodes.len() {
                1 => "there is one node".to_owned(),
                count => format!("there are {count} nodes"),
            },
            nodes.join(", ")
        );
        let fault = Fault::error("replicas", &replicas.span, message).label("every volume would be degraded");
        let help =
            format!("write `replicas: {}`, or give more nodes disks with `use: longhorn`", nodes.len());
        self.faults.push(fault.help(help));
    }

    /// What Flux brings in waits for what it depends on: that must be there, and not wait in turn.
    pub(super) fn kustomizations(&mut self, both: &Both<'_>) {
        let Some(overlay) = both.cluster.nodes.iter().find_map(|node| node.overlay("flux")) else { return };
        let all = read(overlay);
        let mut first: BTreeMap<&str, &Span> = BTreeMap::new();
        for one in &all {
            if let Some(other) = first.insert(one.name, one.span) {
                let message = format!("the Kustomization `{}` is given twice", one.name);
                let fault = Fault::error("kustomization", one.span, message).label("again here");
                self.faults.push(fault.also(other, "first here").help("give each a name of its own"));
            }
        }
        let named = |name: &str| all.iter().find(|one| one.name == name);
        for one in &all {
            for (need, span) in one.needs.iter().filter(|(need, _)| named(need).is_none()) {
                let message =
                    format!("`{}` depends on `{need}`, and there is no Kustomization of that name", one.name);
                let names: Vec<&str> = all.iter().map(|one| one.name).collect();
                let help = nearest(need, names.iter().copied()).map_or_else(
                    || format!("there are {}", names.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                self.faults
                    .push(Fault::error("kustomization", span, message).label("never ready").help(help));
            }
            if let Some(circle) = circle(one, &all) {
                // Each circle is told once, at the first of its members.
                let told =
                    circle.iter().filter_map(|name| all.iter().position(|other| other.name == *name)).min();
                if told.and_then(|at| all.get(at)).is_some_and(|first| first.name == one.name) {
                    let message = format!("these wait for each other: {}", circle.join(" -> "));
                    let fault = Fault::error("kustomization-cycle", one.span, message).label("never ready");
                    self.faults.push(fault.help("take one of these out of a `depends_on`"));
                }
            } else if let Some((way, span)) = to_storage(one, &all).filter(|_| is_core(one.name)) {
                let message = format!("`{}` depends on storage: {}", one.name, way.join(" -> "));
                let fault = Fault::error("core-needs-storage", span, message).label("the wrong way round");
                self.faults.push(fault.help(
                    "what repairs a cluster must come up without its disks: let storage depend on the core, and what needs \
                     volumes on storage",
                ));
            }
        }
    }
}

fn read(overlay: &Overlay) -> Vec<Kustomization<'_>> {
    let list = overlay.settings.get("kustomizations").map(Setting::list).unwrap_or_default();
    list.iter()
        .filter_map(|one| {
            let name = one.get("name")?;
            let path = one.get("path").and_then(Setting::text).unwrap_or_default();
            let needs = one.get("depends_on").map(Setting::list).unwrap_or_default();
            let text = name.text()?;
            Some(Kustomization {
                name: text,
                span: &name.span,
                stores: STORAGE.iter().any(|word| text.contains(word) || path.contains(word)),
                needs: needs.iter().filter_map(|need| Some((need.text()?, &need.span))).collect(),
            })
        })
        .collect()
}

fn is_core(name: &str) -> bool {
    name == "core" || name.starts_with("core-") || name.ends_with("-core")
}

/// The way from a Kustomization back to itself.
fn circle<'a>(from: &Kustomization<'a>, all: &[Kustomization<'a>]) -> Option<Vec<&'a str>> {
    let mut walk = Walk { all, way: vec![from.name], seen: Vec::new() };
    walk.to(from, &|one| one.name == from.name).then_some(walk.way)
}

/// The way from a Kustomization to one that keeps data, and where its first step is written.
fn to_storage<'a>(from: &Kustomization<'a>, all: &[Kustomization<'a>]) -> Option<(Vec<&'a str>, &'a Span)> {
    let mut walk = Walk { all, way: vec![from.name], seen: Vec::new() };
    let found = walk.to(from, &|one| one.stores);
    let step = from.needs.iter().find(|(need, _)| walk.way.get(1) == Some(need));
    step.filter(|_| found).map(|(_, span)| (walk.way, *span))
}

/// A search along dependencies.
struct Walk<'k, 'a> {
    all: &'k [Kustomization<'a>],
    way: Vec<&'a str>,
    seen: Vec<&'a str>,
}

impl<'a> Walk<'_, 'a> {
    /// Leaves the way to one that is wanted in `way`.
    fn to(&mut self, from: &Kustomization<'a>, wanted: &dyn Fn(&Kustomization<'a>) -> bool) -> bool {
        for (need, _) in &from.needs {
            let Some(next) = self.all.iter().find(|one| one.name == *need) else { continue };
            self.way.push(next.name);
            if wanted(next) {
                return true;
            }
            if !self.seen.contains(&next.name) {
                self.seen.push(next.name);
                if self.to(next, wanted) {
                    return true;
                }
            }
            self.way.pop();
        }
        false
    }
}
