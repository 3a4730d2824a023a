//! Manifests that do not lie in k3s' folder from the start: what the seed says is to be in the cluster, and how it is kept.
//!
//! k3s applies what is in its folder whenever it changed and at every start, over whatever a person has made of it, and all of
//! it again and again while one file fails (k3s, pkg/deploy/controller.go). So what a person may change is made once, by the
//! node itself, and what is of a kind that may not be there yet is laid into that folder when it is.

mod decide;
mod marks;

pub use decide::{Decision, Recorded, decide, is_lower, said};
pub use marks::{Marker, Said};

use crate::document::{self, Kind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where the documents are, `NAME.json` each; cloud-init writes them. An overlay names `NAME.yaml` there.
pub const FOLDER: &str = "/var/lib/kiln/manifests";
/// The folder whose files k3s keeps in force.
pub const KEPT: &str = "/var/lib/rancher/k3s/server/manifests";
/// Lists the names of the documents that the seed has: others in [`FOLDER`] are those of a seed before.
pub const INDEX: &str = "/etc/kiln/manifests.json";
/// Where the report is.
pub const REPORT: &str = "/var/lib/kiln/manifests-report.json";
/// In a template: the object is for the time when that node has joined, and something else may have begun it by then.
pub const AFTER_NODE: &str = "kiln/after-node";
/// Namespace of the record, and its name: a ConfigMap of what was made, and a Secret with the key of its digests.
pub const RECORD: (&str, &str) = ("kube-system", "kiln-made");
/// The only version that this code writes and reads.
pub const VERSION: u32 = 1;
/// No honest document is larger: a thousand nodes with a dozen disks each.
pub const MAX_BYTES: usize = 16 << 20;

static KIND: Kind = Kind {
    name: "the manifest",
    damaged: "is damaged",
    version: VERSION,
    most: MAX_BYTES,
    reader: "this kiln-firstboot",
    remedy: document::REBUILD,
};
static INDEX_KIND: Kind = Kind { name: "the list of manifests", ..KIND };

/// A document: what one file of an overlay says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`VERSION`].
    pub version: u32,
    /// Name of the file, without its ending.
    pub name: String,
    /// A secret is in it: no value of it may be told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// Objects that are made once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub once: Vec<Once>,
    /// A file for k3s' folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub laid: Option<Laid>,
}

/// An object that is made once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Once {
    /// The node that must have joined before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_node: Option<String>,
    /// The object.
    pub object: Value,
}

/// A file that is laid into k3s' folder when its kinds are there, and taken out of it when k3s starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Laid {
    /// What must be there.
    pub kinds: Vec<OfKind>,
    /// The file's text.
    pub text: String,
}

/// A kind of object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfKind {
    /// `v1`, `longhorn.io/v1beta2`.
    pub api_version: String,
    /// `Node`.
    pub kind: String,
}

/// The list of the documents that a seed has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// Always [`VERSION`].
    pub version: u32,
    /// Their names.
    pub manifests: Vec<String>,
    /// Names of files that earlier versions of Kiln had in k3s' folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<String>,
}

/// Why a document was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its bytes.
    #[error(transparent)]
    Document(#[from] document::Error),
    /// The name of a file that leads elsewhere.
    #[error("the manifest's name is {0:?}, which is no name of a file")]
    Name(String),
    /// An object without a kind or a name.
    #[error("the manifest {0} has an object without an apiVersion, a kind or a name")]
    Object(String),
}

impl Manifest {
    /// Reads a document. Hostile bytes end in an [`Error`], never in a panic.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let manifest: Self = document::read(&KIND, bytes)?;
        name(&manifest.name)?;
        match manifest.once.iter().all(|once| Identity::of(&once.object).is_some()) {
            true => Ok(manifest),
            false => Err(Error::Object(manifest.name)),
        }
    }

    /// The document's bytes: pretty JSON with a final newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        document::write(self)
    }
}

impl Index {
    /// Reads a list. Hostile bytes end in an [`Error`], never in a panic.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let index: Self = document::read(&INDEX_KIND, bytes)?;
        index.manifests.iter().chain(&index.withdrawn).try_for_each(|one| name(one))?;
        Ok(index)
    }

    /// The list's bytes: pretty JSON with a final newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        document::write(self)
    }
}

/// Only what k3s takes for the name of an add-on, too: no dot, no slash.
fn name(name: &str) -> Result<(), Error> {
    match is_name(name) {
        true => Ok(()),
        false => Err(Error::Name(name.to_owned())),
    }
}

/// Whether a manifest may be called so: k3s names an add-on by what stands before the first dot.
pub fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.len() <= 200 && name.bytes().all(fits)
}

/// What tells an object from all others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// `v1`, `longhorn.io/v1beta2`.
    pub api_version: String,
    /// `Node`.
    pub kind: String,
    /// Where it is, for kinds that are somewhere.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Identity {
    /// That of an object, when it has one.
    pub fn of(object: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let metadata = object.get("metadata")?;
        Some(Self {
            api_version: text(object.get("apiVersion")?)?,
            kind: text(object.get("kind")?)?,
            namespace: metadata.get("namespace").and_then(text),
            name: text(metadata.get("name")?)?,
        })
    }

    /// The API's group, empty for Kubernetes' first one. The version may change with a release, and the object stays the same.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Its key in the record: what a ConfigMap takes for one (letters, digits, `-`, `_` and `.`, at most 253 of them).
    pub fn key(&self) -> String {
        let namespace = self.namespace.as_deref().unwrap_or_default();
        let mut key = String::new();
        for part in [&self.kind.to_lowercase(), self.group(), namespace, &self.name] {
            for byte in part.bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => key.push(char::from(byte)),
                    other => key.push_str(&format!("_{other:02x}")),
                }
            }
            key.push_str("__");
        }
        key.truncate(key.len() - 2);
        if key.len() > 253 {
            let digest = marks::digest(&[key.as_bytes()]);
            key.truncate(200);
            key.push_str("__");
            digest.iter().take(16).for_each(|byte| key.push_str(&format!("{byte:02x}")));
        }
        key
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

#[cfg(test)]
mod tests;
