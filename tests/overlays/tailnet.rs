//! The login of the `tailscale` overlay, with the real programs. By name, where somebody has them:
//!
//! `KILN_REAL_TAILNET=FOLDER cargo test --workspace --test overlays tailnet -- --ignored --nocapture`
//!
//! FOLDER has `tailscale`, `tailscaled` and `headscale` (tried: 1.94.1 and 0.28.0). Nothing leaves this machine, and no
//! interface is made: tailscaled runs with its own network stack.

use crate::rendering::{PLAIN, rendered};
use crate::scripts::{Stage, UP};
use kiln_tests::{Ended, port, said, succeed};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A control server of its own, and a node.
struct Tailnet {
    programs: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    stage: Stage,
}

impl Tailnet {
    fn new() -> Self {
        let programs = PathBuf::from(std::env::var("KILN_REAL_TAILNET").expect(
            "KILN_REAL_TAILNET names no folder with `tailscale`, `tailscaled` and `headscale`: this test has nothing to run",
        ));
        let folder = tempfile::tempdir().expect("folder");
        let (port, socket) = (port(), folder.path().join("tailscaled.sock"));
        let real =
            format!("exec '{}' --socket='{}' \"$@\"", programs.join("tailscale").display(), socket.display());
        let stage = Stage::new(&[("tailscale", &real), ("sysctl", "")]);
        let net = Self { programs, folder, port, stage };
        net.configure();
        net
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self) {
        let at = |name: &str| self.path(name).display().to_string();
        // There must be a relay, and nobody asks it for anything here.
        let relays = "regions:\n  900:\n    regionid: 900\n    regioncode: none\n    regionname: none\n    nodes:\n      - { name: 900a, regionid: 900, hostname: 127.0.0.1, ipv4: 127.0.0.1, stunport: -1, derpport: 1 }\n";
        std::fs::write(self.path("relays.yaml"), relays).expect("written");
        let text = format!(
            "server_url: http://127.0.0.1:{port}\nlisten_addr: 127.0.0.1:{port}\nmetrics_listen_addr: 127.0.0.1:{metrics}\n\
             grpc_listen_addr: 127.0.0.1:{grpc}\nnoise: {{ private_key_path: {noise} }}\nprefixes: {{ v4: 100.64.0.0/10 }}\n\
             derp: {{ server: {{ enabled: false }}, urls: [], paths: [{relays}], auto_update_enabled: false }}\n\
             disable_check_updates: true\ndatabase: {{ type: sqlite, sqlite: {{ path: {database} }} }}\n\
             dns: {{ magic_dns: false, override_local_dns: false, base_domain: example.test }}\nunix_socket: {socket}\n",
            port = self.port,
            metrics = port(),
            grpc = port(),
            noise = at("noise"),
            relays = at("relays.yaml"),
            database = at("headscale.db"),
            socket = at("headscale.sock"),
        );
        std::fs::write(self.path("headscale.yaml"), text).expect("written");
    }

