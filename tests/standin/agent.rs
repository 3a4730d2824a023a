//! A node: what k3s' agent fetches, writes and registers.

use crate::client::{Ask, Peer, Token};
use crate::config::{self, Config};
use crate::{Outcome, authority};
use serde_json::{Map, json};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

const FOLDER: &str = "/var/lib/rancher/k3s/agent";
const PASSWORD: &str = "/etc/rancher/node/password";
/// k3s' own (`--lb-server-port`).
const BALANCER: u16 = 6444;

/// Joins, and stays.
pub(crate) fn run(config: &Config) -> Outcome<()> {
    let token = Token::parse(&config.token("token")?.ok_or("--token is required")?)?;
    let url = config.text("server").ok_or("--server is required")?;
    let (peer, port) = loop {
        match join(config, &url, &token) {
            Ok(joined) => break joined,
            // As k3s does, for ever.
            Err(error) => eprintln!("Waiting to retrieve agent configuration; server is not ready: {error}"),
        }
        std::thread::sleep(Duration::from_secs(1));
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let (host, to) = (peer.host.clone(), peer.port);
    std::thread::spawn(move || balance(&listener, &host, to));
    crate::ready()?;
    register(config, &peer, None)?;
    renew(config, peer);
    loop {
        std::thread::park();
    }
}

/// Everything before the kubelet starts; the server, as the kubelet sees it.
fn join(config: &Config, url: &str, token: &Token) -> Outcome<(Peer, u16)> {
    let mut peer = Peer::find(url, token)?;
    peer.ask(Ask::get("/v1-k3s/config").with("node", &token.secret))?;
    let folder = config.path(FOLDER);
    for name in ["client-ca.crt", "server-ca.crt"] {
        let bytes = peer.ask(Ask::get(&format!("/v1-k3s/{name}")).with("node", &token.secret))?;
        config::write(&folder.join(name), bytes)?;
    }
    let node = config.node()?;
    let password = password(config)?;
    let mut identity = None;
    for name in ["serving-kubelet", "client-kubelet"] {
        let (key, request) = authority::request()?;
        let path = format!("/v1-k3s/{name}.crt");
        let mut ask = Ask { method: "POST", path: &path, headers: Vec::new(), body: request };
        ask.headers.push(("k3s-Node-Name", node.clone()));
        ask.headers.push(("k3s-Node-Password", password.clone()));
        ask.headers.extend(config.text("node-ip").map(|ip| ("k3s-Node-IP", ip)));
        let certificate = String::from_utf8(peer.ask(ask.with("node", &token.secret))?)?;
        config::write(&folder.join(format!("{name}.crt")), &certificate)?;
        config::write(&folder.join(format!("{name}.key")), &key)?;
        identity = Some((certificate, key));
    }
    peer.identity = identity;
    let port = config.port("lb-server-port", BALANCER)?;
    kubeconfig(config, port)?;
    Ok((peer, port))
}

/// The node's password; k3s makes one where there is none.
fn password(config: &Config) -> Outcome<String> {
    let path = config.path(PASSWORD);
    if !path.exists() {
        let mut bytes = [0; 16];
        io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
        let text = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        config::write(&path, format!("{text}\n"))?;
    }
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

/// The kubelet's kubeconfig, in k3s' form: paths, not data.
pub(crate) fn kubeconfig(config: &Config, port: u16) -> Outcome<()> {
    let text = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    server: https://127.0.0.1:{port}\n    certificate-authority: {FOLDER}/server-ca.crt\n  name: local\n\
         contexts:\n- context:\n    cluster: local\n    namespace: default\n    user: user\n  name: Default\ncurrent-context: Default\n\
         kind: Config\npreferences: {{}}\nusers:\n- name: user\n  user:\n    client-certificate: {FOLDER}/client-kubelet.crt\n    client-key: {FOLDER}/client-kubelet.key\n"
    );
    config::write(&config.path(FOLDER).join("kubelet.kubeconfig"), text)
}

/// What the kubelet reports as the machine's UUID (google/cadvisor, utils/sysfs/sysfs.go: GetSystemUUID).
fn system_uuid(config: &Config) -> String {
    let read = |path: &str| std::fs::read_to_string(config.path(path)).ok();
    let found = read("/sys/class/dmi/id/product_uuid").or_else(|| read("/etc/machine-id"));
    found.unwrap_or_default().trim().to_owned()
}

/// Renews the node's lease for ever, as the kubelet does.
pub(crate) fn renew(config: &Config, peer: Peer) {
    let Ok(name) = config.node() else { return };
    std::thread::spawn(move || {
        let top = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let one = format!("{top}/{name}");
        for count in 0_u64.. {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name },
                "spec": { "holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": format!("renewal {count} of {}", std::process::id()) },
            });
            let send = |method: &str, path: &str| {
                let body = lease.to_string().into_bytes();
                peer.ask(Ask { method, path, headers: Vec::new(), body })
            };
            if send("PUT", &one).is_err() {
                let _ = send("POST", top);
            }
            std::thread::sleep(config::seconds("K3S_STANDIN_LEASE", 10.0));
        }
    });
}

