//! What a node outside the cluster waits for before its seed loses its secrets.

use super::{Error, File, overlay};
use crate::cluster::{Cluster, Node};
use kiln_contract::handoff::Handoff;
use kiln_contract::join::Seed;
use kiln_contract::settle::{PATH, Settle, VERSION};
use kiln_formats::tree::Kind;
use std::collections::BTreeSet;

/// The unit that does it, as the base has it.
pub(super) const UNIT: &str = "kiln-settle.service";
/// Where units of the distribution and of overlays are.
const UNITS: &str = "usr/lib/systemd/system";

/// The document, for a node that joins nothing and whose seed has a secret that it can lose.
pub(super) fn document(
    (cluster, node): (&Cluster, &Node),
    files: &[File],
    handoff: &Handoff,
) -> Option<File> {
    let secret = handoff.credentials.is_some() || files.iter().any(|file| file.secret);
    if node.overlay("k3s").is_some() || !secret {
        return None;
    }
    let units: BTreeSet<&String> = node.overlays.iter().flat_map(|layer| &layer.enable).collect();
    let settle = Settle {
        version: VERSION,
        cluster: cluster.name.clone(),
        node: node.name.clone(),
        units: units.into_iter().cloned().collect(),
        shred: Vec::new(),
        seed: Seed::Volume,
    };
    let text = String::from_utf8_lossy(&settle.to_bytes()).into_owned();
    Some(File { path: PATH.to_owned(), mode: 0o600, text, secret: false })
}

/// The unit for a system that Kiln did not build.
pub(super) fn unit(node: &Node) -> Result<Option<File>, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Overlay(error.to_string());
    let path = format!("{UNITS}/{UNIT}");
    for layer in node.layers() {
        let read = overlay::read(&layer).map_err(|error| failed(&error))?;
        if let Some(Kind::File(content)) = read.files.get(&path).map(|entry| &entry.kind) {
            let bytes = content.read().map_err(|error| failed(&error))?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            return Ok(Some(File { path: format!("/{path}"), mode: 0o644, text, secret: false }));
        }
    }
    Ok(None)
}
