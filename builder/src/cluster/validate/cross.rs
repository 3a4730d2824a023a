//! What each part of the file says rightly and all of them together do not: faults that else show when machines run.

mod datastore;
mod overlays;
mod pins;
mod ranges;
mod servers;
mod taints;
mod traefik;

use super::Check;
use crate::cluster::file::{ClusterFile, NodeSection};
use crate::cluster::model::{Cluster, Node, Overlay};
use crate::diag::Span;

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

impl Check<'_> {
    /// All of them; only on a file that has no other fault.
    pub(super) fn cross(&mut self, both: &Both<'_>) {
        self.servers(both);
        self.datastore(both);
        self.endpoint_is_carried(both);
        self.ranges(both);
        self.virtual_address(both);
        self.cilium_can_start(both);
        self.replicas(both);
        self.kustomizations(both);
        self.pins(both);
        self.traefik_is_there(both);
    }
}
