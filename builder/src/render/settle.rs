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

#[cfg(test)]
mod tests {
    use super::UNIT;
    use crate::cluster::settings::Secret;
    use crate::cluster::{Cluster, parse};
    use crate::digest::Sha256;
    use crate::render::{Seed, Stock, Vault, seed, stock_seed};
    use kiln_contract::credentials::Whereabouts;
    use kiln_contract::settle::{PATH, Settle};
    use serde_json::Value;
    use std::path::Path;
    use std::sync::Arc;

    const CLUSTER: &str = "
apiVersion: kiln/v1
cluster: { name: demo, endpoint: 10.0.0.9, k3s: { version: v1.36.2+k3s1 } }
overlays: [iscsi-initiator, iscsi-target]
nodes:
  - name: files
    iscsi_target:
      folder: /srv/luns
      chap: { user: guest, password: kiln-test-chap-1 }
      luns: [{ name: guest, size: 1GiB, initiators: ['iqn.2025-01.test.kiln:guest'] }]
  - name: store
    overlays: [{ name: external-services, minio: { root_user: { secret: user }, root_password: { secret: password } } }]
  - name: open
    iscsi_target: { folder: /srv/luns, luns: [{ name: one, size: 1GiB, initiators: ['iqn.2025-01.test.kiln:guest'] }] }
  - name: server
    role: server
    network: { address: 10.0.0.9/24 }
    iscsi_target:
      folder: /srv/luns
      chap: { user: guest, password: kiln-test-chap-1 }
      luns: [{ name: guest, size: 1GiB, initiators: ['iqn.2025-01.test.kiln:guest'] }]
";

    #[derive(Debug)]
    struct Same;

    impl Vault for Same {
        fn reveal(&self, _: &Secret) -> Result<String, String> {
            Ok("not for everybody".to_owned())
        }
        fn own(&self, _: &str, _: &str) -> Result<Option<String>, String> {
            Ok(Some("not for everybody".to_owned()))
        }
        fn public(&self, name: &str, _: &str) -> Result<Option<String>, String> {
            Ok(Some(if name == "founding" { "true" } else { "1790000000" }.to_owned()))
        }
        fn digest(&self, _: &[u8]) -> String {
            String::new()
        }
    }

    fn seeds(cluster: &Cluster, name: &str) -> [Seed; 2] {
        let (node, vault) = (cluster.node(name).unwrap(), Arc::new(Same) as Arc<dyn Vault>);
        let stock = Stock { helper: Sha256::of(b"helper"), artefacts: &[] };
        [seed(cluster, node, &vault).unwrap(), stock_seed((cluster, node), &vault, &stock).unwrap()]
    }

    /// A file that cloud-init writes.
    fn file(user_data: &str, path: &str) -> Option<String> {
        let document: Value = serde_saphyr::from_str(user_data).unwrap();
        let found = document["write_files"].as_array()?.iter().find(|file| file["path"] == path)?;
        Some(found["content"].as_str().unwrap().to_owned())
    }

    #[test]
    fn a_node_outside_the_cluster_with_a_secret_to_lose_is_told_so() {
        let cluster = parse(CLUSTER.as_bytes(), Path::new("cluster.yaml"), Path::new("")).unwrap().cluster;
        for (name, chap, unit) in [("files", true, "kiln-target.service"), ("store", false, "minio.service")]
        {
            for (seed, stock) in seeds(&cluster, name).iter().zip([false, true]) {
                let settle = Settle::parse(file(&seed.user_data, PATH).unwrap().as_bytes()).unwrap();
                assert_eq!((settle.cluster.as_str(), settle.node.as_str()), ("demo", name));
                assert!(settle.units.iter().any(|found| found == unit), "{:?}", settle.units);
                assert_eq!(seed.handoff.credentials, chap.then_some(Whereabouts::Seed));
                assert!(seed.is_private());
                // The documents for afterwards have the same, and no secret.
                if let Some(after) = &seed.public_user_data {
                    assert!(file(after, PATH).is_some());
                    assert!(!after.contains("not for everybody") && !after.contains("kiln-test-chap-1"));
                }
                assert_eq!(seed.public_user_data.is_some(), !chap || stock);
                let path = format!("/usr/lib/systemd/system/{UNIT}");
                assert_eq!(file(&seed.user_data, &path).is_some(), stock);
                let setup = file(&seed.user_data, "/usr/lib/kiln/stock-setup").unwrap_or_default();
                assert_eq!(setup.contains(&format!("enable --now --no-block '{UNIT}'")), stock);
            }
        }
    }

    /// One without a secret has nothing to do, and one that joins has its own moment.
    #[test]
    fn other_nodes_are_not() {
        let cluster = parse(CLUSTER.as_bytes(), Path::new("cluster.yaml"), Path::new("")).unwrap().cluster;
        for name in ["open", "server"] {
            for seed in seeds(&cluster, name) {
                assert_eq!(file(&seed.user_data, PATH), None, "{name}");
                let chap = (name == "server").then_some(Whereabouts::Seed);
                assert_eq!(seed.handoff.credentials, chap, "{name}");
            }
        }
        assert!(!seeds(&cluster, "open")[0].is_private());
    }

    /// A hash of a password is for nobody's eyes, in images as in user-data.
    #[test]
    fn hashes_of_passwords_are_private() {
        let user = "users: [{ name: ops, password_hash: $y$j9T$abc$def }]\n";
        let text = CLUSTER.replace("overlays: [iscsi-init", &format!("{user}overlays: [iscsi-init"));
        let cluster = parse(text.as_bytes(), Path::new("cluster.yaml"), Path::new("")).unwrap().cluster;
        assert!(seeds(&cluster, "open").iter().all(Seed::is_private));
    }
}
