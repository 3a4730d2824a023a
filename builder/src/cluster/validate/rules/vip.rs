//! `kube-vip`: one load balancer for each Service.

use super::Told;
use crate::diag::Fault;

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let Some(services) = told.given("services").filter(|services| services.is_true()) else { return };
    for overlay in ["cilium", "metallb"] {
        let pools = told.node.overlay(overlay).and_then(|overlay| overlay.settings.get("address_pools"));
        let Some(pools) = pools.filter(|pools| !pools.list().is_empty()) else { continue };
        let message =
            format!("kube-vip and `{overlay}` would both give Services of type LoadBalancer their addresses");
        let fault = Fault::error("kube-vip", &services.span, message).label("one");
        faults.push(fault.also(&pools.span, "and the other").help(format!(
            "leave `services` out, which keeps the virtual address of the API, or `address_pools` of `{overlay}`"
        )));
    }
}
