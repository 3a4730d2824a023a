//! `kube-vip`: one load balancer for each Service.

use super::Told;
use crate::cluster::settings::Setting;
use crate::diag::Fault;

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let Some(services) = told.given("services").filter(|services| services.is_true()) else { return };
    let others: [(&str, &str, fn(&Setting) -> bool); 2] = [
        ("cilium", "address_pools", |pools| !pools.list().is_empty()),
        ("metallb", "pools", |pools| !pools.list().is_empty()),
    ];
    for (overlay, setting, gives) in others {
        let pools = told.node.overlay(overlay).and_then(|overlay| overlay.settings.get(setting));
        let Some(pools) = pools.filter(|pools| gives(pools)) else { continue };
        let message =
            format!("kube-vip and `{overlay}` would both give Services of type LoadBalancer their addresses");
        let fault = Fault::error("kube-vip", &services.span, message).label("one");
        faults.push(fault.also(&pools.span, "and the other").help(format!(
            "leave `services` out, which keeps the virtual address of the API, or `{setting}` of `{overlay}`"
        )));
    }
}
