//! What the seed has for the cluster, on a first server whose k3s is the stand-in: it applies its folder as k3s does.

use crate::rig::{Cluster, Node, Server, Supervisor};
use kiln_contract::manifest::{FOLDER, INDEX, KEPT, REPORT};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CHARTS: &str = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmcharts";
const REPOSITORIES: &str = "/apis/source.toolkit.fluxcd.io/v1/namespaces/flux-system/gitrepositories";
const LONGHORN: &str = "/apis/longhorn.io/v1beta2/namespaces/longhorn-system/nodes";
const MAPS: &str = "/api/v1/namespaces/kube-system/configmaps";

/// The server that makes the cluster, with k3s running.
fn first_server() -> Node {
    let cluster = Cluster::new("demo");
    let server = Server::new(&cluster);
    let mut node = Node::new(&cluster, ("server", server.port));
    let from = server.root.path().join("var/lib/rancher");
    let copied = Command::new("cp").arg("-r").arg(&from).arg(node.path("var/lib")).status().unwrap();
    assert!(copied.success());
    let config = node.read("etc/rancher/k3s/config.yaml");
    let config: Vec<&str> = config.lines().filter(|line| !line.starts_with("server:")).collect();
    node.put("etc/rancher/k3s/config.yaml", &config.join("\n"));
    node.document["first"] = true.into();
    node.supervise().ends();
    node
}

/// As cloud-init writes them.
pub(crate) fn seed(node: &Node, manifests: &[(&str, Value)]) {
    let mut names = Vec::new();
    for (name, rest) in manifests {
        let mut document = json!({ "version": 1, "name": name });
        document.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        node.put(&format!("{FOLDER}/{name}.json")[1..], &document.to_string());
        names.push(name);
    }
    let index = json!({ "version": 1, "manifests": names, "withdrawn": ["flux-namespace"] });
    node.put(&INDEX[1..], &index.to_string());
}

pub(crate) fn once(objects: &[Value]) -> Value {
    json!({ "once": objects.iter().map(|object| json!({ "object": object })).collect::<Vec<_>>() })
}

fn chart(version: &str, values: &str) -> Value {
    json!({ "apiVersion": "helm.cattle.io/v1", "kind": "HelmChart",
        "metadata": { "name": "longhorn", "namespace": "kube-system" },
        "spec": { "chart": "longhorn", "version": version, "valuesContent": values, "failurePolicy": "abort" } })
}

fn repository(branch: &str, interval: &str) -> Value {
    json!({ "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": { "name": "flux-system", "namespace": "flux-system" },
        "spec": { "interval": interval, "url": "https://git.example.com/a.git", "ref": { "branch": branch } } })
}

pub(crate) fn secret(data: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "stringData": data,
        "metadata": { "name": "flux-system", "namespace": "flux-system" } })
}

pub(crate) fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

pub(crate) fn map(name: &str, data: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "kube-system" }, "data": data })
}

pub(crate) fn definition(group: &str, (version, kind, plural): (&str, &str, &str)) -> Value {
    json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}") },
        "spec": { "group": group, "scope": "Namespaced", "names": { "kind": kind, "plural": plural },
            "versions": [{ "name": version }] } })
}

const FLUX: (&str, (&str, &str, &str)) =
    ("source.toolkit.fluxcd.io", ("v1", "GitRepository", "gitrepositories"));
const NODES: (&str, (&str, &str, &str)) = ("longhorn.io", ("v1beta2", "Node", "nodes"));

