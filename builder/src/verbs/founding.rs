//! What is said about the beginning of a cluster: which server may begin it, and what a build's word on that means.

use crate::cluster::settings::SettingValue;
use crate::cluster::{Cluster, Node, Role};

/// The server that begins the cluster: the first one, where servers keep the datastore themselves.
pub(super) fn founder(cluster: &Cluster) -> Option<&Node> {
    let first = cluster.first_server()?;
    let k3s = first.overlay("k3s")?;
    let own = k3s.settings.get("datastore").is_none_or(|store| store.value == SettingValue::Null);
    own.then_some(first)
}

/// How many servers the cluster file has.
pub(super) fn servers(cluster: &Cluster) -> u32 {
    let count = cluster.nodes.iter().filter(|node| node.role == Role::Server).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) fn has_the_word(cluster: &Cluster, first: &Node) -> String {
    let unless = if servers(cluster) > 1 { " unless another server of it answers" } else { "" };
    format!(
        "{0} has the founding word: with an empty datastore it begins the cluster{unless}. When the cluster exists, say so with \
         `kiln cluster founded`: later builds then leave it out",
        first.name
    )
}

pub(super) fn lacks_the_word(first: &Node) -> String {
    format!(
        "{0} has no founding word, since the cluster exists: with an empty datastore it joins another server, or waits. \
         `--found {0}` is for a cluster that is to begin anew",
        first.name
    )
}

/// What becomes of the SQLite of a cluster that had one server when it was founded, and now is to keep etcd.
pub(super) fn turns(cluster: &Cluster, servers_then: u32) -> Option<String> {
    let first = founder(cluster)?;
    let etcd = first.overlay("k3s")?.settings.get("embedded").is_some_and(|kind| kind.text() == Some("etcd"));
    let now = servers(cluster);
    (servers_then == 1 && (now > 1 || etcd)).then(|| {
        format!(
            "{} kept SQLite when the cluster was founded, as its only server. Its next start with this seed turns that into etcd, \
             after a copy of its files in /var/lib/rancher/k3s/server/db (docs/servers.md)",
            first.name
        )
    })
}
