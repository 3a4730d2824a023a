//! What the programs behind Kiln's overlays refuse, `kiln check` refuses: words of a cluster file, and the message. Each part
//! names the program or the schema that was read, with its version.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use kiln::cluster;
use std::path::Path;

const SERVER: &str = "  - { name: s1, role: server, network: { address: 192.168.86.71/24 } }\n  - { name: out, network: { address: 192.168.86.80/24 } }\n";

/// A cluster with this overlay, and what is said of k3s beside its version.
fn cluster_file(k3s: &str, overlay: &str) -> String {
    format!(
        "apiVersion: kiln/v1\ncluster:\n  name: home\n  k3s: {{ version: v1.34.3+k3s1{k3s} }}\n\
         users: [{{ name: ops, password_hash: $y$j9T$abc$def }}]\noverlays:\n  - {overlay}\nnodes:\n{SERVER}"
    )
}

/// The errors of a file, as a person reads them.
fn errors(file: &str) -> Vec<String> {
    match cluster::parse(file.as_bytes(), Path::new("cluster.yaml"), Path::new("/nonexistent")) {
        Ok(_) => Vec::new(),
        Err(cluster::Error::Faults(report)) => report
            .faults()
            .iter()
            .filter(|fault| fault.severity == kiln::diag::Severity::Error)
            .map(|fault| fault.message.clone())
            .collect(),
        Err(error) => panic!("{error}"),
    }
}

/// All of these are right.
fn taken(k3s: &str, overlays: &[&str]) {
    for overlay in overlays {
        assert_eq!(errors(&cluster_file(k3s, overlay)), Vec::<String>::new(), "{overlay}");
    }
}

/// None of these is, and what is said is in `tests/refused/<name>.snap`.
fn refused(name: &str, overlays: &[&str]) {
    let mut table = String::new();
    for overlay in overlays {
        let found = errors(&cluster_file("", overlay));
        assert!(!found.is_empty(), "this is taken: {overlay}");
        table += &format!("{overlay}\n    {}\n", found.join("\n    "));
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("refused");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, table));
}

/// Kubernetes 1.34: pkg/kubelet/apis/config/validation, pkg/kubelet/eviction/helpers.go, cmd/kubelet/app/server.go
/// (`parseResourceList`), apimachinery's `ParseQuantity`.
#[test]
fn kubelet() {
    taken(
        "",
        &[
            "{ name: kubelet-limits, max_pods: 254, eviction_hard: { memory.available: 5%, pid.available: \"1000\" } }",
            "{ name: kubelet-limits, image_gc_high_threshold: 81 }",
            "{ name: kubelet-limits, system_reserved: { cpu: 1, memory: 1.5Gi, pid: 1000 } }",
            "{ name: kubelet-limits, eviction_soft: { memory.available: 10% }, eviction_soft_grace_period: { memory.available: 1m30s } }",
        ],
    );
    refused(
        "kubelet-limits",
        &[
            "{ name: kubelet-limits, eviction_soft: { memory.available: 10%, nodefs.available: 10% }, eviction_soft_grace_period: { nodefs.available: 1m } }",
            "{ name: kubelet-limits, eviction_soft: { memory.available: 1Gi }, eviction_soft_grace_period: { memory.available: 1d } }",
            "{ name: kubelet-limits, image_gc_high_threshold: 70 }",
            "{ name: kubelet-limits, image_gc_low_threshold: 90 }",
            "{ name: kubelet-limits, image_gc_low_threshold: 60, image_gc_high_threshold: 60 }",
            "{ name: kubelet-limits, system_reserved: { foo: \"1\" }, kube_reserved: { memory: 10Xi, cpu: -1 } }",
            "{ name: kubelet-limits, eviction_hard: { memory.avail: 5% } }",
            "{ name: kubelet-limits, eviction_hard: { memory.available: 10Xi, nodefs.available: \"0\", imagefs.available: 101% } }",
            "{ name: kubelet-limits, container_log_max_size: 10x }",
            "{ name: kubelet-limits, container_log_max_size: \"0\" }",
            "{ name: kubelet-limits, max_pods: 300 }",
        ],
    );
}

/// A node's part of the pods' network: kube-controller-manager's `--node-cidr-mask-size` (24, and 64 of IPv6).
#[test]
fn pods_have_addresses() {
    let told = errors(&cluster_file(", kubelet_arguments: [max-pods=300]", "kubelet-limits"));
    assert_eq!(told, ["300 pods do not fit a node: its /24 of the pods' network has 254 addresses"]);
    let many = ["{ name: kubelet-limits, max_pods: 1000 }"];
    taken(", server: { kube-controller-manager-arg: [bind-address=0.0.0.0, node-cidr-mask-size=22] }", &many);
    taken(", pod_cidr: fd42::/56, service_cidr: fd43::/112", &many);
}

