//! The forms of a seed: networks, the user's own files, stock images, and whatever text people think of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod judges;
mod seeds;

use judges::written;
use kiln::cluster::{self, Cluster, Loaded};
use kiln::render::{Seed, seed};
use proptest::prelude::{Just, Strategy, prop_assert_eq, prop_oneof};
use proptest::strategy::ValueTree as _;
use seeds::{always, kiln, stock};
use std::path::Path;
use std::process::Command;

/// Every form of a network.
const NETWORKS: &str = r#"
apiVersion: kiln/v1
cluster: { name: net }
base: { packages: [firmware-iwlwifi] }
users: [{ name: ops, password_hash: $y$j9T$abc$def }]
nodes:
  - name: cards
    network:
      interfaces:
        lan:
          mac: 52:54:00:00:00:01
          addresses: [192.168.86.71/24, "2001:db8::71/64"]
          gateway: 192.168.86.1
          routes: [{ to: default, via: "fe80::1" }, { to: 10.0.0.0/8, via: 192.168.86.2, metric: 50 }]
          dns: [9.9.9.9, "2620:fe::fe"]
          search: [home.arpa, lan]
          mtu: 9000
        storage: { interface: enp2s0, addresses: [10.9.0.1/24] }
        enp3s0: { dhcp: true }
  - name: bonded
    network:
      interfaces:
        bond0: { bond: { interfaces: [one, two], mode: 802.3ad }, dhcp: true }
        one: { mac: 52:54:00:00:00:02 }
        two: { mac: 52:54:00:00:00:03 }
        bond0.7: { vlan: { link: bond0, id: 7 }, addresses: [10.7.0.2/24], mtu: 1400 }
  - name: bridged
    network:
      interfaces:
        br0: { bridge: { interfaces: [lan] }, addresses: [10.1.0.2/16], gateway: 10.1.0.1 }
        lan: { interface: "enp*" }
  - name: wireless
    network:
      interfaces:
        radio: { interface: wlp2s0, dhcp: true, wifi: { ssid: "Café \"5\"", password: { secret: wifi }, country: DE } }
        guest: { interface: wl-an1, dhcp: true, wifi: { ssid: open } }
"#;

fn load(text: &str) -> Cluster {
    load_in(text, Path::new(""))
}

