//! What `kiln check` says of bad files, word for word: `tests/check/<name>.snap`.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use std::path::Path;
use std::process::{Command, Output};

/// An Ed25519 key of text, whose private half nobody has.
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGV4YW1wbGUga2V5IG9mIGtpbG4sIG5vYm9keSdzIG93 example@kiln";
/// The start of every file that is about something else.
const HEAD: &str = "apiVersion: kiln/v1\ncluster: {name: home}\n";
const USER: &str = "users: [{name: anna, password_hash: $6$saltsalt$abcdefgh}]\n";
const NODE: &str = "nodes: [{name: node-1}]\n";

fn kiln(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kiln"))
        .args(args)
        .current_dir(folder)
        .env_clear()
        .output()
        .expect("kiln ran")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The stderr of `kiln check` on a file with these bytes, and its exit status.
fn check(bytes: &[u8]) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("cluster.yaml"), bytes).expect("written");
    let output = kiln(folder.path(), &["check"]);
    (text(&output.stderr), output.status.code())
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("check");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Nodes with these `network` values.
fn networks(values: &[&str]) -> String {
    let node = |(at, value): (usize, &&str)| format!("  - {{name: node-{at}, network: {value}}}\n");
    format!("{HEAD}{USER}nodes:\n{}", values.iter().enumerate().map(node).collect::<String>())
}

/// Nodes with these `network.interfaces` values.
fn interfaces(values: &[&str]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{{interfaces: {{{value}}}}}")).collect();
    networks(&values.iter().map(String::as_str).collect::<Vec<_>>())
}

fn network_cases() -> Vec<(&'static str, String)> {
    vec![
        (
            "interfaces",
            networks(&[
                "{interfaces: {}, address: 10.0.0.1/24, dns: [9.9.9.9], mac: \"52:54:00:00:00:01\"}",
                "{interfaces: {eth0: {}, \"e*\": {dhcp: true}, far-too-long-a-name: {dhcp: true}}}",
                "{interfaces: {a: {dhcp: true, mac: x, interface: y}, b: {mtu: 20, dhcp: true}, c: {adresses: [10.0.0.1/24]}}}",
                "{interfaces: {a: {addresses: [10.0.1.1/24, 10.0.1.1/24], gateway: 10.9.0.1}, b: {dhcp: true, gateway: 10.0.0.1}}}",
                "{interfaces: {a: {addresses: [\"fd00::1/64\"], mtu: 1000}, b: {interface: a, dhcp: true}}}",
            ]),
        ),
        (
            "interfaces-made",
            interfaces(&[
                "b: {bond: {interfaces: []}, dhcp: true}",
                "b: {bond: {interfaces: [one, onee, b, v], mode: fast}, dhcp: true}, one: {addresses: [10.0.2.1/24]}, v: {vlan: {link: one, id: 4095}}",
                "b: {bond: {interfaces: [one]}, dhcp: true, mac: \"52:54:00:00:00:01\"}, c: {bridge: {interfaces: [one, b]}}, one: {}",
                "v: {vlan: {link: one, id: 0}, dhcp: true}, w: {vlan: {link: two, id: 5}}, x: {vlan: {link: two, id: 5}}, two: {}",
                "v: {vlan: {link: two, id: 5}, bridge: {interfaces: [two]}, dhcp: true}, two: {}",
                "v: {vlan: {link: two, id: 5}, dhcp: true}, w: {vlan: {link: v, id: 6}}, two: {}, x: {vlan: {link: two}, bond: {}}",
            ]),
        ),
        (
            "interfaces-routes",
            interfaces(&[
                "a: {addresses: [10.0.3.1/24], gateway: 10.0.3.254}, b: {addresses: [10.0.4.1/24], gateway: 10.0.4.254}",
                "a: {addresses: [10.0.5.1/24], routes: [{to: 10.1.0.0/8, via: 10.0.5.2}, {to: x, via: 10.0.5.2}, {to: 10.0.0.0/8, via: \"fe80::1\"}]}",
                "a: {addresses: [10.0.6.1/24], gateway: 10.0.6.1, routes: [{to: 10.0.0.0/8, via: 10.7.0.1}, {to: default}]}",
                "a: {addresses: [10.0.7.1/24], gateway: 10.0.7.254, routes: [{to: default, via: 10.0.7.253, metric: 9}]}",
            ]),
        ),
        (
            "wifi",
            interfaces(&[
                "wlan0: {dhcp: true, wifi: {ssid: home, password: 12345678}}",
                "wlan0: {dhcp: true, wifi: {ssid: home, password: plain-password, country: de}}",
                "radio: {dhcp: true, mac: \"52:54:00:00:00:07\", wifi: {ssid: \"\"}}",
                "radio: {dhcp: true, interface: \"wl*\", wifi: {ssid: home}}, v: {vlan: {link: radio, id: 5}}, b: {bridge: {interfaces: [radio]}}",
            ]),
        ),
    ]
}

/// Nodes with these `disks` values.
fn disks(values: &[&str]) -> String {
    let node = |(at, value): (usize, &&str)| format!("  - name: node-{at}\n    disks:\n      {value}\n");
    format!(
        "{HEAD}{USER}overlays: [longhorn]\nnodes:\n{}",
        values.iter().enumerate().map(node).collect::<String>()
    )
}

