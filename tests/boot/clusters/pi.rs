//! `picluster`: the machine outside the cluster, and the server whose storage is a LUN of its. The agent is like the server,
//! and only built.

use super::{MANIFESTS, is_sound, joined, listed, object, pi, until};
use crate::cable::{Node, expect, healthy, settled};
use crate::disks::{data, folder};
use kiln_contract::manifest::FOLDER;
use kiln_qemu::{Bus, Disk, Link};

const CARDS: [&str; 2] = ["52:54:00:6b:65:01", "52:54:00:6b:65:02"];
/// Less than two LUNs of 100 GB may grow to.
const BYTES: u64 = 170_000_000_000;
/// What the first node's volume group has.
const VOLUMES: &str = "kiln_pool thin-pool 1\nnode2 thin 100000595968\nnode3 thin 100000595968\n";
/// What a file has that is on the medium, whatever the node remembers of it.
const DIGEST: &str = "echo 3 | sudo tee /proc/sys/vm/drop_caches > /dev/null; sudo sha256sum /storage/kept";

#[test]
fn picluster_comes_up() {
    let lab = pi();
    let folder = folder();
    let (one, two) = Link::pair(CARDS[0], CARDS[1]).unwrap();
    let outside = lab.node("node1", folder.path(), one);
    let (_, disk) = data(&folder.path().join("node1"), "usb.img", BYTES, Bus::Usb);
    // A case with a disk in it, not a stick.
    let outside =
        outside.with(Disk { removable: Some(false), serial: Some("KILN-USB-1".to_owned()), ..disk });
    let server = lab.node("node2", folder.path(), two);

    let mut serving = outside.machine.start().unwrap();
    let mut working = server.machine.start().unwrap();
    healthy(&mut serving);
    healthy(&mut working);

    assert_eq!(volumes(&outside), VOLUMES);
    let pool = outside.ask(
        "sudo /usr/sbin/lvs --noheadings --units b --nosuffix -o lv_when_full,seg_monitor,lv_size storage/kiln_pool; \
         sudo /usr/sbin/lvs -a --noheadings -o lv_name storage | grep pmspare",
    );
    let words: Vec<&str> = pool.split_whitespace().collect();
    assert_eq!((words[0], words[1], words[3]), ("error", "monitored", "[lvol0_pmspare]"), "{pool}");
    let size: u64 = words[2].parse().unwrap();
    assert!((BYTES - (2 << 30)..BYTES).contains(&size), "{pool}");
    outside.ask("systemctl is-active named minio vault && ! systemctl is-active haproxy && ! systemctl is-enabled k3s");
    assert_eq!(
        outside.ask("sudo cat /var/lib/minio/standin; sudo cat /var/lib/vault/standin"),
        "server --address :9000 --console-address :9001\nnode1\n"
    );

    for node in [&outside, &server] {
        is_sound(node);
    }
    // What MinIO was told is on the node; the seed has it no longer.
    settled(&outside, &lab.output().join("node1"), &["user-of-a-test", "password of a test"]);
    outside.ask(
        "systemctl is-active minio && ! sudo grep -rqe 'password of a test' /var/lib/cloud /run/cloud-init",
    );
    // The example has one server and so no use for it, and the image has it.
    outside.ask("printf 'defaults\\n mode tcp\\n timeout client 1m\\n timeout server 1m\\n timeout connect 1m\\nfrontend api\\n bind :443\\n default_backend node2\\nbackend node2\\n server node2 10.0.0.12:6443\\n' | sudo tee /etc/kiln/haproxy.cfg > /dev/null && sudo systemctl start haproxy && systemctl is-active haproxy");

    expect(&mut working, "iSCSI LUN storage: mounted on /storage");
    assert_eq!(joined(&server)["longhorn"], "Kubernetes was told of the disks");
    let mounted = server.ask("findmnt -no FSTYPE,SIZE -b /storage");
    let (kind, size) = mounted.trim().split_once(' ').unwrap();
    assert_eq!(kind, "ext4");
    assert!((90_000_000_000..100_000_000_000).contains(&size.trim().parse::<u64>().unwrap()), "{mounted}");
    server.ask("mountpoint -q /storage && test -d /storage/longhorn && sudo test -s /storage/longhorn/longhorn-disk.cfg");
    let digest = room_comes_back(&outside, &server);

    let node = object(&server, "node2");
    let annotation = node["metadata"]["annotations"]["node.longhorn.io/default-disks-config"].as_str();
    assert!(annotation.is_some_and(|text| text.contains("/storage/longhorn")), "{node:#}");
    assert_eq!(node["metadata"]["labels"]["node.longhorn.io/create-default-disk"], "config", "{node:#}");

    // Names are the first node's to know.
    for (name, address) in
        [("vault.picluster.example.com", "10.0.0.11"), ("node3.picluster.example.com", "10.0.0.13")]
    {
        let said = until(&server, &format!("getent ahostsv4 {name}"));
        assert!(said.starts_with(address), "{name}: {said}");
    }
    // Nothing of this cluster is kept in force: the server makes all of it once.
    assert_eq!(server.ask(&format!("sudo ls {MANIFESTS} 2>/dev/null || true")), "");
    let documents = [
        "cilium-addresses",
        "cilium",
        "flux-namespace",
        "flux-operator",
        "flux-secrets",
        "flux-sync",
        "longhorn",
    ];
    assert_eq!(listed(&server, FOLDER), documents.map(|name| format!("600 {name}.json")));
    let timer = server.ask(
        "systemctl show -P ActiveState -P TimersCalendar kiln-backup@k3s.timer; test -x /usr/bin/restic",
    );
    assert!(timer.starts_with("active\n") || timer.contains("\nactive"), "{timer}");
    assert!(timer.contains("03:00:00"), "{timer}");
    assert_eq!(
        server.ask("grep ^NTP= /etc/systemd/timesyncd.conf.d/60-kiln.conf").trim(),
        "NTP=0.pool.ntp.org 1.pool.ntp.org"
    );

    // What was written is there after the target's power is gone, and the pool is found as it was.
    serving.kill().unwrap();
    let mut serving = outside.machine.start().unwrap();
    healthy(&mut serving);
    assert!(!serving.console().contains("iSCSI target: "), "{}", serving.console());
    assert_eq!(volumes(&outside), VOLUMES);
    assert_eq!(server.ask(DIGEST), digest);
    working.kill().unwrap();
    a_pool_is_made_to_its_end(&outside);
}

