//! What roots and nodes are made of, named and digested, so that a plan can compare them.

use super::room;
use crate::boot::Program;
use crate::cluster::{Architecture, Cluster, Disks, Node};
use crate::digest::Sha256;
use crate::lock::{self, Lock};
use crate::plan::upgrade::STEPWISE;
use crate::plan::{Artefact, Inputs, NodeInputs, RootInputs};
use crate::render::overlay::{self, Overlay};
use crate::render::{self, Seed, Vault};
use kiln_contract::policy::Key;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
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
    /// The lock has no such artefact.
    #[error(
        "the lock has no artefact {name} of the overlay {overlay} for node {node} ({architecture}): the cluster file or the overlay has changed since; run `kiln lock`"
    )]
    ArtefactNotLocked {
        /// The artefact.
        name: String,
        /// The overlay that wants it.
        overlay: String,
        /// The node.
        node: String,
        /// Its architecture.
        architecture: &'static str,
    },
    /// The lock has another release of a chart, or none.
    #[error("the cluster file has {chart} {version} and the lock {}: run `kiln lock`, which sees whether that step is one that {chart} takes",
        locked.as_deref().unwrap_or("none"))]
    ChartNotLocked {
        /// The chart.
        chart: String,
        /// Its release in the cluster file.
        version: String,
        /// Its release in the lock.
        locked: Option<String>,
    },
    /// It does not fit.
    #[error(transparent)]
    Room(#[from] room::Error),
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
    /// One for each different package set, set of artefacts, sector size and set of programs in the initramfs.
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
    for (chart, version) in charts(cluster) {
        let locked = lock.charts.get(&chart).cloned();
        if locked.as_ref() != Some(&version) {
            return Err(Error::ChartNotLocked { chart, version, locked });
        }
    }
    let mut gathered = Gathered {
        roots: vec![],
        sector_sizes: vec![],
        programs: vec![],
        nodes: vec![],
        seeds: vec![],
        overlays: vec![],
        enable: vec![],
    };
    type Kind = (usize, u32, BTreeSet<Program>, Vec<Sha256>, Vec<Artefact>);
    let mut known: BTreeMap<Kind, usize> = BTreeMap::new();
    // Two folders may have one name.
    let mut read: BTreeMap<(String, Option<PathBuf>), Overlay> = BTreeMap::new();
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
            let overlay = match read.entry((layer.name.clone(), layer.folder.clone())) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(overlay::read(layer)?),
            };
            overlays.push(overlay.clone());
        }
        let digests = overlays.iter().map(|overlay| overlay.digest).collect();
        let artefacts = artefacts((cluster, node), lock)?;
        room::of_lock(cluster, node, &artefacts)?;
        let kind = (set, node.sector_size, programs.clone(), digests, artefacts.clone());
        let root = *known.entry(kind).or_insert_with(|| {
            let enable: Vec<String> = layers.iter().flat_map(|layer| layer.enable.iter().cloned()).collect();
            let mut inputs = root_inputs(cluster, &lock.roots[set], &overlays);
            inputs.insert("source date".into(), lock.source_date.to_string());
            inputs.insert("sector size".into(), node.sector_size.to_string());
            inputs.insert("programs of the first boot".into(), format!("{programs:?}"));
            inputs.insert("enabled units".into(), enable.join(" "));
            if !artefacts.is_empty() {
                let lines: Vec<String> = artefacts.iter().map(line).collect();
                inputs.insert("artefacts".into(), digest(&lines.join("\n")));
            }
            inputs.insert("builder".into(), builder.to_owned());
            let name = name(architecture, node.sector_size, gathered.roots.len());
            let packages = lock.roots[set].clone();
            gathered.roots.push(RootInputs { name, inputs, packages, artefacts });
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
        if let Some(size) = node.disks.size {
            inputs.insert("size of the disk".into(), size.to_string());
        }
        gathered.nodes.push(NodeInputs { name: node.name.clone(), root, inputs });
        gathered.seeds.push(seed);
    }
    Ok(gathered)
}

/// What an artefact is to an image.
fn line(artefact: &Artefact) -> String {
    let Artefact { path, member, mode, locked } = artefact;
    format!("{path:?} {mode:o} {member:?} {} {:?} {:?}", locked.sha256, locked.name, locked.url)
}

