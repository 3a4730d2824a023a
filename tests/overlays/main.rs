//! What overlays make of whole clusters: golden files for a reviewer, and other people's tools as judges.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod backups;
mod manifests;
mod own;
mod rendering;
mod scripts;
mod services;
mod tailnet;
mod units;

use kiln::cluster::settings::SettingValue;
use rendering::{HOSTILE, PLAIN, examples, rendered};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A file a node, as it arrives there.
#[test]
fn nodes_are_as_agreed() {
    for node in rendered(PLAIN) {
        let mut text = String::new();
        for file in &node.files {
            let secret = if file.secret { ", secret" } else { "" };
            let _ = writeln!(text, "═══ {} ({:04o}{secret})\n{}", file.path, file.mode, file.text);
        }
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("golden");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(format!("{}-{}", node.cluster, node.node.name), text));
    }
}

/// The examples are what a reader learns from: `kiln check` has nothing to say of them, but what it has to say of MinIO.
#[test]
fn examples_are_without_fault() {
    for path in examples() {
        let output = kiln_tests::kiln().args(["check", "-f"]).arg(&path).output().expect("kiln");
        assert!(output.status.success(), "{}: {}", path.display(), kiln_tests::said(&output));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let minio = usize::from(path.to_string_lossy().contains("picluster"));
        assert_eq!(text.matches("warning").count(), minio, "{}:\n{text}", path.display());
        assert_eq!(text.matches("warning: MinIO RELEASE.").count(), minio, "{}:\n{text}", path.display());
    }
}

/// A cluster for amd64 is the same but for the architecture: what the example of the Raspberry Pis says of itself.
#[test]
fn the_pis_can_be_tried_on_amd64() {
    let path = examples().pop().expect("picluster");
    let text = std::fs::read_to_string(&path)
        .expect("the example")
        .replace("architecture: arm64", "architecture: amd64");
    let folder = tempfile::tempdir().expect("folder");
    let copy = folder.path().join("cluster.yaml");
    std::fs::write(&copy, text).expect("written");
    let (arm, amd) = (rendering::load(&path), rendering::load(&copy));
    let vault: std::sync::Arc<dyn kiln::render::Vault> = std::sync::Arc::new(PLAIN);
    for (one, other) in arm.nodes.iter().zip(&amd.nodes) {
        let files = |cluster, node| kiln::render::files(cluster, node, &vault).expect("rendered");
        assert_eq!(files(&arm, one), files(&amd, other));
        assert_ne!(one.architecture, other.architecture);
    }
}

/// What is secret is in files that only root can read, and in no other.
#[test]
fn secrets_are_in_their_files_only() {
    let mut seen = 0;
    for node in rendered(PLAIN) {
        for file in &node.files {
            // In an address it is escaped.
            let has = [PLAIN.before, "%3C%3C"].iter().any(|mark| file.text.contains(mark));
            assert_eq!(has, file.secret, "{}", node.place(file));
            assert!(!has || file.mode & 0o077 == 0, "{}", node.place(file));
            seen += usize::from(has);
        }
    }
    assert!(seen > 30, "{seen} secret files only: does the test still see them?");
}

/// Every overlay is in one of the clusters, and so is every setting: none is left out everywhere, nor empty.
#[test]
fn everything_is_tried() {
    let mut missing: BTreeSet<String> = BTreeSet::new();
    let folder = kiln_tests::top().join("overlays");
    for entry in std::fs::read_dir(&folder).expect("overlays") {
        let path = entry.expect("an entry").path();
        if path.join("overlay.yaml").is_file() && !path.ends_with("base") {
            missing.insert(path.file_name().expect("a name").to_string_lossy().into_owned());
        }
    }
    let nodes = rendered(HOSTILE);
    let overlays = || nodes.iter().flat_map(|node| &node.node.overlays);
    for overlay in overlays() {
        missing.remove(&overlay.name);
        missing.extend(overlay.settings.keys().map(|setting| format!("{}.{setting}", overlay.name)));
    }
    for overlay in overlays() {
        for (name, setting) in &overlay.settings {
            let said = match &setting.value {
                SettingValue::Null => false,
                SettingValue::List(items) => !items.is_empty(),
                SettingValue::Map(entries) => !entries.is_empty(),
                _ => true,
            };
            if said {
                missing.remove(&format!("{}.{name}", overlay.name));
            }
        }
    }
    assert_eq!(missing, BTreeSet::new(), "no cluster has these");
}
