//! A cluster's secrets, a server that is the stand-in, and a node that is a folder with a supervisor in it.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// A step that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(90);
/// What no line, log or state may hold.
pub(crate) const SERVER_SECRET: &str = "server-secret-7c1f";
pub(crate) const AGENT_SECRET: &str = "agent-secret-93ab";
pub(crate) const PASSWORD: &str = "00112233445566778899aabbccddeeff";
pub(crate) const USER_DATA: &str = "#cloud-config\nwrite_files: [{ content: agent-secret-93ab }]\n";
pub(crate) const AFTER: &str = "#cloud-config\n";

pub(crate) use kiln_tests::port;

#[expect(clippy::disallowed_methods, reason = "certificates are judged by the machine's clock")]
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// What is made at build time.
pub(crate) struct Cluster {
    server: (String, String),
    client: (String, String),
}

impl Cluster {
    pub(crate) fn new(name: &str) -> Self {
        let ca = |kind: &str| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, format!("k3s-{kind}-ca@{name}"));
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
            (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
        };
        Self { server: ca("server"), client: ca("client") }
    }

    /// CAs and keys, as a server's seed leaves them.
    pub(crate) fn leave(&self, node: &Node, folder: &str) {
        for (name, (certificate, key)) in [("server", &self.server), ("client", &self.client)] {
            node.put(&format!("{folder}/{name}-ca.crt"), certificate);
            node.put(&format!("{folder}/{name}-ca.key"), key);
        }
    }

    pub(crate) fn hash(&self) -> String {
        Sha256::digest(&self.server.0).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn short(&self) -> String {
        format!("{}…", &self.hash()[..12])
    }

    pub(crate) fn token(&self, user: &str, secret: &str) -> String {
        format!("K10{}::{user}:{secret}\n", self.hash())
    }
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A server: a folder and a process.
pub(crate) struct Server {
    pub(crate) root: TempDir,
    pub(crate) port: u16,
    child: Option<Child>,
}

impl Server {
    /// The cluster's first server, not started yet.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let root = TempDir::new().unwrap();
        let port = port();
        let tls = "var/lib/rancher/k3s/server/tls";
        for (name, (certificate, key)) in [("server", &cluster.server), ("client", &cluster.client)] {
            put(root.path(), &format!("{tls}/{name}-ca.crt"), certificate);
            put(root.path(), &format!("{tls}/{name}-ca.key"), key);
        }
        let config = format!(
            "node-name: k3s1\ncluster-init: true\nbind-address: 127.0.0.1\nhttps-listen-port: {port}\ntoken: {SERVER_SECRET}\nagent-token: {AGENT_SECRET}\n"
        );
        put(root.path(), "etc/rancher/k3s/config.yaml", &config);
        Self { root, port, child: None }
    }

    pub(crate) fn start(&mut self, variables: &[(&str, &str)]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_k3s-standin"));
        command.arg("server").env("K3S_STANDIN_ROOT", self.root.path()).envs(variables.iter().copied());
        command.env("K3S_STANDIN_LOG", self.root.path().join("requests"));
        let log = File::options().append(true).create(true).open(self.root.path().join("log")).unwrap();
        self.child = Some(command.stdin(Stdio::null()).stderr(log).spawn().unwrap());
    }

    pub(crate) fn started(cluster: &Cluster) -> Self {
        let mut server = Self::new(cluster);
        server.start(&[]);
        server
    }

    /// Asks it as its administrator.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_k3s-standin"));
        command.args(["ask", method, path]).env("K3S_STANDIN_ROOT", self.root.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(body.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{method} {path}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Waits for it to end by itself.
    pub(crate) fn ended(&mut self) -> i32 {
        self.child.as_mut().unwrap().wait().unwrap().code().unwrap()
    }

    /// Every request that reached it of those who are no node yet.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.root.path().join("requests")).unwrap_or_default();
        let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|request| request["node"].is_null()).collect()
    }

    /// What it keeps of nodes and passwords.
    pub(crate) fn store(&self) -> PathBuf {
        self.root.path().join("var/lib/rancher/k3s/server/standin.json")
    }

    pub(crate) fn kept(&self) -> Value {
        serde_json::from_slice(&fs::read(self.store()).unwrap()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A node: a folder, and what its k3s is.
pub(crate) struct Node {
    pub(crate) root: TempDir,
    pub(crate) document: Value,
    pub(crate) offset: i64,
}

/// systemd as far as it is asked: a unit that ends is started again.
const SYSTEMCTL: &str = r#"#!/bin/sh
pid=$(cat "@ROOT@/standin.pid" 2>/dev/null)
state=inactive sub=dead
if [ -n "$pid" ]; then
    if kill -0 "$pid" 2>/dev/null; then state=active sub=running; else state=activating sub=auto-restart; fi
fi
case "$1" in
is-active) echo $state; [ $state = active ] || exit 3 ;;
show) echo "ActiveState=$state"; echo "SubState=$sub"; echo "NRestarts=$(cat "@ROOT@/restarts" 2>/dev/null || echo 0)" ;;
start)
    [ "$2 $3" = "--no-block @UNIT@" ] || { echo "unexpected: $*" >&2; exit 1; }
    (
        restarts=0
        while [ -d "@ROOT@" ]; do
            K3S_STANDIN_ROOT="@ROOT@" "@STANDIN@" @ROLE@ >>"@ROOT@/standin.log" 2>&1 </dev/null &
            echo $! >"@ROOT@/standin.pid"
            wait $!
            restarts=$((restarts + 1))
            sleep 0.3
            echo $restarts >"@ROOT@/restarts"
        done
    ) >/dev/null 2>&1 </dev/null &
    echo $! >"@ROOT@/systemd.pid"
    while [ ! -s "@ROOT@/standin.pid" ]; do sleep 0.01; done ;;
