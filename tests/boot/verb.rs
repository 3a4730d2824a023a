//! `kiln boot --check`: its exit status, its words, its report.

use crate::damage::{copy, zero_superblock};
use crate::nodes::{digest, json, kiln_boot, site};
use kiln_tests::said;

#[test]
fn check_ends_with_0_when_the_node_is_healthy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let site = site();
    let output = kiln_boot()
        .args(["k3s1", "--check", "--json", "--disk", "20G", "--disk", "1TiB", "--report"])
        .arg(&path)
        .arg("-o")
        .arg(&site.output)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, json(&path));
    assert_eq!((&printed["node"], &printed["state"]), (&"k3s1".into(), &"running".into()));
    assert_eq!(site.described("k3s1")["disk"]["sha256"], digest(&site.image("k3s1")));
}

#[test]
fn check_ends_with_1_and_the_reason_when_not() {
    let (folder, image) = copy("k3s1");
    zero_superblock(&image);
    let output = kiln_boot().args(["k3s1", "--check", "-o"]).arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("error: node k3s1 did not come up"), "{stderr}");
    assert!(stderr.contains("can't be mounted") && stderr.contains("e2fsck"), "{stderr}");
    assert!(output.stdout.is_empty(), "{}", said(&output));
}

#[test]
fn an_unknown_node_is_told_with_its_neighbours() {
    let output = kiln_boot().args(["k3s3", "-o"]).arg(&site().output).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("has no node k3s3: did you mean k3s1? its nodes are k3s1, k3s2"), "{stderr}");
}
