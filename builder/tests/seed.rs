//! Seeds in cloud-init's eyes.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod judges;

use judges::written;
use kiln::cluster::{self, Cluster, Loaded};
use kiln::render::{Seed, seed};
use std::path::Path;

/// A cluster with everything in it that a seed can say.
const EVERYTHING: &str = r##"
apiVersion: kiln/v1
cluster: { name: every, domain: home.arpa, time_zone: Europe/Berlin }
overlays: [longhorn]
ssh: { password_authentication: true }
users:
  - name: anna
    groups: [adm, video]
    shell: /bin/sh
    password_hash: $6$saltsalt$abcdefghijkl/ABCDEFGHIJKL.0123456789
    ssh_keys:
      - 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGV4YW1wbGUga2V5IG9mIGtpbG4sIG5vYm9keSdzIG93 a: "b" {{ c }} #d {# e é 😀'
  - { name: bert, sudo: false }
nodes:
  - name: dhcp
  - name: fixed
    network: { address: 10.1.0.2/16, gateway: 10.1.0.1, dns: [9.9.9.9, "2620:fe::fe"], search: [home.arpa, lan] }
  - name: mac
    network: { address: "2001:db8::2/64", gateway: "fe80::1", mac: 52-54-00-AB-CD-EF }
  - { name: alone, network: { address: 10.2.0.2/24, interface: enp1s0, dns: [], mtu: 9000, router_advertisements: false } }
  - name: told
    network: { dhcp: false, router_advertisements: true }
    sysctls: { vm.max_map_count: 524288, net.ipv4.ip_forward: "1" }
    modules: [nbd]
    hosts: { 10.0.0.5: [nas, nas.home.arpa], "fd00::5": nas6 }
    ntp: [time.home.arpa]
    mounts:
      - { source: "10.0.0.5:/vol", mount_point: /mnt/my-nas, options: [ro, soft] }
      - { source: "10.0.0.5:/srv", mount_point: /srv/nas, filesystem: nfs4 }
    files:
      - { path: /etc/app/app.conf, content: "a = 1\n" }
      - { path: /etc/app/key, content: { secret: app } }
"##;

fn load(text: &str) -> Cluster {
    match cluster::parse(text.as_bytes(), Path::new("cluster.yaml"), Path::new("")) {
        Ok(Loaded { cluster, .. }) => cluster,
        Err(error) => panic!("{error}: {error:?}"),
    }
}

/// And one that says next to nothing.
const LEAST: &str = "{apiVersion: kiln/v1, cluster: {name: least}, nodes: [{name: node}]}";

fn clusters() -> [Cluster; 4] {
    [load(EVERYTHING), load(cluster::EXAMPLE), load(LEAST), load(K3S)]
}

fn seeds() -> Vec<(String, Seed)> {
    let each = |cluster: Cluster| {
        let nodes = cluster.nodes.clone();
        nodes.into_iter().map(move |node| {
            (format!("{}-{}", cluster.name, node.name), seed(&cluster, &node, &names()).expect("rendered"))
        })
    };
    clusters().into_iter().flat_map(each).collect()
}

/// `cloud-init` with these arguments; `None`, said aloud, when there is none.
fn cloud_init(args: &[&str]) -> Option<Result<String, String>> {
    judges::cloud_init().map(|judge| judge.run(args))
}

/// Secrets that are no secrets: each is its own name.
#[derive(Debug)]
struct Names;

impl kiln::render::Vault for Names {
    fn reveal(&self, secret: &kiln::cluster::settings::Secret) -> Result<String, String> {
        Ok(format!("<{secret:?}>"))
    }
    fn own(&self, name: &str, node: &str) -> Result<Option<String>, String> {
        Ok(Some(format!("<{name} of {node}>")))
    }
    fn public(&self, name: &str, node: &str) -> Result<Option<String>, String> {
        Ok(Some(if name == "made" { "1790000000".to_owned() } else { format!("({name} of {node})\n") }))
    }
    fn digest(&self, _: &[u8]) -> String {
        String::new()
    }
}

/// A cluster of three servers and an agent, with most that k3s can be told.
const K3S: &str = r#"
apiVersion: kiln/v1
cluster:
  name: ha
  endpoint: api.home.arpa
  k3s:
    version: v1.36.2+k3s1
    pod_cidr: 10.1.0.0/16
    tls_san: [api.home.arpa, 192.168.86.70]
    disable: [traefik]
    embedded_registry: true
    kubelet_arguments: [max-pods=50]
    server: { etcd-expose-metrics: true, tls-san: extra.example.org, disable: [servicelb, traefik], etcd-s3-secret-key: { secret: s3 } }
    agent: { node-label: [a=b], kubelet-arg+: image-gc-high-threshold=90, debug: true }