fn load_in(text: &str, folder: &Path) -> Cluster {
    match cluster::parse(text.as_bytes(), Path::new("cluster.yaml"), folder) {
        Ok(Loaded { cluster, .. }) => cluster,
        Err(error) => panic!("{error}: {error:?}"),
    }
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("seed");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// The files that a seed writes: path, mode, text.
fn files(user_data: &str) -> Vec<(String, String, String)> {
    let document: serde_json::Value = serde_saphyr::from_str(user_data).expect("YAML");
    let files = document["write_files"].as_array().cloned().unwrap_or_default();
    let word = |file: &serde_json::Value, key: &str| file[key].as_str().expect("text").to_owned();
    files.iter().map(|file| (word(file, "path"), word(file, "permissions"), word(file, "content"))).collect()
}

#[test]
fn networks_are_as_agreed() {
    let cluster = load(NETWORKS);
    let vault = always("top \"secret\" # 1");
    for node in &cluster.nodes {
        let own = kiln(&cluster, &node.name, &vault);
        let files = files(&own.user_data)
            .into_iter()
            .filter(|(path, ..)| path.starts_with("/etc/systemd/network/") || path.contains("wpa_"));
        let files: String = files.map(|(path, mode, text)| format!("== {path} {mode}\n{text}")).collect();
        let netplan = stock(&cluster, &node.name, &vault).network_config;
        snapshot(&format!("net-{}", node.name), &format!("{netplan}---\n{}---\n{files}", own.meta_data));
        assert_eq!(own.network_config.lines().skip(1).collect::<Vec<_>>(), ["version: 2", "ethernets: {}"]);
    }
    let wireless = cluster.node("wireless").unwrap();
    assert!(cluster.packages(wireless).contains("wpasupplicant"));
    let cards = cluster.node("cards").unwrap().network.fixed.clone().expect("an address");
    assert_eq!(
        (cards.address.to_string(), cards.gateway.map(|via| via.to_string())),
        ("192.168.86.71/24".into(), Some("192.168.86.1".into()))
    );
}

/// A password is in files that only root reads, and in none that stays.
#[test]
fn wifi_passwords_are_kept() {
    let cluster = load(NETWORKS);
    let vault = always("top-secret");
    let own = kiln(&cluster, "wireless", &vault);
    let holds = files(&own.user_data)
        .into_iter()
        .filter(|(.., text)| text.contains("top-secret"))
        .collect::<Vec<_>>();
    assert!(holds.len() == 1 && holds[0].1 == "0600", "{holds:?}");
    assert!(own.is_private() && !own.network_config.contains("top-secret"));
    assert!(!own.public_user_data.expect("another one").contains("top-secret"));
    let other = stock(&cluster, "wireless", &vault);
    assert!(other.private_network && other.network_config.contains("top-secret"));
    for wrong in ["short", "é with umlauts", &"x".repeat(64), "with\nbreak"] {
        let error = seed(&cluster, cluster.node("wireless").unwrap(), &always(wrong))
            .expect_err("refused")
            .to_string();
        assert!(error.starts_with("the Wi-Fi network \"Café") && !error.contains(wrong), "{error}");
    }
}

/// What netplan makes of a stock image's network-config; nothing where there is no netplan.
fn netplan(config: &str) -> Option<Vec<String>> {
    let netplan = ["/usr/sbin/netplan", "/usr/bin/netplan"].into_iter().find(|path| Path::new(path).exists());
    let Some(netplan) = netplan else {
        assert!(std::env::var("KILN_JUDGES").is_err(), "netplan is missing: apt-get install netplan.io");
        eprintln!("SKIPPED: no netplan (Debian package netplan.io)");
        return None;
    };
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("etc/netplan");
    std::fs::create_dir_all(&folder).unwrap();
    let indented: String = config.lines().map(|line| format!("  {line}\n")).collect();
    written(&folder, "50-cloud-init.yaml", &format!("network:\n{indented}"));
    let output = Command::new(netplan).args(["generate", "--root-dir"]).arg(root.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{config}");
    let mut units = Vec::new();
    for entry in std::fs::read_dir(root.path().join("run/systemd/network")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "network" || ending == "netdev") {
            units.push(std::fs::read_to_string(&path).unwrap());
        }
    }
    Some(units)
}

/// netplan, which reads what a stock image gets, makes of it what a Kiln image gets.
#[test]
fn netplan_takes_every_network() {
    let cluster = load(NETWORKS);
    let vault = always("top-secret");
    for node in &cluster.nodes {
        // Every address, route and name server that it configures stands in our files, and the other way round.
        let Some(theirs) = netplan(&stock(&cluster, &node.name, &vault).network_config) else { return };
        let ours: Vec<String> = files(&kiln(&cluster, &node.name, &vault).user_data)
            .into_iter()
            .filter(|(path, ..)| path.starts_with("/etc/systemd/network/"))
            .map(|(.., text)| text)
            .collect();
        assert_eq!(facts(&ours), facts(&theirs), "{}", node.name);
    }
}

/// The short form, too: a pattern or a hardware address tells the card.
#[test]
fn netplan_takes_the_short_form() {
    let text = "apiVersion: kiln/v1\ncluster: { name: short }\nusers: [{ name: ops, password_hash: $y$j9T$abc$def }]\nnodes:\n\
        - { name: any, network: { address: 192.0.2.1/24, gateway: 192.0.2.254 } }\n\
        - { name: dhcp }\n\
        - { name: pattern, network: { interface: \"en[op]*\", dhcp: true } }\n\
        - { name: named, network: { interface: enp1s0, address: 192.0.2.2/24 } }\n\
        - { name: told, network: { mac: \"52:54:00:00:00:01\", address: 192.0.2.3/24 } }\n";
    let cluster = load(text);
    let vault = always("");
    for (name, wanted, address) in [
        ("any", "Name=e*", "Address=192.0.2.1/24"),
        ("dhcp", "Name=e*", "DHCP=ipv4"),
        ("pattern", "Name=en[op]*", "DHCP=ipv4"),
        ("named", "Name=enp1s0", "Address=192.0.2.2/24"),
        ("told", "MACAddress=52:54:00:00:00:01", "Address=192.0.2.3/24"),
    ] {
        let Some(units) = netplan(&stock(&cluster, name, &vault).network_config) else { return };
        let [unit] = &units[..] else { panic!("{name}: {units:?}") };
        for line in [wanted, address] {
            assert!(unit.lines().any(|have| have.ends_with(line)), "{name}: no {line} in\n{unit}");
        }
    }
}

/// What of units two writers must agree on.
fn facts(units: &[String]) -> Vec<String> {
    const KEYS: [&str; 11] =
        ["Address", "Gateway", "Metric", "DNS", "Domains", "VLAN", "Bond", "Bridge", "Id", "Mode", "Kind"];
    let lines = units.iter().flat_map(|text| text.lines());
    let mut facts: Vec<String> = lines
        .filter(|line| line.split_once('=').is_some_and(|(key, value)| KEYS.contains(&key) && value != "!*"))
        .map(str::to_owned)
        .collect();
    facts.sort();
    facts
}

/// The user's own files.
fn own_files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = "#cloud-config\n# mine\nruncmd:\n  - [sh, -c, 'echo \"hi\"']\nusers:\n  - name: guest\n    lock_passwd: yes\n\
        write_files:\n  - {path: /etc/motd, permissions: '0644', content: \"é: {{ x }} #\\n\"}\n  - path: /etc/data\n    encoding: gzip\n    \
        content: !!binary |\n      H4sIAAAAAAAAA8vIBACsKpPYAgAAAA==\nntp: {enabled: true}\ntimezone: Etc/GMT+1\n";
    written(folder.path(), "all.yaml", config);
    written(
        folder.path(),
        "one.yaml",
        "#cloud-config\nruncmd: [id]\nbootcmd: [date]\nssh: {emit_keys_to_console: true}\n",
    );
    written(folder.path(), "script", "#!/bin/sh\necho 'é' >/run/done\n");
    written(folder.path(), "packages.yaml", "#cloud-config\npackages: [htop]\n");
    written(
        folder.path(),
        "cluster.yaml",
        "apiVersion: kiln/v1\ncluster: {name: own}\nusers: [{name: ops}]\nuser_data: all.yaml\nnodes:\n\
         - {name: one, user_data: ./one.yaml}\n- {name: two}\n- {name: three, user_data: script}\n- {name: four, user_data: packages.yaml}\n",
    );
    folder
}

