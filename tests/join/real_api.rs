//! What the seed has for the cluster, against a real Kubernetes API. By name, where somebody has one:
//!
//! `KILN_REAL_API=FOLDER cargo test --workspace --test join real_api -- --ignored --nocapture`
//!
//! FOLDER has the programs `etcd` and `kube-apiserver`, of any version that is in use. k3s' own folder is the stand-in's, in
//! `manifests.rs`: what is asked here is what Kubernetes makes of Kiln's objects, its record and its changes.

use crate::manifests::{definition, map, namespace, once, secret, seed};
use crate::rig::{Cluster, Node, Supervisor};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_contract::manifest::{FOLDER, REPORT};
use kiln_tests::{Ended, port, succeed};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MAPS: &str = "/api/v1/namespaces/kube-system/configmaps";
const CHARTS: &str = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmcharts";
const REPOSITORIES: &str = "/apis/source.toolkit.fluxcd.io/v1/namespaces/flux-system/gitrepositories";
const SECRET: &str = "/api/v1/namespaces/flux-system/secrets/flux-system";
const TLS: &str = "var/lib/rancher/k3s/server/tls";

/// A server's folder, its seed, and the API that runs on it.
struct Rig {
    node: Node,
    port: u16,
    programs: PathBuf,
    running: Vec<Ended>,
}

impl Rig {
    fn new() -> Self {
        let programs = PathBuf::from(std::env::var("KILN_REAL_API").expect(
            "KILN_REAL_API names no folder with `etcd` and `kube-apiserver`: this test has nothing to ask",
        ));
        let cluster = Cluster::new("demo");
        let port = port();
        let mut node = Node::new(&cluster, ("server", port));
        node.document["first"] = true.into();
        node.put("etc/kiln/join.json", &node.document.to_string());
        let rig = Self { node, port, programs, running: Vec::new() };
        cluster.leave(&rig.node, TLS);
        rig.certificate(("server", "kube-apiserver"), "subjectAltName=IP:127.0.0.1");
        rig.certificate(("client", "system:admin"), "extendedKeyUsage=clientAuth");
        let key = rig.node.path(&format!("{TLS}/service.key"));
        succeed(Command::new("openssl").args(["genrsa", "-out"]).arg(key).arg("2048"));
        let data = |name: &str| STANDARD.encode(rig.node.read(&format!("{TLS}/{name}")));
        let text = format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: https://127.0.0.1:{port}\n  name: default\n\
             users:\n- name: default\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
            data("server-ca.crt"),
            data("client.crt"),
            data("client.key")
        );
        rig.node.put("etc/rancher/k3s/k3s.yaml", &text);
        rig
    }

    /// `KIND.crt` and `KIND.key`, of the CA of that kind.
    fn certificate(&self, (kind, name): (&str, &str), extension: &str) {
        let path = |name: &str| self.node.path(&format!("{TLS}/{kind}{name}"));
        fs::write(path(".ext"), extension).unwrap();
        let subject = format!("/O=system:masters/CN={name}");
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        succeed(
            Command::new("openssl")
                .args(["req", "-new", "-subj", &subject])
                .args(key)
                .arg("-keyout")
                .arg(path(".key"))
                .arg("-out")
                .arg(path(".csr")),
        );
        succeed(
            Command::new("openssl")
                .args(["x509", "-req", "-days", "2", "-CAcreateserial", "-in"])
                .arg(path(".csr"))
                .arg("-CA")
                .arg(path("-ca.crt"))
                .arg("-CAkey")
                .arg(path("-ca.key"))
                .arg("-extfile")
                .arg(path(".ext"))
                .arg("-out")
                .arg(path(".crt")),
        );
    }

    fn run(&mut self, program: &str, words: &[String]) {
        let log = File::create(self.node.path(&format!("{program}.log"))).unwrap();
        let mut command = Command::new(self.programs.join(program));
        command.args(words).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.running.push(Ended(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"))));
    }

    /// Starts both, on what is kept of the last time.
    fn start(&mut self) {
        let (clients, peers) = (port(), port());
        let local = |port: u16| format!("http://127.0.0.1:{port}");
        let data = self.node.path("etcd").display().to_string();
        let words = [
            format!("--data-dir={data}"),
            format!("--listen-client-urls={}", local(clients)),
            format!("--advertise-client-urls={}", local(clients)),
            format!("--listen-peer-urls={}", local(peers)),
            format!("--initial-advertise-peer-urls={}", local(peers)),
            format!("--initial-cluster=default={}", local(peers)),
        ];
        self.run("etcd", &words);
        let file = |name: &str| self.node.path(&format!("{TLS}/{name}")).display().to_string();
        let words = [
            format!("--etcd-servers={}", local(clients)),
            format!("--secure-port={}", self.port),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--cert-dir={}", self.node.path("certificates").display()),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--client-ca-file={}", file("client-ca.crt")),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--service-cluster-ip-range=10.43.0.0/16".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-account-key-file={}", file("service.key")),
            format!("--service-account-signing-key-file={}", file("service.key")),
        ];
        self.run("kube-apiserver", &words);
        let end = Instant::now() + Duration::from_secs(180);
        while self.asked(("GET", "/readyz"), &Value::Null).is_none_or(|(status, _)| status != 200) {
            assert!(Instant::now() < end, "{}", self.node.read("kube-apiserver.log"));
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// A person with kubectl: status and answer; nothing where nobody listens.
    fn asked(&self, (method, path): (&str, &str), body: &Value) -> Option<(u16, Value)> {
        let file = |name: &str| self.node.path(&format!("{TLS}/{name}"));
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "30", "--write-out", "\n%{http_code}", "--request", method]);
        command.arg("--cacert").arg(file("server-ca.crt"));
        command.arg("--cert").arg(file("client.crt")).arg("--key").arg(file("client.key"));
        if !body.is_null() {
            command.args(["--header", &format!("Content-Type: {kind}"), "--data", &body.to_string()]);
        }
        let output = command.arg(format!("https://127.0.0.1:{}{path}", self.port)).output().expect("curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (text, status) = text.rsplit_once('\n')?;
        let status = status.parse().ok().filter(|status| *status != 0)?;
        Some((status, serde_json::from_str(text).unwrap_or(Value::Null)))
    }

    fn write(&self, what: (&str, &str), body: &Value) -> Value {
        let (status, said) = self.asked(what, body).expect("an answer");
        assert!((200..300).contains(&status), "{what:?}: {status}: {said:#}");
        said
    }

    fn get(&self, path: &str) -> Option<Value> {
        let (status, object) = self.asked(("GET", path), &Value::Null).expect("an answer");
        assert!(status == 200 || status == 404, "{path}: {status}: {object:#}");
        (status == 200).then_some(object)
    }

    /// A kind whose fields are what its schema says, with what it fills in by itself.
    fn define(&self, kind: (&str, (&str, &str, &str)), spec: &Value) {
        let mut object = definition(kind.0, kind.1);
        object["spec"]["names"]["singular"] = kind.1.1.to_lowercase().into();
        object["spec"]["versions"][0] = json!({
            "name": kind.1.0, "served": true, "storage": true,
            "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": spec } } },
        });
        self.write(("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"), &object);
    }

    fn works(&self) -> Supervisor {
        self.node.told("manifests")
    }
}

