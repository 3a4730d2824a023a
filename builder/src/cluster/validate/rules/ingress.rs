//! `ingress-nginx` and `traefik`: ports of Services of type NodePort.

use super::k3s::NodePorts;
use super::{Told, k3s};
use crate::cluster::model::Overlay;
use crate::cluster::settings::Setting;
use crate::diag::Fault;

/// k3s' `service-node-port-range` when it is left out (k3s v1.34.3+k3s1).
const PORTS: (i64, i64) = (30000, 32767);
/// The settings, and where the charts' own values say the same (ingress-nginx 4.15, traefik 37).
const NAMES: [&str; 2] = ["http_port", "https_port"];
const VALUES: [(&str, [[&str; 4]; 2]); 2] = [
    (
        "ingress-nginx",
        [["controller", "service", "nodePorts", "http"], ["controller", "service", "nodePorts", "https"]],
    ),
    ("traefik", [["ports", "web", "nodePort", ""], ["ports", "websecure", "nodePort", ""]]),
];

/// The ports that an overlay asks for, with their words.
fn ports(overlay: &Overlay) -> Vec<(&'static str, &Setting)> {
    let mut found: Vec<(&str, &Setting)> = NAMES
        .iter()
        .filter_map(|name| Some((*name, overlay.settings.get(*name).filter(|port| super::given(port))?)))
        .collect();
    let values = overlay.settings.get("values");
    let known = VALUES.iter().filter(|(name, _)| *name == overlay.name).flat_map(|(_, paths)| paths);
    for (path, name) in known.zip(NAMES) {
        let mut at = values;
        for key in path.iter().filter(|key| !key.is_empty()) {
            at = at.and_then(|value| value.get(key));
        }
        // What the chart is told goes over what Kiln would tell it.
        if let Some(port) = at.filter(|port| port.integer().is_some()) {
            found.retain(|(known, _)| *known != name);
            found.push((name, port));
        }
    }
    found
}

/// kube-apiserver 1.34: "provided port is not in the valid range", "provided port is already allocated".
pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let (first, last) = match k3s::node_ports(told) {
        Some(NodePorts { range: Some(range), .. }) => range,
        // It is told where it is written.
        Some(_) => return,
        None => PORTS,
    };
    let own = ports(told.overlay);
    for (name, port) in &own {
        let number = port.integer().unwrap_or_default();
        if !(first..=last).contains(&number) {
            let message =
                format!("`{name}` is {number}, outside of the ports that Services may have on nodes");
            let help = format!(
                "take one of {first} to {last}, k3s' `service-node-port-range`, which `cluster.k3s.server` may change"
            );
            faults.push(
                Fault::error("node-port", &port.span, message).label("refused by Kubernetes").help(help),
            );
        }
    }
    let mut twice = |one: &Setting, other: &Setting, message: String, help: &str| {
        let fault = Fault::error("node-port", &other.span, message).label("this port");
        faults.push(fault.also(&one.span, "and this").help(help));
    };
    if let [(_, http), (_, https)] = own.as_slice()
        && http.integer() == https.integer()
    {
        twice(http, https, "HTTP and HTTPS have the same port".to_owned(), "give each a port of its own");
    }
    // Two of them beside each other: told once, at the second by name.
    let Some(beside) = told.node.overlay("ingress-nginx").filter(|_| told.overlay.name == "traefik") else {
        return;
    };
    for (_, one) in ports(beside) {
        for (_, other) in own.iter().filter(|(_, other)| other.integer() == one.integer()) {
            let number = one.integer().unwrap_or_default();
            let place = if other.span == one.span { &told.overlay.span } else { &other.span };
            let message =
                format!("`traefik` and `ingress-nginx` both ask for the port {number} of every node");
            let fault = Fault::error("node-port", place, message).label("this port");
            faults.push(fault.also(&beside.span, "and this overlay").help(
                "give one of them other ports, `http_port` and `https_port`, while traffic moves from one to the other",
            ));
        }
    }
}
