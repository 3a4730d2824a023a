//! The join document: what the seed tells a node about the cluster that it joins. It names files that hold secrets and
//! holds none itself.

use crate::datastore::Store;
use crate::document::{self, Kind};
use serde::{Deserialize, Serialize};

/// Where the document is. cloud-init writes it (`write_files`), on Kiln's image and on a stock one.
pub const PATH: &str = "/etc/kiln/join.json";
/// Where a node keeps how far it has come.
pub const STATE: &str = "/var/lib/kiln/join.json";
/// Where the report of a join is.
pub const REPORT: &str = "/var/lib/kiln/join-report.json";
/// On the seed's volume: `user-data` without its secrets, to take the place of `user-data` after the join.
pub const AFTER: &str = "kiln/after/user-data";
/// The annotation that Longhorn makes its disks from (longhorn-manager, types/types.go: KubeNodeDefaultDiskConfigAnnotationKey).
pub const LONGHORN_ANNOTATION: &str = "node.longhorn.io/default-disks-config";
/// The only version that this code writes and reads.
pub const VERSION: u32 = 1;
/// No honest document is larger; more bytes than this are refused unread.
pub const MAX_BYTES: usize = 256 << 10;

static KIND: Kind = Kind {
    name: "the join document",
    damaged: "is damaged",
    version: VERSION,
    most: MAX_BYTES,
    reader: "this kiln-firstboot",
    remedy: document::REBUILD,
};

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// Always [`VERSION`].
    pub version: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node, as Kubernetes knows it: lower case.
    pub node: String,
    /// What the node is.
    pub role: Role,
    /// True on the server that makes the cluster: there is nobody to dial.
    #[serde(default)]
    pub first: bool,
    /// Whom to dial; unused when `first`.
    pub server: Endpoint,
    /// The cluster's CA.
    pub ca: Authority,
    /// File with the full token, `K10<hash>::<user>:<secret>`.
    pub token_file: String,
    /// File with the token of agents, where a server has one of its own: what asks a server whether it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_token_file: Option<String>,
    /// File with the node password.
    pub password_file: String,
    /// The server that must be ready before this one joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// Address that the node is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<std::net::IpAddr>,
    /// Name of the network interface that the address is on; another one will do when it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Seconds since 1970 before which no clock is right: when the node's image or seed was made.
    pub earliest: u64,
    /// True when Longhorn's disks are to be told to Kubernetes.
    #[serde(default)]
    pub longhorn: bool,
    /// The kubelet's own credentials.
    #[serde(default = "kubelet")]
    pub kubeconfig: String,
    /// The administrator's, on servers.
    #[serde(default = "admin")]
    pub admin_kubeconfig: String,
    /// The systemd unit that joins: `k3s.service`, `k3s-agent.service`.
    pub unit: String,
    /// Files to overwrite and remove after the join.
    #[serde(default)]
    pub shred: Vec<String>,
    /// Where the seed is that is to lose its secrets.
    #[serde(default)]
    pub seed: Seed,
    /// What a server is told about the datastore. Documents of an older Kiln have none, and what k3s starts with is then
    /// what its `config.yaml` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
}

fn kubelet() -> String {
    "/var/lib/rancher/k3s/agent/kubelet.kubeconfig".to_owned()
}

fn admin() -> String {
    "/etc/rancher/k3s/k3s.yaml".to_owned()
}

/// What a node is to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It runs the control plane.
    Server,
    /// It runs workloads alone.
    Agent,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// A name, or an address without brackets.
    pub host: String,
    /// TCP port; k3s' own is 6443.
    pub port: u16,
}

/// The cluster's CA, as it was made at build time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Certificates in PEM, of which one at least must vouch for every server.
    pub pem: String,
    /// The hash that tokens carry: SHA-256 in lower-case hexadecimal, of the served file when that is one certificate, of
    /// the root's DER when it is more (k3s, pkg/clientaccess/token.go: hashCA).
    pub sha256: String,
}