fn own_cluster() -> Cluster {
    let folder = own_files();
    load_in(&std::fs::read_to_string(folder.path().join("cluster.yaml")).unwrap(), folder.path())
}

#[test]
fn own_files_are_merged() {
    let cluster = own_cluster();
    let vault = always("x");
    for name in ["one", "two", "three"] {
        let seed = kiln(&cluster, name, &vault);
        assert!(seed.is_private());
        snapshot(&format!("own-{name}"), &seed.user_data);
    }
    let error = seed(&cluster, cluster.node("four").unwrap(), &vault).expect_err("refused").to_string();
    assert!(
        error.contains("`packages`: the root of a Kiln image is read-only: name packages in `base.packages`"),
        "{error}"
    );
    assert!(stock(&cluster, "four", &vault).user_data.contains("- htop"));
}

#[test]
fn stock_seeds_are_as_agreed() {
    let cluster = load(STOCK);
    snapshot("stock-agent", &stock(&cluster, "agent", &always("a-secret")).user_data);
}

const STOCK: &str = "apiVersion: kiln/v1\ncluster: {name: stock, k3s: {version: v1.36.2+k3s1}, endpoint: 10.0.0.1}\n\
    base: {packages: [htop], firmware: [firmware-realtek]}\n\
    overlays: [longhorn]\nusers: [{name: ops, password_hash: $y$j9T$abc$def}]\n\
    disks: {data: [{name: data, match: {serial: S1}, use: longhorn}]}\n\
    nodes: [{name: server, role: server, network: {address: 10.0.0.1/24}}, {name: agent, role: agent}]\n";

/// The scripts of a stock seed are ones that a shell takes, and shellcheck where it is there.
#[test]
fn stock_scripts_are_sound() {
    let cluster = load(STOCK);
    let seed = stock(&cluster, "agent", &always("a-secret"));
    let folder = tempfile::tempdir().unwrap();
    let mut scripts = 0;
    for (path, mode, text) in
        files(&seed.user_data).into_iter().filter(|(path, ..)| path.starts_with("/usr/lib/kiln/stock"))
    {
        assert!(mode == "0700" && text.starts_with("#!/bin/sh\n"), "{path} {mode}");
        let script = written(folder.path(), "script", &text);
        let status = Command::new("sh").arg("-n").arg(&script).status().unwrap();
        assert!(status.success(), "{path}");
        scripts += 1;
    }
    assert_eq!(scripts, 2);
}

