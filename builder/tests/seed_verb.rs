//! `kiln seed`: the files that it leaves behind, before other people's readers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

const CLUSTER: &str = "apiVersion: kiln/v1\ncluster: {name: verb}\nusers: [{name: ops, password_hash: $y$j9T$abc$def}]\n\
    nodes:\n- {name: one}\n- {name: two, network: {interfaces: {wlan0: {dhcp: true, wifi: {ssid: home, password: {file: ./wifi}}}}}}\n";

fn kiln(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.args(arguments).current_dir(folder).env_clear().output().expect("kiln ran")
}

fn seeded(arguments: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cluster.yaml"), CLUSTER).unwrap();
    fs::write(folder.path().join("wifi"), "top-secret\n").unwrap();
    let output = kiln(folder.path(), &[&["seed"], arguments].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("top-secret") && !String::from_utf8_lossy(&output.stdout).contains("top-secret"));
    folder
}

/// The standard output of somebody else's tool.
fn tool(name: &str, package: &str, arguments: &[&str]) -> Vec<u8> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(name).args(arguments).env("PATH", path).output();
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}: apt-get install {package}"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn volumes_hold_what_the_folder_holds() {
    for target in ["kiln", "stock"] {
        let folder = seeded(&["--for", target, "-o", "out"]);
        for node in ["one", "two"] {
            let seed = folder.path().join("out").join(node).join("seed");
            let (img, iso) = (seed.join("cidata.img"), seed.join("cidata.iso"));
            let (img, iso) = (img.to_str().unwrap(), iso.to_str().unwrap());
            for (path, kind) in [(img, "vfat"), (iso, "iso9660")] {
                let said =
                    String::from_utf8(tool("blkid", "util-linux", &["-p", "-o", "export", path])).unwrap();
                for line in ["LABEL=CIDATA".to_owned(), format!("TYPE={kind}")] {
                    assert!(said.lines().any(|other| other == line), "no {line} in\n{said}");
                }
            }
            tool("fsck.vfat", "dosfstools", &["-n", img]);
            let mut names = vec!["meta-data", "user-data", "network-config"];
            if target == "stock" {
                names.push("kiln/kiln-firstboot");
            }
            for name in names {
                let bytes = fs::read(seed.join(name)).unwrap();
                assert!(
                    tool("mtype", "mtools", &["-i", img, &format!("::{name}")]) == bytes,
                    "{name} in {img}"
                );
                let path = format!("/{name}");
                assert!(
                    tool("isoinfo", "genisoimage", &["-J", "-i", iso, "-x", &path]) == bytes,
                    "{name} in {iso}"
                );
            }
            let handoff = tool("isoinfo", "genisoimage", &["-J", "-i", iso, "-x", "/kiln/handoff.json"]);
            assert_eq!(kiln_contract::handoff::Handoff::parse(&handoff).unwrap().node.name, node);
            let size = fs::metadata(img).unwrap().len();
            assert!(size <= 8 << 20, "{size} bytes");
        }
    }
}

#[test]
fn secrets_are_for_their_owner() {
    for target in ["kiln", "stock"] {
        let folder = seeded(&["--for", target]);
        for node in ["one", "two"] {
            let seed = folder.path().join("dist").join(node).join("seed");
            for name in ["user-data", "cidata.img", "cidata.iso"] {
                assert_eq!(mode(&seed.join(name)), 0o600, "{node} {name}");
            }
            let network = fs::read(seed.join("network-config")).unwrap();
            let secret = network.windows(10).any(|window| window == b"top-secret");
            assert_eq!(secret, node == "two" && target == "stock");
            assert!(!secret || mode(&seed.join("network-config")) == 0o600);
        }
    }
}

/// Once more is the same, and touches nothing; another time is another volume.
#[test]
fn once_more_is_the_same() {
    let folder = seeded(&[]);
    let iso = folder.path().join("dist/one/seed/cidata.iso");
    let look = || (fs::read(&iso).unwrap(), fs::metadata(&iso).unwrap().modified().unwrap());
    let before = look();
    let output = kiln(folder.path(), &["seed", "--json", "one"]);
    assert!(output.status.success());
    assert!(look() == before);
    let files: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let wanted = ["cidata.img", "cidata.iso", "meta-data", "network-config", "user-data", "vendor-data"];
    let names: Vec<String> = files.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, wanted.map(|name| format!("one/seed/{name}")));
    assert_eq!(files["one/seed/cidata.iso"]["size"], before.0.len());
    // A file that others could read is made anew.
    let user_data = folder.path().join("dist/one/seed/user-data");
    fs::set_permissions(&user_data, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(kiln(folder.path(), &["seed", "one"]).status.success());
    assert_eq!(mode(&user_data), 0o600);
}

#[test]
fn what_has_no_seed_is_said() {
    let folder = seeded(&["one"]);
    assert!(!folder.path().join("dist/two").exists());
    fs::write(folder.path().join("wifi"), "short").unwrap();
    let output = kiln(folder.path(), &["seed"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("node two has no seed")
            && said.contains("8 to 63 printable")
            && !said.contains("short\n"),
        "{said}"
    );
    let output = kiln(folder.path(), &["seed", "thre"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("the cluster has no node \"thre\""));
}
