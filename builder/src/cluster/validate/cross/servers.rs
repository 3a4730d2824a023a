//! Servers, agents, and what they are reached by.

use super::{Both, Check};
use crate::cluster::model::{Node, Role};
use crate::cluster::settings::{Setting, SettingValue};
use crate::diag::Fault;
use std::net::IpAddr;

impl Check<'_> {
    /// Is there a server for every agent, and a majority when one of the servers is down?
    pub(super) fn servers(&mut self, both: &Both<'_>) {
        let of =
            |role: Role| both.members().filter(move |(_, node, _)| node.role == role).collect::<Vec<_>>();
        let (servers, agents) = (of(Role::Server), of(Role::Agent));
        if let (Some((at, agent, _)), true) = (agents.first(), servers.is_empty()) {
            let message = format!("{} is an agent, and the cluster has no server", agent.name);
            let fault = Fault::error("no-server", &both.role(*at), message).label("joins nothing");
            self.faults.push(fault.help("give one node `role: server`: the first of them makes the cluster"));
        }
        let Some((first, _, k3s)) = servers.first() else { return };
        let external = k3s.settings.get("datastore").is_some_and(|store| store.value != SettingValue::Null);
        if servers.len() % 2 == 0 && !external {
            let message = format!(
                "{} servers keep etcd: it stops when {} of them {} down, no later than with {}",
                servers.len(),
                servers.len() / 2,
                if servers.len() == 2 { "is" } else { "are" },
                servers.len() - 1,
            );
            let last = servers.last().map_or(*first, |(at, ..)| *at);
            let fault =
                Fault::error("even-servers", &both.role(last), message).label("one too many, or too few");
            self.faults.push(fault.also(&both.role(*first), "the first server").help(
                "take an odd number of servers, such as 1 or 3: make this one an agent, or add one; or give k3s a `datastore`",
            ));
        }
    }

    /// Does any server answer where the others dial?
    pub(super) fn endpoint_is_carried(&mut self, both: &Both<'_>) {
        let members: Vec<_> = both.members().collect();
        let Some((first, server, k3s)) = members.iter().find(|(_, node, _)| node.role == Role::Server) else {
            return;
        };
        let written = both.file.cluster.as_ref().and_then(|section| section.endpoint.as_ref());
        let Some((endpoint, text)) = both.cluster.endpoint.as_ref().zip(written) else {
            if members.len() > 1 && server.network.fixed.is_none() {
                let message = format!(
                    "the other nodes can't know where {} is: it asks a DHCP server for its address",
                    server.name
                );
                let fault =
                    Fault::error("no-endpoint", &both.name(*first), message).label("the first server");
                self.faults.push(fault.help(
                    "give it an `address`, or name it in `cluster.endpoint`, such as `k3s1.local` or a name of your DNS",
                ));
            }
            return;
        };
        let servers: Vec<&Node> =
            members.iter().map(|(_, node, _)| *node).filter(|node| node.role == Role::Server).collect();
        let host = endpoint.as_str();
        let vip = servers
            .iter()
            .filter_map(|node| node.overlay("kube-vip"))
            .any(|overlay| overlay.settings.get("vip").and_then(Setting::text) == Some(host));
        let known = |node: &&Node| {
            let address = node.network.fixed.as_ref().map(|fixed| fixed.address.addr());
            address.is_some() && address == host.parse::<IpAddr>().ok()
                || host == node.name
                || host == both.cluster.fqdn(node)
                || host == format!("{}.local", node.name)
        };
        let said = k3s.settings.get("tls_san").map(Setting::list).unwrap_or_default();
        if vip || servers.iter().any(known) || said.iter().any(|name| name.text() == Some(host)) {
            return;
        }
        let names: Vec<&str> = servers.iter().map(|node| node.name.as_str()).collect();
        let message = format!("no server carries the endpoint {host}: the servers are {}", names.join(", "));
        let vip = match host.parse::<IpAddr>() {
            Ok(_) => format!("; for a virtual address add the overlay `kube-vip` with `vip: {host}`"),
            Err(_) => String::new(),
        };
        let help = format!(
            "write the address or the name of a server{vip}; a load balancer or a DNS name of your own must stand in \
             `cluster.k3s.tls_san`, too"
        );
        self.faults.push(Fault::error("endpoint", &text.span, message).label("leads nowhere").help(help));
    }
}
