//! The founding word: in whose seed it is, until when, and what is said of it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

const CLUSTER: &str = "apiVersion: kiln/v1\ncluster: {name: home, endpoint: 10.0.0.1, k3s: {version: v1.36.2+k3s1}}\n\
    users: [{name: anna, password_hash: $6$saltsalt$abcdefgh}]\nnodes:\n\
    - {name: s1, role: server, network: {address: 10.0.0.1/24}}\n";
const MORE: &str = "- {name: s2, role: server, network: {address: 10.0.0.2/24}}\n\
    - {name: s3, role: server, network: {address: 10.0.0.3/24}}\n";

/// A folder with a cluster file and its secrets.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().expect("folder"));
        site.write(CLUSTER);
        site.kiln("secrets init", 0);
        site
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn write(&self, text: &str) {
        std::fs::write(self.path("cluster.yaml"), text).expect("written");
    }
    /// What it says on both streams.
    fn kiln(&self, words: &str, status: i32) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command.args(words.split(' ')).current_dir(self.0.path()).env_clear().env("HOME", self.path("home"));
        let output = command.output().expect("kiln ran");
        let text =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat();
        assert_eq!(output.status.code(), Some(status), "kiln {words}: {text}");
        text
    }
    /// Whether a node's seed lets it found the cluster.
    fn founds(&self, node: &str) -> bool {
        let read = |path: &Path| std::fs::read_to_string(path).expect("user-data");
        let user_data = read(&self.path(&format!("dist/{node}/seed/user-data")));
        let document: serde_json::Value = serde_saphyr::from_str(&user_data).expect("YAML");
        let files = document["write_files"].as_array().expect("files");
        let join =
            files.iter().find(|file| file["path"] == "/etc/kiln/join.json").expect("the join document");
        let join: serde_json::Value =
            serde_json::from_str(join["content"].as_str().expect("text")).expect("JSON");
        join["store"]["found"] == true
    }
}

#[test]
fn the_word_is_in_seeds_until_the_cluster_exists() {
    let site = Site::new();
    let said = site.kiln("seed -o dist", 0);
    assert!(
        said.contains("s1 has the founding word: with an empty datastore it begins the cluster."),
        "{said}"
    );
    assert!(site.founds("s1"));

    assert!(
        site.kiln("cluster founded", 0).contains("cluster home exists: builds leave the founding word out")
    );
    assert!(site.kiln("cluster founded", 0).contains("cluster home was known to exist"));
    let said = site.kiln("seed -o dist", 0);
    assert!(said.contains("s1 has no founding word, since the cluster exists"), "{said}");
    assert!(!site.founds("s1"));

    // One more time, and this time only.
    assert!(site.kiln("seed --found s1 -o dist", 0).contains("s1 has the founding word"));
    assert!(site.founds("s1"));
    site.kiln("seed -o dist", 0);
    assert!(!site.founds("s1"));
    assert!(site.kiln("seed --found s9 -o dist", 1).contains("s9"));

    assert!(site.kiln("cluster founded --not", 0).contains("cluster home does not exist"));
    site.kiln("seed -o dist", 0);
    assert!(site.founds("s1"));
}

#[test]
fn a_cluster_that_grows_is_told_what_becomes_of_its_datastore() {
    let site = Site::new();
    site.kiln("cluster founded", 0);
    assert!(!site.kiln("check", 0).contains("SQLite"));
    site.write(&format!("{CLUSTER}{MORE}"));
    let said = site.kiln("check", 0);
    assert!(said.contains("s1 kept SQLite when the cluster was founded, as its only server."), "{said}");
    // Servers that come later have secrets of their own to be made.
    site.kiln("secrets init", 0);
    site.kiln("seed -o dist", 0);
    assert!(["s1", "s2", "s3"].iter().all(|node| !site.founds(node)));
    let said = site.kiln("seed --found s2 -o dist", 1);
    assert!(
        said.contains("s2 can't begin the cluster: the first server of the cluster file is s1"),
        "{said}"
    );
}

#[test]
fn only_the_first_of_several_servers_has_it() {
    let site = Site::new();
    site.write(&format!("{CLUSTER}{MORE}"));
    site.kiln("secrets init", 0);
    let said = site.kiln("seed -o dist", 0);
    assert!(said.contains("it begins the cluster unless another server of it answers"), "{said}");
    assert_eq!(["s1", "s2", "s3"].map(|node| site.founds(node)), [true, false, false]);
}
