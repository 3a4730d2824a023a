//! How a server begins: with the founding word and without, while other servers live and while none answers, with its datastore
//! on a data disk, and with SQLite that is to become etcd.

use crate::rig::{Cluster, Node, Server, port};
use serde_json::{Value, json};
use std::fs;

const DATABASE: &str = "var/lib/rancher/k3s/server/db";
const WAL: &str = "var/lib/rancher/k3s/server/db/etcd/member/wal";
const CONFIG: &str = "etc/rancher/k3s/config.yaml.d/95-kiln.yaml";

/// The first server of a cluster, as its seed makes it: with the cluster's CAs and an empty datastore.
fn first(cluster: &Cluster, found: bool, others: &[u16]) -> Node {
    let like = Server::new(cluster);
    let mut node = Node::new(cluster, ("server", like.port));
    let from = like.root.path().join("var/lib/rancher");
    let copied =
        std::process::Command::new("cp").arg("-r").arg(&from).arg(node.path("var/lib")).status().unwrap();
    assert!(copied.success());
    let config = node.read("etc/rancher/k3s/config.yaml");
    let config: Vec<&str> = config.lines().filter(|line| !line.starts_with("server:")).collect();
    node.put("etc/rancher/k3s/config.yaml", &config.join("\n"));
    let peer = |port: &u16| json!({ "name": "k3s9", "server": { "host": "127.0.0.1", "port": port } });
    let others: Vec<Value> = others.iter().map(peer).collect();
    node.document["first"] = true.into();
    node.document["store"] = json!({ "found": found, "etcd": !others.is_empty(), "others": others });
    node
}

fn has(lines: &[String], line: &str) {
    assert!(lines.iter().any(|found| found == line), "{line}: {lines:#?}");
}

#[test]
fn a_first_server_that_was_flashed_again_joins_another() {
    let cluster = Cluster::new("demo");
    for found in [true, false] {
        let other = Server::started(&cluster);
        let node = first(&cluster, found, &[other.port]);
        let lines = node.supervise().ends();
        has(&lines, "join: servers: k3s9 has the cluster, and this node joins it there");
        has(&lines, "join: ready: node k3s2 is Ready");
        let config = node.read(CONFIG);
        let want =
            format!("server: \"https://127.0.0.1:{}\"\ntoken-file: \"/etc/rancher/k3s/token\"\n", other.port);
        assert!(config.ends_with(&want) && !config.contains("cluster-init"), "{config}");
        assert!(other.kept()["node/k3s2"].is_object());
        node.assert_secrets_are_gone();
    }
}

#[test]
fn without_the_word_nothing_begins_until_another_server_answers() {
    let cluster = Cluster::new("demo");
    let mut other = Server::new(&cluster);
    let node = first(&cluster, false, &[other.port]);
    let supervisor = node.supervise();
    let line = supervisor.line("join: servers: waiting").replace(&other.port.to_string(), "PORT");
    assert_eq!(
        line,
        "join: servers: waiting: there is no datastore here and no founding word in this node's seed: nobody answers: k3s9 \
         (127.0.0.1:PORT is there, and nothing listens on that port). Ways out: switch on another server of the cluster, and \
         this one joins it; or restore a snapshot (docs/servers.md); or, if the cluster is to begin anew and empty, build \
         this node with `--found`"
    );
    node.assert_secrets_are_there();
    assert!(!node.path("standin.pid").exists() && !node.path(CONFIG).exists());
    other.start(&[]);
    has(&supervisor.ends(), "join: servers: k3s9 has the cluster, and this node joins it there");
    // A lone one has nobody to wait for.
    let node = first(&cluster, false, &[]);
    node.supervise().line("join: servers: waiting: there is no datastore here and no founding word in this node's seed: the cluster file has no other server.");
    assert!(!node.path("standin.pid").exists());
}

#[test]
fn with_the_word_a_cluster_begins_once_after_a_countdown() {
    let cluster = Cluster::new("demo");
    // Somebody else's server is nobody.
    let stranger = Server::started(&Cluster::new("demo"));
    for others in [vec![], vec![port()], vec![stranger.port]] {
        let node = first(&cluster, true, &others);
        let lines = node.supervise().ends();
        has(&lines, "join: a new, empty cluster begins here in 20 s; `systemctl stop kiln-join` stops that");
        has(&lines, "join: config: a cluster begins");
        assert_eq!(node.path(CONFIG).exists(), !others.is_empty());
        assert_eq!(node.path(WAL).exists(), !others.is_empty());
        assert_eq!(node.path(DATABASE).join("state.db").exists(), others.is_empty());
        // A restart goes on with what is there; an emptied datastore does not begin once more.
        node.stop();
        let lines = node.supervise().ends();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        node.stop();
        fs::remove_dir_all(node.path(DATABASE)).unwrap();
        let supervisor = node.supervise();
        supervisor.line("join: servers: waiting: the datastore is gone, and the founding word of this node's seed is spent");
        assert!(!node.path(DATABASE).exists());
    }
}