/// The volumes of the first node, with their kinds and sizes; the pool's is what is left of the disk.
fn volumes(node: &Node) -> String {
    let text = node.ask(
        "sudo /usr/sbin/lvs --noheadings --units b --nosuffix -o lv_name,segtype,lv_size storage | sort",
    );
    let mut volumes = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let size = if words[1] == "thin-pool" { "1" } else { words[2] };
        volumes += &format!("{} {} {size}\n", words[0], words[1]);
    }
    volumes
}

/// A file is written and removed, and the pool has its room again; another one stays, and this is its digest.
fn room_comes_back(outside: &Node, server: &Node) -> String {
    let used = || -> f64 {
        let text = outside.ask("sudo /usr/sbin/lvs --noheadings -o data_percent storage/kiln_pool");
        text.trim().parse().unwrap()
    };
    let before = used();
    server.ask(
        "sudo dd if=/dev/urandom of=/storage/kept bs=1M count=4 conv=fsync status=none; \
         sudo dd if=/dev/urandom of=/storage/gone bs=1M count=256 conv=fsync status=none",
    );
    let with = used();
    // 256 MiB are 0.158 % of the disk.
    assert!(with > before + 0.14, "{before} % and then {with} %");
    server.ask("sudo rm /storage/gone; sync -f /storage; sudo fstrim /storage");
    let after = used();
    assert!(after < with - 0.12, "{with} % and then {after} %");
    server.ask(DIGEST)
}

/// What a power cut leaves of a pool that is made: nothing, a part of it, all of it without its name, one LUN too few.
fn a_pool_is_made_to_its_end(node: &Node) {
    node.ask("sudo systemctl stop rtslib-fb-targetctl");
    let lvm = "sudo /usr/sbin/lvm";
    let all = format!("{lvm} lvremove --yes --force storage");
    for left in [
        format!("{all} && {lvm} lvcreate --yes -L 128m -n kiln_new storage"),
        format!(
            "{lvm} lvremove --yes storage/node2 storage/node3 && {lvm} lvrename storage kiln_pool kiln_new"
        ),
        format!("{lvm} lvremove --yes storage/node3"),
        all,
    ] {
        node.ask(&format!("{left} && sudo systemctl restart kiln-target"));
        assert_eq!(volumes(node), VOLUMES, "{left}");
    }
}