/// A server to wait for. A server can't see other nodes before it has joined, so it asks that server itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// Name of the node.
    pub name: String,
    /// Its own endpoint, not a shared address.
    pub server: Endpoint,
}

/// Where a seed is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seed {
    /// A volume: the booted disk's own on Kiln's image, else the one that is labelled CIDATA.
    #[default]
    Volume,
    /// A folder, as `/var/lib/cloud/seed/nocloud`.
    Folder(String),
    /// An HTTP server, which the node can't clean.
    Network,
}

/// Why a document was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its bytes.
    #[error(transparent)]
    Document(#[from] document::Error),
    /// A field holds what it can't.
    #[error("the join document's {field} is {value:?}, which is not {want}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        want: &'static str,
    },
}

impl Join {
    /// Reads a document. Hostile bytes end in an [`Error`], never in a panic.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let join: Self = document::read(&KIND, bytes)?;
        join.check()?;
        Ok(join)
    }

    /// The document's bytes: pretty JSON with a final newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        document::write(self)
    }

    fn check(&self) -> Result<(), Error> {
        let fault = |field, value: &str, want| Err(Error::Field { field, value: value.to_owned(), want });
        if !is_name(&self.node) {
            return fault("node", &self.node, "a node's name: lower-case letters, digits, '-' and '.'");
        }
        let store = self.store.as_ref();
        let others = store.into_iter().flat_map(|store| &store.others);
        let ends = self.after.iter().map(|after| ("after.server", &after.server));
        let ends = ends.chain(others.map(|peer| ("store.others", &peer.server)));
        for (field, end) in std::iter::once(("server", &self.server)).chain(ends) {
            if end.port == 0 || !is_host(&end.host) {
                let value = format!("{}:{}", end.host, end.port);
                return fault(field, &value, "a name or an address, and a port");
            }
        }
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if self.ca.sha256.len() != 64 || !self.ca.sha256.bytes().all(hex) {
            return fault("ca.sha256", &self.ca.sha256, "64 lower-case hexadecimal digits");
        }
        if !self.ca.pem.contains("-----BEGIN CERTIFICATE-----") {
            return fault("ca.pem", "", "a certificate in PEM");
        }
        if self.ca.pem.contains("PRIVATE KEY") {
            // The value is a secret that has no place here.
            return fault("ca.pem", "…", "free of private keys");
        }
        if !self.unit.ends_with(".service") || self.unit.starts_with('-') {
            return fault("unit", &self.unit, "the name of a systemd service");
        }
        if self.first && self.role == Role::Agent {
            return fault("first", "true", "possible for an agent");
        }
        if store.is_some() && self.role == Role::Agent {
            return fault("store", "…", "possible for an agent");
        }
        let disk = store.and_then(|store| store.data.as_ref());
        let paths = [&self.token_file, &self.password_file, &self.kubeconfig, &self.admin_kubeconfig];
        for path in paths
            .into_iter()
            .chain(&self.agent_token_file)
            .chain(&self.shred)
            .chain(self.seed.folder())
            .chain(disk.map(|disk| &disk.mount_point))
        {
            if !is_absolute(path) {
                return fault("files", path, "an absolute path without '..'");
            }
        }
        Ok(())
    }
}

impl Seed {
    /// The folder that it is in, if it is in one.
    pub(crate) fn folder(&self) -> Option<&String> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Volume | Self::Network => None,
        }
    }
}

/// An absolute path without `..`.
pub(crate) fn is_absolute(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| part != "..")
}

/// A DNS subdomain (RFC 1123), which names of nodes are.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    !name.is_empty() && name.len() <= 253 && name.bytes().all(fits)
}

fn is_host(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok()
        || (!host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)))
}

#[cfg(test)]
mod tests {
    use super::{After, Authority, Endpoint, Error, Join, MAX_BYTES, Role, Seed, VERSION};
    use crate::datastore::{Disk, Store};
    use crate::document;
    use proptest::prelude::{any, prop, proptest};

