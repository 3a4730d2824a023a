//! Clusters of that k3s, built with what a user types, and their machines on one cable.

use super::hub;
use crate::cable::{Node, side_door, write};
use crate::nodes::remove_images;
use crate::user::{done, identity, kiln_in, publish};
use kiln_qemu::{Disk, Source, create_sparse};
use kiln_tests::{binary, die, shared, succeed};
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of the disk of a node: k3s unpacks itself, its images and what they become.
const SYSTEM: u64 = 20 << 30;
/// Bytes of the disk for the datastore.
const STORE: u64 = 2 << 30;
/// MiB of memory of a node with k3s.
const MEMORY: u32 = 3072;
/// What the stand-in stands for.
const STANDS_FOR: &str = "v1.36.2+k3s1";
/// What a release calls its images.
const IMAGES: &str = "k3s-airgap-images-amd64.tar.zst";

/// k3s as its users have it.
pub(super) struct Release {
    k3s: PathBuf,
    pub(super) images: Option<PathBuf>,
    /// `v1.34.3+k3s1`.
    version: String,
    /// What it says of itself.
    pub(super) said: String,
    real: bool,
}

impl Release {
    /// The release in the folder that `tests/real` names, or the stand-in.
    pub(super) fn found() -> Self {
        let Some(folder) = std::env::var_os("KILN_REAL_FOLDER").map(PathBuf::from) else {
            let k3s = binary().with_file_name("k3s-standin");
            let said = succeed(Command::new(&k3s).arg("--version")).trim().to_owned();
            return Self { k3s, images: None, version: STANDS_FOR.to_owned(), said, real: false };
        };
        let k3s = folder.join("k3s");
        let said = succeed(Command::new(&k3s).arg("--version"));
        let version = said.split_whitespace().find(|word| word.starts_with('v') && word.contains("+k3s"));
        let version = version
            .unwrap_or_else(|| die(&format!("{} says no version of k3s: {said}", k3s.display())))
            .to_owned();
        let images = Some(folder.join(IMAGES)).filter(|path| path.is_file());
        Self { k3s, images, version, said: said.lines().next().unwrap_or_default().to_owned(), real: true }
    }

    pub(super) fn is_real(&self) -> bool {
        self.real
    }
}

/// A cluster that was built.
pub(super) struct Built {
    top: PathBuf,
    key: PathBuf,
    name: String,
    release: (String, bool, bool),
    nodes: Vec<String>,
}

/// The same with machines.
pub(super) struct Site {
    built: Built,
    /// Names and machines.
    pub(super) nodes: Vec<(String, Node)>,
}

impl Drop for Built {
    fn drop(&mut self) {
        remove_images(&self.top.join("dist"));
    }
}

impl Site {
    /// The cluster of these nodes: `NAME ROLE`, and `data` where a disk of its own keeps the datastore.
    pub(super) fn built(release: &Release, name: &str, nodes: &[&str]) -> Built {
        let top = shared().join(name);
        let _ = fs::remove_dir_all(&top);
        let key = identity(&top);
        side_door(&top.join("lab"));
        publish(&top.join("artefacts"), &release.version, (&release.k3s, release.images.as_deref()));
        let told = (release.version.clone(), release.images.is_some(), release.real);
        let built = Built { top, key, name: name.to_owned(), release: told, nodes: vec![] };
        built.of(nodes)
    }

    /// The same cluster with more nodes: the machines begin with new images, and with the datastore's disks that they had.
    pub(super) fn grown(self, nodes: &[&str], folder: &Path) -> Self {
        self.founded();
        let Self { built, nodes: before } = self;
        drop(before);
        let folder = folder.to_owned();
        let more = folder.join("grown");
        fs::create_dir(&more).unwrap();
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == "store") {
                fs::rename(&path, more.join(entry.file_name())).unwrap();
            }
        }
        built.of(nodes).plugged(&more)
    }

    /// The user says that the cluster exists, and builds anew.
    pub(super) fn founded(&self) {
        done(kiln_in(&self.built.top).args(["cluster", "founded"]), "");
        done(kiln_in(&self.built.top).args(["build", "-o", "dist"]), "");
    }

    /// Writes the present image over a node's disk.
    pub(super) fn flash(&self, at: usize) {
        let (name, node) = &self.nodes[at];
        node.flash(&self.built.top.join("dist").join(name));
        enlarge(&node.disk);
    }
}

impl Built {
    fn of(mut self, nodes: &[&str]) -> Self {
        let (version, images, _) = &self.release;
        let public = fs::read_to_string(self.key.with_extension("pub")).unwrap();
        let data = if nodes.iter().any(|node| node.ends_with(" data")) { ", data: store" } else { "" };
        let mut text = format!(
            "apiVersion: kiln/v1\ncluster:\n  name: {}\n  endpoint: 10.8.0.1\n  directories: [/data]\n  \
             k3s: {{version: {version}, tls_san: [10.8.0.1], air_gap: {images}{data}}}\nartefacts: [./artefacts]\noverlays: [./lab]\n\
             users: [{{name: ops, ssh_keys: [{}]}}]\nnodes:\n",
            self.name,
            public.trim()
        );
        self.nodes.clear();
        for (at, node) in nodes.iter().enumerate() {
            let mut words = node.split(' ');
            let (name, role) = (words.next().unwrap(), words.next().unwrap());
            let number = at + 1;
            text += &format!(
                "  - name: {name}\n    role: {role}\n    network: {{address: 10.8.0.{number}/24, mac: \"{}\"}}\n",
                card(number)
            );
            if words.next().is_some() {
                text += "    disks: {data: [{name: store, match: {serial: store}, use: mount, mount_point: /srv/store}]}\n";
            }
            self.nodes.push((*node).to_owned());
        }
        write(&self.top.join("cluster.yaml"), &text);
        for words in [&["secrets", "init"][..], &["lock"], &["build", "-o", "dist"]] {
            done(kiln_in(&self.top).args(words), "");
        }
        self
    }

    /// Its machines, with their disks in a folder; all are off.
    pub(super) fn plugged(self, folder: &Path) -> Site {
        let cards: Vec<String> = (1..=self.nodes.len()).map(card).collect();
        let mut nodes = Vec::new();
        for (words, link) in self.nodes.iter().zip(hub::ends(&cards)) {
            let name = words.split(' ').next().unwrap().to_owned();
            let mut node = Node::new((&self.top.join("dist"), &name), &self.key, (folder, link));
            enlarge(&node.disk);
            if self.release.2 {
                node.machine.memory_mib = MEMORY;
            }
            if words.ends_with(" data") {
                let path = folder.join(format!("{name}.store"));
                if !path.exists() {
                    create_sparse(&path, STORE).unwrap();
                }
                node =
                    node.with(Disk { serial: Some("store".to_owned()), ..Disk::virtio(Source::file(&path)) });
            }
            nodes.push((name, node));
        }
        Site { built: self, nodes }
    }
}

fn card(number: usize) -> String {
    format!("52:54:00:6b:72:{number:02x}")
}

fn enlarge(disk: &Path) {
    OpenOptions::new().write(true).open(disk).unwrap().set_len(SYSTEM).unwrap();
}
