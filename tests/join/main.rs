//! The join supervisor against a stand-in for k3s, on this machine's loopback: what is said, what is sent, what is left.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod datastore;
mod endings;
mod faults;
mod manifests;
mod outside;
mod real_api;
mod rejoin;
mod rig;

use kiln_tests::{succeed, tool};
use rig::{AFTER, AGENT_SECRET, Cluster, DISKS, Node, PASSWORD, SERVER_SECRET, Server};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

const STEPS: [&str; 13] = [
    "link", "address", "route", "name", "clock", "connect", "server", "token", "password", "turn", "start",
    "ready", "longhorn",
];

/// The story without what differs from run to run: waits, times, ports.
fn story(lines: &[String], port: u16) -> String {
    let kept = lines.iter().filter(|line| !line.contains(": waiting"));
    let plain = |line: &String| {
        let line = line.replace(&port.to_string(), "PORT");
        match line.split_once("time server, ") {
            Some((before, _)) => format!("{before}time server, TIME\n"),
            None => line + "\n",
        }
    };
    kept.map(plain).collect()
}

#[test]
fn an_agent_joins() {
    let cluster = Cluster::new("demo");
    let server = Server::started(&cluster);
    let node = Node::new(&cluster, ("agent", server.port));
    let lines = node.supervise().ends();
    assert_eq!(
        story(&lines, server.port),
        "join: link: eth0 has a link\n\
         join: address: 192.168.86.72\n\
         join: route: 127.0.0.1 is this node itself\n\
         join: name: 127.0.0.1\n\
         join: clock: set by a time server, TIME\n\
         join: connect: 127.0.0.1:PORT answers\n\
         join: server: 127.0.0.1:PORT is a server of cluster demo\n\
         join: token: the server takes the token of node\n\
         join: password: the server takes it for k3s2\n\
         join: turn: there is no server to wait for\n\
         join: start: k3s-agent.service is started\n\
         join: ready: node k3s2 is Ready\n\
         join: longhorn: Kubernetes was told of the disks\n\
         join: shred: 2 files with secrets are gone; the seed is clean\n\
         join: node k3s2 has joined cluster demo\n"
    );
    node.assert_secrets_are_gone();
    let kept = &server.kept()["node/k3s2"];
    assert_eq!(kept["metadata"]["annotations"]["node.longhorn.io/default-disks-config"], DISKS);

    let report: Value = serde_json::from_str(&node.read("var/lib/kiln/join-report.json")).unwrap();
    let steps: Vec<&str> =
        report["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, [&STEPS[..], &["shred"]].concat());
    let ready = &report["steps"][11];
    assert!(ready["attempts"].as_u64().unwrap() > 1 && ready["seconds"].as_f64().unwrap() > 0.5, "{ready}");
    assert!(!ready["trouble"].as_str().unwrap().is_empty(), "{ready}");

    // Nothing that was said or kept holds a secret, and nobody else may read it.
    for (path, bytes) in node.files("var/lib/kiln") {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = String::from_utf8(bytes).unwrap() + &lines.join("\n");
        for secret in [SERVER_SECRET, AGENT_SECRET, PASSWORD] {
            assert!(!text.contains(secret), "{}: {text}", path.display());
        }
    }

    // A second run has nothing to do but to look.
    assert_eq!(node.supervise().ends(), ["join: start: k3s-agent.service is active"]);
    // Somebody flashed the seed again.
    node.put("seed/user-data", rig::USER_DATA);
    node.supervise().ends();
    node.assert_secrets_are_gone();
}

#[test]
fn a_second_server_joins_when_the_first_is_ready() {
    let cluster = Cluster::new("demo");
    let mut server = Server::new(&cluster);
    server.start(&[]);
    let mut node = Node::new(&cluster, ("server", server.port));
    // The one before is another one than the one that is dialled, and comes later.
    let mut before = Server::new(&cluster);
    node.document["after"] =
        json!({ "name": "k3s1b", "server": { "host": "127.0.0.1", "port": before.port } });
    node.document["agent_token_file"] = "/etc/rancher/k3s/agent-token".into();
    let supervisor = node.supervise();
    assert_eq!(
        supervisor.line("join: turn: waiting").replace(&before.port.to_string(), "PORT"),
        "join: turn: waiting: server k3s1b (127.0.0.1:PORT is there, and nothing listens on that port) is not ready. Servers join one after another; look at that one first"
    );
    assert!(!node.path("standin.pid").exists());
    before.start(&[]);
    let lines = supervisor.ends();
    for line in [
        "join: token: the server takes the token of server",
        "join: password: is there",
        "join: turn: server k3s1b is ready",
        "join: start: k3s.service is started",
        "join: ready: node k3s2 is Ready",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}: {lines:#?}");
    }
    node.assert_secrets_are_gone();
    assert!(server.kept()["node/k3s2"].is_object());
    // The cluster's keys were not sent to the supervisor, only to k3s.
    let asked = server.requests();
    let bootstrap: Vec<&Value> =
        asked.iter().filter(|one| one["path"] == "/v1-k3s/server-bootstrap").collect();
    assert_eq!(
        bootstrap.iter().map(|one| one["method"].as_str().unwrap()).collect::<Vec<_>>(),
        ["HEAD", "GET"]
    );
}

#[test]
fn a_server_waits_by_its_own_token_when_it_has_no_other() {
    let cluster = Cluster::new("demo");
    let server = Server::started(&cluster);
    let mut node = Node::new(&cluster, ("server", server.port));
    node.document["after"] =
        json!({ "name": "k3s1", "server": { "host": "127.0.0.1", "port": server.port } });
    node.supervise().line("join: turn: server k3s1 is ready");
}

#[test]
fn the_stand_in_says_what_it_is_and_that_it_is_up() {
    let standin = env!("CARGO_BIN_EXE_k3s-standin");
    let version = succeed(std::process::Command::new(standin).arg("--version"));
    assert!(version.contains("a stand-in for k3s") && version.contains("not k3s"), "{version}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut server = Server::new(&Cluster::new("demo"));
    server.start(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    let mut bytes = [0; 32];
    let length = socket.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"READY=1");
}

/// A password of [`HANDOFF`], longer than a sector in none of its forms.
const CHAP: &str = "a password for CHAP";
/// A handoff document as a builder writes it.
const HANDOFF: &str = r#"{
  "version": 2,
  "credentials": "seed:00000000000000000000000000000000",
  "cluster": { "id": "00000000-0000-0000-0000-000000000001", "name": "demo" },
  "node": { "name": "k3s2", "machine_id": "0123456789abcdef0123456789abcdef" },
  "partitions": {
    "esp": "00000000-0000-0000-0000-000000000002", "cidata": "00000000-0000-0000-0000-000000000003",
    "root_a": "00000000-0000-0000-0000-000000000004", "root_b": "00000000-0000-0000-0000-000000000005",
    "state": "00000000-0000-0000-0000-000000000006", "state_filesystem": "00000000-0000-0000-0000-000000000007"
  },
  "iscsi": {
    "initiator": "iqn.1993-08.org.debian:01:a",
    "luns": [{
      "name": "data", "host": "10.0.0.1", "port": 3260, "target": "iqn.2025-01.home:x", "lun": 0,
      "chap": { "initiator": { "user": "a chap user", "password": "a password for CHAP" } },
      "mount_point": "/storage", "filesystem": "ext4", "format": true,
      "partition": "00000000-0000-0000-0000-000000000008", "uuid": "00000000-0000-0000-0000-000000000009"
    }]
  }
}
"#;

/// A real FAT volume: nothing of the secret is left in any of its sectors, and all else is as it was.
#[test]
fn a_seed_volume_is_cleaned() {
    if !kiln_tests::root_or_skip("a volume is mounted") {
        return;
    }
    // Where modules can be loaded.
    let _ = std::process::Command::new("/usr/sbin/modprobe").arg("vfat").status();
    if !fs::read_to_string("/proc/filesystems").unwrap().contains("vfat") {
        eprintln!("SKIPPED, this kernel has no vfat: a seed volume is cleaned");
        return;
    }
    let cluster = Cluster::new("demo");
    let server = Server::started(&cluster);
    let mut node = Node::new(&cluster, ("agent", server.port));
    let (image, top) = (node.path("seed.img"), node.path("mounted"));
    File::create(&image).unwrap().set_len(4 << 20).unwrap();
    succeed(tool("mkfs.vfat", "dosfstools").args(["-n", "CIDATA"]).arg(&image));
    let device = succeed(tool("losetup", "mount").args(["--find", "--show"]).arg(&image));
    let device = Loop(device.trim().to_owned());
    fs::create_dir(&top).unwrap();
    let on_volume = |work: &dyn Fn()| {
        succeed(tool("mount", "mount").args(["-t", "vfat", &device.0]).arg(&top));
        work();
        succeed(tool("umount", "mount").arg(&top));
    };
    node.put("seed/kiln/handoff.json", HANDOFF);
    let from = node.path("seed/.");
    on_volume(&|| drop(succeed(tool("cp", "coreutils").arg("-r").arg(&from).arg(&top))));
    let holds = || {
        let bytes = fs::read(&image).unwrap();
        let is_in = |secret: &&str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        [AGENT_SECRET, CHAP, "chap user"].iter().filter(|secret| is_in(secret)).count()
    };
    assert_eq!(holds(), 3);
    let label = node.path("dev/disk/by-label");
    fs::create_dir_all(&label).unwrap();
    std::os::unix::fs::symlink(&device.0, label.join("CIDATA")).unwrap();
    node.document["seed"] = "volume".into();
    let lines = node.supervise().ends();
    assert!(
        lines.iter().any(|line| line.ends_with(
            "gone; the seed is clean, and CHAP names and passwords are in /var/lib/kiln/chap.json"
        )),
        "{lines:#?}"
    );
    assert_eq!(holds(), 0);
    assert!(node.read("var/lib/kiln/chap.json").contains(CHAP));
    succeed(tool("fsck.vfat", "dosfstools").arg("-n").arg(&image));
    on_volume(&|| {
        let read = |path: &str| fs::read_to_string(top.join(path)).unwrap();
        assert_eq!(
            (read("user-data"), read("meta-data")),
            (AFTER.to_owned(), "instance-id: i-1\n".to_owned())
        );
        assert_eq!(
            (read("kiln/keys/state"), read("kiln/after/user-data")),
            ("key".to_owned(), AFTER.to_owned())
        );
        assert_eq!(fs::read_dir(&top).unwrap().count(), 3);
        let handoff = read("kiln/handoff.json");
        assert!(handoff.len() == HANDOFF.len() && handoff.contains("\"credentials\": \"node:"), "{handoff}");
    });
}

/// A loop device, for as long as the test runs.
struct Loop(String);

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = tool("losetup", "mount").args(["--detach", &self.0]).status();
    }
}

