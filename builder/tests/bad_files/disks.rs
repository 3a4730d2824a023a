//! Disks of nodes.

use super::{HEAD, USER};

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

pub(super) fn cases() -> Vec<(&'static str, String)> {
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
            "directories",
            format!(
                "apiVersion: kiln/v1\ncluster:\n  name: home\n  directories: [/data, /data/app, /usr/data, /etc, /srv, /var/lib/x, data, /a/../b, \"/a b\", /c/, /, \
                 /mnt/x, /media, /proc/x, /vmlinuz, /data]\n  files: [{{path: /data/app/words, content: x}}, {{path: /other/words, content: x}}]\n\
                 {USER}overlays: [iscsi-initiator]\nnodes:\n  - name: a\n    directories: [/tank, /srv/media, /pool/x, /nas, /lun/x]\n    \
                 disks: {{data: [{{name: one, match: {{serial: a}}, use: mount, mount_point: /tank}}, {{name: two, match: {{serial: b}}, use: mount, mount_point: /data/two}}, \
                 {{name: three, match: {{serial: c}}, use: mount, mount_point: /pool}}]}}\n    \
                 mounts: [{{source: \"nas:/vol\", mount_point: /nas}}]\n    \
                 iscsi: [{{name: l, target: \"iqn.2025-01.home:l\", portal: 10.0.0.9, lun: 0, mount_point: /lun}}]\n  - {{name: b, directories: /data}}\n  - {{name: c, directories: [/data]}}\n"
            ),
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
