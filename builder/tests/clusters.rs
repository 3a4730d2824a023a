//! Ten kinds of clusters that people have (`tests/clusters`): checked, seeded for both kinds of images, and judged by the programs
//! that read the seeds: trixie's cloud-init, netplan, systemd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod judges;
mod seeds;

use judges::{cloud_init, written};
use kiln::cluster::{self, Architecture, Cluster};
use kiln::diag::Severity;
use seeds::{always, kiln, stock};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `kiln check` has to say beside that all is well.
const NOTES: [(&str, usize); 1] = [("boards-and-gpu", 2)];
/// A secret that some program takes for something else, and that is long enough for Wi-Fi.
const SECRET: &str = "it's \"top\" # $secret: {{ x }}";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("tests/clusters")
}

fn all() -> Vec<(String, Cluster)> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let loaded = match cluster::load(&path) {
            Ok(loaded) => loaded,
            Err(cluster::Error::Faults(report)) => panic!("{}", report.render(&kiln::diag::Style::default())),
            Err(error) => panic!("{error}"),
        };
        let notes = NOTES.iter().find(|(noted, _)| *noted == name).map_or(0, |(_, count)| *count);
        let report = &loaded.warnings;
        let said = report.render(&kiln::diag::Style::default());
        assert_eq!((report.count(Severity::Warning), report.faults().len()), (0, notes), "{name}:\n{said}");
        (name, loaded.cluster)
    };
    paths.into_iter().map(read).collect()
}

/// Files that a seed writes: path and text.
fn files(user_data: &str) -> Vec<(String, String)> {
    let document: serde_json::Value = serde_saphyr::from_str(user_data).expect("YAML");
    let files = document["write_files"].as_array().cloned().unwrap_or_default();
    let word = |file: &serde_json::Value, key: &str| file[key].as_str().expect("text").to_owned();
    files.iter().map(|file| (word(file, "path"), word(file, "content"))).collect()
}

/// cloud-init's schemas take the documents of every node.
#[test]
fn cloud_init_takes_them() {
    let clusters = all();
    assert_eq!(clusters.len(), 10);
    let room = tempfile::tempdir().unwrap();
    let vault = always(SECRET);
    let mut paths = Vec::new();
    for (name, cluster) in &clusters {
        for node in &cluster.nodes {
            let mut forms = vec![("kiln", kiln(cluster, &node.name, &vault))];
            if node.architecture == Architecture::Amd64 {
                forms.push(("stock", stock(cluster, &node.name, &vault)));
            }
            for (form, seed) in forms {
                let named = |document: &str| format!("{name}-{}-{form}-{document}", node.name);
                paths.push(written(room.path(), &named("user-data"), &seed.user_data));
                paths.push(written(room.path(), &named("network-config"), &seed.network_config));
            }
        }
    }
    let Some(judge) = cloud_init() else { return };
    assert_eq!(judge.read(&paths).len(), paths.len());
}

/// netplan makes something of the network of every node on a stock image.
#[test]
fn netplan_takes_them() {
    let found = ["/usr/sbin/netplan", "/usr/bin/netplan"].into_iter().find(|path| Path::new(path).exists());
    let Some(netplan) = found else {
        assert!(std::env::var("KILN_JUDGES").is_err(), "netplan is missing: apt-get install netplan.io");
        eprintln!("SKIPPED: no netplan (Debian package netplan.io)");
        return;
    };
    let vault = always(SECRET);
    for (name, cluster) in all() {
        for node in cluster.nodes.iter().filter(|node| node.architecture == Architecture::Amd64) {
            let config = stock(&cluster, &node.name, &vault).network_config;
            let root = tempfile::tempdir().unwrap();
            let place = root.path().join("etc/netplan");
            std::fs::create_dir_all(&place).unwrap();
            let indented: String = config.lines().map(|line| format!("  {line}\n")).collect();
            written(&place, "50-cloud-init.yaml", &format!("network:\n{indented}"));
            let output =
                Command::new(netplan).args(["generate", "--root-dir"]).arg(root.path()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{name}/{}: {said}\n{config}", node.name);
            let made = root.path().join("run/systemd/network");
            assert!(
                std::fs::read_dir(&made).is_ok_and(|mut all| all.next().is_some()),
                "{name}/{}",
                node.name
            );
        }
    }
}

/// systemd takes the units that seeds write, each in a root with what it stands beside.
#[test]
fn systemd_takes_them() {
    let asked = Command::new("systemd-analyze").arg("--version").output();
    if asked.is_err() {
        assert!(std::env::var("KILN_JUDGES").is_err(), "systemd-analyze is missing: apt-get install systemd");
        eprintln!("SKIPPED: no systemd-analyze (Debian package systemd)");
        return;
    }
    let vault = always(SECRET);
    let mut seen = 0;
    for (name, cluster) in all() {
        for node in &cluster.nodes {
            let root = tempfile::tempdir().unwrap();
            let units = root.path().join("etc/systemd/system");
            std::fs::create_dir_all(&units).unwrap();
            let mut verified = BTreeSet::new();
            for (path, text) in files(&kiln(&cluster, &node.name, &vault).user_data) {
                let Some(unit) = path.strip_prefix("/etc/systemd/system/") else { continue };
                let (owner, drop_in) =
                    unit.split_once(".d/").map_or((unit, false), |(owner, _)| (owner, true));
                let place = units.join(unit);
                std::fs::create_dir_all(place.parent().unwrap()).unwrap();
                std::fs::write(&place, text).unwrap();
                // Whose drop-in it is comes with a package.
                if drop_in && !units.join(owner).exists() {
                    written(&units, owner, "[Service]\nType=oneshot\nExecStart=/bin/true\n");
                }
                verified.insert(owner.to_owned());
            }
            if verified.is_empty() {
                continue;
            }
            for target in [
                "basic",
                "sysinit",
                "shutdown",
                "umount",
                "network-online",
                "remote-fs",
                "remote-fs-pre",
                "local-fs",
                "local-fs-pre",
            ] {
                written(&units, &format!("{target}.target"), "[Unit]\nDescription=stand-in\n");
            }
            std::fs::create_dir_all(root.path().join("bin")).unwrap();
            let program = written(&root.path().join("bin"), "true", "");
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            let mut command = Command::new("systemd-analyze");
            command.arg("verify").arg("--man=no").arg("--root").arg(root.path()).args(&verified);
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // A place for what is mounted has no unit in this root.
            let said: Vec<&str> =
                said.lines().filter(|line| !line.contains("-.mount") && !line.contains(".slice")).collect();
            assert!(said.is_empty() && output.status.success(), "{name}/{}: {said:?}", node.name);
            seen += verified.len();
        }
    }
    assert!(seen >= 2, "{seen} units only");
}