users: [{ name: ops, password_hash: $y$j9T$abc$def }]
nodes:
  - { name: s1, role: server, network: { address: 192.168.86.71/24 }, labels: { example.com/tier: storage } }
  - { name: s2, role: server, network: { address: 192.168.86.72/24 } }
  - { name: s3, role: server, network: { dhcp: true }, k3s: { datastore: { secret: database } } }
  - { name: a1, role: agent, taints: [dedicated=gpu:NoSchedule], k3s: { kubelet_arguments: [] } }
  - { name: outside }
"#;

fn names() -> std::sync::Arc<dyn kiln::render::Vault> {
    std::sync::Arc::new(Names)
}

fn no_vault() -> std::sync::Arc<dyn kiln::render::Vault> {
    std::sync::Arc::new(kiln::render::NoVault)
}

#[test]
fn documents_are_as_agreed() {
    for (name, seed) in seeds() {
        let text = format!("{}---\n{}---\n{}", seed.user_data, seed.meta_data, seed.network_config);
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("seed");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, text));
    }
}

#[test]
fn handoffs_are_what_the_device_reads() {
    let mut seen = std::collections::BTreeSet::new();
    for (name, seed) in seeds() {
        let read = kiln_contract::handoff::Handoff::parse(&seed.handoff.to_bytes()).expect("parsed");
        assert_eq!(read, seed.handoff);
        let parts = read.partitions;
        for id in [parts.esp, parts.cidata, parts.root_a] {
            assert!(seen.insert(id.to_string()), "{name} shares {id}");
        }
        assert!(seen.insert(read.node.machine_id), "{name} shares its machine id");
    }
}

/// What a cluster file says of disks is what the device is told, with every identifier.
#[test]
fn disks_are_handed_over() {
    const DISKS: &str = r"
apiVersion: kiln/v1
cluster: { name: disks }
overlays: [longhorn]
disks:
  system: { swap: 1.5GiB, encrypt: tpm2 }
  data:
    - name: sdf
      match: { model: Samsung SSD 870*, min_size: 400GB, max_size: 600GB, rotational: false, transport: sata }
      exclude: [{ serial: S9* }]
      count: 2
      use: longhorn
      filesystem: xfs
      mount_options: [noatime]
      tags: [ssd]
      reserved: 20GiB
      encrypt: auto
    - { name: stick, match: { transport: usb }, use: mount, mount_point: /storage/stick }
    - { name: ceph, match: { serial: '*' }, use: raw }
  erase: [S123]
nodes:
  - name: a
  - name: b
  - { name: c, disks: { data: [{ name: vg, match: { wwn: '0x5*' }, count: 2, use: lvm }] } }
  - { name: d, disks: {} }
";
    let cluster = load(DISKS);
    let policies: Vec<_> = cluster.nodes.iter().map(|node| kiln::render::policy(&cluster, node)).collect();
    let json = serde_json::to_string_pretty(&policies).expect("JSON");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("seed");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("disks", json));

    let slots = || policies.iter().flat_map(|policy| &policy.data).flat_map(|rule| &rule.slots);
    let mut ids: Vec<_> =
        slots().flat_map(|slot| [slot.partition, slot.filesystem, slot.luks, slot.longhorn]).collect();
    let before = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((before, ids.len()), (40, 40), "no identifier is shared");
    let beginnings: std::collections::BTreeSet<String> =
        slots().map(|slot| slot.longhorn.to_string()[..4].to_owned()).collect();
    assert_eq!(beginnings.len(), slots().count());

    assert_eq!(cluster.mount_roots().into_iter().collect::<Vec<_>>(), ["mnt", "storage"]);
    let needs = |node: &str, packages: &[&str]| {
        let all = cluster.packages(cluster.node(node).expect("the node"));
        packages.iter().all(|package| all.contains(*package))
    };
    assert!(
        needs("a", &["xfsprogs", "cryptsetup-bin", "systemd-cryptsetup", "libtss2-tcti-device0t64"])
            && !needs("a", &["lvm2"])
    );
    assert!(needs("c", &["lvm2"]) && !needs("c", &["xfsprogs"]) && !needs("d", &["lvm2"]));
}

