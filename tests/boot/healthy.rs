//! Nodes that come up as their cluster file asks.

use crate::nodes::{digest, json, machine, report, site};
use crate::ssh::{With, ask};
use kiln_qemu::free_port;
use kiln_tests::said;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// What a node's boot shows: its report, its answers over SSH, and that its image is as it was.
fn boot(node: &str, address: Ipv4Addr) -> Value {
    let site = site();
    let image = site.image(node);
    let built = site.described(node);
    let port = free_port().unwrap();
    let mut running = machine(&image, address, port).start().unwrap();
    let report = report(&mut running);

    assert_eq!(report["state"], "running", "{report:#}\n{}", running.console());
    assert_eq!(report["failed_units"], Value::Array(vec![]), "{report:#}");
    assert_eq!(report["node"], node);
    let fixed = format!(" {address}/24");
    let addresses = report["addresses"].as_array().unwrap();
    let v4: Vec<&str> =
        addresses.iter().filter_map(Value::as_str).filter(|text| text.contains('.')).collect();
    assert!(v4.len() == 1 && v4[0].ends_with(&fixed), "{addresses:?}, where {fixed} is wanted");

    // The key that the cluster file names opens the door.
    let asked = "hostname; findmnt -no OPTIONS /; systemctl is-system-running; \
        timedatectl show -p Timezone --value; cat /etc/machine-id; sudo -n true && echo may";
    let answer = ask(port, &With::Key(&site.key), asked);
    assert!(answer.status.success(), "{}", said(&answer));
    let answer = String::from_utf8(answer.stdout).unwrap();
    let lines: Vec<&str> = answer.lines().collect();
    let [hostname, root, state, zone, machine_id, sudo] = lines[..] else { panic!("{answer}") };
    assert_eq!((hostname, state, zone, sudo), (node, "running", "Europe/Berlin", "may"));
    assert!(root.split(',').any(|option| option == "ro"), "the root is mounted {root}");
    assert_eq!(report["machine_id"], machine_id);

    // What Tailscale, Cilium and host-gw laid stays when networkd is started again, and inotify is enough for a node's pods.
    let asked = "cat /proc/sys/fs/inotify/max_user_instances /proc/sys/fs/inotify/max_user_watches; \
        sudo ip rule add pref 5270 table 52; sudo ip route add 100.64.0.0/10 dev lo table 52; \
        sudo systemctl restart systemd-networkd; sleep 3; ip rule show pref 5270; ip route show table 52";
    let answer = ask(port, &With::Key(&site.key), asked);
    let answer = String::from_utf8(answer.stdout).unwrap();
    let lines: Vec<&str> = answer.lines().map(str::trim_end).collect();
    let [instances, watches, rule, route] = lines[..] else { panic!("{answer}") };
    assert_eq!((instances, watches), ("8192", "524288"));
    assert_eq!((rule, route), ("5270:\tfrom all lookup 52", "100.64.0.0/10 dev lo scope link"));

    // No other key, and no password, does.
    let stranger = ask(port, &With::Key(&site.stranger), "true");
    assert_eq!(stranger.status.code(), Some(255), "{}", said(&stranger));
    assert!(said(&stranger).contains("Permission denied (publickey)"), "{}", said(&stranger));
    let password = ask(port, &With::Password, "true");
    assert_eq!(password.status.code(), Some(255), "{}", said(&password));
    // What is in brackets are the methods that the node would take: a password is none of them.
    assert!(said(&password).contains("Permission denied (publickey)"), "{}", said(&password));

    drop(running);
    assert_eq!(built["disk"]["sha256"], digest(&image), "the boot has changed {}", image.display());
    report
}

/// The id that the seed tells the node.
fn machine_id(node: &str) -> Value {
    use std::fs;
    let folder = tempfile::tempdir().unwrap();
    let site = site();
    let cidata = site.described(node)["disk"]["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|partition| partition["name"] == "CIDATA")
        .and_then(|partition| partition["start"].as_u64())
        .unwrap();
    let copy = folder.path().join("handoff.json");
    let at = format!("{}@@{cidata}", site.image(node).display());
    let mut mcopy = kiln_tests::tool("mcopy", "mtools");
    kiln_tests::succeed(mcopy.args(["-n", "-i", &at, "::kiln/handoff.json"]).arg(&copy));
    assert!(fs::metadata(&copy).unwrap().len() > 0);
    json(&copy)["node"]["machine_id"].clone()
}

/// Both nodes come up from UEFI to `running`, each as itself.
#[test]
fn each_node_is_itself() {
    let nodes = [("k3s1", Ipv4Addr::new(192, 168, 86, 71)), ("k3s2", Ipv4Addr::new(192, 168, 86, 72))];
    let reports = nodes.map(|(node, address)| (node, boot(node, address)));
    for (node, report) in &reports {
        assert_eq!(report["machine_id"], machine_id(node), "{node}");
    }
    let [(_, one), (_, two)] = &reports;
    assert_ne!(one["machine_id"], two["machine_id"]);
    let keys = |report: &Value| -> BTreeSet<String> {
        report["host_keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect()
    };
    let (one, two) = (keys(one), keys(two));
    assert!(!one.is_empty() && !two.is_empty(), "no host keys: {one:?} {two:?}");
    assert!(one.is_disjoint(&two), "shared host keys: {:?}", one.intersection(&two).collect::<Vec<_>>());
}
