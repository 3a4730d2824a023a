//! What the programs behind Kiln's own overlays refuse of settings that are right each for itself. What one setting alone
//! can be is its type's matter (`cluster/settings`); here is what several say together, a room for each program.

pub(super) mod arguments;
mod backup;
mod cilium;
mod dns;
mod flux;
mod ingress;
mod k3s;
mod kubelet;
mod longhorn;
mod metallb;
mod nfs;
mod pools;
mod proxy;
mod registries;
mod services;
mod tailscale;
mod vip;
mod wireguard;

use super::Check;
use crate::cluster::model::{Cluster, Node, Overlay, Role};
use crate::cluster::settings::{Setting, SettingValue};
use crate::diag::Fault;
use std::collections::BTreeSet;

/// An overlay as one node has it.
struct Told<'a> {
    cluster: &'a Cluster,
    node: &'a Node,
    overlay: &'a Overlay,
    /// Names of the nodes with a fixed address.
    addressed: &'a BTreeSet<&'a str>,
}

/// Reports what a program refuses.
type Program = fn(&Told<'_>, &mut Vec<Fault>);

const PROGRAMS: [(&str, Program); 16] = [
    ("backup-restic", backup::check),
    ("cilium", cilium::check),
    ("external-services", services::check),
    ("flux", flux::check),
    ("ingress-nginx", ingress::check),
    ("k3s", k3s::check),
    ("kube-vip", vip::check),
    ("kubelet-limits", kubelet::check),
    ("longhorn", longhorn::check),
    ("metallb", metallb::check),
    ("nfs-server", nfs::check),
    ("proxy", proxy::check),
    ("registry-mirrors", registries::check),
    ("tailscale", tailscale::check),
    ("traefik", ingress::check),
    ("wireguard", wireguard::check),
];

impl Check<'_> {
    /// Of every overlay that nodes have, once for all nodes that have it alike.
    pub(super) fn rules(&mut self, cluster: &Cluster) {
        let mut seen: BTreeSet<_> = BTreeSet::new();
        let fixed = cluster.nodes.iter().filter(|node| node.network.fixed.is_some());
        let addressed: BTreeSet<&str> = fixed.map(|node| node.name.as_str()).collect();
        for node in &cluster.nodes {
            for overlay in node.overlays.iter().filter(|overlay| overlay.folder.is_none()) {
                let Some((_, program)) = PROGRAMS.iter().find(|(name, _)| *name == overlay.name) else {
                    continue;
                };
                // A name server's own name is in its zones.
                let name = (overlay.name == "external-services").then_some(node.name.as_str());
                let alike = (
                    overlay.name.as_str(),
                    overlay.span.start,
                    node.overlay("k3s").map(|k3s| k3s.span.start),
                    name,
                    node.role,
                );
                // What could not be read would be missed here once more.
                let read =
                    !self.unsettled.iter().any(|(name, span)| *name == overlay.name && *span == overlay.span);
                if read && seen.insert(alike) {
                    let mut faults = Vec::new();
                    program(&Told { cluster, node, overlay, addressed: &addressed }, &mut faults);
                    faults.retain(|fault| !self.faults.contains(fault));
                    self.faults.extend(faults);
                }
            }
        }
    }
}

impl<'a> Told<'a> {
    /// A setting that is given, or has a default.
    fn given(&self, name: &str) -> Option<&'a Setting> {
        self.overlay.settings.get(name).filter(|setting| given(setting))
    }
    /// Whether the cluster's servers are told `true` of k3s' flag.
    fn server_flag_is_true(&self, flag: &str) -> bool {
        let flags = self.servers().find_map(|node| node.overlay("k3s")?.settings.get("server")?.get(flag));
        flags.is_some_and(Setting::is_true)
    }
    /// What the cluster's servers are told beside Kiln's own settings, by k3s' flag.
    fn server_flag(&self, flag: &str) -> Vec<&'a str> {
        let server = self.servers().find(|node| node.overlay("k3s").is_some());
        server.into_iter().flat_map(|node| arguments::told(node, flag)).map(|(text, _)| text).collect()
    }
    fn servers(&self) -> impl Iterator<Item = &'a Node> {
        self.cluster.nodes.iter().filter(|node| node.role == Role::Server)
    }
}

fn given(setting: &Setting) -> bool {
    setting.value != SettingValue::Null
}

/// A field of an object that is given, or has a default.
fn field<'a>(object: &'a Setting, name: &str) -> Option<&'a Setting> {
    object.get(name).filter(|setting| given(setting))
}
