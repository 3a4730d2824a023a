//! A k3s that does not stay: what is told of it, what is kept, and that it goes on when the cause is gone. And what Kubernetes
//! answers on the way.

use crate::rig::{AGENT_SECRET, Cluster, DISKS, Node, Server, Supervisor};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The stand-in ends with what stands here, as k3s does.
const WORDS: &str = "var/lib/rancher/k3s/last-words";

fn waiting(node: &Node) -> Value {
    let state: Value = serde_json::from_str(&node.read("var/lib/kiln/join.json")).unwrap();
    state["waiting"].clone()
}

/// The first line with these words. Another cause may have been told before: k3s takes a moment to end.
fn told(supervisor: &Supervisor, words: &str) -> String {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(line) = supervisor.lines().into_iter().find(|line| line.contains(words)) {
            return line;
        }
        assert!(Instant::now() < until, "nobody says {words:?}: {:#?}", supervisor.lines());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_last_words_of_k3s_are_told_and_whether_time_heals_them() {
    let cluster = Cluster::new("demo");
    let server = Server::started(&cluster);
    let node = Node::new(&cluster, ("agent", server.port));
    node.put(WORDS, &format!("failed to find memory cgroup (v2), --token {AGENT_SECRET}"));
    let supervisor = node.supervise();
    let line = told(&supervisor, ": k3s-agent.service has ended");
    let (times, rest) = line.split_once("; ").unwrap();
    assert!(times.contains(" by itself and is activat") || times.ends_with("is active"), "{line}");
    assert_eq!(
        rest,
        "its last words: failed to find memory cgroup (v2), --token …. The kernel runs without that controller: on a Raspberry Pi `cgroup_memory=1 cgroup_enable=memory` belongs on its command line; `cat /sys/fs/cgroup/cgroup.controllers` shows what there is"
    );
    let kept = waiting(&node);
    assert_eq!((&kept["step"], &kept["heals"]), (&json!("ready"), &json!(false)), "{kept}");
    node.assert_secrets_are_there();

    // Another cause is told at once, and that time may heal it.
    node.put(WORDS, "extracting data: write /var/lib/rancher/k3s/data/x: no space left on device");
    told(&supervisor, "no space left on device. Make room");
    assert_eq!(waiting(&node)["heals"], true);

    // Somebody made room.
    std::fs::remove_file(node.path(WORDS)).unwrap();
    let lines = supervisor.ends();
    assert!(lines.iter().any(|line| line == "join: ready: node k3s2 is Ready"), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains(AGENT_SECRET)), "{lines:#?}");
    assert_eq!(waiting(&node), Value::Null);
    node.assert_secrets_are_gone();
}

/// A server that keeps SQLite takes no second one.
#[test]
fn a_second_server_that_the_first_can_not_take() {
    let cluster = Cluster::new("demo");
    let mut server = Server::new(&cluster);
    let path = server.root.path().join("etc/rancher/k3s/config.yaml");
    let config = std::fs::read_to_string(&path).unwrap().replace("cluster-init: true\n", "");
    std::fs::write(&path, config).unwrap();
    server.start(&[]);
    let node = Node::new(&cluster, ("server", server.port));
    let line = told(&node.supervise(), ": k3s.service has ended");
    assert!(
        line.contains("its last words: starting kubernetes: preparing server: failed to bootstrap cluster data: etcd disabled. The server that it asks keeps its data in SQLite"),
        "{line}"
    );
    assert_eq!(waiting(&node)["heals"], true);
}

/// The kubelet and k3s write to the Node as well.
#[test]
fn a_conflict_is_tried_again_at_once() {
    let cluster = Cluster::new("demo");
    let mut server = Server::new(&cluster);
    server.start(&[("K3S_STANDIN_CONFLICTS", "7")]);
    let node = Node::new(&cluster, ("agent", server.port));
    let lines = node.supervise().ends();
    assert!(!lines.iter().any(|line| line.contains("longhorn: waiting")), "{lines:#?}");
    let kept = &server.kept()["node/k3s2"]["metadata"]["annotations"];
    assert_eq!(kept["node.longhorn.io/default-disks-config"], DISKS);
}