#[test]
fn with_the_word_nothing_begins_beside_a_server_that_is_not_sure() {
    let cluster = Cluster::new("demo");
    let mut starting = Server::new(&cluster);
    starting.start(&[("K3S_STANDIN_LATE", "600")]);
    let node = first(&cluster, true, &[starting.port]);
    let supervisor = node.supervise();
    supervisor.line("join: servers: waiting: no cluster is founded while another server may have it: k3s9 (the server is still starting (503)).");
    // A port that takes connections and closes them may be one, too.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let closed = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let other = first(&cluster, true, &[closed]);
    other
        .supervise()
        .line("join: servers: waiting: no cluster is founded while another server may have it: k3s9");
    assert!(!node.path("standin.pid").exists() && !other.path("standin.pid").exists());
}

#[test]
fn a_datastore_on_a_data_disk_outlives_a_flash_and_is_waited_for() {
    let cluster = Cluster::new("demo");
    let on_disk = |found: bool| {
        let mut node = first(&cluster, found, &[]);
        node.document["store"]["data"] = json!({ "disk": "db", "mount_point": "/mnt/db" });
        node
    };
    let mounted = "36 25 8:1 / /mnt/db rw - ext4 /dev/sdb1 rw\n";
    let node = on_disk(true);
    node.put("proc/self/mountinfo", "");
    let supervisor = node.supervise();
    supervisor.line("join: datastore: waiting: the data disk that keeps this server's datastore is not there: db (/mnt/db). Plug it in");
    node.put("proc/self/mountinfo", mounted);
    fs::create_dir_all(node.path("mnt/db")).unwrap();
    supervisor.ends();
    assert!(node.path("mnt/db/k3s-server/db/state.db").exists());
    // Flashed again, without the word: all but the disk is new.
    let again = on_disk(false);
    again.put("proc/self/mountinfo", mounted);
    fs::create_dir_all(again.path("mnt")).unwrap();
    let copied =
        std::process::Command::new("cp").arg("-r").arg(node.path("mnt/db")).arg(again.path("mnt")).status();
    assert!(copied.unwrap().success());
    let lines = again.supervise().ends();
    has(&lines, "join: datastore: the data disk db has SQLite's");
    has(&lines, "join: servers: k3s goes on with its own datastore");
    // And with an empty disk it waits.
    let empty = on_disk(false);
    empty.put("proc/self/mountinfo", mounted);
    fs::create_dir_all(empty.path("mnt/db")).unwrap();
    empty.supervise().line("join: servers: waiting: there is no datastore here and no founding word");
}

#[test]
fn sqlite_can_not_be_joined_and_becomes_etcd() {
    let cluster = Cluster::new("demo");
    // One server, which keeps SQLite.
    let mut lone = Server::new(&cluster);
    let config = fs::read_to_string(lone.root.path().join("etc/rancher/k3s/config.yaml")).unwrap();
    fs::write(
        lone.root.path().join("etc/rancher/k3s/config.yaml"),
        config.replace("cluster-init: true\n", ""),
    )
    .unwrap();
    lone.start(&[]);
    let mut second = Node::new(&cluster, ("server", lone.port));
    second.document["store"] = json!({ "etcd": true, "others": [] });
    let line = second.supervise().line("join: token: waiting").replace(&lone.port.to_string(), "PORT");
    assert!(line.starts_with("join: token: waiting: server 127.0.0.1:PORT keeps SQLite, which no server can join (400). Give that server its new seed"), "{line}");
    // The first one has its new seed.
    let node = first(&cluster, false, &[port()]);
    node.put(&format!("{DATABASE}/state.db"), "rows");
    let lines = node.supervise().ends();
    has(&lines, "join: servers: SQLite becomes etcd, which others can join");
    has(&lines, "join: copy: SQLite's files are copied to /var/lib/rancher/k3s/server/db/kiln-sqlite");
    assert_eq!(node.read(&format!("{DATABASE}/kiln-sqlite/state.db")), "rows");
    assert!(node.path(&format!("{DATABASE}/state.db.migrated")).exists() && node.path(WAL).exists());
}