/// The releases of charts that are upgraded step by step.
pub fn charts(cluster: &Cluster) -> BTreeMap<String, String> {
    let overlays = cluster.nodes.iter().flat_map(|node| &node.overlays);
    let stepwise = overlays.filter(|overlay| STEPWISE.contains(&overlay.name.as_str()));
    let version = |overlay: &crate::cluster::Overlay| {
        let version = overlay.settings.get("version")?.text()?.to_owned();
        Some((overlay.name.clone(), version))
    };
    stepwise.filter_map(version).collect()
}

/// What a node's root is resolved from, sorted, as the lock names it.
pub fn request(cluster: &Cluster, node: &Node) -> Vec<String> {
    cluster.all_packages(node).into_iter().collect()
}

/// The artefacts of a node's overlays, as the lock has them.
pub fn artefacts((cluster, node): (&Cluster, &Node), lock: &Lock) -> Result<Vec<Artefact>, Error> {
    let mut all = Vec::new();
    for wanted in render::artefacts(cluster, node)? {
        let render::Artefact { overlay, name, architecture, url, sums: _, member, path, mode } = wanted;
        let fits = |locked: &&lock::Artefact| {
            (&locked.name, locked.architecture.as_str(), &locked.url) == (&name, architecture, &url)
        };
        let Some(locked) = lock.artefacts.iter().find(fits).cloned() else {
            return Err(Error::ArtefactNotLocked { name, overlay, node: node.name.clone(), architecture });
        };
        all.push(Artefact { path, member, mode, locked });
    }
    Ok(all)
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
    let mut inputs = Inputs::from([
        ("packages".into(), digest(&packages.join("\n"))),
        ("overlays".into(), digest(&overlays.join("\n"))),
        ("scripts skipped".into(), skipped.join(" ")),
        ("kernel arguments".into(), cluster.base.kernel_arguments.join(" ")),
        ("root size".into(), size),
        ("places of disks".into(), cluster.mount_roots().into_iter().collect::<Vec<_>>().join(" ")),
    ]);
    let directories = cluster.directories();
    if !directories.is_empty() {
        inputs.insert("directories".into(), directories.into_iter().collect::<Vec<_>>().join(" "));
    }
    inputs
}