/// A node with these rules for data disks.
fn rules(values: &[&str]) -> String {
    let rules: Vec<String> = values.iter().map(|rule| format!("        - {{{rule}}}\n")).collect();
    disks(&[&format!("data:\n{}", rules.concat())])
}

fn disk_cases() -> Vec<(&'static str, String)> {
    let long = "a-".repeat(12);
    vec![
        (
            "disk-words",
            disks(&[
                "{system: {swap: 4, encrypt: yes}, data: {}, erase: [123]}",
                "data: [{name: a, match: {transport: pcie, rotational: ssd, serail: x}, use: longhron, filesystem: btrfs, encrypt: tpm}]",
                "data: [{}]",
                "{system: {swap: 4MiB}, datas: []}",
                "system: {swap: 4TiB, root: 7}",
            ]),
        ),
        (
            "disk-matches",
            rules(&[
                "name: a, match: {}, use: raw",
                "name: b, match: {model: x}, exclude: [{}], use: raw",
                "name: c, match: {min_size: 600GB, max_size: 400GB}, use: raw",
                "name: d, match: {min_size: 600, max_size: \"600\"}, use: raw",
                "name: e, match: {serial: \"\", model: \" x \", vendor: \"a\\tb\"}, use: raw",
                "name: f, match: {by_id: /dev/disk/by-id/ata-x, path: /dev/sda, wwn: wwn-0x5}, use: raw",
                "name: g, match: {wwn: null}, use: raw",
            ]),
        ),
        (
            "disk-names",
            rules(&[
                "name: Data, match: {serial: a}, use: raw",
                "name: s, match: {serial: b}, count: 3, use: raw",
                "name: s-2, match: {serial: c}, use: raw",
                "name: s, match: {serial: d}, use: raw",
                &format!("name: {long}too-long, match: {{serial: e}}, use: raw"),
                &format!("name: {long}long2, match: {{serial: f}}, count: 10, use: raw"),
                "name: sda, match: {serial: g}, use: lvm",
                "name: sda, match: {serial: h}, count: 0, use: raw",
                "name: t, match: {serial: i}, count: 65, use: raw",
            ]),
        ),
        (
            "disk-keys",
            rules(&[
                "name: a, match: {serial: a}, use: raw, filesystem: xfs, encrypt: auto, tags: [x]",
                "name: b, match: {serial: b}, use: lvm, mount_point: /srv/b, mount_options: [noatime], encrypt: auto",
                "name: c, match: {serial: c}, use: mount, mount_point: /srv/c, tags: [ssd], reserved: 20GiB",
                "name: d, match: {serial: d}, use: mount",
                "name: e, match: {serial: e}, use: longhorn, tags: [\"a b\", -x, ssd, disk.example/fast]",
            ]),
        ),
        (
            "mount-points",
            rules(&[
                "name: a, match: {serial: a}, use: mount, mount_point: srv/a",
                "name: b, match: {serial: b}, use: mount, mount_point: /srv/b/",
                "name: c, match: {serial: c}, use: mount, mount_point: /srv/../etc",
                "name: d, match: {serial: d}, use: mount, mount_point: /",
                "name: e, match: {serial: e}, use: mount, mount_point: /usr/local",
                "name: f, match: {serial: f}, use: mount, mount_point: /var/lib/kiln/x",
                "name: g, match: {serial: g}, use: mount, mount_point: /srv",
                "name: h, match: {serial: h}, use: mount, mount_point: /var/srv/x",
                "name: i, match: {serial: i}, use: mount, mount_point: /srv/a b",
                &format!("name: j, match: {{serial: j}}, use: mount, mount_point: /srv/{}", "-".repeat(70)),
                &format!("name: k, match: {{serial: k}}, use: mount, mount_point: /srv/{}", "k".repeat(196)),
                &format!("name: l, match: {{serial: l}}, use: mount, mount_point: /srv/{}", "l".repeat(195)),
            ]),
        ),
        (
            "mount-points-of-two",
            rules(&[
                "name: a, match: {serial: a}, use: mount, mount_point: /srv/data",
                "name: b, match: {serial: b}, use: mount, mount_point: /srv/data",
                "name: c, match: {serial: c}, use: mount, mount_point: /srv/data/inner",
                "name: d, match: {serial: d}, use: mount, mount_point: /srv/database",
                "name: l, match: {serial: l}, use: longhorn, count: 2",
                "name: e, match: {serial: e}, use: mount, mount_point: /mnt/longhorn/l-2/x",
                "name: f, match: {serial: f}, use: mount, mount_point: /mnt/longhorn/l-1",
            ]),
        ),
        (
            "mount-options",
            rules(&["name: a, match: {serial: a}, use: mount, mount_point: /srv/a, \
                 mount_options: [noatime, \"a,b\", \"a b\", \"\", nofail, x-systemd.automount, ro]"]),
        ),
        (
            "erase",
            disks(&[
                "{data: [{name: a, match: {serial: S1*}, exclude: [{serial: S12}], use: longhorn}], \
                 erase: [S11, S12, S2, S1*, S11, \" S13\", \"\"]}",
                "{data: [{name: a, match: {model: x}, use: raw}], erase: [S11]}",
                &format!(
                    "{{data: [{{name: a, match: {{model: x}}, use: lvm}}], erase: [{}]}}",
                    (0..257).map(|at| format!("S{at}, ")).collect::<String>()
                ),
            ]),
        ),
        (
            "disk-rules",
            disks(&[&format!(
                "data: [{}]",
                (0..65)
                    .map(|at| format!("{{name: d{at}, match: {{serial: s{at}}}, use: raw}}, "))
                    .collect::<String>()
            )]),
        ),
        (
            "disk-warnings",
            rules(&["name: a, match: {model: x}, use: longhorn", "name: b, match: {model: x}, use: raw"])
                .replace("overlays: [longhorn]\n", ""),
        ),
        // Faults of disks that nodes share are told once.
        (
            "disks-of-all",
            format!(
                "{HEAD}{USER}disks: {{data: [{{name: a, match: {{}}, use: raw}}]}}\nnodes: [{{name: a}}, {{name: b}}]\n"
            ),
        ),
        (
            "too-many-disks",
            format!(
                "{HEAD}{USER}disks: {{data: [{{name: a, match: {{model: x}}, count: 64, use: raw}}]}}\nnodes:\n{}",
                (0..257).map(|at| format!("- name: node-{at}\n")).collect::<String>()
            ),
        ),
    ]
}

