//! What a build would do and why, decided from facts alone: nothing here touches disk or network.
//!
//! A root (ext4, ESP and their facts) is made once for all nodes of one architecture, package set and
//! overlay set and named by the digest of its inputs. A node's image is up to date when the inputs that its
//! `image.json` recorded are the inputs of now.

use crate::digest::Sha256;
pub mod upgrade;

use crate::lock;
use std::collections::{BTreeMap, BTreeSet};

/// Named inputs and their digests: equal maps make equal bytes.
pub type Inputs = BTreeMap<String, String>;

/// A root to be had.
#[derive(Debug, Clone)]
pub struct RootInputs {
    /// Name for people: the architecture and what sets it apart.
    pub name: String,
    /// What it is made of.
    pub inputs: Inputs,
    /// Its packages.
    pub packages: lock::Root,
    /// The files that its overlays fetch.
    pub artefacts: Vec<Artefact>,
}

/// A file that an overlay fetches, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Artefact {
    /// Absolute path in the image.
    pub path: String,
    /// Path in the archive that the file is.
    pub member: Option<String>,
    /// Permission bits.
    pub mode: u16,
    /// What the lock says of it.
    pub locked: lock::Artefact,
}

/// A node to be built.
#[derive(Debug, Clone)]
pub struct NodeInputs {
    /// Name in the cluster file.
    pub name: String,
    /// Index of its root.
    pub root: usize,
    /// What its image is made of, its root's inputs included.
    pub inputs: Inputs,
}

/// What is there already.
#[derive(Debug, Clone, Default)]
pub struct Present {
    /// Keys of the roots that the cache holds.
    pub roots: BTreeSet<String>,
    /// Digests of the package files and artefacts that the cache holds.
    pub files: BTreeSet<Sha256>,
    /// The inputs that the images in the output folder were made of, by node; none for an image that was
    /// changed after it was made.
    pub images: BTreeMap<String, Inputs>,
}

/// What will be done for a root.
#[derive(Debug, Clone)]
pub struct RootPlan {
    /// The root.
    pub root: RootInputs,
    /// Name of its blobs in the cache.
    pub key: String,
    /// True when the cache has it.
    pub reuse: bool,
    /// True when some node that will be built needs it.
    pub needed: bool,
    /// Number and bytes of package files that must be downloaded first.
    pub download: (usize, u64),
    /// Number and bytes of artefacts that must be.
    pub artefacts: (usize, u64),
}

/// What will be done for a node, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The image there is made of these very inputs.
    Keep,
    /// The image is made; the names of the inputs that differ, empty when there is no image yet.
    Build {
        /// Which inputs changed.
        changed: Vec<String>,
    },
}

/// What will be done for a node.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// The node.
    pub node: NodeInputs,
    /// What is done.
    pub action: Action,
}

/// The whole plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The roots, in the order of the request.
    pub roots: Vec<RootPlan>,
    /// The nodes, in the order of the cluster file.
    pub nodes: Vec<NodePlan>,
}

