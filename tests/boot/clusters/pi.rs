//! `picluster`: the machine outside the cluster, and the server whose storage is a LUN of its. The agent is like the server,
//! and only built.

use super::{MANIFESTS, is_sound, joined, listed, object, pi, until};
use crate::cable::{expect, healthy, settled};
use crate::disks::{data, folder};
use kiln_qemu::{Bus, Disk, Link};

const CARDS: [&str; 2] = ["52:54:00:6b:65:01", "52:54:00:6b:65:02"];
/// More than two LUNs of 100 GB need.
const BYTES: u64 = 240_057_409_536;

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

    let volumes = outside.ask("sudo /usr/sbin/lvs --noheadings --units b -o vg_name,lv_name,lv_size | sort");
    let volumes: Vec<&str> = volumes.split_whitespace().collect();
    assert_eq!(volumes.len(), 6, "{volumes:?}");
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
    assert_eq!(
        listed(&server, MANIFESTS),
        [
            "cilium-addresses",
            "cilium",
            "flux-namespace",
            "flux-operator",
            "flux-secrets",
            "flux-sync",
            "longhorn"
        ]
        .map(|name| format!("{} {name}.yaml", if name == "flux-secrets" { "600" } else { "644" }))
    );
    let timer = server.ask(
        "systemctl show -P ActiveState -P TimersCalendar kiln-backup@k3s.timer; test -x /usr/bin/restic",
    );
    assert!(timer.starts_with("active\n") || timer.contains("\nactive"), "{timer}");
    assert!(timer.contains("03:00:00"), "{timer}");
    assert_eq!(
        server.ask("grep ^NTP= /etc/systemd/timesyncd.conf.d/60-kiln.conf").trim(),
        "NTP=0.pool.ntp.org 1.pool.ntp.org"
    );
}
