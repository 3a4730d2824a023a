//! Two machines on a cable: one serves LUNs from a volume group, the other mounts one. The first is killed and comes back
//! while the other writes; the second is started again. And one that serves a file.

use crate::cable::{Node, expect, healthy, settled, side_door, write};
use crate::disks::{content, data, folder};
use crate::foreign::group_with_volume;
use crate::nodes::{Shared, key_pair, remove_images, report};
use kiln_qemu::{Bus, Disk, Link, Running};
use kiln_tests::{build, shared};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The disk of the volume group: its serial number, and its size.
const SERIAL: &str = "kiln-lvm";
const GROUP: u64 = 2 << 30;
/// An initiator that is no node of the cluster.
const GUEST: &str = "iqn.2025-01.test.kiln:guest";
/// Hardware addresses of the nodes' cards: two ends of a cable, and one of a cable that leads nowhere.
const CARDS: [&str; 3] = ["52:54:00:6b:69:01", "52:54:00:6b:69:02", "52:54:00:6b:69:03"];
/// A password that must be seen nowhere but where it is used.
const PASSWORD: &str = "kiln-test-chap-1";
const MUTUAL: &str = "kiln-test-chap-2";

/// The built cluster and the key that it lets in.
struct Lab {
    output: PathBuf,
    key: PathBuf,
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove_images(&self.output);
    }
}

impl Lab {
    /// A node of it, with its disk in a folder, on this end of a cable.
    fn node(&self, name: &str, folder: &Path, link: Link) -> Node {
        Node::new((&self.output, name), &self.key, (folder, link))
    }
}

/// All nodes share one root. A second card of each, which their user gives an address in an overlay of his own, leads to
/// this test.
fn lab() -> Arc<Lab> {
    static LAB: Shared<Lab> = Shared::new();
    LAB.hold(|| {
        let top = shared().join("iscsi");
        side_door(&top.join("lab"));
        let key = key_pair(&top, "key");
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        let [one, two, three] = CARDS;
        let cluster = format!(
            "apiVersion: kiln/v1\ncluster: {{name: storage-lab}}\n\
             overlays: [iscsi-initiator, iscsi-target, ./lab]\n\
             users: [{{name: ops, ssh_keys: [{key}]}}]\nnodes:\n\
             - name: storage\n  network: {{address: 10.9.0.1/24, mac: \"{one}\"}}\n\
             \x20 disks: {{data: [{{name: data, match: {{serial: {SERIAL}}}, use: lvm}}]}}\n\
             \x20 iscsi_target:\n    volume_group: data\n    luns:\n\
             \x20   - {{name: worker, size: 1GiB, initiators: [worker]}}\n\
             \x20   - {{name: foreign, size: 64MiB, initiators: [worker]}}\n\
             - name: worker\n  network: {{address: 10.9.0.2/24, mac: \"{two}\"}}\n\
             \x20 iscsi:\n\
             \x20 - name: data\n    target: storage\n    lun: 0\n    mount_point: /storage\n\
             \x20   mount_options: [noatime]\n    chap: &chap\n\
             \x20     user: worker\n      password: {PASSWORD}\n      mutual: {{user: storage, password: {MUTUAL}}}\n\
             \x20 - {{name: old, target: storage, lun: 1, mount_point: /srv/old, chap: *chap}}\n\
             - name: files\n  network: {{address: 10.9.0.3/24, mac: \"{three}\"}}\n\
             \x20 iscsi_target:\n    folder: /srv/luns\n    chap: {{user: guest, password: {PASSWORD}}}\n\
             \x20   luns: [{{name: guest, size: 1GiB, lun: 7, initiators: [{GUEST}]}}]\n",
            key = public.trim(),
        );
        write(&top.join("cluster.yaml"), &cluster);
        build(&top, ["-f", "cluster.yaml", "-o", "dist"]);
        Lab { output: top.join("dist"), key }
    })
}

