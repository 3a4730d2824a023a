//! `wireguard`: what wg(8) reads.

use super::{Told, field};
use crate::cluster::settings::Setting;
use crate::cluster::{ip, words};
use crate::diag::Fault;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

/// Bytes of a key (Curve25519).
const KEY: usize = 32;

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let mut behind: BTreeMap<String, &Setting> = BTreeMap::new();
    for peer in told.given("peers").map(Setting::list).unwrap_or_default() {
        if let Some(key) = field(peer, "public_key").filter(|key| !is_key(key.text().unwrap_or_default())) {
            let fault = Fault::error("wireguard", &key.span, "this is not a key of WireGuard").label("here");
            faults.push(fault.help("write what `wg pubkey` prints: 44 characters, the last of them `=`"));
        }
        if let Some(endpoint) =
            field(peer, "endpoint").filter(|at| !is_endpoint(at.text().unwrap_or_default()))
        {
            let message = format!("{:?} is not a host and a port", endpoint.text().unwrap_or_default());
            let fault = Fault::error("wireguard", &endpoint.span, message).label("here");
            faults.push(
                fault.help(
                    "write `vpn.example.com:51820`; an IPv6 address in brackets, `[2001:db8::1]:51820`",
                ),
            );
        }
        for network in peer.get("allowed_ips").map(Setting::list).unwrap_or_default() {
            let Some(text) = network.text() else { continue };
            // The last peer that is told of a network takes it from the others, and nobody says so.
            if let Some(first) = behind.insert(text.to_owned(), network) {
                let fault = Fault::error("wireguard", &network.span, format!("{text} is behind two peers"));
                faults.push(
                    fault
                        .label("again")
                        .also(&first.span, "first here")
                        .help("name each network at one peer"),
                );
            }
        }
    }
}

/// 32 bytes in Base64.
fn is_key(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == KEY)
}

fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(inner) => ip::address(inner).is_ok_and(|address| address.is_ipv6()),
        None => {
            ip::address(host).is_ok_and(|address| address.is_ipv4())
                || words::domain(&host.to_ascii_lowercase()).is_ok()
        }
    };
    host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::{is_endpoint, is_key};

    #[test]
    fn what_wg_reads() {
        assert!(is_key("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="));
        assert!(!is_key("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8D=="));
        for good in ["vpn.example.com:51820", "10.0.0.1:1", "[2001:db8::1]:51820"] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in ["vpn.example.com", "2001:db8::1:51820", "[10.0.0.1]:1", "a b:1", "a:0", "a:70000", ":1"] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }
}
