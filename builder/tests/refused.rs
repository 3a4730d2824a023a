//! What the programs behind Kiln's overlays refuse, `kiln check` refuses: words of a cluster file, and the message. Each part
//! names the program or the schema that was read, with its version.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

#[path = "refused/raw.rs"]
mod raw;

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
    let files = overlays.iter().map(|overlay| ((*overlay).to_owned(), cluster_file("", overlay)));
    agreed(name, files);
}

/// None of these files is right; what is said of each is below its words in `tests/refused/<name>.snap`.
fn agreed(name: &str, files: impl Iterator<Item = (String, String)>) {
    let mut table = String::new();
    for (words, file) in files {
        let found = errors(&file);
        assert!(!found.is_empty(), "this is taken: {words}");
        table += &format!("{words}\n    {}\n", found.join("\n    "));
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
    // There is room for all of them, if not for the node's own address.
    let told = errors(&cluster_file(", pod_cidr: fd42::/56, service_cidr: fd43::/112", many[0]));
    assert_eq!(told, ["s1 has an IPv4 address, and the pods have IPv6"]);
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
        "{ name: flux, repository: { url: \"ssh://git@github.com/me/x.git\", identity: { secret: a }, known_hosts: x } }".to_owned(),
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
        url("ssh://git@github.com/me/x.git"),
        "{ name: flux, repository: { url: \"ssh://git@github.com/me/x.git\", identity: { secret: a } } }".to_owned(),
        "{ name: flux, repository: { url: \"https://a.example/x.git\", identity: { secret: a }, known_hosts: x } }".to_owned(),
        of("method: manifests"),
        of("registry: \"https://ghcr.io/fluxcd\""),
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

/// What leaves a zone unloaded; `tests/overlays` holds the same against named-checkconf(8).
#[test]
fn names() {
    let zone = |rest: &str| {
        format!(
            "{{ name: external-services, dns: {{ zones: [{{ name: home.arpa, nodes: true, {rest} }}] }} }}"
        )
    };
    let records = |records: &str| zone(&format!("records: [{records}]"));
    let right = [
        records("{ name: \"@\", type: TXT, value: \"v=DKIM1; p=\\\"x\\\" é\" }, { name: _a._tcp, type: SRV, value: 0 1 993 mail }"),
        records("{ name: out, value: 10.0.0.9 }, { name: out, type: TXT, value: x }, { name: \"*\", type: CNAME, value: out }"),
        "{ name: external-services, dns: { unsigned: [lan], forwarders: [10.0.0.1], allow: [10.99.0.0/24] } }".to_owned(),
    ];
    taken("", &right.each_ref().map(String::as_str));
    let wrong = [
        "{ name: external-services, dns: { allow: [10.99.0.7/24] } }".to_owned(),
        "{ name: external-services, dns: { zones: [{ name: a.b }, { name: a.b }] } }".to_owned(),
        zone("serial: 99999999999"),
        records("{ name: a, value: 10.0.0.300 }, { name: a_b, value: 10.0.0.9 }, { name: out, type: CNAME, value: a }"),
        records("{ name: \"@\", type: CNAME, value: a }, { name: a, type: NS, value: x }, { name: \"@\", type: NS, value: x }"),
        records("{ name: b, type: CNAME, value: a }, { name: B, type: CNAME, value: c }, { name: a.b.example., value: 10.0.0.1 }"),
        records("{ name: a, type: MX, value: mail }, { name: a, type: SRV, value: 0 1 70000 b }, { name: a, type: CAA, value: 0 issue }"),
        records("{ name: a, type: AAAA, value: 10.0.0.1 }, { name: \"a b\", type: TXT, value: x }, { name: \"*\", type: NS, value: a. }"),
        "{ name: external-services, dns: { zones: [{ name: 0.0.10.in-addr.arpa, records: [{ name: \"9\", type: PTR, value: a_b. }] }] } }".to_owned(),
    ];
    refused("names", &wrong.each_ref().map(String::as_str));
}

/// MinIO of 2025-04 (its password), OpenBao 2.6.1 (`tls_cert_file` without `tls_key_file`; a key alone turns TLS off), and ports
/// that two programs ask for.
#[test]
fn services() {
    const KEY: &str = "key: { secret: vault-key }";
    taken(
        "",
        &[
            "{ name: external-services, minio: { root_user: { secret: a }, root_password: { secret: b } }, vault: {}, haproxy: {} }",
        ],
    );
    let wrong = [
        "{ name: external-services, minio: { root_user: ab, root_password: hunter2 } }".to_owned(),
        format!("{{ name: external-services, vault: {{ {KEY} }} }}"),
        format!("{{ name: external-services, vault: {{ certificate: x, {KEY} }} }}"),
        "{ name: external-services, vault: { port: 9000 }, minio: { port: 9001, root_user: { secret: a }, root_password: { secret: b } }, haproxy: { port: 9001 } }".to_owned(),
    ];
    refused("services", &wrong.each_ref().map(String::as_str));
    let certificate = rcgen::generate_simple_self_signed(["kiln.test".to_owned()]).expect("made").cert.pem();
    let quoted = format!("{certificate:?}");
    let alone = format!("{{ name: external-services, vault: {{ certificate: {quoted} }} }}");
    assert_eq!(errors(&cluster_file("", &alone)), ["`certificate` is given without `key`"]);
    taken("", &[&format!("{{ name: external-services, vault: {{ certificate: {quoted}, {KEY} }} }}")]);
    let mirror = format!(
        "{{ name: registry-mirrors, credentials: [{{ registry: a.example, certificate: {quoted} }}] }}"
    );
    assert_eq!(errors(&cluster_file("", &mirror)), ["`certificate` is given without `key`"]);
}

/// Go's net/url and golang.org/x/net/http/httpproxy. No message has a password in it.
#[test]
fn proxies() {
    taken(
        "",
        &[
            "{ name: proxy, http: \"http://proxy.lan:3128\", username: ops, password: { secret: proxy }, no_proxy: [.example.com, 10.0.0.0/8] }",
            "{ name: proxy, http: \"http://ops:pa%23ss@[fd00::1]:3128/\" }",
        ],
    );
    let wrong = [
        "{ name: proxy, http: \"http://ops:hun#ter2@proxy:3128\" }",
        "{ name: proxy, http: \"http://ops:hun/ter2@proxy:3128\" }",
        "{ name: proxy, http: \"http://ops:12/ter2@proxy:3128\" }",
        "{ name: proxy, http: \"http://ops:hunter2%@proxy:3128\" }",
        "{ name: proxy, http: \"http://proxy:99999\" }",
        "{ name: proxy, http: \"proxy:3128\" }",
        "{ name: proxy, http: \"http://fd00::1:3128\" }",
        "{ name: proxy, http: \"http://ops:hunter2@proxy\", username: ops }",
        "{ name: proxy, http: \"http://proxy\", password: { secret: proxy } }",
        "{ name: proxy, http: \"http://proxy\", no_proxy: [\"a.example,b.example\", \"https://c.example\"] }",
    ];
    refused("proxy", &wrong);
    for file in wrong {
        let told = errors(&cluster_file("", file)).join("\n");
        assert!(!told.contains("hun") && !told.contains("ter2"), "{told}");
    }
}

/// Debian's update-ca-certificates takes one certificate a file, and whatever it is.
#[test]
fn authorities() {
    let certificate = rcgen::generate_simple_self_signed(["kiln.test".to_owned()]).expect("made");
    let (one, key) = (certificate.cert.pem(), certificate.signing_key.serialize_pem());
    let of =
        |pem: &str| format!("{{ name: ca-certificates, certificates: [{{ name: home, pem: {pem:?} }}] }}");
    taken("", &[&of(&one), &of(&format!("# ours\n{one}{one}"))]);
    let told = |pem: &str| errors(&cluster_file("", &of(pem))).join("\n");
    let private = told(&key);
    assert_eq!(private, "`pem` is not a certificate in PEM: it is a private key, which everybody would read");
    assert_eq!(told(&format!("{one}{key}")), private);
    let cut = one.replacen("MII", "MIJ", 1);
    assert!(
        told(&cut).ends_with("what is between BEGIN and END of block 1 is no X.509 certificate"),
        "{}",
        told(&cut)
    );
    assert!(told(&"x".repeat(300)).ends_with("it has no `-----BEGIN CERTIFICATE-----`"));
    let twice = format!(
        "{{ name: ca-certificates, certificates: [{{ name: a, pem: {one:?} }}, {{ name: a, pem: {one:?} }}] }}"
    );
    assert_eq!(errors(&cluster_file("", &twice)), ["two entries of `certificates` have the name `a`"]);
}

/// tailscale 1.94.1 (`tailcfg.CheckTag`, cmd/tailscale/cli: "advertised without its IPv6 counterpart", "has non-address bits set");
/// headscale 0.28 (tags are the key's).
#[test]
fn tailscale() {
    let of = |rest: &str| format!("{{ name: tailscale, auth_key: {{ secret: a }}, {rest} }}");
    let right = [
        of("routes: [10.1.0.0/16], tags: [tag:k3s-1]"),
        of("routes: [0.0.0.0/0, \"::/0\"]"),
        of("login_server: \"https://hs.example\""),
    ];
    taken("", &right.each_ref().map(String::as_str));
    let wrong = [
        of("routes: [10.1.0.7/16]"),
        of("routes: [0.0.0.0/0]"),
        of("routes: [\"::/0\"]"),
        of("tags: [k3s-nodes, tag:1a, \"tag:\"]"),
        of("tags: [tag:k3s], login_server: \"https://hs.example\""),
    ];
    refused("tailscale", &wrong.each_ref().map(String::as_str));
}

/// What a backup keeps, and when (systemd 257: `systemd-analyze calendar` is asked in `tests/overlays`).
#[test]
fn backups() {
    let of = |rest: &str| {
        format!(
            "{{ name: backup-restic, backups: [{{ name: a, repository: {{ secret: r }}, password: {{ secret: p }}, {rest} }}] }}"
        )
    };
    taken(
        "",
        &[&of(
            "paths: [/home], schedule: \"Mon..Fri 03:00\", random_delay: 1h 30min, environment: { AWS_REGION: { secret: r } }",
        )],
    );
    let wrong = [
        of("paths: [/home], schedule: every day at 3"),
        of("paths: [/home], schedule: \"25:00\", random_delay: half an hour"),
        of("paths: []"),
        of("paths: [home]"),
        of("datastore: true"),
        of("paths: [/home], environment: { AWS-REGION: { secret: r } }"),
    ];
    refused("backups", &wrong.each_ref().map(String::as_str));
    let warnings = |paths: &str| {
        let file = cluster_file("", &of(paths));
        let loaded = cluster::parse(file.as_bytes(), Path::new("cluster.yaml"), Path::new("/nonexistent"));
        let loaded = loaded.unwrap_or_else(|error| panic!("{error:?}"));
        loaded.warnings.faults().iter().map(|fault| fault.message.clone()).collect::<Vec<_>>()
    };
    let torn = "`a` names the datastore of k3s by its path".to_owned();
    assert!(warnings("paths: [/var/lib/rancher/k3s/server/db/snapshots]").contains(&torn));
    assert!(!warnings("paths: [/var/lib/rancher/k3s/server/dbx]").contains(&torn));
}

/// MetalLB 0.16: internal/config (`ParseCIDR`, overlapping pools), and what nobody could reach.
#[test]
fn metallb() {
    let of = |rest: &str| format!("{{ name: metallb, {rest} }}");
    let pool = |addresses: &str| of(&format!("address_pools: [{{ name: lan, addresses: [{addresses}] }}]"));
    taken(
        "",
        &[
            &pool("192.168.86.100-192.168.86.120, 192.168.86.224/28"),
            &of(
                "address_pools: [{ name: lan, addresses: [10.9.0.0/24] }], l2: false, bgp_peers: [{ name: a, address: 192.168.86.1, asn: 64512, my_asn: 64513 }]",
            ),
        ],
    );
    let wrong = [
        pool("192.168.86.100"),
        pool("192.168.86.120-192.168.86.100"),
        pool("192.168.86.100-2001:db8::1"),
        pool("192.168.86.100-192.168.86.300"),
        pool("192.168.86.1/24"),
        pool("192.168.86.100-192.168.86.120, 192.168.86.120/32"),
        pool("192.168.86.64/26"),
        pool(""),
        of("address_pools: [{ name: lan, addresses: [192.168.86.100/32] }], l2: false"),
    ];
    refused("metallb", &wrong.each_ref().map(String::as_str));
    let both = cluster_file("", &pool("192.168.86.100/31"))
        .replace("nodes:\n", "  - { name: kube-vip, vip: 192.168.86.90, services: true }\nnodes:\n");
    let message =
        "kube-vip and `metallb` would both give Services of type LoadBalancer their addresses".to_owned();
    assert!(errors(&both).contains(&message), "{:?}", errors(&both));
}

/// wireguard-tools 1.0.20210914: src/config.c (`parse_key`, `parse_endpoint`, `parse_allowedips`).
#[test]
fn wireguard() {
    const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
    let of = |rest: &str| format!("{{ name: wireguard, private_key: {{ secret: wg }}, {rest} }}");
    let peer =
        |rest: &str| of(&format!("addresses: [10.99.0.1/24], peers: [{{ public_key: \"{KEY}\", {rest} }}]"));
    taken(
        "",
        &[&peer(
            "allowed_ips: [10.99.0.2/32, \"::/0\"], endpoint: \"vpn.example.com:51820\", keepalive: 25, preshared_key: { secret: psk }",
        )],
    );
    let wrong = [
        of("addresses: []"),
        of("addresses: [10.99.0.1]"),
        of(
            "addresses: [10.99.0.1/24], peers: [{ public_key: \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8D==\", allowed_ips: [10.0.0.0/8] }]",
        ),
        of("addresses: [10.99.0.1/24], listen_port: 70000"),
        peer("allowed_ips: [10.99.0.2/24]"),
        peer("allowed_ips: [10.99.0.2/32], endpoint: vpn.example.com"),
        peer("allowed_ips: [10.99.0.2/32], endpoint: \"2001:db8::1:51820\""),
        peer("allowed_ips: [10.99.0.2/32, 10.99.0.2/32]"),
        of(&format!("addresses: [10.99.0.1/24], private_key: \"{KEY}\", mtu: 100")),
    ];
    refused("wireguard", &wrong.each_ref().map(String::as_str));
}

/// nfs-utils 2.8: exports(5), support/nfs/exports.c (`parseopts`).
#[test]
fn nfs_server() {
    let of = |path: &str, client: &str| {
        format!("{{ name: nfs-server, exports: [{{ path: {path}, clients: [{client}] }}] }}")
    };
    taken(
        "",
        &[
            &of(
                "/var/nas",
                "{ host: 10.0.0.0/24 }, { host: \"*.home.arpa\", options: [ro, all_squash, anonuid=1000, fsid=0] }",
            ),
            &of("\"/mnt/a b\"", "{ host: \"2001:db8::/64\" }"),
        ],
    );
    let wrong = [
        of("/srv/nas", "{ host: \"*\" }"),
        of("/home/anna/share", "{ host: \"*\" }"),
        of("/etc", "{ host: \"*\" }"),
        of("/var/nas/", "{ host: \"*\" }"),
        of("/var/../etc", "{ host: \"*\" }"),
        of("'/var/\"nas'", "{ host: \"*\" }"),
        of("/var/nas", "{ host: \"a b\" }"),
        of("/var/nas", "{ host: \"*(rw)\" }"),
        of("/var/nas", "{ host: \"*\", options: [no_root_sqash] }"),
        of("/var/nas", "{ host: \"*\", options: [\"rw,sync\"] }"),
        of("/var/nas", "{ host: \"*\", options: [anonuid=] }"),
        of("/var/nas", ""),
    ];
    refused("nfs-server", &wrong.each_ref().map(String::as_str));
}
