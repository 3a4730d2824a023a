//! Servers that were flashed again: each comes back by itself, and each condition of that by itself keeps it from it.

mod lab;

use crate::rig::{Cluster, Server, port};
use lab::{LEASE, Lab, NODE, OLD, TLS, TURN, UUID, flashed, has, is_back, refused, waits};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// Second, third and first server of three real stand-ins: flashed one after another, each comes back, and no key is written.
#[test]
fn each_server_in_turn_comes_back_by_itself() {
    let cluster = Cluster::new("demo");
    let mut one = Server::new(&cluster);
    one.start(&[("K3S_STANDIN_LEASE", "0.3")]);
    let mut three = Server::new(&cluster);
    let config = three.root.path().join("etc/rancher/k3s/config.yaml");
    let text = fs::read_to_string(&config).unwrap();
    let joins = format!("server: https://127.0.0.1:{}\n", one.port);
    fs::write(
        &config,
        text.replace("node-name: k3s1", "node-name: k3s3").replace("cluster-init: true\n", &joins),
    )
    .unwrap();
    three.start(&[("K3S_STANDIN_LEASE", "0.3")]);
    let servers = [("k3s1", one.port), ("k3s3", three.port)];
    let node = flashed(&cluster, (false, &servers));
    node.supervise().ends();
    drop(node);
    let old = json!({
        "metadata": { "creationTimestamp": "2026-01-01T00:00:00Z", "labels": { "zone": "a" } },
        "spec": { "unschedulable": true, "taints": [{ "key": "db", "effect": "NoSchedule" }] },
    });
    one.ask("PATCH", NODE, &old);
    for first in [false, false, true] {
        let was = one.kept()["node/k3s2"]["metadata"]["annotations"]["etcd.k3s.cattle.io/node-name"].clone();
        let was = was.as_str().unwrap();
        let node = flashed(&cluster, (first, &servers));
        let lines = node.supervise().ends();
        has(&lines, "join: ready: etcd has a member of this node's name, from before it was made anew");
        let start = "join: rejoin: its machine is this one, its lease stood still while k3s";
        let said = lines.iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{lines:#?}"));
        assert!(
            said.ends_with(&format!("'s moved, and all else that votes in etcd is healthy: {was} may go")),
            "{said}"
        );
        has(
            &lines,
            &format!(
                "join: the old etcd member {was} of this node is taken out of the cluster, and k3s joins as a new one in 20 s; `systemctl stop kiln-join` stops that"
            ),
        );
        has(&lines, "join: request: etcd.k3s.cattle.io/remove stands on the Node object");
        has(&lines, &format!("join: member: etcd has no {was} any more"));
        has(&lines, "join: ready: node k3s2 is Ready");
        is_back(&one);
        // The turn is over.
        assert_eq!(one.ask("GET", TURN, &Value::Null)["spec"]["holderIdentity"], "");
        // What was made for this is nowhere: the only keys below the node are k3s' own and the seed's.
        let written = node.files("");
        let keys = written.iter().filter(|(_, bytes)| String::from_utf8_lossy(bytes).contains("PRIVATE KEY"));
        for (path, _) in keys {
            let path = path.strip_prefix(node.root.path()).unwrap().display().to_string();
            let own = path.starts_with(TLS) || path.contains("k3s/agent/");
            assert!(own, "a key is in {path}");
        }
        assert!(
            !lines.iter().any(|line| line.contains("PRIVATE") || line.contains("CERTIFICATE")),
            "{lines:#?}"
        );
        let kept: Value = serde_json::from_str(&node.read("var/lib/kiln/join.json")).unwrap();
        assert_eq!(
            (&kept["rejoin"]["member"], &kept["rejoin"]["gone"]),
            (&json!(was), &json!(true)),
            "{kept}"
        );
        assert!(kept["rejoin"]["said"].as_str().unwrap().contains("duplicate node name found"));
        node.assert_secrets_are_gone();
        // Before it is flashed once more, it is dead.
        drop(node);
    }
    // It was an administrator's certificate, and the join's alone asked for changes.
    let patches = one.requests().into_iter().filter(|request| request["method"] == "PATCH");
    assert!(patches.filter(|request| request["path"] == NODE).all(|request| request["admin"] == true));
}

/// A document of an older Kiln, and a cluster whose Nodes are as they were: a person does it.
#[test]
fn a_document_without_the_word_says_what_to_do() {
    let lab = Lab::plain();
    let mut node = lab.flashed();
    node.document["store"].as_object_mut().unwrap().remove("rejoin");
    let line = waits(&node.supervise(), "duplicate node name found");
    assert!(line.contains("kubectl annotate node NAME etcd.k3s.cattle.io/remove=true"), "{line}");
    lab.is_untouched();
}

#[test]
fn a_person_is_asked_where_the_cluster_file_says_so() {
    let lab = Lab::plain();
    let mut node = lab.flashed();
    node.document["store"]["rejoin"] = "ask".into();
    let too_early = node.helper(&["rejoin"]);
    assert!(!too_early.status.success());
    let said = String::from_utf8(too_early.stderr).unwrap();
    assert!(
        said.contains("the join asks nothing on this node") && said.contains("Nothing was done"),
        "{said}"
    );
    let supervisor = node.supervise();
    let what = format!("take the old etcd member {OLD} of node k3s2 out of the cluster");
    let line = waits(&supervisor, "a person is asked");
    assert!(
        line.contains(&format!(
            "a person is asked whether to {what}. If so, type `kiln-firstboot rejoin` on this node"
        )),
        "{line}"
    );
    lab.is_untouched();
    let yes = node.helper(&["rejoin"]);
    assert!(String::from_utf8(yes.stdout).unwrap().contains(&format!("yes, {what}.")));
    has(&supervisor.ends(), "join: ready: node k3s2 is Ready");
    lab.is_back();
    // The word is spent.
    assert!(!node.path("run/kiln/rejoin-word").exists() && !node.path("run/kiln/rejoin-question").exists());
}

#[test]
fn other_hardware_and_none_are_asked_about() {
    for (uuid, want) in [
        (
            Some("11111111-2222-3333-4444-555555555555"),
            "although this board's UUID is 11111111-2222-3333-4444-555555555555, and the Node object has 4c4c4544-0042-3510-8056-b4c04f4a3232: it was another machine",
        ),
        (None, "although this board has no UUID of its own (DMI) that could prove that it is the same one"),
    ] {
        let lab = Lab::plain();
        let node = lab.flashed();
        match uuid {
            Some(uuid) => node.put(UUID, uuid),
            None => fs::remove_file(node.path(UUID)).unwrap(),
        }
        let supervisor = node.supervise();
        let line = waits(&supervisor, "a person is asked");
        assert!(line.contains(want), "{line}");
        lab.is_untouched();
        assert!(node.helper(&["rejoin"]).status.success());
        supervisor.ends();
        lab.is_back();
    }
}

#[test]
fn a_living_machine_of_that_name() {
    let lab = Lab::plain();
    let node = lab.flashed();
    let supervisor = node.supervise();
    supervisor.line("join: ready: etcd has a member");
    for count in 0..200 {
        let mut lease = lab.one.ask("GET", LEASE, &Value::Null);
        lease["spec"]["renewTime"] = format!("2026-11-28T00:00:00.{count:06}Z").into();
        lab.one.ask("PUT", LEASE, &lease);
        if supervisor.lines().iter().any(|line| line.contains("a machine of this node's name is alive")) {
            return lab.is_untouched();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{:#?}", supervisor.lines());
}

#[test]
fn a_cluster_in_which_nothing_moves() {
    let lab = Lab::new(|_| {}, &[("K3S_STANDIN_LEASE", "600")]);
    refused(
        &lab,
        &lab.flashed(),
        "no node's lease is renewed: whether a machine of this node's name is alive can't be seen.",
    );
}

#[test]
fn a_node_object_that_is_younger() {
    let lab = Lab::new(
        |table| table["node/k3s2"]["metadata"]["creationTimestamp"] = "2126-01-01T00:00:00Z".into(),
        &[],
    );
    refused(
        &lab,
        &lab.flashed(),
        "younger than what was made anew here: another machine has made it meanwhile. Look for that machine",
    );
}

#[test]
fn another_voter_that_is_down() {
    let mut lab = Lab::plain();
    lab.third = port();
    let node = lab.flashed();
    refused(
        &lab,
        &node,
        "without this node's old member not all that vote in etcd are healthy: k3s3-33333333 (127.0.0.1:",
    );
    // Its server answers, and its etcd does not.
    let mut ill = Server::new(&lab.cluster);
    ill.start(&[("K3S_STANDIN_ETCD", "silent")]);
    lab.third = ill.port;
    refused(&lab, &lab.flashed(), "(etcd itself does not answer on 127.0.0.1:");
}

#[test]
fn a_cluster_of_two_and_members_that_are_not_plain() {
    let lab = Lab::new(|table| drop(table["etcd/members"].as_array_mut().unwrap().pop()), &[]);
    refused(&lab, &lab.flashed(), "1 of the 2 that vote in etcd are no majority.");
    let lab = Lab::new(|table| table["etcd/members"][1]["isLearner"] = true.into(), &[]);
    refused(&lab, &lab.flashed(), "etcd has a member that does not vote yet, k3s3-33333333");
}

#[test]
fn another_servers_turn() {
    let held = |spec: Value| {
        move |table: &mut Value| {
            table["object/coordination.k8s.io/leases/kube-system/kiln-rejoin"] =
                json!({ "metadata": { "name": "kiln-rejoin", "resourceVersion": "2" }, "spec": spec });
        }
    };
    let lab = Lab::new(
        held(json!({ "holderIdentity": "k3s3_1", "leaseDurationSeconds": 3000, "renewTime": "x" })),
        &[],
    );
    refused(&lab, &lab.flashed(), "another server's rejoin is under way: k3s3_1. One at a time");
    // One that says nothing for as long as it wanted is over.
    let lab = Lab::new(
        held(json!({ "holderIdentity": "k3s3_1", "leaseDurationSeconds": 20, "renewTime": "x" })),
        &[],
    );
    let node = lab.flashed();
    node.supervise().ends();
    lab.is_back();
}

#[test]
fn a_change_of_the_node_by_others_is_read_again() {
    let lab = Lab::new(|_| {}, &[("K3S_STANDIN_CONFLICTS", "3")]);
    let node = lab.flashed();
    let lines = node.supervise().ends();
    assert!(!lines.iter().any(|line| line.contains("409")), "{lines:#?}");
    lab.is_back();
    let requests = lab.one.requests();
    let patches: Vec<&Value> =
        requests.iter().filter(|one| one["method"] == "PATCH" && one["path"] == NODE).collect();
    assert_eq!(patches.len(), 4);
    // All is read between two of them.
    let at = |wanted: &Value| requests.iter().position(|one| std::ptr::eq(one, wanted)).unwrap();
    for pair in patches.windows(2) {
        let between = &requests[at(pair[0])..at(pair[1])];
        for path in [NODE, "/db/info", LEASE] {
            assert!(between.iter().any(|one| one["path"] == path), "{path}: {between:#?}");
        }
    }
}

#[test]
fn a_certificate_that_is_not_taken() {
    for status in ["401", "403"] {
        let lab = Lab::new(|_| {}, &[("K3S_STANDIN_REFUSE", status)]);
        refused(
            &lab,
            &lab.flashed(),
            &format!(
                "the Kubernetes API does not take the certificate that this node made with its seed's CA: it answered {status} to {NODE}. The CA of clients was rotated"
            ),
        );
    }
    // Clients are judged by another CA than the one that servers hand on.
    let other = Server::new(&Cluster::new("other"));
    let judge = other.root.path().join(TLS).join("client-ca.crt").display().to_string();
    let lab = Lab::new(|_| {}, &[("K3S_STANDIN_CLIENTS", &judge)]);
    refused(
        &lab,
        &lab.flashed(),
        "does not take the certificate that this node made with its seed's CA: TLS ended with",
    );
}

/// Somebody emptied the datastore of a node that had joined.
#[test]
fn a_datastore_that_somebody_emptied() {
    let lab = Lab::plain();
    let node = lab.flashed();
    let known = json!({ "version": 1, "cluster": "demo", "node": "k3s2", "stage": "", "joined": true, "done": true, "began": 1, "steps": [] });
    node.put("var/lib/kiln/join.json", &known.to_string());
    refused(
        &lab,
        &node,
        "the datastore here is empty, and not because Kiln made this state or its data disk anew",
    );
}

/// A data disk that Kiln made in this boot, on a node that had joined; one of which Kiln does not know; and none at all.
#[test]
fn a_data_disk_that_was_made_anew() {
    let lab = Lab::plain();
    let on_disk = || {
        let mut node = lab.flashed();
        node.document["store"]["data"] = json!({ "disk": "db", "mount_point": "/mnt/db" });
        let known = json!({ "version": 1, "cluster": "demo", "node": "k3s2", "stage": "", "joined": true, "done": true, "began": 1, "steps": [] });
        node.put("var/lib/kiln/join.json", &known.to_string());
        node.put("proc/self/mountinfo", "36 25 8:1 / /mnt/db rw - ext4 /dev/sdb1 rw\n");
        fs::create_dir_all(node.path("mnt/db")).unwrap();
        node
    };
    let node = on_disk();
    node.put("proc/self/mountinfo", "");
    let supervisor = node.supervise();
    supervisor.line("join: datastore: waiting: the data disk that keeps this server's datastore is not there: db (/mnt/db)");
    lab.is_untouched();
    drop(supervisor);
    refused(
        &lab,
        &on_disk(),
        "the datastore here is empty, and not because Kiln made this state or its data disk anew",
    );
    let node = on_disk();
    let mut record: Value = serde_json::from_str(&node.read("run/kiln/boot.json")).unwrap();
    record["plan"]["disks"] = json!([{ "disk": "sdb", "action": { "provision": { "rule": "db", "slot": "db", "usage": "mount" } } }]);
    node.put("run/kiln/boot.json", &record.to_string());
    node.supervise().ends();
    lab.is_back();
}

/// Power goes between the record and the request, and after the request: it goes on with the same member, once.
#[test]
fn a_cut_is_made_good_and_a_state_does_it_once() {
    let lab = Lab::plain();
    let node = lab.flashed();
    let supervisor = node.supervise();
    supervisor.line("join: removal: nobody stopped it");
    supervisor.kill();
    // The record may be there or not by now; both must go on.
    let supervisor = node.supervise();
    supervisor.line("join: request: ");
    supervisor.kill();
    let lines = node.supervise().ends();
    has(&lines, "join: ready: node k3s2 is Ready");
    lab.is_back();

    // k3s meets another one, on a state that has had its own.
    let lab = Lab::plain();
    let node = lab.flashed();
    let past =
        json!({ "said": "x", "holder": "k3s2_1", "member": "k3s2-ffffffff", "gone": false, "ends": 0 });
    let known = json!({ "version": 1, "cluster": "demo", "node": "k3s2", "stage": "", "joined": false, "done": false, "began": 1, "steps": [], "rejoin": past });
    node.put("var/lib/kiln/join.json", &known.to_string());
    refused(
        &lab,
        &node,
        "k3s2-ffffffff was taken out of etcd for this state already, and k3s now meets k3s2-0a1b2c3d. Once a state",
    );
    let mut gone = known.clone();
    gone["rejoin"]["gone"] = true.into();
    gone["rejoin"]["ends"] = 1000.into();
    let node = lab.flashed();
    node.put("var/lib/kiln/join.json", &gone.to_string());
    refused(&lab, &node, "k3s2-ffffffff was taken out for this state already, and k3s.service has ended");
}
