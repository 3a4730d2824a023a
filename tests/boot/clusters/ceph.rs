//! `ha-ceph`: the first two of three servers. The address that all share is kube-vip's, which is a container: the test puts it
//! on the first server's card when that server is there, as kube-vip would.

use super::{Lab, MANIFESTS, ceph, is_sound, joined, kind, listed, object};
use crate::cable::{Node, expect, healthy};
use crate::disks::{content, data, folder};
use kiln_contract::manifest::FOLDER;
use kiln_qemu::{Bus, Disk, Link};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const CARDS: [&str; 2] = ["52:54:00:6b:64:01", "52:54:00:6b:64:02"];
const BYTES: u64 = 960_197_124_096;
/// How Ceph's own disks begin (ceph, src/os/bluestore: bdev_label_t).
const BLUESTORE: &[u8] = b"bluestore block device\n";

/// The server with the two disks that are Ceph's: a new one, and one that Ceph has been on.
fn node(lab: &Lab, name: &str, (folder, link): (&Path, Link)) -> (Node, Vec<PathBuf>) {
    let mut node = lab.node(name, folder, link);
    let mut paths = Vec::new();
    for osd in ["new", "old"] {
        let (path, disk) = data(&folder.join(name), &format!("{osd}.img"), BYTES, Bus::Nvme);
        node = node.with(Disk { serial: Some(format!("{name}-{osd}").to_uppercase()), ..disk });
        paths.push(path);
    }
    let file = OpenOptions::new().write(true).open(&paths[1]).unwrap();
    file.write_all_at(BLUESTORE, 0).unwrap();
    file.write_all_at(b"an object", BYTES / 2).unwrap();
    assert_eq!(kind(&paths[1]).as_deref(), Some("ceph_bluestore"));
    (node, paths)
}

#[test]
fn ha_ceph_comes_up() {
    let lab = ceph();
    let folder = folder();
    let (one, two) = Link::pair(CARDS[0], CARDS[1]).unwrap();
    let (first, mut disks) = node(&lab, "server-1", (folder.path(), one));
    let (second, more) = node(&lab, "server-2", (folder.path(), two));
    disks.extend(more);
    let before: Vec<String> = disks.iter().map(|path| content(path, &[])).collect();

    let mut running = [first.machine.start().unwrap(), second.machine.start().unwrap()];
    healthy(&mut running[0]);
    joined(&first);
    // Nobody answers for the shared address yet, and the second server says so.
    expect(&mut running[1], "10.11.80.100:6443");
    first.ask(
        "sudo ip address add 10.11.80.100/32 dev $(ip -o address show to 10.11.80.11 | awk '{print $2}')",
    );
    expect(&mut running[1], "server server-1 is ready");
    healthy(&mut running[1]);
    assert_eq!(joined(&second)["server"], "10.11.80.100:6443 is a server of cluster ha-ceph");

    for name in ["server-1", "server-2"] {
        object(&first, name);
    }
    object(&second, "server-2");
    let token = second.ask("sudo cat /etc/rancher/k3s/token");
    assert!(
        token.starts_with("K10") && token.contains("::server:"),
        "the second server's token is not whole"
    );
    assert!(!first.ask("sudo cat /etc/rancher/k3s/token").starts_with("K10"), "there is nothing to pin yet");
    let same = "sudo sha256sum /var/lib/rancher/k3s/server/tls/{server,client}-ca.{crt,key}";
    let same = format!("bash -c '{same}'");
    assert_eq!(first.ask(&same), second.ask(&same), "two servers with other authorities");

    // What is kept in force is in k3s' folder; all else the first server makes once.
    assert_eq!(listed(&first, MANIFESTS), ["644 kube-vip.yaml"]);
    let documents = ["cilium", "flux-namespace", "flux-operator", "flux-secrets", "flux-sync"];
    assert_eq!(listed(&first, FOLDER), documents.map(|name| format!("600 {name}.json")));
    let vip = first.ask(&format!("sudo grep -c 'value: \"\\?10.11.80.100' {MANIFESTS}/kube-vip.yaml"));
    assert_eq!(vip.trim(), "1");
    assert_eq!(second.ask(&format!("sudo ls {MANIFESTS} {FOLDER} 2>/dev/null || true")), "");
    for node in [&first, &second] {
        is_sound(node);
        node.ask("for module in ceph nbd rbd vxlan xt_socket; do grep -q ^$module' ' /proc/modules || exit 1; done; sudo /usr/sbin/lvm version > /dev/null; lsblk -no NAME,MOUNTPOINTS /dev/nvme?n1");
        assert!(node.ask("sudo cat /etc/rancher/k3s/registries.yaml").contains("\"*\": {}"));
    }

    for mut node in running {
        node.kill().unwrap();
    }
    let after: Vec<String> = disks.iter().map(|path| content(path, &[])).collect();
    assert_eq!(before, after, "a disk of Ceph's was written to");
}
