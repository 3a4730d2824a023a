//! Overlays: layers on top of the base. Those that Kiln knows are embedded; a user's own has the same form.

use super::read::{Read, Text, document};
use super::tree;
use crate::diag::Fault;

/// Overlays that this version has, with their documents.
pub(super) const BUILT_IN: &[(&str, &str)] = &[
    ("iscsi-initiator", include_str!("../../../overlays/iscsi-initiator/overlay.yaml")),
    ("longhorn", include_str!("../../../overlays/longhorn/overlay.yaml")),
];

/// Overlays that have their name already and nothing else yet.
pub(super) const LATER: &[&str] =
    &["cilium", "flux", "iscsi-target", "k3s", "kube-vip", "metallb", "tailscale", "wireguard"];

document! {
    /// An overlay's own document, `overlay.yaml`.
    OverlayFile, "an overlay's document",
    required {}
    optional {
        /// Overlays that must be there too; they are added.
        needs: Vec<Text>,
        /// Packages to install.
        packages: Vec<Text>,
        /// Kernel modules to load at boot.
        modules: Vec<Text>,
    }
}

/// Reads an `overlay.yaml`; its faults have spans of `source`.
pub(super) fn read(source: &str) -> (Option<OverlayFile>, Vec<Fault>) {
    let (tree, mut faults) = tree::parse(source);
    let file = tree.and_then(|tree| OverlayFile::read(&tree, &mut faults));
    (file, faults)
}