/// The largest words that `kiln check` takes are ones that a device takes.
#[test]
fn a_device_takes_what_check_takes() {
    let slot = "s".repeat(31);
    let place = format!("/srv/{}", "x".repeat(158));
    let rules: String = (0..8)
        .map(|at| {
            format!(
                "{{ name: {}{at}, match: {{ serial: x{at} }}, count: 64, use: mount, mount_point: {place}{at}, \
                 mount_options: [{}] }}, ",
                &slot[..27],
                "o".repeat(255)
            )
        })
        .collect();
    let erase: String = (0..256).map(|at| format!("x{at}, ")).collect();
    let file = format!(
        "{{ apiVersion: kiln/v1, cluster: {{ name: large }}, disks: {{ data: [{rules}], erase: [{erase}] }}, nodes: [{{ name: a }}] }}"
    );
    let cluster = load(&file);
    assert_eq!(cluster.nodes[0].disks.slots().count(), 512);
    let handoff =
        seed(&cluster, &cluster.nodes[0], &no_vault()).expect("a document that the device takes").handoff;
    assert_eq!(handoff.disks.data.len(), 8);
}

/// One that is too large for a device is refused here, not there.
#[test]
fn a_document_that_no_device_takes_is_refused() {
    let rule = |at| {
        format!(
            "{{ name: rule-{at}, match: {{ serial: x{at} }}, count: 64, use: mount, mount_point: /srv/{}{at} }}, ",
            "x".repeat(150)
        )
    };
    let rules: String = (0..64).map(rule).collect();
    let cluster = load(&format!(
        "{{ apiVersion: kiln/v1, cluster: {{ name: large }}, disks: {{ data: [{rules}] }}, nodes: [{{ name: a }}] }}"
    ));
    let error = seed(&cluster, &cluster.nodes[0], &no_vault()).expect_err("too large").to_string();
    assert!(error.starts_with("node a: no device would take its handoff document: "), "{error}");
    assert!(error.contains("more than the 1048576 that one can have"), "{error}");
}

/// A node without `disks` is told of none.
#[test]
fn no_disks_are_none() {
    for cluster in clusters() {
        for node in &cluster.nodes {
            assert_eq!(kiln::render::policy(&cluster, node), Default::default());
        }
    }
}

#[test]
fn cloud_init_takes_every_document() {
    let Some(judge) = judges::cloud_init() else { return };
    let folder = tempfile::tempdir().expect("folder");
    let mut paths = Vec::new();
    for (name, seed) in seeds() {
        let path = written(folder.path(), &format!("{name}-user-data"), &seed.user_data);
        let said = judge.run(&["schema", "--config-file", &path.to_string_lossy()]);
        let said = said.unwrap_or_else(|error| panic!("{name}'s user-data:\n{}\n{error}", seed.user_data));
        assert!(!said.to_ascii_lowercase().contains("deprecat"), "{name}'s user-data: {said}");
        paths.extend([path, written(folder.path(), &format!("{name}-network-config"), &seed.network_config)]);
    }
    assert_eq!(judge.read(&paths).len(), paths.len());
}

