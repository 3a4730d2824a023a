//! Whether what a node is to hold fits where it goes: as far as the lock tells before anything is fetched, and to the byte
//! when its root is made.

use crate::cluster::{Cluster, Node};
use crate::plan::Artefact;
use kiln_contract::partition::STATE_MIN;
use kiln_contract::plan::human;

/// What does not fit. Sizes are in bytes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Artefacts in a root of a given size.
    #[error(
        "node {node}: its artefacts take {} of the root, and `base.root_size` is {}: give it more, or leave it out; the \
         largest of them: {largest}", human(*needed), human(*given)
    )]
    Root {
        /// The node.
        node: String,
        /// What they take.
        needed: u64,
        /// What there is.
        given: u64,
        /// The largest artefacts.
        largest: String,
    },
    /// The system on its disk.
    #[error(
        "node {node}: its disk is to hold {} at least, and `disks.system.size` is {}: the image ({}), its root once more for \
         updates, {}and {} for /var; take a larger disk{}",
        human(image + root + swap + STATE_MIN), human(*given), human(*image),
        if *swap == 0 { String::new() } else { format!("{} of swap ", human(*swap)) }, human(STATE_MIN),
        largest.as_ref().map_or_else(String::new, |largest| format!(", or less onto it: {largest}"))
    )]
    Disk {
        /// The node.
        node: String,
        /// What there is.
        given: u64,
        /// What the image takes.
        image: u64,
        /// What the root in it takes.
        root: u64,
        /// What swap takes.
        swap: u64,
        /// The largest artefacts.
        largest: Option<String>,
    },
}

/// How many artefacts are named.
const NAMED: usize = 3;

/// Looks at the sizes that the lock has. What is taken out of an archive counts nothing: its size is not known yet.
pub fn of_lock(cluster: &Cluster, node: &Node, artefacts: &[Artefact]) -> Result<(), Error> {
    let whole: Vec<&Artefact> = artefacts.iter().filter(|artefact| artefact.member.is_none()).collect();
    let payload = whole.iter().map(|artefact| artefact.locked.size).fold(0, u64::saturating_add);
    let largest = largest(&whole);
    if let Some(given) = cluster.base.root_size.filter(|given| *given < payload) {
        let largest = largest.unwrap_or_default();
        return Err(Error::Root { node: node.name.clone(), needed: payload, given, largest });
    }
    let root = cluster.base.root_size.unwrap_or(payload);
    of_disk(node, (root, root), largest)
}

/// Looks at a root that is made: the bytes of the whole image, and of the root in it.
pub fn of_image(node: &Node, image: u64, root: u64) -> Result<(), Error> {
    of_disk(node, (image, root), None)
}

fn of_disk(node: &Node, (image, root): (u64, u64), largest: Option<String>) -> Result<(), Error> {
    let swap = node.disks.swap.unwrap_or(0);
    let needed = [image, root, swap, STATE_MIN].into_iter().fold(0, u64::saturating_add);
    let Some(given) = node.disks.size.filter(|given| *given < needed) else { return Ok(()) };
    Err(Error::Disk { node: node.name.clone(), given, image, root, swap, largest })
}

fn largest(artefacts: &[&Artefact]) -> Option<String> {
    let mut sorted = artefacts.to_vec();
    sorted.sort_by_key(|artefact| std::cmp::Reverse(artefact.locked.size));
    let words = sorted.iter().take(NAMED).map(|it| format!("{} ({})", it.locked.name, human(it.locked.size)));
    let words: Vec<String> = words.collect();
    (!words.is_empty()).then(|| words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{of_image, of_lock};
    use crate::cluster::{self, Cluster};
    use crate::digest::Sha256;
    use crate::lock;
    use crate::plan::Artefact;
    use std::path::Path;

    fn cluster(more: &str) -> Cluster {
        let text = format!(
            "apiVersion: kiln/v1\ncluster: {{name: c}}\nusers: [{{name: a, password_hash: $y$j9T$x$y}}]\n\
             nodes: [{{name: n1, network: {{dhcp: true}}}}]\n{more}\n"
        );
        let loaded = cluster::parse(text.as_bytes(), Path::new("cluster.yaml"), Path::new("."));
        loaded.unwrap_or_else(|error| panic!("{error:?}")).cluster
    }

    fn artefact(name: &str, gib: u64, member: Option<&str>) -> Artefact {
        Artefact {
            path: format!("/usr/share/{name}"),
            member: member.map(str::to_owned),
            mode: 0o644,
            locked: lock::Artefact {
                name: name.to_owned(),
                architecture: "amd64".to_owned(),
                url: format!("https://h/{name}"),
                size: gib << 30,
                sha256: Sha256::of(name.as_bytes()),
            },
        }
    }

    #[test]
    fn a_payload_that_is_too_large_is_known_from_the_lock() {
        let payload =
            [artefact("images", 6, None), artefact("k3s", 1, None), artefact("huge", 99, Some("m"))];
        let said = |more: &str| {
            let cluster = cluster(more);
            of_lock(&cluster, &cluster.nodes[0], &payload).map_err(|error| error.to_string())
        };
        assert_eq!(said(""), Ok(()));
        assert_eq!(said("disks: {system: {size: 15GiB}}"), Ok(()));
        assert_eq!(
            said("disks: {system: {size: 15GiB, swap: 2GiB}}").unwrap_err(),
            "node n1: its disk is to hold 17.0 GiB at least, and `disks.system.size` is 15.0 GiB: the image (7.0 GiB), its \
             root once more for updates, 2.0 GiB of swap and 1.0 GiB for /var; take a larger disk, or less onto it: images \
             (6.0 GiB), k3s (1.0 GiB)"
        );
        assert_eq!(said("base: {root_size: 8GiB}"), Ok(()));
        assert_eq!(
            said("base: {root_size: 4GiB}").unwrap_err(),
            "node n1: its artefacts take 7.0 GiB of the root, and `base.root_size` is 4.0 GiB: give it more, or leave it \
             out; the largest of them: images (6.0 GiB), k3s (1.0 GiB)"
        );
    }

    #[test]
    fn an_image_is_held_against_the_disk_to_the_byte() {
        let cluster = cluster("disks: {system: {size: 4GiB}}");
        let node = &cluster.nodes[0];
        let (root, image) = (1 << 30, 2 << 30);
        assert_eq!(of_image(node, image, root), Ok(()));
        assert_eq!(
            of_image(node, image + 1, root).unwrap_err().to_string(),
            "node n1: its disk is to hold 4.0 GiB at least, and `disks.system.size` is 4.0 GiB: the image (2.0 GiB), its \
             root once more for updates, and 1.0 GiB for /var; take a larger disk"
        );
    }
}