/// systemd takes the unit of a stock image.
#[test]
fn the_stock_unit_is_sound() {
    let cluster = load(STOCK);
    let seed = stock(&cluster, "agent", &always("a-secret"));
    let (.., unit) =
        files(&seed.user_data).into_iter().find(|(path, ..)| path.ends_with("/kiln-stock.service")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // What it starts is not on this machine.
    let unit = unit.replace("/usr/lib/kiln/stock-boot", "/bin/true");
    let path = written(folder.path(), "kiln-stock.service", &unit);
    let output = match Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output() {
        Ok(output) => output,
        Err(error) => return eprintln!("SKIPPED: systemd-analyze: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let of_unit: Vec<&str> = said.lines().filter(|line| line.contains("kiln-stock.service")).collect();
    assert!(of_unit.is_empty(), "{said}");
}

#[test]
fn cloud_init_takes_every_form() {
    let Some(judge) = judges::cloud_init() else { return };
    let folder = tempfile::tempdir().unwrap();
    let vault = always("top-secret");
    let mut paths = Vec::new();
    let mut add = |name: String, seed: &Seed| {
        let path = written(folder.path(), &format!("{name}-user-data"), &seed.user_data);
        if seed.user_data.starts_with("#cloud-config") {
            let said = judge.run(&["schema", "--config-file", &path.to_string_lossy()]);
            let said = said.unwrap_or_else(|error| panic!("{name}: {error}\n{}", seed.user_data));
            assert!(!said.to_ascii_lowercase().contains("deprecat"), "{name}: {said}");
        }
        paths.push(path);
        paths.push(written(folder.path(), &format!("{name}-network-config"), &seed.network_config));
    };
    for cluster in [load(NETWORKS), load(STOCK), own_cluster()] {
        for node in &cluster.nodes {
            if node.name != "four" {
                add(format!("{}-kiln", node.name), &kiln(&cluster, &node.name, &vault));
            }
            add(format!("{}-stock", node.name), &stock(&cluster, &node.name, &vault));
        }
    }
    let read = judge.read(&paths);
    let merged = paths.iter().position(|path| path.ends_with("two-kiln-user-data")).unwrap();
    // What the user wrote is what PyYAML reads.
    assert_eq!(read[merged]["users"][1]["lock_passwd"], true);
    assert_eq!(read[merged]["runcmd"][0][2], "echo \"hi\"");
    assert_eq!(read[merged]["write_files"][0]["content"], "é: {{ x }} #\n");
    assert_eq!(read[merged]["timezone"], "Etc/GMT+1");
}

/// Text that people think of, and that parsers stumble over.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{1,40}",
        "[a\"'#{}%:\\\\\n\t ~!&*|>-]{1,30}",
        "(\\PC|\n){1,20}",
        Just("{{ secrets }} {% raw %} # \"'\n---\n...\n".to_owned()),
        Just("é😀\u{2028}".repeat(500)),
        Just("x".repeat(4096)),
    ]
}

const SECRET: &str = "apiVersion: kiln/v1\ncluster: {name: p, endpoint: 10.0.0.1}\noverlays: [{name: ./mine, value: {secret: x}}]\n\
    users: [{name: ops, ssh_keys: [KEY]}]\nnodes: [{name: one, network: {interfaces: {wlan0: {dhcp: true, wifi: {ssid: SSID}}}}}]\n";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGV4YW1wbGUga2V5IG9mIGtpbG4sIG5vYm9keSdzIG93 ";

/// A cluster with the user's own overlay, which prints `secret` in every way that there is.
fn around(folder: &Path, (comment, ssid): (&str, &str)) -> Cluster {
    let mine = folder.join("mine/seed/etc");
    std::fs::create_dir_all(&mine).unwrap();
    written(
        &folder.join("mine"),
        "overlay.yaml",
        "settings: {value: {type: secret, required: true}}\nseed:\n- {path: /etc/raw}\n- {path: /etc/it.yaml}\n",
    );
    written(&mine, "raw.j2", "{{ overlay.value | verbatim }}");
    written(&mine, "it.yaml.j2", "value: {{ overlay.value }}\n");
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    load_in(
        &SECRET.replace("KEY", &quoted(&format!("{KEY}{comment}"))).replace("SSID", &quoted(ssid)),
        folder,
    )
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 64, failure_persistence: None, ..Default::default() })]

    /// What is in a secret, in a key's comment and in an SSID comes out of the seeds as it was.
    #[test]
    fn texts_arrive_unchanged(secret in texts(), comment in "[ -~é]{1,30}", ssid in "[ -~]{1,32}") {
        let folder = tempfile::tempdir().unwrap();
        let cluster = around(folder.path(), (&comment, &ssid));
        let vault = always(&secret);
        for seed in [kiln(&cluster, "one", &vault), stock(&cluster, "one", &vault)] {
            let all = files(&seed.user_data);
            let text = |path: &str| all.iter().find(|(other, ..)| other == path).map(|(.., text)| text.clone()).expect("the file");
            // A template's last line ends with a line break.
            let raw = text("/etc/raw");
            prop_assert_eq!(raw.strip_suffix('\n').filter(|_| !secret.ends_with('\n')).unwrap_or(&raw), &secret);
            let inner: serde_json::Value = serde_saphyr::from_str(&text("/etc/it.yaml")).unwrap();
            prop_assert_eq!(inner["value"].as_str(), Some(secret.as_str()));
            let document: serde_json::Value = serde_saphyr::from_str(&seed.user_data).unwrap();
            let key = document["users"][0]["ssh_authorized_keys"][0].as_str().unwrap().to_owned();
            let wanted = format!("{KEY}{}", comment.trim());
            prop_assert_eq!(key, wanted.trim_end());
        }
        let netplan: serde_json::Value = serde_saphyr::from_str(&stock(&cluster, "one", &vault).network_config).unwrap();
        prop_assert_eq!(netplan["wifis"]["wlan0"]["access-points"].as_object().unwrap().keys().next(), Some(&ssid));
    }
}