/// A server with this `iscsi_target`, a user of it with these LUNs, and a node that has neither.
fn iscsi(target: &str, luns: &[&str]) -> String {
    let luns: Vec<String> = luns.iter().map(|lun| format!("      - {lun}\n")).collect();
    let target = if target.is_empty() { String::new() } else { format!("    iscsi_target: {target}\n") };
    format!(
        "{HEAD}{USER}overlays: [iscsi-initiator, iscsi-target]\nnodes:\n\
         \x20 - name: server\n    network: {{address: 10.0.0.1/24}}\n{target}\
         \x20 - name: user\n    network: {{address: 10.0.0.2/24}}\n    iscsi:\n{}\
         \x20 - name: other\n",
        luns.concat()
    )
}

/// The same with thin LUNs on a disk of 170 GB at least.
fn thin_luns(luns: &str, most: &str) -> String {
    let target = format!("{{volume_group: data, thin: true, luns: {luns}}}");
    let rule = format!("{{name: data, match: {{serial: a, min_size: 170GB{most}}}, use: lvm}}");
    iscsi(
        &target,
        &[
            "{name: a, target: server, lun: 0, mount_point: /a}",
            "{name: b, target: server, lun: 1, mount_point: /b}",
        ],
    )
    .replacen("    iscsi_target", &format!("    disks: {{data: [{rule}]}}\n    iscsi_target"), 1)
}