/// Of words in a user's own file those are refused that cloud-init's reader can't construct, and no others.
#[test]
fn what_pyyaml_can_construct_is_taken() {
    const SCRIPT: &str = r"
import json, sys, yaml
def reads(text):
    try:
        yaml.safe_load(text)
        return True
    except Exception:
        return False
with open(sys.argv[1]) as file:
    json.dump([reads(text) for text in json.load(file)], sys.stdout)
";
    let Some(judge) = judges::cloud_init() else { return };
    let days = [
        "2025-02-28",
        "2025-02-29",
        "2024-02-29",
        "2025-13-01",
        "0000-01-01",
        "1900-02-29",
        "2025-1-2",
        "2025-04-31",
    ];
    let times = [
        "",
        "T10:00:00Z",
        " 24:00:00",
        "t1:2:3",
        " 10:60:00",
        " 10:00:61",
        "T10:00:00.5+25:00",
        "T10:00:00 -5",
        "T10:00:00+23:59",
        " 10:00",
    ];
    let mut words: Vec<String> =
        days.iter().flat_map(|day| times.map(|time| format!("{day}{time}"))).collect();
    let others = [
        "=",
        "<<",
        "==",
        "<",
        "0x_",
        "0b_",
        "0b1_0",
        "0_",
        "-0x_",
        "+0b__",
        "08",
        "0o7",
        "0x1f",
        "1_000",
        "1:59",
        "1:60",
        "1:2:3.4",
        "1e3",
        "1.5e+3",
        ".5",
        "._",
        "1.__",
        "yes",
        "~",
        "null",
        ".inf",
        "-.INF",
        ".nan",
        "!!int x",
        "!!int 5",
        "!!int 0x_",
        "!!float x",
        "!!float 1.5",
        "!!bool maybe",
        "!!bool yes",
        "!!binary a",
        "!!binary aGk=",
        "!!timestamp x",
        "!!timestamp 2025-01-01",
        "!!str 5",
        "! 5",
        "!x y",
        "!!python/object:os.x y",
        "!!seq [a]",
        "!!map {a: b}",
        "!!seq {a: b}",
        "!x [a]",
        "!!null x",
    ];
    words.extend(others.map(str::to_owned));
    words.push("9".repeat(4300));
    words.push("9".repeat(4301));
    words.push(format!("1{}", ":1".repeat(170)));
    let texts: Vec<String> = words
        .iter()
        .flat_map(|word| [format!("a: {word}\n"), format!("- {word}\n"), format!("? {word}\n: a\n")])
        .collect();
    let folder = tempfile::tempdir().expect("folder");
    let path = written(folder.path(), "words", &serde_json::to_string(&texts).expect("JSON"));
    let reads: Vec<bool> = serde_json::from_str(&judge.script(SCRIPT, &[&path])).expect("JSON");
    let mut wrong = Vec::new();
    for (text, reads) in texts.iter().zip(reads) {
        let taken = cluster::user_data::parse(text).is_ok();
        // Kiln takes less: keys are words.
        let key = text.starts_with('?') && text.contains(['[', '{']);
        if taken != reads && !key {
            wrong.push(format!("{text:.60}: PyYAML reads it: {reads}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A seed that a broken template could have made is refused: the oracle can say no.
#[test]
fn cloud_init_can_refuse() {
    let folder = tempfile::tempdir().expect("folder");
    let path = written(folder.path(), "user-data", "#cloud-config\nusers: 7\n");
    if let Some(result) = cloud_init(&["schema", "--config-file", &path.to_string_lossy()]) {
        assert!(result.is_err());
    }
}

/// What systemd-networkd is told in the end, by cloud-init's own renderer.
#[test]
fn networkd_units() {
    let folder = tempfile::tempdir().expect("folder");
    let expected: &[(&str, &str, &[&str])] = &[
        ("every-dhcp", "e*", &["Name=e*", "DHCP=ipv4"]),
        (
            "every-fixed",
            "e*",
            &[
                "Name=e*",
                "DHCP=no",
                "Address=10.1.0.2/16",
                "Gateway=10.1.0.1",
                "Destination=0.0.0.0/0",
                "DNS=9.9.9.9 2620:fe::fe",
                "Domains=home.arpa lan",
            ],
        ),
        (
            "every-mac",
            "e*",
            &[
                "MACAddress=52:54:00:ab:cd:ef",
                "Name=e*",
                "Address=2001:db8::2/64",
                "Gateway=fe80::1",
                "Destination=::/0",
            ],
        ),
        ("every-alone", "enp1s0", &["Name=enp1s0", "Address=10.2.0.2/24"]),
    ];
    let seeds = seeds();
    for (name, unit, lines) in expected {
        let (_, seed) = seeds.iter().find(|(other, _)| other == name).expect("the seed");
        let path = written(folder.path(), name, &seed.network_config);
        let out = folder.path().join(format!("{name}.d"));
        let (path, out_text) = (path.to_string_lossy(), out.to_string_lossy());
        let arguments = [
            "devel",
            "net-convert",
            "-p",
            &path,
            "-k",
            "yaml",
            "-O",
            "networkd",
            "-D",
            "debian",
            "-d",
            &out_text,
        ];
        let Some(result) = cloud_init(&arguments) else { return };
        result.unwrap_or_else(|error| panic!("{name}:\n{}\n{error}", seed.network_config));
        let unit = out.join(format!("etc/systemd/network/10-cloud-init-{unit}.network"));
        let text = std::fs::read_to_string(&unit).expect("the unit");
        for line in *lines {
            assert!(text.lines().any(|other| other == *line), "{name}: no {line:?} in\n{text}");
        }
    }
}