/// Makes the Node object, or gives it what is new, and says that the node is Ready when some time has gone by. `member` is the
/// node's in etcd.
pub(crate) fn register(config: &Config, peer: &Peer, member: Option<&serde_json::Value>) -> Outcome<()> {
    let name = config.node()?;
    let condition = |ready: bool| {
        let (status, message) = match ready {
            true => ("True", "kubelet is posting ready status"),
            false => ("False", "container runtime network not ready: cni plugin not initialized"),
        };
        json!([{ "type": "Ready", "status": status, "message": message }])
    };
    let mut labels = Map::from_iter([("kubernetes.io/hostname".to_owned(), json!(name))]);
    for label in config.list("node-label") {
        let (key, value) = label.split_once('=').unwrap_or((&label, ""));
        labels.insert(key.to_owned(), json!(value));
    }
    let mut annotations = Map::new();
    if let Some(member) = member {
        labels.insert("node-role.kubernetes.io/etcd".to_owned(), json!("true"));
        annotations.insert("etcd.k3s.cattle.io/node-name".to_owned(), member["name"].clone());
        let url = member["clientURLs"][0].as_str().unwrap_or_default();
        let address = url.trim_start_matches("https://").trim_end_matches(":2379");
        annotations.insert("etcd.k3s.cattle.io/node-address".to_owned(), json!(address));
    }
    let metadata = json!({ "name": name, "labels": labels, "annotations": annotations });
    let info = json!({ "systemUUID": system_uuid(config) });
    let node = json!({
        "kind": "Node", "apiVersion": "v1", "metadata": metadata,
        "status": { "conditions": condition(false), "nodeInfo": info },
    });
    let send = |method: &str, path: &str, body: &serde_json::Value| {
        let headers = vec![("Content-Type", "application/merge-patch+json".to_owned())];
        peer.ask(Ask { method, path, headers, body: body.to_string().into_bytes() })
    };
    loop {
        match send("POST", "/api/v1/nodes", &node) {
            Ok(_) => break,
            // Registered by an earlier run: what is new is laid over it.
            Err(error) if error.to_string().ends_with("409") => {
                if member.is_none()
                    || send("PATCH", &format!("/api/v1/nodes/{name}"), &json!({ "metadata": metadata }))
                        .is_ok()
                {
                    break;
                }
            }
            Err(error) => eprintln!("Unable to register node with API server: {error}"),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    std::thread::sleep(config::seconds("K3S_STANDIN_READY", 1.0));
    let path = format!("/api/v1/nodes/{name}/status");
    while let Err(error) =
        send("PATCH", &path, &json!({ "status": { "conditions": condition(true), "nodeInfo": info } }))
    {
        eprintln!("Error updating node status, will retry: {error}");
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// The agent's load balancer: what the kubelet dials is passed on, as it is.
fn balance(listener: &TcpListener, host: &str, port: u16) {
    for stream in listener.incoming().flatten() {
        let Ok(server) = TcpStream::connect((host, port)) else { continue };
        let (Ok(from), Ok(to)) = (stream.try_clone(), server.try_clone()) else { continue };
        std::thread::spawn(move || pass(&from, &to));
        std::thread::spawn(move || pass(&server, &stream));
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
}