fn define(node: &Node, (group, names): (&str, (&str, &str, &str))) {
    write(
        node,
        ("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
        &definition(group, names),
    );
}

/// A person with kubectl.
fn asked(node: &Node, (method, path): (&str, &str), body: &Value) -> Option<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_k3s-standin"));
    command.args(["ask", method, path]).env("K3S_STANDIN_ROOT", node.root.path());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(body.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

fn write(node: &Node, what: (&str, &str), body: &Value) -> Value {
    asked(node, what, body).unwrap_or_else(|| panic!("{what:?} was refused"))
}

fn get(node: &Node, path: &str) -> Option<Value> {
    asked(node, ("GET", path), &Value::Null)
}

/// What k3s keeps of a file that it has applied: how often, and which objects.
fn addon(node: &Node, name: &str) -> Value {
    let text = node.read("var/lib/rancher/k3s/server/standin.json");
    serde_json::from_str::<Value>(&text).unwrap()[format!("addon/{name}")].clone()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Several looks of k3s at its folder.
fn looks() {
    std::thread::sleep(Duration::from_millis(1200));
}

fn in_folder(node: &Node) -> Vec<String> {
    let entries = fs::read_dir(node.path(&KEPT[1..])).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What the unit does before k3s starts, then k3s, then the rest.
fn boots(node: &Node) -> Supervisor {
    let pid = node.read("standin.pid");
    assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
    let before = before_k3s(node);
    assert!(before.status.success(), "{}", String::from_utf8_lossy(&before.stderr));
    until("k3s has ended", || {
        !Command::new("kill").args(["-0", pid.trim()]).stderr(Stdio::null()).status().unwrap().success()
    });
    node.supervise().ends();
    node.told("manifests")
}

fn before_k3s(node: &Node) -> std::process::Output {
    node.helper(&["manifests", "--before-k3s"])
}

fn lines_of(lines: &[String], start: &str) -> Vec<String> {
    lines.iter().filter(|line| line.starts_with(start)).cloned().collect()
}

/// What a person may change is made once, when its kind is there; k3s puts back what is in its folder alone. A second start, a
/// server that was flashed again, and a later seed.
#[test]
fn what_a_person_changes_stays() {
    let node = first_server();
    let flux = once(&[namespace("flux-system"), secret(&json!({ "identity": "one", "known_hosts": "two" }))]);
    let sync = once(&[repository("main", "1m")]);
    let kept =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, namespace: kube-system}\ndata: {a: seed}\n";
    node.put(&format!("{KEPT}/kept.yaml")[1..], kept);
    let own = once(&[map("deleted", &json!({ "a": "1" })), map("left", &json!({ "a": "1" }))]);
    let first = [
        ("flux-secrets", flux),
        ("flux-sync", sync),
        ("longhorn", once(&[chart("1.9.2", "a: 1")])),
        ("own", own),
    ];
    seed(&node, &first);
    let working = node.told("manifests");
    assert_eq!(
        working.line("manifests: waiting:"),
        "manifests: waiting: GitRepository flux-system/flux-system: Kubernetes does not know GitRepository (source.toolkit.fluxcd.io/v1) yet. What brings that kind is not installed yet (`kubectl get helmcharts,jobs -A`); it is made when it is"
    );
    working.line("manifests: HelmChart kube-system/longhorn is made");
    until("k3s has applied its folder", || addon(&node, "kept")["times"] == 1);
    // Nothing that waits keeps k3s at its folder.
    looks();
    assert_eq!(
        (in_folder(&node), addon(&node, "kept")["times"].clone()),
        (vec!["kept.yaml".to_owned()], json!(1))
    );
    define(&node, FLUX);
    let lines = working.ends();
    let made = lines_of(&lines, "manifests: GitRepository");
    assert_eq!(made, ["manifests: GitRepository flux-system/flux-system is made"]);
    assert_eq!(
        lines.last().unwrap(),
        "manifests: the cluster has what the seed has for it: 6, 6 of them made now, 0 left as somebody changed them"
    );
    // The record is of no use to who may not read Secrets.
    let record = get(&node, &format!("{MAPS}/kiln-made")).unwrap();
    assert_eq!(record["data"].as_object().unwrap().len(), 6, "{record:#}");
    assert!(!record.to_string().contains("one") && !record.to_string().contains("b25l"), "{record:#}");

    // A person works.
    let change = |path: &str, patch: Value| write(&node, ("PATCH", path), &patch);
    let flux_secret = "/api/v1/namespaces/flux-system/secrets/flux-system";
    change(&format!("{CHARTS}/longhorn"), json!({ "spec": { "version": "1.10.1" } }));
    change(&format!("{REPOSITORIES}/flux-system"), json!({ "spec": { "ref": { "branch": "work" } } }));
    change(flux_secret, json!({ "data": { "identity": "bWluZQ==", "more": "bW9yZQ==" } }));
    change(&format!("{MAPS}/kept"), json!({ "data": { "a": "mine" } }));
    write(&node, ("DELETE", &format!("{MAPS}/deleted")), &Value::Null);
    let paths = [
        format!("{CHARTS}/longhorn"),
        format!("{REPOSITORIES}/flux-system"),
        flux_secret.to_owned(),
        format!("{MAPS}/kiln-made"),
    ];
    let state = || paths.iter().map(|path| get(&node, path).unwrap()).collect::<Vec<_>>();
    let theirs = state();

    // A second start, and a server that was flashed again: not an object is written, and it is said.
    for again in ["a second start", "flashed again"] {
        if again == "flashed again" {
            fs::remove_dir_all(node.path("var/lib/kiln")).unwrap();
            seed(&node, &first);
        }
        let lines = boots(&node).ends();
        assert_eq!(state(), theirs, "{again}");
        assert_eq!(get(&node, &format!("{MAPS}/deleted")), None, "{again}");
        for line in [
            "manifests: HelmChart kube-system/longhorn stays as somebody changed it, and is not as the seed has it: /spec/version",
            "manifests: GitRepository flux-system/flux-system stays as somebody changed it, and is not as the seed has it: /spec/ref/branch",
            "manifests: Secret flux-system/flux-system stays as somebody changed it, and is not as the seed has it: /data/identity",
            "manifests: ConfigMap kube-system/deleted was deleted, and is not made again. To have it made, take configmap____kube-system__deleted out of the ConfigMap kube-system/kiln-made",
            "manifests: the cluster has what the seed has for it: 6, 0 of them made now, 4 left as somebody changed them",
        ] {
            assert!(lines.iter().any(|found| found == line), "{again}: {line}: {lines:#?}");
        }
        // What lies in k3s' folder is in force, as the documentation says.
        until("k3s puts back", || get(&node, &format!("{MAPS}/kept")).unwrap()["data"]["a"] == "seed");
        let report: Value = serde_json::from_str(&node.read(&REPORT[1..])).unwrap();
        assert_eq!(report["kept"]["HelmChart kube-system/longhorn"], json!(["/spec/version"]), "{report:#}");
        assert_eq!((report["done"].clone(), report["made"].clone()), (json!(true), json!([])));
    }

    // A later seed: what it says anew, and nothing else; a key that left it leaves the Secret.
    let own = once(&[map("deleted", &json!({ "a": "2" })), map("left", &json!({ "a": "2" }))]);
    seed(
        &node,
        &[
            ("flux-secrets", once(&[namespace("flux-system"), secret(&json!({ "identity": "new" }))])),
            ("flux-sync", once(&[repository("main", "5m")])),
            ("longhorn", once(&[chart("1.9.3", "a: 2")])),
            ("own", own),
        ],
    );
    let lines = boots(&node).ends();
    let secret_now = get(&node, flux_secret).unwrap();
    assert_eq!(secret_now["data"], json!({ "identity": "bWluZQ==", "more": "bW9yZQ==" }));
    let chart_now = get(&node, &format!("{CHARTS}/longhorn")).unwrap();
    assert_eq!(
        (&chart_now["spec"]["version"], &chart_now["spec"]["valuesContent"]),
        (&json!("1.10.1"), &json!("a: 2"))
    );
    let spec = get(&node, &format!("{REPOSITORIES}/flux-system")).unwrap()["spec"].clone();
    assert_eq!((&spec["ref"]["branch"], &spec["interval"]), (&json!("work"), &json!("5m")));
    assert_eq!(get(&node, &format!("{MAPS}/left")).unwrap()["data"]["a"], "2");
    assert_eq!(get(&node, &format!("{MAPS}/deleted")), None);
    let line =
        "manifests: Secret flux-system/flux-system is changed as the seed has it now: /data/known_hosts";
    assert!(lines.iter().any(|found| found == line), "{lines:#?}");
    let theirs = state();
    boots(&node).ends();
    assert_eq!(state(), theirs);

    // As the line says.
    change(&format!("{MAPS}/kiln-made"), json!({ "data": { "configmap____kube-system__deleted": null } }));
    let lines = node.told("manifests").ends();
    assert_eq!(
        lines_of(&lines, "manifests: ConfigMap kube-system/deleted"),
        ["manifests: ConfigMap kube-system/deleted is made"]
    );
    for (path, bytes) in node.files("var/lib/kiln") {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(path.starts_with(node.path(&FOLDER[1..])) || !text.contains("bWluZQ"), "{}", path.display());
    }
}

/// Longhorn deletes what it has of a node that is not there, and begins those of nodes that are.
#[test]
fn longhorns_nodes_are_made_when_the_node_has_joined() {
    let node = first_server();
    let disks = |path: &str| json!({ "sdf": { "path": path, "allowScheduling": true, "tags": ["ssd"] } });
    let of = |name: &str| {
        let object = json!({ "apiVersion": "longhorn.io/v1beta2", "kind": "Node",
            "metadata": { "name": name, "namespace": "longhorn-system" },
            "spec": { "name": name, "allowScheduling": true, "evictionRequested": false, "tags": ["fast"], "disks": disks("/a") } });
        json!({ "after_node": name, "object": object })
    };
    let nodes = json!({ "once": [of("k3s2"), of("k3s7"), of("k3s8")] });
    seed(&node, &[("longhorn-nodes", nodes.clone())]);
    let working = node.told("manifests");
    working.line("manifests: waiting: Node longhorn-system/k3s2: Kubernetes does not know Node (longhorn.io/v1beta2) yet");
    define(&node, NODES);
    assert_eq!(
        working.line("manifests: waiting: Node longhorn-system/k3s2: Kubernetes does not take"),
        "manifests: waiting: Node longhorn-system/k3s2: Kubernetes does not take Node longhorn-system/k3s2 (404): namespaces \"longhorn-system\" not found. It is tried again: what it says may pass (a namespace, a webhook), or the cluster file must change"
    );
    write(&node, ("POST", "/api/v1/namespaces"), &namespace("longhorn-system"));
    working.line("manifests: Node longhorn-system/k3s2 is made");
    working.line("manifests: waiting: Node longhorn-system/k3s7: node k3s7 has not joined yet. What belongs to it is made when it has");
    for name in ["k3s7", "k3s8"] {
        assert_eq!(get(&node, &format!("{LONGHORN}/{name}")), None);
    }
    // Longhorn was faster.
    let begun = json!({ "apiVersion": "longhorn.io/v1beta2", "kind": "Node", "metadata": { "name": "k3s7", "namespace": "longhorn-system" },
        "spec": { "name": "k3s7", "allowScheduling": true, "evictionRequested": false, "tags": [], "disks": {} } });
    write(&node, ("POST", LONGHORN), &begun);
    for name in ["k3s7", "k3s8"] {
        write(&node, ("POST", "/api/v1/nodes"), &json!({ "metadata": { "name": name } }));
    }
    let lines = working.ends();
    let line =
        "manifests: Node longhorn-system/k3s7 is changed as the seed has it now: /spec/disks, /spec/tags";
    assert!(lines.iter().any(|found| found == line), "{lines:#?}");
    for name in ["k3s2", "k3s7", "k3s8"] {
        let spec = get(&node, &format!("{LONGHORN}/{name}")).unwrap()["spec"].clone();
        assert_eq!((&spec["disks"], &spec["tags"]), (&disks("/a"), &json!(["fast"])), "{name}");
    }

    // A node in maintenance, a disk that is broken, a node that is gone.
    let theirs = json!({ "spec": { "allowScheduling": false, "evictionRequested": true, "tags": ["slow"] } });
    write(&node, ("PATCH", &format!("{LONGHORN}/k3s2")), &theirs);
    write(&node, ("PATCH", &format!("{LONGHORN}/k3s7")), &json!({ "spec": { "disks": { "sdf": null } } }));
    write(&node, ("DELETE", &format!("{LONGHORN}/k3s8")), &Value::Null);
    let state = || get(&node, LONGHORN).unwrap()["items"].clone();
    let before = state();
    let lines = boots(&node).ends();
    looks();
    assert_eq!(state(), before);
    let line = "manifests: Node longhorn-system/k3s2 stays as somebody changed it, and is not as the seed has it: /spec/allowScheduling, /spec/evictionRequested, /spec/tags";
    assert!(lines.iter().any(|found| found == line), "{lines:#?}");
}

/// A file that is kept in force lies in k3s' folder while its kinds are there, and no longer. What an older seed laid there is
/// put aside.
#[test]
fn a_file_is_laid_when_its_kinds_are_there() {
    let node = first_server();
    let text = "# mine\napiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: kept, namespace: kube-system}\nspec: {ref: {branch: main}}\n";
    let laid = json!({ "laid": { "kinds": [{ "api_version": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository" }], "text": text } });
    seed(&node, &[("mine", laid)]);
    node.put(&format!("{FOLDER}/flux-sync.json")[1..], "{\"of\": \"an older seed\"}");
    // Older versions laid this one; a user's own stays where it is.
    node.put(
        &format!("{KEPT}/flux-namespace.yaml")[1..],
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: flux-system}\n",
    );
    node.put(
        &format!("{KEPT}/users.yaml")[1..],
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: users}\n",
    );
    let before = before_k3s(&node);
    assert_eq!(
        String::from_utf8_lossy(&before.stderr),
        "manifests: /var/lib/rancher/k3s/server/manifests/flux-namespace.yaml of an earlier seed is not kept in force any more, and is flux-namespace.yaml.before now\n"
    );
    assert_eq!(in_folder(&node), ["flux-namespace.yaml.before", "users.yaml"]);
    assert!(!node.path(&format!("{FOLDER}/flux-sync.json")[1..]).exists());
    let working = node.told("manifests");
    working
        .line("manifests: waiting: Kubernetes does not know GitRepository (source.toolkit.fluxcd.io/v1) yet");
    assert_eq!(in_folder(&node), ["flux-namespace.yaml.before", "users.yaml"]);
    define(&node, FLUX);
    working.line("manifests: mine.yaml is laid into k3s' folder: its kinds are there");
    let path = "/apis/source.toolkit.fluxcd.io/v1/namespaces/kube-system/gitrepositories/kept";
    until("k3s has applied it", || get(&node, path).is_some());
    assert_eq!(node.read(&format!("{KEPT}/mine.yaml")[1..]), text);
    // It stays to look after the file.
    write(
        &node,
        (
            "DELETE",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gitrepositories.source.toolkit.fluxcd.io",
        ),
        &Value::Null,
    );
    working.line("manifests: mine.yaml is taken out of k3s' folder: its kinds are gone");
    define(&node, FLUX);
    until("it is laid again", || node.path(&format!("{KEPT}/mine.yaml")[1..]).exists());
    working.kill();
    // k3s never starts with it.
    let again = boots(&node);
    again.line("manifests: mine.yaml is laid into k3s' folder: its kinds are there");
    assert!(get(&node, path).is_some());
}

/// Servers at work at the same time make each object once, and lose nothing of each other's record.
#[test]
fn several_servers_share_one_record() {
    let node = first_server();
    let objects: Vec<Value> =
        (0..60).map(|at| map(&format!("m{at}"), &json!({ "a": at.to_string() }))).collect();
    let halves: Vec<(String, Value)> =
        objects.chunks(6).enumerate().map(|(at, some)| (format!("part-{at}"), once(some))).collect();
    let named: Vec<(&str, Value)> = halves.iter().map(|(name, rest)| (name.as_str(), rest.clone())).collect();
    seed(&node, &named);
    let both = [node.told("manifests"), node.told("manifests"), node.told("manifests")];
    let made: usize = both.map(|one| lines_of(&one.ends(), "manifests: ConfigMap").len()).iter().sum();
    assert_eq!(made, objects.len());
    let record = get(&node, &format!("{MAPS}/kiln-made")).unwrap();
    assert_eq!(record["data"].as_object().unwrap().len(), objects.len());
    // Later all of it is changed by all of them.
    let later: Vec<Value> = (0..60).map(|at| map(&format!("m{at}"), &json!({ "a": "later" }))).collect();
    let parts: Vec<(&str, Value)> =
        named.iter().zip(later.chunks(6)).map(|((name, _), some)| (*name, once(some))).collect();
    seed(&node, &parts);
    for one in [node.told("manifests"), node.told("manifests")] {
        assert!(lines_of(&one.ends(), "manifests: ConfigMap").iter().all(|line| line.ends_with("/data/a")));
    }
    for at in 0..60 {
        assert_eq!(get(&node, &format!("{MAPS}/m{at}")).unwrap()["data"]["a"], "later", "m{at}");
    }
}
