//! Addresses as they are written: one reader for all of them, and no stricter or looser one beside it.
//!
//! A part with a leading zero is refused: `010` is 8 to inet_aton(3) and 10 to others.

use ipnet::IpNet;
use std::net::IpAddr;

/// An address without a prefix length.
pub(super) fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| reason(text))
}

/// An address or a network with its prefix length.
pub(super) fn network(text: &str) -> Result<IpNet, &'static str> {
    let (host, length) = text.split_once('/').ok_or("it lacks its prefix length")?;
    let host = address(host)?;
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|_| digits && !(length.len() > 1 && length.starts_with('0')));
    let length = length.ok_or("its prefix length is no number")?;
    IpNet::new(host, length).map_err(|_| {
        if host.is_ipv4() {
            "a prefix length of IPv4 is at most 32"
        } else {
            "a prefix length of IPv6 is at most 128"
        }
    })
}

/// Networks with commas between, as settings hold them.
pub(super) fn networks(text: &str) -> Vec<IpNet> {
    text.split(',').filter_map(|one| network(one).ok()).collect()
}

fn reason(text: &str) -> &'static str {
    let parts: Vec<&str> = text.split('.').collect();
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match parts.len() {
        4 if parts.iter().all(digits) && parts.iter().any(|part| part.len() > 1 && part.starts_with('0')) => {
            "a part begins with a zero, which is octal to some programs and not to others"
        }
        4 if parts.iter().all(digits) => "a part is more than 255",
        2 | 3 if parts.iter().all(digits) => "it has fewer than four parts",
        _ if text.contains('%') => "it names an interface",
        _ => "it is none",
    }
}

/// Of this link alone: no other network ever sees it (RFC 3927, RFC 4291 §2.5.6).
pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Why no machine can have that address.
pub(super) fn refused(address: IpAddr) -> Option<&'static str> {
    let nobodys = match address {
        // RFC 1122 §3.2.1.3, RFC 1112 §4.
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.octets()[0] >= 240,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    match address {
        _ if address.is_loopback() => Some("it is the machine itself to everybody"),
        _ if address.is_multicast() => Some("it is a group's"),
        _ if nobodys || address.is_unspecified() => Some("it is nobody's"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{address, network, refused};

    #[test]
    fn one_reader() {
        for good in ["10.0.0.10/24", "::1/128", "fd00::1/64", "0.0.0.0/0"] {
            assert!(network(good).is_ok(), "{good}");
        }
        let bad = [
            "10.0.0.010/24",
            "10.0.0.10/024",
            "10.0.0.10/+24",
            "10.0.0.10/",
            "10.0.0.10",
            "10.0.0/24",
            "10.0.0.256/24",
            "0x0a.0.0.1/8",
            "10.0.0.10/33",
            "fd00::1/129",
            "fe80::1%eth0/64",
            " 10.0.0.1/8",
            "10.0.0.1/8 ",
            "00.0.0.0/0",
            "1.2.3.4.5/8",
            "::ffff:1.2.3.04/120",
        ];
        for bad in bad {
            assert!(network(bad).is_err(), "{bad}");
        }
        assert!(address("010.0.0.1").is_err_and(|reason| reason.contains("octal")));
    }

    #[test]
    fn whose_an_address_is() {
        for bad in [
            "127.0.0.1",
            "0.1.2.3",
            "240.0.0.1",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "::",
            "::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(address(bad).is_ok_and(|address| refused(address).is_some()), "{bad}");
        }
        for good in ["10.0.0.1", "fd00::1", "2001:db8::1", "169.254.1.1", "fe80::1"] {
            assert!(address(good).is_ok_and(|address| refused(address).is_none()), "{good}");
        }
    }
}