/// As k3s' helm-controller and Flux' source-controller describe them, as far as is needed.
fn charts() -> Value {
    json!({ "type": "object", "properties": {
        "chart": { "type": "string" }, "version": { "type": "string" }, "valuesContent": { "type": "string" },
        "failurePolicy": { "type": "string", "default": "reinstall", "enum": ["abort", "reinstall"] } } })
}

fn repositories() -> Value {
    json!({ "type": "object", "required": ["interval", "url"], "properties": {
        "url": { "type": "string", "pattern": "^(http|https|ssh)://.*$" },
        "interval": { "type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$" },
        "timeout": { "type": "string", "default": "60s" },
        "ref": { "type": "object", "properties": { "branch": { "type": "string" } } } } })
}

fn chart(version: &str) -> Value {
    json!({ "apiVersion": "helm.cattle.io/v1", "kind": "HelmChart",
        "metadata": { "name": "longhorn", "namespace": "kube-system" },
        "spec": { "chart": "longhorn", "version": version, "valuesContent": "a: 1", "failurePolicy": "abort" } })
}

fn repository(interval: &str) -> Value {
    json!({ "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": { "name": "flux-system", "namespace": "flux-system" },
        "spec": { "interval": interval, "url": "https://git.example.com/a.git", "ref": { "branch": "main" } } })
}

fn has(lines: &[String], line: &str) {
    assert!(lines.iter().any(|found| found == line), "{line}: {lines:#?}");
}

