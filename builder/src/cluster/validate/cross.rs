//! What each part of the file says rightly and all of them together do not: faults that else show when machines run.

mod datastore;
mod families;
mod overlays;
mod pins;
mod ranges;
mod servers;
mod taints;
mod traefik;

use super::Check;
use crate::cluster::file::{ClusterFile, NodeSection};
use crate::cluster::model::{Cluster, Node, Overlay};
use crate::diag::{Fault, Severity, Span};

/// The cluster and the file that it was read from: `sections` are those of the nodes, in the same order.
pub(super) struct Both<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) file: &'a ClusterFile,
}

impl<'a> Both<'a> {
    fn section(&self, at: usize) -> Option<&'a NodeSection> {
        self.file.nodes.as_ref().and_then(|nodes| nodes.value.get(at))
    }
    /// Where a node is named.
    fn name(&self, at: usize) -> Span {
        let name = self.section(at).and_then(|section| section.name.as_ref());
        name.map(|name| name.span.clone()).unwrap_or_default()
    }
    /// Where a node's role is given, or its name.
    fn role(&self, at: usize) -> Span {
        let role = self.section(at).and_then(|section| section.role.as_ref());
        role.map_or_else(|| self.name(at), |role| role.span.clone())
    }
    /// Where a node's address is given, or its name.
    fn address(&self, at: usize) -> Span {
        let network = self.section(at).and_then(|section| section.network.as_ref());
        let address = network.and_then(|network| network.address.as_ref());
        address.map_or_else(|| self.name(at), |address| address.span.clone())
    }
    /// The nodes that k3s runs on, with their place in the file.
    fn members(&self) -> impl Iterator<Item = (usize, &'a Node, &'a Overlay)> {
        let nodes = self.cluster.nodes.iter().enumerate();
        nodes.filter_map(|(at, node)| node.overlay("k3s").map(|k3s| (at, node, k3s)))
    }
}

/// Which parts of the file are known well enough.
struct Known {
    nodes: bool,
    overlays: bool,
    networks: bool,
    disks: bool,
}

impl Known {
    fn of(faults: &[Fault], both: &Both<'_>) -> Self {
        let nodes = both.file.nodes.as_ref().map(|nodes| nodes.span.clone()).unwrap_or_default();
        let cluster = both.file.cluster.as_ref().map(|cluster| cluster.span.clone()).unwrap_or_default();
        let within = |fault: &Fault| {
            [&nodes, &cluster]
                .into_iter()
                .any(|span| span.start <= fault.span.start && fault.span.start <= span.end)
        };
        let mut known = Self { nodes: true, overlays: true, networks: true, disks: true };
        for fault in faults.iter().filter(|fault| fault.severity == Severity::Error) {
            match fault.code {
                "duplicate-key" | "key" | "missing-key" | "tag" | "unknown-key" | "unknown-value"
                | "wrong-type" => {
                    known.nodes &= !within(fault);
                    known.disks = false;
                }
                "duplicate-node" | "host-name" | "no-nodes" => known.nodes = false,
                "missing-setting" | "setting" | "unknown-setting" | "secret" => known.overlays = false,
                code if code.contains("overlay") => known.overlays = false,
                "address" | "bond" | "endpoint" | "gateway" | "interface" | "mac" | "network" | "vlan"
                | "wifi" => {
                    known.networks = false;
                }
                code if code.contains("disk") || code.contains("iscsi") || code == "mount-point" => {
                    known.disks = false
                }
                _ => {}
            }
        }
        known
    }
}

impl Check<'_> {
    /// All of them. Where a part of the file could not be read, what follows from its being missing is not told.
    pub(super) fn cross(&mut self, both: &Both<'_>) {
        let known = Known::of(self.faults, both);
        if known.nodes && known.overlays {
            self.servers(both);
        }
        if known.nodes && known.overlays && known.networks {
            self.endpoint_is_carried(both);
            self.families(both);
            self.announcing(both);
        }
        if known.nodes && known.overlays && known.disks {
            self.datastore(both);
            self.replicas(both);
        }
        self.ranges(both);
        self.virtual_address(both);
        if known.nodes && known.overlays {
            self.cilium_can_start(both);
        }
        self.kustomizations(both);
        self.pins(both);
        self.traefik_is_there(both);
    }
}
