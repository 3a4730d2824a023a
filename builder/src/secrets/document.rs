//! What is inside the encrypted file: a JSON document. Secrets become text here and nowhere else.

use super::authority::Authority;
use super::secret::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use uuid::Uuid;
use zeroize::Zeroizing;

/// Version of the document.
pub(super) const VERSION: u32 = 1;

/// A secret on its way into or out of the document. Private to this room.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Sealed(pub(super) Secret);

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

/// Everything.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) version: u32,
    pub(super) cluster: Cluster,
    /// Whom the file is encrypted to: an age file does not say it.
    pub(super) recipients: Vec<String>,
    /// Key of recorded digests; 64 hexadecimal digits.
    pub(super) digest_key: Sealed,
    pub(super) authorities: BTreeMap<Authority, Certified>,
    pub(super) service_account: ServiceAccount,
    pub(super) tokens: Tokens,
    pub(super) nodes: BTreeMap<String, NodeSecrets>,
    /// What `kiln secrets set` was given.
    pub(super) values: BTreeMap<String, Dated>,
    /// The cluster is known to exist: no build lets a server begin it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) founded: Option<Founded>,
}

/// When it became known that the cluster exists; no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Founded {
    /// RFC 3339.
    pub date: String,
    /// How many servers the cluster file had then. One keeps SQLite.
    pub servers: u32,
}

/// Whose secrets these are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    /// Identifier of the cluster; it stays when the cluster is renamed and keeps its `id`.
    pub(super) id: Uuid,
    pub(super) name: String,
}

/// A secret and when it was made, RFC 3339.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dated {
    pub(super) made: String,
    pub(super) value: Sealed,
}

/// A certificate authority.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certified {
    pub(super) made: String,
    /// PEM.
    pub(super) certificate: String,
    /// PEM, RFC 5915.
    pub(super) key: Sealed,
}

/// What signs the tokens of service accounts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceAccount {
    pub(super) made: String,
    /// PEM, RFC 8017 appendix A.1.2.
    pub(super) key: Sealed,
    /// The key before the last rotation: what it signed stays valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) former: Option<Sealed>,
}

/// The secret parts of both tokens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tokens {
    pub(super) made: String,
    pub(super) server: Sealed,
    pub(super) agent: Sealed,
}

/// What one node alone has.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeSecrets {
    pub(super) password: Dated,
    pub(super) ssh_host_key: HostKey,
}

/// An SSH host key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostKey {
    pub(super) made: String,
    /// OpenSSH's own format.
    pub(super) private: Sealed,
    /// The line of a `.pub` file.
    pub(super) public: String,
}

/// Why a text is no document.
pub(super) enum Wrong {
    /// With line and column; quotes no value.
    Form(String),
    /// The version found.
    Version(u64),
}

impl Document {
    /// The text that gets encrypted.
    pub(super) fn render(&self) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
        // Large enough not to grow: growing leaves copies in freed memory.
        let mut text = Zeroizing::new(Vec::with_capacity((4 + self.nodes.len()) * 4096));
        serde_json::to_writer_pretty(&mut *text, self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads the text that was decrypted.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Wrong> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let Versioned { version } = serde_json::from_slice(text).map_err(form)?;
        if version != u64::from(VERSION) {
            return Err(Wrong::Version(version));
        }
        serde_json::from_slice(text).map_err(form)
    }
}

/// serde's own words quote what it found where it expected something else, and that may be a secret.
fn form(fault: serde_json::Error) -> Wrong {
    let said = fault.to_string();
    let harmless = ["unknown field", "missing field", "duplicate field", "EOF", "unknown variant"];
    let what = if harmless.iter().any(|start| said.starts_with(start)) {
        said
    } else {
        format!("a value of another form at line {} column {}", fault.line(), fault.column())
    };
    Wrong::Form(what)
}