fn iscsi_cases() -> Vec<(&'static str, String)> {
    let served = "{folder: /srv/luns, luns: [{name: user, size: 1GB, initiators: [user]}]}";
    vec![
        (
            "iscsi-words",
            iscsi(
                "{folder: 1, luns: {}, portal: x}",
                &[
                    "{name: a, target: server, mount_point: /a, filesystem: ext3, format: yes, lun: first}",
                    "{}",
                    "{name: b, target: 7, mount_point: [], chap: secret-secret, mount_options: noatime}",
                    "{name: c, target: iqn.2025-01.home:x, portal: 10.0.0.9, mount_point: /c, chap: {user: u}}",
                ],
            ),
        ),
        (
            "iscsi-luns",
            iscsi(
                "",
                &[
                    "{name: A_b, target: iqn.2025-01.Home:x, portal: 10.0.0.9, mount_point: storage}",
                    "{name: a, target: iqn.2025-01.home:x, mount_point: /a}",
                    "{name: a, target: servr, mount_point: /usr/x}",
                    "{name: b, target: server, mount_point: /b}",
                    "{name: c, target: user, mount_point: /a}",
                    "{name: d, target: iqn.2025-01.home:x, portal: \"10.0.0.9:iscsi\", mount_point: /d, lun: 256}",
                    "{name: e, target: iqn.2025-01.home:x, portal: 10.0.0.1, mount_point: /e}",
                    "{name: f, target: iqn.2025-01.home:x, portal: 10.0.0.9, mount_point: /f, mount_options: [noauto, \"a b\"], longhorn: ../x}",
                    "{name: g, target: iqn.2025-01.home:x, portal: 10.0.0.9, mount_point: /g, lun: 3}",
                    "{name: h, target: iqn.2025-01.home:x, portal: 10.0.0.9, mount_point: /h, lun: 3}",
                ],
            ),
        ),
        (
            "iscsi-targets",
            iscsi(
                "{name: server, folder: /etc/luns, volume_group: data, port: 70000, luns: [\
                 {name: one, size: 1GB, initiators: []}, \
                 {name: one, size: 1 giga, initiators: [usr, iqn.x, user, user], lun: 0}, \
                 {name: Two, size: 1MiB, initiators: [user], lun: 300}]}",
                &["{name: a, target: server, mount_point: /a}"],
            ) + "    iscsi_target: {luns: []}\n",
        ),
        (
            "iscsi-group",
            iscsi(
                "{volume_group: data, luns: [{name: user, size: 1GB, initiators: [user]}]}",
                &["{name: a, target: server, mount_point: /a}"],
            ),
        ),
        (
            "iscsi-thin",
            thin_luns(
                "[{name: user, size: 100GB, initiators: [user]}, {name: more, size: 100GB, initiators: [user]}]",
                "",
            ),
        ),
        (
            "iscsi-thin-sizes",
            thin_luns(
                "[{name: user, size: 171GB, initiators: [user]}, {name: more, size: 300GB, initiators: [user]}]",
                ", max_size: 250GB",
            ),
        ),
        (
            "iscsi-thin-files",
            iscsi(
                "{folder: /srv/luns, thin: true, luns: [{name: user, size: 1GB, initiators: [user]}]}",
                &["{name: a, target: server, mount_point: /a}"],
            ),
        ),
        (
            "iscsi-both-sides",
            iscsi(
                "{folder: /srv/luns, luns: [{name: user, size: 1GB, initiators: [user]}, \
                 {name: both, size: 1GB, initiators: [user, other]}, {name: other, size: 1GB, initiators: [other]}]}",
                &[
                    "{name: a, target: server, mount_point: /a}",
                    "{name: b, target: server, lun: 2, mount_point: /b}",
                    "{name: c, target: server, lun: 7, mount_point: /c}",
                    "{name: d, target: server, lun: 1, mount_point: /d}",
                    "{name: e, target: server, lun: 0, mount_point: /e, portal: 10.0.0.2}",
                ],
            ) + "    iscsi: [{name: a, target: server, lun: 1, mount_point: /a}]\n",
        ),
        (
            "iscsi-chap",
            iscsi(
                served,
                &[
                    "{name: a, target: server, mount_point: /a, chap: {user: u, password: NULLNULLNULL}}",
                    "{name: b, target: iqn.2025-01.home:x, portal: x, mount_point: /b, chap: {user: größe, password: short}}",
                    "name: c\n        target: iqn.2025-01.home:x\n        portal: x\n        lun: 1\n        mount_point: /c\n        \
                     chap:\n          user: u\n          password: hunter2hunter2\n          \
                     mutual:\n            user: v\n            password: hunter2hunter2",
                    "{name: d, target: iqn.2025-01.home:x, portal: x, lun: 2, mount_point: /d}",
                ],
            ),
        ),
        (
            "iscsi-warnings",
            iscsi(
                served,
                &[
                    "{name: a, target: iqn.2025-01.home:x, portal: 10.9.9.9, mount_point: /a, chap: {user: u, password: hunter2}}",
                ],
            ),
        ),
        (
            "iscsi-overlays",
            iscsi(served, &["{name: a, target: server, mount_point: /a, longhorn: longhorn}"])
                .replace("overlays: [iscsi-initiator, iscsi-target]\n", ""),
        ),
    ]
}

