//! `ingress-nginx` and `traefik`: ports of a Service of type NodePort.

use super::Told;
use crate::diag::Fault;

/// k3s' `service-node-port-range` when it is left out (k3s v1.34.3+k3s1).
const PORTS: (i64, i64) = (30000, 32767);

/// kube-apiserver 1.34: "provided port is not in the valid range", "provided port is already allocated".
pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let range = told.server_flag("service-node-port-range").first().and_then(|text| {
        let (first, last) = text.split_once('-')?;
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    });
    let (first, last) = range.unwrap_or(PORTS);
    let ports = ["http_port", "https_port"].map(|name| told.given(name).map(|port| (name, port)));
    for (name, port) in ports.into_iter().flatten() {
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
    if let [Some((_, http)), Some((_, https))] = ports
        && http.integer() == https.integer()
    {
        let fault =
            Fault::error("node-port", &https.span, "HTTP and HTTPS have the same port").label("this port");
        faults.push(fault.also(&http.span, "and this").help("give each a port of its own"));
    }
}
