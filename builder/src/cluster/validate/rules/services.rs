//! `external-services`: certificates and ports of programs that run side by side.

use super::{Told, dns, field};
use crate::cluster::settings::Setting;
use crate::diag::Fault;

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    dns::check(told, faults);
    if let Some(vault) = told.given("vault") {
        pair(vault, ("certificate", "key"), faults);
    }
    balanced(told, faults);
    ports(told, faults);
}

/// A load balancer without a server behind it takes connections and closes them.
fn balanced(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let Some(haproxy) = told.given("haproxy") else { return };
    let others = field(haproxy, "servers").map(Setting::list).unwrap_or_default();
    let servers = || told.servers().any(|server| told.addressed.contains(server.name.as_str()));
    if others.is_empty() && !servers() {
        let fault = Fault::error("haproxy", &haproxy.span, "no server of the cluster has a fixed address");
        faults.push(fault.label("nothing to pass connections on to").help(
            "give servers addresses in `network`, or name others in `haproxy: { servers: [10.0.0.9] }`",
        ));
    }
}

/// OpenBao 2.6.1 ends with a certificate alone; with a key alone it would speak plain HTTP. containerd and k3s are the same.
pub(super) fn pair(of: &Setting, (one, other): (&str, &str), faults: &mut Vec<Fault>) {
    let (name, lacks, given) = match (field(of, one), field(of, other)) {
        (Some(given), None) => (one, other, given),
        (None, Some(given)) => (other, one, given),
        _ => return,
    };
    // A key is a secret, and may stand there in plain text.
    let code = if name == "key" || name == "password" { "secret" } else { "pair" };
    let message = format!("`{name}` is given without `{lacks}`");
    let fault = Fault::error(code, &given.span, message).label("one half");
    faults.push(fault.help(format!("add `{lacks}:`, or leave out both")));
}

/// No two of them can have one port. 53 is the name server's.
fn ports(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let of = |service: &str, name: &str| field(told.given(service)?, name);
    let mut used: Vec<(i64, &str, &Setting)> = Vec::new();
    if let Some(dns) = told.given("dns") {
        used.push((53, "`dns`", dns));
    }
    let ports = [
        ("haproxy", "port", "`haproxy`", 0),
        ("minio", "port", "`minio`", 0),
        ("minio", "console_port", "`minio`'s web page", 0),
        ("vault", "port", "`vault`", 0),
        ("vault", "port", "`vault`, for its peers,", 1),
    ];
    for (service, name, what, further) in ports {
        let Some((setting, port)) = of(service, name).and_then(|port| Some((port, port.integer()?))) else {
            continue;
        };
        let port = port + further;
        if let Some((_, other, place)) = used.iter().find(|(number, ..)| *number == port) {
            let message = format!("{what} and {other} have the same port, {port}");
            let fault = Fault::error("port", &setting.span, message).label("this");
            faults.push(fault.also(&place.span, "and this").help("give each a port of its own"));
        } else {
            used.push((port, what, setting));
        }
    }
}
