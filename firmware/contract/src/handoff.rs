//! The handoff document: what the builder tells the device about itself, as JSON in the seed partition.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where the document is on the CIDATA volume.
pub const PATH: &str = "kiln/handoff.json";
/// The only version that this code writes and reads.
pub const VERSION: u32 = 1;
/// No honest document is larger; more bytes than this are refused unread.
pub const MAX_BYTES: usize = 1 << 20;

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handoff {
    /// Always [`VERSION`].
    pub version: u32,
    /// The cluster.
    pub cluster: Cluster,
    /// The node.
    pub node: Node,
    /// The partitions that the image carries.
    pub partitions: Partitions,
}

/// Which cluster the node belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Identifier from which all others are derived.
    pub id: Uuid,
    /// Name in the cluster file.
    pub name: String,
}

/// Who the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Name in the cluster file; the host name.
    pub name: String,
    /// What /etc/machine-id holds (machine-id(5): 32 lower-case hexadecimal digits).
    pub machine_id: String,
}

/// Unique partition GUIDs, as the GPT has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partitions {
    /// EFI system partition.
    pub esp: Uuid,
    /// The seed itself.
    pub cidata: Uuid,
    /// The root to mount.
    pub root_a: Uuid,
}

/// Why a document was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More bytes than [`MAX_BYTES`].
    #[error("the handoff document has {0} bytes, more than the {MAX_BYTES} that one can have")]
    TooLarge(usize),
    /// Not JSON of this shape.
    #[error("the handoff document is damaged: {0}")]
    Damaged(serde_json::Error),
    /// Written by another version of Kiln.
    #[error(
        "the handoff document has version {0}, this image's helper reads version {VERSION}: rebuild the seed and the image with one version of kiln"
    )]
    Version(u64),
    /// A field holds what it can't.
    #[error("the handoff document's {field} is {value:?}, which is not {want}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        want: &'static str,
    },
}

impl Handoff {
    /// Reads a document. Hostile bytes end in an [`Error`], never in a panic.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        /// The one field that every version has.
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLarge(bytes.len()));
        }
        let versioned: Versioned = serde_json::from_slice(bytes).map_err(Error::Damaged)?;
        if versioned.version != u64::from(VERSION) {
            return Err(Error::Version(versioned.version));
        }
        let handoff: Self = serde_json::from_slice(bytes).map_err(Error::Damaged)?;
        handoff.check()?;
        Ok(handoff)
    }

    /// The document's bytes: pretty JSON with a final newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A struct of strings and UUIDs always serialises.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    fn check(&self) -> Result<(), Error> {
        let id = &self.node.machine_id;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if id.len() != 32 || !id.bytes().all(hex) || id.bytes().all(|byte| byte == b'0') {
            let want = "32 lower-case hexadecimal digits, not all zero";
            return Err(Error::Field { field: "node.machine_id", value: id.clone(), want });
        }
        Ok(())
    }
}