/// Patterns of the CRDs: fluxcd/kustomize-controller 186fb3b, fluxcd/source-controller 39b711b1,
/// controlplaneio-fluxcd/flux-operator 17c6aea; fluxcd/pkg's `varsubRegex`; RFC 1123 labels for namespaces.
#[test]
fn flux() {
    let of =
        |rest: &str| format!("{{ name: flux, repository: {{ url: \"https://a.example/x.git\" }}, {rest} }}");
    let url = |url: &str| format!("{{ name: flux, repository: {{ url: \"{url}\" }} }}");
    let one = |rest: &str| of(&format!("kustomizations: [{{ name: a, path: ./a, {rest} }}]"));
    let right = [
        url("ssh://git@github.com/me/x.git"),
        url("http://git.lan:3000/x.git"),
        one(
            "target_namespace: apps, substitute: { _a1: \"\" }, interval: 1h30m, timeout: 1.5h, retry_interval: 500ms",
        ),
    ];
    taken("", &right.each_ref().map(String::as_str));
    let wrong = [
        one("interval: 1d"),
        one("interval: \"60\""),
        one("interval: 5 m, retry_interval: 5min, timeout: 1.h"),
        url("git@github.com:me/x.git"),
        url("ssh://git@github.com:me/x.git"),
        url("file:///srv/x.git"),
        of("artifact: ghcr.io/a/b"),
        of("operator_chart: flux-operator"),
        one("substitute: { a-b: x }"),
        one("target_namespace: Ab_c"),
        of("kustomizations: [{ name: \"::1\", path: ./a }]"),
        "{ name: flux, repository: { url: \"https://a.example/x.git\", interval: 1d, ca: x } }".to_owned(),
    ];
    refused("flux", &wrong.each_ref().map(String::as_str));
}

/// Cilium 1.18: CiliumLoadBalancerIPPool (`cidr`, `start` and `stop` are texts of addresses), operator/pkg/lbipam (a pool with a
/// conflict gives out nothing), CiliumL2AnnouncementPolicy (interfaces by Go's regexp), label selectors of apimachinery.
#[test]
fn cilium() {
    let pools = |pools: &str| format!("{{ name: cilium, address_pools: [{pools}] }}");
    let block = |block: &str| pools(&format!("{{ name: a, blocks: [{block}] }}"));
    let policy = |rest: &str| format!("{{ name: cilium, l2_announcements: [{{ name: a, {rest} }}] }}");
    let right = [
        block("{ cidr: 10.9.0.0/24 }, { start: 10.9.1.1 }, { start: \"fd00::1\", stop: \"fd00::9\" }"),
        policy("interfaces: [\"^eth[0-9]+$\"], nodes: { kubernetes.io/os: linux, empty: \"\" }"),
    ];
    taken("", &right.each_ref().map(String::as_str));
    let wrong = [
        block("{}"),
        block("{ stop: 10.0.0.9 }"),
        block("{ start: 10.0.0.9, stop: 10.0.0.1 }"),
        block("{ start: 10.0.0.9, stop: \"fd00::1\" }"),
        block("{ cidr: 10.0.0.0/24, start: 10.0.0.1 }"),
        block("{ cidr: 10.0.0.7/24 }"),
        pools(
            "{ name: a, blocks: [{ cidr: 10.0.0.0/24 }] }, { name: b, blocks: [{ start: 10.0.0.9, stop: 10.0.1.9 }] }",
        ),
        pools("{ name: a, blocks: [{ start: 10.0.0.9 }] }, { name: a, blocks: [{ start: 10.0.0.10 }] }"),
        policy("interfaces: [\"^eth[0-9+\"]"),
        policy("nodes: { kubernetes.io/os: \"b c\" }, services: { \"a b\": c }"),
    ];
    refused("cilium", &wrong.each_ref().map(String::as_str));
}

/// kube-apiserver 1.34: `service-node-port-range`.
#[test]
fn ports_of_nodes() {
    taken("", &["ingress-nginx"]);
    let wider = ", server: { service-node-port-range: 80-32767 }";
    taken(wider, &["{ name: ingress-nginx, http_port: 80, https_port: 443 }"]);
    refused(
        "ingress-nginx",
        &[
            "{ name: ingress-nginx, http_port: 80 }",
            "{ name: ingress-nginx, https_port: 32768 }",
            "{ name: ingress-nginx, http_port: 30443 }",
        ],
    );
}

/// Longhorn 1.9 to 1.11: tags are qualified names (`util.ValidateTags`).
#[test]
fn longhorn() {
    taken("", &["{ name: longhorn, node_tags: [fast, example.com/a.b] }"]);
    refused(
        "longhorn",
        &["{ name: longhorn, node_tags: [\"a b\"] }", "{ name: longhorn, node_tags: [\"a,b\"] }"],
    );
}
