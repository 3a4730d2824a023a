//! What k3s reads: its configuration, and manifests, held against Kubernetes' schemas by `judge.py`.

use crate::rendering::{HOSTILE, PLAIN, Rendered, rendered};
use kiln::render::File;
use kiln_contract::manifest::{FOLDER, INDEX, Identity, Index, KEPT, Manifest};
use kiln_tests::{debian_python, said, top};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

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

/// The files that k3s finds in its folder, and the documents of what the node makes once, by their names.
fn kept(node: &Rendered) -> Vec<(&str, &File)> {
    below(node, KEPT)
}

fn documents(node: &Rendered) -> Vec<(&str, Manifest)> {
    let read = |(name, file): (_, &File)| {
        let manifest = Manifest::parse(file.text.as_bytes());
        (name, manifest.unwrap_or_else(|error| panic!("{}: {error}", node.place(file))))
    };
    below(node, FOLDER).into_iter().map(read).collect()
}

fn below<'a>(node: &'a Rendered, folder: &str) -> Vec<(&'a str, &'a File)> {
    let name = |file: &'a File| Some((file.path.strip_prefix(folder)?.strip_prefix('/')?, file));
    node.files.iter().filter_map(name).collect()
}

fn manifests(nodes: &[Rendered]) -> Vec<(String, String)> {
    let of = |node: &Rendered| {
        let files = kept(node).into_iter().map(|(_, file)| (node.place(file), file.text.clone()));
        let once = documents(node).into_iter().map(|(name, manifest)| {
            let objects: Vec<String> = manifest.once.iter().map(|once| once.object.to_string()).collect();
            let laid = manifest.laid.map(|laid| laid.text).unwrap_or_default();
            (format!("{}/{}/{name}", node.cluster, node.node.name), objects.join("\n---\n") + &laid)
        });
        files.chain(once).collect::<Vec<_>>()
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

/// k3s calls an add-on by its file's name up to the first dot, and every server would apply what it has. Its folder has kinds
/// that are there from the start alone: one that is not makes k3s apply all of it again and again. What Kiln's own overlays keep
/// in force is this and no more, and no object has two files.
#[test]
fn manifests_are_where_k3s_finds_them_once() {
    let mut in_force = BTreeSet::new();
    for node in rendered(PLAIN) {
        let (mut names, mut objects) = (BTreeSet::new(), BTreeSet::new());
        for (name, file) in kept(&node) {
            let stem = name.strip_suffix(".yaml").unwrap_or(name);
            assert!(node.first, "{}: not the first server", node.place(file));
            assert!(
                !stem.contains(['.', '/']) && names.insert(stem.to_owned()),
                "{}: its name",
                node.place(file)
            );
            in_force.insert(stem.to_owned());
            for object in serde_saphyr::from_multiple::<Value>(&file.text).expect("YAML") {
                let identity = Identity::of(&object).expect("an object");
                let there = ["", "apps", "rbac.authorization.k8s.io"];
                assert!(
                    there.contains(&identity.group()),
                    "{}: {identity} may not be there yet",
                    node.place(file)
                );
                assert!(objects.insert(identity.key()), "{}: {identity} is in two files", node.place(file));
            }
        }
        for (name, manifest) in documents(&node) {
            assert!(node.first && manifest.laid.is_none(), "{}: {name}", node.node.name);
            assert_eq!(name.strip_suffix(".json"), Some(manifest.name.as_str()));
            assert!(names.insert(manifest.name.clone()), "{name} is in k3s' folder, too");
            for once in &manifest.once {
                let identity = Identity::of(&once.object).expect("an object");
                assert!(objects.insert(identity.key()), "{name}: {identity} is in two files");
                // Longhorn deletes what it has of nodes that are not there.
                let of_a_node = identity.kind == "Node";
                assert_eq!(
                    once.after_node.as_ref(),
                    of_a_node.then_some(&identity.name),
                    "{name}: {identity}"
                );
                // k3s' default is to uninstall what failed once.
                let policy = &once.object["spec"]["failurePolicy"];
                assert!(identity.kind != "HelmChart" || policy == "abort", "{name}: {identity}");
            }
        }
        let index = node.file(INDEX).map(|file| Index::parse(file.text.as_bytes()).expect("an index"));
        assert_eq!(index.is_some(), node.node.role == kiln::cluster::Role::Server, "{}", node.node.name);
        let listed = index.map(|index| index.manifests).unwrap_or_default();
        let made: BTreeSet<String> =
            documents(&node).into_iter().map(|(_, manifest)| manifest.name).collect();
        assert_eq!(listed, made.into_iter().collect::<Vec<_>>(), "{}", node.node.name);
    }
    assert_eq!(in_force.into_iter().collect::<Vec<_>>(), ["cloud-init-server", "kube-vip"]);
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