fn cases() -> Vec<(&'static str, String)> {
    let begin = format!("-----BEGIN OPENSSH {} KEY-----", "PRIVATE");
    let end = format!("-----END OPENSSH {} KEY-----", "PRIVATE");
    vec![
        ("empty", String::new()),
        ("syntax", format!("{HEAD}nodes:\n  - name: \"node-1\n    role: server\n")),
        ("syntax-tab", format!("{HEAD}nodes:\n\t- name: node-1\n")),
        ("not-a-mapping", "- kiln/v1\n".to_owned()),
        ("two-documents", format!("{HEAD}{USER}{NODE}---\nmore: true\n")),
        ("missing-keys", "base: {}\nnodes:\n  - role: agent\n".to_owned()),
        ("api-version", format!("{}{USER}{NODE}", HEAD.replace("kiln/v1", "kiln/v2"))),
        (
            "unknown-keys",
            format!(
                "{HEAD}{USER}clutser: {{}}\nnodes:\n  - name: node-1\n    netwrok: {{}}\n    kubernetes: true\n"
            ),
        ),
        (
            "wrong-types",
            format!(
                "{HEAD}base:\n  packages: htop\n  kernel_arguments: [quiet, [a], 3]\n  mirrors: [{{url: 5}}, 7]\n\
                 users:\n  - name: 0123\n    sudo: yes\nssh: none\n\
                 nodes:\n  - name: true\n    network: dhcp\n    sector_size: big\n  - node-2\n"
            ),
        ),
        (
            "duplicate-key",
            format!("{HEAD}{USER}nodes:\n  - name: node-1\n    role: agent\n    role: server\n"),
        ),
        (
            "host-names",
            format!(
                "{HEAD}{USER}nodes:\n  - name: Node_1\n  - name: -a\n  - name: a.home\n  - name: \"\"\n  - name: größe\n"
            ),
        ),
        (
            "duplicate-node",
            format!("{HEAD}{USER}nodes:\n  - name: node-1\n  - name: node-2\n  - name: node-1\n"),
        ),
        ("duplicate-address", networks(&["{address: 10.0.0.2/24}", "{address: 10.0.0.2/16}"])),
        ("duplicate-mac", networks(&["{mac: 52:54:00:00:00:01}", "{mac: 52-54-00-00-00-01}"])),
        (
            "addresses",
            networks(&[
                "{address: 10.0.0.300/24}",
                "{address: 10.0.0.2/33}",
                "{address: 10.0.0.2}",
                "{address: 10.0.0.0/24}",
                "{address: 10.0.0.255/24}",
                "{address: 127.0.0.1/8}",
                "{address: \"2001:db8::/64\"}",
            ]),
        ),
        (
            "gateways",
            networks(&[
                "{address: 10.0.0.2/24, gateway: 10.0.1.1}",
                "{address: 10.0.0.3/24, gateway: 10.0.0.3}",
                "{address: 10.0.0.4/24, gateway: router}",
                "{address: 10.0.0.5/24, gateway: 10.0.0.255}",
                "{address: 10.0.0.6/31, gateway: 10.0.0.7}",
                "{gateway: 10.0.0.1}",
            ]),
        ),
        (
            "networks",
            networks(&[
                "{dhcp: false}",
                "{dhcp: true, address: 10.0.0.2/24}",
                "{interface: a-very-long-interface}",
                "{mac: 53:54:00:00:00:01}",
                "{mac: 52:54:00:00:00}",
                "{interface: enp1s0, mac: 52:54:00:00:00:01}",
                "{dns: [nine.nine]}",
            ]),
        ),
        (
            "ssh-keys",
            format!(
                "{HEAD}{NODE}users:\n  - name: anna\n    ssh_keys:\n      - {KEY}\n      - {}\n      - {}\n      - hello\n      - {}\n",
                KEY.replace("ed25519", "rsa"),
                &KEY[..60],
                &KEY[..40],
            ),
        ),
        (
            "private-key",
            format!(
                "{HEAD}{NODE}users:\n  - name: anna\n    ssh_keys:\n      - |\n        {begin}\n        \
                 c2VjcmV0c2VjcmV0\n        {end}\n      - \"{begin} c2VjcmV0 {end}\"\n"
            ),
        ),
        (
            "secrets-elsewhere",
            format!(
                "{HEAD}nodes:\n  - name: \"{begin} c2VjcmV0 {end}\"\n    time_zone: |\n      {begin}\n      c2VjcmV0\n      {end}\n\
                 overlays: [AGE-SECRET-KEY-1c2VjcmV0]\nbase: {{packages: [$6$c2VjcmV0$c2VjcmV0]}}\n{}: 1\n",
                "long".repeat(200),
            ),
        ),
        // Nothing of a file may steer the terminal.
        ("control-characters", format!("{HEAD}{USER}{NODE}\u{1b}[31mred: \u{7}\n")),
        (
            "control-characters-escaped",
            format!("{HEAD}{USER}{NODE}\"\\e[31mred\": 1\noverlays: [\"\\e[2J\"]\n"),
        ),
        ("private-key-syntax", format!("{HEAD}{NODE}users: [{{name: anna, ssh_keys: [\"{begin} c2VjcmV0\n")),
        (
            "users",
            format!(
                "{HEAD}{NODE}users:\n  - {{name: Anna}}\n  - {{name: root}}\n  - {{name: bert, shell: zsh, groups: [a b]}}\n  \
                 - {{name: bert}}\n  - {{name: carl, password_hash: hunter2}}\n  - name: dora\n    password_hash:\n      hunter2\n"
            ),
        ),
        ("no-login", format!("{HEAD}users: [{{name: anna}}]\n{NODE}")),
        (
            "time-zones",
            format!(
                "{HEAD}{USER}nodes:\n  - {{name: a, time_zone: Europe/New York}}\n  - {{name: b, time_zone: \"+2\"}}\n"
            ),
        ),
        (
            "packages",
            format!(
                "{HEAD}{USER}{NODE}base:\n  packages: [HTOP, htop=3.1, \"a b\", x]\n  firmware: atuo\n  scripts: {{grub: skp}}\n"
            ),
        ),
        ("root-size-small", format!("{HEAD}{USER}{NODE}base: {{root_size: 12MiB}}\n")),
        ("root-size-unit", format!("{HEAD}{USER}{NODE}base: {{root_size: \"4096\"}}\n")),
        ("root-size-number", format!("{HEAD}{USER}{NODE}base: {{root_size: 4096}}\n")),
        ("sector-size", format!("{HEAD}{USER}nodes: [{{name: node-1, sector_size: 1024}}]\n")),
        (
            "memory",
            format!(
                "{HEAD}{USER}memory: {{zram: 150%}}\nnodes: [{{name: node-1, memory: {{zram: 2, swap: 1GiB}}}}]\n"
            ),
        ),
        (
            "mirrors",
            format!(
                "{HEAD}{USER}{NODE}base:\n  mirrors: [\"ftp://host/debian\", ./debs, {{url: \"https://host/debian\", archive: debian-securty}}]\n  keyring: keys.gpg\n"
            ),
        ),
        (
            "artefacts",
            format!(
                "{HEAD}{USER}{NODE}artefacts: [\"ftp://host/files\", ./files, \"https://me@host/files\", \"https://host/files/\"]\n"
            ),
        ),
        (
            "kernel-arguments",
            format!("{HEAD}{USER}{NODE}base: {{kernel_arguments: [root=/dev/sda, \"a b\", quiet]}}\n"),
        ),
        (
            "overlays",
            format!(
                "{HEAD}{USER}{NODE}overlays: [longhron, k3s, taliscale, ./mine, longhorn, longhorn, {{name: 5}}]\n"
            ),
        ),
        (
            "words",
            format!(
                "{HEAD}{USER}base: {{suite: bookworm, distribution: debain}}\nnodes: [{{name: a, role: srever, architecture: x86_64}}]\n"
            ),
        ),
        ("no-nodes", format!("{HEAD}nodes: []\n")),
        ("nodes-without-value", format!("{HEAD}nodes:\n")),
        (
            "alias-bomb",
            format!(
                "a: &a [x,x,x,x,x,x,x,x,x,x]\n{}",
                (0..12).fold(String::new(), |text, at| {
                    let (from, to) =
                        (if at == 0 { "a".to_owned() } else { format!("b{}", at - 1) }, format!("b{at}"));
                    format!("{text}{to}: &{to} [{}]\n", vec![format!("*{from}"); 9].join(", "))
                })
            ),
        ),
        ("deep", "[".repeat(200)),
    ]
}

