//! A server: its routes, who may take them, and its own node.

use crate::authority::{Authority, FOLDER, Subject};
use crate::client::{Ask, Peer, Token};
use crate::config::{self, Config};
use crate::serving::{self, Answer, Request};
use crate::store::Store;
use crate::{Outcome, agent, api, folder, members, objects};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::fs;
use std::io::Write;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Names of bootstrap data (k3s, pkg/daemons/config: ControlRuntimeBootstrap) and their files.
const BOOTSTRAP: [(&str, &str); 4] = [
    ("ServerCA", "server-ca.crt"),
    ("ServerCAKey", "server-ca.key"),
    ("ClientCA", "client-ca.crt"),
    ("ClientCAKey", "client-ca.key"),
];

/// What a server answers from.
struct Server {
    store: Store,
    server_ca: Authority,
    client_ca: Authority,
    /// Secrets of the users `server` and `node`.
    secrets: (String, String),
    etcd: bool,
    /// The server that was joined, which has the table of members.
    began: Option<String>,
    folder: std::path::PathBuf,
    ready_at: Instant,
    asked: AtomicUsize,
}

/// Who asks.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    Server,
    Agent,
    Node,
}

/// Serves, and stays.
pub(crate) fn run(config: &Config) -> Outcome<()> {
    let secret = Token::parse(&config.token("token")?.ok_or("the stand-in wants a token")?)?.secret;
    let agents = config
        .token("agent-token")?
        .map_or(Ok(secret.clone()), |text| Token::parse(&text).map(|t| t.secret))?;
    // Who has etcd asks nobody (k3s, pkg/cluster/bootstrap.go: shouldBootstrapLoad).
    let first = match config.text("server") {
        Some(url) if !config.path(WAL).exists() => Some(bootstrap(config, &url)?),
        _ => None,
    };
    if let Some(first) = &first {
        members::join(config, first, &secret)?;
    }
    let etcd = datastore(config, first.is_some())?;
    let (server_ca, client_ca) = (Authority::read(config, "server")?, Authority::read(config, "client")?);
    let node = config.node()?;
    let bind: IpAddr = config.text("bind-address").as_deref().unwrap_or("0.0.0.0").parse()?;
    let port = config.port("https-listen-port", 6443)?;
    let mut hosts = vec!["127.0.0.1".to_owned(), "::1".to_owned(), "localhost".to_owned(), node.clone()];
    hosts.extend(config.list("tls-san"));
    hosts.extend(config.list("node-ip"));
    let subject = Subject { name: "k3s".to_owned(), organisation: Some("k3s"), server: true, hosts };
    let judge = std::env::var_os("K3S_STANDIN_CLIENTS").map(fs::read_to_string);
    let tls = serving::tls(&server_ca.issue(subject)?, &judge.unwrap_or_else(|| Ok(client_ca.pem.clone()))?)?;
    let identity = files(config, (&server_ca, &client_ca), (&node, port))?;
    let authority = server_ca.pem.clone();
    let server = Arc::new(Server {
        store: Store::open(config)?,
        server_ca,
        client_ca,
        secrets: (secret, agents),
        etcd,
        began: config.text("server"),
        folder: config.path(FOLDER),
        ready_at: Instant::now() + config::seconds("K3S_STANDIN_LATE", 0.0),
        asked: AtomicUsize::new(0),
    });
    if etcd && server.began.is_none() {
        members::add(&server.store, members::own(config)?)?;
        let removing = server.clone();
        std::thread::spawn(move || members::watch(&removing.store).err());
    }
    let listener = TcpListener::bind((bind, port))?;
    let serving = server.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (tls, server) = (tls.clone(), serving.clone());
            std::thread::spawn(move || {
                if let Err(error) = serving::serve(stream, tls, |request| server.answer(request)) {
                    eprintln!("k3s-standin: a request failed: {error}");
                }
            });
        }
    });
    while Instant::now() < server.ready_at {
        std::thread::sleep(Duration::from_millis(50));
    }
    crate::ready()?;
    let (applying, told) = (server.clone(), config.clone());
    std::thread::spawn(move || {
        if let Err(error) = folder::watch(&told, &applying.store) {
            eprintln!("k3s-standin: {error}");
        }
    });
    let own = Peer { host: "127.0.0.1".to_owned(), port, authority, identity: Some(identity) };
    let member = if etcd { Some(members::own(config)?) } else { None };
    // etcd would carry the Node object from one server to the others.
    if let Some(first) = first {
        let first = Peer { identity: own.identity.clone(), ..first };
        agent::register(config, &first, member.as_ref())?;
        agent::renew(config, first);
    }
    agent::register(config, &own, member.as_ref())?;
    agent::renew(config, own);
    loop {
        std::thread::park();
    }
}

/// Where etcd keeps its log, which is how k3s knows that it has been up; SQLite's file.
const WAL: &str = "/var/lib/rancher/k3s/server/db/etcd/member/wal";
const SQLITE: &str = "/var/lib/rancher/k3s/server/db/state.db";

