//! What roots and nodes are made of, named and digested, so that a plan can compare them.

use crate::boot::Program;
use crate::cluster::{Architecture, Cluster, Disks, Node};
use crate::digest::Sha256;
use crate::lock::{self, Lock};
use crate::plan::{Inputs, NodeInputs, RootInputs};
use crate::render::overlay::{self, Overlay};
use crate::render::{self, Seed, Vault};
use kiln_contract::policy::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why there are no inputs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An overlay.
    #[error(transparent)]
    Overlay(#[from] overlay::Error),
    /// A template.
    #[error(transparent)]
    Render(#[from] render::Error),
    /// The lock was made for another request.
    #[error(
        "the lock has no package set for node {node} ({architecture}): the cluster file has changed since; run `kiln lock`"
    )]
    NotLocked {
        /// The node.
        node: String,
        /// Its architecture.
        architecture: &'static str,
    },
    /// Kiln has no boot helper for the architecture yet.
    #[error("node {node}: this version of kiln builds amd64 images only, not {architecture}")]
    Architecture {
        /// The node.
        node: String,
        /// Its architecture.
        architecture: &'static str,
    },
}

/// Everything that a build is a function of.
#[derive(Debug)]
pub struct Gathered {
    /// One for each different package set, sector size and set of programs in the initramfs.
    pub roots: Vec<RootInputs>,
    /// The sector size of each root, in bytes.
    pub sector_sizes: Vec<u32>,
    /// The programs in the initramfs of each root.
    pub programs: Vec<BTreeSet<Program>>,
    /// The wanted nodes.
    pub nodes: Vec<NodeInputs>,
    /// Their seeds, in the same order.
    pub seeds: Vec<Seed>,
    /// The layers of each root, base first.
    pub overlays: Vec<Vec<Overlay>>,
    /// The units that the layers of each root enable.
    pub enable: Vec<Vec<String>>,
}

/// Gathers the inputs of `nodes`. `builder` is the digest of the program that builds: another one makes
/// other bytes, perhaps.
pub fn gather(
    (cluster, nodes): (&Cluster, &[&Node]),
    lock: &Lock,
    builder: &str,
    vault: &Arc<dyn Vault>,
) -> Result<Gathered, Error> {
    let mut gathered = Gathered {
        roots: vec![],
        sector_sizes: vec![],
        programs: vec![],
        nodes: vec![],
        seeds: vec![],
        overlays: vec![],
        enable: vec![],
    };
    let mut known: BTreeMap<(usize, u32, BTreeSet<Program>, Vec<Sha256>), usize> = BTreeMap::new();
    let mut read: BTreeMap<String, Overlay> = BTreeMap::new();
    for node in nodes {
        let architecture = node.architecture.as_str();
        if node.architecture != Architecture::Amd64 {
            return Err(Error::Architecture { node: node.name.clone(), architecture });
        }
        let request = request(cluster, node);
        let set =
            lock.roots.iter().position(|root| root.architecture == architecture && root.request == request);
        let set = set.ok_or_else(|| Error::NotLocked { node: node.name.clone(), architecture })?;
        let programs = programs(&node.disks);
        let layers = node.layers();
        let mut overlays = Vec::with_capacity(layers.len());
        for layer in &layers {
            let overlay = match read.get(&layer.name) {
                Some(overlay) => overlay.clone(),
                None => overlay::read(layer)?,
            };
            read.insert(layer.name.clone(), overlay.clone());
            overlays.push(overlay);
        }
        let digests = overlays.iter().map(|overlay| overlay.digest).collect();
        let kind = (set, node.sector_size, programs.clone(), digests);
        let root = *known.entry(kind).or_insert_with(|| {
            let enable: Vec<String> = layers.iter().flat_map(|layer| layer.enable.iter().cloned()).collect();
            let mut inputs = root_inputs(cluster, &lock.roots[set], &overlays);
            inputs.insert("source date".into(), lock.source_date.to_string());
            inputs.insert("sector size".into(), node.sector_size.to_string());
            inputs.insert("programs of the first boot".into(), format!("{programs:?}"));
            inputs.insert("enabled units".into(), enable.join(" "));
            inputs.insert("builder".into(), builder.to_owned());
            let name = name(architecture, node.sector_size, gathered.roots.len());
            gathered.roots.push(RootInputs { name, inputs, packages: lock.roots[set].clone() });
            gathered.sector_sizes.push(node.sector_size);
            gathered.programs.push(programs);
            gathered.overlays.push(overlays);
            gathered.enable.push(enable);
            gathered.roots.len() - 1
        });
        let seed = render::seed(cluster, node, vault)?;
        let mut inputs = gathered.roots[root].inputs.clone();
        inputs.insert("user-data".into(), vault.digest(seed.user_data.as_bytes()));
        inputs.insert("meta-data".into(), digest(&seed.meta_data));
        inputs.insert("network-config".into(), digest(&seed.network_config));
        inputs.insert("handoff".into(), vault.digest(&seed.handoff.to_bytes()));
        gathered.nodes.push(NodeInputs { name: node.name.clone(), root, inputs });
        gathered.seeds.push(seed);
    }
    Ok(gathered)
}

/// What a node's root is resolved from, sorted, as the lock names it.
pub fn request(cluster: &Cluster, node: &Node) -> Vec<String> {
    cluster.all_packages(node).into_iter().collect()
}

/// What the first boot runs on such disks.
fn programs(disks: &Disks) -> BTreeSet<Program> {
    let luks = disks.keys().next().is_some();
    let tpm2 = disks.keys().any(|key| key != Key::Seed);
    let asked = [(disks.has_xfs(), Program::Xfs), (luks, Program::Luks), (tpm2, Program::Tpm2)];
    asked.into_iter().filter_map(|(asked, program)| asked.then_some(program)).collect()
}

fn name(architecture: &str, sector_size: u32, before: usize) -> String {
    let sectors = if sector_size == 512 { String::new() } else { format!(" {sector_size}-byte sectors") };
    let number = if before == 0 { String::new() } else { format!(" #{}", before + 1) };
    format!("{architecture}{sectors}{number}")
}

fn root_inputs(cluster: &Cluster, set: &lock::Root, overlays: &[Overlay]) -> Inputs {
    let overlays: Vec<String> =
        overlays.iter().map(|layer| format!("{} {}", layer.name, layer.digest)).collect();
    let packages: Vec<String> =
        set.packages.iter().map(|p| format!("{} {} {}", p.name, p.version, p.sha256)).collect();
    let skipped: Vec<&str> = cluster.base.skip_scripts.iter().map(String::as_str).collect();
    let size = cluster.base.root_size.map_or_else(|| "auto".to_owned(), |size| size.to_string());
    Inputs::from([
        ("packages".into(), digest(&packages.join("\n"))),
        ("overlays".into(), digest(&overlays.join("\n"))),
        ("scripts skipped".into(), skipped.join(" ")),
        ("kernel arguments".into(), cluster.base.kernel_arguments.join(" ")),
        ("root size".into(), size),
        ("places of disks".into(), cluster.mount_roots().into_iter().collect::<Vec<_>>().join(" ")),
    ])
}

fn digest(text: &str) -> String {
    Sha256::of(text.as_bytes()).to_string()
}
