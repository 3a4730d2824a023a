//! From a name to addresses, without the C library's resolver: a static binary of glibc has none. Every source is asked in
//! turn, and what each of them said is told when all fail.

mod dns;
mod resolved;

use super::Around;
use super::words::{Cause, Trouble};
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// RFC 6762, section 3.
const MDNS: (IpAddr, u16) = (IpAddr::V4(std::net::Ipv4Addr::new(224, 0, 0, 251)), 5353);
const DNS_PORT: u16 = 53;
/// Where systemd-resolved itself answers (systemd-resolved.service(8), "Stub listeners").
const STUBS: [IpAddr; 2] =
    [IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 53)), IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 54))];

/// The addresses of a host, and who knew them.
pub(super) fn resolve(around: &Around, host: &str) -> Result<(Vec<IpAddr>, String), Trouble> {
    if let Ok(address) = host.parse() {
        return Ok((vec![address], host.to_owned()));
    }
    let mut said = Vec::new();
    let local = host.trim_end_matches('.').to_ascii_lowercase().ends_with(".local");
    let sources: &[Source] = if local {
        &[Source::Hosts, Source::Resolved, Source::Multicast, Source::Servers]
    } else {
        &[Source::Hosts, Source::Resolved, Source::Servers]
    };
    for source in sources {
        match ask(around, *source, host) {
            Ok(addresses) => {
                let listed: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                return Ok((addresses, format!("{host} is {}, says {}", listed.join(", "), source.name())));
            }
            Err(answer) => said.push(format!("{} {answer}", source.name())),
        }
    }
    Err(Trouble::new(Cause::NameUnknown, format!("nobody knows an address of {host}: {}", said.join("; "))))
}

/// Who can be asked.
#[derive(Debug, Clone, Copy)]
enum Source {
    Hosts,
    Resolved,
    Multicast,
    Servers,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Hosts => "/etc/hosts",
            Self::Resolved => "systemd-resolved",
            Self::Multicast => "mDNS",
            Self::Servers => "DNS",
        }
    }
}

/// One or more addresses, or what was said instead.
fn ask(around: &Around, source: Source, host: &str) -> Result<Vec<IpAddr>, String> {
    let patience = around.shorter(dns::PATIENCE);
    match source {
        Source::Hosts => {
            let text = fs::read_to_string(around.path("/etc/hosts")).unwrap_or_default();
            let found = in_hosts(&text, host);
            if found.is_empty() { Err("does not list it".to_owned()) } else { Ok(found) }
        }
        Source::Resolved => resolved::ask(&around.path(resolved::SOCKET), host),
        Source::Multicast => dns::ask_group(SocketAddr::from(MDNS), host, patience),
        Source::Servers => {
            let text = fs::read_to_string(around.path("/etc/resolv.conf")).unwrap_or_default();
            let (mut servers, domains) = resolv_conf(&text);
            if servers.is_empty() {
                return Err("has no server in /etc/resolv.conf".to_owned());
            }
            // It was asked already, and has said more than DNS can.
            servers.retain(|server| !STUBS.contains(server));
            if servers.is_empty() {
                return Err("has no other server in /etc/resolv.conf".to_owned());
            }
            let mut said = Vec::new();
            for name in candidates(host, &domains) {
                for server in &servers {
                    match dns::ask_server(SocketAddr::from((*server, DNS_PORT)), &name, patience) {
                        Ok(addresses) => return Ok(addresses),
                        Err(answer) => said.push(format!("server {server} {answer}")),
                    }
                }
            }
            Err(said.join(", "))
        }
    }
}

/// hosts(5).
fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    };
    text.lines().filter_map(line).collect()
}

/// resolv.conf(5): servers, and domains to try a short name in.
fn resolv_conf(text: &str) -> (Vec<IpAddr>, Vec<String>) {
    let (mut servers, mut domains) = (Vec::<IpAddr>::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            // An address may carry a zone, which is of no use to whoever can't look it up.
            Some("nameserver") => {
                servers.extend(words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok()))
            }
            Some("search" | "domain") => {
                domains = words.filter(|word| *word != ".").map(str::to_owned).collect()
            }
            _ => {}
        }
    }
    (servers, domains)
}

/// A short name is tried in every domain first, as resolvers do.
fn candidates(host: &str, domains: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    if !host.trim_end_matches('.').contains('.') {
        names.extend(domains.iter().map(|domain| format!("{host}.{domain}")));
    }
    names.push(host.to_owned());
    names
}

#[cfg(test)]
mod tests {
    use super::{Source, ask, candidates, in_hosts, resolv_conf};
    use crate::join::tests::around;
    use std::fs;
    use std::net::IpAddr;

    #[test]
    fn hosts_and_resolv_conf_are_read() {
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let text = "127.0.0.1 localhost\n# 10.0.0.9 k3s1\n10.0.0.1\tx K3S1 # y\nbad k3s1\n";
        assert_eq!(in_hosts(text, "k3s1"), [one]);
        assert!(in_hosts(text, "y").is_empty());
        let (servers, domains) =
            resolv_conf("search lan home\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\n");
        assert_eq!(servers, [one, "fe80::1".parse().unwrap()]);
        assert_eq!(candidates("k3s1", &domains), ["k3s1.lan", "k3s1.home", "k3s1"]);
        assert_eq!(candidates("a.b", &domains), ["a.b"]);
    }

    #[test]
    fn nobody_is_asked_twice() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let said = |text: &str| {
            fs::write(root.path().join("etc/resolv.conf"), text).unwrap();
            ask(&around(root.path()), Source::Servers, "k3s1.lan").unwrap_err()
        };
        assert_eq!(said("search lan\n"), "has no server in /etc/resolv.conf");
        assert_eq!(
            said("nameserver 127.0.0.53\nnameserver 127.0.0.54\n"),
            "has no other server in /etc/resolv.conf"
        );
    }
}
