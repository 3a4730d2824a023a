//! Every node of every example is built.

use super::{Lab, ceph, flux, pi};
use kiln_tests::{kiln, succeed, tool};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The names of what was fetched into a node's image.
fn artefacts(lab: &Lab, node: &str) -> BTreeSet<String> {
    let described = lab.described(node);
    let listed = described["artefacts"].as_array().unwrap();
    listed.iter().map(|artefact| artefact["name"].as_str().unwrap().to_owned()).collect()
}

/// The images are sound, and say themselves whose they are. Nodes that need the same share one root.
fn is_built(lab: &Lab, roots: usize) {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for node in lab.example.nodes {
        let image = lab.image(node);
        let said = succeed(tool("sgdisk", "gdisk").arg("-v").arg(&image));
        assert!(said.contains("No problems found"), "{node}: {said}");
        let found: Value =
            serde_json::from_str(&succeed(kiln().args(["inspect", "--json"]).arg(&image))).unwrap();
        assert_eq!((&found["node"], &found["cluster"]), (&(*node).into(), &lab.example.name.into()));
        assert_eq!(found["table_faults"], Value::Array(Vec::new()));
        let described = lab.described(node);
        let root = described["disk"]["partitions"].as_array().unwrap().iter().find(|p| p["name"] == "root-a");
        let root = root.unwrap();
        let digest = root["shared_sha256"].as_str().unwrap_or_else(|| panic!("{described:#}"));
        let start = root["start"].as_u64().unwrap();
        if seen.insert(digest.to_owned(), start).is_none() {
            let place = format!("{}?offset={start}", image.display());
            succeed(tool("e2fsck", "e2fsprogs").args(["-fn", &place]));
        }
    }
    assert_eq!(seen.len(), roots, "{seen:#?}");
}

#[test]
fn k3s_flux_is_built() {
    let lab = flux();
    is_built(&lab, 2);
    assert_eq!(
        artefacts(&lab, "k3s1"),
        BTreeSet::from(["k3s", "tailscale", "tailscaled"].map(str::to_owned))
    );
    assert_eq!(artefacts(&lab, "k3s2"), BTreeSet::from(["k3s".to_owned()]));
}

#[test]
fn picluster_is_built() {
    let lab = pi();
    is_built(&lab, 3);
    assert_eq!(artefacts(&lab, "node1"), BTreeSet::from(["minio", "openbao"].map(str::to_owned)));
    for node in ["node2", "node3"] {
        assert_eq!(artefacts(&lab, node), BTreeSet::from(["k3s".to_owned()]));
    }
}

#[test]
fn ha_ceph_is_built() {
    let lab = ceph();
    is_built(&lab, 1);
    assert_eq!(artefacts(&lab, "server-3"), BTreeSet::from(["k3s".to_owned()]));
}