/// A cluster of k3s with this under `cluster` and these nodes.
fn k3s(cluster: &str, nodes: &str) -> String {
    format!("apiVersion: kiln/v1\ncluster:\n  name: home\n{cluster}{USER}nodes:\n{nodes}")
}

const RELEASE: &str = "  k3s: { version: v1.33.5+k3s1 }\n";

fn cross_cases() -> Vec<(&'static str, String)> {
    let server = |number: usize| {
        format!(
            "  - {{ name: s{number}, role: server, network: {{ address: 192.168.86.{}/24 }} }}\n",
            70 + number
        )
    };
    let servers = |count: usize| (1..=count).map(server).collect::<String>();
    let agent = "  - { name: a1, role: agent }\n";
    vec![
        (
            "k3s-settings",
            k3s(
                "  k3s:\n    pod_cdr: 10.1.0.0/16\n    service_cidr: 10.43.0.0\n    flannel: vxlam\n    disable: [traefik, 7]\n    \
                 embedded_registry: yes\n    cluster_dns: dns\n    kubelet_arguments: max-pods=50\n    datastore: 12\n",
                &servers(1),
            ),
        ),
        (
            "secrets-in-plain-text",
            k3s(
                "  k3s: { version: v1.33.5+k3s1, datastore: \"mysql://k3s:hunter2@tcp(10.0.0.1)/k3s\" }\n",
                &servers(2),
            ),
        ),
        (
            "secret-references",
            k3s(
                "  k3s: { version: v1.33.5+k3s1, datastore: { secrt: hunter2 } }\n",
                &format!(
                    "{}  - {{ name: s2, role: server, k3s: {{ datastore: {{ sops: a.yaml }} }} }}\n",
                    servers(1)
                ),
            ),
        ),
        (
            "labels-and-taints",
            k3s(
                RELEASE,
                "  - name: s1\n    role: server\n    labels: { -a: b, node-role.kubernetes.io/worker: '', a: b c }\n    \
                 taints: [a=b, a=b:Never, a:NoSchedule]\n",
            ),
        ),
        ("no-server", k3s(RELEASE, agent)),
        ("even-servers", k3s(&format!("{RELEASE}  endpoint: s1.local\n"), &servers(2))),
        ("four-servers", k3s(&format!("{RELEASE}  endpoint: s1.local\n"), &servers(4))),
        ("no-endpoint", k3s(RELEASE, &format!("  - {{ name: s1, role: server }}\n{agent}"))),
        ("endpoint-nobody", k3s(&format!("{RELEASE}  endpoint: 192.168.86.70\n"), &servers(1))),
        ("endpoint-agent", k3s(&format!("{RELEASE}  endpoint: a1\n"), &format!("{}{agent}", servers(1)))),
        (
            "overlapping-ranges",
            k3s(
                "  k3s: { version: v1.33.5+k3s1, pod_cidr: 192.168.0.0/16, service_cidr: 192.168.128.0/17, cluster_dns: 10.43.0.10 }\n",
                &servers(3),
            ),
        ),
        (
            "virtual-address",
            k3s(
                &format!("{RELEASE}  endpoint: 192.168.86.72\n"),
                &format!("{}overlays: [{{ name: kube-vip, vip: 192.168.86.72 }}]\n", servers(3)),
            ),
        ),
        (
            "virtual-address-elsewhere",
            k3s(
                &format!("{RELEASE}  endpoint: 192.168.87.70\n"),
                &format!("{}overlays: [{{ name: kube-vip, vip: 192.168.87.70 }}]\n", servers(3)),
            ),
        ),
        (
            "replicas",
            k3s(
                RELEASE,
                &format!(
                    "{}overlays: [{{ name: longhorn, version: 1.9.2 }}]\ndisks: {{ data: [{{ name: sdf, match: {{ transport: sata }}, use: longhorn }}] }}\n",
                    servers(1)
                ),
            ),
        ),
        (
            "kustomizations",
            k3s(
                RELEASE,
                &format!(
                    "{}overlays:\n  - name: flux\n    repository: {{ url: \"https://git.example.com/a.git\" }}\n    kustomizations:\n      \
                     - {{ name: core, path: ./core, depends_on: [apps] }}\n      \
                     - {{ name: apps, path: ./apps, depends_on: [disks] }}\n      \
                     - {{ name: disks, path: ./storage }}\n      \
                     - {{ name: a, path: ./a, depends_on: [b] }}\n      \
                     - {{ name: b, path: ./b, depends_on: [c] }}\n      \
                     - {{ name: c, path: ./c, depends_on: [a, dsks] }}\n      \
                     - {{ name: a, path: ./d }}\n",
                    servers(1)
                ),
            ),
        ),
        (
            "recipients",
            format!(
                "{HEAD}{USER}{NODE}secrets:\n  recipients: [age1, AGE-SECRET-KEY-1c2VjcmV0, someone, \"{KEY}\"]\n"
            ),
        ),
    ]
}

