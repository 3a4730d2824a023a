//! `lock`, `plan`, `build` and `inspect` as commands: what they say, what they leave behind, what they refuse.

use kiln_tests::{build, example, kiln, root_or_skip, said, shared, succeed, tool};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

/// A folder with the example as a file of its own, and its lock.
pub(crate) fn site(name: &str) -> PathBuf {
    example();
    let folder = shared().join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    fs::copy(kiln_tests::top().join("templates/example/cluster.yaml"), folder.join("cluster.yaml")).unwrap();
    fs::copy(shared().join("example/kiln.lock"), folder.join("kiln.lock")).unwrap();
    folder
}

fn change(folder: &Path, from: &str, to: &str) {
    let path = folder.join("cluster.yaml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from:?} is not in the example any more");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn refused(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_build_keeps_what_did_not_change() {
    let folder = site("changes");
    build(&folder, ["-q"]);
    let stamp = |node: &str| {
        fs::metadata(folder.join("dist").join(node).join("disk.img")).unwrap().modified().unwrap()
    };
    let before = (stamp("k3s1"), stamp("k3s2"));
    let plan = succeed(kiln().arg("plan").current_dir(&folder));
    assert!(plan.contains("node k3s1: keep; the image there is made of the same inputs"), "{plan}");
    build(&folder, ["-q"]);
    assert_eq!(before, (stamp("k3s1"), stamp("k3s2")));

    change(&folder, "192.168.86.72/24", "192.168.86.73/24");
    let plan = succeed(kiln().arg("plan").current_dir(&folder));
    assert!(plan.contains("node k3s1: keep"), "{plan}");
    assert!(plan.contains("node k3s2: build; changed: network-config"), "{plan}");
    build(&folder, ["-q"]);
    assert_eq!(before.0, stamp("k3s1"));
    assert_ne!(before.1, stamp("k3s2"));

    // An image that somebody wrote to is not the one that was built.
    fs::OpenOptions::new()
        .append(true)
        .open(folder.join("dist/k3s1/disk.img"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    build(&folder, ["-q"]);
    assert!(fs::metadata(folder.join("dist/k3s1/disk.img")).unwrap().len() > 1 << 20);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn inspect_reads_from_the_bytes_what_was_built() {
    let image = example().join("k3s2/disk.img");
    let found = succeed(kiln().args(["inspect", "--json"]).arg(&image));
    let found: Value = serde_json::from_str(&found).unwrap();
    let built = crate::formats::image_json(example(), "k3s2");
    assert_eq!(found["node"], "k3s2");
    assert_eq!(found["disk_guid"], built["disk"]["guid"]);
    assert_eq!(found["table_faults"], Value::Array(vec![]));
    let partitions = |value: &Value, key: &str| value[key].as_array().unwrap().clone();
    let pairs = partitions(&found, "partitions").into_iter().zip(partitions(&built["disk"], "partitions"));
    for (found, built) in pairs {
        for key in ["number", "name", "type_guid", "guid", "start", "size"] {
            assert_eq!(found[key], built[key], "{key}");
        }
        assert_eq!(found["filesystem"]["id"], built["filesystem_id"]);
    }
    assert_eq!(found["kernels"][0]["command_line"], built["boot"]["command_line"]);
    assert_eq!(found["kernels"][0]["release"], built["boot"]["kernel_release"]);
    let names = |value: &Value| {
        let packages = value["packages"].as_array().unwrap().iter();
        let mut names: Vec<_> = packages.map(|p| (p["name"].to_string(), p["version"].to_string())).collect();
        names.sort();
        names
    };
    assert_eq!(names(&found), names(&built));

    let text = shared().join("no-image");
    fs::write(&text, "text").unwrap();
    let error = refused(kiln().arg("inspect").arg(&text).output().unwrap());
    assert!(error.contains("no-image is not a disk image that kiln made"), "{error}");
}

#[test]
fn a_node_that_is_not_there_is_refused_with_a_suggestion() {
    let folder = site("unknown-node");
    let error = refused(kiln().args(["build", "k3s3"]).current_dir(&folder).output().unwrap());
    assert_eq!(
        error,
        "error: the cluster has no node \"k3s3\": did you mean `k3s1`? its nodes are k3s1, k3s2\n"
    );
    assert!(!folder.join("dist").exists());
}

#[test]
fn a_changed_request_asks_for_a_new_lock() {
    let folder = site("outdated-lock");
    change(&folder, "packages: [htop]", "packages: [htop, tree]");
    let error = refused(kiln().args(["build"]).current_dir(&folder).output().unwrap());
    assert_eq!(
        error,
        "error: the lock has no package set for node k3s1 (amd64): the cluster file has changed since; run `kiln lock`\n"
    );
}

#[test]
fn a_missing_package_is_named_with_near_ones() {
    let folder = site("missing-package");
    fs::remove_file(folder.join("kiln.lock")).unwrap();
    change(&folder, "packages: [htop]", "packages: [htopp]");
    let error = refused(kiln().args(["lock", "-q"]).current_dir(&folder).output().unwrap());
    let want = "error: nodes k3s1, k3s2: there is no package htopp; near it are htop, topp, in trixie, trixie-updates, trixie-security (amd64)\n";
    assert_eq!(error, want);
    assert!(!folder.join("kiln.lock").exists());
}

/// Every node's fault in one run, each with its node.
#[test]
fn missing_packages_of_two_nodes() {
    let folder = site("missing-packages");
    fs::remove_file(folder.join("kiln.lock")).unwrap();
    change(&folder, "- name: k3s1\n", "- name: k3s1\n    packages: [htopp]\n");
    change(&folder, "- name: k3s2\n", "- name: k3s2\n    packages: [no-such-thing]\n");
    let error = refused(kiln().args(["lock", "-q"]).current_dir(&folder).output().unwrap());
    assert!(error.contains("error: node k3s1: there is no package htopp;"), "{error}");
    assert!(error.contains("error: node k3s2: there is no package no-such-thing"), "{error}");
    assert!(!folder.join("kiln.lock").exists());
}

/// Scripts that nobody knows are told by `kiln lock`, with the node and the way out; the other node is locked and built.
#[test]
fn a_refused_package_stops_its_node_alone() {
    let folder = site("refused-scripts");
    change(&folder, "- name: k3s2\n", "- name: k3s2\n    packages: [nut-client]\n");
    let error = refused(kiln().args(["lock", "-q"]).current_dir(&folder).output().unwrap());
    let begins = "error: `kiln build` will refuse node k3s2\n  because these packages have maintainer scripts that Kiln does not run ";
    assert!(error.starts_with(begins) && error.contains("nut-client (postinst)"), "{error}");
    // What it needs is refused with it, and the advice names all of it.
    let skips = error.split('`').find(|text| text.starts_with("base: ")).unwrap();
    let (_, skips) = skips.split_once("scripts: ").unwrap();
    let skips = skips.strip_suffix(" }").unwrap().to_owned();
    assert!(skips.contains("nut-client: skip"), "{error}");
    build(&folder, ["-q", "k3s1"]);
    assert!(folder.join("dist/k3s1/disk.img").exists());
    change(&folder, "base:\n", &format!("base:\n  scripts: {skips}\n"));
    succeed(kiln().args(["lock", "-q"]).current_dir(&folder));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_output_that_cannot_be_written_is_refused() {
    let folder = site("unwritable");
    fs::write(folder.join("dist"), "a file is in the way").unwrap();
    let error = refused(kiln().args(["build"]).current_dir(&folder).output().unwrap());
    assert!(error.starts_with("error: dist: "), "{error}");
    assert!(error.contains("move it or name another folder with -o"), "{error}");
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    if !root_or_skip("a build onto a full disk") {
        return;
    }
    let folder = site("full");
    let small = folder.join("small");
    fs::create_dir(&small).unwrap();
    succeed(tool("mount", "mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(&small));
    let output = kiln().args(["build", "-o", "small/dist", "k3s1"]).current_dir(&folder).output();
    let left = succeed(tool("find", "findutils").arg(small.join("dist")).args(["-name", "disk.img*"]));
    succeed(tool("umount", "mount").arg(&small));
    let error = refused(output.unwrap());
    assert_eq!(
        error,
        "error: node k3s1 was not built\n  because small/dist/k3s1/disk.img: No space left on device (os error 28): \
         free some space or name another folder with -o; nothing half-written was kept\n"
    );
    assert_eq!(left, "");
}

#[test]
fn a_build_that_is_killed_leaves_no_half_written_image() {
    let folder = site("killed");
    for milliseconds in [30, 100, 300, 600, 900] {
        let _ = fs::remove_dir_all(folder.join("dist"));
        let mut running = kiln().args(["build", "-q"]).current_dir(&folder).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        running.kill().unwrap();
        running.wait().unwrap();
        for node in ["k3s1", "k3s2"] {
            let image = folder.join("dist").join(node).join("disk.img");
            if image.exists() {
                succeed(tool("cmp", "diffutils").arg(&image).arg(example().join(node).join("disk.img")));
            }
        }
    }
    build(&folder, ["-q"]);
    let partial = succeed(tool("find", "findutils").arg(folder.join("dist")).args(["-name", ".kiln-new.*"]));
    assert_eq!(partial, "");
    succeed(
        tool("cmp", "diffutils").arg(folder.join("dist/k3s1/disk.img")).arg(example().join("k3s1/disk.img")),
    );
    fs::remove_dir_all(folder).unwrap();
}