/// What k3s begins with, and leaves (pkg/cluster/managed.go: assignManagedDriver; pkg/etcd/etcd.go: migrateFromSQLite). True
/// when that is etcd.
fn datastore(config: &Config, joins: bool) -> Outcome<bool> {
    let (wal, sqlite) = (config.path(WAL), config.path(SQLITE));
    if wal.exists() {
        return Ok(true);
    }
    let init = config.text("cluster-init").as_deref() == Some("true");
    if !init && !joins {
        if !sqlite.exists() {
            config::write(&sqlite, "")?;
        }
        return Ok(false);
    }
    fs::create_dir_all(&wal)?;
    if init && !joins && sqlite.exists() {
        eprintln!("Migrating content from sqlite to etcd");
        fs::rename(&sqlite, sqlite.with_extension("db.migrated"))?;
    }
    Ok(true)
}

/// A server that joins fetches the cluster's CAs.
fn bootstrap(config: &Config, url: &str) -> Outcome<Peer> {
    let token = Token::parse(&config.token("token")?.unwrap_or_default())?;
    loop {
        let got = Peer::find(url, &token).and_then(|peer| {
            let bytes = peer.ask(Ask::get("/v1-k3s/server-bootstrap").with("server", &token.secret))?;
            Ok((peer, bytes))
        });
        match got {
            Ok((peer, bytes)) => {
                let data: Map<String, Value> = serde_json::from_slice(&bytes)?;
                for (name, file) in BOOTSTRAP {
                    let content =
                        data.get(name).and_then(|entry| entry["Content"].as_str()).ok_or("no content")?;
                    config::write(&config.path(FOLDER).join(file), STANDARD.decode(content)?)?;
                }
                return Ok(peer);
            }
            // k3s ends by that (1.34.3).
            Err(error) if error.to_string().ends_with(": 400") => {
                let words =
                    "starting kubernetes: preparing server: failed to bootstrap cluster data: etcd disabled";
                return Err(words.into());
            }
            Err(error) => eprintln!("starting kubernetes: preparing server: failed to get CA certs: {error}"),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// The files of a server's own node; the kubelet's certificate and key.
fn files(
    config: &Config,
    (server_ca, client_ca): (&Authority, &Authority),
    (node, port): (&str, u16),
) -> Outcome<(String, String)> {
    let folder = config.path("/var/lib/rancher/k3s/agent");
    config::write(&folder.join("server-ca.crt"), &server_ca.pem)?;
    config::write(&folder.join("client-ca.crt"), &client_ca.pem)?;
    let identity = client_ca.issue(Subject::kubelet(node))?;
    config::write(&folder.join("client-kubelet.crt"), &identity.0)?;
    config::write(&folder.join("client-kubelet.key"), &identity.1)?;
    agent::kubeconfig(config, port)?;
    let admin = Subject {
        name: "system:admin".to_owned(),
        organisation: Some("system:masters"),
        server: false,
        hosts: Vec::new(),
    };
    let (certificate, key) = client_ca.issue(admin)?;
    let data = |text: &str| STANDARD.encode(text);
    let text = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: https://127.0.0.1:{port}\n  name: default\n\
         contexts:\n- context:\n    cluster: default\n    user: default\n  name: default\ncurrent-context: default\nkind: Config\n\
         users:\n- name: default\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        data(&server_ca.pem),
        data(&certificate),
        data(&key)
    );
    config::write(&config.path("/etc/rancher/k3s/k3s.yaml"), text)?;
    Ok(identity)
}

impl Server {
    fn answer(&self, request: &Request) -> Answer {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        log(request);
        if std::env::var("K3S_STANDIN_DIE").ok().and_then(|text| text.parse().ok()) == Some(number) {
            std::process::exit(3);
        }
        self.route(request).unwrap_or_else(|error| Answer::text(500, error.to_string()))
    }

    /// Routes and who may take them: pkg/server/handlers/router.go.
    fn route(&self, request: &Request) -> Outcome<Answer> {
        match request.path.as_str() {
            "/cacerts" => return Ok(Answer::text(200, self.server_ca.pem.clone())),
            "/ping" => return Ok(Answer::text(200, "pong")),
            _ => {}
        }
        if Instant::now() < self.ready_at {
            return Ok(Answer::text(503, "starting"));
        }
        let Some(route) = request.path.strip_prefix("/v1-k3s/") else {
            if matches!(request.path.as_str(), "/db/info" | "/standin/members") {
                return self.members(request);
            }
            if request.admin {
                if let Some(refused) =
                    std::env::var("K3S_STANDIN_REFUSE").ok().and_then(|text| text.parse().ok())
                {
                    return Ok(api::status(refused, "refused"));
                }
                return objects::answer(&self.store, request);
            }
            return api::answer(&self.store, request);
        };
        let who = match self.who(request) {
            Ok(who) => who,
            Err(answer) => return Ok(answer),
        };
        let allowed = match route {
            "server-bootstrap" => who == Who::Server,
            _ => who != Who::Server,
        };
        if !allowed {
            return Ok(Answer::text(403, "forbidden"));
        }
        match route {
            "config" => {
                let body = json!({ "SupervisorPort": 6443, "HTTPSPort": 6443, "FlannelBackend": "vxlan" });
                Ok(Answer { status: 200, kind: "application/json", body: body.to_string().into_bytes() })
            }
            "server-ca.crt" => Ok(Answer::text(200, self.server_ca.pem.clone())),
            "client-ca.crt" => Ok(Answer::text(200, self.client_ca.pem.clone())),
            "readyz" => Ok(Answer::text(200, "ok")),
            "serving-kubelet.crt" | "client-kubelet.crt" => {
                self.kubelet(request, route == "serving-kubelet.crt")
            }
            "server-bootstrap" if !self.etcd => Ok(Answer::text(400, "etcd disabled")),
            "server-bootstrap" => {
                let mut data = Map::new();
                for (name, file) in BOOTSTRAP {
                    let content = STANDARD.encode(fs::read(self.folder.join(file))?);
                    data.insert(
                        name.to_owned(),
                        json!({ "Timestamp": "2025-01-01T00:00:00Z", "Content": content }),
                    );
                }
                let body = Value::Object(data).to_string().into_bytes();
                Ok(Answer { status: 200, kind: "application/json", body })
            }
            _ => Ok(Answer::text(404, "404 page not found")),
        }
    }

    /// Who has the servers' token is told of etcd's members (pkg/etcd/etcd.go: infoHandler); an etcd that does not answer is 500.
    fn members(&self, request: &Request) -> Outcome<Answer> {
        match self.who(request) {
            Ok(Who::Server) => {}
            Ok(_) => return Ok(Answer::text(403, "forbidden")),
            Err(answer) => return Ok(answer),
        }
        if std::env::var("K3S_STANDIN_ETCD").is_ok_and(|how| how == "silent") {
            return Ok(Answer::text(500, "failed to get etcd MemberList: context deadline exceeded"));
        }
        if request.method == "POST" {
            return members::add(&self.store, serde_json::from_slice(&request.body)?);
        }
        let Some(url) = &self.began else { return members::list(&self.store) };
        let token = Token::parse(&self.secrets.0)?;
        let body = Peer::find(url, &token)?.ask(Ask::get("/db/info").with("server", &token.secret))?;
        Ok(Answer { status: 200, kind: "application/json", body })
    }

    /// Basic credentials or a node's certificate: pkg/server/auth/auth.go.
    fn who(&self, request: &Request) -> Result<Who, Answer> {
        let Some(header) = request.header("authorization") else {
            return match request.node {
                Some(_) => Ok(Who::Node),
                None => Err(Answer::text(403, "forbidden")),
            };
        };
        let pair = header.strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok());
        let pair = pair.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let (server, node) = &self.secrets;
        match pair.split_once(':') {
            Some(("server", secret)) if secret == server => Ok(Who::Server),
            Some(("node", secret)) if secret == node => Ok(Who::Agent),
            _ => Err(Answer::text(401, "not authorized")),
        }
    }

    /// Certificates of kubelets, after the node's password: pkg/nodepassword/validate.go. Who sends no request for a key of
    /// its own gets one, as old agents do.
    fn kubelet(&self, request: &Request, serving: bool) -> Outcome<Answer> {
        let (Some(name), Some(password)) =
            (request.header("k3s-Node-Name"), request.header("k3s-Node-Password"))
        else {
            return Ok(Answer::text(400, "node name or password not set"));
        };
        let name = name.to_lowercase();
        if request.node.as_ref().is_some_and(|node| *node != name) {
            return Ok(Answer::text(400, "header node name does not match auth node name"));
        }
        if !self.store.password_fits(&name, password)? {
            return Ok(Answer::text(403, "unable to verify hash for node"));
        }
        let mut hosts = vec![name.clone(), "localhost".to_owned(), "127.0.0.1".to_owned()];
        hosts.extend(
            request.header("k3s-Node-IP").into_iter().flat_map(|ips| ips.split(',')).map(str::to_owned),
        );
        let (ca, subject) = match serving {
            true => (&self.server_ca, Subject { name, organisation: None, server: true, hosts }),
            false => (&self.client_ca, Subject::kubelet(&name)),
        };
        if request.method == "POST" {
            return Ok(Answer::text(200, ca.sign(&request.body, subject)?));
        }
        let (certificate, key) = ca.issue(subject)?;
        Ok(Answer::text(200, certificate + &key))
    }
}

/// A line for each request, so that a test can see what reached the server.
fn log(request: &Request) {
    let Some(path) = std::env::var_os("K3S_STANDIN_LOG") else { return };
    let line = json!({ "method": request.method, "path": request.path, "headers": request.headers, "node": request.node, "admin": request.admin });
    if let Ok(mut file) = fs::File::options().append(true).create(true).open(path) {
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}