/// What stands around a comment goes, and blanks within it are its owner's.
#[test]
fn comments_of_keys_keep_their_blanks() {
    let folder = tempfile::tempdir().unwrap();
    for (comment, wanted) in [("!  é", "!  é"), ("  a   b ", "a   b")] {
        let cluster = around(folder.path(), (comment, "x"));
        let user_data = kiln(&cluster, "one", &always("x")).user_data;
        let document: serde_json::Value = serde_saphyr::from_str(&user_data).unwrap();
        assert_eq!(document["users"][0]["ssh_authorized_keys"][0], format!("{KEY}{wanted}"));
    }
}

/// Interfaces as a person may write them: cards, a bond of some of them, VLANs on any, a bridge of some, with addresses of
/// their own.
fn networks() -> impl Strategy<Value = String> {
    let card = (proptest::bool::ANY, 0..3_u8);
    let cards = proptest::collection::vec(card, 5..7);
    (cards, 0..3_usize, 0..3_usize, proptest::collection::btree_set(1..4095_u32, 0..4), proptest::option::of(1280..9001_u32)).prop_map(
        |(cards, bonded, bridged, vlans, mtu)| {
            let mut lines = Vec::new();
            let mut number = 0;
            let mut own = |kind: u8| {
                number += 1;
                let mtu = mtu.map(|mtu| format!(", mtu: {mtu}")).unwrap_or_default();
                match kind {
                    0 => "dhcp: true".to_owned(),
                    1 => format!("addresses: [10.{number}.0.2/16], dns: [10.{number}.0.1]{mtu}"),
                    _ => format!("addresses: [\"fd00:{number}::2/64\", 10.{number}.0.2/16], routes: [{{to: 172.16.{number}.0/24, via: 10.{number}.0.9, metric: {number}}}]{mtu}"),
                }
            };
            for (at, (mac, kind)) in cards.iter().enumerate() {
                let told = if *mac { format!("mac: \"52:54:00:00:01:{at:02x}\"") } else { format!("interface: enp{at}s0") };
                let member = at < bonded || at < bonded + bridged;
                let rest = if member { String::new() } else { format!(", {}", own(*kind)) };
                lines.push(format!("card{at}: {{{told}{rest}}}"));
            }
            let names = |range: std::ops::Range<usize>| range.map(|at| format!("card{at}")).collect::<Vec<_>>().join(", ");
            if bonded > 0 {
                lines.push(format!("bond0: {{bond: {{interfaces: [{}], mode: balance-alb}}, {}}}", names(0..bonded), own(1)));
            }
            if bridged > 0 {
                lines.push(format!("br0: {{bridge: {{interfaces: [{}]}}, {}}}", names(bonded..bonded + bridged), own(2)));
            }
            for (id, on) in vlans.iter().zip(["bond0", "br0", "card5", "card4"]) {
                if lines.iter().any(|line| line.starts_with(&format!("{on}:"))) {
                    lines.push(format!("v{id}: {{vlan: {{link: {on}, id: {id}}}, {}}}", own(0)));
                }
            }
            format!("apiVersion: kiln/v1\ncluster: {{name: n}}\nusers: []\nnodes:\n- name: one\n  network:\n    interfaces:\n      {}\n", lines.join("\n      "))
        },
    )
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Both kinds of images are told the same addresses, routes and servers.
    #[test]
    fn both_renderers_say_the_same(text in networks()) {
        let cluster = load(&text);
        let vault = always("x");
        let units: Vec<String> = files(&kiln(&cluster, "one", &vault).user_data).into_iter().map(|(.., text)| text).collect();
        let of = |key: &str| {
            let key = format!("{key}=");
            let mut found: Vec<String> = units.iter().flat_map(|unit| unit.lines()).filter_map(|line| line.strip_prefix(&key)).map(str::to_owned).collect();
            found.sort();
            found
        };
        let document: serde_json::Value = serde_saphyr::from_str(&stock(&cluster, "one", &vault).network_config).unwrap();
        let links = || document.as_object().unwrap().values().filter_map(serde_json::Value::as_object).flat_map(|kind| kind.values());
        let texts = |list: &serde_json::Value| list.as_array().into_iter().flatten().map(|item| item.as_str().unwrap().to_owned()).collect::<Vec<_>>();
        let mut addresses: Vec<String> = links().flat_map(|link| texts(&link["addresses"])).collect();
        let mut servers: Vec<String> = links().flat_map(|link| texts(&link["nameservers"]["addresses"])).collect();
        let routes = |key: &str| {
            let all = links().flat_map(|link| link["routes"].as_array().cloned().unwrap_or_default());
            let mut all: Vec<String> = all.map(|route| route[key].as_str().unwrap().to_owned()).collect();
            all.sort();
            all
        };
        addresses.sort();
        servers.sort();
        prop_assert_eq!(of("Address"), addresses);
        prop_assert_eq!(of("DNS"), servers);
        prop_assert_eq!((of("Destination"), of("Gateway")), (routes("to"), routes("via")));
        let vlans = document["vlans"].as_object().map_or(0, serde_json::Map::len);
        prop_assert_eq!((of("VLAN").len(), of("Id").len()), (vlans, vlans));
    }
}

