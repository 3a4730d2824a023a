//! What k3s reads: its configuration, and manifests, held against Kubernetes' schemas by `judge.py`.

use crate::rendering::{HOSTILE, PLAIN, Rendered, rendered};
use kiln_tests::{debian_python, said, top};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const MANIFESTS: &str = "/var/lib/rancher/k3s/server/manifests/";

/// Folder with CRDs: `KILN_SCHEMAS`, or `shared/schemas` beside the repository's folder or above that.
fn schemas() -> Option<PathBuf> {
    let named = std::env::var_os("KILN_SCHEMAS").map(PathBuf::from);
    let top = top();
    let beside = top.ancestors().skip(1).map(|folder| folder.join("shared/schemas"));
    let found = named.into_iter().chain(beside).find(|path| path.is_dir());
    if found.is_none() {
        eprintln!("SKIPPED: custom resources are held against nothing: KILN_SCHEMAS names no folder of CRDs");
    }
    found
}

/// Whether the judge knows Kubernetes' own kinds field by field, or by a table of their main parts alone.
fn knows_kubernetes() -> bool {
    let asked = debian_python("python3").args(["-c", "import kubernetes"]).output().expect("python3");
    if !asked.status.success() {
        eprintln!(
            "SKIPPED: Kubernetes' own kinds are held against a small table (python3-kubernetes is not installed)"
        );
    }
    asked.status.success()
}

/// What the judge finds wrong with these, a line each.
fn judged(given: &[(String, String)], schemas: Option<&PathBuf>) -> Vec<String> {
    let mut command: Command = debian_python("python3 python3-yaml python3-jsonschema python3-kubernetes");
    command.arg(top().join("tests/overlays/judge.py")).args(schemas);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("python3");
    let mut input = child.stdin.take().expect("standard input");
    for (place, text) in given {
        writeln!(input, "{}", json!({ "place": place, "text": text })).expect("written");
    }
    drop(input);
    let output = child.wait_with_output().expect("the judge");
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn manifests(nodes: &[Rendered]) -> Vec<(String, String)> {
    let of = |node: &Rendered| {
        let files = node.files.iter().filter(|file| file.path.starts_with(MANIFESTS));
        files.map(|file| (node.place(file), file.text.clone())).collect::<Vec<_>>()
    };
    nodes.iter().flat_map(of).collect()
}

#[test]
fn manifests_are_what_kubernetes_takes() {
    let schemas = schemas();
    for vault in [PLAIN, HOSTILE] {
        let given = manifests(&rendered(vault));
        assert!(given.len() > 20, "{} manifests only", given.len());
        assert_eq!(judged(&given, schemas.as_ref()), Vec::<String>::new());
    }
}

/// The judge can say no: one fault, one line.
#[test]
fn the_judge_can_refuse() {
    let named = |(version, kind): (&str, &str), rest: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a, namespace: b}}\n{rest}\n")
    };
    let helm = ("helm.cattle.io/v1", "HelmChart");
    let flux = ("kustomize.toolkit.fluxcd.io/v1", "Kustomization");
    let sync = "interval: 1m, prune: true, sourceRef: {kind: GitRepository, name: a}";
    let container = "{containers: [{name: a, image: b, env: [{name: C, valeu: d}]}]}";
    let daemons = "selector: {}, template: {metadata: {labels: {a: b}}, spec:";
    let core = [
        ("no name", "apiVersion: v1\nkind: Namespace\nmetadata: {}\n".to_owned()),
        ("twice", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\nkind: Secret\n".to_owned()),
        ("no YAML", "a: [".to_owned()),
        ("YAML in YAML", named(("v1", "ConfigMap"), "data: {values.yaml: 'a: ['}")),
        ("a block of a pool", "apiVersion: cilium.io/v2\nkind: CiliumLoadBalancerIPPool\nmetadata: {name: a}\nspec: {blocks: [{stop: 1.1.1.1}]}\n".to_owned()),
    ];
    let deep = [
        ("a list in data", named(("v1", "Secret"), "stringData: {a: [b]}")),
        (
            "a field of a container",
            named(("apps/v1", "DaemonSet"), &format!("spec: {{{daemons} {container}}}}}")),
        ),
    ];
    let custom = [
        ("an unknown field", named(helm, "spec: {chart: a, valuesContnet: b}")),
        ("a wrong type", named(helm, "spec: {chart: a, bootstrap: \"yes\"}")),
        ("a missing field", named(flux, "spec: {interval: 1m, prune: true}")),
        ("a word for another", named(flux, &format!("spec: {{{sync}, decryption: {{provider: gpg}}}}"))),
        ("a duration", named(flux, &format!("spec: {{{sync}, timeout: soon}}"))),
        ("an unknown kind", named(("example.com/v1", "Thing"), "spec: {}")),
    ];
    let schemas = schemas();
    let knows = knows_kubernetes();
    let all =
        core.iter().chain(deep.iter().filter(|_| knows)).chain(custom.iter().filter(|_| schemas.is_some()));
    for (what, text) in all {
        let said = judged(&[((*what).to_owned(), text.clone())], schemas.as_ref());
        assert!(!said.is_empty(), "{what} was taken:\n{text}");
    }
    let good = named(flux, &format!("spec: {{{sync}}}"));
    assert_eq!(judged(&[("good".to_owned(), good)], schemas.as_ref()), Vec::<String>::new());
}