fn digest(text: &str) -> String {
    Sha256::of(text.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::{Error, Gathered, gather, request};
    use crate::cluster::{self, Cluster};
    use crate::digest::Sha256;
    use crate::lock::{self, Lock, VERSION};
    use crate::plan;
    use crate::render::{NoVault, Vault};
    use std::path::Path;
    use std::sync::Arc;

    const DOCUMENT: &str = "settings: {version: {type: text, default: v1}}\n\
        artefacts: [{name: tool, url: \"https://h/{{ overlay.version }}/tool\", path: /usr/bin/tool}]\n";

    /// Two nodes, the second with this version of the tool; and the folder that the overlay is in.
    fn cluster(version: &str) -> (Cluster, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mine")).unwrap();
        std::fs::write(folder.path().join("mine/overlay.yaml"), DOCUMENT).unwrap();
        let text = format!(
            "apiVersion: kiln/v1\ncluster: {{name: c}}\noverlays: [./mine]\nusers: [{{name: a, password_hash: $y$j9T$x$y}}]\n\
             nodes:\n  - {{name: n1, network: {{dhcp: true}}}}\n  \
             - {{name: n2, network: {{dhcp: true}}, overlays: [{{name: ./mine, version: {version}}}]}}\n"
        );
        let loaded = cluster::parse(text.as_bytes(), Path::new("cluster.yaml"), folder.path());
        let cluster = loaded.unwrap_or_else(|error| panic!("{error:?}")).cluster;
        (cluster, folder)
    }

    fn lock(cluster: &Cluster, artefacts: &[(&str, &[u8])]) -> Lock {
        let request = request(cluster, &cluster.nodes[0]);
        let root = lock::Root { architecture: "amd64".to_owned(), request, packages: vec![] };
        let artefact = |(url, bytes): &(&str, &[u8])| lock::Artefact {
            name: "tool".to_owned(),
            architecture: "amd64".to_owned(),
            url: (*url).to_owned(),
            size: bytes.len() as u64,
            sha256: Sha256::of(bytes),
        };
        let artefacts = artefacts.iter().map(artefact).collect();
        Lock {
            version: VERSION,
            source_date: 0,
            suites: vec![],
            roots: vec![root],
            artefacts,
            charts: Default::default(),
            ssh_keys: Default::default(),
        }
    }

    fn gathered(cluster: &Cluster, lock: &Lock) -> Result<Gathered, Error> {
        let nodes: Vec<_> = cluster.nodes.iter().collect();
        let vault: Arc<dyn Vault> = Arc::new(NoVault);
        gather((cluster, &nodes), lock, "test", &vault)
    }

    const V1: &str = "https://h/v1/tool";

    #[test]
    fn the_digest_of_an_artefact_is_an_input_of_the_root() {
        let (cluster, _folder) = cluster("v1");
        let one = gathered(&cluster, &lock(&cluster, &[(V1, b"one")])).unwrap();
        assert_eq!(one.roots.len(), 1, "nodes with the same artefacts share a root");
        assert_eq!(one.roots[0].artefacts[0].locked.sha256, Sha256::of(b"one"));
        let two = gathered(&cluster, &lock(&cluster, &[(V1, b"two")])).unwrap();
        let differ: Vec<&String> = one.roots[0]
            .inputs
            .iter()
            .filter(|(name, value)| two.roots[0].inputs.get(*name) != Some(value))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(differ, ["artefacts"]);
        assert_ne!(plan::key(&one.roots[0].inputs), plan::key(&two.roots[0].inputs));
        assert_ne!(one.nodes[1].inputs["artefacts"], two.nodes[1].inputs["artefacts"]);
    }

    #[test]
    fn nodes_with_other_artefacts_have_roots_of_their_own() {
        let (cluster, _folder) = cluster("v2");
        let lock = lock(&cluster, &[(V1, b"one"), ("https://h/v2/tool", b"two")]);
        let gathered = gathered(&cluster, &lock).unwrap();
        assert_eq!(gathered.roots.len(), 2);
        assert_eq!((gathered.nodes[0].root, gathered.nodes[1].root), (0, 1));
    }

    #[test]
    fn folders_of_one_name_are_two_overlays() {
        let folder = tempfile::tempdir().unwrap();
        for (place, text) in [("a", "one"), ("b", "two")] {
            let files = folder.path().join(place).join("mine/files/etc");
            std::fs::create_dir_all(&files).unwrap();
            std::fs::write(files.join("mine"), text).unwrap();
            std::fs::write(folder.path().join(place).join("mine/overlay.yaml"), "packages: []\n").unwrap();
        }
        let text = "apiVersion: kiln/v1\ncluster: {name: c}\nusers: [{name: a, password_hash: $y$j9T$x$y}]\nnodes:\n  \
             - {name: n1, network: {dhcp: true}, overlays: [./a/mine]}\n  \
             - {name: n2, network: {dhcp: true}, overlays: [./b/mine]}\n";
        let loaded = cluster::parse(text.as_bytes(), Path::new("cluster.yaml"), folder.path());
        let cluster = loaded.unwrap_or_else(|error| panic!("{error:?}")).cluster;
        let gathered = gathered(&cluster, &lock(&cluster, &[])).unwrap();
        assert_eq!(gathered.roots.len(), 2);
        assert_ne!(gathered.overlays[0][1].digest, gathered.overlays[1][1].digest);
    }

    #[test]
    fn a_lock_without_the_artefact_is_refused() {
        let message = |version: &str, artefacts: &[(&str, &[u8])]| {
            let (cluster, _folder) = cluster(version);
            gathered(&cluster, &lock(&cluster, artefacts)).unwrap_err().to_string()
        };
        assert_eq!(
            message("v1", &[]),
            "the lock has no artefact tool of the overlay mine for node n1 (amd64): the cluster file or the overlay has \
             changed since; run `kiln lock`"
        );
        assert_eq!(
            message("v2", &[(V1, b"one")]),
            "the lock has no artefact tool of the overlay mine for node n2 (amd64): the cluster file or the overlay has \
             changed since; run `kiln lock`"
        );
    }
}