/// One name for a set of inputs: BLAKE3, 64 hexadecimal digits.
pub fn key(inputs: &Inputs) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, value) in inputs {
        for text in [name, value] {
            // Lengths first: no two maps feed the same bytes.
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// Decides. With `fresh`, nothing but downloaded packages counts as present.
pub fn plan(roots: Vec<RootInputs>, nodes: Vec<NodeInputs>, present: &Present, fresh: bool) -> Plan {
    let nodes: Vec<NodePlan> =
        nodes.into_iter().map(|node| NodePlan { action: action(&node, present, fresh), node }).collect();
    let roots = roots
        .into_iter()
        .enumerate()
        .map(|(index, root)| {
            let key = key(&root.inputs);
            let needed = nodes.iter().any(|n| n.node.root == index && n.action != Action::Keep);
            let reuse = !fresh && present.roots.contains(&key);
            let make = needed && !reuse;
            let absent = |files: BTreeMap<Sha256, u64>| {
                let absent = files.iter().filter(|(sha256, _)| make && !present.files.contains(*sha256));
                absent.fold((0, 0), |(count, bytes), (_, size)| (count + 1, bytes + size))
            };
            let download = absent(root.packages.packages.iter().map(|p| (p.sha256, p.size)).collect());
            // Two members of one archive are one download.
            let artefacts = root.artefacts.iter().map(|artefact| &artefact.locked);
            let artefacts = absent(artefacts.map(|locked| (locked.sha256, locked.size)).collect());
            RootPlan { download, artefacts, key, reuse, needed, root }
        })
        .collect();
    Plan { roots, nodes }
}

fn action(node: &NodeInputs, present: &Present, fresh: bool) -> Action {
    let Some(before) = present.images.get(&node.name).filter(|_| !fresh) else {
        return Action::Build { changed: Vec::new() };
    };
    let names: BTreeSet<&String> = before.keys().chain(node.inputs.keys()).collect();
    let changed: Vec<String> =
        names.into_iter().filter(|name| before.get(*name) != node.inputs.get(*name)).cloned().collect();
    if changed.is_empty() { Action::Keep } else { Action::Build { changed } }
}

#[cfg(test)]
mod tests {
    use super::{Action, Artefact, Inputs, NodeInputs, Present, RootInputs, key, plan};
    use crate::digest::Sha256;
    use crate::lock;

    fn inputs(pairs: &[(&str, &str)]) -> Inputs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn root() -> RootInputs {
        let packages = lock::Root { architecture: "amd64".into(), request: vec![], packages: vec![] };
        RootInputs { name: "amd64".into(), inputs: inputs(&[("packages", "p")]), packages, artefacts: vec![] }
    }

    fn node(seed: &str) -> NodeInputs {
        NodeInputs { name: "n".into(), root: 0, inputs: inputs(&[("packages", "p"), ("seed", seed)]) }
    }

    #[test]
    fn an_image_of_the_same_inputs_is_kept() {
        let mut present = Present::default();
        let first = plan(vec![root()], vec![node("s")], &present, false);
        assert_eq!(first.nodes[0].action, Action::Build { changed: vec![] });
        assert!(first.roots[0].needed && !first.roots[0].reuse);

        present.images.insert("n".into(), node("s").inputs);
        present.roots.insert(first.roots[0].key.clone());
        let second = plan(vec![root()], vec![node("s")], &present, false);
        assert_eq!(second.nodes[0].action, Action::Keep);
        assert!(!second.roots[0].needed);

        let third = plan(vec![root()], vec![node("t")], &present, false);
        assert_eq!(third.nodes[0].action, Action::Build { changed: vec!["seed".into()] });
        assert!(third.roots[0].needed && third.roots[0].reuse);

        let fresh = plan(vec![root()], vec![node("s")], &present, true);
        assert_eq!(fresh.nodes[0].action, Action::Build { changed: vec![] });
        assert!(!fresh.roots[0].reuse);
    }

    #[test]
    fn an_archive_with_two_members_is_fetched_once() {
        let artefact = |member: &str| Artefact {
            path: format!("/usr/bin/{member}"),
            member: Some(member.into()),
            mode: 0o755,
            locked: lock::Artefact {
                name: member.into(),
                architecture: "amd64".into(),
                url: "https://h/a.tgz".into(),
                size: 7,
                sha256: Sha256::of(b"a"),
            },
        };
        let root = RootInputs { artefacts: vec![artefact("a"), artefact("b")], ..root() };
        let mut present = Present::default();
        assert_eq!(plan(vec![root.clone()], vec![node("s")], &present, false).roots[0].artefacts, (1, 7));
        present.files.insert(Sha256::of(b"a"));
        assert_eq!(plan(vec![root], vec![node("s")], &present, false).roots[0].artefacts, (0, 0));
    }

    #[test]
    fn keys_tell_names_from_values() {
        assert_ne!(key(&inputs(&[("ab", "c")])), key(&inputs(&[("a", "bc")])));
    }
}
