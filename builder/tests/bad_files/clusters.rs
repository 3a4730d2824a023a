//! Nodes that do not fit together.

use super::{HEAD, KEY, NODE, USER};

/// A cluster of k3s with this under `cluster` and these nodes.
fn k3s(cluster: &str, nodes: &str) -> String {
    format!("apiVersion: kiln/v1\ncluster:\n  name: home\n{cluster}{USER}nodes:\n{nodes}")
}

const RELEASE: &str = "  k3s: { version: v1.36.2+k3s1 }\n";

pub(super) fn cases() -> Vec<(&'static str, String)> {
    let server = |number: usize| {
        format!(
            "  - {{ name: s{number}, role: server, network: {{ address: 192.168.86.{}/24 }} }}\n",
            70 + number
        )
    };
    let servers = |count: usize| (1..=count).map(server).collect::<String>();
    let agent = "  - { name: a1, role: agent }\n";
    vec![
        (
            "k3s-settings",
            k3s(
                "  k3s:\n    pod_cdr: 10.1.0.0/16\n    service_cidr: 10.43.0.0\n    flannel: vxlam\n    disable: [traefik, 7]\n    \
                 embedded_registry: yes\n    cluster_dns: dns\n    kubelet_arguments: max-pods=50\n    datastore: 12\n",
                &servers(1),
            ),
        ),
        (
            "secrets-in-plain-text",
            k3s(
                "  k3s: { version: v1.36.2+k3s1, datastore: \"mysql://k3s:hunter2@tcp(10.0.0.1)/k3s\" }\n",
                &servers(2),
            ),
        ),
        (
            "secret-references",
            k3s(
                "  k3s: { version: v1.36.2+k3s1, datastore: { secrt: hunter2 } }\n",
                &format!(
                    "{}  - {{ name: s2, role: server, k3s: {{ datastore: {{ sops: a.yaml }} }} }}\n",
                    servers(1)
                ),
            ),
        ),
        (
            "flags",
            k3s(
                "  k3s:\n    version: v1.34.3+k3s1\n    server:\n      tls-san: [extra.example.org]\n      disable: [servicelb]\n      \
                 etcd-s3: yes\n      etcd-s3-secret-key: hunter2\n      etcd-s3-access-key: {secret: s3}\n      etcd-s3-bucket: {bucket: b}\n      \
                 cluster-cidr: 10.52.0.0/16\n      token: abc\n      node-name: other\n      etcd-s3-retention: many\n      secret-encryption: true\n      \
                 etcd_s3_region: eu\n    agent:\n      kubelet-arg: [image-gc-high-threshold=70]\n      flannel_iface: tailscale0\n      tls-san: [a]\n      \
                 \"node-label+\": [a=b]\n      nobody-knows-this-one: 1\n",
                &servers(1),
            ),
        ),
        (
            "flags-of-another-release",
            k3s(
                "  k3s: { version: v1.99.0+k3s1, server: { brand-new-word-of-k3s: true, tls-sna: [a] } }\n",
                &servers(1),
            ),
        ),
        (
            "families",
            k3s(
                "  k3s: { version: v1.34.3+k3s1, pod_cidr: \"fd00:42::/56\", service_cidr: 10.43.0.0/16 }\n",
                "  - { name: s1, role: server, network: { address: \"fd00:86::71/64\" } }\n",
            ),
        ),
        (
            "families-of-nodes",
            k3s(RELEASE, "  - { name: s1, role: server, network: { address: \"fd00:86::71/64\" } }\n"),
        ),
        (
            "families-both",
            k3s(
                "  k3s: { version: v1.34.3+k3s1, pod_cidr: [10.42.0.0/16, \"fd00:42::/40\"], service_cidr: [10.43.0.0/16, \"fd00:43::/64\"] }\n",
                &format!("{}{agent}", servers(1)),
            ),
        ),
        (
            "networks-of-two",
            k3s(
                "  k3s: { version: v1.34.3+k3s1, pod_cidr: [10.42.0.0/16, 10.44.0.0/16], service_cidr: [], cluster_dns: 10.043.0.10 }\n",
                &servers(1),
            ),
        ),
        (
            "interface-of-nobody",
            k3s(
                &format!("{RELEASE}  endpoint: 192.168.86.70\n"),
                &format!(
                    "{}overlays: [{{ name: kube-vip, vip: 192.168.86.70, interface: wlan0 }}]\n",
                    servers(3)
                ),
            ),
        ),
        (
            "interface-of-the-kernel",
            k3s(
                &format!("{RELEASE}  endpoint: 192.168.86.70\n"),
                &format!(
                    "{}overlays: [{{ name: kube-vip, vip: 192.168.86.70, interface: eth0 }}]\n",
                    servers(3)
                ),
            ),
        ),
        (
            "all-at-once",
            format!(
                "apiVersion: kiln/v1\ncluster: {{ name: Home, time_zone: \"+2\", k3s: {{ version: v1.34.3+k3s1, service_cidr: 192.168.0.0/16 }} }}\n{USER}nodes:\n{}\
                 base: {{ packages: [HTOP] }}\n",
                servers(2)
            ),
        ),
        (
            "labels-and-taints",
            k3s(
                RELEASE,
                "  - name: s1\n    role: server\n    labels: { -a: b, node-role.kubernetes.io/worker: '', a: b c }\n    \
                 taints: [a=b, a=b:Never, a:NoSchedule]\n",
            ),
        ),
        (
            "cilium-taint",
            k3s(
                RELEASE,
                "  - name: s1\n    role: server\n    network: { address: 192.168.86.71/24 }\n    overlays: [cilium]\n    \
                 taints: ['CriticalAddonsOnly=true:NoExecute', 'dedicated=control:NoSchedule']\n",
            ),
        ),
        ("no-server", k3s(RELEASE, agent)),
        ("even-servers", k3s(&format!("{RELEASE}  endpoint: s1.local\n"), &servers(2))),
        ("four-servers", k3s(&format!("{RELEASE}  endpoint: s1.local\n"), &servers(4))),
        ("no-endpoint", k3s(RELEASE, &format!("  - {{ name: s1, role: server }}\n{agent}"))),
        ("endpoint-nobody", k3s(&format!("{RELEASE}  endpoint: 192.168.86.70\n"), &servers(1))),
        ("endpoint-agent", k3s(&format!("{RELEASE}  endpoint: a1\n"), &format!("{}{agent}", servers(1)))),
        (
            "overlapping-ranges",
            k3s(
                "  k3s: { version: v1.36.2+k3s1, pod_cidr: 192.168.0.0/16, service_cidr: 192.168.128.0/17, cluster_dns: 10.43.0.10 }\n",
                &servers(3),
            ),
        ),
        (
            "virtual-address",
            k3s(
                &format!("{RELEASE}  endpoint: 192.168.86.72\n"),
                &format!("{}overlays: [{{ name: kube-vip, vip: 192.168.86.72 }}]\n", servers(3)),
            ),
        ),
        (
            "virtual-address-elsewhere",
            k3s(
                &format!("{RELEASE}  endpoint: 192.168.87.70\n"),
                &format!("{}overlays: [{{ name: kube-vip, vip: 192.168.87.70 }}]\n", servers(3)),
            ),
        ),
        (
            "data-disk",
            k3s(
                "  k3s: { version: v1.36.2+k3s1, data: dp }\n",
                &format!(
                    "{}disks: {{ data: [{{ name: db, match: {{ transport: nvme }}, use: mount, mount_point: /mnt/db }}] }}\n",
                    servers(3)
                ),
            ),
        ),
        (
            "replicas",
            k3s(
                RELEASE,
                &format!(
                    "{}overlays: [{{ name: longhorn, version: 1.9.2 }}]\ndisks: {{ data: [{{ name: sdf, match: {{ transport: sata }}, use: longhorn }}] }}\n",
                    servers(1)
                ),
            ),
        ),
        (
            "kustomizations",
            k3s(
                RELEASE,
                &format!(
                    "{}overlays:\n  - name: flux\n    repository: {{ url: \"https://git.example.com/a.git\" }}\n    kustomizations:\n      \
                     - {{ name: core, path: ./core, depends_on: [apps] }}\n      \
                     - {{ name: apps, path: ./apps, depends_on: [disks] }}\n      \
                     - {{ name: disks, path: ./storage }}\n      \
                     - {{ name: a, path: ./a, depends_on: [b] }}\n      \
                     - {{ name: b, path: ./b, depends_on: [c] }}\n      \
                     - {{ name: c, path: ./c, depends_on: [a, dsks] }}\n      \
                     - {{ name: a, path: ./d }}\n",
                    servers(1)
                ),
            ),
        ),
        (
            "pins",
            k3s(
                "  k3s: { version: v1.33.1+k3s1, disable: [traefik] }\n",
                &format!(
                    "{}overlays:\n  - traefik\n  - ingress-nginx\n  - {{ name: tailscale, auth_key: {{ secret: x }}, version: 1.92.4 }}\n  \
                     - {{ name: flux, version: 2.10.x, repository: {{ url: \"https://git.example.com/a.git\" }} }}\n",
                    servers(1)
                ),
            ),
        ),
        (
            "recipients",
            format!(
                "{HEAD}{USER}{NODE}secrets:\n  recipients: [age1, AGE-SECRET-KEY-1c2VjcmV0, someone, \"{KEY}\"]\n"
            ),
        ),
    ]
}
