//! A node on which the cluster file's words for its system are in force at the first boot: locale, keyboard, kernel parameters,
//! modules, names, time servers, files and mounts, an NFS server's among them, which the node is itself; and a tunnel.

use crate::cable::{Node, healthy, side_door, write};
use crate::disks::folder;
use crate::nodes::{key_pair, remove_images};
use kiln_qemu::Link;
use kiln_tests::{build, shared};
use std::fs;

const CARD: &str = "52:54:00:6b:77:01";
/// 32 bytes that are nobody's key.
const WIREGUARD: &str = "a2lsbi10ZXN0LXdpcmVndWFyZC1wcml2YXRlLWtleSE=";
const PEER: &str = "a2lsbi10ZXN0LXdpcmVndWFyZC1wdWJsaWMtcGVlciE=";

#[test]
fn the_words_of_a_file_are_in_force() {
    let top = shared().join("words");
    side_door(&top.join("lab"));
    let key = key_pair(&top, "key");
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let cluster = format!(
        "apiVersion: kiln/v1\ncluster:\n  name: words\n  locale: de_DE.UTF-8\n  keyboard: {{layout: de, variant: nodeadkeys}}\n  \
         sysctls: {{vm.max_map_count: 524288}}\n  modules: [nbd]\n  hosts: {{192.0.2.5: [nas, nas.home.arpa]}}\n  ntp: [192.0.2.9]\n  \
         mounts:\n  - {{source: \"10.9.0.1:/var/srv/nas\", mount_point: /mnt/nas, options: [vers=4.2]}}\n  \
         - {{source: tmpfs, mount_point: /mnt/scratch, filesystem: tmpfs, options: [size=16m]}}\n  \
         files: [{{path: /etc/app/app.conf, content: \"a: b\\n\", mode: \"0640\"}}]\n\
         overlays:\n- {{name: nfs-server, exports: [{{path: /var/srv/nas, clients: [{{host: 10.9.0.0/24, options: [rw, no_root_squash]}}]}}]}}\n\
         - {{name: wireguard, private_key: {WIREGUARD}, addresses: [10.99.0.1/24], peers: [{{public_key: \"{PEER}\", allowed_ips: [10.99.0.0/24]}}]}}\n\
         - ./lab\n\
         users: [{{name: ops, ssh_keys: [{key}]}}]\nnodes:\n- name: one\n  network: {{address: 10.9.0.1/24, mac: \"{CARD}\"}}\n",
        key = public.trim(),
    );
    write(&top.join("cluster.yaml"), &cluster);
    build(&top, ["-f", "cluster.yaml", "-o", "dist"]);
    let output = top.join("dist");
    let folder = folder();
    let (end, _other) = Link::pair(CARD, "52:54:00:6b:77:02").unwrap();
    let node = Node::new((&output, "one"), &key, (folder.path(), end));
    let mut running = node.machine.start().unwrap();
    healthy(&mut running);
    let says = |command: &str| node.ask(command).trim().to_owned();

    assert_eq!(says("sudo -i printenv LANG; LC_ALL=de_DE.UTF-8 date -d 2026-03-01 +%B"), "de_DE.UTF-8\nMärz");
    // The keys that a German keyboard has where that of the US has y and the semicolon.
    let keys = says("sudo dumpkeys -C /dev/tty1 | grep -E '^keycode +(21|39) ='");
    assert!(keys.contains("+z") && keys.contains("odiaeresis"), "{keys}");
    assert_eq!(says("cat /proc/sys/vm/max_map_count; lsmod | grep -c '^nbd '"), "524288\n1");
    assert_eq!(says("getent hosts nas | tr -s ' '"), "192.0.2.5 nas nas.home.arpa");
    assert_eq!(says("timedatectl show-timesync -p SystemNTPServers --value"), "192.0.2.9");
    assert_eq!(says("sudo cat /etc/app/app.conf; stat -c %a /etc/app/app.conf"), "a: b\n640");

    // What is written to the mount arrives in the folder that is exported.
    let nas = says(
        "findmnt -no FSTYPE,SOURCE /mnt/nas; echo hello | sudo tee /mnt/nas/word; cat /var/srv/nas/word; \
         systemctl is-active mnt-nas.mount nfs-server.service; systemctl is-enabled mnt-nas.mount; findmnt -no FSTYPE,SIZE /mnt/scratch",
    );
    let lines: Vec<String> =
        nas.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        ["nfs4 10.9.0.1:/var/srv/nas", "hello", "hello", "active", "active", "enabled", "tmpfs 16M"],
        "{nas}"
    );
    // One that is not there says so in words, and stops nothing.
    let gone = says(
        "sudo sed 's,/var/srv/nas,/var/srv/gone,; s,/mnt/nas,/mnt/gone,' /etc/systemd/system/mnt-nas.mount | sudo tee /run/systemd/system/mnt-gone.mount >/dev/null; \
         sudo systemctl daemon-reload; sudo systemctl start mnt-gone.mount || true; \
         systemctl is-failed mnt-gone.mount || true; sudo journalctl -b -o cat -u mnt-gone.mount | grep -i -m 1 'no such file'",
    );
    assert!(gone.starts_with("failed\n"), "{gone}");

    let tunnel = says(
        "sudo wg show wg0 peers; ip -4 -o address show wg0 | grep -o '10.99.0.1/24'; sudo stat -c %a /etc/wireguard/wg0.conf",
    );
    assert_eq!(tunnel, format!("{PEER}\n10.99.0.1/24\n600"));
    drop(running);
    remove_images(&output);
}