/// Wrong password, right password, a LUN that is not ours, a target that goes and comes back, a second boot.
#[test]
fn a_lun_is_mounted_and_stays_through_everything() {
    let (lab, folder) = (lab(), folder());
    let (one, two) = Link::pair(CARDS[0], CARDS[1]).unwrap();
    let (_, disk) = data(folder.path(), "group.img", GROUP, Bus::Virtio);
    // Disks that no rule takes: a group of the same name, which has a volume of a LUN's name.
    let (namesake, old) = data(folder.path(), "namesake.img", 256 << 20, Bus::Virtio);
    let is_there = group_with_volume(&namesake, "data", "worker");
    let before = content(&namesake, &[]);
    let storage = lab
        .node("storage", folder.path(), one)
        .with(Disk { serial: Some(SERIAL.to_owned()), ..disk })
        .with(Disk { serial: Some("kiln-old".to_owned()), ..old });
    let worker = lab.node("worker", folder.path(), two);

    let mut serving = storage.machine.start().unwrap();
    healthy(&mut serving);
    if is_there {
        expect(&mut serving, "iSCSI target: a volume group of the same name, data, lies on /dev/vdc (UUID");
        let volumes = storage.ask(
            "sudo lvs --noheadings -o lv_name,devices,lv_active | grep -v WARNING; \
             sudo dmsetup ls; lsblk -no FSTYPE /dev/vdc",
        );
        assert!(volumes.contains("/dev/vdb1(0)") && volumes.contains("foreign_LVM2_member"), "{volumes}");
        assert_eq!(volumes.matches("data-worker").count(), 1, "{volumes}");
    }
    // LVM's locks lie where they lay when systemd began.
    storage.ask(
        "test -d /run/lock/lvm && findmnt -no OPTIONS /run/lock | grep -q noexec && \
         ! systemctl show -p ExecMount run-lock.mount | grep 'start_time=\\[[A-Z]'",
    );
    // Nobody on the link is listened to but where something is served; and the journal has a limit.
    storage.ask(
        "if ss -Hltun | grep ':5355 '; then exit 1; fi; \
         systemd-analyze cat-config systemd/journald.conf | grep -qx SystemMaxUse=512M",
    );
    // Only the target's own password is another one now; and somebody's file system is on the second LUN.
    let acl = "/sys/kernel/config/target/iscsi/iqn.*/tpgt_1/acls/iqn.*/auth/password";
    storage.ask(&format!("echo -n not-that-password | sudo tee {acl}"));
    // mke2fs itself wants a device for itself alone, and the target has it.
    storage.ask(
        "truncate -s 64M /var/tmp/old && /usr/sbin/mke2fs -q -F -t ext4 -L precious /var/tmp/old && \
         sudo dd if=/var/tmp/old of=/dev/data/foreign bs=1M conv=fsync,nocreat status=none",
    );
    let digest = || storage.ask("sudo dd if=/dev/data/foreign bs=1M iflag=direct status=none | sha256sum");
    let foreign = digest();
    let modes =
        storage.ask("sudo stat -c '%a %n' /etc/rtslib-fb-target/saveconfig.json /run/kiln/handoff.json");
    assert!(modes.lines().all(|line| line.starts_with("600 ")), "{modes}");

    let mut working = worker.machine.start().unwrap();
    expect(&mut working, "iSCSI LUN data: the target refused the name or password (CHAP)");
    healthy(&mut working);
    storage.ask(&format!("echo -n {PASSWORD} | sudo tee {acl} > /dev/null"));
    expect(&mut working, "iSCSI LUN data: was blank, has ext4 now");
    expect(&mut working, "iSCSI LUN data: mounted on /storage");
    // Said before or after that of the other LUN: whichever was tried first.
    worker.ask(
        "old() { sudo journalctl -u kiln-luns -b --no-pager | grep -F 'iSCSI LUN old: there is ext4 \"precious\" on it: it is never formatted'; }; \
         for i in $(seq 100); do old && break; sleep 2; done; old",
    );
    let mount = worker.ask("findmnt -no FSTYPE,OPTIONS /storage; systemctl cat storage.mount");
    let (mounted, unit) = mount.split_once('\n').unwrap();
    for option in ["ext4", "noatime", "nosuid"] {
        assert!(mounted.contains(option), "{option} is not in {mounted}");
    }
    assert!(unit.contains("Options=_netdev,nofail,"), "{unit}");
    worker.ask("echo one | sudo tee /storage/file > /dev/null; sync; ! mountpoint -q /srv/old");
    assert_eq!(digest(), foreign, "a LUN that was refused was written to");
    // From here on the passwords are in files of the nodes' own.
    for node in [(&storage, "storage"), (&worker, "worker")] {
        let said = settled(node.0, &lab.output.join(node.1), &[PASSWORD, MUTUAL]);
        assert!(said.contains("CHAP names and passwords are in /var/lib/kiln/chap.json"), "{said}");
        let mode = node.0.ask("sudo stat -c %a /var/lib/kiln/chap.json");
        assert_eq!(mode, "600\n");
    }

    // The cable stays dead for as long as the target takes to boot; a write waits for it.
    serving.kill().unwrap();
    worker.ask(
        "(sleep 1; echo two | sudo tee /storage/waited && sync -f /storage; echo $? > /tmp/waited) > /dev/null 2>&1 &",
    );
    expect(&mut working, "iSCSI LUN data: 10.9.0.1:3260 does not answer");
    let away = Instant::now();
    let mut serving = storage.machine.start().unwrap();
    healthy(&mut serving);
    assert!(away.elapsed() > Duration::from_secs(5));
    expect(&mut working, "iSCSI LUN data: mounted on /storage");
    // What was said to be on the medium is there: no write failed, and none is asked for twice.
    let status = worker
        .ask("for i in $(seq 120); do [ -s /tmp/waited ] && break; sleep 1; done; cat /tmp/waited; sync -f /storage");
    assert_eq!(status, "0\n", "{}", worker.ask("sudo journalctl -k -b --no-pager | tail -n 80"));
    let files = worker.ask("cat /storage/file /storage/waited; findmnt -no OPTIONS /storage");
    assert!(files.starts_with("one\ntwo\n") && files.contains("rw"), "{files}");
    broken_again_and_again(&worker);
    for node in [&storage, &worker] {
        let seen =
            node.ask(&format!("sudo journalctl -b --no-pager | grep -c -e {PASSWORD} -e {MUTUAL} || true"));
        assert_eq!(seen.trim(), "0", "a password is in the journal");
    }

    // What only root may fill as well, to the last byte.
    worker.ask(
        "sudo sh -c 'fallocate -l $(df --output=avail -B1 /var | tail -n 1) /var/fill; cat /dev/zero > /var/more; true' 2> /dev/null; \
         ! sudo sh -c 'echo x > /var/one' 2> /dev/null",
    );
    worker.power_off(&mut working);
    let mut working = worker.machine.start().unwrap();
    expect(&mut working, "/var is full: /dev/vda5 has 0 B of");
    expect(&mut working, "iSCSI LUN data: mounted on /storage");
    full_var_is_said(&report(&mut working));
    assert!(!working.console().contains("was blank"), "{}", working.console());
    let files = worker.ask("cat /storage/file /storage/waited /storage/flapped");
    assert_eq!(
        files,
        "one\ntwo\nthree\n",
        "{}",
        worker.ask("sudo journalctl -k -b -1 --no-pager | tail -n 80")
    );
    assert_eq!(digest(), foreign);
    assert_eq!(content(&namesake, &[]), before, "a disk that no rule takes was written to");
    own_file_counts(&worker, &mut working);
}

