//! What is told of files with secrets, and to whom.

use crate::verbs::site;
use kiln_tests::{build, kiln, root_or_skip, said, shared, succeed, tool};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const HASH: &str = "$6$rounds=5000$salt$0123456789012345678901234567890123456789012345678901234567890123456789012345678901234";

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Every plain digest of a file that others may not read, or of what is in it, that others can read.
fn told(dist: &Path) -> Vec<String> {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o077;
    let (open, private): (Vec<_>, Vec<_>) = files(dist).into_iter().partition(|path| mode(path) != 0);
    let documents: Vec<String> = open
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert!(documents.len() >= 3, "{open:?}");
    let sums = private.iter().map(|path| succeed(tool("sha256sum", "coreutils").arg(path)));
    sums.filter(|sum| documents.iter().any(|document| document.contains(&sum[..64]))).collect()
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("dist/manifest.json")).unwrap()).unwrap()
}

/// `kiln` with a place for the identity that opens the cluster's secrets.
fn keyed(folder: &Path) -> Command {
    let mut command = kiln();
    command.env("XDG_CONFIG_HOME", folder.join("config")).current_dir(folder);
    command
}

#[test]
fn no_plain_digest_of_a_secret_is_told() {
    let folder = site("private");
    let file = folder.join("cluster.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let (before, after) = text.split_once("    ssh_keys:").expect("the example has users");
    fs::write(&file, format!("{before}    password_hash: \"{HASH}\"\n    ssh_keys:{after}")).unwrap();
    let dist = folder.join("dist");
    build(&folder, ["-q", "--format", "raw,zst", "k3s1"]);
    build(&folder, ["-q", "k3s2"]);
    assert_eq!(told(&dist), [""; 0]);
    // Without secrets of its own a cluster has no key.
    let files = manifest(&folder)["files"].clone();
    for name in ["disk.img", "disk.img.zst", "seed/user-data"] {
        let file = &files[format!("k3s1/{name}")];
        assert!(
            file["size"].is_u64() && file["sha256"].is_null() && file["keyed"].is_null(),
            "{name}: {file}"
        );
    }
    assert!(files["k3s1/seed/meta-data"]["sha256"].is_string());
    let image: Value = serde_json::from_slice(&fs::read(dist.join("k3s1/image.json")).unwrap()).unwrap();
    assert!(image["inputs"]["user-data"].is_null() && image["inputs"]["meta-data"].is_string(), "{image}");
    assert!(image["disk"]["sha256"].is_null(), "{image}");
    build(&folder, ["-q"]);
    let plan: Value =
        serde_json::from_str(&succeed(kiln().args(["plan", "--json"]).current_dir(&folder))).unwrap();
    assert_eq!(plan["nodes"][0]["action"], "keep");
    assert!(plan["nodes"][0]["inputs"]["user-data"].is_null(), "{plan}");

    succeed(keyed(&folder).args(["secrets", "init"]));
    succeed(keyed(&folder).args(["build", "-q"]));
    assert_eq!(told(&dist), [""; 0]);
    let first = manifest(&folder);
    let files = &first["files"];
    let of = |node: &str, name: &str| files[format!("{node}/{name}")]["keyed"].as_str().unwrap().to_owned();
    assert_eq!(of("k3s1", "disk.img").len(), 64);
    assert_ne!(of("k3s1", "disk.img"), of("k3s2", "disk.img"));
    // Equal files have equal digests, wherever they are built.
    succeed(keyed(&folder).args(["build", "-q", "-o", "other"]));
    let other: Value =
        serde_json::from_slice(&fs::read(folder.join("other/manifest.json")).unwrap()).unwrap();
    assert_eq!(other["files"], first["files"]);

    // A manifest of an earlier version tells more, which ends with the next build of any node.
    let mut old = first.clone();
    old["version"] = 1.into();
    let digest = "0".repeat(64);
    for (name, file) in old["files"].as_object_mut().unwrap() {
        assert!(name.contains('/'));
        file["sha256"] = digest.clone().into();
        file.as_object_mut().unwrap().remove("keyed");
    }
    fs::write(dist.join("manifest.json"), old.to_string()).unwrap();
    fs::remove_file(dist.join("k3s1/disk.img")).unwrap();
    succeed(keyed(&folder).args(["build", "-q", "k3s1"]));
    let mended = manifest(&folder);
    assert_eq!(mended["files"]["k3s1/disk.img"], first["files"]["k3s1/disk.img"]);
    assert!(mended["files"]["k3s2/disk.img"]["sha256"].is_null(), "{mended}");
    assert_eq!(mended["files"]["k3s2/seed/meta-data"]["sha256"], digest.as_str());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_system_without_modes_is_warned_about() {
    if !root_or_skip("a file system without modes: a loop device") {
        return;
    }
    let folder = site("modes");
    let file = folder.join("cluster.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let private = text.replacen("    ssh_keys:", &format!("    password_hash: \"{HASH}\"\n    ssh_keys:"), 1);
    // NTFS in user space, which any kernel can mount.
    let (disk, stick) = (shared().join("modes.ntfs"), folder.join("stick"));
    fs::File::create(&disk).unwrap().set_len(64 << 20).unwrap();
    succeed(tool("mkfs.ntfs", "ntfs-3g").args(["--quick", "--force", "--quiet"]).arg(&disk));
    fs::create_dir(&stick).unwrap();
    let words = "warning: stick is on a file system that keeps no modes of files: whoever can read the folder can read the secrets";
    for (options, text, warned) in [
        ("umask=022", &private, true),
        // Nobody else gets at it, or there is nothing to see.
        ("umask=077", &private, false),
        ("umask=022", &text, false),
    ] {
        fs::write(&file, text).unwrap();
        succeed(tool("ntfs-3g", "ntfs-3g").args(["-o", options]).arg(&disk).arg(&stick));
        let output = kiln().args(["seed", "-o", "stick"]).current_dir(&folder).output();
        succeed(tool("umount", "mount").arg(&stick));
        let output = output.unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(said(&output).contains(words), warned, "{options}: {}", said(&output));
    }
    fs::remove_file(disk).unwrap();
    fs::remove_dir_all(folder).unwrap();
}