/// Made once when its kind and its namespace are there; a person's changes stay over starts and a flash; a later seed changes
/// what it says anew; a key that left it leaves the Secret; what Kubernetes refuses is told in its words, and nothing else waits
/// for it.
#[test]
#[ignore = "wants a real Kubernetes API"]
fn a_real_api_keeps_what_a_person_changes() {
    let mut rig = Rig::new();
    rig.start();
    rig.define(("helm.cattle.io", ("v1", "HelmChart", "helmcharts")), &charts());
    let seeded = |rig: &Rig, interval: &str, version: &str, keys: &Value, value: &str| {
        let all = [
            ("flux-secrets", once(&[namespace("flux-system"), secret(keys)])),
            ("flux-sync", once(&[repository(interval)])),
            ("longhorn", once(&[chart(version)])),
            ("own", once(&[map("deleted", &json!({ "a": value })), map("left", &json!({ "a": value }))])),
        ];
        seed(&rig.node, &all);
    };
    let first = json!({ "identity": "one", "known_hosts": "two" });
    seeded(&rig, "5min", "1.9.2", &first, "1");
    let working = rig.works();
    working.line("manifests: waiting: GitRepository flux-system/flux-system: Kubernetes does not know GitRepository (source.toolkit.fluxcd.io/v1) yet");
    working.line("manifests: HelmChart kube-system/longhorn is made");
    rig.define(("source.toolkit.fluxcd.io", ("v1", "GitRepository", "gitrepositories")), &repositories());
    let said = working.line(
        "manifests: waiting: GitRepository flux-system/flux-system: Kubernetes does not take GitRepository",
    );
    assert!(said.contains("(422)") && said.contains("spec.interval"), "{said}");
    eprintln!("{said}");
    working.kill();
    seeded(&rig, "1m", "1.9.2", &first, "1");
    let lines = rig.works().ends();
    has(&lines, "manifests: GitRepository flux-system/flux-system is made");
    assert_eq!(rig.get(&format!("{REPOSITORIES}/flux-system")).unwrap()["spec"]["timeout"], "60s");
    let record = rig.get(&format!("{MAPS}/kiln-made")).unwrap();
    assert_eq!(record["data"].as_object().unwrap().len(), 6, "{record:#}");
    assert!(!record.to_string().contains("b25l"), "{record:#}");

    // A person works.
    let change = |path: &str, patch: Value| rig.write(("PATCH", path), &patch);
    change(&format!("{CHARTS}/longhorn"), json!({ "spec": { "version": "1.10.1" } }));
    change(&format!("{REPOSITORIES}/flux-system"), json!({ "spec": { "ref": { "branch": "work" } } }));
    change(SECRET, json!({ "data": { "identity": "bWluZQ==", "more": "bW9yZQ==" } }));
    rig.write(("DELETE", &format!("{MAPS}/deleted")), &Value::Null);
    let paths = [
        format!("{CHARTS}/longhorn"),
        format!("{REPOSITORIES}/flux-system"),
        SECRET.to_owned(),
        format!("{MAPS}/kiln-made"),
    ];
    let state = |rig: &Rig| paths.iter().map(|path| rig.get(path).unwrap()).collect::<Vec<_>>();
    let theirs = state(&rig);
    for again in ["a second start", "flashed again", "Kubernetes started again"] {
        if again == "flashed again" {
            fs::remove_dir_all(rig.node.path("var/lib/kiln")).unwrap();
            seeded(&rig, "1m", "1.9.2", &first, "1");
        }
        if again == "Kubernetes started again" {
            while rig.running.pop().is_some() {}
            rig.start();
        }
        let lines = rig.works().ends();
        assert_eq!(state(&rig), theirs, "{again}");
        assert_eq!(rig.get(&format!("{MAPS}/deleted")), None, "{again}");
        has(
            &lines,
            "manifests: HelmChart kube-system/longhorn stays as somebody changed it, and is not as the seed has it: /spec/version",
        );
        has(
            &lines,
            "manifests: the cluster has what the seed has for it: 6, 0 of them made now, 4 left as somebody changed them",
        );
    }

    // A later seed.
    seeded(&rig, "5m", "1.9.3", &json!({ "identity": "new" }), "2");
    let lines = rig.works().ends();
    assert_eq!(rig.get(SECRET).unwrap()["data"], json!({ "identity": "bWluZQ==", "more": "bW9yZQ==" }));
    let spec = rig.get(&format!("{REPOSITORIES}/flux-system")).unwrap()["spec"].clone();
    assert_eq!((&spec["ref"]["branch"], &spec["interval"]), (&json!("work"), &json!("5m")));
    assert_eq!(rig.get(&format!("{CHARTS}/longhorn")).unwrap()["spec"]["version"], "1.10.1");
    assert_eq!(rig.get(&format!("{MAPS}/left")).unwrap()["data"]["a"], "2");
    has(
        &lines,
        "manifests: Secret flux-system/flux-system is changed as the seed has it now: /data/known_hosts",
    );
    let theirs = state(&rig);
    rig.works().ends();
    assert_eq!(state(&rig), theirs);
    let report: Value = serde_json::from_str(&rig.node.read(&REPORT[1..])).unwrap();
    assert_eq!(report["done"], true, "{report:#}");
    for (path, bytes) in rig.node.files("var/lib/kiln") {
        let seeds = path.starts_with(rig.node.path(&FOLDER[1..]));
        assert!(seeds || !String::from_utf8_lossy(&bytes).contains("bWluZQ"), "{}", path.display());
    }
    version(&rig.programs);
}

/// What was asked, for whoever writes it down.
fn version(programs: &Path) {
    let output = Command::new(programs.join("kube-apiserver")).arg("--version").output().expect("a version");
    eprintln!("real API: {}", String::from_utf8_lossy(&output.stdout).trim());
}
