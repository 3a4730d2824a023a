//! `k3s-flux`: a server and an agent with three disks for Longhorn each.

use super::{Lab, MANIFESTS, flux, is_sound, joined, listed, object, until};
use crate::cable::{Node, healthy};
use crate::disks::{data, folder, partitions, signature};
use kiln_contract::manifest::{FOLDER, REPORT};
use kiln_qemu::{Bus, Disk, Link};
use serde_json::Value;
use std::path::{Path, PathBuf};

const CARDS: [&str; 2] = ["52:54:00:6b:63:01", "52:54:00:6b:63:02"];
/// What Samsung calls 500 GB (bytes).
const BYTES: u64 = 500_107_862_016;
const DISKS: [&str; 3] = ["sdf-1", "sdf-2", "sdf-3"];

/// The node with three disks of the kind that its cluster file asks for, on SATA as they are.
fn node(lab: &Lab, name: &str, (folder, link): (&Path, Link)) -> (Node, Vec<PathBuf>) {
    let mut node = lab.node(name, folder, link);
    let mut paths = Vec::new();
    for number in 1..=3 {
        let (path, disk) = data(&folder.join(name), &format!("samsung-{number}.img"), BYTES, Bus::Ahci);
        node = node.with(Disk {
            model: Some("Samsung SSD 870 EVO 500GB".to_owned()),
            serial: Some(format!("S6PENU0W{name}{number}").to_uppercase()),
            rotation_rate: Some(1),
            ..disk
        });
        paths.push(path);
    }
    (node, paths)
}

/// Longhorn's disks: made, mounted, and told to Kubernetes.
fn has_its_disks(server: &Node, node: &Node, name: &str) {
    let mounted = node.ask("findmnt -rno TARGET,FSTYPE -t ext4 | grep ^/mnt/ | sort");
    let wanted: Vec<String> = DISKS.iter().map(|disk| format!("/mnt/longhorn/{disk} ext4")).collect();
    assert_eq!(mounted.lines().collect::<Vec<_>>(), wanted);
    let metadata = object(server, name)["metadata"].clone();
    assert_eq!(metadata["labels"]["node.longhorn.io/create-default-disk"], "config", "{metadata:#}");
    let text = metadata["annotations"]["node.longhorn.io/default-disks-config"].as_str().unwrap();
    let told: Value = serde_json::from_str(text).unwrap();
    let told = told.as_array().unwrap();
    assert_eq!(told.len(), DISKS.len(), "{text}");
    for (told, name) in told.iter().zip(DISKS) {
        assert_eq!(told["name"], name);
        assert_eq!(told["path"], format!("/mnt/longhorn/{name}"));
        assert_eq!(told["tags"], serde_json::json!(["ssd"]));
        assert_eq!(told["storageReserved"], 20_u64 << 30);
        assert_eq!(told["allowScheduling"], true);
    }
}

/// The agent is there before its server. Both join; disks, manifests, Tailscale and units are as the example asks for them.
#[test]
fn k3s_flux_comes_up() {
    let lab = flux();
    let folder = folder();
    let (one, two) = Link::pair(CARDS[0], CARDS[1]).unwrap();
    let (server, disks) = node(&lab, "k3s1", (folder.path(), one));
    let (agent, _) = node(&lab, "k3s2", (folder.path(), two));

    let mut working = agent.machine.start().unwrap();
    let mut serving = server.machine.start().unwrap();
    healthy(&mut serving);
    healthy(&mut working);
    for node in [&server, &agent] {
        assert_eq!(joined(node)["longhorn"], "Kubernetes was told of the disks");
        is_sound(node);
    }
    for (node, name) in [(&server, "k3s1"), (&agent, "k3s2")] {
        has_its_disks(&server, node, name);
        node.ask("systemctl is-active iscsid.socket systemd-timesyncd.service && lsmod | grep -q ^dm_crypt && lsmod | grep -q ^iscsi_tcp");
    }

    // What is kept in force is in k3s' folder. All else the server makes once, what it can: nobody brings Flux' kinds here.
    assert_eq!(listed(&server, MANIFESTS), ["644 cloud-init-server.yaml"]);
    let documents = ["flux-namespace", "flux-operator", "flux-secrets", "flux-sync"];
    assert_eq!(listed(&server, FOLDER), documents.map(|name| format!("600 {name}.json")));
    let text = until(&server, &format!("sudo grep -c FluxInstance {REPORT} && sudo cat {REPORT}"));
    let report: Value = serde_json::from_str(text.trim_start_matches(|c| c != '{')).unwrap();
    let made = [
        "Namespace flux-system",
        "HelmChart kube-system/flux-operator",
        "Secret flux-system/flux-system",
        "Secret flux-system/sops-age",
    ];
    assert_eq!((&report["made"], &report["done"]), (&made[..].into(), &false.into()), "{report:#}");
    server.ask("systemctl is-active kiln-manifests.service");
    assert_eq!(agent.ask(&format!("sudo ls {MANIFESTS} {FOLDER} 2>/dev/null || true")), "");
    agent.ask("! systemctl is-active kiln-manifests.service");

    // The key let the node in, and is gone.
    let told = until(&server, "sudo cat /var/lib/tailscale/standin-up");
    for words in ["--advertise-routes=10.42.0.0/16,10.43.0.0/16,192.168.86.0/24", "--hostname=k3s1"] {
        assert!(told.lines().any(|line| line == words), "{words} is not in {told}");
    }
    until(&server, "! sudo test -e /etc/kiln/tailscale.key");
    assert_eq!(
        server.ask("cat /proc/sys/net/ipv4/ip_forward; systemctl is-active tailscaled").trim(),
        "1\nactive"
    );
    agent.ask("! test -e /usr/bin/tailscale && ! systemctl cat tailscaled > /dev/null 2>&1");

    serving.kill().unwrap();
    working.kill().unwrap();
    for path in disks {
        let [partition] = &partitions(&path)[..] else { panic!("{}", path.display()) };
        assert_eq!(signature(&path, Some(partition.bytes.clone()))["TYPE"], "ext4");
    }
}