/// A node whose /var was filled to the last byte runs all that it ran before, and says first of all what is wrong.
fn full_var_is_said(report: &Value) {
    assert_eq!(report["failed_units"], serde_json::json!(["kiln-disks.service"]), "{report:#}");
    let first = report["reasons"][0].as_str().unwrap();
    assert!(
        first.starts_with("/var is full: /dev/vda5 has 0 B of ") && first.contains(" inodes left"),
        "{first}"
    );
}

/// The seed has no passwords: those of the node's own file are used, a wrong one is refused, and without the file it is said
/// what to do, on a node that runs.
fn own_file_counts(worker: &Node, working: &mut Running) {
    let file = "/var/lib/kiln/chap.json";
    let again = |change: &str| {
        worker.ask(&format!(
            "sudo sh -ec 'systemctl stop storage.mount kiln-luns.service; iscsiadm -m node --logout || true; {change}; systemctl start kiln-luns.service' >/dev/null 2>&1"
        ));
    };
    let passwords = format!("sudo cat /run/kiln/handoff.json {file} | grep -c -e {PASSWORD} -e {MUTUAL}");
    assert_eq!(worker.ask(&passwords), "1\n", "the document in /run has passwords");
    again(&format!("cp -p {file} {file}.mine; sed -i s/{PASSWORD}/kiln-test-chap-0/g {file}"));
    expect(working, "iSCSI LUN data: the target refused the name or password (CHAP)");
    again(&format!("rm {file}"));
    expect(
        working,
        "iSCSI LUN data: the CHAP names and passwords were moved from the seed to /var/lib/kiln/chap.json, and there is no such file: write the node's seed to its disk again",
    );
    again(&format!("mv {file}.mine {file}"));
    expect(working, "iSCSI LUN data: mounted on /storage");
}