    fn document() -> Join {
        let server = Endpoint { host: "k3s1.local".to_owned(), port: 6443 };
        Join {
            version: VERSION,
            cluster: "demo".to_owned(),
            node: "k3s2".to_owned(),
            role: Role::Server,
            first: false,
            server: server.clone(),
            ca: Authority {
                pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
                sha256: "0123456789abcdef".repeat(4),
            },
            token_file: "/etc/rancher/k3s/token".to_owned(),
            agent_token_file: None,
            password_file: "/etc/rancher/node/password".to_owned(),
            after: Some(After { name: "k3s1".to_owned(), server }),
            address: Some("192.168.86.72".parse().unwrap()),
            interface: None,
            earliest: 1_700_000_000,
            longhorn: true,
            kubeconfig: super::kubelet(),
            admin_kubeconfig: super::admin(),
            unit: "k3s.service".to_owned(),
            shred: vec!["/run/x".to_owned()],
            seed: Seed::Folder("/var/lib/cloud/seed/nocloud".to_owned()),
            store: Some(Store::default()),
        }
    }

    #[test]
    fn round_trips() {
        assert_eq!(Join::parse(&document().to_bytes()).unwrap(), document());
    }

    /// A document of an older Kiln knows nothing of the datastore, and means what it meant.
    #[test]
    fn an_older_document_has_no_store() {
        let old = Join { store: None, ..document() };
        let text = String::from_utf8(old.to_bytes()).unwrap();
        assert!(!text.contains("store"), "{text}");
        assert_eq!(Join::parse(text.as_bytes()).unwrap().store, None);
    }

    /// A newer document may have any other shape: its version is what is said.
    #[test]
    fn another_version_is_named() {
        let error = Join::parse(br#"{"version": 7, "nodes": []}"#).unwrap_err();
        assert!(matches!(error, Error::Document(document::Error::Version { version: 7, .. })), "{error}");
    }

    #[test]
    fn faults_are_told_apart() {
        let said = |edit: fn(&mut Join)| {
            let mut join = document();
            edit(&mut join);
            Join::parse(&join.to_bytes()).unwrap_err().to_string()
        };
        for (found, want) in [
            (said(|join| join.node = "Two".to_owned()), "the join document's node is \"Two\""),
            (said(|join| join.server.host = "a b".to_owned()), "the join document's server is \"a b:6443\""),
            (said(|join| join.ca.sha256.truncate(3)), "the join document's ca.sha256 is \"012\""),
            (said(|join| join.ca.pem.clear()), "the join document's ca.pem is \"\""),
            (said(|join| join.unit = "--now".to_owned()), "the join document's unit is \"--now\""),
            (said(|join| join.shred.push("/a/../b".to_owned())), "the join document's files is \"/a/../b\""),
            (
                said(|join| {
                    let disk = Disk { disk: "db".to_owned(), mount_point: "../x".to_owned() };
                    join.store = Some(Store { data: Some(disk), ..Store::default() });
                }),
                "the join document's files is \"../x\"",
            ),
            (said(|join| join.role = Role::Agent), "the join document's store is"),
        ] {
            assert!(found.starts_with(want), "{found}");
        }
        let key = said(|join| join.ca.pem.push_str("-----BEGIN PRIVATE KEY-----\nMIGH"));
        assert!(!key.contains("MIGH"), "{key}");
        let text = String::from_utf8(document().to_bytes()).unwrap();
        assert!(matches!(
            Join::parse(text.replace("\"node\"", "\"nodes\"").as_bytes()),
            Err(Error::Document(document::Error::Damaged { .. }))
        ));
        assert!(matches!(
            Join::parse(&vec![b' '; MAX_BYTES + 1]),
            Err(Error::Document(document::Error::TooLarge { .. }))
        ));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Join::parse(&bytes);
        }

        #[test]
        fn damaged_documents_never_panic(at in 0_usize..400, byte: u8, cut in 0_usize..900) {
            let mut bytes = document().to_bytes();
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
            bytes.truncate(cut);
            let _ = Join::parse(&bytes);
        }
    }
}
