//! LUNs, served and mounted.

use super::{HEAD, USER};

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

pub(super) fn cases() -> Vec<(&'static str, String)> {
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