/// And so says the YAML reader that cloud-init uses, whose schemas take it all.
#[test]
fn cloud_init_reads_whatever_people_write() {
    let Some(judge) = judges::cloud_init() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut paths = Vec::new();
    let mut secrets = Vec::new();
    for at in 0..48 {
        let mut some = |strategy: proptest::strategy::BoxedStrategy<String>| {
            strategy.new_tree(&mut runner).unwrap().current()
        };
        let (secret, comment, ssid) =
            (some(texts().boxed()), some("[ -~é]{1,30}".boxed()), some("[ -~]{1,32}".boxed()));
        let place = folder.path().join(at.to_string());
        let cluster = around(&place, (&comment, &ssid));
        let vault = always(&secret);
        for (kind, seed) in
            [("kiln", kiln(&cluster, "one", &vault)), ("stock", stock(&cluster, "one", &vault))]
        {
            paths.push(written(&place, &format!("{kind}-user-data"), &seed.user_data));
            secrets.push(Some(secret.clone()));
            paths.push(written(&place, &format!("{kind}-network-config"), &seed.network_config));
            secrets.push(None);
        }
    }
    for (read, secret) in judge.read(&paths).into_iter().zip(secrets) {
        let Some(secret) = secret else { continue };
        let files = read["write_files"].as_array().unwrap();
        let raw = files.iter().find(|file| file["path"] == "/etc/raw").unwrap()["content"].as_str().unwrap();
        assert_eq!(raw.trim_end_matches('\n'), secret.trim_end_matches('\n'));
    }
}