#[test]
fn every_bad_file_gets_its_words() {
    let all = cases()
        .into_iter()
        .chain(disk_cases())
        .chain(network_cases())
        .chain(iscsi_cases())
        .chain(cross_cases());
    for (name, file) in all {
        let (stderr, status) = check(file.as_bytes());
        let no_errors = matches!(
            name,
            "no-login" | "disk-warnings" | "iscsi-warnings" | "iscsi-thin" | "secrets-in-plain-text"
        );
        assert_eq!(status, Some(i32::from(!no_errors)), "{name}: {stderr}");
        for secret in ["c2VjcmV0", "hunter2", "BEGIN"] {
            assert!(!stderr.contains(secret), "{name} gives a secret away: {stderr}");
        }
        let steers = stderr.chars().any(|c| c.is_control() && c != '\n');
        assert!(!steers, "{name} steers the terminal: {stderr:?}");
        assert!(
            stderr.is_ascii() || file.contains('ö'),
            "{name}: not ASCII without a UTF-8 locale: {stderr}"
        );
        snapshot(name, &stderr);
    }
}

/// The user's own files for cloud-init.
#[test]
fn own_user_data_is_looked_at() {
    let folder = tempfile::tempdir().expect("folder");
    let cases = [
        ("none", "nothing says what this is\n"),
        ("list", "#cloud-config\n- a\n"),
        ("broken", "#cloud-config\na: [hunter2\nb: }\n"),
        ("twice", "#cloud-config\na: 1\na: 2\n"),
        ("jinja", "## template: jinja\n#cloud-config\n"),
        ("mail", "Content-Type: multipart/mixed\n"),
        ("owned", "#cloud-config\nhostname: x\ngrowpart: {mode: auto}\ncloud_final_modules: []\n"),
        ("packages", "#cloud-config\npackages: [htop]\napt: {}\n"),
        ("fine", "#cloud-config\n"),
    ];
    let nodes: String =
        cases.iter().map(|(name, _)| format!("  - {{name: {name}, user_data: ./{name}.yaml}}\n")).collect();
    for (name, text) in cases {
        std::fs::write(folder.path().join(format!("{name}.yaml")), text).expect("written");
    }
    let file = format!("{HEAD}{USER}user_data: missing.yaml\nnodes:\n{nodes}");
    std::fs::write(folder.path().join("cluster.yaml"), file).expect("written");
    let output = kiln(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(!stderr.contains("hunter2"), "{stderr}");
    snapshot("user-data", &stderr);
}

/// A Wi-Fi card most likely needs firmware, and a password in plain text is told.
#[test]
fn wifi_is_warned_about() {
    let folder = tempfile::tempdir().expect("folder");
    let file = interfaces(&["wlan0: {dhcp: true, wifi: {ssid: home, password: hunter22}}"]);
    std::fs::write(folder.path().join("cluster.yaml"), file).expect("written");
    let output = kiln(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0));
    snapshot("wifi-warnings", &text(&output.stderr));
}

/// A file with thousands of faults is answered with the first of them, and at once.
#[test]
fn nobody_reads_ten_thousand_faults() {
    let keys: String = (0..10_000).map(|at| format!("key{at}: 1\n")).collect();
    let (stderr, status) = check(format!("{HEAD}{USER}{NODE}{keys}").as_bytes());
    assert_eq!(status, Some(1));
    assert_eq!(stderr.matches("has no key").count(), 100);
    assert!(stderr.contains("and 9900 more, which `--json` lists\n\nerror: 10000 errors in cluster.yaml"));
}

#[test]
fn bytes_that_are_not_text() {
    let (stderr, status) = check(b"apiVersion: kiln/v1\nname: \xff\xfe\n");
    assert_eq!(status, Some(1));
    snapshot("not-utf-8", &stderr);
}