#[test]
fn the_first_server_dials_nobody() {
    let cluster = Cluster::new("demo");
    let server = Server::new(&cluster);
    let mut node = Node::new(&cluster, ("server", server.port));
    // It starts as the server that makes the cluster.
    let from = server.root.path().join("var/lib/rancher");
    let copied =
        std::process::Command::new("cp").arg("-r").arg(&from).arg(node.path("var/lib")).status().unwrap();
    assert!(copied.success());
    let config = node.read("etc/rancher/k3s/config.yaml");
    let config: Vec<&str> = config.lines().filter(|line| !line.starts_with("server:")).collect();
    node.put("etc/rancher/k3s/config.yaml", &config.join("\n"));
    node.document["first"] = true.into();
    let lines = node.supervise().ends();
    assert!(lines.iter().any(|line| line == "join: ready: node k3s2 is Ready"), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.starts_with("join: connect")), "{lines:#?}");
    node.assert_secrets_are_gone();
}

#[test]
fn an_annotation_that_is_there_is_kept() {
    let cluster = Cluster::new("demo");
    let mut server = Server::new(&cluster);
    let mine = json!({ "node/k3s2": { "metadata": { "name": "k3s2", "resourceVersion": "5",
        "annotations": { "node.longhorn.io/default-disks-config": "[]" } } } });
    fs::write(server.store(), mine.to_string()).unwrap();
    server.start(&[]);
    let node = Node::new(&cluster, ("agent", server.port));
    let lines = node.supervise().ends();
    let line =
        "join: longhorn: node.longhorn.io/default-disks-config says something else already, and is kept";
    assert!(lines.iter().any(|found| found == line), "{lines:#?}");
    let kept = &server.kept()["node/k3s2"]["metadata"]["annotations"];
    assert_eq!(kept["node.longhorn.io/default-disks-config"], "[]");
}

#[test]
fn a_cut_after_any_step_is_made_good() {
    let cluster = Cluster::new("demo");
    let server = Server::started(&cluster);
    let node = Node::new(&cluster, ("agent", server.port));
    for step in STEPS {
        let supervisor = node.supervise();
        supervisor.line(&format!("join: {step}: "));
        supervisor.kill();
        assert!(node.path("seed/user-data").exists());
    }
    let lines = node.supervise().ends();
    node.assert_secrets_are_gone();
    // The node was Ready before: nothing of the network is asked again.
    assert!(!lines.iter().any(|line| line.starts_with("join: token")), "{lines:#?}");
    let report: Value = serde_json::from_str(&node.read("var/lib/kiln/join-report.json")).unwrap();
    assert_eq!(report["steps"].as_array().unwrap().len(), STEPS.len() + 1);
}
