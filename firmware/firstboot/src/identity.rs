//! Is the node that runs the one whose disk was booted? What the system calls itself is compared with the handoff document, and
//! other disks are looked at for copies of the booted one's partitions: they may have come after the initramfs looked.

use crate::booted::Chosen;
use crate::{bounded, choose, disks};
use kiln_contract::addresses::{self, Addresses};
use kiln_contract::handoff::{Handoff, MAX_BYTES, RUNTIME_PATH};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// What the running system says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Said {
    /// Host name.
    pub(crate) name: String,
    /// /etc/machine-id.
    pub(crate) machine_id: String,
    /// Addresses, as `interface address/length`.
    pub(crate) addresses: Vec<String>,
}

/// The document of this boot.
pub(crate) fn handoff(root: &Path) -> Result<Handoff, String> {
    let path = root.join(RUNTIME_PATH.trim_start_matches('/'));
    let failed = |error: &dyn std::fmt::Display| {
        format!("who this node is to be is not known: {RUNTIME_PATH}: {error}")
    };
    let bytes = bounded::read(&path, MAX_BYTES).map_err(|error| failed(&error))?;
    Handoff::parse(&bytes).map_err(|error| failed(&error))
}

/// The addresses that the seed gives the node; none where it gives none, or is an older Kiln's.
pub(crate) fn addresses(root: &Path) -> Vec<IpAddr> {
    let path = root.join(addresses::RUNTIME_PATH.trim_start_matches('/'));
    let read = bounded::read(&path, addresses::MAX_BYTES).ok();
    read.and_then(|bytes| Addresses::parse(&bytes).ok()).map(|read| read.addresses).unwrap_or_default()
}

/// What differs, in words.
pub(crate) fn differences(said: &Said, (handoff, wanted): (&Handoff, &[IpAddr])) -> Vec<String> {
    let node = &handoff.node;
    let mut found = Vec::new();
    let mut differs = |what: &str, is: &str, be: &str| {
        found.push(format!(
            "{what} is {is:?}, and the seed of the booted disk says {be:?}: another seed was read"
        ));
    };
    // It may have the domain behind it.
    if said.name.split('.').next() != Some(&node.name) {
        differs("the host name", &said.name, &node.name);
    }
    if said.machine_id != node.machine_id {
        differs("the machine-id", &said.machine_id, &node.machine_id);
    }
    // One of several interfaces may have no link.
    if !wanted.is_empty() && !has_any(&said.addresses, wanted) {
        let wanted: Vec<String> = wanted.iter().map(IpAddr::to_string).collect();
        differs("the address", &said.addresses.join(", "), &wanted.join(", "));
    }
    found
}

/// True when one of the `wanted` addresses is among these (`interface address/length`).
pub(crate) fn has_any(addresses: &[String], wanted: &[IpAddr]) -> bool {
    let address = |text: &String| text.rsplit(' ').next()?.split('/').next()?.parse::<IpAddr>().ok();
    addresses.iter().filter_map(address).any(|there| wanted.contains(&there))
}

/// Copies of the booted disk's partitions on other disks, in words. Nothing goes by their GUIDs in this boot, but the next one
/// can't tell which of them the firmware chose.
pub(crate) fn copies((sysfs, dev): (&Path, &Path), chosen: &Path, handoff: &Handoff) -> Vec<String> {
    let Some(own) = Chosen::read(chosen).and_then(|chosen| chosen.name(sysfs)) else { return Vec::new() };
    let found = choose::copies(&disks::scan(sysfs, dev), &own, handoff);
    if found.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "{} is a copy of what is on the booted disk {own}: take that disk out before the next boot, which can't tell the two apart",
        found.join(", ")
    )]
}

/// The machine's identity as /etc and the kernel have it.
pub(crate) fn said(addresses: Vec<String>) -> Said {
    let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    Said { name: line("/proc/sys/kernel/hostname"), machine_id: line("/etc/machine-id"), addresses }
}

#[cfg(test)]
mod tests {
    use super::{Said, differences};
    use crate::disks::tests::handoff;
    use std::net::IpAddr;

    fn said(name: &str, addresses: &[&str]) -> Said {
        Said {
            name: name.to_owned(),
            machine_id: handoff(1).node.machine_id,
            addresses: addresses.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    #[test]
    fn a_node_that_is_another_says_so() {
        let node = handoff(1);
        let wanted = ["192.168.86.71", "fd00::71"].map(|text| text.parse::<IpAddr>().unwrap());
        let name = node.node.name.clone();
        for (said, want) in [
            (said(&name, &["enp0s2 192.168.86.71/24"]), 0),
            (said(&format!("{name}.home.arpa"), &["a 10.0.0.1/8", "br0 fd00:0::71/64"]), 0),
            (said("k3s9", &["enp0s2 192.168.86.71/24"]), 1),
            (said(&name, &["enp0s2 192.168.86.7/24"]), 1),
            (said(&name, &[]), 1),
            (Said::default(), 3),
        ] {
            assert_eq!(differences(&said, (&node, &wanted)).len(), want, "{said:?}");
        }
        let words = differences(&said("k3s9", &["e 192.168.86.71/24"]), (&node, &wanted));
        let want = format!(
            "the host name is \"k3s9\", and the seed of the booted disk says {name:?}: another seed was read"
        );
        assert_eq!(words, [want]);
        // Whoever asks a DHCP server, and an older seed, say nothing of addresses.
        assert!(differences(&said(&name, &[]), (&node, &[])).is_empty());
    }
}