#[test]
fn an_overlay_of_ones_own() {
    let folder = tempfile::tempdir().expect("folder");
    let file = format!("{HEAD}{USER}{NODE}overlays: [./mine, ./bad, ./none]\n");
    std::fs::write(folder.path().join("cluster.yaml"), file).expect("written");
    for (name, document) in
        [("mine", Some("packages: [tmux]\n")), ("bad", Some("packges: [tmux]\n")), ("none", None)]
    {
        std::fs::create_dir(folder.path().join(name)).expect("made");
        if let Some(document) = document {
            std::fs::write(folder.path().join(name).join("overlay.yaml"), document).expect("written");
        }
    }
    let output = kiln(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    snapshot("own-overlay", &text(&output.stderr));
}

#[test]
fn json_lists_all_faults() {
    let folder = tempfile::tempdir().expect("folder");
    let file = format!("{HEAD}{USER}nodes:\n  - name: Node\n    rol: agent\n    sector_size: 7\n");
    std::fs::write(folder.path().join("cluster.yaml"), file).expect("written");
    let output = kiln(folder.path(), &["check", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let faults: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let codes: Vec<_> =
        faults.as_array().expect("a list").iter().map(|fault| fault["code"].as_str()).collect();
    assert_eq!(codes, [Some("host-name"), Some("unknown-key"), Some("sector-size")]);
    let keys = ["file", "line", "column", "severity", "code", "message", "help"];
    assert!(keys.iter().all(|key| faults[0].get(key).is_some()), "{faults}");
    assert_eq!((&faults[1]["line"], &faults[1]["column"]), (&6.into(), &5.into()));
}

/// What the user asked for is no warning, and not told with `--quiet`.
#[test]
fn a_note_is_no_fault() {
    let folder = tempfile::tempdir().expect("folder");
    let (_, file) = iscsi_cases().into_iter().find(|(name, _)| *name == "iscsi-thin").expect("the case");
    std::fs::write(folder.path().join("cluster.yaml"), file).expect("written");
    let output = kiln(folder.path(), &["check", "--quiet"]);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(
        text(&output.stdout),
        "no fault and 1 note in cluster.yaml: cluster home with server, user, other\n"
    );
    let output = kiln(folder.path(), &["check", "--json"]);
    let faults: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&faults[0]["severity"], &faults[0]["code"]), (&"note".into(), &"iscsi-thin".into()));
}

#[test]
fn a_terminal_that_can_more_gets_more() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("cluster.yaml"), format!("{HEAD}{USER}nodes: []\n")).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.args(["check", "--color", "always"]).current_dir(folder.path());
    let output = command.env_clear().env("LANG", "C.UTF-8").output().expect("kiln ran");
    let stderr = text(&output.stderr);
    assert!(stderr.contains('\u{1b}') && stderr.contains('╭'), "{stderr}");
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let output = kiln(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "error: there is no cluster.yaml here: name the file with `-f`, or let `kiln init` write one\n"
    );
    let output = kiln(folder.path(), &["check", "-f", "other.yaml"]);
    assert_eq!(
        text(&output.stderr),
        "error: cannot read other.yaml\n  because No such file or directory (os error 2)\n"
    );
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 2000, failure_persistence: None, ..Default::default() })]

    /// Any bytes end in a cluster or in faults that can be drawn.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        survive(&bytes);
    }

    /// And so do bytes that are nearly a cluster file.
    #[test]
    fn nearly_right_files_are_survived(
        parts in proptest::collection::vec(proptest::sample::select(PARTS), 0..24),
    ) {
        survive(format!("{HEAD}{}", parts.concat()).as_bytes());
        survive(parts.concat().as_bytes());
    }
}

const PARTS: &[&str] = &[
    "nodes:",
    "\n",
    "  ",
    "- ",
    "name: ",
    "node-1",
    "é😀",
    "\u{2028}",
    "\u{feff}",
    "\t",
    "{",
    "}",
    "[",
    "]",
    ",",
    ": ",
    "&a ",
    "*a",
    "!!str ",
    "!x ",
    "\"",
    "'",
    "|\n",
    ">-\n",
    "# x",
    "---\n",
    "...\n",
    "? ",
    "<<: ",
    "null",
    "~",
    "0x",
    "1e9",
    "users: ",
    "ssh_keys: ",
    "password_hash: x",
    "base: ",
    "root_size: ",
    "99999999999999999999TiB",
    "mirrors: ",
    "artefacts: ",
    "http://",
    "network: ",
    "address: ",
    "10.0.0.1/0",
    "::/128",
    "PRIVATE KEY",
    "-----END",
    "overlays: ",
    "disks: ",
    "data: ",
    "match: {",
    "use: mount",
    "mount_point: /",
    "count: 9",
    "min_size: ",
    "./",
    "\r\n",
    "\0",
];

fn survive(bytes: &[u8]) {
    let Err(kiln::cluster::Error::Faults(report)) =
        kiln::cluster::parse(bytes, Path::new("x.yaml"), Path::new("/nonexistent"))
    else {
        return;
    };
    assert!(report.has_errors());
    let plain = report.render(&kiln::diag::Style::default());
    assert!(plain.contains("x.yaml:"), "no place in {plain}");
    report.render(&kiln::diag::Style { colour: true, unicode: true, width: 40 });
    kiln::diag::json([&report]);
}