    fn spawn(&self, program: &str, words: &[String]) -> Ended {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path(&format!("{program}.log")))
            .expect("a log");
        let mut command = Command::new(self.programs.join(program));
        command.args(words).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        Ended(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}")))
    }

    fn headscale(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("headscale"));
        command.arg("--config").arg(self.path("headscale.yaml")).args(words);
        command
    }

    fn control(&self) -> Ended {
        let config = self.path("headscale.yaml").display().to_string();
        let running = self.spawn("headscale", &["--config".to_owned(), config, "serve".to_owned()]);
        until("headscale answers", || {
            self.headscale(&["users", "list"]).output().is_ok_and(|output| output.status.success())
        });
        running
    }

    fn daemon(&self) -> Ended {
        let at = |name: &str| self.path(name).display().to_string();
        let words = [
            "--tun=userspace-networking".to_owned(),
            format!("--statedir={}", at("state")),
            format!("--state={}", at("tailscaled.state")),
            format!("--socket={}", at("tailscaled.sock")),
            "--port=0".to_owned(),
            "--no-logs-no-support".to_owned(),
        ];
        let running = self.spawn("tailscaled", &words);
        until("tailscaled answers", || self.status().is_some());
        running
    }

    fn status(&self) -> Option<Value> {
        let mut command = Command::new(self.programs.join("tailscale"));
        command.arg(format!("--socket={}", self.path("tailscaled.sock").display()));
        let output = command.args(["status", "--json", "--peers=false"]).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    fn nodes(&self) -> Vec<Value> {
        let text = succeed(&mut self.headscale(&["nodes", "list", "--output", "json"]));
        serde_json::from_str::<Option<Vec<Value>>>(&text).expect("JSON").unwrap_or_default()
    }

    /// What the seed leaves on the node, as the overlay renders it.
    fn seed(&self, key: &str, tags: &str) {
        let nodes = rendered(PLAIN);
        let node = nodes.iter().find(|node| node.cluster == "k3s-flux").expect("the example");
        let text = &node.file("/etc/kiln/tailscale.env").expect("its file").text;
        let server = format!("TAILSCALE_LOGIN_SERVER='http://127.0.0.1:{}'", self.port);
        let lines = text.lines().map(|line| match line.split_once('=').map(|(name, _)| name) {
            Some("TAILSCALE_LOGIN_SERVER") => server.clone(),
            Some("TAILSCALE_TAGS") => format!("TAILSCALE_TAGS='{tags}'"),
            _ => line.to_owned(),
        });
        self.stage.write("etc/kiln/tailscale.env", &(lines.collect::<Vec<_>>().join("\n") + "\n"));
        self.stage.write("etc/kiln/tailscale.key", &format!("{key}\n"));
    }

    fn key_is_there(&self) -> bool {
        self.stage.path("etc/kiln/tailscale.key").exists()
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn version(program: &Path, words: &[&str]) {
    let text = succeed(Command::new(program).args(words));
    eprintln!("{}: {}", program.display(), text.lines().next().unwrap_or_default());
}

/// A key that is refused stays, and so do tags that a control server of this kind gives with its keys alone; the right one is
/// used once and goes; neither a second start of the unit nor of tailscaled, nor a control server that is away, logs in again.
#[test]
#[ignore = "wants the real tailscale and headscale"]
fn a_real_tailnet_is_joined_once() {
    let net = Tailnet::new();
    version(&net.programs.join("tailscale"), &["version"]);
    version(&net.programs.join("headscale"), &["version"]);
    // The daemon is not there yet.
    net.seed("anything", "");
    let output = net.stage.run(UP, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("tailscaled does not answer yet"), "{}", said(&output));

    let control = net.control();
    succeed(&mut net.headscale(&["users", "create", "home"]));
    let key = succeed(&mut net.headscale(&["preauthkeys", "create", "--user", "1", "--output", "json"]));
    let key: Value = serde_json::from_str(&key).expect("JSON");
    let key = key["key"].as_str().expect("a key").to_owned();
    let daemon = net.daemon();

    let refused = |key: &str, tags: &str| {
        net.seed(key, tags);
        let output = net.stage.run(UP, &[]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("by hand: `tailscale up --reset --auth-key=file:"), "{text}");
        assert!(!text.contains(key) && net.key_is_there(), "{text}");
        assert!(net.nodes().is_empty());
        text
    };
    eprintln!("a wrong key: {}", refused("hskey-auth-0123456789ab-wrong", "").trim());
    eprintln!("tags: {}", refused(&key, "tag:kiln").trim());

    net.seed(&key, "");
    let output = net.stage.run(UP, &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("the node is in its tailnet now; the key is removed"),
        "{}",
        said(&output)
    );
    assert!(!net.key_is_there());
    let nodes = net.nodes();
    assert_eq!(nodes.len(), 1, "{nodes:#?}");
    assert_eq!(nodes[0]["given_name"], "k3s1", "{nodes:#?}");
    let identity = net.status().expect("a status")["Self"]["PublicKey"].clone();

    // A seed of a later build has a key again.
    let again = |what: &str| {
        net.seed("a key that would be refused", "");
        let output = net.stage.run(UP, &[]);
        assert!(output.status.success(), "{what}: {}", said(&output));
        assert!(
            said(&output).contains("the node is in its tailnet: nothing to do"),
            "{what}: {}",
            said(&output)
        );
        assert!(!net.key_is_there(), "{what}");
    };
    again("a second start");
    drop(daemon);
    let daemon = net.daemon();
    again("tailscaled started again");
    drop((daemon, control));
    let _daemon = net.daemon();
    again("no control server");
    let _control = net.control();
    until("it is connected", || net.status().is_some_and(|status| status["BackendState"] == "Running"));
    assert_eq!(net.status().expect("a status")["Self"]["PublicKey"], identity);
    assert_eq!(net.nodes().len(), 1);
}