/// A connection that breaks eight times with the same write under way: the kernel's own patience ends with the sixth. What
/// leaves the node is held back for long enough that the write does not arrive before.
fn broken_again_and_again(worker: &Node) {
    let status = worker.ask(
        "card=$(ip -o route get 10.9.0.1 | sed 's/.* dev \\([^ ]*\\).*/\\1/'); sudo tc qdisc add dev $card root netem delay 700ms; \
         state() { cat /sys/class/iscsi_session/*/state; }; \
         until_state() { for i in $(seq 1200); do [ \"$(state)\" = $1 ] && return; sleep 0.1; done; exit 1; }; \
         (echo three | sudo tee /storage/flapped && sync -f /storage; echo $? > /tmp/flapped) > /dev/null 2>&1 & \
         for i in 1 2 3 4 5 6 7 8; do \
             until_state LOGGED_IN; sleep 0.4; sudo ss -K dport = 3260 > /dev/null; until_state FAILED; \
         done; \
         sudo tc qdisc del dev $card root; \
         for i in $(seq 240); do [ -s /tmp/flapped ] && break; sleep 1; done; cat /tmp/flapped",
    );
    assert_eq!(status, "0\n", "{}", worker.ask("sudo journalctl -k -b --no-pager | tail -n 80"));
}

/// A file as a LUN, for an initiator that is no node: all of it is there when the node reports.
#[test]
fn a_file_is_served() {
    let (lab, folder) = (lab(), folder());
    let (one, _) = Link::pair(CARDS[2], CARDS[0]).unwrap();
    let files = lab.node("files", folder.path(), one);
    let mut serving = files.machine.start().unwrap();
    healthy(&mut serving);
    let size = files.ask("sudo stat -c '%s %a' /srv/luns/guest.img");
    assert_eq!(size.trim(), format!("{} 600", 1 << 30));
    let top = "/sys/kernel/config/target/iscsi/iqn.*/tpgt_1";
    let shown = files.ask(&format!(
        "sudo sh -c 'cat {top}/enable {top}/acls/{GUEST}/auth/userid {top}/acls/{GUEST}/attrib/authentication; \
         ls -d {top}/lun/lun_7 {top}/acls/{GUEST}/lun_7; ls {top}/np'; ss -ltn | grep -c :3260"
    ));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!((lines[0], lines[1], lines[2]), ("1", "guest", "1"), "{shown}");
    assert_eq!((lines.len(), lines[5], lines[6]), (7, "0.0.0.0:3260", "1"), "{shown}");
}
