//! Overlays: layers on top of the base. Those that Kiln knows are embedded; a user's own has the same form.

use super::read::{Read, Text, document};
use super::{Overlay, tree};
use crate::diag::Fault;

/// Overlays that this version has, with their documents.
pub(super) const BUILT_IN: &[(&str, &str)] = &[
    ("iscsi-initiator", include_str!("../../../overlays/iscsi-initiator/overlay.yaml")),
    ("iscsi-target", include_str!("../../../overlays/iscsi-target/overlay.yaml")),
    ("longhorn", include_str!("../../../overlays/longhorn/overlay.yaml")),
];

/// The document of the layer that is under every node.
const BASE: &str = include_str!("../../../overlays/base/overlay.yaml");

/// Overlays that have their name already and nothing else yet.
pub(super) const LATER: &[&str] = &["cilium", "flux", "k3s", "kube-vip", "metallb", "tailscale", "wireguard"];

document! {
    /// An overlay's own document, `overlay.yaml`.
    OverlayFile, "an overlay's document",
    required {}
    optional {
        /// One line for people: what it is for.
        summary: Text,
        /// Overlays that must be there too; they are added.
        needs: Vec<Text>,
        /// Packages to install.
        packages: Vec<Text>,
        /// Kernel modules to load at boot.
        modules: Vec<Text>,
        /// systemd units to enable.
        enable: Vec<Text>,
    }
}

/// The layer that is under every node. Packages named with `@ARCHITECTURE@` are still to be completed.
pub(super) fn base() -> Overlay {
    let (file, faults) = read(BASE);
    debug_assert!(faults.is_empty(), "{faults:?}");
    let set = |texts: Option<Vec<Text>>| texts.into_iter().flatten().map(|text| text.value).collect();
    let (packages, modules, enable) =
        file.map(|file| (set(file.packages), set(file.modules), set(file.enable))).unwrap_or_default();
    Overlay { name: "base".to_owned(), folder: None, packages, modules, enable }
}

/// Reads an `overlay.yaml`; its faults have spans of `source`.
pub(super) fn read(source: &str) -> (Option<OverlayFile>, Vec<Fault>) {
    let (tree, mut faults) = tree::parse(source);
    let file = tree.and_then(|tree| OverlayFile::read(&tree, &mut faults));
    (file, faults)
}