esac
"#;
const JOURNALCTL: &str =
    "#!/bin/sh\n[ \"$*\" = '-b -o cat --no-pager -n3000 -u @UNIT@' ] && cat '@ROOT@/standin.log'\n";

impl Node {
    /// A node of the cluster that dials that port on this machine.
    pub(crate) fn new(cluster: &Cluster, (role, server): (&str, u16)) -> Self {
        let root = TempDir::new().unwrap();
        let top = root.path();
        let agent = role == "agent";
        let unit = if agent { "k3s-agent.service" } else { "k3s.service" };
        put(top, "sys/class/net/eth0/carrier", "1\n");
        put(top, "sys/class/net/lo/carrier", "1\n");
        put(top, "proc/net/fib_trie", "Local:\n     |-- 192.168.86.72\n        /32 host LOCAL\n");
        let route = "Iface Destination Gateway Flags RefCnt Use Metric Mask\neth0 00000000 0156A8C0 0003 0 0 0 00000000\n";
        put(top, "proc/net/route", route);
        put(top, "run/systemd/timesync/synchronized", "");
        put(top, "etc/rancher/node/password", &format!("{PASSWORD}\n"));
        let (user, secret) = if agent { ("node", AGENT_SECRET) } else { ("server", SERVER_SECRET) };
        put(top, "etc/rancher/k3s/token", &cluster.token(user, secret));
        put(top, "etc/rancher/k3s/agent-token", &cluster.token("node", AGENT_SECRET));
        let (balancer, own) = (port(), port());
        let mut config = format!(
            "node-name: k3s2\nserver: https://127.0.0.1:{server}\ntoken-file: /etc/rancher/k3s/token\nlb-server-port: {balancer}\n"
        );
        if !agent {
            config += &format!(
                "bind-address: 127.0.0.1\nhttps-listen-port: {own}\nagent-token-file: /etc/rancher/k3s/agent-token\n"
            );
        }
        put(top, "etc/rancher/k3s/config.yaml", &config);
        put(top, "etc/kiln/bootstrap", AGENT_SECRET);
        put(top, "var/lib/cloud/instances/i-1/user-data.txt", USER_DATA);
        put(top, "var/lib/cloud/instances/i-1/vendor-data.txt", "");
        put(top, "seed/user-data", USER_DATA);
        put(top, "seed/meta-data", "instance-id: i-1\n");
        put(top, "seed/kiln/keys/state", "key");
        put(top, "seed/kiln/after/user-data", AFTER);
        put(top, "run/kiln/boot.json", &record());
        let standin = env!("CARGO_BIN_EXE_k3s-standin");
        let script = SYSTEMCTL.replace("@ROOT@", &top.display().to_string()).replace("@UNIT@", unit);
        let script = script.replace("@STANDIN@", standin).replace("@ROLE@", role);
        put(top, "systemctl", &script);
        let journal = JOURNALCTL.replace("@ROOT@", &top.display().to_string()).replace("@UNIT@", unit);
        put(top, "journalctl", &journal);
        for program in ["systemctl", "journalctl"] {
            fs::set_permissions(top.join(program), fs::Permissions::from_mode(0o700)).unwrap();
        }
        let document = json!({
            "version": 1, "cluster": "demo", "node": "k3s2", "role": role,
            "server": { "host": "127.0.0.1", "port": server },
            "ca": { "pem": cluster.server.0, "sha256": cluster.hash() },
            "token_file": "/etc/rancher/k3s/token", "password_file": "/etc/rancher/node/password",
            "address": "192.168.86.72", "earliest": now() - 86400, "longhorn": true, "unit": unit,
            "shred": ["/etc/kiln/bootstrap"], "seed": { "folder": "/seed" },
        });
        Self { root, document, offset: 0 }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Its k3s ends, as with the machine: what would start it again goes first.
    pub(crate) fn stop(&self) {
        for file in ["systemd.pid", "standin.pid"] {
            if let Ok(pid) = fs::read_to_string(self.path(file)) {
                let _ = Command::new("kill").args(["-9", pid.trim()]).status();
                let _ = fs::remove_file(self.path(file));
            }
        }
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        put(self.root.path(), path, text);
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Starts the supervisor.
    pub(crate) fn supervise(&self) -> Supervisor {
        put(self.root.path(), "etc/kiln/join.json", &self.document.to_string());
        self.told("join")
    }

    /// Starts what a node outside the cluster has in its place.
    pub(crate) fn settle(&self, units: &[&str]) -> Supervisor {
        let document = json!({
            "version": 1, "cluster": "demo", "node": "storage", "units": units,
            "shred": ["/etc/kiln/bootstrap"], "seed": &self.document["seed"],
        });
        put(self.root.path(), "etc/kiln/settle.json", &document.to_string());
        self.told("settle")
    }

    pub(crate) fn told(&self, verb: &str) -> Supervisor {
        let mut command = Command::new(supervisor());
        command.args([verb, "--clock-offset", &self.offset.to_string()]);
        command.arg("--root").arg(self.root.path()).arg("--systemctl").arg(self.path("systemctl"));
        command.arg("--journalctl").arg(self.path("journalctl"));
        // What it starts is in a hurry, too.
        Supervisor::start(command.env("KILN_JOIN_HASTE", "20").env("K3S_STANDIN_LOOK", "0.2"))
    }

    /// Runs the helper to its end.
    pub(crate) fn helper(&self, words: &[&str]) -> std::process::Output {
        let mut command = Command::new(supervisor());
        command
            .args(words)
            .arg("--root")
            .arg(self.root.path())
            .arg("--systemctl")
            .arg(self.path("systemctl"));
        command.output().unwrap()
    }

    /// Every file below the root, with its bytes.
    pub(crate) fn files(&self, below: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.path(below)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push((path.clone(), fs::read(&path).unwrap()));
                }
            }
        }
        found.sort();
        found
    }

    /// Nothing that a later attempt needs is gone.
    pub(crate) fn assert_secrets_are_there(&self) {
        assert_eq!(self.read("seed/user-data"), USER_DATA);
        assert_eq!(self.read("etc/kiln/bootstrap"), AGENT_SECRET);
        assert_eq!(self.read("var/lib/cloud/instances/i-1/user-data.txt"), USER_DATA);
    }

    /// All that is to go is gone, and nothing else is.
    pub(crate) fn assert_secrets_are_gone(&self) {
        assert_eq!(self.read("seed/user-data"), AFTER);
        assert!(!self.path("etc/kiln/bootstrap").exists());
        assert!(!self.path("var/lib/cloud/instances/i-1/user-data.txt").exists());
        assert!(self.path("var/lib/cloud/instances/i-1/vendor-data.txt").exists());
        assert_eq!(self.read("seed/meta-data"), "instance-id: i-1\n");
        assert_eq!(self.read("seed/kiln/keys/state"), "key");
        assert_eq!(self.read("etc/rancher/node/password"), format!("{PASSWORD}\n"));
        assert_eq!(self.files("seed").len(), 4);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The annotation for Longhorn that the first boot left.
pub(crate) const DISKS: &str = r#"[{"path":"/mnt/longhorn/a"}]"#;

fn record() -> String {
    json!({
        "version": 1, "kiln": "0", "cluster": "demo", "node": "k3s2", "boot_id": "b", "began": 0.0, "ended": 1.0,
        "steps": [], "plan": { "disks": [], "problems": [] }, "problems": [], "default_disks_config": DISKS,
    })
    .to_string()
}

/// A running supervisor, and what it said.
pub(crate) struct Supervisor {
    child: Child,
    said: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Supervisor {
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        // Between another test's fork and its exec the program is open for writing (execve(2), ETXTBSY).
        let started = (0..100).find_map(|_| match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(20));
                None
            }
            started => Some(started),
        });
        let mut child = started.expect("nobody writes the program any more").unwrap();
        let said = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (lines, keep) = (BufReader::new(child.stderr.take().unwrap()).lines(), said.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                keep.0.lock().unwrap().push(line);
                keep.1.notify_all();
            }
        });
        Self { child, said }
    }

    /// The first line that begins so.
    pub(crate) fn line(&self, start: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut lines = self.said.0.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().find(|line| line.starts_with(start)) {
                return line.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no line begins with {start:?}: {lines:#?}");
            lines = self.said.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.said.0.lock().unwrap().clone()
    }

    /// Waits for a good end; all lines.
    pub(crate) fn ends(mut self) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                // The thread has read to the end when the pipe is closed, which is a moment later.
                std::thread::sleep(Duration::from_millis(100));
                assert!(status.success(), "{status}: {:#?}", self.lines());
                return self.lines();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it goes on for ever: {:#?}", self.lines());
    }

    /// As a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The very program that images carry, in a file of this run.
fn supervisor() -> &'static Path {
    static FILE: OnceLock<TempDir> = OnceLock::new();
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = FILE.get_or_init(|| tempfile::tempdir().unwrap()).path().join("kiln-firstboot");
        fs::write(&path, kiln::boot::helper::AMD64).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    })
}
