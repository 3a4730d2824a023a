//! `metallb`: its pools (MetalLB 0.16: `internal/config`), and who else would give Services addresses.

use super::Told;
use super::pools::{self, Owner, Range};
use crate::cluster::ip;
use crate::cluster::settings::Setting;
use crate::diag::Fault;
use std::net::IpAddr;

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let ranges = ranges(told, faults);
    taken(told, &ranges, faults);
    let l2 = told.given("l2").is_none_or(Setting::is_true);
    let peers = told.given("bgp_peers").map(Setting::list).unwrap_or_default();
    if let Some(setting) = told.given("l2").filter(|_| !l2 && peers.is_empty()) {
        let fault = Fault::error("metallb", &setting.span, "nobody announces the addresses of the pools");
        faults.push(fault.label("neither this").help("write `l2: true`, or name routers below `bgp_peers`"));
    }
    let fixed: Vec<_> = told.cluster.nodes.iter().filter_map(|node| node.network.fixed.as_ref()).collect();
    for range in ranges.iter().filter(|_| l2 && peers.is_empty()) {
        let mut near = fixed.iter().filter(|fixed| fixed.address.addr().is_ipv4() == range.first.is_ipv4());
        let outside = |address: IpAddr| fixed.iter().all(|fixed| !fixed.address.contains(&address));
        if near.next().is_some() && outside(range.first) && outside(range.last) {
            let message = format!("the pool `{}` has addresses outside the nodes' networks", range.pool);
            let fault = Fault::warning("metallb", &range.place.span, message).label("outside");
            faults.push(fault.help(
                "ARP and NDP are heard in the nodes' own network alone: take free addresses of it, or tell the router of these",
            ));
        }
    }
    // Of kube-vip its own room says so.
    let pools = told.node.overlay("cilium").and_then(|cilium| cilium.settings.get("address_pools"));
    if let Some(pools) = pools.filter(|pools| !pools.list().is_empty()) {
        let message = "`address_pools` of cilium and `metallb` would both give Services their addresses";
        let fault = Fault::error("metallb", &told.overlay.span, message).label("one of two");
        faults.push(fault.also(&pools.span, "and this").help("leave out the pools of cilium, or `metallb`"));
    }
}

/// The ranges of all pools, in their order, when they are such.
fn ranges<'a>(told: &Told<'a>, faults: &mut Vec<Fault>) -> Vec<Range<'a>> {
    let mut ranges = Vec::new();
    for pool in told.overlay.settings.get("address_pools").map(Setting::list).unwrap_or_default() {
        let name = pool.get("name").and_then(Setting::text).unwrap_or_default();
        for place in pool.get("addresses").map(Setting::list).unwrap_or_default() {
            match range(place.text().unwrap_or_default()) {
                Ok((first, last)) => ranges.push(Range { first, last, pool: name, place }),
                Err(reason) => {
                    let fault = Fault::error(
                        "metallb",
                        &place.span,
                        format!("addresses of the pool `{name}`: {reason}"),
                    );
                    faults.push(
                        fault
                            .label("here")
                            .help("write a network, `10.0.0.96/28`, or a range, `10.0.0.100-10.0.0.120`"),
                    );
                }
            }
        }
    }
    let words = ("metallb", "addresses", "let every address be in one entry alone");
    pools::apart(&mut ranges, words, faults);
    ranges
}

/// Addresses that somebody has already.
fn taken(told: &Told<'_>, ranges: &[Range<'_>], faults: &mut Vec<Fault>) {
    let said = |owner: &Owner<'_>| match owner {
        Owner::Node(name) => format!("that of node {name}"),
        Owner::Gateway(_) => "the gateway".to_owned(),
        Owner::Api => "the virtual address of the API".to_owned(),
    };
    let mut others: Vec<(IpAddr, String)> =
        pools::owned(told).iter().map(|(address, owner)| (*address, said(owner))).collect();
    let endpoint = told.cluster.endpoint.as_deref().and_then(|text| text.parse().ok());
    others.extend(endpoint.map(|address| (address, "the cluster's endpoint".to_owned())));
    for range in ranges {
        if let Some((address, who)) = others.iter().find(|(address, _)| range.meets((*address, *address))) {
            let message = format!("the pool `{}` has {address}, which is {who}", range.pool);
            let fault = Fault::error("metallb", &range.place.span, message).label("taken");
            faults.push(
                fault.help("leave out addresses that somebody has: a Service would be given one of them"),
            );
        }
    }
}

/// The first and the last address of a network or a range.
fn range(text: &str) -> Result<(IpAddr, IpAddr), &'static str> {
    if let Some((first, last)) = text.split_once('-') {
        let address =
            |text: &str| ip::address(text.trim()).map_err(|_| "what stands beside the `-` is no address");
        let (first, last) = (address(first)?, address(last)?);
        return if first.is_ipv4() != last.is_ipv4() {
            Err("from an IPv4 to an IPv6 address, or the other way round")
        } else if last < first {
            Err("the range ends ahead of its start")
        } else {
            Ok((first, last))
        };
    }
    let net = ip::network(text).map_err(|_| "neither a network nor a range")?;
    match net == net.trunc() {
        true => Ok((net.network(), net.broadcast())),
        false => Err("there are bits behind the prefix"),
    }
}
