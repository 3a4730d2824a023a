//! `cilium`: pools of addresses (Cilium 1.18: CiliumLoadBalancerIPPool's CRD, operator/pkg/lbipam).

use super::pools::{self, Owner, Range};
use super::{Told, field};
use crate::cluster::settings::Setting;
use crate::diag::Fault;
use std::net::IpAddr;

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let mut ranges: Vec<Range<'_>> = Vec::new();
    for pool in told.given("address_pools").map(Setting::list).unwrap_or_default() {
        let name = pool.get("name").and_then(Setting::text).unwrap_or_default();
        for block in pool.get("blocks").map(Setting::list).unwrap_or_default() {
            match addresses(block) {
                Ok((first, last)) => ranges.push(Range { first, last, pool: name, place: block }),
                Err((place, reason)) => {
                    let fault =
                        Fault::error("cilium", &place.span, format!("a block of the pool `{name}` {reason}"));
                    faults.push(
                        fault
                            .label("no address is ever given out")
                            .help("write `cidr: 10.0.0.0/24`, or `start: 10.0.0.100` and `stop: 10.0.0.200`"),
                    );
                }
            }
        }
    }
    taken(told, &ranges, faults);
    // A pool that has a conflict gives out nothing.
    let words = ("cilium", "blocks", "let every address be in one block alone");
    pools::apart(&mut ranges, words, faults);
}

/// What is given out must be nobody's: a node's, its gateway's, the API's, pods' and services'.
fn taken(told: &Told<'_>, ranges: &[Range<'_>], faults: &mut Vec<Fault>) {
    let setting = |overlay: &str, name: &str| told.node.overlay(overlay)?.settings.get(name)?.text();
    let said = |owner: &Owner<'_>| match owner {
        Owner::Node(name) => format!("the address of {name}"),
        Owner::Gateway(name) => format!("the gateway of {name}"),
        Owner::Api => "the virtual address of the API".to_owned(),
    };
    let mut taken: Vec<(IpAddr, IpAddr, String)> =
        pools::owned(told).iter().map(|(address, owner)| (*address, *address, said(owner))).collect();
    for (name, what) in [("pod_cidr", "the pods'"), ("service_cidr", "the services'")] {
        let nets = setting("k3s", name).map(crate::cluster::ip::networks).unwrap_or_default();
        taken
            .extend(nets.iter().map(|net| (net.network(), net.broadcast(), format!("{what} network {net}"))));
    }
    for range in ranges {
        if let Some((.., what)) = taken.iter().find(|(first, last, _)| range.meets((*first, *last))) {
            let message = format!("a block of the pool `{}` has {what} in it", range.pool);
            let fault = Fault::error("cilium", &range.place.span, message).label("taken");
            faults.push(fault.help(
                "take addresses of the nodes' network that nobody has, and that DHCP does not give out",
            ));
        }
    }
}

/// The first and the last address of a block, or what is wrong with it.
fn addresses(block: &Setting) -> Result<(IpAddr, IpAddr), (&Setting, &'static str)> {
    let address = |name: &str| {
        let setting = field(block, name)?;
        Some((setting, setting.text()?.parse::<IpAddr>().ok()?))
    };
    let cidr =
        field(block, "cidr").and_then(|cidr| Some((cidr, crate::cluster::ip::network(cidr.text()?).ok()?)));
    match (cidr, address("start"), address("stop")) {
        (Some((_, net)), None, None) => Ok((net.network(), net.broadcast())),
        (Some((place, _)), ..) => Err((place, "has both a `cidr` and a `start` or `stop`")),
        (None, None, None) => Err((block, "has neither a `cidr` nor a `start`")),
        (None, None, Some((place, _))) => Err((place, "has a `stop` without a `start`")),
        (None, Some((_, first)), None) => Ok((first, first)),
        (None, Some((_, first)), Some((place, last))) if first.is_ipv4() != last.is_ipv4() => {
            Err((place, "is from an IPv4 to an IPv6 address, or the other way round"))
        }
        (None, Some((_, first)), Some((place, last))) if last < first => {
            Err((place, "stops ahead of its start"))
        }
        (None, Some((_, first)), Some((_, last))) => Ok((first, last)),
    }
}
