//! A cluster that a server was flashed out of, as etcd and Kubernetes have it.

use crate::rig::{Cluster, Node, Server, Supervisor};
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

const BOARD: &str = "4c4c4544-0042-3510-8056-b4c04f4a3232";
pub(super) const UUID: &str = "sys/class/dmi/id/product_uuid";
pub(super) const TLS: &str = "var/lib/rancher/k3s/server/tls";
pub(super) const NODE: &str = "/api/v1/nodes/k3s2";
pub(super) const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/k3s2";
pub(super) const TURN: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kiln-rejoin";
pub(super) const OLD: &str = "k3s2-0a1b2c3d";
const REMOVE: &str = "etcd.k3s.cattle.io/remove";

/// A server as its image makes it: with the CAs and an empty datastore.
pub(super) fn flashed(cluster: &Cluster, (first, servers): (bool, &[(&str, u16)])) -> Node {
    let mut node = Node::new(cluster, ("server", servers[0].1));
    cluster.leave(&node, TLS);
    node.put(UUID, &format!("{}\n", BOARD.to_uppercase()));
    let peer =
        |(name, port): &(&str, u16)| json!({ "name": name, "server": { "host": "127.0.0.1", "port": port } });
    let others: Vec<Value> = servers.iter().map(peer).collect();
    node.document["store"] = json!({ "etcd": true, "others": others, "rejoin": "automatic" });
    if first {
        node.document["first"] = true.into();
        let config = node.read("etc/rancher/k3s/config.yaml");
        let config: Vec<&str> = config.lines().filter(|line| !line.starts_with("server:")).collect();
        node.put("etc/rancher/k3s/config.yaml", &config.join("\n"));
    }
    node
}

/// A cluster of three of which k3s2 is gone, as etcd and Kubernetes have it: k3s1 runs, and answers for k3s3.
pub(super) struct Lab {
    pub(super) cluster: Cluster,
    pub(super) one: Server,
    pub(super) third: u16,
}

impl Lab {
    pub(super) fn new(change: impl FnOnce(&mut Value), variables: &[(&str, &str)]) -> Self {
        let cluster = Cluster::new("demo");
        let mut one = Server::new(&cluster);
        let member =
            |id: u64, name: &str| json!({ "ID": id, "name": name, "clientURLs": ["https://127.0.0.1:2379"] });
        let mut table = json!({
            "etcd/members": [member(3, OLD), member(5, "k3s3-33333333")],
            "node/k3s2": {
                "metadata": {
                    "name": "k3s2", "uid": "u-2", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z",
                    "labels": { "zone": "a" },
                    "annotations": { "etcd.k3s.cattle.io/node-name": OLD, "etcd.k3s.cattle.io/node-address": "192.168.86.72" },
                },
                "spec": { "unschedulable": true, "taints": [{ "key": "db", "effect": "NoSchedule" }] },
                "status": { "nodeInfo": { "systemUUID": BOARD } },
            },
            "object/coordination.k8s.io/leases/kube-node-lease/k3s2": {
                "metadata": { "name": "k3s2", "resourceVersion": "4" },
                "spec": { "holderIdentity": "k3s2", "leaseDurationSeconds": 40, "renewTime": "2026-01-01T00:00:00.000000Z" },
            },
        });
        change(&mut table);
        fs::write(one.store(), table.to_string()).unwrap();
        one.start(&[&[("K3S_STANDIN_LEASE", "0.3")], variables].concat());
        let third = one.port;
        Self { cluster, one, third }
    }

    pub(super) fn plain() -> Self {
        Self::new(|_| {}, &[])
    }

    pub(super) fn flashed(&self) -> Node {
        flashed(&self.cluster, (false, &[("k3s1", self.one.port), ("k3s3", self.third)]))
    }

    /// Nobody has asked for anything.
    pub(super) fn is_untouched(&self) {
        let node = &self.one.kept()["node/k3s2"]["metadata"]["annotations"];
        assert!(node[REMOVE].is_null() && node["etcd.k3s.cattle.io/node-name"] == OLD, "{node}");
    }

    /// It has come back as another member, and its Node is what it was.
    pub(super) fn is_back(&self) {
        is_back(&self.one);
    }
}

pub(super) fn is_back(server: &Server) {
    // k3s puts the annotation back when it sees the new member.
    let until = Instant::now() + Duration::from_secs(10);
    let node = loop {
        let node = server.kept()["node/k3s2"].clone();
        if node["metadata"]["annotations"][REMOVE] == "false" || Instant::now() > until {
            break node;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let metadata = &node["metadata"];
    assert_eq!(metadata["annotations"][REMOVE], "false", "{node}");
    assert_eq!(metadata["creationTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!((&metadata["labels"]["zone"], &node["spec"]["unschedulable"]), (&json!("a"), &json!(true)));
    assert_eq!(node["spec"]["taints"], json!([{ "key": "db", "effect": "NoSchedule" }]));
    let members: Vec<String> = server.kept()["etcd/members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member["name"].as_str().unwrap().to_owned())
        .collect();
    let own: Vec<&String> = members.iter().filter(|name| name.starts_with("k3s2-")).collect();
    assert_eq!(own.len(), 1, "{members:?}");
    assert_eq!(metadata["annotations"]["etcd.k3s.cattle.io/node-name"], *own[0].as_str());
    assert!(own[0] != OLD && members.len() == 3, "{members:?}");
}

pub(super) fn has(lines: &[String], line: &str) {
    assert!(lines.iter().any(|found| found == line), "{line}: {lines:#?}");
}

/// The first line with these words. Another cause may have been told before.
pub(super) fn waits(supervisor: &Supervisor, words: &str) -> String {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let lines = supervisor.lines();
        if let Some(line) = lines.iter().find(|line| line.contains(words)) {
            return line.clone();
        }
        assert!(Instant::now() < until, "nobody says {words:?}: {lines:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What must not be: words, and nothing is written.
pub(super) fn refused(lab: &Lab, node: &Node, words: &str) {
    let supervisor = node.supervise();
    waits(&supervisor, words);
    // It goes on looking.
    std::thread::sleep(Duration::from_millis(500));
    lab.is_untouched();
    let lines = supervisor.lines();
    assert!(!lines.iter().any(|line| line.contains("taken out of the cluster, and k3s joins")), "{lines:#?}");
}
