//! Whatever valid cluster file somebody writes, cloud-init takes the seeds of all its nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod judges;
mod seeds;

use judges::written;
use kiln::cluster::{self, Cluster};
use proptest::prelude::Strategy;
use proptest::strategy::ValueTree as _;
use std::path::Path;

/// How many files are written.
const FILES: usize = 60;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGV4YW1wbGUga2V5IG9mIGtpbG4sIG5vYm9keSdzIG93 someone@home";

/// Overlays of a whole cluster of k3s, and of any cluster.
const OF_K3S: &[&str] = &[
    "{name: cilium, hubble: true, operator_replicas: 2}",
    "{name: kube-vip, vip: 10.0.0.200}",
    "{name: longhorn, version: 1.9.2, replicas: 1}",
    "{name: registry-mirrors, mirrors: [{registry: docker.io, endpoints: [\"https://mirror.example.com\"]}]}",
    "{name: kubelet-limits, system_reserved: {cpu: 500m, memory: 2Gi}, max_pods: 200}",
    "{name: flux, repository: {url: \"https://example.com/x.git\", username: git, password: {secret: token}}, \
     kustomizations: [{name: apps, path: ./apps}]}",
    "{name: flux, method: operator, repository: {url: \"ssh://git@example.com/x.git\", identity: {secret: key}, \
     known_hosts: \"example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\"}}",
    "ingress-nginx",
    "ceph-disks",
];
const OF_ANY: &[&str] = &[
    "{name: ntp, servers: [time.example.com, 10.0.0.9]}",
    "{name: proxy, http: \"http://proxy.example.com:3128\", no_proxy: [.example.com]}",
    "{name: tailscale, auth_key: {secret: ts}, routes: [10.42.0.0/16]}",
    "{name: backup-restic, backups: [{name: all, repository: {secret: place}, password: {secret: word}, paths: [/etc, \"/srv/a b\"]}]}",
    "{name: external-services, minio: {root_user: {secret: u}, root_password: {secret: p}}}",
    "iscsi-initiator",
];
/// Keys of the file's top.
const TOP: &[&str] = &[
    "memory: {zram: 25%}",
    "disks: {system: {swap: 1GiB, encrypt: auto}}",
    "disks: {data: [{name: d, match: {transport: nvme}, count: 2, use: longhorn, tags: [ssd]}]}",
    "disks: {data: [{name: raw, match: {min_size: 900GB}, use: raw}, {name: m, match: {serial: \"S*\"}, use: mount, mount_point: /srv/m}]}",
    "base: {packages: [htop], kernel_arguments: [quiet]}",
];
/// Further keys of a node.
const OF_NODE: &[&str] = &[
    "labels: {example.com/tier: a, gpu: \"\"}",
    "taints: [\"dedicated=db:NoSchedule\"]",
    "sector_size: 4096",
    "disks: {}",
    "overlays: [{name: ntp, servers: [own.example.com]}]",
    "k3s: {tls_san: [api.example.com, 10.0.0.78]}",
];

/// Some of them, in their order.
fn some(all: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(all, 0..=most.min(all.len()))
}

/// A name, a text that is said of it, and what more it has.
fn node() -> impl Strategy<Value = (String, u8, bool, Vec<&'static str>)> {
    ("[a-z][a-z0-9-]{0,12}[a-z0-9]", 0..3_u8, proptest::bool::ANY, some(OF_NODE, 2))
}

/// A cluster file as a person may write it; not each is valid.
fn files() -> impl Strategy<Value = String> {
    let nodes = proptest::collection::vec(node(), 1..5);
    let people = ("[a-z_][a-z0-9_-]{0,20}", "[ -~é]{0,30}", proptest::bool::ANY);
    let cluster = (proptest::bool::ANY, proptest::bool::ANY, "[a-z][a-z0-9-]{0,20}[a-z0-9]");
    (cluster, people, some(OF_K3S, 4), some(OF_ANY, 3), some(TOP, 2), nodes).prop_map(
        |((joins, etcd, name), (user, comment, sudo), of_k3s, of_any, top, nodes)| {
            let quoted = |text: &str| serde_json::to_string(text).unwrap();
            let mut text =
                format!("apiVersion: kiln/v1\ncluster:\n  name: {name}\n  time_zone: Europe/Berlin\n");
            if joins {
                let backing = if etcd { "" } else { ", datastore: {secret: db}" };
                text += &format!("  endpoint: 10.0.0.1\n  k3s: {{version: v1.36.2+k3s1{backing}}}\n");
            }
            let overlays: Vec<&str> =
                if joins { of_k3s } else { Vec::new() }.into_iter().chain(of_any).collect();
            text += &format!("overlays: [{}]\n", overlays.join(", "));
            let key = quoted(&format!("{KEY} {comment}"));
            text += &format!("users: [{{name: {user}, ssh_keys: [{key}], sudo: {sudo}, groups: [adm]}}]\n");
            top.iter().for_each(|line| text += &format!("{line}\n"));
            text += "nodes:\n";
            for (at, (name, role, fixed, more)) in nodes.iter().enumerate() {
                let role = match (joins, at, role) {
                    (false, ..) => "",
                    (_, 0, _) => ", role: server",
                    (_, _, 0) => ", role: server",
                    (_, _, 1) => ", role: agent",
                    _ => ", role: none",
                };
                let network = if *fixed || at == 0 {
                    format!("{{address: 10.0.0.{}/24, gateway: 10.0.0.254, dns: [9.9.9.9]}}", at + 1)
                } else {
                    "{dhcp: true}".to_owned()
                };
                let more: String = more.iter().map(|line| format!(", {line}")).collect();
                text += &format!("- {{name: {name}{role}, network: {network}{more}}}\n");
            }
            text
        },
    )
}

fn valid(text: &str) -> Result<Cluster, String> {
    let loaded = cluster::parse(text.as_bytes(), Path::new("cluster.yaml"), Path::new(""));
    loaded.map(|loaded| loaded.cluster).map_err(|error| format!("{error:?}"))
}

#[test]
fn cloud_init_takes_the_seeds_of_any_cluster() {
    let Some(judge) = judges::cloud_init() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let vault = seeds::always("a secret: \"{{ x }}\" # 'é'\\");
    let (mut paths, mut good, mut refused) = (Vec::new(), 0, Vec::new());
    for at in 0..FILES {
        let text = files().new_tree(&mut runner).unwrap().current();
        let cluster = match valid(&text) {
            Ok(cluster) => cluster,
            Err(error) => {
                refused.push(format!("{error}\n{text}"));
                continue;
            }
        };
        good += 1;
        for node in &cluster.nodes {
            for (kind, seed) in [
                ("kiln", seeds::kiln(&cluster, &node.name, &vault)),
                ("stock", seeds::stock(&cluster, &node.name, &vault)),
            ] {
                let name = |document: &str| format!("{at}-{}-{kind}-{document}", node.name);
                paths.push(written(folder.path(), &name("user-data"), &seed.user_data));
                paths.push(written(folder.path(), &name("network-config"), &seed.network_config));
            }
        }
    }
    println!("{good} of {FILES} files are valid, {} documents", paths.len());
    // A generator whose files are all refused would show nothing.
    assert!(good * 2 >= FILES, "only {good} of {FILES} files are valid:\n{}", refused.join("\n\n"));
    assert_eq!(judge.read(&paths).len(), paths.len());
}
