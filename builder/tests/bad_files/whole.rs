//! Everything else in a file.

use super::networks::networks;
use super::{HEAD, KEY, NODE, USER};

pub(super) fn cases() -> Vec<(&'static str, String)> {
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
        (
            "groups",
            format!(
                "{HEAD}users:\n  - {{name: anna, groups: [adm, anna], password_hash: $6$saltsalt$abcdefgh}}\n  \
                 - {{name: bert, groups: [carl, anna, dora]}}\n  - {{name: carl}}\n\
                 nodes:\n  - name: a\n  - {{name: b, users: [{{name: dora}}]}}\n  \
                 - {{name: c, users: [{{name: anna, password_hash: $6$saltsalt$abcdefgh}}]}}\n"
            ),
        ),
        (
            "shells",
            format!(
                "{HEAD}users:\n  - {{name: anna, shell: /usr/bin/zsh, password_hash: $6$saltsalt$abcdefgh}}\n  \
                 - {{name: bert, shell: /usr/bin/bsh}}\n  - {{name: carl, shell: /usr/sbin/nologin}}\n\
                 nodes:\n  - name: a\n  - {{name: b, packages: [zsh]}}\n  - {{name: c, users: [{{name: dora, shell: /bin/fish}}]}}\n"
            ),
        ),
        (
            "machine",
            format!(
                "apiVersion: kiln/v1\ncluster:\n  name: home\n  sysctls: {{vm.swappiness: 10, swappiness: 1, a..b: 2, net.x: \"\"}}\n  \
                 modules: [nbd, \"a b\"]\n  hosts: {{10.0.0.05: nas, 10.0.0.6: [a_b, nas]}}\n  ntp: [time.example, 10.0.0.300]\n  \
                 mounts:\n    - {{source: /vol, mount_point: /mnt/nas}}\n    - {{source: \"nas:/vol\", mount_point: /etc/nas}}\n    \
                 - {{source: \"nas:/vol\", mount_point: /mnt/nas, filesystem: nsf}}\n  files:\n    - {{path: /usr/share/a, content: x}}\n    \
                 - {{path: etc/a, content: x}}\n    - {{path: /etc/a}}\n    - {{path: /etc/b, content: x, mode: rw}}\n    - {{path: /etc/b, content: [x]}}\n    \
                 - {{path: /etc/c, source: ./nothing}}\n    - {{path: /etc/d, content: {{secret: d}}, mode: \"0644\"}}\n    - {{path: /etc/e, content: a}}\n    \
                 - {{path: /etc/e, content: b}}\n{USER}{NODE}sysctls: {{}}\n"
            ),
        ),
        (
            "console",
            format!(
                "apiVersion: kiln/v1\ncluster: {{name: home, locale: de_DE.utf8, keyboard: {{layout: ge, variant: nodeadkeys}}}}\n{USER}nodes:\n  \
                 - {{name: a, locale: de, keyboard: de_DE}}\n  - {{name: b, locale: en_US.UTF-88, keyboard: {{layout: us, variant: intlx}}}}\n  \
                 - {{name: c, locale: hi_IN.UTF-8, keyboard: {{layout: \"us,ru\", variant: \",phonetic\", options: \"grp:toggle,ctrl:nocap\"}}}}\n  \
                 - {{name: d, locale: 49, keyboard: {{layout: de, variant: \"nodeadkeys,\"}}}}\n  - {{name: e, keyboard: {{variant: neo}}}}\n  \
                 - {{name: f, keyboard: {{layout: de, model: pc999}}}}\n  - {{name: g, locale: Klingon, keyboard: [de]}}\n  \
                 - {{name: h, locale: C.UTF-8, keyboard: {{layout: de, variant: neo, options: \"\"}}}}\n"
            ),
        ),
        (
            "zones",
            format!(
                "apiVersion: kiln/v1\ncluster: {{name: home, time_zone: Europe/Berln}}\n{USER}nodes:\n  - {{name: a, time_zone: US/Eastern}}\n  \
                 - {{name: b, time_zone: US/Eastern, packages: [tzdata-legacy]}}\n  - {{name: c, time_zone: CET}}\n  - {{name: d, time_zone: Etc/UTC}}\n"
            ),
        ),
        (
            "keys-elsewhere",
            format!(
                "{HEAD}{NODE}users:\n  - {{name: anna, ssh_keys: [github:anna, gh:anna, lp:anna, \"github:a b\", \"github:../x\"]}}\n"
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
            "sector-size-twice",
            format!(
                "{HEAD}{USER}disks: {{system: {{sector_size: 520}}}}\n\
                 nodes: [{{name: node-1, sector_size: 512, disks: {{system: {{sector_size: 4096}}}}}}]\n"
            ),
        ),
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
