//! Words that reach k3s and the kubelet as they are, overlays beside each other, and places of others.

use super::{SERVER, agreed, cluster_file, errors, taken};

/// Words that k3s hands on, and its own: Kubernetes 1.34.3 (cmd/kubelet/app/options, pkg/kubelet/logs, apimachinery's
/// `Quantity::AsInt64` and `PortRange`), k3s v1.34.3+k3s1 (pkg/cli/cmds).
#[test]
fn flags() {
    let of = |k3s: &str| cluster_file(&format!(", {k3s}"), "kubelet-limits");
    let wrong = [
        "kubelet_arguments: [max-podz=50]",
        "kubelet_arguments: [--max-pods=1000]",
        "kubelet_arguments: [max-pods 50]",
        "agent: { kubelet-arg: [max-pods=1000] }",
        "server: { kubelet-arg+: [\"eviction-soft=memory.available<10%,nodefs.avail<5%\"] }",
        "kubelet_arguments: [image-gc-high-threshold=70]",
        "kubelet_arguments: [\"system-reserved=foo=1,cpu=x\", container-log-max-size=10x]",
        "kubelet_arguments: [\"register-with-taints=a=b:NoSched\", \"node-labels=node-role.kubernetes.io/worker=true\"]",
        "server: { node-label: [\"node-role.kubernetes.io/worker=true\"] }",
        "agent: { node-label: [\"a b=c\"], node-taint: [\"a=b:NoSched\"] }",
        "server: { etcd-s3-timeout: 5 minutes, etcd-snapshot-reconcile-interval: 1d }",
        "server: { service-node-port-range: x-y }",
        "server: { secrets-encryption: maybe, etcd-snapshot-retention: five }",
        "pod_cidr: [10.42.0.0/16, \"fd00:42::/56\"], service_cidr: [\"fd00:43::/112\", 10.43.0.0/16]",
    ];
    agreed("flags", wrong.iter().map(|k3s| ((*k3s).to_owned(), of(k3s))));
    for k3s in [
        "server: { kube-controller-manager-arg+: [node-cidr-mask-size=22] }, kubelet_arguments: [max-pods=1000]",
        "server: { etcd-snapshot-retention: \"5\", secrets-encryption: \"true\", etcd-s3-timeout: 1m30s }",
        "agent: { node-label: [kubernetes.io/arch=amd64, a.example/b=c] }, kubelet_arguments: [v=2, \"feature-gates=A=true\"]",
        "service_cidr: 10.128.0.0/9, server: { service-node-port-range: 20000+1000 }",
        "kubelet_arguments: [\"eviction-soft=memory.available<10%\", \"eviction-soft-grace-period=memory.available=1m\"]",
    ] {
        assert_eq!(errors(&of(k3s)), Vec::<String>::new(), "{k3s}");
    }
}

/// What two overlays, or an overlay and k3s' own flags, ask for at once.
#[test]
fn both_at_once() {
    let wrong = [
        (
            "",
            "{ name: kube-vip, vip: 192.168.86.100, services: true }\n  - { name: cilium, address_pools: [{ name: a, blocks: [{ cidr: 192.168.90.0/28 }] }] }",
        ),
        ("", "traefik\n  - ingress-nginx"),
        (", server: { node-taint: [\"dedicated=x:NoSchedule\"] }", "cilium"),
        (", kubelet_arguments: [\"register-with-taints=dedicated=x:NoSchedule\"]", "cilium"),
        (", server: { disable-network-policy: false, disable-kube-proxy: false }", "cilium"),
        (
            ", agent: { private-registry: /etc/x.yaml, disable-default-registry-endpoint: false }",
            "{ name: registry-mirrors, default_endpoint: false }",
        ),
        ("", "{ name: kube-vip, vip: 192.168.86.0 }"),
        ("", "{ name: kube-vip, vip: \"fd00::100\" }"),
        (
            "",
            "{ name: cilium, address_pools: [{ name: a, blocks: [{ cidr: 192.168.86.64/27 }, { cidr: 10.42.0.0/24 }] }] }",
        ),
        ("", "{ name: longhorn, version: 1.10.1, values: { persistence: { defaultClass: false } } }"),
        ("", "{ name: ingress-nginx, values: { controller: { service: { nodePorts: { http: 80 } } } } }"),
        (
            "",
            "{ name: registry-mirrors, mirrors: [{ registry: docker.io, endpoints: [\"https://a.b\"] }, { registry: docker.io, endpoints: [\"https://c.d\"] }] }",
        ),
    ];
    let words = |(k3s, overlays): &(&str, &str)| (format!("{k3s} {overlays}"), cluster_file(k3s, overlays));
    agreed("both-at-once", wrong.iter().map(words));
    taken(
        "",
        &[
            "{ name: kube-vip, vip: 192.168.86.100 }\n  - { name: cilium, address_pools: [{ name: apps-v1.2, blocks: [{ cidr: 192.168.90.0/28 }] }] }",
            "{ name: ingress-nginx }\n  - { name: traefik, http_port: 30081, https_port: 30444 }",
            "{ name: flux, version: \">=2.7 <3\", repository: { url: \"https://a.example/x.git\" } }",
        ],
    );
}

/// Places that the system or Kiln writes.
#[test]
fn files_of_others() {
    let file = |path: &str| {
        format!(
            "apiVersion: kiln/v1\ncluster:\n  name: home\n  files: [{{ path: {path}, content: a }}]\n  k3s: {{ version: v1.34.3+k3s1 }}\n\
             users: [{{ name: ops, password_hash: $y$j9T$abc$def }}]\nnodes:\n{SERVER}"
        )
    };
    for path in [
        "/etc/rancher/k3s/config.yaml",
        "/etc/passwd",
        "/etc/hosts",
        "/run/x",
        "/etc/kiln/join.json",
        "/var/lib/kiln/x",
    ] {
        let found = errors(&file(path));
        assert!(
            found.iter().any(|said| said.contains("is written by Kiln or by the system")),
            "{path}: {found:?}"
        );
    }
    for path in ["/etc/rancher/k3s/config.yaml.d/70-own.yaml", "/etc/hosts.allow", "/etc/app/run/x"] {
        assert_eq!(errors(&file(path)), Vec::<String>::new(), "{path}");
    }
}
