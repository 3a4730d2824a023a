//! Networks of nodes.

use super::{HEAD, USER};

/// Nodes with these `network` values.
pub(super) fn networks(values: &[&str]) -> String {
    let node = |(at, value): (usize, &&str)| format!("  - {{name: node-{at}, network: {value}}}\n");
    format!("{HEAD}{USER}nodes:\n{}", values.iter().enumerate().map(node).collect::<String>())
}

/// Nodes with these `network.interfaces` values.
pub(crate) fn interfaces(values: &[&str]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{{interfaces: {{{value}}}}}")).collect();
    networks(&values.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(super) fn cases() -> Vec<(&'static str, String)> {
    vec![
        (
            "interfaces",
            networks(&[
                "{interfaces: {}, address: 10.0.0.1/24, dns: [9.9.9.9], mac: \"52:54:00:00:00:01\"}",
                "{interfaces: {eth0: {}, \"e*\": {dhcp: true}, far-too-long-a-name: {dhcp: true}}}",
                "{interfaces: {a: {dhcp: true, mac: x, interface: y}, b: {mtu: 20, dhcp: true}, c: {adresses: [10.0.0.1/24]}}}",
                "{interfaces: {a: {addresses: [10.0.1.1/24, 10.0.1.1/24], gateway: 10.9.0.1}, b: {dhcp: true, gateway: 10.0.0.1}}}",
                "{interfaces: {a: {addresses: [\"fd00::1/64\"], mtu: 1000}, b: {interface: a, dhcp: true}}}",
            ]),
        ),
        (
            "interfaces-made",
            interfaces(&[
                "b: {bond: {interfaces: []}, dhcp: true}",
                "b: {bond: {interfaces: [one, onee, b, v], mode: fast}, dhcp: true}, one: {addresses: [10.0.2.1/24]}, v: {vlan: {link: one, id: 4095}}",
                "b: {bond: {interfaces: [one]}, dhcp: true, mac: \"52:54:00:00:00:01\"}, c: {bridge: {interfaces: [one, b]}}, one: {}",
                "v: {vlan: {link: one, id: 0}, dhcp: true}, w: {vlan: {link: two, id: 5}}, x: {vlan: {link: two, id: 5}}, two: {}",
                "v: {vlan: {link: two, id: 5}, bridge: {interfaces: [two]}, dhcp: true}, two: {}",
                "v: {vlan: {link: two, id: 5}, dhcp: true}, w: {vlan: {link: v, id: 6}}, two: {}, x: {vlan: {link: two}, bond: {}}",
            ]),
        ),
        (
            "interfaces-routes",
            interfaces(&[
                "a: {addresses: [10.0.3.1/24], gateway: 10.0.3.254}, b: {addresses: [10.0.4.1/24], gateway: 10.0.4.254}",
                "a: {addresses: [10.0.5.1/24], routes: [{to: 10.1.0.0/8, via: 10.0.5.2}, {to: x, via: 10.0.5.2}, {to: 10.0.0.0/8, via: \"fe80::1\"}]}",
                "a: {addresses: [10.0.6.1/24], gateway: 10.0.6.1, routes: [{to: 10.0.0.0/8, via: 10.7.0.1}, {to: default}]}",
                "a: {addresses: [10.0.7.1/24], gateway: 10.0.7.254, routes: [{to: default, via: 10.0.7.253, metric: 9}]}",
            ]),
        ),
        (
            "cards",
            networks(&[
                "{dhcp: true, interface: eth0}",
                "{dhcp: true, interface: enp1s0.10}",
                "{dhcp: true, interface: bond0}",
                "{interfaces: {a: {dhcp: true, interface: \"en*\"}, b: {dhcp: true, interface: enp1s0}, eth1: {dhcp: true}}}",
                "{interfaces: {a: {dhcp: true, mac: \"52:54:00:00:00:01\"}, b: {dhcp: true, mac: \"52:54:00:00:00:01\"}, \"lan.5\": {dhcp: true}}}",
            ]),
        ),
        (
            "addresses-of-nobody",
            networks(&[
                "{address: 10.0.0.010/24}",
                "{address: 10.0.0.2/024}",
                "{address: \"fe80::5/64\"}",
                "{address: 169.254.1.2/16}",
                "{address: 0.0.0.5/8}",
                "{address: 250.0.0.5/8}",
                "{address: \"::ffff:10.0.0.2/120\"}",
                "{interfaces: {lan: {addresses: [\"fe80::1/64\", 169.254.7.7/16]}}}",
                "{interfaces: {lan: {addresses: [10.0.9.2/24], gateway: 10.0.9.01, dns: [010.0.0.1], routes: [{to: 10.01.0.0/16, via: 10.0.9.1}]}}}",
                "{dhcp: true, mtu: 20, router_advertisements: yes}",
            ]),
        ),
        (
            "bonds",
            interfaces(&[
                "b: {bond: {interfaces: [one], lacp_rate: fast, xmit_hash_policy: layer3+4}, dhcp: true}, one: {}",
                "b: {bond: {interfaces: [two], mode: 802.3ad, lacp_rate: quick, xmit_hash_policy: layer4, miimon: 0}, dhcp: true}, two: {}",
            ]),
        ),
        (
            "wifi",
            interfaces(&[
                "wlan0: {dhcp: true, wifi: {ssid: home, password: 12345678}}",
                "wlan0: {dhcp: true, wifi: {ssid: home, password: plain-password, country: de}}",
                "radio: {dhcp: true, mac: \"52:54:00:00:00:07\", wifi: {ssid: \"\"}}",
                "radio: {dhcp: true, interface: \"wl*\", wifi: {ssid: home}}, v: {vlan: {link: radio, id: 5}}, b: {bridge: {interfaces: [radio]}}",
            ]),
        ),
    ]
}
