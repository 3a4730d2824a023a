//! Link, address and route, as /sys and /proc tell them.

use super::Around;
use super::words::{Cause, Trouble};
use kiln_contract::join::{Endpoint, Join};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An interface with hardware or a switch behind it that has a carrier.
pub(super) fn link(around: &Around, join: &Join) -> Result<((), String), Trouble> {
    let folder = around.path("/sys/class/net");
    let entries = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = entries.filter(|name| name != "lo" && name != "bonding_masters").collect();
    names.sort();
    if let Some(hint) = join.interface.as_ref().filter(|hint| names.contains(hint)) {
        names = vec![hint.clone()];
    }
    if names.is_empty() {
        return Err(Trouble::new(Cause::NoInterface, ""));
    }
    // An interface that is down can't be asked (EINVAL).
    let linked = |name: &&String| {
        fs::read_to_string(folder.join(name).join("carrier")).is_ok_and(|text| text.trim() == "1")
    };
    match names.iter().find(linked) {
        Some(name) => Ok(((), format!("{name} has a link"))),
        None => Err(Trouble::new(Cause::NoCarrier, names.join(", "))),
    }
}

/// The address that the node is to have, or any that reaches beyond it.
pub(super) fn address(around: &Around, join: &Join) -> Result<((), String), Trouble> {
    let read = |path| fs::read_to_string(around.path(path)).unwrap_or_default();
    let mut own = local_v4(&read("/proc/net/fib_trie"));
    own.extend(local_v6(&read("/proc/net/if_inet6")));
    let listed = || own.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match join.address {
        Some(wanted) if own.contains(&wanted) => Ok(((), wanted.to_string())),
        Some(wanted) if own.is_empty() => {
            Err(Trouble::new(Cause::OtherAddress, format!("{wanted}, and has no address")))
        }
        Some(wanted) => Err(Trouble::new(Cause::OtherAddress, format!("{wanted}, and has {}", listed()))),
        None if own.is_empty() => Err(Trouble::new(Cause::NoAddress, "")),
        None => Ok(((), listed())),
    }
}

/// The kernel's IPv4 routing trie: an address stands above the line that calls it local.
fn local_v4(trie: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last.filter(|address| !address.is_loopback())
            && !found.contains(&IpAddr::V4(address))
        {
            found.push(IpAddr::V4(address));
        }
    }
    found
}

/// proc_net(5), if_inet6: address, index, prefix, scope, flags, name. Scope 00 is global.
fn local_v6(text: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let global = *words.get(3)? == "00";
        let address = u128::from_str_radix(words.first()?, 16).ok()?;
        global.then_some(IpAddr::V6(Ipv6Addr::from(address)))
    };
    text.lines().filter_map(line).collect()
}

/// A route to the server, or, as long as it is only a name, any route at all.
pub(super) fn route(around: &Around, server: &Endpoint) -> Result<((), String), Trouble> {
    let read = |path| fs::read_to_string(around.path(path)).unwrap_or_default();
    let mut routes = routes_v4(&read("/proc/net/route"));
    routes.extend(routes_v6(&read("/proc/net/ipv6_route")));
    let known: Option<IpAddr> = server.host.parse().ok();
    if known.is_some_and(|address| address.is_loopback()) {
        return Ok(((), format!("{} is this node itself", server.host)));
    }
    let leads = |route: &&Route| known.is_none_or(|address| route.holds(address));
    let best = routes.iter().filter(leads).max_by_key(|route| route.prefix);
    match best {
        Some(route) if route.prefix == 0 => Ok(((), format!("by the gateway, through {}", route.interface))),
        Some(route) => Ok(((), format!("direct, through {}", route.interface))),
        None => Err(Trouble::new(Cause::NoRoute, &server.host)),
    }
}

/// A route that is up and rejects nothing.
struct Route {
    network: IpAddr,
    prefix: u32,
    interface: String,
}

impl Route {
    fn holds(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

/// RTF_UP and RTF_REJECT of linux/route.h.
fn is_good(flags: u32) -> bool {
    flags & 1 != 0 && flags & 0x200 == 0
}

/// proc_net(5), route: interface, destination, gateway, flags, …, mask in the eighth column; numbers in the machine's order.
fn routes_v4(text: &str) -> Vec<Route> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
        let network = Ipv4Addr::from(number(1)?.to_ne_bytes());
        let prefix = u32::from_be_bytes(number(7)?.to_ne_bytes()).leading_ones();
        let interface = (*words.first()?).to_owned();
        is_good(number(3)?).then_some(Route { network: network.into(), prefix, interface })
    };
    text.lines().skip(1).filter_map(line).filter(|route| route.interface != "lo").collect()
}

/// proc_net(5), ipv6_route: destination, its prefix, …, flags, interface. Link-local and multicast routes lead nowhere.
fn routes_v6(text: &str) -> Vec<Route> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let network = Ipv6Addr::from(u128::from_str_radix(words.first()?, 16).ok()?);
        let prefix = u32::from_str_radix(words.get(1)?, 16).ok().filter(|prefix| *prefix <= 128)?;
        let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
        let interface = (*words.get(9)?).to_owned();
        let leads = !network.is_unicast_link_local() && !network.is_multicast();
        (leads && is_good(flags)).then_some(Route { network: network.into(), prefix, interface })
    };
    text.lines().filter_map(line).filter(|route| route.interface != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::{local_v4, local_v6, routes_v4, routes_v6};

    const TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.0.2.15\n        /32 host LOCAL\nLocal:\n     |-- 10.0.2.15\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.0.2.255\n        /32 link BROADCAST\n";
    const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0202000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        eth0\t0002000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";

    #[test]
    fn own_addresses_are_the_local_ones() {
        assert_eq!(local_v4(TRIE), ["10.0.2.15".parse::<std::net::IpAddr>().unwrap()]);
        let v6 = "00000000000000000000000000000001 01 80 10 80       lo\n\
            20010db8000000000000000000000005 02 40 00 80     eth0\n\
            fe800000000000005054fffefe123456 02 40 20 80     eth0\n";
        assert_eq!(local_v6(v6), ["2001:db8::5".parse::<std::net::IpAddr>().unwrap()]);
        assert!(local_v4("").is_empty() && local_v6("x").is_empty());
    }

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let routes = routes_v4(ROUTES);
        assert_eq!(routes.iter().map(|route| route.prefix).collect::<Vec<_>>(), [0, 24]);
        assert!(routes[0].holds("1.2.3.4".parse().unwrap()));
        assert!(routes[1].holds("10.0.2.77".parse().unwrap()));
        assert!(!routes[1].holds("10.0.3.77".parse().unwrap()));
        let v6 = "20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
            00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n\
            fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n";
        let routes = routes_v6(v6);
        assert_eq!(routes.len(), 1);
        assert!(routes[0].holds("2001:db8::9".parse().unwrap()));
    }
}
