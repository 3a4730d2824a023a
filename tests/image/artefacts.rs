//! Files that an overlay fetches: from a folder, by their digests, into an image.

use kiln_tests::{TOOL_BYTES, disks, kiln, succeed, tool};
use serde_json::Value;
use std::fs;

/// A file of the built root, as debugfs(8) reads it.
fn read(path: &str) -> (String, String) {
    let node = disks().join("dist/one");
    let image: Value = serde_json::from_slice(&fs::read(node.join("image.json")).unwrap()).unwrap();
    let partitions = image["disk"]["partitions"].as_array().unwrap();
    let start = partitions.iter().find(|p| p["name"] == "root-a").unwrap()["start"].as_u64().unwrap();
    let disk = format!("{}?offset={start}", node.join("disk.img").display());
    let debugfs = |request: String| succeed(tool("debugfs", "e2fsprogs").args(["-R", &request, &disk]));
    (debugfs(format!("cat {path}")), debugfs(format!("stat {path}")))
}

#[test]
fn artefacts_are_in_the_image_as_the_folder_has_them() {
    let (bytes, state) = read("/usr/bin/tool");
    assert_eq!(bytes.as_bytes(), TOOL_BYTES);
    assert!(state.contains("Type: regular    Mode:  0755") && state.contains("User:     0"), "{state}");
    let (bytes, state) = read("/usr/share/tool/part");
    assert_eq!(bytes, "a/part");
    assert!(state.contains("Mode:  0644"), "{state}");

    let image = fs::read(disks().join("dist/one/image.json")).unwrap();
    let image: Value = serde_json::from_slice(&image).unwrap();
    let lock: Value = serde_json::from_slice(&fs::read(disks().join("kiln.lock")).unwrap()).unwrap();
    for (at, name) in ["part", "tool"].into_iter().enumerate() {
        assert_eq!(lock["artefacts"][at]["name"], name);
        let listed = image["artefacts"].as_array().unwrap().iter().find(|a| a["name"] == name).unwrap();
        assert_eq!(listed["sha256"], lock["artefacts"][at]["sha256"]);
    }
    let found = succeed(kiln().args(["inspect", "--json"]).arg(disks().join("dist/one/disk.img")));
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["artefacts"], image["artefacts"]);
    let said = succeed(kiln().args(["plan", "--fresh"]).current_dir(disks()));
    assert!(
        said.contains("/usr/bin/tool, the artefact tool from https://files.invalid/v1%2B1/tool"),
        "{said}"
    );
    assert!(said.contains("make; all packages and artefacts are in the cache"), "{said}");
}
