//! Addresses that a load balancer gives to Services: pools must not overlap, and what they have must be nobody's.

use super::Told;
use crate::cluster::settings::Setting;
use crate::diag::Fault;
use std::net::IpAddr;

/// Addresses of a pool, and where they are written.
pub(super) struct Range<'a> {
    pub(super) first: IpAddr,
    pub(super) last: IpAddr,
    pub(super) pool: &'a str,
    pub(super) place: &'a Setting,
}

impl Range<'_> {
    /// Whether an address from one to another is in it.
    pub(super) fn meets(&self, (first, last): (IpAddr, IpAddr)) -> bool {
        first.is_ipv4() == self.first.is_ipv4() && first <= self.last && self.first <= last
    }
}

/// Who has an address.
pub(super) enum Owner<'a> {
    /// The node of that name.
    Node(&'a str),
    /// The router of the node of that name.
    Gateway(&'a str),
    /// The servers, one at a time.
    Api,
}

/// Sorts the ranges, and reports each that begins within the one before it, called `what`.
pub(super) fn apart(
    ranges: &mut [Range<'_>],
    (program, what, help): (&'static str, &str, &str),
    faults: &mut Vec<Fault>,
) {
    ranges.sort_by_key(|range| (range.first, range.last));
    for pair in ranges.windows(2) {
        let [one, other] = pair else { continue };
        if one.first.is_ipv4() == other.first.is_ipv4() && other.first <= one.last {
            let message = format!("{what} of the pools `{}` and `{}` overlap", one.pool, other.pool);
            let fault = Fault::error(program, &other.place.span, message).label("this");
            faults.push(fault.also(&one.place.span, "and this").help(help));
        }
    }
}

/// The addresses of nodes, their gateways and the API's own, with who has them.
pub(super) fn owned<'a>(told: &Told<'a>) -> Vec<(IpAddr, Owner<'a>)> {
    let mut owned = Vec::new();
    for node in &told.cluster.nodes {
        owned.extend(node.network.nets().map(|net| (net.addr(), Owner::Node(&node.name))));
        let gateway = node.network.fixed.as_ref().and_then(|fixed| fixed.gateway);
        owned.extend(gateway.map(|gateway| (gateway, Owner::Gateway(node.name.as_str()))));
    }
    let vip =
        told.node.overlay("kube-vip").and_then(|overlay| overlay.settings.get("vip")?.text()?.parse().ok());
    owned.extend(vip.map(|vip| (vip, Owner::Api)));
    owned
}