/// k3s calls an add-on by its file's name up to the first dot, and every server would apply what it has.
#[test]
fn manifests_are_where_k3s_finds_them_once() {
    for node in rendered(PLAIN) {
        let mut names = BTreeSet::new();
        for file in node.files.iter().filter(|file| file.path.starts_with(MANIFESTS)) {
            let name = file.path.trim_start_matches(MANIFESTS);
            let stem = name.strip_suffix(".yaml").unwrap_or(name);
            assert!(node.first, "{}: not the first server", node.place(file));
            assert!(!stem.contains(['.', '/']) && names.insert(stem), "{}: its name", node.place(file));
        }
    }
}

/// Flags of `k3s agent`, which servers have too (k3s documentation, "k3s agent").
const AGENT: &[&str] = &[
    "bind-address",
    "container-runtime-endpoint",
    "data-dir",
    "debug",
    "default-runtime",
    "disable-apiserver-lb",
    "disable-default-registry-endpoint",
    "docker",
    "flannel-cni-conf",
    "flannel-conf",
    "flannel-iface",
    "image-service-endpoint",
    "kube-proxy-arg",
    "kubelet-arg",
    "lb-server-port",
    "log",
    "node-external-dns",
    "node-external-ip",
    "node-internal-dns",
    "node-ip",
    "node-label",
    "node-name",
    "node-taint",
    "nonroot-devices",
    "pause-image",
    "prefer-bundled-bin",
    "private-registry",
    "protect-kernel-defaults",
    "resolv-conf",
    "rootless",
    "selinux",
    "server",
    "snapshotter",
    "token",
    "token-file",
    "with-node-id",
];
/// Further ones of `k3s server` (k3s documentation, "k3s server").
const SERVER: &[&str] = &[
    "advertise-address",
    "advertise-port",
    "agent-token",
    "agent-token-file",
    "cluster-cidr",
    "cluster-dns",
    "cluster-domain",
    "cluster-init",
    "datastore-cafile",
    "datastore-certfile",
    "datastore-endpoint",
    "datastore-keyfile",
    "default-local-storage-path",
    "disable",
    "disable-cloud-controller",
    "disable-helm-controller",
    "disable-kube-proxy",
    "disable-network-policy",
    "disable-scheduler",
    "egress-selector-mode",
    "embedded-registry",
    "etcd-arg",
    "etcd-disable-snapshots",
    "etcd-expose-metrics",
    "etcd-snapshot-dir",
    "etcd-snapshot-retention",
    "etcd-snapshot-schedule-cron",
    "flannel-backend",
    "flannel-external-ip",
    "flannel-ipv6-masq",
    "helm-job-image",
    "https-listen-port",
    "kube-apiserver-arg",
    "kube-controller-manager-arg",
    "kube-scheduler-arg",
    "secrets-encryption",
    "service-cidr",
    "service-node-port-range",
    "servicelb-namespace",
    "supervisor-metrics",
    "system-default-registry",
    "tls-san",
    "tls-san-security",
    "write-kubeconfig",
    "write-kubeconfig-group",
    "write-kubeconfig-mode",
];
/// Flags that may be given more than once: only a list can be added to with `+`.
const LISTS: &[&str] = &["disable", "kubelet-arg", "node-label", "node-taint", "tls-san"];

#[test]
fn k3s_knows_every_key() {
    let mut files = 0;
    for node in rendered(HOSTILE) {
        let server = node.node.role == kiln::cluster::Role::Server;
        for file in node.files.iter().filter(|file| file.path.starts_with("/etc/rancher/k3s/config.yaml")) {
            files += 1;
            let place = node.place(file);
            let read: Value =
                serde_saphyr::from_str(&file.text).unwrap_or_else(|error| panic!("{place}: {error}"));
            for (key, value) in read.as_object().unwrap_or_else(|| panic!("{place}: not a mapping")) {
                let (flag, added) = key.strip_suffix('+').map_or((key.as_str(), false), |flag| (flag, true));
                let known = AGENT.contains(&flag) || server && SERVER.contains(&flag);
                assert!(known, "{place}: k3s {} has no flag {flag}", node.node.role);
                assert!(!added || LISTS.contains(&flag) && value.is_array(), "{place}: {key} is no list");
                let words = value.as_array().into_iter().flatten().all(Value::is_string);
                assert!(words && !value.is_object() && !value.is_null(), "{place}: {key} is {value}");
            }
        }
    }
    assert!(files > 20, "{files} files only");
}

/// Every other YAML and JSON document parses, and hostile secrets arrive as they are.
#[test]
fn documents_parse_with_what_went_in() {
    let mut hostile = 0;
    for node in rendered(HOSTILE) {
        for file in &node.files {
            if !file.path.ends_with(".yaml") && !file.path.ends_with(".json") {
                continue;
            }
            let documents = serde_saphyr::from_multiple::<Value>(&file.text);
            let documents =
                documents.unwrap_or_else(|error| panic!("{}: {error}\n{}", node.place(file), file.text));
            let found = documents.iter().map(|document| texts(document, HOSTILE.before)).sum::<usize>();
            assert_eq!(found > 0, file.secret, "{}", node.place(file));
            hostile += found;
        }
    }
    assert!(hostile > 10, "{hostile} secrets only");
}

/// How many texts are a whole secret; one that is cut or changed is none.
fn texts(value: &Value, before: &str) -> usize {
    match value {
        Value::String(text) => usize::from(text.starts_with(before) && text.ends_with(HOSTILE.after)),
        Value::Array(items) => items.iter().map(|item| texts(item, before)).sum(),
        Value::Object(entries) => entries.values().map(|item| texts(item, before)).sum(),
        _ => 0,
    }
}
